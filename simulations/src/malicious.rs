//! Malicious members: certified, in circles, with an engine like everybody's, and bad intentions.
//!
//! Each does one kind of thing, over raw frames and with its own keys. It can do nothing that the network would not
//! let it do; what others make of it is for the checkers to see.

use clap::ValueEnum;
use cwn_crypto::{
    Domain, Hash, PublicKey, Signature, SigningKey, Time, encoding,
    issuer_log::{CutLine, LogId},
    seal::{Recipient, SealingKey},
};
use cwn_engine::{
    circle::{Act, Charter, Operation, Steward, Stewardship, Terms},
    epoch::{self, Record},
    fork::{Branch, ForkProof},
    held::{SignedStatement, Statement},
    input::SessionId,
    limits,
    log::{Authentic, CircleId, Draft, EntryBytes, Header, LogKind, Opening, Payload, Suite, Under, Writer},
    wire::{Arrival, BucketHash, Bundle, Frame, GivenKey, RunFrame, Tag, Trail, WireTip},
};

use crate::{
    dice::Dice,
    network::Message,
    people::short,
    world::{Coming, Node, World},
};

/// How long one waits between two misdeeds, at most.
const PAUSE_MS: u64 = 60_000;
/// Frames that a replayer keeps, and how many it says again at once, at most.
const REMEMBERED: usize = 64;
const REPLAYED: u64 = 8;
/// Entries that a forker writes in each branch of a log.
const FORKED_ENTRIES: usize = 12;
/// Operations that a splitter writes in each branch of a control log.
const SPLIT_OPERATIONS: usize = 4;
/// Entries that a flooder writes at once, at most, and how long they may be.
const FLOOD_ENTRIES: u64 = 60;
const FLOOD_BYTES: u64 = 3_000;
/// Certificates that the thief of the issuer's key makes: by then everybody has heard the alarm.
const FORGED_CERTIFICATES: u64 = 6;
/// Where the numbers of those begin, for each thief.
const FORGED_SERIAL: u64 = 1_000_000;
/// Frames that a boaster sends a peer at once, at most.
const BOASTS: u64 = 300;

/// Frames that a babbler says to each peer at once, at most; statements that it says to one peer now and then; and logs that
/// it invents for them.
const BABBLES: u64 = 24;
const STATED_AT_ONCE: u64 = 1_500;
const INVENTED_LOGS: u8 = 6;

/// What a malicious member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// Announces logs and heights that do not exist
    Announcer,
    /// Its clock is a month late, and it writes to circles it was removed from as if it had been before
    BackDater,
    /// Sends again what others sent, to anybody
    Replayer,
    /// Wraps epoch keys to some of those who count, or wraps another key than it says
    MisWrapper,
    /// Says what it holds, and sends nothing of it, or half, or never comes to an end
    Withholder,
    /// Sends runs with bad signatures inside
    BadSigner,
    /// Writes logs that it shows to one member alone
    Hider,
    /// Sends altered entries and noise
    Garbler,
    /// Acts as a steward by every right it ever had, whatever has become of it, having seen nothing of late
    Usurper,
    /// Puts entries of its own into others' logs, in their names
    Forger,
    /// Seals to the epochs that others made for what they write
    Borrower,
    /// Offers circles whose founder nobody certified
    Recruiter,
    /// Signs two entries for one place of a log, and shows each branch to some
    Forker,
    /// Says over and over that it holds something else than others, and never what
    Boaster,
    /// A steward that signs two operations for one place of a control log, and shows each branch to some
    Splitter,
    /// Writes more than the quotas of its circles let others take: long entries, and many logs
    Flooder,
    /// Has the key of somebody who was a steward, and acts as if that one were it still
    SeatThief,
    /// Has the issuer's key: certifies itself as a node of others' partners, and others with another sealing key
    IssuerThief,
    /// Says without end, rightly signed, what it and others hold, lack and ask for, in numbers that rise, of logs that it
    /// invents
    Babbler,
    /// Sends entries without what is in them, as if they had expired. Where nothing expires it is one more that sends
    /// nothing of use, so that no life draws it by chance.
    #[value(skip)]
    Stripper,
}

/// The bad side of one node.
#[derive(Debug)]
pub(crate) struct Malice {
    pub(crate) kind: Kind,
    dice: Dice,
    /// What it heard, and the circles that the tags in it named.
    heard: Vec<(Frame, Vec<Option<CircleId>>)>,
    /// Logs that it writes beside its engine's.
    writers: Vec<Writer>,
    /// Logs that it forks.
    forked: Vec<ForkedLog>,
    /// Control logs that it forks.
    split: Vec<SplitLog>,
    /// Rights it once had: the circle and what it counted by.
    rights: Vec<(CircleId, Under)>,
    /// Stewardships it once had.
    seats: Vec<(CircleId, Stewardship)>,
    /// The log that it writes with the issuer's key, and how often it certified somebody there.
    forged: Option<Writer>,
    certified: u64,
    /// How often it babbled.
    babbled: u64,
}

/// A control log in two branches, which are the same up to the second operation.
#[derive(Debug)]
struct SplitLog {
    circle: CircleId,
    stewardship: Stewardship,
    writers: [Writer; 2],
    branches: [Vec<EntryBytes>; 2],
}

/// A log in two branches, which are the same at first.
#[derive(Debug)]
struct ForkedLog {
    circle: CircleId,
    common: usize,
    writers: [Writer; 2],
    branches: [Vec<EntryBytes>; 2],
}

