//! The command line.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use signal_hook::consts::SIGINT;

use crate::{
    life::{self, Outcome},
    malicious::Kind,
    mutants::{self, Mutants},
    plan::{Plan, Trouble},
    scale,
    scenario::Scenario,
    shrink::shrink,
};

/// The scenario that is measured, not lived.
const SCALE: &str = "scale";

/// Random lives of whole networks, with a checker for every promise of the protocol.
#[derive(Debug, Parser)]
#[command(name = "cwn-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Live many lives, each from a seed of its own, and say what was violated
    Run(Run),
    /// Live one life again and print what happened up to the first violation
    Replay(Replay),
    /// Leave out of a life that breaks a promise what it does not need to break it
    Shrink(Shrink),
    /// Plant one bug after another and say which checker catches it
    Mutants(Mutants),
}

/// What a life is made of, beside its seed.
#[derive(Debug, Args)]
struct Measures {
    /// How many nodes; each of a partner of its own, but where a scenario gives some partners a second
    #[arg(long, default_value_t = 12)]
    nodes: usize,
    /// How many simulated hours people live
    #[arg(long, default_value_t = 6)]
    hours: u64,
    /// A supplied scenario, or a file like simulations/scenarios/mixed.toml
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// What the scenario says otherwise here, such as faults.rot=9000; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    with: Vec<String>,
    /// How many of the nodes are malicious, each in its own way; such as 10%
    #[arg(long, default_value = "0%", value_parser = percent)]
    malicious: u64,
    /// What all of those do
    #[arg(long)]
    malice: Option<Kind>,
    /// A kind of trouble to leave out; may be given several times
    #[arg(long)]
    without: Vec<Trouble>,
}

fn percent(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches('%').parse().ok().filter(|number| *number <= 50);
    number.ok_or_else(|| format!("{text} is not a share from 0% to 50%"))
}

impl Measures {
    fn plan(&self) -> anyhow::Result<Plan> {
        if !(2..=10_000).contains(&self.nodes) {
            bail!("--nodes must be 2 to 10,000; {} is not", self.nodes);
        }
        if self.hours == 0 {
            bail!("--hours must be at least 1");
        }
        let plan = Plan::new(self.nodes, self.hours, self.malicious, Scenario::altered(&self.scenario, &self.with)?);
        let plan = Plan { malice: self.malice, ..plan };
        Ok(self.without.iter().fold(plan, |plan, trouble| plan.without(*trouble)))
    }

    /// The plan of one life.
    fn life(&self, seed: u64) -> anyhow::Result<Plan> {
        if self.scenario == SCALE {
            bail!(
                "the scenario `scale` measures, and lives no life to look at; `cwn-sim run --scenario scale` tells its table"
            );
        }
        Ok(Plan { seed, ..self.plan()? })
    }
}

#[derive(Debug, Args)]
struct Run {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// How many seeds; 16 when not given, in the scenario `scale` 1
    #[arg(long)]
    seeds: Option<u64>,
    /// How many lives at a time; as many as there are processors when not given
    #[arg(long)]
    jobs: Option<usize>,
    #[command(flatten)]
    measures: Measures,
}

#[derive(Debug, Args)]
struct Replay {
    /// The seed
    #[arg(long)]
    seed: u64,
    /// How many lines before the violation are printed
    #[arg(long, default_value_t = 200)]
    last: usize,
    #[command(flatten)]
    measures: Measures,
}

#[derive(Debug, Args)]
struct Shrink {
    /// The seed
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    measures: Measures,
}

/// Runs what the command line asks for.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Sub::Run(run) => many(&run),
        Sub::Replay(replay) => again(&replay),
        Sub::Mutants(wanted) => mutants::run(&wanted),
        Sub::Shrink(shrink) => smallest(&shrink),
    }
}

