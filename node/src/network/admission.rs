//! Admission: only nodes with a certificate of this network have a connection (invariant I2).
//!
//! [`Gate`] judges, without sockets. `exchange` is the conversation that both ends of a connection hold right
//! after the TLS handshake and before any muxer or handler exists:
//!
//! ```text
//! dialer                                   listener
//!   is it the node I dialled?
//!   certificate              ----------->  judges it
//!                            <-----------  a reason and nothing more, or: its own certificate
//!   judges it
//!   a reason, or: admitted   ----------->
//! ```
//!
//! The dialer shows its certificate first, so that a scanner never sees a listener's; and it shows it only to
//! the node it meant to dial.
//!
//! Whoever is about to refuse a certificate because of its issuer, or because the node is revoked, may have an old
//! root document. So it first asks for the versions after its own, hands those that hold to [`Gate::hear_roots`]'s
//! receiver, and refuses: once they are durable and judged by, the next attempt succeeds. So a node that was away
//! while all others got certificates of a new issuer finds back, and so do nodes among whom a thief revoked everybody.
//!
//! This module refuses to know circles: a certificate lets a node connect, no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use cwn_crypto::{
    certificate::{self, CERTIFICATE_LIMIT, Certificate, SignedCertificate, Standing},
    encoding::{self, Hash},
    identity::{PartnerId, PublicKey, SignedRefusal, Time},
    issuer_log::Word,
    root::{self, SIGNED_ROOT_LIMIT, SignedRoot, TrustRoot, VERSIONS_LIMIT},
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// The bytes of a certificate and its signature, as they are sent.
const SHOWN_LIMIT: usize = CERTIFICATE_LIMIT + 128;
/// The whole conversation is three small messages; who needs longer holds a place that others need.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a node was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It showed none.
    #[error("it showed no certificate; a node joins with an invitation from the coordinator")]
    Missing,
    /// It showed a certificate that this network does not accept, or not now.
    #[error(transparent)]
    Certificate(#[from] certificate::Refusal),
    /// It showed another node's certificate.
    #[error(
        "it showed the certificate of {partner} for node {named}, and is node {shown_by}; somebody copied a certificate"
    )]
    OtherKey {
        /// Whose certificate it is.
        partner: PartnerId,
        /// The node it is for.
        named: PublicKey,
        /// The node that showed it.
        shown_by: PublicKey,
    },
    /// An issuer revoked the node.
    #[error("node {node} is revoked; only the coordinator can let its partner join again, with new keys")]
    Revoked {
        /// The revoked node.
        node: PublicKey,
    },
    /// It is another node than the one that was dialled. Our certificate was not shown to it.
    #[error("another node answers at this address: {found} instead of {expected}; correct the address")]
    OtherNode {
        /// The node that was dialled.
        expected: PublicKey,
        /// The node that answered.
        found: PublicKey,
    },
    /// The dial did not say which node it was for, so nothing was shown to the one that answered.
    #[error("the address does not name the node it leads to")]
    NobodyExpected,
    /// Its key is of a kind that no certificate is for.
    #[error("its key is not an ed25519 key; nodes of this network have one")]
    OtherKindOfKey,
    /// The other side refused our certificate.
    #[error("it refused our certificate: {0}")]
    ByPeer(Reason),
}

/// The reason of a refusal as it is told to the refused: one byte, and no word about what we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No certificate was shown.
    Missing,
    /// It cannot be decoded, or is too long.
    Malformed,
    /// It is spelled in another way than the one that gets signed.
    NotCanonical,
    /// Its signature does not hold.
    Signature,
    /// It is for another network.
    OtherNetwork,
    /// It is for another key.
    OtherKey,
    /// Its issuer may not have issued it.
    Issuer,
    /// It begins later.
    NotYet,
    /// It expired, and its grace is over.
    Expired,
    /// The node is revoked.
    Revoked,
    /// Its suite is unknown here.
    UnknownSuite,
    /// Something else it says cannot be.
    Unsound,
    /// A reason that this version does not know.
    Other(u8),
}

