//! Where things stand in the segments: the only file that names sled.
//!
//! Nothing lives here alone. The index is flushed at checkpoints, with the position in the segments that it
//! covers written after the flush; what came later is replayed at the next opening, and an index that gives
//! any trouble is set aside and built anew.
//!
//! sled 1.0 is an alpha, so every call is made as if it might panic. Five of its ways shape this file:
//! without a flush interval every dropped handle, iterators' too, flushes the whole database, so the interval
//! is set to never instead; an iterator that meets the end of its range reads on to the end of the tree, so
//! ranges are left open and the caller's own look at the key ends them; and removing beside a write batch can
//! deadlock, so batches are used only in trees from which nobody else removes; and the only leaf of a tree that was never
//! written to is in memory alone, is forgotten like any other when much else is read, and is then looked for without an
//! end, so that in each stands its name. And it works in rayon's threads, one for each processor: an opening that
//! comes to no end keeps one for good, so that there are always several.
//!
//! This file refuses to know what an entry or a fact means, and when a checkpoint is due; that is `mod.rs`.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use cwn_crypto::{Hash, PublicKey, issuer_log::LogId};
use cwn_engine::log::{CircleId, LogKey};

use crate::{
    disk::{Disk, DiskFile, Site},
    files,
};

use super::{
    is_full,
    segments::{Place, Position},
};

/// The threads that sled has at least.
const SLED_THREADS: usize = 4;

/// Of the leaves held in memory: about a million entries' places.
const CACHE_BYTES: usize = 64 << 20;

/// "Never", as sled understands it: a hundred years.
const FLUSH_INTERVAL_MS: usize = 100 * 365 * 24 * 3_600_000;

/// Hashes make up most of the index and do not compress; the rest does at the first level already.
const ZSTD_LEVEL: i32 = 1;

/// How long an opening waits for a process that was killed to let go of the index.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Keys in a leaf, which is read and written at once: sled's own default. A database keeps the one it began with.
const LEAF: usize = 1024;

const COVERED: &[u8] = b"covered";

/// The key of a keyspace's name, which stands in it before all others. Nobody is shown it.
const NAME: &[u8] = b"";

/// One keyspace. The handle itself is large, so it is kept in a box: a few of them fill a thread's stack.
type Tree = sled::Tree<LEAF>;

/// Is shown a key and its value, and says whether to go on.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<bool> + 'a;

/// The index cannot be used. Everything in it is in the segments too.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the index: {why}")]
pub(super) struct Trouble {
    pub(super) why: String,
    /// Nothing is wrong with it, but the disk of this directory is full.
    pub(super) no_room: Option<PathBuf>,
}

impl Trouble {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), no_room: None }
    }
}

/// Where an entry stands, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) place: Place,
    pub(super) hash: Hash,
}

/// What is known of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Stands for the log in the keys of its entries: the place of the first of them that was indexed.
    pub(super) id: u64,
    /// Entries held without a gap, from the first on.
    pub(super) height: u64,
    /// The hash of the last of those; zeros when there are none.
    pub(super) head: Hash,
    /// Behind the last entry held at all. More than `height` only where damage tore a gap.
    pub(super) beyond: u64,
}

/// A fact's value: small ones stand here, others in their segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    Here(Vec<u8>),
    At(Place),
}

/// Changes to the index that belong together.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// `None` forgets the entry.
    pub(super) entries: BTreeMap<(u64, u64), Option<Held>>,
    /// Logs of which entries are forgotten, as they are without those.
    pub(super) shorter: BTreeMap<LogKey, Row>,
    pub(super) logs: BTreeMap<LogKey, Row>,
    pub(super) records: BTreeMap<(CircleId, Hash), Place>,
    /// `None` takes the fact back.
    pub(super) facts: BTreeMap<Vec<u8>, Option<Fact>>,
    /// Which entries' payloads are not to be kept, and where that stands.
    pub(super) erasures: BTreeMap<(LogKey, u64, Hash), Place>,
}

