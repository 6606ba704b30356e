//! A network of real daemons over loopback, with a coordinator's keys in the test's own hands.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use cwn_crypto::{
    Domain, PublicKey, Signed, SigningKey, Time,
    armour::{self, Label},
    certificate::{self, Certificate, SUITE, SignedCertificate},
    encoding,
    issuer_log::{LogId, Statement},
    root::{IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::Recipient,
};
use cwn_engine::{
    log::{CircleId, Draft, EntryBytes, Opening, Stored, Suite, Under, Writer},
    store::Read,
};
use cwn_functions::sharing::Report;
use cwn_node::{
    api::{
        client::Client,
        types::{EntryDetail, EntrySummary, Id, IssuerLog, NewCircle, NewEntry, Published, QuotaChange, Status, Taken},
    },
    clock,
    config::{Accept, Bootstrap, Config, FILE},
    driver::random,
    files,
    inbox::Inbox,
    keyring::Keyring,
    keystore::{Keys, Unlock},
    membership::Membership,
    network::Address,
    store::Store,
};
use tokio::time::Instant;

/// How long anything is waited for: a machine under load is slow, a test that hangs is red.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The coordinator's root and issuer, kept by the test.
#[derive(Debug)]
pub struct Authority {
    /// The root of trust.
    pub root: TrustRoot,
    root_key: SigningKey,
    issuer: SigningKey,
    writer: Writer,
    /// The issuer's log so far.
    pub entries: Vec<EntryBytes>,
    /// How far back what it says is dated: as if it had fallen silent so long ago.
    pub silent_ms: u64,
    serial: u64,
}

impl Authority {
    /// A network just founded.
    pub fn found(name: &str) -> anyhow::Result<Self> {
        let root_key = SigningKey::from_seed(&random());
        let issuer = SigningKey::from_seed(&random());
        let now = clock::now();
        let document = RootDocument {
            version: 1,
            name: name.to_owned(),
            keys: vec![root_key.public()],
            threshold: 1,
            issuers: vec![IssuerTerm {
                issuer: issuer.public(),
                not_before: Time(now.0 - 70 * Time::DAY_MS),
                not_after: now.plus(20 * Time::DAY_MS),
            }],
            freshness_ms: Time::DAY_MS,
            previous: None,
            dropped: Vec::new(),
        };
        let root = TrustRoot::from_first(&SignedRoot::sign(&document, &[&root_key]))?;
        let circle = CircleId(root.network().0);
        let mut log = [0; 16];
        log.copy_from_slice(&random()[..16]);
        let opening = Opening { under: Under::Root(1), cites: Vec::new() };
        let writer = Writer::open(circle, issuer.clone(), LogId(log), opening);
        Ok(Self { root, root_key, issuer, writer, entries: Vec::new(), silent_ms: 0, serial: 0 })
    }

    /// Certifies keys for a partner, from `not_before` on for the usual life.
    pub fn certify(&mut self, keys: &Keys, partner: &str, not_before: Time) -> anyhow::Result<Membership> {
        let signed = self.state(keys.signing.public(), keys.sealing.recipient(), partner, not_before)?;
        Membership::new(self.root.clone(), signed, keys).map_err(anyhow::Error::msg)
    }

    /// States in the issuer's log that these keys are a partner's, whoever has them.
    pub fn state(
        &mut self,
        node: PublicKey,
        recipient: Recipient,
        partner: &str,
        not_before: Time,
    ) -> anyhow::Result<SignedCertificate> {
        self.serial += 1;
        let certificate = Certificate {
            suite: SUITE,
            network: self.root.network(),
            serial: self.serial,
            node,
            recipient,
            partner: partner.parse()?,
            name: partner.to_uppercase(),
            not_before,
            not_after: not_before.plus(certificate::LIFE_MS),
            issuer: self.issuer.public(),
        };
        let signed = Signed::sign(&certificate, Domain::CERTIFICATE, &self.issuer);
        self.say(&Statement::Certificate(signed.clone()));
        Ok(signed)
    }

