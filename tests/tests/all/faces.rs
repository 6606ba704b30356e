//! What the member's commands answer to a newcomer's slips, over real daemons: what is the matter, and what to do.

use cwn_node::{api::types::Membership, config::Accept};
use cwn_tests::{
    shell::{Said, say},
    world::World,
};

/// Types a command of a node, with nobody at a terminal.
fn typed(world: &World, name: &str, line: &str) -> anyhow::Result<Said> {
    say(&world.node(name).data, &format!("cwn --data . {line}"))
}

fn done(world: &World, name: &str, line: &str) -> anyhow::Result<Said> {
    let said = typed(world, name, line)?;
    anyhow::ensure!(said.code == Some(0), "{line}: {said:?}");
    Ok(said)
}

/// Types what must be refused, and gives what it said.
fn refused(world: &World, name: &str, line: &str) -> anyhow::Result<String> {
    let said = typed(world, name, line)?;
    anyhow::ensure!(said.code == Some(1), "{line}: {said:?}");
    Ok(said.err)
}

/// A circle as the README makes it: ncsc founds it, and z-cert and ferm join.
async fn haven() -> anyhow::Result<World> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.connected(name, 2).await?;
    }
    done(&world, "ncsc", "circle create haven --yes z-cert ferm")?;
    for name in ["z-cert", "ferm"] {
        let in_it = async || Ok(typed(&world, name, "circle show haven")?.code == Some(0));
        world.until(name, "it is in haven", in_it).await?;
    }
    Ok(world)
}

