//! `cwn join`: keys made here, a certificate from the coordinator, a data directory to run a daemon on.
//!
//! By invitation over the network, by invitation with files, or, for the coordinator's own node, from the CA's
//! directory. Joining again with the same directory and invitation asks again with the same keys: a crash in
//! between strands nobody.

use std::{
    fs,
    io::{IsTerminal, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{ArgGroup, Args};
use cwn_crypto::{
    PartnerId,
    authority::Request,
    invitation::{Approve, Invitation},
    words,
};
use indicatif::ProgressBar;

use super::{publish::TICK, show};
use crate::{
    ca::directory::{Ca, Mesh},
    clock,
    config::{self, Accept, Bootstrap, Config, Enrolment},
    enrolment::{self, Asked, Joined},
    files,
    keystore::{Keys, Typing, Unlock},
    membership::Membership,
    network::Address,
};

const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How long a desk that was just opened may take to answer.
const DESK_PATIENCE: Duration = Duration::from_secs(10);
const WAITING: &str = "waiting for a person at the coordinator to approve; Ctrl-C and join again later loses nothing";
const TEXT_BYTES: u64 = 64 << 20;

/// Arguments of `cwn join`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("given").required(true).args(["invitation", "file", "ca"]),
    after_help = "Examples:\n  cwn join --file invitation --listen 0.0.0.0:4001\n  cwn --data z-cert join --file invitation --credential credential\n\nBy files, when this machine may not connect out:\n  cwn join --file invitation --request request.txt  # hand request.txt over, get reply.txt back\n  cwn join --file invitation --reply reply.txt\n\nThe coordinator's own node:\n  cwn --data ncsc join --ca ca --partner ncsc --name NCSC --listen 0.0.0.0:4001 --desk 0.0.0.0:4002"
)]
pub struct Arguments {
    /// The invitation, as the coordinator gave it; - for standard input.
    invitation: Option<String>,
    /// A file with the invitation, so that it does not stand in the shell's history.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where this node shall listen, as address:port; may be given again. Without it this node only dials.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// A file of 32 random bytes that opens the keys; without it a passphrase is asked for.
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// Join every circle that a certified partner offers, without asking.
    #[arg(long)]
    accept_circles: bool,
    /// Do not connect: write a request file to hand to the coordinator.
    #[arg(long, conflicts_with = "reply", value_name = "FILE")]
    request: Option<PathBuf>,
    /// Do not connect: take the reply file that the coordinator handed back.
    #[arg(long, value_name = "FILE")]
    reply: Option<PathBuf>,
    /// How many seconds to wait for a person at the coordinator to approve.
    #[arg(long, default_value_t = 3_600, value_name = "SECONDS")]
    wait: u64,
    /// The coordinator's own node: take the certificate from this CA.
    #[arg(long, requires_all = ["partner", "name"], conflicts_with_all = ["request", "reply"], value_name = "DIR")]
    ca: Option<PathBuf>,
    /// The file that opens the CA.
    #[arg(long, requires = "ca", value_name = "FILE")]
    ca_credential: Option<PathBuf>,
    /// The coordinator's short name.
    #[arg(long, requires = "ca", value_name = "PARTNER")]
    partner: Option<PartnerId>,
    /// The coordinator's name.
    #[arg(long, requires = "ca")]
    name: Option<String>,
    /// Where the enrolment desk shall listen, as address:port.
    #[arg(long, requires = "ca", value_name = "ADDRESS:PORT")]
    desk: Option<SocketAddr>,
}

pub(super) async fn run(data: &Path, arguments: Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        !Membership::exists(data),
        "{} is a member already; start it with `cwn --data {} daemon`",
        data.display(),
        data.display()
    );
    if let Some(ca) = arguments.ca.clone() {
        return join_own(data, &ca, arguments);
    }
    let invitation = Invitation::from_text(&invitation_text(&arguments)?)?;
    let keys = keys(data, arguments.credential.as_deref())?;
    let fingerprint = words::fingerprint(&keys.signing.public(), &keys.sealing.recipient()).join(" ");
    show::page(&format!("Your fingerprint, to compare by telephone with the coordinator:\n  {fingerprint}\n"))?;
    if let Some(path) = &arguments.request {
        let text = enrolment::request_file(&invitation, &keys, clock::now())?;
        files::durable_write(path, text.as_bytes()).map_err(files::at(path))?;
        let path = path.display();
        return Ok(show::page(&format!(
            "Hand {path} to the coordinator; with the reply, run this again with --reply FILE.\n"
        ))?);
    }
    let joined = match &arguments.reply {
        Some(path) => enrolment::read_reply_file(&read_text(path)?, &invitation, &keys)?,
        None => ask(&invitation, &keys, Duration::from_secs(arguments.wait)).await?,
    };
    settle(data, joined, &arguments, None)
}

