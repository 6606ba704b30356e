//! Entries and the logs they form: `Decoded → Authentic`, links and runs.
//!
//! A log holds the entries of one author in one circle from one start of its node. Each header carries the
//! hash of the one before, so that one signature proves all that came before it: an entry is **authentic**
//! iff its own signature holds or an authentic entry names its hash.
//!
//! This file refuses to know who may write where; that is [`crate::acceptance`].

use std::{cell::Cell, fmt};

use cwn_crypto::{
    Domain, Hash, PublicKey, Signature, SigningKey, Time,
    encoding::{self, hex, hex_decode},
    issuer_log::{CutLine, LogId},
};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::expire;
use crate::limits;
use crate::planted::{Bug, planted};

/// The id of a circle: the hash of its charter, or the network's id for the network circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct CircleId(#[n(0)] pub Hash);

impl fmt::Display for CircleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0.0, f)
    }
}

impl CircleId {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_decode(text).map(|bytes| Self(Hash(bytes)))
    }
}

/// Names one log among all logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogKey {
    /// The circle it is in.
    pub circle: CircleId,
    /// Who writes it.
    pub author: PublicKey,
    /// Which of that author's logs.
    pub log: LogId,
}

/// Names one log among those of a circle.
pub(crate) type LogName = (PublicKey, LogId);

/// How an entry's payload is protected, and which kind of log it may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// Sealed to an epoch of the circle.
    Epoch,
    /// Sealed to named recipients.
    Named,
    /// A control operation, in clear, in a control log.
    Control,
    /// The network circle, in clear.
    Network,
    /// Sealed in a way that only a later version knows. It is kept and handed on like what is sealed to others.
    Later(LaterSuite),
}

/// The number of a suite that is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaterSuite(u16);

impl Suite {
    /// The suite of this number; there is none with the number 0.
    pub fn of(number: u16) -> Option<Self> {
        Some(match number {
            0 => return None,
            1 => Self::Epoch,
            2 => Self::Named,
            3 => Self::Control,
            4 => Self::Network,
            later => Self::Later(LaterSuite(later)),
        })
    }

    fn number(self) -> u16 {
        match self {
            Self::Epoch => 1,
            Self::Named => 2,
            Self::Control => 3,
            Self::Network => 4,
            Self::Later(LaterSuite(number)) => number,
        }
    }
}

impl<C> Encode<C> for Suite {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.u16(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Suite {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::of(d.u16()?).ok_or_else(|| decode::Error::message("a suite of number 0"))
    }
}

/// What kind of log an entry stands in. A log keeps the kind of its first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogKind {
    /// Sealed entries of members.
    Content,
    /// Operations of stewards.
    Control,
    /// Entries of the network circle, issuers' logs among them.
    Network,
}

impl Suite {
    /// The kind of log an entry of this suite stands in.
    pub fn kind(self) -> LogKind {
        match self {
            Self::Epoch | Self::Named | Self::Later(_) => LogKind::Content,
            Self::Control => LogKind::Control,
            Self::Network => LogKind::Network,
        }
    }
}

