//! What issuers say in their logs in the network circle, and what follows from all of it together.
//!
//! A [`Statement`] is the payload of one entry. A [`Word`] is the fold over statements. The fold has no order:
//! members that received the same statements, however they came, hold the same word. A revocation is never
//! undone here; only a new version of the root document does that.
//!
//! This module refuses to know logs, entries and their signatures: the engine hands over what it accepted.

use std::{collections::BTreeMap, fmt};

use minicbor::{Decode, Encode};

use crate::{
    certificate::{self, Certificate, SignedCertificate},
    encoding::{self, Hash, hex, hex_decode},
    identity::{PartnerId, PublicKey, Time},
    root::TrustRoot,
};

/// The bytes of one statement: a revocation with its reason and a cut of [`CUT_LIMIT`] logs.
pub const STATEMENT_LIMIT: usize = 64 * 1024;
/// The characters of the reason of a revocation.
pub const REASON_LIMIT: usize = 500;
/// The logs one cut may list: a node that started daily for years cites most of them in one another.
pub const CUT_LIMIT: usize = 1024;

/// The id of a log: 16 random bytes, fresh at each start of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct LogId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl LogId {
    /// Reads 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_decode(text).map(Self)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0[..6], f)
    }
}

/// One line of a cut: up to where a log counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CutLine {
    /// The log.
    #[n(0)]
    pub log: LogId,
    /// How many of its entries count.
    #[n(1)]
    pub height: u64,
    /// The hash of the last of these.
    #[n(2)]
    pub head: Hash,
}

/// What an issuer says in one entry of its log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Statement {
    /// I issued this.
    #[n(0)]
    Certificate(#[n(0)] SignedCertificate),
    /// This node is no longer to be believed, whatever certificate it has or will have.
    #[n(1)]
    Revocation {
        /// The node.
        #[n(0)]
        node: PublicKey,
        /// The certificate that was in force.
        #[n(1)]
        serial: u64,
        /// Why, for people; at most 500 characters.
        #[n(2)]
        reason: String,
        /// What still counts of the node's logs in the network circle; nothing of those not listed.
        #[n(3)]
        cut: Vec<CutLine>,
    },
    /// Nothing since the entry before; said daily, so that silence is told from withholding.
    #[n(2)]
    NothingElse,
}

/// Why bytes are not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not the canonical form of one.
    #[error("the issuer's statement cannot be read: {0}; fetch its log again")]
    Encoding(#[from] encoding::Refusal),
    /// The reason is longer than a person reads.
    #[error("the reason has {length} characters where at most {REASON_LIMIT} are allowed; shorten it")]
    Reason {
        /// How many characters it has.
        length: usize,
    },
    /// The cut lists too many logs.
    #[error("the cut lists {count} logs where at most {CUT_LIMIT} are allowed; list those that others do not cite")]
    Cut {
        /// How many it lists.
        count: usize,
    },
    /// The cut lists a log twice, or not in order, so that it could be spelled in more ways than one.
    #[error("the cut must list each log once, in the order of their ids")]
    CutOrder,
}

impl Statement {
    /// The canonical bytes, for the payload of an entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }

    /// Reads one statement. A certificate in it is not verified yet; [`Word::apply`] does that.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let statement: Self = encoding::from_bytes(bytes, STATEMENT_LIMIT)?;
        statement.check()?;
        Ok(statement)
    }

    /// Whether it keeps the limits, to be asked before it is appended.
    pub fn check(&self) -> Result<(), Refusal> {
        let Self::Revocation { reason, cut, .. } = self else {
            return Ok(());
        };
        let length = reason.chars().count();
        if length > REASON_LIMIT {
            return Err(Refusal::Reason { length });
        }
        if cut.len() > CUT_LIMIT {
            return Err(Refusal::Cut { count: cut.len() });
        }
        if cut.windows(2).any(|pair| pair[0].log >= pair[1].log) { Err(Refusal::CutOrder) } else { Ok(()) }
    }
}

/// A node's newest certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// What it says.
    pub certificate: Certificate,
    /// With its issuer's signature, to hand on.
    pub signed: SignedCertificate,
    /// The entry in which the issuer said so.
    pub entry: Hash,
}

