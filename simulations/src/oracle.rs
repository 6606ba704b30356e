//! An oracle of who belongs: the rules of the protocol's section 5 once more, as plainly as they can be said.
//!
//! It is written for being read beside the rules, not for speed, and shares no code with the engine's fold. It knows
//! every operation that was ever written; which of them a node has heard of it is told.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use cwn_crypto::{
    Hash, PartnerId, PublicKey,
    issuer_log::{CutLine, LogId},
    seal::Recipient,
};
use cwn_engine::{
    circle::{Act, Charter, MemberNode, Operation, Quota, Stewardship, Terms},
    log::{Header, Under},
};

/// Operations by their entries' hashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    operations: BTreeSet<Hash>,
    sum: [u8; 32],
}

impl Heard {
    /// Adds one.
    pub(crate) fn insert(&mut self, operation: Hash) {
        if self.operations.insert(operation) {
            self.sum.iter_mut().zip(operation.0).for_each(|(sum, byte)| *sum ^= byte);
        }
    }

    /// Adds these.
    pub(crate) fn extend<'a>(&mut self, operations: impl IntoIterator<Item = &'a Hash>) {
        operations.into_iter().for_each(|operation| self.insert(*operation));
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Hash> {
        self.operations.iter()
    }

    /// Whether one is among them.
    pub(crate) fn contains(&self, operation: &Hash) -> bool {
        self.operations.contains(operation)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Tells sets apart without comparing them: what is summed are hashes.
    pub(crate) fn name(&self) -> (usize, [u8; 32]) {
        (self.len(), self.sum)
    }
}

/// One operation, as its entry says it.
#[derive(Debug, Clone)]
struct Said {
    author: PublicKey,
    log: LogId,
    seq: u64,
    previous: Option<Hash>,
    operation: Operation,
    /// What its author had seen, all the way back.
    past: Heard,
    /// The rank of the stewardship that it acts under, which had to be said before.
    rank: Option<Rank>,
    cites: Vec<CutLine>,
}

/// Everything ever said about who belongs to one circle.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) charter: Charter,
    said: BTreeMap<Hash, Said>,
    /// The first operation that was said for each place of a log, and the lowest places for which there are two.
    firsts: BTreeMap<(PublicKey, LogId, u64), Hash>,
    forks: BTreeMap<(PublicKey, LogId), u64>,
}

/// How good a stewardship is: the place in the charter from which it comes, and for each appointment on the way how
/// much that had seen, and its hash. The smaller is the better; whoever appointed stands above the appointed.
type Rank = (u16, Vec<(usize, Hash)>);

/// Somebody who belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) partner: PartnerId,
    pub(crate) recipient: Recipient,
    steward: Option<Rank>,
}

impl Belongs {
    /// Whether a stewardship of its stands.
    pub(crate) fn is_steward(&self) -> bool {
        self.steward.is_some()
    }
}

/// Who belongs, and which operations that rests on.
#[derive(Debug, Default)]
pub(crate) struct Conclusion {
    pub(crate) members: BTreeMap<PublicKey, Belongs>,
    /// The policy that counts; the charter's when none.
    policy: Option<Hash>,
    valid: Heard,
    /// The removals among those, by partner.
    removals: BTreeMap<PartnerId, Vec<Hash>>,
    /// The best stewardship of each steward.
    stewards: BTreeMap<PublicKey, Rank>,
}

impl Conclusion {
    /// Whether an operation counts.
    pub(crate) fn counts(&self, operation: &Hash) -> bool {
        self.valid.contains(operation)
    }
}

impl History {
    /// The history of a circle just founded.
    pub(crate) fn new(charter: Charter) -> Self {
        Self { charter, said: BTreeMap::new(), firsts: BTreeMap::new(), forks: BTreeMap::new() }
    }

