//! What the operations of a circle's stewards come to.
//!
//! The fold has no order: it gives the same roster for the same set of operations, whatever the order in
//! which they arrived. Time plays no part; "before" means "in the causal past", which every operation
//! names by the control heads its author had seen.
//!
//! A history is drawn as `add -> remove -> add`; two operations that have not seen each other are
//! concurrent, and then removal wins over adding and the better rank over the worse.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PartnerId, PublicKey,
    issuer_log::{CutLine, LogId},
};

use super::{Act, Charter, Member, MemberNode, Operation, OperationRefusal, Rank, Roster, Stewardship, Terms};
use crate::{
    limits,
    log::{Header, Under},
    planted::{Bug, planted},
};

/// A set of operations by their index, as bits.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Bits(Vec<u64>);

impl Bits {
    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn insert(&mut self, index: usize) {
        let word = index / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }
}

/// An operation with its place in the history.
#[derive(Debug, Clone)]
struct Known {
    hash: Hash,
    author: PublicKey,
    log: LogId,
    seq: u64,
    /// The operation before it in its log.
    previous: Option<Hash>,
    /// The first operation of its log, on its branch.
    opening: usize,
    cites: Vec<CutLine>,
    operation: Operation,
    /// The rank of the stewardship it acts under.
    rank: Rank,
    past: Bits,
}

impl Known {
    fn retention(&self) -> Option<u32> {
        match &self.operation.act {
            Act::Policy { terms } => terms.retention(),
            _ => None,
        }
    }
}

/// A stewardship that the charter or an `appoint` gave, whether it stands or not.
#[derive(Debug, Clone)]
struct Seat {
    stewardship: Stewardship,
    partner: PartnerId,
    node: PublicKey,
    /// The `appoint` that gave it.
    appointment: Option<usize>,
    /// The operations that act under it.
    operations: Vec<usize>,
}

/// The history of a circle: its charter and every operation of it that is held.
#[derive(Debug, Clone)]
pub struct Control {
    charter: Charter,
    operations: Vec<Known>,
    by_hash: BTreeMap<Hash, usize>,
    seats: BTreeMap<Rank, Seat>,
    /// The first operation of each control log; of a log that forks there, the one that came first.
    openings: BTreeMap<(PublicKey, LogId), usize>,
    /// Operations that only a later version understands.
    later: Vec<usize>,
    /// The first places of control logs that their authors signed twice.
    forks: BTreeMap<(PublicKey, LogId), u64>,
}

/// What the fold concludes from a set of operations.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    roster: Roster,
    valid: Bits,
    within: Bits,
    /// The removals and dismissals among the valid, best rank first.
    ends: Vec<usize>,
    /// Who is a steward, by what is best of it.
    standing: BTreeMap<PublicKey, (Rank, Stewardship)>,
    terms: Option<usize>,
}

impl Fold {
    /// The nodes that count.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }
}

