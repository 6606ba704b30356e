//! The streams of one connection: opened for a session, and handed to it as they arrive.
//!
//! A handler of our own rather than libp2p-stream, which does not say on which of two connections a stream
//! is, drops streams that arrive in a burst, and keeps something of every connection there ever was. It
//! refuses to know what is said on a stream: that is [`super::session`].

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    task::{Context, Poll},
};

use libp2p::{
    Stream, StreamProtocol,
    core::{InboundUpgrade, UpgradeInfo, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::framing::Broken;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The live stream of a session.
    Live,
    /// One run: a request, then frames.
    Run,
    /// One chunk of an attachment: a request, a reply.
    Chunk,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Live, Self::Run, Self::Chunk];

    fn protocol(self) -> StreamProtocol {
        StreamProtocol::new(match self {
            Self::Live => "/cwn/sync/1",
            Self::Run => "/cwn/run/1",
            Self::Chunk => "/cwn/chunk/1",
        })
    }
}

/// Streams that arrived and that the session has not looked at. It looks at each at once, so that more means
/// a peer that opens them as fast as it can; what does not fit is reset.
const ARRIVED: usize = 32;
/// Streams asked for and not yet opened.
const ASKED: usize = 16;

/// A session's end of a connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) opener: Opener,
    pub(super) arrived: mpsc::Receiver<(Kind, Stream)>,
}

/// Opens streams on one connection.
#[derive(Debug, Clone)]
pub(super) struct Opener(mpsc::Sender<Ask>);

#[derive(Debug)]
struct Ask {
    kind: Kind,
    answer: oneshot::Sender<Result<Stream, Broken>>,
}

impl Opener {
    pub(super) async fn open(&self, kind: Kind) -> Result<Stream, Broken> {
        let (answer, opened) = oneshot::channel();
        self.0.send(Ask { kind, answer }).await.map_err(|_closed| Broken::Gone)?;
        opened.await.map_err(|_dropped| Broken::Gone)?
    }
}

/// The handler of a connection with a member.
#[derive(Debug)]
pub(super) struct Handler {
    asked: mpsc::Receiver<Ask>,
    arrived: mpsc::Sender<(Kind, Stream)>,
}

impl Handler {
    pub(super) fn new() -> (Self, Link) {
        let (ask, asked) = mpsc::channel(ASKED);
        let (arrive, arrived) = mpsc::channel(ARRIVED);
        (Self { asked, arrived: arrive }, Link { opener: Opener(ask), arrived })
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offered;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<Result<Stream, Broken>>;

    fn listen_protocol(&self) -> SubstreamProtocol<Offered> {
        SubstreamProtocol::new(Offered, ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Infallible>> {
        match self.asked.poll_recv(cx) {
            Poll::Ready(Some(Ask { kind, answer })) => {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(kind.protocol()), answer);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            // Without a session nobody asks; the swarm closes the connection.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Offered, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: arrived, .. }) => {
                // Dropping a stream resets it.
                if let Err(refused) = self.arrived.try_send(arrived) {
                    tracing::debug!(%refused, "a stream more than the session takes was reset");
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: answer }) => {
                // Who asked may have stopped waiting; then the stream is reset.
                let _unwanted = answer.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: answer, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => io::Error::from(io::ErrorKind::TimedOut),
                    StreamUpgradeError::NegotiationFailed => {
                        io::Error::other("the other side does not speak this protocol; one of the two must be updated")
                    }
                    StreamUpgradeError::Io(error) => error,
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _unwanted = answer.send(Err(Broken::Io(error)));
            }
            _ => {}
        }
    }
}

/// The protocols a member may open a stream for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered;

impl UpgradeInfo for Offered {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 3];

    fn protocol_info(&self) -> Self::InfoIter {
        Kind::ALL.map(Kind::protocol)
    }
}

impl InboundUpgrade<Stream> for Offered {
    type Output = (Kind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, chosen: StreamProtocol) -> Self::Future {
        // Only what is offered can be chosen.
        let kind = Kind::ALL.into_iter().find(|kind| kind.protocol() == chosen).unwrap_or(Kind::Chunk);
        ready(Ok((kind, stream)))
    }
}
