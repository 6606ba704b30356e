//! The stage: a world of many nodes in many circles, as they are when all have been there for a while.
//!
//! Certificates and circles are made by engines, each alone with a disk; what those disks then hold lies on the disks
//! of all whom it concerns, in memory once. From there on everything goes over the wire.

use anyhow::Context;
use cwn_engine::{
    circle::{Charter, Steward, Terms},
    engine::Engine,
    input::{Command, CommandId, Input},
    log::CircleId,
    output::Output,
    replica::Replica,
};

use crate::{
    disk::{Disk, Held},
    plan::Plan,
    scenario::Scenario,
    world::{Coming, World, name_of},
};

/// Nodes for each circle that there is.
const NODES_PER_CIRCLE: usize = 10;
/// Members of a circle, if there are so many nodes; so a node is in three circles.
const MEMBERS: usize = 30;
/// Stewards of a circle.
const STEWARDS: usize = 2;
/// All nodes start within so many simulated milliseconds.
const STARTS_MS: u64 = 60_000;

/// A circle, and the nodes in it.
#[derive(Debug)]
pub(crate) struct Circle {
    pub(crate) id: CircleId,
    /// The founder first.
    pub(crate) members: Vec<usize>,
}

/// A world with its circles.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) circles: Vec<Circle>,
}

/// Sets a stage with so many nodes that are about to start; with their circles, or in the network circle alone.
pub(crate) fn set(seed: u64, nodes: usize, with_circles: bool) -> anyhow::Result<Stage> {
    let plan = Plan { seed, ..Plan::new(nodes, 1, 0, Scenario::find("scale")?) };
    let mut world = World::bare(plan, 0, Vec::new());
    world.sparse = true;
    (0..nodes).for_each(|index| world.enrol(&name_of(index), &name_of(index)));
    let mut desk = Alone::open(&world, 0, None, Held::default())?;
    desk.give(Input::Import { entries: world.issuers_word() });
    let network = desk.disk.held().clone();
    // What follows starts on the disk, as everybody does.
    let desk = Alone::open(&world, 0, None, network.clone())?;
    let prepared =
        desk.engine.circle(&desk.engine.network()).cloned().context("every engine has the network circle")?;

    let mut circles = Vec::new();
    let mut disks: Vec<Held> = vec![network.clone(); nodes];
    for members in groups(&mut world, if with_circles { nodes.div_ceil(NODES_PER_CIRCLE) } else { 0 }) {
        let (id, held) = found(&mut world, &members, &prepared, &network)?;
        for member in &members {
            disks[*member].facts.extend(held.facts.clone());
            disks[*member].logs.extend(held.logs.iter().map(|(key, log)| (*key, log.clone())));
        }
        circles.push(Circle { id, members });
    }
    for (node, held) in world.nodes.iter_mut().zip(disks) {
        node.disk.restore(held);
    }
    world.prepared = Some(prepared);
    for node in 0..nodes {
        let at = world.now.plus(STARTS_MS * node as u64 / nodes as u64);
        world.schedule(at, Coming::Start { node });
    }
    Ok(Stage { world, circles })
}

/// Draws the members of so many circles, so that every node is in about equally many.
fn groups(world: &mut World, circles: usize) -> Vec<Vec<usize>> {
    let nodes = world.nodes.len();
    let members = MEMBERS.min(nodes);
    let mut bag: Vec<usize> = Vec::new();
    let mut groups = Vec::with_capacity(circles);
    for _ in 0..circles {
        let mut group: Vec<usize> = Vec::with_capacity(members);
        let mut aside = Vec::new();
        while group.len() < members {
            if bag.is_empty() {
                bag.extend(0..nodes);
            }
            let drawn = bag.swap_remove(world.people.below(bag.len() as u64) as usize);
            if group.contains(&drawn) { aside.push(drawn) } else { group.push(drawn) }
        }
        bag.extend(aside);
        groups.push(group);
    }
    groups
}

/// The first of these founds a circle of all of them. Gives back what its disk holds of it.
fn found(world: &mut World, members: &[usize], prepared: &Replica, network: &Held) -> anyhow::Result<(CircleId, Held)> {
    let steward = |index: &usize| {
        let node = &world.nodes[*index];
        Steward { partner: node.partner.clone(), node: node.member() }
    };
    let stewards: Vec<Steward> = members.iter().take(STEWARDS).map(steward).collect();
    let charter = Charter {
        name: "a circle".to_owned(),
        stewards,
        terms: Terms::default(),
        secret: world.fresh(),
        founded: world.now,
        succeeds: None,
    };
    let circle = charter.id();
    let mut founder = Alone::open(world, members[0], Some(prepared), network.clone())?;
    founder.command(world, Command::Found { charter });
    for member in members.iter().skip(STEWARDS) {
        let node = &world.nodes[*member];
        let (partner, nodes) = (node.partner.clone(), vec![node.member()]);
        founder.command(world, Command::Add { circle, partner, nodes });
    }
    let mut held = founder.disk.held().clone();
    held.logs.retain(|key, _| key.circle == circle);
    Ok((circle, held))
}

/// One engine with its disk, and nobody to talk to.
struct Alone {
    engine: Engine,
    disk: Disk,
    commands: u64,
}

impl Alone {
    fn open(world: &World, index: usize, prepared: Option<&Replica>, held: Held) -> anyhow::Result<Self> {
        let mut disk = Disk::default();
        disk.restore(held);
        let config = world.config(index);
        let engine = match prepared {
            Some(network) => Engine::open_on(config, network.clone(), Vec::new(), world.now, &disk),
            None => Engine::open(config, world.now, &disk),
        };
        Ok(Self { engine: engine.context("a disk that was just written")?, disk, commands: 0 })
    }

    fn command(&mut self, world: &mut World, command: Command) {
        let id = CommandId(self.commands);
        self.commands += 1;
        self.give(Input::Command { id, command, random: world.fresh() });
    }

    /// Hands an input over, and waits until all that follows is durable.
    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.engine.handle(crate::world::START, input, &self.disk);
            while let Some(output) = self.engine.poll_output() {
                if let Output::Store { ticket, writes } = output {
                    let Ok(_) = self.disk.submit(ticket, writes) else { unreachable!("nobody fills it up") };
                    inputs.extend(self.disk.end_sync().into_iter().map(|(ticket, _)| Input::Stored { ticket }));
                }
            }
        }
    }
}