impl Control {
    /// The history of a circle just founded.
    pub fn new(charter: Charter) -> Self {
        let seat = |(place, steward): (u16, &super::Steward)| {
            let stewardship = Stewardship::Charter(place);
            let (partner, node) = (steward.partner.clone(), steward.node.node);
            (Rank::of_charter(place), Seat { stewardship, partner, node, appointment: None, operations: Vec::new() })
        };
        let seats = (0..).zip(&charter.stewards).map(seat).collect();
        let (by_hash, openings, forks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { charter, operations: Vec::new(), by_hash, seats, openings, later: Vec::new(), forks }
    }

    /// The charter.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What the circle is kept by, according to a fold: the latest `policy`, else the charter.
    pub fn terms(&self, fold: &Fold) -> &Terms {
        match fold.terms.map(|index| &self.operations[index].operation.act) {
            Some(Act::Policy { terms }) => terms,
            _ => &self.charter.terms,
        }
    }

    /// The fewest days after which any policy that is held, of whatever time, let members drop what was published.
    pub fn shortest_retention(&self) -> Option<u32> {
        self.operations.iter().filter_map(Known::retention).chain(self.charter.terms.retention()).min()
    }

    /// Whether an operation is held.
    pub fn holds(&self, operation: &Hash) -> bool {
        self.by_hash.contains_key(operation)
    }

    /// How many operations are held.
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// How many of them do something that only a later version understands.
    pub fn later_operations(&self) -> usize {
        self.later.len()
    }

    /// Whether an operation is held and only a later version understands it.
    fn is_later(&self, operation: &Hash) -> bool {
        self.by_hash.get(operation).is_some_and(|index| self.operations[*index].operation.act == Act::Later)
    }

    /// Whether these heads, which are held, have seen an operation that only a later version understands. What seems to
    /// contradict the roster at such heads may be right by it, and waits until this program is a later one.
    pub fn saw_later(&self, heads: &[Hash]) -> bool {
        let past = (!self.later.is_empty()).then(|| self.past_of(heads, None));
        past.is_some_and(|past| self.later.iter().any(|index| past.contains(*index)))
    }

    /// The operations that no other has seen: what an author names as the heads it saw.
    pub fn heads(&self) -> Vec<Hash> {
        let counted = self.counted();
        let among = || self.operations.iter().enumerate().filter(|(index, _)| counted.contains(*index));
        let mut seen = Bits::default();
        among().for_each(|(_, known)| seen.extend(&known.past));
        let unseen = |(index, known): (usize, &Known)| (!seen.contains(index)).then_some(known.hash);
        let mut heads: Vec<Hash> = among().filter_map(unseen).collect();
        heads.sort();
        heads
    }

    /// The heads that an operation names: all, or when there are more than it may name those of best rank, so that
    /// nobody of worse rank crowds out what its betters did. What is left out is concurrent to it. What it acts
    /// under it has seen in any case.
    pub fn heads_to_name(&self, stewardship: &Stewardship) -> Vec<Hash> {
        let mut heads = self.heads();
        if heads.len() > limits::OPERATION_LIST {
            heads.sort_by_key(|head| (self.operations[self.by_hash[head]].rank.clone(), *head));
            heads.truncate(limits::OPERATION_LIST - 1);
            if let Stewardship::Appointed(appointment) = stewardship {
                heads.push(*appointment);
            }
            heads.sort();
            heads.dedup();
        }
        heads
    }

    fn place_of(&self, node: &PublicKey) -> Option<u16> {
        let place = self.charter.stewards.iter().position(|steward| steward.node.node == *node)?;
        u16::try_from(place).ok()
    }

    /// The rank of a stewardship, if it was given to this node. `None`: the `appoint` is not held.
    fn rank_of(&self, stewardship: &Stewardship, node: &PublicKey) -> Option<Option<Rank>> {
        match stewardship {
            Stewardship::Charter(place) => {
                Some((self.place_of(node) == Some(*place)).then(|| Rank::of_charter(*place)))
            }
            Stewardship::Appointed(hash) => {
                let known = &self.operations[*self.by_hash.get(hash)?];
                let appointed = matches!(&known.operation.act, Act::Appoint { node: one, .. } if one.node == *node);
                Some(appointed.then(|| known.rank.below(known.past.count(), known.hash)))
            }
        }
    }

    /// Reads the operation in an authentic entry's payload and checks what can be checked of it alone.
    pub fn read(&self, header: &Header, payload: &[u8]) -> Result<Operation, OperationRefusal> {
        let operation = Operation::from_bytes(payload)?;
        let list = match &operation.act {
            Act::Add { nodes, .. } => nodes.len(),
            Act::Remove { cut, .. } | Act::Dismiss { cut, .. } => cut.len(),
            Act::Appoint { .. } | Act::Policy { .. } | Act::Later => 0,
        };
        if list.max(operation.heads.len()) > limits::OPERATION_LIST {
            return Err(OperationRefusal::TooLong);
        }
        let previous = header.previous.as_ref();
        let missing = operation.heads.iter().chain(previous).find(|head| !self.holds(head));
        missing.map_or(Ok(()), |head| Err(OperationRefusal::Missing(*head)))?;
        if let Stewardship::Appointed(hash) = &operation.stewardship
            && self.is_later(hash)
        {
            return Err(OperationRefusal::Missing(*hash));
        }
        // What it acts under lies in its past: all of that is held now.
        let rank = self.rank_of(&operation.stewardship, &header.author).flatten();
        let rank = rank.ok_or(OperationRefusal::NotASteward { author: header.author })?;
        if let Stewardship::Appointed(hash) = &operation.stewardship
            && !self.past_of(&operation.heads, previous).contains(self.by_hash[hash])
        {
            return Err(OperationRefusal::NotASteward { author: header.author });
        }
        if matches!(operation.act, Act::Appoint { .. }) && rank.depth() >= limits::APPOINTMENTS {
            return Err(OperationRefusal::TooDeep);
        }
        Ok(operation)
    }

    /// All operations that these heads have seen, they among them. They are held.
    fn past_of(&self, heads: &[Hash], previous: Option<&Hash>) -> Bits {
        let mut past = Bits::default();
        for seen in heads.iter().chain(previous) {
            let index = self.by_hash[seen];
            past.extend(&self.operations[index].past);
            past.insert(index);
        }
        past
    }

    /// Takes an operation that [`Self::read`] gave into the history.
    pub fn insert(&mut self, header: &Header, hash: Hash, operation: Operation) {
        let cites = header.opening.as_ref().map(|opening| opening.cites.clone()).unwrap_or_default();
        let Header { author, log, seq, previous, .. } = *header;
        self.put(author, log, seq, previous, hash, cites, operation);
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of an operation's entry, from a header or from the history"
    )]
    fn put(
        &mut self,
        author: PublicKey,
        log: LogId,
        seq: u64,
        previous: Option<Hash>,
        hash: Hash,
        cites: Vec<CutLine>,
        operation: Operation,
    ) {
        let past = self.past_of(&operation.heads, previous.as_ref());
        let Some(rank) = self.rank_of(&operation.stewardship, &author).flatten() else {
            unreachable!("`read` saw the stewardship");
        };
        let index = self.operations.len();
        self.by_hash.insert(hash, index);
        let opening = match previous.and_then(|previous| self.by_hash.get(&previous)) {
            Some(before) => self.operations[*before].opening,
            None => {
                self.openings.entry((author, log)).or_insert(index);
                index
            }
        };
        if let Some(seat) = self.seats.get_mut(&rank) {
            seat.operations.push(index);
        }
        if let Act::Appoint { partner, node } = &operation.act {
            let stewardship = Stewardship::Appointed(hash);
            let (partner, node, operations) = (partner.clone(), node.node, Vec::new());
            let seat = Seat { stewardship, partner, node, appointment: Some(index), operations };
            self.seats.insert(rank.below(past.count(), hash), seat);
        }
        if operation.act == Act::Later {
            self.later.push(index);
        }
        self.operations.push(Known { hash, author, log, seq, previous, opening, cites, operation, rank, past });
    }

