//! `cwn publish`

use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Face, confirm, partners::encode, print_json, show};
use crate::{
    api::types::{AudienceView, DraftSummary, NewEntry, Publication, Published, Uploaded},
    clock,
    files::at,
};

/// A body may have so many bytes; the daemon says so too, but a mistaken file of a gigabyte is not read first.
const BODY_BYTES: u64 = 1 << 20;

/// The markings, as the help and a usage error name them.
pub(super) const MARKINGS: &str = "CLEAR|GREEN|AMBER|AMBER+STRICT|RED";
/// How often a spinner moves.
pub(super) const TICK: Duration = Duration::from_millis(120);

/// Arguments of `cwn publish`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn publish haven --tlp AMBER --title \"EdgeGate VPN is being exploited\" advisory.md\n  cwn publish haven --tlp AMBER+STRICT --to ncsc --to z-cert note.md\n  cwn publish haven --tlp GREEN --ref CVE-2026-0001 --attach rules.yar advisory.md\n  echo \"All clear.\" | cwn publish haven --tlp GREEN --title \"Crane works again\" --yes\n\nWho will be able to read it is shown first. Standard output is the reference, for `cwn read`, `who` and `save`.\nWhat cannot be sealed yet is kept as a draft, and published by itself as soon as it may be: standard output is then \"draft\" and the draft's name, for `cwn drafts`."
)]
pub struct Arguments {
    #[command(flatten)]
    outgoing: Outgoing,
    /// The file with the body, in Markdown; - or nothing for standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// A file to attach; may be given again.
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
}

/// What `publish` and `attach` share.
#[derive(Debug, Args)]
pub(super) struct Outgoing {
    /// The circle, by name or id.
    #[arg(value_parser = super::named)]
    pub(super) circle: String,
    /// The marking. There is no default.
    #[arg(long, value_name = MARKINGS)]
    pub(super) tlp: String,
    /// The title, one line; when none is given, the body's first line, or the name of the attached file.
    #[arg(long)]
    pub(super) title: Option<String>,
    /// What may be done with it, by the Permissible Actions Protocol.
    #[arg(long, value_name = "CLEAR|GREEN|AMBER|RED")]
    pub(super) pap: Option<String>,
    /// A partner it is for, instead of the whole circle; may be given again. RED needs it.
    #[arg(long, value_name = "PARTNER")]
    pub(super) to: Vec<String>,
    /// A reference, such as a URL or a CVE number; may be given again.
    #[arg(long = "ref")]
    pub(super) reference: Vec<String>,
    /// How long it is to be kept, such as 12h, 30d or 8w: nodes drop what is in it within an hour or so after that.
    #[arg(long, value_name = "SPAN", value_parser = span_ms)]
    pub(super) expires: Option<u64>,
    /// Do not ask.
    #[arg(long)]
    pub(super) yes: bool,
    /// How many seconds to wait until this node is current in the circle.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) wait: u64,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A span of time as people write it.
fn span_ms(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no span of time; write a number of hours, days or weeks, such as 12h, 30d or 8w");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_none| wrong())?;
    if number == 0 { Err(wrong()) } else { Ok(u64::from(number) * hours * 3_600_000) }
}

pub(super) async fn run(face: &Face, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { file, mut outgoing, attach } = arguments;
    let body = read_body(&file)?;
    let first = body.lines().map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty());
    let title = outgoing.title.take().or_else(|| first.map(|line| line.chars().take(200).collect()));
    let title = title.context("give it a title with --title")?;
    publish(face, outgoing, title, body, &attach).await
}

fn read_body(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        if std::io::stdin().is_terminal() {
            show::note("Type the text, in Markdown; Ctrl-D on a line of its own ends it.");
        }
        std::io::stdin().take(BODY_BYTES + 1).read_to_string(&mut text).context("standard input is no UTF-8 text")?;
    } else {
        let open = std::fs::File::open(file).map_err(at(file))?;
        let read = open.take(BODY_BYTES + 1).read_to_string(&mut text);
        read.with_context(|| format!("{} is no UTF-8 text; use `cwn attach` for other files", file.display()))?;
    }
    anyhow::ensure!(text.len() as u64 <= BODY_BYTES, "the text is too long for a body; use `cwn attach`");
    Ok(text)
}

