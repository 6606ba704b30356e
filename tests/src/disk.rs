//! A disk of a few megabytes that a test may fill, and nobody else has to share.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use crate::skip::NotPermitted;

/// Mounts `$1` bytes at `$2`, says so, and stays until its input ends: with it the mount goes.
const HOLD: &str = r#"mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && echo mounted && exec cat"#;

/// A file system in memory. It is mounted in a namespace of a process of ours, so that whatever ends the test leaves no
/// mount behind; everybody else reaches it by way of that process.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    path: PathBuf,
    _mounted_at: tempfile::TempDir,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It ends with its input, if it has not already.
        let _ = self.holder.wait();
    }
}

impl SmallDisk {
    /// A disk of so many bytes. The error is [`NotPermitted`] where none can be mounted.
    pub fn of(bytes: u64) -> anyhow::Result<Self> {
        let mounted_at = tempfile::tempdir()?;
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--mount", "sh", "-c", HOLD, "sh", &bytes.to_string()]).arg(mounted_at.path());
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = unshare.spawn().map_err(|error| NotPermitted(format!("unshare: {error}")))?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().context("it was asked for")?).read_line(&mut said)?;
        if said.is_empty() {
            let mut why = String::new();
            holder.stderr.take().context("it was asked for")?.read_to_string(&mut why)?;
            holder.wait()?;
            return Err(NotPermitted(why.trim().to_owned()).into());
        }
        let mount = mounted_at.path().strip_prefix("/").context("a temporary directory has a whole path")?;
        let path = Path::new("/proc").join(holder.id().to_string()).join("root").join(mount);
        Ok(Self { holder, path, _mounted_at: mounted_at })
    }

    /// Where it is, for any process of this user.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Fills it, and the last page of a file on it, which others write to as well.
    pub fn fill(&self, file: &Path) -> anyhow::Result<()> {
        for path in [&*self.ballast(), file] {
            let mut end = OpenOptions::new().create(true).append(true).open(path)?;
            match io::copy(&mut io::repeat(b'\n'), &mut end) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                filled => anyhow::bail!("filling the disk came to {filled:?}"),
            }
        }
        Ok(())
    }

    /// Takes away what filled it.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }
}