impl Malice {
    /// A kind of malice, drawn unless it is given.
    pub(crate) fn draw(mut dice: Dice, kind: Option<Kind>) -> Option<Self> {
        let drawn = *dice.pick(Kind::value_variants())?;
        let kind = kind.unwrap_or(drawn);
        Some(Self {
            kind,
            dice,
            heard: Vec::new(),
            writers: Vec::new(),
            forked: Vec::new(),
            split: Vec::new(),
            rights: Vec::new(),
            seats: Vec::new(),
            forged: None,
            certified: 0,
            babbled: 0,
        })
    }

    /// Whom it wraps an epoch key to, and the key that it wraps, instead of whom and what it should.
    pub(crate) fn wrap(&mut self, recipients: Vec<Recipient>, key: &mut [u8; 32]) -> Vec<Recipient> {
        if self.kind != Kind::MisWrapper {
            return recipients;
        }
        if self.dice.per_mille(300) {
            key[0] ^= 1;
            return recipients;
        }
        let (first, rest) = recipients.split_at(1.min(recipients.len()));
        let some = rest.iter().filter(|_| self.dice.per_mille(500));
        first.iter().chain(some).copied().collect()
    }

    /// What it sends instead of a frame of a run.
    pub(crate) fn serve(&mut self, mut frame: RunFrame) -> Option<RunFrame> {
        match self.kind {
            Kind::Withholder if self.dice.per_mille(700) => return None,
            Kind::Withholder => {
                frame.entries.truncate(1);
            }
            Kind::BadSigner => {
                let last = frame.entries.len().saturating_sub(1);
                for entry in &mut frame.entries[..last] {
                    if self.dice.per_mille(500) {
                        entry.signature = Signature([7; 64]);
                    }
                }
            }
            Kind::Garbler => {
                let one = self.dice.below(frame.entries.len() as u64) as usize;
                if let Some(byte) = frame.entries.get_mut(one).and_then(|entry| sealed(entry).first_mut()) {
                    *byte ^= 1;
                }
            }
            Kind::Forger => {
                let last = frame.entries.len().saturating_sub(1);
                let place = self.dice.below(frame.entries.len() as u64) as usize;
                match frame.entries.get(place).and_then(|entry| self.forge(entry, place == last)) {
                    Some(forged) if place == last => frame.entries.push(forged),
                    Some(forged) => frame.entries[place] = forged,
                    None => {}
                }
            }
            Kind::Stripper => {
                for entry in &mut frame.entries {
                    let header = Header::from_bytes(&entry.header);
                    if header.is_ok_and(|header| header.suite.kind() == LogKind::Content && header.retracts.is_none()) {
                        entry.payload = Payload::Dropped;
                    }
                }
            }
            _ => {}
        }
        Some(frame)
    }

    /// Whether a run that it sends comes to an end.
    pub(crate) fn ends_runs(&mut self) -> bool {
        self.kind != Kind::Withholder || self.dice.per_mille(500)
    }

    /// Whether it keeps a frame of its own engine to itself.
    pub(crate) fn keeps_back(&self, bytes: &[u8]) -> bool {
        let shows = |frame| matches!(frame, Frame::Tips { .. } | Frame::Have { .. } | Frame::Push { .. });
        self.kind == Kind::Boaster && Frame::from_bytes(bytes).is_ok_and(shows)
    }

    /// Another entry in the place of one, or after it, in its author's name.
    fn forge(&mut self, entry: &EntryBytes, after: bool) -> Option<EntryBytes> {
        let mut header = Header::from_bytes(&entry.header).ok()?;
        let payload = self.dice.bytes().to_vec();
        header.payload_hash = Hash::of(Domain::PAYLOAD, &[&payload]);
        header.payload_length = payload.len() as u32;
        if after {
            header.seq += 1;
            header.previous = Some(Hash::of(Domain::ENTRY, &[&entry.header]));
            header.opening = None;
        }
        Some(EntryBytes {
            header: encoding::to_bytes(&header),
            signature: entry.signature,
            payload: Payload::Sealed(payload),
        })
    }

    /// A frame came in; `named` says which circle a tag in it names.
    fn hear(&mut self, mut frame: Frame, named: impl Fn(&Tag) -> Option<CircleId>) {
        if self.heard.len() >= REMEMBERED {
            self.heard.remove(0);
        }
        let circles = tags(&mut frame).into_iter().map(|tag| named(tag)).collect();
        self.heard.push((frame, circles));
    }
}

impl World {
    /// Lets a malicious member do something now and then.
    pub(crate) fn plot(&mut self, node: usize) {
        let Some(malice) = &mut self.nodes[node].malice else { return };
        let pause = malice.dice.between(1_000, PAUSE_MS);
        self.schedule(self.now.plus(pause), Coming::Misdeed { node });
    }

