//! Making the file: who can open it, what goes into it, and its bytes as they are read from the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use cwn_crypto::{
    Hash, NetworkId, PartnerId, PublicKey, Time,
    seal::{RECIPIENTS_LIMIT, Recipient},
};
use cwn_engine::{
    branches,
    circle::Operation,
    engine::Engine,
    fork, limits,
    log::{CircleId, EntryBytes, LogKey, LogKind, Stored},
    replica::Replica,
    store::{Damage, Read},
};
use cwn_functions::payload::{ChunkHash, Payload};
use tokio::sync::mpsc;

use super::{Item, Sealer};
use crate::{
    attachments::Chunks,
    clock,
    inbox::Inbox,
    parcel::{Kind, Packer},
    runs,
    store::Reader,
};

/// Frames that wait for whoever writes the file.
const AHEAD: usize = 4;
/// Entries read at once to look for attachments.
const LOOK_BYTES: usize = 1 << 20;

/// What somebody wants in a file.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The circle.
    pub circle: CircleId,
    /// The partners it is for; all of the circle when none is named.
    pub to: Vec<PartnerId>,
    /// Only entries of which their author says that they were written from then on.
    pub since: Option<Time>,
    /// Whether the chunks of attachments come along.
    pub attachments: bool,
}

/// Why there is no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such circle.
    #[error("this node is in no such circle; `cwn circle list` shows those it is in")]
    UnknownCircle,
    /// A partner that does not belong.
    #[error("{0} does not belong to the circle, and a file tells whoever opens it of the circle; a steward can add it")]
    NotMember(PartnerId),
    /// More nodes than a file is sealed to.
    #[error("{0} nodes belong to the circle, where a file is for at most {RECIPIENTS_LIMIT}; name partners with --to")]
    TooMany(usize),
    /// Nobody but this node.
    #[error("nobody else is in the circle with a certificate that is known here; see `cwn circle show`")]
    Nobody,
}

/// Entries `from..to` of a log.
#[derive(Debug, Clone, Copy)]
struct Part {
    key: LogKey,
    from: u64,
    to: u64,
}

/// What goes into a file, and who can open it.
#[derive(Debug)]
pub struct Plan {
    /// The circle.
    pub circle: CircleId,
    /// The partners who can open the file.
    pub partners: BTreeSet<PartnerId>,
    /// Those of the circle who cannot, though they belong: not certified, or revoked.
    pub left_out: BTreeSet<PartnerId>,
    /// The sealing keys of their nodes.
    pub recipients: Vec<Recipient>,
    charter: Vec<u8>,
    network: Vec<Part>,
    control: Vec<Part>,
    content: Vec<Part>,
    forked: Vec<LogKey>,
    chunks: Option<Vec<ChunkHash>>,
    /// Chunks that would go along and are not here.
    pub missing: usize,
}

impl Plan {
    /// Decides what goes in, on the log thread: it reads nothing.
    pub fn new(engine: &Engine, wanted: &Wanted) -> Result<Self, Refusal> {
        let replica = engine.circle(&wanted.circle).ok_or(Refusal::UnknownCircle)?;
        let control = replica.control().ok_or(Refusal::UnknownCircle)?;
        let (set, left_out) = engine.present_set(replica);
        let roster = replica.fold().roster();
        if let Some(stranger) = wanted.to.iter().find(|partner| !roster.partners().contains(partner)) {
            return Err(Refusal::NotMember(stranger.clone()));
        }
        let named = |partner: &PartnerId| wanted.to.is_empty() || wanted.to.contains(partner);
        let members = || roster.iter().filter(|(_, member)| named(&member.partner));
        let readers: Vec<_> = members().filter(|(node, _)| set.contains(node)).collect();
        if readers.iter().all(|(node, _)| **node == engine.me()) {
            return Err(Refusal::Nobody);
        }
        if readers.len() > RECIPIENTS_LIMIT {
            return Err(Refusal::TooMany(readers.len()));
        }
        let left_out = members().filter(|(node, _)| left_out.contains(node));
        let network = engine.circle(&engine.network()).ok_or(Refusal::UnknownCircle)?;
        // Issuers first: what the others write stands under what those certified.
        let (issuers, others): (Vec<Part>, Vec<Part>) =
            accepted(network, LogKind::Network).partition(|part| network.decides(&part.key.author, LogKind::Network));
        Ok(Self {
            circle: wanted.circle,
            partners: readers.iter().map(|(_, member)| member.partner.clone()).collect(),
            left_out: left_out.map(|(_, member)| member.partner.clone()).collect(),
            recipients: readers.iter().map(|(_, member)| member.recipient).collect(),
            charter: control.charter().to_bytes(),
            network: issuers.into_iter().chain(others).collect(),
            control: accepted(replica, LogKind::Control).collect(),
            content: accepted(replica, LogKind::Content).collect(),
            forked: engine.forks(&wanted.circle).into_iter().map(|(key, _)| key).collect(),
            chunks: None,
            missing: 0,
        })
    }

