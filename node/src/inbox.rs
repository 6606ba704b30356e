//! What was opened: a view of the accepted entries, made on a thread of its own beside the log thread.
//!
//! It follows the accepted heights that the engine tells, opens what is new, and takes back what is accepted no
//! longer. It holds no more plaintext than a list needs, of RED none, and can be made anew from the store at
//! any time; whoever reads an entry opens it again.
//!
//! Of the network circle it keeps, in memory, the addresses that nodes announced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc},
};

use cwn_crypto::{Hash, PublicKey, Time, encoding, issuer_log::LogId, seal::Refusal as SealRefusal};
use cwn_engine::{
    input::Input,
    limits,
    log::{CircleId, LogKey, Payload as SealedPayload, Stored, Suite},
    store::Read,
};
use cwn_functions::{
    directory::NodeAddresses,
    inbox::{EntryId, Row, RowState},
    payload::{AttachmentRef, Payload},
    sharing::RETRACTION,
};
use minicbor::{Decode, Encode};
use tokio::sync::{mpsc, watch};

use crate::{
    clock, driver,
    keyring::{Closed, Keyring},
    lend::Lend,
    store::{Change, Reader, View, ViewTrouble},
};

/// Bytes of entries read at a time.
const READ_BYTES: usize = 4 << 20;
/// Changes of the view in one go, when keys of older epochs came.
const REOPENED_AT_ONCE: usize = 1_024;
/// A nice value: beside a thread of the usual priority, a tenth of a processor.
#[cfg(target_os = "linux")]
const GIVE_WAY: i32 = 10;
/// An announcement further ahead than this is not remembered: a clock that far off is wrong.
const CLOCK_DOUBT_MS: u64 = 5 * 60_000;

const CURSOR: u8 = b'c';
const ROW: u8 = b'r';
const BY_TIME: u8 = b't';
const BY_HASH: u8 = b'h';
const RETRACTED: u8 = b'x';
const GIVEN: u8 = b'k';
const DROPPED: u8 = b'd';
const TAKES_BACK: u8 = b'b';

/// A row as the view holds it.
#[derive(Debug, Clone, Encode, Decode)]
pub struct Listed {
    /// The entry's hash.
    #[n(0)]
    pub hash: Hash,
    /// When it was first seen here.
    #[n(1)]
    pub first_seen: Time,
    /// What a list shows.
    #[n(2)]
    pub row: Row,
}

/// Why an entry was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is not sealed to this node.
    #[error("it is sealed to others")]
    NotForUs,
    /// Its author took it back.
    #[error("its author took it back")]
    Retracted,
    /// Its author wanted it to be kept no longer.
    #[error("it expired at {0}, and what was in it is no longer held here")]
    Expired(Time),
    /// The circle keeps it no longer.
    #[error("it is older than the circle's policy keeps what is published, and what was in it is no longer held here")]
    Dropped,
    /// It is sealed to this node and does not open.
    #[error("it does not open: {0}")]
    DoesNotOpen(String),
    /// Whether it was to open here can no longer be told.
    #[error(transparent)]
    Untold(#[from] driver::Failure),
    /// What was inside is not what its author may have put there.
    #[error("what is inside cannot be shown: {0}")]
    Payload(String),
}

impl Unread {
    fn row_state(&self) -> RowState {
        match self {
            Self::NotForUs => RowState::NotForUs,
            Self::Retracted => RowState::Retracted,
            Self::Expired(_) => RowState::Expired,
            Self::Dropped => RowState::Dropped,
            Self::DoesNotOpen(_) | Self::Untold(_) | Self::Payload(_) => RowState::Unreadable(self.to_string()),
        }
    }
}

/// Why an entry that is not hidden has no payload.
fn gone(entry: &Stored) -> Unread {
    match (&entry.bytes().payload, entry.header().expiry) {
        (SealedPayload::Dropped, Some(expiry)) if expiry <= clock::now() => Unread::Expired(expiry),
        (SealedPayload::Dropped, _) => Unread::Dropped,
        _ => Unread::Retracted,
    }
}

