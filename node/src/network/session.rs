//! One session with one peer: its live stream, the runs and chunks it asks for, and those it serves.
//!
//! A session is one task that reports [`Event::PeerUp`], then everything else in order, then
//! [`Event::PeerDown`], and nothing after it. While the driver does not take events, nothing is read from the
//! peer. It refuses to know the swarm: it sees a [`Link`], and says when it is over.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cwn_crypto::identity::PublicKey;
use cwn_engine::limits::FRAME_BYTES;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{
    CHUNK_BYTES, Event, LIVE_QUEUE_BYTES,
    admission::Admitted,
    framing::{self, Broken},
    streams::{Kind, Link, Opener},
};

/// Runs asked for at once; more wait. Enough to fill a line, few enough to be served fairly.
const PULLS: usize = 8;
/// Chunks asked for at once; more wait. Each is up to 1 MiB in memory.
const FETCHES: usize = 4;
/// Streams served at once: twice what a peer asks for, since one that has just ended still counts for a
/// moment. More are reset: that peer keeps to no rule of ours.
const SERVED: usize = 2 * (PULLS + FETCHES);
/// How long the live stream may take to open, and a request to arrive.
const OPENING: Duration = Duration::from_secs(20);
/// How long a run or chunk may stand still. The live stream may be silent; pings watch the connection.
const STALL: Duration = Duration::from_secs(60);
/// A session that is to be left has been still for so long before it ends: what was just asked for may be followed by
/// more.
const LEAVE: Duration = Duration::from_secs(1);
/// A request for a run or a chunk: a few ranges.
const REQUEST_BYTES: usize = 64 << 10;

/// What the tasks of a network share: the open sessions, and the streams that wait to be served.
#[derive(Debug, Default)]
pub(super) struct Shared {
    doors: Mutex<BTreeMap<u64, Door>>,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    next: AtomicU64,
}

/// How the driver reaches a session.
#[derive(Debug, Clone)]
struct Door {
    peer: PublicKey,
    outbox: Arc<Outbox>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What the driver wants of a session. The engine that asks bounds how much it asks for.
#[derive(Debug)]
pub(super) enum Order {
    Pull { pull: u64, request: Vec<u8> },
    Cancel { pull: u64 },
    Fetch { request: Vec<u8>, answer: oneshot::Sender<Result<Vec<u8>, Broken>> },
    Leave { reason: String },
}

/// A stream whose request was read and that waits for its answer.
#[derive(Debug)]
struct Waiting {
    session: u64,
    kind: Kind,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

impl Shared {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn door(&self, peer: &PublicKey, session: u64) -> Option<Door> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.get(&session).filter(|door| door.peer == *peer).cloned()
    }

    pub(super) fn push(&self, peer: &PublicKey, session: u64, bytes: Vec<u8>) {
        // What is lost is said once there is room again.
        let _queued = self.door(peer, session).is_some_and(|door| door.outbox.push(bytes));
    }

    /// Hands an order to a session, or gives it back when the session is over.
    pub(super) fn order(&self, peer: &PublicKey, session: u64, order: Order) -> Result<(), Order> {
        match self.door(peer, session) {
            Some(door) => door.orders.send(order).map_err(|mpsc::error::SendError(order)| order),
            None => Err(order),
        }
    }

    /// Which session pulls is not known here; the others do not know the number.
    pub(super) fn cancel(&self, pull: u64) {
        for door in self.doors.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // A session that is over has cancelled everything.
            let _over = door.orders.send(Order::Cancel { pull });
        }
    }

    /// Ends the session with a peer once nothing is under way in it; no session, nothing to end.
    pub(super) fn leave(&self, peer: &PublicKey, reason: &str) {
        for door in self.doors.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if door.peer == *peer {
                // A session that is over needs not be left.
                let _over = door.orders.send(Order::Leave { reason: reason.to_owned() });
            }
        }
    }

    fn take(&self, stream: u64, kind: Kind) -> Option<Writer> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get(&stream) {
            Some(found) if found.kind == kind => waiting.remove(&stream).map(|waiting| waiting.writer),
            _ => None,
        }
    }

    /// The writer for a run that a peer asked for; it fails when its session is over or it was taken before.
    pub(super) fn serve(&self, stream: u64) -> RunWriter {
        RunWriter(self.take(stream, Kind::Run))
    }

    /// Answers a request for a chunk, in a task of its own.
    pub(super) fn reply(&self, stream: u64, bytes: Vec<u8>) {
        let Some(mut writer) = self.take(stream, Kind::Chunk) else { return };
        tokio::spawn(async move {
            if let Err(broken) = writer.answer(&bytes).await {
                tracing::debug!(%broken, "a chunk did not reach who asked for it");
            }
        });
    }

    /// Refuses a request: its stream is reset.
    pub(super) fn decline(&self, stream: u64) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
    }
}

