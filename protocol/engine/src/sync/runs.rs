//! Runs: pulling what is wanted, each log from one peer at a time, and serving what others pull.
//!
//! A peer that stalls, sends nothing of what it announced, or sends what builds on something missing is passed
//! over for others that have the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use cwn_crypto::{Hash, PublicKey};

use super::{Pull, Purpose, Source, Sync, Want, waiting};
use crate::engine::Engine;
use crate::fork::Found;
use crate::input::{PullId, SessionId, StreamId};
use crate::log::{CircleId, Decoded, LogKey, LogName, RunRefusal};
use crate::output::{Event, Output};
use crate::replica::{Refusal, Stop};
use crate::store::{Damage, Read};
use crate::wire::{RunFrame, RunRequest, WireTip};
use crate::{acceptance, limits};

/// A run to ask for, and the stalled one that it takes over.
struct Choice {
    peer: PublicKey,
    circle: CircleId,
    name: LogName,
    supersedes: Option<PullId>,
}

impl Engine {
    /// Starts the pulls that are due.
    pub(super) fn start_pulls(&mut self, store: &dyn Read) -> Result<(), Damage> {
        if let Some(due) = self.sync.look_due.filter(|_| self.sync.look_after > self.now) {
            self.sync.look_due = Some(due.max(self.sync.look_after));
        }
        while self.sync.look_due.is_some_and(|due| due <= self.now) {
            self.sync.look_after = self.now.plus((self.sync.wants.len() / limits::WANTS_A_MILLISECOND) as u64);
            // What is due and not chosen waits for a run to end, or for a source; either looks again.
            let later = self.sync.wants.values().map(|want| want.due).filter(|due| *due > self.now);
            self.sync.look_due = later.min();
            for Choice { peer, circle, name, supersedes } in self.choose_pulls() {
                let held = self.circles.get(&circle).and_then(|replica| replica.log(&name.0, &name.1));
                let (from, epoch) = held.map_or((0, None), |held| (held.height, held.epoch));
                // A record that was lost comes again with the run.
                let has =
                    |epoch: &Hash| self.circles.get(&circle).is_some_and(|replica| replica.epoch(epoch).is_some());
                let epoch = epoch.filter(has);
                let want = self.sync.wants.get(&(circle, name));
                if want.and_then(|want| want.sources.get(&peer)).is_none_or(|source| source.height <= from) {
                    // It came otherwise meanwhile.
                    self.drop_source(&peer, circle, name);
                    self.sync.look_at(self.now);
                    self.settle(&peer, circle, store)?;
                    continue;
                }
                if let Some(id) = supersedes {
                    self.sync.pulls.remove(&id);
                    self.output(Output::CancelPull { pull: id });
                }
                let key = LogKey { circle, author: name.0, log: name.1 };
                self.ask_run(peer, key, from, epoch, Purpose::Take);
            }
        }
        self.start_probes();
        self.start_mending();
        Ok(())
    }

    /// Asks a peer for a run; false when it does not share the circle.
    pub(super) fn ask_run(
        &mut self,
        peer: PublicKey,
        key: LogKey,
        from: u64,
        epoch: Option<Hash>,
        purpose: Purpose,
    ) -> bool {
        let LogKey { circle, author, log } = key;
        let Some(state) = self.sync.peers.get(&peer) else { return false };
        let Some(shared) = state.shared.get(&circle) else { return false };
        let request = RunRequest { tag: shared.mine, author, log, from, epoch };
        let (session, pull) = (state.session, PullId(self.sync.next_pull));
        self.sync.next_pull += 1;
        let asked = Pull {
            peer,
            circle,
            name: (author, log),
            tail: Vec::new(),
            start: from,
            last_frame: self.now,
            counted_from: self.now,
            brought: 0,
            slow: 0,
            sent: false,
            purpose,
        };
        self.sync.pulls.insert(pull, asked);
        self.output(Output::Pull { peer, session, pull, bytes: request.to_bytes() });
        true
    }

