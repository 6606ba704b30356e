//! `cwn read`

use clap::Args;

use super::{Face, partners::encode, print_json, show};
use crate::api::types::{EntryDetail, TakenBack};

/// Arguments of `cwn read`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cwn read fabcd54a2284")]
pub struct Arguments {
    /// The entry, by the start of its reference.
    #[arg(value_parser = super::named)]
    reference: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let entry: EntryDetail = face.client.get(&format!("/v1/entries/{}", encode(&arguments.reference))).await?;
    match arguments.json {
        true => print_json(&entry)?,
        false => show::page(&page(&entry))?,
    }
    match entry.unreadable {
        Some(why) => anyhow::bail!("it cannot be read here: {why}"),
        None => Ok(()),
    }
}

/// One of an entry and what takes it back points to the other.
fn pointing(to: &str, other: &str, reason: &str) -> String {
    let reason = show::text(reason);
    format!("\n{to} {}{}{}", show::line(other), if reason.is_empty() { "" } else { ": " }, reason.trim_end())
}

fn page(entry: &EntryDetail) -> String {
    let summary = &entry.summary;
    let tlp = if summary.tlp.is_empty() { "(closed)" } else { &summary.tlp };
    let revoked = if summary.author_revoked { "  AUTHOR REVOKED" } else { "" };
    let (circle, at) = (show::line(&summary.circle_name), show::time(summary.time));
    let mut page = format!("{tlp}  {circle}  {}  {at}{revoked}\n", summary.author);
    let mut say = |text: &str| page.extend([text, "\n"]);
    if summary.clock_doubtful {
        let first_seen = show::time(summary.first_seen);
        say(&format!("The author's clock is doubtful: it was first seen here at {first_seen}."));
    }
    if !entry.to.is_empty() {
        say(&format!("To: {}", entry.to.join(", ")));
    }
    if let Some(pap) = &entry.pap {
        say(pap);
    }
    if let Some(title) = summary.title.as_deref().filter(|_| entry.takes_back.is_none()) {
        say(&format!("\n{}", show::line(title)));
    }
    if let Some(at) = entry.expires_at.filter(|_| entry.unreadable.is_none()) {
        say(&format!("Kept until {}", show::time(at)));
    }
    if let Some(TakenBack { by, reason }) = &entry.taken_back {
        say(&pointing("Taken back by", by, reason));
    }
    let body = entry.body.as_deref().unwrap_or_default();
    match &entry.takes_back {
        Some(other) => say(&pointing("Takes back", other, body)),
        None if body.is_empty() => {}
        None => say(&format!("\n{}", show::text(body).trim_end())),
    }
    let pointed = [entry.takes_back.as_ref(), entry.taken_back.as_ref().map(|taken| &taken.by)];
    for reference in entry.references.iter().filter(|reference| !pointed.contains(&Some(reference))) {
        say(&format!("\nSee: {}", show::line(reference)));
    }
    for (index, attachment) in entry.attached.iter().enumerate() {
        let here = match attachment.chunks_here {
            all if all == attachment.chunks => String::new(),
            some => format!(", {some} of {} parts here", attachment.chunks),
        };
        let (name, size) = (show::line(&attachment.name), show::size(attachment.size));
        say(&format!("\nFile {index}: {name} ({size}{here}); `cwn save {} {index}`", summary.reference));
    }
    page
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::list::tests::entry, *};
    use crate::api::types::{AttachmentView, EntrySummary};

    pub(in crate::cli) fn attachment(name: &str) -> AttachmentView {
        AttachmentView {
            name: name.to_owned(),
            media_type: "application/octet-stream".to_owned(),
            size: 3 << 20,
            chunks_here: 3,
            chunks: 3,
        }
    }

    pub(in crate::cli) fn detail(attached: Vec<AttachmentView>) -> EntryDetail {
        EntryDetail {
            summary: entry("fabcd54a2284"),
            hash: "fabcd54a2284ff".to_owned(),
            node: "86ed6ed0c5b7".to_owned(),
            unreadable: None,
            expires_at: None,
            body: Some("De kraan\nstaat stil.\n\n".to_owned()),
            pap: None,
            references: Vec::new(),
            to: Vec::new(),
            attached,
            takes_back: None,
            taken_back: None,
        }
    }

    #[test]
    fn an_entry_shows_marking_author_body_references_and_files() {
        let partly = AttachmentView { chunks_here: 1, ..attachment("b.bin") };
        let entry = EntryDetail {
            pap: Some("PAP:GREEN".to_owned()),
            references: vec!["CVE-2026-0001".to_owned()],
            to: vec!["ncsc".to_owned(), "z-cert".to_owned()],
            ..detail(vec![attachment("a.pdf"), partly])
        };
        let expected = "\
TLP:AMBER  haven  ferm  1970-01-01T00:00:00Z
To: ncsc, z-cert
PAP:GREEN

Storing op de kade

De kraan
staat stil.

See: CVE-2026-0001

File 0: a.pdf (3145 kB); `cwn save fabcd54a2284 0`

File 1: b.bin (3145 kB, 1 of 3 parts here); `cwn save fabcd54a2284 1`
";
        assert_eq!(page(&entry), expected);
    }

    #[test]
    fn what_is_sealed_to_others_is_called_closed() {
        let summary = EntrySummary { tlp: String::new(), title: None, ..entry("fabcd54a2284") };
        let why = Some("it is sealed to others".to_owned());
        let page = page(&EntryDetail { summary, unreadable: why, body: None, ..detail(Vec::new()) });
        assert_eq!(page, "(closed)  haven  ferm  1970-01-01T00:00:00Z\n");
    }

    #[test]
    fn an_entry_and_what_takes_it_back_point_to_each_other() {
        let (title, reason) = (Some("Fout adres".to_owned()), "Fout adres".to_owned());
        let summary = EntrySummary { kind: "retraction".to_owned(), title, ..entry("0123456789ab") };
        let (takes_back, references) = (Some("fabcd54a2284".to_owned()), vec!["fabcd54a2284".to_owned()]);
        let retraction =
            EntryDetail { summary, body: Some(reason.clone()), takes_back, references, ..detail(Vec::new()) };
        let head = "TLP:AMBER  haven  ferm  1970-01-01T00:00:00Z\n\n";
        assert_eq!(page(&retraction), format!("{head}Takes back fabcd54a2284: Fout adres\n"));
        let summary = EntrySummary { title: None, ..entry("fabcd54a2284") };
        let taken_back = Some(TakenBack { by: "0123456789ab".to_owned(), reason });
        let references = vec!["0123456789ab".to_owned()];
        let hidden = EntryDetail { summary, body: None, taken_back, references, ..detail(Vec::new()) };
        assert_eq!(page(&hidden), format!("{head}Taken back by 0123456789ab: Fout adres\n"));
        let silent = EntryDetail { taken_back: None, takes_back: Some("0123456789ab".to_owned()), ..hidden };
        assert_eq!(page(&silent), format!("{head}Takes back 0123456789ab\n"));
    }

    #[test]
    fn nothing_that_others_wrote_moves_the_cursor_or_turns_text_around() {
        let nasty = "x\x1b[2J\r\u{9b}\u{202e}".to_owned();
        let summary = EntrySummary { title: Some(nasty.clone()), circle_name: nasty.clone(), ..entry("fabcd54a2284") };
        let page = page(&EntryDetail {
            summary,
            taken_back: Some(TakenBack { by: "x".to_owned(), reason: nasty.clone() }),
            body: Some(nasty.clone()),
            references: vec![nasty.clone()],
            ..detail(vec![attachment(&nasty)])
        });
        assert_eq!(page.matches("x\u{FFFD}[2J\u{FFFD}\u{FFFD}\u{FFFD}").count(), 6, "{page:?}");
        assert!(!page.contains(['\x1b', '\r', '\u{9b}', '\u{202e}']), "{page:?}");
    }
}
