//! The coordinator's rules: what it asks of a request, when it issues, when it renews.
//!
//! Pure, so that the tool on a machine without a network and the desk on a node decide alike. Revocation is a
//! [`crate::issuer_log::Statement`]; who was revoked stands in the [`crate::issuer_log::Word`], and
//! [`Word::unrevoked`](crate::issuer_log::Word::unrevoked) lists whom to renew.
//!
//! A request proves two keys: that of the node, which signs it, and that of the invitation, which signs its
//! network, node key and recipient. That the sealing key is held needs no proof of its own: the desk's reply
//! is sealed to it, so that who does not hold it cannot read the reply, and who names another's key gives away
//! only what is meant for itself.

use minicbor::{Decode, Encode};

use crate::{
    certificate::{self, Certificate, SUITE, SignedCertificate, Standing},
    encoding::{Domain, Hash},
    identity::{
        self, BadSignature, NameRefusal, NetworkId, PartnerId, PublicKey, Signature, Signed, SignedRefusal, SigningKey,
        Time,
    },
    invitation::{self, Approve, Invitation},
    root::{IssuerTerm, TrustRoot},
    seal::Recipient,
};

/// The bytes of a request: as a certificate, with one more key and signature.
pub const REQUEST_LIMIT: usize = 1024;

/// What a node asks of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// The network it wants to join.
    #[n(0)]
    pub network: NetworkId,
    /// Its node key, which signs the request.
    #[n(1)]
    pub node: PublicKey,
    /// Its sealing key; the reply is sealed to it.
    #[n(2)]
    pub recipient: Recipient,
    /// The partner that runs it.
    #[n(3)]
    pub partner: PartnerId,
    /// The partner's name, as the invitation has it.
    #[n(4)]
    pub name: String,
    /// The public half of the key that the invitation's secret stands for.
    #[n(5)]
    pub invitation: PublicKey,
    /// The signature of that key over network, node key and recipient.
    #[n(6)]
    pub proof: Signature,
    /// When it was made, by the clock of the node.
    #[n(7)]
    pub made_at: Time,
}

/// A request and the signature of the node key in it.
pub type SignedRequest = Signed<Request>;

/// Why a request was not taken into consideration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// Its bytes are not canonical, or the node key did not sign it.
    #[error("the request cannot be trusted: {0}; make it again with `cwn join`")]
    Signed(#[from] SignedRefusal),
    /// It is for another network.
    #[error("the request of {partner} is for network {network}, not for {expected}; use an invitation of this network")]
    OtherNetwork {
        /// Whose it claims to be.
        partner: PartnerId,
        /// The network it is for.
        network: NetworkId,
        /// The network it was shown in.
        expected: NetworkId,
    },
    /// A key in it cannot have been made by our software.
    #[error("the request of {partner} has a key of small order; make new keys with `cwn join`")]
    Unsound {
        /// Whose it claims to be.
        partner: PartnerId,
    },
    /// The partner's name cannot be shown.
    #[error("the name in the request of {partner} cannot be used: {reason}")]
    Name {
        /// Whose it claims to be.
        partner: PartnerId,
        /// What is wrong with the name.
        reason: NameRefusal,
    },
}

impl Request {
    /// Asks for what `invitation` offers, for this node.
    pub fn sign(invitation: &Invitation, node: &SigningKey, recipient: Recipient, made_at: Time) -> SignedRequest {
        let key = invitation.secret.key();
        let proof = key.sign(Domain::INVITATION_PROOF, &proven(&invitation.network, &node.public(), &recipient));
        let request = Self {
            network: invitation.network,
            node: node.public(),
            recipient,
            partner: invitation.partner.clone(),
            name: invitation.name.clone(),
            invitation: key.public(),
            proof,
            made_at,
        };
        Signed::sign(&request, Domain::REQUEST, node)
    }

    /// What is asked, if the node key in it signed it and it is for this network. Whether the invitation is
    /// known and proven, [`decide`] says.
    pub fn verify(signed: &SignedRequest, network: NetworkId) -> Result<Self, RequestRefusal> {
        let node = signed.unverified(REQUEST_LIMIT)?.node;
        let request = signed.verify(Domain::REQUEST, &node, REQUEST_LIMIT)?;
        let partner = request.partner.clone();
        if request.network != network {
            return Err(RequestRefusal::OtherNetwork { partner, network: request.network, expected: network });
        }
        if !request.recipient.is_sound() {
            return Err(RequestRefusal::Unsound { partner });
        }
        identity::check_name(&request.name).map_err(|reason| RequestRefusal::Name { partner, reason })?;
        Ok(request)
    }

