//! Drafts: what was written and cannot be sealed yet, kept until it can be; and the record of what an operator sealed
//! all the same.
//!
//! A draft is a file of its own, sealed to this node's sealing key, mode 0600, durable before anybody is told that it
//! is kept. Which entry a draft became stands in a fact that is written with the entry. So a crash between publishing
//! a draft and removing its file never publishes it twice: at the next start the fact says that it is done, and a fact
//! whose entry did not survive says nothing.
//!
//! Drafts are in no backup: a copy that is put back after its draft was published would publish it again.
//!
//! This file refuses to know when something may be sealed: that is the rules' and the API's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Read as _, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cwn_crypto::{
    Hash, PartnerId, PublicKey, Time, encoding,
    issuer_log::LogId,
    seal::{Age, Recipient, Seal},
};
use cwn_engine::{
    limits,
    log::{CircleId, Retracts},
    store::{Damage, Fact, Read},
};
use cwn_functions::{marking::Tlp, payload::Payload, sharing::Report};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    driver::random,
    files::{self, at},
    keyring::Keyring,
};

/// The directory below the data directory.
const DIR: &str = "drafts";
/// The record of overrides in the data directory.
pub const OVERRIDES: &str = "overrides.jsonl";
/// Facts that say which entry a draft became.
const FACT: &[u8] = b"draft/";
/// Drafts kept at a time: a person looks through them.
const DRAFTS: usize = 256;
/// And their bytes, which a start reads.
const BYTES: u64 = 64 << 20;
/// An entry's payload, and what names its readers.
const DRAFT_BYTES: usize = limits::PAYLOAD_BYTES + (64 << 10);
/// What sealing to one key adds.
const SEALED_BYTES: usize = DRAFT_BYTES + (8 << 10);
/// So much of the record of overrides is shown: some thousands.
const OVERRIDES_SHOWN_BYTES: u64 = 4 << 20;

/// Names a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DraftId([u8; 8]);

impl DraftId {
    fn new() -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&random()[..8]);
        Self(id)
    }

    fn parse(text: &str) -> Option<Self> {
        encoding::hex_decode(text).map(Self)
    }

    /// The fact that says which entry it became.
    pub fn fact(&self) -> Vec<u8> {
        [FACT, &self.0].concat()
    }
}

impl fmt::Display for DraftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encoding::hex(&self.0, f)
    }
}

/// What was written, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Draft {
    /// When.
    #[n(0)]
    pub written: Time,
    /// The partners it was written for.
    #[n(1)]
    pub partners: Vec<PartnerId>,
    /// Their nodes: those that could have opened it then.
    #[n(2)]
    pub readers: BTreeSet<PublicKey>,
    /// The inside of the entry.
    #[n(3)]
    pub payload: Payload,
    /// The entry that it takes back.
    #[n(4)]
    pub retracts: Option<Retracts>,
    /// From when on nobody needs to keep it.
    #[n(5)]
    pub expiry: Option<Time>,
}

/// What is known of a draft without opening it again. Of RED no words.
#[derive(Debug, Clone)]
pub struct Outline {
    /// When it was written.
    pub written: Time,
    /// The circle.
    pub circle: CircleId,
    /// The marking.
    pub tlp: Tlp,
    /// The title, or what it takes back; of RED no title.
    pub title: Option<String>,
    /// The addressees; the whole circle when none is named.
    pub to: Vec<PartnerId>,
    /// Whether it takes an entry back.
    pub retracts: bool,
    /// The partners it was written for.
    pub partners: Vec<PartnerId>,
    /// Their nodes.
    pub readers: BTreeSet<PublicKey>,
}

impl Outline {
    fn of(draft: &Draft) -> Self {
        let Draft { written, partners, readers, payload, retracts, expiry: _ } = draft;
        let report = || Report::from_payload(payload).ok().flatten().map(|report| report.title);
        let title = match retracts {
            Some(retracts) => Some(format!("takes back {}", &retracts.hash.to_string()[..12])),
            None if payload.tlp < Tlp::Red => report(),
            None => None,
        };
        Self {
            written: *written,
            circle: payload.circle,
            tlp: payload.tlp,
            title,
            to: payload.addressees.clone(),
            retracts: retracts.is_some(),
            partners: partners.clone(),
            readers: readers.clone(),
        }
    }
}

