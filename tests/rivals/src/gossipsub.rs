//! Gossipsub of rust-libp2p. It stores nothing. Everybody is connected to the one that publishes and to nobody else:
//! all-to-all it takes a quarter as many.

use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity},
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    journey::{self, Amount, Tracker},
    meter::{self, Numbers},
};

const SETTLED: Duration = Duration::from_secs(4);
const KEPT_OPEN: Duration = Duration::from_secs(3_600);
const WAITING: usize = 1_024;

fn topic() -> IdentTopic {
    IdentTopic::new("bench")
}

fn node() -> anyhow::Result<Swarm<gossipsub::Behaviour>> {
    let transport = SwarmBuilder::with_new_identity().with_tokio().with_tcp(
        tcp::Config::default().nodelay(true),
        noise::Config::new,
        yamux::Config::default,
    )?;
    let behaviour = transport.with_behaviour(|key| {
        gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), gossipsub::Config::default())
            .map_err(Into::into)
    })?;
    let mut node = behaviour.with_swarm_config(|config| config.with_idle_connection_timeout(KEPT_OPEN)).build();
    node.behaviour_mut().subscribe(&topic())?;
    Ok(node)
}

async fn listening(node: &mut Swarm<gossipsub::Behaviour>) -> anyhow::Result<Multiaddr> {
    node.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = node.select_next_some().await {
            return Ok(address);
        }
    }
}

/// Runs one that only receives.
fn receive(mut node: Swarm<gossipsub::Behaviour>, arrived: impl Fn(&[u8]) + Send + 'static) {
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) = node.select_next_some().await {
                arrived(&message.data);
            }
        }
    });
}

pub(crate) async fn publish(amount: Amount) -> anyhow::Result<Numbers> {
    let tracker = Tracker::new(amount.receivers);
    let mut first = node()?;
    let address = listening(&mut first).await?;
    for _ in 0..amount.receivers {
        let mut other = node()?;
        other.dial(address.clone())?;
        let tracker = tracker.clone();
        receive(other, move |item| tracker.arrived(item));
    }
    let (send, mut to_send) = mpsc::channel::<Vec<u8>>(WAITING);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                // One that is refused never arrives, and is counted so.
                Some(item) = to_send.recv() => drop(first.behaviour_mut().publish(topic(), item)),
                _ = first.select_next_some() => {}
            }
        }
    });
    sleep(SETTLED).await;
    journey::publish(&tracker, amount, async |item| send.send(item).await.context("the publisher ended")).await
}

pub(crate) async fn idle(connections: usize, watched: Duration) -> anyhow::Result<Numbers> {
    let mut node = node()?;
    let address = listening(&mut node).await?;
    receive(node, |_| {});
    let _idlers = meter::idlers("gossipsub", connections, &address.to_string())?.spawn()?;
    sleep(SETTLED).await;
    meter::watch(std::process::id(), watched).await
}

pub(crate) async fn idlers(connections: usize) -> anyhow::Result<Numbers> {
    let whom: Multiaddr = meter::watched_one()?.parse()?;
    for _ in 0..connections {
        let mut node = node()?;
        node.dial(whom.clone())?;
        receive(node, |_| {});
    }
    std::future::pending().await
}
