//! Neighbours: with whom a node keeps a connection, when there are too many to keep one with everybody.
//!
//! In a small network all are connected with all. In a larger one a node picks a few members of each of its circles,
//! the network circle among them, at random, and is picked by as many; what goes round in a circle goes from
//! neighbour to neighbour. A circle is then a random graph in which everybody chose several others: connected with
//! overwhelming probability, whoever is away, and nobody carries more than the others because of what it is. A
//! steward is chosen no more often than anybody else.
//!
//! The choice is a pure function, with nothing to remember. Every node has a secret seed, and by it a rank for each
//! other node; in each circle it keeps the best of those that can be dialled. Ranks are the same in all circles, so
//! that circles with much the same members share neighbours, and yet the choice in each of them is as random as if it
//! were the only one. A rank is drawn again every so often, each node's at a time of its own: so that about one
//! neighbour a circle is replaced in an hour, and whoever surrounded a node with its own machines does so for hours,
//! not for ever.
//!
//! It refuses to know connections: whoever drives the engine dials, and says whom it cannot reach.

use std::collections::BTreeSet;

use cwn_crypto::{Domain, Hash, PublicKey, Time};

use crate::engine::Engine;
use crate::limits;

/// Whether others can dial this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standpoint {
    /// They can, and about as many do as it dials itself.
    Reachable,
    /// Nobody dials it, so that it dials for both.
    OutboundOnly,
}

/// Whether this node can dial another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is connected, or nothing speaks against it.
    Open,
    /// It was dialled, or connected, and is not there now.
    Failing,
    /// There is no address of it, or it is not certified.
    Closed,
}

/// How many connections a node wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breadth {
    /// Up to so many certified nodes all are connected with all.
    pub all_to_all: usize,
    /// About so many neighbours in each circle otherwise.
    pub neighbours: usize,
}

impl Default for Breadth {
    fn default() -> Self {
        Self { all_to_all: limits::ALL_TO_ALL, neighbours: limits::NEIGHBOURS }
    }
}

/// By what a node draws its neighbours.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// How many.
    pub breadth: Breadth,
    /// Random bytes that nobody else knows: fresh at each start, and the same until the next.
    pub seed: [u8; 32],
    /// Now, by this node's clock.
    pub now: Time,
}

impl Draw {
    /// Where another node stands with this one at present; the lowest are chosen.
    pub fn rank(&self, node: &PublicKey) -> u64 {
        let mut phase = [0; 8];
        phase.copy_from_slice(&node.0[..8]);
        // Which of them go in one hour is known from their keys, who comes instead is not.
        let turn = self.now.0.wrapping_add(u64::from_le_bytes(phase) % limits::RANK_MS) / limits::RANK_MS;
        let drawn = Hash::of(Domain::NEIGHBOUR, &[&self.seed, &node.0, &turn.to_be_bytes()]);
        let mut rank = [0; 8];
        rank.copy_from_slice(&drawn.0[..8]);
        u64::from_be_bytes(rank)
    }
}

/// With whom a node is to keep connected, and dials for that. `network` is every certified node, `circles` who belongs
/// to each of its circles; it may stand among them itself. Connections that others dialled come on top.
pub fn choose(
    draw: &Draw,
    me: &PublicKey,
    standpoint: Standpoint,
    network: &[PublicKey],
    circles: &[Vec<PublicKey>],
    reach: impl Fn(&PublicKey) -> Reach,
) -> BTreeSet<PublicKey> {
    let others = |circle: &[PublicKey]| -> Vec<(PublicKey, Reach)> {
        let known = circle.iter().filter(|node| *node != me).map(|node| (*node, reach(node)));
        known.filter(|(_, reach)| *reach != Reach::Closed).collect()
    };
    if network.len() <= draw.breadth.all_to_all {
        let all = std::iter::once(network).chain(circles.iter().map(Vec::as_slice));
        return all.flat_map(others).map(|(node, _)| node).collect();
    }
    let own = match standpoint {
        Standpoint::Reachable => draw.breadth.neighbours.div_ceil(2),
        Standpoint::OutboundOnly => draw.breadth.neighbours,
    };
    let mut chosen = BTreeSet::new();
    for circle in std::iter::once(network).chain(circles.iter().map(Vec::as_slice)) {
        let mut ranked: Vec<(u64, PublicKey, Reach)> =
            others(circle).into_iter().map(|(node, reach)| (draw.rank(&node), node, reach)).collect();
        ranked.sort_unstable_by_key(|(rank, node, _)| (*rank, *node));
        let (mut open, mut failing) = (0, 0);
        for (_, node, reach) in ranked {
            match reach {
                Reach::Open => open += 1,
                // Whoever is away is looked for still, and has its place again when it is back; meanwhile another
                // stands in.
                Reach::Failing if failing < limits::NEIGHBOURS_AWAY => failing += 1,
                Reach::Failing | Reach::Closed => continue,
            }
            chosen.insert(node);
            if open == own {
                break;
            }
        }
    }
    chosen
}

