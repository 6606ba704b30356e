//! What one node holds of one circle: who belongs, the logs with their heights, and the epochs.
//!
//! A batch goes in ([`Replica::ingest`]) and comes out as what must be stored; heights count as durable
//! once the store said so ([`Replica::stored`]). Digests and tips speak of durable, decided logs alone.
//!
//! This file refuses to know peers and sessions; those are [`crate::sync`]'s.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Domain, Hash, PublicKey, Time,
    issuer_log::{CutLine, Heard, LogId, Statement, Word},
    root::TrustRoot,
};

use crate::{
    acceptance::{self, Reach},
    branches::{self, Branches},
    circle::{Control, Fold, History, Operation, OperationRefusal, Quota, Roster},
    epoch::{Epoch, RecordRefusal, SignedRecord},
    fork::{ForkProof, Forked},
    limits,
    log::{
        self, Authentic, CircleId, Decoded, EntryBytes, Link, LogKey, LogKind, LogName, Opening, RunRefusal, Stored,
        Suite, Under,
    },
    planted::{Bug, planted},
    store::{Damage, Read, Tip, Write},
    wire::{BucketHash, WireTip},
};

/// By what a circle decides who belongs.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a node has one for each of its circles, and no list of them is moved")]
pub enum Rule {
    /// The network circle: those whom the issuers certified and did not revoke.
    Network {
        /// What the issuers said.
        word: Word,
        /// Who may be an issuer, or could.
        root: TrustRoot,
    },
    /// Every other circle: its charter and its stewards' operations.
    Closed(Control),
}

/// One log as it is held.
#[derive(Debug, Clone)]
pub struct Log {
    /// Its kind.
    pub kind: LogKind,
    /// What its first entry says of it.
    pub opening: Opening,
    /// How many entries were handed to the store.
    pub height: u64,
    /// The hash of the last of those.
    pub head: Hash,
    /// Its claimed time.
    pub time: Time,
    /// The epoch of the last entry that has one.
    pub epoch: Option<Hash>,
    /// How many bytes those entries take, about.
    pub bytes: u64,
    /// How many entries the store has made durable.
    pub durable: u64,
    /// The hash of the last of those.
    pub durable_head: Option<Hash>,
    /// How many of the last entries that were handed to the store are not signed themselves: none, unless what vouches
    /// for them could not be taken, or is held no more.
    unsigned: usize,
}

impl Log {
    /// Whether it cites earlier logs of its author.
    pub fn cites(&self) -> bool {
        !self.opening.cites.is_empty()
    }

    /// How much of its author's quota it takes.
    fn used(&self) -> Quota {
        Quota { bytes: self.bytes, entries: self.height, logs: self.opening.counts(), epochs: 0 }
    }

    fn end(&self) -> LogEnd {
        (self.height, self.head, self.time, self.epoch, self.bytes)
    }

    fn link(&self) -> Link {
        Link::After { height: self.height, head: self.head, time: self.time, kind: self.kind, unsigned: self.unsigned }
    }
}

/// How far a log is held: its height, head, time, epoch and bytes.
type LogEnd = (u64, Hash, Time, Option<Hash>, u64);

/// Why a batch was not taken further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Something it builds on has not arrived; it may be asked for again later.
    #[error("it builds on something that has not arrived yet")]
    Missing,
    /// What follows lies beyond a cut, or behind a fork.
    #[error("it lies beyond the cut of its author's removal, or behind a fork")]
    Beyond,
    /// It is more of its author, or of who made its epoch, than this node takes.
    #[error("it is more of its author than the circle's quota lets others take; a steward can raise it")]
    OverQuota,
    /// Earlier entries of the log are missing.
    #[error("entries before it are missing")]
    Gap,
    /// It can never be part of this circle.
    #[error(transparent)]
    Never(#[from] Refusal),
}

/// Why an entry can never be part of a circle. Whoever made it is broken or hostile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not what the log continues with.
    #[error(transparent)]
    Run(RunRefusal),
    /// The author may not open a log under what it names.
    #[error("{author} opened a log under something that does not name it")]
    NotEntitled {
        /// The author.
        author: PublicKey,
    },
    /// A kind of entry that has no place in this circle.
    #[error("an entry of a kind that has no place in this circle")]
    WrongKind,
    /// The author is not in the set of the epoch it sealed to.
    #[error("{author} sealed to an epoch that does not name it")]
    EpochExcludesAuthor {
        /// The author.
        author: PublicKey,
    },
    /// It ends in another entry than the cut of its author's removal names.
    #[error("another branch of a log of {author} than the one that its removal names")]
    OtherBranch {
        /// The author.
        author: PublicKey,
    },
    /// An operation that cannot be one.
    #[error(transparent)]
    Operation(OperationRefusal),
    /// A record that cannot be one.
    #[error(transparent)]
    Record(RecordRefusal),
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Ingested {
    /// What to store, in this order.
    pub writes: Vec<Write>,
    /// Entries at its end that nothing vouches for yet; a later head may.
    pub undecided: Vec<Decoded>,
    /// Why it was not taken further.
    pub stop: Option<Stop>,
    /// Whether who belongs may have changed.
    pub membership_changed: bool,
    /// Operations behind forks that were brought for what builds on them, and may go again.
    pub(crate) brought: BTreeSet<Hash>,
}

/// What has a quota of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measured {
    Content,
    Operations,
}

impl Measured {
    fn of(kind: LogKind) -> Self {
        match kind {
            LogKind::Control => Self::Operations,
            LogKind::Content | LogKind::Network => Self::Content,
        }
    }
}

/// What one node holds of one circle.
#[derive(Debug, Clone)]
pub struct Replica {
    id: CircleId,
    /// By what it decides who belongs.
    pub rule: Rule,
    secret: [u8; 32],
    fold: Fold,
    logs: BTreeMap<(PublicKey, LogId), Log>,
    /// The first places that were signed twice.
    forks: BTreeMap<(PublicKey, LogId), u64>,
    /// Of logs that fork the entries before that: the proofs vouch for them.
    vouched: BTreeMap<(PublicKey, LogId), Hash>,
    /// Logs of which the store may hold another branch behind what is held of them here.
    aside: BTreeSet<(PublicKey, LogId)>,
    /// Logs of which it is known that they fork and that cannot be parted before the store answers.
    parting: BTreeSet<(PublicKey, LogId)>,
    /// Operations behind forks of control logs: of those there may be several for one place.
    pub(crate) branches: Branches,
    /// How far each of those is accepted: what [`acceptance`] concludes from the fold and the openings.
    reaches: BTreeMap<(PublicKey, LogId), Reach>,
    epochs: BTreeMap<Hash, Epoch>,
    /// How much is held of each node: content, and operations.
    used: BTreeMap<(PublicKey, Measured), Quota>,
    /// How much of that the store holds of logs behind where they fork, but for operations: who forks gets no room by it.
    parted: BTreeMap<LogName, Quota>,
    /// How much the store holds of this node's logs behind what nobody might take.
    held_back: BTreeMap<LogName, Quota>,
    /// How many bytes of payloads were dropped of logs: they count no longer.
    dropped: BTreeMap<(PublicKey, LogId), u64>,
    /// The nodes of which there is more than their quotas let in, and more of what, since who belongs or the policy
    /// changed last.
    full: BTreeSet<(PublicKey, Measured)>,
    /// Epochs whose records the store has made durable: before that nothing is sealed to one.
    durable_epochs: BTreeSet<Hash>,
    /// Records that the store holds and that build on operations which it lost.
    waiting_records: Vec<(Hash, SignedRecord)>,
    /// Those of them that waited no longer, and of which the engine has not heard.
    late_records: Vec<Hash>,
    /// Who belonged at control heads that records named of late, and what newcomers could open. Fixed for ever, and many
    /// records name the same.
    rosters: BTreeMap<Vec<Hash>, (Roster, History)>,
    /// Logs that the store holds further than they could be taken: what they build on could not be read back.
    stranded: BTreeSet<LogKey>,
}

impl Replica {
    /// The network circle, empty.
    pub fn network(root: TrustRoot) -> Self {
        let network = root.network();
        let rule = Rule::Network { word: Word::default(), root };
        Self::with(CircleId(network.0), rule, network.0.0)
    }

    /// A circle of which only the charter is known.
    pub fn closed(control: Control) -> Self {
        let id = control.charter().id();
        let secret = control.charter().secret;
        Self::with(id, Rule::Closed(control), secret)
    }

    fn with(id: CircleId, rule: Rule, secret: [u8; 32]) -> Self {
        let mut replica = Self {
            id,
            rule,
            secret,
            fold: Fold::default(),
            logs: BTreeMap::new(),
            forks: BTreeMap::new(),
            vouched: BTreeMap::new(),
            aside: BTreeSet::new(),
            parting: BTreeSet::new(),
            branches: Branches::default(),
            reaches: BTreeMap::new(),
            epochs: BTreeMap::new(),
            used: BTreeMap::new(),
            parted: BTreeMap::new(),
            held_back: BTreeMap::new(),
            dropped: BTreeMap::new(),
            full: BTreeSet::new(),
            durable_epochs: BTreeSet::new(),
            waiting_records: Vec::new(),
            late_records: Vec::new(),
            rosters: BTreeMap::new(),
            stranded: BTreeSet::new(),
        };
        replica.refold();
        replica
    }

