//! Whoever has a member's key signs two entries for one place of its log, and gives one to each of two partners.
//!
//! No honest node does that, not even one that was restored or cloned: a log belongs to one start of one node. So
//! the demo does it itself, with the keys and a backup of a member, as a thief would.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, ensure};
use cwn_crypto::{
    Hash, PublicKey, Time,
    issuer_log::{CutLine, LogId},
    seal::{Age, Seal},
};
use cwn_engine::{
    log::{CircleId, Draft, Opening, Stored, Suite, Writer},
    store::{Read, Write},
};
use cwn_functions::{
    marking::Tlp,
    sharing::{Report, report_payload},
};

use super::{
    carried::{APART, export, import},
    circles::INFORMATION,
    stage::{PARTNERS, Stage, entry, name_of},
    table::Tally,
};
use crate::{
    clock,
    driver::random,
    keyring::Keyring,
    keystore::{Keys, Unlock},
    store::Store,
};

const ROBBED: &str = "msp-swv";
const STEWARD: &str = "ncsc";
/// Each copy of the robbed node, to whom it gives a file, and the number to call that stands in it.
const LIES: [(&str, &str, &str); 2] =
    [("thief-1", "ferm", "Bel voortaan 010 555 01 01."), ("thief-2", APART, "Bel voortaan 010 555 02 02.")];
const TITLE: &str = "Ons noodnummer is gewijzigd";
/// What stands before them in both copies. It is one entry, and stands: nobody can tell a thief's from a member's.
const BEFORE: (&str, &str) = ("Wij krijgen een nieuw noodnummer", "Het volgt vandaag.");
/// The place at which both lies stand, from 0.
const PLACE: u64 = 1;

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("A stolen key tells two partners two things");
    let honest = entry(INFORMATION, "GREEN", "Onderhoud op zaterdag", "Van 6 tot 8 uur.");
    let honest = stage.publish(ROBBED, &honest).await?;
    for (partner, _) in with_a_line() {
        stage.has(partner, &honest.reference).await?;
    }
    let circle = CircleId::from_hex(&honest.circle).context("a circle's id is none")?;
    break_in(stage, circle).await?;
    let [one, other] = spread(stage).await?;
    stage.start(ROBBED).await?;
    stage.kill(APART).await?;
    stage.start(APART).await?;
    stage.say("CERT-WM's line is up again, and so is MSP SWV's own node.");
    exposed(stage).await?;
    let listed = same_place(stage, &[&one, &other], &honest.reference).await?;
    remove(stage, &listed).await
}

/// All but the one whose line is cut.
fn with_a_line() -> impl Iterator<Item = (&'static str, &'static str)> {
    PARTNERS.into_iter().filter(|(partner, _)| *partner != APART)
}

/// The thief puts a backup of the node back twice, and signs in each copy another entry for one place.
async fn break_in(stage: &mut Stage, circle: CircleId) -> anyhow::Result<()> {
    let backup = stage.path(&format!("{ROBBED}.backup")).to_string_lossy().into_owned();
    Stage::cwn(Some(&stage.data(ROBBED)), &["backup", "--out", &backup]).await?;
    stage.kill(ROBBED).await?;
    for (thief, ..) in LIES {
        Stage::cwn(Some(&stage.data(thief)), &["restore", &backup]).await?;
    }
    let unlock = Unlock::credential(&stage.path(&format!("{ROBBED}.credential")))?;
    let copies = LIES.map(|(thief, _, lie)| (stage.data(thief), lie));
    tokio::task::spawn_blocking(move || lie_twice(&copies, &unlock, circle)).await??;
    stage.say("Somebody has MSP SWV's backup and credential, and signs two entries for one place of one log.");
    Ok(())
}

