//! I5: nothing unsigned, altered, beyond a cut, or from somebody who may not write is counted as accepted.

use cwn_engine::{
    log::{Authentic as Entry, LogKind},
    store::Write,
};

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
                sealed_to_its_own(world, *node, entry)?;
                let author = world.honest().find(|node| node.me == entry.key().author);
                match author {
                    Some(author)
                        if !world.truth.written.contains(&entry.hash())
                            && !world.truth.stolen.contains(&entry.hash()) =>
                    {
                        Err(format!(
                            "{} stores entry {} of {}, which {} never wrote",
                            world.nodes[*node].name,
                            entry.header().seq,
                            entry.key().log,
                            author.name
                        ))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// How far each log is accepted is what the rules say.
    fn calm(&mut self, world: &World) -> Result<(), String> {
        // Of whoever was removed a rotten disk may have taken operations that nobody sends it again.
        for (circle, conclusion, members) in world.agreements() {
            let Some(history) = world.truth.histories.get(circle) else { continue };
            for node in members.iter().map(|index| &world.nodes[*index]) {
                let Some(replica) = node.engine.as_ref().and_then(|engine| engine.circle(circle)) else { continue };
                for (key, log) in replica.logs().filter(|(_, log)| log.kind == LogKind::Content) {
                    let opening = |log: &_| replica.log(&key.author, log).map(|held| held.opening.cites.as_slice());
                    // A fork ends a log, unless a cut names a branch of it and that is there up to the cut.
                    let end = replica.fork_of(&key.author, &key.log).unwrap_or(u64::MAX);
                    let right = match history.right(&conclusion, key.author, &log.opening.under) {
                        Right::Stands => log.durable.min(end),
                        Right::Cut(cut) => match reach(cut, opening).get(&key.log).copied().unwrap_or(0) {
                            reach if reach > log.durable => log.durable.min(end),
                            reach => reach,
                        },
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

/// An epoch is for what its maker's partner writes, and nobody else.
fn sealed_to_its_own(world: &World, node: usize, entry: &Entry) -> Result<(), String> {
    let (key, node) = (entry.key(), &world.nodes[node]);
    let replica = node.engine.as_ref().and_then(|engine| engine.circle(&key.circle));
    let epoch = entry.header().epoch.and_then(|epoch| replica?.epoch(&epoch));
    let author = world.nodes.iter().find(|node| node.me == key.author);
    match (epoch, author) {
        (Some(epoch), Some(author)) if epoch.partner != author.partner => Err(format!(
            "{} stores an entry of {} that is sealed to an epoch of {}",
            node.name, author.name, epoch.partner
        )),
        _ => Ok(()),
    }
}