    /// Fills a replica from the store: every log's opening and head, and all of those that decide who belongs.
    ///
    /// What cannot be read back is told, and its log is held up to there: peers that have the rest send it again.
    pub fn load(&mut self, store: &dyn Read, logs: &[(LogKey, Tip)]) -> Vec<Damage> {
        let mut damages = Vec::new();
        let mut waiting: Vec<(LogKey, u64)> = Vec::new();
        for (key, tip) in logs {
            match load_log(store, key, tip).map(|log| self.without_dropped(key, log)) {
                Ok(log) => {
                    if log.height < tip.height {
                        let what = format!("entry {} of log {} of {}", log.height, key.log, key.author);
                        damages.push(Damage { what, why: "nor what follows it".to_owned() });
                    }
                    if self.decides(&key.author, log.kind) {
                        waiting.push((*key, 0));
                    }
                    self.count_in(&key.author, &log);
                    self.logs.insert((key.author, key.log), log);
                }
                Err(damage) => damages.push(damage),
            }
        }
        let mut branches = self.load_branches(store, &mut damages);
        // Operations build on one another across logs: go round until nothing moves.
        loop {
            let before = branches.len();
            branches.retain(|entry| {
                let payload = entry.payload().unwrap_or_default();
                self.apply(entry.header(), entry.hash(), payload).is_err()
            });
            let mut moved = branches.len() < before;
            for (key, next) in &mut waiting {
                while *next < self.height(key) {
                    match read_entry(store, key, *next) {
                        Ok(entry) => {
                            match self.apply(entry.header(), entry.hash(), entry.payload().unwrap_or_default()) {
                                Ok(()) => (*next, moved) = (*next + 1, true),
                                Err(_) => break,
                            }
                        }
                        Err(damage) => {
                            damages.push(damage);
                            self.hold_up_to(store, key, *next);
                        }
                    }
                }
            }
            if !moved {
                break;
            }
        }
        for entry in branches {
            let what = format!("operation {} of a branch of log {}", entry.header().seq, entry.header().log);
            damages.push(Damage { what, why: "it builds on one that is not held".to_owned() });
            self.forget_branch(&entry.hash());
        }
        for (key, next) in waiting {
            if next < self.height(&key) {
                let what = format!("operation {next} of log {} of {}", key.log, key.author);
                damages.push(Damage { what, why: "it builds on one that is not held".to_owned() });
                self.hold_up_to(store, &key, next);
                self.stranded.insert(key);
            }
        }
        self.refold();
        damages
    }

    /// What was dropped of the payloads of this circle before, by log, in bytes.
    pub(crate) fn dropped_before(&mut self, dropped: BTreeMap<(PublicKey, LogId), u64>) {
        self.dropped = dropped;
    }

    fn without_dropped(&self, key: &LogKey, log: Log) -> Log {
        let dropped = self.dropped.get(&(key.author, key.log)).copied().unwrap_or(0);
        Log { bytes: log.bytes.saturating_sub(dropped), ..log }
    }

    /// A payload of a log is dropped: its author may write as much more.
    pub(crate) fn let_go(&mut self, key: &LogKey, bytes: u64) {
        let place = (key.author, key.log);
        *self.dropped.entry(place).or_default() += bytes;
        if let Some(log) = self.logs.get_mut(&place) {
            let less = bytes.min(log.bytes);
            log.bytes -= less;
            let measured = Measured::of(log.kind);
            self.used.entry((key.author, measured)).or_default().bytes -= less;
            self.full.remove(&(key.author, measured));
        }
    }

    /// How much is held of a log.
    pub(crate) fn height(&self, key: &LogKey) -> u64 {
        self.log(&key.author, &key.log).map_or(0, |held| held.height)
    }

    /// What the store holds of a log further on waits for something else, or no longer.
    pub(crate) fn note_stranded(&mut self, key: &LogKey, stranded: bool) {
        match stranded {
            true => self.stranded.insert(*key),
            false => {
                self.held_back.remove(&(key.author, key.log));
                self.stranded.remove(key)
            }
        };
    }

    /// Whether the store holds more of a log that waits for something.
    pub(crate) fn is_stranded(&self, key: &LogKey) -> bool {
        self.stranded.contains(key)
    }

    /// The logs of which more waits in the store for what could not be read back.
    pub(crate) fn stranded(&self) -> Vec<LogKey> {
        self.stranded.iter().copied().collect()
    }

    /// What the store holds of a log behind what is held of it here, about as much as goes into a frame. Nothing where that
    /// may be another branch.
    pub(crate) fn left_behind(&self, key: &LogKey, store: &dyn Read) -> Vec<EntryBytes> {
        let place = (key.author, key.log);
        let next = self.height(key);
        let parts = self.forks.contains_key(&place) || self.aside.contains(&place);
        if parts || self.is_in_flight(key) || !store.hash(key, next).is_ok_and(|held| held.is_some()) {
            return Vec::new();
        }
        let mut bytes = 0;
        let fits = |entry: &EntryBytes| {
            let before = bytes;
            bytes += entry.length();
            before < limits::FRAME_BYTES
        };
        (next..)
            .map_while(|seq| store.entry(key, seq).ok().flatten())
            .take_while(|entry| epoch_of(entry).is_none_or(|epoch| self.has_durable(&epoch)))
            .take_while(fits)
            .collect()
    }

    /// Whether the store holds a log further, and the next of it is sealed to an epoch whose record is not durable.
    pub(crate) fn waits_for_record(&self, key: &LogKey, store: &dyn Read) -> bool {
        let next = store.entry(key, self.height(key)).ok().flatten();
        next.and_then(|entry| epoch_of(&entry)).is_some_and(|epoch| !self.has_durable(&epoch))
    }

    /// The logs of an author that are sealed to one of these epochs, each up to the first entry that is.
    pub(crate) fn before_epochs(
        &self,
        author: &PublicKey,
        epochs: &BTreeSet<Hash>,
        store: &dyn Read,
    ) -> Vec<(LogKey, u64)> {
        // None of them can be sealed to what does not name its author.
        let names = |epoch: &Hash| self.epochs.get(epoch).is_none_or(|epoch| epoch.admits(author));
        if !epochs.iter().any(names) {
            return Vec::new();
        }
        let of_epoch = |key: &LogKey, seq: &u64| match store.entry(key, *seq) {
            Ok(Some(entry)) => epoch_of(&entry).is_some_and(|epoch| epochs.contains(&epoch)),
            _ => false,
        };
        let first = |(key, log): (LogKey, &Log)| Some((key, (0..log.height).find(|seq| of_epoch(&key, seq))?));
        self.logs_of(author).filter(|(_, log)| log.kind == LogKind::Content).filter_map(first).collect()
    }

    /// Holds a log of this node no further than this, because nobody might take what follows. That counts for what it may
    /// write: it comes back.
    pub(crate) fn hold_own_up_to(&mut self, store: &dyn Read, key: &LogKey, height: u64) {
        let behind = self.hold_up_to(store, key, height);
        let held_back = self.held_back.entry((key.author, key.log)).or_default();
        *held_back = held_back.plus(&behind);
        self.note_stranded(key, true);
    }

    /// Holds a log no further than this, because of damage behind it. Gives how much that leaves out.
    pub(crate) fn hold_up_to(&mut self, store: &dyn Read, key: &LogKey, height: u64) -> Quota {
        if height < self.height(key) { self.hold(store, key, height) } else { Quota::default() }
    }

    /// Holds so much of what the store has of a log. Gives how much less that is than before.
    pub(crate) fn hold(&mut self, store: &dyn Read, key: &LogKey, height: u64) -> Quota {
        let less = self.hold_unjudged(store, key, height);
        self.judge(&key.author);
        less
    }

    fn hold_unjudged(&mut self, store: &dyn Read, key: &LogKey, height: u64) -> Quota {
        let place = (key.author, key.log);
        let before = self.logs.remove(&place).inspect(|log| self.count_out(&key.author, log));
        let held = load_prefix(store, key, height).map(|log| self.without_dropped(key, log));
        let used = |log: &Option<Log>| log.as_ref().map(Log::used).unwrap_or_default();
        let less = used(&before).less(&used(&held));
        match held {
            Some(log) => {
                self.count_in(&key.author, &log);
                self.logs.insert(place, log);
            }
            None => drop(self.reaches.remove(&place)),
        }
        less
    }

    /// The first place of a log that its author signed twice, as far as there is proof.
    pub fn fork_of(&self, author: &PublicKey, log: &LogId) -> Option<u64> {
        self.forks.get(&(*author, *log)).copied()
    }

    /// Whether a log, held or held no longer because of a fork, is one of a steward's operations.
    pub fn is_of_steward(&self, key: &LogKey) -> bool {
        let held = self.log(&key.author, &key.log).is_some_and(|log| log.kind == LogKind::Control);
        held || self.durable_branches().contains_key(&(key.author, key.log))
    }

    /// All forked logs.
    pub fn forks(&self) -> impl Iterator<Item = (&(PublicKey, LogId), &u64)> {
        self.forks.iter()
    }

    /// Whether an author has to do with this circle, or had: of nobody else is anything remembered.
    pub(crate) fn knows(&self, author: &PublicKey) -> bool {
        let named = || match &self.rule {
            Rule::Network { word, root } => word.certificate(author).is_some() || root.known(author).is_some(),
            Rule::Closed(control) => control.names(author),
        };
        // Nearly always it counts, and not all operations need to be looked through.
        self.counts(author) || named() || self.logs_of(author).next().is_some()
    }

