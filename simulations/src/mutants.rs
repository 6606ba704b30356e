//! Planted bugs: every wrong version of the engine must be caught by a checker, or one is missing.
//!
//! What can be planted stands in [`cwn_engine::planted`]; here stands where each bug should show. A life counts as
//! evidence only when the same life without the bug is clean.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, bail};
use clap::Args;
use cwn_engine::planted::{Bug, plant};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    disk::ASSERTS,
    life::{self, Outcome},
    malicious::Kind,
    plan::Plan,
    scenario::Scenario,
};

/// What `cwn-sim mutants` is asked for.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// How many seeds a bug has at most, in each scenario, to show itself
    #[arg(long, default_value_t = 32)]
    seeds: u64,
    /// Only this bug, such as IgnoreRemoval
    #[arg(long)]
    only: Option<String>,
    /// How many lives at a time; as many as there are processors when not given
    #[arg(long)]
    jobs: Option<usize>,
}

/// Of a hundred nodes so many are malicious, where a bug needs somebody who is.
const MALICIOUS_PERCENT: u64 = 25;

/// Lives in which a bug should show.
struct Lives {
    scenario: &'static str,
    nodes: usize,
    hours: u64,
    malice: Option<Kind>,
    /// What happens more often than the scenario says.
    more: fn(&mut Scenario),
}

impl Lives {
    const fn of(scenario: &'static str) -> Self {
        Self { scenario, nodes: 7, hours: 2, malice: None, more: |_| {} }
    }

    const fn more(self, more: fn(&mut Scenario)) -> Self {
        Self { more, ..self }
    }

    const fn with(self, malice: Kind) -> Self {
        Self { malice: Some(malice), ..self }
    }

    const fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    const fn hours(self, hours: u64) -> Self {
        Self { hours, ..self }
    }

    fn plan(&self, seed: u64) -> anyhow::Result<Plan> {
        let mut scenario = Scenario::find(self.scenario)?;
        scenario.calm_every_minutes = scenario.calm_every_minutes.min(60);
        (self.more)(&mut scenario);
        let Self { nodes, hours, malice, .. } = *self;
        let malicious_percent = if malice.is_some() { MALICIOUS_PERCENT } else { 0 };
        Ok(Plan { seed, malice, ..Plan::new(nodes, hours, malicious_percent, scenario) })
    }
}

fn slow_disks(scenario: &mut Scenario) {
    scenario.faults.slow_sync_per_mille = 300;
}

fn many_changes(scenario: &mut Scenario) {
    scenario.people.add *= 8;
    scenario.people.remove *= 8;
    scenario.people.appoint *= 4;
    scenario.people.dismiss *= 8;
    scenario.people.policy *= 8;
    scenario.faults.partition *= 4;
}

fn many_starts(scenario: &mut Scenario) {
    scenario.faults.kill *= 20;
    scenario.faults.partition *= 20;
    scenario.people.publish *= 4;
}

