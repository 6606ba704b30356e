//! Held statements on their way: to an author and to stewards, some of whom the holder is not connected with.
//!
//! A statement is signed by its holder, so that any member can carry it. It goes back the way the entries came: each
//! hands it to the neighbour from which it last got something of whoever it is for. Whom no way is known to gets it by
//! way of the author: what a steward itself states goes there too, and shows everybody on that way, the author last, in
//! which direction the steward is. What comes within a few seconds goes on together, and is let go with that.
//!
//! Where no way is left a statement goes astray: a few neighbours try it one after the other, and each of them keeps it
//! for a day, for when whoever it is for comes by. Once that one has it they say so to each other, and let it go. What
//! went along a known way nobody acknowledges. Who handed it on remembers it for a minute and a half: should the
//! connection end meanwhile, it may have been on its way on a line that was cut, and goes on by another.
//!
//! Who belongs to a circle can make others carry so much and no more: the newest about each of a few authors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cwn_crypto::{
    Hash, PublicKey, Time,
    issuer_log::{CutLine, LogId},
};

use super::live::distance;
use crate::engine::{Engine, Offer};
use crate::held::{SignedStatement, Statement, few_cited, is_later};
use crate::limits;
use crate::log::CircleId;
use crate::store::{Damage, Read};
use crate::wire::{Arrival, Bundle, Frame, Tag, Trail};

/// A circle, who holds, and whose logs.
pub(super) type About = (CircleId, PublicKey, PublicKey);

/// A statement that waits: for others to go with it, or for whom it has not reached. There may be many of them, each
/// with one or two names, so that those lie in lists; a tree sets aside room for eleven.
#[derive(Debug)]
pub(super) struct Carried {
    statement: SignedStatement,
    /// When it was made, as its holder says.
    time: Time,
    /// When it came here.
    since: Time,
    trail: Trail,
    /// Whom it has not reached, as far as is known here.
    far: Vec<PublicKey>,
    /// Who handed it over.
    from: Vec<PublicKey>,
    /// To whom it was handed on while it was astray.
    told: Vec<PublicKey>,
}

impl Carried {
    /// One that nobody handed over, or that may not have come where it was handed.
    fn new(statement: SignedStatement, time: Time, since: Time, far: Vec<PublicKey>) -> Self {
        let trail = Trail { left: limits::HANDED_ON, astray: false };
        Self { statement, time, since, trail, far, from: Vec::new(), told: Vec::new() }
    }

    /// Who else has it, or had, because of this node or before it.
    fn others(&self) -> impl Iterator<Item = &PublicKey> {
        self.from.iter().chain(self.told.iter().filter(|peer| !self.from.contains(peer)))
    }
}

/// Where a statement goes next so that it comes nearer to one that it is for.
enum Way {
    /// To that one itself.
    There,
    /// To a neighbour that is nearer.
    Nearer(PublicKey),
    /// To a neighbour that may be.
    Astray(PublicKey),
    /// Nowhere: nobody is left to try.
    Nowhere,
}

/// What goes to each neighbour.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bundles: BTreeMap<(CircleId, PublicKey), Vec<Bundle>>,
    arrivals: BTreeMap<(CircleId, PublicKey), Vec<Arrival>>,
    handed: Vec<(PublicKey, (About, Carried))>,
}

impl Outgoing {
    fn add(&mut self, circle: CircleId, hop: PublicKey, to: Vec<PublicKey>, trail: Trail, statement: &SignedStatement) {
        let bundles = self.bundles.entry((circle, hop)).or_default();
        match bundles.iter_mut().find(|bundle| bundle.to == to && bundle.trail == trail) {
            Some(bundle) => bundle.statements.push(statement.clone()),
            None => bundles.push(Bundle { to, trail, statements: vec![statement.clone()] }),
        }
    }

    /// Says to others that have a statement who has got it.
    fn arrived(&mut self, about: &About, carried: &Carried, at: &[PublicKey], but: Option<&PublicKey>) {
        let (circle, holder, author) = *about;
        for peer in carried.others().filter(|peer| Some(*peer) != but) {
            let arrival = Arrival { holder, author, time: carried.time, at: at.to_vec() };
            self.arrivals.entry((circle, *peer)).or_default().push(arrival);
        }
    }
}

