//! The coordinator goes away, and members go on.

use anyhow::Context;
use tokio::net::TcpStream;

use super::{
    circles::{INFORMATION, found},
    stage::{COORDINATOR, PARTNERS, Stage, entry, name_of},
    table::Tally,
};
use crate::{api::types::Status, config::Config};

const NEW_CIRCLE: &str = "onderwijs-en-gemeenten";
const NEW_MEMBERS: [&str; 3] = ["ibd", "surfcert", "divd"];

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("The coordinator is off");
    let config = Config::load(&stage.data(COORDINATOR))?;
    let desk = config.enrolment.context("the coordinator has no desk")?.listen;
    stage.kill(COORDINATOR).await?;
    let mut without = Tally::default();
    for (partner, name) in PARTNERS.into_iter().filter(|(partner, _)| *partner != COORDINATOR) {
        let status = stage.connected(partner, PARTNERS.len() - 2).await?;
        without.count(name, status.peers == PARTNERS.len() - 2);
    }
    let answers =
        stage.client(COORDINATOR).get::<Status>("/v1/status").await.err().map(|error| error.code().to_owned());
    let closed = TcpStream::connect(&desk).await.is_err();
    let gone = answers.as_deref() == Some("no_daemon") && closed && without.all();
    let measured = if gone {
        "no daemon, no desk, and no connection of any of eight others".to_owned()
    } else {
        format!("desk closed: {closed}, {}", without.say("are not connected with it"))
    };
    stage.check("NCSC's node and its desk are off", "cwn peers", measured, gone);
    let body = "1.204 systemen gevonden.";
    let scan = stage.publish("divd", &entry(INFORMATION, "GREEN", "Scan van EdgeGate VPN", body)).await?;
    let mut reads = Tally::default();
    for (partner, name) in PARTNERS.into_iter().filter(|(partner, _)| *partner != COORDINATOR) {
        reads.count(name, stage.has(partner, &scan.reference).await?.body.as_deref() == Some(body));
    }
    stage.check(
        "sharing goes on without the coordinator",
        "cwn read",
        reads.say("partners read a new entry"),
        reads.all(),
    );
    let description = "Gemeenten en onderwijs samen";
    found(stage, NEW_CIRCLE, description, "AMBER", &["sharing"], &NEW_MEMBERS, &mut Tally::default()).await?;
    let welcome = stage.publish("surfcert", &entry(NEW_CIRCLE, "AMBER", "Eerste bericht", "Welkom.")).await?;
    let mut reads = Tally::default();
    for partner in NEW_MEMBERS {
        let entry = stage.has(partner, &welcome.reference).await?;
        reads.count(name_of(partner), entry.body.as_deref() == Some("Welkom."));
    }
    let measured = reads.say("members read its first entry");
    stage.check("a new circle is founded without the coordinator", "cwn circle show", measured, reads.all());
    stage.start(COORDINATOR).await?;
    stage.say("NCSC's node is started again.");
    let caught_up = stage.has(COORDINATOR, &scan.reference).await?.body.as_deref() == Some(body);
    stage.connected(COORDINATOR, PARTNERS.len() - 1).await?;
    let status = stage.status(COORDINATOR).await?;
    let outside = stage.read(COORDINATOR, &welcome.reference).await?.is_none()
        && status.circles.iter().all(|circle| circle.name != NEW_CIRCLE);
    let reads = if caught_up { "reads the scan" } else { "cannot read the scan" };
    let knows = if outside { "knows nothing of the new circle" } else { "knows the new circle" };
    let measured = format!("it {reads}, {knows}");
    stage.check("NCSC, back, catches up in its own circles alone", "cwn list", measured, caught_up && outside);
    Ok(())
}
