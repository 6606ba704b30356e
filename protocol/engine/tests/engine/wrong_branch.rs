//! Held, or on its way to the store, is another branch of a log than the one that a cut names.

use cwn_crypto::{Domain, Hash};
use cwn_engine::{
    input::Input,
    log::{CircleId, EntryBytes, LogKey},
    wire::{Frame, RunFrame, WireTip},
};

use crate::fork::{Fork, forked};
use crate::world::World;

/// `ibd` holds what both branches of a log of `ferm` have in common, two entries, and knows that `ferm` was removed with
/// a cut that names three more of the second branch. `z-cert`, which sends no runs, is all it is connected with.
fn cut_known_before_its_branch() -> (World, CircleId, Fork) {
    let (mut world, circle, fork) = forked(2, 3);
    world.hand("ibd", circle, &fork.branches[0][..2]);
    world.settle();
    world.partition(&[&["ncsc", "z-cert", "ferm"], &["ibd"]]);
    world.hand("z-cert", circle, &fork.branches[1]);
    world.crash("ferm");
    world.settle();
    world.remove("ncsc", circle, "ferm");
    world.settle();
    world.hear_operations(circle, "ncsc", "ibd");
    world.mute_runs("z-cert", true);
    world.connect("z-cert", "ibd").run(1_000);
    assert_eq!(held(&world, "ibd", &fork.key), 2);
    (world, circle, fork)
}

fn held(world: &World, name: &str, key: &LogKey) -> u64 {
    world.engine(name).circle(&key.circle).unwrap().log(&key.author, &key.log).map_or(0, |log| log.height)
}

fn stored<'w>(world: &'w World, name: &str, key: &LogKey, seq: usize) -> Option<&'w EntryBytes> {
    world.node(name).store.logs.get(key)?.get(seq).map(|(_, bytes)| bytes)
}

impl World {
    fn prove_raw(&mut self, from: &str, to: &str, circle: CircleId, fork: &Fork) {
        let tag = self.tag(from, to, circle);
        self.send_raw(from, to, Frame::Fork { tag, proof: fork.proof(2) }.to_bytes());
    }

    /// `ibd` ends with the branch that the cut names.
    fn expect_the_named_branch(&mut self, circle: CircleId, fork: &Fork) {
        self.disconnect("z-cert", "ibd").mute_runs("z-cert", false);
        self.connect_all().settle();
        assert_eq!(self.accepted("ibd", &fork.key), 5, "{}", self.describe("ibd", circle));
        assert_eq!(stored(self, "ibd", &fork.key, 4), Some(&fork.branches[1][4]));
        assert_eq!(self.digest("ibd", circle), self.digest("ncsc", circle));
        self.crash("ibd").start("ibd");
        assert_eq!(self.accepted("ibd", &fork.key), 5);
    }
}

#[test]
fn i4_a_fork_is_told_while_one_branch_is_on_its_way_to_the_store_and_the_other_comes() {
    let (mut world, circle, fork) = cut_known_before_its_branch();
    world.push_raw("z-cert", "ibd", circle, fork.branches[0][2].clone());
    world.prove_raw("z-cert", "ibd", circle, &fork);
    world.push_raw("z-cert", "ibd", circle, fork.branches[1][2].clone());
    world.run(100);
    assert_eq!(world.knows_the_fork("ibd", &fork.key), Some(2));
    assert_eq!(world.accepted("ibd", &fork.key), 2);
    world.expect_the_named_branch(circle, &fork);
}

#[test]
fn i4_a_fork_is_told_while_what_stands_before_it_is_on_its_way_to_the_store() {
    let (mut world, circle, fork) = forked(2, 3);
    world.partition(&[&["ncsc", "z-cert"], &["ibd", "ferm"]]);
    for entry in &fork.branches[0][..3] {
        world.push_raw("ferm", "ibd", circle, entry.clone());
    }
    world.prove_raw("ferm", "ibd", circle, &fork);
    // Nothing more of it is taken until the store answers.
    for entry in &fork.branches[0][3..] {
        world.push_raw("ferm", "ibd", circle, entry.clone());
    }
    world.disconnect("ferm", "ibd").run(100);
    assert_eq!(world.knows_the_fork("ibd", &fork.key), Some(2));
    assert_eq!((world.accepted("ibd", &fork.key), held(&world, "ibd", &fork.key)), (2, 2));
    assert_eq!(stored(&world, "ibd", &fork.key, 3), None);
}

