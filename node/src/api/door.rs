//! The door itself: what every face may ask and do, without HTTP.

use std::sync::Arc;

use cwn_engine::{engine::Engine, log::CircleId, output::CommandRefusal, replica::Replica};

use super::{short, types::Problem};
use crate::{driver::Failure, node::Node};

/// Commands and queries on one node.
#[derive(Debug, Clone)]
pub struct Api {
    pub(super) node: Arc<Node>,
    pub(super) uploads: Arc<super::attachments::Uploads>,
}

impl Api {
    /// The door of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, uploads: Arc::default() }
    }
}

impl Problem {
    pub(super) fn new(code: &str, error: impl std::fmt::Display) -> Self {
        Self { error: error.to_string(), code: code.to_owned() }
    }

    /// The request does not make sense.
    pub(super) fn bad_request(error: impl std::fmt::Display) -> Self {
        Self::new("bad_request", error)
    }

    /// Nothing has that name.
    pub(super) fn not_found(error: impl std::fmt::Display) -> Self {
        Self::new("not_found", error)
    }

    /// The rules do not allow it.
    pub(super) fn refused(error: impl std::fmt::Display) -> Self {
        Self::new("refused", error)
    }

    /// We are broken.
    pub(super) fn broken(error: impl std::fmt::Display) -> Self {
        Self::new("broken", error)
    }

    /// It came when so many of several things to do had been done, and those stand.
    pub(super) fn after(self, done: usize, of: usize, what: &str) -> Self {
        match done {
            0 => self,
            _ => Self { error: format!("{}; before that {done} of {of} {what}, which stands", self.error), ..self },
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Refused(CommandRefusal::NotCurrent { .. }) => "not_current",
            Failure::Refused(CommandRefusal::UnknownCircle | CommandRefusal::UnknownOffer) => "not_found",
            Failure::Refused(_) => "refused",
            Failure::ReadOnly(_) => "read_only",
            Failure::Ending => "ending",
        };
        Self::new(code, failure)
    }
}

/// The circle that a person named, by its name, its id or the start of its id.
pub(super) fn find_circle(engine: &Engine, named: &str) -> Result<CircleId, Problem> {
    among(engine.circles(), named).map_err(|missing| match offered(engine, named) {
        Ok(circle) if missing.code == "not_found" => Problem::not_found(format!(
            "{named} is offered to this node, which has not joined it; accept it first: `cwn circle accept {}`",
            short(&circle.to_string())
        )),
        _ => missing,
    })
}

/// The offer that a person named.
pub(super) fn find_offer(engine: &Engine, named: &str) -> Result<CircleId, Problem> {
    offered(engine, named).map_err(|missing| {
        let joined = engine.circles().filter(|replica| replica.fold().roster().member(&engine.me()).is_some());
        match among(joined, named) {
            Ok(_) if missing.code == "not_found" => Problem::refused(format!("this node is in {named} already")),
            _ => missing,
        }
    })
}

fn among<'a>(circles: impl Iterator<Item = &'a Replica>, named: &str) -> Result<CircleId, Problem> {
    let circles = circles.filter_map(|replica| Some((replica.id(), name_of(replica)?)));
    find(circles, named, "circle", "`cwn circle list` shows the circles of this node")
}

fn offered(engine: &Engine, named: &str) -> Result<CircleId, Problem> {
    let offers = engine.offers().map(|(circle, offer)| (*circle, offer.charter.name.clone()));
    find(offers, named, "offered circle", "`cwn circle list` shows what is offered")
}

/// The name of a circle; the network circle has none.
pub(super) fn name_of(replica: &Replica) -> Option<String> {
    Some(replica.control()?.charter().name.clone())
}

/// Whether a person means this circle: by its name, its id or the start of its id.
pub(super) fn is_named(circle: &CircleId, name: &str, named: &str) -> bool {
    const SHORTEST: usize = 6;
    name.eq_ignore_ascii_case(named) || named.len() >= SHORTEST && circle.to_string().starts_with(named)
}

fn find(
    circles: impl Iterator<Item = (CircleId, String)>,
    named: &str,
    what: &str,
    remedy: &str,
) -> Result<CircleId, Problem> {
    let found: Vec<(CircleId, String)> = circles.filter(|(id, name)| is_named(id, name, named)).collect();
    match found.as_slice() {
        [(id, _)] => Ok(*id),
        [] => Err(Problem::not_found(format!("there is no {what} {named:?} here; {remedy}"))),
        several => {
            let ids: Vec<String> =
                several.iter().map(|(id, name)| format!("{name} ({})", &id.to_string()[..12])).collect();
            Err(Problem::bad_request(format!("{named:?} means more than one {what}: {}; give the id", ids.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_for_several_things_at_once_hears_which_were_done_before_one_was_refused() {
        let refused = || Problem::refused("a steward of better rank removed it");
        assert_eq!(refused().after(0, 2, "cuts were raised"), refused(), "nothing was");
        let halfway = refused().after(1, 2, "cuts were raised");
        assert_eq!(
            halfway.error,
            "a steward of better rank removed it; before that 1 of 2 cuts were raised, which stands"
        );
        assert_eq!(halfway.code, "refused");
    }
}
