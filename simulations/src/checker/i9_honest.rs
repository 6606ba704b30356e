//! I9: what a node does not know it says: "received" is said of nothing that did not arrive, alarms are not raised
//! without cause, and what did arrive is known in the end.

use cwn_engine::output::Event;

use super::{Checker, Seen, is_signed};
use crate::{people::short, world::World};

#[derive(Debug)]
pub(crate) struct Honest;

impl Checker for Honest {
    fn promise(&self) -> &'static str {
        "I9"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Noted { node, event } = seen else { return Ok(()) };
        let node = &world.nodes[*node];
        match event {
            Event::Fork { key, seq } => match world.honest().find(|author| author.me == key.author) {
                Some(author) => Err(format!("{} sees {} fork at place {seq}, which is honest", node.name, author.name)),
                None if !world.truth.is_forked(*key, *seq) => {
                    Err(format!("{} sees a fork at place {seq} of log {}, where nothing forks", node.name, key.log))
                }
                None => Ok(()),
            },
            Event::OwnKeyElsewhere { .. }
                if node.is_honest()
                    && !node.lost_ever
                    && !node.disk.ever_rotten()
                    && !world.truth.robbed.contains(&node.me) =>
            {
                Err(format!("{} alarms that its key is in use elsewhere, which it is not", node.name))
            }
            Event::RetractionUnsigned { key, seq } if is_signed(node, key, *seq) => {
                Err(format!("{} says that the signature of entry {seq} was altered, which it was not", node.name))
            }
            Event::Damaged { what } if !node.disk.ever_rotten() => {
                Err(format!("{} says that its disk is damaged, which it is not: {what}", node.name))
            }
            _ => Ok(()),
        }
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (circle, _, members) in world.agreements() {
            for author in members.iter().map(|index| &world.nodes[*index]) {
                let Some(engine) = author.engine.as_ref() else { continue };
                let (Some(ledger), Some(replica)) = (engine.ledger(circle), engine.circle(circle)) else { continue };
                for (key, log) in replica.logs_of(&author.me) {
                    let height = replica.accepted(&key.author, &key.log);
                    let Some(seq) = height.checked_sub(1) else { continue };
                    for holder in members.iter().map(|index| &world.nodes[*index]).filter(|other| other.me != author.me)
                    {
                        let said = ledger.received(&holder.me, &key.author, &key.log, seq).is_some();
                        let held = holder.disk.held().hash_at(&key, seq) == log.durable_head || height < log.durable;
                        if said && !held && !holder.lost_ever {
                            return Err(format!(
                                "{} believes that {} received entry {seq} of {}, and it did not",
                                author.name, holder.name, key.log
                            ));
                        }
                        if held && !said {
                            return Err(format!(
                                "{} has no word that {} received entry {seq} of {} in {}, though all could talk",
                                author.name,
                                holder.name,
                                key.log,
                                short(circle)
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
