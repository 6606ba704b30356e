//! What cannot be sealed yet: kept, published by itself as soon as it may be, and before that only on record.

use std::{collections::BTreeSet, fs, time::Duration};

use cwn_crypto::{Time, issuer_log::Statement};
use cwn_node::{
    api::types::{
        DraftDetail, DraftSummary, Id, Membership, NewEntry, Problem, Publication, PublishDraft, Published, Retract,
        Status,
    },
    drafts::{OVERRIDES, Override},
};
use cwn_tests::{
    shell::{Said, say},
    world::World,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

fn entry(title: &str, tlp: &str) -> NewEntry {
    NewEntry {
        circle: "zorg".to_owned(),
        tlp: tlp.to_owned(),
        pap: None,
        title: title.to_owned(),
        body: format!("The body of {title}."),
        references: Vec::new(),
        to: Vec::new(),
        attachments: Vec::new(),
        wait_seconds: Some(0),
        expires_at: None,
    }
}

/// A circle of these partners that ncsc founded; then all of them are killed.
async fn all_down(names: &[&str]) -> anyhow::Result<World> {
    let mut world = World::new(names)?;
    world.start_all().await?;
    for name in names {
        world.connected(name, names.len() - 1).await?;
    }
    world.found("ncsc", "zorg", &["z-cert", "ferm"]).await?;
    for name in names {
        world.kill(name)?;
    }
    Ok(world)
}

/// Writes something that cannot be sealed yet.
async fn kept(world: &World, name: &str, entry: &NewEntry) -> anyhow::Result<DraftSummary> {
    match world.client(name).post("/v1/entries", entry).await? {
        Publication::Kept(draft) => Ok(draft),
        Publication::Published(published) => anyhow::bail!("published: {published:?}"),
    }
}

async fn drafts(world: &World, name: &str) -> anyhow::Result<Vec<DraftSummary>> {
    Ok(world.client(name).get("/v1/drafts").await?)
}

async fn detail(world: &World, name: &str, id: &str) -> anyhow::Result<DraftDetail> {
    Ok(world.client(name).get(&format!("/v1/drafts/{id}")).await?)
}

async fn publish(world: &World, name: &str, id: &str, ask: &PublishDraft) -> Result<Published, Problem> {
    let asked = world.client(name).post(&format!("/v1/drafts/{id}/publish"), ask).await;
    asked.map_err(|error| match error {
        cwn_node::api::client::Error::Refused(problem) => problem,
        other => panic!("{other}"),
    })
}

async fn none_left(world: &World, name: &str) -> anyhow::Result<()> {
    world.until(name, "no draft is left", async || Ok(drafts(world, name).await?.is_empty())).await
}

fn cwn(world: &World, name: &str, line: &str) -> anyhow::Result<Said> {
    let data = &world.node(name).data;
    say(data, &format!("cwn --data {} {line}", data.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_what_cannot_be_sealed_yet_survives_a_kill_and_is_published_once_by_itself() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.start("z-cert").await?;
    let draft = kept(&world, "z-cert", &entry("kept", "AMBER")).await?;
    assert!(draft.awaited[0].contains("ncsc") && draft.needs.is_none(), "{draft:?}");
    let Publication::Published(_) = world.client("z-cert").post("/v1/entries", &entry("open", "GREEN")).await? else {
        panic!("up to GREEN nothing waits")
    };
    world.kill("z-cert")?;
    world.start("z-cert").await?;
    let status: Status = world.client("z-cert").get("/v1/status").await?;
    assert_eq!((status.drafts, status.drafts_for_a_person), (1, 0));
    world.expect_titles("z-cert", "zorg", &["open"]).await?;
    world.start("ncsc").await?;
    world.expect_titles("ncsc", "zorg", &["kept", "open"]).await?;
    none_left(&world, "z-cert").await?;
    assert_eq!(fs::read_dir(world.node("z-cert").data.join("drafts"))?.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retraction_that_says_why_waits_like_any_entry_and_a_bare_one_does_not() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("ncsc", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let first = world.publish("z-cert", "zorg", "first").await?;
    let second = world.publish("z-cert", "zorg", "second").await?;
    world.expect_titles("ncsc", "zorg", &["first", "second"]).await?;
    world.kill("ncsc")?;
    world.kill("z-cert")?;
    world.start("z-cert").await?;
    let why = |reason: &str| Retract { reason: reason.to_owned() };
    let take_back = async |reference: &str, why: &Retract| -> anyhow::Result<Publication> {
        Ok(world.client("z-cert").post(&format!("/v1/entries/{reference}/retract"), why).await?)
    };
    let Publication::Kept(draft) = take_back(&first.reference, &why("it names a victim")).await? else {
        panic!("what says why is sealed to those who belong, and who that is this node does not know yet")
    };
    assert!(draft.title.is_some_and(|title| title.starts_with("takes back")));
    let Publication::Published(_) = take_back(&second.reference, &why("")).await? else {
        panic!("a bare retraction does not wait")
    };
    assert_eq!(world.read("z-cert", &first.reference).await?.summary.state, "opened");
    assert_eq!(world.read("z-cert", &second.reference).await?.summary.state, "retracted");
    world.kill("z-cert")?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert"] {
        for reference in [&first.reference, &second.reference] {
            let hidden = async || Ok(world.read(name, reference).await?.summary.state == "retracted");
            world.until(name, "it is taken back", hidden).await?;
        }
    }
    none_left(&world, "z-cert").await
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_draft_is_not_sealed_to_whom_was_removed_meanwhile() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.start("z-cert").await?;
    kept(&world, "z-cert", &entry("for two by then", "AMBER")).await?;
    world.kill("z-cert")?;
    world.start("ncsc").await?;
    let out = Membership { partner: "ferm".to_owned(), node: None };
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/remove", &out).await?;
    world.start("z-cert").await?;
    world.expect_titles("ncsc", "zorg", &["for two by then"]).await?;
    world.kill("ncsc")?;
    assert_eq!(world.readable("ncsc", &world.keys("ferm")?)?, Vec::<String>::new());
    assert_eq!(world.readable("ncsc", &world.keys("z-cert")?)?, ["for two by then"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_draft_waits_for_a_person_when_others_could_read_it_by_now() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm", "ibd"]).await?;
    world.start("z-cert").await?;
    let draft = kept(&world, "z-cert", &entry("for three", "AMBER")).await?;
    world.kill("z-cert")?;
    world.start("ncsc").await?;
    let more = Membership { partner: "ibd".to_owned(), node: None };
    let _: Id = world.client("ncsc").post("/v1/circles/zorg/add", &more).await?;
    world.start("z-cert").await?;
    let waits = async || {
        let status: Status = world.client("z-cert").get("/v1/status").await?;
        let warned = status.warnings.iter().any(|warning| warning.contains("`cwn drafts`"));
        Ok(status.drafts_for_a_person == 1 && warned && status.circles[0].current)
    };
    world.until("z-cert", "the draft waits for a person", waits).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.expect_titles("ncsc", "zorg", &[]).await?;
    let found = detail(&world, "z-cert", &draft.id).await?;
    assert_eq!(found.added, ["ibd"]);
    assert!(found.summary.needs.unwrap().contains("ibd"));
    // Who confirms the readers of then gets no others; who confirms those of now publishes to them.
    let three = found.readers.iter().filter(|node| **node != world.node("ibd").key.to_string()).cloned().collect();
    let refused = publish(&world, "z-cert", &draft.id, &PublishDraft { readers: three, anyway: None }).await;
    assert!(refused.unwrap_err().error.contains("ibd"));
    publish(&world, "z-cert", &draft.id, &PublishDraft { readers: found.readers, anyway: None }).await.unwrap();
    world.expect_titles("ncsc", "zorg", &["for three"]).await?;
    world.start("ibd").await?;
    world.expect_titles("ibd", "zorg", &["for three"]).await?;
    assert!(drafts(&world, "z-cert").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_at_once_takes_a_reason_and_is_on_record_without_what_it_says() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.start("z-cert").await?;
    let red = NewEntry { to: vec!["ferm".to_owned()], ..entry("secret words", "RED") };
    let draft = kept(&world, "z-cert", &red).await?;
    assert_eq!(draft.title, None, "lists hold no words of RED");
    let found = detail(&world, "z-cert", &draft.id).await?;
    assert_eq!(found.summary.title.as_deref(), Some("secret words"));
    let audience = found.audience.unwrap();
    assert_eq!(audience.partners, ["ferm", "z-cert"]);
    let ask = |anyway: Option<&str>, readers: &[String]| PublishDraft {
        readers: readers.to_vec(),
        anyway: anyway.map(str::to_owned),
    };
    let refused = publish(&world, "z-cert", &draft.id, &ask(None, &found.readers)).await.unwrap_err();
    assert!(refused.code == "not_current" && refused.error.contains("--anyway"), "{refused:?}");
    for reason in ["", " ", "two\nlines"] {
        let refused = publish(&world, "z-cert", &draft.id, &ask(Some(reason), &found.readers)).await.unwrap_err();
        assert!(refused.code == "bad_request" && refused.error.contains("reason"), "{refused:?}");
    }
    let fewer = publish(&world, "z-cert", &draft.id, &ask(Some("why"), &[])).await.unwrap_err();
    assert!(fewer.error.contains("look at it again"), "{fewer:?}");
    let none: Vec<Override> = world.client("z-cert").get("/v1/overrides").await?;
    assert!(none.is_empty(), "what was refused is no override");

    let published =
        publish(&world, "z-cert", &draft.id, &ask(Some("lives depend on it"), &found.readers)).await.unwrap();
    assert!(drafts(&world, "z-cert").await?.is_empty());
    let said: Vec<Override> = world.client("z-cert").get("/v1/overrides").await?;
    let [line] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((line.reason.as_str(), line.not_done.as_ref()), ("lives depend on it", None));
    assert_eq!(line.uid, Some(rustix::process::getuid().as_raw()));
    assert_eq!((line.partners.as_slice(), line.nodes.len()), (["ferm", "z-cert"].map(String::from).as_slice(), 2));
    assert!(line.awaited[0].contains("ncsc"), "{line:?}");
    let data = &world.node("z-cert").data;
    for place in [OVERRIDES, "daemon.log"] {
        let text = fs::read_to_string(data.join(place))?;
        assert!(text.contains("lives depend on it") && !text.contains("secret words"), "{text}");
    }
    let page = cwn(&world, "z-cert", "drafts --overrides")?.out;
    assert!(page.contains("why: lives depend on it") && page.contains("for ferm, z-cert (2 nodes)"), "{page}");
    world.start("ferm").await?;
    world.start("ncsc").await?;
    world.expect_titles("ferm", "zorg", &["opened"]).await?;
    world.expect_titles("ncsc", "zorg", &["not_for_us"]).await?;
    assert_eq!(world.read("ferm", &published.reference).await?.body.as_deref(), Some("The body of secret words."));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_that_it_is_kept_looks_at_it_and_drops_it() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.start("z-cert").await?;
    let said = cwn(&world, "z-cert", "publish zorg --tlp AMBER --title storm --yes --wait 0 < /dev/null")?;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let id = said.out.strip_prefix("draft ").unwrap().trim().to_owned();
    assert!(said.err.contains("Kept as a draft, not yet sealed: no word yet from ferm, ncsc."), "{}", said.err);
    let listed = cwn(&world, "z-cert", "drafts")?.out;
    assert!(listed.contains(&id) && listed.contains("storm") && listed.contains("no word yet from"), "{listed}");
    let shown = cwn(&world, "z-cert", &format!("drafts show {id}"))?.out;
    assert!(shown.contains("TLP:AMBER in zorg will be readable by:\n  ferm, ncsc, z-cert (3 nodes)"), "{shown}");
    assert!(cwn(&world, "z-cert", "status")?.out.contains("1 kept, not yet sealed"));
    let refused = cwn(&world, "z-cert", &format!("drafts publish {id} --yes"))?;
    assert!(refused.code == Some(1) && refused.err.contains("--anyway REASON"), "{}", refused.err);
    assert_eq!(cwn(&world, "z-cert", &format!("drafts drop {id} --yes"))?.code, Some(0));
    assert!(cwn(&world, "z-cert", "drafts")?.out.starts_with("No drafts"));
    let gone = cwn(&world, "z-cert", &format!("drafts show {id}"))?;
    assert!(gone.code == Some(1) && gone.err.contains("`cwn drafts`"), "{}", gone.err);
    world.start("ncsc").await?;
    world.connected("z-cert", 1).await?;
    world.publish("z-cert", "zorg", "calm").await?;
    world.expect_titles("ncsc", "zorg", &["calm"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_while_the_issuers_word_is_a_week_old_amber_strict_and_red_are_held_back() -> anyhow::Result<()> {
    let mut world = World::with_a_silent_issuer(&["ncsc", "z-cert"], 8 * Time::DAY_MS)?;
    world.start_all().await?;
    world.connected("z-cert", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let status: Status = world.client("ncsc").get("/v1/status").await?;
    let warned = status.warnings.iter().any(|warning| warning.contains("8 days old") && warning.contains("held back"));
    assert!(warned, "{:?}", status.warnings);
    world.publish("ncsc", "zorg", "amber goes").await?;
    let red = NewEntry { to: vec!["z-cert".to_owned()], ..entry("red waits", "RED") };
    for held in [entry("strict waits", "AMBER+STRICT"), red] {
        let draft = kept(&world, "ncsc", &held).await?;
        assert_eq!(draft.awaited, ["the issuer's last word is too old for this marking"]);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.expect_titles("z-cert", "zorg", &["amber goes"]).await?;
    world.authority.silent_ms = 0;
    world.authority.say(&Statement::NothingElse);
    world.hand_over_issuer_log("ncsc").await?;
    world.expect_titles("z-cert", "zorg", &["amber goes", "opened", "strict waits"]).await?;
    none_left(&world, "ncsc").await
}

/// Kills a node while it publishes its drafts: each is published, and none twice.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_kill_between_publishing_a_draft_and_removing_it_publishes_none_twice() -> anyhow::Result<()> {
    const DRAFTS: usize = 40;
    let seed = std::env::var("CWN_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.start("z-cert").await?;
    let titles: Vec<String> = (0..DRAFTS).map(|n| format!("draft {n:02}")).collect();
    for title in &titles {
        kept(&world, "z-cert", &entry(title, "AMBER")).await?;
    }
    world.start("ncsc").await?;
    let dir = world.node("z-cert").data.join("drafts");
    let mut left = BTreeSet::from([DRAFTS]);
    for _ in 0..6 {
        let begun = fs::read_dir(&dir)?.count();
        let goes_on = async || Ok(fs::read_dir(&dir)?.count() < begun || begun == 0);
        world.until("z-cert", "it publishes", goes_on).await?;
        tokio::time::sleep(Duration::from_micros(u64::from(rng.next_u32() % 40_000))).await;
        world.kill("z-cert")?;
        left.insert(fs::read_dir(&dir)?.count());
        world.start("z-cert").await?;
    }
    assert!(left.len() > 2, "kills among the publishing (seed {seed}): {left:?}");
    none_left(&world, "z-cert").await?;
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    world.expect_titles("ncsc", "zorg", &titles).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_revoked_is_not_waited_for_and_another_still_is() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.start("z-cert").await?;
    kept(&world, "z-cert", &entry("for who is left", "AMBER")).await?;
    for (name, serial) in [("ferm", 3), ("ncsc", 1)] {
        let node = world.node(name).key;
        let [draft] = drafts(&world, "z-cert").await?.try_into().unwrap();
        assert!(draft.awaited[0].contains("ncsc") && draft.needs.is_none(), "{draft:?}");
        let reason = "gone".to_owned();
        world.authority.say(&Statement::Revocation { node, serial, reason, cut: Vec::new() });
        world.hand_over_issuer_log("z-cert").await?;
    }
    none_left(&world, "z-cert").await?;
    world.expect_titles("z-cert", "zorg", &["for who is left"]).await?;
    let Publication::Published(_) = world.client("z-cert").post("/v1/entries", &entry("at once", "AMBER")).await?
    else {
        panic!("nobody is left to be heard")
    };
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_on_a_node_that_is_kept_offline_waits_for_a_person_and_says_so() -> anyhow::Result<()> {
    let mut world = all_down(&["ncsc", "z-cert", "ferm"]).await?;
    world.configure("z-cert", |config| config.network.offline = true)?;
    world.start("z-cert").await?;
    let draft = kept(&world, "z-cert", &entry("by hand", "AMBER")).await?;
    let needs = draft.needs.unwrap();
    assert!(needs.contains("no word yet from") && needs.contains("--anyway REASON"), "{needs}");
    let status: Status = world.client("z-cert").get("/v1/status").await?;
    assert_eq!((status.drafts, status.drafts_for_a_person), (1, 1));
    let refused = cwn(&world, "z-cert", &format!("drafts publish {} --yes", draft.id))?;
    assert!(refused.err.contains("kept offline") && !refused.err.contains("published by itself"), "{}", refused.err);
    let sealed = cwn(&world, "z-cert", &format!("drafts publish {} --anyway \"by stick\" --yes", draft.id))?;
    assert_eq!(sealed.code, Some(0), "{}", sealed.err);
    world.expect_titles("z-cert", "zorg", &["by hand"]).await
}
