//! Keys, the names that stand for someone, and [`Signed`].

use std::{fmt, marker::PhantomData, str::FromStr};

use ed25519_dalek::Signer;
use minicbor::{Decode, Encode, decode, encode};
use zeroize::Zeroizing;

use crate::encoding::{self, Domain, Hash, hex, hex_decode};

/// Milliseconds since 1970-01-01T00:00:00Z, always an argument, never looked up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Time(#[n(0)] pub u64);

impl Time {
    /// One second in milliseconds.
    pub const SECOND_MS: u64 = 1_000;
    /// One day in milliseconds.
    pub const DAY_MS: u64 = 24 * 3_600_000;

    /// This time and `ms` milliseconds.
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` until this time; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The id of a network: the hash of the first version of its root document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct NetworkId(#[n(0)] pub Hash);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The short name of a partner within its network, such as `z-cert`.
///
/// 1–64 of `a–z`, `0–9` and `-`, neither starting nor ending with `-`: it goes into file names, command
/// lines and tables, and two that look alike must not both exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartnerId(String);

impl PartnerId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is not a partner's short name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a partner's short name: use 1 to 64 of a-z, 0-9 and '-', such as z-cert")]
pub struct NotAPartnerId(String);

impl FromStr for PartnerId {
    type Err = NotAPartnerId;

    fn from_str(text: &str) -> Result<Self, NotAPartnerId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        if !fits || text.starts_with('-') || text.ends_with('-') {
            return Err(NotAPartnerId(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<C> Encode<C> for PartnerId {
    fn encode<W: encode::Write>(&self, e: &mut minicbor::Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for PartnerId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?.parse().map_err(|error: NotAPartnerId| decode::Error::message(error.to_string()))
    }
}

/// An ed25519 public key (RFC 8032): of a node, an issuer or a root.
///
/// Only bytes until it verifies something; a small-order key verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PublicKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// The signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold: the bytes were altered, or another key signed them")]
pub struct BadSignature;

impl PublicKey {
    /// Checks a signature over the domain and `bytes`, strictly: a signature that another implementation
    /// might judge otherwise (small-order keys, malleable encodings) is refused, so that all members agree.
    pub fn verify(&self, domain: Domain, bytes: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_malformed| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&message(domain, bytes), &signature).map_err(|_mismatch| BadSignature)
    }

    /// Whether this is a point that can have signed something.
    pub fn is_sound(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_decode(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..6], f)
    }
}

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..6], f)
    }
}

/// An ed25519 signing key. It is wiped when dropped, and never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a 32-byte seed, which must be random and secret.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for the key store alone.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs the domain and `bytes`.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&message(domain, bytes)).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {:?}", self.public())
    }
}

fn message(domain: Domain, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.len() + 32);
    domain.separator().for_each(|part| message.extend_from_slice(part));
    message.extend_from_slice(bytes);
    message
}

/// The canonical bytes of a `T` and a signature over them; what it says can be read only by verifying.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Signed<T> {
    #[cbor(n(0), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[n(1)]
    signature: Signature,
    #[cbor(skip)]
    says: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("length", &self.bytes.len()).field("signature", &self.signature).finish()
    }
}

/// Why something signed was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedRefusal {
    /// The bytes are not the canonical form of what should stand there.
    #[error(transparent)]
    Encoding(#[from] encoding::Refusal),
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl<T> Signed<T>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    /// Signs `value`.
    pub fn sign(value: &T, domain: Domain, key: &SigningKey) -> Self {
        let bytes = encoding::to_bytes(value);
        let signature = key.sign(domain, &bytes);
        Self { bytes, signature, says: PhantomData }
    }

    /// What `key` said, if it signed this and it is canonical and at most `limit` bytes.
    pub fn verify(&self, domain: Domain, key: &PublicKey, limit: usize) -> Result<T, SignedRefusal> {
        let value = self.unverified(limit)?;
        key.verify(domain, &self.bytes, &self.signature)?;
        Ok(value)
    }

    /// What it claims to say, to learn which key must have signed it. Believe nothing of it before `verify`.
    pub fn unverified(&self, limit: usize) -> Result<T, SignedRefusal> {
        Ok(encoding::from_bytes(&self.bytes, limit)?)
    }

    /// The signed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of the signed bytes.
    pub fn hash(&self, domain: Domain) -> Hash {
        Hash::of(domain, &[&self.bytes])
    }
}
