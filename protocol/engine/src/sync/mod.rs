//! What nodes say to each other: tags and digests, comparisons, runs, live push and held statements.
//!
//! Catch-up and live push are one mechanism. A session starts from digests and assumes nothing of what the
//! peer knew before; where digests differ, buckets and then tips show which logs do, and each side pulls
//! what it lacks. A height that this node announces is durable on it.
//!
//! This file refuses to judge entries: that is [`crate::replica`]'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cwn_crypto::encoding::mac;
use cwn_crypto::issuer_log::LogId;
use cwn_crypto::{Domain, Hash, PublicKey, Time};
use litemap::LiteMap;

use crate::engine::Engine;
use crate::fork::Doubts;
use crate::input::{PullId, SessionId};
use crate::limits;
use crate::log::{CircleId, Decoded, EntryBytes, LogKey, LogName, Under};
use crate::output::{Event, Output};
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::root::PeerRoot;
use crate::store::{Damage, Read};
use crate::wire::{Frame, LEAST_VERSION, Nonce, Tag, VERSION, WireTip, common_version};
use keys::{Keys, PeerKeys};
use records::Records;
use waiting::Waiting;

mod carry;
mod compare;
mod keys;
mod live;
mod mend;
mod records;
mod relay;
mod runs;
mod statements;
mod waiting;
mod welcome;

pub(crate) use keys::GIVEN_FACT;
pub use keys::given_key;
pub(crate) use mend::{BARE_FACT, Mending};

const FIRST_NAME: LogName = (PublicKey([0; 32]), LogId([0; 16]));
const LAST_NAME: LogName = (PublicKey([255; 32]), LogId([255; 16]));

/// A circle that both sides of a session showed a tag for.
#[derive(Debug)]
struct Shared {
    theirs: Tag,
    mine: Tag,
    tips: BTreeMap<LogName, WireTip>,
    /// How many of those are logs of each author.
    tips_of: BTreeMap<PublicKey, usize>,
    /// Of whom the last tip was in a list of tips that goes on in the next frame; nearly always nobody.
    listing: Option<Box<PublicKey>>,
    /// Forks that were proven to it in this session, and when last.
    told_forks: BTreeMap<LogName, Time>,
    /// The operations behind forks that were handed to it, of those that are held here.
    told_branches: BTreeSet<Hash>,
    /// A comparison came to its end, or digests were equal.
    compared: bool,
    /// Everything the peer held at that comparison is held here too.
    caught_up: bool,
    /// How often it was asked again, since this node or the peer last said another digest.
    asked: u8,
    /// What was lacking when it was last looked whether anything is; nearly always nothing.
    short_of: Option<Box<LogName>>,
    /// It began to share the circle anew, and is to be told what this node states, not before that time.
    anew: bool,
    anew_after: Time,
    compare_after: Time,
    /// How many lists of tips it said until then.
    lists: u32,
    lists_until: Time,
    /// The digest that the peer said last.
    heard: Hash,
    /// Since when it has said none.
    silent: Time,
    /// When buckets may be answered with buckets next, and with tips.
    buckets_after: Time,
    tips_after: Time,
    digest_due: Time,
    /// Whatever changes meanwhile, the next digest is not said before.
    digest_after: Time,
    /// The epoch whose record was last pushed.
    pushed_epoch: Option<Hash>,
    /// The keys that are handed over between the peer and this node.
    keys: PeerKeys,
    /// When it may ask next for records of epochs that it lost.
    records_after: Time,
    /// Logs of which the peer holds what can never be part of the circle as it is held here: the other branch of a
    /// fork. They are not asked of it again.
    refused: BTreeSet<LogName>,
    /// Runs in a row that brought nothing of what it said it held. At [`limits::EMPTY_RUNS`] it is asked for nothing
    /// until it says more.
    empty_runs: u32,
}

impl Shared {
    /// Whether of an author's logs no more are remembered: such a part of the room is taken.
    fn is_full_of(&self, author: &PublicKey, part: usize) -> bool {
        let of_author = self.tips_of.get(author).copied().unwrap_or(0);
        of_author >= limits::TIPS_PER_AUTHOR / part || self.tips.len() >= limits::TIPS_PER_PEER / part
    }

    /// Whether a digest is to be said now. One that nothing but time calls for goes with others a little early: to look
    /// for what is due costs more than to say it.
    fn is_due(&self, now: Time) -> bool {
        let nothing_called =
            self.digest_due.since(self.digest_after) >= limits::DIGEST_EVERY_MS - limits::COMPARE_EVERY_MS;
        let early = if nothing_called { limits::DIGESTS_TOGETHER_MS } else { 0 };
        self.digest_due <= now.plus(early)
    }
}

