//! Live: an author pushes what it wrote to every connected member; everybody announces what became durable.
//!
//! Push is a hint, never the only way: what is lost of it the next comparison finds.

use std::collections::BTreeMap;

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
        let mut targets = Vec::new();
        for (peer, state) in &mut self.sync.peers {
            if let Some(shared) = state.shared.get_mut(&circle) {
                let news = shared.pushed_epoch != epoch && epoch.is_some();
                shared.pushed_epoch = epoch.or(shared.pushed_epoch);
                targets.push((*peer, shared.mine, news));
            }
        }
        let record: Option<SignedRecord> = match epoch.filter(|_| targets.iter().any(|(.., news)| *news)) {
            None => None,
            Some(hash) => {
                let bytes = store.record(&circle, &hash)?;
                bytes.and_then(|bytes| cwn_crypto::encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).ok())
            }
        };
        for (peer, tag, news) in targets {
            let record = record.clone().filter(|_| news);
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
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let entry = match Decoded::decode(entry) {
            Ok(entry) if self.shuns(&entry) => return Ok(()),
            Ok(entry) if entry.key().circle == circle => entry,
            Ok(_) => {
                self.fault(peer, circle, "an entry of another circle than it was sent in".to_owned());
                return Ok(());
            }
            Err(refusal) => {
                self.fault(peer, circle, refusal.to_string());
                return Ok(());
            }
        };
        let LogKey { author, log, .. } = entry.key();
        let height = entry.header().seq + 1;
        let first = entry.header().suite.kind() == LogKind::Control;
        let head = Some(entry.hash());
        let Some(replica) = self.circles.get_mut(&circle) else { return Ok(()) };
        let ingested = replica.ingest(record.into_iter().collect(), vec![entry]);
        if !ingested.writes.is_empty() {
            self.came_from(peer, circle, author);
        }
        self.keep(circle, ingested.writes, ingested.membership_changed, store);
        if let Some(Stop::Never(refusal)) = &ingested.stop {
            if self.blames(peer, circle, (author, log), refusal) {
                self.fault(peer, circle, refusal.to_string());
            }
            return Ok(());
        }
        // Whatever could not be taken is pulled, with what comes before it and with a later head.
        let due = if ingested.undecided.is_empty() { self.now } else { self.now.plus(limits::COMPARE_EVERY_MS) };
        self.tip_heard(peer, circle, WireTip { author, log, first, height, head, forked: false }, due);
        Ok(())
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
        let mut tips: BTreeMap<CircleId, Vec<WireTip>> = BTreeMap::new();
        for key in std::mem::take(&mut self.sync.announce) {
            let Some(replica) = self.circles.get(&key.circle) else { continue };
            let height = replica.accepted(&key.author, &key.log);
            let Some(log) = replica.log(&key.author, &key.log).filter(|_| height > 0) else { continue };
            let head = if height == log.durable { log.durable_head } else { store.hash(&key, height - 1)? };
            let first = replica.decides(&key.author, log.kind);
            let forked = replica.shows_fork(&key);
            let tip = WireTip { author: key.author, log: key.log, first, height, head, forked };
            // What this node wrote, it pushed itself.
            if tip.author != self.me {
                tips.entry(key.circle).or_default().push(tip);
            }
        }
        let mut frames = Vec::new();
        for (peer, state) in &self.sync.peers {
            for (circle, tips) in &tips {
                let Some(shared) = state.shared.get(circle) else { continue };
                let known = |tip: &WireTip| shared.tips.get(&(tip.author, tip.log)).map_or(0, |theirs| theirs.height);
                let news: Vec<WireTip> = tips.iter().filter(|tip| known(tip) < tip.height).copied().collect();
                for tips in news.chunks(limits::TIPS_PER_FRAME) {
                    frames.push((*peer, Frame::Have { tag: shared.mine, tips: tips.to_vec() }));
                }
            }
        }
        frames.iter().for_each(|(peer, frame)| self.send(peer, frame));
        Ok(())
    }
}
