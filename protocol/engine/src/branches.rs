//! What stands behind the fork of a control log: branches that are concurrent operations.
//!
//! A control log that forks cannot end where it does, as others end: members were removed behind it, and others build
//! on what stands there. So behind the fork the log goes on as a set of operations, each under its own hash and held
//! beside the log. Which of them count the history says ([`crate::circle::Control`]); what does not count and nobody's
//! epoch needs is not held. Members that count the same branches have the same digest; where digests differ, each side
//! hands the other the operations that it holds, and takes of the other's what counts.
//!
//! This file refuses to know how a fork is found and proven: that is [`crate::fork`]'s.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, PublicKey, Time, encoding, issuer_log::LogId};

use crate::{
    circle::{Operation, Quota},
    engine::{Engine, fact_key},
    epoch::SignedRecord,
    limits,
    log::{self, Authentic, CircleId, Decoded, EntryBytes, Header, Link, LogKey, LogKind, RunRefusal, Stored},
    output::{Event, Output},
    planted::{Bug, planted},
    replica::{Ingested, Measured, Refusal, Replica, Stop, in_order, read_entry, takes_up},
    rot::Rot,
    store::{Damage, Read, Write},
    wire::Frame,
};

pub(crate) const BRANCH_FACT: &[u8] = b"branch/";

/// An operation that is held beside its log.
#[derive(Debug, Clone, Copy)]
struct Beside {
    /// Whether the store has made it durable.
    durable: bool,
    /// Whether nothing behind it is needed to show that its author wrote it.
    stands_alone: bool,
    author: PublicKey,
    /// What of its author's quota it takes.
    takes_up: Quota,
}

impl Beside {
    fn of(entry: &Stored, durable: bool) -> Self {
        let takes_up = takes_up(entry.header(), entry.bytes());
        Self { durable, stands_alone: entry.is_signed(), author: entry.header().author, takes_up }
    }
}

/// The operations of one circle that are held beside their logs, and those that peers offered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Branches {
    /// Those that are held.
    held: BTreeMap<Hash, Beside>,
    /// What peers hold and nothing here needs yet. In memory alone, as long as the session lasts.
    offered: BTreeMap<PublicKey, BTreeMap<Hash, Authentic>>,
    /// What a peer sent for which the next that it sends is to vouch.
    unvouched: BTreeMap<PublicKey, Vec<Decoded>>,
}

/// What came of it that a peer offered operations behind forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    Something,
    NothingNew,
    /// Their author vouches for none of them.
    Unvouched,
}

impl Branches {
    /// A peer is gone, and with it what it offered.
    pub(crate) fn gone(&mut self, peer: &PublicKey) {
        self.offered.remove(peer);
        self.unvouched.remove(peer);
    }

    /// Those that are held and durable.
    fn durable(&self) -> BTreeSet<Hash> {
        self.held.iter().filter(|(_, beside)| beside.durable).map(|(hash, _)| *hash).collect()
    }

    /// All that peers offered, each once.
    pub(crate) fn offered(&self) -> BTreeMap<Hash, Authentic> {
        self.offered.values().flatten().map(|(hash, entry)| (*hash, entry.clone())).collect()
    }

    fn find(&self, hash: &Hash) -> Option<&Authentic> {
        self.offered.values().find_map(|offered| offered.get(hash))
    }

    /// What was offered, each once however many offer it, by the operation that it follows in its log.
    fn followers(&self) -> Followers<'_> {
        let mut followers = Followers::new();
        for (hash, entry) in self.offered.values().flatten() {
            if let Some(before) = entry.header().previous {
                followers.entry(before).or_default().insert(*hash, entry);
            }
        }
        followers
    }

    fn taken(&mut self, hash: &Hash) {
        self.offered.values_mut().for_each(|offered| drop(offered.remove(hash)));
        self.offered.retain(|_, offered| !offered.is_empty());
    }
}

