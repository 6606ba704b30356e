//! I4: members that can talk end with the same entries accepted and the same circle, whatever came before; and with
//! what the rules, read by the oracle, say.
//!
//! Quotas are each node's own measure: of what an author writes beyond them, members hold what came first to each. So of
//! the content of such an author alone they may hold different parts, and whoever holds less of a log than another must
//! say that there is more of its author than it takes. And what is sealed to an epoch whose record rot took from the last
//! member that had it nobody can take from those who did in time.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, PublicKey};
use cwn_engine::{
    circle::Terms,
    engine::Engine,
    log::{CircleId, LogKey, LogKind},
    replica::Replica,
    wire::WireTip,
};

use super::{Checker, Unsendable, unsendable};
use crate::{
    people::short,
    world::{Node, World},
};

#[derive(Debug)]
pub(crate) struct Convergence;

/// What one member ends with.
#[derive(Debug, PartialEq, Eq)]
struct End {
    digest: Option<Hash>,
    accepted: BTreeMap<LogKey, u64>,
    members: Vec<PublicKey>,
}

impl Checker for Convergence {
    fn promise(&self) -> &'static str {
        "I4"
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        self.network(world)?;
        for (circle, conclusion, members) in world.agreements() {
            let oracle: Vec<PublicKey> = conclusion.members.keys().copied().collect();
            let full: Vec<BTreeSet<PublicKey>> = members.iter().map(|node| full_of(world, *node, circle)).collect();
            let flooding: BTreeSet<PublicKey> = full.iter().flatten().copied().collect();
            let unsendable = unsendable(world, &members, circle);
            let mut first: Option<(usize, End)> = None;
            for node in members.iter().copied() {
                let Some(end) = end_of(world, node, circle, (&flooding, &unsendable)) else {
                    return Err(format!("p{node:02} counts in {} and is not in it", short(circle)));
                };
                if end.members != oracle {
                    let story = describe(world, node, circle) + "\n" + &views(world, circle);
                    return Err(format!("p{node:02} counts others in {} than the rules say\n{story}", short(circle)));
                }
                let terms = world.truth.histories.get(circle).map(|history| history.terms(&conclusion));
                if policy_of(world, node, circle) != terms {
                    return Err(format!("p{node:02} keeps {} by another policy than the rules say", short(circle)));
                }
                match &first {
                    None => first = Some((node, end)),
                    Some((other, known)) if *known != end => {
                        let stories = [describe(world, *other, circle), describe(world, node, circle)];
                        let what = match (known.accepted == end.accepted, known.members == end.members) {
                            (false, _) => "accept other entries",
                            (true, false) => "count others in",
                            (true, true) => "say other digests",
                        };
                        let circle = short(circle);
                        return Err(format!("p{other:02} and p{node:02} {what} in {circle}\n{}", stories.join("\n")));
                    }
                    Some(_) => {}
                }
            }
            for (less, of) in members.iter().zip(&full) {
                let others = members.iter().filter(|more| *more != less);
                others
                    .copied()
                    .try_for_each(|more| lacks_for_quota_alone(world, circle, (*less, of), more, &flooding))?;
            }
        }
        Ok(())
    }
}

impl Convergence {
    /// What the issuers said, and what nodes say of themselves there, is the same at all that are let in.
    fn network(&self, world: &World) -> Result<(), String> {
        let standing = |index: &usize| {
            let node = &world.nodes[*index];
            node.is_honest() && node.engine.is_some() && !world.truth.revoked.contains(&node.me)
        };
        let standing: Vec<usize> = (0..world.nodes.len()).filter(standing).collect();
        let Some(network) = standing.first().and_then(|first| world.nodes[*first].engine.as_ref()).map(Engine::network)
        else {
            return Ok(());
        };
        let version = |node: &usize| world.nodes[*node].engine.as_ref().map(|engine| engine.root().version());
        if let Some(pair) = standing.windows(2).find(|pair| version(&pair[0]) != version(&pair[1])) {
            return Err(format!(
                "p{:02} holds version {:?} of the root document, p{:02} {:?}",
                pair[0],
                version(&pair[0]),
                pair[1],
                version(&pair[1])
            ));
        }
        let ends: Vec<Option<End>> = standing
            .iter()
            .map(|node| end_of(world, *node, &network, (&BTreeSet::new(), &Unsendable::default())))
            .collect();
        match ends.windows(2).position(|pair| pair[0] != pair[1]) {
            None => Ok(()),
            Some(at) => {
                let pair = [standing[at], standing[at + 1]];
                let stories = pair.map(|node| describe(world, node, &network));
                Err(format!("p{:02} and p{:02} end with other networks\n{}", pair[0], pair[1], stories.join("\n")))
            }
        }
    }
}

fn policy_of<'a>(world: &'a World, node: usize, circle: &CircleId) -> Option<&'a Terms> {
    let replica = world.nodes[node].engine.as_ref()?.circle(circle)?;
    replica.control().map(|control| control.terms(replica.fold()))
}

/// Of whom there is more in a circle than a node takes.
fn full_of(world: &World, node: usize, circle: &CircleId) -> BTreeSet<PublicKey> {
    let over = world.nodes[node].engine.as_ref().map(|engine| engine.over_quota(circle)).unwrap_or_default();
    over.into_iter().map(|over| over.author).collect()
}