/// The index of one store. sled's handles go from thread to thread by being cloned, and so does this.
#[derive(Clone)]
pub(super) struct Index {
    db: Box<sled::Db<LEAF>>,
    entries: Box<Tree>,
    logs: Box<Tree>,
    records: Box<Tree>,
    facts: Box<Tree>,
    erasures: Box<Tree>,
    meta: Box<Tree>,
    suspect: Arc<Suspect>,
    /// Held by whoever may still write to the directory.
    _lock: Arc<DiskFile>,
}

/// The mark that an index must not be believed at the next opening.
#[derive(Debug)]
struct Suspect {
    disk: Disk,
    mark: PathBuf,
    set: AtomicBool,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("suspect", &self.suspect).finish_non_exhaustive()
    }
}

fn mark_of(dir: &Path) -> PathBuf {
    dir.with_extension("suspect")
}

/// Whether there is an index, and an earlier use of it gave no trouble.
pub(super) enum Standing {
    Absent,
    Suspect,
    Present,
}

/// Looks at an index without opening it.
pub(super) fn standing(disk: &Disk, dir: &Path) -> io::Result<Standing> {
    Ok(match (disk.exists(Site::IndexLook, dir)?, disk.exists(Site::MarkLook, &mark_of(dir))?) {
        (false, _) => Standing::Absent,
        (true, true) => Standing::Suspect,
        (true, false) => Standing::Present,
    })
}

/// Moves an index out of the way, for someone to look at; of those, one is kept.
pub(super) fn set_aside(disk: &Disk, dir: &Path) -> io::Result<()> {
    let aside = dir.with_extension("broken");
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    absent_is_fine(disk.remove_tree(Site::AsideRemove, &aside))?;
    absent_is_fine(disk.rename(Site::AsideRename, dir, &aside))?;
    // Before the mark goes: a power cut must not bring the index back without it.
    let parent = dir.parent().unwrap_or(dir);
    disk.sync_dir(Site::AsideNameSync, parent)?;
    absent_is_fine(disk.remove(Site::AsideMarkRemove, &mark_of(dir)))?;
    disk.sync_dir(Site::AsideMarkSync, parent)
}

/// Runs a call of sled's, whose panics are errors here, about an index in the data directory `data`.
fn caught<T>(data: &Path, call: impl FnOnce() -> io::Result<T>) -> Result<T, Trouble> {
    let trouble =
        |error: io::Error| Trouble { why: error.to_string(), no_room: is_full(&error).then(|| data.to_owned()) };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(trouble),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for no known reason");
            Err(Trouble::new(format!("it panicked: {}", text.chars().take(200).collect::<String>())))
        }
    }
}

/// Opens or makes a keyspace. In each stands its name from the beginning: see this file's head.
fn open_tree(db: &sled::Db<LEAF>, name: &str) -> io::Result<Box<Tree>> {
    let tree = db.open_tree(name).map(Box::new)?;
    match tree.get(NAME)? {
        Some(found) if &*found == name.as_bytes() => {}
        // What damage to sled's own files does: it takes one leaf for another.
        Some(_) => return Err(malformed("keyspace: another stands in its place")),
        None => drop(tree.insert(NAME, name)?),
    }
    Ok(tree)
}

impl Index {
    /// Opens or makes the index in `dir`, unless that takes longer than `patience`: an opening that panics may never
    /// come back, as sled then waits for a thread that it has not started yet.
    pub(super) fn open(disk: &Disk, dir: &Path, lock: Arc<DiskFile>, patience: Duration) -> Result<Self, Trouble> {
        static THREADS: Once = Once::new();
        THREADS.call_once(|| {
            let processors = thread::available_parallelism().map_or(1, usize::from);
            // That somebody else set them up is as well.
            drop(rayon::ThreadPoolBuilder::new().num_threads(processors.max(SLED_THREADS)).build_global());
        });
        let (disk, dir) = (disk.clone(), dir.to_owned());
        let (done, opened) = mpsc::channel();
        // Whoever waited may have given up.
        let open = move || drop(done.send(Self::open_here(&disk, &dir, lock)));
        let begun = thread::Builder::new().name("open index".to_owned()).spawn(open);
        begun.map_err(|error| Trouble::new(format!("no thread opens it: {error}")))?;
        let late = |_| Err(Trouble::new("its opening came to no end"));
        opened.recv_timeout(patience).unwrap_or_else(late)
    }

