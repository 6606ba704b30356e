//! Epoch records: a sealing key that one partner made for what it writes in a circle, and the exact set of
//! nodes it was wrapped to.
//!
//! A record is no entry: it proves itself. It names the control heads its maker had seen, so every member
//! computes the same set from it, whatever it knows besides. Its hash stands in the header of every entry
//! sealed to it, so nobody else can make an author shut somebody out.
//!
//! This file refuses to know the key: unwrapping belongs to whoever holds a sealing key.

use std::collections::BTreeSet;

use cwn_crypto::{Domain, Hash, PartnerId, PublicKey, Signed, SigningKey, Time, identity::SignedRefusal};
use minicbor::{Decode, Encode};

use crate::{
    circle::{History, Roster},
    limits,
    log::CircleId,
};

/// What the maker of an epoch signs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// The circle.
    #[n(0)]
    pub circle: CircleId,
    /// The node that made it.
    #[n(1)]
    pub maker: PublicKey,
    /// The control heads it had seen, sorted.
    #[n(2)]
    pub heads: Vec<Hash>,
    /// Nodes that counted, but got no key: their certificates were revoked, or not known. Sorted.
    #[n(3)]
    pub left_out: Vec<PublicKey>,
    /// The hash of the key, so that two readers cannot be given two keys.
    #[n(4)]
    pub commitment: Hash,
    /// The key, sealed with age to every node of the set.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub wrapped: Vec<u8>,
    /// When it was made, as its maker says.
    #[n(6)]
    pub made: Time,
}

/// A record as it travels and lies on disk.
pub type SignedRecord = Signed<Record>;

/// Why a record was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefusal {
    /// Not canonical, or not signed by its maker.
    #[error("an epoch record whose signature or form is wrong: {0}")]
    Signed(#[from] SignedRefusal),
    /// Made for another circle.
    #[error("an epoch record of another circle")]
    OtherCircle,
    /// Its maker is not in its own set, or its lists are not sorted.
    #[error("an epoch record that contradicts itself")]
    Contradiction,
    /// It builds on control operations that are not held yet. Not a fault: they may still come.
    #[error("an epoch record that builds on a control operation which has not arrived yet")]
    Missing,
}

/// What the engine keeps of a record in memory. The wrapped key stays in the store.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// The node that made it.
    pub maker: PublicKey,
    /// Its partner.
    pub partner: PartnerId,
    /// The control heads it builds on.
    pub heads: Vec<Hash>,
    /// When it was made.
    pub made: Time,
    /// What the policy at those heads says of newcomers: whether its key may be handed to them.
    pub history: History,
    set: BTreeSet<PublicKey>,
    writers: BTreeSet<PublicKey>,
    /// Whether its heads have seen an operation that only a later version understands.
    saw_later: bool,
}

impl Epoch {
    /// Whether a node may use this epoch for what it writes: it is in the set and belongs to the maker's partner.
    pub fn admits(&self, author: &PublicKey) -> bool {
        self.writers.contains(author)
    }

    /// The nodes that it admits.
    pub(crate) fn writers(&self) -> &BTreeSet<PublicKey> {
        &self.writers
    }

    /// Whether a node that it does not admit may be admitted all the same by an operation that this version does not
    /// understand.
    pub fn may_admit(&self) -> bool {
        self.saw_later
    }

    /// Whether the key was wrapped to a node.
    pub fn names(&self, node: &PublicKey) -> bool {
        self.set.contains(node)
    }

    /// The nodes that the key was wrapped to.
    pub fn set(&self) -> &BTreeSet<PublicKey> {
        &self.set
    }

    /// Verifies a record and computes its set. `roster_at` says of some control heads, if all of them are held, who
    /// belonged there, what newcomers could open, and whether they have seen an operation that only a later version
    /// understands.
    pub fn verify<'r>(
        signed: &SignedRecord,
        circle: CircleId,
        roster_at: impl FnOnce(&[Hash]) -> Option<(&'r Roster, History, bool)>,
    ) -> Result<Self, RecordRefusal> {
        let maker = signed.unverified(limits::RECORD_BYTES)?.maker;
        let record = signed.verify(Domain::EPOCH, &maker, limits::RECORD_BYTES)?;
        if record.circle != circle {
            return Err(RecordRefusal::OtherCircle);
        }
        if !record.heads.is_sorted() || !record.left_out.is_sorted() {
            return Err(RecordRefusal::Contradiction);
        }
        let (roster, history, saw_later) = roster_at(&record.heads).ok_or(RecordRefusal::Missing)?;
        let contradiction = if saw_later { RecordRefusal::Missing } else { RecordRefusal::Contradiction };
        let set = set_of(roster, &record.left_out);
        let Some(partner) = roster.member(&maker).map(|member| member.partner.clone()) else {
            return Err(contradiction);
        };
        if !set.contains(&maker) {
            return Err(contradiction);
        }
        let same_partner = |node: &&PublicKey| roster.member(node).is_some_and(|m| m.partner == partner);
        let writers = set.iter().filter(same_partner).copied().collect();
        Ok(Self { maker, partner, heads: record.heads, made: record.made, history, set, writers, saw_later })
    }
}

/// Signs a record.
pub fn sign(record: &Record, key: &SigningKey) -> SignedRecord {
    Signed::sign(record, Domain::EPOCH, key)
}

/// The nodes of a roster but those left out.
pub fn set_of(roster: &Roster, left_out: &[PublicKey]) -> BTreeSet<PublicKey> {
    roster.iter().map(|(node, _)| *node).filter(|node| left_out.binary_search(node).is_err()).collect()
}