impl Reason {
    const CODES: [(u8, Self); 12] = [
        (1, Self::Missing),
        (2, Self::Malformed),
        (3, Self::NotCanonical),
        (4, Self::Signature),
        (5, Self::OtherNetwork),
        (6, Self::OtherKey),
        (7, Self::Issuer),
        (8, Self::NotYet),
        (9, Self::Expired),
        (10, Self::Revoked),
        (11, Self::UnknownSuite),
        (12, Self::Unsound),
    ];

    fn from_code(code: u8) -> Self {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or(Self::Other(code), |(_, reason)| *reason)
    }

    fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            known => Self::CODES.iter().find(|(_, reason)| *reason == known).map_or(u8::MAX, |(code, _)| *code),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "none was shown; import this node's certificate",
            Self::Malformed => "it cannot be read; ask the coordinator for it again",
            Self::NotCanonical => "it is not in canonical form; ask the coordinator for it again",
            Self::Signature => "its signature does not hold; ask the coordinator for it again",
            Self::OtherNetwork => "it is for another network; ask that network's coordinator for one",
            Self::OtherKey => "it is for another node's key; import this node's own certificate",
            Self::Issuer => "its issuer is not allowed to have issued it; ask the coordinator for another",
            Self::NotYet => "it does not hold yet; check the clocks of both machines",
            Self::Expired => "it expired; ask the coordinator to renew it",
            Self::Revoked => "this node is revoked; ask the coordinator why",
            Self::UnknownSuite => "its suite is unknown there; the other node must be updated",
            Self::Unsound => "what it says cannot be; ask the coordinator for another",
            Self::Other(code) => {
                return write!(f, "for a reason this version does not know ({code}); update this node");
            }
        })
    }
}

/// What a node is told that its peers hold for revoked.
pub fn told_revoked() -> String {
    Reason::Revoked.to_string()
}

impl Refusal {
    /// What the refused is told.
    pub fn reason(&self) -> Reason {
        use certificate::Refusal as Cert;
        match self {
            Self::Missing => Reason::Missing,
            Self::OtherKey { .. } | Self::OtherNode { .. } | Self::NobodyExpected | Self::OtherKindOfKey => {
                Reason::OtherKey
            }
            Self::Revoked { .. } => Reason::Revoked,
            Self::ByPeer(reason) => *reason,
            Self::Certificate(refusal) => match refusal {
                Cert::Signed(SignedRefusal::Encoding(encoding::Refusal::NotCanonical)) => Reason::NotCanonical,
                Cert::Signed(SignedRefusal::Encoding(_)) => Reason::Malformed,
                Cert::Signed(SignedRefusal::Signature(_)) => Reason::Signature,
                Cert::UnknownSuite { .. } => Reason::UnknownSuite,
                Cert::OtherNetwork { .. } => Reason::OtherNetwork,
                Cert::UnknownIssuer { .. } | Cert::DroppedIssuer { .. } | Cert::OutsideTerm { .. } => Reason::Issuer,
                Cert::NotYet { .. } => Reason::NotYet,
                Cert::Expired { .. } => Reason::Expired,
                Cert::UnsoundNode { .. }
                | Cert::UnsoundRecipient { .. }
                | Cert::EmptyLife { .. }
                | Cert::Name { .. } => Reason::Unsound,
            },
        }
    }
}

/// By what a gate judges: the root document and what follows from the issuers' word.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The root of trust.
    pub root: TrustRoot,
    /// The revoked nodes.
    pub revoked: BTreeSet<PublicKey>,
    /// The certificates, by their hashes, that issuers which were dropped since said in time.
    pub of_dropped: BTreeSet<Hash>,
}

impl Trust {
    /// As it follows from an issuers' word.
    pub fn of(root: &TrustRoot, word: &Word) -> Self {
        Self {
            root: root.clone(),
            revoked: word.revocations().map(|(node, _)| *node).collect(),
            of_dropped: word.of_dropped(root).map(|certified| certified.certificate.hash()).collect(),
        }
    }

