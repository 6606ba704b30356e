//! A node in a file: everything its data directory must have, taken while the daemon runs, and put back.
//!
//! What is in it: the segments up to what is durable, the key store as it lies there (sealed: what opens it is not
//! in the backup), certificate and root document, the configuration, the record of overrides, and the chunks of
//! attachments. What is not: the index, which is built anew, the credential, and drafts, which would be published a
//! second time.
//!
//! A node that was put back opens logs of its own, so that it never signs two entries for one place; it counts as
//! current in no circle until it has heard its members, and what it wrote and received since the backup comes back
//! from them. Two nodes with one key must never run.
//!
//! This file refuses to know what segments and keys say.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use cwn_crypto::{PublicKey, Time, encoding};
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::{
    clock, config, drafts,
    files::{self, at},
    keystore,
    membership::{self, Membership},
    parcel::{self, Kind, Packer, Parcel},
    store,
};

/// Bytes of a file in one frame.
const PIECE_BYTES: usize = 1 << 20;
/// Frames that wait for whoever writes the backup.
const AHEAD: usize = 4;
/// A path within a data directory: a circle and a chunk, in hexadecimal.
const PATH_BYTES: usize = 256;
/// How the name of a directory ends that is being put back.
const COMING: &str = ".restoring";
/// Files in one backup: 16 TiB of attachments.
const FILES: u64 = 1 << 24;

/// One thing in a backup.
#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(flat)]
enum Item {
    /// The first: of which node, and when.
    #[n(0)]
    Start {
        #[n(0)]
        node: PublicKey,
        #[n(1)]
        partner: String,
        #[n(2)]
        made: Time,
        /// Where the node's data lies.
        #[n(3)]
        data: String,
    },
    /// A file begins.
    #[n(1)]
    File {
        #[n(0)]
        path: String,
        #[n(1)]
        length: u64,
    },
    /// The next bytes of it.
    #[n(2)]
    Piece {
        #[cbor(n(0), with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// It ends.
    #[n(3)]
    Whole {
        #[cbor(n(0), with = "minicbor::bytes")]
        sha256: [u8; 32],
    },
    /// The last: how many files there were.
    #[n(4)]
    End {
        #[n(0)]
        files: u64,
    },
}

/// A file to take, and how much of it.
#[derive(Debug)]
struct Source {
    /// Within the data directory.
    path: String,
    file: File,
    length: u64,
}

/// What goes into a backup.
#[derive(Debug)]
pub struct Plan {
    node: PublicKey,
    partner: String,
    data: PathBuf,
    sources: Vec<Source>,
    chunks: Vec<String>,
}

/// Why nothing was backed up, or not all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the node.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// It became shorter while it was read.
    #[error("{0} became shorter while it was read; run `cwn doctor`")]
    Shorter(String),
    /// Whoever asked for it went away.
    #[error("whoever asked for the backup went away")]
    Gone,
}

impl Plan {
    /// Looks what a data directory has. `segments` are the store's files with what of each is durable, as the log
    /// thread says. Every file but chunks is opened here, so that what is renamed over it later is not half in it.
    pub fn new(
        node: PublicKey,
        partner: String,
        data: &Path,
        segments: Vec<(PathBuf, u64)>,
    ) -> Result<Self, files::Failed> {
        let mut sources = Vec::new();
        let mut add = |path: PathBuf, length: Option<u64>| {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && length.is_none() => return Ok(()),
                opened => opened.map_err(at(&path))?,
            };
            let length =
                length.map_or_else(|| file.metadata().map(|metadata| metadata.len()), Ok).map_err(at(&path))?;
            let path = path.strip_prefix(data).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { path, file, length });
            Ok(())
        };
        for (path, length) in segments {
            add(path, Some(length))?;
        }
        for name in single_files() {
            add(data.join(name), None)?;
        }
        Ok(Self { node, partner, data: data.to_owned(), sources, chunks: chunks(data)? })
    }
}

