//! The key store: a node's keys at rest, encrypted, opened by a credential or a passphrase.
//!
//! The file holds the node's signing seed and its sealing key. It is opened once, at the start; the keys are
//! then in memory alone. The CA keeps its keys in files of the same form ([`seal_secret`], [`open_secret`]).

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use cwn_crypto::{
    Domain, SigningKey,
    encoding::{self, mac},
    seal::{Age, EpochKey, Refusal, Seal, SealingKey, open_with_passphrase, seal_with_passphrase},
};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::files::{self, TooWide, at};

/// The file's name in the data directory.
pub const FILE: &str = "keys.cwn";
/// A credential: 32 random bytes.
pub const CREDENTIAL_BYTES: usize = 32;
/// The credential's name, as systemd hands it over (`LoadCredential=cwn:…`).
const SYSTEMD_NAME: &str = "cwn";
/// A file with a passphrase, for tests and for machines where nobody can type it.
const PASSPHRASE_FILE: &str = "CWN_PASSPHRASE_FILE";
/// Secrets are short; so is what seals them.
const SECRET_BYTES: usize = 1 << 10;
const SEALED_BYTES: usize = 8 << 10;
/// A passphrase shorter than this is no protection.
const PASSPHRASE_LEAST: usize = 12;
const PASSPHRASE_BYTES: usize = 1 << 10;

/// Why keys were not written or not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// No keys there.
    #[error("{} has no keys; join a network first: cwn --data {} join INVITATION", .data.display(), .data.display())]
    Absent {
        /// The data directory.
        data: PathBuf,
    },
    /// Keys are there already.
    #[error("{} exists already; keys are never written over. Use another data directory", .0.display())]
    Exists(PathBuf),
    /// Others can read it.
    #[error(transparent)]
    TooWide(#[from] TooWide),
    /// A credential of another length.
    #[error("{} has {length} bytes, where a credential has exactly 32; {}", .path.display(), credential_remedy(*.typing))]
    CredentialLength {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        length: u64,
        /// Whether it is to open something, or to seal something new.
        typing: Typing,
    },
    /// A passphrase too short.
    #[error("the passphrase has fewer than {PASSPHRASE_LEAST} characters; take a sentence")]
    Passphrase,
    /// Nobody to ask.
    #[error(
        "there is no terminal to ask for the passphrase of {0}; give a credential file, or name a file with the passphrase in {PASSPHRASE_FILE}"
    )]
    NoTerminal(String),
    /// Two passphrases that differ.
    #[error("the two passphrases differ; try again")]
    Differ,
    /// It does not open.
    #[error(
        "{} does not open: {why}; is it the right credential or passphrase? If it is, the file is damaged: restore it from a backup", .path.display()
    )]
    Closed {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: Refusal,
    },
    /// It opens, and is not what it should be.
    #[error("{} opens, but is damaged; restore it from a backup", .0.display())]
    Damaged(PathBuf),
}

fn credential_remedy(typing: Typing) -> &'static str {
    match typing {
        Typing::Known => "restore the one that the keys were made with: no other opens them",
        Typing::New => "make one: (umask 077; head -c 32 /dev/urandom > FILE)",
    }
}

fn check_private(path: &Path) -> Result<(), Error> {
    Ok(files::check_private(path).map_err(at(path))??)
}

/// What opens secrets.
#[derive(Clone)]
pub enum Unlock {
    /// 32 random bytes.
    Credential(Zeroizing<[u8; CREDENTIAL_BYTES]>),
    /// What a person types.
    Passphrase(Zeroizing<String>),
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential(_) => "Credential",
            Self::Passphrase(_) => "Passphrase",
        })
    }
}

/// Whether what opens secrets is new: a passphrase is typed twice then, and a credential may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// It opens what is there.
    Known,
    /// It seals something new.
    New,
}