    /// Whether the root document and the word leave a certificate standing.
    fn leaves(&self, certificate: &Certificate) -> Result<(), Refusal> {
        let Certificate { node, issuer, .. } = *certificate;
        if self.revoked.contains(&node) {
            return Err(Refusal::Revoked { node });
        }
        certificate.check_term(&self.root)?;
        if self.root.issuer(&issuer).is_none() && !self.of_dropped.contains(&certificate.hash()) {
            let partner = certificate.partner.clone();
            return Err(certificate::Refusal::DroppedIssuer { partner, issuer }.into());
        }
        Ok(())
    }
}

/// A node that may connect, and how its certificate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What its certificate says.
    pub certificate: Certificate,
    /// [`Standing::Valid`], or [`Standing::Grace`], which is shown amber.
    pub standing: Standing,
}

/// Who may connect. One for all transports, and for the defence behind them.
pub struct Gate {
    trust: RwLock<Trust>,
    clock: Box<dyn Fn() -> Time + Send + Sync>,
    own: RwLock<Vec<u8>>,
    roots: OnceLock<mpsc::UnboundedSender<Vec<SignedRoot>>>,
    /// The certificates that were accepted, the latest of each node. No more than the issuers issued.
    admitted: RwLock<BTreeMap<PublicKey, Certificate>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("network", &self.trust().root.network()).finish_non_exhaustive()
    }
}

impl Gate {
    /// The gate of a node that shows `own` and judges by `root`, with `clock` as the time.
    pub fn new(
        root: TrustRoot,
        own: &SignedCertificate,
        clock: impl Fn() -> Time + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            trust: RwLock::new(Trust { root, revoked: BTreeSet::new(), of_dropped: BTreeSet::new() }),
            clock: Box::new(clock),
            own: RwLock::new(encoding::to_bytes(own)),
            roots: OnceLock::new(),
            admitted: RwLock::default(),
        })
    }

    /// From now on this node shows `own`.
    pub fn renew(&self, own: &SignedCertificate) {
        self.show(encoding::to_bytes(own));
    }

    /// From now on this node shows these bytes.
    pub(super) fn show(&self, own: Vec<u8>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// `node` is no longer admitted. [`super::Handle::recheck`] ends the connections it has.
    pub fn revoke(&self, node: PublicKey) {
        self.trust.write().unwrap_or_else(PoisonError::into_inner).revoked.insert(node);
    }

    /// From now on this gate judges by `trust`. [`super::Handle::recheck`] ends the connections that it no longer
    /// leaves.
    /// Returns the nodes that are no longer revoked.
    pub fn judge_by(&self, trust: Trust) -> BTreeSet<PublicKey> {
        let mut present = self.trust.write().unwrap_or_else(PoisonError::into_inner);
        let returned = present.revoked.difference(&trust.revoked).copied().collect();
        *present = trust;
        returned
    }

    /// Where versions of the root document go that peers showed, verified against the one that is judged by. Asked
    /// once; who asks again gets nothing.
    pub fn hear_roots(&self) -> mpsc::UnboundedReceiver<Vec<SignedRoot>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.roots.set(sender);
        receiver
    }

    fn trust(&self) -> RwLockReadGuard<'_, Trust> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as this gate knows it.
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// Whether `peer`, which proved to have that key and showed these bytes, may connect.
    pub fn judge(&self, peer: PublicKey, shown: &[u8], now: Time) -> Result<Admitted, Refusal> {
        if shown.is_empty() {
            return Err(Refusal::Missing);
        }
        let unreadable = |refusal| certificate::Refusal::Signed(SignedRefusal::Encoding(refusal));
        let signed: SignedCertificate = encoding::from_bytes(shown, SHOWN_LIMIT).map_err(unreadable)?;
        let certificate = certificate::verify_known(&signed, &self.trust().root)?;
        if certificate.node != peer {
            return Err(Refusal::OtherKey { partner: certificate.partner, named: certificate.node, shown_by: peer });
        }
        let standing = self.stands(&certificate, now)?;
        Ok(Admitted { certificate, standing })
    }

    /// Whether the root document and the issuers' word leave a certificate standing, whatever the clock says.
    pub fn leaves(&self, certificate: &Certificate) -> bool {
        self.trust().leaves(certificate).is_ok()
    }

    /// Whether a certificate that was accepted before may be used now.
    pub fn stands(&self, certificate: &Certificate, now: Time) -> Result<Standing, Refusal> {
        self.trust().leaves(certificate)?;
        Ok(certificate.in_use(now)?)
    }

    /// The node with this key, if it was admitted before and still would be.
    pub fn admitted(&self, peer: &PublicKey) -> Result<Admitted, Refusal> {
        let known = self.admitted.read().unwrap_or_else(PoisonError::into_inner).get(peer).cloned();
        let certificate = known.ok_or(Refusal::Missing)?;
        let standing = self.stands(&certificate, self.now())?;
        Ok(Admitted { certificate, standing })
    }

    /// Judges what `peer` shows, and remembers it for the defence behind the transports.
    fn admit(&self, peer: PublicKey, shown: &[u8]) -> Result<(), Refusal> {
        let Admitted { certificate, .. } = self.judge(peer, shown, self.now())?;
        self.admitted.write().unwrap_or_else(PoisonError::into_inner).insert(peer, certificate);
        Ok(())
    }

    fn own(&self) -> Vec<u8> {
        self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Dialer {
        /// Whom the dial is for.
        expected: Option<PublicKey>,
    },
    Listener,
}

