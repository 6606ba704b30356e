//! What is inside a sealed entry, whatever its kind.
//!
//! Author and circle stand inside again, so that nobody re-signs another's ciphertext as his own: whoever
//! cannot read it cannot put his own name there. A kind of a later version is kept, and shown as such.

use std::fmt;

use cwn_crypto::{PartnerId, PublicKey, encoding};
use cwn_engine::{limits, log::CircleId};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::{
    marking::{Pap, Tlp},
    text,
};

/// Bytes of a kind's name.
pub const KIND_BYTES: usize = 64;
/// Partners that one entry names.
pub const ADDRESSEES: usize = 256;
/// Attachments of one entry.
pub const ATTACHMENTS: usize = 16;
/// Characters of an attachment's name.
pub const NAME_CHARS: usize = 255;

/// What is inside a sealed entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Payload {
    /// What the body is.
    #[n(0)]
    pub kind: String,
    /// How far it may go.
    #[n(1)]
    pub tlp: Tlp,
    /// What may be done with it.
    #[n(2)]
    pub pap: Option<Pap>,
    /// The author, as in the header.
    #[n(3)]
    pub author: PublicKey,
    /// The circle, as in the header.
    #[n(4)]
    pub circle: CircleId,
    /// The partners it is for; all of the circle when none is named.
    #[n(5)]
    pub addressees: Vec<PartnerId>,
    /// What the kind says it is.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub body: Vec<u8>,
    /// Files that belong to it.
    #[n(7)]
    pub attachments: Vec<AttachmentRef>,
}

/// A file that belongs to an entry: sealed chunks, and the key that opens them.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct AttachmentRef {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its media type (RFC 6838), as the author gave it; for display.
    #[n(1)]
    pub media_type: String,
    /// Its size in bytes.
    #[n(2)]
    pub size: u64,
    #[cbor(n(3), with = "secret")]
    key: Zeroizing<[u8; 32]>,
    /// The BLAKE3 hashes of its sealed chunks, of 1 MiB of plaintext each but the last.
    #[n(4)]
    pub chunks: Vec<ChunkHash>,
}