    /// A malicious member does what it does.
    pub(crate) fn misdeed(&mut self, node: usize) {
        self.plot(node);
        // What keeps nobody from agreeing goes on while all must agree.
        let boasts = self.nodes[node].malice.as_ref().is_some_and(|malice| malice.kind == Kind::Boaster);
        if (self.calm && !boasts) || !self.nodes[node].runs() {
            return;
        }
        let Some(mut malice) = self.nodes[node].malice.take() else { return };
        self.remember_rights(node, &mut malice);
        match malice.kind {
            Kind::Announcer => self.announce_inventions(node, &mut malice),
            Kind::BackDater => self.write_beyond(node, &mut malice, 30 * Time::DAY_MS),
            Kind::Hider | Kind::Borrower => self.write_beyond(node, &mut malice, 0),
            Kind::Replayer => self.replay_frames(node, &mut malice),
            Kind::Garbler => self.send_noise(node, &mut malice),
            Kind::Usurper => self.usurp(node, &mut malice),
            Kind::Splitter => self.split_log(node, &mut malice),
            Kind::Flooder => self.flood(node, &mut malice),
            Kind::SeatThief => self.steal_seat(node, &mut malice),
            Kind::IssuerThief => self.certify(node, &mut malice),
            Kind::Forger => self.push_forgery(node, &mut malice),
            Kind::Recruiter => self.recruit(node, &mut malice),
            Kind::Forker => self.fork(node, &mut malice),
            Kind::Boaster => self.boast(node, &mut malice),
            Kind::Babbler => self.babble(node, &mut malice),
            Kind::MisWrapper | Kind::Withholder | Kind::BadSigner | Kind::Stripper => {}
        }
        self.nodes[node].malice = Some(malice);
    }

    fn remember_rights(&self, node: usize, malice: &mut Malice) {
        let me = self.nodes[node].me;
        let circles = self.nodes[node].engine.iter().flat_map(|engine| engine.circles());
        for replica in circles.filter(|replica| replica.control().is_some()) {
            if let Some(member) = replica.fold().roster().member(&me) {
                let right = (replica.id(), member.under);
                if !malice.rights.contains(&right) {
                    malice.rights.push(right);
                }
                let seat = member.steward.as_ref().map(|(_, stewardship)| (replica.id(), *stewardship));
                malice.seats.extend(seat.filter(|seat| !malice.seats.contains(seat)));
            }
        }
    }

    /// A peer that shares a circle, and the tag by which it is named there.
    fn sharer(&self, node: usize, circle: &CircleId, dice: &mut Dice) -> Option<(SessionId, Tag)> {
        let sharing = self.nodes[node].engine.as_ref()?.sharing(circle);
        dice.pick(&sharing).map(|(_, session, tag)| (*session, *tag))
    }

    fn send_raw(&mut self, node: usize, session: SessionId, bytes: Vec<u8>) {
        if let Some(side) = self.side(node, session) {
            self.trace.event(self.now, 11, node, &bytes);
            self.deliver(session, 1 - side, Message::Frame(bytes));
        }
    }

    fn own_circle(&self, node: usize, dice: &mut Dice) -> Option<CircleId> {
        let engine = self.nodes[node].engine.as_ref()?;
        let circles: Vec<CircleId> = engine.circles().map(|replica| replica.id()).collect();
        dice.pick(&circles).copied()
    }

    fn announce_inventions(&mut self, node: usize, malice: &mut Malice) {
        let dice = &mut malice.dice;
        let Some(circle) = self.own_circle(node, dice) else { return };
        let Some((session, tag)) = self.sharer(node, &circle, dice) else { return };
        let mut tips = Vec::new();
        let flood = dice.per_mille(30);
        for _ in 0..if flood { limits::TIPS_PER_FRAME as u64 } else { dice.between(1, 200) } {
            let author = self.nodes[dice.below(self.nodes.len() as u64) as usize].me;
            let log = dice.log();
            let head = Some(Hash(dice.bytes()));
            tips.push(WireTip {
                author,
                log: LogId(log),
                first: dice.per_mille(300),
                height: dice.between(1, 50),
                head,
                forked: dice.per_mille(100),
            });
        }
        self.trace.tell(self.now, || format!("p{node:02} announces {} inventions in {}", tips.len(), short(&circle)));
        // Three floods are more than anybody remembers of one peer.
        for part in 0..if flood { 3 } else { 1 } {
            tips.iter_mut().for_each(|tip| tip.log.0[0] = tip.log.0[0].wrapping_add(part));
            self.send_raw(node, session, Frame::Have { tag, tips: tips.clone() }.to_bytes());
        }
    }

    /// Writes in a log of its own, by any right it ever had, and shows it to one member.
    fn write_beyond(&mut self, node: usize, malice: &mut Malice, late_ms: u64) {
        let Some((circle, under)) = malice.dice.pick(&malice.rights).copied() else { return };
        let Some((session, tag)) = self.sharer(node, &circle, &mut malice.dice) else { return };
        let fresh = malice.dice.per_mille(200);
        let known = malice.writers.iter().position(|writer| writer.key().circle == circle).filter(|_| !fresh);
        let place = known.unwrap_or_else(|| {
            let log = malice.dice.log();
            let opening = Opening { under, cites: Vec::new() };
            malice.writers.push(Writer::open(circle, self.nodes[node].key.clone(), LogId(log), opening));
            malice.writers.len() - 1
        });
        let time = Time(self.now.0 - late_ms);
        let epoch = if malice.kind == Kind::Borrower { self.epoch_of_others(node, &circle, malice) } else { None };
        let suite = if epoch.is_some() { Suite::Epoch } else { Suite::Named };
        let draft = Draft { suite, epoch, payload: malice.dice.bytes().to_vec(), expiry: None, retracts: None };
        let entry = malice.writers[place].append(time, draft);
        self.trace.tell(self.now, || format!("p{node:02} writes beside its engine in {}", short(&circle)));
        let entry = entry.bytes().clone();
        self.send_raw(node, session, Frame::Push { tag, record: None, entry }.to_bytes());
    }

