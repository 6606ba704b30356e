//! A world of engines: virtual time, a network that delays and cuts, stores that forget what was not durable.
//!
//! It drives the very engine a node runs, over the real wire bytes. Every choice comes from one seed.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use cwn_crypto::{
    Domain, Hash, PartnerId, PublicKey, Signed, SigningKey, Time,
    certificate::{self, Certificate},
    encoding,
    issuer_log::{CutLine, LogId, Statement},
    root::{IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::{EpochKey, Seal, SealingKey, StandIn},
};
use cwn_engine::{
    circle::{Charter, History, Member, MemberNode, Quota, Steward, Terms},
    engine::{AcceptRule, Config, Engine},
    epoch::{Record, SignedRecord},
    input::{Audience, Command, CommandId, Input, Kept, PullId, SessionId, StreamId, Ticket},
    log::{
        CircleId, Draft, EntryBytes, Header, LogKey, LogKind, Opening, Payload, Retraction, Retracts, Suite, Under,
        Writer,
    },
    output::{CommandRefusal, Event, Output, Reply, SealTarget},
    replica::Replica,
    store::{Damage, Fact, Read, Tip, Write},
    sync::given_key,
    wire::{GivenKey, Nonce, RunFrame, Tag},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::skew;

pub const START: Time = Time(1_790_000_000_000);
const LATENCY_MS: u64 = 10;
/// What a node's store takes as the value of a fact.
const FACT_BYTES: usize = 1 << 20;

/// A store in memory; what it holds is durable.
#[derive(Debug, Default, Clone)]
pub struct MemStore {
    pub logs: BTreeMap<LogKey, Vec<(Hash, EntryBytes)>>,
    pub records: BTreeMap<(CircleId, Hash), Vec<u8>>,
    pub facts: BTreeMap<Vec<u8>, Vec<u8>>,
    pub erased: BTreeMap<(LogKey, u64), (Hash, Retraction)>,
    /// Entries that rot took.
    pub rotten: BTreeSet<(LogKey, u64)>,
    /// Epoch records, likewise.
    pub rotten_records: BTreeSet<Hash>,
    /// Facts, of which the names are known.
    pub rotten_facts: BTreeSet<Vec<u8>>,
    /// Those of them that a look at the whole store found: what stands behind one does not count until it comes again.
    gaps: BTreeSet<(LogKey, u64)>,
    /// How many entries were read.
    pub reads: Cell<u64>,
    /// How often all logs were listed.
    pub lists: Cell<u64>,
}

impl MemStore {
    pub fn write(&mut self, write: Write) {
        match write {
            Write::Entry(entry) => {
                let log = self.logs.entry(entry.key()).or_default();
                let seq = entry.header().seq;
                match log.get(seq as usize) {
                    None => {
                        assert_eq!(log.len() as u64, seq, "a store is handed every log in order");
                        log.push((entry.hash(), entry.bytes().clone()));
                    }
                    Some(_) if self.gaps.remove(&(entry.key(), seq)) => {
                        log[seq as usize] = (entry.hash(), entry.bytes().clone());
                        let next = log.get(seq as usize + 1).filter(|_| !self.gaps.contains(&(entry.key(), seq + 1)));
                        let follows = next.is_none_or(|(_, next)| previous(next) == Some(entry.hash()));
                        assert!(follows, "what fills a gap is followed by what stands behind it");
                    }
                    Some((hash, _)) => assert_eq!(*hash, entry.hash(), "a store holds one entry at a place"),
                }
                self.rotten.remove(&(entry.key(), seq));
                self.blank(&entry.key(), seq);
            }
            Write::Mend(entry) => {
                let seq = entry.header().seq;
                let place = &mut self.logs.get_mut(&entry.key()).expect("what is mended is held")[seq as usize];
                assert_eq!(place.0, entry.hash(), "what is mended is the same entry");
                place.1 = entry.bytes().clone();
                self.blank(&entry.key(), seq);
            }
            Write::Rewind { key, height } => {
                self.logs.get_mut(&key).expect("a log that is rewound is held").truncate(height as usize);
                self.gaps.retain(|(of, seq)| *of != key || *seq < height);
            }
            Write::Erase { key, seq, hash, because } => {
                self.erased.insert((key, seq), (hash, because));
                self.blank(&key, seq);
            }
            Write::Drop { key, seq, hash } => {
                let entry = self.logs.get_mut(&key).and_then(|log| log.get_mut(seq as usize));
                if let Some((_, bytes)) =
                    entry.filter(|(held, bytes)| *held == hash && bytes.payload.sealed().is_some())
                {
                    bytes.payload = Payload::Dropped;
                }
            }
            Write::Record { circle, hash, bytes } => {
                self.rotten_records.remove(&hash);
                self.records.insert((circle, hash), bytes);
            }
            Write::Fact { key, value } if value.is_empty() => {
                self.rotten_facts.remove(&key);
                self.facts.remove(&key);
            }
            Write::Fact { key, value } => {
                self.rotten_facts.remove(&key);
                assert!(value.len() <= FACT_BYTES, "a store takes no fact of {} bytes", value.len());
                self.facts.insert(key, value);
            }
        }
    }
}

fn previous(entry: &EntryBytes) -> Option<Hash> {
    Header::from_bytes(&entry.header).unwrap().previous
}

impl MemStore {
    /// Looks at all there is, as a store does when it is told to: what rotted counts as not there.
    pub fn scrub(&mut self) {
        self.gaps.append(&mut self.rotten);
    }

    /// How many entries of a log are there up to its first gap.
    fn height(&self, key: &LogKey) -> u64 {
        let gap = self.gaps.range((*key, 0)..=(*key, u64::MAX)).next().map(|(_, seq)| *seq);
        gap.unwrap_or(self.logs.get(key).map_or(0, |log| log.len() as u64))
    }

    /// Takes the payload out of an entry that was erased, if it is held.
    fn blank(&mut self, key: &LogKey, seq: u64) {
        let Some((hash, because)) = self.erased.get(&(*key, seq)) else { return };
        let entry = self.logs.get_mut(key).and_then(|log| log.get_mut(seq as usize));
        if let Some((_, bytes)) = entry.filter(|(held, _)| held == hash) {
            bytes.payload = Payload::Retracted(because.clone());
        }
    }
}

impl Read for MemStore {
    fn entry(&self, key: &LogKey, seq: u64) -> Result<Option<EntryBytes>, Damage> {
        self.reads.set(self.reads.get() + 1);
        if self.rotten.contains(&(*key, seq)) {
            return Err(Damage { what: format!("entry {seq}"), why: "its checksum does not fit".to_owned() });
        }
        let log = self.logs.get(key).filter(|_| seq < self.height(key));
        Ok(log.and_then(|log| log.get(seq as usize)).map(|(_, bytes)| bytes.clone()))
    }
    fn hash(&self, key: &LogKey, seq: u64) -> Result<Option<Hash>, Damage> {
        let log = self.logs.get(key).filter(|_| seq < self.height(key));
        Ok(log.and_then(|log| log.get(seq as usize)).map(|(hash, _)| *hash))
    }
    fn parts(&self, key: &LogKey, run: &[(u64, Hash)]) -> Result<Option<u64>, Damage> {
        let stands = |seq: u64| {
            let log = self.logs.get(key).filter(|_| !self.gaps.contains(&(*key, seq)));
            log.and_then(|log| log.get(seq as usize))
        };
        let other = run.iter().find(|(seq, hash)| stands(*seq).is_some_and(|(held, _)| held != hash));
        let next =
            run.last().filter(|(seq, hash)| stands(seq + 1).is_some_and(|(_, next)| previous(next) != Some(*hash)));
        Ok(other.map(|(seq, _)| *seq).or(next.map(|(seq, _)| seq + 1)))
    }
    fn bytes(&self, key: &LogKey, from: u64, to: u64) -> Result<u64, Damage> {
        let entries = self.logs.get(key).into_iter().flatten().take(to as usize).skip(from as usize);
        Ok(entries.map(|(_, bytes)| (bytes.header.len() + bytes.payload.len()) as u64).sum())
    }
    fn tip(&self, key: &LogKey) -> Result<Option<Tip>, Damage> {
        let height = self.height(key);
        let head = |log: &Vec<(Hash, EntryBytes)>| Some(log.get(height.checked_sub(1)? as usize)?.0);
        Ok(self.logs.get(key).and_then(head).map(|head| Tip { height, head }))
    }
    fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage> {
        self.lists.set(self.lists.get() + 1);
        let tip = |key: &LogKey| self.tip(key).map(|tip| Some((*key, tip?))).transpose();
        self.logs.keys().filter_map(tip).collect()
    }
    fn record(&self, circle: &CircleId, hash: &Hash) -> Result<Option<Vec<u8>>, Damage> {
        if self.rotten_records.contains(hash) {
            return Err(Damage { what: format!("epoch record {hash}"), why: "its checksum does not fit".to_owned() });
        }
        Ok(self.records.get(&(*circle, *hash)).cloned())
    }
    fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage> {
        Ok(self.records.keys().copied().collect())
    }
    fn facts(&self, prefix: &[u8]) -> Result<Vec<Fact>, Damage> {
        let starts = |(key, _): &(&Vec<u8>, &Vec<u8>)| key.starts_with(prefix);
        let read = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            let damage = || Damage { what: "a fact".to_owned(), why: "its checksum does not fit".to_owned() };
            let value = if self.rotten_facts.contains(key) { Err(damage()) } else { Ok(value.clone()) };
            Fact { key: key.clone(), value }
        };
        Ok(self.facts.iter().filter(starts).map(read).collect())
    }
}

