//! Relays: how a node that nobody can dial is reached, and what an anchor passes on.
//!
//! A node that only dials keeps a reservation at a few relays it is connected with, and announces that it can be
//! reached through them. Whoever dials such an address gets a circuit: bytes that the relay carries, in which TLS and
//! the exchange of certificates run as over any connection. The relay learns who speaks with whom and how much; it
//! reads nothing, and it serves nobody who was not admitted. Libp2p's circuit relay v2 does the work; this file
//! refuses to know sessions.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use cwn_crypto::identity::PublicKey;
use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    multiaddr::Protocol,
    relay::{self, Behaviour, Config},
};

use super::transport;

/// Relays that a node is reached through at once: one may be restarted.
const RESERVATIONS: usize = 2;
/// Addresses of a relay under which it is announced: its name, or one of each kind.
const ADDRESSES: usize = 2;
/// Circuits at once that a relay can pass on at most: 45 nodes that nobody can dial, each with each. A circuit costs
/// two streams and two buffers of 8 KiB, so that all of them cost 16 MiB. All may end at one node, and each is a stream
/// of its connection with the relay; one stream too many would end that connection.
pub const MOST_CIRCUITS: usize = transport::STREAMS - transport::STREAMS_OF_A_SESSION;
/// Renewed by the node well before.
const RESERVATION_LASTS: Duration = Duration::from_secs(3_600);
/// A node that starts dials all of its kind at once; after that one more every ten seconds.
const CIRCUITS_AT_ONCE: NonZeroU32 = NonZeroU32::new(128).unwrap();
const CIRCUIT_EVERY: Duration = Duration::from_secs(10);
/// A node whose line flaps reserves anew each time.
const RESERVATIONS_AT_ONCE: NonZeroU32 = NonZeroU32::new(30).unwrap();
const RESERVATION_EVERY: Duration = Duration::from_secs(30);

/// How much a relay passes on for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Nodes that can be reached through it.
    pub nodes: usize,
    /// Circuits at once, up to [`MOST_CIRCUITS`].
    pub circuits: usize,
    /// Of those, dialled by one node.
    pub circuits_per_node: usize,
    /// A session over a circuit is dialled again after so long, so that nobody holds a place for ever.
    pub circuit_lasts: Duration,
    /// And after so many bytes. What was under way is asked for again: runs and chunks go on where they stopped.
    pub circuit_bytes: u64,
}

impl Default for RelayLimits {
    /// As many nodes as it takes connections (swarm.rs), less those that dial; for each node as many circuits as it may
    /// dial connections. A gigabyte is a new member's whole history and its attachments.
    fn default() -> Self {
        Self {
            nodes: 256,
            circuits: MOST_CIRCUITS,
            circuits_per_node: 128,
            circuit_lasts: Duration::from_secs(6 * 3_600),
            circuit_bytes: 1 << 30,
        }
    }
}

/// What an anchor passes on for others. Nothing is limited by address: many partners may share one, and all are
/// known by their keys.
pub(super) fn server(own: PeerId, limits: RelayLimits) -> Behaviour {
    let config = Config {
        max_reservations: limits.nodes,
        max_reservations_per_peer: 1,
        reservation_duration: RESERVATION_LASTS,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_node,
        max_circuit_duration: limits.circuit_lasts,
        max_circuit_bytes: limits.circuit_bytes,
        circuit_src_rate_limiters: Vec::new(),
    };
    let config = config.reservation_rate_per_peer(RESERVATIONS_AT_ONCE, RESERVATION_EVERY);
    relay::Behaviour::new(own, config.circuit_src_per_peer(CIRCUITS_AT_ONCE, CIRCUIT_EVERY))
}

#[derive(Debug)]
struct Relay {
    addresses: Vec<Multiaddr>,
    listener: Option<ListenerId>,
    reserved: bool,
}

/// The relays that this node can be reached through.
#[derive(Debug, Default)]
pub(super) struct Relays(BTreeMap<PublicKey, Relay>);

impl Relays {
    /// Another relay, or other addresses of one.
    pub(super) fn know(&mut self, relay: PublicKey, mut addresses: Vec<Multiaddr>) {
        addresses.retain(|address| !is_circuit(address));
        addresses.truncate(ADDRESSES);
        let known = self.0.entry(relay);
        known.and_modify(|known| known.addresses.clone_from(&addresses)).or_insert(Relay {
            addresses,
            listener: None,
            reserved: false,
        });
    }

    /// Where to listen now: through relays that are connected, as long as there are too few.
    pub(super) fn missing(&self, connected: impl Fn(&PublicKey) -> bool) -> Vec<(PublicKey, Multiaddr)> {
        let has = self.0.values().filter(|relay| relay.listener.is_some()).count();
        let free = self.0.iter().filter(|(node, relay)| relay.listener.is_none() && connected(node));
        let address = |(node, relay): (&PublicKey, &Relay)| Some((*node, circuits(node, relay).next()?));
        free.filter_map(address).take(RESERVATIONS.saturating_sub(has)).collect()
    }

