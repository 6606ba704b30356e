//! The root of trust goes on: stolen issuers, dropped ones, new ones, and what shows that something is wrong.

use std::collections::BTreeSet;

use cwn_crypto::{
    Domain, Hash, PublicKey, Signed, Time,
    certificate::{self, Certificate},
    issuer_log::{CutLine, Statement},
    root::{DroppedIssuer, IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::SealingKey,
};
use cwn_engine::{
    input::{Command, Input},
    limits,
    log::{CircleId, EntryBytes, LogKey},
    output::{CommandRefusal, Event},
    root::{Alarm, Freshness},
    wire::Frame,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::world::{START, World, key_of, seeds};

/// Drops the issuer at these heads, and allows another key in its place.
fn replace_issuer(heads: Vec<CutLine>) -> impl FnOnce(&mut RootDocument) {
    move |document| {
        let IssuerTerm { issuer, not_before, not_after } = document.issuers.remove(0);
        document.dropped.push(DroppedIssuer { issuer, heads });
        document.issuers.push(IssuerTerm { issuer: key_of("issuer", 9).public(), not_before, not_after });
    }
}

/// An issuer's key was stolen: the thief certified a node of its own and revoked z-cert.
fn a_theft(names: &[&str]) -> (World, CutLine) {
    let mut world = World::unconnected(1, names);
    world.connect_all().settle();
    let head = world.issuer_head();
    let stolen = world.issuer.key.clone();
    world.change_issuer(stolen, 66);
    world.enrol("thief");
    world.connect_all();
    world.revoke("z-cert", "ferm").settle();
    (world, head)
}

fn versions(world: &World, names: &[&str]) -> Vec<u32> {
    names.iter().map(|name| world.engine(name).root().version()).collect()
}

#[test]
fn an_issuer_is_stolen_and_two_of_three_root_keys_drop_it_and_all_go_on() {
    let all = ["ncsc", "z-cert", "ferm"];
    let (mut world, head) = a_theft(&all);
    assert!(world.engine("ncsc").is_certified(&world.key("thief")));
    assert!(!world.engine("ncsc").is_certified(&world.key("z-cert")));
    assert!(!world.is_connected("ncsc", "z-cert"));
    let second = world.next_root(&[0, 2], replace_issuer(vec![head]));
    let id = world.adopt_root("ncsc", &second);
    world.settle();
    assert!(matches!(world.reply("ncsc", id), Some(Ok(_))));
    // Who was cut off by the thief's word connects again with those who know better.
    world.connect_all().settle();
    assert_eq!(versions(&world, &all), [2, 2, 2]);
    for name in all {
        let engine = world.engine(name);
        assert!(!engine.is_certified(&world.key("thief")), "{name}");
        assert!(all.iter().all(|other| engine.is_certified(&world.key(other))), "{name}");
        assert_eq!(engine.word().revocations().count(), 0, "{name}");
    }
    world.change_issuer(key_of("issuer", 9), 9);
    world.enrol("ibd");
    world.connect_all().settle();
    assert_eq!(versions(&world, &["ibd"]), [2]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm", "ibd"]);
    world.append("z-cert", circle, "we go on");
    world.settle();
    for name in ["ncsc", "ferm", "ibd"] {
        world.expect_reads(name, circle, &["we go on"]);
    }
}

/// Found by cwn-sim (seed 224 among many changes, with issuers replaced, 7 nodes, 4 h).
#[test]
fn i2_what_a_new_issuer_said_counts_again_once_the_version_that_names_it_came_back() {
    let (mut world, head) = a_theft(&["ncsc", "z-cert", "ferm"]);
    let second = world.next_root(&[0, 1], replace_issuer(vec![head]));
    world.adopt_root("ncsc", &second);
    world.settle();
    world.connect_all().settle();
    world.change_issuer(key_of("issuer", 9), 9);
    world.revoke("ferm", "ncsc").settle();
    let revoked = |world: &World| world.engine("z-cert").word().revocation(&world.key("ferm")).is_some();
    assert!(revoked(&world));
    let index = world.index("z-cert");
    let store = &mut world.nodes[index].store;
    let versions: Vec<Vec<u8>> = store.facts.keys().filter(|name| name.starts_with(b"root/")).cloned().collect();
    assert_eq!(versions.len(), 1);
    store.rotten_facts.extend(versions);
    world.crash("z-cert").start("z-cert");
    assert!(!revoked(&world), "by what it can read the issuer is none");
    world.connect("ncsc", "z-cert").settle();
    assert_eq!(world.engine("z-cert").root().version(), 2);
    assert!(revoked(&world));
}

#[test]
fn a_version_is_there_after_a_start_and_what_the_thief_said_stays_without_effect() {
    let (mut world, head) = a_theft(&["ncsc", "z-cert", "ferm"]);
    let second = world.next_root(&[0, 1], replace_issuer(vec![head]));
    world.adopt_root("ncsc", &second);
    world.connect_all().settle();
    for name in ["ncsc", "ferm"] {
        world.crash(name).start(name);
        assert_eq!(versions(&world, &[name]), [2]);
        assert!(!world.engine(name).is_certified(&world.key("thief")));
        assert!(world.engine(name).is_certified(&world.key("z-cert")));
        assert_eq!(world.engine(name).word().nodes().count(), 3);
    }
}

#[test]
fn a_version_that_too_few_root_keys_signed_changes_nothing_and_costs_its_bearer_its_credit() {
    let mut world = World::new(&["ncsc", "ferm"]);
    let head = world.issuer_head();
    let second = world.next_root(&[0], replace_issuer(vec![head]));
    let id = world.command("ncsc", Command::AdoptRoot { versions: vec![second.clone()] });
    let refused = world.reply("ncsc", id).unwrap().clone().unwrap_err();
    assert!(
        matches!(&refused, CommandRefusal::Root(_)) && refused.to_string().contains("let 1 more sign"),
        "{refused}"
    );
    let frame = Frame::Root { held: 2, document: Some(second), newest: None };
    world.send_raw("ferm", "ncsc", frame.to_bytes());
    assert_eq!(world.refusals_of("ncsc", "ferm").len(), 1);
    world.settle();
    assert_eq!(versions(&world, &["ncsc", "ferm"]), [1, 1]);
}

#[test]
fn several_versions_reach_a_node_that_was_away_for_all_of_them() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    world.partition(&[&["ncsc", "z-cert"], &["ferm"]]);
    for name in ["second", "third", "fourth"] {
        let next = world.next_root(&[1, 2], |document| document.name = name.to_owned());
        world.adopt_root("ncsc", &next);
        world.run(1_000);
    }
    assert_eq!(versions(&world, &["z-cert", "ferm"]), [4, 1]);
    world.connect("z-cert", "ferm").settle();
    assert_eq!(versions(&world, &["ferm"]), [4]);
    assert_eq!(world.engine("ferm").root().document().name, "fourth");
    let quiet = world.node("ferm").frames;
    world.run(50_000);
    assert!(world.node("ferm").frames - quiet < 20, "they do not talk about it without end");
}

#[test]
fn a_later_issuer_has_the_last_word_however_far_ahead_the_earlier_dates_it() {
    let mut world = World::new(&["ncsc", "ferm"]);
    let next = world.next_root(&[0, 1], |document| {
        let term = document.issuers[0];
        document.issuers.push(IssuerTerm { issuer: key_of("issuer", 9).public(), ..term });
    });
    world.adopt_root("ncsc", &next);
    world.settle();
    let (key, sealing) = (key_of("ferm", 1), SealingKey::from_bytes(*key_of("ferm", 2).seed()));
    let now = world.now;
    world.now = START.plus(89 * Time::DAY_MS);
    world.certify(&key, &sealing, "ferm");
    world.now = now;
    world.change_issuer(key_of("issuer", 9), 9);
    world.certify(&key, &sealing, "ferm");
    let entries = world.issuer.entries.clone();
    let index = world.index("ncsc");
    world.input(index, Input::Import { entries });
    world.settle();
    let newest = world.engine("ncsc").word().certificate(&key.public()).unwrap();
    assert_eq!(newest.certificate.issuer, key_of("issuer", 9).public());
    assert_eq!(world.engine("ncsc").word().certificates(&key.public()).count(), 3, "none is forgotten");
}

#[test]
fn a_member_that_was_away_hears_what_was_said_in_every_sitting_of_the_issuer() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    world.partition(&[&["ncsc", "z-cert"], &["ferm"]]);
    let head = world.issuer_head();
    world.sit_again(2, vec![head]);
    world.revoke("z-cert", "ncsc");
    let head = world.issuer_head();
    world.sit_again(3, vec![head]);
    world.say(Statement::NothingElse);
    let (entries, index) = (world.issuer.entries.clone(), world.index("ncsc"));
    world.input(index, Input::Import { entries });
    world.settle();
    world.connect("ncsc", "ferm").settle();
    assert!(world.engine("ferm").word().revocation(&world.key("z-cert")).is_some());
    let network = CircleId(world.root.network().0);
    assert_eq!(world.digest("ferm", network), world.digest("ncsc", network));
}

// ---- Whatever comes in whatever order.

struct Said {
    entries: Vec<EntryBytes>,
    versions: Vec<SignedRoot>,
}

/// Three sittings of an issuer that is stolen in the second; two versions drop it, the second of them further back.
fn a_life() -> Said {
    let mut world = World::unconnected(1, &["ncsc", "z-cert"]);
    let first_head = world.issuer_head();
    world.sit_again(2, vec![first_head]);
    world.enrol("ferm");
    let second_head = world.issuer_head();
    let stolen = world.issuer.key.clone();
    let honest = world.change_issuer(stolen.clone(), 66);
    world.enrol("thief");
    world.revoke("z-cert", "ncsc");
    let thieves = world.issuer.entries.clone();
    world.change_issuer(stolen, 67);
    world.issuer.writer = honest.writer;
    world.issuer.entries.clear();
    world.enrol("ibd");
    world.revoke("ferm", "ncsc");
    let third_head = world.issuer_head();
    let late = world.issuer.entries.clone();
    // Said in one more sitting, which alone is named in the second version.
    world.sit_again(3, vec![third_head]);
    world.say(Statement::NothingElse);
    let last_head = world.issuer_head();
    let last = world.issuer.entries[late.len()..].to_vec();
    let second = world.next_root(&[0, 1], replace_issuer(vec![last_head]));
    world.adopt_root("ncsc", &second);
    world.change_issuer(key_of("issuer", 9), 9);
    world.issuer.entries.clear();
    world.enrol("surf");
    let others = world.issuer.entries.clone();
    // ferm was revoked by mistake: only the root undoes it.
    let third = world.next_root(&[1, 2], |document| document.dropped[0].heads = vec![second_head]);
    Said { entries: [thieves, late, last, others].concat(), versions: vec![second, third] }
}

type Conclusion = (BTreeSet<PublicKey>, BTreeSet<PublicKey>, Vec<(LogKey, u64)>, Hash);

fn arrive(said: &Said, seed: u64) -> Conclusion {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: usize| (rng.next_u64() % bound.max(1) as u64) as usize;
    let mut world = World::unconnected(seed, &[]);
    let index = world.newcomer("observer");
    let network = CircleId(world.root.network().0);
    // Some of it again and again, in runs from anywhere; then all of it, as a peer would bring it in the end.
    for round in 0..60 {
        let whole = round > 50;
        let from = if whole { 0 } else { below(said.entries.len()) };
        let to = if whole { said.entries.len() } else { (from + 1 + below(4)).min(said.entries.len()) };
        world.input(index, Input::Import { entries: said.entries[from..to].to_vec() });
        if below(20) == 0 || whole {
            let from = if whole { 0 } else { below(said.versions.len()) };
            world.command("observer", Command::AdoptRoot { versions: said.versions[from..].to_vec() });
        }
        if below(6) == 0 || whole {
            world.run(10);
        }
        if below(15) == 0 {
            world.crash("observer").start("observer");
        }
    }
    world.run(1_000);
    let word = world.engine("observer").word();
    (
        word.nodes().map(|own| own.certificate.node).collect(),
        word.revocations().map(|(node, _)| *node).collect(),
        world.conclusions("observer", network).0,
        world.digest("observer", network),
    )
}

#[test]
fn i4_entries_and_versions_in_any_order_end_in_one_word() {
    let said = a_life();
    let expected = arrive(&said, 0);
    let keys = |names: &[&str]| -> BTreeSet<PublicKey> { names.iter().map(|name| key_of(name, 1).public()).collect() };
    assert_eq!(
        expected.0,
        keys(&["ncsc", "z-cert", "ferm", "surf"]),
        "neither the thief nor what came beyond the head"
    );
    assert_eq!(expected.1, keys(&[]), "the root undid the revocations");
    for seed in seeds(60) {
        assert_eq!(arrive(&said, seed), expected, "seed {seed}");
    }
}

// ---- Alarms.

fn alarms(world: &World, name: &str) -> Vec<Alarm> {
    let told = |event: &Event| match event {
        Event::Alarm(alarm) => Some(alarm.clone()),
        _ => None,
    };
    let told: Vec<Alarm> = world.node(name).events.iter().filter_map(told).collect();
    let standing: Vec<Alarm> = world.engine(name).alarms().map(|(alarm, _)| alarm.clone()).collect();
    assert!(standing.iter().all(|alarm| told.contains(alarm)), "every alarm was told");
    standing
}

/// A certificate that the issuer never spoke of.
fn unspoken(world: &World, name: &str, not_before: Time) -> Certificate {
    Certificate {
        suite: 1,
        network: world.root.network(),
        serial: 99,
        node: key_of(name, 1).public(),
        recipient: SealingKey::from_bytes(*key_of(name, 2).seed()).recipient(),
        partner: crate::world::partner(name),
        name: name.to_owned(),
        not_before,
        not_after: not_before.plus(certificate::LIFE_MS),
        issuer: world.issuer.key.public(),
    }
}

#[test]
fn a_certificate_that_its_issuers_log_of_a_day_later_does_not_name_is_an_alarm() {
    let mut world = World::new(&["ncsc", "ferm"]);
    let index = world.index("ncsc");
    let certificate = unspoken(&world, "ghost", world.now);
    world.input(index, Input::Shown { certificate: Box::new(certificate) });
    let announced = world.engine("ncsc").word().certificate(&world.key("ferm")).unwrap().certificate.clone();
    world.input(index, Input::Shown { certificate: Box::new(announced) });
    assert_eq!(alarms(&world, "ncsc"), [], "the log may name it yet");
    world.now = world.now.plus(25 * 3_600_000);
    world.say(Statement::NothingElse);
    let entries = world.issuer.entries.clone();
    world.input(index, Input::Import { entries });
    world.run(100);
    let expected =
        Alarm::Unannounced { node: key_of("ghost", 1).public(), issuer: world.issuer.key.public(), serial: 99 };
    assert_eq!(alarms(&world, "ncsc"), [expected]);
}

#[test]
fn a_certificate_for_ones_own_partner_and_one_that_contradicts_are_alarms() {
    let mut world = World::new(&["ncsc", "ferm"]);
    assert_eq!(alarms(&world, "ferm"), []);
    world.enrol("ferm/2");
    let foreign = Certificate {
        recipient: SealingKey::from_bytes([7; 32]).recipient(),
        serial: 98,
        ..unspoken(&world, "ncsc", world.now)
    };
    let signed = Signed::sign(&foreign, Domain::CERTIFICATE, &world.issuer.key);
    world.say(Statement::Certificate(signed));
    let (entries, index) = (world.issuer.entries.clone(), world.index("ferm"));
    world.input(index, Input::Import { entries });
    world.run(100);
    let issuer = world.issuer.key.public();
    let own = Alarm::OwnPartner { node: world.key("ferm/2"), issuer, serial: 3 };
    assert_eq!(alarms(&world, "ferm"), [own, Alarm::Contradiction { node: world.key("ncsc"), issuer }]);
}

#[test]
fn two_branches_of_an_issuers_log_are_an_alarm_until_it_is_dropped() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm", "ibd"]);
    let head = world.issuer_head();
    world.partition(&[&["ncsc"], &["ferm"], &["ibd"]]);
    let said = world.issuer.entries.clone();
    let branches = [("ncsc", Statement::NothingElse), ("ferm", revocation_of(&world, "z-cert"))];
    for (name, statement) in branches {
        world.issuer.entries.clone_from(&said);
        world.sit_again(5, vec![head]);
        world.say(statement.clone());
        world.say(statement);
        let (entries, index) = (world.issuer.entries.clone(), world.index(name));
        world.input(index, Input::Import { entries });
        world.say(Statement::NothingElse);
        world.run(100);
    }
    let (entries, index) = (world.issuer.entries.clone(), world.index("ferm"));
    world.input(index, Input::Import { entries });
    for (name, peer) in [("ibd", "ferm"), ("ncsc", "ibd"), ("ncsc", "ferm")] {
        world.connect(name, peer).settle();
    }
    let all = ["ncsc", "ferm", "ibd"];
    let expected = [Alarm::IssuerForked { issuer: world.issuer.key.public() }];
    for name in all {
        assert_eq!(alarms(&world, name), expected, "{name}");
    }
    for name in all {
        world.crash(name).start(name);
        assert_eq!(alarms(&world, name), expected, "{name} after a start");
    }
    let next = world.next_root(&[0, 1], replace_issuer(vec![head]));
    world.adopt_root("ncsc", &next);
    world.connect_all().settle();
    for name in all {
        assert_eq!(alarms(&world, name), [], "{name}");
        world.crash(name).start(name);
        assert_eq!(alarms(&world, name), [], "{name} after a start");
    }
    assert!(world.engine("ferm").is_certified(&world.key("z-cert")));
}

