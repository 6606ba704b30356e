//! The CA's directory, and what a coordinator does with it.
//!
//! ```text
//! root.cwn        the root document             root.key     the root key, encrypted; may be kept elsewhere
//! issuer.log      what the issuers said         issuer.key   the issuer's key, encrypted
//!                                               issuer-next.key   that of the next, until a version allows it
//! invitations/    one record for each, without the secret
//! requests/       requests that wait for a person
//! mesh.cwn        where newcomers find the network: the desk, and nodes to dial
//! lock            held by whoever works in it
//! ```
//!
//! Every process that writes opens a log of its own in the issuer's log: a *sitting*. So neither a restored
//! backup nor two machines ever make the issuer sign two entries for one place.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use cwn_crypto::{
    Hash, NetworkId, PartnerId, PublicKey, SigningKey, Time,
    armour::{self, Label},
    authority::{
        self, Decision, InvitationRecord, IssueRefusal, Issuer, Reason, Request, RequestRefusal, SignedRequest,
    },
    certificate::{self, CERTIFICATE_LIMIT, SignedCertificate},
    encoding,
    invitation::{self, Approve, Invitation, Secret},
    issuer_log::{self, Certified, Heard, LogId, Revoked, Statement, Word},
    root::{CHAIN_LIMIT, ISSUER_LIFE_MS, IssuerTerm, RootChain, RootDocument, SignedRoot, TrustRoot},
};
use cwn_engine::log::{CircleId, Decoded, Draft, EntryBytes, Opening, Suite, Under, Writer};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::log_file::LogFile;
use crate::{
    driver::random,
    files::{self, TooWide, at},
    keystore::{self, Unlock, open_secret, seal_secret},
};

pub(super) const ROOT: &str = "root.cwn";
const ROOT_KEY: &str = "root.key";
pub(super) const ISSUER_KEY: &str = "issuer.key";
pub(super) const ISSUER_NEXT_KEY: &str = "issuer-next.key";
const LOG: &str = "issuer.log";
const MESH: &str = "mesh.cwn";
const INVITATIONS: &str = "invitations";
const REQUESTS: &str = "requests";

const RECORD_BYTES: usize = 4 << 10;
const MESH_BYTES: usize = 64 << 10;

