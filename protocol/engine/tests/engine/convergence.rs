//! Whatever arrives in whatever order, however often: members end with the same.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, Signature, encoding};
use cwn_engine::{
    acceptance,
    circle::Control,
    epoch::SignedRecord,
    log::{CircleId, Decoded, EntryBytes, LogKey, LogKind},
    replica::Replica,
    store::Write,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::world::{MemStore, World, seeds};

/// Everything that was ever said in a circle: entries and records, from all stores.
struct Said {
    control: Control,
    entries: BTreeMap<(LogKey, u64), EntryBytes>,
    records: Vec<SignedRecord>,
}

/// A circle with a life: writes on both sides of a removal, a partner that comes back, a bad signature inside.
fn a_life(seed: u64) -> (Said, CircleId) {
    let mut world = World::unconnected(seed, &["ncsc", "z-cert", "ferm", "ibd"]);
    world.connect_all().settle();
    let circle = world.circle(&["ncsc", "z-cert", "ferm", "ibd"]);
    for round in 0..3 {
        for name in ["ncsc", "z-cert", "ferm", "ibd"] {
            world.append(name, circle, &format!("{name} {round}"));
        }
        world.settle();
    }
    world.partition(&[&["ferm"], &["ncsc", "z-cert", "ibd"]]);
    world.remove("ncsc", circle, "ferm");
    for round in 0..3 {
        world.append("ferm", circle, &format!("ferm beyond the cut {round}"));
        world.append("ibd", circle, &format!("ibd without ferm {round}"));
        world.settle();
    }
    world.crash("ibd").start("ibd").connect_all().settle();
    world.append("ibd", circle, "ibd after a start");
    world.settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.append("ferm", circle, "ferm is back");
    world.settle();
    let mut said = Said {
        control: Control::new(world.engine("ncsc").circle(&circle).unwrap().control().unwrap().charter().clone()),
        entries: BTreeMap::new(),
        records: Vec::new(),
    };
    let mut records = BTreeMap::new();
    for node in &world.nodes {
        for (key, log) in node.store.logs.iter().filter(|(key, _)| key.circle == circle) {
            for (seq, (_, bytes)) in log.iter().enumerate() {
                said.entries.insert((*key, seq as u64), bytes.clone());
            }
        }
        records.extend(node.store.records.iter().filter(|((of, _), _)| *of == circle).map(|(k, v)| (*k, v.clone())));
    }
    said.records = records.values().map(|bytes| encoding::from_bytes(bytes, 1 << 20).unwrap()).collect();
    // An entry in the middle of a log whose own signature was damaged on some disk: the next one vouches for it.
    let logs: BTreeMap<LogKey, u64> = said.entries.keys().map(|(key, seq)| (*key, seq + 1)).collect();
    let (key, _) = logs.iter().find(|(_, height)| **height >= 3).expect("a log of three entries");
    said.entries.get_mut(&(*key, 1)).unwrap().signature = Signature([1; 64]);
    (said, circle)
}

struct Outcome {
    accepted: BTreeMap<LogKey, u64>,
    members: BTreeSet<cwn_crypto::PublicKey>,
    digest: Hash,
}

/// Hands everything to a fresh replica in pieces: shuffled, some twice, some lost and handed over again later.
fn arrive(said: &Said, rng: &mut ChaCha8Rng) -> Outcome {
    let mut below = |bound: usize| (rng.next_u64() % bound.max(1) as u64) as usize;
    let mut replica = Replica::closed(Control::new(said.control.charter().clone()));
    let mut store = MemStore::default();
    let mut heights: BTreeMap<LogKey, u64> = BTreeMap::new();
    heights.extend(said.entries.keys().map(|(key, seq)| (*key, seq + 1)));
    let keys: Vec<LogKey> = heights.keys().copied().collect();
    let mut quiet = 0;
    while quiet < 400 {
        let key = keys[below(keys.len())];
        let height = heights[&key];
        let held = replica.log(&key.author, &key.log).map_or(0, |log| log.height);
        // Mostly what comes next, sometimes a repetition, sometimes with a gap before it.
        let from = match below(5) {
            0 => below(height as usize) as u64,
            1 => 0,
            _ => held,
        };
        let to = (from + 1 + below(4) as u64).min(height);
        let run: Vec<Decoded> =
            (from..to).map(|seq| Decoded::decode(said.entries[&(key, seq)].clone()).unwrap()).collect();
        let lost = below(4) == 0;
        let records = match below(3) {
            0 => Vec::new(),
            _ => said.records.clone(),
        };
        if lost {
            continue;
        }
        let ingested = replica.ingest(records, run);
        quiet = if ingested.writes.is_empty() { quiet + 1 } else { 0 };
        for write in ingested.writes {
            if let Write::Entry(entry) = &write {
                replica.stored(&entry.key().author, &entry.key().log, entry.header().seq + 1, entry.hash());
            }
            store.write(write);
        }
    }
    for (key, log) in replica.logs().filter(|(_, log)| log.kind == LogKind::Content) {
        let concluded = acceptance::reach(&replica, &key.author, &key.log);
        let anew = acceptance::reach_under(&replica, &key.author, &key.log, &log.opening.under);
        assert_eq!(concluded, anew, "what was concluded on the way holds at the end");
    }
    let accepted = keys.iter().map(|key| (*key, replica.accepted(&key.author, &key.log))).filter(|(_, h)| *h > 0);
    let members = replica.fold().roster().iter().map(|(node, _)| *node);
    let tips = replica.tips(&store).unwrap();
    Outcome { accepted: accepted.collect(), members: members.collect(), digest: replica.digest(&tips) }
}

#[test]
fn i4_any_order_duplication_and_loss_followed_by_redelivery_ends_in_the_same() {
    let (said, _) = a_life(7);
    let mut expected: Option<Outcome> = None;
    for seed in seeds(25) {
        let outcome = arrive(&said, &mut ChaCha8Rng::seed_from_u64(seed));
        let expected = expected.get_or_insert_with(|| arrive(&said, &mut ChaCha8Rng::seed_from_u64(u64::MAX)));
        assert_eq!(outcome.accepted, expected.accepted, "accepted entries, seed {seed}");
        assert_eq!(outcome.members, expected.members, "members, seed {seed}");
        assert_eq!(outcome.digest, expected.digest, "digest, seed {seed}");
    }
}

#[test]
fn i5_what_lies_beyond_a_cut_is_never_accepted() {
    let (said, _) = a_life(8);
    let outcome = arrive(&said, &mut ChaCha8Rng::seed_from_u64(1));
    let total: u64 = outcome.accepted.values().sum();
    assert_eq!(said.entries.len() as u64 - total, 3, "the three entries that ferm wrote beyond the cut");
}

/// A random life of five nodes: people publish, add and remove, machines crash and come back, lines are cut.
fn chaos(seed: u64) {
    let names = ["ncsc", "z-cert", "ferm", "ibd", "nctv"];
    let mut world = World::unconnected(seed, &names);
    world.jitter_ms = 40;
    world.entries_per_frame = 2;
    world.connect_all().settle();
    let circle = world.circle(&names[..4]);
    let mut published = 0;
    for _ in 0..60 {
        let name = names[world.rng(4) as usize];
        let other = names[1 + world.rng(3) as usize];
        let running = world.node(name).engine.is_some();
        let actor = names[world.rng(4) as usize];
        let acts = world.node(actor).engine.is_some();
        match world.rng(16) {
            0..=4 if running => {
                published += 1;
                world.append(name, circle, &format!("{name} {published}"));
            }
            // Who is no steward, or of worse rank, is refused.
            5 if acts => drop(world.remove(actor, circle, other)),
            6 if acts => drop(world.add(actor, circle, other)),
            12 if acts => drop(world.appoint(actor, circle, other)),
            13 if acts => drop(world.dismiss(actor, circle, other)),
            14 if acts => drop(world.policy(actor, circle, published as u8)),
            7 => drop(world.crash(name)),
            8 if !running => drop(world.start(name).connect_all()),
            9 => drop(world.disconnect(name, other)),
            10 => drop(world.connect(name, other)),
            11 => {
                let side: Vec<bool> = names.iter().map(|_| world.rng(2) == 0).collect();
                let group = |here: bool| -> Vec<&str> {
                    names.iter().zip(&side).filter(|(_, side)| **side == here).map(|(name, _)| *name).collect()
                };
                world.partition(&[&group(true), &group(false)]);
            }
            _ => {}
        }
        let ms = world.rng(3_000);
        world.run(ms);
    }
    for name in names {
        if world.node(name).engine.is_none() {
            world.start(name);
        }
    }
    world.connect_all().settle().settle();
    let founder = world.conclusions("ncsc", circle);
    for name in &names[..4] {
        let member = founder.1.iter().any(|(node, _)| *node == world.key(name));
        if member {
            let described = || format!("{}\n{}", world.describe(name, circle), world.describe("ncsc", circle));
            let same = world.conclusions(name, circle) == founder;
            assert_eq!(world.terms(name, circle), world.terms("ncsc", circle), "the terms of {name}, seed {seed}");
            assert!(same, "{name} and ncsc differ, seed {seed}\n{}", described());
            let digest = world.digest(name, circle) == world.digest("ncsc", circle);
            assert!(digest, "the digests of {name} and ncsc differ, seed {seed}\n{}", described());
            assert_eq!(world.engine(name).behind(&circle), 0, "{name} wants more, seed {seed}");
        }
    }
    assert!(world.engine("nctv").circle(&circle).is_none(), "I1: an outsider has the circle, seed {seed}");
    let outside = &world.node("nctv").store;
    let logs = outside.logs.keys().any(|key| key.circle == circle);
    let records = outside.records.keys().any(|(of, _)| *of == circle);
    let facts = outside.facts.keys().any(|key| key.windows(32).any(|part| part == circle.0.0));
    assert!(!logs && !records && !facts, "I1: something of the circle is in an outsider's store, seed {seed}");
    // I1: an entry opens for those whom its author counted in when it wrote it, and for nobody else.
    for ((key, seq), counted) in &world.sealed_to {
        for name in names {
            if let Some(opens) = world.opens(name, key, *seq) {
                let expected = counted.contains(&world.key(name));
                assert_eq!(opens, expected, "I1: whether {name} opens entry {seq}, seed {seed}");
            }
        }
    }
    // I3: what was acknowledged is there, on the node that acknowledged it.
    for name in &names[..4] {
        let node = world.node(name);
        for reply in node.replies.values() {
            if let Ok(cwn_engine::output::Reply::Appended { place, .. }) = reply
                && place.key.circle == circle
            {
                let durable = node.store.logs.get(&place.key).map_or(0, Vec::len) as u64;
                assert!(durable > place.seq, "I3: {name} lost what it acknowledged, seed {seed}");
            }
        }
    }
    // I10: nobody signed two entries for one place.
    let mut signed: BTreeMap<(LogKey, u64), Hash> = BTreeMap::new();
    for node in &world.nodes {
        for (key, log) in &node.store.logs {
            for (seq, (hash, _)) in log.iter().enumerate() {
                let first = *signed.entry((*key, seq as u64)).or_insert(*hash);
                assert_eq!(first, *hash, "I10: two entries for one place, seed {seed}");
            }
        }
    }
}

#[test]
fn i1_i3_i4_i10_random_lives_converge_and_lose_nothing() {
    seeds(30).for_each(chaos);
}

#[test]
fn i8_members_go_on_for_forty_days_without_the_coordinator() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["z-cert", "ferm"]);
    world.crash("ncsc");
    for day in 0..40 {
        world.now = world.now.plus(cwn_crypto::Time::DAY_MS);
        world.append("z-cert", circle, &format!("day {day:02}"));
        world.settle();
    }
    assert_eq!(world.reads("ferm", circle).len(), 40);
    let founded = world.circle(&["ferm", "z-cert"]);
    world.append("ferm", founded, "a new circle");
    world.settle();
    world.expect_reads("z-cert", founded, &["a new circle"]);
    world.remove("ferm", founded, "z-cert");
    world.append("ferm", founded, "for itself");
    world.settle();
    world.expect_reads("z-cert", founded, &["a new circle"]);
}

