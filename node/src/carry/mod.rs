//! A circle in a file, for where no connection leads: what a member's node would send on the wire, to be carried
//! on a stick or over a LAN share.
//!
//! The file is a parcel. Its first frame is the key of the others, sealed to the nodes it is for; every other frame
//! is sealed with that key and numbered, so that a finder learns how long it is and for how many nodes, and who can
//! open it cannot be handed its parts in another order. What comes first is needed by what follows: issuers' logs,
//! the network circle, the circle's charter and operations, the proofs of forks, its logs with the records of their
//! epochs, and, when asked for, sealed chunks of attachments.
//!
//! Who made a file is not believed: `import` takes it in through the very checks that a peer's entries pass.
//!
//! This file refuses to know who may have what: that is [`export`]'s and the engine's.

pub mod export;
pub mod import;

use cwn_crypto::{
    NetworkId, PublicKey, Time, encoding,
    issuer_log::LogId,
    seal::{self, Age, EpochKey, Recipient, Seal},
};
use cwn_engine::{
    fork::ForkProof,
    log::{CircleId, EntryBytes},
};
use minicbor::{Decode, Encode};

use crate::parcel;

/// What is inside a frame: a run's frame, or a sealed chunk, of a megabyte each, and what names it.
const INSIDE_BYTES: usize = parcel::FRAME_BYTES - SEAL_BYTES;
/// What sealing adds: a header, and a tag for every 64 KiB.
const SEAL_BYTES: usize = 64 << 10;
const KEY_BYTES: usize = 32;

/// One thing in a file.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(flat)]
enum Item {
    /// The first: what this is.
    #[n(0)]
    Start {
        /// The network.
        #[n(0)]
        network: NetworkId,
        /// The circle.
        #[n(1)]
        circle: CircleId,
        /// When it was made.
        #[n(2)]
        made: Time,
        /// Whether chunks of attachments follow.
        #[n(3)]
        attachments: bool,
    },
    /// The circle's charter and operations; each stands behind those it builds on.
    #[n(1)]
    Operations {
        #[cbor(n(0), with = "minicbor::bytes")]
        charter: Vec<u8>,
        #[n(1)]
        entries: Vec<EntryBytes>,
        /// Whether no more of them follow.
        #[n(2)]
        last: bool,
    },
    /// Consecutive entries of one log, as a frame of a run on the wire.
    #[n(2)]
    Run {
        #[n(0)]
        circle: CircleId,
        #[n(1)]
        author: PublicKey,
        #[n(2)]
        log: LogId,
        #[cbor(n(3), with = "minicbor::bytes")]
        frame: Vec<u8>,
    },
    /// A sealed chunk of an attachment.
    #[n(3)]
    Chunk {
        #[cbor(n(0), with = "minicbor::bytes")]
        sealed: Vec<u8>,
    },
    /// The last.
    #[n(4)]
    End,
    /// The proof that a log of the circle forks.
    #[n(5)]
    Fork {
        #[n(0)]
        proof: ForkProof,
    },
}

#[derive(Debug, Encode, Decode)]
struct Numbered {
    #[n(0)]
    number: u64,
    #[n(1)]
    item: Item,
}

/// Seals the frames of one file.
struct Sealer {
    key: EpochKey,
    next: u64,
}

impl Sealer {
    /// With the key, sealed to those the file is for.
    fn new(recipients: &[Recipient]) -> Result<(Self, Vec<u8>), seal::Refusal> {
        let key = EpochKey::from_bytes(crate::driver::random());
        let sealed = Age.seal_to_recipients(recipients, key.to_bytes().as_slice())?;
        Ok((Self { key, next: 0 }, sealed))
    }

    fn seal(&mut self, item: Item) -> Vec<u8> {
        let inside = encoding::to_bytes(&Numbered { number: self.next, item });
        self.next += 1;
        Age.seal_to_epoch(&self.key, &inside)
    }
}

/// Opens the frames of one file.
struct Opener {
    key: EpochKey,
    next: u64,
}

