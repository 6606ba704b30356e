//! Every partner enrols for real: the coordinator by its own CA, one by files, one by hand, the others by
//! invitation.

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::ChildStdout,
    time::timeout,
};

use super::{
    stage::{COORDINATOR, PARTNERS, PATIENCE, Stage, name_of},
    table::Tally,
};

/// Its request is approved by a person, after a telephone call.
const BY_HAND: &str = "divd";
/// It may not connect out before it is a member.
const BY_FILES: &str = "nctv";
/// It decides itself which of the circles it is offered it joins; the others join those of certified partners.
pub(super) const ASKS: &str = "msp-swv";
/// The system takes a free port.
const FREE_PORT: &str = "127.0.0.1:0";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("Nine partners join");
    stage.credential("ca")?;
    stage.ca(&["init", "--name", "Cyberweerbaarheidsnetwerk (demo)"]).await?;
    stage.say("NCSC founds the network: a root document, an issuer, a CA that works without a network.");
    join_coordinator(stage).await?;
    stage.start(COORDINATOR).await?;
    stage.say("NCSC's node runs, with the enrolment desk on a listener of its own.");
    for (partner, name) in PARTNERS.into_iter().filter(|(partner, _)| *partner != COORDINATOR) {
        let how = match partner {
            BY_HAND => join_by_hand(stage, partner, name).await?,
            BY_FILES => join_by_files(stage, partner, name).await?,
            _ => join(stage, partner, name).await?,
        };
        stage.say(&format!("{name} joins {how}"));
        stage.start(partner).await?;
    }
    let mut connected = Tally::default();
    for (partner, name) in PARTNERS {
        let status = stage.connected(partner, PARTNERS.len() - 1).await?;
        connected.count(name, status.certificate.standing == "valid" && status.partner == partner);
    }
    stage.check(
        "nine partners are certified and connected",
        "cwn status",
        connected.say("have a valid certificate and all eight others"),
        connected.all(),
    );
    Ok(())
}

async fn join_coordinator(stage: &Stage) -> anyhow::Result<()> {
    let (ca, ca_credential) = (stage.path("ca"), stage.path("ca.credential"));
    let credential = stage.credential(COORDINATOR)?;
    let arguments = [
        "join",
        "--ca",
        &ca.to_string_lossy(),
        "--ca-credential",
        &ca_credential.to_string_lossy(),
        "--partner",
        COORDINATOR,
        "--name",
        name_of(COORDINATOR),
        "--credential",
        &credential.to_string_lossy(),
        "--listen",
        FREE_PORT,
        "--desk",
        FREE_PORT,
        "--accept-circles",
    ];
    Stage::cwn(Some(&stage.data(COORDINATOR)), &arguments).await.map(drop)
}

/// What `cwn join` is told by every partner.
fn arguments(stage: &Stage, partner: &str, invitation: &str) -> anyhow::Result<Vec<String>> {
    let credential = stage.credential(partner)?;
    let fixed = ["join", invitation, "--credential", &credential.to_string_lossy(), "--listen", FREE_PORT];
    let accepts = (partner != ASKS).then_some("--accept-circles");
    Ok(fixed.into_iter().chain(accepts).map(str::to_owned).collect())
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

async fn join(stage: &Stage, partner: &str, name: &str) -> anyhow::Result<&'static str> {
    let invitation = stage.ca(&["invite", partner, "--name", name]).await?;
    let arguments = arguments(stage, partner, &invitation)?;
    Stage::cwn(Some(&stage.data(partner)), &words(&arguments)).await?;
    Ok("by invitation, at the desk.")
}

async fn join_by_hand(stage: &mut Stage, partner: &str, name: &str) -> anyhow::Result<&'static str> {
    let invitation = stage.ca(&["invite", partner, "--name", name, "--manual"]).await?;
    let arguments = arguments(stage, partner, &invitation)?;
    let mut joining = Stage::begin(Some(&stage.data(partner)), &words(&arguments))?;
    let out = joining.stdout.take().context("what the joining prints cannot be read")?;
    let mut out = BufReader::new(out).lines();
    let shown = timeout(PATIENCE, fingerprint(&mut out)).await;
    let at_home = shown.context("cwn join showed no fingerprint")??;
    let waits = "the request waits at the desk";
    let at_desk = stage
        .until(COORDINATOR, waits, async |_| {
            let requests = stage.ca(&["requests"]).await?;
            ensure!(requests.contains(partner), "{requests}");
            Ok(requests)
        })
        .await?;
    let same = !at_home.is_empty() && at_desk.contains(&at_home);
    let measured = if same { "the desk has the words that stand on DIVD's screen" } else { "other words at the desk" };
    stage.check("fingerprints are compared before an approval", "cwn ca requests", measured, same);
    stage.ca(&["approve", partner, "--yes"]).await?;
    let joined = timeout(PATIENCE, joining.wait_with_output()).await;
    let joined = joined.context("cwn join did not end after its approval")??;
    let said = String::from_utf8_lossy(&joined.stderr).into_owned();
    joined.status.success().then_some(()).with_context(|| said)?;
    Ok("by invitation, approved by hand after comparing the fingerprint.")
}

/// The fingerprint that `cwn join` shows before it asks: the one line that is set in. What it prints after that
/// stays to be read.
async fn fingerprint(out: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<String> {
    while let Some(line) = out.next_line().await? {
        if line.starts_with(' ') {
            return Ok(line.trim().to_owned());
        }
    }
    anyhow::bail!("the joining ended and showed no fingerprint")
}

async fn join_by_files(stage: &Stage, partner: &str, name: &str) -> anyhow::Result<&'static str> {
    let invitation = stage.ca(&["invite", partner, "--name", name]).await?;
    let (request, reply) = (stage.path("request.txt"), stage.path("reply.txt"));
    let (request, reply) = (request.to_string_lossy().into_owned(), reply.to_string_lossy().into_owned());
    let arguments = arguments(stage, partner, &invitation)?;
    let with = async |flag: &str, file: &str| {
        let mut all = words(&arguments);
        all.extend([flag, file]);
        Stage::cwn(Some(&stage.data(partner)), &all).await
    };
    with("--request", &request).await?;
    stage.ca(&["approve", "--request", &request, "--out", &reply, "--yes"]).await?;
    with("--reply", &reply).await?;
    Ok("with files: a request out, a reply back, no connection.")
}
