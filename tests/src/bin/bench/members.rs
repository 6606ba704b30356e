//! Many members in one process, each with a network and an engine of its own, and none with a store: they hold
//! what they hear in memory, which is enough to compare the network circle with a hub and then be idle.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use cwn_crypto::{PublicKey, certificate::Standing};
use cwn_engine::{
    engine::{self, AcceptRule, Engine},
    input::Input,
    output::Output,
    store::Nothing,
};
use cwn_node::{
    clock, driver,
    membership::Membership,
    network::{self, Address, Event, Gate},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};

use crate::peers;

/// Members that may be on their way to the hub at a time: a listener takes 64.
const AT_ONCE: usize = 16;
/// When nothing else happens.
const LOOK_EVERY_MS: u64 = 60_000;

/// Who connects, and to whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The hub's key.
    #[arg(long)]
    hub: String,
    /// Where the hub listens.
    #[arg(long)]
    address: Address,
    /// The members' data directories.
    data: Vec<PathBuf>,
}

/// Connects all, and holds the connections until the process is ended.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let hub = PublicKey::from_hex(&arguments.hub).context("--hub is not a node's key")?;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut members = Vec::new();
    for data in arguments.data {
        let place = Arc::clone(&places).acquire_owned().await?;
        let member = Member::open(&data)?;
        member.network.want(hub, vec![arguments.address.clone()]);
        members.push(tokio::spawn(member.live(place)));
    }
    for member in members {
        member.await?;
    }
    anyhow::bail!("the members' networks ended")
}

struct Member {
    engine: Engine,
    network: network::Handle,
    events: mpsc::Receiver<Event>,
}

impl Member {
    fn open(data: &std::path::Path) -> anyhow::Result<Self> {
        let (keys, membership) = peers::identity(data)?;
        let gate = Gate::new(membership.root().clone(), membership.signed(), clock::now);
        let (network, events) = network::start(network::Config {
            key: keys.signing.clone(),
            listen: Vec::new(),
            external: Vec::new(),
            relay: None,
            gate,
            dial_spread: Duration::ZERO,
            memory_limit: None,
        })?;
        let config = engine::Config { key: keys.signing, root: membership.root().clone(), accept: AcceptRule::Ask };
        let engine = Engine::open(config, clock::now(), &Nothing)?;
        let mut member = Self { engine, network, events };
        member.take(Input::Import { entries: Membership::issuer_log(data)? });
        Ok(member)
    }

    /// Lives for ever; gives its place back once it is connected.
    async fn live(mut self, place: tokio::sync::OwnedSemaphorePermit) {
        let mut place = Some(place);
        loop {
            let due_ms = self.engine.next_deadline().map_or(LOOK_EVERY_MS, |due| due.since(clock::now()));
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = sleep(Duration::from_millis(due_ms)) => {
                    self.take(Input::Tick);
                    continue;
                }
            };
            let Some(event) = event else { return };
            if let Event::PeerUp { standing, .. } = &event {
                assert!(*standing == Standing::Valid, "the hub's certificate is new");
                drop(place.take());
            }
            if let Event::ChunkRequest { stream, .. } = event {
                self.network.decline(stream);
            } else if let Some(input) = driver::input_of(event) {
                self.take(input);
            }
        }
    }

    fn take(&mut self, input: Input) {
        self.engine.handle(clock::now(), input, &Nothing);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Store { ticket, .. } => self.engine.handle(clock::now(), Input::Stored { ticket }, &Nothing),
                Output::Send { peer, session, bytes } => self.network.send(peer, session.0, bytes),
                Output::Pull { peer, session, pull, bytes } => self.network.pull(peer, session.0, pull.0, bytes),
                Output::CancelPull { pull } => self.network.cancel_pull(pull.0),
                // There is nothing here to stream from.
                Output::SendRun { stream, .. } | Output::RefuseRun { stream } => self.network.decline(stream.0),
                Output::Disconnect { peer, reason, .. } => self.network.disconnect(peer, reason),
                Output::Seal { .. }
                | Output::MakeEpoch { .. }
                | Output::SealKeys { .. }
                | Output::CheckKeys { .. }
                | Output::Given { .. }
                | Output::Accepted { .. }
                | Output::Retracted { .. }
                | Output::Dropped { .. }
                | Output::Reply { .. }
                | Output::Emit(_) => {}
            }
        }
    }
}