/// Why the conversation did not end with both sides admitting each other.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("not admitted: {0}")]
    Refused(#[from] Refusal),
    #[error("the connection failed while certificates were exchanged: {0}")]
    Io(#[from] io::Error),
    #[error("certificates were not exchanged within {} seconds", PATIENCE.as_secs())]
    TooSlow,
}

/// Exchanges certificates with `peer`, whose key the TLS handshake proved.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    gate: &Gate,
    stream: &mut S,
    peer: PublicKey,
    end: End,
) -> Result<(), Failure> {
    let talk = async {
        match end {
            End::Dialer { expected } => dialer(gate, stream, peer, expected).await,
            End::Listener => listener(gate, stream, peer).await,
        }
    };
    tokio::time::timeout(PATIENCE, talk).await.unwrap_or(Err(Failure::TooSlow))
}

async fn dialer<S: AsyncRead + AsyncWrite + Unpin>(
    gate: &Gate,
    stream: &mut S,
    peer: PublicKey,
    expected: Option<PublicKey>,
) -> Result<(), Failure> {
    // The swarm compares the two only once the connection is there; by then the certificate, which names the
    // partner, would have been shown to whoever took over the address.
    match expected {
        Some(expected) if expected == peer => {}
        Some(expected) => return Err(Refusal::OtherNode { expected, found: peer }.into()),
        None => return Err(Refusal::NobodyExpected.into()),
    }
    say(stream, ADMITTED, &gate.own()).await?;
    match hear(gate, stream).await?.and_then(|shown| gate.admit(peer, &shown)) {
        Ok(()) => Ok(say(stream, ADMITTED, &[]).await?),
        Err(refusal) => refuse(gate, stream, refusal).await,
    }
}

async fn listener<S: AsyncRead + AsyncWrite + Unpin>(
    gate: &Gate,
    stream: &mut S,
    peer: PublicKey,
) -> Result<(), Failure> {
    if let Err(refusal) = hear(gate, stream).await?.and_then(|shown| gate.admit(peer, &shown)) {
        return refuse(gate, stream, refusal).await;
    }
    say(stream, ADMITTED, &gate.own()).await?;
    hear(gate, stream).await??;
    Ok(())
}

/// The code of what is no refusal.
const ADMITTED: u8 = 0;

/// The code that asks for the versions of the root document after the one whose number follows.
const ASKS_FOR_ROOTS: u8 = 250;

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    gate: &Gate,
    stream: &mut S,
    refusal: Refusal,
) -> Result<(), Failure> {
    use certificate::Refusal as Cert;
    if matches!(
        refusal,
        Refusal::Revoked { .. } | Refusal::Certificate(Cert::UnknownIssuer { .. } | Cert::DroppedIssuer { .. })
    ) {
        // That it has none, or an earlier protocol, changes nothing.
        let _learnt = ask_for_roots(gate, stream).await;
    }
    // That it could not be told changes nothing: it is refused.
    let _told = say(stream, refusal.reason().code(), &[]).await;
    let _closed = stream.close().await;
    Err(refusal.into())
}

