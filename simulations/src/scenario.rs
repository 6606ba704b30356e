//! Scenarios: how often what happens, as files that anybody can write.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// The scenarios that come with the program.
const SUPPLIED: [(&str, &str); 8] = [
    ("expiry", include_str!("../scenarios/expiry.toml")),
    ("mixed", include_str!("../scenarios/mixed.toml")),
    ("partition72h", include_str!("../scenarios/partition72h.toml")),
    ("retention", include_str!("../scenarios/retention.toml")),
    ("revocation", include_str!("../scenarios/revocation.toml")),
    ("rot", include_str!("../scenarios/rot.toml")),
    ("scale", include_str!("../scenarios/scale.toml")),
    ("without-coordinator", include_str!("../scenarios/without-coordinator.toml")),
];

/// One scenario. All rates are events in the whole network in a thousand simulated hours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it is for, in a line.
    pub(crate) about: String,
    /// Circles that are founded right at the start.
    pub(crate) circles: u64,
    /// Whether everybody is in those.
    #[serde(default)]
    pub(crate) with_everybody: bool,
    /// The most circles there will be.
    pub(crate) most_circles: u64,
    /// Simulated minutes from one calm to the next; in a calm all faults end and all must agree.
    pub(crate) calm_every_minutes: u64,
    /// Within so many simulated minutes after faults ended, all must agree.
    pub(crate) calm_minutes: u64,
    /// For so many minutes of every stretch between calms the network is in two halves.
    pub(crate) split_minutes: u64,
    /// The coordinator's node never runs, and no issuer says anything.
    pub(crate) without_coordinator: bool,
    pub(crate) people: People,
    pub(crate) faults: Faults,
    pub(crate) network: Ways,
}

/// What people do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct People {
    pub(crate) publish: u64,
    pub(crate) publish_to_some: u64,
    pub(crate) found: u64,
    pub(crate) add: u64,
    pub(crate) remove: u64,
    pub(crate) appoint: u64,
    pub(crate) dismiss: u64,
    pub(crate) policy: u64,
    /// Cuts of removals that are raised, circles that go on for another, circles that are carried in files, and versions
    /// of the root document.
    #[serde(default)]
    pub(crate) raise: u64,
    #[serde(default)]
    pub(crate) succeed: u64,
    #[serde(default)]
    pub(crate) hand: u64,
    #[serde(default)]
    pub(crate) root: u64,
    pub(crate) revoke: u64,
    pub(crate) stop: u64,
    pub(crate) backup: u64,
    pub(crate) restore: u64,
    pub(crate) clone: u64,
    /// Of a thousand entries so many expire within a day.
    #[serde(default)]
    pub(crate) expiring_per_mille: u64,
    /// Whether every other charter, and every other policy, keeps what is published for a day.
    #[serde(default)]
    pub(crate) retention: bool,
    /// Every node with a number that this divides is the second of the partner before it; 0 for none.
    #[serde(default)]
    pub(crate) second_node_every: usize,
    /// The longest payload, in bytes.
    pub(crate) longest_bytes: u64,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Faults {
    pub(crate) kill: u64,
    pub(crate) power_loss: u64,
    pub(crate) connection_drop: u64,
    /// Queues of frames to a peer that are full for up to a minute, so that most of what is said to it is lost.
    #[serde(default)]
    pub(crate) full_queue: u64,
    pub(crate) partition: u64,
    /// A partition lasts up to so many minutes.
    pub(crate) partition_minutes: u64,
    pub(crate) one_way_cut: u64,
    pub(crate) clock_jump: u64,
    /// A clock jumps by up to so many seconds, back or forth.
    pub(crate) clock_jump_seconds: u64,
    /// Clocks differ by up to so many milliseconds, from the start and from each calm on.
    pub(crate) clock_skew_ms: u64,
    /// Entries.
    pub(crate) rot: u64,
    /// Epoch records.
    pub(crate) rot_record: u64,
    /// What a node noted for itself.
    pub(crate) rot_fact: u64,
    pub(crate) disk_full: u64,
    /// Of a thousand syncs, and of a thousand seals, so many take seconds.
    pub(crate) slow_sync_per_mille: u64,
}

/// How messages travel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ways {
    pub(crate) latency_ms: [u64; 2],
    pub(crate) jitter_ms: u64,
    pub(crate) bytes_per_ms: [u64; 2],
    /// Of a thousand directions so many are slow: half a second and more.
    pub(crate) slow_per_mille: u64,
}

