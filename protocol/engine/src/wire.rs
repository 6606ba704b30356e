//! Bytes on the wire: frames of the live stream, and the request and frames of a run.
//!
//! A frame is a canonical CBOR array `[type, …]` of at most [`limits::FRAME_BYTES`]. Every frame about a
//! circle names it by its sender's tag, never by its id. A frame that does not decode ends the session: the
//! peer is broken. Of a peer that says it speaks a later version, frames of types that are not known here are passed
//! over, and so is what is appended to a frame; see `docs/compatibility.md`.

use std::ops::RangeInclusive;

use cwn_crypto::{
    Hash, PublicKey, Time,
    encoding::{self, Refusal},
    issuer_log::LogId,
    root::SignedRoot,
};
use minicbor::{Decode, Decoder, Encode};

use crate::{epoch::SignedRecord, fork::ForkProof, held::SignedStatement, limits, log::EntryBytes};

/// The version of the protocol that this engine speaks.
pub const VERSION: u16 = 1;

/// The earliest version that it still speaks with a peer that has no later one: that before [`VERSION`], once there is
/// one.
pub const LEAST_VERSION: u16 = 1;

/// The version that two nodes speak with each other: the lower of those they say, if both still speak that one. A node
/// judges for its own part; of a later peer it cannot know the least.
pub fn common_version(ours: RangeInclusive<u16>, theirs: u16) -> Option<u16> {
    let common = theirs.min(*ours.end());
    ours.contains(&common).then_some(common)
}

/// By this a member names a circle to another: derived from the circle's secret and both nonces of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Tag(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// Random bytes of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Nonce(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// The first eight bytes of a hash over the tips of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct BucketHash(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 8]);

/// How far a node durably holds one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct WireTip {
    /// The author.
    #[n(0)]
    pub author: PublicKey,
    /// The log.
    #[n(1)]
    pub log: LogId,
    /// Whether it must come before others.
    #[n(2)]
    pub first: bool,
    /// How many entries.
    #[n(3)]
    pub height: u64,
    /// The hash of the last; none when none is held.
    #[n(4)]
    pub head: Option<Hash>,
    /// Whether the author signed two entries for the next place, so that nothing more is held.
    #[n(5)]
    pub forked: bool,
}

/// The key of an epoch, handed to a node that was added after the epoch was made.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct GivenKey {
    /// The epoch.
    #[n(0)]
    pub epoch: Hash,
    /// The key, sealed to that node alone; at most [`limits::GIVEN_KEY_BYTES`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub wrapped: Vec<u8>,
}

impl std::fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GivenKey({}, {} bytes)", self.epoch, self.wrapped.len())
    }
}

/// Statements that are handed on to the same nodes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Bundle {
    /// For whom, besides the receiver, as far as the sender knows.
    #[n(0)]
    pub to: Vec<PublicKey>,
    /// How they came so far.
    #[n(1)]
    pub trail: Trail,
    /// The statements.
    #[n(2)]
    pub statements: Vec<SignedStatement>,
}

/// How a statement came to where it is, as far as that decides where it goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Trail {
    /// How often it may be handed on from here: at most [`limits::HANDED_ON`].
    #[n(0)]
    pub left: u8,
    /// Whether it left the ways that are known, and is looking for another.
    #[n(1)]
    pub astray: bool,
}

/// A statement that was looking for its way came to some whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Arrival {
    /// Who made it.
    #[n(0)]
    pub holder: PublicKey,
    /// About whose logs.
    #[n(1)]
    pub author: PublicKey,
    /// When.
    #[n(2)]
    pub time: Time,
    /// Who has it.
    #[n(3)]
    pub at: Vec<PublicKey>,
}