/// By what right an author opened a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Under {
    /// The `add` that names the author: the hash of that operation's entry.
    #[n(0)]
    Add(#[n(0)] Hash),
    /// The charter, for the stewards listed there.
    #[n(1)]
    Charter,
    /// The certificate's entry in the issuer's log.
    #[n(2)]
    Certificate(#[n(0)] Hash),
    /// The root document's version that allows this issuer.
    #[n(3)]
    Root(#[n(0)] u32),
}

impl Under {
    /// The operation that it names.
    pub(crate) fn add(&self) -> Option<Hash> {
        match self {
            Self::Add(hash) => Some(*hash),
            Self::Charter | Self::Certificate(_) | Self::Root(_) => None,
        }
    }
}

/// What the first entry of a log says about the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Opening {
    /// By what right.
    #[n(0)]
    pub under: Under,
    /// The author's earlier logs in this circle that those do not cite already, each up to its head.
    #[n(1)]
    pub cites: Vec<CutLine>,
}

impl Opening {
    /// How many logs it counts for: others remember what it cites, be it invented.
    pub(crate) fn counts(&self) -> u64 {
        1 + (self.cites.len() / limits::CITED_LOGS_THAT_COUNT) as u64
    }
}

/// What an author signs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// How the payload is protected.
    #[n(0)]
    pub suite: Suite,
    /// The circle.
    #[n(1)]
    pub circle: CircleId,
    /// The author: a node, or an issuer in its own log.
    #[n(2)]
    pub author: PublicKey,
    /// Which of the author's logs.
    #[n(3)]
    pub log: LogId,
    /// The place in the log, from 0.
    #[n(4)]
    pub seq: u64,
    /// The hash of the header before; none in the first.
    #[n(5)]
    pub previous: Option<Hash>,
    /// When the author says it wrote this. For display only; it never goes back within a log.
    #[n(6)]
    pub time: Time,
    /// The hash of the epoch record whose key seals the payload; none outside suite 1.
    #[n(7)]
    pub epoch: Option<Hash>,
    /// SHA-256 of the sealed payload.
    #[n(8)]
    pub payload_hash: Hash,
    /// Its length in bytes.
    #[n(9)]
    pub payload_length: u32,
    /// From when on the payload may be dropped.
    #[n(10)]
    pub expiry: Option<Time>,
    /// In the first entry of a log, and there alone.
    #[n(11)]
    pub opening: Option<Opening>,
    /// An earlier entry of the same author in this circle that it takes back.
    #[n(12)]
    pub retracts: Option<Retracts>,
}

impl Header {
    /// Reads a header. What a later version appended to it is passed over: the hash and the signature are over all of
    /// its bytes, so that it is handed on and counted as its author wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, encoding::Refusal> {
        encoding::beginning_from_bytes(bytes, limits::HEADER_BYTES)
    }

    /// Whether a header of so many bytes may stand where this one does.
    pub(crate) fn fits_in(&self, bytes: usize) -> bool {
        self.opening.is_some() || bytes <= limits::PLAIN_HEADER_BYTES
    }
}

/// An entry that its author takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Retracts {
    /// Which of the author's logs.
    #[n(0)]
    pub log: LogId,
    /// The place in it.
    #[n(1)]
    pub seq: u64,
    /// The entry's hash: of a fork no other branch is meant.
    #[n(2)]
    pub hash: Hash,
}

/// The signed header of an entry that retracts another: it stands in the place of the payload that was erased, so
/// that nobody can withhold a payload which its author did not take back.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Retraction {
    /// The header.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub header: Vec<u8>,
    /// Its author's signature over it.
    #[n(1)]
    pub signature: Signature,
}

impl fmt::Debug for Retraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retraction({} bytes)", self.header.len())
    }
}

impl Retraction {
    /// Whether it takes back the entry with this header and hash.
    fn is_of(&self, entry: &Header, hash: Hash) -> bool {
        let Ok(header) = Header::from_bytes(&self.header) else { return false };
        let taken = Retracts { log: entry.log, seq: entry.seq, hash };
        let right = header.retracts == Some(taken) && header.author == entry.author && header.circle == entry.circle;
        right && header.author.verify(Domain::ENTRY, &self.header, &self.signature).is_ok()
    }
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Payload {
    /// What its author sealed.
    #[n(0)]
    Sealed(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Nothing any more: its author took it back.
    #[n(1)]
    Retracted(#[n(0)] Retraction),
    /// Nothing any more: it expired, or is older than the circle keeps it.
    #[n(2)]
    Dropped,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed(bytes) => write!(f, "Sealed({} bytes)", bytes.len()),
            Self::Retracted(_) => f.write_str("Retracted"),
            Self::Dropped => f.write_str("Dropped"),
        }
    }
}

impl Payload {
    /// What its author sealed, if that is still there.
    pub fn sealed(&self) -> Option<&[u8]> {
        match self {
            Self::Sealed(bytes) => Some(bytes),
            Self::Retracted(_) | Self::Dropped => None,
        }
    }

