//! `cwn doctor`

use clap::Args;

use super::{Face, print_json, show};
use crate::api::types::Check;

/// Arguments of `cwn doctor`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let checks: Vec<Check> = face.client.get("/v1/doctor").await?;
    if arguments.json {
        print_json(&checks)?;
    } else {
        let row = |check: &Check| vec![check.state.clone(), check.what.clone(), show::line(&check.found)];
        print!("{}", show::table(&checks.iter().map(row).collect::<Vec<_>>()));
    }
    let broken = checks.iter().filter(|check| check.state == "broken").count();
    anyhow::ensure!(broken == 0, "{broken} of {} checks found something broken", checks.len());
    Ok(())
}