/// Operations that were read back, and those that could not be.
pub type Held = (Vec<Stored>, Vec<(Hash, Damage)>);

/// The operations of a circle that a store holds behind forks.
pub fn held(store: &dyn Read, circle: &CircleId) -> Result<Held, Damage> {
    let mut rot = Rot::default();
    let prefix = fact_key(BRANCH_FACT, &[&circle.0.0]);
    let (held, lost) = rot.facts(store, (&prefix, "an operation of a branch"), |name, value| {
        let bytes = encoding::from_bytes(value, limits::FRAME_BYTES).map_err(|refusal| refusal.to_string())?;
        let entry = Stored::read(bytes).map_err(|refusal| refusal.to_string())?;
        if entry.hash().0 == name { Ok(entry) } else { Err("another stands in its place".to_owned()) }
    })?;
    let names = lost.into_iter().map(|name| Hash(name.try_into().unwrap_or_default()));
    Ok((held, names.zip(rot.damages).collect()))
}

/// Operations in lists that each fit into a frame; one empty list when there are none.
pub(crate) fn in_frames(entries: Vec<EntryBytes>) -> Vec<Vec<EntryBytes>> {
    let (mut frames, mut frame, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        bytes += entry.length();
        if bytes > limits::WELCOME_FRAME_BYTES && !frame.is_empty() {
            frames.push(std::mem::take(&mut frame));
            bytes = entry.length();
        }
        frame.push(entry);
    }
    frames.push(frame);
    frames
}

/// The operation that a fact of the store holds, if it is one of these.
pub fn in_fact(write: &Write) -> Option<Hash> {
    let Write::Fact { key, value } = write else { return None };
    let name = key.strip_prefix(BRANCH_FACT).filter(|_| !value.is_empty())?;
    Some(Hash(name.get(32..)?.try_into().ok()?))
}

/// What an operation, or the opening of any log, builds on.
fn builds_on(header: &Header, payload: Option<&[u8]>) -> BTreeSet<Hash> {
    let operation = payload.filter(|_| header.suite.kind() == LogKind::Control);
    let operation = operation.and_then(|payload| Operation::from_bytes(payload).ok());
    let under = header.opening.as_ref().and_then(|opening| opening.under.add());
    operation.into_iter().flat_map(|operation| operation.heads).chain(header.previous).chain(under).collect()
}

/// The branches that end with one of these entries, each from its first on.
pub(crate) fn chains<'a>(entries: impl Iterator<Item = &'a Decoded>) -> Vec<Vec<&'a Decoded>> {
    let by_hash: BTreeMap<Hash, &Decoded> = entries.map(|entry| (entry.hash(), entry)).collect();
    let followed: BTreeSet<Hash> = by_hash.values().filter_map(|entry| entry.header().previous).collect();
    let ends: Vec<Hash> = by_hash.keys().filter(|hash| !followed.contains(hash)).copied().collect();
    let mut passed: BTreeSet<Hash> = BTreeSet::new();
    let chain = |end: Hash| {
        let mut chain: Vec<&Decoded> = vec![by_hash[&end]];
        let mut before = chain[0].header().previous;
        // What two branches have in common one of them shows.
        while let Some(entry) = before.and_then(|hash| by_hash.get(&hash)).filter(|entry| passed.insert(entry.hash())) {
            let last = chain[chain.len() - 1];
            if entry.key() != last.key() || entry.header().seq + 1 != last.header().seq {
                break;
            }
            chain.push(entry);
            before = entry.header().previous;
        }
        chain.reverse();
        chain
    };
    ends.into_iter().map(chain).collect()
}

/// Operations by the one that each follows in its log.
type Followers<'a> = BTreeMap<Hash, BTreeMap<Hash, &'a Authentic>>;

