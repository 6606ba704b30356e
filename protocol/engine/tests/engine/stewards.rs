//! What stewards do, together and apart.

use cwn_engine::{
    circle::Operation,
    output::{CommandRefusal, Reply},
};

use crate::world::World;

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

#[test]
fn an_appointed_steward_adds_a_partner_while_the_founder_is_away() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.appoint("ncsc", circle, "ibd");
    world.settle();
    world.crash("ncsc");
    let added = world.add("ibd", circle, "ferm");
    world.settle();
    assert!(matches!(world.reply("ibd", added), Some(Ok(Reply::Appended { .. }))));
    world.append("ferm", circle, "hello");
    world.settle();
    world.expect_reads("z-cert", circle, &["hello"]);
    world.start("ncsc").connect_all().settle();
    world.expect_reads("ncsc", circle, &["hello"]);
    assert_eq!(world.conclusions("ncsc", circle), world.conclusions("ferm", circle));
}

#[test]
fn nobody_but_a_steward_of_better_rank_ends_a_stewardship() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ibd", "ferm"]);
    world.appoint("ncsc", circle, "z-cert");
    world.settle();
    world.appoint("z-cert", circle, "ibd");
    world.settle();
    let refusal = |world: &World, by: &str, id| world.reply(by, id).unwrap().as_ref().unwrap_err().to_string();
    for (by, whom, word) in [
        ("ibd", "z-cert", "equal or better rank"),
        ("ibd", "ncsc", "equal or better rank"),
        ("z-cert", "z-cert", "equal or better rank"),
        ("ferm", "ibd", "is no steward of the circle; ask one of ncsc, z-cert, ibd"),
        ("ncsc", "ferm", "is no steward"),
    ] {
        let dismissed = world.dismiss(by, circle, whom);
        let said = refusal(&world, by, dismissed);
        assert!(said.contains(word), "{by} of {whom}: {said}");
    }
    let removed = world.remove("ibd", circle, "z-cert");
    assert!(refusal(&world, "ibd", removed).contains("equal or better rank"));
    let again = world.appoint("ncsc", circle, "ibd");
    assert!(matches!(world.reply("ncsc", again), Some(Err(CommandRefusal::AlreadySteward { .. }))));
    let dismissed = world.dismiss("ncsc", circle, "ibd");
    world.settle();
    assert!(matches!(world.reply("ncsc", dismissed), Some(Ok(_))));
    let refused = world.add("ibd", circle, "ferm");
    assert!(matches!(world.reply("ibd", refused), Some(Err(CommandRefusal::NotASteward { .. }))));
    world.append("ibd", circle, "a member still");
    world.settle();
    world.expect_reads("ferm", circle, &["a member still"]);
}

#[test]
fn what_a_steward_did_on_one_side_while_it_was_dismissed_on_the_other_is_set_aside_and_shown() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ibd"]);
    world.appoint("ncsc", circle, "z-cert");
    world.settle();
    world.partition(&[&["ncsc", "ibd"], &["z-cert", "ferm"]]);
    world.dismiss("ncsc", circle, "z-cert");
    world.add("z-cert", circle, "ferm");
    world.settle();
    world.append("ferm", circle, "added by one who was dismissed");
    world.settle();
    world.expect_reads("z-cert", circle, &["added by one who was dismissed"]);
    world.connect_all().settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        world.expect_reads(name, circle, &[]);
        let replica = world.engine(name).circle(&circle).unwrap();
        assert!(!replica.counts(&world.key("ferm")), "{name}");
        let voided: Vec<Operation> =
            replica.control().unwrap().voided(replica.fold()).map(|(_, operation)| operation.clone()).collect();
        assert_eq!(voided.len(), 1, "{name} sees what was set aside");
    }
    // Issued again by who may, everything that was written counts.
    world.add("ncsc", circle, "ferm");
    world.settle();
    world.append("ferm", circle, "hello");
    world.settle();
    assert!(world.reads("ibd", circle).contains(&"hello".to_owned()));
}

#[test]
fn of_terms_set_on_both_sides_of_a_cut_line_the_better_ranks_count_everywhere() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ibd", "ferm"]);
    world.appoint("ncsc", circle, "z-cert");
    world.settle();
    world.partition(&[&["ncsc", "ibd"], &["z-cert", "ferm"]]);
    world.policy("ncsc", circle, 1);
    world.policy("z-cert", circle, 2);
    world.settle();
    assert_eq!((world.terms("ibd", circle), world.terms("ferm", circle)), (1, 2));
    world.connect_all().settle();
    for name in FOUR {
        assert_eq!(world.terms(name, circle), 1, "{name}");
    }
    // Who has seen both may change it again.
    world.policy("z-cert", circle, 3);
    world.settle();
    for name in FOUR {
        assert_eq!(world.terms(name, circle), 3, "{name}");
    }
}

#[test]
fn a_steward_that_was_appointed_goes_on_after_a_restart() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "ibd"]);
    world.appoint("ncsc", circle, "z-cert");
    world.settle();
    world.add("z-cert", circle, "ferm");
    world.settle();
    for name in FOUR {
        world.crash(name).start(name);
    }
    world.connect_all().settle();
    world.remove("z-cert", circle, "ferm");
    world.settle();
    for name in ["ncsc", "ibd"] {
        assert!(!world.engine(name).circle(&circle).unwrap().counts(&world.key("ferm")), "{name}");
        assert_eq!(world.conclusions(name, circle), world.conclusions("z-cert", circle));
    }
}
