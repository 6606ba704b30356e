//! `cwn peers`

use clap::Args;

use super::{Face, print_json, show};
use crate::{
    api::types::{PeerView, RefusalView},
    clock,
};

/// Arguments of `cwn peers`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Show the connections that were refused lately instead.
    #[arg(long)]
    refused: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let now = clock::now().0;
    if arguments.refused {
        let refusals: Vec<RefusalView> = face.client.get("/v1/refusals").await?;
        if arguments.json {
            return print_json(&refusals);
        }
        if refusals.is_empty() {
            println!("Nobody was refused.");
        }
        let row = |refused: &RefusalView| {
            let node = refused.node.as_deref().map_or("", show::short).to_owned();
            vec![show::ago(now, refused.at), node, show::line(&refused.address), show::line(&refused.reason)]
        };
        print!("{}", show::table(&refusals.iter().map(row).collect::<Vec<_>>()));
        return Ok(());
    }
    let peers: Vec<PeerView> = face.client.get("/v1/peers").await?;
    if arguments.json {
        return print_json(&peers);
    }
    if peers.is_empty() {
        println!("No other node is certified yet.");
    }
    let row = |peer: &PeerView| {
        let state = match (peer.since, &peer.last_failure) {
            (Some(since), _) => {
                let grace = if peer.standing == "grace" { ", CERTIFICATE EXPIRED" } else { "" };
                let caught_up = if peer.caught_up { "" } else { ", catching up" };
                format!("connected {}{grace}{caught_up}", show::ago(now, since))
            }
            (None, Some(why)) => format!("not connected: {}", show::line(why)),
            (None, None) => "not connected".to_owned(),
        };
        let circles = peer.circles.iter().map(|name| show::line(name)).collect::<Vec<_>>().join(", ");
        vec![peer.partner.clone(), show::short(&peer.node).to_owned(), state, circles]
    };
    print!("{}", show::table(&peers.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
