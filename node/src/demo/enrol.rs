//! Every partner enrols for real: the coordinator by its own CA, one by files, one by hand, the others by
//! invitation.

use anyhow::Context;

use super::stage::{COORDINATOR, PARTNERS, Stage, name_of};

/// Its request is approved by a person, after a telephone call.
const BY_HAND: &str = "divd";
/// It may not connect out before it is a member.
const BY_FILES: &str = "nctv";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("Nine partners join");
    stage.credential("ca")?;
    stage.ca(&["init", "--name", "Cyberweerbaarheidsnetwerk (demo)"])?;
    stage.say("NCSC founds the network: a root document, an issuer, a CA that works without a network.");
    join_coordinator(stage)?;
    stage.start(COORDINATOR).await?;
    stage.say("NCSC's node runs, with the enrolment desk on a listener of its own.");
    for (partner, name) in PARTNERS.into_iter().filter(|(partner, _)| *partner != COORDINATOR) {
        let how = match partner {
            BY_HAND => join_by_hand(stage, partner, name).await?,
            BY_FILES => join_by_files(stage, partner, name)?,
            _ => join(stage, partner, name)?,
        };
        stage.say(&format!("{name} joins {how}"));
        stage.start(partner).await?;
    }
    let others = PARTNERS.len() - 1;
    let mut connected = 0;
    for (partner, _) in PARTNERS {
        let all = async |client: &crate::api::client::Client| {
            Ok(client.get::<crate::api::types::Status>("/v1/status").await?.peers == others)
        };
        stage.until(partner, &format!("it is connected with all {others} others"), all).await?;
        let status = stage.status(partner).await?;
        connected += usize::from(status.peers == others && status.certificate.standing == "valid");
    }
    let measured = format!("{connected} of {} nodes say so of themselves", PARTNERS.len());
    stage.check(
        "nine partners are certified and connected, each with all others",
        measured,
        connected == PARTNERS.len(),
    );
    Ok(())
}

fn join_coordinator(stage: &Stage) -> anyhow::Result<()> {
    let (ca, ca_credential) = (stage.path("ca"), stage.path("ca.credential"));
    let credential = stage.credential(COORDINATOR)?;
    let (listen, desk) = (Stage::free_address()?.to_string(), Stage::free_address()?.to_string());
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
        &listen,
        "--desk",
        &desk,
        "--accept-circles",
    ];
    Stage::cwn(Some(&stage.data(COORDINATOR)), &arguments).map(drop)
}

/// What `cwn join` is told by every partner.
fn arguments(stage: &Stage, partner: &str, invitation: &str) -> anyhow::Result<Vec<String>> {
    let credential = stage.credential(partner)?;
    let listen = Stage::free_address()?.to_string();
    let fixed = ["join", invitation, "--credential", &credential.to_string_lossy(), "--listen", &listen];
    Ok(fixed.into_iter().chain(["--accept-circles"]).map(str::to_owned).collect())
}

fn join(stage: &Stage, partner: &str, name: &str) -> anyhow::Result<&'static str> {
    let invitation = stage.ca(&["invite", partner, "--name", name])?;
    let arguments = arguments(stage, partner, &invitation)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Stage::cwn(Some(&stage.data(partner)), &arguments)?;
    Ok("by invitation, at the desk.")
}

async fn join_by_hand(stage: &Stage, partner: &str, name: &str) -> anyhow::Result<&'static str> {
    let invitation = stage.ca(&["invite", partner, "--name", name, "--manual"])?;
    let arguments = arguments(stage, partner, &invitation)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let joining = Stage::begin(Some(&stage.data(partner)), &arguments)?;
    stage
        .until(COORDINATOR, "the request waits at the desk", async |_| Ok(stage.ca(&["requests"])?.contains(partner)))
        .await?;
    stage.ca(&["approve", partner])?;
    let joined = tokio::task::spawn_blocking(move || joining.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&joined.stderr).into_owned();
    joined.status.success().then_some(()).with_context(|| said)?;
    Ok("by invitation, approved by hand after comparing the fingerprint.")
}

fn join_by_files(stage: &Stage, partner: &str, name: &str) -> anyhow::Result<&'static str> {
    let invitation = stage.ca(&["invite", partner, "--name", name])?;
    let (request, reply) = (stage.path("request.txt"), stage.path("reply.txt"));
    let (request, reply) = (request.to_string_lossy().into_owned(), reply.to_string_lossy().into_owned());
    let arguments = arguments(stage, partner, &invitation)?;
    let with = |flag: &str, file: &str| -> anyhow::Result<()> {
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend([flag, file]);
        Stage::cwn(Some(&stage.data(partner)), &all).map(drop)
    };
    with("--request", &request)?;
    stage.ca(&["approve", "--request", &request, "--out", &reply])?;
    with("--reply", &reply)?;
    Ok("with files: a request out, a reply back, no connection.")
}
