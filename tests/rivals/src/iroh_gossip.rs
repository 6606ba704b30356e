//! iroh-gossip: everybody in one topic. It stores nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, address_lookup::memory::MemoryLookup, endpoint::presets,
    protocol::Router,
};
use iroh_gossip::{api::Event, net::Gossip, proto::TopicId};
use tokio::time::sleep;

use crate::{
    journey::{self, Amount, Tracker},
    meter::{self, Numbers},
};

const TOPIC: [u8; 32] = [7; 32];
/// For the tree to settle.
const SETTLED: Duration = Duration::from_secs(4);

/// An endpoint on loopback alone: no relay, no discovery.
pub(crate) async fn endpoint(known: &MemoryLookup) -> anyhow::Result<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).clear_ip_transports();
    let endpoint = builder.bind_addr("127.0.0.1:0")?.address_lookup(known.clone()).bind().await?;
    known.add_endpoint_info(address(&endpoint)?);
    Ok(endpoint)
}

fn socket(endpoint: &Endpoint) -> anyhow::Result<SocketAddr> {
    endpoint.bound_sockets().first().copied().context("an endpoint without a socket")
}

/// Where an endpoint is.
pub(crate) fn address(endpoint: &Endpoint) -> anyhow::Result<EndpointAddr> {
    Ok(EndpointAddr::new(endpoint.id()).with_ip_addr(socket(endpoint)?))
}

/// One node; it ends when this goes.
struct Node {
    endpoint: Endpoint,
    gossip: Gossip,
    _router: Router,
}

async fn node(known: &MemoryLookup) -> anyhow::Result<Node> {
    let endpoint = endpoint(known).await?;
    let gossip = Gossip::builder().spawn(endpoint.clone());
    let router = Router::builder(endpoint.clone()).accept(iroh_gossip::ALPN, gossip.clone()).spawn();
    Ok(Node { endpoint, gossip, _router: router })
}

pub(crate) async fn publish(amount: Amount) -> anyhow::Result<Numbers> {
    let known = MemoryLookup::new();
    let topic = TopicId::from_bytes(TOPIC);
    let tracker = Tracker::new(amount.receivers);
    let first = node(&known).await?;
    let (sender, mut own) = first.gossip.subscribe(topic, Vec::new()).await?.split();
    tokio::spawn(async move { while own.next().await.is_some() {} });
    let mut others = Vec::new();
    for _ in 0..amount.receivers {
        let other = node(&known).await?;
        let mut joined = other.gossip.subscribe(topic, vec![first.endpoint.id()]).await?;
        joined.joined().await?;
        let (keep, mut events) = joined.split();
        let tracker = tracker.clone();
        tokio::spawn(async move {
            let _keep = keep;
            while let Some(event) = events.next().await {
                if let Ok(Event::Received(message)) = event {
                    tracker.arrived(&message.content);
                }
            }
        });
        others.push(other);
    }
    sleep(SETTLED).await;
    journey::publish(&tracker, amount, async |item| Ok(sender.broadcast(Bytes::from(item)).await?)).await
}

pub(crate) async fn idle(connections: usize, watched: Duration) -> anyhow::Result<Numbers> {
    let node = node(&MemoryLookup::new()).await?;
    let mut events = node.gossip.subscribe(TopicId::from_bytes(TOPIC), Vec::new()).await?;
    tokio::spawn(async move { while events.next().await.is_some() {} });
    let mut idlers = meter::idlers("iroh-gossip", connections, &socket(&node.endpoint)?.to_string())?;
    let _idlers = idlers.env(WHOM, node.endpoint.id().to_string()).spawn()?;
    sleep(SETTLED).await;
    meter::watch(std::process::id(), watched).await
}

/// The name of the one that is watched, which is dialled by its socket and its name.
const WHOM: &str = "CWN_RIVALS_WHOM";

pub(crate) async fn idlers(connections: usize) -> anyhow::Result<Numbers> {
    let whom: EndpointId = std::env::var(WHOM)?.parse()?;
    let known = MemoryLookup::new();
    known.add_endpoint_info(EndpointAddr::new(whom).with_ip_addr(meter::watched_one()?.parse()?));
    let mut nodes = Vec::new();
    for _ in 0..connections {
        let node = node(&known).await?;
        let mut events = node.gossip.subscribe(TopicId::from_bytes(TOPIC), vec![whom]).await?;
        events.joined().await?;
        tokio::spawn(async move { while events.next().await.is_some() {} });
        nodes.push(node);
    }
    std::future::pending().await
}
