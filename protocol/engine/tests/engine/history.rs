//! What newcomers can open of what was written before they were added.

use cwn_crypto::{Hash, PublicKey};
use cwn_engine::{circle::History, log::CircleId, wire::Frame};

use crate::world::{World, seeds};

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

/// Everything sealed to epochs that stands in a circle.
fn epochs(world: &World, name: &str, circle: CircleId) -> Vec<Hash> {
    world.engine(name).circle(&circle).unwrap().epochs().map(|(hash, _)| *hash).collect()
}

#[test]
fn a_newcomer_opens_what_came_before_it_when_the_policy_says_all() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.set_history("ncsc", circle, History::All).settle();
    world.append("ncsc", circle, "one");
    world.append("z-cert", circle, "two");
    world.settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.expect_reads("ferm", circle, &["one", "two"]);
    assert_eq!(world.node("ferm").given.len(), 2, "both epochs, and it was told of both");
    world.crash("ferm").start("ferm");
    world.expect_reads("ferm", circle, &["one", "two"]);
    assert_eq!(world.node("ferm").given.len(), 2, "it is told again after a start");
    world.connect_all().settle();
    assert_eq!(world.handed.len(), 2, "what it has it does not ask for again");
}

#[test]
fn i1_what_was_written_while_the_policy_said_none_stays_closed_to_newcomers_whatever_it_says_later() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.append("ncsc", circle, "first none");
    world.settle();
    world.set_history("ncsc", circle, History::All).settle();
    world.append("ncsc", circle, "all");
    world.settle();
    world.set_history("ncsc", circle, History::None).settle();
    world.append("ncsc", circle, "then none");
    world.settle();
    world.set_history("ncsc", circle, History::All).settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.expect_reads("ferm", circle, &["(sealed)", "(sealed)", "all"]);
    world.expect_reads("z-cert", circle, &["first none", "all", "then none"]);
}

#[test]
fn any_member_hands_the_keys_on_also_one_that_was_handed_them() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.set_history("ncsc", circle, History::All).settle();
    world.append("z-cert", circle, "old");
    world.settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.partition(&[&["ncsc", "z-cert", "ferm"], &["ibd"]]);
    world.add("ncsc", circle, "ibd");
    world.settle();
    world.crash("ncsc").crash("z-cert");
    world.connect("ferm", "ibd").settle();
    world.expect_reads("ibd", circle, &["old"]);
}

#[test]
fn who_has_no_key_is_asked_in_vain_and_another_gives_it() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.set_history("ncsc", circle, History::All).settle();
    world.append("z-cert", circle, "old");
    world.settle();
    // ibd gets the entries and no keys: whoever has them is away.
    world.partition(&[&["ncsc", "z-cert"], &["ibd"], &["ferm"]]);
    world.add("ncsc", circle, "ibd");
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.connect("ncsc", "ibd").run(100);
    world.disconnect("ncsc", "ibd").settle();
    world.connect("ibd", "ferm").settle();
    // However long that takes.
    world.run(12 * 60 * 60_000);
    world.connect("ferm", "z-cert").settle();
    world.expect_reads("ferm", circle, &["old"]);
    world.run(20 * 60_000);
    world.expect_reads("ibd", circle, &["old"]);
}

#[test]
fn i5_a_key_that_is_not_the_one_its_maker_committed_to_is_not_kept_and_its_bearer_is_blamed() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.set_history("ncsc", circle, History::All).settle();
    world.append("ncsc", circle, "old");
    world.settle();
    let forger = world.index("z-cert");
    world.nodes[forger].forges_keys = true;
    world.partition(&[&["ncsc", "z-cert"], &["ferm", "z-cert"]]);
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.connect("z-cert", "ferm").settle();
    world.expect_reads("ferm", circle, &["(sealed)"]);
    assert!(world.node("ferm").given.is_empty());
    assert!(!world.refusals_of("ferm", "z-cert").is_empty());
    world.connect("ncsc", "ferm").settle();
    world.expect_reads("ferm", circle, &["old"]);
    assert!(world.refusals_of("ferm", "ncsc").is_empty());
}