#[derive(Debug)]
struct Welcome {
    charter: Vec<u8>,
    entries: Vec<EntryBytes>,
    bytes: usize,
    /// It was longer than is taken; the rest of it is passed over.
    too_long: bool,
}

/// A connected peer. Most share a circle or two and there are many of them, so that what is by circle lies in sorted
/// lists: a tree sets aside room for eleven.
#[derive(Debug)]
struct Peer {
    session: SessionId,
    dialled: bool,
    nonce: Nonce,
    their_nonce: Option<Nonce>,
    /// The version of the protocol that it says it speaks; none before it greeted.
    version: Option<u16>,
    since: Time,
    /// Whether its first offer came, so that a missing tag means that it does not know the circle.
    offered: bool,
    my_tags: LiteMap<CircleId, Tag>,
    /// The digest that was last said of each circle.
    said: LiteMap<CircleId, Hash>,
    shared: LiteMap<CircleId, Box<Shared>>,
    /// The shared circles by the peer's tags.
    by_tag: LiteMap<Tag, CircleId>,
    unknown: BTreeMap<Tag, Hash>,
    handed: LiteMap<CircleId, Handed>,
    welcome: Option<Welcome>,
    root: PeerRoot,
    faults: u32,
    /// How often frames to it were lost.
    losses: u32,
    /// How often in a row it said anew what it then did not send.
    empty_rounds: u32,
    /// Runs that it let wait, since the last that brought something.
    stalls: u32,
}

/// What a peer was handed of a circle by way of welcome.
#[derive(Debug, Clone, Copy)]
struct Handed {
    /// The charter alone.
    charter: bool,
    /// The charter and all operations, and how many those were.
    all: Option<usize>,
    /// How often, since it was last heard about the circle.
    times: u32,
    /// When it may be handed them again once there are more, if it goes on saying nothing: it may take this node for removed.
    more_after: Time,
}

impl Default for Handed {
    fn default() -> Self {
        Self { charter: false, all: None, times: 0, more_after: Time(0) }
    }
}

impl Peer {
    /// Notes something of what it was handed of a circle.
    fn handed(&mut self, circle: CircleId, note: impl FnOnce(&mut Handed)) {
        let mut handed = self.handed.get(&circle).copied().unwrap_or_default();
        note(&mut handed);
        put(&mut self.handed, circle, handed);
    }
}

/// Adds to a sorted list and leaves no room in it: a list that grows by itself sets aside room for four, and most of these
/// have one or two.
fn put<K: Ord, V>(list: &mut LiteMap<K, V>, key: K, value: V) {
    list.insert(key, value);
    let mut pairs = std::mem::replace(list, LiteMap::new_vec()).into_tuple_vec();
    pairs.shrink_to_fit();
    *list = LiteMap::from_sorted_store_unchecked(pairs);
}

/// Something that is to be pulled, and from whom it can be had.
#[derive(Debug)]
struct Want {
    /// Few, and looked through with all that is wanted.
    sources: LiteMap<PublicKey, Source>,
    /// Whether it decides who belongs: what else its sources hold is asked of them later.
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
    fn open_sources(&self) -> impl Iterator<Item = (&PublicKey, &Source)> {
        self.sources.iter().filter(|(_, source)| !source.blocked)
    }

    fn unblock(&mut self) {
        self.sources.iter_mut().for_each(|(_, source)| source.blocked = false);
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
    /// Since when what it brings is counted, how many bytes that was, and how often it was too little.
    counted_from: Time,
    brought: usize,
    slow: u32,
    /// Whether it brought something, though nothing that could be taken now.
    sent: bool,
    purpose: Purpose,
}

/// What a run is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To take what is lacking of a log.
    Take,
    /// To look where the peer's log parts from the one held here.
    Probe,
    /// Because of its first entry, which is held without something.
    Mend,
}

impl Pull {
    fn key(&self) -> LogKey {
        let (author, log) = self.name;
        LogKey { circle: self.circle, author, log }
    }
}

