//! Operations that came before what they build on: kept until that comes, and then taken together, in their order.
//!
//! Who was away while stewards did much would otherwise ask all that hold them for all of their logs again with each
//! operation that comes, and take one at a time.
//!
//! This file refuses to judge operations: what waits is taken as any that a peer hands over is.

use std::collections::BTreeMap;

use cwn_crypto::{Hash, PublicKey};

use super::Want;
use crate::circle::Control;
use crate::engine::Engine;
use crate::limits;
use crate::log::{CircleId, Decoded, EntryBytes, LogKind, LogName};
use crate::replica::Replica;
use crate::store::Read;

/// The operations that wait, by who sent them: each keeps no more than its share of the room.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<PublicKey, OfPeer>);

/// Operations of one log.
#[derive(Debug)]
pub(super) struct Run {
    /// How many entries the log has with these.
    height: u64,
    /// The last of them.
    head: Hash,
    entries: Vec<EntryBytes>,
}

impl Run {
    /// What of a run may have to wait, if that is operations.
    pub(super) fn of_operations(run: &[Decoded]) -> Option<Self> {
        let last = run.last().filter(|last| last.header().suite.kind() == LogKind::Control)?;
        let entries = run.iter().map(|entry| entry.bytes().clone()).collect();
        Some(Self { height: last.header().seq + 1, head: last.hash(), entries })
    }

    /// Whether nothing of a log that has so many entries stands behind it.
    fn brings(&self, height: u64) -> bool {
        height <= self.height
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(EntryBytes::length).sum()
    }
}

#[derive(Debug, Default)]
struct OfPeer {
    runs: BTreeMap<(CircleId, LogName), Run>,
    bytes: usize,
}

impl OfPeer {
    fn remove(&mut self, key: &(CircleId, LogName)) {
        self.bytes -= self.runs.remove(key).as_ref().map_or(0, Run::bytes);
    }
}

impl Waiting {
    /// A peer is there no more.
    pub(super) fn gone(&mut self, peer: &PublicKey) {
        self.0.remove(peer);
    }

    /// Whether so much of a log waits here as a peer sent it, and need not be asked of it again.
    pub(super) fn waits(&self, peer: &PublicKey, key: &(CircleId, LogName), height: u64) -> bool {
        let run = self.0.get(peer).and_then(|of_peer| of_peer.runs.get(key));
        run.is_some_and(|run| run.brings(height))
    }

    /// What waits here need not be asked for again of who sent it.
    pub(super) fn block(&self, wants: &mut BTreeMap<(CircleId, LogName), Want>) {
        for (peer, of_peer) in &self.0 {
            for (key, run) in &of_peer.runs {
                let source = wants.get_mut(key).and_then(|want| want.sources.get_mut(peer));
                source.into_iter().for_each(|source| source.blocked |= run.brings(source.height));
            }
        }
    }

    /// What a peer sent builds on something that has not come.
    pub(super) fn put(&mut self, peer: PublicKey, key: (CircleId, LogName), run: Run) {
        let of_peer = self.0.entry(peer).or_default();
        of_peer.remove(&key);
        if of_peer.bytes + run.bytes() <= limits::WAITING_BYTES {
            of_peer.bytes += run.bytes();
            of_peer.runs.insert(key, run);
        }
    }

    /// What each peer sent of a circle.
    fn of_circle(&self, circle: &CircleId) -> Vec<Vec<EntryBytes>> {
        let of_peer = |of_peer: &OfPeer| -> Vec<EntryBytes> {
            let runs = of_peer.runs.iter().filter(|((of, _), _)| of == circle);
            runs.flat_map(|(_, run)| run.entries.iter().cloned()).collect()
        };
        self.0.values().map(of_peer).filter(|entries| !entries.is_empty()).collect()
    }

    /// Lets go of what is held by now.
    fn let_go(&mut self, replica: &Replica) {
        let circle = replica.id();
        for of_peer in self.0.values_mut() {
            let runs = of_peer.runs.iter().filter(|((of, _), _)| *of == circle);
            // What stands behind a fork is held beside its log.
            let held = runs.filter(|((_, (author, log)), run)| {
                run.height <= replica.log(author, log).map_or(0, |held| held.height) || replica.has_heard(&run.head)
            });
            let held: Vec<_> = held.map(|(key, _)| *key).collect();
            held.iter().for_each(|key| of_peer.remove(key));
        }
        self.0.retain(|_, of_peer| !of_peer.runs.is_empty());
    }
}

impl Engine {
    /// Operations came: those that waited for them are taken with what builds on those in turn. What each peer sent is looked
    /// at by itself, or one that sends something else in its place would keep what others sent from being taken.
    pub(crate) fn take_waiting(&mut self, circle: &CircleId, store: &dyn Read) {
        loop {
            let mut moved = false;
            for waiting in self.sync.waiting.of_circle(circle) {
                let Some(replica) = self.circles.get_mut(circle) else { return };
                let before = replica.control().map(Control::operations);
                let ingested = replica.ingest_operations(Decoded::decode_all(waiting));
                self.sync.waiting.let_go(replica);
                // What stands behind a fork is taken once more until it is durable, and nothing follows from that.
                moved |= replica.control().map(Control::operations) > before;
                self.keep(*circle, ingested.writes, ingested.membership_changed, store);
            }
            if !moved {
                return;
            }
        }
    }
}
