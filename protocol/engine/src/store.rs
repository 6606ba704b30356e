//! What the engine asks of a store. Reading is small and synchronous; writing leaves as
//! [`crate::output::Output::Store`] and comes back as [`crate::input::Input::Stored`].

use cwn_crypto::Hash;

use crate::log::{Authentic, CircleId, EntryBytes, LogKey, Retraction};

/// One thing to make durable. A store keeps them in the order given: when a later one survived a crash, so
/// did every earlier one.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "nearly all writes are entries; a box would be one allocation for each")]
pub enum Write {
    /// An entry at its place in its log. One that comes with a retraction in the place of its payload may get that yet, by
    /// [`Self::Mend`]: whether the retraction counts is not known.
    Entry(Authentic),
    /// An entry that is held, with what it was held without: its payload, or its author's signature. One that was erased
    /// gets no payload.
    Mend(Authentic),
    /// An epoch record; its hash names it within the circle.
    Record {
        /// The circle.
        circle: CircleId,
        /// The record's hash.
        hash: Hash,
        /// Its exact bytes.
        bytes: Vec<u8>,
    },
    /// Forget all entries of a log from this height on: of a fork the branch that does not count.
    Rewind {
        /// The log.
        key: LogKey,
        /// How many entries stay.
        height: u64,
    },
    /// Erase the payload of an entry for good: its header and signature stay, with the retraction in the payload's
    /// place. An entry that is not held yet never gets its payload.
    Erase {
        /// Its log.
        key: LogKey,
        /// Its place.
        seq: u64,
        /// Its hash; an entry with another hash at that place is left alone.
        hash: Hash,
        /// By what its author took it back.
        because: Retraction,
    },
    /// Drop the payload of an entry: its header and signature stay. An entry that was taken back stays so.
    Drop {
        /// Its log.
        key: LogKey,
        /// Its place.
        seq: u64,
        /// Its hash; an entry with another hash at that place is left alone.
        hash: Hash,
    },
    /// A fact of this node alone; the latest value under a key counts.
    Fact {
        /// Its name.
        key: Vec<u8>,
        /// Its value; empty takes the fact back.
        value: Vec<u8>,
    },
}

/// How far a log is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// How many entries.
    pub height: u64,
    /// The hash of the last.
    pub head: Hash,
}

/// What was stored cannot be read back: damage on the disk, found by a checksum, or an I/O error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read back: {why}")]
pub struct Damage {
    /// What was asked for.
    pub what: String,
    /// What came instead.
    pub why: String,
}

/// A fact of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name, which a store knows in any case.
    pub key: Vec<u8>,
    /// Its value, if it can be read back.
    pub value: Result<Vec<u8>, Damage>,
}

/// The name and the value of a fact.
pub type KnownFact = (Vec<u8>, Vec<u8>);

/// The facts whose names start with `prefix` and whose values can be read back, for those who can do without the others.
pub fn known_facts(store: &dyn Read, prefix: &[u8]) -> Result<Vec<KnownFact>, Damage> {
    let facts = store.facts(prefix)?.into_iter();
    Ok(facts.filter_map(|Fact { key, value }| Some((key, value.ok()?))).collect())
}

/// Reads what was stored.
pub trait Read {
    /// The entry at a place; `None` when it is not held.
    fn entry(&self, key: &LogKey, seq: u64) -> Result<Option<EntryBytes>, Damage>;
    /// The hash of the entry at a place, without reading the entry.
    fn hash(&self, key: &LogKey, seq: u64) -> Result<Option<Hash>, Damage>;
    /// To which height a log must be rewound before these entries, one behind the other, can be written: from there on
    /// another branch stands in their place or follows them, be it behind a gap that damage tore. None when nothing does.
    fn parts(&self, key: &LogKey, run: &[(u64, Hash)]) -> Result<Option<u64>, Damage> {
        for (seq, hash) in run {
            match self.hash(key, *seq)? {
                Some(held) if held == *hash => {}
                Some(_) => return Ok(Some(*seq)),
                None => break,
            }
        }
        Ok(None)
    }
    /// How many bytes the headers and payloads of a log's entries from one place up to another took when they
    /// came, about; without reading the entries.
    fn bytes(&self, key: &LogKey, from: u64, to: u64) -> Result<u64, Damage>;
    /// How far a log is held; `None` when it is not.
    fn tip(&self, key: &LogKey) -> Result<Option<Tip>, Damage> {
        Ok(self.logs()?.into_iter().find(|(held, _)| held == key).map(|(_, tip)| tip))
    }
    /// Every log that is held, and how far.
    fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage>;
    /// An epoch record.
    fn record(&self, circle: &CircleId, hash: &Hash) -> Result<Option<Vec<u8>>, Damage>;
    /// The names of all epoch records held.
    fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage>;
    /// The facts whose names start with `prefix`, in the order of their names; those too whose values cannot be read back.
    fn facts(&self, prefix: &[u8]) -> Result<Vec<Fact>, Damage>;
}

/// A store that holds nothing: for an engine of which nothing is read back, as where only the network circle is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Read for Nothing {
    fn entry(&self, _: &LogKey, _: u64) -> Result<Option<EntryBytes>, Damage> {
        Ok(None)
    }

    fn hash(&self, _: &LogKey, _: u64) -> Result<Option<Hash>, Damage> {
        Ok(None)
    }

    fn bytes(&self, _: &LogKey, _: u64, _: u64) -> Result<u64, Damage> {
        Ok(0)
    }

    fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage> {
        Ok(Vec::new())
    }

    fn record(&self, _: &CircleId, _: &Hash) -> Result<Option<Vec<u8>>, Damage> {
        Ok(None)
    }

    fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage> {
        Ok(Vec::new())
    }

    fn facts(&self, _: &[u8]) -> Result<Vec<Fact>, Damage> {
        Ok(Vec::new())
    }
}
