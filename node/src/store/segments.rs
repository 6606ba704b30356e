//! The truth on disk: append-only segment files, of which only the tail of the last may ever be torn.
//!
//! A segment is a header and then frames. Every append is one or more batches of frames, each closed by a
//! commit frame, made durable together before `append` returns. So what lies behind the last commit after a
//! crash was never acknowledged and is cut off; damage anywhere else is rot, which is reported and never
//! served.
//!
//! ```text
//! segment  header header frame… commit frame… commit …      the header twice: one flipped bit must not cost all
//! header   magic 8 | version 4 | number 4 | salt 8 | chain 4 | crc 4
//! frame    length 4 | kind 1 | crc of the body 4 | crc of the head 4 | body
//! commit   a frame whose body is: where its append began 4 | chain 4
//! ```
//!
//! A frame's payload is erased or dropped, and a frame that was damaged and stands elsewhere again is made void, by writing
//! the segment anew beside the old one and putting it in its place. Offsets and lengths stay, with zeros for what
//! is gone, so that whoever knows where something stands is still right.
//!
//! Integers are little-endian. The crc of a head covers the segment's salt and the frame's own offset, so that
//! the walk finds its way again behind a damaged frame, and no payload, whoever made it up, looks like a frame
//! of this segment. The chain runs over the heads of all frames of all segments: it shows writes that a disk
//! lost or put elsewhere, and lets an index say which history it knows. A batch in which something was erased is
//! no longer the one whose chain its commit names, and is not held to it.
//!
//! This file refuses to know what bodies mean; that is the store's own file, `mod.rs`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crc32fast::Hasher;

use super::Error;
use crate::disk::{Disk, DiskFile, Site};

const MAGIC: &[u8; 8] = b"cwn-seg\n";
const VERSION: u32 = 1;
const HEADER_COPY_BYTES: usize = 32;
/// Where the first frame of a segment stands.
const HEADER_BYTES: u32 = 2 * HEADER_COPY_BYTES as u32;
const HEAD_BYTES: u32 = 13;
const COMMIT_BODY_BYTES: u32 = 8;
const COMMIT_BYTES: u32 = HEAD_BYTES + COMMIT_BODY_BYTES;

/// The body of a frame: an entry with the longest header and payload, or a record that fills a frame on the
/// wire, with room to spare; small enough that a damaged length cannot ask for much memory.
pub(super) const BODY_BYTES: usize = 2 << 20;

/// Bytes between two commits, at most: what has to be written again when a crash tears an append. A larger one
/// is committed in parts, of which a crash keeps the first few; more than that was never promised.
const BATCH_BYTES: u32 = 16 << 20;

/// One write to the file: keeps the buffer small while a large batch passes through.
const WRITE_BYTES: usize = 4 << 20;

/// Read at once when a segment is walked.
const WINDOW_BYTES: u32 = 1 << 20;

/// Segments held open for reading: 4 GiB of them, far below the usual 1,024 descriptors of a process.
const OPEN_SEGMENTS: usize = 64;

/// What the name of a segment that is being written anew ends in, until it takes its place.
const REWRITTEN: &str = ".seg.new";

/// The number of the first segment. Its chain is 0.
const FIRST: u32 = 1;

/// The largest size a segment may be rolled at: offsets are 32 bits wide, and one frame may come on top.
const SEGMENT_BYTES_MOST: u32 = 1 << 30;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    Record,
    Fact,
    Commit,
    /// That an entry's payload is not to be kept, and by what its author took it back.
    Erasure,
    /// An entry without its payload.
    Erased,
    /// Nothing: what stood here stands elsewhere.
    Void,
    /// That a log is forgotten from some height on.
    Rewind,
    /// That an entry's payload was dropped by time.
    Drop,
    /// An entry whose payload was dropped by time.
    Dropped,
    /// An entry that came with a retraction in the place of its payload.
    Bare,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Entry,
        Self::Record,
        Self::Fact,
        Self::Commit,
        Self::Erasure,
        Self::Erased,
        Self::Void,
        Self::Rewind,
        Self::Drop,
        Self::Dropped,
        Self::Bare,
    ];

    fn byte(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Record => 2,
            Self::Fact => 3,
            Self::Commit => 4,
            Self::Erasure => 5,
            Self::Erased => 6,
            Self::Void => 7,
            Self::Rewind => 8,
            Self::Drop => 9,
            Self::Dropped => 10,
            Self::Bare => 11,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Where a frame stands, and how long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Place {
    /// Where the frame ends.
    pub(super) fn end(self) -> u32 {
        self.offset.saturating_add(HEAD_BYTES).saturating_add(self.length)
    }
}

/// A place between two batches, and the chain of all that stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) chain: u32,
}

/// Why something in a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("segment {0} is missing")]
    Missing(u32),
    #[error("both headers of segment {0} are damaged")]
    Header(u32),
    #[error("segment {} at {}: {what}", .place.segment, .place.offset)]
    Frame { place: Place, what: &'static str },
    #[error("segment {segment}: {source}")]
    Io { segment: u32, source: io::Error },
}

/// Bytes of a segment that cannot be read: `start..end`, and the kind of frame, where one is known.
#[derive(Debug)]
pub(super) struct Hole {
    pub(super) segment: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) kind: Option<Kind>,
    /// The disk gave an error: what stands there may be whole, and be read another time.
    pub(super) unread: bool,
    pub(super) why: String,
}

/// A frame that takes the place of another: as long, its body zeros behind what is kept.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) kept: Vec<u8>,
}

impl Replacement {
    /// Nothing in place of what stood there.
    pub(super) fn void(place: Place) -> Self {
        Self { place, kind: Kind::Void, kept: Vec::new() }
    }
}

// ---------------------------------------------------------------------------------------------- one segment

#[derive(Debug)]
struct Segment {
    number: u32,
    file: DiskFile,
    salt: u64,
    /// The chain of all before this segment.
    chain: u32,
}

enum HeaderTrouble {
    NotASegment,
    Version(u32),
    Damaged,
}

fn header_bytes(number: u32, salt: u64, chain: u32) -> [u8; HEADER_BYTES as usize] {
    let mut copy = Vec::with_capacity(HEADER_COPY_BYTES);
    copy.extend_from_slice(MAGIC);
    copy.extend_from_slice(&VERSION.to_le_bytes());
    copy.extend_from_slice(&number.to_le_bytes());
    copy.extend_from_slice(&salt.to_le_bytes());
    copy.extend_from_slice(&chain.to_le_bytes());
    copy.extend_from_slice(&crc32fast::hash(&copy).to_le_bytes());
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes.chunks_exact_mut(HEADER_COPY_BYTES).for_each(|half| half.copy_from_slice(&copy));
    bytes
}

