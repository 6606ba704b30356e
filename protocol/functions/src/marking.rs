//! Markings: how far information may go (TLP 2.0) and what may be done with it (PAP).
//!
//! Sources: FIRST, Traffic Light Protocol 2.0 (2022); the Permissible Actions Protocol as MISP carries it.

use std::{fmt, str::FromStr};

use minicbor::{Decode, Encode};

/// TLP 2.0, from the widest to the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Tlp {
    /// For everybody.
    #[n(0)]
    Clear,
    /// For the community.
    #[n(1)]
    Green,
    /// For the organisation and those of its clients that need it.
    #[n(2)]
    Amber,
    /// For the organisation alone.
    #[n(3)]
    AmberStrict,
    /// For the named addressees alone.
    #[n(4)]
    Red,
}

/// The text is not a marking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMarking {
    /// Nothing was given. What is unmarked is never taken for CLEAR.
    #[error("no TLP marking is given; choose CLEAR, GREEN, AMBER, AMBER+STRICT or RED")]
    Unmarked,
    /// No such TLP.
    #[error("{0:?} is no TLP 2.0 marking; choose CLEAR, GREEN, AMBER, AMBER+STRICT or RED")]
    Tlp(String),
    /// No such PAP.
    #[error("{0:?} is no PAP marking; choose CLEAR, GREEN, AMBER or RED")]
    Pap(String),
}

fn word(text: &str, protocol: &str) -> String {
    let upper = text.trim().to_ascii_uppercase();
    upper.strip_prefix(protocol).unwrap_or(&upper).chars().take(40).collect()
}

impl FromStr for Tlp {
    type Err = NotAMarking;

    fn from_str(text: &str) -> Result<Self, NotAMarking> {
        match word(text, "TLP:").as_str() {
            "" => Err(NotAMarking::Unmarked),
            // TLP 1.0's WHITE is CLEAR.
            "CLEAR" | "WHITE" => Ok(Self::Clear),
            "GREEN" => Ok(Self::Green),
            "AMBER" => Ok(Self::Amber),
            "AMBER+STRICT" => Ok(Self::AmberStrict),
            "RED" => Ok(Self::Red),
            other => Err(NotAMarking::Tlp(other.to_owned())),
        }
    }
}

impl fmt::Display for Tlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clear => "TLP:CLEAR",
            Self::Green => "TLP:GREEN",
            Self::Amber => "TLP:AMBER",
            Self::AmberStrict => "TLP:AMBER+STRICT",
            Self::Red => "TLP:RED",
        })
    }
}

/// What may be done with information, from everything to nothing that the adversary could notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Pap {
    /// Anything.
    #[n(0)]
    Clear,
    /// Active defence is allowed.
    #[n(1)]
    Green,
    /// Passive cross-checking alone.
    #[n(2)]
    Amber,
    /// Nothing that can be seen from outside.
    #[n(3)]
    Red,
}

impl FromStr for Pap {
    type Err = NotAMarking;

    fn from_str(text: &str) -> Result<Self, NotAMarking> {
        match word(text, "PAP:").as_str() {
            "CLEAR" | "WHITE" => Ok(Self::Clear),
            "GREEN" => Ok(Self::Green),
            "AMBER" => Ok(Self::Amber),
            "RED" => Ok(Self::Red),
            other => Err(NotAMarking::Pap(other.to_owned())),
        }
    }
}

impl fmt::Display for Pap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clear => "PAP:CLEAR",
            Self::Green => "PAP:GREEN",
            Self::Amber => "PAP:AMBER",
            Self::Red => "PAP:RED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marking_is_read_back_as_it_is_shown() {
        for tlp in [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red] {
            assert_eq!(tlp.to_string().parse(), Ok(tlp));
        }
        for pap in [Pap::Clear, Pap::Green, Pap::Amber, Pap::Red] {
            assert_eq!(pap.to_string().parse(), Ok(pap));
        }
    }

    #[test]
    fn white_is_clear_and_case_does_not_matter() {
        assert_eq!("tlp:white".parse(), Ok(Tlp::Clear));
        assert_eq!(" amber+strict ".parse(), Ok(Tlp::AmberStrict));
    }

    #[test]
    fn what_is_unmarked_is_refused_and_not_taken_for_clear() {
        assert_eq!("".parse::<Tlp>(), Err(NotAMarking::Unmarked));
        assert_eq!("TLP:".parse::<Tlp>(), Err(NotAMarking::Unmarked));
    }

    #[test]
    fn an_unknown_marking_names_the_choices() {
        let refusal = "AMBER STRICT".parse::<Tlp>().unwrap_err().to_string();
        assert!(refusal.contains("AMBER+STRICT"), "{refusal}");
    }

    #[test]
    fn a_narrower_marking_is_greater() {
        assert!(Tlp::Red > Tlp::AmberStrict && Tlp::AmberStrict > Tlp::Amber && Tlp::Amber > Tlp::Green);
    }
}
