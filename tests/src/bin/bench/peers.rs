//! Whole nodes in this process: engine, store, log thread and network as in a daemon; whoever measures stands in the
//! place of the view, and hears of every entry once it is durable and accepted.

use std::{path::Path, sync::mpsc as std_mpsc, time::Duration};

use anyhow::Context;
use cwn_crypto::{Domain, PartnerId, PublicKey, Signature, certificate::Certificate};
use cwn_engine::{
    circle::{Charter, MemberNode, Steward, Terms},
    engine::{self, AcceptRule, Engine},
    input::{Audience, Command, Input},
    log::{CircleId, Header},
    output::Reply,
    store::Read as _,
    wire::RunFrame,
};
use cwn_node::{
    clock,
    driver::{self, Outlets, random},
    inbox::Told,
    keyring::Keyring,
    keystore::Keys,
    membership::Membership,
    network::{self, Address, Event, Gate},
    store::Store,
};
use cwn_tests::world::{self, World};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use crate::nodes::Live;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Who the node of a data directory is.
pub(crate) fn identity(data: &Path) -> anyhow::Result<(Keys, Membership)> {
    let keys = world::keys(data)?;
    let membership = Membership::load(data, &keys)?;
    Ok((keys, membership))
}

/// Which signatures of a run are verified.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signatures {
    /// As the engine does: hashes chain the entries, and who signed the last has signed them all.
    Last,
    /// Each, before the engine sees the run: what a network would do that does not chain them.
    Each,
}

/// One node.
pub(crate) struct Peer {
    certificate: Certificate,
    driver: driver::Handle,
    network: network::Handle,
    address: Address,
    /// What the view would be told; it can be taken once.
    pub(crate) told: Option<std_mpsc::Receiver<Told>>,
}

impl Peer {
    /// Starts one on a data directory that nobody uses.
    pub(crate) async fn start(data: &Path, signatures: Signatures) -> anyhow::Result<Self> {
        let (keys, membership) = identity(data)?;
        let (store, _) = Store::open(data, &mut |_| {})?;
        let config = engine::Config {
            key: keys.signing.clone(),
            root: membership.root().clone(),
            accept: AcceptRule::Certified,
        };
        let engine = Engine::open(config, clock::now(), &store)?;
        let gate = Gate::new(membership.root().clone(), membership.signed(), clock::now);
        gate.judge_by(network::Trust::of(engine.root(), engine.word()));
        let (network, mut events) = network::start(network::Config {
            key: keys.signing.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            external: Vec::new(),
            relay: None,
            gate,
            dial_spread: Duration::ZERO,
            memory_limit: None,
        })?;
        let keyring = std::sync::Arc::new(Keyring::new(keys.sealing.clone(), store.reader()));
        let (tell, told) = std_mpsc::channel();
        // What the engine says to people nobody reads here.
        let (events_to, _) = mpsc::unbounded_channel();
        let outlets = Outlets { told: tell, events: events_to };
        let driver = driver::start(engine, store, keyring, network.clone(), outlets)?;
        driver.input(Input::Import { entries: Membership::issuer_log(data)? }).await?;
        let address = loop {
            if let Event::Listening { address } = events.recv().await.context("the network ended")? {
                break address;
            }
        };
        tokio::spawn(carry(driver.clone(), network.clone(), events, signatures));
        let certificate = membership.certificate().clone();
        Ok(Self { certificate, driver, network, address, told: Some(told) })
    }

    /// Connects with a node, and stays connected.
    pub(crate) fn want(&self, node: PublicKey, address: Address) {
        self.network.want(node, vec![address]);
    }

    pub(crate) async fn stop(self) {
        self.network.shut_down();
        self.driver.stop().await;
    }

    /// Waits until it has a session with anybody.
    pub(crate) async fn connected(&self, with: usize) -> anyhow::Result<()> {
        self.until("connected with all", move |engine| engine.peers().len() == with).await
    }

    fn key(&self) -> PublicKey {
        self.certificate.node
    }

    fn member(&self) -> MemberNode {
        MemberNode { node: self.certificate.node, recipient: self.certificate.recipient }
    }

    fn partner(&self) -> PartnerId {
        self.certificate.partner.clone()
    }

