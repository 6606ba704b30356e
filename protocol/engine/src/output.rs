//! Everything that leaves the engine. What depends on a write leaves only after the store has answered it.

use cwn_crypto::{Hash, PartnerId, PublicKey, seal::Recipient};

use crate::{
    input::{CommandId, EntryPlace, PullId, SessionId, StreamId, Ticket},
    log::{CircleId, EntryBytes, LogKey},
    root::Alarm,
    store::Write,
    wire::GivenKey,
};

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Send a frame on a peer's live stream.
    Send {
        /// To whom.
        peer: PublicKey,
        /// On which connection; drop it when that is gone.
        session: SessionId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Ask a peer for a run, on a stream of its own.
    Pull {
        /// Whom.
        peer: PublicKey,
        /// On which connection.
        session: SessionId,
        /// Its frames come back under this number.
        pull: PullId,
        /// The request.
        bytes: Vec<u8>,
    },
    /// Stop reading a run.
    CancelPull {
        /// Which.
        pull: PullId,
    },
    /// Answer a run: stream these entries from the store, and before the first that names an epoch its record.
    SendRun {
        /// The stream that waits.
        stream: StreamId,
        /// The log.
        key: LogKey,
        /// The first entry.
        from: u64,
        /// One past the last.
        to: u64,
        /// An epoch whose record the asker has.
        epoch: Option<Hash>,
    },
    /// Do not answer a run: close the stream.
    RefuseRun {
        /// The stream.
        stream: StreamId,
    },
    /// Make these durable, in this order, then say `Stored`.
    Store {
        /// Names the write.
        ticket: Ticket,
        /// What to write.
        writes: Vec<Write>,
    },
    /// End the connection with a peer that does not keep to the protocol.
    Disconnect {
        /// The peer.
        peer: PublicKey,
        /// The connection.
        session: SessionId,
        /// Why, for the log.
        reason: String,
    },
    /// Seal the payload of an append, then say `Sealed`.
    Seal {
        /// The command that appends.
        id: CommandId,
        /// The circle, which stands inside the payload too.
        circle: CircleId,
        /// To whom.
        target: SealTarget,
    },
    /// Draw a new epoch key, wrap it to these, then say `EpochSealed`.
    MakeEpoch {
        /// The circle.
        circle: CircleId,
        /// The set.
        recipients: Vec<Recipient>,
    },
    /// Seal the keys of these epochs, as far as this node has them, to a node that was added later, each by itself; then
    /// say `KeysSealed`.
    SealKeys {
        /// The newcomer.
        peer: PublicKey,
        /// On which connection.
        session: SessionId,
        /// The circle.
        circle: CircleId,
        /// What its operations say is the newcomer's sealing key.
        recipient: Recipient,
        /// The epochs.
        epochs: Vec<Hash>,
    },
    /// Open these keys, which a peer handed to this node, hold each against the commitment in its epoch's record, then
    /// say `KeysChecked`.
    CheckKeys {
        /// Who handed them over.
        peer: PublicKey,
        /// The circle.
        circle: CircleId,
        /// The keys.
        keys: Vec<GivenKey>,
    },
    /// The keys of these older epochs are durable here, under [`crate::sync::given_key`]: what was closed opens.
    Given {
        /// The circle.
        circle: CircleId,
        /// The epochs.
        epochs: Vec<Hash>,
    },
    /// How far a log is accepted and durable now; it may have become less.
    Accepted {
        /// The log.
        key: LogKey,
        /// So many entries.
        height: u64,
    },
    /// An entry was taken back by its author, or that was put aside: whatever shows it hides it, or shows it again.
    Retracted {
        /// Its log.
        key: LogKey,
        /// Its place.
        seq: u64,
        /// Its hash; an entry with another hash at that place is not meant.
        hash: Hash,
        /// Whether it is taken back now.
        retracted: bool,
    },
    /// Payloads of a log were dropped by time, and are gone from the store: whatever shows them says so from now on.
    Dropped {
        /// The log.
        key: LogKey,
        /// The places; none when this only says how many there were before the start.
        seqs: Vec<u64>,
        /// How many of this log were dropped so far, these among them. Whoever counted fewer looks at all of it anew.
        total: u64,
    },
    /// The answer to a command.
    Reply {
        /// The command.
        id: CommandId,
        /// What became of it.
        reply: Result<Reply, CommandRefusal>,
    },
    /// Something happened that a person or the node should know.
    Emit(Event),
}