/// An invitation ends after three days at the latest.
pub const INVITATION_MOST_MS: u64 = 3 * Time::DAY_MS;
/// The issuer says "nothing else" once a day, so that its silence is news.
pub const NOTHING_ELSE_EVERY_MS: u64 = Time::DAY_MS;
/// Nodes that wait for an approval with one invitation. A partner that loses its data directory makes new keys and
/// asks again; who asks more often is looking for room on the coordinator's disk.
const WAITING_MOST: usize = 4;
/// Digits of a node's key that tell it from others when a person types them.
const KEY_DIGITS: usize = 6;
/// How long a command waits for another that works in the directory.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// Why the CA did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// No CA there.
    #[error("{} is no CA; make one: cwn ca --dir {} init --name NAME", .0.display(), .0.display())]
    NotACa(PathBuf),
    /// A CA there already.
    #[error("{} is a CA already; choose another directory", .0.display())]
    Exists(PathBuf),
    /// Somebody works in it.
    #[error("{} is in use by another `cwn ca`; try again when it is done", .0.display())]
    InUse(PathBuf),
    /// A file in it is not what it should be.
    #[error("{}: {why}; restore it from a backup", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Others can reach it.
    #[error(transparent)]
    TooWide(#[from] TooWide),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] keystore::Error),
    /// A request that does not hold.
    #[error(transparent)]
    Request(#[from] RequestRefusal),
    /// A request that is refused.
    #[error(transparent)]
    Refused(#[from] Reason),
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueRefusal),
    /// An invitation that cannot be one.
    #[error(transparent)]
    Invitation(#[from] invitation::Refusal),
    /// Nothing waits under that name.
    #[error("no request of {0:?} waits here; `cwn ca requests` lists those that do")]
    NoRequest(String),
    /// Several fit that name.
    #[error("{named:?} fits several nodes: {}; give the first twelve digits of one, or more", in_short(.nodes))]
    Ambiguous {
        /// What was given.
        named: String,
        /// Those it fits.
        nodes: Vec<PublicKey>,
    },
    /// Too many nodes ask with one invitation.
    #[error(
        "{WAITING_MOST} other nodes wait for an approval with this invitation already; call the coordinator: somebody else may have your invitation"
    )]
    ManyAsk,
    /// A node that was revoked asks.
    #[error(
        "node {0} was revoked, and stays so; join with a new data directory, which makes new keys, and ask the coordinator for an invitation"
    )]
    Revoked(PublicKey),
    /// A node of one partner asks as another.
    #[error(
        "node {node} is of {partner}, and what it wrote stays theirs; join with a new data directory, which makes new keys"
    )]
    OfAnother {
        /// The node.
        node: PublicKey,
        /// Whose it is.
        partner: PartnerId,
    },
    /// A statement that nobody would read.
    #[error(transparent)]
    Statement(#[from] issuer_log::Refusal),
    /// Nobody was certified under that name.
    #[error("{0:?} has no certificate that could be revoked; `cwn ca list` shows those there are")]
    NotCertified(String),
    /// Nobody under that name is certified any more.
    #[error(
        "{named:?} was revoked already, on {}: {}; to let {partner} in again, invite it with `cwn ca invite {partner} --name NAME`: it joins with a new data directory", .revoked.at.date(), .revoked.reason
    )]
    RevokedAlready {
        /// What was given.
        named: String,
        /// Whose node it is.
        partner: PartnerId,
        /// When, and why.
        revoked: Revoked,
    },
    /// The network's addresses are not known.
    #[error(
        "it is not known yet where newcomers find the network; start the coordinator's node first, or say it with `cwn ca mesh --desk-key KEY --address ADDRESS:PORT`"
    )]
    NoDesk,
    /// An invitation that would be valid too long.
    #[error("an invitation is valid for at most 72 hours")]
    TooLong,
}

/// Where newcomers find the network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Mesh {
    /// The node that runs the enrolment desk.
    #[n(0)]
    pub desk: Option<PublicKey>,
    /// Where the desk listens, as `address:port`.
    #[n(1)]
    pub desk_addresses: Vec<String>,
    /// Nodes to dial, with their multiaddresses.
    #[n(2)]
    pub nodes: Vec<(PublicKey, Vec<String>)>,
}

/// What a newcomer is given.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Admission {
    /// All versions of the root document.
    #[n(0)]
    pub root: RootChain,
    /// What the issuer said so far.
    #[n(1)]
    pub issuer_log: Vec<EntryBytes>,
    /// The newcomer's certificate.
    #[n(2)]
    pub certificate: SignedCertificate,
    /// Nodes to dial, with their multiaddresses.
    #[n(3)]
    pub nodes: Vec<(PublicKey, Vec<String>)>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It gets a certificate.
    Certified(Box<SignedCertificate>),
    /// A person must look at it first.
    Waiting,
}

/// A CA, open and locked.
#[derive(Debug)]
pub struct Ca {
    dir: PathBuf,
    root: TrustRoot,
    issuer: Issuer,
    key: SigningKey,
    log: LogFile,
    entries: Vec<EntryBytes>,
    word: Word,
    last_serial: u64,
    sitting: Option<Writer>,
    /// What a torn end cost at this opening, in bytes.
    pub cut_back_bytes: u64,
    _lock: File,
}

fn in_short(nodes: &[PublicKey]) -> String {
    nodes.iter().map(|node| node.to_string()[..12].to_owned()).collect::<Vec<_>>().join(", ")
}

/// Whether a person who typed `named` may mean this node.
fn begins(node: &PublicKey, named: &str) -> bool {
    named.len() >= KEY_DIGITS && node.to_string().starts_with(named)
}

/// The lock of a directory, unless somebody holds it.
fn try_lock(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(at(&path)(source).into()),
    }
}

pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let start = Instant::now();
    loop {
        match try_lock(dir)? {
            Some(guard) => return Ok(guard),
            None if start.elapsed() < LOCK_WAIT => thread::sleep(LOCK_LOOK),
            None => return Err(Error::InUse(dir.to_owned())),
        }
    }
}

