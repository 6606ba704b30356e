//! What partners see of one another, over real daemons, sockets, files and kill -9.

use std::process::Command;

use cwn_crypto::Time;
use cwn_node::{api::types::Status, clock, keystore::Keys};
use cwn_tests::world::{World, program};

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

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_rotted_is_asked_of_members_when_somebody_reads_it() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let mut published = Vec::new();
    for title in ["first", "second", "third"] {
        published.push(world.publish("ncsc", "zorg", title).await?);
    }
    world.expect_titles("z-cert", "zorg", &["first", "second", "third"]).await?;
    world.stop("z-cert")?;
    world.rot("z-cert", &published[1])?;
    world.start("z-cert").await?;
    world.connected("z-cert", 1).await?;
    let refused = world.read("z-cert", &published[1].reference).await.unwrap_err().to_string();
    assert!(refused.contains("cannot be read back") && refused.contains("try again"), "{refused}");
    let reads = async || {
        let read = world.read("z-cert", &published[1].reference).await;
        Ok(read.is_ok_and(|entry| entry.body.as_deref() == Some("The body of second.")))
    };
    world.until("z-cert", "it reads what rotted", reads).await?;
    world.expect_titles("z-cert", "zorg", &["first", "second", "third"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_into_use_while_the_node_runs() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    let keys = Keys::generate();
    let old = Time(clock::now().0 - 25 * Time::DAY_MS);
    let membership = world.authority.certify(&keys, "ferm", old)?;
    world.add("ferm", &keys, &membership)?;
    world.start_all().await?;
    world.connected("ferm", 1).await?;
    let before: Status = world.client("ferm").get("/v1/status").await?;
    world.authority.certify(&keys, "ferm", clock::now())?;
    // It hears of it from a partner, through the issuer's log in the network circle.
    world.hand_over_issuer_log("ncsc").await?;
    let renewed = async || {
        let status: Status = world.client("ferm").get("/v1/status").await?;
        Ok(status.certificate.serial > before.certificate.serial)
    };
    world.until("ferm", "its certificate is the renewed one", renewed).await?;
    world.kill("ferm")?;
    world.start("ferm").await?;
    let after: Status = world.client("ferm").get("/v1/status").await?;
    assert!(after.certificate.not_after > before.certificate.not_after, "also after a start");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_members_found_a_circle_and_share_while_no_coordinator_runs() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    // ncsc, which is the coordinator, never runs.
    world.start("z-cert").await?;
    world.start("ferm").await?;
    world.connected("ferm", 1).await?;
    world.found("ferm", "haven", &["z-cert"]).await?;
    world.publish("z-cert", "haven", "without a coordinator").await?;
    world.expect_titles("ferm", "haven", &["without a coordinator"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_asked_to_end_ends_in_order_and_goes_on_where_it_was() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    world.found("ncsc", "zorg", &[]).await?;
    world.publish("ncsc", "zorg", "before").await?;
    world.stop("ncsc")?;
    assert!(!world.node("ncsc").data.join("cwn.sock").exists());
    world.start("ncsc").await?;
    world.publish("ncsc", "zorg", "after").await?;
    world.expect_titles("ncsc", "zorg", &["after", "before"]).await
}

#[test]
fn the_demo_holds_every_line() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let output = Command::new(program()?).args(["demo", "--once", "--dir"]).arg(dir.path().join("demo")).output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("FAILED") && said.contains("lines hold"), "{said}");
    Ok(())
}
