//! The root of trust as it goes on: how a new version of the root document reaches this node and what it does here;
//! how fresh the issuers' word is; and what shows that a key of the network's trust is in the wrong hands.
//!
//! A version verifies itself against the one before, so it does not travel in anybody's log, which it might cut:
//! nodes say which version they hold and hand on those that others lack. It is durable here before anything is
//! judged by it, and it never goes back. Then the issuers' word is folded anew, as if every statement had come under
//! this version.
//!
//! This file refuses to know who connects; that follows from the word, in the node.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PublicKey, Time,
    certificate::Certificate,
    encoding,
    root::{Refusal, SignedRoot, TrustRoot},
};

use crate::{
    engine::{After, Engine},
    input::CommandId,
    limits,
    output::{CommandRefusal, Event, Output, Reply},
    planted::{Bug, planted},
    replica::Replica,
    rot::Rot,
    store::{Damage, Fact, Read, Write},
    wire::Frame,
};

pub(crate) const ROOT_FACT: &[u8] = b"root/";
/// Facts that each hold what the root keys signed besides for a version that is held, under its number.
pub(crate) const OTHER_ROOT_FACT: &[u8] = b"other-root/";

/// After so many times what the root document calls fresh, a node holds back what is most sensitive: seven days,
/// where a day is fresh.
const HOLDS_BACK_AFTER: u64 = 7;

/// How fresh the issuers' word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// As fresh as the root document asks.
    Fresh,
    /// Older: later revocations are not known here, and people are told.
    Stale,
    /// So old that AMBER+STRICT and RED are held back, unless an operator overrides it on record.
    HoldsBack,
}

impl Freshness {
    /// Of a word of this age, or none, where the root document asks for `fresh_ms`.
    pub fn of(age_ms: Option<u64>, fresh_ms: u64) -> Self {
        match age_ms {
            Some(age) if age <= fresh_ms => Self::Fresh,
            Some(age) if age <= fresh_ms.saturating_mul(HOLDS_BACK_AFTER) => Self::Stale,
            _ => Self::HoldsBack,
        }
    }
}

/// What shows that a key of the network's trust is in the wrong hands, or that somebody made a mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Alarm {
    /// A peer showed a certificate that its issuer's word, a day newer, does not name.
    #[error(
        "node {node} connects with certificate {serial} of issuer {issuer}, which the issuer's log does not name: somebody else may have the issuer's key; call the coordinator"
    )]
    Unannounced {
        /// The peer.
        node: PublicKey,
        /// Its issuer.
        issuer: PublicKey,
        /// The certificate's number.
        serial: u64,
    },
    /// Somebody was certified as a node of this node's own partner.
    #[error(
        "issuer {issuer} certified node {node} as one of your own (certificate {serial}); if it is yours, compare its fingerprint and say so with `cwn partners --compared`; if not, call the coordinator: somebody else may have your invitation or the issuer's key"
    )]
    OwnPartner {
        /// The node.
        node: PublicKey,
        /// Who certified it.
        issuer: PublicKey,
        /// The certificate's number.
        serial: u64,
    },
    /// Two certificates of one node contradict each other.
    #[error(
        "two certificates of node {node} name different partners or sealing keys, the newest by issuer {issuer}: somebody else may have the issuer's key; call the coordinator"
    )]
    Contradiction {
        /// The node.
        node: PublicKey,
        /// Who issued the newest.
        issuer: PublicKey,
    },
    /// An issuer signed two entries for one place of its log.
    #[error(
        "issuer {issuer} signed two branches of one log: its key is in use elsewhere, or an old backup of it; call the coordinator"
    )]
    IssuerForked {
        /// The issuer.
        issuer: PublicKey,
    },
    /// The root keys signed two documents for one version.
    #[error("the root keys signed two documents for version {version} of the root document; call the root key holders")]
    RootForked {
        /// The version.
        version: u32,
    },
}

/// The state of this node's trust.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The newest version that was verified, perhaps not durable yet.
    newest: TrustRoot,
    /// What peers showed.
    shown: BTreeMap<PublicKey, Certificate>,
    alarms: BTreeMap<Alarm, Time>,
    forked_versions: BTreeSet<u32>,
}

impl Trust {
    /// What a store remembers. Whether what the root keys signed besides can be read back or not, its name says of which
    /// version there are two.
    pub(crate) fn load(newest: TrustRoot, store: &dyn Read) -> Result<Self, Damage> {
        let others = store.facts(OTHER_ROOT_FACT)?;
        let version = |fact: &Fact| Some(u32::from_be_bytes(fact.key[OTHER_ROOT_FACT.len()..].try_into().ok()?));
        let forked_versions = others.iter().filter_map(version).collect();
        Ok(Self { newest, shown: BTreeMap::new(), alarms: BTreeMap::new(), forked_versions })
    }
}

