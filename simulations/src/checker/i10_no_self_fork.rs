//! I10: an honest node never signs two entries for one place.

use std::collections::BTreeMap;

use cwn_crypto::Hash;
use cwn_engine::{log::LogKey, store::Write};

use super::{Checker, Seen};
use crate::world::World;

#[derive(Debug, Default)]
pub(crate) struct NoSelfFork {
    signed: BTreeMap<(LogKey, u64), Hash>,
}

impl Checker for NoSelfFork {
    fn promise(&self) -> &'static str {
        "I10"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write: Write::Entry(entry), .. } = seen else { return Ok(()) };
        let node = &world.nodes[*node];
        if entry.key().author != node.me || !node.is_honest() {
            return Ok(());
        }
        let (seq, hash) = (entry.header().seq, entry.hash());
        let first = *self.signed.entry((entry.key(), seq)).or_insert(hash);
        if first == hash {
            return Ok(());
        }
        Err(format!("{} signed two entries for place {seq} of log {}", node.name, entry.key().log))
    }
}
