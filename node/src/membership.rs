//! What makes a node a member: the root document, its certificate and the issuer's log as it was handed over.
//!
//! They lie in the data directory as armoured text, so that a person can see what they are and mail them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    string::FromUtf8Error,
};

use cwn_crypto::{
    PublicKey,
    armour::{self, Label},
    certificate::{self, CERTIFICATE_LIMIT, Certificate, SignedCertificate},
    encoding,
    root::{CHAIN_LIMIT, RootChain, TrustRoot},
};
use cwn_engine::log::EntryBytes;

use crate::{
    files::{self, at},
    keystore::Keys,
};

const ROOT_FILE: &str = "root.cwn";
const CERTIFICATE_FILE: &str = "certificate.cwn";
const ISSUER_LOG_FILE: &str = "issuer-log.cwn";
/// The files that a membership is kept in, within the data directory.
pub const FILES: [&str; 3] = [ROOT_FILE, CERTIFICATE_FILE, ISSUER_LOG_FILE];

/// An issuer's log as a file: a hundred thousand certificates.
const ISSUER_LOG_BYTES: usize = 64 << 20;

/// Why a node is no member.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// Not there.
    #[error("{} is missing; join a network first: cwn --data {} join INVITATION", .path.display(), .data.display())]
    Absent {
        /// Which file.
        path: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
    /// Not what it should be.
    #[error("{}: {why}; if it is damaged, restore it from a backup, or ask the coordinator for it again", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate of other keys.
    #[error("the certificate is of node {named}, but the keys here are of {here}; they belong to two data directories")]
    OtherKeys {
        /// The node in the certificate.
        named: String,
        /// The node of the keys.
        here: String,
    },
}

/// What makes a node a member.
#[derive(Debug, Clone)]
pub struct Membership {
    root: TrustRoot,
    signed: SignedCertificate,
    certificate: Certificate,
}

impl Membership {
    /// Takes what a coordinator handed over, if it holds and is for these keys. That a dropped issuer issued it is no
    /// reason to refuse: whether it stands, the issuers' word says, and a node that has it can be given another.
    pub fn new(root: TrustRoot, signed: SignedCertificate, keys: &Keys) -> Result<Self, String> {
        let certificate = certificate::verify_known(&signed, &root).map_err(|refusal| refusal.to_string())?;
        let (here, recipient) = (keys.signing.public(), keys.sealing.recipient());
        if certificate.node != here || certificate.recipient != recipient {
            return Err(Error::OtherKeys { named: certificate.node.to_string(), here: here.to_string() }.to_string());
        }
        Ok(Self { root, signed, certificate })
    }

    /// Whether a data directory is a member's.
    pub fn exists(data: &Path) -> bool {
        data.join(CERTIFICATE_FILE).exists()
    }

    /// Refuses a data directory that is no member's, with the remedy.
    pub fn expect(data: &Path) -> Result<(), Error> {
        let path = data.join(CERTIFICATE_FILE);
        match fs::metadata(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Absent { path, data: data.to_owned() }),
            Err(error) => Err(files::at(&path)(error).into()),
        }
    }

    /// The membership in a data directory.
    pub fn load(data: &Path, keys: &Keys) -> Result<Self, Error> {
        let root_path = data.join(ROOT_FILE);
        let malformed = |path: &Path, why: String| Error::Malformed { path: path.to_owned(), why };
        let root = dearmour(data, ROOT_FILE, Label::RootDocument, CHAIN_LIMIT)?;
        let root = RootChain::from_bytes(&root).and_then(|chain| TrustRoot::from_chain(&chain));
        let root = root.map_err(|refusal| malformed(&root_path, refusal.to_string()))?;
        let path = data.join(CERTIFICATE_FILE);
        let bytes = dearmour(data, CERTIFICATE_FILE, Label::Certificate, CERTIFICATE_LIMIT + 128)?;
        let signed = encoding::from_bytes(&bytes, CERTIFICATE_LIMIT + 128);
        let signed = signed.map_err(|refusal| malformed(&path, refusal.to_string()))?;
        Self::new(root, signed, keys).map_err(|why| malformed(&path, why))
    }

    /// Writes it to a data directory, with the issuer's log to take in at the first start.
    pub fn store(&self, data: &Path, issuer_log: &[EntryBytes]) -> Result<(), Error> {
        Self::keep_root(data, &self.root)?;
        write(data, ISSUER_LOG_FILE, Label::IssuerLog, &encoding::to_bytes(&issuer_log.to_vec()))?;
        Self::renew(data, &self.signed)
    }

    /// Keeps the versions of the root document. To be called before a certificate is kept whose issuer they allow.
    pub fn keep_root(data: &Path, root: &TrustRoot) -> Result<(), Error> {
        write(data, ROOT_FILE, Label::RootDocument, &encoding::to_bytes(&root.chain()))
    }

    /// Keeps a renewed certificate.
    pub fn renew(data: &Path, signed: &SignedCertificate) -> Result<(), Error> {
        write(data, CERTIFICATE_FILE, Label::Certificate, &encoding::to_bytes(signed))
    }

    /// Of which node a data directory says it is, without its keys; nothing is verified.
    pub fn node_of(data: &Path) -> Option<PublicKey> {
        let bytes = dearmour(data, CERTIFICATE_FILE, Label::Certificate, CERTIFICATE_LIMIT + 128).ok()?;
        let signed: SignedCertificate = encoding::from_bytes(&bytes, CERTIFICATE_LIMIT + 128).ok()?;
        Some(signed.unverified(CERTIFICATE_LIMIT).ok()?.node)
    }

    /// The issuer's log as it was handed over.
    pub fn issuer_log(data: &Path) -> Result<Vec<EntryBytes>, Error> {
        let path = data.join(ISSUER_LOG_FILE);
        let bytes = dearmour(data, ISSUER_LOG_FILE, Label::IssuerLog, ISSUER_LOG_BYTES)?;
        encoding::from_bytes(&bytes, ISSUER_LOG_BYTES)
            .map_err(|refusal| Error::Malformed { path, why: refusal.to_string() })
    }

    /// Reads an issuer's log from text.
    pub fn parse_issuer_log(text: &str) -> Result<Vec<EntryBytes>, String> {
        let bytes = armour::dearmour(Label::IssuerLog, text, ISSUER_LOG_BYTES).map_err(|error| error.to_string())?;
        encoding::from_bytes(&bytes, ISSUER_LOG_BYTES).map_err(|refusal| refusal.to_string())
    }

    /// The root of trust.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// The certificate, as it is shown.
    pub fn signed(&self) -> &SignedCertificate {
        &self.signed
    }

    /// What it says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

