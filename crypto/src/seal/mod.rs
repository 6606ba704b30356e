//! Sealing what members write, so that only those it is for can open it.
//!
//! Everything sealed is an age file (<https://age-encryption.org/v1>). Entries to a whole circle carry one
//! stanza of our own, which wraps the file key with the epoch's key: 9 µs where an X25519 stanza costs 78 µs
//! for every recipient. Epoch keys, and entries for some partners only, are sealed with age's own X25519
//! stanzas.
//!
//! This module refuses to know who belongs to what: it is given keys. Which key a circle uses is the engine's.
//! age draws its own randomness, so sealing stands behind the trait [`Seal`]; simulations use `StandIn`.

mod age_format;
mod passphrase;
#[cfg(any(test, feature = "stand-in"))]
mod stand_in;

use std::{fmt, str::FromStr};

use age_core::secrecy::ExposeSecret;
use bech32::{Bech32, Hrp};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, Zeroizing};

pub use self::age_format::Age;
pub use self::passphrase::{open_with_passphrase, seal_with_passphrase};
#[cfg(any(test, feature = "stand-in"))]
pub use self::stand_in::StandIn;
use crate::encoding::{Domain, Hash};

/// The nodes one thing can be sealed to: over twice the 200 nodes a network is measured for. age reads a
/// header in time that grows with the square of its lines, so a stranger must not choose their number.
pub const RECIPIENTS_LIMIT: usize = 512;

/// The public half of a [`SealingKey`]: an X25519 key (RFC 7748), shown and read as age does (`age1…`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Recipient(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

const RECIPIENT_HRP: Hrp = Hrp::parse_unchecked("age");

/// The X25519 keys with which every shared secret is zero (RFC 7748 section 6.1): 0, 1, p − 1 and the two of
/// order eight, little-endian.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

impl Recipient {
    /// Whether this is a key to which something can be sealed: spelled as RFC 7748 spells it, and not of
    /// small order. age panics on the latter, so nobody's certificate may carry one.
    pub fn is_sound(&self) -> bool {
        // p is 2^255 - 19: 0xed, thirty times 0xff, 0x7f.
        let below_p = self.0[31] < 0x7f || (self.0[31] == 0x7f && (self.0[1..31] != [0xff; 30] || self.0[0] < 0xed));
        below_p && !SMALL_ORDER.contains(&self.0)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32, _>(f, RECIPIENT_HRP, &self.0).map_err(|_only_fmt_can_fail| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a sealing key's public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a recipient (age1…), or it was mistyped; copy it again")]
pub struct NotARecipient;

impl FromStr for Recipient {
    type Err = NotARecipient;

    fn from_str(text: &str) -> Result<Self, NotARecipient> {
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(text)
            .map_err(|_where_it_broke| NotARecipient)?;
        if checked.hrp() != RECIPIENT_HRP || checked.byte_iter().len() != 32 {
            return Err(NotARecipient);
        }
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(checked.byte_iter()).for_each(|(byte, read)| *byte = read);
        Ok(Self(bytes))
    }
}

/// A node's sealing key, with which it opens what was sealed to it. It is wiped when dropped, and never shown.
#[derive(Clone)]
pub struct SealingKey {
    age: age::x25519::Identity,
    recipient: Recipient,
}

impl SealingKey {
    /// The key of a 32-byte X25519 secret, which must be random.
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        // age takes a secret key as text only (<https://age-encryption.org/v1>, "AGE-SECRET-KEY-1…").
        let hrp = Hrp::parse_unchecked("age-secret-key-");
        let text = Zeroizing::new(
            bech32::encode_upper::<Bech32>(hrp, secret.as_slice()).unwrap_or_else(|error| unreachable!("{error}")),
        );
        let age: age::x25519::Identity = text.parse().unwrap_or_else(|error| unreachable!("{error}"));
        let recipient = age.to_public().to_string().parse().unwrap_or_else(|error| unreachable!("{error}"));
        Self { age, recipient }
    }

    /// The secret, for the key store alone.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let text = self.age.to_string();
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(text.expose_secret())
            .unwrap_or_else(|error| unreachable!("{error}"));
        let mut secret = Zeroizing::new([0; 32]);
        secret.iter_mut().zip(checked.byte_iter()).for_each(|(byte, read)| *byte = read);
        secret
    }

    /// The public half, to which others seal.
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey of {}", self.recipient)
    }
}

