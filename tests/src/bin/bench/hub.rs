//! What idle connections cost the node that has them.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use cwn_node::api::types::Status;
use cwn_tests::world::World;
use tokio::time::sleep;

const HUB: &str = "hub";
/// After this a node that started, or that many connected to, has nothing more to do.
const CALM: Duration = Duration::from_secs(3);

/// A node, and members that connect to it from a process of their own.
#[derive(Debug)]
pub(crate) struct Hub {
    world: World,
    members: Vec<String>,
}

/// The members' process; it ends with this.
struct Members(Child);

impl Drop for Members {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("the system tells no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmRSS has no number")?.parse()?;
    Ok(kib << 10)
}

impl Hub {
    pub(crate) fn set_up(connections: usize) -> anyhow::Result<Self> {
        let members: Vec<String> = (0..connections).map(|number| format!("member-{number}")).collect();
        let names: Vec<&str> = [HUB].into_iter().chain(members.iter().map(String::as_str)).collect();
        Ok(Self { world: World::new(&names)?, members })
    }

    /// How much more memory the hub has resident with all members connected than without, in bytes.
    pub(crate) async fn cost(&mut self) -> anyhow::Result<u64> {
        self.world.start(HUB).await?;
        let hub = self.world.client(HUB);
        sleep(CALM).await;
        let status: Status = hub.get("/v1/status").await?;
        let alone = resident_bytes(status.pid)?;
        let address = status.listening.first().context("the hub listens")?;
        let mut members = Command::new(std::env::current_exe()?);
        members.args(["members", "--hub", &self.world.node(HUB).key.to_string(), "--address", address]);
        members.args(self.members.iter().map(|name| &self.world.node(name).data)).stdin(Stdio::null());
        let members = Members(members.spawn()?);
        let all = self.members.len();
        self.world.connected(HUB, all).await?;
        sleep(CALM).await;
        let with_all = resident_bytes(status.pid)?;
        let connected = hub.get::<Status>("/v1/status").await?.peers;
        anyhow::ensure!(connected == all, "of {all} members {connected} stayed connected");
        drop(members);
        self.world.stop(HUB)?;
        Ok(with_all.saturating_sub(alone))
    }
}