/// The operations that lead from one, the next of its log each, to one that its author signed.
fn way_to_voucher(followers: &Followers<'_>, from: Hash) -> Vec<Hash> {
    let mut before: BTreeMap<Hash, Hash> = BTreeMap::new();
    let mut open = vec![(from, 1)];
    while let Some((last, length)) = open.pop() {
        let next = followers.get(&last).filter(|_| length <= limits::UNSIGNED_ENTRIES);
        for (hash, next) in next.into_iter().flatten() {
            before.insert(*hash, last);
            if next.stands_alone() {
                let way = std::iter::successors(Some(*hash), |hash| before.get(hash).copied());
                return way.collect();
            }
            open.push((*hash, length + 1));
        }
    }
    Vec::new()
}

/// Operations so that each stands right behind the one before it in its log, as far as that is among them.
fn one_behind_the_other(entries: Vec<EntryBytes>) -> Vec<Decoded> {
    chains(Decoded::decode_all(entries).iter()).into_iter().flatten().cloned().collect()
}

/// Those of these operations that their authors vouch for, whatever they build on.
fn vouched_for(entries: &[Decoded]) -> Vec<Authentic> {
    let authenticate = |chain: Vec<&Decoded>| {
        let Header { seq, previous, .. } = *chain[0].header();
        let kind = LogKind::Control;
        let link =
            previous.map_or(Link::Start, |head| Link::After { height: seq, head, time: Time(0), kind, unsigned: 0 });
        let run = chain.into_iter().cloned().collect();
        log::authenticate(run, link).map(|authenticated| authenticated.proven).unwrap_or_default()
    };
    chains(entries.iter()).into_iter().flat_map(authenticate).collect()
}

impl Replica {
    fn branch_fact(&self, hash: &Hash, bytes: Option<&EntryBytes>) -> Write {
        let key = fact_key(BRANCH_FACT, &[&self.id().0.0, &hash.0]);
        Write::Fact { key, value: bytes.map(encoding::to_bytes).unwrap_or_default() }
    }

    /// The operations behind forks that the store holds. That they are held says where their logs fork.
    pub(crate) fn load_branches(&mut self, store: &dyn Read, damages: &mut Vec<Damage>) -> Vec<Stored> {
        let (branches, lost) = held(store, &self.id()).unwrap_or_else(|damage| {
            damages.push(damage);
            Default::default()
        });
        damages.extend(lost.into_iter().map(|(_, damage)| damage));
        for entry in &branches {
            self.hold_branch(entry.hash(), Beside::of(entry, true));
            let Header { author, log, seq, .. } = *entry.header();
            self.note_fork(author, log, seq);
        }
        branches
    }

    /// Parts a control log at its fork: what stands behind it is held beside it, as far as it is needed.
    pub(crate) fn part(&mut self, store: &dyn Read, key: &LogKey, fork: u64) -> Result<Vec<Write>, Damage> {
        let height = self.log(&key.author, &key.log).map_or(0, |log| log.height);
        let behind = (fork..height).map(|seq| read_entry(store, key, seq));
        let behind: Vec<Stored> = behind.collect::<Result<_, Damage>>()?;
        self.note_fork(key.author, key.log, fork);
        if !behind.is_empty() {
            self.hold(store, key, fork);
        }
        let held: BTreeSet<Hash> = self.branches.held.keys().copied().collect();
        behind.iter().for_each(|entry| self.hold_branch(entry.hash(), Beside::of(entry, false)));
        let gone = self.forget_branches();
        let mut writes: Vec<Write> = gone.intersection(&held).map(|hash| self.branch_fact(hash, None)).collect();
        let kept = behind.iter().filter(|entry| !gone.contains(&entry.hash()));
        writes.extend(kept.map(|entry| self.branch_fact(&entry.hash(), Some(entry.bytes()))));
        if !behind.is_empty() {
            writes.push(Write::Rewind { key: *key, height: fork });
        }
        Ok(writes)
    }

