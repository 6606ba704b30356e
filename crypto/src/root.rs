//! The root document: which keys are the root of a network, and which issuers they allow.
//!
//! Plain ed25519 signatures beside each other rather than one aggregate, so that it stays visible who signed.
//! A [`SignedRoot`] is only a claim; a [`TrustRoot`] is what a node believes, and everything that judges a
//! certificate asks for one. The network's id is the hash of version 1. Version v+1 is signed by the threshold of
//! the keys of v and of v+1, so that root keys can be replaced; it names the last good head of every issuer it
//! drops, so that what an issuer certified before its key was stolen goes on, and what the thief said does not.
//!
//! It refuses to know which network is the right one: that comes from an invitation or from a file somebody
//! handed over. What the allowed issuers say is [`crate::certificate`] and [`crate::issuer_log`].

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::{
    encoding::{self, Domain, Hash},
    identity::{self, BadSignature, NameRefusal, NetworkId, PublicKey, Signature, SigningKey, Time},
    issuer_log::CutLine,
};

/// The bytes of a root document; 32 issuers and 256 dropped ones with a log each take two thirds of it. With its
/// signatures it fits in one message of an admission.
pub const ROOT_LIMIT: usize = 48 * 1024;
/// The bytes of a root document with its signatures: those of two full sets of [`KEYS_LIMIT`] keys.
pub const SIGNED_ROOT_LIMIT: usize = ROOT_LIMIT + 4 * 1024;
/// The versions of one network's root document: one a season for sixty years.
pub const VERSIONS_LIMIT: usize = 256;
/// The bytes of all versions together; they grow with the dropped issuers, and most are a kilobyte.
pub const CHAIN_LIMIT: usize = 4 << 20;
/// The root keys of a network: as many as people who can still be called together to sign.
pub const KEYS_LIMIT: usize = 16;
/// The issuers a network allows at one time: a coordinator and its deputies, and the keys before theirs.
pub const ISSUERS_LIMIT: usize = 32;
/// The issuers a network dropped. None is ever forgotten, for what it certified in its time goes on: four keys a
/// year for sixty years.
pub const DROPPED_LIMIT: usize = 256;
/// The heads named of one dropped issuer. Its logs cite one another, so that one is usual.
pub const HEADS_LIMIT: usize = 64;
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
    /// Every issuer that an earlier version allowed and this one does not.
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
    /// It is not the version that comes next.
    #[error("this is version {found} of the root document where version {expected} comes next; {}", if found > expected { "ask for those between" } else { "it is held already, or out of date" })]
    NotTheNext {
        /// Its version.
        found: u32,
        /// The version that comes next.
        expected: u32,
    },
    /// It follows another document than the one that is held.
    #[error(
        "version {0} of the root document follows another version before it than the one held here; it is of another network, or the root keys signed two versions: call the other root key holders"
    )]
    OtherPast(u32),
    /// The root keys signed two documents for one version.
    #[error(
        "the root keys signed another version {0} of the root document than the one held here; call the root key holders: one of the two is a mistake, or keys were stolen"
    )]
    Forked(u32),
    /// It neither allows nor drops an issuer that the version before knew.
    #[error(
        "the root document forgets issuer {0}; list it among the allowed, or among the dropped with its last good head"
    )]
    Forgotten(PublicKey),
    /// It drops an issuer that no version allowed.
    #[error("the root document drops issuer {0}, which no version before it allowed; leave it out")]
    NeverAllowed(PublicKey),
    /// The heads of a dropped issuer are not each once and in order.
    #[error("the heads of dropped issuer {0} must list each log once, in the order of their ids")]
    HeadsOrder(PublicKey),
    /// A network has no more versions than this.
    #[error("a network has at most {VERSIONS_LIMIT} versions of its root document; found another network")]
    TooManyVersions,
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
    #[error("{signed} of {threshold} root keys{} signed; let {} more sign", if *before { " of the version before" } else { "" }, usize::from(*threshold).saturating_sub(*signed))]
    TooFew {
        /// Whether the keys of the version before are meant, which must sign too.
        before: bool,
        /// How many signed.
        signed: usize,
        /// How many must.
        threshold: u16,
    },
}

