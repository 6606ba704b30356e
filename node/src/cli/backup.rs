//! `cwn backup`

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use clap::{ArgGroup, Args};

use super::{
    Face,
    export::{download, settle, stamp, target},
    publish::bar,
    show,
};
use crate::{
    api::types::Status,
    backup::{self, Contents, Refusal, Work},
    clock,
    files::at,
};

/// Arguments of `cwn backup`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["out", "verify"]),
    after_help = "Examples:\n  cwn backup --out /mnt/backups\n  cwn backup --verify /mnt/backups/cwn-z-cert.backup\n\nWhat opens the keys (the credential or the passphrase) is not in it: keep that elsewhere, for without it a backup is of no use. Whoever has the file sees which circles the node is in, and with whom."
)]
pub struct Arguments {
    /// The file to write, or a directory to write it to; the daemon goes on meanwhile. An existing file is not
    /// written over.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Read a backup to its end and say what is in it; needs no daemon.
    #[arg(long, value_name = "FILE")]
    verify: Option<PathBuf>,
}

impl Arguments {
    /// The backup to look at, when no daemon is asked.
    pub(super) fn verifies(&self) -> Option<&Path> {
        self.verify.as_deref()
    }
}

pub(super) async fn verify(file: &Path) -> anyhow::Result<()> {
    let contents = read(file, "verify", backup::verify).await?;
    Ok(show::page(&page(&contents))?)
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let out = arguments.out.as_deref().context("--out is missing")?;
    let status: Status = face.client.get("/v1/status").await?;
    let name = format!("cwn-{}-{}.backup", status.partner, stamp(&clock::now().to_string()));
    let path = target(out, &name)?;
    let (part, _) = download(face, "/v1/backup", &path).await?;
    // A backup that was never read is a hope.
    let contents = read(part.path(), "read back", backup::verify).await;
    let contents = contents.context("what was written does not read back; look at the disk it is on")?;
    settle(&part, &path)?;
    let shown = show::line(&path.display().to_string());
    Ok(show::page(&format!("{shown}\n{}", page(&contents)))?)
}

/// Reads a backup with a bar, until it ends or somebody interrupts.
pub(super) async fn read(
    file: &Path,
    what: &'static str,
    reading: impl FnOnce(&Path, Work<'_>) -> Result<Contents, Refusal> + Send + 'static,
) -> anyhow::Result<Contents> {
    let metadata = std::fs::metadata(file).map_err(at(file))?;
    let bar = bar(metadata.len(), what);
    let stop = Arc::new(AtomicBool::new(false));
    let (moving, stopping, path) = (bar.clone(), Arc::clone(&stop), file.to_owned());
    let mut work = tokio::task::spawn_blocking(move || {
        reading(&path, Work { progress: &mut |at| moving.set_position(at), stop: &stopping })
    });
    let ended = tokio::select! {
        ended = &mut work => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    bar.finish_and_clear();
    ended?.with_context(|| show::line(&file.display().to_string()))
}

fn page(contents: &Contents) -> String {
    format!(
        "  whole: {}, {}\n  of node {} of {}, made {}\n",
        show::count(contents.files, "file", "files"),
        show::size(contents.bytes),
        show::short(&contents.node.to_string()),
        show::line(&contents.partner),
        contents.made,
    )
}
