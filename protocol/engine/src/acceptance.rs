//! The verdict on a stored entry: a pure function of entries and epoch records.
//!
//! No clock, expiry, revocation of a member, phase or order of arrival enters it, so all members that hold
//! the same end with the same. What an entry says of itself (its links, its epoch, whether an operation
//! comes from a steward) is settled before it is stored and never changes; what is left, and may change as
//! control operations arrive, is who counts and where a cut lies.

use std::collections::BTreeMap;

use cwn_crypto::{
    Hash, PublicKey,
    issuer_log::{CutLine, LogId, cut_reach},
};

use crate::{
    log::{LogKey, LogKind, Under},
    planted::{Bug, planted},
    replica::{Log, Replica, Rule},
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
    /// It comes after a place that its author signed twice, and no cut names its branch.
    Disputed,
}

/// How far into one log the verdict is "accepted".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All of it, however long it grows.
    All,
    /// So many entries, the last of them with this hash; what lies beyond is withheld.
    Cut(u64, Hash),
    /// So many entries; what comes after was signed twice.
    Forked(u64),
    /// Nothing for now.
    Undecided,
}

impl Reach {
    /// How many of `height` entries are accepted.
    pub fn of(self, height: u64) -> u64 {
        match self {
            Self::All => height,
            Self::Cut(..) if planted(Bug::AcceptBeyondCut) => height,
            Self::Cut(cut, _) if planted(Bug::CutOneTooFar) => (cut + 1).min(height),
            Self::Cut(cut, _) | Self::Forked(cut) => cut.min(height),
            Self::Undecided => 0,
        }
    }
}

/// The verdict on the entry at `seq` of a log that `replica` holds.
pub fn verdict(replica: &Replica, author: &PublicKey, log: &LogId, seq: u64) -> Verdict {
    match reach(replica, author, log) {
        Reach::All => Verdict::Accepted,
        Reach::Cut(cut, _) | Reach::Forked(cut) if seq < cut => Verdict::Accepted,
        Reach::Cut(..) => Verdict::Withheld,
        Reach::Forked(_) => Verdict::Disputed,
        Reach::Undecided => Verdict::Pending,
    }
}

/// How far a log is accepted. A log that is not held is undecided.
pub fn reach(replica: &Replica, author: &PublicKey, log: &LogId) -> Reach {
    replica.reach(author, log).unwrap_or(Reach::Undecided)
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
    let reached = |cut: &[CutLine]| reached(replica, author, cut).get(log).map_or(0, |line| line.height).min(height);
    match &replica.rule {
        Rule::Network { word, root } => match root.known(author) {
            Some(issuer) => issuer.dropped.map_or(height, reached),
            None => word.revocation(author).map_or(0, |revoked| reached(&revoked.cut)),
        },
        Rule::Closed(control) => control.cuts_of(replica.fold(), author).into_iter().map(reached).max().unwrap_or(0),
    }
}

/// How far a cut reaches into what an author published.
pub(crate) fn reached(replica: &Replica, author: &PublicKey, cut: &[CutLine]) -> BTreeMap<LogId, CutLine> {
    // Of a control log that forks at its start it depends on the order of arrival whose opening is held, and none
    // cites what somebody published.
    let publishes = |log: &LogId| replica.log(author, log).filter(|held| held.kind != LogKind::Control);
    cut_reach(cut, |log| publishes(log).map(|held| held.opening.cites.as_slice()))
}

/// What an author's right to write comes to now, for all logs that it opened under it.
#[derive(Debug)]
enum Right {
    Stands,
    /// Ended, with a cut that reaches so far into these logs.
    Cut(BTreeMap<LogId, CutLine>),
    Undecided,
}

impl Right {
    fn of(replica: &Replica, author: &PublicKey, under: &Under) -> Self {
        let reached = |cut: &[CutLine]| Self::Cut(reached(replica, author, cut));
        match &replica.rule {
            Rule::Network { word, root } => match under {
                // Of an issuer that is not known a later version may say that it is one.
                Under::Root(_) => match root.known(author) {
                    None => Self::Undecided,
                    Some(issuer) => issuer.dropped.map_or(Self::Stands, reached),
                },
                Under::Certificate(entry) => match word.revocation(author) {
                    Some(revoked) => reached(&revoked.cut),
                    None if word.certified_by(entry) == Some(author) => Self::Stands,
                    None => Self::Undecided,
                },
                _ => Self::Undecided,
            },
            Rule::Closed(control) => match control.governing(replica.fold(), author, under) {
                Some(cut) => reached(cut),
                None if replica.fold().roster().counts(author) => Self::Stands,
                None => Self::Undecided,
            },
        }
    }

    fn reach(&self, log: &LogId) -> Reach {
        match self {
            Self::Stands => Reach::All,
            Self::Cut(reach) => {
                reach.get(log).map_or(Reach::Cut(0, Hash([0; 32])), |line| Reach::Cut(line.height, line.head))
            }
            Self::Undecided => Reach::Undecided,
        }
    }
}

/// A fork ends a log where it is, unless a cut reaches further: that one names a branch.
fn forked(replica: &Replica, author: &PublicKey, log: &LogId, reach: Reach) -> Reach {
    match (replica.fork_of(author, log), reach) {
        // What an issuer said decides who belongs; its forks are an alarm, and the root document's business.
        (Some(_), Reach::All) if planted(Bug::ForkGoesOn) => reach,
        (Some(fork), Reach::All) if !replica.decides(author, LogKind::Network) => Reach::Forked(fork),
        (_, reach) => reach,
    }
}

/// As [`reach`], for a log that is about to be opened.
pub fn reach_under(replica: &Replica, author: &PublicKey, log: &LogId, under: &Under) -> Reach {
    forked(replica, author, log, Right::of(replica, author, under).reach(log))
}

/// How far every held log of an author is accepted.
pub(crate) fn reaches(replica: &Replica, author: &PublicKey) -> Vec<(LogId, Reach)> {
    let mut rights: BTreeMap<Under, Right> = BTreeMap::new();
    let reach = |(key, log): (LogKey, &Log)| {
        // Operations are never cut off: what is void among them the fold decides, and others may build on it. What
        // stands behind a fork is held beside the log.
        if log.kind == LogKind::Control {
            return (key.log, replica.fork_of(author, &key.log).map_or(Reach::All, Reach::Forked));
        }
        let under = log.opening.under;
        let right = rights.entry(under).or_insert_with(|| Right::of(replica, author, &under));
        (key.log, forked(replica, author, &key.log, right.reach(&key.log)))
    };
    replica.logs_of(author).map(reach).collect()
}
