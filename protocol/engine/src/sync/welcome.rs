//! Welcome: a circle is handed to a node that belongs to it and showed no tag for it.
//!
//! This file refuses to decide whether to join; that is [`crate::engine`]'s, by its rule or its operator.

use cwn_crypto::PublicKey;

use super::Welcome;
use crate::branches;
use crate::circle::Charter;
use crate::engine::{Engine, Offering};
use crate::limits;
use crate::log::{CircleId, Decoded, EntryBytes, LogKind};
use crate::output::{Event, Output};
use crate::planted::{Bug, planted};
use crate::replica::{Log, Replica, read_entry};
use crate::store::{Damage, Read};
use crate::wire::Frame;

/// What a circle is handed as.
struct History {
    charter: Vec<u8>,
    /// How many operations are known here.
    operations: usize,
    /// Those that are handed.
    entries: Vec<EntryBytes>,
    bytes: usize,
}

impl History {
    fn put(&mut self, entry: EntryBytes) {
        self.bytes += entry.length();
        self.entries.push(entry);
    }

    fn is_too_long(&self) -> bool {
        self.bytes > limits::WELCOME_BYTES || self.entries.len() > limits::WELCOME_OPERATIONS
    }
}

impl Engine {
    /// Hands a peer the charter and operations of circles that it belongs to and showed no tag for, or is silent about, for
    /// it may take this node for removed; once more when there are more, for as long as it stays so. It is handed what is
    /// durable here; while more is on its way to the store, what names the peer may be among that, and the offer waits.
    pub(super) fn welcome(&mut self, peer: &PublicKey, store: &dyn Read) -> Result<(), Damage> {
        self.welcome_each([*peer], store)
    }

    /// The same for several, as many as may be handed something at once; the others hear with the next digests, if those
    /// have not told them by then.
    pub(super) fn welcome_each(
        &mut self,
        peers: impl IntoIterator<Item = PublicKey>,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let (mut outcome, mut handed) = (Ok(()), 0);
        for peer in peers {
            if handed > limits::WELCOMES_AT_ONCE_BYTES {
                break;
            }
            outcome = outcome.and(self.hand_circles(&peer, &mut handed, store));
        }
        outcome
    }

    fn hand_circles(&mut self, peer: &PublicKey, handed: &mut usize, store: &dyn Read) -> Result<(), Damage> {
        let hands_again = self.sync.hands_again(self.now);
        let Some(state) = self.sync.peers.get(peer).filter(|state| state.offered) else { return Ok(()) };
        let unknown: Vec<CircleId> = self
            .circles
            .values()
            .filter(|replica| replica.control().is_some())
            // Before what costs more: a peer may show tags over and over.
            .filter(|replica| {
                let handed = state.handed.get(&replica.id()).copied().unwrap_or_default();
                let shared = state.shared.get(&replica.id());
                let silent = shared.is_none_or(|shared| shared.silent.plus(limits::SILENT_MS) <= self.now);
                let more = |operations| replica.control().is_some_and(|control| control.operations() > operations);
                silent
                    && (hands_again || shared.is_none() && handed.all.is_none())
                    && handed.all.is_none_or(|operations| handed.more_after <= self.now && more(operations))
            })
            .filter(|replica| self.shares(peer, replica) || planted(Bug::WelcomeStrangers))
            .filter(|replica| {
                let durable = |log: &Log| log.kind != LogKind::Control || log.height == log.durable;
                replica.logs().all(|(_, log)| durable(log)) || planted(Bug::WelcomeBeforeDurable)
            })
            .map(Replica::id)
            .collect();
        let mut outcome = Ok(());
        for circle in unknown {
            if *handed > limits::WELCOMES_AT_ONCE_BYTES {
                // The rest with the next digest: a line's queue has an end.
                break;
            }
            let history = self.history(&circle, store);
            let Ok(Some(history)) = history else {
                outcome = outcome.and(history.map(drop));
                self.hand_charter(peer, &circle);
                continue;
            };
            let now = self.now;
            let Some(state) = self.sync.peers.get_mut(peer) else { continue };
            let before = state.handed.get(&circle).and_then(|handed| handed.all);
            let joined = state.shared.contains_key(&circle);
            let had_it = joined || before.is_some();
            state.handed(circle, |handed| {
                let minutes = match joined {
                    // Less and less often: it may be silent on purpose.
                    true => 1 << handed.times,
                    false => (history.bytes / limits::HANDED_A_MINUTE_BYTES).max(1) as u64,
                };
                handed.times = (handed.times + 1).min(limits::HANDED_DOUBLINGS);
                handed.more_after = now.plus(limits::DIGEST_EVERY_MS * minutes);
                handed.all = Some(history.operations);
            });
            if had_it && history.is_too_long() {
                // It would not be taken. A newcomer hears by as much as is too long that it cannot join.
                continue;
            }
            if had_it {
                self.sync.again_bytes += history.bytes;
            }
            *handed += history.bytes;
            self.hand_history(peer, history);
        }
        outcome
    }

