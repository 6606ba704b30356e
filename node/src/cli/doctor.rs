//! `cwn doctor`

use clap::Args;

use super::{Face, print_json, show};
use crate::api::types::Check;

/// Arguments of `cwn doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cwn doctor\n\nThe exit code is 1 when something is broken; a warning alone leaves it 0."
)]
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
        show::page(&page(&checks))?;
    }
    verdict(&checks)
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
