//! A later version of the root document, handed to a member as a file.

use cwn_node::api::types::Status;
use cwn_tests::{
    shell::{Said, say},
    world::{Authority, World},
};

fn adopt(world: &World, name: &str, text: &str) -> anyhow::Result<Said> {
    let data = &world.node(name).data;
    std::fs::write(data.join("root-2.txt"), text)?;
    say(data, &format!("cwn --data {} root adopt root-2.txt", data.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_to_a_version_that_the_root_keys_signed_and_hands_it_on() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    let version_2 = world.authority.next_root(true)?;
    let said = adopt(&world, "ncsc", &version_2)?;
    assert!(said.code == Some(0) && said.out.contains("from version 1 to version 2"), "{}{}", said.out, said.err);
    let again = adopt(&world, "ncsc", &version_2)?;
    assert!(again.code == Some(0) && again.out.starts_with("Nothing new"), "{}{}", again.out, again.err);
    for name in ["ncsc", "z-cert"] {
        let advanced = async || {
            let status: Status = world.client(name).get("/v1/status").await?;
            Ok(status.root_version == 2 && status.network_name == "renamed")
        };
        world.until(name, "it goes by version 2", advanced).await?;
    }
    // It is durable: after a kill nothing is left to adopt.
    world.kill("ncsc")?;
    world.start("ncsc").await?;
    assert!(adopt(&world, "ncsc", &version_2)?.out.starts_with("Nothing new"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_root_keys_did_not_sign_changes_nothing_and_says_why() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start_all().await?;
    let elsewhere = Authority::found("elsewhere")?.next_root(true)?;
    let whole = world.authority.next_root(true)?;
    let cases = [
        (world.authority.next_root(false)?, "not one of its root keys"),
        (elsewhere, "your own coordinator"),
        (whole[..whole.len() / 2].to_owned(), "END line"),
        ("not a root document".to_owned(), "ROOT DOCUMENT"),
    ];
    for (text, remedy) in cases {
        let said = adopt(&world, "ncsc", &text)?;
        assert!(said.code == Some(1) && said.err.contains(remedy), "{}{}", said.out, said.err);
        let status: Status = world.client("ncsc").get("/v1/status").await?;
        assert_eq!(status.root_version, 1);
    }
    Ok(())
}
