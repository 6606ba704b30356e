//! Who someone is, what they signed, what they sealed.
//!
//! The trust story on one page:
//!
//! * A **root document** ([`root`]) names the root keys, how many of them must sign, and the issuers they
//!   allow. The hash of its first version is the network's id.
//! * An **issuer** signs **membership certificates** ([`certificate`]): this node key and this sealing key
//!   belong to this partner, for so long. It says so, and what it takes back, in its log ([`issuer_log`]).
//! * A partner gets its first certificate with an **invitation** ([`invitation`]); what a coordinator may
//!   approve, renew and revoke is [`authority`].
//! * What members write is **sealed** ([`seal`]) with age, to an epoch key or to named nodes.
//!
//! Everything signed has one canonical form ([`encoding`]), is signed under a domain of its own, and is
//! verified over the very bytes that arrived.
//!
//! This crate refuses to know clocks, files and the network: times and random bytes are arguments.

pub mod armour;
pub mod authority;
pub mod certificate;
pub mod encoding;
pub mod identity;
pub mod invitation;
pub mod issuer_log;
pub mod root;
pub mod seal;
pub mod words;

#[cfg(test)]
mod vectors;
#[cfg(any(test, feature = "stand-in"))]
mod verdicts;

pub use certificate::{Certificate, SignedCertificate};
pub use encoding::{Domain, Hash};
pub use identity::{NetworkId, PartnerId, PublicKey, Signature, Signed, SigningKey, Time};
pub use root::{SignedRoot, TrustRoot};
pub use seal::{Recipient, SealingKey};
