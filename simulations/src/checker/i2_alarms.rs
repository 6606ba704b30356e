//! I2: who has the issuer's key certifies nobody unnoticed. A node that somebody was certified as one of its own partner's
//! raises an alarm, and so does everybody where two certificates of a node contradict each other.

use cwn_engine::root::Alarm;

use super::Checker;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Alarms;

impl Checker for Alarms {
    fn promise(&self) -> &'static str {
        "I2"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (key, seq, forged) in &world.truth.forged {
            let known = world.nodes.iter().any(|node| node.me == forged.node);
            for node in world.honest().filter(|node| !world.truth.revoked.contains(&node.me)) {
                let Some(engine) = &node.engine else { continue };
                let heard = engine.circle(&key.circle).map_or(0, |network| network.accepted(&key.author, &key.log));
                if heard <= *seq || world.truth.revoked.contains(&forged.node) {
                    continue;
                }
                let raised = |alarm: &Alarm| match alarm {
                    Alarm::Contradiction { node, .. } => known && *node == forged.node,
                    Alarm::OwnPartner { node, .. } => !known && *node == forged.node,
                    _ => false,
                };
                let concerned = known || forged.partner == node.partner;
                if concerned && !engine.alarms().any(|(alarm, _)| raised(alarm)) {
                    let (name, partner) = (&node.name, &forged.partner);
                    return Err(format!("{name} raises no alarm though a thief certified a node of {partner}"));
                }
            }
        }
        Ok(())
    }
}
