//! Whom this node dials: the neighbours that the engine chooses, at the addresses that they announced.
//!
//! It looks again when somebody announces addresses, cannot be reached, or comes to belong; and every minute, for one
//! neighbour is replaced in an hour. It refuses to know when to dial and how: that is [`crate::network`]'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cwn_crypto::{PublicKey, Time};
use cwn_engine::neighbours::{Draw, Reach, Standpoint};
use cwn_functions::directory::NodeAddresses;
use tokio::{sync::Notify, time::sleep};

use crate::{
    clock,
    config::Config,
    driver::random,
    network::{self, Address},
    node::Node,
};

/// How often it is looked at when nothing happens.
const LOOK: Duration = Duration::from_secs(60);
/// Between two looks: a large network announces thousands of addresses at a start.
const PAUSE: Duration = Duration::from_millis(100);
/// Whoever could not be reached is passed over for so long, unless it is dialled meanwhile.
const AWAY_MS: u64 = 3_600_000;
/// A connection that is no longer wanted lasts so long at least: what it was made for may not be over.
const KEEP_MS: u64 = 600_000;
/// Relays that a node behind a wall keeps connected with: one may be restarted.
const RELAYS: usize = 2;

/// What the rest of the node tells of whom can be dialled.
#[derive(Debug)]
pub struct Mesh {
    seed: [u8; 32],
    changed: Notify,
    /// Since when who was dialled last could not be reached.
    away: Mutex<BTreeMap<PublicKey, Time>>,
}

impl Default for Mesh {
    fn default() -> Self {
        Self { seed: random(), changed: Notify::new(), away: Mutex::default() }
    }
}

impl Mesh {
    fn away(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Time>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed that the choice depends on.
    pub fn look(&self) {
        self.changed.notify_one();
    }

    /// A peer was dialled and not reached.
    pub fn not_reached(&self, peer: PublicKey) {
        if self.away().insert(peer, clock::now()).is_none() {
            self.look();
        }
    }

    /// A peer is connected.
    pub fn reached(&self, peer: &PublicKey) {
        self.away().remove(peer);
    }

    /// Who could not be reached lately; what is older is forgotten.
    fn missed(&self, now: Time) -> BTreeSet<PublicKey> {
        let mut away = self.away();
        away.retain(|_, since| now.since(*since) < AWAY_MS);
        away.keys().copied().collect()
    }
}

/// Where a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    addresses: Vec<Address>,
    relay: bool,
}

/// The places to dial: those that nodes announce, and those in the configuration: what a node announced before it
/// moved may be all that others heard of it.
fn places(config: &Config, announced: Vec<(PublicKey, NodeAddresses)>) -> BTreeMap<PublicKey, Place> {
    let configured = config.bootstrap().map(|(node, addresses)| (node, Place { addresses, relay: false }));
    let mut places: BTreeMap<PublicKey, Place> = configured.collect();
    for (node, announced) in announced {
        let mut addresses: Vec<Address> = announced.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        if config.network.anchor {
            // Whoever is behind a wall dials an anchor itself: a circuit would only take a place at a relay.
            addresses.retain(|address| !network::is_circuit(address));
        }
        if addresses.is_empty() {
            continue;
        }
        let place = places.entry(node).or_insert_with(|| Place { addresses: Vec::new(), relay: false });
        place.relay = announced.relay;
        let configured = std::mem::replace(&mut place.addresses, addresses);
        place.addresses.extend(configured);
        let mut met = BTreeSet::new();
        place.addresses.retain(|address| met.insert(address.to_string()));
    }
    places
}

/// Whom to keep connected with.
#[derive(Debug)]
struct Choice {
    /// Whether the network is too large for all to be connected with all.
    sparse: bool,
    wanted: BTreeSet<PublicKey>,
}

