//! Nodes that hold everything, and one that comes and catches up, and then holds the same.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use cwn_crypto::{
    Time,
    issuer_log::{CutLine, LogId},
    seal::{Age, Seal},
};
use cwn_engine::{
    engine::Engine,
    log::{CircleId, Draft, LogKind, Opening, Stored, Suite, Under, Writer},
    store::{Read, Write},
};
use cwn_functions::{marking::Tlp, sharing};
use cwn_node::{
    api::{
        client::Client,
        types::{EntrySummary, PeerView, Status},
    },
    clock,
    config::Bootstrap,
    driver::random,
    inbox::Told,
    keyring::Keyring,
    network::Address,
    store::Store,
};
use cwn_tests::world::World;
use tokio::time::sleep;

use crate::{
    delay::Line,
    machine,
    peers::{self, Peer, Signatures},
};

/// Who holds everything; the first wrote it.
const HOLDERS: [&str; 3] = ["holder", "second", "third"];
const HOLDER: &str = HOLDERS[0];
const COMER: &str = "comer";
const CIRCLE: &str = "bench";
const BODY_BYTES: usize = 1_000;
/// Entries made durable at once while filling.
const GROUP: usize = 4_096;
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(900);
/// How closely is looked: what is measured takes hundreds of milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Long beside what computing takes, so that what is measured is how often something had to travel.
const ONE_WAY: Duration = Duration::from_millis(150);
/// What a node does when it starts is over then.
const STARTED: Duration = Duration::from_millis(500);
/// Within this what belongs to the comparison is through; held statements come two seconds after it.
const COMPARED: Duration = Duration::from_secs(1);
const STATED: Duration = Duration::from_secs(2);

/// Nodes that hold everything and run. The comer runs only while it is measured.
#[derive(Debug)]
pub(crate) struct Nodes {
    world: World,
    dir: PathBuf,
    entries: u64,
    bytes: u64,
    circles: u64,
    /// The comer as it was before there was anything to catch up with.
    empty: PathBuf,
    /// To the holder, and long.
    far: Line,
    direct: Vec<SocketAddr>,
}

/// How a node caught up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchUp {
    /// From the session until everything is durable.
    pub(crate) seconds: f64,
    /// From the session until everything is opened and listed.
    pub(crate) opened_seconds: f64,
    /// What went over the wire until it was durable, with the headers of IP and TCP.
    pub(crate) wire_bytes: u64,
}

/// How two nodes that hold the same found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compared {
    /// From the session until the comer knows.
    pub(crate) round_trips: f64,
    /// From the dial on: with what TCP, TLS and the choice of protocols take.
    pub(crate) round_trips_from_dial: f64,
    /// The same without a line between them.
    pub(crate) from_dial_ms: f64,
    /// Frames both ways.
    pub(crate) frames: u64,
    /// Their bytes, with the lengths before them.
    pub(crate) bytes_per_circle: f64,
    /// What both sides then stated to hold, a while later.
    pub(crate) later_bytes: u64,
}

fn now_ms() -> u64 {
    clock::now().0
}

fn title(number: u64) -> String {
    format!("entry {number}")
}

/// Waits until something can be seen.
async fn until<T>(what: &str, look: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A node that is starting does not answer yet.
        if let Ok(Some(seen)) = look().await {
            return Ok(seen);
        }
        anyhow::ensure!(Instant::now() < deadline, "it never came to this: {what}");
        sleep(LOOK_EVERY).await;
    }
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let target = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy_tree(&file.path(), &target)?;
        } else if file.file_type()?.is_file() {
            fs::copy(file.path(), target)?;
        }
    }
    Ok(())
}

