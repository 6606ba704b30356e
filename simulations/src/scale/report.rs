//! What was measured, as a table, and which numbers do not hold.

use std::fmt;

use super::Traffic;

/// The most that an idle membership in a circle may take.
const MEMBERSHIP_BYTES: usize = 64 << 10;
/// The most that the whole run may take.
const RUN_BYTES: usize = 8 << 30;
/// A revocation is with 99 of 100 nodes within so much.
const REVOKED_MS: u64 = 60_000;
/// What a node costs may grow by so much, from the smallest network to the largest.
const GROWTH: usize = 2;

/// How long something took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spread {
    /// In milliseconds, the shortest first.
    took: Vec<u64>,
    /// How many never came.
    missing: usize,
}

impl Spread {
    pub(crate) fn of(mut took: Vec<u64>, missing: usize) -> Self {
        took.sort_unstable();
        Self { took, missing }
    }

    fn percentile(&self, of_hundred: usize) -> Option<u64> {
        let all = self.took.len() + self.missing;
        self.took.get((all * of_hundred).div_ceil(100).saturating_sub(1)).copied()
    }
}

/// Median, 99 of 100, and the last.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |of_hundred| match self.percentile(of_hundred) {
            Some(ms) => format!("{}.{:02}", ms / 1_000, ms % 1_000 / 10),
            None => "never".to_owned(),
        };
        f.pad(&format!("{} / {} / {}", seconds(50), seconds(99), seconds(100)))
    }
}

/// One size of network.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) nodes: usize,
    pub(crate) circles: usize,
    /// Bytes of an engine with its sessions, all idle.
    pub(crate) memory: usize,
    /// Those of them that name the certificates, which themselves lie in memory once for the whole run.
    pub(crate) certificates: usize,
    /// What a node by itself takes for the network circle, the certificates included.
    pub(crate) alone: usize,
    /// Bytes of an idle membership in a circle, with the sessions that it brings.
    pub(crate) membership: usize,
    /// What a node sends in an hour in which nothing happens.
    pub(crate) idle: Traffic,
    /// What an entry costs for each who gets it.
    pub(crate) entry: Traffic,
    /// Members that were not in sync after all had connected.
    pub(crate) behind: usize,
    /// Until an entry is with every member.
    pub(crate) entries: Spread,
    /// Until a revocation is with a node.
    pub(crate) revocations: Spread,
    /// Until a newcomer belongs and has everything.
    pub(crate) joined_ms: Option<u64>,
    pub(crate) simulated_ms: u64,
}

/// All sizes.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// The most memory that the run took.
    pub(crate) peak: Option<usize>,
}

impl Report {
    /// The numbers that do not hold.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for row in &self.rows {
            let mut expect = |holds: bool, what: String| {
                if !holds {
                    broken.push(format!("{} nodes: {what}", row.nodes));
                }
            };
            expect(row.behind == 0, format!("{} members were not in sync when all had connected", row.behind));
            expect(
                row.membership <= MEMBERSHIP_BYTES,
                format!("an idle membership takes {}, more than 64 KiB", kib(row.membership)),
            );
            let missing = row.entries.missing;
            expect(missing == 0, format!("{missing} entries never came to all members"));
            let missing = row.revocations.missing;
            expect(missing == 0, format!("{missing} times a node never heard of a revocation"));
            let late = row.revocations.percentile(99).is_none_or(|ms| ms > REVOKED_MS);
            expect(!late, "revocations are not with 99 of 100 nodes within 60 s".to_owned());
            expect(row.joined_ms.is_some(), "a newcomer never got what its circle wrote".to_owned());
        }
        if let (Some(small), Some(large)) = (self.rows.first(), self.rows.last()) {
            for ((name, small), (_, large)) in small.costs().into_iter().zip(large.costs()) {
                if large > small * GROWTH {
                    broken.push(format!("{name} grew from {small} to {large}, more than {GROWTH} times"));
                }
            }
        }
        if self.peak.is_some_and(|peak| peak > RUN_BYTES) {
            broken.push("the run took more than 8 GiB".to_owned());
        }
        broken
    }

    /// How long was simulated.
    pub(crate) fn simulated_ms(&self) -> u64 {
        self.rows.iter().map(|row| row.simulated_ms).sum()
    }
}