#[test]
fn i4_an_issuer_that_forked_its_log_is_held_by_all_along_the_branch_where_it_was_dropped() {
    for heard_before in [false, true] {
        let mut world = World::new(&["ncsc", "z-cert", "ferm", "ibd"]);
        let (head, said) = (world.issuer_head(), world.issuer.entries.clone());
        world.partition(&[&["ncsc", "ibd"], &["ferm", "z-cert"]]);
        let mut heads = Vec::new();
        for (name, statement) in [("ncsc", revocation_of(&world, "ibd")), ("ferm", revocation_of(&world, "z-cert"))] {
            world.issuer.entries.clone_from(&said);
            world.sit_again(5, vec![head]);
            world.say(Statement::NothingElse);
            world.say(statement);
            world.say(Statement::NothingElse);
            heads.push(world.issuer_head());
            let (entries, index) = (world.issuer.entries.clone(), world.index(name));
            world.input(index, Input::Import { entries });
            world.run(100);
        }
        if heard_before {
            world.connect("ncsc", "ferm").settle();
        }
        // The root keys know which branch was the issuer's own.
        let next = world.next_root(&[0, 1], replace_issuer(vec![heads[0]]));
        world.adopt_root("ncsc", &next);
        world.connect("ncsc", "ferm").settle();
        world.crash("ferm").start("ferm").connect("ncsc", "ferm").settle();
        for name in ["ncsc", "ferm"] {
            assert!(world.engine(name).is_certified(&world.key("z-cert")), "{name}, heard before: {heard_before}");
            assert!(!world.engine(name).is_certified(&world.key("ibd")), "{name}, heard before: {heard_before}");
            let network = world.engine(name).network();
            assert_eq!(world.digest(name, network), world.digest("ncsc", network), "heard before: {heard_before}");
        }
    }
}

