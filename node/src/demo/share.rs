//! Real documents in the circles: who reads what, and who cannot.

use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use super::{
    circles::{HEALTH, HEALTH_MEMBERS, INFORMATION, PORT, PORT_MEMBERS},
    stage::{PARTNERS, Stage, entry, everybody, name_of, print},
    table::{self, Sight, Tally},
};
use crate::api::types::{EntryDetail, Uploaded, Who};

const ADVISORY: &str = include_str!("../../../configs/demo/advisory.md");
const INDICATORS: &str = include_str!("../../../configs/demo/indicators.md");
const ANALYSIS: &str = include_str!("../../../configs/demo/analysis.md");
const CONFIDENTIAL: &str = include_str!("../../../configs/demo/red.md");

/// The attachment: ten megabytes and a little, so that the last part is not a whole one.
const ATTACHMENT_BYTES: usize = 10 * 1_000_000 + 321;
const ATTACHMENT: &str = "netwerkverkeer.pcap";
const ATTACHED_BY: &str = "surfcert";
/// To whom the RED entry goes.
const ADDRESSEES: [&str; 2] = ["z-cert", "ferm"];
/// The digits of a hash that are shown.
const SHOWN: usize = 16;

/// Something that was published: who should read it, and who has no more of it than that it is there.
struct Document {
    title: &'static str,
    body: &'static str,
    circle: &'static str,
    reference: String,
    readers: Vec<&'static str>,
    sealed_to_others: bool,
}

impl Document {
    /// What a partner should have of it, `member` being whether it is in the circle.
    fn intended(&self, partner: &str, member: bool) -> Sight {
        match (self.readers.contains(&partner), self.sealed_to_others && member) {
            (true, _) => Sight::Reads,
            (false, true) => Sight::Sealed,
            (false, false) => Sight::Nothing,
        }
    }
}

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.chapter("Documents are shared, each as far as it may go");
    let documents = [
        advisory(stage).await?,
        inside(stage, "z-cert", HEALTH, "AMBER+STRICT", "Indicatoren bij EdgeGate VPN", INDICATORS, &HEALTH_MEMBERS)
            .await?,
        inside(stage, "cert-wm", PORT, "GREEN", "Analyse: waarom de zorg en de haven", ANALYSIS, &PORT_MEMBERS).await?,
        red(stage).await?,
        attachment(stage).await?,
    ];
    pointers(stage).await?;
    who_sees_what(stage, &documents).await?;
    above_the_ceiling(stage).await
}

async fn advisory(stage: &mut Stage) -> anyhow::Result<Document> {
    let title = "Actief misbruik van EdgeGate VPN";
    let published = stage.publish("ncsc", &entry(INFORMATION, "AMBER", title, ADVISORY)).await?;
    stage.say("NCSC publishes an advisory, TLP:AMBER, to the whole network.");
    let mut reads = Tally::default();
    for (partner, name) in PARTNERS {
        let entry = stage.has(partner, &published.reference).await?;
        reads.count(name, entry.body.as_deref() == Some(ADVISORY));
    }
    stage.check("the advisory is read by all", "cwn read", reads.say("have its very text"), reads.all());
    let path = format!("/v1/entries/{}/who", published.reference);
    let others = PARTNERS.len() - 1;
    let received = stage
        .until("ncsc", "all others say they received it", async |client| {
            let who: Who = client.get(&path).await?;
            let received = who.nodes.iter().filter(|line| line.partner != "ncsc" && line.received.is_some()).count();
            ensure!(received == others, "{received} of {others} said so");
            Ok(received)
        })
        .await?;
    let measured = format!("{received} of {others} said so, each in an entry that it signed");
    stage.check("its author knows who has received it", "cwn who", measured, received == others);
    let (body, circle, reference) = (ADVISORY, INFORMATION, published.reference);
    Ok(Document { title, body, circle, reference, readers: everybody(), sealed_to_others: false })
}

