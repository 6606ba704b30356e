//! Disks: what was synced, apart from what was not.
//!
//! Writes wait in a queue; a sync takes all that wait and takes its time. A crash keeps what was synced, and of what
//! was not any beginning, for that is what a torn tail is once it was cut back. An entry, an epoch record or a fact at
//! rest may rot: reading it then gives [`Damage`], as a checksum would find it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cwn_crypto::{Hash, PublicKey, issuer_log::LogId};
use cwn_engine::{
    input::Ticket,
    log::{CircleId, EntryBytes, LogKey, Payload, Retraction},
    planted::{Bug, planted},
    replica::Replica,
    store::{Damage, Fact, Read, Tip, Write},
};

/// An entry at its place, with its hash.
type Place = (Hash, Arc<EntryBytes>);

/// How every assertion of a store begins, so that it is told from any other panic.
pub(crate) const ASSERTS: &str = "a store is handed";

/// What a node's store takes as the value of a fact.
const VALUE_BYTES: usize = 1 << 20;

/// Entries in one piece of a log.
const PIECE: usize = 64;

/// One log as it lies there, in pieces: disks that hold the same have them in memory once, whatever each writes
/// behind them.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldLog(Vec<Arc<Vec<Place>>>);

impl HeldLog {
    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PIECE + last.len())
    }

    /// The entry at a place.
    pub(crate) fn get(&self, place: usize) -> Option<&Place> {
        self.0.get(place / PIECE)?.get(place % PIECE)
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<&Place> {
        self.0.last()?.last()
    }

    /// All entries in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().flat_map(|piece| piece.iter())
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Place> {
        Arc::make_mut(self.0.get_mut(place / PIECE)?).get_mut(place % PIECE)
    }

    fn push(&mut self, entry: Place) {
        match self.0.last_mut() {
            Some(last) if last.len() < PIECE => Arc::make_mut(last).push(entry),
            _ => self.0.push(Arc::new(vec![entry])),
        }
    }

    fn truncate(&mut self, length: usize) {
        if length >= self.len() {
            return;
        }
        self.0.truncate(length.div_ceil(PIECE));
        if let Some(last) = self.0.last_mut().filter(|_| !length.is_multiple_of(PIECE)) {
            Arc::make_mut(last).truncate(length % PIECE);
        }
    }
}

/// What is durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) logs: BTreeMap<LogKey, HeldLog>,
    pub(crate) records: BTreeMap<(CircleId, Hash), Arc<Vec<u8>>>,
    pub(crate) facts: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What was erased, by place: nothing brings its payload back.
    pub(crate) erased: BTreeMap<(LogKey, u64), (Hash, Retraction)>,
}

impl Held {
    /// How many entries of a log are there.
    pub(crate) fn height(&self, key: &LogKey) -> u64 {
        self.logs.get(key).map_or(0, HeldLog::len) as u64
    }

    /// Whether exactly the logs of a circle that a replica was loaded from are here.
    pub(crate) fn holds_just(&self, replica: &Replica) -> bool {
        let logs = self.logs.iter().filter(|(key, _)| key.circle == replica.id());
        let here = logs.map(|(key, log)| (*key, log.last().map(|(hash, _)| *hash)));
        here.eq(replica.logs().map(|(key, log)| (key, Some(log.head))))
    }

    /// The hash of the entry at a place.
    pub(crate) fn hash_at(&self, key: &LogKey, seq: u64) -> Option<Hash> {
        self.logs.get(key)?.get(usize::try_from(seq).ok()?).map(|(hash, _)| *hash)
    }

    /// Gives up what a log holds from a place on.
    fn cut_off(&mut self, key: &LogKey, seq: u64) {
        let Some(log) = self.logs.get_mut(key) else { return };
        log.truncate(seq as usize);
        if log.len() == 0 {
            self.logs.remove(key);
        }
    }

