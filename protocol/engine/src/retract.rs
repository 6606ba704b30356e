//! Entries that their authors took back: hidden at once, erased after a day, never back.
//!
//! A retraction is an entry of the same author in the same circle whose header names what it takes back, so that
//! members act on it who can open neither. It acts while it is accepted: one that a cut puts aside within the day,
//! a thief's, acts no longer. What was erased stays so. The day is counted by this node's own clock, also while nobody
//! agrees with it: whoever takes something back counts on its going.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Domain, Hash, PublicKey, Time, encoding, issuer_log::LogId};
use minicbor::{Decode, Encode};

use crate::{
    acceptance,
    engine::{After, Engine, fact_key},
    limits,
    log::{Authentic, CircleId, Header, LogKey, Retraction, Retracts, Stored},
    output::{Event, Output},
    planted::{Bug, planted},
    replica::read_entry,
    rot::{Rot, read_place},
    store::{Damage, Read, Write},
};

pub(crate) const RETRACT_FACT: &[u8] = b"retract/";

/// One retraction, as it is written down.
#[derive(Debug, Clone, Encode, Decode)]
struct Taken {
    /// The log it stands in, and its place there.
    #[n(0)]
    circle: CircleId,
    #[n(1)]
    author: PublicKey,
    #[n(2)]
    log: LogId,
    #[n(3)]
    seq: u64,
    /// What it takes back.
    #[n(4)]
    what: Retracts,
    /// When this node first had it, by its clock.
    #[n(5)]
    first_seen: Time,
    /// Whether it was acted on for good.
    #[n(6)]
    erased: bool,
}

impl Taken {
    fn by(&self) -> LogKey {
        LogKey { circle: self.circle, author: self.author, log: self.log }
    }

    fn target(&self) -> Target {
        (LogKey { log: self.what.log, ..self.by() }, self.what.seq, self.what.hash)
    }

    fn fact(&self) -> Write {
        let key = fact_key(RETRACT_FACT, &[&self.circle.0.0, &self.author.0, &self.log.0, &self.seq.to_be_bytes()]);
        Write::Fact { key, value: encoding::to_bytes(self) }
    }
}

/// An entry that was taken back: its log, its place and its hash.
pub(crate) type Target = (LogKey, u64, Hash);

/// The retractions that this node holds.
#[derive(Debug, Default)]
pub(crate) struct Retractions {
    taken: BTreeMap<LogKey, BTreeMap<u64, Taken>>,
    /// Those that are accepted now, by what they take back, each with its log and its place there: circle and author are
    /// the same. Nearly always there is one for a target, and a set for each would take four times what it notes.
    acting: BTreeSet<(Target, LogId, u64)>,
    /// Those that act and are not done yet, by when they are to be, and when each of them is.
    waiting: BTreeSet<(Time, LogKey, u64)>,
    due: BTreeMap<(LogKey, u64), Time>,
    /// When the next step of erasing may come, as timers count.
    step_after: Time,
}

impl Retractions {
    /// A note that cannot be read back, or that a crash left out, is made anew from the retraction itself, as if that had
    /// come now: what it takes back stays hidden, and is erased later than it would have been.
    pub(crate) fn load(store: &dyn Read, ends: &[Stored], now: Time, rot: &mut Rot) -> Result<Self, Damage> {
        let mut retractions = Self::default();
        if planted(Bug::ForgetRetractions) {
            return Ok(retractions);
        }
        let read = |_: &[u8], value: &[u8]| {
            encoding::from_bytes::<Taken>(value, limits::HEADER_BYTES).map_err(|refusal| refusal.to_string())
        };
        let (known, lost) = rot.facts(store, (RETRACT_FACT, "the note of a retraction"), read)?;
        known.into_iter().for_each(|taken| retractions.note(taken));
        for (key, seq) in lost.iter().filter_map(|name| read_place(name)) {
            if planted(Bug::RotUnhides) {
                break;
            }
            // One that cannot be read itself comes again, and is noted then.
            let Ok(entry) = read_entry(store, &key, seq) else { continue };
            retractions.note_anew(&entry, now, rot);
        }
        for end in ends.iter().filter(|_| !planted(Bug::TrustTheTail)) {
            let (key, seq) = end.place();
            let noted = retractions.taken.get(&key).and_then(|in_log| in_log.get(&seq));
            if noted.is_none_or(|noted| Some(noted.what) != end.header().retracts) {
                retractions.note_anew(end, now, rot);
            }
        }
        Ok(retractions)
    }

