//! A second steward is appointed, goes on while the founder is away, and is dismissed.

use anyhow::ensure;

use super::{
    circles::PORT,
    share::first,
    stage::{Stage, entry, name_of},
    table::Tally,
};
use crate::api::types::{CircleDetail, Id, Membership};

const FOUNDER: &str = "ferm";
const SECOND: &str = "msp-swv";
const ADDED: &str = "divd";
/// Whom the dismissed steward removes, without knowing that it is none any more.
const AIMED_AT: &str = "ncsc";
const NOT_ADDED: &str = "surfcert";
/// Who is in the port circle when this chapter ends.
const MEMBERS: [&str; 4] = [FOUNDER, SECOND, ADDED, AIMED_AT];

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A second steward, and its dismissal");
    change(stage, FOUNDER, "appoint", SECOND).await?;
    stage
        .until(SECOND, "it is a steward", async |_| {
            ensure!(is_steward(&stage.circle(SECOND, PORT).await?, SECOND), "it is none");
            Ok(())
        })
        .await?;
    stage.kill(FOUNDER).await?;
    stage.say("FERM appoints MSP SWV a steward of haven, and is away: its node is off.");
    goes_on(stage).await?;
    stage.start(FOUNDER).await?;
    until_in(stage, FOUNDER, ADDED).await?;
    stage.say("FERM is back, and sees what was done meanwhile.");
    dismissed(stage).await
}

async fn change(stage: &Stage, steward: &str, verb: &str, partner: &str) -> anyhow::Result<()> {
    Stage::cwn(Some(&stage.data(steward)), &["circle", verb, PORT, partner, "--yes"]).await.map(drop)
}

fn is_in(circle: &CircleDetail, partner: &str) -> bool {
    circle.members.iter().any(|member| member.partner == partner)
}

fn is_steward(circle: &CircleDetail, partner: &str) -> bool {
    circle.members.iter().any(|member| member.partner == partner && member.steward.is_some())
}

async fn until_in(stage: &Stage, asked: &str, partner: &str) -> anyhow::Result<()> {
    let what = format!("it counts {} in {PORT}", name_of(partner));
    stage
        .until(asked, &what, async |_| {
            ensure!(is_in(&stage.circle(asked, PORT).await?, partner), "it does not");
            Ok(())
        })
        .await
}

/// The second steward adds a partner while the first is away.
async fn goes_on(stage: &mut Stage) -> anyhow::Result<()> {
    change(stage, SECOND, "add", ADDED).await?;
    until_in(stage, ADDED, ADDED).await?;
    until_in(stage, AIMED_AT, ADDED).await?;
    let body = "DIVD kijkt mee.";
    let published = stage.publish(AIMED_AT, &entry(PORT, "AMBER", "Welkom, DIVD", body)).await?;
    let reads = stage.has(ADDED, &published.reference).await?.body.as_deref() == Some(body);
    let measured = format!("DIVD is added, and {} what NCSC publishes", if reads { "reads" } else { "cannot read" });
    stage.check("a second steward acts while the founder is away", "cwn circle show haven", measured, reads);
    Ok(())
}

/// The founder dismisses it while its line is cut, and it acts on as if it were a steward still.
async fn dismissed(stage: &mut Stage) -> anyhow::Result<()> {
    stage.kill(SECOND).await?;
    stage.start_apart(SECOND).await?;
    change(stage, FOUNDER, "dismiss", SECOND).await?;
    change(stage, SECOND, "remove", AIMED_AT).await?;
    let acted = !is_in(&stage.circle(SECOND, PORT).await?, AIMED_AT);
    stage.say("MSP SWV's line is cut. FERM dismisses it; MSP SWV does not know, and removes NCSC.");
    stage.kill(SECOND).await?;
    stage.start(SECOND).await?;
    let set_aside = format!("remove {AIMED_AT}");
    let mut agree = Tally::default();
    for partner in MEMBERS {
        let circle = stage
            .until(partner, "it has heard of the dismissal, and of what came after", async |_| {
                let circle = stage.circle(partner, PORT).await?;
                ensure!(!is_steward(&circle, SECOND), "MSP SWV is a steward");
                ensure!(circle.voided.contains(&set_aside), "set aside: {:?}", circle.voided);
                Ok(circle)
            })
            .await?;
        let members = circle.members.len() == MEMBERS.len() && MEMBERS.iter().all(|member| is_in(&circle, member));
        agree.count(name_of(partner), members);
    }
    let measured = agree.say("members set it aside, and have NCSC in");
    stage.check(
        "what a dismissed steward then does is set aside",
        "cwn circle show haven",
        measured,
        acted && agree.all(),
    );
    let add = Membership { partner: NOT_ADDED.to_owned(), node: None };
    let answer = stage.client(SECOND).post::<_, Id>(&format!("/v1/circles/{PORT}/add"), &add).await;
    let holds = answer.as_ref().is_err_and(|error| error.code() == "refused");
    let measured = match answer {
        Ok(_) => "it added SURFcert".to_owned(),
        Err(error) => format!("refused: {}", first(&error.to_string())),
    };
    stage.check("a dismissed steward changes nothing any more", "cwn circle add haven", measured, holds);
    Ok(())
}
