//! The world: virtual time, the queue of what is to happen, nodes with their engines, disks and clocks.
//!
//! It drives the engine that a node runs, over the bytes that nodes send, and lets checkers see what happens. Every
//! choice comes from one seed. It refuses to know what is right; that is [`crate::checker`]'s.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;

use cwn_crypto::{
    Domain, Hash, PartnerId, PublicKey, Signed, SigningKey, Time,
    certificate::{self, Certificate},
    encoding,
    issuer_log::{CutLine, LogId, Statement},
    root::{DroppedIssuer, IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::{EpochKey, Recipient, Seal, SealingKey, StandIn},
};
use cwn_engine::{
    branches,
    circle::{Charter, MemberNode},
    engine::{AcceptRule, Config, Engine},
    epoch::{Record, SignedRecord},
    input::{Command, CommandId, Input, PullId, SessionId, StreamId},
    limits,
    log::{Authentic, CircleId, Draft, EntryBytes, Header, LogKey, LogKind, Opening, Stored, Suite, Under, Writer},
    neighbours::{Breadth, Draw, Reach, Standpoint},
    output::{CommandRefusal, Event, Output, Reply, SealTarget},
    replica::Replica,
    store::{Read, Write, known_facts},
    sync::given_key,
    wire::{Frame, GivenKey, Nonce, RunFrame},
};

use crate::{
    checker::{Checker, Seen, Violation},
    dice::{Dice, For},
    disk::{Disk, Full, Held},
    malicious::Malice,
    memory::Guard,
    network::{Ask, End, Message, Network, Way},
    oracle::{Conclusion, Heard, History},
    plan::Plan,
    trace::Trace,
};

/// When every life starts.
pub(crate) const START: Time = Time(1_790_000_000_000);
const MINUTE_MS: u64 = 60 * Time::SECOND_MS;
/// Of a thousand frames to a peer whose queue is full so many are lost: a small one may fit where a large one does not.
const LOST_PER_MILLE: u64 = 700;
/// Entries in one frame of a run: small, so that runs can break off in the middle.
const RUN_ENTRIES: usize = 32;
/// How often a node looks with whom to keep connected, and how long it keeps a connection all the same, as a daemon does.
const CHOOSES_EVERY_MS: u64 = MINUTE_MS;
const KEEP_MS: u64 = 10 * MINUTE_MS;

/// What is to happen.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all that waits is an input")]
pub(crate) enum Coming {
    /// Something comes back to one start of a node, from beside its engine.
    Local {
        node: usize,
        start: u64,
        input: Input,
    },
    /// A sync ends.
    Synced {
        node: usize,
        start: u64,
    },
    /// A node's engine wanted to be woken.
    Tick {
        node: usize,
        at: Time,
    },
    /// Two nodes try to connect.
    Dial {
        a: usize,
        b: usize,
    },
    /// One end of a session learns that it is there, or that it is gone.
    Up {
        session: SessionId,
        side: usize,
    },
    Down {
        session: SessionId,
        side: usize,
    },
    /// A message arrives at one end.
    Arrive {
        session: SessionId,
        side: usize,
        message: Message,
    },
    /// A slow peer took what waited for it, and its queue has room again.
    Drained {
        session: SessionId,
        side: usize,
    },
    /// Somebody should notice by now that a session is cut.
    GiveUp {
        session: SessionId,
    },
    /// A node that was ended is started again.
    Start {
        node: usize,
    },
    /// Somebody makes room on a disk that is full.
    MakeRoom {
        node: usize,
    },
    /// A node looks whether it is connected with those whom it chose, and leaves others.
    Choose {
        node: usize,
        start: u64,
    },
    /// A cut ends.
    Mend {
        ways: Vec<(usize, usize)>,
    },
    /// People do something, or something goes wrong.
    Life,
    /// A second machine with the keys of another ends.
    EndDouble {
        node: usize,
    },
    /// A malicious member does something.
    Misdeed {
        node: usize,
    },
}

#[derive(Debug)]
struct Due {
    at: Time,
    order: u64,
    coming: Coming,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One node: its keys, its machine, and its engine while it runs.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) partner: PartnerId,
    pub(crate) key: SigningKey,
    pub(crate) me: PublicKey,
    pub(crate) sealing: SealingKey,
    pub(crate) engine: Option<Engine>,
    pub(crate) disk: Disk,
    pub(crate) backup: Option<Held>,
    /// What its clock is ahead of true time.
    pub(crate) clock_ahead_ms: i64,
    /// Counts its starts: what was on its way to an earlier one does not arrive.
    pub(crate) start: u64,
    /// It does not run any more, or never did.
    pub(crate) down: bool,
    /// Its store took no more writes: it answers who reads, and does nothing else until it is started again.
    pub(crate) still: bool,
    /// It has the keys of another.
    pub(crate) is_double: bool,
    /// Its disk was put back to an older state, or gave something up, at least once.
    pub(crate) lost_ever: bool,
    /// What it does against the others, if it does.
    pub(crate) malice: Option<Malice>,
    pub(crate) sessions: BTreeMap<PublicKey, SessionId>,
    /// By what it draws its neighbours, fresh at each start.
    draw: [u8; 32],
    /// With whom it keeps connected in a network too large for all to be connected with all, and since when.
    chosen: Option<(Time, BTreeSet<PublicKey>)>,
    pulls: BTreeMap<PullId, StreamId>,
    plain: BTreeMap<CommandId, Vec<u8>>,
    /// Commands without an answer, since when, and what they are.
    pub(crate) waiting: BTreeMap<CommandId, (Time, &'static str)>,
    tick_at: Option<Time>,
    keys: BTreeMap<Hash, EpochKey>,
    /// Epochs that it found it cannot open, and when: of late, before the last start.
    closed: Vec<(Time, CircleId, Hash)>,
    /// The operations it durably holds.
    pub(crate) heard: BTreeMap<CircleId, Heard>,
    /// Those and the ones that its store is writing.
    pub(crate) known: BTreeMap<CircleId, Heard>,
    /// The latter alone, as they came.
    pub(crate) coming: Vec<(CircleId, Hash)>,
    /// What it durably held before the writes that its engine is just told of.
    pub(crate) heard_before: Option<BTreeMap<CircleId, Heard>>,
    pub(crate) frames: u64,
    /// What it sent on any stream, and how many bytes that was.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Node {
    /// Its engine hands an operation to its store.
    fn comes_to_know(&mut self, circle: CircleId, operation: Hash) {
        self.known.entry(circle).or_default().insert(operation);
        self.coming.push((circle, operation));
    }

    /// An operation is durable.
    fn durably_knows(&mut self, circle: CircleId, operation: Hash) {
        self.heard_before.get_or_insert_with(|| self.heard.clone());
        self.heard.entry(circle).or_default().insert(operation);
        self.coming.retain(|coming| *coming != (circle, operation));
    }

    /// What its clock says.
    pub(crate) fn clock(&self, now: Time) -> Time {
        Time(now.0.saturating_add_signed(self.clock_ahead_ms))
    }

    /// Whether its engine runs and is handed what comes.
    pub(crate) fn runs(&self) -> bool {
        self.engine.is_some() && !self.still
    }

    /// Whether it keeps to the protocol.
    pub(crate) fn is_honest(&self) -> bool {
        self.malice.is_none()
    }

    /// How an `add` or a charter names it.
    pub(crate) fn member(&self) -> MemberNode {
        MemberNode { node: self.me, recipient: self.sealing.recipient() }
    }
}

/// What is true, whoever knows it.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) histories: BTreeMap<CircleId, History>,
    /// Every log's circle and opening.
    pub(crate) logs: BTreeMap<(PublicKey, LogId), (CircleId, LogKind, Opening)>,
    /// What every epoch key was wrapped to, by its commitment.
    pub(crate) wrapped: BTreeMap<Hash, Vec<Recipient>>,
    pub(crate) revoked: BTreeSet<PublicKey>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Every entry that its author's own engine wrote.
    pub(crate) written: BTreeSet<Hash>,
    /// The entries that malicious authors signed, by their places.
    signed: BTreeMap<(LogKey, u64), BTreeSet<Hash>>,
    /// Entries that thieves signed with others' keys.
    pub(crate) stolen: BTreeSet<Hash>,
    /// Whose keys those are.
    pub(crate) robbed: BTreeSet<PublicKey>,
    /// Entries that rot took from some node at its start, their circles and their places.
    pub(crate) rotted: BTreeMap<(CircleId, Hash), (LogKey, u64)>,
    /// What a thief certified with the issuer's key, and the entries that say so.
    pub(crate) forged: Vec<(LogKey, u64, Certificate)>,
}

impl Truth {
    /// Somebody malicious signed an entry.
    pub(crate) fn sign(&mut self, entry: &Authentic) {
        self.signed.entry((entry.key(), entry.header().seq)).or_default().insert(entry.hash());
    }

    /// A thief signed an entry with the key of its author.
    pub(crate) fn steal(&mut self, entry: &Authentic) {
        self.stolen.insert(entry.hash());
        self.robbed.insert(entry.key().author);
    }

    /// Whether somebody malicious signed two entries for any place of a log.
    pub(crate) fn forks(&self, key: LogKey) -> bool {
        self.signed.range((key, 0)..=(key, u64::MAX)).any(|(_, signed)| signed.len() > 1)
    }

    /// Whether somebody malicious signed two entries for a place.
    pub(crate) fn is_forked(&self, key: LogKey, seq: u64) -> bool {
        self.signed.get(&(key, seq)).is_some_and(|signed| signed.len() > 1)
    }
}

