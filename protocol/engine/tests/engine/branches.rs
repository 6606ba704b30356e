//! A steward forks its control log: what stands behind the fork are operations that did not see each other.

use std::collections::BTreeMap;

use cwn_crypto::{
    Domain, Hash, Signature, Time,
    issuer_log::{CutLine, LogId},
};
use cwn_engine::{
    branches,
    circle::{Act, MemberNode, Operation, Stewardship, Terms},
    fork::{Branch, ForkProof},
    input::{Command, Input},
    limits,
    log::{CircleId, Draft, EntryBytes, LogKey, Opening, Suite, Under, Writer},
    output::{CarriedCircle, Event, Reply},
    wire::{Frame, RunFrame, WireTip},
};

use crate::world::{World, partner, seeds};

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];
const LOG: LogId = LogId([0xf0; 16]);

/// A control log that `z-cert`, second in the charter, writes beside its node.
struct Forker {
    circle: CircleId,
    said: Vec<(Time, Operation)>,
    entries: Vec<EntryBytes>,
    writer: Writer,
}

fn forker(world: &World, circle: CircleId) -> Forker {
    forker_in(world, circle, LOG)
}

fn forker_in(world: &World, circle: CircleId, log: LogId) -> Forker {
    let opening = Opening { under: Under::Charter, cites: Vec::new() };
    let writer = Writer::open(circle, world.node("z-cert").key.clone(), log, opening);
    Forker { circle, said: Vec::new(), entries: Vec::new(), writer }
}

impl Forker {
    /// It goes on with an operation that has seen these.
    fn operate(&mut self, world: &World, heads: Vec<Hash>, act: Act) {
        self.say(world.now, Operation { stewardship: Stewardship::Charter(1), heads, act });
    }

    fn say(&mut self, at: Time, operation: Operation) {
        let payload = operation.to_bytes();
        let draft = Draft { suite: Suite::Control, epoch: None, payload, expiry: None, retracts: None };
        self.entries.push(self.writer.append(at, draft).bytes().clone());
        self.said.push((at, operation));
    }

    /// The log up to `length`, from where it is to go on otherwise.
    fn branch(&self, world: &World, length: usize) -> Self {
        let mut branch = forker(world, self.circle);
        self.said[..length].iter().for_each(|(at, operation)| branch.say(*at, operation.clone()));
        assert_eq!(branch.entries, self.entries[..length], "what is the same is the same");
        branch
    }

    fn hash(&self, place: usize) -> Hash {
        Hash::of(Domain::ENTRY, &[&self.entries[place].header])
    }

    /// Says to a node, in the name of another that shares the circle, that this log is there, and answers with what of it
    /// stands from a place on.
    fn announce(&self, world: &mut World, from: usize, by: &str, to: &str) {
        let frame = RunFrame { records: Vec::new(), entries: self.entries[from..].to_vec() };
        world.answer_runs_with(by, vec![frame.to_bytes()]);
        let height = self.entries.len() as u64;
        let head = Some(self.hash(self.entries.len() - 1));
        let (author, log) = (world.key("z-cert"), self.writer.key().log);
        let tip = WireTip { author, log, first: true, height, head, forked: false };
        let tag = world.tag(by, to, self.circle);
        world.send_raw(by, to, Frame::Have { tag, tips: vec![tip] }.to_bytes());
        world.run(500);
    }

    /// The proof that this log and another part at a place.
    fn proof(&self, other: &Self, place: usize) -> ForkProof {
        let branch = |of: &Self| {
            let EntryBytes { header, signature, .. } = of.entries[place].clone();
            Branch { headers: vec![header.into()], signature }
        };
        ForkProof { one: branch(self), other: branch(other) }
    }

    fn hand(&self, world: &mut World, to: &str) {
        let to = world.index(to);
        world.input(to, Input::Import { entries: self.entries.clone() });
        world.run(50);
    }
}

fn add(world: &World, name: &str) -> Act {
    let MemberNode { node, recipient } = world.member(name);
    Act::Add { partner: partner(name), nodes: vec![MemberNode { node, recipient }] }
}

fn terms(number: u8) -> Act {
    Act::Policy { terms: Terms { policy: vec![number], ..Terms::default() } }
}

fn heads(world: &World, name: &str, circle: CircleId) -> Vec<Hash> {
    world.engine(name).circle(&circle).unwrap().control().unwrap().heads()
}

fn members(world: &World, name: &str, circle: CircleId) -> Vec<String> {
    let roster = world.engine(name).circle(&circle).unwrap().fold().roster();
    roster.partners().into_iter().map(ToString::to_string).collect()
}

fn expect_the_same(world: &World, circle: CircleId, names: &[&str], story: &str) {
    for name in names {
        let what = || format!("{story}: {}\n{}", world.describe(name, circle), world.describe(names[0], circle));
        assert_eq!(members(world, name, circle), members(world, names[0], circle), "members; {}", what());
        assert_eq!(world.conclusions(name, circle), world.conclusions(names[0], circle), "conclusions; {}", what());
        assert_eq!(world.terms(name, circle), world.terms(names[0], circle), "terms; {}", what());
        assert_eq!(heads(world, name, circle), heads(world, names[0], circle), "heads; {}", what());
        assert_eq!(world.digest(name, circle), world.digest(names[0], circle), "digest; {}", what());
        assert_eq!(world.engine(name).behind(&circle), 0, "{}", what());
    }
}

