//! What a node keeps: entries, epoch records and facts of its own, durable before they are acknowledged.
//!
//! [`Store`] belongs to the one thread that appends; a [`Reader`] serves everyone else meanwhile. The bytes
//! are in `segments.rs`, the only truth; where they stand is in `index.rs`, which can be lost without loss.
//!
//! ```text
//! DIR/lock              whose it is
//! DIR/segments/*.seg    the truth
//! DIR/index/            sled; DIR/index.broken is the last one that gave trouble
//! ```
//!
//! This file refuses to know who may write what (that is the engine's), and what sealed payloads say.

#[cfg(test)]
mod faults;
mod index;
mod segments;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cwn_crypto::{Domain, Hash, PublicKey, Signature, issuer_log::LogId};
use cwn_engine::{
    limits,
    log::{Authentic, CircleId, EntryBytes, Header, LogKey, Payload, Retraction, Stored},
    store::{self, Damage, Read, Tip, Write},
};

use crate::disk::{Disk, DiskFile, Site};
pub use index::{Change, View, ViewTrouble};
use index::{Changes, Fact, Held, Index, Row, Standing, Trouble};
use segments::{Files, Found, Hole, Kind, Place, Position, Replacement, Segments, Span, Unreadable};

/// The name of a fact: a word and a few hashes.
pub const FACT_KEY_BYTES: usize = 1 << 10;

/// The value of a fact, or an epoch record: what arrives in one frame fits, and so does what a node notes
/// about it.
pub const VALUE_BYTES: usize = 1 << 20;

/// Facts up to this size are kept in the index as well; larger ones would be written again and again with
/// their neighbours.
const SMALL_FACT_BYTES: usize = 256;

/// Frames whose changes to the index are gathered before they are applied: some 500 kB.
const REPLAY_FRAMES: u64 = 4_096;

/// While a checkpoint runs, so many times the bytes between two of them may be appended before appending waits
/// for it: what a crash then leaves to replay is still read in seconds.
const CHECKPOINTS_LATE: u64 = 4;

/// Damages described one by one; of more it is enough to know how many.
const DESCRIBED_DAMAGES: usize = 100;

/// Bytes between two neighbouring entries that are rather read than jumped over.
const READ_ACROSS_BYTES: u32 = 16 << 10;

/// How long an opening waits for the directory's last user, who may be exiting.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Why a store cannot be opened, or did not keep something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("{} is in use by {}; stop it first", dir.display(), process_name(*process))]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Whose it is, if that could be read.
        process: Option<u32>,
    },
    /// Nothing was changed; trying again may help.
    #[error("{}: {source}; check that the path exists, and that this user may read and write it", path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is full. What was asked is not stored.
    #[error("no space left for {}; nothing more is stored: free some space and start again", path.display())]
    Full {
        /// The file that could not grow.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whether what was asked is stored is unknown until the store is opened again.
    #[error("{} could not be written: {source}; check the disk and start again", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier append failed.
    #[error("an earlier write failed, so nothing more is stored; check the disk and start again")]
    Poisoned,
    /// What was asked is stored, but the index did not follow.
    #[error("{0}; start again, and it is built anew")]
    Index(String),
    /// The index needs room that is not there.
    #[error("{why}; free some space on the disk of {}, then start again", dir.display())]
    NoRoom {
        /// The data directory.
        dir: PathBuf,
        /// What the index says.
        why: String,
    },
    /// A file that is not ours.
    #[error("{} is not a segment of this program; move it elsewhere, or restore it from a backup", path.display())]
    NotASegment {
        /// The file.
        path: PathBuf,
    },
    /// A later program wrote it.
    #[error("{} has version {found}, where this program knows {known}; use a newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The version that is known here.
        known: u32,
    },
    /// Larger than anything that is stored.
    #[error("{what} of {length} bytes, where at most {limit} are stored")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Another entry is held at this place, or the one before it is not the one it names.
    #[error("entry {seq} of log {} does not fit what is held: the log was forked", key.log)]
    Conflict {
        /// The log.
        key: LogKey,
        /// The place in it.
        seq: u64,
    },
    /// The entries before it are missing.
    #[error("entry {seq} of log {}, where entry {expected} comes next", key.log)]
    Gap {
        /// The log.
        key: LogKey,
        /// The place asked for.
        seq: u64,
        /// The place that comes next.
        expected: u64,
    },
}

fn process_name(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

impl Error {
    /// Whether the store would not take what it was asked to: nothing was written, and it goes on.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Conflict { .. } | Self::Gap { .. })
    }

    /// Whether nothing is wrong but that the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::NoRoom { .. })
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match is_full(&source) {
            true => Self::Full { path: path.to_owned(), source },
            false => Self::Io { path: path.to_owned(), source },
        }
    }

    fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match is_full(&source) {
            true => Self::Full { path: path.to_owned(), source },
            false => Self::Failed { path: path.to_owned(), source },
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        let why = trouble.to_string();
        match trouble.no_room {
            Some(dir) => Self::NoRoom { dir, why },
            None => Self::Index(why),
        }
    }
}

/// Long work, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which work.
    pub work: Work,
    /// Bytes of segments read.
    pub done_bytes: u64,
    /// Bytes of segments to read.
    pub total_bytes: u64,
}

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The index is brought up to date after a crash.
    Replaying,
    /// The index is built anew.
    Rebuilding,
    /// Everything is read, to find damage.
    Scrubbing,
}

/// What an opening found.
#[derive(Debug, Default)]
pub struct Opened {
    /// The torn tail that a crash left: never acknowledged, now gone.
    pub cut_back_bytes: u64,
    /// Frames read to bring the index up to date.
    pub replayed: u64,
    /// Whether the index was built anew.
    pub rebuilt: bool,
    /// Places that cannot be read back.
    pub damaged: usize,
    /// The first hundred of them.
    pub damages: Vec<Damage>,
}

/// What [`Store::scrub`] found and did.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Places that cannot be read back.
    pub damaged: usize,
    /// The first hundred of them.
    pub damages: Vec<Damage>,
    /// Entries that were taken out of the index, and that peers may still have.
    pub withdrawn_entries: u64,
    /// Epoch records, likewise.
    pub withdrawn_records: u64,
    /// Facts written once more, because their frames may have been among the damaged.
    pub rewritten_facts: u64,
}

/// At which sizes a store does what it does now and then, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// A segment that reached this is followed by the next.
    pub segment_bytes: u32,
    /// After this much was appended the index is flushed; as much is replayed after a crash.
    pub checkpoint_bytes: u64,
    /// An index that does not open within this time is set aside and built anew.
    pub index_patience: Duration,
}

impl Default for Sizes {
    /// 64 MiB each: replayed in about a second, and a flush of the index costs little beside writing it. An index of
    /// millions of entries opens in seconds.
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, checkpoint_bytes: 64 << 20, index_patience: Duration::from_secs(60) }
    }
}

/// Everything a node keeps, for the thread that appends.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    segments: Segments,
    sizes: Sizes,
    since_checkpoint_bytes: u64,
    /// The checkpoint that runs beside the appends, or has ended and was not looked at.
    flushing: Option<thread::JoinHandle<Result<(), Trouble>>>,
}

/// Reads what is stored, from any thread, while the store appends; cheap to clone. As long as one lives, the
/// directory stays in use.
#[derive(Debug, Clone)]
pub struct Reader {
    index: Index,
    files: Arc<Files>,
}

