//! The only loop: socket, timer or command → engine → outputs.
//!
//! One thread, the log thread, owns the engine and the store. It takes what has gathered, hands it to the
//! engine, makes everything that is to be stored durable with one fsync, and only then lets go what waited
//! for it; what arrives meanwhile goes into the next round. Sealing and opening run beside it.
//!
//! This file refuses to know domain rules, and what bytes mean.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::Duration,
};

use cwn_crypto::{
    Hash, PublicKey, Time,
    seal::{Age, EpochKey, Recipient, Seal},
};
use cwn_engine::{
    engine::Engine,
    input::{Command, CommandId, Input, PullId, SessionId, StreamId, Ticket},
    log::CircleId,
    output::{CommandRefusal, Event, Output, Reply, SealTarget},
    store::Write,
    wire::{GivenKey, Nonce},
};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::{
    clock,
    inbox::Told,
    keyring::Keyring,
    network, runs,
    store::{self, Store},
};

/// What gathers before the log thread: frames of at most 1 MiB each.
const INBOX: usize = 256;
/// One round takes at most so many messages, so that one fsync serves many and none waits long.
const ROUND: usize = 4_096;
/// And at most so many bytes: about what a disk takes in the time of one fsync.
const ROUND_BYTES: usize = 16 << 20;

/// A question for the engine, asked on its thread.
type Question = Box<dyn FnOnce(&Engine, &Store) + Send>;
type ReplyTo = oneshot::Sender<Result<Reply, Failure>>;

/// What comes to the log thread.
enum Message {
    Input(Input),
    Command { command: Command, plaintext: Option<Zeroizing<Vec<u8>>>, reply: ReplyTo },
    Ask(Question),
    Stop(oneshot::Sender<()>),
}

impl Message {
    fn bytes(&self) -> usize {
        match self {
            Self::Input(Input::RunFrame { bytes, .. } | Input::Frame { bytes, .. }) => bytes.len(),
            _ => 0,
        }
    }
}

/// Why a command was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The engine refused it.
    #[error(transparent)]
    Refused(#[from] CommandRefusal),
    /// The store takes no more writes.
    #[error("this node is read-only: {0}")]
    ReadOnly(String),
    /// The daemon is ending.
    #[error("the daemon is ending; start it again")]
    Ending,
}

/// A question as the log thread takes it, and where its answer comes.
fn asked<T: Send + 'static>(
    question: impl FnOnce(&Engine, &Store) -> T + Send + 'static,
) -> (Message, oneshot::Receiver<T>) {
    let (reply, answer) = oneshot::channel();
    let question: Question = Box::new(move |engine, store| {
        // Whoever asked may have gone.
        let _ = reply.send(question(engine, store));
    });
    (Message::Ask(question), answer)
}

/// What went out on live streams since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// How other parts of the node reach the log thread.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    failed: watch::Receiver<Option<String>>,
    traffic: Arc<Traffic>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Hands in an input; waits while the log thread is behind.
    pub async fn input(&self, input: Input) -> Result<(), Failure> {
        self.inbox.send(Message::Input(input)).await.map_err(|_closed| Failure::Ending)
    }

    /// As [`Self::input`], from a thread that may wait.
    pub fn input_blocking(&self, input: Input) -> Result<(), Failure> {
        self.inbox.blocking_send(Message::Input(input)).map_err(|_closed| Failure::Ending)
    }

    /// Does something, and waits until it is durable.
    pub async fn command(&self, command: Command) -> Result<Reply, Failure> {
        self.send(command, None).await
    }

    /// Seals and appends, and waits until it is durable.
    pub async fn append(&self, command: Command, plaintext: Zeroizing<Vec<u8>>) -> Result<Reply, Failure> {
        self.send(command, Some(plaintext)).await
    }

    async fn send(&self, command: Command, plaintext: Option<Zeroizing<Vec<u8>>>) -> Result<Reply, Failure> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Command { command, plaintext, reply };
        self.inbox.send(message).await.map_err(|_closed| Failure::Ending)?;
        answer.await.map_err(|_closed| Failure::Ending)?
    }

    /// Looks something up in the engine.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine, &Store) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (question, answer) = asked(question);
        self.inbox.send(question).await.map_err(|_closed| Failure::Ending)?;
        answer.await.map_err(|_closed| Failure::Ending)
    }

    /// As [`Self::ask`], from a thread that may wait.
    pub fn ask_blocking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine, &Store) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (question, answer) = asked(question);
        self.inbox.blocking_send(question).map_err(|_closed| Failure::Ending)?;
        answer.blocking_recv().map_err(|_closed| Failure::Ending)
    }

    /// How many frames, of how many bytes together, went out on live streams since the start.
    pub fn traffic(&self) -> (u64, u64) {
        (self.traffic.frames.load(Ordering::Relaxed), self.traffic.bytes.load(Ordering::Relaxed))
    }

    /// Why the store takes no more writes, if so.
    pub fn failure(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    /// Ends the log thread, once what it was handed is durable.
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.inbox.send(Message::Stop(done)).await.is_ok() {
            // It ends in any case; when it was already gone there is nothing to wait for.
            let _ = ended.await;
        }
    }
}