/// Hands a node by file the log that has an entry, as another holds it.
fn hand_log_with(world: &mut World, entry: Hash, from: &str, to: &str) {
    let log = world.node(from).store.logs.values().find(|log| log.iter().any(|(hash, _)| *hash == entry));
    let entries = log.unwrap().iter().map(|(_, entry)| entry.clone()).collect();
    let to = world.index(to);
    world.input(to, Input::Import { entries });
    world.run(500);
}

/// So many branches that leave a log behind its first entry, in the order of their hashes.
fn branches_of(world: &World, start: &Forker, count: u8) -> Vec<Forker> {
    let seen = heads(world, "ferm", start.circle);
    let branch = |number| {
        let mut branch = start.branch(world, 1);
        branch.operate(world, seen.clone(), terms(number));
        branch
    };
    let mut branches: Vec<Forker> = (100..100 + count).map(branch).collect();
    branches.sort_by_key(|branch| branch.hash(1));
    branches
}

fn knows_the_fork(world: &World, name: &str, circle: CircleId) -> Option<u64> {
    let key = LogKey { circle, author: world.key("z-cert"), log: LOG };
    world.engine(name).forks(&circle).into_iter().find(|(log, _)| *log == key).map(|(_, seq)| seq)
}

/// A circle of four and the partners that may join it. What `z-cert` does its key does, beside its node.
fn circle_with_a_forker(seed: u64, others: &[&str]) -> (World, CircleId) {
    let mut world = World::unconnected(seed, &FOUR);
    for name in others {
        world.enrol(name);
    }
    world.connect_all().settle();
    let circle = world.found(&["ncsc", "z-cert"]);
    world.add("ncsc", circle, "ibd");
    world.add("ncsc", circle, "ferm");
    world.settle();
    (world, circle)
}

#[test]
fn i4_both_branches_of_a_forked_control_log_count_for_everybody_and_its_dismissal_keeps_what_was_known() {
    let (mut world, circle) = circle_with_a_forker(1, &["kpn", "surf"]);
    world.crash("z-cert");
    world.partition(&[&["ncsc", "kpn"], &["ibd", "ferm", "surf"]]);
    let mut common = forker(&world, circle);
    common.operate(&world, heads(&world, "ncsc", circle), terms(3));
    let (mut one, mut other) = (common.branch(&world, 1), common.branch(&world, 1));
    one.operate(&world, Vec::new(), add(&world, "kpn"));
    other.operate(&world, Vec::new(), add(&world, "surf"));
    one.hand(&mut world, "ncsc");
    other.hand(&mut world, "ibd");
    world.settle();
    assert_eq!(members(&world, "kpn", circle), ["ferm", "ibd", "kpn", "ncsc", "z-cert"]);
    assert_eq!(members(&world, "surf", circle), ["ferm", "ibd", "ncsc", "surf", "z-cert"]);
    world.append("kpn", circle, "from one branch");
    world.append("surf", circle, "from the other");
    world.settle();
    world.connect_all().settle();
    let all = ["ncsc", "ibd", "ferm", "kpn", "surf"];
    expect_the_same(&world, circle, &all, "after the fork");
    assert_eq!(members(&world, "ncsc", circle), ["ferm", "ibd", "kpn", "ncsc", "surf", "z-cert"]);
    for name in all {
        assert_eq!(knows_the_fork(&world, name, circle), Some(1), "{name}");
        let told = |event: &&Event| matches!(event, Event::Fork { .. });
        assert_eq!(world.node(name).events.iter().filter(told).count(), 1, "{name} is told once");
        assert_eq!(world.reads(name, circle).len(), 2, "{name} holds what both sides wrote");
    }
    // Its dismissal names what is held, on both branches; what it does from then on is void.
    world.dismiss("ncsc", circle, "z-cert");
    let mut later = other.branch(&world, 2);
    later.operate(&world, Vec::new(), terms(9));
    later.hand(&mut world, "ferm");
    world.settle();
    world.append("surf", circle, "goes on");
    world.settle();
    expect_the_same(&world, circle, &all, "after the dismissal");
    assert_eq!(members(&world, "ferm", circle), ["ferm", "ibd", "kpn", "ncsc", "surf", "z-cert"]);
    assert_eq!(world.terms("ferm", circle), 3);
    for name in all {
        world.crash(name).start(name);
    }
    world.start("z-cert").connect_all().settle();
    let all = ["ncsc", "ibd", "ferm", "kpn", "surf", "z-cert"];
    expect_the_same(&world, circle, &all, "after a start of everybody, and with the node whose key it was");
    assert!(world.reads("kpn", circle).contains(&"goes on".to_owned()));
}