    /// An operation was written. What it builds on was written before.
    pub(crate) fn hear(&mut self, header: &Header, hash: Hash, payload: &[u8]) {
        let Ok(operation) = Operation::from_bytes(payload) else { return };
        let mut past = Heard::default();
        for before in operation.heads.iter().chain(&header.previous) {
            past.insert(*before);
            past.extend(self.said.get(before).into_iter().flat_map(|said| said.past.iter()));
        }
        let cites = header.opening.iter().flat_map(|opening| opening.cites.clone()).collect();
        let Header { author, log, seq, previous, .. } = *header;
        if *self.firsts.entry((author, log, seq)).or_insert(hash) != hash {
            let lowest = self.forks.entry((author, log)).or_insert(seq);
            *lowest = seq.min(*lowest);
        }
        let rank = self.seat(&operation.stewardship).map(|(rank, ..)| rank);
        self.said.insert(hash, Said { author, log, seq, previous, operation, past, rank, cites });
    }

    /// Whether an entry is an operation of this circle.
    pub(crate) fn has(&self, operation: &Hash) -> bool {
        self.said.contains_key(operation)
    }

    /// Every node that anything ever said about this circle names.
    pub(crate) fn ever_named(&self) -> BTreeSet<PublicKey> {
        let stewards = self.charter.stewards.iter().map(|steward| steward.node.node);
        let added = self.said.values().flat_map(|said| match &said.operation.act {
            Act::Add { nodes, .. } => nodes.iter().map(|node| node.node).collect(),
            Act::Appoint { node, .. } => vec![node.node],
            Act::Remove { .. } | Act::Dismiss { .. } | Act::Policy { .. } | Act::Later => Vec::new(),
        });
        stewards.chain(added).collect()
    }

    /// The operations of one author.
    pub(crate) fn written_by(&self, author: &PublicKey) -> impl Iterator<Item = &Hash> {
        self.said.iter().filter(move |(_, said)| said.author == *author).map(|(hash, _)| hash)
    }

    /// The stewardships that a node ever had, whatever has become of them.
    pub(crate) fn seats_of(&self, node: &PublicKey) -> Vec<Stewardship> {
        let charter = self.charter.stewards.iter().enumerate();
        let charter = charter.filter(|(_, steward)| steward.node.node == *node);
        let appointed = self.said.iter().filter_map(|(hash, said)| match &said.operation.act {
            Act::Appoint { node: appointed, .. } if appointed.node == *node => Some(Stewardship::Appointed(*hash)),
            _ => None,
        });
        charter.map(|(place, _)| Stewardship::Charter(place as u16)).chain(appointed).collect()
    }

    /// Those of these operations that count: all that stand before any fork and what they had seen, and of each log that
    /// forks the two branches of lowest hash, each along the lowest hash, and what they had seen.
    pub(crate) fn counted(&self, heard: &Heard) -> Heard {
        if self.forks.is_empty() {
            return heard.clone();
        }
        let mut counted = Heard::default();
        let count = |counted: &mut Heard, hash: &Hash| {
            // What one had seen that counts counts already.
            if !counted.contains(hash) {
                counted.insert(*hash);
                counted.extend(self.said.get(hash).into_iter().flat_map(|said| said.past.iter()));
            }
        };
        let heard: Vec<(&Hash, &Said)> = heard.iter().filter_map(|hash| Some((hash, self.said.get(hash)?))).collect();
        let mut before: Vec<&(&Hash, &Said)> = heard.iter().filter(|(_, said)| !self.is_behind_fork(said)).collect();
        before.sort_by_key(|(_, said)| std::cmp::Reverse(said.past.len()));
        before.into_iter().for_each(|(hash, _)| count(&mut counted, hash));
        for ((author, log), fork) in &self.forks {
            // They are in the order of their hashes.
            let of_log = heard.iter().filter(|(_, said)| (said.author, said.log) == (*author, *log));
            let of_log: Vec<(&Hash, &Said)> = of_log.copied().collect();
            for (start, _) in of_log.iter().filter(|(_, said)| said.seq == *fork).take(2) {
                let mut at = Some(*start);
                while let Some(hash) = at {
                    count(&mut counted, hash);
                    at = of_log.iter().find(|(_, said)| said.previous == Some(*hash)).map(|(next, _)| *next);
                }
            }
        }
        counted
    }

    fn is_behind_fork(&self, said: &Said) -> bool {
        self.forks.get(&(said.author, said.log)).is_some_and(|fork| said.seq >= *fork)
    }

