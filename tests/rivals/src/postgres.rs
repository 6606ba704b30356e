//! PostgreSQL's logical replication. One server publishes; of another, each database subscribes. A commit comes back
//! when all subscribers have flushed it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{task::JoinSet, time::sleep};
use tokio_postgres::{Client, NoTls};

use crate::{
    ITEM_BYTES, item,
    journey::Amount,
    meter::{self, Meter, Numbers, percentile},
};

const INSTALLED: &str = "/usr/lib/postgresql";
const USER: &str = "bench";
/// Who it runs as where we are root, which it refuses: nobody.
const NOBODY: u32 = 65_534;
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(3);
const PACE: Duration = Duration::from_millis(25);
const COMPARED: usize = 3;
/// Connections that commit at a time: one commits no more than one after the other.
const WRITERS: usize = 16;
const AT_ONCE: usize = 1_000;

/// Where its programs are.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir(INSTALLED).context("PostgreSQL is not installed (package postgresql)")?;
    let mut programs: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    programs.sort();
    programs.pop().context("PostgreSQL is not installed (package postgresql)")
}

pub(crate) fn check() -> anyhow::Result<Numbers> {
    programs()?;
    Ok(Numbers::default())
}

/// One of its programs, as somebody that it runs as.
fn program(name: &str) -> anyhow::Result<Command> {
    let path = programs()?.join(name);
    let mut command = if is_root()? {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups").arg(path);
        command
    } else {
        Command::new(path)
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

fn is_root() -> anyhow::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// A server of our own; it ends when this goes.
struct Server {
    dir: PathBuf,
    port: u16,
}

impl Server {
    fn start(dir: &Path, settings: &str) -> anyhow::Result<Self> {
        let initdb = program("initdb")?.arg("-D").arg(dir).args(["-U", USER, "-A", "trust", "--no-sync"]).status()?;
        ensure!(initdb.success(), "initdb failed: {initdb}");
        let port = meter::free_port()?;
        let mut config = OpenOptions::new().append(true).open(dir.join("postgresql.conf"))?;
        writeln!(config, "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''")?;
        writeln!(config, "shared_buffers = 256MB\n{settings}")?;
        let log = dir.join("log");
        let started = program("pg_ctl")?.arg("-D").arg(dir).arg("-l").arg(&log).args(["-w", "start"]).status()?;
        ensure!(started.success(), "PostgreSQL did not start: {}", fs::read_to_string(log).unwrap_or_default());
        Ok(Self { dir: dir.to_owned(), port })
    }

    async fn connect(&self, database: &str) -> anyhow::Result<Client> {
        let Self { port, .. } = self;
        let settings = format!("host=127.0.0.1 port={port} user={USER} dbname={database}");
        let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut stop) = program("pg_ctl") {
            // Whether it stopped nobody can act on any more.
            let _ = stop.arg("-D").arg(&self.dir).args(["-m", "immediate", "stop"]).status();
        }
    }
}

/// Two servers and where they keep everything: the one that publishes, and the one whose databases subscribe.
struct Pair {
    holder: Server,
    comer: Server,
    _dir: tempfile::TempDir,
}

impl Pair {
    /// Beside the directory that others use, which who it runs as may not enter.
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        if is_root()? {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let publishing = "wal_level = logical\nmax_wal_senders = 80\nmax_replication_slots = 80";
        let subscribing = "max_logical_replication_workers = 80\nmax_worker_processes = 100\n\
                           max_replication_slots = 80\nmax_sync_workers_per_subscription = 1";
        let holder = Server::start(&dir.path().join("holder"), publishing)?;
        let comer = Server::start(&dir.path().join("comer"), subscribing)?;
        Ok(Self { holder, comer, _dir: dir })
    }

    /// What a subscriber says of where the publisher is.
    fn origin(&self) -> String {
        format!("host=127.0.0.1 port={} user={USER} dbname=postgres", self.holder.port)
    }
}

async fn until(client: &Client, question: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    while !client.query_one(question, &[]).await?.get::<_, bool>(0) {
        ensure!(start.elapsed() < PATIENCE, "it never came to this: {question}");
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

const TABLE: &str = "create table items (id bigint primary key, body bytea not null)";

pub(crate) async fn sync(items: u64) -> anyhow::Result<Numbers> {
    let pair = Pair::start()?;
    let (holder, comer) = (pair.holder.connect("postgres").await?, pair.comer.connect("postgres").await?);
    holder.batch_execute(TABLE).await?;
    comer.batch_execute(TABLE).await?;
    let insert = "insert into items select * from unnest($1::bigint[], $2::bytea[])";
    let numbers: Vec<u64> = (0..items).collect();
    for group in numbers.chunks(AT_ONCE) {
        let ids: Vec<i64> = group.iter().map(|number| *number as i64).collect();
        let bodies: Vec<Vec<u8>> = group.iter().map(|number| item(*number)).collect();
        holder.execute(insert, &[&ids, &bodies]).await?;
    }
    holder.batch_execute("checkpoint; create publication everything for table items").await?;
    let meter = Meter::start()?;
    let subscribe = format!("create subscription copy connection '{}' publication everything", pair.origin());
    comer.batch_execute(&subscribe).await?;
    until(&comer, "select count(*) = 1 from pg_subscription_rel where srsubstate in ('r', 's')").await?;
    let caught_up = meter.read()?;
    let came: i64 = comer.query_one("select count(*) from items", &[]).await?.get(0);
    ensure!(came as u64 == items, "of {items} {came} came");
    let mut compared = Vec::new();
    for _ in 0..COMPARED {
        comer.batch_execute("alter subscription copy disable").await?;
        until(&holder, "select count(*) = 0 from pg_stat_replication").await?;
        let meter = Meter::start()?;
        comer.batch_execute("alter subscription copy enable").await?;
        let through = "select count(*) = 1 from pg_stat_replication \
                       where application_name = 'copy' and state = 'streaming' and replay_lsn >= sent_lsn";
        until(&holder, through).await?;
        compared.push(meter.read()?.0);
    }
    Ok(meter::synced(caught_up, compared))
}

pub(crate) async fn publish(amount: Amount) -> anyhow::Result<Numbers> {
    let pair = Pair::start()?;
    let (holder, comer) = (pair.holder.connect("postgres").await?, pair.comer.connect("postgres").await?);
    holder.batch_execute(TABLE).await?;
    holder.batch_execute("create publication everything for table items").await?;
    let mut names = Vec::new();
    for number in 0..amount.receivers {
        let name = format!("receiver{number}");
        comer.batch_execute(&format!("create database {name}")).await?;
        let database = pair.comer.connect(&name).await?;
        database.batch_execute(TABLE).await?;
        let subscribe = format!(
            "create subscription {name} connection '{}' publication everything \
             with (copy_data = false, synchronous_commit = on)",
            pair.origin(),
        );
        database.batch_execute(&subscribe).await?;
        names.push(name);
    }
    let all = format!("alter system set synchronous_standby_names = '{} ({})'", names.len(), names.join(","));
    sleep(SETTLED).await;
    holder.batch_execute(&all).await?;
    holder.batch_execute("select pg_reload_conf()").await?;
    sleep(SETTLED).await;
    let insert = "insert into items values ($1, $2)";
    let prepared = holder.prepare(insert).await?;
    let meter = Meter::start()?;
    let mut took = Vec::new();
    for number in 0..amount.paced {
        let start = Instant::now();
        holder.execute(&prepared, &[&(number as i64), &item(number)]).await?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        sleep(PACE).await;
    }
    let (_, bytes) = meter.read()?;
    took.sort_by(f64::total_cmp);
    let mut writers = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        let client = pair.holder.connect("postgres").await?;
        let prepared = client.prepare(insert).await?;
        clients.push((client, prepared));
    }
    let meter = Meter::start()?;
    for (place, (client, prepared)) in clients.into_iter().enumerate() {
        let numbers = (amount.paced..amount.paced + amount.sustained).skip(place).step_by(WRITERS);
        writers.spawn(async move {
            for number in numbers {
                client.execute(&prepared, &[&(number as i64), &item(number)]).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let (seconds, _) = meter.read()?;
    Ok(Numbers::from([
        ("p50_ms", percentile(&took, 50)),
        ("p99_ms", percentile(&took, 99)),
        ("wire_per_byte", bytes / (amount.paced as usize * amount.receivers * ITEM_BYTES) as f64),
        ("per_second", amount.sustained as f64 / seconds),
        // A commit that did not come to all does not come back.
        ("delivered_percent", 100.0),
    ]))
}