fn check_private(dir: &Path) -> Result<(), Error> {
    Ok(files::check_private(dir).map_err(at(dir))??)
}

pub(super) fn read_root(dir: &Path) -> Result<TrustRoot, Error> {
    let path = dir.join(ROOT);
    let damaged = |why: String| Error::Damaged { path: path.clone(), why };
    match fs::metadata(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(Error::NotACa(dir.to_owned())),
        Err(source) => return Err(at(&path)(source).into()),
        Ok(metadata) if metadata.len() > 2 * CHAIN_LIMIT as u64 => return Err(damaged("too long".to_owned())),
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let bytes = armour::dearmour(Label::RootDocument, &text, CHAIN_LIMIT).map_err(|e| damaged(e.to_string()))?;
    let chain = RootChain::from_bytes(&bytes).map_err(|refusal| damaged(refusal.to_string()))?;
    TrustRoot::from_chain(&chain).map_err(|refusal| damaged(refusal.to_string()))
}

pub(super) fn write_root(dir: &Path, root: &TrustRoot) -> Result<(), Error> {
    let path = dir.join(ROOT);
    let text = armour::armour(Label::RootDocument, &encoding::to_bytes(&root.chain()));
    Ok(files::durable_write(&path, text.as_bytes()).map_err(at(&path))?)
}

/// What the issuers said so far, by this root document. The caller holds the lock.
pub(super) fn read_word(dir: &Path, root: &TrustRoot) -> Result<Word, Error> {
    let path = dir.join(LOG);
    let (_, found) = LogFile::open(&path).map_err(at(&path))?;
    let mut word = Word::default();
    for entry in found.entries {
        hear(&mut word, &entry, root).map_err(|why| Error::Damaged { path: path.clone(), why })?;
    }
    Ok(word)
}

/// Takes one entry into a word; returns the serial of the certificate in it.
fn hear(word: &mut Word, bytes: &EntryBytes, root: &TrustRoot) -> Result<u64, String> {
    let entry = Decoded::decode(bytes.clone()).map_err(|refusal| refusal.to_string())?;
    let statement =
        Statement::from_bytes(bytes.payload.sealed().unwrap_or_default()).map_err(|refusal| refusal.to_string())?;
    let header = entry.header();
    let heard = Heard {
        issuer: header.author,
        log: header.log,
        seq: header.seq,
        at: header.time,
        entry: entry.hash(),
        cites: header.opening.as_ref().map(|opening| opening.cites.as_slice()),
        statement: &statement,
    };
    word.hear(heard, root);
    match &statement {
        Statement::Certificate(signed) => {
            Ok(signed.unverified(CERTIFICATE_LIMIT).map_err(|refusal| refusal.to_string())?.serial)
        }
        _ => Ok(0),
    }
}

/// Opens a key in a file of its own.
pub(super) fn open_key(path: &Path, unlock: &Unlock) -> Result<SigningKey, Error> {
    let seed = open_secret(path, unlock)?;
    let seed: Zeroizing<[u8; 32]> = seed
        .as_slice()
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_length| Error::Damaged { path: path.to_owned(), why: "it holds no key".to_owned() })?;
    Ok(SigningKey::from_seed(&seed))
}

