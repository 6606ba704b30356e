//! What time drops, over real daemons and their files.

use std::{fs, path::Path};

use cwn_node::{
    api::types::{CircleDetail, Id, NewEntry, Published, Uploaded},
    clock,
};
use cwn_tests::world::World;

async fn two() -> anyhow::Result<World> {
    let mut world = World::new(&["ncsc", "ferm"])?;
    world.start_all().await?;
    world.connected("ferm", 1).await?;
    world.found("ncsc", "zorg", &["ferm"]).await?;
    Ok(world)
}

/// Publishes a file that is kept for so long.
async fn publish_for(world: &World, title: &str, content: &str, expires_at: Option<u64>) -> anyhow::Result<Published> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file.txt");
    fs::write(&file, content)?;
    let path = "/v1/attachments?circle=zorg&name=file.txt";
    let uploaded: Uploaded = world.client("ncsc").upload(path, &file, |_| {}).await?;
    let entry = NewEntry {
        circle: "zorg".to_owned(),
        tlp: "AMBER".to_owned(),
        pap: None,
        title: title.to_owned(),
        body: format!("The body of {title}."),
        references: Vec::new(),
        to: Vec::new(),
        attachments: vec![uploaded.id],
        wait_seconds: Some(60),
        expires_at,
    };
    Ok(world.client("ncsc").post("/v1/entries", &entry).await?)
}

fn parts(world: &World, name: &str, circle: &str) -> anyhow::Result<usize> {
    Ok(fs::read_dir(world.node(name).data.join("chunks").join(circle))?.count())
}

/// Bytes of sealed entries that are not zeros: what was dropped takes no space.
fn segment_bytes(data: &Path) -> anyhow::Result<usize> {
    let files = fs::read_dir(data.join("segments"))?;
    files.map(|file| Ok(fs::read(file?.path())?.iter().filter(|byte| **byte != 0).count())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_leaves_every_disk_with_its_files_and_every_face_says_so() -> anyhow::Result<()> {
    let mut world = two().await?;
    let lasting = publish_for(&world, "lasting", "for ever", None).await?;
    let circle = lasting.circle.clone();
    let short = publish_for(&world, "short", &"briefly ".repeat(20_000), Some(clock::now().0 + 15_000)).await?;
    let all = async || Ok(parts(&world, "ferm", &circle)? == 2);
    world.until("ferm", "both files are here", all).await?;
    world.expect_titles("ferm", "zorg", &["lasting", "short"]).await?;
    assert_eq!(world.read("ferm", &short.reference).await?.body.as_deref(), Some("The body of short."));
    let before = segment_bytes(&world.node("ferm").data)?;
    for name in ["ncsc", "ferm"] {
        world.expect_titles(name, "zorg", &["lasting", "expired"]).await?;
        let detail = world.read(name, &short.reference).await?;
        assert_eq!((detail.body, detail.summary.title), (None, None), "{name}");
        assert!(detail.unreadable.is_some_and(|why| why.contains("it expired at")), "{name}");
        let swept = async || Ok(parts(&world, name, &circle)? == 1);
        world.until(name, "its file is gone", swept).await?;
    }
    assert!(segment_bytes(&world.node("ferm").data)? < before + 2_000, "nothing is written in its place");
    world.kill("ferm")?;
    world.start("ferm").await?;
    world.connected("ferm", 1).await?;
    world.expect_titles("ferm", "zorg", &["lasting", "expired"]).await?;
    assert_eq!(world.read("ferm", &lasting.reference).await?.body.as_deref(), Some("The body of lasting."));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_publishes_what_has_expired_and_a_retention_is_shown_to_everybody() -> anyhow::Result<()> {
    let world = two().await?;
    let refused = publish_for(&world, "too late", "x", Some(clock::now().0 - 1)).await.unwrap_err().to_string();
    assert!(refused.contains("would have expired already"), "{refused}");
    let change = |days: u32| serde_json::json!({ "retention_days": days });
    let refused = world.client("ncsc").post::<_, Id>("/v1/circles/zorg/policy", &change(40_000)).await;
    assert!(refused.unwrap_err().to_string().contains("36500"));
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/policy", &change(30)).await?;
    let shown = async |name: &str| world.client(name).get::<CircleDetail>("/v1/circles/zorg").await;
    let said = async || Ok(shown("ferm").await?.kept_less.is_some_and(|less| less.days == 30 && less.at.is_some()));
    world.until("ferm", "it knows, and waits for a week", said).await?;
    assert_eq!(shown("ferm").await?.kept_days, None);
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/policy", &change(0)).await?;
    let put_right = async || Ok(shown("ferm").await?.kept_less.is_none());
    world.until("ferm", "it is put right in time", put_right).await
}
