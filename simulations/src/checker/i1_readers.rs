//! I1: nobody opens what did not name it, and nobody outside a circle is told anything of it.
//!
//! The simulation wraps every epoch key itself, so it knows for whom. That must be exactly those whom the rules, read
//! by the oracle at the control heads that the record names, count in.

use std::collections::BTreeSet;

use cwn_crypto::{
    Hash, encoding,
    seal::{Recipient, Seal, StandIn},
};
use cwn_engine::{
    circle::{Charter, History},
    log::{CircleId, Header},
    store::Write,
    wire::{Frame, GivenKey},
};

use super::{Checker, Seen};
use crate::{
    oracle::Heard,
    people::short,
    world::{Node, World, read_record},
};

#[derive(Debug)]
pub(crate) struct Readers;

impl Checker for Readers {
    fn promise(&self) -> &'static str {
        "I1"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let (Seen::HandedToStore { node, .. } | Seen::ServedRun { from: node, .. } | Seen::Sent { from: node, .. }) =
            seen
        else {
            return Ok(());
        };
        if !world.nodes[*node].is_honest() {
            return Ok(());
        }
        match seen {
            Seen::HandedToStore { node, write: Write::Record { circle, bytes, .. }, .. } => {
                wrapped_as_counted(world, *node, circle, bytes)
            }
            Seen::HandedToStore { node, write: Write::Entry(entry), fresh: true } => match entry.header().epoch {
                Some(epoch) => sealed_to_those_who_count(world, *node, &entry.key().circle, &epoch),
                None => Ok(()),
            },
            Seen::ServedRun { from, to, key } => told(world, *from, *to, &key.circle, "entries"),
            Seen::Sent { from, to, frame: Some(frame) } => match frame {
                Frame::Push { entry, .. } => {
                    let header: Option<Header> = encoding::from_bytes(&entry.header, 1 << 16).ok();
                    header.map_or(Ok(()), |header| told(world, *from, *to, &header.circle, "an entry"))
                }
                Frame::Tips { tips, .. } | Frame::Have { tips, .. } => {
                    let place = tips.first().and_then(|tip| world.truth.logs.get(&(tip.author, tip.log)));
                    match place.map(|(circle, ..)| *circle) {
                        Some(circle) => told(world, *from, *to, &circle, "heights"),
                        None => Ok(()),
                    }
                }
                Frame::Keys { keys, .. } => keys.iter().try_for_each(|key| let_in(world, *from, *to, key)),
                Frame::Welcome { charter, .. } => match Charter::from_bytes(charter) {
                    Ok(charter) => told(world, *from, *to, &charter.id(), "the charter"),
                    Err(_) => Ok(()),
                },
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (circle, history) in &world.truth.histories {
            let named = history.ever_named();
            for node in world.nodes.iter().filter(|node| !named.contains(&node.me)) {
                let held = node.disk.held();
                let logs = held.logs.keys().any(|key| key.circle == *circle);
                let records = held.records.keys().any(|(of, _)| of == circle);
                let facts = held.facts.keys().any(|key| key.windows(32).any(|part| part == circle.0.0));
                if logs || records || facts {
                    return Err(format!("{} holds something of {}, which never named it", node.name, short(circle)));
                }
            }
        }
        Ok(())
    }
}

/// A record that a node made is wrapped to those who counted at its heads, but those it says it left out.
fn wrapped_as_counted(world: &World, node: usize, circle: &CircleId, bytes: &[u8]) -> Result<(), String> {
    let Some(record) = read_record(bytes) else { return Ok(()) };
    if record.maker != world.nodes[node].me {
        return Ok(());
    }
    let heard = world.truth.histories.get(circle).map(|history| history.up_to(&record.heads)).unwrap_or_default();
    let Some(conclusion) = world.conclude_at(circle, &heard) else { return Ok(()) };
    let named = conclusion.members.iter().filter(|(node, _)| !record.left_out.contains(node));
    let named: BTreeSet<Recipient> = named.map(|(_, belongs)| belongs.recipient).collect();
    let wrapped: BTreeSet<Recipient> =
        world.truth.wrapped.get(&record.commitment).into_iter().flatten().copied().collect();
    if named == wrapped {
        return Ok(());
    }
    let name = &world.nodes[node].name;
    Err(format!(
        "{name} wrapped an epoch of {} to {} keys, the rules name {}",
        short(circle),
        wrapped.len(),
        named.len()
    ))
}

/// The key of an older epoch is handed to who counts, and to nobody else, if the policy of its time let newcomers in.
fn let_in(world: &World, from: usize, to: usize, given: &GivenKey) -> Result<(), String> {
    let (me, peer) = (&world.nodes[from], &world.nodes[to]);
    let held = me.disk.held();
    let Some(((circle, _), bytes)) = held.records.iter().find(|((_, hash), _)| *hash == given.epoch) else {
        return Err(format!("{} hands over a key of an epoch whose record it does not hold", me.name));
    };
    told(world, from, to, circle, "a key")?;
    let Some(record) = read_record(bytes) else { return Ok(()) };
    let heard = world.truth.histories.get(circle).map(|history| history.up_to(&record.heads)).unwrap_or_default();
    let Some(conclusion) = world.conclude_at(circle, &heard) else { return Ok(()) };
    let history = world.truth.histories.get(circle).map(|history| history.terms(&conclusion).history);
    if history != Some(History::All) {
        return Err(format!("{} hands {} a key of {} that no policy let it have", me.name, peer.name, short(circle)));
    }
    let opens = |node: &&Node| StandIn.open_with_key(&node.sealing, &given.wrapped, 64).is_ok();
    // A clone has the keys of its twin.
    match world.nodes.iter().filter(opens).find(|node| node.sealing.recipient() != peer.sealing.recipient()) {
        Some(other) => Err(format!("{} hands {} a key that {} can open", me.name, peer.name, other.name)),
        None => Ok(()),
    }
}

/// What a node seals is sealed to those who count, as it knows it, and to nobody whom it knows to be revoked.
fn sealed_to_those_who_count(world: &World, node: usize, circle: &CircleId, epoch: &Hash) -> Result<(), String> {
    let me = &world.nodes[node];
    let Some(bytes) = me.disk.held().records.get(&(*circle, *epoch)) else {
        return Err(format!("{} sealed to an epoch in {} before it was durable", me.name, short(circle)));
    };
    let Some(record) = read_record(bytes) else { return Ok(()) };
    let nothing = Heard::default();
    let Some(conclusion) = world.conclude(circle, me.known.get(circle).unwrap_or(&nothing)) else { return Ok(()) };
    let me = &world.nodes[node];
    let Some(engine) = &me.engine else { return Ok(()) };
    let reads = |member: &cwn_crypto::PublicKey| *member == me.me || engine.is_certified(member);
    let count = conclusion.members.iter().filter(|(member, _)| reads(member));
    let count: BTreeSet<Recipient> = count.map(|(_, belongs)| belongs.recipient).collect();
    let wrapped: BTreeSet<Recipient> =
        world.truth.wrapped.get(&record.commitment).into_iter().flatten().copied().collect();
    if let Some(stranger) = wrapped.difference(&count).next() {
        let stranger = world.nodes.iter().find(|node| node.sealing.recipient() == *stranger);
        let stranger = stranger.map_or("?", |node| node.name.as_str());
        return Err(format!("{} sealed in {} to {stranger}, who does not count", me.name, short(circle)));
    }
    Ok(())
}

/// A node tells of a circle only to whom it counts there, by the operations it durably holds, or by some of those that its
/// store is writing.
fn told(world: &World, from: usize, to: usize, circle: &CircleId, what: &str) -> Result<(), String> {
    let (me, peer, nothing) = (&world.nodes[from], &world.nodes[to], Heard::default());
    let counts = |heard: &Heard| {
        world.conclude(circle, heard).is_none_or(|conclusion| conclusion.members.contains_key(&peer.me))
    };
    // Whoever is removed is told the operation that removes it; and an operation counts before it is durable here.
    let heard = [Some(&me.heard), Some(&me.known), me.heard_before.as_ref()];
    if heard.into_iter().flatten().any(|heard| counts(heard.get(circle).unwrap_or(&nothing))) {
        return Ok(());
    }
    // Of many that are being written one may have let it in, and a later one out again.
    let mut heard = me.heard.get(circle).cloned().unwrap_or_default();
    for (_, operation) in me.coming.iter().filter(|(of, _)| of == circle) {
        heard.insert(*operation);
        if counts(&heard) {
            return Ok(());
        }
    }
    Err(format!("{} tells {} {what} of {}, where it does not count", me.name, peer.name, short(circle)))
}
