//! `cwn who`

use clap::Args;

use super::{Face, partners::encode, print_json, show};
use crate::{
    api::types::{Who, WhoLine},
    clock,
};

/// Arguments of `cwn who`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cwn who fabcd54a2284\n\nReceived means that the node said it holds the entry durably. It does not mean that a person has read it."
)]
pub struct Arguments {
    /// The entry, by the start of its reference.
    #[arg(value_parser = super::named)]
    reference: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let who: Who = face.client.get(&format!("/v1/entries/{}/who", encode(&arguments.reference))).await?;
    if arguments.json {
        return print_json(&who);
    }
    Ok(show::page(&page(&who, clock::now().0))?)
}

fn page(who: &Who, now: u64) -> String {
    if !who.told {
        return "Only the author of an entry and the stewards of its circle are told who has received it.\n".to_owned();
    }
    if who.nodes.is_empty() {
        return "Nobody else belongs to its circle.\n".to_owned();
    }
    let row = |line: &WhoLine| {
        let connected = if line.connected { "connected" } else { "not connected" };
        let addressed = if line.addressed { "" } else { "sealed to others" };
        vec![
            line.partner.clone(),
            show::short(&line.node).to_owned(),
            state(line, now),
            connected.to_owned(),
            addressed.to_owned(),
        ]
    };
    show::table(&who.nodes.iter().map(row).collect::<Vec<_>>())
}

fn state(line: &WhoLine, now: u64) -> String {
    match (line.received, line.cannot_open) {
        (Some(at), false) => format!("received {}", show::ago(now, at)),
        (Some(at), true) => format!("received {}, and CANNOT OPEN it", show::ago(now, at)),
        (None, _) => match line.heard {
            Some(at) => format!("unknown; last heard {}", show::ago(now, at)),
            None => "unknown; never heard".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(partner: &str) -> WhoLine {
        WhoLine {
            partner: partner.to_owned(),
            node: "6ecf8be51ec8ffff".to_owned(),
            received: None,
            cannot_open: false,
            heard: None,
            connected: false,
            addressed: true,
        }
    }

    fn who(told: bool, nodes: Vec<WhoLine>) -> Who {
        Who { reference: "fabcd54a2284".to_owned(), told, nodes }
    }

    #[test]
    fn what_is_not_known_is_called_unknown_and_never_not_received() {
        let nodes = vec![
            WhoLine { received: Some(0), connected: true, ..line("z-cert") },
            WhoLine { received: Some(0), cannot_open: true, ..line("ibd") },
            WhoLine { heard: Some(60_000), addressed: false, ..line("ncsc") },
            line("divd"),
        ];
        let expected = "\
z-cert  6ecf8be51ec8  received 3 minutes ago                      connected
ibd     6ecf8be51ec8  received 3 minutes ago, and CANNOT OPEN it  not connected
ncsc    6ecf8be51ec8  unknown; last heard 2 minutes ago           not connected  sealed to others
divd    6ecf8be51ec8  unknown; never heard                        not connected
";
        assert_eq!(page(&who(true, nodes), 180_000), expected);
    }

    #[test]
    fn who_is_not_told_hears_why_and_sees_no_list() {
        let page = page(&who(false, vec![line("z-cert")]), 0);
        assert!(page.contains("author") && page.contains("stewards") && !page.contains("z-cert"), "{page}");
    }
}
