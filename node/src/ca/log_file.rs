//! The issuer's log on disk: an append-only file of framed entries, durable before anything is said of it.
//!
//! A frame is the length (u32, big-endian), a CRC-32 of the entry, and the entry. A torn end, from a machine that
//! stopped while it wrote, is cut back and said; nothing acknowledged can be in it. Damage that whole entries
//! follow is rot, not a tear: an append begins only after the one before it was durable. It is said and nothing is
//! touched, for behind it may stand a revocation.

use std::{
    io,
    path::{Path, PathBuf},
};

use cwn_crypto::encoding;
use cwn_engine::{limits, log::EntryBytes};

use crate::{
    disk::{Disk, DiskFile, Site},
    files,
};

const FRAME_HEAD: usize = 8;
const ENTRY_BYTES: usize = limits::HEADER_BYTES + limits::PAYLOAD_BYTES + 256;

/// The file.
#[derive(Debug)]
pub(super) struct LogFile {
    disk: Disk,
    path: PathBuf,
    file: DiskFile,
    length: u64,
    /// An append failed, so that it is not known what stands behind the length.
    failed: bool,
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
        let disk = Disk::here();
        let file = disk.open_or_create_private(Site::LogOpen, path)?;
        let bytes = disk.read(Site::LogRead, path)?;
        if bytes.is_empty() {
            // Also when it was there: who made it may have come no further.
            disk.sync_dir(Site::LogNameSync, files::dir_of(path))?;
        }
        let (entries, good) = read(&bytes)?;
        let cut_back_bytes = (bytes.len() - good) as u64;
        let length = good as u64;
        if cut_back_bytes > 0 {
            tracing::warn!(cut_back_bytes, "the issuer's log ended in an entry that was never finished");
            file.cut(Site::LogCut, length)?;
        }
        if !bytes.is_empty() {
            // The last entry may be there without being durable: what an fsync failed to write, the next one takes for
            // written. Were it lost after others were appended, all would be taken for rotten.
            let last = entries.last().map_or(0, |entry| frame_of(entry).len());
            file.write_all_at(Site::LogTailWrite, &bytes[good - last..good], length - last as u64)?;
            file.sync(Site::LogTailSync)?;
        }
        Ok((Self { disk, path: path.to_owned(), file, length, failed: false }, Found { entries, cut_back_bytes }))
    }

    /// Appends an entry; durable when this returns. After an error nothing more is appended: the next opening sees what
    /// became of it.
    pub(super) fn append(&mut self, entry: &EntryBytes) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier entry could not be written; check the disk and start again"));
        }
        let frame = frame_of(entry);
        let written = self.file.write_all_at(Site::LogAppendWrite, &frame, self.length);
        let durable = written.and_then(|()| self.file.sync(Site::LogAppendSync));
        self.failed = durable.is_err();
        self.length += frame.len() as u64;
        durable
    }

    /// What others appended since this opened the file. The caller sees to it that nobody writes meanwhile.
    pub(super) fn news(&mut self) -> io::Result<Vec<EntryBytes>> {
        if self.disk.length(Site::LogNewsLength, &self.path)? == self.length {
            return Ok(Vec::new());
        }
        let bytes = self.disk.read(Site::LogNewsRead, &self.path)?;
        let start = usize::try_from(self.length).unwrap_or(usize::MAX).min(bytes.len());
        let (entries, good) = read(&bytes[start..])?;
        self.length += good as u64;
        Ok(entries)
    }
}

/// An entry in its frame.
fn frame_of(entry: &EntryBytes) -> Vec<u8> {
    let bytes = encoding::to_bytes(entry);
    [&(bytes.len() as u32).to_be_bytes()[..], &crc32fast::hash(&bytes).to_be_bytes(), &bytes].concat()
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
    use std::fs;

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
        let (mut log, _) = LogFile::open(&path).unwrap();
        [entry(1), entry(2)].iter().for_each(|entry| log.append(entry).unwrap());
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
        let (mut log, _) = LogFile::open(&path).unwrap();
        [entry(1), entry(2)].iter().for_each(|entry| log.append(entry).unwrap());
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
        LogFile::open(&path).unwrap().0.append(&entry(1)).unwrap();
        assert_eq!(here.news().unwrap(), [entry(1)]);
        assert_eq!(here.news().unwrap(), []);
        here.append(&entry(2)).unwrap();
        assert_eq!(LogFile::open(&path).unwrap().1.entries, [entry(1), entry(2)]);
    }
}
