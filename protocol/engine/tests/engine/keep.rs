//! What lies beyond a cut: withheld, kept for ninety days, and accepted when the cut is raised.

use cwn_crypto::{Time, issuer_log::LogId};
use cwn_engine::{
    input::{Command, CommandId},
    limits,
    log::{CircleId, Draft, EntryBytes, Opening, Suite, Writer},
    output::CommandRefusal,
};

use crate::world::{World, seeds};

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

/// Two stewards and two members, who all read what ferm wrote.
fn two_stewards() -> (World, CircleId) {
    let mut world = World::new(&FOUR);
    let circle = world.found(&["ncsc", "z-cert"]);
    world.add("ncsc", circle, "ibd");
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.append("ferm", circle, "before");
    world.settle();
    (world, circle)
}

/// Two stewards, of whom the second removes ferm without having heard its last two entries, which the others hold.
fn removed_too_low() -> (World, CircleId) {
    let (mut world, circle) = two_stewards();
    world.partition(&[&["z-cert"], &["ncsc", "ibd", "ferm"]]);
    world.append("ferm", circle, "unheard");
    world.append("ferm", circle, "unheard too");
    world.settle();
    world.remove("z-cert", circle, "ferm");
    world.connect_all().settle();
    (world, circle)
}

fn raise(world: &mut World, by: &str, circle: CircleId) -> CommandId {
    let removal = world.engine("ncsc").withheld(&circle)[0].removal;
    let id = world.command(by, Command::Raise { circle, removal, branches: Vec::new() });
    world.settle();
    id
}

/// So many days pass, and somebody writes, so that the others see that their clocks are right.
fn days_pass(world: &mut World, circle: CircleId, days: u64, away: Option<&str>) {
    world.now = world.now.plus(days * Time::DAY_MS);
    world.settle();
    for name in ["ncsc", "z-cert"].into_iter().filter(|name| away != Some(*name)) {
        world.append(name, circle, "still here");
    }
    world.settle();
}

fn held(world: &World, name: &str, circle: CircleId) -> u64 {
    let author = world.key("ferm");
    let logs = world.node(name).store.logs.iter();
    logs.filter(|(key, _)| (key.circle, key.author) == (circle, author)).map(|(_, log)| log.len() as u64).sum()
}

#[test]
fn what_lies_beyond_a_cut_is_withheld_and_shown_and_accepted_once_the_cut_is_raised() {
    let (mut world, circle) = removed_too_low();
    for name in ["ncsc", "z-cert", "ibd"] {
        world.expect_reads(name, circle, &["before"]);
    }
    let withheld = world.engine("ncsc").withheld(&circle);
    assert_eq!(withheld.iter().map(|one| (one.cut, one.height)).collect::<Vec<_>>(), [(1, 3)]);
    assert!(world.engine("z-cert").withheld(&circle).is_empty(), "it never had them");
    raise(&mut world, "ncsc", circle);
    for name in ["ncsc", "z-cert", "ibd"] {
        world.expect_reads(name, circle, &["before", "unheard", "unheard too"]);
        assert!(world.engine(name).withheld(&circle).is_empty(), "{name}");
        assert!(!world.engine(name).circle(&circle).unwrap().counts(&world.key("ferm")), "{name}: it stays removed");
    }
}

#[test]
fn a_cut_is_raised_by_nobody_of_worse_rank_nor_where_nothing_is_held_beyond_it() {
    let (mut world, circle) = two_stewards();
    world.partition(&[&["ncsc"], &["z-cert", "ibd", "ferm"]]);
    world.append("ferm", circle, "unheard");
    world.settle();
    world.remove("ncsc", circle, "ferm");
    world.connect_all().settle();
    let removal = world.engine("z-cert").withheld(&circle)[0].removal;
    let refused = world.command("z-cert", Command::Raise { circle, removal, branches: Vec::new() });
    assert!(matches!(world.reply("z-cert", refused), Some(Err(CommandRefusal::BetterRank { .. }))));
    let refused = world.command("ncsc", Command::Raise { circle, removal, branches: Vec::new() });
    assert_eq!(world.reply("ncsc", refused), Some(&Err(CommandRefusal::NothingWithheld)));
    let refused = world.command("ibd", Command::Raise { circle, removal, branches: Vec::new() });
    assert!(matches!(world.reply("ibd", refused), Some(Err(CommandRefusal::NotASteward { .. }))));
}

