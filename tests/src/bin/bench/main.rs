//! The benchmarks: ratios from one run, medians of rounds in which everybody who does the same work takes turns.
//!
//! `tests/bench` builds everything in release and runs this. Each workload has a file of its own and says in it what
//! its numbers must keep to; `workload.rs` does the rounds. What a disk and a line can do at best is in `floor.rs`. A
//! number says little without what else the machine did: every round looks at the disk before and after, and is
//! repeated when something else kept it busy.

mod append;
mod attachment;
mod author;
mod catch_up;
mod compare;
mod delay;
mod floor;
mod growth;
mod idle;
mod large_circle;
mod machine;
mod members;
mod nodes;
mod opening;
mod peers;
mod plot;
mod publish;
mod report;
mod rivals;
mod workload;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    append::{Append, Batch},
    attachment::Attachment,
    catch_up::CatchUp,
    compare::Compare,
    idle::Idle,
    large_circle::LargeCircle,
    machine::Machine,
    nodes::Nodes,
    opening::Opening,
    publish::{Amount, Publish},
    rivals::Rivals,
    workload::{Outcome, Rounds, Workload, run},
};

/// Measures this build on this machine. The last line says how many gates hold.
#[derive(Debug, Parser)]
#[command(name = "tests/bench")]
struct Arguments {
    /// Small, in some minutes; this is what is done when nothing else is asked for.
    #[arg(long, conflicts_with_all = ["full", "smoke"])]
    quick: bool,
    /// Everything, at the sizes that count.
    #[arg(long, conflicts_with = "smoke")]
    full: bool,
    /// Everything once, and tiny: whether it runs, not how fast.
    #[arg(long)]
    smoke: bool,
    /// These workloads alone, such as W2.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    only: Vec<String>,
    /// Writes every number to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where a picture of each workload goes.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    plots: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The members that connect to a hub, in a process of their own.
    #[command(hide = true)]
    Members(members::Arguments),
    /// Who writes to a store until it is killed.
    #[command(hide = true)]
    Writer(opening::Arguments),
}

/// Entries where these are not what counts.
const FEW: u64 = 1_000;

/// How much of everything.
#[derive(Debug)]
struct Sizes {
    rounds: Rounds,
    /// Entries that are compared and caught up with.
    synced: Vec<u64>,
    /// In how many rounds of each workload others than this project take part.
    others_turns: usize,
    /// Among how many of these others than this project take part: they take long.
    others_among: Vec<u64>,
    /// Circles in which two that meet are; with one, entries are what counts.
    circles: Vec<u64>,
    published: Vec<Amount>,
    /// Idle connections.
    idle: Vec<usize>,
    watched: Duration,
    appended: Vec<Batch>,
    opened: Vec<u64>,
    members: usize,
    attachment_bytes: u64,
}

impl Sizes {
    fn smoke() -> Self {
        let amount = |receivers| Amount { receivers, paced: 5, sustained: 20 };
        Self {
            rounds: Rounds { count: 1, repeats: 0 },
            synced: vec![500],
            others_turns: 0,
            others_among: Vec::new(),
            circles: vec![2, 4],
            published: vec![amount(3)],
            idle: vec![10],
            watched: Duration::from_secs(1),
            appended: vec![Batch { entries: 1, groups: 10 }, Batch { entries: 64, groups: 10 }],
            opened: vec![2_000, 5_000],
            members: 10,
            attachment_bytes: 4 << 20,
        }
    }

    fn quick() -> Self {
        let amount = |receivers, sustained| Amount { receivers, paced: 100, sustained };
        Self {
            rounds: Rounds { count: 3, repeats: 2 },
            synced: vec![10_000, 68_906],
            others_turns: 1,
            others_among: vec![68_906],
            circles: vec![2, 50],
            published: vec![amount(10, 3_000), amount(50, 500)],
            idle: vec![10],
            watched: Duration::from_secs(10),
            appended: vec![
                Batch { entries: 1, groups: 100 },
                Batch { entries: 64, groups: 50 },
                Batch { entries: 1_024, groups: 20 },
            ],
            opened: vec![10_000, 100_000],
            members: 200,
            attachment_bytes: 256 << 20,
        }
    }

