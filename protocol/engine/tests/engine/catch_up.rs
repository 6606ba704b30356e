//! Catching up with much from several peers at once: what that brings, and what one of them can spoil.

use cwn_crypto::{Domain, Hash, Signature, encoding};
use cwn_engine::{
    circle::Terms,
    epoch::{self, Record},
    input::Command,
    limits,
    log::{CircleId, EntryBytes, Header, LogKind, Payload},
    wire::{Frame, RunFrame, WireTip},
};

use crate::world::World;

const AUTHORS: [&str; 6] = ["a-cert", "b-cert", "c-cert", "d-cert", "e-cert", "f-cert"];
const LATE: &str = "late";
/// Bytes in a millisecond: a line of 1.6 Mbit/s, beside which all else takes no time.
const NARROW: u64 = 200;

/// A circle of six authors and one that was away while `authors` of them wrote, in all so many entries.
fn missed(authors: usize, entries: usize) -> (World, CircleId) {
    let names: Vec<&str> = AUTHORS.into_iter().chain([LATE]).collect();
    let mut world = World::new(&names);
    let circle = world.circle(&names);
    world.crash(LATE);
    for number in 0..entries {
        world.append(AUTHORS[number % authors], circle, &format!("missed {number:05} {}", "x".repeat(900)));
        world.run(5);
    }
    world.settle();
    AUTHORS.iter().for_each(|author| world.narrow_line(author, LATE, NARROW));
    (world, circle)
}

/// How many entries of a circle a node has accepted.
fn accepted(world: &World, name: &str, circle: CircleId) -> u64 {
    world.conclusions(name, circle).0.iter().map(|(_, height)| height).sum()
}

/// Connects the late one with these, and gives after how long it has everything.
fn catch_up(world: &mut World, circle: CircleId, sources: &[&str]) -> u64 {
    world.start(LATE);
    let begun = world.now;
    for source in sources {
        world.connect(LATE, source);
    }
    let all = accepted(world, sources[0], circle);
    while accepted(world, LATE, circle) < all {
        world.run(20);
        assert!(world.now.since(begun) < 600_000, "{} of {all}", accepted(world, LATE, circle));
    }
    world.now.since(begun)
}

fn time_to_catch_up(authors: usize, sources: &[&str], spoil: impl FnOnce(&mut World)) -> u64 {
    let (mut world, circle) = missed(authors, 300);
    spoil(&mut world);
    let ms = catch_up(&mut world, circle, sources);
    println!("{authors} logs from {}: {ms} ms", sources.len());
    ms
}

#[test]
fn many_logs_come_from_three_sources_at_once_and_so_in_less_time() {
    let one = time_to_catch_up(6, &AUTHORS[..1], |_| {});
    let three = time_to_catch_up(6, &AUTHORS[..3], |_| {});
    assert!(three * 4 < one * 3, "{three} ms from three, {one} ms from one");
}

/// One log is a chain: it comes from one peer at a time. See ARCHITECTURE.md for why.
#[test]
fn one_log_comes_from_three_sources_as_fast_as_from_one() {
    let one = time_to_catch_up(1, &AUTHORS[..1], |_| {});
    let three = time_to_catch_up(1, &AUTHORS[..3], |_| {});
    assert!(three * 10 <= one * 11, "{three} ms from three, {one} ms from one");
}

#[test]
fn a_source_that_sends_nothing_costs_three_one_wait_and_no_more() {
    let three = time_to_catch_up(6, &AUTHORS[..3], |_| {});
    let spoilt = time_to_catch_up(6, &AUTHORS[..3], |world| world.mute_runs(AUTHORS[0], true));
    let two = time_to_catch_up(6, &AUTHORS[1..3], |_| {});
    assert!(spoilt > three && spoilt <= two + 2 * limits::PULL_STALL_MS, "{spoilt} ms, {two} ms from the other two");
}

#[test]
fn a_source_that_sends_what_is_no_run_is_left_for_the_others() {
    let two = time_to_catch_up(6, &AUTHORS[1..3], |_| {});
    let spoilt = time_to_catch_up(6, &AUTHORS[..3], |world| world.answer_runs_with(AUTHORS[0], vec![vec![0x80]]));
    assert!(spoilt <= two * 2, "{spoilt} ms, {two} ms from the other two");
}

/// Found by cwn-sim (`--nodes 20 --hours 24 --malicious 10%`, seed 182): each operation that came had every log asked
/// of every source again, and who had been away was not up to date ten minutes after all could talk. And, with hundreds
/// of logs (seed 20505): each was asked of every source before the next was asked of any.
#[test]
fn operations_that_build_on_one_another_across_logs_are_asked_of_one_source_each() {
    let (mut world, circle) = missed(1, 1);
    let stewards = &AUTHORS[..4];
    for steward in &stewards[1..] {
        world.appoint(stewards[0], circle, steward);
    }
    world.settle();
    // A steward writes a log for each of its starts.
    let operations = 60;
    for number in 0..operations {
        let steward = stewards[usize::from(number) % stewards.len()];
        world.crash(steward).start(steward);
        for other in AUTHORS.iter().filter(|other| **other != steward) {
            world.connect(steward, other);
        }
        world.policy(steward, circle, number);
        world.run(200);
    }
    let before = world.node(LATE).pulls;
    catch_up(&mut world, circle, &AUTHORS);
    assert_eq!(world.terms(LATE, circle), operations - 1);
    let pulls = world.node(LATE).pulls - before;
    let logs = u64::from(operations) + 10;
    assert!(pulls <= 2 * logs, "{pulls} runs were asked for of {logs} logs");
}