/// Puts entries into the store of a node that does not run: really sealed and signed, as it would itself.
/// Returns their bytes.
fn fill(data: &Path, entries: u64) -> anyhow::Result<u64> {
    let (keys, _) = peers::identity(data)?;
    let me = keys.signing.public();
    let (mut store, _) = Store::open(data, &mut |_| {})?;
    let (circle, epoch) = store.records()?.pop().context("the circle has an epoch")?;
    let key = Keyring::new(keys.sealing.clone(), store.reader()).epoch(&circle, &epoch)?;
    let opening = Opening { under: Under::Charter, cites: content_logs(&store, circle)? };
    let mut log = [0; 16];
    log.copy_from_slice(&random()[..16]);
    let mut writer = Writer::open(circle, keys.signing, LogId(log), opening);
    let start = Time(now_ms().saturating_sub(entries));
    let mut bytes = 0;
    let mut group = Vec::new();
    for number in 0..entries {
        let report = sharing::Report {
            title: title(number),
            body: "0123456789abcdef".repeat(BODY_BYTES.div_ceil(16)),
            references: Vec::new(),
        };
        let payload = sharing::report_payload(me, circle, Tlp::Green, None, Vec::new(), &report, Vec::new())?;
        let payload = Age.seal_to_epoch(&key, &payload.to_bytes()?);
        let draft = Draft { suite: Suite::Epoch, epoch: Some(epoch), payload, expiry: None, retracts: None };
        // Each a millisecond later than the one before, so that the last is the newest.
        let entry = writer.append(start.plus(number), draft);
        bytes += (entry.bytes().header.len() + 64 + entry.bytes().payload.len()) as u64;
        group.push(Write::Entry(entry));
        if group.len() == GROUP || number + 1 == entries {
            store.append(&std::mem::take(&mut group))?;
        }
    }
    store.close()?;
    Ok(bytes)
}

/// The heads of what the node wrote in a circle before.
fn content_logs(store: &Store, circle: CircleId) -> anyhow::Result<Vec<CutLine>> {
    let mut lines = Vec::new();
    for (key, tip) in store.logs()?.into_iter().filter(|(key, _)| key.circle == circle) {
        let first = store.entry(&key, 0)?.context("a log has a first entry")?;
        if Stored::read(first)?.header().suite.kind() == LogKind::Content {
            lines.push(CutLine { log: key.log, height: tip.height, head: tip.head });
        }
    }
    Ok(lines)
}

impl Nodes {
    /// With so many entries in the first of so many circles.
    pub(crate) async fn set_up(entries: u64, circles: u64) -> anyhow::Result<Self> {
        let names: Vec<&str> = HOLDERS.into_iter().chain([COMER]).collect();
        let mut world = World::new(&names)?;
        for name in &names {
            // Nobody says where it is, so that the comer dials where the measurement wants it to.
            world.configure(name, |config| config.network.outbound_only = true)?;
        }
        world.configure(COMER, |config| config.network.listen.clear())?;
        world.start_all().await?;
        world.connected(COMER, HOLDERS.len()).await?;
        world.found(HOLDER, CIRCLE, &names[1..]).await?;
        // The first entry makes the epoch.
        world.publish_as(HOLDER, CIRCLE, "the first", "GREEN", &[]).await?;
        for name in &names {
            world.expect_titles(name, CIRCLE, &["the first"]).await?;
        }
        world.stop(COMER)?;
        world.stop(HOLDER)?;
        let comer = world.node(COMER).data.clone();
        let empty = comer.with_file_name("comer-empty");
        copy_tree(&comer, &empty)?;
        let holder = world.node(HOLDER).data.clone();
        let bytes = tokio::task::spawn_blocking(move || fill(&holder, entries)).await??;
        world.start(HOLDER).await?;
        let mut direct = Vec::new();
        for name in HOLDERS {
            let client = world.client(name);
            listed(&client, entries).await?;
            let listening = client.get::<Status>("/v1/status").await?.listening;
            direct.push(socket_address(listening.first().context("a holder listens")?)?);
        }
        let far = Line::open(direct[0], ONE_WAY).await?;
        let dir = comer.parent().context("a node's directory is in the world's")?.to_owned();
        let mut nodes = Self { world, dir, entries, bytes, circles: 1, empty, far, direct };
        // From here on the comer holds everything, whatever is measured first.
        nodes.catch_up(1).await?;
        nodes.found_more(circles).await?;
        Ok(nodes)
    }