/// What a node concludes of a circle: how far each log is accepted, and who belongs.
pub type Conclusions = (Vec<(LogKey, u64)>, Vec<(PublicKey, Member)>);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "what is under way in a test's world is little")]
enum Coming {
    Input(Input),
    Store(Ticket, Vec<Write>),
}

#[derive(Debug)]
pub struct Node {
    pub key: SigningKey,
    pub sealing: SealingKey,
    pub partner: PartnerId,
    pub engine: Option<Engine>,
    pub store: MemStore,
    accept: AcceptRule,
    /// The root of trust as it was handed over when the node joined.
    root: TrustRoot,
    /// Counts the starts: what was on its way to an earlier one does not arrive.
    start: u64,
    plain: BTreeMap<CommandId, Vec<u8>>,
    pub replies: BTreeMap<CommandId, Result<Reply, CommandRefusal>>,
    pub events: Vec<Event>,
    /// All that its store was ever handed, in order.
    pub written: Vec<Write>,
    /// What its engine says is taken back.
    pub retracted: BTreeSet<(LogKey, u64)>,
    /// How many payloads its engine says were dropped of each log.
    pub dropped: BTreeMap<LogKey, u64>,
    pub accepted: BTreeMap<LogKey, u64>,
    pub frame_bytes: u64,
    pub frames: u64,
    /// How many runs it asked for.
    pub pulls: u64,
    mute: bool,
    /// What a hostile node answers every run with, whatever was asked.
    answers: Option<Vec<Vec<u8>>>,
    /// How long it takes over each of those.
    drip_ms: u64,
    /// The keys that were handed to it, as its engine says.
    pub given: BTreeSet<(CircleId, Hash)>,
    /// A hostile node hands over keys that are none.
    pub forges_keys: bool,
    /// Whether it speaks as a node of a later version would.
    later: bool,
}

/// The coordinator's issuer, outside of any node.
pub struct Issuer {
    pub key: SigningKey,
    pub writer: Writer,
    pub entries: Vec<EntryBytes>,
    serial: u64,
}

pub struct World {
    pub seed: u64,
    pub now: Time,
    rng: ChaCha8Rng,
    pub root: TrustRoot,
    pub issuer: Issuer,
    pub nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    queue: BTreeMap<(Time, u64), (usize, u64, Coming)>,
    order: u64,
    sessions: BTreeMap<(usize, usize), SessionId>,
    next_session: u64,
    pulls: BTreeMap<(usize, PullId), (usize, StreamId)>,
    streams: BTreeMap<(usize, StreamId), (usize, PullId)>,
    next_stream: u64,
    next_command: u64,
    /// Bytes that were sent on live streams, by the kind of frame.
    pub bytes_of: BTreeMap<u8, u64>,
    /// The most that any node ever said to one peer at once.
    pub most_at_once: usize,
    /// How many frames of each kind that were.
    pub frames_of: BTreeMap<u8, u64>,
    last_delivery: BTreeMap<(usize, usize), Time>,
    slow: BTreeMap<(usize, usize), u64>,
    /// Lines whose queue is full: what is said on them live is lost.
    clogged: BTreeSet<(usize, usize)>,
    /// How much a line carries in a millisecond, where that is little.
    narrow: BTreeMap<(usize, usize), u64>,
    /// For every entry sealed to a circle, the nodes that its author counted in when it wrote it.
    pub sealed_to: BTreeMap<(LogKey, u64), BTreeSet<PublicKey>>,
    /// For every entry sealed to a circle, what its author knew newcomers to be able to open when it wrote it.
    pub sealed_while: BTreeMap<(LogKey, u64), History>,
    /// The keys of older epochs that somebody handed somebody.
    pub handed: Vec<(PublicKey, PublicKey, Hash)>,
    /// Each entry of a run in a frame of its own, and up to this delay on every message.
    pub jitter_ms: u64,
    pub entries_per_frame: usize,
}

pub fn key_of(name: &str, salt: u8) -> SigningKey {
    let mut seed = [salt; 32];
    for (place, byte) in seed.iter_mut().zip(name.bytes()) {
        *place ^= byte;
    }
    SigningKey::from_seed(&seed)
}

