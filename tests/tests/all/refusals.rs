//! What a daemon refuses, at its start and at its door: each with what is wrong and what to do.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use cwn_crypto::{
    Time,
    armour::{self, Label},
    certificate::LIFE_MS,
    encoding,
    issuer_log::Statement,
};
use cwn_node::{
    api::types::{Check, PeerView, RefusalView, Status},
    clock,
    config::Config,
    keystore::Keys,
};
use cwn_tests::{
    shell::say,
    world::{Authority, World},
};

/// Runs a daemon that is expected to end by itself, and gives what it said.
fn refused(world: &World, name: &str, environment: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut command = world.daemon(name)?;
    command.envs(environment.iter().copied()).stderr(std::process::Stdio::piped());
    let Output { status, stderr, .. } = command.output()?;
    assert!(!status.success());
    Ok(String::from_utf8(stderr)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_would_leak_or_cannot_run_says_what_to_do() -> anyhow::Result<()> {
    let world = World::new(&["ncsc"])?;
    let data = world.node("ncsc").data.clone();
    let said = refused(&world, "ncsc", &[("SSLKEYLOGFILE", "/dev/null")])?;
    assert!(said.contains("SSLKEYLOGFILE") && said.contains("unset"), "{said}");
    let config = fs::read_to_string(data.join("config.toml"))?;
    fs::write(data.join("config.toml"), format!("{config}\nlissen = 1\n"))?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("lissen") && said.contains("line"), "{said}");
    fs::write(data.join("config.toml"), config)?;
    fs::set_permissions(data.join("keys.cwn"), fs::Permissions::from_mode(0o640))?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("chmod 0600"), "{said}");
    fs::set_permissions(data.join("keys.cwn"), fs::Permissions::from_mode(0o600))?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("chmod 0700"), "{said}");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    fs::write(data.join("credential"), [0; 31])?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("31 bytes"), "{said}");
    fs::write(data.join("credential"), [0; 32])?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("does not open"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_does_not_hold_is_refused_at_the_start_by_the_name_of_its_file() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    let data = world.node("ncsc").data.clone();
    let expect = |world: &World, file: &str, words: &[&str]| -> anyhow::Result<()> {
        let said = refused(world, "ncsc", &[])?;
        assert!(words.iter().chain([&file]).all(|word| said.contains(word)), "{file} {words:?}: {said}");
        Ok(())
    };
    let certificate = data.join("certificate.cwn");
    let good = fs::read_to_string(&certificate)?;
    let put = |bytes: &[u8]| fs::write(&certificate, armour::armour(Label::Certificate, bytes));
    let bytes = armour::dearmour(Label::Certificate, &good, 4_096)?;

    fs::remove_file(&certificate)?;
    expect(&world, "certificate.cwn", &["missing", "join"])?;
    fs::write(&certificate, &good[..good.len() / 2])?;
    expect(&world, "certificate.cwn", &["END"])?;
    fs::write(&certificate, "x".repeat(1 << 20))?;
    expect(&world, "certificate.cwn", &["longer"])?;
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    put(&altered)?;
    expect(&world, "certificate.cwn", &["signature"])?;
    // The array of two, spelled in two bytes where one does.
    assert_eq!(bytes[0], 0x82);
    put(&[[0x98, 0x02].as_slice(), &bytes[1..]].concat())?;
    expect(&world, "certificate.cwn", &["canonical"])?;
    let mut other = Authority::found("another")?;
    let keys = world.keys("ncsc")?;
    let foreign = other.state(keys.signing.public(), keys.sealing.recipient(), "ncsc", clock::now())?;
    put(&encoding::to_bytes(&foreign))?;
    expect(&world, "certificate.cwn", &["network"])?;
    put(&bytes)?;
    let root = fs::read_to_string(data.join("root.cwn"))?;
    fs::write(data.join("root.cwn"), &good)?;
    expect(&world, "root.cwn", &["CERTIFICATE"])?;
    fs::write(data.join("root.cwn"), root)?;
    world.start("ncsc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_and_a_socket_path_that_is_too_long_are_named() -> anyhow::Result<()> {
    let world = World::new(&["ncsc"])?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let mine = Config::load(&world.node("ncsc").data)?.network.listen;
    world.configure("ncsc", |config| {
        config.network.listen = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]
    })?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains(&port) && said.contains("in use"), "{said}");
    let long = world.node("ncsc").data.join("x".repeat(200));
    world.configure("ncsc", |config| (config.network.listen, config.api.socket) = (mine, Some(long)))?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("[api] socket"), "{said}");
    Ok(())
}

