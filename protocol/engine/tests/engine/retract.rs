//! What authors take back.

use cwn_crypto::{Hash, Signature, Time, issuer_log::LogId};
use cwn_engine::{
    input::{Command, CommandId},
    limits,
    log::{
        CircleId, Decoded, Draft, EntryBytes, EntryRefusal, Header, LogKey, Opening, Payload, Retraction, Retracts,
        Suite, Writer,
    },
    output::{CommandRefusal, Event, Reply},
};

use crate::{
    fork,
    world::{MemStore, World},
};

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
fn i7_however_much_falls_due_at_once_is_erased_step_by_step() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    world.partition(&[&["ibd"]]);
    let (ferm, log) = (world.key("ferm"), LogId([7; 16]));
    let under = world.engine("ibd").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let mut writer = Writer::open(circle, world.node("ferm").key.clone(), log, Opening { under, cites: Vec::new() });
    // Every second was altered on the way, and takes nothing back for good.
    let due = 5 * limits::ERASED_AT_ONCE;
    let entries: Vec<EntryBytes> = (0..due)
        .map(|number| {
            let retracts = Some(Retracts { log: LogId([8; 16]), seq: number as u64, hash: Hash([8; 32]) });
            let draft = Draft { suite: Suite::Named, epoch: None, payload: Vec::new(), expiry: None, retracts };
            let mut entry = writer.append(world.now, draft).bytes().clone();
            if number % 2 == 0 {
                entry.signature = Signature([9; 64]);
            }
            entry
        })
        .collect();
    world.import("ibd", &entries);
    world.now = world.now.plus(limits::RETRACT_MS + limits::ERASE_EVERY_MS);
    let reads = |world: &World| world.node("ibd").store.reads.get();
    let (end, mut most, mut before) = (world.now.plus(60_000), 0, reads(&world));
    while world.now < end && world.step() {
        most = most.max(reads(&world) - before);
        before = reads(&world);
    }
    assert_eq!(world.node("ibd").store.erased.len(), due / 2);
    assert!(most <= limits::ERASED_AT_ONCE as u64 + 64, "{most} entries are read in one step");
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

/// ferm's thief takes back what ferm wrote, and z-cert erases it before it hears that ferm was removed below that. ibd,
/// which is new, gets the entry from z-cert.
fn erased_by_a_thief() -> (World, CircleId, LogKey) {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&["ncsc", "z-cert", "ferm"]);
    let honest = world.append("ferm", circle, "honest");
    world.settle();
    let log = world.content_log("ferm", circle);
    world.partition(&[&["ncsc"], &["ibd"], &["z-cert", "ferm"]]);
    world.retract("ferm", circle, honest);
    world.settle();
    a_day_passes(&mut world);
    world.crash("ferm");
    world.remove("ncsc", circle, "ferm");
    world.add("ncsc", circle, "ibd");
    world.connect("ncsc", "z-cert").settle();
    world.crash("ncsc").connect("z-cert", "ibd").settle();
    assert!(matches!(payload_of(&world, "ibd", &log), Payload::Retracted(_)), "it comes with the thief's retraction");
    world.start("ncsc");
    (world, circle, log)
}

fn payload_of(world: &World, name: &str, log: &LogKey) -> Payload {
    world.node(name).store.logs[log][0].1.payload.clone()
}

#[test]
fn i3_what_nobody_accepts_as_taken_back_comes_back_to_who_got_it_without_its_payload() {
    let (mut world, circle, log) = erased_by_a_thief();
    world.crash("ibd").start("ibd");
    world.connect_all().run(limits::LACKING_AGAIN_MS + 1_000);
    assert!(payload_of(&world, "ibd", &log).sealed().is_some(), "ncsc has it still");
    assert!(!world.node("ibd").retracted.contains(&(log, 0)));
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
    assert_eq!(world.refusals_of("ibd", "z-cert"), Vec::<String>::new());
    assert!(world.node("ibd").store.facts.keys().all(|name| !name.starts_with(b"bare/")), "it is not asked for again");
    // What z-cert erased while that counted stays so.
    world.run(2 * limits::MEND_EVERY_MS);
    assert!(matches!(payload_of(&world, "z-cert", &log), Payload::Retracted(_)));
}

#[test]
fn i7_what_nobody_has_any_more_is_asked_of_everybody_once_an_hour() {
    let (mut world, _, log) = erased_by_a_thief();
    world.connect("z-cert", "ibd").settle();
    let before = world.node("ibd").frame_bytes;
    world.run(24 * limits::MEND_EVERY_MS);
    assert!(matches!(payload_of(&world, "ibd", &log), Payload::Retracted(_)));
    let sent = world.node("ibd").frame_bytes - before;
    assert!(sent < 1 << 20, "{sent} bytes in a day");
}

