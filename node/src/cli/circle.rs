//! `cwn circle`

use clap::{Args, Subcommand};

use super::{
    Face, confirm,
    partners::{encode, how_known},
    print_json, show,
    status::circle_state,
};
use crate::{
    api::{
        Circles,
        types::{CircleDetail, CircleSummary, Id, Membership, NewCircle, PartnerView},
    },
    clock,
};

/// How often it is looked whether an offer has arrived.
const OFFER_LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// What to do with circles.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Found a circle, with this node as its first steward.
    Create(Create),
    /// List the circles of this node, and those it is offered.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a circle and who belongs to it.
    Show {
        /// The circle, by name or id.
        circle: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Join a circle that was offered to this node.
    Accept {
        /// The circle, by name or id.
        circle: String,
        /// How many seconds to wait for the offer to arrive.
        #[arg(long, default_value_t = 30)]
        wait: u64,
    },
    /// Do not join a circle that was offered, and do not ask again.
    Decline {
        /// The circle, by name or id.
        circle: String,
    },
    /// Add a partner to a circle. Only its stewards can.
    Add(Change),
    /// Remove a partner from a circle: it keeps what it has, and can open nothing that comes after.
    Remove(Change),
}

/// Arguments of `cwn circle create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name.
    name: String,
    /// The partners to add.
    partners: Vec<String>,
    /// What it is for.
    #[arg(long, default_value = "")]
    description: String,
    /// The narrowest marking that may be published in it.
    #[arg(long, default_value = "AMBER+STRICT")]
    ceiling: String,
    /// A function it is for: sharing, notification, incident, knowledge or exercise; may be given again.
    #[arg(long)]
    purpose: Vec<String>,
    /// A partner that is steward too, in the order of rank; may be given again.
    #[arg(long)]
    steward: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Arguments of `cwn circle add` and `remove`.
#[derive(Debug, Args)]
pub struct Change {
    /// The circle, by name or id.
    circle: String,
    /// The partner.
    partner: String,
    /// One node of it, by its whole key; all of them when none is given.
    #[arg(long)]
    node: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(face: &Face, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => found(face, create).await,
        Command::List { json } => list(face, json).await,
        Command::Show { circle, json } => show_one(face, &circle, json).await,
        Command::Accept { circle, wait } => decide(face, &circle, "accept", "Joined", wait).await,
        Command::Decline { circle } => decide(face, &circle, "decline", "Declined", 0).await,
        Command::Add(change) => add(face, change).await,
        Command::Remove(change) => remove(face, change).await,
    }
}

/// Shows how the keys of partners are known, for a person to judge before they are added.
async fn show_keys(face: &Face, partners: &[String]) -> anyhow::Result<()> {
    let known: Vec<PartnerView> = face.client.get("/v1/partners").await?;
    let now = clock::now().0;
    for name in partners {
        let Some(partner) = known.iter().find(|partner| partner.partner == *name) else {
            anyhow::bail!("no certified partner {name:?} is known here; `cwn partners` shows those there are");
        };
        eprintln!("{} ({})", show::line(&partner.name), partner.partner);
        for node in partner.nodes.iter().filter(|node| node.revoked.is_none()) {
            eprintln!("  {}  {}", show::short(&node.node), how_known(node, now));
            eprintln!("    {}", node.fingerprint);
        }
    }
    Ok(())
}

async fn found(face: &Face, create: Create) -> anyhow::Result<()> {
    let Create { name, partners, description, ceiling, purpose, steward, yes } = create;
    if !yes {
        let all: Vec<String> = steward.iter().chain(&partners).cloned().collect();
        show_keys(face, &all).await?;
        confirm(&format!("Found the circle {name:?} with these partners?"))?;
    }
    let new = NewCircle {
        name: name.clone(),
        description,
        ceiling: Some(ceiling),
        purposes: purpose,
        stewards: steward,
        partners,
    };
    let id: Id = face.client.post("/v1/circles", &new).await?;
    println!("The circle {} is founded: {}", show::line(&name), show::short(&id.id));
    Ok(())
}

