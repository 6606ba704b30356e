//! A node is lost, and comes back from a backup that is older than what happened since.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, ensure};

use super::{
    circles::{HEALTH, INFORMATION},
    stage::{Stage, entry, everybody, name_of},
    table::Tally,
};
use crate::api::types::EntryDetail;

const LOST: &str = "surfcert";
const STEWARD: &str = "z-cert";
const REMOVED: &str = "ibd";
/// Who is in the health circle when this chapter ends.
const REMAINING: [&str; 3] = [STEWARD, LOST, "ncsc"];

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A node is lost, and comes back from an old backup");
    let (data, backup) = (stage.data(LOST), stage.path("surfcert.backup"));
    let backup = backup.to_string_lossy().into_owned();
    let wrong = stage.publish(LOST, &entry(HEALTH, "AMBER", "Adres van de aanvaller", "198.51.100.7")).await?.reference;
    stage.has(STEWARD, &wrong).await?;
    Stage::cwn(Some(&data), &["backup", "--out", &backup]).await?;
    stage.say("SURFcert backs its node up while it runs.");
    let own = since_the_backup(stage, &wrong).await?;
    let before = stage.references(LOST, None).await?;
    stage.kill(LOST).await?;
    fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    stage.say("SURFcert's node is killed, and its directory is gone.");
    Stage::cwn(Some(&data), &["restore", &backup]).await?;
    stage.say("The backup is put back; the node starts while its line is still cut.");
    let in_backup = holds_back(stage, &wrong).await?;
    stage.start(LOST).await?;
    stage.say("Its line is up again.");
    knows_who_was_removed(stage).await?;
    has_everything(stage, &before, &own).await?;
    stays_retracted(stage, &wrong, in_backup).await?;
    forks_nothing(stage).await
}

/// What happens after the backup was taken: the reference of what the lost node itself wrote.
async fn since_the_backup(stage: &Stage, wrong: &str) -> anyhow::Result<String> {
    Stage::cwn(Some(&stage.data(LOST)), &["retract", wrong, "--reason", "Een ziekenhuis", "--yes"]).await?;
    retracted(stage, STEWARD, wrong).await?;
    let own = stage.publish(LOST, &entry(HEALTH, "AMBER", "Na de back-up", "Staat in geen back-up.")).await?;
    Stage::cwn(Some(&stage.data(STEWARD)), &["circle", "remove", HEALTH, REMOVED, "--yes"]).await?;
    for number in 1..=2 {
        let title = format!("Zonder IBD, {number}");
        let published = stage.publish(STEWARD, &entry(HEALTH, "AMBER", &title, "Voor wie er nog bij is.")).await?;
        stage.has(LOST, &published.reference).await?;
    }
    stage.has(STEWARD, &own.reference).await?;
    stage.say("Then SURFcert takes an entry back and publishes one; Z-CERT removes IBD from zorg and publishes two.");
    Ok(own.reference)
}

/// What a restored node does while it has heard nobody; and whether it still reads what was taken back since.
async fn holds_back(stage: &mut Stage, wrong: &str) -> anyhow::Result<bool> {
    stage.start_apart(LOST).await?;
    let reads = stage.has(LOST, wrong).await?.body.is_some();
    let counts = stage.circle(LOST, HEALTH).await?.members.iter().any(|member| member.partner == REMOVED);
    let mut at_once = entry(HEALTH, "AMBER", "Te vroeg", "Wie er nog bij is, weet deze node niet.");
    at_once.wait_seconds = None;
    let refused = stage.refused(LOST, &at_once).await;
    let holds = counts && refused.is_ok();
    let refused = refused.map_or_else(|instead| instead, |reason| format!("refused: {}", briefly(&reason)));
    let knows = if counts { "counts IBD in still" } else { "counts IBD out" };
    let measured = format!("{refused}; {knows}");
    stage.check("a restored node seals nothing before it hears others", "cwn publish zorg", measured, holds);
    stage.kill(LOST).await?;
    Ok(reads)
}

/// What happened, without whom it concerns and what to do.
fn briefly(reason: &str) -> &str {
    reason.split([':', ';']).next().unwrap_or(reason)
}

