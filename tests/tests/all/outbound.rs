//! Members that nobody can dial: behind an address translation, or because their firewall lets nothing in.

use cwn_node::api::types::{PeerView, Status, Who};
use cwn_tests::world::World;

/// An anchor, and two members that only dial.
async fn two_behind_walls() -> anyhow::Result<World> {
    let mut world = World::new(&["ncsc", "ferm", "surf"])?;
    world.configure("ncsc", |config| {
        config.network.anchor = true;
        config.network.relay = true;
    })?;
    for name in ["ferm", "surf"] {
        let anchor = world.node("ncsc").key.to_string();
        world.configure(name, |config| {
            config.network.listen.clear();
            config.network.bootstrap.retain(|known| known.node == anchor);
        })?;
    }
    world.start_all().await?;
    Ok(world)
}

#[tokio::test]
async fn what_a_member_behind_a_wall_writes_reaches_another_through_an_anchor_in_their_circle() -> anyhow::Result<()> {
    let world = two_behind_walls().await?;
    world.found("ncsc", "zorg", &["ferm", "surf"]).await?;
    world.publish("ferm", "zorg", "from behind one wall to behind another").await?;
    world.publish("surf", "zorg", "and back").await?;
    for name in ["ferm", "surf"] {
        world.expect_titles(name, "zorg", &["and back", "from behind one wall to behind another"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_members_behind_walls_share_through_a_relay_that_is_not_in_their_circle_and_reads_nothing()
-> anyhow::Result<()> {
    let mut world = two_behind_walls().await?;
    // With the anchor, and with each other through it.
    world.connected("ferm", 2).await?;
    world.found("ferm", "haven", &["surf"]).await?;
    world.publish("ferm", "haven", "the anchor need not know").await?;
    world.expect_titles("surf", "haven", &["the anchor need not know"]).await?;
    let peers: Vec<PeerView> = world.client("ferm").get("/v1/peers").await?;
    let through =
        |partner: &str| peers.iter().find(|peer| peer.partner == partner).and_then(|peer| peer.through.clone());
    let relay = peers.iter().find(|peer| peer.partner == "ncsc").map(|peer| peer.node.clone());
    assert!(relay.is_some() && through("surf") == relay && through("ncsc").is_none(), "{peers:?}");
    let status: Status = world.client("ncsc").get("/v1/status").await?;
    assert!(status.circles.is_empty() && status.offers.is_empty(), "{status:?}");
    // After a start they find each other again by what they announced.
    world.stop("surf")?;
    world.publish("ferm", "haven", "while surf was away").await?;
    world.start("surf").await?;
    world.expect_titles("surf", "haven", &["the anchor need not know", "while surf was away"]).await?;
    world.stop("ncsc")?;
    assert_eq!(world.readable("ncsc", &world.keys("ncsc")?)?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn an_author_behind_a_wall_hears_that_another_behind_a_wall_received_it_though_no_relay_connects_them()
-> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "ferm", "surf"])?;
    for name in ["ferm", "surf"] {
        let anchor = world.node("ncsc").key.to_string();
        world.configure(name, |config| {
            config.network.outbound_only = true;
            config.network.listen.clear();
            config.network.bootstrap.retain(|known| known.node == anchor);
        })?;
    }
    world.start_all().await?;
    world.found("ncsc", "zorg", &["ferm", "surf"]).await?;
    let published = world.publish("ferm", "zorg", "who has it?").await?;
    let client = world.client("ferm");
    let path = format!("/v1/entries/{}/who", published.reference);
    let surf = async || {
        let who: Who = client.get(&path).await?;
        Ok::<_, anyhow::Error>(who.nodes.into_iter().find(|line| line.partner == "surf"))
    };
    world
        .until("ferm", "surf says it holds it", async || Ok(surf().await?.is_some_and(|l| l.received.is_some())))
        .await?;
    assert!(surf().await?.is_some_and(|line| !line.connected), "they were never connected");
    Ok(())
}
