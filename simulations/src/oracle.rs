//! An oracle of who belongs: the rules of the protocol's section 5 once more, as plainly as they can be said.
//!
//! It is written for being read beside the rules, not for speed, and shares no code with the engine's fold. It knows
//! every operation that was ever written; which of them a node has heard of it is told.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PartnerId, PublicKey,
    issuer_log::{CutLine, LogId},
    seal::Recipient,
};
use cwn_engine::{
    circle::{Act, Charter, Operation},
    log::{Header, Under},
};

/// Operations by their entries' hashes.
pub(crate) type Heard = BTreeSet<Hash>;

/// One operation, as its entry says it.
#[derive(Debug, Clone)]
struct Said {
    author: PublicKey,
    log: LogId,
    seq: u64,
    operation: Operation,
    /// What its author had seen, all the way back.
    past: Heard,
    cites: Vec<CutLine>,
}

/// Everything ever said about who belongs to one circle.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) charter: Charter,
    said: BTreeMap<Hash, Said>,
}

/// Somebody who belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) partner: PartnerId,
    pub(crate) recipient: Recipient,
    pub(crate) steward: bool,
}

/// Who belongs, and what follows for what was written.
#[derive(Debug, Default)]
pub(crate) struct Conclusion {
    pub(crate) members: BTreeMap<PublicKey, Belongs>,
    valid: Heard,
}

impl History {
    /// The history of a circle just founded.
    pub(crate) fn new(charter: Charter) -> Self {
        Self { charter, said: BTreeMap::new() }
    }

    /// An operation was written. What it builds on was written before.
    pub(crate) fn hear(&mut self, header: &Header, hash: Hash, payload: &[u8]) {
        let Ok(operation) = Operation::from_bytes(payload) else { return };
        let mut past = Heard::new();
        for before in operation.heads.iter().chain(&header.previous) {
            past.insert(*before);
            past.extend(self.said.get(before).into_iter().flat_map(|said| &said.past));
        }
        let cites = header.opening.iter().flat_map(|opening| opening.cites.clone()).collect();
        let Header { author, log, seq, .. } = *header;
        self.said.insert(hash, Said { author, log, seq, operation, past, cites });
    }

    /// Every node that anything ever said about this circle names.
    pub(crate) fn ever_named(&self) -> BTreeSet<PublicKey> {
        let stewards = self.charter.stewards.iter().map(|steward| steward.node.node);
        let added = self.said.values().flat_map(|said| match &said.operation.act {
            Act::Add { nodes, .. } => nodes.iter().map(|node| node.node).collect(),
            Act::Remove { .. } => Vec::new(),
        });
        stewards.chain(added).collect()
    }

    /// These operations and all that they had seen.
    pub(crate) fn up_to(&self, heads: &[Hash]) -> Heard {
        let past = heads.iter().filter_map(|head| self.said.get(head)).flat_map(|said| said.past.iter().copied());
        past.chain(heads.iter().copied()).collect()
    }

    /// What follows from the operations in `heard`.
    pub(crate) fn conclude(&self, heard: &Heard) -> Conclusion {
        let mut conclusion = Conclusion::default();
        let said = |hash: &Hash| self.said.get(hash).filter(|_| heard.contains(hash));
        // The best rank first: what it does depends on nobody else.
        for (place, steward) in self.charter.stewards.iter().enumerate() {
            let ended = self.removals_of(&conclusion, steward.node.node, &Under::Charter);
            let reach = self.governing(&ended).map(|cut| {
                let opening = |log: &LogId| {
                    self.said.iter().find_map(|(hash, said)| {
                        let opens = said.author == steward.node.node && said.log == *log && said.seq == 0;
                        (opens && heard.contains(hash)).then_some(said.cites.as_slice())
                    })
                };
                reach(cut, opening)
            });
            for hash in heard {
                let Some(said) = said(hash) else { continue };
                let own = said.author == steward.node.node && usize::from(said.operation.place) == place;
                let within = reach.as_ref().is_none_or(|reach| said.seq < reach.get(&said.log).copied().unwrap_or(0));
                if own && within {
                    conclusion.valid.insert(*hash);
                }
            }
            if reach.is_none() {
                let Some(partner) = Some(steward.partner.clone()) else { continue };
                let belongs = Belongs { partner, recipient: steward.node.recipient, steward: true };
                conclusion.members.insert(steward.node.node, belongs);
            }
        }
        let mut adds: Vec<(u16, Hash)> =
            conclusion.valid.iter().map(|hash| (self.said[hash].operation.place, *hash)).collect();
        adds.sort();
        for (_, hash) in adds {
            let Act::Add { partner, nodes } = &self.said[&hash].operation.act else { continue };
            for node in nodes {
                let ended = !self.removals_of(&conclusion, node.node, &Under::Add(hash)).is_empty();
                if !ended && !conclusion.members.contains_key(&node.node) {
                    let belongs = Belongs { partner: partner.clone(), recipient: node.recipient, steward: false };
                    conclusion.members.insert(node.node, belongs);
                }
            }
        }
        conclusion
    }

