//! A circle that goes on for another: whose founder is lost, hostile or retires.
//!
//! A charter may name a circle that it succeeds, and the control heads that its founder had seen. Whoever holds that
//! circle can tell whether the founder belonged to it there: then the claim holds, else it is anybody's word. Nothing
//! more follows: the succeeded circle stays as it is, its members read it, and nothing of it is opened to those who
//! join the other.

use cwn_crypto::{PartnerId, PublicKey};

use crate::{
    circle::{Charter, Control, Steward, Succeeds},
    engine::Engine,
    limits,
    log::CircleId,
};

/// What this node makes of a claim to succeed a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The founder belonged to the circle at the heads it names.
    Holds {
        /// Whether it belongs still.
        belongs: bool,
    },
    /// It did not: who claims this has nothing to do with the circle.
    Unfounded,
    /// This node does not hold the circle so far, and cannot tell.
    Unknown,
}

/// A charter's claim to succeed a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The circle whose charter makes it.
    pub by: CircleId,
    /// Its name.
    pub name: String,
    /// Its founder.
    pub founder: PublicKey,
    /// The founder's partner.
    pub partner: PartnerId,
    /// The circle that is succeeded.
    pub succeeds: CircleId,
    /// Whether this node joined the one that claims; else it is an offer.
    pub joined: bool,
    /// What this node makes of it.
    pub standing: Standing,
}

/// What a charter says to succeed a circle, by what is held of that one now.
pub fn succeeding(control: &Control, circle: CircleId) -> Succeeds {
    let mut heads = control.heads();
    heads.truncate(limits::SUCCEEDED_HEADS);
    Succeeds { circle, heads }
}

impl Engine {
    /// The claim that a circle, or an offered one, makes.
    pub fn claim(&self, circle: &CircleId) -> Option<Claim> {
        let joined = self.circle(circle).and_then(|replica| replica.control()).map(Control::charter);
        let offered = || self.offers().find(|(id, _)| *id == circle).map(|(_, offer)| &offer.charter);
        self.claim_of(joined.or_else(offered)?, joined.is_some())
    }

    /// The claims to succeed a circle that hold, of circles this node is in or is offered.
    pub fn successors(&self, circle: &CircleId) -> Vec<Claim> {
        let joined = self.circles().filter_map(|replica| replica.control()).map(|control| (control.charter(), true));
        let offered = self.offers().map(|(_, offer)| (&offer.charter, false));
        let claims = joined.chain(offered).filter_map(|(charter, joined)| self.claim_of(charter, joined));
        claims.filter(|claim| claim.succeeds == *circle && matches!(claim.standing, Standing::Holds { .. })).collect()
    }

    fn claim_of(&self, charter: &Charter, joined: bool) -> Option<Claim> {
        let Succeeds { circle, heads } = charter.succeeds.as_ref()?;
        let founder = charter.stewards.first()?;
        let of_founder = |partner: &PartnerId| *partner == founder.partner;
        let standing = self.circle(circle).and_then(|old| {
            let belonged = old.control()?.fold_at(heads)?;
            let Steward { node, .. } = founder;
            let belonged = belonged.roster().member(&node.node).is_some_and(|member| of_founder(&member.partner));
            let belongs = old.fold().roster().member(&node.node).is_some_and(|member| of_founder(&member.partner));
            Some(if belonged { Standing::Holds { belongs } } else { Standing::Unfounded })
        });
        Some(Claim {
            by: charter.id(),
            name: charter.name.clone(),
            founder: founder.node.node,
            partner: founder.partner.clone(),
            succeeds: *circle,
            joined,
            standing: standing.unwrap_or(Standing::Unknown),
        })
    }
}