fn publish(world: &World, name: &str, line: &str) -> anyhow::Result<String> {
    Ok(done(world, name, &format!("publish haven --title note --yes {line} < /dev/null"))?.out.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_circle_does_not_carry_is_said_at_once_with_who_can_change_that() -> anyhow::Result<()> {
    let world = haven().await?;
    let red = "publish haven --tlp RED --title x --yes < /dev/null";
    let said = refused(&world, "ncsc", red)?;
    assert!(said.contains("above what this circle carries") && !said.contains("--to"), "{said}");
    assert!(said.contains("`cwn circle policy haven --ceiling RED`") && !said.contains("ask"), "{said}");
    let said = refused(&world, "z-cert", red)?;
    assert!(said.contains("ask a steward (ncsc)") && said.contains("--ceiling RED`"), "{said}");
    done(&world, "ncsc", "circle policy haven --ceiling RED --yes")?;
    assert!(refused(&world, "ncsc", red)?.contains("--to"));
    done(&world, "ncsc", &red.replace("--yes", "--yes --to ferm"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marking_of_tlp_1_is_published_as_what_it_is_called_now_and_that_is_said() -> anyhow::Result<()> {
    let world = haven().await?;
    for (tlp, told) in [("WHITE", true), ("tlp:white", true), ("CLEAR", false)] {
        let said = done(&world, "ncsc", &format!("publish haven --tlp {tlp} --title x --yes < /dev/null"))?.err;
        assert!(said.contains("TLP:CLEAR in haven") && said.contains("TLP 1.0") == told, "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_and_what_takes_it_back_point_to_each_other_and_neither_passes_for_read() -> anyhow::Result<()> {
    let world = haven().await?;
    let wrong = publish(&world, "ncsc", "--tlp GREEN")?;
    let bare = publish(&world, "ncsc", "--tlp GREEN")?;
    let closed = publish(&world, "ncsc", "--tlp AMBER --to ferm")?;
    world.expect_titles("z-cert", "haven", &["note", "note", "not_for_us"]).await?;
    let said = refused(&world, "z-cert", &format!("retract {wrong} --yes"))?;
    assert!(said.contains("ask ncsc") && !said.contains("steward"), "{said}");

    let retracted = |line: &str| -> anyhow::Result<String> {
        let said = done(&world, "ncsc", &format!("retract --yes --json {line}"))?.out;
        Ok(serde_json::from_str::<serde_json::Value>(&said)?["reference"].as_str().unwrap().to_owned())
    };
    let taken = retracted(&format!("{wrong} --reason \"wrong address\""))?;
    let silent = retracted(&bare)?;
    world.expect_titles("z-cert", "haven", &["", "not_for_us", "retracted", "retracted", "wrong address"]).await?;
    for name in ["ncsc", "z-cert"] {
        for (entry, by, reason) in [(&wrong, &taken, ": wrong address\n"), (&bare, &silent, "\n")] {
            let said = typed(&world, name, &format!("read {entry}"))?;
            assert!(said.out.contains(&format!("Taken back by {by}{reason}")), "{said:?}");
            assert!(said.code == Some(1) && said.err.contains("its author took it back"), "{said:?}");
            let said = done(&world, name, &format!("read {by}"))?;
            assert!(said.out.contains(&format!("Takes back {entry}{reason}")), "{said:?}");
            for (one, other) in [(entry, by), (by, entry)] {
                let said = typed(&world, name, &format!("read --json {one}"))?.out;
                let references = &serde_json::from_str::<serde_json::Value>(&said)?["references"];
                assert_eq!(references, &serde_json::json!([other]), "{said}");
            }
        }
    }
    for (entry, cause) in [(&wrong, "its author took it back"), (&closed, "it is sealed to others")] {
        for line in [format!("save {entry}"), format!("read {entry}"), format!("read --json {entry}")] {
            let said = refused(&world, "z-cert", &line)?;
            assert!(said.contains(cause) && !said.contains("no attachments"), "{line}: {said}");
        }
    }
    let said = typed(&world, "z-cert", &format!("read --json {closed}"))?.out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said)?["unreadable"], "it is sealed to others");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_partner_or_no_member_is_called_that() -> anyhow::Result<()> {
    let world = haven().await?;
    let said = refused(&world, "ncsc", "circle raise haven nobody --yes")?;
    assert!(said.contains("nobody") && said.contains("`cwn partners`") && !said.contains("held"), "{said}");
    let said = refused(&world, "ncsc", "circle remove haven fermm --yes")?;
    assert!(said.contains("fermm does not belong") && said.contains("ferm, ncsc, z-cert"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_that_is_offered_is_told_from_one_that_is_unknown_and_from_one_that_is_joined() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.configure("z-cert", |config| config.circles.accept = Accept::Ask)?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    done(&world, "ncsc", "circle create haven --yes z-cert")?;
    let offered = async || Ok(typed(&world, "z-cert", "circle list")?.out.contains("Offered: haven"));
    world.until("z-cert", "it is offered", offered).await?;
    for line in ["circle show haven", "publish haven --tlp GREEN --title x --yes < /dev/null"] {
        let said = refused(&world, "z-cert", line)?;
        assert!(
            said.contains("haven is offered") && said.contains("accept it first: `cwn circle accept"),
            "{line}: {said}"
        );
    }
    done(&world, "z-cert", "circle accept haven")?;
    for line in ["circle accept haven", "circle decline haven --yes"] {
        let said = refused(&world, "z-cert", line)?;
        assert!(said.contains("is in haven already"), "{said}");
    }
    let said = refused(&world, "z-cert", "circle show harbour")?;
    assert!(said.contains("there is no circle"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_named_by_the_first_digits_of_its_key() -> anyhow::Result<()> {
    let world = haven().await?;
    done(&world, "ncsc", "circle remove haven ferm --yes")?;
    let key = world.node("ferm").key.to_string();
    for wrong in ["12345", "fedcba987654", "none of it"] {
        let said = refused(&world, "ncsc", &format!("circle add haven ferm --yes --node \"{wrong}\""))?;
        assert!(said.contains(wrong) && said.contains("ferm"), "{said}");
    }
    let said = done(&world, "ncsc", &format!("circle add haven ferm --yes --node {}", &key[..12]))?;
    assert!(said.err.contains(&key[..12]), "the key is shown: {said:?}");
    for verb in ["appoint", "dismiss", "remove"] {
        done(&world, "ncsc", &format!("circle {verb} haven ferm --yes --node {}", &key[..12]))?;
    }
    // The whole key as ever.
    let again = Membership { partner: "ferm".to_owned(), node: Some(key) };
    let _: cwn_node::api::types::Id = world.client("ncsc").post("/v1/circles/haven/add", &again).await?;
    Ok(())
}
