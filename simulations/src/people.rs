//! People and misfortune: what is done and what goes wrong, drawn by a scenario's rates.

use std::collections::BTreeSet;

use cwn_crypto::{Hash, Time, encoding, issuer_log::Statement};
use cwn_engine::{
    circle::{Charter, History, Quota, Steward, Terms},
    epoch::SignedRecord,
    input::{Audience, Command},
    limits,
    log::{CircleId, EntryBytes, LogKind, Retracts},
    succession::succeeding,
};

use crate::{
    malicious::Kind,
    plan::Trouble,
    world::{Acknowledged, Coming, Node, World},
};

/// One thing that can happen at a time.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Publish,
    PublishToSome,
    Found,
    Add,
    Remove,
    Appoint,
    Dismiss,
    Policy,
    Raise,
    Succeed,
    Hand,
    Root,
    Revoke,
    Stop,
    Backup,
    Restore,
    Clone,
    Kill,
    PowerLoss,
    ConnectionDrop,
    FullQueue,
    Partition,
    OneWayCut,
    ClockJump,
    Rot,
    RotRecord,
    RotFact,
    DiskFull,
}

impl Deed {
    /// As what it can be left out.
    fn trouble(self) -> Option<Trouble> {
        match self {
            Self::Publish | Self::PublishToSome | Self::Add | Self::Backup => None,
            Self::Found => Some(Trouble::Foundings),
            Self::Remove => Some(Trouble::Removals),
            Self::Appoint | Self::Dismiss | Self::Policy => Some(Trouble::Stewards),
            Self::Raise => Some(Trouble::Raises),
            Self::Succeed => Some(Trouble::Successions),
            Self::Hand => Some(Trouble::Files),
            Self::Root => Some(Trouble::Roots),
            Self::Revoke => Some(Trouble::Revocations),
            Self::Stop => Some(Trouble::Stops),
            Self::Restore | Self::Clone => Some(Trouble::Backups),
            Self::Kill | Self::PowerLoss => Some(Trouble::Kills),
            Self::ConnectionDrop | Self::FullQueue => Some(Trouble::Drops),
            Self::Partition | Self::OneWayCut => Some(Trouble::Partitions),
            Self::ClockJump => Some(Trouble::Clocks),
            Self::Rot | Self::RotRecord | Self::RotFact | Self::DiskFull => Some(Trouble::Disks),
        }
    }
}

impl World {
    fn deeds(&self) -> Vec<(u64, Deed)> {
        let (people, faults) = (&self.plan.scenario.people, &self.plan.scenario.faults);
        vec![
            (people.publish, Deed::Publish),
            (people.publish_to_some, Deed::PublishToSome),
            (people.found, Deed::Found),
            (people.add, Deed::Add),
            (people.remove, Deed::Remove),
            (people.appoint, Deed::Appoint),
            (people.dismiss, Deed::Dismiss),
            (people.policy, Deed::Policy),
            (people.raise, Deed::Raise),
            (people.succeed, Deed::Succeed),
            (people.hand, Deed::Hand),
            (people.root, Deed::Root),
            (people.revoke, Deed::Revoke),
            (people.stop, Deed::Stop),
            (people.backup, Deed::Backup),
            (people.restore, Deed::Restore),
            (people.clone, Deed::Clone),
            (faults.kill, Deed::Kill),
            (faults.power_loss, Deed::PowerLoss),
            (faults.connection_drop, Deed::ConnectionDrop),
            (faults.full_queue, Deed::FullQueue),
            (faults.partition, Deed::Partition),
            (faults.one_way_cut, Deed::OneWayCut),
            (faults.clock_jump, Deed::ClockJump),
            (faults.rot, Deed::Rot),
            (faults.rot_record, Deed::RotRecord),
            (faults.rot_fact, Deed::RotFact),
            (faults.disk_full, Deed::DiskFull),
        ]
    }

    /// Lets the next thing happen after a while.
    pub(crate) fn live_on(&mut self) {
        let total = self.deeds().iter().map(|(rate, _)| rate).sum();
        let wait = self.people.wait(total);
        self.schedule(self.now.plus(wait), Coming::Life);
    }