fn revocation_of(world: &World, name: &str) -> Statement {
    Statement::Revocation { node: world.key(name), serial: 1, reason: "stolen".to_owned(), cut: Vec::new() }
}

#[test]
fn two_documents_for_one_version_are_an_alarm_and_the_first_stands() {
    let mut world = World::new(&["ncsc", "ferm"]);
    let one = world.next_root(&[0, 1], |document| document.name = "one".to_owned());
    let other = world.next_root(&[1, 2], |document| document.name = "other".to_owned());
    world.adopt_root("ncsc", &one);
    world.settle();
    let id = world.command("ferm", Command::AdoptRoot { versions: vec![other] });
    assert!(matches!(world.reply("ferm", id), Some(Err(CommandRefusal::Root(_)))));
    assert_eq!(alarms(&world, "ferm"), [Alarm::RootForked { version: 2 }]);
    assert_eq!(world.engine("ferm").root().document().name, "one");
}

/// A node is handed the version that comes next behind those of `root`, whatever others hold.
fn adopt_behind(world: &mut World, root: &TrustRoot, node: &str) -> TrustRoot {
    world.root = root.clone();
    let next = world.next_root(&[0, 1], |document| document.name = node.to_owned());
    world.adopt_root(node, &next);
    world.run(1_100);
    world.root.clone()
}

