//! `cwn status`

use clap::Args;

use super::{Face, print_json, show};
use crate::{
    api::types::{Acknowledged, CircleSummary, Status},
    clock,
};

/// The issuer speaks once a day; when it was silent for longer, revocations may be missing here.
const WORD_WARNS_AFTER_MS: u64 = 24 * 3_600_000;

/// Arguments of `cwn status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cwn status\n  cwn --data z-cert status --json\n  cwn status --acknowledge\n\nThat this node's key signed something it did not write is said, across restarts, until somebody who knows why\nacknowledges it."
)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Stop saying that this node's key is in use elsewhere, until it shows again.
    #[arg(long, conflicts_with = "json")]
    acknowledge: bool,
}

pub(super) async fn run(face: &Face, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.acknowledge {
        let acknowledged: Acknowledged = face.client.post("/v1/status/acknowledge", &serde_json::json!({})).await?;
        let said = match acknowledged.circles.as_slice() {
            [] => "There was nothing to acknowledge.\n".to_owned(),
            circles => format!("Acknowledged: this node's key in use elsewhere, in {}.\n", circles.join(", ")),
        };
        return Ok(show::page(&said)?);
    }
    let status: Status = face.client.get("/v1/status").await?;
    if arguments.json {
        return print_json(&status);
    }
    Ok(show::page(&page(&status, clock::now().0, show::Ink::of_stdout()))?)
}

/// Partners that a line names one by one.
const NAMED: usize = 5;

/// What can be said of a circle in a few words. "In sync" without more is said only when somebody of every
/// partner is connected.
pub(super) fn circle_state(circle: &CircleSummary) -> String {
    if !circle.member {
        return "no longer a member".to_owned();
    }
    let said = |what: &str, partners: &[String]| match partners.is_empty() {
        true => String::new(),
        false => format!("; {what}: {}", some(partners)),
    };
    let not_joined = said("not joined yet", &circle.not_joined);
    let silent = said("connected and silent about it", &circle.silent);
    let removed = match circle.may_be_removed() {
        true => "; you may have been removed: ask a steward",
        false => "",
    };
    let others = format!("{not_joined}{silent}{removed}");
    if !circle.current {
        return format!("not current yet: waits for {}{others}", circle.unheard.join(", "));
    }
    let known = match (circle.behind, circle.peers, circle.comparing) {
        (0, 0, _) if circle.partners == 1 => return "no other partner belongs to it".to_owned(),
        (0, 0, _) if circle.silent.is_empty() && circle.unreachable.is_empty() && !circle.not_joined.is_empty() => {
            return format!("nobody else joined yet; waits for {}", some(&circle.not_joined));
        }
        (0, 0, _) => return format!("nobody of it is connected{others}"),
        (0, _, 0) => "in sync".to_owned(),
        (0, _, comparing) => format!("comparing with {comparing} of {}", circle.peers),
        (behind, ..) => format!("{behind} behind"),
    };
    let not_connected = said("not connected", &circle.unreachable);
    match others.is_empty() && not_connected.is_empty() {
        true => known,
        false => format!("{known} with {} connected{others}{not_connected}", circle.peers),
    }
}