/// Whether what was handed on may still be on its way on a line that was cut.
fn may_be_lost(handed: &Carried, now: Time) -> bool {
    handed.since.plus(limits::HANDED_MS) > now
}

/// What a statement says, whenever.
fn content(statement: &Statement) -> (&[CutLine], &[Hash]) {
    (&statement.heads, &statement.unopenable)
}

/// Adds to a list of few, if it does not stand there.
fn note(list: &mut Vec<PublicKey>, node: PublicKey) {
    if !list.contains(&node) {
        list.reserve_exact(1);
        list.push(node);
    }
}

impl Engine {
    /// Something of an author came from a peer: there the way to it begins.
    pub(super) fn came_from(&mut self, peer: &PublicKey, circle: CircleId, author: PublicKey) {
        if circle != self.network && author != self.me {
            self.sync.toward.insert((circle, author), *peer);
        }
    }

    /// A circle that was offered is joined: whoever offered it heard of its stewards before.
    pub(crate) fn offered_by(&mut self, offer: &Offer) {
        let Some(peer) = offer.from.iter().find(|peer| **peer != self.me) else { return };
        let roster = offer.preview.fold().roster();
        let stewards = roster.iter().filter(|(_, member)| member.steward.is_some());
        stewards.for_each(|(node, _)| self.came_from(peer, offer.preview.id(), *node));
    }

    /// A steward's statement came from a peer, which shows a way to it, should there be none.
    fn stated_by(&mut self, peer: &PublicKey, circle: CircleId, holder: PublicKey) {
        let known = self.sync.toward.get(&(circle, holder)).is_some_and(|hop| self.tag_for(hop, &circle).is_some());
        if !known && holder != *peer && self.is_steward(&circle, &holder) {
            self.came_from(peer, circle, holder);
        }
    }

    pub(super) fn is_steward(&self, circle: &CircleId, node: &PublicKey) -> bool {
        let member = self.circles.get(circle).and_then(|replica| replica.fold().roster().member(node));
        member.is_some_and(|member| member.steward.is_some())
    }

    /// Whom statements about an author's logs are for, this node aside.
    pub(super) fn concerned(&self, circle: &CircleId, author: &PublicKey) -> BTreeSet<PublicKey> {
        let Some(replica) = self.circles.get(circle).filter(|replica| replica.control().is_some()) else {
            return BTreeSet::new();
        };
        let members = replica.fold().roster().iter();
        let concerned = members.filter(|(node, member)| *node == author || member.steward.is_some());
        concerned.map(|(node, _)| *node).filter(|node| *node != self.me).collect()
    }

    fn tag_for(&self, peer: &PublicKey, circle: &CircleId) -> Option<Tag> {
        Some(self.sync.peers.get(peer)?.shared.get(circle)?.mine)
    }

    /// This node states what it holds, to these. It is kept for those it does not reach, in place of what said less.
    pub(super) fn state(
        &mut self,
        about: About,
        statement: SignedStatement,
        far: Vec<PublicKey>,
        says_more: bool,
        outgoing: &mut Outgoing,
    ) {
        let carried = Carried::new(statement, self.wall, self.now, far);
        let rest = self.send_off(&about, carried, outgoing);
        if says_more {
            self.sync.carried.remove(&about);
            rest.into_iter().for_each(|rest| self.keep_carried(about, rest));
        } else {
            rest.into_iter().for_each(|rest| self.carry(about, rest));
        }
    }