    /// Whether an operation lies along the branch that a cut names of its log, if the log forks before it.
    fn along(&self, hash: &Hash, cut: &[CutLine], heard: &Heard) -> bool {
        let said = &self.said[hash];
        if !self.is_behind_fork(said) {
            return true;
        }
        let before = |hash: &Hash| self.said.get(hash).and_then(|said| said.previous);
        let leads_to = |line: &CutLine| {
            let known = heard.contains(&line.head);
            let mut chain = std::iter::successors(Some(line.head), before);
            said.seq < line.height && (!known || chain.any(|one| one == *hash))
        };
        let mut lines = cut.iter().filter(|line| line.log == said.log).peekable();
        lines.peek().is_none() || lines.any(leads_to)
    }

    /// These operations and all that they had seen.
    pub(crate) fn up_to(&self, heads: &[Hash]) -> Heard {
        let mut heard = Heard::default();
        heard.extend(heads);
        heard.extend(heads.iter().filter_map(|head| self.said.get(head)).flat_map(|said| said.past.iter()));
        heard
    }

    /// The rank of a stewardship, and whose it is.
    fn seat(&self, stewardship: &Stewardship) -> Option<(Rank, &PartnerId, PublicKey)> {
        match stewardship {
            Stewardship::Charter(place) => {
                let steward = self.charter.stewards.get(usize::from(*place))?;
                Some(((*place, Vec::new()), &steward.partner, steward.node.node))
            }
            Stewardship::Appointed(hash) => {
                let said = self.said.get(hash)?;
                let Act::Appoint { partner, node } = &said.operation.act else { return None };
                let (place, mut path) = said.rank.clone()?;
                path.push((said.past.len(), *hash));
                Some(((place, path), partner, node.node))
            }
        }
    }

    fn rank_of(&self, operation: &Hash) -> Option<&Rank> {
        self.said.get(operation)?.rank.as_ref()
    }

    /// What follows from the operations in `heard`.
    pub(crate) fn conclude(&self, heard: &Heard) -> Conclusion {
        let mut conclusion = Conclusion::default();
        let charter = (0..self.charter.stewards.len() as u16).map(Stewardship::Charter);
        let appointed = heard.iter().map(|hash| Stewardship::Appointed(*hash));
        let mut seats: Vec<_> =
            charter.chain(appointed).filter_map(|by| self.seat(&by).map(|seat| (seat, by))).collect();
        // The best rank first: what it does depends on nobody else.
        seats.sort();
        let said: Vec<(&Hash, &Said)> = heard.iter().filter_map(|hash| Some((hash, self.said.get(hash)?))).collect();
        let mut by_seat: BTreeMap<Stewardship, Vec<(&Hash, &Said)>> = BTreeMap::new();
        for (hash, said) in &said {
            by_seat.entry(said.operation.stewardship).or_default().push((hash, said));
        }
        let ending =
            |(_, said): &(&Hash, &Said)| matches!(said.operation.act, Act::Remove { .. } | Act::Dismiss { .. });
        let endings: Vec<(&Hash, &Said)> = said.iter().copied().filter(ending).collect();
        let mut openings: BTreeMap<(PublicKey, LogId), &[CutLine]> = BTreeMap::new();
        for (_, said) in said.iter().filter(|(_, said)| said.seq == 0) {
            openings.entry((said.author, said.log)).or_insert(&said.cites);
        }
        for ((rank, partner, node), stewardship) in seats {
            let given = match stewardship {
                Stewardship::Charter(_) => None,
                Stewardship::Appointed(hash) if conclusion.valid.contains(&hash) => Some(&self.said[&hash].past),
                Stewardship::Appointed(_) => continue,
            };
            let ends = |(hash, said): &&(&Hash, &Said)| {
                unseats(&said.operation.act, partner, &node)
                    && conclusion.valid.contains(hash)
                    && given.is_none_or(|past| !past.contains(hash))
                    && self.rank_of(hash).is_some_and(|by| *by < rank)
            };
            let ended: Vec<Hash> = endings.iter().filter(ends).map(|(hash, _)| **hash).collect();
            let cut = self.governing(&ended);
            let reach = cut.map(|cut| reach(cut, |log| openings.get(&(node, *log)).copied()));
            for (hash, said) in by_seat.get(&stewardship).into_iter().flatten() {
                let own = said.author == node;
                let within = reach.as_ref().is_none_or(|reach| said.seq < reach.get(&said.log).copied().unwrap_or(0));
                let saw = match stewardship {
                    Stewardship::Charter(_) => true,
                    Stewardship::Appointed(appointment) => said.past.contains(&appointment),
                };
                let along = cut.is_none_or(|cut| self.along(hash, cut, heard));
                if own && within && along && saw {
                    conclusion.valid.insert(**hash);
                }
            }
            if reach.is_none() {
                conclusion.stewards.entry(node).or_insert(rank);
            }
        }
        for hash in conclusion.valid.iter() {
            if let Act::Remove { partner, .. } = &self.said[hash].operation.act {
                conclusion.removals.entry(partner.clone()).or_default().push(*hash);
            }
        }
        self.count(&mut conclusion);
        conclusion.policy = self.policy(&conclusion);
        conclusion
    }

