//! The one canonical form that gets signed and hashed.
//!
//! Values are CBOR arrays (RFC 8949) as minicbor derives them. minicbor's decoder also takes other spellings
//! of the same value, so canonical form is checked by decoding, encoding again and comparing: one value, one
//! sequence of bytes, and a signature or hash over those bytes means one thing.

use std::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder, data::Type, encode::Write};
use sha2::{Digest, Sha256};

/// What a signature or hash is about. Every use has its own, so that bytes signed for one purpose prove
/// nothing for another. All of them stand here, where two alike would be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// A version of the root document, signed by root keys; its hash is the network's id.
    pub const ROOT: Self = Self("cwn/root/1");
    /// A membership certificate, signed by an issuer.
    pub const CERTIFICATE: Self = Self("cwn/certificate/1");
    /// A request for a certificate, signed by the node that asks.
    pub const REQUEST: Self = Self("cwn/request/1");
    /// The secret of an invitation, as the coordinator keeps it.
    pub const INVITATION: Self = Self("cwn/invitation/1");
    /// The key that an invitation's secret stands for; see [`crate::invitation`].
    pub const INVITATION_KEY: Self = Self("cwn/invitation-key/1");
    /// The proof that whoever asks for a certificate holds the secret of an invitation.
    pub const INVITATION_PROOF: Self = Self("cwn/invitation-proof/1");
    /// The check at the end of an armoured block.
    pub const ARMOUR: Self = Self("cwn/armour/1");
    /// The header of an entry: signed by its author, hashed into the next.
    pub const ENTRY: Self = Self("cwn/entry/1");
    /// The sealed payload of an entry.
    pub const PAYLOAD: Self = Self("cwn/payload/1");
    /// A circle's charter; its hash is the circle's id.
    pub const CHARTER: Self = Self("cwn/charter/1");
    /// An epoch record, signed by the node that made it.
    pub const EPOCH: Self = Self("cwn/epoch/1");
    /// The commitment to an epoch's key.
    pub const EPOCH_KEY: Self = Self("cwn/epoch-key/1");
    /// A statement of what a node durably holds.
    pub const HELD: Self = Self("cwn/held/1");
    /// The digest over a circle's logs.
    pub const DIGEST: Self = Self("cwn/digest/1");
    /// The tag by which two members recognise a circle they share.
    pub const TAG: Self = Self("cwn/tag/1");
    /// The rank by which a node chooses its neighbours; it never leaves the node.
    pub const NEIGHBOUR: Self = Self("cwn/neighbour/1");
    /// The key of a key store, from the credential that opens it.
    pub const KEY_STORE: Self = Self("cwn/key-store/1");
    /// The fingerprint two people compare by telephone.
    pub const FINGERPRINT: Self = Self("cwn/fingerprint/1");

    /// The sealing of simulations, which keeps nothing secret.
    #[cfg(any(test, feature = "stand-in"))]
    pub const STAND_IN: Self = Self("cwn/stand-in/1");

    /// The separator as it stands before what is signed or hashed; the zero byte ends it.
    pub fn separator(self) -> impl Iterator<Item = &'static [u8]> {
        [self.0.as_bytes(), &[0]].into_iter()
    }
}

/// Orders a type that wraps an array of bytes as its bytes are ordered, eight at a time: comparing the keys of maps is
/// what nodes do most, and as numbers they are compared without a call.
macro_rules! ordered_by_words {
    ($type:ident, $words:literal) => {
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                let words = |bytes: &[u8; $words * 8]| -> [u64; $words] {
                    std::array::from_fn(|word| u64::from_be_bytes(std::array::from_fn(|byte| bytes[word * 8 + byte])))
                };
                words(&self.0).cmp(&words(&other.0))
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}
pub(crate) use ordered_by_words;

ordered_by_words!(Hash, 4);

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Hash(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl Hash {
    /// SHA-256 over the domain's separator and the parts, one after the other. Callers fix the length of
    /// every part but the last, so that no two lists of parts hash alike.
    pub fn of(domain: Domain, parts: &[&[u8]]) -> Self {
        let mut sha = Sha256::new();
        domain.separator().for_each(|part| sha.update(part));
        parts.iter().for_each(|part| sha.update(part));
        Self(sha.finalize().into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_decode(text).map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..6], f)
    }
}

/// HMAC-SHA256 (RFC 2104) over the domain's separator and the parts: what only a holder of `key` can make.
/// As with [`Hash::of`], callers fix the length of every part but the last.
pub fn mac(key: &[u8], domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
    use hmac::{KeyInit, Mac};
    let mut mac = match hmac::Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(never) => unreachable!("HMAC takes keys of any length: {never}"),
    };
    domain.separator().for_each(|part| mac.update(part));
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Writes bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `2 * N` hexadecimal digits.
pub fn hex_decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Why bytes are not the canonical form of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than such a value may be; nothing was decoded.
    #[error("{length} bytes, where at most {limit} are allowed")]
    TooLong {
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Not the CBOR that was expected here.
    #[error("not the expected CBOR: {0}")]
    Malformed(String),
    /// It decodes, but is spelled in another way than the one that gets signed.
    #[error("not in canonical form; it was changed on the way, or made by other software")]
    NotCanonical,
}

/// Room for most of what is signed or sent, so that its bytes are not moved again and again while they are written.
const ROOM: usize = 512;

/// The canonical bytes of a value.
pub fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM);
    // Writing to a `Vec` cannot fail, and no value here has an encoder that refuses.
    minicbor::encode(value, &mut bytes).unwrap_or_else(|never| unreachable!("{never}"));
    bytes.shrink_to_fit();
    bytes
}

