//! Enrolment: the coordinator's desk, and the newcomer that asks there. The same by files.
//!
//! The desk has a listener of its own, TCP with libp2p's TLS 1.3 and without a swarm: one request, one answer,
//! nothing of the mesh behind it. The invitation names the desk's key, so a newcomer knows whom it tells its
//! secret's proof. The answer is sealed to the newcomer's sealing key, so that who cannot open it learns nothing.
//!
//! This file refuses to know which requests are granted; that is the CA's.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cwn_crypto::{
    NetworkId, PublicKey, SigningKey, Time,
    armour::{self, Label},
    authority::{Request, SignedRequest},
    encoding,
    invitation::Invitation,
    root::TrustRoot,
    seal::{Age, Recipient, Refusal as SealRefusal, Seal},
};
use cwn_engine::log::EntryBytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    identity, tls,
};
use minicbor::{Decode, Encode};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{ca::directory::Admission, keystore::Keys, membership::Membership};

#[cfg(test)]
mod tests;

/// A request on the wire: what it may have, and its signature.
const REQUEST_BYTES: usize = 2 << 10;
/// An answer: the issuer's log of ten thousand certificates.
const ANSWER_BYTES: usize = 16 << 20;
/// A connection that takes longer is hostile or broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time, and requests that the CA is still busy with.
const CONNECTIONS: usize = 16;
/// Sources whose requests are counted; beyond, a newcomer waits a minute.
const SOURCES: usize = 4_096;
const MINUTE_MS: u64 = 60_000;
/// All sources together, in multiples of what one may ask.
const ALL_SOURCES: u32 = 10;

