//! `cwn retract`

use clap::Args;

use super::{Face, confirm, partners::encode, print_json, publish::published_or_kept, show};
use crate::api::types::{EntryDetail, Publication, Retract};

/// Arguments of `cwn retract`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cwn retract fabcd54a2284 --reason \"The second address is that of a hospital\"\n\nIt is hidden at once on every node that hears of it, and erased there a day later. Whoever read it before has read it.\nA reason is kept as a draft while it cannot be sealed yet; without one the entry is taken back at once."
)]
pub struct Arguments {
    /// The entry, by the start of its reference.
    #[arg(value_parser = super::named)]
    reference: String,
    /// Why; readable by whoever could read the entry.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { reference, reason, yes, json } = arguments;
    let path = format!("/v1/entries/{}", encode(&reference));
    if !yes {
        let entry: EntryDetail = face.client.get(&path).await?;
        let title = entry.summary.title.as_deref().map(show::line).unwrap_or_default();
        confirm(&format!(
            "Take back {:?} in {}? It is hidden everywhere at once, and erased after a day.",
            title,
            show::line(&entry.summary.circle_name)
        ))?;
    }
    let publication: Publication = face.client.post(&format!("{path}/retract"), &Retract { reason }).await?;
    if json {
        return print_json(&publication);
    }
    let Some(published) = published_or_kept(publication)? else {
        show::note("Until then the entry stands. Without a reason it is taken back at once.");
        return Ok(());
    };
    Ok(show::page(&format!("{} is taken back, by entry {}.\n", show::line(&reference), published.reference))?)
}
