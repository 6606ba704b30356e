//! What members of circles see, over real daemons.

use std::path::{Path, PathBuf};

use anyhow::Context;
use cwn_crypto::{
    Domain, Hash, encoding,
    issuer_log::{CutLine, LogId},
    seal::{Age, EpochKey, Recipient, Seal},
};
use cwn_engine::{
    epoch::{self, SignedRecord},
    limits,
    log::{CircleId, Draft, Opening, Stored, Suite, Writer},
    store::{Read, Write},
};
use cwn_functions::{
    marking::Tlp,
    sharing::{Report, report_payload},
};
use cwn_node::{
    api::{
        Circles,
        client::{Client, Error},
        types::{
            AudienceView, Bilateral, BilateralFounded, Check, CircleDetail, Id, Membership, NewCircle, NewEntry,
            PartnerView, Publication, Published, QuotaChange, RaiseView, Status, Uploaded, Who, WhoLine,
        },
    },
    clock,
    config::{Accept, Fetch},
    store::Store,
};
use cwn_tests::{shell::say, world::World};

async fn three() -> anyhow::Result<World> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.connected(name, 2).await?;
    }
    world.found("ncsc", "zorg", &["z-cert", "ferm"]).await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_red_is_sealed_to_its_addressees_and_who_says_so() -> anyhow::Result<()> {
    let world = three().await?;
    let published = world.publish_as("ncsc", "zorg", "secret", "RED", &["ferm"]).await?;
    world.expect_titles("z-cert", "zorg", &["not_for_us"]).await?;
    world.expect_titles("ferm", "zorg", &["opened"]).await?;
    let body = world.read("ferm", &published.reference).await?.body;
    assert_eq!(body.as_deref(), Some("The body of secret."));
    assert_eq!(world.read("z-cert", &published.reference).await?.body, None);
    let path = format!("/v1/entries/{}/who", published.reference);
    let client = world.client("ncsc");
    let received = async || {
        let who: Who = client.get(&path).await?;
        Ok(who.told && who.nodes.iter().all(|line| line.received.is_some()))
    };
    world.until("ncsc", "both say they hold it", received).await?;
    let who: Who = client.get(&path).await?;
    let addressed: Vec<&str> =
        who.nodes.iter().filter(|line| line.addressed).map(|line| line.partner.as_str()).collect();
    assert_eq!(addressed, ["ferm"]);
    let elsewhere: Who = world.client("ferm").get(&path).await?;
    assert!(!elsewhere.told, "only the author and stewards are told");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_is_not_known_of_an_absent_member_is_unknown() -> anyhow::Result<()> {
    let mut world = three().await?;
    world.kill("ferm")?;
    let published = world.publish("ncsc", "zorg", "hello").await?;
    let path = format!("/v1/entries/{}/who", published.reference);
    let client = world.client("ncsc");
    let heard = async || {
        let who: Who = client.get(&path).await?;
        Ok(who.nodes.iter().any(|line| line.partner == "z-cert" && line.received.is_some()))
    };
    world.until("ncsc", "z-cert says it holds it", heard).await?;
    let who: Who = client.get(&path).await?;
    let ferm = who.nodes.iter().find(|line| line.partner == "ferm").unwrap();
    assert_eq!((ferm.received, ferm.connected), (None, false));
    world.start("ferm").await?;
    let heard = async || {
        let who: Who = client.get(&path).await?;
        Ok(who.nodes.iter().all(|line| line.received.is_some()))
    };
    world.until("ncsc", "ferm says it too", heard).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_what_comes_after_a_removal_is_closed_to_the_removed() -> anyhow::Result<()> {
    let mut world = three().await?;
    world.publish("ncsc", "zorg", "for three").await?;
    world.expect_titles("ferm", "zorg", &["for three"]).await?;
    let out = Membership { partner: "ferm".to_owned(), node: None };
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/remove", &out).await?;
    let gone = async || {
        let status: Status = world.client("ferm").get("/v1/status").await?;
        Ok(status.circles.iter().all(|circle| !circle.member))
    };
    world.until("ferm", "it knows it was removed", gone).await?;
    let published = world.publish("ncsc", "zorg", "for two").await?;
    world.expect_titles("z-cert", "zorg", &["for three", "for two"]).await?;
    assert!(world.read("ferm", &published.reference).await.is_err());
    // Added again, it reads what comes then, and still not what came between.
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/add", &out).await?;
    let back = async || {
        let status: Status = world.client("ferm").get("/v1/status").await?;
        Ok(status.circles.iter().any(|circle| circle.member))
    };
    world.until("ferm", "it is back", back).await?;
    world.publish("ncsc", "zorg", "for three again").await?;
    world.expect_titles("ferm", "zorg", &["for three", "for three again", "not_for_us"]).await?;
    world.kill("z-cert")?;
    assert_eq!(world.readable("z-cert", &world.keys("ferm")?)?, ["for three", "for three again"]);
    assert_eq!(world.readable("z-cert", &world.keys("z-cert")?)?, ["for three", "for three again", "for two"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_while_it_was_away_is_shown_who_is_silent_about_the_circle() -> anyhow::Result<()> {
    let mut world = three().await?;
    world.stop("ferm")?;
    let out = Membership { partner: "ferm".to_owned(), node: None };
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/remove", &out).await?;
    world.start("ferm").await?;
    let silent = async || {
        let status: Status = world.client("ferm").get("/v1/status").await?;
        let circle = status.circles.iter().find(|circle| circle.name == "zorg");
        Ok(circle.is_some_and(|circle| circle.silent == ["ncsc", "z-cert"] && circle.unreachable.is_empty()))
    };
    world.until("ferm", "it is shown who is silent", silent).await?;
    // It can publish, and hears first that perhaps nobody takes it.
    let audience = async |name: &str| -> anyhow::Result<AudienceView> {
        Ok(world.client(name).post("/v1/audience", &entry("GREEN", 0)).await?)
    };
    assert_eq!(audience("ferm").await?.only_silent, ["ncsc", "z-cert"]);
    assert!(audience("ncsc").await?.only_silent.is_empty(), "nobody can have removed the founder");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_circle_of_a_name_is_not_founded_and_of_two_that_others_founded_the_id_is_asked() -> anyhow::Result<()>
{
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("ncsc", 1).await?;
    world.found("ncsc", "haven", &[]).await?;
    for (name, why) in [("haven", "already"), ("Haven", "already"), (" ", "is no name"), (" haven", "is no name")]
        .into_iter()
        .chain([("ncsc~z-cert", "two partners"), ("Cafe", "an id"), ("20261", "an id"), ("a\u{202e}b", "as they are")])
    {
        let refused = world.found_at_once("ncsc", name, &[]).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    for name in ["abc", "cafés"] {
        world.found_at_once("ncsc", name, &[]).await?;
    }
    // Another partner does not know of it.
    world.found("z-cert", "haven", &["ncsc"]).await?;
    let both = async || Ok(world.client("ncsc").get::<Circles>("/v1/circles").await?.circles.len() == 4);
    world.until("ncsc", "it is in both", both).await?;
    let asked = world.client("ncsc").get::<CircleDetail>("/v1/circles/haven").await.unwrap_err().to_string();
    assert!(asked.contains("means more than one circle") && asked.contains("give the id"), "{asked}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_who_was_removed_unheard_before_it_accepted_waits_for_word_of_the_circle_and_does_not_take_itself_for_current()
-> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "ferm"])?;
    world.configure("ferm", |config| config.circles.accept = Accept::Ask)?;
    world.start_all().await?;
    world.connected("ncsc", 1).await?;
    world.connected("ferm", 1).await?;
    for circle in ["gone", "stale", "zorg"] {
        world.found_at_once("ncsc", circle, &["ferm"]).await?;
    }
    let ferm = world.client("ferm");
    let offered = async |count| Ok(ferm.get::<Circles>("/v1/circles").await?.offers.len() == count);
    world.until("ferm", "all are offered", async || offered(3).await).await?;
    let out = Membership { partner: "ferm".to_owned(), node: None };
    // What it hears of is offered no longer.
    let _: Id = world.client("ncsc").post("/v1/circles/gone/remove", &out).await?;
    world.until("ferm", "one is not offered any more", async || offered(2).await).await?;
    // And of the other it does not hear.
    for offline in [true, false] {
        world.stop("ncsc")?;
        world.configure("ncsc", |config| config.network.offline = offline)?;
        world.start("ncsc").await?;
        if offline {
            let _: Id = world.client("ncsc").post("/v1/circles/stale/remove", &out).await?;
        }
    }
    world.connected("ncsc", 1).await?;
    for circle in ["stale", "zorg"] {
        let _: Id = world.client("ferm").post(&format!("/v1/circles/{circle}/accept"), &serde_json::json!({})).await?;
    }
    // Word of the one comes; of the other none, from the same peer.
    world.publish("ferm", "zorg", "current").await?;
    let status: Status = world.client("ferm").get("/v1/status").await?;
    let stale = status.circles.iter().find(|circle| circle.name == "stale").context("it joined")?;
    assert_eq!((stale.current, &stale.silent, stale.peers), (false, &vec!["ncsc".to_owned()], 0));
    let new = NewEntry { circle: "stale".to_owned(), ..entry("AMBER+STRICT", 0) };
    let audience: AudienceView = world.client("ferm").post("/v1/audience", &new).await?;
    assert_eq!((audience.only_silent, audience.awaited.len()), (vec!["ncsc".to_owned()], 1));
    let Publication::Kept(_) = world.client("ferm").post("/v1/entries", &new).await? else {
        panic!("it was sealed by who may have been removed")
    };
    let checks: Vec<Check> = world.client("ferm").get("/v1/doctor").await?;
    let circles = checks.iter().find(|check| check.what == "circles").context("it looks at circles")?;
    let says = ["stale waits for ncsc", "you may have been removed, ask a steward", "`cwn peers`"];
    assert!(says.iter().all(|words| circles.found.contains(words)) && !circles.found.contains("zorg"), "{circles:?}");
    Ok(())
}

/// Who has not joined a circle, by what its founder is shown of it.
async fn outside(world: &World, circle: &str) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let detail: CircleDetail = world.client("ncsc").get(&format!("/v1/circles/{circle}")).await?;
    let nodes = detail.members.into_iter().filter(|member| member.not_joined).map(|member| member.partner).collect();
    assert!(!detail.summary.removable, "nobody ranks above its founder");
    Ok((detail.summary.not_joined, nodes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_is_shown_who_has_not_joined_its_circle_also_after_a_start() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.configure("z-cert", |config| config.circles.accept = Accept::Ask)?;
    world.configure("ferm", |config| config.circles.accept = Accept::Ask)?;
    world.start_all().await?;
    world.connected("ncsc", 2).await?;
    world.found("ncsc", "alone", &[]).await?;
    assert_eq!(outside(&world, "alone").await?, (vec![], vec![]));
    let known = async || Ok(world.client("ncsc").get::<Vec<PartnerView>>("/v1/partners").await?.len() == 3);
    world.until("ncsc", "it knows both", known).await?;
    world.found_at_once("ncsc", "zorg", &["z-cert", "ferm"]).await?;
    let both = vec!["ferm".to_owned(), "z-cert".to_owned()];
    assert_eq!(outside(&world, "zorg").await?, (both.clone(), both));
    let nothing = serde_json::json!({});
    for (name, verb) in [("z-cert", "decline"), ("ferm", "accept")] {
        let offered = async || Ok(world.client(name).get::<Circles>("/v1/circles").await?.offers.len() == 1);
        world.until(name, "it is offered", offered).await?;
        let _: Id = world.client(name).post(&format!("/v1/circles/zorg/{verb}"), &nothing).await?;
    }
    let declined = vec!["z-cert".to_owned()];
    let shown = async || Ok(outside(&world, "zorg").await? == (declined.clone(), declined.clone()));
    world.until("ncsc", "it shows who declined as not joined", shown).await?;
    // What its founder was told of ferm is there after a start too, though ferm wrote nothing and is away.
    let path = format!("/v1/entries/{}/who", world.publish("ncsc", "zorg", "welcome").await?.reference);
    let told =
        async || Ok(world.client("ncsc").get::<Who>(&path).await?.nodes.iter().any(|line| line.received.is_some()));
    world.until("ncsc", "it is told what ferm holds", told).await?;
    world.stop("ferm")?;
    world.kill("ncsc")?;
    world.start("ncsc").await?;
    world.connected("ncsc", 1).await?;
    assert_eq!(outside(&world, "zorg").await?, (declined.clone(), declined));
    // Whoever is no steward is not told, and claims nothing.
    world.start("ferm").await?;
    let ferm: CircleDetail = world.client("ferm").get("/v1/circles/zorg").await?;
    assert!(ferm.summary.removable && ferm.summary.not_joined.is_empty());
    assert!(ferm.members.iter().all(|member| !member.not_joined));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_is_joined_when_its_operator_says_so_and_stays_declined() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.configure("z-cert", |config| config.circles.accept = Accept::Ask)?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    for circle in ["wanted", "unwanted"] {
        world.found("ncsc", circle, &[]).await?;
        let add = Membership { partner: "z-cert".to_owned(), node: None };
        let _: Id = world.client("ncsc").post(&format!("/v1/circles/{circle}/add"), &add).await?;
    }
    let offers = async |count: usize| {
        let circles: Circles = world.client("z-cert").get("/v1/circles").await?;
        Ok(circles.offers.len() == count)
    };
    world.until("z-cert", "both are offered", async || offers(2).await).await?;
    let nothing = serde_json::json!({});
    let _: Id = world.client("z-cert").post("/v1/circles/wanted/accept", &nothing).await?;
    let declines = |more: &str| {
        let data = &world.node("z-cert").data;
        say(data, &format!("cwn --data {} circle decline unwanted {more} </dev/null", data.display()))
    };
    let asked = declines("")?;
    assert!(asked.code == Some(1) && asked.err.contains("for good"), "{asked:?}");
    assert_eq!(declines("--yes")?.code, Some(0));
    let declined = world.client("z-cert").post::<_, Id>("/v1/circles/unwanted/accept", &nothing).await;
    let declined = declined.unwrap_err().to_string();
    assert!(
        declined.contains("this node declined the circle \"unwanted\"") && declined.contains("succeed"),
        "{declined}"
    );
    world.publish("ncsc", "wanted", "welcome").await?;
    world.expect_titles("z-cert", "wanted", &["welcome"]).await?;
    world.kill("z-cert")?;
    world.start("z-cert").await?;
    world.connected("z-cert", 1).await?;
    world.publish("ncsc", "wanted", "again").await?;
    world.expect_titles("z-cert", "wanted", &["again", "welcome"]).await?;
    let circles: Circles = world.client("z-cert").get("/v1/circles").await?;
    assert_eq!((circles.circles.len(), circles.offers.len()), (1, 0));
    Ok(())
}

fn entry(tlp: &str, wait_seconds: u64) -> NewEntry {
    NewEntry {
        circle: "zorg".to_owned(),
        tlp: tlp.to_owned(),
        pap: None,
        title: "title".to_owned(),
        body: String::new(),
        references: Vec::new(),
        to: Vec::new(),
        attachments: Vec::new(),
        wait_seconds: Some(wait_seconds),
        expires_at: None,
    }
}

async fn refusal(client: &Client, entry: &NewEntry) -> (String, String) {
    match client.post::<_, Published>("/v1/entries", entry).await {
        Err(Error::Refused(problem)) => (problem.code, problem.error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_partners_have_one_bilateral_circle_of_which_both_are_stewards() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.configure("ferm", |config| config.circles.accept = Accept::Ask)?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.connected(name, 2).await?;
    }
    let with = |partner: &str| Bilateral { partner: partner.to_owned() };
    let founded: BilateralFounded = world.client("z-cert").post("/v1/bilateral", &with("ncsc")).await?;
    assert_eq!((founded.name.as_str(), founded.founded), ("ncsc~z-cert", true));
    let again = BilateralFounded { founded: false, ..founded.clone() };
    let here: BilateralFounded = world.client("z-cert").post("/v1/bilateral", &with("ncsc")).await?;
    assert_eq!(here, again);
    let joined = async || {
        let circles: Circles = world.client("ncsc").get("/v1/circles").await?;
        Ok(circles.circles.iter().any(|circle| circle.id == founded.id && circle.steward))
    };
    world.until("ncsc", "it is steward of it", joined).await?;
    let there: BilateralFounded = world.client("ncsc").post("/v1/bilateral", &with("z-cert")).await?;
    assert_eq!(there, again);
    let detail: CircleDetail = world.client("ncsc").get(&format!("/v1/circles/{}", founded.id)).await?;
    assert_eq!((detail.summary.ceiling.as_str(), detail.summary.partners), ("TLP:RED", 2));
    assert_eq!(detail.members.iter().filter(|member| member.steward.is_some()).count(), 2);
    world.publish_as("ncsc", &founded.id, "between us", "AMBER", &[]).await?;
    world.expect_titles("z-cert", &founded.id, &["between us"]).await?;

    // What the other side founded and this one has not joined is not founded a second time.
    let _: BilateralFounded = world.client("ncsc").post("/v1/bilateral", &with("ferm")).await?;
    let offered = async || Ok(world.client("ferm").get::<Circles>("/v1/circles").await?.offers.len() == 1);
    world.until("ferm", "it is offered", offered).await?;
    let refused = world.client("ferm").post::<_, BilateralFounded>("/v1/bilateral", &with("ncsc")).await;
    assert!(refused.unwrap_err().to_string().contains("`cwn circle accept"));
    for (partner, remedy) in [("ferm", "the other partner"), ("ibd", "`cwn partners`")] {
        let refused = world.client("ferm").post::<_, BilateralFounded>("/v1/bilateral", &with(partner)).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(remedy), "{said}");
    }

    // Nor is one beside a circle that was theirs alone once.
    let ferm = Membership { partner: "ferm".to_owned(), node: None };
    let _: Id = world.client("z-cert").post(&format!("/v1/circles/{}/add", founded.id), &ferm).await?;
    let refused = world.client("z-cert").post::<_, BilateralFounded>("/v1/bilateral", &with("ncsc")).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("here already") && said.contains("`cwn circle show`"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_markings_are_kept_and_nothing_is_unmarked() -> anyhow::Result<()> {
    let world = three().await?;
    let client = world.client("ncsc");
    let (code, why) = refusal(&client, &entry("", 0)).await;
    assert!(code == "bad_request" && why.contains("AMBER+STRICT"), "{why}");
    let (code, why) = refusal(&client, &entry("RED", 0)).await;
    assert!(code == "refused" && why.contains("--to"), "{why}");
    let stranger = NewEntry { to: vec!["ibd".to_owned()], ..entry("RED", 0) };
    let (_, why) = refusal(&client, &stranger).await;
    assert!(why.contains("ibd") && why.contains("z-cert"), "{why}");
    let two_lines = NewEntry { title: "a\nb".to_owned(), ..entry("GREEN", 0) };
    assert!(refusal(&client, &two_lines).await.1.contains("one line"));
    let low = NewCircle {
        name: "low".to_owned(),
        description: String::new(),
        ceiling: Some("GREEN".to_owned()),
        purposes: Vec::new(),
        stewards: Vec::new(),
        partners: vec!["z-cert".to_owned()],
        history: None,
        quota: QuotaChange::default(),
        retention_days: None,
    };
    let _: Id = client.post("/v1/circles", &low).await?;
    for tlp in ["AMBER", "AMBER+STRICT", "RED"] {
        let to = if tlp == "RED" { vec!["z-cert".to_owned()] } else { Vec::new() };
        let above = NewEntry { circle: "low".to_owned(), to, ..entry(tlp, 0) };
        let (code, why) = refusal(&client, &above).await;
        assert!(code == "refused" && why.contains("GREEN"), "{why}");
    }
    let within = NewEntry { circle: "low".to_owned(), ..entry("GREEN", 0) };
    let _: Published = client.post("/v1/entries", &within).await?;
    world.expect_titles("z-cert", "low", &["title"]).await
}

/// A file with these many bytes that repeat nowhere near.
fn file_of(dir: &Path, bytes: u32) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let content: Vec<u8> = (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let path = dir.join("file.bin");
    std::fs::write(&path, &content)?;
    Ok((path, content))
}

/// Publishes a file in the circle, and gives the reference of its entry and the circle's id.
async fn attach(world: &World, name: &str, file: &Path) -> anyhow::Result<(String, String)> {
    let path = "/v1/attachments?circle=zorg&name=file.bin";
    let uploaded: Uploaded = world.client(name).upload(path, file, |_| {}).await?;
    let with_file = NewEntry { attachments: vec![uploaded.id], ..entry("AMBER", 60) };
    let published: Published = world.client(name).post("/v1/entries", &with_file).await?;
    Ok((published.reference, published.circle))
}

/// Saves an attachment, and gives what was saved; nothing when it is not whole.
async fn saved(world: &World, name: &str, reference: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("saved.bin");
    match world.client(name).download(&format!("/v1/entries/{reference}/attachments/0"), &path, |_| {}).await {
        Ok(_) => Ok(Some(std::fs::read(&path)?)),
        Err(_) => {
            assert!(!path.exists(), "a part of a file must not be taken for the whole");
            Ok(None)
        }
    }
}

async fn parts_here(world: &World, name: &str, reference: &str) -> anyhow::Result<(u32, u32)> {
    let attached = world.read(name, reference).await?.attached;
    Ok((attached[0].chunks_here, attached[0].chunks))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_arrives_whole_and_damage_is_healed_from_a_peer() -> anyhow::Result<()> {
    let world = three().await?;
    let dir = tempfile::tempdir()?;
    let (file, bytes) = file_of(dir.path(), 3 * 1_048_576 + 17)?;
    let (reference, circle) = attach(&world, "ncsc", &file).await?;
    let here = async || Ok(parts_here(&world, "ferm", &reference).await? == (4, 4));
    world.until("ferm", "all parts are here", here).await?;
    assert!(saved(&world, "ferm", &reference).await? == Some(bytes.clone()));
    // One part rots on ferm's disk: it is not given out, and comes back from a peer while the node runs.
    let chunks = world.node("ferm").data.join("chunks").join(&circle);
    let one = std::fs::read_dir(&chunks)?.next().unwrap()?.path();
    std::fs::write(&one, b"rot")?;
    assert!(saved(&world, "ferm", &reference).await?.is_none());
    let healed = async || Ok(saved(&world, "ferm", &reference).await? == Some(bytes.clone()));
    world.until("ferm", "the part is back", healed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_an_attachment_survives_kills_of_who_has_it_and_of_who_fetches_it() -> anyhow::Result<()> {
    let mut world = three().await?;
    world.kill("ferm")?;
    let dir = tempfile::tempdir()?;
    let (file, bytes) = file_of(dir.path(), 12 * 1_048_576 + 1)?;
    let (reference, circle) = attach(&world, "ncsc", &file).await?;
    world.kill("ncsc")?;
    world.start("ncsc").await?;
    // The list follows the store within moments of a start.
    let durable = async || Ok(saved(&world, "ncsc", &reference).await? == Some(bytes.clone()));
    world.until("ncsc", "what was published is durable", durable).await?;
    // ferm is killed as soon as a first part lies on its disk.
    world.spawn("ferm")?;
    let chunks = world.node("ferm").data.join("chunks").join(&circle);
    let begun = async || Ok(chunks.is_dir() && std::fs::read_dir(&chunks)?.next().is_some());
    world.until("ferm", "it fetches", begun).await?;
    world.kill("ferm")?;
    world.start("ferm").await?;
    let whole = async || Ok(saved(&world, "ferm", &reference).await? == Some(bytes.clone()));
    world.until("ferm", "it has all", whole).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_on_demand_is_fetched_when_somebody_saves_it_and_not_before() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.configure("z-cert", |config| config.attachments.fetch = Fetch::OnDemand)?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let dir = tempfile::tempdir()?;
    let (file, bytes) = file_of(dir.path(), 100_000)?;
    let (reference, _) = attach(&world, "ncsc", &file).await?;
    world.expect_titles("z-cert", "zorg", &["title"]).await?;
    assert_eq!(parts_here(&world, "z-cert", &reference).await?, (0, 1));
    let fetched = async || Ok(saved(&world, "z-cert", &reference).await? == Some(bytes.clone()));
    world.until("z-cert", "it is fetched once it was asked for", fetched).await
}

/// Asks for a change of a circle; whether it was done, and why not.
async fn change(world: &World, by: &str, verb: &str, body: serde_json::Value) -> Result<(), String> {
    let path = format!("/v1/circles/zorg/{verb}");
    world.client(by).post::<_, Id>(&path, &body).await.map(drop).map_err(|error| error.to_string())
}

async fn is_steward(world: &World, name: &str) -> anyhow::Result<bool> {
    Ok(world.client(name).get::<CircleDetail>("/v1/circles/zorg").await?.summary.steward)
}

fn all_of(partner: &str) -> serde_json::Value {
    serde_json::json!({ "partner": partner })
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_appointed_steward_goes_on_while_the_founder_is_away_and_is_dismissed_by_it() -> anyhow::Result<()> {
    let mut world = three().await?;
    let narrower = serde_json::json!({ "ceiling": "GREEN" });
    let refused = change(&world, "z-cert", "policy", narrower.clone()).await.unwrap_err();
    assert!(refused.contains("no steward") && refused.contains("ncsc"), "{refused}");
    change(&world, "ncsc", "appoint", all_of("z-cert")).await.unwrap();
    let steward = async || is_steward(&world, "z-cert").await;
    world.until("z-cert", "it is a steward", steward).await?;
    world.stop("ncsc")?;
    change(&world, "z-cert", "policy", narrower.clone()).await.unwrap();
    let green = async || {
        let detail: CircleDetail = world.client("ferm").get("/v1/circles/zorg").await?;
        Ok(detail.summary.ceiling == "TLP:GREEN")
    };
    world.until("ferm", "the circle goes up to GREEN", green).await?;
    let above = NewEntry { title: "above".to_owned(), ..entry("AMBER", 0) };
    let (_, why) = refusal(&world.client("ferm"), &above).await;
    assert!(why.contains("GREEN"), "{why}");
    let refused = change(&world, "z-cert", "remove", all_of("ncsc")).await.unwrap_err();
    assert!(refused.contains("equal or better rank"), "{refused}");
    world.start("ncsc").await?;
    world.connected("ncsc", 2).await?;
    change(&world, "ncsc", "dismiss", all_of("z-cert")).await.unwrap();
    let dismissed = async || Ok(!is_steward(&world, "z-cert").await?);
    world.until("z-cert", "it is no steward any more", dismissed).await?;
    let refused = change(&world, "z-cert", "policy", narrower.clone()).await.unwrap_err();
    assert!(refused.contains("no steward"), "{refused}");
    let refused = change(&world, "ncsc", "dismiss", all_of("z-cert")).await.unwrap_err();
    assert!(refused.contains("`cwn circle show`"), "{refused}");
    let detail: CircleDetail = world.client("ferm").get("/v1/circles/zorg").await?;
    assert_eq!(detail.members.len(), 3, "who is dismissed goes on belonging");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_an_entry_is_taken_back_though_its_only_addressee_has_left_and_the_circle_carries_it_no_more()
-> anyhow::Result<()> {
    let world = three().await?;
    let secret = world.publish_as("ncsc", "zorg", "secret", "RED", &["ferm"]).await?;
    change(&world, "ncsc", "remove", all_of("ferm")).await.unwrap();
    change(&world, "ncsc", "policy", serde_json::json!({ "ceiling": "GREEN" })).await.unwrap();
    let path = format!("/v1/entries/{}/retract", secret.reference);
    let because = serde_json::json!({ "reason": "it was for nobody else" });
    let taken: Published = world.client("ncsc").post(&path, &because).await?;
    assert_eq!((taken.audience.partners.as_slice(), taken.audience.nodes), (["ncsc".to_owned()].as_slice(), 1));
    let hidden = async || Ok(world.read("ncsc", &secret.reference).await?.summary.state == "retracted");
    world.until("ncsc", "it is taken back", hidden).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_named_twice_belongs_to_a_new_circle_once() -> anyhow::Result<()> {
    let world = three().await?;
    world.found("ncsc", "haven", &["z-cert", "z-cert", "ncsc", "ferm"]).await?;
    let detail: CircleDetail = world.client("ncsc").get("/v1/circles/haven").await?;
    assert_eq!(detail.members.len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_what_its_author_takes_back_disappears_everywhere_and_stays_away_after_a_start() -> anyhow::Result<()> {
    let mut world = three().await?;
    let wrong = world.publish("ncsc", "zorg", "wrong").await?;
    world.publish("ncsc", "zorg", "right").await?;
    for name in ["z-cert", "ferm"] {
        world.expect_titles(name, "zorg", &["wrong", "right"]).await?;
    }
    let path = format!("/v1/entries/{}/retract", wrong.reference);
    let because = serde_json::json!({ "reason": "the second address is that of a hospital" });
    let refused = world.client("ferm").post::<_, Published>(&path, &because).await.unwrap_err().to_string();
    assert!(refused.contains("only its author"), "{refused}");
    let taken: Published = world.client("ncsc").post(&path, &because).await?;
    world.kill("ferm")?;
    world.start("ferm").await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        let listed = ["retracted", "right", "the second address is that of a hospital"];
        world.expect_titles(name, "zorg", &listed).await?;
        let detail = world.read(name, &wrong.reference).await?;
        assert_eq!((detail.body, detail.summary.title, detail.summary.state.as_str()), (None, None, "retracted"));
        assert!(detail.unreadable.is_some_and(|why| why.contains("took it back")), "{name}");
        let reason = world.read(name, &taken.reference).await?;
        assert_eq!(reason.body.as_deref(), Some("the second address is that of a hospital"));
    }
    let again = world.client("ncsc").post::<_, Published>(&path, &because).await.unwrap_err().to_string();
    assert!(again.contains("took it back"), "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_newcomer_opens_what_came_before_it_as_far_as_the_policy_of_the_time_lets_it() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.connected(name, 2).await?;
    }
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    world.publish("ncsc", "zorg", "kept back").await?;
    let history = |word: &str| serde_json::json!({ "history": word });
    let refused = change(&world, "ncsc", "policy", history("some")).await.unwrap_err();
    assert!(refused.contains("none or all"), "{refused}");
    change(&world, "ncsc", "policy", history("all")).await.unwrap();
    let heard = async || {
        let detail: CircleDetail = world.client("z-cert").get("/v1/circles/zorg").await?;
        Ok(detail.history == "all")
    };
    world.until("z-cert", "it knows the policy", heard).await?;
    world.publish("ncsc", "zorg", "open").await?;
    world.publish("z-cert", "zorg", "open too").await?;
    world.expect_titles("ncsc", "zorg", &["kept back", "open", "open too"]).await?;
    change(&world, "ncsc", "add", all_of("ferm")).await.unwrap();
    let titles = ["not_for_us", "open", "open too"];
    world.expect_titles("ferm", "zorg", &titles).await?;
    world.stop("ncsc")?;
    world.stop("z-cert")?;
    world.kill("ferm")?;
    world.start("ferm").await?;
    world.expect_titles("ferm", "zorg", &titles).await?;
    world.kill("ferm")?;
    assert_eq!(world.readable("ferm", &world.keys("ferm")?)?, ["open", "open too"]);
    Ok(())
}

/// Has a node that does not run write once more in a circle, under a key that it wraps to these nodes alone, whoever
/// belongs there. No honest node does that.
fn write_for_some(world: &World, by: &str, circle: CircleId, wrapped_to: &[&str], title: &str) -> anyhow::Result<Hash> {
    let keys = world.keys(by)?;
    let me = keys.signing.public();
    let (mut store, _) = Store::open(&world.node(by).data, &mut |_| {})?;
    let logs = store.logs()?;
    let mut own = logs.into_iter().filter(|(key, _)| (key.circle, key.author) == (circle, me)).map(|(key, tip)| {
        let first = Stored::read(store.entry(&key, 0)?.context("it is held")?)?;
        Ok((key, tip, first.header().opening.clone().context("the first entry opens the log")?, first.header().epoch))
    });
    let (key, tip, opening, epoch) = own
        .find(|own: &anyhow::Result<_>| own.as_ref().is_ok_and(|(.., epoch)| epoch.is_some()))
        .context("it has written nothing there")??;
    let bytes = store.record(&circle, &epoch.context("it has an epoch")?)?.context("its record is held")?;
    let signed: SignedRecord = encoding::from_bytes(&bytes, limits::SIGNED_RECORD_BYTES)?;
    let sealing = wrapped_to.iter().map(|name| Ok(world.keys(name)?.sealing.recipient()));
    let recipients: Vec<Recipient> = sealing.collect::<anyhow::Result<_>>()?;
    let (epoch_key, secret) = (EpochKey::from_bytes([7; 32]), [7; 32]);
    let mut record = signed.unverified(limits::RECORD_BYTES)?;
    record.commitment = epoch_key.commitment();
    record.wrapped = Age.seal_to_recipients(&recipients, &secret)?;
    let signed = epoch::sign(&record, &keys.signing);
    let hash = signed.hash(Domain::EPOCH);
    let report = Report { title: title.to_owned(), body: String::new(), references: Vec::new() };
    let payload = report_payload(me, circle, Tlp::Amber, None, Vec::new(), &report, Vec::new())?;
    let payload = Age.seal_to_epoch(&epoch_key, &payload.to_bytes()?);
    let cites = vec![CutLine { log: key.log, height: tip.height, head: tip.head }];
    let opening = Opening { under: opening.under, cites };
    let mut writer = Writer::open(circle, keys.signing.clone(), LogId([7; 16]), opening);
    let draft = Draft { suite: Suite::Epoch, epoch: Some(hash), payload, expiry: None, retracts: None };
    let entry = writer.append(clock::now(), draft);
    let written = entry.hash();
    store.append(&[Write::Record { circle, hash, bytes: encoding::to_bytes(&signed) }, Write::Entry(entry)])?;
    store.close()?;
    Ok(written)
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_member_that_a_key_was_not_wrapped_to_though_it_belongs_says_so_to_author_and_stewards()
-> anyhow::Result<()> {
    let mut world = three().await?;
    let published = world.publish("ferm", "zorg", "for all").await?;
    world.expect_titles("z-cert", "zorg", &["for all"]).await?;
    let circle = CircleId::from_hex(&published.circle).unwrap();
    world.stop("ferm")?;
    let written = write_for_some(&world, "ferm", circle, &["ferm", "ncsc"], "for some")?;
    world.start("ferm").await?;
    world.expect_titles("ncsc", "zorg", &["for all", "for some"]).await?;
    world.expect_titles("z-cert", "zorg", &["for all", "unreadable"]).await?;
    let why = world.read("z-cert", &written.to_string()[..12]).await?.unreadable;
    assert!(why.as_ref().is_some_and(|why| why.contains("wrapped wrongly")), "{why:?}");
    for told in ["ferm", "ncsc"] {
        let client = world.client(told);
        let path = format!("/v1/entries/{}/who", &written.to_string()[..12]);
        let says = async || {
            let who: Who = client.get(&path).await?;
            let (ncsc, z_cert) = (line(&who, "ncsc"), line(&who, "z-cert"));
            assert!(ncsc.is_none_or(|line| !line.cannot_open), "{who:?}");
            Ok(z_cert.is_some_and(|line| line.cannot_open))
        };
        world.until(told, "it says that z-cert cannot open it", says).await?;
    }
    Ok(())
}

fn line<'a>(who: &'a Who, partner: &str) -> Option<&'a WhoLine> {
    who.nodes.iter().find(|line| line.partner == partner)
}

async fn detail(world: &World, name: &str) -> anyhow::Result<CircleDetail> {
    Ok(world.client(name).get("/v1/circles/zorg").await?)
}

async fn warned(world: &World, name: &str, of: &str) -> anyhow::Result<bool> {
    let status: Status = world.client(name).get("/v1/status").await?;
    Ok(status.warnings.iter().any(|warning| warning.contains(of)))
}

/// z-cert, a steward, removed ferm without having heard all it wrote; ncsc, the founder, holds the rest.
/// The reference of that comes along.
async fn beyond_a_cut() -> anyhow::Result<(World, String)> {
    let mut world = three().await?;
    change(&world, "ncsc", "appoint", all_of("z-cert")).await.unwrap();
    let steward = async || is_steward(&world, "z-cert").await;
    world.until("z-cert", "it is a steward", steward).await?;
    world.publish("ferm", "zorg", "before").await?;
    world.expect_titles("z-cert", "zorg", &["before"]).await?;
    world.stop("z-cert")?;
    let unheard = world.publish("ferm", "zorg", "unheard").await?.reference;
    world.expect_titles("ncsc", "zorg", &["before", "unheard"]).await?;
    world.stop("ncsc")?;
    world.stop("ferm")?;
    world.start("z-cert").await?;
    change(&world, "z-cert", "remove", all_of("ferm")).await.unwrap();
    world.start("ncsc").await?;
    let withheld = async || Ok(detail(&world, "ncsc").await?.withheld.iter().any(|one| one.entries == 1));
    world.until("ncsc", "it shows what lies beyond the cut", withheld).await?;
    world.expect_titles("ncsc", "zorg", &["before"]).await?;
    Ok((world, unheard))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beyond_the_cut_of_a_removal_is_shown_and_accepted_once_a_steward_raises_it() -> anyhow::Result<()> {
    let (mut world, unheard) = beyond_a_cut().await?;
    let aside = world.read("ncsc", &unheard).await.unwrap_err().to_string();
    let says = ["put aside", "beyond the cut of the removal of ferm", "`cwn circle show zorg`"];
    assert!(says.iter().all(|words| aside.contains(words)), "{aside}");
    let nowhere = world.read("z-cert", &unheard).await.unwrap_err().to_string();
    assert!(nowhere.contains("no entry here starts with"), "{nowhere}");
    let [one] = detail(&world, "ncsc").await?.withheld.try_into().unwrap();
    assert!(one.partner == "ferm" && one.bytes > 100, "{one:?}");
    let both = vec!["ncsc".to_owned(), "z-cert".to_owned()];
    assert_eq!(one.raise, RaiseView { this: true, by: both, belongs: false });
    assert!(warned(&world, "ncsc", "beyond the cut").await?);
    let refused = async |by: &str, of: &str| change(&world, by, "raise", all_of(of)).await.unwrap_err();
    let nothing = refused("z-cert", "ferm").await;
    assert!(nothing.contains("nothing of ferm is held here") && nothing.contains("a steward whose node"), "{nothing}");
    assert!(nothing.contains("cannot be accepted as things are") && nothing.contains("anew"), "{nothing}");
    let belongs = refused("ncsc", "z-cert").await;
    assert!(belongs.contains("z-cert belongs to the circle"), "{belongs}");
    change(&world, "ncsc", "raise", all_of("ferm")).await.unwrap();
    world.kill("ncsc")?;
    world.start("ncsc").await?;
    for name in ["ncsc", "z-cert"] {
        world.expect_titles(name, "zorg", &["before", "unheard"]).await?;
        assert!(detail(&world, name).await?.withheld.is_empty(), "{name}");
    }
    assert!(!warned(&world, "ncsc", "beyond the cut").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beyond_a_cut_of_who_belongs_again_is_accepted_once_it_is_removed_and_the_cut_raised()
-> anyhow::Result<()> {
    let (world, _) = beyond_a_cut().await?;
    change(&world, "ncsc", "add", all_of("ferm")).await.unwrap();
    let [one] = detail(&world, "ncsc").await?.withheld.try_into().unwrap();
    assert_eq!((one.raise.this, one.raise.belongs), (true, true));
    let refused = change(&world, "ncsc", "raise", all_of("ferm")).await.unwrap_err();
    assert!(
        refused.contains("ferm belongs to the circle again") && refused.contains("; remove it, raise the cut then"),
        "{refused}"
    );
    change(&world, "ncsc", "remove", all_of("ferm")).await.unwrap();
    world.expect_titles("ncsc", "zorg", &["before"]).await?;
    for verb in ["raise", "add"] {
        change(&world, "ncsc", verb, all_of("ferm")).await.unwrap();
    }
    world.expect_titles("ncsc", "zorg", &["before", "unheard"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_raise_no_cut_is_shown_who_can() -> anyhow::Result<()> {
    let mut world = three().await?;
    change(&world, "ncsc", "appoint", all_of("z-cert")).await.unwrap();
    world.until("z-cert", "it is a steward", async || is_steward(&world, "z-cert").await).await?;
    world.stop("ncsc")?;
    world.publish("ferm", "zorg", "unheard").await?;
    world.expect_titles("z-cert", "zorg", &["unheard"]).await?;
    world.stop("z-cert")?;
    world.stop("ferm")?;
    world.start("ncsc").await?;
    change(&world, "ncsc", "remove", all_of("ferm")).await.unwrap();
    world.start("z-cert").await?;
    let withheld = async || Ok(!detail(&world, "z-cert").await?.withheld.is_empty());
    world.until("z-cert", "it shows what lies beyond the cut", withheld).await?;
    let [one] = detail(&world, "z-cert").await?.withheld.try_into().unwrap();
    let founder = vec!["ncsc".to_owned()];
    assert_eq!(one.raise, RaiseView { this: false, by: founder, belongs: false });
    let refused = change(&world, "z-cert", "raise", all_of("ferm")).await.unwrap_err();
    assert!(refused.contains("a steward of better rank than this node's removed ferm; only ncsc"), "{refused}");
    // And ncsc, who could, holds nothing of it: who is sent there does not come back with an advice that is refused.
    for refused in [refused, change(&world, "ncsc", "raise", all_of("ferm")).await.unwrap_err()] {
        assert!(refused.contains("cannot be accepted as things are"), "{refused}");
    }
    change(&world, "ncsc", "dismiss", all_of("z-cert")).await.unwrap();
    world.until("z-cert", "it is none any more", async || Ok(!is_steward(&world, "z-cert").await?)).await?;
    let refused = change(&world, "z-cert", "raise", all_of("ferm")).await.unwrap_err();
    assert!(refused.contains("no steward of the circle; ask one of ncsc"), "{refused}");
    world.expect_titles("z-cert", "zorg", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_what_goes_beyond_a_quota_waits_is_shown_and_comes_once_it_is_raised() -> anyhow::Result<()> {
    let mut world = three().await?;
    world.publish("ferm", "zorg", "first").await?;
    for name in ["ncsc", "z-cert"] {
        world.expect_titles(name, "zorg", &["first"]).await?;
    }
    world.stop("ncsc")?;
    world.stop("z-cert")?;
    for title in ["second", "third", "fourth"] {
        world.publish("ferm", "zorg", title).await?;
    }
    assert_eq!(detail(&world, "ferm").await?.used.entries, 4);
    world.stop("ferm")?;
    for name in ["ncsc", "z-cert"] {
        world.start(name).await?;
    }
    world.connected("ncsc", 1).await?;
    let entries = |entries: u64| serde_json::json!({ "quota": { "entries": entries } });
    let refused = change(&world, "ncsc", "policy", entries(0)).await.unwrap_err();
    assert!(refused.contains("at least 1"), "{refused}");
    change(&world, "ncsc", "policy", entries(2)).await.unwrap();
    let heard = async || Ok(detail(&world, "z-cert").await?.quota.entries == 2);
    world.until("z-cert", "it knows the quota", heard).await?;
    world.start("ferm").await?;
    for name in ["ncsc", "z-cert"] {
        let waits = async || Ok(detail(&world, name).await?.over_quota.iter().any(|one| one.waiting == 2));
        world.until(name, "the rest waits", waits).await?;
        world.expect_titles(name, "zorg", &["first", "second"]).await?;
    }
    assert!(warned(&world, "ncsc", "quota").await? && !warned(&world, "z-cert", "quota").await?);
    // The author hears of it, and others write as ever.
    let heard = async || Ok(detail(&world, "ferm").await?.quota.entries == 2);
    world.until("ferm", "it hears of its quota", heard).await?;
    let (code, why) = refusal(&world.client("ferm"), &entry("GREEN", 0)).await;
    assert!(code == "refused" && why.contains("quota"), "{why}");
    world.publish("z-cert", "zorg", "of another").await?;
    world.expect_titles("ncsc", "zorg", &["first", "second", "of another"]).await?;
    change(&world, "ncsc", "policy", entries(100)).await.unwrap();
    for name in ["ncsc", "z-cert"] {
        world.expect_titles(name, "zorg", &["first", "second", "third", "fourth", "of another"]).await?;
        assert!(detail(&world, name).await?.over_quota.is_empty(), "{name}");
    }
    Ok(())
}
