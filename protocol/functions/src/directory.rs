//! What nodes say of themselves in the network circle: so far, where they can be reached.

use cwn_crypto::encoding;
use minicbor::{Decode, Encode};

use crate::text;

/// Addresses that one node announces.
pub const ADDRESSES: usize = 16;
/// Bytes of an address.
pub const ADDRESS_BYTES: usize = 200;
/// An announcement in bytes.
pub const ANNOUNCEMENT_BYTES: usize = 4 << 10;

const KIND: &str = "directory/addresses";

/// Where a node can be reached. Of one node the newest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Multiaddresses; none for a node that only dials.
    pub addresses: Vec<String>,
    /// Whether it can be reached from outside at a fixed address, so that others may rely on it.
    pub anchor: bool,
    /// Whether it passes connections on between nodes that nobody can dial.
    pub relay: bool,
}

#[derive(Encode, Decode)]
struct Announcement {
    #[n(0)]
    kind: String,
    #[n(1)]
    addresses: Vec<String>,
    #[n(2)]
    anchor: bool,
    /// Stands only where it is so.
    #[n(3)]
    relay: Option<bool>,
}

/// Why something is not an announcement of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not canonical, or too long.
    #[error("the announcement is {0}")]
    Encoding(#[from] encoding::Refusal),
    /// Another kind of entry.
    #[error("another kind of entry")]
    OtherKind,
    /// Too many, too long, or not to be shown.
    #[error("a node announces at most {ADDRESSES} addresses of at most {ADDRESS_BYTES} bytes each")]
    Addresses,
}

impl NodeAddresses {
    /// Reads an announcement. What a later version appended is passed over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let Announcement { kind, addresses, anchor, relay } =
            encoding::beginning_from_bytes(bytes, ANNOUNCEMENT_BYTES)?;
        if kind != KIND {
            return Err(Refusal::OtherKind);
        }
        Self { addresses, anchor, relay: relay.unwrap_or(false) }.check()
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let Self { addresses, anchor, relay } = self.clone().check()?;
        let relay = relay.then_some(true);
        Ok(encoding::to_bytes(&Announcement { kind: KIND.to_owned(), addresses, anchor, relay }))
    }

    fn check(self) -> Result<Self, Refusal> {
        let fits = |address: &String| address.len() <= ADDRESS_BYTES && text::is_one_line(address);
        if self.addresses.len() > ADDRESSES || !self.addresses.iter().all(fits) {
            return Err(Refusal::Addresses);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back_as_they_were_announced() {
        for relay in [false, true] {
            let addresses = vec!["/ip4/127.0.0.1/tcp/4001".to_owned()];
            let announced = NodeAddresses { addresses, anchor: true, relay };
            assert_eq!(NodeAddresses::from_bytes(&announced.to_bytes().unwrap()), Ok(announced));
        }
    }

    #[test]
    fn what_a_later_version_announces_besides_is_passed_over() {
        #[derive(Encode)]
        struct Later(#[n(0)] &'static str, #[n(1)] Vec<String>, #[n(2)] bool, #[n(3)] Option<bool>, #[n(4)] u8);
        let bytes = encoding::to_bytes(&Later(KIND, Vec::new(), true, None, 7));
        let read = NodeAddresses::from_bytes(&bytes);
        assert_eq!(read, Ok(NodeAddresses { addresses: Vec::new(), anchor: true, relay: false }));
    }

    #[test]
    fn a_flood_of_addresses_is_refused() {
        let announced = NodeAddresses { addresses: vec![String::new(); ADDRESSES + 1], anchor: false, relay: false };
        assert_eq!(announced.to_bytes(), Err(Refusal::Addresses));
        let long = NodeAddresses { addresses: vec!["x".repeat(ADDRESS_BYTES + 1)], anchor: false, relay: false };
        assert_eq!(long.to_bytes(), Err(Refusal::Addresses));
    }

    #[test]
    fn another_kind_is_not_taken_for_addresses() {
        let other = Announcement { kind: "phase".to_owned(), addresses: Vec::new(), anchor: false, relay: None };
        assert_eq!(NodeAddresses::from_bytes(&encoding::to_bytes(&other)), Err(Refusal::OtherKind));
    }
}
