//! The coordinator goes away, and members go on.

use super::{
    circles::{INFORMATION, found},
    stage::{COORDINATOR, PARTNERS, Stage, entry},
};

const NEW_CIRCLE: &str = "onderwijs-en-gemeenten";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("The coordinator is off");
    stage.kill(COORDINATOR)?;
    stage.say("NCSC's node is gone, and with it the desk and the CA.");
    let published = stage
        .publish("divd", &entry(INFORMATION, "GREEN", "Scan van EdgeGate VPN", "1.204 systemen gevonden."))
        .await?;
    let others: Vec<&str> = PARTNERS.iter().map(|(partner, _)| *partner).filter(|p| *p != COORDINATOR).collect();
    let mut read = 0;
    for partner in &others {
        read += usize::from(stage.has(partner, &published.reference).await?.body.is_some());
    }
    stage.check(
        "sharing goes on without it",
        format!("{read} of {} partners read the entry", others.len()),
        read == others.len(),
    );
    let members = ["ibd", "surfcert", "divd"];
    found(stage, NEW_CIRCLE, "Gemeenten en onderwijs samen", "AMBER", &["sharing"], &members).await?;
    let published = stage.publish("surfcert", &entry(NEW_CIRCLE, "AMBER", "Eerste bericht", "Welkom.")).await?;
    let mut read = 0;
    for partner in members {
        read += usize::from(stage.has(partner, &published.reference).await?.body.is_some());
    }
    stage.check("a new circle is founded without it", format!("{read} of 3 members read its first entry"), read == 3);
    stage.start(COORDINATOR).await?;
    stage.say("NCSC comes back.");
    Ok(())
}