/// After how long one that was away has the operations of two stewards, which build on one another, from `a-cert`. With
/// `spoil` a member has sent it something else of one of these logs before.
fn time_to_hear_stewards(operations: u8, spoil: bool) -> u64 {
    let names = ["a-cert", "b-cert", "liar", LATE];
    let mut world = World::new(&names);
    let circle = world.circle(&names);
    world.appoint("a-cert", circle, "b-cert");
    world.settle();
    world.crash(LATE).disconnect("liar", "a-cert").disconnect("liar", "b-cert");
    for number in 0..operations {
        world.policy(["a-cert", "b-cert"][usize::from(number) % 2], circle, number);
        world.run(200);
    }
    world.settle().start(LATE);
    if spoil {
        world.connect("liar", LATE).run(2_000);
        let author = world.key("b-cert");
        let replica = world.engine("b-cert").circle(&circle).unwrap();
        let (key, log) = replica.logs_of(&author).find(|(_, log)| log.kind == LogKind::Control).unwrap();
        let height = log.height + 1;
        let tip = WireTip { author, log: key.log, first: true, height, head: Some(Hash([3; 32])), forked: false };
        let last = world.node("b-cert").store.logs[&key].last().unwrap().1.clone();
        let payload = b"x".to_vec();
        let header = Header {
            seq: height - 1,
            previous: Some(Hash([9; 32])),
            payload_hash: Hash::of(Domain::PAYLOAD, &[&payload]),
            payload_length: 1,
            opening: None,
            ..Header::from_bytes(&last.header).unwrap()
        };
        let header = encoding::to_bytes(&header);
        let forged = EntryBytes { header, signature: Signature([1; 64]), payload: Payload::Sealed(payload) };
        // Its heads are unknown, so that what comes with it waits before anybody looks at a signature.
        let record = Record {
            circle,
            maker: world.key("liar"),
            heads: vec![Hash([7; 32])],
            left_out: Vec::new(),
            commitment: Hash([1; 32]),
            wrapped: Vec::new(),
            made: world.now,
        };
        let records = vec![epoch::sign(&record, &world.node("liar").key)];
        world.answer_runs_with("liar", vec![RunFrame { records, entries: vec![forged] }.to_bytes()]);
        let tag = world.tag("liar", LATE, circle);
        world.send_raw("liar", LATE, Frame::Have { tag, tips: vec![tip] }.to_bytes());
        world.run(500);
    }
    let begun = world.now;
    world.connect(LATE, "a-cert");
    while world.terms(LATE, circle) != operations - 1 {
        world.run(20);
        assert!(world.now.since(begun) < 600_000, "it has the policy {}", world.terms(LATE, circle));
    }
    world.now.since(begun)
}

#[test]
fn i7_a_member_that_sends_something_else_of_a_stewards_log_holds_up_nothing_that_others_send() {
    let (alone, spoilt) = (time_to_hear_stewards(60, false), time_to_hear_stewards(60, true));
    assert!(spoilt < 2 * alone + 1_000, "{spoilt} ms, {alone} ms without it");
}

#[test]
fn what_a_full_line_lost_is_said_again_once_there_is_room() {
    // The welcome is lost, then the tag by which a newcomer shows that it has the circle.
    for (from, to) in [("ncsc", "z-cert"), ("z-cert", "ncsc")] {
        let mut world = World::new(&["ncsc", "z-cert"]);
        let circle = world.found(&["ncsc"]);
        world.clog_line(from, to);
        world.add("ncsc", circle, "z-cert");
        world.run(1_000);
        world.free_line(from, to).run(1_000);
        world.append("ncsc", circle, "here");
        world.append("z-cert", circle, "there");
        world.run(1_000);
        for name in ["ncsc", "z-cert"] {
            world.expect_reads(name, circle, &["here", "there"]);
        }
    }
}

#[test]
fn i7_circles_with_long_histories_are_handed_over_one_after_the_other() {
    let mut world = World::new(&["ncsc", "z-cert"]);
    world.ask_before_joining("z-cert");
    world.crash("z-cert").start("z-cert");
    let circles: Vec<CircleId> = (0..4).map(|_| world.found(&["ncsc"])).collect();
    for circle in circles.iter().copied() {
        for number in 0..8 {
            let terms = Terms { policy: vec![number; 100_000], ..Terms::default() };
            world.command("ncsc", Command::Policy { circle, terms });
        }
        world.add("ncsc", circle, "z-cert");
    }
    let before = world.node("ncsc").frame_bytes;
    world.connect("ncsc", "z-cert").run(5_000);
    let at_once = world.node("ncsc").frame_bytes - before;
    assert!(at_once < 2 << 20, "{at_once} bytes, where a line's queue has four MiB for all that is said");
    world.settle();
    assert_eq!(world.engine("z-cert").offers().count(), circles.len());
}
