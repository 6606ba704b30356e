//! What comes in a file, and from no peer.

use cwn_crypto::{encoding, issuer_log::LogId};
use cwn_engine::{
    circle::Charter,
    fork::proof_of,
    input::{Command, CommandId, Input},
    limits,
    log::{CircleId, EntryBytes, LogKey, LogKind, Payload, Stored},
    output::{Carried, CarriedCircle, CommandRefusal, Event, Reply, Rest},
};

use crate::{fork::forked, world::World};

/// Nodes that are never connected, and a circle of which the first alone knows.
fn islands(names: &[&str]) -> (World, CircleId) {
    let mut world = World::unconnected(1, names);
    for name in names {
        let (node, entries) = (world.index(name), world.issuer.entries.clone());
        world.input(node, Input::Import { entries });
    }
    world.run(50);
    let circle = world.found(&names[..1]);
    for name in &names[1..] {
        world.add(names[0], circle, name);
    }
    world.run(50);
    (world, circle)
}

fn charter(world: &World, circle: CircleId, name: &str) -> Charter {
    world.engine(name).circle(&circle).unwrap().control().unwrap().charter().clone()
}

/// The logs of one kind that a node holds of a circle.
fn logs(world: &World, name: &str, circle: CircleId, kind: LogKind) -> Vec<(LogKey, Vec<EntryBytes>)> {
    let kind_of = |entry: &EntryBytes| Stored::read(entry.clone()).unwrap().header().suite.kind();
    let held = world.node(name).store.logs.iter().filter(|(key, _)| key.circle == circle);
    let entries = held.map(|(key, log)| (*key, log.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>()));
    entries.filter(|(_, entries)| kind_of(&entries[0]) == kind).collect()
}

fn done(world: &mut World, name: &str, command: Command) -> Result<Reply, CommandRefusal> {
    let id: CommandId = world.command(name, command);
    world.run(50);
    world.reply(name, id).expect("it is replied to").clone()
}

fn carry_circle(world: &mut World, circle: CircleId, from: &str, to: &str) -> CarriedCircle {
    let charter = charter(world, circle, from).to_bytes();
    let entries = logs(world, from, circle, LogKind::Control).into_iter().flat_map(|(_, log)| log).collect();
    match done(world, to, Command::CarryCircle { charter, entries }) {
        Ok(Reply::CarriedCircle { outcome, .. }) => outcome,
        other => panic!("it came to {other:?}"),
    }
}

fn carry_run(world: &mut World, from: &str, to: &str, key: LogKey, entries: Vec<EntryBytes>) -> Carried {
    let records = world.node(from).store.records.iter().filter(|((circle, _), _)| *circle == key.circle);
    let records = records.map(|(_, bytes)| encoding::from_bytes(bytes, limits::SIGNED_RECORD_BYTES).unwrap()).collect();
    match done(world, to, Command::CarryRun { key, records, entries }) {
        Ok(Reply::Carried(carried)) => carried,
        other => panic!("it came to {other:?}"),
    }
}

/// Two nodes that share a circle by files, and the log of the first with these entries, which the second lacks.
fn shared(texts: &[&str]) -> (World, CircleId, LogKey, Vec<EntryBytes>) {
    let (mut world, circle) = islands(&["ncsc", "z-cert"]);
    for text in texts {
        world.append("ncsc", circle, text);
    }
    world.run(1_000);
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "z-cert"), CarriedCircle::Joined);
    let nothing = (LogKey { circle, author: world.key("ncsc"), log: LogId([0; 16]) }, Vec::new());
    let (key, entries) = logs(&world, "ncsc", circle, LogKind::Content).pop().unwrap_or(nothing);
    (world, circle, key, entries)
}

#[test]
fn a_circle_and_its_entries_are_taken_from_a_file_as_from_a_peer() {
    let (mut world, circle, key, entries) = shared(&["one", "two"]);
    let carried = carry_run(&mut world, "ncsc", "z-cert", key, entries.clone());
    assert_eq!(carried, Carried { taken: 2, height: 2, rest: None });
    world.expect_reads("z-cert", circle, &["one", "two"]);
    assert_eq!(world.conclusions("z-cert", circle), world.conclusions("ncsc", circle));
    // Again nothing is new.
    let again = carry_run(&mut world, "ncsc", "z-cert", key, entries);
    assert_eq!(again, Carried { taken: 0, height: 2, rest: None });
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "z-cert"), CarriedCircle::Known { taken: 0, left: 0 });
}