    /// Forgets what does not count and is needed by nothing that is held: no epoch, no log, no other operation.
    fn forget_branches(&mut self) -> BTreeSet<Hash> {
        let logs = self.logs().flat_map(|(_, log)| {
            log.opening.under.add().into_iter().chain((log.kind == LogKind::Control).then_some(log.head))
        });
        let epochs = self.epochs().flat_map(|(_, epoch)| epoch.heads.iter().copied());
        let mut needed: BTreeSet<Hash> = logs.chain(epochs).collect();
        let vouchers = self.vouchers(&needed);
        needed.extend(vouchers);
        let gone = self.control_mut().map(|control| control.forget_branches(&needed)).unwrap_or_default();
        gone.iter().for_each(|hash| self.forget_branch(hash));
        gone
    }

    /// What vouches for operations that stay and are not signed themselves, where nothing that stays does: without it
    /// nobody could take those of this node.
    fn vouchers(&self, needed: &BTreeSet<Hash>) -> BTreeSet<Hash> {
        let held = &self.branches.held;
        let Some(control) = self.control().filter(|_| held.values().any(|beside| !beside.stands_alone)) else {
            return BTreeSet::new();
        };
        let stay = control.kept_branches(needed);
        let alone = held.iter().filter(|(_, beside)| beside.stands_alone).map(|(hash, _)| *hash);
        let (staying, others): (Vec<Hash>, Vec<Hash>) = alone.partition(|hash| stay.contains(hash));
        let before = |hash: &Hash| -> Vec<Hash> {
            let before = std::iter::successors(control.previous(hash), |hash| control.previous(hash));
            before.take_while(|hash| held.get(hash).is_some_and(|beside| !beside.stands_alone)).collect()
        };
        let mut vouched: BTreeSet<Hash> = staying.iter().flat_map(before).collect();
        let mut vouchers = BTreeSet::new();
        for hash in others {
            let unsigned = before(&hash);
            let Some(last) = unsigned.iter().position(|hash| stay.contains(hash)) else { continue };
            if !vouched.contains(&unsigned[last]) {
                vouched.extend(&unsigned[last..]);
                vouchers.insert(hash);
            }
        }
        vouchers
    }

    /// Takes in what a peer holds of branches, until something here needs it. When it goes on, what comes next may vouch
    /// for its end.
    pub(crate) fn offer_branches(&mut self, peer: &PublicKey, entries: Vec<Decoded>, goes_on: bool) -> Offered {
        let mut entries: Vec<Decoded> =
            self.branches.unvouched.remove(peer).unwrap_or_default().into_iter().chain(entries).collect();
        let proven = vouched_for(&entries);
        let mut vouched = !proven.is_empty() || entries.is_empty();
        if goes_on {
            let known: BTreeSet<Hash> = proven.iter().map(Authentic::hash).collect();
            entries.retain(|entry| !known.contains(&entry.hash()));
            vouched = entries.iter().map(Decoded::length).sum::<usize>() <= limits::UNDECIDED_BYTES;
            if vouched {
                self.branches.unvouched.insert(*peer, entries);
            }
        }
        // What is not durable here may be what rot took: it counts, and is written once more.
        let durable = |hash: &Hash| match self.branches.held.get(hash) {
            Some(beside) => beside.durable,
            None => self.control().is_none_or(|control| control.holds(hash)),
        };
        let fresh = |entry: &Authentic| !durable(&entry.hash());
        let proven: Vec<Authentic> = proven.into_iter().filter(fresh).collect();
        let mut anything_new = false;
        if !proven.is_empty() {
            let offered = self.branches.offered.entry(*peer).or_default();
            let mut bytes: usize = offered.values().map(|entry| entry.bytes().length()).sum();
            for entry in proven {
                bytes += entry.bytes().length();
                if offered.len() >= limits::BRANCH_OPERATIONS || bytes > limits::BRANCH_BYTES {
                    break;
                }
                anything_new |= offered.insert(entry.hash(), entry).is_none();
            }
        }
        match vouched {
            true if anything_new => Offered::Something,
            true => Offered::NothingNew,
            false => Offered::Unvouched,
        }
    }

