//! Held statements that are handed on: to an author and to stewards that the holder is not connected with.
//!
//! A statement is signed by its holder, so that any member can carry it. It goes back the way the entries came: each
//! hands it to the neighbour from which it last got something of whoever it is for, until somebody is connected with
//! that one. Where no such neighbour is left it goes to another, or back to where it came from, to be tried elsewhere;
//! and who has it keeps it for a day, for when whoever it is for comes by. Nothing is acknowledged: a statement that is lost leaves "unknown", and the next one says more.
//!
//! Who belongs to a circle can make others carry so much and no more: the newest about each of a few authors.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{PublicKey, Time};

use super::live::distance;
use crate::engine::Engine;
use crate::held::{SignedStatement, Statement};
use crate::limits;
use crate::log::CircleId;
use crate::store::{Damage, Read};
use crate::wire::{Frame, Tag};

/// A circle, who holds, and whose logs.
pub(super) type About = (CircleId, PublicKey, PublicKey);

/// A statement on its way.
#[derive(Debug)]
pub(super) struct Carried {
    statement: SignedStatement,
    /// When it was made, as its holder says.
    time: Time,
    /// When it came here.
    since: Time,
    /// Whom it has not reached, as far as is known here.
    far: BTreeSet<PublicKey>,
    /// Who handed it over.
    from: BTreeSet<PublicKey>,
    /// To whom it was handed on.
    told: BTreeSet<PublicKey>,
}

/// Where a statement goes next.
enum Way {
    /// To this neighbour.
    Next(PublicKey),
    /// Nowhere: it went there, or nobody is left to try.
    Handed,
}

