//! A stranger knocks, with a certificate of another network.

use anyhow::Context;

use super::{
    share::first,
    stage::{PARTNERS, Stage},
};
use crate::{
    api::types::{PeerView, RefusalView},
    config::{Bootstrap, Config, FILE},
    files,
};

const STRANGER: &str = "stranger";
/// Whom it dials.
pub(super) const KNOCKED_AT: &str = "ferm";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A stranger knocks");
    let (ca, credential) = (stage.path("other-ca"), stage.credential(STRANGER)?);
    let (ca, credential) = (ca.to_string_lossy().into_owned(), credential.to_string_lossy().into_owned());
    Stage::cwn(None, &["ca", "--dir", &ca, "--credential", &credential, "init", "--name", "Another network"]).await?;
    let data = stage.data(STRANGER);
    let join = ["join", "--ca", &ca, "--ca-credential", &credential, "--credential", &credential];
    let who = ["--partner", STRANGER, "--name", "A stranger"];
    Stage::cwn(Some(&data), &[join.as_slice(), &who].concat()).await?;
    // All connections of members are up, so that a handler that is built from here on is the stranger's.
    let before = stage.connected(KNOCKED_AT, PARTNERS.len() - 1).await?;
    let mut config = Config::load(&data)?;
    config.enrolment = None;
    let addresses = before.listening.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?;
    config.network.bootstrap = vec![Bootstrap { node: before.node.clone(), addresses }];
    files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?;
    stage.start(STRANGER).await?;
    stage.say("It has a valid certificate, of another network, and dials FERM.");
    let stranger = stage.status(STRANGER).await?;
    let refusal = stage
        .until(KNOCKED_AT, "it refused the stranger", async |client| {
            let refusals: Vec<RefusalView> = client.get("/v1/refusals").await?;
            let count = refusals.len();
            let of_stranger = refusals.into_iter().find(|one| one.node.as_deref() == Some(stranger.node.as_str()));
            of_stranger.with_context(|| format!("{count} refusals, none of the stranger"))
        })
        .await?;
    let holds = refusal.reason.contains("is for network") && refusal.reason.contains(&before.network);
    stage.check("the stranger is refused, with the reason", "cwn peers --refused", first(&refusal.reason), holds);
    let after = stage.status(KNOCKED_AT).await?;
    let peers: Vec<PeerView> = stage.client(KNOCKED_AT).get("/v1/peers").await?;
    let known = peers.iter().any(|peer| peer.node == stranger.node);
    let (built, more) = (after.handlers_built.saturating_sub(before.handlers_built), after.peers != before.peers);
    let measured =
        format!("FERM built {built} handlers, and has {} peers as before it had {}", after.peers, before.peers);
    stage.check("nothing of the mesh ran for it", "cwn status --json", measured, built == 0 && !known && !more);
    let learnt = stage.status(STRANGER).await?;
    let nothing = learnt.peers == 0 && learnt.circles.is_empty() && learnt.offers.is_empty();
    let measured =
        format!("it has {} peers, {} circles, {} offers", learnt.peers, learnt.circles.len(), learnt.offers.len());
    stage.check("the stranger learnt nothing", "cwn status", measured, nothing);
    stage.kill(STRANGER).await
}
