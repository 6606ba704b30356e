//! W7: a steward founds a circle with many members, adds one, and removes one.

use std::time::Instant;

use anyhow::Context;
use cwn_node::api::types::{Id, Membership};
use cwn_tests::world::World;

use crate::workload::{Gate, Limit, Numbers, OURS, Workload};

const STEWARD: &str = "steward";

/// W7.
#[derive(Debug)]
pub(crate) struct LargeCircle {
    world: World,
    /// All but the last are added when the circle is founded.
    members: Vec<String>,
    founded: usize,
}

impl LargeCircle {
    /// With so many members, the steward among them.
    pub(crate) async fn set_up(members: usize) -> anyhow::Result<Self> {
        let members: Vec<String> = (1..members).map(|number| format!("member-{number}")).collect();
        let names: Vec<&str> = [STEWARD].into_iter().chain(members.iter().map(String::as_str)).collect();
        let mut world = World::new(&names)?;
        // Nobody else runs, and nobody needs to be dialled.
        world.configure(STEWARD, |config| config.network.offline = true)?;
        world.start(STEWARD).await?;
        Ok(Self { world, members, founded: 0 })
    }
}

const FOUNDED: &str = "founded with all but one, seconds";
const FIRST: &str = "the first entry, sealed to all, seconds";
const ADDED: &str = "one added, seconds";
const REMOVED: &str = "one removed, durable and rotated, seconds";

impl Workload for LargeCircle {
    const CODE: &'static str = "W7";

    fn about(&self) -> String {
        format!("a circle with {} members", self.members.len() + 1)
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let client = self.world.client(STEWARD);
        self.founded += 1;
        let name = format!("bench-{}", self.founded);
        let (last, others) = self.members.split_last().context("a circle of one")?;
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let seconds = |start: Instant| start.elapsed().as_secs_f64();
        let start = Instant::now();
        self.world.found_at_once(STEWARD, &name, &others).await?;
        numbers.set(OURS, FOUNDED, seconds(start));
        let start = Instant::now();
        self.world.publish_as(STEWARD, &name, "a report", "GREEN", &[]).await?;
        numbers.set(OURS, FIRST, seconds(start));
        let membership = Membership { partner: last.clone(), node: None };
        let start = Instant::now();
        let _: Id = client.post(&format!("/v1/circles/{name}/add"), &membership).await?;
        numbers.set(OURS, ADDED, seconds(start));
        // What the one that goes could still open is over now; a removal of who has an epoch makes another.
        self.world.publish_as(STEWARD, &name, "a report", "GREEN", &[]).await?;
        let start = Instant::now();
        let _: Id = client.post(&format!("/v1/circles/{name}/remove"), &membership).await?;
        // It is sealed to the new epoch, whose record is durable before it.
        self.world.publish_as(STEWARD, &name, "a report", "GREEN", &[]).await?;
        numbers.set(OURS, REMOVED, seconds(start));
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        vec![Gate::new(REMOVED, medians.get(OURS, REMOVED), Limit::AtMost(1.0))]
    }
}
