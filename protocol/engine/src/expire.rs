//! Payloads that time drops: those past the expiry that their author named, and those older than the circle's policy
//! keeps them. Headers, hashes and heads stay, so that nobody counts as lacking anything.
//!
//! Each node drops by its own clock and by the policy as it knows it, and nothing while its clock may be wrong
//! ([`crate::keep`]). What says who belongs, what takes something back, and the network circle are never dropped. A
//! retention that was shortened is acted on a week after it was first seen, so that a steward's mistake, or a thief's
//! doing, can be put right; one that was lengthened at once. What is dropped is not fetched again.
//!
//! A peer that dropped a payload sends the header alone. It is taken where this node's own clock and the policies that
//! the circle ever had say that it may be gone; until then it is asked of others, and nobody is blamed.
//!
//! Looking through logs costs reads, and taking payloads out of segments writes those anew: so all that is due is
//! looked for together, in small steps, and leaves in one write.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, PublicKey, Time, encoding, issuer_log::LogId};
use minicbor::{Decode, Encode};

use crate::{
    engine::{After, Engine, fact_key},
    limits,
    log::{CircleId, Decoded, Header, LogKey, LogKind, Payload},
    output::{Event, Output},
    planted::{Bug, planted},
    replica::{Replica, read_entry},
    rot::{Logs, Rot, height_in, read_circle, read_log},
    store::{Damage, Read, Write},
};

pub(crate) const DROPPED_FACT: &[u8] = b"dropped/";
pub(crate) const RETENTION_FACT: &[u8] = b"retention/";

/// What was dropped of one log and what is to be, as it is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
struct Noted {
    /// So many payloads were dropped.
    #[n(0)]
    entries: u64,
    /// Of so many bytes together.
    #[n(1)]
    bytes: u64,
    /// No entry before this place has a payload that a retention could drop.
    #[n(2)]
    from: u64,
    /// No payload that is held expires earlier.
    #[n(3)]
    expiry: Option<Time>,
    /// More is being dropped, of which the store may have done any part by now: after a start it is counted anew.
    #[n(4)]
    dropping: Option<()>,
}

/// One log of which something will be dropped.
#[derive(Debug, Clone, Copy, Default)]
struct Aging {
    noted: Noted,
    /// When the entry at `from` was written, or earlier; only where there is a retention.
    first: Option<Time>,
    /// When it is due.
    due: Option<Time>,
}

/// How long payloads of a circle are kept, as it is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
struct Kept {
    /// The days that are acted on; without end when there are none.
    #[n(0)]
    days: Option<u32>,
    /// A shorter time that the policy says since.
    #[n(1)]
    shorter: Option<Shorter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Shorter {
    #[n(0)]
    days: u32,
    /// Since when this node knows it, by a clock that is believed.
    #[n(1)]
    since: Option<Time>,
}

/// How long a node keeps what was published in a circle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Days after which it drops payloads; never when there are none.
    pub days: Option<u32>,
    /// Fewer days, which the policy says, and when they are acted on; not before this node's clock is believed when
    /// there is no time.
    pub shorter: Option<(u32, Option<Time>)>,
}

/// A payload that is to be dropped.
#[derive(Debug)]
struct Due {
    key: LogKey,
    seq: u64,
    hash: Hash,
    bytes: u64,
}

/// Looking through logs, step by step.
#[derive(Debug)]
pub(crate) struct Look {
    /// When the next step is due.
    due: Time,
    /// The logs that are left, the present one last.
    logs: Vec<LogKey>,
    place: Place,
    found: Vec<Due>,
    /// What is to be noted of the logs that were looked through.
    done: Vec<(LogKey, Place)>,
}

/// How far a log was looked through, and what stays in it.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    next: u64,
    /// The first entry that stays, and when it was written.
    first: Option<(u64, Time)>,
    expiry: Option<Time>,
}

/// What time drops at this node.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    logs: BTreeMap<LogKey, Aging>,
    waiting: BTreeSet<(Time, LogKey)>,
    retentions: BTreeMap<CircleId, Kept>,
    look: Option<Look>,
    /// When it was looked last.
    looked: Time,
}

