//! The engine: inputs to outputs, commands, and what waits for the store.
//!
//! What peers say to each other is in [`crate::sync`]; what a circle concludes in [`crate::replica`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cwn_crypto::{
    Domain, Hash, PartnerId, PublicKey, SigningKey, Time, encoding,
    issuer_log::{CutLine, LogId, Word},
    root::TrustRoot,
    seal::Recipient,
};

use crate::{
    branches::{self, BRANCH_FACT},
    circle::{Act, Charter, Control, Member, Operation, Quota, Rank, Steward, Stewardship},
    epoch::{self, Record},
    expire::{DROPPED_FACT, Expiring, Look, RETENTION_FACT},
    fork::{self, FORK_FACT, ForkProof},
    held::Ledger,
    input::{Audience, Command, CommandId, EntryPlace, Input, Kept, Ticket},
    keep::{BEYOND_FACT, Keeping},
    limits,
    log::{
        Authentic, CircleId, Decoded, Draft, EntryBytes, LogKey, LogKind, Opening, Payload, Retracts, Stored, Suite,
        Under, Writer,
    },
    output::{CommandRefusal, Event, Output, Reply, SealTarget},
    planted::{Bug, planted},
    replica::{Replica, Rule, read_entry},
    retract::{RETRACT_FACT, Retractions},
    root::{self, OTHER_ROOT_FACT, ROOT_FACT, Trust},
    rot::{Logs, Rot, read_circle},
    store::{Damage, Read, Tip, Write},
    sync::{BARE_FACT, GIVEN_FACT, Mending, Sync},
};

/// Which circles this node joins when members offer them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptRule {
    /// Its operator decides.
    Ask,
    /// Every circle that a certified partner founded.
    Certified,
}

/// What the engine is started with.
#[derive(Debug)]
pub struct Config {
    /// This node's key.
    pub key: SigningKey,
    /// The root of trust.
    pub root: TrustRoot,
    /// Which circles it joins.
    pub accept: AcceptRule,
}

/// What came of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offering {
    /// It stands among the offers, or this node is in the circle, or declined it before.
    Taken,
    /// By its operations this node does not belong to the circle.
    NotNamed,
    /// As many as one bearer may leave undecided wait already.
    TooMany,
}

/// An offered circle that waits for a decision.
#[derive(Debug)]
pub struct Offer {
    /// Its charter.
    pub charter: Charter,
    /// Who offered it.
    pub from: BTreeSet<PublicKey>,
    /// Whether its founder's certificate was heard; until then the offer waits, and is shown to nobody.
    certified: bool,
    /// The operations that were offered with it, as they will be stored.
    pub(crate) writes: Vec<Write>,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// What they conclude.
    pub preview: Replica,
}

/// What happens once a write is durable.
#[derive(Debug)]
pub(crate) enum After {
    Durable { key: LogKey, height: u64, head: Hash },
    Push(Box<Authentic>),
    Membership(CircleId),
    RecordDurable { circle: CircleId, hash: Hash },
    BranchesDurable { circle: CircleId, operations: Vec<Hash> },
    Given { circle: CircleId, epochs: Vec<Hash> },
    Joined(CircleId),
    Root(Box<TrustRoot>),
    Erased(CircleId),
    Looked(Box<Look>),
    Mended { key: LogKey, seq: u64 },
    Reply(CommandId, Reply),
}

#[derive(Debug)]
struct PendingAppend {
    circle: CircleId,
    audience: Audience,
    expiry: Option<Time>,
    kept: Option<Kept>,
    retracts: Option<Retracts>,
    /// What it was sent out to be sealed to; `None` while its epoch is being made.
    target: Option<SealTarget>,
}

#[derive(Debug)]
struct MakingEpoch {
    heads: Vec<Hash>,
    set: BTreeSet<PublicKey>,
    left_out: Vec<PublicKey>,
    /// The record's hash, once it was made and while it is not durable.
    made: Option<Hash>,
}

/// The sans-IO engine of one node.
#[derive(Debug)]
pub struct Engine {
    pub(crate) key: SigningKey,
    pub(crate) me: PublicKey,
    accept: AcceptRule,
    pub(crate) network: CircleId,
    pub(crate) trust: Trust,
    pub(crate) circles: BTreeMap<CircleId, Replica>,
    pub(crate) declined: BTreeSet<CircleId>,
    /// Circles of this node whose charters cannot be read back: they are joined again when a member hands one over.
    lost: BTreeSet<CircleId>,
    pub(crate) offers: BTreeMap<CircleId, Offer>,
    founded_now: BTreeSet<CircleId>,
    writers: BTreeMap<(CircleId, LogKind), Writer>,
    appends: BTreeMap<CommandId, PendingAppend>,
    making: BTreeMap<CircleId, MakingEpoch>,
    pub(crate) unopenable: BTreeMap<CircleId, BTreeSet<Hash>>,
    pub(crate) ledgers: BTreeMap<CircleId, Ledger>,
    told: BTreeMap<LogKey, u64>,
    /// Proofs of forks in logs of which entries are on their way to the store, and who brought them.
    pub(crate) waiting_forks: BTreeMap<LogKey, (PublicKey, ForkProof)>,
    tickets: BTreeMap<Ticket, Vec<After>>,
    next_ticket: u64,
    outputs: VecDeque<Output>,
    pub(crate) sync: Sync,
    pub(crate) retractions: Retractions,
    pub(crate) mending: Mending,
    /// Of logs that rotted while nobody was there to send them again the first such place.
    rotten: BTreeMap<LogKey, u64>,
    pub(crate) keeping: Keeping,
    pub(crate) expiring: Expiring,
    /// What the clock said last: goes into what is signed, and may jump.
    pub(crate) wall: Time,
    /// Runs timers: follows the clock and never goes back, so that a clock which was far ahead and was set right
    /// does not stop everything until it is there again.
    pub(crate) now: Time,
}

const CIRCLE_FACT: &[u8] = b"circle/";
const DECLINED_FACT: &[u8] = b"declined/";
const CLOSED_FACT: &[u8] = b"closed/";
pub(crate) const HELD_FACT: &[u8] = b"held/";

/// How the names of all the engine's facts begin.
const FACTS: [&[u8]; 14] = [
    CIRCLE_FACT,
    DECLINED_FACT,
    CLOSED_FACT,
    HELD_FACT,
    RETRACT_FACT,
    FORK_FACT,
    BRANCH_FACT,
    ROOT_FACT,
    OTHER_ROOT_FACT,
    GIVEN_FACT,
    BEYOND_FACT,
    DROPPED_FACT,
    RETENTION_FACT,
    BARE_FACT,
];

