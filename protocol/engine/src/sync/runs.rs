//! Runs: pulling what is wanted, each log from one peer at a time, and serving what others pull.
//!
//! A peer that stalls, sends nothing of what it announced, or sends what builds on something missing is passed
//! over for others that have the same.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::PublicKey;

use super::{LogName, Pull, Source};
use crate::engine::Engine;
use crate::input::{PullId, SessionId, StreamId};
use crate::log::{CircleId, Decoded, LogKey, RunRefusal};
use crate::output::{Event, Output};
use crate::replica::{Refusal, Stop};
use crate::store::{Damage, Read};
use crate::wire::{RunFrame, RunRequest};
use crate::{acceptance, limits};

impl Engine {
    /// Starts the pulls that are due.
    pub(super) fn start_pulls(&mut self) {
        let pulled: BTreeSet<(CircleId, LogName)> =
            self.sync.pulls.values().map(|pull| (pull.circle, pull.name)).collect();
        let firsts: BTreeSet<CircleId> = self
            .sync
            .wants
            .iter()
            .filter(|(_, want)| want.first && want.is_open())
            .map(|((circle, _), _)| *circle)
            .collect();
        let mut load: BTreeMap<PublicKey, usize> = BTreeMap::new();
        self.sync.pulls.values().for_each(|pull| *load.entry(pull.peer).or_default() += 1);
        let mut chosen = Vec::new();
        let mut places = self
            .sync
            .peers
            .keys()
            .filter(|peer| load.get(*peer).copied().unwrap_or(0) < limits::PULLS_PER_PEER)
            .count();
        for (key, want) in &self.sync.wants {
            if places == 0 {
                break;
            }
            let (circle, _) = key;
            let waits = want.due > self.now || (!want.first && firsts.contains(circle));
            if waits || pulled.contains(key) || self.sync.pulls.len() + chosen.len() >= limits::PULLS {
                continue;
            }
            let free = |peer: &PublicKey| load.get(peer).copied().unwrap_or(0);
            let best = want
                .sources
                .iter()
                .filter(|(peer, source)| !source.blocked && free(peer) < limits::PULLS_PER_PEER)
                .max_by_key(|(peer, source)| (source.height, std::cmp::Reverse(free(peer))));
            if let Some((peer, _)) = best {
                let load = load.entry(*peer).or_default();
                *load += 1;
                places -= usize::from(*load == limits::PULLS_PER_PEER);
                chosen.push((*peer, *key));
            }
        }
        for (peer, (circle, name)) in chosen {
            let held = self.circles.get(&circle).and_then(|replica| replica.log(&name.0, &name.1));
            let (from, epoch) = held.map_or((0, None), |held| (held.height, held.epoch));
            let Some(state) = self.sync.peers.get(&peer) else { continue };
            let Some(shared) = state.shared.get(&circle) else { continue };
            let request = RunRequest { tag: shared.mine, author: name.0, log: name.1, from, epoch };
            let pull = PullId(self.sync.next_pull);
            let session = state.session;
            self.sync.next_pull += 1;
            let state = Pull { peer, circle, name, tail: Vec::new(), start: from, last_frame: self.now };
            self.sync.pulls.insert(pull, state);
            self.output(Output::Pull { peer, session, pull, bytes: request.to_bytes() });
        }
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
        pull.last_frame = self.now;
        let (peer, circle, name) = (pull.peer, pull.circle, pull.name);
        let mut run = std::mem::take(&mut pull.tail);
        let frame = match RunFrame::from_bytes(bytes) {
            Ok(frame) => frame,
            Err(refusal) => return self.give_up(id, Some(format!("a frame of a run that is {refusal}")), store),
        };
        for entry in frame.entries {
            match Decoded::decode(entry) {
                Ok(entry) if entry.key() == (LogKey { circle, author: name.0, log: name.1 }) => run.push(entry),
                Ok(_) => return self.give_up(id, Some("a run of another log than was asked for".to_owned()), store),
                Err(refusal) => return self.give_up(id, Some(refusal.to_string()), store),
            }
        }
        let Some(replica) = self.circles.get_mut(&circle) else { return Ok(()) };
        let ingested = replica.ingest(frame.records, run);
        self.keep(circle, ingested.writes, ingested.membership_changed);
        let bytes: usize = ingested.undecided.iter().map(Decoded::length).sum();
        if ingested.undecided.len() > limits::UNDECIDED_ENTRIES || bytes > limits::UNDECIDED_BYTES {
            return self.give_up(id, Some("a long run that no signature vouches for".to_owned()), store);
        }
        if let Some(pull) = self.sync.pulls.get_mut(&id) {
            pull.tail = ingested.undecided;
        }
        match ingested.stop {
            None => Ok(()),
            Some(Stop::Missing) => {
                let want = self.sync.wants.get_mut(&(circle, name));
                if let Some(source) = want.and_then(|want| want.sources.get_mut(&peer)) {
                    source.blocked = true;
                }
                self.give_up(id, None, store)
            }
            Some(Stop::Beyond | Stop::Gap) => self.give_up(id, None, store),
            Some(Stop::Never(refusal)) => {
                self.never(circle, name, &refusal);
                self.give_up(id, Some(refusal.to_string()), store)?;
                self.drop_source(&peer, circle, name);
                Ok(())
            }
        }
    }

    pub(super) fn never(&mut self, circle: CircleId, (author, log): LogName, refusal: &Refusal) {
        if let Refusal::Run(RunRefusal::Forked { seq }) = refusal {
            let key = LogKey { circle, author, log };
            self.output(Output::Emit(Event::Fork { key, seq: *seq }));
        }
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
        let Pull { peer, circle, name, start, .. } = pull;
        let replica = self.circles.get(&circle);
        let height: u64 = replica.and_then(|replica| replica.log(&name.0, &name.1)).map_or(0, |held| held.height);
        // A cut that came meanwhile may leave less to want than there was.
        let reach = replica.map(|replica| acceptance::reach(replica, &name.0, &name.1));
        if let Some(want) = self.sync.wants.get_mut(&(circle, name)) {
            let wanted = |source: &Source| reach.map_or(source.height, |reach| reach_or_all(reach, source.height));
            want.sources.retain(|_, source| wanted(source) > height);
            // It said it had more, and sent nothing that could be used.
            if height <= start && want.sources.get(&peer).is_some_and(|source| !source.blocked) {
                want.sources.remove(&peer);
            }
            if want.sources.is_empty() {
                self.sync.wants.remove(&(circle, name));
            }
        }
        if let Some(state) = self.sync.peers.get_mut(&peer) {
            state.empty_runs = if height > start { 0 } else { state.empty_runs + 1 };
            if state.empty_runs >= limits::EMPTY_RUNS {
                self.disconnect(&peer, "it says that it holds what it does not send".to_owned());
                return Ok(());
            }
        }
        self.settle_all(circle, store)
    }
}

fn reach_or_all(reach: acceptance::Reach, wanted: u64) -> u64 {
    match reach {
        // Undecided or not: whether it is still wanted is for the next tip to say.
        acceptance::Reach::All | acceptance::Reach::Undecided => wanted,
        acceptance::Reach::Cut(cut) => cut.min(wanted),
    }
}