/// The salt and the chain that a header names.
fn read_header(bytes: &[u8], number: u32) -> Result<(u64, u32), HeaderTrouble> {
    let copies = || bytes.chunks_exact(HEADER_COPY_BYTES);
    if !copies().any(|copy| copy.starts_with(MAGIC)) {
        return Err(HeaderTrouble::NotASegment);
    }
    let sound = |copy: &&[u8]| copy.starts_with(MAGIC) && crc32fast::hash(&copy[..28]) == u32_at(copy, 28);
    let copy = copies().find(sound).ok_or(HeaderTrouble::Damaged)?;
    match (u32_at(copy, 8), u32_at(copy, 12)) {
        (VERSION, named) if named == number => Ok((u64_at(copy, 16), u32_at(copy, 24))),
        (VERSION, _) => Err(HeaderTrouble::Damaged),
        (version, _) => Err(HeaderTrouble::Version(version)),
    }
}

/// Reads an integer that the caller knows to be there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}

fn head_bytes(salt: u64, offset: u32, kind: Kind, body: &[u8]) -> [u8; HEAD_BYTES as usize] {
    let mut head = [0; HEAD_BYTES as usize];
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4] = kind.byte();
    head[5..9].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = head_crc(salt, offset, &head);
    head[9..].copy_from_slice(&crc.to_le_bytes());
    head
}

fn head_crc(salt: u64, offset: u32, head: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&head[..9]);
    hasher.finalize()
}

/// What the head of a frame says, if it is one of this segment at this offset.
fn read_head(salt: u64, offset: u32, head: &[u8]) -> Option<(Kind, u32)> {
    let length = u32_at(head, 0);
    let kind = Kind::of(head[4])?;
    // The cheap questions come first: this runs at every byte behind a damaged head.
    let plausible = length as usize <= BODY_BYTES && (kind != Kind::Commit || length == COMMIT_BODY_BYTES);
    (plausible && u32_at(head, 9) == head_crc(salt, offset, head)).then_some((kind, length))
}

fn next_chain(chain: u32, heads: &Hasher) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(&heads.clone().finalize().to_le_bytes());
    hasher.finalize()
}

/// A moving view of a segment, so that a walk needs no more memory than one frame and a bit.
struct Window<'a> {
    file: &'a DiskFile,
    end: u32,
    start: u32,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes from `offset` on; `None` when they reach beyond the end.
    fn get(&mut self, offset: u32, length: u32) -> io::Result<Option<&[u8]>> {
        let Some(wanted_end) = offset.checked_add(length).filter(|end| *end <= self.end) else { return Ok(None) };
        if offset < self.start || u64::from(wanted_end) > u64::from(self.start) + self.bytes.len() as u64 {
            let length = length.max(WINDOW_BYTES.min(self.end - offset));
            self.bytes.resize(length as usize, 0);
            // Nothing stands in the window while a read may fail.
            self.start = u32::MAX;
            self.file.read_exact_at(Site::WalkRead, &mut self.bytes, u64::from(offset))?;
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.bytes[at..at + length as usize]))
    }
}

/// What a walk meets.
enum Step<'a> {
    Frame(Place, Kind, &'a [u8]),
    Commit { append_start: u32, end: u32, chain: u32 },
    Hole(Hole),
}