/// Where a bug should show.
fn lives_for(bug: Bug) -> Vec<Lives> {
    let mixed = || Lives::of("mixed");
    let changes = || mixed().more(many_changes);
    match bug {
        Bug::SkipSync | Bug::ReuseLogId | Bug::ForgetRetractions | Bug::EraseAtOnce | Bug::RetractUntold => {
            vec![mixed()]
        }
        Bug::NeverErase | Bug::KeepOfOthers => vec![mixed().hours(34).more(|scenario| {
            scenario.calm_every_minutes = 240;
        })],
        Bug::AnnounceBeforeStored | Bug::ReplyBeforeStored | Bug::AcceptBeforeStored | Bug::UseEpochBeforeDurable => {
            vec![mixed().more(slow_disks)]
        }
        Bug::WrapToRevoked | Bug::SpeakToRevoked | Bug::RevocationInAcceptance => vec![Lives::of("revocation")],
        Bug::ClockInAcceptance => vec![mixed().more(|scenario| scenario.faults.clock_jump *= 4)],
        Bug::WelcomeBeforeDurable => vec![mixed().more(|scenario| {
            many_changes(scenario);
            slow_disks(scenario);
        })],
        Bug::SealedForThoseBefore => vec![mixed().hours(4).more(|scenario| {
            many_changes(scenario);
            slow_disks(scenario);
            scenario.people.publish *= 16;
            scenario.people.add *= 3;
            scenario.people.remove *= 3;
        })],
        Bug::CutNeverReplaced | Bug::CutTakesInAside => vec![mixed().hours(4).more(|scenario| {
            scenario.people.add *= 40;
            scenario.people.remove *= 40;
            scenario.people.publish *= 8;
            scenario.faults.partition *= 4;
        })],
        Bug::SealToStaleEpoch
        | Bug::IgnoreDismissal
        | Bug::WelcomeStrangers
        | Bug::GoOnWithRemoved
        | Bug::IgnoreRemoval
        | Bug::AddUndoesConcurrentRemove
        | Bug::FoldByArrival
        | Bug::WorseRankRemoves
        | Bug::VoidOneLess
        | Bug::CitedControlLeftOut
        | Bug::AcceptBeyondCut
        | Bug::CutOneTooFar => vec![changes(), changes().with(Kind::Usurper)],
        Bug::PolicyByArrival => vec![changes().more(|scenario| {
            scenario.people.policy *= 40;
            scenario.faults.partition *= 20;
        })],
        Bug::SkipSignature | Bug::TrustFirstSignature | Bug::OneSignatureForTheBatch | Bug::SkipHashLink => {
            vec![mixed().with(Kind::Forger)]
        }
        Bug::AnybodysEpoch => vec![mixed().with(Kind::Borrower)],
        Bug::OfferUncertified | Bug::RememberEveryOffer => vec![mixed().with(Kind::Recruiter)],
        Bug::QuietAboutOwnPartner => vec![mixed().with(Kind::IssuerThief)],
        Bug::IgnoreQuota => vec![mixed().with(Kind::Flooder)],
        Bug::BranchesKeptQuiet => vec![changes().with(Kind::Splitter)],
        Bug::RotUnhides | Bug::LostRecordsStay => vec![Lives::of("rot").more(|scenario| {
            scenario.faults.rot_record *= 10;
            scenario.faults.rot_fact *= 20;
            scenario.faults.kill *= 10;
            scenario.people.publish *= 4;
        })],
        // An entry that a crash leaves, and what stands right behind it not.
        Bug::TrustTheTail => vec![mixed().hours(4).more(|scenario| {
            slow_disks(scenario);
            scenario.faults.kill *= 9;
            scenario.people.publish *= 8;
        })],
        // Few facts are a charter.
        Bug::LostForGood => vec![Lives::of("rot").more(|scenario| {
            scenario.faults.rot_fact *= 200;
            scenario.faults.kill *= 20;
        })],
        Bug::RememberEveryHeight => vec![mixed().with(Kind::Announcer)],
        Bug::CountTwice => vec![Lives::of("rot").more(|scenario| {
            scenario.faults.rot *= 7;
            scenario.people.add *= 8;
            scenario.people.remove *= 4;
            scenario.people.appoint *= 12;
        })],
        Bug::ForgetUnopenable => vec![mixed().with(Kind::MisWrapper)],
        Bug::ForkGoesOn | Bug::ForkKeptQuiet => vec![mixed().with(Kind::Forker)],
        // It takes a removal that names a branch, and somebody who holds the other.
        Bug::OtherBranchStays => {
            let raised = changes().with(Kind::Forker).more(|scenario| {
                scenario.people.remove *= 3;
                scenario.people.raise *= 40;
            });
            vec![raised, changes().with(Kind::Forker), changes().with(Kind::Forker).hours(5)]
        }
        Bug::CompareWithoutEnd => vec![mixed().with(Kind::Boaster)],
        Bug::ForgiveFaults => vec![mixed().with(Kind::Garbler)],
        Bug::WaitForStalled => vec![mixed().with(Kind::Withholder)],
        Bug::DigestLeavesLogsOut
        | Bug::DigestEverySecond
        | Bug::HeldClaimsMore
        | Bug::HeldUnsaidOnConnect
        | Bug::SealNamedToAll => vec![mixed()],
        // A log must come seconds before the one that it cites.
        Bug::CitedTakenForHeld => vec![mixed().more(|scenario| {
            many_starts(scenario);
            scenario.network.slow_per_mille = 600;
            scenario.faults.connection_drop *= 8;
        })],
        Bug::WaitForTheGone => vec![Lives::of("revocation").more(|scenario| {
            scenario.people.revoke *= 4;
            scenario.people.publish *= 8;
            scenario.network.slow_per_mille = 600;
            scenario.faults.partition *= 20;
            scenario.faults.connection_drop *= 8;
        })],
        Bug::NeedTheIssuer => vec![Lives::of("without-coordinator").hours(3)],
        Bug::NeedTheIssuerToFound => vec![Lives::of("without-coordinator").hours(8)],
        Bug::GiveEveryKey => vec![changes().more(|scenario| {
            many_changes(scenario);
            scenario.people.policy *= 2;
            scenario.people.publish *= 4;
        })],
        Bug::KeepKeys => vec![changes().hours(4)],
        Bug::ForgetLosses => vec![mixed().more(|scenario| scenario.faults.full_queue *= 20)],
        Bug::DropInDoubt | Bug::DropEarly | Bug::DropRetractions => vec![Lives::of("expiry").hours(4)],
        Bug::ShortenAtOnce => vec![Lives::of("expiry").hours(30).more(|scenario| {
            scenario.calm_every_minutes = 240;
            scenario.people.policy = 2_000;
            scenario.people.publish /= 4;
        })],
        Bug::KeepForEver | Bug::KeepExpired => vec![Lives::of("retention").nodes(4).hours(48)],
        Bug::TakeWithoutPayload => vec![Lives::of("expiry").with(Kind::Stripper)],
        Bug::CurrentAtOnce => vec![mixed().more(many_starts)],
        // What rot took is fetched from members, so that only who is alone in a circle meets damage: one that added and
        // removed all the others, and adds one of them again.
        Bug::DamageSwallowsReplies => vec![Lives::of("rot").nodes(3).more(|scenario| {
            scenario.faults.rot *= 4;
            (scenario.faults.rot_record, scenario.faults.rot_fact) = (0, 0);
            scenario.people.publish /= 20;
            scenario.people.add *= 20;
            scenario.people.remove *= 20;
            (scenario.faults.kill, scenario.faults.power_loss, scenario.faults.disk_full) = (0, 0, 0);
            (scenario.people.stop, scenario.people.clone, scenario.people.restore) = (0, 0, 0);
        })],
    }
}

