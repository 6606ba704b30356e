//! I6: what its author took back does not come back: whoever accepts a retraction hides what it is of, and a day after
//! it came the payload is gone from the disk, be that the author's or anybody's, put back to a backup or not.

use std::collections::BTreeMap;

use cwn_crypto::Time;
use cwn_engine::{
    limits,
    log::{Authentic, LogKey, Retracts},
    store::Write,
};

use super::{Checker, Seen, is_signed};
use crate::{people::short, world::World};

/// Beside what clocks may differ: whoever was off looks at once, and so does whoever hears at the end.
const PATIENCE_MS: u64 = 10 * 60 * Time::SECOND_MS;

/// How the names of the facts begin by which a node notes retractions.
const NOTE: &[u8] = b"retract/";

/// The place of a retraction.
type Place = (LogKey, u64);

#[derive(Debug, Default)]
pub(crate) struct Retracted {
    /// What the retractions are of.
    taken: BTreeMap<Place, Retracts>,
    /// When each node first had them, as it notes it: anew when a retraction comes again, or when the note rotted.
    since: BTreeMap<usize, BTreeMap<Place, Time>>,
}

impl Checker for Retracted {
    fn promise(&self) -> &'static str {
        "I6"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write, fresh } = seen else { return Ok(()) };
        let since = self.since.entry(*node).or_default();
        match write {
            Write::Entry(entry) | Write::Mend(entry) => {
                if let Some(what) = entry.header().retracts {
                    let place = place_of(entry);
                    since.insert(place, world.now);
                    if *fresh {
                        self.taken.insert(place, what);
                    }
                }
            }
            Write::Fact { key, .. } => {
                // A note that can be read goes on from when it was made.
                if key.starts_with(NOTE) && !world.nodes[*node].disk.can_read_fact(key) {
                    let noted = self.taken.keys().find(|place| note_of(place) == *key);
                    since.extend(noted.map(|place| (*place, world.now)));
                }
            }
            Write::Erase { .. } | Write::Drop { .. } | Write::Rewind { .. } | Write::Record { .. } => {}
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        let faults = &world.plan.scenario.faults;
        let clocks_ms = 1_000 * faults.clock_jump_seconds + faults.clock_skew_ms;
        let bound_ms = limits::RETRACT_MS + limits::ERASE_EVERY_MS + clocks_ms + PATIENCE_MS;
        for (index, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_honest()) {
            let Some(engine) = &node.engine else { continue };
            for ((by, seq), what) in &self.taken {
                // One that a cut or a fork puts aside takes nothing back.
                let accepted = engine.circle(&by.circle).map_or(0, |replica| replica.accepted(&by.author, &by.log));
                if accepted <= *seq {
                    continue;
                }
                let key = LogKey { log: what.log, ..*by };
                let circle = short(&by.circle);
                if !engine.is_retracted(&key, what.seq, what.hash) {
                    return Err(format!("{} shows entry {} in {circle}, which was taken back", node.name, what.seq));
                }
                let since = self.since.get(&index).and_then(|since| since.get(&(*by, *seq)));
                if since.is_none_or(|since| world.now.since(*since) <= bound_ms) {
                    continue;
                }
                let log = node.disk.held().logs.get(&key);
                let entry = log.and_then(|log| log.get(what.seq as usize)).filter(|(hash, _)| *hash == what.hash);
                let sealed = entry.is_some_and(|(_, entry)| entry.payload.sealed().is_some());
                // One whose signature was altered on the way, or that rotted here, erases nothing before it came again.
                if sealed && is_signed(node, by, *seq) {
                    return Err(format!("{} keeps entry {} in {circle}, taken back a day ago", node.name, what.seq));
                }
            }
        }
        Ok(())
    }
}

fn place_of(entry: &Authentic) -> Place {
    (entry.key(), entry.header().seq)
}

fn note_of((by, seq): &Place) -> Vec<u8> {
    [NOTE, &by.circle.0.0, &by.author.0, &by.log.0, &seq.to_be_bytes()].concat()
}