impl Engine {
    /// With whom this node is to keep connected, as [`choose`] does it, in the circles as they are known here.
    /// `reach` is asked of certified nodes alone.
    pub fn neighbours(
        &self,
        draw: &Draw,
        standpoint: Standpoint,
        reach: impl Fn(&PublicKey) -> Reach,
    ) -> BTreeSet<PublicKey> {
        let network: Vec<PublicKey> = self.word().unrevoked().map(|own| own.certificate.node).collect();
        let closed = self.circles().filter(|replica| replica.control().is_some());
        let circles: Vec<Vec<PublicKey>> =
            closed.map(|replica| replica.fold().roster().iter().map(|(node, _)| *node).collect()).collect();
        let certified = |node: &PublicKey| if self.is_certified(node) { reach(node) } else { Reach::Closed };
        choose(draw, &self.me(), standpoint, &network, &circles, certified)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn node(number: usize) -> PublicKey {
        PublicKey(Hash::of(Domain::NEIGHBOUR, &[&number.to_be_bytes()]).0)
    }

    fn draw(seed: u64, number: usize, now: u64) -> Draw {
        let breadth = Breadth::default();
        Draw {
            breadth,
            seed: Hash::of(Domain::NEIGHBOUR, &[&seed.to_be_bytes(), &number.to_be_bytes()]).0,
            now: Time(now),
        }
    }

    /// A thousand nodes and a circle of two hundred of them. Every fourth can be dialled by nobody.
    struct Mesh {
        network: Vec<PublicKey>,
        circle: Vec<PublicKey>,
        closed: BTreeSet<PublicKey>,
    }

    impl Mesh {
        fn new() -> Self {
            let network: Vec<PublicKey> = (0..1_000).map(node).collect();
            let closed = network.iter().step_by(4).copied().collect();
            Self { circle: network[..200].to_vec(), network, closed }
        }

        fn reach(&self, node: &PublicKey) -> Reach {
            if self.closed.contains(node) { Reach::Closed } else { Reach::Open }
        }

        fn chosen(&self, seed: u64, number: usize, now: u64) -> BTreeSet<PublicKey> {
            self.chosen_without(&BTreeSet::new(), seed, number, now)
        }

        fn chosen_without(
            &self,
            away: &BTreeSet<PublicKey>,
            seed: u64,
            number: usize,
            now: u64,
        ) -> BTreeSet<PublicKey> {
            let me = self.network[number];
            let place = if self.closed.contains(&me) { Standpoint::OutboundOnly } else { Standpoint::Reachable };
            let circles: Vec<Vec<PublicKey>> = if number < 200 { vec![self.circle.clone()] } else { Vec::new() };
            let reach = |node: &PublicKey| if away.contains(node) { Reach::Failing } else { self.reach(node) };
            choose(&draw(seed, number, now), &me, place, &self.network, &circles, reach)
        }

        /// Who is connected with whom, whoever chose, among `present`.
        fn links(&self, seed: u64, away: &BTreeSet<PublicKey>) -> BTreeMap<PublicKey, BTreeSet<PublicKey>> {
            let mut links: BTreeMap<PublicKey, BTreeSet<PublicKey>> = BTreeMap::new();
            for (number, me) in self.network.iter().enumerate().filter(|(_, me)| !away.contains(me)) {
                let chosen = self.chosen_without(away, seed, number, 0);
                for other in chosen.difference(away) {
                    links.entry(*me).or_default().insert(*other);
                    links.entry(*other).or_default().insert(*me);
                }
            }
            links
        }
    }

    /// How many of `nodes` can be reached from the first of them, going from neighbour to neighbour among them.
    fn together(nodes: &BTreeSet<PublicKey>, links: &BTreeMap<PublicKey, BTreeSet<PublicKey>>) -> usize {
        let mut reached: BTreeSet<PublicKey> = nodes.first().copied().into_iter().collect();
        let mut edge: Vec<PublicKey> = reached.iter().copied().collect();
        while let Some(here) = edge.pop() {
            for next in links.get(&here).into_iter().flatten().filter(|next| nodes.contains(next)) {
                if reached.insert(*next) {
                    edge.push(*next);
                }
            }
        }
        reached.len()
    }

    #[test]
    fn every_circle_holds_together_and_nobody_is_connected_with_too_many() {
        let mesh = Mesh::new();
        for seed in 0..5 {
            let links = mesh.links(seed, &BTreeSet::new());
            let network: BTreeSet<PublicKey> = mesh.network.iter().copied().collect();
            let circle: BTreeSet<PublicKey> = mesh.circle.iter().copied().collect();
            assert_eq!(together(&network, &links), network.len(), "the network circle, seed {seed}");
            assert_eq!(together(&circle, &links), circle.len(), "the circle of two hundred, seed {seed}");
            let degree: Vec<usize> = links.values().map(BTreeSet::len).collect();
            let most = degree.iter().max().unwrap();
            assert!(*most <= 6 * limits::NEIGHBOURS, "{most} connections, seed {seed}");
            let all: usize = degree.iter().sum();
            // Two circles for a fifth of them, one for the rest.
            assert!(all / degree.len() <= 2 * limits::NEIGHBOURS, "{} on average", all / degree.len());
        }
    }

    #[test]
    fn when_a_fifth_is_away_those_that_are_there_hold_together_all_the_same() {
        let mesh = Mesh::new();
        for seed in 0..2 {
            let away: BTreeSet<PublicKey> = mesh.network.iter().skip(1).step_by(5).copied().collect();
            let links = mesh.links(seed, &away);
            for nodes in [&mesh.network, &mesh.circle] {
                let present: BTreeSet<PublicKey> = nodes.iter().filter(|node| !away.contains(node)).copied().collect();
                assert_eq!(together(&present, &links), present.len(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_circle_that_lies_within_another_keeps_in_touch_with_the_rest_of_it() {
        // Ten circles that share nobody, and the network circle over all.
        let network: Vec<PublicKey> = (0..300).map(node).collect();
        for seed in 0..20 {
            let mut links: BTreeMap<PublicKey, BTreeSet<PublicKey>> = BTreeMap::new();
            for (number, me) in network.iter().enumerate() {
                let circle: Vec<PublicKey> = network.iter().skip(number / 30 * 30).take(30).copied().collect();
                let draw = draw(seed, number, 0);
                for other in choose(&draw, me, Standpoint::Reachable, &network, &[circle], |_| Reach::Open) {
                    links.entry(*me).or_default().insert(other);
                    links.entry(other).or_default().insert(*me);
                }
            }
            assert_eq!(together(&network.iter().copied().collect(), &links), 300, "seed {seed}");
        }
    }

    #[test]
    fn about_one_neighbour_is_replaced_in_an_hour_and_within_a_week_hardly_one_stays() {
        let mesh = Mesh::new();
        let (mut replaced, mut stayed, nodes) = (0, 0, 200);
        for number in 300..300 + nodes {
            let before = mesh.chosen(7, number, 0);
            assert_eq!(mesh.chosen(7, number, 1_000), before, "seconds change nothing, or nearly");
            replaced += before.difference(&mesh.chosen(7, number, HOUR_MS)).count();
            stayed += before.intersection(&mesh.chosen(7, number, 7 * 24 * HOUR_MS)).count();
        }
        // Of four that it chose; those that nobody can dial choose eight.
        assert!((nodes / 2..=nodes * 2).contains(&replaced), "{replaced} by {nodes} nodes");
        assert!(stayed < nodes / 5, "{stayed} of {nodes} nodes' neighbours");
    }

    #[test]
    fn who_is_away_is_stood_in_for_and_has_its_place_again_when_it_is_back() {
        let mesh = Mesh::new();
        let before = mesh.chosen(3, 501, 0);
        let away = BTreeSet::from([*before.first().unwrap()]);
        let meanwhile = mesh.chosen_without(&away, 3, 501, 0);
        assert!(meanwhile.is_superset(&before), "it is looked for still");
        assert_eq!(meanwhile.len(), before.len() + 1);
        assert_eq!(mesh.chosen(3, 501, 0), before);
        let all: BTreeSet<PublicKey> = mesh.network.iter().copied().collect();
        let alone = mesh.chosen_without(&all, 3, 501, 0);
        assert_eq!(alone.len(), limits::NEIGHBOURS_AWAY, "cut off, it does not dial the whole network");
    }

    #[test]
    fn the_choice_of_one_node_tells_nothing_of_anothers_and_no_node_is_chosen_by_all() {
        let mesh = Mesh::new();
        let mut chosen: BTreeMap<PublicKey, usize> = BTreeMap::new();
        for number in 0..1_000 {
            mesh.chosen(11, number, 0).into_iter().for_each(|other| *chosen.entry(other).or_default() += 1);
        }
        assert!(chosen.len() >= 740, "of 750 that can be dialled {} were chosen", chosen.len());
        assert!(chosen.keys().all(|node| !mesh.closed.contains(node)), "whom nobody can dial is not chosen");
    }

    #[test]
    fn in_a_small_network_all_are_kept_that_can_be_dialled() {
        let network: Vec<PublicKey> = (0..limits::ALL_TO_ALL).map(node).collect();
        let reach = |other: &PublicKey| if *other == network[5] { Reach::Closed } else { Reach::Failing };
        let chosen = choose(&draw(1, 0, 0), &network[0], Standpoint::Reachable, &network, &[], reach);
        assert_eq!(chosen.len(), limits::ALL_TO_ALL - 2, "all but itself and the one without an address");
    }
}
