//! The root document: which keys are the root of a network, and which issuers they allow.
//!
//! Plain ed25519 signatures beside each other rather than one aggregate, so that it stays visible who signed.
//! A [`SignedRoot`] is only a claim; a [`TrustRoot`] is what a node believes, and everything that judges a
//! certificate asks for one. The network's id is the hash of version 1.
//!
//! It refuses to know which network is the right one: that comes from an invitation or from a file somebody
//! handed over. What the allowed issuers say is [`crate::certificate`] and [`crate::issuer_log`].

use minicbor::{Decode, Encode};

use crate::{
    encoding::{self, Domain, Hash},
    identity::{self, BadSignature, NameRefusal, NetworkId, PublicKey, Signature, SigningKey, Time},
    issuer_log::CutLine,
};

/// The bytes of a root document; 32 issuers and 32 dropped ones with a few logs each take a tenth of it.
pub const ROOT_LIMIT: usize = 64 * 1024;
/// The bytes of a root document with its signatures, of which there are at most [`KEYS_LIMIT`].
pub const SIGNED_ROOT_LIMIT: usize = ROOT_LIMIT + 4 * 1024;
/// The root keys of a network: as many as people who can still be called together to sign.
pub const KEYS_LIMIT: usize = 16;
/// The issuers a network allows or dropped: a coordinator and its deputies, over years of 90 days.
pub const ISSUERS_LIMIT: usize = 32;
/// How long an issuer may issue, unless told otherwise: 90 days.
pub const ISSUER_LIFE_MS: u64 = 90 * Time::DAY_MS;
/// How fresh the issuers' word must be, unless told otherwise: a day.
pub const FRESHNESS_MS: u64 = Time::DAY_MS;

/// The line of the root document that allows an issuer. It is the issuer's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct IssuerTerm {
    /// The issuer's key; also the author of the issuer's logs.
    #[n(0)]
    pub issuer: PublicKey,
    /// The first moment at which a certificate of this issuer may begin.
    #[n(1)]
    pub not_before: Time,
    /// The last such moment.
    #[n(2)]
    pub not_after: Time,
}

impl IssuerTerm {
    /// Whether a certificate may begin at `time`.
    pub fn includes(&self, time: Time) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

/// An issuer that this version no longer allows, and how much of what it said stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DroppedIssuer {
    /// The issuer's key.
    #[n(0)]
    pub issuer: PublicKey,
    /// The last good head of each of its logs; what lies beyond does not stand.
    #[n(1)]
    pub heads: Vec<CutLine>,
}

/// What the root keys say together.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RootDocument {
    /// 1 for the first, and one more for each that follows.
    #[n(0)]
    pub version: u32,
    /// The network's name, for people.
    #[n(1)]
    pub name: String,
    /// The root keys.
    #[n(2)]
    pub keys: Vec<PublicKey>,
    /// How many of the root keys must sign.
    #[n(3)]
    pub threshold: u16,
    /// The issuers these keys allow.
    #[n(4)]
    pub issuers: Vec<IssuerTerm>,
    /// How old the issuers' newest word may be before a node warns, in milliseconds.
    #[n(5)]
    pub freshness_ms: u64,
    /// The hash of the version before; none in version 1.
    #[n(6)]
    pub previous: Option<Hash>,
    /// The issuers that an earlier version allowed and this one does not.
    #[n(7)]
    pub dropped: Vec<DroppedIssuer>,
}

/// Why a root document was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not the canonical form of a root document.
    #[error("the root document cannot be read: {0}; ask the coordinator for it again")]
    Encoding(#[from] encoding::Refusal),
    /// It is a later version, where the first was needed.
    #[error("this is version {0} of a root document where version 1 is needed; ask the coordinator for the first")]
    NotTheFirst(u32),
    /// A first version that speaks of one before it.
    #[error("version 1 of the root document names a version or an issuer before it; it was not made by cwn-ca")]
    FirstWithPast,
    /// The network's name cannot be shown.
    #[error("the network's name in the root document cannot be used: {0}")]
    Name(NameRefusal),
    /// More of something than a root document may list, or none of what it must.
    #[error("the root document lists {count} {what}; between {least} and {most} are allowed")]
    Count {
        /// What there is too much or too little of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there must be.
        least: usize,
        /// How many there may be.
        most: usize,
    },
    /// A threshold that no signatures can reach, or that needs none.
    #[error("the root document wants {threshold} signatures of {keys} keys; the threshold must be from 1 to {keys}")]
    Threshold {
        /// How many must sign.
        threshold: u16,
        /// How many can.
        keys: usize,
    },
    /// A key stands there twice, so that one signer would count as two.
    #[error("key {0} stands twice in the root document or among its signatures; each may stand there once")]
    Repeated(PublicKey),
    /// A key that cannot have signed anything.
    #[error("key {0} in the root document is of small order or no key at all; make another")]
    Unsound(PublicKey),
    /// An issuer whose term ends before it begins.
    #[error("the term of issuer {issuer} ends on {} and begins only on {}", not_after.date(), not_before.date())]
    EmptyTerm {
        /// The issuer.
        issuer: PublicKey,
        /// When its term begins.
        not_before: Time,
        /// When its term ends.
        not_after: Time,
    },
    /// A signature by a key that is no root key.
    #[error("the root document is signed by {0}, which is not one of its root keys")]
    StrangeSigner(PublicKey),
    /// A root key's signature does not hold.
    #[error(
        "the signature of root key {0} does not hold: the root document was altered; ask the coordinator for it again"
    )]
    Signature(PublicKey, #[source] BadSignature),
    /// Too few root keys signed.
    #[error("{signed} of {threshold} root keys signed; let {} more sign", usize::from(*threshold) - signed)]
    TooFew {
        /// How many signed.
        signed: usize,
        /// How many must.
        threshold: u16,
    },
}

