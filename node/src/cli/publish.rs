//! `cwn publish`

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Face, confirm, partners::encode, print_json, show};
use crate::api::types::{AudienceView, NewEntry, Published, Uploaded};

/// A body may have so many bytes; the daemon says so too, but a mistaken file of a gigabyte is not read first.
const BODY_BYTES: u64 = 1 << 20;

/// Arguments of `cwn publish`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cwn publish haven --tlp AMBER --title \"EdgeGate VPN is being exploited\" advisory.md"
)]
pub struct Arguments {
    #[command(flatten)]
    outgoing: Outgoing,
    /// The file with the body, in Markdown; - or nothing for standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// A file to attach; may be given again.
    #[arg(long)]
    attach: Vec<PathBuf>,
}

/// What `publish` and `attach` share.
#[derive(Debug, Args)]
pub(super) struct Outgoing {
    /// The circle, by name or id.
    pub(super) circle: String,
    /// The marking: CLEAR, GREEN, AMBER, AMBER+STRICT or RED. There is no default.
    #[arg(long)]
    pub(super) tlp: String,
    /// The title, one line.
    #[arg(long)]
    pub(super) title: Option<String>,
    /// What may be done with it: PAP CLEAR, GREEN, AMBER or RED.
    #[arg(long)]
    pub(super) pap: Option<String>,
    /// A partner it is for, instead of the whole circle; may be given again. RED needs it.
    #[arg(long)]
    pub(super) to: Vec<String>,
    /// A reference, such as a URL or a CVE number; may be given again.
    #[arg(long = "ref")]
    pub(super) reference: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    pub(super) yes: bool,
    /// How many seconds to wait until this node is current in the circle.
    #[arg(long, default_value_t = 30)]
    pub(super) wait: u64,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
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
        std::io::stdin().take(BODY_BYTES + 1).read_to_string(&mut text).context("standard input is no UTF-8 text")?;
    } else {
        let open = std::fs::File::open(file).with_context(|| file.display().to_string())?;
        let read = open.take(BODY_BYTES + 1).read_to_string(&mut text);
        read.with_context(|| format!("{} is no UTF-8 text; use `cwn attach` for other files", file.display()))?;
    }
    anyhow::ensure!(text.len() as u64 <= BODY_BYTES, "the text is too long for a body; use `cwn attach`");
    Ok(text)
}

/// Shows who will be able to read it, asks, and publishes.
pub(super) async fn publish(
    face: &Face,
    outgoing: Outgoing,
    title: String,
    body: String,
    files: &[PathBuf],
) -> anyhow::Result<()> {
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
    };
    let audience: AudienceView = face.client.post("/v1/audience", &entry).await?;
    if !outgoing.json {
        eprintln!("{} in {} will be readable by:", audience.tlp, show::line(&audience.circle));
        eprintln!("  {} ({} nodes)", audience.partners.join(", "), audience.nodes);
        if !audience.left_out.is_empty() {
            eprintln!("  not by {}: no certificate, or revoked", audience.left_out.join(", "));
        }
        if !audience.current {
            eprintln!("  This node waits to hear from {} before it publishes.", audience.unheard.join(", "));
        }
    }
    if !outgoing.yes {
        confirm("Publish?")?;
    }
    for file in files {
        entry.attachments.push(upload(face, &entry.circle, file).await?.id);
    }
    let published: Published = face.client.post("/v1/entries", &entry).await?;
    if outgoing.json {
        return print_json(&published);
    }
    println!("{}", published.reference);
    eprintln!("Published. `cwn who {}` shows who has received it.", published.reference);
    Ok(())
}

async fn upload(face: &Face, circle: &str, file: &Path) -> anyhow::Result<Uploaded> {
    let name = file.file_name().and_then(|name| name.to_str()).context("the file's name is no UTF-8 text")?;
    let length = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    let bar = bar(length, name);
    let path = format!("/v1/attachments?circle={}&name={}", encode(circle), encode(name));
    let moving = bar.clone();
    let uploaded = face.client.upload(&path, file, move |sent| moving.set_position(sent)).await;
    bar.finish_and_clear();
    Ok(uploaded?)
}

/// A bar for a file that is under way; nothing where there is no terminal.
pub(super) fn bar(length: u64, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(show::line(name));
    match ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