    // ---- Forks.

    /// An author signed two operations for this place of a log.
    pub(crate) fn fork(&mut self, author: PublicKey, log: LogId, seq: u64) {
        let place = self.forks.entry((author, log)).or_insert(seq);
        *place = seq.min(*place);
    }

    /// Whether an operation stands behind a place that its author signed twice.
    fn is_on_branch(&self, known: &Known) -> bool {
        self.forks.get(&(known.author, known.log)).is_some_and(|fork| known.seq >= *fork)
    }

    /// Whether an entry continues its log where the operation that it names stands.
    pub(crate) fn continues(&self, header: &Header) -> bool {
        let Some(previous) = header.previous.and_then(|previous| self.by_hash.get(&previous)) else {
            return header.seq == 0 && header.previous.is_none();
        };
        let known = &self.operations[*previous];
        (known.author, known.log, known.seq + 1) == (header.author, header.log, header.seq)
    }

    /// The operations that count: all that stand before the forks of their logs, whatever those have seen, and of
    /// each forked log two branches, those of lowest hash at its lowest fork; where one of them forks again, it goes
    /// on along the lowest hash.
    ///
    /// So members that hold the same count the same, and those that do not will, once each has heard the branches
    /// that the others count: of whatever is added, the lowest two stay the lowest two. An author that forks without
    /// end makes nobody count more than two, but for what others built upon; that costs somebody an operation that
    /// stands outside of forks, which is what operations cost anyhow.
    fn counted(&self) -> Bits {
        let mut counted = Bits::default();
        if self.forks.is_empty() {
            (0..self.operations.len()).for_each(|index| counted.insert(index));
            return counted;
        }
        /// Operations by hash, with where they stand in the list.
        type Found = Vec<(Hash, usize)>;
        let mut followers: BTreeMap<(PublicKey, LogId, Option<Hash>), Found> = BTreeMap::new();
        let mut starts: BTreeMap<(PublicKey, LogId), Found> = BTreeMap::new();
        for (index, known) in self.operations.iter().enumerate() {
            if !self.is_on_branch(known) {
                counted.extend(&known.past);
                counted.insert(index);
                continue;
            }
            let log = (known.author, known.log);
            followers.entry((log.0, log.1, known.previous)).or_default().push((known.hash, index));
            if self.forks.get(&log) == Some(&known.seq) {
                starts.entry(log).or_default().push((known.hash, index));
            }
        }
        for ((author, log), mut starts) in starts {
            starts.sort();
            for start in starts.into_iter().take(2) {
                let mut next = Some(start);
                while let Some((hash, index)) = next {
                    counted.extend(&self.operations[index].past);
                    counted.insert(index);
                    let after = followers.get(&(author, log, Some(hash)));
                    next = after.and_then(|after| after.iter().min().copied());
                }
            }
        }
        counted
    }

