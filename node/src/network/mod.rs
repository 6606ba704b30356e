//! libp2p behind a door of ours: connections between certified nodes, and bytes over them.
//!
//! [`start`] runs the network; a [`Handle`] says what to do, and [`Event`]s say what happened. Nothing here
//! waits for the driver except by not reading from peers: events come through a bounded channel, and while it
//! is full the sockets are left alone.
//!
//! It refuses to know circles, entries and domain rules; what a frame means is the engine's. Everything of
//! libp2p stays in this directory. Look next at [`admission`] for who may connect, at `session` for what one
//! peer can cause, at `swarm` for how it all runs, and at `dialer` for when whom is dialled.
//!
//! Invariant I2: nothing of the mesh runs for an uncertified peer. Invariant I7: what one peer can cause here
//! is bounded, in memory and in streams, and a session that fails takes no other with it.

use std::{
    ffi::OsStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cwn_crypto::{
    certificate::{Certificate, Standing},
    identity::{PublicKey, SigningKey},
};
use tokio::sync::{mpsc, oneshot};

pub use self::{
    admission::{Admitted, Gate, Reason, Refusal, Trust},
    framing::Broken,
    relays::{MOST_CIRCUITS, RelayLimits, is_circuit},
    session::RunWriter,
};
/// Where a node can be reached, such as `/dns4/mesh.example.org/tcp/4001`.
pub use libp2p::Multiaddr as Address;
pub(crate) use swarm::may_listen;

use self::session::{Order, Shared};

pub mod admission;
mod closing;
mod dialer;
mod framing;
mod membership;
mod relays;
mod session;
mod streams;
mod swarm;
#[cfg(test)]
pub(crate) mod test_world;
#[cfg(test)]
mod tests;
mod transport;

/// Live frames that wait for one peer, in bytes. Four of the longest; whoever is slower resyncs by digest.
pub const LIVE_QUEUE_BYTES: usize = 4 << 20;
/// A reply with a chunk of an attachment: 1 MiB, and what sealing and framing add.
pub const CHUNK_BYTES: usize = (1 << 20) + (4 << 10);
/// Events the driver has not taken yet. The largest is a frame of 1 MiB, so that this is 16 MiB at most; each
/// stream holds one more while it waits.
const EVENTS: usize = 16;

/// What a network needs to start.
#[derive(Debug)]
pub struct Config {
    /// The node's key.
    pub key: SigningKey,
    /// Where to listen; none for a node that only dials. Port 0 takes a free one.
    pub listen: Vec<Address>,
    /// Where others reach this node, when it is not where it listens.
    pub external: Vec<Address>,
    /// Whether connections between others are passed on, and how much.
    pub relay: Option<RelayLimits>,
    /// Who may connect.
    pub gate: Arc<Gate>,
    /// Over how long the first dials are spread. 30 s in a network; nothing in tests and the demo.
    pub dial_spread: Duration,
    /// Memory of this process beyond which no further connection is taken, in bytes.
    pub memory_limit: Option<usize>,
}

/// What happened.
///
/// Of one session the order is: `PeerUp`, anything else, `PeerDown`. There is one session with a peer at a
/// time: `PeerDown` of one comes before `PeerUp` of the next.
#[derive(Debug)]
pub enum Event {
    /// This node can be reached here.
    Listening {
        /// The address, with its real port.
        address: Address,
    },
    /// This node can be reached there no longer: the relay or the way to it is gone.
    ListeningNoLonger {
        /// The address.
        address: Address,
    },
    /// A session with a member stands.
    PeerUp {
        /// The member's node.
        peer: PublicKey,
        /// The certificate it showed.
        certificate: Certificate,
        /// How that stands; in grace it is shown amber.
        standing: Standing,
        /// Whether this node dialled.
        dialer: bool,
        /// The relay that passes the connection on, if one does.
        through: Option<PublicKey>,
        /// The session's number; never used twice while the process runs.
        session: u64,
    },
    /// A session is over. Pulls that had not ended were reported before this.
    PeerDown {
        /// The member's node.
        peer: PublicKey,
        /// The session.
        session: u64,
        /// Why, for people.
        reason: String,
    },
    /// A live frame, of at most [`cwn_engine::limits::FRAME_BYTES`].
    Frame {
        /// Who sent it.
        peer: PublicKey,
        /// In which session.
        session: u64,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A peer asks for a run: answer with [`Handle::serve`] or [`Handle::decline`].
    RunRequest {
        /// Who asks.
        peer: PublicKey,
        /// In which session.
        session: u64,
        /// What to answer on.
        stream: u64,
        /// The request.
        bytes: Vec<u8>,
    },
    /// A frame of a run that was asked for, of at most [`cwn_engine::limits::FRAME_BYTES`].
    RunFrame {
        /// The number given to [`Handle::pull`].
        pull: u64,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A run that was asked for ended.
    RunEnded {
        /// The number given to [`Handle::pull`].
        pull: u64,
        /// Why it is not complete, if it is not.
        error: Option<String>,
    },
    /// A peer asks for a chunk: answer with [`Handle::reply`] or [`Handle::decline`].
    ChunkRequest {
        /// Who asks.
        peer: PublicKey,
        /// In which session.
        session: u64,
        /// What to answer on.
        stream: u64,
        /// The request.
        bytes: Vec<u8>,
    },
    /// Somebody was not admitted, refused us, or is no longer admitted.
    Refused {
        /// Whose key it has, if it has one.
        peer: Option<PublicKey>,
        /// Where it is.
        address: Address,
        /// Why.
        reason: Refusal,
    },
    /// A dial led to no connection. One that is wanted is dialled again later.
    DialFailed {
        /// Who was dialled.
        peer: PublicKey,
        /// Why it failed, for people.
        reason: String,
    },
    /// A peer was too slow for the live frames meant for it, and missed some; its queue is empty again. Said before, what
    /// is said again because of it would be lost as well.
    LiveQueueDropped {
        /// The slow peer.
        peer: PublicKey,
        /// In which session.
        session: u64,
    },
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {reason}; if it is taken, not of this machine, or a port below 1024, choose another under [network] listen"
    )]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        reason: String,
    },
    /// The transport cannot be made.
    #[error("{0}")]
    Transport(String),
}