/// An entry that a node said is durable.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) node: usize,
    pub(crate) key: LogKey,
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    /// The disk it lay on was put back to an older state, or rotted, since: it may be gone for good.
    pub(crate) machine_lost: bool,
}

struct Issuer {
    key: SigningKey,
    writer: Writer,
    /// What it said in its log, and the issuers before it in theirs.
    entries: Vec<EntryBytes>,
    serial: u64,
}

impl Issuer {
    /// How far its log goes.
    fn head(&self) -> Option<CutLine> {
        let last = &self.entries.last()?.header;
        let Header { log, seq, .. } = Header::from_bytes(last).ok()?;
        Some(CutLine { log, height: seq + 1, head: Hash::of(Domain::ENTRY, &[last]) })
    }
}

/// What followed from what was heard, by circle and the name of that.
type Conclusions = BTreeMap<(CircleId, (usize, [u8; 32])), Rc<Conclusion>>;

/// One life of one network.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<Violation>,
    /// Whose message it is that a node's engine is handed at this moment.
    pub(crate) because: Option<usize>,
    /// In a calm no faults come, and everybody runs.
    pub(crate) calm: bool,
    pub(crate) people: Dice,
    pub(crate) faults: Dice,
    pub(crate) lines: Dice,
    disks: Dice,
    secrets: Dice,
    /// As the first version of its document says, with which every node starts.
    root: TrustRoot,
    /// As the latest version says, and the key that signs the next.
    latest_root: TrustRoot,
    root_key: SigningKey,
    issuer: Issuer,
    /// The first issuer's key, which may be stolen.
    first_issuer: SigningKey,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    checkers: Vec<Box<dyn Checker>>,
    /// Over the memory that an engine takes for one input.
    guard: Arc<Guard>,
    next_command: u64,
    pub(crate) texts: u64,
    conclusions: RefCell<Conclusions>,
    /// Nodes dial the neighbours that their engines choose, where not everybody dials everybody.
    pub(crate) sparse: bool,
    by_key: BTreeMap<PublicKey, usize>,
    /// The network circle as it was loaded once, for all who start on a disk that holds just that of it.
    pub(crate) prepared: Option<Replica>,
}

/// What people call the node with this number.
pub(crate) fn name_of(index: usize) -> String {
    format!("p{index:02}")
}

impl World {
    /// A world where the issuer certified so many partners with a node each, and all of them run.
    pub(crate) fn new(plan: Plan, keep_lines: usize, checkers: Vec<Box<dyn Checker>>) -> Self {
        let mut world = Self::bare(plan, keep_lines, checkers);
        let every = world.plan.scenario.people.second_node_every;
        for index in 0..world.plan.nodes {
            let second = index > 1 && every > 0 && index.is_multiple_of(every);
            let partner = if second { world.nodes[index - 1].name.clone() } else { name_of(index) };
            world.enrol(&name_of(index), &partner);
        }
        world.corrupt();
        let down = world.plan.scenario.without_coordinator;
        for index in 0..world.nodes.len() {
            world.nodes[index].down = down && index == 0;
            world.start(index);
        }
        world
    }

    /// A world with an issuer and nobody else.
    pub(crate) fn bare(plan: Plan, keep_lines: usize, checkers: Vec<Box<dyn Checker>>) -> Self {
        let seed = plan.seed;
        let mut secrets = Dice::new(seed, For::Secrets);
        let root_key = SigningKey::from_seed(&secrets.bytes());
        let issuer_key = SigningKey::from_seed(&secrets.bytes());
        let document = RootDocument {
            version: 1,
            name: "simulated".to_owned(),
            keys: vec![root_key.public()],
            threshold: 1,
            issuers: vec![IssuerTerm {
                issuer: issuer_key.public(),
                not_before: Time(START.0 - 1_000),
                not_after: START.plus(90 * Time::DAY_MS),
            }],
            freshness_ms: Time::DAY_MS,
            previous: None,
            dropped: Vec::new(),
        };
        let Ok(root) = TrustRoot::from_first(&SignedRoot::sign(&document, &[&root_key])) else {
            unreachable!("the root document was signed just now")
        };
        let opening = Opening { under: Under::Root(1), cites: Vec::new() };
        let writer = Writer::open(CircleId(root.network().0), issuer_key.clone(), LogId([1; 16]), opening);
        Self {
            now: START,
            nodes: Vec::new(),
            network: Network::default(),
            truth: Truth::default(),
            trace: Trace::new(START, keep_lines),
            violation: None,
            because: None,
            calm: false,
            people: Dice::new(seed, For::People),
            faults: Dice::new(seed, For::Faults),
            lines: Dice::new(seed, For::Network),
            disks: Dice::new(seed, For::Disks),
            secrets,
            latest_root: root.clone(),
            root,
            root_key,
            first_issuer: issuer_key.clone(),
            issuer: Issuer { key: issuer_key, writer, entries: Vec::new(), serial: 0 },
            queue: BinaryHeap::new(),
            order: 0,
            checkers,
            guard: Guard::over(plan.to_string()),
            next_command: 0,
            texts: 0,
            conclusions: RefCell::default(),
            sparse: false,
            by_key: BTreeMap::new(),
            prepared: None,
            plan,
        }
    }

    /// Makes some nodes malicious; never the coordinator's.
    fn corrupt(&mut self) {
        let mut dice = Dice::new(self.plan.seed, For::Malice);
        let share = (self.nodes.len() as u64 * self.plan.malicious_percent).div_ceil(100);
        for _ in 0..share {
            let honest: Vec<usize> = (1..self.nodes.len()).filter(|index| self.nodes[*index].is_honest()).collect();
            if let Some(index) = dice.pick(&honest).copied() {
                self.nodes[index].malice = Malice::draw(dice.fork(), self.plan.malice);
                self.trace.tell(self.now, || {
                    format!(
                        "p{index:02} is malicious: {:?}",
                        self.nodes[index].malice.as_ref().map(|malice| malice.kind)
                    )
                });
                self.plot(index);
            }
        }
    }

    /// The issuer certifies a partner's node, which does not run yet.
    pub(crate) fn enrol(&mut self, name: &str, partner: &str) {
        let key = SigningKey::from_seed(&self.secrets.bytes());
        let sealing = SealingKey::from_bytes(self.secrets.bytes());
        let Ok(partner) = partner.parse::<PartnerId>() else { unreachable!("names are short words") };
        self.issuer.serial += 1;
        let certificate = Certificate {
            suite: 1,
            network: self.root.network(),
            serial: self.issuer.serial,
            node: key.public(),
            recipient: sealing.recipient(),
            partner: partner.clone(),
            name: name.to_owned(),
            not_before: self.now,
            not_after: self.now.plus(certificate::LIFE_MS),
            issuer: self.issuer.key.public(),
        };
        let signed = Signed::sign(&certificate, Domain::CERTIFICATE, &self.issuer.key);
        self.say(&Statement::Certificate(signed));
        self.install(name, partner, key, sealing);
    }

    /// A machine with these keys and an empty disk.
    fn install(&mut self, name: &str, partner: PartnerId, key: SigningKey, sealing: SealingKey) {
        let index = self.nodes.len();
        if !self.sparse {
            (0..index).for_each(|other| self.draw_ways(index, other));
        }
        self.by_key.insert(key.public(), index);
        self.nodes.push(Node {
            name: name.to_owned(),
            partner,
            draw: [0; 32],
            chosen: None,
            me: key.public(),
            key,
            sealing,
            engine: None,
            disk: Disk::default(),
            backup: None,
            clock_ahead_ms: 0,
            start: 0,
            down: false,
            still: false,
            is_double: false,
            lost_ever: false,
            malice: None,
            sessions: BTreeMap::new(),
            pulls: BTreeMap::new(),
            plain: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tick_at: None,
            keys: BTreeMap::new(),
            closed: Vec::new(),
            heard: BTreeMap::new(),
            known: BTreeMap::new(),
            coming: Vec::new(),
            heard_before: None,
            frames: 0,
            messages: 0,
            bytes: 0,
        });
        self.skew(index);
    }

    /// A clock is as wrong as clocks are that nobody looks at.
    pub(crate) fn skew(&mut self, node: usize) {
        let skew = self.plan.scenario.faults.clock_skew_ms;
        self.nodes[node].clock_ahead_ms = self.faults.below(2 * skew + 1) as i64 - skew as i64;
    }

    /// A second machine starts on a copy of a node's disk, its keys among it, and runs for a while.
    pub(crate) fn clone_node(&mut self, index: usize) {
        let node = &self.nodes[index];
        let (name, partner, key) = (format!("{}'", node.name), node.partner.clone(), node.key.clone());
        let (sealing, disk) = (SealingKey::from_bytes(*node.sealing.to_bytes()), node.disk.copy());
        self.install(&name, partner, key, sealing);
        let double = self.nodes.len() - 1;
        self.trace.tell(self.now, || format!("a second machine starts as {}", self.nodes[index].name));
        self.nodes[double].disk = disk;
        self.nodes[double].is_double = true;
        for node in [index, double] {
            self.nodes[node].lost_ever = true;
        }
        self.start(double);
        let while_ms = self.faults.between(60_000, 900_000);
        self.schedule(self.now.plus(while_ms), Coming::EndDouble { node: double });
    }