    /// How many bytes it takes.
    #[allow(clippy::len_without_is_empty, reason = "whether it is empty says nothing")]
    pub fn len(&self) -> usize {
        match self {
            Self::Sealed(bytes) => bytes.len(),
            Self::Retracted(retraction) => retraction.header.len() + 64,
            Self::Dropped => 0,
        }
    }
}

/// An entry as it travels and as it lies on disk: exact bytes, nothing yet believed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct EntryBytes {
    /// The canonical header.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub header: Vec<u8>,
    /// The author's signature over it.
    #[n(1)]
    pub signature: Signature,
    /// What it carries.
    #[n(2)]
    pub payload: Payload,
}

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryBytes({} + {} bytes)", self.header.len(), self.payload.len())
    }
}

impl EntryBytes {
    /// About how many bytes it takes in memory and on the wire, however little is in it.
    pub fn length(&self) -> usize {
        size_of::<Self>() + self.header.len() + self.payload.len()
    }
}

/// Why bytes are not an entry. All of these mean: whoever made them is broken or hostile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryRefusal {
    /// The header is not a canonical header.
    #[error("the header of an entry is {0}")]
    Header(#[from] encoding::Refusal),
    /// Its header is longer than one that opens no log may be.
    #[error("the header of entry {seq} has {length} bytes, where at most {} are allowed", limits::PLAIN_HEADER_BYTES)]
    HeaderTooLong {
        /// The entry's place.
        seq: u64,
        /// The header's length.
        length: usize,
    },
    /// The payload is longer than an entry may carry.
    #[error("an entry's payload of {length} bytes, where at most {limit} are allowed; send it as an attachment")]
    PayloadTooLong {
        /// Its length.
        length: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The payload is not what the header says.
    #[error("the payload of entry {seq} does not match its header; it was altered on the way")]
    PayloadMismatch {
        /// The entry's place.
        seq: u64,
    },
    /// The payload is missing, and what stands in its place does not show that its author took it back.
    #[error("entry {seq} comes without its payload, which its author did not take back")]
    NotRetracted {
        /// The entry's place.
        seq: u64,
    },
    /// The payload is missing, and time drops none of its kind.
    #[error("entry {seq} comes without its payload, which is of a kind that is never dropped")]
    NeverDropped {
        /// The entry's place.
        seq: u64,
    },
    /// Parts of the header contradict each other.
    #[error("entry {seq} contradicts itself: {what}")]
    Contradiction {
        /// The entry's place.
        seq: u64,
        /// What does not fit.
        what: &'static str,
    },
}

/// Whether the author's own signature holds, once somebody looked. What was looked at is no part of what an entry is.
#[derive(Debug, Clone, Default)]
struct Looked(Cell<Option<bool>>);

impl PartialEq for Looked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Looked {}

/// An entry that is well-formed; nobody has yet shown that its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    header: Header,
    hash: Hash,
    bytes: EntryBytes,
    /// What waits, be it a run for a later head or an operation for what it builds on, is not looked at anew.
    signed: Looked,
    /// Its author signed what follows it, which is not here: the proof of a fork shows so.
    vouched: bool,
}

impl Decoded {
    /// Those of these entries that are any.
    pub(crate) fn decode_all(entries: Vec<EntryBytes>) -> Vec<Self> {
        entries.into_iter().filter_map(|bytes| Self::decode(bytes).ok()).collect()
    }

