//! Everything that enters the engine.

use std::collections::BTreeSet;

use cwn_crypto::{Hash, PartnerId, PublicKey, Time, certificate::Certificate, root::SignedRoot};

use crate::{
    circle::{Charter, MemberNode, Terms},
    epoch::SignedRecord,
    fork::ForkProof,
    log::{CircleId, EntryBytes, LogKey, Retracts},
    wire::{GivenKey, Nonce},
};

/// One connection with a peer; a later one with the same peer has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A run that this node asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullId(pub u64);

/// A run that a peer asked for: the stream it waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A command, and the sealing it may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// A write that was handed to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A certified peer is connected and its live stream is open.
    PeerUp {
        /// The peer.
        peer: PublicKey,
        /// This connection.
        session: SessionId,
        /// Whether this node dialled.
        dialled: bool,
        /// Fresh random bytes for this session.
        nonce: Nonce,
    },
    /// The connection ended.
    PeerDown {
        /// The peer.
        peer: PublicKey,
        /// The connection.
        session: SessionId,
    },
    /// A frame came on the live stream.
    Frame {
        /// From whom.
        peer: PublicKey,
        /// On which connection.
        session: SessionId,
        /// The frame's bytes.
        bytes: Vec<u8>,
    },
    /// A peer opened a stream and asks for a run.
    RunRequested {
        /// Who.
        peer: PublicKey,
        /// On which connection.
        session: SessionId,
        /// The stream to answer on.
        stream: StreamId,
        /// The request's bytes.
        bytes: Vec<u8>,
    },
    /// A frame of a run that this node asked for.
    RunFrame {
        /// Which run.
        pull: PullId,
        /// The frame's bytes.
        bytes: Vec<u8>,
    },
    /// The run ended; no frame of it follows.
    RunEnded {
        /// Which run.
        pull: PullId,
    },
    /// Frames to a peer were dropped because its queue was full, and there is room again.
    LiveDropped {
        /// The peer.
        peer: PublicKey,
        /// The connection.
        session: SessionId,
    },
    /// Everything of this ticket is durable.
    Stored {
        /// The ticket.
        ticket: Ticket,
    },
    /// Somebody wants something.
    Command {
        /// The reply carries it.
        id: CommandId,
        /// What.
        command: Command,
        /// Fresh random bytes; they become log ids.
        random: [u8; 32],
    },
    /// The payload of an append is sealed.
    Sealed {
        /// The command that appends.
        id: CommandId,
        /// The sealed payload.
        payload: Vec<u8>,
        /// Fresh random bytes.
        random: [u8; 32],
    },
    /// The payload of an append, or the epoch it needs, could not be sealed.
    NotSealed {
        /// The command that appends; none when it was an epoch.
        id: Option<CommandId>,
        /// The circle.
        circle: CircleId,
        /// Why.
        why: String,
    },
    /// A new epoch's key was drawn and wrapped.
    EpochSealed {
        /// The circle it is for.
        circle: CircleId,
        /// The hash of the key.
        commitment: Hash,
        /// The key, sealed to the set that was asked for.
        wrapped: Vec<u8>,
    },
    /// The key of an epoch turned out not to open. It counts where the epoch's set has this node; the record says what it
    /// says, and that never changes.
    Unopenable {
        /// The circle.
        circle: CircleId,
        /// The epoch.
        epoch: Hash,
    },
    /// The keys that a newcomer asked for, as far as they are known here, each sealed to it.
    KeysSealed {
        /// The newcomer.
        peer: PublicKey,
        /// On which connection.
        session: SessionId,
        /// The circle.
        circle: CircleId,
        /// Those keys.
        keys: Vec<GivenKey>,
    },
    /// Keys that a peer handed to this node were opened and held against what their makers committed to.
    KeysChecked {
        /// Who handed them over.
        peer: PublicKey,
        /// The circle.
        circle: CircleId,
        /// Those that are right.
        right: Vec<GivenKey>,
        /// The epochs of those that are not.
        wrong: Vec<Hash>,
    },
    /// A stored entry turned out not to be readable: its log is held up to there until peers have sent it again.
    Damaged {
        /// Its log.
        key: LogKey,
        /// Its place.
        seq: u64,
    },
    /// The record of an epoch turned out not to be readable: it is asked of members again.
    RecordDamaged {
        /// The circle.
        circle: CircleId,
        /// The epoch.
        epoch: Hash,
    },
    /// Entries that came otherwise than from a peer: an issuer's log from a file or from the desk.
    Import {
        /// The entries, every log in order.
        entries: Vec<EntryBytes>,
    },
    /// A connected peer was admitted with this certificate.
    Shown {
        /// What it says.
        certificate: Box<Certificate>,
    },
    /// Time passed.
    Tick,
}

