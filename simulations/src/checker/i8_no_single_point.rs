//! I8: without the coordinator members go on sharing, founding circles and changing who belongs: each of these for itself.

use std::collections::BTreeMap;

use cwn_engine::{
    input::{Command, CommandId},
    output::CommandRefusal,
};

use super::{Checker, Seen};
use crate::world::World;

/// So many refusals in a row of one kind of command are no accident: nothing else stands in the way of who founds a circle,
/// or changes who belongs to one as its rules allow. There are few of these in a life.
const ENOUGH: u64 = 3;
/// And of what is published, which a rotten disk refuses as well.
const ENOUGH_PUBLISHED: u64 = 20;

#[derive(Debug, Default)]
pub(crate) struct NoSinglePoint {
    asked: BTreeMap<CommandId, &'static str>,
    /// How often each kind of command was refused since one of it was done.
    refused: BTreeMap<&'static str, u64>,
}

/// What members must be able to do by themselves, in a word.
fn kind_of(command: &Command) -> Option<&'static str> {
    match command {
        Command::Append { only_when_current: false, .. } => Some("publish"),
        Command::Found { .. } => Some("found"),
        Command::Add { .. } => Some("add"),
        Command::Remove { .. } => Some("remove"),
        _ => None,
    }
}

/// Whether a circle's own rules refuse a command, with a coordinator or without.
fn is_by_the_rules(refusal: &CommandRefusal) -> bool {
    matches!(
        refusal,
        CommandRefusal::BetterRank { .. }
            | CommandRefusal::AlreadyMember { .. }
            | CommandRefusal::NotMember { .. }
            | CommandRefusal::NotASteward { .. }
            | CommandRefusal::NotAMember
            | CommandRefusal::QuotaReached
    )
}

impl Checker for NoSinglePoint {
    fn promise(&self) -> &'static str {
        "I8"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Asked { id, command, .. } if world.plan.scenario.without_coordinator => {
                self.asked.extend(kind_of(command).map(|kind| (*id, kind)));
            }
            Seen::Replied { id, reply, .. } => {
                let Some(kind) = self.asked.remove(id) else { return Ok(()) };
                let refused = self.refused.entry(kind).or_default();
                match reply {
                    Ok(_) => *refused = 0,
                    Err(refusal) if is_by_the_rules(refusal) => {}
                    Err(_) => *refused += 1,
                }
                if *refused >= if kind == "publish" { ENOUGH_PUBLISHED } else { ENOUGH } {
                    return Err(format!("without the coordinator none of {refused} attempts to {kind} was done"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