    /// Checks form, lengths, the payload's hash and that the header does not contradict itself.
    pub fn decode(bytes: EntryBytes) -> Result<Self, EntryRefusal> {
        let header = Header::from_bytes(&bytes.header)?;
        let seq = header.seq;
        if !header.fits_in(bytes.header.len()) {
            return Err(EntryRefusal::HeaderTooLong { seq, length: bytes.header.len() });
        }
        let hash = Hash::of(Domain::ENTRY, &[&bytes.header]);
        match &bytes.payload {
            Payload::Sealed(payload) if payload.len() > limits::PAYLOAD_BYTES => {
                return Err(EntryRefusal::PayloadTooLong { length: payload.len(), limit: limits::PAYLOAD_BYTES });
            }
            Payload::Sealed(payload) => {
                if usize::try_from(header.payload_length) != Ok(payload.len())
                    || Hash::of(Domain::PAYLOAD, &[payload]) != header.payload_hash
                {
                    return Err(EntryRefusal::PayloadMismatch { seq });
                }
            }
            Payload::Retracted(retraction) => {
                if header.suite.kind() != LogKind::Content || !retraction.is_of(&header, hash) {
                    return Err(EntryRefusal::NotRetracted { seq });
                }
            }
            Payload::Dropped if !expire::ages(&header) => return Err(EntryRefusal::NeverDropped { seq }),
            Payload::Dropped => {}
        }
        let contradiction = |what| Err(EntryRefusal::Contradiction { seq, what });
        if (seq == 0) == header.previous.is_some() {
            return contradiction("the first entry of a log names no previous one, every other does");
        }
        if (seq == 0) != header.opening.is_some() {
            return contradiction("the first entry of a log opens it, no other does");
        }
        let is_later = matches!(header.suite, Suite::Later(_));
        if (header.suite == Suite::Epoch) != header.epoch.is_some() && !is_later {
            return contradiction("an entry names an epoch exactly when it is sealed to one");
        }
        if header.opening.as_ref().is_some_and(|opening| opening.cites.len() > limits::CITED_LOGS) {
            return contradiction("it cites more logs than one opening may");
        }
        if header.retracts.is_some() && header.suite.kind() != LogKind::Content {
            return contradiction("it takes back an entry, which only a member's own entries can be");
        }
        Ok(Self { header, hash, bytes, signed: Looked::default(), vouched: false })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The hash that the next entry must name.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Which log it is in.
    pub fn key(&self) -> LogKey {
        let Header { circle, author, log, .. } = self.header;
        LogKey { circle, author, log }
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &EntryBytes {
        &self.bytes
    }

    /// The exact bytes, and nothing else any more.
    pub(crate) fn into_bytes(self) -> EntryBytes {
        self.bytes
    }

    /// About how many bytes it takes in memory and on the wire.
    pub fn length(&self) -> usize {
        self.bytes.length()
    }

    /// The proof of a fork shows that its author signed what follows it.
    pub(crate) fn vouch(&mut self) {
        self.vouched = true;
    }

    /// Whether the author's own signature on this very entry holds.
    pub(crate) fn signature_holds(&self) -> bool {
        let holds = self.signed.0.get().unwrap_or_else(|| {
            self.header.author.verify(Domain::ENTRY, &self.bytes.header, &self.bytes.signature).is_ok()
        });
        self.signed.0.set(Some(holds));
        holds
    }
}

/// An entry of which it is shown that its author wrote it. Only [`authenticate`] and [`Writer`] make one, and
/// `Stored::mended` of one that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentic(Decoded);

impl Authentic {
    /// What the header says.
    pub fn header(&self) -> &Header {
        self.0.header()
    }

    /// The hash that the next entry must name.
    pub fn hash(&self) -> Hash {
        self.0.hash()
    }

    /// Which log it is in.
    pub fn key(&self) -> LogKey {
        self.0.key()
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &EntryBytes {
        &self.0.bytes
    }

    /// Whether the author's own signature on this very entry holds.
    pub(crate) fn is_signed(&self) -> bool {
        self.0.signature_holds()
    }

    /// Whether nothing behind it is needed to show that its author wrote it.
    pub(crate) fn stands_alone(&self) -> bool {
        self.0.vouched || self.is_signed()
    }
}

/// An entry read back from the store, which holds nothing that was not authentic when it was stored; the
/// store's checksums stand for the rest.
#[derive(Debug, Clone)]
pub struct Stored(Decoded);

impl Stored {
    /// Reads what [`crate::store::Read`] gave back. Damage on the disk that slipped past the store's
    /// checksums shows here as a refusal.
    pub fn read(bytes: EntryBytes) -> Result<Self, EntryRefusal> {
        Decoded::decode(bytes).map(Self)
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        self.0.header()
    }

    /// The log that it stands in, and its place there.
    pub(crate) fn place(&self) -> (LogKey, u64) {
        let Header { circle, author, log, seq, .. } = *self.header();
        (LogKey { circle, author, log }, seq)
    }

    /// The hash that the next entry must name.
    pub fn hash(&self) -> Hash {
        self.0.hash()
    }

    /// The sealed payload, unless its author took it back or time dropped it.
    pub fn payload(&self) -> Option<&[u8]> {
        self.0.bytes.payload.sealed()
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &EntryBytes {
        &self.0.bytes
    }

    /// Whether the author's own signature on this very entry holds.
    pub(crate) fn is_signed(&self) -> bool {
        self.0.signature_holds()
    }

    /// This entry with what it is held without and a peer sent: the payload, where a retraction stands in its place, or
    /// its author's own signature. None when it is no more than what is held.
    pub(crate) fn mended(&self, sent: &EntryBytes) -> Option<Authentic> {
        let held = self.bytes();
        if sent.header != held.header {
            return None;
        }
        let gives_payload = held.payload.sealed().is_none() && sent.payload.sealed().is_some();
        let payload = if gives_payload { &sent.payload } else { &held.payload }.clone();
        let signed = Decoded::decode(EntryBytes { payload, ..sent.clone() }).ok()?;
        let gives_signature = !self.is_signed() && signed.signature_holds();
        let mended = match gives_signature {
            true => signed,
            false => Decoded::decode(EntryBytes { signature: held.signature, ..signed.bytes }).ok()?,
        };
        (gives_payload || gives_signature).then_some(Authentic(mended))
    }
}

/// What a run continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing: the run starts the log.
    Start,
    /// An entry that is held and authentic.
    After {
        /// How many entries are held.
        height: u64,
        /// The hash of the last of them.
        head: Hash,
        /// Its claimed time.
        time: Time,
        /// The kind of the log.
        kind: LogKind,
        /// How many of the last of them are not signed themselves: another is not held any more, or not yet, that was.
        unsigned: usize,
    },
}

/// Why a run cannot be part of the log it claims to continue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    /// It starts further on than the log is held.
    #[error("a run that starts at {found} where {expected} comes next; the entries between are missing")]
    Gap {
        /// Where it starts.
        found: u64,
        /// What comes next.
        expected: u64,
    },
    /// Another branch of a log: its author signed two entries for one place.
    #[error("the author signed two entries for place {seq} of one log")]
    Forked {
        /// The place.
        seq: u64,
    },
    /// An entry does not name the one before it, and nothing in the run shows that its author signed it so: an alteration,
    /// or the beginning of a fork.
    #[error("entry {seq} does not follow the one held before it; it was altered on the way, or its author wrote two")]
    BrokenLink {
        /// The first entry that does not follow.
        seq: u64,
    },
    /// Entries of several logs, or of several kinds, in one run.
    #[error("entry {seq} belongs to another log than the run it came in")]
    Mixed {
        /// The first entry out of place.
        seq: u64,
    },
    /// Too many entries in a row that their author did not sign.
    #[error("entries up to {seq} are not signed by their author, more than {} in a row", limits::UNSIGNED_ENTRIES)]
    Unsigned {
        /// The last of them.
        seq: u64,
    },
    /// A claimed time that goes back.
    #[error("entry {seq} claims to be older than the one before it")]
    TimeGoesBack {
        /// The entry.
        seq: u64,
    },
}

/// What [`authenticate`] made of a run.
#[derive(Debug, Default)]
pub struct Authenticated {
    /// Entries that are proven.
    pub proven: Vec<Authentic>,
    /// Those after them, whose own signatures do not hold and that nothing yet vouches for. A later head can:
    /// ask for one, and do not blame the bearer.
    pub undecided: Vec<Decoded>,
    /// Why what comes after the proven ones never will be.
    pub refused: Option<RunRefusal>,
}

/// Takes a run of consecutive entries that continue `link`: every hash link is checked, and the last
/// signature that holds vouches for all before it; where the log forks, those of the branches do.
pub fn authenticate(run: Vec<Decoded>, link: Link) -> Result<Authenticated, RunRefusal> {
    let Some(key) = run.first().map(Decoded::key) else { return Ok(Authenticated::default()) };
    let (mut next, mut previous, mut time, mut kind, before) = match link {
        Link::Start => (0, None, Time(0), None, 0),
        Link::After { height, head, time, kind, unsigned } => (height, Some(head), time, Some(kind), unsigned),
    };
    for (index, entry) in run.iter().enumerate() {
        let header = entry.header();
        let seq = header.seq;
        if entry.key() != key || kind.is_some_and(|kind| kind != header.suite.kind()) {
            return Err(RunRefusal::Mixed { seq });
        }
        if seq != next {
            return Err(RunRefusal::Gap { found: seq, expected: next });
        }
        if header.previous != previous && !planted(Bug::SkipHashLink) {
            let signed = index == 0 && is_vouched_for(&run);
            return Err(if signed { RunRefusal::Forked { seq } } else { RunRefusal::BrokenLink { seq } });
        }
        if header.time < time {
            return Err(RunRefusal::TimeGoesBack { seq });
        }
        (next, previous, time, kind) = (seq + 1, Some(entry.hash()), header.time, Some(header.suite.kind()));
    }
    let vouched = vouched_for(&run, before);
    let proven_count = match vouched.proven {
        _ if planted(Bug::SkipSignature) => run.len(),
        _ if planted(Bug::TrustFirstSignature) && run[0].signature_holds() => run.len(),
        1.. if planted(Bug::OneSignatureForTheBatch) => run.len(),
        count => {
            let unsigned = if count == 0 { before } else { 0 };
            let most = count + limits::UNSIGNED_ENTRIES.saturating_sub(unsigned);
            let by_fork = run.iter().rposition(|entry| entry.vouched).map_or(0, |index| index + 1);
            if by_fork <= most { count.max(by_fork) } else { count }
        }
    };
    let mut proven = run;
    let mut undecided = proven.split_off(proven_count);
    undecided.iter().for_each(|entry| entry.signed.0.set(Some(false)));
    let last = undecided.last().map(|entry| entry.header().seq);
    let in_a_row = undecided.len() + if proven.is_empty() { before } else { 0 };
    let refused = last.filter(|_| vouched.broken || in_a_row > limits::UNSIGNED_ENTRIES);
    let refused = refused.map(|seq| RunRefusal::Unsigned { seq });
    if refused.is_some() {
        undecided.clear();
    }
    Ok(Authenticated { proven: proven.into_iter().map(Authentic).collect(), undecided, refused })
}

/// How many entries of a run are vouched for, and whether a later one is signed all the same, behind too many that
/// are not: that is so for everybody, in however many pieces the run comes.
struct Vouched {
    proven: usize,
    broken: bool,
}

/// From the end, because all but hostile runs end at the first look: a signature for every
/// [`limits::UNSIGNED_ENTRIES`] entries. So many that are not signed themselves stand before the run.
fn vouched_for(run: &[Decoded], before: usize) -> Vouched {
    let mut proven = 0;
    let mut broken = false;
    let mut end = run.len();
    while let Some(last) = run[..end].iter().rposition(Decoded::signature_holds) {
        if proven == 0 {
            proven = last + 1;
        }
        if before + last <= limits::UNSIGNED_ENTRIES {
            break;
        }
        // The one that is furthest back of those behind which it may stand.
        let window = last.saturating_sub(limits::UNSIGNED_ENTRIES + 1)..last;
        match window.clone().find(|index| run[*index].signature_holds()) {
            Some(index) => end = index + 1,
            None => (proven, broken, end) = (0, true, window.start),
        }
    }
    Vouched { proven, broken }
}

/// Whether the author vouches for a run's first entry: by its own signature, or by that of one that follows it.
fn is_vouched_for(run: &[Decoded]) -> bool {
    let follows = |pair: &&[Decoded]| {
        pair[1].header.previous == Some(pair[0].hash) && pair[1].header.author == pair[0].header.author
    };
    let chained = 1 + run.windows(2).take_while(follows).count();
    run[..chained.min(run.len())].iter().rev().any(Decoded::signature_holds)
}

/// Writes one log. A log belongs to one start of one node, so a writer is made with a fresh random id and is
/// never restored: that is why neither a backup nor a crash makes an honest node fork.
#[derive(Debug)]
pub struct Writer {
    key: LogKey,
    signing: SigningKey,
    opening: Option<Opening>,
    height: u64,
    head: Option<Hash>,
    time: Time,
}

/// What to append, already sealed.
#[derive(Debug)]
pub struct Draft {
    /// How the payload is protected.
    pub suite: Suite,
    /// The epoch record's hash, in suite 1.
    pub epoch: Option<Hash>,
    /// The sealed payload.
    pub payload: Vec<u8>,
    /// From when on the payload may be dropped.
    pub expiry: Option<Time>,
    /// The entry of this author that it takes back.
    pub retracts: Option<Retracts>,
}

impl Writer {
    /// A writer of a log that does not exist yet.
    pub fn open(circle: CircleId, signing: SigningKey, log: LogId, opening: Opening) -> Self {
        let key = LogKey { circle, author: signing.public(), log };
        Self { key, signing, opening: Some(opening), height: 0, head: None, time: Time(0) }
    }

    /// The log it writes.
    pub fn key(&self) -> LogKey {
        self.key
    }

    /// How many entries it wrote.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Writes and signs the next entry. When the clock went back, the claimed time stands still instead.
    ///
    /// The payload must fit: our own code asks [`limits::PAYLOAD_BYTES`] before it seals.
    pub fn append(&mut self, now: Time, draft: Draft) -> Authentic {
        let Draft { suite, epoch, payload, expiry, retracts } = draft;
        assert!(payload.len() <= limits::PAYLOAD_BYTES, "a payload is checked before it is sealed");
        self.time = self.time.max(now);
        let header = Header {
            suite,
            circle: self.key.circle,
            author: self.key.author,
            log: self.key.log,
            seq: self.height,
            previous: self.head,
            time: self.time,
            epoch,
            payload_hash: Hash::of(Domain::PAYLOAD, &[&payload]),
            payload_length: payload.len() as u32,
            expiry,
            opening: self.opening.take(),
            retracts,
        };
        let header_bytes = encoding::to_bytes(&header);
        let signature = self.signing.sign(Domain::ENTRY, &header_bytes);
        let hash = Hash::of(Domain::ENTRY, &[&header_bytes]);
        self.height += 1;
        self.head = Some(hash);
        Authentic(Decoded {
            header,
            hash,
            bytes: EntryBytes { header: header_bytes, signature, payload: Payload::Sealed(payload) },
            signed: Looked(Cell::new(Some(true))),
            vouched: false,
        })
    }
}