impl Unlock {
    /// What opens secrets on this machine: the given file, else the credential that systemd hands over, else a
    /// passphrase, which is asked for as `what`.
    pub fn find(credential: Option<&Path>, what: &str, typing: Typing) -> Result<Self, Error> {
        if let Some(path) = credential {
            check_private(path)?;
            return Self::from_file(path, typing);
        }
        if let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") {
            let path = Path::new(&dir).join(SYSTEMD_NAME);
            if path.exists() {
                // Its group may read it, which has this user alone in it, and its mode is systemd's.
                return Self::from_file(&path, typing);
            }
        }
        if let Some(path) = std::env::var_os(PASSPHRASE_FILE) {
            let path = PathBuf::from(path);
            check_private(&path)?;
            let text = Zeroizing::new(read(&path, PASSPHRASE_BYTES)?);
            let text = String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned();
            return Self::passphrase(Zeroizing::new(text));
        }
        let ask = |prompt: String| {
            let typed = rpassword::prompt_password(prompt).map(Zeroizing::new);
            typed.map_err(|_no_terminal| Error::NoTerminal(what.to_owned()))
        };
        let typed = ask(format!("Passphrase for {what}: "))?;
        if typing == Typing::New && *ask("The same again: ".to_owned())? != *typed {
            return Err(Error::Differ);
        }
        Self::passphrase(typed)
    }

    /// Reads the credential file of what is there already.
    pub fn credential(path: &Path) -> Result<Self, Error> {
        check_private(path)?;
        Self::from_file(path, Typing::Known)
    }

    fn from_file(path: &Path, typing: Typing) -> Result<Self, Error> {
        let length = fs::metadata(path).map_err(at(path))?.len();
        let bytes = Zeroizing::new(read(path, CREDENTIAL_BYTES + 1)?);
        let bytes: Result<[u8; CREDENTIAL_BYTES], _> = bytes.as_slice().try_into();
        let bytes = bytes.map_err(|_wrong| Error::CredentialLength { path: path.to_owned(), length, typing })?;
        Ok(Self::Credential(Zeroizing::new(bytes)))
    }

    /// Takes a passphrase.
    pub fn passphrase(text: Zeroizing<String>) -> Result<Self, Error> {
        if text.chars().count() < PASSPHRASE_LEAST {
            return Err(Error::Passphrase);
        }
        Ok(Self::Passphrase(text))
    }
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    use io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(at(path))?;
    file.take(limit as u64).read_to_end(&mut bytes).map_err(at(path))?;
    Ok(bytes)
}

/// Writes a secret, encrypted, where nothing stands yet.
pub fn seal_secret(path: &Path, unlock: &Unlock, secret: &[u8]) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::Exists(path.to_owned()));
    }
    let sealed = match unlock {
        Unlock::Credential(credential) => Age.seal_to_epoch(&key_of(credential), secret),
        Unlock::Passphrase(text) => {
            seal_with_passphrase(text, secret).map_err(|why| Error::Closed { path: path.to_owned(), why })?
        }
    };
    Ok(files::durable_write(path, &sealed).map_err(at(path))?)
}

/// Opens a secret that [`seal_secret`] wrote.
pub fn open_secret(path: &Path, unlock: &Unlock) -> Result<Zeroizing<Vec<u8>>, Error> {
    check_private(path)?;
    let sealed = read(path, SEALED_BYTES)?;
    let opened = match unlock {
        Unlock::Credential(credential) => {
            Age.open_with_epoch(&key_of(credential), &sealed, SECRET_BYTES).map(Zeroizing::new)
        }
        Unlock::Passphrase(text) => open_with_passphrase(text, &sealed, SECRET_BYTES),
    };
    opened.map_err(|why| Error::Closed { path: path.to_owned(), why })
}

/// Not the credential itself, so that what it opens elsewhere has nothing to do with this.
fn key_of(credential: &[u8; CREDENTIAL_BYTES]) -> EpochKey {
    EpochKey::from_bytes(mac(credential, Domain::KEY_STORE, &[]))
}

/// The keys of a node.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Signs; its public half is the node.
    pub signing: SigningKey,
    /// Opens what is sealed to the node.
    pub sealing: SealingKey,
}

#[derive(Encode, Decode)]
struct Stored {
    #[cbor(n(0), with = "minicbor::bytes")]
    signing: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    sealing: [u8; 32],
}

impl Keys {
    /// New keys, from the system's randomness.
    pub fn generate() -> Self {
        let signing = Zeroizing::new(crate::driver::random());
        Self { signing: SigningKey::from_seed(&signing), sealing: SealingKey::from_bytes(crate::driver::random()) }
    }

    /// Writes the keys to a data directory that has none.
    pub fn create(&self, data: &Path, unlock: &Unlock) -> Result<(), Error> {
        files::make_dir(data).map_err(at(data))?;
        check_private(data)?;
        let stored = Stored { signing: *self.signing.seed(), sealing: *self.sealing.to_bytes() };
        seal_secret(&data.join(FILE), unlock, &Zeroizing::new(encoding::to_bytes(&stored)))
    }

    /// Whether a data directory has keys.
    pub fn exist(data: &Path) -> bool {
        data.join(FILE).exists()
    }