impl Ca {
    /// Founds a network: a root key, an issuer's key, and the root document that allows it.
    pub fn init(dir: &Path, unlock: &Unlock, name: &str, now: Time) -> Result<Self, Error> {
        if dir.join(ROOT).exists() {
            return Err(Error::Exists(dir.to_owned()));
        }
        for sub in [dir.to_owned(), dir.join(INVITATIONS), dir.join(REQUESTS)] {
            files::make_dir(&sub).map_err(at(&sub))?;
            check_private(&sub)?;
        }
        let guard = lock(dir)?;
        let (root_seed, issuer_seed) = (Zeroizing::new(random()), Zeroizing::new(random()));
        let (root_key, issuer_key) = (SigningKey::from_seed(&root_seed), SigningKey::from_seed(&issuer_seed));
        let document = RootDocument {
            version: 1,
            name: name.to_owned(),
            keys: vec![root_key.public()],
            threshold: 1,
            issuers: vec![IssuerTerm {
                issuer: issuer_key.public(),
                not_before: now,
                not_after: now.plus(ISSUER_LIFE_MS),
            }],
            freshness_ms: NOTHING_ELSE_EVERY_MS,
            previous: None,
            dropped: Vec::new(),
        };
        let signed = SignedRoot::sign(&document, &[&root_key]);
        let path = dir.join(ROOT);
        // What cannot be read back must not become a network.
        let root = TrustRoot::from_first(&signed)
            .map_err(|why| Error::Damaged { path: path.clone(), why: why.to_string() })?;
        seal_secret(&dir.join(ROOT_KEY), unlock, root_seed.as_slice())?;
        seal_secret(&dir.join(ISSUER_KEY), unlock, issuer_seed.as_slice())?;
        // Last: with it the directory is a CA.
        write_root(dir, &root)?;
        drop(guard);
        Self::open(dir, unlock)
    }

    /// Opens a CA for work.
    pub fn open(dir: &Path, unlock: &Unlock) -> Result<Self, Error> {
        let root = read_root(dir)?;
        check_private(dir)?;
        let guard = lock(dir)?;
        for dir in [dir, &dir.join(INVITATIONS), &dir.join(REQUESTS)] {
            files::clear_new(dir);
        }
        super::root::promote_issuer(dir, unlock, &root)?;
        let key = open_key(&dir.join(ISSUER_KEY), unlock)?;
        let issuer = Issuer::new(key.clone(), &root)?;
        let path = dir.join(LOG);
        let (log, found) = LogFile::open(&path).map_err(at(&path))?;
        let mut ca = Self {
            dir: dir.to_owned(),
            root,
            issuer,
            key,
            log,
            entries: Vec::new(),
            word: Word::default(),
            last_serial: 0,
            sitting: None,
            cut_back_bytes: found.cut_back_bytes,
            _lock: guard,
        };
        for entry in found.entries {
            ca.take(entry)?;
        }
        Ok(ca)
    }

    /// What the issuers of a CA said so far, without opening it.
    pub fn word_of(dir: &Path) -> Result<Word, Error> {
        let root = read_root(dir)?;
        let _guard = lock(dir)?;
        read_word(dir, &root)
    }

    /// The root of trust of a CA, without opening it.
    pub fn root_of(dir: &Path) -> Result<TrustRoot, Error> {
        read_root(dir)
    }

    fn take(&mut self, bytes: EntryBytes) -> Result<(), Error> {
        let damaged = |why: String| Error::Damaged { path: self.dir.join(LOG), why };
        let serial = hear(&mut self.word, &bytes, &self.root).map_err(damaged)?;
        self.last_serial = self.last_serial.max(serial);
        self.entries.push(bytes);
        Ok(())
    }

    /// The root of trust.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// What the issuer said so far.
    pub fn word(&self) -> &Word {
        &self.word
    }

    /// The issuer's log.
    pub fn entries(&self) -> &[EntryBytes] {
        &self.entries
    }

    /// Says something, durably.
    fn say(&mut self, statement: &Statement, now: Time) -> Result<(), Error> {
        // In the log for good once it is there, and then nobody would read it.
        statement.check()?;
        let cites = self.word.heads(&self.issuer.public());
        // Of two certificates of a node the one said later counts: a clock that was set back must not turn them round.
        let now =
            if self.sitting.is_some() { now } else { self.word.newest().map_or(now, |last| now.max(last.plus(1))) };
        let (root, key) = (&self.root, &self.key);
        let writer = self.sitting.get_or_insert_with(|| {
            let mut log = [0; 16];
            log.copy_from_slice(&random()[..16]);
            let under = Under::Root(root.document().version);
            Writer::open(CircleId(root.network().0), key.clone(), LogId(log), Opening { under, cites })
        });
        let draft =
            Draft { suite: Suite::Network, epoch: None, payload: statement.to_bytes(), expiry: None, retracts: None };
        let entry = writer.append(now, draft).bytes().clone();
        let path = self.dir.join(LOG);
        self.log.append(&entry).map_err(at(&path))?;
        self.take(entry)
    }