    /// Takes along a statement that a peer handed over.
    fn carry(&mut self, about: About, fresh: Carried) {
        let carried = match self.sync.carried.remove(&about) {
            None => fresh,
            Some(mut before) => {
                let Carried { statement, time, since, trail, far, from, told } = fresh;
                let said =
                    |signed: &SignedStatement| -> Option<Statement> { signed.unverified(limits::HELD_BYTES).ok() };
                let (old, new) = (said(&before.statement), said(&statement));
                let same = old.as_ref().map(content) == new.as_ref().map(content);
                // What says nothing new goes on from where it was: who was told needs not be told again.
                let left = if same { before.trail.left.min(trail.left) } else { trail.left };
                let replica = self.circles.get(&about.0);
                let log = |log: &LogId| replica.and_then(|replica| replica.log(&about.2, log));
                let cites = |of: &LogId| log(of).map(|held| held.opening.cites.as_slice());
                let (less, more) = match old.zip(new) {
                    Some(_) if same => (false, false),
                    Some((old, new)) => (old.adds_to(&new, cites), new.adds_to(&old, cites)),
                    None => (false, true),
                };
                // The later one counts. It is the one that says more, though its holder's clock was set back meanwhile.
                let later = if less == more { is_later(time, before.time, self.wall) } else { more };
                if later {
                    if !same {
                        (before.from, before.told, before.since) = (Vec::new(), Vec::new(), since);
                    }
                    (before.statement, before.time, before.trail) = (statement, time, Trail { left, ..trail });
                }
                far.into_iter().for_each(|node| note(&mut before.far, node));
                from.into_iter().for_each(|node| note(&mut before.from, node));
                told.into_iter().for_each(|node| note(&mut before.told, node));
                before
            }
        };
        self.keep_carried(about, carried);
        self.hand_on_soon(about);
    }

    /// One holder's statements take so much room and no more. Those that only wait for others to go with them go now, for
    /// there may be many at once, after a cut; of those that are kept the oldest gives way.
    fn keep_carried(&mut self, about: About, carried: Carried) {
        let (circle, holder, _) = about;
        if self.carried_of(circle, holder).count() >= limits::CARRIED_PER_HOLDER {
            if self.carried_of(circle, holder).any(|(about, _)| self.sync.handing.contains(about)) {
                self.hand_on();
            }
            let oldest = self.carried_of(circle, holder).min_by_key(|(_, carried)| carried.since);
            if let Some(oldest) = oldest.map(|(about, _)| *about)
                && self.carried_of(circle, holder).count() >= limits::CARRIED_PER_HOLDER
            {
                self.sync.carried.remove(&oldest);
            }
        }
        self.sync.carried.insert(about, carried);
    }

    fn carried_of(&self, circle: CircleId, holder: PublicKey) -> impl Iterator<Item = (&About, &Carried)> {
        self.sync.carried.range((circle, holder, PublicKey([0; 32]))..=(circle, holder, PublicKey([255; 32])))
    }

    fn hand_on_soon(&mut self, about: About) {
        self.sync.handing.insert(about);
        self.sync.hand_due.get_or_insert(self.now.plus(limits::HAND_ON_MS));
    }

    /// A peer just came to share a circle: what is carried may be for it, or it may be the way. What went astray is tried
    /// with it at once: after a cut it may be the first from the other side.
    pub(super) fn carried_past(&mut self, circle: CircleId, peer: &PublicKey) {
        let first = (circle, PublicKey([0; 32]), PublicKey([0; 32]));
        let last = (circle, PublicKey([255; 32]), PublicKey([255; 32]));
        let mut outgoing = Outgoing::default();
        let all: Vec<About> = self.sync.carried.range(first..=last).map(|(about, _)| *about).collect();
        for about in all {
            self.hand_on_soon(about);
            let Some(carried) = self.sync.carried.get_mut(&about) else { continue };
            let tried = carried.others().any(|other| other == peer) || about.1 == *peer;
            let goes = carried.trail.astray && !tried && carried.told.len() < 2 * limits::CARRIED_HOPS;
            if goes && !carried.far.contains(peer) {
                let trail = Trail { left: limits::HANDED_ON_ASTRAY, astray: true };
                outgoing.add(circle, *peer, carried.far.clone(), trail, &carried.statement);
                note(&mut carried.told, *peer);
            }
        }
        self.send_all(outgoing);
    }