    /// Writes on in both branches of a log, by any right it ever had, and shows members one branch or the other.
    fn fork(&mut self, node: usize, malice: &mut Malice) {
        let Some((circle, under)) = malice.dice.pick(&malice.rights).copied() else { return };
        let goes_on = |log: &ForkedLog| log.circle == circle && log.branches[0].len() < FORKED_ENTRIES;
        let place = malice.forked.iter().position(goes_on).unwrap_or_else(|| {
            let log = malice.dice.log();
            let opening = || Opening { under, cites: Vec::new() };
            let writers = [0, 1].map(|_| Writer::open(circle, self.nodes[node].key.clone(), LogId(log), opening()));
            let common = malice.dice.below(4) as usize;
            malice.forked.push(ForkedLog { circle, common, writers, branches: [Vec::new(), Vec::new()] });
            malice.forked.len() - 1
        });
        let ForkedLog { common, writers, branches, .. } = &mut malice.forked[place];
        let text = malice.dice.bytes().to_vec();
        for (side, (writer, branch)) in writers.iter_mut().zip(branches.iter_mut()).enumerate() {
            let mut payload = text.clone();
            payload[0] ^= if branch.len() < *common { 0 } else { side as u8 };
            let draft = Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts: None };
            let entry = writer.append(self.now, draft);
            self.truth.sign(&entry);
            branch.push(entry.bytes().clone());
        }
        self.trace.tell(self.now, || format!("p{node:02} forks a log in {}", short(&circle)));
        self.show_branches(node, &circle, &malice.forked[place].branches, &mut malice.dice);
    }

    /// Goes on with both branches of a control log, by any stewardship it ever had, and shows members one or the other.
    fn split_log(&mut self, node: usize, malice: &mut Malice) {
        let Some((circle, stewardship)) = malice.dice.pick(&malice.seats).copied() else { return };
        let replica = self.nodes[node].engine.as_ref().and_then(|engine| engine.circle(&circle));
        let Some(heads) = replica.and_then(|replica| replica.control()).map(|control| control.heads()) else { return };
        let of_seat = |log: &SplitLog| (log.circle, log.stewardship) == (circle, stewardship);
        let goes_on = |log: &SplitLog| of_seat(log) && log.branches[0].len() < SPLIT_OPERATIONS;
        let place = malice.split.iter().position(goes_on);
        // A steward that forks without end is one whom others dismiss; two logs show all there is to see.
        if place.is_none() && malice.split.iter().filter(|log| of_seat(log)).count() >= 2 {
            return;
        }
        let place = place.unwrap_or_else(|| {
            let log = LogId(malice.dice.log());
            let writers = [0, 1].map(|_| {
                let opening = Opening { under: under_of(&stewardship), cites: Vec::new() };
                Writer::open(circle, self.nodes[node].key.clone(), log, opening)
            });
            malice.split.push(SplitLog { circle, stewardship, writers, branches: [Vec::new(), Vec::new()] });
            malice.split.len() - 1
        });
        let same = malice.split[place].branches[0].is_empty();
        let acts = match self.some_act(malice) {
            act if same => [act.clone(), act],
            act => [act, self.some_act(malice)],
        };
        let SplitLog { writers, branches, .. } = &mut malice.split[place];
        for ((writer, branch), act) in writers.iter_mut().zip(branches.iter_mut()).zip(acts) {
            let entry = operate(writer, self.now, stewardship, heads.clone(), act);
            self.truth.sign(&entry);
            branch.push(entry.bytes().clone());
        }
        self.trace.tell(self.now, || format!("p{node:02} forks a control log in {}", short(&circle)));
        self.show_branches(node, &circle, &malice.split[place].branches, &mut malice.dice);
    }

    /// Shows each member a branch, or nothing.
    fn show_branches(&mut self, node: usize, circle: &CircleId, branches: &[Vec<EntryBytes>; 2], dice: &mut Dice) {
        let sharing = self.nodes[node].engine.as_ref().map(|engine| engine.sharing(circle)).unwrap_or_default();
        for (_, session, tag) in sharing {
            let branch = dice.pick(branches).filter(|_| dice.per_mille(700));
            for entry in branch.cloned().unwrap_or_default() {
                self.send_raw(node, session, Frame::Push { tag, record: None, entry }.to_bytes());
            }
        }
    }

    /// Writes more in a circle, to everybody, than anybody may.
    fn flood(&mut self, node: usize, malice: &mut Malice) {
        let Some((circle, under)) = malice.dice.pick(&malice.rights).copied() else { return };
        let known = malice.writers.iter().position(|writer| writer.key().circle == circle);
        let many_logs = malice.dice.per_mille(500);
        let mut entries = Vec::new();
        for _ in 0..malice.dice.between(1, FLOOD_ENTRIES) {
            let fresh = || Opening { under, cites: Vec::new() };
            let place = known.filter(|_| !many_logs).or_else(|| {
                let last = malice.writers.len().checked_sub(1).filter(|_| !many_logs);
                last.filter(|last| malice.writers[*last].key().circle == circle)
            });
            let place = place.unwrap_or_else(|| {
                let log = LogId(malice.dice.log());
                malice.writers.push(Writer::open(circle, self.nodes[node].key.clone(), log, fresh()));
                malice.writers.len() - 1
            });
            let payload = vec![malice.dice.bytes()[0]; malice.dice.below(FLOOD_BYTES) as usize];
            let draft = Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts: None };
            entries.push(malice.writers[place].append(self.now, draft).bytes().clone());
        }
        self.trace.tell(self.now, || format!("p{node:02} floods {} with {} entries", short(&circle), entries.len()));
        let sharing = self.nodes[node].engine.as_ref().map(|engine| engine.sharing(&circle)).unwrap_or_default();
        for (_, session, tag) in sharing {
            for entry in entries.clone() {
                self.send_raw(node, session, Frame::Push { tag, record: None, entry }.to_bytes());
            }
        }
    }

    /// Acts, with the key of somebody honest who was a steward and is none by what it knows, as if that one were.
    fn steal_seat(&mut self, node: usize, malice: &mut Malice) {
        let Some(circle) = self.own_circle(node, &mut malice.dice) else { return };
        let replica = self.nodes[node].engine.as_ref().and_then(|engine| engine.circle(&circle));
        let (Some(history), Some(replica)) = (self.truth.histories.get(&circle), replica) else { return };
        let retired = |index: &usize| {
            let owner = &self.nodes[*index];
            let member = replica.fold().roster().member(&owner.me);
            let sits = member.is_some_and(|member| member.steward.is_some());
            owner.is_honest() && !owner.is_double && !sits && !history.seats_of(&owner.me).is_empty()
        };
        let retired: Vec<usize> = (0..self.nodes.len()).filter(retired).collect();
        let Some(owner) = malice.dice.pick(&retired).copied() else { return };
        let seats = history.seats_of(&self.nodes[owner].me);
        let Some(stewardship) = malice.dice.pick(&seats).copied() else { return };
        let heads = match replica.control() {
            Some(control) if malice.dice.per_mille(500) => control.heads(),
            _ => match stewardship {
                Stewardship::Charter(_) => Vec::new(),
                Stewardship::Appointed(appointment) => vec![appointment],
            },
        };
        let opening = Opening { under: under_of(&stewardship), cites: Vec::new() };
        let key = self.nodes[owner].key.clone();
        let mut writer = Writer::open(circle, key, LogId(malice.dice.log()), opening);
        let act = self.some_act(malice);
        let entry = operate(&mut writer, self.now, stewardship, heads, act);
        self.truth.steal(&entry);
        self.trace.tell(self.now, || format!("p{node:02} acts in the place of p{owner:02} in {}", short(&circle)));
        let Some((session, tag)) = self.sharer(node, &circle, &mut malice.dice) else { return };
        self.send_raw(node, session, Frame::Push { tag, record: None, entry: entry.bytes().clone() }.to_bytes());
    }

    /// Says something with the issuer's key: that a key of its own is a node of somebody's partner, or that somebody's
    /// node has another sealing key.
    fn certify(&mut self, node: usize, malice: &mut Malice) {
        if malice.certified >= FORGED_CERTIFICATES || self.plan.scenario.without_coordinator {
            return;
        }
        let Some(network) = self.nodes[node].engine.as_ref().map(|engine| engine.network()) else { return };
        let Some((session, tag)) = self.sharer(node, &network, &mut malice.dice) else { return };
        let victim = malice.dice.below(self.nodes.len() as u64) as usize;
        let other = SealingKey::from_bytes(malice.dice.bytes()).recipient();
        let key = match malice.dice.per_mille(500) {
            true => SigningKey::from_seed(&malice.dice.bytes()).public(),
            false => self.nodes[victim].me,
        };
        malice.certified += 1;
        let serial = FORGED_SERIAL * (1 + node as u64) + malice.certified;
        let log = LogId(malice.dice.log());
        let entry = self.forge_certificate(&mut malice.forged, log, serial, (victim, key, other));
        self.trace.tell(self.now, || format!("p{node:02} certifies with the issuer's key, as a node of p{victim:02}"));
        self.send_raw(node, session, Frame::Push { tag, record: None, entry }.to_bytes());
    }

    /// Something that a steward may do, or may not.
    fn some_act(&self, malice: &mut Malice) -> Act {
        let other = &self.nodes[malice.dice.below(self.nodes.len() as u64) as usize];
        let (partner, member) = (other.partner.clone(), other.member());
        match malice.dice.below(4) {
            0 => Act::Add { partner, nodes: vec![member] },
            1 => Act::Appoint { partner, node: member },
            2 => Act::Dismiss { node: member.node, cut: Vec::new() },
            _ => Act::Remove { partner, node: None, cut: Vec::new() },
        }
    }

    /// Says digests of nothing that it then shows.
    fn boast(&mut self, node: usize, malice: &mut Malice) {
        let Some(circle) = self.own_circle(node, &mut malice.dice) else { return };
        let sharing = self.nodes[node].engine.as_ref().map(|engine| engine.sharing(&circle)).unwrap_or_default();
        self.trace.tell(self.now, || format!("p{node:02} boasts in {}", short(&circle)));
        for (_, session, tag) in sharing {
            for _ in 0..malice.dice.below(BOASTS) {
                let what = malice.dice.bytes();
                let frame = if what[31] & 1 == 0 {
                    Frame::Digest { tag, digest: Hash(what) }
                } else {
                    let mut short = [0; 8];
                    short.copy_from_slice(&what[1..9]);
                    Frame::Buckets { tag, buckets: vec![(what[0], BucketHash(short))] }
                };
                self.send_raw(node, session, frame.to_bytes());
            }
        }
    }

    /// Says to everybody in a circle what members say to each other beside what they write, and none of it is so.
    fn babble(&mut self, node: usize, malice: &mut Malice) {
        let Some(circle) = self.own_circle(node, &mut malice.dice) else { return };
        let sharing = self.nodes[node].engine.as_ref().map(|engine| engine.sharing(&circle)).unwrap_or_default();
        self.trace.tell(self.now, || format!("p{node:02} babbles in {}", short(&circle)));
        if malice.dice.per_mille(10)
            && let Some((peer, session, tag)) = malice.dice.pick(&sharing).copied()
        {
            for _ in 0..STATED_AT_ONCE {
                malice.babbled += 1;
                let statement = self.invent_statement(node, &circle, peer, malice);
                self.send_raw(node, session, Frame::Held { tag, statement }.to_bytes());
            }
        }
        for (peer, session, tag) in sharing {
            for _ in 0..malice.dice.between(1, BABBLES) {
                malice.babbled += 1;
                if let Some(frame) = self.babbled(node, &circle, &peer, tag, malice) {
                    self.send_raw(node, session, frame.to_bytes());
                }
            }
        }
    }

    fn babbled(
        &mut self,
        node: usize,
        circle: &CircleId,
        peer: &PublicKey,
        tag: Tag,
        malice: &mut Malice,
    ) -> Option<Frame> {
        let other = self.nodes[malice.dice.below(self.nodes.len() as u64) as usize].me;
        let author = if malice.dice.per_mille(500) { *peer } else { other };
        let epochs = |malice: &mut Malice| vec![self.some_epoch(node, circle, malice), Hash(malice.dice.bytes())];
        Some(match malice.dice.below(14) {
            0..=3 => Frame::Held { tag, statement: self.invent_statement(node, circle, author, malice) },
            4 => {
                let to: Vec<PublicKey> = self.nodes.iter().map(|node| node.me).filter(|node| node != peer).collect();
                let trail = Trail { left: limits::HANDED_ON, astray: malice.dice.per_mille(500) };
                let authors = self.nodes.iter().map(|node| node.me);
                let statements = authors.map(|author| self.invent_statement(node, circle, author, malice)).collect();
                Frame::HandOn { tag, bundles: vec![Bundle { to, trail, statements }] }
            }
            5 => {
                let at: Vec<PublicKey> = self.nodes.iter().map(|node| node.me).collect();
                let arrival = |holder| Arrival { holder, author, time: self.now, at: at.clone() };
                Frame::Arrived { tag, arrivals: at.iter().map(|holder| arrival(*holder)).collect() }
            }
            6 => Frame::WantKeys { tag, epochs: epochs(malice) },
            7 => {
                let key = |epoch| GivenKey { epoch, wrapped: vec![7; limits::GIVEN_KEY_BYTES] };
                Frame::Keys { tag, keys: epochs(malice).into_iter().map(key).collect() }
            }
            8 => Frame::WantRecords { tag, epochs: epochs(malice) },
            9 => {
                let replica = self.nodes[node].engine.as_ref()?.circle(circle)?;
                let record = Record {
                    circle: *circle,
                    maker: self.nodes[node].me,
                    heads: replica.control()?.heads(),
                    left_out: Vec::new(),
                    commitment: Hash(malice.dice.bytes()),
                    wrapped: vec![7; 300],
                    made: self.now,
                };
                Frame::Records { tag, records: vec![epoch::sign(&record, &self.nodes[node].key)] }
            }
            10 => {
                let newest = Some(Hash(malice.dice.bytes()));
                Frame::Root { held: malice.babbled as u32, document: None, newest }
            }
            11 => {
                let under = malice.rights.iter().find(|(of, _)| of == circle).map(|(_, under)| *under)?;
                let [one, other] = self.fork_at_once(node, circle, under, malice);
                let branch =
                    |entry: EntryBytes| Branch { headers: vec![entry.header.into()], signature: entry.signature };
                Frame::Fork { tag, proof: ForkProof { one: branch(one), other: branch(other) } }
            }
            12 => {
                let opening = Opening { under: Under::Charter, cites: Vec::new() };
                let log = LogId(malice.dice.log());
                let mut writer = Writer::open(*circle, self.nodes[node].key.clone(), log, opening);
                let mut operation = || {
                    let act = self.some_act(malice);
                    operate(&mut writer, self.now, Stewardship::Charter(0), Vec::new(), act).bytes().clone()
                };
                Frame::Branches { tag, entries: vec![operation(), operation()], goes_on: false }
            }
            _ => Frame::Offer { circles: vec![(Tag(malice.dice.log()), Hash(malice.dice.bytes()))] },
        })
    }

    /// Says of itself that it holds more of an author's logs than it said before, of those that there are and of others.
    fn invent_statement(
        &self,
        node: usize,
        circle: &CircleId,
        author: PublicKey,
        malice: &mut Malice,
    ) -> SignedStatement {
        let held = self.nodes[node].disk.held().logs.keys();
        let real = held.filter(|key| key.circle == *circle && key.author == author).map(|key| key.log);
        let invented = (0..INVENTED_LOGS).map(|log| LogId([log; 16]));
        let mut logs: Vec<LogId> = real.take(INVENTED_LOGS.into()).chain(invented).collect();
        logs.sort();
        let line = |log| CutLine { log, height: malice.babbled, head: Hash([7; 32]) };
        let heads = logs.into_iter().map(line).collect();
        let unopenable = vec![self.some_epoch(node, circle, malice), Hash(malice.dice.bytes())];
        let holder = self.nodes[node].me;
        let statement = Statement { circle: *circle, holder, author, heads, unopenable, time: self.now };
        statement.sign(&self.nodes[node].key)
    }

    /// Two entries for the first place of a log of its own.
    fn fork_at_once(&mut self, node: usize, circle: &CircleId, under: Under, malice: &mut Malice) -> [EntryBytes; 2] {
        let log = LogId(malice.dice.log());
        [0, 1].map(|side| {
            let opening = Opening { under, cites: Vec::new() };
            let mut writer = Writer::open(*circle, self.nodes[node].key.clone(), log, opening);
            let draft = Draft { suite: Suite::Named, epoch: None, payload: vec![side], expiry: None, retracts: None };
            let entry = writer.append(self.now, draft);
            self.truth.sign(&entry);
            entry.bytes().clone()
        })
    }

    /// An epoch of a circle, if there is any, or one that is none.
    fn some_epoch(&self, node: usize, circle: &CircleId, malice: &mut Malice) -> Hash {
        let replica = self.nodes[node].engine.as_ref().and_then(|engine| engine.circle(circle));
        let epochs: Vec<Hash> = replica.into_iter().flat_map(|one| one.epochs()).map(|(hash, _)| *hash).collect();
        malice.dice.pick(&epochs).copied().unwrap_or(Hash([7; 32]))
    }

    /// An epoch whose key this node has, to read what others write.
    fn epoch_of_others(&self, node: usize, circle: &CircleId, malice: &mut Malice) -> Option<Hash> {
        let me = &self.nodes[node].me;
        let epochs = self.nodes[node].engine.as_ref()?.circle(circle)?.epochs();
        let others: Vec<Hash> =
            epochs.filter(|(_, epoch)| epoch.names(me) && !epoch.admits(me)).map(|(hash, _)| *hash).collect();
        malice.dice.pick(&others).copied()
    }

    /// Shows somebody an entry that its author never wrote.
    fn push_forgery(&mut self, node: usize, malice: &mut Malice) {
        let Some(circle) = self.own_circle(node, &mut malice.dice) else { return };
        let Some((session, tag)) = self.sharer(node, &circle, &mut malice.dice) else { return };
        let logs: Vec<_> = self.nodes[node].disk.held().logs.iter().filter(|(key, _)| key.circle == circle).collect();
        let last = malice.dice.pick(&logs).and_then(|(_, log)| log.last()).map(|(_, entry)| EntryBytes::clone(entry));
        let Some(entry) = last.and_then(|last| malice.forge(&last, true)) else { return };
        self.trace.tell(self.now, || format!("p{node:02} forges an entry in {}", short(&circle)));
        self.send_raw(node, session, Frame::Push { tag, record: None, entry }.to_bytes());
    }

    /// Offers somebody a circle of which it is a steward beside a founder that does not exist.
    fn recruit(&mut self, node: usize, malice: &mut Malice) {
        let sessions: Vec<SessionId> = self.nodes[node].sessions.values().copied().collect();
        let Some(session) = malice.dice.pick(&sessions).copied() else { return };
        let known = &self.network.sessions[&session];
        let other = known.ends[1 - known.side_of(node)].node;
        let nobody = SigningKey::from_seed(&malice.dice.bytes()).public();
        let steward = |index: usize| {
            let node = &self.nodes[index];
            Steward { partner: node.partner.clone(), node: node.member() }
        };
        let mut founder = steward(node);
        founder.node.node = nobody;
        let stewards = vec![founder, steward(other)];
        self.trace.tell(self.now, || format!("p{node:02} offers p{other:02} circles that nobody founded"));
        for _ in 0..malice.dice.between(1, 6) {
            let charter = Charter {
                name: "come in".to_owned(),
                stewards: stewards.clone(),
                terms: Terms::default(),
                secret: malice.dice.bytes(),
                founded: self.now,
                succeeds: None,
            };
            let frame = Frame::Welcome { charter: charter.to_bytes(), entries: Vec::new(), last: true };
            self.send_raw(node, session, frame.to_bytes());
        }
    }

    /// A frame comes to a node: whoever replays remembers it.
    pub(crate) fn overhear(&mut self, node: usize, session: SessionId, peer: &PublicKey, bytes: &[u8]) {
        let Node { engine: Some(engine), malice: Some(malice), .. } = &mut self.nodes[node] else { return };
        if let (Kind::Replayer, Ok(frame)) = (malice.kind, Frame::from_bytes(bytes)) {
            malice.hear(frame, |tag| engine.circle_by_tag(peer, session, tag));
        }
    }

    /// Says something again that others said, as if it said so itself: by its own tags in the session in which it says it.
    fn replay_frames(&mut self, node: usize, malice: &mut Malice) {
        let sessions: Vec<SessionId> = self.nodes[node].sessions.values().copied().collect();
        for _ in 0..malice.dice.between(1, REPLAYED) {
            let heard = malice.dice.pick(&malice.heard).cloned();
            let (Some(session), Some((mut frame, circles))) = (malice.dice.pick(&sessions).copied(), heard) else {
                return;
            };
            let own = |circle: CircleId| {
                let mut sharing = self.nodes[node].engine.as_ref()?.sharing(&circle).into_iter();
                sharing.find(|(_, of, _)| *of == session).map(|(.., tag)| tag)
            };
            let mut own_tags = 0;
            for (tag, circle) in tags(&mut frame).into_iter().zip(circles) {
                // Where it shares no such circle the tag is one that nobody knows.
                if let Some(own) = circle.and_then(own) {
                    *tag = own;
                    own_tags += 1;
                }
            }
            let shared = own_tags > 0;
            self.trace.tell(self.now, || {
                format!("p{node:02} says again {} what it heard", if shared { "by its own tag" } else { "blindly" })
            });
            self.send_raw(node, session, frame.to_bytes());
        }
    }

    fn send_noise(&mut self, node: usize, malice: &mut Malice) {
        let Some(circle) = self.own_circle(node, &mut malice.dice) else { return };
        let Some((session, tag)) = self.sharer(node, &circle, &mut malice.dice) else { return };
        let logs: Vec<_> = self.nodes[node].disk.held().logs.iter().filter(|(key, _)| key.circle == circle).collect();
        let Some((_, log)) = malice.dice.pick(&logs) else { return };
        let Some((_, entry)) = log.get(malice.dice.below(log.len() as u64) as usize) else { return };
        let mut entry: EntryBytes = (**entry).clone();
        let bytes = match malice.dice.below(3) {
            0 => {
                let at = malice.dice.below(entry.payload.len() as u64) as usize;
                sealed(&mut entry).iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x80);
                Frame::Push { tag, record: None, entry }.to_bytes()
            }
            1 => {
                let at = malice.dice.below(entry.header.len() as u64) as usize;
                entry.header.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
                Frame::Push { tag, record: None, entry }.to_bytes()
            }
            _ => malice.dice.bytes().to_vec(),
        };
        self.trace.tell(self.now, || format!("p{node:02} sends noise in {}", short(&circle)));
        self.send_raw(node, session, bytes);
    }

    /// An operation under any stewardship it ever had, or never had.
    fn usurp(&mut self, node: usize, malice: &mut Malice) {
        let Some((circle, under)) = malice.dice.pick(&malice.rights).copied() else { return };
        let Some((session, tag)) = self.sharer(node, &circle, &mut malice.dice) else { return };
        let (me, key): (_, SigningKey) = (self.nodes[node].me, self.nodes[node].key.clone());
        let replica = self.nodes[node].engine.as_ref().and_then(|engine| engine.circle(&circle));
        let Some(control) = replica.and_then(|replica| replica.control()) else { return };
        let place = control.charter().stewards.iter().position(|steward| steward.node.node == me);
        let stewardship = match (place, under) {
            (Some(place), _) => Stewardship::Charter(place as u16),
            (None, Under::Add(appointment)) => Stewardship::Appointed(appointment),
            _ => Stewardship::Charter(malice.dice.below(3) as u16),
        };
        // What it pretends to have seen: all, or nothing but what gave it its right.
        let heads = match under {
            _ if malice.dice.per_mille(500) => control.heads(),
            Under::Add(hash) => vec![hash],
            _ => Vec::new(),
        };
        let act = self.some_act(malice);
        let opening = Opening { under: under_of(&stewardship), cites: Vec::new() };
        let mut writer = Writer::open(circle, key, LogId(malice.dice.log()), opening);
        let entry = operate(&mut writer, self.now, stewardship, heads, act).bytes().clone();
        self.trace.tell(self.now, || format!("p{node:02} usurps in {}", short(&circle)));
        self.send_raw(node, session, Frame::Push { tag, record: None, entry }.to_bytes());
    }
}