/// Why a draft was not kept or not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are as many as may be.
    #[error(
        "{DRAFTS} drafts or {} MiB of them wait already; look at them with `cwn drafts`, and publish or drop some",
        BYTES >> 20
    )]
    Full,
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// It is not there.
    #[error("there is no draft {0} any more; `cwn drafts` lists those there are")]
    Gone(DraftId),
    /// It does not open.
    #[error("draft {0} does not open with this node's key, or is damaged; drop it with `cwn drafts drop`")]
    Damaged(DraftId),
}

#[derive(Debug)]
struct Kept {
    bytes: u64,
    /// None when it does not open.
    outline: Option<Outline>,
}

/// The drafts of a node.
#[derive(Debug)]
pub struct Drafts {
    dir: PathBuf,
    overrides: PathBuf,
    recipient: Recipient,
    keyring: Arc<Keyring>,
    kept: Mutex<BTreeMap<DraftId, Kept>>,
    /// One at a time is kept, so that the bounds hold; and one override written.
    writing: Mutex<()>,
    /// One at a time is published or dropped.
    pub(crate) busy: tokio::sync::Mutex<()>,
    /// There is another draft.
    pub(crate) more: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drafts {
    /// The drafts in a data directory, without those that were published before the last end. What comes with them are
    /// the facts that are of no more use.
    pub fn open(
        data: &Path,
        me: &PublicKey,
        recipient: Recipient,
        keyring: Arc<Keyring>,
        store: &dyn Read,
    ) -> Result<(Self, Vec<Vec<u8>>), OpenError> {
        let dir = data.join(DIR);
        files::make_dir(&dir).map_err(at(&dir))?;
        let drafts = Self {
            dir: dir.clone(),
            overrides: data.join(OVERRIDES),
            recipient,
            keyring,
            kept: Mutex::default(),
            writing: Mutex::default(),
            busy: tokio::sync::Mutex::default(),
            more: Notify::new(),
        };
        for item in fs::read_dir(&dir).map_err(at(&dir))? {
            let item = item.map_err(at(&dir))?;
            let name = item.file_name().to_string_lossy().into_owned();
            match DraftId::parse(&name) {
                Some(id) => {
                    let bytes = item.metadata().map_err(at(&item.path()))?.len();
                    let outline = drafts.read(id).map(|draft| Outline::of(&draft));
                    if let Err(error) = &outline {
                        tracing::error!(draft = %id, %error, "a draft cannot be read");
                    }
                    lock(&drafts.kept).insert(id, Kept { bytes, outline: outline.ok() });
                }
                // One that was being written when the node ended; nobody was told that it is kept.
                None if name.starts_with('.') => fs::remove_file(item.path()).map_err(at(&item.path()))?,
                None => tracing::warn!(name, "a file among the drafts is none of them"),
            }
        }
        let facts = store.facts(FACT)?;
        let mut done = Vec::new();
        if !facts.is_empty() {
            let own: BTreeMap<LogId, _> =
                store.logs()?.into_iter().filter(|(key, _)| key.author == *me).map(|(key, _)| (key.log, key)).collect();
            for Fact { key, value } in facts {
                let Ok(id) = key[FACT.len()..].try_into().map(DraftId) else { continue };
                let value = match value {
                    Ok(value) => value,
                    Err(damage) => {
                        // It may have been published, and is not published again by itself: somebody looks.
                        tracing::error!(draft = %id, %damage, "whether a draft was published before the end is not known");
                        if let Some(kept) = lock(&drafts.kept).get_mut(&id) {
                            kept.outline = None;
                            continue;
                        }
                        Vec::new()
                    }
                };
                done.push(key);
                let became: Result<(LogId, u64, Hash), _> = encoding::from_bytes(&value, 256);
                let Ok((log, seq, hash)) = became else { continue };
                let Some(key) = own.get(&log) else { continue };
                if store.hash(key, seq)? == Some(hash) {
                    tracing::info!(draft = %id, entry = %hash, "a draft was published just before the node ended");
                    drafts.forget(id)?;
                }
            }
        }
        Ok((drafts, done))
    }

    fn path(&self, id: DraftId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Keeps a draft. Durable when this returns.
    pub fn keep(&self, draft: &Draft) -> Result<DraftId, Error> {
        let _one = lock(&self.writing);
        let id = DraftId::new();
        let plain = zeroize::Zeroizing::new(encoding::to_bytes(draft));
        let sealed = Age.seal_to_recipients(&[self.recipient], &plain).map_err(|_unsound| Error::Damaged(id))?;
        let bytes = sealed.len() as u64;
        {
            let kept = lock(&self.kept);
            let before: u64 = kept.values().map(|kept| kept.bytes).sum();
            if kept.len() >= DRAFTS || before + bytes > BYTES {
                return Err(Error::Full);
            }
        }
        let path = self.path(id);
        files::durable_write(&path, &sealed).map_err(at(&path))?;
        lock(&self.kept).insert(id, Kept { bytes, outline: Some(Outline::of(draft)) });
        self.more.notify_one();
        Ok(id)
    }

    /// Opens a draft.
    pub fn read(&self, id: DraftId) -> Result<Draft, Error> {
        let path = self.path(id);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Gone(id)),
            opened => opened.map_err(at(&path))?,
        };
        let mut sealed = Vec::new();
        file.take(SEALED_BYTES as u64 + 1).read_to_end(&mut sealed).map_err(at(&path))?;
        let damaged = || Error::Damaged(id);
        let plain = self.keyring.open_named(&sealed, DRAFT_BYTES).map_err(|_closed| damaged())?;
        let plain = zeroize::Zeroizing::new(plain);
        encoding::from_bytes(&plain, DRAFT_BYTES).map_err(|_malformed| damaged())
    }