/// The chunks of attachments below a data directory. Those that are being written have names of their own.
fn chunks(data: &Path) -> Result<Vec<String>, files::Failed> {
    let root = data.join("chunks");
    let mut found = Vec::new();
    for circle in names(&root)? {
        for chunk in names(&root.join(&circle))?.into_iter().filter(|name| !name.starts_with('.')) {
            found.push(format!("chunks/{circle}/{chunk}"));
        }
    }
    Ok(found)
}

fn names(dir: &Path) -> Result<Vec<String>, files::Failed> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(at(dir))?,
    };
    let name = |item: io::Result<fs::DirEntry>| item.map(|item| item.file_name().to_string_lossy().into_owned());
    let mut names = listed.map(name).collect::<io::Result<Vec<String>>>().map_err(at(dir))?;
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a backup, made on a thread of its own as they are taken. An error among them means that it breaks
/// off there.
pub fn stream(plan: Plan) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (out, bytes) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let (packer, head) = Packer::begin(Kind::Backup);
        let mut writer = Writer { packer, out: out.clone(), files: 0 };
        let last = match writer.write(plan, head) {
            Ok(()) => Ok(writer.packer.end()),
            Err(Error::Gone) => return,
            Err(error) => {
                tracing::error!(%error, "a backup breaks off");
                Err(io::Error::other(error))
            }
        };
        // Whoever asked may have gone.
        let _ = out.blocking_send(last);
    });
    bytes
}

struct Writer {
    packer: Packer,
    out: mpsc::Sender<io::Result<Vec<u8>>>,
    files: u64,
}

impl Writer {
    fn send(&self, bytes: Vec<u8>) -> Result<(), Error> {
        self.out.blocking_send(Ok(bytes)).map_err(|_closed| Error::Gone)
    }

    fn item(&mut self, item: &Item) -> Result<(), Error> {
        let frame = self.packer.frame(&encoding::to_bytes(item));
        self.send(frame)
    }

    fn write(&mut self, plan: Plan, head: Vec<u8>) -> Result<(), Error> {
        let Plan { node, partner, data, sources, chunks } = plan;
        self.send(head)?;
        let said = data.display().to_string();
        self.item(&Item::Start { node, partner, made: clock::now(), data: said })?;
        for source in sources {
            self.file(source)?;
        }
        for path in chunks {
            let file = match File::open(data.join(&path)) {
                // Damaged chunks are put out of the way, to be fetched again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(at(&data.join(&path)))?,
            };
            let length = file.metadata().map_err(at(&data.join(&path)))?.len();
            self.file(Source { path, file, length })?;
        }
        self.item(&Item::End { files: self.files })
    }

    fn file(&mut self, source: Source) -> Result<(), Error> {
        let Source { path, file, length } = source;
        self.item(&Item::File { path: path.clone(), length })?;
        let mut digest = Sha256::new();
        let mut left = length;
        let mut file = file.take(length);
        while left > 0 {
            let mut bytes = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            let read = file.read(&mut bytes).map_err(at(Path::new(&path)))?;
            if read == 0 {
                return Err(Error::Shorter(path));
            }
            bytes.truncate(read);
            digest.update(&bytes);
            left -= read as u64;
            self.item(&Item::Piece { bytes })?;
        }
        self.files += 1;
        self.item(&Item::Whole { sha256: digest.finalize().into() })
    }
}

// ---------------------------------------------------------------------------------------------- reading one

/// Of which node a backup is, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The node's key.
    pub node: PublicKey,
    /// Its partner.
    pub partner: String,
    /// When the backup was made.
    pub made: Time,
    /// Where the node's data lay.
    pub data: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a backup is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The file is damaged, or another.
    #[error(transparent)]
    Parcel(#[from] parcel::Unread),
    /// Something that this program does not know.
    #[error("the backup holds something that this program does not know; use a newer program")]
    Unknown,
    /// Parts that cannot stand together.
    #[error("the backup contradicts itself at byte {at}: {what}; take another")]
    Contradiction {
        /// Where.
        at: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A path that leads out of the data directory.
    #[error("the backup names a file {0:?}, which is no file of a node; take another")]
    Path(String),
    /// The data directory has something in it.
    #[error("{} is not empty; nothing is written over: restore to a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// It cannot be put in one piece where a disk is mounted.
    #[error("{} is where a disk is mounted; restore to a directory below it, and name that with --data", .0.display())]
    Mounted(PathBuf),
    /// The node of the backup runs here.
    #[error(
        "the node of this backup runs on this machine, on {}; two nodes with one key must not run: stop that one first", .0.display()
    )]
    Running(PathBuf),
    /// The disk.
    #[error(transparent)]
    File(#[from] files::Failed),
    /// Somebody stopped it.
    #[error("interrupted, and nothing is left behind; start again")]
    Interrupted,
}

