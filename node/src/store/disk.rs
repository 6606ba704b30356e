//! The only file of the store that touches files: each place where it does is a [`Site`] with a name.
//!
//! So a test can let every site fail, tear what it writes or find the disk full, and can tell what a power cut
//! would leave; a site that no test reaches is found by counting. See `faults.rs`.
//!
//! This file refuses to know what is in the files, and what an error means: that is the caller's.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use super::faults::Faults;

macro_rules! sites {
    ($($(#[$doc:meta])* $site:ident,)*) => {
        /// Where the store touches a file. One name for each place in the code, so that none is left untried.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Site { $($(#[$doc])* $site,)* }

        #[cfg(test)]
        impl Site {
            /// All there are.
            pub(super) const ALL: &'static [Self] = &[$(Self::$site,)*];
        }
    };
}

sites! {
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

/// What is done at a site.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only the disk of the tests looks at what is done"))]
pub(super) enum Deed<'a> {
    /// Nothing changes.
    Read,
    MakeDir,
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

/// The disk that a store is on.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) faults: Option<Arc<Faults>>,
}

/// A file that is open, with its path.
#[derive(Debug)]
pub(super) struct DiskFile {
    disk: Disk,
    path: PathBuf,
    file: File,
}

impl Disk {
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
    pub(super) fn make_dir(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::MakeDir, || fs::create_dir_all(dir))
    }

    pub(super) fn exists(&self, site: Site, path: &Path) -> io::Result<bool> {
        self.carry_out(site, Deed::Read, || path.try_exists())
    }

    /// Has sled write, of whose files nothing is known here.
    pub(super) fn index<T>(&self, site: Site, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.carry_out(site, Deed::Index, write)
    }

    /// The names in a directory.
    pub(super) fn list(&self, site: Site, dir: &Path) -> io::Result<Vec<OsString>> {
        self.carry_out(site, Deed::Read, || fs::read_dir(dir)?.map(|item| Ok(item?.file_name())).collect())
    }

    /// How long a file is.
    pub(super) fn length(&self, site: Site, path: &Path) -> io::Result<u64> {
        self.carry_out(site, Deed::Read, || Ok(fs::metadata(path)?.len()))
    }

    /// Opens a file to read it.
    pub(super) fn open(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        self.carry_out(site, Deed::Read, || Ok(self.opened(path, File::open(path)?)))
    }

    /// Opens a file that is there, to read and write it.
    pub(super) fn open_to_write(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let options = || OpenOptions::new().read(true).write(true).open(path);
        self.carry_out(site, Deed::Read, || Ok(self.opened(path, options()?)))
    }

    /// Makes a file that is not there yet.
    pub(super) fn create(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let options = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
        self.carry_out(site, Deed::Create(path), || Ok(self.opened(path, options()?)))
    }

    /// Opens a file, and makes it when it is not there.
    pub(super) fn open_or_create(&self, site: Site, path: &Path) -> io::Result<DiskFile> {
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        self.carry_out(site, Deed::Create(path), || Ok(self.opened(path, options()?)))
    }

    pub(super) fn rename(&self, site: Site, from: &Path, to: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Rename { from, to }, || fs::rename(from, to))
    }

    pub(super) fn remove(&self, site: Site, path: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Remove(path), || fs::remove_file(path))
    }

    /// Removes a directory with all that is in it.
    pub(super) fn remove_tree(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::Remove(dir), || fs::remove_dir_all(dir))
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&self, site: Site, dir: &Path) -> io::Result<()> {
        self.carry_out(site, Deed::SyncDir(dir), || File::open(dir)?.sync_all())
    }
}

impl DiskFile {
    /// For locking it.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn length(&self, site: Site) -> io::Result<u64> {
        self.disk.carry_out(site, Deed::Read, || Ok(self.file.metadata()?.len()))
    }

    pub(super) fn read_exact_at(&self, site: Site, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.carry_out(site, Deed::Read, || self.file.read_exact_at(bytes, offset))
    }

    pub(super) fn write_all_at(&self, site: Site, bytes: &[u8], offset: u64) -> io::Result<()> {
        let deed = Deed::Write { path: &self.path, file: &self.file, offset, bytes };
        self.disk.carry_out(site, deed, || self.file.write_all_at(bytes, offset))
    }

    /// Makes the file this long: what is behind it goes, what was not there reads as zeros.
    pub(super) fn cut(&self, site: Site, length: u64) -> io::Result<()> {
        self.disk.carry_out(site, Deed::Cut { path: &self.path, length }, || self.file.set_len(length))
    }

    /// Makes what was written durable, and the length with it.
    pub(super) fn sync(&self, site: Site) -> io::Result<()> {
        self.disk.carry_out(site, Deed::Sync(&self.path), || self.file.sync_data())
    }
}
