//! A stranger knocks, with a certificate of another network.

use super::stage::Stage;
use crate::{
    api::types::{PeerView, RefusalView},
    config::{Bootstrap, Config, FILE},
    files,
};

const STRANGER: &str = "stranger";
const KNOCKED_AT: &str = "ferm";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A stranger knocks");
    let (ca, credential) = (stage.path("other-ca"), stage.credential(STRANGER)?);
    let (ca, credential) = (ca.to_string_lossy().into_owned(), credential.to_string_lossy().into_owned());
    Stage::cwn(None, &["ca", "--dir", &ca, "--credential", &credential, "init", "--name", "Another network"])?;
    let data = stage.data(STRANGER);
    let join = ["join", "--ca", &ca, "--ca-credential", &credential, "--credential", &credential];
    let who = ["--partner", "stranger", "--name", "A stranger"];
    Stage::cwn(Some(&data), &[join.as_slice(), &who].concat())?;
    let before = stage.status(KNOCKED_AT).await?;
    let mut config = Config::load(&data)?;
    config.enrolment = None;
    let addresses = before.listening.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?;
    config.network.bootstrap = vec![Bootstrap { node: before.node.clone(), addresses }];
    files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?;
    stage.start(STRANGER).await?;
    stage.say("It has a valid certificate, of another network, and dials FERM.");
    let stranger = stage.status(STRANGER).await?;
    let from_stranger = async |client: &crate::api::client::Client| {
        let refusals: Vec<RefusalView> = client.get("/v1/refusals").await?;
        Ok(refusals.iter().any(|refused| refused.node.as_deref() == Some(stranger.node.as_str())))
    };
    stage.until(KNOCKED_AT, "it refused the stranger", from_stranger).await?;
    let refusals: Vec<RefusalView> = stage.client(KNOCKED_AT).get("/v1/refusals").await?;
    let reason = refusals.iter().find(|refused| refused.node.as_deref() == Some(stranger.node.as_str()));
    let reason = reason.map(|refused| refused.reason.clone()).unwrap_or_default();
    stage.check("it is refused, with the reason", reason.clone(), reason.contains("network"));
    let after = stage.status(KNOCKED_AT).await?;
    let peers: Vec<PeerView> = stage.client(KNOCKED_AT).get("/v1/peers").await?;
    let known = peers.iter().any(|peer| peer.node == stranger.node);
    let handlers = after.handlers_built - before.handlers_built;
    let measured = format!("{handlers} handlers built, {} peers before and {} after", before.peers, after.peers);
    stage.check("nothing of the mesh ran for it", measured, handlers == 0 && !known && before.peers == after.peers);
    let learnt = stage.status(STRANGER).await?;
    let nothing = learnt.peers == 0 && learnt.circles.is_empty() && learnt.offers.is_empty();
    let measured = format!("{} peers, {} circles, {} offers", learnt.peers, learnt.circles.len(), learnt.offers.len());
    stage.check("it learnt nothing", measured, nothing);
    stage.kill(STRANGER)
}