/// Addresses that nodes announced in the network circle.
#[derive(Debug, Default)]
pub struct Directory(Mutex<BTreeMap<PublicKey, (Time, u64, NodeAddresses)>>);

impl Directory {
    /// What a node announced last.
    pub fn announced(&self, node: &PublicKey) -> Option<NodeAddresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(node).map(|(.., addresses)| addresses.clone())
    }

    /// What every node announced last.
    pub fn all(&self) -> Vec<(PublicKey, NodeAddresses)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(node, (.., addresses))| (*node, addresses.clone())).collect()
    }

    fn hear(&self, node: PublicKey, time: Time, seq: u64, addresses: NodeAddresses) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&node).is_some_and(|(at, place, _)| (*at, *place) >= (time, seq)) {
            return false;
        }
        known.insert(node, (time, seq, addresses));
        true
    }
}

/// What the engine tells the view.
#[derive(Debug)]
pub enum Told {
    /// So many entries of a log are accepted.
    Accepted(LogKey, u64),
    /// The entry with this hash at this place was taken back, or that was put aside.
    Retracted {
        /// Its log.
        key: LogKey,
        /// Its place.
        seq: u64,
        /// Its hash.
        hash: Hash,
        /// Whether it is taken back now.
        retracted: bool,
    },
    /// Payloads of a log were dropped by time, and so many of it so far.
    Dropped {
        /// The log.
        key: LogKey,
        /// The places.
        seqs: Vec<u64>,
        /// How many so far.
        total: u64,
    },
    /// The keys of these epochs of a circle were handed to this node.
    Given(CircleId, Vec<Hash>),
}

/// What the view tells the rest of the node.
#[derive(Debug)]
pub enum News {
    /// A node announced other addresses than before.
    Addresses,
    /// An entry that was opened carries attachments.
    Attached(CircleId, Vec<AttachmentRef>),
}

/// The view of what was opened.
#[derive(Debug)]
pub struct Inbox {
    view: Lend<View>,
    reader: Lend<Reader>,
    keyring: Arc<Keyring>,
    directory: Directory,
    /// How far the network circle's logs were heard since the start: the directory is in memory alone.
    heard: Mutex<BTreeMap<LogKey, u64>>,
    changes: watch::Sender<u64>,
    /// The epoch that did not open last, and whether it names this node.
    closed: Mutex<Option<(Hash, bool)>>,
}

/// Lets the log thread and the network go first: opening a hundred thousand entries takes as long as fetching
/// them, and must not make that take longer. Linux has priorities for single threads; elsewhere nothing is done.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, GIVE_WAY) {
        tracing::debug!(%error, "the thread that opens entries has the priority of all others");
    }
}

fn place(key: &LogKey) -> Vec<u8> {
    [key.circle.0.0.as_slice(), &key.author.0, &key.log.0].concat()
}

fn cursor_key(key: &LogKey) -> Vec<u8> {
    [[CURSOR].as_slice(), &place(key)].concat()
}

fn row_key(key: &LogKey, seq: u64) -> Vec<u8> {
    [[ROW].as_slice(), &place(key), &seq.to_be_bytes()].concat()
}

fn time_key(key: &LogKey, seq: u64, time: Time) -> Vec<u8> {
    // Later times first, so that the newest is read first.
    let turned = (u64::MAX - time.0).to_be_bytes();
    [[BY_TIME].as_slice(), &turned, &place(key), &seq.to_be_bytes()].concat()
}

fn hash_key(hash: &Hash) -> Vec<u8> {
    [[BY_HASH].as_slice(), &hash.0].concat()
}

fn retracted_key(key: &LogKey, seq: u64) -> Vec<u8> {
    [[RETRACTED].as_slice(), &place(key), &seq.to_be_bytes()].concat()
}

/// What an author wrote to take one of its entries back is found by that entry.
fn takes_back_key(circle: &CircleId, author: &PublicKey, hash: &Hash) -> Vec<u8> {
    [[TAKES_BACK].as_slice(), &circle.0.0, &author.0, &hash.0].concat()
}

fn dropped_key(key: &LogKey) -> Vec<u8> {
    [[DROPPED].as_slice(), &place(key)].concat()
}

