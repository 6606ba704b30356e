//! The daemon: starts every part of a node in order, ties them together, and ends them in order.
//!
//! Order matters at both ends. Nothing listens before the store is open and the engine stands on it; at the end
//! faces close first and the store last, so that what was acknowledged is durable.

use std::{
    path::Path,
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use anyhow::Context;
use cwn_crypto::{
    PublicKey, Time,
    certificate::{Certificate, Standing},
    issuer_log::Certified,
    root::SignedRoot,
};
use cwn_engine::{
    engine::{self, AcceptRule, Engine},
    input::{Command, Input, SessionId},
    output::Event,
    store::known_facts,
};
use cwn_functions::directory::NodeAddresses;
use tokio::sync::mpsc;

use crate::{
    api::{self, Api, server},
    attachments::{ChunkRequest, Chunks},
    clock,
    config::{self, Accept, Config, LogFormat},
    connections::{Connected, Connections, Refused},
    drafts::Drafts,
    driver::{self, Outlets},
    fetch, files,
    inbox::{Inbox, News},
    keyring::Keyring,
    keystore::{Keys, Typing, Unlock},
    lend::Lend,
    membership::Membership,
    mesh::{self, Mesh},
    network::{self, Address, Gate},
    node::{FoundDamage, Node, OwnCertificate},
    store::{Progress, Store},
};

/// What this node last said of its addresses.
const ANNOUNCED_FACT: &[u8] = b"announced";

/// How long the faces get to finish what they are at.
const STOP_FACES: Duration = Duration::from_secs(5);
/// First dials are spread over so long for every certified node: a hundred dials at once time out.
const SPREAD_PER_NODE: Duration = Duration::from_millis(150);

/// Runs a node on a data directory until the system asks it to stop.
pub async fn run(data: &Path) -> anyhow::Result<()> {
    network::refuse_key_log(std::env::var_os(network::KEY_LOG).as_deref())?;
    // Said before anybody is asked for a passphrase.
    Membership::expect(data)?;
    let config = Config::expect(data)?;
    start_log(&config)?;
    let unlock = Unlock::find(config.keys.credential.as_deref(), "the keys of this node", Typing::Known)?;
    let keys = Keys::open(data, &unlock)?;
    let membership = Membership::load(data, &keys)?;
    let certificate = membership.certificate().clone();
    let me = keys.signing.public();
    tracing::info!("opening the store");
    let (store, opened) = Store::open_sized(data, config.store.sizes(), &mut |progress: Progress| {
        let Progress { work, done_bytes, total_bytes } = progress;
        tracing::info!(?work, done_bytes, total_bytes, "opening the store");
    })?;
    tracing::info!(replayed = opened.replayed, rebuilt = opened.rebuilt, "the store is open");
    if opened.cut_back_bytes > 0 {
        tracing::warn!(
            bytes = opened.cut_back_bytes,
            "the last write before the end was torn and was cut back; nothing acknowledged was in it"
        );
    }
    let chunks = Chunks::new(data);
    // The store is this process's alone: nobody else writes here.
    let left = files::clear_new(data) + chunks.clear_new();
    if left > 0 {
        tracing::info!(files = left, "files were removed that were being written when this node was ended");
    }
    let damage = FoundDamage::default();
    if let Some(first) = opened.damages.first() {
        tracing::error!(places = opened.damaged, "the store has damage; run `cwn doctor`");
        damage.add(opened.damaged, first.to_string());
    }
    let accept = match config.circles.accept {
        Accept::Ask => AcceptRule::Ask,
        Accept::Certified => AcceptRule::Certified,
    };
    let root = membership.root().clone();
    let engine_config = engine::Config { key: keys.signing.clone(), root: root.clone(), accept };
    let engine = Engine::open(engine_config, clock::now(), &store).context("the store cannot be read")?;
    let gate = Gate::new(root, membership.signed(), clock::now);
    gate.judge_by(network::Trust::of(engine.root(), engine.word()));
    let roots = gate.hear_roots();
    let network_id = engine.root().network();
    let reader = store.reader();
    let keyring = Arc::new(Keyring::new(keys.sealing.clone(), reader.clone()));
    let inbox = Arc::new(Inbox::new(store.view("inbox")?, reader.clone(), Arc::clone(&keyring)));
    // In a small network there is no storm to prevent, and people wait.
    let certified = u32::try_from(engine.word().nodes().count()).unwrap_or(u32::MAX);
    let dial_spread =
        Duration::from_secs(config.network.reconnect_jitter_seconds).min(SPREAD_PER_NODE.saturating_mul(certified));
    let (network, network_events) = network::start(network::Config {
        key: keys.signing.clone(),
        listen: if config.network.offline { Vec::new() } else { config.network.listen.clone() },
        external: config.network.external.clone(),
        relay: config.network.relay.then(|| config.relay.limits()),
        gate: Arc::clone(&gate),
        dial_spread,
        memory_limit: None,
    })?;
    let (told, to_view) = std_mpsc::channel();
    let (events, engine_events) = mpsc::unbounded_channel();
    let (news_sender, news) = mpsc::unbounded_channel();
    let outlets = Outlets { told, events };
    let (drafts, done) = Drafts::open(data, &me, keys.sealing.recipient(), Arc::clone(&keyring), &reader)
        .context("the drafts cannot be read")?;
    let driver = driver::start(engine, store, Arc::clone(&keyring), network.clone(), outlets)?;
    inbox.follow(to_view, driver.clone(), news_sender)?;
    let socket = config.socket(data);
    let (fetches, to_fetch) = fetch::channel();
    let node = Arc::new(Node {
        me,
        recipient: keys.sealing.recipient(),
        network_id,
        certificate: OwnCertificate::new(membership.signed().clone(), certificate),
        data: data.to_owned(),
        started: clock::now(),
        driver: driver.clone(),
        network: network.clone(),
        gate,
        connections: Arc::new(Connections::default()),
        inbox,
        keyring,
        reader: Lend::new(reader),
        damage,
        chunks,
        drafts,
        fetches,
        mesh: Mesh::default(),
        config,
    });
    tokio::spawn(carry_network(Arc::clone(&node), network_events));
    tokio::spawn(heed_engine(Arc::clone(&node), engine_events));
    tokio::spawn(adopt_shown_roots(Arc::clone(&node), roots));
    tokio::spawn(heed_news(Arc::clone(&node), news));
    tokio::spawn(fetch::follow(Arc::clone(&node), to_fetch));
    driver.input(Input::Import { entries: Membership::issuer_log(data)? }).await?;
    for fact in done {
        // What is not forgotten now is at a later start; a node that takes no more writes still gives out what it has.
        if let Err(failure) = driver.command(Command::Remember { key: fact, value: Vec::new() }).await {
            tracing::warn!(%failure, "that a draft was published is not forgotten yet");
        }
    }
    if node.config.network.offline {
        tracing::info!("offline, as the configuration says: nobody is dialled, and nobody can dial this node");
    } else {
        tokio::spawn(mesh::keep(Arc::clone(&node)));
    }
    let coordinator = crate::coordinator::start(&node, &keys).await?;
    let (stop_faces, stopping) = tokio::sync::oneshot::channel::<()>();
    let listener = server::bind(&socket).with_context(|| {
        let (socket, file) = (socket.display(), config::FILE);
        format!("cannot listen on {socket}; [api] socket in {file} can name another, short, in a directory that exists")
    })?;
    let api = Api::new(Arc::clone(&node));
    tokio::spawn(api.clone().publish_drafts());
    let faces = tokio::spawn(server::serve(listener, api, async {
        // Dropped or said, it means the same.
        let _ = stopping.await;
    }));
    tracing::info!(node = %me, partner = %node.certificate.get().partner, socket = %socket.display(), "this node runs");
    stop_asked().await?;
    tracing::info!("stopping");
    drop(stop_faces);
    drop(coordinator);
    // A face that does not come to its end must not keep the store from coming to its own.
    let _ = tokio::time::timeout(STOP_FACES, faces).await;
    driver.stop().await;
    if let Err(error) = std::fs::remove_file(&socket) {
        tracing::warn!(%error, "the socket could not be removed");
    }
    Ok(())
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .with_context(|| format!("log.level in the configuration: {:?} is no filter", config.log.level))?;
    // A log that cannot be written, for it lies on a full disk, must not end what it tells of: where that is to be said
    // on standard error too, saying it panics.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log.format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

async fn stop_asked() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// Network → engine, and what people are shown of it.
async fn carry_network(node: Arc<Node>, mut events: mpsc::Receiver<network::Event>) {
    while let Some(event) = events.recv().await {
        show(&node, &event);
        if let network::Event::PeerUp { peer, .. } = &event
            && let Ok(admitted) = node.gate.admitted(peer)
        {
            let shown = Input::Shown { certificate: Box::new(admitted.certificate) };
            if node.driver.input(shown).await.is_err() {
                return;
            }
        }
        if let network::Event::ChunkRequest { peer, session, stream, bytes } = event {
            tokio::spawn(serve_chunk(Arc::clone(&node), peer, SessionId(session), stream, bytes));
        } else if let Some(input) = driver::input_of(event)
            && node.driver.input(input).await.is_err()
        {
            return;
        }
    }
}

/// Keeps for people what happened in the network, and has the mesh look again where it depends on that.
fn show(node: &Arc<Node>, event: &network::Event) {
    match event {
        network::Event::Listening { address } => {
            tracing::info!(%address, "listening");
            node.connections.listens(address.to_string());
            announce(node);
        }
        network::Event::ListeningNoLonger { address } => {
            tracing::info!(%address, "not reachable there any more");
            node.connections.listens_no_longer(&address.to_string());
        }
        network::Event::PeerUp { peer, standing, dialer, through, .. } => {
            let standing = if *standing == Standing::Valid { "valid" } else { "grace" };
            tracing::info!(%peer, standing, ?through, "connected");
            node.mesh.reached(peer);
            let connected = Connected { since: clock::now(), dialled: *dialer, through: *through, standing };
            node.connections.up(*peer, connected);
        }
        network::Event::PeerDown { peer, reason, .. } => {
            tracing::info!(%peer, reason, "disconnected");
            node.connections.down(peer, reason.clone());
        }
        network::Event::RunEnded { pull, error: Some(error) } => tracing::debug!(pull, error, "a run broke off"),
        network::Event::Refused { peer, address, reason } => {
            tracing::warn!(peer = peer.map(|peer| peer.to_string()), %reason, "refused");
            let (address, reason) = (address.to_string(), reason.to_string());
            node.connections.refused(Refused { at: clock::now(), peer: *peer, address, reason });
        }
        network::Event::DialFailed { peer, reason } => {
            tracing::debug!(%peer, reason, "not reached");
            node.mesh.not_reached(*peer);
            node.connections.failed(*peer, reason.clone());
        }
        network::Event::RunEnded { error: None, .. }
        | network::Event::Frame { .. }
        | network::Event::RunRequest { .. }
        | network::Event::RunFrame { .. }
        | network::Event::ChunkRequest { .. }
        | network::Event::LiveQueueDropped { .. } => {}
    }
}

/// Answers for a chunk of a circle that the asker proved to share; for any other it is not there.
async fn serve_chunk(node: Arc<Node>, peer: PublicKey, session: SessionId, stream: u64, bytes: Vec<u8>) {
    let answer = async {
        let request = ChunkRequest::from_bytes(&bytes).ok()?;
        let circle =
            node.driver.ask(move |engine, _| engine.circle_by_tag(&peer, session, &request.tag)).await.ok()??;
        let chunks = node.chunks.clone();
        tokio::task::spawn_blocking(move || chunks.sealed(&circle, &request.chunk).ok()).await.ok()?
    };
    match answer.await {
        Some(sealed) => node.network.reply(stream, sealed),
        None => node.network.decline(stream),
    }
}

/// Versions of the root document that peers showed before they were refused.
async fn adopt_shown_roots(node: Arc<Node>, mut shown: mpsc::UnboundedReceiver<Vec<SignedRoot>>) {
    while let Some(versions) = shown.recv().await {
        if let Err(failure) = node.driver.command(Command::AdoptRoot { versions }).await {
            tracing::warn!(%failure, "versions of the root document that a peer showed were not adopted");
        }
    }
}

/// The root document went on: it is kept beside the certificate, before one is that only it allows.
async fn root_advanced(node: &Arc<Node>, version: u32) {
    tracing::warn!(version, "the root document went on to another version; see `cwn status`");
    let Ok(root) = node.driver.ask(|engine, _| engine.root().clone()).await else { return };
    if let Err(error) = Membership::keep_root(&node.data, &root) {
        // It is in the store all the same; but a certificate of a new issuer would not be understood at the next start.
        tracing::error!(%error, "the root document could not be written out");
    }
}

/// What the engine tells the node.
async fn heed_engine(node: Arc<Node>, mut events: mpsc::UnboundedReceiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::MembershipChanged { circle } => {
                tracing::info!(%circle, "who belongs changed");
                if circle.0 == node.network_id.0 {
                    network_changed(&node).await;
                }
                node.mesh.look();
            }
            Event::Offered { circle } => tracing::info!(%circle, "a circle is offered; see `cwn circle list`"),
            Event::Joined { circle } => tracing::info!(%circle, "joined a circle"),
            Event::OwnKeyElsewhere { circle } => {
                tracing::error!(
                    %circle,
                    "this node's key signed something it did not write: the key is in use elsewhere, or the data was restored from a backup"
                );
                if let Err(problem) = api::note_elsewhere(&node, circle).await {
                    tracing::error!(problem = problem.error, "that could not be written down");
                }
            }
            Event::Fork { key, seq } => {
                tracing::error!(circle = %key.circle, author = %key.author, seq, "an author signed two entries for one place");
            }
            Event::Refused { peer, circle, reason } => {
                tracing::warn!(%peer, %circle, reason, "refused what a peer sent");
            }
            Event::Erased { circle } => node.fetches.erased(circle),
            Event::RootAdvanced { version } => root_advanced(&node, version).await,
            Event::Alarm(alarm) => tracing::error!("ALARM: {alarm}"),
            Event::RetractionUnsigned { key, seq } => {
                tracing::warn!(
                    circle = %key.circle, author = %key.author, seq,
                    "the signature of a retraction was altered on the way here; what it takes back is hidden, and erased once a peer has sent the retraction as it was signed"
                );
            }
            Event::Damaged { what } => {
                tracing::error!(what, "stored data cannot be read back; run `cwn doctor`");
                node.damage.add(1, what);
            }
        }
    }
}