/// A file that was looked at before anybody was asked anything.
struct Upload<'a> {
    path: &'a Path,
    name: &'a str,
    length: u64,
}

impl<'a> Upload<'a> {
    fn look_at(path: &'a Path) -> anyhow::Result<Self> {
        let metadata = std::fs::metadata(path).map_err(at(path))?;
        anyhow::ensure!(metadata.is_file(), "{} is no file; pack a directory into one first", path.display());
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("the name of {} is no UTF-8 text; rename it", path.display()))?;
        Ok(Self { path, name, length: metadata.len() })
    }

    async fn send(&self, face: &Face, circle: &str) -> anyhow::Result<Uploaded> {
        let bar = bar(self.length, self.name);
        let path = format!("/v1/attachments?circle={}&name={}", encode(circle), encode(self.name));
        let moving = bar.clone();
        let uploaded = face.client.upload(&path, self.path, move |sent| moving.set_position(sent)).await;
        bar.finish_and_clear();
        Ok(uploaded?)
    }
}

/// Who would be able to read it.
pub(super) fn audience_page(audience: &AudienceView) -> String {
    let mut page = format!("{} in {} will be readable by:\n", audience.tlp, show::line(&audience.circle));
    let nodes = show::count(audience.nodes as u64, "node", "nodes");
    page += &format!("  {} ({nodes})\n", audience.partners.join(", "));
    if !audience.left_out.is_empty() {
        page += &format!("  not by {}: no certificate, or revoked\n", audience.left_out.join(", "));
    }
    if audience.nodes <= 1 {
        page += "  ONLY THIS NODE: nobody else belongs, or gets a key.\n";
    }
    if !audience.only_silent.is_empty() {
        page += &format!(
            "  Connected and silent about {}: {}. You may have been removed, and then nobody takes it: ask a steward.\n",
            show::line(&audience.circle),
            audience.only_silent.join(", ")
        );
    }
    if !audience.awaited.is_empty() {
        page += &format!(
            "  It cannot be sealed yet: {}. Until then it is kept as a draft (`cwn drafts`).\n",
            show::line(&audience.awaited.join(", and "))
        );
    }
    page
}

