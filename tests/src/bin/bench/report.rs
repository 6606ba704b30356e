//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use serde_json::json;

use crate::{Round, Sizes};

/// What a number must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A number that must hold.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) name: String,
    pub(crate) measured: f64,
    pub(crate) limit: Limit,
}

impl Gate {
    fn holds(&self) -> bool {
        match self.limit {
            Limit::AtMost(most) => self.measured <= most,
            Limit::AtLeast(least) => self.measured >= least,
        }
    }

    fn limit_text(&self) -> String {
        match self.limit {
            Limit::AtMost(most) => format!("<= {most}"),
            Limit::AtLeast(least) => format!(">= {least}"),
        }
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn line(round: &Round) -> String {
    format!(
        "plain {:.2} s, catch-up {:.2} s ({:.2} of plain), opened after {:.1} s; no-op {:.2} round trips and {:.1} from the dial, {:.0} bytes in {} frames; connections {:.1} MiB; 1 kB fdatasync {:.2} ms, load {:.1}",
        round.plain_seconds,
        round.catch_up.seconds,
        round.plain_seconds / round.catch_up.seconds,
        round.catch_up.opened_seconds,
        round.no_op.round_trips,
        round.no_op.round_trips_from_dial,
        round.no_op.bytes_per_circle,
        round.no_op.frames,
        round.connections_bytes as f64 / f64::from(1 << 20),
        round.fdatasync_ms,
        round.load,
    )
}

pub(crate) fn print(gates: &[Gate], rounds: &[Round], sizes: Sizes, bytes: u64) {
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let seconds = middle(|round| round.catch_up.seconds);
    println!();
    println!(
        "{} entries of 1 kB, {:.0} MB sealed; medians of {} rounds; a 1 kB fdatasync took {:.2} ms, load {:.1}",
        sizes.entries,
        bytes as f64 / 1e6,
        rounds.len(),
        middle(|round| round.fdatasync_ms),
        middle(|round| round.load),
    );
    println!(
        "caught up in {seconds:.2} s, {:.0} entries/s, plain {:.2} s; all opened and listed after {:.1} s",
        sizes.entries as f64 / seconds,
        middle(|round| round.plain_seconds),
        middle(|round| round.catch_up.opened_seconds),
    );
    println!(
        "no-op: {:.1} round trips from the dial on, TCP and TLS included; {:.0} bytes more of held statements later",
        middle(|round| round.no_op.round_trips_from_dial),
        middle(|round| round.no_op.later_bytes as f64),
    );
    println!();
    println!("{:<56} {:>9}  {:<9} holds", "gate", "measured", "limit");
    for gate in gates {
        let holds = if gate.holds() { "yes" } else { "NO" };
        println!("{:<56} {:>9.2}  {:<9} {holds}", gate.name, gate.measured, gate.limit_text());
    }
    println!("gates hold: {} of {}", gates.iter().filter(|gate| gate.holds()).count(), gates.len());
}

pub(crate) fn write_json(
    file: &Path,
    gates: &[Gate],
    rounds: &[Round],
    sizes: Sizes,
    bytes: u64,
) -> std::io::Result<()> {
    let gates: Vec<_> = gates
        .iter()
        .map(|gate| {
            json!({"name": gate.name, "measured": gate.measured, "limit": gate.limit_text(), "holds": gate.holds()})
        })
        .collect();
    let rounds: Vec<_> = rounds
        .iter()
        .map(|round| {
            json!({
                "plain_seconds": round.plain_seconds,
                "catch_up_seconds": round.catch_up.seconds,
                "opened_seconds": round.catch_up.opened_seconds,
                "no_op_round_trips": round.no_op.round_trips,
                "no_op_round_trips_from_dial": round.no_op.round_trips_from_dial,
                "no_op_frames": round.no_op.frames,
                "no_op_bytes_per_circle": round.no_op.bytes_per_circle,
                "held_statements_bytes": round.no_op.later_bytes,
                "connections_bytes": round.connections_bytes,
                "fdatasync_ms": round.fdatasync_ms,
                "load": round.load,
            })
        })
        .collect();
    let all = json!({
        "entries": sizes.entries,
        "entries_bytes": bytes,
        "connections": sizes.connections,
        "gates": gates,
        "rounds": rounds,
    });
    fs::write(file, format!("{all:#}\n"))
}
