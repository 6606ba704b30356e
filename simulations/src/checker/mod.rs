//! Checkers: one file per promise. A checker sees what happens as it happens, and looks at the whole world when it is
//! calm; what it finds ends the life.
//!
//! To add one: a file here with a type that implements [`Checker`], and a line in [`all`].

mod history;
mod i10_no_self_fork;
mod i11_markings;
mod i1_readers;
mod i2_alarms;
mod i2_certified;
mod i3_durable;
mod i3_kept;
mod i4_convergence;
mod i5_aside;
mod i5_authentic;
mod i6_listed;
mod i6_retracted;
mod i7_bounded;
mod i7_disk;
mod i7_quota;
mod i8_no_single_point;
mod i9_current;
mod i9_honest;
mod i9_unopenable;
mod liveness;
mod retention;
mod succession;

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Domain, Hash};
use cwn_engine::{
    input::{Command, CommandId},
    log::{CircleId, EntryBytes, Header, LogKey},
    output::{CommandRefusal, Event, Reply},
    store::{Read, Write},
    wire::Frame,
};

use crate::world::{Node, World, read_record};

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    /// Which promise.
    pub(crate) promise: &'static str,
    /// Simulated milliseconds since the start.
    pub(crate) at: u64,
    /// What was seen.
    pub(crate) story: String,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A node started on what its disk held.
    Started { node: usize },
    /// The store of a node takes no more writes, and the node answers who reads.
    StandsStill { node: usize },
    /// A node ended a session because of its peer.
    Disconnected { node: usize, peer: usize, reason: &'a str },
    /// A node sent a frame on a live stream; what it says when the node is honest.
    Sent { from: usize, to: usize, frame: Option<&'a Frame> },
    /// A frame on a live stream arrives.
    Heard { node: usize, from: usize },
    /// A node sends entries of a log to a peer.
    ServedRun { from: usize, to: usize, key: &'a LogKey },
    /// A node's engine wants something stored; `fresh` when it is an entry that the node itself wrote just now.
    HandedToStore { node: usize, write: &'a Write, fresh: bool },
    /// A person gives a command.
    Asked { node: usize, id: CommandId, command: &'a Command },
    /// A command was answered.
    Replied { node: usize, id: CommandId, reply: &'a Result<Reply, CommandRefusal> },
    /// A node accepts a log up to a height.
    Accepted { node: usize, key: LogKey, height: u64 },
    /// A node tells its lists that an entry is taken back, or is no longer.
    Retracted { node: usize, key: LogKey, seq: u64, hash: Hash, retracted: bool },
    /// A node was handed the keys of older epochs of a circle.
    Given { node: usize, circle: &'a CircleId, epochs: &'a [Hash] },
    /// A node told something.
    Noted { node: usize, event: &'a Event },
}

/// Holds lives to one promise.
pub(crate) trait Checker {
    /// Its name: the invariant's number, or a word.
    fn promise(&self) -> &'static str;

    /// Something happened.
    fn saw(&mut self, _world: &World, _seen: &Seen<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Everybody runs and can reach everybody, most of the time to agree is over, and so many minutes of it are left.
    fn quiet(&mut self, _world: &World, _minutes: u64) {}

    /// Everybody runs, can reach everybody, and had time.
    fn calm(&mut self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

/// Whether those who count agree by now.
pub(crate) fn agree(world: &World) -> bool {
    i4_convergence::Convergence.calm(world).is_ok()
}

/// Whether any of these members can send an epoch record.
fn can_send_record(world: &World, members: &[usize], circle: &CircleId, record: &Hash) -> bool {
    members.iter().any(|member| matches!(world.nodes[*member].disk.record(circle, record), Ok(Some(_))))
}

/// Logs of which what stands from a place on cannot be sent.
#[derive(Debug, Default)]
struct Unsendable(BTreeMap<LogKey, u64>);

impl Unsendable {
    /// How many entries of a log can be sent at most.
    fn end(&self, key: &LogKey) -> u64 {
        self.0.get(key).copied().unwrap_or(u64::MAX)
    }
}

/// The operations of a circle that rot took from the last of these members that knew them.
fn gone(world: &World, members: &[usize], circle: &CircleId) -> Vec<Hash> {
    let Some(history) = world.truth.histories.get(circle) else { return Vec::new() };
    let rotted = world.truth.rotted.range((*circle, Hash([0; 32]))..=(*circle, Hash([255; 32])));
    let gone = rotted.filter(|((_, hash), (key, seq))| {
        let has = |member: &usize| {
            let Node { heard, disk, .. } = &world.nodes[*member];
            let heard = heard.get(circle).is_some_and(|heard| heard.contains(hash));
            heard || disk.can_read(key, *seq, *hash)
        };
        history.has(hash) && !members.iter().any(has)
    });
    gone.map(|((_, hash), _)| *hash).collect()
}

/// The logs of a circle in which something stands that nobody can take from these members, and where: further than that
/// nobody can take the log of them. It is sealed to an epoch whose record rot took from the last of them that had it, or it
/// builds on an operation that rot took so, itself or by the record. Who made the epoch may have left the circle.
fn unsendable(world: &World, members: &[usize], circle: &CircleId) -> Unsendable {
    let mut unsendable = Unsendable::default();
    let gone = gone(world, members, circle);
    let builds_on_gone = |heads: &[Hash]| {
        let past = world.truth.histories.get(circle).filter(|_| !gone.is_empty()).map(|history| history.up_to(heads));
        past.is_some_and(|past| gone.iter().any(|hash| past.contains(hash)))
    };
    let disks = || members.iter().map(|member| &world.nodes[*member].disk);
    let rotten = disks().flat_map(|disk| disk.rotten_records(circle));
    let mut lost: BTreeSet<&Hash> = rotten.filter(|record| !can_send_record(world, members, circle, record)).collect();
    if !gone.is_empty() {
        let records = disks().flat_map(|disk| &disk.held().records).filter(|((of, _), _)| of == circle);
        let unverifiable = |bytes: &[u8]| read_record(bytes).is_some_and(|record| builds_on_gone(&record.heads));
        lost.extend(records.filter(|(_, bytes)| unverifiable(bytes)).map(|((_, hash), _)| hash));
    }
    if lost.is_empty() && gone.is_empty() {
        return unsendable;
    }
    for (key, log) in disks().flat_map(|disk| &disk.held().logs).filter(|(key, _)| key.circle == *circle) {
        let epoch = |entry: &EntryBytes| Header::from_bytes(&entry.header).ok().and_then(|header| header.epoch);
        let of_lost = |entry: &EntryBytes| epoch(entry).is_some_and(|epoch| lost.contains(&epoch));
        if let Some(seq) = log.iter().position(|(hash, entry)| of_lost(entry) || builds_on_gone(&[*hash])) {
            let lowest = unsendable.0.entry(*key).or_insert(seq as u64);
            *lowest = (seq as u64).min(*lowest);
        }
    }
    unsendable
}

/// Whether an entry is held, can be read back, and is as its author signed it.
fn is_signed(node: &Node, key: &LogKey, seq: u64) -> bool {
    let entry = node.disk.entry(key, seq).ok().flatten();
    entry.is_some_and(|entry| key.author.verify(Domain::ENTRY, &entry.header, &entry.signature).is_ok())
}

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(i1_readers::Readers),
        Box::new(i2_certified::Certified::default()),
        Box::new(i2_alarms::Alarms),
        Box::new(i3_durable::Durable::default()),
        Box::new(i3_kept::Kept::default()),
        Box::new(i4_convergence::Convergence),
        Box::new(i5_authentic::Authentic),
        Box::new(i5_aside::Aside),
        Box::new(i6_retracted::Retracted::default()),
        Box::new(i6_listed::Listed::default()),
        Box::new(i7_bounded::Bounded::default()),
        Box::new(i7_disk::Disks::default()),
        Box::new(i7_quota::Quotas),
        Box::new(i8_no_single_point::NoSinglePoint::default()),
        Box::new(i9_honest::Honest),
        Box::new(i9_current::Current::default()),
        Box::new(i9_unopenable::Unopenable::default()),
        Box::new(i10_no_self_fork::NoSelfFork::default()),
        Box::new(i11_markings::Markings),
        Box::new(liveness::Liveness),
        Box::new(succession::Succession),
        Box::new(history::Newcomers::default()),
        Box::new(retention::Retention::default()),
    ]
}
