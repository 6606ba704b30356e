//! What members see of one another.

use cwn_crypto::encoding;
use cwn_engine::{
    input::{Audience, Command},
    output::{CommandRefusal, Reply},
};

use crate::world::{World, partner};

#[test]
fn a_member_reads_what_another_publishes() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.append("ncsc", circle, "advisory");
    world.settle();
    for name in ["ncsc", "z-cert", "ferm"] {
        world.expect_reads(name, circle, &["advisory"]);
    }
}

#[test]
fn i1_a_node_outside_the_circle_gets_nothing_of_it() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.append("ncsc", circle, "advisory");
    world.settle();
    assert!(world.engine("ferm").circle(&circle).is_none());
    assert!(world.node("ferm").store.logs.keys().all(|key| key.circle != circle));
}

#[test]
fn i1_an_entry_to_named_partners_stays_sealed_for_the_others() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.append_to("ncsc", circle, "red", Audience::Partners(vec![partner("ferm")]));
    world.settle();
    world.expect_reads("ferm", circle, &["red"]).expect_reads("ncsc", circle, &["red"]);
    world.expect_reads("z-cert", circle, &["(sealed)"]);
}

#[test]
fn i11_what_was_kept_goes_to_nobody_that_came_since_and_says_which_entry_it_became() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    let id = world.append_kept("ncsc", circle, "for z-cert", &["ncsc", "z-cert"], b"kept/1");
    world.settle();
    let refused = world.reply("ncsc", id).unwrap().clone().unwrap_err();
    assert_eq!(refused, CommandRefusal::NewReaders { partners: vec!["ferm".to_owned()] });
    world.expect_reads("ferm", circle, &[]);
    assert!(!world.node("ncsc").store.facts.contains_key(b"kept/1".as_slice()));
    let id = world.append_kept("ncsc", circle, "for three", &["ncsc", "z-cert", "ferm"], b"kept/2");
    world.settle();
    let Ok(Reply::Appended { place, hash }) = world.reply("ncsc", id).unwrap().clone() else { panic!("not appended") };
    let said = encoding::to_bytes(&(place.key.log, place.seq, hash));
    assert_eq!(world.node("ncsc").store.facts[b"kept/2".as_slice()], said);
    world.expect_reads("ferm", circle, &["for three"]);
}

#[test]
fn i3_a_node_that_was_down_catches_up_and_nothing_it_wrote_is_lost() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.append("ferm", circle, "before");
    world.settle();
    world.crash("ferm");
    world.append("ncsc", circle, "while ferm was down");
    world.settle();
    world.start("ferm").connect_all().settle();
    world.append("ferm", circle, "after");
    world.settle();
    for name in ["ncsc", "z-cert", "ferm"] {
        world.expect_reads(name, circle, &["after", "before", "while ferm was down"]);
    }
}

#[test]
fn i1_a_removed_partner_cannot_open_what_comes_after() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.append("ncsc", circle, "for three");
    world.settle();
    world.remove("ncsc", circle, "ferm");
    world.append("ncsc", circle, "for two");
    world.settle();
    world.expect_reads("z-cert", circle, &["for three", "for two"]);
    world.expect_reads("ferm", circle, &["for three"]);
}

#[test]
fn a_removed_partner_cannot_append_beyond_its_cut() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.append("ferm", circle, "before the removal");
    world.settle();
    world.partition(&[&["ferm"], &["ncsc", "z-cert"]]);
    world.remove("ncsc", circle, "ferm");
    world.append("ferm", circle, "ferm does not know yet");
    world.settle();
    world.connect_all().settle();
    for name in ["ncsc", "z-cert"] {
        world.expect_reads(name, circle, &["before the removal"]);
    }
}