/// Live frames that wait for a slow peer. Bounded: what does not fit is dropped, and synchronisation by digest
/// brings it later.
#[derive(Debug, Default)]
struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    /// Frames were dropped, and there is room again.
    drained: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    dropping: bool,
}

impl Outbox {
    /// Queues a frame; false when the queue is full and it is dropped.
    fn push(&self, bytes: Vec<u8>) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.bytes + bytes.len() > LIVE_QUEUE_BYTES {
            queue.dropping = true;
            return false;
        }
        queue.bytes += bytes.len();
        queue.frames.push_back(bytes);
        drop(queue);
        self.filled.notify_one();
        true
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).frames.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).bytes == 0
    }

    /// A frame counts until it is written, so that the limit is on what is held.
    fn written(&self, bytes: usize) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.bytes = queue.bytes.saturating_sub(bytes);
        if queue.dropping && queue.bytes == 0 {
            queue.dropping = false;
            self.drained.notify_one();
        }
    }
}

/// The outcome of work that must not stand still.
async fn patiently<T>(work: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    tokio::time::timeout(STALL, work).await.unwrap_or(Err(Broken::Stalled(STALL)))
}

impl Writer {
    async fn answer(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        patiently(async {
            framing::write(&mut self.stream, bytes, CHUNK_BYTES).await?;
            Ok(self.stream.close().await?)
        })
        .await
    }
}

/// Streams the frames of a run to the peer that asked for it.
///
/// Dropped without [`RunWriter::finish`], it tells the peer that the run was cut off.
#[derive(Debug)]
pub struct RunWriter(Option<Writer>);

impl RunWriter {
    /// Sends one frame of 1 byte to [`FRAME_BYTES`], and waits as long as the peer is slow, up to a minute.
    pub async fn send(&mut self, frame: Vec<u8>) -> Result<(), Broken> {
        assert!(!frame.is_empty(), "an empty frame would end the run");
        let Some(Writer { stream, .. }) = &mut self.0 else { return Err(Broken::Gone) };
        patiently(framing::write(stream, &frame, FRAME_BYTES)).await
    }

    /// Says that the run is complete.
    pub async fn finish(mut self) -> Result<(), Broken> {
        let Some(Writer { stream, .. }) = &mut self.0 else { return Err(Broken::Gone) };
        patiently(async {
            framing::write(stream, &[], FRAME_BYTES).await?;
            Ok(stream.close().await?)
        })
        .await
    }
}

/// What a session needs to know at its start.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: PublicKey,
    pub(super) admitted: Admitted,
    /// Whether this node dialled. Who dialled opens the live stream.
    pub(super) dialer: bool,
    /// The relay that passes it on, if one does.
    pub(super) through: Option<PublicKey>,
    pub(super) link: Link,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<Event>,
    /// Why the session is to end. Dropped: the network was started anew.
    pub(super) stop: oneshot::Receiver<String>,
}

/// The driver is gone: there is nobody to report to.
struct Unheard;

impl From<mpsc::error::SendError<Event>> for Unheard {
    fn from(_: mpsc::error::SendError<Event>) -> Self {
        Self
    }
}