/// The key of an epoch, or of an attachment. It is wiped when dropped, and never shown.
#[derive(Clone)]
pub struct EpochKey {
    key: Zeroizing<[u8; 32]>,
    commitment: Hash,
}

impl EpochKey {
    /// The key of 32 bytes, which must be random and secret.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Zeroizing::new(bytes);
        bytes.zeroize();
        let commitment = Hash::of(Domain::EPOCH_KEY, &[key.as_slice()]);
        Self { key, commitment }
    }

    /// The bytes, to be sealed to those the epoch is for.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.key.clone()
    }

    /// What names the key in public without revealing it.
    pub fn commitment(&self) -> Hash {
        self.commitment
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKey {:?}", self.commitment)
    }
}

/// Why something was not sealed, or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody to seal to.
    #[error("there is nobody to seal this to; name at least one recipient")]
    NoRecipients,
    /// More recipients than one sealed thing can have.
    #[error("{count} recipients, where at most {RECIPIENTS_LIMIT} are allowed; seal it to fewer, or to a circle")]
    TooManyRecipients {
        /// How many there are.
        count: usize,
    },
    /// A key to which nothing can be sealed.
    #[error("nothing can be sealed to {recipient}, a key of small order; its node must make new keys and join again")]
    Unsound {
        /// The key.
        recipient: Recipient,
    },
    /// It does not name this key.
    #[error("it was not sealed to this key; only those it was sealed to can open it")]
    NotForThisKey,
    /// It names this key, and was altered or cut short.
    #[error("it was altered or cut short after it was sealed; fetch it again")]
    Damaged,
    /// It is not of the form of something sealed.
    #[error("it is not something sealed that this version can read; fetch it again, or update this node")]
    NotSealed,
    /// What is inside is longer than such a thing may be.
    #[error("what is sealed inside is longer than the {limit} bytes allowed")]
    TooLong {
        /// How long it may be.
        limit: usize,
    },
}

/// Sealing and opening. [`Age`] is the real one.
pub trait Seal: Send + Sync {
    /// Seals to everyone who has the epoch's key.
    fn seal_to_epoch(&self, key: &EpochKey, plaintext: &[u8]) -> Vec<u8>;

