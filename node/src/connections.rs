//! What people are shown of connections: who is connected, why others are not, and who was refused.
//!
//! Every list here is bounded: strangers fill one of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cwn_crypto::{PublicKey, Time};
use tokio::sync::watch;

/// Refusals remembered: enough to see who knocks, too few to fill memory.
const REFUSALS: usize = 256;
/// Peers whose last failure is remembered.
const FAILURES: usize = 4_096;

/// A connection that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Time,
    /// Who, if that far.
    pub peer: Option<PublicKey>,
    /// From where.
    pub address: String,
    /// Why.
    pub reason: String,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Since when.
    pub since: Time,
    /// Whether this node dialled.
    pub dialled: bool,
    /// The relay that passes the connection on, if one does.
    pub through: Option<PublicKey>,
    /// `valid` or `grace`.
    pub standing: &'static str,
}

#[derive(Debug, Default)]
struct State {
    connected: BTreeMap<PublicKey, Connected>,
    failures: BTreeMap<PublicKey, String>,
    refused: VecDeque<Refused>,
    listening: Vec<String>,
}

/// The connections of a node, as people see them.
#[derive(Debug, Default)]
pub struct Connections {
    state: Mutex<State>,
    /// Whether the node listens anywhere yet.
    listens: watch::Sender<bool>,
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer is connected.
    pub fn up(&self, peer: PublicKey, connected: Connected) {
        let mut state = self.state();
        state.failures.remove(&peer);
        state.connected.insert(peer, connected);
    }

    /// A peer is no longer connected.
    pub fn down(&self, peer: &PublicKey, reason: String) {
        self.state().connected.remove(peer);
        self.failed(*peer, reason);
    }

    /// A peer could not be reached.
    pub fn failed(&self, peer: PublicKey, reason: String) {
        let mut state = self.state();
        if state.failures.len() < FAILURES || state.failures.contains_key(&peer) {
            state.failures.insert(peer, reason);
        }
    }

    /// Somebody was refused.
    pub fn refused(&self, refused: Refused) {
        let mut state = self.state();
        if state.refused.len() == REFUSALS {
            state.refused.pop_front();
        }
        state.refused.push_back(refused);
    }

    /// The node listens on an address.
    pub fn listens(&self, address: String) {
        let mut state = self.state();
        if !state.listening.contains(&address) {
            state.listening.push(address);
        }
        self.listens.send_replace(true);
    }

    /// Waits until the node listens on an address.
    pub async fn listens_somewhere(&self) {
        // The sender is this very value's.
        let _ = self.listens.subscribe().wait_for(|listens| *listens).await;
    }

    /// The node can be reached at an address no longer.
    pub fn listens_no_longer(&self, address: &str) {
        self.state().listening.retain(|listening| listening != address);
    }

    /// A connected peer.
    pub fn connected(&self, peer: &PublicKey) -> Option<Connected> {
        self.state().connected.get(peer).cloned()
    }

    /// Every connected peer.
    pub fn all(&self) -> Vec<(PublicKey, Connected)> {
        self.state().connected.iter().map(|(peer, connected)| (*peer, connected.clone())).collect()
    }

    /// How many peers are connected.
    pub fn count(&self) -> usize {
        self.state().connected.len()
    }

    /// Why a peer was not reached the last time.
    pub fn failure(&self, peer: &PublicKey) -> Option<String> {
        self.state().failures.get(peer).cloned()
    }

    /// Whether the last failure to reach some peer says this.
    pub fn failed_for(&self, why: &str) -> bool {
        self.state().failures.values().any(|reason| reason.contains(why))
    }

    /// Who was refused lately, the newest last.
    pub fn refusals(&self) -> Vec<Refused> {
        self.state().refused.iter().cloned().collect()
    }

    /// Where the node listens.
    pub fn listening(&self) -> Vec<String> {
        self.state().listening.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_strangers_leave_the_last_few() {
        let connections = Connections::default();
        for at in 0..1_000 {
            let refused = Refused { at: Time(at), peer: None, address: "somewhere".to_owned(), reason: String::new() };
            connections.refused(refused);
        }
        let refusals = connections.refusals();
        assert_eq!(refusals.len(), REFUSALS);
        assert_eq!(refusals.last().map(|refused| refused.at), Some(Time(999)));
    }
}
