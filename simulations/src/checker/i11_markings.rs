//! I11: a marking never widens: what is for some partners opens for their nodes and its author's, and nobody else's.
//!
//! Such a text names those it is for, and every node's key is tried on it.

use cwn_crypto::seal::{Seal, StandIn};
use cwn_engine::{limits, log::Suite, store::Write};

use super::{Checker, Seen};
use crate::{people::addressees, world::World};

#[derive(Debug)]
pub(crate) struct Markings;

impl Checker for Markings {
    fn promise(&self) -> &'static str {
        "I11"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write: Write::Entry(entry), fresh: true } = seen else { return Ok(()) };
        let author = &world.nodes[*node];
        if entry.header().suite != Suite::Named || !author.is_honest() {
            return Ok(());
        }
        for reader in &world.nodes {
            let sealed = entry.bytes().payload.sealed().unwrap_or_default();
            let opened = StandIn.open_with_key(&reader.sealing, sealed, limits::PAYLOAD_BYTES);
            let Ok(text) = opened else { continue };
            if reader.partner != author.partner && !addressees(&text).any(|name| name == reader.partner.as_str()) {
                return Err(format!("{} can open what {} wrote for others", reader.name, author.name));
            }
        }
        Ok(())
    }
}
