//! An invitation to join a network, as one string that can be mailed or pasted.
//!
//! Its 128-bit secret never leaves the machine that joins. An ed25519 key is derived from it, and a request
//! carries a signature by that key (see [`crate::authority`]). What the coordinator keeps, the hash of that
//! key's public half, recognises the invitation and cannot use it; and a request that is mailed in the open
//! gives the secret to nobody. (An HMAC under the secret was rejected: whoever checks it must keep the secret.)
//!
//! This module refuses to know whether an invitation was used; the coordinator knows.

use std::fmt;

use bech32::{Bech32m, Checksum, Hrp, primitives::decode::CheckedHrpstring};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    encoding::{self, Domain, Hash},
    identity::{self, NameRefusal, NetworkId, PartnerId, PublicKey, SigningKey, Time},
};

/// The addresses an invitation may list.
pub const ADDRESSES_LIMIT: usize = 8;
/// The characters of one address.
pub const ADDRESS_LIMIT: usize = 200;
/// How long an invitation may be open: 72 hours. A string that lies in mailboxes must not stay of use.
pub const LIFE_MS: u64 = 3 * Time::DAY_MS;
/// The bytes inside: the addresses and names at their longest, and the keys.
const CONTENT_LIMIT: usize = 4096;
/// The characters of the text: eight for every five bytes, and what stands around them.
const TEXT_LIMIT: usize = CONTENT_LIMIT * 8 / 5 + 64;
const HRP: Hrp = Hrp::parse_unchecked("cwn-invite-");

/// Bech32m (BIP 350) without its bound of 1023 characters, which ends where it promises to find every three
/// errors; beyond, one mistyped text in a billion passes, and is then refused for what it says.
enum Long {}

impl Checksum for Long {
    type MidstateRepr = <Bech32m as Checksum>::MidstateRepr;
    type CorrectionField = <Bech32m as Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = <Bech32m as Checksum>::ROOT_GENERATOR;
    const ROOT_EXPONENTS: core::ops::RangeInclusive<usize> = <Bech32m as Checksum>::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = TEXT_LIMIT;
    const CHECKSUM_LENGTH: usize = <Bech32m as Checksum>::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = <Bech32m as Checksum>::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = <Bech32m as Checksum>::TARGET_RESIDUE;
}

/// The secret of an invitation: 16 random bytes, wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Secret(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Secret {
    /// The secret of 16 bytes, which must be random.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key that this secret stands for.
    pub fn key(&self) -> SigningKey {
        let mut seed = Hash::of(Domain::INVITATION_KEY, &[&self.0]);
        let key = SigningKey::from_seed(&seed.0);
        seed.0.zeroize();
        key
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whether a request that proves the secret is granted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Approve {
    /// At once.
    #[n(0)]
    Auto,
    /// When a person at the coordinator says so, having compared the fingerprint by telephone.
    #[n(1)]
    Manual,
}

/// What a partner needs to join.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Invitation {
    /// Proves that the invitation was given to whoever asks.
    #[n(0)]
    pub secret: Secret,
    /// The network; the root document that the desk hands over must have this id.
    #[n(1)]
    pub network: NetworkId,
    /// One of the keys that signed the root document.
    #[n(2)]
    pub root_key: PublicKey,
    /// The node key of the enrolment desk, which is its peer id.
    #[n(3)]
    pub desk: PublicKey,
    /// Where the desk listens.
    #[n(4)]
    pub addresses: Vec<String>,
    /// The partner that is invited.
    #[n(5)]
    pub partner: PartnerId,
    /// Its name, for people.
    #[n(6)]
    pub name: String,
    /// When the invitation ends.
    #[n(7)]
    pub expires: Time,
    /// Whether a person looks at the request first.
    #[n(8)]
    pub approve: Approve,
}

/// The hash by which the coordinator knows an invitation, given the public half of its secret's key.
pub fn secret_hash(key: &PublicKey) -> Hash {
    Hash::of(Domain::INVITATION, &[&key.0])
}

/// Why a text is not a usable invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not begin as one.
    #[error("this is not an invitation; it should begin with {HRP}1")]
    NotAnInvitation,
    /// It begins as one and its check fails.
    #[error("the invitation was mistyped or cut short; copy the whole text again, from {HRP}1 to its last letter")]
    Mistyped,
    /// Longer than an invitation can be.
    #[error(
        "the text has {length} characters where an invitation has at most {TEXT_LIMIT}; paste the invitation alone"
    )]
    TooLong {
        /// How many characters it has.
        length: usize,
    },
    /// It arrived whole, and says something this version cannot read.
    #[error("the invitation cannot be read: {0}; it may be of another version: update, or ask for another invitation")]
    Encoding(#[from] encoding::Refusal),
    /// More addresses, or longer ones, than an invitation may have.
    #[error(
        "the invitation has an unusable list of addresses: at most {ADDRESSES_LIMIT} are allowed, each of 1 to {ADDRESS_LIMIT} visible characters"
    )]
    Addresses,
    /// The partner's name cannot be shown.
    #[error("the name in the invitation cannot be used: {0}")]
    Name(NameRefusal),
    /// A key in it is of small order.
    #[error("key {0} in the invitation is of small order or no key at all; ask for another invitation")]
    Unsound(PublicKey),
}

