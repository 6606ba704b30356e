//! `cwn read`

use clap::Args;

use super::{Face, partners::encode, print_json, show};
use crate::api::types::EntryDetail;

/// Arguments of `cwn read`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The entry, by the start of its reference.
    reference: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let entry: EntryDetail = face.client.get(&format!("/v1/entries/{}", encode(&arguments.reference))).await?;
    if arguments.json {
        return print_json(&entry);
    }
    let summary = &entry.summary;
    let revoked = if summary.author_revoked { "  AUTHOR REVOKED" } else { "" };
    println!(
        "{}  {}  {}  {}{revoked}",
        if summary.tlp.is_empty() { "(closed)" } else { &summary.tlp },
        show::line(&summary.circle_name),
        summary.author,
        show::time(summary.time)
    );
    if summary.clock_doubtful {
        println!("The author's clock is doubtful: it was first seen here at {}.", show::time(summary.first_seen));
    }
    if !entry.to.is_empty() {
        println!("To: {}", entry.to.join(", "));
    }
    if let Some(pap) = &entry.pap {
        println!("{pap}");
    }
    if let Some(title) = &summary.title {
        println!("\n{}", show::line(title));
    }
    if let Some(why) = &entry.unreadable {
        println!("\nIt cannot be read here: {}", show::line(why));
    }
    if let Some(body) = entry.body.as_deref().filter(|body| !body.is_empty()) {
        println!("\n{}", show::text(body).trim_end());
    }
    for reference in &entry.references {
        println!("\nSee: {}", show::line(reference));
    }
    for (index, attachment) in entry.attached.iter().enumerate() {
        let here = match attachment.chunks_here {
            all if all == attachment.chunks => String::new(),
            some => format!(", {some} of {} parts here", attachment.chunks),
        };
        println!(
            "\nFile {index}: {} ({}{here}); `cwn save {} {index}`",
            show::line(&attachment.name),
            show::size(attachment.size),
            summary.reference
        );
    }
    Ok(())
}