/// What ended a life with a bug in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Catcher {
    /// A checker.
    Checker(&'static str),
    /// An assertion of the disk, which a node's store has too.
    Store,
}

impl fmt::Display for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checker(promise) => f.write_str(promise),
            Self::Store => f.write_str("the store"),
        }
    }
}

/// Lives a life with a bug planted, or with none. A panic that is not the store's own is a fault of engine or simulator,
/// and catches nothing.
fn live(plan: &Plan, bug: Option<Bug>) -> anyhow::Result<Option<Catcher>> {
    plant(bug);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| life::live(plan, 0)));
    plant(None);
    caught_by(outcome).with_context(|| format!("with {bug:?} planted, in the life {plan}"))
}

/// What ended a life, if anything did.
fn caught_by(outcome: thread::Result<Outcome>) -> anyhow::Result<Option<Catcher>> {
    let panic = match outcome {
        Ok(outcome) => return Ok(outcome.violation.map(|violation| Catcher::Checker(violation.promise))),
        Err(panic) => panic,
    };
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    match formatted.or_else(|| panic.downcast_ref::<&str>().copied()) {
        Some(message) if message.contains(ASSERTS) => Ok(Some(Catcher::Store)),
        message => bail!("a panic, which is no catch: {}", message.unwrap_or("it says nothing")),
    }
}

/// Where a bug was caught, and by what.
#[derive(Debug)]
struct Caught {
    by: Catcher,
    seed: u64,
    scenario: &'static str,
}

