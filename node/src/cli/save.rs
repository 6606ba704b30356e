//! `cwn save`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{Face, partners::encode, publish::bar, show};
use crate::api::types::EntryDetail;

/// Arguments of `cwn save`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The entry, by the start of its reference.
    reference: String,
    /// Which attachment, by its name or number, where it has several.
    attachment: Option<String>,
    /// Where to write it; its own name in this directory when none is given. An existing file is not written over.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let base = format!("/v1/entries/{}", encode(&arguments.reference));
    let entry: EntryDetail = face.client.get(&base).await?;
    anyhow::ensure!(!entry.attached.is_empty(), "the entry has no attachments");
    let index = match &arguments.attachment {
        None if entry.attached.len() == 1 => 0,
        None => {
            let names: Vec<String> = entry.attached.iter().map(|one| show::line(&one.name)).collect();
            anyhow::bail!("it has several attachments, say which: {}", names.join(", "));
        }
        Some(named) => {
            let by_name = entry.attached.iter().position(|attachment| attachment.name == *named);
            let by_number = named.parse().ok().filter(|index| *index < entry.attached.len());
            by_name.or(by_number).with_context(|| format!("it has no attachment {named:?}"))?
        }
    };
    let attachment = &entry.attached[index];
    // The name was checked when the entry was opened: it leads out of no directory.
    let path = arguments.out.clone().unwrap_or_else(|| PathBuf::from(&attachment.name));
    let bar = bar(attachment.size, &attachment.name);
    let moving = bar.clone();
    let from = format!("{base}/attachments/{index}");
    let written = face.client.download(&from, &path, move |at| moving.set_position(at)).await;
    bar.finish_and_clear();
    let written = written?;
    println!("{} ({})", path.display(), show::size(written));
    Ok(())
}