impl Expiring {
    /// What was noted of a log and cannot be read back is counted anew, from what the store has of it; so is that of a log
    /// of which something was being dropped, for a crash leaves any part of it done. How long a circle is kept follows from its policy again, a shorter time not before a week.
    pub(crate) fn load(store: &dyn Read, logs: &Logs, rot: &mut Rot) -> Result<Self, Damage> {
        let mut expiring = Self::default();
        let about = (DROPPED_FACT, "the note of what was dropped of a log");
        let (noted, lost) = rot.facts(store, about, |name, value| {
            let (key, _) = read_log(name).ok_or("it names no log")?;
            let noted = encoding::from_bytes(value, limits::HEADER_BYTES);
            Ok((key, noted.map_err(|refusal| refusal.to_string())?))
        })?;
        let (torn, known): (Vec<_>, Vec<_>) =
            noted.into_iter().partition(|(_, noted): &(LogKey, Noted)| noted.dropping.is_some());
        known.into_iter().for_each(|(key, noted)| expiring.set(key, Aging { noted, ..Aging::default() }));
        let lost = lost.iter().filter_map(|name| Some(read_log(name)?.0));
        for key in lost.chain(torn.iter().map(|(key, _)| *key)) {
            let noted = counted(store, &key, height_in(logs, &key));
            rot.writes.push(note(&key, &noted));
            expiring.set(key, Aging { noted, ..Aging::default() });
        }
        let about = (RETENTION_FACT, "the note of how long a circle is kept");
        let (kept, lost) = rot.facts(store, about, |name, value| {
            let (circle, _) = read_circle(name).ok_or("it names no circle")?;
            let kept = encoding::from_bytes(value, limits::HEADER_BYTES);
            Ok((circle, kept.map_err(|refusal| refusal.to_string())?))
        })?;
        expiring.retentions.extend(kept);
        rot.forget(RETENTION_FACT, lost);
        Ok(expiring)
    }

    /// How many bytes of payloads were dropped of the logs of a circle.
    pub(crate) fn bytes_of(&self, circle: &CircleId) -> BTreeMap<(PublicKey, LogId), u64> {
        let of_circle = self.logs.iter().filter(|(key, aging)| key.circle == *circle && aging.noted.bytes > 0);
        of_circle.map(|(key, aging)| ((key.author, key.log), aging.noted.bytes)).collect()
    }

    /// When there is something to do, by this node's clock, which reads `now` and is believed.
    pub(crate) fn due(&self, now: Time) -> Option<Time> {
        let acted =
            |kept: &Kept| Some(kept.shorter?.since.map_or(now, |since| since.plus(limits::SHORTER_RETENTION_MS)));
        self.look_due(now).into_iter().chain(self.retentions.values().filter_map(acted)).min()
    }

    fn look_due(&self, now: Time) -> Option<Time> {
        if let Some(look) = &self.look {
            return Some(look.due);
        }
        let (first, _) = self.waiting.first()?;
        Some(self.looked.min(now).plus(limits::LOOK_EVERY_MS).max(*first))
    }

    fn days(&self, circle: &CircleId) -> Option<u32> {
        self.retentions.get(circle)?.days
    }

    fn set(&mut self, key: LogKey, mut aging: Aging) {
        let aged = aging.first.zip(self.days(&key.circle)).map(|(first, days)| first.plus(days_ms(days)));
        aging.due = aged.into_iter().chain(aging.noted.expiry).min();
        if let Some(due) = self.logs.insert(key, aging).and_then(|before| before.due) {
            self.waiting.remove(&(due, key));
        }
        self.waiting.extend(aging.due.map(|due| (due, key)));
    }
}

fn days_ms(days: u32) -> u64 {
    u64::from(days) * Time::DAY_MS
}

/// Fewer days come first; for ever last.
fn order(days: Option<u32>) -> u32 {
    days.unwrap_or(u32::MAX)
}

fn fact_of(key: &LogKey) -> Vec<u8> {
    fact_key(DROPPED_FACT, &[&key.circle.0.0, &key.author.0, &key.log.0])
}

/// What was dropped of a log, and when what it still has expires, as its entries show.
fn counted(store: &dyn Read, key: &LogKey, height: u64) -> Noted {
    let mut noted = Noted::default();
    // What cannot be read is looked at again once it has come again.
    for entry in (0..height).filter_map(|seq| read_entry(store, key, seq).ok()) {
        match &entry.bytes().payload {
            Payload::Dropped => {
                noted.entries += 1;
                noted.bytes += u64::from(entry.header().payload_length);
            }
            Payload::Sealed(_) if ages(entry.header()) => {
                noted.expiry = noted.expiry.into_iter().chain(entry.header().expiry).min();
            }
            Payload::Sealed(_) | Payload::Retracted(_) => {}
        }
    }
    noted
}

