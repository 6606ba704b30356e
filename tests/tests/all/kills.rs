//! kill -9 at random moments: what was acknowledged is there afterwards, here and at the others.
//!
//! `tests/crash --kills N` runs it with more kills.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
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
/// How long a list may take to follow what is stored.
const FOLLOWS: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

#[tokio::test(flavor = "multi_thread")]
async fn i3_kill_minus_nine_while_writing_and_while_catching_up_loses_nothing_acknowledged() -> anyhow::Result<()> {
    let (kills, seed) = (kills(), seed());
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let all = Arc::new(Mutex::new(Vec::new()));
    let mut total_lost = 0;
    for kill in 0..kills {
        // By turns the one that writes, and the one that catches up with what was written while it was down.
        let writes = kill % 2 == 0;
        let stop = Arc::new(AtomicBool::new(false));
        let before = all.lock().unwrap().len();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let from = kill * 1_000_000 + writer * 100_000;
                tokio::spawn(publish(world.client("ncsc"), Arc::clone(&all), Arc::clone(&stop), from))
            })
            .collect();
        if writes {
            tokio::time::sleep(Duration::from_millis(rng.next_u64() % 400)).await;
            world.kill("ncsc")?;
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await?;
            }
            if rng.next_u64().is_multiple_of(3) {
                // And once more while it recovers.
                world.spawn("ncsc")?;
                tokio::time::sleep(Duration::from_millis(rng.next_u64() % 150)).await;
                world.kill("ncsc")?;
            }
            world.start("ncsc").await?;
        } else {
            world.kill("z-cert")?;
            tokio::time::sleep(Duration::from_millis(100 + rng.next_u64() % 300)).await;
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await?;
            }
            world.spawn("z-cert")?;
            tokio::time::sleep(Duration::from_millis(rng.next_u64() % 300)).await;
            world.kill("z-cert")?;
            world.start("z-cert").await?;
        }
        let fresh: Vec<String> = all.lock().unwrap()[before..].to_vec();
        total_lost += lost(&world, "ncsc", &fresh).await;
    }
    let acknowledged = all.lock().unwrap().clone();
    total_lost += lost(&world, "ncsc", &acknowledged).await;
    if let Some(last) = acknowledged.last() {
        world.until("z-cert", "it caught up", async || Ok(world.read("z-cert", last).await.is_ok())).await?;
    }
    total_lost += lost(&world, "z-cert", &acknowledged).await;
    println!("acknowledged {}, lost {total_lost}", acknowledged.len());
    anyhow::ensure!(total_lost == 0, "lost {total_lost} of {} (seed {seed})", acknowledged.len());
    anyhow::ensure!(acknowledged.len() as u64 >= kills, "too little was written to show anything");
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
                let published: Published = client.post("/v1/entries", &entry(writer * 100_000 + number)).await?;
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
        let further = async || Ok(before == CATCH_UP || held(&client).await? > before);
        world.until("z-cert", "it has more than before", further).await?;
        progress.push(held(&client).await?);
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