    fn note_anew(&mut self, entry: &Stored, now: Time, rot: &mut Rot) {
        if let Some(taken) = taken(entry.header(), now) {
            rot.writes.push(taken.fact());
            self.note(taken);
        }
    }

    fn note(&mut self, taken: Taken) {
        self.taken.entry(taken.by()).or_default().insert(taken.seq, taken);
    }

    /// When the next of them is to be acted on for good, by this node's clock, which reads `wall` while timers are at
    /// `now`.
    pub(crate) fn due(&self, wall: Time, now: Time) -> Option<Time> {
        let (due, ..) = self.waiting.first()?;
        Some(wall.plus(self.step_after.since(now)).max(*due))
    }

    /// Whether it is written down that this node erased an entry, be it that it is not known yet what is accepted.
    pub(crate) fn erased_once(&self, target: &Target) -> bool {
        let in_logs = self.taken.iter().filter(|(by, _)| by.circle == target.0.circle && by.author == target.0.author);
        in_logs.flat_map(|(_, in_log)| in_log.values()).any(|taken| taken.erased && taken.target() == *target)
    }

    /// Whether this node erased an entry because it was taken back.
    pub(crate) fn has_erased(&self, target: &Target) -> bool {
        let erased = |(_, log, seq): &(Target, LogId, u64)| {
            let by = LogKey { log: *log, ..target.0 };
            self.taken.get(&by).and_then(|in_log| in_log.get(seq)).is_some_and(|taken| taken.erased)
        };
        self.acting_on(target).any(erased)
    }

    /// Those that take an entry back now.
    fn acting_on(&self, target: &Target) -> impl Iterator<Item = &(Target, LogId, u64)> {
        self.acting.range((*target, LogId([0; 16]), 0)..=(*target, LogId([255; 16]), u64::MAX))
    }

    fn acts_on(&self, target: &Target) -> bool {
        self.acting_on(target).next().is_some()
    }

    fn wait(&mut self, by: LogKey, seq: u64, due: Time) {
        self.done(&by, seq);
        self.due.insert((by, seq), due);
        self.waiting.insert((due, by, seq));
    }

    fn done(&mut self, by: &LogKey, seq: u64) {
        if let Some(due) = self.due.remove(&(*by, seq)) {
            self.waiting.remove(&(due, *by, seq));
        }
    }
}

/// A day after a retraction came here, by the whole hour: what falls due together makes the store write a segment anew
/// once, and not for each.
fn erased_at(first_seen: Time) -> Time {
    if planted(Bug::EraseAtOnce) {
        return first_seen;
    }
    Time(first_seen.plus(limits::RETRACT_MS).0.next_multiple_of(limits::ERASE_EVERY_MS))
}

impl Engine {
    /// Notes what a new entry takes back; gives what is to be written down with it.
    pub(crate) fn note_retraction(&mut self, entry: &Authentic) -> Option<Write> {
        let taken = taken(entry.header(), self.wall)?;
        let fact = taken.fact();
        self.retractions.note(taken);
        Some(fact)
    }

    /// Forgets the retraction that stood where another entry comes now, or is: that of a branch which does not count. Gives
    /// what is to be written down before the entry.
    pub(crate) fn forget_other(&mut self, header: &Header) -> Option<Write> {
        let Header { circle, author, log, seq, .. } = *header;
        let by = LogKey { circle, author, log };
        let in_log = self.retractions.taken.get_mut(&by)?;
        let taken = in_log.get(&seq).filter(|taken| Some(taken.what) != header.retracts)?.clone();
        in_log.remove(&seq);
        self.retractions.done(&by, seq);
        self.acts(&taken, false);
        let Write::Fact { key, .. } = taken.fact() else { return None };
        Some(Write::Fact { key, value: Vec::new() })
    }

    /// A retraction acts from now on, or no longer.
    fn acts(&mut self, taken: &Taken, acts: bool) {
        let target = taken.target();
        let before = self.retractions.acts_on(&target);
        let acting = (target, taken.log, taken.seq);
        if acts {
            self.retractions.acting.insert(acting);
        } else {
            self.retractions.acting.remove(&acting);
        }
        let after = self.retractions.acts_on(&target);
        if after != before && !planted(Bug::RetractUntold) {
            let (key, seq, hash) = target;
            self.output(Output::Retracted { key, seq, hash, retracted: after });
        }
    }