    /// How many logs of an author are forked.
    pub fn forks_of(&self, author: &PublicKey) -> usize {
        self.forks.range((*author, LogId([0; 16]))..=(*author, LogId([255; 16]))).count()
    }

    /// An author forked a log: behind that it is held no more, unless it is along the branch that a cut names. Of a
    /// control log the operations behind it are held beside the log from here on, with what of them counts. Returns
    /// what to store.
    pub(crate) fn fork(&mut self, store: &dyn Read, forked: Forked) -> Result<Vec<Write>, Damage> {
        let Forked { key, seq } = forked;
        let kind = self.log(&key.author, &key.log).map(|log| log.kind);
        let writes = if kind == Some(LogKind::Control) { self.part(store, &key, seq)? } else { Vec::new() };
        self.note_fork(key.author, key.log, seq);
        self.refold();
        if self.leave_branch(store, &key) {
            return Ok(writes);
        }
        if kind.is_some_and(|kind| kind != LogKind::Control && !self.decides(&key.author, kind)) {
            self.keep_to_branch(store, &key);
        }
        Ok(writes)
    }

    /// Remembers for which entry the proof of a fork vouches.
    pub(crate) fn vouch_before(&mut self, key: &LogKey, proof: &ForkProof) {
        if let Some(before) = proof.before() {
            self.vouched.insert((key.author, key.log), before);
        }
    }

    /// Holds a log that forks up to there, if a cut names a branch, and what is held is another, or not yet all of it.
    pub(crate) fn leave_branch(&mut self, store: &dyn Read, key: &LogKey) -> bool {
        let (Some(Reach::Cut(cut, head)), Some(fork)) =
            (self.reach(&key.author, &key.log), self.fork_of(&key.author, &key.log))
        else {
            return false;
        };
        if !self.may_part(key) || self.height(key) <= fork || is_along(store, key, cut, head) {
            return false;
        }
        self.set_aside(store, key, fork);
        self.refold();
        true
    }

    /// Remembers where a log forks.
    pub(crate) fn note_fork(&mut self, author: PublicKey, log: LogId, seq: u64) {
        let lowest = self.forks.entry((author, log)).or_insert(seq);
        *lowest = seq.min(*lowest);
        if let Rule::Closed(control) = &mut self.rule {
            control.fork(author, log, seq);
        }
    }

    /// Whether entries of a log are on their way to the store, so that it cannot be parted yet: what the store does not
    /// hold can be neither read back nor told from another branch.
    pub(crate) fn is_in_flight(&self, key: &LogKey) -> bool {
        self.log(&key.author, &key.log).is_some_and(|log| log.durable < log.height)
    }

    /// Takes nothing more of a log until the store holds what is on its way, and it can be parted: an author that writes
    /// on would put that off.
    pub(crate) fn part_soon(&mut self, key: &LogKey) {
        self.parting.insert((key.author, key.log));
    }

    /// Takes more of a log again.
    pub(crate) fn part_now(&mut self, key: &LogKey) {
        self.parting.remove(&(key.author, key.log));
    }

    /// Looks anew at the logs of which another branch may be held than the one that counts.
    pub(crate) fn keep_to_branches(&mut self, store: &dyn Read) {
        let logs: Vec<LogKey> = self.logs().map(|(key, _)| key).collect();
        self.keep_to_branches_of(store, &logs);
    }

    /// As [`Self::keep_to_branches`], of these logs.
    pub(crate) fn keep_to_branches_of(&mut self, store: &dyn Read, logs: &[LogKey]) {
        let mut forgot = false;
        for key in logs {
            // What is on its way is looked at once it is there.
            if self.may_part(key) && !self.is_in_flight(key) {
                forgot |= self.keep_to_branch(store, key);
            }
        }
        if forgot {
            self.refold();
        }
    }

    /// Whether of a log that forks one branch alone is held.
    fn may_part(&self, key: &LogKey) -> bool {
        let Some(log) = self.log(&key.author, &key.log) else { return false };
        // An issuer that was dropped is cut as any author; before that, what it said on any branch stands.
        let dropped = self.root().is_some() && matches!(self.reach(&key.author, &key.log), Some(Reach::Cut(..)));
        !self.decides(&key.author, log.kind) || dropped
    }

    /// Holds no further what may be another branch than the one that counts. Whether the issuers' word is another
    /// without it.
    fn set_aside(&mut self, store: &dyn Read, key: &LogKey, keeps: u64) -> bool {
        let place = (key.author, key.log);
        self.aside.insert(place);
        let counts = self.logs.get(&place).is_some_and(|log| Measured::of(log.kind) == Measured::Content);
        let behind = self.hold(store, key, keeps);
        if counts {
            let parted = self.parted.entry(place).or_default();
            *parted = parted.plus(&behind);
            let used = self.used.entry((key.author, Measured::Content)).or_default();
            *used = used.plus(&behind);
        }
        match &mut self.rule {
            Rule::Network { word, root } => word.forget(&key.author, &key.log, keeps, root),
            Rule::Closed(_) => false,
        }
    }

    fn keep_to_branch(&mut self, store: &dyn Read, key: &LogKey) -> bool {
        let (height, fork) = (self.height(key), self.fork_of(&key.author, &key.log));
        if planted(Bug::OtherBranchStays) && matches!(self.reach(&key.author, &key.log), Some(Reach::Cut(..))) {
            return false;
        }
        let keeps = match self.reach(&key.author, &key.log) {
            // What was set aside may be the very branch that a cut names.
            Some(Reach::Cut(cut, head)) if cut > 0 && is_along(store, key, cut, head) => {
                if height < cut && self.aside.contains(&(key.author, key.log)) {
                    self.count_out_parted(&(key.author, key.log));
                    self.hold(store, key, cut);
                }
                return false;
            }
            Some(Reach::Cut(cut, _)) if cut > 0 && height >= cut => fork.unwrap_or(0).min(cut - 1),
            Some(Reach::Forked(fork)) if height > fork => fork,
            Some(Reach::Undecided) if fork.is_some_and(|fork| height > fork) => fork.unwrap_or(0),
            _ => return false,
        };
        self.set_aside(store, key, keeps)
    }

    /// The content logs that are held beyond the cut of a removal, with how many entries that leaves.
    pub(crate) fn beyond_cuts(&self) -> impl Iterator<Item = (LogKey, &Log, u64)> {
        self.logs().filter_map(|(key, log)| Some((key, log, self.cut_within(&key, log)?)))
    }

    /// How many entries the cut of a removal leaves of a content log, if more of it are held.
    fn cut_within(&self, key: &LogKey, log: &Log) -> Option<u64> {
        match self.reach(&key.author, &key.log) {
            Some(Reach::Cut(cut, _)) if log.kind == LogKind::Content && log.height > cut => Some(cut),
            _ => None,
        }
    }

    /// Holds these logs no further than the cuts of removals leave of them. Gives those that were held beyond one, with
    /// how much is left.
    pub(crate) fn drop_beyond_cuts(&mut self, store: &dyn Read, logs: &[LogKey]) -> Vec<(LogKey, u64)> {
        let beyond = |key: &LogKey| Some((*key, self.cut_within(key, self.log(&key.author, &key.log)?)?));
        let beyond: Vec<(LogKey, u64)> = logs.iter().filter_map(beyond).collect();
        for (key, cut) in &beyond {
            self.hold_unjudged(store, key, *cut);
            self.count_out_parted(&(key.author, key.log));
        }
        // Of one author there may be thousands, and all of an author's are judged together.
        let authors: BTreeSet<PublicKey> = beyond.iter().map(|(key, _)| key.author).collect();
        authors.iter().for_each(|author| self.judge(author));
        beyond
    }

    fn count_in(&mut self, author: &PublicKey, log: &Log) {
        let used = self.used.entry((*author, Measured::of(log.kind))).or_default();
        *used = used.plus(&log.used());
    }

    fn count_out(&mut self, author: &PublicKey, log: &Log) {
        let used = self.used.entry((*author, Measured::of(log.kind))).or_default();
        *used = used.less(&log.used());
    }

    /// An operation is held beside its log.
    pub(crate) fn count_operation(&mut self, author: &PublicKey, takes_up: &Quota) {
        let used = self.used.entry((*author, Measured::Operations)).or_default();
        *used = used.plus(takes_up);
    }

    /// It is no more.
    pub(crate) fn count_out_operation(&mut self, author: &PublicKey, takes_up: &Quota) {
        let used = self.used.entry((*author, Measured::Operations)).or_default();
        *used = used.less(takes_up);
    }

    /// What the store holds of a log behind its fork is taken back, or goes.
    pub(crate) fn count_out_parted(&mut self, place: &LogName) {
        let Some(parted) = self.parted.remove(place) else { return };
        let used = self.used.entry((place.0, Measured::Content)).or_default();
        *used = used.less(&parted);
    }

    /// How much is held of a node's content.
    pub fn used(&self, author: &PublicKey) -> Quota {
        self.used.get(&(*author, Measured::Content)).copied().unwrap_or_default()
    }