    /// Appends a statement to the issuer's log.
    pub fn say(&mut self, statement: &Statement) {
        let draft =
            Draft { suite: Suite::Network, epoch: None, payload: statement.to_bytes(), expiry: None, retracts: None };
        self.entries.push(self.writer.append(self.now(), draft).bytes().clone());
    }

    fn now(&self) -> Time {
        Time(clock::now().0 - self.silent_ms)
    }

    /// The next version of the root document in a file, as `cwn ca root propose` writes it; signed by the root key, or
    /// by a stranger's.
    pub fn next_root(&self, signed: bool) -> anyhow::Result<String> {
        let stranger = SigningKey::from_seed(&random());
        let mut next = self.root.propose(|document| document.name = "renamed".to_owned())?;
        next.add_signature(if signed { &self.root_key } else { &stranger });
        let mut chain = self.root.chain();
        chain.0.push(next);
        Ok(armour::armour(Label::RootDocument, &encoding::to_bytes(&chain)))
    }
}

/// Where a node runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it listens.
    pub address: SocketAddrV4,
    /// What stands before the program on its command line, such as what takes it into a host of its own.
    pub before: Vec<String>,
    /// In which directory its data lie; where none is named, in the world's own.
    pub disk: Option<PathBuf>,
}

/// One node: its directory, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    /// Its partner.
    pub name: String,
    /// Its data directory.
    pub data: PathBuf,
    /// Its key.
    pub key: PublicKey,
    place: Place,
    process: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A network of real daemons.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    /// The coordinator.
    pub authority: Authority,
    /// The nodes.
    pub nodes: Vec<Node>,
    host: Ipv4Addr,
}

/// A loopback address for one world alone: between a node's end and its next start nobody else, and no outgoing
/// connection of another test, can take its port.
fn own_host() -> Ipv4Addr {
    static WORLDS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high % 128, low, WORLDS.fetch_add(1, Ordering::Relaxed).max(1))
}

/// A place on this machine, with a port that was free a moment ago, chosen by the system; none of these, whose nodes may
/// not run yet.
fn loopback(host: Ipv4Addr, taken: &[u16]) -> anyhow::Result<Place> {
    loop {
        let port = std::net::TcpListener::bind((host, 0))?.local_addr()?.port();
        if !taken.contains(&port) {
            return Ok(Place { address: SocketAddrV4::new(host, port), before: Vec::new(), disk: None });
        }
    }
}

fn places(host: Ipv4Addr, names: &[&str]) -> anyhow::Result<Vec<(String, Place)>> {
    let mut taken = Vec::new();
    let place = |name: &&str| {
        let place = loopback(host, &taken)?;
        taken.push(place.address.port());
        Ok(((*name).to_owned(), place))
    };
    names.iter().map(place).collect()
}

/// The keys in a node's data directory, which the credential file beside them opens.
pub fn keys(data: &Path) -> anyhow::Result<Keys> {
    Ok(Keys::open(data, &Unlock::credential(&data.join("credential"))?)?)
}

impl World {
    /// A network in which these partners are members; nothing runs yet.
    pub fn new(names: &[&str]) -> anyhow::Result<Self> {
        let host = own_host();
        let places = places(host, names)?;
        Self::lay_out(host, Authority::found("test")?, &places)
    }

    /// As [`Self::new`], where the issuer has said nothing for so long.
    pub fn with_a_silent_issuer(names: &[&str], silent_ms: u64) -> anyhow::Result<Self> {
        let host = own_host();
        let authority = Authority { silent_ms, ..Authority::found("test")? };
        Self::lay_out(host, authority, &places(host, names)?)
    }

    /// A network in which these partners are members, each in its own place; nothing runs yet.
    pub fn in_places(places: &[(String, Place)]) -> anyhow::Result<Self> {
        Self::lay_out(own_host(), Authority::found("test")?, places)
    }

    fn lay_out(host: Ipv4Addr, authority: Authority, places: &[(String, Place)]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut world = Self { dir, authority, nodes: Vec::new(), host };
        let mut certified = Vec::new();
        for (name, _) in places {
            let keys = Keys::generate();
            let membership = world.authority.certify(&keys, name, world.authority.now())?;
            certified.push((keys, membership));
        }
        for ((name, place), (keys, membership)) in places.iter().zip(&certified) {
            world.add_in(name, keys, membership, place.clone())?;
        }
        Ok(world)
    }