impl Row {
    /// What a node costs, for the same work in a network of any size.
    fn costs(&self) -> [(&'static str, usize); 5] {
        [
            ("memory beside the certificates", self.memory.saturating_sub(self.certificates)),
            ("idle messages", self.idle.messages as usize),
            ("idle bytes", self.idle.bytes as usize),
            ("messages for an entry", self.entry.messages as usize),
            ("bytes for an entry", self.entry.bytes as usize),
        ]
    }
}

fn kib(bytes: usize) -> String {
    format!("{}.{} KiB", bytes >> 10, ((bytes & 1_023) * 10) >> 10)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, what: &str, of: &dyn Fn(&Row) -> String| {
            write!(f, "{what:<47}")?;
            self.rows.iter().try_for_each(|row| write!(f, " {:>22}", of(row)))?;
            writeln!(f)
        };
        line(f, "nodes", &|row| row.nodes.to_string())?;
        line(f, "circles, of 30 nodes each", &|row| row.circles.to_string())?;
        line(f, "memory of a node, idle, beside certificates", &|row| kib(row.memory - row.certificates))?;
        line(f, "its lists of the certificates of all", &|row| kib(row.certificates))?;
        line(f, "certificates and lists in a node by itself", &|row| kib(row.alone))?;
        line(f, "memory of an idle membership in a circle", &|row| kib(row.membership))?;
        line(f, "an idle node sends in an hour: messages", &|row| row.idle.messages.to_string())?;
        line(f, "  KiB", &|row| (row.idle.bytes >> 10).to_string())?;
        line(f, "an entry of 1 kB, for each receiver: messages", &|row| row.entry.messages.to_string())?;
        line(f, "  bytes", &|row| row.entry.bytes.to_string())?;
        line(f, "an entry is with all, s: p50 / p99 / max", &|row| row.entries.to_string())?;
        line(f, "a revocation is with a node, s: p50 / p99 / max", &|row| row.revocations.to_string())?;
        let joined =
            |row: &Row| row.joined_ms.map_or("never".to_owned(), |ms| format!("{}.{}", ms / 1_000, ms % 1_000 / 100));
        line(f, "a newcomer belongs and has everything, s", &joined)?;
        if let Some(peak) = self.peak {
            writeln!(f, "most memory the run had of the system: {} MiB", peak >> 20)?;
        }
        write!(
            f,
            "Memory is what engines asked the allocator for, sessions included and disks not, the mean of 40 nodes. The\n\
             certificates of all are what the size of the network makes every node know; in this run the nodes share one\n\
             copy of each, and a node by itself has its own. Messages are frames and runs, on whatever stream."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(nodes: usize) -> Row {
        Row {
            nodes,
            circles: nodes / 10,
            memory: 200 << 10,
            certificates: nodes * 40,
            alone: nodes * 600,
            membership: 50 << 10,
            idle: Traffic { messages: 3_000, bytes: 150_000 },
            entry: Traffic { messages: 7, bytes: 2_000 },
            behind: 0,
            entries: Spread::of(vec![900; 100], 0),
            revocations: Spread::of(vec![2_000; 100], 0),
            joined_ms: Some(1_000),
            simulated_ms: 3_600_000,
        }
    }

    fn violations(large: Row) -> Vec<String> {
        Report { rows: vec![row(50), large], peak: Some(4 << 30) }.violations()
    }

    fn expect_one(large: Row, says: &str) {
        let violations = violations(large);
        assert!(violations.len() == 1 && violations[0].contains(says), "{says}: {violations:?}");
    }

    #[test]
    fn numbers_that_hold_are_no_violation_though_certificates_grow_with_the_network() {
        assert_eq!(violations(row(1_000)), Vec::<String>::new());
    }

    #[test]
    fn each_number_that_does_not_hold_is_told() {
        expect_one(Row { membership: 65 << 10, ..row(500) }, "idle membership");
        expect_one(Row { behind: 1, ..row(500) }, "not in sync");
        expect_one(Row { entries: Spread::of(vec![900; 99], 1), ..row(500) }, "1 entries never");
        expect_one(Row { joined_ms: None, ..row(500) }, "newcomer");
        expect_one(Row { memory: 500 << 10, ..row(500) }, "memory beside the certificates");
        expect_one(Row { idle: Traffic { messages: 7_000, bytes: 150_000 }, ..row(500) }, "idle messages");
        let late = Spread::of([vec![2_000; 98], vec![61_000; 2]].concat(), 0);
        expect_one(Row { revocations: late, ..row(500) }, "within 60 s");
        let report = Report { rows: vec![row(50)], peak: Some((8 << 30) + 1) };
        assert_eq!(report.violations(), ["the run took more than 8 GiB"]);
    }

    #[test]
    fn one_of_a_hundred_may_be_late() {
        let late = Spread::of([vec![2_000; 99], vec![100_000]].concat(), 0);
        assert_eq!(late.to_string(), "2.00 / 2.00 / 100.00");
        assert_eq!(violations(Row { revocations: late, ..row(500) }), Vec::<String>::new());
    }
}