    /// Something happens, and something after it.
    pub(crate) fn live(&mut self) {
        if self.calm {
            return;
        }
        self.live_on();
        let deeds = self.deeds();
        let mut draw = self.people.below(deeds.iter().map(|(rate, _)| rate).sum());
        for (rate, deed) in deeds {
            if draw < rate {
                return self.befall_apart(deed);
            }
            draw -= rate;
        }
    }

    /// Something happens that throws dice of its own, so that whether it does changes nothing for what comes after; unless it
    /// is left out.
    fn befall_apart(&mut self, deed: Deed) {
        let (people, faults) = (self.people.fork(), self.faults.fork());
        if deed.trouble().is_some_and(|trouble| self.plan.lacks(trouble)) {
            return;
        }
        let people = std::mem::replace(&mut self.people, people);
        let faults = std::mem::replace(&mut self.faults, faults);
        self.befall(deed);
        (self.people, self.faults) = (people, faults);
    }

    fn befall(&mut self, deed: Deed) {
        let everybody: Vec<usize> = (0..self.nodes.len()).collect();
        let running: Vec<usize> = everybody.iter().copied().filter(|node| self.nodes[*node].engine.is_some()).collect();
        let Some(node) = self.people.pick(&running).copied() else { return };
        match deed {
            Deed::Publish => self.publish(node, false),
            Deed::PublishToSome => self.publish(node, true),
            Deed::Found => self.found(node, None),
            Deed::Add => self.add(node),
            Deed::Remove => self.remove(node),
            Deed::Appoint => self.appoint(node),
            Deed::Dismiss => self.dismiss(node),
            Deed::Policy => {
                let Some(circle) = self.some_circle(node, true) else { return };
                self.texts += 1;
                let history = if self.texts.is_multiple_of(2) { History::All } else { History::None };
                let brief = self.plan.scenario.people.retention && self.texts.is_multiple_of(2);
                let retention_days = brief.then_some(1);
                let policy = self.texts.to_be_bytes().to_vec();
                let terms = Terms { policy, history, retention_days, quota: self.some_quota() };
                self.trace.tell(self.now, || format!("p{node:02} gives {} another policy", short(&circle)));
                self.command(node, "set a policy", Command::Policy { circle, terms }, None);
            }
            Deed::Raise => self.raise(node),
            Deed::Succeed => {
                let old = self.some_circle(node, false);
                self.found(node, old);
            }
            Deed::Hand => self.hand(node),
            Deed::Root => self.next_root(),
            Deed::Revoke => self.revoke(),
            Deed::Stop => self.go_down(node, 60_000, 3_600_000, false),
            Deed::Backup => {
                self.nodes[node].backup = Some(self.nodes[node].disk.held().clone());
                self.trace.tell(self.now, || format!("{} is backed up", self.nodes[node].name));
            }
            Deed::Restore => self.restore(node),
            Deed::Clone => {
                // Two machines of somebody malicious are one that is malicious.
                let once = self.nodes[node].is_honest() && !self.nodes[node].is_double;
                if once && self.nodes.len() < 2 * self.plan.nodes {
                    self.clone_node(node);
                }
            }
            Deed::Kill => self.go_down(node, 200, 60_000, false),
            Deed::PowerLoss => self.go_down(node, 5_000, 300_000, true),
            Deed::ConnectionDrop => {
                let open: Vec<_> = self.nodes[node].sessions.values().copied().collect();
                if let Some(session) = self.faults.pick(&open).copied() {
                    let late = [self.lines.between(1, 20_000), self.lines.between(1, 20_000)];
                    self.close(session, late);
                }
            }
            Deed::FullQueue => {
                let open: Vec<_> = self.nodes[node].sessions.values().copied().collect();
                if let Some(session) = self.faults.pick(&open).copied() {
                    let ms = self.faults.between(1_000, 60_000);
                    self.fill_queue(node, session, ms);
                }
            }
            Deed::Partition => {
                let side: Vec<bool> = everybody.iter().map(|_| self.faults.per_mille(500)).collect();
                let cut: Vec<(usize, usize)> = everybody
                    .iter()
                    .flat_map(|a| everybody.iter().map(move |b| (*a, *b)))
                    .filter(|(a, b)| side[*a] != side[*b])
                    .collect();
                let ms = 1 + self.faults.below(Self::minutes(self.plan.scenario.faults.partition_minutes));
                self.trace.tell(self.now, || format!("a partition: {side:?}"));
                self.cut(cut, ms);
            }
            Deed::OneWayCut => {
                let Some(other) = self.faults.pick(&everybody).copied().filter(|other| *other != node) else { return };
                let ms = 1 + self.faults.below(Self::minutes(self.plan.scenario.faults.partition_minutes));
                self.trace.tell(self.now, || format!("nothing gets from p{node:02} to p{other:02}"));
                self.cut(vec![(node, other)], ms);
            }
            Deed::ClockJump => {
                let far = 1_000 * self.plan.scenario.faults.clock_jump_seconds;
                let by = self.faults.below(2 * far + 1) as i64 - far as i64;
                self.nodes[node].clock_ahead_ms = by;
                self.trace.tell(self.now, || format!("the clock of p{node:02} is {by} ms ahead now"));
            }
            Deed::Rot => self.rot(node),
            Deed::RotRecord => self.rot_record(node),
            Deed::RotFact => self.rot_fact(node),
            Deed::DiskFull => {
                // The node goes on until it has something to write.
                self.trace.tell(self.now, || format!("the disk of p{node:02} fills up"));
                self.nodes[node].disk.fill(true);
                let wait = self.faults.between(60_000, 1_800_000);
                self.schedule(self.now.plus(wait), Coming::MakeRoom { node });
            }
        }
    }

