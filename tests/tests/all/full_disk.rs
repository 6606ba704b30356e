//! A node whose disk is full: it is read-only, says so on every face, and has everything once there is room.
//!
//! The disk is a small one of the test's own; where none can be mounted this is skipped, and `tests/run` says so.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use cwn_node::{
    api::{
        client::{self, Client},
        types::{Check, EntryDetail, EntrySummary, Problem, Status},
    },
    clock,
    keystore::Keys,
};
use cwn_tests::{
    disk::SmallDisk,
    shell::{Said, say},
    skip::{NotPermitted, skipped},
    world::World,
};

/// Room for a store that has just begun, several times over.
const DISK_BYTES: u64 = 32 << 20;
/// What fits into the last pages of files that are there already is less than so many entries.
const LAST_FEW: usize = 200;
/// Longer than a start takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two partners in a circle, one of them on the small disk.
struct Story {
    world: World,
    /// What was acknowledged to anybody.
    titles: Vec<String>,
    // Behind the world, whose daemons write there.
    disk: SmallDisk,
}

const FULL: &str = "z-cert";
const OTHER: &str = "ncsc";

impl Story {
    async fn begin(disk: SmallDisk) -> anyhow::Result<Self> {
        let mut world = World::new(&[OTHER])?;
        let keys = Keys::generate();
        let membership = world.authority.certify(&keys, FULL, clock::now())?;
        world.add_on(disk.path(), FULL, &keys, &membership)?;
        world.start_all().await?;
        world.connected(FULL, 1).await?;
        world.found(OTHER, "zorg", &[FULL]).await?;
        let mut story = Self { world, titles: Vec::new(), disk };
        for number in 0..3 {
            story.publish(OTHER, &format!("of the other {number}")).await?;
            story.publish(FULL, &format!("with room {number}")).await?;
        }
        story.everybody_has_everything().await?;
        Ok(story)
    }

    async fn publish(&mut self, name: &str, title: &str) -> anyhow::Result<()> {
        self.world.publish(name, "zorg", title).await?;
        self.titles.push(title.to_owned());
        Ok(())
    }

    /// Fills the disk with what is nobody's. The daemon's log lies on it too, and can take no line more.
    fn fill_disk(&self) -> anyhow::Result<()> {
        self.disk.fill(&self.world.node(FULL).data.join("daemon.log"))
    }

    /// Publishes on the disk that is being filled until that is refused, and says with what.
    async fn fill(&mut self) -> anyhow::Result<Problem> {
        for number in 0..LAST_FEW {
            self.fill_disk()?;
            let Err(error) = self.publish(FULL, &format!("into the last page {number}")).await else { continue };
            return match error.downcast::<client::Error>()? {
                client::Error::Refused(problem) => Ok(problem),
                error => Err(error.into()),
            };
        }
        anyhow::bail!("a full disk takes everything")
    }

    /// What the program on the command line says of the node on the full disk.
    fn says(&self, command: &str) -> anyhow::Result<Said> {
        let data = &self.world.node(FULL).data;
        say(Path::new("/"), &format!("cwn --data {} {command}", data.display()))
    }

