//! Payloads that time drops, and those that it must not.

use cwn_crypto::{Time, encoding};
use cwn_engine::{
    circle::Quota,
    expire::Retention,
    input::{Audience, Command, CommandId},
    limits,
    log::{CircleId, Decoded, EntryBytes, EntryRefusal, Header, LogKind, Payload},
    output::{Carried, Reply, Rest},
};

use crate::world::World;

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

fn in_days(world: &World, days: u64) -> Option<Time> {
    Some(world.now.plus(days * Time::DAY_MS))
}

/// Publishes what expires after so many days.
fn append_for(world: &mut World, by: &str, circle: CircleId, text: &str, days: u64) -> CommandId {
    let expiry = in_days(world, days);
    world.append_until(by, circle, text, Audience::Circle, expiry)
}

/// So many days pass in which nobody says anything.
fn silent_days(world: &mut World, days: u64) {
    world.settle();
    world.now = world.now.plus(days * Time::DAY_MS);
    world.settle();
}

/// So many days pass, and members write, so that all see that their clocks are right; what is due is dropped.
fn days_pass(world: &mut World, circle: CircleId, days: u64) {
    silent_days(world, days);
    for name in ["ncsc", "z-cert"] {
        world.append(name, circle, "still here");
    }
    world.settle();
    world.run(limits::LOOK_EVERY_MS);
}

/// What a node reads but for what was written to show the time.
fn reads(world: &World, name: &str, circle: CircleId) -> Vec<String> {
    world.reads(name, circle).into_iter().filter(|text| text != "still here").collect()
}

#[test]
fn what_expired_is_dropped_from_every_disk_and_all_go_on_agreeing() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    append_for(&mut world, "ferm", circle, "for a week", 7);
    append_for(&mut world, "ferm", circle, "for a month", 30);
    world.append("ferm", circle, "for ever");
    days_pass(&mut world, circle, 6);
    for name in FOUR {
        assert_eq!(
            reads(&world, name, circle),
            ["for a month", "for a week", "for ever"],
            "{name}: not before its time"
        );
    }
    days_pass(&mut world, circle, 2);
    let digest = world.digest("ncsc", circle);
    let log = world.content_log("ferm", circle);
    for name in FOUR {
        assert_eq!(reads(&world, name, circle), ["(dropped)", "for a month", "for ever"], "{name}");
        assert_eq!(world.digest(name, circle), digest, "{name}: the header stays, and every head");
        assert_eq!(world.node(name).dropped.get(&log), Some(&1), "{name}: whoever shows it is told");
        world.crash(name).start(name);
        assert_eq!(reads(&world, name, circle), ["(dropped)", "for a month", "for ever"], "{name}, after a start");
        assert_eq!(world.node(name).dropped.get(&log), Some(&1), "{name}: and told so again");
    }
    world.connect_all().settle();
    days_pass(&mut world, circle, 30);
    for name in FOUR {
        assert_eq!(reads(&world, name, circle), ["(dropped)", "(dropped)", "for ever"], "{name}");
        assert_eq!(world.node(name).dropped.get(&log), Some(&2), "{name}");
        assert_eq!(world.engine(name).behind(&circle), 0, "{name}");
    }
}

#[test]
fn i9_nothing_is_dropped_while_nobody_agrees_with_the_clock() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    append_for(&mut world, "ferm", circle, "short", 1);
    world.settle();
    // The clock of one runs a year ahead, alone.
    world.partition(&[&["ibd"], &["ncsc", "z-cert", "ferm"]]);
    silent_days(&mut world, 366);
    for name in FOUR {
        assert!(world.engine(name).clock_doubtful(), "{name}");
        world.expect_reads(name, circle, &["short"]);
        world.crash(name).start(name);
    }
    world.run(3 * limits::LOOK_EVERY_MS);
    for name in FOUR {
        world.expect_reads(name, circle, &["short"]);
    }
    world.connect_all().settle();
    days_pass(&mut world, circle, 0);
    for name in FOUR {
        assert_eq!(reads(&world, name, circle), ["(dropped)"], "{name}: once somebody's clock agrees");
    }
}

#[test]
fn a_retention_drops_what_is_older_and_nothing_that_says_who_belongs_or_takes_back() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let wrong = world.append("ferm", circle, "wrong");
    world.append("ferm", circle, "old");
    world.settle();
    world.retract("ferm", circle, wrong);
    world.set_retention("ncsc", circle, Some(30)).settle();
    days_pass(&mut world, circle, 25);
    world.append("ferm", circle, "new");
    days_pass(&mut world, circle, 10);
    for name in FOUR {
        assert_eq!(reads(&world, name, circle), ["(dropped)", "new"], "{name}");
        let roster = world.engine(name).circle(&circle).unwrap().fold().roster();
        assert_eq!(roster.iter().count(), 4, "{name}");
        world.crash(name).start(name);
        assert_eq!(reads(&world, name, circle), ["(dropped)", "new"], "{name}, after a start");
        let replica = world.engine(name).circle(&circle).unwrap();
        assert_eq!(replica.fold().roster().iter().count(), 4, "{name}: the operations are there");
        let log = world.content_log("ferm", circle);
        assert!(
            world.node(name).store.logs[&log][2].1.payload.sealed().is_some(),
            "{name}: a retraction is never dropped"
        );
    }
}

