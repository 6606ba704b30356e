//! What issuers say in their logs in the network circle, and what follows from all of it together.
//!
//! A [`Statement`] is the payload of one entry. A [`Word`] is the fold over statements. The fold has no order:
//! members that received the same statements and hold the same root document, however these came, hold the same
//! word. What a dropped issuer said beyond its last good head is not part of it. So a revocation is never undone
//! here: a new version of the root document does that, by dropping the issuer at a head before it.
//!
//! This module refuses to know logs, entries and their signatures: the engine hands over what it accepted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use minicbor::{Decode, Encode};

use crate::{
    certificate::{self, Certificate, SignedCertificate},
    encoding::{self, Hash, hex, hex_decode, ordered_by_words},
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
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct LogId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

ordered_by_words!(LogId, 2);

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

    /// Reads one statement. A certificate in it is not verified yet; [`Word::hear`] does that.
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

/// How far a cut reaches into each log, and along which branch: to where it lists the log, else, transitively, to
/// where the opening of a log it reaches cites it. `cites` gives a log's opening, if it is held.
pub fn cut_reach<'a>(cut: &[CutLine], cites: impl Fn(&LogId) -> Option<&'a [CutLine]>) -> BTreeMap<LogId, CutLine> {
    let explicit: BTreeMap<LogId, CutLine> = cut.iter().map(|line| (line.log, *line)).collect();
    let mut reach = explicit.clone();
    let mut open: Vec<LogId> = explicit.keys().copied().collect();
    let mut followed: BTreeSet<LogId> = BTreeSet::new();
    while let Some(log) = open.pop() {
        // What an opening cites holds from the first entry on, however far the log is reached.
        if reach.get(&log).is_none_or(|line| line.height == 0) || !followed.insert(log) {
            continue;
        }
        for line in cites(&log).unwrap_or_default() {
            let known = reach.get(&line.log);
            // Of two that cite different branches to the same height, which one counts must not depend on order.
            let further = |known: &CutLine| (known.height, known.head) < (line.height, line.head);
            if !explicit.contains_key(&line.log) && known.is_none_or(further) {
                reach.insert(line.log, *line);
                open.push(line.log);
            }
        }
    }
    reach
}

/// Which statement is the later: that of the issuer which the root keys allowed later; then the one that claims a
/// later time, which never goes back within a log; then the one further on in its log. The hash only makes two of
/// one place comparable everywhere alike.
///
/// The certificate's own dates have no say, nor has what an issuer says of the order between two issuers but the
/// time: a thief of an issuer's key can make anything the last word of that key, but not against the key that
/// replaces it.
type Rank = (u32, Time, u64, Hash);

/// One statement as it is kept: once, however many lists name it.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    seq: u64,
    at: Time,
    entry: Hash,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly all of what issuers say are certificates")]
enum What {
    /// Its signature was verified; whether it counts, the root document says.
    Certificate(Certified),
    Revocation(PublicKey, Revoked),
    NothingElse,
    Nothing(Ignored),
}

/// A log of an issuer, as far as it was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Log {
    cites: Vec<CutLine>,
    /// In the order of their places.
    said: Vec<Arc<Said>>,
}

impl Log {
    fn hear(&mut self, said: Said) {
        let said = Arc::new(said);
        match self.place_of(said.seq) {
            Ok(place) => self.said[place] = said,
            Err(place) => self.said.insert(place, said),
        }
    }

    fn place_of(&self, seq: u64) -> Result<usize, usize> {
        self.said.binary_search_by_key(&seq, |said| said.seq)
    }

    fn at(&self, seq: u64) -> Option<&Arc<Said>> {
        self.place_of(seq).ok().map(|place| &self.said[place])
    }
}

/// A certificate that counts, with what decides its rank and is not said with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ranked {
    since_version: u32,
    said: Arc<Said>,
}

impl Ranked {
    fn certified(&self) -> &Certified {
        match &self.said.what {
            What::Certificate(certified) => certified,
            _ => unreachable!("certificates alone are ranked"),
        }
    }

    fn node(&self) -> &PublicKey {
        &self.certified().certificate.node
    }

    fn rank(&self) -> Rank {
        (self.since_version, self.said.at, self.said.seq, self.said.entry)
    }
}