    fn hold_branch(&mut self, hash: Hash, beside: Beside) {
        self.count_operation(&beside.author, &beside.takes_up);
        self.branches.held.insert(hash, beside);
    }

    pub(crate) fn forget_branch(&mut self, hash: &Hash) {
        if let Some(beside) = self.branches.held.remove(hash) {
            self.count_out_operation(&beside.author, &beside.takes_up);
        }
    }

    /// Takes one operation behind a fork into the history.
    fn take_branch(&mut self, entry: &Authentic) -> Result<(), Stop> {
        let header = entry.header();
        if self.fork_of(&header.author, &header.log).is_none_or(|fork| header.seq < fork) {
            return Err(Stop::Missing);
        }
        let (known, takes_up) = (self.branches.held.contains_key(&entry.hash()), takes_up(header, entry.bytes()));
        if !known && !self.takes(&header.author, Measured::Operations, takes_up) {
            return Err(Stop::OverQuota);
        }
        if let Some(opening) = &header.opening {
            self.entitle(&header.author, LogKind::Control, &opening.under)?;
        }
        let control = self.control().ok_or(Stop::Missing)?;
        if header.previous.is_some_and(|previous| !control.holds(&previous)) {
            return Err(Stop::Missing);
        }
        if !control.continues(header) {
            return Err(Refusal::Run(RunRefusal::BrokenLink { seq: header.seq }).into());
        }
        self.apply(header, entry.hash(), entry.bytes().payload.sealed().unwrap_or_default())?;
        // What was offered before its log forked may be durable beside it by now.
        if !known {
            let (stands_alone, author) = (entry.stands_alone(), header.author);
            self.hold_branch(entry.hash(), Beside { durable: false, stands_alone, author, takes_up });
        }
        Ok(())
    }

    /// Takes operations behind forks, as far as they can be taken and one that was vouches for each: what is held without
    /// that, nobody could take of this node.
    fn take_vouched(&mut self, entries: Vec<Authentic>) -> Vec<Authentic> {
        let known: BTreeSet<Hash> = entries.iter().map(Authentic::hash).filter(|hash| self.has_heard(hash)).collect();
        let mut taken = in_order(entries);
        taken.retain(|entry| self.take_branch(entry).is_ok());
        let alone: BTreeSet<Hash> = taken.iter().filter(|one| one.stands_alone()).map(Authentic::hash).collect();
        for last in [false, false, true] {
            let mut vouched = alone.clone();
            let mut gone = BTreeSet::new();
            for entry in taken.iter().rev() {
                if vouched.contains(&entry.hash()) {
                    vouched.extend(entry.header().previous);
                } else if !known.contains(&entry.hash()) {
                    gone.insert(entry.hash());
                }
            }
            if gone.is_empty() {
                break;
            }
            if last {
                // Whoever has one hang on the other is not followed any further.
                gone = taken.iter().map(Authentic::hash).filter(|hash| !known.contains(hash)).collect();
            }
            let gone = self.control_mut().map(|control| control.forget(&gone)).unwrap_or_default();
            gone.iter().for_each(|hash| self.forget_branch(hash));
            taken.retain(|entry| !gone.contains(&entry.hash()));
        }
        taken
    }

    /// Takes of what peers offered all that counts. Returns what to store; with anything, who belongs may have changed.
    pub(crate) fn take_branches(&mut self) -> Vec<Write> {
        let offered = self.branches.offered();
        if offered.is_empty() {
            return Vec::new();
        }
        let held = self.branches.durable();
        let taken = self.take_vouched(offered.into_values().collect());
        let gone = if taken.is_empty() { BTreeSet::new() } else { self.forget_branches() };
        let mut writes: Vec<Write> = gone.intersection(&held).map(|hash| self.branch_fact(hash, None)).collect();
        for entry in taken.iter().filter(|entry| !gone.contains(&entry.hash())) {
            self.branches.taken(&entry.hash());
            if !held.contains(&entry.hash()) {
                writes.push(self.branch_fact(&entry.hash(), Some(entry.bytes())));
            }
        }
        if !taken.is_empty() {
            self.refold();
        }
        writes
    }