#[test]
fn i1_no_key_is_handed_to_the_removed_nor_one_that_the_policy_kept_back() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.append("ncsc", circle, "none");
    world.settle();
    world.set_history("ncsc", circle, History::All).settle();
    world.append("ncsc", circle, "all");
    world.settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    let handed = world.handed.len();
    let (tag, all) = (world.tag("ferm", "ncsc", circle), epochs(&world, "ncsc", circle));
    let ask = Frame::WantKeys { tag, epochs: all.clone() }.to_bytes();
    world.send_raw("ferm", "ncsc", ask.clone());
    world.settle();
    let again: Vec<Hash> = world.handed[handed..].iter().map(|(.., epoch)| *epoch).collect();
    let history = |epoch: &Hash| world.engine("ncsc").circle(&circle).unwrap().epoch(epoch).unwrap().history;
    assert!(!again.is_empty() && again.iter().all(|epoch| history(epoch) == History::All), "{again:?}");
    world.remove("ncsc", circle, "ferm");
    let handed = world.handed.len();
    world.send_raw("ferm", "ncsc", ask);
    world.settle();
    assert_eq!(world.handed.len(), handed, "who was removed is handed nothing");
}

#[test]
fn i7_who_asks_for_keys_without_end_is_not_answered_without_end() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.set_history("ncsc", circle, History::All).settle();
    world.append("ncsc", circle, "all");
    world.settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    let (tag, all) = (world.tag("ferm", "ncsc", circle), epochs(&world, "ncsc", circle));
    for _ in 0..1_000 {
        world.send_raw("ferm", "ncsc", Frame::WantKeys { tag, epochs: all.clone() }.to_bytes());
        world.run(50);
    }
    assert!(world.handed.len() < 100, "{}", world.handed.len());
    assert!(world.is_connected("ferm", "ncsc"));
    let many = Frame::WantKeys { tag, epochs: vec![Hash([0; 32]); 65] }.to_bytes();
    (0..3).for_each(|_| world.send_raw("ferm", "ncsc", many.clone()));
    world.run(5);
    assert!(!world.refusals_of("ncsc", "ferm").is_empty());
}

#[test]
fn i1_i4_members_end_with_the_keys_that_the_policy_of_each_time_gives_them_and_no_others() {
    for seed in seeds(12) {
        let mut world = World::unconnected(seed, &FOUR);
        // Everybody hears of everybody's certificate first.
        world.connect_all().settle();
        world.jitter_ms = 40;
        let circle = world.found(&["ncsc"]);
        world.add("ncsc", circle, "z-cert");
        let mut texts = 0;
        for step in 0..40 {
            let one = FOUR[world.rng(4) as usize];
            let other = FOUR[world.rng(4) as usize];
            match world.rng(6) {
                0 if step < 30 => {
                    let history = if world.rng(2) == 0 { History::None } else { History::All };
                    world.set_history("ncsc", circle, history);
                }
                1 | 2 if world.engine(one).circle(&circle).is_some() => {
                    texts += 1;
                    world.append(one, circle, &format!("text {texts}"));
                }
                3 => {
                    world.disconnect(one, other);
                }
                4 if one != "ncsc" => {
                    world.add("ncsc", circle, one);
                }
                _ => {
                    world.connect(one, other);
                }
            }
            let pause = world.rng(3_000);
            world.run(pause);
        }
        for name in &FOUR[1..] {
            world.add("ncsc", circle, name);
        }
        world.connect_all().run(30 * 60_000);
        let digest = world.digest("ncsc", circle);
        let written = world.sealed_to.clone();
        for name in FOUR {
            assert_eq!(world.digest(name, circle), digest, "{name} (seed {seed})");
            let me: PublicKey = world.key(name);
            for ((log, seq), counted) in &written {
                let may = counted.contains(&me) || world.sealed_while[&(*log, *seq)] == History::All;
                assert_eq!(world.opens(name, log, *seq), Some(may), "{name}, entry {seq} (seed {seed})");
            }
        }
    }
}