    /// The charter and operations of a circle, as far as a welcome may be long. `None` while rot has taken some that are not
    /// back yet: what says who belongs may be among them.
    fn history(&mut self, circle: &CircleId, store: &dyn Read) -> Result<Option<History>, Damage> {
        let Some(replica) = self.circles.get(circle) else { return Ok(None) };
        let Some(control) = replica.control() else { return Ok(None) };
        let (charter, operations) = (control.charter().to_bytes(), control.operations());
        let mut history = History { charter, operations, entries: Vec::new(), bytes: 0 };
        let logs = replica.logs().filter(|(_, log)| log.kind == LogKind::Control);
        let mut met = None;
        for (key, seq) in logs.flat_map(|(key, log)| (0..log.durable).map(move |seq| (key, seq))) {
            if history.is_too_long() {
                break;
            }
            match read_entry(store, &key, seq) {
                Ok(entry) => history.put(entry.bytes().clone()),
                Err(damage) => {
                    met = Some((key, seq, damage));
                    break;
                }
            }
        }
        let behind = self.branches_held(circle, store)?;
        if let Some((key, seq, damage)) = met {
            // Once others sent it again, who belongs is looked at anew, and with it who lacks the circle.
            if !self.fetch_again(&key, seq, store) {
                return Err(damage);
            }
            self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
            return Ok(None);
        }
        behind.into_iter().for_each(|entry| history.put(entry));
        let lacks = history.entries.len() < operations && !history.is_too_long();
        Ok(Some(history).filter(|_| !lacks || planted(Bug::WelcomeBeforeDurable)))
    }

    fn hand_history(&mut self, peer: &PublicKey, History { charter, entries, .. }: History) {
        let frames = branches::in_frames(entries);
        let count = frames.len();
        for (index, entries) in frames.into_iter().enumerate() {
            let frame = Frame::Welcome { charter: charter.clone(), entries, last: index + 1 == count };
            self.send(peer, &frame);
        }
    }

    /// A peer that was handed a circle and has not joined it belongs to it no more. Its operator may be deciding still.
    pub(super) fn withdraw_offer(
        &mut self,
        peer: &PublicKey,
        circle: &CircleId,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        if let Some(history) = self.history(circle, store)?.filter(|history| !history.is_too_long()) {
            self.hand_history(peer, history);
        }
        Ok(())
    }

    /// Hands a peer the charter alone of a circle of which rot took operations here. The peer may be the one that has them:
    /// a member whose own copy of the charter rotted, which without it has nothing of the circle. It is a welcome that does
    /// not end: nobody joins by a charter when it is not known here who was removed since.
    fn hand_charter(&mut self, peer: &PublicKey, circle: &CircleId) {
        let control = self.circles.get(circle).and_then(Replica::control);
        let Some(charter) = control.map(|control| control.charter().to_bytes()) else { return };
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        if state.handed.get(circle).is_none_or(|handed| !handed.charter) {
            state.handed(*circle, |handed| handed.charter = true);
            self.send(peer, &Frame::Welcome { charter, entries: Vec::new(), last: false });
        }
    }

    pub(super) fn welcome_heard(
        &mut self,
        peer: &PublicKey,
        charter: Vec<u8>,
        entries: Vec<EntryBytes>,
        last: bool,
        store: &dyn Read,
    ) {
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        let fresh = || Welcome { charter: charter.clone(), entries: Vec::new(), bytes: 0, too_long: false };
        let mut welcome = state.welcome.take().filter(|before| before.charter == charter).unwrap_or_else(fresh);
        welcome.bytes += entries.iter().map(EntryBytes::length).sum::<usize>();
        welcome.entries.extend(entries);
        let longer = welcome.bytes > limits::WELCOME_BYTES || welcome.entries.len() > limits::WELCOME_OPERATIONS;
        if longer || welcome.too_long {
            let again = std::mem::replace(&mut welcome.too_long, true);
            welcome.entries = Vec::new();
            if !last {
                state.welcome = Some(welcome);
            }
            if !again {
                // Not the bearer's fault: one steward that writes without need is enough.
                let circle = Charter::from_bytes(&charter).map_or(self.network, |charter| charter.id());
                let reason = "its history is longer than a newcomer can be handed; a steward can found a circle that \
                              succeeds it";
                self.output(Output::Emit(Event::Refused { peer: *peer, circle, reason: reason.to_owned() }));
            }
            return;
        }
        if !last {
            let alone = welcome.entries.is_empty();
            let charter = alone.then(|| Charter::from_bytes(&welcome.charter).ok()).flatten();
            state.welcome = Some(welcome);
            charter.into_iter().for_each(|charter| self.regain(&charter, store));
            return;
        }
        let charter = match Charter::from_bytes(&welcome.charter) {
            Ok(charter) => charter,
            Err(_) if Charter::is_of_later(&welcome.charter) => {
                let reason = "a circle that only a later version of this program can join; update it".to_owned();
                return self.output(Output::Emit(Event::Refused { peer: *peer, circle: self.network, reason }));
            }
            Err(refusal) => {
                self.fault(peer, self.network, format!("a welcome whose charter does not hold: {refusal}"));
                return;
            }
        };
        let circle = charter.id();
        self.regain(&charter, store);
        let operations = Decoded::decode_all(welcome.entries);
        if !self.circles.contains_key(&circle) {
            match self.offered(*peer, charter, operations) {
                Offering::Taken => {}
                Offering::NotNamed => {
                    // Who counts this node in has the operation that adds it, and would have sent it.
                    self.fault(peer, circle, "an offer of a circle that does not name this node".to_owned());
                }
                Offering::TooMany => {
                    let reason = "more offers of circles than one peer may leave undecided; accept or decline some";
                    self.output(Output::Emit(Event::Refused { peer: *peer, circle, reason: reason.to_owned() }));
                }
            }
            return;
        }
        // The peer counts this node in and saw no tag for it: there may be operations that this node lacks.
        self.forks_among(*peer, circle, &operations, store);
        let Some(replica) = self.circles.get_mut(&circle) else { return };
        let ingested = replica.ingest_operations(operations);
        self.keep(circle, ingested.writes, ingested.membership_changed, store);
    }
}
