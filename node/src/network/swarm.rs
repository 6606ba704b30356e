//! The task that runs libp2p's swarm: listens, dials, starts a session for each connection that stays, and
//! starts all of it anew when something below it panics.
//!
//! It refuses to know what sessions do. Who may connect is [`super::admission`]'s, when to dial is
//! [`super::dialer`]'s.

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    io,
    net::{IpAddr, TcpListener},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use cwn_crypto::identity::PublicKey;
use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Swarm, connection_limits,
    connection_limits::ConnectionLimits,
    core::ConnectedPoint,
    identity::Keypair,
    memory_connection_limits,
    multiaddr::Protocol,
    ping, relay,
    swarm::{
        self, ConnectionId, DialError, Executor, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Command, Config, Event, StartError,
    admission::{Gate, Reason, Refusal},
    dialer::{Dialer, Setback},
    membership,
    relays::{self, Relays},
    session::{Session, Shared},
    transport::{self, Audited},
};

/// Connections: 200 partners with several nodes each, and room for those that come back before they are
/// missed.
const ESTABLISHED_INBOUND: u32 = 512;
/// Of our own making: a few in each of a hundred circles that share nobody; at 114 KiB each, 58 MB.
const ESTABLISHED_OUTBOUND: u32 = 512;
/// Strangers can fill these; each holds its place for 20 s at most.
const PENDING_INBOUND: u32 = 64;
/// What the dialer starts at once.
const PENDING_OUTBOUND: u32 = 16;
/// Two, for the moment in which both sides have dialled.
const ESTABLISHED_PER_PEER: u32 = 2;
/// Streams of one connection that are still negotiating.
const NEGOTIATING: usize = 32;
/// A connection without streams; a session's live stream keeps it. At the usual 10 s connections churned.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A line that falls silent is noticed within four of these: the pause before a ping and its patience, twice,
/// because libp2p tells of no first failure. A machine that swaps misses one. At the usual 15 s and 20 s a node
/// believed for over a minute that it was connected with whom it no longer reached.
const PING: Duration = Duration::from_secs(10);
/// How often the connected are judged again.
const RECHECK: Duration = Duration::from_secs(60);
/// Refusals on their way to the driver.
const AUDIT: usize = 256;
/// Events that wait for the driver beside the channel; with more, the swarm is left alone.
const BACKLOG: usize = 256;
/// Before the swarm is started anew, so that a cause that stays does not take all of the machine.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

#[derive(NetworkBehaviour)]
struct Behaviour {
    // The limits come first: what they deny gets no handler.
    limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    membership: membership::Behaviour,
    ping: ping::Behaviour,
    circuits: relay::client::Behaviour,
    relay: Toggle<relay::Behaviour>,
}

/// Runs libp2p's tasks, and tells when one of them panicked: the swarm itself does not notice, and would
/// count that connection for ever.
struct Guarded(mpsc::UnboundedSender<String>);

impl Executor for Guarded {
    fn exec(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let broken = self.0.clone();
        tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                // The swarm that started the task may be gone already.
                let _gone = broken.send(said(panic.as_ref()));
            }
        });
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

/// A swarm and what it reports beside its events.
struct Running {
    swarm: Swarm<Behaviour>,
    audit: mpsc::Receiver<Audited>,
    panicked: mpsc::UnboundedReceiver<String>,
}

/// A connection that stays, for now.
struct Connection {
    id: ConnectionId,
    /// Whether this node dialled it.
    dialer: bool,
    /// Whether it goes through a relay.
    relayed: bool,
    address: Multiaddr,
    stop: Option<oneshot::Sender<String>>,
    session: JoinHandle<()>,
}

/// How a run of the swarm ended.
enum Ended {
    /// Every handle, or the driver, is gone.
    Unneeded,
    Panicked(String),
}