/// Takes what is written for as long as it is these bytes.
struct Same<'a>(&'a [u8]);

/// What was written is not what it was compared with.
struct Differs;

impl Write for Same<'_> {
    type Error = Differs;

    fn write_all(&mut self, written: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(written).ok_or(Differs)?;
        Ok(())
    }
}

/// Whether these are the canonical bytes of a value, found without writing them anywhere.
fn is_canonical<T: Encode<()>>(value: &T, bytes: &[u8]) -> bool {
    let mut same = Same(bytes);
    minicbor::encode(value, &mut same).is_ok() && same.0.is_empty()
}

/// The value of which `bytes` is the canonical form, if it is no longer than `limit`.
pub fn from_bytes<'b, T>(bytes: &'b [u8], limit: usize) -> Result<T, Refusal>
where
    T: Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > limit {
        return Err(Refusal::TooLong { length: bytes.len(), limit });
    }
    let value: T = minicbor::decode(bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if is_canonical(&value, bytes) { Ok(value) } else { Err(Refusal::NotCanonical) }
}

/// As [`from_bytes`], and also of an array to which a later version of the protocol appended items. What is known of
/// it is in canonical form all the same; what is not is well-formed, and does not end in nulls, which are left out.
///
/// So a later version appends only what an earlier one may pass over; what it may not needs a number of its own.
pub fn beginning_from_bytes<'b, T>(bytes: &'b [u8], limit: usize) -> Result<T, Refusal>
where
    T: Decode<'b, ()> + Encode<()>,
{
    let refusal = match from_bytes(bytes, limit) {
        Err(refusal @ Refusal::NotCanonical) => refusal,
        read => return read,
    };
    let malformed = |error: minicbor::decode::Error| Refusal::Malformed(error.to_string());
    let value: T = minicbor::decode(bytes).map_err(malformed)?;
    let known = to_bytes(&value);
    let items = |of: &[u8]| {
        let mut head = Decoder::new(of);
        head.array().ok().flatten().map(|items| (items, head.position()))
    };
    let (Some((said, from)), Some((written, at))) = (items(bytes), items(&known)) else { return Err(refusal) };
    let mut head = Encoder::new(Vec::new());
    let shortest = head.array(said).is_ok() && bytes[..from] == head.writer()[..];
    let rest = bytes[from..].strip_prefix(&known[at..]).filter(|_| shortest && said > written);
    let mut rest = Decoder::new(rest.ok_or(refusal.clone())?);
    let mut last = None;
    for _ in written..said {
        last = Some(rest.datatype().map_err(malformed)?);
        rest.skip().map_err(malformed)?;
    }
    let ends = rest.position() == rest.input().len() && last != Some(Type::Null);
    if ends { Ok(value) } else { Err(refusal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Known {
        #[n(0)]
        number: u8,
        #[n(1)]
        perhaps: Option<u8>,
    }

    #[test]
    fn a_hash_is_ordered_as_its_bytes_are() {
        let ones = [[0; 32], [255; 32], std::array::from_fn(|place| place as u8)];
        let near = |bytes: [u8; 32]| {
            (0..32).map(move |place| {
                let mut near = bytes;
                near[place] ^= 0x81;
                near
            })
        };
        let all: Vec<[u8; 32]> = ones.into_iter().flat_map(|bytes| [bytes].into_iter().chain(near(bytes))).collect();
        for one in &all {
            for other in &all {
                assert_eq!(super::Hash(*one).cmp(&super::Hash(*other)), one.cmp(other));
            }
        }
    }

    fn beginning(bytes: &[u8]) -> Result<Known, Refusal> {
        beginning_from_bytes(bytes, 64)
    }

    #[test]
    fn what_a_later_version_appended_is_passed_over() {
        for (bytes, perhaps) in [
            (&[0x82, 7, 8][..], Some(8)),
            (&[0x81, 7], None),
            (&[0x83, 7, 8, 9], Some(8)),
            (&[0x83, 7, 0xf6, 0x82, 1, 2], None),
            (&[0x84, 7, 8, 0xf6, 0x61, b'x'], Some(8)),
        ] {
            assert_eq!(beginning(bytes), Ok(Known { number: 7, perhaps }), "{bytes:?}");
        }
        let longer = [&[0x98, 30, 7][..], &[1; 29]].concat();
        assert_eq!(beginning(&longer), Ok(Known { number: 7, perhaps: Some(1) }));
    }

    #[test]
    fn what_is_appended_leaves_one_spelling_of_what_is_known() {
        for bytes in [
            // Nulls at the end are left out.
            &[0x82, 7, 0xf6][..],
            &[0x83, 7, 8, 0xf6],
            // The number, or the length, in two bytes.
            &[0x83, 0x18, 7, 8, 9],
            &[0x98, 3, 7, 8, 9],
            // Of no length that is said.
            &[0x9f, 7, 8, 9, 0xff],
            // More follows than the array holds.
            &[0x83, 7, 8, 9, 9],
            &[0x81, 7, 9],
        ] {
            assert_eq!(beginning(bytes), Err(Refusal::NotCanonical), "{bytes:?}");
        }
        for bytes in [&[0x83, 7, 8][..], &[0x83, 7, 8, 0x62, 1], &[0x80], &[]] {
            assert!(matches!(beginning(bytes), Err(Refusal::Malformed(_))), "{bytes:?}");
        }
        assert!(matches!(beginning(&[0x9f; 65]), Err(Refusal::TooLong { .. })));
    }
}
