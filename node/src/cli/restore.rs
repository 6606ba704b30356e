//! `cwn restore`

use std::path::{Path, PathBuf};

use clap::Args;

use super::{backup::read, show};
use crate::backup::{self, Contents};

/// Arguments of `cwn restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cwn --data /var/lib/cwn/z-cert restore cwn-z-cert.backup\n\nThe data directory must be empty or not there. The credential or the passphrase that opens the keys is not in a backup: you need the one of the node as it was."
)]
pub struct Arguments {
    /// The file that `cwn backup` wrote.
    file: PathBuf,
}

pub(super) async fn run(data: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let target = data.to_owned();
    let restored = read(&arguments.file, "restore", move |file, work| backup::restore(file, &target, work)).await?;
    Ok(show::page(&page(data, &restored))?)
}

fn page(data: &Path, contents: &Contents) -> String {
    let shown = show::line(&data.display().to_string());
    format!(
        "{shown}: node {} of {}, as it was on {} ({}, {})\n\n\
         Before you start it (`cwn --data {shown} daemon`):\n\
         - The node it was taken from must never run again: two nodes with one key damage each other\u{2019}s logs.\n\
         - Look at [keys] and [network] in its config.toml: the credential is not in the backup.\n\
         What it does then:\n\
         - It opens new logs, and writes on none of the old ones.\n\
         - Until it has heard from its circles\u{2019} members it publishes nothing above GREEN: they may have removed\n\
         \x20 somebody since.\n\
         - What it wrote and received since the backup comes back from members; what reached nobody is lost.\n",
        show::short(&contents.node.to_string()),
        show::line(&contents.partner),
        contents.made,
        show::count(contents.files, "file", "files"),
        show::size(contents.bytes),
    )
}
