//! `cwn doctor`

use std::path::Path;

use clap::Args;

use super::{Face, face, print_json, show};
use crate::api::{client::Error, types::Check, without_daemon};

/// Arguments of `cwn doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cwn doctor\n\nThe exit code is 1 when something is broken; a warning alone leaves it 0.\nWhere no daemon answers it says so, and looks at what keeps one from starting."
)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(data: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let checks = checks(data).await?;
    if arguments.json {
        print_json(&checks)?;
    } else {
        show::page(&page(&checks))?;
    }
    verdict(&checks)
}

/// What the daemon finds; where none answers, what can be seen without it.
async fn checks(data: &Path) -> anyhow::Result<Vec<Check>> {
    let unanswered = match face(data) {
        Ok(Face { client }) => match client.get("/v1/doctor").await {
            Err(error @ Error::NoDaemon { .. }) => error.to_string(),
            answer => return Ok(answer?),
        },
        // Where there is no directory there is nothing to look at.
        Err(error) if !data.is_dir() => return Err(error),
        Err(error) => error.to_string(),
    };
    Ok(without_daemon(data, &unanswered))
}

fn page(checks: &[Check]) -> String {
    let row = |check: &Check| vec![check.state.clone(), check.what.clone(), show::line(&check.found)];
    show::table(&checks.iter().map(row).collect::<Vec<_>>())
}

fn verdict(checks: &[Check]) -> anyhow::Result<()> {
    let broken = checks.iter().filter(|check| check.state == "broken").count();
    anyhow::ensure!(broken == 0, "{broken} of {} checks found something broken; each says what to do", checks.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: &str, what: &str, found: &str) -> Check {
        Check { state: state.to_owned(), what: what.to_owned(), found: found.to_owned() }
    }

    #[test]
    fn every_check_is_a_line() {
        let checks = [check("ok", "fsync", "0 ms"), check("warning", "peers", "no other\npartner")];
        assert_eq!(page(&checks), "ok       fsync  0 ms\nwarning  peers  no other\u{FFFD}partner\n");
    }

    #[test]
    fn something_broken_fails_and_a_warning_does_not() {
        assert!(verdict(&[check("ok", "a", ""), check("warning", "b", "")]).is_ok());
        let said = verdict(&[check("broken", "a", ""), check("ok", "b", "")]).unwrap_err().to_string();
        assert!(said.starts_with("1 of 2 checks"), "{said}");
    }
}