#[test]
fn i4_what_is_on_its_way_to_the_store_when_a_cut_comes_that_names_it_stays() {
    let (mut world, circle, fork) = forked(0, 5);
    world.partition(&[&["ncsc", "z-cert"], &["ibd", "ferm"]]);
    world.import("ncsc", &fork.branches[0]);
    world.policy("ncsc", circle, 1);
    world.remove("ncsc", circle, "ferm");
    let founder = world.key("ncsc");
    let operations = |(key, _): &(&LogKey, _)| key.circle == circle && key.author == founder;
    let log = world.node("ncsc").store.logs.iter().find(operations).unwrap().1;
    let operations: Vec<EntryBytes> = log.iter().map(|(_, bytes)| bytes.clone()).collect();
    let before_removal = operations[..operations.len() - 1].to_vec();
    let index = world.index("ibd");
    world.input(index, Input::Import { entries: before_removal });
    for entry in &fork.branches[0] {
        world.push_raw("ferm", "ibd", circle, entry.clone());
    }
    world.input(index, Input::Import { entries: operations });
    world.disconnect("ferm", "ibd").run(100);
    assert_eq!((world.accepted("ibd", &fork.key), held(&world, "ibd", &fork.key)), (5, 5));
}

#[test]
fn i4_behind_an_entry_that_rotted_a_log_may_go_on_along_another_branch() {
    let (mut world, circle, fork) = forked(2, 3);
    world.partition(&[&["ncsc", "z-cert"], &["ibd", "ferm"]]);
    world.import("ibd", &fork.branches[0]);
    world.import("z-cert", &fork.branches[1]);
    let index = world.index("ibd");
    world.nodes[index].store.rotten.insert((fork.key, 2));
    world.input(index, Input::Damaged { key: fork.key, seq: 2 });
    assert_eq!(held(&world, "ibd", &fork.key), 2);
    world.partition(&[&["ncsc", "z-cert", "ibd"], &["ferm"]]);
    world.connect("ibd", "z-cert").settle();
    assert_eq!(world.accepted("ibd", &fork.key), 5);
    assert_eq!(stored(&world, "ibd", &fork.key, 4), Some(&fork.branches[1][4]));
    assert_eq!(world.digest("ibd", circle), world.digest("z-cert", circle));
}

#[test]
fn what_rotted_while_a_node_was_alone_comes_again_with_the_first_who_has_it() {
    let mut world = World::new(&["ncsc", "z-cert"]);
    let circle = world.circle(&["ncsc", "z-cert"]);
    for text in ["one", "two", "three"] {
        world.append("ncsc", circle, text);
    }
    world.settle();
    let (key, index) = (world.content_log("ncsc", circle), world.index("z-cert"));
    world.disconnect("ncsc", "z-cert");
    world.nodes[index].store.rotten.insert((key, 1));
    world.input(index, Input::Damaged { key, seq: 1 });
    assert_eq!(held(&world, "z-cert", &key), 3, "nobody could send it again");
    world.connect("ncsc", "z-cert").settle();
    world.expect_reads("z-cert", circle, &["one", "two", "three"]);
    assert!(world.node("z-cert").store.rotten.is_empty());
}

#[test]
fn i4_a_gap_that_was_found_in_front_of_another_branch_is_filled_with_the_one_that_a_cut_names() {
    for rotten in [1, 2, 3] {
        let (mut world, circle, fork) = forked(2, 3);
        world.partition(&[&["ncsc", "z-cert"], &["ibd", "ferm"]]);
        world.import("ibd", &fork.branches[0]);
        world.import("ncsc", &fork.branches[1]);
        world.crash("ferm");
        world.remove("ncsc", circle, "ferm");
        world.settle();
        world.crash("ibd");
        let index = world.index("ibd");
        world.nodes[index].store.rotten.insert((fork.key, rotten));
        world.nodes[index].store.scrub();
        world.start("ibd");
        assert_eq!(held(&world, "ibd", &fork.key), rotten);
        world.entries_per_frame = rotten as usize;
        world.connect("ncsc", "ibd").settle();
        assert_eq!(world.accepted("ibd", &fork.key), 5, "{rotten}: {}", world.describe("ibd", circle));
        assert_eq!(stored(&world, "ibd", &fork.key, 4), Some(&fork.branches[1][4]), "{rotten}");
        assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle), "{rotten}");
    }
}