/// What a node keeps a circle by.
pub fn terms_of(replica: &Replica) -> Terms {
    replica.control().unwrap().terms(replica.fold()).clone()
}

/// The root keys of a world: two of three must sign.
pub fn root_keys() -> [SigningKey; 3] {
    [1, 2, 3].map(|number| key_of("root", number))
}

pub fn partner(name: &str) -> PartnerId {
    name.parse().unwrap()
}

/// The seeds of a property test: `default` of them, or as many as CWN_SEEDS says, from CWN_FIRST_SEED on.
pub fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("CWN_FIRST_SEED").unwrap_or(0);
    first..first + number("CWN_SEEDS").unwrap_or(default)
}

impl World {
    /// A network whose coordinator certified these partners; all are connected with all.
    pub fn new(names: &[&str]) -> Self {
        let mut world = Self::unconnected(1, names);
        world.connect_all();
        world.settle();
        world
    }

    pub fn unconnected(seed: u64, names: &[&str]) -> Self {
        let root_keys = root_keys();
        let issuer_key = key_of("issuer", 8);
        let document = RootDocument {
            version: 1,
            name: "test".to_owned(),
            keys: root_keys.iter().map(SigningKey::public).collect(),
            threshold: 2,
            issuers: vec![IssuerTerm {
                issuer: issuer_key.public(),
                not_before: Time(START.0 - 1_000),
                not_after: START.plus(90 * Time::DAY_MS),
            }],
            freshness_ms: Time::DAY_MS,
            previous: None,
            dropped: Vec::new(),
        };
        let signed = SignedRoot::sign(&document, &[&root_keys[0], &root_keys[1]]);
        let root = TrustRoot::from_first(&signed).unwrap();
        let opening = Opening { under: Under::Root(1), cites: Vec::new() };
        let writer = Writer::open(CircleId(root.network().0), issuer_key.clone(), LogId([1; 16]), opening);
        let issuer = Issuer { key: issuer_key, writer, entries: Vec::new(), serial: 0 };
        let mut world = Self {
            seed,
            now: START,
            rng: ChaCha8Rng::seed_from_u64(seed),
            root,
            issuer,
            nodes: Vec::new(),
            names: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            sessions: BTreeMap::new(),
            next_session: 0,
            pulls: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            next_command: 0,
            bytes_of: BTreeMap::new(),
            most_at_once: 0,
            frames_of: BTreeMap::new(),
            last_delivery: BTreeMap::new(),
            slow: BTreeMap::new(),
            clogged: BTreeSet::new(),
            narrow: BTreeMap::new(),
            sealed_to: BTreeMap::new(),
            sealed_while: BTreeMap::new(),
            handed: Vec::new(),
            jitter_ms: 0,
            entries_per_frame: 100,
        };
        for name in names {
            world.enrol(name);
        }
        world
    }

    pub fn rng(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below.max(1)
    }

    fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Certifies a partner's node and starts it.
    pub fn enrol(&mut self, name: &str) -> usize {
        let key = key_of(name, 1);
        let sealing = SealingKey::from_bytes(*key_of(name, 2).seed());
        self.certify(&key, &sealing, name);
        let index = self.newcomer(name);
        let entries = self.issuer.entries.clone();
        self.input(index, Input::Import { entries });
        self.settle();
        index
    }

    /// Starts a node that has heard nothing yet.
    pub fn newcomer(&mut self, name: &str) -> usize {
        let key = key_of(name, 1);
        let sealing = SealingKey::from_bytes(*key_of(name, 2).seed());
        let node = Node {
            key,
            sealing,
            partner: partner(name.split('/').next().unwrap()),
            engine: None,
            store: MemStore::default(),
            accept: AcceptRule::Certified,
            root: self.root.clone(),
            start: 0,
            plain: BTreeMap::new(),
            replies: BTreeMap::new(),
            written: Vec::new(),
            events: Vec::new(),
            accepted: BTreeMap::new(),
            retracted: BTreeSet::new(),
            dropped: BTreeMap::new(),
            frame_bytes: 0,
            frames: 0,
            pulls: 0,
            mute: false,
            answers: None,
            drip_ms: 0,
            later: false,
            given: BTreeSet::new(),
            forges_keys: false,
        };
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        self.names.insert(name.to_owned(), index);
        self.start(name);
        index
    }

    pub fn certify(&mut self, key: &SigningKey, sealing: &SealingKey, name: &str) {
        self.issuer.serial += 1;
        let certificate = Certificate {
            suite: 1,
            network: self.root.network(),
            serial: self.issuer.serial,
            node: key.public(),
            recipient: sealing.recipient(),
            partner: partner(name.split('/').next().unwrap()),
            name: name.to_owned(),
            not_before: self.now,
            not_after: self.now.plus(certificate::LIFE_MS),
            issuer: self.issuer.key.public(),
        };
        let signed = Signed::sign(&certificate, Domain::CERTIFICATE, &self.issuer.key);
        self.say(Statement::Certificate(signed));
    }

    /// The root keys with these numbers sign a next version, with a new issuer and `change` besides.
    pub fn next_root(&mut self, signers: &[usize], change: impl FnOnce(&mut RootDocument)) -> SignedRoot {
        let proposal = self.root.propose(change).unwrap();
        let keys = root_keys();
        let mut signed = proposal;
        signers.iter().for_each(|signer| signed.add_signature(&keys[*signer]));
        signed
    }

    /// One node is handed a version, and this world's issuer goes on under it.
    pub fn adopt_root(&mut self, name: &str, signed: &SignedRoot) -> CommandId {
        self.root.adopt(std::slice::from_ref(signed)).unwrap();
        self.command(name, Command::AdoptRoot { versions: vec![signed.clone()] })
    }

    /// The issuer opens another log, and cites those before.
    pub fn sit_again(&mut self, log: u8, cites: Vec<CutLine>) {
        let opening = Opening { under: Under::Root(self.root.version()), cites };
        let network = CircleId(self.root.network().0);
        self.issuer.writer = Writer::open(network, self.issuer.key.clone(), LogId([log; 16]), opening);
    }

    /// Another key issues from here on.
    pub fn change_issuer(&mut self, key: SigningKey, log: u8) -> Issuer {
        let serial = self.issuer.serial;
        let opening = Opening { under: Under::Root(self.root.version()), cites: Vec::new() };
        let writer = Writer::open(CircleId(self.root.network().0), key.clone(), LogId([log; 16]), opening);
        let entries = self.issuer.entries.clone();
        std::mem::replace(&mut self.issuer, Issuer { key, writer, entries, serial })
    }

    /// The head of what the issuer said so far in its present log.
    pub fn issuer_head(&self) -> CutLine {
        let last = self.issuer.entries.last().unwrap();
        let header = Header::from_bytes(&last.header).unwrap();
        let head = Hash::of(Domain::ENTRY, &[&last.header]);
        CutLine { log: header.log, height: header.seq + 1, head }
    }

