//! The issuer's log on disk: an append-only file of framed entries, durable before anything is said of it.
//!
//! A frame is the length (u32, big-endian), a CRC-32 of the entry, and the entry. A torn end, from a machine that
//! stopped while it wrote, is cut back and said; nothing acknowledged can be in it. Damage that whole entries
//! follow is rot, not a tear: an append begins only after the one before it was durable. It is said and nothing is
//! touched, for behind it may stand a revocation.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use cwn_crypto::encoding;
use cwn_engine::{limits, log::EntryBytes};

use crate::files;

const FRAME_HEAD: usize = 8;
const ENTRY_BYTES: usize = limits::HEADER_BYTES + limits::PAYLOAD_BYTES + 256;

/// The file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
}

/// What an opening found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Vec<EntryBytes>,
    pub(super) cut_back_bytes: u64,
}

impl LogFile {
    /// Opens the log, or begins it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Found)> {
        let fresh = !path.exists();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        if fresh {
            file.sync_all()?;
            files::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (entries, good) = read(&bytes)?;
        let cut_back_bytes = (bytes.len() - good) as u64;
        let length = good as u64;
        if cut_back_bytes > 0 {
            tracing::warn!(cut_back_bytes, "the issuer's log ended in an entry that was never finished");
            file.set_len(length)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::End(0))?;
        Ok((Self { path: path.to_owned(), file, length }, Found { entries, cut_back_bytes }))
    }

    /// Appends entries; durable when this returns.
    pub(super) fn append(&mut self, entries: &[EntryBytes]) -> io::Result<()> {
        let mut frames = Vec::new();
        for entry in entries {
            let bytes = encoding::to_bytes(entry);
            frames.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            frames.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            frames.extend_from_slice(&bytes);
        }
        self.file.write_all(&frames)?;
        self.file.sync_data()?;
        self.length += frames.len() as u64;
        Ok(())
    }

    /// What others appended since this opened the file. The caller sees to it that nobody writes meanwhile.
    pub(super) fn news(&mut self) -> io::Result<Vec<EntryBytes>> {
        if fs::metadata(&self.path)?.len() == self.length {
            return Ok(Vec::new());
        }
        let bytes = fs::read(&self.path)?;
        let start = usize::try_from(self.length).unwrap_or(usize::MAX).min(bytes.len());
        let (entries, good) = read(&bytes[start..])?;
        self.length += good as u64;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(entries)
    }
}

/// The entries in whole frames from the start, and how many bytes those take. What lies behind is a torn end.
fn read(bytes: &[u8]) -> io::Result<(Vec<EntryBytes>, usize)> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some((entry, length)) = frame(&bytes[at..]) {
        entries.push(entry);
        at += length;
    }
    // The first byte behind the last whole entry is where the damaged one begins, if it is that.
    match (at + 1..bytes.len()).find(|start| frame(&bytes[*start..]).is_some()) {
        None => Ok((entries, at)),
        Some(next) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an entry is damaged, from byte {at} to {next}, and whole ones follow; restore it from a backup"),
        )),
    }
}

/// The entry in the frame that the bytes begin with, and how many bytes the frame takes.
fn frame(bytes: &[u8]) -> Option<(EntryBytes, usize)> {
    let head = bytes.get(..FRAME_HEAD)?;
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let crc = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    // Before the checksum, which would otherwise be taken of whatever a damaged length asks for.
    if length > ENTRY_BYTES {
        return None;
    }
    let end = FRAME_HEAD + length;
    let body = bytes.get(FRAME_HEAD..end).filter(|body| crc32fast::hash(body) == crc)?;
    Some((encoding::from_bytes(body, ENTRY_BYTES).ok()?, end))
}

#[cfg(test)]
mod tests {
    use cwn_crypto::Signature;
    use cwn_engine::log::Payload;

    use super::*;

    fn entry(number: u8) -> EntryBytes {
        EntryBytes {
            header: vec![number; 40],
            signature: Signature([number; 64]),
            payload: Payload::Sealed(vec![number; 10]),
        }
    }

    #[test]
    fn a_torn_end_is_cut_back_to_the_last_whole_entry_wherever_it_tears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issuer.log");
        LogFile::open(&path).unwrap().0.append(&[entry(1), entry(2)]).unwrap();
        let whole = fs::read(&path).unwrap();
        let first = whole.len() / 2;
        for length in first..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (_, found) = LogFile::open(&path).unwrap();
            assert_eq!(found.entries, [entry(1)], "torn at {length}");
            assert_eq!(found.cut_back_bytes, (length - first) as u64);
        }
    }

    #[test]
    fn damage_that_whole_entries_follow_is_no_torn_end_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issuer.log");
        LogFile::open(&path).unwrap().0.append(&[entry(1), entry(2)]).unwrap();
        let whole = fs::read(&path).unwrap();
        let first = whole.len() / 2;
        for place in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[place] ^= 1;
            fs::write(&path, &rotten).unwrap();
            match LogFile::open(&path) {
                Err(error) => {
                    assert!(place < first && error.to_string().contains("backup"), "at {place}: {error}");
                    assert_eq!(fs::read(&path).unwrap(), rotten, "what is left stays as it is");
                }
                // In the last entry it cannot be told from a tear.
                Ok((_, found)) => assert!(place >= first && found.entries == [entry(1)], "at {place}"),
            }
        }
    }

    #[test]
    fn what_another_process_appends_is_news_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issuer.log");
        let (mut here, _) = LogFile::open(&path).unwrap();
        LogFile::open(&path).unwrap().0.append(&[entry(1)]).unwrap();
        assert_eq!(here.news().unwrap(), [entry(1)]);
        assert_eq!(here.news().unwrap(), []);
        here.append(&[entry(2)]).unwrap();
        assert_eq!(LogFile::open(&path).unwrap().1.entries, [entry(1), entry(2)]);
    }
}