impl Segment {
    /// Walks the frames in `from..to` and returns the chain at the end, unless it was lost in a hole. `chain`
    /// is the one at `from`.
    fn walk(
        &self,
        from: u32,
        to: u32,
        mut chain: Option<u32>,
        visit: &mut dyn FnMut(Step<'_>) -> Result<(), Error>,
    ) -> Result<Option<u32>, Walk> {
        let mut window = Window { file: &self.file, end: to, start: from, bytes: Vec::new() };
        let mut heads = Hasher::new();
        let mut at = from;
        while at < to {
            let io = move |source| Walk::Io { at, source };
            let head: Option<[u8; HEAD_BYTES as usize]> =
                window.get(at, HEAD_BYTES).map_err(io)?.and_then(|head| head.try_into().ok());
            let known = head.and_then(|head| read_head(self.salt, at, &head));
            let place = known.map(|(kind, length)| (kind, Place { segment: self.number, offset: at, length }));
            let reachable = place.filter(|(_, place)| place.end() <= to);
            let hole = move |end, kind, why: &str| {
                Step::Hole(Hole { segment: self.number, start: at, end, kind, unread: false, why: why.to_owned() })
            };
            let (Some(head), Some((kind, place))) = (head, reachable) else {
                let end = self.find_frame(&mut window, at + 1, to).map_err(io)?;
                visit(hole(end, None, "no frame begins here")).map_err(Walk::Visit)?;
                (chain, at) = (None, end);
                continue;
            };
            let body = window.get(at + HEAD_BYTES, place.length).map_err(io)?.unwrap_or_default();
            if crc32fast::hash(body) != u32_at(&head, 5) {
                visit(hole(place.end(), Some(kind), "the checksum does not match")).map_err(Walk::Visit)?;
                chain = None;
            } else if kind == Kind::Commit {
                let (append_start, said) = (u32_at(body, 0), u32_at(body, 4));
                let expected = chain.map(|chain| next_chain(chain, &heads));
                heads = Hasher::new();
                chain = Some(said);
                if expected.is_some_and(|expected| expected != said) {
                    visit(hole(place.end(), Some(kind), "the batch before it is not the one that was committed"))
                } else {
                    visit(Step::Commit { append_start, end: place.end(), chain: said })
                }
                .map_err(Walk::Visit)?;
            } else {
                match kind {
                    // Something else may have stood here when the batch was committed.
                    Kind::Erased | Kind::Dropped | Kind::Void => chain = None,
                    _ => heads.update(&head),
                }
                visit(Step::Frame(place, kind, body)).map_err(Walk::Visit)?;
            }
            at = place.end();
        }
        Ok(chain)
    }

    /// Where the next whole frame begins, or `to`.
    fn find_frame(&self, window: &mut Window<'_>, from: u32, to: u32) -> io::Result<u32> {
        for at in from..to {
            let Some(head) = window.get(at, HEAD_BYTES)? else { break };
            let Some((_, length)) = read_head(self.salt, at, head) else { continue };
            let crc = u32_at(head, 5);
            if window.get(at + HEAD_BYTES, length)?.is_some_and(|body| crc32fast::hash(body) == crc) {
                return Ok(at);
            }
        }
        Ok(to)
    }

    /// Whether a commit that ends at `position` names its chain, or the segment begins there.
    fn vouches_for(&self, position: Position) -> io::Result<bool> {
        if position.offset == HEADER_BYTES {
            return Ok(position.chain == self.chain);
        }
        let Some(offset) = position.offset.checked_sub(COMMIT_BYTES) else { return Ok(false) };
        let mut frame = [0; COMMIT_BYTES as usize];
        match self.file.read_exact_at(Site::VouchRead, &mut frame, u64::from(offset)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        Ok(read_head(self.salt, offset, &frame).is_some_and(|(kind, _)| kind == Kind::Commit)
            && crc32fast::hash(&frame[HEAD_BYTES as usize..]) == u32_at(&frame, 5)
            && u32_at(&frame, HEAD_BYTES as usize + 4) == position.chain)
    }

    /// Where the last segment of a store must be cut: behind the last commit that nothing unacknowledged
    /// precedes, and the chain there. `from` is known to be durable.
    ///
    /// An append begins only after the one before it was acknowledged. So damage before the last append is
    /// rot and stays, to be reported; damage within the last append may be the tear of a crash. Also says from
    /// where on what stays is of that last append, which may not be durable.
    fn tear(&self, from: Position, to: u32) -> Result<(Position, u32), Walk> {
        let mut append_start = from.offset;
        let mut before = from;
        let mut commits: Vec<Position> = Vec::new();
        let mut holes: Vec<u32> = Vec::new();
        let (segment, first_chain) = (self.number, from.chain);
        self.walk(from.offset, to, Some(first_chain), &mut |step| {
            match step {
                Step::Frame(..) => {}
                Step::Hole(hole) => holes.push(hole.start),
                Step::Commit { append_start: start, end, chain } => {
                    if start != append_start {
                        before = Position { offset: start, ..commits.last().copied().unwrap_or(before) };
                        append_start = start;
                        commits.clear();
                        holes.retain(|hole| *hole >= start);
                    }
                    commits.push(Position { segment, offset: end, chain });
                }
            }
            Ok(())
        })?;
        let first_hole = holes.first().copied().unwrap_or(u32::MAX);
        let tail = commits.into_iter().rfind(|commit| commit.offset <= first_hole).unwrap_or(before);
        Ok((tail, append_start.min(tail.offset)))
    }
}

/// Is told of a frame and its body.
pub(super) type OnFrame<'a> = dyn FnMut(Place, Kind, &[u8]) -> Result<(), Error> + 'a;

/// Why a walk ended early.
enum Walk {
    Io { at: u32, source: io::Error },
    Visit(Error),
}

// ------------------------------------------------------------------------------------------- all of them

/// The segments of a store, for reading; shared between threads.
#[derive(Debug)]
pub(super) struct Files {
    disk: Disk,
    dir: PathBuf,
    open: Mutex<BTreeMap<u32, Arc<Segment>>>,
}

/// The segments found in a directory, before it is known which of their bytes count.
#[derive(Debug)]
pub(super) struct Found {
    files: Arc<Files>,
    /// From the first to the last, missing ones not among them.
    numbers: Vec<u32>,
    cut_back_bytes: u64,
}

impl Files {
    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}.seg"))
    }

    fn segment(&self, number: u32) -> Result<Arc<Segment>, Unreadable> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = open.get(&number) {
            return Ok(segment.clone());
        }
        let io = |source| Unreadable::Io { segment: number, source };
        let file = match self.disk.open(Site::SegmentOpen, &self.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unreadable::Missing(number)),
            opened => opened.map_err(io)?,
        };
        let mut header = [0; HEADER_BYTES as usize];
        match file.read_exact_at(Site::SegmentHeaderRead, &mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Unreadable::Header(number)),
            read => read.map_err(io)?,
        }
        let Ok((salt, chain)) = read_header(&header, number) else { return Err(Unreadable::Header(number)) };
        let segment = Arc::new(Segment { number, file, salt, chain });
        if open.len() >= OPEN_SEGMENTS {
            open.pop_first();
        }
        open.insert(number, segment.clone());
        Ok(segment)
    }

    /// The bytes `start..end` of a segment, in one read.
    pub(super) fn span(&self, segment: u32, start: u32, end: u32) -> Result<Span, Unreadable> {
        let open = self.segment(segment)?;
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        let io = |source| Unreadable::Io { segment, source };
        open.file.read_exact_at(Site::FrameRead, &mut bytes, u64::from(start)).map_err(io)?;
        Ok(Span { salt: open.salt, start, bytes })
    }

    /// The body of one frame, which must be of this kind.
    pub(super) fn body(&self, place: Place, kind: Kind) -> Result<Vec<u8>, Unreadable> {
        match self.frame(place)? {
            (found, body) if found == kind => Ok(body),
            _ => Err(Unreadable::Frame { place, what: "not the frame that was written here" }),
        }
    }

    /// What kind of frame stands in a place, and its body.
    pub(super) fn frame(&self, place: Place) -> Result<(Kind, Vec<u8>), Unreadable> {
        let mut span = self.span(place.segment, place.offset, place.end())?;
        let (kind, _) = span.frame(place)?;
        Ok((kind, span.bytes.split_off(HEAD_BYTES as usize)))
    }
}

/// Some bytes of a segment.
#[derive(Debug)]
pub(super) struct Span {
    salt: u64,
    start: u32,
    bytes: Vec<u8>,
}

impl Span {
    /// A frame that lies within the span: its kind and its body, the checksums verified.
    pub(super) fn frame(&self, place: Place) -> Result<(Kind, &[u8]), Unreadable> {
        let damaged = |what| Unreadable::Frame { place, what };
        let at = place.offset.checked_sub(self.start).ok_or(damaged("not within what was read"))? as usize;
        let body_at = at + HEAD_BYTES as usize;
        let whole = self.bytes.get(at..body_at + place.length as usize).ok_or(damaged("not within what was read"))?;
        let head = read_head(self.salt, place.offset, whole).filter(|(_, length)| *length == place.length);
        let Some((kind, _)) = head else { return Err(damaged("not the frame that was written here")) };
        let body = &whole[HEAD_BYTES as usize..];
        if crc32fast::hash(body) != u32_at(whole, 5) {
            return Err(damaged("the checksum does not match"));
        }
        Ok((kind, body))
    }
}

