//! Keys, the names that stand for someone, and [`Signed`].

use std::{fmt, marker::PhantomData, str::FromStr};

use ed25519_dalek::Signer;
use minicbor::{Decode, Encode, decode, encode};
use zeroize::Zeroizing;

use crate::encoding::{self, Domain, Hash, hex, hex_decode, ordered_by_words};

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

    /// The day alone, in UTC: what a person needs of a date far away.
    pub fn date(self) -> Date {
        Date(self)
    }

    /// Year, month and day in the proleptic Gregorian calendar, UTC.
    fn civil(self) -> (u64, u64, u64) {
        // Years are counted from March, so that the leap day comes last, and in eras of 400 years, which
        // all have 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.
        let days = self.0 / Self::DAY_MS + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let (month, next_year) =
            if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
        (era * 400 + year_of_era + next_year, month, day)
    }
}

/// RFC 3339 in UTC, to the second.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / Self::SECOND_MS % 86_400;
        write!(f, "{}T{:02}:{:02}:{:02}Z", self.date(), seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}

/// A [`Time`] of which only the day is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(Time);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PublicKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

ordered_by_words!(PublicKey, 4);

/// The signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold: the bytes were altered, or another key signed them")]
pub struct BadSignature;

impl PublicKey {
    /// Checks a signature over the domain and `bytes`, strictly: a signature that another implementation
    /// might judge otherwise (small-order keys, malleable encodings) is refused, so that all members agree.
    pub fn verify(&self, domain: Domain, bytes: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let judge = || {
            let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_malformed| BadSignature)?;
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(&message(domain, bytes), &signature).map_err(|_mismatch| BadSignature)
        };
        #[cfg(feature = "stand-in")]
        return crate::verdicts::remembered(self, domain, bytes, signature, judge);
        #[cfg(not(feature = "stand-in"))]
        judge()
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
        let signature = Signature(self.0.sign(&message(domain, bytes)).to_bytes());
        #[cfg(feature = "stand-in")]
        crate::verdicts::made(&self.public(), domain, bytes, &signature);
        signature
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

    /// What it claims to say, to learn which key must have signed it. Believe nothing of it before `verify`. What a
    /// later version appended is signed with the rest, and passed over.
    pub fn unverified(&self, limit: usize) -> Result<T, SignedRefusal> {
        Ok(encoding::beginning_from_bytes(&self.bytes, limit)?)
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

/// Why text cannot stand for someone or something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRefusal {
    /// Nothing, or only spaces.
    #[error("it is empty; give a name")]
    Empty,
    /// Spaces before or after it.
    #[error("it begins or ends with a space; take that off")]
    Spaced,
    /// Longer than a name may be.
    #[error("it has {length} characters where at most {limit} are allowed; shorten it")]
    TooLong {
        /// How many characters it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A control character, or one that is invisible or turns the direction of writing.
    #[error("it contains the invisible character U+{:04X}; type it again without", u32::from(*.0))]
    Invisible(char),
}

/// The characters a name of a partner, a network or the like may have: one line of a table.
pub const NAME_LIMIT: usize = 120;

/// Whether `name` can be shown as the name of someone, on one line and in one way.
pub fn check_name(name: &str) -> Result<(), NameRefusal> {
    let length = name.chars().count();
    if length > NAME_LIMIT {
        return Err(NameRefusal::TooLong { length, limit: NAME_LIMIT });
    }
    if let Some(invisible) = name.chars().find(|&c| is_invisible(c)) {
        return Err(NameRefusal::Invisible(invisible));
    }
    match name.trim() {
        "" => Err(NameRefusal::Empty),
        trimmed if trimmed != name => Err(NameRefusal::Spaced),
        _ => Ok(()),
    }
}

/// Control characters, and those that hide or turn text: with them one name could be shown as another.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_rfc_3339_in_utc() {
        let shown = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (ms, text) in shown {
            assert_eq!(Time(ms).to_string(), text);
        }
        assert_eq!(Time(1_772_323_200_000).date().to_string(), "2026-03-01");
    }

    #[test]
    fn the_end_of_time_is_shown_too() {
        assert_eq!(Time(u64::MAX).date().to_string(), "584556019-04-03");
    }

    #[test]
    fn a_name_is_one_visible_line() {
        assert_eq!(check_name("Z-CERT, zorg"), Ok(()));
        assert_eq!(check_name("  "), Err(NameRefusal::Empty));
        assert_eq!(check_name("NCSC "), Err(NameRefusal::Spaced));
        assert_eq!(check_name("NCSC\nFERM"), Err(NameRefusal::Invisible('\n')));
        assert_eq!(check_name("N\u{202e}CSC"), Err(NameRefusal::Invisible('\u{202e}')));
        assert_eq!(check_name(&"a".repeat(121)), Err(NameRefusal::TooLong { length: 121, limit: 120 }));
    }

    #[test]
    fn a_small_order_key_signs_nothing() {
        // The neutral element: with it, a signature of zeros would verify over anything.
        let mut neutral = PublicKey([0; 32]);
        neutral.0[0] = 1;
        let mut signature = Signature([0; 64]);
        signature.0[0] = 1;
        assert!(!neutral.is_sound());
        assert_eq!(neutral.verify(Domain::ENTRY, b"anything", &signature), Err(BadSignature));
    }

    #[test]
    fn a_signature_holds_for_its_own_domain_bytes_and_key_alone() {
        let (key, other) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let signature = key.sign(Domain::ENTRY, b"hello");
        assert_eq!(key.public().verify(Domain::ENTRY, b"hello", &signature), Ok(()));
        assert_eq!(key.public().verify(Domain::EPOCH, b"hello", &signature), Err(BadSignature));
        assert_eq!(key.public().verify(Domain::ENTRY, b"hellO", &signature), Err(BadSignature));
        assert_eq!(other.public().verify(Domain::ENTRY, b"hello", &signature), Err(BadSignature));
    }
}
