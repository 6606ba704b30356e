//! The machine: what its disk does at best, what else it is at, and what processes take of it.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::Context;

/// A 1 kB fdatasync that takes so many times as long as it mostly does: the disk is busy with something else.
const DISTURBED: f64 = 4.0;
const PROBES: usize = 5;

/// The disk as it was seen so far.
#[derive(Debug)]
pub(crate) struct Machine {
    probe: PathBuf,
    seen_ms: Vec<f64>,
}

impl Machine {
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Self> {
        let mut machine = Self { probe: dir.join("probe"), seen_ms: Vec::new() };
        machine.fdatasync_ms()?;
        Ok(machine)
    }

    /// How long appending 1 kB and making it durable takes now.
    pub(crate) fn fdatasync_ms(&mut self) -> anyhow::Result<f64> {
        let mut file = File::create(&self.probe)?;
        let mut times = Vec::new();
        for _ in 0..PROBES {
            let start = Instant::now();
            file.write_all(&[1; 1_024])?;
            file.sync_data()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let now_ms = crate::report::median(times);
        self.seen_ms.push(now_ms);
        Ok(now_ms)
    }

    pub(crate) fn was_disturbed(&self, fdatasync_ms: f64) -> bool {
        fdatasync_ms > DISTURBED * crate::report::median(self.seen_ms.clone())
    }
}

/// A process of the benchmark's own; it is killed when this goes.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many threads wanted to run, over the last minute.
pub(crate) fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("/proc/loadavg is empty")?.parse()?)
}

/// Of a process: one of the sizes that the system tells, such as `VmRSS`, in bytes.
pub(crate) fn memory_bytes(pid: u32, what: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.strip_prefix(what).is_some_and(|rest| rest.starts_with(':')));
    let line = line.with_context(|| format!("the system tells no {what}"))?;
    let kib: u64 = line.split_whitespace().nth(1).with_context(|| format!("{what} has no number"))?.parse()?;
    Ok(kib << 10)
}

/// The time that a process has spent on processors, from all its threads.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("/proc/pid/stat names no program")?;
    // proc_pid_stat(5): utime and stime are fields 14 and 15, the first after the name is 3.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// What a directory and all in it take on the disk, in bytes.
pub(crate) fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    // stat(2): blocks are of 512 bytes, whatever the file system's are.
    let mut bytes = fs::metadata(dir)?.blocks() * 512;
    for file in fs::read_dir(dir)? {
        let file = file?;
        bytes += if file.file_type()?.is_dir() { disk_bytes(&file.path())? } else { file.metadata()?.blocks() * 512 };
    }
    Ok(bytes)
}

/// All that this machine has sent itself over loopback so far, with the headers of IP and TCP.
pub(crate) fn loopback_bytes() -> anyhow::Result<u64> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let line =
        devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("there is no loopback")?;
    Ok(line.split_whitespace().next().context("loopback has no numbers")?.parse()?)
}
