//! Members that nobody can dial: behind an address translation, or because their firewall lets nothing in.

use cwn_tests::world::World;

/// An anchor, and two members that only dial.
async fn two_behind_walls() -> anyhow::Result<World> {
    let mut world = World::new(&["ncsc", "ferm", "surf"])?;
    world.configure("ncsc", |config| config.network.anchor = true)?;
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