#[test]
fn what_a_cut_put_aside_stays_aside_when_who_wrote_it_is_added_again_and_removed_again() {
    let (mut world, circle) = removed_too_low();
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.append("ferm", circle, "again");
    world.settle();
    world.expect_reads("ibd", circle, &["before", "again"]);
    world.remove("ncsc", circle, "ferm");
    world.settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        world.expect_reads(name, circle, &["before", "again"]);
    }
    let withheld = world.engine("ibd").withheld(&circle);
    assert_eq!(
        withheld.iter().map(|one| (one.cut, one.height)).collect::<Vec<_>>(),
        [(1, 3)],
        "it can still be raised"
    );
    raise(&mut world, "ncsc", circle);
    for name in ["ncsc", "z-cert", "ibd"] {
        world.expect_reads(name, circle, &["before", "unheard", "unheard too", "again"]);
    }
}

#[test]
fn what_a_steward_decided_beyond_its_dismissal_stays_void_when_it_is_appointed_and_dismissed_again() {
    let (mut world, circle) = two_stewards();
    world.appoint("ncsc", circle, "ibd");
    world.settle();
    world.partition(&[&["ncsc", "z-cert"], &["ibd", "ferm"]]);
    world.remove("ibd", circle, "ferm");
    world.settle();
    world.dismiss("ncsc", circle, "ibd");
    world.connect_all().settle();
    let ferm = world.key("ferm");
    let counts = |world: &World, name: &str| world.engine(name).circle(&circle).unwrap().counts(&ferm);
    assert!(counts(&world, "ncsc") && counts(&world, "ibd"), "what it decided unheard is void");
    world.appoint("ncsc", circle, "ibd");
    world.settle();
    world.policy("ibd", circle, 30);
    world.settle();
    world.dismiss("ncsc", circle, "ibd");
    world.settle();
    for name in FOUR {
        assert!(counts(&world, name), "{name}: ferm is removed by who was no steward");
        assert_eq!(world.terms(name, circle), 30, "{name}: what it decided as a steward stays");
    }
}

#[test]
fn raising_a_cut_does_not_remove_who_was_added_again() {
    let (mut world, circle) = removed_too_low();
    world.add("ncsc", circle, "ferm");
    world.settle();
    let raised = raise(&mut world, "ncsc", circle);
    assert!(matches!(world.reply("ncsc", raised), Some(Err(CommandRefusal::BelongsAgain { .. }))));
    assert!(world.engine("ibd").circle(&circle).unwrap().counts(&world.key("ferm")));
}

#[test]
fn what_lies_beyond_a_cut_is_dropped_after_ninety_days_and_all_go_on_agreeing() {
    let (mut world, circle) = removed_too_low();
    days_pass(&mut world, circle, 89, None);
    world.crash("ibd").start("ibd");
    world.connect_all().settle();
    assert_eq!((held(&world, "ncsc", circle), held(&world, "ibd", circle)), (3, 3), "it is kept for ninety days");
    assert_eq!(world.engine("ibd").withheld(&circle)[0].height, 3, "over a start, too");
    days_pass(&mut world, circle, 2, None);
    for name in ["ncsc", "ibd"] {
        assert_eq!(held(&world, name, circle), 1, "{name}");
        assert!(world.engine(name).withheld(&circle).is_empty(), "{name}");
    }
    assert_eq!(held(&world, "ferm", circle), 3, "what a node itself wrote it keeps");
    let digest = world.digest("ncsc", circle);
    for name in ["z-cert", "ibd"] {
        assert_eq!(world.digest(name, circle), digest, "{name}");
        world.crash(name).start(name);
        assert_eq!(world.digest(name, circle), digest, "{name} after a start");
    }
}