    /// Lays out the data directory of one more node, which dials all that are there already.
    pub fn add(&mut self, name: &str, keys: &Keys, membership: &Membership) -> anyhow::Result<()> {
        let taken: Vec<u16> = self.nodes.iter().map(|node| node.place.address.port()).collect();
        self.add_in(name, keys, membership, loopback(self.host, &taken)?)
    }

    /// As [`Self::add`], with the data directory on a disk of its own.
    pub fn add_on(&mut self, disk: &Path, name: &str, keys: &Keys, membership: &Membership) -> anyhow::Result<()> {
        let taken: Vec<u16> = self.nodes.iter().map(|node| node.place.address.port()).collect();
        let place = Place { disk: Some(disk.to_owned()), ..loopback(self.host, &taken)? };
        self.add_in(name, keys, membership, place)
    }

    fn add_in(&mut self, name: &str, keys: &Keys, membership: &Membership, place: Place) -> anyhow::Result<()> {
        let data = place.disk.as_deref().unwrap_or(self.dir.path()).join(name);
        files::make_dir(&data)?;
        let credential = data.join("credential");
        files::durable_write(&credential, &random())?;
        keys.create(&data, &Unlock::credential(&credential)?)?;
        membership.store(&data, &self.authority.entries)?;
        let multiaddress =
            |address: SocketAddrV4| format!("/ip4/{}/tcp/{}", address.ip(), address.port()).parse::<Address>();
        let mut config = Config::default();
        config.network.listen = vec![multiaddress(place.address)?];
        config.network.reconnect_jitter_seconds = 0;
        config.keys.credential = Some(credential);
        config.circles.accept = Accept::Certified;
        // For when something does not hold.
        config.log.level = "info,cwn_node=debug".to_owned();
        for node in &self.nodes {
            let addresses = vec![multiaddress(node.place.address)?];
            config.network.bootstrap.push(Bootstrap { node: node.key.to_string(), addresses });
        }
        files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?;
        let key = keys.signing.public();
        self.nodes.push(Node { name: name.to_owned(), data, key, place, process: None });
        Ok(())
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Changes a node's configuration, which it reads at its next start.
    pub fn configure(&self, name: &str, change: impl FnOnce(&mut Config)) -> anyhow::Result<()> {
        let data = &self.node(name).data;
        let mut config = Config::load(data)?;
        change(&mut config);
        Ok(files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?)
    }

    /// A node's keys, as somebody has them who took its data directory and its credential.
    pub fn keys(&self, name: &str) -> anyhow::Result<Keys> {
        keys(&self.node(name).data)
    }

    /// The titles of all that somebody with these keys can open on the disk of a node that does not run, sorted.
    pub fn readable(&self, name: &str, keys: &Keys) -> anyhow::Result<Vec<String>> {
        let (store, _) = Store::open(&self.node(name).data, &mut |_| {})?;
        let reader = store.reader();
        let keyring = Arc::new(Keyring::new(keys.sealing.clone(), reader.clone()));
        let inbox = Inbox::new(store.view("inbox")?, reader.clone(), keyring);
        let mut titles = Vec::new();
        for (key, tip) in reader.logs()? {
            for seq in 0..tip.height {
                let entry = Stored::read(reader.entry(&key, seq)?.context("it is held")?)?;
                if matches!(entry.header().suite, Suite::Epoch | Suite::Named)
                    && let Ok(payload) = inbox.open(&entry, None)
                {
                    titles.push(Report::from_payload(&payload)?.context("it is a report")?.title);
                }
            }
        }
        store.close()?;
        titles.sort();
        Ok(titles)
    }

    /// Flips a bit of an entry on the disk of a node that does not run.
    pub fn rot(&self, name: &str, published: &Published) -> anyhow::Result<()> {
        let data = &self.node(name).data;
        let (store, _) = Store::open(data, &mut |_| {})?;
        let mut sealed = None;
        for (key, tip) in store.logs()? {
            for seq in 0..tip.height {
                let entry = Stored::read(store.entry(&key, seq)?.context("it is held")?)?;
                if entry.hash().to_string().starts_with(&published.reference) {
                    sealed = entry.payload().map(<[u8]>::to_vec);
                }
            }
        }
        store.close()?;
        let sealed = sealed.context("it holds no such entry")?;
        for segment in std::fs::read_dir(data.join("segments"))? {
            let path = segment?.path();
            let mut bytes = std::fs::read(&path)?;
            if let Some(at) = bytes.windows(sealed.len()).position(|window| window == sealed) {
                bytes[at] ^= 1;
                return Ok(std::fs::write(path, bytes)?);
            }
        }
        bail!("no segment has it")
    }

    /// Asks a node.
    pub fn client(&self, name: &str) -> Client {
        Client::new(self.node(name).data.join("cwn.sock"))
    }

    /// The command that runs a node's daemon.
    pub fn daemon(&self, name: &str) -> anyhow::Result<Command> {
        let Node { data, place, .. } = self.node(name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("daemon.log"))?;
        let mut words = place.before.iter().map(OsString::from).chain([program()?.into_os_string()]);
        let mut command = Command::new(words.next().context("a command has a first word")?);
        command
            .args(words)
            .arg("--data")
            .arg(data)
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    /// Starts a node, and waits for nothing.
    pub fn spawn(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.daemon(name)?.spawn()?;
        self.node_mut(name).process = Some(process);
        Ok(())
    }

    /// Starts a node, and waits until it answers.
    pub async fn start(&mut self, name: &str) -> anyhow::Result<()> {
        self.spawn(name)?;
        let client = self.client(name);
        self.until(name, "it answers", async || Ok(client.get::<Status>("/v1/status").await.is_ok())).await
    }

    /// Starts all nodes.
    pub async fn start_all(&mut self) -> anyhow::Result<()> {
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for name in names {
            self.start(&name).await?;
        }
        Ok(())
    }

    /// Ends a node at once, as a power cut does to a process: kill -9.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.node_mut(name).process.take().context("it does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Asks a node to stop, and waits until it has.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.node_mut(name).process.take().context("it does not run")?;
        rustix::process::kill_process(rustix::process::Pid::from_child(&process), rustix::process::Signal::TERM)?;
        let ended = process.wait()?;
        anyhow::ensure!(ended.success(), "{name} ended with {ended}\n{}", self.log(name));
        Ok(())
    }

    /// Hands the issuer's log to a running node as a file.
    pub async fn hand_over_issuer_log(&self, name: &str) -> anyhow::Result<()> {
        let text = armour::armour(Label::IssuerLog, &encoding::to_bytes(&self.authority.entries));
        let taken: Taken = self.client(name).post("/v1/issuer-log", &IssuerLog { text }).await?;
        anyhow::ensure!(taken.entries == self.authority.entries.len(), "it took {} entries", taken.entries);
        Ok(())
    }

    /// The end of a node's log.
    pub fn log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.node(name).data.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(100)..].join("\n")
    }

    /// The end of every node's log, for when something does not hold: the cause may lie with another node.
    pub fn logs(&self) -> String {
        self.nodes.iter().map(|node| format!("---- {}\n{}\n", node.name, self.log(&node.name))).collect()
    }

    /// Waits until something holds of a node.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = holds().await;
            match last {
                Ok(true) => return Ok(()),
                _ if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                Ok(false) => bail!("{name}: not so after {PATIENCE:?}: {what}\n{}", self.logs()),
                Err(error) => bail!("{name}: {what}: {error}\n{}", self.logs()),
            }
        }
    }

    /// Waits until a node is connected with so many others.
    pub async fn connected(&self, name: &str, peers: usize) -> anyhow::Result<()> {
        let client = self.client(name);
        let enough = async || Ok(client.get::<Status>("/v1/status").await?.peers >= peers);
        self.until(name, &format!("connected with {peers}"), enough).await
    }

    /// Founds a circle that takes everything up to RED, whoever of its partners can hear of it now.
    pub async fn found_at_once(&self, founder: &str, circle: &str, partners: &[&str]) -> anyhow::Result<()> {
        let new = NewCircle {
            name: circle.to_owned(),
            description: String::new(),
            ceiling: Some("RED".to_owned()),
            purposes: Vec::new(),
            stewards: Vec::new(),
            partners: partners.iter().map(|name| (*name).to_owned()).collect(),
            history: None,
            quota: QuotaChange::default(),
            retention_days: None,
        };
        let _: Id = self.client(founder).post("/v1/circles", &new).await?;
        Ok(())
    }

    /// Founds a circle that takes everything up to RED, and waits until all are in it.
    pub async fn found(&self, founder: &str, circle: &str, partners: &[&str]) -> anyhow::Result<()> {
        for partner in partners {
            let known = async || {
                let partners: Vec<cwn_node::api::types::PartnerView> = self.client(founder).get("/v1/partners").await?;
                Ok(partners.iter().any(|known| known.partner == *partner))
            };
            self.until(founder, &format!("it knows {partner}"), known).await?;
        }
        self.found_at_once(founder, circle, partners).await?;
        for name in partners {
            self.until(name, &format!("it is in {circle}"), async || self.is_in(name, circle).await).await?;
        }
        Ok(())
    }

    async fn is_in(&self, name: &str, circle: &str) -> anyhow::Result<bool> {
        let status: Status = self.client(name).get("/v1/status").await?;
        Ok(status.circles.iter().any(|summary| summary.name == circle && summary.member))
    }

    /// Publishes AMBER to a whole circle.
    pub async fn publish(&self, name: &str, circle: &str, title: &str) -> anyhow::Result<Published> {
        self.publish_as(name, circle, title, "AMBER", &[]).await
    }

    /// Publishes.
    pub async fn publish_as(
        &self,
        name: &str,
        circle: &str,
        title: &str,
        tlp: &str,
        to: &[&str],
    ) -> anyhow::Result<Published> {
        let entry = NewEntry {
            circle: circle.to_owned(),
            tlp: tlp.to_owned(),
            pap: None,
            title: title.to_owned(),
            body: format!("The body of {title}."),
            references: Vec::new(),
            to: to.iter().map(|name| (*name).to_owned()).collect(),
            attachments: Vec::new(),
            wait_seconds: Some(PATIENCE.as_secs()),
            expires_at: None,
        };
        let published = self.client(name).post("/v1/entries", &entry).await;
        published.with_context(|| format!("{name} publishes\n{}", self.log(name)))
    }

    /// The titles that a node lists in a circle, sorted; what it cannot open as its state.
    pub async fn titles(&self, name: &str, circle: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/v1/entries?limit=1000&circle={circle}");
        let entries: Vec<EntrySummary> = self.client(name).get(&path).await?;
        let mut titles: Vec<String> = entries.into_iter().map(|entry| entry.title.unwrap_or(entry.state)).collect();
        titles.sort();
        Ok(titles)
    }

    /// Waits until a node lists exactly these titles in a circle.
    pub async fn expect_titles(&self, name: &str, circle: &str, titles: &[&str]) -> anyhow::Result<()> {
        let mut expected: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
        expected.sort();
        let listed = async || Ok(self.titles(name, circle).await? == expected);
        let held = self.until(name, &format!("it lists {expected:?}"), listed).await;
        match held {
            Ok(()) => Ok(()),
            Err(error) => bail!("{error}\nit lists {:?}", self.titles(name, circle).await),
        }
    }

    /// One entry as a node reads it.
    pub async fn read(&self, name: &str, reference: &str) -> anyhow::Result<EntryDetail> {
        Ok(self.client(name).get(&format!("/v1/entries/{reference}")).await?)
    }
}

/// The program under test: built beside the tests.
pub fn program() -> anyhow::Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let target = tests.ancestors().find(|dir| dir.join("cwn").is_file()).map(Path::to_owned);
    target.map(|dir| dir.join("cwn")).context("the program is not built: cargo build --workspace --bins")
}