    fn open_here(disk: &Disk, dir: &Path, lock: Arc<DiskFile>) -> Result<Self, Trouble> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity_bytes(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_INTERVAL_MS))
            .zstd_compression_level(ZSTD_LEVEL);
        let give_up = Instant::now() + LOCK_WAIT;
        let open = || loop {
            match config.open().map(Box::new) {
                // A killed process lets go of its files one by one, and of this one perhaps last.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < give_up => {
                    thread::sleep(Duration::from_millis(50));
                }
                opened => break opened,
            }
        };
        caught(files::dir_of(dir), || {
            let db = disk.index(Site::IndexOpen, open)?;
            let tree = |name: &str| open_tree(&db, name);
            Ok(Self {
                entries: tree("entries")?,
                logs: tree("logs")?,
                records: tree("records")?,
                facts: tree("facts")?,
                erasures: tree("erasures")?,
                meta: tree("meta")?,
                db,
                suspect: Arc::new(Suspect { disk: disk.clone(), mark: mark_of(dir), set: AtomicBool::new(false) }),
                _lock: lock,
            })
        })
    }

    fn guarded<T>(&self, call: impl FnOnce() -> io::Result<T>) -> Result<T, Trouble> {
        caught(files::dir_of(&self.suspect.mark), call).inspect_err(|trouble| self.distrust(trouble))
    }

    /// Leaves the mark that makes the next opening build the index anew, unless nothing is wrong but that the disk is full:
    /// what it covers stands, the next opening replays the rest, and would find no more room for another.
    pub(super) fn distrust(&self, trouble: &Trouble) {
        if self.suspect.set.swap(true, Ordering::SeqCst) {
            return;
        }
        if trouble.no_room.is_some() {
            tracing::error!(%trouble, "the index has no room; it is brought up to date at the next start");
        } else {
            tracing::error!(%trouble, "the index gave trouble; it is built anew at the next start");
            if let Err(error) = self.leave_mark() {
                tracing::error!(%error, path = %self.suspect.mark.display(), "cannot mark the index; delete it by hand");
            }
        }
        // Its last handle would flush when dropped, and abort the process should that fail.
        std::mem::forget(self.db.clone());
    }

    /// Makes the next opening build the index anew. Why is in the log; the mark's name says enough.
    pub(super) fn leave_mark(&self) -> io::Result<()> {
        let Suspect { disk, mark, .. } = &*self.suspect;
        disk.open_or_create(Site::MarkCreate, mark)?.sync(Site::MarkSync)?;
        mark.parent().map_or(Ok(()), |parent| disk.sync_dir(Site::MarkNameSync, parent))
    }

    /// Calls `visit` with what stands at or behind `start`, in order, until it returns false.
    fn scan(&self, tree: &Tree, start: Bound<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Trouble> {
        self.guarded(|| {
            for item in tree.range::<&[u8], _>((start, Bound::Unbounded)) {
                let (key, value) = item?;
                if &*key != NAME && !visit(&key, &value)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The position in the segments up to which the index is complete.
    pub(super) fn covered(&self) -> Result<Option<Position>, Trouble> {
        self.guarded(|| {
            self.meta
                .get(COVERED)?
                .map(|value| {
                    let [segment, offset, chain] = numbers(&value)?;
                    Ok(Position { segment, offset, chain })
                })
                .transpose()
        })
    }

    /// Makes all that was applied durable, and then notes what it covers. After trouble it does not: what could not be
    /// written would be covered by that.
    pub(super) fn checkpoint(&self, covered: Position) -> Result<(), Trouble> {
        if self.suspect.set.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.guarded(|| {
            let value = [covered.segment, covered.offset, covered.chain].map(u32::to_be_bytes).concat();
            self.suspect.disk.index(Site::IndexFlush, || {
                self.db.flush()?;
                self.meta.insert(COVERED, value)?;
                self.db.flush().map(drop)
            })
        })
    }

    /// Applies changes. A log's row comes last, so that who reads it finds the entries it speaks of; where entries
    /// are forgotten it comes first as well.
    pub(super) fn apply(&self, site: Site, changes: &Changes) -> Result<(), Trouble> {
        self.guarded(|| self.suspect.disk.index(site, || self.write(changes)))
    }

    fn write(&self, changes: &Changes) -> io::Result<()> {
        for ((key, seq, hash), place) in &changes.erasures {
            self.erasures.insert(erasure_key(key, *seq, *hash), &place_value(*place)[..])?;
        }
        for (key, row) in &changes.shorter {
            self.logs.insert(log_key(key), row_value(row))?;
        }
        let mut entries = sled::Batch::default();
        for ((id, seq), held) in &changes.entries {
            let key = entry_key(*id, *seq);
            match held {
                Some(held) => entries.insert(&key[..], held_value(held)),
                None => entries.remove(&key[..]),
            }
        }
        self.entries.apply_batch(entries)?;
        for ((circle, hash), place) in &changes.records {
            self.records.insert(record_key(circle, hash), &place_value(*place)[..])?;
        }
        for (key, fact) in &changes.facts {
            match fact {
                Some(fact) => self.facts.insert(key, fact_value(fact))?,
                None => self.facts.remove(key)?,
            };
        }
        for (key, row) in &changes.logs {
            self.logs.insert(log_key(key), row_value(row))?;
        }
        Ok(())
    }

    /// Takes back what the segments no longer give.
    pub(super) fn withdraw(
        &self,
        entries: &[(u64, u64)],
        records: &[(CircleId, Hash)],
        logs: &BTreeMap<LogKey, Row>,
    ) -> Result<(), Trouble> {
        self.guarded(|| {
            for (key, row) in logs {
                self.logs.insert(log_key(key), row_value(row))?;
            }
            for (id, seq) in entries {
                self.entries.remove(entry_key(*id, *seq))?;
            }
            for (circle, hash) in records {
                self.records.remove(record_key(circle, hash))?;
            }
            Ok(())
        })
    }

    pub(super) fn log(&self, key: &LogKey) -> Result<Option<Row>, Trouble> {
        self.guarded(|| self.logs.get(log_key(key))?.map(|value| read_row(&value)).transpose())
    }

    /// Every log there ever was an entry of.
    pub(super) fn logs(&self, visit: &mut dyn FnMut(LogKey, Row)) -> Result<(), Trouble> {
        self.scan(&self.logs, Bound::Unbounded, &mut |key, value| {
            visit(read_log_key(key)?, read_row(value)?);
            Ok(true)
        })
    }

    pub(super) fn entry(&self, id: u64, seq: u64) -> Result<Option<Held>, Trouble> {
        self.guarded(|| self.entries.get(entry_key(id, seq))?.map(|value| read_held(&value)).transpose())
    }

    /// Calls `visit` with the entries of one log from `seq` on, until it returns false.
    pub(super) fn entries(&self, id: u64, seq: u64, visit: &mut dyn FnMut(u64, Held) -> bool) -> Result<(), Trouble> {
        let start = entry_key(id, seq);
        self.scan(&self.entries, Bound::Included(&start), &mut |key, value| {
            let (found, seq) = read_entry_key(key)?;
            Ok(found == id && visit(seq, read_held(value)?))
        })
    }

    /// The entries of all logs.
    pub(super) fn all_entries(&self, visit: &mut dyn FnMut(u64, u64, Held)) -> Result<(), Trouble> {
        self.scan(&self.entries, Bound::Unbounded, &mut |key, value| {
            let (id, seq) = read_entry_key(key)?;
            visit(id, seq, read_held(value)?);
            Ok(true)
        })
    }

    pub(super) fn record(&self, circle: &CircleId, hash: &Hash) -> Result<Option<Place>, Trouble> {
        self.guarded(|| self.records.get(record_key(circle, hash))?.map(|value| read_place(&value)).transpose())
    }

    pub(super) fn records(&self, visit: &mut dyn FnMut(CircleId, Hash, Place)) -> Result<(), Trouble> {
        self.scan(&self.records, Bound::Unbounded, &mut |key, value| {
            let [circle, hash] = halves(key)?;
            visit(CircleId(circle), hash, read_place(value)?);
            Ok(true)
        })
    }

    /// Where it stands that an entry's payload is not to be kept.
    pub(super) fn erasure(&self, key: &LogKey, seq: u64, hash: Hash) -> Result<Option<Place>, Trouble> {
        let key = erasure_key(key, seq, hash);
        self.guarded(|| self.erasures.get(key)?.map(|value| read_place(&value)).transpose())
    }

    pub(super) fn erasures(&self, visit: &mut dyn FnMut(LogKey, u64, Hash, Place)) -> Result<(), Trouble> {
        self.scan(&self.erasures, Bound::Unbounded, &mut |key, value| {
            let (log, rest) = key.split_at_checked(80).ok_or(malformed("key"))?;
            let (seq, hash) = rest.split_at_checked(8).ok_or(malformed("key"))?;
            visit(read_log_key(log)?, u64::from_be_bytes(fixed(seq)?), Hash(fixed(hash)?), read_place(value)?);
            Ok(true)
        })
    }

    /// The facts whose names start with `prefix`.
    pub(super) fn facts(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], Fact)) -> Result<(), Trouble> {
        self.scan(&self.facts, Bound::Included(prefix), &mut |key, value| {
            let within = key.starts_with(prefix);
            if within {
                visit(key, read_fact(value)?);
            }
            Ok(within)
        })
    }
}

// ---------------------------------------------------------------------------------------- keys and values

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a malformed {what}"))
}

fn fixed<const N: usize>(bytes: &[u8]) -> io::Result<[u8; N]> {
    bytes.try_into().map_err(|_other_length: std::array::TryFromSliceError| malformed("value"))
}

fn numbers<const N: usize>(bytes: &[u8]) -> io::Result<[u32; N]> {
    let mut numbers = [0; N];
    if bytes.len() != 4 * N {
        return Err(malformed("position"));
    }
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_be_bytes(fixed(bytes)?);
    }
    Ok(numbers)
}

