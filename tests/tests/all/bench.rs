//! The benchmarks run; how fast is not asked here.

use std::process::{Command, Stdio};

#[test]
fn every_workload_of_the_benchmarks_runs_and_says_whether_its_gates_hold() -> anyhow::Result<()> {
    let json = tempfile::NamedTempFile::new()?;
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--smoke", "--json"]).arg(json.path()).stdin(Stdio::null());
    let ran = bench.output()?;
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    let last = out.lines().last().unwrap_or_default();
    assert!(last.starts_with("gates hold: ") && last.ends_with(" of 4"), "{out}{err}");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(json.path())?)?;
    for gate in written["gates"].as_array().unwrap() {
        assert!(gate["measured"].as_f64().is_some_and(|measured| measured > 0.0), "{gate}");
    }
    assert_eq!(written["rounds"].as_array().unwrap().len(), 1);
    Ok(())
}
