//! A member is removed from a circle: what comes after stays closed to it.

use anyhow::ensure;

use super::{
    circles::{INFORMATION, PORT, PORT_MEMBERS},
    share::first,
    stage::{Stage, entry, name_of},
    table::Tally,
};

const STEWARD: &str = "ferm";
const REMOVED: &str = "cert-wm";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A member is removed");
    let before = stage.references(REMOVED, Some(PORT)).await?;
    Stage::cwn(Some(&stage.data(STEWARD)), &["circle", "remove", PORT, REMOVED, "--yes"]).await?;
    stage.say("FERM removes CERT-WM from haven, and publishes an entry there.");
    stage
        .until(REMOVED, "it knows that it was removed", async |_| {
            ensure!(!stage.is_in(REMOVED, PORT).await?, "it counts itself in");
            Ok(())
        })
        .await?;
    let body = "Vertrouwelijk.";
    let published = stage.publish(STEWARD, &entry(PORT, "AMBER", "Alleen voor wie er nog bij is", body)).await?;
    let mut reads = Tally::default();
    for partner in PORT_MEMBERS.into_iter().filter(|partner| *partner != REMOVED) {
        let entry = stage.has(partner, &published.reference).await?;
        reads.count(name_of(partner), entry.body.as_deref() == Some(body));
    }
    let measured = reads.say("remaining members read a new entry");
    stage.check("those who remain read what comes after", "cwn read", measured, reads.all());
    // FERM's next entry goes to all. Once the removed has that, it would have had the other too.
    let next = entry(INFORMATION, "GREEN", "De havenkring is gewijzigd", "CERT-WM doet niet meer mee in de haven.");
    let next = stage.publish(STEWARD, &next).await?;
    stage.has(REMOVED, &next.reference).await?;
    let closed = stage.read(REMOVED, &published.reference).await?;
    let sees = match &closed {
        None => "this one never did".to_owned(),
        Some(entry) if entry.body.is_none() => format!("this one came sealed ({})", entry.summary.state),
        Some(_) => "it reads this one".to_owned(),
    };
    let closed = closed.is_none_or(|entry| entry.body.is_none() && entry.summary.title.is_none());
    let measured = format!("what FERM wrote next arrived, {sees}");
    stage.check("what comes after stays closed to the removed", "cwn list haven", measured, closed);
    let after = stage.references(REMOVED, Some(PORT)).await?;
    let kept = before.intersection(&after).count();
    let measured = format!("{kept} of {} entries from before are still listed", before.len());
    stage.check("the removed keeps what it had", "cwn list haven", measured, kept == before.len() && kept > 0);
    let refused = stage.refused(REMOVED, &entry(PORT, "GREEN", "Ik ben er nog", "Of toch niet.")).await;
    let holds = refused.as_ref().is_ok_and(|reason| reason.contains("no longer belongs to the circle"));
    let measured = refused.map_or_else(|instead| instead, |reason| format!("refused: {}", first(&reason)));
    stage.check("the removed can no longer publish there", "cwn publish haven", measured, holds);
    Ok(())
}