    /// Takes the payload out of an entry that was erased, if it is there.
    fn blank(&mut self, key: &LogKey, seq: u64) {
        let Some((hash, because)) = self.erased.get(&(*key, seq)) else { return };
        let entry = self.logs.get_mut(key).and_then(|log| log.get_mut(seq as usize));
        if let Some((_, bytes)) = entry.filter(|(held, _)| held == hash) {
            let payload = Payload::Retracted(because.clone());
            *bytes = Arc::new(EntryBytes { payload, ..(**bytes).clone() });
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Entry(entry) => {
                let seq = entry.header().seq;
                let log = self.logs.entry(entry.key()).or_default();
                // What is held already is not written again.
                if log.len() as u64 == seq {
                    log.push((entry.hash(), Arc::new(entry.bytes().clone())));
                } else {
                    assert!(seq < log.len() as u64, "{ASSERTS} every log in order");
                    let held = log.get(seq as usize).map(|(hash, _)| *hash);
                    assert_eq!(held, Some(entry.hash()), "{ASSERTS} one entry for one place");
                }
                self.blank(&entry.key(), seq);
            }
            Write::Mend(entry) => {
                let seq = entry.header().seq;
                let held = self.logs.get_mut(&entry.key()).and_then(|log| log.get_mut(seq as usize));
                if let Some((_, bytes)) = held.filter(|(hash, _)| *hash == entry.hash()) {
                    *bytes = Arc::new(entry.bytes().clone());
                }
                self.blank(&entry.key(), seq);
            }
            Write::Rewind { key, height } => {
                if let Some(log) = self.logs.get_mut(key) {
                    log.truncate(*height as usize);
                }
                if *height == 0 {
                    self.logs.remove(key);
                }
            }
            Write::Erase { key, seq, hash, because } => {
                self.erased.insert((*key, *seq), (*hash, because.clone()));
                self.blank(key, *seq);
            }
            Write::Drop { key, seq, hash } => {
                let entry = self.logs.get_mut(key).and_then(|log| log.get_mut(*seq as usize));
                if let Some((_, bytes)) = entry.filter(|(held, bytes)| held == hash && bytes.payload.sealed().is_some())
                {
                    *bytes = Arc::new(EntryBytes { payload: Payload::Dropped, ..(**bytes).clone() });
                }
            }
            Write::Record { circle, hash, bytes } => {
                self.records.entry((*circle, *hash)).or_insert_with(|| Arc::new(bytes.clone()));
            }
            Write::Fact { key, value } if value.is_empty() => drop(self.facts.remove(key)),
            Write::Fact { key, value } => {
                assert!(value.len() <= VALUE_BYTES, "{ASSERTS} no fact of {} bytes", value.len());
                self.facts.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The disk of one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    held: Held,
    waiting: VecDeque<(Ticket, Vec<Write>)>,
    /// How many of those the sync under way covers.
    syncing: usize,
    /// From where on logs are gone with the power all the same: what a planted bug left out of syncs.
    loose: BTreeMap<LogKey, u64>,
    rotten: BTreeSet<(LogKey, u64)>,
    rotten_records: BTreeSet<(CircleId, Hash)>,
    rotten_facts: BTreeSet<Vec<u8>>,
    /// The records among those that the node found, at its last start or since.
    found_rotten: BTreeSet<(CircleId, Hash)>,
    ever_rotten: bool,
    full: bool,
}

/// A disk has no room for what it is handed.
#[derive(Debug)]
pub(crate) struct Full;

impl Disk {
    /// What is durable.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Hands over writes. True when a sync must be started for them.
    pub(crate) fn submit(&mut self, ticket: Ticket, writes: Vec<Write>) -> Result<bool, Full> {
        if self.full {
            return Err(Full);
        }
        self.waiting.push_back((ticket, writes));
        Ok(self.begin_sync())
    }

    /// From now on it takes no writes, or takes them again.
    pub(crate) fn fill(&mut self, full: bool) {
        self.full = full;
    }

    /// Starts a sync of all that waits, if there is any and none is under way.
    pub(crate) fn begin_sync(&mut self) -> bool {
        if self.syncing > 0 || self.waiting.is_empty() {
            return false;
        }
        self.syncing = self.waiting.len();
        true
    }

    /// The sync came to its end: these are durable now.
    pub(crate) fn end_sync(&mut self) -> Vec<(Ticket, Vec<Write>)> {
        let synced: Vec<_> = self.waiting.drain(..self.syncing).collect();
        self.syncing = 0;
        for write in synced.iter().flat_map(|(_, writes)| writes) {
            if let Write::Entry(entry) = write
                && planted(Bug::SkipSync)
            {
                self.loose.entry(entry.key()).or_insert(entry.header().seq);
            }
            self.write(write);
        }
        synced
    }

    /// Power or process ends. Of the writes that were not synced so many made it all the same; `draw` says how many
    /// of how many. Gives back those that did, in order.
    pub(crate) fn crash(&mut self, draw: impl FnOnce(u64) -> u64) -> Vec<Write> {
        let mut writes: Vec<Write> = self.waiting.drain(..).flat_map(|(_, writes)| writes).collect();
        self.syncing = 0;
        for (key, seq) in std::mem::take(&mut self.loose) {
            writes.retain(|write| !matches!(write, Write::Entry(entry) if entry.key() == key));
            self.held.cut_off(&key, seq);
        }
        writes.truncate(draw(writes.len() as u64 + 1) as usize);
        writes.iter().for_each(|write| self.write(write));
        writes
    }

    fn write(&mut self, write: &Write) {
        // What cannot be read back is written once more.
        match write {
            Write::Entry(entry) => drop(self.rotten.remove(&(entry.key(), entry.header().seq))),
            Write::Record { circle, hash, .. } => {
                self.rotten_records.remove(&(*circle, *hash));
                // Should it rot once more, that is to be found anew.
                self.found_rotten.remove(&(*circle, *hash));
            }
            Write::Fact { key, .. } => drop(self.rotten_facts.remove(key)),
            Write::Mend(_) | Write::Rewind { .. } | Write::Erase { .. } | Write::Drop { .. } => {}
        }
        self.held.write(write);
    }

    /// A copy of the whole disk as it is at rest, rot and all.
    pub(crate) fn copy(&self) -> Self {
        Self { waiting: VecDeque::new(), syncing: 0, loose: BTreeMap::new(), full: false, ..self.clone() }
    }

    /// Puts back an older state, whole.
    pub(crate) fn restore(&mut self, backup: Held) {
        self.waiting.clear();
        self.syncing = 0;
        self.loose.clear();
        self.rotten.clear();
        self.rotten_records.clear();
        self.rotten_facts.clear();
        self.held = backup;
    }

    /// An entry at rest rots.
    pub(crate) fn rot(&mut self, key: LogKey, seq: u64) {
        self.rotten.insert((key, seq));
        self.ever_rotten = true;
    }

    /// An epoch record rots.
    pub(crate) fn rot_record(&mut self, circle: CircleId, hash: Hash) {
        self.rotten_records.insert((circle, hash));
        self.ever_rotten = true;
    }

    /// The value of a fact rots; its name is known all the same.
    pub(crate) fn rot_fact(&mut self, key: Vec<u8>) {
        self.rotten_facts.insert(key);
        self.ever_rotten = true;
    }

    /// Whether a fact is held and can be read back.
    pub(crate) fn can_read_fact(&self, key: &[u8]) -> bool {
        self.held.facts.contains_key(key) && !self.rotten_facts.contains(key)
    }

    /// Whether a fact is held and cannot be read back.
    pub(crate) fn has_rotten_fact(&self, key: &[u8]) -> bool {
        self.rotten_facts.contains(key)
    }

    /// The epoch records of a circle that cannot be read back, whether its node knows or not.
    pub(crate) fn rotten_records(&self, circle: &CircleId) -> impl Iterator<Item = &Hash> {
        self.rotten_records.iter().filter(move |(of, _)| of == circle).map(|(_, hash)| hash)
    }

    /// The node met a record that cannot be read back.
    pub(crate) fn find_rotten(&mut self, circle: CircleId, epoch: Hash) {
        self.found_rotten.insert((circle, epoch));
    }

    /// Those among them that the node found, at its last start or since.
    pub(crate) fn lost_records(&self, circle: &CircleId) -> impl Iterator<Item = &Hash> {
        let lost = self.found_rotten.intersection(&self.rotten_records);
        lost.filter(move |(of, _)| of == circle).map(|(_, hash)| hash)
    }

    /// Whether anything ever rotted here.
    pub(crate) fn ever_rotten(&self) -> bool {
        self.ever_rotten
    }

    /// Whether this very entry is held, with all of its log before it, so that others can be sent it.
    pub(crate) fn can_send(&self, key: &LogKey, seq: u64, hash: Hash) -> bool {
        let rotten = self.rotten.range((*key, 0)..=(*key, seq)).next().is_some();
        self.held.hash_at(key, seq) == Some(hash) && !rotten
    }

    /// Whether this very entry is held and can be read back, whatever stands before it.
    pub(crate) fn can_read(&self, key: &LogKey, seq: u64, hash: Hash) -> bool {
        self.held.hash_at(key, seq) == Some(hash) && !self.is_rotten(key, seq)
    }

    /// The entries of a circle that cannot be read back.
    pub(crate) fn rotten(&self, circle: &CircleId) -> impl Iterator<Item = (&LogKey, u64)> {
        self.rotten.iter().filter(move |(key, _)| key.circle == *circle).map(|(key, seq)| (key, *seq))
    }

    /// Whether an entry cannot be read back.
    pub(crate) fn is_rotten(&self, key: &LogKey, seq: u64) -> bool {
        self.rotten.contains(&(*key, seq))
    }

    /// What a start finds: a log with a rotten entry is held up to there, so that peers can bring the rest again.
    /// Gives back the places that were lost by it, and what stood there.
    pub(crate) fn scrub(&mut self) -> Vec<(LogKey, u64, Hash)> {
        self.found_rotten = self.rotten_records.clone();
        let mut lost = Vec::new();
        for (key, seq) in std::mem::take(&mut self.rotten) {
            let Some(log) = self.held.logs.get(&key) else { continue };
            let places = (0_u64..).zip(log.iter()).skip(seq as usize);
            lost.extend(places.map(|(seq, (hash, _))| (key, seq, *hash)));
            self.held.cut_off(&key, seq);
        }
        lost
    }

    /// Every log of one author in all circles, by its name.
    pub(crate) fn log_named(&self, circle: CircleId, author: PublicKey, log: LogId) -> Option<&HeldLog> {
        self.held.logs.get(&LogKey { circle, author, log })
    }
}

fn tip_of(log: &HeldLog) -> Option<Tip> {
    Some(Tip { height: log.len() as u64, head: log.last()?.0 })
}

impl Read for Disk {
    fn entry(&self, key: &LogKey, seq: u64) -> Result<Option<EntryBytes>, Damage> {
        if self.is_rotten(key, seq) && self.held.height(key) > seq {
            return Err(Damage { what: format!("entry {seq} of log {}", key.log), why: "its checksum differs".into() });
        }
        Ok(self.held.logs.get(key).and_then(|log| log.get(seq as usize)).map(|(_, bytes)| (**bytes).clone()))
    }

    fn hash(&self, key: &LogKey, seq: u64) -> Result<Option<Hash>, Damage> {
        Ok(self.held.hash_at(key, seq))
    }

    fn bytes(&self, key: &LogKey, from: u64, to: u64) -> Result<u64, Damage> {
        let log = self.held.logs.get(key);
        let entries = (from..to).map_while(|seq| log?.get(seq as usize));
        Ok(entries.map(|(_, bytes)| (bytes.header.len() + bytes.payload.len()) as u64).sum())
    }

    fn tip(&self, key: &LogKey) -> Result<Option<Tip>, Damage> {
        Ok(self.held.logs.get(key).and_then(tip_of))
    }

    fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage> {
        Ok(self.held.logs.iter().filter_map(|(key, log)| Some((*key, tip_of(log)?))).collect())
    }

    fn record(&self, circle: &CircleId, hash: &Hash) -> Result<Option<Vec<u8>>, Damage> {
        if self.rotten_records.contains(&(*circle, *hash)) {
            return Err(Damage { what: format!("epoch record {hash}"), why: "its checksum differs".into() });
        }
        Ok(self.held.records.get(&(*circle, *hash)).map(|bytes| bytes.to_vec()))
    }

    fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage> {
        Ok(self.held.records.keys().copied().collect())
    }

    fn facts(&self, prefix: &[u8]) -> Result<Vec<Fact>, Damage> {
        let from = self.held.facts.range(prefix.to_vec()..);
        let starts = from.take_while(|(key, _)| key.starts_with(prefix));
        let read = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            let damage = || Damage { what: "a fact".into(), why: "its checksum differs".into() };
            let value = if self.rotten_facts.contains(key) { Err(damage()) } else { Ok(value.clone()) };
            Fact { key: key.clone(), value }
        };
        Ok(starts.map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::Signature;

    use super::*;

    fn entry(number: usize) -> Place {
        let bytes = EntryBytes {
            header: number.to_be_bytes().to_vec(),
            signature: Signature([0; 64]),
            payload: Payload::Sealed(Vec::new()),
        };
        (Hash([number as u8; 32]), Arc::new(bytes))
    }

    /// The same entries as in a list, whatever was pushed and cut off.
    fn check(log: &HeldLog, list: &[Place]) {
        assert_eq!(log.iter().collect::<Vec<_>>(), list.iter().collect::<Vec<_>>());
        assert_eq!((log.len(), log.last()), (list.len(), list.last()));
        (0..list.len() + 2).for_each(|place| assert_eq!(log.get(place), list.get(place)));
    }

    #[test]
    fn a_log_in_pieces_is_a_list() {
        let (mut log, mut list) = (HeldLog::default(), Vec::new());
        for length in [0, 1, 63, 64, 65, 128, 200, 257, 130, 128, 64, 300, 1, 0, 70] {
            for number in list.len()..length {
                log.push(entry(number));
                list.push(entry(number));
            }
            check(&log, &list);
            for beyond in [list.len() + 1, list.len() + 57, list.len() + 64] {
                log.truncate(beyond);
                check(&log, &list);
            }
            log.truncate(length);
            list.truncate(length);
            check(&log, &list);
        }
    }

    #[test]
    fn what_one_disk_writes_or_gives_up_is_not_on_another_that_shared_its_log() {
        let mut one = HeldLog::default();
        (0..70).for_each(|number| one.push(entry(number)));
        let before: Vec<Place> = one.iter().cloned().collect();
        let mut other = one.clone();
        other.push(entry(70));
        one.truncate(66);
        if let Some(place) = one.get_mut(2) {
            *place = entry(9);
        }
        assert_eq!(other.iter().take(70).collect::<Vec<_>>(), before.iter().collect::<Vec<_>>());
        assert_eq!((one.len(), other.len()), (66, 71));
    }
}