fn dearmour(data: &Path, name: &str, label: Label, limit: usize) -> Result<Vec<u8>, Error> {
    let path = data.join(name);
    match fs::metadata(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Absent { path, data: data.to_owned() });
        }
        Err(source) => return Err(at(&path)(source).into()),
        Ok(metadata) if metadata.len() > 2 * limit as u64 + 1_024 => {
            return Err(Error::Malformed { path, why: "longer than such a file may be".to_owned() });
        }
        Ok(_) => {}
    }
    let bytes = fs::read(&path).map_err(at(&path))?;
    let no_text = |error: FromUtf8Error| format!("byte {} is no text", error.utf8_error().valid_up_to());
    let text =
        String::from_utf8(bytes).map_err(|error| Error::Malformed { path: path.clone(), why: no_text(error) })?;
    armour::dearmour(label, &text, limit).map_err(|refusal| Error::Malformed { path, why: refusal.to_string() })
}

fn write(data: &Path, name: &str, label: Label, bytes: &[u8]) -> Result<(), Error> {
    let path = data.join(name);
    let written =
        files::make_dir(data).and_then(|()| files::durable_write(&path, armour::armour(label, bytes).as_bytes()));
    Ok(written.map_err(at(&path))?)
}

#[cfg(test)]
mod tests {
    use cwn_crypto::{
        Domain, Signed, SigningKey, Time,
        certificate::SUITE,
        root::{IssuerTerm, RootDocument, SignedRoot},
    };

    use super::*;

    /// A data directory with a membership in it, and its keys.
    fn member() -> (tempfile::TempDir, Keys) {
        let (root, issuer, keys) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]), Keys::generate());
        let document = RootDocument {
            version: 1,
            name: "proefnet".to_owned(),
            keys: vec![root.public()],
            threshold: 1,
            issuers: vec![IssuerTerm { issuer: issuer.public(), not_before: Time(0), not_after: Time(100) }],
            freshness_ms: Time::DAY_MS,
            previous: None,
            dropped: Vec::new(),
        };
        let trust = TrustRoot::from_first(&SignedRoot::sign(&document, &[&root])).unwrap();
        let certificate = Certificate {
            suite: SUITE,
            network: trust.network(),
            serial: 1,
            node: keys.signing.public(),
            recipient: keys.sealing.recipient(),
            partner: "ferm".parse().unwrap(),
            name: "FERM".to_owned(),
            not_before: Time(1),
            not_after: Time(50),
            issuer: issuer.public(),
        };
        let signed = Signed::sign(&certificate, Domain::CERTIFICATE, &issuer);
        let dir = tempfile::tempdir().unwrap();
        Membership::new(trust, signed, &keys).unwrap().store(dir.path(), &[]).unwrap();
        (dir, keys)
    }

    /// What is read of a directory: which node it is, by which network.
    fn read(data: &Path, keys: &Keys) -> Result<(PublicKey, cwn_crypto::NetworkId), Error> {
        let membership = Membership::load(data, keys)?;
        Membership::issuer_log(data)?;
        Ok((membership.certificate.node, membership.root.network()))
    }

    #[test]
    fn a_flipped_bit_in_any_of_its_files_is_said_with_the_remedy_or_changes_nothing() {
        let (dir, keys) = member();
        let whole = read(dir.path(), &keys).unwrap();
        for name in FILES {
            let path = dir.path().join(name);
            let bytes = fs::read(&path).unwrap();
            let mut refused = 0;
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &flipped).unwrap();
                match read(dir.path(), &keys) {
                    // In a space or a line's end, which people's mail programs change as well.
                    Ok(read) => assert_eq!(read, whole, "{name}, bit {bit}"),
                    Err(error) => {
                        let said = error.to_string();
                        assert!(said.contains(name) && said.contains("backup"), "{name}, bit {bit}: {said}");
                        refused += 1;
                    }
                }
                assert_eq!(fs::read(&path).unwrap(), flipped, "{name}, bit {bit}: it is left for who can mend it");
            }
            assert!(refused > bytes.len() * 6, "{name}: {refused} of {} bits", bytes.len() * 8);
            fs::write(&path, bytes).unwrap();
        }
        assert_eq!(read(dir.path(), &keys).unwrap(), whole);
    }
}
