//! The stage: directories, processes, and questions to nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use super::table;
use crate::{
    api::{
        client::{Client, Error},
        types::{CircleDetail, EntryDetail, EntrySummary, NewEntry, Publication, Published, Status},
    },
    ca::directory::{Ca, Mesh},
    cli::show::{self, Ink},
    config::{Config, FILE},
    driver::random,
    files,
    keystore::{Typing, Unlock},
};

/// Longer than the slowest timer of the protocol, digests every 60 s: what only that brings is slow, and the table
/// says how slow; what not even that brings is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// A node that is asked and says nothing for so long is stuck.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Nobody wonders before this; after it, they are told what is waited for.
const WONDERS: Duration = Duration::from_secs(1);
/// In a file it is told later, and once.
const WONDERS_IN_A_FILE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(100);
const LOG_LINES: usize = 15;

/// The partners of the story: their short names, and their names as the vision's annex has them.
pub(super) const PARTNERS: [(&str, &str); 9] = [
    ("ncsc", "NCSC"),
    ("nctv", "NCTV"),
    ("z-cert", "Z-CERT"),
    ("ibd", "IBD"),
    ("ferm", "FERM"),
    ("surfcert", "SURFcert"),
    ("divd", "DIVD"),
    ("cert-wm", "CERT-WM"),
    ("msp-swv", "MSP SWV"),
];
/// The coordinator.
pub(super) const COORDINATOR: &str = "ncsc";

/// What connects a node with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Up,
    /// Its configuration keeps it from every connection.
    Cut,
}

/// Directories, processes and the table. Whatever was started ends with it: tokio kills a child that is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    running: BTreeMap<String, Child>,
    lines: Vec<table::Line>,
    chapters: Vec<String>,
    started: Instant,
    ink: Ink,
}

