//! `cwn export`

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Face,
    import::{PART, PARTS},
    partners::encode,
    publish::TICK,
    save, show,
};
use crate::{
    api::types::ExportView,
    clock,
    files::{self, FILE_MODE, Part},
};

/// Arguments of `cwn export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn export --circle haven --out /media/stick\n  cwn export --circle haven --to ferm --attachments --out haven.cwn\n  cwn export --circle haven --since 7d --out week.cwn\n\nOnly nodes of the partners that it names can open the file. A finder sees how long it is and for how many nodes."
)]
pub struct Arguments {
    /// The circle, by its name or id.
    #[arg(long, value_parser = super::named)]
    circle: String,
    /// The file to write, or a directory to write it to. An existing file is not written over.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A partner of the circle that the file is for; may be given again. All of the circle when none is named.
    #[arg(long, value_name = "PARTNER")]
    to: Vec<String>,
    /// Only entries of so long ago: 90m, 12h or 7d. Whoever lacks what came before cannot take them.
    #[arg(long, value_name = "AGE", value_parser = age_ms)]
    since: Option<u64>,
    /// The parts of attachments come along.
    #[arg(long)]
    attachments: bool,
}

/// A span of time as people write one.
fn age_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no age; write 90m, 12h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_not_a_number| wrong())?;
    number.checked_mul(minutes * 60_000).ok_or_else(wrong)
}

pub(super) async fn run(face: &Face, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { circle, out, to, since, attachments } = arguments;
    let now = clock::now();
    let path = target(&out, &format!("cwn-export-{}.cwn", stamp(&now.to_string())))?;
    let since = since.map(|age| format!("&since={}", now.0.saturating_sub(age))).unwrap_or_default();
    let to = encode(&to.join(","));
    let base = format!("/v1/circles/{}/export", encode(&circle));
    let query = format!("?to={to}&attachments={attachments}{since}");
    let plan: ExportView = face.client.get(&format!("{base}/plan{query}")).await?;
    show::note(plan_page(&plan).trim_end());
    let (part, written) = download(face, &format!("{base}{query}"), &path).await?;
    settle(&part, &path)?;
    Ok(show::page(&format!("{} ({})\n", show::line(&path.display().to_string()), show::size(written)))?)
}

fn plan_page(plan: &ExportView) -> String {
    let parts = match plan.parts {
        0 => String::new(),
        parts => format!(", {}", show::count(parts as u64, PART, PARTS)),
    };
    let entries = show::count(plan.entries, "entry", "entries");
    let mut page = format!("{}: {entries}{parts}; the file can be opened by:\n", show::line(&plan.circle));
    page += &format!("  {} ({})\n", plan.partners.join(", "), show::count(plan.nodes as u64, "node", "nodes"));
    if !plan.left_out.is_empty() {
        page += &format!("  not by {}: no certificate, or revoked\n", plan.left_out.join(", "));
    }
    if plan.left_attachments > 0 {
        let attachments = show::count(plan.left_attachments, "attachment", "attachments");
        page += &format!("  without {attachments} (--attachments takes them along)\n");
    }
    if plan.missing_parts > 0 {
        let parts = show::count(plan.missing_parts as u64, PART, PARTS);
        page += &format!("  not in it, as this node lacks them: {parts}\n");
    }
    page
}

/// A time in a file's name: its digits and letters.
pub(super) fn stamp(time: &str) -> String {
    time.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The file to write: the one that was named, or this name in the directory that was named.
pub(super) fn target(out: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let as_dir = out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/");
    let path = if as_dir { out.join(name) } else { out.to_owned() };
    check_new(&path)?;
    Ok(path)
}

/// Refuses what exists already, and what has no directory to stand in.
pub(crate) fn check_new(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(path.symlink_metadata().is_err(), save::exists(path));
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        anyhow::ensure!(
            dir.is_dir(),
            "there is no directory {}; make it first",
            show::line(&dir.display().to_string())
        );
    }
    Ok(())
}

/// Writes an answer to a file that does not have its name yet, for this user alone.
pub(super) async fn download(face: &Face, from: &str, path: &Path) -> anyhow::Result<(Part, u64)> {
    let part = Part::begin(path, FILE_MODE)?;
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    let moving = bar.clone();
    let written = tokio::select! {
        written = face.client.download_part(from, &part, move |at| moving.set_position(at)) => written,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bar.finish_and_clear();
            anyhow::bail!("interrupted, and nothing is written; start again");
        }
    };
    bar.finish_and_clear();
    Ok((part, written?))
}

/// Writes a text to a new file, for this user alone.
pub(crate) fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    check_new(path)?;
    let part = Part::begin(path, FILE_MODE)?;
    let write = || {
        let mut file = File::options().write(true).open(part.path())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(files::at(path))?;
    settle(&part, path)
}

/// Gives a whole file its name.
pub(super) fn settle(part: &Part, path: &Path) -> anyhow::Result<()> {
    save::put(part, path)?;
    let dir = files::dir_of(path);
    Ok(files::sync_dir(dir).map_err(files::at(dir))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_minutes_hours_or_days() {
        assert_eq!([age_ms("90m"), age_ms("12h"), age_ms("7d")], [Ok(5_400_000), Ok(43_200_000), Ok(604_800_000)]);
        for wrong in ["", "d", "7", "7w", "-1d", "99999999999999999d", "één"] {
            assert!(age_ms(wrong).unwrap_err().contains("7d"), "{wrong}");
        }
    }

    #[test]
    fn a_directory_gets_a_file_with_the_date_and_an_existing_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(target(dir.path(), "x.cwn").unwrap(), dir.path().join("x.cwn"));
        let there = dir.path().join("there");
        std::fs::write(&there, "mine").unwrap();
        assert!(target(&there, "x.cwn").unwrap_err().to_string().contains("exists already"));
        let nowhere = dir.path().join("nowhere/x.cwn");
        assert!(target(&nowhere, "x.cwn").unwrap_err().to_string().contains("make it first"));
    }

    #[test]
    fn it_says_who_can_open_the_file_and_what_is_not_in_it() {
        let plan = ExportView {
            circle: "haven".to_owned(),
            id: String::new(),
            partners: vec!["ferm".to_owned(), "z-cert".to_owned()],
            nodes: 3,
            left_out: vec!["ibd".to_owned()],
            entries: 12,
            parts: 4,
            missing_parts: 1,
            left_attachments: 0,
        };
        let page = plan_page(&plan);
        assert!(page.starts_with("haven: 12 entries, 4 parts of attachments; the file can be opened by:\n"), "{page}");
        assert!(page.contains("\n  ferm, z-cert (3 nodes)\n  not by ibd"), "{page}");
        assert!(page.contains("\n  not in it, as this node lacks them: 1 part of attachments\n"), "{page}");
        assert!(!page.contains("without"), "{page}");
        let left = plan_page(&ExportView { parts: 0, missing_parts: 0, left_attachments: 2, ..plan });
        assert!(left.contains("\n  without 2 attachments (--attachments takes them along)\n"), "{left}");
    }
}