    /// Reads what the plan needs from the store: where entries of late begin, and which chunks belong to them.
    pub fn look_up(
        &mut self,
        wanted: &Wanted,
        reader: &Reader,
        inbox: &Inbox,
        chunks: &Chunks,
        partner_of: &BTreeMap<PublicKey, PartnerId>,
    ) -> Result<(), Damage> {
        if let Some(since) = wanted.since {
            for part in &mut self.content {
                part.from = first_since(reader, part, since)?;
            }
            self.content.retain(|part| part.from < part.to);
        }
        if !wanted.attachments {
            return Ok(());
        }
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for part in &self.content {
            let mut next = part.from;
            while next < part.to {
                let entries = reader.entries(&part.key, next, part.to, LOOK_BYTES)?;
                if entries.is_empty() {
                    // Found damaged meanwhile; the writer of the file says so when it comes there.
                    break;
                }
                next += entries.len() as u64;
                for entry in entries.into_iter().filter_map(|bytes| Stored::read(bytes).ok()) {
                    let Ok(payload) = inbox.open(&entry, None) else { continue };
                    if self.may_all_have(&payload, partner_of.get(&payload.author)) {
                        found.extend(
                            payload.attachments.iter().flat_map(|one| &one.chunks).filter(|c| seen.insert(**c)),
                        );
                    }
                }
            }
        }
        let count = found.len();
        found.retain(|chunk| chunks.holds(&self.circle, chunk));
        self.missing = count - found.len();
        self.chunks = Some(found);
        Ok(())
    }

    /// Whether everybody who can open the file may have what comes with an entry: on the wire nobody else could
    /// name its chunks.
    fn may_all_have(&self, payload: &Payload, author: Option<&PartnerId>) -> bool {
        let addressed = |partner: &PartnerId| payload.addressees.contains(partner) || author == Some(partner);
        payload.addressees.is_empty() || self.partners.iter().all(addressed)
    }

    /// How many entries go into it.
    pub fn entries(&self) -> u64 {
        self.content.iter().map(|part| part.to - part.from).sum()
    }

    /// How many chunks of attachments go into it.
    pub fn chunks(&self) -> usize {
        self.chunks.as_ref().map_or(0, Vec::len)
    }
}

fn accepted(replica: &Replica, kind: LogKind) -> impl Iterator<Item = Part> {
    replica.logs().filter(move |(_, log)| log.kind == kind).filter_map(|(key, _)| {
        let to = replica.accepted(&key.author, &key.log);
        (to > 0).then_some(Part { key, from: 0, to })
    })
}