    fn next_serial(&self) -> u64 {
        self.last_serial.saturating_add(1)
    }

    // ---- Where the network is.

    /// Where newcomers find the network.
    pub fn mesh(&self) -> Result<Mesh, Error> {
        read_mesh(&self.dir)
    }

    /// Says where newcomers find the network.
    pub fn set_mesh(&self, mesh: &Mesh) -> Result<(), Error> {
        write_mesh(&self.dir, mesh)
    }

    // ---- Invitations and requests.

    /// Invites a partner. The secret is in the invitation alone; here stands its hash.
    pub fn invite(
        &self,
        partner: PartnerId,
        name: &str,
        valid_ms: u64,
        approve: Approve,
        now: Time,
    ) -> Result<Invitation, Error> {
        if valid_ms > INVITATION_MOST_MS {
            return Err(Error::TooLong);
        }
        let mesh = self.mesh()?;
        let desk = mesh.desk.ok_or(Error::NoDesk)?;
        let mut secret = [0; 16];
        secret.copy_from_slice(&random()[..16]);
        let root_key = self.root.document().keys.first().copied();
        let invitation = Invitation {
            secret: Secret::from_bytes(secret),
            network: self.root.network(),
            root_key: root_key
                .ok_or_else(|| Error::Damaged { path: self.dir.join(ROOT), why: "it names no key".to_owned() })?,
            desk,
            addresses: mesh.desk_addresses,
            partner,
            name: name.to_owned(),
            expires: now.plus(valid_ms),
            approve,
        };
        // What cannot be written as text is refused before its record stands here.
        invitation.to_text()?;
        self.write_invitation(&InvitationRecord::of(&invitation))?;
        Ok(invitation)
    }

    fn write_invitation(&self, record: &InvitationRecord) -> Result<(), Error> {
        let path = invitation_path(&self.dir, &record.secret_hash);
        Ok(files::durable_write(&path, &encoding::to_bytes(record)).map_err(at(&path))?)
    }

    /// Judges a request as the desk does: its admission, or none when it waits for a person.
    ///
    /// Anybody can send a request, and an opening takes the lock, a passphrase's second of work and the whole log.
    /// So what is refused at sight never comes to that; what is not is judged again under the lock.
    pub fn judge(dir: &Path, unlock: &Unlock, signed: &SignedRequest, now: Time) -> Result<Option<Admission>, Error> {
        Self::asked_of(dir, signed, now)?;
        let mut ca = Self::open(dir, unlock)?;
        match ca.take_request(signed, now)? {
            Outcome::Waiting => Ok(None),
            Outcome::Certified(certificate) => ca.admission(*certificate).map(Some),
        }
    }

    /// Takes a request: issues, hands over again, or keeps it for a person.
    pub fn take_request(&mut self, signed: &SignedRequest, now: Time) -> Result<Outcome, Error> {
        let request = Request::verify(signed, self.root.network())?;
        let record = read_invitation(&self.dir, &request)?;
        match authority::decide(&record, &request, now) {
            Decision::Issue => self.issue(&request, record, now),
            Decision::Again => self.again(&request, record, now),
            Decision::Ask => {
                self.check_word(&request)?;
                let others = |other: &&Request| other.invitation == request.invitation && other.node != request.node;
                if self.requests()?.iter().filter(others).count() >= WAITING_MOST {
                    return Err(Error::ManyAsk);
                }
                let path = self.request_path(&request.node);
                files::durable_write(&path, &encoding::to_bytes(signed)).map_err(at(&path))?;
                Ok(Outcome::Waiting)
            }
            Decision::Refuse(reason) => Err(reason.into()),
        }
    }

    /// Whether the issuer's word leaves room for a certificate of this node.
    fn check_word(&self, request: &Request) -> Result<(), Error> {
        if self.word.revocation(&request.node).is_some() {
            return Err(Error::Revoked(request.node));
        }
        match self.word.certificate(&request.node) {
            Some(own) if own.certificate.partner != request.partner => {
                Err(Error::OfAnother { node: request.node, partner: own.certificate.partner.clone() })
            }
            _ => Ok(()),
        }
    }