/// A frame of the live stream.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(flat)]
pub enum Frame {
    /// The first frame of a session, from both sides.
    #[n(0)]
    Hello {
        /// The sender's version.
        #[n(0)]
        version: u16,
        /// The sender's random bytes.
        #[n(1)]
        nonce: Nonce,
    },
    /// Circles that the sender counts the receiver in.
    #[n(1)]
    Offer {
        /// Each with the sender's tag and digest.
        #[n(0)]
        circles: Vec<(Tag, Hash)>,
    },
    /// The sender's present digest of a circle.
    #[n(2)]
    Digest {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The digest.
        #[n(1)]
        digest: Hash,
    },
    /// First level of a comparison: a hash for every bucket of authors that is not empty.
    #[n(3)]
    Buckets {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// Bucket numbers, the first byte of an author's key, with their hashes.
        #[n(1)]
        buckets: Vec<(u8, BucketHash)>,
    },
    /// Second level: what the sender holds in some buckets.
    #[n(4)]
    Tips {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The logs it holds in the buckets that differed.
        #[n(1)]
        tips: Vec<WireTip>,
        /// Whether no more frames of this answer follow.
        #[n(2)]
        last: bool,
    },
    /// A new entry, from its author.
    #[n(5)]
    Push {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The record of its epoch, when the receiver was not sent it in this session.
        #[n(1)]
        record: Option<SignedRecord>,
        /// The entry.
        #[n(2)]
        entry: EntryBytes,
    },
    /// Heights that the sender durably holds, and perhaps the receiver does not.
    #[n(6)]
    Have {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// Those logs.
        #[n(1)]
        tips: Vec<WireTip>,
    },
    /// To a node that counts in a circle and showed no tag for it.
    #[n(7)]
    Welcome {
        /// The charter.
        #[cbor(n(0), with = "minicbor::bytes")]
        charter: Vec<u8>,
        /// Control entries, every log from its start.
        #[n(1)]
        entries: Vec<EntryBytes>,
        /// Whether no more frames of this welcome follow.
        #[n(2)]
        last: bool,
    },
    /// What somebody holds.
    #[n(8)]
    Held {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The statement.
        #[n(1)]
        statement: SignedStatement,
    },
    /// What some hold, for some whom they are not connected with; and for the receiver, if it is for it to know.
    #[n(11)]
    HandOn {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The statements, at most [`limits::HANDED_AT_ONCE`].
        #[n(1)]
        bundles: Vec<Bundle>,
    },
    /// Statements that were looking for their way came to whom they are for: they need not be kept for those.
    #[n(18)]
    Arrived {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The statements, at most [`limits::HANDED_AT_ONCE`].
        #[n(1)]
        arrivals: Vec<Arrival>,
    },
    /// A newcomer asks for the keys of epochs from before it was added.
    #[n(12)]
    WantKeys {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The epochs, at most [`limits::KEYS_AT_ONCE`].
        #[n(1)]
        epochs: Vec<Hash>,
    },
    /// The answer: those of them that the sender has and may hand on.
    #[n(13)]
    Keys {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The keys.
        #[n(1)]
        keys: Vec<GivenKey>,
    },
    /// The sender lost records of epochs to damage on its disk, and asks for them again.
    #[n(19)]
    WantRecords {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The epochs, at most [`limits::RECORDS_AT_ONCE`].
        #[n(1)]
        epochs: Vec<Hash>,
    },
    /// The answer: those of them that the sender has, as many as fit into a frame.
    #[n(20)]
    Records {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The records.
        #[n(1)]
        records: Vec<SignedRecord>,
    },
    /// An author forked a log.
    #[n(10)]
    Fork {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The proof.
        #[n(1)]
        proof: ForkProof,
    },
    /// Operations behind the forks of control logs, which the sender holds beside those logs.
    #[n(17)]
    Branches {
        /// The circle.
        #[n(0)]
        tag: Tag,
        /// The operations, of any branches, each behind the one before it in its log.
        #[n(1)]
        entries: Vec<EntryBytes>,
        /// Whether what vouches for the last of them comes with the next such frame.
        #[n(2)]
        goes_on: bool,
    },
    /// Which version of the root document the sender holds. Not said of the first, which everybody has.
    #[n(9)]
    Root {
        /// The version.
        #[n(0)]
        held: u32,
        /// A version that the receiver lacks.
        #[n(1)]
        document: Option<SignedRoot>,
        /// The hash of the version that the sender holds, which shows whether the receiver holds the same one.
        #[n(2)]
        newest: Option<Hash>,
    },
}

impl Frame {
    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }

    /// Reads a frame.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        encoding::from_bytes(bytes, limits::FRAME_BYTES)
    }

    /// Reads a frame of a peer that may speak a later version; nothing when it is of a type that is not known here.
    pub fn from_later(bytes: &[u8]) -> Result<Option<Self>, Refusal> {
        let mut frame = Decoder::new(bytes);
        let kind = frame.array().and_then(|_items| frame.u32());
        let mut whole = Decoder::new(bytes);
        if bytes.len() <= limits::FRAME_BYTES
            && kind.is_ok_and(|kind| !TYPES.contains(&kind))
            && whole.skip().is_ok()
            && whole.position() == bytes.len()
        {
            return Ok(None);
        }
        encoding::beginning_from_bytes(bytes, limits::FRAME_BYTES).map(Some)
    }
}

/// The types of a [`Frame`] that this version knows.
const TYPES: [u32; 18] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 18, 19, 20];

/// What opens the stream of a run: the receiver asks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunRequest {
    /// The circle, by the asker's tag.
    #[n(0)]
    pub tag: Tag,
    /// The author.
    #[n(1)]
    pub author: PublicKey,
    /// The log.
    #[n(2)]
    pub log: LogId,
    /// The first entry wanted.
    #[n(3)]
    pub from: u64,
    /// The epoch of the last entry held, whose record need not come again.
    #[n(4)]
    pub epoch: Option<Hash>,
}

impl RunRequest {
    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }

    /// Reads a request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        encoding::beginning_from_bytes(bytes, limits::REQUEST_BYTES)
    }
}

/// A frame of a run: consecutive entries of one log, and the records they need that were not sent before.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct RunFrame {
    /// Records of epochs that the entries name.
    #[n(0)]
    pub records: Vec<SignedRecord>,
    /// The entries.
    #[n(1)]
    pub entries: Vec<EntryBytes>,
}

impl RunFrame {
    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }

    /// Reads a frame of a run.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        encoding::beginning_from_bytes(bytes, limits::FRAME_BYTES)
    }
}