impl RootDocument {
    fn allows(&self, key: &PublicKey) -> bool {
        self.issuers.iter().any(|term| term.issuer == *key)
    }

    fn drop_of(&self, key: &PublicKey) -> Option<&DroppedIssuer> {
        self.dropped.iter().find(|dropped| dropped.issuer == *key)
    }

    /// What must hold of every version.
    fn check(&self) -> Result<(), Refusal> {
        identity::check_name(&self.name).map_err(Refusal::Name)?;
        count("root keys", self.keys.len(), 1, KEYS_LIMIT)?;
        count("issuers", self.issuers.len(), 1, ISSUERS_LIMIT)?;
        count("dropped issuers", self.dropped.len(), 0, DROPPED_LIMIT)?;
        for dropped in &self.dropped {
            count("heads of a dropped issuer", dropped.heads.len(), 0, HEADS_LIMIT)?;
            if dropped.heads.windows(2).any(|pair| pair[0].log >= pair[1].log) {
                return Err(Refusal::HeadsOrder(dropped.issuer));
            }
        }
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
        self.verify_by(&document.keys)?;
        self.reaches(&document, false)?;
        Ok(document)
    }

    /// What the document says, if it may come after `before`. Whether enough keys signed is not asked yet; every
    /// signature that is there must hold.
    fn verify_after(&self, before: &TrustRoot) -> Result<RootDocument, Refusal> {
        let document: RootDocument = encoding::from_bytes(&self.bytes, ROOT_LIMIT)?;
        let expected = before.version().saturating_add(1);
        if document.version != expected {
            return Err(Refusal::NotTheNext { found: document.version, expected });
        }
        if document.previous != Some(before.signed().hash()) {
            return Err(Refusal::OtherPast(document.version));
        }
        document.check()?;
        let (allowed, dropped) = (|key| document.allows(key), |key| document.drop_of(key).is_some());
        if let Some(forgotten) = before.terms.keys().find(|key| !allowed(key) && !dropped(key)) {
            return Err(Refusal::Forgotten(*forgotten));
        }
        if let Some(never) = document.dropped.iter().find(|dropped| !before.terms.contains_key(&dropped.issuer)) {
            return Err(Refusal::NeverAllowed(never.issuer));
        }
        let mut keys = before.document.keys.clone();
        keys.extend(document.keys.iter().filter(|key| !before.document.keys.contains(key)));
        self.verify_by(&keys)?;
        Ok(document)
    }

    /// Every signature must hold, not only enough of them: one that does not was put there by somebody.
    fn verify_by(&self, keys: &[PublicKey]) -> Result<(), Refusal> {
        count("signatures", self.signatures.len(), 0, 2 * KEYS_LIMIT)?;
        distinct(self.signatures.iter().map(|(key, _)| key))?;
        for (key, signature) in &self.signatures {
            if !keys.contains(key) {
                return Err(Refusal::StrangeSigner(*key));
            }
            key.verify(Domain::ROOT, &self.bytes, signature).map_err(|bad| Refusal::Signature(*key, bad))?;
        }
        Ok(())
    }

    /// Whether the threshold of a document's keys signed this one.
    fn reaches(&self, document: &RootDocument, before: bool) -> Result<(), Refusal> {
        let signed = self.signers().filter(|key| document.keys.contains(key)).count();
        let threshold = document.threshold;
        if signed < usize::from(threshold) { Err(Refusal::TooFew { before, signed, threshold }) } else { Ok(()) }
    }

    /// Adds the signature of `key`, unless it is there.
    pub fn add_signature(&mut self, key: &SigningKey) {
        let public = key.public();
        if !self.signers().any(|signer| *signer == public) {
            self.signatures.push((public, key.sign(Domain::ROOT, &self.bytes)));
        }
    }