    /// The operations behind forks that count, with their logs and places.
    pub(crate) fn counted_branches(&self) -> Vec<(PublicKey, LogId, u64, Hash)> {
        if self.forks.is_empty() {
            return Vec::new();
        }
        let counted = self.counted();
        let behind = self.operations.iter().enumerate().filter(|(_, known)| self.is_on_branch(known));
        let counts = behind.filter(|(index, _)| counted.contains(*index));
        counts.map(|(_, known)| (known.author, known.log, known.seq, known.hash)).collect()
    }

    /// The ends of the branches of an author's logs that count, for a cut to name.
    pub(crate) fn branch_ends(&self, author: &PublicKey) -> Vec<CutLine> {
        let counted = self.counted_branches();
        let followed: BTreeSet<Hash> =
            counted.iter().filter_map(|(.., hash)| self.operations[self.by_hash[hash]].previous).collect();
        let ends = counted.into_iter().filter(|(by, .., hash)| by == author && !followed.contains(hash));
        ends.map(|(_, log, seq, head)| CutLine { log, height: seq + 1, head }).collect()
    }

    /// What counts, and `needed` with all that those have seen.
    fn kept(&self, needed: &BTreeSet<Hash>) -> Bits {
        let mut keep = self.counted();
        for index in needed.iter().filter_map(|hash| self.by_hash.get(hash)) {
            keep.extend(&self.operations[*index].past);
            keep.insert(*index);
        }
        keep
    }

    /// The operations behind forks that [`Self::forget_branches`] would not forget.
    pub(crate) fn kept_branches(&self, needed: &BTreeSet<Hash>) -> BTreeSet<Hash> {
        let keep = self.kept(needed);
        let behind = self.operations.iter().enumerate().filter(|(_, known)| self.is_on_branch(known));
        behind.filter(|(index, _)| keep.contains(*index)).map(|(_, known)| known.hash).collect()
    }

    /// The operation before one in its log.
    pub(crate) fn previous(&self, operation: &Hash) -> Option<Hash> {
        self.operations[*self.by_hash.get(operation)?].previous
    }

    /// Forgets operations behind forks that neither count nor were seen by any of `needed`, and says which.
    pub(crate) fn forget_branches(&mut self, needed: &BTreeSet<Hash>) -> BTreeSet<Hash> {
        let keep = self.kept(needed);
        let gone = |(index, known): (usize, &Known)| (!keep.contains(index)).then_some(known.hash);
        let gone: BTreeSet<Hash> = self.operations.iter().enumerate().filter_map(gone).collect();
        self.put_anew_without(&gone);
        gone
    }

    /// Forgets operations and all that build on them, and says which those are.
    pub(crate) fn forget(&mut self, operations: &BTreeSet<Hash>) -> BTreeSet<Hash> {
        let forgotten: Vec<usize> = operations.iter().filter_map(|hash| self.by_hash.get(hash).copied()).collect();
        let builds_on_one = |known: &&Known| {
            operations.contains(&known.hash) || forgotten.iter().any(|index| known.past.contains(*index))
        };
        let gone: BTreeSet<Hash> = self.operations.iter().filter(builds_on_one).map(|known| known.hash).collect();
        self.put_anew_without(&gone);
        gone
    }