#[test]
fn i4_a_raised_cut_leaves_both_branches_of_a_forked_control_log() {
    let (mut world, circle) = circle_with_a_forker(1, &["kpn", "surf"]);
    world.append("z-cert", circle, "heard");
    world.appoint("ncsc", circle, "ibd");
    world.settle();
    world.crash("z-cert");
    world.partition(&[&["ncsc", "kpn"], &["ibd", "ferm", "surf"]]);
    let mut common = forker(&world, circle);
    common.operate(&world, heads(&world, "ncsc", circle), terms(3));
    let (mut one, mut other) = (common.branch(&world, 1), common.branch(&world, 1));
    one.operate(&world, Vec::new(), add(&world, "kpn"));
    other.operate(&world, Vec::new(), add(&world, "surf"));
    one.hand(&mut world, "ncsc");
    other.hand(&mut world, "ibd");
    world.start("z-cert").connect_all().settle();
    world.partition(&[&["ibd"], &["ncsc", "z-cert", "ferm", "kpn", "surf"]]);
    world.append("z-cert", circle, "unheard");
    world.settle();
    world.remove("ibd", circle, "z-cert");
    world.settle();
    assert_eq!(members(&world, "ibd", circle), ["ferm", "ibd", "kpn", "ncsc", "surf"]);
    world.connect_all().settle();
    let all = ["ncsc", "ibd", "ferm", "kpn", "surf"];
    expect_the_same(&world, circle, &all, "after the removal");
    let removal = world.engine("ncsc").withheld(&circle)[0].removal;
    world.command("ncsc", Command::Raise { circle, removal, branches: Vec::new() });
    world.settle();
    expect_the_same(&world, circle, &all, "after the cut was raised");
    assert_eq!(
        members(&world, "ncsc", circle),
        ["ferm", "ibd", "kpn", "ncsc", "surf"],
        "whom either branch added stays"
    );
    world.expect_reads("ferm", circle, &["heard", "unheard"]);
}

#[test]
fn i4_a_dismissal_by_one_who_knew_one_branch_voids_the_other_for_everybody() {
    let (mut world, circle) = circle_with_a_forker(1, &["kpn", "surf"]);
    world.crash("z-cert");
    world.partition(&[&["ncsc", "kpn"], &["ibd", "ferm", "surf"]]);
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), add(&world, "kpn"));
    other.operate(&world, Vec::new(), add(&world, "surf"));
    other.operate(&world, Vec::new(), terms(7));
    one.hand(&mut world, "ncsc");
    other.hand(&mut world, "ibd");
    world.settle();
    world.append("ibd", circle, "to surf too");
    world.dismiss("ncsc", circle, "z-cert");
    world.settle();
    world.connect_all().settle();
    let members_of_it = ["ncsc", "ibd", "ferm", "kpn"];
    expect_the_same(&world, circle, &members_of_it, "after the dismissal");
    assert_eq!(members(&world, "ibd", circle), ["ferm", "ibd", "kpn", "ncsc", "z-cert"]);
    assert_eq!(world.terms("ibd", circle), 0);
    // What ibd sealed while it counted surf stays: its epoch builds on the branch.
    for name in members_of_it {
        assert_eq!(world.reads(name, circle).len(), 1, "{name}");
        let replica = world.engine(name).circle(&circle).unwrap();
        assert!(replica.control().unwrap().voided(replica.fold()).count() >= 2, "{name} shows what is void");
    }
}

#[test]
fn i4_whoever_heard_which_branch_first_all_end_with_the_same() {
    let (mut lives, mut forked) = (0, 0);
    for seed in seeds(12) {
        let joining = ["kpn", "surf", "tno"];
        let (mut world, circle) = circle_with_a_forker(seed, &joining);
        let away = world.rng(2) == 0;
        if away {
            world.crash("z-cert");
        }
        let names = ["ncsc", "ibd", "ferm"];
        let length = world.rng(3) as usize;
        let mut common = forker(&world, circle);
        for number in 0..length {
            let seen = heads(&world, "ncsc", circle);
            common.operate(&world, seen, terms(number as u8 + 1));
        }
        let mut branches: Vec<Forker> = (0..2 + world.rng(2)).map(|_| common.branch(&world, length)).collect();
        // Who holds one branch takes no other by hand: each begins with one that nobody else has.
        world.partition(&[&["ncsc", "kpn"], &["ibd", "surf"], &["ferm", "tno"]]);
        for round in 0..14 {
            // What is written differs in time at least, so that no two branches are the same.
            world.run(1_000 + round);
            match world.rng(8) {
                0 | 5 if round > 4 => {
                    let split = world.rng(3) as usize;
                    let apart: Vec<&str> =
                        names.into_iter().chain(joining).filter(|name| *name != names[split]).collect();
                    world.partition(&[&[names[split]], &apart]);
                }
                1 if round > 4 => drop(world.connect_all()),
                2 => {
                    let from = world.rng(branches.len() as u64) as usize;
                    let keeps = length + world.rng((branches[from].entries.len() - length) as u64 + 1) as usize;
                    let branch = branches[from].branch(&world, keeps);
                    branches.push(branch);
                }
                3 => {
                    let by = world.rng(3) as usize;
                    world.append(names[by], circle, &format!("{} {round}", names[by]));
                }
                4 if world.rng(3) == 0 => {
                    let who = world.rng(2) as usize + 1;
                    world.remove("ncsc", circle, names[who]);
                    world.run(100);
                    world.add("ncsc", circle, names[who]);
                }
                _ => {}
            }
            let (on, to) = (world.rng(branches.len() as u64) as usize, world.rng(3) as usize);
            let act = match world.rng(3) {
                0 => terms(world.rng(200) as u8 + 10),
                who => add(&world, joining[who as usize]),
            };
            let seen = if world.rng(2) == 0 { heads(&world, names[to], circle) } else { Vec::new() };
            branches[on].operate(&world, seen, act);
            branches[on].hand(&mut world, names[to]);
        }
        world.connect_all().settle().settle();
        let in_it = members(&world, "ncsc", circle);
        let all: Vec<&str> =
            names.into_iter().chain(joining).filter(|name| in_it.iter().any(|one| one == name)).collect();
        expect_the_same(&world, circle, &all, &format!("seed {seed}"));
        (lives, forked) = (lives + 1, forked + u64::from(knows_the_fork(&world, "ncsc", circle).is_some()));
        world.append("ibd", circle, "life goes on");
        world.settle();
        for name in &all {
            world.crash(name).start(name);
        }
        if away {
            world.start("z-cert");
        }
        world.connect_all().settle().settle();
        expect_the_same(&world, circle, &all, &format!("seed {seed}, after a start"));
        for name in &all {
            let reads = world.reads(name, circle);
            assert!(reads.contains(&"life goes on".to_owned()) || reads.contains(&"(sealed)".to_owned()), "{name}");
        }
    }
    assert!(forked * 2 > lives, "in {forked} of {lives} lives the log was forked");
}