/// The state of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    peers: BTreeMap<PublicKey, Peer>,
    /// By what this node counted in each circle when it last looked.
    counts_under: BTreeMap<CircleId, Option<Under>>,
    /// How much was handed to those who had had the circle, until then.
    again_bytes: usize,
    again_until: Time,
    /// The stewards of each circle, as they were last.
    stewards: BTreeMap<CircleId, BTreeSet<PublicKey>>,
    pub(crate) doubts: Doubts,
    /// How many forks were told to all until then.
    forks_told: usize,
    forks_until: Time,
    wants: BTreeMap<(CircleId, LogName), Want>,
    /// When to look next whether something wanted can be asked for; `None` while nothing is or all of it waits for
    /// something that is under way.
    look_due: Option<Time>,
    /// Not before then: looking takes the longer the more is wanted, and a peer can have it look for every frame.
    look_after: Time,
    pulls: BTreeMap<PullId, Pull>,
    next_pull: u64,
    synced: BTreeSet<(CircleId, PublicKey)>,
    keys: Keys,
    records: Records,
    waiting: Waiting,
    announce: BTreeSet<LogKey>,
    announce_due: Option<Time>,
    /// Those of them that grew by their author's own push, and by nothing else.
    pushed: BTreeSet<LogKey>,
    /// About whose logs it is looked next whether there is something to state, and to whom it is owed though there is
    /// nothing new.
    held: BTreeMap<(CircleId, PublicKey), BTreeSet<PublicKey>>,
    held_due: Option<Time>,
    noting: statements::Noting,
    /// What this node stated last about each author's logs since its start.
    stated: BTreeMap<(CircleId, PublicKey), statements::Said>,
    /// The latest time of which it stated anything since.
    stated_at: Time,
    /// From whom something of each author came last, or of a steward what it states: there the way to it begins.
    toward: BTreeMap<(CircleId, PublicKey), PublicKey>,
    /// Statements on their way, this node's own among them.
    carried: BTreeMap<relay::About, relay::Carried>,
    /// Those of them that are looked at next, and when.
    handing: BTreeSet<relay::About>,
    /// What was handed on to each peer along a known way just now, and may not have arrived.
    handed: BTreeMap<PublicKey, VecDeque<(relay::About, relay::Carried)>>,
    hand_due: Option<Time>,
    /// When peers that sent an entry without its payload are asked again.
    lacking_due: Option<Time>,
    digests: BTreeMap<CircleId, compare::Own>,
    /// Not later than when the next digest is due to anybody.
    digest_due: Option<Time>,
}

impl Sync {
    /// Who shares a circle, with the tag by which this node names it to each.
    pub(crate) fn sharing(&self, circle: &CircleId) -> Vec<(PublicKey, Tag)> {
        let tag = |(peer, state): (&PublicKey, &Peer)| Some((*peer, state.shared.get(circle)?.mine));
        self.peers.iter().filter_map(tag).collect()
    }

    /// Says digests of a circle at once, to whoever shares it; false when nobody does. What changes many times in a row
    /// is said together.
    pub(crate) fn compare_soon(&mut self, circle: &CircleId, now: Time) -> bool {
        let mut first: Option<Time> = None;
        for one in self.peers.values_mut().filter_map(|peer| peer.shared.get_mut(circle)) {
            one.digest_due = one.digest_due.min(one.digest_after.max(now));
            first = Some(first.map_or(one.digest_due, |first| first.min(one.digest_due)));
        }
        if let Some(due) = first {
            self.digest_at(due);
            self.digests.remove(circle);
        }
        first.is_some()
    }

    /// How far connected peers say they hold the logs of an author.
    pub(crate) fn said_of(&self, circle: &CircleId, author: &PublicKey) -> BTreeMap<LogId, u64> {
        let mut heights: BTreeMap<LogId, u64> = BTreeMap::new();
        for shared in self.peers.values().filter_map(|peer| peer.shared.get(circle)) {
            let of_author = (*author, LogId([0; 16]))..=(*author, LogId([255; 16]));
            for ((_, log), tip) in shared.tips.range(of_author) {
                let height = heights.entry(*log).or_default();
                *height = tip.height.max(*height);
            }
        }
        heights
    }

    pub(crate) fn was_synced_with(&self, circle: &CircleId, peer: &PublicKey) -> bool {
        self.synced.contains(&(*circle, *peer))
    }

    /// Which of these operations, all that are held behind forks, were not handed to a peer, and the tag by which to do so;
    /// none when all were.
    pub(crate) fn untold_branches(
        &mut self,
        peer: &PublicKey,
        circle: &CircleId,
        mut names: BTreeSet<Hash>,
    ) -> Option<(Tag, BTreeSet<Hash>)> {
        let shared = self.peers.get_mut(peer)?.shared.get_mut(circle)?;
        shared.told_branches.retain(|told| names.remove(told));
        (!names.is_empty()).then_some((shared.mine, names))
    }