    /// Nothing that stays builds on what goes.
    fn put_anew_without(&mut self, gone: &BTreeSet<Hash>) {
        if gone.is_empty() {
            return;
        }
        let forks = std::mem::take(&mut self.forks);
        let before = std::mem::replace(self, Self::new(self.charter.clone()));
        self.forks = forks;
        for known in before.operations.into_iter().filter(|known| !gone.contains(&known.hash)) {
            let Known { hash, author, log, seq, previous, cites, operation, .. } = known;
            self.put(author, log, seq, previous, hash, cites, operation);
        }
    }

    /// What all operations that count say together.
    pub fn fold(&self) -> Fold {
        self.fold_within(self.counted())
    }

    /// What the operations up to `heads` say: fixed for ever, once they are held. `None` while one is not.
    pub fn fold_at(&self, heads: &[Hash]) -> Option<Fold> {
        heads.iter().all(|head| self.holds(head)).then(|| self.fold_within(self.past_of(heads, None)))
    }

    /// The rules of protocol section 5 over the operations in `within`.
    fn fold_within(&self, within: Bits) -> Fold {
        let mut fold = Fold { within, ..Fold::default() };
        // By rank, because whether an operation is valid depends on what better ranks did alone.
        for (rank, seat) in &self.seats {
            if seat.appointment.is_some_and(|appointment| !fold.valid.contains(appointment)) {
                continue;
            }
            let reach = self.seat_reach(&fold, rank, seat);
            let stands = |index: usize| match &reach {
                None => true,
                Some(reach) => {
                    let known = &self.operations[index];
                    let lines = reach.get(&known.log).into_iter().flatten();
                    lines.into_iter().any(|line| self.is_along(&fold.within, index, line))
                }
            };
            for index in seat.operations.iter().copied().filter(|index| fold.within.contains(*index)) {
                let known = &self.operations[index];
                if stands(index) {
                    fold.valid.insert(index);
                    if known.operation.act.cut().is_some() {
                        fold.ends.push(index);
                    }
                }
            }
            if reach.is_none() {
                fold.standing.entry(seat.node).or_insert_with(|| (rank.clone(), seat.stewardship));
            }
        }
        self.count_members(&mut fold);
        fold.terms = self.latest_terms(&fold);
        fold
    }

    /// How far the operations of a stewardship stand; `None`: it was not ended.
    fn seat_reach(&self, fold: &Fold, rank: &Rank, seat: &Seat) -> Option<BTreeMap<LogId, Vec<CutLine>>> {
        let unseats = |known: &Known| {
            let dismisses = matches!(known.operation.act, Act::Dismiss { .. });
            known.operation.act.unseats(&seat.partner, &seat.node) && !(dismisses && planted(Bug::IgnoreDismissal))
        };
        let seen = seat.appointment.map(|appointment| &self.operations[appointment].past);
        let ended = fold.ends.iter().copied().filter(|index| {
            let known = &self.operations[*index];
            known.rank < *rank && unseats(known) && !seen.is_some_and(|seen| seen.contains(*index))
        });
        self.governs(ended).map(|cut| self.reached(fold, &seat.node, cut))
    }

    /// How far the control logs of an author stand in which it wrote as the steward that it is no longer.
    pub(crate) fn ended_logs(&self, fold: &Fold, author: &PublicKey) -> BTreeMap<LogId, Vec<CutLine>> {
        let mut ended: BTreeMap<LogId, Vec<CutLine>> = BTreeMap::new();
        for (rank, seat) in self.seats.iter().filter(|(_, seat)| seat.node == *author) {
            let Some(mut reach) = self.seat_reach(fold, rank, seat) else { continue };
            for log in seat.operations.iter().map(|index| self.operations[*index].log).collect::<BTreeSet<_>>() {
                let lines = reach.remove(&log).unwrap_or_default();
                // Of two such stewardships in one log the one that stands less far.
                let before = ended.entry(log).or_insert_with(|| lines.clone());
                if lines < *before {
                    *before = lines;
                }
            }
        }
        ended
    }

