//! A disk with faults, for tests: what is done at a site fails, tears or finds the disk full, and what a power cut would
//! leave can be told from all that was done.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{Deed, Site};

/// In memory where there is such a place: what is durable is written down here, and need not be.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The disk says no, once; of an fsync also: what was to be made durable never will be.
    Fails,
    /// Half of what was to be written is.
    Tears,
    /// From here on nothing more fits.
    Full,
}

impl Fault {
    /// Those that a deed can meet.
    fn of(deed: &Deed<'_>) -> &'static [Self] {
        match deed {
            Deed::Read | Deed::Cut { .. } | Deed::Remove(_) => &[Self::Fails],
            Deed::Write { .. } => &[Self::Fails, Self::Tears, Self::Full],
            // Where space is given out late, an fsync finds that there is none.
            Deed::Sync(_) | Deed::SyncDir(_) => &[Self::Fails, Self::Full],
            Deed::MakeDir(_) | Deed::Create(_) | Deed::Rename { .. } | Deed::Index => &[Self::Fails, Self::Full],
        }
    }

    fn error(self) -> io::Error {
        match self {
            Self::Fails | Self::Tears => io::Error::other("a planned fault"),
            Self::Full => io::ErrorKind::StorageFull.into(),
        }
    }
}

/// Something that changed what is on the disk, or made it durable.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    MakeDir(PathBuf),
    Create(PathBuf),
    Write {
        path: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    Cut {
        path: PathBuf,
        length: u64,
    },
    Sync(PathBuf),
    /// The system takes for durable from now on what is not.
    FailedSync(PathBuf),
    SyncDir(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
}

impl Event {
    fn of(deed: &Deed<'_>) -> Option<Self> {
        Some(match *deed {
            // Of what sled writes whole copies are kept.
            Deed::Read | Deed::Index => return None,
            Deed::MakeDir(dir) => Self::MakeDir(dir.to_owned()),
            Deed::Create(path) => Self::Create(path.to_owned()),
            Deed::Write { path, offset, bytes, .. } => {
                Self::Write { path: path.to_owned(), offset, bytes: bytes.to_vec() }
            }
            Deed::Cut { path, length } => Self::Cut { path: path.to_owned(), length },
            Deed::Sync(path) => Self::Sync(path.to_owned()),
            Deed::SyncDir(dir) => Self::SyncDir(dir.to_owned()),
            Deed::Rename { from, to } => Self::Rename { from: from.to_owned(), to: to.to_owned() },
            Deed::Remove(path) => Self::Remove(path.to_owned()),
        })
    }
}

/// What the disk of a test does and remembers.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

thread_local! {
    static HERE: RefCell<Option<Arc<Faults>>> = const { RefCell::new(None) };
}

/// The faults that [`Disk::here`] has on this thread.
pub(super) fn of_this_thread() -> Option<Arc<Faults>> {
    HERE.with_borrow(Clone::clone)
}

/// The disk of this thread is a good one again when this goes.
#[derive(Debug)]
pub(crate) struct OnThisThread(());

impl Drop for OnThisThread {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

#[derive(Debug, Default)]
struct State {
    /// How often each site came by, and what can befall it.
    hits: BTreeMap<Site, (usize, BTreeSet<Fault>)>,
    /// Which time a site comes by it meets which fault.
    planned: Option<(Site, usize, Fault)>,
    struck: bool,
    full: bool,
    events: Vec<Event>,
}

impl Faults {
    /// The disk of this thread, while what this gives lives.
    pub(crate) fn on_this_thread(self: &Arc<Self>) -> OnThisThread {
        HERE.set(Some(Arc::clone(self)));
        OnThisThread(())
    }

    pub(crate) fn planning(planned: Option<(Site, usize, Fault)>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { planned, ..State::default() }) })
    }

    pub(crate) fn carry_out<T>(
        &self,
        site: Site,
        deed: &Deed<'_>,
        real: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock().unwrap();
        let (hits, possible) = state.hits.entry(site).or_default();
        let now = *hits;
        *hits += 1;
        possible.extend(Fault::of(deed));
        let planned = state.planned.filter(|(at, time, _)| (*at, *time) == (site, now)).map(|(_, _, fault)| fault);
        state.struck |= planned.is_some();
        state.full |= planned == Some(Fault::Full);
        let grows = matches!(deed, Deed::MakeDir(_) | Deed::Create(_) | Deed::Write { .. } | Deed::Index);
        match planned.or((state.full && grows).then_some(Fault::Full)) {
            None => {
                let done = real();
                if done.is_ok() {
                    state.events.extend(Event::of(deed));
                }
                done
            }
            Some(fault) => {
                match deed {
                    Deed::Write { path, file, offset, bytes } if fault == Fault::Tears => {
                        let half = &bytes[..bytes.len() / 2];
                        file.write_all_at(half, *offset)?;
                        let (path, bytes) = ((*path).to_owned(), half.to_vec());
                        state.events.push(Event::Write { path, offset: *offset, bytes });
                    }
                    Deed::Sync(path) => state.events.push(Event::FailedSync((*path).to_owned())),
                    _ => {}
                }
                Err(fault.error())
            }
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.state.lock().unwrap().events.clone()
    }

    /// How often each site came by, and what can befall it.
    pub(crate) fn hits(&self) -> BTreeMap<Site, (usize, BTreeSet<Fault>)> {
        self.state.lock().unwrap().hits.clone()
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.state.lock().unwrap().struck
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().events.len()
    }

    /// Something else writes to the disk: what a crash in the middle of something leaves.
    pub(crate) fn scribble(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        let path = path.to_owned();
        self.state
            .lock()
            .unwrap()
            .events
            .extend([Event::Create(path.clone()), Event::Write { path, offset, bytes: bytes.to_vec() }]);
    }
}

// ----------------------------------------------------------------------------------------- the power goes off

/// A file or a directory, as a power cut finds it.
#[derive(Debug, Default)]
struct Inode {
    is_dir: bool,
    durable: Vec<u8>,
    /// In order, what was not made durable.
    pending: Vec<Change>,
    /// And what an fsync that failed left as if it were.
    doomed: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut(usize),
}

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

impl Change {
    fn apply(&self, to: &mut Vec<u8>, kept: &mut dyn FnMut() -> bool) {
        match self {
            Self::Cut(length) if kept() => to.resize(*length, 0),
            Self::Cut(_) => {}
            Self::Write { offset, bytes } => {
                for (part, at) in bytes.chunks(SECTOR).zip((*offset..).step_by(SECTOR)) {
                    if kept() {
                        to.resize(to.len().max(at + part.len()), 0);
                        to[at..at + part.len()].copy_from_slice(part);
                    }
                }
            }
        }
    }
}

/// A change to the names in a directory.
#[derive(Debug, Clone)]
struct Naming {
    gone: Option<PathBuf>,
    new: Option<(PathBuf, usize)>,
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(path) = &self.gone {
            names.remove(path);
        }
        names.extend(self.new.clone());
    }