/// Certificates in the order of their nodes, and those of one node by rank. Every node keeps one of everybody, so
/// they lie side by side, with no tree and no list of one around each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranking(Vec<Ranked>);

impl Ranking {
    fn insert(&mut self, ranked: Ranked) {
        let place = self.0.binary_search_by(|known| (known.node(), known.rank()).cmp(&(ranked.node(), ranked.rank())));
        if let Err(place) = place {
            self.0.insert(place, ranked);
        }
    }

    /// Those of one node, the latest last.
    fn of(&self, node: &PublicKey) -> &[Ranked] {
        let from = self.0.partition_point(|known| known.node() < node);
        let others = &self.0[from..];
        &others[..others.partition_point(|known| known.node() == node)]
    }

    /// Those of each node, the latest last.
    fn by_node(&self) -> impl Iterator<Item = &[Ranked]> {
        self.0.chunk_by(|one, next| one.node() == next.node())
    }
}

/// A statement, with where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// The author of the log.
    pub issuer: PublicKey,
    /// The log.
    pub log: LogId,
    /// The place in it.
    pub seq: u64,
    /// When the issuer claims to have said it.
    pub at: Time,
    /// The hash of the entry.
    pub entry: Hash,
    /// The earlier logs that the log's first entry cites; given with that entry.
    pub cites: Option<&'a [CutLine]>,
    /// What it says.
    pub statement: &'a Statement,
}

