//! `cwn import`

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Face, print_json, publish::bar, show};
use crate::{
    api::types::Imported,
    parcel::{Kind, Parcel},
};

pub(super) const PART: &str = "part of attachments";
pub(super) const PARTS: &str = "parts of attachments";

/// Logs that are shown one by one.
const SHOWN: usize = 20;

/// Arguments of `cwn import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn import /media/stick/haven.cwn\n  cwn import --check haven.cwn  # is the copy whole? Needs no daemon, and no key\n\nThe exit code is 1 when the file was not taken to its end, or something in it can never be taken."
)]
pub struct Arguments {
    /// The file that `cwn export` wrote.
    file: PathBuf,
    /// Only look whether the file is whole, as its maker wrote it.
    #[arg(long)]
    check: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "check")]
    json: bool,
}

impl Arguments {
    /// Whether no daemon is asked.
    pub(super) fn only_checks(&self) -> bool {
        self.check
    }
}

/// Reads a file to its end.
pub(super) fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let file = show::line(&arguments.file.display().to_string());
    let mut parcel = Parcel::open(&arguments.file, Kind::Circle).map_err(crate::files::at(&arguments.file))?;
    while parcel.next_frame().with_context(|| file.clone())?.is_some() {}
    Ok(show::page(&format!("{file} is whole ({})\n", show::size(parcel.at())))?)
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let imported = upload(face, &arguments.file).await?;
    if arguments.json {
        print_json(&imported)?;
    } else {
        show::page(&page(&imported))?;
    }
    verdict(&imported)
}

async fn upload(face: &Face, file: &Path) -> anyhow::Result<Imported> {
    let metadata = std::fs::metadata(file).map_err(crate::files::at(file))?;
    anyhow::ensure!(metadata.is_file(), "{} is no file", file.display());
    let bar = bar(metadata.len(), &file.display().to_string());
    let moving = bar.clone();
    let imported = tokio::select! {
        imported = face.client.upload("/v1/import", file, move |sent| moving.set_position(sent)) => imported,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bar.finish_and_clear();
            anyhow::bail!("interrupted: what was taken so far is kept; import the file again for the rest");
        }
    };
    bar.finish_and_clear();
    Ok(imported?)
}

fn page(imported: &Imported) -> String {
    let name = imported.circle.as_ref().map_or_else(|| "a circle".to_owned(), |name| show::line(name));
    let mut page = format!("{name}, exported {}\n", show::time(imported.made));
    page += &format!(
        "  new: {}, {}, {} of the network{}\n",
        show::count(imported.entries, "entry", "entries"),
        show::count(imported.operations, "operation", "operations"),
        imported.network_entries,
        if imported.parts > 0 { format!(", {}", show::count(imported.parts, PART, PARTS)) } else { String::new() },
    );
    if imported.known > 0 {
        page += &format!("  here already: {}\n", imported.known);
    }
    if imported.stray_parts > 0 {
        let parts = show::count(imported.stray_parts, PART, PARTS);
        page += &format!("  not kept: {parts} of entries this node cannot read\n");
    }
    if let Some(standing) = standing(imported.standing.as_deref(), &name) {
        page += &format!("  {standing}\n");
    }
    if imported.left_operations > 0 {
        let operations = show::count(imported.left_operations, "operation", "operations");
        page += &format!("  not taken: {operations}: what comes before is missing, or no part of the circle\n");
    }
    for left in imported.left.iter().take(SHOWN) {
        let word = if left.refused { "refused" } else { "not taken yet" };
        let entries = show::count(left.entries, "entry", "entries");
        page += &format!("  {word}: a run of {entries} of {}: {}\n", show::line(&left.author), show::line(&left.why));
    }
    if imported.left.len() > SHOWN {
        let entries = show::count(imported.left_entries, "entry", "entries");
        page += &format!("  and more logs; not taken in all: {entries}\n");
    }
    page
}

/// What is to be done about the circle, if anything.
fn standing(standing: Option<&str>, name: &str) -> Option<String> {
    match standing? {
        "joined" => Some("joined the circle, as this node's rule says".to_owned()),
        "offered" => Some(format!(
            "the circle is offered now: `cwn circle accept {name}`, then import the file again for its entries"
        )),
        "declined" => Some("this node declined the circle before; nothing of it was taken".to_owned()),
        "not_named" => {
            Some("by the file this node does not belong to the circle (yet); a steward can add its partner".to_owned())
        }
        "too_many_offers" => {
            Some("too many offers of circles wait; accept or decline some, and import again".to_owned())
        }
        _ => None,
    }
}

fn verdict(imported: &Imported) -> anyhow::Result<()> {
    if let Some(stop) = &imported.stopped {
        anyhow::bail!("the file was not taken to its end, and what came before is kept: {stop}");
    }
    let refused: u64 = imported.left.iter().filter(|left| left.refused).map(|left| left.entries).sum();
    anyhow::ensure!(refused == 0, "{refused} entries can never be part of the circle; tell who made the file");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::LeftView;

    fn imported() -> Imported {
        Imported {
            circle: Some("haven".to_owned()),
            standing: Some("member".to_owned()),
            entries: 12,
            operations: 3,
            network_entries: 5,
            known: 7,
            ..Imported::default()
        }
    }

    fn left(refused: bool) -> LeftView {
        LeftView { author: "ferm".to_owned(), entries: 2, why: "entries before it are missing".to_owned(), refused }
    }

    #[test]
    fn what_is_new_and_what_was_here_is_said() {
        let page = page(&imported());
        assert!(page.contains("\n  new: 12 entries, 3 operations, 5 of the network\n  here already: 7\n"), "{page}");
        assert!(verdict(&imported()).is_ok());
    }

    #[test]
    fn what_waits_names_for_what_and_is_no_failure() {
        let waiting = Imported { left: vec![left(false)], left_entries: 2, ..imported() };
        assert!(page(&waiting).contains("not taken yet: a run of 2 entries of ferm: entries before it are missing"));
        assert!(verdict(&waiting).is_ok());
    }

    #[test]
    fn what_can_never_be_taken_and_a_file_that_breaks_off_are_failures() {
        let refused = Imported { left: vec![left(true)], ..imported() };
        assert!(page(&refused).contains("refused: a run of 2 entries of ferm"));
        assert!(verdict(&refused).unwrap_err().to_string().contains("tell who made the file"));
        let stopped = Imported { stopped: Some("it breaks off; copy it again".to_owned()), ..imported() };
        assert!(verdict(&stopped).unwrap_err().to_string().contains("what came before is kept: it breaks off"));
    }

    #[test]
    fn operations_that_were_not_taken_are_said() {
        let page = page(&Imported { left_operations: 1, ..imported() });
        assert!(page.contains("\n  not taken: 1 operation: what"), "{page}");
    }

    #[test]
    fn an_offer_names_the_next_step() {
        let offered = Imported { standing: Some("offered".to_owned()), ..imported() };
        assert!(page(&offered).contains("`cwn circle accept haven`, then import the file again"));
    }

    #[test]
    fn a_file_that_is_no_export_is_said_to_be_so_without_a_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("holiday.jpg");
        std::fs::write(&file, [0xff, 0xd8, 0xff]).unwrap();
        let said = check(&Arguments { file, check: true, json: false }).unwrap_err();
        assert!(format!("{said:#}").ends_with("holiday.jpg: this is no file of `cwn export`; was another one meant?"));
    }
}
