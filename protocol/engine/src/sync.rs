//! What nodes say to each other: tags and digests, comparisons, runs, live push and held statements.
//!
//! Catch-up and live push are one mechanism. A session starts from digests and assumes nothing of what the
//! peer knew before; where digests differ, buckets and then tips show which logs do, and each side pulls
//! what it lacks. A height that this node announces is durable on it.
//!
//! This file refuses to judge entries: that is [`crate::replica`]'s.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Domain, Hash, PublicKey, Time, encoding::mac, issuer_log::LogId};

use crate::{
    acceptance,
    circle::Charter,
    engine::{Engine, HELD_FACT, fact_key, held_entry},
    epoch::SignedRecord,
    held::{Ledger, SignedStatement, Statement},
    input::{PullId, SessionId, StreamId},
    limits,
    log::{Authentic, CircleId, Decoded, EntryBytes, LogKey, LogKind, RunRefusal},
    output::{Event, Output},
    replica::{Refusal, Replica, Stop},
    store::{Damage, Read, Write},
    wire::{BucketHash, Frame, Nonce, RunFrame, RunRequest, Tag, VERSION, WireTip},
};

type LogName = (PublicKey, LogId);

/// A circle that both sides of a session showed a tag for.
#[derive(Debug)]
struct Shared {
    theirs: Tag,
    mine: Tag,
    tips: BTreeMap<LogName, WireTip>,
    /// A comparison came to its end, or digests were equal.
    compared: bool,
    /// Everything the peer held at that comparison is held here too.
    caught_up: bool,
    compare_after: Time,
    digest_due: Time,
    /// The epoch whose record was last pushed.
    pushed_epoch: Option<Hash>,
}

#[derive(Debug)]
struct Welcome {
    charter: Vec<u8>,
    entries: Vec<EntryBytes>,
    bytes: usize,
}

/// A connected peer.
#[derive(Debug)]
struct Peer {
    session: SessionId,
    dialled: bool,
    nonce: Nonce,
    their_nonce: Option<Nonce>,
    since: Time,
    /// Whether its first offer came, so that a missing tag means that it does not know the circle.
    offered: bool,
    my_tags: BTreeMap<CircleId, Tag>,
    shared: BTreeMap<CircleId, Shared>,
    unknown: BTreeMap<Tag, Hash>,
    welcomed: BTreeSet<CircleId>,
    welcome: Option<Welcome>,
    faults: u32,
    /// Runs in a row that brought nothing of what it said it held.
    empty_runs: u32,
}

/// Something that is to be pulled, and from whom it can be had.
#[derive(Debug)]
struct Want {
    sources: BTreeMap<PublicKey, Source>,
    first: bool,
    due: Time,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    /// How many entries it holds.
    height: u64,
    /// What it sent builds on something missing. It is asked again when that may have changed; others are asked
    /// meanwhile, for it may be this source that holds something back.
    blocked: bool,
}

impl Want {
    fn is_open(&self) -> bool {
        self.sources.values().any(|source| !source.blocked)
    }

    fn unblock(&mut self) {
        self.sources.values_mut().for_each(|source| source.blocked = false);
    }
}

#[derive(Debug)]
struct Pull {
    peer: PublicKey,
    circle: CircleId,
    name: LogName,
    tail: Vec<Decoded>,
    start: u64,
    last_frame: Time,
}

/// The state of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    peers: BTreeMap<PublicKey, Peer>,
    wants: BTreeMap<(CircleId, LogName), Want>,
    pulls: BTreeMap<PullId, Pull>,
    next_pull: u64,
    synced: BTreeSet<(CircleId, PublicKey)>,
    announce: BTreeSet<LogKey>,
    announce_due: Option<Time>,
    held: BTreeSet<(CircleId, PublicKey)>,
    held_due: Option<Time>,
    digests: BTreeMap<CircleId, (Hash, Vec<WireTip>)>,
}

impl Sync {
    pub(crate) fn was_synced_with(&self, circle: &CircleId, peer: &PublicKey) -> bool {
        self.synced.contains(&(*circle, *peer))
    }
}

/// What a connected peer shares, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub peer: PublicKey,
    /// Since when.
    pub since: Time,
    /// Whether this node dialled.
    pub dialled: bool,
    /// The circles both showed a tag for, and whether all that the peer held was caught up with.
    pub circles: Vec<(CircleId, bool)>,
    /// Faults so far in this session.
    pub faults: u32,
}

fn tag(secret: &[u8; 32], me: PublicKey, peer: &PublicKey, session: &Peer, from_me: bool) -> Option<Tag> {
    let theirs = session.their_nonce?;
    let (dialler, listener) = if session.dialled { (&me, peer) } else { (peer, &me) };
    let (dialler_nonce, listener_nonce) =
        if session.dialled { (session.nonce, theirs) } else { (theirs, session.nonce) };
    let role = [u8::from(from_me == session.dialled)];
    let parts: [&[u8]; 5] = [&dialler.0, &listener.0, &dialler_nonce.0, &listener_nonce.0, &role];
    let mut tag = [0; 16];
    tag.copy_from_slice(&mac(secret, Domain::TAG, &parts)[..16]);
    Some(Tag(tag))
}

