//! Comparing: digests, buckets, tips, and what is wanted of a peer in the end.
//!
//! Two levels, because circles have many authors and few of them write at a time: 256 buckets by the first byte of
//! an author's key, then the tips of the buckets that differ.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, PublicKey, Time, issuer_log::LogId};
use litemap::LiteMap;

use super::{FIRST_NAME, LAST_NAME, Peer, Pull, Purpose, Shared, Source, Want, put};
use crate::engine::Engine;
use crate::log::{CircleId, LogKey, LogKind, LogName};
use crate::planted::{Bug, planted};
use crate::replica::{Log, Replica};
use crate::store::{Damage, Read};
use crate::wire::{BucketHash, Frame, WireTip};
use crate::{acceptance, limits};

/// What this node says of a circle until something changes.
#[derive(Debug)]
pub(super) struct Own {
    digest: Hash,
    tips: Vec<WireTip>,
    /// The buckets of those, once somebody needed them.
    buckets: Option<BTreeMap<u8, BucketHash>>,
}

impl Engine {
    pub(super) fn digest(&mut self, circle: &CircleId, store: &dyn Read) -> Result<Hash, Damage> {
        if let Some(own) = self.sync.digests.get(circle) {
            return Ok(own.digest);
        }
        let Some(replica) = self.circles.get(circle) else { return Ok(Hash([0; 32])) };
        let tips = replica.tips(store)?;
        let digest = replica.digest(&tips);
        self.sync.digests.insert(*circle, Own { digest, tips, buckets: None });
        Ok(digest)
    }

    fn my_tips(&mut self, circle: &CircleId, store: &dyn Read) -> Result<&[WireTip], Damage> {
        self.digest(circle, store)?;
        Ok(self.sync.digests.get(circle).map(|own| own.tips.as_slice()).unwrap_or_default())
    }

    /// The buckets of what [`Self::my_tips`] gives.
    fn my_buckets(&mut self, circle: &CircleId, store: &dyn Read) -> Result<BTreeMap<u8, BucketHash>, Damage> {
        self.digest(circle, store)?;
        let (Some(own), Some(replica)) = (self.sync.digests.get_mut(circle), self.circles.get(circle)) else {
            return Ok(BTreeMap::new());
        };
        Ok(own.buckets.get_or_insert_with(|| replica.buckets(&own.tips)).clone())
    }

    pub(super) fn shared(&mut self, peer: &PublicKey, circle: &CircleId) -> Option<&mut Shared> {
        self.sync.peers.get_mut(peer)?.shared.get_mut(circle).map(Box::as_mut)
    }

    pub(super) fn compare(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        theirs: Hash,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let digest = self.digest(&circle, store)?;
        let now = self.now;
        let Some(state) = self.sync.peers.get_mut(peer) else { return Ok(()) };
        if let Some(handed) = state.handed.get_mut(&circle) {
            handed.times = 0;
        }
        let is_as_said = state.said.get(&circle) == Some(&digest);
        let Some(shared) = state.shared.get_mut(&circle) else { return Ok(()) };
        if shared.heard != theirs || !is_as_said {
            shared.asked = 0;
        }
        (shared.heard, shared.silent) = (theirs, now);
        if digest == theirs {
            shared.compared = true;
            shared.caught_up = true;
            // It holds what is held here; what it says from now on is news.
            shared.tips.clear();
            shared.tips_of.clear();
            self.sync.synced.insert((circle, *peer));
            // It sees the same from what this node said: nothing needs to be said. Unless what this node lacked came
            // since then: the peer saw a difference, and nobody owes it tips.
            let said = self.sync.peers.get(peer).and_then(|state| state.said.get(&circle));
            return if said == Some(&digest) { Ok(()) } else { self.say_digest(peer, circle, store) };
        }
        if shared.compare_after > now && !planted(Bug::CompareWithoutEnd) {
            shared.digest_due = shared.digest_due.min(shared.compare_after);
            let due = shared.digest_due;
            self.sync.digest_at(due);
            return Ok(());
        }
        shared.compare_after = now.plus(limits::COMPARE_EVERY_MS);
        let mine = shared.mine;
        if !shared.caught_up {
            // When the peer gets what it lacks from elsewhere, it sees no difference any more and says nothing. So it
            // is asked once more, instead of waiting for a minute; and later each time that nothing changed, for what this
            // node lacks may never come.
            let wait = limits::COMPARE_EVERY_MS << shared.asked;
            shared.asked = (shared.asked + 1).min(limits::ASKED_DOUBLINGS);
            shared.digest_due = shared.digest_due.min(now.plus(wait));
            let due = shared.digest_due;
            self.sync.digest_at(due);
        }
        let tips = self.my_tips(&circle, store)?;
        let frame = if tips.len() <= limits::TIPS_AT_ONCE {
            Frame::Tips { tag: mine, tips: tips.to_vec(), last: true }
        } else {
            Frame::Buckets { tag: mine, buckets: self.my_buckets(&circle, store)?.into_iter().collect() }
        };
        self.send(peer, &frame);
        Ok(())
    }