/// What one member ends with, but for the content of those who write more than some take, and what cannot be sent.
fn end_of(
    world: &World,
    node: usize,
    circle: &CircleId,
    (flooding, unsendable): (&BTreeSet<PublicKey>, &Unsendable),
) -> Option<End> {
    let node = &world.nodes[node];
    let replica = node.engine.as_ref()?.circle(circle)?;
    let all = replica.logs().filter(|(key, log)| log.kind == LogKind::Control || !flooding.contains(&key.author));
    let accepted = all.map(|(key, _)| (key, replica.accepted(&key.author, &key.log).min(unsendable.end(&key))));
    let members = replica.fold().roster().iter().map(|(node, _)| *node).collect();
    let digest = replica.tips(&node.disk).ok().map(|mut tips| {
        let of = |tip: &WireTip| LogKey { circle: *circle, author: tip.author, log: tip.log };
        tips.retain(|tip| (tip.first || !flooding.contains(&tip.author)) && unsendable.end(&of(tip)) == u64::MAX);
        replica.digest(&tips)
    });
    Some(End { digest, accepted: accepted.filter(|(_, height)| *height > 0).collect(), members })
}

/// Whether one member, which finds that there is too much of some, holds of the content of those who write so much all that
/// another accepts, but for what it does not take; and the same as that one as far as both hold it.
fn lacks_for_quota_alone(
    world: &World,
    circle: &CircleId,
    (less, full): (usize, &BTreeSet<PublicKey>),
    more: usize,
    flooding: &BTreeSet<PublicKey>,
) -> Result<(), String> {
    let replica = |node: usize| world.nodes[node].engine.as_ref()?.circle(circle);
    let (Some(own), Some(other)) = (replica(less), replica(more)) else { return Ok(()) };
    let accepts = |replica: &Replica, key: &LogKey| replica.accepted(&key.author, &key.log);
    let logs = other.logs().filter(|(key, log)| log.kind != LogKind::Control && flooding.contains(&key.author));
    for (key, _) in logs {
        let (own, other) = (accepts(own, &key), accepts(other, &key));
        let head = |node: usize| world.nodes[node].disk.held().hash_at(&key, own.min(other).saturating_sub(1));
        let apart = own.min(other) > 0 && head(less) != head(more);
        if apart || (own < other && !full.contains(&key.author)) {
            let (log, circle) = (key.log, short(circle));
            return Err(format!(
                "p{less:02} accepts {own} entries of {log} in {circle}, p{more:02} {other}, for no quota"
            ));
        }
    }
    Ok(())
}

/// Whom every node counts in a circle, and how many operations it rests on.
fn views(world: &World, circle: &CircleId) -> String {
    let name = |key: &PublicKey| world.nodes.iter().find(|node| node.me == *key).map_or("?", |node| node.name.as_str());
    let view = |node: &Node| {
        let replica = node.engine.as_ref().and_then(|engine| engine.circle(circle));
        let Some(replica) = replica else { return format!("    {} is not in it", node.name) };
        let counts: Vec<&str> = replica.fold().roster().iter().map(|(node, _)| name(node)).collect();
        let heard = node.heard.get(circle).map_or(0, |heard| heard.len());
        format!("    {} counts {} by {heard} operations", node.name, counts.join(" "))
    };
    world.nodes.iter().map(view).collect::<Vec<_>>().join("\n")
}

/// What a node holds of a circle, for people to compare.
pub(super) fn describe(world: &World, index: usize, circle: &CircleId) -> String {
    let node = &world.nodes[index];
    let Some(engine) = &node.engine else { return format!("{} does not run", node.name) };
    let Some(replica) = engine.circle(circle) else { return format!("{} is not in it", node.name) };
    let name = |key: &PublicKey| world.nodes.iter().find(|node| node.me == *key).map_or("?", |node| node.name.as_str());
    let roster: Vec<&str> = replica.fold().roster().iter().map(|(node, _)| name(node)).collect();
    let mut lines = vec![format!("  {} counts {}; {} behind", node.name, roster.join(" "), engine.behind(circle))];
    let said = replica.tips(&node.disk).unwrap_or_default();
    for (key, log) in replica.logs() {
        let cites: Vec<String> =
            log.opening.cites.iter().map(|line| format!("{:?}:{}", line.log, line.height)).collect();
        lines.push(format!(
            "    {} {:?} {:?} height {} durable {} {:?} accepted {} {:?} cites [{}]{}",
            name(&key.author),
            key.log,
            log.kind,
            log.height,
            log.durable,
            log.durable_head,
            replica.accepted(&key.author, &key.log),
            log.opening.under,
            cites.join(" "),
            match said.iter().find(|tip| (tip.author, tip.log) == (key.author, key.log)) {
                None => "",
                Some(WireTip { forked: true, .. }) => " said, forked",
                Some(_) => " said",
            }
        ));
    }
    let shares = engine.sharing(circle);
    let shares: Vec<&str> = shares.iter().map(|(peer, ..)| name(peer)).collect();
    lines.push(format!("    shares with {}", shares.join(" ")));
    lines.join("\n")
}