/// What a payload is sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealTarget {
    /// The key of an epoch, whose record is durable.
    Epoch(Hash),
    /// Named nodes.
    Recipients(Vec<Recipient>),
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The circle is founded.
    Founded(CircleId),
    /// The entry is durable here, at this place.
    Appended {
        /// Where.
        place: EntryPlace,
        /// Its hash.
        hash: Hash,
    },
    /// What became of a run that was carried here.
    Carried(Carried),
    /// What became of a circle's operations that were carried here.
    CarriedCircle {
        /// The circle.
        circle: CircleId,
        /// What became of them.
        outcome: CarriedCircle,
    },
    /// It is done.
    Done,
}

/// What became of a run that was carried here. What was taken is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// So many of its entries are new here.
    pub taken: u64,
    /// So many entries of the log are held now.
    pub height: u64,
    /// Why the rest was not taken, if there is one.
    pub rest: Option<Rest>,
}

/// Why a part of a carried run was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// It may be taken once something else has come.
    Waits(String),
    /// No signature vouches for these yet; a later entry of the log may: they are to be carried once more, before
    /// what follows them.
    Unvouched(Vec<EntryBytes>),
    /// It can never be part of the circle.
    Refused(String),
}

/// What became of a circle's operations that were carried here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarriedCircle {
    /// This node is in the circle.
    Known {
        /// So many of them are new here.
        taken: u64,
        /// So many of them were not taken: they build on what is not here, or can be no part of the circle.
        left: u64,
    },
    /// The circle is offered to this node.
    Offered,
    /// This node joined it, as its rule says.
    Joined,
    /// This node declined it before.
    Declined,
    /// By these operations this node does not belong to it.
    NotNamed,
    /// As many offers that were carried here wait as may.
    TooManyOffers,
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// No such circle here.
    #[error("this node is in no such circle; `cwn circle list` shows those it is in")]
    UnknownCircle,
    /// No such offer here.
    #[error("no such circle was offered to this node; `cwn circle list` shows what is offered")]
    UnknownOffer,
    /// What was carried here proves no fork of a log of the circle.
    #[error("it does not prove that a log of the circle forks; it was altered, or is of another circle")]
    NoFork,
    /// Only stewards do this.
    #[error("this node is no steward of the circle; ask one of {}", .stewards.join(", "))]
    NotASteward {
        /// Who is.
        stewards: Vec<String>,
    },
    /// This node was removed.
    #[error("this node no longer belongs to the circle; ask a steward to add it again")]
    NotAMember,
    /// The partner is in it already, with these nodes.
    #[error("{partner} already belongs to the circle with these nodes")]
    AlreadyMember {
        /// The partner.
        partner: PartnerId,
    },
    /// The partner is not in it.
    #[error("{partner} does not belong to the circle")]
    NotMember {
        /// The partner.
        partner: PartnerId,
    },
    /// There is nothing to raise a cut to.
    #[error("nothing is held here beyond the cut of that removal; `cwn circle show` says what is")]
    NothingWithheld,
    /// A branch is not held here, or the removal does not govern its log.
    #[error(
        "no branch that begins with {branch} is held here of what that removal put aside; `cwn circle show` says which are"
    )]
    NoSuchBranch {
        /// How it was named.
        branch: Hash,
    },
    /// Another removal would remove it again.
    #[error("{partner} belongs to the circle again, and raising the cut of its removal would remove it once more")]
    BelongsAgain {
        /// The partner.
        partner: PartnerId,
    },
    /// Only one's own entries, in the same circle, that are held.
    #[error("only an entry that this node itself wrote in this circle can be taken back")]
    NotOwn,
    /// It is one already.
    #[error("that node of {partner} is a steward of the circle already")]
    AlreadySteward {
        /// The partner.
        partner: PartnerId,
    },
    /// Others would not take more of this node.
    #[error(
        "this node has written as much in the circle as its quota lets others take; a steward can raise that with `cwn circle policy`"
    )]
    QuotaReached,
    /// Nobody can end what is not there.
    #[error("node {node} is no steward of the circle; `cwn circle show` lists them")]
    NoSteward {
        /// The node.
        node: PublicKey,
    },
    /// Each steward appoints the next, and the next.
    #[error(
        "a steward appointed through {} others appoints nobody; ask a steward that stands nearer to the charter",
        crate::limits::APPOINTMENTS
    )]
    TooDeep,
    /// A steward of equal or better rank.
    #[error("{partner} holds a stewardship of equal or better rank in this circle, which you cannot end")]
    BetterRank {
        /// The partner.
        partner: PartnerId,
    },
    /// The node has not yet heard from enough members since its start.
    #[error("not yet current in this circle: no word since this node's start from {}; wait, or see `cwn peers`", .missing.join(", "))]
    NotCurrent {
        /// Partners that were not heard.
        missing: Vec<String>,
    },
    /// More can read it now than those it was written for.
    #[error(
        "{} can read what is sealed in this circle now, and could not when this was written; look at it with `cwn drafts show`",
        .partners.join(", ")
    )]
    NewReaders {
        /// The partners of the nodes that came since.
        partners: Vec<String>,
    },
    /// The charter cannot found a circle.
    #[error(transparent)]
    Charter(#[from] crate::circle::CharterRefusal),
    /// It is too long to be one entry.
    #[error("{length} bytes sealed, where an entry carries at most {limit}; attach the rest as a file")]
    TooLong {
        /// How long.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Sealing failed.
    #[error("it could not be sealed: {why}")]
    NotSealed {
        /// Why.
        why: String,
    },
    /// The root document cannot be adopted.
    #[error(transparent)]
    Root(#[from] cwn_crypto::root::Refusal),
    /// It is in this form or another already.
    #[error("this node is already in that circle")]
    AlreadyJoined,
    /// The list is longer than an operation may carry.
    #[error("at most {limit} nodes in one go; add the partner in parts")]
    TooMany {
        /// The most.
        limit: usize,
    },
}

/// What a person or the node should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Members offer this node a circle it belongs to.
    Offered {
        /// The circle.
        circle: CircleId,
    },
    /// A circle was joined.
    Joined {
        /// The circle.
        circle: CircleId,
    },
    /// Who belongs to a circle changed.
    MembershipChanged {
        /// The circle; the network's for certificates and revocations.
        circle: CircleId,
    },
    /// A signature of this node stands on something it did not write: the key is in use elsewhere, or the
    /// data was restored from a backup.
    OwnKeyElsewhere {
        /// The circle.
        circle: CircleId,
    },
    /// An author signed two entries for one place.
    Fork {
        /// The log.
        key: LogKey,
        /// The place.
        seq: u64,
    },
    /// Something came that can never be part of a circle.
    Refused {
        /// From whom.
        peer: PublicKey,
        /// The circle.
        circle: CircleId,
        /// Why.
        reason: String,
    },
    /// Sealed payloads of a circle are gone from this node's store for good.
    Erased {
        /// The circle.
        circle: CircleId,
    },
    /// The root document went on to another version, which is durable here.
    RootAdvanced {
        /// The version.
        version: u32,
    },
    /// Something shows that a key of the network's trust is in the wrong hands, or that somebody made a mistake.
    Alarm(Alarm),
    /// A retraction is due, and its signature was altered on the way here. What it takes back is hidden, and erased
    /// once a peer sent the retraction as its author signed it.
    RetractionUnsigned {
        /// Its log.
        key: LogKey,
        /// Its place.
        seq: u64,
    },
    /// Stored data cannot be read back.
    Damaged {
        /// What and why.
        what: String,
    },
}
