//! What issuers say.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::encoding::{Hash, hex, hex_decode};

/// The random id of a log: the entries of one author in one circle from one start of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct LogId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl LogId {
    /// Reads 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_decode(text).map(Self)
    }
}

/// How far into one log something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CutLine {
    /// The log.
    #[n(0)]
    pub log: LogId,
    /// How many of its entries, from the first on.
    #[n(1)]
    pub height: u64,
    /// The hash of the last of those.
    #[n(2)]
    pub head: Hash,
}