/// Asks for the versions of the root document behind the first, and passes on those that hold and are later; also one
/// that the root keys signed besides for a version that is held, which is an alarm.
async fn ask_for_roots<S: AsyncRead + AsyncWrite + Unpin>(gate: &Gate, stream: &mut S) -> io::Result<()> {
    let mut root = gate.trust().root.clone();
    let before = root.version();
    let mut other = None;
    say(stream, ASKS_FOR_ROOTS, &1_u32.to_be_bytes()).await?;
    for version in 2..=VERSIONS_LIMIT as u32 + 1 {
        let (code, length) = head(stream).await?;
        if code != ADMITTED || length == 0 || length > SIGNED_ROOT_LIMIT {
            break;
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        // The first that does not hold ends it; nothing is believed but what the root keys signed.
        let Ok(signed) = SignedRoot::from_bytes(&bytes) else { break };
        if signed.version() != Ok(version) {
            break;
        }
        match root.adopt(std::slice::from_ref(&signed)) {
            Ok(_) => {}
            Err(root::Refusal::Forked(_)) => {
                other = Some(signed);
                break;
            }
            Err(_) => break,
        }
    }
    let news: Vec<SignedRoot> = root.after(before).iter().cloned().chain(other).collect();
    if !news.is_empty()
        && let Some(roots) = gate.roots.get()
        && roots.send(news).is_err()
    {
        tracing::debug!("nobody takes versions of the root document any more");
    }
    Ok(())
}

/// Shows the versions of the root document after the one that was named.
async fn show_roots<S: AsyncWrite + Unpin>(gate: &Gate, stream: &mut S, after: u32) -> io::Result<()> {
    let versions = gate.trust().root.after(after).to_vec();
    for signed in versions {
        say(stream, ADMITTED, &encoding::to_bytes(&signed)).await?;
    }
    say(stream, ADMITTED, &[]).await
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u8, usize)> {
    let mut head = [0; 3];
    stream.read_exact(&mut head).await?;
    let [code, high, low] = head;
    Ok((code, usize::from(u16::from_be_bytes([high, low]))))
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, code: u8, shown: &[u8]) -> io::Result<()> {
    let length = u16::try_from(shown.len())
        .map_err(|_too_long| io::Error::new(io::ErrorKind::InvalidInput, "a certificate of more than 64 KiB"))?;
    let mut message = vec![code];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(shown);
    stream.write_all(&message).await?;
    stream.flush().await
}

/// What the other side shows, unless it refuses us or shows too much.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(
    gate: &Gate,
    stream: &mut S,
) -> Result<Result<Vec<u8>, Refusal>, Failure> {
    let (mut code, mut length) = head(stream).await?;
    // Once: the refusal follows.
    if code == ASKS_FOR_ROOTS && length == size_of::<u32>() {
        let mut after = [0; 4];
        stream.read_exact(&mut after).await?;
        show_roots(gate, stream, u32::from_be_bytes(after)).await?;
        (code, length) = head(stream).await?;
    }
    if code != ADMITTED {
        return Err(Refusal::ByPeer(Reason::from_code(code)).into());
    }
    if length > SHOWN_LIMIT {
        // It is read and thrown away, 64 KiB at most: closing a socket with something unread in it would lose
        // the reason on its way.
        futures::io::copy(stream.take(length as u64), &mut futures::io::sink()).await?;
        let refusal = encoding::Refusal::TooLong { length, limit: SHOWN_LIMIT };
        return Ok(Err(Refusal::Certificate(SignedRefusal::Encoding(refusal).into())));
    }
    let mut shown = vec![0; length];
    stream.read_exact(&mut shown).await?;
    Ok(Ok(shown))
}

#[cfg(test)]
mod tests {
    use cwn_crypto::{encoding::Domain, identity::Signed, seal::SealingKey};

    use super::*;
    use crate::network::test_world::{BEGIN, World, key};

