//! What authors take back.

use cwn_crypto::{Hash, Signature, Time};
use cwn_engine::{
    input::{Command, CommandId},
    limits,
    log::{CircleId, Decoded, EntryBytes, EntryRefusal, Payload, Retraction, Retracts},
    output::{CommandRefusal, Event, Reply},
};

use crate::world::World;

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

/// A day, and the hour within which what was taken back is erased.
fn a_day_passes(world: &mut World) {
    world.now = world.now.plus(limits::RETRACT_MS + limits::ERASE_EVERY_MS);
    world.settle();
}

/// Of two things that ferm published among these members, it took one back.
fn one_taken_back(members: &[&str]) -> (World, CircleId, CommandId) {
    let mut world = World::new(&FOUR);
    let circle = world.circle(members);
    let wrong = world.append("ferm", circle, "wrong");
    world.append("ferm", circle, "right");
    world.settle();
    world.retract("ferm", circle, wrong);
    world.settle();
    (world, circle, wrong)
}

#[test]
fn i7_what_falls_due_within_an_hour_is_erased_at_once() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let wrong: Vec<_> = (0..5).map(|number| world.append("ferm", circle, &format!("wrong {number}"))).collect();
    world.settle();
    for wrong in wrong {
        world.retract("ferm", circle, wrong);
        world.run(1_000);
    }
    world.settle();
    world.now = Time((world.now.0 + limits::RETRACT_MS).next_multiple_of(limits::ERASE_EVERY_MS) - 1_000);
    world.run(500);
    assert_eq!(world.node("ibd").store.erased.len(), 0, "none before its hour");
    a_day_passes(&mut world);
    assert_eq!(world.node("ibd").store.erased.len(), 5);
    let erasures = world.node("ibd").events.iter().filter(|event| matches!(event, Event::Erased { .. }));
    assert_eq!(erasures.count(), 1, "each would have the store write a segment anew");
}

#[test]
fn i6_what_is_taken_back_stays_hidden_while_the_retraction_cannot_be_read() {
    let (mut world, circle, wrong) = one_taken_back(&FOUR);
    let Some(Ok(Reply::Appended { place, .. })) = world.reply("ferm", wrong).cloned() else { panic!() };
    world.crash("ibd");
    let index = world.index("ibd");
    world.nodes[index].store.rotten.insert((place.key, 2));
    world.start("ibd");
    world.expect_reads("ibd", circle, &["right"]);
    world.connect_all().settle();
    world.expect_reads("ibd", circle, &["right"]);
}

#[test]
fn i6_what_its_author_takes_back_is_hidden_at_once_and_erased_after_a_day() {
    let (mut world, circle, _) = one_taken_back(&FOUR);
    for name in FOUR {
        world.expect_reads(name, circle, &["right"]);
        assert_eq!(world.node(name).store.erased.len(), 0, "{name} erases only after a day");
    }
    a_day_passes(&mut world);
    let digest = world.digest("ncsc", circle);
    for name in FOUR {
        world.expect_reads(name, circle, &["right"]);
        assert_eq!(world.node(name).store.erased.len(), 1, "{name}");
        assert_eq!(world.digest(name, circle), digest, "{name}: the header stays, and every head");
        world.crash(name).start(name);
        world.expect_reads(name, circle, &["right"]);
    }
}

#[test]
fn i6_a_newcomer_gets_the_header_with_the_retraction_and_never_the_payload() {
    let (mut world, circle, _) = one_taken_back(&["ncsc", "z-cert", "ferm"]);
    a_day_passes(&mut world);
    world.crash("ferm");
    world.add("ncsc", circle, "ibd");
    world.settle();
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
    assert_eq!(world.reads("ibd", circle), ["(sealed)"], "what was written before it was added stays closed to it");
    assert_eq!(world.payloads("ibd", circle), world.payloads("ncsc", circle));
}

#[test]
fn i6_a_restored_backup_from_before_the_retraction_brings_nothing_back() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let wrong = world.append("ferm", circle, "wrong");
    world.settle();
    let backup = world.node("ibd").store.clone();
    world.retract("ferm", circle, wrong);
    world.settle();
    a_day_passes(&mut world);
    world.crash("ibd");
    world.restore("ibd", backup).start("ibd");
    world.expect_reads("ibd", circle, &["wrong"]);
    world.connect_all().settle();
    for name in FOUR {
        world.expect_reads(name, circle, &[]);
    }
    a_day_passes(&mut world);
    assert_eq!(world.node("ibd").store.erased.len(), 1);
    assert_eq!(world.payloads("ibd", circle), world.payloads("ncsc", circle));
}

