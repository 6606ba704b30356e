//! A claim to go on for another circle holds exactly where its founder belonged to that one, as it had seen it.

use cwn_engine::succession::Standing;

use super::Checker;
use crate::{people::short, world::World};

#[derive(Debug)]
pub(crate) struct Succession;

impl Checker for Succession {
    fn promise(&self) -> &'static str {
        "succession"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (circle, history) in &world.truth.histories {
            let charter = &history.charter;
            let (Some(old), Some(founder)) = (&charter.succeeds, charter.stewards.first()) else { continue };
            let Some(of_old) = world.truth.histories.get(&old.circle) else { continue };
            let then = of_old.conclude(&of_old.up_to(&old.heads));
            let belonged = then.members.get(&founder.node.node).is_some_and(|one| one.partner == founder.partner);
            for (node, engine) in world.honest().filter_map(|node| Some((node, node.engine.as_ref()?))) {
                let Some(claim) = engine.claim(circle) else { continue };
                let right = match claim.standing {
                    Standing::Holds { .. } => belonged,
                    Standing::Unfounded => !belonged,
                    // Who does not hold the old circle, or not so much of it, cannot tell.
                    Standing::Unknown => true,
                };
                if !right {
                    let (new, old) = (short(circle), short(&old.circle));
                    let claims = format!("{} finds that {new} after {old} {:?}", node.name, claim.standing);
                    return Err(format!("{claims}; the rules say otherwise"));
                }
            }
        }
        Ok(())
    }
}
