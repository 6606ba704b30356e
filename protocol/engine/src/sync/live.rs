//! Live: an author pushes what it wrote to every connected member; everybody announces what became durable.
//!
//! Push is a hint, never the only way: what is lost of it the next comparison finds.

use cwn_crypto::PublicKey;

use crate::engine::Engine;
use crate::epoch::SignedRecord;
use crate::limits;
use crate::log::{Authentic, CircleId, Decoded, EntryBytes, LogKey, LogKind};
use crate::replica::Stop;
use crate::store::{Damage, Read};
use crate::wire::{Frame, WireTip};

impl Engine {
    /// Pushes an own entry, which is durable, to every connected member.
    pub(crate) fn push(&mut self, entry: &Authentic, store: &dyn Read) -> Result<(), Damage> {
        let circle = entry.key().circle;
        let epoch = entry.header().epoch;
        let record: Option<SignedRecord> = match epoch {
            None => None,
            Some(hash) => {
                let bytes = store.record(&circle, &hash)?;
                bytes.and_then(|bytes| cwn_crypto::encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).ok())
            }
        };
        let mut targets = Vec::new();
        for (peer, state) in &mut self.sync.peers {
            if let Some(shared) = state.shared.get_mut(&circle) {
                let known = shared.pushed_epoch == epoch;
                shared.pushed_epoch = epoch.or(shared.pushed_epoch);
                targets.push((*peer, shared.mine, if known { None } else { record.clone() }));
            }
        }
        for (peer, tag, record) in targets {
            self.send(&peer, &Frame::Push { tag, record, entry: entry.bytes().clone() });
        }
        Ok(())
    }

    pub(super) fn push_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        record: Option<SignedRecord>,
        entry: EntryBytes,
    ) {
        let entry = match Decoded::decode(entry) {
            Ok(entry) if entry.key().circle == circle => entry,
            Ok(_) => return self.fault(peer, circle, "an entry of another circle than it was sent in".to_owned()),
            Err(refusal) => return self.fault(peer, circle, refusal.to_string()),
        };
        let LogKey { author, log, .. } = entry.key();
        let height = entry.header().seq + 1;
        let first = entry.header().suite.kind() == LogKind::Control;
        let head = Some(entry.hash());
        let Some(replica) = self.circles.get_mut(&circle) else { return };
        let ingested = replica.ingest(record.into_iter().collect(), vec![entry]);
        self.keep(circle, ingested.writes, ingested.membership_changed);
        if let Some(Stop::Never(refusal)) = &ingested.stop {
            self.never(circle, (author, log), refusal);
            return self.fault(peer, circle, refusal.to_string());
        }
        // Whatever could not be taken is pulled, with what comes before it and with a later head.
        let due = if ingested.undecided.is_empty() { self.now } else { self.now.plus(limits::COMPARE_EVERY_MS) };
        self.tip_heard(peer, circle, WireTip { author, log, first, height, head }, due);
    }

    /// A log grew durably: say so to those who may not know.
    pub(crate) fn announce(&mut self, key: LogKey) {
        self.sync.digests.remove(&key.circle);
        self.sync.announce.insert(key);
        self.sync.announce_due.get_or_insert(self.now.plus(limits::ANNOUNCE_WAIT_MS));
        if key.author != self.me && key.circle != self.network {
            self.held_changed(key.circle, key.author);
        }
    }

    pub(super) fn announce_now(&mut self, store: &dyn Read) -> Result<(), Damage> {
        self.sync.announce_due = None;
        let mut tips = Vec::new();
        for key in std::mem::take(&mut self.sync.announce) {
            let Some(replica) = self.circles.get(&key.circle) else { continue };
            let height = replica.accepted(&key.author, &key.log);
            let Some(log) = replica.log(&key.author, &key.log).filter(|_| height > 0) else { continue };
            let head = if height == log.durable { log.durable_head } else { store.hash(&key, height - 1)? };
            let first = replica.decides(&key.author, log.kind);
            tips.push((key.circle, WireTip { author: key.author, log: key.log, first, height, head }));
        }
        let mut frames = Vec::new();
        for (peer, state) in &self.sync.peers {
            for (circle, shared) in &state.shared {
                let news: Vec<WireTip> = tips
                    .iter()
                    .filter(|(of, tip)| {
                        let known = shared.tips.get(&(tip.author, tip.log)).map_or(0, |theirs| theirs.height);
                        // What this node wrote, it pushed itself.
                        of == circle && known < tip.height && tip.author != self.me
                    })
                    .map(|(_, tip)| *tip)
                    .collect();
                if !news.is_empty() {
                    frames.push((*peer, Frame::Have { tag: shared.mine, tips: news }));
                }
            }
        }
        frames.iter().for_each(|(peer, frame)| self.send(peer, frame));
        Ok(())
    }
}