    /// Takes of what peers offered these operations and all that they build on. Whether any came. They stay if what needs
    /// them is taken: [`Self::settle_brought`].
    fn bring(&mut self, wanted: BTreeSet<Hash>, outcome: &mut Ingested) -> bool {
        let mut open: Vec<Hash> = wanted.into_iter().collect();
        let mut needed: BTreeMap<Hash, Authentic> = BTreeMap::new();
        let mut followers = None;
        while let Some(hash) = open.pop() {
            let held = self.control().is_none_or(|control| control.holds(&hash));
            if let Some(entry) = self.branches.find(&hash).filter(|_| !held && !needed.contains_key(&hash)) {
                open.extend(builds_on(entry.header(), entry.bytes().payload.sealed()));
                if !entry.stands_alone() {
                    let followers = followers.get_or_insert_with(|| self.branches.followers());
                    open.extend(way_to_voucher(followers, hash));
                }
                needed.insert(hash, entry.clone());
            }
        }
        let taken = self.take_vouched(needed.into_values().collect());
        for entry in &taken {
            outcome.brought.insert(entry.hash());
            outcome.writes.push(self.branch_fact(&entry.hash(), Some(entry.bytes())));
        }
        let brought = !taken.is_empty();
        if brought {
            self.refold();
        }
        brought
    }

    /// As [`Self::take`], with what peers offered of the branches that the entry builds on.
    pub(crate) fn take_with_branches(&mut self, entry: &Authentic, outcome: &mut Ingested) -> Result<bool, Stop> {
        let taken = self.take(entry);
        if taken != Err(Stop::Missing) || self.branches.offered.is_empty() {
            return taken;
        }
        let wanted = builds_on(entry.header(), entry.bytes().payload.sealed());
        if !self.bring(wanted, outcome) {
            return taken;
        }
        self.take(entry)
    }

    /// Lets go of what was brought and neither counts nor is needed by anything that was taken since. It is offered still.
    pub(crate) fn settle_brought(&mut self, outcome: &mut Ingested) {
        let brought = std::mem::take(&mut outcome.brought);
        if brought.is_empty() {
            return;
        }
        let held = self.branches.durable();
        let gone = self.forget_branches();
        outcome.writes.retain(|write| in_fact(write).is_none_or(|hash| !gone.contains(&hash)));
        outcome.writes.extend(gone.intersection(&held).map(|hash| self.branch_fact(hash, None)));
        let stay: Vec<Hash> = brought.into_iter().filter(|hash| self.has_heard(hash)).collect();
        stay.iter().for_each(|hash| self.branches.taken(hash));
        outcome.membership_changed |= !stay.is_empty();
        if !gone.is_empty() {
            self.refold();
        }
    }

    /// Takes of what peers offered the branches that a record builds on.
    pub(crate) fn bring_for_record(&mut self, record: &SignedRecord, outcome: &mut Ingested) {
        if self.branches.offered.is_empty() {
            return;
        }
        let heads = record.unverified(limits::RECORD_BYTES).map(|record| record.heads).unwrap_or_default();
        self.bring(heads.into_iter().collect(), outcome);
    }

    /// An operation behind a fork cannot be read back: it counts, and is not said to be held until it came again. False
    /// when that was known.
    pub(crate) fn branch_lost(&mut self, hash: &Hash) -> bool {
        self.branches.held.get_mut(hash).is_some_and(|beside| std::mem::take(&mut beside.durable))
    }

    /// The store made an operation behind a fork durable.
    pub(crate) fn branch_stored(&mut self, hash: &Hash) {
        self.branches.held.get_mut(hash).into_iter().for_each(|beside| beside.durable = true);
    }

