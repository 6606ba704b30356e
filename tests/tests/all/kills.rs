//! kill -9 at random moments: what was acknowledged is there afterwards, here and at the others.
//!
//! `tests/crash --kills N` runs it with more kills.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cwn_node::api::{
    client::Client,
    types::{NewEntry, Published, Status},
};
use cwn_tests::world::World;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Entries to catch up with: several batches of a run.
const CATCH_UP: u64 = 3_200;
const WRITERS: u64 = 32;
/// Longer than a step takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a list may take to follow what is stored.
const FOLLOWS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A recovery may be over in a few milliseconds.
const WATCH_EVERY: Duration = Duration::from_micros(100);

/// What a daemon logs when it begins to recover its store, and when it has done so.
const RECOVERS: &str = "opening the store";
const RECOVERED: &str = "the store is open";

fn kills() -> u64 {
    std::env::var("CWN_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn seed() -> u64 {
    std::env::var("CWN_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn entry(number: u64) -> NewEntry {
    NewEntry {
        circle: "zorg".to_owned(),
        tlp: "GREEN".to_owned(),
        pap: None,
        title: format!("entry {number}"),
        body: "x".repeat(1_000),
        references: Vec::new(),
        to: Vec::new(),
        attachments: Vec::new(),
        wait_seconds: None,
        expires_at: None,
    }
}

/// Publishes until it is told to stop or the node is gone; what was acknowledged is written down.
async fn publish(client: Client, acknowledged: Arc<Mutex<Vec<String>>>, stop: Arc<AtomicBool>, from: u64) {
    let mut number = from;
    while !stop.load(Ordering::Relaxed) {
        let published: Result<Published, _> = client.post("/v1/entries", &entry(number)).await;
        let Ok(published) = published else { return };
        acknowledged.lock().unwrap().push(published.hash);
        number += 1;
    }
}

/// So many times the kills that were asked for at most, until every kind of moment was hit.
const MORE: u64 = 5;

/// How many of these a node does not have. What it lists follows what it stores, so it is given time to follow.
async fn lost(world: &World, name: &str, acknowledged: &[String]) -> usize {
    let mut missing: Vec<&String> = acknowledged.iter().collect();
    for _ in 0..FOLLOWS.as_millis() / LOOK_EVERY.as_millis() {
        let mut still = Vec::new();
        for hash in missing {
            if world.read(name, hash).await.is_err() {
                still.push(hash);
            }
        }
        missing = still;
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    missing.len()
}

/// What a node was doing when it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Publishing, or taking in what was published elsewhere.
    Writing,
    /// A segment had just reached its end and the next was being started.
    Rotating,
    /// Fetching what was written while it was down.
    CatchingUp,
    /// Building its index anew.
    Rebuilding,
    /// Opening its store after the kill before: cutting the torn tail, replaying. What comes before that, reading the
    /// configuration and opening the keys, is no recovery, and nothing is killed in it.
    Recovering,
    /// Behind that, before anybody asked it anything: a kill meant for its recovery that came late.
    Recovered,
}

use Phase::{CatchingUp, Rebuilding, Recovered, Recovering, Rotating, Writing};

/// Kills nodes, and knows what was acknowledged.
struct Killer {
    world: World,
    rng: ChaCha8Rng,
    acknowledged: Arc<Mutex<Vec<String>>>,
    kills: BTreeMap<Phase, u64>,
    /// About how long a recovery takes, or building the index anew. Learnt from the kills: one that came too late makes
    /// it shorter, one in time longer.
    lasts: BTreeMap<Phase, Duration>,
    rounds: u64,
    next_entry: u64,
}

/// Writers at work, until they are told to stop or their node is gone.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    async fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }
}

impl Killer {
    async fn new(seed: u64) -> anyhow::Result<Self> {
        let mut world = World::new(&["ncsc", "z-cert"])?;
        for name in ["ncsc", "z-cert"] {
            // A segment every forty entries, and an index of which much must be replayed.
            world.configure(name, |config| {
                (config.store.segment_bytes, config.store.checkpoint_bytes) = (64 << 10, 512 << 10);
            })?;
        }
        world.start_all().await?;
        world.connected("z-cert", 1).await?;
        world.found("ncsc", "zorg", &["z-cert"]).await?;
        Ok(Self {
            world,
            rng: ChaCha8Rng::seed_from_u64(seed),
            acknowledged: Arc::default(),
            kills: BTreeMap::new(),
            lasts: [Rebuilding, Recovering].map(|phase| (phase, Duration::from_millis(100))).into(),
            rounds: 0,
            next_entry: 0,
        })
    }

    fn total(&self) -> u64 {
        self.kills.values().sum()
    }

    fn count(&self, phase: Phase) -> u64 {
        self.kills.get(&phase).copied().unwrap_or(0)
    }

    /// Whether every kind of moment was hit, and recoveries often enough. A kill falls where it falls: the faster the
    /// machine, the more of them come when the node is already there.
    fn shows_enough(&self) -> bool {
        [Writing, Rotating, CatchingUp, Rebuilding].into_iter().all(|phase| self.count(phase) > 0)
            && self.count(Recovering) * 5 >= self.total()
    }

    fn random_ms(&mut self, bound: u64) -> Duration {
        self.random(Duration::from_millis(bound))
    }

    fn random(&mut self, bound: Duration) -> Duration {
        Duration::from_micros(self.rng.next_u64() % u64::try_from(bound.as_micros()).unwrap_or(u64::MAX).max(1))
    }

    fn kill(&mut self, name: &str, phase: Phase) -> anyhow::Result<()> {
        *self.kills.entry(phase).or_default() += 1;
        self.world.kill(name)
    }

    fn write(&mut self) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |writer: u64| {
            let from = self.next_entry + writer * 100_000;
            tokio::spawn(publish(self.world.client("ncsc"), Arc::clone(&self.acknowledged), Arc::clone(&stop), from))
        };
        let tasks = (0..4).map(task).collect();
        self.next_entry += 1_000_000;
        Writers { stop, tasks }
    }

    /// Kills the writing node at a random moment.
    async fn kill_writing(&mut self) -> anyhow::Result<()> {
        let writers = self.write();
        tokio::time::sleep(self.random_ms(400)).await;
        self.kill("ncsc", Writing)?;
        writers.end().await
    }

    fn segments(&self, name: &str) -> usize {
        let segments = self.world.node(name).data.join("segments");
        std::fs::read_dir(segments).map_or(0, |segments| segments.count())
    }

    /// Kills the writing node at the moment a new segment appears.
    async fn kill_rotating(&mut self) -> anyhow::Result<()> {
        let writers = self.write();
        let before = self.segments("ncsc");
        let given_up = Instant::now() + Duration::from_secs(10);
        while self.segments("ncsc") == before && Instant::now() < given_up {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let phase = if self.segments("ncsc") > before { Rotating } else { Writing };
        self.kill("ncsc", phase)?;
        writers.end().await
    }

    /// Starts a node, waits until its recovery has begun, and kills it at a random moment of that, which may come too
    /// late. Waits in this thread: a timer's steps can be longer than a recovery.
    fn kill_recovering(&mut self, name: &str, phase: Phase) -> anyhow::Result<bool> {
        let log = self.world.node(name).data.join("daemon.log");
        let before = usize::try_from(std::fs::metadata(&log)?.len())?;
        let said = || Ok::<_, std::io::Error>(String::from_utf8_lossy(&std::fs::read(&log)?[before..]).into_owned());
        self.world.spawn(name)?;
        let given_up = Instant::now() + PATIENCE;
        while !said()?.contains(RECOVERS) {
            anyhow::ensure!(Instant::now() < given_up, "its recovery does not begin\n{}", self.world.logs());
            std::thread::sleep(WATCH_EVERY);
        }
        let lasts = self.lasts[&phase];
        std::thread::sleep(self.random(lasts));
        self.world.kill(name)?;
        let in_time = !said()?.contains(RECOVERED);
        self.lasts.insert(phase, if in_time { lasts * 9 / 8 } else { lasts * 3 / 4 });
        *self.kills.entry(if in_time { phase } else { Recovered }).or_default() += 1;
        Ok(in_time)
    }

    /// Kills the reading node, lets it miss something, and kills it while it fetches that.
    async fn kill_catching_up(&mut self) -> anyhow::Result<()> {
        let writers = self.write();
        tokio::time::sleep(self.random_ms(100)).await;
        self.kill("z-cert", Writing)?;
        tokio::time::sleep(Duration::from_millis(200) + self.random_ms(300)).await;
        writers.end().await?;
        self.world.start("z-cert").await?;
        self.world.connected("z-cert", 1).await?;
        tokio::time::sleep(self.random_ms(60)).await;
        self.kill("z-cert", CatchingUp)?;
        self.world.start("z-cert").await
    }

    /// One story that ends with all nodes up: every other time of a recovery, while fewer than a quarter of the kills
    /// were in one; else of what was told least.
    async fn round(&mut self) -> anyhow::Result<()> {
        self.rounds += 1;
        let others = [Rotating, CatchingUp, Rebuilding].into_iter().min_by_key(|phase| self.count(*phase));
        let due = self.rounds.is_multiple_of(2) && self.count(Recovering) * 4 < self.total();
        match others.filter(|_| !due).unwrap_or(Recovering) {
            Rotating => self.kill_rotating().await?,
            CatchingUp => return self.kill_catching_up().await,
            Rebuilding => {
                self.kill_writing().await?;
                std::fs::remove_dir_all(self.world.node("ncsc").data.join("index"))?;
                self.kill_recovering("ncsc", Rebuilding)?;
                self.kill_recovering("ncsc", Recovering)?;
            }
            _ => {
                self.kill_writing().await?;
                // Until one was in time, and then perhaps once more.
                for _try in 0..5 {
                    if self.kill_recovering("ncsc", Recovering)? && self.rng.next_u64().is_multiple_of(2) {
                        break;
                    }
                }
            }
        }
        self.world.start("ncsc").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_kill_minus_nine_whatever_a_node_is_doing_loses_nothing_acknowledged() -> anyhow::Result<()> {
    let (kills, seed) = (kills(), seed());
    println!("seed {seed}");
    let mut killer = Killer::new(seed).await?;
    let mut total_lost = 0;
    while killer.total() < kills || (!killer.shows_enough() && killer.total() < MORE * kills) {
        let before = killer.acknowledged.lock().unwrap().len();
        killer.round().await?;
        let fresh: Vec<String> = killer.acknowledged.lock().unwrap()[before..].to_vec();
        total_lost += lost(&killer.world, "ncsc", &fresh).await;
    }
    let acknowledged = killer.acknowledged.lock().unwrap().clone();
    total_lost += lost(&killer.world, "ncsc", &acknowledged).await;
    let world = &killer.world;
    if let Some(last) = acknowledged.last() {
        world.until("z-cert", "it caught up", async || Ok(world.read("z-cert", last).await.is_ok())).await?;
    }
    total_lost += lost(world, "z-cert", &acknowledged).await;
    for (phase, kills) in &killer.kills {
        println!("killed while {phase:?}: {kills}");
    }
    println!("acknowledged {}, lost {total_lost}", acknowledged.len());
    anyhow::ensure!(total_lost == 0, "lost {total_lost} of {} (seed {seed})", acknowledged.len());
    anyhow::ensure!(acknowledged.len() as u64 >= kills, "too little was written to show anything");
    for phase in [Writing, Rotating, CatchingUp, Rebuilding] {
        anyhow::ensure!(killer.count(phase) > 0, "nothing was killed while {phase:?}");
    }
    let recovering = killer.count(Recovering);
    anyhow::ensure!(recovering * 5 >= killer.total(), "{recovering} of {} while recovering", killer.total());
    Ok(())
}

/// How many entries the running node has in the circle.
async fn held(client: &Client) -> anyhow::Result<u64> {
    let status: Status = client.get("/v1/status").await?;
    Ok(status.circles.iter().map(|circle| circle.entries).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_node_killed_again_and_again_while_it_catches_up_with_thousands_ends_with_all() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    world.kill("z-cert")?;
    let writer = |writer: u64| {
        let client = world.client("ncsc");
        tokio::spawn(async move {
            let mut hashes = Vec::new();
            for number in 0..CATCH_UP / WRITERS {
                // Long ones, so that they come in many steps.
                let entry = NewEntry { body: "x".repeat(8_000), ..entry(writer * 100_000 + number) };
                let published: Published = client.post("/v1/entries", &entry).await?;
                hashes.push(published.hash);
            }
            anyhow::Ok(hashes)
        })
    };
    let mut acknowledged = Vec::new();
    for writing in (0..WRITERS).map(writer).collect::<Vec<_>>() {
        acknowledged.extend(writing.await??);
    }
    let seed = seed();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let client = world.client("z-cert");
    let mut progress = vec![0];
    while *progress.last().unwrap() < CATCH_UP {
        // Once when it is a step further than before, and once at a random moment of its next start.
        world.start("z-cert").await?;
        let before = held(&client).await?;
        anyhow::ensure!(before >= *progress.last().unwrap(), "{progress:?}, then {before} (seed {seed})");
        // Asked without a pause: it may need no longer than that for all of it.
        let mut now = before;
        let waiting = Instant::now();
        while now == before && before < CATCH_UP {
            anyhow::ensure!(waiting.elapsed() < PATIENCE, "it gets no further than {before}\n{}", world.logs());
            now = held(&client).await?;
        }
        progress.push(now);
        world.kill("z-cert")?;
        world.spawn("z-cert")?;
        tokio::time::sleep(Duration::from_millis(rng.next_u64() % 200)).await;
        world.kill("z-cert")?;
    }
    println!("held at each kill: {progress:?}");
    world.start("z-cert").await?;
    let lost = lost(&world, "z-cert", &acknowledged).await;
    anyhow::ensure!(lost == 0, "lost {lost} of {} (seed {seed})", acknowledged.len());
    anyhow::ensure!(progress.len() > 2, "it was never killed in the middle: {progress:?}");
    Ok(())
}