impl Certified {
    /// Newest first decides; serial and hashes only make two of one moment comparable everywhere alike.
    fn rank(&self) -> (Time, u64, Hash, Hash) {
        (self.certificate.not_before, self.certificate.serial, self.certificate.hash(), self.entry)
    }
}

/// What became of a node that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The certificate that was in force.
    pub serial: u64,
    /// Why.
    pub reason: String,
    /// When, as the issuer claims.
    pub at: Time,
    /// What still counts of its logs in the network circle, in the order of their ids.
    pub cut: Vec<CutLine>,
}

/// The issuers' word: all they said, folded.
///
/// `revocation` speaks of a node whether or not a certificate of it is here, and for good: a newer certificate
/// does not undo it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    certified: BTreeMap<PublicKey, Certified>,
    certified_by: BTreeMap<Hash, PublicKey>,
    /// By node, then by the hash of the entry: the lowest decides.
    revocations: BTreeMap<PublicKey, BTreeMap<Hash, Revoked>>,
    revoked: BTreeMap<PublicKey, Revoked>,
    /// By entry, so that one that arrives twice counts once.
    ignored: BTreeMap<Hash, Ignored>,
    newest: Option<Time>,
}

/// Why a statement was put aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The root document does not allow its author.
    #[error("{0} speaks as an issuer, and the root document does not allow it")]
    NotAnIssuer(PublicKey),
    /// The certificate in it does not verify.
    #[error("issuer {issuer} stated a certificate that does not hold: {refusal}")]
    Certificate {
        /// Who stated it.
        issuer: PublicKey,
        /// What is wrong with it.
        #[source]
        refusal: certificate::Refusal,
    },
    /// The certificate in it is another issuer's.
    #[error("issuer {author} stated a certificate that {issuer} issued; each must state its own")]
    AnothersCertificate {
        /// Who stated it.
        author: PublicKey,
        /// Who issued it.
        issuer: PublicKey,
    },
    /// It breaks a limit.
    #[error("issuer {issuer}: {refusal}")]
    Limit {
        /// Who stated it.
        issuer: PublicKey,
        /// The limit.
        #[source]
        refusal: Refusal,
    },
}

impl Word {
    /// Takes in one statement of `issuer`, claimed at `at`, from the accepted entry with this hash.
    pub fn apply(&mut self, issuer: PublicKey, at: Time, entry: Hash, statement: &Statement, root: &TrustRoot) {
        match self.take_in(issuer, at, entry, statement, root) {
            Ok(()) => self.newest = self.newest.max(Some(at)),
            Err(ignored) => {
                self.ignored.insert(entry, ignored);
            }
        }
    }

    fn take_in(
        &mut self,
        issuer: PublicKey,
        at: Time,
        entry: Hash,
        statement: &Statement,
        root: &TrustRoot,
    ) -> Result<(), Ignored> {
        if root.issuer(&issuer).is_none() {
            return Err(Ignored::NotAnIssuer(issuer));
        }
        statement.check().map_err(|refusal| Ignored::Limit { issuer, refusal })?;
        match statement {
            Statement::Certificate(signed) => {
                let certificate =
                    certificate::verify(signed, root).map_err(|refusal| Ignored::Certificate { issuer, refusal })?;
                if certificate.issuer != issuer {
                    return Err(Ignored::AnothersCertificate { author: issuer, issuer: certificate.issuer });
                }
                self.certify(Certified { certificate, signed: signed.clone(), entry });
            }
            Statement::Revocation { node, serial, reason, cut } => {
                let revoked = Revoked { serial: *serial, reason: reason.clone(), at, cut: cut.clone() };
                self.revoke(*node, entry, revoked);
            }
            Statement::NothingElse => {}
        }
        Ok(())
    }

    fn certify(&mut self, certified: Certified) {
        let node = certified.certificate.node;
        self.certified_by.insert(certified.entry, node);
        match self.certified.get(&node) {
            Some(present) if present.rank() >= certified.rank() => {}
            _ => {
                self.certified.insert(node, certified);
            }
        }
    }

