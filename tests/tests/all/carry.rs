//! Circles that travel in files, and nodes that come back from one.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cwn_crypto::{Time, encoding, issuer_log::LogId};
use cwn_engine::{
    circle::{Act, Operation},
    fork::{Branch, ForkProof},
    log::{Authentic, CircleId, Draft, EntryBytes, Opening, Stored, Suite, Under, Writer},
    store::{Read, Write},
};
use cwn_node::{
    api::{
        Circles,
        types::{CircleDetail, ExportView, Imported, NewEntry, Published, Status, Uploaded},
    },
    config::Accept,
    keystore::Keys,
    store::Store,
};
use cwn_tests::{
    shell::{Said, say},
    world::{World, program},
};

/// A network in which nobody can reach anybody.
async fn islands(names: &[&str]) -> anyhow::Result<World> {
    let mut world = World::new(names)?;
    for name in names {
        world.configure(name, |config| {
            config.network.bootstrap.clear();
            config.network.listen.clear();
            config.network.outbound_only = true;
            config.circles.accept = Accept::Ask;
        })?;
    }
    world.start_all().await?;
    Ok(world)
}

/// What a person types at a node.
fn cwn(world: &World, name: &str, line: &str) -> anyhow::Result<Said> {
    let data = &world.node(name).data;
    say(data, &format!("cwn --data {} {line}", data.display()))
}

fn done(said: Said) -> String {
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    said.out
}

/// Drops what was kept as a draft instead of being published.
fn drop_draft(world: &World, name: &str, said: &str) -> anyhow::Result<()> {
    let id = said.strip_prefix("draft ").unwrap().trim();
    done(cwn(world, name, &format!("drafts drop {id} --yes"))?);
    Ok(())
}

fn refused(said: Said) -> String {
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    said.out + &said.err
}

fn export(world: &World, name: &str, file: &Path, more: &str) -> anyhow::Result<()> {
    done(cwn(world, name, &format!("export --circle haven --out {} {more}", file.display()))?);
    Ok(())
}

fn import(world: &World, name: &str, file: &Path) -> anyhow::Result<Said> {
    cwn(world, name, &format!("import {}", file.display()))
}

async fn attach(world: &World, name: &str, file: &Path, title: &str) -> anyhow::Result<Published> {
    attach_as(world, name, file, title, "AMBER", &[]).await
}