    /// Removes a draft that was published, or that nobody wants any more. Durable when this returns; whatever comes
    /// of it, the draft is not published by this process again.
    pub fn forget(&self, id: DraftId) -> Result<(), files::Failed> {
        lock(&self.kept).remove(&id);
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
        files::sync_dir(&self.dir).map_err(at(&self.dir))
    }

    /// All drafts, the oldest first; without an outline those that do not open.
    pub fn list(&self) -> Vec<(DraftId, Option<Outline>)> {
        let mut drafts: Vec<_> = lock(&self.kept).iter().map(|(id, kept)| (*id, kept.outline.clone())).collect();
        drafts.sort_by_key(|(_, outline)| outline.as_ref().map(|outline| outline.written));
        drafts
    }

    /// What is known of one draft: nothing when it is gone, no outline when it does not open.
    pub fn outline(&self, id: DraftId) -> Option<Option<Outline>> {
        lock(&self.kept).get(&id).map(|kept| kept.outline.clone())
    }

    /// Writes an override down, durably, before anything is done.
    pub fn record(&self, line: &Override) -> Result<(), files::Failed> {
        let _one = lock(&self.writing);
        let path = &self.overrides;
        let mut options = fs::OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path).map_err(at(path))?;
        let mut text = serde_json::to_string(line).map_err(|error| at(path)(error.into()))?;
        text.push('\n');
        if !ends_a_line(&mut file).map_err(at(path))? {
            text.insert(0, '\n');
        }
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        files::sync_dir(dir).map_err(at(dir))
    }

    /// The newest overrides on record, the oldest first.
    pub fn overrides(&self) -> Result<Vec<Override>, files::Failed> {
        let path = &self.overrides;
        let mut file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(at(path))?,
        };
        let length = file.metadata().map_err(at(path))?.len();
        let mut text = Vec::new();
        let from = length.saturating_sub(OVERRIDES_SHOWN_BYTES);
        file.seek(SeekFrom::Start(from)).map_err(at(path))?;
        file.take(OVERRIDES_SHOWN_BYTES).read_to_end(&mut text).map_err(at(path))?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |line: &[u8]| {
            // A line that a crash tore was not acted on.
            serde_json::from_slice(line).inspect_err(|error| tracing::warn!(%error, "a torn line of overrides")).ok()
        };
        Ok(lines.filter_map(read).collect())
    }
}