impl Engine {
    // ---- Sessions.

    pub(crate) fn peer_up(&mut self, peer: PublicKey, session: SessionId, dialled: bool, nonce: Nonce) {
        if let Some(before) = self.sync.peers.get(&peer) {
            let before = before.session;
            self.peer_down(&peer, before);
        }
        let state = Peer {
            session,
            dialled,
            nonce,
            their_nonce: None,
            since: self.wall,
            offered: false,
            my_tags: BTreeMap::new(),
            shared: BTreeMap::new(),
            unknown: BTreeMap::new(),
            welcomed: BTreeSet::new(),
            welcome: None,
            faults: 0,
            empty_runs: 0,
        };
        self.sync.peers.insert(peer, state);
        self.send(&peer, &Frame::Hello { version: VERSION, nonce });
    }

    pub(crate) fn peer_down(&mut self, peer: &PublicKey, session: SessionId) {
        if self.sync.peers.get(peer).is_none_or(|state| state.session != session) {
            return;
        }
        self.sync.peers.remove(peer);
        self.sync.pulls.retain(|_, pull| pull.peer != *peer);
        self.forget_source(peer);
    }

    fn forget_source(&mut self, peer: &PublicKey) {
        self.sync.wants.retain(|_, want| {
            want.sources.remove(peer);
            !want.sources.is_empty()
        });
    }

    fn send(&mut self, peer: &PublicKey, frame: &Frame) {
        if let Some(session) = self.sync.peers.get(peer).map(|state| state.session) {
            self.output(Output::Send { peer: *peer, session, bytes: frame.to_bytes() });
        }
    }

    fn disconnect(&mut self, peer: &PublicKey, reason: String) {
        if let Some(session) = self.sync.peers.get(peer).map(|state| state.session) {
            self.peer_down(peer, session);
            self.output(Output::Disconnect { peer: *peer, session, reason });
        }
    }

    /// The peer sent something that an honest node of this version does not send.
    fn fault(&mut self, peer: &PublicKey, circle: CircleId, reason: String) {
        self.output(Output::Emit(Event::Refused { peer: *peer, circle, reason: reason.clone() }));
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        state.faults += 1;
        if state.faults >= limits::FAULTS {
            self.disconnect(peer, format!("{reason}; it was not the first fault"));
        }
    }

    pub(crate) fn live_dropped(&mut self, peer: &PublicKey, session: SessionId) {
        let later = self.now.plus(limits::COMPARE_EVERY_MS);
        let state = self.sync.peers.get_mut(peer).filter(|state| state.session == session);
        for shared in state.into_iter().flat_map(|state| state.shared.values_mut()) {
            shared.digest_due = shared.digest_due.min(later);
            shared.pushed_epoch = None;
        }
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |(peer, state): (&PublicKey, &Peer)| PeerStatus {
            peer: *peer,
            since: state.since,
            dialled: state.dialled,
            circles: state.shared.iter().map(|(circle, shared)| (*circle, shared.caught_up)).collect(),
            faults: state.faults,
        };
        self.sync.peers.iter().map(status).collect()
    }

    /// The circle that a peer's tag stands for in a session; for streams beside the live one.
    pub fn circle_by_tag(&self, peer: &PublicKey, session: SessionId, tag: &Tag) -> Option<CircleId> {
        let state = self.sync.peers.get(peer)?;
        if state.session != session {
            return None;
        }
        self.circle_of(peer, tag)
    }

    /// The connected peers that share a circle, each with the tag by which this node names it to them.
    pub fn sharing(&self, circle: &CircleId) -> Vec<(PublicKey, SessionId, Tag)> {
        let shares = |(peer, state): (&PublicKey, &Peer)| Some((*peer, state.session, state.shared.get(circle)?.mine));
        self.sync.peers.iter().filter_map(shares).collect()
    }

    /// How many entries of a circle connected peers are known to hold and this node lacks.
    pub fn behind(&self, circle: &CircleId) -> u64 {
        let range = self.sync.wants.iter().filter(|((of, _), _)| of == circle);
        range
            .map(|((_, (author, log)), want)| {
                let held = self.circles.get(circle).and_then(|replica| replica.log(author, log));
                let most = want.sources.values().map(|source| source.height).max().unwrap_or(0);
                most.saturating_sub(held.map_or(0, |held| held.durable))
            })
            .sum()
    }

    // ---- Frames.

