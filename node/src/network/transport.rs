//! From a TCP connection, or a circuit through a relay, to an admitted, multiplexed one: TCP and DNS, TLS 1.3, admission, yamux.
//!
//! Noise and QUIC are not compiled in: with QUIC a stranger would reach the muxer before it is judged. The
//! protocols have names of their own, so that other libp2p software fails while it negotiates. This module
//! refuses to know what is said over a connection; [`super::membership`] decides who gets a handler.

use std::{io, iter, pin::Pin, sync::Arc, time::Duration};

use cwn_crypto::identity::PublicKey;
use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Transport, UpgradeInfo,
        connection::ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::Boxed,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version},
    },
    dns, identity,
    multiaddr::Protocol,
    relay, tcp, tls, yamux,
};
use tokio::sync::mpsc;

use super::{
    admission::{self, End, Failure, Gate, Refusal},
    closing::Bounded,
};

/// The name under which TLS is negotiated. It promises that certificates are exchanged next.
const SECURITY: &str = "/cwn/tls+cert/1";
/// The name under which that exchange and the muxer are negotiated, inside TLS.
const MUXER: &str = "/cwn/cert+yamux/1";
/// From the first packet to an admitted connection. At the usual 10 s, 200 dials at once timed out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take to say that it ends: over a slow line a second. Whoever does not hear of it notices
/// the silence.
const GOODBYE: Duration = Duration::from_secs(3);
/// Streams of a session, both directions together: 24 served, 12 asked for, the live stream and pings, and some
/// that are still closing.
pub(super) const STREAMS_OF_A_SESSION: usize = 64;
/// Streams of a connection: those of its session, and circuits if one side is a relay. More of them ends the
/// connection. It is the last of several bounds: each handler bounds what it takes, the swarm what is negotiating.
pub(super) const STREAMS: usize = 1_024 + STREAMS_OF_A_SESSION;

/// A refusal on its way to the audit.
#[derive(Debug)]
pub(super) struct Audited {
    pub(super) peer: Option<PublicKey>,
    /// The node that was dialled, which need not be the one that answered; none where nobody was.
    pub(super) dialled: Option<PublicKey>,
    pub(super) address: Multiaddr,
    pub(super) refusal: Refusal,
}

/// The transport of a node with these keys. Every refusal goes to `audit` before the connection fails; when
/// it is full the refusal is only logged, for strangers must not fill our memory by being refused.
pub(super) fn transport(
    keypair: &identity::Keypair,
    gate: Arc<Gate>,
    audit: mpsc::Sender<Audited>,
    circuits: relay::client::Transport,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, BuildError> {
    let security = Tls::new(keypair)?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let admit = move |peer: &PeerId, endpoint: &ConnectedPoint| {
        let (end, address) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (End::Dialer { expected: named(address) }, address),
            ConnectedPoint::Listener { send_back_addr, .. } => (End::Listener, send_back_addr),
        };
        Admission { gate, audit, peer: public_key(peer), end, address: address.clone() }
    };
    // What leads through a relay goes there first: its addresses begin as those of the relay do.
    Ok(circuits
        .or_transport(dns::tokio::Transport::system(tcp).map_err(BuildError::Resolver)?)
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex_ext(admit)
        .timeout(CONNECT_TIMEOUT)
        .boxed())
}

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("this node's TLS certificate cannot be made: {0}")]
    Tls(#[from] tls::certificate::GenError),
    #[error("the system's resolver configuration cannot be read: {0}; check /etc/resolv.conf")]
    Resolver(#[source] io::Error),
}

/// The node key behind a libp2p id. Only ed25519 keys stand in ids whole, and nodes have no others.
pub(super) fn public_key(peer: &PeerId) -> Option<PublicKey> {
    const IDENTITY: u64 = 0;
    let hash: &libp2p::multihash::Multihash<64> = peer.as_ref();
    if hash.code() != IDENTITY {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(PublicKey(key.to_bytes()))
}

/// The libp2p id of a node; none if the key is no point of the curve.
pub(super) fn peer_id(key: &PublicKey) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The node that an address names last.
fn named(address: &Multiaddr) -> Option<PublicKey> {
    match address.iter().last()? {
        Protocol::P2p(peer) => public_key(&peer),
        _ => None,
    }
}

/// TLS as libp2p does it (1.3 only, the node key signs the certificate), under our name.
#[derive(Clone)]
pub(super) struct Tls(tls::Config);

impl Tls {
    pub(super) fn new(keypair: &identity::Keypair) -> Result<Self, BuildError> {
        Ok(Self(tls::Config::new(keypair)?))
    }
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(SECURITY)
    }
}

impl<C> InboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, tls::TlsStream<C>);
    type Error = tls::UpgradeError;
    type Future = <tls::Config as InboundConnectionUpgrade<C>>::Future;

    fn upgrade_inbound(self, socket: C, name: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(socket, name)
    }
}

impl<C> OutboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, tls::TlsStream<C>);
    type Error = tls::UpgradeError;
    type Future = <tls::Config as OutboundConnectionUpgrade<C>>::Future;

    fn upgrade_outbound(self, socket: C, name: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(socket, name)
    }
}

/// The exchange of certificates, and the muxer only after it.
///
/// libp2p shows the address that was dialled to what makes the muxer and not to what makes TLS; that is why
/// the exchange stands here. Nothing of yamux runs before both sides have said "admitted".
#[derive(Clone)]
pub(super) struct Admission {
    gate: Arc<Gate>,
    audit: mpsc::Sender<Audited>,
    peer: Option<PublicKey>,
    end: End,
    address: Multiaddr,
}

/// A muxer that is still being made.
type Muxing<C> = Pin<Box<dyn Future<Output = Result<Bounded<yamux::Muxer<C>>, Failure>> + Send>>;

impl Admission {
    async fn admit<C: AsyncRead + AsyncWrite + Unpin>(self, socket: &mut C) -> Result<(), Failure> {
        let dialled = match self.end {
            End::Dialer { expected } => expected,
            End::Listener => None,
        };
        let outcome = match self.peer {
            Some(peer) => admission::exchange(&self.gate, socket, peer, self.end).await,
            None => Err(Refusal::OtherKindOfKey.into()),
        };
        if let Err(Failure::Refused(refusal)) = &outcome {
            let audited = Audited { peer: self.peer, dialled, address: self.address, refusal: refusal.clone() };
            if let Err(full) = self.audit.try_send(audited) {
                tracing::warn!(refused = ?full.into_inner(), "more are refused than the audit takes");
            }
        }
        outcome
    }
}

impl UpgradeInfo for Admission {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(MUXER)
    }
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS);
    config
}

impl<C> InboundConnectionUpgrade<C> for Admission
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Bounded<yamux::Muxer<C>>;
    type Error = Failure;
    type Future = Muxing<C>;

    fn upgrade_inbound(self, mut socket: C, name: Self::Info) -> Self::Future {
        Box::pin(async move {
            self.admit(&mut socket).await?;
            Ok(Bounded::new(muxer().upgrade_inbound(socket, name).await?, GOODBYE))
        })
    }
}

impl<C> OutboundConnectionUpgrade<C> for Admission
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Bounded<yamux::Muxer<C>>;
    type Error = Failure;
    type Future = Muxing<C>;

    fn upgrade_outbound(self, mut socket: C, name: Self::Info) -> Self::Future {
        Box::pin(async move {
            self.admit(&mut socket).await?;
            Ok(Bounded::new(muxer().upgrade_outbound(socket, name).await?, GOODBYE))
        })
    }
}