impl Found {
    /// Looks which segments are there. A last segment that a crash left without a header is removed, and so is
    /// what it left of one that was being written anew.
    pub(super) fn look(disk: &Disk, dir: &Path) -> Result<Self, Error> {
        disk.make_dir(Site::SegmentsMake, dir).map_err(Error::io(dir))?;
        // Also when it was there: whoever made it may have died before its name was durable.
        let parent = dir.parent().unwrap_or(dir);
        disk.sync_dir(Site::SegmentsNameSync, parent).map_err(Error::io(parent))?;
        let mut numbers = Vec::new();
        for name in disk.list(Site::SegmentsList, dir).map_err(Error::io(dir))? {
            let text = name.to_str().unwrap_or_default();
            let number = |end: &str| text.strip_suffix(end).and_then(|number| number.parse::<u32>().ok());
            if let Some(number) = number(".seg") {
                numbers.push(number);
            } else if number(REWRITTEN).is_some() {
                let path = dir.join(&name);
                disk.remove(Site::LeftoverRemove, &path).map_err(Error::io(&path))?;
            } else {
                return Err(Error::NotASegment { path: dir.join(&name) });
            }
        }
        numbers.sort_unstable();
        let files = Files { disk: disk.clone(), dir: dir.to_owned(), open: Mutex::default() };
        let mut found = Self { files: Arc::new(files), numbers, cut_back_bytes: 0 };
        for number in found.numbers.clone() {
            found.check_header(number)?;
        }
        Ok(found)
    }

    fn check_header(&mut self, number: u32) -> Result<(), Error> {
        let (disk, path) = (&self.files.disk, self.files.path(number));
        let file = disk.open(Site::HeaderOpen, &path).map_err(Error::io(&path))?;
        let length = file.length(Site::HeaderLength).map_err(Error::io(&path))?;
        let mut header = vec![0; length.min(u64::from(HEADER_BYTES)) as usize];
        file.read_exact_at(Site::HeaderRead, &mut header, 0).map_err(Error::io(&path))?;
        let trouble = match read_header(&header, number) {
            Ok(_) if length > u64::from(u32::MAX) => HeaderTrouble::NotASegment,
            Ok(_) if length >= u64::from(HEADER_BYTES) => return Ok(()),
            Ok(_) => HeaderTrouble::Damaged,
            Err(trouble) => trouble,
        };
        // Frames follow only when the header is durable.
        if length <= u64::from(HEADER_BYTES) && self.numbers.last() == Some(&number) {
            disk.remove(Site::HeaderlessRemove, &path).map_err(Error::io(&path))?;
            disk.sync_dir(Site::HeaderlessSync, &self.files.dir).map_err(Error::io(&self.files.dir))?;
            self.cut_back_bytes += length;
            self.numbers.pop();
            return Ok(());
        }
        match trouble {
            HeaderTrouble::NotASegment => Err(Error::NotASegment { path }),
            HeaderTrouble::Version(found) => Err(Error::Version { path, found, known: VERSION }),
            // Found again, and reported, by every walk that comes here.
            HeaderTrouble::Damaged => Ok(()),
        }
    }

    /// Whether anything was ever stored here.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether these segments hold the history that ends at `position`.
    pub(super) fn vouch_for(&self, position: Position) -> Result<bool, Unreadable> {
        if !self.numbers.contains(&position.segment) {
            return Ok(false);
        }
        match self.files.segment(position.segment) {
            Ok(segment) => {
                segment.vouches_for(position).map_err(|source| Unreadable::Io { segment: position.segment, source })
            }
            Err(unread @ Unreadable::Io { .. }) => Err(unread),
            Err(_) => Ok(false),
        }
    }

    /// Cuts a torn tail off and opens the segments for appending; also says how many bytes were cut. All
    /// before `durable`, which these segments vouch for, was acknowledged and is not cut.
    pub(super) fn recover(self, durable: Option<Position>, limit_bytes: u32) -> Result<(Segments, u64), Error> {
        let Self { files, numbers, mut cut_back_bytes } = self;
        let limit_bytes = limit_bytes.min(SEGMENT_BYTES_MOST);
        let last = match numbers.last() {
            None => return Ok((Segments::create(files, FIRST, 0, limit_bytes)?, cut_back_bytes)),
            Some(last) => *last,
        };
        let path = files.path(last);
        let segment = match files.segment(last) {
            Ok(segment) => segment,
            Err(Unreadable::Io { source, .. }) => return Err(Error::io(&path)(source)),
            // Its headers are gone: nothing can be appended to it, and what the chain was is unknown.
            Err(_) => return Ok((Segments::create(files, last.saturating_add(1), 0, limit_bytes)?, cut_back_bytes)),
        };
        let file = files.disk.open_to_write(Site::TailOpen, &path).map_err(Error::io(&path))?;
        let length = file.length(Site::TailLength).map_err(Error::io(&path))?;
        let start = Position { segment: last, offset: HEADER_BYTES, chain: segment.chain };
        let from = durable.filter(|durable| durable.segment == last).unwrap_or(start);
        let (tail, doubtful) =
            segment.tear(from, u32::try_from(length).unwrap_or(u32::MAX)).map_err(|end| match end {
                Walk::Io { source, .. } => Error::io(&path)(source),
                Walk::Visit(error) => error,
            })?;
        if length > u64::from(tail.offset) {
            file.cut(Site::TailCut, u64::from(tail.offset)).map_err(Error::write(&path))?;
            cut_back_bytes += length - u64::from(tail.offset);
        }
        // Also when nothing was cut: the process that wrote the tail may have died before its fdatasync. Or that
        // failed, and then the system may take for written what it only remembers: so it is written once more.
        for start in (doubtful..tail.offset).step_by(WINDOW_BYTES as usize) {
            let mut bytes = vec![0; WINDOW_BYTES.min(tail.offset - start) as usize];
            file.read_exact_at(Site::TailRead, &mut bytes, u64::from(start)).map_err(Error::io(&path))?;
            file.write_all_at(Site::TailWrite, &bytes, u64::from(start)).map_err(Error::write(&path))?;
        }
        file.sync(Site::TailSync).map_err(Error::write(&path))?;
        let segments = Segments {
            files,
            limit_bytes,
            current: Segment { number: last, file, salt: segment.salt, chain: segment.chain },
            tail,
            batch: Batch::begin(tail.offset),
            poisoned: false,
        };
        Ok((segments, cut_back_bytes))
    }
}

