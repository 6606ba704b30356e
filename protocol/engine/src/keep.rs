//! How long a node keeps what does not count: what lies beyond a cut stays for ninety days, so that a steward can raise
//! the cut, and is dropped then.
//!
//! None of that is dropped, nor what expired ([`crate::expire`]), by a clock that may be wrong. This node's clock is believed once somebody else's, as what it
//! signs says, agreed with it since the start and since the clock last jumped.
//!
//! This file refuses to know what counts; that is [`crate::acceptance`]'s.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PublicKey, Time, encoding,
    issuer_log::{CutLine, LogId},
};
use minicbor::{Decode, Encode};

use crate::{
    circle::{Act, Quota},
    engine::{Engine, fact_key},
    fork::Disputed,
    limits,
    log::{CircleId, LogKey},
    output::CommandRefusal,
    replica::read_entry,
    rot::{Rot, read_log},
    store::{Damage, Read, Write},
};

pub(crate) const BEYOND_FACT: &[u8] = b"beyond/";

/// What is held of a log beyond a cut, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Noted {
    /// How many entries the cut leaves.
    #[n(0)]
    cut: u64,
    /// Since when this node has it beyond one, by its clock.
    #[n(1)]
    since: Time,
}

/// What a node holds of one log beyond the cut of its author's removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    /// The log.
    pub key: LogKey,
    /// How many entries the cut leaves.
    pub cut: u64,
    /// How many are held.
    pub height: u64,
    /// The removal whose cut it is.
    pub removal: Hash,
    /// When it is dropped, unless the cut is raised before.
    pub until: Time,
}

/// A node of which there is more in a circle than this node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// The node.
    pub author: PublicKey,
    /// How much is held of it.
    pub used: Quota,
    /// How many entries more there are, as connected peers and the author's own logs say.
    pub waiting: u64,
}

/// What this node keeps for a while, and whether its clock can be believed.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    noted: BTreeMap<LogKey, Noted>,
    waiting: BTreeSet<(Time, LogKey)>,
    /// When the next step of dropping may come, as timers count.
    step_after: Time,
    agreed: bool,
}

impl Keeping {
    /// What was noted and cannot be read back is noted anew, and kept as if it had come now.
    pub(crate) fn load(store: &dyn Read, rot: &mut Rot) -> Result<Self, Damage> {
        let mut keeping = Self::default();
        let about = (BEYOND_FACT, "the note of what lies beyond a cut");
        let (noted, lost) = rot.facts(store, about, |name, value| {
            let (key, _) = read_log(name).ok_or("it names no log")?;
            let noted = encoding::from_bytes(value, limits::HEADER_BYTES);
            Ok((key, noted.map_err(|refusal| refusal.to_string())?))
        })?;
        noted.into_iter().for_each(|(key, noted)| keeping.note(key, Some(noted)));
        rot.forget(BEYOND_FACT, lost);
        Ok(keeping)
    }

    fn note(&mut self, key: LogKey, noted: Option<Noted>) {
        let before = match noted {
            Some(noted) => self.noted.insert(key, noted),
            None => self.noted.remove(&key),
        };
        if let Some(before) = before {
            self.waiting.remove(&(before.since, key));
        }
        if let Some(noted) = noted {
            self.waiting.insert((noted.since, key));
        }
    }

    /// When the next is to be dropped, by this node's clock, which reads `wall` while timers are at `now`; never while
    /// that may be wrong.
    pub(crate) fn due(&self, wall: Time, now: Time) -> Option<Time> {
        let (since, _) = self.waiting.first().filter(|_| self.agreed)?;
        Some(wall.plus(self.step_after.since(now)).max(since.plus(limits::WITHHELD_MS)))
    }

    /// The clock went from one time to another between two inputs.
    pub(crate) fn clock_went(&mut self, from: Time, to: Time) {
        if to.since(from).max(from.since(to)) > limits::CLOCK_AGREES_MS {
            self.agreed = false;
        }
    }

