//! W1: two nodes that hold the same find that out.

use crate::{
    nodes::Nodes,
    rivals::{Ask, Rivals},
    workload::{Among, Gate, Limit, Numbers, OURS, Workload},
};

/// W1.
#[derive(Debug)]
pub(crate) struct Compare<'a> {
    pub(crate) nodes: &'a Nodes,
    pub(crate) rivals: &'a Rivals,
}

const ROUND_TRIPS: &str = "on an open connection, round trips";
const FROM_DIAL: &str = "from the dial on, round trips";
/// With connect, and with no line between the two.
pub(crate) const CONNECT: &str = "from the dial on, ms";
const CONNECT_BYTES: &str = "from the dial on, bytes";
pub(crate) const BYTES: &str = "on an open connection, bytes per circle";
const FRAMES: &str = "on an open connection, frames both ways";
const LATER: &str = "held statements later, bytes";

impl Workload for Compare<'_> {
    const CODE: &'static str = "W1";

    fn about(&self) -> String {
        match self.nodes.circles() {
            1 => format!("nothing to sync among {} entries", self.nodes.entries()),
            circles => format!("nothing to sync in {circles} circles"),
        }
    }

    fn among(&self) -> Option<Among> {
        Some(match self.nodes.circles() {
            1 => Among::Entries(self.nodes.entries()),
            circles => Among::Circles(circles),
        })
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let compared = self.nodes.compare().await?;
        numbers.set(OURS, ROUND_TRIPS, compared.round_trips);
        numbers.set(OURS, FROM_DIAL, compared.round_trips_from_dial);
        numbers.set(OURS, CONNECT, compared.from_dial_ms);
        numbers.set(OURS, BYTES, compared.bytes_per_circle);
        numbers.set(OURS, FRAMES, compared.frames as f64);
        numbers.set(OURS, LATER, compared.later_bytes as f64);
        let work = ["sync".to_owned(), self.nodes.entries().to_string()];
        let taken = [("compared_ms", CONNECT, 1.0), ("compared_bytes", CONNECT_BYTES, 1.0)];
        self.rivals.take_turns(&["iroh-docs", "git", "jetstream", "postgres"], (Ask::Now, &work), &taken, numbers);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let of = |who| medians.ratio((OURS, CONNECT), (who, CONNECT));
        vec![
            Gate::new(ROUND_TRIPS, medians.get(OURS, ROUND_TRIPS), Limit::AtMost(1.0)),
            Gate::new(BYTES, medians.get(OURS, BYTES), Limit::AtMost(200.0)),
            Gate::new("with connect, of iroh-docs", of("iroh-docs"), Limit::AtMost(0.1)),
            Gate::new("with connect, of git", of("git"), Limit::AtMost(0.2)),
        ]
    }
}
