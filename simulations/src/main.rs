//! `cwn-sim`: random lives of whole networks, from seeds, with a checker for every promise.
//!
//! [`world`] drives the engine that a node runs, with virtual time, a [`network`], [`disk`]s and clocks; [`people`]
//! live in it by a [`scenario`]; [`checker`]s see all of it. Nothing here knows real time, files but scenarios, or a
//! node's own code.

use std::process::ExitCode;

mod checker;
mod cli;
mod dice;
mod disk;
mod life;
mod malicious;
mod memory;
mod mutants;
mod network;
mod oracle;
mod people;
mod plan;
mod scale;
mod scenario;
mod shrink;
#[cfg(test)]
mod tests;
mod trace;
mod world;

fn main() -> anyhow::Result<ExitCode> {
    cli::run()
}