fn given_mark(circle: &CircleId, epoch: &Hash) -> Vec<u8> {
    [[GIVEN].as_slice(), &circle.0.0, &epoch.0].concat()
}

fn read_place(bytes: &[u8]) -> Option<(LogKey, u64)> {
    let part = |from: usize, to: usize| bytes.get(from..to);
    let circle = CircleId(Hash(part(0, 32)?.try_into().ok()?));
    let author = PublicKey(part(32, 64)?.try_into().ok()?);
    let log = LogId(part(64, 80)?.try_into().ok()?);
    let seq = u64::from_be_bytes(part(80, 88)?.try_into().ok()?);
    Some((LogKey { circle, author, log }, seq))
}

impl Inbox {
    /// The view over what the store holds.
    pub fn new(view: View, reader: Reader, keyring: Arc<Keyring>) -> Self {
        Self {
            view: Lend::new(view),
            reader: Lend::new(reader),
            keyring,
            directory: Directory::default(),
            heard: Mutex::default(),
            changes: watch::Sender::new(0),
            closed: Mutex::default(),
        }
    }

    /// Follows the accepted heights until the log thread ends.
    pub fn follow(
        self: &Arc<Self>,
        told: std_mpsc::Receiver<Told>,
        driver: driver::Handle,
        news: mpsc::UnboundedSender<News>,
    ) -> std::io::Result<()> {
        let inbox = Arc::clone(self);
        driver::vital("open", move || {
            give_way();
            while let Ok(first) = told.recv() {
                // Only the latest height of a log matters.
                let mut heights = BTreeMap::new();
                let mut given: BTreeMap<CircleId, BTreeSet<Hash>> = BTreeMap::new();
                for told in [first].into_iter().chain(told.try_iter()) {
                    match told {
                        Told::Accepted(key, height) => drop(heights.insert(key, height)),
                        Told::Given(circle, epochs) => given.entry(circle).or_default().extend(epochs),
                        Told::Dropped { key, seqs, total } => {
                            if let Err(error) = inbox.mark_dropped(&key, seqs, total) {
                                tracing::error!(%error, log = %key.log, "the inbox could not follow what was dropped");
                            }
                        }
                        Told::Retracted { key, seq, hash, retracted } => {
                            if let Err(error) = inbox.mark_retracted(&key, seq, hash, retracted, &driver, &news) {
                                tracing::error!(%error, log = %key.log, "the inbox could not follow a retraction");
                            }
                        }
                    }
                }
                for (key, height) in heights {
                    if let Err(error) = inbox.take(&key, height, &driver, &news) {
                        tracing::error!(%error, log = %key.log, "the inbox could not follow a log");
                    }
                }
                for (circle, epochs) in given {
                    if let Err(error) = inbox.reopen(&circle, epochs, &driver, &news) {
                        tracing::error!(%error, %circle, "the inbox could not open what came before this node");
                    }
                }
                inbox.changes.send_modify(|count| *count += 1);
            }
        })
    }

    /// Counts up whenever something was taken in.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Addresses that nodes announced.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<LogKey, u64>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cursor(&self, key: &LogKey) -> Result<u64, ViewTrouble> {
        let bytes = self.view.get().get(&cursor_key(key))?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    fn take(
        &self,
        key: &LogKey,
        height: u64,
        driver: &driver::Handle,
        news: &mpsc::UnboundedSender<News>,
    ) -> anyhow::Result<()> {
        let cursor = self.cursor(key)?;
        if height < cursor {
            return Ok(self.withdraw(key, height, cursor)?);
        }
        let Some(first) = self.reader.get().entry(key, 0)? else { return Ok(()) };
        let suite = Stored::read(first)?.header().suite;
        let mut next = match suite {
            Suite::Control => return Ok(()),
            Suite::Network => self.heard().get(key).copied().unwrap_or(0),
            Suite::Epoch | Suite::Named | Suite::Later(_) => cursor,
        };
        while next < height {
            let read = self.reader.get().entries(key, next, height, READ_BYTES);
            // Members may have what rotted, and it is listed once it came again. When the daemon is ending there is nobody
            // to tell.
            let entries =
                read.inspect_err(|_damage| drop(driver.input_blocking(Input::Damaged { key: *key, seq: next })))?;
            if entries.is_empty() {
                anyhow::bail!("entry {next} is accepted, but cannot be read back");
            }
            let mut changes = Vec::new();
            for bytes in entries {
                let entry = Stored::read(bytes)?;
                match entry.header().suite {
                    Suite::Network => self.hear(&entry, news),
                    _ => self.list(key, &entry, driver, news, &mut changes)?,
                }
                next += 1;
            }
            if suite == Suite::Network {
                self.heard().insert(*key, next);
            } else {
                changes.push(Change::Put(cursor_key(key), next.to_be_bytes().to_vec()));
                self.view.get().apply(&changes)?;
            }
        }
        Ok(())
    }

