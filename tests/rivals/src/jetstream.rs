//! NATS JetStream with its file store, as it comes: it does not flush each item. Subscribers keep nothing durably.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{AckPolicy, pull, push},
        stream::{self, StorageType, Stream},
    },
};
use futures::StreamExt;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::{
    item,
    journey::{self, Amount, Tracker},
    meter::{self, Meter, Numbers},
};

const SERVER: &str = "nats-server";
const SUBJECT: &str = "items";
const STARTED: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SETTLED: Duration = Duration::from_secs(2);
/// So many are sent before the first has been confirmed.
const UNCONFIRMED: usize = 1_000;
const AT_ONCE: usize = 2_000;
const WRITE_BYTES: usize = 256 << 10;
const COMPARED: usize = 5;

pub(crate) fn check() -> anyhow::Result<Numbers> {
    let version = std::process::Command::new(SERVER).arg("--version").stdout(Stdio::null()).status();
    version.context("nats-server is not installed (package nats-server)")?;
    Ok(Numbers::default())
}

/// A server of our own; it ends when this goes.
struct Server {
    process: Child,
    url: String,
}

async fn server(dir: &Path) -> anyhow::Result<Server> {
    let port = meter::free_port()?;
    let mut command = Command::new(SERVER);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    Ok(Server { process: command.spawn()?, url: format!("127.0.0.1:{port}") })
}

impl Server {
    async fn connect(&self) -> anyhow::Result<Client> {
        let start = Instant::now();
        loop {
            match async_nats::connect(&self.url).await {
                Ok(client) => return Ok(client),
                Err(error) if start.elapsed() > STARTED => return Err(error.into()),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }
}

async fn stream(client: &Client) -> anyhow::Result<Stream> {
    let config = stream::Config {
        name: "BENCH".into(),
        subjects: vec![SUBJECT.into()],
        storage: StorageType::File,
        ..Default::default()
    };
    Ok(jetstream::new(client.clone()).get_or_create_stream(config).await?)
}

pub(crate) async fn sync(dir: &Path, items: u64) -> anyhow::Result<Numbers> {
    let server = server(dir).await?;
    let client = server.connect().await?;
    let stream = stream(&client).await?;
    let context = jetstream::new(client.clone());
    let mut unconfirmed = VecDeque::new();
    for number in 0..items {
        unconfirmed.push_back(context.publish(SUBJECT, item(number).into()).await?);
        if unconfirmed.len() == UNCONFIRMED
            && let Some(oldest) = unconfirmed.pop_front()
        {
            oldest.await?;
        }
    }
    for one in unconfirmed {
        one.await?;
    }
    let config = pull::Config { durable_name: Some("comer".into()), ack_policy: AckPolicy::None, ..Default::default() };
    let consumer = stream.create_consumer(config).await?;
    let meter = Meter::start()?;
    let mut messages = consumer.stream().max_messages_per_batch(AT_ONCE).messages().await?;
    let mut file = BufWriter::with_capacity(WRITE_BYTES, File::create(dir.join("comer"))?);
    for _ in 0..items {
        file.write_all(&messages.next().await.context("the server ended")??.payload)?;
    }
    file.into_inner()?.sync_data()?;
    let caught_up = meter.read()?;
    let mut compared = Vec::new();
    for _ in 0..COMPARED {
        let meter = Meter::start()?;
        let fresh = server.connect().await?;
        let pending = jetstream::new(fresh).get_stream("BENCH").await?.consumer_info("comer").await?.num_pending;
        anyhow::ensure!(pending == 0, "{pending} never came");
        compared.push(meter.read()?.0);
    }
    Ok(meter::synced(caught_up, compared))
}

pub(crate) async fn publish(dir: &Path, amount: Amount) -> anyhow::Result<Numbers> {
    let server = server(dir).await?;
    let client = server.connect().await?;
    stream(&client).await?;
    let tracker = Tracker::new(amount.receivers);
    for number in 0..amount.receivers {
        let client = server.connect().await?;
        let config = push::Config {
            durable_name: Some(format!("receiver-{number}")),
            deliver_subject: format!("deliver.{number}"),
            ack_policy: AckPolicy::None,
            ..Default::default()
        };
        let consumer = stream(&client).await?.create_consumer(config).await?;
        let tracker = tracker.clone();
        let mut messages = consumer.messages().await?;
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                tracker.arrived(&message.payload);
            }
        });
    }
    sleep(SETTLED).await;
    let context = jetstream::new(client);
    // What confirms it is not waited for: the receivers are.
    journey::publish(&tracker, amount, async |item| Ok(drop(context.publish(SUBJECT, item.into()).await?))).await
}

pub(crate) async fn idle(dir: &Path, connections: usize, watched: Duration) -> anyhow::Result<Numbers> {
    let server = server(dir).await?;
    server.connect().await?;
    let _idlers = meter::idlers("jetstream", connections, &server.url)?.spawn()?;
    sleep(SETTLED).await;
    meter::watch(server.process.id().context("the server ended")?, watched).await
}

pub(crate) async fn idlers(connections: usize) -> anyhow::Result<Numbers> {
    let url = meter::watched_one()?;
    let mut kept = Vec::new();
    for _ in 0..connections {
        let client = async_nats::connect(&url).await?;
        let subscribed = client.subscribe(SUBJECT).await?;
        kept.push((client, subscribed));
    }
    std::future::pending().await
}
