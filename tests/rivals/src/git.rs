//! git: a repository with a commit for each item, served by its own daemon and cloned with everything made durable.

use std::{
    io::{BufWriter, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    ITEM_BYTES, item,
    meter::{self, Meter, Numbers},
};

const STARTED: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const COMPARED: usize = 5;

pub(crate) fn check() -> anyhow::Result<Numbers> {
    let version = Command::new("git").arg("--version").stdout(Stdio::null()).status();
    version.context("git is not installed (package git)")?;
    Ok(Numbers::default())
}

fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(dir).stdin(Stdio::null());
    // Nothing of this machine's own settings.
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    git
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// A daemon of our own; it ends when this goes.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves what is below a directory; gives the address.
fn serve(dir: &Path) -> anyhow::Result<(Daemon, String)> {
    let port = meter::free_port()?;
    // Not `git daemon`, which is another process than the one that would be ended.
    let programs = git(dir).arg("--exec-path").output()?.stdout;
    let mut daemon = Command::new(Path::new(String::from_utf8(programs)?.trim_end()).join("git-daemon"));
    daemon.args(["--reuseaddr", "--listen=127.0.0.1", "--export-all"]).arg(format!("--port={port}"));
    daemon.arg(format!("--base-path={}", dir.display())).arg(dir).stdin(Stdio::null()).stderr(Stdio::null());
    let daemon = Daemon(daemon.spawn()?);
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(start.elapsed() < STARTED, "the daemon never listened");
        thread::sleep(LOOK_EVERY);
    }
    Ok((daemon, format!("git://127.0.0.1:{port}/holder.git")))
}

fn fill(dir: &Path, items: u64) -> anyhow::Result<()> {
    done(git(dir).args(["init", "--quiet", "--bare", "holder.git"]))?;
    let holder = dir.join("holder.git");
    let mut import = git(&holder);
    let mut import = import.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    let mut input = BufWriter::new(import.stdin.take().context("its input is piped")?);
    for number in 0..items {
        let (blob, commit) = (2 * number + 1, 2 * number + 2);
        write!(input, "blob\nmark :{blob}\ndata {ITEM_BYTES}\n")?;
        input.write_all(&item(number))?;
        write!(input, "\ncommit refs/heads/main\nmark :{commit}\ncommitter b <b@b> {number} +0000\ndata 1\nx\n")?;
        if number > 0 {
            writeln!(input, "from :{}", 2 * number)?;
        }
        write!(input, "M 100644 :{blob} {:02x}/{number:08}\n\n", number % 256)?;
    }
    drop(input.into_inner()?);
    let status = import.wait()?;
    ensure!(status.success(), "git fast-import failed: {status}");
    done(git(&holder).args(["repack", "-adq"]))
}

pub(crate) fn sync(dir: &Path, items: u64) -> anyhow::Result<Numbers> {
    fill(dir, items)?;
    let (_daemon, url) = serve(dir)?;
    let meter = Meter::start()?;
    let durable = ["-c", "core.fsync=all", "-c", "core.fsyncMethod=fsync"];
    done(git(dir).args(durable).args(["clone", "--quiet", "--bare", &url, "comer.git"]))?;
    let caught_up = meter.read()?;
    let comer = dir.join("comer.git");
    let mut compared = Vec::new();
    for _ in 0..COMPARED {
        let meter = Meter::start()?;
        done(git(&comer).args(["fetch", "--quiet", "origin", "main"]))?;
        compared.push(meter.read()?);
    }
    Ok(meter::synced_and_counted(caught_up, compared))
}
