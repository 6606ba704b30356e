//! Epoch records that rot took from this node, asked of members again, each of one at a time.
//!
//! What comes is known by its hash, and verified as one that comes with a run. Until then what was sealed to the epoch
//! stays closed here, and this node seals nothing more to it. Its own logs it holds up to there only, and goes on in
//! another: should nobody else have the record, nobody can take what is sealed to it, nor what a log holds behind that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use cwn_crypto::{Domain, Hash, PublicKey, Time, encoding};

use super::Sync;
use crate::engine::Engine;
use crate::epoch::{RecordRefusal, SignedRecord};
use crate::limits;
use crate::log::{CircleId, LogKey};
use crate::output::{Event, Output};
use crate::planted::{Bug, planted};
use crate::replica::Log;
use crate::rot::Rot;
use crate::store::{Damage, Read, Write};
use crate::wire::Frame;

/// The records that this node lacks, over all peers.
#[derive(Debug, Default)]
pub(super) struct Records {
    lost: BTreeMap<CircleId, Lost>,
    /// When to look next whom to ask.
    pub(super) due: Option<Time>,
}

/// The records that are lost of one circle.
#[derive(Debug, Default)]
struct Lost {
    epochs: BTreeSet<Hash>,
    /// Who was asked since the last of them came, or since all had been asked.
    asked: BTreeSet<PublicKey>,
    /// The last of those that all were asked for: next come those behind it.
    passed: Option<Hash>,
}

impl Lost {
    /// Those that are asked for now.
    fn wanted(&self) -> Vec<Hash> {
        let passed = self.passed.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.epochs.range((passed, Bound::Unbounded));
        let again = self.passed.map(|passed| self.epochs.range(..=passed));
        behind.chain(again.into_iter().flatten()).take(limits::RECORDS_AT_ONCE).copied().collect()
    }
}

pub(super) fn read_record(store: &dyn Read, circle: &CircleId, epoch: &Hash) -> Result<SignedRecord, Damage> {
    let damage = |why: String| Damage { what: format!("epoch record {epoch}"), why };
    let bytes = store.record(circle, epoch)?.ok_or_else(|| damage("it is not there".to_owned()))?;
    let record: SignedRecord =
        encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).map_err(|refusal| damage(refusal.to_string()))?;
    match record.hash(Domain::EPOCH) == *epoch {
        true => Ok(record),
        false => Err(damage("another stands in its place".to_owned())),
    }
}

impl Engine {
    /// Takes the records of a circle back into memory. Those that cannot be read back, and those that logs build on and
    /// the store does not know, are asked of members.
    pub(crate) fn load_records(&mut self, circle: CircleId, hashes: Vec<Hash>, store: &dyn Read, rot: &mut Rot) {
        let Some(replica) = self.circles.get_mut(&circle) else { return };
        let named: BTreeSet<Hash> = hashes.iter().copied().collect();
        let mut lost = Vec::new();
        for hash in hashes {
            match read_record(store, &circle, &hash) {
                Ok(record) => {
                    if let Err(refusal) = replica.load_record(hash, record) {
                        rot.damages.push(Damage { what: format!("epoch record {hash}"), why: refusal.to_string() });
                    }
                }
                Err(damage) => {
                    rot.damages.push(damage);
                    lost.push(hash);
                }
            }
        }
        let built_on: BTreeSet<Hash> = replica.logs().filter_map(|(_, log)| log.epoch).collect();
        for hash in built_on.difference(&named) {
            let (what, why) = (format!("epoch record {hash}"), "it is not there".to_owned());
            rot.damages.push(Damage { what, why });
            lost.push(*hash);
        }
        self.records_lost(circle, lost.into_iter().collect(), store);
    }

    fn records_lost(&mut self, circle: CircleId, epochs: BTreeSet<Hash>, store: &dyn Read) {
        let Some(replica) = self.circles.get_mut(&circle).filter(|_| !epochs.is_empty()) else { return };
        epochs.iter().for_each(|epoch| replica.record_lost(epoch));
        let own = replica.before_epochs(&self.me, &epochs, store);
        own.iter().for_each(|(key, height)| replica.hold_own_up_to(store, key, *height));
        // One whose first entry of such an epoch is being written goes no further either.
        let goes_on = |(key, log): (LogKey, &Log)| log.epoch.filter(|epoch| epochs.contains(epoch)).map(|_| key);
        let left: Vec<LogKey> = replica.logs_of(&self.me).filter_map(goes_on).collect();
        own.iter().map(|(key, _)| key).chain(&left).for_each(|key| self.leave_log(key));
        own.iter().for_each(|(key, _)| self.tell_accepted_with(key));
        self.sync.records.lost.entry(circle).or_default().epochs.extend(epochs);
        self.sync.records.due = Some(self.now);
        self.sync.digests.remove(&circle);
    }

    /// Somebody could not read a record back.
    pub(crate) fn record_damaged(&mut self, circle: CircleId, epoch: Hash, store: &dyn Read) {
        let known = self.sync.records.lost.get(&circle).is_some_and(|lost| lost.epochs.contains(&epoch));
        if known || !self.circles.contains_key(&circle) {
            return;
        }
        if let Err(damage) = read_record(store, &circle, &epoch) {
            self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
            self.records_lost(circle, BTreeSet::from([epoch]), store);
        }
    }