async fn list(face: &Face, json: bool) -> anyhow::Result<()> {
    let circles: Circles = face.client.get("/v1/circles").await?;
    if json {
        return print_json(&circles);
    }
    if circles.circles.is_empty() && circles.offers.is_empty() {
        println!("No circles yet. Found one with `cwn circle create NAME PARTNER…`.");
    }
    let row = |circle: &CircleSummary| {
        let role = if circle.steward { "steward" } else { "" };
        vec![
            show::line(&circle.name),
            show::short(&circle.id).to_owned(),
            circle.ceiling.clone(),
            format!("{} partners", circle.partners),
            format!("{} entries", circle.entries),
            role.to_owned(),
            circle_state(circle),
        ]
    };
    print!("{}", show::table(&circles.circles.iter().map(row).collect::<Vec<_>>()));
    for offer in &circles.offers {
        println!(
            "\nOffered: {} ({}), {}, founded by {}\n  {}\n  with {}\n  `cwn circle accept {}` joins it, `cwn circle decline {}` does not",
            show::line(&offer.name),
            show::short(&offer.id),
            offer.ceiling,
            offer.founder,
            show::line(&offer.description),
            offer.partners.join(", "),
            show::short(&offer.id),
            show::short(&offer.id),
        );
    }
    Ok(())
}

async fn show_one(face: &Face, circle: &str, json: bool) -> anyhow::Result<()> {
    let detail: CircleDetail = face.client.get(&format!("/v1/circles/{}", encode(circle))).await?;
    if json {
        return print_json(&detail);
    }
    println!("{} ({})", show::line(&detail.summary.name), show::short(&detail.summary.id));
    if !detail.description.is_empty() {
        println!("{}", show::text(&detail.description));
    }
    println!(
        "up to {}, founded {}, {}",
        detail.summary.ceiling,
        show::time(detail.founded),
        circle_state(&detail.summary)
    );
    if detail.voided > 0 {
        println!("{} operations were set aside by the rules of rank; issue them again or not", detail.voided);
    }
    let row = |member: &crate::api::types::MemberView| {
        let role = match member.steward {
            Some(0) => "founder".to_owned(),
            Some(rank) => format!("steward {rank}"),
            None => String::new(),
        };
        let state = match (member.this, member.certified, member.connected) {
            (true, ..) => "this node",
            (_, false, _) => "NO CERTIFICATE: gets no keys",
            (.., true) => "connected",
            _ => "not connected",
        };
        vec![format!("  {}", member.partner), show::short(&member.node).to_owned(), role, state.to_owned()]
    };
    print!("{}", show::table(&detail.members.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

async fn decide(face: &Face, circle: &str, verb: &str, done: &str, wait: u64) -> anyhow::Result<()> {
    let path = format!("/v1/circles/{}/{verb}", encode(circle));
    let start = tokio::time::Instant::now();
    loop {
        let decided: Result<Id, _> = face.client.post(&path, &serde_json::json!({})).await;
        match decided {
            Ok(id) => {
                println!("{done}: {} ({})", show::line(circle), show::short(&id.id));
                return Ok(());
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
    if !yes {
        show_keys(face, std::slice::from_ref(&partner)).await?;
        confirm(&format!("Add {partner} to {circle}? It will be able to read what is published from now on."))?;
    }
    let membership = Membership { partner: partner.clone(), node };
    let _: Id = face.client.post(&format!("/v1/circles/{}/add", encode(&circle)), &membership).await?;
    println!("{partner} belongs to {}.", show::line(&circle));
    Ok(())
}

async fn remove(face: &Face, change: Change) -> anyhow::Result<()> {
    let Change { circle, partner, node, yes } = change;
    if !yes {
        confirm(&format!(
            "Remove {partner} from {circle}? What it wrote and you hold stays; it keeps what it has, and can open nothing that comes after."
        ))?;
    }
    let membership = Membership { partner: partner.clone(), node };
    let _: Id = face.client.post(&format!("/v1/circles/{}/remove", encode(&circle)), &membership).await?;
    println!("{partner} no longer belongs to {}.", show::line(&circle));
    Ok(())
}