    pub(crate) fn frame(
        &mut self,
        peer: &PublicKey,
        session: SessionId,
        bytes: &[u8],
        store: &dyn Read,
    ) -> Result<(), Damage> {
        if self.sync.peers.get(peer).is_none_or(|state| state.session != session) {
            return Ok(());
        }
        let frame = match Frame::from_bytes(bytes) {
            Ok(frame) => frame,
            Err(refusal) => {
                self.disconnect(peer, format!("a frame that is {refusal}"));
                return Ok(());
            }
        };
        match frame {
            Frame::Hello { version, nonce } => self.hello(peer, version, nonce, store)?,
            Frame::Offer { circles } => self.offer_heard(peer, circles, store)?,
            Frame::Digest { tag, digest } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.compare(peer, circle, digest, store)?;
                }
            }
            Frame::Buckets { tag, buckets } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.buckets_heard(peer, circle, &buckets, store)?;
                }
            }
            Frame::Tips { tag, tips, last } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.tips_heard(peer, circle, tips, last, store)?;
                }
            }
            Frame::Have { tag, tips } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    let due = self.now.plus(limits::PULL_WAIT_MS);
                    tips.iter().for_each(|tip| self.tip_heard(peer, circle, *tip, due));
                }
            }
            Frame::Push { tag, record, entry } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.push_heard(peer, circle, record, entry);
                }
            }
            Frame::Welcome { charter, entries, last } => self.welcome_heard(peer, charter, entries, last),
            Frame::Held { tag, statement } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.held_heard(peer, circle, &statement);
                }
            }
        }
        Ok(())
    }

    fn circle_of(&self, peer: &PublicKey, tag: &Tag) -> Option<CircleId> {
        let shared = &self.sync.peers.get(peer)?.shared;
        shared.iter().find(|(_, shared)| shared.theirs == *tag).map(|(circle, _)| *circle)
    }

    fn hello(&mut self, peer: &PublicKey, version: u16, nonce: Nonce, store: &dyn Read) -> Result<(), Damage> {
        if version != VERSION {
            self.disconnect(peer, format!("it speaks version {version} of the protocol, this node {VERSION}"));
            return Ok(());
        }
        let Some(state) = self.sync.peers.get_mut(peer) else { return Ok(()) };
        if state.their_nonce.is_some() {
            self.disconnect(peer, "a second greeting in one session".to_owned());
            return Ok(());
        }
        state.their_nonce = Some(nonce);
        self.offer(peer, true, store)
    }

    /// Whether this node speaks with a peer about a circle: the peer counts in it, as far as this node knows. Whether
    /// this node counts is for the peer to judge: who was removed may have been added again without having heard.
    /// The network circle belongs to everybody who was admitted; a peer's certificate may be news to this node.
    fn shares(&self, peer: &PublicKey, replica: &Replica) -> bool {
        match replica.word() {
            Some(word) => word.revocation(peer).is_none(),
            None => replica.counts(peer),
        }
    }

    /// Shows a peer the tags of circles that it counts in and was not shown yet.
    fn offer(&mut self, peer: &PublicKey, first: bool, store: &dyn Read) -> Result<(), Damage> {
        let Some(state) = self.sync.peers.get(peer) else { return Ok(()) };
        if state.their_nonce.is_none() {
            return Ok(());
        }
        let fresh: Vec<(CircleId, Tag)> = self
            .circles
            .values()
            .filter(|replica| !state.my_tags.contains_key(&replica.id()) && self.shares(peer, replica))
            .filter_map(|replica| Some((replica.id(), tag(replica.secret(), self.me, peer, state, true)?)))
            .take(limits::OFFER_CIRCLES)
            .collect();
        if fresh.is_empty() && !first {
            return Ok(());
        }
        let mut circles = Vec::with_capacity(fresh.len());
        for (circle, mine) in fresh {
            circles.push((mine, self.digest(&circle, store)?));
            if let Some(state) = self.sync.peers.get_mut(peer) {
                state.my_tags.insert(circle, mine);
            }
        }
        self.send(peer, &Frame::Offer { circles });
        self.match_tags(peer, store)
    }

    fn offer_heard(&mut self, peer: &PublicKey, circles: Vec<(Tag, Hash)>, store: &dyn Read) -> Result<(), Damage> {
        let Some(state) = self.sync.peers.get_mut(peer) else { return Ok(()) };
        if state.their_nonce.is_none() {
            self.disconnect(peer, "an offer before a greeting".to_owned());
            return Ok(());
        }
        for (tag, digest) in circles {
            if state.unknown.len() < limits::UNKNOWN_TAGS {
                state.unknown.insert(tag, digest);
            }
        }
        state.offered = true;
        self.match_tags(peer, store)?;
        self.welcome(peer, store)
    }

    /// Recognises the circles among the tags that a peer showed.
    fn match_tags(&mut self, peer: &PublicKey, store: &dyn Read) -> Result<(), Damage> {
        let Some(state) = self.sync.peers.get(peer) else { return Ok(()) };
        let matches: Vec<(CircleId, Tag, Tag, Hash)> = state
            .my_tags
            .iter()
            .filter(|(circle, _)| !state.shared.contains_key(circle))
            .filter_map(|(circle, mine)| {
                let replica = self.circles.get(circle)?;
                let theirs = tag(replica.secret(), self.me, peer, state, false)?;
                Some((*circle, *mine, theirs, *state.unknown.get(&theirs)?))
            })
            .collect();
        for (circle, mine, theirs, digest) in matches {
            let digest_due = self.now.plus(limits::DIGEST_EVERY_MS);
            let Some(state) = self.sync.peers.get_mut(peer) else { return Ok(()) };
            state.unknown.remove(&theirs);
            let shared = Shared {
                theirs,
                mine,
                tips: BTreeMap::new(),
                compared: false,
                caught_up: false,
                compare_after: Time(0),
                digest_due,
                pushed_epoch: None,
            };
            state.shared.insert(circle, shared);
            self.compare(peer, circle, digest, store)?;
            self.held_due_to(peer, circle);
        }
        Ok(())
    }

    /// Who belongs to a circle changed: sessions follow.
    pub(crate) fn roster_changed(&mut self, circle: &CircleId, store: &dyn Read) -> Result<(), Damage> {
        self.sync.digests.remove(circle);
        let peers: Vec<PublicKey> = self.sync.peers.keys().copied().collect();
        for peer in peers {
            let Some(replica) = self.circles.get(circle) else { return Ok(()) };
            if *circle == self.network && replica.word().is_some_and(|word| word.revocation(&peer).is_some()) {
                self.disconnect(&peer, "its certificate was revoked".to_owned());
                continue;
            }
            if !self.shares(&peer, replica) {
                if let Some(state) = self.sync.peers.get_mut(&peer) {
                    if let Some(shared) = state.shared.remove(circle) {
                        // The peer does not show its tag twice; it counts again when it is added again.
                        state.unknown.insert(shared.theirs, Hash([0; 32]));
                    }
                    state.my_tags.remove(circle);
                    state.welcomed.remove(circle);
                }
                self.sync.pulls.retain(|_, pull| pull.peer != peer || pull.circle != *circle);
                for ((_, _), want) in self.sync.wants.iter_mut().filter(|((of, _), _)| of == circle) {
                    want.sources.remove(&peer);
                }
                continue;
            }
            self.offer(&peer, false, store)?;
            self.welcome(&peer, store)?;
            // What was not wanted, or waited, may be wanted now.
            let shared = self.sync.peers.get(&peer).and_then(|state| state.shared.get(circle));
            let tips: Vec<WireTip> = shared.into_iter().flat_map(|shared| shared.tips.values().copied()).collect();
            tips.into_iter().for_each(|tip| self.tip_heard(&peer, *circle, tip, self.now));
        }
        self.sync.wants.retain(|_, want| !want.sources.is_empty());
        for (_, want) in self.sync.wants.iter_mut().filter(|((of, _), _)| of == circle || *of == self.network) {
            want.unblock();
        }
        Ok(())
    }

    // ---- Welcome.

    /// Hands a peer the charter and operations of circles that it belongs to and showed no tag for.
    fn welcome(&mut self, peer: &PublicKey, store: &dyn Read) -> Result<(), Damage> {
        let Some(state) = self.sync.peers.get(peer).filter(|state| state.offered) else { return Ok(()) };
        let unknown: Vec<CircleId> = self
            .circles
            .values()
            .filter(|replica| replica.control().is_some() && self.shares(peer, replica))
            .map(Replica::id)
            .filter(|circle| !state.shared.contains_key(circle) && !state.welcomed.contains(circle))
            .collect();
        for circle in unknown {
            let Some(replica) = self.circles.get(&circle) else { continue };
            let Some(control) = replica.control() else { continue };
            let charter = control.charter().to_bytes();
            let mut frames: Vec<Vec<EntryBytes>> = vec![Vec::new()];
            let mut bytes = 0;
            for (key, log) in replica.logs().filter(|(_, log)| log.kind == LogKind::Control) {
                for seq in 0..log.durable {
                    let entry = held_entry(store, &key, seq)?.bytes().clone();
                    bytes += entry.header.len() + entry.payload.len();
                    if bytes > limits::WELCOME_FRAME_BYTES {
                        frames.push(Vec::new());
                        bytes = 0;
                    }
                    frames.last_mut().into_iter().for_each(|frame| frame.push(entry.clone()));
                }
            }
            if let Some(state) = self.sync.peers.get_mut(peer) {
                state.welcomed.insert(circle);
            }
            let count = frames.len();
            for (index, entries) in frames.into_iter().enumerate() {
                let frame = Frame::Welcome { charter: charter.clone(), entries, last: index + 1 == count };
                self.send(peer, &frame);
            }
        }
        Ok(())
    }

    fn welcome_heard(&mut self, peer: &PublicKey, charter: Vec<u8>, entries: Vec<EntryBytes>, last: bool) {
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        let fresh = || Welcome { charter: charter.clone(), entries: Vec::new(), bytes: 0 };
        let mut welcome = state.welcome.take().filter(|before| before.charter == charter).unwrap_or_else(fresh);
        welcome.bytes += entries.iter().map(|entry| entry.header.len() + entry.payload.len()).sum::<usize>();
        welcome.entries.extend(entries);
        if welcome.bytes > limits::WELCOME_BYTES {
            self.fault(peer, self.network, "a welcome that is longer than any circle's history may be".to_owned());
            return;
        }
        if !last {
            state.welcome = Some(welcome);
            return;
        }
        let charter = match Charter::from_bytes(&welcome.charter) {
            Ok(charter) => charter,
            Err(refusal) => {
                self.fault(peer, self.network, format!("a welcome whose charter does not hold: {refusal}"));
                return;
            }
        };
        let circle = charter.id();
        if !self.circles.contains_key(&circle) {
            self.offered(*peer, charter, welcome.entries);
            return;
        }
        // The peer counts this node in and saw no tag for it: there may be operations that this node lacks.
        let mut runs: BTreeMap<LogKey, Vec<Decoded>> = BTreeMap::new();
        for entry in welcome.entries.into_iter().filter_map(|bytes| Decoded::decode(bytes).ok()) {
            if entry.key().circle == circle && entry.header().suite.kind() == LogKind::Control {
                runs.entry(entry.key()).or_default().push(entry);
            }
        }
        for (circle, ingested) in self.ingest_rounds(runs) {
            self.keep(circle, ingested.writes, ingested.membership_changed);
        }
    }

    // ---- Comparing.

    fn digest(&mut self, circle: &CircleId, store: &dyn Read) -> Result<Hash, Damage> {
        if let Some((digest, _)) = self.sync.digests.get(circle) {
            return Ok(*digest);
        }
        let Some(replica) = self.circles.get(circle) else { return Ok(Hash([0; 32])) };
        let tips = replica.tips(store)?;
        let digest = replica.digest(&tips);
        self.sync.digests.insert(*circle, (digest, tips));
        Ok(digest)
    }

    fn my_tips(&mut self, circle: &CircleId, store: &dyn Read) -> Result<Vec<WireTip>, Damage> {
        self.digest(circle, store)?;
        Ok(self.sync.digests.get(circle).map(|(_, tips)| tips.clone()).unwrap_or_default())
    }

    fn shared(&mut self, peer: &PublicKey, circle: &CircleId) -> Option<&mut Shared> {
        self.sync.peers.get_mut(peer)?.shared.get_mut(circle)
    }

    fn compare(&mut self, peer: &PublicKey, circle: CircleId, theirs: Hash, store: &dyn Read) -> Result<(), Damage> {
        let digest = self.digest(&circle, store)?;
        let now = self.now;
        let Some(shared) = self.shared(peer, &circle) else { return Ok(()) };
        if digest == theirs {
            // It sees the same from this node's digest: nothing needs to be said.
            shared.compared = true;
            shared.caught_up = true;
            self.sync.synced.insert((circle, *peer));
            return Ok(());
        }
        if shared.compare_after > now {
            shared.digest_due = shared.digest_due.min(shared.compare_after);
            return Ok(());
        }
        shared.compare_after = now.plus(limits::COMPARE_EVERY_MS);
        let mine = shared.mine;
        let tips = self.my_tips(&circle, store)?;
        if tips.len() <= limits::TIPS_AT_ONCE {
            self.send(peer, &Frame::Tips { tag: mine, tips, last: true });
        } else if let Some(replica) = self.circles.get(&circle) {
            let buckets = replica.buckets(&tips).into_iter().collect();
            self.send(peer, &Frame::Buckets { tag: mine, buckets });
        }
        Ok(())
    }

    fn buckets_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        theirs: &[(u8, BucketHash)],
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let tips = self.my_tips(&circle, store)?;
        let Some(replica) = self.circles.get(&circle) else { return Ok(()) };
        let mine = replica.buckets(&tips);
        let theirs: BTreeMap<u8, BucketHash> = theirs.iter().copied().collect();
        let differ = |bucket: &u8| mine.get(bucket) != theirs.get(bucket);
        let tips: Vec<WireTip> = tips.into_iter().filter(|tip| differ(&tip.author.0[0])).collect();
        let Some(tag) = self.shared(peer, &circle).map(|shared| shared.mine) else { return Ok(()) };
        let count = tips.len().div_ceil(limits::TIPS_PER_FRAME).max(1);
        for index in 0..count {
            let from = index * limits::TIPS_PER_FRAME;
            let to = tips.len().min(from + limits::TIPS_PER_FRAME);
            let frame = Frame::Tips { tag, tips: tips[from..to].to_vec(), last: index + 1 == count };
            self.send(peer, &frame);
        }
        Ok(())
    }

    fn tips_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        tips: Vec<WireTip>,
        last: bool,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let listed: BTreeSet<LogName> = tips.iter().map(|tip| (tip.author, tip.log)).collect();
        let authors: BTreeSet<PublicKey> = tips.iter().map(|tip| tip.author).collect();
        tips.into_iter().for_each(|tip| self.tip_heard(peer, circle, tip, self.now));
        // A log that the peer does not list though it lists another of that author, it holds to where it is cited.
        let cited = self.circles.get(&circle).map(Replica::cited_and_missing).unwrap_or_default();
        for (author, line) in cited {
            if authors.contains(&author) && !listed.contains(&(author, line.log)) {
                self.want(peer, circle, (author, line.log), line.height, false, self.now);
            }
        }
        if last {
            if let Some(shared) = self.shared(peer, &circle) {
                shared.compared = true;
            }
            self.settle(peer, circle, store)?;
        }
        Ok(())
    }

    /// A peer holds a log so far: remember it, and want what is lacking and can be accepted.
    fn tip_heard(&mut self, peer: &PublicKey, circle: CircleId, tip: WireTip, due: Time) {
        let name = (tip.author, tip.log);
        let Some(shared) = self.shared(peer, &circle) else { return };
        if !shared.tips.contains_key(&name) && shared.tips.len() >= limits::TIPS_PER_PEER {
            return;
        }
        shared.tips.insert(name, tip);
        let Some(replica) = self.circles.get(&circle) else { return };
        let held = replica.log(&tip.author, &tip.log);
        let held_height = held.map_or(0, |held| held.height);
        let control = replica.control();
        let decides = match control {
            Some(control) => tip.first && control.place_of(&tip.author).is_some(),
            None => replica.decides(&tip.author, LogKind::Network),
        };
        let acceptable =
            if decides { tip.height } else { acceptance::hope(replica, &tip.author, &tip.log, tip.height) };
        if acceptable > held_height {
            self.want(peer, circle, name, acceptable, decides, due);
        }
    }

    fn want(&mut self, peer: &PublicKey, circle: CircleId, name: LogName, height: u64, first: bool, due: Time) {
        let fresh = || Want { sources: BTreeMap::new(), first, due };
        let want = self.sync.wants.entry((circle, name)).or_insert_with(fresh);
        want.due = want.due.min(due);
        // What it said anew it is asked for anew: a later head can vouch for what could not be decided before, and
        // what was missing may have come.
        let height = want.sources.get(peer).map_or(height, |known| known.height.max(height));
        want.sources.insert(*peer, Source { height, blocked: false });
    }

    /// When nothing is left to get from a peer, this node has caught up with it.
    fn settle(&mut self, peer: &PublicKey, circle: CircleId, store: &dyn Read) -> Result<(), Damage> {
        let wanted = self
            .sync
            .wants
            .iter()
            .any(|((of, _), want)| *of == circle && want.sources.get(peer).is_some_and(|source| !source.blocked));
        let pulling = self.sync.pulls.values().any(|pull| pull.peer == *peer && pull.circle == circle);
        let now = self.now;
        let Some(shared) = self.shared(peer, &circle) else { return Ok(()) };
        if !shared.compared || wanted || pulling || shared.caught_up {
            return Ok(());
        }
        shared.caught_up = true;
        shared.digest_due = now.plus(limits::DIGEST_EVERY_MS);
        let tag = shared.mine;
        self.sync.synced.insert((circle, *peer));
        let digest = self.digest(&circle, store)?;
        self.send(peer, &Frame::Digest { tag, digest });
        Ok(())
    }

    // ---- Runs.

    /// Starts the pulls that are due.
    fn start_pulls(&mut self) {
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

    fn never(&mut self, circle: CircleId, (author, log): LogName, refusal: &Refusal) {
        if let Refusal::Run(RunRefusal::Forked { seq }) = refusal {
            let key = LogKey { circle, author, log };
            self.output(Output::Emit(Event::Fork { key, seq: *seq }));
        }
    }

    fn drop_source(&mut self, peer: &PublicKey, circle: CircleId, name: LogName) {
        if let Some(want) = self.sync.wants.get_mut(&(circle, name)) {
            want.sources.remove(peer);
            if want.sources.is_empty() {
                self.sync.wants.remove(&(circle, name));
            }
        }
    }

    /// Stops reading a run; with a reason, because the peer is at fault.
    fn give_up(&mut self, id: PullId, fault: Option<String>, store: &dyn Read) -> Result<(), Damage> {
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
        self.settle(&peer, circle, store)
    }

    // ---- Live push and announcements.

    /// Pushes an own entry, which is durable, to every connected member.
    pub(crate) fn push(&mut self, entry: &Authentic, store: &dyn Read) -> Result<(), Damage> {
        let circle = entry.key().circle;
        let epoch = entry.header().epoch;
        let record: Option<SignedRecord> = match epoch {
            None => None,
            Some(hash) => {
                let bytes = store.record(&circle, &hash)?;
                bytes.and_then(|bytes| cwn_crypto::encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES).ok())
            }
        };
        let mut targets = Vec::new();
        for (peer, state) in &mut self.sync.peers {
            if let Some(shared) = state.shared.get_mut(&circle) {
                let known = shared.pushed_epoch == epoch;
                shared.pushed_epoch = epoch.or(shared.pushed_epoch);
                targets.push((*peer, shared.mine, if known { None } else { record.clone() }));
            }
        }
        for (peer, tag, record) in targets {
            self.send(&peer, &Frame::Push { tag, record, entry: entry.bytes().clone() });
        }
        Ok(())
    }

    fn push_heard(&mut self, peer: &PublicKey, circle: CircleId, record: Option<SignedRecord>, entry: EntryBytes) {
        let entry = match Decoded::decode(entry) {
            Ok(entry) if entry.key().circle == circle => entry,
            Ok(_) => return self.fault(peer, circle, "an entry of another circle than it was sent in".to_owned()),
            Err(refusal) => return self.fault(peer, circle, refusal.to_string()),
        };
        let LogKey { author, log, .. } = entry.key();
        let height = entry.header().seq + 1;
        let first = entry.header().suite.kind() == LogKind::Control;
        let head = Some(entry.hash());
        let Some(replica) = self.circles.get_mut(&circle) else { return };
        let ingested = replica.ingest(record.into_iter().collect(), vec![entry]);
        self.keep(circle, ingested.writes, ingested.membership_changed);
        if let Some(Stop::Never(refusal)) = &ingested.stop {
            self.never(circle, (author, log), refusal);
            return self.fault(peer, circle, refusal.to_string());
        }
        // Whatever could not be taken is pulled, with what comes before it and with a later head.
        let due = if ingested.undecided.is_empty() { self.now } else { self.now.plus(limits::COMPARE_EVERY_MS) };
        self.tip_heard(peer, circle, WireTip { author, log, first, height, head }, due);
    }

    /// A log grew durably: say so to those who may not know.
    pub(crate) fn announce(&mut self, key: LogKey) {
        self.sync.digests.remove(&key.circle);
        self.sync.announce.insert(key);
        self.sync.announce_due.get_or_insert(self.now.plus(limits::ANNOUNCE_WAIT_MS));
        if key.author != self.me && key.circle != self.network {
            self.held_changed(key.circle, key.author);
        }
    }

    fn announce_now(&mut self, store: &dyn Read) -> Result<(), Damage> {
        self.sync.announce_due = None;
        let mut tips = Vec::new();
        for key in std::mem::take(&mut self.sync.announce) {
            let Some(replica) = self.circles.get(&key.circle) else { continue };
            let height = replica.accepted(&key.author, &key.log);
            let Some(log) = replica.log(&key.author, &key.log).filter(|_| height > 0) else { continue };
            let head = if height == log.durable { log.durable_head } else { store.hash(&key, height - 1)? };
            let first = replica.decides(&key.author, log.kind);
            tips.push((key.circle, WireTip { author: key.author, log: key.log, first, height, head }));
        }
        let mut frames = Vec::new();
        for (peer, state) in &self.sync.peers {
            for (circle, shared) in &state.shared {
                let news: Vec<WireTip> = tips
                    .iter()
                    .filter(|(of, tip)| {
                        let known = shared.tips.get(&(tip.author, tip.log)).map_or(0, |theirs| theirs.height);
                        // What this node wrote, it pushed itself.
                        of == circle && known < tip.height && tip.author != self.me
                    })
                    .map(|(_, tip)| *tip)
                    .collect();
                if !news.is_empty() {
                    frames.push((*peer, Frame::Have { tag: shared.mine, tips: news }));
                }
            }
        }
        frames.iter().for_each(|(peer, frame)| self.send(peer, frame));
        Ok(())
    }

    // ---- Held statements.

    pub(crate) fn held_changed(&mut self, circle: CircleId, author: PublicKey) {
        if author != self.me {
            self.sync.held.insert((circle, author));
            self.sync.held_due.get_or_insert(self.now.plus(limits::HELD_WAIT_MS));
        }
    }

    /// A peer just came to share a circle: it is owed statements about its own logs, a steward about all.
    fn held_due_to(&mut self, peer: &PublicKey, circle: CircleId) {
        let Some(replica) = self.circles.get(&circle).filter(|replica| replica.control().is_some()) else { return };
        let steward = replica.fold().roster().member(peer).is_some_and(|member| member.steward.is_some());
        let authors: BTreeSet<PublicKey> =
            replica.logs().map(|(key, _)| key.author).filter(|author| steward || author == peer).collect();
        authors.into_iter().for_each(|author| self.held_changed(circle, author));
    }

    fn state_held(&mut self) {
        self.sync.held_due = None;
        for (circle, author) in std::mem::take(&mut self.sync.held) {
            let Some(replica) = self.circles.get(&circle) else { continue };
            let roster = replica.fold().roster();
            let unopenable = self.unopenable.get(&circle).into_iter().flatten();
            let of_author = |epoch: &&Hash| replica.epoch(epoch).is_some_and(|epoch| epoch.admits(&author));
            let statement = Statement {
                circle,
                holder: self.me,
                author,
                heads: replica.uncited(&author, None),
                unopenable: unopenable.filter(of_author).copied().collect(),
                time: self.wall,
            };
            if statement.heads.is_empty() && statement.unopenable.is_empty() {
                continue;
            }
            let steward = |peer: &PublicKey| roster.member(peer).is_some_and(|member| member.steward.is_some());
            let targets: Vec<(PublicKey, Tag)> = self
                .sync
                .peers
                .iter()
                .filter(|(peer, _)| **peer == author || steward(peer))
                .filter_map(|(peer, state)| Some((*peer, state.shared.get(&circle)?.mine)))
                .collect();
            let signed = statement.sign(&self.key);
            for (peer, tag) in targets {
                self.send(&peer, &Frame::Held { tag, statement: signed.clone() });
            }
        }
    }

    fn held_heard(&mut self, peer: &PublicKey, circle: CircleId, signed: &SignedStatement) {
        let statement = match Statement::verify(signed) {
            Ok(statement) if statement.circle == circle => statement,
            Ok(_) => return self.fault(peer, circle, "a statement about another circle".to_owned()),
            Err(refusal) => return self.fault(peer, circle, format!("a statement of what is held: {refusal}")),
        };
        let Some(replica) = self.circles.get(&circle) else { return };
        let me = replica.fold().roster().member(&self.me);
        let concerns = statement.author == self.me || me.is_some_and(|member| member.steward.is_some());
        if !concerns || !replica.counts(&statement.holder) {
            return;
        }
        let cites = |log: &LogId| replica.log(&statement.author, log).map(|held| held.opening.cites.as_slice());
        let ledger = self.ledgers.entry(circle).or_default();
        if ledger.hear(&statement, cites) {
            let Statement { holder, author, .. } = statement;
            let key = fact_key(HELD_FACT, &[&circle.0.0, &author.0, &holder.0]);
            let value = ledger.remember(&holder, &author);
            self.store(vec![Write::Fact { key, value }], Vec::new());
        }
    }

    /// Reads back what was heard before this start.
    pub(crate) fn load_held(&mut self, store: &dyn Read) -> Result<(), Damage> {
        for (key, value) in store.facts(HELD_FACT)? {
            let damage = |why: &str| Damage { what: "a remembered statement".to_owned(), why: why.to_owned() };
            let rest = &key[HELD_FACT.len()..];
            let part = |index: usize| -> Result<[u8; 32], Damage> {
                let bytes = rest.get(index * 32..index * 32 + 32).and_then(|bytes| bytes.try_into().ok());
                bytes.ok_or_else(|| damage("its name is cut short"))
            };
            let circle = CircleId(Hash(part(0)?));
            let (author, holder) = (PublicKey(part(1)?), PublicKey(part(2)?));
            let ledger: &mut Ledger = self.ledgers.entry(circle).or_default();
            ledger.recall(holder, author, &value).map_err(|refusal| damage(&refusal.to_string()))?;
        }
        Ok(())
    }

    // ---- Time.

    /// When the engine next wants a `Tick`, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let due = self.sync.peers.values().flat_map(|state| state.shared.values().map(|shared| shared.digest_due));
        let idle = |want: &&Want| want.is_open() && want.due > self.now;
        let wants = self.sync.wants.values().filter(idle).map(|want| want.due);
        let stalls = self.sync.pulls.values().map(|pull| pull.last_frame.plus(limits::PULL_STALL_MS));
        let next = due.chain(wants).chain(stalls).chain(self.sync.announce_due).chain(self.sync.held_due).min()?;
        Some(self.wall.plus(next.since(self.now)))
    }

    pub(crate) fn run_timers(&mut self, store: &dyn Read) -> Result<(), Damage> {
        if self.sync.announce_due.is_some_and(|due| due <= self.now) {
            self.announce_now(store)?;
        }
        if self.sync.held_due.is_some_and(|due| due <= self.now) {
            self.state_held();
        }
        let now = self.now;
        let mut digests = Vec::new();
        for (peer, state) in &mut self.sync.peers {
            for (circle, shared) in state.shared.iter_mut().filter(|(_, shared)| shared.digest_due <= now) {
                shared.digest_due = now.plus(limits::DIGEST_EVERY_MS);
                digests.push((*peer, *circle, shared.mine));
            }
        }
        for (peer, circle, tag) in digests {
            let digest = self.digest(&circle, store)?;
            self.send(&peer, &Frame::Digest { tag, digest });
        }
        let stalled = |pull: &Pull| pull.last_frame.plus(limits::PULL_STALL_MS) <= now;
        let stalled: Vec<PullId> =
            self.sync.pulls.iter().filter(|(_, pull)| stalled(pull)).map(|(id, _)| *id).collect();
        for id in stalled {
            self.output(Output::CancelPull { pull: id });
            if let Some(pull) = self.sync.pulls.get(&id) {
                let (peer, circle, name) = (pull.peer, pull.circle, pull.name);
                self.drop_source(&peer, circle, name);
            }
            self.run_ended(id, store)?;
        }
        self.start_pulls();
        Ok(())
    }
}

fn reach_or_all(reach: acceptance::Reach, wanted: u64) -> u64 {
    match reach {
        // Undecided or not: whether it is still wanted is for the next tip to say.
        acceptance::Reach::All | acceptance::Reach::Undecided => wanted,
        acceptance::Reach::Cut(cut) => cut.min(wanted),
    }
}
