//! `cwn who`

use clap::Args;

use super::{Face, partners::encode, print_json, show};
use crate::{
    api::types::{Who, WhoLine},
    clock,
};

/// Arguments of `cwn who`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The entry, by the start of its reference.
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
    if !who.told {
        println!("Only the author of an entry and the stewards of its circle are told who has received it.");
        return Ok(());
    }
    let now = clock::now().0;
    let row = |line: &WhoLine| {
        let state = match (line.received, line.cannot_open) {
            (Some(at), false) => format!("received {}", show::ago(now, at)),
            (Some(at), true) => format!("received {}, and CANNOT OPEN it", show::ago(now, at)),
            (None, _) => match line.heard {
                Some(at) => format!("unknown; last heard {}", show::ago(now, at)),
                None => "unknown; never heard".to_owned(),
            },
        };
        let connected = if line.connected { "connected" } else { "not connected" };
        let addressed = if line.addressed { "" } else { "sealed to others" };
        vec![
            line.partner.clone(),
            show::short(&line.node).to_owned(),
            state,
            connected.to_owned(),
            addressed.to_owned(),
        ]
    };
    print!("{}", show::table(&who.nodes.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
