//! What members of circles see, over real daemons.

use cwn_node::{
    api::{
        Circles,
        client::{Client, Error},
        types::{EntryDetail, Id, Membership, NewEntry, Published, Status, Uploaded, Who},
    },
    config::Accept,
};
use cwn_tests::world::World;

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
    let world = three().await?;
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
    world.expect_titles("ferm", "zorg", &["for three", "for three again", "not_for_us"]).await
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
    let _: Id = world.client("z-cert").post("/v1/circles/unwanted/decline", &nothing).await?;
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
    }
}

async fn refusal(client: &Client, entry: &NewEntry) -> (String, String) {
    match client.post::<_, Published>("/v1/entries", entry).await {
        Err(Error::Refused(problem)) => (problem.code, problem.error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_alone_nothing_above_green_is_sealed_to_a_roster_that_may_be_old() -> anyhow::Result<()> {
    let mut world = three().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.kill(name)?;
    }
    world.start("z-cert").await?;
    let client = world.client("z-cert");
    let (code, why) = refusal(&client, &entry("AMBER", 1)).await;
    assert_eq!(code, "not_current");
    assert!(why.contains("ncsc"), "{why}");
    let _: Published = client.post("/v1/entries", &entry("GREEN", 0)).await?;
    world.start("ncsc").await?;
    let _: Published = client.post("/v1/entries", &entry("AMBER", 60)).await?;
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
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_arrives_whole_and_damage_is_healed_from_a_peer() -> anyhow::Result<()> {
    let mut world = three().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file.bin");
    let bytes: Vec<u8> = (0..3 * 1_048_576 + 17_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&file, &bytes)?;
    let path = "/v1/attachments?circle=zorg&name=file.bin";
    let uploaded: Uploaded = world.client("ncsc").upload(path, &file, |_| {}).await?;
    let with_file = NewEntry { attachments: vec![uploaded.id], ..entry("AMBER", 60) };
    let published: Published = world.client("ncsc").post("/v1/entries", &with_file).await?;
    let entry_path = format!("/v1/entries/{}", published.reference);
    let ferm = world.client("ferm");
    let whole = async || {
        let entry: EntryDetail = ferm.get(&entry_path).await?;
        Ok(entry.attached.iter().all(|one| one.chunks == 4 && one.chunks_here == 4))
    };
    world.until("ferm", "all parts are here", async || whole().await).await?;
    let saved = dir.path().join("saved.bin");
    world.client("ferm").download(&format!("{entry_path}/attachments/0"), &saved, |_| {}).await?;
    assert_eq!(std::fs::read(&saved)?, bytes);
    // One part rots on ferm's disk: it is not given out, and comes back from a peer.
    let chunks = world.node("ferm").data.join("chunks").join(&published.circle);
    let one = std::fs::read_dir(&chunks)?.next().unwrap()?.path();
    std::fs::write(&one, b"rot")?;
    let again = dir.path().join("again.bin");
    assert!(world.client("ferm").download(&format!("{entry_path}/attachments/0"), &again, |_| {}).await.is_err());
    assert!(!again.exists(), "a part of a file must not be taken for the whole");
    world.kill("ferm")?;
    world.start("ferm").await?;
    world.until("ferm", "the part is back", async || whole().await).await?;
    world.client("ferm").download(&format!("{entry_path}/attachments/0"), &again, |_| {}).await?;
    assert_eq!(std::fs::read(&again)?, bytes);
    Ok(())
}