#[test]
fn i7_however_many_logs_lie_beyond_a_cut_they_are_dropped_step_by_step() {
    let (mut world, circle) = two_stewards();
    world.partition(&[&["z-cert", "ibd"], &["ncsc"]]);
    let ferm = world.key("ferm");
    let under = world.engine("ncsc").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let logs = 5 * limits::CUT_AT_ONCE;
    let open = |number: usize| {
        let mut log = [7; 16];
        log[..8].copy_from_slice(&number.to_be_bytes());
        let opening = Opening { under, cites: Vec::new() };
        let mut writer = Writer::open(circle, world.node("ferm").key.clone(), LogId(log), opening);
        let payload = b"unheard".to_vec();
        let draft = Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts: None };
        writer.append(world.now, draft).bytes().clone()
    };
    let entries: Vec<EntryBytes> = (0..logs).map(open).collect();
    world.import("ncsc", &entries);
    world.crash("ferm");
    world.remove("z-cert", circle, "ferm");
    world.connect_all().settle();
    assert_eq!(world.engine("ncsc").withheld(&circle).len(), logs);
    world.now = world.now.plus(91 * Time::DAY_MS);
    world.append("z-cert", circle, "still here");
    let reads = |world: &World| world.node("ncsc").store.reads.get();
    let (end, mut most, mut before) = (world.now.plus(60_000), 0, reads(&world));
    while world.now < end && world.step() {
        most = most.max(reads(&world) - before);
        before = reads(&world);
    }
    assert_eq!(held(&world, "ncsc", circle), 1, "what was heard before");
    assert!(most <= 2 * limits::CUT_AT_ONCE as u64, "{most} entries are read in one step");
}

#[test]
fn nothing_is_dropped_by_a_clock_that_nobody_elses_agrees_with() {
    let (mut world, circle) = removed_too_low();
    world.partition(&[&["ncsc"], &["z-cert", "ibd", "ferm"]]);
    world.set_clock(world.now.plus(400 * Time::DAY_MS));
    world.run(600_000);
    assert!(world.engine("ncsc").clock_doubtful());
    assert_eq!(held(&world, "ncsc", circle), 3);
    // Back at the right time, nothing has happened; what the others write shows that it is right.
    world.set_clock(Time(world.now.0 - 399 * Time::DAY_MS));
    world.connect_all().settle();
    world.append("ibd", circle, "still here");
    world.settle();
    assert!(!world.engine("ncsc").clock_doubtful());
    assert_eq!(held(&world, "ncsc", circle), 3);
}

#[test]
fn i4_who_dropped_what_lies_beyond_a_cut_and_who_did_not_end_with_the_same_when_it_is_raised() {
    for seed in seeds(12) {
        let mut world = World::unconnected(seed, &FOUR);
        world.connect_all().settle();
        world.jitter_ms = 40;
        let circle = world.found(&["ncsc", "z-cert"]);
        world.add("ncsc", circle, "ibd");
        world.add("ncsc", circle, "ferm");
        world.settle();
        world.append("ferm", circle, "before");
        world.settle();
        world.partition(&[&["z-cert"], &["ncsc", "ibd", "ferm"]]);
        let unheard = 1 + world.rng(3);
        for text in 0..unheard {
            world.append("ferm", circle, &format!("unheard {text}"));
        }
        world.settle();
        world.remove("z-cert", circle, "ferm");
        // One of the two that hold more is away while the other drops it, or neither is.
        let away = [None, Some("ncsc"), Some("ibd")][world.rng(3) as usize];
        world.connect_all().settle();
        if let Some(name) = away {
            world.crash(name);
        }
        days_pass(&mut world, circle, 91, away);
        if let Some(name) = away {
            world.start(name);
        }
        if let Some(one) = world.engine("ncsc").withheld(&circle).first() {
            let removal = one.removal;
            world.command("ncsc", Command::Raise { circle, removal, branches: Vec::new() });
        }
        world.connect_all().settle();
        let (digest, reads) = (world.digest("ncsc", circle), world.reads("ncsc", circle));
        for name in ["z-cert", "ibd"] {
            assert_eq!(world.digest(name, circle), digest, "{name} (seed {seed})");
            assert_eq!(world.reads(name, circle), reads, "{name} (seed {seed})");
        }
        let raised = reads.iter().filter(|text| text.starts_with("unheard")).count() as u64;
        assert_eq!(raised, if away == Some("ncsc") { unheard } else { 0 }, "seed {seed}");
    }
}
