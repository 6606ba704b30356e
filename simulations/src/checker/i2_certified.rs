//! I2: nobody speaks with whom it knows to be revoked. (That nothing of the mesh runs for a peer without a
//! certificate is the connection's doing, which the engine never sees.)

use super::{Checker, Seen};
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Certified;

impl Checker for Certified {
    fn promise(&self) -> &'static str {
        "I2"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Sent { from, to, .. } = seen else { return Ok(()) };
        let (from, to) = (&world.nodes[*from], &world.nodes[*to]);
        let revoked = from.engine.as_ref().is_some_and(|engine| engine.word().revocation(&to.me).is_some());
        if revoked && from.is_honest() {
            return Err(format!("{} speaks to {}, which it knows to be revoked", from.name, to.name));
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for node in world.honest() {
            let Some(engine) = &node.engine else { continue };
            if world.truth.revoked.contains(&node.me) {
                continue;
            }
            let unheard = world.truth.revoked.iter().find(|revoked| engine.word().revocation(revoked).is_none());
            if unheard.is_some() && !world.plan.scenario.without_coordinator {
                return Err(format!("{} has not heard of a revocation though all could talk", node.name));
            }
        }
        Ok(())
    }
}
