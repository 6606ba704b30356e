//! Liveness: once all can talk, nobody lacks what others hold, and whoever asked has an answer.

use cwn_crypto::Hash;
use cwn_engine::{
    engine::Engine,
    log::{CircleId, LogKey},
    replica::Replica,
};

use super::{Checker, Unsendable, can_send_record, i4_convergence::describe, unsendable};
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
        for (circle, _, members) in world.agreements() {
            let unsendable = unsendable(world, &members, circle);
            let can_send = |record: &&Hash| can_send_record(world, &members, circle, record);
            for index in &members {
                let node = &world.nodes[*index];
                if let Some(record) = node.disk.lost_records(circle).find(can_send) {
                    return Err(format!("{} lacks epoch record {record}, which others could send it", node.name));
                }
                let Some(engine) = node.engine.as_ref().filter(|engine| engine.behind(circle) > 0) else { continue };
                let excused = is_led_on(world, engine, circle) || !unsendable.0.is_empty();
                if excused && !lacks(world, &members, engine, circle, &unsendable) {
                    continue;
                }
                let story = describe(world, *index, circle);
                return Err(format!("{} is still behind in {}\n{story}", node.name, short(circle)));
            }
        }
        Ok(())
    }
}

/// Whether somebody malicious shares a circle with a node: such a peer may announce for ever what it does not send,
/// and the node says honestly that it lacks that.
fn is_led_on(world: &World, engine: &Engine, circle: &CircleId) -> bool {
    let malicious = |peer| world.nodes.iter().any(|node| node.me == peer && !node.is_honest());
    engine.sharing(circle).into_iter().any(|(peer, ..)| malicious(peer))
}

/// Whether a node lacks anything that an honest member accepts and can send.
fn lacks(world: &World, members: &[usize], engine: &Engine, circle: &CircleId, unsendable: &Unsendable) -> bool {
    let held = |key: &LogKey| engine.circle(circle)?.log(&key.author, &key.log).map(|log| log.durable);
    let others = members.iter().filter_map(|member| world.nodes[*member].engine.as_ref()?.circle(circle));
    let more = |replica: &Replica, key: &LogKey| {
        replica.accepted(&key.author, &key.log).min(unsendable.end(key)) > held(key).unwrap_or(0)
    };
    others.into_iter().any(|replica| replica.logs().any(|(key, _)| more(replica, &key)))
}
