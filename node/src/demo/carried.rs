//! A member whose line is cut takes part by file.

use super::{
    circles::INFORMATION,
    share::first,
    stage::{PARTNERS, Stage, entry},
    table::Tally,
};

/// The member whose line is cut.
pub(super) const APART: &str = "cert-wm";
const BY: &str = "ncsc";
/// Somebody of the same circle for whom the file is not.
const OTHER: &str = "ferm";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A node without a line takes part by file");
    stage.kill(APART).await?;
    stage.start_apart(APART).await?;
    stage.say("CERT-WM's line is cut: its node connects with nobody.");
    let body = "Versie 9.1.17 verhelpt het. Werk vandaag bij.";
    let published = stage.publish(BY, &entry(INFORMATION, "AMBER", "Update van EdgeGate VPN", body)).await?;
    for (partner, _) in others() {
        stage.has(partner, &published.reference).await?;
    }
    let lacked = stage.read(APART, &published.reference).await?.is_none();
    let file = export(stage, BY, APART).await?;
    stage.say("NCSC publishes an entry; all but CERT-WM have it. NCSC writes the circle to a file for CERT-WM.");
    import(stage, APART, &file).await?;
    let reads = stage.has(APART, &published.reference).await?.body.as_deref() == Some(body);
    let measured = match (lacked, reads) {
        (true, true) => "CERT-WM lacked it, took in the file, and reads its very text".to_owned(),
        _ => format!("lacked it before: {lacked}, reads it after: {reads}"),
    };
    stage.check("what was published arrives by file", "cwn export, cwn import", measured, lacked && reads);
    let refused = import(stage, OTHER, &file).await.err().map(|error| error.to_string());
    let holds = refused.as_ref().is_some_and(|reason| reason.contains("is not for this node"));
    let measured = match &refused {
        None => "FERM took it in".to_owned(),
        Some(_) if holds => "FERM, of the same circle, cannot open it".to_owned(),
        Some(reason) => first(reason).to_owned(),
    };
    stage.check("the file opens for whom it names alone", "cwn import", measured, holds);
    answer(stage).await
}

/// All but the one whose line is cut.
fn others() -> impl Iterator<Item = (&'static str, &'static str)> {
    PARTNERS.into_iter().filter(|(partner, _)| *partner != APART)
}

/// Writes the circle of all to a file for one partner.
pub(super) async fn export(stage: &Stage, from: &str, to: &str) -> anyhow::Result<String> {
    let file = stage.path(&format!("{from}-to-{to}.cwn")).to_string_lossy().into_owned();
    Stage::cwn(Some(&stage.data(from)), &["export", "--circle", INFORMATION, "--to", to, "--out", &file]).await?;
    Ok(file)
}

pub(super) async fn import(stage: &Stage, partner: &str, file: &str) -> anyhow::Result<()> {
    Stage::cwn(Some(&stage.data(partner)), &["import", file]).await.map(drop)
}

/// Its answer goes back the same way, and from there to all.
async fn answer(stage: &mut Stage) -> anyhow::Result<()> {
    let body = "Bijgewerkt op alle gemalen.";
    // A file makes nobody current, so that what is above GREEN would wait for the line.
    let published = stage.publish(APART, &entry(INFORMATION, "GREEN", "Antwoord van CERT-WM", body)).await?;
    let file = export(stage, APART, BY).await?;
    import(stage, BY, &file).await?;
    stage.say("CERT-WM answers, TLP:GREEN, and its file goes to NCSC.");
    let mut reads = Tally::default();
    for (partner, name) in others() {
        reads.count(name, stage.has(partner, &published.reference).await?.body.as_deref() == Some(body));
    }
    let measured = reads.say("others read it, NCSC by file, the rest from NCSC");
    stage.check("the answer goes back by file, and on to all", "cwn import, cwn read", measured, reads.all());
    let status = stage.status(APART).await?;
    let holds = status.offline && status.peers == 0 && status.handlers_built == 0;
    let measured =
        format!("it has {} peers, and built {} handlers since its start", status.peers, status.handlers_built);
    stage.check("CERT-WM's node connected with nobody meanwhile", "cwn status", measured, holds);
    Ok(())
}
