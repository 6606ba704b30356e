//! Items on their way from one to all others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    ITEM_BYTES, item,
    meter::{Meter, Numbers, percentile},
};

/// How many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) receivers: usize,
    /// One by one.
    pub(crate) paced: u64,
    /// As fast as they go through.
    pub(crate) sustained: u64,
}

/// Between two that go by themselves.
const PACE: Duration = Duration::from_millis(25);
/// So many are under way at a time where it is asked how many go through: with more, some of these lose items.
const WINDOW: u64 = 64;
/// When nothing more arrives for so long, nothing will.
const STALLED: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// For what was sent before to arrive.
const REST: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Journey {
    sent: Instant,
    receivers: usize,
    everywhere: Option<Instant>,
}

#[derive(Debug, Default)]
struct Journeys {
    all: Vec<Journey>,
    /// How many have come to everybody.
    everywhere: u64,
}

/// Follows items.
#[derive(Debug)]
pub(crate) struct Tracker {
    receivers: usize,
    journeys: Mutex<Journeys>,
}

impl Tracker {
    pub(crate) fn new(receivers: usize) -> Arc<Self> {
        Arc::new(Self { receivers, journeys: Mutex::default() })
    }

    fn journeys(&self) -> MutexGuard<'_, Journeys> {
        self.journeys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the others got this item.
    pub(crate) fn arrived(&self, item: &[u8]) {
        let now = Instant::now();
        let Some((number, _)) = item.split_first_chunk() else { return };
        let mut journeys = self.journeys();
        let Some(journey) = journeys.all.get_mut(u64::from_le_bytes(*number) as usize) else { return };
        journey.receivers += 1;
        if journey.receivers == self.receivers {
            journey.everywhere = Some(now);
            journeys.everywhere += 1;
        }
    }

    /// The next item, whose journey begins now.
    fn next(&self) -> Vec<u8> {
        let mut journeys = self.journeys();
        let number = journeys.all.len() as u64;
        journeys.all.push(Journey { sent: Instant::now(), receivers: 0, everywhere: None });
        item(number)
    }

    fn everywhere(&self) -> u64 {
        self.journeys().everywhere
    }

    /// Waits until so many are everywhere; false when that does not come.
    async fn until(&self, count: u64) -> bool {
        let (mut seen, mut since) = (self.everywhere(), Instant::now());
        while seen < count {
            if since.elapsed() > STALLED {
                return false;
            }
            sleep(LOOK_EVERY).await;
            let now = self.everywhere();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        true
    }

    /// How long those from `first` on took, in milliseconds, sorted.
    fn took_ms(&self, first: usize) -> Vec<f64> {
        let took = |journey: &Journey| Some((journey.everywhere? - journey.sent).as_secs_f64() * 1e3);
        let mut took: Vec<f64> = self.journeys().all.iter().skip(first).filter_map(took).collect();
        took.sort_by(f64::total_cmp);
        took
    }
}

/// Publishes one by one, then as fast as it goes.
pub(crate) async fn publish(
    tracker: &Tracker,
    amount: Amount,
    mut send: impl AsyncFnMut(Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<Numbers> {
    /// What is set up only when the first items come is not meant.
    const FIRST: u64 = 20;
    for _ in 0..FIRST {
        send(tracker.next()).await?;
        sleep(PACE).await;
    }
    let first = FIRST as usize;
    let meter = Meter::start()?;
    for _ in 0..amount.paced {
        send(tracker.next()).await?;
        sleep(PACE).await;
    }
    sleep(REST).await;
    let (_, bytes) = meter.read()?;
    let took = tracker.took_ms(first);
    anyhow::ensure!(!took.is_empty(), "not one item came to all");
    let before = tracker.everywhere();
    let meter = Meter::start()?;
    for number in 0..amount.sustained {
        if !tracker.until(before + (number + 1).saturating_sub(WINDOW)).await {
            break;
        }
        send(tracker.next()).await?;
    }
    tracker.until(before + amount.sustained).await;
    let (seconds, _) = meter.read()?;
    let sustained = tracker.everywhere() - before;
    let wire = (amount.paced as usize * amount.receivers * ITEM_BYTES) as f64;
    Ok(Numbers::from([
        ("p50_ms", percentile(&took, 50)),
        ("p99_ms", percentile(&took, 99)),
        ("wire_per_byte", bytes / wire),
        ("per_second", sustained as f64 / seconds),
        ("delivered_percent", (before + sustained) as f64 / (FIRST + amount.paced + amount.sustained) as f64 * 100.0),
    ]))
}