    /// By which it can be published from other tasks.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher(self.driver.clone())
    }

    /// What it sent on live streams.
    pub(crate) fn live(&self) -> Live {
        let (frames, bytes) = self.driver.traffic();
        Live::of(frames, bytes)
    }

    /// Waits until this holds of its engine.
    pub(crate) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&Engine) -> bool + Clone + Send + 'static,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let holds = holds.clone();
            if self.driver.ask(move |engine, _| holds(engine)).await? {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "it never came to this: {what}");
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Publishes as one node.
pub(crate) struct Publisher(driver::Handle);

impl Publisher {
    /// Seals and appends for all of a circle, and waits until it is durable with the node.
    pub(crate) async fn publish(&self, circle: CircleId, plaintext: Vec<u8>) -> anyhow::Result<()> {
        let append = Command::Append {
            circle,
            audience: Audience::Circle,
            expiry: None,
            only_when_current: false,
            kept: None,
            retracts: None,
        };
        match self.0.append(append, Zeroizing::new(plaintext)).await? {
            Reply::Appended { .. } => Ok(()),
            other => anyhow::bail!("publishing came to {other:?}"),
        }
    }
}

/// As the daemon does, but for the signatures that are verified besides.
async fn carry(
    driver: driver::Handle,
    network: network::Handle,
    mut events: mpsc::Receiver<Event>,
    signatures: Signatures,
) -> anyhow::Result<()> {
    while let Some(event) = events.recv().await {
        if let (Event::RunFrame { bytes, .. }, Signatures::Each) = (&event, signatures) {
            verify_each(&RunFrame::from_bytes(bytes)?)?;
        }
        if let Event::ChunkRequest { stream, .. } = event {
            network.decline(stream);
        } else if let Some(input) = driver::input_of(event) {
            driver.input(input).await?;
        }
    }
    Ok(())
}

fn verify_each(run: &RunFrame) -> anyhow::Result<()> {
    for entry in &run.entries {
        let author = Header::from_bytes(&entry.header)?.author;
        author.verify(Domain::ENTRY, &entry.header, &entry.signature)?;
    }
    Ok(())
}

/// Nodes of which each is connected with each, as in a network of so few, in one circle.
pub(crate) struct Peers {
    /// The first founded the circle.
    pub(crate) nodes: Vec<Peer>,
    pub(crate) circle: CircleId,
    _world: World,
}

impl Peers {
    /// So many.
    pub(crate) async fn start(count: usize) -> anyhow::Result<Self> {
        let names: Vec<String> = (0..count).map(|number| format!("peer-{number}")).collect();
        let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut nodes: Vec<Peer> = Vec::new();
        for name in &names {
            let node = Peer::start(&world.node(name).data, Signatures::Last).await?;
            for before in &nodes {
                node.want(before.key(), before.address.clone());
            }
            nodes.push(node);
        }
        let all = count - 1;
        for node in &nodes {
            node.connected(all).await?;
        }
        let circle = found(&nodes).await?;
        for node in &nodes {
            node.until("in the circle", move |engine| engine.circle(&circle).is_some()).await?;
        }
        Ok(Self { nodes, circle, _world: world })
    }

    /// What the newest entry of the first takes: header, signature, sealed payload.
    pub(crate) async fn entry_bytes(&self) -> anyhow::Result<u64> {
        let circle = self.circle;
        let newest = self.nodes[0].driver.ask(move |_, store| {
            let logs = store.logs()?.into_iter().filter(|(key, _)| key.circle == circle);
            let longest = logs.max_by_key(|(_, tip)| tip.height).context("nothing was published")?;
            let (key, tip) = longest;
            let newest = store.entry(&key, tip.height - 1)?.context("its newest entry is held")?;
            anyhow::Ok((newest.header.len() + size_of::<Signature>() + newest.payload.len()) as u64)
        });
        newest.await?
    }

    /// Ends all.
    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

async fn found(nodes: &[Peer]) -> anyhow::Result<CircleId> {
    let founder = &nodes[0];
    let charter = Charter {
        name: "bench".to_owned(),
        stewards: vec![Steward { partner: founder.partner(), node: founder.member() }],
        terms: Terms::default(),
        secret: random(),
        founded: clock::now(),
        succeeds: None,
    };
    let circle = match founder.driver.command(Command::Found { charter }).await? {
        Reply::Founded(circle) => circle,
        other => anyhow::bail!("founding came to {other:?}"),
    };
    for node in &nodes[1..] {
        founder.driver.command(Command::Add { circle, partner: node.partner(), nodes: vec![node.member()] }).await?;
    }
    Ok(circle)
}
