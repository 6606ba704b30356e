//! What happened: a hash over all of it, and the last lines of it for people.

use std::{collections::VecDeque, fmt};

use cwn_crypto::Time;
use sha2::{Digest, Sha256};

/// Hashes every event, and keeps the last lines when somebody wants to read them.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Sha256,
    events: u64,
    keep: usize,
    lines: VecDeque<String>,
    start: Time,
}

impl Trace {
    /// A trace that keeps so many lines.
    pub(crate) fn new(start: Time, keep: usize) -> Self {
        Self { hash: Sha256::new(), events: 0, keep, lines: VecDeque::new(), start }
    }

    /// Something happened, with the bytes that make it what it is.
    pub(crate) fn event(&mut self, at: Time, kind: u8, node: usize, bytes: &[u8]) {
        self.events += 1;
        self.hash.update([kind]);
        self.hash.update(at.0.to_be_bytes());
        self.hash.update((node as u64).to_be_bytes());
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    /// A line for people; it is made only when it will be kept.
    pub(crate) fn tell(&mut self, at: Time, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{} {}", Since(at.since(self.start)), line()));
    }

    /// The lines that were kept.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &String> {
        self.lines.iter()
    }

    /// How many events there were, and the hash over them.
    pub(crate) fn end(&self) -> (u64, [u8; 32]) {
        (self.events, self.hash.clone().finalize().into())
    }
}

/// Simulated milliseconds since the start of a life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(pub(crate) u64);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1_000, self.0 % 1_000);
        write!(f, "{:03}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}
