//! What work took: time, bytes over loopback, memory, processor.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
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

/// What it took to catch up, in seconds and bytes, and to find out again and again that there is nothing more.
pub(crate) fn synced((seconds, bytes): (f64, f64), compared_seconds: Vec<f64>) -> Numbers {
    Numbers::from([
        ("caught_up_seconds", seconds),
        ("caught_up_bytes", bytes),
        ("compared_ms", median(compared_seconds) * 1e3),
    ])
}

/// The same where what went over the wire was nothing else.
pub(crate) fn synced_and_counted(caught_up: (f64, f64), compared: Vec<(f64, f64)>) -> Numbers {
    let (seconds, bytes) = compared.into_iter().unzip();
    let mut numbers = synced(caught_up, seconds);
    numbers.insert("compared_bytes", median(bytes));
    numbers
}

/// Of sorted numbers.
pub(crate) fn percentile(sorted: &[f64], of_hundred: usize) -> f64 {
    let place = sorted.len().saturating_sub(1) * of_hundred / 100;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    percentile(&numbers, 50)
}

/// A port that nobody listens on, for servers that take none of the system's choice.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where those that connect find the one that is watched.
const WHERE: &str = "CWN_RIVALS_WHERE";

/// This program again, to connect so often to the one that is there; it ends with the one that started it.
pub(crate) fn idlers(rival: &str, connections: usize, there: &str) -> anyhow::Result<tokio::process::Command> {
    let mut idlers = tokio::process::Command::new(std::env::current_exe()?);
    idlers.args([rival, "--dir", "/", "idlers"]).arg(connections.to_string()).env(WHERE, there);
    idlers.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(idlers)
}

/// What [`idlers`] was told.
pub(crate) fn watched_one() -> anyhow::Result<String> {
    Ok(std::env::var(WHERE)?)
}
