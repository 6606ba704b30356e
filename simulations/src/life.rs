//! One life from its start to its end: circles are founded, people live, and every so often a calm comes in which
//! all must agree.

use std::fmt;

use crate::{
    checker::{self, Violation},
    plan::Plan,
    trace::Since,
    world::World,
};

/// The last minutes of a calm, in which nothing should be left to say.
const QUIET_MINUTES: u64 = 3;

/// How often a calm is looked at for whether all agree.
const PROBE_MS: u64 = 2_000;

/// What a life came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) violation: Option<Violation>,
    pub(crate) events: u64,
    pub(crate) hash: [u8; 32],
    pub(crate) simulated_ms: u64,
    /// How long the slowest calm took until all agreed.
    pub(crate) slowest_ms: u64,
    pub(crate) entries: u64,
    /// The last lines, when they were asked for.
    pub(crate) lines: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash: String = self.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "seed {}: {} events, {} entries, trace {hash}", self.seed, self.events, self.entries)?;
        match &self.violation {
            None => Ok(()),
            Some(Violation { promise, at, story }) => write!(f, "\n  {promise} at {}: {story}", Since(*at)),
        }
    }
}

/// Lives a whole life.
pub(crate) fn live(plan: &Plan, keep_lines: usize) -> Outcome {
    let mut world = World::new(plan.clone(), keep_lines, checker::all());
    let scenario = plan.scenario.clone();
    world.run(World::minutes(2));
    let founders: Vec<usize> = (usize::from(scenario.without_coordinator)..world.nodes.len()).collect();
    for _ in 0..scenario.circles {
        let founder = world.people.pick(&founders).copied().unwrap_or_default();
        world.found(founder, None);
        world.run(1_000);
        let times = if scenario.with_everybody { world.nodes.len() } else { world.nodes.len() * 3 };
        for _ in 0..times {
            let by = if scenario.with_everybody { Some(founder) } else { world.people.pick(&founders).copied() };
            by.into_iter().for_each(|node| world.add(node));
            world.run(1_000);
        }
    }
    let mut slowest_ms = 0;
    let mut left = World::minutes(60 * plan.hours);
    while left > 0 && world.violation.is_none() {
        let stretch = left.min(World::minutes(scenario.calm_every_minutes));
        left -= stretch;
        world.live_on();
        if scenario.split_minutes > 0 {
            world.split(World::minutes(scenario.split_minutes));
        }
        world.run(stretch);
        slowest_ms = slowest_ms.max(calm(&mut world));
    }
    let (events, hash) = world.trace.end();
    Outcome {
        seed: plan.seed,
        events,
        hash,
        slowest_ms,
        simulated_ms: world.now.since(crate::world::START),
        entries: world.truth.written.len() as u64,
        lines: world.trace.lines().cloned().collect(),
        violation: world.violation,
    }
}

/// Faults end, everybody runs and can reach everybody, clocks are right, nobody does anything; then all must agree. Gives
/// back how long that took. After it clocks differ again.
fn calm(world: &mut World) -> u64 {
    if world.violation.is_some() {
        return 0;
    }
    world.trace.tell(world.now, || "a calm: all run, nothing is cut".to_owned());
    world.calm = true;
    world.end_doubles();
    world.mend_all();
    for node in 0..world.nodes.len() {
        world.nodes[node].clock_ahead_ms = 0;
        world.make_room(node);
        world.start(node);
        if node == 0 {
            world.import_issuers_word(node);
        }
    }
    let minutes = world.plan.scenario.calm_minutes;
    let quiet = minutes.min(QUIET_MINUTES);
    let (start, end) = (world.now, world.now.plus(World::minutes(minutes - quiet)));
    while world.now < end && world.violation.is_none() && !checker::agree(world) {
        world.run(PROBE_MS.min(end.since(world.now)));
    }
    let took = world.now.since(start);
    world.run(end.since(world.now));
    world.quiet(quiet);
    world.run(World::minutes(quiet));
    if world.violation.is_none() {
        world.check_calm();
    }
    world.calm = false;
    (0..world.nodes.len()).for_each(|node| world.skew(node));
    took
}