/// The segments of a store, for appending.
#[derive(Debug)]
pub(super) struct Segments {
    files: Arc<Files>,
    limit_bytes: u32,
    current: Segment,
    /// Behind the last commit.
    tail: Position,
    batch: Batch,
    poisoned: bool,
}

/// The batch that is being written.
#[derive(Debug, Default)]
struct Batch {
    /// Where this batch's append began within the segment.
    append_start: u32,
    /// Where this batch began.
    start: u32,
    /// Frames not yet handed to the file.
    buffer: Vec<u8>,
    /// How far the file was written.
    written: u32,
    heads: Hasher,
}

impl Batch {
    fn begin(at: u32) -> Self {
        Self { append_start: at, start: at, written: at, ..Self::default() }
    }

    fn end(&self) -> u32 {
        self.written + self.buffer.len() as u32
    }
}

impl Segments {
    fn create(files: Arc<Files>, number: u32, chain: u32, limit_bytes: u32) -> Result<Self, Error> {
        let current = create_segment(&files, number, chain)?;
        let tail = Position { segment: number, offset: HEADER_BYTES, chain };
        let batch = Batch::begin(HEADER_BYTES);
        Ok(Self { files, limit_bytes, current, tail, batch, poisoned: false })
    }

    /// For reading.
    pub(super) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Behind the last commit.
    pub(super) fn tail(&self) -> Position {
        self.tail
    }

    /// Every segment there is, and how much of it stands before the last commit.
    pub(super) fn committed(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        let mut committed = Vec::new();
        for number in FIRST..self.tail.segment {
            let path = self.files.path(number);
            match self.files.disk.length(Site::CommittedLength, &path) {
                // Reported by every walk that comes there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                length => committed.push((path.clone(), length.map_err(Error::io(&path))?)),
            }
        }
        committed.push((self.files.path(self.tail.segment), u64::from(self.tail.offset)));
        Ok(committed)
    }

    /// Before the first frame.
    pub(super) fn start(&self) -> Position {
        Position { segment: FIRST, offset: HEADER_BYTES, chain: 0 }
    }

