//! Fetching attachments: what entries that were opened carry, part by part, from whoever shares the circle; and letting
//! go of what no entry carries any more.
//!
//! What is carried is fetched as the configuration says; what somebody asked for is fetched in any case. Nothing
//! here is written down: after a start the inbox says again what is carried, and what is here is not asked for
//! twice. Fetching and sweeping take turns, so that nothing comes back behind a sweep.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cwn_crypto::PublicKey;
use cwn_engine::{input::SessionId, log::CircleId, wire::Tag};
use cwn_functions::payload::{AttachmentRef, ChunkHash};
use futures::{StreamExt, future, stream};
use tokio::{sync::mpsc, time::Instant};

use crate::{attachments::ChunkRequest, files::Written, node::Node, sweep};

/// How often what is missing is asked for again.
const AGAIN_EVERY: Duration = Duration::from_secs(2);
/// What is erased within so long is swept at once.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
/// Between two sweeps lies at least so many times what the last one took: whoever takes back entry after entry keeps
/// nobody's disk busy.
const SWEEP_PAUSES: u32 = 10;
/// Chunks of an attachment that are on their way or being written at a time; each is up to 1 MiB in memory.
const AT_ONCE: usize = 8;
/// Chunks that get their names with one fsync.
const TOGETHER: usize = 8;
/// Attachments that wait; beyond, they are found again at the next start.
const WAITING: usize = 65_536;

/// Who shares a circle, in which session, and by which tag it is asked.
type Sharing = (PublicKey, SessionId, Tag);

/// Why an attachment is to be fetched.
#[derive(Debug)]
enum Wanted {
    /// An entry that was opened carries these.
    Carried(CircleId, Vec<AttachmentRef>),
    /// Somebody wants to have it.
    Asked(CircleId, AttachmentRef),
    /// Payloads of this circle are gone: what they carried is not wanted any more.
    Erased(CircleId),
}

/// Where the rest of the node says what is to be fetched.
#[derive(Debug, Clone)]
pub struct Fetches(mpsc::UnboundedSender<Wanted>);

/// What is to be fetched, as it comes.
#[derive(Debug)]
pub struct Waiting(mpsc::UnboundedReceiver<Wanted>);

/// The two ends of it.
pub fn channel() -> (Fetches, Waiting) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Fetches(sender), Waiting(receiver))
}

impl Fetches {
    /// An entry that was opened carries these.
    pub fn carried(&self, circle: CircleId, attachments: Vec<AttachmentRef>) {
        // The fetching ends with the daemon.
        let _ = self.0.send(Wanted::Carried(circle, attachments));
    }

    /// Somebody wants to have it.
    pub fn asked(&self, circle: CircleId, attachment: AttachmentRef) {
        // The fetching ends with the daemon.
        let _ = self.0.send(Wanted::Asked(circle, attachment));
    }

    /// Payloads of this circle are gone for good.
    pub fn erased(&self, circle: CircleId) {
        // The sweeping ends with the daemon, and begins with it.
        let _ = self.0.send(Wanted::Erased(circle));
    }
}

/// Fetches what is wanted until the daemon ends.
pub async fn follow(node: Arc<Node>, mut waiting: Waiting) {
    let mut missing: Vec<(CircleId, AttachmentRef)> = Vec::new();
    if node.config.attachments.fetches_all() {
        let inbox = Arc::clone(&node.inbox);
        match tokio::task::spawn_blocking(move || inbox.attached()).await {
            Ok(Ok(before)) => {
                for (circle, attachments) in before {
                    missing.extend(to_fetch(&node, Wanted::Carried(circle, attachments)));
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "attachments of earlier entries are not looked for"),
            Err(_ending) => return,
        }
    }
    let mut again = tokio::time::interval(AGAIN_EVERY);
    // Whatever the end of the last daemon, or a backup, left.
    let mut erased: BTreeSet<CircleId> = node.chunks.circles().into_iter().collect();
    let mut sweep_at = Instant::now() + SWEEP_AFTER;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(sweep_at), if !erased.is_empty() => {
                let begun = Instant::now();
                for circle in std::mem::take(&mut erased) {
                    missing = sweep(&node, circle, missing).await;
                }
                sweep_at = Instant::now() + begun.elapsed() * SWEEP_PAUSES;
            }
            heard = waiting.0.recv() => match heard {
                None => return,
                Some(Wanted::Erased(circle)) => {
                    if erased.is_empty() {
                        sweep_at = sweep_at.max(Instant::now() + SWEEP_AFTER);
                    }
                    erased.insert(circle);
                }
                Some(wanted) if missing.len() < WAITING => {
                    for one in to_fetch(&node, wanted) {
                        // Who saves the same file again and again asks for it once.
                        if !missing.contains(&one) {
                            missing.push(one);
                        }
                    }
                    again.reset_immediately();
                }
                Some(_) => tracing::warn!("too many attachments wait; more are looked for at the next start"),
            },
            _ = again.tick(), if !missing.is_empty() => missing = fetch(&node, missing).await,
        }
    }
}

