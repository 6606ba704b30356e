//! A member is removed from a circle: what comes after stays closed to it.

use super::{
    circles::PORT,
    stage::{Stage, entry},
};

const REMOVED: &str = "cert-wm";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A member is removed");
    let before = stage.entries(REMOVED, Some(PORT)).await?.len();
    Stage::cwn(Some(&stage.data("ferm")), &["circle", "remove", PORT, REMOVED, "--yes"])?;
    stage.say("FERM removes CERT-WM from the port circle.");
    stage.until(REMOVED, "it knows that it was removed", async |_| Ok(!stage.is_in(REMOVED, PORT).await?)).await?;
    let published =
        stage.publish("ferm", &entry(PORT, "AMBER", "Alleen voor wie er nog bij is", "Vertrouwelijk.")).await?;
    let members = ["ferm", "msp-swv", "ncsc"];
    let mut read = 0;
    for partner in members {
        read += usize::from(stage.has(partner, &published.reference).await?.body.is_some());
    }
    stage.check("those who remain read what comes after", format!("{read} of 3"), read == 3);
    let closed = stage.read(REMOVED, &published.reference).await?.is_none_or(|entry| entry.body.is_none());
    let kept = stage.entries(REMOVED, Some(PORT)).await?.len();
    let measured = format!(
        "it keeps the {kept} of {before} entries it had, and {}",
        if closed { "cannot read the new one" } else { "reads the new one" }
    );
    stage.check("what comes after stays closed to the removed", measured, closed && kept == before);
    let refused = stage.publish(REMOVED, &entry(PORT, "GREEN", "Ik ben er nog", "")).await.is_err();
    stage.check("the removed can no longer publish there", if refused { "refused" } else { "accepted" }, refused);
    Ok(())
}
