//! I4: members that can talk end with the same entries accepted and the same circle, whatever came before; and with
//! what the rules, read by the oracle, say.

use std::collections::BTreeMap;

use cwn_crypto::{Hash, PublicKey};
use cwn_engine::{
    circle::Terms,
    engine::Engine,
    log::{CircleId, LogKey},
};

use super::Checker;
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
        for circle in world.truth.histories.keys() {
            let Some((conclusion, members)) = world.agreed(circle) else { continue };
            let oracle: Vec<PublicKey> = conclusion.members.keys().copied().collect();
            let mut first: Option<(usize, End)> = None;
            for node in members {
                let Some(end) = end_of(world, node, circle) else {
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
        let ends: Vec<Option<End>> = standing.iter().map(|node| end_of(world, *node, &network)).collect();
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

fn end_of(world: &World, node: usize, circle: &CircleId) -> Option<End> {
    let node = &world.nodes[node];
    let replica = node.engine.as_ref()?.circle(circle)?;
    let accepted = replica.logs().map(|(key, _)| (key, replica.accepted(&key.author, &key.log)));
    let members = replica.fold().roster().iter().map(|(node, _)| *node).collect();
    let digest = replica.tips(&node.disk).ok().map(|tips| replica.digest(&tips));
    Some(End { digest, accepted: accepted.filter(|(_, height)| *height > 0).collect(), members })
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
    for (key, log) in replica.logs() {
        let cites: Vec<String> =
            log.opening.cites.iter().map(|line| format!("{:?}:{}", line.log, line.height)).collect();
        lines.push(format!(
            "    {} {:?} {:?} height {} durable {} accepted {} {:?} cites [{}]",
            name(&key.author),
            key.log,
            log.kind,
            log.height,
            log.durable,
            replica.accepted(&key.author, &key.log),
            log.opening.under,
            cites.join(" ")
        ));
    }
    let shares = engine.sharing(circle);
    let shares: Vec<&str> = shares.iter().map(|(peer, ..)| name(peer)).collect();
    lines.push(format!("    shares with {}", shares.join(" ")));
    lines.join("\n")
}