    const HOST: u8 = 1;
    const GUEST: u8 = 2;

    /// Shows a certificate of the guest, changed by `change`, to the host.
    fn shown(world: &World, change: impl FnOnce(&mut Certificate)) -> Result<Admitted, Refusal> {
        let mut contents = world.contents("ferm", GUEST);
        change(&mut contents);
        judged(world, &encoding::to_bytes(&world.sign(&contents)))
    }

    fn judged(world: &World, bytes: &[u8]) -> Result<Admitted, Refusal> {
        world.gate("z-cert", HOST).judge(key(GUEST).public(), bytes, world.now())
    }

    fn reason(outcome: Result<Admitted, Refusal>) -> Reason {
        outcome.unwrap_err().reason()
    }

    #[test]
    fn a_member_is_admitted() {
        let admitted = shown(&World::new(), |_| ()).unwrap();
        assert_eq!(admitted.certificate.partner.as_str(), "ferm");
        assert_eq!(admitted.standing, Standing::Valid);
    }

    #[test]
    fn who_shows_nothing_is_not_admitted() {
        assert_eq!(judged(&World::new(), &[]), Err(Refusal::Missing));
    }

    #[test]
    fn what_cannot_be_decoded_is_not_admitted() {
        let world = World::new();
        let good = encoding::to_bytes(&world.certificate("ferm", GUEST));
        for bytes in [&b"certificate"[..], &good[..good.len() - 1], &[good.as_slice(), b"\0"].concat(), &[0; 9_999]] {
            assert!(
                matches!(reason(judged(&world, bytes)), Reason::Malformed | Reason::NotCanonical),
                "{} bytes",
                bytes.len()
            );
        }
    }

    #[test]
    fn another_spelling_of_a_good_certificate_is_not_admitted() {
        let world = World::new();
        let good = encoding::to_bytes(&world.certificate("ferm", GUEST));
        // An array of two, its length spelled in two bytes instead of one.
        assert_eq!(good[0], 0x82);
        let respelled = [&[0x98, 2], &good[1..]].concat();
        assert_eq!(reason(judged(&world, &respelled)), Reason::NotCanonical);
    }

    #[test]
    fn an_altered_certificate_is_not_admitted() {
        let world = World::new();
        let mut bytes = encoding::to_bytes(&world.certificate("ferm", GUEST));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(reason(judged(&world, &bytes)), Reason::Signature);
    }

    #[test]
    fn a_certificate_of_another_network_is_not_admitted() {
        let elsewhere = World::named("elders").certificate("ferm", GUEST);
        assert_eq!(reason(judged(&World::new(), &encoding::to_bytes(&elsewhere))), Reason::OtherNetwork);
    }

    #[test]
    fn a_certificate_for_another_key_is_not_admitted() {
        let outcome = shown(&World::new(), |contents| contents.node = key(3).public());
        assert!(matches!(outcome, Err(Refusal::OtherKey { named, .. }) if named == key(3).public()));
    }

    #[test]
    fn a_certificate_of_an_issuer_that_the_root_does_not_allow_is_not_admitted() {
        let world = World::new();
        let mut contents = world.contents("ferm", GUEST);
        contents.issuer = key(9).public();
        let signed = Signed::sign(&contents, Domain::CERTIFICATE, &key(9));
        assert_eq!(reason(judged(&world, &encoding::to_bytes(&signed))), Reason::Issuer);
    }

    #[test]
    fn a_certificate_that_somebody_else_signed_in_the_issuers_name_is_not_admitted() {
        let world = World::new();
        let signed = Signed::sign(&world.contents("ferm", GUEST), Domain::CERTIFICATE, &key(9));
        assert_eq!(reason(judged(&world, &encoding::to_bytes(&signed))), Reason::Signature);
    }

    #[test]
    fn a_certificate_that_begins_tomorrow_is_not_admitted_and_one_that_begins_in_a_minute_is() {
        let world = World::new();
        let tomorrow = world.now().plus(Time::DAY_MS);
        assert_eq!(reason(shown(&world, |contents| contents.not_before = tomorrow)), Reason::NotYet);
        let soon = world.now().plus(60 * Time::SECOND_MS);
        assert!(shown(&world, |contents| contents.not_before = soon).is_ok());
    }

