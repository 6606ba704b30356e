//! What becomes of circles and nodes over time: a circle that goes on for another, a partner with two nodes of which one
//! is stolen, a key that is in use elsewhere.

use std::{fs, path::Path};

use cwn_crypto::issuer_log::Statement;
use cwn_node::{
    api::{
        Circles,
        types::{CircleDetail, Id, Membership, Status},
    },
    clock,
    keystore::Keys,
};
use cwn_tests::{
    shell::{Said, say},
    world::World,
};

fn cwn(world: &World, name: &str, line: &str) -> anyhow::Result<Said> {
    let data = &world.node(name).data;
    say(data, &format!("cwn --data {} {line}", data.display()))
}

fn done(said: Said) -> String {
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out
}

async fn running(names: &[&str]) -> anyhow::Result<World> {
    let mut world = World::new(names)?;
    world.start_all().await?;
    for name in names {
        world.connected(name, names.len() - 1).await?;
    }
    Ok(world)
}

async fn is_in(world: &World, name: &str, circle: &str) -> anyhow::Result<()> {
    let belongs = async || {
        let status: Status = world.client(name).get("/v1/status").await?;
        Ok(status.circles.iter().any(|summary| summary.name == circle && summary.member))
    };
    world.until(name, &format!("it is in {circle}"), belongs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_whose_founder_is_lost_is_succeeded_by_a_member_and_nothing_of_it_is_opened() -> anyhow::Result<()> {
    let mut world = running(&["ncsc", "z-cert", "ferm"]).await?;
    world.found("ncsc", "haven", &["z-cert"]).await?;
    world.publish("ncsc", "haven", "of the old one").await?;
    world.expect_titles("z-cert", "haven", &["of the old one"]).await?;
    world.kill("ncsc")?;
    let said = done(cwn(&world, "z-cert", "circle succeed haven --name haven-2 --with ncsc --with ferm --yes")?);
    assert!(said.contains("haven-2 is founded and succeeds haven"), "{said}");
    is_in(&world, "ferm", "haven-2").await?;
    // Both show the other, and by whom.
    let old = done(cwn(&world, "z-cert", "circle show haven")?);
    assert!(
        old.contains("succeeded by haven-2") && old.contains("founded by z-cert, who belongs to this one"),
        "{old}"
    );
    let new = done(cwn(&world, "z-cert", "circle show haven-2")?);
    assert!(new.contains("succeeds haven") && new.contains("z-cert, its founder, belongs to that circle"), "{new}");
    // Who joins the new one is told, and holds nothing of the old one.
    let elsewhere = done(cwn(&world, "ferm", "circle show haven-2")?);
    assert!(elsewhere.contains("of which this node holds too little to tell"), "{elsewhere}");
    let circles: Circles = world.client("ferm").get("/v1/circles").await?;
    assert_eq!(circles.circles.iter().map(|circle| circle.name.as_str()).collect::<Vec<_>>(), ["haven-2"]);
    world.publish("ferm", "haven-2", "of the new one").await?;
    world.expect_titles("z-cert", "haven-2", &["of the new one"]).await?;
    world.expect_titles("z-cert", "haven", &["of the old one"]).await?;
    // The founder comes back, and sees it too.
    world.start("ncsc").await?;
    is_in(&world, "ncsc", "haven-2").await?;
    let detail: CircleDetail = world.client("ncsc").get("/v1/circles/haven").await?;
    assert_eq!(detail.succeeded_by.len(), 1);
    assert_eq!((detail.succeeded_by[0].founder.as_str(), detail.succeeded_by[0].belongs), ("z-cert", true));
    let refused = cwn(&world, "ferm", "circle succeed haven --name mine --yes")?;
    assert_ne!(refused.code, Some(0), "who is not in a circle succeeds none: {refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_of_two_nodes_of_a_partner_the_stolen_one_is_removed_alone() -> anyhow::Result<()> {
    let mut world = running(&["ncsc", "ferm"]).await?;
    world.found("ncsc", "haven", &["ferm"]).await?;
    world.publish("ncsc", "haven", "for one node").await?;
    world.expect_titles("ferm", "haven", &["for one node"]).await?;
    let keys = Keys::generate();
    let membership = world.authority.certify(&keys, "ferm", clock::now())?;
    world.add("ferm-2", &keys, &membership)?;
    for name in ["ncsc", "ferm"] {
        world.hand_over_issuer_log(name).await?;
    }
    world.start("ferm-2").await?;
    world.connected("ferm-2", 2).await?;
    let second = world.node("ferm-2").key.to_string();
    let add = Membership { partner: "ferm".to_owned(), node: Some(second.clone()) };
    let _: Id = world.client("ncsc").post("/v1/circles/haven/add", &add).await?;
    is_in(&world, "ferm-2", "haven").await?;
    world.publish("ncsc", "haven", "for both").await?;
    world.expect_titles("ferm-2", "haven", &["for both", "not_for_us"]).await?;
    world.publish("ferm-2", "haven", "from the second").await?;
    world.expect_titles("ferm", "haven", &["for both", "for one node", "from the second"]).await?;
    // It is stolen: its first digits are enough to remove it, and the other goes on.
    let said = done(cwn(&world, "ncsc", &format!("circle remove haven {} --yes", &second[..12]))?);
    assert!(said.contains(&format!("Node {} of ferm no longer belongs", &second[..12])), "{said}");
    let (node, serial) = (world.node("ferm-2").key, 3);
    world.authority.say(&Statement::Revocation { node, serial, reason: "stolen".to_owned(), cut: Vec::new() });
    world.hand_over_issuer_log("ncsc").await?;
    world.publish("ncsc", "haven", "for the one that is left").await?;
    let left = ["for both", "for one node", "for the one that is left", "from the second"];
    world.expect_titles("ferm", "haven", &left).await?;
    world.publish("ferm", "haven", "goes on").await?;
    world.expect_titles("ncsc", "haven", &[&left[..], &["goes on"]].concat()).await?;
    world.kill("ferm")?;
    let opens = world.readable("ferm", &keys)?;
    assert_eq!(opens, ["for both", "from the second"], "what the thief's keys open of all that ferm holds");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let (kind, target) = (item.file_type()?, to.join(item.file_name()));
        if kind.is_dir() {
            copy(&item.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(item.path(), &target)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_that_a_key_is_in_use_elsewhere_is_said_across_restarts_until_it_is_acknowledged() -> anyhow::Result<()> {
    let mut world = running(&["ncsc", "ferm"]).await?;
    world.found("ncsc", "haven", &["ferm"]).await?;
    let said = done(cwn(&world, "ferm", "status --acknowledge")?);
    assert!(said.contains("nothing to acknowledge"), "{said}");
    world.kill("ferm")?;
    let data = world.node("ferm").data.clone();
    let aside = data.with_extension("aside");
    copy(&data, &aside)?;
    // What its copy does, the node learns from others.
    world.start("ferm").await?;
    world.publish("ferm", "haven", "from the copy").await?;
    world.expect_titles("ncsc", "haven", &["from the copy"]).await?;
    world.kill("ferm")?;
    fs::remove_dir_all(&data)?;
    fs::rename(&aside, &data)?;
    world.start("ferm").await?;
    let warned = async |world: &World| {
        let status: Status = world.client("ferm").get("/v1/status").await?;
        Ok(status.warnings.iter().any(|warning| warning.contains("did not write") && warning.contains("haven")))
    };
    world.until("ferm", "it warns", async || warned(&world).await).await?;
    world.kill("ferm")?;
    world.start("ferm").await?;
    assert!(warned(&world).await?, "also after a start");
    let said = done(cwn(&world, "ferm", "status --acknowledge")?);
    assert!(said.contains("haven"), "{said}");
    assert!(!warned(&world).await?);
    world.kill("ferm")?;
    world.start("ferm").await?;
    assert!(!warned(&world).await?, "it stays acknowledged");
    Ok(())
}