#[test]
fn i4_who_is_cut_off_and_gets_the_proof_of_a_fork_in_a_file_ends_where_all_end() {
    let (mut world, circle, fork) = forked(2, 3);
    world.partition(&[&["ncsc"], &["z-cert"], &["ibd"], &["ferm"]]);
    world.import("ibd", &fork.branches[0]);
    world.import("z-cert", &fork.branches[0]);
    world.import("ncsc", &fork.branches[1]);
    world.connect("ncsc", "z-cert").settle();
    assert_eq!((world.accepted("ncsc", &fork.key), world.accepted("ibd", &fork.key)), (2, 5));
    let proof = proof_of(&world.node("ncsc").store, &fork.key).unwrap().unwrap();
    let elsewhere = CircleId(world.engine("ibd").network().0);
    let command = Command::CarryFork { circle: elsewhere, proof: proof.clone() };
    assert_eq!(done(&mut world, "ibd", command), Err(CommandRefusal::NoFork));
    assert_eq!(done(&mut world, "ibd", Command::CarryFork { circle, proof }), Ok(Reply::Done));
    assert_eq!(world.accepted("ibd", &fork.key), 2);
    assert_eq!(world.knows_the_fork("ibd", &fork.key), Some(2));
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
}

#[test]
fn operations_that_build_on_what_did_not_come_are_counted_as_left() {
    let (mut world, circle, ..) = shared(&[]);
    world.enrol("ferm");
    let before = world.node("ncsc").store.logs.clone();
    world.add("ncsc", circle, "ferm");
    world.remove("ncsc", circle, "ferm");
    let (key, log) = logs(&world, "ncsc", circle, LogKind::Control).remove(0);
    assert_eq!(log.len(), before[&key].len() + 2);
    let charter = charter(&world, circle, "ncsc").to_bytes();
    let command = Command::CarryCircle { charter, entries: log[log.len() - 1..].to_vec() };
    let outcome = CarriedCircle::Known { taken: 0, left: 1 };
    assert_eq!(done(&mut world, "z-cert", command), Ok(Reply::CarriedCircle { circle, outcome }));
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "z-cert"), CarriedCircle::Known { taken: 2, left: 0 });
}

/// Found by cwn-sim (the first lives in which circles are carried by hand): who took the circle from the file noted
/// that it refuses itself.
#[test]
fn a_circle_in_a_file_that_does_not_name_this_node_is_said_to_be_so_and_blamed_on_nobody() {
    let (mut world, circle) = islands(&["ncsc"]);
    world.enrol("ferm");
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "ferm"), CarriedCircle::NotNamed);
    assert!(world.refusals_of("ferm", "ferm").is_empty());
}

#[test]
fn i3_what_was_replied_to_survives_a_crash() {
    let (mut world, circle, key, entries) = shared(&["one"]);
    carry_run(&mut world, "ncsc", "z-cert", key, entries);
    world.crash("z-cert").start("z-cert");
    world.expect_reads("z-cert", circle, &["one"]);
}

#[test]
fn i5_an_altered_entry_is_refused_and_what_stands_before_it_is_taken() {
    let (mut world, circle, key, mut entries) = shared(&["one", "two", "three"]);
    let Payload::Sealed(sealed) = &mut entries[1].payload else { panic!("nobody took it back") };
    sealed[0] ^= 1;
    let carried = carry_run(&mut world, "ncsc", "z-cert", key, entries);
    assert_eq!((carried.taken, carried.height), (1, 1));
    assert!(matches!(carried.rest, Some(Rest::Refused(why)) if why.contains("altered on the way")));
    world.expect_reads("z-cert", circle, &["one"]);
}

/// Signatures inside a run may be altered on the way: what follows vouches for their entries.
#[test]
fn i5_entries_without_a_good_signature_are_taken_with_the_later_one_that_vouches_for_them() {
    let (mut world, circle, key, mut entries) = shared(&["one", "two", "three"]);
    entries[1].signature = entries[0].signature;
    let carried = carry_run(&mut world, "ncsc", "z-cert", key, entries[..2].to_vec());
    assert_eq!((carried.taken, carried.height), (1, 1));
    let Some(Rest::Unvouched(mut tail)) = carried.rest else { panic!("{:?}", carried.rest) };
    world.expect_reads("z-cert", circle, &["one"]);
    tail.push(entries[2].clone());
    let carried = carry_run(&mut world, "ncsc", "z-cert", key, tail);
    assert_eq!(carried, Carried { taken: 2, height: 3, rest: None });
    world.expect_reads("z-cert", circle, &["one", "two", "three"]);
}