/// What is done with the files of a backup.
trait Take {
    fn begin(&mut self, path: &Path) -> Result<(), files::Failed>;
    fn piece(&mut self, bytes: &[u8]) -> Result<(), files::Failed>;
    fn end(&mut self) -> Result<(), files::Failed>;
}

/// Reads a backup to its end and does nothing with it.
struct Look;

impl Take for Look {
    fn begin(&mut self, _path: &Path) -> Result<(), files::Failed> {
        Ok(())
    }

    fn piece(&mut self, _bytes: &[u8]) -> Result<(), files::Failed> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), files::Failed> {
        Ok(())
    }
}

/// How far long work is, and whether to go on with it.
pub struct Work<'a> {
    /// Is told how many bytes of the backup were read.
    pub progress: &'a mut dyn FnMut(u64),
    /// Set when somebody wants it to stop.
    pub stop: &'a AtomicBool,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

/// Reads a backup to its end, and says what is in it.
pub fn verify(path: &Path, work: Work<'_>) -> Result<Contents, Refusal> {
    read(path, work, &mut |_| Ok(()), &mut Look)
}

/// Puts a backup back into a directory that is empty or not there. After a failure it is as it was.
pub fn restore(path: &Path, data: &Path, work: Work<'_>) -> Result<Contents, Refusal> {
    if fs::read_dir(data).is_ok_and(|mut items| items.next().is_some()) || data.is_file() {
        return Err(Refusal::NotEmpty(data.to_owned()));
    }
    // What a link names is replaced, not the link.
    let data = &fs::canonicalize(data).unwrap_or_else(|_absent| data.to_owned());
    let parent = data.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let left = |other: &str| other.starts_with(&format!(".{name}.")) && other.ends_with(COMING);
    files::clear(parent, left);
    let coming = files::beside(data, COMING).map_err(at(data))?;
    files::make_dir(parent).and_then(|()| files::make_dir(&coming)).map_err(at(&coming))?;
    let writing = File::open(&coming).map_err(at(&coming))?;
    files::hold(&writing);
    let mut put = Put { root: coming.clone(), file: None };
    let running = |contents: &Contents| {
        let there = Membership::node_of(&contents.data) == Some(contents.node);
        if there && store::in_use(&contents.data) { Err(Refusal::Running(contents.data.clone())) } else { Ok(()) }
    };
    let restored = read(path, work, &mut |contents| running(contents), &mut put).and_then(|contents| {
        put.sync_dirs(&coming)?;
        match fs::rename(&coming, data) {
            Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
                return Err(Refusal::Mounted(data.clone()));
            }
            renamed => renamed.and_then(|()| files::sync_dir(parent)).map_err(at(data))?,
        }
        Ok(contents)
    });
    if restored.is_err() && coming.exists() {
        fs::remove_dir_all(&coming).map_err(at(&coming))?;
    }
    restored
}

/// Writes the files of a backup below a directory.
struct Put {
    root: PathBuf,
    file: Option<(PathBuf, File)>,
}

impl Put {
    /// Makes the names in a directory and all below it durable.
    fn sync_dirs(&self, dir: &Path) -> Result<(), files::Failed> {
        for name in names(dir)? {
            let path = dir.join(name);
            if path.is_dir() {
                self.sync_dirs(&path)?;
            }
        }
        files::sync_dir(dir).map_err(at(dir))
    }
}

