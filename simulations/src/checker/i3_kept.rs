//! I3: what time drops is dropped in time: no payload goes before it expired or a retention let it go, whatever a node's
//! clock says alone, none is taken without its payload before that, and what takes something back stays.
//!
//! A node may be an hour ahead of another whose clock it believes, and that one by as much as it ever was.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, Time};
use cwn_engine::{
    circle::{Act, Operation},
    limits,
    log::{CircleId, Header, LogKey, Payload, Suite},
    store::Write,
};

use super::{Checker, Seen};
use crate::{people::short, world::World};

/// What a clock may have gained by steps that are too small to be doubted.
const SMALL_STEPS_MS: u64 = limits::CLOCK_AGREES_MS;

#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// How far each node's clock ever was ahead.
    ahead: BTreeMap<usize, u64>,
    /// When a policy was first seen that keeps for so many days.
    retentions: BTreeMap<CircleId, Vec<(Time, u32)>>,
    /// The operations that said so.
    operations: BTreeSet<Hash>,
}

impl Kept {
    fn note_clocks(&mut self, world: &World) {
        for (index, node) in world.nodes.iter().enumerate() {
            let ahead = u64::try_from(node.clock_ahead_ms).unwrap_or(0);
            let most = self.ahead.entry(index).or_default();
            *most = ahead.max(*most);
        }
    }

    /// The latest time that a node may believe it to be.
    fn latest(&self, world: &World, node: usize) -> Time {
        let others = self.ahead.iter().filter(|(index, _)| **index != node).map(|(_, ahead)| *ahead).max();
        world.now.plus(others.unwrap_or(0) + limits::CLOCK_AGREES_MS + SMALL_STEPS_MS)
    }

    /// What a charter says holds from the first.
    fn may_go(&self, world: &World, circle: &CircleId, header: &Header, latest: Time) -> bool {
        let over = |time: Time| time <= latest;
        let by_charter = |days: u32| over(header.time.plus(u64::from(days) * Time::DAY_MS));
        let let_go = |(since, days): &(Time, u32)| {
            over(since.plus(limits::SHORTER_RETENTION_MS)) && over(header.time.plus(u64::from(*days) * Time::DAY_MS))
        };
        header.expiry.is_some_and(over)
            || charter_days(world, circle).is_some_and(by_charter)
            || self.retentions.get(circle).is_some_and(|all| all.iter().any(let_go))
    }
}

/// For how many days a circle is kept by its charter.
fn charter_days(world: &World, circle: &CircleId) -> Option<u32> {
    world.truth.histories.get(circle).and_then(|history| history.charter.terms.retention())
}

fn header_of(world: &World, node: usize, key: &LogKey, seq: u64) -> Option<Header> {
    let (_, entry) = world.nodes[node].disk.held().logs.get(key)?.get(usize::try_from(seq).ok()?)?;
    Header::from_bytes(&entry.header).ok()
}

impl Checker for Kept {
    fn promise(&self) -> &'static str {
        "I3"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write, .. } = seen else { return Ok(()) };
        self.note_clocks(world);
        match write {
            Write::Entry(entry) if entry.header().suite == Suite::Control => {
                let operation = entry.bytes().payload.sealed().and_then(|bytes| Operation::from_bytes(bytes).ok());
                if let Some(Operation { act: Act::Policy { terms }, .. }) = operation
                    && let Some(days) = terms.retention()
                    && self.operations.insert(entry.hash())
                {
                    self.retentions.entry(entry.key().circle).or_default().push((world.now, days));
                }
                Ok(())
            }
            _ if !world.nodes[*node].is_honest() => Ok(()),
            Write::Entry(entry) if entry.bytes().payload == Payload::Dropped => {
                // A node that comes late takes what others dropped a while before it would itself; and a policy counts
                // for it from the first.
                let latest = self.latest(world, *node).plus(2 * limits::CLOCK_AGREES_MS);
                let header = entry.header();
                let since_then = self.retentions.get(&header.circle).into_iter().flatten().map(|(_, days)| *days);
                let shortest = since_then.chain(charter_days(world, &header.circle)).min();
                let old = shortest.is_some_and(|days| header.time.plus(u64::from(days) * Time::DAY_MS) <= latest);
                if old || header.expiry.is_some_and(|expiry| expiry <= latest) {
                    return Ok(());
                }
                let name = &world.nodes[*node].name;
                Err(format!("{name} takes entry {} in {} without its payload", header.seq, short(&header.circle)))
            }
            Write::Drop { key, seq, .. } => {
                let (name, circle) = (&world.nodes[*node].name, short(&key.circle));
                let Some(header) = header_of(world, *node, key, *seq) else { return Ok(()) };
                if header.retracts.is_some() {
                    return Err(format!("{name} drops entry {seq} in {circle}, which takes another back"));
                }
                if !self.may_go(world, &key.circle, &header, self.latest(world, *node)) {
                    return Err(format!("{name} drops entry {seq} in {circle} before its time"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
