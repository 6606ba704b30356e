//! Who belongs to a circle: its charter, the operations of its stewards, and the fold over them.
//!
//! The fold has no order: it gives the same roster for the same set of operations, whatever the order in
//! which they arrived. Time plays no part; "before" means "in the causal past", which every operation
//! names by the control heads its author had seen.
//!
//! A history is drawn as `add -> remove -> add`; two operations that have not seen each other are
//! concurrent, and then removal wins over adding and the better rank over the worse.
//!
//! This file refuses to know certificates, revocations and clocks: none of them enters the fold.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Domain, Hash, PartnerId, PublicKey, Time,
    encoding::{self, Refusal},
    issuer_log::{CutLine, LogId, cut_reach},
    seal::Recipient,
};
use minicbor::{Decode, Encode};

use crate::{
    limits,
    log::{CircleId, Header, Under},
};

/// A node of a partner, as a charter or an `add` names it.
///
/// The sealing key is named beside the node key, so that no later certificate, by whatever issuer, can turn
/// what is sealed to this node towards another key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct MemberNode {
    /// The node's key.
    #[n(0)]
    pub node: PublicKey,
    /// What is sealed to this node is sealed to this key.
    #[n(1)]
    pub recipient: Recipient,
}

/// A steward that the charter names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Steward {
    /// Its partner.
    #[n(0)]
    pub partner: PartnerId,
    /// The node that is steward.
    #[n(1)]
    pub node: MemberNode,
}

/// What a circle is founded with. Its hash is the circle's id.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Charter {
    /// What people call it.
    #[n(0)]
    pub name: String,
    /// The stewards by rank, the founder first.
    #[n(1)]
    pub stewards: Vec<Steward>,
    /// What honest nodes publish and show; the functions read it, the engine does not.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub policy: Vec<u8>,
    /// Random, known to members alone: by it they recognise each other.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub secret: [u8; 32],
    /// When it was founded, as the founder says.
    #[n(4)]
    pub founded: Time,
}

impl std::fmt::Debug for Charter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Charter").field("stewards", &self.stewards).finish_non_exhaustive()
    }
}

/// Why something is not a charter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharterRefusal {
    /// The bytes are not a canonical charter.
    #[error("the charter is {0}")]
    Encoding(#[from] Refusal),
    /// The name cannot be shown.
    #[error("a circle's name has 1 to {} characters and no control characters", limits::CIRCLE_NAME_CHARS)]
    Name,
    /// Nobody could ever change it.
    #[error("a charter names 1 to {} stewards, each node once", limits::CHARTER_STEWARDS)]
    Stewards,
}

impl Charter {
    /// Reads a charter.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CharterRefusal> {
        let charter: Self = encoding::from_bytes(bytes, limits::CHARTER_BYTES)?;
        charter.check()?;
        Ok(charter)
    }

    /// Whether it can be a charter.
    pub fn check(&self) -> Result<(), CharterRefusal> {
        let name_length = self.name.chars().count();
        if !(1..=limits::CIRCLE_NAME_CHARS).contains(&name_length) || self.name.chars().any(char::is_control) {
            return Err(CharterRefusal::Name);
        }
        let nodes: BTreeSet<_> = self.stewards.iter().map(|steward| steward.node.node).collect();
        if !(1..=limits::CHARTER_STEWARDS).contains(&self.stewards.len()) || nodes.len() != self.stewards.len() {
            return Err(CharterRefusal::Stewards);
        }
        Ok(())
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }

    /// The id of the circle it founds.
    pub fn id(&self) -> CircleId {
        CircleId(Hash::of(Domain::CHARTER, &[&self.to_bytes()]))
    }

    fn place_of(&self, node: &PublicKey) -> Option<u16> {
        let place = self.stewards.iter().position(|steward| steward.node.node == *node)?;
        u16::try_from(place).ok()
    }
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Act {
    /// A partner belongs, with the nodes that count.
    #[n(0)]
    Add {
        /// The partner.
        #[n(0)]
        partner: PartnerId,
        /// Its nodes.
        #[n(1)]
        nodes: Vec<MemberNode>,
    },
    /// A partner, or one node of it, belongs no longer.
    #[n(1)]
    Remove {
        /// The partner.
        #[n(0)]
        partner: PartnerId,
        /// One node of it; all when none is named.
        #[n(1)]
        node: Option<PublicKey>,
        /// How far into its logs what it wrote still holds. A listed log includes what its opening cites; a log
        /// that is not listed holds nowhere.
        #[n(2)]
        cut: Vec<CutLine>,
    },
}

