//! The coordinator's part of a daemon: the enrolment desk, the issuer's log, renewals.
//!
//! The CA's directory stays the CA's: every piece of work opens it, under its lock, and lets it go, so that
//! `cwn-ca` can be used beside the daemon.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use cwn_crypto::{PublicKey, authority::SignedRequest};
use cwn_engine::input::{Command, Input};
use tokio::{sync::Notify, task::JoinHandle, time::MissedTickBehavior};

use crate::{
    ca::{
        self,
        directory::{Admission, Ca, Follower, Mesh},
        root,
    },
    clock,
    config::Enrolment,
    enrolment::{self, Desk, Judge},
    keystore::{Keys, Typing, Unlock},
    network::Address,
    node::Node,
};

/// How often the issuer's log is looked at for what `cwn-ca` commands wrote.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How long the desk waits for the node to listen before it opens.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// How often certificates are looked at that may be due.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// The coordinator at work, while this lives.
#[derive(Debug)]
pub struct Coordinator {
    _desk: Desk,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the desk asks: the CA in this directory.
pub(crate) struct DeskJudge {
    pub(crate) dir: PathBuf,
    pub(crate) unlock: Unlock,
    /// Told when the issuer's log may have grown.
    pub(crate) wrote: Arc<Notify>,
}

impl Judge for DeskJudge {
    fn judge(&self, request: &SignedRequest) -> Result<Option<Admission>, String> {
        let judged = Ca::judge(&self.dir, &self.unlock, request, clock::now());
        if matches!(judged, Ok(Some(_))) {
            self.wrote.notify_one();
        }
        judged.map_err(|error| error.to_string())
    }
}

/// Starts it, where the configuration asks for it.
pub async fn start(node: &Arc<Node>, keys: &Keys) -> anyhow::Result<Option<Coordinator>> {
    let Some(config) = node.config.enrolment.clone() else { return Ok(None) };
    let credential = config.credential.as_deref().or(node.config.keys.credential.as_deref());
    let unlock = Unlock::find(credential, "the CA", Typing::Known)?;
    // Opened once at the start, so that a wrong credential is said now and not at the first request.
    drop(Ca::open(&config.ca, &unlock).context("the CA cannot be opened")?);
    let follower = Follower::new(&config.ca)?;
    let wrote = Arc::new(Notify::new());
    let judge = DeskJudge { dir: config.ca.clone(), unlock: unlock.clone(), wrote: Arc::clone(&wrote) };
    // Before the desk opens: whoever it admits is told whom to dial, and would else stand alone.
    let (dir, me, reachable) = (config.ca.clone(), node.me, reachable(node).await);
    let opened = unlock.clone();
    tokio::task::spawn_blocking(move || place(&mut Ca::open(&dir, &opened)?, me, reachable)).await??;
    let desk = enrolment::open_desk(&config.listen, &keys.signing, config.requests_per_minute, Arc::new(judge))
        .await
        .with_context(|| {
        format!("the enrolment desk cannot listen on {}: [enrolment] listen can name another", config.listen)
    })?;
    tracing::info!(address = %desk.address, "the enrolment desk is open");
    let addresses = if config.external.is_empty() { vec![desk.address.to_string()] } else { config.external.clone() };
    let tasks = vec![
        tokio::spawn(follow(Arc::clone(node), follower, Arc::clone(&wrote))),
        tokio::spawn(keep(Arc::clone(node), config, unlock, addresses, wrote)),
    ];
    Ok(Some(Coordinator { _desk: desk, tasks }))
}

/// Where this node can be reached: where its configuration says, else where it listens, once it does.
async fn reachable(node: &Node) -> Vec<String> {
    let network = &node.config.network;
    if !network.external.is_empty() {
        return network.external.iter().map(Address::to_string).collect();
    }
    if !network.listen.is_empty() {
        // A port that cannot be had is said by the network; the desk then opens all the same.
        let _ = tokio::time::timeout(LISTENS_WITHIN, node.connections.listens_somewhere()).await;
    }
    node.connections.listening()
}

/// Writes down where newcomers reach this node.
fn place(ca: &mut Ca, me: PublicKey, reachable: Vec<String>) -> Result<Mesh, ca::directory::Error> {
    let mut mesh = ca.mesh()?;
    mesh.nodes.retain(|(node, _)| *node != me);
    mesh.nodes.push((me, reachable));
    ca.set_mesh(&mesh)?;
    Ok(mesh)
}

/// Takes into the network circle what the issuer said.
async fn follow(node: Arc<Node>, mut follower: Follower, wrote: Arc<Notify>) {
    let mut every = tokio::time::interval(FOLLOW_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = wrote.notified() => {}
        }
        let read = tokio::task::spawn_blocking(move || {
            // In this order: what a new issuer says was written after the version that allows it.
            let news = follower.news();
            let root = follower.root();
            (follower, news, root)
        });
        let Ok((back, news, root)) = read.await else { return };
        follower = back;
        match root {
            Ok(None) => {}
            Ok(Some(root)) => {
                if let Some(end) = root::issuers_end(root.document(), clock::now()) {
                    tracing::warn!(%end, "the issuer's term ends; run `cwn ca issuer renew` and let the root keys sign");
                }
                if let Err(failure) = node.driver.command(Command::AdoptRoot { versions: root.chain().0 }).await {
                    tracing::error!(%failure, "the CA's root document was not adopted");
                }
            }
            Err(error) => tracing::error!(%error, "the CA's root document cannot be read"),
        }
        match news {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => {
                if node.driver.input(Input::Import { entries }).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "the issuer's log cannot be read"),
        }
    }
}

/// Says where newcomers find the network, renews what is due, and breaks a day's silence.
async fn keep(node: Arc<Node>, config: Enrolment, unlock: Unlock, desk: Vec<String>, wrote: Arc<Notify>) {
    let mut look = tokio::time::interval(FOLLOW_EVERY);
    let mut renew = tokio::time::interval(RENEW_EVERY);
    let mut said = Vec::new();
    loop {
        let renews = tokio::select! {
            _ = look.tick() => false,
            _ = renew.tick() => true,
        };
        let reachable = reachable(&node).await;
        if !renews && reachable == said {
            continue;
        }
        said.clone_from(&reachable);
        let (dir, unlock, desk, me) = (config.ca.clone(), unlock.clone(), desk.clone(), node.me);
        let work = move || {
            let mut ca = Ca::open(&dir, &unlock)?;
            let mesh = place(&mut ca, me, reachable)?;
            ca.set_mesh(&Mesh { desk: Some(me), desk_addresses: desk, ..mesh })?;
            let now = clock::now();
            let renewed = ca.renew_due(now)?;
            ca.nothing_else(now)?;
            Ok::<_, ca::directory::Error>(renewed)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(renewed)) => {
                if renewed > 0 {
                    tracing::info!(renewed, "certificates were renewed");
                }
                wrote.notify_one();
            }
            Ok(Err(error)) => tracing::error!(%error, "the CA could not be looked after"),
            Err(error) => tracing::error!(%error, "the CA could not be looked after"),
        }
    }
}