#[test]
fn i6_a_retraction_that_is_accepted_later_leaves_nothing_to_ask_for() {
    let (mut world, circle, _) = one_taken_back(&["ncsc", "z-cert", "ferm"]);
    let log = world.content_log("ferm", circle);
    a_day_passes(&mut world);
    world.add("ncsc", circle, "ibd");
    world.settle();
    assert!(matches!(payload_of(&world, "ibd", &log), Payload::Retracted(_)));
    assert!(world.node("ibd").retracted.contains(&(log, 0)));
    a_day_passes(&mut world);
    assert!(world.node("ibd").store.facts.keys().all(|name| !name.starts_with(b"bare/")));
    assert_eq!(world.node("ibd").store.erased.len(), 1);
}

#[test]
fn i3_a_retraction_on_a_branch_that_does_not_count_takes_nothing_back() {
    let (mut world, fork) = after_a_change_of_branches(2);
    assert_eq!(world.accepted("ibd", &fork.key), 3);
    assert!(!world.engine("ibd").is_retracted(&fork.key, 0, fork.hash_of(0, 0)));
    a_day_passes(&mut world);
    assert!(payload_of(&world, "ibd", &fork.key).sealed().is_some());
    world.crash("ibd").start("ibd");
    assert!(!world.engine("ibd").is_retracted(&fork.key, 0, fork.hash_of(0, 0)));
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
    let told = |world: &World| {
        let damage = |event: &&Event| matches!(event, Event::Damaged { .. });
        // cwn-sim seed 19, 20 nodes, 24 h, 10 % malicious.
        assert_eq!(world.node("ibd").events.iter().find(damage), None, "no disk is damaged");
        let told = |event: &&Event| matches!(event, Event::RetractionUnsigned { seq: 1, .. });
        world.node("ibd").events.iter().filter(told).count()
    };
    assert_eq!((told(&world), world.node("ibd").store.erased.len()), (1, 0), "there is nothing to show others");
    a_day_passes(&mut world);
    assert_eq!(told(&world), 1, "it is told once");
    // Others have it as it was signed.
    world.connect_all().run(2 * limits::MEND_EVERY_MS);
    assert_eq!(world.node("ibd").store.erased.len(), 1);
    assert_eq!(world.node("ibd").store.logs[&log], world.node("ncsc").store.logs[&log]);
    world.expect_reads("ibd", circle, &["right"]);
}

/// Where ferm signed two entries for one place of its log, of which one takes back what came before: ibd held that branch,
/// and holds the other by now, of so many entries, which the cut names.
fn after_a_change_of_branches(length: usize) -> (World, fork::Fork) {
    let (mut world, circle, fork) = fork::forked(1, length);
    let retracts = Some(Retracts { log: fork.key.log, seq: 0, hash: fork.hash_of(0, 0) });
    let under = Header::from_bytes(&fork.branches[0][0].header).unwrap().opening.unwrap();
    let mut writer = Writer::open(circle, world.node("ferm").key.clone(), fork.key.log, under);
    let mut write = |text: &str, retracts| {
        let payload = text.as_bytes().to_vec();
        writer.append(world.now, Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts })
    };
    write("common 0", None);
    let taking_back = write("(retraction)", retracts);
    world.disconnect("ibd", "ncsc");
    world.hand("ibd", circle, &[fork.branches[0][0].clone(), taking_back.bytes().clone()]);
    assert!(world.engine("ibd").is_retracted(&fork.key, 0, fork.hash_of(0, 0)));
    world.hand("z-cert", circle, &fork.branches[0]);
    world.crash("ferm");
    world.settle();
    world.remove("ncsc", circle, "ferm");
    world.settle();
    world.connect_all().settle();
    (world, fork)
}

#[test]
fn i3_whatever_beginning_a_crash_leaves_of_a_change_of_branches_nothing_goes_that_the_other_alone_took_back() {
    let writes = after_a_change_of_branches(1).0.node("ibd").written.len();
    for count in 0..=writes {
        let (mut world, fork) = after_a_change_of_branches(1);
        let mut store = MemStore::default();
        world.node("ibd").written[..count].iter().cloned().for_each(|write| store.write(write));
        world.crash("ibd").restore("ibd", store).start("ibd").connect_all().settle();
        assert_eq!(world.accepted("ibd", &fork.key), 2, "after {count} writes");
        assert!(!world.engine("ibd").is_retracted(&fork.key, 0, fork.hash_of(0, 0)), "hidden after {count} writes");
        a_day_passes(&mut world);
        a_day_passes(&mut world);
        assert!(payload_of(&world, "ibd", &fork.key).sealed().is_some(), "gone after {count} writes");
    }
}