/// Says what to do. Nothing here waits. The network ends with [`Handle::shut_down`], and when the last of these
/// is dropped.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    handlers_built: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Command {
    Dial {
        peer: PublicKey,
        addresses: Vec<Address>,
    },
    Want {
        peer: PublicKey,
        addresses: Vec<Address>,
    },
    Unwant {
        peer: PublicKey,
    },
    ReachThrough {
        relay: PublicKey,
        addresses: Vec<Address>,
    },
    Disconnect {
        peer: PublicKey,
        reason: String,
    },
    Recheck,
    ShutDown,
    Report(Box<Event>),
    #[cfg(test)]
    Panic,
}

/// Starts the network within the present tokio runtime.
///
/// Whatever panics below, in libp2p or in yamux, ends all sessions and no more: they are reported down, and
/// the network starts anew at the same addresses.
pub fn start(config: Config) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let (commands, commanded) = mpsc::unbounded_channel();
    let (events, receiver) = mpsc::channel(EVENTS);
    let shared = Arc::new(Shared::default());
    let handlers_built = Arc::new(AtomicU64::new(0));
    let handle = Handle { commands, shared: shared.clone(), handlers_built: handlers_built.clone() };
    let node = swarm::Node::new(config, shared, handlers_built, events, commanded)?;
    tokio::spawn(node.supervise());
    Ok((handle, receiver))
}

