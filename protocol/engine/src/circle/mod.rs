//! Who belongs to a circle: its charter, the operations of its stewards, and who counts by them.
//!
//! What the operations come to is in [`fold`]. This module refuses to know certificates, revocations and clocks:
//! none of them changes who belongs.

pub mod fold;

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Domain, Hash, PartnerId, PublicKey, Time,
    encoding::{self, Refusal},
    issuer_log::CutLine,
    seal::Recipient,
};
use minicbor::{Decode, Decoder, Encode};

pub use fold::{Control, Fold};

use crate::{
    limits,
    log::{CircleId, Under},
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

/// What of a circle a node can open that was added later than it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum History {
    /// Nothing.
    #[default]
    #[n(0)]
    None,
    /// What was sealed while the policy said so: members hand on the keys of those epochs.
    #[n(1)]
    All,
}

impl History {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What a circle is kept by; a `policy` operation puts others in their place.
#[derive(Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// What honest nodes publish and show; the functions read it, the engine does not.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub policy: Vec<u8>,
    /// What newcomers can open of what came before them.
    #[cbor(n(1), skip_if = "History::is_none")]
    pub history: History,
    /// How much of one node's content others take; [`limits::QUOTA`] when it says nothing.
    #[n(2)]
    pub quota: Option<Quota>,
    /// Days after which members drop what was published; never when it says nothing.
    #[n(3)]
    pub retention_days: Option<u32>,
}

impl Terms {
    /// Days after which members drop what was published, one at least.
    pub fn retention(&self) -> Option<u32> {
        self.retention_days.map(|days| days.max(1))
    }
}

/// How much there is of one node in a circle, or may be.
///
/// A quota is each node's own measure for what it takes, and none of what counts: what goes beyond it waits with those
/// who have it, until the quota is raised or its author is removed with a cut that names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Quota {
    /// Bytes of headers and sealed payloads.
    #[n(0)]
    pub bytes: u64,
    /// Entries.
    #[n(1)]
    pub entries: u64,
    /// Logs; an honest node has one for each of its starts.
    #[n(2)]
    pub logs: u64,
    /// Epochs that it made.
    #[n(3)]
    pub epochs: u64,
}

impl Quota {
    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            entries: self.entries.saturating_add(other.entries),
            logs: self.logs.saturating_add(other.logs),
            epochs: self.epochs.saturating_add(other.epochs),
        }
    }

    /// What is left of this without the other.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            entries: self.entries.saturating_sub(other.entries),
            logs: self.logs.saturating_sub(other.logs),
            epochs: self.epochs.saturating_sub(other.epochs),
        }
    }

    /// What its author publishes of it: a sixteenth it leaves for taking back, which must not wait for a steward.
    pub fn to_publish(&self) -> Self {
        let most = |of: u64| of - of / 16;
        Self { bytes: most(self.bytes), entries: most(self.entries), logs: most(self.logs), epochs: most(self.epochs) }
    }

    /// Whether so much is within it.
    pub fn holds(&self, used: &Self) -> bool {
        used.bytes <= self.bytes && used.entries <= self.entries && used.logs <= self.logs && used.epochs <= self.epochs
    }
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { policy, history, quota, retention_days } = self;
        write!(f, "Terms({} bytes of policy, history {history:?}, {quota:?}, {retention_days:?} days)", policy.len())
    }
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
    /// What it is kept by, until a `policy` operation says otherwise.
    #[n(2)]
    pub terms: Terms,
    /// Random, known to members alone: by it they recognise each other.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub secret: [u8; 32],
    /// When it was founded, as the founder says.
    #[n(4)]
    pub founded: Time,
    /// The circle that it goes on for.
    #[n(5)]
    pub succeeds: Option<Succeeds>,
}

/// What a circle goes on for: the circle that it succeeds, and what its founder had seen of that one. Nothing of the
/// one is opened to whoever joins the other.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Succeeds {
    /// The circle.
    #[n(0)]
    pub circle: CircleId,
    /// Its control heads, sorted; none when nobody was added yet.
    #[n(1)]
    pub heads: Vec<Hash>,
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
    /// What it succeeds is not named as it must be.
    #[error("a charter names at most {} heads of the circle that it succeeds, sorted", limits::SUCCEEDED_HEADS)]
    Succeeds,
}