/// Whether what is appended begins a line of its own: a crash may have torn the last.
fn ends_a_line(file: &mut fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Why the drafts of a node cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// The store.
    #[error(transparent)]
    Store(#[from] Damage),
}

/// An operator sealed a draft before it could be published by itself. What it says is never in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// When.
    pub at: u64,
    /// The Unix user who did it, as the system says.
    pub uid: Option<u32>,
    /// That user's name on this machine.
    pub user: Option<String>,
    /// The draft.
    pub draft: String,
    /// The circle's id.
    pub circle: String,
    /// The circle's name.
    pub circle_name: String,
    /// The marking.
    pub tlp: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// What the draft waited for.
    pub awaited: Vec<String>,
    /// The partners it was sealed to.
    pub partners: Vec<String>,
    /// Their nodes.
    pub nodes: Vec<String>,
    /// Why it came to nothing all the same; on a line of its own, after the one that says what was to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_done: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cwn_crypto::seal::SealingKey;
    use cwn_engine::{
        log::{EntryBytes, LogKey},
        store::Tip,
    };

    use super::*;
    use crate::store::Store;

    const ME: PublicKey = PublicKey([1; 32]);
    const CIRCLE: CircleId = CircleId(Hash([2; 32]));
    const LOG: LogKey = LogKey { circle: CIRCLE, author: ME, log: LogId([3; 16]) };

    /// A store that holds one entry, and these facts.
    struct Holds {
        entry: Hash,
        facts: Vec<Fact>,
    }

    impl Read for Holds {
        fn entry(&self, _: &LogKey, _: u64) -> Result<Option<EntryBytes>, Damage> {
            Ok(None)
        }
        fn hash(&self, key: &LogKey, seq: u64) -> Result<Option<Hash>, Damage> {
            Ok((*key == LOG && seq == 0).then_some(self.entry))
        }
        fn bytes(&self, _: &LogKey, _: u64, _: u64) -> Result<u64, Damage> {
            Ok(0)
        }
        fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage> {
            Ok(vec![(LOG, Tip { height: 1, head: self.entry })])
        }
        fn record(&self, _: &CircleId, _: &Hash) -> Result<Option<Vec<u8>>, Damage> {
            Ok(None)
        }
        fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage> {
            Ok(Vec::new())
        }
        fn facts(&self, prefix: &[u8]) -> Result<Vec<Fact>, Damage> {
            Ok(self.facts.iter().filter(|fact| fact.key.starts_with(prefix)).cloned().collect())
        }
    }

    struct Place {
        dir: tempfile::TempDir,
        sealing: SealingKey,
        reader: crate::store::Reader,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(&dir.path().join("store"), &mut |_| {}).unwrap();
            Self { reader: store.reader(), sealing: SealingKey::from_bytes([4; 32]), dir }
        }

        fn open(&self, facts: Vec<Fact>) -> (Drafts, Vec<Vec<u8>>) {
            let keyring = Arc::new(Keyring::new(self.sealing.clone(), self.reader.clone()));
            let store = Holds { entry: Hash([5; 32]), facts };
            Drafts::open(self.dir.path(), &ME, self.sealing.recipient(), keyring, &store).unwrap()
        }
    }

    fn draft(tlp: Tlp, body: &str) -> Draft {
        let report = Report { title: "a title".to_owned(), body: body.to_owned(), references: Vec::new() };
        let to = vec!["ferm".parse().unwrap()];
        let payload =
            cwn_functions::sharing::report_payload(ME, CIRCLE, tlp, None, to.clone(), &report, Vec::new()).unwrap();
        Draft { written: Time(7), partners: to, readers: BTreeSet::from([ME]), payload, retracts: None, expiry: None }
    }

    #[test]
    fn a_draft_is_there_after_a_restart_sealed_and_private() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        let written = draft(Tlp::Amber, "what nobody may see");
        let id = drafts.keep(&written).unwrap();
        let path = drafts.path(id);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = fs::read(&path).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"nobody"));
        let (drafts, _) = place.open(Vec::new());
        assert_eq!(drafts.read(id).unwrap(), written);
        assert_eq!(drafts.list()[0].1.as_ref().unwrap().title.as_deref(), Some("a title"));
        drafts.forget(id).unwrap();
        assert!(place.open(Vec::new()).0.list().is_empty());
    }

    #[test]
    fn lists_hold_no_words_of_red() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        drafts.keep(&draft(Tlp::Red, "")).unwrap();
        assert_eq!(drafts.list()[0].1.as_ref().unwrap().title, None);
        assert_eq!(place.open(Vec::new()).0.list()[0].1.as_ref().unwrap().title, None);
    }

    #[test]
    fn i3_a_draft_whose_entry_is_held_is_done_and_one_whose_entry_was_lost_is_not() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        let [done, lost, elsewhere] = [(); 3].map(|()| drafts.keep(&draft(Tlp::Amber, "")).unwrap());
        let fact = |id: DraftId, log: LogId, seq: u64, hash: u8| Fact {
            key: id.fact(),
            value: Ok(encoding::to_bytes(&(log, seq, Hash([hash; 32])))),
        };
        let facts = vec![fact(done, LOG.log, 0, 5), fact(lost, LOG.log, 1, 6), fact(elsewhere, LogId([9; 16]), 0, 5)];
        let (drafts, of_no_use) = place.open(facts);
        let left: BTreeSet<DraftId> = drafts.list().into_iter().map(|(id, _)| id).collect();
        assert_eq!(left, BTreeSet::from([lost, elsewhere]));
        assert_eq!(of_no_use.len(), 3);
        assert!(matches!(drafts.read(done), Err(Error::Gone(_))));
    }

    #[test]
    fn a_draft_of_which_it_is_not_known_whether_it_was_published_waits_for_somebody() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        let id = drafts.keep(&draft(Tlp::Amber, "")).unwrap();
        let damage = || Damage { what: "a fact".to_owned(), why: "its checksum differs".to_owned() };
        let rotted = |id: DraftId| Fact { key: id.fact(), value: Err(damage()) };
        let gone = DraftId([7; 8]);
        let (drafts, of_no_use) = place.open(vec![rotted(id), rotted(gone)]);
        assert!(drafts.outline(id).unwrap().is_none(), "nothing publishes it by itself");
        assert_eq!(of_no_use, [gone.fact()], "so at the next start too");
        drafts.forget(id).unwrap();
    }

    #[test]
    fn what_does_not_open_is_listed_without_words_and_can_be_dropped() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        let id = drafts.keep(&draft(Tlp::Amber, "")).unwrap();
        fs::write(drafts.path(id), b"rot").unwrap();
        fs::write(drafts.dir.join(".half.1.new"), b"half").unwrap();
        let (drafts, _) = place.open(Vec::new());
        assert!(drafts.list()[0].1.is_none());
        assert!(drafts.read(id).unwrap_err().to_string().contains("`cwn drafts drop`"));
        drafts.forget(id).unwrap();
        assert_eq!(fs::read_dir(&drafts.dir).unwrap().count(), 0);
    }

    #[test]
    fn i7_drafts_beyond_their_bytes_are_refused_with_the_remedy() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        let large = drafts.keep(&draft(Tlp::Amber, &"x".repeat(200 << 10))).unwrap();
        lock(&drafts.kept).get_mut(&large).unwrap().bytes = BYTES;
        let refused = drafts.keep(&draft(Tlp::Amber, "")).unwrap_err().to_string();
        assert!(refused.contains("64 MiB") && refused.contains("drop some"), "{refused}");
        drafts.forget(large).unwrap();
        drafts.keep(&draft(Tlp::Amber, "")).unwrap();
    }

    #[test]
    fn i7_drafts_beyond_their_number_are_refused() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        for n in 0..DRAFTS as u64 {
            lock(&drafts.kept).insert(DraftId(n.to_be_bytes()), Kept { bytes: 0, outline: None });
        }
        assert!(matches!(drafts.keep(&draft(Tlp::Amber, "")), Err(Error::Full)));
    }

    fn an_override(reason: &str) -> Override {
        Override {
            at: 7,
            uid: Some(1000),
            user: None,
            draft: "1f2e".to_owned(),
            circle: CIRCLE.to_string(),
            circle_name: "zorg".to_owned(),
            tlp: "TLP:RED".to_owned(),
            reason: reason.to_owned(),
            awaited: Vec::new(),
            partners: Vec::new(),
            nodes: Vec::new(),
            not_done: None,
        }
    }

    #[test]
    fn the_record_of_overrides_only_grows_and_a_torn_line_spoils_no_other() {
        let place = Place::new();
        let (drafts, _) = place.open(Vec::new());
        assert_eq!(drafts.overrides().unwrap(), []);
        drafts.record(&an_override("one")).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&drafts.overrides).unwrap();
        file.write_all(b"{\"at\":7,\"ui").unwrap();
        drafts.record(&an_override("two")).unwrap();
        assert_eq!(drafts.overrides().unwrap(), [an_override("one"), an_override("two")]);
        assert_eq!(fs::metadata(&drafts.overrides).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