/// The network of a node: what outlives a swarm.
pub(super) struct Node {
    config: Config,
    own: PublicKey,
    shared: Arc<Shared>,
    handlers_built: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
    backlog: VecDeque<Event>,
    commands: mpsc::UnboundedReceiver<Command>,
    first: Option<Running>,
    dialer: Dialer,
    relays: Relays,
    started: Instant,
    connections: BTreeMap<PublicKey, Connection>,
    /// Sessions that were told to end. The next with the same peer waits for it.
    ending: BTreeMap<PublicKey, JoinHandle<()>>,
    /// Sessions that ended by themselves.
    over: mpsc::UnboundedReceiver<(PublicKey, ConnectionId)>,
    /// Where sessions say so.
    tell_over: mpsc::UnboundedSender<(PublicKey, ConnectionId)>,
    /// Refusals by peers that are being dialled, until the swarm says that the dial failed.
    refused: BTreeMap<PublicKey, Refusal>,
}

impl Node {
    pub(super) fn new(
        config: Config,
        shared: Arc<Shared>,
        handlers_built: Arc<AtomicU64>,
        events: mpsc::Sender<Event>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Self, StartError> {
        let (tell_over, over) = mpsc::unbounded_channel();
        let mut node = Self {
            own: config.key.public(),
            shared,
            handlers_built,
            events,
            backlog: VecDeque::new(),
            commands,
            first: None,
            dialer: Dialer::new(config.dial_spread),
            relays: Relays::default(),
            started: Instant::now(),
            connections: BTreeMap::new(),
            ending: BTreeMap::new(),
            over,
            tell_over,
            refused: BTreeMap::new(),
            config,
        };
        node.first = Some(node.build()?);
        Ok(node)
    }

    fn build(&self) -> Result<Running, StartError> {
        let keypair = Keypair::ed25519_from_bytes(*self.config.key.seed())
            .map_err(|error| StartError::Transport(format!("this node's key cannot be used: {error}")))?;
        let gate: &Arc<Gate> = &self.config.gate;
        let (audits, audit) = mpsc::channel(AUDIT);
        let (panics, panicked) = mpsc::unbounded_channel();
        let own = keypair.public().to_peer_id();
        let (circuit_transport, circuits) = relay::client::new(own);
        let transport = transport::transport(&keypair, gate.clone(), audits, circuit_transport)
            .map_err(|error| StartError::Transport(error.to_string()))?;
        let limits = ConnectionLimits::default()
            .with_max_established_incoming(Some(ESTABLISHED_INBOUND))
            .with_max_established_outgoing(Some(ESTABLISHED_OUTBOUND))
            .with_max_pending_incoming(Some(PENDING_INBOUND))
            .with_max_pending_outgoing(Some(PENDING_OUTBOUND))
            .with_max_established_per_peer(Some(ESTABLISHED_PER_PEER));
        let memory = self.config.memory_limit.map(memory_connection_limits::Behaviour::with_max_bytes);
        let behaviour = Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            memory: memory.into(),
            membership: membership::Behaviour::new(gate.clone(), self.handlers_built.clone()),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PING)),
            circuits,
            relay: self.config.relay.map(|limits| relays::server(own, limits)).into(),
        };
        let config = swarm::Config::with_executor(Guarded(panics))
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(NEGOTIATING);
        let mut swarm = Swarm::new(transport, behaviour, own, config);
        self.config.external.iter().for_each(|address| swarm.add_external_address(address.clone()));
        // All of them before the first is listened on: one may be another's for both kinds of IP.
        for address in &self.config.listen {
            may_listen(address)?;
        }
        for address in &self.config.listen {
            swarm.listen_on(address.clone()).map_err(|error| refused(address, &error))?;
        }
        Ok(Running { swarm, audit, panicked })
    }

    /// Runs swarm after swarm until the network is no longer needed.
    pub(super) async fn supervise(mut self) {
        let mut next = self.first.take();
        loop {
            let Some(mut running) = next.take() else {
                sleep(RESTART_PAUSE).await;
                match self.build() {
                    Ok(running) => next = Some(running),
                    Err(error) => tracing::error!(%error, "the network cannot start again yet"),
                }
                continue;
            };
            // Whatever state the panic left behind is dropped with the swarm, or put right below.
            let ended = AssertUnwindSafe(self.run(&mut running)).catch_unwind().await;
            drop(running);
            let panic = match ended {
                Ok(Ended::Unneeded) => return,
                Ok(Ended::Panicked(panic)) => panic,
                Err(panic) => said(panic.as_ref()),
            };
            tracing::error!(panic, "the network panicked and is started anew; please report this");
            // Dropping what would stop them ends the sessions, and each reports that it is down.
            for (peer, connection) in std::mem::take(&mut self.connections) {
                self.ending.insert(peer, connection.session);
            }
            self.refused.clear();
            let gone = self.relays.start_over();
            self.backlog.extend(gone.into_iter().map(|address| Event::ListeningNoLonger { address }));
            self.dialer.start_over(self.started.elapsed(), random);
        }
    }

    async fn run(&mut self, running: &mut Running) -> Ended {
        let Running { swarm, audit, panicked } = running;
        let events = self.events.clone();
        let mut recheck = interval(RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for (peer, addresses) in self.dialer.due(self.started.elapsed()) {
                self.dial(swarm, peer, addresses);
            }
            let next_dial = self.dialer.next().map(|due| self.started + due);
            tokio::select! {
                biased;
                Some(panic) = panicked.recv() => return Ended::Panicked(panic),
                () = events.closed() => return Ended::Unneeded,
                Ok(permit) = events.reserve(), if !self.backlog.is_empty() => {
                    if let Some(event) = self.backlog.pop_front() {
                        permit.send(event);
                    }
                }
                command = self.commands.recv() => match command {
                    Some(Command::ShutDown) | None => {
                        self.connections.values_mut().for_each(|each| each.end("this node is ending".to_owned()));
                        return Ended::Unneeded;
                    }
                    Some(command) => self.obey(swarm, command),
                },
                Some((peer, connection)) = self.over.recv() => {
                    if self.connections.get(&peer).is_some_and(|current| current.id == connection) {
                        swarm.close_connection(connection);
                    }
                }
                Some(audited) = audit.recv(), if self.backlog.len() < BACKLOG => self.audit(audited),
                event = swarm.select_next_some(), if self.backlog.len() < BACKLOG => {
                    // A refusal is told before the failure it leads to.
                    while let Ok(audited) = audit.try_recv() {
                        self.audit(audited);
                    }
                    self.happened(swarm, event);
                }
                _tick = recheck.tick() => {
                    self.recheck(swarm);
                    self.reserve(swarm);
                }
                () = sleep_until(next_dial.unwrap_or_else(Instant::now)), if next_dial.is_some() => {}
            }
        }
    }

    /// Does what the driver wants, but for the shutting down, which is its caller's.
    fn obey(&mut self, swarm: &mut Swarm<Behaviour>, command: Command) {
        match command {
            Command::Dial { peer, addresses } => self.dial(swarm, peer, addresses),
            Command::Want { peer, addresses } => {
                let connected = self.connections.contains_key(&peer);
                self.dialer.want(self.started.elapsed(), peer, addresses, connected, random());
            }
            Command::Unwant { peer } => self.dialer.unwant(&peer),
            Command::ReachThrough { relay, addresses } => {
                self.relays.know(relay, addresses);
                self.reserve(swarm);
            }
            Command::Disconnect { peer, reason } => self.disconnect(swarm, &peer, reason),
            Command::Recheck => self.recheck(swarm),
            Command::ShutDown => {}
            Command::Report(event) => self.backlog.push_back(*event),
            #[cfg(test)]
            Command::Panic => panic!("told to by a test"),
        }
    }

    fn dial(&mut self, swarm: &mut Swarm<Behaviour>, peer: PublicKey, addresses: Vec<Multiaddr>) {
        let Some(id) = transport::peer_id(&peer) else {
            return self.dial_failed(peer, "this is no key of a node; correct it".to_owned());
        };
        // A port of its own for each dial: two nodes that dial each other from the ports they listen on would
        // meet in TCP's simultaneous open, and neither would be the listener.
        let options = DialOpts::peer_id(id)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        match swarm.dial(options) {
            Ok(()) => tracing::debug!(%peer, "dialled"),
            Err(DialError::DialPeerConditionFalse(_)) => tracing::debug!(%peer, "connected, or being dialled"),
            Err(error) => self.dial_failed(peer, unreached(&error)),
        }
    }

    fn dial_failed(&mut self, peer: PublicKey, reason: String) {
        let refusal = self.refused.remove(&peer);
        self.dialer.failed(self.started.elapsed(), &peer, setback(refusal.as_ref()), random());
        let reason = refusal.map_or(reason, |refusal| refusal.to_string());
        self.backlog.push_back(Event::DialFailed { peer, reason });
    }

    fn audit(&mut self, audited: Audited) {
        let Audited { peer, dialled, address, refusal } = audited;
        tracing::info!(peer = peer.map(tracing::field::display), %address, %refusal, "not admitted");
        if let Some(dialled) = dialled {
            self.refused.insert(dialled, refusal.clone());
        }
        self.backlog.push_back(Event::Refused { peer, address, reason: refusal });
    }

    fn recheck(&mut self, swarm: &mut Swarm<Behaviour>) {
        for (peer, connection) in &mut self.connections {
            if let Err(reason) = self.config.gate.admitted(peer) {
                connection.end(reason.to_string());
                swarm.close_connection(connection.id);
                let address = connection.address.clone();
                self.backlog.push_back(Event::Refused { peer: Some(*peer), address, reason });
            }
        }
        self.ending.retain(|_, session| !session.is_finished());
    }

    fn disconnect(&mut self, swarm: &mut Swarm<Behaviour>, peer: &PublicKey, reason: String) {
        if let Some(connection) = self.connections.get_mut(peer) {
            connection.end(reason);
            swarm.close_connection(connection.id);
        }
    }

    fn happened(&mut self, swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, .. } if self.relays.is_at_one(listener_id) => {
                let reachable = self.relays.agreed(listener_id);
                self.backlog.extend(reachable.into_iter().map(|address| Event::Listening { address }));
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.remember_port(&address);
                if self.config.relay.is_some() && self.config.external.is_empty() {
                    // A relay says where it is in each reservation.
                    swarm.add_external_address(address.clone());
                }
                self.backlog.push_back(Event::Listening { address });
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(swarm, peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, num_established, .. } => {
                let Some(peer) = transport::public_key(&peer_id) else { return };
                if self.connections.get(&peer).is_some_and(|current| current.id == connection_id)
                    && let Some(mut connection) = self.connections.remove(&peer)
                {
                    connection.end(match cause {
                        Some(cause) => format!("the connection ended: {}", causes(&cause)),
                        None => "the connection was closed".to_owned(),
                    });
                    self.ending.insert(peer, connection.session);
                }
                if num_established == 0 {
                    self.dialer.disconnected(self.started.elapsed(), &peer, random());
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                if let Some(peer) = transport::public_key(&peer) {
                    self.dial_failed(peer, unreached(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, error = causes(&error), "a connection did not come about");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed; new connections may not arrive");
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if self.relays.is_at_one(listener_id) => {
                tracing::info!(?reason, "not reachable through this relay, or no longer");
                let gone = self.relays.ended(listener_id);
                self.backlog.extend(gone.into_iter().map(|address| Event::ListeningNoLonger { address }));
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener closed; nobody can reach this node there");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(failure) }))
                if is_silence(&failure) =>
            {
                self.unanswered(swarm, peer, connection);
            }
            _ => {}
        }
    }

    fn established(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peer_id: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let (dialer, relayed) = (endpoint.is_dialer(), endpoint.is_relayed());
        let address = endpoint.get_remote_address().clone();
        let link = swarm.behaviour_mut().membership.take_link(id);
        let (Some(peer), Some(link)) = (transport::public_key(&peer_id), link) else {
            swarm.close_connection(id);
            return;
        };
        let admitted = match self.config.gate.admitted(&peer) {
            Ok(admitted) => admitted,
            Err(reason) => {
                swarm.close_connection(id);
                return self.backlog.push_back(Event::Refused { peer: Some(peer), address, reason });
            }
        };
        if let Some(current) = self.connections.get(&peer)
            && !stays((dialer, relayed), (current.dialer, current.relayed), self.own, peer)
        {
            tracing::debug!(%peer, "both dialled; the connection that was there stays");
            swarm.close_connection(id);
            return;
        }
        if let Some(mut replaced) = self.connections.remove(&peer) {
            replaced.end("another connection with the same node took its place".to_owned());
            swarm.close_connection(replaced.id);
            self.ending.insert(peer, replaced.session);
        }
        let predecessor = self.ending.remove(&peer);
        let (stop, stopped) = oneshot::channel();
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let through = match endpoint {
            ConnectedPoint::Dialer { address, .. } => relays::relay_of(address),
            ConnectedPoint::Listener { local_addr, .. } => relays::relay_of(local_addr),
        };
        let session = Session { peer, admitted, dialer, through, link, shared, events, stop: stopped };
        let over = self.tell_over.clone();
        let session = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                // How it ended is not this session's matter.
                let _ended = predecessor.await;
            }
            session.hold().await;
            // The node that would close the connection may be gone.
            let _gone = over.send((peer, id));
        });
        self.connections.insert(peer, Connection { id, dialer, relayed, address, stop: Some(stop), session });
        self.refused.remove(&peer);
        self.dialer.connected(self.started.elapsed(), &peer);
        self.reserve(swarm);
    }

    /// Asks relays, when this node is to be reached through some and is through too few.
    fn reserve(&mut self, swarm: &mut Swarm<Behaviour>) {
        let connected = |node: &PublicKey| self.connections.get(node).is_some_and(|connection| !connection.relayed);
        for (relay, address) in self.relays.missing(connected) {
            match swarm.listen_on(address) {
                Ok(listener) => self.relays.asked(&relay, listener),
                Err(error) => tracing::warn!(%relay, error = causes(&error), "this relay cannot be used"),
            }
        }
    }

    fn unanswered(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId, id: ConnectionId) {
        let Some(peer) = transport::public_key(&peer) else { return };
        if self.connections.get(&peer).is_some_and(|current| current.id == id) {
            self.disconnect(swarm, &peer, "it does not answer; its line or machine may be down".to_owned());
        }
    }

    /// After a restart of the swarm the node has to be found where it was: a free port that was taken stays.
    fn remember_port(&mut self, address: &Multiaddr) {
        let Some(port) = tcp_port(address) else { return };
        if let Some(configured) = self.config.listen.iter_mut().find(|listen| tcp_port(listen) == Some(0)) {
            *configured = configured
                .iter()
                .map(|part| if part == Protocol::Tcp(0) { Protocol::Tcp(port) } else { part })
                .collect();
        }
    }
}