impl RootDocument {
    /// What must hold of every version.
    fn check(&self) -> Result<(), Refusal> {
        identity::check_name(&self.name).map_err(Refusal::Name)?;
        count("root keys", self.keys.len(), 1, KEYS_LIMIT)?;
        count("issuers", self.issuers.len(), 1, ISSUERS_LIMIT)?;
        count("dropped issuers", self.dropped.len(), 0, ISSUERS_LIMIT)?;
        if self.threshold == 0 || usize::from(self.threshold) > self.keys.len() {
            return Err(Refusal::Threshold { threshold: self.threshold, keys: self.keys.len() });
        }
        distinct(self.keys.iter())?;
        distinct(self.issuers.iter().map(|term| &term.issuer).chain(self.dropped.iter().map(|drop| &drop.issuer)))?;
        if let Some(unsound) = self.keys.iter().chain(self.issuers.iter().map(|t| &t.issuer)).find(|k| !k.is_sound()) {
            return Err(Refusal::Unsound(*unsound));
        }
        match self.issuers.iter().find(|term| term.not_after <= term.not_before) {
            Some(&IssuerTerm { issuer, not_before, not_after }) => {
                Err(Refusal::EmptyTerm { issuer, not_before, not_after })
            }
            None => Ok(()),
        }
    }
}

fn count(what: &'static str, count: usize, least: usize, most: usize) -> Result<(), Refusal> {
    if (least..=most).contains(&count) { Ok(()) } else { Err(Refusal::Count { what, count, least, most }) }
}

fn distinct<'a>(keys: impl Iterator<Item = &'a PublicKey>) -> Result<(), Refusal> {
    let mut sorted: Vec<_> = keys.collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::Repeated(*pair[0])),
        None => Ok(()),
    }
}

/// A root document and the signatures under it. What it says can be read only by verifying.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedRoot {
    #[cbor(n(0), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[n(1)]
    signatures: Vec<(PublicKey, Signature)>,
}

impl SignedRoot {
    /// Signs `document` with each of `keys`.
    pub fn sign(document: &RootDocument, keys: &[&SigningKey]) -> Self {
        let bytes = encoding::to_bytes(document);
        let signatures = keys.iter().map(|key| (key.public(), key.sign(Domain::ROOT, &bytes))).collect();
        Self { bytes, signatures }
    }

    /// Reads what [`encoding::to_bytes`] made of a signed root document; its signatures are not checked yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(encoding::from_bytes(bytes, SIGNED_ROOT_LIMIT)?)
    }

    /// What the document says, if it is a first version and the threshold of its own keys signed it.
    pub fn verify_first(&self) -> Result<RootDocument, Refusal> {
        let document: RootDocument = encoding::from_bytes(&self.bytes, ROOT_LIMIT)?;
        if document.version != 1 {
            return Err(Refusal::NotTheFirst(document.version));
        }
        if document.previous.is_some() || !document.dropped.is_empty() {
            return Err(Refusal::FirstWithPast);
        }
        document.check()?;
        self.verify_by(&document.keys, document.threshold)?;
        Ok(document)
    }

    /// Every signature must hold, not only enough of them: one that does not was put there by somebody.
    fn verify_by(&self, keys: &[PublicKey], threshold: u16) -> Result<(), Refusal> {
        count("signatures", self.signatures.len(), 1, KEYS_LIMIT)?;
        distinct(self.signatures.iter().map(|(key, _)| key))?;
        for (key, signature) in &self.signatures {
            if !keys.contains(key) {
                return Err(Refusal::StrangeSigner(*key));
            }
            key.verify(Domain::ROOT, &self.bytes, signature).map_err(|bad| Refusal::Signature(*key, bad))?;
        }
        let signed = self.signatures.len();
        if signed < usize::from(threshold) { Err(Refusal::TooFew { signed, threshold }) } else { Ok(()) }
    }

    /// The id of the network of which this is the first version.
    pub fn network_id(&self) -> NetworkId {
        NetworkId(Hash::of(Domain::ROOT, &[&self.bytes]))
    }

    /// Who signed, as claimed.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signatures.iter().map(|(key, _)| key)
    }
}

