//! Taking a file in: frame by frame, each durable before the next, and an account of what became of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cwn_crypto::{NetworkId, Time};
use cwn_engine::{
    circle::Charter,
    fork::ForkProof,
    input::Command,
    limits,
    log::{CircleId, EntryBytes, Header, LogKey, Stored},
    output::{Carried, CarriedCircle, CommandRefusal, Reply, Rest},
    store::Damage,
    wire::RunFrame,
};
use cwn_functions::payload::ChunkHash;
use futures::{Stream, StreamExt};

use super::{Item, KEY_BYTES, Opener, Unsound};
use crate::{
    attachments,
    driver::Failure,
    node::Node,
    parcel::{self, Kind, Unpacker},
};

/// Chunks remembered of those that entries of one file name: a tebibyte of attachments, and 100 MB of memory.
const WANTED_CHUNKS: usize = 1 << 20;
/// Logs of which something was not taken: a file of which more are left was made to be a burden.
const LEFT_LOGS: usize = 4_096;
/// Entries read at once to look for attachments.
const LOOK_BYTES: usize = 2 << 20;

/// Why nothing more of a file is taken. What was taken before stays.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The file is damaged, cut short, or another file.
    #[error(transparent)]
    Parcel(#[from] parcel::Refusal),
    /// What is inside is not what was put there.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// Of another network.
    #[error("the file is of network {theirs}, and this node belongs to {ours}; import it on a node of that network")]
    OtherNetwork {
        /// The file's.
        theirs: NetworkId,
        /// This node's.
        ours: NetworkId,
    },
    /// Parts that cannot stand together.
    #[error("the file contradicts itself: {0}; ask for another")]
    Contradiction(&'static str),
    /// More than such a thing may be.
    #[error("the circle's history in the file is longer than any may be; ask for another")]
    TooLong,
    /// The bytes stopped coming.
    #[error("the file broke off on its way here: {0}; import it again")]
    Upload(String),
    /// The node takes no more.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// An attachment's part could not be kept.
    #[error(transparent)]
    Chunk(#[from] attachments::Error),
    /// We are broken.
    #[error("this node cannot go on with it: {0}; see its log, and `cwn doctor`")]
    Broken(String),
}

/// How the file's circle stands at this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It was in it before.
    Before,
    /// It joined it now, by its rule.
    Now,
    /// It is offered; entries wait until it is accepted.
    Offered,
    /// It declined it before.
    Declined,
    /// It does not belong to it.
    NotNamed,
    /// Too many offers wait.
    TooManyOffers,
}

/// Entries of a log that were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// How many.
    pub entries: u64,
    /// Why.
    pub why: String,
    /// Whether they can never be part of the circle.
    pub refused: bool,
}

/// What became of a file.
#[derive(Debug, Default)]
pub struct Account {
    /// The circle, its name, and when the file was made; none when it broke off before.
    pub start: Option<(CircleId, Time)>,
    /// The circle's name, once its charter was read.
    pub name: Option<String>,
    /// How the circle stands here, once its operations were read.
    pub joined: Option<Joined>,
    /// New entries of the network circle, certificates and revocations among them.
    pub network: u64,
    /// New operations.
    pub operations: u64,
    /// New entries of the circle.
    pub entries: u64,
    /// Entries, operations and parts of attachments that were here already.
    pub known: u64,
    /// New parts of attachments.
    pub chunks: u64,
    /// Parts of attachments that no entry which this node can read names.
    pub stray_chunks: u64,
    /// Operations that were not taken.
    pub left_operations: u64,
    /// Entries of the circle that were passed over, for this node is not in it.
    pub passed: u64,
    /// What was not taken, by log.
    pub left: BTreeMap<LogKey, Left>,
    /// Why it was not taken to its end.
    pub stop: Option<String>,
}

