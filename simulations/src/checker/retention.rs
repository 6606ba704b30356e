//! What time lets go is gone some time after: what its author let expire, and what a circle keeps for so many days, be it
//! that its charter says so or that a policy has for a week. That nothing goes before is I3's.
//!
//! Nothing is dropped by a clock that may be wrong; so this is about lives in which no clock jumps.

use std::collections::BTreeMap;

use cwn_crypto::Time;
use cwn_engine::{
    limits,
    log::{CircleId, Header, LogKind, Suite},
    store::Write,
};

use super::{Checker, Seen};
use crate::{
    oracle::Heard,
    people::short,
    world::{Node, World},
};

/// A node looks every hour for what is to go. What came to it late, or waits for it to start, goes later by as much.
const PATIENCE_MS: u64 = 3 * limits::LOOK_EVERY_MS;

#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// For how many days a node keeps a circle by what it knows, and since when if that was not always so.
    days: BTreeMap<(usize, CircleId), (Option<u32>, Option<Time>)>,
    /// When a node last started.
    started: BTreeMap<usize, Time>,
}

impl Retention {
    /// What a node knows of a circle may say another time than before.
    fn follow(&mut self, world: &World, node: usize, circle: &CircleId) {
        let Some(history) = world.truth.histories.get(circle) else { return };
        let nothing = Heard::default();
        let known = world.nodes[node].known.get(circle).unwrap_or(&nothing);
        let Some(conclusion) = world.conclude(circle, known) else { return };
        let said = history.terms(&conclusion).retention();
        let (days, since) = self.days.entry((node, *circle)).or_insert((history.charter.terms.retention(), None));
        if *days != said {
            (*days, *since) = (said, Some(world.now));
        }
    }

    /// Whether what has this header must be gone from a node's disk.
    fn is_over(&self, world: &World, node: usize, header: &Header) -> bool {
        let over = |time: Time| time.plus(PATIENCE_MS) <= world.now;
        let (days, since) = self.days.get(&(node, header.circle)).copied().unwrap_or_default();
        let acts = since.is_none_or(|since| over(since.plus(limits::SHORTER_RETENTION_MS)));
        let aged = |days: u32| over(header.time.plus(u64::from(days) * Time::DAY_MS));
        header.expiry.is_some_and(over) || acts && days.is_some_and(aged)
    }
}

impl Checker for Retention {
    fn promise(&self) -> &'static str {
        "retention"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Started { node } => {
                self.started.insert(*node, world.now);
                for circle in
                    world.truth.histories.keys().filter(|circle| world.nodes[*node].known.contains_key(circle))
                {
                    self.follow(world, *node, circle);
                }
            }
            Seen::HandedToStore { node, write: Write::Entry(entry), .. } if entry.header().suite == Suite::Control => {
                self.follow(world, *node, &entry.key().circle);
            }
            _ => {}
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        if world.plan.scenario.faults.clock_jump > 0 {
            return Ok(());
        }
        for (index, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_honest()) {
            let runs_since = self.started.get(&index).is_some_and(|at| at.plus(PATIENCE_MS) <= world.now);
            let believes = |node: &Node| node.engine.as_ref().is_some_and(|engine| !engine.clock_doubtful());
            if !runs_since || !believes(node) {
                continue;
            }
            for (key, log) in &node.disk.held().logs {
                let kind = world.truth.logs.get(&(key.author, key.log)).map(|(_, kind, _)| *kind);
                if kind != Some(LogKind::Content) {
                    continue;
                }
                for (_, entry) in log.iter().filter(|(_, entry)| entry.payload.sealed().is_some()) {
                    let Ok(header) = Header::from_bytes(&entry.header) else { continue };
                    if header.retracts.is_none() && self.is_over(world, index, &header) {
                        let (circle, seq) = (short(&key.circle), header.seq);
                        return Err(format!("{} keeps entry {seq} in {circle}, which time let go", node.name));
                    }
                }
            }
        }
        Ok(())
    }
}
