//! The membership certificate: this node key and this sealing key belong to this partner, for so long.
//!
//! Small on purpose. What a partner *is* stands in the directory and changes without a new certificate. A
//! certificate is necessary and never sufficient: it lets a node connect, and puts it into no circle.
//!
//! [`verify`] is the part that no clock changes; [`Certificate::standing`] is the part that only the clock
//! changes. This module refuses to know revocations: those are in [`crate::issuer_log`].

use minicbor::{Decode, Encode};

use crate::{
    encoding::{Domain, Hash},
    identity::{self, NameRefusal, NetworkId, PartnerId, PublicKey, Signed, SignedRefusal, Time},
    root::TrustRoot,
    seal::Recipient,
};

/// The bytes of a certificate: fixed fields of 200 bytes, a short name and a name of 120 characters.
pub const CERTIFICATE_LIMIT: usize = 1024;
/// How long a certificate lasts: 30 days, so that a stolen key is of use for a month at most.
pub const LIFE_MS: u64 = 30 * Time::DAY_MS;
/// How long an expired certificate still works, shown amber: with the third of its life that is left when it
/// should have been renewed, members go on for 40 days without the coordinator.
pub const GRACE_MS: u64 = 30 * Time::DAY_MS;
/// How far a node's clock may be behind the issuer's before a fresh certificate is not yet good.
pub const SKEW_MS: u64 = 5 * 60 * Time::SECOND_MS;
/// The one suite there is: ed25519 (RFC 8032) for the node, X25519 as age uses it for sealing.
pub const SUITE: u8 = 1;

/// What an issuer says about a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// The kind of keys; [`SUITE`].
    #[n(0)]
    pub suite: u8,
    /// The network it is for.
    #[n(1)]
    pub network: NetworkId,
    /// Its number with this issuer.
    #[n(2)]
    pub serial: u64,
    /// The node's key; also its libp2p peer id and the author of its logs.
    #[n(3)]
    pub node: PublicKey,
    /// What is sealed to the node is sealed to this key.
    #[n(4)]
    pub recipient: Recipient,
    /// The partner that runs the node.
    #[n(5)]
    pub partner: PartnerId,
    /// The partner's name, for people; at most 120 visible characters.
    #[n(6)]
    pub name: String,
    /// The moment from which it holds.
    #[n(7)]
    pub not_before: Time,
    /// The moment at which it expires.
    #[n(8)]
    pub not_after: Time,
    /// The key that signed it.
    #[n(9)]
    pub issuer: PublicKey,
}

/// A certificate and its issuer's signature.
pub type SignedCertificate = Signed<Certificate>;

/// What the clock says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It begins later, by more than clocks may differ.
    NotYet,
    /// It holds.
    Valid,
    /// It has expired and still works; shown amber.
    Grace {
        /// When it expired.
        expired_at: Time,
    },
    /// It has expired and no longer works.
    Expired {
        /// When it expired.
        expired_at: Time,
    },
}

/// Why a certificate was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its bytes are not canonical, or its signature does not hold.
    #[error("the certificate cannot be trusted: {0}; ask the coordinator for it again")]
    Signed(#[from] SignedRefusal),
    /// It is of a kind this version does not know.
    #[error("certificate of {partner} has suite {suite}, which this version does not know; update this node")]
    UnknownSuite {
        /// Whose it claims to be.
        partner: PartnerId,
        /// Its suite.
        suite: u8,
    },
    /// It is for another network.
    #[error(
        "certificate of {partner} is for network {network}, not for {expected}; ask this network's coordinator for one"
    )]
    OtherNetwork {
        /// Whose it claims to be.
        partner: PartnerId,
        /// The network it is for.
        network: NetworkId,
        /// The network it was shown in.
        expected: NetworkId,
    },
    /// The root document does not allow its issuer.
    #[error(
        "certificate of {partner} is issued by {issuer}, which the root document does not allow; ask the coordinator for one"
    )]
    UnknownIssuer {
        /// Whose it claims to be.
        partner: PartnerId,
        /// Who issued it.
        issuer: PublicKey,
    },
    /// Its issuer was dropped, and its word up to there does not name the certificate.
    #[error(
        "certificate of {partner} is issued by {issuer}, which the root keys dropped, and is not among those that stand; ask the coordinator for one"
    )]
    DroppedIssuer {
        /// Whose it claims to be.
        partner: PartnerId,
        /// Who issued it.
        issuer: PublicKey,
    },
    /// It begins when its issuer was not allowed to issue.
    #[error("certificate of {partner} begins on {}, outside the term of its issuer {issuer}; ask the coordinator for another", not_before.date())]
    OutsideTerm {
        /// Whose it claims to be.
        partner: PartnerId,
        /// Who issued it.
        issuer: PublicKey,
        /// When it begins.
        not_before: Time,
    },
    /// Its node key can sign nothing.
    #[error(
        "certificate of {partner} is for node key {node}, which is of small order or no key; make new keys and join again"
    )]
    UnsoundNode {
        /// Whose it claims to be.
        partner: PartnerId,
        /// The node key.
        node: PublicKey,
    },
    /// Nothing can be sealed to its sealing key.
    #[error(
        "certificate of {partner} is for sealing key {recipient}, to which nothing can be sealed; make new keys and join again"
    )]
    UnsoundRecipient {
        /// Whose it claims to be.
        partner: PartnerId,
        /// The sealing key.
        recipient: Recipient,
    },
    /// It expires before it begins.
    #[error(
        "certificate of {partner} expires at {not_after} and begins only at {not_before}; ask the coordinator for another"
    )]
    EmptyLife {
        /// Whose it claims to be.
        partner: PartnerId,
        /// When it begins.
        not_before: Time,
        /// When it expires.
        not_after: Time,
    },
    /// Its partner's name cannot be shown.
    #[error("the name in the certificate of {partner} cannot be used: {reason}")]
    Name {
        /// Whose it claims to be.
        partner: PartnerId,
        /// What is wrong with the name.
        reason: NameRefusal,
    },
    /// It begins later.
    #[error("certificate of {partner} holds only from {not_before}; check the clock of this machine")]
    NotYet {
        /// Whose it is.
        partner: PartnerId,
        /// When it begins.
        not_before: Time,
    },
    /// It expired, and its grace is over.
    #[error("certificate of {partner} expired on {}; ask the coordinator to renew it", expired_at.date())]
    Expired {
        /// Whose it is.
        partner: PartnerId,
        /// When it expired.
        expired_at: Time,
    },
}

