//! W8: a large attachment, from one node's disk to another's.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use cwn_node::api::types::{EntryDetail, NewEntry, Published, Status, Uploaded};
use cwn_tests::world::World;
use tokio::time::sleep;

use crate::{
    floor, machine,
    workload::{FLOOR, Gate, Limit, Numbers, OURS, Workload},
};

const AUTHOR: &str = "author";
const READER: &str = "reader";
const CIRCLE: &str = "bench";
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(600);

/// W8.
#[derive(Debug)]
pub(crate) struct Attachment {
    world: World,
    file: PathBuf,
    bytes: u64,
    _dir: tempfile::TempDir,
}

impl Attachment {
    pub(crate) async fn set_up(bytes: u64) -> anyhow::Result<Self> {
        const CHUNK: usize = 1 << 20;
        let mut world = World::new(&[AUTHOR, READER])?;
        world.start_all().await?;
        world.connected(READER, 1).await?;
        world.found(AUTHOR, CIRCLE, &[READER]).await?;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("attachment");
        let mut file = File::create(&path)?;
        let chunk = floor::noise(CHUNK);
        for _ in 0..bytes / CHUNK as u64 {
            file.write_all(&chunk)?;
        }
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        Ok(Self { world, file: path, bytes, _dir: dir })
    }

    /// The most memory that either node had resident at a time, in bytes.
    async fn peak_bytes(&self) -> anyhow::Result<u64> {
        let mut peak = 0;
        for name in [AUTHOR, READER] {
            let status: Status = self.world.client(name).get("/v1/status").await?;
            peak = peak.max(machine::memory_bytes(status.pid, "VmHWM")?);
        }
        Ok(peak)
    }
}

const SEALED: &str = "taken in and sealed, MB/s";
const FETCHED: &str = "fetched by the other, MB/s";
const PEAK: &str = "most memory of either node, MiB";

impl Workload for Attachment {
    const CODE: &'static str = "W8";

    fn about(&self) -> String {
        format!("an attachment of {} MiB", self.bytes >> 20)
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let mb = self.bytes as f64 / 1e6;
        let dir = self.file.parent().map(PathBuf::from).unwrap_or_default();
        let plain = floor::copy(&dir, self.bytes)?;
        numbers.set(FLOOR, FETCHED, mb / plain);
        let (author, reader) = (self.world.client(AUTHOR), self.world.client(READER));
        let start = Instant::now();
        let path = format!("/v1/attachments?circle={CIRCLE}&name=attachment");
        let uploaded: Uploaded = author.upload(&path, &self.file, |_| {}).await?;
        numbers.set(OURS, SEALED, mb / start.elapsed().as_secs_f64());
        let entry = NewEntry {
            circle: CIRCLE.to_owned(),
            tlp: "GREEN".to_owned(),
            pap: None,
            title: "large".to_owned(),
            body: String::new(),
            references: Vec::new(),
            to: Vec::new(),
            attachments: vec![uploaded.id],
            wait_seconds: Some(60),
            expires_at: None,
        };
        let start = Instant::now();
        let published: Published = author.post("/v1/entries", &entry).await?;
        loop {
            let detail = reader.get::<EntryDetail>(&format!("/v1/entries/{}", published.reference)).await;
            // Until the entry comes it is not found.
            if detail.is_ok_and(|detail| detail.attached.iter().all(|one| one.chunks_here == one.chunks)) {
                break;
            }
            anyhow::ensure!(start.elapsed() < PATIENCE, "the attachment never came");
            sleep(LOOK_EVERY).await;
        }
        numbers.set(OURS, FETCHED, mb / start.elapsed().as_secs_f64());
        numbers.set(OURS, PEAK, self.peak_bytes().await? as f64 / f64::from(1 << 20));
        // Else a run leaves tens of GiB for its rounds.
        for name in [AUTHOR, READER] {
            for circle in fs::read_dir(self.world.node(name).data.join("chunks"))? {
                fs::remove_dir_all(circle?.path())?;
            }
        }
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let of_plain = medians.ratio((OURS, FETCHED), (FLOOR, FETCHED));
        vec![
            Gate::new("fetched, of a plain copy + fdatasync", of_plain, Limit::AtLeast(0.5)),
            Gate::new(PEAK, medians.get(OURS, PEAK), Limit::AtMost(64.0)),
        ]
    }
}
