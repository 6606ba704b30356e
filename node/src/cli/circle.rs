//! `cwn circle`

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use super::{
    Face, confirm,
    partners::{encode, how_known},
    print_json, show,
    status::circle_state,
};
use crate::{
    api::{
        ANEW, Circles, NODE_DIGITS_LEAST,
        types::{
            Bilateral, BilateralFounded, CircleDetail, CircleSummary, ForkView, Id, KeptLess, MemberView, Membership,
            NewCircle, NodeView, OverQuotaView, PartnerView, PolicyChange, QuotaChange, QuotaView, RaiseView, Raising,
            Succession, SuccessionView, WithheldView,
        },
    },
    clock,
};

/// What newcomers may open.
const HISTORIES: [&str; 2] = ["none", "all"];
/// How often it is looked whether an offer has arrived.
const OFFER_LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// What to do with circles.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Found a circle, with this node as its first steward.
    Create(Create),
    /// List the circles of this node, and those it is offered.
    #[command(after_help = "Example:\n  cwn circle list")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a circle and who belongs to it.
    #[command(after_help = "Example:\n  cwn circle show haven")]
    Show {
        /// The circle, by name or id.
        #[arg(value_parser = super::named)]
        circle: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Join a circle that was offered to this node.
    #[command(after_help = "Example:\n  cwn circle accept haven")]
    Accept {
        /// The circle, by name or id.
        #[arg(value_parser = super::named)]
        circle: String,
        /// How many seconds to wait for the offer to arrive.
        #[arg(long, default_value_t = 30)]
        wait: u64,
    },
    /// Do not join a circle that was offered, and do not ask again.
    #[command(
        after_help = "Example:\n  cwn circle decline haven\n\nThis cannot be undone: an offer that is declined is not made again, and `cwn circle accept` refuses it. Who wants to join after all asks a steward to found another circle that goes on for it, with `cwn circle succeed`.\nAn offer that is left alone waits."
    )]
    Decline {
        /// The circle, by name or id.
        #[arg(value_parser = super::named)]
        circle: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Found a circle that goes on for another, whose founder is lost, hostile or retires.
    #[command(
        after_help = "Examples:\n  cwn circle succeed haven --name haven-2\n  cwn circle succeed haven --name haven-2 --steward ncsc --with ibd --with ferm\n\nWhoever belongs to a circle can found what succeeds it: for the same and with the same partners, unless others are named.\nMembers of the old one see by whom. The old one stays as it is and can be read; nothing of it is opened to those who join the new one."
    )]
    Succeed(Succeed),
    /// Add a partner to a circle. Only its stewards can.
    #[command(
        after_help = "Example:\n  cwn circle add haven ibd\n\nHow each key of the partner is known is shown first: compared by telephone, known since a date, or NEW.\nThe partner can read what is published from then on, and what was published while the policy said `--history all`."
    )]
    Add(Change),
    /// Remove a partner, or one node of it, from a circle: it keeps what it has, and can open nothing that comes after.
    #[command(
        after_help = "Examples:\n  cwn circle remove haven ibd\n  cwn circle remove haven 86ed6ed0c5b7\n\nThe first digits of a node's key, as `cwn circle show` gives them, remove that node alone: one that was stolen. The partner's other nodes go on.\nWhat the partner wrote and this node holds stays. What it writes later is not accepted."
    )]
    Remove(Change),
    /// Accept what a removed partner wrote and this node holds beyond the cut of its removal. It stays removed.
    #[command(
        after_help = "Examples:\n  cwn circle raise haven ibd\n  cwn circle raise haven ibd --branch 3f2a9c01\n\nA steward that removed a partner without having heard all it wrote cut off the rest. Whoever holds that keeps it for 90 days and accepts it once a steward that holds it too, of the same or better rank, raises the cut. `cwn circle show` says what there is, and who can raise it. Who belongs again is removed first, and added again afterwards.\nA key that is in use twice forks a log: what comes behind the fork is disputed, and accepted by nobody until a steward that removed the partner names the branch that stands. What is held of another branch goes. The partner can be added again afterwards."
    )]
    Raise(Raise),
    /// Make a partner a steward of a circle, below this one; with that it belongs. Only its stewards can.
    #[command(
        after_help = "Example:\n  cwn circle appoint haven ncsc\n\nA steward adds and removes partners and changes the policy. One of worse rank can end nothing that a better one did; `cwn circle show` lists them by rank."
    )]
    Appoint(Change),
    /// End the stewardship of a partner of worse rank; it goes on belonging.
    #[command(
        after_help = "Example:\n  cwn circle dismiss haven ncsc\n\nWhat it did as a steward and this node holds stays. What it does later is set aside."
    )]
    Dismiss(Change),
    /// Change what a circle is for and how high it goes. What is not named stays as it is.
    #[command(
        after_help = "Example:\n  cwn circle policy haven --ceiling GREEN --description \"De haven en wie haar helpt\""
    )]
    Policy(Policy),
}