    /// Hands on what waited for it.
    pub(super) fn hand_on(&mut self) {
        self.sync.hand_due = None;
        let now = self.now;
        self.sync.carried.retain(|_, carried| carried.since.plus(limits::CARRIED_MS) > now);
        let mut outgoing = Outgoing::default();
        for about in std::mem::take(&mut self.sync.handing) {
            let Some(carried) = self.sync.carried.remove(&about) else { continue };
            if let Some(rest) = self.send_off(&about, carried, &mut outgoing) {
                self.sync.carried.insert(about, rest);
            }
        }
        self.send_all(outgoing);
    }

    /// Sends a statement to those it is for, or nearer to them; gives it back if it is to be kept for some of them.
    fn send_off(&self, about: &About, mut carried: Carried, outgoing: &mut Outgoing) -> Option<Carried> {
        let (circle, _, author) = about;
        let sharing: BTreeSet<PublicKey> = self.sync.sharing(circle).into_iter().map(|(peer, _)| peer).collect();
        let concerned = self.concerned(circle, author);
        if !carried.trail.astray && carried.trail.left == 0 {
            // It went in a ring: what was known of the way is no longer so, as after a cut.
            carried.trail = Trail { left: limits::HANDED_ON_ASTRAY, astray: true };
        }
        let mut hops: BTreeMap<PublicKey, Vec<PublicKey>> = BTreeMap::new();
        let mut astray: BTreeSet<PublicKey> = BTreeSet::new();
        let mut there = Vec::new();
        for target in std::mem::take(&mut carried.far).into_iter().filter(|target| concerned.contains(target)) {
            match self.way(about, &target, &carried, &sharing) {
                Way::There => {
                    hops.entry(target).or_default();
                    there.push(target);
                }
                Way::Nearer(hop) if !carried.trail.astray => hops.entry(hop).or_default().push(target),
                Way::Nearer(hop) | Way::Astray(hop) => {
                    hops.entry(hop).or_default().push(target);
                    astray.insert(hop);
                    note(&mut carried.far, target);
                }
                Way::Nowhere => note(&mut carried.far, target),
            }
        }
        if carried.trail.astray && !there.is_empty() {
            outgoing.arrived(about, &carried, &there, None);
        }
        if !astray.is_empty() {
            carried.trail = Trail { left: carried.trail.left.min(limits::HANDED_ON_ASTRAY), astray: true };
        }
        if !hops.is_empty() {
            carried.trail.left = carried.trail.left.saturating_sub(1);
        }
        for (hop, to) in hops {
            if !astray.contains(&hop) {
                let far = to.iter().copied().chain(there.contains(&hop).then_some(hop)).collect();
                let handed = Carried::new(carried.statement.clone(), carried.time, self.now, far);
                outgoing.handed.push((hop, (*about, handed)));
            }
            outgoing.add(*circle, hop, to, carried.trail, &carried.statement);
        }
        astray.into_iter().for_each(|hop| note(&mut carried.told, hop));
        (!carried.far.is_empty()).then_some(carried)
    }

    fn way(&self, about: &About, target: &PublicKey, carried: &Carried, sharing: &BTreeSet<PublicKey>) -> Way {
        let (circle, holder, author) = about;
        if sharing.contains(target) {
            return Way::There;
        }
        if carried.trail.left == 0 {
            return Way::Nowhere;
        }
        let Carried { from, told, .. } = carried;
        // Back to its holder it goes only once it is astray, to be tried elsewhere.
        let untried = |peer: &&PublicKey| sharing.contains(*peer) && !from.contains(peer);
        let open = |peer: &&PublicKey| untried(peer) && (carried.trail.astray || *peer != holder);
        let toward = |node: &PublicKey| self.sync.toward.get(&(*circle, *node)).filter(open);
        let with_author = (!carried.trail.astray).then_some(author);
        let known = toward(target).or_else(|| with_author.filter(open).or_else(|| toward(with_author?)));
        match known {
            // It went there when no way was known, and is on its way or came to an end there.
            Some(peer) if told.contains(peer) => return Way::Nowhere,
            Some(peer) => return Way::Nearer(*peer),
            None if told.len() >= limits::CARRIED_HOPS => return Way::Nowhere,
            None => {}
        }
        // Any is as good as another; each node tries others than its neighbour does.
        let untold = |peer: &&PublicKey| sharing.contains(*peer) && !told.contains(peer);
        let others = sharing.iter().filter(untried).filter(untold).filter(|peer| *peer != holder);
        let next = others.min_by_key(|peer| distance(&self.me.0, &peer.0, &target.0));
        // Whoever made it, or gave it, tries another as soon as it comes back.
        let next = next.or_else(|| [holder].into_iter().chain(from).find(untold));
        next.map_or(Way::Nowhere, |peer| Way::Astray(*peer))
    }

