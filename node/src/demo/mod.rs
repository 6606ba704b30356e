//! The demo, the main job: nine partners on this machine play it all through, each a process of its own, and a
//! table at the end says what was checked.
//!
//! Everything is done with the program itself, as partners do it, and every line of the table is measured from
//! the nodes: what they list, what they read, what they say of one another. One file per chapter; `stage` has
//! the processes and the questions, `table` the lines and how they look.

use std::{io, path::PathBuf, pin::pin, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

mod carried;
mod circles;
mod coordinator_off;
mod enrol;
mod forked;
mod kill;
mod remove;
mod restore;
mod share;
mod stage;
mod stewards;
mod stranger;
mod table;

use stage::{Stage, print};

/// The story takes some ten seconds. A machine so slow that it takes this long would not convince anybody.
const STORY_PATIENCE: Duration = Duration::from_secs(300);

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

/// Plays the demo. Whatever happens to it, what it started ends with it.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut stopped = pin!(stop_asked());
    let mut stage = Stage::set_up(arguments.dir)?;
    let told = tokio::select! {
        told = tell(&mut stage) => told,
        stopped = &mut stopped => {
            stopped?;
            anyhow::bail!("interrupted; everything that was started is ended");
        }
        () = tokio::time::sleep(STORY_PATIENCE) => {
            Err(anyhow::anyhow!("after {} s the story had not come to its end", STORY_PATIENCE.as_secs()))
        }
    };
    if let Err(error) = told {
        stage.show_table();
        return Err(error.context(stage.where_it_stopped()));
    }
    let failed = stage.show_table();
    stage.show_places();
    let example = stage.call("z-cert");
    if arguments.once {
        print(&format!("\nAll of them are ended. To look into one, start it again:\n   {example} daemon"));
        let log = stage.data(stranger::KNOCKED_AT).join("daemon.log");
        print(&format!("Whom a node refused it remembers while it runs; the stranger stands in {}.", log.display()));
    } else {
        print(&format!("\nThe network stays up until Ctrl-C. Look into it, for example:\n   {example} status"));
        stopped.await?;
    }
    anyhow::ensure!(
        failed == 0,
        "lines of the table that do not hold: {failed}; look at the nodes' own logs, {}/*/daemon.log",
        stage.dir().display()
    );
    Ok(())
}

/// Ctrl-C, or `kill`. A terminal that is closed ends the daemons as it ends this.
async fn stop_asked() -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    enrol::tell(stage).await?;
    circles::tell(stage).await?;
    share::tell(stage).await?;
    kill::tell(stage).await?;
    restore::tell(stage).await?;
    coordinator_off::tell(stage).await?;
    remove::tell(stage).await?;
    stewards::tell(stage).await?;
    carried::tell(stage).await?;
    forked::tell(stage).await?;
    stranger::tell(stage).await
}