/// What is known of the root document that a peer holds.
#[derive(Debug)]
pub(crate) struct PeerRoot {
    /// Which version, as far as is known here.
    pub(crate) held: u32,
    /// When it may be answered next with the versions that it lacks.
    after: Time,
    /// Whether it was handed all versions because it holds others.
    pub(crate) shown_other: bool,
}

impl Default for PeerRoot {
    fn default() -> Self {
        Self { held: 1, after: Time(0), shown_other: false }
    }
}

/// Goes on to the versions that the store holds, up to one that cannot be read back. That one and those behind it peers
/// hand over again.
pub(crate) fn load(root: &mut TrustRoot, store: &dyn Read, rot: &mut Rot) -> Result<(), Damage> {
    let read = |_: &[u8], value: &[u8]| SignedRoot::from_bytes(value).map_err(|refusal| refusal.to_string());
    let (versions, _) = rot.facts(store, (ROOT_FACT, "a version of the root document"), read)?;
    for signed in versions {
        if let Err(refusal) = root.adopt(&[signed]) {
            let (what, why) = ("a version of the root document".to_owned(), refusal.to_string());
            rot.damages.push(Damage { what, why });
        }
    }
    Ok(())
}

/// Says that this is held, and hands over one version.
fn root_frame(root: &TrustRoot, document: Option<SignedRoot>) -> Frame {
    Frame::Root { held: root.version(), document, newest: Some(root.signed().hash()) }
}

impl Engine {
    /// The root of trust that everything here is judged by.
    pub fn root(&self) -> &TrustRoot {
        let root = self.circles.get(&self.network).and_then(Replica::root);
        root.unwrap_or_else(|| unreachable!("the network circle is made at start and never taken away"))
    }

    /// How old the issuers' newest word is, by this node's clock; none when nothing was heard.
    pub fn word_age_ms(&self) -> Option<u64> {
        self.word().newest_by(self.wall).map(|newest| self.wall.since(newest))
    }

    /// How fresh the issuers' word is.
    pub fn freshness(&self) -> Freshness {
        Freshness::of(self.word_age_ms(), self.root().document().freshness_ms)
    }

    /// What shows that something is wrong with the network's trust, each with the time it was seen first.
    pub fn alarms(&self) -> impl Iterator<Item = (&Alarm, Time)> {
        self.trust.alarms.iter().map(|(alarm, since)| (alarm, *since))
    }

    // ---- New versions.

    pub(crate) fn adopt_root(&mut self, id: CommandId, versions: &[SignedRoot]) -> Result<(), CommandRefusal> {
        self.adopt(versions, Some(id))?;
        Ok(())
    }

    /// Verifies versions against the newest known here, and makes those that lead on durable.
    fn adopt(&mut self, versions: &[SignedRoot], reply_to: Option<CommandId>) -> Result<(), Refusal> {
        let before = self.trust.newest.version();
        let (mut writes, mut outcome) = (Vec::new(), Ok(()));
        for signed in versions {
            if let Err(refusal) = self.trust.newest.adopt(std::slice::from_ref(signed)) {
                if let Refusal::Forked(version) = refusal
                    && self.trust.forked_versions.insert(version)
                {
                    let key = [OTHER_ROOT_FACT, &version.to_be_bytes()].concat();
                    writes.push(Write::Fact { key, value: encoding::to_bytes(signed) });
                    self.look_for_alarms();
                }
                outcome = Err(refusal);
                break;
            }
        }
        let fact = |signed: &SignedRoot| {
            let version = signed.version()?;
            let key = [ROOT_FACT, &version.to_be_bytes()].concat();
            Ok(Write::Fact { key, value: encoding::to_bytes(signed) })
        };
        let newer: Vec<Write> = self.trust.newest.after(before).iter().map(fact).collect::<Result<_, Refusal>>()?;
        let mut after = Vec::new();
        if !newer.is_empty() {
            after.push(After::Root(Box::new(self.trust.newest.clone())));
        }
        writes.extend(newer);
        if outcome.is_ok() {
            after.extend(reply_to.map(|id| After::Reply(id, Reply::Done)));
        }
        if !writes.is_empty() || !after.is_empty() {
            self.store(writes, after);
        }
        outcome
    }

    /// A version is durable: from here on everything is judged by it.
    pub(crate) fn root_advanced(&mut self, root: TrustRoot, store: &dyn Read) -> Result<(), Damage> {
        let version = root.version();
        let damages =
            self.circles.get_mut(&self.network).map(|replica| replica.rejudge(root, store)).unwrap_or_default();
        damages.into_iter().for_each(|damage| self.output(Output::Emit(Event::Damaged { what: damage.to_string() })));
        // What was seen of a dropped issuer is settled; what still shows is seen again at once.
        self.trust.alarms.clear();
        self.output(Output::Emit(Event::RootAdvanced { version }));
        let network = self.network;
        self.membership_changed(&network, store)?;
        let peers: Vec<PublicKey> = self.peers_behind(version);
        peers.iter().for_each(|peer| self.hand_on_root(peer));
        Ok(())
    }