/// What the log thread tells the rest of the node.
#[derive(Debug)]
pub struct Outlets {
    /// What is accepted and what was taken back, for the views.
    pub told: std_mpsc::Sender<Told>,
    /// What a person or the node should know.
    pub events: mpsc::UnboundedSender<Event>,
}

enum SealJob {
    Payload { id: CommandId, circle: CircleId, target: SealTarget, plaintext: Zeroizing<Vec<u8>> },
    Epoch { circle: CircleId, recipients: Vec<Recipient> },
    GiveKeys { peer: PublicKey, session: SessionId, circle: CircleId, recipient: Recipient, epochs: Vec<Hash> },
    CheckKeys { peer: PublicKey, circle: CircleId, keys: Vec<GivenKey> },
}

/// A command that waits for its answer, and what it brought to be sealed, which is kept no longer than that.
struct Waiting {
    plaintext: Option<Zeroizing<Vec<u8>>>,
    reply: ReplyTo,
}

struct Driver {
    engine: Engine,
    store: Store,
    network: network::Handle,
    outlets: Outlets,
    seal: std_mpsc::Sender<SealJob>,
    /// The commands that were not answered yet.
    commands: BTreeMap<CommandId, Waiting>,
    next_command: u64,
    failed: watch::Sender<Option<String>>,
    traffic: Arc<Traffic>,
    runtime: tokio::runtime::Handle,
    /// To its own inbox, which closes when everybody else has let go of it.
    inputs: mpsc::WeakSender<Message>,
}

/// Starts the log thread.
pub fn start(
    engine: Engine,
    store: Store,
    keyring: Arc<Keyring>,
    network: network::Handle,
    outlets: Outlets,
) -> std::io::Result<Handle> {
    let (inbox, messages) = mpsc::channel(INBOX);
    let inputs = inbox.downgrade();
    let (failed, failed_watch) = watch::channel(None);
    let (deadline, deadlines) = watch::channel(engine.next_deadline());
    let (seal, jobs) = std_mpsc::channel();
    let traffic = Arc::new(Traffic::default());
    let handle = Handle { inbox: inbox.clone(), failed: failed_watch, traffic: Arc::clone(&traffic) };
    let runtime = tokio::runtime::Handle::current();
    runtime.spawn(tick(deadlines, inbox.clone()));
    vital("seal", move || seal_all(&jobs, &keyring, &inbox))?;
    let driver = Driver {
        engine,
        store,
        network,
        outlets,
        seal,
        commands: BTreeMap::new(),
        next_command: 0,
        failed,
        traffic,
        runtime,
        inputs,
    };
    vital("log", move || driver.run(messages, &deadline))?;
    Ok(handle)
}

/// The exit code of a daemon that found a fault of its own: EX_SOFTWARE of sysexits.h.
const OUR_FAULT: i32 = 70;

/// Starts a thread without which a node is none. When it panics the process ends: whoever supervises it starts it
/// anew on what is durable, which is better than a daemon that answers and does nothing.
pub(crate) fn vital(name: &'static str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    struct Guard(&'static str);
    impl Drop for Guard {
        fn drop(&mut self) {
            if thread::panicking() {
                tracing::error!(
                    thread = self.0,
                    "a fault in this program: the daemon ends; please report what stands above"
                );
                std::process::exit(OUR_FAULT);
            }
        }
    }
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = Guard(name);
        work();
    })?;
    Ok(())
}