/// What it publishes next is sealed without the removed.
async fn knows_who_was_removed(stage: &mut Stage) -> anyhow::Result<()> {
    let body = "Wij zijn er weer.";
    let published = stage.publish(LOST, &entry(HEALTH, "AMBER", "SURFcert is terug", body)).await?;
    let sealed_to: BTreeSet<&str> = published.audience.partners.iter().map(String::as_str).collect();
    let mut reads = Tally::default();
    for partner in REMAINING {
        let entry = stage.has(partner, &published.reference).await?;
        reads.count(name_of(partner), entry.body.as_deref() == Some(body));
    }
    // The next entry goes to all. Once the removed has that, it would have had the other too.
    let next = entry(INFORMATION, "GREEN", "SURFcert is terug", "Hersteld uit een back-up.");
    let next = stage.publish(LOST, &next).await?;
    stage.has(REMOVED, &next.reference).await?;
    let closed = stage.read(REMOVED, &published.reference).await?.is_none_or(|entry| entry.body.is_none());
    let holds = sealed_to == BTreeSet::from(REMAINING) && reads.all() && closed;
    let names: Vec<&str> = sealed_to.iter().map(|partner| name_of(partner)).collect();
    let measured = format!(
        "sealed to {}; {}, {}",
        names.join(", "),
        reads.say("read it"),
        if closed { "IBD does not" } else { "and IBD too" }
    );
    stage.check("SURFcert knows who was removed before it seals", "cwn circle show zorg", measured, holds);
    Ok(())
}

/// What it had when it was lost is there again, its own entry that stood in no backup among it.
async fn has_everything(stage: &mut Stage, before: &BTreeSet<String>, own: &str) -> anyhow::Result<()> {
    let after = stage
        .until(LOST, "it has all it had", async |_| {
            let after = stage.references(LOST, None).await?;
            let missing = before.difference(&after).count();
            ensure!(missing == 0, "{missing} of {} are missing", before.len());
            Ok(after)
        })
        .await?;
    let kept = before.intersection(&after).count();
    let written = if after.contains(own) { "what it wrote after the backup too" } else { "not what it wrote itself" };
    let holds = kept == before.len() && after.contains(own);
    let measured = format!("{kept} of {} entries it had are there, {written}", before.len());
    stage.check("nothing that was acknowledged is lost", "cwn list", measured, holds);
    Ok(())
}

/// Waits until a node shows nothing of an entry but that it was taken back.
async fn retracted(stage: &Stage, partner: &str, reference: &str) -> anyhow::Result<EntryDetail> {
    stage
        .until(partner, "the entry is taken back", async |_| {
            let entry = stage.read(partner, reference).await?.context("it does not have it")?;
            ensure!(entry.summary.state == "retracted", "it is {}", entry.summary.state);
            Ok(entry)
        })
        .await
}

/// The backup has it still; what its author took back since then comes back from nowhere.
async fn stays_retracted(stage: &mut Stage, wrong: &str, in_backup: bool) -> anyhow::Result<()> {
    let mut gone = Tally::default();
    for partner in REMAINING {
        let entry = retracted(stage, partner, wrong).await?;
        gone.count(name_of(partner), entry.body.is_none() && entry.summary.title.is_none());
    }
    let had = if in_backup { "the backup had it" } else { "it was not in the backup" };
    let measured = format!("{had}; {}", gone.say("nodes show nothing of it"));
    stage.check("what was taken back since stays gone", "cwn read", measured, in_backup && gone.all());
    Ok(())
}

/// Everybody has by now what it wrote before the backup, after it, and after it came back.
async fn forks_nothing(stage: &mut Stage) -> anyhow::Result<()> {
    let mut none = Tally::default();
    for (circle, members) in [(HEALTH, REMAINING.to_vec()), (INFORMATION, everybody())] {
        for partner in members {
            let forks = stage.circle(partner, circle).await?.forks;
            none.count(&format!("{} in {circle}", name_of(partner)), forks.is_empty());
        }
    }
    let measured = none.say("answers of nodes about two circles name none");
    stage.check("nobody sees a fork of what it wrote", "cwn circle show", measured, none.all());
    Ok(())
}