#[test]
fn i9_who_holds_other_documents_for_one_version_than_its_peer_says_so_as_do_both_after_a_start() {
    for more in [(0, 0), (1, 0), (0, 1), (2, 1)] {
        let mut world = World::new(&["ncsc", "ferm"]);
        world.disconnect("ncsc", "ferm");
        let first = world.root.clone();
        for (node, more) in [("ncsc", more.0), ("ferm", more.1)] {
            (0..=more).fold(first.clone(), |root, _| adopt_behind(&mut world, &root, node));
            assert_eq!(alarms(&world, node), [], "it has nothing to compare with");
        }
        let both = ["ncsc", "ferm"];
        let held = versions(&world, &both);
        world.connect("ncsc", "ferm").settle();
        for after in ["they met", "a start", "a second meeting"] {
            for node in both {
                let because = format!("{node}, {more:?} versions more, after {after}");
                assert_eq!(alarms(&world, node), [Alarm::RootForked { version: 2 }], "{because}");
                assert_eq!(world.engine(node).root().document().name, node, "{because}");
            }
            assert_eq!(versions(&world, &both), held, "nobody changes sides");
            if after == "they met" {
                both.iter().for_each(|node| _ = world.crash(node).start(node));
            } else {
                world.connect("ncsc", "ferm").settle();
            }
        }
        assert!(world.is_connected("ncsc", "ferm"), "neither is to blame");
        let quiet = world.frames_of[&9];
        world.run(300_000);
        assert_eq!(world.frames_of[&9], quiet, "they do not talk about it without end");
    }
}