impl Handle {
    fn report(&self, event: Event) {
        self.command(Command::Report(Box::new(event)));
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("the network has stopped");
        }
    }

    /// Dials a peer once, unless it is connected. Use [`Self::want`] to stay connected.
    pub fn dial(&self, peer: PublicKey, addresses: Vec<Address>) {
        self.command(Command::Dial { peer, addresses });
    }

    /// From now on this node tries to stay connected with a peer. Asking again replaces the addresses; without
    /// any it is waited for.
    pub fn want(&self, peer: PublicKey, addresses: Vec<Address>) {
        self.command(Command::Want { peer, addresses });
    }

    /// This node no longer tries to stay connected with a peer.
    pub fn unwant(&self, peer: PublicKey) {
        self.command(Command::Unwant { peer });
    }

    /// While this node is connected with that relay, others can reach it through it: of several such relays a few
    /// are asked. For a node that nobody can dial.
    pub fn reach_through(&self, relay: PublicKey, addresses: Vec<Address>) {
        self.command(Command::ReachThrough { relay, addresses });
    }

    /// Ends the session with a peer. One that is wanted is dialled again.
    pub fn disconnect(&self, peer: PublicKey, reason: String) {
        self.command(Command::Disconnect { peer, reason });
    }

    /// Says goodbye to a peer: its session ends as soon as no run and no attachment is under way in it. One that is
    /// wanted is dialled again.
    pub fn leave(&self, peer: &PublicKey, reason: &str) {
        self.shared.leave(peer, reason);
    }

    /// Judges again who is connected. To be called when a node was revoked; once a minute it happens by itself.
    pub fn recheck(&self) {
        self.command(Command::Recheck);
    }

    /// Queues a live frame. When the peer's queue is full the frame is dropped, which is reported once, as
    /// [`Event::LiveQueueDropped`] when there is room again. For a session that is over nothing happens.
    pub fn send(&self, peer: PublicKey, session: u64, bytes: Vec<u8>) {
        self.shared.push(&peer, session, bytes);
    }

    /// Asks a peer for a run. Its frames come as [`Event::RunFrame`] with the number `pull`, which the caller
    /// chooses and uses once; its end as [`Event::RunEnded`].
    pub fn pull(&self, peer: PublicKey, session: u64, pull: u64, request: Vec<u8>) {
        if self.shared.order(&peer, session, Order::Pull { pull, request }).is_err() {
            let error = Some(Broken::Gone.to_string());
            self.report(Event::RunEnded { pull, error });
        }
    }

    /// Stops a pull. It does not end: nothing more is reported of it but what is on its way.
    pub fn cancel_pull(&self, pull: u64) {
        self.shared.cancel(pull);
    }

    /// What to answer an [`Event::RunRequest`] on. When its session is over, or it was answered before, writing
    /// fails.
    pub fn serve(&self, stream: u64) -> RunWriter {
        self.shared.serve(stream)
    }

    /// Asks a peer for a chunk, of at most [`CHUNK_BYTES`].
    pub fn fetch_chunk(
        &self,
        peer: PublicKey,
        session: u64,
        request: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, Broken>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        // A session that is over drops `answer`, which is an answer too.
        let _over = self.shared.order(&peer, session, Order::Fetch { request, answer });
        async { answered.await.map_err(|_dropped| Broken::Gone)? }
    }

    /// Answers an [`Event::ChunkRequest`].
    pub fn reply(&self, stream: u64, bytes: Vec<u8>) {
        self.shared.reply(stream, bytes);
    }

    /// Refuses an [`Event::RunRequest`] or [`Event::ChunkRequest`]; the peer sees it cut off.
    pub fn decline(&self, stream: u64) {
        self.shared.decline(stream);
    }

    /// Ends all sessions and the network.
    pub fn shut_down(&self) {
        self.command(Command::ShutDown);
    }

    /// For how many connections a handler was built since the start: for no stranger, ever.
    pub fn handlers_built(&self) -> u64 {
        self.handlers_built.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    fn panic(&self) {
        self.command(Command::Panic);
    }
}

/// The variable that makes TLS write its session keys to a file.
pub const KEY_LOG: &str = "SSLKEYLOGFILE";

/// The variable [`KEY_LOG`] is set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{KEY_LOG} is set to {file:?}, so that every connection's keys would be written to that file; unset it and start again"
)]
pub struct KeyLogSet {
    /// The file it names.
    pub file: String,
}

/// Refuses to go on while TLS would write its keys to a file; to be asked before anything is started, with
/// what the environment says of [`KEY_LOG`].
pub fn refuse_key_log(set: Option<&OsStr>) -> Result<(), KeyLogSet> {
    match set {
        Some(file) => Err(KeyLogSet { file: file.to_string_lossy().into_owned() }),
        None => Ok(()),
    }
}