/// Shows who will be able to read it, asks, and publishes.
pub(super) async fn publish(
    face: &Face,
    outgoing: Outgoing,
    title: String,
    body: String,
    files: &[PathBuf],
) -> anyhow::Result<()> {
    let uploads = files.iter().map(|file| Upload::look_at(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut entry = NewEntry {
        circle: outgoing.circle,
        tlp: outgoing.tlp,
        pap: outgoing.pap,
        title,
        body,
        references: outgoing.reference,
        to: outgoing.to,
        attachments: Vec::new(),
        wait_seconds: Some(outgoing.wait),
        expires_at: outgoing.expires.map(|ms| clock::now().plus(ms).0),
    };
    let audience: AudienceView = face.client.post("/v1/audience", &entry).await?;
    if entry.tlp.to_ascii_uppercase().contains("WHITE") {
        show::note("WHITE is TLP 1.0's word for CLEAR: it is published as TLP:CLEAR.");
    }
    show::note(audience_page(&audience).trim_end());
    if !outgoing.yes {
        confirm("Publish?")?;
    }
    for upload in &uploads {
        entry.attachments.push(upload.send(face, &entry.circle).await?.id);
    }
    let spinner = ProgressBar::new_spinner().with_message("publishing");
    spinner.enable_steady_tick(TICK);
    let published = face.client.post("/v1/entries", &entry).await;
    spinner.finish_and_clear();
    let publication: Publication = published?;
    if outgoing.json {
        return print_json(&publication);
    }
    let Some(published) = published_or_kept(publication)? else { return Ok(()) };
    show::page(&format!("{}\n", published.reference))?;
    show::note(&format!("Published. `cwn who {}` shows who has received it.", published.reference));
    Ok(())
}

/// What was published; what was kept as a draft is shown as that.
pub(super) fn published_or_kept(publication: Publication) -> anyhow::Result<Option<Published>> {
    match publication {
        Publication::Published(published) => Ok(Some(published)),
        Publication::Kept(draft) => {
            show::page(&format!("draft {}\n", show::short(&draft.id)))?;
            show::note(&kept(&draft));
            Ok(None)
        }
    }
}

/// What is said of something that was kept.
fn kept(draft: &DraftSummary) -> String {
    let id = show::short(&draft.id);
    let then = match &draft.needs {
        Some(needs) => format!("It waits for you: {}", show::line(needs)),
        None => "It is published by itself when that has come".to_owned(),
    };
    format!(
        "Kept as a draft, not yet sealed: {}.\n{then}. `cwn drafts` shows it; `cwn drafts publish {id} --anyway REASON` seals it at once, on record.",
        show::line(&draft.awaited.join(", and "))
    )
}

/// A bar for a file that is under way; nothing where there is no terminal.
pub(super) fn bar(length: u64, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(show::line(name));
    match ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience() -> AudienceView {
        AudienceView {
            circle: "haven".to_owned(),
            tlp: "TLP:AMBER".to_owned(),
            partners: vec!["ferm".to_owned(), "z-cert".to_owned()],
            nodes: 3,
            left_out: Vec::new(),
            current: true,
            unheard: Vec::new(),
            awaited: Vec::new(),
            only_silent: Vec::new(),
        }
    }

    #[test]
    fn before_publishing_it_shows_who_will_be_able_to_read_it() {
        let expected = "TLP:AMBER in haven will be readable by:\n  ferm, z-cert (3 nodes)\n";
        assert_eq!(audience_page(&audience()), expected);
    }

    #[test]
    fn what_nobody_else_will_be_able_to_read_is_said_to_be_so() {
        assert!(!audience_page(&audience()).contains("ONLY THIS NODE"));
        let alone = AudienceView { partners: vec!["ferm".to_owned()], nodes: 1, ..audience() };
        assert!(audience_page(&alone).contains("  ferm (1 node)\n  ONLY THIS NODE: nobody else belongs"));
    }

    #[test]
    fn who_is_left_out_and_who_was_not_heard_is_said() {
        let page = audience_page(&AudienceView {
            left_out: vec!["ibd".to_owned()],
            current: false,
            unheard: vec!["ncsc".to_owned()],
            awaited: vec!["no word yet from ncsc".to_owned()],
            ..audience()
        });
        assert!(page.contains("\n  not by ibd: no certificate, or revoked\n"), "{page}");
        assert!(page.contains("cannot be sealed yet: no word yet from ncsc. Until then"), "{page}");
    }

    #[test]
    fn who_may_have_been_removed_hears_so_before_it_publishes() {
        assert!(!audience_page(&audience()).contains("removed"));
        let page = audience_page(&AudienceView { only_silent: vec!["ncsc".to_owned()], ..audience() });
        assert!(
            page.ends_with("about haven: ncsc. You may have been removed, and then nobody takes it: ask a steward.\n"),
            "{page}"
        );
    }

    #[test]
    fn what_is_kept_is_not_said_to_be_published_by_itself_where_it_waits_for_a_person() {
        let awaited = vec!["no word yet from ncsc".to_owned()];
        let draft = DraftSummary { awaited, ..DraftSummary::unread("1f2e3d4c5b6a7988".to_owned()) };
        assert!(kept(&draft).contains("no word yet from ncsc.\nIt is published by itself when that has come."));
        let needs = Some("none comes by itself to a node that is kept offline".to_owned());
        let said = kept(&DraftSummary { needs, ..draft });
        assert!(said.contains("It waits for you: none comes") && !said.contains("published by itself"), "{said}");
    }

    #[test]
    fn what_is_no_file_is_refused_before_anybody_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let said = Upload::look_at(dir.path()).err().unwrap().to_string();
        assert!(said.contains("is no file"), "{said}");
        let missing = dir.path().join("missing.pdf");
        assert!(Upload::look_at(&missing).err().unwrap().to_string().contains("missing.pdf"));
    }

    #[test]
    fn a_body_that_is_no_text_names_the_command_for_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picture");
        std::fs::write(&path, [0xff, 0xd8]).unwrap();
        let said = read_body(&path).unwrap_err().to_string();
        assert!(said.contains("`cwn attach`"), "{said}");
    }

    #[test]
    fn a_body_beyond_the_limit_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        std::fs::write(&path, vec![b'a'; 2 << 20]).unwrap();
        let said = read_body(&path).unwrap_err().to_string();
        assert!(said.contains("`cwn attach`"), "{said}");
    }
}
