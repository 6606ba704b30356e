//! The root document of a CA: proposing a next version, signing it, adopting it.
//!
//! A proposal travels as a file from one root key holder to the next, none of whom needs a network: it is the whole
//! chain of versions with the proposed one behind, so that whoever signs can see what it follows and what it changes.
//! None of this needs the issuer's key, which may be the one that was stolen.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cwn_crypto::{
    Hash, PublicKey, SigningKey, Time,
    armour::{self, Label},
    encoding,
    issuer_log::{CutLine, LogId, Word},
    root::{
        CHAIN_LIMIT, DroppedIssuer, ISSUER_LIFE_MS, IssuerTerm, Refusal, Review, RootChain, RootDocument, SignedRoot,
        TrustRoot,
    },
};
use zeroize::Zeroizing;

use super::directory::{self, ISSUER_KEY, ISSUER_NEXT_KEY};
use crate::{
    driver::random,
    files::{self, at},
    keystore::{Unlock, seal_secret},
};

/// So long before an issuer's term ends its successor is asked for.
pub const WARNS_BEFORE_MS: u64 = 14 * Time::DAY_MS;

/// Why the root document did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA's directory.
    #[error(transparent)]
    Ca(#[from] directory::Error),
    /// A version that cannot be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file that holds no proposal.
    #[error("{}: {why}; ask for the file that `cwn ca root propose` wrote", .path.display())]
    NoProposal {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another network.
    #[error("{} is of network {found}, and this CA of {here}; sign and adopt nothing of another network", .path.display())]
    OtherNetwork {
        /// Which file.
        path: PathBuf,
        /// Its network.
        found: String,
        /// The network here.
        here: String,
    },
    /// It holds nothing new.
    #[error("{} holds version {version}, which is the one here; there is nothing to adopt", .path.display())]
    NothingNew {
        /// Which file.
        path: PathBuf,
        /// The version.
        version: u32,
    },
    /// Two files that do not belong together.
    #[error("{} proposes something else than the file before it; sign and adopt copies of one proposal", .0.display())]
    Different(PathBuf),
    /// The key may not sign it.
    #[error("key {0} is no root key, neither of the version before nor of this one; `cwn ca root show` lists them")]
    NotARootKey(PublicKey),
    /// An issuer that is not allowed.
    #[error("{0} is no issuer that the root document allows; `cwn ca root show` lists them")]
    NotAnIssuer(PublicKey),
    /// It is as the version before.
    #[error("that changes nothing; name what should be different, see `cwn ca root propose --help`")]
    NothingToChange,
    /// Nobody could issue any more.
    #[error("that would leave no issuer; add --new-issuer, which makes the key of another")]
    NoIssuer,
}

/// What shall be another than in the version before.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Make the key of a new issuer, and allow it from now on.
    pub new_issuer: bool,
    /// Issuers to drop, each with its last good heads, or with those that stand in the CA's own copy of its log.
    pub drop: Vec<(PublicKey, Option<Vec<CutLine>>)>,
    /// Drop the issuers whose terms are over.
    pub drop_ended: bool,
    /// Root keys to add.
    pub add_keys: Vec<PublicKey>,
    /// Root keys to leave out.
    pub remove_keys: Vec<PublicKey>,
    /// How many root keys must sign.
    pub threshold: Option<u16>,
    /// How old the issuers' word may be before nodes warn.
    pub freshness_ms: Option<u64>,
}

/// A version that is proposed, after the chain that it follows.
#[derive(Debug, Clone)]
pub struct Proposal {
    before: TrustRoot,
    proposed: SignedRoot,
}