/// Takes in a file as its bytes come. What was taken is durable, whatever comes after. Fails only when the very
/// beginning shows that nothing of it is for this node.
pub async fn take<B: AsRef<[u8]>, E: std::fmt::Display>(
    node: &Node,
    mut body: impl Stream<Item = Result<B, E>> + Unpin,
) -> Result<Account, Stop> {
    let mut import = Import {
        node,
        opener: None,
        account: Account::default(),
        gathered: Gathered::default(),
        ended: false,
        wanted: None,
        unvouched: None,
    };
    let ended = import.read(&mut body).await;
    if let Some((circle, _)) = import.account.start.filter(|_| import.account.chunks > 0) {
        // What named one of them may have been taken back while the file was read.
        node.fetches.erased(circle);
    }
    import.leave_unvouched();
    // What is left is read all the same, so that whoever sends it hears the answer and not a broken connection.
    while body.next().await.is_some_and(|piece| piece.is_ok()) {}
    match ended {
        Err(stop) if import.account.start.is_none() => Err(stop),
        ended => {
            import.account.stop = ended.err().map(|stop| stop.to_string());
            Ok(import.account)
        }
    }
}

/// Operations of a circle that this node is not in, until all have come.
#[derive(Debug, Default)]
struct Gathered {
    entries: Vec<EntryBytes>,
    bytes: usize,
}

struct Import<'a> {
    node: &'a Node,
    opener: Option<Opener>,
    account: Account,
    gathered: Gathered,
    ended: bool,
    /// The chunks that entries taken in or known here name; none when the file has no attachments.
    wanted: Option<BTreeSet<ChunkHash>>,
    /// The end of what came of a log, until a signature behind it vouches for it.
    unvouched: Option<(LogKey, Vec<EntryBytes>)>,
}

