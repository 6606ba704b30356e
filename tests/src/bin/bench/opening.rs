//! W6: a node's store opens after kill -9, and again with its index lost.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::Context;
use cwn_engine::store::Write;
use cwn_node::store::{Progress, Store};
use tempfile::TempDir;

use crate::{
    author::Author,
    machine::Killed,
    workload::{Among, Gate, Limit, Numbers, OURS, Workload},
};

/// What the process appends that is killed.
const LAST: u64 = 1_000;
/// What is appended once it is open again.
const GROUP: u64 = 1_024;
const GROUPS: u64 = 10;
/// What it prints when that is durable.
const DURABLE: &str = "durable";

/// What the process does that is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The store.
    dir: PathBuf,
}

/// Appends, says so, and waits to be killed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut store, _) = Store::open(&arguments.dir, &mut |_| {})?;
    Author::new().fill(&mut store, LAST)?;
    println!("{DURABLE}");
    loop {
        std::thread::park();
    }
}

/// W6.
#[derive(Debug)]
pub(crate) struct Opening {
    dir: TempDir,
    /// As it was filled; each round adds some.
    entries: u64,
    there: u64,
}

impl Opening {
    pub(crate) fn set_up(entries: u64) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (mut store, _) = Store::open(dir.path(), &mut |_| {})?;
        Author::new().fill(&mut store, entries)?;
        store.close()?;
        Ok(Self { dir, entries, there: entries })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Opens it, and says in seconds how long that took, and how often it told how far it is.
    fn open(&self) -> anyhow::Result<(f64, u64)> {
        let mut told = 0;
        let start = Instant::now();
        let (store, opened) = Store::open(self.path(), &mut |_: Progress| told += 1)?;
        let seconds = start.elapsed().as_secs_f64();
        anyhow::ensure!(opened.damages.is_empty(), "a store that was killed is damaged: {:?}", opened.damages);
        store.close()?;
        Ok((seconds, told))
    }

    /// Appends in large groups; gives how many a second took.
    fn append(&mut self) -> anyhow::Result<f64> {
        let (mut store, _) = Store::open(self.path(), &mut |_| {})?;
        let mut author = Author::new();
        let groups: Vec<Vec<Write>> =
            (0..GROUPS).map(|_| (0..GROUP).map(|_| Write::Entry(author.write())).collect()).collect();
        let start = Instant::now();
        for group in &groups {
            store.append(group)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        store.close()?;
        self.there += GROUPS * GROUP;
        Ok((GROUPS * GROUP) as f64 / seconds)
    }
}

const AFTER_KILL: &str = "opened after kill -9, seconds";
pub(crate) const REBUILT: &str = "index built anew, entries/s";
pub(crate) const APPENDED: &str = "appended where so many are, entries/s";
const TOLD: &str = "progress told while it was built, times";

impl Workload for Opening {
    const CODE: &'static str = "W6";

    fn about(&self) -> String {
        format!("opening a store of {} entries", self.entries)
    }

    fn among(&self) -> Option<Among> {
        Some(Among::Entries(self.entries))
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let mut writing = Command::new(std::env::current_exe()?);
        writing.arg("writer").arg(self.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut writing = Killed(writing.spawn()?);
        let mut said = String::new();
        BufReader::new(writing.0.stdout.take().context("its output is piped")?).read_line(&mut said)?;
        anyhow::ensure!(said.trim_end() == DURABLE, "the writer ended before it was killed");
        drop(writing);
        let (seconds, _) = self.open()?;
        numbers.set(OURS, AFTER_KILL, seconds);
        fs::remove_dir_all(self.path().join("index"))?;
        let (seconds, told) = self.open()?;
        self.there += LAST;
        numbers.set(OURS, REBUILT, self.there as f64 / seconds);
        numbers.set(OURS, APPENDED, self.append()?);
        numbers.set(OURS, TOLD, told as f64);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        vec![
            Gate::new(AFTER_KILL, medians.get(OURS, AFTER_KILL), Limit::AtMost(0.3)),
            Gate::new(REBUILT, medians.get(OURS, REBUILT), Limit::AtLeast(100_000.0)),
            Gate::new(TOLD, medians.get(OURS, TOLD), Limit::AtLeast(1.0)),
        ]
    }
}
