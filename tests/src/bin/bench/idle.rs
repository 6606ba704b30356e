//! W4: what a node costs that has nothing to do, and what its connections cost it.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use cwn_node::api::types::Status;
use cwn_tests::world::World;
use tokio::time::sleep;

use crate::{
    machine::{self, Killed},
    rivals::{Ask, Rivals},
    workload::{Gate, Limit, Numbers, OURS, Workload},
};

const HUB: &str = "hub";
/// After this a node that started, or that many connected to, has nothing more to do.
const CALM: Duration = Duration::from_secs(3);

/// A node, and members that connect to it from a process of their own.
#[derive(Debug)]
pub(crate) struct Idle<'a> {
    rivals: &'a Rivals,
    world: World,
    members: Vec<String>,
    watched: Duration,
}

impl<'a> Idle<'a> {
    /// A node that so many members connect to, and that is watched for so long.
    pub(crate) fn set_up(connections: usize, watched: Duration, rivals: &'a Rivals) -> anyhow::Result<Self> {
        let members: Vec<String> = (0..connections).map(|number| format!("member-{number}")).collect();
        let names: Vec<&str> = [HUB].into_iter().chain(members.iter().map(String::as_str)).collect();
        Ok(Self { rivals, world: World::new(&names)?, members, watched })
    }
}

const RESIDENT: &str = "resident, MiB";
const CONNECTIONS: &str = "of it for the connections, MiB";
const PROCESSOR: &str = "of a processor, %";
const TRAFFIC: &str = "sent and received, kB/s";

impl Workload for Idle<'_> {
    const CODE: &'static str = "W4";

    fn about(&self) -> String {
        format!("a node with {} idle peers, watched for {} s", self.members.len(), self.watched.as_secs())
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        self.world.start(HUB).await?;
        let hub = self.world.client(HUB);
        sleep(CALM).await;
        let status: Status = hub.get("/v1/status").await?;
        let alone = machine::memory_bytes(status.pid, "VmRSS")?;
        let address = status.listening.first().context("the hub listens")?;
        let mut members = Command::new(std::env::current_exe()?);
        members.args(["members", "--hub", &self.world.node(HUB).key.to_string(), "--address", address]);
        members.args(self.members.iter().map(|name| &self.world.node(name).data)).stdin(Stdio::null());
        let members = Killed(members.spawn()?);
        let all = self.members.len();
        self.world.connected(HUB, all).await?;
        sleep(CALM).await;
        let with_all = machine::memory_bytes(status.pid, "VmRSS")?;
        let (cpu, bytes) = (machine::cpu(status.pid)?, machine::loopback_bytes()?);
        sleep(self.watched).await;
        let seconds = self.watched.as_secs_f64();
        let cpu = (machine::cpu(status.pid)? - cpu).as_secs_f64();
        let bytes = machine::loopback_bytes()? - bytes;
        let connected = hub.get::<Status>("/v1/status").await?.peers;
        anyhow::ensure!(connected == all, "of {all} members {connected} stayed connected");
        drop(members);
        self.world.stop(HUB)?;
        numbers.set(OURS, RESIDENT, mib(with_all));
        numbers.set(OURS, CONNECTIONS, mib(with_all.saturating_sub(alone)));
        numbers.set(OURS, PROCESSOR, cpu / seconds * 100.0);
        numbers.set(OURS, TRAFFIC, bytes as f64 / 1e3 / seconds);
        let work = ["idle".to_owned(), all.to_string(), self.watched.as_secs().to_string()];
        let taken =
            [("resident_mib", RESIDENT, 1.0), ("cpu_percent", PROCESSOR, 1.0), ("bytes_per_second", TRAFFIC, 1e-3)];
        self.rivals.take_turns(&["iroh-gossip", "gossipsub", "jetstream"], (Ask::Now, &work), &taken, numbers);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let gate = |what, most| Gate::new(what, medians.get(OURS, what), Limit::AtMost(most));
        match self.members.len() {
            // What was asked before of many connections: two thirds of a MiB each with what the allocator keeps.
            200.. => vec![gate(CONNECTIONS, 64.0)],
            _ => vec![gate(RESIDENT, 32.0), gate(PROCESSOR, 0.1), gate(TRAFFIC, 0.5)],
        }
    }
}