    /// The hash by which the coordinator finds the invitation's record.
    pub fn secret_hash(&self) -> Hash {
        invitation::secret_hash(&self.invitation)
    }

    fn proof_holds(&self) -> Result<(), BadSignature> {
        let proven = proven(&self.network, &self.node, &self.recipient);
        self.invitation.verify(Domain::INVITATION_PROOF, &proven, &self.proof)
    }
}

fn proven(network: &NetworkId, node: &PublicKey, recipient: &Recipient) -> Vec<u8> {
    [network.0.0, node.0, recipient.0].concat()
}

/// What the coordinator keeps of an invitation it gave.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InvitationRecord {
    /// [`Invitation::secret_hash`].
    #[n(0)]
    pub secret_hash: Hash,
    /// The partner it was given to.
    #[n(1)]
    pub partner: PartnerId,
    /// That partner's name.
    #[n(2)]
    pub name: String,
    /// When it ends.
    #[n(3)]
    pub expires: Time,
    /// Whether a person looks at the request first.
    #[n(4)]
    pub approve: Approve,
    /// The node key that got its certificate with it.
    #[n(5)]
    pub used_by: Option<PublicKey>,
    /// A person refused the request made with it, or took it back.
    #[n(6)]
    pub refused: bool,
}

impl InvitationRecord {
    /// The record of an invitation that was just made.
    pub fn of(invitation: &Invitation) -> Self {
        Self {
            secret_hash: invitation.secret_hash(),
            partner: invitation.partner.clone(),
            name: invitation.name.clone(),
            expires: invitation.expires,
            approve: invitation.approve,
            used_by: None,
            refused: false,
        }
    }
}

/// What the coordinator does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Issue a certificate, and remember who used the invitation.
    Issue,
    /// Hand over the certificate it got before: the reply was lost, or the node stopped halfway.
    Again,
    /// Ask a person.
    Ask,
    /// Refuse it.
    Refuse(Reason),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No such invitation was given.
    #[error("this invitation is not known here; ask the coordinator for another")]
    Unknown,
    /// Whoever asks does not hold the secret.
    #[error("the request does not prove the invitation's secret; make it again from the invitation itself")]
    BadProof,
    /// It asks in another partner's name than the invitation gives.
    #[error("the invitation is for {invited}, and the request is made as {asked}; ask for an invitation of your own")]
    WrongPartner {
        /// Whom the invitation is for.
        invited: PartnerId,
        /// Who asks.
        asked: PartnerId,
    },
    /// A person refused it.
    #[error("the coordinator refused this request or took the invitation back; call them before you try again")]
    Refused,
    /// Somebody else used it. An alarm: of the two, one is not the partner.
    #[error(
        "this invitation was already used by node {node}; call the coordinator: somebody else may have your invitation"
    )]
    UsedWithAnotherKey {
        /// The node that used it.
        node: PublicKey,
    },
    /// It has ended.
    #[error("the invitation expired at {expired_at}; ask the coordinator for another")]
    Expired {
        /// When it ended.
        expired_at: Time,
    },
}

/// What to do with a verified request, given the record of the invitation it names.
///
/// The proof is looked at first: a stranger without the secret neither learns what became of the invitation nor
/// raises an alarm. Who got its certificate gets it again, also after the invitation ended.
pub fn decide(record: &InvitationRecord, request: &Request, now: Time) -> Decision {
    if record.secret_hash != request.secret_hash() {
        return Decision::Refuse(Reason::Unknown);
    }
    if request.proof_holds().is_err() {
        return Decision::Refuse(Reason::BadProof);
    }
    // The name goes into the certificate, so it too must be the invited one.
    if (&record.partner, &record.name) != (&request.partner, &request.name) {
        let (invited, asked) = (record.partner.clone(), request.partner.clone());
        return Decision::Refuse(Reason::WrongPartner { invited, asked });
    }
    if record.refused {
        return Decision::Refuse(Reason::Refused);
    }
    match record.used_by {
        Some(node) if node == request.node => return Decision::Again,
        Some(node) => return Decision::Refuse(Reason::UsedWithAnotherKey { node }),
        None => {}
    }
    if now >= record.expires {
        return Decision::Refuse(Reason::Expired { expired_at: record.expires });
    }
    match record.approve {
        Approve::Auto => Decision::Issue,
        Approve::Manual => Decision::Ask,
    }
}

