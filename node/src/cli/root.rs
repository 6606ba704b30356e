//! `cwn root`

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;

use super::{Face, show};
use crate::api::types::{RootAdopted, RootText};

/// The daemon says so too, but a mistaken file of a gigabyte is not read first.
const FILE_BYTES: u64 = 8 << 20;

/// What to do with the root document.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Go on to a later version of the root document, from the file that the root key holders signed.
    #[command(
        after_help = "Example:\n  cwn root adopt root-2.txt\n\nMembers hear of a new version from one another; a file is for when that is too late, or cut off. It counts only when enough of the root keys that are trusted here signed it, and those of the new version too."
    )]
    Adopt {
        /// The file, as `cwn ca root propose` wrote it and `cwn ca root sign` signed it.
        file: PathBuf,
    },
}

pub(super) async fn run(face: &Face, command: Command) -> anyhow::Result<()> {
    let Command::Adopt { file } = command;
    let adopted: RootAdopted = face.client.post("/v1/root", &RootText { text: read(&file)? }).await?;
    Ok(show::page(&said(adopted))?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(crate::files::at(path))?;
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text);
    read.with_context(|| {
        format!("{} is no text; ask the coordinator for the file of `cwn ca root propose`", path.display())
    })?;
    anyhow::ensure!(
        text.len() as u64 <= FILE_BYTES,
        "{} is longer than any root document; ask the coordinator for the file of `cwn ca root propose`",
        path.display()
    );
    Ok(text)
}

fn said(adopted: RootAdopted) -> String {
    let RootAdopted { before, version } = adopted;
    if before == version {
        return format!("Nothing new: this node holds version {version} of the root document.\n");
    }
    format!("Adopted: the root document went on from version {before} to version {version}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_already_is_told_from_what_is_new() {
        assert!(said(RootAdopted { before: 2, version: 2 }).starts_with("Nothing new"));
        assert!(said(RootAdopted { before: 1, version: 3 }).contains("from version 1 to version 3"));
    }

    #[test]
    fn a_file_that_is_no_text_or_too_long_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.txt");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("root.txt is no text"));
        std::fs::write(&path, vec![b'a'; usize::try_from(FILE_BYTES).unwrap() + 2]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("longer than any root document"));
    }
}