impl Connection {
    fn end(&mut self, reason: String) {
        if let Some(stop) = self.stop.take() {
            // A session that is over needs no reason.
            let _over = stop.send(reason);
        }
    }
}

/// Whether a new connection, dialled here or not and relayed or not, takes the place of the one there is. A direct
/// one is better than one through a relay. Of two that were dialled from both sides the one dialled by the lower key
/// stays: both sides know that without asking. Of two from the same side the new one stays, for nobody dials who
/// believes to be connected.
fn stays(new: (bool, bool), current: (bool, bool), own: PublicKey, peer: PublicKey) -> bool {
    let ((new_is_ours, new_is_relayed), (current_is_ours, current_is_relayed)) = (new, current);
    if new_is_relayed != current_is_relayed {
        return current_is_relayed;
    }
    new_is_ours == current_is_ours || new_is_ours == (own < peer)
}

/// How soon a failed dial may be tried again, by what was refused on the way.
fn setback(refusal: Option<&Refusal>) -> Setback {
    match refusal {
        Some(Refusal::ByPeer(Reason::Expired | Reason::Revoked)) => Setback::Lasting,
        _ => Setback::Passing,
    }
}

/// Whether a ping failed because nothing came back. One that broke has a cause, with which the connection ends.
fn is_silence(failure: &ping::Failure) -> bool {
    match failure {
        ping::Failure::Timeout => true,
        ping::Failure::Unsupported => false,
        ping::Failure::Other { error } => {
            error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        }
    }
}