impl Take for Put {
    fn begin(&mut self, path: &Path) -> Result<(), files::Failed> {
        let path = self.root.join(path);
        if let Some(dir) = path.parent() {
            files::make_dir(dir).map_err(at(dir))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        self.file = Some((path, file));
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), files::Failed> {
        self.file.as_mut().map_or(Ok(()), |(path, file)| file.write_all(bytes).map_err(at(path)))
    }

    fn end(&mut self) -> Result<(), files::Failed> {
        self.file.take().map_or(Ok(()), |(path, file)| file.sync_all().map_err(at(&path)))
    }
}

/// The files of a node that stand by themselves in its data directory.
fn single_files() -> impl Iterator<Item = &'static str> {
    [config::FILE].into_iter().chain(membership::FILES).chain([keystore::FILE, drafts::OVERRIDES])
}

/// Whether a path can be one of a node's files.
fn is_ours(path: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let plain = parts.iter().all(|part| matches!(part, Component::Normal(_)));
    let known = match path.split('/').collect::<Vec<_>>().as_slice() {
        [name] => single_files().any(|single| single == *name),
        ["segments", name] => name.ends_with(".seg"),
        ["chunks", _, name] => !name.starts_with('.'),
        _ => false,
    };
    path.len() <= PATH_BYTES && plain && known
}

