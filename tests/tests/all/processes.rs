//! What partners see of one another, over real daemons, sockets, files and kill -9.

use cwn_tests::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_killed_partner_catches_up_and_publishes() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    world.publish("ncsc", "zorg", "before").await?;
    world.expect_titles("z-cert", "zorg", &["before"]).await?;
    world.kill("z-cert")?;
    world.publish("ncsc", "zorg", "meanwhile").await?;
    world.start("z-cert").await?;
    world.expect_titles("z-cert", "zorg", &["before", "meanwhile"]).await?;
    world.publish("z-cert", "zorg", "after").await?;
    world.expect_titles("ncsc", "zorg", &["before", "meanwhile", "after"]).await?;
    Ok(())
}