fn halves(key: &[u8]) -> io::Result<[Hash; 2]> {
    let (first, second) = key.split_at_checked(32).ok_or(malformed("key"))?;
    Ok([Hash(fixed(first)?), Hash(fixed(second)?)])
}

/// Big-endian, so that the order of keys is the order of entries.
fn entry_key(id: u64, seq: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..].copy_from_slice(&seq.to_be_bytes());
    key
}

fn read_entry_key(key: &[u8]) -> io::Result<(u64, u64)> {
    let (id, seq) = key.split_at_checked(8).ok_or(malformed("key"))?;
    Ok((u64::from_be_bytes(fixed(id)?), u64::from_be_bytes(fixed(seq)?)))
}

fn place_value(place: Place) -> [u8; 12] {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&place.segment.to_be_bytes());
    value[4..8].copy_from_slice(&place.offset.to_be_bytes());
    value[8..].copy_from_slice(&place.length.to_be_bytes());
    value
}

fn read_place(value: &[u8]) -> io::Result<Place> {
    let [segment, offset, length] = numbers(value)?;
    if length as usize > super::segments::BODY_BYTES {
        return Err(malformed("place"));
    }
    Ok(Place { segment, offset, length })
}

fn held_value(held: &Held) -> Vec<u8> {
    [&place_value(held.place)[..], &held.hash.0].concat()
}