#[test]
fn what_arrives_from_a_third_while_two_compare_leaves_neither_waiting() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.settle();
    world.disconnect("z-cert", "ferm");
    world.slow_line("ncsc", "ferm", 300);
    world.append("z-cert", circle, "on its way to ferm through ncsc");
    // What ferm says first is older than what it holds when it hears what z-cert says.
    world.run(100).connect("z-cert", "ferm").slow_line("z-cert", "ferm", 1_000);
    world.run(5_000);
    for (name, other) in [("z-cert", "ferm"), ("ferm", "z-cert")] {
        let peers = world.engine(name).peers();
        let status = peers.iter().find(|status| status.peer == world.key(other)).unwrap();
        let caught_up = status.circles.iter().find(|(shared, _)| *shared == circle);
        assert_eq!(caught_up, Some(&(circle, true)), "{name} with {other}");
    }
}

#[test]
fn members_of_a_circle_just_founded_have_compared_within_seconds() {
    for seed in seeds(20) {
        let names = ["ncsc", "z-cert", "ferm", "surf", "dtc", "mkb"];
        let mut world = World::unconnected(seed, &names);
        world.connect_all().settle();
        world.jitter_ms = 40;
        let circle = world.found(&names[..1]);
        let other = world.found(&["dtc"]);
        for name in &names[1..] {
            world.add("ncsc", circle, name);
        }
        world.add("dtc", other, "ferm");
        let soon = 500 + world.rng(500);
        world.run(soon).partition(&[&names[..1], &names[1..]]).run(10_000);
        for name in &names[1..] {
            for status in world.engine(name).peers() {
                let caught_up = status.circles.iter().find(|(shared, _)| *shared == circle);
                let other = names.into_iter().find(|other| world.key(other) == status.peer).unwrap();
                assert_eq!(caught_up, Some(&(circle, true)), "seed {seed}: {name} with {other}");
            }
        }
    }
}

#[test]
fn who_was_off_all_the_time_has_everything_within_seconds() {
    for seed in seeds(10) {
        let names = ["ncsc", "z-cert", "ferm", "surf", "dtc", "mkb"];
        let mut world = World::unconnected(seed, &names);
        world.connect_all().settle();
        let circle = world.circle(&names);
        world.crash("ncsc").settle();
        let mut written = 0;
        for round in 0..80 {
            for name in &names[1..] {
                world.append(name, circle, &format!("{name} {round}"));
                written += 1;
            }
            world.run(700);
            if round % 30 == 20 {
                world.crash("mkb").run(2_000);
                world.start("mkb").connect_all().run(3_000);
            }
        }
        world.settle();
        world.start("ncsc").connect_all().run(2_000);
        assert_eq!(world.reads("ncsc", circle).len(), written, "seed {seed}");
    }
}
