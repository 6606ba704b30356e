//! Three circles with policies of their own.

use super::stage::{PARTNERS, Stage, name_of};

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
    let all: Vec<&str> = PARTNERS.iter().map(|(partner, _)| *partner).collect();
    found(stage, INFORMATION, "Informatiedeling voor het hele netwerk", "RED", &["sharing"], &all).await?;
    found(
        stage,
        HEALTH,
        "Dreigingen en incidenten in de zorg",
        "AMBER+STRICT",
        &["sharing", "incident"],
        &HEALTH_MEMBERS,
    )
    .await?;
    found(stage, PORT, "De haven", "AMBER", &["sharing", "knowledge"], &PORT_MEMBERS).await?;
    let mut wrong = Vec::new();
    for (partner, _) in PARTNERS {
        for (circle, members) in [(INFORMATION, all.as_slice()), (HEALTH, &HEALTH_MEMBERS), (PORT, &PORT_MEMBERS)] {
            if stage.is_in(partner, circle).await? != members.contains(&partner) {
                wrong.push(format!("{partner} in {circle}"));
            }
        }
    }
    let measured = if wrong.is_empty() { "27 of 27 answers".to_owned() } else { wrong.join(", ") };
    stage.check("every partner knows the circles it is in, and no others", measured, wrong.is_empty());
    Ok(())
}

/// Founds a circle with the first of the members as its steward, and waits until all are in it.
pub(super) async fn found(
    stage: &Stage,
    circle: &str,
    description: &str,
    ceiling: &str,
    purposes: &[&str],
    members: &[&str],
) -> anyhow::Result<()> {
    let (founder, others) = (members[0], &members[1..]);
    let mut arguments = vec!["circle", "create", circle];
    arguments.extend(others);
    arguments.extend(["--description", description, "--ceiling", ceiling, "--yes"]);
    purposes.iter().for_each(|purpose| arguments.extend(["--purpose", purpose]));
    Stage::cwn(Some(&stage.data(founder)), &arguments)?;
    for partner in members {
        stage.until(partner, &format!("it is in {circle}"), async |_| stage.is_in(partner, circle).await).await?;
    }
    let names: Vec<&str> = others.iter().map(|partner| name_of(partner)).collect();
    stage.say(&format!("{} founds {circle} (up to {ceiling}) with {}.", name_of(founder), names.join(", ")));
    Ok(())
}