    /// What is accepted no longer disappears from every list.
    fn withdraw(&self, key: &LogKey, height: u64, cursor: u64) -> Result<(), ViewTrouble> {
        let mut changes = Vec::new();
        for seq in height..cursor {
            if let Some(listed) = self.row(key, seq)? {
                changes.push(Change::Remove(time_key(key, seq, listed.row.time)));
                changes.push(Change::Remove(hash_key(&listed.hash)));
                changes.push(Change::Remove(row_key(key, seq)));
            }
        }
        changes.push(Change::Put(cursor_key(key), height.to_be_bytes().to_vec()));
        self.view.get().apply(&changes)
    }

    /// Hides what its author took back, or shows it again.
    fn mark_retracted(
        &self,
        key: &LogKey,
        seq: u64,
        hash: Hash,
        retracted: bool,
        driver: &driver::Handle,
        news: &mpsc::UnboundedSender<News>,
    ) -> anyhow::Result<()> {
        let mark = retracted_key(key, seq);
        let mark = if retracted { Change::Put(mark, hash.0.to_vec()) } else { Change::Remove(mark) };
        self.view.get().apply(&[mark])?;
        let listed = self.row(key, seq)?.filter(|listed| listed.hash == hash);
        let Some(listed) = listed else { return Ok(()) };
        let Some(bytes) = self.reader.get().entry(key, seq)? else { return Ok(()) };
        let mut changes = vec![Change::Remove(time_key(key, seq, listed.row.time))];
        self.list(key, &Stored::read(bytes)?, driver, news, &mut changes)?;
        Ok(self.view.get().apply(&changes)?)
    }

    /// Closes what time dropped. Of a log of which this view counted less than there is, as after a crash, every row is
    /// looked at.
    fn mark_dropped(&self, key: &LogKey, mut seqs: Vec<u64>, total: u64) -> anyhow::Result<()> {
        let counted = self.view.get().get(&dropped_key(key))?;
        let counted = counted.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        if counted == total {
            return Ok(());
        }
        if counted + seqs.len() as u64 != total {
            let prefix = [[ROW].as_slice(), &place(key)].concat();
            seqs.clear();
            self.view.get().scan(&prefix, &mut |row, _| {
                seqs.extend(row.get(1..).and_then(read_place).map(|(_, seq)| seq));
                true
            })?;
        }
        let mut changes = Vec::new();
        for seq in seqs {
            let Some(listed) = self.row(key, seq)? else { continue };
            let Some(bytes) = self.reader.get().entry(key, seq)? else { continue };
            let entry = Stored::read(bytes)?;
            // What is hidden stays so.
            if entry.bytes().payload == SealedPayload::Dropped
                && let Err(unread) = self.open(&entry, None)
            {
                let row = Row::closed(listed.row.id, listed.row.time, unread.row_state());
                let row = Row { clock_doubtful: listed.row.clock_doubtful, ..row };
                let listed = Listed { row, ..listed };
                changes.push(Change::Put(row_key(key, seq), encoding::to_bytes(&listed)));
            }
            if changes.len() >= REOPENED_AT_ONCE {
                self.view.get().apply(&std::mem::take(&mut changes))?;
            }
        }
        changes.push(Change::Put(dropped_key(key), total.to_be_bytes().to_vec()));
        Ok(self.view.get().apply(&changes)?)
    }

