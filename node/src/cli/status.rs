//! `cwn status`

use clap::Args;

use super::{Face, print_json, show};
use crate::{
    api::types::{CircleSummary, Status},
    clock,
};

/// Arguments of `cwn status`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    let status: Status = face.client.get("/v1/status").await?;
    if arguments.json {
        return print_json(&status);
    }
    print!("{}", render(&status, clock::now().0));
    Ok(())
}

/// What can be said of a circle in a few words.
pub(super) fn circle_state(circle: &CircleSummary) -> String {
    if !circle.member {
        return "no longer a member".to_owned();
    }
    if !circle.current {
        return format!("not current yet: waits for {}", circle.unheard.join(", "));
    }
    match (circle.behind, circle.peers) {
        (0, 0) => "nobody of it is connected".to_owned(),
        (0, _) => "in sync".to_owned(),
        (behind, _) => format!("{behind} behind"),
    }
}

fn render(status: &Status, now: u64) -> String {
    let certificate = &status.certificate;
    let left = certificate.not_after.saturating_sub(now);
    let standing = match certificate.standing.as_str() {
        "valid" => format!("valid for {} more", show::span(left)),
        "grace" => format!("EXPIRED {}, accepted for 30 days after that", show::ago(now, certificate.not_after)),
        other => other.to_uppercase(),
    };
    let word = status.issuer_word.map_or("nothing heard yet".to_owned(), |at| show::ago(now, at));
    let mut rows = vec![
        vec!["partner".to_owned(), format!("{} ({})", show::line(&status.partner_name), status.partner)],
        vec!["node".to_owned(), status.node.clone()],
        vec!["fingerprint".to_owned(), status.fingerprint.clone()],
        vec!["network".to_owned(), format!("{} ({})", show::line(&status.network_name), show::short(&status.network))],
        vec!["certificate".to_owned(), format!("{standing}, serial {}", certificate.serial)],
        vec!["issuer's word".to_owned(), word],
        vec![
            "running".to_owned(),
            format!(
                "{}, process {}, version {}",
                show::span(now.saturating_sub(status.since)),
                status.pid,
                status.version
            ),
        ],
        vec![
            "listening".to_owned(),
            if status.listening.is_empty() { "nowhere".to_owned() } else { status.listening.join(", ") },
        ],
        vec!["peers".to_owned(), format!("{} connected", status.peers)],
        vec!["data".to_owned(), status.data.clone()],
    ];
    if status.read_only {
        rows.push(vec!["store".to_owned(), "READ-ONLY".to_owned()]);
    }
    let mut shown = show::table(&rows);
    if !status.circles.is_empty() {
        shown.push_str("\nCircles\n");
        let circle = |circle: &CircleSummary| {
            vec![
                format!("  {}", show::line(&circle.name)),
                format!("{} partners", circle.partners),
                format!("{} entries", circle.entries),
                circle_state(circle),
            ]
        };
        shown.push_str(&show::table(&status.circles.iter().map(circle).collect::<Vec<_>>()));
    }
    for offer in &status.offers {
        shown.push_str(&format!(
            "\nOffered: {} by {}; join with `cwn circle accept {}`\n",
            show::line(&offer.name),
            offer.founder,
            show::short(&offer.id)
        ));
    }
    for warning in &status.warnings {
        shown.push_str(&format!("\nWARNING: {}\n", show::line(warning)));
    }
    shown
}