impl Stage {
    pub(super) fn set_up(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("cwn-demo-{}", std::process::id())));
        let dir = std::path::absolute(&dir).with_context(|| dir.display().to_string())?;
        ensure!(!dir.exists(), "{} exists already; give another --dir", dir.display());
        files::make_dir(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        print(&format!(
            "Nine partners on this machine, each a process with a directory of its own in {}.",
            dir.display()
        ));
        Ok(Self {
            dir,
            running: BTreeMap::new(),
            lines: Vec::new(),
            chapters: Vec::new(),
            started: Instant::now(),
            ink: Ink::of_stdout(),
        })
    }

    // ---- Telling.

    pub(super) fn chapter(&mut self, title: &str) {
        self.chapters.push(title.to_owned());
        let head = format!("{}. {title}", self.chapters.len());
        match self.ink {
            Ink::Plain => print(&format!("\n{head}")),
            Ink::Colour => print(&format!("\n\x1b[1m{head}\x1b[0m")),
        }
    }

    pub(super) fn say(&self, what: &str) {
        print(&format!("   {what}"));
    }

    /// A line of the table: what is claimed, the command that shows it, what was measured, and whether it holds.
    pub(super) fn check(&mut self, claim: &str, look: &'static str, measured: impl Into<String>, holds: bool) {
        let measured = table::shorten(&measured.into());
        let said = format!("{} {claim}: {measured}", if holds { "✓" } else { "✗" });
        self.say(&if holds { said } else { self.ink.amber(&said) });
        self.lines.push(table::Line { chapter: self.chapters.len(), claim: claim.to_owned(), measured, look, holds });
    }

    /// Shows the table, and says how many of its lines do not hold.
    pub(super) fn show_table(&self) -> usize {
        let (page, failed) = table::page(&self.lines, self.ink);
        print(&format!("\nWhat was checked, in {} s\n{}", self.started.elapsed().as_secs(), page.trim_end()));
        failed
    }

    pub(super) fn where_it_stopped(&self) -> String {
        let chapter = self.chapters.last().map_or("before it began", String::as_str);
        format!("the story stopped ({chapter}), see {}", self.dir.display())
    }

    pub(super) fn show_places(&self) {
        print("\nWhere it is");
        let rows: Vec<Vec<String>> = PARTNERS
            .iter()
            .map(|(partner, name)| {
                let data = self.data(partner);
                vec![(*name).to_owned(), data.display().to_string(), data.join("cwn.sock").display().to_string()]
            })
            .collect();
        show::table(&rows).lines().for_each(|line| self.say(line));
        self.say(&format!("The CA is in {}, each node's log is in its directory.", self.path("ca").display()));
    }

    /// How a person calls the program about a partner's node.
    pub(super) fn call(&self, partner: &str) -> String {
        let program = std::env::current_exe().unwrap_or_else(|_unknown| PathBuf::from("cwn"));
        let here = std::env::current_dir().unwrap_or_default();
        let program = program.strip_prefix(&here).unwrap_or(&program);
        format!("{} --data {}", program.display(), self.data(partner).display())
    }

    // ---- Places.

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn data(&self, partner: &str) -> PathBuf {
        self.dir.join(partner)
    }

    /// A credential: 32 random bytes in a file of its own.
    pub(super) fn credential(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(&format!("{name}.credential"));
        files::durable_write(&path, &random())?;
        Ok(path)
    }

    /// Where newcomers are told to find the network.
    pub(super) fn mesh(&self) -> anyhow::Result<Mesh> {
        let unlock = Unlock::find(Some(&self.path("ca.credential")), "the CA", Typing::Known)?;
        Ok(Ca::open(&self.path("ca"), &unlock)?.mesh()?)
    }

    // ---- Processes.

    fn program(data: Option<&Path>, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs a command of the program to its end, and gives what it printed.
    pub(super) async fn cwn(data: Option<&Path>, arguments: &[&str]) -> anyhow::Result<String> {
        let what = || format!("cwn {}", arguments.join(" "));
        let output = tokio::time::timeout(PATIENCE, Self::program(data, arguments)?.output()).await;
        let Output { status, stdout, stderr } = output
            .with_context(|| format!("{} had not come to its end after {} s", what(), PATIENCE.as_secs()))?
            .with_context(what)?;
        ensure!(status.success(), "{} failed: {}", what(), String::from_utf8_lossy(&stderr).trim());
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    }

    /// Begins a command of the program; what it prints can be read from it.
    pub(super) fn begin(data: Option<&Path>, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = Self::program(data, arguments)?;
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs a command of the CA.
    pub(super) async fn ca(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (dir, credential) = (self.path("ca"), self.path("ca.credential"));
        let (dir, credential) = (dir.to_string_lossy(), credential.to_string_lossy());
        let mut all = vec!["ca", "--dir", &*dir, "--credential", &*credential];
        all.extend(arguments);
        Self::cwn(None, &all).await
    }

    /// Starts a node, and waits until it answers and listens.
    pub(super) async fn start(&mut self, partner: &str) -> anyhow::Result<()> {
        self.start_on(partner, Line::Up).await
    }

    /// Starts a node that connects with nobody.
    pub(super) async fn start_apart(&mut self, partner: &str) -> anyhow::Result<()> {
        self.start_on(partner, Line::Cut).await
    }

    async fn start_on(&mut self, partner: &str, line: Line) -> anyhow::Result<()> {
        let data = self.data(partner);
        let mut config = Config::load(&data)?;
        config.network.offline = line == Line::Cut;
        // Nine nodes raise no storm of dials that would have to be spread.
        config.network.reconnect_jitter_seconds = 0;
        files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?;
        let log = fs::OpenOptions::new().create(true).append(true).open(data.join("daemon.log"))?;
        let mut child = Self::program(Some(&data), &["daemon"])?.stdout(Stdio::null()).stderr(log).spawn()?;
        let listens = line == Line::Up && !config.network.listen.is_empty();
        let status = tokio::select! {
            ended = child.wait() => {
                let ended = ended?;
                self.show_log(partner);
                bail!("{}: expected that its daemon runs, and it ended ({ended}), as its log above says", name_of(partner));
            }
            status = self.until(partner, "it answers and listens", async |client| {
                let status: Status = client.get("/v1/status").await?;
                ensure!(!listens || !status.listening.is_empty(), "it does not listen");
                Ok(status)
            }) => status?,
        };
        self.running.insert(partner.to_owned(), child);
        if line == Line::Cut {
            return Ok(());
        }
        // The system chose the ports at the first start. They stay, so that the network can be started again by
        // hand and its nodes still find one another.
        config.network.listen = status.listening.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
        if let Some(enrolment) = &mut config.enrolment {
            enrolment.listen = self.desk(partner).await?;
        }
        Ok(files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?)
    }

    /// Waits until the coordinator tells newcomers where it is, and gives the desk's address.
    async fn desk(&self, partner: &str) -> anyhow::Result<String> {
        self.until(partner, "newcomers are told where it is", async |_| {
            let mesh = self.mesh()?;
            ensure!(mesh.nodes.iter().any(|(_, addresses)| !addresses.is_empty()), "the CA knows no address of a node");
            let desk = mesh.desk_addresses.into_iter().find(|address| !address.ends_with(":0"));
            desk.context("the CA does not know where the desk listens")
        })
        .await
    }

    /// Ends a node at once: kill -9.
    pub(super) async fn kill(&mut self, partner: &str) -> anyhow::Result<()> {
        let mut child = self.running.remove(partner).with_context(|| format!("{partner} does not run"))?;
        Ok(child.kill().await?)
    }

    /// What a node said last, for when something is wrong.
    fn show_log(&self, partner: &str) {
        let path = self.data(partner).join("daemon.log");
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        show::note(&format!("\nThe end of {}:", path.display()));
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            show::note(&format!("   | {}", show::text(line)));
        }
    }

    // ---- Questions.

    pub(super) fn client(&self, partner: &str) -> Client {
        Client::new(self.data(partner).join("cwn.sock"))
    }

    /// Waits until a node gives an answer that will do. An answer that does not says in its error what was seen.
    pub(super) async fn until<T>(
        &self,
        partner: &str,
        what: &str,
        look: impl AsyncFn(&Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (client, name) = (self.client(partner), name_of(partner));
        let mut waiting = Waiting::new(format!("{name}: waiting until {what}"));
        loop {
            let seen = match tokio::time::timeout(ANSWER_PATIENCE, look(&client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(seen)) => format!("{seen:#}"),
                Err(_elapsed) => format!("it said nothing for {} s", ANSWER_PATIENCE.as_secs()),
            };
            if waiting.since.elapsed() >= PATIENCE {
                drop(waiting);
                self.show_log(partner);
                bail!("{name}: expected that {what}, and after {} s saw this: {seen}", PATIENCE.as_secs());
            }
            waiting.tell();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn status(&self, partner: &str) -> anyhow::Result<Status> {
        Ok(self.client(partner).get("/v1/status").await?)
    }

    /// The entries that a node lists, of one circle or of all.
    pub(super) async fn entries(&self, partner: &str, circle: Option<&str>) -> anyhow::Result<Vec<EntrySummary>> {
        let circle = circle.map(|name| format!("&circle={name}")).unwrap_or_default();
        Ok(self.client(partner).get(&format!("/v1/entries?limit=1000{circle}")).await?)
    }

    /// The references of the entries that a node lists.
    pub(super) async fn references(&self, partner: &str, circle: Option<&str>) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.entries(partner, circle).await?.into_iter().map(|entry| entry.reference).collect())
    }

    /// The entry as a node reads it; none when it does not have it.
    pub(super) async fn read(&self, partner: &str, reference: &str) -> anyhow::Result<Option<EntryDetail>> {
        match self.client(partner).get(&format!("/v1/entries/{reference}")).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.code() == "not_found" => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until a node has an entry.
    pub(super) async fn has(&self, partner: &str, reference: &str) -> anyhow::Result<EntryDetail> {
        let path = format!("/v1/entries/{reference}");
        self.until(partner, &format!("it has entry {reference}"), async |client| Ok(client.get(&path).await?)).await
    }

    pub(super) async fn is_in(&self, partner: &str, circle: &str) -> anyhow::Result<bool> {
        let status = self.status(partner).await?;
        Ok(status.circles.iter().any(|summary| summary.name == circle && summary.member))
    }

    /// A circle as a node has it.
    pub(super) async fn circle(&self, partner: &str, circle: &str) -> anyhow::Result<CircleDetail> {
        Ok(self.client(partner).get(&format!("/v1/circles/{circle}")).await?)
    }

    /// Waits until a node is connected with so many others.
    pub(super) async fn connected(&self, partner: &str, others: usize) -> anyhow::Result<Status> {
        self.until(partner, &format!("it is connected with {others} others"), async |client| {
            let status: Status = client.get("/v1/status").await?;
            ensure!(status.peers == others, "it is connected with {}", status.peers);
            Ok(status)
        })
        .await
    }

    /// Publishes, as a person would with `cwn publish`.
    pub(super) async fn publish(&self, partner: &str, entry: &NewEntry) -> anyhow::Result<Published> {
        let published = self.client(partner).post("/v1/entries", entry).await;
        published.with_context(|| format!("{} publishes {:?}", name_of(partner), entry.title))
    }

    /// Publishes what cannot be sealed yet, and gives the name of the draft; or what happened instead.
    pub(super) async fn kept(&self, partner: &str, entry: &NewEntry) -> anyhow::Result<Result<String, String>> {
        Ok(match self.client(partner).post("/v1/entries", entry).await? {
            Publication::Kept(draft) => Ok(draft.id),
            Publication::Published(published) => Err(format!("published as {}", published.reference)),
        })
    }

    /// Publishes what must be refused, and gives the reason; or what happened instead.
    pub(super) async fn refused(&self, partner: &str, entry: &NewEntry) -> Result<String, String> {
        match self.client(partner).post::<_, Published>("/v1/entries", entry).await {
            Ok(published) => Err(format!("published as {}", published.reference)),
            Err(Error::Refused(problem)) if ["refused", "not_current"].contains(&&*problem.code) => Ok(problem.error),
            Err(other) => Err(other.to_string()),
        }
    }
}

/// Tells people what is waited for, once they wonder.
#[derive(Debug)]
struct Waiting {
    what: String,
    since: Instant,
    spinner: Option<ProgressBar>,
    told: bool,
}

impl Waiting {
    fn new(what: String) -> Self {
        Self { what, since: Instant::now(), spinner: None, told: false }
    }

    fn tell(&mut self) {
        let waited = self.since.elapsed();
        if !std::io::stderr().is_terminal() {
            if waited >= WONDERS_IN_A_FILE && !self.told {
                self.told = true;
                show::note(&format!("   {}", self.what));
            }
        } else if waited >= WONDERS && self.spinner.is_none() {
            let spinner = ProgressBar::new_spinner().with_message(self.what.clone());
            spinner.enable_steady_tick(TICK);
            self.spinner = Some(spinner);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Prints a line. Somebody may be watching through a pipe; the story goes on when nobody is any more.
pub(super) fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// An entry for a whole circle.
pub(super) fn entry(circle: &str, tlp: &str, title: &str, body: &str) -> NewEntry {
    NewEntry {
        circle: circle.to_owned(),
        tlp: tlp.to_owned(),
        pap: None,
        title: title.to_owned(),
        body: body.to_owned(),
        references: Vec::new(),
        to: Vec::new(),
        attachments: Vec::new(),
        wait_seconds: Some(PATIENCE.as_secs()),
        expires_at: None,
    }
}

/// A partner's name as people say it.
pub(super) fn name_of(partner: &str) -> &str {
    PARTNERS.iter().find(|(short, _)| *short == partner).map_or(partner, |(_, name)| *name)
}

/// Everybody.
pub(super) fn everybody() -> Vec<&'static str> {
    PARTNERS.iter().map(|(partner, _)| *partner).collect()
}