/// Writes one log into both copies: the same first entry, and then what each is to say.
fn lie_twice(copies: &[(PathBuf, &str)], unlock: &Unlock, circle: CircleId) -> anyhow::Result<()> {
    let (log, now) = (LogId(random()[..16].try_into()?), clock::now());
    let mut shared: Option<Vec<u8>> = None;
    for (data, lie) in copies {
        let keys = Keys::open(data, unlock)?;
        let me = keys.signing.public();
        let (mut store, _) = Store::open(data, &mut |_progress| {})?;
        let (opening, epoch) = next_log(&store.reader(), circle, me)?;
        let key = Keyring::new(keys.sealing.clone(), store.reader()).epoch(&circle, &epoch)?;
        let seal = |title: &str, body: &str| -> anyhow::Result<Vec<u8>> {
            let report = Report { title: title.to_owned(), body: body.to_owned(), references: Vec::new() };
            let payload = report_payload(me, circle, Tlp::Green, None, Vec::new(), &report, Vec::new())?;
            Ok(Age.seal_to_epoch(&key, &payload.to_bytes()?))
        };
        // Sealed twice it would be two entries already.
        let before = match &shared {
            Some(sealed) => sealed.clone(),
            None => shared.insert(seal(BEFORE.0, BEFORE.1)?).clone(),
        };
        let mut writer = Writer::open(circle, keys.signing.clone(), log, opening);
        for payload in [before, seal(TITLE, lie)?] {
            let draft = Draft { suite: Suite::Epoch, epoch: Some(epoch), payload, expiry: None, retracts: None };
            store.append(&[Write::Entry(writer.append(now, draft))])?;
        }
        store.close()?;
    }
    Ok(())
}

/// How a node's next log in a circle opens, and the epoch that its newest entry there was sealed to.
fn next_log(store: &impl Read, circle: CircleId, me: PublicKey) -> anyhow::Result<(Opening, Hash)> {
    let mut newest: Option<(Time, Opening, Hash)> = None;
    for (key, tip) in store.logs()?.into_iter().filter(|(key, _)| (key.circle, key.author) == (circle, me)) {
        let stored = |seq| store.entry(&key, seq)?.map(Stored::read).transpose().map_err(anyhow::Error::from);
        let (Some(first), Some(last)) = (stored(0)?, stored(tip.height - 1)?) else { continue };
        // An entry for all of the circle has an epoch, and stands in a log of such.
        let (Some(opening), Some(epoch)) = (&first.header().opening, last.header().epoch) else { continue };
        let time = last.header().time;
        if newest.as_ref().is_none_or(|(before, ..)| *before < time) {
            let cites = vec![CutLine { log: key.log, height: tip.height, head: tip.head }];
            newest = Some((time, Opening { under: opening.under, cites }, epoch));
        }
    }
    let (_, opening, epoch) = newest.context("the robbed node has written nothing for all of the circle")?;
    Ok((opening, epoch))
}

/// Each lie goes to one partner by file. Gives their references.
async fn spread(stage: &mut Stage) -> anyhow::Result<[String; 2]> {
    let mut references = Vec::new();
    for (thief, to, lie) in LIES {
        stage.start_apart(thief).await?;
        let file = export(stage, thief, to).await?;
        stage.kill(thief).await?;
        import(stage, to, &file).await?;
        references.push(reference_of(stage, to, lie).await?);
    }
    let [one, other]: [String; 2] = references.try_into().map_err(|_length| anyhow::anyhow!("there are two lies"))?;
    let mut told = Tally::default();
    for (partner, name) in with_a_line().filter(|(partner, _)| *partner != ROBBED) {
        let reads = stage.has(partner, &one).await?.body.as_deref() == Some(LIES[0].2);
        told.count(name, reads && stage.read(partner, &other).await?.is_none());
    }
    let reads = stage.has(APART, &other).await?.body.as_deref() == Some(LIES[1].2);
    told.count(name_of(APART), reads && stage.read(APART, &one).await?.is_none());
    stage.say("FERM gets one of them by file, and through FERM all who have a line; CERT-WM gets the other.");
    let measured = told.say("nodes: CERT-WM reads one number, all others another");
    stage.check("a stolen key can tell two partners two things", "cwn read", measured, told.all());
    Ok([one, other])
}