    fn go_down(&mut self, node: usize, low: u64, high: u64, power: bool) {
        self.end(node, power);
        let wait = self.faults.between(low, high);
        self.schedule(self.now.plus(wait), Coming::Start { node });
    }

    fn rot(&mut self, node: usize) {
        let logs: Vec<_> = self.nodes[node].disk.held().logs.iter().map(|(key, log)| (*key, log.len())).collect();
        if let Some((key, height)) = self.faults.pick(&logs).copied() {
            let seq = self.faults.below(height as u64);
            self.trace.tell(self.now, || format!("entry {seq} of log {} rots on p{node:02}", key.log));
            self.nodes[node].disk.rot(key, seq);
        }
    }

    fn rot_record(&mut self, node: usize) {
        let records: Vec<_> = self.nodes[node].disk.held().records.keys().copied().collect();
        if let Some((circle, hash)) = self.faults.pick(&records).copied() {
            self.trace.tell(self.now, || format!("epoch record {hash} rots on p{node:02}"));
            self.nodes[node].disk.rot_record(circle, hash);
        }
    }

    fn rot_fact(&mut self, node: usize) {
        // Of each kind there are as many as there are of others: what is written most is not what matters most.
        let facts = &self.nodes[node].disk.held().facts;
        let kind = |key: &[u8]| key.split_inclusive(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let kinds: Vec<Vec<u8>> = facts.keys().map(|key| kind(key)).collect::<BTreeSet<_>>().into_iter().collect();
        let Some(drawn) = self.faults.pick(&kinds).cloned() else { return };
        let of_kind: Vec<Vec<u8>> = facts.keys().filter(|key| key.starts_with(&drawn)).cloned().collect();
        if let Some(key) = self.faults.pick(&of_kind).cloned() {
            let name = String::from_utf8_lossy(&drawn).into_owned();
            self.trace.tell(self.now, || format!("a fact of {name} rots on p{node:02}"));
            self.nodes[node].disk.rot_fact(key);
        }
    }

    /// Half of the nodes cannot reach the other half for so long.
    pub(crate) fn split(&mut self, ms: u64) {
        let half = self.nodes.len() / 2;
        let across = |a: usize, b: usize| (a < half) != (b < half);
        let all = 0..self.nodes.len();
        let ways = all.clone().flat_map(|a| all.clone().map(move |b| (a, b))).filter(|(a, b)| across(*a, *b));
        let ways = ways.collect();
        self.trace.tell(self.now, || "the network falls into two halves".to_owned());
        self.cut(ways, ms);
    }

    /// A circle that a node is in, as its own engine knows it.
    fn some_circle(&mut self, node: usize, steward: bool) -> Option<CircleId> {
        let Self { nodes, people, .. } = self;
        let (engine, me) = (nodes[node].engine.as_ref()?, nodes[node].me);
        let fits = |replica: &&cwn_engine::replica::Replica| {
            let member = replica.fold().roster().member(&me);
            replica.control().is_some() && member.is_some_and(|member| !steward || member.steward.is_some())
        };
        let circles: Vec<CircleId> = engine.circles().filter(fits).map(|replica| replica.id()).collect();
        people.pick(&circles).copied()
    }

    fn publish(&mut self, node: usize, to_some: bool) {
        let Some(circle) = self.some_circle(node, false) else { return };
        self.texts += 1;
        let mut text = format!("{} {}", self.nodes[node].name, self.texts);
        let longest = self.plan.scenario.people.longest_bytes;
        let length = self.people.below(longest) as usize;
        let audience = match self.roster(node, &circle) {
            members if to_some => {
                let named: Vec<usize> = members.into_iter().filter(|_| self.people.per_mille(400)).collect();
                let names: Vec<&str> = named.iter().map(|member| self.nodes[*member].partner.as_str()).collect();
                text = format!("{text}{FOR}{}", names.join(" "));
                Audience::Partners(named.iter().map(|member| self.nodes[*member].partner.clone()).collect())
            }
            _ => Audience::Circle,
        };
        let mut text = text.into_bytes();
        text.resize(text.len() + length, b'.');
        let only_when_current = self.people.per_mille(100);
        let (expiry, retracts, kept) = (self.expiry(node), self.regret(node, &circle), None);
        let command = Command::Append { circle, audience, expiry, only_when_current, retracts, kept };
        self.trace.tell(self.now, || format!("p{node:02} publishes {} in {}", self.texts, short(&circle)));
        self.command(node, "publish", command, Some(text));
    }

    /// When an entry expires, by its author's clock.
    fn expiry(&mut self, node: usize) -> Option<Time> {
        let rate = self.plan.scenario.people.expiring_per_mille;
        if !self.people.per_mille(rate) {
            return None;
        }
        let minutes = 20 + self.people.below(24 * 60);
        Some(self.nodes[node].clock(self.now).plus(minutes * 60_000))
    }

    /// Something that a node wrote in a circle and now and then takes back.
    fn regret(&mut self, node: usize, circle: &CircleId) -> Option<Retracts> {
        let own = |told: &&Acknowledged| told.node == node && told.key.circle == *circle && !told.machine_lost;
        let content = |told: &&Acknowledged| {
            let log = self.truth.logs.get(&(told.key.author, told.key.log));
            log.is_some_and(|(_, kind, _)| *kind == LogKind::Content)
        };
        let own: Vec<&Acknowledged> = self.truth.acknowledged.iter().filter(own).filter(content).collect();
        let told = self.people.pick(&own).filter(|_| self.texts.is_multiple_of(16))?;
        Some(Retracts { log: told.key.log, seq: told.seq, hash: told.hash })
    }

    /// The nodes that a node's engine counts in a circle.
    fn roster(&self, node: usize, circle: &CircleId) -> Vec<usize> {
        let engine = self.nodes[node].engine.as_ref();
        let replica = engine.and_then(|engine| engine.circle(circle));
        let counts = |index: &usize| replica.is_some_and(|replica| replica.counts(&self.nodes[*index].me));
        (0..self.nodes.len()).filter(counts).collect()
    }

    /// Founds a circle; one that goes on for another when that is named.
    pub(crate) fn found(&mut self, node: usize, old: Option<CircleId>) {
        if self.truth.histories.len() as u64 >= self.plan.scenario.most_circles {
            return;
        }
        let mut stewards = vec![node];
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for _ in 0..self.people.below(3) {
            stewards.extend(self.people.pick(&all).copied().filter(|other| !stewards.contains(other)));
        }
        let steward = |index: &usize| {
            let node = &self.nodes[*index];
            Steward { partner: node.partner.clone(), node: node.member() }
        };
        let engine = self.nodes[node].engine.as_ref();
        let control = old.and_then(|old| Some((engine?.circle(&old)?.control()?, old)));
        let succeeds = control.map(|(control, old)| succeeding(control, old));
        let brief = self.plan.scenario.people.retention && self.truth.histories.len().is_multiple_of(2);
        let retention_days = brief.then_some(1);
        let charter = Charter {
            name: format!("circle {}", self.truth.histories.len()),
            stewards: stewards.iter().map(steward).collect(),
            terms: Terms { quota: self.some_quota(), retention_days, ..Terms::default() },
            secret: self.fresh(),
            founded: self.nodes[node].clock(self.now),
            succeeds,
        };
        self.trace.tell(self.now, || {
            let after = charter.succeeds.as_ref().map(|old| format!(", after {}", short(&old.circle)));
            format!("p{node:02} founds {} with {stewards:?}{}", short(&charter.id()), after.unwrap_or_default())
        });
        self.chartered(charter.clone());
        self.command(node, "found", Command::Found { charter }, None);
    }

    /// Where somebody writes without end, circles have small quotas, not all of them the same.
    fn some_quota(&self) -> Option<Quota> {
        let some = 1 + self.texts % 2;
        let quota = Quota { bytes: some << 20, entries: some * 600, logs: some * 120, epochs: some * 120 };
        let floods = |node: &Node| node.malice.as_ref().is_some_and(|malice| malice.kind == Kind::Flooder);
        self.nodes.iter().any(floods).then_some(quota)
    }

    pub(crate) fn add(&mut self, node: usize) {
        let Some(circle) = self.some_circle(node, true) else { return };
        let inside = self.roster(node, &circle);
        let outside: Vec<usize> = (0..self.nodes.len()).filter(|index| !inside.contains(index)).collect();
        let Some(other) = self.people.pick(&outside).copied() else { return };
        let partner = self.nodes[other].partner.clone();
        // Now and then with its other node at once.
        let both = self.people.per_mille(500);
        let added = |index: &usize| *index == other || both && self.nodes[*index].partner == partner;
        let added: Vec<usize> = outside.into_iter().filter(added).collect();
        let nodes = added.iter().map(|index| self.nodes[*index].member()).collect();
        self.trace.tell(self.now, || format!("p{node:02} adds {added:?} to {}", short(&circle)));
        self.command(node, "add", Command::Add { circle, partner, nodes }, None);
    }

    fn remove(&mut self, node: usize) {
        let Some(circle) = self.some_circle(node, true) else { return };
        let inside = self.roster(node, &circle);
        let Some(other) = self.people.pick(&inside).copied().filter(|other| *other != node) else { return };
        let partner = self.nodes[other].partner.clone();
        // The one that was stolen, or all that the partner has.
        let stolen = self.people.per_mille(300).then_some(self.nodes[other].me);
        let what = if stolen.is_some() { "one node" } else { "its partner" };
        self.trace.tell(self.now, || format!("p{node:02} removes p{other:02} from {}: {what}", short(&circle)));
        self.command(node, "remove", Command::Remove { circle, partner, node: stolen }, None);
    }

    /// Takes in what was written beyond the cut of a removal, or one branch of a log that the removed forked.
    fn raise(&mut self, node: usize) {
        let Some(circle) = self.some_circle(node, true) else { return };
        let Node { engine: Some(engine), disk, .. } = &self.nodes[node] else { return };
        let beyond = engine.withheld(&circle).into_iter().map(|withheld| (withheld.removal, Vec::new()));
        let disputed = engine.disputed(&circle, disk).unwrap_or_default();
        let branches = disputed.iter().filter_map(|one| Some((engine.governing(&one.key, disk)?, vec![one.first])));
        let cuts: Vec<(Hash, Vec<Hash>)> = beyond.chain(branches).collect();
        let Some((removal, branches)) = self.people.pick(&cuts).cloned() else { return };
        let what = if branches.is_empty() { "" } else { ", to a branch" };
        self.trace.tell(self.now, || format!("p{node:02} raises a cut in {}{what}", short(&circle)));
        self.command(node, "raise a cut", Command::Raise { circle, removal, branches }, None);
    }

    /// Somebody carries what a node holds of a circle to another in a file, whether they are connected or not.
    fn hand(&mut self, from: usize) {
        let Some(circle) = self.some_circle(from, false) else { return };
        let running = |to: &usize| *to != from && self.nodes[*to].runs();
        let others: Vec<usize> = (0..self.nodes.len()).filter(running).collect();
        let Some(to) = self.people.pick(&others).copied() else { return };
        let replica = self.nodes[from].engine.as_ref().and_then(|engine| engine.circle(&circle));
        let Some(charter) = replica.and_then(|replica| replica.control()).map(|control| control.charter().to_bytes())
        else {
            return;
        };
        let held = self.nodes[from].disk.held();
        let mut control = Vec::new();
        let mut content = Vec::new();
        for (key, log) in held.logs.iter().filter(|(key, _)| key.circle == circle) {
            let entries: Vec<EntryBytes> = log.iter().map(|(_, entry)| EntryBytes::clone(entry)).collect();
            match self.truth.logs.get(&(key.author, key.log)) {
                Some((_, LogKind::Control, _)) => control.extend(entries),
                _ => content.push((*key, entries)),
            }
        }
        let records: Vec<SignedRecord> = held
            .records
            .iter()
            .filter(|((of, _), _)| *of == circle)
            .filter_map(|(_, bytes)| encoding::from_bytes(bytes, limits::SIGNED_RECORD_BYTES).ok())
            .collect();
        self.trace.tell(self.now, || format!("p{to:02} is handed {} by p{from:02}", short(&circle)));
        self.command(to, "take a circle", Command::CarryCircle { charter, entries: control }, None);
        for (key, entries) in content {
            let command = Command::CarryRun { key, records: records.clone(), entries };
            self.command(to, "take a run", command, None);
        }
    }

    fn appoint(&mut self, node: usize) {
        let Some(circle) = self.some_circle(node, true) else { return };
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let Some(other) = self.people.pick(&all).copied().filter(|other| *other != node) else { return };
        let (partner, member) = (self.nodes[other].partner.clone(), self.nodes[other].member());
        self.trace.tell(self.now, || format!("p{node:02} appoints p{other:02} in {}", short(&circle)));
        self.command(node, "appoint", Command::Appoint { circle, partner, node: member }, None);
    }

    fn dismiss(&mut self, node: usize) {
        let Some(circle) = self.some_circle(node, true) else { return };
        let inside = self.roster(node, &circle);
        let steward = |index: &usize| {
            let replica = self.nodes[node].engine.as_ref().and_then(|engine| engine.circle(&circle));
            let member = replica.and_then(|replica| replica.fold().roster().member(&self.nodes[*index].me));
            *index != node && member.is_some_and(|member| member.steward.is_some())
        };
        let stewards: Vec<usize> = inside.into_iter().filter(steward).collect();
        let Some(other) = self.people.pick(&stewards).copied() else { return };
        self.trace.tell(self.now, || format!("p{node:02} dismisses p{other:02} in {}", short(&circle)));
        let command = Command::Dismiss { circle, node: self.nodes[other].me };
        self.command(node, "dismiss", command, None);
    }

    /// The root's keys sign a next version of the root document, which the coordinator's node takes up first.
    fn next_root(&mut self) {
        if self.plan.scenario.without_coordinator || !self.nodes[0].runs() {
            return;
        }
        let replaces_issuer = self.people.per_mille(500);
        let Some(versions) = self.sign_root(replaces_issuer) else { return };
        let what = if replaces_issuer { ", and another issuer" } else { "" };
        self.trace.tell(self.now, || format!("the root has a next version{what}"));
        self.command(0, "adopt a root", Command::AdoptRoot { versions }, None);
    }

    /// The issuer revokes a node; the coordinator's node hears of it first.
    fn revoke(&mut self) {
        // A second machine with the coordinator's keys is not revoked: the coordinator would be.
        let may = |index: &usize| {
            let me = &self.nodes[*index].me;
            *me != self.nodes[0].me && !self.truth.revoked.contains(me)
        };
        let left: Vec<usize> = (1..self.nodes.len()).filter(may).collect();
        if self.plan.scenario.without_coordinator || left.len() * 2 <= self.nodes.len() {
            return;
        }
        let Some(index) = self.people.pick(&left).copied() else { return };
        let node = self.nodes[index].me;
        self.trace.tell(self.now, || format!("p{index:02} is revoked"));
        self.truth.revoked.insert(node);
        self.say(&Statement::Revocation { node, serial: 0, reason: "lost".to_owned(), cut: Vec::new() });
        self.import_issuers_word(0);
    }
}

/// What stands in a text between what it says and whom it is for.
const FOR: &str = " for ";

/// The partners that a text says it is for.
pub(crate) fn addressees(text: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(text).unwrap_or_default().trim_end_matches('.');
    text.split_once(FOR).into_iter().flat_map(|(_, names)| names.split(' '))
}

/// Enough of a circle's id to tell it from others.
pub(crate) fn short(circle: &CircleId) -> String {
    circle.to_string()[..6].to_owned()
}
