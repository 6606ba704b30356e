//! W5: entries made durable in a node's store, one or many with one fsync, beside a plain append of the same bytes.

use std::{
    fs::{self, File},
    time::Instant,
};

use cwn_engine::store::Write;
use cwn_node::store::Store;
use tempfile::TempDir;

use crate::{
    author::{Author, PAYLOAD_BYTES},
    floor, machine,
    workload::{FLOOR, Gate, Limit, Numbers, OURS, Workload},
};

/// Both take turns so often within a round: a disk is slower at one time than at another.
const TURNS: usize = 10;

/// How many groups of how many entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) entries: usize,
    /// A multiple of [`TURNS`].
    pub(crate) groups: usize,
}

/// W5.
#[derive(Debug)]
pub(crate) struct Append {
    dir: TempDir,
    batches: Vec<Batch>,
}

impl Append {
    pub(crate) fn new(batches: Vec<Batch>) -> anyhow::Result<Self> {
        assert!(batches.iter().all(|batch| batch.groups.is_multiple_of(TURNS)), "every turn has as much to do");
        Ok(Self { dir: tempfile::tempdir()?, batches })
    }
}

fn speed(batch: Batch) -> String {
    format!("{} at once, entries/s", batch.entries)
}

const DISK: &str = "disk, bytes per byte of headers and payloads";

impl Workload for Append {
    const CODE: &'static str = "W5";

    fn about(&self) -> String {
        format!("durable append of entries of {PAYLOAD_BYTES} bytes")
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let ours = self.dir.path().join("ours");
        let plain = self.dir.path().join("plain");
        let (mut store, _) = Store::open(&ours, &mut |_| {})?;
        let mut file = File::create(&plain)?;
        let mut author = Author::new();
        let mut kept: u64 = 0;
        for batch in &self.batches {
            let (mut ours_seconds, mut plain_seconds) = (0.0, 0.0);
            for _ in 0..TURNS {
                let (mut writes, mut plain): (Vec<Vec<Write>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
                for _ in 0..batch.groups / TURNS {
                    let (mut group, mut bytes) = (Vec::new(), Vec::new());
                    for _ in 0..batch.entries {
                        let entry = author.write();
                        bytes.extend_from_slice(&entry.bytes().header);
                        bytes.extend_from_slice(&floor::noise(entry.bytes().payload.len()));
                        group.push(Write::Entry(entry));
                    }
                    kept += bytes.len() as u64;
                    writes.push(group);
                    plain.push(bytes);
                }
                plain_seconds += floor::append(&mut file, &plain)?;
                let start = Instant::now();
                for group in &writes {
                    store.append(group)?;
                }
                ours_seconds += start.elapsed().as_secs_f64();
            }
            let entries = (batch.entries * batch.groups) as f64;
            numbers.set(OURS, &speed(*batch), entries / ours_seconds);
            numbers.set(FLOOR, &speed(*batch), entries / plain_seconds);
        }
        store.close()?;
        numbers.set(OURS, DISK, machine::disk_bytes(&ours)? as f64 / kept as f64);
        fs::remove_dir_all(&ours)?;
        fs::remove_file(&plain)?;
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let of_plain = |batch: &Batch| medians.ratio((OURS, &speed(*batch)), (FLOOR, &speed(*batch)));
        let mut gates: Vec<Gate> = Vec::new();
        for batch in &self.batches {
            let gate = |least| {
                Gate::new(
                    format!("appended {} at once, of plain", batch.entries),
                    of_plain(batch),
                    Limit::AtLeast(least),
                )
            };
            match batch.entries {
                1 => gates.push(gate(0.8)),
                1_024 => gates.push(gate(0.5).stretch(Limit::AtLeast(0.75))),
                _ => {}
            }
        }
        gates.push(Gate::new(DISK, medians.get(OURS, DISK), Limit::AtMost(1.05)));
        gates
    }
}
