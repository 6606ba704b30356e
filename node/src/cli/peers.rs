//! `cwn peers`

use clap::Args;
use cwn_engine::wire::VERSION;

use super::{Face, print_json, show};
use crate::{
    api::types::{PeerView, RefusalView},
    clock,
};

/// Arguments of `cwn peers`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cwn peers\n  cwn peers --refused")]
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
        return Ok(show::page(&refused_page(&refusals, now))?);
    }
    let peers: Vec<PeerView> = face.client.get("/v1/peers").await?;
    if arguments.json {
        return print_json(&peers);
    }
    Ok(show::page(&page(&peers, now))?)
}

fn refused_page(refusals: &[RefusalView], now: u64) -> String {
    if refusals.is_empty() {
        return "Nobody was refused.\n".to_owned();
    }
    let row = |refused: &RefusalView| {
        let node = refused.node.as_deref().map_or("", show::short).to_owned();
        vec![show::ago(now, refused.at), node, show::line(&refused.address), show::line(&refused.reason)]
    };
    show::table(&refusals.iter().map(row).collect::<Vec<_>>())
}

fn page(peers: &[PeerView], now: u64) -> String {
    if peers.is_empty() {
        return "No other node is certified yet.\n".to_owned();
    }
    let row = |peer: &PeerView| {
        let circles = peer.circles.iter().map(|name| show::line(name)).collect::<Vec<_>>().join(", ");
        let relay = peer.through.as_ref().map(|relay| {
            let known = peers.iter().find(|other| other.node == *relay).map(|other| other.partner.as_str());
            format!("{} {}", known.unwrap_or("a node"), show::short(relay))
        });
        vec![peer.partner.clone(), show::short(&peer.node).to_owned(), state(peer, relay, now), circles]
    };
    show::table(&peers.iter().map(row).collect::<Vec<_>>())
}

fn state(peer: &PeerView, relay: Option<String>, now: u64) -> String {
    match (peer.since, &peer.last_failure) {
        (Some(since), _) => {
            let grace = if peer.standing == "grace" { ", CERTIFICATE EXPIRED" } else { "" };
            let caught_up = if peer.caught_up { "" } else { ", catching up" };
            let through = relay.map(|relay| format!(", through {relay}")).unwrap_or_default();
            let version = match peer.version {
                Some(version) if version != VERSION => format!(", speaks version {version}"),
                _ => String::new(),
            };
            format!("connected {}{through}{version}{grace}{caught_up}", show::ago(now, since))
        }
        (None, Some(why)) => format!("not connected: {}", show::line(why)),
        (None, None) => "not connected".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(partner: &str) -> PeerView {
        PeerView {
            partner: partner.to_owned(),
            node: "6ecf8be51ec8ffff".to_owned(),
            since: Some(0),
            dialled: true,
            through: None,
            version: Some(VERSION),
            circles: vec!["haven".to_owned(), "zorg".to_owned()],
            caught_up: true,
            standing: "valid".to_owned(),
            last_failure: None,
        }
    }

    #[test]
    fn a_peer_shows_since_when_and_what_it_shares_or_why_it_is_not_there() {
        let away =
            PeerView { since: None, circles: Vec::new(), last_failure: Some("timed out\n".to_owned()), ..peer("ibd") };
        let expected = "\
z-cert  6ecf8be51ec8  connected 5 minutes ago    haven, zorg
ibd     6ecf8be51ec8  not connected: timed out\u{FFFD}
";
        assert_eq!(page(&[peer("z-cert"), away], 300_000), expected);
    }

    #[test]
    fn through_whom_a_peer_is_connected_is_said_and_of_which_version_it_is_if_of_another() {
        let relay = PeerView { node: "aaaabbbbccccdddd".to_owned(), ..peer("ncsc") };
        let through = |relay: &str| PeerView { through: Some(relay.to_owned()), circles: Vec::new(), ..peer("ferm") };
        let later = PeerView { version: Some(VERSION + 1), ..through("1234123412341234") };
        let expected = "\
ncsc  aaaabbbbcccc  connected 5 seconds ago                                                 haven, zorg
ferm  6ecf8be51ec8  connected 5 seconds ago, through ncsc aaaabbbbcccc
ferm  6ecf8be51ec8  connected 5 seconds ago, through a node 123412341234, speaks version 2
";
        assert_eq!(page(&[relay, through("aaaabbbbccccdddd"), later], 5_000), expected);
    }

    #[test]
    fn an_expired_certificate_and_a_peer_that_lags_are_said() {
        let peer = PeerView { standing: "grace".to_owned(), caught_up: false, ..peer("ibd") };
        assert_eq!(state(&peer, None, 5_000), "connected 5 seconds ago, CERTIFICATE EXPIRED, catching up");
    }

    #[test]
    fn a_refusal_shows_when_who_from_where_and_why() {
        let refusal = RefusalView {
            at: 0,
            node: None,
            address: "192.0.2.1:4001".to_owned(),
            reason: "another network\x1b".to_owned(),
        };
        assert_eq!(refused_page(&[refusal], 180_000), "3 minutes ago    192.0.2.1:4001  another network\u{FFFD}\n");
        assert_eq!(refused_page(&[], 0), "Nobody was refused.\n");
    }
}