    /// Shows what was sealed to epochs whose keys this node was handed since. The marks say which of them are done, so
    /// that a crash in between leaves nothing closed.
    fn reopen(
        &self,
        circle: &CircleId,
        epochs: BTreeSet<Hash>,
        driver: &driver::Handle,
        news: &mpsc::UnboundedSender<News>,
    ) -> anyhow::Result<()> {
        let mut fresh = BTreeSet::new();
        for epoch in epochs {
            if self.view.get().get(&given_mark(circle, &epoch))?.is_none() {
                fresh.insert(epoch);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let mut closed = Vec::new();
        self.view.get().scan(&[[ROW].as_slice(), &circle.0.0].concat(), &mut |key, value| {
            let listed: Option<Listed> = encoding::from_bytes(value, limits::FRAME_BYTES).ok();
            if listed.is_some_and(|listed| listed.row.state == RowState::NotForUs) {
                closed.extend(key.get(1..).and_then(read_place));
            }
            true
        })?;
        let mut changes = Vec::new();
        for (key, seq) in closed {
            let Some(bytes) = self.reader.get().entry(&key, seq)? else { continue };
            let entry = Stored::read(bytes)?;
            if entry.header().epoch.is_some_and(|epoch| fresh.contains(&epoch)) {
                self.list(&key, &entry, driver, news, &mut changes)?;
            }
            if changes.len() >= REOPENED_AT_ONCE {
                self.view.get().apply(&std::mem::take(&mut changes))?;
            }
        }
        changes.extend(fresh.iter().map(|epoch| Change::Put(given_mark(circle, epoch), Vec::new())));
        Ok(self.view.get().apply(&changes)?)
    }

    fn is_retracted(&self, key: &LogKey, seq: u64, hash: &Hash) -> Result<bool, ViewTrouble> {
        Ok(self.view.get().get(&retracted_key(key, seq))?.is_some_and(|marked| marked == hash.0))
    }

    fn hear(&self, entry: &Stored, news: &mpsc::UnboundedSender<News>) {
        let header = entry.header();
        // Issuers' statements, and kinds of later versions, are not addresses.
        if let Some(Ok(addresses)) = entry.payload().map(NodeAddresses::from_bytes)
            && header.time <= clock::now().plus(CLOCK_DOUBT_MS)
            && self.directory.hear(header.author, header.time, header.seq, addresses)
        {
            // The receiver ends with the daemon.
            let _ = news.send(News::Addresses);
        }
    }

    fn list(
        &self,
        key: &LogKey,
        entry: &Stored,
        driver: &driver::Handle,
        news: &mpsc::UnboundedSender<News>,
        changes: &mut Vec<Change>,
    ) -> anyhow::Result<()> {
        let header = entry.header();
        let opened = self.open(entry, Some(driver));
        if let Err(Unread::Untold(failure)) = opened {
            // The daemon is ending; it is listed at the next start.
            return Err(failure.into());
        }
        let now = clock::now();
        let id = EntryId { circle: key.circle, author: key.author, log: key.log, seq: header.seq };
        let row = match &opened {
            Ok(payload) => Row::opened(id, header.time, payload),
            Err(unread) => Row::closed(id, header.time, unread.row_state()),
        };
        let row = row.seen(now.plus(CLOCK_DOUBT_MS));
        let listed = Listed { hash: entry.hash(), first_seen: now, row };
        changes.push(Change::Put(row_key(key, header.seq), encoding::to_bytes(&listed)));
        changes.push(Change::Put(time_key(key, header.seq, header.time), Vec::new()));
        let place = [place(key), header.seq.to_be_bytes().to_vec()].concat();
        if let Some(what) = header.retracts {
            changes.push(Change::Put(takes_back_key(&key.circle, &key.author, &what.hash), place.clone()));
        }
        changes.push(Change::Put(hash_key(&entry.hash()), place));
        if let Ok(payload) = opened
            && !payload.attachments.is_empty()
        {
            // The receiver ends with the daemon.
            let _ = news.send(News::Attached(key.circle, payload.attachments));
        }
        Ok(())
    }

    /// What an entry carries as far as this node can open it, also while it is hidden; nothing when it cannot. Fails when
    /// the record of its epoch cannot be read.
    pub fn carried(&self, entry: &Stored) -> Result<Vec<AttachmentRef>, Closed> {
        let Some(sealed) = entry.payload() else { return Ok(Vec::new()) };
        if let (Suite::Epoch, Some(epoch)) = (entry.header().suite, entry.header().epoch)
            && let Err(unreadable @ Closed::Unreadable(_)) = self.keyring.epoch(&entry.header().circle, &epoch)
        {
            return Err(unreadable);
        }
        Ok(self.unseal(entry, sealed, None).map(|payload| payload.attachments).unwrap_or_default())
    }

    /// Opens an entry. `driver` is asked whether one that does not open should, and told so.
    pub fn open(&self, entry: &Stored, driver: Option<&driver::Handle>) -> Result<Payload, Unread> {
        let header = entry.header();
        let key = LogKey { circle: header.circle, author: header.author, log: header.log };
        let hidden = self.is_retracted(&key, header.seq, &entry.hash());
        let hidden = hidden.map_err(|trouble| Unread::DoesNotOpen(trouble.to_string()))?;
        let sealed =
            entry.payload().filter(|_| !hidden).ok_or_else(|| if hidden { Unread::Retracted } else { gone(entry) })?;
        self.unseal(entry, sealed, driver)
    }

    fn unseal(&self, entry: &Stored, sealed: &[u8], driver: Option<&driver::Handle>) -> Result<Payload, Unread> {
        let header = entry.header();
        let circle = header.circle;
        let plaintext = match (header.suite, header.epoch) {
            (Suite::Epoch, Some(epoch)) => {
                let key = match (self.keyring.epoch(&circle, &epoch), driver) {
                    (Err(Closed::NotForUs | Closed::Broken), Some(driver))
                        if self.should_open(circle, epoch, driver)? =>
                    {
                        Err(Closed::Broken)
                    }
                    (key, _) => key,
                };
                let key = key.map_err(|closed| match closed {
                    Closed::NotForUs => Unread::NotForUs,
                    closed => Unread::DoesNotOpen(closed.to_string()),
                })?;
                let age = cwn_crypto::seal::Age;
                cwn_crypto::seal::Seal::open_with_epoch(&age, &key, sealed, limits::PAYLOAD_BYTES)
            }
            (Suite::Later(_), _) => {
                let why = "it is sealed in a way that only a later version of this program knows; update it";
                return Err(Unread::DoesNotOpen(why.to_owned()));
            }
            _ => self.keyring.open_named(sealed, limits::PAYLOAD_BYTES),
        };
        let plaintext = plaintext.map_err(|refusal| match refusal {
            SealRefusal::NotForThisKey if header.suite == Suite::Named => Unread::NotForUs,
            refusal => Unread::DoesNotOpen(refusal.to_string()),
        })?;
        let payload = Payload::open(&plaintext, &header.author, &circle);
        let payload = payload.map_err(|refusal| Unread::Payload(refusal.to_string()))?;
        if header.retracts.is_some() != (payload.kind == RETRACTION) {
            return Err(Unread::Payload(
                "its header and its inside differ about whether it takes something back".to_owned(),
            ));
        }
        // What names its addressees is sealed to them. Sealed to everybody, it is not shown to anybody: a marking
        // does not widen because its author's software is wrong.
        if header.suite == Suite::Epoch && !payload.addressees.is_empty() {
            return Err(Unread::Payload("it names its addressees, and was sealed to the whole circle".to_owned()));
        }
        Ok(payload)
    }

    /// Whether an epoch that does not open here names this node. Then the engine is told, once for all the entries in a row
    /// that are sealed to it.
    fn should_open(&self, circle: CircleId, epoch: Hash, driver: &driver::Handle) -> Result<bool, driver::Failure> {
        let mut last = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, named)) = last.filter(|(closed, _)| *closed == epoch) {
            return Ok(named);
        }
        let named = driver.ask_blocking(move |engine, _| {
            let held = engine.circle(&circle).and_then(|replica| replica.epoch(&epoch));
            held.is_some_and(|epoch| epoch.names(&engine.me()))
        })?;
        if named {
            driver.input_blocking(Input::Unopenable { circle, epoch })?;
        }
        *last = Some((epoch, named));
        Ok(named)
    }

