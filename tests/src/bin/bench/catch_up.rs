//! W2: a node that holds nothing gets everything, and it is durable.

use crate::{
    floor,
    nodes::Nodes,
    peers::Signatures,
    rivals::{Ask, Rivals},
    workload::{Among, FLOOR, Gate, Limit, Numbers, OURS, Workload},
};

/// W2.
#[derive(Debug)]
pub(crate) struct CatchUp<'a> {
    pub(crate) nodes: &'a mut Nodes,
    pub(crate) rivals: &'a Rivals,
}

pub(crate) const ONE: &str = "from one, seconds";
const THREE: &str = "from three, seconds";
pub(crate) const OPENED: &str = "until all is opened and listed, seconds";
/// The comer within the benchmark's process.
const HERE: &str = "the node without its view, seconds";
const EACH: &str = "the same, each signature verified, seconds";
/// What rivals store of each item.
const ITEM_BYTES: u64 = 1_024;
const WIRE: &str = "bytes on the wire per byte stored";

impl Workload for CatchUp<'_> {
    const CODE: &'static str = "W2";

    fn about(&self) -> String {
        let (entries, bytes) = (self.nodes.entries(), self.nodes.bytes() as f64 / 1e6);
        format!("durable catch-up with {entries} entries of 1 kB, {bytes:.0} MB sealed")
    }

    fn among(&self) -> Option<Among> {
        Some(Among::Entries(self.nodes.entries()))
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        numbers.set(FLOOR, ONE, floor::copy(self.nodes.dir(), self.nodes.bytes())?);
        let one = self.nodes.catch_up(1).await?;
        numbers.set(OURS, ONE, one.seconds);
        numbers.set(OURS, OPENED, one.opened_seconds);
        numbers.set(OURS, WIRE, one.wire_bytes as f64 / self.nodes.bytes() as f64);
        numbers.set(OURS, THREE, self.nodes.catch_up(3).await?.seconds);
        numbers.set(OURS, HERE, self.nodes.catch_up_here(Signatures::Last).await?);
        numbers.set(OURS, EACH, self.nodes.catch_up_here(Signatures::Each).await?);
        let entries = self.nodes.entries();
        let per_byte = 1.0 / (entries * ITEM_BYTES) as f64;
        let taken = [("caught_up_seconds", ONE, 1.0), ("caught_up_bytes", WIRE, per_byte)];
        let work = ["sync".to_owned(), entries.to_string()];
        self.rivals.take_turns(&["iroh-docs", "git", "jetstream", "postgres"], (Ask::Again, &work), &taken, numbers);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let of_plain = medians.ratio((FLOOR, ONE), (OURS, ONE));
        let of_each = medians.ratio((OURS, EACH), (OURS, HERE));
        let of_iroh_docs = medians.ratio(("iroh-docs", ONE), (OURS, ONE));
        vec![
            Gate::new("caught up, of plain TCP + append + fdatasync", of_plain, Limit::AtLeast(0.6))
                .stretch(Limit::AtLeast(0.75)),
            Gate::new("times as fast as with each signature verified", of_each, Limit::AtLeast(8.0))
                .stretch(Limit::AtLeast(12.0)),
            Gate::new("times as fast as iroh-docs", of_iroh_docs, Limit::AtLeast(10.0)),
            Gate::new(WIRE, medians.get(OURS, WIRE), Limit::AtMost(1.15)),
            Gate::new("from three, of from one", medians.ratio((OURS, THREE), (OURS, ONE)), Limit::AtMost(1.0)),
        ]
    }
}