async fn reference_of(stage: &Stage, partner: &str, lie: &str) -> anyhow::Result<String> {
    stage
        .until(partner, "it has what came in the file", async |_| {
            for listed in stage.entries(partner, Some(INFORMATION)).await? {
                if listed.title.as_deref() == Some(TITLE) {
                    let entry = stage.read(partner, &listed.reference).await?;
                    if entry.is_some_and(|entry| entry.body.as_deref() == Some(lie)) {
                        return Ok(listed.reference);
                    }
                }
            }
            anyhow::bail!("it is not listed")
        })
        .await
}

/// All nodes come to know, and say, who signed what twice.
async fn exposed(stage: &mut Stage) -> anyhow::Result<()> {
    let mut says = Tally::default();
    for (partner, name) in PARTNERS {
        let fork = stage
            .until(partner, "it knows of the fork", async |_| {
                let forks = stage.circle(partner, INFORMATION).await?.forks;
                forks.into_iter().next().context("it knows of none")
            })
            .await?;
        let page = Stage::cwn(Some(&stage.data(partner)), &["circle", "show", INFORMATION]).await?;
        let shown = page.contains(&format!("{ROBBED} signed two entries for one place"));
        let whose = if partner == ROBBED { "signs with this node's key" } else { "msp-swv signed two entries" };
        let warned = stage.status(partner).await?.warnings.iter().any(|warning| warning.contains(whose));
        says.count(name, shown && warned && fork.author == ROBBED && fork.place == PLACE);
    }
    let measured = says.say(&format!("nodes name MSP SWV, the log, and entry {PLACE} in it"));
    stage.check("the two are found out when nodes meet", "cwn circle show", measured, says.all());
    Ok(())
}

/// All end with the same, and with neither of the two: the references that all list.
async fn same_place(stage: &mut Stage, lies: &[&str], honest: &str) -> anyhow::Result<BTreeSet<String>> {
    let expected = stage
        .until(STEWARD, "it lists neither of the two", async |_| {
            let listed = stage.references(STEWARD, Some(INFORMATION)).await?;
            ensure!(lies.iter().all(|lie| !listed.contains(*lie)), "it lists one");
            Ok(listed)
        })
        .await?;
    let mut same = Tally::default();
    for (partner, name) in PARTNERS {
        let listed = stage
            .until(partner, "it lists what the steward lists", async |_| {
                let listed = stage.references(partner, Some(INFORMATION)).await?;
                let (more, fewer) = (listed.difference(&expected).count(), expected.difference(&listed).count());
                ensure!(listed == expected, "{more} that it does not, and not {fewer} that it does");
                Ok(listed)
            })
            .await?;
        same.count(name, lies.iter().all(|lie| !listed.contains(*lie)) && listed.contains(honest));
    }
    let measured = same.say(&format!("nodes list the same {} entries, neither of the two", expected.len()));
    stage.check("all end with the same: what stood before", "cwn list", measured, same.all());
    Ok(expected)
}

/// A steward removes the key from the circle; what its partner wrote before stays.
async fn remove(stage: &mut Stage, listed: &BTreeSet<String>) -> anyhow::Result<()> {
    Stage::cwn(Some(&stage.data(STEWARD)), &["circle", "remove", INFORMATION, ROBBED, "--yes"]).await?;
    stage.say("NCSC removes MSP SWV from informatiedeling, until it has new keys.");
    let mut out = Tally::default();
    for (partner, name) in PARTNERS {
        stage
            .until(partner, "it counts MSP SWV out", async |_| {
                let circle = stage.circle(partner, INFORMATION).await?;
                ensure!(circle.members.iter().all(|member| member.partner != ROBBED), "it counts it in");
                Ok(())
            })
            .await?;
        out.count(name, stage.references(partner, Some(INFORMATION)).await? == *listed);
    }
    let refused = stage.refused(ROBBED, &entry(INFORMATION, "GREEN", TITLE, "Bel toch 010 555 03 03.")).await;
    let holds = out.all() && refused.is_ok();
    let then = refused.map_or_else(|instead| instead, |_reason| "it publishes there no more".to_owned());
    let measured = format!("{}; {then}", out.say("nodes count it out, and list the same"));
    stage.check("a steward ends what the key can do", "cwn circle remove", measured, holds);
    Ok(())
}
