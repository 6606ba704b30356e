//! The network: sessions between nodes, how long messages take, and which ways are cut.
//!
//! Sessions are TCP connections: what is sent on one arrives in order and whole, or the session ends. A way that is
//! cut in one direction holds back what is sent there; each side gives up on the session in its own time. What goes
//! over different streams, and by way of different nodes, arrives in any order.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::Time;
use cwn_engine::input::{SessionId, StreamId};

/// What travels.
#[derive(Debug)]
pub(crate) enum Message {
    /// A frame of the live stream.
    Frame(Vec<u8>),
    /// A stream opens, and a run is asked for on it.
    RunRequest(StreamId, Vec<u8>),
    /// A frame of a run.
    RunFrame(StreamId, Vec<u8>),
    /// The end of a run.
    RunEnd(StreamId),
}

impl Message {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Frame(bytes) | Self::RunRequest(_, bytes) | Self::RunFrame(_, bytes) => bytes.len(),
            Self::RunEnd(_) => 0,
        }
    }

    fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Frame(_) => None,
            Self::RunRequest(stream, _) | Self::RunFrame(stream, _) | Self::RunEnd(stream) => Some(*stream),
        }
    }
}

/// One end of a session: a node, and which of its starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) start: u64,
}

/// A connection between two nodes; end 0 dialled.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) ends: [End; 2],
    /// When it was dialled.
    pub(crate) since: Time,
    /// When the last message on each stream to each end arrives.
    last: BTreeMap<(usize, Option<StreamId>), Time>,
    /// What was sent into a cut, by the end it goes to.
    pub(crate) stuck: [Vec<Message>; 2],
    /// By the end they go to: since the queue of live frames is full, so many of them were lost.
    pub(crate) full: [Option<u64>; 2],
    /// Nothing is sent on it any more.
    pub(crate) broken: bool,
}

impl Session {
    /// Which end a node is.
    pub(crate) fn side_of(&self, node: usize) -> usize {
        usize::from(self.ends[0].node != node)
    }
}

/// A run that one node asked of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) session: SessionId,
    pub(crate) pull: cwn_engine::input::PullId,
    /// The end that asked.
    pub(crate) side: usize,
}

/// How one direction between two nodes is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) latency_ms: u64,
    pub(crate) jitter_ms: u64,
    pub(crate) bytes_per_ms: u64,
}

/// All sessions and ways.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// The session that two nodes speak on now, the lower number first.
    pub(crate) pairs: BTreeMap<(usize, usize), SessionId>,
    /// Pairs that will be dialled.
    pub(crate) dialling: BTreeSet<(usize, usize)>,
    pub(crate) asks: BTreeMap<StreamId, Ask>,
    pub(crate) ways: BTreeMap<(usize, usize), Way>,
    /// Directions that are cut, and by how many causes.
    cut: BTreeMap<(usize, usize), u32>,
    next_session: u64,
    next_stream: u64,
}

impl Network {
    /// The pair that two nodes are.
    pub(crate) fn pair(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    /// Makes a session, not yet known to either end.
    pub(crate) fn open(&mut self, dialler: End, listener: End, since: Time) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let session = Session {
            ends: [dialler, listener],
            since,
            last: BTreeMap::new(),
            stuck: [Vec::new(), Vec::new()],
            full: [None, None],
            broken: false,
        };
        self.sessions.insert(id, session);
        self.pairs.insert(Self::pair(dialler.node, listener.node), id);
        id
    }

    /// A fresh stream for a run.
    pub(crate) fn open_stream(&mut self, ask: Ask) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.asks.insert(stream, ask);
        stream
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains_key(&(from, to))
    }

    /// One more cause cuts these directions.
    pub(crate) fn cut(&mut self, ways: &[(usize, usize)]) {
        ways.iter().for_each(|way| *self.cut.entry(*way).or_default() += 1);
    }

    /// One cause less cuts these directions.
    pub(crate) fn mend(&mut self, ways: &[(usize, usize)]) {
        for way in ways {
            if let Some(causes) = self.cut.get_mut(way) {
                *causes -= 1;
                if *causes == 0 {
                    self.cut.remove(way);
                }
            }
        }
    }

    /// When a message that is sent now to one end of a session arrives there, given the jitter that was drawn.
    pub(crate) fn arrival(&mut self, id: SessionId, to_side: usize, message: &Message, now: Time, jitter: u64) -> Time {
        let Some(session) = self.sessions.get_mut(&id) else { return now };
        let (from, to) = (session.ends[1 - to_side].node, session.ends[to_side].node);
        let way = self.ways[&(from, to)];
        let transfer = message.bytes() as u64 / way.bytes_per_ms.max(1);
        let last = session.last.entry((to_side, message.stream())).or_default();
        let at = now.plus(way.latency_ms + jitter).max(*last).plus(transfer);
        *last = at;
        if matches!(message, Message::RunEnd(_)) {
            session.last.remove(&(to_side, message.stream()));
        }
        at
    }
}