/// A control operation: the payload of an entry of suite 3.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Operation {
    /// The stewardship it acts under: a place in the charter's list.
    #[n(0)]
    pub place: u16,
    /// The control heads its author had seen.
    #[n(1)]
    pub heads: Vec<Hash>,
    /// What it does.
    #[n(2)]
    pub act: Act,
}

impl Operation {
    /// Reads an operation from a payload.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        encoding::from_bytes(bytes, limits::PAYLOAD_BYTES)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }
}

/// Why an operation was not taken into the circle's history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationRefusal {
    /// The payload is not an operation.
    #[error("a control operation is {0}")]
    Encoding(#[from] Refusal),
    /// Only stewards change a circle.
    #[error("{author} is no steward of this circle; only a steward can change it")]
    NotASteward {
        /// Who tried.
        author: PublicKey,
    },
    /// It names more than one operation may.
    #[error("an operation names at most {} nodes, heads and cut logs", limits::OPERATION_LIST)]
    TooLong,
    /// It names heads that are not held yet. Not a fault: they may still come.
    #[error("an operation that builds on {0}, which has not arrived yet")]
    Missing(Hash),
}

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

    fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }
}

/// An operation with its place in the history.
#[derive(Debug)]
struct Known {
    hash: Hash,
    log: LogId,
    seq: u64,
    cites: Vec<CutLine>,
    operation: Operation,
    past: Bits,
}

/// The history of a circle: its charter and every operation of it that is held.
#[derive(Debug)]
pub struct Control {
    charter: Charter,
    operations: Vec<Known>,
    by_hash: BTreeMap<Hash, usize>,
    /// The first operation of each control log.
    openings: BTreeMap<(PublicKey, LogId), usize>,
}

/// A node that counts in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its partner.
    pub partner: PartnerId,
    /// What is sealed to it is sealed to this key.
    pub recipient: Recipient,
    /// By what it counts.
    pub under: Under,
    /// Its rank, if it is a steward: 0 is the founder.
    pub steward: Option<u16>,
}

/// The nodes that count in a circle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster(BTreeMap<PublicKey, Member>);

impl Roster {
    /// Whether a node counts.
    pub fn counts(&self, node: &PublicKey) -> bool {
        self.0.contains_key(node)
    }

    /// A node that counts.
    pub fn member(&self, node: &PublicKey) -> Option<&Member> {
        self.0.get(node)
    }

    /// All nodes that count.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &Member)> {
        self.0.iter()
    }

    /// The partners that belong.
    pub fn partners(&self) -> BTreeSet<&PartnerId> {
        self.0.values().map(|member| &member.partner).collect()
    }
}