    /// Whoever runs a second machine with the keys of another noticed, and ends it for good.
    fn end_double(&mut self, index: usize) {
        self.end(index, false);
        self.nodes[index].down = true;
    }

    /// No two machines have the same keys any more.
    pub(crate) fn end_doubles(&mut self) {
        let doubles: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_double).collect();
        doubles.into_iter().for_each(|index| self.end_double(index));
    }

    /// Lays the ways between two nodes, unless they are there.
    fn draw_ways(&mut self, a: usize, b: usize) {
        for way in [(a, b), (b, a)] {
            if !self.network.ways.contains_key(&way) {
                let drawn = self.draw_way();
                self.network.ways.insert(way, drawn);
            }
        }
    }

    fn draw_way(&mut self) -> Way {
        let ways = &self.plan.scenario.network;
        let slow = self.lines.per_mille(ways.slow_per_mille);
        let latency = self.lines.between(ways.latency_ms[0], ways.latency_ms[1] + 1);
        let latency_ms = if slow { 400 + 10 * latency } else { latency };
        let bytes_per_ms = self.lines.between(ways.bytes_per_ms[0], ways.bytes_per_ms[1] + 1);
        Way { latency_ms, jitter_ms: ways.jitter_ms, bytes_per_ms }
    }

    /// The issuer says something.
    pub(crate) fn say(&mut self, statement: &Statement) {
        let draft =
            Draft { suite: Suite::Network, epoch: None, payload: statement.to_bytes(), expiry: None, retracts: None };
        let entry = self.issuer.writer.append(self.now, draft);
        let header = entry.header();
        if let Some(opening) = &header.opening {
            let place = (header.author, header.log);
            self.truth.logs.insert(place, (header.circle, LogKind::Network, opening.clone()));
        }
        self.issuer.entries.push(entry.bytes().clone());
    }

    /// A next version of the root document, signed: it asks for a word less fresh, or has another issuer in the place of
    /// this one, of which all stands that it said so far. Gives all versions: a node that was full may lack one before it.
    pub(crate) fn sign_root(&mut self, replaces_issuer: bool) -> Option<Vec<SignedRoot>> {
        let (key, log) = (SigningKey::from_seed(&self.secrets.bytes()), LogId(self.secrets.log()));
        let dropped =
            DroppedIssuer { issuer: self.issuer.key.public(), heads: self.issuer.head().into_iter().collect() };
        let proposal = self.latest_root.propose(|document| match replaces_issuer {
            true => {
                document.issuers.iter_mut().for_each(|term| term.issuer = key.public());
                document.dropped.push(dropped);
            }
            false => document.freshness_ms += Time::DAY_MS,
        });
        let mut signed = proposal.ok()?;
        signed.add_signature(&self.root_key);
        self.latest_root.adopt(std::slice::from_ref(&signed)).ok()?;
        if replaces_issuer {
            let opening = Opening { under: Under::Root(self.latest_root.version()), cites: Vec::new() };
            self.issuer.writer = Writer::open(CircleId(self.root.network().0), key.clone(), log, opening);
            self.issuer.key = key;
            self.say(&Statement::NothingElse);
        }
        Some(self.latest_root.chain().0)
    }

    /// A thief of the first issuer's key certifies a key as a node of somebody's partner, in a log of its own.
    pub(crate) fn forge_certificate(
        &mut self,
        writer: &mut Option<Writer>,
        log: LogId,
        serial: u64,
        (victim, node, recipient): (usize, PublicKey, Recipient),
    ) -> EntryBytes {
        let certificate = Certificate {
            suite: 1,
            network: self.root.network(),
            serial,
            node,
            recipient,
            partner: self.nodes[victim].partner.clone(),
            name: self.nodes[victim].name.clone(),
            not_before: self.now,
            not_after: self.now.plus(certificate::LIFE_MS),
            issuer: self.first_issuer.public(),
        };
        let signed = Signed::sign(&certificate, Domain::CERTIFICATE, &self.first_issuer);
        let payload = Statement::Certificate(signed).to_bytes();
        let writer = writer.get_or_insert_with(|| {
            let opening = Opening { under: Under::Root(1), cites: Vec::new() };
            Writer::open(CircleId(self.root.network().0), self.first_issuer.clone(), log, opening)
        });
        let draft = Draft { suite: Suite::Network, epoch: None, payload, expiry: None, retracts: None };
        let entry = writer.append(self.now, draft);
        self.truth.forged.push((entry.key(), entry.header().seq, certificate));
        entry.bytes().clone()
    }

    /// The issuers' logs.
    pub(crate) fn issuers_word(&self) -> Vec<EntryBytes> {
        self.issuer.entries.clone()
    }

    /// Hands a running node the issuer's log, as the coordinator's own tool would.
    pub(crate) fn import_issuers_word(&mut self, node: usize) {
        let entries = self.issuers_word();
        self.input(node, Input::Import { entries });
    }

    // ---- Time.

    pub(crate) fn schedule(&mut self, at: Time, coming: Coming) {
        self.queue.push(Reverse(Due { at, order: self.order, coming }));
        self.order += 1;
    }

    /// Lets so much time pass; less, when something is wrong.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.violation.is_none() {
            match self.queue.peek() {
                Some(Reverse(due)) if due.at <= end => {}
                _ => break,
            }
            let Some(Reverse(Due { at, coming, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.happen(coming);
        }
        if self.violation.is_none() {
            self.now = end;
        }
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Local { node, start, input } => {
                if self.nodes[node].start == start {
                    self.input(node, input);
                }
            }
            Coming::Synced { node, start } => {
                if self.nodes[node].start == start {
                    self.synced(node);
                }
            }
            Coming::Tick { node, at } => {
                if self.nodes[node].tick_at == Some(at) {
                    self.nodes[node].tick_at = None;
                    self.input(node, Input::Tick);
                }
            }
            Coming::Dial { a, b } => self.dial(a, b),
            Coming::Up { session, side } => self.session_up(session, side),
            Coming::Down { session, side } => self.session_down(session, side),
            Coming::Arrive { session, side, message } => self.arrive(session, side, message),
            Coming::Drained { session, side } => self.drained(session, side),
            Coming::GiveUp { session } => self.give_up(session),
            Coming::Start { node } => self.start(node),
            Coming::MakeRoom { node } => self.make_room(node),
            Coming::Choose { node, start } => {
                if self.nodes[node].start == start {
                    self.leave_displaced(node);
                }
            }
            Coming::Mend { ways } => self.mend(&ways),
            Coming::Life => self.live(),
            Coming::EndDouble { node } => self.end_double(node),
            Coming::Misdeed { node } => self.misdeed(node),
        }
    }

    // ---- Nodes.

    /// What a node's engine is started with.
    pub(crate) fn config(&self, index: usize) -> Config {
        Config { key: self.nodes[index].key.clone(), root: self.root.clone(), accept: AcceptRule::Certified }
    }

    /// Starts a node on what its disk holds, unless it runs or must stay down.
    pub(crate) fn start(&mut self, index: usize) {
        if self.nodes[index].engine.is_some() || self.nodes[index].down {
            return;
        }
        let config = self.config(index);
        self.guard.begins(index, "a start");
        let node = &mut self.nodes[index];
        let lost = node.disk.scrub();
        let prepared = self.prepared.as_ref().filter(|network| node.disk.held().holds_just(network));
        let opened = match prepared {
            Some(network) => Engine::open_on(config, network.clone(), Vec::new(), node.clock(self.now), &node.disk),
            None => Engine::open(config, node.clock(self.now), &node.disk),
        };
        if !lost.is_empty() {
            self.forgive(index, |_, told| lost.contains(&(told.key, told.seq, told.hash)));
        }
        self.truth.rotted.extend(lost.into_iter().map(|(key, seq, hash)| ((key.circle, hash), (key, seq))));
        self.ends_within_bounds();
        let node = &mut self.nodes[index];
        node.start += 1;
        node.chosen = None;
        node.heard.clear();
        node.known.clear();
        node.coming.clear();
        let start = node.start;
        self.trace.event(self.now, 1, index, &start.to_be_bytes());
        match opened {
            Ok(engine) => self.nodes[index].engine = Some(engine),
            Err(damage) => {
                let story = format!("{} does not start: {damage}", self.nodes[index].name);
                self.violated("I3", story);
                return;
            }
        }
        let circles = self.truth.histories.keys().copied().collect::<Vec<_>>();
        circles.iter().for_each(|circle| self.hear_from_disk(index, circle));
        self.trace.tell(self.now, || format!("{} starts", name_of(index)));
        self.saw(&Seen::Started { node: index });
        self.drain(index);
        // What a node's view had no time to note it opens again.
        for (_, circle, epoch) in std::mem::take(&mut self.nodes[index].closed) {
            if let Ok(Some(bytes)) = self.nodes[index].disk.record(&circle, &epoch) {
                self.open_record(index, circle, epoch, &bytes);
            }
        }
        if self.nodes[index].disk.held().logs.is_empty() {
            self.import_issuers_word(index);
        }
        if self.sparse {
            self.nodes[index].draw = self.lines.bytes();
        }
        if self.chooses() {
            self.schedule(self.now.plus(CHOOSES_EVERY_MS), Coming::Choose { node: index, start });
        }
        self.dial_others(index);
    }

    /// A node's engine took in what its disk holds of a circle.
    fn hear_from_disk(&mut self, index: usize, circle: &CircleId) {
        let node = &mut self.nodes[index];
        let Some(replica) = node.engine.as_ref().and_then(|engine| engine.circle(circle)) else { return };
        // What builds on something that rotted is on the disk, and does not act.
        let acts = |hash: &&Hash| replica.control().is_some_and(|control| control.holds(hash));
        let control = |key: &LogKey| {
            let told = self.truth.logs.get(&(key.author, key.log));
            key.circle == *circle && told.is_some_and(|(_, kind, _)| *kind == LogKind::Control)
        };
        let logs = node.disk.held().logs.iter().filter(|(key, _)| control(key));
        let operations = logs.flat_map(|(_, log)| log.iter().map(|(hash, _)| hash));
        let (branches, _) = branches::held(&node.disk, circle).unwrap_or_default();
        let branches: Vec<Hash> = branches.iter().map(|entry| entry.hash()).collect();
        let heard = node.heard.entry(*circle).or_default();
        heard.extend(operations.chain(&branches).filter(acts));
        node.known.insert(*circle, heard.clone());
    }

    /// A node dials whom it wants to be connected with.
    fn dial_others(&mut self, index: usize) {
        let node = &self.nodes[index];
        let Some(engine) = node.engine.as_ref() else { return };
        let others: Vec<usize> = if self.sparse {
            let draw = Draw { breadth: Breadth::default(), seed: node.draw, now: node.clock(self.now) };
            let chosen = engine.neighbours(&draw, Standpoint::Reachable, |_| Reach::Open);
            chosen.iter().filter_map(|other| self.by_key.get(other).copied()).collect()
        } else {
            (0..self.nodes.len()).filter(|other| *other != index).collect()
        };
        others.into_iter().for_each(|other| self.dial_later(index, other, 200, 3_000));
    }

    /// Ends a node at once. `power`: its peers are not told, and find out in their own time. Gives back the engine
    /// that it had.
    pub(crate) fn end(&mut self, index: usize, power: bool) -> Option<Engine> {
        let node = &mut self.nodes[index];
        let engine = node.engine.take()?;
        node.still = false;
        node.keys.clear();
        node.closed.retain(|(at, ..)| self.now.since(*at) < MINUTE_MS);
        let sessions = self.stops(index);
        let node = &mut self.nodes[index];
        let disks = &mut self.disks;
        let made_it = node.disk.crash(|bound| disks.below(bound));
        self.trace.event(self.now, 2, index, &(made_it.len() as u64).to_be_bytes());
        let how = if power { "loses power" } else { "is killed" };
        self.trace.tell(self.now, || format!("{} {how}; {} unsynced writes survive", name_of(index), made_it.len()));
        for id in sessions.into_values() {
            let late = if power { self.lines.between(10_000, 40_000) } else { self.lines.between(1, 100) };
            self.close(id, [late, late]);
        }
        Some(engine)
    }

    /// What a node was about to do it does not do any more. Gives back the sessions that it had.
    fn stops(&mut self, index: usize) -> BTreeMap<PublicKey, SessionId> {
        let node = &mut self.nodes[index];
        node.start += 1;
        node.plain.clear();
        node.waiting.clear();
        node.pulls.clear();
        node.tick_at = None;
        std::mem::take(&mut node.sessions)
    }

    /// The store took no write. What its engine says from here on might depend on it, and is not acted on; it leaves the
    /// network, and what waits for the disk stays there until it ends.
    fn stand_still(&mut self, index: usize) {
        self.trace.tell(self.now, || format!("the disk of {} is full: it takes no more writes", name_of(index)));
        self.trace.event(self.now, 13, index, &[]);
        let sessions = self.stops(index);
        let node = &mut self.nodes[index];
        node.still = true;
        let clock = node.clock(self.now);
        if let Some(engine) = &mut node.engine {
            for (peer, session) in &sessions {
                engine.handle(clock, Input::PeerDown { peer: *peer, session: *session }, &node.disk);
            }
            while engine.poll_output().is_some() {}
        }
        self.saw(&Seen::StandsStill { node: index });
        for id in sessions.into_values() {
            self.close(id, [1, 1]);
        }
    }

    /// There is room on a disk again. Whoever stood still for it is started anew.
    pub(crate) fn make_room(&mut self, index: usize) {
        self.nodes[index].disk.fill(false);
        if self.nodes[index].still {
            self.end(index, false);
            let wait = self.faults.between(200, 60_000);
            self.schedule(self.now.plus(wait), Coming::Start { node: index });
        }
    }

    /// Ends a node and puts its disk back to the backup that was made of it.
    pub(crate) fn restore(&mut self, index: usize) {
        let Some(backup) = self.nodes[index].backup.clone() else { return };
        self.end(index, false);
        self.trace.tell(self.now, || format!("{} is put back to an old backup", name_of(index)));
        self.nodes[index].disk.restore(backup);
        self.forgive(index, |held, told| held.hash_at(&told.key, told.seq) != Some(told.hash));
        let wait = self.people.between(1_000, 60_000);
        self.schedule(self.now.plus(wait), Coming::Start { node: index });
    }

    /// What was acknowledged here and is gone from this disk may be gone for good, by no fault of the protocol.
    fn forgive(&mut self, index: usize, gone: impl Fn(&Held, &Acknowledged) -> bool) {
        self.nodes[index].lost_ever = true;
        let held = self.nodes[index].disk.held();
        for told in self.truth.acknowledged.iter_mut().filter(|told| told.node == index) {
            told.machine_lost |= gone(held, told);
        }
    }

    /// Hands an input to a node's engine, if it runs.
    pub(crate) fn input(&mut self, index: usize, input: Input) {
        if self.violation.is_some() {
            return;
        }
        let node = &mut self.nodes[index];
        let clock = node.clock(self.now);
        let Some(engine) = node.engine.as_mut().filter(|_| !node.still) else { return };
        self.guard.begins(index, kind_of(&input));
        engine.handle(clock, input, &node.disk);
        self.drain(index);
        self.ends_within_bounds();
    }

    /// An engine is done with an input, and with what followed from that.
    fn ends_within_bounds(&mut self) {
        if let Some(story) = self.guard.ends() {
            self.violated("I7", story);
        }
    }

    /// Gives a command, as a person does.
    pub(crate) fn command(&mut self, index: usize, what: &'static str, command: Command, plain: Option<Vec<u8>>) {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        let random = self.secrets.bytes();
        let node = &mut self.nodes[index];
        if !node.runs() {
            return;
        }
        node.plain.extend(plain.map(|plain| (id, plain)));
        node.waiting.insert(id, (self.now, what));
        self.trace.event(self.now, 3, index, what.as_bytes());
        self.saw(&Seen::Asked { node: index, id, command: &command });
        self.input(index, Input::Command { id, command, random });
    }

    fn drain(&mut self, index: usize) {
        loop {
            let Some(engine) = &mut self.nodes[index].engine else { return };
            let Some(output) = engine.poll_output() else { break };
            self.carry_out(index, output);
            if self.violation.is_some() || self.nodes[index].still {
                return;
            }
        }
        let node = &mut self.nodes[index];
        let clock = node.clock(self.now);
        let Some(engine) = &node.engine else { return };
        let wanted = engine.next_deadline().map(|at| self.now.plus(at.since(clock).max(1)));
        if node.tick_at != wanted {
            node.tick_at = wanted;
            if let Some(at) = wanted {
                self.schedule(at, Coming::Tick { node: index, at });
            }
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Send { session, bytes, .. } => {
                self.trace.event(self.now, 4, index, &bytes);
                self.nodes[index].frames += 1;
                let keeps_back = |malice: &Malice| malice.keeps_back(&bytes);
                let kept = self.nodes[index].malice.as_ref().is_some_and(keeps_back);
                if let Some(side) = self.side(index, session).filter(|_| !kept) {
                    let to = self.network.sessions[&session].ends[1 - side].node;
                    let read = self.nodes[index].is_honest() && !self.checkers.is_empty();
                    let frame = if read { Frame::from_bytes(&bytes).ok() } else { None };
                    self.saw(&Seen::Sent { from: index, to, frame: frame.as_ref() });
                    if !self.is_lost(session, 1 - side) {
                        self.deliver(session, 1 - side, Message::Frame(bytes));
                    }
                }
            }
            Output::Pull { session, pull, bytes, .. } => {
                self.trace.event(self.now, 5, index, &bytes);
                if let Some(side) = self.side(index, session) {
                    let stream = self.network.open_stream(Ask { session, pull, side });
                    self.nodes[index].pulls.insert(pull, stream);
                    self.deliver(session, 1 - side, Message::RunRequest(stream, bytes));
                }
            }
            Output::CancelPull { pull } => {
                if let Some(stream) = self.nodes[index].pulls.remove(&pull) {
                    self.network.asks.remove(&stream);
                }
            }
            Output::SendRun { stream, key, from, to, epoch } => {
                self.send_run(index, stream, &key, from, to, epoch);
            }
            Output::RefuseRun { stream } => {
                if let Some(ask) = self.network.asks.get(&stream).copied() {
                    self.deliver(ask.session, ask.side, Message::RunEnd(stream));
                }
            }
            Output::Store { ticket, writes } => {
                self.handed_to_store(index, &writes);
                match self.nodes[index].disk.submit(ticket, writes) {
                    Ok(true) => self.begin_sync(index),
                    Ok(false) => {}
                    Err(Full) => self.stand_still(index),
                }
            }
            Output::Disconnect { session, reason, .. } => {
                self.trace.tell(self.now, || format!("{} disconnects session {}: {reason}", name_of(index), session.0));
                if let Some(side) = self.side(index, session) {
                    let peer = self.network.sessions[&session].ends[1 - side].node;
                    self.saw(&Seen::Disconnected { node: index, peer, reason: &reason });
                }
                let late = self.lines.between(1, 100);
                self.close(session, [late, late]);
            }
            Output::Seal { id, circle, target } => self.seal(index, id, circle, &target),
            Output::MakeEpoch { circle, recipients } => {
                let mut key = self.secrets.bytes();
                let commitment = EpochKey::from_bytes(key).commitment();
                let recipients = match &mut self.nodes[index].malice {
                    Some(malice) => malice.wrap(recipients, &mut key),
                    None => recipients,
                };
                let input = match StandIn.seal_to_recipients(&recipients, &key) {
                    Ok(wrapped) => Input::EpochSealed { circle, commitment, wrapped },
                    Err(refusal) => Input::NotSealed { id: None, circle, why: refusal.to_string() },
                };
                self.truth.wrapped.insert(commitment, recipients);
                self.local(index, 1, input);
            }
            Output::SealKeys { peer, session, circle, recipient, epochs } => {
                let seal = |epoch: Hash| {
                    let key = self.right_key(index, circle, epoch, None)?;
                    let wrapped = StandIn.seal_to_recipients(&[recipient], key.to_bytes().as_slice()).ok()?;
                    Some(GivenKey { epoch, wrapped })
                };
                let keys = epochs.into_iter().filter_map(seal).collect();
                self.local(index, 1, Input::KeysSealed { peer, session, circle, keys });
            }
            Output::CheckKeys { peer, circle, keys } => {
                let is_right = |key: &GivenKey| self.right_key(index, circle, key.epoch, Some(&key.wrapped)).is_some();
                let (right, wrong): (Vec<GivenKey>, Vec<GivenKey>) = keys.into_iter().partition(is_right);
                let wrong = wrong.into_iter().map(|key| key.epoch).collect();
                self.local(index, 1, Input::KeysChecked { peer, circle, right, wrong });
            }
            Output::Given { circle, epochs } => {
                self.saw(&Seen::Given { node: index, circle: &circle, epochs: &epochs });
            }
            Output::Accepted { key, height } => self.saw(&Seen::Accepted { node: index, key, height }),
            Output::Retracted { key, seq, hash, retracted } => {
                self.saw(&Seen::Retracted { node: index, key, seq, hash, retracted });
            }
            // What was dropped checkers see on the disk.
            Output::Dropped { key, total, .. } => {
                let log = key.log;
                self.trace
                    .tell(self.now, || format!("{} dropped {total} payloads of log {log} so far", name_of(index)));
            }
            Output::Reply { id, reply } => self.replied(index, id, &reply),
            Output::Emit(event) => {
                self.trace.tell(self.now, || format!("{} notes {event:?}", name_of(index)));
                self.saw(&Seen::Noted { node: index, event: &event });
                // Revocations and certificates are left to the next start: a choice takes a look at everybody, and here
                // a thousand nodes would take it at once.
                if let Event::MembershipChanged { circle } = &event
                    && self.sparse
                    && self.nodes[index].engine.as_ref().is_some_and(|engine| engine.network() != *circle)
                {
                    self.dial_others(index);
                }
            }
        }
    }

    fn local(&mut self, node: usize, ms: u64, input: Input) {
        let start = self.nodes[node].start;
        self.schedule(self.now.plus(ms), Coming::Local { node, start, input });
    }

    fn replied(&mut self, index: usize, id: CommandId, reply: &Result<Reply, CommandRefusal>) {
        let node = &mut self.nodes[index];
        node.plain.remove(&id);
        let asked = node.waiting.remove(&id);
        self.trace.event(self.now, 6, index, &[u8::from(reply.is_ok())]);
        if let (Err(refusal), Some((_, what))) = (reply, asked) {
            self.trace.tell(self.now, || format!("{} is refused to {what}: {refusal}", name_of(index)));
        }
        self.saw(&Seen::Replied { node: index, id, reply });
        if let Ok(Reply::Appended { place, hash }) = reply {
            let acknowledged =
                Acknowledged { node: index, key: place.key, seq: place.seq, hash: *hash, machine_lost: false };
            self.truth.acknowledged.push(acknowledged);
        }
    }

    // ---- Disks.

    fn begin_sync(&mut self, node: usize) {
        let slow = self.disks.per_mille(self.plan.scenario.faults.slow_sync_per_mille);
        let takes = if slow { self.disks.between(500, 6_000) } else { self.disks.between(1, 5) };
        let start = self.nodes[node].start;
        self.schedule(self.now.plus(takes), Coming::Synced { node, start });
    }

    fn synced(&mut self, index: usize) {
        for (ticket, writes) in self.nodes[index].disk.end_sync() {
            self.trace.event(self.now, 7, index, &ticket.0.to_be_bytes());
            self.became_durable(index, &writes);
            self.input(index, Input::Stored { ticket });
            self.nodes[index].heard_before = None;
        }
        if self.nodes[index].runs() && self.nodes[index].disk.begin_sync() {
            self.begin_sync(index);
        }
    }

    fn became_durable(&mut self, index: usize, writes: &[Write]) {
        for write in writes {
            if let Write::Entry(entry) = write
                && entry.header().suite == Suite::Control
            {
                self.nodes[index].durably_knows(entry.key().circle, entry.hash());
            }
            if let Some((circle, entry)) = operation_in(write) {
                self.nodes[index].durably_knows(circle, entry.hash());
            }
        }
    }

    /// A node's engine hands something to its store for the first time: the truth learns of it.
    fn handed_to_store(&mut self, index: usize, writes: &[Write]) {
        for write in writes {
            let mut fresh = false;
            match write {
                Write::Entry(entry) => {
                    let (header, key) = (entry.header(), entry.key());
                    if let Some(opening) = &header.opening {
                        let place = (key.author, key.log);
                        let told = (key.circle, header.suite.kind(), opening.clone());
                        self.truth.logs.entry(place).or_insert(told);
                    }
                    if header.suite == Suite::Control
                        && let Some(history) = self.truth.histories.get_mut(&key.circle)
                    {
                        history.hear(header, entry.hash(), entry.bytes().payload.sealed().unwrap_or_default());
                        self.nodes[index].comes_to_know(key.circle, entry.hash());
                    }
                    if key.author == self.nodes[index].me {
                        fresh = self.truth.written.insert(entry.hash());
                    }
                }
                Write::Record { circle, hash, bytes } => self.open_record(index, *circle, *hash, bytes),
                Write::Fact { .. } if operation_in(write).is_some() => {
                    if let Some((circle, entry)) = operation_in(write)
                        && let Some(history) = self.truth.histories.get_mut(&circle)
                    {
                        history.hear(entry.header(), entry.hash(), entry.payload().unwrap_or_default());
                        self.nodes[index].comes_to_know(circle, entry.hash());
                    }
                }
                Write::Fact { key, .. } if key.starts_with(b"circle/") => {
                    // Its charter came again, if its disk holds more of it.
                    let circles = self.truth.histories.keys().copied();
                    let circle = circles.into_iter().find(|circle| key.ends_with(&circle.0.0));
                    circle.into_iter().for_each(|circle| self.hear_from_disk(index, &circle));
                }
                Write::Fact { .. }
                | Write::Mend(_)
                | Write::Erase { .. }
                | Write::Drop { .. }
                | Write::Rewind { .. } => {}
            }
            self.saw(&Seen::HandedToStore { node: index, write, fresh });
        }
    }

    /// A node tries the key of every record that comes to it, as a node does when it opens entries.
    fn open_record(&mut self, index: usize, circle: CircleId, epoch: Hash, bytes: &[u8]) {
        let node = &mut self.nodes[index];
        let Some(record) = read_record(bytes) else { return };
        let opened = StandIn.open_with_key(&node.sealing, &record.wrapped, 64).ok();
        let key = opened.and_then(|key| Some(EpochKey::from_bytes(key.try_into().ok()?)));
        let fits = key.filter(|key| key.commitment() == record.commitment);
        let named = node.engine.as_ref().and_then(|engine| engine.circle(&circle)?.epoch(&epoch));
        let named = named.is_some_and(|epoch| epoch.names(&node.me));
        match fits {
            Some(key) => drop(node.keys.insert(epoch, key)),
            None if named => {
                node.closed.push((self.now, circle, epoch));
                self.local(index, 1, Input::Unopenable { circle, epoch });
            }
            None => {}
        }
    }

    fn epoch_key(&mut self, index: usize, circle: CircleId, epoch: Hash) -> Option<&EpochKey> {
        let node = &mut self.nodes[index];
        if !node.keys.contains_key(&epoch) {
            let bytes = node.disk.record(&circle, &epoch).ok()??;
            let record = read_record(&bytes)?;
            let key = StandIn.open_with_key(&node.sealing, &record.wrapped, 64).ok()?;
            node.keys.insert(epoch, EpochKey::from_bytes(key.try_into().ok()?));
        }
        node.keys.get(&epoch)
    }

    /// The key of an epoch, from its record or as it was handed over, if it is the one its maker committed to.
    pub(crate) fn right_key(
        &self,
        index: usize,
        circle: CircleId,
        epoch: Hash,
        handed: Option<&[u8]>,
    ) -> Option<EpochKey> {
        let node = &self.nodes[index];
        let record = read_record(&node.disk.record(&circle, &epoch).ok()??)?;
        let open = |wrapped: &[u8]| {
            let key = StandIn.open_with_key(&node.sealing, wrapped, 64).ok()?;
            let key = EpochKey::from_bytes(key.try_into().ok()?);
            (key.commitment() == record.commitment).then_some(key)
        };
        let kept = || {
            let facts = known_facts(&node.disk, &given_key(&circle, &epoch)).ok()?;
            open(&facts.first()?.1)
        };
        match handed {
            Some(wrapped) => open(wrapped),
            None => open(&record.wrapped).or_else(kept),
        }
    }

    fn seal(&mut self, index: usize, id: CommandId, circle: CircleId, target: &SealTarget) {
        let plain = self.nodes[index].plain.get(&id).cloned().unwrap_or_default();
        let sealed = match target {
            SealTarget::Epoch(epoch) => {
                self.epoch_key(index, circle, *epoch).map(|key| StandIn.seal_to_epoch(key, &plain))
            }
            SealTarget::Recipients(recipients) => StandIn.seal_to_recipients(recipients, &plain).ok(),
        };
        let random = self.secrets.bytes();
        let input = match sealed {
            Some(payload) => Input::Sealed { id, payload, random },
            None => Input::NotSealed { id: Some(id), circle, why: "its key does not open".to_owned() },
        };
        // Sealing runs beside the engine, and has a busy machine's time.
        let slow = self.disks.per_mille(self.plan.scenario.faults.slow_sync_per_mille);
        let takes = if slow { self.disks.between(500, 6_000) } else { 1 };
        self.local(index, takes, input);
    }

    // ---- Sessions and what travels on them.

    /// Which end of a session a node is, while it knows of it.
    pub(crate) fn side(&self, node: usize, session: SessionId) -> Option<usize> {
        let known = self.network.sessions.get(&session)?;
        let side = known.side_of(node);
        let peer = self.nodes[known.ends[1 - side].node].me;
        (self.nodes[node].sessions.get(&peer) == Some(&session)).then_some(side)
    }

    pub(crate) fn dial_later(&mut self, a: usize, b: usize, low: u64, high: u64) {
        let pair = Network::pair(a, b);
        if self.network.pairs.contains_key(&pair) || !self.network.dialling.insert(pair) {
            return;
        }
        let wait = self.lines.between(low, high);
        self.schedule(self.now.plus(wait), Coming::Dial { a, b });
    }

    fn dial(&mut self, a: usize, b: usize) {
        let pair = Network::pair(a, b);
        self.network.dialling.remove(&pair);
        let running = |node: usize| self.nodes[node].runs();
        if self.nodes[a].me == self.nodes[b].me {
            return;
        }
        if self.network.pairs.contains_key(&pair) {
            return;
        }
        if !running(a) || !running(b) {
            // Whoever starts dials everybody, or else those alone that it chose.
            if self.sparse && (running(a) || running(b)) {
                self.dial_later(a, b, 5_000, 30_000);
            }
            return;
        }
        let refuses = |node: usize, peer: usize| {
            let engine = self.nodes[node].engine.as_ref();
            engine.is_some_and(|engine| engine.word().revocation(&self.nodes[peer].me).is_some())
        };
        if self.network.is_cut(a, b) || self.network.is_cut(b, a) || refuses(a, b) || refuses(b, a) {
            self.dial_later(a, b, 5_000, 30_000);
            return;
        }
        if self.chooses() && !self.chose(a, b) && !self.chose(b, a) {
            // Neighbours are replaced now and then.
            self.dial_later(a, b, 60_000, 120_000);
            return;
        }
        self.draw_ways(a, b);
        let either = self.lines.per_mille(500);
        // Where not all are connected with all, whoever chose the other dials it.
        let a_dials = if self.chooses() { self.chose(a, b) && (either || !self.chose(b, a)) } else { either };
        let (dialler, listener) = if a_dials { (a, b) } else { (b, a) };
        let end = |node: usize| End { node, start: self.nodes[node].start };
        let session = self.network.open(end(dialler), end(listener), self.now);
        let rtt = self.network.ways[&(a, b)].latency_ms + self.network.ways[&(b, a)].latency_ms;
        for side in [1, 0] {
            self.schedule(self.now.plus(rtt + 1), Coming::Up { session, side });
        }
    }

    /// Whether the network of a life is too large for all to be connected with all.
    fn chooses(&self) -> bool {
        !self.sparse && self.nodes.len() > limits::ALL_TO_ALL
    }

    /// A node leaves those that it dialled a while ago and does not want as neighbours any more, as a daemon does.
    fn leave_displaced(&mut self, index: usize) {
        let start = self.nodes[index].start;
        self.schedule(self.now.plus(CHOOSES_EVERY_MS), Coming::Choose { node: index, start });
        let sessions: Vec<SessionId> = self.nodes[index].sessions.values().copied().collect();
        for id in sessions {
            let Some(session) = self.network.sessions.get(&id).filter(|session| session.side_of(index) == 0) else {
                continue;
            };
            let (since, other) = (session.since, session.ends[1].node);
            if self.now.since(since) >= KEEP_MS && !self.chose(index, other) {
                self.trace
                    .tell(self.now, || format!("p{index:02} leaves p{other:02}: another neighbour takes its place"));
                let late = self.lines.between(1, 100);
                self.close(id, [1, late]);
            }
        }
    }

    /// Whether a node keeps connected with another, in a network too large for all to be connected with all.
    fn chose(&mut self, node: usize, other: usize) -> bool {
        let state = &self.nodes[node];
        let Some(engine) = &state.engine else { return false };
        if state.chosen.as_ref().is_none_or(|(at, _)| self.now.since(*at) >= CHOOSES_EVERY_MS) {
            let seed = Hash::of(Domain::NEIGHBOUR, &[&state.me.0, &state.start.to_be_bytes()]).0;
            let draw = Draw { breadth: Breadth::default(), seed, now: self.now };
            let there = |index: &usize| {
                let cut = self.network.is_cut(node, *index) || self.network.is_cut(*index, node);
                self.nodes[*index].runs() && !cut
            };
            let there: BTreeSet<PublicKey> =
                (0..self.nodes.len()).filter(there).map(|index| self.nodes[index].me).collect();
            let reach = |peer: &PublicKey| if there.contains(peer) { Reach::Open } else { Reach::Failing };
            let chosen = engine.neighbours(&draw, Standpoint::Reachable, reach);
            self.nodes[node].chosen = Some((self.now, chosen));
        }
        let chosen = self.nodes[node].chosen.as_ref();
        chosen.is_some_and(|(_, chosen)| chosen.contains(&self.nodes[other].me))
    }

    fn session_up(&mut self, id: SessionId, side: usize) {
        let Some(session) = self.network.sessions.get(&id) else { return };
        let (end, other) = (session.ends[side], session.ends[1 - side]);
        if session.broken {
            return;
        }
        if self.nodes[end.node].start != end.start {
            // It ended before it heard of the session, of which the other end may have heard.
            self.close(id, [1, 1]);
            return;
        }
        let peer = self.nodes[other.node].me;
        if let Some(before) = self.nodes[end.node].sessions.insert(peer, id) {
            // Two machines with one key, or a session whose end was not noticed yet: one session for each key.
            self.close(before, [1, 1]);
        }
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&self.secrets.bytes()[..16]);
        self.trace.event(self.now, 8, end.node, &id.0.to_be_bytes());
        self.input(end.node, Input::PeerUp { peer, session: id, dialled: side == 0, nonce: Nonce(nonce) });
    }

    /// Ends a session; each end learns of it so much later.
    pub(crate) fn close(&mut self, id: SessionId, late: [u64; 2]) {
        let Some(session) = self.network.sessions.get_mut(&id) else { return };
        if std::mem::replace(&mut session.broken, true) {
            return;
        }
        let (a, b) = (session.ends[0].node, session.ends[1].node);
        let pair = Network::pair(a, b);
        if self.network.pairs.get(&pair) == Some(&id) {
            self.network.pairs.remove(&pair);
        }
        for (side, late) in late.into_iter().enumerate() {
            self.schedule(self.now.plus(late), Coming::Down { session: id, side });
        }
        self.dial_later(a, b, 500, 15_000);
    }

    /// A peer is slow for a while, and what a node says to it meanwhile finds its queue full.
    pub(crate) fn fill_queue(&mut self, node: usize, id: SessionId, ms: u64) {
        let Some(side) = self.side(node, id).map(|side| 1 - side) else { return };
        let session = self.network.sessions.get_mut(&id).filter(|session| session.full[side].is_none());
        let Some(session) = session else { return };
        session.full[side] = Some(0);
        let to = session.ends[side].node;
        self.trace.tell(self.now, || format!("the queue of p{node:02} to p{to:02} is full for {ms} ms"));
        self.schedule(self.now.plus(ms), Coming::Drained { session: id, side });
    }

    /// Whether a frame to one end of a session finds its queue full, and is lost.
    fn is_lost(&mut self, id: SessionId, to_side: usize) -> bool {
        let lost = self.network.sessions.get_mut(&id).and_then(|session| session.full[to_side].as_mut());
        let Some(lost) = lost else { return false };
        let is_lost = self.lines.per_mille(LOST_PER_MILLE);
        *lost += u64::from(is_lost);
        is_lost
    }

    /// The queue to one end of a session has room again, and its sender hears of it if anything was lost.
    fn drained(&mut self, id: SessionId, to_side: usize) {
        let Some(session) = self.network.sessions.get_mut(&id) else { return };
        let (lost, broken) = (session.full[to_side].take(), session.broken);
        let (sender, to) = (session.ends[1 - to_side], session.ends[to_side]);
        if broken || lost.is_none_or(|lost| lost == 0) || self.side(sender.node, id) != Some(1 - to_side) {
            return;
        }
        let peer = self.nodes[to.node].me;
        self.trace.event(self.now, 12, sender.node, &id.0.to_be_bytes());
        self.input(sender.node, Input::LiveDropped { peer, session: id });
    }

    fn session_down(&mut self, id: SessionId, side: usize) {
        let Some(session) = self.network.sessions.get(&id) else { return };
        let (end, other) = (session.ends[side], session.ends[1 - side]);
        let peer = self.nodes[other.node].me;
        if self.nodes[end.node].sessions.get(&peer) == Some(&id) {
            self.nodes[end.node].sessions.remove(&peer);
            self.trace.event(self.now, 9, end.node, &id.0.to_be_bytes());
            self.input(end.node, Input::PeerDown { peer, session: id });
        }
        let known = |end: &End, peer: &End| {
            let node = &self.nodes[end.node];
            node.sessions.get(&self.nodes[peer.node].me) == Some(&id)
        };
        let session = &self.network.sessions[&id];
        if !known(&session.ends[0], &session.ends[1]) && !known(&session.ends[1], &session.ends[0]) {
            self.network.sessions.remove(&id);
            self.network.asks.retain(|_, ask| ask.session != id);
        }
    }

    pub(crate) fn deliver(&mut self, id: SessionId, to_side: usize, message: Message) {
        let Some(session) = self.network.sessions.get_mut(&id) else { return };
        if session.broken {
            return;
        }
        let (from, to) = (session.ends[1 - to_side].node, session.ends[to_side].node);
        self.nodes[from].messages += 1;
        self.nodes[from].bytes += message.bytes() as u64;
        if self.network.is_cut(from, to) {
            if let Some(session) = self.network.sessions.get_mut(&id) {
                session.stuck[to_side].push(message);
            }
            let patience = self.lines.between(10_000, 40_000);
            self.schedule(self.now.plus(patience), Coming::GiveUp { session: id });
            return;
        }
        let jitter = self.network.ways[&(from, to)].jitter_ms;
        let jitter = self.lines.below(jitter + 1);
        let at = self.network.arrival(id, to_side, &message, self.now, jitter);
        self.schedule(at, Coming::Arrive { session: id, side: to_side, message });
    }

    fn arrive(&mut self, id: SessionId, side: usize, message: Message) {
        let Some(session) = self.network.sessions.get(&id) else { return };
        let (end, other) = (session.ends[side], session.ends[1 - side]);
        if session.broken || self.side(end.node, id) != Some(side) {
            return;
        }
        let peer = self.nodes[other.node].me;
        let input = match message {
            Message::Frame(bytes) => {
                self.saw(&Seen::Heard { node: end.node, from: other.node });
                self.overhear(end.node, id, &peer, &bytes);
                Input::Frame { peer, session: id, bytes }
            }
            Message::RunRequest(stream, bytes) => Input::RunRequested { peer, session: id, stream, bytes },
            Message::RunFrame(stream, bytes) => match self.network.asks.get(&stream) {
                Some(ask) => Input::RunFrame { pull: ask.pull, bytes },
                None => return,
            },
            Message::RunEnd(stream) => match self.network.asks.remove(&stream) {
                Some(ask) => Input::RunEnded { pull: ask.pull },
                None => return,
            },
        };
        if let Input::RunEnded { pull } = &input {
            self.nodes[end.node].pulls.remove(pull);
        }
        self.because = Some(other.node);
        self.input(end.node, input);
        self.because = None;
    }

    /// A session over a cut way ends, when the cut is still there.
    fn give_up(&mut self, id: SessionId) {
        let Some(session) = self.network.sessions.get(&id) else { return };
        let (a, b) = (session.ends[0].node, session.ends[1].node);
        if !session.broken && (self.network.is_cut(a, b) || self.network.is_cut(b, a)) {
            let late = [self.lines.between(1, 10_000), self.lines.between(1, 10_000)];
            self.close(id, late);
        }
    }

    /// Cuts directions, for a while.
    pub(crate) fn cut(&mut self, ways: Vec<(usize, usize)>, ms: u64) {
        self.network.cut(&ways);
        let over: Vec<SessionId> = self
            .network
            .sessions
            .iter()
            .filter(|(_, session)| !session.broken)
            .filter(|(_, session)| {
                let (a, b) = (session.ends[0].node, session.ends[1].node);
                self.network.is_cut(a, b) || self.network.is_cut(b, a)
            })
            .map(|(id, _)| *id)
            .collect();
        for session in over {
            let patience = self.lines.between(10_000, 40_000);
            self.schedule(self.now.plus(patience), Coming::GiveUp { session });
        }
        self.schedule(self.now.plus(ms), Coming::Mend { ways });
    }

    fn mend(&mut self, ways: &[(usize, usize)]) {
        self.network.mend(ways);
        self.trace.tell(self.now, || format!("{} ways are mended", ways.len()));
        let mut free = Vec::new();
        for (id, session) in &mut self.network.sessions {
            for side in [0, 1] {
                if !session.stuck[side].is_empty() && !session.broken {
                    free.push((*id, side, std::mem::take(&mut session.stuck[side])));
                }
            }
        }
        for (id, side, messages) in free {
            // Those whose way is still cut get stuck again.
            messages.into_iter().for_each(|message| self.deliver(id, side, message));
        }
    }

    /// Ends every cut at once.
    pub(crate) fn mend_all(&mut self) {
        let mut rest = Vec::new();
        let mut ways = Vec::new();
        for Reverse(due) in std::mem::take(&mut self.queue) {
            match due.coming {
                Coming::Mend { ways: more } => ways.extend(more),
                coming => rest.push(Reverse(Due { coming, ..due })),
            }
        }
        self.queue = rest.into();
        self.mend(&ways);
    }

    fn send_run(&mut self, index: usize, stream: StreamId, key: &LogKey, from: u64, to: u64, epoch: Option<Hash>) {
        let Some(Ask { session, side, .. }) = self.network.asks.get(&stream).copied() else { return };
        let asker = self.network.sessions.get(&session).map(|session| session.ends[side].node);
        if let Some(asker) = asker {
            self.saw(&Seen::ServedRun { from: index, to: asker, key });
        }
        let mut known: BTreeSet<Hash> = epoch.into_iter().collect();
        let mut frame = RunFrame { records: Vec::new(), entries: Vec::new() };
        let mut bytes = 0;
        for seq in from..to {
            // A run breaks off where the disk gives nothing back, and the engine hears of it.
            let entry = match self.nodes[index].disk.entry(key, seq) {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(_) => {
                    self.local(index, 1, Input::Damaged { key: *key, seq });
                    break;
                }
            };
            let Ok(header) = Header::from_bytes(&entry.header) else { break };
            if let Some(epoch) = header.epoch.filter(|epoch| known.insert(*epoch)) {
                let record = self.nodes[index].disk.record(&key.circle, &epoch).ok().flatten();
                let record = record.and_then(|bytes| encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).ok());
                match record {
                    Some::<SignedRecord>(record) => {
                        bytes += record.bytes().len();
                        frame.records.push(record);
                    }
                    // The entries go without it.
                    None => {
                        self.nodes[index].disk.find_rotten(key.circle, epoch);
                        self.local(index, 1, Input::RecordDamaged { circle: key.circle, epoch });
                    }
                }
            }
            bytes += entry.length();
            frame.entries.push(entry);
            if frame.entries.len() >= RUN_ENTRIES || bytes > limits::FRAME_BYTES / 2 {
                let full = std::mem::replace(&mut frame, RunFrame { records: Vec::new(), entries: Vec::new() });
                bytes = 0;
                self.send_run_frame(index, session, side, stream, full);
            }
        }
        if !frame.entries.is_empty() {
            self.send_run_frame(index, session, side, stream, frame);
        }
        if self.nodes[index].malice.as_mut().is_none_or(Malice::ends_runs) {
            self.deliver(session, side, Message::RunEnd(stream));
        }
    }

    fn send_run_frame(&mut self, index: usize, session: SessionId, side: usize, stream: StreamId, frame: RunFrame) {
        let frame = match &mut self.nodes[index].malice {
            Some(malice) => malice.serve(frame),
            None => Some(frame),
        };
        let Some(frame) = frame else { return };
        let bytes = frame.to_bytes();
        self.trace.event(self.now, 10, index, &bytes);
        self.deliver(session, side, Message::RunFrame(stream, bytes));
    }

    // ---- Checking.

    /// Lets every checker see something.
    pub(crate) fn saw(&mut self, seen: &Seen<'_>) {
        let mut checkers = std::mem::take(&mut self.checkers);
        for checker in &mut checkers {
            if let Err(story) = checker.saw(self, seen) {
                self.violated(checker.promise(), story);
            }
        }
        self.checkers = checkers;
    }

    /// The nodes that keep to the protocol.
    pub(crate) fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_honest())
    }

    /// Most of the time to agree is over: lets every checker note how things stand.
    pub(crate) fn quiet(&mut self, minutes: u64) {
        let mut checkers = std::mem::take(&mut self.checkers);
        checkers.iter_mut().for_each(|checker| checker.quiet(self, minutes));
        self.checkers = checkers;
    }

    /// Everybody had time to agree: lets every checker look.
    pub(crate) fn check_calm(&mut self) {
        let mut checkers = std::mem::take(&mut self.checkers);
        for checker in &mut checkers {
            if let Err(story) = checker.calm(self) {
                self.violated(checker.promise(), story);
            }
        }
        self.checkers = checkers;
    }

    pub(crate) fn violated(&mut self, promise: &'static str, story: String) {
        let at = self.now.since(START);
        self.trace.tell(self.now, || format!("{promise} IS BROKEN: {story}"));
        self.violation.get_or_insert(Violation { promise, at, story });
    }

    /// Who belongs to a circle, for somebody who heard these operations.
    pub(crate) fn conclude(&self, circle: &CircleId, heard: &Heard) -> Option<Rc<Conclusion>> {
        let history = self.truth.histories.get(circle)?;
        self.conclude_at(circle, &history.counted(heard))
    }

    /// Who belonged to a circle by exactly these operations, which an operation or an epoch had seen.
    pub(crate) fn conclude_at(&self, circle: &CircleId, heard: &Heard) -> Option<Rc<Conclusion>> {
        let history = self.truth.histories.get(circle)?;
        let mut known = self.conclusions.borrow_mut();
        let conclusion = known.entry((*circle, heard.name())).or_insert_with(|| Rc::new(history.conclude(heard)));
        Some(Rc::clone(conclusion))
    }

    /// Of every circle those who can come to agree, and what they then go by; several times if there are some whom nobody
    /// brings together.
    pub(crate) fn agreements(&self) -> impl Iterator<Item = (&CircleId, Rc<Conclusion>, Vec<usize>)> {
        let circles = self.truth.histories.keys();
        circles.flat_map(move |circle| {
            let groups = self.who_talk(circle).into_iter();
            groups.filter_map(move |known| self.agreed(circle, &known)).map(move |(by, who)| (circle, by, who))
        })
    }

    /// Whether a node runs, is honest and not revoked.
    fn stands(&self, node: &Node) -> bool {
        node.engine.is_some() && node.is_honest() && !self.truth.revoked.contains(&node.me)
    }

    /// Whether a node counts in a circle by what it knows itself.
    fn stays(&self, node: &Node, circle: &CircleId) -> bool {
        let own = self.conclude(circle, node.heard.get(circle).unwrap_or(&Heard::default()));
        own.is_some_and(|own| own.members.contains_key(&node.me))
    }

    /// What those who count in a circle, by what they know themselves, come to know together. Whoever counts another tells it
    /// all that it knows; those of whom nobody counts anybody of the others stay apart. Somebody who was revoked, and whom a
    /// backup set back, can hand its circle to a node that the others do not count.
    fn who_talk(&self, circle: &CircleId) -> Vec<Heard> {
        let holds = |node: &Node| node.engine.as_ref().is_some_and(|engine| engine.circle(circle).is_some());
        let mut groups: Vec<(Heard, BTreeSet<PublicKey>)> = Vec::new();
        let (mut left, mut standing) = (BTreeSet::new(), BTreeSet::new());
        for node in self.nodes.iter().filter(|node| self.stands(node)) {
            standing.insert(node.me);
            match holds(node) {
                true if self.stays(node, circle) => {
                    let heard = node.heard.get(circle).cloned().unwrap_or_default();
                    match groups.iter_mut().find(|(known, _)| known.name() == heard.name()) {
                        Some((_, nodes)) => drop(nodes.insert(node.me)),
                        None => groups.push((heard, BTreeSet::from([node.me]))),
                    }
                }
                true => drop(left.insert(node.me)),
                false => {}
            }
        }
        // Whom they count hears of them, and through it so does whoever else counts it.
        let reached = |known: &Heard| -> BTreeSet<PublicKey> {
            let counted = self.conclude(circle, known).map(|by| by.members.keys().copied().collect::<BTreeSet<_>>());
            counted
                .unwrap_or_default()
                .into_iter()
                .filter(|who| standing.contains(who) && !left.contains(who))
                .collect()
        };
        for (known, nodes) in &mut groups {
            nodes.extend(reached(known));
        }
        let mut apart: Vec<(Heard, BTreeSet<PublicKey>)> = Vec::new();
        while let Some((mut known, mut nodes)) = groups.pop() {
            match apart.iter().position(|(_, others)| !others.is_disjoint(&nodes)) {
                // Together they may count somebody more.
                Some(other) => {
                    let (others_known, others) = apart.swap_remove(other);
                    known.extend(others_known.iter());
                    nodes.extend(others);
                    nodes.extend(reached(&known));
                    groups.push((known, nodes));
                }
                None => apart.push((known, nodes)),
            }
        }
        apart.into_iter().map(|(known, _)| known).collect()
    }

    /// Who belongs to a circle by what some come to know together; and the nodes that count by that, run and are not revoked.
    /// Whoever was removed need not have heard of it, and is not asked; nor whoever alone has heard of its removal and left,
    /// nor whom rot keeps from an operation that the others know, nor anybody when nobody counts. None when none of those is
    /// in the circle.
    fn agreed(&self, circle: &CircleId, known: &Heard) -> Option<(Rc<Conclusion>, Vec<usize>)> {
        let holds = |node: &Node| node.engine.as_ref().is_some_and(|engine| engine.circle(circle).is_some());
        let conclusion = self.conclude(circle, known)?;
        let unheard_of = |heard: &Heard| heard.iter().any(|operation| !known.contains(operation));
        let knows_more = |node: &Node| node.heard.get(circle).is_some_and(unheard_of);
        let left = |node: &Node| holds(node) && !self.stays(node, circle) && knows_more(node);
        let lost = self.lost_operations(circle, |node| self.stands(node) && conclusion.members.contains_key(&node.me));
        let knows_lost = |node: &Node| {
            let heard = node.heard.get(circle);
            let knows = |operation: &Hash| heard.is_some_and(|heard| heard.contains(operation));
            lost.iter().all(|operation| knows(operation) || !known.contains(operation))
        };
        let counts = |node: &Node| {
            self.stands(node) && conclusion.members.contains_key(&node.me) && !left(node) && knows_lost(node)
        };
        let members: Vec<usize> = (0..self.nodes.len()).filter(|index| counts(&self.nodes[*index])).collect();
        members.iter().any(|index| holds(&self.nodes[*index])).then_some((conclusion, members))
    }

    /// The operations of a circle that rot took from the last of those who count that had them: nobody else can come to
    /// know them. Whoever was removed may hold them still, and nobody speaks with it about the circle.
    fn lost_operations(&self, circle: &CircleId, counts: impl Fn(&Node) -> bool) -> Vec<Hash> {
        let Some(history) = self.truth.histories.get(circle) else { return Vec::new() };
        let members = || self.nodes.iter().filter(|node| counts(node));
        let rotten = members().flat_map(|node| {
            let place = |(key, seq): (&LogKey, u64)| Some((*key, seq, node.disk.held().hash_at(key, seq)?));
            node.disk.rotten(circle).filter_map(place)
        });
        let lost = |(key, seq, hash): &(LogKey, u64, Hash)| {
            history.has(hash) && !members().any(|node| node.disk.can_read(key, *seq, *hash))
        };
        rotten.filter(lost).map(|(.., hash)| hash).collect()
    }

    /// Fresh random bytes.
    pub(crate) fn fresh(&mut self) -> [u8; 32] {
        self.secrets.bytes()
    }

    /// A circle is about to be founded.
    pub(crate) fn chartered(&mut self, charter: Charter) {
        self.truth.histories.insert(charter.id(), History::new(charter));
    }

    /// Minutes, as scenarios count, in milliseconds.
    pub(crate) fn minutes(minutes: u64) -> u64 {
        minutes * MINUTE_MS
    }
}