fn invitation_text(arguments: &Arguments) -> anyhow::Result<String> {
    match (&arguments.file, arguments.invitation.as_deref()) {
        (Some(path), _) => read_text(path),
        (None, Some("-")) => {
            let mut text = String::new();
            std::io::stdin().take(TEXT_BYTES).read_to_string(&mut text)?;
            Ok(text)
        }
        (None, Some(text)) => Ok(text.to_owned()),
        (None, None) => anyhow::bail!("give the invitation, or a file with it (--file)"),
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let length = fs::metadata(path).map_err(files::at(path))?.len();
    anyhow::ensure!(length <= TEXT_BYTES, "{} is too long", path.display());
    Ok(fs::read_to_string(path).map_err(files::at(path))?)
}

/// The keys of this directory: made now, or by a joining that did not come to its end.
fn keys(data: &Path, credential: Option<&Path>) -> anyhow::Result<Keys> {
    let known = Keys::exist(data);
    let typing = if known { Typing::Known } else { Typing::New };
    let unlock = Unlock::find(credential, "the keys of this node", typing)?;
    if known {
        return Ok(Keys::open(data, &unlock)?);
    }
    let keys = Keys::generate();
    keys.create(data, &unlock)?;
    Ok(keys)
}

async fn ask(invitation: &Invitation, keys: &Keys, patience: Duration) -> anyhow::Result<Joined> {
    let start = tokio::time::Instant::now();
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(TICK);
    let mut told = false;
    loop {
        let asked = match enrolment::ask(invitation, keys, clock::now()).await {
            Err(enrolment::Error::Unreachable { .. }) if start.elapsed() < DESK_PATIENCE => {
                spinner.set_message("looking for the coordinator's desk");
                tokio::time::sleep(DESK_PATIENCE / 20).await;
                continue;
            }
            asked => asked?,
        };
        match asked {
            Asked::Joined(joined) => {
                spinner.finish_and_clear();
                return Ok(*joined);
            }
            Asked::Waiting if start.elapsed() < patience => {
                // Where there is no terminal the spinner says nothing.
                if !told && !std::io::stderr().is_terminal() {
                    show::note(WAITING);
                }
                told = true;
                spinner.set_message(WAITING);
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Asked::Waiting => {
                spinner.finish_and_clear();
                anyhow::bail!(
                    "nobody at the coordinator has approved it yet; join again later with the same data directory"
                );
            }
        }
    }
}

/// The coordinator's own node, from the CA's directory on this machine.
fn join_own(data: &Path, dir: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let credential = arguments.ca_credential.as_deref();
    let mut ca = Ca::open(dir, &Unlock::find(credential, "the CA", Typing::Known)?)?;
    let keys = keys(data, arguments.credential.as_deref())?;
    let desk = arguments.desk.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let me = keys.signing.public();
    ca.set_mesh(&Mesh { desk: Some(me), desk_addresses: vec![desk.to_string()], nodes: Vec::new() })?;
    let (Some(partner), Some(name)) = (arguments.partner.clone(), arguments.name.clone()) else {
        anyhow::bail!("give the coordinator's --partner and --name");
    };
    let now = clock::now();
    let invitation = ca.invite(partner, &name, 60_000, Approve::Auto, now)?;
    let request = Request::sign(&invitation, &keys.signing, keys.sealing.recipient(), now);
    let certificate = ca.certify_own(&request, now)?;
    let admission = ca.admission(certificate)?;
    let membership = Membership::new(ca.root().clone(), admission.certificate, &keys).map_err(anyhow::Error::msg)?;
    let joined = Joined { membership, issuer_log: admission.issuer_log, nodes: Vec::new() };
    let enrolment = Enrolment {
        listen: desk.to_string(),
        external: Vec::new(),
        ca: absolute(dir)?,
        credential: arguments.ca_credential.as_deref().map(absolute).transpose()?,
        requests_per_minute: config::requests_per_minute(),
    };
    settle(data, joined, &arguments, Some(enrolment))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// Writes the data directory out. The membership comes last: with it the node can run.
fn settle(data: &Path, joined: Joined, arguments: &Arguments, enrolment: Option<Enrolment>) -> anyhow::Result<()> {
    let mut config = Config::default();
    for address in &arguments.listen {
        let ip = if address.is_ipv4() { "ip4" } else { "ip6" };
        config.network.listen.push(format!("/{ip}/{}/tcp/{}", address.ip(), address.port()).parse()?);
    }
    for (node, addresses) in joined.nodes {
        let addresses: Vec<Address> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
        config.network.bootstrap.push(Bootstrap { node: node.to_string(), addresses });
    }
    config.network.anchor = enrolment.is_some();
    config.circles.accept = if arguments.accept_circles { Accept::Certified } else { Accept::Ask };
    config.keys.credential = arguments.credential.as_deref().map(absolute).transpose()?;
    config.enrolment = enrolment;
    files::durable_write(&data.join(config::FILE), config.to_text()?.as_bytes())?;
    joined.membership.store(data, &joined.issuer_log)?;
    let certificate = joined.membership.certificate();
    Ok(show::page(&format!(
        "Joined {} as {} ({}); the certificate is valid until {}.\nStart the node with: cwn --data {} daemon\n",
        show::line(&joined.membership.root().document().name),
        show::line(&certificate.name),
        certificate.partner,
        certificate.not_after.date(),
        data.display()
    ))?)
}
