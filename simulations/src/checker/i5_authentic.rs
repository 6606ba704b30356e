//! I5: nothing unsigned, altered, beyond a cut, or from somebody who may not write is counted as accepted.

use cwn_engine::{log::LogKind, store::Write};

use super::{Checker, Seen};
use crate::{
    oracle::{Right, reach},
    world::World,
};

#[derive(Debug)]
pub(crate) struct Authentic;

impl Checker for Authentic {
    fn promise(&self) -> &'static str {
        "I5"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::HandedToStore { node, write: Write::Entry(entry), .. } => {
                let author = world.honest().find(|node| node.me == entry.key().author);
                match author {
                    Some(author) if !world.truth.written.contains(&entry.hash()) => Err(format!(
                        "{} stores entry {} of {}, which {} never wrote",
                        world.nodes[*node].name,
                        entry.header().seq,
                        entry.key().log,
                        author.name
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// How far each log is accepted is what the rules say, for what the node itself has heard.
    fn calm(&mut self, world: &World) -> Result<(), String> {
        for node in world.honest() {
            let Some(engine) = &node.engine else { continue };
            for replica in engine.circles() {
                let circle = replica.id();
                let Some(history) = world.truth.histories.get(&circle) else { continue };
                let heard = node.heard.get(&circle).cloned().unwrap_or_default();
                let Some(conclusion) = world.conclude(&circle, &heard) else { continue };
                for (key, log) in replica.logs().filter(|(_, log)| log.kind == LogKind::Content) {
                    let opening = |log: &_| replica.log(&key.author, log).map(|held| held.opening.cites.as_slice());
                    let right = match history.right(&conclusion, key.author, &log.opening.under) {
                        Right::Stands => log.durable,
                        Right::Cut(cut) => reach(cut, opening).get(&key.log).copied().unwrap_or(0).min(log.durable),
                        Right::Undecided => 0,
                    };
                    let accepted = replica.accepted(&key.author, &key.log);
                    if accepted != right {
                        return Err(format!(
                            "{} accepts {accepted} entries of log {}, where the rules give {right}",
                            node.name, key.log
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