/// The first entry of a log that claims to be from `since` on. Claimed times never go back within a log.
fn first_since(reader: &Reader, part: &Part, since: Time) -> Result<u64, Damage> {
    let (mut low, mut high) = (part.from, part.to);
    while low < high {
        let middle = low + (high - low) / 2;
        if held(reader, &part.key, middle)?.header().time < since { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn held(reader: &Reader, key: &LogKey, seq: u64) -> Result<Stored, Damage> {
    let damage = |why: String| Damage { what: format!("entry {seq} of log {}", key.log), why };
    let bytes = reader.entry(key, seq)?.ok_or_else(|| damage("it is not there".to_owned()))?;
    Stored::read(bytes).map_err(|refusal| damage(refusal.to_string()))
}

/// Why a file breaks off while it is made.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] Damage),
    #[error(transparent)]
    Chunk(#[from] crate::attachments::Error),
    #[error("whoever asked for it went away")]
    Gone,
}

/// The bytes of the file, made on a thread of its own as they are taken. An error among them means that it breaks
/// off there.
pub fn stream(
    plan: Plan,
    network: NetworkId,
    reader: Reader,
    chunks: Chunks,
) -> Result<mpsc::Receiver<io::Result<Vec<u8>>>, cwn_crypto::seal::Refusal> {
    let (sealer, key) = Sealer::new(&plan.recipients)?;
    let (packer, head) = Packer::begin(Kind::Circle);
    let (out, bytes) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut writer = Writer { sealer, packer, out: out.clone() };
        let written = writer.write(&plan, network, head, &key, &reader, &chunks);
        let last = match written {
            Ok(()) => Ok(writer.packer.end()),
            Err(Broken::Gone) => return,
            Err(broken) => {
                tracing::error!(%broken, "an export breaks off");
                Err(io::Error::other(broken))
            }
        };
        // Whoever asked may have gone.
        let _ = out.blocking_send(last);
    });
    Ok(bytes)
}

struct Writer {
    sealer: Sealer,
    packer: Packer,
    out: mpsc::Sender<io::Result<Vec<u8>>>,
}

impl Writer {
    fn send(&self, bytes: Vec<u8>) -> Result<(), Broken> {
        self.out.blocking_send(Ok(bytes)).map_err(|_closed| Broken::Gone)
    }

    fn item(&mut self, item: Item) -> Result<(), Broken> {
        let sealed = self.sealer.seal(item);
        let frame = self.packer.frame(&sealed);
        self.send(frame)
    }

    fn write(
        &mut self,
        plan: &Plan,
        network: NetworkId,
        head: Vec<u8>,
        key: &[u8],
        reader: &Reader,
        chunks: &Chunks,
    ) -> Result<(), Broken> {
        self.send(head)?;
        let key = self.packer.frame(key);
        self.send(key)?;
        let attachments = plan.chunks.is_some();
        self.item(Item::Start { network, circle: plan.circle, made: clock::now(), attachments })?;
        let mut known = BTreeSet::new();
        for part in &plan.network {
            self.run(part, reader, &mut known)?;
        }
        self.operations(plan, reader)?;
        // Before the logs: a proof vouches for what stands before the fork.
        for key in &plan.forked {
            if let Some(proof) = fork::proof_of(reader, key)? {
                self.item(Item::Fork { proof })?;
            }
        }
        for part in &plan.content {
            self.run(part, reader, &mut known)?;
        }
        for chunk in plan.chunks.iter().flatten() {
            self.item(Item::Chunk { sealed: chunks.sealed(&plan.circle, chunk)? })?;
        }
        self.item(Item::End)
    }

    fn run(&mut self, part: &Part, reader: &Reader, known: &mut BTreeSet<Hash>) -> Result<(), Broken> {
        let LogKey { circle, author, log } = part.key;
        let mut next = part.from;
        while next < part.to {
            let (frames, after) = runs::frames(reader, &part.key, next, part.to, known)?;
            if after == next {
                let what = format!("entry {next} of log {log}");
                return Err(Damage { what, why: "it is accepted, and not there".to_owned() }.into());
            }
            for frame in frames {
                self.item(Item::Run { circle, author, log, frame })?;
            }
            next = after;
        }
        Ok(())
    }

    /// One more operation, and those before it when they fill an item.
    fn operation(&mut self, plan: &Plan, entry: &EntryBytes, gathered: &mut Vec<EntryBytes>) -> Result<(), Broken> {
        let bytes: usize = gathered.iter().map(EntryBytes::length).sum();
        if bytes + entry.length() > limits::WELCOME_FRAME_BYTES && !gathered.is_empty() {
            let entries = std::mem::take(gathered);
            self.item(Item::Operations { charter: plan.charter.clone(), entries, last: false })?;
        }
        gathered.push(entry.clone());
        Ok(())
    }

    /// The operations, each behind those it builds on.
    fn operations(&mut self, plan: &Plan, reader: &Reader) -> Result<(), Broken> {
        let mut gathered: Vec<EntryBytes> = Vec::new();
        let mut done = BTreeSet::new();
        let mut parts = plan.control.clone();
        let (mut branches, lost) = branches::held(reader, &plan.circle)?;
        if let Some((_, damage)) = lost.into_iter().next() {
            return Err(damage.into());
        }
        loop {
            let mut moved = false;
            for part in &mut parts {
                while part.from < part.to {
                    let entry = held(reader, &part.key, part.from)?;
                    if !builds_on(&entry).iter().all(|before| done.contains(before)) {
                        break;
                    }
                    done.insert(entry.hash());
                    self.operation(plan, entry.bytes(), &mut gathered)?;
                    (part.from, moved) = (part.from + 1, true);
                }
            }
            let (free, waiting): (Vec<Stored>, Vec<Stored>) =
                branches.into_iter().partition(|entry| builds_on(entry).iter().all(|before| done.contains(before)));
            branches = waiting;
            for entry in free {
                done.insert(entry.hash());
                self.operation(plan, entry.bytes(), &mut gathered)?;
                moved = true;
            }
            if !moved {
                break;
            }
        }
        if let Some(part) = parts.iter().find(|part| part.from < part.to) {
            let what = format!("operation {} of log {}", part.from, part.key.log);
            return Err(Damage { what, why: "what it builds on is not there".to_owned() }.into());
        }
        self.item(Item::Operations { charter: plan.charter.clone(), entries: gathered, last: true })
    }
}

fn builds_on(entry: &Stored) -> Vec<Hash> {
    let operation = Operation::from_bytes(entry.payload().unwrap_or_default());
    let heads = operation.map(|operation| operation.heads).unwrap_or_default();
    heads.into_iter().chain(entry.header().previous).collect()
}
