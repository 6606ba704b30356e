//! I2: nobody speaks with whom it knows to be revoked, nor joins a circle whose founder it knows no certificate of. (That
//! nothing of the mesh runs for a peer without a certificate is the connection's doing, which the engine never sees.)

use std::collections::BTreeMap;

use cwn_crypto::Time;
use cwn_engine::{circle::Steward, output::Event};

use super::{Checker, Seen};
use crate::world::World;

/// A revocation acts once it is durable; no sync takes longer.
const PATIENCE_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Certified {
    /// Since when a start of a node speaks to one that it knows to be revoked.
    since: BTreeMap<(usize, u64, usize), Time>,
}

impl Checker for Certified {
    fn promise(&self) -> &'static str {
        "I2"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::Noted { node, event: Event::Joined { circle } | Event::Offered { circle } } = seen {
            let node = &world.nodes[*node];
            let Some(engine) = &node.engine else { return Ok(()) };
            let replica = engine
                .circle(circle)
                .or_else(|| engine.offers().find_map(|(offered, offer)| (offered == circle).then_some(&offer.preview)));
            let founder = replica.and_then(|replica| replica.control()).map(|control| &control.charter().stewards[0]);
            // Its own circle nobody shows it, and rot may have taken its certificate.
            let unknown = |founder: &&Steward| {
                founder.node.node != node.me && engine.word().certificate(&founder.node.node).is_none()
            };
            return match founder.filter(unknown) {
                Some(founder) => {
                    Err(format!("{} is shown a circle of {}, whom nobody certified", node.name, founder.partner))
                }
                None => Ok(()),
            };
        }
        let Seen::Sent { from, to, .. } = seen else { return Ok(()) };
        let (sender, peer) = (&world.nodes[*from], &world.nodes[*to]);
        let revoked = sender.engine.as_ref().is_some_and(|engine| engine.word().revocation(&peer.me).is_some());
        if revoked && sender.is_honest() {
            let since = *self.since.entry((*from, sender.start, *to)).or_insert(world.now);
            if world.now.since(since) > PATIENCE_MS {
                return Err(format!("{} speaks to {}, which it knows to be revoked", sender.name, peer.name));
            }
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