    /// Opens what was sealed to the epoch's key; at most `limit` bytes, and never more in memory.
    fn open_with_epoch(&self, key: &EpochKey, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal>;

    /// Seals to each of the recipients, and to nobody else: the sealer itself only when it is one of them.
    fn seal_to_recipients(&self, recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, Refusal>;

    /// Opens what was sealed to this node; at most `limit` bytes, and never more in memory.
    fn open_with_key(&self, key: &SealingKey, sealed: &[u8], limit: usize) -> Result<Vec<u8>, Refusal>;
}

/// What must hold of recipients before anything is sealed to them.
fn check_recipients(recipients: &[Recipient]) -> Result<(), Refusal> {
    if recipients.is_empty() {
        return Err(Refusal::NoRecipients);
    }
    if recipients.len() > RECIPIENTS_LIMIT {
        return Err(Refusal::TooManyRecipients { count: recipients.len() });
    }
    match recipients.iter().find(|recipient| !recipient.is_sound()) {
        Some(&recipient) => Err(Refusal::Unsound { recipient }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use age::Identity;
    use age_core::format::Stanza;
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD as BASE64};

    use super::*;

    fn key(number: u16) -> SealingKey {
        let mut secret = [7; 32];
        secret[..2].copy_from_slice(&number.to_be_bytes());
        // Unlike the highest and lowest bits, these are not the ones that X25519 sets by itself.
        secret[2..4].copy_from_slice(&number.to_be_bytes());
        SealingKey::from_bytes(secret)
    }

    /// Whether age finds that every shared secret with this key is zero: it refuses such a share in a stanza.
    fn shares_nothing(share: &[u8; 32]) -> bool {
        let stanza = Stanza { tag: "X25519".to_owned(), args: vec![BASE64.encode(share)], body: vec![0; 32] };
        key(1).age.unwrap_stanza(&stanza).is_some_and(|answer| answer.is_err())
    }

    #[test]
    fn the_small_order_keys_are_those_that_age_refuses() {
        for unsound in SMALL_ORDER {
            assert!(shares_nothing(&unsound) && !Recipient(unsound).is_sound(), "{unsound:?}");
        }
        assert!(!shares_nothing(&key(2).recipient().0) && key(2).recipient().is_sound());
    }

    #[test]
    fn another_spelling_of_a_key_is_no_sound_recipient() {
        // p + 1 is 1, and the highest bit is ignored: RFC 7748 section 5.
        let mut above = [0xff; 32];
        (above[0], above[31]) = (0xee, 0x7f);
        let mut high_bit = key(1).recipient().0;
        high_bit[31] |= 0x80;
        for spelling in [above, high_bit, [0xff; 32]] {
            assert!(!Recipient(spelling).is_sound(), "{spelling:?}");
        }
    }

    #[test]
    fn sealing_to_an_unsound_key_is_refused_and_stops_nothing() {
        let unsound = Recipient(SMALL_ORDER[3]);
        let refusal = Err(Refusal::Unsound { recipient: unsound });
        assert_eq!(Age.seal_to_recipients(&[key(1).recipient(), unsound], b"x"), refusal);
        assert_eq!(StandIn.seal_to_recipients(&[key(1).recipient(), unsound], b"x"), refusal);
    }

    #[test]
    fn the_last_of_as_many_recipients_as_allowed_opens_it_and_one_more_is_refused() {
        let mut to: Vec<_> = (0..512).map(|number| key(number).recipient()).collect();
        let sealed = Age.seal_to_recipients(&to, b"to all").unwrap();
        assert_eq!(Age.open_with_key(&key(511), &sealed, 6).unwrap(), b"to all");
        to.push(key(512).recipient());
        assert_eq!(Age.seal_to_recipients(&to, b"x"), Err(Refusal::TooManyRecipients { count: 513 }));
    }

    #[test]
    fn a_header_longer_than_its_recipients_can_fill_never_reaches_age() {
        // Left to age, each of these lines would make it start again at the first: a stanza, valid but for
        // nobody, many times over. The second header, short enough, shows that only the length is refused.
        let sealed = |stanzas| {
            let header = format!("age-encryption.org/v1\n{}--- {}\n", "-> a\n\n".repeat(stanzas), "A".repeat(43));
            [header.as_bytes(), &[0; 64]].concat()
        };
        assert_eq!(Age.open_with_key(&key(1), &sealed(600), 1), Err(Refusal::NotSealed));
        assert_eq!(Age.open_with_key(&key(1), &sealed(2), 1), Err(Refusal::NotForThisKey));
    }

    #[test]
    fn what_is_cut_short_anywhere_does_not_open() {
        let epoch = EpochKey::from_bytes([1; 32]);
        for seal in [&Age as &dyn Seal, &StandIn] {
            let sealed = seal.seal_to_epoch(&epoch, &[9; 100]);
            for length in 0..sealed.len() {
                assert!(seal.open_with_epoch(&epoch, &sealed[..length], 100).is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn nothing_and_several_chunks_are_sealed_and_opened() {
        let epoch = EpochKey::from_bytes([1; 32]);
        for length in [0, 65_536, 200_000] {
            for seal in [&Age as &dyn Seal, &StandIn] {
                let sealed = seal.seal_to_epoch(&epoch, &vec![9; length]);
                assert_eq!(seal.open_with_epoch(&epoch, &sealed, length), Ok(vec![9; length]));
            }
        }
    }

    #[test]
    fn keys_come_back_from_their_bytes_and_text_and_show_no_secret() {
        let original = SealingKey::from_bytes([0xab; 32]);
        assert_eq!(*original.to_bytes(), [0xab; 32]);
        let text = original.recipient().to_string();
        assert!(text.starts_with("age1"), "{text}");
        assert_eq!(text.parse(), Ok(original.recipient()));
        assert_eq!(text.replacen('1', "1q", 1).parse::<Recipient>(), Err(NotARecipient));
        let shown = format!("{original:?} {:?}", EpochKey::from_bytes([0xab; 32])).to_lowercase();
        assert!(!shown.contains("abab") && !shown.contains("171, 171") && !shown.contains("secret-key"), "{shown}");
    }

    #[test]
    fn the_stand_in_seals_alike_each_time_and_age_never() {
        let epoch = EpochKey::from_bytes([1; 32]);
        assert_eq!(StandIn.seal_to_epoch(&epoch, b"x"), StandIn.seal_to_epoch(&epoch, b"x"));
        assert_ne!(Age.seal_to_epoch(&epoch, b"x"), Age.seal_to_epoch(&epoch, b"x"));
    }
}