    /// Asks peers whose logs part from those held here for what comes before; each for one at a time.
    fn start_probes(&mut self) {
        let Sync { doubts, pulls, .. } = &self.sync;
        let busy = |peer: &PublicKey| {
            let of_peer = pulls.values().filter(|pull| pull.peer == *peer);
            of_peer.clone().any(|pull| pull.purpose == Purpose::Probe) || of_peer.count() >= limits::PULLS_PER_PEER
        };
        let open = doubts.iter().filter(|(peer, _)| !busy(peer));
        let due: Vec<(PublicKey, LogKey, u64)> = open
            .filter_map(|(peer, of_peer)| {
                let (key, doubt) = of_peer.iter().find(|(_, doubt)| !doubt.asked)?;
                Some((*peer, *key, doubt.height.saturating_sub(doubt.back)))
            })
            .collect();
        for (peer, key, from) in due {
            let asked = self.ask_run(peer, key, from, None, Purpose::Probe);
            let doubts = self.sync.doubts.entry(peer).or_default();
            match doubts.get_mut(&key) {
                Some(doubt) if asked => doubt.asked = true,
                _ => {
                    doubts.remove(&key);
                }
            }
        }
    }

    /// A frame of a run that looks for a fork: nothing of it is taken.
    fn probe_frame(&mut self, id: PullId, bytes: &[u8], store: &dyn Read) -> Result<(), Damage> {
        let Some(pull) = self.sync.pulls.get_mut(&id) else { return Ok(()) };
        pull.last_frame = self.now;
        let (peer, key) = (pull.peer, pull.key());
        let mut run = std::mem::take(&mut pull.tail);
        let entries = RunFrame::from_bytes(bytes).map(|frame| frame.entries).unwrap_or_default();
        run.extend(
            entries.into_iter().map_while(|entry| Decoded::decode(entry).ok()).take_while(|one| one.key() == key),
        );
        let found = self.probe(&peer, &key, &run, store)?;
        if found == Found::Nothing && !run.is_empty() {
            // What both hold the same need not be kept.
            let keeps = run.len().saturating_sub(limits::UNSIGNED_ENTRIES + 2);
            let tail = run.split_off(keeps);
            if let Some(pull) = self.sync.pulls.get_mut(&id) {
                pull.tail = tail;
            }
            return Ok(());
        }
        if let Some(of_peer) = self.sync.doubts.get_mut(&peer) {
            match of_peer.get_mut(&key) {
                Some(doubt) if found == Found::Behind && doubt.back < doubt.height => {
                    (doubt.back, doubt.asked) = (doubt.back.saturating_mul(8), false);
                }
                _ => {
                    of_peer.remove(&key);
                }
            }
        }
        self.output(Output::CancelPull { pull: id });
        self.sync.pulls.remove(&id);
        self.sync.look_at(self.now);
        // It may be all that was waited for of that peer.
        self.settle(&peer, key.circle, store)
    }

    /// What can be asked for now, and of whom.
    fn choose_pulls(&self) -> Vec<Choice> {
        let Sync { peers, wants, pulls, .. } = &self.sync;
        let pulled: BTreeMap<(CircleId, LogName), (PullId, &Pull)> = pulls
            .iter()
            .filter(|(_, pull)| pull.purpose == Purpose::Take)
            .map(|(id, pull)| ((pull.circle, pull.name), (*id, pull)))
            .collect();
        // What decides who belongs comes first, of each peer: one that announces what it never sends holds up
        // nothing that others have.
        let mut firsts: BTreeSet<(CircleId, PublicKey)> = BTreeSet::new();
        let mut last = None;
        for ((circle, _), want) in wants.iter().filter(|(_, want)| want.first) {
            for (peer, _) in want.open_sources() {
                // Of one that announces much there are many in a row.
                if last != Some((circle, peer)) {
                    firsts.insert((*circle, *peer));
                    last = Some((circle, peer));
                }
            }
        }
        let mut load: BTreeMap<PublicKey, usize> = BTreeMap::new();
        pulls.values().for_each(|pull| *load.entry(pull.peer).or_default() += 1);
        let is_free = |load: &BTreeMap<PublicKey, usize>, peer: &PublicKey| {
            load.get(peer).is_none_or(|load| *load < limits::PULLS_PER_PEER)
        };
        let stalls = |peer: &PublicKey| peers.get(peer).map_or(0, |state| state.stalls);
        let mut places = peers.keys().filter(|peer| is_free(&load, peer)).count();
        let mut chosen = Vec::new();
        // What nobody was asked for yet comes first: it may be what all that was asked for in vain waits for.
        let untried = |want: &Want| want.sources.iter().all(|(_, source)| !source.blocked);
        let due = || wants.iter().filter(|(_, want)| want.due <= self.now);
        let (fresh, tried) = (due().filter(|(_, want)| untried(want)), due().filter(|(_, want)| !untried(want)));
        for (key, want) in fresh.chain(tried) {
            if places == 0 || pulls.len() + chosen.len() >= limits::PULLS {
                break;
            }
            let (circle, name) = *key;
            let running = pulled.get(key).map(|(id, pull)| (*id, stalls(&pull.peer) + pull.slow));
            if running.is_some_and(|(_, stalls)| stalls == 0) {
                continue;
            }
            let best = want
                .open_sources()
                .filter(|(peer, _)| want.first || !firsts.contains(&(circle, **peer)))
                .filter(|(peer, _)| is_free(&load, peer))
                .max_by_key(|(peer, source)| (Reverse(stalls(peer)), source.height, Reverse(load.get(*peer).copied())));
            // A peer that lets runs wait, or sends one drop by drop, gives way as soon as one that does not has the same.
            if let Some((peer, _)) = best.filter(|(peer, _)| running.is_none_or(|(_, most)| stalls(peer) < most)) {
                *load.entry(*peer).or_default() += 1;
                places -= usize::from(!is_free(&load, peer));
                chosen.push(Choice { peer: *peer, circle, name, supersedes: running.map(|(id, _)| id) });
            }
        }
        chosen
    }

