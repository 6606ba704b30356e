//! Attachments: sealed chunks kept as files, sealed and opened as they stream, fetched from whoever has them.
//!
//! A file is cut into chunks of 1 MiB, each sealed on its own under one random key that stands in the sealed
//! entry beside the chunks' BLAKE3 hashes. So only who can open the entry can open the file; a node serves
//! sealed chunks of a circle to those that proved they share it, and cannot tell what they belong to.
//!
//! This file refuses to know entries and their markings.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cwn_crypto::{
    encoding,
    seal::{Age, EpochKey, Seal},
};
use cwn_engine::{log::CircleId, wire::Tag};
use cwn_functions::payload::{AttachmentRef, ChunkHash};
use minicbor::{Decode, Encode};

use crate::files::{self, Written, at};

/// Plaintext in one chunk.
pub const CHUNK_BYTES: usize = AttachmentRef::CHUNK_BYTES as usize;
/// A sealed chunk: age adds a header of about 300 bytes, and 16 bytes for every 64 KiB.
pub const SEALED_BYTES: usize = CHUNK_BYTES + (4 << 10);
/// A request for a chunk.
pub const REQUEST_BYTES: usize = 128;

/// What a node asks another for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ChunkRequest {
    /// The circle, by the asker's tag.
    #[n(0)]
    pub tag: Tag,
    /// The chunk.
    #[n(1)]
    pub chunk: ChunkHash,
}

impl ChunkRequest {
    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::to_bytes(self)
    }

    /// Reads a request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, encoding::Refusal> {
        encoding::beginning_from_bytes(bytes, REQUEST_BYTES)
    }
}

/// Why a chunk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// It is not here (yet).
    #[error("a part of the attachment has not arrived yet; try again when a partner that has it is connected")]
    Absent,
    /// What is here is not what the entry names.
    #[error("a part of the attachment is damaged and was set aside; it is fetched again from a partner that has it")]
    Damaged,
    /// It does not open.
    #[error("a part of the attachment does not open with the key in the entry")]
    Closed,
}

/// The chunks of a node.
#[derive(Debug, Clone)]
pub struct Chunks {
    dir: PathBuf,
    /// Those sealed since the start that no entry and no draft names yet.
    unnamed: Arc<Mutex<BTreeSet<(CircleId, ChunkHash)>>>,
}

impl Chunks {
    /// Chunks kept below the data directory.
    pub fn new(data: &Path) -> Self {
        Self { dir: data.join("chunks"), unnamed: Arc::default() }
    }

    fn unnamed(&self) -> MutexGuard<'_, BTreeSet<(CircleId, ChunkHash)>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The circles of which there are chunks, or were.
    pub fn circles(&self) -> Vec<CircleId> {
        let circles = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        circles.filter_map(|circle| CircleId::from_hex(circle.file_name().to_str()?)).collect()
    }