    /// Has the holder and the comer be in so many circles, in each of the further ones with an entry.
    async fn found_more(&mut self, circles: u64) -> anyhow::Result<()> {
        if self.circles == circles {
            return Ok(());
        }
        self.world.start(COMER).await?;
        self.world.connected(COMER, 1).await?;
        while self.circles < circles {
            let name = format!("{CIRCLE}-{}", self.circles);
            self.world.found(HOLDER, &name, &[COMER]).await?;
            self.world.publish_as(HOLDER, &name, "the first", "GREEN", &[]).await?;
            self.world.expect_titles(COMER, &name, &["the first"]).await?;
            self.circles += 1;
        }
        self.world.stop(COMER)
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// How many circles there are.
    pub(crate) fn circles(&self) -> u64 {
        self.circles
    }

    /// Where everything lies: what is compared must be on the same disk.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bytes of all entries: header, signature, sealed payload.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has the comer dial these holders, the first of them first.
    fn dial(&self, addresses: &[SocketAddr]) -> anyhow::Result<()> {
        let mut bootstrap = Vec::new();
        for (name, address) in HOLDERS.iter().zip(addresses) {
            let addresses = vec![dialable(*address)?];
            bootstrap.push(Bootstrap { node: self.world.node(name).key.to_string(), addresses });
        }
        self.world.configure(COMER, |config| config.network.bootstrap = bootstrap)
    }

    /// The comer starts with nothing, and stops holding everything, from so many sources.
    pub(crate) async fn catch_up(&mut self, sources: usize) -> anyhow::Result<CatchUp> {
        let data = self.world.node(COMER).data.clone();
        fs::remove_dir_all(&data)?;
        copy_tree(&self.empty, &data)?;
        self.dial(&self.direct[..sources])?;
        let before_bytes = machine::loopback_bytes()?;
        self.world.spawn(COMER)?;
        let comer = self.world.client(COMER);
        let since_ms = until("the comer has a session", async || Ok(first_session(&comer).await?)).await?;
        until("the comer holds everything", async || {
            let status: Status = comer.get("/v1/status").await?;
            let held = status.circles.iter().find(|circle| circle.name == CIRCLE).map_or(0, |circle| circle.entries);
            Ok((held == self.entries + 1).then_some(()))
        })
        .await?;
        let held_ms = now_ms();
        let wire_bytes = machine::loopback_bytes()? - before_bytes;
        listed(&comer, self.entries).await?;
        let opened_ms = now_ms();
        self.world.stop(COMER)?;
        let seconds = |at: u64| at.saturating_sub(since_ms) as f64 / 1e3;
        Ok(CatchUp { seconds: seconds(held_ms), opened_seconds: seconds(opened_ms), wire_bytes })
    }

    /// As [`Self::catch_up`] from one, but the comer runs in this process, where it can be had verify what it would not.
    /// Gives the seconds from the session until everything is durable and accepted.
    pub(crate) async fn catch_up_here(&mut self, signatures: Signatures) -> anyhow::Result<f64> {
        let data = self.world.node(COMER).data.clone();
        fs::remove_dir_all(&data)?;
        copy_tree(&self.empty, &data)?;
        let mut comer = Peer::start(&data, signatures).await?;
        let told = comer.told.take().context("nobody is told yet")?;
        comer.want(self.world.node(HOLDER).key, dialable(self.direct[0])?);
        comer.connected(1).await?;
        let (start, entries) = (Instant::now(), self.entries);
        let seconds = tokio::task::spawn_blocking(move || {
            let left = || PATIENCE.saturating_sub(start.elapsed());
            loop {
                match told.recv_timeout(left()).context("the comer never held everything")? {
                    Told::Accepted(_, height) if height >= entries => return Ok(start.elapsed().as_secs_f64()),
                    _ => {}
                }
            }
        });
        let seconds = seconds.await?;
        comer.stop().await;
        seconds
    }

    /// The comer, in this process, holds everything, has had time to start, and meets the holder over a line.
    async fn meet(&self, address: SocketAddr) -> anyhow::Result<Meeting> {
        let holder = self.world.client(HOLDER);
        let others = HOLDERS.len() - 1;
        let without = async || Ok((holder.get::<Status>("/v1/status").await?.peers == others).then_some(()));
        until("the holder knows that the comer left", without).await?;
        let before = live(&holder).await?;
        let comer = Peer::start(&self.world.node(COMER).data, Signatures::Last).await?;
        sleep(STARTED).await;
        let dialled = Instant::now();
        comer.want(self.world.node(HOLDER).key, dialable(address)?);
        comer.connected(1).await?;
        let session = dialled.elapsed();
        // The network circle is compared beside the others.
        let circles = self.circles as usize + 1;
        let same = move |engine: &Engine| {
            engine
                .peers()
                .iter()
                .any(|peer| peer.circles.len() == circles && peer.circles.iter().all(|(_, same)| *same))
        };
        comer.until("it knows that both hold the same", same).await?;
        let known = dialled.elapsed();
        sleep(COMPARED).await;
        let compared = live(&holder).await?.since(before).and(comer.live());
        sleep(STATED).await;
        let later = live(&holder).await?.since(before).and(comer.live()).since(compared);
        comer.stop().await;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Meeting { from_session_ms: ms(known - session), from_dial_ms: ms(known), compared, later })
    }