    /// Somebody else signed this time, and it came now.
    pub(crate) fn heard_time(&mut self, time: Time, now: Time) {
        if time.since(now).max(now.since(time)) <= limits::CLOCK_AGREES_MS {
            self.agreed = true;
        }
    }
}

fn fact_of(key: &LogKey) -> Vec<u8> {
    fact_key(BEYOND_FACT, &[&key.circle.0.0, &key.author.0, &key.log.0])
}

impl Engine {
    /// Whether this node's clock may be wrong, as far as what keeps and drops by it is concerned: nobody else's agreed
    /// with it since the start, or since it last jumped.
    pub fn clock_doubtful(&self) -> bool {
        !self.keeping.agreed
    }

    /// What is held of a circle beyond the cuts of removals.
    pub fn withheld(&self, circle: &CircleId) -> Vec<Withheld> {
        let Some(replica) = self.circles.get(circle) else { return Vec::new() };
        let Some(control) = replica.control() else { return Vec::new() };
        let beyond = replica.beyond_cuts().filter_map(|(key, log, cut)| {
            let (removal, _) = control.ending(replica.fold(), &key.author, &log.opening.under)?;
            let since = self.keeping.noted.get(&key).map_or(self.wall, |noted| noted.since);
            let until = since.plus(limits::WITHHELD_MS);
            Some(Withheld { key, cut, height: log.height, removal, until })
        });
        beyond.collect()
    }

    /// The nodes of which there is more in a circle than its quota lets this node take.
    pub fn over_quota(&self, circle: &CircleId) -> Vec<OverQuota> {
        let Some(replica) = self.circles.get(circle) else { return Vec::new() };
        let over = |author: PublicKey| {
            let mut said = self.sync.said_of(circle, &author);
            // A log that a later one cites is said of nobody: it is held to there.
            for line in replica.cited_by(&author) {
                let height = said.entry(line.log).or_default();
                *height = line.height.max(*height);
            }
            let more = |(log, height): (LogId, u64)| {
                let held = replica.log(&author, &log).map_or(0, |held| held.height);
                height.saturating_sub(held)
            };
            OverQuota { author, used: replica.used(&author), waiting: said.into_iter().map(more).sum() }
        };
        replica.full().into_iter().map(over).collect()
    }

    /// Who belongs to a circle changed: notes what lies beyond a cut now, and what no longer does.
    pub(crate) fn note_beyond(&mut self, circle: &CircleId) {
        let Some(replica) = self.circles.get(circle) else { return };
        // What this node itself wrote it keeps: nobody else may have it.
        let beyond: BTreeMap<LogKey, u64> =
            replica.beyond_cuts().filter(|(key, ..)| key.author != self.me).map(|(key, _, cut)| (key, cut)).collect();
        let of_circle = |key: &&LogKey| key.circle == *circle;
        let gone = self.keeping.noted.keys().filter(of_circle).filter(|key| !beyond.contains_key(key));
        let mut changed: Vec<(LogKey, Option<Noted>)> = gone.map(|key| (*key, None)).collect();
        for (key, cut) in beyond {
            let before = self.keeping.noted.get(&key);
            // A cut that leaves less than before puts more beyond it, which is kept as long.
            let since = before.filter(|before| before.cut <= cut).map_or(self.wall, |before| before.since);
            let noted = Noted { cut, since };
            if before != Some(&noted) {
                changed.push((key, Some(noted)));
            }
        }
        let fact = |(key, noted): &(LogKey, Option<Noted>)| Write::Fact {
            key: fact_of(key),
            value: noted.as_ref().map(encoding::to_bytes).unwrap_or_default(),
        };
        let writes: Vec<Write> = changed.iter().map(fact).collect();
        changed.into_iter().for_each(|(key, noted)| self.keeping.note(key, noted));
        if !writes.is_empty() {
            self.store(writes, Vec::new());
        }
    }