#[test]
fn i7_a_steward_that_forks_without_end_makes_nobody_hold_more_than_two_branches_nor_blame_another() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    world.crash("z-cert");
    let start = forker(&world, circle);
    let mut branches = Vec::new();
    for number in 0..40 {
        let mut branch = start.branch(&world, 0);
        branch.operate(&world, Vec::new(), terms(number));
        branches.push(branch);
    }
    world.start("z-cert").connect_all().settle();
    branches[0].hand(&mut world, "ibd");
    branches[1].hand(&mut world, "ferm");
    world.settle();
    let entries: Vec<EntryBytes> = branches.iter().map(|branch| branch.entries[0].clone()).collect();
    let tag = world.tag("z-cert", "ibd", circle);
    world.send_raw("z-cert", "ibd", Frame::Branches { tag, entries, goes_on: false }.to_bytes());
    world.settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "after forty branches");
    for name in ["ncsc", "ibd", "ferm"] {
        let replica = world.engine(name).circle(&circle).unwrap();
        assert_eq!(replica.control().unwrap().operations(), 4, "{name}: two of the founder's, two branches");
        let held = world.node(name).store.facts.keys().filter(|key| key.starts_with(b"branch/")).count();
        assert_eq!(held, 2, "{name} holds two on disk");
    }
    assert!(world.refusals_of("ibd", "z-cert").is_empty() && world.refusals_of("ncsc", "ibd").is_empty());
}

/// Found by cwn-sim (`--nodes 20 --hours 24 --malicious 10%`, seed 10078): what was taken again and was not durable yet
/// counted as news each time, without an end, until the machine's memory was full; no checker saw it, for that input
/// came to no end.
#[test]
fn i7_an_operation_that_waited_and_turns_out_to_stand_behind_a_fork_is_taken_and_that_ends() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let mut one = forker(&world, circle);
    one.operate(&world, heads(&world, "ncsc", circle), terms(1));
    one.hand(&mut world, "ibd");
    world.settle();
    for name in ["ncsc", "z-cert"] {
        world.disconnect("ibd", name).disconnect("ferm", name);
    }
    let mut other = one.branch(&world, 1);
    other.operate(&world, heads(&world, "ferm", circle), terms(2));
    world.policy("ncsc", circle, 3);
    world.settle();
    let later = heads(&world, "ncsc", circle);
    one.operate(&world, later.clone(), terms(4));
    // It comes before the policy that it builds on, then the proof that its log forks there, then that policy.
    one.announce(&mut world, 1, "ibd", "ferm");
    let tag = world.tag("ibd", "ferm", circle);
    world.send_raw("ibd", "ferm", Frame::Fork { tag, proof: one.proof(&other, 1) }.to_bytes());
    world.run(500);
    assert_eq!(knows_the_fork(&world, "ferm", circle), Some(1));
    hand_log_with(&mut world, later[0], "ncsc", "ferm");
    let operations = |world: &World| world.engine("ferm").circle(&circle).unwrap().control().unwrap().operations();
    assert_eq!(operations(&world), world.engine("ncsc").circle(&circle).unwrap().control().unwrap().operations() + 1);
    other.hand(&mut world, "ncsc");
    world.connect_all().settle();
    expect_the_same(&world, circle, &["ncsc", "ferm"], "with both branches");
}

