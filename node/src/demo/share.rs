//! Real documents in the circles: who reads what, and who cannot.

use anyhow::Context;

use super::{
    circles::{HEALTH, HEALTH_MEMBERS, INFORMATION, PORT, PORT_MEMBERS},
    stage::{PARTNERS, Stage, entry, name_of},
};
use crate::api::types::{Uploaded, Who};

const ADVISORY: &str = include_str!("../../../configs/demo/advisory.md");
const INDICATORS: &str = include_str!("../../../configs/demo/indicators.md");
const ANALYSIS: &str = include_str!("../../../configs/demo/analysis.md");
const SECRET: &str = include_str!("../../../configs/demo/red.md");

/// The attachment: ten megabytes and a little, so that the last part is not a whole one.
const ATTACHMENT_BYTES: usize = 10 * 1_000_000 + 321;
const ATTACHMENT: &str = "netwerkverkeer.pcap";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("Documents are shared, each as far as it may go");
    let all: Vec<&str> = PARTNERS.iter().map(|(partner, _)| *partner).collect();
    advisory(stage, &all).await?;
    inside(stage, "z-cert", HEALTH, "AMBER+STRICT", "Indicatoren bij EdgeGate VPN", INDICATORS, &HEALTH_MEMBERS)
        .await?;
    inside(stage, "cert-wm", PORT, "GREEN", "Analyse: waarom de zorg en de haven", ANALYSIS, &PORT_MEMBERS).await?;
    red(stage).await?;
    attachment(stage).await?;
    above_the_ceiling(stage).await
}

async fn advisory(stage: &mut Stage, all: &[&str]) -> anyhow::Result<()> {
    let advisory = entry(INFORMATION, "AMBER", "Actief misbruik van EdgeGate VPN", ADVISORY);
    let published = stage.publish("ncsc", &advisory).await?;
    stage.say("NCSC publishes an advisory, TLP:AMBER, to the whole network.");
    let mut read = 0;
    for partner in all {
        let entry = stage.has(partner, &published.reference).await?;
        read += usize::from(entry.body.as_deref() == Some(ADVISORY));
    }
    let measured = format!("{read} of {} partners have the very text", all.len());
    stage.check("the advisory is read by all", measured, read == all.len());
    let path = format!("/v1/entries/{}/who", published.reference);
    let received = |who: &Who| who.nodes.iter().filter(|line| line.received.is_some()).count();
    let others = all.len() - 1;
    stage
        .until("ncsc", "all others say they received it", async |client| {
            Ok(received(&client.get::<Who>(&path).await?) == others)
        })
        .await?;
    let who: Who = stage.client("ncsc").get(&path).await?;
    let count = received(&who);
    stage.check(
        "its author knows who has received it",
        format!("{count} of {others}, signed by each"),
        count == others,
    );
    Ok(())
}

/// Something inside a circle: its members read it, everybody else has nothing of it.
async fn inside(
    stage: &mut Stage,
    author: &str,
    circle: &str,
    tlp: &str,
    title: &str,
    body: &str,
    members: &[&str],
) -> anyhow::Result<()> {
    let published = stage.publish(author, &entry(circle, tlp, title, body)).await?;
    stage.say(&format!("{} publishes {title:?}, TLP:{tlp}, in {circle}.", name_of(author)));
    let (mut read, mut strangers) = (0, 0);
    for partner in members {
        let entry = stage.has(partner, &published.reference).await?;
        read += usize::from(entry.body.as_deref() == Some(body));
    }
    for (partner, _) in PARTNERS.iter().filter(|(partner, _)| !members.contains(partner)) {
        let absent = stage.read(partner, &published.reference).await?.is_none();
        let knows = stage.status(partner).await?.circles.iter().any(|summary| summary.name == circle);
        strangers += usize::from(absent && !knows);
    }
    let outside = PARTNERS.len() - members.len();
    let measured = format!("{read} of {} members read it, {strangers} of {outside} others have nothing", members.len());
    stage.check(
        &format!("what is shared in {circle} stays there"),
        measured,
        read == members.len() && strangers == outside,
    );
    Ok(())
}

