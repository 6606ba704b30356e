//! What was measured and whether it holds: said as it happens, and as a table at the end.

use std::time::Duration;

/// One line of the table.
#[derive(Debug)]
struct Line {
    what: String,
    measured: String,
    limit: String,
    holds: bool,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Line>);

impl Report {
    fn line(&mut self, what: &str, measured: String, limit: String, holds: bool) {
        eprintln!("  {} {what}: {measured}", if holds { "ok" } else { "NO" });
        self.0.push(Line { what: what.to_owned(), measured, limit, holds });
    }

    /// Something that takes a while; nothing when it never came about.
    pub(crate) fn took(&mut self, what: &str, took: Option<Duration>, most: Duration) {
        let measured = took.map_or_else(|| "never".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
        let holds = took.is_some_and(|took| took <= most);
        self.line(what, measured, format!("<= {} s", most.as_secs()), holds);
    }

    /// Something that must not be.
    pub(crate) fn none(&mut self, what: &str, count: usize) {
        self.line(what, count.to_string(), "0".to_owned(), count == 0);
    }

    /// Something without which the rest proves nothing.
    pub(crate) fn some(&mut self, what: &str, count: usize) {
        self.line(what, count.to_string(), ">= 1".to_owned(), count > 0);
    }

    /// Prints the table. Whether all of it holds.
    pub(crate) fn print(&self) -> bool {
        println!("\n{:<84} {:>9}  {:<9} holds", "what", "measured", "limit");
        for Line { what, measured, limit, holds } in &self.0 {
            println!("{what:<84} {measured:>9}  {limit:<9} {}", if *holds { "yes" } else { "NO" });
        }
        let hold = self.0.iter().filter(|line| line.holds).count();
        println!("hosts: {hold} of {} hold", self.0.len());
        hold == self.0.len()
    }
}