    fn full() -> Self {
        let amount = |receivers| Amount { receivers, paced: 200, sustained: 3_000 };
        Self {
            rounds: Rounds { count: 5, repeats: 2 },
            synced: vec![10_000, 68_906, 100_000, 1_000_000],
            others_turns: 5,
            others_among: vec![68_906, 100_000],
            circles: vec![2, 200],
            published: vec![amount(10), amount(50)],
            idle: vec![10, 200],
            watched: Duration::from_secs(60),
            appended: vec![
                Batch { entries: 1, groups: 200 },
                Batch { entries: 64, groups: 100 },
                Batch { entries: 1_024, groups: 50 },
            ],
            opened: vec![10_000, 1_000_000],
            members: 200,
            attachment_bytes: 1 << 30,
        }
    }
}

/// Does the workloads one after the other: the next is set up only when what the last one left is gone.
struct Bench<'a> {
    sizes: Sizes,
    only: Vec<String>,
    machine: Machine,
    rivals: &'a Rivals,
    outcomes: Vec<Outcome>,
}

impl Bench<'_> {
    fn wants<W: Workload>(&self) -> bool {
        self.only.is_empty() || self.only.iter().any(|code| code.eq_ignore_ascii_case(W::CODE))
    }

    async fn run<W: Workload>(&mut self, workload: &mut W) -> anyhow::Result<()> {
        let outcome = run(workload, self.sizes.rounds, &mut self.machine).await?;
        self.outcomes.push(outcome);
        Ok(())
    }

    async fn all(&mut self) -> anyhow::Result<()> {
        let (all, nobody) = (self.rivals, Rivals::none());
        for entries in self.sizes.synced.clone() {
            if self.wants::<Compare<'_>>() || self.wants::<CatchUp<'_>>() {
                eprintln!("nodes that hold {entries} entries are set up");
                let mut nodes = Nodes::set_up(entries, 1).await?;
                let rivals = if self.sizes.others_among.contains(&entries) { all } else { &nobody };
                if self.wants::<Compare<'_>>() {
                    self.run(&mut Compare { nodes: &nodes, rivals }).await?;
                }
                if self.wants::<CatchUp<'_>>() {
                    self.run(&mut CatchUp { nodes: &mut nodes, rivals }).await?;
                }
            }
        }
        if self.wants::<Compare<'_>>() {
            for circles in self.sizes.circles.clone() {
                eprintln!("nodes that are in {circles} circles are set up");
                let nodes = Nodes::set_up(FEW, circles).await?;
                self.run(&mut Compare { nodes: &nodes, rivals: &nobody }).await?;
            }
        }
        if self.wants::<Publish<'_>>() {
            for amount in self.sizes.published.clone() {
                let mut publish = Publish::set_up(amount, all).await?;
                self.run(&mut publish).await?;
                publish.stop().await;
            }
        }
        if self.wants::<Idle<'_>>() {
            for connections in self.sizes.idle.clone() {
                self.run(&mut Idle::set_up(connections, self.sizes.watched, all)?).await?;
            }
        }
        if self.wants::<Append>() {
            self.run(&mut Append::new(self.sizes.appended.clone())?).await?;
        }
        if self.wants::<Opening>() {
            for entries in self.sizes.opened.clone() {
                eprintln!("a store of {entries} entries is filled");
                self.run(&mut Opening::set_up(entries)?).await?;
            }
        }
        if self.wants::<LargeCircle>() {
            self.run(&mut LargeCircle::set_up(self.sizes.members).await?).await?;
        }
        if self.wants::<Attachment>() {
            self.run(&mut Attachment::set_up(self.sizes.attachment_bytes).await?).await?;
        }
        self.outcomes.extend(growth::outcome(&self.outcomes));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Members(members)) => return members::run(members).await,
        Some(Part::Writer(writer)) => return opening::run(&writer),
        None => {}
    }
    let sizes = match (arguments.smoke, arguments.full) {
        (true, _) => Sizes::smoke(),
        (false, true) => Sizes::full(),
        (false, false) => Sizes::quick(),
    };
    let rivals = if sizes.others_turns == 0 { Rivals::none() } else { Rivals::find(sizes.others_turns) };
    let dir = tempfile::tempdir()?;
    let machine = Machine::new(dir.path())?;
    let mut bench = Bench { sizes, only: arguments.only, machine, rivals: &rivals, outcomes: Vec::new() };
    bench.all().await?;
    anyhow::ensure!(!bench.outcomes.is_empty(), "no workload is called so; they are W1 to W9");
    std::fs::create_dir_all(&arguments.plots)?;
    for outcome in &bench.outcomes {
        eprintln!("drawn: {}", plot::draw(&arguments.plots, outcome)?.display());
    }
    report::print(&bench.outcomes)?;
    if let Some(file) = arguments.json {
        report::write_json(&file, &bench.outcomes)?;
    }
    Ok(())
}
