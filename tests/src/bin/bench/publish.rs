//! W3: one publishes, and it is durable with all others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cwn_engine::log::CircleId;
use cwn_node::inbox::Told;
use tokio::{sync::watch, time::sleep};

use crate::{
    author::PAYLOAD_BYTES,
    floor, machine,
    peers::Peers,
    rivals::{Ask, Rivals},
    workload::{FLOOR, Gate, Limit, Numbers, OURS, Workload},
};

/// Between two that are published by themselves.
const PACE: Duration = Duration::from_millis(25);
/// So many are under way at a time where it is asked how many go through.
const WINDOW: u64 = 256;
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// When each entry was published, and when it was durable with all.
#[derive(Debug)]
struct Journey {
    published: Instant,
    everywhere: Option<Instant>,
}

/// Follows entries on their way to all others.
#[derive(Debug)]
struct Tracker {
    journeys: Mutex<Vec<Journey>>,
    /// How many entries each of the others holds durably.
    heights: Mutex<Vec<u64>>,
    everywhere: watch::Sender<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracker {
    fn new(receivers: usize) -> Self {
        let (everywhere, _) = watch::channel(0);
        Self { journeys: Mutex::default(), heights: Mutex::new(vec![0; receivers]), everywhere }
    }

    /// One more is published now.
    fn published(&self) {
        locked(&self.journeys).push(Journey { published: Instant::now(), everywhere: None });
    }

    /// One of the others holds so many.
    fn holds(&self, receiver: usize, height: u64) {
        let now = Instant::now();
        let mut heights = locked(&self.heights);
        heights[receiver] = heights[receiver].max(height);
        let everywhere = heights.iter().min().copied().unwrap_or(0);
        drop(heights);
        self.everywhere.send_if_modified(|before| {
            if everywhere <= *before {
                return false;
            }
            let mut journeys = locked(&self.journeys);
            let arrived = journeys.iter_mut().skip(*before as usize).take((everywhere - *before) as usize);
            arrived.for_each(|journey| journey.everywhere = Some(now));
            *before = everywhere;
            true
        });
    }

    /// Waits until so many are everywhere.
    async fn until(&self, count: u64) -> anyhow::Result<()> {
        let mut everywhere = self.everywhere.subscribe();
        let enough = tokio::time::timeout(PATIENCE, everywhere.wait_for(|everywhere| *everywhere >= count)).await;
        anyhow::ensure!(enough.is_ok(), "of {count} entries {} came to all", *self.everywhere.borrow());
        Ok(())
    }

    /// How long those from `first` on took, in milliseconds, sorted.
    fn took_ms(&self, first: usize) -> Vec<f64> {
        let journeys = locked(&self.journeys);
        let took = |journey: &Journey| Some((journey.everywhere? - journey.published).as_secs_f64() * 1e3);
        let mut took: Vec<f64> = journeys.iter().skip(first).filter_map(took).collect();
        took.sort_by(f64::total_cmp);
        took
    }
}

/// How many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) receivers: usize,
    /// Published one by one.
    pub(crate) paced: usize,
    /// Published as fast as they go through.
    pub(crate) sustained: u64,
}

/// W3.
pub(crate) struct Publish<'a> {
    rivals: &'a Rivals,
    peers: Peers,
    tracker: Arc<Tracker>,
    amount: Amount,
    dir: tempfile::TempDir,
}

impl<'a> Publish<'a> {
    pub(crate) async fn set_up(amount: Amount, rivals: &'a Rivals) -> anyhow::Result<Self> {
        let mut peers = Peers::start(amount.receivers + 1).await?;
        let tracker = Arc::new(Tracker::new(amount.receivers));
        for (receiver, node) in peers.nodes.iter_mut().skip(1).enumerate() {
            let (told, tracker, circle) = (node.told.take(), Arc::clone(&tracker), peers.circle);
            thread::spawn(move || {
                for told in told.into_iter().flatten() {
                    if let Told::Accepted(key, height) = told
                        && key.circle == circle
                    {
                        tracker.holds(receiver, height);
                    }
                }
            });
        }
        let publish = Self { rivals, peers, tracker, amount, dir: tempfile::tempdir()? };
        // The first makes the epoch.
        publish.one().await?;
        Ok(publish)
    }

    /// Publishes one, and waits until all have it.
    async fn one(&self) -> anyhow::Result<()> {
        let place = locked(&self.tracker.journeys).len() as u64;
        self.tracker.published();
        self.peers.nodes[0].publisher().publish(self.peers.circle, floor::noise(PAYLOAD_BYTES)).await?;
        self.tracker.until(place + 1).await
    }

    pub(crate) async fn stop(self) {
        self.peers.stop().await;
    }
}

