//! `cwn partners`

use std::path::PathBuf;

use clap::Args;

use super::{Face, print_json, show};
use crate::{
    api::types::{Compared, Id, IssuerLog, NodeView, PartnerView, Taken},
    clock,
};

/// Arguments of `cwn partners`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn partners\n  cwn partners --compared z-cert 6ecf8be51ec8\n\nThe words below a node are its fingerprint: have them read to you by telephone before you trust the key."
)]
pub struct Arguments {
    /// Record that you compared the fingerprint of this partner's node by telephone.
    #[arg(long, value_names = ["PARTNER", "NODE"], num_args = 2)]
    compared: Option<Vec<String>>,
    /// Take in the issuer's log from a file, as `cwn ca log export` writes it where the CA is kept offline.
    #[arg(long, value_name = "FILE", conflicts_with = "compared")]
    issuer_log: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some([partner, node]) = arguments.compared.as_deref() {
        let compared = Compared { node: node.clone() };
        let id: Id = face.client.post(&format!("/v1/partners/{}/compared", encode(partner)), &compared).await?;
        let node = show::short(&id.id);
        return Ok(show::page(&format!("Recorded: the fingerprint of {partner}'s node {node} was compared.\n"))?);
    }
    if let Some(file) = &arguments.issuer_log {
        let text = std::fs::read_to_string(file).map_err(crate::files::at(file))?;
        let taken: Taken = face.client.post("/v1/issuer-log", &IssuerLog { text }).await?;
        let entries = show::count(taken.entries as u64, "entry", "entries");
        return Ok(show::page(&format!("Taken in: {entries} of the issuer's log.\n"))?);
    }
    let partners: Vec<PartnerView> = face.client.get("/v1/partners").await?;
    if arguments.json {
        return print_json(&partners);
    }
    Ok(show::page(&page(&partners, clock::now().0))?)
}

fn page(partners: &[PartnerView], now: u64) -> String {
    let mut page = String::new();
    for partner in partners {
        page += &format!("{} ({})\n", show::line(&partner.name), partner.partner);
        for node in &partner.nodes {
            page += &format!("  {}  {}\n    {}\n", show::short(&node.node), state(node, now), node.fingerprint);
        }
    }
    page
}

fn state(node: &NodeView, now: u64) -> String {
    let mut parts = Vec::new();
    if let Some(revoked) = &node.revoked {
        parts.push(format!("REVOKED: {}", show::line(revoked)));
    }
    if node.this {
        parts.push("this node".to_owned());
    } else {
        parts.push(how_known(node, now));
        parts.push(if node.connected { "connected" } else { "not connected" }.to_owned());
    }
    if node.anchor {
        parts.push("anchor".to_owned());
    }
    parts.join(", ")
}

/// How a key is known: what a steward must look at before it adds one.
pub(super) fn how_known(node: &NodeView, now: u64) -> String {
    match node.compared {
        Some(at) => format!("compared by telephone on {}", show::time(at)),
        None if now.saturating_sub(node.certified_since) < 24 * 3_600_000 => {
            format!("NEW: certified {}", show::ago(now, node.certified_since))
        }
        None => format!("known since {}", show::time(node.certified_since)),
    }
}

/// A name as a part of a path.
pub(super) fn encode(part: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    part.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) const DAY_MS: u64 = 24 * 3_600_000;

    pub(in crate::cli) fn node(key: &str) -> NodeView {
        NodeView {
            node: key.to_owned(),
            fingerprint: "boek garage avond kompas".to_owned(),
            certified_since: 0,
            not_after: 30 * DAY_MS,
            revoked: None,
            compared: None,
            addresses: Vec::new(),
            anchor: false,
            connected: true,
            this: false,
        }
    }

    pub(in crate::cli) fn partner(partner: &str, nodes: Vec<NodeView>) -> PartnerView {
        PartnerView { partner: partner.to_owned(), name: partner.to_uppercase(), nodes }
    }

    #[test]
    fn a_partner_shows_how_each_of_its_keys_is_known() {
        let nodes = vec![
            NodeView { compared: Some(DAY_MS), anchor: true, ..node("aaaaaaaaaaaaaaaa") },
            NodeView { certified_since: 4 * DAY_MS + 1, connected: false, ..node("bbbbbbbbbbbbbbbb") },
            NodeView { revoked: Some("stolen\n on 1970-01-05".to_owned()), ..node("cccccccccccccccc") },
            NodeView { this: true, ..node("dddddddddddddddd") },
        ];
        let expected = "\
Z-CERT (z-cert)
  aaaaaaaaaaaa  compared by telephone on 1970-01-02T00:00:00Z, connected, anchor
    boek garage avond kompas
  bbbbbbbbbbbb  NEW: certified 23 hours ago, not connected
    boek garage avond kompas
  cccccccccccc  REVOKED: stolen\u{FFFD} on 1970-01-05, known since 1970-01-01T00:00:00Z, connected
    boek garage avond kompas
  dddddddddddd  this node
    boek garage avond kompas
";
        assert_eq!(page(&[partner("z-cert", nodes)], 5 * DAY_MS), expected);
    }

    #[test]
    fn a_name_with_spaces_and_slashes_stays_one_part_of_a_path() {
        assert_eq!(encode("zorg en/of haven"), "zorg%20en%2Fof%20haven");
        assert_eq!(encode("é"), "%C3%A9");
    }
}
