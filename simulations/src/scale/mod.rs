//! Scale: what one node of a network costs, from fifty nodes to thousands, on the very engine and over its bytes.
//!
//! [`stage`] sets a world of nodes in circles of thirty; then nothing happens for a while, then somebody writes in
//! every circle, nodes are revoked, and a partner joins. What is measured stands in a table, a row for each size, and
//! numbers that do not hold are counted as violations. What grows with the network itself, the certificates of all
//! that every node keeps, stands in a column of its own.
//!
//! It refuses to know faults and malice: those are other scenarios'.

mod report;
mod stage;

use std::collections::BTreeSet;

use cwn_crypto::{Time, issuer_log::Statement};
use cwn_engine::{
    engine::Engine,
    input::{Audience, Command},
    log::LogKey,
    replica::{Log, Replica},
};

pub(crate) use report::Report;

use self::{
    report::{Row, Spread},
    stage::{Circle, Stage},
};
use crate::{
    disk::Disk,
    memory,
    world::{Coming, Node, START, World, name_of},
};

/// The sizes that a larger network is compared with.
const SIZES: [usize; 4] = [50, 500, 1_000, 5_000];
/// After the last start all have connected and compared within so much.
const SETTLE_MS: u64 = 180_000;
/// So long nothing happens.
const IDLE_MS: u64 = 600_000;
/// How often it is looked who has something by now.
const LOOK_MS: u64 = 20;
/// Longer than this nothing is waited for.
const PATIENCE_MS: u64 = 300_000;
/// After the last has an entry, what is said about it is said within so much.
const ECHO_MS: u64 = 10_000;
/// Nodes whose memory is measured.
const SAMPLE: usize = 40;
/// Nodes that are revoked, one after the other.
const REVOCATIONS: usize = 5;
/// What somebody writes.
const TEXT_BYTES: usize = 1_000;

/// Measures networks of the sizes up to so many nodes, and says what it is at.
pub(crate) fn run(seed: u64, nodes: usize, say: &dyn Fn(&str)) -> anyhow::Result<Report> {
    let sizes = SIZES.into_iter().filter(|size| *size < nodes).chain([nodes]);
    let measured = sizes.map(|size| measure(seed, size, &|what| say(&format!("{size} nodes, {what}"))));
    Ok(Report { rows: measured.collect::<anyhow::Result<_>>()?, peak: memory::peak() })
}

fn measure(seed: u64, nodes: usize, say: &dyn Fn(&str)) -> anyhow::Result<Row> {
    say("without circles");
    let mut bare = stage::set(seed, nodes, false)?.world;
    bare.run(SETTLE_MS);
    let sample: Vec<usize> = (0..nodes).step_by(nodes.div_ceil(SAMPLE)).collect();
    let bare = memory_of(&mut bare, &sample);

    say("connecting");
    let Stage { mut world, circles } = stage::set(seed, nodes, true)?;
    world.run(SETTLE_MS);
    let behind = circles.iter().map(|circle| behind(&world, circle)).sum();
    say("memory");
    let certificates = world.prepared.as_ref().map_or(0, |network| memory::freed_by(network.clone()));
    let alone = alone(&world)?;
    let memory = memory_of(&mut world, &sample);
    let memberships: usize =
        circles.iter().map(|circle| circle.members.iter().filter(|member| sample.contains(member)).count()).sum();
    world.run(SETTLE_MS);

    say("idle");
    let before = Traffic::of(&world);
    world.run(IDLE_MS);
    let idle = Traffic::of(&world).since(before);

    say("entries");
    // The first entry of an author brings its epoch along; the second is what entries cost from then on.
    publish(&mut world, &circles);
    world.run(ECHO_MS);
    let (before, began) = (Traffic::of(&world), world.now);
    let entries = publish(&mut world, &circles);
    world.run(ECHO_MS);
    let quiet = idle.scaled(world.now.since(began), IDLE_MS);
    let written = Traffic::of(&world).since(before).since(quiet);
    let copies: usize = circles.iter().map(|circle| circle.members.len() - 1).sum();

    say("revocations");
    let revocations = revoke(&mut world, &circles);
    say("a newcomer");
    let joined_ms = join(&mut world, &circles[0]);
    Ok(Row {
        nodes,
        circles: circles.len(),
        memory: memory / sample.len(),
        certificates,
        alone,
        membership: memory.saturating_sub(bare) / memberships.max(1),
        idle: idle.scaled(3_600_000, IDLE_MS).each(nodes),
        entry: written.each(copies),
        behind,
        entries,
        revocations,
        joined_ms,
        simulated_ms: world.now.since(START),
    })
}