    /// How much of one node's content this node takes.
    pub fn quota(&self) -> Quota {
        let said = self.control().and_then(|control| control.terms(&self.fold).quota);
        said.unwrap_or(limits::QUOTA)
    }

    /// The nodes of which there is more than is taken.
    pub(crate) fn full(&self) -> BTreeSet<PublicKey> {
        self.full.iter().map(|(author, _)| *author).filter(|author| self.counts(author)).collect()
    }

    /// Whether nothing more of a node's logs of a kind is asked for, because there is more of them than is taken. Whoever
    /// writes too much may be a steward whose operations are few.
    pub(crate) fn is_full(&self, author: &PublicKey, kind: LogKind) -> bool {
        let measured = Measured::of(kind);
        self.full.contains(&(*author, measured)) && self.has_quota(author, measured)
    }

    /// Whether there is a quota for what a node writes. Of content that who does not count wrote a cut says how much there
    /// is, and that is taken in any case; operations no cut bounds.
    fn has_quota(&self, author: &PublicKey, measured: Measured) -> bool {
        measured == Measured::Operations || self.counts(author)
    }

    /// Whether so much more of a node is within its quota.
    pub(crate) fn takes(&mut self, author: &PublicKey, measured: Measured, more: Quota) -> bool {
        if !self.has_quota(author, measured) {
            return true;
        }
        let quota = match measured {
            Measured::Content => self.quota(),
            Measured::Operations => limits::CONTROL_QUOTA,
        };
        let used = self.used.get(&(*author, measured)).copied().unwrap_or_default();
        let takes = quota.holds(&used.plus(&more)) || planted(Bug::IgnoreQuota);
        if !takes {
            self.full.insert((*author, measured));
        }
        takes
    }

    /// Whether one more epoch of a node is within its quota. No cut bounds those of who does not count: it can go on to
    /// sign what builds on the operations by which it did. What it made while it counted is taken all the same, though a
    /// policy said less since.
    fn takes_epoch(&mut self, maker: &PublicKey) -> bool {
        if self.counts(maker) {
            return self.takes(maker, Measured::Content, Quota { epochs: 1, ..Quota::default() });
        }
        let most = self.quota().epochs.max(limits::QUOTA.epochs);
        self.used(maker).epochs < most || planted(Bug::IgnoreQuota)
    }

    fn takes_entry(&mut self, entry: &Authentic) -> bool {
        let header = entry.header();
        let kind = header.suite.kind();
        // What an issuer says is bounded by whom the root document allows.
        if kind == LogKind::Network && self.decides(&header.author, kind) {
            return true;
        }
        self.takes(&header.author, Measured::of(kind), takes_up(header, entry.bytes()))
    }

    /// Whether a node publishes so much more content, or takes something back with it: others would take it.
    pub(crate) fn may_write(&self, author: &PublicKey, retracts: bool, more: &Quota) -> bool {
        let quota = if retracts { self.quota() } else { self.quota().to_publish() };
        let own = self.held_back.iter().filter(|((by, _), _)| by == author);
        let used = own.fold(self.used(author), |used, (_, held_back)| used.plus(held_back));
        quota.holds(&used.plus(more))
    }

    fn add_epoch(&mut self, hash: Hash, epoch: Epoch) {
        let maker = epoch.maker;
        if self.epochs.insert(hash, epoch).is_none() {
            self.used.entry((maker, Measured::Content)).or_default().epochs += 1;
        }
    }

