//! I9: who cannot open what it was to open says so: stewards see it of every member, and whoever made the epoch, too.

use cwn_crypto::Hash;
use cwn_engine::{engine::Engine, log::CircleId, store::Read as _};

use super::Checker;
use crate::{people::short, world::World};

#[derive(Debug)]
pub(crate) struct Unopenable;

impl Checker for Unopenable {
    fn promise(&self) -> &'static str {
        "I9"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for circle in world.truth.histories.keys() {
            let Some((conclusion, members)) = world.agreed(circle) else { continue };
            for (index, epoch) in members.iter().flat_map(|index| closed(world, *index, circle)) {
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
                    // What was said by a clock that was ahead stands until that time has come.
                    let ahead = ledger.heard(&node.me, &maker).is_some_and(|heard| heard > world.now);
                    if !ahead && !ledger.cannot_open(&node.me, &maker, &epoch) {
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