fn note(key: &LogKey, noted: &Noted) -> Write {
    Write::Fact { key: fact_of(key), value: encoding::to_bytes(noted) }
}

/// Whether time may drop what such an entry carries: nothing that says who belongs or that takes something back.
pub(crate) fn ages(header: &Header) -> bool {
    let keeps = header.retracts.is_some() && !planted(Bug::DropRetractions);
    header.suite.kind() == LogKind::Content && !keeps
}

fn is_over(header: &Header, days: Option<u32>, now: Time) -> bool {
    let over = |time: Time| time <= now;
    let expired = header.expiry.is_some_and(over) && !planted(Bug::KeepExpired);
    let aged = days.is_some_and(|days| over(header.time.plus(days_ms(days)))) && !planted(Bug::KeepForEver);
    ages(header) && (expired || aged)
}

impl Engine {
    /// How long this node keeps what was published in a circle.
    pub fn retention(&self, circle: &CircleId) -> Retention {
        let kept = self.expiring.retentions.get(circle).copied().unwrap_or_default();
        let acted = |since: Time| since.plus(limits::SHORTER_RETENTION_MS);
        Retention { days: kept.days, shorter: kept.shorter.map(|one| (one.days, one.since.map(acted))) }
    }

    /// Whether an entry comes without its payload, and this node's clock and what policies ever said do not show that it
    /// may be gone.
    pub(crate) fn lacks_payload(&self, entry: &Decoded) -> bool {
        let header = entry.header();
        // The bearer's clock may be ahead of this one.
        let now = self.wall.plus(limits::CLOCK_AGREES_MS);
        let shortest = || self.circles.get(&header.circle).and_then(Replica::control)?.shortest_retention();
        entry.bytes().payload == Payload::Dropped
            && !is_over(header, shortest(), now)
            && !planted(Bug::TakeWithoutPayload)
    }

    /// Says again what was dropped before this start, for views that a crash kept from hearing it.
    pub(crate) fn tell_dropped(&mut self) {
        let dropped = self.expiring.logs.iter().filter(|(_, aging)| aging.noted.entries > 0);
        let told: Vec<Output> = dropped
            .map(|(key, aging)| Output::Dropped { key: *key, seqs: Vec::new(), total: aging.noted.entries })
            .collect();
        told.into_iter().for_each(|told| self.output(told));
    }

    /// Who belongs to a circle or its policy may have changed: follows how long it is to be kept.
    pub(crate) fn note_retention(&mut self, circle: &CircleId, store: &dyn Read) {
        let Some(replica) = self.circles.get(circle) else { return };
        let Some(control) = replica.control() else { return };
        let said = control.terms(replica.fold()).retention();
        let known = self.expiring.retentions.get(circle).copied();
        // The charter's has held as long as there is a circle.
        let mut kept = known.unwrap_or(Kept { days: control.charter().terms.retention(), shorter: None });
        if order(said) >= order(kept.days) {
            kept = Kept { days: said, shorter: None };
        } else if let Some(days) = said
            && kept.shorter.is_none_or(|shorter| shorter.days != days)
        {
            kept.shorter = Some(Shorter { days, since: None });
        }
        self.keep_for(circle, kept, known, store);
    }

    /// Acts on a retention from now on, and writes it down when it is another than before.
    fn keep_for(&mut self, circle: &CircleId, kept: Kept, before: Option<Kept>, store: &dyn Read) {
        let nothing = kept == Kept::default() && before.is_none();
        if nothing || before == Some(kept) {
            return;
        }
        self.expiring.retentions.insert(*circle, kept);
        let key = fact_key(RETENTION_FACT, &[&circle.0.0]);
        self.store(vec![Write::Fact { key, value: encoding::to_bytes(&kept) }], Vec::new());
        if before.map(|before| before.days) != Some(kept.days) {
            self.reckon(circle, store);
        }
    }