impl Store {
    /// Opens the store in `dir`, or makes one. When the index has to be brought up to date, `progress` hears
    /// how far that is.
    pub fn open(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(Self, Opened), Error> {
        Self::open_sized(dir, Sizes::default(), progress)
    }

    /// Like [`Store::open`], with other sizes.
    pub fn open_sized(dir: &Path, sizes: Sizes, progress: &mut dyn FnMut(Progress)) -> Result<(Self, Opened), Error> {
        Self::open_on(&Disk::default(), dir, sizes, progress)
    }

    fn open_on(
        disk: &Disk,
        dir: &Path,
        sizes: Sizes,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Opened), Error> {
        disk.make_dir(Site::DataDirMake, dir).map_err(Error::io(dir))?;
        let lock = Arc::new(take_lock(disk, dir)?);
        let mut damages = Damages::default();
        let mut opened = Opened::default();

        let found = Found::look(disk, &dir.join("segments"))?;
        let index_dir = dir.join("index");
        let standing = index::standing(disk, &index_dir).map_err(Error::io(&index_dir))?;
        opened.rebuilt = match standing {
            Standing::Absent => !found.is_empty(),
            Standing::Suspect => true,
            Standing::Present => false,
        };
        let mut usable = None;
        if let Standing::Present = standing {
            match open_index(disk, &index_dir, &lock, sizes.index_patience) {
                // After a crash before the first checkpoint nothing is covered yet; all is replayed.
                Ok((index, None)) => usable = Some((index, None)),
                Ok((index, Some(covered))) => match found.vouch_for(covered) {
                    Ok(true) => usable = Some((index, Some(covered))),
                    Ok(false) => {
                        let why = format!("segment {} at {} ends otherwise", covered.segment, covered.offset);
                        damages.add("what was acknowledged before the last checkpoint", why);
                    }
                    Err(error) => tracing::warn!(%error, "it is not known whether the index fits; it is built anew"),
                },
                // It would not be built either, and what there is would be gone.
                Err(trouble) if trouble.no_room.is_some() => return Err(trouble.into()),
                Err(trouble) => tracing::warn!(%trouble, "the index cannot be opened and is built anew"),
            }
            opened.rebuilt = usable.is_none();
        }

        let durable = usable.as_ref().and_then(|(_, covered)| *covered);
        let (segments, cut_back_bytes) = found.recover(durable, sizes.segment_bytes)?;
        opened.cut_back_bytes = cut_back_bytes;

        let mut replayed = Replayed::default();
        let mut caught_up = None;
        if let Some((index, covered)) = usable {
            let from = covered.unwrap_or(segments.start());
            let replay = Replay { index: &index, segments: &segments, work: Work::Replaying };
            match replay.run(from, &mut damages, progress) {
                Ok(done) => {
                    replayed = done;
                    caught_up = Some(index);
                }
                // As above.
                Err(error) if error.is_full() => return Err(error),
                Err(error) => tracing::warn!(%error, "the index cannot be brought up to date and is built anew"),
            }
        }
        let index = match caught_up {
            Some(index) => index,
            None => {
                opened.rebuilt |= !matches!(standing, Standing::Absent);
                index::set_aside(disk, &index_dir).map_err(Error::io(&index_dir))?;
                let index = Index::open(disk, &index_dir, lock, sizes.index_patience)?;
                let replay = Replay { index: &index, segments: &segments, work: Work::Rebuilding };
                replayed = replay.run(segments.start(), &mut damages, progress)?;
                index
            }
        };
        opened.replayed = replayed.frames;
        let reader = Reader { index, files: segments.files().clone() };
        let mut store = Self { reader, segments, sizes, since_checkpoint_bytes: 0, flushing: None };
        store.make_void(&replayed.superseded);
        let erased = if replayed.erases { store.take_out_all() } else { Ok(()) };
        match erased.and_then(|()| store.take_out(&replayed.dropped, Kind::Dropped)) {
            Ok(()) => {}
            // It is tried again at the next start, for nothing is covered yet that was replayed.
            Err(error) if error.is_full() => return Err(error),
            Err(error) => {
                // What was erased is never given out all the same; it is tried again at the next start.
                damages.add("payloads that were erased or dropped", format!("some may still be on the disk: {error}"));
                store.rebuild_next_time()?;
            }
        }
        if damages.unread {
            store.rebuild_next_time()?;
        }
        (opened.damaged, opened.damages) = (damages.count, damages.described);
        if opened.replayed > 0 || opened.rebuilt {
            store.checkpoint()?;
        }
        Ok((store, opened))
    }

    /// Makes `writes` durable, and payloads that are erased gone from the files, in the order given: when a later one survives a crash, so does every earlier
    /// one. What is held already is not written again. When this refuses ([`Error::is_refusal`]) nothing was written;
    /// after any other error this store is of no more use.
    pub fn append(&mut self, writes: &[Write]) -> Result<(), Error> {
        let missing = self.missing(writes);
        if missing.as_ref().is_err_and(|error| !error.is_refusal()) {
            self.segments.poison();
        }
        self.put_down(&missing?)
    }

    /// Makes these durable, and takes out of the files what they erase or stand for from now on.
    fn put_down(&mut self, puts: &[Put<'_>]) -> Result<(), Error> {
        if puts.is_empty() {
            return Ok(());
        }
        let places = self.segments.append(puts.len(), &mut |at, buffer| encode(&puts[at], buffer))?;
        let taken_out = self.index_puts(puts, &places).map_err(Error::from).and_then(|superseded| {
            let erased = puts.iter().filter_map(|put| match put {
                Put::Write(Write::Erase { key, seq, hash, .. }) => Some((*key, *seq, *hash)),
                _ => None,
            });
            self.take_out(&erased.collect::<Vec<_>>(), Kind::Erased)?;
            let dropped = puts.iter().filter_map(|put| match put {
                Put::Write(Write::Drop { key, seq, hash }) => Some((*key, *seq, *hash)),
                _ => None,
            });
            self.take_out(&dropped.collect::<Vec<_>>(), Kind::Dropped)?;
            self.make_void(&superseded);
            Ok(())
        });
        if let Err(error) = taken_out {
            self.segments.poison();
            return Err(error);
        }
        self.since_checkpoint_bytes += places.iter().map(|place| u64::from(place.length)).sum::<u64>();
        if self.since_checkpoint_bytes >= self.sizes.checkpoint_bytes {
            self.begin_checkpoint()?;
        }
        Ok(())
    }

    /// Begins a checkpoint and does not wait for it: much that changed takes a second to flush, in which whoever
    /// catches up would stand still. Nothing depends on it but how much the next opening replays.
    fn begin_checkpoint(&mut self) -> Result<(), Error> {
        let runs = self.flushing.as_ref().is_some_and(|flushing| !flushing.is_finished());
        if runs && self.since_checkpoint_bytes < CHECKPOINTS_LATE * self.sizes.checkpoint_bytes {
            return Ok(());
        }
        self.end_checkpoint()?;
        let (index, covered) = (self.reader.index.clone(), self.segments.tail());
        let begun = thread::Builder::new().name("checkpoint".to_owned()).spawn(move || index.checkpoint(covered));
        match begun {
            Ok(flushing) => self.flushing = Some(flushing),
            Err(error) => {
                tracing::debug!(%error, "no thread for a checkpoint; appending waits for it");
                return self.checkpoint();
            }
        }
        self.since_checkpoint_bytes = 0;
        Ok(())
    }

    /// Waits for the checkpoint that was begun.
    fn end_checkpoint(&mut self) -> Result<(), Error> {
        let Some(flushing) = self.flushing.take() else { return Ok(()) };
        let panicked = |_| Err(Trouble::new("a checkpoint panicked"));
        if let Err(trouble) = flushing.join().unwrap_or_else(panicked) {
            self.segments.poison();
            return Err(trouble.into());
        }
        Ok(())
    }

    /// Those of `writes` that are not held yet and may be.
    fn missing<'w>(&self, writes: &'w [Write]) -> Result<Vec<Put<'w>>, Error> {
        let mut tips = BTreeMap::new();
        let mut missing = Vec::with_capacity(writes.len());
        let erasing = writes.iter().filter_map(|write| match write {
            Write::Erase { key, seq, hash, .. } => Some((*key, *seq, *hash)),
            _ => None,
        });
        let erasing: BTreeSet<(LogKey, u64, Hash)> = erasing.collect();
        for write in writes {
            match write {
                Write::Entry(entry) => {
                    if !self.is_missing(entry, &mut tips, &missing)? {
                        continue;
                    }
                    let (key, seq, hash) = (entry.key(), entry.header().seq, entry.hash());
                    let known = self.knows_erasure(&key, seq, hash)?;
                    match &entry.bytes().payload {
                        Payload::Retracted(_) if !known => match self.was_erased(&key, seq, hash)? {
                            true => missing.extend([Put::Retraction(entry), Put::Erased(entry)]),
                            false => missing.push(Put::Bare(entry)),
                        },
                        Payload::Sealed(_) if !known && !erasing.contains(&(key, seq, hash)) => {
                            let erased = self.reader.index.erasure(&key, seq, hash)?.is_some();
                            missing.push(if erased { Put::Erased(entry) } else { Put::Write(write) });
                        }
                        Payload::Dropped if !known && self.reader.index.erasure(&key, seq, hash)?.is_none() => {
                            missing.push(Put::Dropped(entry));
                        }
                        _ => missing.push(Put::Erased(entry)),
                    }
                }
                Write::Mend(entry) => {
                    let (key, seq, hash) = (entry.key(), entry.header().seq, entry.hash());
                    check_length("the payload of an entry", entry.bytes().payload.len(), limits::PAYLOAD_BYTES)?;
                    if self.reader.find(&key, seq, hash)?.is_none() {
                        continue;
                    }
                    let erased = erasing.contains(&(key, seq, hash)) || self.was_erased(&key, seq, hash)?;
                    missing.push(if erased { Put::Erased(entry) } else { Put::of(entry, write) });
                }
                Write::Erase { key, seq, hash, because } => {
                    check_length("the header of a retraction", because.header.len(), limits::HEADER_BYTES)?;
                    if !self.knows_erasure(key, *seq, *hash)? {
                        missing.push(Put::Write(write));
                    }
                }
                Write::Drop { key, seq, hash } => {
                    if self.reader.is_whole_entry(key, *seq, *hash)? {
                        missing.push(Put::Write(write));
                    }
                }
                Write::Rewind { key, height } => {
                    if self.rewinds(key, *height, &mut tips, &missing)? {
                        missing.push(Put::Write(write));
                    }
                }
                Write::Record { circle, hash, bytes } => {
                    check_length("an epoch record", bytes.len(), VALUE_BYTES)?;
                    let held = self.reader.index.record(circle, hash)?;
                    if held.is_none_or(|place| self.reader.files.body(place, Kind::Record).is_err()) {
                        missing.push(Put::Write(write));
                    }
                }
                Write::Fact { key, value } => {
                    check_length("the name of a fact", key.len(), FACT_KEY_BYTES)?;
                    check_length("the value of a fact", value.len(), VALUE_BYTES)?;
                    missing.push(Put::Write(write));
                }
            }
        }
        Ok(missing)
    }

