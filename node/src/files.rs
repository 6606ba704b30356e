//! Files that are whole or not there, and modes that keep secrets to one user.
//!
//! What is being written has a name of its own beside the one it will have, and is locked by its writer: what has such a
//! name and is not locked, a process left that was killed. Whoever writes there next takes it away.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

pub use crate::disk::FILE_MODE;
use crate::disk::{DIR_MODE, Disk, DiskFile, Site};

/// How the name of a file ends that [`durable_write`] has not finished.
const NEW: &str = ".new";
/// How the name of a [`Part`] ends. Somebody else's directory may hold it, so that it must be nobody else's name.
const PART: &str = ".cwn-part";

/// Writes a file so that after a crash either the old content or the new stands there, whole: a temporary
/// file, fsync, rename, fsync of the directory. Mode 0600.
pub fn durable_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    name_all(dir_of(path), vec![Written::new(path, bytes)?])
}

/// Gives files of one directory their names, and makes those durable together.
pub fn name_all(dir: &Path, files: Vec<Written>) -> io::Result<()> {
    let disk = Disk::here();
    files.iter().try_for_each(|file| disk.rename(Site::NewRename, &file.temporary, &file.path))?;
    disk.sync_dir(Site::NewNameSync, dir)
}

/// A file that is durable beside the name it will have. Dropped, it is gone, unless it was given its name.
#[derive(Debug)]
pub struct Written {
    temporary: PathBuf,
    path: PathBuf,
    file: DiskFile,
}

impl Written {
    /// Writes a file, mode 0600.
    pub fn new(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let temporary = beside(path, NEW)?;
        let file = Disk::here().open_or_create_private(Site::NewCreate, &temporary)?;
        hold(file.file());
        let written = Self { temporary, path: path.to_owned(), file };
        written.file.cut(Site::NewCut, 0)?;
        written.file.write_all_at(Site::NewWrite, bytes, 0)?;
        written.file.sync(Site::NewSync)?;
        Ok(written)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // It has its name by now, or the next start takes it away.
        let _ = Disk::here().remove(Site::NewRemove, &self.temporary);
    }
}

/// The directory that a path lies in.
pub fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name under which this process writes what will have the name `path`.
pub fn beside(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("a path that names no file"))?;
    Ok(dir_of(path).join(format!(".{}.{}{ending}", name.to_string_lossy(), std::process::id())))
}

/// Says that what is being written has a writer, for as long as the file is open.
pub fn hold(file: &File) {
    if let Err(error) = file.try_lock() {
        // Then nobody else can lock it there either, and takes it for left.
        tracing::debug!(%error, "this file system knows no locks");
    }
}

/// Takes away what killed processes left in a directory under such names; gives how many there were. What cannot be
/// taken away is there the next time.
pub fn clear(dir: &Path, is_one: impl Fn(&str) -> bool) -> usize {
    let Ok(items) = fs::read_dir(dir) else { return 0 };
    let mut cleared = 0;
    for path in items.flatten().filter(|item| item.file_name().to_str().is_some_and(&is_one)).map(|item| item.path()) {
        // Nothing else is opened: a pipe would wait for somebody.
        let Ok(kind) = fs::symlink_metadata(&path).map(|metadata| metadata.file_type()) else { continue };
        let left = (kind.is_file() || kind.is_dir()) && File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if left {
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            cleared += usize::from(removed.is_ok());
        }
    }
    cleared
}

/// Takes away what [`durable_write`] did not finish in a directory.
pub fn clear_new(dir: &Path) -> usize {
    clear(dir, |name| name.starts_with('.') && name.ends_with(NEW))
}

/// A file that is coming in, beside the name it will have, so that it is not taken for the whole, whatever ends this
/// process. Dropped, it is gone, unless it was given its name.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    _lock: File,
}