    /// Refuses all further appends: what was written and what is known about it no longer agree.
    pub(super) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Whether an append failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Appends `count` frames and makes them durable; `write` puts the body of each into the buffer and says
    /// what it is. Any error is final for this value: what the disk holds is unknown until it is read again.
    pub(super) fn append(
        &mut self,
        count: usize,
        write: &mut dyn FnMut(usize, &mut Vec<u8>) -> Kind,
    ) -> Result<Vec<Place>, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        self.poisoned = true;
        let places = self.append_frames(count, write)?;
        self.poisoned = false;
        Ok(places)
    }

    fn append_frames(
        &mut self,
        count: usize,
        write: &mut dyn FnMut(usize, &mut Vec<u8>) -> Kind,
    ) -> Result<Vec<Place>, Error> {
        let mut places = Vec::with_capacity(count);
        self.batch.append_start = self.tail.offset;
        for index in 0..count {
            if self.batch.end() - self.batch.start >= BATCH_BYTES || self.batch.end() >= self.limit_bytes {
                self.commit()?;
            }
            if self.batch.end() == self.batch.start && self.tail.offset >= self.limit_bytes {
                self.roll()?;
            }
            places.push(self.add(&mut |buffer| write(index, buffer)));
            if self.batch.buffer.len() >= WRITE_BYTES {
                self.write_out()?;
            }
        }
        self.commit()?;
        self.sync(Site::AppendSync)?;
        Ok(places)
    }

    fn add(&mut self, write: &mut dyn FnMut(&mut Vec<u8>) -> Kind) -> Place {
        let offset = self.batch.end();
        let buffer = &mut self.batch.buffer;
        let at = buffer.len();
        let body_at = at + HEAD_BYTES as usize;
        buffer.resize(body_at, 0);
        let kind = write(buffer);
        let length = buffer.len() - body_at;
        assert!(length <= BODY_BYTES, "lengths are checked before anything is written");
        let head = head_bytes(self.current.salt, offset, kind, &buffer[body_at..]);
        buffer[at..body_at].copy_from_slice(&head);
        if kind != Kind::Commit {
            self.batch.heads.update(&head);
        }
        Place { segment: self.current.number, offset, length: length as u32 }
    }

    /// Closes the batch, if there is anything in it.
    fn commit(&mut self) -> Result<(), Error> {
        if self.batch.end() == self.batch.start {
            return Ok(());
        }
        let chain = next_chain(self.tail.chain, &self.batch.heads);
        let append_start = self.batch.append_start;
        self.add(&mut |buffer| {
            buffer.extend_from_slice(&append_start.to_le_bytes());
            buffer.extend_from_slice(&chain.to_le_bytes());
            Kind::Commit
        });
        self.write_out()?;
        let end = self.batch.end();
        self.tail = Position { offset: end, chain, ..self.tail };
        let buffer = std::mem::take(&mut self.batch.buffer);
        self.batch = Batch { append_start, buffer, ..Batch::begin(end) };
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), Error> {
        let Batch { buffer, written, .. } = &mut self.batch;
        self.current
            .file
            .write_all_at(Site::AppendWrite, buffer, u64::from(*written))
            .map_err(Error::write(&self.files.path(self.current.number)))?;
        *written += buffer.len() as u32;
        buffer.clear();
        Ok(())
    }

    fn sync(&self, site: Site) -> Result<(), Error> {
        self.current.file.sync(site).map_err(Error::write(&self.files.path(self.current.number)))
    }

    /// Ends this segment, which from now on may not be torn, and starts the next.
    fn roll(&mut self) -> Result<(), Error> {
        self.sync(Site::RollSync)?;
        let number = self.current.number.saturating_add(1);
        self.current = create_segment(&self.files, number, self.tail.chain)?;
        self.tail = Position { segment: number, offset: HEADER_BYTES, chain: self.tail.chain };
        self.batch = Batch { buffer: std::mem::take(&mut self.batch.buffer), ..Batch::begin(HEADER_BYTES) };
        Ok(())
    }

    /// Writes a segment anew with these frames in place of those that stand there now, and puts it in the old one's
    /// place; then what was replaced is gone for good, as far as files can be. After an error either stands there
    /// whole.
    pub(super) fn replace(&mut self, number: u32, frames: &[Replacement]) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if number == self.current.number {
            // A segment that is appended to is never replaced: what is known of its tail stays true.
            self.poisoned = true;
            self.roll()?;
            self.poisoned = false;
        }
        let (disk, path) = (self.files.disk.clone(), self.files.path(number));
        let new = self.files.dir.join(format!("{number:08}{REWRITTEN}"));
        let written = self
            .write_anew(number, frames, &new)
            .and_then(|()| disk.rename(Site::RewriteRename, &new, &path).map_err(Error::write(&path)));
        if let Err(error) = written {
            match disk.remove(Site::RewriteRemove, &new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %new.display(), "it is removed at the next start");
                    self.poisoned = true;
                }
                _ => {}
            }
            return Err(error);
        }
        self.files.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        disk.sync_dir(Site::RewriteNameSync, &self.files.dir).map_err(Error::write(&self.files.dir))
    }

    fn write_anew(&self, number: u32, frames: &[Replacement], new: &Path) -> Result<(), Error> {
        let path = self.files.path(number);
        let old = self.files.segment(number).map_err(|why| match why {
            Unreadable::Io { source, .. } => Error::io(&path)(source),
            why => Error::io(&path)(io::Error::other(why)),
        })?;
        let length = old.file.length(Site::RewriteLength).map_err(Error::io(&path))?;
        let file = self.files.disk.create(Site::RewriteCreate, new).map_err(Error::write(new))?;
        let copy = |from: u64, to: u64| -> Result<(), Error> {
            for start in (from..to).step_by(WINDOW_BYTES as usize) {
                let mut bytes = vec![0; u64::from(WINDOW_BYTES).min(to - start) as usize];
                old.file.read_exact_at(Site::RewriteRead, &mut bytes, start).map_err(Error::io(&path))?;
                file.write_all_at(Site::RewriteWrite, &bytes, start).map_err(Error::write(new))?;
            }
            Ok(())
        };
        let mut at = 0;
        for Replacement { place, kind, kept } in frames {
            copy(at, u64::from(place.offset))?;
            let mut body = kept.clone();
            body.resize(place.length as usize, 0);
            let mut bytes = head_bytes(old.salt, place.offset, *kind, &body).to_vec();
            bytes.extend_from_slice(kept);
            // The zeros behind it need not be written, and take no space.
            file.write_all_at(Site::RewriteErased, &bytes, u64::from(place.offset)).map_err(Error::write(new))?;
            at = u64::from(place.end());
        }
        copy(at, length)?;
        file.sync(Site::RewriteSync).map_err(Error::write(new))
    }

    /// Reads every frame from `from` to the end, and says what cannot be read. `passed` hears after each
    /// segment how many bytes of how many were read.
    pub(super) fn replay(
        &self,
        from: Position,
        frame: &mut OnFrame<'_>,
        hole: &mut dyn FnMut(Hole),
        passed: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let end_of = |number: u32| match number == self.tail.segment {
            true => Ok(self.tail.offset),
            false => {
                let length = self.files.disk.length(Site::WalkLength, &self.files.path(number));
                length.map(|length| u32::try_from(length).unwrap_or(u32::MAX))
            }
        };
        let start_of = |number: u32| if number == from.segment { from.offset } else { HEADER_BYTES };
        let ends: Vec<io::Result<u32>> = (from.segment..=self.tail.segment).map(end_of).collect();
        let length_of = |(number, end): (u32, &io::Result<u32>)| {
            end.as_ref().map_or(0, |end| u64::from(end.saturating_sub(start_of(number))))
        };
        let total_bytes: u64 = (from.segment..).zip(&ends).map(length_of).sum();
        let mut read_bytes = 0;
        let mut chain = Some(from.chain);
        for (number, end) in (from.segment..).zip(&ends) {
            let opened = self.files.segment(number).and_then(|segment| match end {
                Ok(end) => Ok((segment, *end)),
                Err(error) => {
                    Err(Unreadable::Io { segment: number, source: io::Error::new(error.kind(), error.to_string()) })
                }
            });
            let (segment, end) = match opened {
                Ok(opened) => opened,
                Err(why) => {
                    let unread = matches!(why, Unreadable::Io { .. });
                    hole(Hole { segment: number, start: 0, end: u32::MAX, kind: None, unread, why: why.to_string() });
                    chain = None;
                    continue;
                }
            };
            let start = start_of(number);
            if number != from.segment && chain.is_some_and(|chain| chain != segment.chain) {
                let why = "it does not continue the segment before it".to_owned();
                hole(Hole { segment: number, start: 0, end: HEADER_BYTES, kind: None, unread: false, why });
            }
            let first_chain = if number == from.segment { from.chain } else { segment.chain };
            let mut visit = |step: Step<'_>| {
                match step {
                    Step::Frame(place, kind, body) => frame(place, kind, body)?,
                    Step::Hole(found) => hole(found),
                    Step::Commit { .. } => {}
                }
                Ok(())
            };
            chain = match segment.walk(start, end, Some(first_chain), &mut visit) {
                Ok(chain) => chain,
                Err(Walk::Visit(error)) => return Err(error),
                Err(Walk::Io { at, source }) => {
                    hole(Hole { segment: number, start: at, end, kind: None, unread: true, why: source.to_string() });
                    None
                }
            };
            read_bytes += u64::from(end.saturating_sub(start));
            if total_bytes > 0 {
                passed(read_bytes, total_bytes);
            }
        }
        Ok(())
    }
}

