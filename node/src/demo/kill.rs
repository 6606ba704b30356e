//! A partner is lost in the middle of it, and comes back.

use std::collections::BTreeSet;

use anyhow::ensure;
use tokio::time::Instant;

use super::{
    circles::{HEALTH, HEALTH_MEMBERS},
    stage::{Stage, entry, name_of},
    table::Tally,
};
use crate::api::types::{Status, Who};

const LOST: &str = "z-cert";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A node is killed, and comes back");
    let before = stage.references(LOST, None).await?;
    stage.kill(LOST).await?;
    stage.say("Z-CERT's node is killed (kill -9).");
    let mut meanwhile = Vec::new();
    for number in 1..=3 {
        let title = format!("Terwijl Z-CERT weg is, {number}");
        let published = stage.publish("ibd", &entry(HEALTH, "AMBER", &title, "De anderen gaan door.")).await?;
        meanwhile.push(published.reference);
    }
    stage.say("IBD publishes three entries meanwhile.");
    let others: Vec<&str> = HEALTH_MEMBERS.into_iter().filter(|partner| *partner != LOST).collect();
    for partner in &others {
        stage.has(partner, &meanwhile[2]).await?;
    }
    let who: Who = stage.client("ibd").get(&format!("/v1/entries/{}/who", meanwhile[2])).await?;
    let unknown = who.nodes.iter().any(|line| line.partner == LOST && line.received.is_none() && !line.connected);
    let measured = if unknown { "of Z-CERT it says: unknown, not connected" } else { "it says otherwise of Z-CERT" };
    stage.check("IBD is told what is not known of the lost", "cwn who", measured, unknown);
    stage.start(LOST).await?;
    let back = Instant::now();
    stage.say("Z-CERT's node is started again, on the same directory.");
    for reference in &meanwhile {
        stage.has(LOST, reference).await?;
    }
    let after = stage.references(LOST, None).await?;
    let expected: BTreeSet<String> = before.iter().cloned().chain(meanwhile).collect();
    let measured = format!(
        "{} entries: {} of the {} from before, {} others",
        after.len(),
        before.intersection(&after).count(),
        before.len(),
        after.difference(&before).count()
    );
    stage.check("Z-CERT has all it had, and the three it missed", "cwn list", measured, after == expected);
    stage
        .until(LOST, "it is current in its circles", async |client| {
            let status: Status = client.get("/v1/status").await?;
            ensure!(status.circles.iter().any(|circle| circle.name == HEALTH), "it does not know {HEALTH}");
            let stale: Vec<&str> =
                status.circles.iter().filter(|circle| !circle.current).map(|circle| circle.name.as_str()).collect();
            ensure!(stale.is_empty(), "not in {}", stale.join(", "));
            Ok(())
        })
        .await?;
    let seconds = back.elapsed().as_secs_f32();
    let published = stage.publish(LOST, &entry(HEALTH, "AMBER", "Z-CERT is terug", "Alles ontvangen.")).await?;
    let mut reads = Tally::default();
    for partner in others {
        let entry = stage.has(partner, &published.reference).await?;
        reads.count(name_of(partner), entry.body.as_deref() == Some("Alles ontvangen."));
    }
    let measured = format!("after {seconds:.1} s; {}", reads.say("other members read what it publishes"));
    stage.check("Z-CERT is current again, and publishes", "cwn status, cwn read", measured, reads.all());
    Ok(())
}