/// Lives with a bug until one ends because of it. Else says how many lives end without it, too.
fn hunt(bug: Bug, seeds: u64) -> anyhow::Result<Result<Caught, u64>> {
    let lives = lives_for(bug);
    let mut violated = 0;
    for seed in 0..seeds {
        for one in &lives {
            let plan = one.plan(seed)?;
            if let Some(by) = live(&plan, Some(bug))? {
                if live(&plan, None)?.is_none() {
                    return Ok(Ok(Caught { by, seed, scenario: one.scenario }));
                }
                violated += 1;
            }
        }
    }
    Ok(Err(violated))
}

/// Plants one bug after another.
pub(crate) fn run(wanted: &Mutants) -> anyhow::Result<ExitCode> {
    let chosen = |bug: &Bug| wanted.only.as_ref().is_none_or(|only| format!("{bug:?}").eq_ignore_ascii_case(only));
    let bugs: Vec<Bug> = Bug::ALL.iter().map(|(bug, _)| *bug).filter(chosen).collect();
    if bugs.is_empty() {
        let names: Vec<String> = Bug::ALL.iter().map(|(bug, about)| format!("{bug:?}:{about}")).collect();
        bail!("there is no such bug to plant; there are\n{}", names.join("\n"));
    }
    let bar = ProgressBar::new(bugs.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} bugs, {eta} left {msg}") {
        bar.set_style(style);
    }
    bar.tick();
    // A life that a panic ends says so in its line, or at the end.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let caught = AtomicUsize::new(0);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..jobs(wanted.jobs) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("{bug:?}");
                    let line = match hunt(*bug, wanted.seeds) {
                        Ok(Ok(Caught { by, seed, scenario })) => {
                            caught.fetch_add(1, Ordering::Relaxed);
                            format!("{name:<26}  caught by {by} at seed {seed}, scenario {scenario}")
                        }
                        Ok(Err(0)) => format!("{name:<26}  NOT CAUGHT"),
                        Ok(Err(violated)) => {
                            format!("{name:<26}  NOT CAUGHT; {violated} lives were violated without it, too")
                        }
                        Err(error) => {
                            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            return;
                        }
                    };
                    bar.suspend(|| println!("{line}"));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    panic::set_hook(hook);
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let caught = caught.into_inner();
    println!("caught {caught} of {}", bugs.len());
    Ok(if caught == bugs.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn jobs(wanted: Option<usize>) -> usize {
    wanted.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_planted_bugs_are_caught_where_the_same_lives_without_them_are_clean() {
        for (bug, promise) in [(Bug::IgnoreRemoval, "I1"), (Bug::ReplyBeforeStored, "I3"), (Bug::SkipHashLink, "I5")] {
            let caught = hunt(bug, 8).unwrap().unwrap_or_else(|_| panic!("{bug:?} is not caught"));
            assert_eq!(caught.by, Catcher::Checker(promise), "{bug:?}");
            let lives = lives_for(bug).into_iter().find(|lives| lives.scenario == caught.scenario).unwrap();
            assert_eq!(live(&lives.plan(caught.seed).unwrap(), None).unwrap(), None, "{bug:?}");
        }
    }

    #[test]
    fn a_panic_that_is_not_the_stores_catches_nothing() {
        let ends = |how: fn()| {
            let hook = panic::take_hook();
            panic::set_hook(Box::new(|_| {}));
            let ended = panic::catch_unwind(how).map(|()| unreachable!("it panics"));
            panic::set_hook(hook);
            caught_by(ended)
        };
        assert_eq!(ends(|| panic!("{ASSERTS} every log in order")).unwrap(), Some(Catcher::Store));
        let refusal = ends(|| assert_eq!(Vec::<u8>::new().remove(0), 0)).unwrap_err().to_string();
        assert!(refusal.contains("removal index"), "{refusal}");
        assert!(ends(|| panic!("an assertion of the engine")).is_err());
    }

    #[test]
    fn a_bug_that_is_not_there_is_told_with_those_that_are() {
        let wanted = Mutants { seeds: 1, only: Some("IgnoreRemovals".to_owned()), jobs: Some(1) };
        let refusal = run(&wanted).unwrap_err().to_string();
        assert!(refusal.contains("IgnoreRemoval: Removals end nothing."), "{refusal}");
    }
}