fn create_segment(files: &Files, number: u32, chain: u32) -> Result<Segment, Error> {
    let path = files.path(number);
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| Error::io(&path)(io::Error::other(error.to_string())))?;
    let salt = u64::from_le_bytes(salt);
    let file = files.disk.create(Site::SegmentCreate, &path).map_err(Error::write(&path))?;
    let header = header_bytes(number, salt, chain);
    file.write_all_at(Site::SegmentHeaderWrite, &header, 0).map_err(Error::write(&path))?;
    file.sync(Site::SegmentHeaderSync).map_err(Error::write(&path))?;
    files.disk.sync_dir(Site::SegmentNameSync, &files.dir).map_err(Error::write(&files.dir))?;
    Ok(Segment { number, file, salt, chain })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        os::unix::fs::FileExt,
    };

    use super::*;

    /// A directory of segments and what it is expected to hold.
    struct World {
        dir: tempfile::TempDir,
        limit_bytes: u32,
    }

    /// What an opening gives back.
    struct Read {
        bodies: Vec<Vec<u8>>,
        holes: Vec<Hole>,
        cut_back_bytes: u64,
        segments: Segments,
    }

    impl World {
        fn new(limit_bytes: u32) -> Self {
            Self { dir: tempfile::tempdir().unwrap(), limit_bytes }
        }

        fn path(&self, number: u32) -> PathBuf {
            self.dir.path().join(format!("{number:08}.seg"))
        }

        fn open(&self) -> Segments {
            Found::look(&Disk::default(), self.dir.path()).unwrap().recover(None, self.limit_bytes).unwrap().0
        }

        fn read(&self, durable: Option<Position>) -> Read {
            let found = Found::look(&Disk::default(), self.dir.path()).unwrap();
            let (segments, cut_back_bytes) = found.recover(durable, self.limit_bytes).unwrap();
            let (mut bodies, mut holes) = (Vec::new(), Vec::new());
            let mut frame = |_: Place, _: Kind, body: &[u8]| {
                bodies.push(body.to_vec());
                Ok(())
            };
            segments.replay(segments.start(), &mut frame, &mut |hole| holes.push(hole), &mut |_, _| {}).unwrap();
            Read { bodies, holes, cut_back_bytes, segments }
        }

        fn error(&self) -> String {
            let opened =
                Found::look(&Disk::default(), self.dir.path()).and_then(|found| found.recover(None, self.limit_bytes));
            opened.unwrap_err().to_string()
        }
    }

    fn append(segments: &mut Segments, bodies: &[Vec<u8>]) -> Result<Vec<Place>, Error> {
        segments.append(bodies.len(), &mut |at, buffer| {
            buffer.extend_from_slice(&bodies[at]);
            Kind::Record
        })
    }

    /// Three bodies of different lengths, which no other batch holds.
    fn batch(number: u8) -> Vec<Vec<u8>> {
        (1..4).map(|length| vec![number; 11 * length]).collect()
    }

    fn batches(numbers: std::ops::Range<u8>) -> Vec<Vec<u8>> {
        numbers.flat_map(batch).collect()
    }

    /// Appends batches and says where each ended.
    fn append_batches(segments: &mut Segments, numbers: std::ops::Range<u8>) -> Vec<Position> {
        let mut ends = Vec::new();
        for number in numbers {
            append(segments, &batch(number)).unwrap();
            ends.push(segments.tail());
        }
        ends
    }

    fn flip(bytes: &[u8], at: u32) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[at as usize] ^= 0x10;
        bytes
    }

    #[test]
    fn a_tail_torn_at_any_byte_leaves_exactly_the_committed_batches() {
        let world = World::new(1 << 20);
        let ends = append_batches(&mut world.open(), 0..3);
        let whole = fs::read(world.path(1)).unwrap();
        for length in ends[1].offset..ends[2].offset {
            fs::write(world.path(1), &whole[..length as usize]).unwrap();
            let read = world.read(None);
            assert_eq!(read.bodies, batches(0..2), "torn at {length}");
            assert_eq!(read.cut_back_bytes, u64::from(length - ends[1].offset), "torn at {length}");
            assert!(read.holes.is_empty(), "a tear is no damage: {:?}", read.holes);
            assert_eq!(read.segments.tail(), ends[1]);
        }
    }

    #[test]
    fn a_batch_of_which_any_byte_was_not_yet_written_when_the_power_failed_is_cut() {
        let world = World::new(1 << 20);
        let ends = append_batches(&mut world.open(), 0..3);
        let whole = fs::read(world.path(1)).unwrap();
        for at in ends[1].offset..ends[2].offset {
            fs::write(world.path(1), flip(&whole, at)).unwrap();
            let mut read = world.read(None);
            assert_eq!(read.bodies, batches(0..2), "flipped at {at}");
            assert!(read.holes.is_empty());
            append(&mut read.segments, &batch(7)).unwrap();
            assert_eq!(world.read(None).bodies, [batches(0..2), batch(7)].concat());
        }
    }

    #[test]
    fn damage_before_the_last_append_is_said_and_costs_one_frame() {
        let world = World::new(1 << 20);
        let ends = append_batches(&mut world.open(), 0..3);
        let whole = fs::read(world.path(1)).unwrap();
        let commit_start = ends[1].offset - COMMIT_BYTES;
        for at in ends[0].offset..ends[1].offset {
            fs::write(world.path(1), flip(&whole, at)).unwrap();
            let read = world.read(None);
            let lost = if at < commit_start { 1 } else { 0 };
            assert_eq!(read.bodies.len(), 9 - lost, "flipped at {at}");
            assert!(read.bodies.iter().all(|body| batches(0..3).contains(body)));
            assert_eq!((read.holes.len(), read.cut_back_bytes), (1, 0), "flipped at {at}");
            assert!((read.holes[0].start..read.holes[0].end).contains(&at));
        }
    }

    #[test]
    fn what_a_checkpoint_vouches_for_is_never_cut() {
        let world = World::new(1 << 20);
        let ends = append_batches(&mut world.open(), 0..3);
        let whole = fs::read(world.path(1)).unwrap();
        fs::write(world.path(1), flip(&whole, ends[1].offset + 20)).unwrap();
        let read = world.read(Some(ends[2]));
        assert_eq!((read.bodies.len(), read.holes.len(), read.cut_back_bytes), (8, 1, 0));
    }

    #[test]
    fn segments_vouch_for_their_own_history_alone() {
        let (world, other) = (World::new(200), World::new(200));
        let ends = append_batches(&mut world.open(), 0..9);
        append_batches(&mut other.open(), 1..9);
        let (found, other) = (
            Found::look(&Disk::default(), world.dir.path()).unwrap(),
            Found::look(&Disk::default(), other.dir.path()).unwrap(),
        );
        assert!(ends.iter().all(|end| found.vouch_for(*end).unwrap()));
        assert!(ends.iter().all(|end| !other.vouch_for(*end).unwrap()));
        let last = ends[8];
        assert!(!found.vouch_for(Position { offset: last.offset + 1, ..last }).unwrap());
        assert!(!found.vouch_for(Position { segment: last.segment + 1, ..last }).unwrap());
    }

    #[test]
    fn one_damaged_byte_in_a_header_costs_nothing() {
        let world = World::new(1 << 20);
        append_batches(&mut world.open(), 0..2);
        let whole = fs::read(world.path(1)).unwrap();
        for at in 0..HEADER_BYTES {
            fs::write(world.path(1), flip(&whole, at)).unwrap();
            let read = world.read(None);
            assert_eq!((read.bodies, read.holes.len()), (batches(0..2), 0), "flipped at {at}");
        }
    }

    #[test]
    fn a_segment_whose_headers_are_both_damaged_is_said_and_the_next_one_started() {
        let world = World::new(1 << 20);
        append_batches(&mut world.open(), 0..2);
        let whole = fs::read(world.path(1)).unwrap();
        fs::write(world.path(1), flip(&flip(&whole, 20), 52)).unwrap();
        let mut read = world.read(None);
        assert_eq!((read.bodies.len(), read.holes.len()), (0, 1));
        append(&mut read.segments, &batch(5)).unwrap();
        assert_eq!(world.read(None).bodies, batch(5));
    }

    #[test]
    fn segments_are_rolled_and_a_missing_one_is_said() {
        let world = World::new(400);
        let ends = append_batches(&mut world.open(), 0..12);
        assert!(ends[11].segment > 3);
        let read = world.read(None);
        assert_eq!((read.bodies, read.holes.len()), (batches(0..12), 0));
        fs::remove_file(world.path(2)).unwrap();
        let read = world.read(None);
        assert_eq!(read.holes.len(), 1);
        assert_eq!(read.holes[0].why, "segment 2 is missing");
        let expected = (0..12).filter(|number| ends[usize::from(*number)].segment != 2).flat_map(batch);
        assert_eq!(read.bodies, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_segment_put_in_anothers_place_is_said() {
        let (world, other) = (World::new(400), World::new(400));
        append_batches(&mut world.open(), 0..12);
        append_batches(&mut other.open(), 20..32);
        fs::copy(other.path(2), world.path(2)).unwrap();
        let why: Vec<String> = world.read(None).holes.into_iter().map(|hole| hole.why).collect();
        assert_eq!(why, ["it does not continue the segment before it"; 2]);
    }

    #[test]
    fn a_crash_while_a_segment_is_started_leaves_nothing_behind() {
        let world = World::new(1 << 20);
        append_batches(&mut world.open(), 0..2);
        let half = &header_bytes(2, 7, 0)[..HEADER_COPY_BYTES];
        for header in [&[][..], &MAGIC[..], half, &[0; HEADER_BYTES as usize]] {
            fs::write(world.path(2), header).unwrap();
            let read = world.read(None);
            assert_eq!((read.bodies, read.cut_back_bytes), (batches(0..2), header.len() as u64));
            assert!(!world.path(2).exists());
        }
    }

    #[test]
    fn an_append_beyond_the_size_of_a_batch_is_committed_in_parts_and_read_back_whole() {
        let world = World::new(20 << 20);
        let bodies: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 1 << 20]).collect();
        let mut segments = world.open();
        let places = append(&mut segments, &bodies).unwrap();
        assert_eq!(segments.tail().segment, 2);
        assert!(segments.batch.buffer.capacity() < 2 * (WRITE_BYTES + BODY_BYTES));
        let files = segments.files().clone();
        assert!(places.iter().zip(&bodies).all(|(place, body)| files.body(*place, Kind::Record).unwrap() == *body));
        assert_eq!(world.read(None).bodies, bodies);
    }

    #[test]
    fn a_full_disk_is_told_apart_and_final_until_the_next_opening() {
        let world = World::new(1 << 20);
        let mut segments = world.open();
        append(&mut segments, &batch(0)).unwrap();
        segments.current.file = Disk::default().open_to_write(Site::TailOpen, Path::new("/dev/full")).unwrap();
        assert!(matches!(append(&mut segments, &batch(1)), Err(Error::Full { .. })));
        assert!(matches!(append(&mut segments, &batch(2)), Err(Error::Poisoned)));
        assert_eq!(world.read(None).bodies, batch(0));
    }

    #[test]
    fn a_failed_write_is_final_and_its_half_written_batch_is_not_served() {
        let world = World::new(1 << 20);
        let mut segments = world.open();
        append(&mut segments, &batch(0)).unwrap();
        let tail = segments.tail();
        segments.current.file = Disk::default().open(Site::SegmentOpen, &world.path(1)).unwrap();
        assert!(matches!(append(&mut segments, &batch(1)), Err(Error::Failed { .. })));
        assert!(matches!(append(&mut segments, &batch(2)), Err(Error::Poisoned)));
        let half = OpenOptions::new().write(true).open(world.path(1)).unwrap();
        let head = head_bytes(segments.current.salt, tail.offset, Kind::Record, b"half written");
        half.write_all_at(&[&head[..], b"half written"].concat(), u64::from(tail.offset)).unwrap();
        let read = world.read(None);
        assert_eq!((read.bodies, read.cut_back_bytes), (batch(0), u64::from(HEAD_BYTES) + 12));
    }

    #[test]
    fn frames_inside_a_body_are_not_taken_for_frames() {
        let world = World::new(1 << 20);
        let mut segments = world.open();
        append(&mut segments, &batch(1)).unwrap();
        let copied = fs::read(world.path(1)).unwrap()[HEADER_BYTES as usize..].to_vec();
        let place = append(&mut segments, &[copied]).unwrap()[0];
        append(&mut segments, &batch(2)).unwrap();
        let whole = fs::read(world.path(1)).unwrap();
        fs::write(world.path(1), flip(&whole, place.offset)).unwrap();
        let read = world.read(None);
        assert_eq!(read.bodies, batches(1..3));
        assert_eq!((read.holes[0].start, read.holes[0].end), (place.offset, place.end()));
    }

    #[test]
    fn strange_files_and_later_versions_are_refused_by_name() {
        let world = World::new(1 << 20);
        fs::write(world.path(1), [b'x'; 100]).unwrap();
        assert!(world.error().contains("00000001.seg is not a segment of this program"));
        fs::rename(world.path(1), world.dir.path().join("holiday.jpg")).unwrap();
        assert!(world.error().contains("holiday.jpg is not a segment"));
        fs::remove_file(world.dir.path().join("holiday.jpg")).unwrap();

        let mut copy = header_bytes(1, 7, 0)[..28].to_vec();
        copy[8] = 9;
        copy.extend_from_slice(&crc32fast::hash(&copy).to_le_bytes());
        fs::write(world.path(1), [copy.clone(), copy, vec![0; 40]].concat()).unwrap();
        assert!(world.error().contains("has version 9, where this program knows 1"));
    }
}