/// Why no certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueRefusal {
    /// The root document does not allow this key.
    #[error("the root document does not allow issuer {0}; sign a version that does")]
    NotAllowed(PublicKey),
    /// The issuer's term has not begun or is over.
    #[error("issuer {} may issue from {} to {}, and it is {now}; check the clock, or let the root keys allow a new issuer key", term.issuer, term.not_before, term.not_after)]
    OutsideTerm {
        /// The issuer's term.
        term: IssuerTerm,
        /// The time it was asked.
        now: Time,
    },
    /// The request or certificate is for another network.
    #[error("it is for network {network}, not for this one")]
    OtherNetwork {
        /// The network it is for.
        network: NetworkId,
    },
    /// The certificate expired beyond its grace.
    #[error("certificate of {partner} expired on {}, too long ago to renew; give {partner} a new invitation", expired_at.date())]
    ExpiredTooLongAgo {
        /// Whose it is.
        partner: PartnerId,
        /// When it expired.
        expired_at: Time,
    },
}

/// An issuer at work: its key and the term the root document gives it.
#[derive(Debug, Clone)]
pub struct Issuer {
    key: SigningKey,
    term: IssuerTerm,
    network: NetworkId,
}

impl Issuer {
    /// The issuer with this key, if `root` allows it.
    pub fn new(key: SigningKey, root: &TrustRoot) -> Result<Self, IssueRefusal> {
        let term = *root.issuer(&key.public()).ok_or_else(|| IssueRefusal::NotAllowed(key.public()))?;
        Ok(Self { key, term, network: root.network() })
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Its line in the root document.
    pub fn term(&self) -> &IssuerTerm {
        &self.term
    }

    /// Issues what a request asks. Whether to do so is for [`decide`] and perhaps a person.
    pub fn issue(&self, request: &Request, serial: u64, now: Time) -> Result<SignedCertificate, IssueRefusal> {
        self.certify(Certificate {
            suite: SUITE,
            network: request.network,
            serial,
            node: request.node,
            recipient: request.recipient,
            partner: request.partner.clone(),
            name: request.name.clone(),
            not_before: now,
            not_after: now.plus(certificate::LIFE_MS),
            issuer: self.public(),
        })
    }

    /// Issues a certificate with a new life and nothing else new. The caller has seen that the node is not
    /// revoked.
    pub fn renew(&self, old: &Certificate, serial: u64, now: Time) -> Result<SignedCertificate, IssueRefusal> {
        if let Standing::Expired { expired_at } = old.standing(now) {
            return Err(IssueRefusal::ExpiredTooLongAgo { partner: old.partner.clone(), expired_at });
        }
        self.certify(Certificate {
            serial,
            not_before: now,
            not_after: now.plus(certificate::LIFE_MS),
            issuer: self.public(),
            ..old.clone()
        })
    }

    fn certify(&self, certificate: Certificate) -> Result<SignedCertificate, IssueRefusal> {
        if certificate.network != self.network {
            return Err(IssueRefusal::OtherNetwork { network: certificate.network });
        }
        if !self.term.includes(certificate.not_before) {
            return Err(IssueRefusal::OutsideTerm { term: self.term, now: certificate.not_before });
        }
        Ok(Signed::sign(&certificate, Domain::CERTIFICATE, &self.key))
    }
}

/// When a certificate should be renewed: at two thirds of its life and up to a twenty-fourth later, as `jitter`,
/// a random number, has it; a network whose members joined on one day must not renew in one second.
pub fn due_at(certificate: &Certificate, jitter: u64) -> Time {
    let life = certificate.not_after.since(certificate.not_before);
    certificate.not_before.plus(life / 3 * 2).plus(jitter % (life / 24 + 1))
}
