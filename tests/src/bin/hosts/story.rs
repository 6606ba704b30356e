//! What happens to the network, and what must hold of it then.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use cwn_tests::world::{World, program};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    EVERYBODY, NAMES, SMALL, SMALL_CIRCLE,
    report::Report,
    wires::{Wire, Wires},
    writing::{Ledger, Writers, Wrote, compare, is_in, listed},
};

const COORDINATOR: &str = NAMES[0];
const LEFT: [usize; 3] = [1, 2, 3];
const RIGHT: [usize; 2] = [4, 5];
/// On the right, in both circles: killed and started again while it is cut off.
const KILLED: &str = "mkb";

/// A silent line is noticed by pings: two of them, each with its pause and its patience.
const NOTICED: Duration = Duration::from_secs(45);
/// After a cut: the longest pause of a dialer towards whom it lost lately, one dial, and catching up.
const CONVERGED: Duration = Duration::from_secs(60);
/// Where nothing is cut.
const SPREAD: Duration = Duration::from_secs(20);
/// With every line slow and lossy.
const SLOWLY: Duration = Duration::from_secs(90);
/// How long the one-way cuts last: longer than it takes to notice them.
const ONE_WAY: Duration = Duration::from_secs(60);
/// Each partner writes about so often while little time passes; in a longer cut less often.
const EVERY: Duration = Duration::from_millis(700);
/// What one partner writes in a cut at most.
const MOST: u32 = 120;
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long `cwn status` may take on a busy machine.
const SAYS: Duration = Duration::from_secs(20);

/// The network, and what was found out about it.
#[derive(Debug)]
pub(crate) struct Story {
    world: World,
    wires: Wires,
    seed: u64,
    partition: Duration,
    ledger: Ledger,
    report: Report,
}

/// What `cwn status` says of a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// In sync, without more.
    InSync,
    /// In sync as far as it goes: these are not connected, in the order of the alphabet.
    Without(Vec<&'static str>),
    /// Nobody of it is connected.
    Alone,
    /// Started anew, and waits for these among others.
    WaitsFor(&'static str),
}

impl State {
    fn is_said_by(&self, state: &str) -> bool {
        match self {
            Self::InSync => state == "in sync",
            Self::Without(names) => {
                state.starts_with("in sync with") && state.ends_with(&format!("; not connected: {}", names.join(", ")))
            }
            Self::Alone => state == "nobody of it is connected",
            Self::WaitsFor(name) => state.starts_with("not current yet: waits for") && state.contains(name),
        }
    }
}

/// What is said of each circle.
type States = BTreeMap<&'static str, State>;

/// What a node should say of its circles while these are out of its reach.
fn without(name: &str, cut_off: &[&'static str]) -> States {
    let circles = [EVERYBODY, SMALL_CIRCLE].into_iter().filter(|circle| is_in(name, circle));
    let state = |circle| {
        let others: BTreeSet<&'static str> =
            NAMES.into_iter().filter(|other| *other != name && is_in(other, circle)).collect();
        let missing: Vec<&'static str> = others.iter().copied().filter(|other| cut_off.contains(other)).collect();
        let state = match missing.len() {
            0 => State::InSync,
            all if all == others.len() => State::Alone,
            _ => State::Without(missing),
        };
        (circle, state)
    };
    circles.map(state).collect()
}

/// Whether a page of `cwn status` says this.
fn says(page: &str, expected: &States) -> bool {
    let said = |(circle, state): (&&str, &State)| {
        let line = page.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(circle)?.strip_prefix(' '));
        line.and_then(|line| line.split_once(" entries ")).is_some_and(|(_, rest)| state.is_said_by(rest.trim()))
    };
    expected.iter().all(said)
}

/// Who is on the other side of a cut between halves, and the coordinator, who is off.
fn across(name: &str) -> Vec<&'static str> {
    let other_side = if names(&LEFT).contains(&name) { names(&RIGHT) } else { names(&LEFT) };
    other_side.into_iter().chain([COORDINATOR]).collect()
}

/// What was written after that.
fn since<'a>(before: &[Wrote], after: &'a [Wrote]) -> &'a [Wrote] {
    &after[before.len()..]
}

fn by(authors: &[&str], wrote: &[Wrote]) -> Vec<Wrote> {
    wrote.iter().filter(|entry| authors.contains(&entry.author)).cloned().collect()
}

fn names(of: &[usize]) -> Vec<&'static str> {
    of.iter().map(|number| NAMES[*number]).collect()
}

fn running() -> Vec<&'static str> {
    NAMES[1..].to_vec()
}

