//! Entries that are held without something which a peer may have.
//!
//! An entry may come with a retraction in the place of its payload that nobody accepts: its author was removed below
//! it, or it lies behind a fork, or nowhere at all. Whoever sent it erased the payload while the retraction counted, or
//! made the retraction up for this node. The entry then shows nothing here, and as its hash is the same for all no
//! digest tells the difference. So the payload is asked of others, until one has it or the retraction is accepted
//! here. What this node erased itself stays so: its store gives no such payload room.
//!
//! And a retraction may be due that is not held as its author signed it, because what follows it vouches for it. What
//! it takes back is hidden; but nobody could be shown why the payload is gone. A peer may have it signed.
//!
//! A little of it is asked for at a time, and not often, for a member can write many such entries.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use cwn_crypto::{Hash, PublicKey, Time};

use super::{Purpose, Sync};
use crate::engine::{After, Engine, fact_key};
use crate::input::PullId;
use crate::limits;
use crate::log::{Authentic, EntryBytes, LogKey, Payload, Stored};
use crate::output::{Event, Output};
use crate::replica::read_entry;
use crate::retract::Retractions;
use crate::rot::{Rot, read_place};
use crate::store::{Damage, Read, Write};
use crate::wire::RunFrame;

pub(crate) const BARE_FACT: &[u8] = b"bare/";

/// The place of an entry.
type Place = (LogKey, u64);

/// What an entry is held without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// Its payload; the entry has this hash.
    Payload(Hash),
    /// Its author's own signature.
    Signature,
}

/// The entries that lack something.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    lacking: BTreeMap<Place, Lack>,
    /// Those of them that are asked for now, and of whom they were.
    asked: BTreeMap<Place, BTreeSet<PublicKey>>,
    /// Where the last round ended.
    passed: Option<Place>,
    /// When the next begins.
    pub(super) due: Option<Time>,
}

fn fact_of((key, seq): &Place) -> Vec<u8> {
    fact_key(BARE_FACT, &[&key.circle.0.0, &key.author.0, &key.log.0, &seq.to_be_bytes()])
}

fn is_bare(bytes: &EntryBytes) -> bool {
    matches!(bytes.payload, Payload::Retracted(_))
}

fn lacks(place: &Place, hash: Hash) -> Write {
    Write::Fact { key: fact_of(place), value: hash.0.to_vec() }
}

fn take_back(place: &Place) -> Write {
    Write::Fact { key: fact_of(place), value: Vec::new() }
}

impl Mending {
    /// A note that cannot be read back, or that a crash left out, is made anew from the entry, if that still lacks its
    /// payload.
    pub(crate) fn load(
        store: &dyn Read,
        (ends, retractions): (&[Stored], &Retractions),
        now: Time,
        rot: &mut Rot,
    ) -> Result<Self, Damage> {
        let (noted, lost) =
            rot.facts(store, (BARE_FACT, "the note of an entry without its payload"), |name, hash| {
                let place = read_place(name).ok_or("it names no place")?;
                Ok((place, Lack::Payload(Hash(hash.try_into().map_err(|_length| "it names no entry")?))))
            })?;
        let mut lacking: BTreeMap<Place, Lack> = noted.into_iter().collect();
        for (key, seq) in lost.iter().filter_map(|name| read_place(name)) {
            match read_entry(store, &key, seq).ok().filter(|entry| is_bare(entry.bytes())) {
                Some(entry) => {
                    rot.writes.push(lacks(&(key, seq), entry.hash()));
                    lacking.insert((key, seq), Lack::Payload(entry.hash()));
                }
                None => rot.writes.push(take_back(&(key, seq))),
            }
        }
        for end in ends.iter().filter(|end| is_bare(end.bytes())) {
            let (place, hash) = (end.place(), end.hash());
            if !lacking.contains_key(&place) && !retractions.erased_once(&(place.0, place.1, hash)) {
                rot.writes.push(lacks(&place, hash));
                lacking.insert(place, Lack::Payload(hash));
            }
        }
        let due = (!lacking.is_empty()).then(|| now.plus(limits::LACKING_AGAIN_MS));
        Ok(Self { lacking, due, ..Self::default() })
    }

    fn note(&mut self, place: Place, lack: Lack, now: Time) {
        self.lacking.entry(place).or_insert(lack);
        self.due.get_or_insert(now.plus(limits::LACKING_AGAIN_MS));
    }

    /// An entry is not asked for any more. Gives what takes the note of it back.
    pub(crate) fn settled(&mut self, place: &Place) -> Option<Write> {
        self.asked.remove(place);
        let noted = matches!(self.lacking.remove(place)?, Lack::Payload(_));
        noted.then(|| take_back(place))
    }
}

impl Engine {
    /// Notes an entry that comes with a retraction in the place of its payload which this node did not act on itself; gives
    /// what is to be written down with it.
    pub(crate) fn note_bare(&mut self, entry: &Authentic) -> Option<Write> {
        let (place, hash) = ((entry.key(), entry.header().seq), entry.hash());
        if !is_bare(entry.bytes()) || self.retractions.has_erased(&(place.0, place.1, hash)) {
            return None;
        }
        self.mending.note(place, Lack::Payload(hash), self.now);
        Some(lacks(&place, hash))
    }