impl Engine {
    /// Something of an author came from a peer: there the way to it begins.
    pub(super) fn came_from(&mut self, peer: &PublicKey, circle: CircleId, author: PublicKey) {
        if circle != self.network && author != self.me {
            self.sync.toward.insert((circle, author), *peer);
        }
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

    /// This node stated what it holds, and whom that did not reach.
    pub(super) fn carry_own(&mut self, about: About, statement: SignedStatement, far: BTreeSet<PublicKey>) {
        if let Some(carried) = self.sync.carried.get_mut(&about) {
            carried.far.clear();
        }
        self.carry(about, statement, self.wall, far, None);
    }

    /// Takes a statement along for whom it has not reached.
    fn carry(
        &mut self,
        about: About,
        statement: SignedStatement,
        time: Time,
        far: BTreeSet<PublicKey>,
        from: Option<PublicKey>,
    ) {
        let before = self.sync.carried.remove(&about);
        let says = |signed: &SignedStatement| {
            let said = signed.unverified(limits::HELD_BYTES).ok();
            said.map(|said: Statement| (said.heads, said.unopenable))
        };
        let fresh = Carried {
            statement,
            time,
            since: self.now,
            far: BTreeSet::new(),
            from: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        let mut carried = match before {
            Some(before) if before.time > time => before,
            // It says nothing new: who was told needs not be told again.
            Some(before) if says(&before.statement) == says(&fresh.statement) => {
                Carried { since: before.since, far: before.far, from: before.from, told: before.told, ..fresh }
            }
            Some(before) => Carried { far: before.far, ..fresh },
            None => fresh,
        };
        carried.far.extend(far);
        carried.from.extend(from);
        if carried.far.is_empty() {
            return;
        }
        self.make_room(&about);
        self.sync.carried.insert(about, carried);
        self.hand_on_soon(about);
    }

    /// One holder's statements take so much room and no more: the oldest gives way.
    fn make_room(&mut self, (circle, holder, _): &About) {
        let first = (*circle, *holder, PublicKey([0; 32]));
        let last = (*circle, *holder, PublicKey([255; 32]));
        let of_holder = self.sync.carried.range(first..=last);
        if of_holder.clone().count() >= limits::CARRIED_PER_HOLDER
            && let Some((oldest, _)) = of_holder.min_by_key(|(_, carried)| carried.since)
        {
            let oldest = *oldest;
            self.sync.carried.remove(&oldest);
        }
    }

    fn hand_on_soon(&mut self, about: About) {
        self.sync.handing.insert(about);
        self.sync.hand_due.get_or_insert(self.now.plus(limits::HAND_ON_MS));
    }

    /// A peer just came to share a circle: what is carried may be for it, or it may be the way.
    pub(super) fn carried_past(&mut self, circle: CircleId) {
        let first = (circle, PublicKey([0; 32]), PublicKey([0; 32]));
        let last = (circle, PublicKey([255; 32]), PublicKey([255; 32]));
        let all: Vec<About> = self.sync.carried.range(first..=last).map(|(about, _)| *about).collect();
        all.into_iter().for_each(|about| self.hand_on_soon(about));
    }

    /// Hands on what waited for it.
    pub(super) fn hand_on(&mut self) {
        self.sync.hand_due = None;
        let now = self.now;
        self.sync.carried.retain(|_, carried| carried.since.plus(limits::CARRIED_MS) > now);
        for about in std::mem::take(&mut self.sync.handing) {
            let Some(mut carried) = self.sync.carried.remove(&about) else { continue };
            let (circle, holder, author) = about;
            let concerned = self.concerned(&circle, &author);
            let mut hops: BTreeMap<PublicKey, Vec<PublicKey>> = BTreeMap::new();
            for target in std::mem::take(&mut carried.far).intersection(&concerned) {
                if let Some(tag) = self.tag_for(target, &circle) {
                    self.send(target, &Frame::Held { tag, statement: carried.statement.clone() });
                    continue;
                }
                carried.far.insert(*target);
                if let Way::Next(hop) = self.way(&circle, &holder, target, &carried) {
                    hops.entry(hop).or_default().push(*target);
                }
            }
            for (hop, to) in hops {
                let Some(tag) = self.tag_for(&hop, &circle) else { continue };
                if carried.told.len() < limits::CARRIED_HOPS && carried.told.insert(hop) {
                    self.send(&hop, &Frame::HandOn { tag, statement: carried.statement.clone(), to });
                }
            }
            if !carried.far.is_empty() {
                self.sync.carried.insert(about, carried);
            }
        }
    }

    /// To whom a statement is handed so that it comes nearer to one that it is for.
    fn way(&self, circle: &CircleId, holder: &PublicKey, target: &PublicKey, carried: &Carried) -> Way {
        let sharing = self.sync.sharing(circle);
        let there = |peer: &PublicKey| sharing.iter().any(|(other, _)| other == peer);
        let toward = self.sync.toward.get(&(*circle, *target)).filter(|peer| there(peer));
        match toward.filter(|peer| *peer != holder && !carried.from.contains(peer)) {
            Some(peer) if carried.told.contains(peer) => return Way::Handed,
            Some(peer) => return Way::Next(*peer),
            None => {}
        }
        let known = |peer: &PublicKey| peer == holder || carried.from.contains(peer) || carried.told.contains(peer);
        let untold = sharing.iter().map(|(peer, _)| *peer).filter(|peer| !known(peer));
        // Any is as good as another; each node tries others than its neighbour does.
        if let Some(peer) = untold.min_by_key(|peer| distance(&self.me.0, &peer.0, &target.0)) {
            return Way::Next(peer);
        }
        // Whoever gave it tries another, as soon as it comes back.
        let back = carried.from.iter().find(|peer| there(peer) && !carried.told.contains(peer));
        back.map_or(Way::Handed, |peer| Way::Next(*peer))
    }

    /// A peer hands on a statement that is meant for others, or for this node among others.
    pub(super) fn handed_on(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        signed: SignedStatement,
        to: Vec<PublicKey>,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let Some(statement) = self.verified(peer, circle, &signed) else { return Ok(()) };
        let about = (circle, statement.holder, statement.author);
        let time = statement.time;
        let belongs = |node: &PublicKey| self.circles.get(&circle).is_some_and(|replica| replica.counts(node));
        if statement.holder == self.me {
            // It came to an end there.
            if let Some(carried) = self.sync.carried.get_mut(&about) {
                carried.from.insert(*peer);
                self.hand_on_soon(about);
            }
            return Ok(());
        }
        if !belongs(&statement.holder) || !belongs(&statement.author) {
            return Ok(());
        }
        let concerned = self.concerned(&circle, &statement.author);
        let far: BTreeSet<PublicKey> = to
            .into_iter()
            .filter(|node| concerned.contains(node) && *node != statement.holder && node != peer)
            .collect();
        self.take_statement(statement, store)?;
        // What says more than a usual one goes to whom its holder meets, and no further.
        if signed.bytes().len() <= limits::CARRIED_BYTES {
            self.carry(about, signed, time, far, Some(*peer));
        }
        Ok(())
    }

    /// How many statements of others this node carries, and their bytes: at most [`limits::CARRIED_PER_HOLDER`] of
    /// each member of each circle.
    pub fn carries(&self) -> (usize, usize) {
        let others = self.sync.carried.iter().filter(|((_, holder, _), _)| *holder != self.me);
        others.fold((0, 0), |(count, bytes), (_, carried)| (count + 1, bytes + carried.statement.bytes().len()))
    }
}