    pub(crate) fn run_requested(&mut self, peer: &PublicKey, session: SessionId, stream: StreamId, bytes: &[u8]) {
        let known = self.sync.peers.get(peer).is_some_and(|state| state.session == session);
        let request = RunRequest::from_bytes(bytes);
        let answer = request.ok().filter(|_| known).and_then(|request| {
            let circle = self.circle_of(peer, &request.tag)?;
            let replica = self.circles.get(&circle)?;
            let to = replica.accepted(&request.author, &request.log);
            let key = LogKey { circle, author: request.author, log: request.log };
            (request.from <= to).then_some((key, request.from, to, request.epoch))
        });
        self.output(match answer {
            Some((key, from, to, epoch)) => Output::SendRun { stream, key, from, to, epoch },
            None => Output::RefuseRun { stream },
        });
    }

    pub(crate) fn run_frame(&mut self, id: PullId, bytes: &[u8], store: &dyn Read) -> Result<(), Damage> {
        let Some(pull) = self.sync.pulls.get_mut(&id) else { return Ok(()) };
        match pull.purpose {
            Purpose::Take => {}
            Purpose::Probe => return self.probe_frame(id, bytes, store),
            Purpose::Mend => return self.mend_frame(id, bytes, store),
        }
        let (peer, circle, name) = (pull.peer, pull.circle, pull.name);
        pull.brought = pull.brought.saturating_add(bytes.len());
        let mut run = std::mem::take(&mut pull.tail);
        let waiting = run.len();
        let frame = match RunFrame::from_bytes(bytes) {
            Ok(frame) => frame,
            Err(refusal) => return self.give_up(id, Some(format!("a frame of a run that is {refusal}")), store),
        };
        if frame.entries.is_empty() {
            return self.give_up(id, Some("a frame of a run without entries".to_owned()), store);
        }
        let mut lacking = false;
        for entry in frame.entries {
            match Decoded::decode(entry) {
                Ok(entry) if self.shuns(&entry) => break,
                Ok(entry) if self.lacks_payload(&entry) => {
                    lacking = true;
                    break;
                }
                Ok(entry) if entry.key() == (LogKey { circle, author: name.0, log: name.1 }) => run.push(entry),
                Ok(_) => return self.give_up(id, Some("a run of another log than was asked for".to_owned()), store),
                Err(refusal) => return self.give_up(id, Some(refusal.to_string()), store),
            }
        }
        let Some(replica) = self.circles.get_mut(&circle) else { return Ok(()) };
        let operations = waiting::Run::of_operations(&run);
        let ingested = replica.ingest(frame.records, run);
        let progress = !ingested.writes.is_empty() || ingested.undecided.len() > waiting;
        if !ingested.writes.is_empty() {
            self.came_from(&peer, circle, name.0);
            self.sync.pushed.remove(&LogKey { circle, author: name.0, log: name.1 });
        }
        self.keep(circle, ingested.writes, ingested.membership_changed, store);
        let bytes: usize = ingested.undecided.iter().map(Decoded::length).sum();
        if bytes > limits::UNDECIDED_BYTES {
            return self.give_up(id, Some("a long run that no signature vouches for".to_owned()), store);
        }
        // It did send, be it what lies beyond a cut that it may not have heard of.
        let sent = lacking || matches!(ingested.stop, Some(Stop::Missing | Stop::Beyond | Stop::OverQuota));
        if let Some(pull) = self.sync.pulls.get_mut(&id) {
            pull.tail = ingested.undecided;
            pull.sent |= sent;
        }
        if progress {
            // Frames that bring nothing do not keep others from being asked.
            self.sync.pulls.get_mut(&id).into_iter().for_each(|pull| pull.last_frame = self.now);
            self.sync.peers.get_mut(&peer).into_iter().for_each(|state| state.stalls = 0);
        }
        if lacking {
            self.sync.lacking_due.get_or_insert(self.now.plus(limits::LACKING_AGAIN_MS));
        }
        match ingested.stop {
            None if !lacking => Ok(()),
            None | Some(Stop::Missing) => {
                let want = self.sync.wants.get_mut(&(circle, name));
                if let Some(source) = want.and_then(|want| want.sources.get_mut(&peer)) {
                    source.blocked = true;
                }
                if let Some(operations) = operations {
                    self.sync.waiting.put(peer, (circle, name), operations);
                }
                self.give_up(id, None, store)
            }
            Some(Stop::OverQuota) => {
                self.sync.wants.remove(&(circle, name));
                self.give_up(id, None, store)
            }
            Some(Stop::Beyond | Stop::Gap) => self.give_up(id, None, store),
            Some(Stop::Never(refusal)) => {
                if !self.blames(&peer, circle, name, &refusal) {
                    let Some(shared) = self.shared(&peer, &circle) else { return Ok(()) };
                    shared.refused.insert(name);
                    self.output(Output::CancelPull { pull: id });
                    self.sync.pulls.remove(&id);
                    self.sync.look_at(self.now);
                    self.drop_source(&peer, circle, name);
                    return self.settle(&peer, circle, store);
                }
                self.give_up(id, Some(refusal.to_string()), store)
            }
        }
    }