/// What the engines of these nodes take together. They are ended for it, and start again at once.
fn memory_of(world: &mut World, sample: &[usize]) -> usize {
    let engines = sample.iter().filter_map(|index| world.end(*index, false)).map(memory::freed_by).sum();
    for node in sample {
        world.schedule(world.now.plus(1_000), Coming::Start { node: *node });
    }
    engines
}

/// What a node by itself takes for the network circle, shared with nobody.
fn alone(world: &World) -> anyhow::Result<usize> {
    let Some(network) = world.prepared.as_ref().map(Replica::id) else { return Ok(0) };
    let mut held = world.nodes[0].disk.held().clone();
    held.logs.retain(|key, _| key.circle == network);
    held.facts.clear();
    let mut disk = Disk::default();
    disk.restore(held);
    Ok(memory::freed_by(Engine::open(world.config(0), world.now, &disk)?))
}

/// How many members of a circle do not share it with anybody, or are not in sync with somebody they share it with.
fn behind(world: &World, circle: &Circle) -> usize {
    let in_sync = |member: &&usize| {
        let peers = world.nodes[**member].engine.iter().flat_map(|engine| engine.peers());
        let mut shared = peers.flat_map(|peer| peer.circles).filter(|(id, _)| *id == circle.id).peekable();
        shared.peek().is_some() && shared.all(|(_, caught_up)| caught_up)
    };
    circle.members.iter().filter(|member| !in_sync(member)).count()
}

/// Somebody writes in every circle. Gives back how long each entry took until the last member had it.
fn publish(world: &mut World, circles: &[Circle]) -> Spread {
    /// An entry on its way, and the members that lack it.
    struct Under<'a> {
        circle: &'a Circle,
        author: usize,
        since: Time,
        written: Option<(LogKey, u64)>,
        lack: Vec<usize>,
    }
    let mut told = world.truth.acknowledged.len();
    let mut ways: Vec<Under<'_>> = Vec::new();
    let mut took = Vec::new();
    let mut left = circles.iter();
    let end = world.now.plus(PATIENCE_MS + LOOK_MS * circles.len() as u64);
    while world.now < end {
        if let Some(circle) = left.next() {
            let author = circle.members[circle.members.len() / 2];
            let append = Command::Append {
                circle: circle.id,
                audience: Audience::Circle,
                expiry: None,
                only_when_current: false,
                kept: None,
                retracts: None,
            };
            let lack = circle.members.clone();
            ways.push(Under { circle, author, since: world.now, written: None, lack });
            world.command(author, "publish", append, Some(vec![b'x'; TEXT_BYTES]));
        } else if ways.is_empty() {
            break;
        }
        world.run(LOOK_MS);
        for entry in &world.truth.acknowledged[told..] {
            let way = ways.iter_mut().find(|way| way.author == entry.node && way.circle.id == entry.key.circle);
            way.into_iter().for_each(|way| way.written = Some((entry.key, entry.seq)));
        }
        told = world.truth.acknowledged.len();
        for way in &mut ways {
            let Some((key, seq)) = way.written else { continue };
            let has = |member: &usize| {
                let engine = world.nodes[*member].engine.as_ref();
                let replica = engine.and_then(|engine| engine.circle(&key.circle));
                replica.is_some_and(|replica| replica.accepted(&key.author, &key.log) > seq)
            };
            way.lack.retain(|member| !has(member));
            if way.lack.is_empty() {
                took.push(world.now.since(way.since));
            }
        }
        ways.retain(|way| !way.lack.is_empty());
    }
    Spread::of(took, ways.len())
}

