//! Liveness: once all can talk, nobody lacks what others hold, and whoever asked has an answer.

use cwn_engine::log::CircleId;

use super::{Checker, i4_convergence::describe};
use crate::{people::short, world::World};

#[derive(Debug)]
pub(crate) struct Liveness;

impl Checker for Liveness {
    fn promise(&self) -> &'static str {
        "liveness"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (index, node) in world.nodes.iter().enumerate() {
            let Some(engine) = &node.engine else { continue };
            if let Some((since, what)) = node.waiting.values().next() {
                let ms = world.now.since(*since);
                return Err(format!("{} was asked to {what} {ms} ms ago and never answered", node.name));
            }
            if world.truth.revoked.contains(&node.me) {
                continue;
            }
            let circles: Vec<CircleId> = engine.circles().map(|replica| replica.id()).collect();
            for circle in circles {
                let replica = engine.circle(&circle);
                let counts = replica.is_some_and(|replica| replica.counts(&node.me));
                if counts && engine.behind(&circle) > 0 {
                    let story = describe(world, index, &circle);
                    return Err(format!("{} is still behind in {}\n{story}", node.name, short(&circle)));
                }
            }
        }
        Ok(())
    }
}