/// What follows for this node from what the issuers and the root keys say now.
struct Consequences {
    trust: network::Trust,
    /// A certificate that this node takes into use.
    certificate: Option<Certified>,
    /// One of its certificates that names another sealing key than its own.
    foreign: Option<u64>,
}

impl Consequences {
    /// Of all certificates of this node it uses the one that lasts longest among those that are its own: what
    /// somebody else with an issuer's key says last does not keep a renewal from it.
    fn draw(engine: &Engine, own: &Certificate, now: Time) -> Self {
        let word = engine.word();
        let mine = |other: &Certificate| (&other.partner, other.recipient) == (&own.partner, own.recipient);
        let (fitting, foreign): (Vec<&Certified>, Vec<&Certified>) =
            word.certificates(&own.node).partition(|other| mine(&other.certificate));
        let usable = fitting.into_iter().filter(|other| other.certificate.in_use(now).is_ok());
        let best = usable.max_by_key(|other| other.certificate.not_after);
        // Beyond the head of a dropped issuer: it is of no use, however long it lasts.
        let stands = engine.root().issuer(&own.issuer).is_some() || word.names(own);
        let better = |best: &&Certified| !stands || best.certificate.not_after > own.not_after;
        Self {
            trust: network::Trust::of(engine.root(), word),
            certificate: best.filter(better).cloned(),
            foreign: foreign.first().map(|other| other.certificate.serial),
        }
    }
}