impl Part {
    /// Begins the part of a file.
    pub fn begin(of: &Path, mode: u32) -> Result<Self, Failed> {
        clear(dir_of(of), |name| name.starts_with('.') && name.ends_with(PART));
        let path = beside(of, PART).map_err(at(of))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(at(&path))?;
        hold(&file);
        Ok(Self { path, _lock: file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has its name by now, or the next of its kind takes it away.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a directory and those above it, mode 0700. The names of those that were not there are durable when this returns.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let (disk, parent) = (Disk::here(), dir_of(dir));
    make_dir(parent)?;
    match disk.make_private_dir(Site::DirMake, dir) {
        // Somebody else was faster, and may not have come further.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    // Where that cannot be, it is not left for the next who asks: that one would take it for durable.
    let durable = disk.sync_dir(Site::DirNameSync, parent);
    durable.inspect_err(|_error| drop(disk.remove_dir(Site::DirTakeBack, dir)))
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What to do about what the system says of a file; nothing where it says so itself.
pub fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run this as the user whose it is, or let this user at it",
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::IsADirectory => "; name a file",
        io::ErrorKind::NotADirectory => "; what stands before the last / must be a directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "; that disk takes no writes: choose another place",
        _ => "",
    }
}

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}{}", .path.display(), remedy(source))]
pub struct Failed {
    /// Which file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Names the file that an error is about.
pub fn at(path: &Path) -> impl Fn(io::Error) -> Failed {
    let path = path.to_owned();
    move |source| Failed { path: path.clone(), source }
}

/// Others can get at a file or directory that is to be this user's alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} can be reached by other users (mode {mode:04o}); run: chmod {wanted:04o} {path}")]
pub struct TooWide {
    path: String,
    mode: u32,
    wanted: u32,
}

/// Whether only its owner can get at a file or directory.
pub fn check_private(path: &Path) -> io::Result<Result<(), TooWide>> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(Ok(()));
    }
    let wanted = if metadata.is_dir() { DIR_MODE } else { FILE_MODE };
    Ok(Err(TooWide { path: path.display().to_string(), mode, wanted }))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::disk::faults::{Event, Fault, Faults, check_power_losses, directory};

    #[test]
    fn what_the_system_says_of_a_file_comes_with_its_name_and_what_to_do() {
        let said = |kind: io::ErrorKind| at(Path::new("/srv/stick"))(io::Error::from(kind)).to_string();
        for (kind, remedy) in [
            (io::ErrorKind::PermissionDenied, "; run this as the user whose it is"),
            (io::ErrorKind::NotFound, "; check the path"),
            (io::ErrorKind::StorageFull, "; make room"),
            (io::ErrorKind::ReadOnlyFilesystem, "; that disk takes no writes"),
        ] {
            assert!(said(kind).starts_with("/srv/stick: ") && said(kind).contains(remedy), "{}", said(kind));
        }
        assert!(!said(io::ErrorKind::Other).contains(';'));
    }

    /// One life of a file in a directory that is not there yet: it is written three times, each time once more where
    /// that failed.
    struct Life {
        root: tempfile::TempDir,
        faults: Arc<Faults>,
        /// After so many events, which version had been acknowledged, and which was asked for.
        moments: Vec<(usize, u8, u8)>,
    }

    impl Life {
        fn lived(planned: Option<(Site, usize, Fault)>) -> Self {
            let root = directory();
            let mut life = Self { root, faults: Faults::planning(planned), moments: vec![(0, 0, 0)] };
            let _disk = life.faults.on_this_thread();
            let path = Self::file(life.root.path());
            let mut acknowledged = 0;
            for asked in 1..=3 {
                life.moments.push((life.faults.count(), acknowledged, asked));
                let write = || make_dir(dir_of(&path)).and_then(|()| durable_write(&path, &[asked; 2_000]));
                if write().or_else(|_fault| write()).is_ok() {
                    acknowledged = asked;
                    life.moments.push((life.faults.count(), acknowledged, asked));
                }
            }
            life
        }

        fn file(root: &Path) -> PathBuf {
            root.join("above/below/file")
        }

        /// What was acknowledged last is there, or what was asked for after it, and whole.
        fn check(&self, root: &Path, events: &[Event], what: &str) {
            let (_, acknowledged, asked) = *self.moments.iter().rfind(|(count, ..)| *count <= events.len()).unwrap();
            let found = fs::read(Self::file(root)).unwrap_or_default();
            let version = found.first().copied().unwrap_or(0);
            let whole = found.is_empty() || found == [version; 2_000];
            let possible = (acknowledged..=asked).contains(&version);
            assert!(whole && possible, "{what}: version {version}, where {acknowledged} was acknowledged");
        }

        fn check_power_loss(&self, events: &[Event], what: &str) {
            check_power_losses(self.root.path(), events, &|left| self.check(left, events, what));
        }
    }

    #[test]
    fn what_was_said_to_be_written_is_there_after_every_fault_and_wherever_the_power_goes_off() {
        let good = Life::lived(None);
        let events = good.faults.events();
        for count in 0..=events.len() {
            good.check_power_loss(&events[..count], &format!("power loss after event {count} of {}", events.len()));
        }
        let hits = good.faults.hits();
        // A directory is taken back only where another fault came before.
        let missed = |site: &&Site| !hits.contains_key(site) && **site != Site::DirTakeBack;
        assert_eq!(Site::FILES.iter().find(missed), None, "no life touches a file there");
        for (site, (times, faults)) in &hits {
            for (time, fault) in (0..*times).flat_map(|time| faults.iter().map(move |fault| (time, *fault))) {
                let what = format!("{fault:?} at {site:?}, time {time}");
                let life = Life::lived(Some((*site, time, fault)));
                assert!(life.faults.has_struck(), "{what}: it did not come by");
                let events = life.faults.events();
                life.check(life.root.path(), &events, &what);
                for count in 0..=events.len() {
                    life.check_power_loss(&events[..count], &format!("{what}, power loss after event {count}"));
                }
            }
        }
        let all: BTreeSet<Site> = hits.into_keys().collect();
        assert!(all.iter().all(|site| Site::FILES.contains(site)), "{all:?}");
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        durable_write(&path, b"one").unwrap();
        durable_write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(check_private(&path).unwrap().is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// What a process that was killed leaves: nobody holds it.
    fn left(dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, b"half").unwrap();
        path
    }

    #[test]
    fn what_a_killed_process_left_is_taken_away_and_what_is_being_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let written = left(dir.path(), ".keys.cwn.1.new");
        let file = File::open(&written).unwrap();
        hold(&file);
        left(dir.path(), ".keys.cwn.2.new");
        let others = ["keys.cwn", "mine.new", ".mine", ".it.1.cwn-part"].map(|name| left(dir.path(), name));
        fs::create_dir(dir.path().join(".deep.1.new")).unwrap();
        left(&dir.path().join(".deep.1.new"), "inside");
        std::os::unix::fs::symlink(&others[0], dir.path().join(".link.1.new")).unwrap();
        assert_eq!(clear_new(dir.path()), 2);
        assert!(written.exists() && others.iter().all(|path| path.exists()));
        drop(file);
        assert_eq!(clear_new(dir.path()), 1);
        assert!(!written.exists());
        assert_eq!(clear_new(&dir.path().join("nowhere")), 0);
    }

    #[test]
    fn a_part_takes_away_those_that_killed_processes_left_and_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("cwn.backup");
        let killed = left(dir.path(), ".another.backup.1.cwn-part");
        let theirs = left(dir.path(), ".another.backup.1.part");
        let running = Part::begin(&dir.path().join("third"), FILE_MODE).unwrap();
        let part = Part::begin(&target, FILE_MODE).unwrap();
        assert!(!killed.exists() && theirs.exists() && running.path().exists());
        fs::rename(part.path(), &target).unwrap();
        drop((part, running));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the file, and theirs");
    }

    #[test]
    fn a_file_that_others_can_read_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        durable_write(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let too_wide = check_private(&path).unwrap().unwrap_err().to_string();
        assert!(too_wide.contains("mode 0640") && too_wide.contains("chmod 0600"), "{too_wide}");
    }
}
