//! Where the policy of the time lets newcomers read what came before, they can: members hand them the keys. Whom such keys
//! must not reach is I1's.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::Hash;
use cwn_engine::{circle::History, log::CircleId, store::Read as _, sync::given_key};

use super::{Checker, Seen};
use crate::{
    people::short,
    world::{World, read_record},
};

#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    /// The keys that somebody lacked in the last calm, and who could have handed them over.
    lacked: BTreeMap<(usize, CircleId, Hash), BTreeSet<usize>>,
}

impl Checker for Newcomers {
    fn promise(&self) -> &'static str {
        "history"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Given { node, circle, epochs } = seen else { return Ok(()) };
        let disk = &world.nodes[*node].disk;
        // Of a record that came again it is told too, whether it names the node or not.
        let handed = |epoch: &Hash| {
            disk.can_read_fact(&given_key(circle, epoch)) && matches!(disk.record(circle, epoch), Ok(Some(_)))
        };
        let opens = |epoch: &Hash| world.right_key(*node, **circle, *epoch, None).is_some();
        match epochs.iter().find(|epoch| handed(epoch) && !opens(epoch)) {
            Some(epoch) => {
                Err(format!("{} is told that it can open epoch {epoch}, and cannot", world.nodes[*node].name))
            }
            None => Ok(()),
        }
    }

    /// Who could not hand a key over is asked again ten minutes later, which may be after the calm: so nobody may lack it in
    /// two of them.
    fn calm(&mut self, world: &World) -> Result<(), String> {
        let before = std::mem::take(&mut self.lacked);
        for (circle, _, members) in world.agreements() {
            for index in members.iter().copied() {
                for epoch in lacking(world, index, circle) {
                    let gives = |giver: &usize| can_give(world, *giver, index, circle, epoch);
                    let givers: BTreeSet<usize> = members.iter().copied().filter(gives).collect();
                    let place = (index, *circle, epoch);
                    let both = before.get(&place).and_then(|before| before.intersection(&givers).next());
                    if let Some(giver) = both {
                        let (node, giver) = (&world.nodes[index].name, &world.nodes[*giver].name);
                        return Err(format!(
                            "{node} lacks the key of epoch {epoch} of {}, which {giver} could hand it in two calms",
                            short(circle)
                        ));
                    }
                    self.lacked.insert(place, givers);
                }
            }
        }
        Ok(())
    }
}

/// The epochs of a circle that a node may open though they do not name it, and cannot.
fn lacking(world: &World, index: usize, circle: &CircleId) -> Vec<Hash> {
    let node = &world.nodes[index];
    let Some(replica) = node.engine.as_ref().and_then(|engine| engine.circle(circle)) else { return Vec::new() };
    let closed = replica.epochs().filter(|(_, epoch)| !epoch.names(&node.me)).map(|(hash, _)| *hash);
    let may_open = |epoch: &Hash| {
        let record = node.disk.record(circle, epoch).ok().flatten().and_then(|bytes| read_record(&bytes));
        let history = world.truth.histories.get(circle);
        let (Some(record), Some(history)) = (record, history) else { return false };
        let conclusion = world.conclude_at(circle, &history.up_to(&record.heads));
        conclusion.is_some_and(|conclusion| history.terms(&conclusion).history == History::All)
    };
    let opens = |epoch: &Hash| world.right_key(index, *circle, *epoch, None).is_some();
    // That a key rotted which was handed over the next start finds.
    let rotted = |epoch: &Hash| node.disk.has_rotten_fact(&given_key(circle, epoch));
    closed.filter(may_open).filter(|epoch| !opens(epoch) && !rotted(epoch)).collect()
}

/// Whether a member has the key of an epoch and speaks with another about the circle.
fn can_give(world: &World, giver: usize, to: usize, circle: &CircleId, epoch: Hash) -> bool {
    let shares = world.nodes[giver].engine.as_ref().map(|engine| engine.sharing(circle)).unwrap_or_default();
    let with = shares.iter().any(|(peer, ..)| *peer == world.nodes[to].me);
    with && world.right_key(giver, *circle, epoch, None).is_some()
}