/// What of it is to be fetched, as the configuration says.
fn to_fetch(node: &Node, wanted: Wanted) -> Vec<(CircleId, AttachmentRef)> {
    let config = &node.config.attachments;
    match wanted {
        Wanted::Asked(circle, attachment) => vec![(circle, attachment)],
        Wanted::Erased(_) => Vec::new(),
        Wanted::Carried(..) if !config.fetches_all() => Vec::new(),
        Wanted::Carried(circle, attachments) => {
            let small = attachments.into_iter().filter(|attachment| attachment.size <= config.most_bytes);
            small.map(|attachment| (circle, attachment)).collect()
        }
    }
}

/// Takes chunks of a circle that nothing names any more off the disk; gives back what is still to be fetched.
async fn sweep(
    node: &Arc<Node>,
    circle: CircleId,
    waiting: Vec<(CircleId, AttachmentRef)>,
) -> Vec<(CircleId, AttachmentRef)> {
    // Who names one chunk of an attachment names them all.
    let first =
        |(of, attachment): &(CircleId, AttachmentRef)| attachment.chunks.first().filter(|_| *of == circle).copied();
    let (sweeping, wanted) = (Arc::clone(node), waiting.iter().filter_map(first).collect());
    let swept = tokio::task::spawn_blocking(move || sweep::sweep(&sweeping, &circle, wanted)).await;
    match swept {
        Ok(Ok(unnamed)) => {
            let named = |one: &(CircleId, AttachmentRef)| first(one).is_none_or(|chunk| !unnamed.contains(&chunk));
            waiting.into_iter().filter(named).collect()
        }
        Ok(Err(why)) => {
            tracing::warn!(%circle, %why, "parts of attachments that no entry names any more may stay until the next start");
            waiting
        }
        Err(_ending) => waiting,
    }
}

/// Fetches what is missing of attachments; gives back those of which something still is.
async fn fetch(node: &Arc<Node>, waiting: Vec<(CircleId, AttachmentRef)>) -> Vec<(CircleId, AttachmentRef)> {
    let mut left = Vec::new();
    for (circle, attachment) in waiting {
        let sharing = node.driver.ask(move |engine, _| engine.sharing(&circle)).await.unwrap_or_default();
        if !fetch_chunks(node, circle, &attachment.chunks, sharing.into()).await {
            left.push((circle, attachment));
        }
    }
    left
}

/// Fetches those of these chunks that are not here, several at a time; false when some are missing still. While some come
/// in, others are written, and those before them get their names.
async fn fetch_chunks(node: &Arc<Node>, circle: CircleId, chunks: &[ChunkHash], sharing: Arc<[Sharing]>) -> bool {
    let missing: Vec<ChunkHash> = chunks.iter().filter(|chunk| !node.chunks.holds(&circle, chunk)).copied().collect();
    let count = missing.len();
    let (fetching, naming) = (Arc::clone(node), Arc::clone(node));
    let fetched = stream::iter(missing.into_iter().enumerate())
        .map(move |(place, chunk)| fetch_chunk(Arc::clone(&fetching), circle, chunk, Arc::clone(&sharing), place))
        .buffer_unordered(AT_ONCE)
        // What nobody sends now is asked for again, and what comes behind it.
        .take_while(|written| future::ready(written.is_some()))
        .filter_map(future::ready)
        .chunks(TOGETHER);
    let named = fetched.map(move |written| name_all(Arc::clone(&naming), circle, written)).buffered(2);
    named.fold(0, |named, more| future::ready(named + more)).await == count
}

/// Gives what was written its names; says of how much.
async fn name_all(node: Arc<Node>, circle: CircleId, written: Vec<Written>) -> usize {
    let count = written.len();
    match tokio::task::spawn_blocking(move || node.chunks.name_all(&circle, written)).await {
        Ok(Ok(())) => return count,
        Ok(Err(error)) => tracing::warn!(%error, "parts of an attachment were not kept"),
        Err(error) => tracing::warn!(%error, "parts of an attachment were not kept"),
    }
    0
}

/// Fetches a chunk of one of those who share the circle, and writes it. Each chunk is asked of another first.
async fn fetch_chunk(
    node: Arc<Node>,
    circle: CircleId,
    chunk: ChunkHash,
    sharing: Arc<[Sharing]>,
    place: usize,
) -> Option<Written> {
    for turn in 0..sharing.len() {
        let (peer, session, tag) = sharing[(place + turn) % sharing.len()];
        let request = ChunkRequest { tag, chunk }.to_bytes();
        let Ok(sealed) = node.network.fetch_chunk(peer, session.0, request).await else { continue };
        let chunks = node.chunks.clone();
        match tokio::task::spawn_blocking(move || chunks.write(&circle, &chunk, &sealed)).await {
            Ok(Ok(written)) => return Some(written),
            Ok(Err(error)) => tracing::warn!(%peer, %error, "a part of an attachment was not kept"),
            Err(error) => tracing::warn!(%error, "a part of an attachment was not kept"),
        }
    }
    None
}