    fn row(&self, key: &LogKey, seq: u64) -> Result<Option<Listed>, ViewTrouble> {
        let bytes = self.view.get().get(&row_key(key, seq))?;
        // A row of an earlier version of the program is as good as none; it is shown again after a rebuild.
        Ok(bytes.and_then(|bytes| encoding::from_bytes(&bytes, limits::FRAME_BYTES).ok()))
    }

    /// The newest entries first: of one circle or of all, at most `limit`, and only what comes after an entry in that
    /// order when one is given.
    pub fn newest(
        &self,
        circle: Option<CircleId>,
        before: Option<(LogKey, u64, Time)>,
        limit: usize,
    ) -> Result<Vec<Listed>, ViewTrouble> {
        let start = match before {
            None => vec![BY_TIME],
            // The shortest key that comes after the entry's own.
            Some((key, seq, time)) => [time_key(&key, seq, time).as_slice(), &[0]].concat(),
        };
        let mut places = Vec::new();
        self.view.get().scan_from(&[BY_TIME], &start, &mut |key, _| {
            if let Some((log, seq)) = key.get(9..).and_then(read_place)
                && places.len() < limit
                && circle.is_none_or(|circle| circle == log.circle)
            {
                places.push((log, seq));
            }
            places.len() < limit
        })?;
        let rows = places.iter().map(|(log, seq)| self.row(log, *seq));
        rows.filter_map(Result::transpose).collect()
    }

