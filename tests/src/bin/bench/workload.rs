//! What a workload is: several contenders that do the same work in turns, numbers, and what these must keep to.

use std::collections::BTreeMap;

use crate::{machine::Machine, report};

/// The one that this project makes.
pub(crate) const OURS: &str = "cwn";
/// What no protocol can beat: the same bytes, over plain TCP and to the same disk.
pub(crate) const FLOOR: &str = "plain";

/// How many of something there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    Entries(u64),
    Circles(u64),
}

/// Work that several can do.
pub(crate) trait Workload {
    /// As the issue names it.
    const CODE: &'static str;

    /// What is done, for people.
    fn about(&self) -> String;

    /// Among how many, where the same is done with several numbers of them.
    fn among(&self) -> Option<Among> {
        None
    }

    /// Lets everybody do it once, in turn.
    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()>;

    /// What the medians must keep to.
    fn gates(&self, medians: &Numbers) -> Vec<Gate>;
}

/// What was measured, by who did the work and what of it is meant, with its unit last in the name: `"seconds"`,
/// `"p50 ms"`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers(BTreeMap<(String, String), f64>);

impl Numbers {
    pub(crate) fn set(&mut self, who: &str, what: &str, value: f64) {
        self.0.insert((who.to_owned(), what.to_owned()), value);
    }

    /// `None` when nobody of that name took part.
    pub(crate) fn get(&self, who: &str, what: &str) -> Option<f64> {
        self.0.get(&(who.to_owned(), what.to_owned())).copied()
    }

    /// One number divided by another.
    pub(crate) fn ratio(&self, (one, of): (&str, &str), (other, by): (&str, &str)) -> Option<f64> {
        Some(self.get(one, of)? / self.get(other, by)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.0.iter().map(|((who, what), value)| (who.as_str(), what.as_str(), *value))
    }

    /// The median of each number over these rounds.
    fn medians(rounds: &[Self]) -> Self {
        let mut all: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
        for (name, value) in rounds.iter().flat_map(|round| &round.0) {
            all.entry(name.clone()).or_default().push(*value);
        }
        Self(all.into_iter().map(|(name, values)| (name, report::median(values))).collect())
    }
}

/// What a number must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    pub(crate) fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
        }
    }
}

/// A number that must hold, and how far it should get.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) name: String,
    /// `None` when it compares with somebody who did not take part.
    pub(crate) measured: Option<f64>,
    pub(crate) limit: Limit,
    pub(crate) stretch: Option<Limit>,
}

impl Gate {
    pub(crate) fn new(name: impl Into<String>, measured: Option<f64>, limit: Limit) -> Self {
        Self { name: name.into(), measured, limit, stretch: None }
    }

    /// It should get as far as this.
    pub(crate) fn stretch(self, stretch: Limit) -> Self {
        Self { stretch: Some(stretch), ..self }
    }

    /// `None` when it was not measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        self.measured.map(|measured| self.limit.holds(measured))
    }
}

/// How often a workload is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    /// A round that something disturbed is repeated so often, and then counts as it is.
    pub(crate) repeats: usize,
}

/// What a workload came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: &'static str,
    pub(crate) about: String,
    pub(crate) among: Option<Among>,
    pub(crate) rounds: Vec<Numbers>,
    pub(crate) medians: Numbers,
    pub(crate) gates: Vec<Gate>,
    /// The longest that 1 kB took to become durable, before and after the rounds that count.
    pub(crate) fdatasync_ms: f64,
}

/// Does a workload so often, looking at the disk before and after each round.
pub(crate) async fn run<W: Workload>(
    workload: &mut W,
    rounds: Rounds,
    machine: &mut Machine,
) -> anyhow::Result<Outcome> {
    eprintln!("{}: {}", W::CODE, workload.about());
    let mut counted = Vec::new();
    let mut fdatasync_ms: f64 = 0.0;
    for number in 1..=rounds.count {
        for attempt in 0..=rounds.repeats {
            let before_ms = machine.fdatasync_ms()?;
            let mut numbers = Numbers::default();
            workload.round(&mut numbers).await?;
            let worse_ms = before_ms.max(machine.fdatasync_ms()?);
            eprintln!("  round {number} of {}: {}", rounds.count, report::line(&numbers));
            if attempt == rounds.repeats || !machine.was_disturbed(worse_ms) {
                counted.push(numbers);
                fdatasync_ms = fdatasync_ms.max(worse_ms);
                break;
            }
            eprintln!("  the disk was busy with something else: once more");
        }
    }
    let medians = Numbers::medians(&counted);
    let gates = workload.gates(&medians);
    let (about, among) = (workload.about(), workload.among());
    Ok(Outcome { code: W::CODE, about, among, rounds: counted, medians, gates, fdatasync_ms })
}
