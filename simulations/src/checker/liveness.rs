//! Liveness: once all can talk, nobody lacks what others hold, and whoever asked has an answer.

use super::{Checker, i4_convergence::describe};
use crate::{people::short, world::World};

#[derive(Debug)]
pub(crate) struct Liveness;

impl Checker for Liveness {
    fn promise(&self) -> &'static str {
        "liveness"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for node in world.honest().filter(|node| node.engine.is_some()) {
            if let Some((since, what)) = node.waiting.values().next() {
                let ms = world.now.since(*since);
                return Err(format!("{} was asked to {what} {ms} ms ago and never answered", node.name));
            }
        }
        for circle in world.truth.histories.keys() {
            let Some((_, members)) = world.agreed(circle) else { continue };
            for index in members {
                let node = &world.nodes[index];
                if node.engine.as_ref().is_some_and(|engine| engine.behind(circle) > 0) {
                    let story = describe(world, index, circle);
                    return Err(format!("{} is still behind in {}\n{story}", node.name, short(circle)));
                }
            }
        }
        Ok(())
    }
}
