//! A file that is carried by hand or kept: frames, each whole or refused, with an end that shows when something is
//! missing.
//!
//! ```text
//! head     kind 8 | version 4
//! frame    length 4 | bytes …
//! end      0 4 | length of all before 8 | SHA-256 of all before 32
//! ```
//!
//! Integers are big-endian. The digest finds what a bad stick or a broken copy did; against people it proves
//! nothing, that is for what stands in the frames.
//!
//! This file refuses to know what frames mean; `carry/` and `backup.rs` do.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

/// A frame: a run of a megabyte, its keys and its seal.
pub const FRAME_BYTES: usize = 2 << 20;

/// What a parcel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A circle, from `cwn export`.
    Circle,
    /// A node, from `cwn backup`.
    Backup,
}

const VERSION: u32 = 1;
const HEAD_BYTES: usize = 12;
const END_BYTES: usize = 4 + 8 + 32;
const READ_BYTES: usize = 256 << 10;

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Circle => b"cwn-circ",
            Self::Backup => b"cwn-back",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Circle => "cwn export",
            Self::Backup => "cwn backup",
        }
    }
}

/// Why a file is not read, or not read further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another file.
    #[error("this is no file of `{}`; was another one meant?", .wanted.command())]
    OtherFile {
        /// What it was to be.
        wanted: Kind,
    },
    /// A later program wrote it.
    #[error("the file has version {found}, where this program knows {VERSION}; use a newer program")]
    Newer {
        /// The version it has.
        found: u32,
    },
    /// It ends too early.
    #[error("the file breaks off after {at} bytes; copy it again from where it was made")]
    CutShort {
        /// Its length.
        at: u64,
    },
    /// A length that no frame has.
    #[error("the file is damaged at byte {at}; copy it again from where it was made")]
    Damaged {
        /// Where the frame begins.
        at: u64,
    },
    /// The digest is not that of what came.
    #[error("the file was damaged on its way: its digest does not match; copy it again from where it was made")]
    Digest,
    /// Bytes behind the end.
    #[error("the file goes on behind its end at byte {at}; copy it again from where it was made")]
    TooLong {
        /// Where it should have ended.
        at: u64,
    },
}

/// Makes the bytes of a parcel.
#[derive(Debug)]
pub struct Packer {
    digest: Sha256,
    length: u64,
}

impl Packer {
    /// Begins one: the first bytes are to be written first.
    pub fn begin(kind: Kind) -> (Self, Vec<u8>) {
        let mut packer = Self { digest: Sha256::new(), length: 0 };
        let head = [kind.magic().as_slice(), &VERSION.to_be_bytes()].concat();
        packer.count(&head);
        (packer, head)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The bytes of the next frame.
    pub fn frame(&mut self, frame: &[u8]) -> Vec<u8> {
        assert!((1..=FRAME_BYTES).contains(&frame.len()), "a frame of {} bytes", frame.len());
        let bytes = [&(frame.len() as u32).to_be_bytes(), frame].concat();
        self.count(&bytes);
        bytes
    }

    /// The last bytes.
    pub fn end(self) -> Vec<u8> {
        let digest: [u8; 32] = self.digest.finalize().into();
        [[0; 4].as_slice(), &self.length.to_be_bytes(), &digest].concat()
    }
}

/// Takes a parcel apart as its bytes come in.
#[derive(Debug)]
pub struct Unpacker {
    kind: Kind,
    digest: Sha256,
    /// Bytes taken apart so far.
    at: u64,
    /// Whether the head was read.
    begun: bool,
    /// Whether the end was read.
    ended: bool,
    waiting: Vec<u8>,
    /// How much of those was taken apart.
    used: usize,
}

impl Unpacker {
    /// For a file of this kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, digest: Sha256::new(), at: 0, begun: false, ended: false, waiting: Vec::new(), used: 0 }
    }