    /// A relay was asked.
    pub(super) fn asked(&mut self, relay: &PublicKey, listener: ListenerId) {
        if let Some(relay) = self.0.get_mut(relay) {
            relay.listener = Some(listener);
        }
    }

    /// Whether a listener stands at a relay.
    pub(super) fn is_at_one(&self, listener: ListenerId) -> bool {
        self.0.values().any(|relay| relay.listener == Some(listener))
    }

    /// A relay agreed. Where this node can be reached now; nothing if that was known. What the relay says of its
    /// addresses is not asked: this node knows where it met it.
    pub(super) fn agreed(&mut self, listener: ListenerId) -> Vec<Multiaddr> {
        let asked = self.0.iter_mut().find(|(_, relay)| relay.listener == Some(listener) && !relay.reserved);
        let Some((node, relay)) = asked else { return Vec::new() };
        relay.reserved = true;
        circuits(node, relay).collect()
    }

    /// A relay did not agree, or is gone. Where this node can be reached no longer.
    pub(super) fn ended(&mut self, listener: ListenerId) -> Vec<Multiaddr> {
        let Some((node, relay)) = self.0.iter_mut().find(|(_, relay)| relay.listener == Some(listener)) else {
            return Vec::new();
        };
        relay.listener = None;
        match std::mem::take(&mut relay.reserved) {
            true => circuits(node, relay).collect(),
            false => Vec::new(),
        }
    }

    /// Every reservation is gone: the swarm was started anew. Where this node can be reached no longer.
    pub(super) fn start_over(&mut self) -> Vec<Multiaddr> {
        let listeners: Vec<ListenerId> = self.0.values().filter_map(|relay| relay.listener).collect();
        listeners.into_iter().flat_map(|listener| self.ended(listener)).collect()
    }
}

/// The addresses through a relay. The node at their end does not stand in them: whoever dials knows it.
fn circuits(node: &PublicKey, relay: &Relay) -> impl Iterator<Item = Multiaddr> {
    let id = transport::peer_id(node);
    let through = move |address: &Multiaddr| Some(address.clone().with_p2p(id?).ok()?.with(Protocol::P2pCircuit));
    relay.addresses.iter().filter_map(through)
}

/// Whether an address leads through a relay.
pub fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay that an address leads through.
pub(super) fn relay_of(address: &Multiaddr) -> Option<PublicKey> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    parts.windows(2).find_map(|pair| match pair {
        [Protocol::P2p(relay), Protocol::P2pCircuit] => transport::public_key(relay),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::test_world::key;

    #[test]
    fn the_relay_of_an_address_is_the_node_before_the_circuit() {
        let [relay, node] = [1, 2].map(|number| transport::peer_id(&key(number).public()).unwrap());
        let through = |address: String| relay_of(&address.parse().unwrap());
        let known = Some(key(1).public());
        assert_eq!(through(format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit")), known);
        assert_eq!(through(format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{node}")), known);
        assert_eq!(through(format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}")), None);
        assert_eq!(through("/p2p-circuit".to_owned()), None);
    }

    fn relays(numbers: std::ops::RangeInclusive<u8>) -> Relays {
        let mut relays = Relays::default();
        for number in numbers {
            let addresses = (1..=9).map(|host| format!("/ip4/192.0.2.{host}/tcp/4001").parse().unwrap()).collect();
            relays.know(key(number).public(), addresses);
        }
        relays
    }

    #[test]
    fn of_many_relays_two_that_are_connected_are_asked_and_another_when_one_ends() {
        let mut relays = relays(1..=4);
        let away = key(1).public();
        let missing = relays.missing(|node| *node != away);
        assert_eq!(missing.len(), 2);
        assert!(missing.iter().all(|(node, address)| *node != away && is_circuit(address)));
        let listeners = [ListenerId::next(), ListenerId::next()];
        missing.iter().zip(listeners).for_each(|((node, _), listener)| relays.asked(node, listener));
        assert!(relays.missing(|_| true).is_empty());
        assert!(relays.ended(listeners[0]).is_empty(), "it had not agreed");
        assert_eq!(relays.missing(|_| true).len(), 1);
    }

    #[test]
    fn where_a_node_can_be_reached_is_said_once_and_taken_back_once() {
        let mut relays = relays(1..=1);
        let (node, _) = relays.missing(|_| true).pop().unwrap();
        let listener = ListenerId::next();
        relays.asked(&node, listener);
        let said = relays.agreed(listener);
        assert_eq!(said.len(), ADDRESSES);
        assert!(said.iter().all(is_circuit), "{said:?}");
        assert!(relays.agreed(listener).is_empty());
        assert_eq!(relays.ended(listener), said);
        assert!(relays.ended(listener).is_empty());
    }

    #[test]
    fn nobody_is_reached_through_a_relay_that_is_itself_reached_through_one() {
        let mut relays = Relays::default();
        let behind = transport::peer_id(&key(2).public()).unwrap();
        relays.know(key(1).public(), vec![format!("/ip4/192.0.2.1/tcp/1/p2p/{behind}/p2p-circuit").parse().unwrap()]);
        assert!(relays.missing(|_| true).is_empty());
    }
}
