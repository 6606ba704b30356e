//! A whole network on hosts of their own, with lines that are cut, one-way, slow and lossy.
//!
//! `tests/hosts` builds everything and runs this. Nodes are real processes in network namespaces (`spaces.rs`);
//! every packet between them passes through this process (`wires.rs`), while partners write all the time
//! (`writing.rs`). The story is here and in `story.rs`; what it measures ends as a table (`report.rs`).

mod report;
mod spaces;
mod story;
mod wires;
mod writing;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use cwn_tests::{
    skip::{NotPermitted, skipped},
    world::World,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    spaces::{Devices, Hosts},
    story::Story,
    wires::Wires,
};

/// The coordinator first, which is off most of the time; then those on one side of the cut, then the others.
pub(crate) const NAMES: [&str; 6] = ["ncsc", "z-cert", "ferm", "surf", "dtc", "mkb"];
/// The circle of all.
pub(crate) const EVERYBODY: &str = "allen";
/// A circle across the cut in which neither the coordinator nor everybody is.
pub(crate) const SMALL_CIRCLE: &str = "haven";
/// Who is in it, its founder first.
pub(crate) const SMALL: [&str; 3] = ["dtc", "ferm", "mkb"];

/// Partitions, one-way cuts, slow and lossy lines between real nodes on hosts of their own. The last line says
/// how much of what must hold does.
#[derive(Debug, Parser)]
#[command(name = "tests/hosts")]
struct Arguments {
    /// How long the network is cut in two, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(60..=86_400))]
    partition: u64,
    /// Decides which packets are lost and who writes what when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let (hosts, devices) = match Hosts::open(NAMES.len()) {
        Err(why) => {
            skipped("a network on hosts of its own", &why.downcast::<NotPermitted>()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(opened) => opened,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    // Whatever ends it, the nodes go first and the hosts after them.
    tokio::select! {
        told = tell(&arguments, &hosts, devices) => told.map(|holds| if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _interrupted = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
        _terminated = terminate.recv() => Ok(ExitCode::from(143)),
    }
}

async fn tell(arguments: &Arguments, hosts: &Hosts, devices: Devices) -> anyhow::Result<bool> {
    let places = NAMES.iter().enumerate().map(|(number, name)| Ok(((*name).to_owned(), hosts.place(number)?)));
    let world = World::in_places(&places.collect::<anyhow::Result<Vec<_>>>()?)?;
    let wires = Wires::between(devices, arguments.seed);
    let story = Story::new(world, wires, arguments.seed, Duration::from_secs(arguments.partition));
    Ok(story.tell().await?.print())
}
