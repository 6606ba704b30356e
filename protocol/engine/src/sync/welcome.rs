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
            let Some(replica) = self.circles.get(&circle) else { continue };
            let Some(control) = replica.control() else { continue };
            let (charter, operations) = (control.charter().to_bytes(), control.operations());
            let logs = replica.logs().filter(|(_, log)| log.kind == LogKind::Control);
            let (mut entries, mut met, mut bytes) = (Vec::new(), None, 0);
            let longer = |entries: &[EntryBytes], bytes| {
                bytes > limits::WELCOME_BYTES || entries.len() > limits::WELCOME_OPERATIONS
            };
            for (key, seq) in logs.flat_map(|(key, log)| (0..log.durable).map(move |seq| (key, seq))) {
                if longer(&entries, bytes) {
                    break;
                }
                match read_entry(store, &key, seq) {
                    Ok(entry) => {
                        bytes += entry.bytes().length();
                        entries.push(entry.bytes().clone());
                    }
                    Err(damage) => {
                        met = Some((key, seq, damage));
                        break;
                    }
                }
            }
            let behind = self.branches_held(&circle, store)?;
            if let Some((key, seq, damage)) = met {
                // Once others sent it again, who belongs is looked at anew, and with it who lacks the circle.
                match self.fetch_again(&key, seq, store) {
                    true => self.output(Output::Emit(Event::Damaged { what: damage.to_string() })),
                    false => outcome = Err(damage),
                }
                self.hand_charter(peer, circle, charter);
                continue;
            }
            bytes += behind.iter().map(EntryBytes::length).sum::<usize>();
            entries.extend(behind);
            let too_long = longer(&entries, bytes);
            if entries.len() < operations && !too_long && !planted(Bug::WelcomeBeforeDurable) {
                // What rot took is still on its way; what names the peer may be among it.
                self.hand_charter(peer, circle, charter);
                continue;
            }
            let Some(state) = self.sync.peers.get_mut(peer) else { continue };
            let before = state.handed.get(&circle).and_then(|handed| handed.all);
            let had_it = before.is_some() || state.shared.contains_key(&circle);
            let now = self.now;
            state.handed(circle, |handed| {
                // Less and less often: who has not answered an offer, or says nothing to whatever it is handed, may never.
                let wait = limits::DIGEST_EVERY_MS << handed.times;
                handed.times = (handed.times + 1).min(limits::HANDED_DOUBLINGS);
                (handed.all, handed.more_after) = (Some(operations), now.plus(wait));
            });
            if had_it && too_long {
                // It would not be taken. A newcomer hears by as much as is too long that it cannot join.
                continue;
            }
            if had_it {
                self.sync.again_bytes += bytes;
            }
            *handed += bytes;
            let frames = branches::in_frames(entries);
            let count = frames.len();
            for (index, entries) in frames.into_iter().enumerate() {
                let frame = Frame::Welcome { charter: charter.clone(), entries, last: index + 1 == count };
                self.send(peer, &frame);
            }
        }
        outcome
    }

    /// Hands a peer the charter alone of a circle of which rot took operations here. The peer may be the one that has them:
    /// a member whose own copy of the charter rotted, which without it has nothing of the circle. It is a welcome that does
    /// not end: nobody joins by a charter when it is not known here who was removed since.
    fn hand_charter(&mut self, peer: &PublicKey, circle: CircleId, charter: Vec<u8>) {
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        if state.handed.get(&circle).is_none_or(|handed| !handed.charter) {
            state.handed(circle, |handed| handed.charter = true);
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