/// What an input is, in a word.
fn kind_of(input: &Input) -> &'static str {
    match input {
        Input::PeerUp { .. } => "a peer that connects",
        Input::PeerDown { .. } => "a peer that goes",
        Input::Frame { .. } => "a frame",
        Input::RunRequested { .. } => "a request for a run",
        Input::RunFrame { .. } => "a frame of a run",
        Input::RunEnded { .. } => "the end of a run",
        Input::LiveDropped { .. } => "the loss of frames",
        Input::Stored { .. } => "the end of a write",
        Input::Command { .. } => "a command",
        Input::Sealed { .. } | Input::NotSealed { .. } => "a seal",
        Input::EpochSealed { .. } => "an epoch",
        Input::Unopenable { .. } | Input::KeysSealed { .. } | Input::KeysChecked { .. } => "keys",
        Input::Damaged { .. } | Input::RecordDamaged { .. } => "damage",
        Input::Import { .. } => "an import",
        Input::Shown { .. } => "a certificate",
        Input::Tick => "a tick",
    }
}

/// The operation behind a fork that is held beside its log, if a write holds one.
fn operation_in(write: &Write) -> Option<(CircleId, Stored)> {
    let (Write::Fact { value, .. }, Some(hash)) = (write, branches::in_fact(write)) else { return None };
    let entry = Stored::read(encoding::from_bytes(value, limits::FRAME_BYTES).ok()?).ok()?;
    (entry.hash() == hash).then_some((entry.header().circle, entry))
}

/// Reads an epoch record as it lies in a store.
pub(crate) fn read_record(bytes: &[u8]) -> Option<Record> {
    let signed: SignedRecord = encoding::from_bytes(bytes, limits::SIGNED_RECORD_BYTES).ok()?;
    signed.unverified(limits::RECORD_BYTES).ok()
}