    fn count_members(&self, fold: &mut Fold) {
        let mut roster = Roster::default();
        let mut count = |partner: &PartnerId, MemberNode { node, recipient }: &MemberNode, under: Under| {
            if !roster.counts(node) && self.removals_of(fold, node, &under).next().is_none() {
                let steward = fold.standing.get(node).cloned();
                let member = Member { partner: partner.clone(), recipient: *recipient, under, steward };
                roster.0.insert(*node, member);
            }
        };
        self.charter.stewards.iter().for_each(|steward| count(&steward.partner, &steward.node, Under::Charter));
        // Several operations may name a node; which one gives its recipient must not depend on arrival.
        let mut adds: Vec<(&Known, &PartnerId, &[MemberNode])> = self
            .valid(fold)
            .filter_map(|known| known.operation.act.adds().map(|(partner, nodes)| (known, partner, nodes)))
            .collect();
        adds.sort_by_key(|(known, ..)| (&known.rank, known.hash));
        for (known, partner, nodes) in adds {
            nodes.iter().for_each(|node| count(partner, node, Under::Add(known.hash)));
        }
        fold.roster = roster;
    }

    /// The `policy` that no other valid one has seen; among several the best rank's, then the lowest hash.
    fn latest_terms(&self, fold: &Fold) -> Option<usize> {
        let policy = |index: &usize| matches!(self.operations[*index].operation.act, Act::Policy { .. });
        let policies: Vec<usize> =
            (0..self.operations.len()).filter(|index| fold.valid.contains(*index) && policy(index)).collect();
        let mut seen = Bits::default();
        policies.iter().for_each(|index| seen.extend(&self.operations[*index].past));
        let latest = policies.into_iter().filter(|index| !seen.contains(*index));
        if planted(Bug::PolicyByArrival) {
            return latest.max();
        }
        latest.min_by_key(|index| (&self.operations[*index].rank, self.operations[*index].hash))
    }

