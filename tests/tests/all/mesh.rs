//! Networks in which not everybody is connected with everybody.

use cwn_node::api::types::{PeerView, Status};
use cwn_tests::world::World;

const NAMES: [&str; 8] = ["ncsc", "z-cert", "ferm", "surf", "ibd", "divd", "haven", "zorg"];

/// Eight nodes that keep connected with a few each; all know the first from their configuration.
async fn sparse() -> anyhow::Result<World> {
    let mut world = World::new(&NAMES)?;
    for name in NAMES {
        world.configure(name, |config| {
            config.network.all_to_all = 1;
            config.network.neighbours = 4;
            config.network.bootstrap.truncate(1);
        })?;
    }
    world.start_all().await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_goes_from_neighbour_to_neighbour_and_who_it_is_for_is_dialled() -> anyhow::Result<()> {
    let world = sparse().await?;
    world.found("ncsc", "kring", &NAMES[1..]).await?;
    world.publish("zorg", "kring", "to all").await?;
    for name in NAMES {
        world.expect_titles(name, "kring", &["to all"]).await?;
    }
    let mut connections = 0;
    for name in NAMES {
        connections += world.client(name).get::<Status>("/v1/status").await?.peers;
    }
    assert!(connections < NAMES.len() * (NAMES.len() - 1), "all are connected with all: {connections}");
    // Two that are not neighbours: what one has for the other in person it brings itself.
    for from in NAMES {
        let peers: Vec<PeerView> = world.client(from).get("/v1/peers").await?;
        let Some(to) = peers.into_iter().find(|peer| peer.since.is_none()) else { continue };
        world.publish_as(from, "kring", "to one", "RED", &[&to.partner]).await?;
        let client = world.client(from);
        let met = async || {
            let peers: Vec<PeerView> = client.get("/v1/peers").await?;
            Ok(peers.iter().any(|peer| peer.node == to.node && peer.since.is_some()))
        };
        return world.until(from, &format!("it dialled {}", to.partner), met).await;
    }
    anyhow::bail!("everybody is connected with everybody")
}