    /// Opens the keys of a data directory.
    pub fn open(data: &Path, unlock: &Unlock) -> Result<Self, Error> {
        let path = data.join(FILE);
        if !path.exists() {
            return Err(Error::Absent { data: data.to_owned() });
        }
        check_private(data)?;
        let opened = open_secret(&path, unlock)?;
        let stored: Stored = encoding::from_bytes(&opened, SECRET_BYTES).map_err(|_malformed| Error::Damaged(path))?;
        let signing = Zeroizing::new(stored.signing);
        Ok(Self { signing: SigningKey::from_seed(&signing), sealing: SealingKey::from_bytes(stored.sealing) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn credential(dir: &Path, bytes: &[u8]) -> PathBuf {
        let path = dir.join("credential");
        files::durable_write(&path, bytes).unwrap();
        path
    }

    fn data() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        (dir, data)
    }

    #[test]
    fn keys_are_opened_by_the_credential_that_sealed_them_and_by_no_other() {
        let (dir, data) = data();
        let unlock = Unlock::credential(&credential(dir.path(), &[7; 32])).unwrap();
        let keys = Keys::generate();
        keys.create(&data, &unlock).unwrap();
        let opened = Keys::open(&data, &unlock).unwrap();
        assert_eq!(opened.signing.public(), keys.signing.public());
        assert_eq!(opened.sealing.recipient(), keys.sealing.recipient());
        let other = Unlock::credential(&credential(dir.path(), &[8; 32])).unwrap();
        assert!(matches!(Keys::open(&data, &other), Err(Error::Closed { .. })));
    }

    #[test]
    fn keys_are_opened_by_a_passphrase() {
        let (_dir, data) = data();
        let unlock = |text: &str| Unlock::passphrase(Zeroizing::new(text.to_owned())).unwrap();
        let keys = Keys::generate();
        keys.create(&data, &unlock("a sentence to remember")).unwrap();
        let opened = Keys::open(&data, &unlock("a sentence to remember")).unwrap();
        assert_eq!(opened.signing.public(), keys.signing.public());
        assert!(matches!(Keys::open(&data, &unlock("another sentence")), Err(Error::Closed { .. })));
    }

    #[test]
    fn keys_are_never_written_over() {
        let (dir, data) = data();
        let unlock = Unlock::credential(&credential(dir.path(), &[7; 32])).unwrap();
        Keys::generate().create(&data, &unlock).unwrap();
        assert!(matches!(Keys::generate().create(&data, &unlock), Err(Error::Exists(_))));
    }

    #[test]
    fn a_credential_of_another_length_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 31, 33, 5_000] {
            let path = credential(dir.path(), &vec![7; length]);
            let refused = |typing| Unlock::find(Some(&path), "x", typing).unwrap_err().to_string();
            // A new one would open nothing that the old one sealed.
            let known = refused(Typing::Known);
            assert!(known.contains("restore") && !known.contains("urandom"), "{known}");
            let new = refused(Typing::New);
            assert!(new.contains("(umask 077; head -c 32 /dev/urandom > FILE)"), "{new}");
            for refused in [known, new] {
                assert!(refused.contains(&format!("{length} bytes")), "{refused}");
            }
        }
    }

    #[test]
    fn files_that_others_can_read_are_refused_with_the_remedy() {
        let (dir, data) = data();
        let path = credential(dir.path(), &[7; 32]);
        let unlock = Unlock::credential(&path).unwrap();
        Keys::generate().create(&data, &unlock).unwrap();
        let widen = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        widen(&path, 0o644);
        assert!(matches!(Unlock::credential(&path), Err(Error::TooWide(_))));
        widen(&data.join(FILE), 0o640);
        assert!(matches!(Keys::open(&data, &unlock), Err(Error::TooWide(_))));
        widen(&data.join(FILE), 0o600);
        widen(&data, 0o755);
        assert!(matches!(Keys::open(&data, &unlock), Err(Error::TooWide(_))));
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        assert!(matches!(Unlock::passphrase(Zeroizing::new("short".to_owned())), Err(Error::Passphrase)));
    }

    #[test]
    fn keys_with_a_flipped_bit_anywhere_are_refused_with_the_remedy_and_left_as_they_are() {
        let (dir, data) = data();
        let unlock = Unlock::credential(&credential(dir.path(), &[7; 32])).unwrap();
        let keys = Keys::generate();
        keys.create(&data, &unlock).unwrap();
        let path = data.join(FILE);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            files::durable_write(&path, &flipped).unwrap();
            let refused = Keys::open(&data, &unlock).unwrap_err().to_string();
            assert!(refused.contains(FILE) && refused.contains("restore it from a backup"), "bit {bit}: {refused}");
            assert!(matches!(Keys::generate().create(&data, &unlock), Err(Error::Exists(_))), "bit {bit}");
            assert_eq!(fs::read(&path).unwrap(), flipped, "bit {bit}: it is left for who can mend it");
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            files::durable_write(&path, &whole[..length]).unwrap();
            let refused = Keys::open(&data, &unlock).unwrap_err().to_string();
            assert!(refused.contains("restore it from a backup"), "cut off at {length}: {refused}");
        }
        files::durable_write(&path, &whole).unwrap();
        assert_eq!(Keys::open(&data, &unlock).unwrap().signing.public(), keys.signing.public());
    }

    #[test]
    fn damaged_keys_are_said_to_be_so() {
        let (dir, data) = data();
        let unlock = Unlock::credential(&credential(dir.path(), &[7; 32])).unwrap();
        Keys::generate().create(&data, &unlock).unwrap();
        files::durable_write(&data.join(FILE), b"garbage").unwrap();
        assert!(matches!(Keys::open(&data, &unlock), Err(Error::Closed { .. })));
        fs::remove_file(data.join(FILE)).unwrap();
        assert!(matches!(Keys::open(&data, &unlock), Err(Error::Absent { .. })));
    }
}