fn read(
    path: &Path,
    work: Work<'_>,
    begun: &mut dyn FnMut(&Contents) -> Result<(), Refusal>,
    take: &mut dyn Take,
) -> Result<Contents, Refusal> {
    let mut parcel = Parcel::open(path, Kind::Backup).map_err(parcel::Unread::from)?;
    let mut contents: Option<Contents> = None;
    let mut file: Option<(u64, Sha256)> = None;
    let mut ended = false;
    while let Some(frame) = parcel.next_frame()? {
        if work.stop.load(Ordering::Relaxed) {
            return Err(Refusal::Interrupted);
        }
        (work.progress)(parcel.at());
        let contradiction = |what| Refusal::Contradiction { at: parcel.at(), what };
        let item: Item = encoding::from_bytes(&frame, parcel::FRAME_BYTES).map_err(|_refusal| Refusal::Unknown)?;
        let Some(said) = &mut contents else {
            let Item::Start { node, partner, made, data } = item else {
                return Err(contradiction("it does not begin with its beginning"));
            };
            let said = Contents { node, partner, made, data: PathBuf::from(data), files: 0, bytes: 0 };
            begun(&said)?;
            contents = Some(said);
            continue;
        };
        match (item, &mut file) {
            (Item::File { path, length }, None) if !ended && said.files < FILES => {
                if !is_ours(&path) {
                    return Err(Refusal::Path(path));
                }
                take.begin(Path::new(&path))?;
                file = Some((length, Sha256::new()));
            }
            (Item::Piece { bytes }, Some((left, digest))) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(contradiction("a file is longer than it is"))?;
                digest.update(&bytes);
                said.bytes += bytes.len() as u64;
                take.piece(&bytes)?;
            }
            (Item::Whole { sha256 }, Some((0, digest))) => {
                let digest: [u8; 32] = digest.clone().finalize().into();
                if digest != sha256 {
                    return Err(contradiction("a file is not the one that was put in"));
                }
                take.end()?;
                file = None;
                said.files += 1;
            }
            (Item::End { files }, None) if !ended && files == said.files => ended = true,
            _ => return Err(contradiction("its parts are not in order")),
        }
    }
    match contents {
        Some(contents) if ended => Ok(contents),
        _ => Err(Refusal::Contradiction { at: parcel.at(), what: "it ends before its last part" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: PublicKey = PublicKey([7; 32]);

    fn lay_out(data: &Path) {
        for (path, bytes) in [
            ("config.toml", b"# mine".as_slice()),
            ("keys.cwn", b"sealed"),
            ("certificate.cwn", b"certificate"),
            ("root.cwn", b"root"),
            ("issuer-log.cwn", b"log"),
            ("overrides.jsonl", b"who published anyway"),
            ("credential", b"what opens the keys"),
            ("index/db", b"built anew"),
            ("segments/00000001.seg", &[1; 3 << 20]),
            ("segments/00000002.seg", b"durable, and a tail that is not"),
            ("chunks/c0/a1", b"a chunk"),
            ("chunks/c0/.a2.77.new", b"half a chunk"),
        ] {
            let path = data.join(path);
            files::make_dir(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// A backup of a directory, in a file beside it.
    async fn back_up(dir: &Path) -> PathBuf {
        let data = dir.join("data");
        lay_out(&data);
        let segments = vec![
            (data.join("segments/00000001.seg"), 3 << 20),
            (data.join("segments/00000002.seg"), "durable".len() as u64),
        ];
        let plan = Plan::new(NODE, "z-cert".to_owned(), &data, segments).unwrap();
        let mut bytes = Vec::new();
        let mut pieces = stream(plan);
        while let Some(piece) = pieces.recv().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let path = dir.join("backup");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn work<R>(stop: bool, does: impl FnOnce(Work<'_>) -> R) -> R {
        does(Work { progress: &mut |_| {}, stop: &AtomicBool::new(stop) })
    }

    fn all_files(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for name in names(dir).unwrap() {
            let path = dir.join(&name);
            if path.is_dir() {
                found.extend(all_files(&path).into_iter().map(|below| format!("{name}/{below}")));
            } else {
                found.push(name);
            }
        }
        found
    }

    #[tokio::test]
    async fn what_a_node_needs_comes_back_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(dir.path()).await;
        let restored = dir.path().join("a/b/restored");
        let contents = work(false, |work| restore(&backup, &restored, work)).unwrap();
        assert_eq!((contents.node, contents.partner.as_str(), contents.files), (NODE, "z-cert", 9));
        assert_eq!(
            all_files(&restored),
            [
                "certificate.cwn",
                "chunks/c0/a1",
                "config.toml",
                "issuer-log.cwn",
                "keys.cwn",
                "overrides.jsonl",
                "root.cwn",
                "segments/00000001.seg",
                "segments/00000002.seg"
            ]
        );
        assert_eq!(fs::read(restored.join("segments/00000001.seg")).unwrap(), vec![1; 3 << 20]);
        assert_eq!(fs::read(restored.join("segments/00000002.seg")).unwrap(), b"durable");
        for path in [restored.clone(), restored.join("keys.cwn"), restored.join("chunks")] {
            assert!(files::check_private(&path).unwrap().is_ok(), "{}", path.display());
        }
        assert_eq!(work(false, |work| verify(&backup, work)).unwrap(), contents);
    }

    #[tokio::test]
    async fn whoever_interrupts_a_restore_finds_nothing_half_there() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(dir.path()).await;
        let below = dir.path().join("below");
        let restored = below.join("restored");
        let refused = work(true, |work| restore(&backup, &restored, work)).unwrap_err();
        assert!(matches!(refused, Refusal::Interrupted), "{refused}");
        assert!(names(&below).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_restore_that_is_killed_anywhere_leaves_nothing_that_the_next_does_not_take_away() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(dir.path()).await;
        let below = dir.path().join("below");
        let restored = below.join("restored");
        let mut killed = 0;
        for kill_at in 0.. {
            let mut steps = 0;
            // Whoever is killed cleans up no more than who panics here.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut step = |_at: u64| {
                    assert!(steps < kill_at, "killed");
                    steps += 1;
                };
                restore(&backup, &restored, Work { progress: &mut step, stop: &AtomicBool::new(false) })
            }));
            if let Ok(whole) = outcome {
                whole.unwrap();
                break;
            }
            killed += 1;
            assert_eq!(names(&below).unwrap().len(), 1, "one at a time");
            assert!(!restored.exists(), "killed at {kill_at}");
        }
        assert!(killed > 10, "{killed}");
        assert_eq!(names(&below).unwrap(), ["restored"]);
        assert!(restored.join("keys.cwn").exists());
    }

    #[tokio::test]
    async fn a_restore_leaves_another_alone_that_is_running() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(dir.path()).await;
        let other = dir.path().join(".restored.1.restoring");
        files::make_dir(&other).unwrap();
        let running = File::open(&other).unwrap();
        files::hold(&running);
        work(false, |work| restore(&backup, &dir.path().join("restored"), work)).unwrap();
        assert!(other.exists());
    }

    #[tokio::test]
    async fn an_empty_directory_is_filled_and_one_with_anything_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(dir.path()).await;
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        work(false, |work| restore(&backup, &empty, work)).unwrap();
        assert!(empty.join("keys.cwn").exists());
        let full = dir.path().join("full");
        files::make_dir(&full).unwrap();
        fs::write(full.join("lost+found"), "").unwrap();
        let refused = work(false, |work| restore(&backup, &full, work)).unwrap_err();
        assert!(refused.to_string().contains("nothing is written over"), "{refused}");
        assert_eq!(names(&full).unwrap(), ["lost+found"]);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_breaks_the_backup_off() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        lay_out(&data);
        let plan =
            Plan::new(NODE, "z-cert".to_owned(), &data, vec![(data.join("segments/00000002.seg"), 1_000)]).unwrap();
        let mut pieces = stream(plan);
        let mut last = None;
        while let Some(piece) = pieces.recv().await {
            last = Some(piece);
        }
        assert!(last.unwrap().unwrap_err().to_string().contains("became shorter"));
    }

    /// A backup of these parts, well packed.
    fn pack(path: &Path, items: &[Item]) {
        let (mut packer, mut bytes) = Packer::begin(Kind::Backup);
        items.iter().for_each(|item| bytes.extend(packer.frame(&encoding::to_bytes(item))));
        bytes.extend(packer.end());
        fs::write(path, bytes).unwrap();
    }

    fn start() -> Item {
        Item::Start { node: NODE, partner: "z-cert".to_owned(), made: Time(1), data: "/nowhere".to_owned() }
    }

    #[test]
    fn a_backup_that_somebody_made_up_writes_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (backup, below) = (dir.path().join("backup"), dir.path().join("below"));
        for path in
            ["../evil", "/tmp/evil", "segments/../../evil.seg", "lock", "chunks/../x", "chunks/a/.b", "segments/x", ""]
        {
            pack(&backup, &[start(), Item::File { path: path.to_owned(), length: 0 }]);
            let refused = work(false, |work| restore(&backup, &below.join("restored"), work)).unwrap_err();
            assert!(matches!(refused, Refusal::Path(_)), "{path}: {refused}");
        }
        assert!(names(&below).unwrap().is_empty());
        assert_eq!(names(dir.path()).unwrap(), ["backup", "below"]);
    }

    #[test]
    fn parts_that_are_missing_or_stand_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let backup = dir.path().join("backup");
        let file = |length| Item::File { path: "keys.cwn".to_owned(), length };
        let piece = || Item::Piece { bytes: b"abc".to_vec() };
        let whole = || Item::Whole { sha256: Sha256::digest(b"abc").into() };
        let cases = [
            vec![],
            vec![start()],
            vec![file(3), piece(), whole(), Item::End { files: 1 }],
            vec![start(), start(), Item::End { files: 0 }],
            vec![start(), file(3), piece(), Item::End { files: 0 }],
            vec![start(), file(4), piece(), whole(), Item::End { files: 1 }],
            vec![start(), file(2), piece(), whole(), Item::End { files: 1 }],
            vec![start(), file(3), piece(), Item::Whole { sha256: [0; 32] }, Item::End { files: 1 }],
            vec![start(), file(3), piece(), whole(), Item::End { files: 2 }],
            vec![start(), file(3), piece(), whole(), Item::End { files: 1 }, file(3)],
            vec![start(), piece(), Item::End { files: 0 }],
        ];
        for items in cases {
            pack(&backup, &items);
            let refused = work(false, |work| verify(&backup, work)).unwrap_err();
            assert!(matches!(refused, Refusal::Contradiction { .. }), "{items:?}: {refused}");
        }
        pack(&backup, &[start(), file(3), piece(), whole(), Item::End { files: 1 }]);
        assert!(work(false, |work| verify(&backup, work)).is_ok());
    }
}