fn many(run: &Run) -> anyhow::Result<ExitCode> {
    let plan = run.measures.plan()?;
    if run.measures.scenario == SCALE {
        return grow(run, &plan);
    }
    let jobs = run.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1);
    println!("{}: {}", run.measures.scenario, plan.scenario.about);
    let seeds = run.seeds.unwrap_or(16);
    if seeds == 0 {
        bail!("--seeds must be at least 1: no life breaks no promise");
    }
    let bar = ProgressBar::new(seeds);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {eta} left {msg}") {
        bar.set_style(style);
    }
    bar.tick();
    let next = AtomicU64::new(0);
    // The first interruption ends the run with what was done, the second at once.
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&stop)).context("listening for Ctrl-C")?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop)).context("listening for Ctrl-C")?;
    let done: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let plan = Plan { seed: run.first_seed + number, ..plan.clone() };
                    let outcome = life::live(&plan, 0);
                    if outcome.violation.is_some() {
                        bar.suspend(|| println!("{outcome}"));
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|outcome| outcome.seed);
    let violations = done.iter().filter(|outcome| outcome.violation.is_some()).count();
    let hours: u64 = done.iter().map(|outcome| outcome.simulated_ms).sum::<u64>() / 3_600_000;
    let entries: u64 = done.iter().map(|outcome| outcome.entries).sum();
    let mut traces = Sha256::new();
    done.iter().for_each(|outcome| traces.update(outcome.hash));
    let traces: String = traces.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let slowest = done.iter().map(|outcome| outcome.slowest_ms).max().unwrap_or(0) / 1_000;
    println!("{entries} entries written, all agreed at most {slowest} s after faults ended, traces {traces}");
    println!("seeds {}, simulated hours {hours}, violations {violations}", done.len());
    Ok(if violations > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a network costs as it grows. It has people and trouble of its own, so that of the measures the nodes alone
/// count.
fn grow(run: &Run, plan: &Plan) -> anyhow::Result<ExitCode> {
    println!("scale: {}", plan.scenario.about);
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let (mut violations, mut simulated_ms) = (0, 0);
    for seed in run.first_seed..run.first_seed + run.seeds.unwrap_or(1) {
        let report = scale::run(seed, plan.nodes, &|at| bar.set_message(at.to_owned()))?;
        bar.suspend(|| println!("{report}"));
        for broken in report.violations() {
            bar.suspend(|| println!("VIOLATED: {broken}"));
            violations += 1;
        }
        simulated_ms += report.simulated_ms();
    }
    bar.finish_and_clear();
    let (seeds, hours) = (run.seeds.unwrap_or(1), simulated_ms / 3_600_000);
    println!("seeds {seeds}, simulated hours {hours}, violations {violations}");
    Ok(if violations > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn again(replay: &Replay) -> anyhow::Result<ExitCode> {
    let plan = replay.measures.life(replay.seed)?;
    let outcome = life::live(&plan, replay.last);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("{outcome}");
    if outcome.violation.is_some() {
        return Ok(ExitCode::FAILURE);
    }
    println!("no promise was broken");
    Ok(ExitCode::SUCCESS)
}

fn smallest(args: &Shrink) -> anyhow::Result<ExitCode> {
    let plan = args.measures.life(args.seed)?;
    let bar = ProgressBar::new_spinner();
    let mut attempts = 0;
    let found = shrink(&plan, &mut |plan, breaks| {
        attempts += 1;
        bar.set_message(format!("attempt {attempts}: {plan}"));
        bar.tick();
        if breaks {
            bar.suspend(|| println!("still breaks: {plan}"));
        }
    });
    bar.finish_and_clear();
    let Some(found) = found else {
        println!("seed {} breaks no promise with these measures; nothing to shrink", args.seed);
        return Ok(ExitCode::SUCCESS);
    };
    println!("{}", life::live(&found, 0));
    let with: String = args.measures.with.iter().map(|change| format!(" --with {change}")).collect();
    println!("cwn-sim replay {found} --scenario {}{with}", args.measures.scenario);
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn replayed(flags: &str) -> anyhow::Result<Plan> {
        let words = format!("cwn-sim replay {flags}");
        match Cli::try_parse_from(words.split(' '))?.command {
            Sub::Replay(replay) => replay.measures.life(replay.seed),
            other => bail!("{flags} is read as {other:?}"),
        }
    }

    #[test]
    fn a_plan_told_as_flags_is_the_same_plan_again() {
        for (scenario, malice) in [("mixed", None), ("rot", Some(Kind::IssuerThief)), ("expiry", Some(Kind::Forker))] {
            let whole = Plan { seed: 77, malice, ..Plan::new(9, 4, 20, Scenario::find(scenario).unwrap()) };
            let without = |plan: Plan, trouble: &Trouble| plan.without(*trouble);
            let bare = Trouble::value_variants().iter().fold(whole.clone(), without);
            for plan in [whole, bare] {
                assert_eq!(replayed(&format!("{plan} --scenario {scenario}")).unwrap(), plan);
            }
        }
    }

    #[test]
    fn what_is_measured_is_not_replayed() {
        let refusal = replayed("--seed 1 --scenario scale").unwrap_err().to_string();
        assert!(refusal.contains("cwn-sim run --scenario scale"), "{refusal}");
    }
}
