//! A circle goes on for another.

use cwn_engine::{
    circle::{Charter, Steward, Succeeds, Terms},
    input::Command,
    log::CircleId,
    succession::{Standing, succeeding},
};

use crate::world::World;

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

impl World {
    fn charter_for(&self, founder: &str, succeeds: Option<Succeeds>) -> Charter {
        Charter {
            name: "the next".to_owned(),
            stewards: vec![Steward { partner: self.node(founder).partner.clone(), node: self.member(founder) }],
            terms: Terms::default(),
            secret: [7; 32],
            founded: self.now,
            succeeds,
        }
    }

    /// A node founds what succeeds a circle, by what it holds of it.
    fn succeed(&mut self, by: &str, circle: CircleId, with: &[&str]) -> CircleId {
        let control = self.engine(by).circle(&circle).unwrap().control().unwrap();
        let charter = self.charter_for(by, Some(succeeding(control, circle)));
        let next = charter.id();
        self.command(by, Command::Found { charter });
        self.run(50);
        for name in with {
            self.add(by, next, name);
        }
        self.settle();
        next
    }
}

#[test]
fn members_see_what_succeeds_a_circle_and_by_whom_and_newcomers_read_nothing_of_the_old() {
    let mut world = World::new(&FOUR);
    let old = world.circle(&["ncsc", "z-cert", "ibd"]);
    world.append("z-cert", old, "of the old circle");
    world.settle();
    // The founder is lost for good.
    world.crash("ncsc");
    let next = world.succeed("z-cert", old, &["ibd", "ferm"]);
    let claim = world.engine("ibd").claim(&next).unwrap();
    assert_eq!((claim.succeeds, claim.partner.to_string()), (old, "z-cert".to_owned()));
    assert_eq!(claim.standing, Standing::Holds { belongs: true });
    assert_eq!(world.engine("ibd").successors(&old).into_iter().map(|claim| claim.by).collect::<Vec<_>>(), [next]);
    // Who was not in the old circle is told, cannot tell, and holds nothing of it.
    assert_eq!(world.engine("ferm").claim(&next).unwrap().standing, Standing::Unknown);
    assert!(world.engine("ferm").circle(&old).is_none());
    world.append("ferm", next, "hello");
    world.settle();
    world.expect_reads("ibd", next, &["hello"]);
    world.expect_reads("ibd", old, &["of the old circle"]);
    assert!(world.reads("ferm", old).is_empty());
    world.crash("ibd").start("ibd");
    assert_eq!(world.engine("ibd").successors(&old).len(), 1, "it is known after a start");
}

#[test]
fn who_never_belonged_to_a_circle_cannot_claim_to_succeed_it() {
    let mut world = World::new(&FOUR);
    let old = world.circle(&["ncsc", "z-cert", "ibd"]);
    // Its id and heads may have come to somebody who has nothing to do with it.
    let control = world.engine("ncsc").circle(&old).unwrap().control().unwrap();
    let charter = world.charter_for("ferm", Some(succeeding(control, old)));
    let next = charter.id();
    world.command("ferm", Command::Found { charter });
    world.run(50);
    world.add("ferm", next, "ibd");
    world.settle();
    assert_eq!(world.engine("ibd").claim(&next).unwrap().standing, Standing::Unfounded);
    assert!(world.engine("ibd").successors(&old).is_empty());
}

#[test]
fn a_hostile_founder_that_removed_somebody_does_not_keep_it_from_going_on_with_the_others() {
    let mut world = World::new(&FOUR);
    let old = world.circle(&["ncsc", "z-cert", "ibd"]);
    world.disconnect("ncsc", "z-cert").disconnect("ibd", "z-cert");
    world.remove("ncsc", old, "z-cert");
    let next = world.succeed("z-cert", old, &["ibd"]);
    world.connect("ibd", "z-cert").settle();
    let claims = world.engine("ibd").successors(&old);
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].by, claims[0].standing), (next, Standing::Holds { belongs: false }));
}

#[test]
fn heads_of_which_nothing_is_held_show_nothing() {
    let mut world = World::new(&FOUR);
    let old = world.circle(&["ncsc", "z-cert", "ibd"]);
    let succeeds = Succeeds { circle: old, heads: vec![cwn_crypto::Hash([1; 32])] };
    let charter = world.charter_for("z-cert", Some(succeeds));
    let next = charter.id();
    world.command("z-cert", Command::Found { charter });
    world.run(50);
    world.add("z-cert", next, "ibd");
    world.settle();
    assert_eq!(world.engine("ibd").claim(&next).unwrap().standing, Standing::Unknown);
    let unsorted = Succeeds { circle: old, heads: vec![cwn_crypto::Hash([2; 32]), cwn_crypto::Hash([1; 32])] };
    assert!(world.charter_for("z-cert", Some(unsorted)).check().is_err());
}