    /// Sees when the logs of a circle are due by its retention.
    pub(crate) fn reckon(&mut self, circle: &CircleId, store: &dyn Read) {
        let days = self.expiring.days(circle);
        let Some(replica) = self.circles.get(circle) else { return };
        let logs: Vec<(LogKey, u64)> = replica
            .logs()
            .filter(|(_, log)| log.kind == LogKind::Content)
            .map(|(key, log)| (key, log.durable))
            .collect();
        for (key, durable) in logs {
            let mut aging = self.expiring.logs.get(&key).copied().unwrap_or_default();
            let from = aging.noted.from;
            aging.first = match days {
                // What cannot be read is found by looking.
                Some(_) if from < durable => {
                    Some(read_entry(store, &key, from).map_or(Time(0), |entry| entry.header().time))
                }
                _ => None,
            };
            if aging.first.is_some() || aging.noted != Noted::default() {
                self.expiring.set(key, aging);
            }
        }
    }

    /// Notes when what these entries carry will be dropped; gives what is to be written down before them.
    pub(crate) fn note_expiring(&mut self, writes: &[Write]) -> Vec<Write> {
        let mut facts = BTreeMap::new();
        for write in writes {
            let (Write::Entry(entry) | Write::Mend(entry)) = write else { continue };
            let header = entry.header();
            let key = entry.key();
            let days = self.expiring.days(&key.circle);
            let kept_for_ever = header.expiry.is_none() && days.is_none();
            if kept_for_ever || !ages(header) || entry.bytes().payload.sealed().is_none() {
                continue;
            }
            let mut aging = self.expiring.logs.get(&key).copied().unwrap_or_default();
            let before = aging.noted;
            aging.noted.expiry = aging.noted.expiry.into_iter().chain(header.expiry).min();
            if header.seq < before.from {
                // Another branch of a log, or what rot took from this node.
                (aging.noted.from, aging.first) = (header.seq, None);
            }
            if days.is_some() {
                aging.first.get_or_insert(header.time);
            }
            self.expiring.set(key, aging);
            if aging.noted != before {
                facts.insert(key, note(&key, &aging.noted));
            }
        }
        facts.into_values().collect()
    }

    /// Drops what is due, a step at a time.
    pub(crate) fn drop_expired(&mut self, store: &dyn Read) -> Result<(), Damage> {
        if self.clock_doubtful() && !planted(Bug::DropInDoubt) {
            self.expiring.look = None;
            return Ok(());
        }
        self.follow_retentions(store);
        if self.expiring.look_due(self.wall).is_none_or(|due| due > self.wall) {
            return Ok(());
        }
        if self.expiring.look.is_none() {
            let due = self.expiring.waiting.iter().take_while(|(due, _)| *due <= self.wall);
            let logs: Vec<LogKey> = due.map(|(_, key)| *key).collect();
            self.expiring.looked = self.wall;
            let start = logs.last().map(|key| self.start_of(key)).unwrap_or_default();
            self.expiring.look = Some(Look { due: self.wall, logs, place: start, found: Vec::new(), done: Vec::new() });
        }
        let Some(mut look) = self.expiring.look.take() else { return Ok(()) };
        let read = self.look_on(&mut look, store);
        if look.logs.is_empty() || look.found.len() >= limits::DROPS_AT_ONCE {
            self.drop_found(look);
        } else {
            look.due = self.wall.plus(limits::LOOK_STEP_MS);
            self.expiring.look = Some(look);
        }
        read
    }

    fn start_of(&self, key: &LogKey) -> Place {
        Place { next: self.expiring.logs.get(key).map_or(0, |aging| aging.noted.from), ..Place::default() }
    }

    /// Acts on retentions that were shortened a week ago.
    fn follow_retentions(&mut self, store: &dyn Read) {
        let shorter = self.expiring.retentions.iter().filter(|(_, kept)| kept.shorter.is_some());
        for (circle, before) in shorter.map(|(circle, kept)| (*circle, *kept)).collect::<Vec<_>>() {
            let Some(Shorter { days, since }) = before.shorter else { continue };
            // A clock that was far ahead when it was seen puts nothing off for ever.
            let since = since.unwrap_or(self.wall).min(self.wall);
            let over = since.plus(limits::SHORTER_RETENTION_MS) <= self.wall || planted(Bug::ShortenAtOnce);
            let kept = match over {
                true => Kept { days: Some(days), shorter: None },
                false => Kept { shorter: Some(Shorter { days, since: Some(since) }), ..before },
            };
            self.keep_for(&circle, kept, Some(before), store);
        }
    }