    /// Takes over the signatures that others gave to the same document. Whether they hold is for
    /// [`TrustRoot::review`] to say. Returns whether it is the same document.
    pub fn add_signatures_of(&mut self, other: &Self) -> bool {
        if self.bytes != other.bytes {
            return false;
        }
        for (key, signature) in &other.signatures {
            if !self.signers().any(|signer| signer == key) {
                self.signatures.push((*key, *signature));
            }
        }
        true
    }

    /// The hash that the next version names.
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::ROOT, &[&self.bytes])
    }

    /// The id of the network of which this is the first version.
    pub fn network_id(&self) -> NetworkId {
        NetworkId(self.hash())
    }

    /// Which version it claims to be.
    pub fn version(&self) -> Result<u32, Refusal> {
        Ok(encoding::from_bytes::<RootDocument>(&self.bytes, ROOT_LIMIT)?.version)
    }

    /// Who signed, as claimed.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signatures.iter().map(|(key, _)| key)
    }
}

/// All versions of a network's root document, the first in front. As with [`SignedRoot`], only a claim.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct RootChain(#[n(0)] pub Vec<SignedRoot>);

impl RootChain {
    /// Reads what [`encoding::to_bytes`] made of a chain, or of a first version alone, as it was written before there
    /// were others; signatures are not checked yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        match SignedRoot::from_bytes(bytes) {
            Ok(first) => Ok(Self(vec![first])),
            Err(_) => Ok(encoding::from_bytes(bytes, CHAIN_LIMIT)?),
        }
    }

    /// The id of the network that its first version founds.
    pub fn network_id(&self) -> Option<NetworkId> {
        self.0.first().map(SignedRoot::network_id)
    }
}

/// What the root keys ever said of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownIssuer<'a> {
    /// Its term, as the last version that allowed it has it.
    pub term: &'a IssuerTerm,
    /// The first version that allowed it.
    pub since_version: u32,
    /// The last good heads of its logs, when it is dropped.
    pub dropped: Option<&'a [CutLine]>,
}

/// What a proposed version still lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// What it says.
    pub document: RootDocument,
    /// The root keys that signed it.
    pub signed: Vec<PublicKey>,
    /// Those of the version before and of this one that did not.
    pub unsigned: Vec<PublicKey>,
    /// Why it cannot be adopted yet, if it cannot.
    pub lacks: Option<Refusal>,
}

/// The root of trust of this network as it stands: the verified versions of the root document, from the first on.
///
/// It advances from version to version and never goes back. Of two documents that the root keys signed for one
/// version the one that came first stands, for any rule that could choose the other would let who steals old root
/// keys take a network over long after they were replaced. It is an alarm instead, which people settle.
#[derive(Debug, Clone)]
pub struct TrustRoot {
    network: NetworkId,
    document: RootDocument,
    chain: Vec<SignedRoot>,
    /// Every issuer that a version allowed: its last term, and the first version that did.
    terms: BTreeMap<PublicKey, (IssuerTerm, u32)>,
}

impl TrustRoot {
    /// The trust that a first version founds. Whoever calls this has compared the network's id with what an
    /// invitation or a person said.
    pub fn from_first(signed: &SignedRoot) -> Result<Self, Refusal> {
        let document = signed.verify_first()?;
        let terms = document.issuers.iter().map(|term| (term.issuer, (*term, 1))).collect();
        Ok(Self { network: signed.network_id(), document, chain: vec![signed.clone()], terms })
    }

    /// The trust that a chain of versions founds, every one of them verified. As with [`Self::from_first`] the
    /// caller has compared the network's id.
    pub fn from_chain(chain: &RootChain) -> Result<Self, Refusal> {
        let first = chain.0.first();
        let mut root = Self::from_first(first.ok_or(Refusal::Count {
            what: "versions",
            count: 0,
            least: 1,
            most: VERSIONS_LIMIT,
        })?)?;
        chain.0[1..].iter().try_for_each(|next| root.advance(next))?;
        Ok(root)
    }