    /// These were handed to it.
    pub(crate) fn told_branches(&mut self, peer: &PublicKey, circle: &CircleId, told: impl Iterator<Item = Hash>) {
        if let Some(shared) = self.peers.get_mut(peer).and_then(|peer| peer.shared.get_mut(circle)) {
            shared.told_branches.extend(told);
        }
    }

    /// Which branch of a log counts may be known by now: whoever was not asked for it any more may hold that one.
    pub(crate) fn ask_again(&mut self, key: &LogKey) {
        let shared = self.peers.values_mut().filter_map(|peer| peer.shared.get_mut(&key.circle));
        for shared in shared {
            shared.refused.remove(&(key.author, key.log));
        }
    }

    /// Whether a circle is handed to one more who had it. Those who take this node for removed may be many at a time, and the
    /// first of them tells the others.
    fn hands_again(&mut self, now: Time) -> bool {
        if self.again_until <= now {
            (self.again_until, self.again_bytes) = (now.plus(limits::DIGEST_EVERY_MS), 0);
        }
        self.again_bytes <= limits::WELCOMES_AT_ONCE_BYTES
    }

    /// Whether one more fork is told to all at once. An author that forks without end would have all tell all; what goes
    /// beyond is told where a comparison shows that it is not known.
    pub(crate) fn tells_fork(&mut self, now: Time) -> bool {
        if self.forks_until <= now {
            (self.forks_until, self.forks_told) = (now.plus(limits::COMPARE_EVERY_MS), 0);
        }
        self.forks_told += 1;
        self.forks_told <= limits::FORKS_TOLD_AT_ONCE
    }

    /// Whether more of a log can be had of somebody else than this peer.
    pub(crate) fn can_be_had(&self, key: &LogKey, besides: &PublicKey) -> bool {
        let want = self.wants.get(&(key.circle, (key.author, key.log)));
        want.is_some_and(|want| want.open_sources().any(|(peer, _)| peer != besides))
    }

    /// What was missing may have come: what waits for it is asked for again.
    pub(crate) fn unblock(&mut self, circle: &CircleId, now: Time) {
        self.wants.iter_mut().filter(|((of, _), _)| of == circle).for_each(|(_, want)| want.unblock());
        self.look_at(now);
    }

    pub(crate) fn look_at(&mut self, due: Time) {
        self.look_due = Some(self.look_due.map_or(due, |known| known.min(due)));
    }