/// Writes an operation.
fn operate(writer: &mut Writer, now: Time, stewardship: Stewardship, heads: Vec<Hash>, act: Act) -> Authentic {
    let payload = Operation { stewardship, heads, act }.to_bytes();
    writer.append(now, Draft { suite: Suite::Control, epoch: None, payload, expiry: None, retracts: None })
}

/// What a control log of a stewardship is opened under.
fn under_of(stewardship: &Stewardship) -> Under {
    match stewardship {
        Stewardship::Charter(_) => Under::Charter,
        Stewardship::Appointed(appointment) => Under::Add(*appointment),
    }
}

/// The tags by which a frame names circles.
fn tags(frame: &mut Frame) -> Vec<&mut Tag> {
    match frame {
        Frame::Offer { circles } => circles.iter_mut().map(|(tag, _)| tag).collect(),
        Frame::Digest { tag, .. }
        | Frame::Buckets { tag, .. }
        | Frame::Tips { tag, .. }
        | Frame::Push { tag, .. }
        | Frame::Have { tag, .. }
        | Frame::Held { tag, .. }
        | Frame::HandOn { tag, .. }
        | Frame::Arrived { tag, .. }
        | Frame::WantKeys { tag, .. }
        | Frame::Keys { tag, .. }
        | Frame::WantRecords { tag, .. }
        | Frame::Records { tag, .. }
        | Frame::Fork { tag, .. }
        | Frame::Branches { tag, .. } => vec![tag],
        Frame::Hello { .. } | Frame::Welcome { .. } | Frame::Root { .. } => Vec::new(),
    }
}

/// The sealed payload of an entry; nothing, when its author took it back.
fn sealed(entry: &mut EntryBytes) -> &mut [u8] {
    match &mut entry.payload {
        Payload::Sealed(bytes) => bytes,
        Payload::Retracted(_) | Payload::Dropped => &mut [],
    }
}