impl Story {
    pub(crate) fn new(world: World, wires: Wires, seed: u64, partition: Duration) -> Self {
        Self { world, wires, seed, partition, ledger: Ledger::default(), report: Report::default() }
    }

    /// Tells it all, and says what was measured.
    pub(crate) async fn tell(mut self) -> anyhow::Result<Report> {
        self.begin().await?;
        self.partition().await?;
        self.one_line_cut_one_way().await?;
        self.halves_cut_one_way().await?;
        self.slow_and_lossy().await?;
        self.coordinator_again().await?;
        self.disks()?;
        Ok(self.report)
    }

    async fn begin(&mut self) -> anyhow::Result<()> {
        eprintln!("{} hosts, two circles; the coordinator founds the one of all, and goes", NAMES.len());
        self.world.start_all().await?;
        for name in NAMES {
            self.world.connected(name, NAMES.len() - 1).await?;
        }
        self.world.found(COORDINATOR, EVERYBODY, &running()).await?;
        self.world.found(SMALL[0], SMALL_CIRCLE, &SMALL[1..]).await?;
        self.world.stop(COORDINATOR)?;
        let said = self.until_said(&running(), |name| without(name, &[COORDINATOR]), SPREAD).await;
        self.report.took("without the coordinator every status names it as not connected, after", said, SPREAD);
        Ok(())
    }

    async fn partition(&mut self) -> anyhow::Result<()> {
        let (left, right) = (names(&LEFT), names(&RIGHT));
        let partition = self.partition;
        eprintln!("a cut for {} s: {} | {}", partition.as_secs(), left.join(", "), right.join(", "));
        let every = EVERY.max(partition / MOST);
        let writers = self.write(&running(), "before the cut and in it", every);
        // Before a long cut the connections have lasted, as they will have before a real one.
        sleep(partition / 8).await;
        let cut = Wire { cut: true, ..Wire::default() };
        let cut_at = Instant::now();
        self.wires.set(&LEFT, &RIGHT, cut);
        self.wires.set(&RIGHT, &LEFT, cut);
        // What was acknowledged in this second may have been on its way before.
        sleep(Duration::from_secs(1)).await;
        let before = self.ledger.wrote();
        let noticed = self.until_said(&running(), |name| without(name, &across(name)), NOTICED).await;
        let noticed = noticed.map(|_| cut_at.elapsed());
        self.report.took("in the cut every status names who is not reached, after", noticed, NOTICED);
        // Not one of the two counts its circle's steward on its side, nor half the partners.
        self.world.kill(KILLED)?;
        self.world.start(KILLED).await?;
        let waits = |name: &str| {
            let mut states = without(name, &across(name));
            states.insert(EVERYBODY, State::WaitsFor(NAMES[LEFT[0]]));
            states
        };
        let said = self.until_said(&[KILLED], waits, SPREAD).await;
        self.report.took("killed and started in the cut: says whom it waits for, after", said, SPREAD);
        sleep((cut_at + partition).saturating_duration_since(Instant::now())).await;
        let in_cut = self.ledger.wrote();
        for (side, others) in [(&left, &right), (&right, &left)] {
            let theirs = by(side, since(&before, &in_cut));
            self.report.some(&format!("written in the cut by {}", side.join(", ")), theirs.len());
            let spread = self.until_held(side, &theirs).await;
            self.report.took("and within the cut with all of that side, after", spread, SPREAD);
            self.report.none("and across it", self.arrived(others, &theirs).await?);
        }
        let still = |name: &str| if name == KILLED { waits(name) } else { without(name, &across(name)) };
        let said = self.until_said(&running(), still, SPREAD).await;
        self.report.took("at its end every status still says so, after", said, SPREAD);
        let written = self.ledger.wrote();
        self.heal(writers, &written).await;
        self.settled("of the cut and what came before and after").await
    }

    /// All lines are whole again: what was written comes to everybody, and everybody says so.
    async fn heal(&mut self, writers: Writers, written: &[Wrote]) {
        let healed_at = Instant::now();
        self.wires.set_all(Wire::default());
        let held = self.until_held(&running(), written).await;
        self.report.took("after the heal everything is with everybody, after", held, CONVERGED);
        writers.stop().await;
        let synced = self.until_said(&running(), |name| without(name, &[COORDINATOR]), CONVERGED).await;
        let synced = synced.map(|_| healed_at.elapsed());
        self.report.took("and every status says in sync, after", synced, CONVERGED);
    }

