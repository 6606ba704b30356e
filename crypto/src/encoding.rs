//! The one canonical form that gets signed and hashed.
//!
//! Values are CBOR arrays (RFC 8949) as minicbor derives them. minicbor's decoder also takes other spellings
//! of the same value, so canonical form is checked by decoding, encoding again and comparing: one value, one
//! sequence of bytes, and a signature or hash over those bytes means one thing.

use std::fmt;

use minicbor::{Decode, Encode};
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

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
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

/// The canonical bytes of a value.
pub fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to a `Vec` cannot fail, and no value here has an encoder that refuses.
    minicbor::to_vec(value).unwrap_or_else(|never| unreachable!("{never}"))
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
    if to_bytes(&value) != bytes {
        return Err(Refusal::NotCanonical);
    }
    Ok(value)
}