#[test]
fn a_thiefs_retraction_that_a_cut_puts_aside_within_the_day_acts_no_longer() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let honest = world.append("ferm", circle, "honest");
    world.settle();
    // ncsc, cut off, removes ferm: it holds what ferm wrote before its key was stolen, and not the retraction.
    world.partition(&[&["ncsc"], &["z-cert", "ibd", "ferm"]]);
    world.retract("ferm", circle, honest);
    world.settle();
    world.expect_reads("ibd", circle, &[]);
    world.remove("ncsc", circle, "ferm");
    world.connect_all().settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        world.expect_reads(name, circle, &["honest"]);
    }
    a_day_passes(&mut world);
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.node(name).store.erased.len(), 0, "{name}");
    }
}

#[test]
fn nobody_takes_back_what_somebody_else_wrote() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let honest = world.append("ferm", circle, "honest");
    world.settle();
    let Some(Ok(Reply::Appended { place, hash })) = world.reply("ferm", honest).cloned() else { panic!() };
    let what = Retracts { log: place.key.log, seq: place.seq, hash };
    let refused = world.retract_entry("ibd", circle, what);
    assert_eq!(world.reply("ibd", refused), Some(&Err(CommandRefusal::NotOwn)));
    let nothing = Retracts { seq: 7, ..what };
    let refused = world.retract_entry("ferm", circle, nothing);
    assert_eq!(world.reply("ferm", refused), Some(&Err(CommandRefusal::NotOwn)));
    // Another hash at that place takes nothing back.
    world.retract_entry("ferm", circle, Retracts { hash: Hash([7; 32]), ..what });
    world.settle();
    a_day_passes(&mut world);
    assert!(world.payloads("ibd", circle) > 1);
    assert!(!world.engine("ibd").is_retracted(&place.key, place.seq, hash));
}

#[test]
fn i3_an_entry_without_its_payload_is_none_unless_its_author_took_that_very_entry_back() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let first = world.append("ferm", circle, "first");
    world.append("ferm", circle, "second");
    world.settle();
    let log = world.content_log("ferm", circle);
    world.retract("ferm", circle, first);
    world.settle();
    let entry = |seq: usize| -> EntryBytes { world.node("ncsc").store.logs[&log][seq].1.clone() };
    let because = Retraction { header: entry(2).header, signature: entry(2).signature };
    let bare = |seq, because: &Retraction| {
        Decoded::decode(EntryBytes { payload: Payload::Retracted(because.clone()), ..entry(seq) })
    };
    assert!(bare(0, &because).is_ok());
    let of_another = bare(1, &because);
    let unsigned = bare(0, &Retraction { signature: Signature([0; 64]), ..because.clone() });
    let by_another = bare(0, &Retraction { header: entry(1).header, signature: entry(1).signature });
    for refused in [of_another, unsigned, by_another] {
        assert!(matches!(refused, Err(EntryRefusal::NotRetracted { .. })), "{refused:?}");
    }
}

#[test]
fn i6_a_retraction_whose_signature_was_altered_on_the_way_hides_all_the_same() {
    // cwn-sim seed 3, 12 nodes, 6 h, 10 % malicious.
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    world.crash("ibd");
    let wrong = world.append("ferm", circle, "wrong");
    world.settle();
    world.retract("ferm", circle, wrong);
    world.append("ferm", circle, "right");
    world.settle();
    let ferm = world.key("ferm");
    let log = *world.node("ncsc").store.logs.keys().find(|key| key.author == ferm && key.circle == circle).unwrap();
    let mut entries: Vec<EntryBytes> =
        world.node("ncsc").store.logs[&log].iter().map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(entries.len(), 3);
    entries[1].signature = Signature([9; 64]);
    let records = world.node("ncsc").store.records.iter().filter(|((of, _), _)| *of == circle);
    let records = records.map(|(_, bytes)| cwn_crypto::encoding::from_bytes(bytes, 1 << 20).unwrap()).collect();
    world.start("ibd");
    world.command("ibd", Command::CarryRun { key: log, records, entries });
    world.run(1_000);
    world.expect_reads("ibd", circle, &["right"]);
    a_day_passes(&mut world);
    world.expect_reads("ibd", circle, &["right"]);
}
