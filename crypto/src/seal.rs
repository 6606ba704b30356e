//! Sealing.

use minicbor::{Decode, Encode};

/// The public half of a sealing key: an X25519 key, as age has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Recipient(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);
