//! The benchmarks run; how fast is not asked here.

use std::process::{Command, Stdio};

/// Whose programs only the larger forms build.
const OTHERS: [&str; 3] = ["iroh-docs", "git", "gossipsub"];

#[test]
fn every_workload_of_the_benchmarks_runs_and_says_whether_its_gates_hold() -> anyhow::Result<()> {
    let json = tempfile::NamedTempFile::new()?;
    let plots = tempfile::tempdir()?;
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--smoke", "--json"]).arg(json.path()).arg("--plots").arg(plots.path()).stdin(Stdio::null());
    let ran = bench.output()?;
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(json.path())?)?;
    let workloads = written.as_array().unwrap();
    let codes: Vec<&str> = workloads.iter().filter_map(|workload| workload["workload"].as_str()).collect();
    assert_eq!(codes, ["W1", "W2", "W1", "W1", "W3", "W4", "W5", "W6", "W6", "W7", "W8", "W9"], "{out}{err}");
    let mut gates = 0;
    for workload in workloads {
        assert_eq!(workload["rounds"].as_array().unwrap().len(), 1);
        for gate in workload["gates"].as_array().unwrap() {
            let name = gate["name"].as_str().unwrap();
            // Nobody else takes part in this form of it.
            if OTHERS.iter().any(|other| name.contains(other)) {
                assert!(gate["measured"].is_null(), "{gate}");
                continue;
            }
            assert!(gate["measured"].as_f64().is_some_and(|measured| measured >= 0.0), "{gate}");
            gates += 1;
        }
    }
    let drawn = std::fs::read_dir(plots.path())?.count();
    assert_eq!(drawn, workloads.len());
    let last = out.lines().last().unwrap_or_default();
    assert!(last.starts_with("gates hold: ") && last.ends_with(&format!(" of {gates}")), "{out}{err}");
    Ok(())
}

#[test]
fn a_workload_that_there_is_not_is_named_with_those_that_there_are() -> anyhow::Result<()> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    let ran = bench.args(["--smoke", "--only", "W12"]).stdin(Stdio::null()).output()?;
    assert!(!ran.status.success());
    assert!(String::from_utf8_lossy(&ran.stderr).contains("W1 to W9"));
    Ok(())
}
