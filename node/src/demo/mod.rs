//! The demo, the main job: nine partners on this machine play it all through, each a process of its own, and a
//! table at the end says what was checked.
//!
//! Everything is done with the program itself, as partners do it, and every line of the table is measured from
//! the nodes: what they list, what they read, what they say of one another. One file per chapter.

use std::path::PathBuf;

use clap::Args;

mod circles;
mod coordinator_off;
mod enrol;
mod kill;
mod remove;
mod share;
mod stage;
mod stranger;

use stage::{Stage, print};

/// Arguments of `cwn demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// End after the table; the exit code says whether every line holds.
    #[arg(long)]
    once: bool,
    /// The directory to play in, which must not exist yet; one in the system's temporary directory when none is
    /// given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Plays the demo.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut stage = Stage::set_up(arguments.dir)?;
    let told = tokio::select! {
        told = tell(&mut stage) => told,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("interrupted; everything that was started is ended");
        }
    };
    told?;
    let failed = stage.show_table();
    stage.show_places();
    let example = stage.data("z-cert").display().to_string();
    if arguments.once {
        print(&format!("\nTo look into one, start it again: cwn --data {example} daemon"));
    } else {
        print(&format!("\nThe network stays up until Ctrl-C. Look into it, for example: cwn --data {example} status"));
        tokio::signal::ctrl_c().await?;
    }
    anyhow::ensure!(failed == 0, "{failed} lines of the table do not hold");
    Ok(())
}

async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    enrol::tell(stage).await?;
    circles::tell(stage).await?;
    share::tell(stage).await?;
    kill::tell(stage).await?;
    coordinator_off::tell(stage).await?;
    remove::tell(stage).await?;
    stranger::tell(stage).await
}
