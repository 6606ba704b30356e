//! Partners that write all the time, and what was acknowledged to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use cwn_node::api::{
    client::Client,
    types::{EntrySummary, NewEntry, Published},
};
use cwn_tests::world::World;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{EVERYBODY, SMALL, SMALL_CIRCLE};

/// The most entries that a list shows at once.
const PAGE: usize = 1_000;

/// An entry that was acknowledged to its author.
#[derive(Debug, Clone)]
pub(crate) struct Wrote {
    pub(crate) author: &'static str,
    pub(crate) circle: &'static str,
    pub(crate) reference: String,
    pub(crate) title: String,
    /// Whom it is for; the whole circle when nobody is named.
    to: Vec<&'static str>,
}

impl Wrote {
    /// Whether somebody may read it.
    pub(crate) fn may_read(&self, name: &str) -> bool {
        is_in(name, self.circle) && (self.to.is_empty() || self.author == name || self.to.contains(&name))
    }
}

/// Whether somebody belongs to a circle.
pub(crate) fn is_in(name: &str, circle: &str) -> bool {
    circle == EVERYBODY || SMALL.contains(&name)
}

#[derive(Debug, Default)]
struct State {
    wrote: Vec<Wrote>,
    /// Titles of what was sent and neither acknowledged nor refused: its node was killed meanwhile.
    unsure: Vec<String>,
    refused: Vec<String>,
}

/// What was acknowledged, by whomever.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything acknowledged so far.
    pub(crate) fn wrote(&self) -> Vec<Wrote> {
        self.state().wrote.clone()
    }

    /// How many entries may be there although nobody was told so.
    pub(crate) fn unsure(&self) -> Vec<String> {
        self.state().unsure.clone()
    }

    /// What publications were refused with.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.state().refused.clone()
    }
}

/// Partners that write until they are told to stop.
#[derive(Debug)]
pub(crate) struct Writers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Writers {
    /// Each of these writes about once in `every`.
    pub(crate) fn start(
        world: &World,
        names: &[&'static str],
        ledger: &Ledger,
        round: &str,
        every: Duration,
        seed: u64,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (number, name) in (0_u64..).zip(names.iter().copied()) {
            let random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
            let writer = Writer { name, client: world.client(name), ledger: ledger.clone(), random, every };
            tasks.spawn(writer.write(round.to_owned(), stopped.clone()));
        }
        Self { stop, tasks }
    }

    /// They finish what they are at.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Writer {
    name: &'static str,
    client: Client,
    ledger: Ledger,
    random: ChaCha8Rng,
    every: Duration,
}

impl Writer {
    async fn write(mut self, round: String, mut stopped: watch::Receiver<bool>) {
        for number in 1.. {
            let every_ms = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1);
            let pause = Duration::from_millis(every_ms / 2 + self.random.next_u64() % every_ms);
            tokio::select! {
                () = sleep(pause) => {}
                _stop = stopped.changed() => return,
            }
            self.write_one(format!("{} {round} {number}", self.name)).await;
        }
    }

    async fn write_one(&mut self, title: String) {
        let small = is_in(self.name, SMALL_CIRCLE) && self.random.next_u32().is_multiple_of(3);
        let circle = if small { SMALL_CIRCLE } else { EVERYBODY };
        let others: Vec<&'static str> =
            crate::NAMES.into_iter().filter(|name| is_in(name, circle) && *name != self.name).collect();
        // Every fifth is for one alone, as likely on the other side of a cut as on this.
        let to: Vec<&'static str> = match self.random.next_u32() as usize {
            chance if chance.is_multiple_of(5) => vec![others[chance / 5 % others.len()]],
            _ => Vec::new(),
        };
        let entry = NewEntry {
            circle: circle.to_owned(),
            tlp: if to.is_empty() { "AMBER" } else { "RED" }.to_owned(),
            pap: None,
            title: title.clone(),
            body: format!("The body of {title}."),
            references: Vec::new(),
            to: to.iter().map(|name| (*name).to_owned()).collect(),
            attachments: Vec::new(),
            wait_seconds: None,
            expires_at: None,
        };
        let published: Result<Published, _> = self.client.post("/v1/entries", &entry).await;
        let mut state = self.ledger.state();
        match published {
            Ok(Published { reference, .. }) => {
                state.wrote.push(Wrote { author: self.name, circle, reference, title, to });
            }
            Err(cwn_node::api::client::Error::Refused(problem)) => {
                state.refused.push(format!("{}: {}", self.name, problem.error));
            }
            Err(_gone) => state.unsure.push(title),
        }
    }
}

/// Everything that a node lists in a circle, by reference, and whether it could open it.
pub(crate) async fn listed(client: &Client, circle: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let mut all = BTreeMap::new();
    let mut before = String::new();
    loop {
        let path = format!("/v1/entries?limit={PAGE}&circle={circle}{before}");
        let page: Vec<EntrySummary> = client.get(&path).await?;
        let full = page.len() == PAGE;
        let last = page.last().map(|entry| entry.reference.clone());
        all.extend(page.into_iter().map(|entry| (entry.reference, entry.state == "opened")));
        if !full {
            return Ok(all);
        }
        before = format!("&before={}", last.context("a full page has a last entry")?);
    }
}

/// How what a node lists differs from what it should.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Difference {
    /// Acknowledged to their authors, and not here.
    pub(crate) missing: usize,
    /// Here, and acknowledged to nobody.
    pub(crate) unknown: usize,
    /// Opened, and for somebody else.
    pub(crate) overread: usize,
    /// For this node, and not opened.
    pub(crate) unread: usize,
}

/// Compares what a node lists with what was written.
pub(crate) async fn compare(world: &World, name: &str, wrote: &[Wrote]) -> anyhow::Result<Difference> {
    let mut difference = Difference::default();
    for circle in [EVERYBODY, SMALL_CIRCLE].into_iter().filter(|circle| is_in(name, circle)) {
        let mut held = listed(&world.client(name), circle).await?;
        for entry in wrote.iter().filter(|entry| entry.circle == circle) {
            match (held.remove(&entry.reference), entry.may_read(name)) {
                (None, _) => difference.missing += 1,
                (Some(true), false) => difference.overread += 1,
                (Some(false), true) => difference.unread += 1,
                (Some(_), _) => {}
            }
        }
        difference.unknown += held.len();
    }
    Ok(difference)
}