impl Invitation {
    /// The string to hand over. It holds the secret: whoever reads it can join in the partner's name.
    pub fn to_text(&self) -> Result<Zeroizing<String>, Refusal> {
        self.check()?;
        let content = Zeroizing::new(encoding::to_bytes(self));
        let text = bech32::encode_lower::<Long>(HRP, &content);
        // `check` bounds every part, so the whole is within the limit.
        Ok(Zeroizing::new(text.unwrap_or_else(|error| unreachable!("{error}"))))
    }

    /// Reads what [`Invitation::to_text`] made, also when mail broke it into lines or shouted it.
    pub fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.len() > 2 * TEXT_LIMIT {
            return Err(Refusal::TooLong { length: text.len() });
        }
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect());
        if text.len() > TEXT_LIMIT {
            return Err(Refusal::TooLong { length: text.len() });
        }
        if !text.strip_prefix(HRP.as_str()).is_some_and(|rest| rest.starts_with('1')) {
            return Err(Refusal::NotAnInvitation);
        }
        let checked = CheckedHrpstring::new::<Long>(&text).map_err(|_where_it_broke| Refusal::Mistyped)?;
        if checked.hrp() != HRP {
            return Err(Refusal::Mistyped);
        }
        let content: Zeroizing<Vec<u8>> = Zeroizing::new(checked.byte_iter().collect());
        let invitation: Self = encoding::from_bytes(&content, CONTENT_LIMIT)?;
        invitation.check()?;
        Ok(invitation)
    }

    fn check(&self) -> Result<(), Refusal> {
        let fits = |address: &String| {
            (1..=ADDRESS_LIMIT).contains(&address.chars().count()) && address.chars().all(|c| c.is_ascii_graphic())
        };
        if self.addresses.len() > ADDRESSES_LIMIT || !self.addresses.iter().all(fits) {
            return Err(Refusal::Addresses);
        }
        identity::check_name(&self.name).map_err(Refusal::Name)?;
        match [self.root_key, self.desk].iter().find(|key| !key.is_sound()) {
            Some(unsound) => Err(Refusal::Unsound(*unsound)),
            None => Ok(()),
        }
    }

    /// Whether it has ended.
    pub fn expired(&self, now: Time) -> bool {
        now >= self.expires
    }

    /// What the coordinator keeps in place of the secret.
    pub fn secret_hash(&self) -> Hash {
        secret_hash(&self.secret.key().public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation(addresses: Vec<String>) -> Invitation {
        let key = |number| SigningKey::from_seed(&[number; 32]).public();
        Invitation {
            secret: Secret::from_bytes([5; 16]),
            network: NetworkId(Hash([6; 32])),
            root_key: key(1),
            desk: key(2),
            addresses,
            partner: "p".repeat(64).parse().unwrap(),
            name: "n".repeat(120),
            expires: Time(LIFE_MS),
            approve: Approve::Manual,
        }
    }

    #[test]
    fn the_longest_invitation_allowed_goes_through_in_capitals_too() {
        let longest = invitation(vec!["a".repeat(ADDRESS_LIMIT); ADDRESSES_LIMIT]);
        let text = longest.to_text().unwrap();
        assert_eq!(Invitation::from_text(&text), Ok(longest.clone()));
        assert_eq!(Invitation::from_text(&text.to_uppercase()), Ok(longest));
    }

    #[test]
    fn an_invitation_with_more_or_longer_or_empty_addresses_is_neither_made_nor_read() {
        for addresses in [vec!["a".to_owned(); 9], vec!["a".repeat(201)], vec![String::new()], vec!["a b".to_owned()]] {
            let refused = invitation(addresses);
            assert_eq!(refused.to_text(), Err(Refusal::Addresses));
            let text = bech32::encode_lower::<Long>(HRP, &encoding::to_bytes(&refused)).unwrap();
            assert_eq!(Invitation::from_text(&text), Err(Refusal::Addresses));
        }
    }

    #[test]
    fn a_text_far_too_long_is_refused_before_it_is_looked_at() {
        let long = "q".repeat(100_000);
        assert_eq!(Invitation::from_text(&long), Err(Refusal::TooLong { length: 100_000 }));
    }

    #[test]
    fn the_checksum_is_consistent_beyond_its_usual_length() {
        Long::sanity_check();
    }

    #[test]
    fn an_invitation_shows_no_secret_in_a_log() {
        assert!(!format!("{:?}", invitation(vec![])).contains("5, 5"));
    }
}
