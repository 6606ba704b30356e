//! I7: one bad peer cannot stop others, nor set them against each other; and who has nothing to say says little, and
//! remembers little of its peers.

use std::collections::BTreeMap;

use cwn_crypto::{PublicKey, Time};
use cwn_engine::{
    limits,
    log::CircleId,
    output::Event,
    sync::Remembered,
    wire::{Frame, Tag},
};

use super::{Checker, Seen};
use crate::world::World;

/// Frames that a quiet circle may cost each pair that shares it, a minute: a digest each way, and one more.
const QUIET_FRAMES: u64 = 3;
/// Frames that a node may send besides in the whole quiet time.
const QUIET_SLACK: u64 = 40;
/// And so many each time that somebody malicious is disconnected: what was handed to it on behalf of others may not have
/// gone on, and goes by others.
const FRAMES_ANEW: u64 = 3;
/// Whatever a peer says of what it holds, in so many milliseconds it is answered with so many frames of a comparison
/// in one circle: a digest, buckets and tips each second, and some for what else changes.
const ANSWER_MS: u64 = 10_000;
const ANSWERS: u64 = 50;

#[derive(Debug, Default)]
pub(crate) struct Bounded {
    /// Since when, and how many frames of comparisons a node sent in one circle of one session with somebody
    /// malicious.
    answers: BTreeMap<(usize, Tag), (Time, u64)>,
    /// In which of its starts each node was when the quiet time began, and how many frames it sent since to those that keep
    /// to the protocol as it does.
    quiet: BTreeMap<usize, (u64, u64)>,
    quiet_minutes: u64,
    /// How often somebody malicious was disconnected since.
    disconnected: u64,
}

impl Checker for Bounded {
    fn promise(&self) -> &'static str {
        "I7"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        if let Seen::Sent { from, to, .. } = seen
            && world.nodes[*to].is_honest()
            && let Some((_, sent)) = self.quiet.get_mut(from)
        {
            *sent += 1;
        }
        match seen {
            Seen::Noted { node, event: Event::Refused { peer, circle: _, reason } } => {
                let node = &world.nodes[*node];
                let peers = node.engine.iter().flat_map(|engine| engine.peers());
                if let Some(bad) = peers.into_iter().find(|peer| peer.faults >= limits::FAULTS) {
                    return Err(format!("{} stays connected to a peer after {} faults", node.name, bad.faults));
                }
                let peer = world.honest().find(|other| other.me == *peer);
                match peer.filter(|_| node.is_honest()) {
                    Some(peer) => Err(format!("{} blames {}, which is honest: {reason}", node.name, peer.name)),
                    None => Ok(()),
                }
            }
            Seen::Heard { node, from } if !world.nodes[*from].is_honest() => {
                let (node, peer) = (&world.nodes[*node], &world.nodes[*from]);
                let Some(Remembered { heights, offers }) = node.engine.as_ref().map(|e| e.remembered_of(&peer.me))
                else {
                    return Ok(());
                };
                if node.is_honest() && (heights > limits::TIPS_PER_PEER || offers > limits::OFFERS_PER_PEER) {
                    let (node, peer) = (&node.name, &peer.name);
                    return Err(format!("{peer} makes {node} remember {heights} heights and {offers} offers"));
                }
                Ok(())
            }
            Seen::Sent {
                from,
                to,
                frame: Some(Frame::Digest { tag, .. } | Frame::Buckets { tag, .. } | Frame::Tips { tag, .. }),
            } if !world.nodes[*to].is_honest() => {
                let (since, count) = self.answers.entry((*from, *tag)).or_insert((world.now, 0));
                if world.now.since(*since) > ANSWER_MS {
                    (*since, *count) = (world.now, 0);
                }
                *count += 1;
                if *count > ANSWERS {
                    let (node, peer) = (&world.nodes[*from].name, &world.nodes[*to].name);
                    return Err(format!("{peer} makes {node} compare {count} times in seconds"));
                }
                Ok(())
            }
            Seen::Disconnected { node, peer, reason } => {
                self.disconnected += u64::from(!world.nodes[*peer].is_honest());
                let (node, peer) = (&world.nodes[*node], &world.nodes[*peer]);
                if node.is_honest() && peer.is_honest() && !world.truth.revoked.contains(&peer.me) {
                    return Err(format!("{} disconnects {}, which is honest: {reason}", node.name, peer.name));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn quiet(&mut self, world: &World, minutes: u64) {
        let honest = world.nodes.iter().enumerate().filter(|(_, node)| node.is_honest());
        self.quiet = honest.map(|(index, node)| (index, (node.start, 0))).collect();
        (self.quiet_minutes, self.disconnected) = (minutes, 0);
    }

    fn calm(&mut self, world: &World) -> Result<(), String> {
        holds_little(world)?;
        let quiet = std::mem::take(&mut self.quiet).into_iter().map(|(index, quiet)| (&world.nodes[index], quiet));
        for (node, (_, sent)) in quiet.filter(|(node, (start, _))| node.start == *start) {
            let honest = |peer: &PublicKey| world.honest().any(|node| node.me == *peer);
            let peers = node.engine.iter().flat_map(|engine| engine.peers()).filter(|peer| honest(&peer.peer));
            let shared: u64 = peers.map(|peer| peer.circles.len() as u64).sum();
            let allowed = QUIET_SLACK + QUIET_FRAMES * self.quiet_minutes * shared + FRAMES_ANEW * self.disconnected;
            if sent > allowed {
                return Err(format!("{} sent {sent} frames in {} quiet minutes", node.name, self.quiet_minutes));
            }
        }
        Ok(())
    }
}

/// What nodes keep in memory for their peers: of one that keeps to the protocol no more heights than there are logs, and of
/// what others hold no more statements than members may leave with anybody.
fn holds_little(world: &World) -> Result<(), String> {
    let mut logs: BTreeMap<CircleId, usize> = BTreeMap::new();
    world.truth.logs.values().for_each(|(circle, ..)| *logs.entry(*circle).or_default() += 1);
    let most = logs.into_values().max().unwrap_or(0);
    let members: usize = world.truth.histories.values().map(|history| history.ever_named().len()).sum();
    for (node, engine) in world.honest().filter_map(|node| Some((node, node.engine.as_ref()?))) {
        for peer in world.honest() {
            let Remembered { heights, offers } = engine.remembered_of(&peer.me);
            if heights > most || offers > world.truth.histories.len() {
                let (node, peer) = (&node.name, &peer.name);
                return Err(format!(
                    "{node} remembers {heights} heights and {offers} offers of {peer}, of {most} logs"
                ));
            }
        }
        let (count, bytes) = engine.carries();
        if count > members * limits::CARRIED_PER_HOLDER || bytes > count * limits::CARRIED_BYTES {
            return Err(format!("{} carries {count} statements of {members} members, {bytes} bytes", node.name));
        }
    }
    Ok(())
}