    fn count(&self, conclusion: &mut Conclusion) {
        let mut named: Vec<(PartnerId, MemberNode, Under)> = Vec::new();
        for steward in &self.charter.stewards {
            named.push((steward.partner.clone(), steward.node.clone(), Under::Charter));
        }
        let mut adds: Vec<(Option<&Rank>, Hash)> =
            conclusion.valid.iter().map(|hash| (self.rank_of(hash), *hash)).collect();
        adds.sort();
        for (_, hash) in adds {
            match &self.said[&hash].operation.act {
                Act::Add { partner, nodes } => {
                    named.extend(nodes.iter().map(|node| (partner.clone(), node.clone(), Under::Add(hash))));
                }
                Act::Appoint { partner, node } => named.push((partner.clone(), node.clone(), Under::Add(hash))),
                Act::Remove { .. } | Act::Dismiss { .. } | Act::Policy { .. } | Act::Later => {}
            }
        }
        for (partner, node, under) in named {
            if !conclusion.members.contains_key(&node.node) && self.removals(conclusion, node.node, &under).is_empty() {
                let steward = conclusion.stewards.get(&node.node).cloned();
                conclusion.members.insert(node.node, Belongs { partner, recipient: node.recipient, steward });
            }
        }
    }

    /// The policy no other has seen; of several the best rank's, then the lowest hash.
    fn policy(&self, conclusion: &Conclusion) -> Option<Hash> {
        let is_policy = |hash: &&Hash| matches!(self.said[*hash].operation.act, Act::Policy { .. });
        let last = self.last_of(conclusion.valid.iter().filter(is_policy).collect());
        last.into_iter().map(|hash| (self.rank_of(hash), *hash)).min().map(|(_, hash)| hash)
    }