/// Who an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everybody who counts in the circle.
    Circle,
    /// The nodes of these partners, and one's own partner's.
    Partners(Vec<PartnerId>),
}

/// An entry that was written earlier, and kept until it could be sealed.
#[derive(Debug, Clone)]
pub struct Kept {
    /// A fact that is to say which entry it became: the canonical bytes of its log, its place there and its hash.
    /// An entry that survives a crash is never without it; a fact whose entry is not held says nothing.
    pub fact: Vec<u8>,
    /// The nodes it was written for. When others could open it now, nothing is appended.
    pub readers: BTreeSet<PublicKey>,
}

/// What somebody wants of the engine.
#[derive(Debug, Clone)]
pub enum Command {
    /// Found a circle and add partners to it.
    Found {
        /// Its charter, this node the first steward.
        charter: Charter,
    },
    /// Add a partner's nodes to a circle.
    Add {
        /// The circle.
        circle: CircleId,
        /// The partner.
        partner: PartnerId,
        /// The nodes that shall count.
        nodes: Vec<MemberNode>,
    },
    /// Remove a partner, or one node of it; what is held of it now stays accepted.
    Remove {
        /// The circle.
        circle: CircleId,
        /// The partner.
        partner: PartnerId,
        /// One node of it.
        node: Option<PublicKey>,
    },
    /// Put another removal in the place of an earlier one, with a cut that leaves what is held here beyond that one's;
    /// or, if branches are named, just these.
    Raise {
        /// The circle.
        circle: CircleId,
        /// The earlier removal.
        removal: Hash,
        /// Branches of logs that the removed forked, each by the hash of its first entry.
        branches: Vec<Hash>,
    },
    /// Make a node of a partner a steward; with that it belongs.
    Appoint {
        /// The circle.
        circle: CircleId,
        /// The partner.
        partner: PartnerId,
        /// The node.
        node: MemberNode,
    },
    /// End a node's stewardship; it goes on belonging, and what it did so far stays.
    Dismiss {
        /// The circle.
        circle: CircleId,
        /// The node.
        node: PublicKey,
    },
    /// Keep a circle by other terms.
    Policy {
        /// The circle.
        circle: CircleId,
        /// All of them.
        terms: Terms,
    },
    /// Append an entry; its payload is asked for by `Output::Seal`.
    Append {
        /// The circle.
        circle: CircleId,
        /// Who can open it.
        audience: Audience,
        /// From when on the payload may be dropped.
        expiry: Option<Time>,
        /// Refuse while this node is not current in the circle.
        only_when_current: bool,
        /// Set for an entry that was written earlier and kept.
        kept: Option<Kept>,
        /// An entry of this node that it takes back.
        retracts: Option<Retracts>,
    },
    /// Append an entry to the network circle, in clear.
    Announce {
        /// The payload.
        payload: Vec<u8>,
    },
    /// Go on to later versions of the root document, which came as a file or with a connection.
    AdoptRoot {
        /// The versions, in their order; those that are held already are passed over.
        versions: Vec<SignedRoot>,
    },
    /// Join a circle that was offered.
    Accept {
        /// The circle.
        circle: CircleId,
    },
    /// Remember a fact of this node alone. Its name must not start as one of the engine's own does.
    Remember {
        /// Its name.
        key: Vec<u8>,
        /// Its value; empty takes it back.
        value: Vec<u8>,
    },
    /// Take a run of one log that was carried here by hand, with the epoch records it needs.
    CarryRun {
        /// The log.
        key: LogKey,
        /// Records of epochs that the entries name.
        records: Vec<SignedRecord>,
        /// The entries, in order.
        entries: Vec<EntryBytes>,
    },
    /// Take a circle's charter and operations that were carried here by hand. One that this node is not in is
    /// offered to it.
    CarryCircle {
        /// The charter.
        charter: Vec<u8>,
        /// Control entries, in whatever order.
        entries: Vec<EntryBytes>,
    },
    /// Take the proof of a fork that was carried here by hand.
    CarryFork {
        /// The circle of the log.
        circle: CircleId,
        /// The proof.
        proof: ForkProof,
    },
    /// Do not join it, and do not ask again.
    Decline {
        /// The circle.
        circle: CircleId,
    },
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryPlace {
    /// The log.
    pub key: LogKey,
    /// The place in it.
    pub seq: u64,
}