    /// Tells what can never be part of a circle, and whether the bearer is to blame for it. A fork is its author's
    /// doing: an honest member holds one branch of it or the other.
    pub(super) fn blames(
        &mut self,
        bearer: &PublicKey,
        circle: CircleId,
        (author, log): LogName,
        refusal: &Refusal,
    ) -> bool {
        let key = LogKey { circle, author, log };
        match refusal {
            Refusal::Run(RunRefusal::Forked { seq }) => {
                if author == self.me {
                    // Somebody writes with this node's key, on the very log it writes: what it writes next stands
                    // elsewhere.
                    self.leave_log(&key);
                    self.output(Output::Emit(Event::OwnKeyElsewhere { circle }));
                }
                self.doubt(bearer, &key, *seq);
            }
            Refusal::Run(RunRefusal::BrokenLink { seq }) if self.height(&key) == *seq => {
                // What follows may show that its author signed it, and so a fork.
                self.doubt(bearer, &key, *seq);
            }
            Refusal::OtherBranch { .. } => {}
            _ => return true,
        }
        author == *bearer
    }

    fn height(&self, key: &LogKey) -> u64 {
        let held = self.circles.get(&key.circle).and_then(|replica| replica.log(&key.author, &key.log));
        held.map_or(0, |held| held.height)
    }

    pub(super) fn drop_source(&mut self, peer: &PublicKey, circle: CircleId, name: LogName) {
        if let Some(want) = self.sync.wants.get_mut(&(circle, name)) {
            want.sources.remove(peer);
            if want.sources.is_empty() {
                self.sync.wants.remove(&(circle, name));
            }
        }
    }

    /// Stops reading a run; with a reason, because the peer is at fault.
    pub(super) fn give_up(&mut self, id: PullId, fault: Option<String>, store: &dyn Read) -> Result<(), Damage> {
        self.output(Output::CancelPull { pull: id });
        if let (Some(pull), Some(reason)) = (self.sync.pulls.get(&id), fault) {
            let (peer, circle, name) = (pull.peer, pull.circle, pull.name);
            self.drop_source(&peer, circle, name);
            self.fault(&peer, circle, reason);
        }
        self.run_ended(id, store)
    }