    /// Starts the daemon on the full disk, and says what it ends with.
    async fn starts_in_vain(&self) -> anyhow::Result<String> {
        self.fill_disk()?;
        let mut daemon = self.world.daemon(FULL)?.stderr(Stdio::piped()).spawn()?;
        let given_up = Instant::now() + PATIENCE;
        while daemon.try_wait()?.is_none() && Instant::now() < given_up {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        daemon.kill()?;
        let ended = daemon.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        anyhow::ensure!(ended.status.code() == Some(1), "{:?} {said}", ended.status);
        Ok(said)
    }

    async fn peers(&self, name: &str) -> anyhow::Result<usize> {
        Ok(self.world.client(name).get::<Status>("/v1/status").await?.peers)
    }

    async fn everybody_has_everything(&self) -> anyhow::Result<()> {
        let titles: Vec<&str> = self.titles.iter().map(String::as_str).collect();
        for name in [OTHER, FULL] {
            self.world.expect_titles(name, "zorg", &titles).await?;
        }
        Ok(())
    }

    /// Everything that was acknowledged, and nothing else, can be read where the disk is full.
    async fn it_still_reads(&self) -> anyhow::Result<()> {
        let listed = self.world.titles(FULL, "zorg").await?;
        let mut expected = self.titles.clone();
        expected.sort();
        anyhow::ensure!(listed == expected, "it lists {listed:?}, and {expected:?} was acknowledged");
        let entries: Vec<EntrySummary> = self.world.client(FULL).get("/v1/entries?limit=1000&circle=zorg").await?;
        for entry in entries {
            let read: EntryDetail = self.world.read(FULL, &entry.reference).await?;
            let body = entry.title.map(|title| format!("The body of {title}."));
            anyhow::ensure!(read.body == body, "{:?} where {body:?} was written", read.body);
        }
        Ok(())
    }
}

/// Names the disk, says what is the matter with it, and what to do.
fn says_why(text: &str) -> bool {
    let full = text.contains("the disk is full: no space left for /") && text.contains("/segments/");
    full && text.contains("free some space and start again")
}

fn disk() -> anyhow::Result<Option<SmallDisk>> {
    match SmallDisk::of(DISK_BYTES) {
        Ok(disk) => Ok(Some(disk)),
        Err(why) => skipped("a daemon on a full disk", &why.downcast::<NotPermitted>()?).map(|()| None),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_node_whose_disk_is_full_is_read_only_and_says_so_on_every_face() -> anyhow::Result<()> {
    let Some(disk) = disk()? else { return Ok(()) };
    let mut story = Story::begin(disk).await?;
    let refused = story.fill().await?;
    assert!(refused.code == "read_only" && says_why(&refused.error), "{refused:?}");

    let client: Client = story.world.client(FULL);
    let status: Status = client.get("/v1/status").await?;
    let warned = status.warnings.iter().any(|warning| warning.contains("read-only") && says_why(warning));
    assert!(status.read_only && warned, "{:?}", status.warnings);
    let checks: Vec<Check> = client.get("/v1/doctor").await?;
    let store = checks.iter().find(|check| check.what == "store").unwrap();
    assert!(store.state == "broken" && says_why(&store.found), "{store:?}");
    let said = story.says("status")?;
    assert!(said.out.contains("READ-ONLY") && says_why(&said.out) && said.code == Some(0), "{said:?}");
    let said = story.says("doctor")?;
    assert!(said.out.contains("read-only") && says_why(&said.out) && said.code == Some(1), "{said:?}");
    let said = story.says("publish zorg --tlp GREEN --title more --yes </dev/null")?;
    assert!(said.err.contains("read-only") && says_why(&said.err) && said.code == Some(1), "{said:?}");
    let said = story.says("list zorg")?;
    assert!(story.titles.iter().all(|title| said.out.contains(title)) && said.code == Some(0), "{said:?}");
    story.it_still_reads().await?;

    // It has left the network, and says so: of nobody whom it no longer hears does it say "in sync".
    let alone = async || {
        let status: Status = client.get("/v1/status").await?;
        let circle = status.circles.iter().find(|circle| circle.name == "zorg").unwrap();
        Ok(status.peers == 0 && status.listening.is_empty() && circle.peers == 0 && circle.unreachable == [OTHER])
    };
    story.world.until(FULL, "it is alone", alone).await?;
    story.world.until(OTHER, "it is alone", async || Ok(story.peers(OTHER).await? == 0)).await?;
    assert!(story.says("status")?.out.contains("nobody of it is connected"), "{}", story.says("status")?.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_once_a_full_disk_has_room_nothing_acknowledged_is_lost_and_all_goes_on() -> anyhow::Result<()> {
    let Some(disk) = disk()? else { return Ok(()) };
    let mut story = Story::begin(disk).await?;
    story.fill().await?;
    story.publish(OTHER, "while it was full").await?;

    story.world.stop(FULL)?;
    story.disk.make_room()?;
    story.world.start(FULL).await?;
    story.publish(FULL, "with room again").await?;
    story.everybody_has_everything().await?;

    // It fills by what others write, and nobody is at the keyboard; and it is killed instead of stopped.
    for number in 0..LAST_FEW {
        story.fill_disk()?;
        story.publish(OTHER, &format!("until it is full again {number}")).await?;
        if story.world.client(FULL).get::<Status>("/v1/status").await?.read_only {
            break;
        }
    }
    let read_only = async || Ok(story.world.client(FULL).get::<Status>("/v1/status").await?.read_only);
    story.world.until(FULL, "it is read-only", read_only).await?;
    story.world.kill(FULL)?;
    story.disk.make_room()?;
    story.world.start(FULL).await?;
    story.publish(FULL, "with room once more").await?;
    story.everybody_has_everything().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_started_on_a_full_disk_says_what_to_do() -> anyhow::Result<()> {
    let Some(disk) = disk()? else { return Ok(()) };
    let mut story = Story::begin(disk).await?;
    story.fill().await?;
    story.world.kill(FULL)?;
    let index = story.world.node(FULL).data.join("index");
    for is_there in [true, false] {
        if !is_there {
            std::fs::remove_dir_all(&index)?;
        }
        let said = story.starts_in_vain().await?;
        let says_why = said.contains("No space left on device") && said.contains("free some space on the disk of /");
        assert!(says_why && (index.exists() || !is_there), "{said}");
    }
    story.disk.make_room()?;
    story.world.start(FULL).await?;
    story.publish(FULL, "with room again").await?;
    story.everybody_has_everything().await
}
