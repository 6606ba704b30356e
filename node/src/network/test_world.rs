//! A network for the tests of this crate: a root, an issuer, and certificates good and bad.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cwn_crypto::{
    certificate::{Certificate, SUITE, SignedCertificate},
    encoding::Domain,
    identity::{Signed, SigningKey, Time},
    root::{DroppedIssuer, IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::SealingKey,
};

use super::Gate;

/// A key that depends on a number.
pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

const ROOT: u8 = 250;
const ISSUER: u8 = 251;
/// When certificates begin.
pub(super) const BEGIN: Time = Time(100 * Time::DAY_MS);

/// One network, and the clock all its nodes share.
pub(crate) struct World {
    pub(crate) root: TrustRoot,
    issuer: SigningKey,
    clock: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::named("proefnet")
    }

    pub(super) fn named(name: &str) -> Self {
        let (root, issuer) = (key(ROOT), key(ISSUER));
        let term = IssuerTerm { issuer: issuer.public(), not_before: Time(0), not_after: Time(200 * Time::DAY_MS) };
        let document = RootDocument {
            version: 1,
            name: name.to_owned(),
            keys: vec![root.public()],
            threshold: 1,
            issuers: vec![term],
            freshness_ms: Time::DAY_MS,
            previous: None,
            dropped: Vec::new(),
        };
        let root = TrustRoot::from_first(&SignedRoot::sign(&document, &[&root])).unwrap();
        Self { root, issuer, clock: Arc::new(AtomicU64::new(BEGIN.plus(Time::DAY_MS).0)) }
    }

    /// Sets the clock of every node, counted from the beginning of the certificates.
    pub(super) fn set_days(&self, days: u64) {
        self.clock.store(BEGIN.plus(days * Time::DAY_MS).0, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.clock.load(Ordering::Relaxed))
    }

    /// What the issuer would say of a node.
    pub(super) fn contents(&self, partner: &str, node: u8) -> Certificate {
        Certificate {
            suite: SUITE,
            network: self.root.network(),
            serial: u64::from(node),
            node: key(node).public(),
            recipient: SealingKey::from_bytes([node; 32]).recipient(),
            partner: partner.parse().unwrap(),
            name: partner.to_uppercase(),
            not_before: BEGIN,
            not_after: BEGIN.plus(30 * Time::DAY_MS),
            issuer: self.issuer.public(),
        }
    }

    /// The root of trust after the issuer was dropped, and the key of its successor.
    pub(super) fn successor(&self) -> (TrustRoot, SigningKey) {
        let (mut root, next) = (self.root.clone(), key(252));
        let proposal = root.propose(|document| {
            let term = document.issuers.remove(0);
            document.dropped.push(DroppedIssuer { issuer: term.issuer, heads: Vec::new() });
            document.issuers.push(IssuerTerm { issuer: next.public(), ..term });
        });
        let mut signed = proposal.unwrap();
        signed.add_signature(&key(ROOT));
        root.advance(&signed).unwrap();
        (root, next)
    }

    /// A root of trust after its next version, which says nothing but another name.
    pub(super) fn renamed(&self, root: &TrustRoot) -> TrustRoot {
        let mut signed = root.propose(|document| document.name.push_str(" anew")).unwrap();
        signed.add_signature(&key(ROOT));
        let mut root = root.clone();
        root.advance(&signed).unwrap();
        root
    }

    pub(super) fn sign(&self, contents: &Certificate) -> SignedCertificate {
        Signed::sign(contents, Domain::CERTIFICATE, &self.issuer)
    }

    pub(super) fn certificate(&self, partner: &str, node: u8) -> SignedCertificate {
        self.sign(&self.contents(partner, node))
    }

    /// A gate that shows this certificate.
    pub(super) fn gate_with(&self, own: &SignedCertificate) -> Arc<Gate> {
        let clock = self.clock.clone();
        Gate::new(self.root.clone(), own, move || Time(clock.load(Ordering::Relaxed)))
    }

    /// The gate of a member.
    pub(super) fn gate(&self, partner: &str, node: u8) -> Arc<Gate> {
        self.gate_with(&self.certificate(partner, node))
    }
}