#[test]
fn i9_who_gets_a_version_that_follows_another_than_its_own_hands_its_own_over_once_so_that_the_bearer_sees_it() {
    let mut world = World::new(&["ncsc", "ferm"]);
    // What they say of it to each other is lost.
    world.clog_line("ncsc", "ferm").clog_line("ferm", "ncsc");
    let first = world.root.clone();
    let second = adopt_behind(&mut world, &first, "ncsc");
    adopt_behind(&mut world, &first, "ferm");
    world.root = second;
    let third = world.next_root(&[0, 1], |document| document.name = "third".to_owned());
    let before = world.frames_of[&9];
    for _ in 0..3 {
        let frame = Frame::Root { held: 3, document: Some(third.clone()), newest: None };
        world.send_raw("ncsc", "ferm", frame.to_bytes());
        world.run(1_100);
    }
    assert_eq!(world.frames_of[&9] - before, 1);
    assert_eq!((versions(&world, &["ferm"]), world.refusals_of("ferm", "ncsc").len()), (vec![2], 0));
}

#[test]
fn i7_who_asks_again_and_again_for_the_versions_of_the_root_is_handed_them_once_a_second() {
    let mut world = World::new(&["ncsc", "ferm"]);
    let mut root = world.root.clone();
    for _ in 0..3 {
        root = adopt_behind(&mut world, &root, "ncsc");
    }
    let handed = |world: &World| world.frames_of[&9];
    let before = handed(&world);
    for second in 1..=3 {
        for _ in 0..100 {
            world.send_raw("ferm", "ncsc", Frame::Root { held: 1, document: None, newest: None }.to_bytes());
        }
        assert_eq!(handed(&world) - before, 3 * second);
        world.run(limits::COMPARE_EVERY_MS);
    }
    assert!(world.is_connected("ncsc", "ferm"));
}

#[test]
fn a_word_that_is_a_day_old_is_stale_and_after_a_week_holds_back() {
    let mut world = World::new(&["ncsc"]);
    let freshness = |world: &mut World, ms: u64| {
        let index = world.index("ncsc");
        world.now = world.now.plus(ms);
        world.input(index, Input::Tick);
        world.engine("ncsc").freshness()
    };
    assert_eq!(freshness(&mut world, 3_600_000), Freshness::Fresh);
    assert_eq!(freshness(&mut world, Time::DAY_MS), Freshness::Stale);
    assert_eq!(freshness(&mut world, 5 * Time::DAY_MS), Freshness::Stale);
    assert_eq!(freshness(&mut world, Time::DAY_MS), Freshness::HoldsBack);
    assert_eq!(Freshness::of(None, 1), Freshness::HoldsBack, "nothing was heard");
    // A thief's word from the future makes nothing fresh.
    let now = world.now;
    world.now = now.plus(30 * Time::DAY_MS);
    world.say(Statement::NothingElse);
    world.now = now;
    let (entries, index) = (world.issuer.entries.clone(), world.index("ncsc"));
    world.input(index, Input::Import { entries });
    assert_eq!(freshness(&mut world, 1), Freshness::HoldsBack);
}
