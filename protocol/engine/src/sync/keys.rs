//! Keys of older epochs, handed to those who were added later, where the policy of the time lets newcomers read.
//!
//! Whoever lacks the key of such an epoch asks members for it; any that has it seals it anew to the sealing key that
//! the circle's operations name. What came is held against the commitment in the epoch's record before it is kept, and
//! is kept as it came: sealed.
//!
//! This file refuses to know keys: opening and sealing them belongs to whoever holds a sealing key.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, PublicKey, Time, seal::Recipient};

use crate::engine::{After, Engine, fact_key};
use crate::input::SessionId;
use crate::limits;
use crate::log::CircleId;
use crate::output::Output;
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::rot::Rot;
use crate::store::{Damage, Read, Write};
use crate::wire::{Frame, GivenKey};

pub(crate) const GIVEN_FACT: &[u8] = b"given/";

/// The name of the fact under which a key that was handed to this node is kept, sealed to it.
pub fn given_key(circle: &CircleId, epoch: &Hash) -> Vec<u8> {
    fact_key(GIVEN_FACT, &[&circle.0.0, &epoch.0])
}

/// The keys that this node lacks, over all peers.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Of each circle the epochs that newcomers may open and this node cannot.
    lacking: BTreeMap<CircleId, BTreeSet<Hash>>,
    /// Those that were handed over, or came and are being looked at.
    came: BTreeSet<(CircleId, Hash)>,
    /// When to look next whether somebody can be asked.
    pub(super) due: Option<Time>,
}

/// The keys that are handed over between one peer and this node in one circle.
#[derive(Debug, Default)]
pub(super) struct PeerKeys {
    /// What it was asked for and has not answered, and when.
    asked: Option<(BTreeSet<Hash>, Time)>,
    /// What it did not have, and when it is asked for that again.
    had_not: BTreeMap<Hash, Time>,
    /// To which key what it asked for is being sealed; nearly always none.
    sealing: Option<Box<Recipient>>,
    /// For how many it asked since when.
    wanted: (Time, usize),
}

impl Engine {
    /// Reads back which keys of a circle's epochs were handed to this node, and finds those it lacks; one that cannot be
    /// read back is among them.
    pub(crate) fn load_given(&mut self, circle: CircleId, store: &dyn Read, rot: &mut Rot) -> Result<(), Damage> {
        let prefix = fact_key(GIVEN_FACT, &[&circle.0.0]);
        let (given, _) = rot.facts(store, (&prefix, "a key that was handed to this node"), |name, _| {
            name.try_into().map(Hash).map_err(|_length| "it names no epoch".to_owned())
        })?;
        self.sync.keys.came.retain(|(of, _)| *of != circle);
        self.sync.keys.came.extend(given.iter().map(|epoch| (circle, *epoch)));
        let epochs = self.circles.get(&circle).into_iter().flat_map(Replica::epochs);
        let held: Vec<Hash> = epochs.map(|(epoch, _)| *epoch).collect();
        held.into_iter().for_each(|epoch| self.record_came(circle, epoch));
        if !given.is_empty() {
            self.output(Output::Given { circle, epochs: given });
        }
        Ok(())
    }

    /// The record of an epoch is durable here: its key may be one that others can hand over.
    pub(crate) fn record_came(&mut self, circle: CircleId, epoch: Hash) {
        let Some(replica) = self.circles.get(&circle) else { return };
        let closed = replica.epoch(&epoch).is_some_and(|found| !found.names(&self.me));
        if closed && replica.opens_to_newcomers(&epoch) && !self.sync.keys.came.contains(&(circle, epoch)) {
            self.sync.keys.lacking.entry(circle).or_default().insert(epoch);
            self.look_for_keys();
        }
    }

