//! `cwn list`

use clap::Args;

use super::{Face, partners::encode, print_json, show};
use crate::{api::types::EntrySummary, clock};

/// Arguments of `cwn list`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One circle, by name or id; all of them when none is given.
    circle: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let mut path = format!("/v1/entries?limit={}", arguments.limit);
    if let Some(circle) = &arguments.circle {
        path += &format!("&circle={}", encode(circle));
    }
    let entries: Vec<EntrySummary> = face.client.get(&path).await?;
    if arguments.json {
        return print_json(&entries);
    }
    if entries.is_empty() {
        println!("Nothing yet.");
    }
    let now = clock::now().0;
    print!("{}", show::table(&entries.iter().map(|entry| row(entry, now)).collect::<Vec<_>>()));
    Ok(())
}

fn row(entry: &EntrySummary, now: u64) -> Vec<String> {
    let title = match (&entry.title, entry.state.as_str()) {
        (Some(title), _) => show::line(title),
        (None, "opened") => "(read it with `cwn read`)".to_owned(),
        (None, "not_for_us") => "(sealed to others)".to_owned(),
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