#[test]
fn what_waits_for_its_seal_when_its_author_is_removed_is_refused() {
    let mut world = World::new(&["ncsc", "z-cert"]);
    let circle = world.circle(&["ncsc", "z-cert"]);
    world.disconnect("ncsc", "z-cert");
    world.remove("ncsc", circle, "z-cert");
    world.settle();
    // z-cert has no epoch yet: while one is made, it hears that it was removed.
    let waiting = world.append("z-cert", circle, "too late");
    world.hear_operations(circle, "ncsc", "z-cert");
    world.settle();
    assert!(matches!(world.reply("z-cert", waiting), Some(Err(CommandRefusal::NotAMember))));
    world.expect_reads("ncsc", circle, &[]);
}

#[test]
fn a_revoked_node_announces_nothing_more() {
    let mut world = World::new(&["ncsc", "z-cert"]);
    world.revoke("z-cert", "z-cert").settle();
    let announce = world.command("z-cert", Command::Announce { payload: b"here".to_vec() });
    world.settle();
    assert!(matches!(world.reply("z-cert", announce), Some(Err(CommandRefusal::NotAMember))));
}

#[test]
fn a_node_is_current_at_once_when_one_peer_sent_what_the_others_have_too() {
    let mut world = World::new(&["z-cert", "ncsc", "ibd", "ferm"]);
    let circle = world.circle(&["z-cert", "ncsc", "ibd", "ferm"]);
    world.crash("z-cert");
    world.append("ibd", circle, "meanwhile");
    world.settle();
    world.start("z-cert").connect_all().run(5_000);
    world.expect_reads("z-cert", circle, &["meanwhile"]);
    assert_eq!(world.engine("z-cert").unheard(&circle), [], "without waiting for the digests of the next minute");
}

#[test]
fn an_offer_that_comes_before_its_founders_certificate_waits_for_it() {
    let mut world = World::unconnected(1, &["ncsc", "ferm"]);
    let circle = world.found(&["ferm"]);
    world.add("ferm", circle, "ncsc");
    world.connect("ferm", "ncsc").settle();
    world.append("ferm", circle, "hello");
    world.settle();
    world.expect_reads("ncsc", circle, &["hello"]);
}

/// Found by cwn-sim, seed 5: the first operation was durable, the second counted already and was not yet.
#[test]
fn a_partner_added_right_after_another_is_offered_the_circle_with_what_names_it() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.found(&["ncsc"]);
    for name in ["z-cert", "ferm"] {
        let (partner, nodes) = (partner(name), vec![world.member(name)]);
        world.command("ncsc", Command::Add { circle, partner, nodes });
    }
    world.settle();
    assert_eq!(world.refusals_of("ferm", "ncsc"), Vec::<String>::new());
    world.append("ncsc", circle, "welcome");
    world.settle();
    world.expect_reads("ferm", circle, &["welcome"]);
}

#[test]
fn i9_what_a_removed_member_said_it_holds_is_said_again_when_it_is_added_again() {
    // cwn-sim seed 50, 12 nodes, 6 h, without disks and backups.
    let mut world = World::new(&["ncsc", "z-cert", "ferm"]);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    world.append("z-cert", circle, "advisory");
    world.run(20);
    // z-cert hears of the removal first; what ferm says then falls on deaf ears.
    world.remove("ncsc", circle, "ferm");
    world.settle();
    world.add("ncsc", circle, "ferm");
    world.settle();
    let log = world.content_log("z-cert", circle);
    let ledger = world.engine("z-cert").ledger(&circle).unwrap();
    let since = ledger.received(&world.key("ferm"), &log.author, &log.log, 0);
    assert!(since.is_some(), "ferm holds it, and z-cert knows");
}

#[test]
#[should_panic(expected = "named as one of the engine's")]
fn a_fact_of_the_node_that_is_named_as_what_the_engine_remembers_of_an_epoch_is_a_mistake_of_ours() {
    let mut world = World::new(&["ncsc"]);
    world.command("ncsc", Command::Remember { key: b"closed/something".to_vec(), value: vec![1] });
}