    /// Goes on to the next version, which the threshold of this one's keys and of its own signed.
    pub fn advance(&mut self, next: &SignedRoot) -> Result<(), Refusal> {
        let Review { document, lacks, .. } = self.review(next)?;
        if let Some(lacks) = lacks {
            return Err(lacks);
        }
        for term in &document.issuers {
            let since = self.terms.get(&term.issuer).map_or(document.version, |(_, since)| *since);
            self.terms.insert(term.issuer, (*term, since));
        }
        self.chain.push(next.clone());
        self.document = document;
        Ok(())
    }

    /// Looks at a proposed next version before all have signed.
    pub fn review(&self, proposal: &SignedRoot) -> Result<Review, Refusal> {
        if self.chain.len() >= VERSIONS_LIMIT {
            return Err(Refusal::TooManyVersions);
        }
        let document = proposal.verify_after(self)?;
        let lacks = proposal.reaches(&self.document, true).and_then(|()| proposal.reaches(&document, false)).err();
        let signed: Vec<PublicKey> = proposal.signers().copied().collect();
        let mut unsigned: Vec<PublicKey> = self.document.keys.clone();
        unsigned.extend(document.keys.iter().filter(|key| !self.document.keys.contains(key)));
        unsigned.retain(|key| !signed.contains(key));
        Ok(Review { document, signed, unsigned, lacks })
    }

    /// Goes on along `versions` as far as they lead on from here; what is held already, or does not follow yet, is
    /// passed over. Returns how many versions were gone on.
    ///
    /// A document for a version held here that differs and that root keys signed is [`Refusal::Forked`].
    pub fn adopt(&mut self, versions: &[SignedRoot]) -> Result<usize, Refusal> {
        let mut advanced = 0;
        for signed in versions {
            let version = signed.version()?;
            match (version.checked_sub(1).map(|place| place as usize), self.chain.len()) {
                (Some(place), held) if place == held => {
                    self.advance(signed)?;
                    advanced += 1;
                }
                (Some(place), held) if place < held => self.check_fork(signed, place)?,
                _ => {}
            }
        }
        Ok(advanced)
    }

    /// Whether a document is another than the one held at `place`, and the root keys of that time signed it.
    fn check_fork(&self, signed: &SignedRoot, place: usize) -> Result<(), Refusal> {
        if self.chain[place].hash() == signed.hash() || place == 0 {
            // Another first version is another network.
            return Ok(());
        }
        // Of a whole chain that parted from this one only the first that differs is worth the signatures.
        let document: RootDocument = encoding::from_bytes(&signed.bytes, ROOT_LIMIT)?;
        if document.previous != Some(self.chain[place - 1].hash()) {
            return Err(Refusal::OtherPast(document.version));
        }
        let mut before = Self::from_chain(&RootChain(self.chain[..place].to_vec()))?;
        before.advance(signed)?;
        Err(Refusal::Forked(before.version()))
    }

    /// The network's id.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// What the root keys say.
    pub fn document(&self) -> &RootDocument {
        &self.document
    }

    /// The version that stands.
    pub fn version(&self) -> u32 {
        self.document.version
    }

    /// The term of an issuer, if it is allowed.
    pub fn issuer(&self, key: &PublicKey) -> Option<&IssuerTerm> {
        self.document.issuers.iter().find(|term| term.issuer == *key)
    }