/// The BLAKE3 hash of a sealed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct ChunkHash(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl fmt::Debug for AttachmentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachmentRef").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Why something is not a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not canonical, or too long.
    #[error("the inside of an entry is {0}")]
    Encoding(#[from] encoding::Refusal),
    /// Somebody signed what another sealed.
    #[error("the entry's author put another's sealed content under its own name")]
    OtherAuthor,
    /// It was sealed for another circle.
    #[error("the entry was sealed for another circle than it stands in")]
    OtherCircle,
    /// The kind has no name.
    #[error("a kind has a name of 1 to {KIND_BYTES} bytes, without control characters")]
    Kind,
    /// RED without addressees.
    #[error("TLP:RED names its addressees; say to which partners it goes (--to)")]
    RedWithoutAddressees,
    /// Too many addressees.
    #[error("an entry names at most {ADDRESSEES} partners; found a circle for more")]
    Addressees,
    /// Too many attachments.
    #[error("an entry has at most {ATTACHMENTS} attachments; publish another entry for the rest")]
    Attachments,
    /// A sealed attachment whose name or media type cannot be shown. It is not quoted: what refuses an entry is
    /// kept in lists, and lists hold nothing that was sealed as RED.
    #[error("an attachment's name or media type is not one that can be shown; ask the author to publish it again")]
    SealedName,
    /// A file's name that is no name.
    #[error("{0:?} is no name for an attachment: 1 to {NAME_CHARS} characters, without / \\ and control characters")]
    Name(String),
    /// Size and chunks do not fit each other.
    #[error("an attachment's size and the number of its parts do not fit each other")]
    Size,
    /// Longer than an entry.
    #[error("{length} bytes, where an entry holds about {limit}; attach the text as a file instead")]
    TooLong {
        /// How long.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// What sealing adds at most: age's header with its stanzas for named recipients, and its tags.
const SEALING_BYTES: usize = 64 << 10;

impl Payload {
    /// Reads the inside of an entry by this author in this circle.
    pub fn open(plaintext: &[u8], author: &PublicKey, circle: &CircleId) -> Result<Self, Refusal> {
        let payload: Self = decode_sealed(plaintext)?;
        if payload.author != *author {
            return Err(Refusal::OtherAuthor);
        }
        if payload.circle != *circle {
            return Err(Refusal::OtherCircle);
        }
        payload.check().map_err(|refusal| match refusal {
            Refusal::Name(_sealed) => Refusal::SealedName,
            refusal => refusal,
        })?;
        Ok(payload)
    }

    /// The bytes to seal.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        self.check()?;
        let bytes = encoding::to_bytes(self);
        let limit = limits::PAYLOAD_BYTES - SEALING_BYTES;
        if bytes.len() > limit {
            return Err(Refusal::TooLong { length: bytes.len(), limit });
        }
        Ok(bytes)
    }

    fn check(&self) -> Result<(), Refusal> {
        if !(1..=KIND_BYTES).contains(&self.kind.len()) || !text::is_one_line(&self.kind) {
            return Err(Refusal::Kind);
        }
        if self.tlp == Tlp::Red && self.addressees.is_empty() {
            return Err(Refusal::RedWithoutAddressees);
        }
        if self.addressees.len() > ADDRESSEES {
            return Err(Refusal::Addressees);
        }
        if self.attachments.len() > ATTACHMENTS {
            return Err(Refusal::Attachments);
        }
        self.attachments.iter().try_for_each(AttachmentRef::check)
    }
}

impl AttachmentRef {
    /// Plaintext in one chunk.
    pub const CHUNK_BYTES: u64 = 1 << 20;
    /// Chunks of one attachment: 1 GiB, of which the hashes take 35 kB of the entry.
    pub const CHUNKS_MOST: usize = 1_024;

    /// An attachment whose chunks are sealed.
    pub fn new(
        name: String,
        media_type: String,
        size: u64,
        key: [u8; 32],
        chunks: Vec<ChunkHash>,
    ) -> Result<Self, Refusal> {
        let attachment = Self { name, media_type, size, key: Zeroizing::new(key), chunks };
        attachment.check()?;
        Ok(attachment)
    }

    /// Whether a file can be attached under a name.
    pub fn check_name(name: &str) -> Result<(), Refusal> {
        let length = name.chars().count();
        let separators = name.contains(['/', '\\']) || name == "." || name == "..";
        if !(1..=NAME_CHARS).contains(&length) || separators || !text::is_one_line(name) {
            return Err(Refusal::Name(name.chars().take(60).collect()));
        }
        Ok(())
    }

    /// The key that opens its chunks.
    pub fn key_bytes(&self) -> [u8; 32] {
        *self.key
    }

    fn check(&self) -> Result<(), Refusal> {
        Self::check_name(&self.name)?;
        if self.media_type.len() > NAME_CHARS || !text::is_one_line(&self.media_type) {
            return Err(Refusal::Name(self.media_type.chars().take(60).collect()));
        }
        let fits = usize::try_from(self.size.div_ceil(Self::CHUNK_BYTES)).is_ok_and(|count| count == self.chunks.len());
        if !fits || self.chunks.len() > Self::CHUNKS_MOST {
            return Err(Refusal::Size);
        }
        Ok(())
    }
}

/// Reads what was sealed, and all of it.
///
/// Not compared with its canonical form: a later version's value has more fields, and the entry's hash fixes the
/// bytes already. What the decoder says is left out, for it may quote what it read.
pub(crate) fn decode_sealed<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, encoding::Refusal> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_quotes| {
        encoding::Refusal::Malformed(
            "it is not of a form that this version reads; update `cwn`, or ask its author".to_owned(),
        )
    })?;
    let left = bytes.len() - decoder.position();
    if left > 0 {
        return Err(encoding::Refusal::Malformed(format!("{left} bytes follow where it ends; ask its author")));
    }
    Ok(value)
}

/// A secret as bytes, wiped when dropped.
mod secret {
    use minicbor::{Decoder, Encoder, bytes, decode::Error, encode::Error as EncodeError, encode::Write};
    use zeroize::Zeroizing;