/// Why a frame is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// The key is for others.
    #[error(
        "this file is not for this node: it was sealed to nodes of a circle or network in which its maker did not count this one; ask for one that names your partner (`cwn export --to`)"
    )]
    NotForThisNode,
    /// The key is no key.
    #[error("the file's key is damaged; copy it again from where it was made")]
    Key,
    /// A frame that was altered, or stands elsewhere than where it was put.
    #[error("what stands in the file was altered after it was made, at its part {0}; ask for another")]
    Altered(u64),
    /// A frame of a later version.
    #[error("the file holds something that this program does not know; use a newer program")]
    Unknown,
}

impl Opener {
    /// With what opening the first frame came to.
    fn new(opened: Result<Vec<u8>, seal::Refusal>) -> Result<Self, Unsound> {
        let opened = opened.map_err(|refusal| match refusal {
            seal::Refusal::NotForThisKey => Unsound::NotForThisNode,
            _ => Unsound::Key,
        })?;
        let key: [u8; KEY_BYTES] = opened.try_into().map_err(|_length| Unsound::Key)?;
        Ok(Self { key: EpochKey::from_bytes(key), next: 0 })
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Item, Unsound> {
        let inside =
            Age.open_with_epoch(&self.key, sealed, INSIDE_BYTES).map_err(|_refusal| Unsound::Altered(self.next))?;
        let Numbered { number, item } =
            encoding::from_bytes(&inside, INSIDE_BYTES).map_err(|_refusal| Unsound::Unknown)?;
        if number != self.next {
            return Err(Unsound::Altered(self.next));
        }
        self.next += 1;
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::{Hash, seal::SealingKey};

    use super::*;

    fn opener(key: &SealingKey, sealed: &[u8]) -> Result<Opener, Unsound> {
        Opener::new(Age.open_with_key(key, sealed, KEY_BYTES))
    }

    fn chunk(byte: u8) -> Item {
        Item::Chunk { sealed: vec![byte; 10] }
    }

    #[test]
    fn a_file_opens_for_those_it_was_sealed_to_and_for_nobody_else() {
        let (mine, other) = (SealingKey::from_bytes([1; 32]), SealingKey::from_bytes([2; 32]));
        let (mut sealer, key) = Sealer::new(&[mine.recipient()]).unwrap();
        let frame = sealer.seal(chunk(7));
        assert_eq!(opener(&mine, &key).unwrap().open(&frame), Ok(chunk(7)));
        assert_eq!(opener(&other, &key).err(), Some(Unsound::NotForThisNode));
        assert!(!frame.windows(10).any(|bytes| bytes == [7; 10]));
    }

    #[test]
    fn frames_in_another_order_and_altered_ones_are_refused() {
        let key = SealingKey::from_bytes([1; 32]);
        let (mut sealer, sealed_key) = Sealer::new(&[key.recipient()]).unwrap();
        let (first, second) = (sealer.seal(chunk(1)), sealer.seal(chunk(2)));
        let mut opener = opener(&key, &sealed_key).unwrap();
        assert_eq!(opener.open(&second), Err(Unsound::Altered(0)));
        let mut altered = first.clone();
        let last = altered.len() - 1;
        altered[last] ^= 1;
        assert_eq!(opener.open(&altered), Err(Unsound::Altered(0)));
        assert_eq!(opener.open(&first), Ok(chunk(1)));
        assert_eq!(opener.open(&altered), Err(Unsound::Altered(1)));
        assert_eq!(opener.open(&second), Ok(chunk(2)));
    }

    #[test]
    fn the_largest_run_and_the_largest_chunk_fit_a_frame() {
        let (mut sealer, _) = Sealer::new(&[SealingKey::from_bytes([1; 32]).recipient()]).unwrap();
        let circle = CircleId(Hash([1; 32]));
        let frame = vec![0; cwn_engine::limits::FRAME_BYTES];
        let run = Item::Run { circle, author: PublicKey([1; 32]), log: LogId([1; 16]), frame };
        let chunk = Item::Chunk { sealed: vec![0; crate::attachments::SEALED_BYTES] };
        for item in [run, chunk] {
            assert!(sealer.seal(item).len() <= parcel::FRAME_BYTES);
        }
    }
}