    /// What the root keys ever said of an issuer; none of a key that is no issuer.
    pub fn known(&self, key: &PublicKey) -> Option<KnownIssuer<'_>> {
        let (term, since_version) = self.terms.get(key)?;
        let dropped = self.document.drop_of(key).map(|dropped| dropped.heads.as_slice());
        Some(KnownIssuer { term, since_version: *since_version, dropped })
    }

    /// The version that stands, with its signatures.
    pub fn signed(&self) -> &SignedRoot {
        // There is a first version in every chain.
        &self.chain[self.chain.len() - 1]
    }

    /// All versions, to hand on.
    pub fn chain(&self) -> RootChain {
        RootChain(self.chain.clone())
    }

    /// The versions after `version`, to hand to who holds that one.
    pub fn after(&self, version: u32) -> &[SignedRoot] {
        &self.chain[(version as usize).min(self.chain.len())..]
    }

    /// Proposes a next version: this one with `change` made to it, signed by nobody yet.
    pub fn propose(&self, change: impl FnOnce(&mut RootDocument)) -> Result<SignedRoot, Refusal> {
        let mut document = self.document.clone();
        change(&mut document);
        document.version = self.version().saturating_add(1);
        document.previous = Some(self.signed().hash());
        let proposal = SignedRoot::sign(&document, &[]);
        self.review(&proposal)?;
        Ok(proposal)
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
        assert_eq!(judge(&[&key(1)]), Err(Refusal::TooFew { before: false, signed: 1, threshold: 2 }));
        assert_eq!(judge(&[&key(1), &key(1)]), Err(Refusal::Repeated(key(1).public())));
        assert_eq!(judge(&[&key(1), &key(2), &key(9)]), Err(Refusal::StrangeSigner(key(9).public())));
    }

    fn founded() -> TrustRoot {
        TrustRoot::from_first(&SignedRoot::sign(&document(), &[&key(1), &key(2)])).unwrap()
    }

    fn drop_issuer(document: &mut RootDocument) {
        let issuer = document.issuers.remove(0).issuer;
        document.issuers.push(IssuerTerm { issuer: key(5).public(), not_before: Time(9), not_after: Time(99) });
        let heads = vec![CutLine { log: crate::issuer_log::LogId([1; 16]), height: 3, head: Hash([3; 32]) }];
        document.dropped.push(DroppedIssuer { issuer, heads });
    }

    fn signed_by(mut proposal: SignedRoot, numbers: &[u8]) -> SignedRoot {
        numbers.iter().for_each(|number| proposal.add_signature(&key(*number)));
        proposal
    }

    #[test]
    fn a_next_version_needs_the_threshold_of_the_keys_before_and_of_its_own() {
        let root = founded();
        // One of three root keys was lost: two of the old ones put two new ones in its place.
        let proposal = root.propose(|document| {
            document.keys = vec![key(1).public(), key(6).public(), key(7).public()];
        });
        let proposal = proposal.unwrap();
        let judge = |signers: &[u8]| root.clone().advance(&signed_by(proposal.clone(), signers));
        let too_few = |before, signed| Err(Refusal::TooFew { before, signed, threshold: 2 });
        assert_eq!(judge(&[]), too_few(true, 0));
        assert_eq!(judge(&[1]), too_few(true, 1));
        assert_eq!(judge(&[1, 2]), too_few(false, 1));
        assert_eq!(judge(&[6, 7]), too_few(true, 0));
        assert_eq!(judge(&[1, 2, 6]), Ok(()));
        assert_eq!(judge(&[1, 2, 6, 9]), Err(Refusal::StrangeSigner(key(9).public())));
        let mut root = root;
        root.advance(&signed_by(proposal, &[2, 1, 7])).unwrap();
        assert_eq!((root.version(), root.network()), (2, founded().network()));
        let third = root.propose(|document| document.name = "renamed".to_owned()).unwrap();
        assert_eq!(root.advance(&signed_by(third.clone(), &[1, 2])), Err(Refusal::StrangeSigner(key(2).public())));
        root.advance(&signed_by(third, &[6, 7])).unwrap();
        let again = TrustRoot::from_chain(&RootChain::from_bytes(&encoding::to_bytes(&root.chain())).unwrap()).unwrap();
        assert_eq!((again.version(), again.document().name.as_str(), again.network()), (3, "renamed", root.network()));
    }

    #[test]
    fn a_review_says_who_signed_and_who_is_asked_yet() {
        let root = founded();
        let proposal = root.propose(drop_issuer).unwrap();
        let one = signed_by(proposal.clone(), &[3]);
        let review = root.review(&one).unwrap();
        assert_eq!((review.signed, review.unsigned), (vec![key(3).public()], vec![key(1).public(), key(2).public()]));
        assert_eq!(review.lacks, Some(Refusal::TooFew { before: true, signed: 1, threshold: 2 }));
        // Two signed copies of one file each, and the files are put together.
        let mut together = signed_by(proposal, &[1]);
        assert!(together.add_signatures_of(&one) && together.add_signatures_of(&one));
        assert_eq!(root.review(&together).unwrap().lacks, None);
        assert!(!together.add_signatures_of(root.signed()), "another document");
    }

    #[test]
    fn a_dropped_issuer_is_not_forgotten_and_keeps_its_term() {
        let mut root = founded();
        root.advance(&signed_by(root.propose(drop_issuer).unwrap(), &[1, 2])).unwrap();
        assert_eq!(root.issuer(&key(4).public()), None);
        let known = root.known(&key(4).public()).unwrap();
        assert_eq!((known.since_version, known.dropped.map(<[CutLine]>::len)), (1, Some(1)));
        assert_eq!(*known.term, document().issuers[0]);
        assert_eq!(root.known(&key(5).public()).unwrap().since_version, 2);
        let forgets = root.propose(|document| document.dropped.clear());
        assert_eq!(forgets.unwrap_err(), Refusal::Forgotten(key(4).public()));
        let unsaid = root.propose(|document| document.issuers[0].issuer = key(6).public());
        assert_eq!(unsaid.unwrap_err(), Refusal::Forgotten(key(5).public()));
        let never = DroppedIssuer { issuer: key(8).public(), heads: Vec::new() };
        let stranger = root.propose(|document| document.dropped.push(never));
        assert_eq!(stranger.unwrap_err(), Refusal::NeverAllowed(key(8).public()));
        let twice = root.propose(|document| {
            let line = document.dropped[0].heads[0];
            document.dropped[0].heads.push(line);
        });
        assert_eq!(twice.unwrap_err(), Refusal::HeadsOrder(key(4).public()));
    }

    #[test]
    fn trust_goes_forward_only_and_two_documents_of_one_version_are_an_alarm() {
        let mut root = founded();
        let second = signed_by(root.propose(drop_issuer).unwrap(), &[1, 2]);
        let other = signed_by(root.propose(|document| document.name = "other".to_owned()).unwrap(), &[2, 3]);
        let unsigned = root.propose(|document| document.name = "unsigned".to_owned()).unwrap();
        let first = root.signed().clone();
        assert_eq!(root.adopt(&[first.clone(), second.clone()]), Ok(1));
        let third = signed_by(root.propose(|document| document.freshness_ms = 1).unwrap(), &[1, 3]);
        assert_eq!(founded().adopt(std::slice::from_ref(&third)), Ok(0), "a version between is missing");
        assert_eq!(root.adopt(&[third.clone(), second.clone(), first]), Ok(1));
        assert_eq!(root.version(), 3);
        assert_eq!(root.advance(&second), Err(Refusal::NotTheNext { found: 2, expected: 4 }));
        assert_eq!(root.adopt(&[other]), Err(Refusal::Forked(2)));
        assert!(matches!(root.adopt(&[unsigned]), Err(Refusal::TooFew { .. })), "nobody signed it: no alarm");
        assert_eq!((root.version(), root.document().freshness_ms), (3, 1));
        // The keys of the fourth version follow another third one.
        let astray = SignedRoot::sign(
            &RootDocument { version: 4, previous: Some(second.hash()), ..root.document().clone() },
            &[&key(1), &key(2)],
        );
        assert_eq!(root.advance(&astray), Err(Refusal::OtherPast(4)));
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
