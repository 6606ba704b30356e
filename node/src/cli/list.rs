//! `cwn list`

use clap::Args;

use super::{Face, partners::encode, print_json, show};
use crate::{api::types::EntrySummary, clock};

/// The most that the daemon lists at once.
const MOST: u16 = 1_000;

/// Arguments of `cwn list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cwn list\n  cwn list haven --limit 200\n  cwn list --before fabcd54a2284")]
pub struct Arguments {
    /// One circle, by name or id; all of them when none is given.
    #[arg(value_parser = super::named)]
    circle: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    limit: u16,
    /// Only what is older than this entry, named by the start of its reference.
    #[arg(long, value_name = "REFERENCE")]
    before: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let circle = arguments.circle.as_deref().map(|named| format!("&circle={}", encode(named))).unwrap_or_default();
    let limit = usize::from(arguments.limit);
    let before = arguments.before.as_deref().map(|named| format!("&before={}", encode(named))).unwrap_or_default();
    let entries: Vec<EntrySummary> = face.client.get(&format!("/v1/entries?limit={limit}{circle}{before}")).await?;
    if arguments.json {
        return print_json(&entries);
    }
    show::page(&page(&entries, clock::now().0))?;
    if let Some(last) = entries.get(limit - 1) {
        let circle = arguments.circle.as_deref().map(|named| format!(" {}", show::line(named))).unwrap_or_default();
        show::note(&format!("There may be older ones: `cwn list{circle} --before {}`.", last.reference));
    }
    Ok(())
}

fn page(entries: &[EntrySummary], now: u64) -> String {
    if entries.is_empty() {
        return "Nothing yet.\n".to_owned();
    }
    show::table(&entries.iter().map(|entry| row(entry, now)).collect::<Vec<_>>())
}

fn row(entry: &EntrySummary, now: u64) -> Vec<String> {
    let title = match (&entry.title, entry.state.as_str()) {
        (Some(reason), _) if entry.kind == "retraction" && reason.is_empty() => "Takes an entry back".to_owned(),
        (Some(reason), _) if entry.kind == "retraction" => format!("Takes an entry back: {}", show::line(reason)),
        (Some(title), _) => show::line(title),
        (None, "opened") => "(read it with `cwn read`)".to_owned(),
        (None, "not_for_us") => "(sealed to others)".to_owned(),
        (None, "retracted") => "(taken back by its author)".to_owned(),
        (None, "expired") => "(expired, no longer held)".to_owned(),
        (None, "dropped") => "(older than the circle keeps, no longer held)".to_owned(),
        (None, "unknown_kind") => format!("(a {} of a newer version)", show::line(&entry.kind)),
        (None, _) => "(cannot be read)".to_owned(),
    };
    let mut notes = String::new();
    if entry.attachments > 0 {
        notes += &format!(" +{} file{}", entry.attachments, if entry.attachments == 1 { "" } else { "s" });
    }
    if entry.clock_doubtful {
        notes += " (clock doubtful)";
    }
    if entry.author_revoked {
        notes += " (AUTHOR REVOKED)";
    }
    let tlp = entry.tlp.strip_prefix("TLP:").unwrap_or(&entry.tlp).to_owned();
    let age = if entry.clock_doubtful { show::ago(now, entry.first_seen) } else { show::ago(now, entry.time) };
    vec![entry.reference.clone(), tlp, show::line(&entry.circle_name), entry.author.clone(), age, title + &notes]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn entry(reference: &str) -> EntrySummary {
        EntrySummary {
            reference: reference.to_owned(),
            circle: "aed0b4352552".to_owned(),
            circle_name: "haven".to_owned(),
            author: "ferm".to_owned(),
            time: 0,
            first_seen: 0,
            clock_doubtful: false,
            kind: "report".to_owned(),
            tlp: "TLP:AMBER".to_owned(),
            title: Some("Storing op de kade".to_owned()),
            attachments: 0,
            state: "opened".to_owned(),
            author_revoked: false,
        }
    }

    #[test]
    fn a_list_shows_what_can_be_read_and_says_of_the_rest_why_not() {
        let closed = |reference: &str, state: &str, tlp: &str| EntrySummary {
            title: None,
            state: state.to_owned(),
            tlp: tlp.to_owned(),
            ..entry(reference)
        };
        let entries = [
            EntrySummary { attachments: 2, ..entry("aaaaaaaaaaaa") },
            closed("bbbbbbbbbbbb", "opened", "TLP:RED"),
            closed("cccccccccccc", "not_for_us", ""),
            closed("dddddddddddd", "unreadable", ""),
            EntrySummary { kind: "sitrep".to_owned(), ..closed("eeeeeeeeeeee", "unknown_kind", "TLP:GREEN") },
        ];
        let expected = "\
aaaaaaaaaaaa  AMBER  haven  ferm  3 minutes ago  Storing op de kade +2 files
bbbbbbbbbbbb  RED    haven  ferm  3 minutes ago  (read it with `cwn read`)
cccccccccccc         haven  ferm  3 minutes ago  (sealed to others)
dddddddddddd         haven  ferm  3 minutes ago  (cannot be read)
eeeeeeeeeeee  GREEN  haven  ferm  3 minutes ago  (a sitrep of a newer version)
";
        assert_eq!(page(&entries, 180_000), expected);
    }

    #[test]
    fn a_doubtful_clock_and_a_revoked_author_are_said_and_a_title_moves_no_cursor() {
        let entry = EntrySummary {
            time: 9_000_000,
            clock_doubtful: true,
            author_revoked: true,
            title: Some("x\x1b[1Ay\u{202e}".to_owned()),
            ..entry("aaaaaaaaaaaa")
        };
        let line = page(&[entry], 180_000);
        assert!(line.contains("3 minutes ago"), "{line}");
        assert!(line.ends_with("x\u{FFFD}[1Ay\u{FFFD} (clock doubtful) (AUTHOR REVOKED)\n"), "{line}");
    }
}