/// Keeps this node connected with its neighbours.
pub async fn keep(node: Arc<Node>) {
    if node.config.network.offline {
        return;
    }
    let mut wanted: BTreeMap<PublicKey, Place> = BTreeMap::new();
    loop {
        let Some(next) = look(&node, &wanted).await else { return };
        wanted = next;
        sleep(PAUSE).await;
        tokio::select! {
            () = node.mesh.changed.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Looks once, and tells the network of what is other than before; `None` when the node is ending.
async fn look(node: &Node, before: &BTreeMap<PublicKey, Place>) -> Option<BTreeMap<PublicKey, Place>> {
    let now = clock::now();
    let places = places(&node.config, node.inbox.directory().all());
    let Choice { sparse, wanted } = choose(node, &places, now).await?;
    let mut next = BTreeMap::new();
    for peer in &wanted {
        let Some(place) = places.get(peer) else { continue };
        if before.get(peer) != Some(place) {
            node.network.want(*peer, place.addresses.clone());
            if place.relay && node.config.is_reached_through_relays() {
                node.network.reach_through(*peer, place.addresses.clone());
            }
        }
        next.insert(*peer, place.clone());
    }
    before.keys().filter(|peer| !wanted.contains(peer)).for_each(|peer| node.network.unwant(*peer));
    if sparse {
        for (peer, connected) in node.connections.all() {
            if connected.dialled && !wanted.contains(&peer) && now.since(connected.since) >= KEEP_MS {
                tracing::debug!(%peer, "another neighbour takes its place");
                node.network.leave(&peer, "another neighbour took its place");
            }
        }
    }
    Some(next)
}

async fn choose(node: &Node, places: &BTreeMap<PublicKey, Place>, now: Time) -> Option<Choice> {
    let config = &node.config;
    let breadth = config.network.breadth();
    let draw = Draw { breadth, seed: node.mesh.seed, now };
    let standpoint = if config.is_reached_through_relays() || config.network.outbound_only {
        Standpoint::OutboundOnly
    } else {
        Standpoint::Reachable
    };
    let connected: BTreeSet<PublicKey> = node.connections.all().into_iter().map(|(peer, _)| peer).collect();
    let missed = node.mesh.missed(now);
    let reach_of = |peer: &PublicKey| match missed.contains(peer) && !connected.contains(peer) {
        true => Reach::Failing,
        false => Reach::Open,
    };
    let reach: BTreeMap<PublicKey, Reach> = places.keys().map(|peer| (*peer, reach_of(peer))).collect();
    let mut relays: Vec<PublicKey> = places.iter().filter(|(_, place)| place.relay).map(|(peer, _)| *peer).collect();
    relays.sort_by_key(|peer| (reach.get(peer) != Some(&Reach::Open), draw.rank(peer)));
    let behind_relays = config.is_reached_through_relays();
    let bootstrap: Vec<PublicKey> = config.bootstrap().map(|(peer, _)| peer).collect();
    let me = node.me;
    let asked = node.driver.ask(move |engine, _| {
        let sparse = engine.word().unrevoked().count() > breadth.all_to_all;
        let reach = |peer: &PublicKey| reach.get(peer).copied().unwrap_or(Reach::Closed);
        let mut wanted = engine.neighbours(&draw, standpoint, reach);
        if behind_relays {
            wanted.extend(relays.into_iter().filter(|peer| engine.is_certified(peer)).take(RELAYS));
        }
        // Those that the configuration names are how a node comes in; once it is in, they are nodes like others.
        let met = wanted.intersection(&connected).filter(|peer| !bootstrap.contains(peer)).count();
        if !sparse || met < breadth.neighbours.div_ceil(2) {
            wanted.extend(bootstrap.iter().filter(|peer| engine.word().revocation(peer).is_none()));
        }
        wanted.remove(&me);
        Choice { sparse, wanted }
    });
    asked.await.ok()
}

/// Dials those whom something urgent is for, if this node is not connected with them: what waits for nobody should
/// not go from neighbour to neighbour.
pub fn meet(node: &Node, peers: impl IntoIterator<Item = PublicKey>) {
    if node.config.network.offline {
        return;
    }
    let places = places(&node.config, node.inbox.directory().all());
    for peer in peers.into_iter().filter(|peer| node.connections.connected(peer).is_none()) {
        if let Some(place) = places.get(&peer) {
            node.network.dial(peer, place.addresses.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(addresses: &[&str]) -> NodeAddresses {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        NodeAddresses { addresses, anchor: false, relay: false }
    }

    fn circuit() -> String {
        let relay = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit")
    }

    #[test]
    fn an_anchor_dials_nobody_over_a_circuit() {
        let (wall, open) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let circuit = circuit();
        let said = || vec![(wall, announced(&[&circuit])), (open, announced(&["/ip4/192.0.2.2/tcp/1"]))];
        let mut config = Config::default();
        assert_eq!(places(&config, said()).into_keys().collect::<Vec<_>>(), [wall, open]);
        config.network.anchor = true;
        assert_eq!(places(&config, said()).into_keys().collect::<Vec<_>>(), [open]);
    }

    #[test]
    fn who_announces_nothing_is_dialled_where_the_configuration_says() {
        let node = PublicKey([3; 32]);
        let mut config = Config::default();
        let known: Address = "/ip4/192.0.2.3/tcp/1".parse().unwrap();
        let bootstrap = crate::config::Bootstrap { node: node.to_string(), addresses: vec![known.clone()] };
        config.network.bootstrap = vec![bootstrap];
        assert_eq!(places(&config, vec![(node, announced(&[]))])[&node].addresses, std::slice::from_ref(&known));
        // What is configured may be newer than what others heard: both are tried.
        let moved = places(&config, vec![(node, announced(&["/ip4/192.0.2.4/tcp/1"]))]);
        assert_eq!(moved[&node].addresses, ["/ip4/192.0.2.4/tcp/1".parse().unwrap(), known.clone()]);
        let same = places(&config, vec![(node, announced(&["/ip4/192.0.2.3/tcp/1"]))]);
        assert_eq!(same[&node].addresses, [known]);
    }

    #[test]
    fn who_could_not_be_reached_is_given_another_chance_after_an_hour() {
        let mesh = Mesh::default();
        let (one, two) = (PublicKey([1; 32]), PublicKey([2; 32]));
        mesh.not_reached(one);
        mesh.not_reached(two);
        mesh.reached(&two);
        assert_eq!(mesh.missed(clock::now()), BTreeSet::from([one]));
        assert_eq!(mesh.missed(clock::now().plus(AWAY_MS)), BTreeSet::new());
    }
}
