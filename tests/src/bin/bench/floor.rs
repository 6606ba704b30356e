//! What no protocol can beat, and what else the machine does.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::Context;

/// The receiver makes groups of this size durable.
const GROUP_BYTES: usize = 4 << 20;
const WRITE_BYTES: usize = 256 << 10;

/// A 1 kB fdatasync that takes so many times as long as at best: the disk is busy with something else.
const DISTURBED: f64 = 4.0;
const PROBES: usize = 5;

/// The disk as it was seen so far.
#[derive(Debug)]
pub(crate) struct Machine {
    probe: PathBuf,
    best_ms: f64,
}

impl Machine {
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Self> {
        let mut machine = Self { probe: dir.join("probe"), best_ms: f64::MAX };
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
        self.best_ms = self.best_ms.min(now_ms);
        Ok(now_ms)
    }

    pub(crate) fn was_disturbed(&self, fdatasync_ms: f64) -> bool {
        fdatasync_ms > DISTURBED * self.best_ms
    }
}

/// How many threads wanted to run, over the last minute.
pub(crate) fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("/proc/loadavg is empty")?.parse()?)
}

/// Plain TCP over loopback, append, and fdatasync of every group; in seconds.
pub(crate) fn copy(dir: &Path, bytes: u64) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let chunk: Vec<u8> = (0..WRITE_BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = dir.join("plain");
    let mut file = File::create(&path)?;
    let start = Instant::now();
    let sender = thread::spawn(move || -> std::io::Result<()> {
        let mut socket = TcpStream::connect(address)?;
        let mut left = bytes;
        while left > 0 {
            let now = left.min(WRITE_BYTES as u64);
            socket.write_all(&chunk[..now as usize])?;
            left -= now;
        }
        Ok(())
    });
    let (mut socket, _) = listener.accept()?;
    let mut group = Vec::with_capacity(GROUP_BYTES);
    loop {
        group.clear();
        (&mut socket).take(GROUP_BYTES as u64).read_to_end(&mut group)?;
        if group.is_empty() {
            break;
        }
        file.write_all(&group)?;
        file.sync_data()?;
    }
    let took = start.elapsed().as_secs_f64();
    sender.join().map_err(|_panicked| anyhow::anyhow!("the sender of the plain copy panicked"))??;
    anyhow::ensure!(file.metadata()?.len() == bytes, "the plain copy is not whole");
    fs::remove_file(path)?;
    Ok(took)
}