    /// The valid removals that end what `node` may do under something.
    fn removals_of(&self, conclusion: &Conclusion, node: PublicKey, under: &Under) -> Vec<Hash> {
        let place = self.charter.stewards.iter().position(|steward| steward.node.node == node);
        let stands = conclusion.members.get(&node).is_some_and(|belongs| belongs.steward);
        let (partner, add) = match under {
            Under::Charter => match place {
                Some(place) => (&self.charter.stewards[place].partner, None),
                None => return Vec::new(),
            },
            Under::Add(hash) => match self.said.get(hash).map(|said| &said.operation.act) {
                Some(Act::Add { partner, .. }) => (partner, Some(&self.said[hash])),
                _ => return Vec::new(),
            },
            Under::Certificate(_) | Under::Root(_) => return Vec::new(),
        };
        let acts = |hash: &&Hash| {
            let removal = &self.said[*hash];
            let Act::Remove { partner: removed, node: one, .. } = &removal.operation.act else { return false };
            let names = removed == partner && one.is_none_or(|one| one == node);
            let seen = add.is_some_and(|add| add.past.contains(*hash));
            // Nobody ends an equal or better rank; an `add` of a standing steward neither.
            let guarded = place.filter(|_| add.is_none() || stands);
            names && !seen && guarded.is_none_or(|place| usize::from(removal.operation.place) < place)
        };
        conclusion.valid.iter().filter(acts).copied().collect()
    }

    /// Of removals that act on the same, the one whose cut counts: the best rank's; of several the one no other of
    /// that rank has seen; of those the lowest hash.
    fn governing(&self, removals: &[Hash]) -> Option<&[CutLine]> {
        let rank = |hash: &Hash| self.said[hash].operation.place;
        let best = removals.iter().map(rank).min()?;
        let of_best: Vec<&Hash> = removals.iter().filter(|hash| rank(hash) == best).collect();
        let replaced = |hash: &Hash| of_best.iter().any(|other| self.said[*other].past.contains(hash));
        let counts = of_best.iter().filter(|hash| !replaced(hash)).min()?;
        match &self.said[*counts].operation.act {
            Act::Remove { cut, .. } => Some(cut),
            Act::Add { .. } => None,
        }
    }

    /// How many entries of each of these logs are accepted, of one author: `None` while nothing decides.
    pub(crate) fn cut_of(&self, conclusion: &Conclusion, author: PublicKey, under: &Under) -> Right<'_> {
        let ended = self.removals_of(conclusion, author, under);
        match self.governing(&ended) {
            Some(cut) => Right::Cut(cut),
            None if conclusion.members.contains_key(&author) => Right::Stands,
            None => Right::Undecided,
        }
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
pub(crate) fn reach<'a>(
    cut: &[CutLine],
    opening: impl Fn(&LogId) -> Option<&'a [CutLine]>,
) -> BTreeMap<LogId, u64> {
    let listed: BTreeMap<LogId, u64> = cut.iter().map(|line| (line.log, line.height)).collect();
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