/// The issuers' word: all they said, folded.
///
/// `revocation` speaks of a node whether or not a certificate of it is here, and for good: a newer certificate
/// does not undo it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// Everything that was heard, so that a new root document can judge it anew.
    logs: BTreeMap<(PublicKey, LogId), Log>,
    /// How far the logs of dropped issuers count.
    reached: BTreeMap<PublicKey, BTreeMap<LogId, u64>>,
    certified: Ranking,
    /// The same, in the order of the entries they stand in.
    by_entry: Vec<Arc<Said>>,
    /// By node, then by the hash of the entry: the lowest decides.
    revocations: BTreeMap<PublicKey, BTreeMap<Hash, Revoked>>,
    revoked: BTreeMap<PublicKey, Revoked>,
    /// By entry, so that one that arrives twice counts once.
    ignored: BTreeMap<Hash, Ignored>,
    /// When each issuer spoke, in order.
    spoke: BTreeMap<PublicKey, Vec<Time>>,
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
    /// Takes in one statement, from an entry that was shown to be its issuer's.
    pub fn hear(&mut self, heard: Heard<'_>, root: &TrustRoot) {
        let Heard { issuer, log, seq, at, entry, cites, statement } = heard;
        let Some(known) = root.known(&issuer) else {
            self.ignored.insert(entry, Ignored::NotAnIssuer(issuer));
            return;
        };
        let what = examine(issuer, at, entry, statement, root);
        let place = self.logs.entry((issuer, log)).or_default();
        place.hear(Said { seq, at, entry, what });
        if let Some(cites) = cites {
            place.cites = cites.to_vec();
            if let Some(heads) = known.dropped {
                let reach = self.reach_of(&issuer, heads);
                let before = self.reached.insert(issuer, reach);
                if before != self.reached.get(&issuer).cloned() {
                    // It cites others, which count now.
                    return self.refold(root);
                }
            }
        }
        self.conclude(&issuer, &log, seq, root);
    }

    /// Forgets what a log of an issuer said from a place on: it was another branch of the log than the one that
    /// counts. Whether it had said anything there.
    pub fn forget(&mut self, issuer: &PublicKey, log: &LogId, from: u64, root: &TrustRoot) -> bool {
        let Some(known) = self.logs.get_mut(&(*issuer, *log)) else { return false };
        let (Ok(place) | Err(place)) = known.place_of(from);
        let gone = known.said.split_off(place);
        if from == 0 {
            self.logs.remove(&(*issuer, *log));
        }
        if !gone.is_empty() {
            self.refold(root);
        }
        !gone.is_empty()
    }

    /// Judges all that was heard by a new version of the root document.
    pub fn refold(&mut self, root: &TrustRoot) {
        *self = Self { logs: std::mem::take(&mut self.logs), ..Self::default() };
        let issuers: BTreeSet<PublicKey> = self.logs.keys().map(|(issuer, _)| *issuer).collect();
        for issuer in issuers {
            if let Some(heads) = root.known(&issuer).and_then(|known| known.dropped) {
                self.reached.insert(issuer, self.reach_of(&issuer, heads));
            }
        }
        let places: Vec<(PublicKey, LogId, u64)> = self
            .logs
            .iter()
            .flat_map(|((issuer, id), log)| log.said.iter().map(|said| (*issuer, *id, said.seq)))
            .collect();
        places.iter().for_each(|(issuer, log, seq)| self.conclude(issuer, log, *seq, root));
    }

    fn reach_of(&self, issuer: &PublicKey, heads: &[CutLine]) -> BTreeMap<LogId, u64> {
        let reach = cut_reach(heads, |log| self.logs.get(&(*issuer, *log)).map(|log| log.cites.as_slice()));
        reach.into_iter().map(|(log, line)| (log, line.height)).collect()
    }

    fn conclude(&mut self, issuer: &PublicKey, log: &LogId, seq: u64, root: &TrustRoot) {
        let Some(known) = root.known(issuer) else { return };
        let counts = |reach: &BTreeMap<LogId, u64>| reach.get(log).is_some_and(|height| seq < *height);
        if known.dropped.is_some() && !self.reached.get(issuer).is_some_and(counts) {
            return;
        }
        let Some(said) = self.logs.get(&(*issuer, *log)).and_then(|log| log.at(seq)).cloned() else { return };
        let Said { at, entry, .. } = *said;
        match &said.what {
            What::Certificate(certified) => {
                if let Err(refusal) = certified.certificate.check_term(root) {
                    self.ignored.insert(entry, Ignored::Certificate { issuer: *issuer, refusal });
                    return;
                }
                if let Err(place) = self.place_by_entry(&entry) {
                    self.by_entry.insert(place, Arc::clone(&said));
                }
                self.certified.insert(Ranked { since_version: known.since_version, said });
            }
            What::Revocation(node, revoked) => self.revoke(*node, entry, revoked.clone()),
            What::NothingElse => {}
            What::Nothing(ignored) => {
                self.ignored.insert(entry, ignored.clone());
                return;
            }
        }
        let spoke = self.spoke.entry(*issuer).or_default();
        if let Err(place) = spoke.binary_search(&at) {
            spoke.insert(place, at);
        }
    }

    fn place_by_entry(&self, entry: &Hash) -> Result<usize, usize> {
        self.by_entry.binary_search_by_key(entry, |said| said.entry)
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
        self.certified.of(node).last().map(Ranked::certified)
    }

    /// All certificates of the node, the newest first. One of them may begin later, or be somebody else's doing: a
    /// node uses the best that is its own.
    pub fn certificates(&self, node: &PublicKey) -> impl Iterator<Item = &Certified> {
        self.certified.of(node).iter().rev().map(Ranked::certified)
    }

    /// Whether this very certificate stands in the issuers' word.
    pub fn names(&self, certificate: &Certificate) -> bool {
        self.certificates(&certificate.node).any(|certified| certified.certificate == *certificate)
    }

    /// Whether the issuer's word, from more than a day after the certificate, is held and does not name it: then
    /// somebody else has the issuer's key, or the issuer hides what it does.
    pub fn keeps_silent_about(&self, certificate: &Certificate) -> bool {
        let issuer = &certificate.issuer;
        let later = certificate.not_before.plus(Time::DAY_MS);
        let spoke_later = self.spoke.get(issuer).and_then(|spoke| spoke.last()).is_some_and(|last| *last > later);
        !self.names(certificate) && spoke_later && self.is_whole(issuer)
    }

    /// Whether every log of the issuer that its other logs cite was heard so far.
    fn is_whole(&self, issuer: &PublicKey) -> bool {
        let last = |log: LogId| self.logs.get(&(*issuer, log)).and_then(|log| log.said.last());
        let height = |log: LogId| last(log).map_or(0, |said| said.seq + 1);
        let mut cited = self.logs_of(issuer).flat_map(|log| &log.cites);
        cited.all(|line| height(line.log) >= line.height)
    }

    fn logs_of(&self, issuer: &PublicKey) -> impl Iterator<Item = &Log> {
        let range = (*issuer, LogId([0; 16]))..=(*issuer, LogId([255; 16]));
        self.logs.range(range).map(|(_, log)| log)
    }

    /// Nodes whose certificates contradict one another, in their partner or their sealing key, with the two that
    /// do. Neither ever changes, so one of the two is somebody else's doing.
    pub fn contradictions(&self) -> impl Iterator<Item = (&Certified, &Certified)> {
        let differ = |a: &Certificate, b: &Certificate| (&a.partner, a.recipient) != (&b.partner, b.recipient);
        self.certified.by_node().filter_map(move |all| {
            let newest = all.last()?.certified();
            let mut others = all.iter().rev().map(Ranked::certified);
            let other = others.find(|other| differ(&other.certificate, &newest.certificate))?;
            Some((other, newest))
        })
    }

    /// The node that the statement in this entry certified, be it with a newer certificate since.
    pub fn certified_by(&self, entry: &Hash) -> Option<&PublicKey> {
        let said = &self.by_entry[self.place_by_entry(entry).ok()?];
        match &said.what {
            What::Certificate(certified) => Some(&certified.certificate.node),
            _ => None,
        }
    }

    /// The node's revocation.
    pub fn revocation(&self, node: &PublicKey) -> Option<&Revoked> {
        self.revoked.get(node)
    }

    /// The revoked nodes.
    pub fn revocations(&self) -> impl Iterator<Item = (&PublicKey, &Revoked)> {
        self.revoked.iter()
    }

    /// The claimed time of the newest statement.
    pub fn newest(&self) -> Option<Time> {
        self.spoke.values().filter_map(|spoke| spoke.last()).max().copied()
    }

    /// The claimed time of the newest statement that is not from the future: how fresh the issuers' word is.
    pub fn newest_by(&self, now: Time) -> Option<Time> {
        let until = now.plus(certificate::SKEW_MS);
        let newest = |spoke: &'_ Vec<Time>| spoke[..spoke.partition_point(|at| *at <= until)].last().copied();
        self.spoke.values().filter_map(newest).max()
    }

    /// The newest certificate of every node, by node key, revoked ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Certified> {
        self.certified.by_node().filter_map(|all| all.last().map(Ranked::certified))
    }

    /// The certificates of issuers that were dropped since and that stand all the same.
    pub fn of_dropped<'a>(&'a self, root: &'a TrustRoot) -> impl Iterator<Item = &'a Certified> {
        let dropped = |certified: &&Certified| root.issuer(&certified.certificate.issuer).is_none();
        self.certified.0.iter().map(Ranked::certified).filter(dropped)
    }

    /// The heads of the issuer's logs that its other logs do not cite, as far as they were heard: what a version
    /// that drops it names as its last good ones.
    pub fn heads(&self, issuer: &PublicKey) -> Vec<CutLine> {
        let cited: BTreeSet<&CutLine> = self.logs_of(issuer).flat_map(|log| &log.cites).collect();
        let range = (*issuer, LogId([0; 16]))..=(*issuer, LogId([255; 16]));
        let head = |((_, id), log): (&(PublicKey, LogId), &Log)| {
            let last = log.said.last()?;
            Some(CutLine { log: *id, height: last.seq + 1, head: last.entry })
        };
        self.logs.range(range).filter_map(head).filter(|line| !cited.contains(line)).collect()
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

/// Verifies what does not depend on the root document, once.
fn examine(issuer: PublicKey, at: Time, entry: Hash, statement: &Statement, root: &TrustRoot) -> What {
    if let Err(refusal) = statement.check() {
        return What::Nothing(Ignored::Limit { issuer, refusal });
    }
    match statement {
        Statement::Certificate(signed) => match certificate::genuine(signed, root.network()) {
            Err(refusal) => What::Nothing(Ignored::Certificate { issuer, refusal }),
            Ok(certificate) if certificate.issuer != issuer => {
                What::Nothing(Ignored::AnothersCertificate { author: issuer, issuer: certificate.issuer })
            }
            Ok(certificate) => What::Certificate(Certified { certificate, signed: signed.clone(), entry }),
        },
        Statement::Revocation { node, serial, reason, cut } => {
            What::Revocation(*node, Revoked { serial: *serial, reason: reason.clone(), at, cut: cut.clone() })
        }
        Statement::NothingElse => What::NothingElse,
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