    /// The chunks of a circle that are here.
    pub fn held(&self, circle: &CircleId) -> Result<BTreeSet<ChunkHash>, Error> {
        let dir = self.dir.join(circle.to_string());
        let listed = match fs::read_dir(&dir) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            listed => listed.map_err(at(&dir))?,
        };
        let mut held = BTreeSet::new();
        for item in listed {
            // What is being written has another name.
            held.extend(item.map_err(at(&dir))?.file_name().to_str().and_then(encoding::hex_decode).map(ChunkHash));
        }
        Ok(held)
    }

    /// Whether a chunk belongs to a file that is coming in, or that waits to be published.
    pub fn is_unnamed(&self, circle: &CircleId, chunk: &ChunkHash) -> bool {
        self.unnamed().contains(&(*circle, *chunk))
    }

    /// An entry or a draft that is durable names these chunks now.
    pub fn settled(&self, circle: &CircleId, chunks: &[ChunkHash]) {
        let mut unnamed = self.unnamed();
        for chunk in chunks {
            unnamed.remove(&(*circle, *chunk));
        }
    }

    /// Takes chunks off the disk. Durable when this returns.
    pub fn remove(&self, circle: &CircleId, chunks: &BTreeSet<ChunkHash>) -> Result<(), Error> {
        for chunk in chunks {
            let path = self.path(circle, chunk);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(at(&path)(source).into()),
                _ => {}
            }
        }
        let dir = self.dir.join(circle.to_string());
        Ok(files::sync_dir(&dir).map_err(at(&dir))?)
    }

    fn path(&self, circle: &CircleId, chunk: &ChunkHash) -> PathBuf {
        let mut name = String::with_capacity(64);
        // Writing to a string cannot fail.
        let _ = encoding::hex(&chunk.0, &mut name);
        self.dir.join(circle.to_string()).join(name)
    }

    /// Takes away what a killed process left of chunks that were coming in; gives how many there were. They are
    /// fetched again.
    pub fn clear_new(&self) -> usize {
        let circles = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        circles.map(|circle| files::clear_new(&circle.path())).sum()
    }

    /// Whether a chunk is here.
    pub fn holds(&self, circle: &CircleId, chunk: &ChunkHash) -> bool {
        self.path(circle, chunk).exists()
    }

    /// Keeps a sealed chunk, if it is the one that was asked for. Durable when this returns.
    pub fn keep(&self, circle: &CircleId, chunk: &ChunkHash, sealed: &[u8]) -> Result<(), Error> {
        self.name_all(circle, vec![self.write(circle, chunk, sealed)?])
    }

    /// Writes a sealed chunk, if it is the one that was asked for. It is here once it has its name.
    pub fn write(&self, circle: &CircleId, chunk: &ChunkHash, sealed: &[u8]) -> Result<Written, Error> {
        if *blake3::hash(sealed).as_bytes() != chunk.0 {
            return Err(Error::Damaged);
        }
        let path = self.path(circle, chunk);
        files::make_dir(files::dir_of(&path)).map_err(at(&path))?;
        Ok(Written::new(&path, sealed).map_err(at(&path))?)
    }

    /// Gives chunks of a circle that were written their names, all with one fsync. Durable when this returns.
    pub fn name_all(&self, circle: &CircleId, written: Vec<Written>) -> Result<(), Error> {
        let dir = self.dir.join(circle.to_string());
        Ok(files::name_all(&dir, written).map_err(at(&dir))?)
    }

    /// A sealed chunk, as it is served: verified, so that damage on this disk goes no further.
    pub fn sealed(&self, circle: &CircleId, chunk: &ChunkHash) -> Result<Vec<u8>, Error> {
        let path = self.path(circle, chunk);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(Error::Absent),
            Err(source) => return Err(at(&path)(source).into()),
        };
        if *blake3::hash(&sealed).as_bytes() != chunk.0 {
            // Out of the way, so that it is fetched again.
            fs::remove_file(&path).map_err(at(&path))?;
            return Err(Error::Damaged);
        }
        Ok(sealed)
    }

    /// A chunk's plaintext.
    pub fn open(&self, circle: &CircleId, chunk: &ChunkHash, key: &EpochKey) -> Result<Vec<u8>, Error> {
        let sealed = self.sealed(circle, chunk)?;
        Age.open_with_epoch(key, &sealed, CHUNK_BYTES).map_err(|_refusal| Error::Closed)
    }

    /// Seals and keeps one chunk of a new attachment, which nothing names until it is published.
    pub fn seal(&self, circle: &CircleId, key: &EpochKey, plaintext: &[u8]) -> Result<ChunkHash, Error> {
        let sealed = Age.seal_to_epoch(key, plaintext);
        let chunk = ChunkHash(*blake3::hash(&sealed).as_bytes());
        self.unnamed().insert((*circle, chunk));
        self.keep(circle, &chunk, &sealed)?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::Hash;

    use super::*;

    const CIRCLE: CircleId = CircleId(Hash([7; 32]));

    #[test]
    fn a_chunk_opens_with_its_key_and_with_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let chunks = Chunks::new(dir.path());
        let key = EpochKey::from_bytes([1; 32]);
        let chunk = chunks.seal(&CIRCLE, &key, b"a file").unwrap();
        assert_eq!(chunks.open(&CIRCLE, &chunk, &key).unwrap(), b"a file");
        assert!(matches!(chunks.open(&CIRCLE, &chunk, &EpochKey::from_bytes([2; 32])), Err(Error::Closed)));
    }

    #[test]
    fn a_damaged_chunk_is_neither_served_nor_kept() {
        let dir = tempfile::tempdir().unwrap();
        let chunks = Chunks::new(dir.path());
        let chunk = chunks.seal(&CIRCLE, &EpochKey::from_bytes([1; 32]), b"a file").unwrap();
        let mut sealed = chunks.sealed(&CIRCLE, &chunk).unwrap();
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        fs::write(chunks.path(&CIRCLE, &chunk), &sealed).unwrap();
        assert!(matches!(chunks.sealed(&CIRCLE, &chunk), Err(Error::Damaged)));
        assert!(matches!(chunks.sealed(&CIRCLE, &chunk), Err(Error::Absent)));
        assert!(matches!(chunks.keep(&CIRCLE, &chunk, &sealed), Err(Error::Damaged)));
    }

    #[test]
    fn a_chunk_of_one_circle_is_not_found_in_another() {
        let dir = tempfile::tempdir().unwrap();
        let chunks = Chunks::new(dir.path());
        let chunk = chunks.seal(&CIRCLE, &EpochKey::from_bytes([1; 32]), b"a file").unwrap();
        assert!(matches!(chunks.sealed(&CircleId(Hash([8; 32])), &chunk), Err(Error::Absent)));
    }
}