/// The root of trust of this network as it stands: a verified root document.
#[derive(Debug, Clone)]
pub struct TrustRoot {
    network: NetworkId,
    document: RootDocument,
    signed: SignedRoot,
}

impl TrustRoot {
    /// The trust that a first version founds. Whoever calls this has compared the network's id with what an
    /// invitation or a person said.
    pub fn from_first(signed: &SignedRoot) -> Result<Self, Refusal> {
        Ok(Self { network: signed.network_id(), document: signed.verify_first()?, signed: signed.clone() })
    }

    /// The network's id.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// What the root keys say.
    pub fn document(&self) -> &RootDocument {
        &self.document
    }

    /// The term of an issuer, if it is allowed.
    pub fn issuer(&self, key: &PublicKey) -> Option<&IssuerTerm> {
        self.document.issuers.iter().find(|term| term.issuer == *key)
    }

    /// The document with its signatures, to hand on.
    pub fn signed(&self) -> &SignedRoot {
        &self.signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_seed(&[number; 32])
    }

    fn document() -> RootDocument {
        RootDocument {
            version: 1,
            name: "test".to_owned(),
            keys: vec![key(1).public(), key(2).public(), key(3).public()],
            threshold: 2,
            issuers: vec![IssuerTerm { issuer: key(4).public(), not_before: Time(0), not_after: Time(ISSUER_LIFE_MS) }],
            freshness_ms: FRESHNESS_MS,
            previous: None,
            dropped: Vec::new(),
        }
    }

    fn judge(change: impl FnOnce(&mut RootDocument)) -> Result<(), Refusal> {
        let mut document = document();
        change(&mut document);
        SignedRoot::sign(&document, &[&key(1), &key(2)]).verify_first().map(drop)
    }

    #[test]
    fn a_first_version_that_breaks_a_rule_founds_nothing() {
        assert_eq!(judge(|_| {}), Ok(()));
        assert_eq!(judge(|d| d.version = 2), Err(Refusal::NotTheFirst(2)));
        assert_eq!(judge(|d| d.previous = Some(Hash([0; 32]))), Err(Refusal::FirstWithPast));
        assert_eq!(judge(|d| d.threshold = 0), Err(Refusal::Threshold { threshold: 0, keys: 3 }));
        assert_eq!(judge(|d| d.threshold = 4), Err(Refusal::Threshold { threshold: 4, keys: 3 }));
        assert_eq!(judge(|d| d.keys[2] = d.keys[0]), Err(Refusal::Repeated(key(1).public())));
        assert_eq!(judge(|d| d.issuers.push(d.issuers[0])), Err(Refusal::Repeated(key(4).public())));
        assert_eq!(judge(|d| d.keys[2] = PublicKey([0; 32])), Err(Refusal::Unsound(PublicKey([0; 32]))));
        let turned = |d: &mut RootDocument| d.name = "a\u{202e}b".to_owned();
        assert_eq!(judge(turned), Err(Refusal::Name(NameRefusal::Invisible('\u{202e}'))));
        assert!(matches!(judge(|d| d.issuers[0].not_after = Time(0)), Err(Refusal::EmptyTerm { .. })));
        assert!(matches!(judge(|d| d.issuers.clear()), Err(Refusal::Count { what: "issuers", count: 0, .. })));
        let crowd = |d: &mut RootDocument| d.keys = (1..=17).map(|number| key(number).public()).collect();
        assert!(matches!(judge(crowd), Err(Refusal::Count { what: "root keys", count: 17, .. })));
    }

    #[test]
    fn one_signer_is_one_signer_however_often_it_signs() {
        let judge = |signers: &[&SigningKey]| SignedRoot::sign(&document(), signers).verify_first().map(drop);
        assert_eq!(judge(&[&key(1)]), Err(Refusal::TooFew { signed: 1, threshold: 2 }));
        assert_eq!(judge(&[&key(1), &key(1)]), Err(Refusal::Repeated(key(1).public())));
        assert_eq!(judge(&[&key(1), &key(2), &key(9)]), Err(Refusal::StrangeSigner(key(9).public())));
    }

    #[test]
    fn another_document_under_the_same_signatures_is_refused() {
        let mut signed = SignedRoot::sign(&document(), &[&key(1), &key(2)]);
        let network = signed.network_id();
        signed.bytes = encoding::to_bytes(&RootDocument { name: "other".to_owned(), ..document() });
        assert!(matches!(signed.verify_first(), Err(Refusal::Signature(..))));
        assert_ne!(signed.network_id(), network);
    }
}