    /// The issuer says something.
    pub fn say(&mut self, statement: Statement) {
        let payload = statement.to_bytes();
        let draft = Draft { suite: Suite::Network, epoch: None, payload, expiry: None, retracts: None };
        let entry = self.issuer.writer.append(self.now, draft);
        self.issuer.entries.push(entry.bytes().clone());
    }

    /// The issuer revokes a node, and one node hears of it.
    pub fn revoke(&mut self, name: &str, heard_by: &str) -> &mut Self {
        let node = self.key(name);
        let cut: Vec<CutLine> = Vec::new();
        self.say(Statement::Revocation { node, serial: 0, reason: "stolen".to_owned(), cut });
        let entries = self.issuer.entries.clone();
        let by = self.index(heard_by);
        self.input(by, Input::Import { entries });
        self
    }

    pub fn index(&self, name: &str) -> usize {
        self.names[name]
    }

    pub fn key(&self, name: &str) -> PublicKey {
        self.nodes[self.index(name)].key.public()
    }

    /// Sets every clock; what was scheduled by the old one keeps its order, not its time.
    pub fn set_clock(&mut self, now: Time) {
        self.now = now;
        self.last_delivery.clear();
    }

    pub fn session(&self, from: &str, to: &str) -> SessionId {
        self.sessions[&(self.index(from), self.index(to))]
    }

    /// The tag by which one node names a circle to another.
    pub fn tag(&self, from: &str, to: &str, circle: CircleId) -> Tag {
        let sharing = self.engine(from).sharing(&circle);
        sharing.iter().find(|(peer, ..)| *peer == self.key(to)).unwrap().2
    }

    /// A node that is mute says what it holds and never sends it.
    pub fn mute_runs(&mut self, name: &str, mute: bool) {
        let index = self.index(name);
        self.nodes[index].mute = mute;
    }

    /// Whatever run is asked of a node, it answers with these frames.
    pub fn answer_runs_with(&mut self, name: &str, frames: Vec<Vec<u8>>) {
        let index = self.index(name);
        self.nodes[index].answers = Some(frames);
    }

    /// It takes so long over each frame of those answers.
    pub fn drip_runs(&mut self, name: &str, ms: u64) {
        let index = self.index(name);
        self.nodes[index].drip_ms = ms;
    }