    pub(super) fn buckets_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        theirs: &[(u8, BucketHash)],
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let now = self.now;
        let Some(shared) = self.shared(peer, &circle) else { return Ok(()) };
        if shared.tips_after > now && !planted(Bug::CompareWithoutEnd) {
            // It says them once a second at most; lines may bring two of them closer together.
            return Ok(());
        }
        shared.tips_after = now.plus(limits::COMPARE_EVERY_MS / 2);
        let mine = self.my_buckets(&circle, store)?;
        let tips = self.my_tips(&circle, store)?;
        let theirs: BTreeMap<u8, BucketHash> = theirs.iter().copied().collect();
        let differ = |bucket: &u8| mine.get(bucket) != theirs.get(bucket);
        let (mine_count, differs) = (tips.len(), mine != theirs);
        let tips: Vec<WireTip> = tips.iter().copied().filter(|tip| differ(&tip.author.0[0])).collect();
        let Some(tag) = self.shared(peer, &circle).map(|shared| shared.mine) else { return Ok(()) };
        let count = tips.len().div_ceil(limits::TIPS_PER_FRAME).max(1);
        for index in 0..count {
            let from = index * limits::TIPS_PER_FRAME;
            let to = tips.len().min(from + limits::TIPS_PER_FRAME);
            let frame = Frame::Tips { tag, tips: tips[from..to].to_vec(), last: index + 1 == count };
            self.send(peer, &frame);
        }
        // A peer with many logs says its tips only where buckets differ, and of this node, when it has few, it has
        // heard no buckets.
        let few = mine_count <= limits::TIPS_AT_ONCE && differs;
        let Some(shared) = self.shared(peer, &circle).filter(|shared| few && shared.buckets_after <= now) else {
            return Ok(());
        };
        shared.buckets_after = now.plus(limits::COMPARE_EVERY_MS);
        self.send(peer, &Frame::Buckets { tag, buckets: mine.into_iter().collect() });
        Ok(())
    }

    pub(super) fn tips_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        tips: Vec<WireTip>,
        last: bool,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        if !self.takes_list(peer, &circle) {
            return Ok(());
        }
        self.forget_unlisted(peer, &circle, &tips, last);
        for tip in tips {
            self.tip_heard(peer, circle, tip, self.now);
            self.branch_heard(peer, circle, &tip, store)?;
        }
        if last {
            if let Some(shared) = self.shared(peer, &circle) {
                shared.compared = true;
            }
            self.want_cited(peer, circle);
            self.tell_forks(peer, circle, store)?;
            self.tell_branches(peer, circle, store)?;
            self.settle(peer, circle, store)?;
        }
        Ok(())
    }

    /// Whether one more list of tips is looked at: the end of each has this node look through all it holds of a circle. An
    /// honest peer says a few in a second, and says again what was passed over.
    fn takes_list(&mut self, peer: &PublicKey, circle: &CircleId) -> bool {
        let now = self.now;
        let Some(shared) = self.shared(peer, circle) else { return false };
        if shared.lists_until <= now {
            (shared.lists_until, shared.lists) = (now.plus(limits::COMPARE_EVERY_MS), 0);
        }
        shared.lists += 1;
        shared.lists <= limits::LISTS_AT_ONCE
    }

    /// A peer lists all of an author's logs or none: what it listed before and does not list now, a log that it does
    /// list cites.
    fn forget_unlisted(&mut self, peer: &PublicKey, circle: &CircleId, tips: &[WireTip], last: bool) {
        let Some(shared) = self.shared(peer, circle) else { return };
        let listed: BTreeSet<LogName> = tips.iter().map(|tip| (tip.author, tip.log)).collect();
        // The frame before may have ended between two logs of one author.
        let begun = shared.listing.take().map(|author| *author);
        let authors = listed.iter().map(|(author, _)| *author).filter(|author| begun != Some(*author));
        for author in authors.collect::<BTreeSet<PublicKey>>() {
            let of_author = (author, FIRST_NAME.1)..=(author, LAST_NAME.1);
            // Of more logs than are remembered those come next of which this node lacks something still.
            let crowded = shared.tips_of.get(&author).is_some_and(|logs| *logs >= limits::TIPS_PER_AUTHOR);
            let gone = shared.tips.range(of_author).map(|(name, _)| *name);
            let gone: Vec<LogName> = gone.filter(|name| crowded || !listed.contains(name)).collect();
            for name in &gone {
                shared.tips.remove(name);
            }
            shared.tips_of.entry(author).and_modify(|logs| *logs = logs.saturating_sub(gone.len()));
        }
        if !last {
            shared.listing = tips.last().map(|tip| Box::new(tip.author));
        }
    }

    /// Wants of a peer what held logs cite and it does not list, though it lists another log of that author: it holds
    /// that log to where it is cited.
    fn want_cited(&mut self, peer: &PublicKey, circle: CircleId) {
        let cited = self.circles.get(&circle).map(Replica::cited_and_missing).unwrap_or_default();
        self.want_of_cited(peer, circle, &cited);
    }

    /// As [`Self::want_cited`], of these.
    fn want_of_cited(&mut self, peer: &PublicKey, circle: CircleId, cited: &[(LogName, u64)]) {
        for (name, height) in self.unlisted_by(peer, &circle, cited) {
            let held = self.circles.get(&circle).and_then(|replica| replica.log(&name.0, &name.1));
            if held.map_or(0, |held| held.height) < height {
                self.want(peer, circle, name, height, false, self.now);
            }
        }
    }

    /// Of what held logs cite and is not durable here that which a peer holds without listing it: something that it does
    /// list leads there. What only a log cites that it does not hold yet, it may not have heard of.
    fn unlisted_by(&self, peer: &PublicKey, circle: &CircleId, cited: &[(LogName, u64)]) -> Vec<(LogName, u64)> {
        let shared = self.sync.peers.get(peer).and_then(|state| state.shared.get(circle));
        let (Some(shared), Some(replica)) = (shared, self.circles.get(circle)) else { return Vec::new() };
        let unlisted = |(name, _): &(LogName, u64)| {
            shared.tips_of.get(&name.0).is_some_and(|logs| *logs > 0)
                && !shared.tips.contains_key(name)
                && !shared.refused.contains(name)
        };
        let mut unlisted: Vec<(LogName, u64)> = cited.iter().copied().filter(unlisted).collect();
        let authors: BTreeSet<PublicKey> = unlisted.iter().map(|((author, _), _)| *author).collect();
        for author in authors.into_iter().filter(|author| !shared.is_full_of(author, 2)) {
            let listed = shared.tips.range((author, FIRST_NAME.1)..=(author, LAST_NAME.1));
            let mut from: Vec<LogId> = listed.filter(|(_, tip)| tip.height > 0).map(|((_, log), _)| *log).collect();
            let mut led_to = BTreeSet::new();
            while let Some(log) = from.pop() {
                let cites = replica.log(&author, &log).into_iter().flat_map(|held| &held.opening.cites);
                from.extend(cites.map(|line| line.log).filter(|log| led_to.insert(*log)));
            }
            unlisted.retain(|((of, log), _)| *of != author || led_to.contains(log));
        }
        unlisted
    }

    /// A peer's tip may be of another branch than the one held here.
    fn branch_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        tip: &WireTip,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let key = LogKey { circle, author: tip.author, log: tip.log };
        let held = self.circles.get(&circle).and_then(|replica| replica.log(&tip.author, &tip.log));
        let Some(log) = held.filter(|log| (1..=log.durable).contains(&tip.height)) else { return Ok(()) };
        // Nearly always both hold it equally far, and nothing needs to be read.
        let fork = self.circles.get(&circle).and_then(|replica| replica.fork_of(&tip.author, &tip.log));
        if log.kind == LogKind::Control && tip.forked && fork == Some(tip.height) {
            // It knows the fork, and its head stands for the branches too.
            return Ok(());
        }
        let head = if tip.height == log.durable { log.durable_head } else { store.hash(&key, tip.height - 1)? };
        if head != tip.head {
            self.doubt(peer, &key, tip.height);
        }
        Ok(())
    }

    /// Proves to a peer the forks that its tips do not show. Not each time it compares: it may not know the author
    /// yet, and then it takes no proof.
    fn tell_forks(&mut self, peer: &PublicKey, circle: CircleId, store: &dyn Read) -> Result<(), Damage> {
        let Some(replica) = self.circles.get(&circle) else { return Ok(()) };
        let forks: Vec<(LogName, u64)> = replica.forks().map(|(name, seq)| (*name, *seq)).collect();
        let (now, mut telling) = (self.now, 0);
        for (name, seq) in forks {
            if telling >= limits::FORKS_TOLD_AT_ONCE {
                // The rest with the next comparison: so much fits into the queue of a line.
                break;
            }
            let Some(shared) = self.shared(peer, &circle) else { return Ok(()) };
            let knows = shared.tips.get(&name).is_some_and(|tip| tip.forked && tip.height <= seq);
            let told = shared.told_forks.get(&name).is_some_and(|told| told.plus(limits::DIGEST_EVERY_MS) > now);
            if !knows && !told {
                shared.told_forks.insert(name, now);
                telling += 1;
                self.tell_fork(peer, &LogKey { circle, author: name.0, log: name.1 }, store)?;
            }
        }
        Ok(())
    }

    /// A peer holds a log so far: remember it, and want what is lacking and can be accepted.
    pub(super) fn tip_heard(&mut self, peer: &PublicKey, circle: CircleId, tip: WireTip, due: Time) {
        let name = (tip.author, tip.log);
        if !self.hears_out(peer, &circle) {
            return;
        }
        let Some(replica) = self.circles.get(&circle) else { return };
        let (height, first) = acceptable(replica, &tip);
        let log = replica.log(&tip.author, &tip.log);
        let (held, durable) = log.map_or((0, 0), |log| (log.height, log.durable));
        let Some(shared) = self.shared(peer, &circle) else { return };
        if !shared.tips.contains_key(&name) {
            let of_author = shared.tips_of.get(&tip.author).copied().unwrap_or(0);
            // Half of the room is for what this node lacks: what it has would keep it from ever hearing of that.
            let room = if height > durable { 1 } else { 2 };
            let many = shared.is_full_of(&tip.author, room);
            if many && !planted(Bug::RememberEveryHeight) {
                return;
            }
            shared.tips_of.insert(tip.author, of_author + 1);
        }
        shared.tips.insert(name, tip);
        if height > held && !shared.refused.contains(&name) {
            self.want(peer, circle, name, height, first, due);
        }
    }

    /// What a peer said that it holds of a log is looked at again, for less of it is held here than when it said so.
    pub(crate) fn want_again(&mut self, peer: &PublicKey, key: &LogKey) {
        let shared = self.sync.peers.get(peer).and_then(|state| state.shared.get(&key.circle));
        let tip = shared.and_then(|shared| shared.tips.get(&(key.author, key.log))).copied();
        tip.into_iter().for_each(|tip| self.tip_heard(peer, key.circle, tip, self.now));
    }

    pub(super) fn want(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        name: LogName,
        height: u64,
        first: bool,
        due: Time,
    ) {
        let fresh = || Want { sources: LiteMap::new_vec(), first, due };
        let want = self.sync.wants.entry((circle, name)).or_insert_with(fresh);
        want.due = want.due.min(due);
        // What it said anew it is asked for anew: a later head can vouch for what could not be decided before, and
        // what was missing may have come. But for operations that wait here: those are taken once that comes.
        let height = want.sources.get(peer).map_or(height, |known| known.height.max(height));
        let blocked = self.sync.waiting.waits(peer, &(circle, name), height);
        put(&mut want.sources, *peer, Source { height, blocked });
        let due = want.due;
        self.sync.look_at(due);
    }

    /// A log grew durably, from wherever: what is wanted of it no longer needs to be pulled from anybody. `opened`, when
    /// what it cites may be news.
    pub(crate) fn log_grew(&mut self, key: &LogKey, opened: bool, store: &dyn Read) -> Result<(), Damage> {
        let name = (key.author, key.log);
        let replica = self.circles.get(&key.circle);
        let height = replica.and_then(|replica| replica.log(&key.author, &key.log)).map_or(0, |held| held.durable);
        if let Some(want) = self.sync.wants.get_mut(&(key.circle, name)) {
            want.sources.retain(|_, source| source.height > height);
            if want.sources.is_empty() {
                self.sync.wants.remove(&(key.circle, name));
            }
        }
        let cites = replica.and_then(|replica| replica.log(&key.author, &key.log)).is_some_and(Log::cites);
        if let Some(replica) = replica.filter(|_| cites && opened) {
            // What is known by now to be cited is wanted of those who were asked what they hold before it was.
            let cited = replica.cited_and_missing();
            self.compared(&key.circle).iter().for_each(|peer| self.want_of_cited(peer, key.circle, &cited));
            self.note_cited(*key);
        }
        self.settle_all(key.circle, store)
    }

    /// The peers that said what they hold, and were not caught up with.
    fn compared(&self, circle: &CircleId) -> Vec<PublicKey> {
        let open = |state: &Peer| state.shared.get(circle).is_some_and(|shared| shared.compared && !shared.caught_up);
        self.sync.peers.iter().filter(|(_, state)| open(state)).map(|(peer, _)| *peer).collect()
    }

    /// What one peer sent may be all that was left to get from others too.
    pub(super) fn settle_all(&mut self, circle: CircleId, store: &dyn Read) -> Result<(), Damage> {
        let mut cited = None;
        self.compared(&circle).iter().try_for_each(|peer| self.settle_with(peer, circle, &mut cited, store))
    }

    /// When nothing is left to get from a peer, this node has caught up with it.
    pub(super) fn settle(&mut self, peer: &PublicKey, circle: CircleId, store: &dyn Read) -> Result<(), Damage> {
        self.settle_with(peer, circle, &mut None, store)
    }

    /// As [`Self::settle`]; what is cited and missing is looked for once, and only when it comes to that.
    fn settle_with(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        cited: &mut Option<Vec<(LogName, u64)>>,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let of_circle = (circle, FIRST_NAME)..=(circle, LAST_NAME);
        let Some(shared) = self.shared(peer, &circle) else { return Ok(()) };
        if !shared.compared || shared.caught_up {
            return Ok(());
        }
        let wanted = self.sync.wants.range(of_circle).any(|(_, want)| want.sources.contains_key(peer));
        let pulls = |pull: &Pull| pull.peer == *peer && pull.circle == circle && pull.purpose != Purpose::Mend;
        if wanted || self.sync.pulls.values().any(pulls) {
            return Ok(());
        }
        let short = self.short_of(peer, &circle);
        if let Some(shared) = self.shared(peer, &circle).filter(|_| short.is_some()) {
            shared.short_of = short.map(Box::new);
            return Ok(());
        }
        let missing = || self.circles.get(&circle).map(Replica::cited_and_missing).unwrap_or_default();
        if !self.unlisted_by(peer, &circle, cited.get_or_insert_with(missing)).is_empty() {
            return Ok(());
        }
        let due = self.now.plus(limits::DIGEST_EVERY_MS);
        let Some(shared) = self.shared(peer, &circle) else { return Ok(()) };
        shared.caught_up = true;
        shared.short_of = None;
        shared.digest_due = due;
        self.sync.synced.insert((circle, *peer));
        self.say_digest(peer, circle, store)
    }

    /// Says what is held here of a circle that is shared with a peer.
    pub(super) fn say_digest(&mut self, peer: &PublicKey, circle: CircleId, store: &dyn Read) -> Result<(), Damage> {
        let digest = self.digest(&circle, store)?;
        if let Some(shared) = self.shared(peer, &circle).filter(|shared| shared.heard == digest && !shared.caught_up) {
            // What the peer said that it holds is held here by now; holding the same still, it does not say so again.
            shared.compared = true;
            self.settle(peer, circle, store)?;
            if self.shared(peer, &circle).is_some_and(|shared| shared.caught_up) {
                // That was said on the way.
                return Ok(());
            }
        }
        let Some(state) = self.sync.peers.get_mut(peer) else { return Ok(()) };
        let Some(shared) = state.shared.get_mut(&circle) else { return Ok(()) };
        shared.digest_after = self.now.plus(limits::COMPARE_EVERY_MS);
        let tag = shared.mine;
        put(&mut state.said, circle, digest);
        self.send(peer, &Frame::Digest { tag, digest });
        Ok(())
    }

    /// A log of which a peer said that it holds what would be accepted here and is not durable here yet. It may have
    /// been asked in vain: a peer that does not send what it has is not caught up with. As a rule it is the same log as
    /// the last time.
    fn short_of(&self, peer: &PublicKey, circle: &CircleId) -> Option<LogName> {
        let shared = self.sync.peers.get(peer).and_then(|state| state.shared.get(circle))?;
        let replica = self.circles.get(circle)?;
        let durable = |author: &PublicKey, log: &LogId| replica.log(author, log).map_or(0, |held| held.durable);
        let short = |(name, tip): &(&LogName, &WireTip)| {
            !shared.refused.contains(name) && acceptable(replica, tip).0 > durable(&name.0, &name.1)
        };
        let last = shared.short_of.as_deref().and_then(|name| shared.tips.get_key_value(name)).filter(short);
        last.or_else(|| shared.tips.iter().find(short)).map(|(name, _)| *name)
    }
}

/// How much of what a peer holds of a log is worth having, and whether it decides who belongs.
fn acceptable(replica: &Replica, tip: &WireTip) -> (u64, bool) {
    let decides = match replica.control() {
        // Whether its author may operate is told by operations that may come with it.
        Some(_) => tip.first,
        None => replica.decides(&tip.author, LogKind::Network),
    };
    // Of a control log nothing more comes behind its fork: what stands there is handed over otherwise.
    let fork = replica.control().and_then(|_| replica.fork_of(&tip.author, &tip.log)).unwrap_or(u64::MAX);
    let log = replica.log(&tip.author, &tip.log);
    let is_control = replica.control().is_some() && decides;
    let kind = log.map_or(if is_control { LogKind::Control } else { LogKind::Content }, |log| log.kind);
    let height = match decides {
        // What goes beyond a quota waits with those who have it.
        _ if replica.is_full(&tip.author, kind) => log.map_or(0, |log| log.height),
        true => tip.height.min(fork),
        false => acceptance::hope(replica, &tip.author, &tip.log, tip.height),
    };
    (height, decides)
}