impl Scenario {
    /// One of the supplied scenarios, or a file.
    pub(crate) fn find(name: &str) -> anyhow::Result<Self> {
        Self::altered(name, &[])
    }

    /// As [`Self::find`], where some of what it says is otherwise, such as `faults.rot=9000`.
    pub(crate) fn altered(name: &str, changes: &[String]) -> anyhow::Result<Self> {
        if let Some((_, text)) = SUPPLIED.iter().find(|(known, _)| *known == name) {
            return Self::parse(text, changes).with_context(|| format!("the supplied scenario {name}"));
        }
        if !Path::new(name).exists() {
            let known: Vec<&str> = SUPPLIED.iter().map(|(known, _)| *known).collect();
            bail!("there is no scenario {name}, nor a file of that name; supplied are {}", known.join(", "));
        }
        let text = std::fs::read_to_string(name).with_context(|| format!("reading {name}"))?;
        Self::parse(&text, changes).with_context(|| format!("{name}; compare it with simulations/scenarios/mixed.toml"))
    }

    fn parse(text: &str, changes: &[String]) -> anyhow::Result<Self> {
        // What is wrong in the file itself is told with its line.
        let mut scenario: Self = toml::from_str(text)?;
        if !changes.is_empty() {
            let mut table: toml::Table = toml::from_str(text)?;
            for change in changes {
                alter(&mut table, change).with_context(|| format!("--with {change}"))?;
            }
            scenario = table.try_into()?;
        }
        if scenario.calm_every_minutes == 0 || scenario.calm_minutes == 0 {
            bail!("calm_every_minutes and calm_minutes must be at least 1");
        }
        if scenario.network.latency_ms[0] == 0 || scenario.network.bytes_per_ms[0] == 0 {
            bail!("network.latency_ms and network.bytes_per_ms must start at 1 or more");
        }
        Ok(scenario)
    }
}

/// Says something otherwise, as `part.name=value` or `name=value`.
fn alter(scenario: &mut toml::Table, change: &str) -> anyhow::Result<()> {
    let (name, value) = change.split_once('=').context("what is otherwise is given as in faults.rot=9000")?;
    let value = format!("value = {value}").parse::<toml::Table>()?.remove("value").context("there is no value")?;
    let (table, name) = match name.split_once('.') {
        Some((part, name)) => {
            let part = scenario.get_mut(part).and_then(toml::Value::as_table_mut);
            (part.context("a scenario has the parts people, faults and network")?, name)
        }
        None => (scenario, name),
    };
    table.insert(name.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supplied_scenario_parses_and_says_what_it_is_for() {
        for (name, _) in SUPPLIED {
            assert!(!Scenario::find(name).unwrap().about.is_empty());
        }
    }

    #[test]
    fn a_scenario_that_is_not_there_is_told_with_those_that_are() {
        let refusal = Scenario::find("mixd").unwrap_err().to_string();
        assert!(refusal.contains("mixed"), "{refusal}");
    }

    #[test]
    fn a_word_that_a_scenario_does_not_know_is_refused() {
        let text = include_str!("../scenarios/mixed.toml").replace("publish = ", "publsh = ");
        let refusal = format!("{:#}", Scenario::parse(&text, &[]).unwrap_err());
        assert!(refusal.contains("publsh"), "{refusal}");
    }

    #[test]
    fn what_a_scenario_says_is_otherwise_where_it_is_told_so_and_nowhere_else() {
        let altered = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            Scenario::altered("mixed", &changes)
        };
        let mut expected = Scenario::find("mixed").unwrap();
        (expected.faults.rot, expected.calm_minutes) = (9_000, 7);
        assert_eq!(altered(&["faults.rot=9000", "calm_minutes=7"]).unwrap(), expected);
        for (change, told) in [
            ("faults.rost=1", "rost"),
            ("faults.rot", "faults.rot=9000"),
            ("flaws.rot=1", "people, faults and network"),
            ("faults.rot=many", "faults.rot=many"),
            ("calm_minutes=0", "at least 1"),
        ] {
            let refusal = format!("{:#}", altered(&[change]).unwrap_err());
            assert!(refusal.contains(told), "{change}: {refusal}");
        }
    }
}
