//! I9: a node that may not know who was removed while it was off does not count itself current.
//!
//! Since its start it must have heard a node of another steward, or nodes of half the other partners; a circle that it
//! founded since then it knows whole.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::PublicKey;
use cwn_engine::{
    input::{Command, CommandId},
    log::CircleId,
};

use super::{Checker, Seen};
use crate::{oracle::Heard, people::short, world::World};

/// What one node met since it started.
#[derive(Debug, Default)]
struct Start {
    heard: BTreeSet<PublicKey>,
    founded: BTreeSet<CircleId>,
}

#[derive(Debug, Default)]
pub(crate) struct Current {
    starts: BTreeMap<usize, Start>,
    /// Commands that must not be done, and why not.
    doubtful: BTreeMap<CommandId, String>,
}

impl Checker for Current {
    fn promise(&self) -> &'static str {
        "I9"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Started { node } => drop(self.starts.insert(*node, Start::default())),
            Seen::Heard { node, from } => {
                self.starts.entry(*node).or_default().heard.insert(world.nodes[*from].me);
            }
            Seen::Asked { node, command: Command::Found { charter }, .. } => {
                self.starts.entry(*node).or_default().founded.insert(charter.id());
            }
            Seen::Asked { node, id, command: Command::Append { circle, only_when_current: true, .. } }
                if world.nodes[*node].is_honest() && !self.may_be_current(world, *node, circle) =>
            {
                let why = format!("{} seals in {} as if it were current", world.nodes[*node].name, short(circle));
                self.doubtful.insert(*id, why);
            }
            Seen::Replied { id, reply, .. } => {
                if let (Some(why), true) = (self.doubtful.remove(id), reply.is_ok()) {
                    return Err(why);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Current {
    fn may_be_current(&self, world: &World, node: usize, circle: &CircleId) -> bool {
        let (Some(start), me) = (self.starts.get(&node), &world.nodes[node]) else { return false };
        let nothing = Heard::default();
        let Some(conclusion) = world.conclude(circle, me.known.get(circle).unwrap_or(&nothing)) else { return true };
        let others = || conclusion.members.iter().filter(|(_, belongs)| belongs.partner != me.partner);
        let heard = || others().filter(|(node, _)| start.heard.contains(node));
        let partners = others().map(|(_, belongs)| &belongs.partner).collect::<BTreeSet<_>>().len();
        let heard_partners = heard().map(|(_, belongs)| &belongs.partner).collect::<BTreeSet<_>>().len();
        // The other node of its own partner may be a steward too.
        let mut stewards = conclusion.members.iter().filter(|(node, belongs)| **node != me.me && belongs.is_steward());
        let steward = stewards.find(|(node, _)| start.heard.contains(node));
        start.founded.contains(circle) || steward.is_some() || 2 * heard_partners >= partners
    }
}