    fn is_in(&self, dir: &Path) -> bool {
        let path = self.gone.as_ref().or(self.new.as_ref().map(|(path, _)| path));
        path.is_some_and(|path| path.parent() == Some(dir))
    }
}

/// What is there when the power went off.
#[derive(Debug)]
pub(crate) struct Left {
    dirs: Vec<PathBuf>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Left {
    /// Puts what was below one directory below another.
    pub(crate) fn put(self, from: &Path, to: &Path) {
        let place = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        for dir in &self.dirs {
            DirBuilder::new().recursive(true).mode(0o700).create(place(dir)).unwrap();
        }
        for (path, bytes) in self.files {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(place(&path)).unwrap().write_all(&bytes).unwrap();
        }
    }
}

/// Checks what may be there when the power went off after `events` in `dir`: of what was not made durable nothing, every
/// second part or every third.
pub(crate) fn check_power_losses(dir: &Path, events: &[Event], check: &dyn Fn(&Path)) {
    for seldom in 1..4 {
        let mut turn = 0;
        let mut kept = || {
            turn += 1;
            turn % seldom == 1
        };
        let left = directory();
        after_power_loss(events, &mut kept).put(dir, left.path());
        check(left.path());
    }
}

/// What is there when the power went off after `events`; `kept` says of each part that was not made durable whether it
/// is there all the same.
pub(crate) fn after_power_loss(events: &[Event], kept: &mut dyn FnMut() -> bool) -> Left {
    let mut inodes: Vec<Inode> = Vec::new();
    let mut made = BTreeSet::new();
    let (mut names, mut durable_names) = (BTreeMap::new(), BTreeMap::new());
    let mut pending: Vec<Naming> = Vec::new();
    let inode = |names: &BTreeMap<PathBuf, usize>, path: &PathBuf| names.get(path).copied();
    for event in events {
        let mut naming = |naming: Naming, names: &mut BTreeMap<PathBuf, usize>| {
            naming.apply(names);
            pending.push(naming);
        };
        match event {
            Event::Create(path) | Event::MakeDir(path) if names.contains_key(path) => {}
            Event::Create(path) | Event::MakeDir(path) => {
                let is_dir = matches!(event, Event::MakeDir(_));
                made.extend(is_dir.then_some(path));
                naming(Naming { gone: None, new: Some((path.clone(), inodes.len())) }, &mut names);
                inodes.push(Inode { is_dir, ..Inode::default() });
            }
            Event::Rename { from, to } => {
                if let Some(id) = inode(&names, from) {
                    naming(Naming { gone: Some(from.clone()), new: Some((to.clone(), id)) }, &mut names);
                }
            }
            Event::Remove(path) => naming(Naming { gone: Some(path.clone()), new: None }, &mut names),
            Event::SyncDir(dir) => {
                let (now, later) = pending.drain(..).partition(|naming| naming.is_in(dir));
                pending = later;
                let now: Vec<Naming> = now;
                now.iter().for_each(|naming| naming.apply(&mut durable_names));
            }
            Event::Write { path, offset, bytes } => {
                let change = Change::Write { offset: *offset as usize, bytes: bytes.clone() };
                inodes[names[path]].pending.push(change);
            }
            Event::Cut { path, length } => inodes[names[path]].pending.push(Change::Cut(*length as usize)),
            Event::Sync(path) => {
                let Inode { durable, pending, .. } = &mut inodes[names[path]];
                pending.drain(..).for_each(|change| change.apply(durable, &mut || true));
            }
            Event::FailedSync(path) => {
                let Inode { pending, doomed, .. } = &mut inodes[names[path]];
                doomed.append(pending);
            }
        }
    }
    pending.iter().filter(|_| kept()).for_each(|naming| naming.apply(&mut durable_names));
    // What lies in a directory that is gone is gone.
    let is_there =
        |path: &Path| path.ancestors().all(|dir| !made.contains(&dir.to_owned()) || durable_names.contains_key(dir));
    let mut left = Left { dirs: Vec::new(), files: Vec::new() };
    for (path, id) in durable_names.iter().filter(|(path, _)| is_there(path)) {
        let Inode { is_dir, durable, pending, doomed } = &inodes[*id];
        let mut bytes = durable.clone();
        pending.iter().chain(doomed).for_each(|change| change.apply(&mut bytes, kept));
        match is_dir {
            true => left.dirs.push(path.clone()),
            false => left.files.push((path.clone(), bytes)),
        }
    }
    left
}
