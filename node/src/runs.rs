//! Serving a run: entries of one log streamed from the store, each epoch's record before its first use.

use std::collections::BTreeSet;

use cwn_crypto::{Hash, encoding};
use cwn_engine::{
    epoch::SignedRecord,
    limits,
    log::{EntryBytes, Header, LogKey},
    store::{Damage, Read},
    wire::RunFrame,
};

use crate::{network::RunWriter, store::Reader};

/// Bytes of entries in one frame: the rest is room for headers and records.
const FRAME_ENTRIES_BYTES: usize = limits::FRAME_BYTES - limits::FRAME_BYTES / 4;

/// What a peer asked for.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The log.
    pub key: LogKey,
    /// The first entry.
    pub from: u64,
    /// One past the last.
    pub to: u64,
    /// An epoch whose record the asker has.
    pub epoch: Option<Hash>,
}

/// What of a run cannot be read back.
#[derive(Debug, Clone, Copy)]
pub enum Unread {
    /// The entry at this place.
    Entry(u64),
    /// The record of this epoch.
    Record(Hash),
}

/// Streams a run; ends the stream early when the peer goes away or the disk does. `damaged` is told of what cannot be
/// read back. Entries whose record cannot be are sent without it: whoever lacks it waits for it, and sees that this node
/// sends what it says it holds.
pub async fn serve(run: Run, reader: Reader, mut writer: RunWriter, damaged: impl Fn(Unread) + Send + 'static) {
    let Run { key, from, to, epoch } = run;
    let mut known: BTreeSet<Hash> = epoch.into_iter().collect();
    let mut next = from;
    while next < to {
        let (asked, reader, mut sent) = (reader.clone(), reader.clone(), known.clone());
        let read = tokio::task::spawn_blocking(move || {
            let frames = frames(&reader, &key, next, to, &mut sent);
            (frames, sent)
        });
        let Ok((frames, sent)) = read.await else { return };
        match frames {
            Ok((frames, after)) => {
                known = sent;
                for frame in frames {
                    if writer.send(frame).await.is_err() {
                        return;
                    }
                }
                if after == next {
                    tracing::error!(log = %key.log, next, "a run breaks off: what is accepted cannot be read back");
                    return;
                }
                next = after;
            }
            Err(damage) => {
                tracing::error!(%damage, log = %key.log, "a run cannot be read back");
                let has = known.clone();
                let find = move || (next..to).find_map(|seq| unread(&asked, &key, seq, &has));
                let Ok(Some(unread)) = tokio::task::spawn_blocking(find).await else { return };
                damaged(unread);
                let Unread::Record(epoch) = unread else { return };
                known.insert(epoch);
            }
        }
    }
    if let Err(broken) = writer.finish().await {
        tracing::debug!(%broken, "a peer went away before the end of its run");
    }
}

/// What of an entry, or of what its epoch needs and the asker has not, cannot be read back.
fn unread(reader: &Reader, key: &LogKey, seq: u64, known: &BTreeSet<Hash>) -> Option<Unread> {
    let Ok(entry) = reader.entry(key, seq) else { return Some(Unread::Entry(seq)) };
    let epoch = Header::from_bytes(&entry?.header).ok()?.epoch.filter(|epoch| !known.contains(epoch))?;
    match reader.record(&key.circle, &epoch) {
        Ok(Some(_)) => None,
        Ok(None) | Err(_) => Some(Unread::Record(epoch)),
    }
}

/// The frames of what one read brings, and the place after its last entry.
pub(crate) fn frames(
    reader: &Reader,
    key: &LogKey,
    from: u64,
    to: u64,
    known: &mut BTreeSet<Hash>,
) -> Result<(Vec<Vec<u8>>, u64), Damage> {
    let entries = reader.entries(key, from, to, FRAME_ENTRIES_BYTES)?;
    let after = from + entries.len() as u64;
    let mut frames = Vec::new();
    let mut frame = RunFrame { records: Vec::new(), entries: Vec::new() };
    let mut bytes = 0;
    for entry in entries {
        let record = record(reader, key, &entry, known)?;
        let adds = entry.header.len() + entry.payload.len() + 128 + record.as_ref().map_or(0, |(_, length)| *length);
        if bytes + adds > limits::FRAME_BYTES && !frame.entries.is_empty() {
            let full = std::mem::replace(&mut frame, RunFrame { records: Vec::new(), entries: Vec::new() });
            frames.push(full.to_bytes());
            bytes = 0;
        }
        bytes += adds;
        frame.records.extend(record.map(|(record, _)| record));
        frame.entries.push(entry);
    }
    if !frame.entries.is_empty() {
        frames.push(frame.to_bytes());
    }
    Ok((frames, after))
}

/// The record an entry needs, if it was not sent before.
fn record(
    reader: &Reader,
    key: &LogKey,
    entry: &EntryBytes,
    known: &mut BTreeSet<Hash>,
) -> Result<Option<(SignedRecord, usize)>, Damage> {
    let damage = |why: String| Damage { what: "an entry of a run".to_owned(), why };
    let header = Header::from_bytes(&entry.header).map_err(|refusal| damage(refusal.to_string()))?;
    let Some(epoch) = header.epoch.filter(|epoch| known.insert(*epoch)) else { return Ok(None) };
    let bytes =
        reader.record(&key.circle, &epoch)?.ok_or_else(|| damage(format!("epoch record {epoch} is not held")))?;
    let record =
        encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).map_err(|refusal| damage(refusal.to_string()))?;
    Ok(Some((record, bytes.len())))
}
