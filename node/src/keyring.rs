//! The keys of epochs, unwrapped into memory when first needed and never written down but sealed.
//!
//! A key comes from its epoch's record, or, to a node that was added later, from a member that handed it on.
//!
//! This file refuses to know who may read what: it opens what its node's sealing key opens.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use cwn_crypto::{
    Hash, encoding,
    seal::{Age, EpochKey, Recipient, Seal, SealingKey},
};
use cwn_engine::{
    epoch::{Record, SignedRecord},
    limits,
    log::CircleId,
    store::Read,
    sync::given_key,
    wire::GivenKey,
};

use crate::{lend::Lend, store::Reader};

/// Keys held at a time. At 200 writers and a change a week a circle makes 10,000 a year; those of old
/// entries come back from their records when somebody reads them.
const KEYS: usize = 4_096;
const KEY_BYTES: usize = 32;

/// Why an epoch does not open here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The key was not wrapped to this node.
    #[error("its key was not given to this node")]
    NotForUs,
    /// The record names this node, and yet its key does not open, or is not the one its maker committed to.
    #[error("its key was wrapped wrongly; its author must publish again")]
    Broken,
    /// The record cannot be read.
    #[error("its epoch record cannot be read: {0}")]
    Unreadable(String),
}

/// The epoch keys of one node.
pub struct Keyring {
    sealing: SealingKey,
    reader: Lend<Reader>,
    keys: Mutex<BTreeMap<Hash, Arc<EpochKey>>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keyring of the node with this sealing key.
    pub fn new(sealing: SealingKey, reader: Reader) -> Self {
        Self { sealing, reader: Lend::new(reader), keys: Mutex::new(BTreeMap::new()) }
    }

    /// The key of an epoch.
    pub fn epoch(&self, circle: &CircleId, epoch: &Hash) -> Result<Arc<EpochKey>, Closed> {
        if let Some(key) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(epoch) {
            return Ok(Arc::clone(key));
        }
        let record = self.record(circle, epoch)?;
        let unreadable = |why: &dyn fmt::Display| Closed::Unreadable(why.to_string());
        let key = match self.unwrap(&record, &record.wrapped) {
            Err(Closed::NotForUs) => {
                let given = self.reader.get().facts(&given_key(circle, epoch)).map_err(|damage| unreadable(&damage))?;
                let given = given.into_iter().next().ok_or(Closed::NotForUs)?;
                let wrapped = given.value.map_err(|damage| unreadable(&damage))?;
                self.unwrap(&record, &wrapped)
            }
            unwrapped => unwrapped,
        };
        let key = Arc::new(key?);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS {
            keys.clear();
        }
        keys.insert(*epoch, Arc::clone(&key));
        Ok(key)
    }

    /// Opens a key that is sealed to this node, and holds it against what the epoch's maker committed to.
    fn unwrap(&self, record: &Record, wrapped: &[u8]) -> Result<EpochKey, Closed> {
        let opened = Age.open_with_key(&self.sealing, wrapped, KEY_BYTES);
        let key = match opened.map(<[u8; KEY_BYTES]>::try_from) {
            Ok(Ok(key)) => EpochKey::from_bytes(key),
            Err(cwn_crypto::seal::Refusal::NotForThisKey) => return Err(Closed::NotForUs),
            _ => return Err(Closed::Broken),
        };
        if key.commitment() == record.commitment { Ok(key) } else { Err(Closed::Broken) }
    }

    fn record(&self, circle: &CircleId, epoch: &Hash) -> Result<Record, Closed> {
        let unreadable = |why: &dyn fmt::Display| Closed::Unreadable(why.to_string());
        let bytes = self.reader.get().record(circle, epoch).map_err(|damage| unreadable(&damage))?;
        let bytes = bytes.ok_or_else(|| Closed::Unreadable("it is not held".to_owned()))?;
        let signed: SignedRecord =
            encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).map_err(|refusal| unreadable(&refusal))?;
        // Its signature was verified before it was stored.
        signed.unverified(limits::RECORD_BYTES).map_err(|refusal| unreadable(&refusal))
    }

    /// Seals the keys of epochs to another node, each by itself; those that do not open here are left out.
    pub fn seal_keys(&self, circle: &CircleId, epochs: &[Hash], recipient: Recipient) -> Vec<GivenKey> {
        let seal = |epoch: &Hash| {
            let key = self.epoch(circle, epoch).ok()?;
            let wrapped = Age.seal_to_recipients(&[recipient], key.to_bytes().as_slice()).ok()?;
            Some(GivenKey { epoch: *epoch, wrapped })
        };
        epochs.iter().filter_map(seal).collect()
    }

    /// Whether a key that somebody handed to this node is that of its epoch.
    pub fn is_right(&self, circle: &CircleId, given: &GivenKey) -> bool {
        self.record(circle, &given.epoch).is_ok_and(|record| self.unwrap(&record, &given.wrapped).is_ok())
    }

    /// Opens what is sealed to this node by name.
    pub fn open_named(&self, sealed: &[u8], limit: usize) -> Result<Vec<u8>, cwn_crypto::seal::Refusal> {
        Age.open_with_key(&self.sealing, sealed, limit)
    }
}
