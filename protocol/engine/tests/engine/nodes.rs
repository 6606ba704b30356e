//! A partner with several nodes.

use cwn_engine::{input::Command, log::CircleId};

use crate::world::World;

const THREE: [&str; 3] = ["ncsc", "ferm", "ibd"];

/// A circle of three, to which the second node of `ferm` was added later.
fn two_nodes_of_ferm() -> (World, CircleId) {
    let mut world = World::new(&THREE);
    let circle = world.circle(&THREE);
    world.append("ncsc", circle, "before");
    world.settle();
    world.enrol("ferm/2");
    world.connect_all().settle();
    world.add("ncsc", circle, "ferm/2");
    world.settle();
    (world, circle)
}

impl World {
    fn remove_node(&mut self, by: &str, circle: CircleId, name: &str) {
        let (partner, node) = (self.node(name).partner.clone(), Some(self.key(name)));
        self.command(by, Command::Remove { circle, partner, node });
        self.run(5);
    }

    fn epochs_on_disk(&self, name: &str, circle: CircleId) -> usize {
        self.node(name).store.records.keys().filter(|(of, _)| *of == circle).count()
    }
}

#[test]
fn a_second_node_of_a_partner_reads_from_when_it_was_added_and_both_use_one_epoch() {
    let (mut world, circle) = two_nodes_of_ferm();
    world.append("ncsc", circle, "after");
    world.append("ferm", circle, "from the first node");
    world.settle();
    world.expect_reads("ferm/2", circle, &["(sealed)", "after", "from the first node"]);
    let epochs = world.epochs_on_disk("ibd", circle);
    world.append("ferm/2", circle, "from the second node");
    world.settle();
    world.expect_reads("ibd", circle, &["after", "before", "from the first node", "from the second node"]);
    assert_eq!(world.epochs_on_disk("ibd", circle), epochs, "the second node made no epoch of its own");
    world.expect_reads("ferm", circle, &["after", "before", "from the first node", "from the second node"]);
}

#[test]
fn i3_removing_a_whole_partner_leaves_what_an_earlier_removal_of_one_node_left() {
    let (mut world, circle) = two_nodes_of_ferm();
    world.appoint("ncsc", circle, "ferm/2");
    world.settle();
    world.append("ferm/2", circle, "before it was removed");
    world.remove("ferm/2", circle, "ibd");
    world.settle();
    world.partition(&[&["ncsc", "ferm"], &["ferm/2", "ibd"]]);
    world.append("ferm/2", circle, "unheard");
    world.remove_node("ncsc", circle, "ferm/2");
    world.connect_all().settle();
    world.remove("ncsc", circle, "ferm");
    world.settle();
    world.expect_reads("ncsc", circle, &["before", "before it was removed"]);
    let ibd = world.key("ibd");
    assert!(!world.engine("ncsc").circle(&circle).unwrap().counts(&ibd), "who it removed as a steward stays removed");
}

#[test]
fn i1_a_stolen_node_is_removed_alone_and_the_partners_other_goes_on() {
    let (mut world, circle) = two_nodes_of_ferm();
    world.append("ferm/2", circle, "before it was stolen");
    world.settle();
    world.crash("ferm/2");
    world.remove_node("ncsc", circle, "ferm/2");
    world.revoke("ferm/2", "ncsc");
    world.settle();
    world.append("ferm", circle, "from the one that is left");
    world.append("ncsc", circle, "to the one that is left");
    world.settle();
    for name in ["ferm", "ibd"] {
        let reads = world.reads(name, circle);
        for text in ["before it was stolen", "from the one that is left", "to the one that is left"] {
            assert!(reads.contains(&text.to_owned()), "{name} reads {reads:?}");
        }
    }
    // The thief starts it: it is spoken to by nobody, and what it writes is accepted by nobody.
    world.start("ferm/2").connect_all().settle();
    world.append("ferm/2", circle, "from the thief");
    world.settle();
    let stolen = world.reads("ferm/2", circle);
    assert!(!stolen.contains(&"to the one that is left".to_owned()), "{stolen:?}");
    for name in THREE {
        assert!(!world.reads(name, circle).contains(&"from the thief".to_owned()), "{name}");
        assert!(!world.is_connected(name, "ferm/2"), "{name}");
    }
    let roster = world.engine("ibd").circle(&circle).unwrap().fold().roster();
    assert!(roster.counts(&world.key("ferm")) && !roster.counts(&world.key("ferm/2")));
}

#[test]
fn i1_a_node_that_was_only_certified_belongs_to_nothing_until_a_steward_adds_it() {
    let mut world = World::new(&THREE);
    let circle = world.circle(&THREE);
    world.enrol("ferm/2");
    world.connect_all().settle();
    world.append("ncsc", circle, "to three nodes");
    world.settle();
    assert!(world.engine("ferm/2").circle(&circle).is_none() && world.reads("ferm/2", circle).is_empty());
}