    /// Drops what lies beyond a cut for ninety days, a few logs at a time.
    pub(crate) fn drop_beyond(&mut self, store: &dyn Read) {
        if self.keeping.due(self.wall, self.now).is_none_or(|due| due > self.wall) {
            return;
        }
        self.keeping.step_after = self.now.plus(limits::LOOK_STEP_MS);
        let due = |(since, _): &&(Time, LogKey)| since.plus(limits::WITHHELD_MS) <= self.wall;
        let waiting = self.keeping.waiting.iter().take_while(due).take(limits::CUT_AT_ONCE);
        let mut logs: BTreeMap<CircleId, Vec<LogKey>> = BTreeMap::new();
        waiting.for_each(|(_, key)| logs.entry(key.circle).or_default().push(*key));
        let mut writes = Vec::new();
        for (circle, logs) in logs {
            if let Some(replica) = self.circles.get_mut(&circle) {
                let dropped = replica.drop_beyond_cuts(store, &logs);
                writes.extend(dropped.into_iter().map(|(key, height)| Write::Rewind { key, height }));
            }
            for key in logs {
                self.keeping.note(key, None);
                writes.push(Write::Fact { key: fact_of(&key), value: Vec::new() });
            }
        }
        self.store(writes, Vec::new());
    }

    /// A removal like an earlier one, with a cut that leaves all that is held here as well; or, if branches are named, these.
    pub(crate) fn raised(
        &self,
        circle: &CircleId,
        removal: Hash,
        branches: &[Hash],
        store: &dyn Read,
    ) -> Result<Act, CommandRefusal> {
        let (replica, control) = self.closed(circle)?;
        let (rank, act) = control.valid_operation(replica.fold(), &removal).ok_or(CommandRefusal::NothingWithheld)?;
        let Act::Remove { partner, node, cut } = act else { return Err(CommandRefusal::NothingWithheld) };
        if self.own_stewardship(circle)?.0 > *rank {
            return Err(CommandRefusal::BetterRank { partner: partner.clone() });
        }
        if replica.fold().roster().iter().any(|(one, member)| act.removes(&member.partner, one)) {
            return Err(CommandRefusal::BelongsAgain { partner: partner.clone() });
        }
        // A control log that forks is listed once for each branch.
        let mut lines = cut.clone();
        let list = |lines: &mut Vec<CutLine>, line: CutLine| {
            lines.retain(|listed| listed.log != line.log);
            lines.push(line);
        };
        let mut more = !branches.is_empty();
        // What cannot be read back is not there to be named.
        let disputed = if more { self.disputed(circle, store).unwrap_or_default() } else { Vec::new() };
        for branch in branches {
            let is_named = |one: &&Disputed| one.first == *branch && self.governing(&one.key, store) == Some(removal);
            let found = disputed.iter().find(is_named).ok_or(CommandRefusal::NoSuchBranch { branch: *branch })?;
            list(&mut lines, CutLine { log: found.key.log, height: found.height, head: found.head });
        }
        let beyond = self.withheld(circle).into_iter().filter(|one| one.removal == removal && branches.is_empty());
        for withheld in beyond {
            let Withheld { key, .. } = withheld;
            let Some(log) = replica.log(&key.author, &key.log) else { continue };
            let (height, Some(head)) = (log.durable, log.durable_head) else { continue };
            if lines.iter().all(|line| line.log != key.log || line.height < height) {
                list(&mut lines, CutLine { log: key.log, height, head });
                more = true;
            }
        }
        if !more {
            return Err(CommandRefusal::NothingWithheld);
        }
        if lines.len() > limits::OPERATION_LIST {
            return Err(CommandRefusal::TooMany { limit: limits::OPERATION_LIST });
        }
        lines.sort();
        Ok(Act::Remove { partner: partner.clone(), node: *node, cut: lines })
    }

    /// The removal whose cut governs a log, whether any of it is accepted or not.
    pub fn governing(&self, key: &LogKey, store: &dyn Read) -> Option<Hash> {
        let replica = self.circles.get(&key.circle)?;
        let opening = read_entry(store, key, 0).ok()?.header().opening.clone()?;
        Some(replica.control()?.ending(replica.fold(), &key.author, &opening.under)?.0)
    }
}