#[test]
fn rot_where_a_retention_begins_keeps_no_node_from_starting() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    world.append("ferm", circle, "old");
    world.settle();
    world.set_retention("ncsc", circle, Some(30)).settle();
    days_pass(&mut world, circle, 25);
    world.append("ferm", circle, "new");
    world.append("ferm", circle, "newer");
    days_pass(&mut world, circle, 10);
    assert_eq!(reads(&world, "ibd", circle), ["(dropped)", "new", "newer"]);
    let (log, index) = (world.content_log("ferm", circle), world.index("ibd"));
    world.crash("ibd");
    world.nodes[index].store.rotten.insert((log, 1));
    world.start("ibd").connect_all().settle();
    days_pass(&mut world, circle, 1);
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle), "it runs, and agrees with the others");
}

#[test]
fn a_shortened_retention_acts_a_week_after_it_was_seen_and_a_lengthened_one_at_once() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    world.append("ferm", circle, "old");
    days_pass(&mut world, circle, 60);
    world.set_retention("ncsc", circle, Some(30)).settle();
    let seen = world.engine("ibd").retention(&circle);
    assert!(matches!(seen, Retention { days: None, shorter: Some((30, Some(_))) }), "{seen:?}");
    days_pass(&mut world, circle, 6);
    world.crash("ibd").start("ibd");
    world.connect_all().settle();
    for name in FOUR {
        assert_eq!(reads(&world, name, circle), ["old"], "{name}: a week to put it right");
    }
    // It is put right in time, and said again later.
    world.set_retention("ncsc", circle, None).settle();
    days_pass(&mut world, circle, 6);
    for name in FOUR {
        assert_eq!(world.engine(name).retention(&circle), Retention::default(), "{name}");
        assert_eq!(reads(&world, name, circle), ["old"], "{name}");
    }
    world.set_retention("ncsc", circle, Some(30)).settle();
    days_pass(&mut world, circle, 8);
    for name in FOUR {
        assert_eq!(world.engine(name).retention(&circle).days, Some(30), "{name}");
        assert_eq!(reads(&world, name, circle), ["(dropped)"], "{name}");
    }
}

#[test]
fn a_week_is_not_counted_by_a_clock_that_nobody_agrees_with() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    world.append("ferm", circle, "old");
    days_pass(&mut world, circle, 60);
    // ibd sees the policy when its clock is a year behind.
    let right = world.now;
    world.crash("ibd");
    world.set_retention("ncsc", circle, Some(30)).settle();
    world.set_clock(Time(right.0 - 365 * Time::DAY_MS));
    world.start("ibd");
    world.hear_operations(circle, "ncsc", "ibd");
    world.run(1_000);
    assert_eq!(world.engine("ibd").retention(&circle).shorter, Some((30, None)), "since when, it cannot say");
    world.set_clock(right.plus(Time::DAY_MS));
    world.connect_all().settle();
    days_pass(&mut world, circle, 1);
    assert_eq!(reads(&world, "ibd", circle), ["old"]);
    days_pass(&mut world, circle, 8);
    assert_eq!(reads(&world, "ibd", circle), ["(dropped)"]);
}

#[test]
fn a_newcomer_takes_what_everybody_dropped_without_its_payload_and_blames_nobody() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    append_for(&mut world, "ferm", circle, "short", 1);
    world.append("ferm", circle, "for ever");
    world.settle();
    world.set_retention("ncsc", circle, Some(10)).settle();
    world.append("z-cert", circle, "old");
    days_pass(&mut world, circle, 20);
    // The policy keeps for ever again; what went under the old one is gone.
    world.set_retention("ncsc", circle, None).settle();
    world.add("ncsc", circle, "ibd");
    world.settle();
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
    assert_eq!(world.engine("ibd").behind(&circle), 0);
    assert_eq!(world.payloads("ibd", circle), world.payloads("ncsc", circle));
    for peer in ["ncsc", "z-cert", "ferm"] {
        assert!(world.refusals_of("ibd", peer).is_empty(), "{peer}");
        assert!(world.is_connected("ibd", peer), "{peer}");
    }
}

#[test]
fn i3_what_a_peer_dropped_too_early_is_asked_of_others_and_taken_from_nobody_without_its_payload() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    append_for(&mut world, "ferm", circle, "for a year", 365);
    world.append("ferm", circle, "for ever");
    world.settle();
    let log = world.content_log("ferm", circle);
    let hasty = world.index("z-cert");
    world.nodes[hasty]
        .store
        .logs
        .get_mut(&log)
        .unwrap()
        .iter_mut()
        .for_each(|(_, bytes)| bytes.payload = Payload::Dropped);
    // ibd has z-cert alone.
    world.partition(&[&["ncsc", "ferm"], &["z-cert", "ibd"]]);
    world.connect("ncsc", "z-cert").settle();
    world.add("ncsc", circle, "ibd");
    world.settle();
    assert_eq!(world.engine("ibd").circle(&circle).unwrap().log(&log.author, &log.log).map_or(0, |log| log.height), 0);
    world.run(4 * limits::LACKING_AGAIN_MS);
    assert!(world.refusals_of("ibd", "z-cert").is_empty(), "an honest peer's clock may be another");
    assert!(world.is_connected("ibd", "z-cert"));
    world.connect("ibd", "ncsc").run(2 * limits::LACKING_AGAIN_MS);
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
    let held = &world.node("ibd").store.logs[&log];
    assert!(held.iter().all(|(_, bytes)| bytes.payload.sealed().is_some()), "with its payload, from who has it");
}

