//! I3: what was acknowledged to a person or announced to a peer is durable.
//!
//! On the node that said so it is there at once, and after every crash; on every member that counts once all could
//! talk, unless it lies beyond a cut. A disk that was put back to an older state, or rotted, may have lost it.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Domain, Hash, PublicKey, encoding,
    issuer_log::{CutLine, LogId, cut_reach},
};
use cwn_engine::{
    held::SignedStatement,
    log::{CircleId, Header, LogKey, LogKind},
    output::Reply,
    store::Write,
    wire::Frame,
};

use super::{Checker, Seen, unsendable};
use crate::{
    oracle::{Conclusion, Right, reach},
    world::{Acknowledged, World},
};

#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// What each node stated and was found to hold, until it may hold less.
    found: BTreeMap<usize, BTreeMap<(CircleId, PublicKey), Vec<CutLine>>>,
    /// The statements that went out. Others carry them, and one may come back to its holder and go on from there.
    stated: BTreeSet<Hash>,
}

impl Checker for Durable {
    fn promise(&self) -> &'static str {
        "I3"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Replied { node, reply: Ok(Reply::Appended { place, hash }), .. } => {
                let node = &world.nodes[*node];
                if node.disk.held().hash_at(&place.key, place.seq) != Some(*hash) {
                    return Err(format!("{} acknowledged entry {} before it was durable", node.name, place.seq));
                }
            }
            Seen::HandedToStore { node, write: Write::Rewind { .. }, .. } => drop(self.found.remove(node)),
            Seen::Started { node } => {
                self.found.remove(node);
                let disk = world.nodes[*node].disk.held();
                for told in world.truth.acknowledged.iter().filter(|told| told.node == *node && !told.machine_lost) {
                    if disk.hash_at(&told.key, told.seq) != Some(told.hash) {
                        let name = &world.nodes[*node].name;
                        return Err(format!("{name} started without entry {}, which it acknowledged", told.seq));
                    }
                }
            }
            Seen::Accepted { node, key, height } => {
                let node = &world.nodes[*node];
                if node.disk.held().height(key) < *height {
                    return Err(format!(
                        "{} accepts {height} entries of {} before they are durable",
                        node.name, key.log
                    ));
                }
            }
            Seen::StandsStill { node } => {
                // It goes on to answer who reads.
                let node = &world.nodes[*node];
                for replica in node.engine.iter().flat_map(|engine| engine.circles()) {
                    let accepted = |key: &LogKey| replica.accepted(&key.author, &key.log);
                    let more = |key: &LogKey| accepted(key) > node.disk.held().height(key);
                    if let Some((key, _)) = replica.logs().find(|(key, _)| more(key)) {
                        return Err(format!("{} stands still and shows of {} what is not durable", node.name, key.log));
                    }
                }
            }
            Seen::Sent { from, frame: Some(frame), .. } => self.announced(world, *from, frame)?,
            _ => {}
        }
        Ok(())
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        for (circle, conclusion, members) in world.agreements() {
            let of_circle = |told: &&Acknowledged| told.key.circle == *circle && !told.machine_lost;
            let unsendable = unsendable(world, &members, circle);
            for told in world.truth.acknowledged.iter().filter(of_circle).filter(|told| members.contains(&told.node)) {
                // Of what rot took of the only copy nobody has anything to send.
                let sends = |index: &usize| world.nodes[*index].disk.can_send(&told.key, told.seq, told.hash);
                let sent = told.seq < unsendable.end(&told.key) && members.iter().any(sends);
                if !within_its_cut(world, &conclusion, told) || !sent {
                    continue;
                }
                for node in members.iter().map(|index| &world.nodes[*index]) {
                    if node.disk.held().hash_at(&told.key, told.seq) != Some(told.hash) {
                        return Err(format!(
                            "{} acknowledged entry {} of log {}, and {} does not hold it though all could talk",
                            world.nodes[told.node].name, told.seq, told.key.log, node.name
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether the rules accept an entry, by what the logs of its author say of themselves.
fn within_its_cut(world: &World, conclusion: &Conclusion, told: &Acknowledged) -> bool {
    let author = told.key.author;
    let opening = |log: &LogId| world.truth.logs.get(&(author, *log)).map(|(_, _, opening)| opening);
    let kind = world.truth.logs.get(&(author, told.key.log)).map(|(_, kind, _)| *kind);
    if kind == Some(LogKind::Control) {
        // Operations are never cut off; which of them count the fold says.
        return true;
    }
    let history = world.truth.histories.get(&told.key.circle);
    let (Some(history), Some(own)) = (history, opening(&told.key.log)) else { return false };
    match history.right(conclusion, author, &own.under) {
        Right::Stands => true,
        Right::Undecided => false,
        Right::Cut(cut) => {
            let cites = |log: &LogId| opening(log).map(|opening| opening.cites.as_slice());
            reach(cut, cites).get(&told.key.log).is_some_and(|reach| told.seq < *reach)
        }
    }
}

/// A height that a node announces is durable there.
fn holds(
    world: &World,
    from: usize,
    (author, log): (PublicKey, LogId),
    height: u64,
    head: Option<Hash>,
) -> Result<(), String> {
    let Some(seq) = height.checked_sub(1) else { return Ok(()) };
    let node = &world.nodes[from];
    let circle = world.truth.logs.get(&(author, log)).map(|(circle, ..)| *circle);
    // The head that is said of a control log which forks covers its branches.
    let forks = circle.is_some_and(|circle| world.truth.forks(LogKey { circle, author, log }));
    let head = head.filter(|_| !forks);
    let held = circle.and_then(|circle| node.disk.log_named(circle, author, log)).and_then(|log| log.get(seq as usize));
    match held {
        Some((hash, _)) if head.is_none_or(|head| head == *hash) => Ok(()),
        // It holds that beside the log since it heard of the fork, and may have said so before.
        None if forks => Ok(()),
        _ => Err(format!("{} announced {height} entries of log {log}, which are not durable there", node.name)),
    }
}

impl Durable {
    /// Every height that a frame announces is durable on its sender.
    fn announced(&mut self, world: &World, from: usize, frame: &Frame) -> Result<(), String> {
        match frame {
            Frame::Tips { tips, .. } | Frame::Have { tips, .. } => {
                tips.iter().try_for_each(|tip| holds(world, from, (tip.author, tip.log), tip.height, tip.head))
            }
            Frame::Push { entry, .. } => {
                let header: Option<Header> = encoding::from_bytes(&entry.header, 1 << 16).ok();
                let header = header.as_ref();
                header.map_or(Ok(()), |said| holds(world, from, (said.author, said.log), said.seq + 1, None))
            }
            Frame::Held { statement, .. } => self.stated(world, from, statement),
            Frame::HandOn { bundles, .. } => {
                let mut statements = bundles.iter().flat_map(|bundle| &bundle.statements);
                statements.try_for_each(|statement| self.stated(world, from, statement))
            }
            _ => Ok(()),
        }
    }

    /// What a node hands on for others says nothing of itself.
    fn stated(&mut self, world: &World, from: usize, statement: &SignedStatement) -> Result<(), String> {
        let said = statement.unverified(cwn_engine::limits::HELD_BYTES).ok();
        let Some(said) = said.filter(|said| said.holder == world.nodes[from].me) else { return Ok(()) };
        if !self.stated.insert(statement.hash(Domain::HELD)) {
            return Ok(());
        }
        let opening = |log: &LogId| world.truth.logs.get(&(said.author, *log)).map(|(_, _, opening)| opening);
        // What it does not list it holds to where a listed log cites it.
        let reach = cut_reach(&said.heads, |log| opening(log).map(|opening| opening.cites.as_slice()));
        let reach: Vec<CutLine> = reach.into_values().collect();
        let before = self.found.entry(from).or_default().entry((said.circle, said.author)).or_default();
        let mut known = before.iter().peekable();
        for line in &reach {
            while known.next_if(|known| known.log < line.log).is_some() {}
            if known.peek() != Some(&line) {
                holds(world, from, (said.author, line.log), line.height, Some(line.head))?;
            }
        }
        *before = reach;
        Ok(())
    }
}