impl Import<'_> {
    async fn read<B: AsRef<[u8]>, E: std::fmt::Display>(
        &mut self,
        body: &mut (impl Stream<Item = Result<B, E>> + Unpin),
    ) -> Result<(), Stop> {
        let mut unpacker = Unpacker::new(Kind::Circle);
        while let Some(piece) = body.next().await {
            unpacker.push(piece.map_err(|error| Stop::Upload(error.to_string()))?.as_ref());
            while let Some(frame) = unpacker.next_frame()? {
                self.frame(frame).await?;
            }
        }
        unpacker.finish()?;
        if self.ended { Ok(()) } else { Err(Stop::Contradiction("it ends before its last part")) }
    }

    async fn frame(&mut self, frame: Vec<u8>) -> Result<(), Stop> {
        let Some(mut opener) = self.opener.take() else {
            self.opener = Some(Opener::new(self.node.keyring.open_named(&frame, KEY_BYTES))?);
            return Ok(());
        };
        // A megabyte takes milliseconds to open and to read.
        let opened = tokio::task::spawn_blocking(move || {
            let item = opener.open(&frame);
            (opener, item)
        });
        let (opener, item) = opened.await.map_err(|error| Stop::Broken(error.to_string()))?;
        self.opener = Some(opener);
        self.item(item?).await
    }

    async fn item(&mut self, item: Item) -> Result<(), Stop> {
        if self.ended {
            return Err(Stop::Contradiction("it goes on behind its last part"));
        }
        match (item, self.account.start) {
            (Item::Start { network, circle, made, attachments }, None) => {
                let ours = self.node.network_id;
                if network != ours {
                    return Err(Stop::OtherNetwork { theirs: network, ours });
                }
                self.account.start = Some((circle, made));
                self.wanted = attachments.then(BTreeSet::new);
                Ok(())
            }
            (_, None) => Err(Stop::Contradiction("it does not begin with its beginning")),
            (Item::Start { .. }, Some(_)) => Err(Stop::Contradiction("it begins twice")),
            (Item::Operations { charter, entries, last }, Some((circle, _))) => {
                self.operations(circle, charter, entries, last).await
            }
            (Item::Run { circle, author, log, frame }, Some((of, _))) => {
                if circle != of && circle.0 != self.node.network_id.0 {
                    return Err(Stop::Contradiction("it holds a log of another circle"));
                }
                self.run(LogKey { circle, author, log }, &frame).await
            }
            (Item::Fork { proof }, Some((circle, _))) => self.fork(circle, proof).await,
            (Item::Chunk { sealed }, Some((circle, _))) => self.chunk(circle, sealed).await,
            (Item::End, Some(_)) => {
                self.ended = true;
                Ok(())
            }
        }
    }

    async fn operations(
        &mut self,
        circle: CircleId,
        charter: Vec<u8>,
        entries: Vec<EntryBytes>,
        last: bool,
    ) -> Result<(), Stop> {
        let read = Charter::from_bytes(&charter).ok().filter(|charter| charter.id() == circle);
        let Some(read) = read else { return Err(Stop::Contradiction("its charter is not that of its circle")) };
        self.account.name = Some(read.name);
        let member = self.node.driver.ask(move |engine, _| engine.circle(&circle).is_some()).await?;
        let entries = if member {
            entries
        } else {
            // Who is not in it judges by all of them at once.
            self.gathered.bytes += entries.iter().map(EntryBytes::length).sum::<usize>();
            self.gathered.entries.extend(entries);
            let Gathered { entries, bytes } = &self.gathered;
            if *bytes > limits::WELCOME_BYTES || entries.len() > limits::WELCOME_OPERATIONS {
                return Err(Stop::TooLong);
            }
            if !last {
                return Ok(());
            }
            std::mem::take(&mut self.gathered.entries)
        };
        let brought = entries.len() as u64;
        let command = Command::CarryCircle { charter, entries };
        let outcome = match self.node.driver.command(command).await? {
            Reply::CarriedCircle { outcome, .. } => outcome,
            other => return Err(Stop::Broken(format!("a circle that was carried here came to {other:?}"))),
        };
        self.account.joined = Some(match outcome {
            CarriedCircle::Known { taken, left } => {
                self.account.operations += taken;
                self.account.left_operations += left;
                self.account.known += brought.saturating_sub(taken + left);
                self.account.joined.unwrap_or(Joined::Before)
            }
            CarriedCircle::Joined => {
                self.account.operations += brought;
                Joined::Now
            }
            CarriedCircle::Offered => Joined::Offered,
            CarriedCircle::Declined => Joined::Declined,
            CarriedCircle::NotNamed => Joined::NotNamed,
            CarriedCircle::TooManyOffers => Joined::TooManyOffers,
        });
        Ok(())
    }

    async fn fork(&mut self, circle: CircleId, proof: ForkProof) -> Result<(), Stop> {
        if !matches!(self.account.joined, Some(Joined::Before | Joined::Now)) {
            return Ok(());
        }
        match self.node.driver.command(Command::CarryFork { circle, proof }).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(CommandRefusal::NoFork)) => {
                Err(Stop::Contradiction("what is said to prove a fork of one of its logs does not"))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn run(&mut self, key: LogKey, frame: &[u8]) -> Result<(), Stop> {
        let malformed = Stop::Contradiction("a part of a log is no part of a log");
        let RunFrame { records, mut entries } = RunFrame::from_bytes(frame).map_err(|_refusal| malformed)?;
        match self.unvouched.take_if(|(of, _)| *of == key) {
            Some((_, tail)) => drop(entries.splice(..0, tail)),
            None => self.leave_unvouched(),
        }
        let brought = entries.len() as u64;
        let (Some(first), Some(last)) = (entries.first().and_then(place), entries.last().and_then(place)) else {
            return Err(Stop::Contradiction("a part of a log is no part of a log"));
        };
        let in_network = key.circle.0 == self.node.network_id.0;
        if !in_network && !matches!(self.account.joined, Some(Joined::Before | Joined::Now)) {
            self.account.passed += brought;
            return Ok(());
        }
        if self.account.left.len() >= LEFT_LOGS {
            return Err(Stop::Contradiction("next to nothing in it can be taken"));
        }
        if let Some(left) = self.account.left.get_mut(&key) {
            // Whatever comes behind what was not taken cannot be taken either.
            left.entries += brought;
            return Ok(());
        }
        let command = Command::CarryRun { key, records, entries };
        let Carried { taken, height, rest } = match self.node.driver.command(command).await {
            Ok(Reply::Carried(carried)) => carried,
            Ok(other) => return Err(Stop::Broken(format!("a run that was carried here came to {other:?}"))),
            Err(failure) => return Err(failure.into()),
        };
        let left = (last + 1).saturating_sub(height).min(brought);
        let left = match rest {
            None => 0,
            Some(Rest::Unvouched(tail)) => {
                self.unvouched = Some((key, tail));
                left
            }
            Some(Rest::Waits(why)) => self.leave(key, Left { entries: left, why, refused: false }),
            Some(Rest::Refused(why)) => self.leave(key, Left { entries: left, why, refused: true }),
        };
        self.account.known += brought.saturating_sub(taken + left);
        if in_network {
            self.account.network += taken;
            return Ok(());
        }
        self.account.entries += taken;
        self.want_chunks(key, first, height.min(last + 1)).await
    }

    /// Nothing came that vouches for the end of a log.
    fn leave_unvouched(&mut self) {
        if let Some((key, tail)) = self.unvouched.take() {
            let why = "no signature vouches for it yet; a later entry of the log may".to_owned();
            self.leave(key, Left { entries: tail.len() as u64, why, refused: false });
        }
    }

    fn leave(&mut self, key: LogKey, left: Left) -> u64 {
        let entries = left.entries;
        self.account.left.insert(key, left);
        entries
    }

    /// Looks which chunks the entries `first..end` of a log name, as far as this node can read them.
    async fn want_chunks(&mut self, key: LogKey, first: u64, end: u64) -> Result<(), Stop> {
        let Some(mut wanted) = self.wanted.take() else { return Ok(()) };
        let (reader, inbox) = (self.node.reader.get(), Arc::clone(&self.node.inbox));
        let looked = tokio::task::spawn_blocking(move || {
            let mut next = first;
            while next < end {
                let entries = reader.entries(&key, next, end, LOOK_BYTES)?;
                next += entries.len() as u64;
                if entries.is_empty() {
                    break;
                }
                for entry in entries.into_iter().filter_map(|bytes| Stored::read(bytes).ok()) {
                    let payload = inbox.open(&entry, None);
                    let chunks = payload.iter().flat_map(|payload| &payload.attachments).flat_map(|one| &one.chunks);
                    wanted.extend(chunks.take(WANTED_CHUNKS.saturating_sub(wanted.len())));
                }
            }
            Ok(wanted)
        });
        let broken = |error: &dyn std::fmt::Display| Stop::Broken(error.to_string());
        let looked: Result<_, Damage> = looked.await.map_err(|error| broken(&error))?;
        self.wanted = Some(looked.map_err(|error| broken(&error))?);
        Ok(())
    }

    /// Keeps a chunk that an entry names: what nobody can use would only fill the disk.
    async fn chunk(&mut self, circle: CircleId, sealed: Vec<u8>) -> Result<(), Stop> {
        let chunk = ChunkHash(*blake3::hash(&sealed).as_bytes());
        if !self.wanted.as_ref().is_some_and(|wanted| wanted.contains(&chunk)) {
            self.account.stray_chunks += 1;
        } else if self.node.chunks.holds(&circle, &chunk) {
            self.account.known += 1;
        } else {
            let chunks = self.node.chunks.clone();
            let kept = tokio::task::spawn_blocking(move || chunks.keep(&circle, &chunk, &sealed));
            kept.await.map_err(|error| Stop::Broken(error.to_string()))??;
            self.account.chunks += 1;
        }
        Ok(())
    }
}

/// The place of an entry in its log, as its header says.
fn place(entry: &EntryBytes) -> Option<u64> {
    let header = Header::from_bytes(&entry.header).ok()?;
    (header.seq < u64::MAX).then_some(header.seq)
}