/// Something inside a circle, for all of its members.
async fn inside(
    stage: &Stage,
    author: &str,
    circle: &'static str,
    tlp: &str,
    title: &'static str,
    body: &'static str,
    members: &[&'static str],
) -> anyhow::Result<Document> {
    let reference = stage.publish(author, &entry(circle, tlp, title, body)).await?.reference;
    stage.say(&format!("{} publishes {title:?}, TLP:{tlp}, in {circle}.", name_of(author)));
    Ok(Document { title, body, circle, reference, readers: members.to_vec(), sealed_to_others: false })
}

async fn red(stage: &Stage) -> anyhow::Result<Document> {
    let title = "Vertrouwelijk: de leverancier";
    let mut confidential = entry(INFORMATION, "RED", title, CONFIDENTIAL);
    confidential.to = ADDRESSEES.iter().map(|partner| (*partner).to_owned()).collect();
    let reference = stage.publish("ncsc", &confidential).await?.reference;
    stage.say("NCSC publishes a TLP:RED entry in the circle of all, for Z-CERT and FERM alone.");
    let readers = ["ncsc"].into_iter().chain(ADDRESSEES).collect();
    Ok(Document { title, body: CONFIDENTIAL, circle: INFORMATION, reference, readers, sealed_to_others: true })
}

async fn attachment(stage: &mut Stage) -> anyhow::Result<Document> {
    let (title, body) = ("Netwerkverkeer van de aanval", "Zie de bijlage.");
    let file = stage.path(ATTACHMENT);
    make_attachment(&file)?;
    let path = format!("/v1/attachments?circle={HEALTH}&name={ATTACHMENT}");
    let uploaded: Uploaded = stage.client(ATTACHED_BY).upload(&path, &file, |_| {}).await?;
    let mut with_file = entry(HEALTH, "AMBER", title, body);
    with_file.attachments.push(uploaded.id);
    let reference = stage.publish(ATTACHED_BY, &with_file).await?.reference;
    stage.say("SURFcert publishes ten megabytes of network traffic in zorg, as an attachment.");
    let wanted = sha256(&file)?;
    let mut same = Tally::default();
    for partner in HEALTH_MEMBERS.iter().filter(|partner| **partner != ATTACHED_BY) {
        let path = format!("/v1/entries/{reference}");
        stage
            .until(partner, "the attachment has arrived", async |client| {
                let entry: EntryDetail = client.get(&path).await?;
                let attached = entry.attached.first().context("the entry has no attachment")?;
                let (here, all) = (attached.chunks_here, attached.chunks);
                ensure!(here == all, "{here} of {all} parts are here");
                Ok(())
            })
            .await?;
        let saved = stage.path(&format!("{partner}-{ATTACHMENT}"));
        let out = saved.to_string_lossy().into_owned();
        Stage::cwn(Some(&stage.data(partner)), &["save", &reference, "--out", &out]).await?;
        same.count(name_of(partner), sha256(&saved)? == wanted);
    }
    let measured = same.say(&format!("saved a file with SHA-256 {}…", &wanted[..SHOWN]));
    stage.check("an attachment of 10 MB arrives whole", "cwn save", measured, same.all());
    let readers = HEALTH_MEMBERS.to_vec();
    Ok(Document { title, body, circle: HEALTH, reference, readers, sealed_to_others: false })
}

fn make_attachment(file: &Path) -> anyhow::Result<()> {
    let mut bytes = Vec::with_capacity(ATTACHMENT_BYTES + blake3::OUT_LEN);
    // Not random, so that it is the same file in every run; not regular, so that nothing can compress it away.
    let mut hash = blake3::hash(b"cwn demo");
    while bytes.len() < ATTACHMENT_BYTES {
        bytes.extend_from_slice(hash.as_bytes());
        hash = blake3::hash(hash.as_bytes());
    }
    bytes.truncate(ATTACHMENT_BYTES);
    std::fs::write(file, &bytes).with_context(|| file.display().to_string())
}

/// The hash that `sha256sum` prints, for who wants to compare by hand.
fn sha256(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Those who published inside a circle tell everybody that they have more. When that has arrived, whatever their
/// nodes had sent too far before would have arrived as well: only then does it mean something to have nothing.
async fn pointers(stage: &Stage) -> anyhow::Result<()> {
    for author in ["z-cert", "cert-wm", ATTACHED_BY] {
        let title = format!("{} heeft meer over EdgeGate VPN", name_of(author));
        let pointer = entry(INFORMATION, "GREEN", &title, "Vraag ernaar als u het nodig hebt.");
        let published = stage.publish(author, &pointer).await?;
        for partner in everybody() {
            stage.has(partner, &published.reference).await?;
        }
    }
    stage.say("Z-CERT, CERT-WM and SURFcert tell all, TLP:GREEN, that they have more. All have received that.");
    Ok(())
}

/// Asks all nodes about all documents.
async fn who_sees_what(stage: &mut Stage, documents: &[Document]) -> anyhow::Result<()> {
    let (mut kept_in, mut addressed, mut untitled) = (Tally::default(), Tally::default(), Tally::default());
    let mut rows = Vec::new();
    for document in documents {
        let mut row = Vec::new();
        for (partner, name) in PARTNERS {
            if document.readers.contains(&partner) {
                stage.has(partner, &document.reference).await?;
            }
            let sight = sight(stage, partner, document).await?;
            let member = stage.is_in(partner, document.circle).await?;
            let right = sight == document.intended(partner, member);
            if document.sealed_to_others {
                addressed.count(name, right);
                let list = stage.entries(partner, None).await?;
                untitled.count(name, list.iter().all(|line| line.title.as_deref() != Some(document.title)));
            } else {
                kept_in.count(&format!("{name} with {:?}", document.title), right);
            }
            row.push(sight);
        }
        rows.push((document.title, row));
    }
    let names: Vec<&str> = PARTNERS.iter().map(|(_, name)| *name).collect();
    stage.say("Who sees what, as each node says of itself:\n");
    table::picture(&names, &rows).lines().for_each(|line| stage.say(&format!("   {line}")));
    print("");
    let measured = kept_in.say("questions to nodes: members read it, others have nothing");
    stage.check("what is shared in a circle stays in it", "cwn list, cwn read", measured, kept_in.all());
    let measured = addressed.say("nodes: sealed, but to its author and two addressees");
    stage.check("RED is read by whom it names, and no other", "cwn read", measured, addressed.all());
    let measured = untitled.say("lists are without its title");
    stage.check("no list shows what a RED entry is about", "cwn list", measured, untitled.all());
    Ok(())
}

/// What a node has of a document.
async fn sight(stage: &Stage, partner: &str, document: &Document) -> anyhow::Result<Sight> {
    let listed = stage.references(partner, None).await?.contains(&document.reference);
    let status = stage.status(partner).await?;
    let knows_circle = status.circles.iter().any(|circle| circle.name == document.circle)
        || status.offers.iter().any(|offer| offer.name == document.circle);
    Ok(match stage.read(partner, &document.reference).await? {
        None if !listed && !knows_circle => Sight::Nothing,
        None => Sight::Odd(if listed { "listed" } else { "knows of it" }.to_owned()),
        Some(entry) if entry.body.as_deref() == Some(document.body) => Sight::Reads,
        Some(entry) if entry.body.is_none() && entry.attached.is_empty() && entry.summary.state == "not_for_us" => {
            Sight::Sealed
        }
        Some(entry) => Sight::Odd(entry.summary.state),
    })
}

async fn above_the_ceiling(stage: &mut Stage) -> anyhow::Result<()> {
    let too_narrow = entry(PORT, "AMBER+STRICT", "Te vertrouwelijk voor deze kring", "Niet voor allen.");
    let refused = stage.refused("ferm", &too_narrow).await;
    let holds = refused.as_ref().is_ok_and(|reason| reason.contains("above what this circle carries"));
    let measured = refused.map_or_else(|instead| instead, |reason| format!("refused: {}", first(&reason)));
    stage.check("a circle's ceiling holds", "cwn publish", measured, holds);
    Ok(())
}

/// What happened; the remedy after it is for the person at the keyboard.
pub(super) fn first(reason: &str) -> &str {
    reason.split_once("; ").map_or(reason, |(happened, _)| happened)
}
