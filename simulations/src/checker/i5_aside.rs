//! I5: what a cut put aside comes back when a cut is raised for it, and not with the next removal or dismissal.

use cwn_crypto::PublicKey;
use cwn_engine::{
    circle::Operation,
    log::{Authentic as Entry, LogKind, Suite},
    store::Write,
};

use super::{Checker, Seen};
use crate::{
    oracle::{Conclusion, History, Right, reach, unseats},
    world::{Node, World},
};

#[derive(Debug)]
pub(crate) struct Aside;

impl Checker for Aside {
    fn promise(&self) -> &'static str {
        "I5"
    }

    /// A removal that an honest steward writes is held against what it went by until then.
    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::HandedToStore { node, write: Write::Entry(entry), fresh: true } = seen else { return Ok(()) };
        let node = &world.nodes[*node];
        // A thief of its key writes what it likes.
        let stolen = world.truth.stolen.contains(&entry.hash());
        if entry.header().suite != Suite::Control || !node.is_honest() || stolen {
            return Ok(());
        }
        let circle = entry.key().circle;
        let Some(history) = world.truth.histories.get(&circle) else { return Ok(()) };
        let Some(operation) = operation(entry) else { return Ok(()) };
        let mut seen =
            history.up_to(&[operation.heads.clone(), entry.header().previous.into_iter().collect()].concat());
        let Some(before) = world.conclude_at(&circle, &seen) else { return Ok(()) };
        seen.insert(entry.hash());
        let Some(after) = world.conclude_at(&circle, &seen) else { return Ok(()) };
        // Who raises a cut removes nobody who counts.
        let ended = before.members.iter().filter(|(one, belongs)| unseats(&operation.act, &belongs.partner, one));
        for (author, _) in ended {
            if let Some(hash) = history.written_by(author).find(|hash| after.counts(hash) && !before.counts(hash)) {
                return Err(format!("{} ends what {author} was, and operation {hash} of it counts anew", node.name));
            }
            content_stays_aside(node, entry, history, (&before, &after), author)?;
        }
        Ok(())
    }
}

fn operation(entry: &Entry) -> Option<Operation> {
    Operation::from_bytes(entry.bytes().payload.sealed()?).ok()
}

fn content_stays_aside(
    node: &Node,
    entry: &Entry,
    history: &History,
    (before, after): (&Conclusion, &Conclusion),
    author: &PublicKey,
) -> Result<(), String> {
    let replica = node.engine.as_ref().and_then(|engine| engine.circle(&entry.key().circle));
    let Some(replica) = replica else { return Ok(()) };
    for (key, log) in replica.logs().filter(|(key, log)| key.author == *author && log.kind == LogKind::Content) {
        let opening = |log: &_| replica.log(author, log).map(|held| held.opening.cites.as_slice());
        let reached = |conclusion| match history.right(conclusion, *author, &log.opening.under) {
            Right::Cut(cut) => reach(cut, opening).get(&key.log).copied().unwrap_or(0),
            Right::Stands | Right::Undecided => u64::MAX,
        };
        let (before, after) = (reached(before), reached(after));
        if after > before {
            return Err(format!(
                "{} removes {author}, and of its log {} {after} entries count, which was cut after {before} before",
                node.name, key.log
            ));
        }
    }
    Ok(())
}