    fn valid<'a>(&'a self, fold: &Fold) -> impl Iterator<Item = &'a Known> {
        let valid = |(index, known): (usize, &'a Known)| fold.valid.contains(index).then_some(known);
        self.operations.iter().enumerate().filter_map(valid)
    }

    /// The cut that governs what `author` wrote under `under`, if a valid removal does.
    ///
    /// A removal governs what was written under an `add` that has not seen it.
    pub fn governing<'a>(&'a self, fold: &'a Fold, author: &PublicKey, under: &Under) -> Option<&'a [CutLine]> {
        self.governs(self.removals_of(fold, author, under))
    }

    /// The removal whose cut that is.
    pub fn ending<'a>(&'a self, fold: &'a Fold, author: &PublicKey, under: &Under) -> Option<(Hash, &'a Act)> {
        self.governor(self.removals_of(fold, author, under)).map(|known| (known.hash, &known.operation.act))
    }

    /// An operation that counts, with the rank of the stewardship it acts under.
    pub fn valid_operation<'a>(&'a self, fold: &Fold, operation: &Hash) -> Option<(&'a Rank, &'a Act)> {
        let index = self.by_hash.get(operation).filter(|index| fold.valid.contains(**index))?;
        let known = &self.operations[*index];
        Some((&known.rank, &known.operation.act))
    }

    /// The cut that counts among operations that come best rank first: one that a later one of the same or better
    /// rank has seen is replaced by it; among concurrent ones the better rank's counts.
    fn governs(&self, ends: impl Iterator<Item = usize>) -> Option<&[CutLine]> {
        self.governor(ends).and_then(|known| known.operation.act.cut())
    }

    fn governor(&self, ends: impl Iterator<Item = usize>) -> Option<&Known> {
        let mut ends = ends.peekable();
        // Only the same or a better rank replaces one, so that one of the best rank counts in the end: one that
        // no other of that rank has seen.
        let best = &self.operations[*ends.peek()?].rank;
        let best: Vec<&Known> =
            ends.map(|index| &self.operations[index]).take_while(|known| known.rank == *best).collect();
        let mut seen = Bits::default();
        best.iter().for_each(|known| seen.extend(&known.past));
        let replaced = |known: &&Known| seen.contains(self.by_hash[&known.hash]) && !planted(Bug::CutNeverReplaced);
        let counts = best.into_iter().filter(|known| !replaced(known));
        counts.min_by_key(|known| known.hash)
    }

    /// The valid removals that act on what `author` wrote under `under`, best rank first.
    fn removals_of<'a>(
        &'a self,
        fold: &'a Fold,
        author: &PublicKey,
        under: &Under,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let author = *author;
        let right = match under {
            Under::Charter => {
                let place = self.place_of(&author);
                place.map(|place| {
                    (&self.charter.stewards[usize::from(place)].partner, None, Some(Rank::of_charter(place)))
                })
            }
            Under::Add(hash) => self.by_hash.get(hash).and_then(|index| {
                let known = &self.operations[*index];
                let (partner, _) = known.operation.act.adds()?;
                // A stewardship is ended by better ranks alone, and while one stands whatever else its node
                // belongs by.
                let rank = match known.operation.act {
                    Act::Appoint { .. } => Some(known.rank.below(known.past.count(), known.hash)),
                    _ => fold.standing.get(&author).map(|(rank, _)| rank.clone()),
                };
                Some((partner, Some(*index), rank))
            }),
            Under::Certificate(_) | Under::Root(_) => None,
        };
        right.into_iter().flat_map(move |(partner, add, rank)| {
            fold.ends.iter().copied().filter(move |index| {
                let known = &self.operations[*index];
                let seen = || {
                    add.is_some_and(|add| {
                        self.operations[add].past.contains(*index)
                            || planted(Bug::AddUndoesConcurrentRemove) && !known.past.contains(add)
                            || planted(Bug::FoldByArrival) && add > *index
                    })
                };
                let may = || rank.as_ref().is_none_or(|rank| known.rank < *rank || planted(Bug::WorseRankRemoves));
                // Most remove somebody else, which shows at once.
                known.operation.act.removes(partner, &author) && !planted(Bug::IgnoreRemoval) && !seen() && may()
            })
        })
    }

    /// The cuts of all valid removals of an author, whichever of its logs they govern.
    pub fn cuts_of<'a>(&'a self, fold: &Fold, author: &PublicKey) -> Vec<&'a [CutLine]> {
        let steward = self.place_of(author).map(|place| &self.charter.stewards[usize::from(place)].partner);
        let adds = self.operations.iter().filter_map(|known| {
            let (partner, nodes) = known.operation.act.adds()?;
            nodes.iter().any(|entry| entry.node == *author).then_some(partner)
        });
        let partners: BTreeSet<&PartnerId> = adds.chain(steward).collect();
        let acts = fold.ends.iter().map(|index| &self.operations[*index].operation.act);
        let removes = |act: &&Act| partners.iter().any(|partner| act.removes(partner, author));
        acts.filter(removes).filter_map(Act::cut).collect()
    }

    /// The nodes that the charter or a valid operation ever named as this partner's.
    pub(crate) fn nodes_of(&self, fold: &Fold, partner: &PartnerId) -> BTreeSet<PublicKey> {
        let stewards = self.charter.stewards.iter().filter(|steward| steward.partner == *partner);
        let adds = self.valid(fold).filter_map(|known| known.operation.act.adds()).filter(|(of, _)| *of == partner);
        let nodes = stewards.map(|steward| &steward.node).chain(adds.flat_map(|(_, nodes)| nodes));
        nodes.map(|entry| entry.node).collect()
    }

    /// How far a cut reaches into control logs, as [`cwn_crypto::issuer_log::cut_reach`] says; but that it may list
    /// a forked log once for each branch, and that what an opening cites is asked of the branch that is listed.
    pub(crate) fn reached(&self, fold: &Fold, author: &PublicKey, cut: &[CutLine]) -> BTreeMap<LogId, Vec<CutLine>> {
        let mut explicit: BTreeMap<LogId, Vec<CutLine>> = BTreeMap::new();
        cut.iter().for_each(|line| explicit.entry(line.log).or_default().push(*line));
        let mut open: Vec<LogId> = explicit.keys().copied().collect();
        let mut reach = explicit.clone();
        let mut followed: BTreeSet<LogId> = BTreeSet::new();
        while let Some(log) = open.pop() {
            let lines: Vec<CutLine> = reach[&log].iter().filter(|line| line.height > 0).copied().collect();
            // What an opening cites holds from the first entry on, however far the log is reached.
            if lines.is_empty() || !followed.insert(log) {
                continue;
            }
            for line in lines.iter().flat_map(|line| self.control_cites(&fold.within, author, line)) {
                let known = reach.get(&line.log).and_then(|lines| lines.first());
                // Of two that cite different branches to the same height, which one counts must not depend on order.
                let further = |known: &CutLine| (known.height, known.head) < (line.height, line.head);
                if !explicit.contains_key(&line.log) && known.is_none_or(further) {
                    reach.insert(line.log, vec![*line]);
                    open.push(line.log);
                }
            }
        }
        reach
    }

    /// The operation that a cut's line ends with, if it is among those folded.
    fn end_of(&self, within: &Bits, author: &PublicKey, line: &CutLine) -> Option<usize> {
        let index = *self.by_hash.get(&line.head).filter(|index| within.contains(**index))?;
        let known = &self.operations[index];
        ((known.author, known.log, known.seq + 1) == (*author, line.log, line.height)).then_some(index)
    }

    /// Whether an operation stands within a cut's line: before its end and, in a forked log, on the branch that leads
    /// there. Of a line whose end is not among those folded, no branch can be told.
    fn is_along(&self, within: &Bits, index: usize, line: &CutLine) -> bool {
        let known = &self.operations[index];
        let height = if planted(Bug::VoidOneLess) { line.height + 1 } else { line.height };
        if known.seq >= height || !self.is_on_branch(known) {
            return known.seq < height;
        }
        let Some(mut at) = self.end_of(within, &known.author, line) else { return true };
        while self.operations[at].seq > known.seq {
            let Some(before) = self.operations[at].previous.and_then(|previous| self.by_hash.get(&previous)) else {
                return false;
            };
            at = *before;
        }
        at == index
    }

    /// What the opening of a control log cites, as far as it is among those folded: an opening outside of `within`
    /// would make the fold depend on more than its operations.
    fn control_cites<'a>(&'a self, within: &Bits, author: &PublicKey, line: &CutLine) -> &'a [CutLine] {
        let opens = |known: &Known| (known.author, known.log, known.seq) == (*author, line.log, 0);
        let index = match self.end_of(within, author, line) {
            Some(end) => Some(self.operations[end].opening),
            None if self.forks.get(&(*author, line.log)) == Some(&0) => {
                let openings = self.operations.iter().enumerate();
                let held = openings.filter(|(index, known)| opens(known) && within.contains(*index));
                held.min_by_key(|(_, known)| known.hash).map(|(index, _)| index)
            }
            None => self.openings.get(&(*author, line.log)).copied(),
        };
        let index = index.filter(|index| within.contains(*index));
        index.map_or(&[], |index| self.operations[index].cites.as_slice())
    }

    /// Whether the charter or any operation names a node.
    pub(crate) fn names(&self, node: &PublicKey) -> bool {
        let names = |known: &Known| {
            let adds = known.operation.act.adds();
            adds.is_some_and(|(_, nodes)| nodes.iter().any(|entry| entry.node == *node))
        };
        self.place_of(node).is_some() || self.operations.iter().any(names)
    }

    /// Whether an author may open a content log under this, as far as the history alone can tell.
    /// `None`: the `add` it names is not held yet, or is something that only a later version understands.
    pub fn entitles(&self, author: &PublicKey, under: &Under) -> Option<bool> {
        match under {
            Under::Charter => Some(self.place_of(author).is_some()),
            Under::Add(hash) if self.is_later(hash) => None,
            Under::Add(hash) => {
                let known = &self.operations[*self.by_hash.get(hash)?];
                let adds = known.operation.act.adds();
                Some(adds.is_some_and(|(_, nodes)| nodes.iter().any(|entry| entry.node == *author)))
            }
            Under::Certificate(_) | Under::Root(_) => Some(false),
        }
    }

    /// Whether an author may open a control log under this: a place in the charter, or an `appoint`.
    /// `None`: the `appoint` is not held yet, or is something that only a later version understands.
    pub fn entitles_steward(&self, author: &PublicKey, under: &Under) -> Option<bool> {
        match under {
            Under::Add(hash) if self.is_later(hash) => None,
            Under::Add(hash) => self.rank_of(&Stewardship::Appointed(*hash), author).map(|rank| rank.is_some()),
            _ => self.entitles(author, under),
        }
    }

    /// The operations that the fold sets aside, branches that do not count among them, for stewards to issue again
    /// or not.
    pub fn voided<'a>(&'a self, fold: &Fold) -> impl Iterator<Item = (Hash, &'a Operation)> {
        let voided = |(index, known): (usize, &'a Known)| {
            (!fold.valid.contains(index)).then_some((known.hash, &known.operation))
        };
        self.operations.iter().enumerate().filter_map(voided)
    }
}
