//! What a retracted entry carried leaves every disk, and nothing else does.

use std::{collections::BTreeSet, fs, path::PathBuf};

use cwn_crypto::{PublicKey, Time, encoding, issuer_log::LogId};
use cwn_engine::{
    limits,
    log::{CircleId, Retracts},
    store::{Write, known_facts},
};
use cwn_node::{
    api::types::{NewEntry, Published, Uploaded},
    clock,
    store::Store,
};
use cwn_tests::world::World;

/// What the engine notes of a retraction; the time is when this node first had it.
type Noted = (CircleId, PublicKey, LogId, u64, Retracts, Time, bool);

/// What a node that does not run holds as taken back it has had for a day, and to the next whole hour.
fn a_day_passes(world: &World, name: &str) -> anyhow::Result<()> {
    let (mut store, _) = Store::open(&world.node(name).data, &mut |_| {})?;
    let mut aged = Vec::new();
    for (key, value) in known_facts(&store, b"retract/")? {
        let mut noted: Noted = encoding::from_bytes(&value, 1 << 16)?;
        noted.5 = Time(clock::now().0 - limits::RETRACT_MS - limits::ERASE_EVERY_MS);
        aged.push(Write::Fact { key, value: encoding::to_bytes(&noted) });
    }
    assert!(!aged.is_empty(), "{name} holds a retraction");
    store.append(&aged)?;
    Ok(store.close()?)
}

fn parts_of(world: &World, name: &str, circle: &str) -> PathBuf {
    world.node(name).data.join("chunks").join(circle)
}

fn parts(world: &World, name: &str, circle: &str) -> anyhow::Result<BTreeSet<String>> {
    let parts = fs::read_dir(parts_of(world, name, circle))?;
    Ok(parts.map(|part| Ok(part?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<_>>()?)
}

/// An upload in the circle, with this content.
async fn upload(world: &World, name: &str, content: &str) -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file.txt");
    fs::write(&file, content)?;
    let path = "/v1/attachments?circle=zorg&name=file.txt";
    Ok(world.client(name).upload::<Uploaded>(path, &file, |_| {}).await?.id)
}

async fn publish(world: &World, name: &str, title: &str, upload: &str) -> anyhow::Result<Published> {
    let entry = NewEntry {
        circle: "zorg".to_owned(),
        tlp: "AMBER".to_owned(),
        pap: None,
        title: title.to_owned(),
        body: String::new(),
        references: Vec::new(),
        to: Vec::new(),
        attachments: vec![upload.to_owned()],
        wait_seconds: Some(60),
        expires_at: None,
    };
    Ok(world.client(name).post("/v1/entries", &entry).await?)
}

/// Two entries that carry the very same file: both are published before the upload counts as used.
async fn two_with_one_file(world: &World, content: &str) -> anyhow::Result<(Published, Published)> {
    for _ in 0..20 {
        let id = upload(world, "ncsc", content).await?;
        let both = tokio::join!(publish(world, "ncsc", "one", &id), publish(world, "ncsc", "other", &id));
        if let (Ok(one), Ok(other)) = both {
            return Ok((one, other));
        }
    }
    anyhow::bail!("one was always published before the other was read")
}

async fn saved(world: &World, name: &str, reference: &str) -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("saved");
    world.client(name).download(&format!("/v1/entries/{reference}/attachments/0"), &path, |_| {}).await?;
    Ok(fs::read_to_string(path)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_the_file_of_a_retracted_entry_leaves_every_disk_and_stays_away_and_no_other_does() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "ferm"])?;
    world.start_all().await?;
    world.connected("ferm", 1).await?;
    world.found("ncsc", "zorg", &["ferm"]).await?;
    let wrong = publish(&world, "ncsc", "wrong", &upload(&world, "ncsc", "what nobody may have").await?).await?;
    let circle = wrong.circle.clone();
    let of_wrong = parts(&world, "ncsc", &circle)?;
    let (one, other) = two_with_one_file(&world, "what both carry").await?;
    for reference in [&wrong.reference, &other.reference] {
        let here = async || Ok(saved(&world, "ferm", reference).await.is_ok());
        world.until("ferm", "the file is here", here).await?;
    }
    for taken in [&wrong, &one] {
        let path = format!("/v1/entries/{}/retract", taken.reference);
        let _: Published = world.client("ncsc").post(&path, &serde_json::json!({})).await?;
    }
    let hidden = async || Ok(world.read("ferm", &one.reference).await?.summary.state == "retracted");
    world.until("ferm", "both are taken back", hidden).await?;
    for name in ["ncsc", "ferm"] {
        assert!(parts(&world, name, &circle)?.is_superset(&of_wrong), "{name} keeps it for a day");
        world.stop(name)?;
    }

    a_day_passes(&world, "ncsc")?;
    a_day_passes(&world, "ferm")?;
    let kept = tempfile::tempdir()?;
    for part in &of_wrong {
        fs::copy(parts_of(&world, "ferm", &circle).join(part), kept.path().join(part))?;
    }
    world.start_all().await?;
    world.connected("ferm", 1).await?;
    let waits = upload(&world, "ncsc", "what waits to be published").await?;
    for name in ["ncsc", "ferm"] {
        let gone = async || Ok(parts(&world, name, &circle)?.is_disjoint(&of_wrong));
        world.until(name, "the file of what was taken back is gone", gone).await?;
    }
    for name in ["ncsc", "ferm"] {
        assert_eq!(saved(&world, name, &other.reference).await?, "what both carry");
    }
    let later = publish(&world, "ncsc", "later", &waits).await?;
    let whole = async || {
        Ok(saved(&world, "ferm", &later.reference).await.ok().as_deref() == Some("what waits to be published"))
    };
    world.until("ferm", "what waited for its entry was no stray", whole).await?;

    // A part comes back as a backup would bring it; or the last end came between erasing and sweeping.
    world.stop("ferm")?;
    for part in &of_wrong {
        fs::copy(kept.path().join(part), parts_of(&world, "ferm", &circle).join(part))?;
    }
    world.start("ferm").await?;
    let gone = async || Ok(parts(&world, "ferm", &circle)?.is_disjoint(&of_wrong));
    world.until("ferm", "it is gone again", gone).await?;
    assert_eq!(saved(&world, "ferm", &other.reference).await?, "what both carry");
    assert_eq!(saved(&world, "ferm", &later.reference).await?, "what waits to be published");
    Ok(())
}
