//! I7: what one peer can have a node write down is bounded: whatever it says, and however often.
//!
//! Entries and epoch records are bounded by quotas, which another checker holds them to. This is about all that a node notes
//! besides because of what a peer says.

use std::collections::BTreeMap;

use cwn_crypto::Time;
use cwn_engine::store::Write;

use super::{Checker, Seen};
use crate::world::World;

const HOUR_MS: u64 = 60 * 60 * Time::SECOND_MS;

/// What one peer makes a node note within an hour, at most. In lives without malice four hundred things were the most, of two
/// hundred kilobytes where much had been written for days: nearly all of it what others hold, in up to three kilobytes each.
const NOTES: u64 = 2_048;
/// So many times as much when it was put back to an old backup: it hears anew, from whoever it meets first, what all others
/// hold of all that it wrote (seed 75019, 20 nodes, 24 h: 2,216 things).
const PUT_BACK: u64 = 4;
const NOTE_BYTES: u64 = 1 << 20;

/// What one peer made a node note, since when.
#[derive(Debug, Default)]
struct Noted {
    since: Time,
    notes: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Disks {
    noted: BTreeMap<(usize, usize), Noted>,
}

impl Checker for Disks {
    fn promise(&self) -> &'static str {
        "I7"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write: Write::Fact { key, value }, .. } = seen else { return Ok(()) };
        let Some(peer) = world.because.filter(|_| world.nodes[*node].is_honest()) else { return Ok(()) };
        let noted = self.noted.entry((*node, peer)).or_default();
        if world.now.since(noted.since) > HOUR_MS {
            *noted = Noted { since: world.now, ..Noted::default() };
        }
        noted.notes += 1;
        noted.bytes += (key.len() + value.len()) as u64;
        let put_back = if world.nodes[*node].lost_ever { PUT_BACK } else { 1 };
        if noted.notes > put_back * NOTES || noted.bytes > NOTE_BYTES {
            let (node, peer) = (&world.nodes[*node].name, &world.nodes[peer].name);
            let Noted { notes, bytes, .. } = noted;
            return Err(format!("{peer} makes {node} note {notes} things of {bytes} bytes within an hour"));
        }
        Ok(())
    }
}
