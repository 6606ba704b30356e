//! What a life is made from: its seed and its measures.

use std::fmt;

use clap::ValueEnum;

use crate::{malicious::Kind, scenario::Scenario};

/// Everything that decides a life, for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) hours: u64,
    /// Of a hundred nodes so many are malicious.
    pub(crate) malicious_percent: u64,
    /// What all of those do; each something of its own when it is not said.
    pub(crate) malice: Option<Kind>,
    pub(crate) scenario: Scenario,
    /// What was left out of the scenario.
    pub(crate) left_out: Vec<Trouble>,
}

/// A kind of trouble that can be left out of a life, to see what a failure needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trouble {
    /// Processes that are killed, and power that fails
    Kills,
    /// Partitions, and ways that are cut in one direction
    Partitions,
    /// Connections that break, and queues that are full
    Drops,
    /// Clocks that differ and jump
    Clocks,
    /// Disks that rot, are full or slow
    Disks,
    /// Old backups that are put back, and machines that run twice
    Backups,
    /// Revoked nodes
    Revocations,
    /// Removed partners
    Removals,
    /// Stewards that come and go, and policies
    Stewards,
    /// Cuts that are raised
    Raises,
    /// Circles that go on for others
    Successions,
    /// Circles that are carried in files
    Files,
    /// Versions of the root document
    Roots,
    /// Circles that are founded later
    Foundings,
    /// Entries that expire, and circles that keep them for a while
    Expiry,
    /// Nodes that are stopped for a while
    Stops,
    /// Malicious members
    Malice,
}

impl Plan {
    /// A plan that leaves nothing out.
    pub(crate) fn new(nodes: usize, hours: u64, malicious_percent: u64, scenario: Scenario) -> Self {
        Self { seed: 0, nodes, hours, malicious_percent, malice: None, scenario, left_out: Vec::new() }
    }

    /// The same without one kind of trouble. What is a deed is drawn all the same, and not done, so that everything else
    /// stays as it was.
    pub(crate) fn without(mut self, trouble: Trouble) -> Self {
        let Scenario { people, faults, .. } = &mut self.scenario;
        match trouble {
            Trouble::Partitions => self.scenario.split_minutes = 0,
            Trouble::Clocks => faults.clock_skew_ms = 0,
            Trouble::Disks => faults.slow_sync_per_mille = 0,
            Trouble::Expiry => (people.expiring_per_mille, people.retention) = (0, false),
            Trouble::Malice => self.malicious_percent = 0,
            Trouble::Kills
            | Trouble::Drops
            | Trouble::Backups
            | Trouble::Revocations
            | Trouble::Removals
            | Trouble::Stewards
            | Trouble::Raises
            | Trouble::Successions
            | Trouble::Files
            | Trouble::Roots
            | Trouble::Foundings
            | Trouble::Stops => {}
        }
        self.left_out.push(trouble);
        self
    }

    /// Whether it leaves this out already.
    pub(crate) fn lacks(&self, trouble: Trouble) -> bool {
        self.left_out.contains(&trouble)
    }
}

/// As the command line takes it, but for the scenario, which a plan knows no name of.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, hours, malicious_percent, .. } = self;
        write!(f, "--seed {seed} --nodes {nodes} --hours {hours} --malicious {malicious_percent}%")?;
        if let Some(kind) = self.malice.and_then(|kind| kind.to_possible_value()) {
            write!(f, " --malice {}", kind.get_name())?;
        }
        for trouble in &self.left_out {
            let name = trouble.to_possible_value();
            write!(f, " --without {}", name.as_ref().map_or("", |name| name.get_name()))?;
        }
        Ok(())
    }
}
