//! The member's program.

use std::process::ExitCode;

use clap::Parser;
use cwn_node::cli::{Program, report, run};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    report(run(Program::parse()).await)
}
