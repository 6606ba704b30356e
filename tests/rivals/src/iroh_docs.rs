//! iroh-docs with iroh-blobs and iroh-gossip, as its own documentation sets it up: two nodes with stores on disk.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use iroh::{Endpoint, address_lookup::memory::MemoryLookup, protocol::Router};
use iroh_blobs::{BlobsProtocol, store::fs::FsStore};
use iroh_docs::{
    api::protocol::{AddrInfoOptions, ShareMode},
    engine::LiveEvent,
    protocol::Docs,
};
use iroh_gossip::net::Gossip;
use tokio::time::timeout;

use crate::{
    iroh_gossip::{address, endpoint},
    item,
    meter::{self, Meter, Numbers},
};

/// How many are written at a time.
const WRITING: usize = 64;
/// How often both ask each other whether there is anything.
const COMPARED: usize = 5;
const QUIET: Duration = Duration::from_millis(500);
/// When nothing more comes for so long, nothing will.
const STALLED: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    endpoint: Endpoint,
    docs: Docs,
    _router: Router,
}

async fn node(dir: &Path, known: &MemoryLookup) -> anyhow::Result<Node> {
    let (of_docs, of_blobs) = (dir.join("docs"), dir.join("blobs"));
    fs::create_dir_all(&of_docs)?;
    let endpoint = endpoint(known).await?;
    let gossip = Gossip::builder().spawn(endpoint.clone());
    let blobs = FsStore::load(of_blobs).await?;
    let docs = Docs::persistent(of_docs).spawn(endpoint.clone(), (*blobs).clone(), gossip.clone()).await?;
    let router = Router::builder(endpoint.clone())
        .accept(iroh_blobs::ALPN, BlobsProtocol::new(&blobs, None))
        .accept(iroh_docs::ALPN, docs.clone())
        .accept(iroh_gossip::ALPN, gossip)
        .spawn();
    Ok(Node { endpoint, docs, _router: router })
}

pub(crate) async fn sync(dir: &Path, items: u64) -> anyhow::Result<Numbers> {
    let known = MemoryLookup::new();
    let (holder, comer) = (node(&dir.join("holder"), &known).await?, node(&dir.join("comer"), &known).await?);
    let author = holder.docs.api().author_create().await?;
    let doc = holder.docs.api().create().await?;
    let writes = stream::iter(0..items).map(|number| doc.set_bytes(author, format!("item/{number:08}"), item(number)));
    writes.buffer_unordered(WRITING).try_for_each(async |_| Ok(())).await?;
    let mut ticket = doc.share(ShareMode::Write, AddrInfoOptions::Id).await?;
    ticket.nodes = vec![address(&holder.endpoint)?];
    let meter = Meter::start()?;
    let (copy, mut events) = comer.docs.api().import_and_subscribe(ticket).await?;
    let (mut inserted, mut ready) = (0_u64, 0_u64);
    let (mut seconds, mut bytes) = meter.read()?;
    while ready < items {
        let Ok(event) = timeout(STALLED, events.next()).await else { break };
        match event.context("the comer ended")?? {
            LiveEvent::InsertRemote { .. } => inserted += 1,
            LiveEvent::ContentReady { .. } => ready += 1,
            _ => continue,
        }
        (seconds, bytes) = meter.read()?;
    }
    // Some contents it never asks for. It is counted as if they had come at the pace of the others.
    ensure!(inserted == items && ready > items / 2, "of {items} items {inserted} came, {ready} with their content");
    let of_all = ready as f64 / items as f64;
    let mut compared = Vec::new();
    for _ in 0..COMPARED {
        // What else they had to say to each other is over.
        while timeout(QUIET, events.next()).await.is_ok() {}
        let meter = Meter::start()?;
        copy.start_sync(vec![address(&holder.endpoint)?]).await?;
        loop {
            let event = timeout(PATIENCE, events.next()).await.context("the comer never compared")?;
            if let LiveEvent::SyncFinished(_) = event.context("the comer ended")?? {
                break;
            }
        }
        compared.push(meter.read()?);
    }
    Ok(meter::synced_and_counted((seconds / of_all, bytes / of_all), compared))
}