fn read_held(value: &[u8]) -> io::Result<Held> {
    let (place, hash) = value.split_at_checked(12).ok_or(malformed("entry"))?;
    Ok(Held { place: read_place(place)?, hash: Hash(fixed(hash)?) })
}

fn log_key(key: &LogKey) -> Vec<u8> {
    [&key.circle.0.0[..], &key.author.0, &key.log.0].concat()
}

fn read_log_key(key: &[u8]) -> io::Result<LogKey> {
    let key: [u8; 80] = fixed(key)?;
    Ok(LogKey {
        circle: CircleId(Hash(fixed(&key[..32])?)),
        author: PublicKey(fixed(&key[32..64])?),
        log: LogId(fixed(&key[64..])?),
    })
}

fn row_value(row: &Row) -> Vec<u8> {
    [&row.id.to_be_bytes()[..], &row.height.to_be_bytes(), &row.beyond.to_be_bytes(), &row.head.0].concat()
}

fn read_row(value: &[u8]) -> io::Result<Row> {
    let value: [u8; 56] = fixed(value)?;
    let number = |at: usize| Ok::<_, io::Error>(u64::from_be_bytes(fixed(&value[at..at + 8])?));
    Ok(Row { id: number(0)?, height: number(8)?, beyond: number(16)?, head: Hash(fixed(&value[24..])?) })
}