/// What `cwn doctor` finds broken, and all that it said.
fn broken(world: &World) -> anyhow::Result<(Vec<String>, String)> {
    let data = world.node("ncsc").data.clone();
    let said = say(&data, &format!("cwn --data {} doctor --json", data.display()))?;
    let checks: Vec<Check> = serde_json::from_str(&said.out)?;
    let broken = checks.into_iter().filter(|check| check.state == "broken").map(|check| check.what).collect();
    assert_eq!(said.code, Some(1), "{said:?}");
    Ok((broken, said.out))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_says_that_no_daemon_runs_and_what_keeps_one_from_starting() -> anyhow::Result<()> {
    let world = World::new(&["ncsc"])?;
    let data = world.node("ncsc").data.clone();
    let (found, said) = broken(&world)?;
    assert_eq!(found, ["daemon"]);
    assert!(said.contains("none runs here") && said.contains("start it with"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let dir = data.join("nowhere");
    world.configure("ncsc", |config| {
        config.network.listen = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
        config.api.socket = Some(dir.join("cwn.sock"));
    })?;
    fs::write(data.join("credential"), [0; 32])?;
    let (found, said) = broken(&world)?;
    assert_eq!(found, ["daemon", "keys", "listening", "local API"]);
    assert!(said.contains("does not open") && said.contains(&port) && said.contains("[network] listen"), "{said}");
    assert!(said.contains("nowhere") && said.contains("[api] socket"), "{said}");
    let config = fs::read_to_string(data.join("config.toml"))?;
    fs::write(data.join("config.toml"), format!("{config}\nlissen = 1\n"))?;
    let (found, said) = broken(&world)?;
    assert_eq!(found, ["daemon", "configuration"]);
    assert!(said.contains("lissen"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_kept_offline_is_not_broken_for_that() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.configure("ncsc", |config| config.network.offline = true)?;
    world.start("ncsc").await?;
    world.hand_over_issuer_log("ncsc").await?;
    let checks: Vec<Check> = world.client("ncsc").get("/v1/doctor").await?;
    let peers = checks.iter().find(|check| check.what == "peers").unwrap();
    assert!(peers.state == "ok" && peers.found.contains("offline"), "{peers:?}");
    assert!(checks.iter().all(|check| check.state != "broken"), "{checks:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_configuration_is_gone_does_not_run_on_the_defaults() -> anyhow::Result<()> {
    let world = World::new(&["ncsc"])?;
    fs::remove_file(world.node("ncsc").data.join("config.toml"))?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("config.toml") && said.contains("backup"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credential_that_systemd_hands_over_opens_the_keys_whatever_mode_it_has() -> anyhow::Result<()> {
    let world = World::new(&["ncsc"])?;
    let handed_over = tempfile::tempdir()?;
    let credential = handed_over.path().join("cwn");
    fs::copy(world.node("ncsc").data.join("credential"), &credential)?;
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o440))?;
    world.configure("ncsc", |config| config.keys.credential = None)?;
    let mut daemon = world.daemon("ncsc")?.env("CREDENTIALS_DIRECTORY", handed_over.path()).spawn()?;
    let client = world.client("ncsc");
    let answers =
        world.until("ncsc", "it answers", async || Ok(client.get::<Status>("/v1/status").await.is_ok())).await;
    daemon.kill()?;
    daemon.wait()?;
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused_and_the_first_daemon_goes_on() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    let said = refused(&world, "ncsc", &[])?;
    assert!(said.contains("in use"), "{said}");
    let status: Status = world.client("ncsc").get("/v1/status").await?;
    assert_eq!(status.partner, "ncsc");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_other_keys_is_refused_at_the_start() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    let (keys, others) = (Keys::generate(), Keys::generate());
    let membership = world.authority.certify(&others, "ferm", clock::now())?;
    world.add("ferm", &keys, &membership)?;
    let said = refused(&world, "ferm", &[])?;
    assert!(said.contains("two data directories"), "{said}");
    Ok(())
}

/// Whether a node shows that another cannot be reached, with this word in the reason.
async fn why_not(world: &World, name: &str, partner: &str, word: &str) -> anyhow::Result<bool> {
    let peers: Vec<PeerView> = world.client(name).get("/v1/peers").await?;
    let peer = peers.into_iter().find(|peer| peer.partner == partner).unwrap();
    Ok(peer.last_failure.is_some_and(|why| why.contains(word) && why.contains("coordinator")))
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_certificate_in_grace_works_and_shows_and_one_beyond_it_is_refused() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    let days = |days: u64| Time(clock::now().0 - days * Time::DAY_MS);
    assert_eq!(LIFE_MS, 30 * Time::DAY_MS);
    for (name, age) in [("grace", 40), ("expired", 59), ("beyond", 61)] {
        let keys = Keys::generate();
        let membership = world.authority.certify(&keys, name, days(age))?;
        world.add(name, &keys, &membership)?;
    }
    world.start("ncsc").await?;
    world.start("grace").await?;
    world.connected("grace", 1).await?;
    world.connected("ncsc", 1).await?;
    let status: Status = world.client("grace").get("/v1/status").await?;
    assert_eq!(status.certificate.standing, "grace");
    assert!(status.warnings.iter().any(|warning| warning.contains("coordinator")));
    // Its certificate is news to ncsc, and comes with the network circle.
    let shown = async || {
        let peers: Vec<PeerView> = world.client("ncsc").get("/v1/peers").await?;
        Ok(peers.iter().any(|peer| peer.partner == "grace" && peer.standing == "grace"))
    };
    world.until("ncsc", "it shows that the certificate is in grace", shown).await?;
    world.start("beyond").await?;
    let node = world.node("beyond").key.to_string();
    let refused = async || {
        let refusals: Vec<RefusalView> = world.client("ncsc").get("/v1/refusals").await?;
        Ok(refusals.iter().any(|one| one.node.as_deref() == Some(&node) && one.reason.contains("expired")))
    };
    world.until("ncsc", "it refused the expired certificate", refused).await?;
    let status: Status = world.client("beyond").get("/v1/status").await?;
    assert_eq!((status.peers, status.certificate.standing.as_str()), (0, "expired"));
    let told = async || why_not(&world, "beyond", "ncsc", "expired").await;
    world.until("beyond", "it is told why and what to do", told).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_node_of_another_network_is_refused_and_nothing_runs_for_it() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert"])?;
    world.start_all().await?;
    world.connected("ncsc", 1).await?;
    world.found("ncsc", "zorg", &["z-cert"]).await?;
    let before: Status = world.client("ncsc").get("/v1/status").await?;
    let mut other = Authority::found("another")?;
    let keys = Keys::generate();
    let membership = other.certify(&keys, "stranger", clock::now())?;
    world.add("stranger", &keys, &membership)?;
    world.start("stranger").await?;
    let node = world.node("stranger").key.to_string();
    let refused = async || {
        let refusals: Vec<RefusalView> = world.client("ncsc").get("/v1/refusals").await?;
        Ok(refusals.iter().any(|one| one.node.as_deref() == Some(&node) && one.reason.contains("network")))
    };
    world.until("ncsc", "it refused the stranger", refused).await?;
    let after: Status = world.client("ncsc").get("/v1/status").await?;
    assert_eq!((after.peers, after.handlers_built), (before.peers, before.handlers_built));
    let stranger: Status = world.client("stranger").get("/v1/status").await?;
    assert_eq!((stranger.peers, stranger.circles.len(), stranger.offers.len()), (0, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_revoked_node_is_disconnected_and_its_entries_say_so() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc", "z-cert", "ferm"])?;
    world.start_all().await?;
    for name in ["ncsc", "z-cert", "ferm"] {
        world.connected(name, 2).await?;
    }
    world.found("ncsc", "zorg", &["z-cert", "ferm"]).await?;
    let published = world.publish("ferm", "zorg", "before").await?;
    world.expect_titles("ncsc", "zorg", &["before"]).await?;
    let node = world.node("ferm").key;
    world.authority.say(&Statement::Revocation { node, serial: 3, reason: "stolen".to_owned(), cut: Vec::new() });
    // The issuer's log reaches ncsc as a file, as from a CA that is kept offline.
    world.hand_over_issuer_log("ncsc").await?;
    let alone = async || Ok(world.client("ferm").get::<Status>("/v1/status").await?.peers == 0);
    world.until("ferm", "it is connected with nobody", alone).await?;
    assert!(world.read("z-cert", &published.reference).await?.summary.author_revoked);
    // Both are told what to do by `cwn doctor` too: who cannot connect, and a steward in whose circle it still is.
    let found = async |name: &str, what: &str| -> anyhow::Result<String> {
        let checks: Vec<Check> = world.client(name).get("/v1/doctor").await?;
        Ok(checks.into_iter().find(|check| check.what == what).map(|check| check.found).unwrap_or_default())
    };
    let peers = found("ferm", "peers").await?;
    assert!(peers.contains("nobody is connected, of 2 nodes") && peers.contains("`cwn peers`"), "{peers}");
    let members = found("ncsc", "members").await?;
    assert!(members.contains("revoked, and still in zorg: 1 node") && members.contains("removes it"), "{members}");
    assert_eq!(found("z-cert", "members").await?, "", "it is no steward");
    let told = async || why_not(&world, "ferm", "ncsc", "revoked").await;
    world.until("ferm", "it is told why and what to do", told).await?;
    let after = world.publish("ncsc", "zorg", "after").await?;
    assert_eq!((after.audience.nodes, after.audience.left_out), (2, vec!["ferm".to_owned()]));
    world.expect_titles("z-cert", "zorg", &["after", "before"]).await?;
    world.expect_titles("ferm", "zorg", &["before"]).await?;
    // Also with the disk of a member in its hands it opens nothing that came after.
    world.kill("z-cert")?;
    assert_eq!(world.readable("z-cert", &world.keys("ferm")?)?, ["before"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_torn_end_is_cut_back_and_a_lost_or_garbled_index_is_built_anew() -> anyhow::Result<()> {
    let mut world = World::new(&["ncsc"])?;
    world.start("ncsc").await?;
    world.found("ncsc", "zorg", &[]).await?;
    world.publish("ncsc", "zorg", "one").await?;
    world.kill("ncsc")?;
    let data = world.node("ncsc").data.clone();
    let mut segments: Vec<_> = fs::read_dir(data.join("segments"))?.map(|file| file.unwrap().path()).collect();
    segments.sort();
    let last = segments.last().unwrap();
    let mut bytes = fs::read(last)?;
    bytes.extend_from_slice(&[0x55; 100]);
    fs::write(last, bytes)?;
    world.start("ncsc").await?;
    world.expect_titles("ncsc", "zorg", &["one"]).await?;
    assert!(world.log("ncsc").contains("cut back"), "{}", world.log("ncsc"));
    world.kill("ncsc")?;
    fs::remove_dir_all(data.join("index"))?;
    world.start("ncsc").await?;
    world.expect_titles("ncsc", "zorg", &["one"]).await?;
    world.publish("ncsc", "zorg", "two").await?;
    world.expect_titles("ncsc", "zorg", &["one", "two"]).await?;
    for garbage in [vec![0x55; 100_000], Vec::new()] {
        world.kill("ncsc")?;
        let files = files_below(&data.join("index"))?;
        assert!(!files.is_empty());
        for file in files {
            fs::write(file, &garbage)?;
        }
        world.start("ncsc").await?;
        world.expect_titles("ncsc", "zorg", &["one", "two"]).await?;
    }
    world.publish("ncsc", "zorg", "three").await?;
    world.expect_titles("ncsc", "zorg", &["one", "three", "two"]).await
}

fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
