//! Files that are whole or not there, and modes that keep secrets to one user.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Nobody but the node's own user.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Writes a file so that after a crash either the old content or the new stands there, whole: a temporary
/// file, fsync, rename, fsync of the directory. Mode 0600.
pub fn durable_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("a path that names no file"))?;
    let temporary = dir.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(dir)
    })();
    if written.is_err() && temporary.exists() {
        fs::remove_file(&temporary)?;
    }
    written
}

/// Makes a directory and those above it, mode 0700.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
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
    use super::*;

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
