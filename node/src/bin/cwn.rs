//! The member's program.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about = "A node of the Cyberweerbaarheidsnetwerk")]
struct Arguments {
    /// The data directory of the node.
    #[arg(long, env = "CWN_DATA")]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node until it is asked to stop.
    Daemon,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Daemon => cwn_node::daemon::run(&arguments.data).await,
    }
}