    fn digest_at(&mut self, due: Time) {
        self.digest_due = Some(self.digest_due.map_or(due, |known| known.min(due)));
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
    /// The version of the protocol that it says it speaks; none before it greeted.
    pub version: Option<u16>,
    /// The circles both showed a tag for, and whether all that the peer held was caught up with.
    pub circles: Vec<(CircleId, bool)>,
    /// Faults so far in this session.
    pub faults: u32,
}

/// What one peer makes this node remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Heights it says it holds, in the circle where they are most: at most [`limits::TIPS_PER_PEER`].
    pub heights: usize,
    /// Circles it offered that nobody accepted or declined: at most [`limits::OFFERS_PER_PEER`].
    pub offers: usize,
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
            version: None,
            since: self.wall,
            offered: false,
            my_tags: LiteMap::new_vec(),
            said: LiteMap::new_vec(),
            shared: LiteMap::new_vec(),
            by_tag: LiteMap::new_vec(),
            unknown: BTreeMap::new(),
            handed: LiteMap::new_vec(),
            welcome: None,
            root: PeerRoot::default(),
            faults: 0,
            losses: 0,
            empty_rounds: 0,
            stalls: 0,
        };
        self.sync.peers.insert(peer, state);
        if self.word().revocation(&peer).is_some() {
            // Whoever admitted it had not heard yet.
            return self.disconnect(&peer, "its certificate was revoked".to_owned());
        }
        self.send(&peer, &Frame::Hello { version: VERSION, nonce });
    }

    pub(crate) fn peer_down(&mut self, peer: &PublicKey, session: SessionId) {
        if self.sync.peers.get(peer).is_none_or(|state| state.session != session) {
            return;
        }
        self.sync.peers.remove(peer);
        self.sync.doubts.remove(peer);
        self.sync.waiting.gone(peer);
        self.circles.values_mut().for_each(|replica| replica.branches.gone(peer));
        self.sync.pulls.retain(|_, pull| pull.peer != *peer);
        self.hand_on_otherwise(peer);
        // What was asked of it can be asked of others.
        self.sync.look_at(self.now);
        self.sync.wants.retain(|_, want| {
            if !planted(Bug::WaitForTheGone) {
                want.sources.remove(peer);
            }
            !want.sources.is_empty()
        });
    }

    pub(crate) fn send(&mut self, peer: &PublicKey, frame: &Frame) {
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
    pub(crate) fn fault(&mut self, peer: &PublicKey, circle: CircleId, reason: String) {
        self.output(Output::Emit(Event::Refused { peer: *peer, circle, reason: reason.clone() }));
        let Some(state) = self.sync.peers.get_mut(peer) else { return };
        state.faults += 1;
        if state.faults >= limits::FAULTS && !planted(Bug::ForgiveFaults) {
            self.disconnect(peer, format!("{reason}; it was not the first fault"));
        }
    }

    /// Frames to a peer were lost, any of them but its greeting, and there is room for more again. What is said once in a
    /// session is said again.
    pub(crate) fn live_dropped(
        &mut self,
        peer: &PublicKey,
        session: SessionId,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let later = self.now.plus(limits::COMPARE_EVERY_MS);
        let state = self.sync.peers.get_mut(peer).filter(|state| state.session == session);
        let state = state.filter(|state| state.their_nonce.is_some() && !planted(Bug::ForgetLosses));
        let Some(state) = state else { return Ok(()) };
        for (_, shared) in state.shared.iter_mut() {
            shared.digest_due = shared.digest_due.min(later);
            shared.pushed_epoch = None;
            shared.told_forks.clear();
            shared.told_branches.clear();
        }
        state.my_tags = LiteMap::new_vec();
        state.root.shown_other = false;
        state.losses += 1;
        if state.losses <= limits::WELCOMED_AGAIN {
            state.handed = LiteMap::new_vec();
        }
        let circles: Vec<CircleId> = state.shared.keys().copied().collect();
        self.sync.digest_at(later);
        self.say_root(peer);
        for circle in circles {
            self.held_due_to(peer, circle);
            self.hand_on_anew(peer, circle);
        }
        self.offer(peer, false, store)?;
        self.welcome(peer, store)
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |(peer, state): (&PublicKey, &Peer)| PeerStatus {
            peer: *peer,
            since: state.since,
            dialled: state.dialled,
            version: state.version,
            circles: state.shared.iter().map(|(circle, shared)| (*circle, shared.caught_up)).collect(),
            faults: state.faults,
        };
        self.sync.peers.iter().map(status).collect()
    }

    /// What a peer makes this node remember; each part has its limit.
    pub fn remembered_of(&self, peer: &PublicKey) -> Remembered {
        let shared = self.sync.peers.get(peer).into_iter().flat_map(|state| state.shared.values());
        Remembered {
            heights: shared.map(|shared| shared.tips.len()).max().unwrap_or(0),
            offers: self.offers.values().filter(|offer| offer.from.contains(peer)).count(),
        }
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

    /// What is known of the root document that a peer holds.
    pub(crate) fn peer_root(&mut self, peer: &PublicKey) -> Option<&mut PeerRoot> {
        self.sync.peers.get_mut(peer).map(|state| &mut state.root)
    }

    /// The greeted peers that hold an earlier version of the root document.
    pub(crate) fn peers_behind(&self, version: u32) -> Vec<PublicKey> {
        let behind = |state: &Peer| state.their_nonce.is_some() && state.root.held < version;
        self.sync.peers.iter().filter(|(_, state)| behind(state)).map(|(peer, _)| *peer).collect()
    }

    // ---- Frames.

    pub(crate) fn frame(
        &mut self,
        peer: &PublicKey,
        session: SessionId,
        bytes: &[u8],
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let Some(state) = self.sync.peers.get(peer).filter(|state| state.session == session) else { return Ok(()) };
        let later = state.version.is_none_or(|version| version > VERSION);
        let read = if later { Frame::from_later(bytes) } else { Frame::from_bytes(bytes).map(Some) };
        let frame = match read {
            Ok(Some(frame)) => frame,
            // What only a later version knows is not for this one.
            Ok(None) => return Ok(()),
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
                    for tip in tips {
                        let due = self.due_of(&circle, &tip.author);
                        self.tip_heard(peer, circle, tip, due);
                    }
                }
            }
            Frame::Push { tag, record, entry } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.push_heard(peer, circle, record, entry, store)?;
                }
            }
            Frame::Welcome { charter, entries, last } => self.welcome_heard(peer, charter, entries, last, store),
            Frame::Fork { tag, proof } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.fork_heard(peer, circle, proof, store)?;
                }
            }
            Frame::Branches { tag, entries, goes_on } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.branches_heard(peer, circle, (entries, goes_on), store)?;
                }
            }
            Frame::WantKeys { tag, epochs } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.keys_wanted(peer, circle, epochs);
                }
            }
            Frame::Keys { tag, keys } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.keys_heard(peer, circle, keys);
                }
            }
            Frame::WantRecords { tag, epochs } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.records_wanted(peer, circle, &epochs, store);
                }
            }
            Frame::Records { tag, records } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.records_heard(peer, circle, records, store);
                }
            }
            Frame::Root { held, document, newest } => self.root_heard(peer, held, document, newest),
            Frame::Held { tag, statement } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.held_heard(peer, circle, statement, store)?;
                }
            }
            Frame::HandOn { tag, bundles } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.handed_on(peer, circle, bundles, store)?;
                }
            }
            Frame::Arrived { tag, arrivals } => {
                if let Some(circle) = self.circle_of(peer, &tag) {
                    self.arrived(peer, circle, arrivals);
                }
            }
        }
        Ok(())
    }

    fn circle_of(&self, peer: &PublicKey, tag: &Tag) -> Option<CircleId> {
        self.sync.peers.get(peer)?.by_tag.get(tag).copied()
    }

    fn hello(&mut self, peer: &PublicKey, version: u16, nonce: Nonce, store: &dyn Read) -> Result<(), Damage> {
        if common_version(LEAST_VERSION..=VERSION, version).is_none() {
            let reason = format!(
                "it speaks version {version} of the protocol, this node {LEAST_VERSION} to {VERSION}; it must be updated"
            );
            self.disconnect(peer, reason);
            return Ok(());
        }
        let Some(state) = self.sync.peers.get_mut(peer) else { return Ok(()) };
        if state.their_nonce.is_some() {
            self.disconnect(peer, "a second greeting in one session".to_owned());
            return Ok(());
        }
        (state.their_nonce, state.version) = (Some(nonce), Some(version));
        self.say_root(peer);
        self.offer(peer, true, store)
    }

    /// Whether this node speaks with a peer about a circle: the peer counts in it, as far as this node knows. Whether
    /// this node counts is for the peer to judge: who was removed may have been added again without having heard.
    /// The network circle belongs to everybody who was admitted; a peer's certificate may be news to this node.
    fn shares(&self, peer: &PublicKey, replica: &Replica) -> bool {
        let revoked = self.word().revocation(peer).is_some() && !planted(Bug::SpeakToRevoked);
        !revoked && (replica.word().is_some() || replica.counts(peer))
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
            let digest = self.digest(&circle, store)?;
            circles.push((mine, digest));
            if let Some(state) = self.sync.peers.get_mut(peer) {
                put(&mut state.my_tags, circle, mine);
                put(&mut state.said, circle, digest);
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
        let mut anew = BTreeSet::new();
        for (tag, digest) in circles {
            if let Some(circle) = state.by_tag.get(&tag) {
                anew.insert(*circle);
            } else if state.unknown.len() < limits::UNKNOWN_TAGS {
                state.unknown.insert(tag, digest);
            }
        }
        state.offered = true;
        for circle in anew {
            self.shared(peer, &circle).into_iter().for_each(|shared| shared.anew = true);
            self.state_anew(peer, circle);
        }
        self.match_tags(peer, store)?;
        self.welcome(peer, store)
    }

    /// A peer says the tag of a circle that is shared already again when frames were lost, and when it took this node for
    /// removed for a while: what this node stated meanwhile it did not hear. Once in a while it is told again.
    fn state_anew(&mut self, peer: &PublicKey, circle: CircleId) {
        let now = self.now;
        let Some(shared) = self.shared(peer, &circle).filter(|shared| shared.anew && shared.anew_after <= now) else {
            return;
        };
        (shared.anew, shared.anew_after) = (false, now.plus(limits::DIGEST_EVERY_MS));
        self.held_due_to(peer, circle);
        self.hand_on_anew(peer, circle);
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
            if state.unknown.is_empty() {
                state.unknown = BTreeMap::new();
            }
            let shared = Shared {
                theirs,
                mine,
                tips: BTreeMap::new(),
                tips_of: BTreeMap::new(),
                listing: None,
                told_forks: BTreeMap::new(),
                told_branches: BTreeSet::new(),
                compared: false,
                caught_up: false,
                asked: 0,
                short_of: None,
                anew: false,
                anew_after: Time(0),
                compare_after: Time(0),
                lists: 0,
                lists_until: Time(0),
                heard: digest,
                silent: self.now,
                buckets_after: Time(0),
                tips_after: Time(0),
                digest_due,
                digest_after: Time(0),
                pushed_epoch: None,
                keys: PeerKeys::default(),
                records_after: Time(0),
                refused: BTreeSet::new(),
                empty_runs: 0,
            };
            put(&mut state.shared, circle, Box::new(shared));
            put(&mut state.by_tag, theirs, circle);
            self.sync.digest_at(digest_due);
            self.fetch_rotten(&circle, store);
            self.compare(peer, circle, digest, store)?;
            self.look_for_keys();
            self.records_may_come(&circle, peer);
            if !planted(Bug::HeldUnsaidOnConnect) {
                self.held_due_to(peer, circle);
            }
            self.hand_on_anew(peer, circle);
        }
        Ok(())
    }

    /// Who belongs to a circle changed: sessions follow.
    pub(crate) fn roster_changed(&mut self, circle: &CircleId, store: &dyn Read) -> Result<(), Damage> {
        self.sync.digests.remove(circle);
        let peers: Vec<PublicKey> = self.sync.peers.keys().copied().collect();
        let mut damage = Ok(());
        for peer in peers {
            let Some(replica) = self.circles.get(circle) else { return Ok(()) };
            let revoked = replica.word().is_some_and(|word| word.revocation(&peer).is_some());
            if revoked && !planted(Bug::SpeakToRevoked) {
                self.disconnect(&peer, "its certificate was revoked".to_owned());
                continue;
            }
            if !self.shares(&peer, replica) && !planted(Bug::GoOnWithRemoved) {
                let mut undecided = false;
                if let Some(state) = self.sync.peers.get_mut(&peer) {
                    let doubts = self.sync.doubts.get_mut(&peer);
                    doubts.into_iter().for_each(|doubts| doubts.retain(|key, _| key.circle != *circle));
                    undecided = state.handed.remove(circle).is_some_and(|handed| handed.all.is_some());
                    if let Some(shared) = state.shared.remove(circle) {
                        undecided = false;
                        state.by_tag.remove(&shared.theirs);
                        // The peer does not show its tag twice; it counts again when it is added again.
                        state.unknown.insert(shared.theirs, Hash([0; 32]));
                    }
                    state.my_tags.remove(circle);
                    state.said.remove(circle);
                }
                if undecided {
                    damage = damage.and(self.withdraw_offer(&peer, circle, store));
                }
                self.sync.pulls.retain(|_, pull| pull.peer != peer || pull.circle != *circle);
                for ((_, _), want) in self.sync.wants.iter_mut().filter(|((of, _), _)| of == circle) {
                    want.sources.remove(&peer);
                }
                continue;
            }
            // Damage that one peer's part meets keeps no other from being heard, or from being shut out.
            let told = self.offer(&peer, false, store).and_then(|()| self.welcome(&peer, store));
            damage = damage.and(told);
            // What was not wanted, or waited, may be wanted now; of a fork another branch may count.
            self.shared(&peer, circle).into_iter().for_each(|shared| shared.refused.clear());
            let shared = self.sync.peers.get(&peer).and_then(|state| state.shared.get(circle));
            let tips: Vec<WireTip> = shared.into_iter().flat_map(|shared| shared.tips.values().copied()).collect();
            tips.into_iter().for_each(|tip| self.tip_heard(&peer, *circle, tip, self.now));
        }
        self.sync.wants.retain(|_, want| !want.sources.is_empty());
        for (_, want) in self.sync.wants.iter_mut().filter(|((of, _), _)| of == circle || *of == self.network) {
            want.unblock();
        }
        self.sync.waiting.block(&mut self.sync.wants);
        self.sync.look_at(self.now);
        damage
    }

    // ---- Time.

    /// When the engine next wants a `Tick`, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let stalls = self.sync.pulls.values().map(|pull| pull.last_frame.min(pull.counted_from)).min();
        let stalls = stalls.map(|since| since.plus(limits::PULL_STALL_MS));
        let Sync { digest_due, look_due, announce_due, held_due, hand_due, lacking_due, .. } = self.sync;
        let (keys_due, records_due) = (self.sync.keys.due, self.sync.records.due);
        let timers = [digest_due, look_due, announce_due, held_due, hand_due, lacking_due, stalls];
        let asks = [keys_due, records_due, self.mending.due, self.sync.noting.due];
        let next = timers.into_iter().chain(asks).flatten().min().map(|next| self.wall.plus(next.since(self.now)));
        let drops = self.expiring.due(self.wall).filter(|_| !self.clock_doubtful());
        let erases = self.retractions.due(self.wall, self.now);
        let withheld = self.keeping.due(self.wall, self.now);
        next.into_iter().chain(erases).chain(withheld).chain(drops).min()
    }

    pub(crate) fn run_timers(&mut self, store: &dyn Read) -> Result<(), Damage> {
        if self.sync.announce_due.is_some_and(|due| due <= self.now) {
            self.announce_now(store)?;
        }
        if self.sync.held_due.is_some_and(|due| due <= self.now) {
            self.state_held();
        }
        if self.sync.noting.due.is_some_and(|due| due <= self.now) {
            self.note_waiting();
        }
        if self.sync.hand_due.is_some_and(|due| due <= self.now) {
            self.hand_on();
        }
        if self.sync.lacking_due.is_some_and(|due| due <= self.now) {
            self.sync.lacking_due = None;
            self.sync.wants.values_mut().for_each(Want::unblock);
            self.sync.look_at(self.now);
        }
        self.ask_for_keys();
        self.ask_for_records();
        self.begin_mending(store);
        self.erase_due(store);
        self.drop_beyond(store);
        self.drop_expired(store)?;
        let now = self.now;
        if planted(Bug::WaitForStalled) {
            self.sync.pulls.values_mut().for_each(|pull| (pull.last_frame, pull.counted_from) = (now, now));
        }
        if self.sync.digest_due.is_some_and(|due| due <= now) {
            self.say_digests(store)?;
        }
        let stalled = |pull: &Pull| pull.last_frame.plus(limits::PULL_STALL_MS) <= now;
        let stalled: Vec<PullId> =
            self.sync.pulls.iter().filter(|(_, pull)| stalled(pull)).map(|(id, _)| *id).collect();
        for id in stalled {
            self.output(Output::CancelPull { pull: id });
            if let Some(pull) = self.sync.pulls.get(&id).filter(|pull| pull.purpose == Purpose::Take) {
                let (peer, circle, name) = (pull.peer, pull.circle, pull.name);
                self.drop_source(&peer, circle, name);
                self.sync.peers.get_mut(&peer).into_iter().for_each(|state| state.stalls += 1);
            }
            self.run_ended(id, store)?;
        }
        for pull in self.sync.pulls.values_mut().filter(|pull| pull.counted_from.plus(limits::PULL_STALL_MS) <= now) {
            if pull.brought < limits::PULL_LEAST_BYTES {
                pull.slow += 1;
                self.sync.look_due = Some(now);
            }
            (pull.counted_from, pull.brought) = (now, 0);
        }
        self.start_pulls(store)
    }

    /// Says the digests that are due, and when the next will be.
    fn say_digests(&mut self, store: &dyn Read) -> Result<(), Damage> {
        let now = self.now;
        self.forget_handed();
        let pause = if planted(Bug::DigestEverySecond) { 1_000 } else { limits::DIGEST_EVERY_MS };
        let mut due = Vec::new();
        for (peer, state) in &mut self.sync.peers {
            for (circle, shared) in state.shared.iter_mut().filter(|(_, shared)| shared.is_due(now)) {
                shared.digest_due = now.plus(pause);
                due.push((*peer, *circle));
            }
        }
        let all = self.sync.peers.values().flat_map(|state| state.shared.values());
        self.sync.digest_due = all.map(|shared| shared.digest_due).min();
        // What was too much to be handed to a newcomer at once, and what was asked for too often.
        let peers: BTreeSet<PublicKey> = due.iter().map(|(peer, _)| *peer).collect();
        peers.iter().for_each(|peer| self.answer_root(peer));
        let welcomed = self.welcome_each(peers, store);
        due.iter().for_each(|(peer, circle)| self.state_anew(peer, *circle));
        due.into_iter().try_for_each(|(peer, circle)| self.say_digest(&peer, circle, store))?;
        welcomed
    }
}