#[test]
fn i7_a_branch_that_is_brought_for_what_cannot_be_taken_goes_again_and_that_ends() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let mut start = forker(&world, circle);
    start.operate(&world, heads(&world, "ncsc", circle), terms(1));
    start.hand(&mut world, "ibd");
    world.settle();
    for name in ["ncsc", "z-cert"] {
        world.disconnect("ibd", name).disconnect("ferm", name);
    }
    let counted = branches_of(&world, &start, 8);
    world.policy("ncsc", circle, 3);
    world.settle();
    let later = heads(&world, "ncsc", circle);
    let third = |number| {
        let mut third = start.branch(&world, 1);
        third.operate(&world, later.clone(), terms(number));
        third.operate(&world, vec![Hash([8; 32])], terms(number));
        third
    };
    let third = (0..100).map(third).find(|third| third.hash(1) > counted[1].hash(1)).unwrap();
    let mut builds_on_it = forker_in(&world, circle, LogId([0xf1; 16]));
    builds_on_it.operate(&world, vec![third.hash(1), Hash([9; 32])], terms(4));
    third.announce(&mut world, 1, "ibd", "ferm");
    builds_on_it.announce(&mut world, 0, "ibd", "ferm");
    let tag = world.tag("ibd", "ferm", circle);
    world.send_raw("ibd", "ferm", Frame::Fork { tag, proof: counted[0].proof(&counted[1], 1) }.to_bytes());
    let entries = counted[..2].iter().map(|branch| branch.entries[1].clone()).collect();
    world.send_raw("ibd", "ferm", Frame::Branches { tag, entries, goes_on: false }.to_bytes());
    world.settle();
    let changes = |world: &World| {
        let changed = |event: &&Event| matches!(event, Event::MembershipChanged { .. });
        world.node("ferm").events.iter().filter(changed).count()
    };
    let before = changes(&world);
    hand_log_with(&mut world, later[0], "ncsc", "ferm");
    world.run(2_000);
    assert!(changes(&world) - before <= 4, "{} changes of who belongs", changes(&world) - before);
    assert!(!world.engine("ferm").circle(&circle).unwrap().control().unwrap().holds(&third.hash(1)));
}

#[test]
fn i4_what_vouches_for_an_operation_that_others_build_on_stays_with_it() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let mut start = forker(&world, circle);
    start.operate(&world, heads(&world, "ncsc", circle), terms(1));
    start.hand(&mut world, "ibd");
    world.settle();
    let branches = branches_of(&world, &start, 4);
    branches[0].hand(&mut world, "ibd");
    branches[1].hand(&mut world, "ferm");
    world.settle();
    world.disconnect("ferm", "ncsc").disconnect("ferm", "ibd");
    let mut unsigned = branches[2].branch(&world, 2);
    unsigned.operate(&world, Vec::new(), terms(5));
    unsigned.entries[1].signature = Signature([1; 64]);
    let tag = world.tag("z-cert", "ferm", circle);
    let entries = unsigned.entries[1..].to_vec();
    world.send_raw("z-cert", "ferm", Frame::Branches { tag, entries, goes_on: false }.to_bytes());
    let mut builds_on_it = forker_in(&world, circle, LogId([0xf1; 16]));
    builds_on_it.operate(&world, vec![unsigned.hash(1)], terms(6));
    builds_on_it.hand(&mut world, "ferm");
    world.run(500);
    assert!(world.engine("ferm").circle(&circle).unwrap().control().unwrap().holds(&unsigned.hash(1)));
    let entries = vec![branches[3].entries[1].clone()];
    world.send_raw("z-cert", "ferm", Frame::Branches { tag, entries, goes_on: false }.to_bytes());
    world.run(500);
    world.crash("z-cert").connect("ferm", "ibd").connect("ferm", "ncsc");
    world.settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "after its author has gone");
    assert!(world.refusals_of("ibd", "ferm").is_empty());
}

#[test]
fn i7_branches_that_are_longer_than_a_line_has_room_for_go_in_parts_and_once() {
    const OPERATIONS: u8 = 12;
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    world.crash("ferm").crash("z-cert");
    let start = forker(&world, circle);
    let mut branches = [start.branch(&world, 0), start.branch(&world, 0)];
    for number in 0..OPERATIONS {
        let policy = vec![number; limits::PAYLOAD_BYTES - 1_000];
        let act = Act::Policy { terms: Terms { policy, ..Terms::default() } };
        branches[0].operate(&world, Vec::new(), act);
    }
    branches[1].operate(&world, Vec::new(), terms(1));
    branches[0].hand(&mut world, "ibd");
    branches[1].hand(&mut world, "ncsc");
    world.settle().crash("ncsc");
    (world.bytes_of, world.most_at_once) = (BTreeMap::new(), 0);
    world.start("ferm").connect("ferm", "ibd").settle();
    expect_the_same(&world, circle, &["ibd", "ferm"], "with a long branch");
    assert!(world.most_at_once < 2 << 20, "{} bytes at once", world.most_at_once);
    let said: u64 = world.bytes_of.values().sum();
    let held = u64::from(OPERATIONS) * limits::PAYLOAD_BYTES as u64;
    assert!(said < held * 3 / 2, "{said} bytes said of {held}");
}

