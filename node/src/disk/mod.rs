//! What must be durable goes by here to the files it lies in: each place where the store, `files.rs` and the issuer's log
//! touch one is a [`Site`] with a name.
//!
//! So a test can let every site fail, tear what it writes or find the disk full, and can tell what a power cut
//! would leave; a site that no test reaches is found by counting. See `faults.rs` here and in the store, and those of the CA.
//!
//! This file refuses to know what is in the files, and what an error means: that is the caller's.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
use faults::Faults;

/// Nobody but the node's own user.
pub const FILE_MODE: u32 = 0o600;
pub(crate) const DIR_MODE: u32 = 0o700;

macro_rules! sites {
    ($($(#[$doc:meta])* $group:ident { $($site:ident,)* })*) => {
        /// Where a file is touched. One name for each place in the code, so that none is left untried.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Site { $($($site,)*)* }

        #[cfg(test)]
        impl Site {
            $($(#[$doc])* pub(crate) const $group: &'static [Self] = &[$(Self::$site,)*];)*
        }
    };
}

sites! {
    /// Those of the store.
    STORE {
        // Opening: the directory and whose it is.
        DataDirMake,
        LockOpen,
        LockLook,
        LockCut,
        LockWrite,
        LockLength,
        LockRead,
        // Opening: which segments there are.
        SegmentsMake,
        SegmentsNameSync,
        SegmentsList,
        LeftoverRemove,
        HeaderOpen,
        HeaderLength,
        HeaderRead,
        HeaderlessRemove,
        HeaderlessSync,
        // Opening: what a crash left at the end.
        VouchRead,
        TailOpen,
        TailLength,
        TailCut,
        TailRead,
        TailWrite,
        TailSync,
        // A segment is started.
        SegmentCreate,
        SegmentHeaderWrite,
        SegmentHeaderSync,
        SegmentNameSync,
        // Appending.
        AppendWrite,
        AppendSync,
        RollSync,
        // Reading.
        SegmentOpen,
        SegmentHeaderRead,
        FrameRead,
        WalkRead,
        WalkLength,
        CommittedLength,
        // A segment is written anew without what is not to stay in it.
        RewriteLength,
        RewriteCreate,
        RewriteRead,
        RewriteWrite,
        RewriteErased,
        RewriteSync,
        RewriteRename,
        RewriteNameSync,
        RewriteRemove,
        // The index: what sled writes, as a whole.
        IndexOpen,
        IndexReplay,
        IndexAppend,
        IndexFlush,
        // And the files around it.
        IndexLook,
        MarkLook,
        MarkCreate,
        MarkSync,
        MarkNameSync,
        AsideRemove,
        AsideRename,
        AsideNameSync,
        AsideMarkRemove,
        AsideMarkSync,
    }
    /// Those of files that are whole or not there.
    FILES {
        DirMake,
        DirNameSync,
        DirTakeBack,
        NewCreate,
        NewCut,
        NewWrite,
        NewSync,
        NewRename,
        NewNameSync,
        NewRemove,
    }
    /// Those of the issuer's log.
    ISSUER_LOG {
        LogOpen,
        LogNameSync,
        LogRead,
        LogCut,
        LogTailWrite,
        LogTailSync,
        LogAppendWrite,
        LogAppendSync,
        LogNewsLength,
        LogNewsRead,
    }
}

/// What is done at a site.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only the disk of the tests looks at what is done"))]
pub(crate) enum Deed<'a> {
    /// Nothing changes.
    Read,
    MakeDir(&'a Path),
    Create(&'a Path),
    Write {
        path: &'a Path,
        file: &'a File,
        offset: u64,
        bytes: &'a [u8],
    },
    Cut {
        path: &'a Path,
        length: u64,
    },
    Sync(&'a Path),
    SyncDir(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Remove(&'a Path),
    /// Something of sled's own.
    Index,
}

/// The disk that files are on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) faults: Option<Arc<Faults>>,
}

/// A file that is open, with its path.
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    path: PathBuf,
    file: File,
}

impl Disk {
    /// The disk that this thread works on: with the faults of a test of it, if there are any.
    pub(crate) fn here() -> Self {
        Self {
            #[cfg(test)]
            faults: faults::of_this_thread(),
        }
    }

    fn carry_out<T>(&self, site: Site, deed: Deed<'_>, real: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return faults.carry_out(site, &deed, real);
        }
        let _ = (site, deed);
        real()
    }

    fn opened(&self, path: &Path, file: File) -> DiskFile {
        DiskFile { disk: self.clone(), path: path.to_owned(), file }
    }

    /// Makes a directory and those above it.
    pub(crate) fn make_dir(&self, site: Site, dir: &Path) -> io::Result<()> {
        let deed = if dir.is_dir() { Deed::Read } else { Deed::MakeDir(dir) };
        self.carry_out(site, deed, || fs::create_dir_all(dir))
    }

    /// Makes a directory, for this user alone.
    pub(crate) fn make_private_dir(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::MakeDir(dir), || DirBuilder::new().mode(DIR_MODE).create(dir))
    }

    /// Removes a directory that has nothing in it.
    pub(crate) fn remove_dir(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Remove(dir), || fs::remove_dir(dir))
    }

    /// What is in a file.
    pub(crate) fn read(&self, site: Site, path: &Path) -> io::Result<Vec<u8>> {
        self.carry_out(site, Deed::Read, || fs::read(path))
    }

    pub(crate) fn exists(&self, site: Site, path: &Path) -> io::Result<bool> {
        self.carry_out(site, Deed::Read, || path.try_exists())
    }

    /// Has sled write, of whose files nothing is known here.
    pub(crate) fn index<T>(&self, site: Site, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.carry_out(site, Deed::Index, write)
    }

    /// The names in a directory.
    pub(crate) fn list(&self, site: Site, dir: &Path) -> io::Result<Vec<OsString>> {
        self.carry_out(site, Deed::Read, || fs::read_dir(dir)?.map(|item| Ok(item?.file_name())).collect())
    }

    /// How long a file is.
    pub(crate) fn length(&self, site: Site, path: &Path) -> io::Result<u64> {
        self.carry_out(site, Deed::Read, || Ok(fs::metadata(path)?.len()))
    }

    /// Opens a file to read it.
    pub(crate) fn open(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        self.carry_out(site, Deed::Read, || Ok(self.opened(path, File::open(path)?)))
    }

    /// Opens a file that is there, to read and write it.
    pub(crate) fn open_to_write(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let options = || OpenOptions::new().read(true).write(true).open(path);
        self.carry_out(site, Deed::Read, || Ok(self.opened(path, options()?)))
    }

    /// Makes a file that is not there yet.
    pub(crate) fn create(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let options = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
        self.carry_out(site, Deed::Create(path), || Ok(self.opened(path, options()?)))
    }

    /// Opens a file, and makes it when it is not there.
    pub(crate) fn open_or_create(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        self.carry_out(site, Deed::Create(path), || Ok(self.opened(path, options()?)))
    }

    /// As [`Self::open_or_create`]; a file that is made is this user's alone.
    pub(crate) fn open_or_create_private(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        self.carry_out(site, Deed::Create(path), || Ok(self.opened(path, options.open(path)?)))
    }

    pub(crate) fn rename(&self, site: Site, from: &Path, to: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Rename { from, to }, || fs::rename(from, to))
    }

    pub(crate) fn remove(&self, site: Site, path: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Remove(path), || fs::remove_file(path))
    }

    /// Removes a directory with all that is in it.
    pub(crate) fn remove_tree(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Remove(dir), || fs::remove_dir_all(dir))
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::SyncDir(dir), || File::open(dir)?.sync_all())
    }
}

impl DiskFile {
    /// For locking it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn length(&self, site: Site) -> io::Result<u64> {
        self.disk.carry_out(site, Deed::Read, || Ok(self.file.metadata()?.len()))
    }

    pub(crate) fn read_exact_at(&self, site: Site, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.carry_out(site, Deed::Read, || self.file.read_exact_at(bytes, offset))
    }

    pub(crate) fn write_all_at(&self, site: Site, bytes: &[u8], offset: u64) -> io::Result<()> {
        let deed = Deed::Write { path: &self.path, file: &self.file, offset, bytes };
        self.disk.carry_out(site, deed, || self.file.write_all_at(bytes, offset))
    }

    /// Makes the file this long: what is behind it goes, what was not there reads as zeros.
    pub(crate) fn cut(&self, site: Site, length: u64) -> io::Result<()> {
        self.disk.carry_out(site, Deed::Cut { path: &self.path, length }, || self.file.set_len(length))
    }

    /// Makes what was written durable, and the length with it.
    pub(crate) fn sync(&self, site: Site) -> io::Result<()> {
        self.disk.carry_out(site, Deed::Sync(&self.path), || self.file.sync_data())
    }
}