/// What the desk answers.
#[derive(Debug, Encode, Decode)]
enum Answer {
    /// The admission, sealed to the newcomer.
    #[n(0)]
    Admitted(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// A person must approve it first.
    #[n(1)]
    Waiting,
    /// Refused, and why.
    #[n(2)]
    Refused(#[n(0)] String),
}

/// Why somebody did not get in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody there.
    #[error("the enrolment desk does not answer at {}: {source}; is the address right, and may this machine connect out?", .addresses.join(", "))]
    Unreachable {
        /// Where it was looked for.
        addresses: Vec<String>,
        /// What the system says of the last.
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("who answers at {address} is not the coordinator's desk that the invitation names; tell the coordinator")]
    NotTheDesk {
        /// The address.
        address: String,
    },
    /// The connection broke.
    #[error("the connection with the desk broke: {0}; try again")]
    Broken(String),
    /// It refused.
    #[error("the desk refused: {0}")]
    Refused(String),
    /// The invitation has ended.
    #[error("the invitation expired at {0}; ask the coordinator for another")]
    Expired(Time),
    /// The answer does not open.
    #[error("the answer does not open with the keys here: {0}; use the data directory that the request was made with")]
    Closed(SealRefusal),
    /// The answer does not hold.
    #[error("the answer does not hold: {0}; tell the coordinator")]
    Invalid(String),
    /// The text is no answer.
    #[error(transparent)]
    Armour(#[from] armour::Refusal),
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken(error.to_string())
}

/// What a newcomer got.
#[derive(Debug)]
pub struct Joined {
    /// Its membership.
    pub membership: Membership,
    /// What the issuer said so far.
    pub issuer_log: Vec<EntryBytes>,
    /// Nodes to dial.
    pub nodes: Vec<(PublicKey, Vec<String>)>,
}

/// What came of asking.
#[derive(Debug)]
pub enum Asked {
    /// It is in.
    Joined(Box<Joined>),
    /// A person at the coordinator must approve it; ask again later, with the same keys.
    Waiting,
}

// ---- The newcomer.

/// Asks the desk that an invitation names.
pub async fn ask(invitation: &Invitation, keys: &Keys, now: Time) -> Result<Asked, Error> {
    if invitation.expired(now) {
        return Err(Error::Expired(invitation.expires));
    }
    let request = Request::sign(invitation, &keys.signing, keys.sealing.recipient(), now);
    let mut unreachable = io::Error::other("the invitation names no address");
    let mut trouble = None;
    for address in &invitation.addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => match ask_at(socket, address, invitation, &request, keys).await {
                // Something else may answer here, and the desk at its next address. Asking twice is harmless: the
                // same keys get the same certificate.
                Err(error @ (Error::NotTheDesk { .. } | Error::Broken(_))) => trouble = Some(error),
                asked => return asked,
            },
            Ok(Err(error)) => unreachable = error,
            Err(_elapsed) => unreachable = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    // Who answered wrongly says more than who did not answer.
    let nobody = || Error::Unreachable { addresses: invitation.addresses.clone(), source: unreachable };
    Err(trouble.unwrap_or_else(nobody))
}

async fn ask_at(
    socket: TcpStream,
    address: &str,
    invitation: &Invitation,
    request: &SignedRequest,
    keys: &Keys,
) -> Result<Asked, Error> {
    let config = tls::Config::new(&identity(&keys.signing)?).map_err(broken)?;
    let exchange = async {
        let protocol = protocol(&config)?;
        let (peer, mut stream) = config.upgrade_outbound(socket.compat(), protocol).await.map_err(broken)?;
        // Before anything of the invitation is said.
        if peer != peer_id(&invitation.desk)? {
            return Err(Error::NotTheDesk { address: address.to_owned() });
        }
        write(&mut stream, &encoding::to_bytes(request)).await.map_err(broken)?;
        let answer = read(&mut stream, ANSWER_BYTES).await.map_err(broken)?;
        encoding::from_bytes::<Answer>(&answer, ANSWER_BYTES).map_err(broken)
    };
    let answer = timeout(2 * PATIENCE, exchange).await.map_err(|_elapsed| broken("no answer in time"))??;
    match answer {
        Answer::Waiting => Ok(Asked::Waiting),
        Answer::Refused(why) => Err(Error::Refused(cwn_functions::text::one_line(&why))),
        Answer::Admitted(sealed) => Ok(Asked::Joined(Box::new(take_admission(&sealed, invitation, keys)?))),
    }
}

/// The request as a file to hand over, for a partner that may not connect out or a CA kept offline.
pub fn request_file(invitation: &Invitation, keys: &Keys, now: Time) -> Result<String, Error> {
    if invitation.expired(now) {
        return Err(Error::Expired(invitation.expires));
    }
    let request = Request::sign(invitation, &keys.signing, keys.sealing.recipient(), now);
    Ok(armour::armour(Label::Request, &encoding::to_bytes(&request)))
}

/// Reads a request from a file.
pub fn read_request_file(text: &str) -> Result<SignedRequest, Error> {
    let bytes = armour::dearmour(Label::Request, text, REQUEST_BYTES)?;
    encoding::from_bytes(&bytes, REQUEST_BYTES).map_err(|refusal| Error::Invalid(refusal.to_string()))
}

/// The answer as a file to hand back.
pub fn reply_file(admission: &Admission, recipient: Recipient) -> Result<String, Error> {
    Ok(armour::armour(Label::Reply, &seal_admission(admission, recipient)?))
}

/// Takes the answer from a file.
pub fn read_reply_file(text: &str, invitation: &Invitation, keys: &Keys) -> Result<Joined, Error> {
    take_admission(&armour::dearmour(Label::Reply, text, ANSWER_BYTES)?, invitation, keys)
}

fn seal_admission(admission: &Admission, recipient: Recipient) -> Result<Vec<u8>, Error> {
    Age.seal_to_recipients(&[recipient], &encoding::to_bytes(admission)).map_err(Error::Closed)
}

/// Opens an admission and believes nothing of it that the invitation does not vouch for.
fn take_admission(sealed: &[u8], invitation: &Invitation, keys: &Keys) -> Result<Joined, Error> {
    let opened = Age.open_with_key(&keys.sealing, sealed, ANSWER_BYTES).map_err(Error::Closed)?;
    let invalid = |why: String| Error::Invalid(why);
    let admission: Admission =
        encoding::from_bytes(&opened, ANSWER_BYTES).map_err(|refusal| invalid(refusal.to_string()))?;
    let root = TrustRoot::from_chain(&admission.root).map_err(|refusal| invalid(refusal.to_string()))?;
    let network: NetworkId = root.network();
    if network != invitation.network || !root.document().keys.contains(&invitation.root_key) {
        return Err(invalid("it is of another network than the invitation".to_owned()));
    }
    let membership = Membership::new(root, admission.certificate, keys).map_err(invalid)?;
    if membership.certificate().partner != invitation.partner {
        return Err(invalid(format!(
            "the certificate is for {}, the invitation for {}",
            membership.certificate().partner,
            invitation.partner
        )));
    }
    Ok(Joined { membership, issuer_log: admission.issuer_log, nodes: admission.nodes })
}

// ---- The desk.

/// What the CA makes of a request: blocking work, done beside the connections.
pub trait Judge: Send + Sync + 'static {
    /// The admission of a request that is granted; none when it waits for a person; or why it is refused.
    fn judge(&self, request: &SignedRequest) -> Result<Option<Admission>, String>;
}

/// The desk, while this lives.
#[derive(Debug)]
pub struct Desk {
    /// Where it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Counted {
    minute: u64,
    all: u32,
    sources: BTreeMap<IpAddr, u32>,
}

/// How often one source, and all together, may ask in a minute.
#[derive(Debug)]
struct Rate {
    per_minute: u32,
    counted: Mutex<Counted>,
}

/// Who asks, as far as an address tells. Of IPv6 that is a network of 64 bits: who has one address of it has all.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64)).into(),
        ip => ip,
    }
}