    /// Of several revocations the one in the entry of lowest hash gives serial, reason and time, and the cut of
    /// each log that more than one lists; a log that only one lists counts as that one says.
    fn revoke(&mut self, node: PublicKey, entry: Hash, revoked: Revoked) {
        let all = self.revocations.entry(node).or_default();
        all.insert(entry, revoked);
        let mut cut = BTreeMap::new();
        for line in all.values().flat_map(|revoked| &revoked.cut) {
            cut.entry(line.log).or_insert(*line);
        }
        if let Some(deciding) = all.values().next() {
            let together = Revoked { cut: cut.into_values().collect(), ..deciding.clone() };
            self.revoked.insert(node, together);
        }
    }

    /// The node's newest certificate, revoked or not.
    pub fn certificate(&self, node: &PublicKey) -> Option<&Certified> {
        self.certified.get(node)
    }

    /// The node that the statement in this entry certified, be it with a newer certificate since.
    pub fn certified_by(&self, entry: &Hash) -> Option<&PublicKey> {
        self.certified_by.get(entry)
    }

    /// The node's revocation.
    pub fn revocation(&self, node: &PublicKey) -> Option<&Revoked> {
        self.revoked.get(node)
    }

    /// The revoked nodes.
    pub fn revocations(&self) -> impl Iterator<Item = (&PublicKey, &Revoked)> {
        self.revoked.iter()
    }

    /// The claimed time of the newest statement: how fresh the issuers' word is.
    pub fn newest(&self) -> Option<Time> {
        self.newest
    }

    /// The newest certificate of every node, by node key, revoked ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Certified> {
        self.certified.values()
    }

    /// The newest certificates of the partner's nodes, by node key, revoked ones too.
    pub fn partner<'a>(&'a self, partner: &'a PartnerId) -> impl Iterator<Item = &'a Certified> {
        self.nodes().filter(move |certified| certified.certificate.partner == *partner)
    }

    /// The newest certificates of the nodes that are not revoked: those a coordinator renews.
    pub fn unrevoked(&self) -> impl Iterator<Item = &Certified> {
        self.nodes().filter(|certified| !self.revoked.contains_key(&certified.certificate.node))
    }

    /// What was put aside, by entry, and why: a reason for an alarm.
    pub fn ignored(&self) -> &BTreeMap<Hash, Ignored> {
        &self.ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(reason: &str, logs: impl Iterator<Item = u16>) -> Statement {
        let line = |log: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&log.to_be_bytes());
            CutLine { log: LogId(id), height: 1, head: Hash([7; 32]) }
        };
        let cut = logs.map(line).collect();
        Statement::Revocation { node: PublicKey([3; 32]), serial: 1, reason: reason.to_owned(), cut }
    }

    fn read(statement: &Statement) -> Result<Statement, Refusal> {
        Statement::from_bytes(&statement.to_bytes())
    }

    #[test]
    fn the_longest_statement_allowed_is_read_and_one_more_is_not() {
        let longest = revocation(&"\u{1f600}".repeat(REASON_LIMIT), 0..1024);
        assert_eq!(read(&longest), Ok(longest));
        assert_eq!(read(&revocation(&"x".repeat(501), 0..0)), Err(Refusal::Reason { length: 501 }));
        assert_eq!(read(&revocation("", 0..1025)), Err(Refusal::Cut { count: 1025 }));
    }

    #[test]
    fn a_cut_lists_each_log_once_and_in_order() {
        assert_eq!(read(&revocation("", [1, 1].into_iter())), Err(Refusal::CutOrder));
        assert_eq!(read(&revocation("", [2, 1].into_iter())), Err(Refusal::CutOrder));
    }

    #[test]
    fn what_is_no_statement_is_refused_however_long_or_deep() {
        assert!(matches!(Statement::from_bytes(&vec![0; STATEMENT_LIMIT + 1]), Err(Refusal::Encoding(_))));
        let deep = vec![0x81; STATEMENT_LIMIT];
        assert!(matches!(Statement::from_bytes(&deep), Err(Refusal::Encoding(_))));
        // A cut that claims 2^64 - 1 lines and holds none.
        let start = revocation("", 0..0).to_bytes();
        let huge = [&start[..start.len() - 1], &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255]].concat();
        assert!(matches!(Statement::from_bytes(&huge), Err(Refusal::Encoding(_))));
    }
}