#[test]
fn i7_the_proof_of_a_fork_by_somebody_who_has_nothing_to_do_with_the_circle_is_not_kept() {
    let (mut world, circle) = circle_with_a_forker(1, &["kpn"]);
    let mut proofs = Vec::new();
    for (who, log) in [("kpn", 1), ("z-cert", 2)] {
        let branch = |text: &str| {
            let opening = Opening { under: Under::Charter, cites: Vec::new() };
            let mut writer = Writer::open(circle, world.node(who).key.clone(), LogId([log; 16]), opening);
            let payload = text.as_bytes().to_vec();
            let draft = Draft { suite: Suite::Control, epoch: None, payload, expiry: None, retracts: None };
            let bytes = writer.append(world.now, draft).bytes().clone();
            Branch { headers: vec![bytes.header.into()], signature: bytes.signature }
        };
        proofs.push(ForkProof { one: branch("one"), other: branch("other") });
    }
    for proof in proofs {
        let tag = world.tag("ferm", "ibd", circle);
        world.send_raw("ferm", "ibd", Frame::Fork { tag, proof }.to_bytes());
    }
    world.settle();
    let known = world.engine("ibd").forks(&circle);
    assert_eq!(known.iter().map(|(key, _)| key.author).collect::<Vec<_>>(), [world.key("z-cert")]);
    assert!(world.refusals_of("ibd", "ferm").is_empty(), "who hands it on may know the author");
}

#[test]
fn i5_branches_that_nobody_vouches_for_or_of_another_circle_are_refused() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), terms(1));
    other.operate(&world, Vec::new(), terms(2));
    one.hand(&mut world, "ibd");
    other.hand(&mut world, "ferm");
    world.settle();
    let mut altered = start.branch(&world, 0);
    altered.operate(&world, Vec::new(), terms(3));
    let mut entries = altered.entries.clone();
    entries[0].signature = Signature([1; 64]);
    let tag = world.tag("z-cert", "ibd", circle);
    world.send_raw("z-cert", "ibd", Frame::Branches { tag, entries, goes_on: false }.to_bytes());
    assert!(world.refusals_of("ibd", "z-cert")[0].contains("vouch"));
    let elsewhere = world.circle(&["z-cert", "ferm"]);
    let mut strange = forker(&world, elsewhere);
    strange.operate(&world, Vec::new(), terms(4));
    let tag = world.tag("z-cert", "ncsc", circle);
    world.send_raw("z-cert", "ncsc", Frame::Branches { tag, entries: strange.entries, goes_on: false }.to_bytes());
    assert!(world.refusals_of("ncsc", "z-cert")[0].contains("something else than a control log of its circle"));
    world.settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "after what was refused");
}

#[test]
fn i4_of_branches_in_many_frames_all_is_taken_wherever_what_vouches_for_it_stands() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    world.crash("z-cert");
    world.partition(&[&["ncsc", "ferm"], &["ibd"]]);
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), terms(5));
    for number in 0..8 {
        let long = Terms { policy: vec![number; limits::WELCOME_FRAME_BYTES / 2], ..Terms::default() };
        other.operate(&world, Vec::new(), Act::Policy { terms: long });
    }
    // Of each two the second vouches for the first.
    other.entries.iter_mut().step_by(2).for_each(|entry| entry.signature = Signature([1; 64]));
    one.hand(&mut world, "ferm");
    other.hand(&mut world, "ibd");
    world.settle();
    world.connect_all().settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "with the branch in many frames");
    for (name, peer) in [("ncsc", "ibd"), ("ferm", "ibd"), ("ncsc", "ferm"), ("ibd", "ncsc")] {
        assert_eq!(world.refusals_of(name, peer), Vec::<String>::new(), "{name} of {peer}");
    }
}

#[test]
fn i4_of_branches_no_operation_counts_for_which_only_one_vouches_that_nobody_takes() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), terms(1));
    other.operate(&world, Vec::new(), terms(2));
    other.operate(&world, Vec::new(), terms(3));
    other.operate(&world, vec![Hash([7; 32])], terms(4));
    other.entries[1].signature = Signature([1; 64]);
    one.hand(&mut world, "ferm");
    world.settle();
    let tag = world.tag("z-cert", "ibd", circle);
    let frame = Frame::Branches { tag, entries: other.entries, goes_on: false };
    world.send_raw("z-cert", "ibd", frame.to_bytes());
    world.run(10);
    world.crash("z-cert");
    for _ in 0..10 {
        world.run(limits::DIGEST_EVERY_MS);
    }
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "after the branch");
    for (name, peer) in [("ncsc", "ibd"), ("ferm", "ibd"), ("ncsc", "ferm"), ("ibd", "ncsc")] {
        assert_eq!(world.refusals_of(name, peer), Vec::<String>::new(), "{name} of {peer}");
    }
}