impl Rate {
    fn allows(&self, ip: IpAddr, now: Time) -> bool {
        let source = source_of(ip);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.0 / MINUTE_MS;
        if counted.minute != minute {
            *counted = Counted { minute, ..Counted::default() };
        }
        let one = counted.sources.get(&source).copied();
        let room = one.is_some() || counted.sources.len() < SOURCES;
        let one = one.unwrap_or_default();
        // What is turned away does not count for all: else one source alone would close the desk to the others.
        let allowed = room && one < self.per_minute && counted.all < self.per_minute.saturating_mul(ALL_SOURCES);
        if allowed {
            counted.all += 1;
            counted.sources.insert(source, one + 1);
        }
        allowed
    }
}

/// Opens the desk.
pub async fn open_desk(
    listen: &str,
    key: &SigningKey,
    per_minute: u32,
    judge: Arc<dyn Judge>,
) -> Result<Desk, io::Error> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let config = identity(key).map_err(io::Error::other)?;
    let config = tls::Config::new(&config).map_err(io::Error::other)?;
    let rate = Arc::new(Rate { per_minute, counted: Mutex::default() });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let task = tokio::spawn(async move {
        loop {
            let (socket, source) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely; others may give some back.
                    tracing::warn!(%error, "the desk could not take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Nobody waits: whoever finds all places taken is to come back.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            if !rate.allows(source.ip(), crate::clock::now()) {
                tracing::warn!(%source, "asks too often at the desk");
                continue;
            }
            let (config, judge) = (config.clone(), Arc::clone(&judge));
            tokio::spawn(async move {
                match timeout(PATIENCE, serve(socket, config, judge, place)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::info!(%source, %error, "a visit to the desk came to nothing"),
                    Err(_elapsed) => tracing::info!(%source, "a visit to the desk took too long"),
                }
            });
        }
    });
    Ok(Desk { address, task })
}

async fn serve(
    socket: TcpStream,
    config: tls::Config,
    judge: Arc<dyn Judge>,
    place: OwnedSemaphorePermit,
) -> Result<(), Error> {
    let protocol = protocol(&config)?;
    let (peer, mut stream) = config.upgrade_inbound(socket.compat(), protocol).await.map_err(broken)?;
    let request = read(&mut stream, REQUEST_BYTES).await.map_err(broken)?;
    let request: SignedRequest = encoding::from_bytes(&request, REQUEST_BYTES).map_err(broken)?;
    let asked = request.unverified(REQUEST_BYTES).map_err(broken)?;
    let answer = if peer_id(&asked.node)? == peer {
        // The place is taken along: who went away leaves a judgement behind that nothing ends before its time.
        let judging = move || (judge.judge(&request), place);
        let (judged, _place) = tokio::task::spawn_blocking(judging).await.map_err(broken)?;
        match judged {
            Ok(Some(admission)) => {
                tracing::info!(partner = %asked.partner, node = %asked.node, "a node was admitted at the desk");
                Answer::Admitted(seal_admission(&admission, asked.recipient)?)
            }
            Ok(None) => {
                tracing::info!(partner = %asked.partner, node = %asked.node, "a request waits for approval");
                Answer::Waiting
            }
            Err(why) => {
                tracing::warn!(partner = %asked.partner, node = %asked.node, why, "refused at the desk");
                Answer::Refused(why)
            }
        }
    } else {
        Answer::Refused("the request is of another node than the one that connects".to_owned())
    };
    write(&mut stream, &encoding::to_bytes(&answer)).await.map_err(broken)?;
    stream.close().await.map_err(broken)
}

// ---- Both.

fn identity(key: &SigningKey) -> Result<identity::Keypair, Error> {
    identity::Keypair::ed25519_from_bytes(*key.seed()).map_err(broken)
}

fn peer_id(key: &PublicKey) -> Result<libp2p::PeerId, Error> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&key.0).map_err(broken)?;
    Ok(identity::PublicKey::from(key).to_peer_id())
}

fn protocol(config: &tls::Config) -> Result<<tls::Config as UpgradeInfo>::Info, Error> {
    config.protocol_info().next().ok_or_else(|| broken("TLS names no protocol"))
}

async fn write(stream: &mut (impl futures::AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn read(stream: &mut (impl futures::AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(io::Error::other(format!("{length} bytes, where at most {limit} are allowed")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
