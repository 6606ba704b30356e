//! W2: a node that holds nothing gets everything, and it is durable.

use crate::{
    floor,
    nodes::Nodes,
    workload::{FLOOR, Gate, Limit, Numbers, OURS, Workload},
};

/// W2.
#[derive(Debug)]
pub(crate) struct CatchUp<'a>(pub(crate) &'a mut Nodes);

const ONE: &str = "from one, seconds";
const THREE: &str = "from three, seconds";
const OPENED: &str = "until all is opened and listed, seconds";
const WIRE: &str = "bytes on the wire per byte stored";

impl Workload for CatchUp<'_> {
    const CODE: &'static str = "W2";

    fn about(&self) -> String {
        let (entries, bytes) = (self.0.entries(), self.0.bytes() as f64 / 1e6);
        format!("durable catch-up with {entries} entries of 1 kB, {bytes:.0} MB sealed")
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        numbers.set(FLOOR, ONE, floor::copy(self.0.dir(), self.0.bytes())?);
        let one = self.0.catch_up(1).await?;
        numbers.set(OURS, ONE, one.seconds);
        numbers.set(OURS, OPENED, one.opened_seconds);
        numbers.set(OURS, WIRE, one.wire_bytes as f64 / self.0.bytes() as f64);
        numbers.set(OURS, THREE, self.0.catch_up(3).await?.seconds);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let of_plain = medians.ratio((FLOOR, ONE), (OURS, ONE));
        vec![
            Gate::new("caught up, of plain TCP + append + fdatasync", of_plain, Limit::AtLeast(0.6))
                .stretch(Limit::AtLeast(0.75)),
            Gate::new(WIRE, medians.get(OURS, WIRE), Limit::AtMost(1.15)),
            Gate::new("from three, of from one", medians.ratio((OURS, THREE), (OURS, ONE)), Limit::AtMost(1.0)),
        ]
    }
}