/// Nodes are revoked, one after the other. Gives back how long it took until each other node knew.
fn revoke(world: &mut World, circles: &[Circle]) -> Spread {
    let mut took = Vec::new();
    let mut missing = 0;
    let lost = circles.iter().rev().filter_map(|circle| circle.members.last()).copied().filter(|lost| *lost != 0);
    let lost: BTreeSet<usize> = lost.take(REVOCATIONS).collect();
    for lost in lost {
        let (node, since) = (world.nodes[lost].me, world.now);
        world.truth.revoked.insert(node);
        world.say(&Statement::Revocation { node, serial: 0, reason: "lost".to_owned(), cut: Vec::new() });
        world.import_issuers_word(0);
        let lacks = |world: &World, index: usize| {
            let engine = world.nodes[index].engine.as_ref();
            engine.is_some_and(|engine| engine.word().revocation(&node).is_none())
        };
        let others = world.nodes.iter().enumerate().filter(|(_, node)| !world.truth.revoked.contains(&node.me));
        let mut lack: Vec<usize> = others.map(|(index, _)| index).collect();
        while !lack.is_empty() && world.now.since(since) < PATIENCE_MS {
            world.run(LOOK_MS);
            let before = lack.len();
            lack.retain(|index| lacks(world, *index));
            took.extend(std::iter::repeat_n(world.now.since(since), before - lack.len()));
        }
        missing += lack.len();
    }
    Spread::of(took, missing)
}

/// A partner joins: the issuer certifies its node, and a circle's founder adds it when the members know it. Gives back
/// how long it took until it has what the circle wrote and everybody there counts it; nothing when it never came to
/// that.
fn join(world: &mut World, circle: &Circle) -> Option<u64> {
    let (index, since) = (world.nodes.len(), world.now);
    world.enrol(&name_of(index), &name_of(index));
    world.import_issuers_word(0);
    let standing = |index: &usize| !world.truth.revoked.contains(&world.nodes[*index].me);
    let members: Vec<usize> = circle.members.iter().copied().filter(standing).collect();
    world.start(index);
    let newcomer = world.nodes[index].me;
    let knows = |world: &World, member: &usize| {
        world.nodes[*member].engine.as_ref().is_some_and(|engine| engine.is_certified(&newcomer))
    };
    while world.now.since(since) < PATIENCE_MS && !members.iter().all(|member| knows(world, member)) {
        world.run(LOOK_MS);
    }
    let (partner, nodes) = (world.nodes[index].partner.clone(), vec![world.nodes[index].member()]);
    world.command(circle.members[0], "add", Command::Add { circle: circle.id, partner, nodes }, None);
    while world.now.since(since) < PATIENCE_MS {
        world.run(LOOK_MS);
        let replica = |index: &usize| world.nodes[*index].engine.as_ref().and_then(|engine| engine.circle(&circle.id));
        let counts = |index: &usize| replica(index).is_some_and(|replica| replica.counts(&newcomer));
        let (Some(own), Some(founders)) = (replica(&index), replica(&circle.members[0])) else { continue };
        let has = |(key, log): (LogKey, &Log)| own.accepted(&key.author, &key.log) >= log.durable;
        if members.iter().all(counts) && founders.logs().all(has) {
            return Some(world.now.since(since));
        }
    }
    None
}

/// What nodes sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    messages: u64,
    bytes: u64,
}

impl Traffic {
    fn of(world: &World) -> Self {
        let sum = |of: fn(&Node) -> u64| world.nodes.iter().map(of).sum();
        Self { messages: sum(|node| node.messages), bytes: sum(|node| node.bytes) }
    }

    fn since(self, before: Self) -> Self {
        Self { messages: self.messages.saturating_sub(before.messages), bytes: self.bytes.saturating_sub(before.bytes) }
    }

    /// As much in a time as in another.
    fn scaled(self, to_ms: u64, from_ms: u64) -> Self {
        Self { messages: self.messages * to_ms / from_ms, bytes: self.bytes * to_ms / from_ms }
    }

    fn each(self, of: usize) -> Self {
        Self { messages: self.messages / of.max(1) as u64, bytes: self.bytes / of.max(1) as u64 }
    }
}