    /// The entries whose hash starts with the digits of a reference; two are enough to see that it is ambiguous.
    pub fn find(&self, digits: &str) -> Result<Vec<(LogKey, u64, Listed)>, ViewTrouble> {
        let whole = &digits[..digits.len() & !1];
        let prefix: Vec<u8> =
            (0..whole.len()).step_by(2).filter_map(|at| u8::from_str_radix(whole.get(at..at + 2)?, 16).ok()).collect();
        let mut places = Vec::new();
        self.view.get().scan(&[[BY_HASH].as_slice(), &prefix].concat(), &mut |key, place| {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = encoding::hex(&key[1..], &mut text);
            if text.starts_with(digits) {
                places.extend(read_place(place));
            }
            places.len() < 2
        })?;
        let mut found = Vec::new();
        for (key, seq) in places {
            found.extend(self.row(&key, seq)?.map(|listed| (key, seq, listed)));
        }
        Ok(found)
    }

    /// What its author wrote to take an entry back, where that is listed here.
    pub fn taken_back_by(&self, key: &LogKey, hash: &Hash) -> Result<Option<(LogKey, u64, Listed)>, ViewTrouble> {
        let place = self.view.get().get(&takes_back_key(&key.circle, &key.author, hash))?;
        let Some((key, seq)) = place.as_deref().and_then(read_place) else { return Ok(None) };
        Ok(self.row(&key, seq)?.map(|listed| (key, seq, listed)))
    }

    /// Attachments of everything that was opened, to fetch what is missing after a start.
    pub fn attached(&self) -> Result<Vec<(CircleId, Vec<AttachmentRef>)>, ViewTrouble> {
        let mut places = Vec::new();
        self.view.get().scan(&[ROW], &mut |key, value| {
            let listed: Option<Listed> = encoding::from_bytes(value, limits::FRAME_BYTES).ok();
            if listed.is_some_and(|listed| listed.row.attachments > 0) {
                places.extend(key.get(1..).and_then(read_place));
            }
            true
        })?;
        let attachments = |(key, seq): (LogKey, u64)| {
            let entry = Stored::read(self.reader.get().entry(&key, seq).ok()??).ok()?;
            Some((key.circle, self.open(&entry, None).ok()?.attachments))
        };
        Ok(places.into_iter().filter_map(attachments).collect())
    }
}
