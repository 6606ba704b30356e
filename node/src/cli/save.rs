//! `cwn save`

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Face, partners::encode, publish::bar, show};
use crate::{
    api::types::{AttachmentView, EntryDetail},
    files::{self, Part},
};

/// What somebody saves is as their other files, less what their mask takes away.
const MODE: u32 = 0o666;

/// Arguments of `cwn save`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn save fabcd54a2284\n  cwn save fabcd54a2284 1 --out advisory.pdf\n  cwn save fabcd54a2284 advisory.pdf --out downloads"
)]
pub struct Arguments {
    /// The entry, by the start of its reference.
    #[arg(value_parser = super::named)]
    reference: String,
    /// Which attachment, by its name or number, where it has several.
    #[arg(value_parser = super::named)]
    attachment: Option<String>,
    /// The file to write, or a directory to write it to by its own name; this directory when none is given. An
    /// existing file is not written over.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let base = format!("/v1/entries/{}", encode(&arguments.reference));
    let entry: EntryDetail = face.client.get(&base).await?;
    if let Some(why) = entry.unreadable.filter(|_| entry.attached.is_empty()) {
        anyhow::bail!("nothing of it can be saved: {why}");
    }
    let index = chosen(&entry.attached, arguments.attachment.as_deref())?;
    let attachment = &entry.attached[index];
    let path = target(&attachment.name, arguments.out.as_deref())?;
    let part = Part::begin(&path, MODE)?;
    let bar = bar(attachment.size, &attachment.name);
    let moving = bar.clone();
    let from = format!("{base}/attachments/{index}");
    let written = tokio::select! {
        written = face.client.download_part(&from, &part, move |at| moving.set_position(at)) => written?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bar.finish_and_clear();
            anyhow::bail!("interrupted, and nothing is saved; save it again from the start");
        }
    };
    bar.finish_and_clear();
    put(&part, &path)?;
    Ok(show::page(&format!("{} ({})\n", show::line(&path.display().to_string()), show::size(written)))?)
}

/// Which attachment is meant.
fn chosen(attached: &[AttachmentView], named: Option<&str>) -> anyhow::Result<usize> {
    let number = |(number, one): (usize, &AttachmentView)| format!("{number} {}", show::line(&one.name));
    let numbered = || attached.iter().enumerate().map(number).collect::<Vec<_>>().join(", ");
    anyhow::ensure!(!attached.is_empty(), "the entry has no attachments");
    match named {
        None if attached.len() == 1 => Ok(0),
        None => anyhow::bail!("it has several attachments; say which, by its name or number: {}", numbered()),
        Some(named) => {
            let mut of_name = attached.iter().enumerate().filter(|(_, attachment)| attachment.name == named);
            let by_number = named.parse().ok().filter(|index| *index < attached.len());
            match (of_name.next(), of_name.next(), by_number) {
                (Some((index, _)), None, _) | (_, _, Some(index)) => Ok(index),
                (None, ..) => anyhow::bail!("it has no attachment {named:?}; it has: {}", numbered()),
                _ => {
                    anyhow::bail!("several of its attachments have that name; say which, by its number: {}", numbered())
                }
            }
        }
    }
}

/// Where to write it. The name that its author chose leads out of no directory (it was checked when the entry was
/// opened), and makes no file here that a shell reads by itself or takes for an option.
fn target(name: &str, out: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match out {
        Some(file) if !file.is_dir() => file.to_owned(),
        dir => {
            anyhow::ensure!(
                !name.starts_with(['.', '-']),
                "its author called it {:?}, which may do harm here; choose a name yourself with --out",
                show::line(name)
            );
            dir.unwrap_or(Path::new("")).join(name)
        }
    };
    anyhow::ensure!(path.symlink_metadata().is_err(), "{} with --out", exists(&path));
    Ok(path)
}

pub(super) fn exists(path: &Path) -> String {
    format!("{} exists already; choose another name", show::line(&path.display().to_string()))
}

/// Gives the whole file its name, unless something has that name by now.
pub(super) fn put(part: &Part, path: &Path) -> anyhow::Result<()> {
    let part = part.path();
    let put = match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        // Network file systems know no such renaming; a second name does not replace anything either.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            std::fs::hard_link(part, path).and_then(|()| std::fs::remove_file(part))
        }
        put => put,
    };
    put.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow::Error::msg(exists(path)),
        _ => files::at(path)(error).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::read::tests::attachment, *};

    #[test]
    fn one_attachment_needs_no_name_and_of_several_one_is_to_be_named() {
        let one = [attachment("a.pdf")];
        assert_eq!(chosen(&one, None).unwrap(), 0);
        let two = [attachment("a.pdf"), attachment("b.pdf")];
        assert_eq!(chosen(&two, Some("b.pdf")).unwrap(), 1);
        assert_eq!(chosen(&two, Some("0")).unwrap(), 0);
        for named in [None, Some("c.pdf"), Some("2")] {
            let said = chosen(&two, named).unwrap_err().to_string();
            assert!(said.contains("0 a.pdf, 1 b.pdf"), "{said}");
        }
        assert!(chosen(&[], None).is_err());
    }

    #[test]
    fn of_attachments_with_one_name_the_number_is_asked() {
        let three = ["a.pdf", "b.pdf", "a.pdf"].map(attachment);
        let said = chosen(&three, Some("a.pdf")).unwrap_err().to_string();
        assert!(said.contains("number: 0 a.pdf, 1 b.pdf, 2 a.pdf"), "{said}");
        assert_eq!([chosen(&three, Some("2")).unwrap(), chosen(&three, Some("b.pdf")).unwrap()], [2, 1]);
        // Called as numbers are, they can be named by those.
        assert_eq!(chosen(&["1", "1"].map(attachment), Some("1")).unwrap(), 1);
    }

    #[test]
    fn a_name_is_taken_before_a_number() {
        assert_eq!(chosen(&[attachment("1"), attachment("0")], Some("0")).unwrap(), 1);
    }

    #[test]
    fn a_directory_gets_the_file_by_its_own_name_and_an_existing_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = target("a.pdf", Some(dir.path())).unwrap();
        assert_eq!(path, dir.path().join("a.pdf"));
        std::fs::write(&path, "mine").unwrap();
        let said = target("a.pdf", Some(dir.path())).unwrap_err().to_string();
        assert!(said.contains("exists already") && said.contains("--out"), "{said}");
    }

    #[test]
    fn an_author_cannot_choose_a_name_that_a_shell_reads() {
        for name in [".bashrc", "-rf"] {
            assert!(target(name, None).unwrap_err().to_string().contains("--out"), "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(target(".bashrc", Some(dir.path())).is_err());
        // A person may.
        assert!(target(".bashrc", Some(&dir.path().join(".profile"))).is_ok());
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pdf");
        let part = Part::begin(&path, MODE).unwrap();
        std::fs::write(part.path(), "theirs").unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(put(&part, &path).unwrap_err().to_string().contains("exists already"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
        put(&part, &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
        assert!(!part.path().exists());
    }
}
