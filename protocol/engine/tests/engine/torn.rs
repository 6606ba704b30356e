//! What a crash leaves of what was handed to a store: any beginning of it.

use cwn_crypto::Time;
use cwn_engine::{
    input::Audience,
    limits,
    log::{CircleId, EntryBytes, LogKey, Payload, Stored},
    store::Read,
};

use crate::world::{MemStore, World};

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

/// A member took back "wrong" and published "short", which expired; days later both are gone everywhere.
fn taken_back_and_expired() -> (World, CircleId, LogKey) {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let wrong = world.append("ferm", circle, "wrong");
    let tomorrow = Some(world.now.plus(Time::DAY_MS));
    world.append_until("ferm", circle, "short", Audience::Circle, tomorrow);
    world.append("ferm", circle, "right");
    world.settle();
    world.retract("ferm", circle, wrong);
    world.settle();
    days_pass(&mut world, circle);
    let log = world.content_log("ferm", circle);
    (world, circle, log)
}

/// Days pass, and members write, so that all see that their clocks are right; what is due is erased and dropped.
fn days_pass(world: &mut World, circle: CircleId) {
    world.now = world.now.plus(2 * Time::DAY_MS + limits::ERASE_EVERY_MS);
    world.settle();
    for name in ["ncsc", "z-cert"] {
        world.append(name, circle, "still here");
    }
    world.settle();
    world.run(limits::LOOK_EVERY_MS);
}

/// How many payloads a store has of a log that were taken back or expired.
fn kept(store: &MemStore, log: &LogKey) -> usize {
    let sealed = |seq: &u64| {
        let entry = store.entry(log, *seq).ok().flatten().and_then(|bytes| Stored::read(bytes).ok());
        entry.is_some_and(|entry| matches!(entry.bytes().payload, Payload::Sealed(_)))
    };
    [0, 1].iter().filter(|seq| sealed(seq)).count()
}

/// How many payloads of a log were dropped by time: what its node told whoever shows it, and what its store says.
fn dropped(world: &World, name: &str, log: &LogKey) -> (u64, u64) {
    let gone = |(_, bytes): &&(_, EntryBytes)| bytes.payload == Payload::Dropped;
    let node = world.node(name);
    (node.dropped.get(log).copied().unwrap_or(0), node.store.logs[log].iter().filter(gone).count() as u64)
}

/// Found by cwn-sim (`mixed` with twenty times as many full disks and forty times as many slow syncs, seeds 15 and 29, 7 nodes,
/// 4 h): a retraction whose note a crash had left out hid nothing. The others were found here.
#[test]
fn i6_whatever_beginning_a_crash_leaves_what_was_taken_back_stays_hidden_and_goes_and_so_does_what_expired() {
    let (mut world, circle, log) = taken_back_and_expired();
    assert_eq!((kept(&world.node("ibd").store, &log), kept(&world.node("ferm").store, &log)), (0, 0));
    for name in ["ibd", "ferm"] {
        let written = world.node(name).written.clone();
        assert!(written.len() > 10, "{name} wrote {}", written.len());
        for count in 0..=written.len() {
            let mut store = MemStore::default();
            written[..count].iter().cloned().for_each(|write| store.write(write));
            let [knows, showed] = [3, 1].map(|seq| store.entry(&log, seq).unwrap().is_some());
            world.crash(name).restore(name, store).start(name);
            world.run(100);
            if knows {
                let read = world.reads(name, circle);
                assert!(!read.contains(&"wrong".to_owned()), "{name} shows what was taken back after {count} writes");
            }
            world.connect_all().settle();
            days_pass(&mut world, circle);
            let left = kept(&world.node(name).store, &log);
            assert_eq!(left, 0, "after {count} writes {name} keeps what was taken back, or expired");
            assert_eq!(world.reads(name, circle), world.reads("ncsc", circle), "{name} after {count} writes");
            let (told, gone) = dropped(&world, name, &log);
            assert!(told == gone || !showed, "after {count} writes {name} tells that {told} were dropped, of {gone}");
        }
    }
}
