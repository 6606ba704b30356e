//! An author of entries that nobody can open: neither a store nor a wire looks into them.

use cwn_crypto::{Hash, SigningKey, issuer_log::LogId};
use cwn_engine::{
    log::{Authentic, CircleId, Draft, Opening, Suite, Under, Writer},
    store::Write,
};
use cwn_node::{clock, driver::random, store::Store};

use crate::floor;

pub(crate) const PAYLOAD_BYTES: usize = 1_000;
/// Entries made durable at once where it does not matter.
const GROUP: u64 = 4_096;

/// One log of an author of its own.
pub(crate) struct Author(Writer);

impl Author {
    pub(crate) fn new() -> Self {
        let mut log = [0; 16];
        log.copy_from_slice(&random()[..16]);
        let opening = Opening { under: Under::Charter, cites: Vec::new() };
        Self(Writer::open(CircleId(Hash([1; 32])), SigningKey::from_seed(&random()), LogId(log), opening))
    }

    /// The next entry of the log.
    pub(crate) fn write(&mut self) -> Authentic {
        let payload = floor::noise(PAYLOAD_BYTES);
        let draft = Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts: None };
        self.0.append(clock::now(), draft)
    }

    /// Writes so many into a store.
    pub(crate) fn fill(&mut self, store: &mut Store, entries: u64) -> anyhow::Result<()> {
        let mut group = Vec::new();
        for number in 1..=entries {
            group.push(Write::Entry(self.write()));
            if number % GROUP == 0 || number == entries {
                store.append(&std::mem::take(&mut group))?;
            }
        }
        Ok(())
    }
}