#[test]
fn i4_who_knows_fork_and_cut_and_then_takes_the_wrong_branch_comes_off_it() {
    let (mut world, circle, fork) = cut_known_before_its_branch();
    world.prove_raw("z-cert", "ibd", circle, &fork);
    world.push_raw("z-cert", "ibd", circle, fork.branches[0][2].clone());
    world.run(100);
    assert_eq!((held(&world, "ibd", &fork.key), world.accepted("ibd", &fork.key)), (3, 2));
    world.expect_the_named_branch(circle, &fork);
}

#[test]
fn i9_a_fork_that_is_known_and_told_again_takes_nobody_off_the_branch_that_a_cut_names() {
    let (mut world, circle, fork) = cut_known_before_its_branch();
    world.prove_raw("z-cert", "ibd", circle, &fork);
    for entry in &fork.branches[1][2..4] {
        world.push_raw("z-cert", "ibd", circle, entry.clone());
    }
    world.run(100);
    world.prove_raw("z-cert", "ibd", circle, &fork);
    assert_eq!((held(&world, "ibd", &fork.key), world.accepted("ibd", &fork.key)), (4, 2));
    world.push_raw("z-cert", "ibd", circle, fork.branches[1][4].clone());
    world.run(100);
    assert_eq!(world.accepted("ibd", &fork.key), 5);
}

#[test]
fn i9_who_goes_on_with_one_branch_is_not_taken_off_it_by_a_peer_that_holds_another() {
    let (mut world, circle, fork) = cut_known_before_its_branch();
    world.prove_raw("z-cert", "ibd", circle, &fork);
    for entry in &fork.branches[1][2..4] {
        world.push_raw("z-cert", "ibd", circle, entry.clone());
    }
    let entries = fork.branches[0][2..].to_vec();
    world.answer_runs_with("ncsc", vec![RunFrame { records: Vec::new(), entries }.to_bytes()]);
    world.connect("ncsc", "ibd").run(100);
    let head = Some(Hash::of(Domain::ENTRY, &[&fork.branches[0][2].header]));
    let LogKey { author, log, .. } = fork.key;
    let tips = vec![WireTip { author, log, first: false, height: 3, head, forked: false }];
    let tag = world.tag("ncsc", "ibd", circle);
    world.send_raw("ncsc", "ibd", Frame::Tips { tag, tips, last: true }.to_bytes());
    world.run(1_000);
    assert_eq!(held(&world, "ibd", &fork.key), 4);
    world.push_raw("z-cert", "ibd", circle, fork.branches[1][4].clone());
    world.run(100);
    assert_eq!(world.accepted("ibd", &fork.key), 5);
}

#[test]
fn i4_who_says_over_and_over_that_it_holds_a_log_and_sends_the_wrong_branch_keeps_nobody_from_the_right_one() {
    // It sends what ends otherwise than the cut says, or stops before that; and says so again sooner or later.
    for (sent, every_ms) in [(2, 100), (3, 10), (3, 100), (3, 1_000)] {
        let (mut world, circle, fork) = cut_known_before_its_branch();
        world.prove_raw("z-cert", "ibd", circle, &fork);
        let entries = fork.branches[0][2..2 + sent].to_vec();
        world.answer_runs_with("z-cert", vec![RunFrame { records: Vec::new(), entries }.to_bytes()]);
        world.mute_runs("z-cert", false);
        world.disconnect("z-cert", "ibd").connect("z-cert", "ibd").run(100);
        world.slow_line("ncsc", "ibd", 60);
        let LogKey { author, log, .. } = fork.key;
        let tip = WireTip { author, log, first: false, height: 5, head: Some(fork.hash_of(1, 4)), forked: false };
        let say_so = |world: &mut World, for_ms: u64| {
            for _ in 0..for_ms / every_ms {
                let tag = world.tag("z-cert", "ibd", circle);
                world.send_raw("z-cert", "ibd", Frame::Have { tag, tips: vec![tip] }.to_bytes());
                world.run(every_ms);
            }
        };
        say_so(&mut world, 2_000);
        assert_eq!(held(&world, "ibd", &fork.key), 4, "it is on the wrong branch");
        world.connect("ncsc", "ibd");
        say_so(&mut world, 60_000);
        assert_eq!(world.accepted("ibd", &fork.key), 5, "{sent} are sent, every {every_ms} ms");
        assert_eq!(stored(&world, "ibd", &fork.key, 4), Some(&fork.branches[1][4]));
    }
}
