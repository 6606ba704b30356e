//! Fetching attachments: what entries that were opened carry, part by part, from whoever shares the circle.
//!
//! Nothing here is written down: after a start the inbox says again what is carried, and what is here is not asked
//! for twice.

use std::{sync::Arc, time::Duration};

use cwn_crypto::PublicKey;
use cwn_engine::{input::SessionId, log::CircleId, wire::Tag};
use cwn_functions::payload::{AttachmentRef, ChunkHash};
use tokio::sync::mpsc;

use crate::{attachments::ChunkRequest, node::Node};

/// How often what is missing is asked for again.
const AGAIN_EVERY: Duration = Duration::from_secs(2);
/// Attachments that wait; beyond, they are found again at the next start.
const WAITING: usize = 65_536;

/// What is carried in a circle.
pub type Carried = (CircleId, Vec<AttachmentRef>);

/// Fetches what entries carry, as they are opened, until the daemon ends.
pub async fn follow(node: Arc<Node>, mut carried: mpsc::UnboundedReceiver<Carried>) {
    if !node.config.attachments.fetches_all() {
        return;
    }
    let inbox = Arc::clone(&node.inbox);
    let mut missing: Vec<(CircleId, AttachmentRef)> = match tokio::task::spawn_blocking(move || inbox.attached()).await
    {
        Ok(Ok(before)) => before.into_iter().flat_map(each).collect(),
        Ok(Err(error)) => {
            tracing::error!(%error, "attachments of earlier entries are not looked for");
            Vec::new()
        }
        Err(_ending) => return,
    };
    let mut again = tokio::time::interval(AGAIN_EVERY);
    loop {
        tokio::select! {
            heard = carried.recv() => match heard {
                None => return,
                Some(carried) if missing.len() < WAITING => {
                    missing.extend(each(carried));
                    again.reset_immediately();
                }
                Some(_) => tracing::warn!("too many attachments wait; more are looked for at the next start"),
            },
            _ = again.tick(), if !missing.is_empty() => missing = fetch(&node, missing).await,
        }
    }
}

fn each((circle, attachments): Carried) -> impl Iterator<Item = (CircleId, AttachmentRef)> {
    attachments.into_iter().map(move |attachment| (circle, attachment))
}

/// Fetches what is missing of attachments; gives back those of which something still is.
async fn fetch(node: &Arc<Node>, waiting: Vec<(CircleId, AttachmentRef)>) -> Vec<(CircleId, AttachmentRef)> {
    let mut left = Vec::new();
    for (circle, attachment) in waiting {
        if attachment.size > node.config.attachments.most_bytes {
            continue;
        }
        let sharing = node.driver.ask(move |engine, _| engine.sharing(&circle)).await.unwrap_or_default();
        let mut complete = true;
        for chunk in &attachment.chunks {
            if !node.chunks.holds(&circle, chunk) && !fetch_chunk(node, &circle, chunk, &sharing).await {
                complete = false;
                break;
            }
        }
        if !complete {
            left.push((circle, attachment));
        }
    }
    left
}

async fn fetch_chunk(
    node: &Arc<Node>,
    circle: &CircleId,
    chunk: &ChunkHash,
    sharing: &[(PublicKey, SessionId, Tag)],
) -> bool {
    for (peer, session, tag) in sharing {
        let request = ChunkRequest { tag: *tag, chunk: *chunk }.to_bytes();
        let Ok(sealed) = node.network.fetch_chunk(*peer, session.0, request).await else { continue };
        let (chunks, circle, chunk) = (node.chunks.clone(), *circle, *chunk);
        match tokio::task::spawn_blocking(move || chunks.keep(&circle, &chunk, &sealed)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%peer, %error, "a part of an attachment was not kept"),
            Err(error) => tracing::warn!(%error, "a part of an attachment was not kept"),
        }
    }
    false
}