#[test]
fn who_lacks_what_a_peer_dropped_takes_it_once_its_own_clock_says_so() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    append_for(&mut world, "ferm", circle, "for a week", 7);
    world.append("ferm", circle, "for ever");
    world.settle();
    let log = world.content_log("ferm", circle);
    for name in ["ncsc", "z-cert", "ferm"] {
        let index = world.index(name);
        world.nodes[index].store.logs.get_mut(&log).unwrap()[0].1.payload = Payload::Dropped;
    }
    world.add("ncsc", circle, "ibd");
    world.settle();
    let height = |world: &World| {
        world.engine("ibd").circle(&circle).unwrap().log(&log.author, &log.log).map_or(0, |log| log.height)
    };
    assert_eq!(height(&world), 0, "what follows waits for it");
    silent_days(&mut world, 8);
    world.run(2 * limits::LACKING_AGAIN_MS);
    assert_eq!(height(&world), 2);
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
}

#[test]
fn a_file_without_a_payload_waits_and_one_with_it_is_taken() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "ferm", "ibd"]);
    world.crash("ibd");
    append_for(&mut world, "ferm", circle, "for a week", 7);
    world.settle();
    let log = world.content_log("ferm", circle);
    let whole = world.node("ncsc").store.logs[&log][0].1.clone();
    let records = world.node("ncsc").store.records.iter().filter(|((of, _), _)| *of == circle);
    let records: Vec<_> = records.map(|(_, bytes)| encoding::from_bytes(bytes, 1 << 20).unwrap()).collect();
    world.start("ibd");
    let mut carry = |payload: Payload| -> Carried {
        let entries = vec![EntryBytes { payload, ..whole.clone() }];
        let id = world.command("ibd", Command::CarryRun { key: log, records: records.clone(), entries });
        world.run(1_000);
        let Some(Ok(Reply::Carried(carried))) = world.reply("ibd", id).cloned() else { panic!("it is answered") };
        carried
    };
    let bare = carry(Payload::Dropped);
    assert!(matches!(bare, Carried { taken: 0, height: 0, rest: Some(Rest::Waits(_)) }), "{bare:?}");
    assert_eq!(carry(whole.payload.clone()), Carried { taken: 1, height: 1, rest: None });
    assert_eq!(carry(Payload::Dropped), Carried { taken: 0, height: 1, rest: None }, "what is here stays as it is");
    world.expect_reads("ibd", circle, &["for a week"]);
}

#[test]
fn an_entry_without_its_payload_is_none_where_time_drops_nothing() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let wrong = world.append("ferm", circle, "wrong");
    world.settle();
    world.retract("ferm", circle, wrong);
    world.settle();
    let mut refused = 0;
    for (key, log) in &world.node("ncsc").store.logs {
        for (_, bytes) in log {
            let bare = Decoded::decode(EntryBytes { payload: Payload::Dropped, ..bytes.clone() });
            let header = Header::from_bytes(&bytes.header).unwrap();
            let never = header.suite.kind() != LogKind::Content || header.retracts.is_some();
            match bare {
                Ok(_) => assert!(!never, "{key:?}"),
                Err(EntryRefusal::NeverDropped { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 4, "operations, certificates and the retraction");
}

#[test]
fn what_was_dropped_counts_for_no_quota_also_after_a_start() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    append_for(&mut world, "ferm", circle, &"x".repeat(10_000), 1);
    world.append("ferm", circle, "small");
    world.settle();
    let used = |world: &World, name: &str| -> Quota {
        let replica = world.engine(name).circle(&circle).unwrap();
        replica.used(&world.key("ferm"))
    };
    assert!(used(&world, "ibd").bytes > 10_000);
    days_pass(&mut world, circle, 2);
    let after = used(&world, "ibd");
    assert!(after.bytes < 2_000, "{after:?}");
    assert_eq!(after.entries, 2);
}

#[test]
fn what_was_dropped_can_still_be_taken_back() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let wrong = append_for(&mut world, "ferm", circle, "wrong", 1);
    world.settle();
    days_pass(&mut world, circle, 2);
    world.retract("ferm", circle, wrong);
    world.settle();
    assert_eq!(reads(&world, "ncsc", circle), Vec::<String>::new(), "hidden like any that was taken back");
    days_pass(&mut world, circle, 2);
    for name in FOUR {
        assert_eq!(world.node(name).store.erased.len(), 1, "{name}");
    }
}