    #[test]
    fn an_expired_certificate_is_admitted_amber_for_thirty_days_and_then_no_more() {
        let world = World::new();
        world.set_days(59);
        let expired_at = BEGIN.plus(30 * Time::DAY_MS);
        assert_eq!(shown(&world, |_| ()).unwrap().standing, Standing::Grace { expired_at });
        world.set_days(61);
        assert_eq!(reason(shown(&world, |_| ())), Reason::Expired);
    }

    #[test]
    fn a_revoked_node_is_not_admitted_not_even_in_grace_or_with_a_new_certificate() {
        let world = World::new();
        let gate = world.gate("z-cert", HOST);
        gate.revoke(key(GUEST).public());
        for serial in [2, 3] {
            let mut contents = world.contents("ferm", GUEST);
            contents.serial = serial;
            let bytes = encoding::to_bytes(&world.sign(&contents));
            assert_eq!(reason(gate.judge(key(GUEST).public(), &bytes, world.now())), Reason::Revoked);
        }
    }

    fn trust(root: TrustRoot, of_dropped: &[&Certificate]) -> Trust {
        let of_dropped = of_dropped.iter().map(|certificate| certificate.hash()).collect();
        Trust { root, revoked: BTreeSet::new(), of_dropped }
    }

    #[test]
    fn of_a_dropped_issuer_only_what_it_said_in_time_is_admitted() {
        let world = World::new();
        let gate = world.gate("z-cert", HOST);
        let (in_time, thiefs) = (world.contents("ferm", GUEST), world.contents("thief", 3));
        let judge = |contents: &Certificate| {
            let bytes = encoding::to_bytes(&world.sign(contents));
            gate.admit(contents.node, &bytes).map_err(|refusal| refusal.reason())
        };
        assert_eq!((judge(&in_time), judge(&thiefs)), (Ok(()), Ok(())), "nobody knows of the theft yet");
        gate.judge_by(trust(world.successor().0, &[&in_time]));
        assert_eq!((judge(&in_time), judge(&thiefs)), (Ok(()), Err(Reason::Issuer)));
        assert!(gate.admitted(&key(GUEST).public()).is_ok());
        assert!(gate.admitted(&key(3).public()).is_err(), "who was admitted before is judged again");
    }

    #[test]
    fn who_is_no_longer_revoked_is_admitted_again_and_said_to_be() {
        let world = World::new();
        let gate = world.gate("z-cert", HOST);
        let guest = key(GUEST).public();
        let revoked = Trust { revoked: BTreeSet::from([guest]), ..trust(world.root.clone(), &[]) };
        assert_eq!(gate.judge_by(revoked), BTreeSet::new());
        let bytes = encoding::to_bytes(&world.certificate("ferm", GUEST));
        assert_eq!(reason(gate.judge(guest, &bytes, world.now())), Reason::Revoked);
        assert_eq!(gate.judge_by(trust(world.root.clone(), &[])), BTreeSet::from([guest]));
        assert!(gate.judge(guest, &bytes, world.now()).is_ok());
    }

    /// What both sides make of a conversation: the dialer's, then the listener's.
    async fn talk(dialer: &Gate, listener: &Gate) -> (Result<(), String>, Result<(), String>) {
        use tokio_util::compat::TokioAsyncReadCompatExt;
        let (here, there) = tokio::io::duplex(1 << 10);
        let (mut here, mut there) = (here.compat(), there.compat());
        let end = End::Dialer { expected: Some(key(HOST).public()) };
        let (one, other) = futures::join!(
            exchange(dialer, &mut here, key(HOST).public(), end),
            exchange(listener, &mut there, key(GUEST).public(), End::Listener),
        );
        (one.map_err(|failure| failure.to_string()), other.map_err(|failure| failure.to_string()))
    }

