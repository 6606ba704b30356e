//! What somebody gets who has the issuer's key: connections, and nothing that was sealed.

use cwn_crypto::Time;
use cwn_node::{
    api::types::{Compared, Id, NodeView, PartnerView, Status},
    clock,
    keystore::Keys,
};
use cwn_tests::world::World;

/// A node of a partner, as another sees it.
async fn node_of(world: &World, name: &str, partner: &str) -> anyhow::Result<NodeView> {
    let partners: Vec<PartnerView> = world.client(name).get("/v1/partners").await?;
    let known = partners.into_iter().find(|known| known.partner == partner).unwrap();
    Ok(known.nodes.into_iter().next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_certified_node_that_no_steward_added_gets_nothing() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert", "thief"])?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "thief"] {
        world.connected(name, 2).await?;
    }
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let published = world.publish("ncsc", "zorg", "hello").await?;
    world.expect_titles("z-cert", "zorg", &["hello"]).await?;
    let thief: Status = world.client("thief").get("/v1/status").await?;
    assert_eq!((thief.circles.len(), thief.offers.len()), (0, 0));
    assert!(world.read("thief", &published.reference).await.is_err());
    // The disk of a member is of no use to it either.
    world.kill("ncsc")?;
    assert_eq!(world.readable("ncsc", &world.keys("thief")?)?, Vec::<String>::new());
    assert_eq!(world.readable("ncsc", &world.keys("z-cert")?)?, ["hello"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_certificate_with_another_sealing_key_changes_nothing_in_whom_entries_are_sealed_to() -> anyhow::Result<()>
{
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.connected(name, 2).await?;
    }
    world.found("ncsc", "zorg", &["z-cert", "ferm"]).await?;
    world.publish("ncsc", "zorg", "before").await?;
    world.expect_titles("z-cert", "zorg", &["before"]).await?;
    let honest = node_of(&world, "ncsc", "z-cert").await?;
    let compared = Compared { node: honest.node.clone() };
    let _: Id = world.client("ncsc").post("/v1/partners/z-cert/compared", &compared).await?;
    assert!(node_of(&world, "ncsc", "z-cert").await?.compared.is_some());

    // Newer and longer than the honest one, for z-cert's own node key.
    let thief = Keys::generate();
    let recipient = thief.sealing.recipient();
    world.authority.state(world.node("z-cert").key, recipient, "z-cert", clock::now().plus(60_000))?;
    world.hand_over_issuer_log("ncsc").await?;
    for name in ["ncsc", "z-cert"] {
        let heard =
            async || Ok(node_of(&world, name, "z-cert").await?.certified_since > honest.certified_since + 30_000);
        world.until(name, "it heard of the thief's certificate", heard).await?;
    }
    // People see that these are other keys than the ones they compared.
    let shown = node_of(&world, "ncsc", "z-cert").await?;
    assert_ne!(shown.fingerprint, honest.fingerprint);
    assert_eq!(shown.compared, None);

    world.publish("ncsc", "zorg", "after").await?;
    world.publish_as("ncsc", "zorg", "secret", "RED", &["z-cert"]).await?;
    // z-cert keeps its own certificate, also over a start, and reads on.
    world.kill("z-cert")?;
    world.start("z-cert").await?;
    world.expect_titles("z-cert", "zorg", &["after", "before", "opened"]).await?;
    world.publish("z-cert", "zorg", "an answer").await?;
    world.expect_titles("ferm", "zorg", &["after", "an answer", "before", "not_for_us"]).await?;
    world.expect_titles("ncsc", "zorg", &["after", "an answer", "before", "opened"]).await?;

    world.kill("ncsc")?;
    assert_eq!(world.readable("ncsc", &thief)?, Vec::<String>::new());
    assert_eq!(world.readable("ncsc", &world.keys("z-cert")?)?, ["after", "an answer", "before", "secret"]);
    assert_eq!(world.readable("ncsc", &world.keys("ferm")?)?, ["after", "an answer", "before"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_a_certificate_names_a_sealing_key_that_is_not_its_own() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    let before: Status = world.client("ncsc").get("/v1/status").await?;
    assert!(before.warnings.is_empty(), "{:?}", before.warnings);
    let thief = Keys::generate().sealing.recipient();
    let later = clock::now().plus(Time::DAY_MS);
    world.authority.state(world.node("ncsc").key, thief, "ncsc", later)?;
    world.hand_over_issuer_log("ncsc").await?;
    let warned = async || {
        let status: Status = world.client("ncsc").get("/v1/status").await?;
        assert_eq!(status.certificate.serial, before.certificate.serial);
        Ok(status.warnings.iter().any(|warning| warning.contains("sealing key")))
    };
    world.until("ncsc", "it warns", warned).await
}