async fn publish_all(publish: &Publish<'_>, circle: CircleId, count: u64) -> anyhow::Result<()> {
    let before = locked(&publish.tracker.journeys).len() as u64;
    let mut under_way = tokio::task::JoinSet::new();
    let founder = Arc::new(publish.peers.nodes[0].publisher());
    for place in before..before + count {
        publish.tracker.until((place + 1).saturating_sub(WINDOW)).await?;
        publish.tracker.published();
        let founder = Arc::clone(&founder);
        under_way.spawn(async move { founder.publish(circle, floor::noise(PAYLOAD_BYTES)).await });
    }
    while let Some(published) = under_way.join_next().await {
        published??;
    }
    publish.tracker.until(before + count).await
}

fn percentile(sorted: &[f64], of_hundred: usize) -> f64 {
    sorted.get((sorted.len() - 1) * of_hundred / 100).copied().unwrap_or(f64::NAN)
}

/// So many receivers are few.
const FEW: usize = 10;
const P50: &str = "durable with the last, p50 ms";
const P99: &str = "durable with the last, p99 ms";
const SUSTAINED: &str = "sustained, entries/s";
/// Of what is published; and of what it is once sealed and signed, which is what travels and is stored.
const WIRE: &str = "bytes on the wire per byte published and receiver";
const WIRE_STORED: &str = "bytes on the wire per byte stored and receiver";
const DELIVERED: &str = "delivered to all, of 100";

impl Workload for Publish<'_> {
    const CODE: &'static str = "W3";

    fn about(&self) -> String {
        format!("1 kB from one to {} others, durable with the last", self.amount.receivers)
    }

    async fn round(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let Amount { receivers, paced, sustained } = self.amount;
        let took = floor::fan_out(self.dir.path(), receivers, paced, PACE)?;
        numbers.set(FLOOR, P50, percentile(&took, 50));
        numbers.set(FLOOR, P99, percentile(&took, 99));
        let first = locked(&self.tracker.journeys).len();
        let bytes = machine::loopback_bytes()?;
        for _ in 0..paced {
            self.one().await?;
            sleep(PACE).await;
        }
        let bytes = machine::loopback_bytes()? - bytes;
        let took = self.tracker.took_ms(first);
        numbers.set(OURS, P50, percentile(&took, 50));
        numbers.set(OURS, P99, percentile(&took, 99));
        let entry = self.peers.entry_bytes().await?;
        numbers.set(OURS, WIRE, bytes as f64 / (paced * receivers * PAYLOAD_BYTES) as f64);
        numbers.set(OURS, WIRE_STORED, bytes as f64 / (paced as u64 * receivers as u64 * entry) as f64);
        let start = Instant::now();
        publish_all(self, self.peers.circle, sustained).await?;
        numbers.set(OURS, SUSTAINED, sustained as f64 / start.elapsed().as_secs_f64());
        let published = locked(&self.tracker.journeys).len();
        let delivered = *self.tracker.everywhere.borrow() as f64 / published as f64;
        numbers.set(OURS, DELIVERED, delivered * 100.0);
        // The others stall at more, or are as slow as they are with few.
        let whose: &[&str] = if receivers <= FEW {
            &["iroh-gossip", "gossipsub", "jetstream", "postgres"]
        } else {
            &["iroh-gossip", "jetstream"]
        };
        let work = ["publish".to_owned(), receivers.to_string(), paced.to_string(), sustained.to_string()];
        let taken = [
            ("p50_ms", P50, 1.0),
            ("p99_ms", P99, 1.0),
            ("wire_per_byte", WIRE, 1.0),
            ("per_second", SUSTAINED, 1.0),
            ("delivered_percent", DELIVERED, 1.0),
        ];
        self.rivals.take_turns(whose, (Ask::Now, &work), &taken, numbers);
        Ok(())
    }

    fn gates(&self, medians: &Numbers) -> Vec<Gate> {
        let receivers = self.amount.receivers;
        let of_plain = |what| medians.ratio((OURS, what), (FLOOR, what));
        let mut gates = vec![
            Gate::new(format!("p50 to the last of {receivers}, of plain"), of_plain(P50), Limit::AtMost(3.0))
                .stretch(Limit::AtMost(2.0)),
            Gate::new(format!("p99 to the last of {receivers}, of plain"), of_plain(P99), Limit::AtMost(3.0))
                .stretch(Limit::AtMost(2.0)),
            Gate::new(WIRE_STORED, medians.get(OURS, WIRE_STORED), Limit::AtMost(1.5)).stretch(Limit::AtMost(1.2)),
            Gate::new(DELIVERED, medians.get(OURS, DELIVERED), Limit::AtLeast(100.0)),
        ];
        if receivers <= FEW {
            let sustained = Gate::new(SUSTAINED, medians.get(OURS, SUSTAINED), Limit::AtLeast(2_000.0));
            gates.push(sustained.stretch(Limit::AtLeast(3_000.0)));
            let of_gossipsub = medians.ratio((OURS, SUSTAINED), ("gossipsub", SUSTAINED));
            gates.push(Gate::new("sustained, of gossipsub", of_gossipsub, Limit::AtLeast(1.0)));
        }
        gates
    }
}
