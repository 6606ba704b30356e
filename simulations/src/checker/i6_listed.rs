//! I6, as lists show it: a node's lists take from what its engine tells which entries are accepted and which of those were
//! taken back, and ask no further. So a list that is kept here as a node keeps its own must come to the same as the engine.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::Hash;
use cwn_engine::{log::LogKey, store::Write};

use super::{Checker, Seen};
use crate::{people::short, world::World};

/// What a node's lists go by, since its start.
#[derive(Debug, Default)]
struct List {
    /// So many entries of a log are accepted.
    heights: BTreeMap<LogKey, u64>,
    /// These were taken back.
    hidden: BTreeSet<(LogKey, u64, Hash)>,
}

#[derive(Debug, Default)]
pub(crate) struct Listed {
    lists: BTreeMap<usize, List>,
    /// Whatever anybody took back.
    taken: BTreeSet<(LogKey, u64, Hash)>,
}

impl Checker for Listed {
    fn promise(&self) -> &'static str {
        "I6"
    }

    fn saw(&mut self, _world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match *seen {
            Seen::Started { node } => drop(self.lists.insert(node, List::default())),
            Seen::Accepted { node, key, height } => {
                self.lists.entry(node).or_default().heights.insert(key, height);
            }
            Seen::Retracted { node, key, seq, hash, retracted } => {
                let (place, list) = ((key, seq, hash), self.lists.entry(node).or_default());
                if retracted {
                    list.hidden.insert(place)
                } else {
                    list.hidden.remove(&place)
                };
            }
            Seen::HandedToStore { write: Write::Entry(entry), .. } => {
                let (by, what) = (entry.key(), entry.header().retracts);
                self.taken.extend(what.map(|what| (LogKey { log: what.log, ..by }, what.seq, what.hash)));
            }
            _ => {}
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        let empty = List::default();
        for (index, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_honest()) {
            let Some(engine) = &node.engine else { continue };
            let (list, name) = (self.lists.get(&index).unwrap_or(&empty), &node.name);
            for replica in engine.circles() {
                let circle = short(&replica.id());
                for (key, _) in replica.logs() {
                    let (told, accepted) =
                        (list.heights.get(&key).copied().unwrap_or(0), replica.accepted(&key.author, &key.log));
                    if told != accepted {
                        let log = key.log;
                        return Err(format!(
                            "{name} accepts {accepted} of log {log} in {circle}, and its lists {told}"
                        ));
                    }
                }
            }
            for place in &self.taken {
                let (key, seq, hash) = *place;
                let hidden = list.hidden.contains(place);
                if hidden != engine.is_retracted(&key, seq, hash) {
                    let (circle, shows) = (short(&key.circle), if hidden { "hide" } else { "show" });
                    return Err(format!(
                        "the lists of {name} {shows} entry {seq} in {circle}; its engine says otherwise"
                    ));
                }
            }
        }
        Ok(())
    }
}