impl Proposal {
    /// Reads a proposal from a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let no = |why: String| Error::NoProposal { path: path.to_owned(), why };
        let mut chain = read_chain(path)?;
        let proposed = chain.0.pop().ok_or_else(|| no("it is empty".to_owned()))?;
        if chain.0.is_empty() {
            return Err(no("it holds the first version alone".to_owned()));
        }
        Ok(Self { before: TrustRoot::from_chain(&chain)?, proposed })
    }

    /// What stands in its file.
    pub fn to_text(&self) -> String {
        let mut chain = self.before.chain();
        chain.0.push(self.proposed.clone());
        armour::armour(Label::RootDocument, &encoding::to_bytes(&chain))
    }

    /// Writes it to a file, also over what stands there.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        Ok(files::durable_write(path, self.to_text().as_bytes()).map_err(at(path)).map_err(directory::Error::from)?)
    }

    /// The root of trust that it follows.
    pub fn before(&self) -> &TrustRoot {
        &self.before
    }

    /// What it says and lacks.
    pub fn review(&self) -> Result<Review, Error> {
        Ok(self.before.review(&self.proposed)?)
    }

    /// Adds the signature of a root key.
    pub fn sign(&mut self, key: &SigningKey) -> Result<Review, Error> {
        let document = self.review()?.document;
        if !document.keys.contains(&key.public()) && !self.before.document().keys.contains(&key.public()) {
            return Err(Error::NotARootKey(key.public()));
        }
        self.proposed.add_signature(key);
        self.review()
    }

    /// Takes over the signatures of another copy.
    pub fn join(&mut self, other: &Self, path: &Path) -> Result<(), Error> {
        if self.proposed.add_signatures_of(&other.proposed) { Ok(()) } else { Err(Error::Different(path.to_owned())) }
    }
}