    /// What is accepted of a log changed: the retractions among it act, and those do not that a cut or a fork puts
    /// aside. One that rot took here acts on until it has come again. Before `from` all was accepted and is still.
    pub(crate) fn judge_retractions(&mut self, by: &LogKey, from: u64) {
        let (Some(in_log), Some(replica)) = (self.retractions.taken.get(by), self.circles.get(&by.circle)) else {
            return;
        };
        let (author, log) = (&by.author, &by.log);
        let (height, held) = (replica.accepted(author, log), replica.log(author, log).map_or(0, |held| held.height));
        let fork = replica.fork_of(author, log).unwrap_or(u64::MAX);
        let comes_again =
            |seq: u64| (held..fork).contains(&seq) && acceptance::hope(replica, author, log, seq + 1) > seq;
        let acts = |seq: u64| seq < height || comes_again(seq);
        let judged: Vec<_> = in_log.range(from..).map(|(seq, taken)| (*seq, taken.clone(), acts(*seq))).collect();
        for (seq, taken, acts) in judged {
            self.acts(&taken, acts);
            match acts && !taken.erased {
                true if self.retractions.due.contains_key(&(*by, seq)) => {}
                true => self.retractions.wait(*by, seq, erased_at(taken.first_seen)),
                false => self.retractions.done(by, seq),
            }
        }
    }

    /// After a start the retractions act that were here before, be it that rot took what they stand in.
    pub(crate) fn judge_all_retractions(&mut self) {
        let logs: Vec<LogKey> = self.retractions.taken.keys().copied().collect();
        logs.iter().for_each(|by| self.judge_retractions(by, 0));
    }

    /// Erases what was taken back a day ago, a step at a time.
    pub(crate) fn erase_due(&mut self, store: &dyn Read) {
        if self.retractions.due(self.wall, self.now).is_none_or(|due| due > self.wall) {
            return;
        }
        self.retractions.step_after = self.now.plus(limits::LOOK_STEP_MS);
        let mut writes = Vec::new();
        let mut circles = BTreeSet::new();
        for _ in 0..limits::ERASED_AT_ONCE {
            let first = self.retractions.waiting.first().copied();
            let Some((_, by, seq)) = first.filter(|(due, ..)| *due <= self.wall) else { break };
            // Where it does not come to it now, it is tried again.
            self.retractions.wait(by, seq, self.wall.plus(limits::RETRACT_MS));
            let entry = match store.entry(&by, seq) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(damage) => {
                    // What else is due is erased all the same.
                    self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
                    self.fetch_again(&by, seq, store);
                    continue;
                }
            };
            if let Ok(header) = Header::from_bytes(&entry.header)
                && let Some(forgotten) = self.forget_other(&header)
            {
                writes.push(forgotten);
                continue;
            }
            let in_log = self.retractions.taken.get_mut(&by);
            let Some(taken) = in_log.and_then(|in_log| in_log.get_mut(&seq)) else { continue };
            let (key, target, hash) = taken.target();
            let because = Retraction { header: entry.header, signature: entry.signature };
            // On the way here somebody may have altered the signature of an entry that a later one vouches for. It
            // hides what it takes back all the same; but it could not show to others why the payload is gone.
            if by.author.verify(Domain::ENTRY, &because.header, &because.signature).is_err() {
                self.retractions.done(&by, seq);
                self.note_unsigned(by, seq);
                continue;
            }
            taken.erased = true;
            let noted = taken.fact();
            self.retractions.done(&by, seq);
            if !planted(Bug::NeverErase) && (by.author == self.me || !planted(Bug::KeepOfOthers)) {
                writes.push(Write::Erase { key, seq: target, hash, because });
            }
            // Behind it: what a crash leaves must not say that it is done.
            writes.push(noted);
            writes.extend(self.mending.settled(&(key, target)));
            circles.insert(by.circle);
        }
        if !writes.is_empty() {
            self.store(writes, circles.into_iter().map(After::Erased).collect());
        }
    }

    /// Whether an entry was taken back by its author, and that is accepted.
    pub fn is_retracted(&self, key: &LogKey, seq: u64, hash: Hash) -> bool {
        self.retractions.acts_on(&(*key, seq, hash))
    }
}

/// What an entry takes back.
fn taken(header: &Header, now: Time) -> Option<Taken> {
    let what = header.retracts?;
    let Header { circle, author, log, seq, .. } = *header;
    Some(Taken { circle, author, log, seq, what, first_seen: now, erased: false })
}
