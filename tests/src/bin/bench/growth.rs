//! W9: what an entry or a circle costs where there are more of them, from what the other workloads measured at several
//! sizes.

use std::collections::BTreeMap;

use crate::{
    catch_up, compare, opening,
    workload::{Among, Gate, Limit, Numbers, OURS, Outcome},
};

/// As the issue names it.
pub(crate) const CODE: &str = "W9";
/// One may cost so many times as much among the most as among the fewest.
const MOST: f64 = 1.3;

/// How the cost of one follows from a number and how many there are.
#[derive(Debug, Clone, Copy)]
enum Cost {
    /// It is the same however many there are, or should be.
    Whole,
    /// It is for all.
    Shared,
    /// It is how many a second does.
    Rate,
}

/// What is looked at: whose workload, which number.
const BY_ENTRIES: [(&str, &str, Cost); 5] = [
    ("W1", compare::CONNECT, Cost::Whole),
    ("W2", catch_up::ONE, Cost::Shared),
    ("W2", catch_up::OPENED, Cost::Shared),
    ("W6", opening::REBUILT, Cost::Rate),
    ("W6", opening::APPENDED, Cost::Rate),
];
const BY_CIRCLES: [(&str, &str, Cost); 2] =
    [("W1", compare::CONNECT, Cost::Shared), ("W1", compare::BYTES, Cost::Whole)];

impl Cost {
    fn of_one(self, number: f64, size: u64) -> f64 {
        match self {
            Self::Whole => number,
            Self::Shared => number / size as f64,
            Self::Rate => number.recip(),
        }
    }
}

/// Adds what one costs among the most, of what one costs among the fewest.
fn add(
    looked_at: &[(&str, &str, Cost)],
    outcomes: &[Outcome],
    size: fn(Among) -> Option<u64>,
    (medians, gates): (&mut Numbers, &mut Vec<Gate>),
) {
    for (code, what, cost) in looked_at {
        let measured = outcomes.iter().filter(|outcome| outcome.code == *code);
        let by_size: BTreeMap<u64, f64> = measured
            .filter_map(|outcome| {
                let size = size(outcome.among?)?;
                Some((size, cost.of_one(outcome.medians.get(OURS, what)?, size)))
            })
            .collect();
        if let (Some((fewest, first)), Some((most, last))) = (by_size.first_key_value(), by_size.last_key_value())
            && fewest < most
        {
            let name = format!("{code}, {what}: one of {most} / one of {fewest}");
            medians.set(OURS, &name, last / first);
            gates.push(Gate::new(name, Some(last / first), Limit::AtMost(MOST)));
        }
    }
}

/// `None` where nothing was measured at two sizes.
pub(crate) fn outcome(outcomes: &[Outcome]) -> Option<Outcome> {
    let (mut medians, mut gates) = (Numbers::default(), Vec::new());
    let entries = |among| if let Among::Entries(entries) = among { Some(entries) } else { None };
    let circles = |among| if let Among::Circles(circles) = among { Some(circles) } else { None };
    add(&BY_ENTRIES, outcomes, entries, (&mut medians, &mut gates));
    add(&BY_CIRCLES, outcomes, circles, (&mut medians, &mut gates));
    let about = "what one costs where there are more, of what it costs where there are few".to_owned();
    let rounds = vec![medians.clone()];
    let outcome = Outcome { code: CODE, about, among: None, rounds, medians, gates, fdatasync_ms: 0.0 };
    (!outcome.gates.is_empty()).then_some(outcome)
}