/// What the certificate says, if an issuer that `root` allows said it. No clock changes the answer: all
/// members must judge alike for ever. Ask [`Certificate::standing`] or [`Certificate::in_use`] for the rest.
pub fn verify(signed: &SignedCertificate, root: &TrustRoot) -> Result<Certificate, Refusal> {
    let certificate = verify_known(signed, root)?;
    match root.issuer(&certificate.issuer) {
        Some(_) => Ok(certificate),
        None => Err(Refusal::DroppedIssuer { partner: certificate.partner, issuer: certificate.issuer }),
    }
}

/// As [`verify`], also of an issuer that was dropped since. Such a certificate stands only if the issuer's word, up
/// to its last good head, names it: ask [`crate::issuer_log::Word::names`].
pub fn verify_known(signed: &SignedCertificate, root: &TrustRoot) -> Result<Certificate, Refusal> {
    let claimed = claimed(signed, root.network())?;
    if root.known(&claimed.issuer).is_none() {
        return Err(Refusal::UnknownIssuer { partner: claimed.partner, issuer: claimed.issuer });
    }
    let certificate = genuine(signed, root.network())?;
    certificate.check_term(root)?;
    Ok(certificate)
}

/// What it claims, if it is a kind that this version knows and for this network.
fn claimed(signed: &SignedCertificate, expected: NetworkId) -> Result<Certificate, Refusal> {
    let Certificate { partner, suite, network, .. } = signed.unverified(CERTIFICATE_LIMIT)?;
    if suite != SUITE {
        return Err(Refusal::UnknownSuite { partner, suite });
    }
    if network != expected {
        return Err(Refusal::OtherNetwork { partner, network, expected });
    }
    Ok(signed.unverified(CERTIFICATE_LIMIT)?)
}

/// What it says, if the issuer that it names signed it, whoever that is: the part that no root document changes.
pub(crate) fn genuine(signed: &SignedCertificate, network: NetworkId) -> Result<Certificate, Refusal> {
    let issuer = claimed(signed, network)?.issuer;
    let certificate = signed.verify(Domain::CERTIFICATE, &issuer, CERTIFICATE_LIMIT)?;
    certificate.check()?;
    Ok(certificate)
}

impl Certificate {
    /// What must hold of every certificate, whoever issued it.
    fn check(&self) -> Result<(), Refusal> {
        let Self { node, recipient, not_before, not_after, .. } = *self;
        let partner = || self.partner.clone();
        if not_after <= not_before {
            return Err(Refusal::EmptyLife { partner: partner(), not_before, not_after });
        }
        if !node.is_sound() {
            return Err(Refusal::UnsoundNode { partner: partner(), node });
        }
        if !recipient.is_sound() {
            return Err(Refusal::UnsoundRecipient { partner: partner(), recipient });
        }
        identity::check_name(&self.name).map_err(|reason| Refusal::Name { partner: partner(), reason })
    }

    /// Whether it begins within the term of its issuer, as `root` has it.
    pub fn check_term(&self, root: &TrustRoot) -> Result<(), Refusal> {
        let (partner, issuer, not_before) = (self.partner.clone(), self.issuer, self.not_before);
        match root.known(&issuer) {
            None => Err(Refusal::UnknownIssuer { partner, issuer }),
            Some(known) if known.term.includes(not_before) => Ok(()),
            Some(_) => Err(Refusal::OutsideTerm { partner, issuer, not_before }),
        }
    }

    /// What the clock says of it.
    pub fn standing(&self, now: Time) -> Standing {
        let expired_at = self.not_after;
        if now.plus(SKEW_MS) < self.not_before {
            Standing::NotYet
        } else if now < expired_at {
            Standing::Valid
        } else if now < expired_at.plus(GRACE_MS) {
            Standing::Grace { expired_at }
        } else {
            Standing::Expired { expired_at }
        }
    }

    /// Its standing, if a node may use it now, within its life or its grace.
    pub fn in_use(&self, now: Time) -> Result<Standing, Refusal> {
        match self.standing(now) {
            standing @ (Standing::Valid | Standing::Grace { .. }) => Ok(standing),
            Standing::NotYet => Err(Refusal::NotYet { partner: self.partner.clone(), not_before: self.not_before }),
            Standing::Expired { expired_at } => Err(Refusal::Expired { partner: self.partner.clone(), expired_at }),
        }
    }

    /// The hash of its canonical bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::CERTIFICATE, &[&crate::encoding::to_bytes(self)])
    }
}