    /// Takes a record that the store holds back into memory. One that builds on an operation which is not held, or
    /// no longer, waits for it.
    pub fn load_record(&mut self, hash: Hash, record: SignedRecord) -> Result<(), RecordRefusal> {
        match self.verify(&record) {
            Ok(epoch) => {
                self.add_epoch(hash, epoch);
                self.durable_epochs.insert(hash);
                Ok(())
            }
            Err(RecordRefusal::Missing) => {
                self.waiting_records.push((hash, record));
                Ok(())
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The records that the store held all along, and that could be taken since this was asked last.
    pub(crate) fn late_records(&mut self) -> Vec<Hash> {
        std::mem::take(&mut self.late_records)
    }

    /// The circle's id.
    pub fn id(&self) -> CircleId {
        self.id
    }

    /// What members recognise each other by.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Its control history, unless it is the network circle.
    pub fn control(&self) -> Option<&Control> {
        match &self.rule {
            Rule::Closed(control) => Some(control),
            Rule::Network { .. } => None,
        }
    }

    /// Whether an operation is part of the history, be it that rot took it from the store.
    pub(crate) fn has_heard(&self, operation: &Hash) -> bool {
        self.control().is_some_and(|control| control.holds(operation))
    }

    pub(crate) fn control_mut(&mut self) -> Option<&mut Control> {
        match &mut self.rule {
            Rule::Closed(control) => Some(control),
            Rule::Network { .. } => None,
        }
    }

    /// What the issuers said, in the network circle.
    pub fn word(&self) -> Option<&Word> {
        match &self.rule {
            Rule::Network { word, .. } => Some(word),
            Rule::Closed(_) => None,
        }
    }

    /// The root of trust, in the network circle.
    pub fn root(&self) -> Option<&TrustRoot> {
        match &self.rule {
            Rule::Network { root, .. } => Some(root),
            Rule::Closed(_) => None,
        }
    }

    /// Judges everything that is held of the network circle by a new version of the root document. Gives what cannot be read
    /// back of the logs of those that it alone makes issuers: they are held where rot had taken this version.
    pub(crate) fn rejudge(&mut self, new: TrustRoot, store: &dyn Read) -> Vec<Damage> {
        let says_nothing =
            |(key, log): &(LogKey, &Log)| log.kind == LogKind::Network && !self.decides(&key.author, LogKind::Network);
        let unheard: Vec<(LogKey, u64)> =
            self.logs().filter(says_nothing).map(|(key, log)| (key, log.height)).collect();
        if let Rule::Network { word, root } = &mut self.rule {
            word.refold(&new);
            *root = new;
        }
        let mut damages = Vec::new();
        for (key, height) in unheard {
            if !self.decides(&key.author, LogKind::Network) {
                continue;
            }
            for seq in 0..height {
                match read_entry(store, &key, seq) {
                    // One that says nothing to this version of the program is kept all the same.
                    Ok(entry) => drop(self.apply(entry.header(), entry.hash(), entry.payload().unwrap_or_default())),
                    Err(damage) => {
                        damages.push(damage);
                        self.hold_up_to(store, &key, seq);
                        break;
                    }
                }
            }
        }
        self.refold();
        damages
    }

    /// What the fold concludes now; empty in the network circle.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Whether a node counts.
    pub fn counts(&self, node: &PublicKey) -> bool {
        match &self.rule {
            Rule::Network { word, .. } => word.certificate(node).is_some() && word.revocation(node).is_none(),
            Rule::Closed(_) => self.fold.roster().counts(node),
        }
    }

    /// A log that is held.
    pub fn log(&self, author: &PublicKey, log: &LogId) -> Option<&Log> {
        self.logs.get(&(*author, *log))
    }

    /// All logs that are held.
    pub fn logs(&self) -> impl Iterator<Item = (LogKey, &Log)> {
        self.logs.iter().map(|((author, log), held)| (LogKey { circle: self.id, author: *author, log: *log }, held))
    }

    /// All logs of one author that are held.
    pub fn logs_of(&self, author: &PublicKey) -> impl Iterator<Item = (LogKey, &Log)> {
        let range = (*author, LogId([0; 16]))..=(*author, LogId([255; 16]));
        self.logs
            .range(range)
            .map(|((author, log), held)| (LogKey { circle: self.id, author: *author, log: *log }, held))
    }

    /// An epoch whose record is held.
    pub fn epoch(&self, hash: &Hash) -> Option<&Epoch> {
        self.epochs.get(hash)
    }

    /// All epochs whose records are held.
    pub fn epochs(&self) -> impl Iterator<Item = (&Hash, &Epoch)> {
        self.epochs.iter()
    }

    /// Whether what stands in such a log decides who belongs, so that it must come before the rest.
    pub fn decides(&self, author: &PublicKey, kind: LogKind) -> bool {
        match (&self.rule, kind) {
            (Rule::Closed(_), LogKind::Control) => true,
            (Rule::Network { root, .. }, LogKind::Network) => root.known(author).is_some(),
            _ => false,
        }
    }

    pub(crate) fn refold(&mut self) {
        if let Rule::Closed(control) = &self.rule {
            self.fold = control.fold();
        }
        // A quota may have been raised.
        self.full.clear();
        for (hash, record) in std::mem::take(&mut self.waiting_records) {
            // What can never be a record was refused before it was stored.
            if self.load_record(hash, record).is_ok() && self.epochs.contains_key(&hash) {
                self.late_records.push(hash);
            }
        }
        let authors: BTreeSet<PublicKey> = self.logs.keys().map(|(author, _)| *author).collect();
        authors.iter().for_each(|author| self.judge(author));
    }

    /// Concludes anew how far an author's logs are accepted.
    fn judge(&mut self, author: &PublicKey) {
        let reaches = acceptance::reaches(self, author);
        self.reaches.extend(reaches.into_iter().map(|(log, reach)| ((*author, log), reach)));
    }

    /// How far a held log is accepted.
    pub(crate) fn reach(&self, author: &PublicKey, log: &LogId) -> Option<Reach> {
        self.reaches.get(&(*author, *log)).copied()
    }

    /// The earlier logs of an author, of one kind, that its other logs do not cite to their heads: what its
    /// next opening cites, and what a cut at this moment lists.
    pub fn uncited(&self, author: &PublicKey, kind: Option<LogKind>) -> Vec<CutLine> {
        let cited: BTreeSet<CutLine> = self.cited(Some(author)).map(|(_, line)| line).collect();
        self.logs_of(author)
            .filter(|(_, log)| kind.is_none_or(|kind| log.kind == kind))
            .filter_map(|(key, log)| {
                let line = CutLine { log: key.log, height: log.durable, head: log.durable_head? };
                (!cited.contains(&line)).then_some(line)
            })
            .collect()
    }

    /// What openings cite, in the order of who wrote them; the same may come several times.
    fn cited(&self, author: Option<&PublicKey>) -> impl Iterator<Item = (LogName, CutLine)> {
        let whole = (PublicKey([0; 32]), LogId([0; 16]))..=(PublicKey([255; 32]), LogId([255; 16]));
        let range = author.map_or(whole, |author| (*author, LogId([0; 16]))..=(*author, LogId([255; 16])));
        self.logs
            .range(range)
            // An opening that is not accepted itself cites nothing: others may not hold it.
            .filter(|((by, id), log)| log.cites() && self.accepted(by, id) > 0)
            .flat_map(|((by, _), log)| log.opening.cites.iter().map(|line| ((*by, line.log), *line)))
    }

    /// The logs that the opening of one cites, and what theirs cite in turn, as far as they are held.
    pub(crate) fn cited_from(&self, key: &LogKey) -> Vec<LogKey> {
        let cites = |log: &LogId| {
            let held = self.log(&key.author, log);
            held.into_iter().flat_map(|held| &held.opening.cites).map(|line| line.log)
        };
        let mut cited = BTreeSet::new();
        let mut next: Vec<LogId> = cites(&key.log).collect();
        while let Some(log) = next.pop() {
            if cited.insert(log) {
                next.extend(cites(&log));
            }
        }
        cited.into_iter().map(|log| LogKey { log, ..*key }).collect()
    }

    /// As [`Self::uncited`], but not more than `limit`: the longest, when there are more. An honest author never
    /// has so many; of a hostile one nothing that matters is lost.
    pub fn longest_uncited(&self, author: &PublicKey, kind: Option<LogKind>, limit: usize) -> Vec<CutLine> {
        let mut lines = self.uncited(author, kind);
        if lines.len() > limit {
            lines.sort_by_key(|line| (std::cmp::Reverse(line.height), line.log));
            lines.truncate(limit);
            lines.sort();
        }
        lines
    }

    /// How much is held of an author's logs, durably: each to where a listed log cites it, if it is not listed itself. A
    /// log that is cited further than it is held is listed with what there is of it, be it nothing. No more than `limit`;
    /// of a hostile author that may be less than is held, and never more.
    pub(crate) fn held_of(&self, author: &PublicKey, limit: usize) -> Vec<CutLine> {
        let openings = self.logs_of(author).flat_map(|(_, log)| &log.opening.cites);
        let mut lines: BTreeMap<LogId, CutLine> = BTreeMap::new();
        for line in openings {
            let held = self.log(author, &line.log);
            let height = held.map_or(0, |held| held.durable);
            if height < line.height && !planted(Bug::CitedTakenForHeld) {
                let head = held.and_then(|held| held.durable_head).unwrap_or(Hash([0; 32]));
                lines.insert(line.log, CutLine { log: line.log, height, head });
            }
        }
        if lines.len() > limit {
            return Vec::new();
        }
        for line in self.longest_uncited(author, None, limit - lines.len()) {
            lines.entry(line.log).or_insert(line);
        }
        lines.into_values().collect()
    }

    /// Takes records that were asked for by name.
    pub(crate) fn ingest_records(&mut self, records: Vec<SignedRecord>) -> Ingested {
        let outcome = self.take_records(records);
        self.settled(outcome)
    }

    /// Takes a run of one log, and the records it came with, as far as can be decided now. A record that no entry of the
    /// run names is none of it: whoever sends one can make as many as it likes.
    pub fn ingest(&mut self, records: Vec<SignedRecord>, run: Vec<Decoded>) -> Ingested {
        let outcome = self.take_run(records, run);
        self.settled(outcome)
    }

    fn settled(&mut self, mut outcome: Ingested) -> Ingested {
        self.settle_brought(&mut outcome);
        if outcome.membership_changed {
            self.refold();
        }
        outcome
    }

    fn take_records(&mut self, records: Vec<SignedRecord>) -> Ingested {
        let mut outcome = Ingested::default();
        for record in records {
            self.bring_for_record(&record, &mut outcome);
            if let Err(stop) = self.ingest_record(&record, &mut outcome) {
                outcome.stop = Some(stop);
                break;
            }
        }
        outcome
    }

    fn take_run(&mut self, mut records: Vec<SignedRecord>, mut run: Vec<Decoded>) -> Ingested {
        let named: BTreeSet<Hash> = run.iter().filter_map(|entry| entry.header().epoch).collect();
        let mut brought: BTreeSet<Hash> = BTreeSet::new();
        records.retain(|record| {
            let hash = record.hash(Domain::EPOCH);
            named.contains(&hash) && brought.insert(hash)
        });
        let mut outcome = self.take_records(records);
        let refused = outcome.stop.take();
        if let Some(stop) = &refused {
            // Whoever brings it may have made up the entry beside it.
            let is_refused = |epoch: &Hash| brought.contains(epoch) && !self.epochs.contains_key(epoch);
            let sealed_to_it = |entry: &Decoded| entry.header().epoch.as_ref().is_some_and(is_refused);
            let sealed = run.iter().filter(|entry| sealed_to_it(entry)).find(|entry| entry.signature_holds());
            if let (Stop::OverQuota, Some(entry)) = (stop, sealed) {
                self.full.insert((entry.header().author, Measured::Content));
            }
            // What stands before the first that is sealed to it does not need it.
            run.truncate(run.iter().position(sealed_to_it).unwrap_or(run.len()));
        }
        let mut taken = self.take_entries(run, outcome);
        if refused.is_some() {
            // Nothing behind them comes that could vouch for these.
            taken.undecided.clear();
        }
        Ingested { stop: taken.stop.or(refused), ..taken }
    }

    fn take_entries(&mut self, run: Vec<Decoded>, mut outcome: Ingested) -> Ingested {
        let Some(key) = run.first().map(Decoded::key) else { return outcome };
        let held = self.logs.get(&(key.author, key.log));
        let link = held.map_or(Link::Start, Log::link);
        let (next, unsigned) = held.map_or((0, 0), |held| (held.height, held.unsigned));
        let before = held.map(Log::end);
        let mut run: Vec<Decoded> = run.into_iter().skip_while(|entry| entry.header().seq < next).collect();
        let forks = self.vouch(&key, &mut run);
        let authenticated = match log::authenticate(run, link) {
            Ok(authenticated) => authenticated,
            Err(RunRefusal::Gap { .. }) => {
                outcome.stop = Some(Stop::Gap);
                return outcome;
            }
            Err(refusal) => {
                outcome.stop = Some(Stop::Never(Refusal::Run(refusal)));
                return outcome;
            }
        };
        outcome.undecided = authenticated.undecided;
        outcome.stop = authenticated.refused.map(|refusal| match unsigned > 0 && authenticated.proven.is_empty() {
            // It may be only with what is held here that there are too many; somebody else may have them signed.
            true => Stop::Missing,
            false => Stop::Never(Refusal::Run(refusal)),
        });
        let operations = authenticated.proven.iter().filter(|entry| entry.header().suite == Suite::Control);
        let known: BTreeSet<Hash> = operations.map(Authentic::hash).filter(|hash| self.has_heard(hash)).collect();
        for entry in authenticated.proven {
            let taken = match self.takes_entry(&entry) {
                true => self.take_with_branches(&entry, &mut outcome),
                false => Err(Stop::OverQuota),
            };
            match taken {
                Ok(decisive) => {
                    outcome.membership_changed |= decisive;
                    outcome.writes.push(Write::Entry(entry));
                }
                Err(stop) => {
                    outcome.stop = Some(stop);
                    outcome.undecided.clear();
                    break;
                }
            }
        }
        if matches!(outcome.stop, Some(Stop::Missing | Stop::OverQuota | Stop::Never(_))) {
            self.hold_back(&key, before, &known, &mut outcome);
        }
        if forks || outcome.stop.is_some() {
            self.ends_unsigned(&key, unsigned, &outcome.writes);
        }
        outcome
    }

    /// Marks the entries of a run that the proof of a fork, or the cut of a removal, vouches for; whether there is such a
    /// proof or cut.
    fn vouch(&self, key: &LogKey, run: &mut [Decoded]) -> bool {
        let before = self.vouched.get(&(key.author, key.log)).copied();
        let reach = match run.first().and_then(|first| first.header().opening.as_ref()) {
            Some(opening) => acceptance::reach_under(self, &key.author, &key.log, &opening.under),
            None => acceptance::reach(self, &key.author, &key.log),
        };
        let last = if let Reach::Cut(_, head) = reach { Some(head) } else { None };
        let vouches = |entry: &&mut Decoded| before.iter().chain(&last).any(|hash| *hash == entry.hash());
        run.iter_mut().filter(vouches).for_each(Decoded::vouch);
        before.or(last).is_some()
    }

    /// Gives up the end of what was taken of a run, if only what was not taken vouches for it: nobody could take it of this
    /// node, and what counts here would count nowhere else. Of operations those are not given up that are `known` from
    /// before: rot took them from the store alone, and others build on them.
    fn hold_back(&mut self, key: &LogKey, before: Option<LogEnd>, known: &BTreeSet<Hash>, outcome: &mut Ingested) {
        let of_run = |write: &Write| matches!(write, Write::Entry(entry) if entry.key() == *key);
        let (run, others): (Vec<Write>, Vec<Write>) = std::mem::take(&mut outcome.writes).into_iter().partition(of_run);
        outcome.writes = others;
        let mut run: Vec<Authentic> = run
            .into_iter()
            .filter_map(|write| match write {
                Write::Entry(entry) => Some(entry),
                _ => None,
            })
            .collect();
        let stands = run.iter().rposition(Authentic::stands_alone).map_or(0, |last| last + 1);
        let place = (key.author, key.log);
        // What an issuer says is taken to its end, whatever it says.
        let is_issuers =
            self.root().is_some() && self.logs.get(&place).is_none_or(|log| self.decides(&key.author, log.kind));
        if stands < run.len() && !is_issuers {
            self.put_back(key, before);
            let heard = run[stands..].iter().map(Authentic::hash).filter(|hash| !known.contains(hash)).collect();
            self.unhear(&heard, outcome);
            let again = run.iter().take(stands).take_while(|entry| self.take(entry).is_ok()).count();
            run.truncate(again);
            self.judge(&key.author);
        }
        outcome.writes.extend(run.into_iter().map(Write::Entry));
    }

    /// Holds a log as far as before something was taken of it that is not on its way to the store yet.
    fn put_back(&mut self, key: &LogKey, end: Option<LogEnd>) {
        let place = (key.author, key.log);
        let Some(mut log) = self.logs.remove(&place) else { return };
        self.count_out(&key.author, &log);
        match end {
            Some(end) => {
                (log.height, log.head, log.time, log.epoch, log.bytes) = end;
                self.count_in(&key.author, &log);
                self.logs.insert(place, log);
            }
            None => drop(self.reaches.remove(&place)),
        }
    }

    /// Takes operations out of the history that came just now, with the branches that were brought since and build on them.
    fn unhear(&mut self, operations: &BTreeSet<Hash>, outcome: &mut Ingested) {
        let gone = self.control_mut().map(|control| control.forget(operations)).unwrap_or_default();
        gone.iter().for_each(|hash| self.forget_branch(hash));
        outcome.writes.retain(|write| branches::in_fact(write).is_none_or(|hash| !gone.contains(&hash)));
    }

    /// What was taken of a run may not end with the entry that vouches for it: how many entries at its end are not signed
    /// themselves, behind so many that were not before.
    fn ends_unsigned(&mut self, key: &LogKey, before: usize, taken: &[Write]) {
        let Some(log) = self.logs.get_mut(&(key.author, key.log)) else { return };
        let of_log = taken.iter().filter_map(|write| match write {
            Write::Entry(entry) if entry.key() == *key => Some(entry),
            _ => None,
        });
        let taken: Vec<&Authentic> = of_log.collect();
        let signed = taken.iter().rev().position(|entry| entry.is_signed());
        log.unsigned = signed.unwrap_or(before + taken.len());
    }

    /// Takes control entries of any logs, in whatever order they come, as far as they can be taken. The cost is that
    /// of their number, however they build on one another.
    pub fn ingest_operations(&mut self, entries: Vec<Decoded>) -> Ingested {
        let mut runs: BTreeMap<LogKey, BTreeMap<u64, Decoded>> = BTreeMap::new();
        let mut behind = Vec::new();
        for entry in entries {
            let (key, seq) = (entry.key(), entry.header().seq);
            if key.circle != self.id || entry.header().suite != Suite::Control {
                continue;
            }
            match self.fork_of(&key.author, &key.log) {
                Some(fork) if seq >= fork => behind.push(entry),
                _ => drop(runs.entry(key).or_default().insert(seq, entry)),
            }
        }
        let mut proven = Vec::new();
        let mut unsigned = BTreeMap::new();
        for (key, run) in runs {
            let held = self.logs.get(&(key.author, key.log));
            let next = held.map_or(0, |held| held.height);
            unsigned.insert(key, held.map_or(0, |held| held.unsigned));
            let mut run: Vec<Decoded> =
                run.into_iter().filter(|(seq, _)| *seq >= next).map(|(_, entry)| entry).collect();
            self.vouch(&key, &mut run);
            if let Ok(authenticated) = log::authenticate(run, held.map_or(Link::Start, Log::link)) {
                proven.extend(authenticated.proven);
            }
        }
        let bearer = PublicKey([0; 32]);
        self.offer_branches(&bearer, behind, false);
        // What stands behind forks is brought by what builds on it, and has its place in the order all the same: it may be
        // all by which one operation builds on another.
        let runs: BTreeSet<Hash> = proven.iter().map(Authentic::hash).collect();
        let behind = self.branches.offered().into_iter().filter(|(hash, _)| !runs.contains(hash));
        proven.extend(behind.map(|(_, entry)| entry));
        let mut ordered = in_order(proven);
        ordered.retain(|entry| runs.contains(&entry.hash()));
        let ends: BTreeMap<LogKey, Option<LogEnd>> =
            unsigned.keys().map(|key| (*key, self.logs.get(&(key.author, key.log)).map(Log::end))).collect();
        let fresh: BTreeSet<Hash> = runs.into_iter().filter(|hash| !self.has_heard(hash)).collect();
        let mut outcome = Ingested::default();
        let mut ended = self.take_in_order(&ordered, &mut outcome);
        if ended.iter().any(|key| ends_vouched_for_by_none(&outcome.writes, key)) {
            // What is not signed itself is left out then, with what follows it: a run can bring it still.
            outcome.writes.retain(|write| !matches!(write, Write::Entry(_)));
            ends.into_iter().for_each(|(key, end)| self.put_back(&key, end));
            self.unhear(&fresh, &mut outcome);
            let mut left_out = BTreeSet::new();
            ordered.retain(|entry| {
                if !entry.stands_alone() {
                    left_out.insert(entry.key());
                }
                !left_out.contains(&entry.key())
            });
            ended.extend(left_out);
            ended.extend(self.take_in_order(&ordered, &mut outcome));
        }
        ended.extend(unsigned.keys().filter(|key| self.vouched.contains_key(&(key.author, key.log))));
        for key in ended {
            self.ends_unsigned(&key, unsigned[&key], &outcome.writes);
        }
        self.settle_brought(&mut outcome);
        let branches = self.take_branches();
        outcome.membership_changed |= !branches.is_empty();
        outcome.writes.extend(branches);
        self.branches.gone(&bearer);
        if outcome.membership_changed {
            self.refold();
        }
        outcome
    }

    /// Takes operations, each of which stands behind those that it builds on, as far as they can be taken. Gives the logs
    /// that end before their runs do.
    fn take_in_order(&mut self, ordered: &[Authentic], outcome: &mut Ingested) -> BTreeSet<LogKey> {
        let mut ended = BTreeSet::new();
        for entry in ordered {
            if self.takes_entry(entry)
                && let Ok(decisive) = self.take_with_branches(entry, outcome)
            {
                outcome.membership_changed |= decisive;
                outcome.writes.push(Write::Entry(entry.clone()));
            } else {
                ended.insert(entry.key());
            }
        }
        ended
    }

    /// Takes an entry that this node just wrote.
    pub(crate) fn append(&mut self, entry: &Authentic) -> Result<(), Stop> {
        if self.take(entry)? {
            self.refold();
        }
        Ok(())
    }

    /// Takes an epoch that this node just made.
    pub(crate) fn insert_epoch(&mut self, hash: Hash, epoch: Epoch) {
        self.add_epoch(hash, epoch);
    }

    /// Verifies a record against the history held here.
    pub(crate) fn verify(&mut self, record: &SignedRecord) -> Result<Epoch, RecordRefusal> {
        let Self { id, rule: Rule::Closed(control), rosters, .. } = self else {
            return Err(RecordRefusal::OtherCircle);
        };
        Epoch::verify(record, *id, |heads| {
            if !rosters.contains_key(heads) {
                let fold = control.fold_at(heads)?;
                if rosters.len() >= limits::ROSTERS {
                    rosters.pop_first();
                }
                rosters.insert(heads.to_vec(), (fold.roster().clone(), control.terms(&fold).history));
            }
            let (roster, history) = rosters.get(heads)?;
            Some((roster, *history, control.saw_later(heads)))
        })
    }

    fn ingest_record(&mut self, record: &SignedRecord, outcome: &mut Ingested) -> Result<(), Stop> {
        let hash = record.hash(Domain::EPOCH);
        if self.epochs.contains_key(&hash) {
            return Ok(());
        }
        let never = |refusal| Stop::Never(Refusal::Record(refusal));
        match self.verify(record) {
            Ok(epoch) => {
                if !self.takes_epoch(&epoch.maker) {
                    return Err(Stop::OverQuota);
                }
                self.add_epoch(hash, epoch);
                let bytes = cwn_crypto::encoding::to_bytes(record);
                outcome.writes.push(Write::Record { circle: self.id, hash, bytes });
                Ok(())
            }
            Err(RecordRefusal::Missing) => Err(Stop::Missing),
            Err(refusal) => Err(never(refusal)),
        }
    }

    /// Takes the next entry of a log. Returns whether it may have changed who belongs.
    pub(crate) fn take(&mut self, entry: &Authentic) -> Result<bool, Stop> {
        let header = entry.header();
        let place = (header.author, header.log);
        let kind = header.suite.kind();
        if self.parting.contains(&place) {
            return Err(Stop::Beyond);
        }
        if let Some(opening) = &header.opening {
            self.entitle(&header.author, kind, &opening.under)?;
        }
        let reach = match &header.opening {
            _ if kind == LogKind::Control => {
                self.fork_of(&header.author, &header.log).map_or(Reach::All, Reach::Forked)
            }
            Some(opening) => acceptance::reach_under(self, &header.author, &header.log, &opening.under),
            None => acceptance::reach(self, &header.author, &header.log),
        };
        match reach {
            Reach::All => {}
            Reach::Cut(..) if planted(Bug::AcceptBeyondCut) => {}
            Reach::Cut(cut, head) if header.seq + 1 == cut && head != entry.hash() => {
                return Err(Refusal::OtherBranch { author: header.author }.into());
            }
            Reach::Cut(cut, _) | Reach::Forked(cut) if header.seq < cut => {}
            Reach::Cut(..) | Reach::Forked(_) => return Err(Stop::Beyond),
            Reach::Undecided => return Err(Stop::Missing),
        }
        if let Some(epoch) = &header.epoch {
            let epoch = self.epochs.get(epoch).ok_or(Stop::Missing)?;
            if !epoch.admits(&header.author) && !planted(Bug::AnybodysEpoch) {
                if epoch.may_admit() {
                    return Err(Stop::Missing);
                }
                return Err(Refusal::EpochExcludesAuthor { author: header.author }.into());
            }
        }
        let decisive = self.decides(&header.author, kind);
        if decisive {
            self.apply(header, entry.hash(), entry.bytes().payload.sealed().unwrap_or_default())?;
        }
        let more = takes_up(header, entry.bytes());
        // What is taken again before the fork leaves the store as it is.
        if self.forks.get(&place).is_none_or(|fork| header.seq >= *fork) {
            self.count_out_parted(&place);
        }
        match self.logs.get_mut(&place) {
            Some(held) => {
                held.bytes += more.bytes;
                held.height = header.seq + 1;
                held.head = entry.hash();
                held.time = header.time;
                // The last of a run is; of one that is not taken to its end it is looked at then.
                held.unsigned = 0;
                held.epoch = header.epoch.or(held.epoch);
            }
            None => {
                let Some(opening) = header.opening.clone() else { return Err(Stop::Gap) };
                let log = Log {
                    kind,
                    opening,
                    height: 1,
                    head: entry.hash(),
                    time: header.time,
                    epoch: header.epoch,
                    bytes: more.bytes,
                    durable: 0,
                    durable_head: None,
                    unsigned: 0,
                };
                let cites = log.cites();
                self.logs.insert(place, log);
                self.reaches.insert(place, reach);
                if cites {
                    // A cut that reaches this log reaches what it cites too.
                    self.judge(&header.author);
                }
            }
        }
        let used = self.used.entry((header.author, Measured::of(kind))).or_default();
        *used = used.plus(&more);
        Ok(decisive)
    }

    pub(crate) fn entitle(&self, author: &PublicKey, kind: LogKind, under: &Under) -> Result<(), Stop> {
        let entitled = match (&self.rule, kind) {
            (Rule::Network { word, root }, LogKind::Network) => match under {
                // A later version of the root document may make it an issuer.
                Under::Root(_) => root.known(author).map(|_| true),
                Under::Certificate(entry) => word.certified_by(entry).map(|node| node == author),
                Under::Charter | Under::Add(_) => Some(false),
            },
            (Rule::Closed(control), LogKind::Content) => control.entitles(author, under),
            (Rule::Closed(control), LogKind::Control) => control.entitles_steward(author, under),
            _ => return Err(Refusal::WrongKind.into()),
        };
        match entitled {
            Some(true) => Ok(()),
            Some(false) if kind == LogKind::Control => {
                Err(Refusal::Operation(OperationRefusal::NotASteward { author: *author }).into())
            }
            Some(false) => Err(Refusal::NotEntitled { author: *author }.into()),
            None => Err(Stop::Missing),
        }
    }

    /// Takes an entry that decides who belongs into the history.
    pub(crate) fn apply(&mut self, header: &log::Header, hash: Hash, payload: &[u8]) -> Result<(), Stop> {
        match &mut self.rule {
            Rule::Closed(control) => {
                if header.suite != Suite::Control {
                    return Err(Refusal::WrongKind.into());
                }
                if control.holds(&hash) && !planted(Bug::CountTwice) {
                    // It was held beside the log; or rot took it from the store, not from the history, and it came again.
                    return Ok(());
                }
                let operation = control.read(header, payload).map_err(|refusal| match refusal {
                    OperationRefusal::Missing(_) => Stop::Missing,
                    refusal => Refusal::Operation(refusal).into(),
                })?;
                control.insert(header, hash, operation);
            }
            Rule::Network { word, root } => {
                // A statement of a later version is kept, and says nothing to this one.
                if let Ok(statement) = Statement::from_bytes(payload) {
                    let heard = Heard {
                        issuer: header.author,
                        log: header.log,
                        seq: header.seq,
                        at: header.time,
                        entry: hash,
                        cites: header.opening.as_ref().map(|opening| opening.cites.as_slice()),
                        statement: &statement,
                    };
                    word.hear(heard, root);
                }
            }
        }
        Ok(())
    }

    /// The store made a log durable up to `height`, whose last entry has this hash.
    pub fn stored(&mut self, author: &PublicKey, log: &LogId, height: u64, head: Hash) {
        // It may be held up to less by now, because of damage.
        if let Some(held) = self.logs.get_mut(&(*author, *log))
            && held.durable < height
            && height <= held.height
        {
            held.durable = height;
            held.durable_head = Some(head);
        }
    }

    /// Whether an epoch's record is durable here, and its key may be handed to those who were added later.
    pub fn opens_to_newcomers(&self, hash: &Hash) -> bool {
        // What only a later version understands may have closed it.
        let open = |epoch: &Epoch| (epoch.history == History::All && !epoch.may_admit()) || planted(Bug::GiveEveryKey);
        self.durable_epochs.contains(hash) && self.epochs.get(hash).is_some_and(open)
    }

    /// Whether an epoch's record is durable here.
    pub(crate) fn has_durable(&self, hash: &Hash) -> bool {
        self.durable_epochs.contains(hash)
    }

    /// An epoch's record cannot be read back: nothing is sealed to it until it is durable again.
    pub(crate) fn record_lost(&mut self, hash: &Hash) {
        self.durable_epochs.remove(hash);
    }

    /// The store made an epoch's record durable.
    pub fn record_stored(&mut self, hash: Hash) {
        self.durable_epochs.insert(hash);
    }

    /// How many entries of a log are durable and accepted.
    pub fn accepted(&self, author: &PublicKey, log: &LogId) -> u64 {
        let durable = self.log(author, log).map_or(0, |held| match planted(Bug::AcceptBeforeStored) {
            false => held.durable,
            true => held.height,
        });
        match (self.fork_of(author, log), acceptance::reach(self, author, log)) {
            // Until all of the branch that the cut names is there, nothing shows that this is the one.
            (Some(fork), Reach::Cut(cut, _)) if durable < cut => fork.min(durable),
            (_, reach) => reach.of(durable),
        }
    }

    /// Every log that this node speaks of, with how far it holds it durably and decided.
    ///
    /// A log is left out only while it is held exactly to where a held log of its author cites it; one that is
    /// cited further stands there with what is accepted of it, be it nothing, so that the difference shows: whether
    /// nothing came or what came is withheld is all the same, or those who agree would differ for ever. Control
    /// logs always stand there: the log that cites one builds on its operations, so that who lacks it cannot take
    /// the citation either. They are few.
    ///
    /// That a log forks is said with what is accepted of it, and of nothing when it is nothing: whether a cut or the
    /// fork is why, only those can tell who hold it.
    pub fn tips(&self, store: &dyn Read) -> Result<Vec<WireTip>, Damage> {
        let mut tips = BTreeMap::new();
        for (key, log) in self.logs() {
            let height = self.accepted(&key.author, &key.log);
            let forked = self.shows_fork(&key);
            let head = match height {
                0 => continue,
                _ if planted(Bug::DigestLeavesLogsOut) && key.log.0[0] & 1 == 1 => continue,
                _ if height == log.durable => log.durable_head,
                _ => store.hash(&key, height - 1)?,
            };
            let first = self.decides(&key.author, log.kind);
            tips.insert(
                (key.author, key.log),
                WireTip { author: key.author, log: key.log, first, height, head, forked },
            );
        }
        // Behind the fork of a control log several branches count, be it from its first operation on: those who count
        // the same say the same.
        for ((author, log), branches) in self.durable_branches() {
            let nothing = WireTip { author, log, first: true, height: 0, head: None, forked: true };
            let tip = tips.entry((author, log)).or_insert(nothing);
            let head = tip.head.unwrap_or(Hash([0; 32]));
            let parts: Vec<&[u8]> = std::iter::once(&head).chain(&branches).map(|hash| hash.0.as_slice()).collect();
            tip.head = Some(Hash::of(Domain::DIGEST, &parts));
        }
        for ((author, log), line) in furthest(self.cited(None)) {
            let control = self.log(&author, &log).is_some_and(|log| log.kind == LogKind::Control)
                && !planted(Bug::CitedControlLeftOut);
            let full =
                |tip: &WireTip| !control && !tip.forked && tip.height == line.height && tip.head == Some(line.head);
            match tips.get(&(author, log)) {
                Some(tip) if full(tip) => drop(tips.remove(&(author, log))),
                None => {
                    let tip = WireTip { author, log, first: false, height: 0, head: None, forked: false };
                    tips.insert((author, log), tip);
                }
                Some(_) => {}
            }
        }
        Ok(tips.into_values().collect())
    }

    /// Whether a log ends in a fork, for all who know of it: no cut says how far it counts.
    pub(crate) fn shows_fork(&self, key: &LogKey) -> bool {
        let cut = matches!(self.reach(&key.author, &key.log), Some(Reach::Cut(..)));
        self.fork_of(&key.author, &key.log).is_some() && !cut
    }

    /// What the openings of an author's logs cite.
    pub(crate) fn cited_by(&self, author: &PublicKey) -> impl Iterator<Item = CutLine> {
        self.cited(Some(author)).map(|(_, line)| line)
    }

    /// How far cited logs would be accepted if they came, and taken, where less of them is held durably.
    pub(crate) fn cited_and_missing(&self) -> Vec<(LogName, u64)> {
        // Control logs are listed by whoever holds them.
        let held = |(author, log): &LogName| {
            self.log(author, log).map_or((0, LogKind::Content), |held| (held.durable, held.kind))
        };
        // Nearly always all of it is held.
        let short = self.cited(None).filter(|(name, line)| held(name).0 < line.height);
        let missing = |(name, line): (LogName, CutLine)| {
            let (durable, kind) = held(&name);
            let height = acceptance::hope(self, &name.0, &name.1, line.height);
            (durable < height && !self.is_full(&name.0, kind)).then_some((name, height))
        };
        furthest(short).into_iter().filter_map(missing).collect()
    }

    /// The digest over the tips: equal digests mean equal logs.
    pub fn digest(&self, tips: &[WireTip]) -> Hash {
        let bytes = cwn_crypto::encoding::to_bytes(&tips.to_vec());
        Hash::of(Domain::DIGEST, &[&self.id.0.0, &bytes])
    }

    /// The tips by bucket, the first byte of their author's key, with a hash over each.
    pub fn buckets(&self, tips: &[WireTip]) -> BTreeMap<u8, BucketHash> {
        let mut buckets: BTreeMap<u8, Vec<WireTip>> = BTreeMap::new();
        for tip in tips {
            buckets.entry(tip.author.0[0]).or_default().push(*tip);
        }
        let short = |tips: Vec<WireTip>| {
            let mut short = [0; 8];
            short.copy_from_slice(&self.digest(&tips).0[..8]);
            BucketHash(short)
        };
        buckets.into_iter().map(|(bucket, tips)| (bucket, short(tips))).collect()
    }

    /// The epoch a node may seal to now: one of its own partner, whose set is exactly `set`, that newcomers may open if
    /// they may open what is written now, not older than an epoch may be.
    pub fn usable_epoch(&self, author: &PublicKey, set: &BTreeSet<PublicKey>, now: Time) -> Option<Hash> {
        let history = self.control().map(|control| control.terms(&self.fold).history).unwrap_or_default();
        let fits = |(hash, epoch): &(&Hash, &Epoch)| {
            self.durable_epochs.contains(hash)
                && epoch.admits(author)
                // One that another made may be wrapped to more than this version can tell.
                && (epoch.maker == *author || !epoch.may_admit())
                && epoch.history == history
                && (epoch.set() == set || planted(Bug::SealToStaleEpoch))
                && now.since(epoch.made) < limits::EPOCH_LIFE_MS
        };
        let newest = self.epochs.iter().filter(fits).max_by_key(|(hash, epoch)| (epoch.made, **hash));
        newest.map(|(hash, _)| *hash)
    }
}

/// Whether what was taken of a log ends with an entry for which nothing that was taken vouches.
fn ends_vouched_for_by_none(taken: &[Write], key: &LogKey) -> bool {
    let of_log = |write: &Write| match write {
        Write::Entry(entry) if entry.key() == *key => Some(entry.stands_alone()),
        _ => None,
    };
    taken.iter().rev().find_map(of_log) == Some(false)
}

/// How much of its author's quota an entry takes.
pub(crate) fn takes_up(header: &log::Header, bytes: &EntryBytes) -> Quota {
    let logs = header.opening.as_ref().map_or(0, Opening::counts);
    Quota { bytes: (bytes.header.len() + bytes.payload.len()) as u64, entries: 1, logs, epochs: 0 }
}

/// The epoch that an entry is sealed to.
fn epoch_of(entry: &EntryBytes) -> Option<Hash> {
    log::Header::from_bytes(&entry.header).ok()?.epoch
}

/// Whether the store holds a log along the branch that a cut names, to its end.
fn is_along(store: &dyn Read, key: &LogKey, cut: u64, head: Hash) -> bool {
    cut.checked_sub(1).is_some_and(|last| store.hash(key, last).is_ok_and(|held| held == Some(head)))
}

pub(crate) fn read_entry(store: &dyn Read, key: &LogKey, seq: u64) -> Result<Stored, Damage> {
    let damage = |why: String| Damage { what: format!("entry {seq} of log {} of {}", key.log, key.author), why };
    let bytes = store.entry(key, seq)?.ok_or_else(|| damage("it is not there".to_owned()))?;
    Stored::read(bytes).map_err(|refusal| damage(refusal.to_string()))
}

/// A log as the store holds it, up to the last entry that can be read back.
fn load_log(store: &dyn Read, key: &LogKey, tip: &Tip) -> Result<Log, Damage> {
    read_entry(store, key, 0)?;
    let lowest = tip.height.saturating_sub(limits::DAMAGED_TAIL);
    let log = (lowest + 1..=tip.height).rev().find_map(|height| load_prefix(store, key, height));
    log.ok_or_else(|| Damage {
        what: format!("the end of log {} of {}", key.log, key.author),
        why: format!("none of its last {} entries can be", limits::DAMAGED_TAIL),
    })
}

/// So much of a log, if its first entry and the last of these can be read back.
fn load_prefix(store: &dyn Read, key: &LogKey, height: u64) -> Option<Log> {
    let first = read_entry(store, key, 0).ok()?;
    let last = read_entry(store, key, height.checked_sub(1)?).ok()?;
    let is_signed = |seq: &u64| read_entry(store, key, *seq).is_ok_and(|entry| entry.is_signed());
    let unsigned = match last.is_signed() {
        true => 0,
        false => 1 + (0..height - 1).rev().take(limits::UNSIGNED_ENTRIES).take_while(|seq| !is_signed(seq)).count(),
    };
    Some(Log {
        kind: first.header().suite.kind(),
        opening: first.header().opening.clone()?,
        height,
        head: last.hash(),
        time: last.header().time,
        epoch: last.header().epoch,
        bytes: store.bytes(key, 0, height).ok()?,
        durable: height,
        durable_head: Some(last.hash()),
        unsigned,
    })
}

/// The furthest that each log is cited. Two starts of one author may cite a log each as far as it was known to them, and
/// only the furthest tells what there is of it.
fn furthest(cited: impl Iterator<Item = (LogName, CutLine)>) -> BTreeMap<LogName, CutLine> {
    let mut furthest: BTreeMap<LogName, CutLine> = BTreeMap::new();
    for (name, line) in cited {
        let known = furthest.entry(name).or_insert(line);
        *known = line.max(*known);
    }
    furthest
}

/// Operations so that each stands after those among them that it builds on.
pub(crate) fn in_order(entries: Vec<Authentic>) -> Vec<Authentic> {
    let places: BTreeMap<Hash, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.hash(), place)).collect();
    let mut missing = vec![0_usize; entries.len()];
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    for (place, entry) in entries.iter().enumerate() {
        let heads = entry.bytes().payload.sealed().and_then(|payload| Operation::from_bytes(payload).ok());
        let heads = heads.map(|operation| operation.heads).unwrap_or_default();
        let builds_on: BTreeSet<Hash> = heads.into_iter().chain(entry.header().previous).collect();
        for before in builds_on.iter().filter_map(|hash| places.get(hash)) {
            missing[place] += 1;
            followers[*before].push(place);
        }
    }
    let mut free: Vec<usize> = (0..entries.len()).filter(|place| missing[*place] == 0).collect();
    let mut entries: Vec<Option<Authentic>> = entries.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(entries.len());
    while let Some(place) = free.pop() {
        ordered.extend(entries[place].take());
        for follower in &followers[place] {
            missing[*follower] -= 1;
            if missing[*follower] == 0 {
                free.push(*follower);
            }
        }
    }
    ordered
}