/// A steward does not sign an operation, but the one behind it, which nobody ever takes.
#[test]
fn i4_an_operation_for_which_only_one_vouches_that_nobody_takes_counts_for_nobody() {
    for never in ["no operation", "builds on one that nobody has"] {
        let (mut world, circle) = circle_with_a_forker(1, &[]);
        world.crash("z-cert");
        let mut log = forker(&world, circle);
        log.operate(&world, Vec::new(), terms(1));
        log.operate(&world, Vec::new(), terms(2));
        log.entries[1].signature = Signature([1; 64]);
        if never == "no operation" {
            let payload = b"no operation".to_vec();
            let draft = Draft { suite: Suite::Control, epoch: None, payload, expiry: None, retracts: None };
            log.entries.push(log.writer.append(world.now, draft).bytes().clone());
        } else {
            log.operate(&world, vec![Hash([7; 32])], terms(3));
        }
        log.hand(&mut world, "ibd");
        world.settle();
        for _ in 0..40 {
            world.run(limits::DIGEST_EVERY_MS);
        }
        expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], never);
        assert_eq!(world.terms("ncsc", circle), 1, "{never}");
        for name in ["ncsc", "ferm"] {
            assert_eq!(world.refusals_of(name, "ibd"), Vec::<String>::new(), "{never}");
            assert!(world.is_connected(name, "ibd"), "{never}");
        }
        world.crash("ibd").start("ibd").connect_all().settle();
        expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], never);
    }
}

/// A steward's cut names an entry that its author did not sign; the one behind it that vouches for it lies beyond.
#[test]
fn i4_a_cut_vouches_for_the_entry_that_it_names() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let ferm = world.key("ferm");
    let under = world.engine("ferm").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let opening = Opening { under, cites: Vec::new() };
    let mut writer = Writer::open(circle, world.node("ferm").key.clone(), LOG, opening);
    let mut entries: Vec<EntryBytes> = (0..3)
        .map(|_| {
            let draft =
                Draft { suite: Suite::Named, epoch: None, payload: b"x".to_vec(), expiry: None, retracts: None };
            writer.append(world.now, draft).bytes().clone()
        })
        .collect();
    entries[1].signature = Signature([1; 64]);
    world.crash("z-cert").crash("ferm");
    let ibd = world.index("ibd");
    world.disconnect("ncsc", "ibd");
    world.input(ibd, Input::Import { entries: entries.clone() });
    world.run(50);
    let head = Hash::of(Domain::ENTRY, &[&entries[1].header]);
    let cut = vec![CutLine { log: LOG, height: 2, head }];
    let mut log = forker(&world, circle);
    log.operate(&world, heads(&world, "ncsc", circle), Act::Remove { partner: partner("ferm"), node: None, cut });
    log.hand(&mut world, "ibd");
    world.connect_all().settle();
    expect_the_same(&world, circle, &["ncsc", "ibd"], "with the cut");
    let accepted = |name: &str| world.engine(name).circle(&circle).unwrap().accepted(&ferm, &LOG);
    assert_eq!((accepted("ibd"), accepted("ncsc")), (2, 2));
}

/// A welcome brings what a run could: a steward does not sign an operation, but the one behind it, which nobody takes.
#[test]
fn i4_of_a_welcome_no_operation_counts_for_which_only_one_vouches_that_nobody_takes() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    let mut log = forker(&world, circle);
    log.operate(&world, Vec::new(), terms(1));
    log.operate(&world, Vec::new(), terms(2));
    log.entries[1].signature = Signature([1; 64]);
    log.operate(&world, vec![Hash([7; 32])], terms(3));
    let charter = world.engine("ibd").circle(&circle).unwrap().control().unwrap().charter().to_bytes();
    world.send_raw("z-cert", "ibd", Frame::Welcome { charter, entries: log.entries, last: true }.to_bytes());
    world.crash("z-cert");
    world.settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "after the welcome");
    assert_eq!(world.terms("ncsc", circle), 1);
}

#[test]
fn a_newcomer_learns_of_branches_with_the_offer() {
    let (mut world, circle) = circle_with_a_forker(1, &["kpn", "surf"]);
    world.crash("z-cert");
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), add(&world, "kpn"));
    other.operate(&world, Vec::new(), terms(5));
    world.partition(&[&["ferm"], &["ncsc", "ibd", "kpn", "surf"]]);
    one.hand(&mut world, "ibd");
    other.hand(&mut world, "ferm");
    world.connect_all().settle();
    world.add("ncsc", circle, "surf");
    world.settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm", "kpn", "surf"], "with a newcomer");
    for name in ["ibd", "ferm", "ncsc", "kpn", "surf"] {
        assert_eq!(knows_the_fork(&world, name, circle), Some(0), "{name}");
    }
    world.crash("surf").start("surf").connect_all().settle();
    expect_the_same(&world, circle, &["ncsc", "surf"], "after the newcomer's start");
    world.append("surf", circle, "hello");
    world.settle();
    world.expect_reads("kpn", circle, &["hello"]);
}