    pub(super) fn encode<C, W: Write>(
        secret: &Zeroizing<[u8; 32]>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        bytes::encode(&**secret, e, ctx)
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Zeroizing<[u8; 32]>, Error> {
        bytes::decode(d, ctx).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::Hash;

    use super::*;

    const AUTHOR: PublicKey = PublicKey([1; 32]);
    const CIRCLE: CircleId = CircleId(Hash([2; 32]));

    fn payload() -> Payload {
        Payload {
            kind: "report".to_owned(),
            tlp: Tlp::Amber,
            pap: None,
            author: AUTHOR,
            circle: CIRCLE,
            addressees: Vec::new(),
            body: b"body".to_vec(),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn a_payload_is_read_back_as_it_was_written() {
        let bytes = payload().to_bytes().unwrap();
        assert_eq!(Payload::open(&bytes, &AUTHOR, &CIRCLE), Ok(payload()));
    }

    #[test]
    fn i5_nobody_signs_what_another_sealed() {
        let bytes = payload().to_bytes().unwrap();
        assert_eq!(Payload::open(&bytes, &PublicKey([9; 32]), &CIRCLE), Err(Refusal::OtherAuthor));
        assert_eq!(Payload::open(&bytes, &AUTHOR, &CircleId(Hash([9; 32]))), Err(Refusal::OtherCircle));
    }

    #[test]
    fn i11_red_without_addressees_is_neither_written_nor_read() {
        let red = Payload { tlp: Tlp::Red, ..payload() };
        assert_eq!(red.to_bytes(), Err(Refusal::RedWithoutAddressees));
        assert_eq!(Payload::open(&encoding::to_bytes(&red), &AUTHOR, &CIRCLE), Err(Refusal::RedWithoutAddressees));
    }

    #[test]
    fn a_body_that_no_entry_holds_is_refused_before_it_is_sealed() {
        let long = Payload { body: vec![0; limits::PAYLOAD_BYTES], ..payload() };
        assert!(matches!(long.to_bytes(), Err(Refusal::TooLong { .. })));
    }

    #[test]
    fn a_name_cannot_lead_out_of_a_directory() {
        for name in ["../etc/passwd", "a/b", "a\\b", "..", "", "a\u{202E}b", "a\0b"] {
            assert!(AttachmentRef::check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(AttachmentRef::check_name("dreigingsbeeld 2026.pdf"), Ok(()));
    }

    #[test]
    fn an_attachment_whose_size_does_not_fit_its_chunks_is_refused() {
        let new = |size, chunks: usize| {
            let chunks = vec![ChunkHash([0; 32]); chunks];
            AttachmentRef::new("a".to_owned(), String::new(), size, [0; 32], chunks).is_ok()
        };
        assert!(new(0, 0) && new(1, 1) && new(AttachmentRef::CHUNK_BYTES + 1, 2));
        assert!(!new(1, 0) && !new(AttachmentRef::CHUNK_BYTES, 2) && !new(u64::MAX, 1));
    }

    #[test]
    fn garbage_and_deep_nesting_are_refused() {
        let deep = vec![0x81; 100_000];
        for bytes in [b"".as_slice(), b"\xff\xff", &deep] {
            assert!(matches!(Payload::open(bytes, &AUTHOR, &CIRCLE), Err(Refusal::Encoding(_))));
        }
    }

    #[test]
    fn i11_a_refusal_quotes_nothing_of_what_was_sealed() {
        #[derive(Encode)]
        struct Loose<'a>(
            #[n(0)] &'a str,
            #[n(1)] Tlp,
            #[n(2)] Option<Pap>,
            #[n(3)] PublicKey,
            #[n(4)] CircleId,
            #[n(5)] &'a [&'a str],
            #[cbor(n(6), with = "minicbor::bytes")] &'a [u8],
            #[n(7)] Vec<AttachmentRef>,
        );
        let attached = AttachmentRef {
            name: "geheim/slachtoffer".to_owned(),
            media_type: String::new(),
            size: 0,
            key: Zeroizing::new([0; 32]),
            chunks: Vec::new(),
        };
        let unfit_type = AttachmentRef { name: "a".to_owned(), media_type: "geheim\n".to_owned(), ..attached.clone() };
        for (to, attachments) in
            [(["Geheim geval"], Vec::new()), (["ferm"], vec![attached]), (["ferm"], vec![unfit_type])]
        {
            let bytes = encoding::to_bytes(&Loose("report", Tlp::Red, None, AUTHOR, CIRCLE, &to, b"", attachments));
            let refusal = Payload::open(&bytes, &AUTHOR, &CIRCLE).unwrap_err();
            let told = format!("{refusal} {refusal:?}").to_lowercase();
            assert!(!told.contains("geheim"), "{told}");
        }
    }

    #[test]
    fn nothing_may_follow_a_payload() {
        let bytes = [payload().to_bytes().unwrap(), b"\x00".to_vec()].concat();
        assert!(matches!(Payload::open(&bytes, &AUTHOR, &CIRCLE), Err(Refusal::Encoding(_))));
    }

    #[test]
    fn the_key_of_an_attachment_is_not_shown() {
        let attached = AttachmentRef::new("a".to_owned(), String::new(), 0, [0xAB; 32], Vec::new()).unwrap();
        let shown = format!("{attached:?}").to_lowercase();
        assert!(!shown.contains("171") && !shown.contains("ab"), "{shown}");
        assert_eq!(attached.key_bytes(), [0xAB; 32]);
    }

    #[test]
    fn an_attachment_is_read_back_and_its_key_travels_as_a_byte_string() {
        let chunks = vec![ChunkHash([5; 32])];
        let attached = AttachmentRef::new("a".to_owned(), "text/plain".to_owned(), 1, [0xAB; 32], chunks).unwrap();
        let with_file = Payload { attachments: vec![attached], ..payload() };
        let bytes = with_file.to_bytes().unwrap();
        // RFC 8949, major type 2: 0x58, the length, the bytes.
        let key = [[0x58, 0x20].as_slice(), &[0xAB; 32]].concat();
        assert!(bytes.windows(key.len()).any(|window| window == key));
        assert_eq!(Payload::open(&bytes, &AUTHOR, &CIRCLE), Ok(with_file));
    }
}