/// Some names, and how many more.
fn some(names: &[String]) -> String {
    let mut named: Vec<String> = names.iter().take(NAMED).map(|name| show::line(name)).collect();
    if let Some(more @ 1..) = names.len().checked_sub(NAMED) {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

fn page(status: &Status, now: u64, ink: show::Ink) -> String {
    let certificate = &status.certificate;
    let left = certificate.not_after.saturating_sub(now);
    let standing = match certificate.standing.as_str() {
        "valid" => format!("valid for {} more", show::span(left)),
        "grace" => {
            let expired = show::ago(now, certificate.not_after);
            ink.amber(&format!("EXPIRED {expired}, accepted for 30 days after that"))
        }
        other => ink.amber(&show::line(other).to_uppercase()),
    };
    let word = match status.issuer_word {
        None => ink.amber("nothing heard yet"),
        Some(at) if now.saturating_sub(at) > WORD_WARNS_AFTER_MS => ink.amber(&show::ago(now, at)),
        Some(at) => show::ago(now, at),
    };
    let running = show::span(now.saturating_sub(status.since));
    let listening = if status.listening.is_empty() { "nowhere".to_owned() } else { status.listening.join(", ") };
    let peers = match status.offline {
        true => "none: offline, as its configuration says".to_owned(),
        false => format!("{} connected", status.peers),
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("partner", format!("{} ({})", show::line(&status.partner_name), status.partner)),
        row("node", status.node.clone()),
        row("fingerprint", status.fingerprint.clone()),
        row("network", format!("{} ({})", show::line(&status.network_name), show::short(&status.network))),
        row("certificate", format!("{standing}, serial {}", certificate.serial)),
        row("root document", format!("version {}", status.root_version)),
        row("issuer's word", word),
        row("running", format!("{running}, process {}, version {}", status.pid, status.version)),
        row("listening", listening),
        row("peers", peers),
        row("data", show::line(&status.data)),
    ];
    if status.drafts > 0 {
        let drafts = match status.drafts_for_a_person {
            0 => format!("{} kept, not yet sealed; see `cwn drafts`", status.drafts),
            some => ink.amber(&format!("{} kept, {some} of them wait for you; see `cwn drafts`", status.drafts)),
        };
        rows.push(row("drafts", drafts));
    }
    if status.read_only {
        rows.push(row("store", ink.amber("READ-ONLY")));
    }
    let mut shown = show::table(&rows);
    if !status.circles.is_empty() {
        shown.push_str("\nCircles\n");
        let circle = |circle: &CircleSummary| {
            vec![
                format!("  {}", show::line(&circle.name)),
                show::count(circle.partners as u64, "partner", "partners"),
                show::count(circle.entries, "entry", "entries"),
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
        shown.push_str(&format!("\n{} {}\n", ink.amber("WARNING:"), show::line(warning)));
    }
    shown
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::types::{CertificateStatus, OfferSummary};

    const DAY_MS: u64 = 24 * 3_600_000;
    const NOW: u64 = 100 * DAY_MS;

    pub(in crate::cli) fn circle(name: &str) -> CircleSummary {
        CircleSummary {
            id: "aed0b435255200ff".to_owned(),
            name: name.to_owned(),
            ceiling: "TLP:AMBER".to_owned(),
            partners: 3,
            entries: 12,
            member: true,
            steward: false,
            current: true,
            unheard: Vec::new(),
            behind: 0,
            peers: 2,
            comparing: 0,
            withheld_entries: 0,
            revoked_nodes: 0,
            nodes_over_quota: 0,
            unreachable: Vec::new(),
            silent: Vec::new(),
            not_joined: Vec::new(),
            removable: true,
        }
    }

    fn status() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            pid: 42,
            since: NOW - 180_000,
            node: "86ed6ed0c5b79f61".to_owned(),
            fingerprint: "kalkoen fazant tafel klei".to_owned(),
            partner: "ferm".to_owned(),
            partner_name: "FERM".to_owned(),
            network: "25e8eb9ba8b8f2248be2".to_owned(),
            network_name: "My network".to_owned(),
            certificate: CertificateStatus {
                serial: 3,
                not_before: NOW - DAY_MS,
                not_after: NOW + 29 * DAY_MS,
                standing: "valid".to_owned(),
            },
            issuer_word: Some(NOW - 63_000),
            root_version: 1,
            listening: vec!["/ip4/127.0.0.1/tcp/4021".to_owned()],
            peers: 2,
            offline: false,
            live_frames: 0,
            live_bytes: 0,
            handlers_built: 2,
            circles: vec![circle("haven"), CircleSummary { behind: 4, ..circle("zorg") }],
            offers: Vec::new(),
            drafts: 0,
            drafts_for_a_person: 0,
            data: "ferm".to_owned(),
            warnings: Vec::new(),
            read_only: false,
        }
    }

    #[test]
    fn a_node_in_order_is_one_calm_page() {
        let expected = "\
partner        FERM (ferm)
node           86ed6ed0c5b79f61
fingerprint    kalkoen fazant tafel klei
network        My network (25e8eb9ba8b8)
certificate    valid for 29 days more, serial 3
root document  version 1
issuer's word  63 seconds ago
running        3 minutes, process 42, version 0.1.0
listening      /ip4/127.0.0.1/tcp/4021
peers          2 connected
data           ferm

Circles
  haven  3 partners  12 entries  in sync
  zorg   3 partners  12 entries  4 behind
";
        assert_eq!(page(&status(), NOW, show::Ink::Plain), expected);
    }

    #[test]
    fn what_needs_a_look_is_amber_on_a_terminal_and_said_in_words_without_one() {
        let mut status = status();
        status.certificate.not_after = NOW - 3 * DAY_MS;
        status.certificate.standing = "grace".to_owned();
        status.issuer_word = Some(NOW - 2 * DAY_MS);
        status.read_only = true;
        status.warnings = vec!["the certificate expired".to_owned()];
        let plain = page(&status, NOW, show::Ink::Plain);
        assert!(plain.contains("EXPIRED 3 days ago, accepted for 30 days after that, serial 3"), "{plain}");
        assert!(plain.contains("READ-ONLY") && plain.contains("\nWARNING: the certificate expired\n"), "{plain}");
        assert!(!plain.contains('\x1b'), "{plain}");
        let coloured = page(&status, NOW, show::Ink::Colour);
        assert_eq!(coloured.matches("\x1b[33m").count(), 4, "{coloured}");
    }

    #[test]
    fn a_node_that_is_kept_offline_says_so_and_not_that_nobody_is_there() {
        let page = page(&Status { peers: 0, offline: true, ..status() }, NOW, show::Ink::Plain);
        assert!(page.contains("\npeers          none: offline, as its configuration says\n"), "{page}");
    }

    #[test]
    fn drafts_are_counted_and_those_that_wait_for_a_person_stand_out() {
        let page_of = |drafts, drafts_for_a_person| {
            page(&Status { drafts, drafts_for_a_person, ..status() }, NOW, show::Ink::Colour)
        };
        assert!(!page_of(0, 0).contains("drafts"));
        let waiting = page_of(2, 0);
        assert!(waiting.contains("2 kept, not yet sealed; see `cwn drafts`") && !waiting.contains('\x1b'), "{waiting}");
        assert!(page_of(2, 1).contains("\x1b[33m2 kept, 1 of them wait for you"));
    }

    #[test]
    fn a_circle_says_whom_it_waits_for_and_never_in_sync_when_nobody_is_there() {
        let waiting = CircleSummary { current: false, unheard: vec!["ncsc".to_owned()], ..circle("haven") };
        assert_eq!(circle_state(&waiting), "not current yet: waits for ncsc");
        assert_eq!(circle_state(&CircleSummary { peers: 0, ..circle("haven") }), "nobody of it is connected");
        assert_eq!(circle_state(&CircleSummary { member: false, ..circle("haven") }), "no longer a member");
    }

    #[test]
    fn a_circle_is_in_sync_without_more_only_when_somebody_of_every_partner_is_connected() {
        assert_eq!(circle_state(&circle("haven")), "in sync");
        let comparing = CircleSummary { comparing: 1, ..circle("haven") };
        assert_eq!(circle_state(&comparing), "comparing with 1 of 2");
        let cut_off = |names: &[&str], behind| {
            let unreachable = names.iter().map(|name| (*name).to_owned()).collect();
            circle_state(&CircleSummary { unreachable, behind, ..circle("haven") })
        };
        assert_eq!(cut_off(&["ferm"], 0), "in sync with 2 connected; not connected: ferm");
        assert_eq!(cut_off(&["a", "b", "c"], 4), "4 behind with 2 connected; not connected: a, b, c");
        assert_eq!(
            cut_off(&["a", "b", "c", "d", "e", "f", "g"], 0),
            "in sync with 2 connected; not connected: a, b, c, d, e, 2 more"
        );
    }

    #[test]
    fn a_circle_about_which_the_connected_are_silent_says_so_and_what_that_may_mean() {
        let silent = vec!["ferm".to_owned(), "ncsc".to_owned()];
        let some = CircleSummary { silent: silent.clone(), peers: 1, ..circle("haven") };
        assert_eq!(circle_state(&some), "in sync with 1 connected; connected and silent about it: ferm, ncsc");
        let all = CircleSummary { peers: 0, ..some };
        let means = "connected and silent about it: ferm, ncsc; you may have been removed: ask a steward";
        assert_eq!(circle_state(&all), format!("nobody of it is connected; {means}"));
        let founder = circle_state(&CircleSummary { removable: false, ..all.clone() });
        assert_eq!(founder, "nobody of it is connected; connected and silent about it: ferm, ncsc");
        let waiting = CircleSummary { current: false, unheard: silent, ..all };
        assert_eq!(circle_state(&waiting), format!("not current yet: waits for ferm, ncsc; {means}"));
    }

    #[test]
    fn a_founder_hears_that_it_is_alone_or_who_has_not_joined_yet_and_not_that_it_was_removed() {
        let founded = CircleSummary { steward: true, removable: false, peers: 0, ..circle("haven") };
        let alone = CircleSummary { partners: 1, ..founded.clone() };
        assert_eq!(circle_state(&alone), "no other partner belongs to it");
        let offered = CircleSummary { not_joined: vec!["ferm".to_owned(), "ncsc".to_owned()], ..founded };
        assert_eq!(circle_state(&offered), "nobody else joined yet; waits for ferm, ncsc");
        let one_joined = CircleSummary { not_joined: vec!["ferm".to_owned()], ..offered.clone() };
        let shared = CircleSummary { peers: 1, ..one_joined.clone() };
        assert_eq!(circle_state(&shared), "in sync with 1 connected; not joined yet: ferm");
        let away = CircleSummary { unreachable: vec!["ncsc".to_owned()], ..one_joined };
        assert_eq!(circle_state(&away), "nobody of it is connected; not joined yet: ferm");
        let restarted = CircleSummary { current: false, unheard: offered.not_joined.clone(), ..offered };
        let said = circle_state(&restarted);
        assert_eq!(said, "not current yet: waits for ferm, ncsc; not joined yet: ferm, ncsc");
    }

    #[test]
    fn an_offer_says_how_to_join_and_its_name_moves_no_cursor() {
        let mut status = status();
        status.offers = vec![OfferSummary {
            id: "0123456789abcdef".to_owned(),
            name: "zorg\x1b[2J".to_owned(),
            founder: "z-cert".to_owned(),
            partners: Vec::new(),
            from: Vec::new(),
            description: String::new(),
            ceiling: "TLP:AMBER".to_owned(),
            succeeds: None,
        }];
        let page = page(&status, NOW, show::Ink::Plain);
        assert!(page.ends_with("\nOffered: zorg\u{FFFD}[2J by z-cert; join with `cwn circle accept 0123456789ab`\n"));
    }
}
