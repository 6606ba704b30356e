//! The benchmarks: ratios from one run, medians of rounds in which every workload and its floor take turns.
//!
//! `tests/bench` builds everything in release and runs this. Nodes are real processes on real files; the
//! workloads are in `nodes.rs` (two that hold the same, and one that catches up) and `hub.rs` (many connections),
//! what a disk and a line can do at best in `floor.rs`. A number says little without what else the machine did:
//! every round looks at the disk before and after, and is repeated when something else kept it busy.

mod delay;
mod floor;
mod hub;
mod members;
mod nodes;
mod report;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    floor::Machine,
    hub::Hub,
    nodes::Nodes,
    report::{Gate, Limit},
};

/// Measures this build on this machine. The last line says how many gates hold.
#[derive(Debug, Parser)]
#[command(name = "tests/bench")]
struct Arguments {
    /// Three rounds instead of five.
    #[arg(long, conflicts_with = "smoke")]
    quick: bool,
    /// Everything once, and small: whether it runs, not how fast.
    #[arg(long)]
    smoke: bool,
    /// Writes the gates and every round to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The members that connect to a hub, in a process of their own.
    #[command(hide = true)]
    Members(members::Arguments),
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    entries: u64,
    rounds: usize,
    /// A round that something disturbed is repeated so often, and then counts as it is.
    repeats: usize,
    connections: usize,
}

/// What one round measured.
#[derive(Debug, Clone)]
struct Round {
    plain_seconds: f64,
    catch_up: nodes::CatchUp,
    no_op: nodes::NoOp,
    connections_bytes: u64,
    /// The worse of before and after.
    fdatasync_ms: f64,
    load: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Part::Members(members)) = arguments.part {
        return members::run(members).await;
    }
    let sizes = match (arguments.smoke, arguments.quick) {
        (true, _) => Sizes { entries: 500, rounds: 1, repeats: 0, connections: 10 },
        (false, true) => Sizes { entries: 100_000, rounds: 3, repeats: 2, connections: 200 },
        (false, false) => Sizes { entries: 100_000, rounds: 5, repeats: 2, connections: 200 },
    };
    eprintln!("two nodes, of which one holds {} entries", sizes.entries);
    let mut nodes = Nodes::set_up(sizes.entries).await?;
    eprintln!("a node with {} members around it", sizes.connections);
    let mut hub = Hub::set_up(sizes.connections)?;
    let mut machine = Machine::new(nodes.dir())?;
    let mut rounds = Vec::new();
    for number in 1..=sizes.rounds {
        for attempt in 0..=sizes.repeats {
            let round = measure(&mut nodes, &mut hub, &mut machine).await?;
            eprintln!("round {number}: {}", report::line(&round));
            if attempt == sizes.repeats || !machine.was_disturbed(round.fdatasync_ms) {
                rounds.push(round);
                break;
            }
            eprintln!("  the disk was busy with something else: once more");
        }
    }
    let gates = gates(&rounds, sizes);
    report::print(&gates, &rounds, sizes, nodes.bytes());
    if let Some(file) = arguments.json {
        report::write_json(&file, &gates, &rounds, sizes, nodes.bytes())?;
    }
    Ok(())
}

async fn measure(nodes: &mut Nodes, hub: &mut Hub, machine: &mut Machine) -> anyhow::Result<Round> {
    let before_ms = machine.fdatasync_ms()?;
    let plain_seconds = floor::copy(nodes.dir(), nodes.bytes())?;
    let catch_up = nodes.catch_up().await?;
    let no_op = nodes.no_op().await?;
    let connections_bytes = hub.cost().await?;
    let fdatasync_ms = before_ms.max(machine.fdatasync_ms()?);
    Ok(Round { plain_seconds, catch_up, no_op, connections_bytes, fdatasync_ms, load: floor::load()? })
}

fn gates(rounds: &[Round], sizes: Sizes) -> Vec<Gate> {
    let median = |of: fn(&Round) -> f64| report::median(rounds.iter().map(of).collect());
    let connections_mib = 64.0 * sizes.connections as f64 / 200.0;
    vec![
        Gate {
            name: "two nodes that hold the same know it: round trips".to_owned(),
            measured: median(|round| round.no_op.round_trips),
            limit: Limit::AtMost(2.0),
        },
        Gate {
            name: "and bytes of frames per circle, both ways together".to_owned(),
            measured: median(|round| round.no_op.bytes_per_circle),
            limit: Limit::AtMost(200.0),
        },
        Gate {
            name: "durable catch-up, of plain TCP + append + fdatasync".to_owned(),
            measured: median(|round| round.plain_seconds / round.catch_up.seconds),
            limit: Limit::AtLeast(0.3),
        },
        Gate {
            name: format!("memory of {} connections, MiB", sizes.connections),
            measured: median(|round| round.connections_bytes as f64 / f64::from(1 << 20)),
            limit: Limit::AtMost(connections_mib),
        },
    ]
}