/// How much of one node others take.
#[derive(Debug, Args)]
struct Quotas {
    /// How many megabytes of one node, sealed, others take. What goes beyond a quota waits with those who have it, and
    /// comes once the quota is raised.
    #[arg(long, value_name = "MEGABYTES")]
    quota_mb: Option<u64>,
    /// How many entries of one node others take. A sixteenth of each of these is left for taking back.
    #[arg(long, value_name = "NUMBER")]
    quota_entries: Option<u64>,
    /// How many logs of one node others take: it has one for each of its starts in which it wrote something.
    #[arg(long, value_name = "NUMBER")]
    quota_logs: Option<u64>,
    /// How many epochs of one node others take: it makes one when it writes after somebody came or went.
    #[arg(long, value_name = "NUMBER")]
    quota_epochs: Option<u64>,
}

impl Quotas {
    fn change(self) -> QuotaChange {
        let Self { quota_mb, quota_entries, quota_logs, quota_epochs } = self;
        QuotaChange {
            bytes: quota_mb.map(|megabytes| megabytes.saturating_mul(1_000_000)),
            entries: quota_entries,
            logs: quota_logs,
            epochs: quota_epochs,
        }
    }
}

/// Arguments of `cwn circle policy`.
#[derive(Debug, Args)]
pub struct Policy {
    /// The circle, by name or id.
    #[arg(value_parser = super::named)]
    circle: String,
    /// The narrowest marking that may be published in it.
    #[arg(long, value_name = super::publish::MARKINGS)]
    ceiling: Option<String>,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// A function it is for, in place of those before: sharing, notification, incident, knowledge or exercise; may
    /// be given again.
    #[arg(long)]
    purpose: Vec<String>,
    /// What newcomers can open of what is published from then on: nothing from before they were added, or all. What
    /// was published while it said `none` stays closed to them.
    #[arg(long, value_parser = HISTORIES)]
    history: Option<String>,
    /// How many days what is published is kept; 0 for ever. Nodes drop what is older from their disks; fewer days than
    /// before are acted on a week after a node first saw them.
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u32>,
    #[command(flatten)]
    quotas: Quotas,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Arguments of `cwn circle create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn circle create haven z-cert ncsc\n  cwn circle create zorg --description \"The hospitals and their CERT\" --ceiling AMBER --steward ncsc ibd surfcert\n  cwn circle create --bilateral ncsc\n\nA bilateral circle is named after its two partners; both are stewards, it is for everything and goes up to RED. When there is one with that partner already, it is shown."
)]
pub struct Create {
    /// Its name.
    #[arg(required_unless_present = "bilateral", value_parser = super::named)]
    name: Option<String>,
    /// The partners to add.
    #[arg(value_parser = super::named)]
    partners: Vec<String>,
    /// What it is for.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// The narrowest marking that may be published in it.
    #[arg(long, default_value = "AMBER+STRICT", value_name = super::publish::MARKINGS)]
    pub(super) ceiling: String,
    /// A function it is for: sharing, notification, incident, knowledge or exercise; may be given again.
    #[arg(long)]
    purpose: Vec<String>,
    /// A partner that is steward too, in the order of rank; may be given again.
    #[arg(long)]
    steward: Vec<String>,
    /// What partners that are added later can open of what was published before: nothing, or all.
    #[arg(long, value_parser = HISTORIES, default_value = "none")]
    history: String,
    /// How many days what is published is kept; for ever when it is not given. Nodes drop what is older from their disks.
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u32>,
    #[command(flatten)]
    quotas: Quotas,
    /// Found the circle of your partner and this one alone, unless there is one.
    #[arg(
        long,
        value_name = "PARTNER",
        conflicts_with_all = ["name", "partners", "description", "ceiling", "purpose", "steward", "history", "retention_days", "Quotas"]
    )]
    bilateral: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Arguments of `cwn circle succeed`.
#[derive(Debug, Args)]
pub struct Succeed {
    /// The circle to go on for, by name or id.
    #[arg(value_parser = super::named)]
    circle: String,
    /// The name of the new one.
    #[arg(long)]
    name: String,
    /// A partner to add; all of the old circle when none is given; may be given again.
    #[arg(long, value_name = "PARTNER")]
    with: Vec<String>,
    /// A partner that is steward too, in the order of rank; may be given again.
    #[arg(long, value_name = "PARTNER")]
    steward: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Arguments of `cwn circle add`, `remove`, `raise`, `appoint` and `dismiss`.
#[derive(Debug, Args)]
pub struct Change {
    /// The circle, by name or id.
    #[arg(value_parser = super::named)]
    circle: String,
    /// The partner.
    #[arg(value_parser = super::named)]
    partner: String,
    /// One node of it, by the first digits of its key; all of them when none is given.
    #[arg(long)]
    node: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Which cut is raised, and to what.
#[derive(Debug, Args)]
pub struct Raise {
    #[command(flatten)]
    change: Change,
    /// A branch of a log that the partner forked, by the first digits that `cwn circle show` gives; may be given several
    /// times. Nothing else is accepted then.
    #[arg(long = "branch", value_name = "BRANCH")]
    branches: Vec<String>,
}

pub(super) async fn run(face: &Face, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => found(face, create).await,
        Command::List { json } => list(face, json).await,
        Command::Show { circle, json } => show_one(face, &circle, json).await,
        Command::Accept { circle, wait } => decide(face, &circle, "accept", "Joined", wait).await,
        Command::Decline { circle, yes } => {
            if !yes {
                confirm(&format!(
                    "Decline {circle} for good? It is not offered again, and only another circle in its place could be joined."
                ))?;
            }
            decide(face, &circle, "decline", "Declined", 0).await
        }
        Command::Succeed(new) => succeed(face, new).await,
        Command::Add(change) => add(face, change).await,
        Command::Remove(change) => remove(face, change).await,
        Command::Raise(raising) => raise(face, raising).await,
        Command::Appoint(change) => appoint(face, change).await,
        Command::Dismiss(change) => dismiss(face, change).await,
        Command::Policy(change) => policy(face, change).await,
    }
}

/// Shows how the keys of partners are known, for a person to judge before they are added.
async fn show_keys(face: &Face, partners: &[String], only: Option<&str>) -> anyhow::Result<()> {
    let known: Vec<PartnerView> = face.client.get("/v1/partners").await?;
    show::note(keys_page(&known, partners, only, clock::now().0)?.trim_end());
    Ok(())
}

fn keys_page(known: &[PartnerView], partners: &[String], only: Option<&str>, now: u64) -> anyhow::Result<String> {
    let mut page = String::new();
    for name in partners {
        let Some(partner) = known.iter().find(|partner| partner.partner == *name) else {
            anyhow::bail!("no certified partner {name:?} is known here; `cwn partners` shows those there are");
        };
        page += &format!("{} ({})\n", show::line(&partner.name), partner.partner);
        let counts = |node: &&NodeView| {
            node.revoked.is_none() && only.is_none_or(|only| node.node.starts_with(&only.to_ascii_lowercase()))
        };
        for node in partner.nodes.iter().filter(counts) {
            page += &format!("  {}  {}\n    {}\n", show::short(&node.node), how_known(node, now), node.fingerprint);
        }
    }
    Ok(page)
}

async fn found(face: &Face, create: Create) -> anyhow::Result<()> {
    let Create {
        name,
        partners,
        description,
        ceiling,
        purpose,
        steward,
        history,
        retention_days,
        quotas,
        bilateral,
        yes,
    } = create;
    if let Some(partner) = bilateral {
        return found_bilateral(face, partner, yes).await;
    }
    let name = name.unwrap_or_default();
    let all: Vec<String> = steward.iter().chain(&partners).cloned().collect();
    if !all.is_empty() {
        show_keys(face, &all, None).await?;
    }
    if !yes {
        confirm(&format!("Found the circle {name:?} with these partners?"))?;
    }
    let new = NewCircle {
        name: name.clone(),
        description,
        ceiling: Some(ceiling),
        purposes: purpose,
        stewards: steward,
        partners,
        history: Some(history),
        quota: quotas.change(),
        retention_days,
    };
    let id: Id = face.client.post("/v1/circles", &new).await?;
    Ok(show::page(&format!("The circle {} is founded: {}\n", show::line(&name), show::short(&id.id)))?)
}

async fn succeed(face: &Face, new: Succeed) -> anyhow::Result<()> {
    let Succeed { circle, name, with, steward, yes } = new;
    let old: CircleDetail = face.client.get(&format!("/v1/circles/{}", encode(&circle))).await?;
    let own = old.members.iter().find(|member| member.this).map(|member| member.partner.clone());
    let partners: Vec<String> = if with.is_empty() {
        let all: BTreeSet<&String> = old.members.iter().map(|member| &member.partner).collect();
        all.into_iter().filter(|partner| Some(*partner) != own.as_ref()).cloned().collect()
    } else {
        with
    };
    let all: BTreeSet<String> = steward.iter().chain(&partners).cloned().collect();
    let all: Vec<String> = all.into_iter().collect();
    if !all.is_empty() {
        show_keys(face, &all, None).await?;
    }
    if !yes {
        confirm(&format!("Found {name:?} with these partners, to go on for {}?", show::line(&old.summary.name)))?;
    }
    let succession = Succession { name: name.clone(), stewards: steward, partners };
    let path = format!("/v1/circles/{}/succeed", encode(&old.summary.id));
    let id: Id = face.client.post(&path, &succession).await?;
    let (name, old) = (show::line(&name), show::line(&old.summary.name));
    Ok(show::page(&format!("The circle {name} is founded and succeeds {old}: {}\n", show::short(&id.id)))?)
}

/// A circle's place among those that succeed one another, in words.
fn succession_page(succeeds: Option<&SuccessionView>, succeeded_by: &[SuccessionView]) -> String {
    let called = |view: &SuccessionView| {
        let id = show::short(&view.circle);
        view.name.as_ref().map_or_else(|| format!("circle {id}"), |name| format!("{} ({id})", show::line(name)))
    };
    let mut page = String::new();
    if let Some(view) = succeeds {
        let (old, founder) = (called(view), &view.founder);
        page += &match (view.standing.as_str(), view.belongs) {
            ("holds", true) => format!("succeeds {old}; {founder}, its founder, belongs to that circle\n"),
            ("holds", false) => {
                format!("succeeds {old}; {founder}, its founder, belonged to that circle and does no longer\n")
            }
            ("unfounded", _) => format!(
                "CLAIMS to succeed {old}, and {founder}, its founder, NEVER BELONGED to that circle: ask its members\n"
            ),
            _ => format!(
                "claims to succeed {old}, of which this node holds too little to tell; ask {founder}, its founder\n"
            ),
        };
    }
    for view in succeeded_by {
        let belongs =
            if view.belongs { "who belongs to this one" } else { "who belonged to this one and does no longer" };
        page += &format!("succeeded by {}, founded by {}, {belongs}", called(view), view.founder);
        page += &match view.joined {
            true => "\n".to_owned(),
            false => format!("; `cwn circle accept {}` joins it\n", show::short(&view.circle)),
        };
    }
    page
}

async fn found_bilateral(face: &Face, partner: String, yes: bool) -> anyhow::Result<()> {
    show_keys(face, std::slice::from_ref(&partner), None).await?;
    if !yes {
        confirm(&format!("Found the circle of your partner and {partner}, unless there is one?"))?;
    }
    let circle: BilateralFounded = face.client.post("/v1/bilateral", &Bilateral { partner: partner.clone() }).await?;
    let (name, id) = (show::line(&circle.name), show::short(&circle.id));
    if circle.founded {
        return Ok(show::page(&format!("The circle {name} is founded: {id}\n"))?);
    }
    show::note(&format!("You have a circle with {partner} already:"));
    show_one(face, &circle.id, false).await
}

async fn list(face: &Face, json: bool) -> anyhow::Result<()> {
    let circles: Circles = face.client.get("/v1/circles").await?;
    if json {
        return print_json(&circles);
    }
    Ok(show::page(&list_page(&circles))?)
}

fn list_page(circles: &Circles) -> String {
    if circles.circles.is_empty() && circles.offers.is_empty() {
        return "No circles yet. Found one with `cwn circle create NAME PARTNER…`.\n".to_owned();
    }
    let row = |circle: &CircleSummary| {
        let role = if circle.steward { "steward" } else { "" };
        vec![
            show::line(&circle.name),
            show::short(&circle.id).to_owned(),
            circle.ceiling.clone(),
            show::count(circle.partners as u64, "partner", "partners"),
            show::count(circle.entries, "entry", "entries"),
            role.to_owned(),
            circle_state(circle),
        ]
    };
    let mut page = show::table(&circles.circles.iter().map(row).collect::<Vec<_>>());
    for offer in &circles.offers {
        if !page.is_empty() {
            page.push('\n');
        }
        let (name, id) = (show::line(&offer.name), show::short(&offer.id));
        page += &format!("Offered: {name} ({id}), {}, founded by {}\n", offer.ceiling, offer.founder);
        if !offer.description.is_empty() {
            page += &format!("  {}\n", show::line(&offer.description));
        }
        page += &format!("  with {}\n", offer.partners.join(", "));
        if offer.succeeds.is_some() {
            page += &format!("  {}", succession_page(offer.succeeds.as_ref(), &[]));
        }
        page += &format!("  `cwn circle accept {id}` joins it, `cwn circle decline {id}` does not\n");
    }
    page
}

async fn show_one(face: &Face, circle: &str, json: bool) -> anyhow::Result<()> {
    let detail: CircleDetail = face.client.get(&format!("/v1/circles/{}", encode(circle))).await?;
    if json {
        return print_json(&detail);
    }
    Ok(show::page(&detail_page(&detail))?)
}

fn kept_page(detail: &CircleDetail) -> String {
    let days = |days: u32| show::count(u64::from(days), "day", "days");
    let mut page = match detail.kept_days {
        Some(kept) => format!("what is published is kept {}, and dropped from this node's disk then\n", days(kept)),
        None => String::new(),
    };
    if let Some(KeptLess { days: fewer, at }) = detail.kept_less {
        let from = match at {
            Some(at) => format!("from {} on", show::time(at)),
            None => "a week after this node's clock is known to be right".to_owned(),
        };
        page += &format!("the policy says {}: this node acts on it {from}\n", days(fewer));
    }
    page
}

/// Who can have something accepted, and how.
fn raising(RaiseView { this, by, belongs }: &RaiseView, command: &str) -> String {
    let others = by.join(" or ");
    match (this, belongs) {
        (true, false) => format!("`{command}` accepts that"),
        (true, true) => format!("its author belongs: remove it, let `{command}` accept that, and add it again"),
        (false, _) if by.is_empty() => {
            "nobody can accept that: no steward is of better rank than its author".to_owned()
        }
        (false, false) => format!("only {others} can accept that, where it is held too; {ANEW}"),
        (false, true) => format!("its author belongs: only {others} can remove it and accept that then"),
    }
}

fn detail_page(detail: &CircleDetail) -> String {
    let summary = &detail.summary;
    let mut page = format!("{} ({})\n", show::line(&summary.name), show::short(&summary.id));
    if !detail.description.is_empty() {
        page += &format!("{}\n", show::text(&detail.description));
    }
    if !detail.purposes.is_empty() {
        page += &format!("for {}\n", detail.purposes.join(", "));
    }
    let (founded, state) = (show::time(detail.founded), circle_state(summary));
    page += &format!("up to {}, founded {founded}, {state}\n", summary.ceiling);
    page += &succession_page(detail.succeeds.as_ref(), &detail.succeeded_by);
    page += match detail.history.as_str() {
        "all" => "partners that are added can open what was published before them, while the policy said so\n",
        _ => "partners that are added can open nothing from before them\n",
    };
    page += &kept_page(detail);
    let amount = |QuotaView { bytes, entries, logs, epochs }: QuotaView| {
        format!(
            "{} and {}, in {} and {}",
            show::count(entries, "entry", "entries"),
            show::size(bytes),
            show::count(logs, "log", "logs"),
            show::count(epochs, "epoch", "epochs")
        )
    };
    page += &format!("of one node others take {}; this one used {}\n", amount(detail.quota), amount(detail.used));
    for operation in &detail.voided {
        page += &format!("set aside by the rules of rank, issue it again or not: {operation}\n");
    }
    if detail.later_operations > 0 {
        let operations = show::count(detail.later_operations as u64, "operation", "operations");
        page += &format!("{operations} that only a later version of this program understands: update this node\n");
    }
    let name = show::line(&summary.name);
    for ForkView { author, log, place, of_steward, branch, disputed, raise, .. } in &detail.forks {
        let log = show::short(log);
        let comes = match branch {
            _ if *of_steward => "what it did as a steward on both branches counts, for everybody".to_owned(),
            None => "from there on it is disputed, and nothing of it is accepted".to_owned(),
            Some(branch) => {
                let (entries, branch) = (show::count(*disputed, "entry", "entries"), show::short(branch));
                let command = format!("cwn circle raise {name} {author} --branch {branch}");
                let remedy = raising(raise, &command);
                format!(
                    "from there on it is disputed, and nothing of it is accepted; this node holds {entries} along branch {branch}; {remedy}"
                )
            }
        };
        page += &format!("{author} signed two entries for one place (log {log}, entry {place}): {comes}\n");
    }
    for OverQuotaView { partner, used, waiting, .. } in &detail.over_quota {
        let (entries, size) = (show::count(used.entries, "entry", "entries"), show::size(used.bytes));
        page += &format!(
            "{partner} is at its quota with {entries} ({size}); {waiting} more wait until a steward raises it with `cwn circle policy`, or removes it\n"
        );
    }
    for WithheldView { partner, entries, bytes, until, raise, .. } in &detail.withheld {
        let (entries, size) = (show::count(*entries, "entry", "entries"), show::size(*bytes));
        let until = show::time(*until);
        let remedy = raising(raise, &format!("cwn circle raise {name} {partner}"));
        page +=
            &format!("beyond the cut of the removal of {partner}: {entries} ({size}), kept until {until}; {remedy}\n");
    }
    let row = |member: &MemberView| {
        let role = match member.steward {
            Some(_) if member.founder => "founder".to_owned(),
            Some(rank) => format!("steward {rank}"),
            None => String::new(),
        };
        let state = match member {
            MemberView { this: true, .. } => "this node",
            MemberView { revoked: true, .. } => "REVOKED: gets no keys; a steward removes it with `cwn circle remove`",
            MemberView { certified: false, .. } => "NO CERTIFICATE: gets no keys",
            MemberView { connected: true, .. } => "connected",
            MemberView { not_joined: true, reachable: true, .. } => "connected, and has not joined yet",
            MemberView { not_joined: true, .. } => "away, and has not joined yet",
            // Whoever leaves a circle, or was made to, says nothing of it any more, not even that.
            MemberView { reachable: true, .. } if summary.removable => {
                "connected, and silent about this circle: it has not accepted it, or one of you was removed"
            }
            MemberView { reachable: true, .. } => "connected, and silent about this circle",
            _ => "away",
        };
        vec![format!("  {}", member.partner), show::short(&member.node).to_owned(), role, state.to_owned()]
    };
    page + &show::table(&detail.members.iter().map(row).collect::<Vec<_>>())
}

async fn decide(face: &Face, circle: &str, verb: &str, done: &str, wait: u64) -> anyhow::Result<()> {
    let path = format!("/v1/circles/{}/{verb}", encode(circle));
    let start = tokio::time::Instant::now();
    loop {
        let decided: Result<Id, _> = face.client.post(&path, &serde_json::json!({})).await;
        match decided {
            Ok(id) => {
                return Ok(show::page(&format!("{done}: {} ({})\n", show::line(circle), show::short(&id.id)))?);
            }
            Err(error) if error.code() == "not_found" && start.elapsed().as_secs() < wait => {
                tokio::time::sleep(OFFER_LOOK).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn add(face: &Face, change: Change) -> anyhow::Result<()> {
    let Change { circle, partner, node, yes } = change;
    show_keys(face, std::slice::from_ref(&partner), node.as_deref()).await?;
    if !yes {
        confirm(&format!(
            "Add {partner} to {circle}? It will be able to read what is published from now on, and what was while the policy let newcomers read it."
        ))?;
    }
    let membership = Membership { partner: partner.clone(), node };
    let _: Id = face.client.post(&format!("/v1/circles/{}/add", encode(&circle)), &membership).await?;
    Ok(show::page(&format!("{partner} belongs to {}.\n", show::line(&circle)))?)
}

async fn remove(face: &Face, change: Change) -> anyhow::Result<()> {
    let Change { circle, partner, node, yes } = change;
    let detail: CircleDetail = face.client.get(&format!("/v1/circles/{}", encode(&circle))).await?;
    let (partner, node) = match node {
        Some(node) => (partner, Some(node)),
        None => named_for_removal(&detail.members, &partner)?,
    };
    if !yes {
        let whom = match &node {
            None => format!("all nodes of {partner}"),
            Some(node) => format!("node {} of {partner}", show::short(node)),
        };
        confirm(&format!(
            "Remove {whom} from {circle}? What it wrote and you hold stays; it keeps what it has, and can open nothing that comes after.{}",
            unheard_before_removal(&detail.summary)
        ))?;
    }
    let whom = match &node {
        None => partner.clone(),
        Some(node) => format!("Node {} of {partner}", show::short(node)),
    };
    let membership = Membership { partner, node };
    let _: Id = face.client.post(&format!("/v1/circles/{}/remove", encode(&circle)), &membership).await?;
    Ok(show::page(&format!("{whom} no longer belongs to {}.\n", show::line(&circle)))?)
}

/// What a person hears before a removal by a node that may not hold all that was written.
fn unheard_before_removal(circle: &CircleSummary) -> String {
    match circle.current {
        true => String::new(),
        false => format!(
            " This node is not current ({}): what others hold of it and this node has not heard is put aside, and only a steward that holds it can have it accepted then.",
            circle_state(circle)
        ),
    }
}

/// Whom a person means to remove: a partner by its id, or one node by the first digits of its key.
fn named_for_removal(members: &[MemberView], named: &str) -> anyhow::Result<(String, Option<String>)> {
    if named.len() < NODE_DIGITS_LEAST || members.iter().any(|member| member.partner == named) {
        return Ok((named.to_owned(), None));
    }
    match members.iter().filter(|member| member.node.starts_with(named)).collect::<Vec<_>>().as_slice() {
        [member] => Ok((member.partner.clone(), Some(member.node.clone()))),
        // The daemon says that there is no such partner.
        [] => Ok((named.to_owned(), None)),
        _ => anyhow::bail!("several nodes have keys that start with {named}; give more digits"),
    }
}

async fn raise(face: &Face, raising: Raise) -> anyhow::Result<()> {
    let Raise { change: Change { circle, partner, node, yes }, branches } = raising;
    let (asked, done) = match branches.is_empty() {
        true => (
            format!("all that this node holds of {partner} beyond the cut of its removal"),
            format!("What {partner} wrote in {} and this node holds is accepted.\n", show::line(&circle)),
        ),
        false => (
            format!(
                "what this node holds of {partner} along {}, and nothing of any other branch",
                branches.join(" and ")
            ),
            format!("The branch of {partner} in {} that this node holds is accepted.\n", show::line(&circle)),
        ),
    };
    if !yes {
        confirm(&format!("Accept in {circle} {asked}? If its key was stolen, that may be the thief's."))?;
    }
    let raising = Raising { partner, node, branches };
    let _: Id = face.client.post(&format!("/v1/circles/{}/raise", encode(&circle)), &raising).await?;
    Ok(show::page(&done)?)
}

async fn appoint(face: &Face, change: Change) -> anyhow::Result<()> {
    let Change { circle, partner, node, yes } = change;
    show_keys(face, std::slice::from_ref(&partner), node.as_deref()).await?;
    if !yes {
        confirm(&format!("Make {partner} a steward of {circle}? It will add and remove partners of worse rank."))?;
    }
    let membership = Membership { partner: partner.clone(), node };
    let _: Id = face.client.post(&format!("/v1/circles/{}/appoint", encode(&circle)), &membership).await?;
    Ok(show::page(&format!("{partner} is a steward of {}.\n", show::line(&circle)))?)
}

async fn dismiss(face: &Face, change: Change) -> anyhow::Result<()> {
    let Change { circle, partner, node, yes } = change;
    if !yes {
        confirm(&format!("End the stewardship of {partner} in {circle}? It goes on belonging."))?;
    }
    let membership = Membership { partner: partner.clone(), node };
    let _: Id = face.client.post(&format!("/v1/circles/{}/dismiss", encode(&circle)), &membership).await?;
    Ok(show::page(&format!("{partner} is no longer a steward of {}.\n", show::line(&circle)))?)
}

async fn policy(face: &Face, policy: Policy) -> anyhow::Result<()> {
    let Policy { circle, ceiling, description, purpose, history, retention_days, quotas, yes } = policy;
    let purposes = (!purpose.is_empty()).then_some(purpose);
    let change = PolicyChange { ceiling, purposes, description, history, quota: quotas.change(), retention_days };
    if change == PolicyChange::default() {
        anyhow::bail!("nothing to change; name what should be different, see `cwn circle policy --help`");
    }
    if !yes {
        confirm(&format!("Change the policy of {circle} for everybody in it?"))?;
    }
    let _: Id = face.client.post(&format!("/v1/circles/{}/policy", encode(&circle)), &change).await?;
    Ok(show::page(&format!("The policy of {} is changed.\n", show::line(&circle)))?)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            partners::tests::{DAY_MS, node, partner},
            status::tests::circle,
        },
        *,
    };
    use crate::api::types::OfferSummary;

    fn offer() -> OfferSummary {
        OfferSummary {
            id: "0123456789abcdef".to_owned(),
            name: "zorg".to_owned(),
            founder: "z-cert".to_owned(),
            partners: vec!["ferm".to_owned(), "z-cert".to_owned()],
            from: vec!["z-cert".to_owned()],
            description: "Ziekenhuizen\x1b[2J".to_owned(),
            ceiling: "TLP:AMBER".to_owned(),
            succeeds: None,
        }
    }

    fn view(standing: &str, belongs: bool, joined: bool) -> SuccessionView {
        SuccessionView {
            circle: "52c1a7a5f0a3ee01".to_owned(),
            name: joined.then(|| "haven".to_owned()),
            founder: "ibd".to_owned(),
            standing: standing.to_owned(),
            belongs,
            joined,
        }
    }

    #[test]
    fn a_partner_is_meant_by_its_id_and_one_node_by_the_first_digits_of_its_key() {
        let member = |partner: &str, node: &str| MemberView {
            partner: partner.to_owned(),
            node: node.to_owned(),
            steward: None,
            founder: false,
            connected: false,
            certified: true,
            revoked: false,
            reachable: false,
            not_joined: false,
            this: false,
        };
        let members = [member("ibd", "86ed6ed0c5b79f61"), member("ibd", "86ed6effffffffff"), member("facade", "11")];
        let meant = |named: &str| named_for_removal(&members, named).map_err(|error| error.to_string());
        assert_eq!(meant("ibd"), Ok(("ibd".to_owned(), None)));
        assert_eq!(meant("86ed6ed0"), Ok(("ibd".to_owned(), Some("86ed6ed0c5b79f61".to_owned()))));
        assert!(meant("86ed6e").unwrap_err().contains("more digits"));
        assert_eq!(meant("facade"), Ok(("facade".to_owned(), None)), "a partner first");
        assert_eq!(meant("nobody"), Ok(("nobody".to_owned(), None)));
    }

    #[test]
    fn what_a_circle_succeeds_and_is_succeeded_by_is_said_with_by_whom_and_who_only_claims_it_is_named() {
        let succeeds = |standing, belongs| succession_page(Some(&view(standing, belongs, true)), &[]);
        let haven = "haven (52c1a7a5f0a3)";
        assert_eq!(succeeds("holds", true), format!("succeeds {haven}; ibd, its founder, belongs to that circle\n"));
        assert!(succeeds("holds", false).contains("does no longer"));
        assert!(succeeds("unfounded", false).contains("NEVER BELONGED"));
        let unknown = succession_page(Some(&view("unknown", false, false)), &[]);
        assert!(unknown.starts_with("claims to succeed circle 52c1a7a5f0a3, of which"), "{unknown}");
        let by = succession_page(None, &[view("holds", true, true), view("holds", false, false)]);
        let lines: Vec<&str> = by.lines().collect();
        assert_eq!(lines[0], format!("succeeded by {haven}, founded by ibd, who belongs to this one"));
        assert!(lines[1].ends_with("does no longer; `cwn circle accept 52c1a7a5f0a3` joins it"), "{by}");
    }

    #[test]
    fn circles_are_lines_and_an_offer_says_who_is_in_it_and_how_to_decide() {
        let own = CircleSummary { steward: true, ..circle("haven") };
        let expected = "\
haven  aed0b4352552  TLP:AMBER  3 partners  12 entries  steward  in sync

Offered: zorg (0123456789ab), TLP:AMBER, founded by z-cert
  Ziekenhuizen\u{FFFD}[2J
  with ferm, z-cert
  `cwn circle accept 0123456789ab` joins it, `cwn circle decline 0123456789ab` does not
";
        assert_eq!(list_page(&Circles { circles: vec![own], offers: vec![offer()] }), expected);
    }

    #[test]
    fn who_is_in_no_circle_hears_how_to_found_one() {
        let page = list_page(&Circles { circles: Vec::new(), offers: Vec::new() });
        assert!(page.contains("`cwn circle create NAME PARTNER…`"), "{page}");
    }

    #[test]
    fn a_circle_shows_ranks_and_who_gets_no_keys() {
        let member = |partner: &str, steward, certified, connected, this| MemberView {
            partner: partner.to_owned(),
            node: "86ed6ed0c5b79f61".to_owned(),
            steward,
            founder: steward == Some(0),
            connected,
            certified,
            revoked: partner == "divd",
            reachable: connected || partner == "surf" || partner == "digicert",
            not_joined: partner == "digicert",
            this,
        };
        let detail = CircleDetail {
            summary: circle("haven"),
            description: "De haven".to_owned(),
            purposes: vec!["sharing".to_owned(), "incident".to_owned()],
            founded: 0,
            history: "all".to_owned(),
            kept_days: Some(90),
            kept_less: Some(KeptLess { days: 1, at: Some(DAY_MS) }),
            members: vec![
                member("ferm", Some(0), true, false, true),
                member("ncsc", Some(1), true, false, false),
                member("ibd", None, false, true, false),
                member("z-cert", None, true, true, false),
                member("divd", None, false, false, false),
                member("surf", None, true, false, false),
                member("digicert", None, true, false, false),
            ],
            voided: vec!["add divd".to_owned()],
            later_operations: 1,
            forks: vec![ForkView {
                author: "ibd".to_owned(),
                node: "86ed6ed0c5b79f61".to_owned(),
                log: "52c1a7a5f0a3ee01".to_owned(),
                place: 7,
                of_steward: false,
                branch: Some("3f2a9c01d5e7b864".to_owned()),
                disputed: 4,
                raise: RaiseView { this: false, by: vec!["ncsc".to_owned()], belongs: true },
            }],
            withheld: vec![WithheldView {
                partner: "surfcert".to_owned(),
                node: "86ed6ed0c5b79f61".to_owned(),
                entries: 3,
                bytes: 2_000,
                until: 0,
                raise: RaiseView { this: true, by: vec!["ferm".to_owned()], belongs: false },
            }],
            quota: QuotaView { bytes: 2_000_000_000, entries: 5, logs: 100, epochs: 1 },
            used: QuotaView { bytes: 700, entries: 2, logs: 1, epochs: 1 },
            over_quota: vec![OverQuotaView {
                partner: "ibd".to_owned(),
                node: "86ed6ed0c5b79f61".to_owned(),
                used: QuotaView { bytes: 900, entries: 5, logs: 1, epochs: 1 },
                waiting: 15,
            }],
            succeeds: None,
            succeeded_by: Vec::new(),
        };
        let expected = "\
haven (aed0b4352552)
De haven
for sharing, incident
up to TLP:AMBER, founded 1970-01-01T00:00:00Z, in sync
partners that are added can open what was published before them, while the policy said so
what is published is kept 90 days, and dropped from this node's disk then
the policy says 1 day: this node acts on it from 1970-01-02T00:00:00Z on
of one node others take 5 entries and 2000 MB, in 100 logs and 1 epoch; this one used 2 entries and 700 bytes, in 1 log and 1 epoch
set aside by the rules of rank, issue it again or not: add divd
1 operation that only a later version of this program understands: update this node
ibd signed two entries for one place (log 52c1a7a5f0a3, entry 7): from there on it is disputed, and nothing of it is accepted; this node holds 4 entries along branch 3f2a9c01d5e7; its author belongs: only ncsc can remove it and accept that then
ibd is at its quota with 5 entries (900 bytes); 15 more wait until a steward raises it with `cwn circle policy`, or removes it
beyond the cut of the removal of surfcert: 3 entries (2000 bytes), kept until 1970-01-01T00:00:00Z; `cwn circle raise haven surfcert` accepts that
  ferm      86ed6ed0c5b7  founder    this node
  ncsc      86ed6ed0c5b7  steward 1  away
  ibd       86ed6ed0c5b7             NO CERTIFICATE: gets no keys
  z-cert    86ed6ed0c5b7             connected
  divd      86ed6ed0c5b7             REVOKED: gets no keys; a steward removes it with `cwn circle remove`
  surf      86ed6ed0c5b7             connected, and silent about this circle: it has not accepted it, or one of you was removed
  digicert  86ed6ed0c5b7             connected, and has not joined yet
";
        assert_eq!(detail_page(&detail), expected);
    }

    #[test]
    fn a_raise_is_advised_only_where_it_can_be_done_and_else_it_is_said_who_can() {
        let remedy = |this, by: &[&str], belongs| {
            let by = by.iter().map(|partner| (*partner).to_owned()).collect();
            raising(&RaiseView { this, by, belongs }, "cwn circle raise haven ibd")
        };
        assert_eq!(remedy(true, &["ncsc"], false), "`cwn circle raise haven ibd` accepts that");
        assert_eq!(
            remedy(false, &["ncsc", "ferm"], false),
            format!("only ncsc or ferm can accept that, where it is held too; {ANEW}")
        );
        assert_eq!(
            remedy(true, &["ncsc"], true),
            "its author belongs: remove it, let `cwn circle raise haven ibd` accept that, and add it again"
        );
        let others = remedy(false, &["ncsc"], true);
        assert_eq!(others, "its author belongs: only ncsc can remove it and accept that then");
        assert!(remedy(false, &[], true).starts_with("nobody can accept that"));
    }

    #[test]
    fn who_removes_before_it_heard_all_is_told_what_that_puts_aside() {
        assert_eq!(unheard_before_removal(&circle("haven")), "");
        let waiting = CircleSummary { current: false, unheard: vec!["ncsc".to_owned()], ..circle("haven") };
        let said = unheard_before_removal(&waiting);
        assert!(said.contains("waits for ncsc") && said.contains("is put aside"), "{said}");
    }

    #[test]
    fn before_a_partner_is_added_it_shows_how_each_key_that_would_count_is_known() {
        let nodes = vec![
            NodeView { compared: Some(DAY_MS), ..node("aaaaaaaaaaaaaaaa") },
            NodeView { certified_since: 5 * DAY_MS, ..node("bbbbbbbbbbbbbbbb") },
            NodeView { revoked: Some("stolen".to_owned()), ..node("cccccccccccccccc") },
        ];
        let known = [partner("z-cert", nodes)];
        let named = ["z-cert".to_owned()];
        let all = keys_page(&known, &named, None, 5 * DAY_MS).unwrap();
        assert!(all.contains("aaaaaaaaaaaa  compared by telephone on 1970-01-02"), "{all}");
        assert!(all.contains("bbbbbbbbbbbb  NEW: certified 0 seconds ago"), "{all}");
        assert!(!all.contains("cccc"), "{all}");
        let one = keys_page(&known, &named, Some("bbbbbbbbbbbbbbbb"), 5 * DAY_MS).unwrap();
        assert!(!one.contains("aaaa") && one.contains("bbbbbbbbbbbb"), "{one}");
    }

    #[test]
    fn a_partner_that_nobody_certified_is_named_with_the_remedy() {
        let said = keys_page(&[], &["z-crt".to_owned()], None, 0).unwrap_err().to_string();
        assert!(said.contains("\"z-crt\"") && said.contains("`cwn partners`"), "{said}");
    }
}