    async fn one_line_cut_one_way(&mut self) -> anyhow::Result<()> {
        let (deaf, unheard) = (LEFT[1], RIGHT[0]);
        eprintln!("{} no longer hears {}; it hears the others", NAMES[deaf], NAMES[unheard]);
        self.wires.set(&[unheard], &[deaf], Wire { cut: true, ..Wire::default() });
        let writers = self.write(&running(), "while one line is one-way", EVERY);
        let cut_off = [NAMES[unheard], COORDINATOR];
        let said = self.until_said(&names(&[deaf]), |name| without(name, &cut_off), NOTICED).await;
        self.report.took("one line one-way: its deaf end says whom it does not reach, after", said, NOTICED);
        sleep(ONE_WAY.saturating_sub(said.unwrap_or_default())).await;
        let written = self.ledger.wrote();
        let held = self.until_held(&running(), &written).await;
        self.report.took("and everything is with everybody meanwhile, after", held, SPREAD);
        writers.stop().await;
        self.wires.set_all(Wire::default());
        let synced = self.until_said(&running(), |name| without(name, &[COORDINATOR]), CONVERGED).await;
        self.report.took("after the heal every status says in sync, after", synced, CONVERGED);
        self.settled("of the one-way line").await
    }

    async fn halves_cut_one_way(&mut self) -> anyhow::Result<()> {
        let (left, right) = (names(&LEFT), names(&RIGHT));
        eprintln!("nothing gets from {} to {}; everything gets back", left.join(", "), right.join(", "));
        self.wires.set(&LEFT, &RIGHT, Wire { cut: true, ..Wire::default() });
        let before = self.ledger.wrote();
        let writers = self.write(&running(), "while halves are one-way", EVERY);
        let said = self.until_said(&running(), |name| without(name, &across(name)), NOTICED).await;
        self.report.took("halves one-way: both say whom they do not reach, after", said, NOTICED);
        sleep(ONE_WAY.saturating_sub(said.unwrap_or_default())).await;
        let written = self.ledger.wrote();
        for side in [&left, &right] {
            let theirs = by(side, since(&before, &written));
            self.report.some(&format!("written meanwhile by {}", side.join(", ")), theirs.len());
            let spread = self.until_held(side, &theirs).await;
            self.report.took("and with all of that side, after", spread, SPREAD);
        }
        self.heal(writers, &written).await;
        self.settled("of the one-way halves").await
    }

    async fn slow_and_lossy(&mut self) -> anyhow::Result<()> {
        eprintln!("every line takes 200 ms and loses a packet in twenty");
        let lost_before = self.wires.packets().lost;
        let slow = Wire { cut: false, delay: Duration::from_millis(200), lost_per_mille: 50 };
        self.wires.set_all(slow);
        let writers = self.write(&running(), "over slow lines", EVERY);
        sleep(Duration::from_secs(10)).await;
        // Over such lines it has to dial, compare and catch up too.
        self.world.kill(KILLED)?;
        sleep(Duration::from_secs(5)).await;
        self.world.start(KILLED).await?;
        sleep(Duration::from_secs(5)).await;
        writers.stop().await;
        let written = self.ledger.wrote();
        let held = self.until_held(&running(), &written).await;
        self.report.took("200 ms and 5 % loss: everything is with everybody, after", held, SLOWLY);
        let synced = self.until_said(&running(), |name| without(name, &[COORDINATOR]), SLOWLY).await;
        self.report.took("and every status says in sync, after", synced, SLOWLY);
        let lost = self.wires.packets().lost - lost_before;
        self.report.some("packets lost on the way", usize::try_from(lost)?);
        self.wires.set_all(Wire::default());
        self.settled("of the slow lines").await
    }

    async fn coordinator_again(&mut self) -> anyhow::Result<()> {
        eprintln!("the coordinator comes back");
        self.world.start(COORDINATOR).await?;
        let written = self.ledger.wrote();
        let held = self.until_held(&NAMES, &written).await;
        self.report.took("the coordinator, off all the time, holds everything, after", held, CONVERGED);
        let synced = self.until_said(&NAMES, |name| without(name, &[]), CONVERGED).await;
        self.report.took("and every status says in sync without more, after", synced, CONVERGED);
        Ok(())
    }