    #[tokio::test]
    async fn who_was_away_while_the_root_went_on_learns_of_it_from_whom_it_would_refuse() {
        let world = World::new();
        let (root, issuer) = world.successor();
        let renewed = |partner: &str, node: u8| {
            let contents = Certificate { issuer: issuer.public(), ..world.contents(partner, node) };
            world.gate_with(&Signed::sign(&contents, Domain::CERTIFICATE, &issuer))
        };
        for behind_dials in [true, false] {
            let (own, theirs) = if behind_dials { (GUEST, HOST) } else { (HOST, GUEST) };
            let (behind, ahead) = (world.gate("ferm", own), renewed("z-cert", theirs));
            // What the one that was away has stands: the issuer said it in time.
            ahead.judge_by(trust(root.clone(), &[&world.contents("ferm", own)]));
            let mut shown = behind.hear_roots();
            let talked =
                || async { if behind_dials { talk(&behind, &ahead).await } else { talk(&ahead, &behind).await } };
            let (dialer, listener) = talked().await;
            let refusals = format!("{dialer:?} {listener:?}");
            assert!(refusals.contains("root document does not allow"), "{refusals}");
            let versions = shown.try_recv().unwrap();
            assert_eq!(versions, root.after(1));
            let mut learnt = world.root.clone();
            learnt.adopt(&versions).unwrap();
            behind.judge_by(trust(learnt, &[]));
            assert_eq!(talked().await, (Ok(()), Ok(())));
            assert!(shown.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn who_refuses_a_peer_that_goes_by_another_document_for_a_version_that_is_held_learns_of_it() {
        let world = World::new();
        let (root, issuer) = world.successor();
        let contents = Certificate { issuer: issuer.public(), ..world.contents("ferm", GUEST) };
        let dialer = world.gate_with(&Signed::sign(&contents, Domain::CERTIFICATE, &issuer));
        dialer.judge_by(trust(root.clone(), &[]));
        let listener = world.gate("z-cert", HOST);
        let mut shown = listener.hear_roots();
        for more in [false, true] {
            let mut theirs = world.renamed(&world.root);
            if more {
                theirs = world.renamed(&theirs);
            }
            listener.judge_by(trust(theirs, &[]));
            let (dialer, listener) = talk(&dialer, &listener).await;
            assert!(dialer.is_err() && listener.is_err());
            assert_eq!(shown.try_recv().unwrap(), root.after(1), "held {more}");
        }
    }

    #[tokio::test]
    async fn a_stranger_that_is_asked_for_roots_and_shows_its_own_teaches_nothing() {
        let (world, elsewhere) = (World::new(), World::named("elders"));
        let listener = world.gate("z-cert", HOST);
        let mut shown = listener.hear_roots();
        let (_, issuer) = elsewhere.successor();
        let contents = Certificate { issuer: issuer.public(), ..world.contents("ferm", GUEST) };
        let stranger = world.gate_with(&Signed::sign(&contents, Domain::CERTIFICATE, &issuer));
        stranger.judge_by(trust(elsewhere.successor().0, &[]));
        let (dialer, listened) = talk(&stranger, &listener).await;
        assert!(dialer.is_err() && listened.is_err());
        assert!(shown.try_recv().is_err());
    }

    #[test]
    fn a_certificate_that_cannot_be_is_not_admitted() {
        let world = World::new();
        assert_eq!(reason(shown(&world, |contents| contents.suite = 9)), Reason::UnknownSuite);
        assert_eq!(reason(shown(&world, |contents| contents.not_after = contents.not_before)), Reason::Unsound);
        assert_eq!(reason(shown(&world, |contents| contents.name = "a\u{7}b".to_owned())), Reason::Unsound);
        let renewed = SealingKey::from_bytes([7; 32]).recipient();
        assert!(shown(&world, |contents| contents.recipient = renewed).is_ok());
    }

    #[test]
    fn every_reason_is_the_same_after_it_was_told() {
        for code in 1..=u8::MAX {
            assert_eq!(Reason::from_code(code).code(), code);
        }
    }

    #[test]
    fn every_refusal_says_what_to_do_or_what_it_means() {
        for code in 1..=13 {
            let told = Refusal::ByPeer(Reason::from_code(code)).to_string();
            assert!(told.contains(';') || told.contains("update"), "{told}");
        }
    }
}