pub(crate) fn fact_key(prefix: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn records_by_circle(store: &dyn Read) -> Result<BTreeMap<CircleId, Vec<Hash>>, Damage> {
    let mut records: BTreeMap<CircleId, Vec<Hash>> = BTreeMap::new();
    for (circle, hash) in store.records()? {
        records.entry(circle).or_default().push(hash);
    }
    Ok(records)
}

fn logs_by_circle(store: &dyn Read) -> Result<Logs, Damage> {
    let mut logs = Logs::new();
    for (log, tip) in store.logs()? {
        logs.entry(log.circle).or_default().push((log, tip));
    }
    Ok(logs)
}

/// The last entries of logs, as far as they are such of which something is noted.
fn ends(store: &dyn Read, logs: &Logs) -> Vec<Stored> {
    let last = |(key, tip): &(LogKey, Tip)| read_entry(store, key, tip.height.checked_sub(1)?).ok();
    let noted = |end: &Stored| end.header().retracts.is_some() || matches!(end.bytes().payload, Payload::Retracted(_));
    logs.values().flatten().filter_map(last).filter(noted).collect()
}

impl Engine {
    /// Starts an engine on what the store holds, and says how far every log is accepted. What cannot be read back it
    /// says, and starts without; only a store that cannot even list what it holds is damage that keeps it from that.
    pub fn open(config: Config, now: Time, store: &dyn Read) -> Result<Self, Damage> {
        let mut rot = Rot::default();
        let mut root = config.root.clone();
        root::load(&mut root, store, &mut rot)?;
        let mut network = Replica::network(root);
        let logs = logs_by_circle(store)?;
        rot.damages.extend(network.load(store, logs.get(&network.id()).map(Vec::as_slice).unwrap_or_default()));
        Self::start(config, network, rot, &logs, now, store)
    }

    /// As [`Self::open`], on a network circle that was loaded from a store which held the same of it. Where thousands
    /// of engines start in one process, what issuers said is read once and lies in memory once.
    pub fn open_on(
        config: Config,
        network: Replica,
        damages: Vec<Damage>,
        now: Time,
        store: &dyn Read,
    ) -> Result<Self, Damage> {
        let rot = Rot { damages, writes: Vec::new() };
        Self::start(config, network, rot, &logs_by_circle(store)?, now, store)
    }

    fn start(
        config: Config,
        network_replica: Replica,
        mut rot: Rot,
        logs: &Logs,
        now: Time,
        store: &dyn Read,
    ) -> Result<Self, Damage> {
        let Config { key, root, accept } = config;
        let trust = Trust::load(network_replica.root().cloned().unwrap_or(root), store)?;
        let network = network_replica.id();
        let about = (CIRCLE_FACT, "the charter of a circle, which its members hand over again,");
        let (charters, lost) = rot.facts(store, about, |name, value| {
            let charter = Charter::from_bytes(value).map_err(|refusal| refusal.to_string())?;
            if charter.id().0.0 == name { Ok(charter) } else { Err("another stands in its place".to_owned()) }
        })?;
        // What was declined the name says.
        let declined = store.facts(DECLINED_FACT)?;
        let declined = declined.iter().filter_map(|fact| Some(read_circle(&fact.key[DECLINED_FACT.len()..])?.0));
        // And what does not open, which nobody tries again at a start.
        let mut unopenable: BTreeMap<CircleId, BTreeSet<Hash>> = BTreeMap::new();
        let closed = if planted(Bug::ForgetUnopenable) { Vec::new() } else { store.facts(CLOSED_FACT)? };
        for (circle, epoch) in closed.iter().filter_map(|fact| read_circle(&fact.key[CLOSED_FACT.len()..])) {
            unopenable.entry(circle).or_default().extend(<[u8; 32]>::try_from(epoch).map(Hash));
        }
        let ends = ends(store, logs);
        let retractions = Retractions::load(store, &ends, now, &mut rot)?;
        let mut engine = Self {
            me: key.public(),
            key,
            accept,
            network,
            trust,
            circles: BTreeMap::from([(network, network_replica)]),
            declined: declined.collect(),
            lost: lost.iter().filter_map(|name| Some(read_circle(name)?.0)).collect(),
            offers: BTreeMap::new(),
            founded_now: BTreeSet::new(),
            writers: BTreeMap::new(),
            appends: BTreeMap::new(),
            making: BTreeMap::new(),
            unopenable,
            ledgers: BTreeMap::new(),
            told: BTreeMap::new(),
            waiting_forks: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            outputs: VecDeque::new(),
            sync: Sync::default(),
            mending: Mending::load(store, (&ends, &retractions), now, &mut rot)?,
            retractions,
            rotten: BTreeMap::new(),
            keeping: Keeping::load(store, &mut rot)?,
            expiring: Expiring::load(store, logs, &mut rot)?,
            wall: now,
            now,
        };
        engine.load_held(store, &mut rot)?;
        let mut records = records_by_circle(store)?;
        engine.load_rest(network, Vec::new(), store, &mut rot)?;
        for charter in charters {
            let records = records.remove(&charter.id()).unwrap_or_default();
            engine.load_circle(charter, (logs, records), store, &mut rot)?;
        }
        engine.tell_dropped();
        engine.judge_all_retractions();
        engine.look_for_alarms();
        engine.tell_rot(rot);
        Ok(engine)
    }

    /// Takes a circle back into memory, with all that the store holds of it.
    fn load_circle(
        &mut self,
        charter: Charter,
        (logs, records): (&Logs, Vec<Hash>),
        store: &dyn Read,
        rot: &mut Rot,
    ) -> Result<(), Damage> {
        let mut replica = Replica::closed(Control::new(charter));
        let circle = replica.id();
        replica.dropped_before(self.expiring.bytes_of(&circle));
        rot.damages.extend(replica.load(store, logs.get(&circle).map(Vec::as_slice).unwrap_or_default()));
        self.circles.insert(circle, replica);
        self.load_rest(circle, records, store, rot)
    }

    fn load_rest(
        &mut self,
        circle: CircleId,
        records: Vec<Hash>,
        store: &dyn Read,
        rot: &mut Rot,
    ) -> Result<(), Damage> {
        self.load_records(circle, records, store, rot);
        self.load_forks(&circle, store, rot)?;
        if let Some(replica) = self.circles.get_mut(&circle) {
            replica.keep_to_branches(store);
        }
        self.load_given(circle, store, rot)?;
        self.stewards_named(&circle);
        self.note_right(&circle);
        self.tell_accepted(&circle);
        self.note_beyond(&circle);
        self.note_retention(&circle, store);
        self.reckon(&circle, store);
        Ok(())
    }

    /// Says what cannot be read back, and writes what stands in its place.
    fn tell_rot(&mut self, rot: Rot) {
        for damage in rot.damages {
            self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
        }
        if !rot.writes.is_empty() {
            self.store(rot.writes, Vec::new());
        }
    }

    /// A charter came: if it is that of a circle of this node whose own copy cannot be read back, the circle is there
    /// again, with all that the store holds of it.
    pub(crate) fn regain(&mut self, charter: &Charter, store: &dyn Read) {
        if !self.lost.contains(&charter.id()) || planted(Bug::LostForGood) {
            return;
        }
        let mut rot = Rot::default();
        if let Err(damage) = self.load_again(charter, store, &mut rot) {
            rot.damages.push(damage);
        }
        self.tell_rot(rot);
    }

    fn load_again(&mut self, charter: &Charter, store: &dyn Read, rot: &mut Rot) -> Result<(), Damage> {
        let circle = charter.id();
        let records = records_by_circle(store)?.remove(&circle).unwrap_or_default();
        self.load_circle(charter.clone(), (&logs_by_circle(store)?, records), store, rot)?;
        self.lost.remove(&circle);
        let key = fact_key(CIRCLE_FACT, &[&circle.0.0]);
        self.store(vec![Write::Fact { key, value: charter.to_bytes() }], vec![After::Membership(circle)]);
        Ok(())
    }

    /// Takes one input. Outputs follow from [`Self::poll_output`].
    pub fn handle(&mut self, now: Time, input: Input, store: &dyn Read) {
        self.now = self.now.plus(now.since(self.wall));
        self.keeping.clock_went(self.wall, now);
        self.wall = now;
        if let Err(damage) = self.step(input, store) {
            self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
        }
    }

    fn step(&mut self, input: Input, store: &dyn Read) -> Result<(), Damage> {
        match input {
            Input::PeerUp { peer, session, dialled, nonce } => self.peer_up(peer, session, dialled, nonce),
            Input::PeerDown { peer, session } => self.peer_down(&peer, session),
            Input::Frame { peer, session, bytes } => self.frame(&peer, session, &bytes, store)?,
            Input::RunRequested { peer, session, stream, bytes } => self.run_requested(&peer, session, stream, &bytes),
            Input::RunFrame { pull, bytes } => self.run_frame(pull, &bytes, store)?,
            Input::RunEnded { pull } => self.run_ended(pull, store)?,
            Input::LiveDropped { peer, session } => self.live_dropped(&peer, session, store)?,
            Input::Stored { ticket } => self.stored(ticket, store),
            Input::Command { id, command, random } => {
                if let Err(refusal) = self.command(id, command, random, store) {
                    self.output(Output::Reply { id, reply: Err(refusal) });
                }
            }
            Input::Sealed { id, payload, random } => {
                if let Err(refusal) = self.sealed(id, payload, random) {
                    self.output(Output::Reply { id, reply: Err(refusal) });
                }
            }
            Input::NotSealed { id, circle, why } => self.not_sealed(id, &circle, &why),
            Input::EpochSealed { circle, commitment, wrapped } => self.epoch_sealed(circle, commitment, wrapped),
            Input::Unopenable { circle, epoch } => self.does_not_open(circle, epoch),
            Input::KeysSealed { peer, session, circle, keys } => self.keys_sealed(&peer, session, circle, keys),
            Input::KeysChecked { peer, circle, right, wrong } => self.keys_checked(&peer, circle, right, &wrong),
            Input::Damaged { key, seq } => self.damaged(&key, seq, store),
            Input::RecordDamaged { circle, epoch } => self.record_damaged(circle, epoch, store),
            Input::Import { entries } => self.import(entries, store),
            Input::Shown { certificate } => self.shown(*certificate),
            Input::Tick => {}
        }
        self.run_timers(store)
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn store(&mut self, writes: Vec<Write>, after: Vec<After>) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        for after in &after {
            match after {
                After::Durable { key, height, head } if planted(Bug::AnnounceBeforeStored) => {
                    let replica = self.circles.get_mut(&key.circle);
                    replica.into_iter().for_each(|held| held.stored(&key.author, &key.log, *height, *head));
                    self.announce(*key);
                }
                After::Reply(id, reply) if planted(Bug::ReplyBeforeStored) => {
                    self.output(Output::Reply { id: *id, reply: Ok(reply.clone()) });
                }
                _ => {}
            }
        }
        self.tickets.insert(ticket, after);
        self.output(Output::Store { ticket, writes });
    }

    /// This node's key.
    pub fn me(&self) -> PublicKey {
        self.me
    }

    /// The id of the network circle.
    pub fn network(&self) -> CircleId {
        self.network
    }

    /// The circles of this node, the network circle among them.
    pub fn circles(&self) -> impl Iterator<Item = &Replica> {
        self.circles.values()
    }

    /// One circle of this node.
    pub fn circle(&self, id: &CircleId) -> Option<&Replica> {
        self.circles.get(id)
    }

    /// The circles offered to this node, whose founders are known here.
    pub fn offers(&self) -> impl Iterator<Item = (&CircleId, &Offer)> {
        self.offers.iter().filter(|(_, offer)| offer.certified)
    }

    /// What the issuers said.
    pub fn word(&self) -> &Word {
        let word = self.circles.get(&self.network).and_then(Replica::word);
        word.unwrap_or_else(|| unreachable!("the network circle is made at start and never taken away"))
    }

    /// What was heard of who holds what in a circle.
    pub fn ledger(&self, circle: &CircleId) -> Option<&Ledger> {
        self.ledgers.get(circle)
    }

    /// Whether a node is certified and not revoked, as far as is known here.
    pub fn is_certified(&self, node: &PublicKey) -> bool {
        let word = self.word();
        word.certificate(node).is_some() && word.revocation(node).is_none()
    }

    /// The partners that must still be heard from before this node counts as current in a circle; empty when
    /// it does.
    ///
    /// A roster from before the start may name partners that were removed since. So a node is current once it
    /// has synced with another steward's node or with nodes of half the other partners; a circle that it founded
    /// since its start it knows whole.
    pub fn unheard(&self, circle: &CircleId) -> Vec<PartnerId> {
        let Some(replica) = self.circles.get(circle) else { return Vec::new() };
        if replica.control().is_none() || self.founded_now.contains(circle) || planted(Bug::CurrentAtOnce) {
            return Vec::new();
        }
        let roster = replica.fold().roster();
        let own = roster.member(&self.me).map(|member| &member.partner);
        let others: BTreeSet<&PartnerId> = roster.partners().into_iter().filter(|p| Some(*p) != own).collect();
        let synced = |node: &PublicKey| self.sync.was_synced_with(circle, node);
        let mut heard = BTreeSet::new();
        for (_, member) in roster.iter().filter(|(node, _)| **node != self.me && synced(node)) {
            if member.steward.is_some() {
                return Vec::new();
            }
            if Some(&member.partner) != own {
                heard.insert(&member.partner);
            }
        }
        if heard.len() * 2 >= others.len() {
            return Vec::new();
        }
        others.difference(&heard).map(|partner| (*partner).clone()).collect()
    }

    // ---- Writes that became durable.

    fn stored(&mut self, ticket: Ticket, store: &dyn Read) {
        for after in self.tickets.remove(&ticket).unwrap_or_default() {
            // Damage that one of these meets must not swallow what the others owe.
            if let Err(damage) = self.follow(after, store) {
                self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
                if planted(Bug::DamageSwallowsReplies) {
                    return;
                }
            }
        }
    }

    fn follow(&mut self, after: After, store: &dyn Read) -> Result<(), Damage> {
        match after {
            After::Durable { key, height, head } => {
                if let Some(replica) = self.circles.get_mut(&key.circle) {
                    let log = replica.log(&key.author, &key.log);
                    let opened = log.is_some_and(|log| log.durable == 0 && !log.opening.cites.is_empty());
                    replica.stored(&key.author, &key.log, height, head);
                    // What an opening cites, a cut that reaches it reaches too, and along that branch.
                    let mut logs = if opened { replica.cited_from(&key) } else { Vec::new() };
                    logs.iter().for_each(|cited| self.sync.ask_again(cited));
                    logs.push(key);
                    replica.keep_to_branches_of(store, &logs);
                    if opened {
                        self.tell_accepted_with(&key);
                    } else {
                        self.tell_accepted_log(key);
                    }
                    self.announce(key);
                    self.take_up(&key, store);
                    self.log_grew(&key, opened, store)?;
                    if let Some((from, proof)) = self.waiting_forks.remove(&key) {
                        self.fork_proven(&from, proof, store)?;
                    }
                }
            }
            After::BranchesDurable { circle, operations } => {
                if let Some(replica) = self.circles.get_mut(&circle) {
                    operations.iter().for_each(|operation| replica.branch_stored(operation));
                }
                self.sync.compare_soon(&circle, self.now);
            }
            After::Push(entry) => self.push(&entry, store),
            After::Membership(circle) => self.membership_changed(&circle, store)?,
            After::RecordDurable { circle, hash } => {
                if let Some(replica) = self.circles.get_mut(&circle) {
                    replica.record_stored(hash);
                }
                self.record_came(circle, hash);
                self.record_found(circle, hash);
                self.take_up_stranded(&circle, store);
                if self.making.get(&circle).is_some_and(|making| making.made == Some(hash)) {
                    self.making.remove(&circle);
                    self.advance_appends(&circle);
                }
            }
            After::Given { circle, epochs } => self.output(Output::Given { circle, epochs }),
            After::Joined(circle) => {
                self.output(Output::Emit(Event::Joined { circle }));
                self.membership_changed(&circle, store)?;
            }
            After::Root(root) => self.root_advanced(*root, store)?,
            After::Looked(look) => self.looked(*look),
            After::Mended { key, seq } => self.mended(key, seq),
            After::Erased(circle) => self.output(Output::Emit(Event::Erased { circle })),
            After::Reply(id, reply) => self.output(Output::Reply { id, reply: Ok(reply) }),
        }
        Ok(())
    }

    pub(crate) fn tell_accepted_log(&mut self, key: LogKey) {
        let Some(replica) = self.circles.get(&key.circle) else { return };
        let height = replica.accepted(&key.author, &key.log);
        let before = self.told.get(&key).copied().unwrap_or(0);
        if before != height {
            self.told.insert(key, height);
            self.output(Output::Accepted { key, height });
            self.judge_retractions(&key, before.min(height));
        }
    }

    /// Of a log that is held otherwise than before, or no longer at all, and of those that its opening may have kept within
    /// a cut.
    pub(crate) fn tell_accepted_with(&mut self, key: &LogKey) {
        self.tell_accepted_log(*key);
        let Some(replica) = self.circles.get(&key.circle) else { return };
        let keys: Vec<LogKey> = replica.logs_of(&key.author).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.tell_accepted_log(key));
    }

    fn tell_accepted(&mut self, circle: &CircleId) {
        let Some(replica) = self.circles.get(circle) else { return };
        let keys: Vec<LogKey> = replica.logs().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.tell_accepted_log(key));
    }

    pub(crate) fn membership_changed(&mut self, circle: &CircleId, store: &dyn Read) -> Result<(), Damage> {
        self.output(Output::Emit(Event::MembershipChanged { circle: *circle }));
        self.take_branches(circle, store);
        self.take_waiting(circle, store);
        self.take_up_stranded(circle, store);
        if let Some(replica) = self.circles.get_mut(circle) {
            replica.keep_to_branches(store);
            replica.late_records().into_iter().for_each(|epoch| self.record_came(*circle, epoch));
        }
        self.tell_accepted(circle);
        self.note_beyond(circle);
        self.note_retention(circle, store);
        let outcome = self.roster_changed(circle, store);
        self.look_for_keys();
        self.counts_anew(circle);
        self.stewards_named(circle);
        // The set to seal to may be another now: what waits for a seal is asked for again when it comes back.
        if *circle == self.network {
            self.look_for_alarms();
            self.certify_offers();
            let circles: Vec<CircleId> = self.circles.keys().copied().collect();
            circles.iter().for_each(|circle| self.advance_appends(circle));
        } else {
            self.advance_appends(circle);
        }
        outcome
    }

    /// Stores what a replica took in, and lets follow what depends on it.
    pub(crate) fn keep(&mut self, circle: CircleId, writes: Vec<Write>, membership: bool, store: &dyn Read) {
        if writes.is_empty() {
            return;
        }
        let mut tips: BTreeMap<LogKey, (u64, Hash)> = BTreeMap::new();
        let mut after = Vec::new();
        let mut elsewhere = false;
        for write in &writes {
            match write {
                Write::Entry(entry) => {
                    let (key, seq) = (entry.key(), entry.header().seq);
                    tips.insert(key, (seq + 1, entry.hash()));
                    // What rot took from this node comes back from others, and was written here.
                    let own = key.author == self.me && self.own_log(&key).is_none();
                    elsewhere |= own && !store.hash(&key, seq).is_ok_and(|held| held == Some(entry.hash()));
                    if key.author != self.me {
                        self.keeping.heard_time(entry.header().time, self.wall);
                    }
                }
                Write::Record { circle, hash, .. } => after.push(After::RecordDurable { circle: *circle, hash: *hash }),
                Write::Fact { .. }
                | Write::Mend(_)
                | Write::Erase { .. }
                | Write::Drop { .. }
                | Write::Rewind { .. } => {}
            }
        }
        let operations: Vec<Hash> = writes.iter().filter_map(branches::in_fact).collect();
        if !operations.is_empty() {
            after.push(After::BranchesDurable { circle, operations });
        }
        let mut writes = self.noted(writes);
        match rewinds(store, &writes) {
            Ok(rewinds) => drop(writes.splice(0..0, rewinds)),
            Err(damage) => self.output(Output::Emit(Event::Damaged { what: damage.to_string() })),
        }
        after.extend(tips.into_iter().map(|(key, (height, head))| After::Durable { key, height, head }));
        if membership {
            after.push(After::Membership(circle));
        }
        if elsewhere {
            self.output(Output::Emit(Event::OwnKeyElsewhere { circle }));
        }
        self.store(writes, after);
    }

    /// What is written down with new entries, each at its place: of what a crash leaves any beginning. When some of it will be
    /// dropped comes before all of them. What one takes back, or lacks, comes right behind it, so that only the last entry of
    /// a log can be there without, which the next start sees; what stood in its place took something back no longer before it
    /// is there.
    fn noted(&mut self, writes: Vec<Write>) -> Vec<Write> {
        let mut noted = self.note_expiring(&writes);
        for write in writes {
            let (forgotten, retraction, bare) = match &write {
                Write::Entry(entry) => {
                    (self.forget_other(entry.header()), self.note_retraction(entry), self.note_bare(entry))
                }
                _ => Default::default(),
            };
            noted.extend(forgotten);
            noted.push(write);
            noted.extend(retraction);
            noted.extend(bare);
        }
        noted
    }

    /// Writes no further on a log; the next entry opens another.
    pub(crate) fn leave_log(&mut self, key: &LogKey) {
        self.writers.retain(|_, writer| writer.key() != *key);
    }

    fn own_log(&self, key: &LogKey) -> Option<&Writer> {
        [LogKind::Content, LogKind::Control, LogKind::Network]
            .into_iter()
            .filter_map(|kind| self.writers.get(&(key.circle, kind)))
            .find(|writer| writer.key() == *key)
    }

    fn damaged(&mut self, key: &LogKey, seq: u64, store: &dyn Read) {
        self.output(Output::Emit(Event::Damaged { what: format!("entry {seq} of log {} of {}", key.log, key.author) }));
        self.fetch_again(key, seq, store);
    }

    /// Holds a log up to an entry that cannot be read back, and compares with the peers at once. Alone, this node
    /// keeps what it has until somebody comes who could send it again, and gives false.
    pub(crate) fn fetch_again(&mut self, key: &LogKey, seq: u64, store: &dyn Read) -> bool {
        if !self.sync.compare_soon(&key.circle, self.now) {
            let lowest = self.rotten.entry(*key).or_insert(seq);
            *lowest = seq.min(*lowest);
            return false;
        }
        self.leave_log(key);
        if let Some(replica) = self.circles.get_mut(&key.circle) {
            replica.hold_up_to(store, key, seq);
        }
        self.tell_accepted_with(key);
        true
    }

    /// What waits in the store for something that was lost may go on, if that is there again.
    fn take_up_stranded(&mut self, circle: &CircleId, store: &dyn Read) {
        let stranded = self.circles.get(circle).map(Replica::stranded).unwrap_or_default();
        stranded.iter().for_each(|key| self.take_up(key, store));
    }

    /// Takes what the store holds of a log behind an entry that could not be read back and is there again: nobody else may
    /// have it. The next part follows once this is durable.
    fn take_up(&mut self, key: &LogKey, store: &dyn Read) {
        let Some(replica) = self.circles.get(&key.circle) else { return };
        let (left_behind, before) = (replica.left_behind(key, store), replica.height(key));
        let waits = replica.waits_for_record(key, store);
        if left_behind.is_empty() && !waits {
            return;
        }
        self.import(left_behind, store);
        if let Some(replica) = self.circles.get_mut(&key.circle) {
            // What it builds on may be lost still.
            let stranded = replica.height(key) == before || replica.waits_for_record(key, store);
            replica.note_stranded(key, stranded);
        }
    }

    /// Somebody shares a circle by now: what was met of it while this node was alone, and cannot be read still, is fetched
    /// again.
    pub(crate) fn fetch_rotten(&mut self, circle: &CircleId, store: &dyn Read) {
        let of_circle: Vec<(LogKey, u64)> = self.rotten.extract_if(.., |key, _| key.circle == *circle).collect();
        for (key, seq) in of_circle {
            if store.entry(&key, seq).is_err() {
                self.fetch_again(&key, seq, store);
            }
        }
    }

    /// Takes entries that may build on one another, round after round until nothing moves.
    fn import(&mut self, entries: Vec<EntryBytes>, store: &dyn Read) {
        let mut runs: BTreeMap<LogKey, Vec<Decoded>> = BTreeMap::new();
        for entry in entries.into_iter().filter_map(|bytes| Decoded::decode(bytes).ok()) {
            runs.entry(entry.key()).or_default().push(entry);
        }
        loop {
            let mut moved = false;
            for (key, run) in &mut runs {
                let Some(replica) = self.circles.get_mut(&key.circle) else { continue };
                let ingested = replica.ingest(Vec::new(), run.clone());
                moved |= !ingested.writes.is_empty();
                self.keep(key.circle, ingested.writes, ingested.membership_changed, store);
            }
            if !moved {
                return;
            }
        }
    }

    // ---- Commands.

    fn command(
        &mut self,
        id: CommandId,
        command: Command,
        random: [u8; 32],
        store: &dyn Read,
    ) -> Result<(), CommandRefusal> {
        let silent = |at: Time| self.wall.since(at) > 60 * 60 * Time::SECOND_MS;
        let founds = planted(Bug::NeedTheIssuerToFound) && matches!(command, Command::Found { .. });
        if (planted(Bug::NeedTheIssuer) || founds) && self.word().newest().is_none_or(silent) {
            return Err(CommandRefusal::NotCurrent { missing: Vec::new() });
        }
        match command {
            Command::Found { charter } => self.found(id, charter),
            Command::Add { circle, partner, nodes } => {
                if nodes.len() > limits::OPERATION_LIST {
                    return Err(CommandRefusal::TooMany { limit: limits::OPERATION_LIST });
                }
                self.own_stewardship(&circle)?;
                let known = |replica: &Replica| {
                    nodes.iter().all(|node| {
                        let roster = replica.fold().roster();
                        roster.member(&node.node).is_some_and(|member| member.partner == partner)
                    })
                };
                if self.circles.get(&circle).is_some_and(known) {
                    return Err(CommandRefusal::AlreadyMember { partner });
                }
                self.operate(id, circle, Act::Add { partner, nodes }, random)
            }
            Command::Remove { circle, partner, node } => {
                let cut = self.cut_of_removal(&circle, &partner, node)?;
                self.operate(id, circle, Act::Remove { partner, node, cut }, random)
            }
            Command::Raise { circle, removal, branches } => {
                let act = self.raised(&circle, removal, &branches, store)?;
                self.operate(id, circle, act, random)
            }
            Command::Appoint { circle, partner, node } => {
                let (replica, _) = self.closed(&circle)?;
                let member = replica.fold().roster().member(&node.node);
                if member.is_some_and(|member| member.steward.is_some()) {
                    return Err(CommandRefusal::AlreadySteward { partner });
                }
                if self.own_stewardship(&circle)?.0.depth() >= limits::APPOINTMENTS {
                    return Err(CommandRefusal::TooDeep);
                }
                self.operate(id, circle, Act::Appoint { partner, node }, random)
            }
            Command::Dismiss { circle, node } => {
                let cut = self.cut_of_dismissal(&circle, &node)?;
                self.operate(id, circle, Act::Dismiss { node, cut }, random)
            }
            Command::Policy { circle, terms } => self.operate(id, circle, Act::Policy { terms }, random),
            Command::Append { circle, audience, expiry, only_when_current, retracts, kept } => {
                let append = PendingAppend { circle, audience, expiry, retracts, kept, target: None };
                self.append(id, append, only_when_current)
            }
            Command::Announce { payload } => self.announce_network(id, payload, random),
            Command::AdoptRoot { versions } => self.adopt_root(id, &versions),
            Command::Accept { circle } => self.accept_offer(circle, Some(id)),
            Command::Remember { key, value } => {
                assert_not_ours(&key);
                self.store(vec![Write::Fact { key, value }], vec![After::Reply(id, Reply::Done)]);
                Ok(())
            }
            Command::CarryRun { key, records, entries } => self.carry_run(id, key, records, entries, store),
            Command::CarryFork { circle, proof } => self.carry_fork(id, circle, proof, store),
            Command::CarryCircle { charter, entries } => self.carry_circle(id, &charter, entries, store),
            Command::Decline { circle } => {
                self.take_offer(&circle)?;
                self.declined.insert(circle);
                let fact = Write::Fact { key: fact_key(DECLINED_FACT, &[&circle.0.0]), value: vec![1] };
                self.store(vec![fact], vec![After::Reply(id, Reply::Done)]);
                Ok(())
            }
        }
    }

    fn found(&mut self, id: CommandId, charter: Charter) -> Result<(), CommandRefusal> {
        charter.check()?;
        let bytes = charter.to_bytes();
        let replica = Replica::closed(Control::new(charter));
        let circle = replica.id();
        if self.circles.contains_key(&circle) {
            return Err(CommandRefusal::AlreadyJoined);
        }
        self.circles.insert(circle, replica);
        self.founded_now.insert(circle);
        let fact = Write::Fact { key: fact_key(CIRCLE_FACT, &[&circle.0.0]), value: bytes };
        self.store(vec![fact], vec![After::Joined(circle), After::Reply(id, Reply::Founded(circle))]);
        Ok(())
    }

    pub(crate) fn closed(&self, circle: &CircleId) -> Result<(&Replica, &Control), CommandRefusal> {
        let replica = self.circles.get(circle).ok_or(CommandRefusal::UnknownCircle)?;
        let control = replica.control().ok_or(CommandRefusal::UnknownCircle)?;
        Ok((replica, control))
    }

    fn operate(&mut self, id: CommandId, circle: CircleId, act: Act, random: [u8; 32]) -> Result<(), CommandRefusal> {
        let (_, control) = self.closed(&circle)?;
        let (_, stewardship) = self.own_stewardship(&circle)?;
        let operation = Operation { stewardship, heads: control.heads_to_name(&stewardship), act };
        let draft =
            Draft { suite: Suite::Control, epoch: None, payload: operation.to_bytes(), expiry: None, retracts: None };
        if draft.payload.len() > limits::PAYLOAD_BYTES {
            return Err(CommandRefusal::TooLong { length: draft.payload.len(), limit: limits::PAYLOAD_BYTES });
        }
        self.write(id, circle, draft, random, true, None)
    }

    pub(crate) fn own_stewardship(&self, circle: &CircleId) -> Result<(Rank, Stewardship), CommandRefusal> {
        let (replica, _) = self.closed(circle)?;
        let roster = replica.fold().roster();
        roster.member(&self.me).and_then(|member| member.steward.clone()).ok_or_else(|| {
            let stewards = roster.stewards().into_iter().map(|(_, steward)| steward.partner.to_string());
            CommandRefusal::NotASteward { stewards: stewards.collect() }
        })
    }

    /// The cut of a removal: what is held now of what the removed wrote stays.
    fn cut_of_removal(
        &self,
        circle: &CircleId,
        partner: &PartnerId,
        node: Option<PublicKey>,
    ) -> Result<Vec<CutLine>, CommandRefusal> {
        let (replica, control) = self.closed(circle)?;
        let roster = replica.fold().roster();
        let named =
            |(key, member): &(&PublicKey, &Member)| member.partner == *partner && node.is_none_or(|node| node == **key);
        let targets: Vec<_> = roster.iter().filter(named).collect();
        if targets.is_empty() {
            return Err(CommandRefusal::NotMember { partner: partner.clone() });
        }
        targets.iter().try_for_each(|(_, member)| self.outranks(circle, member))?;
        // The cut is that of every node which the removal names, also of those that were removed by themselves before.
        let mut nodes: BTreeSet<PublicKey> = targets.iter().map(|(key, _)| **key).collect();
        if node.is_none() {
            let before = control.nodes_of(replica.fold(), partner);
            nodes.extend(before.into_iter().filter(|node| replica.logs_of(node).next().is_some()));
        }
        let share = limits::OPERATION_LIST / nodes.len();
        Ok(nodes.iter().flat_map(|node| replica.cut_of(node, None, share)).collect())
    }

    /// The cut of a dismissal: the operations that are held now stay.
    fn cut_of_dismissal(&self, circle: &CircleId, node: &PublicKey) -> Result<Vec<CutLine>, CommandRefusal> {
        let (replica, _) = self.closed(circle)?;
        let steward = replica.fold().roster().member(node).filter(|member| member.steward.is_some());
        self.outranks(circle, steward.ok_or(CommandRefusal::NoSteward { node: *node })?)?;
        Ok(replica.cut_of(node, Some(LogKind::Control), limits::OPERATION_LIST))
    }

    /// Whether this node may end the stewardship of a member, if it has one.
    fn outranks(&self, circle: &CircleId, member: &Member) -> Result<(), CommandRefusal> {
        let (mine, _) = self.own_stewardship(circle)?;
        match &member.steward {
            Some((rank, _)) if *rank <= mine => Err(CommandRefusal::BetterRank { partner: member.partner.clone() }),
            _ => Ok(()),
        }
    }

    fn announce_network(&mut self, id: CommandId, payload: Vec<u8>, random: [u8; 32]) -> Result<(), CommandRefusal> {
        if payload.len() > limits::PAYLOAD_BYTES {
            return Err(CommandRefusal::TooLong { length: payload.len(), limit: limits::PAYLOAD_BYTES });
        }
        let draft = Draft { suite: Suite::Network, epoch: None, payload, expiry: None, retracts: None };
        self.write(id, self.network, draft, random, false, None)
    }

    /// Appends to this node's log of the draft's kind, opening one if there is none since the start. `fact` is to say
    /// which entry it became.
    fn write(
        &mut self,
        id: CommandId,
        circle: CircleId,
        draft: Draft,
        random: [u8; 32],
        membership: bool,
        fact: Option<Vec<u8>>,
    ) -> Result<(), CommandRefusal> {
        let kind = draft.suite.kind();
        let replica = self.circles.get_mut(&circle).ok_or(CommandRefusal::UnknownCircle)?;
        if !replica.counts(&self.me) {
            return Err(CommandRefusal::NotAMember);
        }
        let under = match (&replica.rule, kind) {
            (Rule::Network { word, .. }, _) => word.certificate(&self.me).map(|own| Under::Certificate(own.entry)),
            (Rule::Closed(_), LogKind::Control) => {
                let steward = replica.fold().roster().member(&self.me).and_then(|member| member.steward.as_ref());
                steward.map(|(_, stewardship)| match stewardship {
                    Stewardship::Charter(_) => Under::Charter,
                    Stewardship::Appointed(appointment) => Under::Add(*appointment),
                })
            }
            (Rule::Closed(_), _) => replica.fold().roster().member(&self.me).map(|member| member.under),
        };
        let under = under.ok_or(CommandRefusal::NotAMember)?;
        let stale = self.writers.get(&(circle, kind)).is_some_and(|writer| {
            // After a removal and a new `add`, what is written counts under the new one, in a log of its own, and so do a
            // steward's operations: a later cut can tell what came before.
            let own = replica.log(&self.me, &writer.key().log);
            own.is_some_and(|log| match (&replica.rule, log.opening.under) {
                // The issuer was dropped, and its word no longer holds the certificate that the log stands on.
                (Rule::Network { word, .. }, Under::Certificate(entry)) => word.certified_by(&entry) != Some(&self.me),
                (_, opened_under) => opened_under != under,
            })
        });
        if stale {
            self.writers.remove(&(circle, kind));
        }
        let writer = self.writers.entry((circle, kind)).or_insert_with(|| {
            let mut log = [kind as u8; 16];
            match planted(Bug::ReuseLogId) {
                true => log[1..].copy_from_slice(&circle.0.0[..15]),
                false => log.copy_from_slice(&random[..16]),
            }
            let cites = replica.longest_uncited(&self.me, Some(kind), limits::CITED_LOGS);
            Writer::open(circle, self.key.clone(), LogId(log), Opening { under, cites })
        });
        let entry = writer.append(self.wall, draft);
        if let Err(stop) = replica.append(&entry) {
            // The rules were asked before; an own entry that its own node does not take is a fault of ours, and
            // the log it was for must not be written further.
            panic!("an entry of this node does not fit its own replica: {stop}");
        }
        let place = EntryPlace { key: entry.key(), seq: entry.header().seq };
        let hash = entry.hash();
        let mut after = vec![After::Durable { key: entry.key(), height: place.seq + 1, head: hash }];
        after.push(After::Push(Box::new(entry.clone())));
        if membership {
            after.push(After::Membership(circle));
        }
        after.push(After::Reply(id, Reply::Appended { place, hash }));
        // The fact first: when the entry survives a crash so does the fact, and a fact without its entry says that
        // nothing was appended.
        let value = |key| Write::Fact { key, value: encoding::to_bytes(&(place.key.log, place.seq, hash)) };
        let writes = fact.map(value).into_iter().chain([Write::Entry(entry)]).collect();
        let writes = self.noted(writes);
        self.store(writes, after);
        Ok(())
    }

    // ---- Appending sealed entries.

    fn append(&mut self, id: CommandId, append: PendingAppend, only_when_current: bool) -> Result<(), CommandRefusal> {
        let circle = append.circle;
        let (replica, _) = self.closed(&circle)?;
        let own = |what: &Retracts| {
            let held = replica.log(&self.me, &what.log).is_some_and(|log| what.seq < log.height);
            held || replica.is_stranded(&LogKey { circle, author: self.me, log: what.log })
        };
        if append.retracts.as_ref().is_some_and(|what| !own(what)) {
            return Err(CommandRefusal::NotOwn);
        }
        if !replica.counts(&self.me) {
            return Err(CommandRefusal::NotAMember);
        }
        if !replica.may_write(&self.me, append.retracts.is_some(), &Quota { entries: 1, ..Quota::default() }) {
            return Err(CommandRefusal::QuotaReached);
        }
        if only_when_current {
            let missing = self.unheard(&circle);
            if !missing.is_empty() {
                return Err(CommandRefusal::NotCurrent { missing: missing.iter().map(ToString::to_string).collect() });
            }
        }
        if let Some(kept) = &append.kept {
            assert_not_ours(&kept.fact);
        }
        self.appends.insert(id, append);
        self.advance_append(id)
    }

    fn advance_appends(&mut self, circle: &CircleId) {
        let waiting: Vec<CommandId> = self
            .appends
            .iter()
            .filter(|(_, pending)| pending.circle == *circle && pending.target.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            if let Err(refusal) = self.advance_append(id) {
                self.output(Output::Reply { id, reply: Err(refusal) });
            }
        }
    }

    /// Asks for the seal of an append, or first for the epoch it needs.
    fn advance_append(&mut self, id: CommandId) -> Result<(), CommandRefusal> {
        let Some(pending) = self.appends.get(&id) else { return Ok(()) };
        let circle = pending.circle;
        match self.target_of(pending) {
            Err(refusal) => {
                self.appends.remove(&id);
                return Err(refusal);
            }
            Ok(Some(target)) => {
                if let Some(pending) = self.appends.get_mut(&id) {
                    pending.target = Some(target.clone());
                }
                self.output(Output::Seal { id, circle, target });
            }
            Ok(None) => {
                let (retracts, more) = (pending.retracts.is_some(), Quota { epochs: 1, ..Quota::default() });
                if self.circles.get(&circle).is_some_and(|replica| !replica.may_write(&self.me, retracts, &more)) {
                    self.appends.remove(&id);
                    return Err(CommandRefusal::QuotaReached);
                }
                self.make_epoch(circle);
            }
        }
        Ok(())
    }

    /// What an append is sealed to now, if nobody can read it but those it was written for.
    fn target_of(&self, pending: &PendingAppend) -> Result<Option<SealTarget>, CommandRefusal> {
        if let Some(kept) = &pending.kept {
            let (replica, _) = self.closed(&pending.circle)?;
            let roster = replica.fold().roster();
            let new: BTreeSet<PublicKey> =
                self.readers(replica, &pending.audience).difference(&kept.readers).copied().collect();
            if !new.is_empty() {
                let partners: BTreeSet<String> =
                    new.iter().filter_map(|node| Some(roster.member(node)?.partner.to_string())).collect();
                return Err(CommandRefusal::NewReaders { partners: partners.into_iter().collect() });
            }
        }
        self.target(&pending.circle, &pending.audience)
    }

    /// The nodes that could open what is sealed to this audience now.
    pub fn readers(&self, replica: &Replica, audience: &Audience) -> BTreeSet<PublicKey> {
        let (mut set, _) = self.present_set(replica);
        if let Audience::Partners(partners) = audience {
            let roster = replica.fold().roster();
            let own = roster.member(&self.me).map(|member| &member.partner);
            set.retain(|node| {
                let partner = roster.member(node).map(|member| &member.partner);
                partner.is_some_and(|partner| partners.contains(partner)) || partner == own
            });
        }
        set
    }

    /// What an entry for this audience is sealed to now; `None` when a new epoch is needed first.
    fn target(&self, circle: &CircleId, audience: &Audience) -> Result<Option<SealTarget>, CommandRefusal> {
        let (replica, _) = self.closed(circle)?;
        let roster = replica.fold().roster();
        let own = roster.member(&self.me).ok_or(CommandRefusal::NotAMember)?;
        let (set, _) = self.present_set(replica);
        match audience {
            Audience::Circle => Ok(replica.usable_epoch(&self.me, &set, self.wall).map(SealTarget::Epoch)),
            Audience::Partners(partners) => {
                let belongs = |partner: &&PartnerId| roster.iter().any(|(_, member)| member.partner == **partner);
                if let Some(stranger) = partners.iter().find(|partner| !belongs(partner)) {
                    return Err(CommandRefusal::NotMember { partner: stranger.clone() });
                }
                let all = planted(Bug::SealNamedToAll);
                let named =
                    |member: &Member| all || partners.contains(&member.partner) || member.partner == own.partner;
                let recipients: Vec<Recipient> = roster
                    .iter()
                    .filter(|(node, member)| set.contains(node) && named(member))
                    .map(|(_, member)| member.recipient)
                    .collect();
                Ok(Some(SealTarget::Recipients(recipients)))
            }
        }
    }

    /// The nodes that what is sealed now is sealed to, and those of the roster that are left out because they
    /// are revoked or not known to be certified.
    pub fn present_set(&self, replica: &Replica) -> (BTreeSet<PublicKey>, Vec<PublicKey>) {
        let nodes = replica.fold().roster().iter().map(|(node, _)| *node);
        let (set, left_out): (Vec<PublicKey>, Vec<PublicKey>) =
            nodes.partition(|node| *node == self.me || self.is_certified(node) || planted(Bug::WrapToRevoked));
        (set.into_iter().collect(), left_out)
    }

    fn make_epoch(&mut self, circle: CircleId) {
        if self.making.contains_key(&circle) {
            return;
        }
        let Some(replica) = self.circles.get(&circle) else { return };
        let Some(control) = replica.control() else { return };
        let (set, left_out) = self.present_set(replica);
        let roster = replica.fold().roster();
        let recipients =
            roster.iter().filter(|(node, _)| set.contains(node)).map(|(_, member)| member.recipient).collect();
        let heads = control.heads();
        self.making.insert(circle, MakingEpoch { heads, set, left_out, made: None });
        self.output(Output::MakeEpoch { circle, recipients });
    }

    fn epoch_sealed(&mut self, circle: CircleId, commitment: Hash, wrapped: Vec<u8>) {
        if self.making.get(&circle).is_none_or(|making| making.made.is_some()) {
            return;
        }
        let Some(making) = self.making.remove(&circle) else { return };
        let Some(replica) = self.circles.get(&circle) else { return };
        let Some(control) = replica.control() else { return };
        if making.set != self.present_set(replica).0 || making.heads != control.heads() {
            // Who belongs changed meanwhile; what waits is looked at again, this node's own right to write included.
            self.advance_appends(&circle);
            return;
        }
        let (heads, left_out) = (making.heads.clone(), making.left_out.clone());
        let record = Record { circle, maker: self.me, heads, left_out, commitment, wrapped, made: self.wall };
        let signed = epoch::sign(&record, &self.key);
        let hash = signed.hash(Domain::EPOCH);
        let Some(replica) = self.circles.get_mut(&circle) else { return };
        match replica.verify(&signed) {
            Ok(epoch) => replica.insert_epoch(hash, epoch),
            Err(refusal) => panic!("an epoch record of this node does not hold: {refusal}"),
        }
        let bytes = encoding::to_bytes(&signed);
        self.making.insert(circle, MakingEpoch { made: Some(hash), ..making });
        self.store(vec![Write::Record { circle, hash, bytes }], vec![After::RecordDurable { circle, hash }]);
        if planted(Bug::UseEpochBeforeDurable) {
            self.circles.get_mut(&circle).into_iter().for_each(|replica| replica.record_stored(hash));
            self.advance_appends(&circle);
        }
    }

    fn sealed(&mut self, id: CommandId, payload: Vec<u8>, random: [u8; 32]) -> Result<(), CommandRefusal> {
        let Some(pending) = self.appends.get(&id) else { return Ok(()) };
        let circle = pending.circle;
        // Who belongs may have changed while it was being sealed. Then it is sealed again, to those who belong now.
        let present = match self.target_of(pending) {
            Ok(present) => present,
            Err(refusal) => {
                self.appends.remove(&id);
                return Err(refusal);
            }
        };
        if present != pending.target && !planted(Bug::SealedForThoseBefore) {
            if let Some(pending) = self.appends.get_mut(&id) {
                pending.target = None;
            }
            return self.advance_append(id);
        }
        let Some(pending) = self.appends.remove(&id) else { return Ok(()) };
        if payload.len() > limits::PAYLOAD_BYTES {
            return Err(CommandRefusal::TooLong { length: payload.len(), limit: limits::PAYLOAD_BYTES });
        }
        let logs = u64::from(!self.writers.contains_key(&(circle, LogKind::Content)));
        let bytes = (payload.len() + limits::USUAL_HEADER_BYTES) as u64;
        let more = Quota { bytes, entries: 1, logs, epochs: 0 };
        let retracts = pending.retracts.is_some();
        if self.circles.get(&circle).is_some_and(|replica| !replica.may_write(&self.me, retracts, &more)) {
            return Err(CommandRefusal::QuotaReached);
        }
        let (suite, epoch) = match pending.target {
            Some(SealTarget::Epoch(hash)) => (Suite::Epoch, Some(hash)),
            _ => (Suite::Named, None),
        };
        let PendingAppend { expiry, retracts, kept, .. } = pending;
        let draft = Draft { suite, epoch, payload, expiry, retracts };
        self.write(id, circle, draft, random, false, kept.map(|kept| kept.fact))
    }

    /// What waits for the seal is refused: a person can then do something about it.
    fn not_sealed(&mut self, id: Option<CommandId>, circle: &CircleId, why: &str) {
        let waiting: Vec<CommandId> = match id {
            Some(id) => vec![id],
            None => {
                self.making.remove(circle);
                let waits = |pending: &PendingAppend| pending.circle == *circle && pending.target.is_none();
                self.appends.iter().filter(|(_, pending)| waits(pending)).map(|(id, _)| *id).collect()
            }
        };
        for id in waiting {
            self.appends.remove(&id);
            let refusal = CommandRefusal::NotSealed { why: why.to_owned() };
            self.output(Output::Reply { id, reply: Err(refusal) });
        }
    }

    fn does_not_open(&mut self, circle: CircleId, epoch: Hash) {
        let held = self.circles.get(&circle).and_then(|replica| replica.epoch(&epoch));
        // Of an epoch that was to be closed to this node there is nothing to tell.
        let Some(held) = held.filter(|held| held.names(&self.me)) else { return };
        let authors = held.writers().clone();
        if self.unopenable.entry(circle).or_default().insert(epoch) {
            let key = fact_key(CLOSED_FACT, &[&circle.0.0, &epoch.0]);
            self.store(vec![Write::Fact { key, value: vec![1] }], Vec::new());
            authors.into_iter().for_each(|author| self.held_changed(circle, author));
        }
    }

    // ---- Offers.

    /// Takes an offered circle in, and joins it when the rule says so. An undecided offer takes the operations that it lacks:
    /// who bore it first may not have heard, or may hold back, that somebody was removed.
    pub(crate) fn offered(&mut self, peer: PublicKey, charter: Charter, mut entries: Vec<Decoded>) -> Offering {
        let circle = charter.id();
        if self.declined.contains(&circle) || self.circles.contains_key(&circle) {
            return Offering::Taken;
        }
        let before = self.offers.get_mut(&circle);
        let is_offered = before.is_some();
        if let Some(Offer { from, preview, .. }) = before {
            from.insert(peer);
            entries.retain(|entry| preview.control().is_some_and(|control| !control.holds(&entry.hash())));
        }
        let bytes: usize = entries.iter().map(|entry| entry.bytes().length()).sum();
        // Before what costs more.
        let undecided = self.offers.values().filter(|offer| offer.from.contains(&peer));
        let (count, held) = undecided.fold((0, 0), |(count, held), offer| (count + 1, held + offer.bytes));
        let many = count >= limits::OFFERS_PER_PEER && !is_offered;
        if (many || held + bytes > limits::OFFER_BYTES_PER_PEER) && !planted(Bug::RememberEveryOffer) {
            return Offering::TooMany;
        }
        if let Some(offer) = self.offers.get_mut(&circle) {
            if offer.bytes + bytes > limits::WELCOME_BYTES {
                // It comes once the circle is joined.
                return Offering::Taken;
            }
            let more = offer.preview.ingest_operations(entries).writes;
            let taken = |write: &Write| if let Write::Entry(entry) = write { entry.bytes().length() } else { 0 };
            offer.bytes += more.iter().map(taken).sum::<usize>();
            offer.writes.extend(more);
            if !offer.preview.counts(&self.me) {
                // Only what both brought says so: neither bearer is to blame.
                self.offers.remove(&circle);
            }
            return Offering::Taken;
        }
        let mut preview = Replica::closed(Control::new(charter.clone()));
        let mut writes = Vec::new();
        for (forked, proof) in fork::proofs_among(circle, &entries, |_| None) {
            preview.note_fork(forked.key.author, forked.key.log, forked.seq);
            preview.vouch_before(&forked.key, &proof);
            writes.push(Write::Fact { key: fork::fork_fact(&forked), value: encoding::to_bytes(&proof) });
        }
        writes.splice(0..0, preview.ingest_operations(entries).writes);
        if !preview.counts(&self.me) {
            return Offering::NotNamed;
        }
        let from = BTreeSet::from([peer]);
        self.offers.insert(circle, Offer { charter, from, certified: false, writes, bytes, preview });
        self.certify_offers();
        Offering::Taken
    }

    /// Shows the offers whose founder's certificate has come: a peer that heard it earlier may offer a circle before
    /// the network circle has brought it here.
    fn certify_offers(&mut self) {
        let word = self.word();
        let certified = |founder: &Steward| {
            planted(Bug::OfferUncertified)
                || word.certificate(&founder.node.node).is_some_and(|own| own.certificate.partner == founder.partner)
        };
        let waiting = self.offers.iter().filter(|(_, offer)| !offer.certified);
        let come = waiting.filter(|(_, offer)| certified(&offer.charter.stewards[0]));
        let come: Vec<CircleId> = come.map(|(circle, _)| *circle).collect();
        for circle in come {
            if let Some(offer) = self.offers.get_mut(&circle) {
                offer.certified = true;
            }
            match self.accept {
                AcceptRule::Ask => self.output(Output::Emit(Event::Offered { circle })),
                AcceptRule::Certified => {
                    // There is nobody to tell of a refusal, and the offer is there.
                    let _ = self.accept_offer(circle, None);
                }
            }
        }
    }

    fn take_offer(&mut self, circle: &CircleId) -> Result<Offer, CommandRefusal> {
        if !self.offers.get(circle).is_some_and(|offer| offer.certified) {
            return Err(CommandRefusal::UnknownOffer);
        }
        self.offers.remove(circle).ok_or(CommandRefusal::UnknownOffer)
    }

    fn accept_offer(&mut self, circle: CircleId, reply_to: Option<CommandId>) -> Result<(), CommandRefusal> {
        let offer = self.take_offer(&circle)?;
        self.offered_by(&offer);
        let key = fact_key(CIRCLE_FACT, &[&circle.0.0]);
        let mut writes = vec![Write::Fact { key, value: offer.charter.to_bytes() }];
        let mut after = BTreeMap::new();
        for write in &offer.writes {
            if let Write::Entry(entry) = write {
                after.insert(entry.key(), (entry.header().seq + 1, entry.hash()));
            }
        }
        writes.extend(offer.writes);
        self.circles.insert(circle, offer.preview);
        let durable = after.into_iter().map(|(key, (height, head))| After::Durable { key, height, head });
        let mut after: Vec<After> = durable.collect();
        after
            .push(After::BranchesDurable { circle, operations: writes.iter().filter_map(branches::in_fact).collect() });
        after.push(After::Joined(circle));
        after.extend(reply_to.map(|id| After::Reply(id, Reply::Done)));
        self.store(writes, after);
        Ok(())
    }
}

/// The node remembers facts of its own beside the engine's, and must not name one as the engine does.
fn assert_not_ours(key: &[u8]) {
    let ours = FACTS.iter().any(|prefix| key.starts_with(prefix));
    assert!(!ours, "a fact of the node is named as one of the engine's");
}

/// What must leave the store before these can be written: the other branch that it holds in their place. It may hold
/// more of a log than this node counts, for that was set aside or stands behind damage.
fn rewinds(store: &dyn Read, writes: &[Write]) -> Result<Vec<Write>, Damage> {
    let mut runs: BTreeMap<LogKey, Vec<(u64, Hash)>> = BTreeMap::new();
    for write in writes {
        if let Write::Entry(entry) = write {
            runs.entry(entry.key()).or_default().push((entry.header().seq, entry.hash()));
        }
    }
    let rewind = |(key, run): (LogKey, Vec<(u64, Hash)>)| {
        let height = store.parts(&key, &run)?;
        Ok(height.map(|height| Write::Rewind { key, height }))
    };
    runs.into_iter().map(rewind).filter_map(Result::transpose).collect()
}
