//! The cut of a removal or a dismissal: how much of an author's logs stays.
//!
//! It leaves what counts now and is held here. What an earlier cut put aside stays aside, also where later logs of the
//! author cite it to its end; whoever wants it raises a cut ([`crate::keep`]).

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PublicKey,
    issuer_log::{CutLine, LogId},
};

use crate::{
    acceptance::{self, Reach},
    log::LogKind,
    planted::{Bug, planted},
    replica::Replica,
};

/// The lines of a cut by log; of a forked control log there may be one for each branch.
type Lines = BTreeMap<LogId, Vec<CutLine>>;

fn by_log(lines: impl IntoIterator<Item = CutLine>) -> Lines {
    let mut by_log = Lines::new();
    lines.into_iter().for_each(|line| by_log.entry(line.log).or_default().push(line));
    by_log
}

fn flat(lines: &Lines) -> Vec<CutLine> {
    let mut flat: Vec<CutLine> = lines.values().flatten().copied().collect();
    flat.sort();
    flat
}

/// How far a log is listed or reached, at most.
fn height(lines: Option<&Vec<CutLine>>) -> u64 {
    lines.into_iter().flatten().map(|line| line.height).max().unwrap_or(0)
}

impl Replica {
    /// The cut that leaves what is held of an author and counts, of all its logs or of those of one kind: the logs that no
    /// other cites, of its forked control logs every branch that counts, and whatever was cut before, as it was cut.
    pub fn cut_of(&self, author: &PublicKey, kind: Option<LogKind>, limit: usize) -> Vec<CutLine> {
        let mut branches = self.control().map(|control| control.branch_ends(author)).unwrap_or_default();
        branches.truncate(limit);
        let uncited = self.longest_uncited(author, kind, limit - branches.len());
        let mut lines = by_log(uncited.into_iter().chain(branches));
        let aside = Aside::of(self, author);
        if aside.is_empty() || planted(Bug::CutTakesInAside) {
            return flat(&lines);
        }
        let held: Vec<(LogId, u64)> = self
            .logs_of(author)
            .filter(|(_, log)| kind.is_none_or(|kind| log.kind == kind))
            .map(|(key, log)| (key.log, log.durable))
            .collect();
        let mut full = false;
        loop {
            let reached = self.reached_by(author, &lines);
            let logs: BTreeSet<LogId> = reached.keys().copied().chain(held.iter().map(|(log, _)| *log)).collect();
            let mut amends: Lines = logs.iter().filter_map(|log| aside.amend(log, reached.get(log))).collect();
            if !full {
                // What only such a log cites that is listed with nothing.
                let lost =
                    |(log, durable): &&(LogId, u64)| aside.stays(log).is_none() && height(reached.get(log)) < *durable;
                let held = held.iter().filter(lost).filter_map(|(log, height)| {
                    let head = self.log(author, log)?.durable_head?;
                    Some((*log, vec![CutLine { log: *log, height: *height, head }]))
                });
                amends.extend(held);
            }
            if amends.is_empty() {
                return flat(&lines);
            }
            lines.extend(amends);
            while lines.values().map(Vec::len).sum::<usize>() > limit {
                full = true;
                let open = lines.iter().filter(|(log, _)| aside.stays(log).is_none());
                let Some(log) = open.min_by_key(|(_, lines)| height(Some(lines))).map(|(log, _)| *log) else {
                    // No honest author comes to so many. To leave some out would take in what was put aside.
                    return Vec::new();
                };
                lines.remove(&log);
            }
        }
    }

    /// How far these lines reach into what is held of an author.
    fn reached_by(&self, author: &PublicKey, lines: &Lines) -> Lines {
        let lines = flat(lines);
        let content = acceptance::reached(self, author, &lines);
        let mut reached: Lines = content.into_iter().map(|(log, line)| (log, vec![line])).collect();
        // It lists the branches of forked logs.
        let control = self.control().map(|control| control.reached(self.fold(), author, &lines));
        for (log, lines) in control.into_iter().flatten() {
            let is_control = self.log(author, &log).is_none_or(|log| log.kind == LogKind::Control);
            if is_control || !reached.contains_key(&log) {
                reached.insert(log, lines);
            }
        }
        reached
    }
}

/// What earlier cuts put aside of an author.
struct Aside<'a> {
    replica: &'a Replica,
    author: PublicKey,
    /// How much stays of the control logs whose stewardship ended.
    control: Lines,
    /// How far the earlier cuts reach into what is not held here; nothing, if there were none.
    earlier: Option<BTreeMap<LogId, CutLine>>,
}

impl<'a> Aside<'a> {
    fn of(replica: &'a Replica, author: &PublicKey) -> Self {
        let (fold, control) = (replica.fold(), replica.control());
        let ended = control.map(|control| control.ended_logs(fold, author)).unwrap_or_default();
        let cuts = control.map(|control| control.cuts_of(fold, author)).unwrap_or_default();
        let reached = cuts.iter().flat_map(|cut| acceptance::reached(replica, author, cut).into_values());
        let mut earlier: BTreeMap<LogId, CutLine> = BTreeMap::new();
        for line in reached {
            let furthest = earlier.entry(line.log).or_insert(line);
            *furthest = (*furthest).max(line);
        }
        Self { replica, author: *author, control: ended, earlier: (!cuts.is_empty()).then_some(earlier) }
    }

    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.earlier.is_none()
    }

    /// How much of a log stays, if a cut says so already. Of a log that is not held it cannot be told whether the author
    /// wrote it before its removal or after; it stays aside until somebody who holds it raises the cut.
    fn stays(&self, log: &LogId) -> Option<Vec<CutLine>> {
        match self.replica.log(&self.author, log) {
            Some(held) if held.kind == LogKind::Control => self.control.get(log).cloned(),
            Some(_) => match self.replica.reach(&self.author, log)? {
                Reach::Cut(height, head) => Some(vec![CutLine { log: *log, height, head }]),
                Reach::All | Reach::Forked(_) | Reach::Undecided => None,
            },
            None => self.earlier.as_ref().map(|earlier| earlier.get(log).copied().into_iter().collect()),
        }
    }

    /// What is to be listed of a log that is reached further, or less far, than it stays.
    fn amend(&self, log: &LogId, reached: Option<&Vec<CutLine>>) -> Option<(LogId, Vec<CutLine>)> {
        let some = |lines: &Vec<CutLine>| lines.iter().filter(|line| line.height > 0).copied().collect::<Vec<_>>();
        let stays = some(&self.stays(log)?);
        let none = CutLine { log: *log, height: 0, head: Hash([0; 32]) };
        let listed = if stays.is_empty() { vec![none] } else { stays.clone() };
        (stays != reached.map(some).unwrap_or_default()).then_some((*log, listed))
    }
}