/// Whether this node could listen at an address.
pub(crate) fn may_listen(address: &Multiaddr) -> Result<(), StartError> {
    is_free(address).map_err(|error| refused(address, &error))
}

fn refused(address: &Multiaddr, error: &dyn Error) -> StartError {
    StartError::Listen { address: address.clone(), reason: causes(error) }
}

/// Whether nobody listens at an address yet. Libp2p shares a port with whoever shares it too: of two daemons on one port
/// each would get some of what is for the other.
fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn tcp_port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

/// Why a peer was not reached, for each address in a few words.
fn unreached(error: &DialError) -> String {
    let DialError::Transport(tried) = error else { return causes(error) };
    let each = tried.iter().map(|(address, error)| {
        let mut innermost: &dyn Error = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        let place: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        // What went wrong at last: the layers above it only say that something did.
        let text = innermost.to_string();
        format!("{place}: {}", text.rsplit_once(" - ").map_or(text.as_str(), |(_, last)| last))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// An error and its causes in one line.
fn causes(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // Many errors repeat what caused them, and some say nothing themselves.
        if !texts.iter().any(|told| told.contains(&text)) && !text.is_empty() {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn random() -> u64 {
    // Only jitter depends on it: without randomness the nodes dial less evenly.
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_connection_that_the_lower_key_dialled() {
        let (low, high) = (PublicKey([1; 32]), PublicKey([2; 32]));
        for relayed in [false, true] {
            let (ours, theirs) = ((true, relayed), (false, relayed));
            // At the lower node its own dial stays, whichever came first; at the higher node the other's.
            assert!(stays(ours, theirs, low, high) && !stays(theirs, ours, low, high));
            assert!(stays(theirs, ours, high, low) && !stays(ours, theirs, high, low));
        }
    }

    #[test]
    fn a_direct_connection_takes_the_place_of_a_relayed_one_whoever_dialled() {
        let (low, high) = (PublicKey([1; 32]), PublicKey([2; 32]));
        for (new, current) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(stays((new, false), (current, true), low, high));
            assert!(!stays((new, true), (current, false), low, high));
        }
    }

    #[test]
    fn only_a_peer_that_says_we_expired_or_are_revoked_is_left_alone_for_long() {
        let told = |reason| setback(Some(&Refusal::ByPeer(reason)));
        assert_eq!([Reason::Expired, Reason::Revoked].map(told), [Setback::Lasting; 2]);
        assert_eq!([Reason::NotYet, Reason::Missing].map(told), [Setback::Passing; 2]);
        // That it is revoked itself says nothing about how it judges us.
        assert_eq!(setback(Some(&Refusal::Revoked { node: PublicKey([1; 32]) })), Setback::Passing);
        assert_eq!(setback(None), Setback::Passing);
    }

    #[test]
    fn silence_ends_a_connection_and_what_broke_ends_with_its_own_cause() {
        let other = |kind: io::ErrorKind| is_silence(&ping::Failure::Other { error: Box::new(io::Error::from(kind)) });
        assert!(is_silence(&ping::Failure::Timeout) && other(io::ErrorKind::TimedOut));
        assert!(!is_silence(&ping::Failure::Unsupported) && !other(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_peer_that_dials_again_replaces_its_old_connection() {
        let theirs = (false, false);
        assert!(stays(theirs, theirs, PublicKey([1; 32]), PublicKey([2; 32])));
        assert!(stays(theirs, theirs, PublicKey([2; 32]), PublicKey([1; 32])));
    }
}