async fn red(stage: &mut Stage) -> anyhow::Result<()> {
    let to = ["z-cert", "ferm"];
    let mut secret = entry(INFORMATION, "RED", "Vertrouwelijk: de leverancier", SECRET);
    secret.to = to.iter().map(|partner| (*partner).to_owned()).collect();
    let published = stage.publish("ncsc", &secret).await?;
    stage.say("NCSC publishes a TLP:RED entry in the same circle, for Z-CERT and FERM alone.");
    let (mut read, mut sealed, mut listed) = (0, 0, 0);
    for (partner, _) in PARTNERS.iter().filter(|(partner, _)| *partner != "ncsc") {
        let entry = stage.has(partner, &published.reference).await?;
        let opens = entry.body.as_deref() == Some(SECRET);
        if to.contains(partner) {
            read += usize::from(opens);
        } else {
            let closed = entry.body.is_none() && entry.summary.title.is_none() && entry.summary.state == "not_for_us";
            sealed += usize::from(closed);
        }
        let list = stage.entries(partner, None).await?;
        listed += list.iter().filter(|line| line.title.as_deref() == Some("Vertrouwelijk: de leverancier")).count();
    }
    let others = PARTNERS.len() - 1 - to.len();
    let measured = format!("{read} of 2 addressees read it, for {sealed} of {others} others it stays sealed");
    stage.check("RED is read by its addressees and by nobody else", measured, read == 2 && sealed == others);
    stage.check("no list shows anything of RED", format!("its title stands in {listed} lists"), listed == 0);
    Ok(())
}

async fn attachment(stage: &mut Stage) -> anyhow::Result<()> {
    let file = stage.path(ATTACHMENT);
    let mut bytes = Vec::with_capacity(ATTACHMENT_BYTES);
    // Not random, so that it is the same file in every run; not regular, so that nothing can compress it away.
    let mut hash = blake3::hash(b"cwn demo");
    while bytes.len() < ATTACHMENT_BYTES {
        bytes.extend_from_slice(hash.as_bytes());
        hash = blake3::hash(hash.as_bytes());
    }
    bytes.truncate(ATTACHMENT_BYTES);
    std::fs::write(&file, &bytes)?;
    let path = format!("/v1/attachments?circle={HEALTH}&name={ATTACHMENT}");
    let uploaded: Uploaded = stage.client("surfcert").upload(&path, &file, |_| {}).await?;
    let mut with_file = entry(HEALTH, "AMBER", "Netwerkverkeer van de aanval", "Zie de bijlage.");
    with_file.attachments.push(uploaded.id);
    let published = stage.publish("surfcert", &with_file).await?;
    stage.say("SURFcert attaches ten megabytes of network traffic.");
    let mut same = 0;
    for partner in HEALTH_MEMBERS.iter().filter(|partner| **partner != "surfcert") {
        let here = async |client: &crate::api::client::Client| {
            let path = format!("/v1/entries/{}", published.reference);
            let entry: crate::api::types::EntryDetail = client.get(&path).await?;
            Ok(entry.attached.iter().all(|one| one.chunks_here == one.chunks))
        };
        stage.until(partner, "the attachment has arrived", here).await?;
        let saved = stage.path(&format!("{partner}-{ATTACHMENT}"));
        let out = saved.to_string_lossy().into_owned();
        Stage::cwn(Some(&stage.data(partner)), &["save", &published.reference, "--out", &out])?;
        let read = std::fs::read(&saved).with_context(|| out)?;
        same += usize::from(blake3::hash(&read) == blake3::hash(&bytes));
    }
    stage.check(
        "an attachment of 10 MB arrives whole",
        format!("{same} of 3 partners saved the same BLAKE3"),
        same == 3,
    );
    Ok(())
}

async fn above_the_ceiling(stage: &mut Stage) -> anyhow::Result<()> {
    let too_narrow = entry(PORT, "AMBER+STRICT", "Te vertrouwelijk voor deze kring", "");
    let refused = stage.publish("ferm", &too_narrow).await.err().map(|error| format!("{error:#}"));
    let said = refused.as_deref().is_some_and(|why| why.contains("above what this circle carries"));
    stage.check(
        "what is marked above a circle's ceiling is not sent",
        if said { "refused, with the reason" } else { "sent" },
        said,
    );
    Ok(())
}
