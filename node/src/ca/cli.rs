//! `cwn-ca`, also `cwn ca`: the coordinator's commands. None of them needs a network.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use cwn_crypto::{
    PartnerId, PublicKey, Time,
    armour::{self, Label},
    authority::Request,
    certificate::Standing,
    encoding,
    invitation::Approve,
    issuer_log::{Certified, CutLine},
    root::{IssuerTerm, Review, TrustRoot},
    words,
};

use super::{
    directory::{Ca, Mesh, Outcome, to_revoke},
    root::{self, Proposal},
};
use crate::{
    cli::{
        confirm,
        export::{check_new, write_new},
        named, show,
    },
    clock, enrolment,
    keystore::{self, Typing, Unlock},
    network::Address,
};

const HOUR_MS: u64 = 3_600_000;

/// Arguments of the coordinator's program.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The CA's directory.
    #[arg(long, env = "CWN_CA", default_value = "ca", global = true)]
    dir: PathBuf,
    /// A file of 32 random bytes that opens the CA's keys; without it a passphrase is asked for. Make one with:
    /// (umask 077; head -c 32 /dev/urandom > FILE)
    #[arg(long, env = "CWN_CA_CREDENTIAL", global = true)]
    credential: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a network: make the root key, the issuer's key and the root document.
    Init {
        /// The network's name, as members see it.
        #[arg(long)]
        name: String,
    },
    /// Invite a partner. Prints one line, once: hand it over where nobody else reads it.
    Invite(Invite),
    /// List the requests that wait for a person.
    Requests {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Approve a request that waits, or one that came as a file. Shows the fingerprint to compare, and asks.
    Approve {
        /// The partner, or the start of its node's key.
        #[arg(required_unless_present = "request")]
        request_of: Option<String>,
        /// A request file that a partner handed over, instead of one that waits.
        #[arg(long, requires = "out", conflicts_with = "request_of")]
        request: Option<PathBuf>,
        /// Where to write the reply file for that partner. An existing file is not written over.
        #[arg(long, requires = "request")]
        out: Option<PathBuf>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Refuse a request that waits. Its invitation is of no use any more.
    Refuse {
        /// The partner, or the start of its node's key.
        request_of: String,
    },
    /// Revoke a node, or all nodes of a partner. Only a new root document undoes it.
    Revoke {
        /// The partner, or the start of a node's key.
        #[arg(value_parser = named)]
        whom: String,
        /// Why; members see it.
        #[arg(long, value_parser = reason)]
        reason: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// List who was certified.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The issuer's log.
    #[command(subcommand)]
    Log(Log),
    /// The root document: look at it, propose a next version, sign it, adopt it.
    #[command(subcommand)]
    Root(RootCommand),
    /// The issuer's key.
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// Say where newcomers find the network. The coordinator's daemon does this by itself; a CA that is kept offline
    /// has to be told.
    Mesh(Where),
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Show the root document that stands, or the proposal in a file: who must sign it and what it changes.
    Show {
        /// A file that `propose` wrote.
        file: Option<PathBuf>,
    },
    /// Propose a next version, as a file for the root key holders to sign.
    Propose(Propose),
    /// Sign a proposal with a root key. Needs no network, and no CA but the file.
    Sign {
        /// The file; the signature is added to it.
        file: PathBuf,
        /// The root key; without it the one in the CA's directory.
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Adopt a proposal that enough root keys signed. The coordinator's daemon hands it to all members.
    Adopt {
        /// The file, or several signed copies of it.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Make a root key for another holder, on that holder's own machine, and print its public half.
    MakeKey {
        /// Where to write the key, encrypted.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Propose {
    /// Where to write the proposal. An existing file is not written over.
    #[arg(long)]
    out: PathBuf,
    /// Make a new issuer's key here, and allow it for 90 days.
    #[arg(long)]
    new_issuer: bool,
    /// Drop this issuer, for its key was stolen or lost. What stands in its log here goes on; what only a thief said
    /// does not. May be given again.
    #[arg(long, value_name = "KEY", value_parser = key)]
    drop_issuer: Vec<PublicKey>,
    /// The last good head of the issuer that is dropped, as LOG:HEIGHT:HASH, when it lies before the one here; may be
    /// given again for another of its logs.
    #[arg(long, value_name = "HEAD", requires = "drop_issuer", value_parser = root::parse_head)]
    last_good: Vec<CutLine>,
    /// Add a root key; may be given again.
    #[arg(long, value_name = "KEY", value_parser = key)]
    add_key: Vec<PublicKey>,
    /// Leave a root key out; may be given again.
    #[arg(long, value_name = "KEY", value_parser = key)]
    remove_key: Vec<PublicKey>,
    /// How many root keys must sign from this version on.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=16))]
    threshold: Option<u16>,
    /// How old the issuers' newest word may be before nodes warn.
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=720))]
    fresh_hours: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum IssuerCommand {
    /// Propose a root document with a new issuer's key, before the present one's 90 days are over.
    Renew {
        /// Where to write the proposal. An existing file is not written over.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Invite {
    /// The partner's short name, such as z-cert.
    partner: PartnerId,
    /// The partner's name, as members see it.
    #[arg(long)]
    name: String,
    /// For how many hours it holds.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=72))]
    hours: u64,
    /// Approve the request by hand, after comparing the fingerprint by telephone.
    #[arg(long)]
    manual: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Where {
    /// The key of the node that runs the desk.
    #[arg(long, value_name = "KEY", requires = "address", value_parser = key)]
    desk_key: Option<PublicKey>,
    /// Where the desk listens, as address:port; may be given again.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "desk_key")]
    address: Vec<String>,
    /// A node that newcomers dial, as KEY=MULTIADDRESS, in place of those known so far; may be given again.
    #[arg(long, value_name = "KEY=MULTIADDRESS", value_parser = node)]
    node: Vec<(PublicKey, String)>,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("say why: members see it, and nothing undoes a revocation".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_hex(text).ok_or_else(|| "a node's key has 64 hexadecimal digits".to_owned())
}

fn node(text: &str) -> Result<(PublicKey, String), String> {
    let (of, address) =
        text.split_once('=').ok_or("give the node's key and its address, as KEY=/ip4/192.0.2.1/tcp/4001")?;
    let address: Address = address
        .parse()
        .map_err(|error| format!("{address:?} is no multiaddress, such as /ip4/192.0.2.1/tcp/4001: {error}"))?;
    Ok((key(of)?, address.to_string()))
}

impl Where {
    /// What is known of the network, with what was said now.
    fn add_to(self, mut mesh: Mesh) -> Mesh {
        if self.desk_key.is_some() {
            (mesh.desk, mesh.desk_addresses) = (self.desk_key, self.address);
        }
        if !self.node.is_empty() {
            let mut nodes: BTreeMap<PublicKey, Vec<String>> = BTreeMap::new();
            self.node.into_iter().for_each(|(node, address)| nodes.entry(node).or_default().push(address));
            mesh.nodes = nodes.into_iter().collect();
        }
        mesh
    }
}

#[derive(Debug, Subcommand)]
enum Log {
    /// Write the issuer's log to a file, to carry to the coordinator's node when the CA is kept offline.
    Export {
        /// The file, which is not written over when it exists; - for standard output.
        file: PathBuf,
    },
}

fn typing(dir: &Path, command: &Command) -> Typing {
    match command {
        Command::Init { .. } if Ca::root_of(dir).is_err() => Typing::New,
        Command::Root(RootCommand::MakeKey { .. }) => Typing::New,
        _ => Typing::Known,
    }
}

/// What needs no issuer: it may be the one that was stolen.
fn run_root(
    dir: &Path,
    command: &RootCommand,
    unlock: &dyn Fn() -> Result<Unlock, keystore::Error>,
    now: Time,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        RootCommand::Show { file: None } => print_root(out, dir, now)?,
        RootCommand::Show { file: Some(file) } => print_proposal(out, &Proposal::read(file)?, now)?,
        RootCommand::Propose(said) => {
            let Propose { out: file, new_issuer, drop_issuer, last_good, .. } = said;
            anyhow::ensure!(
                last_good.is_empty() || drop_issuer.len() == 1,
                "--last-good is of one issuer; drop several in several versions, or without it"
            );
            let heads = (!last_good.is_empty()).then(|| last_good.clone());
            let change = root::Change {
                new_issuer: *new_issuer,
                drop: drop_issuer.iter().map(|issuer| (*issuer, heads.clone())).collect(),
                drop_ended: false,
                add_keys: said.add_key.clone(),
                remove_keys: said.remove_key.clone(),
                threshold: said.threshold,
                freshness_ms: said.fresh_hours.map(|hours| hours * HOUR_MS),
            };
            write_proposal(out, dir, &change, unlock, file, now)?;
        }
        RootCommand::Sign { file, key } => {
            let mut proposal = Proposal::read(file)?;
            if let Ok(here) = Ca::root_of(dir) {
                let (network, other) = (here.network(), proposal.before().network());
                anyhow::ensure!(network == other, "{} is of network {other}, and this CA of {network}", file.display());
            }
            let path = key.clone().unwrap_or_else(|| dir.join("root.key"));
            let review = proposal.sign(&root::open_root_key(&path, &unlock()?)?)?;
            proposal.write(file)?;
            print_review(out, proposal.before(), &review, now)?;
        }
        RootCommand::Adopt { files } => {
            let adopted = root::adopt(dir, files)?;
            writeln!(out, "Version {} of the root document stands from now on.", adopted.root.version())?;
            for (node, partner) in &adopted.fallen {
                writeln!(
                    out,
                    "The certificate of {partner}, node {}, fell away; its node has to join anew.",
                    short(node)
                )?;
            }
            writeln!(
                out,
                "The coordinator's daemon hands it to the members it is connected with, and they to others."
            )?;
        }
        RootCommand::MakeKey { file } => {
            let public = root::make_key(file, &unlock()?)?;
            writeln!(out, "{public}")?;
            eprintln!("The key is in {}; keep it offline. Give the line above to the coordinator.", file.display());
        }
    }
    Ok(())
}

fn short(key: &PublicKey) -> String {
    key.to_string()[..12].to_owned()
}

/// Proposes a change in a new file. Nothing is made for one that cannot be written.
fn write_proposal(
    out: &mut impl Write,
    dir: &Path,
    change: &root::Change,
    unlock: &dyn Fn() -> Result<Unlock, keystore::Error>,
    file: &Path,
    now: Time,
) -> anyhow::Result<()> {
    check_new(file)?;
    let proposal = &root::propose(dir, change, unlock, now)?;
    write_new(file, &proposal.to_text())?;
    print_proposal(out, proposal, now)?;
    writeln!(
        out,
        "The proposal is in {}. Every root key holder signs it: cwn ca root sign {}",
        file.display(),
        file.display()
    )?;
    Ok(())
}

fn print_proposal(out: &mut impl Write, proposal: &Proposal, now: Time) -> anyhow::Result<()> {
    print_review(out, proposal.before(), &proposal.review()?, now)
}

fn print_term(out: &mut impl Write, mark: &str, term: &IssuerTerm, now: Time) -> io::Result<()> {
    let ended = if term.not_after < now { ", which is over" } else { "" };
    let (from, until) = (term.not_before.date(), term.not_after.date());
    writeln!(out, "{mark} issuer    {}  from {from} until {until}{ended}", term.issuer)
}

fn print_head(out: &mut impl Write, line: &CutLine) -> io::Result<()> {
    writeln!(out, "             last good head {}:{}:{}", line.log, line.height, line.head)
}

/// The root document that stands, with the heads of the issuers' logs as they are here.
fn print_root(out: &mut impl Write, dir: &Path, now: Time) -> anyhow::Result<()> {
    let root = Ca::root_of(dir)?;
    let document = root.document();
    writeln!(out, "{}, version {}", document.name, document.version)?;
    writeln!(out, "  network   {}", root.network())?;
    for key in &document.keys {
        writeln!(out, "  root key  {key}")?;
    }
    writeln!(out, "  signed by {} of them", document.threshold)?;
    writeln!(out, "  fresh     for {} hours", document.freshness_ms / HOUR_MS)?;
    let word = Ca::word_of(dir)?;
    for term in &document.issuers {
        print_term(out, " ", term, now)?;
        for line in word.heads(&term.issuer) {
            writeln!(out, "             head {}:{}:{}", line.log, line.height, line.head)?;
        }
    }
    for dropped in &document.dropped {
        writeln!(out, "  dropped   {}", dropped.issuer)?;
        dropped.heads.iter().try_for_each(|line| print_head(out, line))?;
    }
    Ok(())
}

/// What a proposal changes, and who signed it.
fn print_review(out: &mut impl Write, before: &TrustRoot, review: &Review, now: Time) -> anyhow::Result<()> {
    let (old, new) = (before.document(), &review.document);
    writeln!(out, "{}, version {} after {}, of network {}", new.name, new.version, old.version, before.network())?;
    if old.name != new.name {
        writeln!(out, "+ name      {} instead of {}", new.name, old.name)?;
    }
    for key in new.keys.iter().filter(|key| !old.keys.contains(key)) {
        writeln!(out, "+ root key  {key}")?;
    }
    for key in old.keys.iter().filter(|key| !new.keys.contains(key)) {
        writeln!(out, "- root key  {key}")?;
    }
    if old.threshold != new.threshold {
        writeln!(out, "+ signed by {} root keys instead of {}", new.threshold, old.threshold)?;
    }
    if old.freshness_ms != new.freshness_ms {
        writeln!(out, "+ fresh     for {} hours", new.freshness_ms / HOUR_MS)?;
    }
    for term in new.issuers.iter().filter(|term| !old.issuers.contains(term)) {
        print_term(out, "+", term, now)?;
    }
    for term in old.issuers.iter().filter(|term| !new.issuers.contains(term)) {
        print_term(out, "-", term, now)?;
    }
    for dropped in new.dropped.iter().filter(|dropped| !old.dropped.contains(dropped)) {
        writeln!(out, "+ dropped   {}", dropped.issuer)?;
        if dropped.heads.is_empty() {
            writeln!(out, "             nothing that it said stands")?;
        }
        dropped.heads.iter().try_for_each(|line| print_head(out, line))?;
    }
    for key in &review.signed {
        writeln!(out, "  signed    {key}")?;
    }
    for key in &review.unsigned {
        writeln!(out, "  not yet   {key}")?;
    }
    match &review.lacks {
        Some(lacks) => writeln!(out, "Not enough yet: {lacks}.")?,
        None => writeln!(out, "Enough signed. Adopt it with: cwn ca root adopt FILE")?,
    }
    Ok(())
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { dir, credential, command } = arguments;
    let now = clock::now();
    let unlock = || Unlock::find(credential.as_deref(), "the CA", typing(&dir, &command));
    let mut out = io::stdout().lock();
    if let Command::Init { name } = &command {
        let ca = Ca::init(&dir, &unlock()?, name, now)?;
        let root = ca.root().document();
        writeln!(out, "The network {name:?} is founded in {}.", dir.display())?;
        writeln!(out, "  network id   {}", ca.network())?;
        for term in &root.issuers {
            writeln!(out, "  issuer       {} until {}", term.issuer, term.not_after.date())?;
        }
        writeln!(
            out,
            "Keep {} offline: it is needed only to change the root document.",
            dir.join("root.key").display()
        )?;
        writeln!(
            out,
            "Next: make the coordinator's node, with its own short name and name, such as:\n  {}",
            own_node(&dir, credential.as_deref())
        )?;
        return Ok(());
    }
    if let Command::Root(command) = &command {
        return run_root(&dir, command, &unlock, now, &mut out);
    }
    // Said before anybody is asked for a passphrase.
    let root = Ca::root_of(&dir)?;
    if let Command::Issuer(IssuerCommand::Renew { out: file }) = &command {
        let change = root::Change { new_issuer: true, drop_ended: true, ..root::Change::default() };
        return write_proposal(&mut out, &dir, &change, &unlock, file, now);
    }
    if let Some(end) = root::issuers_end(root.document(), now) {
        eprintln!(
            "note: the issuer's term ends on {}; make its successor with: cwn ca --dir {} issuer renew --out FILE",
            end.date(),
            dir.display()
        );
    }
    let sure = ask(&dir, &command, now)?;
    let mut ca = Ca::open(&dir, &unlock()?)?;
    if ca.cut_back_bytes > 0 {
        eprintln!(
            "note: the issuer's log ended in {} bytes of an entry that was never finished; they were cut off",
            ca.cut_back_bytes
        );
    }
    match command {
        Command::Init { .. } | Command::Root(_) | Command::Issuer(_) => {}
        Command::Invite(Invite { partner, name, hours, manual }) => {
            let approve = if manual { Approve::Manual } else { Approve::Auto };
            let invitation = ca.invite(partner, &name, hours.saturating_mul(HOUR_MS), approve, now)?;
            writeln!(out, "{}", invitation.to_text()?.as_str())?;
            eprintln!(
                "For {name}, until {}. It is shown this once: whoever has it can join as {}.",
                invitation.expires, invitation.partner
            );
        }
        Command::Requests { json } => print_requests(&mut out, &ca.requests()?, json)?,
        Command::Approve { request: Some(file), out: Some(reply), .. } => {
            let signed = enrolment::read_request_file(&read_text(&file)?)?;
            let request = Request::verify(&signed, ca.network())?;
            sure.still(&[request.node])?;
            let certificate = match ca.take_request(&signed, now)? {
                Outcome::Certified(certificate) => *certificate,
                Outcome::Waiting => ca.approve(&request.node.to_string(), now)?,
            };
            write_new(&reply, &enrolment::reply_file(&ca.admission(certificate)?, request.recipient)?)?;
            writeln!(out, "The reply for {} is in {}.", request.partner, reply.display())?;
        }
        Command::Approve { request_of, .. } => {
            let named = request_of.unwrap_or_default();
            sure.still(&[ca.waiting(&named)?.node])?;
            ca.approve(&named, now)?;
            writeln!(out, "{named} is approved; its node gets the certificate when it asks again.")?;
        }
        Command::Refuse { request_of } => {
            let request = ca.refuse(&request_of)?;
            writeln!(out, "The request of {} is refused, and its invitation is void.", request.partner)?;
        }
        Command::Revoke { whom, reason, .. } => {
            sure.still(&keys(&to_revoke(ca.word(), &whom)?))?;
            for node in ca.revoke(&whom, &reason, now)? {
                writeln!(out, "revoked {node}")?;
            }
            writeln!(out, "Members disconnect it as soon as they hear; stewards remove it from their circles.")?;
        }
        Command::List { json } => print_list(&mut out, &ca, now, json)?,
        Command::Log(Log::Export { file }) => {
            let text = armour::armour(Label::IssuerLog, &encoding::to_bytes(&ca.entries().to_vec()));
            if file == Path::new("-") {
                out.write_all(text.as_bytes())?;
            } else {
                write_new(&file, &text)?;
                writeln!(out, "{} entries are in {}.", ca.entries().len(), file.display())?;
            }
        }
        Command::Mesh(said) => {
            let mesh = said.add_to(ca.mesh()?);
            ca.set_mesh(&mesh)?;
            mesh.desk_addresses.iter().try_for_each(|address| writeln!(out, "desk  {address}"))?;
            for (node, addresses) in &mesh.nodes {
                writeln!(out, "node  {}  {}", &node.to_string()[..12], addresses.join(", "))?;
            }
        }
    }
    Ok(())
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    const MOST: u64 = 64 << 10;
    let length = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    anyhow::ensure!(length <= MOST, "{} is too long to be a request", path.display());
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The coordinator's own node, as a command.
pub(crate) fn own_node(dir: &Path, credential: Option<&Path>) -> String {
    let credential = credential.map(|file| format!(" --ca-credential {}", file.display())).unwrap_or_default();
    format!(
        "cwn --data ncsc join --ca {}{credential} --partner ncsc --name NCSC --listen 0.0.0.0:4001 --desk 0.0.0.0:4002",
        dir.display()
    )
}

/// The nodes that a person was asked about, and said yes to.
struct Sure(Vec<PublicKey>);

impl Sure {
    /// The CA is not held while a person thinks, so that others may have worked in it.
    fn still(&self, nodes: &[PublicKey]) -> anyhow::Result<()> {
        anyhow::ensure!(self.0 == nodes, "it changed while you were asked, and nothing is done; run this again");
        Ok(())
    }
}

fn keys(found: &[&Certified]) -> Vec<PublicKey> {
    found.iter().map(|own| own.certificate.node).collect()
}

/// Shows what cannot be undone and asks about it, before anybody types a passphrase.
fn ask(dir: &Path, command: &Command, now: Time) -> anyhow::Result<Sure> {
    match command {
        Command::Approve { request_of, request: file, out, yes } => {
            let request = match file {
                None => Ca::waiting_in(dir, request_of.as_deref().unwrap_or_default(), now)?,
                Some(file) => Ca::asked_of(dir, &enrolment::read_request_file(&read_text(file)?)?, now)?,
            };
            out.as_deref().map_or(Ok(()), check_new)?;
            let (node, asked) = (show::short(&request.node.to_string()).to_owned(), request.made_at);
            let name = show::line(&request.name);
            show::note(&format!("{} ({name})  {node}  asked {asked}\n{}", request.partner, fingerprint(&request)));
            if !yes {
                confirm(&format!(
                    "Certify this node as {}? Only if its operator reads you the same words by telephone.",
                    request.partner
                ))?;
            }
            Ok(Sure(vec![request.node]))
        }
        Command::Revoke { whom, yes, .. } => {
            let word = Ca::word_of(dir)?;
            let found = to_revoke(&word, whom)?;
            for own in found.iter().map(|own| &own.certificate) {
                let (name, node) = (show::line(&own.name), own.node.to_string());
                show::note(&format!("{} ({name})  {}  serial {}", own.partner, show::short(&node), own.serial));
            }
            if !yes {
                confirm(&format!(
                    "Revoke {} of {} for good? Members disconnect it and seal nothing to it any more; to come back it joins anew, by invitation and with new keys.",
                    show::count(found.len() as u64, "node", "nodes"),
                    found.iter().map(|own| &own.certificate.partner).next().map_or(whom.as_str(), PartnerId::as_str)
                ))?;
            }
            Ok(Sure(keys(&found)))
        }
        _ => Ok(Sure(Vec::new())),
    }
}

fn fingerprint(request: &Request) -> String {
    format!("Compare by telephone: {}", words::fingerprint(&request.node, &request.recipient).join(" "))
}

fn print_requests(out: &mut impl Write, requests: &[Request], json: bool) -> anyhow::Result<()> {
    if json {
        let values: Vec<serde_json::Value> = requests
            .iter()
            .map(|request| {
                serde_json::json!({
                    "partner": request.partner.as_str(),
                    "name": request.name,
                    "node": request.node.to_string(),
                    "made_at": request.made_at.0,
                    "fingerprint": words::fingerprint(&request.node, &request.recipient).join(" "),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&values)?)?;
        return Ok(());
    }
    if requests.is_empty() {
        writeln!(out, "No request waits.")?;
    }
    for request in requests {
        writeln!(out, "{}  {}  asked {}", request.partner, &request.node.to_string()[..12], request.made_at)?;
        writeln!(out, "{}", fingerprint(request))?;
        let same = |other: &&Request| other.invitation == request.invitation && other.node != request.node;
        if requests.iter().any(|other| same(&other)) {
            writeln!(out, "Warning: another node asks with the same invitation. One of the two is not the partner.")?;
        }
    }
    Ok(())
}

fn print_list(out: &mut impl Write, ca: &Ca, now: Time, json: bool) -> anyhow::Result<()> {
    let word = ca.word();
    let state = |own: &cwn_crypto::issuer_log::Certified| match word.revocation(&own.certificate.node) {
        Some(revoked) => format!("revoked {}: {}", revoked.at.date(), revoked.reason),
        None => match own.certificate.standing(now) {
            Standing::Valid => format!("until {}", own.certificate.not_after.date()),
            Standing::Grace { expired_at } => format!("in grace since {}", expired_at.date()),
            Standing::Expired { expired_at } => format!("expired {}", expired_at.date()),
            Standing::NotYet => "not valid yet".to_owned(),
        },
    };
    if json {
        let values: Vec<serde_json::Value> = word
            .nodes()
            .map(|own| {
                serde_json::json!({
                    "partner": own.certificate.partner.as_str(),
                    "name": own.certificate.name,
                    "node": own.certificate.node.to_string(),
                    "serial": own.certificate.serial,
                    "not_before": own.certificate.not_before.0,
                    "not_after": own.certificate.not_after.0,
                    "revoked": word.revocation(&own.certificate.node).map(|revoked| revoked.reason.clone()),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&values)?)?;
        return Ok(());
    }
    for own in word.nodes() {
        let certificate = &own.certificate;
        writeln!(
            out,
            "{:<20} {}  serial {:<5} {}",
            certificate.partner.as_str(),
            &certificate.node.to_string()[..12],
            certificate.serial,
            state(own)
        )?;
    }
    Ok(())
}