    /// What lies on each disk, and who could read it with which keys.
    fn disks(&mut self) -> anyhow::Result<()> {
        eprintln!("all stop; what everybody could read of every disk");
        for name in NAMES {
            self.world.stop(name)?;
        }
        let wrote = self.ledger.wrote();
        let unsure = self.ledger.unsure();
        let (mut lost, mut overread) = (0, 0);
        for disk in NAMES {
            for reader in NAMES {
                let keys = self.world.keys(reader)?;
                let readable = self.world.readable(disk, &keys)?;
                let may = |entry: &&Wrote| is_in(disk, entry.circle) && entry.may_read(reader);
                let expected: Vec<&str> = wrote.iter().filter(may).map(|entry| entry.title.as_str()).collect();
                let here: BTreeSet<&str> = readable.iter().map(String::as_str).collect();
                let should: BTreeSet<&str> = expected.iter().copied().collect();
                lost += should.difference(&here).count();
                overread += here.difference(&should).filter(|title| !unsure.iter().any(|own| own == *title)).count();
            }
        }
        self.report.some("acknowledged", wrote.len());
        let refused = self.ledger.refused().into_iter().filter(|refusal| !refusal.starts_with(KILLED));
        self.report.none("publications refused, but to the one that was started while cut off", refused.count());
        self.report.none("of which lost on any disk", lost);
        self.report.none("readable with anybody's keys, on any disk, without being for them", overread);
        let packets = self.wires.packets();
        self.report.some("packets that a cut stopped", usize::try_from(packets.cut_off)?);
        self.report.some("packets carried", usize::try_from(packets.carried)?);
        Ok(())
    }

    // ---- What is looked at.

    fn write(&mut self, names: &[&'static str], round: &str, every: Duration) -> Writers {
        self.seed = self.seed.wrapping_add(1);
        Writers::start(&self.world, names, &self.ledger, round, every, self.seed)
    }

    /// How long it takes until each of these holds all of that, of what it may hold; none when it takes too long.
    async fn until_held(&self, names: &[&'static str], wrote: &[Wrote]) -> Option<Duration> {
        let begun = Instant::now();
        for name in names {
            loop {
                if compare(&self.world, name, wrote).await.is_ok_and(|difference| difference.missing == 0) {
                    break;
                }
                if begun.elapsed() > 3 * CONVERGED {
                    eprintln!("{name}: {:?}\n{}", compare(&self.world, name, wrote).await, self.world.logs());
                    return None;
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Some(begun.elapsed())
    }

    /// How much of that is with any of these.
    async fn arrived(&self, names: &[&'static str], wrote: &[Wrote]) -> anyhow::Result<usize> {
        let mut arrived = 0;
        for name in names {
            for circle in [EVERYBODY, SMALL_CIRCLE].into_iter().filter(|circle| is_in(name, circle)) {
                let held = listed(&self.world.client(name), circle).await?;
                arrived += wrote.iter().filter(|entry| held.contains_key(&entry.reference)).count();
            }
        }
        Ok(arrived)
    }

    /// When nobody writes: nothing lost, nothing read by the wrong ones, nothing there that nobody wrote.
    async fn settled(&mut self, of_what: &str) -> anyhow::Result<()> {
        let wrote = self.ledger.wrote();
        let held = self.until_held(&running(), &wrote).await;
        self.report.took(&format!("all {of_what} is with everybody, after"), held, SPREAD);
        let (mut lost, mut overread, mut unread, mut unknown) = (0, 0, 0, 0);
        for name in running() {
            let difference = compare(&self.world, name, &wrote).await?;
            lost += difference.missing;
            overread += difference.overread;
            unread += difference.unread;
            unknown = unknown.max(difference.unknown);
        }
        self.report.none("entries lost, on any node", lost);
        self.report.none("entries opened by whom they are not for", overread);
        self.report.none("entries not opened by whom they are for", unread);
        self.report.none("entries that nobody wrote", unknown.saturating_sub(self.ledger.unsure().len()));
        Ok(())
    }

    /// How long it takes until `cwn status` of each of these says this of each circle; none when it takes too long.
    async fn until_said(
        &self,
        names: &[&'static str],
        expected: impl Fn(&str) -> States,
        patience: Duration,
    ) -> Option<Duration> {
        let begun = Instant::now();
        for name in names {
            loop {
                let status = self.status(name).await.unwrap_or_default();
                if says(&status, &expected(name)) {
                    break;
                }
                if begun.elapsed() > 2 * patience {
                    eprintln!("{name} never said {:?}:\n{status}\n{}", expected(name), self.world.logs());
                    return None;
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Some(begun.elapsed())
    }

    /// What `cwn status` prints.
    async fn status(&self, name: &str) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(program()?);
        command.arg("--data").arg(&self.world.node(name).data).arg("status").stdin(Stdio::null()).kill_on_drop(true);
        let said = timeout(SAYS, command.output()).await.context("no answer")??;
        Ok(String::from_utf8(said.stdout)?)
    }
}