    fn issue(&mut self, request: &Request, mut record: InvitationRecord, now: Time) -> Result<Outcome, Error> {
        self.check_word(request)?;
        // The record first: a machine that stops between the two hands out the certificate at the next asking,
        // and to nobody else.
        record.used_by = Some(request.node);
        self.write_invitation(&record)?;
        let certificate = self.issuer.issue(request, self.next_serial(), now)?;
        self.say(&Statement::Certificate(certificate.clone()), now)?;
        Ok(Outcome::Certified(Box::new(certificate)))
    }

    fn again(&mut self, request: &Request, record: InvitationRecord, now: Time) -> Result<Outcome, Error> {
        self.check_word(request)?;
        match self.word.certificate(&request.node) {
            Some(own) => Ok(Outcome::Certified(Box::new(own.signed.clone()))),
            None => self.issue(request, record, now),
        }
    }

    fn request_path(&self, node: &PublicKey) -> PathBuf {
        self.dir.join(REQUESTS).join(node.to_string())
    }

    /// The requests that wait for a person.
    pub fn requests(&self) -> Result<Vec<Request>, Error> {
        read_requests(&self.dir, &self.root)
    }

    /// The request that waits and that a person named, as far as it is not refused at sight; without opening the CA.
    pub fn waiting_in(dir: &Path, named: &str, now: Time) -> Result<Request, Error> {
        let request = waiting(read_requests(dir, &read_root(dir)?)?, named)?;
        check_at_sight(dir, &request, now)?;
        Ok(request)
    }

    /// The request in a file, as far as it is not refused at sight; without opening the CA.
    pub fn asked_of(dir: &Path, signed: &SignedRequest, now: Time) -> Result<Request, Error> {
        let request = Request::verify(signed, read_root(dir)?.network())?;
        check_at_sight(dir, &request, now)?;
        Ok(request)
    }

    /// The request that a person named, by its partner or the start of its node's key.
    pub fn waiting(&self, named: &str) -> Result<Request, Error> {
        waiting(self.requests()?, named)
    }

    /// A person approves a request. The node gets its certificate when it asks again.
    pub fn approve(&mut self, named: &str, now: Time) -> Result<SignedCertificate, Error> {
        let request = self.waiting(named)?;
        let record = read_invitation(&self.dir, &request)?;
        let outcome = match authority::decide(&record, &request, now) {
            Decision::Issue | Decision::Ask => self.issue(&request, record, now)?,
            Decision::Again => self.again(&request, record, now)?,
            Decision::Refuse(reason) => return Err(reason.into()),
        };
        self.forget(&request)?;
        match outcome {
            Outcome::Certified(certificate) => Ok(*certificate),
            Outcome::Waiting => Err(Error::NoRequest(named.to_owned())),
        }
    }

    /// A person refuses a request; its invitation is of no use any more.
    pub fn refuse(&self, named: &str) -> Result<Request, Error> {
        let request = self.waiting(named)?;
        let mut record = read_invitation(&self.dir, &request)?;
        record.refused = true;
        self.write_invitation(&record)?;
        self.forget(&request)?;
        Ok(request)
    }

    fn forget(&self, request: &Request) -> Result<(), Error> {
        let path = self.request_path(&request.node);
        Ok(fs::remove_file(&path).map_err(at(&path))?)
    }

    /// Certifies a node whose keys the coordinator itself holds: its own.
    pub fn certify_own(&mut self, request: &SignedRequest, now: Time) -> Result<SignedCertificate, Error> {
        match self.take_request(request, now)? {
            Outcome::Certified(certificate) => Ok(*certificate),
            Outcome::Waiting => Err(Reason::Refused.into()),
        }
    }

    // ---- Later.

