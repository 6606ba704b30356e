//! I6: what its author took back does not come back: whoever accepts a retraction hides what it is of, and a day after
//! it came the payload is gone from the disk, be that the author's or anybody's, put back to a backup or not. Not before:
//! within that day a cut can put a thief's retraction aside.

use std::collections::BTreeMap;

use cwn_crypto::{PublicKey, Time};
use cwn_engine::{
    limits,
    log::{Authentic, Header, LogKey, Retracts},
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
    /// What the clock of whoever has these keys said at the earliest when it noted one, be it on a clone.
    noted: BTreeMap<PublicKey, BTreeMap<Place, Time>>,
}

impl Retracted {
    /// A node may have noted a retraction just now.
    fn note(&mut self, world: &World, node: usize, place: Place) {
        let node = &world.nodes[node];
        let clock = node.clock(world.now);
        let earliest = self.noted.entry(node.me).or_default().entry(place).or_insert(clock);
        *earliest = clock.min(*earliest);
    }

    /// Whether a node erases something a day after it noted the retraction, by the clock by which it did.
    fn may_erase(&self, world: &World, node: usize, place: &Place) -> bool {
        let node = &world.nodes[node];
        let noted = self.noted.get(&node.me).and_then(|noted| noted.get(place));
        noted.is_some_and(|noted| node.clock(world.now) >= noted.plus(limits::RETRACT_MS))
    }
}

impl Checker for Retracted {
    fn promise(&self) -> &'static str {
        "I6"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write, fresh } = seen else { return Ok(()) };
        match write {
            Write::Entry(entry) | Write::Mend(entry) => {
                if let Some(what) = entry.header().retracts {
                    let place = place_of(entry);
                    self.note(world, *node, place);
                    self.since.entry(*node).or_default().insert(place, world.now);
                    if *fresh {
                        self.taken.insert(place, what);
                    }
                }
            }
            Write::Fact { key, .. } => {
                // A note that can be read goes on from when it was made.
                if key.starts_with(NOTE) && !world.nodes[*node].disk.can_read_fact(key) {
                    let noted = self.taken.keys().find(|place| note_of(place) == *key).copied();
                    if let Some(place) = noted {
                        self.note(world, *node, place);
                        self.since.entry(*node).or_default().insert(place, world.now);
                    }
                }
            }
            Write::Erase { key, seq, because, .. } => {
                let Ok(Header { circle, author, log, seq: by, .. }) = Header::from_bytes(&because.header) else {
                    return Err(format!("{} erases by what is no header", world.nodes[*node].name));
                };
                let place = (LogKey { circle, author, log }, by);
                if world.nodes[*node].is_honest() && !self.may_erase(world, *node, &place) {
                    let (node, circle) = (&world.nodes[*node].name, short(&key.circle));
                    return Err(format!("{node} erases entry {seq} in {circle}, taken back less than a day ago"));
                }
            }
            Write::Drop { .. } | Write::Rewind { .. } | Write::Record { .. } => {}
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        let faults = &world.plan.scenario.faults;
        // It may have been noted by a clock that was ahead, and be waited for by one that is behind.
        let clocks_ms = 2 * (1_000 * faults.clock_jump_seconds + faults.clock_skew_ms);
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