    /// Looks through some more entries.
    fn look_on(&mut self, look: &mut Look, store: &dyn Read) -> Result<(), Damage> {
        let early = if planted(Bug::DropEarly) { 12 * 3_600_000 } else { 0 };
        let now = self.wall.plus(early);
        for _ in 0..limits::LOOK_ENTRIES {
            let Some(key) = look.logs.last().copied() else { return Ok(()) };
            let durable = self.circles.get(&key.circle).and_then(|replica| replica.log(&key.author, &key.log));
            let seq = look.place.next;
            if durable.is_none_or(|log| seq >= log.durable) {
                look.done.push((key, look.place));
                look.logs.pop();
                look.place = look.logs.last().map(|key| self.start_of(key)).unwrap_or_default();
                continue;
            }
            look.place.next += 1;
            let entry = read_entry(store, &key, seq)?;
            let header = entry.header();
            let Some(payload) = entry.payload().filter(|_| ages(header)) else { continue };
            if is_over(header, self.expiring.days(&key.circle), now) {
                look.found.push(Due { key, seq, hash: entry.hash(), bytes: payload.len() as u64 });
                continue;
            }
            look.place.first.get_or_insert((seq, header.time));
            look.place.expiry = look.place.expiry.into_iter().chain(header.expiry).min();
        }
        Ok(())
    }

    /// Lets go of what was found, in one write. Where to look next is noted once that is done: a crash between the two has it
    /// looked for again, and the other way round it would stay for ever. What was gone by then is not found again: so it
    /// is noted before that there is something to count.
    fn drop_found(&mut self, look: Look) {
        if look.found.is_empty() {
            return self.looked(look);
        }
        let mut writes = Vec::new();
        let logs: BTreeSet<LogKey> = look.found.iter().map(|due| due.key).collect();
        for key in logs {
            let mut aging = self.expiring.logs.get(&key).copied().unwrap_or_default();
            aging.noted.dropping = Some(());
            writes.push(note(&key, &aging.noted));
            self.expiring.set(key, aging);
        }
        writes.extend(look.found.iter().map(|due| Write::Drop { key: due.key, seq: due.seq, hash: due.hash }));
        self.store(writes, vec![After::Looked(Box::new(look))]);
    }

    /// What a look found is gone; notes where to look next.
    pub(crate) fn looked(&mut self, look: Look) {
        let mut changed: BTreeMap<LogKey, Aging> = BTreeMap::new();
        let mut seqs: BTreeMap<LogKey, Vec<u64>> = BTreeMap::new();
        let aging = |engine: &Self, key: &LogKey| engine.expiring.logs.get(key).copied().unwrap_or_default();
        for (key, place) in &look.done {
            let mut aging = aging(self, key);
            let log = self.circles.get(&key.circle).and_then(|replica| replica.log(&key.author, &key.log));
            // What came meanwhile is looked at with the next.
            let more = log.is_some_and(|log| log.height > place.next).then_some((place.next, self.wall));
            let first = place.first.or(more);
            aging.noted.from = first.map_or(place.next, |(seq, _)| seq);
            aging.noted.expiry = place.expiry.into_iter().chain(more.map(|(_, now)| now)).min();
            aging.first = first.map(|(_, time)| time).filter(|_| self.expiring.days(&key.circle).is_some());
            if more.is_some() && aging.first.is_some() {
                aging.first = Some(Time(0));
            }
            changed.insert(*key, aging);
        }
        for Due { key, seq, bytes, .. } in look.found {
            let aging = changed.entry(key).or_insert_with(|| aging(self, &key));
            aging.noted.entries += 1;
            aging.noted.bytes += bytes;
            aging.noted.dropping = None;
            seqs.entry(key).or_default().push(seq);
            if let Some(replica) = self.circles.get_mut(&key.circle) {
                replica.let_go(&key, bytes);
            }
        }
        let mut notes = Vec::new();
        for (key, aging) in changed {
            if self.expiring.logs.get(&key).is_none_or(|before| before.noted != aging.noted) {
                notes.push(note(&key, &aging.noted));
            }
            self.expiring.set(key, aging);
        }
        let circles: BTreeSet<CircleId> = seqs.keys().map(|key| key.circle).collect();
        for (key, seqs) in seqs {
            let total = self.expiring.logs.get(&key).map_or(0, |aging| aging.noted.entries);
            self.output(Output::Dropped { key, seqs, total });
        }
        circles.into_iter().for_each(|circle| self.output(Output::Emit(Event::Erased { circle })));
        if !notes.is_empty() {
            self.store(notes, Vec::new());
        }
    }
}