    /// From now on a node speaks as one of a later version would; see [`crate::skew::as_later`].
    pub fn speak_later(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].later = true;
    }

    /// What one node sends another takes so long.
    pub fn slow_line(&mut self, from: &str, to: &str, ms: u64) {
        let line = (self.index(from), self.index(to));
        self.slow.insert(line, ms);
    }

    /// What one node says to another is lost from here on, for its line takes no more.
    pub fn clog_line(&mut self, from: &str, to: &str) -> &mut Self {
        self.clogged.insert((self.index(from), self.index(to)));
        self
    }

    /// The line is free again, and its end hears that frames were lost.
    pub fn free_line(&mut self, from: &str, to: &str) -> &mut Self {
        let (index, other) = (self.index(from), self.index(to));
        self.clogged.remove(&(index, other));
        let (peer, session) = (self.key(to), self.session(from, to));
        self.input(index, Input::LiveDropped { peer, session });
        self
    }

    /// What one node sends another comes at so many bytes in a millisecond.
    pub fn narrow_line(&mut self, from: &str, to: &str, bytes_per_ms: u64) {
        let line = (self.index(from), self.index(to));
        self.narrow.insert(line, bytes_per_ms);
    }

    /// From its next start on, a node's operator decides which circles it joins.
    pub fn ask_before_joining(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].accept = AcceptRule::Ask;
    }

    /// A frame as a hostile node may send it, taken at once.
    pub fn send_raw(&mut self, from: &str, to: &str, bytes: Vec<u8>) {
        let (peer, session) = (self.key(from), self.session(from, to));
        let to = self.index(to);
        self.input(to, Input::Frame { peer, session, bytes });
    }

    pub fn is_connected(&self, a: &str, b: &str) -> bool {
        self.engine(a).peers().iter().any(|peer| peer.peer == self.key(b))
    }

    /// What a node refused, and from whom.
    pub fn refusals_of(&self, name: &str, peer: &str) -> Vec<String> {
        let from = self.key(peer);
        let reason = |event: &Event| match event {
            Event::Refused { reason, peer, .. } if *peer == from => Some(reason.clone()),
            _ => None,
        };
        self.node(name).events.iter().filter_map(reason).collect()
    }

    /// The digest that a node would say now.
    pub fn digest(&self, name: &str, circle: CircleId) -> Hash {
        let replica = self.engine(name).circle(&circle).unwrap();
        replica.digest(&replica.tips(&self.node(name).store).unwrap())
    }

    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.index(name)]
    }

    pub fn engine(&self, name: &str) -> &Engine {
        self.node(name).engine.as_ref().unwrap()
    }

    pub fn member(&self, name: &str) -> MemberNode {
        let node = self.node(name);
        MemberNode { node: node.key.public(), recipient: node.sealing.recipient() }
    }

    /// Starts a node on what its store holds.
    pub fn start(&mut self, name: &str) -> &mut Self {
        let (index, now, root) = (self.index(name), self.now, self.nodes[self.index(name)].root.clone());
        let node = &mut self.nodes[index];
        let config = Config { key: node.key.clone(), root, accept: node.accept };
        node.engine = Some(Engine::open(config, now, &node.store).unwrap());
        node.accepted.clear();
        node.retracted.clear();
        node.given.clear();
        self.drain(index);
        self
    }

    /// Ends a node at once: what was not durable is gone.
    pub fn crash(&mut self, name: &str) -> &mut Self {
        let index = self.index(name);
        for other in 0..self.nodes.len() {
            self.disconnect_indexes(index, other);
        }
        let node = &mut self.nodes[index];
        node.engine = None;
        node.start += 1;
        node.plain.clear();
        self
    }

    pub fn connect_all(&mut self) -> &mut Self {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.connect_indexes(b, a);
            }
        }
        self
    }

    pub fn connect(&mut self, a: &str, b: &str) -> &mut Self {
        self.connect_indexes(self.index(a), self.index(b));
        self
    }

    pub fn connect_indexes(&mut self, a: usize, b: usize) {
        let running = |index: usize| self.nodes[index].engine.is_some();
        if a == b || !running(a) || !running(b) || self.sessions.contains_key(&(a, b)) {
            return;
        }
        let session = SessionId(self.next_session);
        self.next_session += 1;
        for (from, to, dialled) in [(a, b, true), (b, a, false)] {
            self.sessions.insert((from, to), session);
            let peer = self.nodes[to].key.public();
            let mut nonce = [0; 16];
            nonce.copy_from_slice(&self.random()[..16]);
            self.input(from, Input::PeerUp { peer, session, dialled, nonce: Nonce(nonce) });
        }
    }

    pub fn disconnect(&mut self, a: &str, b: &str) -> &mut Self {
        self.disconnect_indexes(self.index(a), self.index(b));
        self
    }

    pub fn disconnect_indexes(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(session) = self.sessions.remove(&(from, to)) {
                let peer = self.nodes[to].key.public();
                self.pulls.retain(|(node, _), (server, _)| !(*node == from && *server == to));
                self.input(from, Input::PeerDown { peer, session });
            }
        }
    }

    /// Leaves only connections inside each group.
    pub fn partition(&mut self, groups: &[&[&str]]) -> &mut Self {
        let group = |world: &Self, index: usize| {
            groups.iter().position(|group| group.iter().any(|name| world.index(name) == index))
        };
        for a in 0..self.nodes.len() {
            for b in 0..a {
                if group(self, a) != group(self, b) {
                    self.disconnect_indexes(a, b);
                }
            }
        }
        self
    }

    fn schedule(&mut self, at: Time, node: usize, coming: Coming) {
        let start = self.nodes[node].start;
        self.queue.insert((at, self.order), (node, start, coming));
        self.order += 1;
    }

    /// Delivery on the stream from one node to another: late, but in order.
    fn deliver(&mut self, from: usize, to: usize, input: Input) {
        let jitter = if self.jitter_ms == 0 { 0 } else { self.rng(self.jitter_ms) };
        let last = self.last_delivery.get(&(from, to)).copied().unwrap_or_default();
        let latency = self.slow.get(&(from, to)).copied().unwrap_or(LATENCY_MS);
        let mut at = self.now.plus(latency + jitter).max(last);
        if let (Some(bytes_per_ms), Input::RunFrame { bytes, .. }) = (self.narrow.get(&(from, to)), &input) {
            at = at.plus(bytes.len() as u64 / bytes_per_ms);
        }
        self.last_delivery.insert((from, to), at);
        self.schedule(at, to, Coming::Input(input));
    }

    pub fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        let state = &mut self.nodes[node];
        if let Some(engine) = &mut state.engine {
            engine.handle(now, input, &state.store);
            self.drain(node);
        }
    }

    fn drain(&mut self, index: usize) {
        let mut outputs = VecDeque::new();
        if let Some(engine) = &mut self.nodes[index].engine {
            while let Some(output) = engine.poll_output() {
                outputs.push_back(output);
            }
        }
        let me = self.nodes[index].key.public();
        let mut at_once: BTreeMap<PublicKey, usize> = BTreeMap::new();
        for output in outputs {
            match output {
                Output::Send { peer, session, bytes } => {
                    let to = self.index_of(&peer);
                    let to_peer = at_once.entry(peer).or_default();
                    *to_peer += bytes.len();
                    self.most_at_once = self.most_at_once.max(*to_peer);
                    self.nodes[index].frame_bytes += bytes.len() as u64;
                    self.nodes[index].frames += 1;
                    // Behind the head of the array stands the kind.
                    *self.bytes_of.entry(bytes[1]).or_default() += bytes.len() as u64;
                    *self.frames_of.entry(bytes[1]).or_default() += 1;
                    if self.sessions.get(&(index, to)) == Some(&session) && !self.clogged.contains(&(index, to)) {
                        let later = self.nodes[index].later;
                        for bytes in if later { skew::as_later(bytes) } else { vec![bytes] } {
                            self.deliver(index, to, Input::Frame { peer: me, session, bytes });
                        }
                    }
                }
                Output::Pull { peer, session, pull, bytes } => {
                    let to = self.index_of(&peer);
                    let stream = StreamId(self.next_stream);
                    self.next_stream += 1;
                    self.nodes[index].frame_bytes += bytes.len() as u64;
                    self.nodes[index].pulls += 1;
                    let bytes = if self.nodes[index].later { skew::longer(&bytes, 5) } else { bytes };
                    if self.sessions.get(&(index, to)) == Some(&session) {
                        self.pulls.insert((index, pull), (to, stream));
                        self.streams.insert((to, stream), (index, pull));
                        self.deliver(index, to, Input::RunRequested { peer: me, session, stream, bytes });
                    }
                }
                Output::CancelPull { pull } => drop(self.pulls.remove(&(index, pull))),
                Output::SendRun { stream, key, from, to, epoch } => self.send_run(index, stream, key, from, to, epoch),
                Output::RefuseRun { stream } => {
                    if let Some((asker, pull)) = self.streams.remove(&(index, stream)) {
                        self.deliver(index, asker, Input::RunEnded { pull });
                    }
                }
                Output::Store { ticket, writes } => {
                    self.note_audiences(index, &writes);
                    // The disk is slower than the wire, so that what must wait for it shows.
                    let last = self.last_delivery.get(&(index, index)).copied().unwrap_or_default();
                    let delay = 1 + if self.jitter_ms == 0 { 0 } else { self.rng(self.jitter_ms) };
                    let at = self.now.plus(delay).max(last);
                    self.last_delivery.insert((index, index), at);
                    self.schedule(at, index, Coming::Store(ticket, writes));
                }
                Output::Disconnect { peer, .. } => {
                    let other = self.index_of(&peer);
                    self.disconnect_indexes(index, other);
                }
                Output::Seal { id, circle, target } => self.seal(index, id, circle, &target),
                Output::MakeEpoch { circle, recipients } => {
                    let key = self.random();
                    let commitment = EpochKey::from_bytes(key).commitment();
                    let wrapped = StandIn.seal_to_recipients(&recipients, &key).unwrap();
                    let input = Input::EpochSealed { circle, commitment, wrapped };
                    self.schedule(self.now.plus(1), index, Coming::Input(input));
                }
                Output::SealKeys { peer, session, circle, recipient, epochs } => {
                    let forges = self.nodes[index].forges_keys;
                    let seal = |epoch: &Hash| {
                        let key = match forges {
                            true => [7; 32],
                            false => *self.epoch_key(index, circle, *epoch)?.to_bytes(),
                        };
                        Some(GivenKey {
                            epoch: *epoch,
                            wrapped: StandIn.seal_to_recipients(&[recipient], &key).unwrap(),
                        })
                    };
                    let keys: Vec<GivenKey> = epochs.iter().filter_map(seal).collect();
                    self.handed.extend(keys.iter().map(|key| (me, peer, key.epoch)));
                    let input = Input::KeysSealed { peer, session, circle, keys };
                    self.schedule(self.now.plus(1), index, Coming::Input(input));
                }
                Output::CheckKeys { peer, circle, keys } => {
                    let is_right = |key: &GivenKey| {
                        let commitment = self.record(index, circle, key.epoch).unwrap().commitment;
                        self.open_epoch_key(index, &key.wrapped).is_some_and(|key| key.commitment() == commitment)
                    };
                    let (right, wrong): (Vec<GivenKey>, Vec<GivenKey>) = keys.into_iter().partition(is_right);
                    let wrong = wrong.into_iter().map(|key| key.epoch).collect();
                    let input = Input::KeysChecked { peer, circle, right, wrong };
                    self.schedule(self.now.plus(1), index, Coming::Input(input));
                }
                Output::Given { circle, epochs } => {
                    self.nodes[index].given.extend(epochs.into_iter().map(|epoch| (circle, epoch)));
                }
                Output::Accepted { key, height } => drop(self.nodes[index].accepted.insert(key, height)),
                Output::Retracted { key, seq, retracted: true, .. } => {
                    self.nodes[index].retracted.insert((key, seq));
                }
                Output::Retracted { key, seq, .. } => drop(self.nodes[index].retracted.remove(&(key, seq))),
                Output::Dropped { key, seqs, total } => {
                    let before = self.nodes[index].dropped.insert(key, total).unwrap_or(0);
                    assert!(seqs.is_empty() || before + seqs.len() as u64 == total, "what is dropped is told once");
                }
                Output::Reply { id, reply } => drop(self.nodes[index].replies.insert(id, reply)),
                Output::Emit(event) => self.nodes[index].events.push(event),
            }
        }
    }

    fn note_audiences(&mut self, index: usize, writes: &[Write]) {
        let node = &self.nodes[index];
        let Some(engine) = &node.engine else { return };
        for write in writes {
            let Write::Entry(entry) = write else { continue };
            if entry.header().author == node.key.public() && entry.header().suite == Suite::Epoch {
                let roster = engine.circle(&entry.key().circle).unwrap().fold().roster();
                let counted = roster.iter().map(|(node, _)| *node).collect();
                let place = (entry.key(), entry.header().seq);
                let history = engine.circle(&entry.key().circle).map(terms_of).unwrap_or_default().history;
                self.sealed_to.entry(place).or_insert(counted);
                self.sealed_while.entry(place).or_insert(history);
            }
        }
    }

    /// Whether a node's sealing key opens an entry, with all that any store holds at its hands.
    pub fn opens(&self, name: &str, key: &LogKey, seq: u64) -> Option<bool> {
        let bytes = self.nodes.iter().find_map(|node| node.store.entry(key, seq).unwrap())?;
        let header = Header::from_bytes(&bytes.header).unwrap();
        let place = (key.circle, header.epoch?);
        let record = self.nodes.iter().find_map(|node| node.store.records.get(&place))?;
        let record: Record =
            encoding::from_bytes::<SignedRecord>(record, 1 << 20).unwrap().unverified(1 << 20).unwrap();
        let given = || self.node(name).store.facts.get(&given_key(&place.0, &place.1)).map(Vec::as_slice);
        let index = self.index(name);
        let key = self.open_epoch_key(index, &record.wrapped).or_else(|| self.open_epoch_key(index, given()?));
        let payload = bytes.payload.sealed()?;
        Some(key.is_some_and(|key| StandIn.open_with_epoch(&key, payload, 1 << 20).is_ok()))
    }

    fn index_of(&self, peer: &PublicKey) -> usize {
        self.nodes.iter().position(|node| node.key.public() == *peer).unwrap()
    }

    fn send_run(&mut self, index: usize, stream: StreamId, key: LogKey, from: u64, to: u64, epoch: Option<Hash>) {
        let Some((asker, pull)) = self.streams.remove(&(index, stream)) else { return };
        if self.nodes[index].mute {
            return;
        }
        if let Some(frames) = self.nodes[index].answers.clone() {
            let mut at = self.now.plus(LATENCY_MS);
            for bytes in frames {
                at = at.plus(self.nodes[index].drip_ms);
                self.schedule(at, asker, Coming::Input(Input::RunFrame { pull, bytes }));
            }
            return self.schedule(at, asker, Coming::Input(Input::RunEnded { pull }));
        }
        let mut known: BTreeSet<Hash> = epoch.into_iter().collect();
        let entries: Vec<EntryBytes> =
            (from..to).filter_map(|seq| self.nodes[index].store.entry(&key, seq).unwrap()).collect();
        for chunk in entries.chunks(self.entries_per_frame) {
            let mut records = Vec::new();
            for entry in chunk {
                let header = Header::from_bytes(&entry.header).unwrap();
                if let Some(epoch) = header.epoch.filter(|epoch| known.insert(*epoch)) {
                    // One that cannot be read back the entries go without.
                    let record = self.nodes[index].store.record(&key.circle, &epoch).ok().map(Option::unwrap);
                    records.extend(record.map(|bytes| encoding::from_bytes::<SignedRecord>(&bytes, 1 << 20).unwrap()));
                }
            }
            let bytes = RunFrame { records, entries: chunk.to_vec() }.to_bytes();
            let bytes = if self.nodes[index].later { skew::longer(&bytes, 2) } else { bytes };
            self.nodes[index].frame_bytes += bytes.len() as u64;
            self.deliver(index, asker, Input::RunFrame { pull, bytes });
        }
        self.deliver(index, asker, Input::RunEnded { pull });
    }

    fn record(&self, index: usize, circle: CircleId, epoch: Hash) -> Option<Record> {
        let bytes = self.nodes[index].store.records.get(&(circle, epoch))?;
        let signed: SignedRecord = encoding::from_bytes(bytes, 1 << 20).unwrap();
        Some(signed.unverified(1 << 20).unwrap())
    }

    fn open_epoch_key(&self, index: usize, wrapped: &[u8]) -> Option<EpochKey> {
        let key = StandIn.open_with_key(&self.nodes[index].sealing, wrapped, 64).ok()?;
        Some(EpochKey::from_bytes(key.try_into().ok()?))
    }

    fn epoch_key(&self, index: usize, circle: CircleId, epoch: Hash) -> Option<EpochKey> {
        let record = self.record(index, circle, epoch)?;
        let given = || self.open_epoch_key(index, self.nodes[index].store.facts.get(&given_key(&circle, &epoch))?);
        self.open_epoch_key(index, &record.wrapped).or_else(given)
    }

    fn seal(&mut self, index: usize, id: CommandId, circle: CircleId, target: &SealTarget) {
        let plain = self.nodes[index].plain[&id].clone();
        let payload = match target {
            SealTarget::Epoch(hash) => {
                let key = self.epoch_key(index, circle, *hash).expect("a record is durable before its first use");
                StandIn.seal_to_epoch(&key, &plain)
            }
            SealTarget::Recipients(recipients) => StandIn.seal_to_recipients(recipients, &plain).unwrap(),
        };
        let random = self.random();
        self.schedule(self.now.plus(1), index, Coming::Input(Input::Sealed { id, payload, random }));
    }

    /// Hands over the next thing that is under way; false when nothing is.
    pub fn step(&mut self) -> bool {
        let deadline = |node: &Node| node.engine.as_ref().and_then(Engine::next_deadline);
        let next_timer = self.nodes.iter().enumerate().filter_map(|(i, node)| Some((deadline(node)?, i))).min();
        let next_message = self.queue.keys().next().map(|(at, _)| *at);
        match (next_message, next_timer) {
            (Some(at), timer) if timer.is_none_or(|(due, _)| at <= due) => {
                let Some(((at, _), (node, start, coming))) = self.queue.pop_first() else { return false };
                self.now = self.now.max(at);
                if self.nodes[node].start != start {
                    return true;
                }
                match coming {
                    Coming::Input(Input::RunFrame { pull, .. } | Input::RunEnded { pull })
                        if !self.pulls.contains_key(&(node, pull)) => {}
                    Coming::Input(Input::Frame { peer, session, .. })
                        if self.sessions.get(&(node, self.index_of(&peer))) != Some(&session) => {}
                    Coming::Input(input) => self.input(node, input),
                    Coming::Store(ticket, writes) => {
                        self.nodes[node].written.extend(writes.iter().cloned());
                        writes.into_iter().for_each(|write| self.nodes[node].store.write(write));
                        self.input(node, Input::Stored { ticket });
                    }
                }
                true
            }
            (_, Some((due, node))) => {
                self.now = self.now.max(due);
                self.input(node, Input::Tick);
                let next = self.nodes[node].engine.as_ref().and_then(Engine::next_deadline);
                assert!(next.is_none_or(|next| next > self.now), "a deadline that its tick does not clear");
                true
            }
            _ => false,
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) -> &mut Self {
        let end = self.now.plus(ms);
        loop {
            let deadline = |node: &Node| node.engine.as_ref().and_then(Engine::next_deadline);
            let next = self.queue.keys().next().map(|(at, _)| *at);
            let next = next.into_iter().chain(self.nodes.iter().filter_map(deadline)).min();
            if next.is_none_or(|at| at > end) {
                self.now = end;
                return self;
            }
            self.step();
        }
    }

    /// Lets everything that is under way arrive: digests go once a minute, so three minutes bring all about.
    pub fn settle(&mut self) -> &mut Self {
        self.run(200_000)
    }

    pub fn command(&mut self, name: &str, command: Command) -> CommandId {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        let random = self.random();
        let index = self.index(name);
        self.input(index, Input::Command { id, command, random });
        id
    }

    pub fn reply(&self, name: &str, id: CommandId) -> Option<&Result<Reply, CommandRefusal>> {
        self.node(name).replies.get(&id)
    }

    /// Founds a circle with these stewards, the first being the founder, and returns its id.
    pub fn found(&mut self, stewards: &[&str]) -> CircleId {
        let secret = self.random();
        let steward = |name: &&str| Steward { partner: self.node(name).partner.clone(), node: self.member(name) };
        let charter = Charter {
            name: "test circle".to_owned(),
            stewards: stewards.iter().map(steward).collect(),
            terms: Terms::default(),
            secret,
            founded: self.now,
            succeeds: None,
        };
        let circle = charter.id();
        self.command(stewards[0], Command::Found { charter });
        self.run(50);
        circle
    }

    /// A circle founded by the first, which adds the rest.
    pub fn circle(&mut self, names: &[&str]) -> CircleId {
        let circle = self.found(&names[..1]);
        for name in &names[1..] {
            self.add(names[0], circle, name);
        }
        self.settle();
        circle
    }

    pub fn add(&mut self, by: &str, circle: CircleId, name: &str) -> CommandId {
        let (partner, nodes) = (self.node(name).partner.clone(), vec![self.member(name)]);
        let id = self.command(by, Command::Add { circle, partner, nodes });
        self.run(5);
        id
    }

    pub fn remove(&mut self, by: &str, circle: CircleId, name: &str) -> CommandId {
        let partner = self.node(name).partner.clone();
        let id = self.command(by, Command::Remove { circle, partner, node: None });
        self.run(5);
        id
    }

    pub fn appoint(&mut self, by: &str, circle: CircleId, name: &str) -> CommandId {
        let (partner, node) = (self.node(name).partner.clone(), self.member(name));
        let id = self.command(by, Command::Appoint { circle, partner, node });
        self.run(5);
        id
    }

    pub fn dismiss(&mut self, by: &str, circle: CircleId, name: &str) -> CommandId {
        let node = self.key(name);
        let id = self.command(by, Command::Dismiss { circle, node });
        self.run(5);
        id
    }

    /// Other terms, which nothing but their number tells apart.
    pub fn policy(&mut self, by: &str, circle: CircleId, number: u8) -> CommandId {
        let terms = Terms { policy: vec![number], ..Terms::default() };
        let id = self.command(by, Command::Policy { circle, terms });
        self.run(5);
        id
    }

    /// A steward says how much is taken of one node.
    pub fn set_quota(&mut self, by: &str, circle: CircleId, quota: Quota) -> &mut Self {
        let terms = Terms { quota: Some(quota), ..Terms::default() };
        self.command(by, Command::Policy { circle, terms });
        self.run(5);
        self
    }

    /// A steward says for how many days what is published is kept.
    pub fn set_retention(&mut self, by: &str, circle: CircleId, days: Option<u32>) -> &mut Self {
        let terms = Terms { retention_days: days, ..Terms::default() };
        self.command(by, Command::Policy { circle, terms });
        self.run(5);
        self
    }

    /// A steward says what newcomers can open.
    pub fn set_history(&mut self, by: &str, circle: CircleId, history: History) -> &mut Self {
        let terms = Terms { history, ..Terms::default() };
        self.command(by, Command::Policy { circle, terms });
        self.run(5);
        self
    }

    /// The number of the terms that a node keeps a circle by.
    pub fn terms(&self, name: &str, circle: CircleId) -> u8 {
        let replica = self.engine(name).circle(&circle).unwrap();
        replica.control().unwrap().terms(replica.fold()).policy.first().copied().unwrap_or(0)
    }

    /// One node hears what another's control logs say in a circle, at once.
    pub fn hear_operations(&mut self, circle: CircleId, from: &str, to: &str) {
        let (key, from, to) = (self.key(from), self.index(from), self.index(to));
        let control = |log: &LogKey| log.circle == circle && log.author == key;
        let logs = self.nodes[from].store.logs.iter().filter(|(log, _)| control(log));
        let entries = logs.flat_map(|(_, log)| log.iter().map(|(_, bytes)| bytes.clone())).collect();
        self.input(to, Input::Import { entries });
    }

    /// Publishes to the whole circle.
    pub fn append(&mut self, by: &str, circle: CircleId, text: &str) -> CommandId {
        self.append_to(by, circle, text, Audience::Circle)
    }

    /// A node takes back what it published.
    pub fn retract(&mut self, by: &str, circle: CircleId, published: CommandId) -> CommandId {
        let Some(Ok(Reply::Appended { place, hash })) = self.reply(by, published).cloned() else {
            panic!("{by} published nothing there");
        };
        self.retract_entry(by, circle, Retracts { log: place.key.log, seq: place.seq, hash })
    }

    pub fn retract_entry(&mut self, by: &str, circle: CircleId, what: Retracts) -> CommandId {
        let id = CommandId(self.next_command);
        let index = self.index(by);
        self.nodes[index].plain.insert(id, b"(retraction)".to_vec());
        let (audience, retracts) = (Audience::Circle, Some(what));
        let append = Command::Append { circle, audience, expiry: None, only_when_current: false, retracts, kept: None };
        self.command(by, append)
    }

    /// The epoch of a circle that a node finds first.
    pub fn first_epoch(&self, name: &str, circle: CircleId) -> Hash {
        *self.engine(name).circle(&circle).unwrap().epochs().next().unwrap().0
    }

    /// The content log that a node found first of another's.
    pub fn content_log(&self, name: &str, circle: CircleId) -> LogKey {
        self.log_of(name, circle, LogKind::Content)
    }

    /// The first log of a kind that a node wrote in a circle.
    pub fn log_of(&self, name: &str, circle: CircleId, kind: LogKind) -> LogKey {
        let replica = self.engine(name).circle(&circle).unwrap();
        let author = self.key(name);
        replica.logs_of(&author).find(|(_, log)| log.kind == kind).unwrap().0
    }

    /// Puts a node's store back to what it was.
    pub fn restore(&mut self, name: &str, store: MemStore) -> &mut Self {
        let index = self.index(name);
        self.nodes[index].store = store;
        self.nodes[index].dropped.clear();
        self
    }

    /// How many payloads of a circle's entries a node holds still.
    pub fn payloads(&self, name: &str, circle: CircleId) -> usize {
        let logs = self.node(name).store.logs.iter().filter(|(key, _)| key.circle == circle);
        let entries = logs.flat_map(|(_, log)| log.iter().map(|(_, bytes)| bytes));
        entries.filter(|bytes| bytes.payload.sealed().is_some()).count()
    }

    pub fn append_to(&mut self, by: &str, circle: CircleId, text: &str, audience: Audience) -> CommandId {
        self.append_until(by, circle, text, audience, None)
    }

    pub fn append_until(
        &mut self,
        by: &str,
        circle: CircleId,
        text: &str,
        audience: Audience,
        expiry: Option<Time>,
    ) -> CommandId {
        let id = CommandId(self.next_command);
        let index = self.index(by);
        self.nodes[index].plain.insert(id, text.as_bytes().to_vec());
        let (retracts, kept) = (None, None);
        self.command(by, Command::Append { circle, audience, expiry, only_when_current: false, retracts, kept })
    }

    /// Publishes to the whole circle what was written for these partners alone.
    pub fn append_kept(&mut self, by: &str, circle: CircleId, text: &str, readers: &[&str], fact: &[u8]) -> CommandId {
        let id = CommandId(self.next_command);
        let index = self.index(by);
        self.nodes[index].plain.insert(id, text.as_bytes().to_vec());
        let readers = readers.iter().map(|name| self.key(name)).collect();
        let (expiry, retracts, kept) = (None, None, Some(Kept { fact: fact.to_vec(), readers }));
        let audience = Audience::Circle;
        self.command(by, Command::Append { circle, audience, expiry, only_when_current: false, retracts, kept })
    }

    /// What a node has accepted in a circle, sorted: the text of what it can open, or `(sealed)`.
    pub fn reads(&self, name: &str, circle: CircleId) -> Vec<String> {
        let index = self.index(name);
        let node = &self.nodes[index];
        let mut texts = Vec::new();
        for (key, height) in node.accepted.iter().filter(|(key, _)| key.circle == circle) {
            for seq in 0..*height {
                let bytes = node.store.entry(key, seq).unwrap().expect("what is accepted is durable");
                let header = Header::from_bytes(&bytes.header).unwrap();
                if node.retracted.contains(&(*key, seq)) || header.retracts.is_some() {
                    continue;
                }
                let payload = match &bytes.payload {
                    Payload::Sealed(payload) => payload,
                    gone => {
                        texts.push(format!("({})", if *gone == Payload::Dropped { "dropped" } else { "retracted" }));
                        continue;
                    }
                };
                let opened = match header.suite {
                    Suite::Control | Suite::Network => continue,
                    Suite::Epoch => self
                        .epoch_key(index, circle, header.epoch.unwrap())
                        .and_then(|key| StandIn.open_with_epoch(&key, payload, 1 << 20).ok()),
                    Suite::Named => StandIn.open_with_key(&node.sealing, payload, 1 << 20).ok(),
                    Suite::Later(_) => None,
                };
                let text = opened.map(|bytes| String::from_utf8(bytes).unwrap());
                texts.push(text.unwrap_or_else(|| "(sealed)".to_owned()));
            }
        }
        texts.sort();
        texts
    }

    /// Everything a node concluded about a circle, to compare with what another did.
    pub fn conclusions(&self, name: &str, circle: CircleId) -> Conclusions {
        let node = self.node(name);
        let accepted = node.accepted.iter().filter(|(key, height)| key.circle == circle && **height > 0);
        let replica = self.engine(name).circle(&circle);
        let roster = replica.into_iter().flat_map(|replica| replica.fold().roster().iter());
        (
            accepted.map(|(key, height)| (*key, *height)).collect(),
            roster.map(|(node, member)| (*node, member.clone())).collect(),
        )
    }

    /// What a node holds of a circle, for when two differ.
    pub fn describe(&self, name: &str, circle: CircleId) -> String {
        let engine = self.engine(name);
        let Some(replica) = engine.circle(&circle) else { return format!("{name} is not in it") };
        let mut lines = vec![format!("{name}, {} behind", engine.behind(&circle))];
        for (key, log) in replica.logs() {
            let told = self.node(name).accepted.get(&key).copied().unwrap_or(0);
            let accepted = format!("{} told {told}", replica.accepted(&key.author, &key.log));
            let author = self.nodes.iter().find(|node| node.key.public() == key.author).map(|node| &node.partner);
            lines.push(format!(
                "  {:?} {} {:?} {} {} accepted {accepted}, {:?}",
                author,
                &key.log.to_string()[..6],
                log.kind,
                log.height,
                log.durable,
                log.opening
            ));
        }
        for peer in engine.peers().iter().filter(|peer| peer.circles.iter().any(|(of, _)| *of == circle)) {
            lines.push(format!("  shares with {:?}", peer.peer));
        }
        lines.join("\n")
    }

    pub fn expect_reads(&self, name: &str, circle: CircleId, texts: &[&str]) -> &Self {
        let mut expected: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        expected.sort();
        assert_eq!(self.reads(name, circle), expected, "what {name} reads (seed {})", self.seed);
        self
    }
}
