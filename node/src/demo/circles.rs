//! Three circles with policies of their own.

use anyhow::ensure;

use super::{
    enrol::ASKS,
    stage::{PARTNERS, Stage, everybody, name_of},
    table::Tally,
};

/// The network-wide information circle.
pub(super) const INFORMATION: &str = "informatiedeling";
/// The health circle.
pub(super) const HEALTH: &str = "zorg";
/// The port circle.
pub(super) const PORT: &str = "haven";

/// The members of the health circle, its founder first.
pub(super) const HEALTH_MEMBERS: [&str; 4] = ["z-cert", "ibd", "surfcert", "ncsc"];
/// The members of the port circle, its founder first.
pub(super) const PORT_MEMBERS: [&str; 4] = ["ferm", "cert-wm", "msp-swv", "ncsc"];

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("Three circles of trust");
    let all = everybody();
    let mut asked = Tally::default();
    let description = "Informatiedeling voor het hele netwerk";
    found(stage, INFORMATION, description, "RED", &["sharing"], &all, &mut asked).await?;
    let description = "Dreigingen en incidenten in de zorg";
    found(stage, HEALTH, description, "AMBER+STRICT", &["sharing", "incident"], &HEALTH_MEMBERS, &mut asked).await?;
    found(stage, PORT, "De haven", "AMBER", &["sharing", "knowledge"], &PORT_MEMBERS, &mut asked).await?;
    stage.check(
        "who wants to decide itself is asked first",
        "cwn circle accept",
        asked.say("circles were offers to MSP SWV until it said yes"),
        asked.all(),
    );
    let mut knows = Tally::default();
    for (partner, name) in PARTNERS {
        for (circle, members) in [(INFORMATION, all.as_slice()), (HEALTH, &HEALTH_MEMBERS), (PORT, &PORT_MEMBERS)] {
            let right = stage.is_in(partner, circle).await? == members.contains(&partner);
            knows.count(&format!("{name} about {circle}"), right);
        }
    }
    let measured = knows.say("answers of nine nodes about three circles are right");
    stage.check("each is in its circles and in no others", "cwn circle list", measured, knows.all());
    Ok(())
}

/// Founds a circle with the first of the members as its steward, and waits until all are in it. The one that
/// decides itself is counted in `asked`: right when the circle was an offer to it and no more until it accepted.
pub(super) async fn found(
    stage: &Stage,
    circle: &str,
    description: &str,
    ceiling: &str,
    purposes: &[&str],
    members: &[&str],
    asked: &mut Tally,
) -> anyhow::Result<()> {
    let (founder, others) = (members[0], &members[1..]);
    let mut arguments = vec!["circle", "create", circle];
    arguments.extend(others);
    arguments.extend(["--description", description, "--ceiling", ceiling, "--yes"]);
    purposes.iter().for_each(|purpose| arguments.extend(["--purpose", purpose]));
    Stage::cwn(Some(&stage.data(founder)), &arguments).await?;
    let (asks, joins): (Vec<&str>, Vec<&str>) = members.iter().partition(|partner| **partner == ASKS);
    // The others first: by then the one that asks had the time to join by itself, if it did that.
    for partner in &joins {
        joined(stage, partner, circle).await?;
    }
    for partner in asks {
        stage
            .until(partner, &format!("{circle} is offered to it"), async |_| {
                let status = stage.status(partner).await?;
                ensure!(status.offers.iter().any(|offer| offer.name == circle), "{} offers", status.offers.len());
                Ok(())
            })
            .await?;
        asked.count(circle, !stage.is_in(partner, circle).await?);
        Stage::cwn(Some(&stage.data(partner)), &["circle", "accept", circle]).await?;
        joined(stage, partner, circle).await?;
    }
    let names: Vec<&str> = others.iter().map(|partner| name_of(partner)).collect();
    stage.say(&format!("{} founds {circle} (up to {ceiling}) with {}.", name_of(founder), names.join(", ")));
    Ok(())
}

async fn joined(stage: &Stage, partner: &str, circle: &str) -> anyhow::Result<()> {
    stage
        .until(partner, &format!("it is in {circle}"), async |_| {
            ensure!(stage.is_in(partner, circle).await?, "it is not");
            Ok(())
        })
        .await
}