#[test]
fn i5_entries_of_another_log_than_was_said_are_refused() {
    let (mut world, circle, mut key, entries) = shared(&["one"]);
    key.author = world.key("z-cert");
    let carried = carry_run(&mut world, "ncsc", "z-cert", key, entries);
    assert!(matches!(carried.rest, Some(Rest::Refused(why)) if why.contains("another log")));
    world.expect_reads("z-cert", circle, &[]);
}

#[test]
fn entries_behind_a_gap_and_without_their_epoch_wait() {
    let (mut world, circle, key, entries) = shared(&["one", "two"]);
    let carried = carry_run(&mut world, "ncsc", "z-cert", key, entries[1..].to_vec());
    assert!(matches!(carried, Carried { taken: 0, height: 0, rest: Some(Rest::Waits(_)) }), "{carried:?}");
    let bare = Command::CarryRun { key, records: Vec::new(), entries: entries[..1].to_vec() };
    // The record came with the run before.
    assert_eq!(done(&mut world, "z-cert", bare), Ok(Reply::Carried(Carried { taken: 1, height: 1, rest: None })));
    world.expect_reads("z-cert", circle, &["one"]);
    let (mut world, _, key, entries) = shared(&["one"]);
    let bare = Command::CarryRun { key, records: Vec::new(), entries };
    let Ok(Reply::Carried(carried)) = done(&mut world, "z-cert", bare) else { panic!("it was refused") };
    assert!(matches!(carried, Carried { taken: 0, height: 0, rest: Some(Rest::Waits(_)) }), "{carried:?}");
}

#[test]
fn i1_a_circle_that_does_not_name_this_node_is_not_offered() {
    let (mut world, circle) = islands(&["ncsc", "z-cert"]);
    world.enrol("stranger");
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "stranger"), CarriedCircle::NotNamed);
    assert!(world.engine("stranger").circle(&circle).is_none());
    let key = LogKey { circle, author: world.key("ncsc"), log: LogId([1; 16]) };
    let run = Command::CarryRun { key, records: Vec::new(), entries: Vec::new() };
    assert_eq!(done(&mut world, "stranger", run), Err(CommandRefusal::UnknownCircle));
}

#[test]
fn a_carried_circle_waits_for_its_operator_where_the_rule_is_to_ask() {
    let (mut world, circle) = islands(&["ncsc", "z-cert"]);
    world.ask_before_joining("z-cert");
    world.crash("z-cert").start("z-cert");
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "z-cert"), CarriedCircle::Offered);
    assert!(world.node("z-cert").events.iter().any(|event| matches!(event, Event::Offered { .. })));
    assert_eq!(done(&mut world, "z-cert", Command::Decline { circle }), Ok(Reply::Done));
    assert_eq!(carry_circle(&mut world, circle, "ncsc", "z-cert"), CarriedCircle::Declined);
}

#[test]
fn i7_as_many_carried_offers_wait_as_one_peer_may_leave() {
    let (mut world, _) = islands(&["ncsc", "z-cert"]);
    world.ask_before_joining("z-cert");
    world.crash("z-cert").start("z-cert");
    let mut outcomes = Vec::new();
    for _ in 0..=limits::OFFERS_PER_PEER {
        let circle = world.found(&["ncsc"]);
        world.add("ncsc", circle, "z-cert");
        world.run(50);
        outcomes.push(carry_circle(&mut world, circle, "ncsc", "z-cert"));
    }
    let last = outcomes.pop().unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == CarriedCircle::Offered), "{outcomes:?}");
    assert_eq!(last, CarriedCircle::TooManyOffers);
}

#[test]
fn i9_a_file_makes_no_node_current_for_it_may_be_old() {
    let (world, circle, ..) = shared(&["one"]);
    assert_eq!(world.engine("z-cert").unheard(&circle), [crate::world::partner("ncsc")]);
}

#[test]
fn i4_a_node_that_was_fed_by_file_and_then_meets_the_others_ends_as_they_do() {
    let (mut world, circle, key, entries) = shared(&["one", "two", "three"]);
    carry_run(&mut world, "ncsc", "z-cert", key, entries[..2].to_vec());
    world.connect("ncsc", "z-cert");
    world.settle();
    world.expect_reads("z-cert", circle, &["one", "three", "two"]);
    assert_eq!(world.digest("z-cert", circle), world.digest("ncsc", circle));
}