/// Reads the versions of a root document from a file; not verified yet.
pub fn read_chain(path: &Path) -> Result<RootChain, Error> {
    let no = |why: String| Error::NoProposal { path: path.to_owned(), why };
    let length = fs::metadata(path).map_err(at(path)).map_err(directory::Error::from)?.len();
    if length > 2 * CHAIN_LIMIT as u64 {
        return Err(no("it is longer than any root document".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(at(path)).map_err(directory::Error::from)?;
    let bytes = armour::dearmour(Label::RootDocument, &text, CHAIN_LIMIT).map_err(|why| no(why.to_string()))?;
    RootChain::from_bytes(&bytes).map_err(|why| no(why.to_string()))
}

/// Proposes a next version. `unlock` seals the key of a new issuer.
pub fn propose(
    dir: &Path,
    change: &Change,
    unlock: impl FnOnce() -> Result<Unlock, crate::keystore::Error>,
    now: Time,
) -> Result<Proposal, Error> {
    let before = directory::read_root(dir)?;
    let _guard = directory::lock(dir)?;
    let word = directory::read_word(dir, &before)?;
    let mut document = before.document().clone();
    let ended = document.issuers.iter().filter(|term| change.drop_ended && term.not_after < now);
    let drops: Vec<(PublicKey, Option<Vec<CutLine>>)> =
        change.drop.iter().cloned().chain(ended.map(|term| (term.issuer, None))).collect();
    for (issuer, heads) in drops {
        if !document.issuers.iter().any(|term| term.issuer == issuer) {
            return Err(Error::NotAnIssuer(issuer));
        }
        document.issuers.retain(|term| term.issuer != issuer);
        let mut heads = heads.unwrap_or_else(|| word.heads(&issuer));
        heads.sort();
        document.dropped.push(DroppedIssuer { issuer, heads });
    }
    if document.issuers.is_empty() && !change.new_issuer {
        return Err(Error::NoIssuer);
    }
    document
        .keys
        .extend(change.add_keys.iter().filter(|key| !document.keys.contains(key)).copied().collect::<Vec<_>>());
    document.keys.retain(|key| !change.remove_keys.contains(key));
    document.threshold = change.threshold.unwrap_or(document.threshold);
    document.freshness_ms = change.freshness_ms.unwrap_or(document.freshness_ms);
    if change.new_issuer {
        let issuer = next_issuer(dir, &unlock().map_err(directory::Error::from)?)?;
        let term = IssuerTerm { issuer, not_before: now, not_after: now.plus(ISSUER_LIFE_MS) };
        document.issuers.push(term);
    }
    if document == *before.document() {
        return Err(Error::NothingToChange);
    }
    let proposed = before.propose(|next| *next = document)?;
    Ok(Proposal { before, proposed })
}

/// The key of the next issuer: the one that an earlier proposal made, or a new one.
fn next_issuer(dir: &Path, unlock: &Unlock) -> Result<PublicKey, Error> {
    let path = dir.join(ISSUER_NEXT_KEY);
    if path.exists() {
        return Ok(directory::open_key(&path, unlock)?.public());
    }
    make_key(&path, unlock)
}

/// Makes a key, sealed, and returns its public half: a root key of another holder, for one.
pub fn make_key(path: &Path, unlock: &Unlock) -> Result<PublicKey, Error> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random());
    seal_secret(path, unlock, seed.as_slice()).map_err(directory::Error::from)?;
    Ok(SigningKey::from_seed(&seed).public())
}

/// Opens a root key.
pub fn open_root_key(path: &Path, unlock: &Unlock) -> Result<SigningKey, Error> {
    Ok(directory::open_key(path, unlock)?)
}

/// What became of an adoption.
#[derive(Debug)]
pub struct Adopted {
    /// The root of trust from now on.
    pub root: TrustRoot,
    /// The nodes whose certificates fell away with a dropped issuer.
    pub fallen: Vec<(PublicKey, cwn_crypto::PartnerId)>,
}

/// Adopts a proposal that enough root keys signed, in one file or several copies of it.
pub fn adopt(dir: &Path, files: &[PathBuf]) -> Result<Adopted, Error> {
    let before = directory::read_root(dir)?;
    let _guard = directory::lock(dir)?;
    let mut root = before.clone();
    let mut together: Option<Proposal> = None;
    for path in files {
        let proposal = Proposal::read(path)?;
        if proposal.before.network() != before.network() {
            let (found, here) = (proposal.before.network().to_string(), before.network().to_string());
            return Err(Error::OtherNetwork { path: path.clone(), found, here });
        }
        match &mut together {
            None => together = Some(proposal),
            Some(first) => first.join(&proposal, path)?,
        }
    }
    if let (Some(Proposal { before: until, proposed }), Some(path)) = (together, files.first()) {
        root.adopt(&until.chain().0)?;
        if root.adopt(std::slice::from_ref(&proposed))? == 0 {
            // One that does not follow at all says so.
            if root.chain().0.contains(&proposed) || root.signed().hash() == proposed.hash() {
                return Err(Error::NothingNew { path: path.clone(), version: before.version() });
            }
            root.advance(&proposed)?;
        }
    }
    let names = |word: &Word| -> Vec<(PublicKey, cwn_crypto::PartnerId)> {
        word.unrevoked().map(|own| (own.certificate.node, own.certificate.partner.clone())).collect()
    };
    let mut fallen = names(&directory::read_word(dir, &before)?);
    let standing = directory::read_word(dir, &root)?;
    fallen.retain(|(node, _)| standing.certificate(node).is_none());
    directory::write_root(dir, &root)?;
    Ok(Adopted { root, fallen })
}

/// The next issuer's key takes the place of the present one, once the root document allows it. Whoever holds the lock
/// calls this at every opening, so that a machine that stopped after an adoption goes on where it was.
pub(super) fn promote_issuer(dir: &Path, unlock: &Unlock, root: &TrustRoot) -> Result<(), directory::Error> {
    let next = dir.join(ISSUER_NEXT_KEY);
    if !next.exists() {
        return Ok(());
    }
    let key = directory::open_key(&next, unlock)?;
    if root.issuer(&key.public()).is_some() {
        let path = dir.join(ISSUER_KEY);
        fs::rename(&next, &path).and_then(|()| files::sync_dir(dir)).map_err(at(&path))?;
    }
    Ok(())
}

/// When the last of the allowed issuers ends, if that is soon or was before: then a successor is overdue.
pub fn issuers_end(root: &RootDocument, now: Time) -> Option<Time> {
    let last = root.issuers.iter().map(|term| term.not_after).max()?;
    (now.plus(WARNS_BEFORE_MS) >= last).then_some(last)
}

/// Reads a head as `LOG:HEIGHT:HASH`.
pub fn parse_head(text: &str) -> Result<CutLine, String> {
    let mut parts = text.split(':');
    let (log, height, head) = (parts.next(), parts.next(), parts.next());
    let parsed = (|| {
        let log = LogId::from_hex(log?)?;
        Some(CutLine { log, height: height?.parse().ok()?, head: Hash::from_hex(head?)? })
    })();
    parsed.filter(|_| parts.next().is_none()).ok_or_else(|| {
        "give a head as LOG:HEIGHT:HASH, as `cwn ca root show` prints those of the issuers' logs".to_owned()
    })
}