    /// A peer came to share a circle: it may have what was lost of it.
    pub(super) fn records_may_come(&mut self, circle: &CircleId, peer: &PublicKey) {
        if let Some(lost) = self.sync.records.lost.get_mut(circle) {
            lost.asked.remove(peer);
            self.sync.records.due = Some(self.now);
        }
    }

    /// Asks, in each circle of which records are lost, the next member for them.
    pub(super) fn ask_for_records(&mut self) {
        let now = self.now;
        if self.sync.records.due.is_none_or(|due| due > now) || planted(Bug::LostRecordsStay) {
            return;
        }
        let mut ask = Vec::new();
        let mut waits = None;
        let Sync { peers, records, .. } = &mut self.sync;
        for (circle, lost) in &mut records.lost {
            let sharing = peers.iter().filter_map(|(peer, state)| Some((*peer, state.shared.get(circle)?.mine)));
            let sharing: Vec<_> = sharing.collect();
            match sharing.iter().find(|(peer, _)| !lost.asked.contains(peer)) {
                Some((peer, tag)) => {
                    lost.asked.insert(*peer);
                    ask.push((*peer, Frame::WantRecords { tag: *tag, epochs: lost.wanted() }));
                    waits = Some(limits::PULL_STALL_MS);
                }
                None => {
                    // Somebody may have got them meanwhile; and what nobody has keeps the others waiting no longer.
                    lost.asked.clear();
                    lost.passed = lost.wanted().last().copied();
                    waits = waits.or_else(|| (!sharing.is_empty()).then_some(limits::KEY_RETRY_MS));
                }
            }
        }
        records.due = waits.map(|wait| now.plus(wait));
        ask.into_iter().for_each(|(peer, frame)| self.send(&peer, &frame));
    }

    /// A peer lost records of a circle that it counts in: it is sent those that can be read here, as many as a frame
    /// takes.
    pub(super) fn records_wanted(&mut self, peer: &PublicKey, circle: CircleId, epochs: &[Hash], store: &dyn Read) {
        if epochs.len() > limits::RECORDS_AT_ONCE {
            return self.fault(peer, circle, "it asks for more epoch records than may be asked for at once".to_owned());
        }
        let now = self.now;
        let Some(shared) = self.shared(peer, &circle).filter(|shared| shared.records_after <= now) else { return };
        shared.records_after = now.plus(limits::COMPARE_EVERY_MS);
        let tag = shared.mine;
        let Some(replica) = self.circles.get(&circle) else { return };
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in epochs.iter().filter(|epoch| replica.has_durable(epoch)) {
            // Whoever needs it here finds what is damaged, and says so.
            let Ok(record) = read_record(store, &circle, record) else { continue };
            bytes += record.bytes().len();
            if bytes > limits::FRAME_BYTES / 2 && !records.is_empty() {
                break;
            }
            records.push(record);
        }
        self.send(peer, &Frame::Records { tag, records });
    }

    /// A peer sends records that it was asked for.
    pub(super) fn records_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        records: Vec<SignedRecord>,
        store: &dyn Read,
    ) {
        let Some(lost) = self.sync.records.lost.get_mut(&circle) else { return };
        // What nobody asked for is not looked at.
        if !lost.asked.contains(peer) {
            return;
        }
        let of_lost = |record: &SignedRecord| lost.epochs.contains(&record.hash(Domain::EPOCH));
        let records: Vec<SignedRecord> = records.into_iter().filter(of_lost).collect();
        self.sync.records.due = Some(self.now.plus(2 * limits::COMPARE_EVERY_MS));
        let came = self.take_records(peer, circle, records, store);
        if let Some(lost) = self.sync.records.lost.get_mut(&circle).filter(|_| came) {
            // It may have more of them.
            lost.asked.remove(peer);
        }
    }

    /// Takes records that were lost and came again; false when none did. Its hash says nothing of a record's signature, so
    /// that is looked at too of one that was loaded before rot took its bytes.
    fn take_records(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        records: Vec<SignedRecord>,
        store: &dyn Read,
    ) -> bool {
        let Some(replica) = self.circles.get_mut(&circle) else { return false };
        let (mut known, mut others, mut refused) = (Vec::new(), Vec::new(), None);
        for record in records {
            let hash = record.hash(Domain::EPOCH);
            match replica.verify(&record) {
                Ok(_) if replica.epoch(&hash).is_some() => {
                    known.push(Write::Record { circle, hash, bytes: encoding::to_bytes(&record) });
                }
                Ok(_) => others.push(record),
                Err(RecordRefusal::Missing) => {}
                Err(refusal) => refused = Some(refusal),
            }
        }
        let ingested = replica.ingest_records(others);
        let mut writes = known;
        writes.extend(ingested.writes);
        let came = !writes.is_empty();
        self.keep(circle, writes, ingested.membership_changed, store);
        if let Some(refusal) = refused {
            self.fault(peer, circle, refusal.to_string());
        }
        came
    }

    /// The record of an epoch is durable. If it was lost, what is sealed to the epoch opens from here on.
    pub(crate) fn record_found(&mut self, circle: CircleId, epoch: Hash) {
        let Some(lost) = self.sync.records.lost.get_mut(&circle) else { return };
        if !lost.epochs.remove(&epoch) {
            return;
        }
        if lost.epochs.is_empty() {
            self.sync.records.lost.remove(&circle);
        }
        self.output(Output::Given { circle, epochs: vec![epoch] });
        self.sync.unblock(&circle, self.now);
    }
}