    /// Those of some operations that no other of them has seen.
    fn last_of<'a>(&self, mut operations: Vec<&'a Hash>) -> Vec<&'a Hash> {
        // Whoever has seen one has seen more than that had, and all of it: each is compared with those alone that stay.
        operations.sort_by_key(|hash| Reverse(self.said[*hash].past.len()));
        let mut last: Vec<&Hash> = Vec::new();
        for hash in operations {
            if !last.iter().any(|other| self.said[*other].past.contains(hash)) {
                last.push(hash);
            }
        }
        last
    }

    /// The quotas of the charter and of every policy that was ever said.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = Option<Quota>> {
        let said = self.said.values().filter_map(|said| match &said.operation.act {
            Act::Policy { terms } => Some(terms.quota),
            _ => None,
        });
        std::iter::once(self.charter.terms.quota).chain(said)
    }

    /// How often one of these said that a node of a partner is removed.
    pub(crate) fn times_removed(&self, partner: &PartnerId, node: &PublicKey, by: impl Fn(&PublicKey) -> bool) -> u64 {
        let removals = self.said.values().filter(|said| removes(&said.operation.act, partner, node));
        removals.filter(|said| by(&said.author)).count() as u64
    }

    /// What the circle is kept by.
    pub(crate) fn terms(&self, conclusion: &Conclusion) -> &Terms {
        match conclusion.policy.map(|policy| &self.said[&policy].operation.act) {
            Some(Act::Policy { terms }) => terms,
            _ => &self.charter.terms,
        }
    }

    /// The valid removals that end what `node` may do under something.
    fn removals(&self, conclusion: &Conclusion, node: PublicKey, under: &Under) -> Vec<Hash> {
        let (partner, add, guarded) = match under {
            Under::Charter => {
                let mut stewards = self.charter.stewards.iter().enumerate();
                let Some((place, steward)) = stewards.find(|(_, steward)| steward.node.node == node) else {
                    return Vec::new();
                };
                (&steward.partner, None, Some((place as u16, Vec::new())))
            }
            Under::Add(hash) => match self.said.get(hash).map(|said| (said, &said.operation.act)) {
                // An `add` of a standing steward is guarded by the rank of that.
                Some((said, Act::Add { partner, .. })) => {
                    (partner, Some(&said.past), conclusion.stewards.get(&node).cloned())
                }
                Some((said, Act::Appoint { partner, .. })) => {
                    let seat = self.seat(&Stewardship::Appointed(*hash));
                    (partner, Some(&said.past), seat.map(|(rank, ..)| rank))
                }
                _ => return Vec::new(),
            },
            Under::Certificate(_) | Under::Root(_) => return Vec::new(),
        };
        let acts = |hash: &&Hash| {
            let seen = || add.is_some_and(|past| past.contains(hash));
            let may = || guarded.as_ref().is_none_or(|rank| self.rank_of(hash).is_some_and(|by| by < rank));
            removes(&self.said[*hash].operation.act, partner, &node) && !seen() && may()
        };
        conclusion.removals.get(partner).into_iter().flatten().filter(acts).copied().collect()
    }

    /// Of operations that end the same, the one whose cut counts: the best rank's; of several the one no other of
    /// that rank has seen; of those the lowest hash.
    fn governing(&self, ends: &[Hash]) -> Option<&[CutLine]> {
        let best = ends.iter().map(|hash| self.rank_of(hash)).min()?;
        let of_best = ends.iter().filter(|hash| self.rank_of(hash) == best).collect();
        let counts = self.last_of(of_best).into_iter().min()?;
        match &self.said[counts].operation.act {
            Act::Remove { cut, .. } | Act::Dismiss { cut, .. } => Some(cut),
            Act::Add { .. } | Act::Appoint { .. } | Act::Policy { .. } | Act::Later => None,
        }
    }

    /// What an author's right to write under something comes to.
    pub(crate) fn right(&self, conclusion: &Conclusion, author: PublicKey, under: &Under) -> Right<'_> {
        match self.governing(&self.removals(conclusion, author, under)) {
            Some(cut) => Right::Cut(cut),
            None if conclusion.members.contains_key(&author) => Right::Stands,
            None => Right::Undecided,
        }
    }
}

/// Whether this ends a stewardship of a node, if it has one.
pub(crate) fn unseats(act: &Act, partner: &PartnerId, node: &PublicKey) -> bool {
    match act {
        Act::Dismiss { node: dismissed, .. } => dismissed == node,
        act => removes(act, partner, node),
    }
}

fn removes(act: &Act, partner: &PartnerId, node: &PublicKey) -> bool {
    match act {
        Act::Remove { partner: removed, node: one, .. } => removed == partner && one.is_none_or(|one| one == *node),
        Act::Add { .. } | Act::Appoint { .. } | Act::Dismiss { .. } | Act::Policy { .. } | Act::Later => false,
    }
}

/// What a right to write comes to.
#[derive(Debug)]
pub(crate) enum Right<'a> {
    Stands,
    Cut(&'a [CutLine]),
    Undecided,
}

/// How far a cut reaches: what it lists, as listed; what that cites, as cited, and so on.
pub(crate) fn reach<'a>(cut: &[CutLine], opening: impl Fn(&LogId) -> Option<&'a [CutLine]>) -> BTreeMap<LogId, u64> {
    let mut listed: BTreeMap<LogId, u64> = BTreeMap::new();
    for line in cut {
        // Of a log that forks there may be a line for each branch.
        let height = listed.entry(line.log).or_default();
        *height = line.height.max(*height);
    }
    let mut reach = listed.clone();
    loop {
        let mut more = reach.clone();
        for log in reach.iter().filter(|(_, height)| **height > 0).map(|(log, _)| log) {
            for line in opening(log).unwrap_or_default().iter().filter(|line| !listed.contains_key(&line.log)) {
                let height = more.entry(line.log).or_default();
                *height = line.height.max(*height);
            }
        }
        if more == reach {
            return reach;
        }
        reach = more;
    }
}
