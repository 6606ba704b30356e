//! I8: without the coordinator members go on sharing, founding circles and changing who belongs.

use super::{Checker, Seen};
use crate::world::World;

/// So many attempts without one success are no accident.
const ENOUGH: u64 = 20;

#[derive(Debug, Default)]
pub(crate) struct NoSinglePoint {
    tried: u64,
    done: u64,
}

impl Checker for NoSinglePoint {
    fn promise(&self) -> &'static str {
        "I8"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::Replied { reply, .. } = seen
            && world.plan.scenario.without_coordinator
        {
            self.tried += 1;
            self.done += u64::from(reply.is_ok());
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        let (tried, done) = (std::mem::take(&mut self.tried), std::mem::take(&mut self.done));
        if world.plan.scenario.without_coordinator && tried >= ENOUGH && done == 0 {
            return Err(format!("{tried} commands without the coordinator, and none was done"));
        }
        Ok(())
    }
}