impl Session {
    /// Holds the session until it is over.
    pub(super) async fn hold(mut self) {
        let live = tokio::select! {
            biased;
            _stopped = &mut self.stop => return,
            live = tokio::time::timeout(OPENING, open_live(&mut self.link, self.dialer)) => live,
        };
        let live = match live {
            Ok(Ok(live)) => live,
            Ok(Err(broken)) => return tracing::debug!(peer = %self.peer, %broken, "no live stream"),
            Err(_elapsed) => return tracing::debug!(peer = %self.peer, "no live stream was opened in time"),
        };
        let session = self.shared.number();
        let (orders, ordered) = mpsc::unbounded_channel();
        let outbox = Arc::new(Outbox::default());
        let door = Door { peer: self.peer, outbox: outbox.clone(), orders };
        let shared = self.shared.clone();
        shared.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(session, door);
        // Only that there is nobody to tell ends it early, and then there is nothing more to do.
        let _unheard = self.report(session, live, &outbox, ordered).await;
        shared.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
        shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, w| w.session != session);
    }

    async fn report(
        mut self,
        session: u64,
        live: Stream,
        outbox: &Outbox,
        mut ordered: mpsc::UnboundedReceiver<Order>,
    ) -> Result<(), Unheard> {
        let (peer, dialer, through, events) = (self.peer, self.dialer, self.through, self.events.clone());
        let Admitted { certificate, standing } = self.admitted.clone();
        events.send(Event::PeerUp { peer, certificate, standing, dialer, through, session }).await?;

        let (mut read, mut write) = live.split();
        let mut receiving = std::pin::pin!(receive(&mut read, &events, peer, session));
        let mut sending = std::pin::pin!(transmit(&mut write, outbox));
        let mut work = Work::new(session, &self);
        let mut leaving: Option<String> = None;
        let reason = loop {
            let look_again = sleep(LEAVE);
            tokio::select! {
                biased;
                stopped = &mut self.stop => {
                    break stopped.unwrap_or_else(|_restart| "the network of this node was started anew".to_owned());
                }
                sent = &mut sending => break sent,
                Some(order) = ordered.recv() => match order {
                    Order::Leave { reason } => leaving = Some(reason),
                    order => work.take(order),
                },
                Some((kind, stream)) = self.link.arrived.recv() => work.serve(kind, stream),
                (pull, error) = work.ended() => events.send(Event::RunEnded { pull, error }).await?,
                received = &mut receiving => break received?,
                () = outbox.drained.notified() => events.send(Event::LiveQueueDropped { peer, session }).await?,
                () = look_again, if leaving.is_some() => {
                    if work.is_idle() && outbox.is_empty() {
                        break leaving.take().unwrap_or_default();
                    }
                }
            }
        };
        for pull in work.stop().await {
            events.send(Event::RunEnded { pull, error: Some(reason.clone()) }).await?;
        }
        tracing::debug!(%peer, session, reason, "session over");
        Ok(events.send(Event::PeerDown { peer, session, reason }).await?)
    }
}

async fn open_live(link: &mut Link, dialer: bool) -> Result<Stream, Broken> {
    if dialer {
        return link.opener.open(Kind::Live).await;
    }
    match link.arrived.recv().await {
        Some((Kind::Live, stream)) => Ok(stream),
        Some(_) => Err(Broken::Io(io::Error::other("another stream was opened before the live stream"))),
        None => Err(Broken::Gone),
    }
}

/// Reports live frames until none can come any more, and says why.
async fn receive<R: futures::AsyncRead + Unpin>(
    stream: &mut R,
    events: &mpsc::Sender<Event>,
    peer: PublicKey,
    session: u64,
) -> Result<String, Unheard> {
    loop {
        match framing::read(stream, FRAME_BYTES).await {
            Ok(Some(bytes)) => events.send(Event::Frame { peer, session, bytes }).await?,
            Ok(None) => return Ok("the other side ended the session".to_owned()),
            Err(broken) => return Ok(broken.to_string()),
        }
    }
}

/// Sends live frames until it fails, and says why.
async fn transmit<W: futures::AsyncWrite + Unpin>(stream: &mut W, outbox: &Outbox) -> String {
    loop {
        let sent = match outbox.pop() {
            Some(frame) => {
                let sent = framing::write(stream, &frame, FRAME_BYTES).await;
                outbox.written(frame.len());
                sent
            }
            None => {
                let flushed = stream.flush().await.map_err(Broken::Io);
                outbox.filled.notified().await;
                flushed
            }
        };
        if let Err(broken) = sent {
            return broken.to_string();
        }
    }
}

/// The runs and chunks of a session, each in a task that ends with it.
struct Work {
    session: u64,
    peer: PublicKey,
    opener: Opener,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    pulls: BTreeMap<u64, AbortHandle>,
    tasks: JoinSet<Option<(u64, Result<(), Broken>)>>,
    pulling: Arc<Semaphore>,
    fetching: Arc<Semaphore>,
    serving: Arc<Semaphore>,
}

impl Work {
    fn new(session: u64, of: &Session) -> Self {
        Self {
            session,
            peer: of.peer,
            opener: of.link.opener.clone(),
            shared: of.shared.clone(),
            events: of.events.clone(),
            pulls: BTreeMap::new(),
            tasks: JoinSet::new(),
            pulling: Arc::new(Semaphore::new(PULLS)),
            fetching: Arc::new(Semaphore::new(FETCHES)),
            serving: Arc::new(Semaphore::new(SERVED)),
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Pull { pull, request } => {
                let (opener, places, events) = (self.opener.clone(), self.pulling.clone(), self.events.clone());
                let task = async move { Some((pull, run(&opener, &places, &events, pull, &request).await)) };
                self.pulls.insert(pull, self.tasks.spawn(task));
            }
            Order::Cancel { pull } => {
                if let Some(task) = self.pulls.remove(&pull) {
                    task.abort();
                }
            }
            Order::Fetch { request, answer } => {
                let (opener, places) = (self.opener.clone(), self.fetching.clone());
                self.tasks.spawn(async move {
                    // Who asked may have stopped waiting.
                    let _unwanted = answer.send(chunk(&opener, &places, &request).await);
                    None
                });
            }
            Order::Leave { .. } => unreachable!("the session itself is left, not its work"),
        }
    }

