//! Who may publish what, and to whom. Honest nodes ask this before they seal.

use std::collections::BTreeMap;

use cwn_crypto::{PartnerId, PublicKey};
use cwn_engine::root::Freshness;

use crate::{circle_policy::Policy, marking::Tlp};

/// Why something may not be published in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Narrower than the circle goes.
    #[error("{tlp} is above what this circle carries, {ceiling}")]
    AboveCeiling {
        /// The marking.
        tlp: Tlp,
        /// The circle's ceiling.
        ceiling: Tlp,
    },
    /// RED without addressees.
    #[error("TLP:RED names its addressees; say to which partners it goes (--to)")]
    RedWithoutAddressees,
    /// An addressee that is not in the circle.
    #[error("{partner} does not belong to this circle; it has: {}", .members.join(", "))]
    NotAMember {
        /// The addressee.
        partner: PartnerId,
        /// Who is.
        members: Vec<String>,
    },
}

/// Whether something with this marking may be published to these partners (to all, when none is named).
pub fn may_publish(
    tlp: Tlp,
    to: &[PartnerId],
    policy: &Policy,
    members: &BTreeMap<PublicKey, PartnerId>,
) -> Result<(), Forbidden> {
    if tlp > policy.ceiling {
        return Err(Forbidden::AboveCeiling { tlp, ceiling: policy.ceiling });
    }
    if tlp == Tlp::Red && to.is_empty() {
        return Err(Forbidden::RedWithoutAddressees);
    }
    let belongs = |partner: &&PartnerId| members.values().any(|member| member == *partner);
    if let Some(partner) = to.iter().find(|partner| !belongs(partner)) {
        let mut names: Vec<String> = members.values().map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        return Err(Forbidden::NotAMember { partner: partner.clone(), members: names });
    }
    Ok(())
}

/// What an entry waits for before it may be sealed. It is kept until then, unless an operator seals it on record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Awaited {
    /// The node has not heard enough since its start to be sure of who belongs.
    #[error("no word yet from {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Members(Vec<PartnerId>),
    /// Whoever was revoked since the issuer's last word would still be sealed to.
    #[error("the issuer's last word is too old for this marking")]
    Issuer,
}

/// What an entry with this marking waits for, where these partners must be heard before the node is current.
///
/// Above GREEN a restored roster must not seal to those removed since; AMBER+STRICT and RED not to those revoked.
pub fn awaited(tlp: Tlp, unheard: Vec<PartnerId>, word: Freshness) -> Vec<Awaited> {
    let mut awaited = Vec::new();
    if tlp > Tlp::Green && !unheard.is_empty() {
        awaited.push(Awaited::Members(unheard));
    }
    if tlp >= Tlp::AmberStrict && word == Freshness::HoldsBack {
        awaited.push(Awaited::Issuer);
    }
    awaited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tlp: Tlp, to: &[&str]) -> Result<(), Forbidden> {
        let members = [("z-cert", 1), ("ferm", 2)];
        let members = members.map(|(name, key)| (PublicKey([key; 32]), name.parse().unwrap()));
        let policy = Policy { ceiling: Tlp::Red, ..Policy::default() };
        let to: Vec<PartnerId> = to.iter().map(|name| name.parse().unwrap()).collect();
        may_publish(tlp, &to, &policy, &members.into_iter().collect())
    }

    #[test]
    fn i11_nothing_goes_above_the_circles_ceiling() {
        let policy = Policy { ceiling: Tlp::Green, ..Policy::default() };
        let refused = may_publish(Tlp::Amber, &[], &policy, &BTreeMap::new());
        assert_eq!(refused, Err(Forbidden::AboveCeiling { tlp: Tlp::Amber, ceiling: Tlp::Green }));
        assert_eq!(may_publish(Tlp::Green, &[], &policy, &BTreeMap::new()), Ok(()));
    }

    #[test]
    fn red_goes_to_named_members_alone() {
        assert_eq!(check(Tlp::Red, &[]), Err(Forbidden::RedWithoutAddressees));
        assert_eq!(check(Tlp::Red, &["ferm"]), Ok(()));
        assert!(matches!(check(Tlp::Red, &["ibd"]), Err(Forbidden::NotAMember { .. })));
    }

    #[test]
    fn above_green_a_node_that_is_not_current_waits_and_up_to_green_it_does_not() {
        let unheard = || vec!["ncsc".parse().unwrap()];
        for tlp in [Tlp::Clear, Tlp::Green] {
            assert_eq!(awaited(tlp, unheard(), Freshness::HoldsBack), []);
        }
        for tlp in [Tlp::Amber, Tlp::AmberStrict, Tlp::Red] {
            assert_eq!(awaited(tlp, unheard(), Freshness::Fresh), [Awaited::Members(unheard())]);
            assert_eq!(awaited(tlp, Vec::new(), Freshness::Stale), []);
        }
    }

    #[test]
    fn a_word_that_is_too_old_holds_back_amber_strict_and_red_alone() {
        assert_eq!(awaited(Tlp::Amber, Vec::new(), Freshness::HoldsBack), []);
        for tlp in [Tlp::AmberStrict, Tlp::Red] {
            assert_eq!(awaited(tlp, Vec::new(), Freshness::HoldsBack), [Awaited::Issuer]);
        }
        let both = awaited(Tlp::Red, vec!["ncsc".parse().unwrap()], Freshness::HoldsBack);
        assert_eq!(both.len(), 2);
    }
}
