//! `cwn attach`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{
    Face,
    partners::encode,
    publish::{Outgoing, publish},
};
use crate::api::types::EntryDetail;

/// Arguments of `cwn attach`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn attach haven --tlp GREEN dreigingsbeeld.pdf\n  cwn attach haven --tlp RED --to z-cert --refers-to fabcd54a2284 memory.dump"
)]
pub struct Arguments {
    #[command(flatten)]
    outgoing: Outgoing,
    /// The file.
    file: PathBuf,
    /// The entry that the file belongs to, by its reference.
    #[arg(long, value_name = "REFERENCE")]
    refers_to: Option<String>,
}

pub(super) async fn run(face: &Face, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { file, mut outgoing, refers_to } = arguments;
    let name = file.file_name().and_then(|name| name.to_str()).context("the file's name is no UTF-8 text")?;
    if let Some(reference) = &refers_to {
        let found: Result<EntryDetail, _> = face.client.get(&format!("/v1/entries/{}", encode(reference))).await;
        found.context("--refers-to names no entry that is here")?;
    }
    let title = outgoing.title.take().unwrap_or_else(|| name.to_owned());
    outgoing.reference.extend(refers_to);
    publish(face, outgoing, title, String::new(), &[file]).await
}
