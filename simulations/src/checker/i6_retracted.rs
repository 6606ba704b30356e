//! I6: what its author took back does not come back: whoever accepts a retraction hides what it is of, and a day after
//! the payload is gone from the disk.

use std::collections::BTreeMap;

use cwn_crypto::Time;
use cwn_engine::{limits, log::LogKey, log::Retracts, store::Write};

use super::{Checker, Seen};
use crate::{people::short, world::World};

/// How much later than a day its author erases, by what its clock may differ.
const PATIENCE_MS: u64 = 4 * 3_600 * Time::SECOND_MS;

/// Retractions by the places they stand at: what they are of, and when they were written.
#[derive(Debug, Default)]
pub(crate) struct Retracted(BTreeMap<(LogKey, u64), (Retracts, Time)>);

impl Checker for Retracted {
    fn promise(&self) -> &'static str {
        "I6"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::HandedToStore { write: Write::Entry(entry), fresh: true, .. } = seen
            && let Some(what) = entry.header().retracts
        {
            self.0.insert((entry.key(), entry.header().seq), (what, world.now));
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for node in world.honest() {
            let Some(engine) = &node.engine else { continue };
            for ((by, seq), (what, since)) in &self.0 {
                let accepted = engine.circle(&by.circle).map_or(0, |replica| replica.accepted(&by.author, &by.log));
                if accepted <= *seq {
                    continue;
                }
                let key = LogKey { log: what.log, ..*by };
                let circle = short(&by.circle);
                if !engine.is_retracted(&key, what.seq, what.hash) {
                    return Err(format!("{} shows entry {} in {circle}, which was taken back", node.name, what.seq));
                }
                let day_over = world.now.since(*since) > limits::RETRACT_MS + PATIENCE_MS;
                let log = node.disk.held().logs.get(&key);
                let entry = log.and_then(|log| log.get(what.seq as usize)).filter(|(hash, _)| *hash == what.hash);
                let sealed = entry.is_some_and(|(_, entry)| entry.payload.sealed().is_some());
                if day_over && sealed && node.me == by.author && !node.lost_ever {
                    return Err(format!("{} keeps entry {} in {circle}, taken back a day ago", node.name, what.seq));
                }
            }
        }
        Ok(())
    }
}