    /// Two nodes that hold the same meet, over a line that is long and over none.
    pub(crate) async fn compare(&self) -> anyhow::Result<Compared> {
        let near = self.meet(self.direct[0]).await?;
        let far = self.meet(self.far.address).await?;
        Ok(Compared {
            round_trips: round_trips(far.from_session_ms - near.from_session_ms),
            round_trips_from_dial: round_trips(far.from_dial_ms - near.from_dial_ms),
            from_dial_ms: near.from_dial_ms,
            frames: far.compared.frames,
            bytes_per_circle: far.compared.bytes as f64 / (self.circles + 1) as f64,
            later_bytes: far.later.bytes,
        })
    }
}

/// How often something had to travel, from what a long line adds: neither what computing takes nor how often is looked
/// whether it is over yet. To a twentieth: no clock here is truer.
fn round_trips(added_ms: f64) -> f64 {
    const OF_ONE: f64 = 20.0;
    (added_ms / (2.0 * ONE_WAY.as_secs_f64() * 1e3) * OF_ONE).round() / OF_ONE
}

/// How long two took until the one that came knew that it holds the same.
#[derive(Debug, Clone, Copy)]
struct Meeting {
    from_session_ms: f64,
    from_dial_ms: f64,
    /// What both sent by then, and a while later.
    compared: Live,
    later: Live,
}

/// What a node sent on live streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    frames: u64,
    bytes: u64,
}

impl Live {
    /// So many frames of so many bytes in all.
    pub(crate) fn of(frames: u64, bytes: u64) -> Self {
        /// What stands before every frame.
        const LENGTH_BYTES: u64 = 4;
        Self { frames, bytes: bytes + LENGTH_BYTES * frames }
    }

    fn since(self, before: Self) -> Self {
        Self { frames: self.frames - before.frames, bytes: self.bytes - before.bytes }
    }

    fn and(self, other: Self) -> Self {
        Self { frames: self.frames + other.frames, bytes: self.bytes + other.bytes }
    }
}

async fn live(node: &Client) -> anyhow::Result<Live> {
    let status: Status = node.get("/v1/status").await?;
    Ok(Live::of(status.live_frames, status.live_bytes))
}

/// Since when a node has a session with anybody.
async fn first_session(node: &Client) -> anyhow::Result<Option<u64>> {
    let peers: Vec<PeerView> = node.get("/v1/peers").await?;
    Ok(peers.into_iter().filter_map(|peer| peer.since).min())
}

/// Waits until a node lists the last entry as opened.
async fn listed(node: &Client, entries: u64) -> anyhow::Result<()> {
    let last = title(entries - 1);
    until("everything is opened and listed", async || {
        let newest: Vec<EntrySummary> = node.get(&format!("/v1/entries?limit=1&circle={CIRCLE}")).await?;
        let seen = newest.into_iter().next().and_then(|entry| entry.title);
        Ok((seen.as_ref() == Some(&last)).then_some(()))
    })
    .await
}

/// A socket's address as `/ip4/127.0.0.1/tcp/4001`.
fn dialable(address: SocketAddr) -> anyhow::Result<Address> {
    Ok(format!("/ip4/{}/tcp/{}", address.ip(), address.port()).parse()?)
}

/// `/ip4/127.0.0.1/tcp/4001` as a socket's address.
fn socket_address(address: &str) -> anyhow::Result<SocketAddr> {
    let parts: Vec<&str> = address.split('/').collect();
    match parts[..] {
        ["", "ip4", ip, "tcp", port] => Ok(SocketAddr::new(ip.parse()?, port.parse()?)),
        _ => anyhow::bail!("{address} is no address over TCP and IPv4"),
    }
}
