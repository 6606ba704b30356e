//! What partners could use instead, from `tests/rivals`: a program of its own, built apart from this workspace, that
//! does the same work once and prints what it took.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::workload::Numbers;

/// Where `tests/bench` has built it; unset, nobody else takes part.
const PROGRAM: &str = "CWN_RIVALS";
/// As the program calls them. medallion joins when this project speaks TAXII.
const ALL: [&str; 6] = ["iroh-docs", "iroh-gossip", "gossipsub", "jetstream", "git", "postgres"];

/// A number that the program prints, what it is called here, and what it is multiplied by.
pub(crate) type Taken<'a> = (&'static str, &'a str, f64);

/// What one printed.
type Answer = BTreeMap<String, f64>;

/// Those that can take part on this machine.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    program: PathBuf,
    here: Vec<&'static str>,
    /// How often each is asked for the same work at most.
    turns: usize,
    /// Who was asked for what.
    asked: RefCell<BTreeMap<(&'static str, String), Asked>>,
}

/// What one was asked for one kind of work.
#[derive(Debug, Default)]
struct Asked {
    times: usize,
    /// What it answered that is still to be taken again.
    kept: VecDeque<Answer>,
}

/// Which answer is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// One of now.
    Now,
    /// Of several workloads that the same work is measured for, the second: what was answered to the first, in turn,
    /// and one of now where there is none.
    Again,
}

impl Rivals {
    /// Nobody.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Asks each whether it can, and says who cannot, and why. They take part in so many rounds of each workload.
    pub(crate) fn find(turns: usize) -> Self {
        let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
            eprintln!("{PROGRAM} names no program: nobody is compared with");
            return Self::none();
        };
        let mut rivals = Self { program, turns, ..Self::default() };
        for who in ALL {
            match rivals.ask(who, &std::env::temp_dir(), &["check".to_owned()]) {
                Ok(_) => rivals.here.push(who),
                Err(error) => eprintln!("{who} is left out: {error:#}"),
            }
        }
        rivals
    }

    fn ask(&self, who: &str, dir: &Path, work: &[String]) -> anyhow::Result<Answer> {
        let mut asked = Command::new(&self.program);
        asked.arg(who).arg("--dir").arg(dir).args(work).stdin(Stdio::null());
        let output = asked.output().with_context(|| format!("{} does not start", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.lines().next().unwrap_or("it said nothing"));
        let printed = String::from_utf8(output.stdout)?;
        Ok(serde_json::from_str(printed.lines().last().context("it printed nothing")?)?)
    }

    /// `None` when it has had its turns.
    fn answer(&self, who: &'static str, ask: Ask, work: &[String]) -> anyhow::Result<Option<Answer>> {
        let mut asked = self.asked.borrow_mut();
        let asked = asked.entry((who, work.join(" "))).or_default();
        if let (Ask::Again, Some(answer)) = (ask, asked.kept.pop_front()) {
            return Ok(Some(answer));
        }
        if asked.times == self.turns {
            return Ok(None);
        }
        asked.times += 1;
        let answer = self.ask(who, tempfile::tempdir()?.path(), work)?;
        if let Ask::Now = ask {
            asked.kept.push_back(answer.clone());
        }
        Ok(Some(answer))
    }

    /// Lets these do the work, one after the other. Who fails is said, and has no numbers in this round.
    pub(crate) fn take_turns(
        &self,
        whose: &[&str],
        (ask, work): (Ask, &[String]),
        taken: &[Taken<'_>],
        numbers: &mut Numbers,
    ) {
        for who in self.here.iter().copied().filter(|who| whose.contains(who)) {
            match self.answer(who, ask, work) {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    for (printed, what, factor) in taken {
                        if let Some(value) = answer.get(*printed) {
                            numbers.set(who, what, value * factor);
                        }
                    }
                }
                Err(error) => eprintln!("  {who} failed at this: {error:#}"),
            }
        }
    }
}
