//! The stage: directories, processes, questions to nodes, and the table.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::time::Instant;

use crate::{
    api::{
        client::Client,
        types::{EntryDetail, EntrySummary, NewEntry, Published, Status},
    },
    config::{Config, FILE},
    driver::random,
    files,
};

/// Anything on this machine takes less, even on a slow one.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
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

struct Line {
    claim: String,
    measured: String,
    holds: bool,
}

/// Directories, processes and the table. Whatever was started ends with it.
pub(super) struct Stage {
    dir: PathBuf,
    running: BTreeMap<String, Child>,
    lines: Vec<Line>,
    chapter: usize,
    started: Instant,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage {
    pub(super) fn set_up(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("cwn-demo-{}", std::process::id())));
        anyhow::ensure!(!dir.exists(), "{} exists already; give another --dir", dir.display());
        files::make_dir(&dir)?;
        Ok(Self { dir, running: BTreeMap::new(), lines: Vec::new(), chapter: 0, started: Instant::now() })
    }

    // ---- Telling.

    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let head = format!("{}. {title}", self.chapter);
        let bold = std::io::stdout().is_terminal();
        print(&if bold { format!("\n\x1b[1m{head}\x1b[0m") } else { format!("\n{head}") });
    }

    pub(super) fn say(&self, what: &str) {
        print(&format!("   {what}"));
    }

    /// A line of the table: what is claimed, what was measured, and whether it holds.
    pub(super) fn check(&mut self, claim: &str, measured: impl Into<String>, holds: bool) {
        let measured = measured.into();
        self.say(&format!("{} {claim}: {measured}", if holds { "✓" } else { "✗" }));
        self.lines.push(Line { claim: claim.to_owned(), measured, holds });
    }

    pub(super) fn show_table(&self) -> usize {
        print(&format!("\nWhat was checked, in {} s", self.started.elapsed().as_secs()));
        let width = self.lines.iter().map(|line| line.claim.chars().count()).max().unwrap_or(0);
        for line in &self.lines {
            let pad = width - line.claim.chars().count();
            print(&format!(
                "   {}  {}{:pad$}  {}",
                if line.holds { "ok    " } else { "FAILED" },
                line.claim,
                "",
                line.measured
            ));
        }
        let failed = self.lines.iter().filter(|line| !line.holds).count();
        print(&format!("   {} of {} lines hold", self.lines.len() - failed, self.lines.len()));
        failed
    }

    pub(super) fn show_places(&self) {
        print("\nWhere it is");
        for (partner, name) in PARTNERS {
            let data = self.data(partner);
            print(&format!(
                "   {name:<9} cwn --data {}   (socket: {})",
                data.display(),
                data.join("cwn.sock").display()
            ));
        }
    }

    // ---- Places.

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

    /// An address that was free a moment ago, as the system chose it.
    pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
        Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
    }

    // ---- Processes.

    fn program(data: Option<&Path>, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
        command.args(arguments).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command of the program to its end, and gives what it printed.
    pub(super) fn cwn(data: Option<&Path>, arguments: &[&str]) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = Self::program(data, arguments)?.output()?;
        let said = String::from_utf8_lossy(&stderr);
        anyhow::ensure!(status.success(), "cwn {} failed: {}", arguments.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    }

    /// Begins a command of the program.
    pub(super) fn begin(data: Option<&Path>, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = Self::program(data, arguments)?;
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs a command of the CA.
    pub(super) fn ca(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (dir, credential) = (self.path("ca"), self.path("ca.credential"));
        let (dir, credential) = (dir.to_string_lossy(), credential.to_string_lossy());
        let mut all = vec!["ca", "--dir", &*dir, "--credential", &*credential];
        all.extend(arguments);
        Self::cwn(None, &all)
    }

    /// Starts a node, and waits until it answers.
    pub(super) async fn start(&mut self, partner: &str) -> anyhow::Result<()> {
        let data = self.data(partner);
        // A machine of this size has no storm of dials to spread, and circles are joined without a person here.
        let mut config = Config::load(&data)?;
        config.network.reconnect_jitter_seconds = 0;
        files::durable_write(&data.join(FILE), config.to_text()?.as_bytes())?;
        let log = fs::OpenOptions::new().create(true).append(true).open(data.join("daemon.log"))?;
        let mut command = Self::program(Some(&data), &["daemon"])?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        self.running.insert(partner.to_owned(), child);
        self.until(partner, "it answers", async |client| Ok(client.get::<Status>("/v1/status").await.is_ok())).await
    }

    /// Ends a node at once: kill -9.
    pub(super) fn kill(&mut self, partner: &str) -> anyhow::Result<()> {
        let mut child = self.running.remove(partner).with_context(|| format!("{partner} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    // ---- Questions.

    pub(super) fn client(&self, partner: &str) -> Client {
        Client::new(self.data(partner).join("cwn.sock"))
    }

    fn log_of(&self, partner: &str) -> String {
        let log = fs::read_to_string(self.data(partner).join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Waits until something holds of a node.
    pub(super) async fn until(
        &self,
        partner: &str,
        what: &str,
        holds: impl AsyncFn(&Client) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let client = self.client(partner);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match holds(&client).await {
                Ok(true) => return Ok(()),
                _ if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                Ok(false) => bail!("{partner}: expected that {what}, and it is not so\n{}", self.log_of(partner)),
                Err(error) => bail!("{partner}: expected that {what}: {error}\n{}", self.log_of(partner)),
            }
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
        let has = async |client: &Client| Ok(client.get::<EntryDetail>(&path).await.is_ok());
        self.until(partner, &format!("it has entry {reference}"), has).await?;
        self.read(partner, reference).await?.context("it had the entry a moment ago")
    }

    pub(super) async fn is_in(&self, partner: &str, circle: &str) -> anyhow::Result<bool> {
        let status = self.status(partner).await?;
        Ok(status.circles.iter().any(|summary| summary.name == circle && summary.member))
    }

    /// Publishes, as a person would with `cwn publish`.
    pub(super) async fn publish(&self, partner: &str, entry: &NewEntry) -> anyhow::Result<Published> {
        let published = self.client(partner).post("/v1/entries", entry).await;
        published.with_context(|| format!("{partner} publishes {:?}\n{}", entry.title, self.log_of(partner)))
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
    }
}

/// A partner's name as people say it.
pub(super) fn name_of(partner: &str) -> &str {
    PARTNERS.iter().find(|(short, _)| *short == partner).map_or(partner, |(_, name)| *name)
}