    /// A peer is there no more: what was handed to it just now may not have arrived.
    pub(super) fn hand_on_otherwise(&mut self, peer: &PublicKey) {
        self.hand_on_again(peer, None);
    }

    /// A peer began to share a circle anew, and may not have heard what was handed to it just before.
    pub(super) fn hand_on_anew(&mut self, peer: &PublicKey, circle: CircleId) {
        self.hand_on_again(peer, Some(circle));
        self.carried_past(circle, peer);
    }

    fn hand_on_again(&mut self, peer: &PublicKey, only: Option<CircleId>) {
        let now = self.now;
        let Some(handed) = self.sync.handed.get_mut(peer) else { return };
        let in_doubt = |(about, _): &(About, Carried)| only.is_none_or(|circle| about.0 == circle);
        let (again, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(handed).into_iter().partition(in_doubt);
        if rest.is_empty() {
            self.sync.handed.remove(peer);
        } else {
            *handed = rest;
        }
        for (about, handed) in again.into_iter().filter(|(_, handed)| may_be_lost(handed, now)) {
            self.carry(about, Carried { since: now, ..handed });
        }
    }

    /// What was handed on a while ago has arrived, or its peer would be gone.
    pub(super) fn forget_handed(&mut self) {
        let now = self.now;
        self.sync.handed.retain(|_, of_peer| {
            of_peer.retain(|(_, handed)| may_be_lost(handed, now));
            !of_peer.is_empty()
        });
    }

    /// Sends to each neighbour what goes there.
    pub(super) fn send_all(&mut self, outgoing: Outgoing) {
        for (hop, handed) in outgoing.handed {
            let of_peer = self.sync.handed.entry(hop).or_default();
            if of_peer.len() == limits::HANDED_AT_ONCE {
                of_peer.pop_front();
            }
            of_peer.push_back(handed);
        }
        for ((circle, peer), arrivals) in outgoing.arrivals {
            let Some(tag) = self.tag_for(&peer, &circle) else { continue };
            for arrivals in arrivals.chunks(limits::HANDED_AT_ONCE) {
                self.send(&peer, &Frame::Arrived { tag, arrivals: arrivals.to_vec() });
            }
        }
        for ((circle, hop), bundles) in outgoing.bundles {
            let Some(tag) = self.tag_for(&hop, &circle) else { continue };
            if let [Bundle { to, statements, .. }] = bundles.as_slice()
                && let ([], [statement]) = (to.as_slice(), statements.as_slice())
            {
                self.send(&hop, &Frame::Held { tag, statement: statement.clone() });
                continue;
            }
            let (mut frame, mut count, mut bytes): (Vec<Bundle>, usize, usize) = (Vec::new(), 0, 0);
            for Bundle { to, trail, statements } in bundles {
                frame.push(Bundle { to: to.clone(), trail, statements: Vec::new() });
                for statement in statements {
                    if count == limits::HANDED_AT_ONCE || bytes > limits::HANDED_BYTES {
                        let next = vec![Bundle { to: to.clone(), trail, statements: Vec::new() }];
                        let bundles = std::mem::replace(&mut frame, next);
                        self.send(&hop, &Frame::HandOn { tag, bundles });
                        (count, bytes) = (0, 0);
                    }
                    (count, bytes) = (count + 1, bytes + statement.bytes().len());
                    frame.last_mut().into_iter().for_each(|last| last.statements.push(statement.clone()));
                }
            }
            self.send(&hop, &Frame::HandOn { tag, bundles: frame });
        }
    }

    /// A peer hands on statements that are meant for others, or for this node among others.
    pub(super) fn handed_on(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        bundles: Vec<Bundle>,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        if bundles.iter().map(|bundle| bundle.statements.len()).sum::<usize>() > limits::HANDED_AT_ONCE {
            self.fault(peer, circle, "more statements of what is held than go into one frame".to_owned());
            return Ok(());
        }
        for Bundle { to, trail, statements } in bundles {
            let trail = Trail { left: trail.left.min(limits::HANDED_ON), ..trail };
            for statement in statements {
                self.one_handed_on(peer, circle, statement, &to, trail, store)?;
            }
        }
        Ok(())
    }

    fn one_handed_on(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        signed: SignedStatement,
        to: &[PublicKey],
        trail: Trail,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let Some(statement) = self.verified(peer, circle, &signed) else { return Ok(()) };
        let Statement { holder, author, time, .. } = statement;
        let counts = |node: &PublicKey| self.circles.get(&circle).is_some_and(|replica| replica.counts(node));
        let mut far = Vec::new();
        // What says more than a usual one goes to whom its holder meets, and no further.
        if !to.is_empty() && signed.bytes().len() <= limits::CARRIED_BYTES && counts(&holder) && counts(&author) {
            let concerned = self.concerned(&circle, &author);
            let meant = |node: &&PublicKey| concerned.contains(node) && **node != holder && *node != peer;
            to.iter().filter(meant).for_each(|node| note(&mut far, *node));
        }
        let mut told = Vec::new();
        if holder == self.me {
            if far.is_empty() || !self.holds_all_of(circle, &statement) {
                // It is for nobody, or was made before this node was put back to an old backup and says more than is here
                // now.
                return Ok(());
            }
            // An own one that comes back came to an end there.
            told.push(*peer);
        } else {
            self.stated_by(peer, circle, holder);
            self.take_statement(statement, store)?;
        }
        if !far.is_empty() {
            let carried = Carried { statement: signed, time, since: self.now, trail, far, from: vec![*peer], told };
            self.carry((circle, holder, author), carried);
        }
        Ok(())
    }

    fn holds_all_of(&self, circle: CircleId, statement: &Statement) -> bool {
        let replica = self.circles.get(&circle);
        let held = |log: &LogId| replica.and_then(|replica| replica.log(&statement.author, log));
        let said = few_cited(&statement.heads, |log| held(log).map(|held| held.opening.cites.as_slice()));
        said.values().all(|line| line.height <= held(&line.log).map_or(0, |held| held.durable))
    }

    /// A peer that has statements which are kept here says who has got them.
    pub(super) fn arrived(&mut self, peer: &PublicKey, circle: CircleId, arrivals: Vec<Arrival>) {
        if arrivals.len() > limits::HANDED_AT_ONCE {
            return self.fault(peer, circle, "more statements that arrived than go into one frame".to_owned());
        }
        let mut outgoing = Outgoing::default();
        for Arrival { holder, author, time, at } in arrivals {
            let about = (circle, holder, author);
            let Some(carried) = self.sync.carried.get_mut(&about) else { continue };
            // Whoever never had it cannot know, and an earlier one says less.
            if carried.time > time || !carried.others().any(|other| other == peer) {
                continue;
            }
            let reached: Vec<PublicKey> = carried.far.extract_if(.., |target| at.contains(target)).collect();
            if !reached.is_empty() {
                outgoing.arrived(&about, carried, &reached, Some(peer));
            }
            if carried.far.is_empty() {
                self.sync.carried.remove(&about);
            }
        }
        self.send_all(outgoing);
    }

    /// How many statements of others this node carries, and their bytes: at most [`limits::CARRIED_PER_HOLDER`] of
    /// each member of each circle.
    pub fn carries(&self) -> (usize, usize) {
        let others = self.sync.carried.iter().filter(|((_, holder, _), _)| *holder != self.me);
        others.fold((0, 0), |(count, bytes), (_, carried)| (count + 1, bytes + carried.statement.bytes().len()))
    }
}