    /// Whether it is stored, and can be read, that an entry's payload is not to be kept.
    fn knows_erasure(&self, key: &LogKey, seq: u64, hash: Hash) -> Result<bool, Error> {
        let place = self.reader.index.erasure(key, seq, hash)?;
        Ok(place.is_some_and(|place| self.reader.read_erasure(place).is_ok()))
    }

    /// Whether an entry's payload was erased here, be it that by what cannot be read any more.
    fn was_erased(&self, key: &LogKey, seq: u64, hash: Hash) -> Result<bool, Error> {
        let held = self.reader.find(key, seq, hash)?;
        let stands_so = held.is_some_and(|held| self.reader.is_erased(held));
        Ok(stands_so || self.reader.index.erasure(key, seq, hash)?.is_some())
    }

    /// Whether there is something to forget; moves the log's tip in `tips` back.
    fn rewinds(
        &self,
        key: &LogKey,
        height: u64,
        tips: &mut BTreeMap<LogKey, Row>,
        batch: &[Put<'_>],
    ) -> Result<bool, Error> {
        let index = &self.reader.index;
        let known = match tips.get(key) {
            Some(row) => Some(*row),
            None => index.log(key)?,
        };
        let Some(row) = known.filter(|row| row.beyond > height) else { return Ok(false) };
        let in_batch = height.checked_sub(1).and_then(|last| {
            let is_last = |entry: &&Authentic| entry.key() == *key && entry.header().seq == last;
            batch.iter().rev().filter_map(Put::entry).find(is_last).map(Authentic::hash)
        });
        let shorter = shortened(row, height, |last| match in_batch {
            Some(hash) => Ok(Some(hash)),
            None => Ok::<_, Trouble>(index.entry(row.id, last)?.map(|held| held.hash)),
        })?;
        tips.insert(*key, shorter);
        Ok(true)
    }

    /// Whether an entry must be written; moves the log's tip in `tips` on past it.
    fn is_missing(
        &self,
        entry: &Authentic,
        tips: &mut BTreeMap<LogKey, Row>,
        batch: &[Put<'_>],
    ) -> Result<bool, Error> {
        let (key, seq, hash) = (entry.key(), entry.header().seq, entry.hash());
        let index = &self.reader.index;
        let row = match tips.entry(key) {
            std::collections::btree_map::Entry::Occupied(row) => row.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(index.log(&key)?.unwrap_or(UNHELD)),
        };
        let bytes = entry.bytes();
        check_length("the header of an entry", bytes.header.len(), limits::HEADER_BYTES)?;
        check_length("the payload of an entry", bytes.payload.len(), limits::PAYLOAD_BYTES)?;
        let conflict = || Error::Conflict { key, seq };
        let mut wanted = true;
        if seq < row.beyond
            && let Some(held) = index.entry(row.id, seq)?
        {
            if held.hash != hash {
                return Err(conflict());
            }
            // What cannot be read back is written once more: so damage heals when a peer still has it.
            // But not with a payload that was erased, even if by what cannot be read.
            let retracted = matches!(entry.bytes().payload, Payload::Retracted(_));
            wanted = self.reader.read_entry(&key, seq, held).is_err() && (retracted || !self.reader.is_erased(held));
        }
        if seq > row.height {
            return if wanted { Err(Error::Gap { key, seq, expected: row.height }) } else { Ok(false) };
        }
        if seq < row.height {
            let twin = |other: &&Authentic| other.key() == key && other.header().seq == seq;
            let rewound = |put: &&Put<'_>| matches!(put, Put::Write(Write::Rewind { key: of, .. }) if *of == key);
            let since = batch.iter().rev().take_while(|put| !rewound(put));
            if let Some(twin) = since.filter_map(Put::entry).find(twin) {
                return if twin.hash() == hash { Ok(false) } else { Err(conflict()) };
            }
            return Ok(wanted);
        }
        if seq > 0 && entry.header().previous != Some(row.head) {
            return Err(conflict());
        }
        // Behind a gap that damage tore, the entry that comes next may be held, and must follow this one.
        if seq + 1 < row.beyond && self.reader.is_followed_by_another(&key, row.id, seq, hash)? {
            return Err(conflict());
        }
        (row.height, row.head, row.beyond) = (seq + 1, hash, row.beyond.max(seq + 1));
        Ok(wanted)
    }

    /// Says where things stand now; gives the places that nobody asks for any more.
    fn index_puts(&self, puts: &[Put<'_>], places: &[Place]) -> Result<Vec<Place>, Trouble> {
        let mut draft = Draft::of(&self.reader.index);
        for (put, place) in puts.iter().zip(places) {
            match *put {
                Put::Write(Write::Entry(entry) | Write::Mend(entry))
                | Put::Erased(entry)
                | Put::Dropped(entry)
                | Put::Bare(entry) => {
                    let Header { seq, previous, .. } = *entry.header();
                    let fits =
                        draft.add_entry(entry.key(), seq, previous, Held { place: *place, hash: entry.hash() })?;
                    assert!(fits, "entry {seq} was found to fit before it was written");
                }
                Put::Write(Write::Record { circle, hash, .. }) => draft.add_record(*circle, *hash, *place),
                Put::Write(Write::Fact { key, value }) => draft.add_fact(key, value, *place),
                Put::Write(Write::Erase { key, seq, hash, .. }) => draft.add_erasure(*key, *seq, *hash, *place),
                Put::Write(Write::Rewind { key, height }) => draft.add_rewind(*key, *height)?,
                // What stands in the entry's own place says it.
                Put::Write(Write::Drop { .. }) => {}
                Put::Retraction(entry) => {
                    draft.add_erasure(entry.key(), entry.header().seq, entry.hash(), *place);
                }
            }
        }
        self.reader.index.apply(Site::IndexAppend, &draft.changes)?;
        Ok(draft.superseded)
    }

    /// The payloads of all that was ever erased, for when a crash may have come between.
    fn take_out_all(&mut self) -> Result<(), Error> {
        let mut erased = Vec::new();
        self.reader.index.erasures(&mut |key, seq, hash, _| erased.push((key, seq, hash)))?;
        self.take_out(&erased, Kind::Erased)
    }

    /// Takes the payloads of these entries out of the files; what stays is of this kind.
    fn take_out(&mut self, entries: &[(LogKey, u64, Hash)], kind: Kind) -> Result<(), Error> {
        let mut frames = Vec::new();
        for (key, seq, hash) in entries {
            let Some(Held { place, .. }) = self.reader.find(key, *seq, *hash)? else { continue };
            match self.reader.files.frame(place) {
                Ok((Kind::Entry, mut body)) => {
                    body.truncate(payload_at(&body).unwrap_or_default());
                    frames.push(Replacement { place, kind, kept: body });
                }
                Ok(_) => {}
                // It may be damaged in a single bit of its payload. What is only to be dropped may be healed before.
                Err(Unreadable::Frame { .. }) if kind == Kind::Dropped => {}
                Err(Unreadable::Frame { .. }) => frames.push(Replacement::void(place)),
                // There is nothing from which it could be taken out.
                Err(Unreadable::Missing(_) | Unreadable::Header(_)) => {}
                Err(Unreadable::Io { source, .. }) => return Err(Error::io(self.reader.files.dir())(source)),
            }
        }
        self.replace(frames)
    }

    /// Takes out of the files what stood in places that nobody asks for any more, because it could not be read and
    /// stands elsewhere again: damage that was healed is not said again, and what is erased later is so everywhere.
    fn make_void(&mut self, superseded: &[Place]) {
        let frames = superseded.iter().copied().map(Replacement::void).collect();
        if let Err(error) = self.replace(frames) {
            tracing::warn!(%error, "what was damaged and is healed stays on the disk beside it");
        }
    }

    fn replace(&mut self, mut frames: Vec<Replacement>) -> Result<(), Error> {
        frames.sort_by_key(|frame| frame.place);
        for frames in frames.chunk_by(|one, next| one.place.segment == next.place.segment) {
            self.segments.replace(frames[0].place.segment, frames)?;
        }
        Ok(())
    }

    /// The disk gave errors where the index was filled from: another time more may be read.
    fn rebuild_next_time(&self) -> Result<(), Error> {
        let (index, dir) = (&self.reader.index, self.reader.files.dir());
        tracing::warn!("not everything could be read; the index is built anew at the next start");
        index.leave_mark().map_err(Error::write(dir))
    }

    /// The segment files, and how many bytes of each are durable and will stay as they are.
    pub fn committed(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        self.segments.committed()
    }

    /// Makes the index durable, so that the next opening has nothing to replay. Appending does this now and
    /// then, closing once more.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.end_checkpoint()?;
        let flushed = self.reader.index.checkpoint(self.segments.tail());
        if let Err(trouble) = flushed {
            self.segments.poison();
            return Err(trouble.into());
        }
        self.since_checkpoint_bytes = 0;
        Ok(())
    }

    /// A handle for other threads.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The view of this name, made when it is not there.
    pub fn view(&self, name: &str) -> Result<View, Error> {
        Ok(View::open(self.reader.index.clone(), name)?)
    }

    /// Entries `from..to` of a log, in order, as [`Reader::entries`] gives them.
    pub fn entries(&self, key: &LogKey, from: u64, to: u64, max_bytes: usize) -> Result<Vec<EntryBytes>, Damage> {
        self.reader.entries(key, from, to, max_bytes)
    }

    /// Reads everything there is, to find what rotted. What cannot be read back is no longer counted as held,
    /// so that the engine fetches it from peers again; entries behind it count again once the gap is filled.
    pub fn scrub(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Scrubbed, Error> {
        let mut holes = Holes::default();
        let mut damages = Damages::default();
        self.segments.replay(
            self.segments.start(),
            &mut |_, _, _| Ok(()),
            &mut |hole| {
                damages.add_hole(&hole);
                holes.add(hole);
            },
            &mut |done_bytes, total_bytes| progress(Progress { work: Work::Scrubbing, done_bytes, total_bytes }),
        )?;
        if damages.unread {
            self.rebuild_next_time()?;
        }
        let mut scrubbed = Scrubbed { damaged: damages.count, damages: damages.described, ..Scrubbed::default() };
        if [Kind::Entry, Kind::Dropped, Kind::Bare, Kind::Record].iter().any(|kind| holes.may_hide(*kind)) {
            self.withdraw(&holes, &mut scrubbed)?;
        }
        if holes.may_hide(Kind::Fact) {
            let facts = self.known_facts()?;
            scrubbed.rewritten_facts = facts.len() as u64;
            self.append(&facts)?;
        }
        if holes.may_hide(Kind::Erasure) {
            let erasures = self.known_erasures()?;
            self.put_down(&erasures.iter().map(Put::Write).collect::<Vec<_>>())?;
        }
        self.checkpoint()?;
        Ok(scrubbed)
    }

    fn withdraw(&mut self, holes: &Holes, scrubbed: &mut Scrubbed) -> Result<(), Error> {
        let index = &self.reader.index;
        let mut entries = Vec::new();
        index.all_entries(&mut |id, seq, held| {
            if holes.hide(held.place) {
                entries.push((id, seq));
            }
        })?;
        let mut records = Vec::new();
        index.records(&mut |circle, hash, place| {
            if holes.hide(place) {
                records.push((circle, hash));
            }
        })?;
        // Ordered by log and place, so the first of each log is where its tip falls back to.
        let mut first_lost = BTreeMap::new();
        for (id, seq) in &entries {
            first_lost.entry(*id).or_insert(*seq);
        }
        let mut rows = Vec::new();
        index.logs(&mut |key, row| {
            if let Some(lost) = first_lost.get(&row.id).filter(|lost| **lost < row.height) {
                rows.push((key, Row { height: *lost, ..row }));
            }
        })?;
        let mut shorter = BTreeMap::new();
        for (key, row) in rows {
            let last = match row.height.checked_sub(1) {
                Some(last) => index.entry(row.id, last)?,
                None => None,
            };
            shorter.insert(key, Row { head: last.map_or(UNHELD.head, |last| last.hash), ..row });
        }
        let withdrawn = index.withdraw(&entries, &records, &shorter);
        if let Err(trouble) = withdrawn {
            self.segments.poison();
            return Err(trouble.into());
        }
        scrubbed.withdrawn_entries = entries.len() as u64;
        scrubbed.withdrawn_records = records.len() as u64;
        Ok(())
    }

    /// The facts whose values can be read, to be written again.
    fn known_facts(&self) -> Result<Vec<Write>, Error> {
        let mut facts = Vec::new();
        self.reader.index.facts(&[], &mut |key, fact| facts.push((key.to_vec(), fact)))?;
        let read = |(key, fact): (Vec<u8>, Fact)| {
            let value = self.reader.read_fact(&key, fact).ok()?;
            Some(Write::Fact { key, value })
        };
        Ok(facts.into_iter().filter_map(read).collect())
    }

    /// The erasures that can be read, to be written again.
    fn known_erasures(&self) -> Result<Vec<Write>, Error> {
        let mut erasures = Vec::new();
        self.reader.index.erasures(&mut |_, _, _, place| erasures.push(place))?;
        let read = |place| {
            let Erasure { key, seq, hash, because } = self.reader.read_erasure(place).ok()?;
            Some(Write::Erase { key, seq, hash, because })
        };
        Ok(erasures.into_iter().filter_map(read).collect())
    }

    /// Makes the index durable and lets go of the directory, once no reader and no view of it is left.
    pub fn close(mut self) -> Result<(), Error> {
        self.checkpoint()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let ended = self.end_checkpoint();
        let due = self.since_checkpoint_bytes > 0 && !self.segments.is_poisoned();
        if let Err(error) = ended.and_then(|()| if due { self.checkpoint() } else { Ok(()) }) {
            tracing::warn!(%error, "the index was not flushed; the next start replays what it lacks");
        }
    }
}

/// A log without its entries from a height on; `hash` knows those before it.
fn shortened<E>(row: Row, height: u64, hash: impl FnOnce(u64) -> Result<Option<Hash>, E>) -> Result<Row, E> {
    // Where damage tore a gap before, nothing behind it counted.
    let (held, head) = match height.checked_sub(1) {
        _ if row.height < height => (row.height, row.head),
        Some(last) => (height, hash(last)?.unwrap_or(UNHELD.head)),
        None => (0, UNHELD.head),
    };
    Ok(Row { height: held, head, beyond: row.beyond.min(height), ..row })
}

/// A log of which nothing is held.
const UNHELD: Row = Row { id: 0, height: 0, head: Hash([0; 32]), beyond: 0 };

fn check_length(what: &'static str, length: usize, limit: usize) -> Result<(), Error> {
    if length > limit { Err(Error::TooLong { what, length, limit }) } else { Ok(()) }
}

/// Whether a process has the store of a directory now.
pub fn in_use(dir: &Path) -> bool {
    is_locked(&Disk::default(), dir)
}

fn is_locked(disk: &Disk, dir: &Path) -> bool {
    let lock = disk.open(Site::LockLook, &dir.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.file().try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn take_lock(disk: &Disk, dir: &Path) -> Result<DiskFile, Error> {
    let path = dir.join("lock");
    let file = disk.open_or_create(Site::LockOpen, &path).map_err(Error::io(&path))?;
    let give_up = Instant::now() + LOCK_WAIT;
    loop {
        match file.file().try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(Error::Io { path, source }),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { dir: dir.to_owned(), process: read_process(&file).ok() });
            }
        }
    }
    let process = format!("{}\n", std::process::id());
    let written = file.write_all_at(Site::LockWrite, process.as_bytes(), 0);
    written.and_then(|()| file.cut(Site::LockCut, process.len() as u64)).map_err(Error::io(&path))?;
    Ok(file)
}

/// Whose the lock is.
fn read_process(file: &DiskFile) -> io::Result<u32> {
    let mut text = vec![0; file.length(Site::LockLength)?.min(16) as usize];
    file.read_exact_at(Site::LockRead, &mut text, 0)?;
    let text = String::from_utf8_lossy(&text);
    text.trim().parse().map_err(io::Error::other)
}

fn open_index(
    disk: &Disk,
    dir: &Path,
    lock: &Arc<DiskFile>,
    patience: Duration,
) -> Result<(Index, Option<Position>), Trouble> {
    let index = Index::open(disk, dir, lock.clone(), patience)?;
    let covered = index.covered()?;
    Ok((index, covered))
}

// ------------------------------------------------------------------------------------- what frames hold

/// What is put down as one frame.
#[derive(Clone, Copy)]
enum Put<'a> {
    Write(&'a Write),
    /// An entry without its payload.
    Erased(&'a Authentic),
    /// An entry whose payload time dropped elsewhere.
    Dropped(&'a Authentic),
    /// An entry with a retraction in the place of its payload.
    Bare(&'a Authentic),
    /// By what the author of this entry took it back.
    Retraction(&'a Authentic),
}

impl<'a> Put<'a> {
    /// How an entry is put down that nothing here says is erased.
    fn of(entry: &'a Authentic, write: &'a Write) -> Self {
        match entry.bytes().payload {
            Payload::Sealed(_) => Self::Write(write),
            Payload::Retracted(_) => Self::Bare(entry),
            Payload::Dropped => Self::Dropped(entry),
        }
    }

    fn entry(&self) -> Option<&Authentic> {
        match *self {
            Put::Write(Write::Entry(entry)) | Put::Erased(entry) | Put::Dropped(entry) | Put::Bare(entry) => {
                Some(entry)
            }
            _ => None,
        }
    }
}

fn put_log(key: &LogKey, body: &mut Vec<u8>) {
    body.extend_from_slice(&key.circle.0.0);
    body.extend_from_slice(&key.author.0);
    body.extend_from_slice(&key.log.0);
}

/// Puts what is written into the body of a frame.
fn encode(put: &Put<'_>, body: &mut Vec<u8>) -> Kind {
    let signed = |header: &[u8], signature: &Signature, body: &mut Vec<u8>| {
        body.extend_from_slice(&(header.len() as u32).to_le_bytes());
        body.extend_from_slice(&signature.0);
        body.extend_from_slice(header);
    };
    let erasure = |key: &LogKey, seq: u64, hash: Hash, because: &Retraction, body: &mut Vec<u8>| {
        put_log(key, body);
        body.extend_from_slice(&seq.to_le_bytes());
        body.extend_from_slice(&hash.0);
        signed(&because.header, &because.signature, body);
        Kind::Erasure
    };
    let write = match put {
        Put::Write(write) => write,
        Put::Erased(entry) => {
            signed(&entry.bytes().header, &entry.bytes().signature, body);
            return Kind::Erased;
        }
        Put::Dropped(entry) => {
            signed(&entry.bytes().header, &entry.bytes().signature, body);
            return Kind::Dropped;
        }
        Put::Retraction(entry) => {
            return erasure(&entry.key(), entry.header().seq, entry.hash(), brought_by(entry), body);
        }
        Put::Bare(entry) => {
            signed(&entry.bytes().header, &entry.bytes().signature, body);
            let because = brought_by(entry);
            signed(&because.header, &because.signature, body);
            return Kind::Bare;
        }
    };
    match write {
        Write::Entry(entry) | Write::Mend(entry) => {
            let EntryBytes { header, signature, payload } = entry.bytes();
            signed(header, signature, body);
            body.extend_from_slice(payload.sealed().unwrap_or_default());
            Kind::Entry
        }
        Write::Erase { key, seq, hash, because } => erasure(key, *seq, *hash, because, body),
        Write::Rewind { key, height } => {
            put_log(key, body);
            body.extend_from_slice(&height.to_le_bytes());
            Kind::Rewind
        }
        Write::Drop { key, seq, hash } => {
            put_log(key, body);
            body.extend_from_slice(&seq.to_le_bytes());
            body.extend_from_slice(&hash.0);
            Kind::Drop
        }
        Write::Record { circle, hash, bytes } => {
            body.extend_from_slice(&circle.0.0);
            body.extend_from_slice(&hash.0);
            body.extend_from_slice(bytes);
            Kind::Record
        }
        Write::Fact { key, value } => {
            body.extend_from_slice(&(key.len() as u32).to_le_bytes());
            body.extend_from_slice(key);
            body.extend_from_slice(value);
            Kind::Fact
        }
    }
}

/// The retraction that stands in the place of an entry's payload.
fn brought_by(entry: &Authentic) -> &Retraction {
    match &entry.bytes().payload {
        Payload::Retracted(because) => because,
        Payload::Sealed(_) | Payload::Dropped => {
            unreachable!("only an entry that was taken back brings its retraction")
        }
    }
}

/// Splits what a length says off.
fn split_by_length(body: &[u8], between: usize) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    let (between, rest) = rest.split_at_checked(between)?;
    let (first, second) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((between, first, second))
}

/// Where in the body of an entry its payload begins.
fn payload_at(body: &[u8]) -> Option<usize> {
    let (_, _, payload) = split_by_length(body, 64)?;
    Some(body.len() - payload.len())
}

fn decode_entry(body: &[u8]) -> Option<EntryBytes> {
    let (signature, header, payload) = split_by_length(body, 64)?;
    let signature = Signature(signature.try_into().ok()?);
    Some(EntryBytes { header: header.to_vec(), signature, payload: Payload::Sealed(payload.to_vec()) })
}

fn decode_bare(body: &[u8]) -> Option<EntryBytes> {
    let (signature, header, because) = split_by_length(body, 64)?;
    let signature = Signature(signature.try_into().ok()?);
    let (because, by) = decode_signed(because)?;
    let payload = Payload::Retracted(Retraction { header: because, signature: by });
    Some(EntryBytes { header: header.to_vec(), signature, payload })
}

/// A header and its signature, without what may stand behind them.
fn decode_signed(body: &[u8]) -> Option<(Vec<u8>, Signature)> {
    let (signature, header, _) = split_by_length(body, 64)?;
    Some((header.to_vec(), Signature(signature.try_into().ok()?)))
}

fn split_log(body: &[u8]) -> Option<(LogKey, &[u8])> {
    let (circle, rest) = body.split_first_chunk()?;
    let (author, rest) = rest.split_first_chunk()?;
    let (log, rest) = rest.split_first_chunk()?;
    let key = LogKey { circle: CircleId(Hash(*circle)), author: PublicKey(*author), log: LogId(*log) };
    Some((key, rest))
}

/// An entry whose payload is not to be kept.
#[derive(Debug)]
struct Erasure {
    key: LogKey,
    seq: u64,
    hash: Hash,
    because: Retraction,
}

fn decode_erasure(body: &[u8]) -> Option<Erasure> {
    let (key, rest) = split_log(body)?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let (header, signature) = decode_signed(rest)?;
    Some(Erasure { key, seq: u64::from_le_bytes(*seq), hash: Hash(*hash), because: Retraction { header, signature } })
}

fn decode_rewind(body: &[u8]) -> Option<(LogKey, u64)> {
    let (key, rest) = split_log(body)?;
    Some((key, u64::from_le_bytes(rest.try_into().ok()?)))
}

fn decode_drop(body: &[u8]) -> Option<(LogKey, u64, Hash)> {
    let (key, rest) = split_log(body)?;
    let (seq, hash) = rest.split_first_chunk()?;
    Some((key, u64::from_le_bytes(*seq), Hash(hash.try_into().ok()?)))
}

fn decode_record(body: &[u8]) -> Option<(CircleId, Hash, &[u8])> {
    let (circle, rest) = body.split_first_chunk()?;
    let (hash, bytes) = rest.split_first_chunk()?;
    Some((CircleId(Hash(*circle)), Hash(*hash), bytes))
}

fn decode_fact(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, key, value) = split_by_length(body, 0)?;
    Some((key, value))
}

// ---------------------------------------------------------------------------------- changes to the index

/// Changes to the index, seen together with what it holds.
struct Draft<'a> {
    index: &'a Index,
    changes: Changes,
    /// Where what stands in a new place stood before.
    superseded: Vec<Place>,
    /// Entries whose payloads were dropped.
    dropped: Vec<(LogKey, u64, Hash)>,
}

impl<'a> Draft<'a> {
    fn of(index: &'a Index) -> Self {
        Self { index, changes: Changes::default(), superseded: Vec::new(), dropped: Vec::new() }
    }

    fn held(&self, id: u64, seq: u64) -> Result<Option<Held>, Trouble> {
        match self.changes.entries.get(&(id, seq)) {
            Some(held) => Ok(*held),
            None => self.index.entry(id, seq),
        }
    }

    /// Adds an entry at its place; false when another stands there, or it does not follow the one before.
    fn add_entry(&mut self, key: LogKey, seq: u64, previous: Option<Hash>, new: Held) -> Result<bool, Trouble> {
        let known = match self.changes.logs.get(&key) {
            Some(row) => Some(*row),
            None => self.index.log(&key)?,
        };
        let id = u64::from(new.place.segment) << 32 | u64::from(new.place.offset);
        let mut row = known.unwrap_or(Row { id, ..UNHELD });
        let before = if seq < row.beyond { self.held(row.id, seq)? } else { None };
        if before.is_some_and(|before| before.hash != new.hash) {
            return Ok(false);
        }
        self.superseded.extend(before.map(|before| before.place).filter(|place| *place != new.place));
        if seq == row.height {
            if seq > 0 && previous != Some(row.head) {
                return Ok(false);
            }
            (row.height, row.head) = (seq + 1, new.hash);
        }
        self.changes.entries.insert((row.id, seq), Some(new));
        row.beyond = row.beyond.max(seq + 1);
        // A filled gap joins what was held behind it.
        while row.height < row.beyond {
            let Some(next) = self.held(row.id, row.height)? else { break };
            (row.height, row.head) = (row.height + 1, next.hash);
        }
        self.changes.logs.insert(key, row);
        Ok(true)
    }

    /// Forgets the entries of a log from a height on.
    fn add_rewind(&mut self, key: LogKey, height: u64) -> Result<(), Trouble> {
        let known = match self.changes.logs.get(&key) {
            Some(row) => Some(*row),
            None => self.index.log(&key)?,
        };
        let Some(row) = known.filter(|row| row.beyond > height) else { return Ok(()) };
        self.changes.entries.extend((height..row.beyond).map(|seq| ((row.id, seq), None)));
        let shorter = shortened(row, height, |last| Ok::<_, Trouble>(self.held(row.id, last)?.map(|held| held.hash)))?;
        self.changes.logs.insert(key, shorter);
        self.changes.shorter.insert(key, shorter);
        Ok(())
    }

    fn add_erasure(&mut self, key: LogKey, seq: u64, hash: Hash, place: Place) {
        self.changes.erasures.insert((key, seq, hash), place);
    }

    fn add_record(&mut self, circle: CircleId, hash: Hash, place: Place) {
        self.changes.records.insert((circle, hash), place);
    }

    fn add_fact(&mut self, key: &[u8], value: &[u8], place: Place) {
        let fact = match value.len() {
            0 => None,
            1..=SMALL_FACT_BYTES => Some(Fact::Here(value.to_vec())),
            _ => Some(Fact::At(place)),
        };
        self.changes.facts.insert(key.to_vec(), fact);
    }

    /// Adds what a frame of the segments holds, or says why that cannot be believed.
    fn add_frame(&mut self, place: Place, kind: Kind, body: &[u8]) -> Result<Option<String>, Trouble> {
        let malformed = Ok(Some("its contents are malformed".to_owned()));
        match kind {
            Kind::Entry => {
                let Some(bytes) = decode_entry(body) else { return malformed };
                let stored = match Stored::read(bytes) {
                    Ok(stored) => stored,
                    Err(refusal) => return Ok(Some(refusal.to_string())),
                };
                return self.add_read(stored.header(), Held { place, hash: stored.hash() });
            }
            Kind::Erased | Kind::Dropped | Kind::Bare => {
                let Some((bytes, _)) = decode_signed(body) else { return malformed };
                let header = match Header::from_bytes(&bytes) {
                    Ok(header) => header,
                    Err(refusal) => return Ok(Some(refusal.to_string())),
                };
                return self.add_read(&header, Held { place, hash: Hash::of(Domain::ENTRY, &[&bytes]) });
            }
            Kind::Erasure => {
                let Some(Erasure { key, seq, hash, .. }) = decode_erasure(body) else { return malformed };
                self.add_erasure(key, seq, hash, place);
            }
            Kind::Record => {
                let Some((circle, hash, _)) = decode_record(body) else { return malformed };
                self.add_record(circle, hash, place);
            }
            Kind::Fact => {
                let Some((key, value)) = decode_fact(body) else { return malformed };
                self.add_fact(key, value, place);
            }
            Kind::Rewind => {
                let Some((key, height)) = decode_rewind(body) else { return malformed };
                self.add_rewind(key, height)?;
            }
            Kind::Drop => {
                let Some(drop) = decode_drop(body) else { return malformed };
                self.dropped.push(drop);
            }
            Kind::Commit | Kind::Void => {}
        }
        Ok(None)
    }

    fn add_read(&mut self, header: &Header, held: Held) -> Result<Option<String>, Trouble> {
        let Header { circle, author, log, seq, previous, .. } = *header;
        let fits = self.add_entry(LogKey { circle, author, log }, seq, previous, held)?;
        Ok((!fits).then(|| format!("entry {seq} of log {log} does not fit what stands before it")))
    }
}

/// What a replay came by.
#[derive(Debug, Default)]
struct Replayed {
    frames: u64,
    /// Payloads were to be erased, which may not have been done.
    erases: bool,
    /// Payloads that were dropped, and stand there still.
    dropped: Vec<(LogKey, u64, Hash)>,
    /// Places that nobody asks for any more.
    superseded: Vec<Place>,
}

/// Brings an index up to date with the segments.
struct Replay<'a> {
    index: &'a Index,
    segments: &'a Segments,
    work: Work,
}

impl Replay<'_> {
    /// Reads from `from` on.
    fn run(
        &self,
        from: Position,
        damages: &mut Damages,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Replayed, Error> {
        let mut replayed = Replayed::default();
        let mut draft = Draft::of(self.index);
        let mut unfit = Damages::default();
        let mut holes = Damages::default();
        self.segments.replay(
            from,
            &mut |place, kind, body| {
                if let Some(why) = draft.add_frame(place, kind, body)? {
                    unfit.add(place_name(place.segment, place.offset), why);
                }
                replayed.frames += 1;
                replayed.erases |= kind == Kind::Erasure;
                if replayed.frames % REPLAY_FRAMES == 0 {
                    self.index.apply(Site::IndexReplay, &std::mem::take(&mut draft.changes))?;
                    self.keep_whole(&mut draft.dropped, &mut replayed.dropped)?;
                }
                Ok(())
            },
            &mut |hole| holes.add_hole(&hole),
            &mut |done_bytes, total_bytes| progress(Progress { work: self.work, done_bytes, total_bytes }),
        )?;
        self.index.apply(Site::IndexReplay, &draft.changes)?;
        self.keep_whole(&mut draft.dropped, &mut replayed.dropped)?;
        damages.join(holes);
        damages.join(unfit);
        replayed.superseded = draft.superseded;
        Ok(replayed)
    }

    /// Of payloads that were dropped keeps those that stand there still: of years of them a crash leaves a few.
    fn keep_whole(
        &self,
        dropped: &mut Vec<(LogKey, u64, Hash)>,
        whole: &mut Vec<(LogKey, u64, Hash)>,
    ) -> Result<(), Error> {
        let reader = Reader { index: self.index.clone(), files: self.segments.files().clone() };
        for (key, seq, hash) in dropped.drain(..) {
            match reader.is_whole_entry(&key, seq, hash) {
                // Where the disk gives an error, taking it out meets that again, and says it.
                Ok(true) | Err(Error::Io { .. }) => whole.push((key, seq, hash)),
                Ok(false) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Damages found; the first of them described.
#[derive(Debug, Default)]
struct Damages {
    count: usize,
    /// Some of them are errors of the disk, which may not come again.
    unread: bool,
    described: Vec<Damage>,
}

fn place_name(segment: u32, offset: u32) -> String {
    format!("segment {segment} at {offset}")
}

impl Damages {
    fn add(&mut self, what: impl Into<String>, why: String) {
        let damage = Damage { what: what.into(), why };
        if self.described.len() < DESCRIBED_DAMAGES {
            tracing::error!(what = %damage.what, why = %damage.why, "damage on the disk");
        }
        self.join(Self { count: 1, unread: false, described: vec![damage] });
    }

    fn add_hole(&mut self, hole: &Hole) {
        self.unread |= hole.unread;
        self.add(place_name(hole.segment, hole.start), hole.why.clone());
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.unread |= other.unread;
        let room = DESCRIBED_DAMAGES.saturating_sub(self.described.len());
        self.described.extend(other.described.into_iter().take(room));
    }
}

/// Which bytes of the segments cannot be read.
#[derive(Debug, Default)]
struct Holes {
    /// By segment and start, the end.
    ends: BTreeMap<(u32, u32), u32>,
    kinds: Vec<Option<Kind>>,
}

impl Holes {
    fn add(&mut self, hole: Hole) {
        self.ends.insert((hole.segment, hole.start), hole.end);
        if !self.kinds.contains(&hole.kind) {
            self.kinds.push(hole.kind);
        }
    }

    fn may_hide(&self, kind: Kind) -> bool {
        self.kinds.iter().any(|hidden| hidden.is_none_or(|hidden| hidden == kind))
    }

    fn hide(&self, place: Place) -> bool {
        let at = (place.segment, place.offset);
        let before = self.ends.range(..=at).next_back();
        before.is_some_and(|((segment, _), end)| *segment == place.segment && place.offset < *end)
    }
}

// ------------------------------------------------------------------------------------------------ reading

fn entry_name(key: &LogKey, seq: u64) -> String {
    format!("entry {seq} of log {}", key.log)
}

fn damage(what: impl Into<String>, why: impl ToString) -> Damage {
    Damage { what: what.into(), why: why.to_string() }
}

/// Verifies that this is the entry that was indexed: the index is not the truth, and a checksum says nothing
/// about the place.
fn verify(header: &[u8], held: Held) -> Result<(), &'static str> {
    let same = Hash::of(Domain::ENTRY, &[header]) == held.hash;
    if same { Ok(()) } else { Err("another entry stands in its place") }
}

const MALFORMED: &str = "its contents are malformed";

impl Reader {
    fn row(&self, key: &LogKey) -> Result<Option<Row>, Damage> {
        self.index.log(key).map_err(|trouble| damage(format!("log {}", key.log), trouble))
    }

    /// Whether no log of a circle has a gap that damage tore.
    pub fn is_whole(&self, circle: &CircleId) -> Result<bool, Damage> {
        let mut whole = true;
        let listed = self.index.logs(&mut |key, row| whole &= key.circle != *circle || row.beyond <= row.height);
        listed.map(|()| whole).map_err(|trouble| damage("the list of logs", trouble))
    }

    fn held(&self, key: &LogKey, seq: u64) -> Result<Option<Held>, Damage> {
        let Some(row) = self.row(key)?.filter(|row| seq < row.height) else { return Ok(None) };
        self.index.entry(row.id, seq).map_err(|trouble| damage(entry_name(key, seq), trouble))
    }

    fn read_entry(&self, key: &LogKey, seq: u64, held: Held) -> Result<EntryBytes, String> {
        let (kind, body) = self.files.frame(held.place).map_err(|why| why.to_string())?;
        self.decode_kept(key, seq, held, kind, &body)
    }

    /// What a frame keeps of the entry that was indexed there.
    fn decode_kept(&self, key: &LogKey, seq: u64, held: Held, kind: Kind, body: &[u8]) -> Result<EntryBytes, String> {
        if !matches!(kind, Kind::Entry | Kind::Erased | Kind::Dropped | Kind::Bare) {
            return Err("not the frame that was written here".to_owned());
        }
        // The payload may still stand there: what erases it comes first.
        let erasure = self.index.erasure(key, seq, held.hash).map_err(|trouble| trouble.to_string())?;
        let entry = match (kind, erasure) {
            (Kind::Entry, None) => decode_entry(body).ok_or(MALFORMED)?,
            (Kind::Bare, None) => decode_bare(body).ok_or(MALFORMED)?,
            (_, Some(place)) => {
                let (header, signature) = decode_signed(body).ok_or(MALFORMED)?;
                EntryBytes { header, signature, payload: Payload::Retracted(self.read_erasure(place)?.because) }
            }
            (Kind::Dropped, None) => {
                let (header, signature) = decode_signed(body).ok_or(MALFORMED)?;
                EntryBytes { header, signature, payload: Payload::Dropped }
            }
            (_, None) => return Err("its payload was erased, and by what is not known".to_owned()),
        };
        verify(&entry.header, held)?;
        Ok(entry)
    }

    fn read_erasure(&self, place: Place) -> Result<Erasure, String> {
        let body = self.files.body(place, Kind::Erasure).map_err(|why| why.to_string())?;
        Ok(decode_erasure(&body).ok_or(MALFORMED)?)
    }

    /// Where this very entry stands, also behind a gap.
    fn find(&self, key: &LogKey, seq: u64, hash: Hash) -> Result<Option<Held>, Trouble> {
        let row = self.index.log(key)?.filter(|row| seq < row.beyond);
        let held = row.map(|row| self.index.entry(row.id, seq)).transpose()?.flatten();
        Ok(held.filter(|held| held.hash == hash))
    }

    /// Whether this very entry stands there with its payload.
    fn is_whole_entry(&self, key: &LogKey, seq: u64, hash: Hash) -> Result<bool, Error> {
        let Some(held) = self.find(key, seq, hash)? else { return Ok(false) };
        match self.files.frame(held.place) {
            Ok((kind, _)) => Ok(kind == Kind::Entry),
            // It may stand there, and be read another time.
            Err(Unreadable::Io { source, .. }) => Err(Error::io(self.files.dir())(source)),
            Err(_) => Ok(false),
        }
    }

    /// Whether the entry that stands next is known to follow another than the one with this hash.
    fn is_followed_by_another(&self, key: &LogKey, id: u64, seq: u64, hash: Hash) -> Result<bool, Trouble> {
        let next = self.index.entry(id, seq + 1)?;
        let next = next.and_then(|next| self.read_entry(key, seq + 1, next).ok());
        let next = next.and_then(|next| Header::from_bytes(&next.header).ok());
        Ok(next.is_some_and(|next| next.previous != Some(hash)))
    }

    /// Whether what stands there is an entry without its payload.
    fn is_erased(&self, held: Held) -> bool {
        self.files.frame(held.place).is_ok_and(|(kind, _)| kind == Kind::Erased)
    }

    fn read_fact(&self, key: &[u8], fact: Fact) -> Result<Vec<u8>, String> {
        let place = match fact {
            Fact::Here(value) => return Ok(value),
            Fact::At(place) => place,
        };
        let body = self.files.body(place, Kind::Fact).map_err(|why| why.to_string())?;
        let (_, value) = decode_fact(&body).filter(|(named, _)| *named == key).ok_or("another stands in its place")?;
        Ok(value.to_vec())
    }

    /// Entries `from..to` of a log, in order: fewer when that many are not held, or when more would come to
    /// over `max_bytes`; at least one, when there is one. Entries that lie next to each other are read at once.
    ///
    /// When one of them is damaged those before it are given, so that asking again from there tells.
    pub fn entries(&self, key: &LogKey, from: u64, to: u64, max_bytes: usize) -> Result<Vec<EntryBytes>, Damage> {
        let Some(row) = self.row(key)?.filter(|row| from < row.height.min(to)) else { return Ok(Vec::new()) };
        let to = to.min(row.height);
        let mut wanted: Vec<Held> = Vec::new();
        let mut bytes = 0;
        let listed = self.index.entries(row.id, from, &mut |seq, held| {
            bytes += held.place.length as usize;
            let within = seq == from + wanted.len() as u64 && (wanted.is_empty() || bytes <= max_bytes);
            if within {
                wanted.push(held);
            }
            within && seq + 1 < to
        });
        listed.map_err(|trouble| damage(entry_name(key, from), trouble))?;
        let mut entries = Vec::with_capacity(wanted.len());
        for run in wanted.chunk_by(|one, next| lie_together(one.place, next.place)) {
            if let Err(why) = self.read_run(key, from, run, &mut entries) {
                return if entries.is_empty() { Err(damage(entry_name(key, from), why)) } else { Ok(entries) };
            }
        }
        if entries.is_empty() {
            return Err(damage(entry_name(key, from), "the index does not know where it stands"));
        }
        Ok(entries)
    }

    fn read_run(&self, key: &LogKey, from: u64, run: &[Held], entries: &mut Vec<EntryBytes>) -> Result<(), String> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let span = self.files.span(first.place.segment, first.place.offset, last.place.end());
        let span: Span = span.map_err(|why: Unreadable| why.to_string())?;
        for held in run {
            let (kind, body) = span.frame(held.place).map_err(|why| why.to_string())?;
            let seq = from + entries.len() as u64;
            entries.push(self.decode_kept(key, seq, *held, kind, body)?);
        }
        Ok(())
    }
}

fn lie_together(one: Place, next: Place) -> bool {
    one.segment == next.segment
        && next.offset.checked_sub(one.end()).is_some_and(|between| between <= READ_ACROSS_BYTES)
}

impl Read for Reader {
    fn entry(&self, key: &LogKey, seq: u64) -> Result<Option<EntryBytes>, Damage> {
        let Some(held) = self.held(key, seq)? else { return Ok(None) };
        self.read_entry(key, seq, held).map(Some).map_err(|why| damage(entry_name(key, seq), why))
    }

    fn hash(&self, key: &LogKey, seq: u64) -> Result<Option<Hash>, Damage> {
        Ok(self.held(key, seq)?.map(|held| held.hash))
    }

    fn parts(&self, key: &LogKey, run: &[(u64, Hash)]) -> Result<Option<u64>, Damage> {
        let Some(row) = self.row(key)? else { return Ok(None) };
        let trouble = |trouble: Trouble| damage(format!("log {}", key.log), trouble);
        for (seq, hash) in run.iter().take_while(|(seq, _)| *seq < row.beyond) {
            match self.index.entry(row.id, *seq).map_err(trouble)? {
                Some(held) if held.hash != *hash => return Ok(Some(*seq)),
                _ => {}
            }
        }
        let Some((last, hash)) = run.last().filter(|(last, _)| last + 1 < row.beyond) else { return Ok(None) };
        let parts = self.is_followed_by_another(key, row.id, *last, *hash).map_err(trouble)?;
        Ok(parts.then_some(last + 1))
    }

    fn bytes(&self, key: &LogKey, from: u64, to: u64) -> Result<u64, Damage> {
        let Some(row) = self.row(key)?.filter(|row| from < row.height.min(to)) else { return Ok(0) };
        let mut bytes = 0;
        let listed = self.index.entries(row.id, from, &mut |seq, held| {
            if seq < to {
                bytes += u64::from(held.place.length);
            }
            seq + 1 < to
        });
        listed.map_err(|trouble| damage(entry_name(key, from), trouble))?;
        Ok(bytes)
    }

    fn tip(&self, key: &LogKey) -> Result<Option<Tip>, Damage> {
        let row = self.row(key)?.filter(|row| row.height > 0);
        Ok(row.map(|Row { height, head, .. }| Tip { height, head }))
    }

    fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage> {
        let mut logs = Vec::new();
        let listed = self.index.logs(&mut |key, Row { height, head, .. }| {
            // Of a log whose first entry is damaged, nothing is held that could be given on.
            if height > 0 {
                logs.push((key, Tip { height, head }));
            }
        });
        listed.map(|()| logs).map_err(|trouble| damage("the list of logs", trouble))
    }

    fn record(&self, circle: &CircleId, hash: &Hash) -> Result<Option<Vec<u8>>, Damage> {
        let failed = |why: String| damage(format!("epoch record {hash}"), why);
        let place = self.index.record(circle, hash).map_err(|trouble| failed(trouble.to_string()))?;
        let Some(place) = place else { return Ok(None) };
        let body = self.files.body(place, Kind::Record).map_err(|why| failed(why.to_string()))?;
        match decode_record(&body) {
            Some((in_circle, named, bytes)) if in_circle == *circle && named == *hash => Ok(Some(bytes.to_vec())),
            _ => Err(failed("another stands in its place".to_owned())),
        }
    }

    fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage> {
        let mut records = Vec::new();
        let listed = self.index.records(&mut |circle, hash, _| records.push((circle, hash)));
        listed.map(|()| records).map_err(|trouble| damage("the list of epoch records", trouble))
    }

    fn facts(&self, prefix: &[u8]) -> Result<Vec<store::Fact>, Damage> {
        let mut facts = Vec::new();
        let listed = self.index.facts(prefix, &mut |key, fact| facts.push((key.to_vec(), fact)));
        listed.map_err(|trouble| damage("the facts of this node", trouble))?;
        let read = |(key, fact): (Vec<u8>, Fact)| {
            let value = self.read_fact(&key, fact);
            let value = value.map_err(|why| damage(format!("the fact {}", String::from_utf8_lossy(&key)), why));
            store::Fact { key, value }
        };
        Ok(facts.into_iter().map(read).collect())
    }
}

impl Read for Store {
    fn entry(&self, key: &LogKey, seq: u64) -> Result<Option<EntryBytes>, Damage> {
        self.reader.entry(key, seq)
    }

    fn hash(&self, key: &LogKey, seq: u64) -> Result<Option<Hash>, Damage> {
        self.reader.hash(key, seq)
    }

    fn parts(&self, key: &LogKey, run: &[(u64, Hash)]) -> Result<Option<u64>, Damage> {
        self.reader.parts(key, run)
    }

    fn bytes(&self, key: &LogKey, from: u64, to: u64) -> Result<u64, Damage> {
        self.reader.bytes(key, from, to)
    }

    fn tip(&self, key: &LogKey) -> Result<Option<Tip>, Damage> {
        self.reader.tip(key)
    }

    fn logs(&self) -> Result<Vec<(LogKey, Tip)>, Damage> {
        self.reader.logs()
    }

    fn record(&self, circle: &CircleId, hash: &Hash) -> Result<Option<Vec<u8>>, Damage> {
        self.reader.record(circle, hash)
    }

    fn records(&self) -> Result<Vec<(CircleId, Hash)>, Damage> {
        self.reader.records()
    }

    fn facts(&self, prefix: &[u8]) -> Result<Vec<store::Fact>, Damage> {
        self.reader.facts(prefix)
    }
}