/// Found by cwn-sim (`--nodes 7 --hours 2 --malicious 25% --malice splitter`, seeds 1 and 36): an operation was tried
/// before those that it builds on through a branch, and the newcomer blamed all who offered it the circle.
#[test]
fn a_newcomer_that_is_added_by_one_who_saw_both_branches_is_offered_the_circle_whoever_wrote_what_they_build_on() {
    // Whose operation a newcomer looks at first depends on keys.
    for (before, after) in [("ncsc", "ibd"), ("ibd", "ncsc")] {
        let mut world = World::new(&["ncsc", "z-cert", "ibd", "ferm", "surf"]);
        let circle = world.found(&["ncsc", "z-cert", "ibd"]);
        world.settle();
        world.add(before, circle, "ferm");
        world.settle();
        let start = forker(&world, circle);
        for (number, to) in [(1, "ncsc"), (2, "ibd")] {
            let mut branch = start.branch(&world, 0);
            branch.operate(&world, heads(&world, "ferm", circle), terms(number));
            let first = vec![Hash::of(Domain::ENTRY, &[&branch.entries[0].header])];
            branch.operate(&world, first.clone(), terms(number + 2));
            // It names one that the one before it in its log has seen as well.
            branch.operate(&world, first, terms(number + 4));
            branch.hand(&mut world, to);
        }
        world.settle();
        assert_eq!(heads(&world, after, circle).len(), 2, "{after} saw both branches");
        world.add(after, circle, "surf");
        world.settle();
        for member in ["ncsc", "z-cert", "ibd", "ferm"] {
            assert_eq!(world.refusals_of("surf", member), Vec::<String>::new(), "{member} offers it");
        }
        expect_the_same(&world, circle, &["ncsc", "ibd", "ferm", "surf"], &format!("{before} before {after}"));
    }
}

/// Found by cwn-sim (`--nodes 7 --hours 2 --malicious 25% --malice splitter`, seeds 113 and 147): what a removed member
/// handed to those who removed it was not compared with theirs, and they never learnt of the fork.
#[test]
fn i4_who_was_removed_on_one_branch_shows_the_other_to_those_who_removed_it() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    world.crash("z-cert");
    world.partition(&[&["ncsc", "ibd"], &["ferm"]]);
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), Act::Remove { partner: partner("ferm"), node: None, cut: Vec::new() });
    other.operate(&world, Vec::new(), terms(5));
    one.hand(&mut world, "ncsc");
    other.hand(&mut world, "ferm");
    world.settle();
    assert_eq!(members(&world, "ibd", circle), ["ibd", "ncsc", "z-cert"]);
    // They speak with ferm of this circle no more; by what it knows it counts, and hands them what they may lack.
    world.connect_all().settle();
    for name in ["ncsc", "ibd"] {
        assert_eq!(knows_the_fork(&world, name, circle), Some(0), "{name}");
        assert_eq!(world.terms(name, circle), 5, "{name}");
        assert!(world.refusals_of(name, "ferm").is_empty(), "{name} blames nobody");
    }
    expect_the_same(&world, circle, &["ncsc", "ibd"], "with the branch that was shown");
}

#[test]
fn i4_who_alone_hears_that_it_counts_again_tells_the_others_while_it_is_connected() {
    let (mut world, circle) = circle_with_a_forker(1, &[]);
    world.append("ferm", circle, "before");
    world.settle();
    world.crash("z-cert");
    world.remove("ncsc", circle, "ferm");
    world.settle();
    let mut again = forker(&world, circle);
    again.operate(&world, heads(&world, "ncsc", circle), add(&world, "ferm"));
    again.hand(&mut world, "ferm");
    world.settle();
    world.run(2 * limits::DIGEST_EVERY_MS);
    for name in ["ncsc", "ibd", "ferm"] {
        assert_eq!(members(&world, name, circle), ["ferm", "ibd", "ncsc", "z-cert"], "{name}");
    }
    world.append("ferm", circle, "there again");
    world.settle();
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "with who is there again");
    assert!(world.reads("ibd", circle).contains(&"there again".to_owned()));
}

#[test]
fn branches_are_carried_by_hand_to_one_who_was_cut_off() {
    let (mut world, circle) = circle_with_a_forker(1, &["kpn"]);
    world.crash("z-cert");
    world.partition(&[&["ncsc", "kpn"], &["ibd"], &["ferm"]]);
    let start = forker(&world, circle);
    let (mut one, mut other) = (start.branch(&world, 0), start.branch(&world, 0));
    one.operate(&world, Vec::new(), add(&world, "kpn"));
    other.operate(&world, Vec::new(), terms(5));
    one.hand(&mut world, "ncsc");
    other.hand(&mut world, "ibd");
    world.connect("ncsc", "ibd").settle();
    let store = &world.node("ncsc").store;
    let (held, _) = branches::held(store, &circle).unwrap();
    let mut entries: Vec<EntryBytes> = held.iter().map(|entry| entry.bytes().clone()).collect();
    assert_eq!(entries.len(), 2);
    let control = |key: &&LogKey| key.circle == circle;
    entries
        .extend(store.logs.keys().filter(control).flat_map(|key| store.logs[key].iter().map(|(_, one)| one.clone())));
    let charter = world.engine("ncsc").circle(&circle).unwrap().control().unwrap().charter().to_bytes();
    let id = world.command("ferm", Command::CarryCircle { charter, entries });
    world.run(100);
    let reply = world.reply("ferm", id).cloned();
    let whole = CarriedCircle::Known { taken: 2, left: 0 };
    assert_eq!(reply, Some(Ok(Reply::CarriedCircle { circle, outcome: whole })));
    expect_the_same(&world, circle, &["ncsc", "ibd", "ferm"], "what was carried");
    assert_eq!(knows_the_fork(&world, "ferm", circle), Some(0));
}