    /// The operations behind forks that count and are durable, by log.
    pub(crate) fn durable_branches(&self) -> BTreeMap<(PublicKey, LogId), BTreeSet<Hash>> {
        let mut branches: BTreeMap<_, BTreeSet<Hash>> = BTreeMap::new();
        let counted = self.control().into_iter().flat_map(|control| control.counted_branches());
        let durable = |hash: &Hash| self.branches.held.get(hash).is_some_and(|beside| beside.durable);
        for (author, log, _, hash) in counted.filter(|(.., hash)| durable(hash)) {
            branches.entry((author, log)).or_default().insert(hash);
        }
        branches
    }
}

impl Engine {
    /// Hands a peer whose digest differs of the operations behind forks that are held here those that it was not handed in
    /// this session, no more at once than a line has room for: the next follow when it compares again.
    pub(crate) fn tell_branches(&mut self, peer: &PublicKey, circle: CircleId, store: &dyn Read) -> Result<(), Damage> {
        let names = self.circles.get(&circle).map(|replica| replica.branches.durable()).unwrap_or_default();
        if names.is_empty() || planted(Bug::BranchesKeptQuiet) {
            return Ok(());
        }
        // Before they are read: a peer may compare over and over.
        let Some((tag, untold)) = self.sync.untold_branches(peer, &circle, names) else { return Ok(()) };
        let mut entries = one_behind_the_other(self.branches_held(&circle, store)?);
        entries.retain(|entry| untold.contains(&entry.hash()));
        let mut bytes = 0;
        let full = entries.iter().position(|entry| {
            bytes += entry.length();
            // What follows an operation that is not signed itself may have to vouch for it.
            bytes > limits::BRANCHES_TOLD_BYTES && entry.signature_holds()
        });
        entries.truncate(full.map_or(entries.len(), |last| last + 1));
        self.sync.told_branches(peer, &circle, entries.iter().map(Decoded::hash));
        let entries = entries.into_iter().map(Decoded::into_bytes).collect();
        for entries in in_frames(entries).into_iter().filter(|entries| !entries.is_empty()) {
            let last = entries.last().and_then(|last| Stored::read(last.clone()).ok());
            let goes_on = last.is_some_and(|last| !last.is_signed());
            self.send(peer, &Frame::Branches { tag, entries, goes_on });
        }
        Ok(())
    }

    /// The operations behind forks that can be handed to others. What rot took of them members hand to this node.
    pub(crate) fn branches_held(&mut self, circle: &CircleId, store: &dyn Read) -> Result<Vec<EntryBytes>, Damage> {
        let (entries, lost) = held(store, circle)?;
        for (hash, damage) in lost {
            if self.circles.get_mut(circle).is_some_and(|replica| replica.branch_lost(&hash)) {
                self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
                self.sync.compare_soon(circle, self.now);
            }
        }
        Ok(entries.iter().map(|entry| entry.bytes().clone()).collect())
    }

