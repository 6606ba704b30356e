//! What knowing costs: frames, bytes and round trips.

use cwn_crypto::issuer_log::LogId;
use cwn_engine::log::{CircleId, Draft, Opening, Suite, Writer};
use cwn_engine::store::Write;

use crate::world::World;

/// Writes a long log into the stores of nodes that are not running.
fn long_log(world: &mut World, author: &str, circle: CircleId, entries: usize, names: &[&str]) {
    let under = world.engine(author).circle(&circle).unwrap().fold().roster().member(&world.key(author)).unwrap().under;
    for name in names {
        world.crash(name);
    }
    let key = world.node(author).key.clone();
    let mut writer = Writer::open(circle, key, LogId([5; 16]), Opening { under, cites: Vec::new() });
    for _ in 0..entries {
        let draft = Draft { suite: Suite::Named, epoch: None, payload: b"x".to_vec(), expiry: None, retracts: None };
        let entry = writer.append(world.now, draft);
        for name in names {
            let index = world.index(name);
            world.nodes[index].store.write(Write::Entry(entry.clone()));
        }
    }
    for name in names {
        world.start(name);
    }
}

#[test]
fn two_nodes_that_hold_the_same_hundred_thousand_entries_know_it_in_two_round_trips_and_200_bytes() {
    let mut world = World::new(&["ncsc", "z-cert"]);
    let circle = world.circle(&["ncsc", "z-cert"]);
    long_log(&mut world, "ncsc", circle, 100_000, &["ncsc", "z-cert"]);
    world.slow_line("ncsc", "z-cert", 50);
    world.slow_line("z-cert", "ncsc", 50);
    let sent = |world: &World| world.nodes.iter().map(|node| (node.frames, node.frame_bytes)).collect::<Vec<_>>();
    let before = sent(&world);
    world.connect("ncsc", "z-cert").run(2 * 2 * 50);
    let after = sent(&world);
    for name in ["ncsc", "z-cert"] {
        for status in world.engine(name).peers() {
            assert!(status.circles.contains(&(circle, true)), "{name} knows that it holds the same");
            assert_eq!(status.circles.len(), 2);
        }
    }
    let bytes: u64 = before.iter().zip(&after).map(|(before, after)| after.1 - before.1).sum();
    let frames: u64 = before.iter().zip(&after).map(|(before, after)| after.0 - before.0).sum();
    // Of both nodes together, and the network circle counts as one of the two.
    assert!(bytes <= 2 * 200, "{bytes} bytes in {frames} frames");
    assert!(frames <= 4, "{frames} frames");
}