fn erasure_key(key: &LogKey, seq: u64, hash: Hash) -> Vec<u8> {
    [log_key(key), seq.to_be_bytes().to_vec(), hash.0.to_vec()].concat()
}

fn record_key(circle: &CircleId, hash: &Hash) -> Vec<u8> {
    [circle.0.0, hash.0].concat()
}

fn fact_value(fact: &Fact) -> Vec<u8> {
    match fact {
        Fact::Here(value) => [&[0][..], value].concat(),
        Fact::At(place) => [&[1][..], &place_value(*place)].concat(),
    }
}

fn read_fact(value: &[u8]) -> io::Result<Fact> {
    match value.split_first() {
        Some((0, value)) => Ok(Fact::Here(value.to_vec())),
        Some((1, place)) => Ok(Fact::At(read_place(place)?)),
        _ => Err(malformed("fact")),
    }
}

// -------------------------------------------------------------------------------------------------- views

/// A place for something derived from what is stored, such as a table of what to show.
///
/// It is never the only home of anything. It becomes durable together with the index, and starts out empty
/// whenever the index had to be built anew; so whoever fills it also notes in it how far it came, and goes on
/// from there. One thread writes to a view; any may read it.
#[derive(Clone)]
pub struct View {
    // Dropped first: the lock on the directory, which the index holds, goes last.
    tree: Box<Tree>,
    index: Index,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// The view cannot be used; the index it stands in is built anew at the next start.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a view cannot be used, {0}; restart the node, which builds it anew")]
pub struct ViewTrouble(String);

/// A change to a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a value under a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes what stands under a key.
    Remove(Vec<u8>),
}

impl View {
    pub(super) fn open(index: Index, name: &str) -> Result<Self, Trouble> {
        let tree = index.guarded(|| open_tree(&index.db, &format!("view {name}")))?;
        Ok(Self { tree, index })
    }

    fn guarded<T>(&self, call: impl FnOnce() -> io::Result<T>) -> Result<T, ViewTrouble> {
        self.index.guarded(call).map_err(|trouble| ViewTrouble(trouble.to_string()))
    }

    /// What stands under a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewTrouble> {
        self.guarded(|| Ok(self.tree.get(key)?.map(|value| value.to_vec())))
    }

    /// Puts a value under a key, which is not empty. Keep both small: a leaf of a thousand of them is written at once.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), ViewTrouble> {
        self.guarded(|| self.tree.insert(key, value).map(drop))
    }

    /// Removes what stands under a key.
    pub fn remove(&self, key: &[u8]) -> Result<(), ViewTrouble> {
        self.guarded(|| self.tree.remove(key).map(drop))
    }

    /// Makes changes in the order given, and not at once: a reader may see some of them before the others.
    pub fn apply(&self, changes: &[Change]) -> Result<(), ViewTrouble> {
        for change in changes {
            match change {
                Change::Put(key, value) => self.put(key, value)?,
                Change::Remove(key) => self.remove(key)?,
            }
        }
        Ok(())
    }

    /// Calls `visit` with the keys that start with `prefix` and their values, in the order of the keys, until
    /// it returns false.
    pub fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ViewTrouble> {
        self.scan_from(prefix, prefix, visit)
    }

    /// Like [`View::scan`], but begins at `start`: to go on where a page ended.
    pub fn scan_from(
        &self,
        prefix: &[u8],
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewTrouble> {
        let mut visit = |key: &[u8], value: &[u8]| Ok(key.starts_with(prefix) && visit(key, value));
        let scanned = self.index.scan(&self.tree, Bound::Included(start.max(prefix)), &mut visit);
        scanned.map_err(|trouble| ViewTrouble(trouble.to_string()))
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), ViewTrouble> {
        self.guarded(|| {
            let name = self.tree.get(NAME)?.unwrap_or_default();
            self.tree.clear()?;
            self.tree.insert(NAME, name).map(drop)
        })
    }
}
