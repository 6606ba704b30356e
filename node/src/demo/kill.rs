//! A partner is lost in the middle of it, and comes back.

use super::{
    circles::{HEALTH, HEALTH_MEMBERS},
    stage::{Stage, entry},
};
use crate::api::types::Who;

const LOST: &str = "z-cert";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A partner is lost, and comes back");
    let before = stage.entries(LOST, None).await?.len();
    stage.kill(LOST)?;
    stage.say("Z-CERT's node is killed (kill -9).");
    let mut meanwhile = Vec::new();
    for number in 1..=3 {
        let title = format!("Terwijl Z-CERT weg is, {number}");
        meanwhile.push(stage.publish("ibd", &entry(HEALTH, "AMBER", &title, "De anderen gaan door.")).await?);
    }
    stage.say("IBD publishes three entries meanwhile.");
    let last = &meanwhile[2].reference;
    for partner in HEALTH_MEMBERS.iter().filter(|partner| **partner != LOST) {
        stage.has(partner, last).await?;
    }
    let who: Who = stage.client("ibd").get(&format!("/v1/entries/{last}/who")).await?;
    let unknown = who.nodes.iter().any(|line| line.partner == LOST && line.received.is_none());
    let measured = if unknown { "\"unknown\", since nothing was heard" } else { "something else" };
    stage.check("what is not known of the lost partner is said", measured, unknown);
    stage.start(LOST).await?;
    for published in &meanwhile {
        stage.has(LOST, &published.reference).await?;
    }
    let after = stage.entries(LOST, None).await?.len();
    let measured = format!("{before} entries before, {after} after; 3 were published meanwhile");
    stage.check("it has all it had, and catches up", measured, after == before + 3);
    let current = async |client: &crate::api::client::Client| {
        let status: crate::api::types::Status = client.get("/v1/status").await?;
        Ok(status.circles.iter().all(|circle| circle.current))
    };
    stage.until(LOST, "it is current in its circles", current).await?;
    let published = stage.publish(LOST, &entry(HEALTH, "AMBER", "Z-CERT is terug", "Alles ontvangen.")).await?;
    let mut read = 0;
    for partner in HEALTH_MEMBERS.iter().filter(|partner| **partner != LOST) {
        read += usize::from(stage.has(partner, &published.reference).await?.body.is_some());
    }
    stage.check("it is current again, and publishes", format!("{read} of 3 members read it"), read == 3);
    Ok(())
}