/// What the fold concludes from a set of operations.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    roster: Roster,
    valid: Bits,
    within: Bits,
    /// The removals among the valid, best rank first.
    removals: Vec<usize>,
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
        Self { charter, operations: Vec::new(), by_hash: BTreeMap::new(), openings: BTreeMap::new() }
    }

    /// The charter.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// Whether an operation is held.
    pub fn holds(&self, operation: &Hash) -> bool {
        self.by_hash.contains_key(operation)
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
    /// nobody of worse rank crowds out what its betters did. What is left out is concurrent to it.
    pub fn heads_to_name(&self) -> Vec<Hash> {
        let mut heads = self.heads();
        if heads.len() > limits::OPERATION_LIST {
            heads.sort_by_key(|head| (self.operations[self.by_hash[head]].operation.place, *head));
            heads.truncate(limits::OPERATION_LIST);
            heads.sort();
        }
        heads
    }

    /// The rank under which a node may act, if the charter gives it one.
    pub fn place_of(&self, node: &PublicKey) -> Option<u16> {
        self.charter.place_of(node)
    }

    /// Reads the operation in an authentic entry's payload and checks what can be checked of it alone.
    pub fn read(&self, header: &Header, payload: &[u8]) -> Result<Operation, OperationRefusal> {
        let operation = Operation::from_bytes(payload)?;
        if self.charter.place_of(&header.author) != Some(operation.place) {
            return Err(OperationRefusal::NotASteward { author: header.author });
        }
        let list = match &operation.act {
            Act::Add { nodes, .. } => nodes.len(),
            Act::Remove { cut, .. } => cut.len(),
        };
        if list.max(operation.heads.len()) > limits::OPERATION_LIST {
            return Err(OperationRefusal::TooLong);
        }
        let previous = header.previous.as_ref();
        let missing = operation.heads.iter().chain(previous).find(|head| !self.holds(head));
        missing.map_or(Ok(()), |head| Err(OperationRefusal::Missing(*head)))?;
        Ok(operation)
    }

    /// Takes an operation that [`Self::read`] gave into the history.
    pub fn insert(&mut self, header: &Header, hash: Hash, operation: Operation) {
        let mut past = Bits::default();
        for seen in operation.heads.iter().chain(header.previous.as_ref()) {
            let index = self.by_hash[seen];
            past.extend(&self.operations[index].past);
            past.insert(index);
        }
        let cites = header.opening.as_ref().map(|opening| opening.cites.clone()).unwrap_or_default();
        let Header { author, log, seq, .. } = *header;
        self.by_hash.insert(hash, self.operations.len());
        if seq == 0 {
            self.openings.insert((author, log), self.operations.len());
        }
        self.operations.push(Known { hash, log, seq, cites, operation, past });
    }

    /// What all operations held together say.
    pub fn fold(&self) -> Fold {
        let mut all = Bits::default();
        (0..self.operations.len()).for_each(|index| all.insert(index));
        self.fold_within(all)
    }

    /// What the operations up to `heads` say: fixed for ever, once they are held. `None` while one is not.
    pub fn fold_at(&self, heads: &[Hash]) -> Option<Fold> {
        let mut past = Bits::default();
        for head in heads {
            let index = *self.by_hash.get(head)?;
            past.extend(&self.operations[index].past);
            past.insert(index);
        }
        Some(self.fold_within(past))
    }

    /// The rules of protocol section 5 over the operations in `within`.
    fn fold_within(&self, within: Bits) -> Fold {
        let mut fold = Fold { within, ..Fold::default() };
        // By rank, because whether an operation is valid depends on removals of better rank alone.
        for (place, steward) in self.charter.stewards.iter().enumerate() {
            let node = steward.node.node;
            let cut = self.governing(&fold, &node, &Under::Charter);
            let reach = cut.map(|cut| cut_reach(cut, |log| self.control_cites(&fold, &node, log)));
            let stands = |known: &Known| match &reach {
                None => true,
                Some(reach) => known.seq < reach.get(&known.log).copied().unwrap_or(0),
            };
            for (index, known) in self.operations.iter().enumerate() {
                let own = usize::from(known.operation.place) == place && fold.within.contains(index);
                if own && stands(known) {
                    fold.valid.insert(index);
                    if matches!(known.operation.act, Act::Remove { .. }) {
                        fold.removals.push(index);
                    }
                }
            }
            if reach.is_none() {
                let member = Member {
                    partner: steward.partner.clone(),
                    recipient: steward.node.recipient,
                    under: Under::Charter,
                    steward: u16::try_from(place).ok(),
                };
                fold.roster.0.insert(node, member);
            }
        }
        // Several `add`s may name a node; which one gives its recipient must not depend on arrival.
        let mut adds: Vec<&Known> = self.valid(&fold).collect();
        adds.sort_by_key(|known| (known.operation.place, known.hash));
        for known in adds {
            let Act::Add { partner, nodes } = &known.operation.act else { continue };
            for MemberNode { node, recipient } in nodes {
                let under = Under::Add(known.hash);
                if !fold.roster.counts(node) && self.removals_of(&fold, node, &under).next().is_none() {
                    let member = Member { partner: partner.clone(), recipient: *recipient, under, steward: None };
                    fold.roster.0.insert(*node, member);
                }
            }
        }
        fold
    }

    fn valid<'a>(&'a self, fold: &Fold) -> impl Iterator<Item = &'a Known> {
        let valid = |(index, known): (usize, &'a Known)| fold.valid.contains(index).then_some(known);
        self.operations.iter().enumerate().filter_map(valid)
    }

    /// The cut that governs what `author` wrote under `under`, if a valid removal does.
    ///
    /// A removal governs what was written under an `add` that has not seen it. One that a later removal of the
    /// same or better rank has seen is replaced by it; among concurrent ones the better rank's counts.
    pub fn governing<'a>(&'a self, fold: &'a Fold, author: &PublicKey, under: &Under) -> Option<&'a [CutLine]> {
        let mut removals = self.removals_of(fold, author, under).peekable();
        // Only the same or a better rank replaces a removal, so that one of the best rank counts in the end: one that
        // no other of that rank has seen.
        let best = self.operations[*removals.peek()?].operation.place;
        let best: Vec<usize> = removals.take_while(|index| self.operations[*index].operation.place == best).collect();
        let mut seen = Bits::default();
        best.iter().for_each(|index| seen.extend(&self.operations[*index].past));
        let standing = best.iter().map(|index| (*index, &self.operations[*index]));
        let counts = standing.filter(|(index, _)| !seen.contains(*index)).min_by_key(|(_, known)| known.hash);
        counts.and_then(|(_, known)| match &known.operation.act {
            Act::Remove { cut, .. } => Some(cut.as_slice()),
            Act::Add { .. } => None,
        })
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
                let place = self.charter.place_of(&author);
                place.map(|place| (&self.charter.stewards[usize::from(place)].partner, None))
            }
            Under::Add(hash) => self.by_hash.get(hash).and_then(|index| {
                let known = &self.operations[*index];
                match &known.operation.act {
                    Act::Add { partner, .. } => Some((partner, Some(known))),
                    Act::Remove { .. } => None,
                }
            }),
            Under::Certificate(_) | Under::Root(_) => None,
        };
        right.into_iter().flat_map(move |(partner, add)| {
            // What a steward of the charter writes as one is governed by better ranks alone; so is any other right
            // of it while it stands, for nobody removes an equal or better rank.
            let rank = self.charter.place_of(&author).filter(|_| add.is_none() || self.stands(fold, &author));
            fold.removals.iter().copied().filter(move |index| {
                let known = &self.operations[*index];
                let Act::Remove { partner: removed, node, .. } = &known.operation.act else { return false };
                let names = removed == partner && node.is_none_or(|node| node == author);
                let seen = add.is_some_and(|add| add.past.contains(*index));
                let may = rank.is_none_or(|rank| known.operation.place < rank);
                names && !seen && may
            })
        })
    }

    /// The cuts of all valid removals of an author, whichever of its logs they govern.
    pub fn cuts_of<'a>(&'a self, fold: &Fold, author: &PublicKey) -> Vec<&'a [CutLine]> {
        let steward = self.charter.place_of(author).map(|place| &self.charter.stewards[usize::from(place)].partner);
        let adds = self.operations.iter().filter_map(|known| match &known.operation.act {
            Act::Add { partner, nodes } => nodes.iter().any(|entry| entry.node == *author).then_some(partner),
            Act::Remove { .. } => None,
        });
        let partners: BTreeSet<&PartnerId> = adds.chain(steward).collect();
        let cut = |known: &'a Known| match &known.operation.act {
            Act::Remove { partner, node, cut } => {
                (partners.contains(partner) && node.is_none_or(|node| node == *author)).then_some(cut.as_slice())
            }
            Act::Add { .. } => None,
        };
        fold.removals.iter().map(|index| &self.operations[*index]).filter_map(cut).collect()
    }

    /// Whether a steward of the charter still is one: no valid removal of better rank names it.
    fn stands(&self, fold: &Fold, node: &PublicKey) -> bool {
        let Some(place) = self.charter.place_of(node) else { return false };
        let partner = &self.charter.stewards[usize::from(place)].partner;
        !fold.removals.iter().map(|index| &self.operations[*index].operation).any(|operation| match &operation.act {
            Act::Remove { partner: removed, node: one, .. } => {
                removed == partner && one.is_none_or(|one| one == *node) && operation.place < place
            }
            Act::Add { .. } => false,
        })
    }

    /// What the opening of a control log cites, as far as the fold has it: an opening outside of `within`
    /// would make the fold depend on more than its operations.
    fn control_cites<'a>(&'a self, fold: &Fold, author: &PublicKey, log: &LogId) -> Option<&'a [CutLine]> {
        let index = *self.openings.get(&(*author, *log))?;
        fold.within.contains(index).then(|| self.operations[index].cites.as_slice())
    }

    /// Whether an author may open a log under this, as far as the history alone can tell.
    /// `None`: the `add` it names is not held yet.
    pub fn entitles(&self, author: &PublicKey, under: &Under) -> Option<bool> {
        match under {
            Under::Charter => Some(self.charter.place_of(author).is_some()),
            Under::Add(hash) => {
                let known = &self.operations[*self.by_hash.get(hash)?];
                Some(match &known.operation.act {
                    Act::Add { nodes, .. } => nodes.iter().any(|entry| entry.node == *author),
                    Act::Remove { .. } => false,
                })
            }
            Under::Certificate(_) | Under::Root(_) => Some(false),
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