    /// Whether nothing is asked for or served: a run that somebody reads is not cut off for a goodbye.
    fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.serving.available_permits() == SERVED
    }

    fn serve(&mut self, kind: Kind, stream: Stream) {
        let place = self.serving.clone().try_acquire_owned();
        let (Ok(place), Kind::Run | Kind::Chunk) = (place, kind) else {
            return tracing::debug!(peer = %self.peer, ?kind, "a stream more than is served was reset");
        };
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let (peer, session) = (self.peer, self.session);
        self.tasks.spawn(async move {
            let mut writer = Writer { stream, _place: place };
            match framing::read_within(&mut writer.stream, REQUEST_BYTES, OPENING).await {
                Ok(Some(bytes)) => {
                    let stream = shared.number();
                    let waiting = Waiting { session, kind, writer };
                    shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, waiting);
                    let request = match kind {
                        Kind::Run => Event::RunRequest { peer, session, stream, bytes },
                        Kind::Chunk | Kind::Live => Event::ChunkRequest { peer, session, stream, bytes },
                    };
                    // Without a driver the whole session ends.
                    let _unheard = events.send(request).await;
                }
                Ok(None) => {}
                Err(broken) => tracing::debug!(%peer, %broken, "a request could not be read"),
            }
            None
        });
    }

    /// The next pull that ended, and why if it failed.
    async fn ended(&mut self) -> (u64, Option<String>) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Some((pull, outcome)))) => {
                    if self.pulls.remove(&pull).is_some() {
                        return (pull, outcome.err().map(|broken| broken.to_string()));
                    }
                }
                Some(Ok(None) | Err(_)) => {}
                None => pending().await,
            }
        }
    }

    /// Stops everything, and names the pulls that had not ended.
    async fn stop(mut self) -> Vec<u64> {
        self.tasks.shutdown().await;
        self.pulls.into_keys().collect()
    }
}

async fn place(places: &Semaphore) -> Result<tokio::sync::SemaphorePermit<'_>, Broken> {
    places.acquire().await.map_err(|_closed| Broken::Gone)
}

async fn ask(opener: &Opener, kind: Kind, request: &[u8]) -> Result<Stream, Broken> {
    let mut stream = opener.open(kind).await?;
    patiently(async {
        framing::write(&mut stream, request, REQUEST_BYTES).await?;
        Ok(stream.flush().await?)
    })
    .await?;
    Ok(stream)
}

/// Asks for a run and reports its frames, as fast as the driver takes them.
async fn run(
    opener: &Opener,
    places: &Semaphore,
    events: &mpsc::Sender<Event>,
    pull: u64,
    request: &[u8],
) -> Result<(), Broken> {
    let _place = place(places).await?;
    let mut stream = ask(opener, Kind::Run, request).await?;
    loop {
        match framing::read_within(&mut stream, FRAME_BYTES, STALL).await? {
            Some(end) if end.is_empty() => return Ok(stream.close().await?),
            Some(bytes) => {
                events.send(Event::RunFrame { pull, bytes }).await.map_err(|_unheard| Broken::Gone)?;
            }
            None => return Err(Broken::CutOff),
        }
    }
}

/// Asks for a chunk.
async fn chunk(opener: &Opener, places: &Semaphore, request: &[u8]) -> Result<Vec<u8>, Broken> {
    let _place = place(places).await?;
    let mut stream = ask(opener, Kind::Chunk, request).await?;
    let reply = framing::read_within(&mut stream, CHUNK_BYTES, STALL).await?;
    stream.close().await?;
    reply.ok_or(Broken::CutOff)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_frames_says_so_once_and_takes_more_once_drained() {
        let outbox = Outbox::default();
        let half = vec![0; LIVE_QUEUE_BYTES / 2];
        let says = || outbox.drained.notified().now_or_never().is_some();
        assert_eq!([0; 4].map(|_| outbox.push(half.clone())), [true, true, false, false]);
        let first = outbox.pop().unwrap();
        assert!(!outbox.push(half.clone()), "what is being written still counts");
        outbox.written(first.len());
        assert!(outbox.push(half.clone()));
        assert!(!outbox.push(half.clone()));
        assert!(!says(), "what is said again before there is room would be lost too");
        while let Some(frame) = outbox.pop() {
            outbox.written(frame.len());
        }
        assert!(says() && !says());
        assert_eq!([0; 3].map(|_| outbox.push(half.clone())), [true, true, false]);
    }
}