async fn attach_as(
    world: &World,
    name: &str,
    file: &Path,
    title: &str,
    tlp: &str,
    to: &[&str],
) -> anyhow::Result<Published> {
    let path = "/v1/attachments?circle=haven&name=plan.pdf";
    let uploaded: Uploaded = world.client(name).upload(path, file, |_| {}).await?;
    let entry = NewEntry {
        circle: "haven".to_owned(),
        tlp: tlp.to_owned(),
        pap: None,
        title: title.to_owned(),
        body: String::new(),
        references: Vec::new(),
        to: to.iter().map(|name| (*name).to_owned()).collect(),
        attachments: vec![uploaded.id],
        wait_seconds: Some(60),
        expires_at: None,
    };
    Ok(world.client(name).post("/v1/entries", &entry).await?)
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_never_meet_share_a_circle_and_a_file_by_stick() -> anyhow::Result<()> {
    let world = islands(&["ncsc", "z-cert"]).await?;
    let stick = tempfile::tempdir()?;
    let (there, back) = (stick.path().join("there.cwn"), stick.path().join("back.cwn"));
    world.found_at_once("ncsc", "haven", &["z-cert"]).await?;
    let plan = stick.path().join("plan.pdf");
    fs::write(&plan, vec![7; 1_500_000])?;
    let published = attach(&world, "ncsc", &plan, "storm").await?;
    world.publish_as("ncsc", "haven", "for z-cert alone", "RED", &["z-cert"]).await?;
    let bare = stick.path().join("bare.cwn");
    let said = cwn(&world, "ncsc", &format!("export --circle haven --out {}", bare.display()))?;
    assert!(said.err.contains("without 1 attachment (--attachments"), "{}", said.err);
    let lost = format!("attach haven --tlp GREEN --refers-to ffffffffffff --yes {}", plan.display());
    let lost = refused(cwn(&world, "ncsc", &lost)?);
    assert!(lost.contains("--refers-to names no entry that is here"), "{lost}");
    export(&world, "ncsc", &there, "--attachments")?;

    let bytes = fs::read(&there)?;
    assert_eq!(fs::metadata(&there)?.permissions().mode() & 0o777, 0o600);
    let circles: Circles = world.client("ncsc").get("/v1/circles").await?;
    let network = world.authority.root.network().0;
    let circle = CircleId::from_hex(&circles.circles[0].id).unwrap();
    let node = world.node("ncsc").key;
    for named in [b"haven".as_slice(), b"z-cert", &circle.0.0, &network.0, &node.0] {
        assert!(!has(&bytes, named), "a finder of the file learns {:?}", String::from_utf8_lossy(named));
    }

    // The newcomer hears of the circle by the file; its operator accepts, and takes the rest.
    let said = done(import(&world, "z-cert", &there)?);
    assert!(said.contains("the circle is offered now: `cwn circle accept haven`"), "{said}");
    done(cwn(&world, "z-cert", "circle accept haven")?);
    let said = done(import(&world, "z-cert", &there)?);
    assert!(said.contains("new: 2 entries") && said.contains("2 parts of attachments"), "{said}");
    world.expect_titles("z-cert", "haven", &["opened", "storm"]).await?;
    let saved = stick.path().join("saved.pdf");
    done(cwn(&world, "z-cert", &format!("save {} --out {}", published.reference, saved.display()))?);
    assert_eq!(fs::read(&saved)?, fs::read(&plan)?);

    // Nothing is new the second time.
    let said = done(import(&world, "z-cert", &there)?);
    assert!(said.contains("new: 0 entries, 0 operations, 0 of the network\n"), "{said}");

    // And back. A file may be old: it makes no node current.
    let amber = cwn(&world, "z-cert", "publish haven --tlp AMBER --title x --yes --wait 0")?;
    drop_draft(&world, "z-cert", &done(amber))?;
    world.publish_as("z-cert", "haven", "answer", "GREEN", &[]).await?;
    export(&world, "z-cert", &back, "--to ncsc")?;
    done(import(&world, "ncsc", &back)?);
    world.expect_titles("ncsc", "haven", &["answer", "opened", "storm"]).await?;
    for name in ["ncsc", "z-cert"] {
        let status: Status = world.client(name).get("/v1/status").await?;
        assert_eq!(status.peers, 0, "{name} was never connected");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_kept_offline_hears_how_parts_of_an_attachment_come_to_it() -> anyhow::Result<()> {
    let mut world = islands(&["ncsc", "z-cert"]).await?;
    world.stop("z-cert")?;
    world.configure("z-cert", |config| (config.network.offline, config.circles.accept) = (true, Accept::Certified))?;
    world.start("z-cert").await?;
    let stick = tempfile::tempdir()?;
    let (bare, whole, plan) =
        (stick.path().join("bare.cwn"), stick.path().join("whole.cwn"), stick.path().join("plan.pdf"));
    world.found_at_once("ncsc", "haven", &["z-cert"]).await?;
    fs::write(&plan, vec![7; 100_000])?;
    let published = attach(&world, "ncsc", &plan, "storm").await?;
    export(&world, "ncsc", &bare, "")?;
    done(import(&world, "z-cert", &bare)?);
    world.expect_titles("z-cert", "haven", &["storm"]).await?;
    let save = format!("save {} --out {}", published.reference, stick.path().join("saved.pdf").display());
    let said = refused(cwn(&world, "z-cert", &save)?);
    assert!(said.contains("`cwn export --attachments`") && !said.contains("in a moment"), "{said}");
    export(&world, "ncsc", &whole, "--attachments")?;
    done(import(&world, "z-cert", &whole)?);
    done(cwn(&world, "z-cert", &save)?);
    Ok(())
}

/// Two entries of a log that somebody with a node's keys signs, the second once more with other content.
fn signed_twice(keys: &Keys, circle: CircleId, under: Under) -> [Vec<Authentic>; 2] {
    ["one thing", "another"]
        .map(|lie| {
            let opening = Opening { under, cites: Vec::new() };
            let mut writer = Writer::open(circle, keys.signing.clone(), LogId([0xf0; 16]), opening);
            ["before", lie].map(|text| {
                let (payload, suite) = (text.as_bytes().to_vec(), Suite::Named);
                writer.append(Time(1), Draft { suite, epoch: None, payload, expiry: None, retracts: None })
            })
        })
        .map(Vec::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_hears_by_file_that_a_member_signed_two_entries_for_one_place_and_which_stands()
-> anyhow::Result<()> {
    let mut world = islands(&["ncsc", "z-cert", "ferm"]).await?;
    let dir = tempfile::tempdir()?;
    let (stick, later) = (dir.path().join("stick.cwn"), dir.path().join("later.cwn"));
    world.found_at_once("ncsc", "haven", &["z-cert", "ferm"]).await?;
    world.publish("ncsc", "haven", "storm").await?;
    export(&world, "ncsc", &stick, "")?;
    done(import(&world, "z-cert", &stick)?);
    done(cwn(&world, "z-cert", "circle accept haven")?);
    done(import(&world, "z-cert", &stick)?);
    let circles: Circles = world.client("ncsc").get("/v1/circles").await?;
    let circle = CircleId::from_hex(&circles.circles[0].id).unwrap();

    // z-cert holds one of the two, and ncsc has been shown both.
    world.stop("ncsc")?;
    world.stop("z-cert")?;
    let keys = world.keys("ferm")?;
    let [one, other] = {
        let (store, _) = Store::open(&world.node("ncsc").data, &mut |_| {})?;
        let adds_ferm = |entry: &Stored| {
            let operation = Operation::from_bytes(entry.payload().unwrap_or_default());
            matches!(operation, Ok(Operation { act: Act::Add { partner, .. }, .. }) if partner.to_string() == "ferm")
        };
        let operations = operations_of(&store, circle)?;
        let under = operations.iter().find(|entry| adds_ferm(entry)).map(|entry| Under::Add(entry.hash())).unwrap();
        store.close()?;
        signed_twice(&keys, circle, under)
    };
    let branch = |entries: &[Authentic]| {
        let EntryBytes { header, signature, .. } = entries[1].bytes().clone();
        Branch { headers: vec![header.into()], signature }
    };
    let proof = ForkProof { one: branch(&one), other: branch(&other) };
    let fact = [b"fork/".as_slice(), &circle.0.0, &keys.signing.public().0, &[0xf0; 16]].concat();
    let proven = Write::Fact { key: fact, value: encoding::to_bytes(&proof) };
    for (name, writes) in [
        ("ncsc", one.into_iter().map(Write::Entry).chain([proven]).collect::<Vec<Write>>()),
        ("z-cert", other.into_iter().map(Write::Entry).collect()),
    ] {
        let (mut store, _) = Store::open(&world.node(name).data, &mut |_| {})?;
        store.append(&writes)?;
        store.close()?;
        world.start(name).await?;
    }
    let lists = async |count: usize| Ok(world.titles("z-cert", "haven").await?.len() == count);
    world.until("z-cert", "it lists both", async || lists(3).await).await?;
    export(&world, "ncsc", &later, "--to z-cert")?;
    done(import(&world, "z-cert", &later)?);
    world.until("z-cert", "it lists what stood before alone", async || lists(2).await).await?;
    assert_eq!(world.titles("z-cert", "haven").await?, world.titles("ncsc", "haven").await?);
    let shown = done(cwn(&world, "z-cert", "circle show haven")?);
    assert!(shown.contains("ferm signed two entries for one place"), "{shown}");

    // A steward says which of the two stands; z-cert holds the other.
    let [fork] = world.client("ncsc").get::<CircleDetail>("/v1/circles/haven").await?.forks.try_into().unwrap();
    let branch = fork.branch.unwrap()[..12].to_owned();
    let shown = done(cwn(&world, "ncsc", "circle show haven")?);
    let command = shown.split('`').find_map(|part| part.strip_prefix("cwn circle raise"));
    let named = format!("circle raise{} --yes", command.unwrap_or_else(|| panic!("{shown}")));
    assert!(fork.disputed == 1 && named.contains(&branch), "{named}");
    // As somebody may write it down who was told it by telephone.
    let named = named.replace(&branch, &branch.to_uppercase());
    let early = refused(cwn(&world, "ncsc", &named)?);
    assert!(early.contains("`cwn circle remove` comes first"), "{early}");
    done(cwn(&world, "ncsc", "circle remove haven ferm --yes")?);
    let unknown = refused(cwn(&world, "ncsc", "circle raise haven ferm --branch 00ff --yes")?);
    assert!(unknown.contains("no branch that begins with \"00ff\""), "{unknown}");
    done(cwn(&world, "ncsc", &named)?);
    let stands = dir.path().join("stands.cwn");
    export(&world, "ncsc", &stands, "--to z-cert")?;
    done(import(&world, "z-cert", &stands)?);
    for name in ["ncsc", "z-cert"] {
        let lists = async || Ok(world.titles(name, "haven").await?.len() == 3);
        world.until(name, "it lists the branch that stands", lists).await?;
    }
    assert_eq!(world.titles("z-cert", "haven").await?, world.titles("ncsc", "haven").await?);
    Ok(())
}

/// The operations of a circle that a store holds.
fn operations_of(store: &Store, circle: CircleId) -> anyhow::Result<Vec<Stored>> {
    let mut operations = Vec::new();
    for (key, tip) in store.logs()?.into_iter().filter(|(key, _)| key.circle == circle) {
        for seq in 0..tip.height {
            let entry = Stored::read(store.entry(&key, seq)?.unwrap())?;
            operations.extend((entry.header().suite == Suite::Control).then_some(entry));
        }
    }
    Ok(operations)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_opens_for_members_alone_and_for_named_partners_alone() -> anyhow::Result<()> {
    let world = islands(&["ncsc", "z-cert", "ferm", "ibd"]).await?;
    let stick = tempfile::tempdir()?;
    world.found_at_once("ncsc", "haven", &["z-cert", "ferm"]).await?;
    world.publish("ncsc", "haven", "storm").await?;
    let (all, one) = (stick.path().join("all.cwn"), stick.path().join("one.cwn"));
    export(&world, "ncsc", &all, "")?;
    export(&world, "ncsc", &one, "--to ferm")?;
    done(import(&world, "ferm", &one)?);
    done(import(&world, "z-cert", &all)?);
    for (name, file) in [("z-cert", &one), ("ibd", &all)] {
        let said = refused(import(&world, name, file)?);
        assert!(said.contains("this file is not for this node"), "{said}");
    }
    let said = refused(cwn(&world, "ncsc", "export --circle haven --to ibd --out x.cwn")?);
    assert!(said.contains("ibd does not belong to the circle"), "{said}");
    let said = refused(cwn(&world, "ibd", "export --circle haven --out x.cwn")?);
    assert!(said.contains("there is no circle \"haven\" here"), "{said}");

    let stranger = islands(&["ncsc", "z-cert"]).await?;
    let said = refused(import(&stranger, "z-cert", &all)?);
    assert!(said.contains("this file is not for this node") && said.contains("circle or network"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_an_attachment_goes_into_no_file_that_others_than_its_addressees_can_open() -> anyhow::Result<()> {
    let world = islands(&["ncsc", "z-cert", "ferm"]).await?;
    let dir = tempfile::tempdir()?;
    world.found_at_once("ncsc", "haven", &["z-cert", "ferm"]).await?;
    let file = dir.path().join("file");
    fs::write(&file, vec![7; 1_500_000])?;
    attach_as(&world, "ncsc", &file, "for z-cert", "RED", &["z-cert"]).await?;
    attach(&world, "ncsc", &file, "for all").await?;
    for (to, parts) in [("", 2), ("z-cert", 4), ("ferm", 2), ("z-cert,ferm", 2)] {
        let path = format!("/v1/circles/haven/export/plan?attachments=true&to={to}");
        let plan: ExportView = world.client("ncsc").get(&path).await?;
        assert_eq!((plan.entries, plan.parts, plan.missing_parts), (2, parts, 0), "to {to:?}");
    }
    // Who lacks a part says so.
    let stick = dir.path().join("stick.cwn");
    export(&world, "ncsc", &stick, "")?;
    done(import(&world, "z-cert", &stick)?);
    done(cwn(&world, "z-cert", "circle accept haven")?);
    done(import(&world, "z-cert", &stick)?);
    let path = "/v1/circles/haven/export/plan?attachments=true";
    let plan: ExportView = world.client("z-cert").get(path).await?;
    assert_eq!((plan.parts, plan.missing_parts), (0, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_newcomer_opens_nothing_from_before_by_a_file_either() -> anyhow::Result<()> {
    let world = islands(&["ncsc", "z-cert", "ferm"]).await?;
    let dir = tempfile::tempdir()?;
    world.found_at_once("ncsc", "haven", &["ferm"]).await?;
    let file = dir.path().join("file");
    fs::write(&file, vec![7; 1_500_000])?;
    attach(&world, "ncsc", &file, "before").await?;
    done(cwn(&world, "ncsc", "circle add haven z-cert --yes")?);
    world.publish("ncsc", "haven", "after").await?;
    let stick = dir.path().join("stick.cwn");
    export(&world, "ncsc", &stick, "--attachments")?;
    done(import(&world, "z-cert", &stick)?);
    done(cwn(&world, "z-cert", "circle accept haven")?);
    let said = done(import(&world, "z-cert", &stick)?);
    assert!(said.contains("new: 2 entries"), "{said}");
    assert!(said.contains("not kept: 2 parts of attachments of entries this node cannot read"), "{said}");
    world.expect_titles("z-cert", "haven", &["after", "not_for_us"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_of_a_broken_file_is_taken_and_where_it_broke_is_said() -> anyhow::Result<()> {
    let world = islands(&["ncsc", "z-cert"]).await?;
    world.configure("z-cert", |config| config.circles.accept = Accept::Certified)?;
    let mut world = world;
    world.stop("z-cert")?;
    world.start("z-cert").await?;
    let stick = tempfile::tempdir()?;
    world.found_at_once("ncsc", "haven", &["z-cert"]).await?;
    // A frame of a run holds three or four of these.
    for index in 0..6 {
        let body = "x".repeat(200_000);
        let entry = NewEntry {
            circle: "haven".to_owned(),
            tlp: "GREEN".to_owned(),
            pap: None,
            title: format!("part {index}"),
            body: format!("{index}{body}"),
            references: Vec::new(),
            to: Vec::new(),
            attachments: Vec::new(),
            wait_seconds: Some(60),
            expires_at: None,
        };
        let _: Published = world.client("ncsc").post("/v1/entries", &entry).await?;
    }
    let whole = stick.path().join("whole.cwn");
    export(&world, "ncsc", &whole, "")?;
    let bytes = fs::read(&whole)?;
    let broken = |name: &str, bytes: &[u8]| -> anyhow::Result<PathBuf> {
        let path = stick.path().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let check = |file: &Path| say(stick.path(), &format!("cwn import --check {}", file.display()));

    let mut newer = bytes.clone();
    newer[11] += 1;
    let said = refused(import(&world, "z-cert", &broken("newer", &newer)?)?);
    assert!(said.contains("use a newer program"), "{said}");
    let said = refused(import(&world, "z-cert", &broken("photo", b"\xff\xd8\xff, a photo")?)?);
    assert!(said.contains("no file of `cwn export`"), "{said}");

    let torn = broken("torn", &bytes[..bytes.len() - 300_000])?;
    let said = refused(import(&world, "z-cert", &torn)?);
    assert!(said.contains("breaks off after") && said.contains("what came before is kept"), "{said}");
    assert!(said.contains("joined the circle"), "{said}");
    let taken: usize = said.split("new: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse()?;
    assert!((1..6).contains(&taken), "{said}");
    let some = async || Ok(world.titles("z-cert", "haven").await?.len() == taken);
    world.until("z-cert", "what was whole is listed", some).await?;
    assert!(refused(check(&torn)?).contains("breaks off after"));

    let mut rotten = bytes.clone();
    let late = rotten.len() - 200_000;
    rotten[late] ^= 1;
    let rotten = broken("rotten", &rotten)?;
    let said = refused(import(&world, "z-cert", &rotten)?);
    let place = said.split("altered after it was made, at its part ").nth(1).and_then(|rest| rest.lines().next());
    assert!(place.is_some_and(|place| place.trim_end_matches(';').parse().is_ok_and(|part: u64| part > 3)), "{said}");
    assert!(refused(check(&rotten)?).contains("its digest does not match"));

    assert!(done(check(&whole)?).contains("is whole"));
    done(import(&world, "z-cert", &whole)?);
    let titles: Vec<String> = (0..6).map(|index| format!("part {index}")).collect();
    world.expect_titles("z-cert", "haven", &titles.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_whose_predecessors_did_not_come_wait_and_are_said_to() -> anyhow::Result<()> {
    let world = islands(&["ncsc", "z-cert"]).await?;
    let stick = tempfile::tempdir()?;
    world.found_at_once("ncsc", "haven", &["z-cert"]).await?;
    world.publish("ncsc", "haven", "before").await?;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let since = cwn_node::clock::now().0;
    world.publish("ncsc", "haven", "after").await?;
    let late = stick.path().join("late.cwn");
    world.client("ncsc").download(&format!("/v1/circles/haven/export?since={since}"), &late, |_| {}).await?;
    done(import(&world, "z-cert", &late)?);
    done(cwn(&world, "z-cert", "circle accept haven")?);
    let said = done(import(&world, "z-cert", &late)?);
    assert!(said.contains("not taken yet: a run of 1 entry of ncsc: entries before it are missing"), "{said}");
    let imported: Imported = world.client("z-cert").upload("/v1/import", &late, |_| {}).await?;
    assert_eq!((imported.entries, imported.left_entries, imported.stopped), (0, 1, None));
    let all = stick.path().join("all.cwn");
    export(&world, "ncsc", &all, "")?;
    done(import(&world, "z-cert", &all)?);
    world.expect_titles("z-cert", "haven", &["after", "before"]).await
}

/// What opens a node's keys; on a real machine it does not lie in the data directory.
fn credential(world: &World, name: &str) -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(world.node(name).data.join("credential"))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_node_that_was_lost_comes_back_from_a_backup_and_forks_nothing() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("ncsc", 1).await?;
    world.found("ncsc", "haven", &["z-cert"]).await?;
    let elsewhere = tempfile::tempdir()?;
    let plan = elsewhere.path().join("plan.pdf");
    fs::write(&plan, vec![7; 1_500_000])?;
    let published = attach(&world, "z-cert", &plan, "before").await?;
    let backup = elsewhere.path().join("z-cert.backup");
    let said = done(cwn(&world, "z-cert", &format!("backup --out {}", backup.display()))?);
    assert!(said.contains("whole:") && said.contains("of z-cert"), "{said}");
    assert_eq!(fs::metadata(&backup)?.permissions().mode() & 0o777, 0o600);
    let credential = credential(&world, "z-cert")?;
    assert!(!has(&fs::read(&backup)?, &credential), "what opens the keys is not in it");
    world.publish("z-cert", "haven", "after the backup").await?;
    world.expect_titles("ncsc", "haven", &["after the backup", "before"]).await?;

    // Beside the one that runs, and over what is there, it is not put back.
    let copy = elsewhere.path().join("copy");
    let restore = |data: &Path, from: &Path| {
        say(elsewhere.path(), &format!("cwn --data {} restore {}", data.display(), from.display()))
    };
    let said = refused(restore(&copy, &backup)?);
    assert!(said.contains("runs on this machine") && said.contains("stop that one first"), "{said}");
    assert!(!copy.exists());
    world.kill("z-cert")?;
    let data = world.node("z-cert").data.clone();
    let said = refused(restore(&data, &backup)?);
    assert!(said.contains("is not empty"), "{said}");

    // The disk is lost.
    fs::remove_dir_all(&data)?;
    let mut rotten = fs::read(&backup)?;
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    let broken = elsewhere.path().join("broken.backup");
    fs::write(&broken, &rotten)?;
    refused(restore(&data, &broken)?);
    let left: Vec<_> = fs::read_dir(data.parent().unwrap())?.map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["ncsc"], "nothing is left half behind");
    let said = refused(say(elsewhere.path(), "cwn backup --verify broken.backup")?);
    assert!(said.contains("broken.backup"), "{said}");
    assert!(done(say(elsewhere.path(), "cwn backup --verify z-cert.backup")?).contains("whole:"));
    let said = done(restore(&data, &backup)?);
    assert!(said.contains("must never run again") && said.contains("It opens new logs"), "{said}");
    cwn_node::files::durable_write(&data.join("credential"), &credential)?;

    // Alone it has what the backup had, and is sure of nobody.
    world.stop("ncsc")?;
    world.start("z-cert").await?;
    world.expect_titles("z-cert", "haven", &["before"]).await?;
    let amber = cwn(&world, "z-cert", "publish haven --tlp AMBER --title x --yes --wait 0")?;
    drop_draft(&world, "z-cert", &done(amber))?;
    world.stop("z-cert")?;

    // Among the others it gets back what it wrote since, and goes on in a log of its own.
    world.start("ncsc").await?;
    world.start("z-cert").await?;
    world.expect_titles("z-cert", "haven", &["after the backup", "before"]).await?;
    let saved = elsewhere.path().join("saved.pdf");
    done(cwn(&world, "z-cert", &format!("save {} --out {}", published.reference, saved.display()))?);
    assert_eq!(fs::read(&saved)?, fs::read(&plan)?);
    world.publish("z-cert", "haven", "after the restore").await?;
    for name in ["ncsc", "z-cert"] {
        world.expect_titles(name, "haven", &["after the backup", "after the restore", "before"]).await?;
        assert!(!world.log(name).contains("signed two entries for one place"), "{}", world.log(name));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_entries_come_in_is_whole_and_holds_all_that_was_acknowledged() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start_all().await?;
    let elsewhere = tempfile::tempdir()?;
    world.found_at_once("ncsc", "haven", &[]).await?;
    let mut acknowledged = Vec::new();
    for index in 0..5 {
        world.publish("ncsc", "haven", &format!("early {index}")).await?;
        acknowledged.push(format!("early {index}"));
    }
    let busy = async {
        for index in 0..40 {
            world.publish("ncsc", "haven", &format!("late {index}")).await?;
        }
        anyhow::Ok(())
    };
    let (data, backup) = (world.node("ncsc").data.clone(), elsewhere.path().join("ncsc.backup"));
    let line = format!("cwn --data {} backup --out {}", data.display(), backup.display());
    let dir = elsewhere.path().to_owned();
    let taken = tokio::task::spawn_blocking(move || say(&dir, &line));
    let (published, taken) = tokio::join!(busy, taken);
    published?;
    done(taken??);
    let credential = credential(&world, "ncsc")?;
    world.stop("ncsc")?;
    fs::remove_dir_all(&data)?;
    done(say(elsewhere.path(), &format!("cwn --data {} restore ncsc.backup", data.display()))?);
    cwn_node::files::durable_write(&data.join("credential"), &credential)?;
    world.start("ncsc").await?;
    let all = async || {
        let titles = world.titles("ncsc", "haven").await?;
        Ok(acknowledged.iter().all(|title| titles.contains(title)))
    };
    world.until("ncsc", "all that was acknowledged before is there", all).await?;
    assert!(!world.log("ncsc").contains("damage"), "{}", world.log("ncsc"));
    Ok(())
}

/// Starts `cwn` and kills it as soon as something with this ending is in a directory; false when it was done before.
fn kill_when(dir: &Path, ending: &str, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<bool> {
    let mut child =
        std::process::Command::new(program()?).args(arguments).stderr(std::process::Stdio::null()).spawn()?;
    loop {
        let is_one = |item: std::io::Result<fs::DirEntry>| {
            item.is_ok_and(|item| item.file_name().to_string_lossy().ends_with(ending))
        };
        if fs::read_dir(dir)?.any(is_one) {
            child.kill()?;
            return Ok(!child.wait()?.success());
        }
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
    }
}

fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let name = |item: std::io::Result<fs::DirEntry>| Ok(item?.file_name().to_string_lossy().into_owned());
    let mut names = fs::read_dir(dir)?.map(name).collect::<anyhow::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_backup_restore_or_daemon_left_half_written_the_next_takes_away() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start_all().await?;
    let elsewhere = tempfile::tempdir()?;
    let data = world.node("ncsc").data.clone();
    // Large enough to be killed over.
    let chunks = data.join("chunks").join("c0");
    fs::create_dir_all(&chunks)?;
    fs::File::create(chunks.join("aa"))?.set_len(64 << 20)?;
    let backup = elsewhere.path().join("ncsc.backup");
    let (of_data, to) = (data.as_os_str(), backup.as_os_str());
    let arguments = ["--data".as_ref(), of_data, "backup".as_ref(), "--out".as_ref(), to];
    assert!(kill_when(elsewhere.path(), ".cwn-part", &arguments)?, "it was done before it could be killed");
    assert_eq!(names(elsewhere.path())?.len(), 1, "half a backup, and no whole one");
    assert!(!backup.exists());
    done(cwn(&world, "ncsc", &format!("backup --out {}", backup.display()))?);
    assert_eq!(names(elsewhere.path())?, ["ncsc.backup"]);

    let restored = elsewhere.path().join("restored");
    world.kill("ncsc")?;
    let arguments = ["--data".as_ref(), restored.as_os_str(), "restore".as_ref(), to];
    assert!(kill_when(elsewhere.path(), ".restoring", &arguments)?, "it was done before it could be killed");
    assert!(!restored.exists() && names(elsewhere.path())?.len() == 2, "{:?}", names(elsewhere.path())?);
    done(say(elsewhere.path(), &format!("cwn --data {} restore ncsc.backup", restored.display()))?);
    assert_eq!(names(elsewhere.path())?, ["ncsc.backup", "restored"]);

    for half in [data.join(".certificate.cwn.1.new"), chunks.join(".bb.1.new")] {
        fs::write(half, b"half")?;
    }
    world.start("ncsc").await?;
    assert!(names(&data)?.iter().all(|name| !name.ends_with(".new")), "{:?}", names(&data)?);
    assert_eq!(names(&chunks)?, ["aa"]);
    Ok(())
}
