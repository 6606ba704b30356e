//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    machine,
    workload::{Gate, Limit, Numbers, Outcome},
};

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three digits that say something.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0..0.001 => format!("{value:.5}"),
        0.001..1.0 => format!("{value:.3}"),
        1.0..100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// A round in one line.
pub(crate) fn line(numbers: &Numbers) -> String {
    let one = |(who, what, value): (&str, &str, f64)| format!("{who} {what} {}", digits(value));
    numbers.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn limit_text(limit: Limit) -> String {
    match limit {
        Limit::AtMost(most) => format!("<= {most}"),
        Limit::AtLeast(least) => format!(">= {least}"),
    }
}

/// How many gates hold, and of how many that were measured.
pub(crate) fn held(outcomes: &[Outcome]) -> (usize, usize) {
    let measured: Vec<bool> = outcomes.iter().flat_map(|outcome| &outcome.gates).filter_map(Gate::holds).collect();
    (measured.iter().filter(|holds| **holds).count(), measured.len())
}

pub(crate) fn print(outcomes: &[Outcome]) -> anyhow::Result<()> {
    for Outcome { code, about, rounds, medians, gates, fdatasync_ms, among: _ } in outcomes {
        println!();
        println!("{code}: {about}");
        println!("medians of {} rounds; a 1 kB fdatasync took {fdatasync_ms:.2} ms at most", rounds.len());
        println!();
        println!("  {:<16} {:<44} {:>12}", "who", "what", "median");
        for (who, what, value) in medians.iter() {
            println!("  {who:<16} {what:<44} {:>12}", digits(value));
        }
        println!();
        println!("  {:<61} {:>9}  {:<11} {:<11} holds", "gate", "measured", "limit", "stretch");
        for gate in gates {
            let measured = gate.measured.map_or_else(|| "-".to_owned(), digits);
            let stretch = gate.stretch.map(limit_text).unwrap_or_default();
            let reached = || gate.measured.zip(gate.stretch).is_none_or(|(measured, stretch)| stretch.holds(measured));
            let holds = match gate.holds() {
                None => "not measured: who it compares with did not take part",
                Some(false) => "NO",
                Some(true) if reached() => "yes",
                Some(true) => "yes, short of the stretch",
            };
            println!("  {:<61} {measured:>9}  {:<11} {stretch:<11} {holds}", gate.name, limit_text(gate.limit));
        }
    }
    println!();
    println!("load over the last minute {:.1}", machine::load()?);
    let (held, of) = held(outcomes);
    println!("gates hold: {held} of {of}");
    Ok(())
}

pub(crate) fn write_json(file: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let numbers = |numbers: &Numbers| -> Vec<_> {
        numbers.iter().map(|(who, what, value)| json!({"who": who, "what": what, "value": value})).collect()
    };
    let gate = |gate: &Gate| {
        json!({
            "name": gate.name,
            "measured": gate.measured,
            "limit": limit_text(gate.limit),
            "stretch": gate.stretch.map(limit_text),
            "holds": gate.holds(),
        })
    };
    let outcome = |outcome: &Outcome| {
        json!({
            "workload": outcome.code,
            "about": outcome.about,
            "fdatasync_ms": outcome.fdatasync_ms,
            "medians": numbers(&outcome.medians),
            "rounds": outcome.rounds.iter().map(numbers).collect::<Vec<_>>(),
            "gates": outcome.gates.iter().map(gate).collect::<Vec<_>>(),
        })
    };
    let all: Vec<_> = outcomes.iter().map(outcome).collect();
    Ok(fs::write(file, format!("{:#}\n", json!(all)))?)
}