    /// A peer holds these operations behind forks.
    pub(crate) fn branches_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        (entries, goes_on): (Vec<EntryBytes>, bool),
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let mut decoded = Vec::with_capacity(entries.len());
        for entry in entries {
            match Decoded::decode(entry) {
                Ok(entry) if entry.key().circle == circle && entry.header().suite.kind() == LogKind::Control => {
                    decoded.push(entry);
                }
                Ok(_) => {
                    self.fault(peer, circle, "a branch of something else than a control log of its circle".to_owned());
                    return Ok(());
                }
                Err(refusal) => {
                    self.fault(peer, circle, refusal.to_string());
                    return Ok(());
                }
            }
        }
        self.probe_branches(peer, circle, decoded.iter(), store)?;
        let heard: Vec<Hash> = decoded.iter().map(Decoded::hash).collect();
        let Some(replica) = self.circles.get_mut(&circle) else { return Ok(()) };
        match replica.offer_branches(peer, decoded, goes_on) {
            Offered::Something => {
                self.take_branches(&circle, store);
                self.sync.unblock(&circle, self.now);
            }
            // Said over and over, it must not have all that was offered looked through each time.
            Offered::NothingNew => {}
            Offered::Unvouched => {
                self.fault(peer, circle, "branches of control logs that their authors do not vouch for".to_owned());
            }
        }
        // Of what is held here it need not be told what came from it.
        let held = self.circles.get(&circle).map(|replica| &replica.branches.held);
        let held = heard.into_iter().filter(|hash| held.is_some_and(|held| held.contains_key(hash)));
        self.sync.told_branches(peer, &circle, held);
        Ok(())
    }

    /// Looks where operations from one bearer part from the logs that are held: a branch that leaves its log before the
    /// place known so far is proof of its own.
    pub(crate) fn probe_branches<'a>(
        &mut self,
        bearer: &PublicKey,
        circle: CircleId,
        operations: impl Iterator<Item = &'a Decoded>,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        for chain in chains(operations) {
            let (key, seq) = (chain[0].key(), chain[0].header().seq);
            let Some(replica) = self.circles.get(&circle) else { return Ok(()) };
            let held = |entry: &&Decoded| replica.control().is_some_and(|control| control.holds(&entry.hash()));
            let known = replica.fork_of(&key.author, &key.log).is_some_and(|known| known <= seq);
            if !known && !chain.iter().all(held) {
                let run: Vec<Decoded> = chain.into_iter().cloned().collect();
                self.probe(bearer, &key, &run, store)?;
            }
        }
        Ok(())
    }

    /// Takes of what peers offered all that counts by now.
    pub(crate) fn take_branches(&mut self, circle: &CircleId, store: &dyn Read) {
        let Some(replica) = self.circles.get_mut(circle) else { return };
        let writes = replica.take_branches();
        self.keep(*circle, writes, true, store);
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::{SigningKey, seal::SealingKey};

    use super::*;
    use crate::{
        circle::{Act, Charter, Control, MemberNode, Steward, Stewardship, Terms},
        log::{Draft, Opening, Suite, Under, Writer},
    };

    #[test]
    fn i7_what_a_steward_says_behind_a_fork_counts_for_its_quota() {
        let key = SigningKey::from_seed(&[1; 32]);
        let recipient = SealingKey::from_bytes([2; 32]).recipient();
        let node = MemberNode { node: key.public(), recipient };
        let charter = Charter {
            name: "a circle".to_owned(),
            stewards: vec![Steward { partner: "ncsc".parse().unwrap(), node }],
            terms: Terms::default(),
            secret: [3; 32],
            founded: Time(0),
            succeeds: None,
        };
        let (circle, log, author) = (charter.id(), LogId([4; 16]), key.public());
        let mut replica = Replica::closed(Control::new(charter));
        replica.refold();
        replica.note_fork(author, log, 0);
        let mut writer = Writer::open(circle, key, log, Opening { under: Under::Charter, cites: Vec::new() });
        let length = limits::PAYLOAD_BYTES - 1_000;
        let fit = limits::CONTROL_QUOTA.bytes as usize / length;
        for number in 0..fit + 5 {
            let terms = Terms { policy: vec![number as u8; length], ..Terms::default() };
            let operation =
                Operation { stewardship: Stewardship::Charter(0), heads: Vec::new(), act: Act::Policy { terms } };
            let payload = operation.to_bytes();
            let draft = Draft { suite: Suite::Control, epoch: None, payload, expiry: None, retracts: None };
            let entry = Decoded::decode(writer.append(Time(0), draft).bytes().clone()).unwrap();
            replica.offer_branches(&PublicKey([5; 32]), vec![entry], false);
            let writes = replica.take_branches();
            writes.iter().filter_map(in_fact).for_each(|hash| replica.branch_stored(&hash));
        }
        let held = replica.control().map(Control::operations).unwrap();
        assert!(held <= fit && held + 5 > fit, "{held} of {fit} that fit");
    }
}
