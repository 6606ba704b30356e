//! What partners could use instead of this project, on the same work: each rival has a file, which sets it up as its own
//! documentation says, does the work once, and prints what that took as one line of JSON on its last line.
//!
//! Rivals differ in what they promise: iroh-gossip and gossipsub store nothing, JetStream does not flush each item, and
//! none of them seals to a group. Their numbers are for less work than ours, never for more.

mod git;
mod gossipsub;
mod iroh_docs;
mod iroh_gossip;
mod jetstream;
mod journey;
mod meter;
mod postgres;

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::{Parser, Subcommand, ValueEnum};

use crate::{journey::Amount, meter::Numbers};

/// Every item of every workload has this size.
pub(crate) const ITEM_BYTES: usize = 1_024;

#[derive(Debug, Parser)]
struct Arguments {
    rival: Rival,
    /// Where it keeps what it keeps; on the disk that is measured.
    #[arg(long)]
    dir: PathBuf,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rival {
    IrohDocs,
    IrohGossip,
    Gossipsub,
    Jetstream,
    Git,
    Postgres,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Work {
    /// Fails, saying why, when it cannot take part on this machine.
    Check,
    /// One that holds nothing catches up with so many items; then both find out that there is nothing more.
    Sync { items: u64 },
    /// One publishes to so many others, one by one and then as fast as it goes.
    Publish { receivers: usize, paced: u64, sustained: u64 },
    /// So many connections, and nothing to do.
    Idle { connections: usize, seconds: u64 },
    /// Those that connect, in a process of their own.
    #[command(hide = true)]
    Idlers { connections: usize },
}

/// Bytes that do not compress, and begin with their number.
pub(crate) fn item(number: u64) -> Vec<u8> {
    let mut state = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(ITEM_BYTES);
    bytes.extend_from_slice(&number.to_le_bytes());
    while bytes.len() < ITEM_BYTES {
        // Marsaglia, Xorshift RNGs (2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

async fn take_part(arguments: &Arguments) -> anyhow::Result<Numbers> {
    let dir = &arguments.dir;
    match (arguments.rival, arguments.work) {
        (Rival::Git, Work::Check) => git::check(),
        (Rival::Postgres, Work::Check) => postgres::check(),
        (Rival::Jetstream, Work::Check) => jetstream::check(),
        (_, Work::Check) => Ok(Numbers::default()),
        (Rival::IrohDocs, Work::Sync { items }) => iroh_docs::sync(dir, items).await,
        (Rival::Git, Work::Sync { items }) => git::sync(dir, items),
        (Rival::Postgres, Work::Sync { items }) => postgres::sync(items).await,
        (Rival::Jetstream, Work::Sync { items }) => jetstream::sync(dir, items).await,
        (rival, Work::Publish { receivers, paced, sustained }) => {
            let amount = Amount { receivers, paced, sustained };
            match rival {
                Rival::IrohGossip => iroh_gossip::publish(amount).await,
                Rival::Gossipsub => gossipsub::publish(amount).await,
                Rival::Jetstream => jetstream::publish(dir, amount).await,
                Rival::Postgres => postgres::publish(amount).await,
                Rival::IrohDocs | Rival::Git => bail!("it does not publish"),
            }
        }
        (rival, Work::Idle { connections, seconds }) => {
            let watched = Duration::from_secs(seconds);
            match rival {
                Rival::IrohGossip => iroh_gossip::idle(connections, watched).await,
                Rival::Gossipsub => gossipsub::idle(connections, watched).await,
                Rival::Jetstream => jetstream::idle(dir, connections, watched).await,
                Rival::IrohDocs | Rival::Git | Rival::Postgres => bail!("it does not idle"),
            }
        }
        (Rival::IrohGossip, Work::Idlers { connections }) => iroh_gossip::idlers(connections).await,
        (Rival::Gossipsub, Work::Idlers { connections }) => gossipsub::idlers(connections).await,
        (Rival::Jetstream, Work::Idlers { connections }) => jetstream::idlers(connections).await,
        (rival, work) => bail!("{rival:?} does not do this work: {work:?}"),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let numbers = take_part(&arguments).await?;
    println!("{}", serde_json::to_string(&numbers)?);
    Ok(())
}