/// The issuers or the root keys said something: who may connect follows, and a renewed certificate is taken into use.
async fn network_changed(node: &Arc<Node>) {
    let (own, now) = (node.certificate.get(), clock::now());
    let drawn = node.driver.ask(move |engine, _| Consequences::draw(engine, &own, now)).await;
    let Ok(Consequences { trust, certificate, foreign }) = drawn else { return };
    node.gate.judge_by(trust);
    node.network.recheck();
    if let Some(serial) = foreign {
        // Taken into use it would open nothing, and keep this node from its next start.
        tracing::error!(
            serial,
            "a certificate of this node names a sealing key or a partner that is not its own; tell the coordinator at once"
        );
    }
    if let Some(own) = certificate {
        match Membership::renew(&node.data, &own.signed) {
            Ok(()) => {
                tracing::info!(not_after = %own.certificate.not_after, "the certificate was renewed");
                node.gate.renew(&own.signed);
                node.certificate.replace(own.signed, own.certificate);
            }
            Err(error) => tracing::error!(%error, "a renewed certificate could not be kept"),
        }
    }
    announce(node);
}

/// Says in the network circle where this node can be reached, unless that stands there already.
fn announce(node: &Arc<Node>) {
    // What it said before holds again when it is back.
    if node.config.network.offline {
        return;
    }
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let mut addresses = node.config.network.external.iter().map(Address::to_string).collect::<Vec<_>>();
        if addresses.is_empty() && !node.config.network.outbound_only {
            addresses = node.connections.listening();
            addresses.sort();
        }
        let config::Network { anchor, relay, .. } = node.config.network;
        let announced = NodeAddresses { addresses, anchor, relay };
        let payload = match announced.to_bytes() {
            Ok(payload) => payload,
            Err(refusal) => return tracing::error!(%refusal, "this node's addresses cannot be announced"),
        };
        let me = node.me;
        let known = node.driver.ask(move |engine, store| {
            let said = known_facts(store, ANNOUNCED_FACT).unwrap_or_default();
            // What stands in a log that no longer counts, for it was opened under a certificate of a thief, is unsaid.
            let network = engine.circle(&engine.network());
            let heard =
                network.is_some_and(|network| network.logs_of(&me).any(|(key, _)| network.accepted(&me, &key.log) > 0));
            engine.is_certified(&me).then(|| said.into_iter().next().map(|(_, said)| said).filter(|_| heard))
        });
        // Until it is certified nobody would take it; once said it stands.
        let Ok(Some(said)) = known.await else { return };
        if said.as_ref() == Some(&payload) {
            return;
        }
        // A relay that is away comes back, and what was said of it holds again.
        let before = said.and_then(|said| NodeAddresses::from_bytes(&said).ok());
        if node.config.is_reached_through_relays()
            && before.is_some_and(|before| announced.addresses.iter().all(|now| before.addresses.contains(now)))
        {
            return;
        }
        let announce = Command::Announce { payload: payload.clone() };
        let remember = Command::Remember { key: ANNOUNCED_FACT.to_vec(), value: payload };
        for command in [announce, remember] {
            if let Err(failure) = node.driver.command(command).await {
                return tracing::warn!(%failure, "this node's addresses could not be announced");
            }
        }
    });
}

/// What the inbox tells the node: where others are, and attachments to fetch.
async fn heed_news(node: Arc<Node>, mut news: mpsc::UnboundedReceiver<News>) {
    while let Some(heard) = news.recv().await {
        match heard {
            News::Addresses => node.mesh.look(),
            News::Attached(circle, attachments) => node.fetches.carried(circle, attachments),
        }
    }
}