    /// Says which version this node holds, unless it is the first.
    pub(crate) fn say_root(&mut self, peer: &PublicKey) {
        if self.root().version() > 1 {
            let frame = root_frame(self.root(), None);
            self.send(peer, &frame);
        }
    }

    /// Hands a peer the versions that it lacks.
    fn hand_on_root(&mut self, peer: &PublicKey) {
        let held = self.root().version();
        let Some(theirs) = self.peer_root(peer) else { return };
        let from = std::mem::replace(&mut theirs.held, held);
        for document in self.root().after(from).to_vec() {
            let frame = root_frame(self.root(), Some(document));
            self.send(peer, &frame);
        }
    }

    /// Hands a peer that said what it holds the versions that it lacks. However often it says so this happens once a
    /// second; what it says meanwhile is answered with a digest.
    pub(crate) fn answer_root(&mut self, peer: &PublicKey) {
        let (held, now) = (self.root().version(), self.now);
        let Some(theirs) = self.peer_root(peer).filter(|theirs| theirs.held < held && theirs.after <= now) else {
            return;
        };
        theirs.after = now.plus(limits::COMPARE_EVERY_MS);
        self.hand_on_root(peer);
    }

    pub(crate) fn root_heard(
        &mut self,
        peer: &PublicKey,
        held: u32,
        document: Option<SignedRoot>,
        newest: Option<Hash>,
    ) {
        let handed = document.is_some();
        let mut other = false;
        if let Some(signed) = document {
            match self.adopt(std::slice::from_ref(&signed), None) {
                Ok(()) => {}
                // Whoever holds the other of two documents that the root keys signed is not to blame for it.
                Err(Refusal::Forked(_) | Refusal::OtherPast(_)) => other = true,
                Err(refusal) => return self.fault(peer, self.network, refusal.to_string()),
            }
        }
        let ours = held.checked_sub(1).and_then(|before| self.trust.newest.after(before).first()).map(SignedRoot::hash);
        other |= newest.zip(ours).is_some_and(|(theirs, ours)| theirs != ours);
        let Some(theirs) = self.peer_root(peer) else { return };
        // Where two parted neither can tell. Whoever holds others is handed all, which shows it, as who holds none of them.
        let show = other && !theirs.shown_other;
        theirs.shown_other |= other;
        theirs.held = if show { 1 } else { held };
        self.answer_root(peer);
        if held > self.trust.newest.version() && !handed {
            // It hands over the versions after the one it hears of.
            let frame = root_frame(&self.trust.newest, None);
            self.send(peer, &frame);
        }
    }

    // ---- Alarms.

    /// A peer was admitted with this certificate.
    pub(crate) fn shown(&mut self, certificate: Certificate) {
        if self.trust.shown.len() >= limits::SHOWN_CERTIFICATES {
            let connected: BTreeSet<PublicKey> = self.peers().iter().map(|peer| peer.peer).collect();
            self.trust.shown.retain(|node, _| connected.contains(node));
        }
        self.trust.shown.insert(certificate.node, certificate);
        self.look_for_alarms();
    }

    /// Looks at everything that may show that something is wrong, and says what is new.
    pub(crate) fn look_for_alarms(&mut self) {
        let (word, me) = (self.word(), self.me);
        let mut seen = BTreeSet::new();
        for certificate in self.trust.shown.values().filter(|shown| word.keeps_silent_about(shown)) {
            let Certificate { node, issuer, serial, .. } = *certificate;
            seen.insert(Alarm::Unannounced { node, issuer, serial });
        }
        if let Some(own) = word.certificate(&me) {
            let others = word.partner(&own.certificate.partner).map(|other| &other.certificate);
            let others = others.filter(|_| !planted(Bug::QuietAboutOwnPartner));
            for other in others.filter(|other| other.node != me && word.revocation(&other.node).is_none()) {
                let Certificate { node, issuer, serial, .. } = *other;
                seen.insert(Alarm::OwnPartner { node, issuer, serial });
            }
        }
        for (_, newest) in word.contradictions() {
            let Certificate { node, issuer, .. } = newest.certificate;
            seen.insert(Alarm::Contradiction { node, issuer });
        }
        let forks = self.circles.get(&self.network).into_iter().flat_map(Replica::forks);
        let allowed = forks.map(|((issuer, _), _)| *issuer).filter(|issuer| self.root().issuer(issuer).is_some());
        seen.extend(allowed.map(|issuer| Alarm::IssuerForked { issuer }));
        seen.extend(self.trust.forked_versions.iter().map(|version| Alarm::RootForked { version: *version }));
        let now = self.wall;
        // A renewal of a certificate that was an alarm before is the same alarm with another number.
        self.trust.alarms.retain(|alarm, _| seen.contains(alarm));
        for alarm in seen {
            if !self.trust.alarms.contains_key(&alarm) {
                self.trust.alarms.insert(alarm.clone(), now);
                self.output(Output::Emit(Event::Alarm(alarm)));
            }
        }
    }
}