/// What the engine hears of the network; of the other events it knows nothing.
pub fn input_of(event: network::Event) -> Option<Input> {
    Some(match event {
        network::Event::PeerUp { peer, dialer, session, .. } => {
            let mut nonce = [0; 16];
            nonce.copy_from_slice(&random()[..16]);
            Input::PeerUp { peer, session: SessionId(session), dialled: dialer, nonce: Nonce(nonce) }
        }
        network::Event::PeerDown { peer, session, .. } => Input::PeerDown { peer, session: SessionId(session) },
        network::Event::Frame { peer, session, bytes } => Input::Frame { peer, session: SessionId(session), bytes },
        network::Event::RunRequest { peer, session, stream, bytes } => {
            Input::RunRequested { peer, session: SessionId(session), stream: StreamId(stream), bytes }
        }
        network::Event::RunFrame { pull, bytes } => Input::RunFrame { pull: PullId(pull), bytes },
        network::Event::RunEnded { pull, .. } => Input::RunEnded { pull: PullId(pull) },
        network::Event::LiveQueueDropped { peer, session } => Input::LiveDropped { peer, session: SessionId(session) },
        network::Event::ChunkRequest { .. }
        | network::Event::Listening { .. }
        | network::Event::ListeningNoLonger { .. }
        | network::Event::Refused { .. }
        | network::Event::DialFailed { .. } => return None,
    })
}

/// Random bytes from the system, without which a node cannot go on.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes,
        Err(error) => panic!("the system gives no random bytes: {error}"),
    }
}

/// What happened, and what to do: a disk is somebody's to mend, a write that the store refuses is our mistake.
fn why_read_only(error: &store::Error) -> String {
    if error.is_refusal() {
        format!("a fault in this program kept something from being stored: {error}; start it again, and report this")
    } else if error.is_full() {
        format!("the disk is full: {error}")
    } else {
        format!("the disk failed: {error}; free or mend the disk, then start it again")
    }
}

