//! The verdict on a stored entry: a pure function of entries and epoch records.
//!
//! No clock, expiry, revocation of a member, phase or order of arrival enters it, so all members that hold
//! the same end with the same. What an entry says of itself (its links, its epoch, whether an operation
//! comes from a steward) is settled before it is stored and never changes; what is left, and may change as
//! control operations arrive, is who counts and where a cut lies.

use std::collections::BTreeMap;

use cwn_crypto::{
    PublicKey,
    issuer_log::{CutLine, LogId},
};

use crate::{
    circle::cut_reach,
    log::{LogKind, Under},
    replica::{Replica, Rule},
};

/// What a member makes of an entry it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Accepted,
    /// Its author does not count, and no removal says how far it did. Later operations may decide.
    Pending,
    /// It lies beyond the cut of its author's removal.
    Withheld,
}

/// How far into one log the verdict is "accepted".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All of it, however long it grows.
    All,
    /// So many entries; what lies beyond is withheld.
    Cut(u64),
    /// Nothing for now.
    Undecided,
}

impl Reach {
    /// How many of `height` entries are accepted.
    pub fn of(self, height: u64) -> u64 {
        match self {
            Self::All => height,
            Self::Cut(cut) => cut.min(height),
            Self::Undecided => 0,
        }
    }
}

/// The verdict on the entry at `seq` of a log that `replica` holds.
pub fn verdict(replica: &Replica, author: &PublicKey, log: &LogId, seq: u64) -> Verdict {
    match reach(replica, author, log) {
        Reach::All => Verdict::Accepted,
        Reach::Cut(cut) if seq < cut => Verdict::Accepted,
        Reach::Cut(_) => Verdict::Withheld,
        Reach::Undecided => Verdict::Pending,
    }
}

/// How far a log is accepted. A log that is not held is undecided, unless a cut reaches into it.
pub fn reach(replica: &Replica, author: &PublicKey, log: &LogId) -> Reach {
    let held = replica.log(author, log);
    // Operations are never cut off: what is void among them the fold decides, and others may build on it.
    if held.is_some_and(|held| held.kind == LogKind::Control) {
        return Reach::All;
    }
    let under = held.map(|held| held.opening.under);
    reach_under(replica, author, log, under.as_ref())
}

/// How many of `height` entries of a log would be accepted if they came, as far as can be told while the log is
/// not held: all of an author that counts, else what any cut of its removals reaches.
pub fn hope(replica: &Replica, author: &PublicKey, log: &LogId, height: u64) -> u64 {
    if replica.log(author, log).is_some() {
        return reach(replica, author, log).of(height);
    }
    if replica.counts(author) {
        return height;
    }
    let cites = |log: &LogId| replica.log(author, log).map(|held| held.opening.cites.as_slice());
    let reached = |cut: &[CutLine]| cut_reach(cut, cites).get(log).copied().unwrap_or(0).min(height);
    match &replica.rule {
        Rule::Network { word, .. } => word.revocation(author).map_or(0, |revoked| reached(&revoked.cut)),
        Rule::Closed(control) => control.cuts_of(replica.fold(), author).into_iter().map(reached).max().unwrap_or(0),
    }
}

/// As [`reach`], for a log whose opening is known, though it may not be held yet.
pub fn reach_under(replica: &Replica, author: &PublicKey, log: &LogId, under: Option<&Under>) -> Reach {
    let reached = |cut| {
        let cites = |log: &LogId| replica.log(author, log).map(|held| held.opening.cites.as_slice());
        let reach: BTreeMap<LogId, u64> = cut_reach(cut, cites);
        Reach::Cut(reach.get(log).copied().unwrap_or(0))
    };
    match &replica.rule {
        Rule::Network { word, root } => match under {
            Some(Under::Root(_)) if root.issuer(author).is_some() => Reach::All,
            Some(Under::Certificate(entry)) => match word.revocation(author) {
                Some(revoked) => reached(&revoked.cut),
                None if word.certified_by(entry) == Some(author) => Reach::All,
                None => Reach::Undecided,
            },
            _ => Reach::Undecided,
        },
        Rule::Closed(control) => {
            let fold = replica.fold();
            let governing = under.and_then(|under| control.governing(fold, author, under));
            match governing {
                Some(cut) => reached(cut),
                None if under.is_some() && fold.roster().counts(author) => Reach::All,
                None => Reach::Undecided,
            }
        }
    }
}
