//! What work took: time, bytes over loopback, memory, processor.

use std::{
    collections::BTreeMap,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;

/// What was measured, with its unit last in the name.
pub(crate) type Numbers = BTreeMap<&'static str, f64>;

/// Of a process: the memory that it has resident, in MiB.
fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without memory")?;
    let kib: f64 = line.split_whitespace().next().context("VmRSS has no number")?.parse()?;
    Ok(kib / 1_024.0)
}

/// Of a process: the seconds that it spent on processors.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/pid/stat names no program")?;
    // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of 10 ms.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// All that this machine has sent itself over loopback so far, with the headers of IP and TCP or UDP.
pub(crate) fn loopback_bytes() -> anyhow::Result<f64> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let line =
        devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("there is no loopback")?;
    Ok(line.split_whitespace().next().context("loopback has no numbers")?.parse()?)
}

/// Time and bytes since it started.
#[derive(Debug)]
pub(crate) struct Meter {
    start: Instant,
    bytes: f64,
}

impl Meter {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Ok(Self { bytes: loopback_bytes()?, start: Instant::now() })
    }

    /// Seconds and bytes.
    pub(crate) fn read(&self) -> anyhow::Result<(f64, f64)> {
        let seconds = self.start.elapsed().as_secs_f64();
        Ok((seconds, loopback_bytes()? - self.bytes))
    }
}

/// Looks at a process that has nothing to do.
pub(crate) async fn watch(pid: u32, watched: Duration) -> anyhow::Result<Numbers> {
    let (meter, before) = (Meter::start()?, cpu_seconds(pid)?);
    tokio::time::sleep(watched).await;
    let (seconds, bytes) = meter.read()?;
    Ok(Numbers::from([
        ("resident_mib", resident_mib(pid)?),
        ("cpu_percent", (cpu_seconds(pid)? - before) / seconds * 100.0),
        ("bytes_per_second", bytes / seconds),
    ]))
}

/// This program again, to connect so often; it ends with the one that started it.
pub(crate) fn idlers(rival: &str, connections: usize) -> anyhow::Result<tokio::process::Command> {
    let mut idlers = tokio::process::Command::new(std::env::current_exe()?);
    idlers.args([rival, "--dir", "/", "idlers"]).arg(connections.to_string());
    idlers.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(idlers)
}
