//! What a circle is for and how high its information goes: the policy bytes in its charter.

use std::{fmt, str::FromStr};

use cwn_crypto::{PartnerId, encoding};
use cwn_engine::limits;
use minicbor::{Decode, Encode};

use crate::marking::Tlp;

/// A policy in bytes.
pub const POLICY_BYTES: usize = 16 << 10;
/// Characters of a description.
pub const DESCRIPTION_CHARS: usize = 2_000;

/// The five functions of the network (vision, chapter 4) that a circle can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Purpose {
    /// Informatiedeling.
    #[n(0)]
    Sharing,
    /// Doelwit- en slachtoffernotificatie.
    #[n(1)]
    Notification,
    /// Incidentafhandeling.
    #[n(2)]
    Incident,
    /// Kennisuitwisseling.
    #[n(3)]
    Knowledge,
    /// Opleiden, trainen en oefenen.
    #[n(4)]
    Exercise,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sharing, Self::Notification, Self::Incident, Self::Knowledge, Self::Exercise];
}

/// The text names no function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no function of the network; choose sharing, notification, incident, knowledge or exercise")]
pub struct NotAPurpose(String);

impl FromStr for Purpose {
    type Err = NotAPurpose;

    fn from_str(text: &str) -> Result<Self, NotAPurpose> {
        match text.to_ascii_lowercase().as_str() {
            "sharing" => Ok(Self::Sharing),
            "notification" => Ok(Self::Notification),
            "incident" => Ok(Self::Incident),
            "knowledge" => Ok(Self::Knowledge),
            "exercise" => Ok(Self::Exercise),
            _ => Err(NotAPurpose(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sharing => "sharing",
            Self::Notification => "notification",
            Self::Incident => "incident",
            Self::Knowledge => "knowledge",
            Self::Exercise => "exercise",
        })
    }
}

/// What honest nodes publish and show in a circle.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Policy {
    /// The narrowest marking that may be published here.
    #[n(0)]
    pub ceiling: Tlp,
    /// The functions it is for.
    #[n(1)]
    pub purposes: Vec<Purpose>,
    /// What it is for, in words.
    #[n(2)]
    pub description: String,
}

impl Default for Policy {
    /// A policy that cannot be read, a later version's perhaps, allows no more than what anybody may see.
    fn default() -> Self {
        Self { ceiling: Tlp::Clear, purposes: Vec::new(), description: String::new() }
    }
}

/// What a bilateral circle is called: the same by both of its partners. No partner's short name has a tilde; a very
/// long one is cut, so that both fit in a circle's name.
pub fn bilateral_name(one: &PartnerId, other: &PartnerId) -> String {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    const EACH: usize = (limits::CIRCLE_NAME_CHARS - 1) / 2;
    let cut = |partner: &PartnerId| partner.to_string().chars().take(EACH).collect::<String>();
    format!("{}~{}", cut(first), cut(second))
}

/// Why something is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not canonical, or too long.
    #[error("the circle's policy is {0}")]
    Encoding(#[from] encoding::Refusal),
    /// The description cannot be shown.
    #[error("a circle's description has at most {DESCRIPTION_CHARS} characters")]
    Description,
}

impl Policy {
    /// The template of a bilateral circle: everything that two partners may have to say to each other.
    pub fn bilateral() -> Self {
        Self { ceiling: Tlp::Red, purposes: Purpose::ALL.to_vec(), description: String::new() }
    }

    /// Reads a policy.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let policy: Self = encoding::from_bytes(bytes, POLICY_BYTES)?;
        policy.check()
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        self.clone().check().map(|policy| encoding::to_bytes(&policy))
    }

    fn check(self) -> Result<Self, Refusal> {
        if self.description.chars().count() > DESCRIPTION_CHARS {
            return Err(Refusal::Description);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_back_as_it_was_written() {
        let policy = Policy {
            ceiling: Tlp::Amber,
            purposes: vec![Purpose::Sharing, Purpose::Incident],
            description: "zorg".to_owned(),
        };
        assert_eq!(Policy::from_bytes(&policy.to_bytes().unwrap()), Ok(policy));
    }

    #[test]
    fn a_bilateral_circle_has_one_name_for_both_and_is_for_everything() {
        let [ferm, z_cert]: [PartnerId; 2] = ["ferm", "z-cert"].map(|name| name.parse().unwrap());
        assert_eq!(bilateral_name(&ferm, &z_cert), "ferm~z-cert");
        assert_eq!(bilateral_name(&z_cert, &ferm), "ferm~z-cert");
        assert!("ferm~z".parse::<PartnerId>().is_err());
        let long: PartnerId = "x".repeat(64).parse().unwrap();
        assert!(bilateral_name(&long, &ferm).len() <= limits::CIRCLE_NAME_CHARS);
        let policy = Policy::bilateral();
        assert_eq!((policy.ceiling, policy.purposes.len()), (Tlp::Red, 5));
        let named = policy.purposes.iter().map(|purpose| purpose.to_string().parse());
        assert_eq!(named.collect::<Result<Vec<Purpose>, _>>(), Ok(policy.purposes));
    }

    #[test]
    fn a_policy_that_cannot_be_read_allows_only_what_anybody_may_see() {
        assert!(Policy::from_bytes(b"\xff").is_err());
        assert_eq!(Policy::default().ceiling, Tlp::Clear);
    }

    #[test]
    fn an_overlong_description_is_refused_when_written() {
        let description = "x".repeat(DESCRIPTION_CHARS + 1);
        let policy = Policy { description, ..Policy::default() };
        assert_eq!(policy.to_bytes(), Err(Refusal::Description));
    }

    #[test]
    fn a_policy_that_is_spelled_in_another_way_is_refused() {
        // The ceiling, GREEN, in two bytes where one is enough.
        let bytes = [0x83, 0x18, 0x01, 0x80, 0x60];
        assert_eq!(Policy::from_bytes(&bytes), Err(Refusal::Encoding(encoding::Refusal::NotCanonical)));
        assert!(Policy::from_bytes(&[0x83, 0x01, 0x80, 0x60]).is_ok());
    }

    #[test]
    fn a_policy_longer_than_one_may_be_is_not_decoded() {
        let length = POLICY_BYTES + 1;
        let refused = encoding::Refusal::TooLong { length, limit: POLICY_BYTES };
        assert_eq!(Policy::from_bytes(&vec![0; length]), Err(Refusal::Encoding(refused)));
    }
}