    /// A retraction is due, and is not held as its author signed it.
    pub(crate) fn note_unsigned(&mut self, key: LogKey, seq: u64) {
        if self.mending.lacking.contains_key(&(key, seq)) {
            return;
        }
        self.mending.note((key, seq), Lack::Signature, self.now);
        self.output(Output::Emit(Event::RetractionUnsigned { key, seq }));
    }

    /// Begins to ask for some of what is lacking, when that is due.
    pub(super) fn begin_mending(&mut self, store: &dyn Read) {
        if self.mending.due.is_none_or(|due| due > self.now) {
            return;
        }
        let passed = self.mending.passed.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.mending.lacking.range((passed, Bound::Unbounded));
        let again = self.mending.passed.map(|passed| self.mending.lacking.range(..=passed));
        // What is taken back as far as is known now is not asked for.
        let open = |((key, seq), lack): &(&Place, &Lack)| match lack {
            Lack::Payload(hash) => !self.is_retracted(key, *seq, *hash),
            Lack::Signature => true,
        };
        let places = rest.chain(again.into_iter().flatten()).filter(open);
        let places: Vec<(Place, Lack)> = places.take(limits::MENDED_AT_ONCE).map(|(p, lack)| (*p, *lack)).collect();
        self.mending.passed = places.last().map(|(place, _)| *place);
        self.mending.asked.clear();
        let mut gone = Vec::new();
        for (place, lack) in places {
            match (lack, store.hash(&place.0, place.1)) {
                // Another branch of the log is held by now.
                (Lack::Payload(hash), Ok(Some(held))) if held != hash => gone.extend(self.mending.settled(&place)),
                _ => drop(self.mending.asked.insert(place, BTreeSet::new())),
            }
        }
        if !gone.is_empty() {
            self.store(gone, Vec::new());
        }
        let more = !self.mending.lacking.is_empty();
        self.mending.due = more.then(|| self.now.plus(limits::MEND_EVERY_MS));
    }

    /// Asks for what is lacking, each entry of one peer at a time, and each peer for one entry.
    pub(super) fn start_mending(&mut self) {
        if self.mending.asked.is_empty() {
            return;
        }
        let Sync { peers, pulls, .. } = &self.sync;
        let mends = || pulls.values().filter(|pull| pull.purpose == Purpose::Mend);
        let mut under_way: BTreeSet<Place> = mends().map(|pull| (pull.key(), pull.start)).collect();
        let mut open = !under_way.is_empty();
        let mut chosen: Vec<(PublicKey, Place)> = Vec::new();
        for (peer, state) in peers {
            let asks = |(place, asked): &(&Place, &BTreeSet<PublicKey>)| {
                state.shared.contains_key(&place.0.circle) && !asked.contains(peer)
            };
            open |= self.mending.asked.iter().any(|one| asks(&one));
            let of_peer = pulls.values().filter(|pull| pull.peer == *peer).count();
            if of_peer >= limits::PULLS_PER_PEER || mends().any(|pull| pull.peer == *peer) {
                continue;
            }
            let free = self.mending.asked.iter().filter(asks).map(|(place, _)| *place);
            if let Some(place) = free.into_iter().find(|place| !under_way.contains(place)) {
                under_way.insert(place);
                chosen.push((*peer, place));
            }
        }
        if !open {
            self.mending.asked.clear();
        }
        for (peer, place) in chosen {
            self.mending.asked.entry(place).or_default().insert(peer);
            self.ask_run(peer, place.0, place.1, None, Purpose::Mend);
        }
    }

    /// A frame of a run that was asked for because of its first entry.
    pub(super) fn mend_frame(&mut self, id: PullId, bytes: &[u8], store: &dyn Read) -> Result<(), Damage> {
        let Some(pull) = self.sync.pulls.remove(&id) else { return Ok(()) };
        self.output(Output::CancelPull { pull: id });
        let entry = RunFrame::from_bytes(bytes).ok().and_then(|frame| frame.entries.into_iter().next());
        entry.map_or(Ok(()), |entry| self.mend(&pull.key(), pull.start, &entry, store))
    }

    /// Takes of what a peer sent that which the same entry is held without.
    fn mend(&mut self, key: &LogKey, seq: u64, sent: &EntryBytes, store: &dyn Read) -> Result<(), Damage> {
        let Some(lack) = self.mending.lacking.get(&(*key, seq)).copied() else { return Ok(()) };
        let held = store.entry(key, seq)?.map(Stored::read);
        let Some(mended) = held.and_then(Result::ok).and_then(|held| held.mended(sent)) else { return Ok(()) };
        let payload_lacks = matches!(lack, Lack::Payload(_));
        if payload_lacks && mended.bytes().payload.sealed().is_none() {
            return Ok(());
        }
        let mended = [Write::Mend(mended)];
        let mut writes = self.note_expiring(&mended);
        writes.extend(mended);
        writes.extend(payload_lacks.then(|| take_back(&(*key, seq))));
        self.store(writes, vec![After::Mended { key: *key, seq }]);
        Ok(())
    }

    /// The store holds what an entry lacked.
    pub(crate) fn mended(&mut self, key: LogKey, seq: u64) {
        let lack = self.mending.lacking.get(&(key, seq)).copied();
        // That it is not lacking was written down with it.
        let _ = self.mending.settled(&(key, seq));
        match lack {
            Some(Lack::Payload(hash)) => {
                let retracted = self.is_retracted(&key, seq, hash);
                self.output(Output::Retracted { key, seq, hash, retracted });
            }
            Some(Lack::Signature) => self.judge_retractions(&key, seq),
            None => {}
        }
    }
}