impl Driver {
    fn run(mut self, mut messages: mpsc::Receiver<Message>, deadline: &watch::Sender<Option<Time>>) {
        self.settle();
        while let Some(first) = messages.blocking_recv() {
            let mut next = Some(first);
            let (mut taken, mut bytes) = (0, 0);
            let mut stop = None;
            while let Some(message) = next.take() {
                taken += 1;
                bytes += message.bytes();
                stop = self.take(message);
                if stop.is_none() && taken < ROUND && bytes < ROUND_BYTES {
                    next = messages.try_recv().ok();
                }
            }
            self.settle();
            // What falls due is not done any more: it would be due again at once, and for ever.
            let stands_still = self.failed.borrow().is_some();
            deadline.send_replace(self.engine.next_deadline().filter(|_| !stands_still));
            if let Some(done) = stop {
                if let Err(error) = self.store.close() {
                    tracing::warn!(%error, "the index could not be written at the end; the next start rebuilds it");
                }
                // Whoever asked may have gone.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Takes one message; gives back whom to tell when it was the last.
    fn take(&mut self, message: Message) -> Option<oneshot::Sender<()>> {
        let failure = self.failed.borrow().clone();
        match (message, failure) {
            (Message::Ask(question), _) => question(&self.engine, &self.store),
            (Message::Stop(done), _) => return Some(done),
            (Message::Command { reply, .. }, Some(why)) => drop(reply.send(Err(Failure::ReadOnly(why)))),
            // Else it would go on to say that it is in sync with whom it is no longer connected with.
            (Message::Input(gone @ Input::PeerDown { .. }), Some(_)) => {
                self.engine.handle(clock::now(), gone, &self.store);
            }
            (Message::Input(_), Some(_)) => {}
            (Message::Input(input), None) => self.engine.handle(clock::now(), input, &self.store),
            (Message::Command { command, plaintext, reply }, None) => {
                let id = CommandId(self.next_command);
                self.next_command += 1;
                self.commands.insert(id, Waiting { plaintext, reply });
                self.engine.handle(clock::now(), Input::Command { id, command, random: random() }, &self.store);
            }
        }
        None
    }

    /// Carries out outputs until there are none: everything that is to be stored with one fsync a round.
    fn settle(&mut self) {
        if self.failed.borrow().is_some() {
            while self.engine.poll_output().is_some() {}
            return;
        }
        loop {
            let mut tickets: Vec<Ticket> = Vec::new();
            let mut batch: Vec<Write> = Vec::new();
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Store { ticket, writes } => {
                        tickets.push(ticket);
                        batch.extend(writes);
                    }
                    output => self.carry_out(output),
                }
            }
            if tickets.is_empty() {
                return;
            }
            if let Err(error) = self.store.append(&batch) {
                self.fail(why_read_only(&error));
                return;
            }
            for ticket in tickets {
                self.engine.handle(clock::now(), Input::Stored { ticket }, &self.store);
            }
        }
    }

    /// What was not made durable must not be acknowledged: the node stands still, and says so.
    fn fail(&mut self, why: String) {
        tracing::error!(why, "this node takes no more writes");
        for Waiting { reply, .. } in std::mem::take(&mut self.commands).into_values() {
            // Whoever asked may have gone.
            let _ = reply.send(Err(Failure::ReadOnly(why.clone())));
        }
        self.failed.send_replace(Some(why));
        self.network.shut_down();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { peer, session, bytes } => {
                self.traffic.frames.fetch_add(1, Ordering::Relaxed);
                self.traffic.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.network.send(peer, session.0, bytes);
            }
            Output::Pull { peer, session, pull, bytes } => self.network.pull(peer, session.0, pull.0, bytes),
            Output::CancelPull { pull } => self.network.cancel_pull(pull.0),
            Output::SendRun { stream, key, from, to, epoch } => {
                let run = runs::Run { key, from, to, epoch };
                let writer = self.network.serve(stream.0);
                let inputs = self.inputs.clone();
                let damaged = move |unread| {
                    let input = match unread {
                        runs::Unread::Entry(seq) => Input::Damaged { key, seq },
                        runs::Unread::Record(epoch) => Input::RecordDamaged { circle: key.circle, epoch },
                    };
                    if let Some(inputs) = inputs.upgrade() {
                        // When the inbox is full, the next who asks for the run finds the damage again.
                        drop(inputs.try_send(Message::Input(input)));
                    }
                };
                self.runtime.spawn(runs::serve(run, self.store.reader(), writer, damaged));
            }
            Output::RefuseRun { stream } => self.network.decline(stream.0),
            Output::Disconnect { peer, reason, .. } => self.network.disconnect(peer, reason),
            Output::Seal { id, circle, target } => {
                match self.commands.get(&id).and_then(|waiting| waiting.plaintext.as_ref()) {
                    Some(plaintext) => {
                        self.seal_job(SealJob::Payload { id, circle, target, plaintext: plaintext.clone() })
                    }
                    None => panic!("a seal was asked for command {id:?}, which brought nothing to seal"),
                }
            }
            Output::MakeEpoch { circle, recipients } => self.seal_job(SealJob::Epoch { circle, recipients }),
            Output::SealKeys { peer, session, circle, recipient, epochs } => {
                self.seal_job(SealJob::GiveKeys { peer, session, circle, recipient, epochs });
            }
            Output::CheckKeys { peer, circle, keys } => self.seal_job(SealJob::CheckKeys { peer, circle, keys }),
            Output::Given { circle, epochs } => drop(self.outlets.told.send(Told::Given(circle, epochs))),
            // The receivers end with the daemon; then nobody wants to know any more.
            Output::Accepted { key, height } => drop(self.outlets.told.send(Told::Accepted(key, height))),
            Output::Retracted { key, seq, hash, retracted } => {
                drop(self.outlets.told.send(Told::Retracted { key, seq, hash, retracted }));
            }
            Output::Dropped { key, seqs, total } => {
                drop(self.outlets.told.send(Told::Dropped { key, seqs, total }));
            }
            Output::Emit(event) => drop(self.outlets.events.send(event)),
            Output::Reply { id, reply } => {
                if let Some(waiting) = self.commands.remove(&id) {
                    drop(waiting.reply.send(reply.map_err(Failure::from)));
                }
            }
            Output::Store { .. } => unreachable!("writes are gathered before"),
        }
    }

    fn seal_job(&self, job: SealJob) {
        assert!(self.seal.send(job).is_ok(), "the sealing thread ends after the log thread");
    }
}

