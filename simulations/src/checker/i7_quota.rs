//! I7: no node takes more of one other node, in one circle, than the circle's quotas let it: however much that one writes,
//! and however many logs it opens.

use std::collections::BTreeMap;

use cwn_crypto::PublicKey;
use cwn_engine::{
    circle::Quota,
    limits,
    log::{CircleId, LogKind},
};

use super::Checker;
use crate::{
    oracle::History,
    people::short,
    world::{Node, World},
};

#[derive(Debug)]
pub(crate) struct Quotas;

impl Checker for Quotas {
    fn promise(&self) -> &'static str {
        "I7"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (circle, history) in &world.truth.histories {
            let largest = history.quotas().map(|quota| quota.unwrap_or(limits::QUOTA)).reduce(more);
            let Some(largest) = largest else { continue };
            for node in world.honest() {
                let replica = node.engine.as_ref().and_then(|engine| engine.circle(circle));
                let Some(replica) = replica else { continue };
                for (author, used) in held(node, circle, world) {
                    let within = || largest.holds(&used) || with_cuts(world, history, &author, largest).holds(&used);
                    if author != node.me && replica.counts(&author) && !within() {
                        let (name, counted) = (&node.name, replica.used(&author));
                        return Err(format!(
                            "{name} holds {used:?} of one member in {}, and counts {counted:?} of {largest:?}",
                            short(circle)
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a cut leaves of who was removed is taken in any case, and stays when that one is added again: as much as the steward
/// that removed it took.
fn with_cuts(world: &World, history: &History, author: &PublicKey, largest: Quota) -> Quota {
    let partner = world.nodes.iter().find(|node| node.me == *author).map(|node| &node.partner);
    let honest = |key: &PublicKey| world.honest().any(|node| node.me == *key);
    let removed = partner.map_or(0, |partner| history.times_removed(partner, author, honest));
    (0..removed).fold(largest, |bound, _| bound.plus(&largest))
}

/// What a disk holds of the content of each author in a circle. What cannot be read back counts for no quota: its log is
/// held up to there, and something else may have come meanwhile.
fn held(node: &Node, circle: &CircleId, world: &World) -> BTreeMap<PublicKey, Quota> {
    let mut held: BTreeMap<PublicKey, Quota> = BTreeMap::new();
    let content = |author, log| {
        let told = world.truth.logs.get(&(author, log));
        told.is_some_and(|(_, kind, _)| *kind == LogKind::Content)
    };
    let logs = node.disk.held().logs.iter();
    for (key, log) in logs.filter(|(key, _)| key.circle == *circle && content(key.author, key.log)) {
        let sound = log.iter().zip(0..).take_while(|(_, seq)| !node.disk.is_rotten(key, *seq));
        let sizes: Vec<usize> = sound.map(|((_, entry), _)| entry.header.len() + entry.payload.len()).collect();
        let (bytes, entries) = (sizes.iter().sum::<usize>() as u64, sizes.len() as u64);
        let used = held.entry(key.author).or_default();
        *used = used.plus(&Quota { bytes, entries, logs: u64::from(entries > 0), epochs: 0 });
    }
    held
}

fn more(one: Quota, other: Quota) -> Quota {
    Quota {
        bytes: one.bytes.max(other.bytes),
        entries: one.entries.max(other.entries),
        logs: one.logs.max(other.logs),
        epochs: one.epochs.max(other.epochs),
    }
}
