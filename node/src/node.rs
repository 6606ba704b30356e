//! A running node: everything its parts share.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use cwn_crypto::{
    NetworkId, PartnerId, PublicKey, Time,
    certificate::{Certificate, SignedCertificate},
    issuer_log::Word,
    seal::Recipient,
};
use cwn_engine::engine::Engine;

use crate::{
    attachments::Chunks,
    config::Config,
    connections::Connections,
    drafts::Drafts,
    driver,
    fetch::Fetches,
    inbox::Inbox,
    keyring::Keyring,
    lend::Lend,
    mesh::Mesh,
    network::{self, Gate},
    store::Reader,
};

/// This node's certificate, which is renewed while it runs.
#[derive(Debug)]
pub struct OwnCertificate(RwLock<(SignedCertificate, Certificate)>);

impl OwnCertificate {
    /// Starts with the one on file.
    pub fn new(signed: SignedCertificate, certificate: Certificate) -> Self {
        Self(RwLock::new((signed, certificate)))
    }

    /// What it says.
    pub fn get(&self) -> Certificate {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// A newer one.
    pub fn replace(&self, signed: SignedCertificate, certificate: Certificate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (signed, certificate);
    }
}

/// What was found damaged since the start: how many times, and the first of it.
#[derive(Debug, Default)]
pub struct FoundDamage(Mutex<(usize, Option<String>)>);

impl FoundDamage {
    /// So many places more, of which this is the first.
    pub fn add(&self, places: usize, first: String) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.0 = found.0.saturating_add(places);
        found.1.get_or_insert(first);
    }

    /// How many times, and the first; `None` when nothing was.
    pub fn get(&self) -> Option<(usize, String)> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.1.clone().map(|first| (found.0, first))
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its key.
    pub me: PublicKey,
    /// What is sealed to it is sealed to this key.
    pub recipient: Recipient,
    /// The network's id. The root of trust itself goes on, and is the engine's.
    pub network_id: NetworkId,
    /// Its certificate.
    pub certificate: OwnCertificate,
    /// Its data directory.
    pub data: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Since when it runs.
    pub started: Time,
    /// The log thread.
    pub driver: driver::Handle,
    /// The network.
    pub network: network::Handle,
    /// Who may connect.
    pub gate: Arc<Gate>,
    /// Who is connected, and who was refused.
    pub connections: Arc<Connections>,
    /// What was opened.
    pub inbox: Arc<Inbox>,
    /// The keys of epochs.
    pub keyring: Arc<Keyring>,
    /// Reads of the store from any thread.
    pub reader: Lend<Reader>,
    /// What of the store could not be read back.
    pub damage: FoundDamage,
    /// Chunks of attachments.
    pub chunks: Chunks,
    /// What was written and cannot be sealed yet.
    pub drafts: Drafts,
    /// Attachments to fetch.
    pub fetches: Fetches,
    /// Whom it dials.
    pub mesh: Mesh,
}

/// The partner of a node, as the issuers certified it; its key where they did not.
pub fn partner_of(word: &Word, node: &PublicKey) -> String {
    word.certificate(node).map_or_else(|| node.to_string()[..12].to_owned(), |own| own.certificate.partner.to_string())
}

/// The certified nodes of a partner that are not revoked.
pub fn nodes_of(engine: &Engine, partner: &PartnerId) -> Vec<(PublicKey, Recipient)> {
    let word = engine.word();
    let standing = word.partner(partner).filter(|own| word.revocation(&own.certificate.node).is_none());
    standing.map(|own| (own.certificate.node, own.certificate.recipient)).collect()
}