    /// Takes the next bytes. Take the frames out before more come: they are held until then.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.drain(..self.used);
        self.used = 0;
        self.waiting.extend_from_slice(bytes);
    }

    /// The next frame, if all of it has come.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        if !self.begun {
            let Some(head) = self.peek(HEAD_BYTES) else {
                let magic = &self.kind.magic()[..self.waiting.len().min(8)];
                let fits = self.waiting.starts_with(magic);
                return if fits { Ok(None) } else { Err(Refusal::OtherFile { wanted: self.kind }) };
            };
            if head[..8] != *self.kind.magic() {
                return Err(Refusal::OtherFile { wanted: self.kind });
            }
            match u32_at(head, 8) {
                VERSION => {}
                found if found > VERSION => return Err(Refusal::Newer { found }),
                _ => return Err(Refusal::Damaged { at: 8 }),
            }
            self.take(HEAD_BYTES);
            self.begun = true;
        }
        if self.ended {
            let more = self.waiting.len() > self.used;
            return if more { Err(Refusal::TooLong { at: self.at }) } else { Ok(None) };
        }
        let Some(length) = self.peek(4).map(|bytes| u32_at(bytes, 0) as usize) else { return Ok(None) };
        if length > FRAME_BYTES {
            return Err(Refusal::Damaged { at: self.at });
        }
        if length > 0 {
            let Some(bytes) = self.peek(4 + length) else { return Ok(None) };
            let frame = bytes[4..].to_vec();
            self.take(4 + length);
            return Ok(Some(frame));
        }
        let Some(end) = self.peek(END_BYTES) else { return Ok(None) };
        let digest: [u8; 32] = self.digest.clone().finalize().into();
        let sound = end[4..12] == self.at.to_be_bytes() && end[12..] == digest;
        if !sound {
            return Err(Refusal::Digest);
        }
        self.used += END_BYTES;
        self.at += END_BYTES as u64;
        self.ended = true;
        self.next_frame()
    }

    /// Says that no more bytes come; refuses when some are missing.
    pub fn finish(&self) -> Result<(), Refusal> {
        if self.ended {
            Ok(())
        } else {
            Err(Refusal::CutShort { at: self.at + (self.waiting.len() - self.used) as u64 })
        }
    }

    /// How many bytes were taken apart.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn peek(&self, length: usize) -> Option<&[u8]> {
        self.waiting.get(self.used..self.used + length)
    }

    fn take(&mut self, length: usize) {
        self.digest.update(&self.waiting[self.used..self.used + length]);
        self.used += length;
        self.at += length as u64;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Why a file on this machine was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The disk.
    #[error("{0}{remedy}", remedy = crate::files::remedy(.0))]
    Io(#[from] io::Error),
    /// It is not what it should be.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A parcel in a file here. Its errors do not name the file: whoever opened it knows.
#[derive(Debug)]
pub struct Parcel {
    file: File,
    unpacker: Unpacker,
    buffer: Vec<u8>,
}

impl Parcel {
    /// Opens one.
    pub fn open(path: &Path, kind: Kind) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, unpacker: Unpacker::new(kind), buffer: vec![0; READ_BYTES] })
    }

    /// The next frame; none at a sound end.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Unread> {
        loop {
            if let Some(frame) = self.unpacker.next_frame()? {
                return Ok(Some(frame));
            }
            match self.file.read(&mut self.buffer)? {
                0 => {
                    self.unpacker.finish()?;
                    return Ok(None);
                }
                read => self.unpacker.push(&self.buffer[..read]),
            }
        }
    }

    /// How many bytes were read and taken apart.
    pub fn at(&self) -> u64 {
        self.unpacker.at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(frames: &[&[u8]]) -> Vec<u8> {
        let (mut packer, mut bytes) = Packer::begin(Kind::Circle);
        frames.iter().for_each(|frame| bytes.extend(packer.frame(frame)));
        bytes.extend(packer.end());
        bytes
    }

    /// What comes out of a file that comes in by pieces of this size.
    fn unpack(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<(), Refusal>) {
        let mut unpacker = Unpacker::new(Kind::Circle);
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            unpacker.push(piece);
            loop {
                match unpacker.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(refusal) => return (frames, Err(refusal)),
                }
            }
        }
        let end = unpacker.finish();
        (frames, end)
    }

    #[test]
    fn frames_come_back_however_the_bytes_come_in() {
        let bytes = parcel(&[b"one", b"two", &[7; 5_000]]);
        for piece in [1, 3, 64, bytes.len()] {
            assert_eq!(unpack(&bytes, piece), (vec![b"one".to_vec(), b"two".to_vec(), vec![7; 5_000]], Ok(())));
        }
    }

    #[test]
    fn a_file_cut_short_anywhere_is_said_to_be_so_and_what_came_before_is_given() {
        let bytes = parcel(&[b"one", b"two"]);
        for length in 0..bytes.len() {
            let (frames, end) = unpack(&bytes[..length], 5);
            assert_eq!(end, Err(Refusal::CutShort { at: length as u64 }), "cut at {length}");
            assert_eq!(frames.len(), usize::from(length >= 19) + usize::from(length >= 26), "cut at {length}");
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_found() {
        let bytes = parcel(&[b"one", b"two"]);
        for at in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 1;
            assert!(unpack(&rotten, 64).1.is_err(), "at byte {at}");
        }
    }

    #[test]
    fn another_file_a_newer_one_and_one_with_more_behind_it_are_told_apart() {
        let bytes = parcel(&[b"one"]);
        assert_eq!(unpack(b"PK\x03\x04 a zip", 64).1, Err(Refusal::OtherFile { wanted: Kind::Circle }));
        let mut newer = bytes.clone();
        newer[11] = 2;
        let refusal = unpack(&newer, 64).1.unwrap_err();
        assert_eq!(refusal, Refusal::Newer { found: 2 });
        assert!(refusal.to_string().contains("use a newer program"), "{refusal}");
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(unpack(&longer, 64).1, Err(Refusal::TooLong { at: bytes.len() as u64 }));
    }

    #[test]
    fn a_length_that_no_frame_has_asks_for_no_memory() {
        let mut bytes = parcel(&[b"one"]);
        bytes[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(unpack(&bytes, 64).1, Err(Refusal::Damaged { at: 12 }));
    }
}