    pub(crate) fn run_ended(&mut self, id: PullId, store: &dyn Read) -> Result<(), Damage> {
        let Some(pull) = self.sync.pulls.remove(&id) else { return Ok(()) };
        self.sync.look_at(self.now);
        match pull.purpose {
            Purpose::Take => {}
            Purpose::Probe => {
                if let Some(doubts) = self.sync.doubts.get_mut(&pull.peer) {
                    doubts.remove(&pull.key());
                }
                return self.settle(&pull.peer, pull.circle, store);
            }
            Purpose::Mend => return Ok(()),
        }
        let Pull { peer, circle, name, start, sent, .. } = pull;
        let replica = self.circles.get(&circle);
        let height: u64 = replica.and_then(|replica| replica.log(&name.0, &name.1)).map_or(0, |held| held.height);
        // A cut that came meanwhile may leave less to want than there was.
        let reach = replica.map(|replica| acceptance::reach(replica, &name.0, &name.1));
        if let Some(want) = self.sync.wants.get_mut(&(circle, name)) {
            // What it sent builds on something that has not come.
            let waits = want.sources.get(&peer).is_some_and(|source| source.blocked);
            let wanted = |source: &Source| reach.map_or(source.height, |reach| reach_or_all(reach, source.height));
            want.sources.retain(|_, source| wanted(source) > height);
            // It said it had more, and sent nothing that could be used.
            if height <= start && !waits {
                want.sources.remove(&peer);
            }
            if want.sources.is_empty() {
                self.sync.wants.remove(&(circle, name));
            }
        }
        if height > start {
            self.shared(&peer, &circle).into_iter().for_each(|shared| shared.empty_runs = 0);
            self.sync.peers.get_mut(&peer).into_iter().for_each(|state| state.empty_rounds = 0);
        } else if !sent {
            self.asked_in_vain(&peer, circle, name);
        }
        self.settle_all(circle, store)
    }

    /// A run of a peer brought nothing. After some of those what it said it holds counts for nothing, and neither has
    /// this node caught up with it.
    fn asked_in_vain(&mut self, peer: &PublicKey, circle: CircleId, name: LogName) {
        let Some(shared) = self.shared(peer, &circle) else { return };
        if let Entry::Vacant(unsaid) = shared.tips.entry(name) {
            // It never said that it holds this one, which a log cites that it does hold: its author may have lost it.
            let (author, log) = name;
            unsaid.insert(WireTip { author, log, first: false, height: 0, head: None, forked: false });
            *shared.tips_of.entry(author).or_default() += 1;
            return;
        }
        shared.empty_runs += 1;
        if shared.empty_runs < limits::EMPTY_RUNS {
            return;
        }
        shared.tips.clear();
        shared.tips_of.clear();
        shared.compared = false;
        for (_, want) in self.sync.wants.iter_mut().filter(|((of, _), _)| *of == circle) {
            want.sources.remove(peer);
        }
        self.sync.wants.retain(|_, want| !want.sources.is_empty());
    }

    /// A peer says what it holds. False when it did so again and again and never sent it: then the session ends.
    pub(super) fn hears_out(&mut self, peer: &PublicKey, circle: &CircleId) -> bool {
        let Some(shared) = self.shared(peer, circle) else { return false };
        if shared.empty_runs < limits::EMPTY_RUNS {
            return true;
        }
        shared.empty_runs = 0;
        let Some(state) = self.sync.peers.get_mut(peer) else { return false };
        state.empty_rounds += 1;
        if state.empty_rounds >= limits::EMPTY_ROUNDS {
            self.disconnect(peer, "it says that it holds what it does not send".to_owned());
            return false;
        }
        true
    }
}

fn reach_or_all(reach: acceptance::Reach, wanted: u64) -> u64 {
    match reach {
        // Undecided or not: whether it is still wanted is for the next tip to say.
        acceptance::Reach::All | acceptance::Reach::Undecided => wanted,
        acceptance::Reach::Cut(cut, _) | acceptance::Reach::Forked(cut) => cut.min(wanted),
    }
}