    /// Revokes all nodes of a partner, or the one node whose key begins so. Returns the nodes.
    pub fn revoke(&mut self, named: &str, reason: &str, now: Time) -> Result<Vec<PublicKey>, Error> {
        let found = to_revoke(&self.word, named)?;
        let certified: Vec<(PublicKey, u64)> =
            found.iter().map(|own| (own.certificate.node, own.certificate.serial)).collect();
        for (node, serial) in &certified {
            // The CA sees no logs of members: what a revoked node said in the network circle falls away whole.
            let statement =
                Statement::Revocation { node: *node, serial: *serial, reason: reason.to_owned(), cut: Vec::new() };
            self.say(&statement, now)?;
        }
        Ok(certified.into_iter().map(|(node, _)| node).collect())
    }

    /// Renews every certificate that is due; returns how many.
    pub fn renew_due(&mut self, now: Time) -> Result<usize, Error> {
        let due: Vec<certificate::Certificate> = self
            .word
            .unrevoked()
            .map(|own| own.certificate.clone())
            .filter(|own| {
                // The node's key spreads renewals of those who joined together.
                let jitter = u64::from_be_bytes(own.node.0[..8].try_into().unwrap_or_default());
                authority::due_at(own, jitter) <= now
            })
            .collect();
        let mut renewed = 0;
        for own in due {
            match self.issuer.renew(&own, self.next_serial(), now) {
                Ok(certificate) => {
                    self.say(&Statement::Certificate(certificate), now)?;
                    renewed += 1;
                }
                // Too late for this one: it needs a new invitation, and the others must not wait for that.
                Err(IssueRefusal::ExpiredTooLongAgo { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(renewed)
    }

    /// Says that there is nothing else, when the last word is a day old.
    pub fn nothing_else(&mut self, now: Time) -> Result<bool, Error> {
        let due = self.word.newest().is_none_or(|newest| now.since(newest) >= NOTHING_ELSE_EVERY_MS);
        if due {
            self.say(&Statement::NothingElse, now)?;
        }
        Ok(due)
    }

    /// What a newcomer is given.
    pub fn admission(&self, certificate: SignedCertificate) -> Result<Admission, Error> {
        Ok(Admission {
            root: self.root.chain(),
            issuer_log: self.entries.clone(),
            certificate,
            nodes: self.mesh()?.nodes,
        })
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.root.network()
    }
}

/// Refuses what no person needs to look at.
fn check_at_sight(dir: &Path, request: &Request, now: Time) -> Result<(), Error> {
    match authority::decide(&read_invitation(dir, request)?, request, now) {
        Decision::Refuse(reason) => Err(reason.into()),
        Decision::Issue | Decision::Again | Decision::Ask => Ok(()),
    }
}

fn read_requests(dir: &Path, root: &TrustRoot) -> Result<Vec<Request>, Error> {
    let dir = dir.join(REQUESTS);
    let mut waiting = Vec::new();
    for file in fs::read_dir(&dir).map_err(at(&dir))? {
        let file = file.map_err(at(&dir))?;
        // A request is named by its node's key. What a crash left of one that was being written is not.
        if file.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = file.path();
        let bytes = fs::read(&path).map_err(at(&path))?;
        let damaged = |why: String| Error::Damaged { path: path.clone(), why };
        let signed: SignedRequest =
            encoding::from_bytes(&bytes, RECORD_BYTES).map_err(|refusal| damaged(refusal.to_string()))?;
        waiting.push(Request::verify(&signed, root.network()).map_err(|e| damaged(e.to_string()))?);
    }
    waiting.sort_by_key(|request| (request.made_at, request.node));
    Ok(waiting)
}

/// The request that a person named, by its partner or the start of its node's key.
fn waiting(requests: Vec<Request>, named: &str) -> Result<Request, Error> {
    let (of_partner, others): (Vec<Request>, Vec<Request>) =
        requests.into_iter().partition(|request| request.partner.as_str() == named);
    let mut found = of_partner;
    if found.is_empty() {
        found.extend(others.into_iter().filter(|request| begins(&request.node, named)));
    }
    match found.pop() {
        None => Err(Error::NoRequest(named.to_owned())),
        Some(one) if found.is_empty() => Ok(one),
        Some(one) => {
            let nodes = found.iter().chain([&one]).map(|request| request.node).collect();
            Err(Error::Ambiguous { named: named.to_owned(), nodes })
        }
    }
}

/// Whom a person means to revoke: all nodes of a partner, or the one whose key begins so.
pub fn to_revoke<'a>(word: &'a Word, named: &str) -> Result<Vec<&'a Certified>, Error> {
    let of_partner = |own: &&Certified| own.certificate.partner.as_str() == named;
    let by_key = |own: &&Certified| begins(&own.certificate.node, named);
    let mut found: Vec<&Certified> = word.unrevoked().filter(of_partner).collect();
    if found.is_empty() {
        found.extend(word.unrevoked().filter(by_key));
        // Nothing undoes a revocation, so a start of a key must not take one node along with another.
        if found.len() > 1 {
            let nodes = found.iter().map(|own| own.certificate.node).collect();
            return Err(Error::Ambiguous { named: named.to_owned(), nodes });
        }
    }
    if found.is_empty() {
        let was = word.nodes().filter(|own| of_partner(own) || by_key(own)).find_map(|own| {
            let (partner, revoked) = (own.certificate.partner.clone(), word.revocation(&own.certificate.node)?.clone());
            Some(Error::RevokedAlready { named: named.to_owned(), partner, revoked })
        });
        return Err(was.unwrap_or_else(|| Error::NotCertified(named.to_owned())));
    }
    Ok(found)
}

fn invitation_path(dir: &Path, hash: &Hash) -> PathBuf {
    dir.join(INVITATIONS).join(hash.to_string())
}

fn read_invitation(dir: &Path, request: &Request) -> Result<InvitationRecord, Error> {
    let path = invitation_path(dir, &request.secret_hash());
    match fs::read(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(Reason::Unknown.into()),
        Err(source) => Err(at(&path)(source).into()),
        Ok(bytes) => encoding::from_bytes(&bytes, RECORD_BYTES)
            .map_err(|refusal| Error::Damaged { path, why: refusal.to_string() }),
    }
}

fn read_mesh(dir: &Path) -> Result<Mesh, Error> {
    let path = dir.join(MESH);
    match fs::read(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Mesh::default()),
        Err(source) => Err(at(&path)(source).into()),
        Ok(bytes) => encoding::from_bytes(&bytes, MESH_BYTES)
            .map_err(|refusal| Error::Damaged { path, why: refusal.to_string() }),
    }
}

fn write_mesh(dir: &Path, mesh: &Mesh) -> Result<(), Error> {
    let path = dir.join(MESH);
    Ok(files::durable_write(&path, &encoding::to_bytes(mesh)).map_err(at(&path))?)
}

/// Follows an issuer's log that `cwn-ca` commands and the desk write, without holding the CA.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    path: PathBuf,
    log: LogFile,
    first: Option<Vec<EntryBytes>>,
    /// When the root document was written that was read last.
    root_written: Option<SystemTime>,
}

impl Follower {
    /// Follows the log of a CA from its start on.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        // An opening may cut back a torn end, which only who holds the lock may do.
        let _guard = lock(dir)?;
        let path = dir.join(LOG);
        let (log, found) = LogFile::open(&path).map_err(at(&path))?;
        Ok(Self { dir: dir.to_owned(), path, log, first: Some(found.entries), root_written: None })
    }

    /// The versions of the root document, when it was written since the last asking.
    pub fn root(&mut self) -> Result<Option<TrustRoot>, Error> {
        let path = self.dir.join(ROOT);
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(at(&path))?;
        if self.root_written == Some(written) {
            return Ok(None);
        }
        let root = read_root(&self.dir)?;
        self.root_written = Some(written);
        Ok(Some(root))
    }

    /// What was written since the last asking.
    pub fn news(&mut self) -> Result<Vec<EntryBytes>, Error> {
        if let Some(entries) = self.first.take() {
            return Ok(entries);
        }
        // Who writes holds the lock until it is durable, and before that it is nobody's news.
        match try_lock(&self.dir)? {
            Some(_guard) => Ok(self.log.news().map_err(at(&self.path))?),
            None => Ok(Vec::new()),
        }
    }
}
