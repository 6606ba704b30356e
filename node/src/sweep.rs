//! Sweeping: chunks of attachments that nothing names any more leave the disk.
//!
//! A payload that is gone for good no longer says which chunks were its own. So a circle's chunks are held against
//! all that may still name one: what comes in or waits to be published, drafts, and every entry that this node can
//! open, accepted or not, hidden or not. What none of them names goes. That is done at the start, whatever a crash or a
//! restored backup left, and again whenever payloads were erased; nothing is written down for it.
//!
//! What cannot be read may name anything: a circle with damage is swept when it is healed.

use std::collections::BTreeSet;

use cwn_engine::{
    log::{CircleId, Stored, Suite},
    store::{Damage, Read},
};
use cwn_functions::payload::{AttachmentRef, ChunkHash};

use crate::{attachments, node::Node};

/// Bytes of entries read at once.
const LOOK_BYTES: usize = 2 << 20;

/// Why a circle was not swept.
#[derive(Debug, thiserror::Error)]
pub enum Unswept {
    /// Something in the store cannot be read.
    #[error("what cannot be read may name parts of attachments: {0}")]
    Damaged(#[from] Damage),
    /// The chunks' files.
    #[error(transparent)]
    Files(#[from] attachments::Error),
}

/// Takes the chunks of a circle that nothing names off the disk; gives those, and which of `wanted` nothing names
/// either.
pub fn sweep(node: &Node, circle: &CircleId, wanted: BTreeSet<ChunkHash>) -> Result<BTreeSet<ChunkHash>, Unswept> {
    // What is here is listed first, and then each place is looked at before those to which a chunk's name goes on from
    // there: a new file, an upload, a draft, an entry. So none is missed on its way.
    let held = node.chunks.held(circle)?;
    let mut unnamed: BTreeSet<ChunkHash> = held.union(&wanted).copied().collect();
    unnamed.retain(|chunk| !node.chunks.is_unnamed(circle, chunk));
    for (id, outline) in node.drafts.list() {
        // One that was published or dropped meanwhile names nothing; what does not open can never be published.
        if outline.is_some_and(|outline| outline.circle == *circle)
            && let Ok(draft) = node.drafts.read(id)
        {
            strike(&draft.payload.attachments, &mut unnamed);
        }
    }
    strike_named(node, circle, &mut unnamed)?;
    let gone: BTreeSet<ChunkHash> = unnamed.intersection(&held).copied().collect();
    if !gone.is_empty() {
        node.chunks.remove(circle, &gone)?;
        tracing::info!(%circle, parts = gone.len(), "parts of attachments that no entry names any more were removed");
    }
    Ok(unnamed)
}

fn strike(named: &[AttachmentRef], unnamed: &mut BTreeSet<ChunkHash>) {
    for chunk in named.iter().flat_map(|one| &one.chunks) {
        unnamed.remove(chunk);
    }
}

/// Strikes off what an entry of the circle names that this node can open.
fn strike_named(node: &Node, circle: &CircleId, unnamed: &mut BTreeSet<ChunkHash>) -> Result<(), Damage> {
    if unnamed.is_empty() {
        return Ok(());
    }
    let reader = node.reader.get();
    if let Some((_, what)) = node.damage.get() {
        return Err(Damage { what: "something of the store".to_owned(), why: what });
    }
    if !reader.is_whole(circle)? {
        return Err(Damage { what: "an entry of the circle".to_owned(), why: "it waits to be healed".to_owned() });
    }
    for (key, tip) in reader.logs()?.into_iter().filter(|(key, _)| key.circle == *circle) {
        let mut next = 0;
        while next < tip.height && !unnamed.is_empty() {
            let entries = reader.entries(&key, next, tip.height, LOOK_BYTES)?;
            if entries.is_empty() {
                break;
            }
            next += entries.len() as u64;
            for bytes in entries {
                let unreadable = |why: String| Damage { what: format!("an entry of log {}", key.log), why };
                let entry = Stored::read(bytes).map_err(|refusal| unreadable(refusal.to_string()))?;
                if matches!(entry.header().suite, Suite::Control | Suite::Network) {
                    break;
                }
                let carried = node.inbox.carried(&entry).map_err(|closed| unreadable(closed.to_string()))?;
                strike(&carried, unnamed);
            }
        }
    }
    Ok(())
}
