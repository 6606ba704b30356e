//! Live: an author pushes what it wrote to every connected member; everybody announces what became durable.
//!
//! Push is a hint, never the only way: what is lost of it the next comparison finds. Nobody pushes what others wrote: who
//! has no connection with the author hears of a height from neighbours, and pulls it from one of them at once. So an
//! entry goes over the line to each receiver once, however many neighbours have it.

use std::collections::BTreeMap;

use cwn_crypto::{Hash, PublicKey, Time};

use super::{Shared, records};
use crate::engine::Engine;
use crate::epoch::SignedRecord;
use crate::limits;
use crate::log::{Authentic, CircleId, Decoded, EntryBytes, LogKey, LogKind};
use crate::replica::Stop;
use crate::store::{Damage, Read};
use crate::wire::{Frame, Tag, WireTip};

impl Engine {
    /// Pushes an own entry, which is durable, to every connected member.
    pub(crate) fn push(&mut self, entry: &Authentic, store: &dyn Read) {
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
                // Whoever lacks it pulls, here or elsewhere; the entry itself is not kept back.
                let record = records::read_record(store, &circle, &hash).ok();
                if record.is_none() {
                    self.record_damaged(circle, hash, store);
                }
                record
            }
        };
        for (peer, tag, news) in targets {
            let record = record.clone().filter(|_| news);
            self.send(&peer, &Frame::Push { tag, record, entry: entry.bytes().clone() });
        }
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
            // Its author pushes what it wrote whole; without its payload it is pulled, where it may be.
            Ok(entry) if self.shuns(&entry) || self.lacks_payload(&entry) => return Ok(()),
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
            if author == *peer {
                self.sync.pushed.insert(LogKey { circle, author, log });
            }
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
        let pushed = std::mem::take(&mut self.sync.pushed);
        // Where all are connected with all, the author pushed it to everybody; it is said to a few all the same, for
        // whoever has lost its connection with the author.
        let all_to_all = self.word().unrevoked().count() <= limits::ALL_TO_ALL;
        let mut tips: BTreeMap<CircleId, Vec<(WireTip, usize)>> = BTreeMap::new();
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
                let few = all_to_all && pushed.contains(&key);
                let to = if few { limits::ANNOUNCE_TO } else { usize::MAX };
                tips.entry(key.circle).or_default().push((tip, to));
            }
        }
        let mut news: BTreeMap<(PublicKey, Tag), Vec<WireTip>> = BTreeMap::new();
        for (circle, tips) in tips {
            for (tip, to) in tips {
                let height = |shared: &Shared| shared.tips.get(&(tip.author, tip.log)).map_or(0, |tip| tip.height);
                let sharing =
                    self.sync.peers.iter().filter_map(|(peer, state)| Some((*peer, state.shared.get(&circle)?)));
                let lacking = sharing.filter(|(peer, shared)| *peer != tip.author && height(shared) < tip.height);
                let mut lacking: Vec<(PublicKey, Tag)> = lacking.map(|(peer, shared)| (peer, shared.mine)).collect();
                if lacking.len() > to {
                    let seed = tip.head.unwrap_or(Hash(tip.author.0));
                    lacking.sort_by_key(|(peer, _)| distance(&self.me.0, &peer.0, &seed.0));
                    lacking.truncate(to);
                }
                lacking.into_iter().for_each(|target| news.entry(target).or_default().push(tip));
            }
        }
        for ((peer, tag), tips) in news {
            for tips in tips.chunks(limits::TIPS_PER_FRAME) {
                self.send(&peer, &Frame::Have { tag, tips: tips.to_vec() });
            }
        }
        Ok(())
    }

    /// When what a peer says that it holds of an author's log is asked for: the author's own push may be on its way, if
    /// there is a connection for it.
    pub(super) fn due_of(&self, circle: &CircleId, author: &PublicKey) -> Time {
        let connected = self.sync.peers.get(author).is_some_and(|state| state.shared.contains_key(circle));
        self.now.plus(if connected { limits::PULL_WAIT_MS } else { 0 })
    }
}

/// An order of peers that is another for each node and each occasion.
pub(super) fn distance(me: &[u8; 32], peer: &[u8; 32], occasion: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|index| me[index] ^ peer[index] ^ occasion[index])
}
