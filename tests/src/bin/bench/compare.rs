//! W1: two nodes that hold the same find that out.

use crate::{
    nodes::Nodes,
    workload::{Gate, Limit, Numbers, OURS, Workload},
};

/// W1.
#[derive(Debug)]
pub(crate) struct Compare<'a>(pub(crate) &'a mut Nodes);

const ROUND_TRIPS: &str = "on an open connection, round trips";
const FROM_DIAL: &str = "from the dial on, round trips";
const BYTES: &str = "on an open connection, bytes per circle";
const FRAMES: &str = "on an open connection, frames both ways";
const LATER: &str = "held statements later, bytes";

impl Workload for Compare<'_> {
    const CODE: &'static str = "W1";

    fn about(&self) -> String {
        format!("nothing to sync among {} entries", self.0.entries())
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let compared = self.0.compare().await?;
        numbers.set(OURS, ROUND_TRIPS, compared.round_trips);
        numbers.set(OURS, FROM_DIAL, compared.round_trips_from_dial);
        numbers.set(OURS, BYTES, compared.bytes_per_circle);
        numbers.set(OURS, FRAMES, compared.frames as f64);
        numbers.set(OURS, LATER, compared.later_bytes as f64);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        vec![
            Gate::new(ROUND_TRIPS, medians.get(OURS, ROUND_TRIPS), Limit::AtMost(1.0)),
            Gate::new(BYTES, medians.get(OURS, BYTES), Limit::AtMost(200.0)),
        ]
    }
}
