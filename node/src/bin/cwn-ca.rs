//! The coordinator's program: certificates, on a machine that needs no network.

use std::process::ExitCode;

use clap::Parser;
use cwn_node::{ca::cli, cli::report};

/// The membership CA of a Cyberweerbaarheidsnetwerk: invites partners, approves, revokes.
#[derive(Debug, Parser)]
#[command(name = "cwn-ca", version)]
struct Program {
    #[command(flatten)]
    arguments: cli::Arguments,
}

fn main() -> ExitCode {
    report(cli::run(Program::parse().arguments))
}