impl Charter {
    /// Reads a charter.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CharterRefusal> {
        let charter: Self = encoding::from_bytes(bytes, limits::CHARTER_BYTES)?;
        charter.check()?;
        Ok(charter)
    }

    /// Whether these bytes are a charter to which a later version appended something. Its id is the hash of all of them,
    /// and what is not known of it may be what its members rely on: so it is not joined, and nobody is blamed for it.
    pub fn is_of_later(bytes: &[u8]) -> bool {
        let beginning = encoding::beginning_from_bytes::<Self>(bytes, limits::CHARTER_BYTES);
        Self::from_bytes(bytes).is_err() && beginning.is_ok_and(|charter| charter.check().is_ok())
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
        let heads = self.succeeds.as_ref().map(|succeeds| succeeds.heads.as_slice()).unwrap_or_default();
        if heads.len() > limits::SUCCEEDED_HEADS || !heads.is_sorted() {
            return Err(CharterRefusal::Succeeds);
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
    /// A node of a partner becomes a steward; with that it belongs.
    #[n(2)]
    Appoint {
        /// The partner.
        #[n(0)]
        partner: PartnerId,
        /// The node.
        #[n(1)]
        node: MemberNode,
    },
    /// A node is no longer a steward; it goes on belonging.
    #[n(3)]
    Dismiss {
        /// The node.
        #[n(0)]
        node: PublicKey,
        /// How far into its control logs what it did still holds, as in a removal.
        #[n(1)]
        cut: Vec<CutLine>,
    },
    /// The circle is kept by other terms.
    #[n(4)]
    Policy {
        /// All of them.
        #[n(0)]
        terms: Terms,
    },
    /// What only a later version knows: it is part of the history, and does nothing here. It stands for any number
    /// that is not known; which one, the entry's bytes say.
    #[n(65535)]
    Later,
}

/// The highest number of an [`Act`] that is known here.
const LAST_ACT: u32 = 4;

impl Act {
    /// The partner and the nodes that it adds.
    pub fn adds(&self) -> Option<(&PartnerId, &[MemberNode])> {
        match self {
            Self::Add { partner, nodes } => Some((partner, nodes)),
            Self::Appoint { partner, node } => Some((partner, std::slice::from_ref(node))),
            Self::Remove { .. } | Self::Dismiss { .. } | Self::Policy { .. } | Self::Later => None,
        }
    }

    /// Its cut, if it ends what others may do.
    pub fn cut(&self) -> Option<&[CutLine]> {
        match self {
            Self::Remove { cut, .. } | Self::Dismiss { cut, .. } => Some(cut),
            Self::Add { .. } | Self::Appoint { .. } | Self::Policy { .. } | Self::Later => None,
        }
    }

    /// Whether it takes a node of a partner out of the circle.
    pub fn removes(&self, partner: &PartnerId, node: &PublicKey) -> bool {
        match self {
            Self::Remove { partner: removed, node: one, .. } => {
                removed == partner && one.is_none_or(|one| one == *node)
            }
            Self::Add { .. } | Self::Appoint { .. } | Self::Dismiss { .. } | Self::Policy { .. } | Self::Later => false,
        }
    }

    /// Whether it ends the stewardships of a node of a partner.
    fn unseats(&self, partner: &PartnerId, node: &PublicKey) -> bool {
        matches!(self, Self::Dismiss { node: dismissed, .. } if dismissed == node) || self.removes(partner, node)
    }
}

/// By what a node is a steward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Stewardship {
    /// Its place in the charter's list.
    #[n(0)]
    Charter(#[n(0)] u16),
    /// The `appoint` with this hash.
    #[n(1)]
    Appointed(#[n(0)] Hash),
}

/// The rank of a stewardship, fixed for life: its path from the charter. The smaller is the better: a steward stands
/// above those it appointed, and above those that worse ones appointed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The place in the charter's list from which it comes.
    pub place: u16,
    /// For each appointment on the way: how many operations it had seen, and its hash.
    path: Vec<(u32, Hash)>,
}

impl Rank {
    fn of_charter(place: u16) -> Self {
        Self { place, path: Vec::new() }
    }

    fn below(&self, seen: u32, appointment: Hash) -> Self {
        let mut path = self.path.clone();
        path.push((seen, appointment));
        Self { place: self.place, path }
    }

    /// How many appointments lie between the charter and it.
    pub fn depth(&self) -> usize {
        self.path.len()
    }
}

/// A control operation: the payload of an entry of suite 3.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Operation {
    /// The stewardship it acts under.
    #[n(0)]
    pub stewardship: Stewardship,
    /// The control heads its author had seen.
    #[n(1)]
    pub heads: Vec<Hash>,
    /// What it does.
    #[n(2)]
    pub act: Act,
}

impl Operation {
    /// Reads an operation from a payload. What a later version appended to it is passed over, and of an act that only
    /// a later version knows it is read by whom and on what it builds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        match encoding::beginning_from_bytes(bytes, limits::PAYLOAD_BYTES) {
            Err(refusal @ Refusal::Malformed(_)) => Self::of_later(bytes).ok_or(refusal),
            read => read,
        }
    }

    fn of_later(bytes: &[u8]) -> Option<Self> {
        let mut items = Decoder::new(bytes);
        let count = items.array().ok()?.filter(|count| *count >= 3)?;
        let (stewardship, heads) = (items.decode().ok()?, items.decode().ok()?);
        let mut act = items.probe();
        if act.array().ok()? != Some(2) || act.u32().ok()? <= LAST_ACT {
            return None;
        }
        (2..count).try_for_each(|_| items.skip()).ok()?;
        (items.position() == bytes.len()).then_some(Self { stewardship, heads, act: Act::Later })
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
    /// Each steward appoints the next, and the next.
    #[error("a steward appointed through {} others appoints nobody", limits::APPOINTMENTS)]
    TooDeep,
    /// It names heads that are not held yet. Not a fault: they may still come.
    #[error("an operation that builds on {0}, which has not arrived yet")]
    Missing(Hash),
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
    /// Its best stewardship that stands, if one does.
    pub steward: Option<(Rank, Stewardship)>,
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

    /// The stewards, best rank first, with the partner of each.
    pub fn stewards(&self) -> Vec<(&PublicKey, &Member)> {
        let mut stewards: Vec<_> = self.0.iter().filter(|(_, member)| member.steward.is_some()).collect();
        stewards.sort_by_key(|(_, member)| member.steward.as_ref());
        stewards
    }

    /// The partners that belong.
    pub fn partners(&self) -> BTreeSet<&PartnerId> {
        self.0.values().map(|member| &member.partner).collect()
    }
}