    /// Looks soon whether somebody can be asked for the keys that this node lacks.
    pub(crate) fn look_for_keys(&mut self) {
        if !self.sync.keys.lacking.is_empty() {
            let soon = self.now.plus(limits::PULL_WAIT_MS);
            self.sync.keys.due = Some(self.sync.keys.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Asks members for the keys that this node lacks, each of one at a time: rather of those whom the epoch names.
    pub(super) fn ask_for_keys(&mut self) {
        let now = self.now;
        if self.sync.keys.due.is_none_or(|due| due > now) {
            return;
        }
        self.sync.keys.due = None;
        for circle in self.sync.keys.lacking.keys().copied().collect::<Vec<_>>() {
            let chosen = self.choose_keys(&circle);
            for (peer, epochs) in chosen {
                let Some(shared) = self.shared(&peer, &circle) else { continue };
                let tag = shared.mine;
                let frame = Frame::WantKeys { tag, epochs: epochs.iter().copied().collect() };
                shared.keys.asked = Some((epochs, now));
                self.send(&peer, &frame);
            }
        }
        let of_peers = self.sync.peers.values().flat_map(|state| state.shared.iter());
        let lacking = of_peers.filter(|(circle, _)| self.sync.keys.lacking.contains_key(circle));
        let next = lacking.flat_map(|(_, shared)| {
            let answer = shared.keys.asked.as_ref().map(|(_, at)| at.plus(limits::PULL_STALL_MS));
            answer.into_iter().chain(shared.keys.had_not.values().copied().filter(|again| *again > now))
        });
        self.sync.keys.due = next.min();
    }

    /// Whom to ask for which of the keys that this node lacks in a circle.
    fn choose_keys(&mut self, circle: &CircleId) -> BTreeMap<PublicKey, BTreeSet<Hash>> {
        let now = self.now;
        let mut chosen: BTreeMap<PublicKey, BTreeSet<Hash>> = BTreeMap::new();
        let mut busy = BTreeSet::new();
        let mut asked = BTreeSet::new();
        for (peer, state) in &mut self.sync.peers {
            let Some(shared) = state.shared.get_mut(circle) else { continue };
            if let Some((epochs, _)) = shared.keys.asked.take_if(|(_, at)| at.plus(limits::PULL_STALL_MS) <= now) {
                // It did not answer.
                let again = now.plus(limits::KEY_RETRY_MS);
                shared.keys.had_not.extend(epochs.into_iter().map(|epoch| (epoch, again)));
            }
            match &shared.keys.asked {
                Some((epochs, _)) => {
                    busy.insert(*peer);
                    asked.extend(epochs.iter().copied());
                }
                None => drop(chosen.insert(*peer, BTreeSet::new())),
            }
        }
        let (Some(replica), Some(lacking)) = (self.circles.get(circle), self.sync.keys.lacking.get(circle)) else {
            return BTreeMap::new();
        };
        if !replica.counts(&self.me) {
            return BTreeMap::new();
        }
        let open = |epoch: &&Hash| !asked.contains(*epoch) && !self.sync.keys.came.contains(&(*circle, **epoch));
        for epoch in lacking.iter().filter(open) {
            if chosen.values().all(|epochs| epochs.len() >= limits::KEYS_AT_ONCE) {
                break;
            }
            let Some(found) = replica.epoch(epoch) else { continue };
            let may_have = |peer: &PublicKey| {
                let shared = self.sync.peers.get(peer).and_then(|state| state.shared.get(circle));
                shared.is_some_and(|shared| shared.keys.had_not.get(epoch).is_none_or(|again| *again <= now))
            };
            let named = |peer: &&PublicKey| found.names(peer) && may_have(peer);
            // One that the epoch names is waited for; others may have been handed the key as well.
            let wait = busy.iter().any(|peer| named(&peer));
            let free = |peer: &&PublicKey| chosen[*peer].len() < limits::KEYS_AT_ONCE;
            let best = chosen.keys().filter(free).find(named);
            let best = best.or_else(|| chosen.keys().filter(free).filter(|_| !wait).find(|peer| may_have(peer)));
            if let Some(peer) = best.copied() {
                chosen.entry(peer).or_default().insert(*epoch);
            }
        }
        chosen.retain(|_, epochs| !epochs.is_empty());
        chosen
    }

    /// A peer asks for keys from before it was added. It is handed those whose policy of the time lets newcomers read;
    /// to the key that the circle's operations name, and to no other.
    pub(super) fn keys_wanted(&mut self, peer: &PublicKey, circle: CircleId, epochs: Vec<Hash>) {
        if epochs.len() > limits::KEYS_AT_ONCE {
            return self.fault(peer, circle, "it asks for more keys than may be asked for at once".to_owned());
        }
        let Some(replica) = self.circles.get(&circle) else { return };
        let member = replica.fold().roster().member(peer).filter(|_| self.is_certified(peer));
        let recipient = member.map(|member| member.recipient);
        let late =
            |epoch: &&Hash| replica.epoch(epoch).is_some_and(|found| !found.names(peer)) && !planted(Bug::KeepKeys);
        let given: Vec<Hash> =
            epochs.iter().filter(late).filter(|epoch| replica.opens_to_newcomers(epoch)).copied().collect();
        let most = 2 * replica.epochs().count() + limits::KEYS_AT_ONCE;
        let now = self.now;
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        let session = state.session;
        let Some(shared) = state.shared.get_mut(&circle) else { return };
        // An honest one waits for the answer, asks for nothing that it has, and for what this node had not only so often.
        if shared.keys.wanted.0.plus(limits::KEY_RETRY_MS) <= now {
            shared.keys.wanted = (now, 0);
        }
        shared.keys.wanted.1 += epochs.len();
        if shared.keys.sealing.is_some() || shared.keys.wanted.1 > most {
            return;
        }
        let tag = shared.mine;
        match recipient.filter(|_| !given.is_empty()) {
            Some(recipient) => {
                shared.keys.sealing = Some(Box::new(recipient));
                self.output(Output::SealKeys { peer: *peer, session, circle, recipient, epochs: given });
            }
            None => self.send(peer, &Frame::Keys { tag, keys: Vec::new() }),
        }
    }

    /// The keys that a peer asked for are sealed. Who belongs may have changed meanwhile.
    pub(crate) fn keys_sealed(
        &mut self,
        peer: &PublicKey,
        session: SessionId,
        circle: CircleId,
        mut keys: Vec<GivenKey>,
    ) {
        let member = self.circles.get(&circle).and_then(|replica| replica.fold().roster().member(peer));
        let recipient = member.filter(|_| self.is_certified(peer)).map(|member| member.recipient);
        let state = self.sync.peers.get_mut(peer).filter(|state| state.session == session);
        let Some(shared) = state.and_then(|state| state.shared.get_mut(&circle)) else { return };
        let Some(sealed_to) = shared.keys.sealing.take() else { return };
        if recipient != Some(*sealed_to) {
            keys.clear();
        }
        let tag = shared.mine;
        self.send(peer, &Frame::Keys { tag, keys });
    }

    /// A peer hands over keys that it was asked for.
    pub(super) fn keys_heard(&mut self, peer: &PublicKey, circle: CircleId, mut keys: Vec<GivenKey>) {
        let again = self.now.plus(limits::KEY_RETRY_MS);
        let Some(shared) = self.shared(peer, &circle) else { return };
        // What nobody asked for, or what comes when it is asked for elsewhere already, is not looked at.
        let Some((mut asked, _)) = shared.keys.asked.take() else { return };
        keys.retain(|key| key.wrapped.len() <= limits::GIVEN_KEY_BYTES && asked.remove(&key.epoch));
        shared.keys.had_not.extend(asked.into_iter().map(|epoch| (epoch, again)));
        let lacking = self.sync.keys.lacking.get(&circle);
        keys.retain(|key| lacking.is_some_and(|lacking| lacking.contains(&key.epoch)));
        self.sync.keys.came.extend(keys.iter().map(|key| (circle, key.epoch)));
        if !keys.is_empty() {
            self.output(Output::CheckKeys { peer: *peer, circle, keys });
        }
        self.look_for_keys();
    }

    /// Keeps those keys that are what their makers committed to.
    pub(crate) fn keys_checked(&mut self, peer: &PublicKey, circle: CircleId, right: Vec<GivenKey>, wrong: &[Hash]) {
        let again = self.now.plus(limits::KEY_RETRY_MS);
        for epoch in wrong {
            self.sync.keys.came.remove(&(circle, *epoch));
        }
        if !wrong.is_empty() {
            if let Some(shared) = self.shared(peer, &circle) {
                shared.keys.had_not.extend(wrong.iter().map(|epoch| (*epoch, again)));
            }
            self.fault(peer, circle, "it hands over keys that are not those of their epochs".to_owned());
        }
        let mut writes = Vec::with_capacity(right.len());
        let mut epochs = Vec::with_capacity(right.len());
        for GivenKey { epoch, wrapped } in right {
            if let Some(lacking) = self.sync.keys.lacking.get_mut(&circle) {
                lacking.remove(&epoch);
                if lacking.is_empty() {
                    self.sync.keys.lacking.remove(&circle);
                }
            }
            writes.push(Write::Fact { key: given_key(&circle, &epoch), value: wrapped });
            epochs.push(epoch);
        }
        if !writes.is_empty() {
            self.store(writes, vec![After::Given { circle, epochs }]);
        }
        self.look_for_keys();
    }
}
