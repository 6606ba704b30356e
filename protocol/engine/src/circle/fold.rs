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
    issuer_log::{CutLine, LogId, cut_reach},
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
    log: LogId,
    seq: u64,
    cites: Vec<CutLine>,
    operation: Operation,
    /// The rank of the stewardship it acts under.
    rank: Rank,
    past: Bits,
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
    /// The first operation of each control log.
    openings: BTreeMap<(PublicKey, LogId), usize>,
    /// Operations that only a later version understands.
    later: Vec<usize>,
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
        let (operations, by_hash, openings, later) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { charter, operations, by_hash, seats, openings, later }
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
        let mut seen = Bits::default();
        self.operations.iter().for_each(|known| seen.extend(&known.past));
        let unseen = |(index, known): (usize, &Known)| (!seen.contains(index)).then_some(known.hash);
        let mut heads: Vec<Hash> = self.operations.iter().enumerate().filter_map(unseen).collect();
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
        let past = self.past_of(&operation.heads, header.previous.as_ref());
        let cites = header.opening.as_ref().map(|opening| opening.cites.clone()).unwrap_or_default();
        let Header { author, log, seq, .. } = *header;
        let Some(rank) = self.rank_of(&operation.stewardship, &author).flatten() else {
            unreachable!("`read` saw the stewardship");
        };
        let index = self.operations.len();
        self.by_hash.insert(hash, index);
        if seq == 0 {
            self.openings.insert((author, log), index);
        }
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
        self.operations.push(Known { hash, log, seq, cites, operation, rank, past });
    }

    /// What all operations held together say.
    pub fn fold(&self) -> Fold {
        let mut all = Bits::default();
        (0..self.operations.len()).for_each(|index| all.insert(index));
        self.fold_within(all)
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
            // Everything that ends stewardships and was found valid so far is of better rank.
            let unseats = |known: &Known| {
                let dismisses = matches!(known.operation.act, Act::Dismiss { .. });
                known.operation.act.unseats(&seat.partner, &seat.node) && !(dismisses && planted(Bug::IgnoreDismissal))
            };
            let seen = seat.appointment.map(|appointment| &self.operations[appointment].past);
            let ended =
                fold.ends.iter().copied().filter(|index| {
                    unseats(&self.operations[*index]) && !seen.is_some_and(|seen| seen.contains(*index))
                });
            let cut = self.governs(ended);
            let reach = cut.map(|cut| cut_reach(cut, |log| self.control_cites(&fold, &seat.node, log)));
            let stands = |known: &Known| match &reach {
                None => true,
                Some(reach) if planted(Bug::VoidOneLess) => {
                    known.seq <= reach.get(&known.log).map_or(0, |line| line.height)
                }
                Some(reach) => known.seq < reach.get(&known.log).map_or(0, |line| line.height),
            };
            for index in seat.operations.iter().copied().filter(|index| fold.within.contains(*index)) {
                let known = &self.operations[index];
                if stands(known) {
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
                Some((partner, Some(known), rank))
            }),
            Under::Certificate(_) | Under::Root(_) => None,
        };
        right.into_iter().flat_map(move |(partner, add, rank)| {
            fold.ends.iter().copied().filter(move |index| {
                let known = &self.operations[*index];
                let seen = add.is_some_and(|add| {
                    let at = self.by_hash[&add.hash];
                    add.past.contains(*index)
                        || planted(Bug::AddUndoesConcurrentRemove) && !known.past.contains(at)
                        || planted(Bug::FoldByArrival) && at > *index
                });
                let may = rank.as_ref().is_none_or(|rank| known.rank < *rank || planted(Bug::WorseRankRemoves));
                !planted(Bug::IgnoreRemoval) && known.operation.act.removes(partner, &author) && !seen && may
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

    /// What the opening of a control log cites, as far as the fold has it: an opening outside of `within`
    /// would make the fold depend on more than its operations.
    fn control_cites<'a>(&'a self, fold: &Fold, author: &PublicKey, log: &LogId) -> Option<&'a [CutLine]> {
        let index = *self.openings.get(&(*author, *log))?;
        fold.within.contains(index).then(|| self.operations[index].cites.as_slice())
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

    /// The operations that the fold sets aside, for stewards to issue again or not.
    pub fn voided<'a>(&'a self, fold: &Fold) -> impl Iterator<Item = (Hash, &'a Operation)> {
        let voided = |(index, known): (usize, &'a Known)| {
            (fold.within.contains(index) && !fold.valid.contains(index)).then_some((known.hash, &known.operation))
        };
        self.operations.iter().enumerate().filter_map(voided)
    }
}
