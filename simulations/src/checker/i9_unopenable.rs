//! I9: who cannot open what it was to open says so: stewards see it of every member, and whoever made the epoch, too.
//!
//! Of two statements of one node that counts which bears the later time. Whose clock was set back before it learned of an
//! epoch may be taken to have said nothing of it since.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, Time};
use cwn_engine::{
    engine::Engine,
    log::CircleId,
    store::{Read as _, Write},
};

use super::{Checker, Seen};
use crate::{people::short, world::World};

/// What is said of an epoch is said so long after its record came, at most.
const SAID_MS: u64 = 60 * Time::SECOND_MS;

#[derive(Debug, Default)]
pub(crate) struct Unopenable {
    /// The latest time that each node's clock ever said.
    latest: BTreeMap<usize, Time>,
    /// The epochs whose records came to a node when its clock said less, or was about to.
    set_back: BTreeSet<(usize, Hash)>,
    /// When the records of late came.
    came: BTreeMap<(usize, Hash), Time>,
}

impl Checker for Unopenable {
    fn promise(&self) -> &'static str {
        "I9"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write, .. } = seen else { return Ok(()) };
        let clock = world.nodes[*node].clock(world.now);
        let latest = self.latest.entry(*node).or_insert(clock);
        let set_back = *latest > clock.plus(SAID_MS);
        *latest = clock.max(*latest);
        if set_back {
            let late = |came: &Time| world.now.since(*came) <= SAID_MS;
            let of_node = self.came.range((*node, Hash([0; 32]))..=(*node, Hash([255; 32])));
            self.set_back.extend(of_node.filter(|(_, came)| late(came)).map(|(place, _)| *place));
        }
        if let Write::Record { hash, .. } = write {
            self.came.insert((*node, *hash), world.now);
            self.set_back.extend(set_back.then_some((*node, *hash)));
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (circle, conclusion, members) in world.agreements() {
            let closed = members.iter().flat_map(|index| closed(world, *index, circle));
            for (index, epoch) in closed.filter(|place| !self.set_back.contains(place)) {
                let node = &world.nodes[index];
                let replica = node.engine.as_ref().and_then(|engine| engine.circle(circle));
                let Some(maker) = replica.and_then(|replica| replica.epoch(&epoch)).map(|epoch| epoch.maker) else {
                    continue;
                };
                let told = |other: &&usize| {
                    let other = &world.nodes[**other].me;
                    let steward = conclusion.members.get(other).is_some_and(|belongs| belongs.is_steward());
                    *other != node.me && (steward || *other == maker)
                };
                for other in members.iter().filter(told).map(|other| &world.nodes[*other]) {
                    let Some(ledger) = other.engine.as_ref().and_then(|engine| engine.ledger(circle)) else { continue };
                    if !ledger.cannot_open(&node.me, &maker, &epoch) {
                        let (name, circle) = (&node.name, short(circle));
                        return Err(format!(
                            "{} does not see that {name} cannot open epoch {epoch} of {circle}",
                            other.name
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The epochs that name a node, and whose keys do not open to it, though it can read their records.
fn closed(world: &World, index: usize, circle: &CircleId) -> Vec<(usize, Hash)> {
    let node = &world.nodes[index];
    let replica = node.engine.as_ref().and_then(|engine: &Engine| engine.circle(circle));
    let named = replica.into_iter().flat_map(|replica| replica.epochs()).filter(|(_, epoch)| epoch.names(&node.me));
    let reads = |epoch: &Hash| matches!(node.disk.record(circle, epoch), Ok(Some(_)));
    let opens = |epoch: &Hash| world.right_key(index, *circle, *epoch, None).is_some();
    named.map(|(hash, _)| *hash).filter(|epoch| reads(epoch) && !opens(epoch)).map(|epoch| (index, epoch)).collect()
}