/// Seals beside the log thread: two hundred recipients cost 14 ms.
fn seal_all(jobs: &std_mpsc::Receiver<SealJob>, keyring: &Keyring, inbox: &mpsc::Sender<Message>) {
    for job in jobs {
        let input = match job {
            SealJob::Epoch { circle, recipients } => {
                let key = Zeroizing::new(random());
                match Age.seal_to_recipients(&recipients, key.as_slice()) {
                    Ok(wrapped) => {
                        let commitment = EpochKey::from_bytes(*key).commitment();
                        Input::EpochSealed { circle, commitment, wrapped }
                    }
                    Err(refusal) => Input::NotSealed { id: None, circle, why: refusal.to_string() },
                }
            }
            SealJob::GiveKeys { peer, session, circle, recipient, epochs } => {
                let keys = keyring.seal_keys(&circle, &epochs, recipient);
                Input::KeysSealed { peer, session, circle, keys }
            }
            SealJob::CheckKeys { peer, circle, keys } => {
                let (right, wrong): (Vec<GivenKey>, Vec<GivenKey>) =
                    keys.into_iter().partition(|key| keyring.is_right(&circle, key));
                let wrong = wrong.into_iter().map(|key| key.epoch).collect();
                Input::KeysChecked { peer, circle, right, wrong }
            }
            SealJob::Payload { id, circle, target, plaintext } => {
                let sealed = match &target {
                    SealTarget::Recipients(recipients) => {
                        Age.seal_to_recipients(recipients, &plaintext).map_err(|refusal| refusal.to_string())
                    }
                    SealTarget::Epoch(epoch) => keyring
                        .epoch(&circle, epoch)
                        .map(|key| Age.seal_to_epoch(&key, &plaintext))
                        .map_err(|closed| closed.to_string()),
                };
                match sealed {
                    Ok(payload) => Input::Sealed { id, payload, random: random() },
                    Err(why) => {
                        // If it is for its record, that is fetched again, and something newer sealed to meanwhile.
                        if let SealTarget::Epoch(epoch) = target
                            && inbox.blocking_send(Message::Input(Input::RecordDamaged { circle, epoch })).is_err()
                        {
                            return;
                        }
                        Input::NotSealed { id: Some(id), circle, why }
                    }
                }
            }
        };
        if inbox.blocking_send(Message::Input(input)).is_err() {
            return;
        }
    }
}

/// Wakes the engine when it asked to be.
async fn tick(mut deadlines: watch::Receiver<Option<Time>>, inbox: mpsc::Sender<Message>) {
    loop {
        let deadline = *deadlines.borrow_and_update();
        let changed = match deadline {
            None => deadlines.changed().await,
            Some(at) => {
                let wait = Duration::from_millis(at.since(clock::now()));
                tokio::select! {
                    changed = deadlines.changed() => changed,
                    () = tokio::time::sleep(wait) => {
                        if inbox.send(Message::Input(Input::Tick)).await.is_err() {
                            return;
                        }
                        // The log thread sets the next deadline after every round.
                        deadlines.changed().await
                    }
                }
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::{Hash, PublicKey, issuer_log::LogId};
    use cwn_engine::log::{CircleId, LogKey};

    use super::*;

    #[test]
    fn what_the_store_refuses_is_not_blamed_on_the_disk_and_a_full_one_is_called_full() {
        let key = LogKey { circle: CircleId(Hash([1; 32])), author: PublicKey([2; 32]), log: LogId([3; 16]) };
        let refused = [
            store::Error::TooLong { what: "the value of a fact", length: 2, limit: 1 },
            store::Error::Conflict { key, seq: 4 },
            store::Error::Gap { key, seq: 4, expected: 3 },
        ];
        for refused in refused {
            let why = Failure::ReadOnly(why_read_only(&refused)).to_string();
            assert!(!why.contains("disk") && why.contains(&refused.to_string()) && why.contains("report"), "{why}");
        }
        let why = Failure::ReadOnly(why_read_only(&store::Error::Poisoned)).to_string();
        assert!(why.contains("the disk failed") && why.contains("start it again"), "{why}");
        let full = [
            store::Error::Full { path: "/data/segments/1".into(), source: std::io::ErrorKind::StorageFull.into() },
            store::Error::NoRoom { dir: "/data".into(), why: "the index: no storage space".to_owned() },
        ];
        for full in full {
            let why = Failure::ReadOnly(why_read_only(&full)).to_string();
            assert!(why.contains("the disk is full") && why.contains("free some space"), "{why}");
        }
    }
}
