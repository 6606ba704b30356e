//! Forks: an author signed two entries for one place of a log. Proof of it goes from node to node.
//!
//! A fork is evidence, never an eraser. What stands before it counts as before; what comes from it on is disputed,
//! held by nobody and shown to nobody, unless a cut names one of the branches: then that branch stands, and all
//! hold it. So members end with the same, whichever branch each had first. What stands behind the fork of a control
//! log is another story: [`crate::branches`].
//!
//! How a fork is found: a peer holds another entry at a place than this node does. Then this node asks for what
//! comes before, further and further back, until both are the same again.

use std::collections::BTreeMap;

use cwn_crypto::{Domain, Hash, PublicKey, Signature, encoding};
use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{
    engine::{Engine, fact_key},
    limits,
    log::{CircleId, Decoded, Header, LogKey, Suite},
    output::{Event, Output},
    planted::{Bug, planted},
    replica::Replica,
    rot::{Rot, read_place},
    store::{Damage, Read, Write, known_facts},
    wire::Frame,
};

pub(crate) const FORK_FACT: &[u8] = b"fork/";

/// One branch of a fork: the headers from the fork on, up to the first that its author signed itself.
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct Branch {
    /// The canonical headers, each naming the one before.
    #[n(0)]
    pub headers: Vec<ByteVec>,
    /// The author's signature over the last.
    #[n(1)]
    pub signature: Signature,
}

/// Two branches of one log, each vouched for by its author: that the author signed both is all it says.
#[derive(Clone, PartialEq, Encode, Decode)]
pub struct ForkProof {
    /// One branch.
    #[n(0)]
    pub one: Branch,
    /// The other.
    #[n(1)]
    pub other: Branch,
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Branch({} headers)", self.headers.len())
    }
}

impl std::fmt::Debug for ForkProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ForkProof({} and {} headers)", self.one.headers.len(), self.other.headers.len())
    }
}

/// Why something proves no fork. Whoever sent it made it up, or altered it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFork {
    /// A header is not canonical.
    #[error("the proof of a fork has a header that is {0}")]
    Header(#[from] encoding::Refusal),
    /// A branch is none: too long, of too long headers, empty, not linked, or not signed at its end.
    #[error("a branch of 1 to {} linked headers, the last signed by its author, is missing", limits::UNSIGNED_ENTRIES + 1)]
    Branch,
    /// Both branches are the same, or of different places.
    #[error("its branches do not leave one place of one log")]
    Apart,
}

/// Where a log forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forked {
    /// The log.
    pub key: LogKey,
    /// The first place that was signed twice.
    pub seq: u64,
}

impl Branch {
    /// The branch that starts with the first of these entries, if its author signed one of them.
    fn of<'a>(entries: impl IntoIterator<Item = &'a Decoded>) -> Option<Self> {
        let mut headers = Vec::new();
        for entry in entries.into_iter().take(limits::UNSIGNED_ENTRIES + 1) {
            let bytes = entry.bytes();
            headers.push(ByteVec::from(bytes.header.clone()));
            if entry.header().author.verify(Domain::ENTRY, &bytes.header, &bytes.signature).is_ok() {
                return Some(Self { headers, signature: bytes.signature });
            }
        }
        None
    }

    /// Its first header with that one's hash, once all of it holds.
    fn verify(&self) -> Result<(Header, Hash), NoFork> {
        if self.headers.is_empty() || self.headers.len() > limits::UNSIGNED_ENTRIES + 1 {
            return Err(NoFork::Branch);
        }
        let mut first: Option<(Header, Hash)> = None;
        let mut before: Option<(Header, Hash)> = None;
        for bytes in &self.headers {
            let header = Header::from_bytes(bytes)?;
            let hash = Hash::of(Domain::ENTRY, &[bytes]);
            if !header.fits_in(bytes.len()) {
                return Err(NoFork::Branch);
            }
            if let Some((previous, its_hash)) = &before {
                let follows = header.previous == Some(*its_hash) && header.seq == previous.seq + 1;
                if !follows || key_of(&header) != key_of(previous) {
                    return Err(NoFork::Branch);
                }
            }
            first.get_or_insert_with(|| (header.clone(), hash));
            before = Some((header, hash));
        }
        let (Some(first), Some(last)) = (first, self.headers.last()) else { return Err(NoFork::Branch) };
        let signed = first.0.author.verify(Domain::ENTRY, last, &self.signature).is_ok();
        if signed { Ok(first) } else { Err(NoFork::Branch) }
    }
}

fn key_of(header: &Header) -> LogKey {
    LogKey { circle: header.circle, author: header.author, log: header.log }
}

impl ForkProof {
    /// Whether both branches are of a control log, as far as their headers say.
    fn is_of_operations(&self) -> bool {
        let control = |branch: &Branch| {
            let first = branch.headers.first().map(|bytes| Header::from_bytes(bytes));
            matches!(first, Some(Ok(header)) if header.suite == Suite::Control)
        };
        control(&self.one) && control(&self.other)
    }

    /// The hash of the entry before the fork: both branches name it, so that their author vouches for it too.
    pub(crate) fn before(&self) -> Option<Hash> {
        self.one.headers.first().and_then(|bytes| Header::from_bytes(bytes).ok()).and_then(|header| header.previous)
    }

    /// Where the log forks, once both branches hold.
    pub fn verify(&self) -> Result<Forked, NoFork> {
        let ((one, one_hash), (other, other_hash)) = (self.one.verify()?, self.other.verify()?);
        let place = |header: &Header| (key_of(header), header.seq, header.previous);
        if one_hash == other_hash || place(&one) != place(&other) {
            return Err(NoFork::Apart);
        }
        Ok(Forked { key: key_of(&one), seq: one.seq })
    }
}

/// A place at which a peer holds something else than this node.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Up to where both hold the log.
    pub(crate) height: u64,
    /// How far back from there is asked.
    pub(crate) back: u64,
    /// Whether it is being asked.
    pub(crate) asked: bool,
}

/// What a run that looks for a fork has shown so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It starts behind the fork.
    Behind,
    /// Nothing yet: the same so far, or no signature yet.
    Nothing,
    /// The fork was proven, or cannot be.
    Done,
}

/// Entries of one circle, by what they follow, as somebody brought them.
struct Followers<'a> {
    of: BTreeMap<(LogKey, u64, Option<Hash>), Vec<&'a Decoded>>,
    /// How many entries stand before the first that its author signed, from each that was looked at; none where there is
    /// no such one. Whoever brings thousands has each of them looked at once, however often they part.
    unsigned: BTreeMap<Hash, Option<usize>>,
}

impl<'a> Followers<'a> {
    fn new(circle: CircleId, entries: &'a [Decoded]) -> Self {
        let of_circle = entries.iter().filter(|entry| entry.key().circle == circle);
        let by_hash: BTreeMap<Hash, &Decoded> = of_circle.map(|entry| (entry.hash(), entry)).collect();
        let mut of: BTreeMap<_, Vec<&Decoded>> = BTreeMap::new();
        for entry in by_hash.into_values() {
            of.entry((entry.key(), entry.header().seq, entry.header().previous)).or_default().push(entry);
        }
        Self { of, unsigned: BTreeMap::new() }
    }

    fn after(&self, entry: &Decoded) -> Option<&'a Decoded> {
        let after = self.of.get(&(entry.key(), entry.header().seq + 1, Some(entry.hash())));
        after.map(|after| after[0])
    }

    /// The branch that starts with this entry, if its author signed one of the first of it.
    fn branch(&mut self, from: &'a Decoded, signed: &mut impl FnMut(&Decoded) -> bool) -> Option<Branch> {
        let mut way: Vec<Hash> = Vec::new();
        let mut next = Some(from);
        let mut unsigned = loop {
            let Some(entry) = next else { break None };
            if let Some(known) = self.unsigned.get(&entry.hash()) {
                break *known;
            }
            if signed(entry) {
                self.unsigned.insert(entry.hash(), Some(0));
                break Some(0);
            }
            way.push(entry.hash());
            next = self.after(entry);
        };
        for hash in way.into_iter().rev() {
            unsigned = unsigned.map(|count| count + 1);
            self.unsigned.insert(hash, unsigned);
        }
        let before = unsigned.filter(|count| *count <= limits::UNSIGNED_ENTRIES)?;
        let entries: Vec<&Decoded> =
            std::iter::successors(Some(from), |entry| self.after(entry)).take(before + 1).collect();
        let headers = entries.iter().map(|entry| ByteVec::from(entry.bytes().header.clone())).collect();
        Some(Branch { headers, signature: entries.last()?.bytes().signature })
    }
}

/// The forks that these entries of one circle prove among themselves, of each log the lowest, if it is lower than what is
/// `known` already.
pub(crate) fn proofs_among(
    circle: CircleId,
    entries: &[Decoded],
    known: impl Fn(&LogKey) -> Option<u64>,
) -> Vec<(Forked, ForkProof)> {
    let proofs = parted_among(circle, entries, known, Decoded::signature_holds);
    proofs.into_iter().filter_map(|proof| Some((proof.verify().ok()?, proof))).collect()
}

fn parted_among(
    circle: CircleId,
    entries: &[Decoded],
    known: impl Fn(&LogKey) -> Option<u64>,
    mut signed: impl FnMut(&Decoded) -> bool,
) -> Vec<ForkProof> {
    let mut followers = Followers::new(circle, entries);
    let parted = followers.of.iter().filter(|(_, both)| both.len() > 1);
    let parted: Vec<_> = parted.map(|((key, seq, _), ways)| (*key, *seq, ways.clone())).collect();
    let mut proofs: BTreeMap<LogKey, ForkProof> = BTreeMap::new();
    // In the order of places: the first is the lowest.
    for (key, seq, ways) in parted {
        if proofs.contains_key(&key) || known(&key).is_some_and(|known| known <= seq) {
            continue;
        }
        // Others than its author can make up as many more as they like.
        let mut branches = ways.into_iter().filter_map(|from| followers.branch(from, &mut signed));
        if let (Some(one), Some(other)) = (branches.next(), branches.next()) {
            proofs.insert(key, ForkProof { one, other });
        }
    }
    proofs.into_values().collect()
}

/// What stands in the place of a proof that cannot be read back: where the log forks the name says, and others can
/// prove it.
const UNPROVEN: &[u8] = &[0];

fn forks_of(key: &LogKey) -> Vec<u8> {
    fact_key(FORK_FACT, &[&key.circle.0.0, &key.author.0, &key.log.0])
}

pub(crate) fn fork_fact(Forked { key, seq }: &Forked) -> Vec<u8> {
    [forks_of(key).as_slice(), &seq.to_be_bytes()].concat()
}

/// The proof that a log forks, as a store holds it.
pub fn proof_of(store: &dyn Read, key: &LogKey) -> Result<Option<ForkProof>, Damage> {
    let mut proofs = known_facts(store, &forks_of(key))?.into_iter();
    Ok(proofs.find_map(|(_, value)| encoding::from_bytes(&value, limits::FRAME_BYTES).ok()))
}

/// A branch of a forked log that this node's store holds, disputed until a cut names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disputed {
    /// The log.
    pub key: LogKey,
    /// The first place that was signed twice.
    pub seq: u64,
    /// What stands there, by which a cut may be asked to name the branch.
    pub first: Hash,
    /// How many entries of the log are held along it, those before the fork included.
    pub height: u64,
    /// The hash of the last.
    pub head: Hash,
}

impl Engine {
    /// What is held of a circle behind the forks of content logs and does not count. Of each log that is one branch, that
    /// which came first to this node.
    pub fn disputed(&self, circle: &CircleId, store: &dyn Read) -> Result<Vec<Disputed>, Damage> {
        let Some(replica) = self.circles.get(circle) else { return Ok(Vec::new()) };
        let mut disputed = Vec::new();
        for (key, seq) in self.forks(circle) {
            let Some(tip) = store.tip(&key)?.filter(|tip| seq < tip.height) else { continue };
            let counts = replica.accepted(&key.author, &key.log) > seq || replica.is_of_steward(&key);
            if let Some(first) = store.hash(&key, seq)?.filter(|_| !counts) {
                disputed.push(Disputed { key, seq, first, height: tip.height, head: tip.head });
            }
        }
        Ok(disputed)
    }

    /// The places that authors signed twice, in one circle.
    pub fn forks(&self, circle: &CircleId) -> Vec<(LogKey, u64)> {
        let replica = self.circles.get(circle);
        let forks = replica.into_iter().flat_map(Replica::forks);
        forks.map(|((author, log), seq)| (LogKey { circle: *circle, author: *author, log: *log }, *seq)).collect()
    }

    /// Takes what the store knows of a circle's forks back into memory. Of a log whose proof cannot be read back no more
    /// is held for that.
    pub(crate) fn load_forks(&mut self, circle: &CircleId, store: &dyn Read, rot: &mut Rot) -> Result<(), Damage> {
        let prefix = fact_key(FORK_FACT, &[&circle.0.0]);
        let place = |name: &[u8]| {
            let (key, seq) = read_place(&[circle.0.0.as_slice(), name].concat())?;
            Some(Forked { key, seq })
        };
        let (mut known, lost) = rot.facts(store, (&prefix, "the proof of a fork"), |name, value| {
            if value == UNPROVEN {
                return Ok((place(name).ok_or("it names no place")?, None));
            }
            let proof = encoding::from_bytes::<ForkProof>(value, limits::FRAME_BYTES);
            let proof = proof.map_err(|refusal| refusal.to_string())?;
            Ok((proof.verify().map_err(|refusal| refusal.to_string())?, Some(proof)))
        })?;
        for forked in lost.iter().filter_map(|name| place(name)) {
            rot.writes.push(Write::Fact { key: fork_fact(&forked), value: UNPROVEN.to_vec() });
            known.push((forked, None));
        }
        let Some(replica) = self.circles.get_mut(circle) else { return Ok(()) };
        for (forked, proof) in known {
            proof.into_iter().for_each(|proof| replica.vouch_before(&forked.key, &proof));
            // A crash between the proof and what follows from it cannot be: they are one write.
            if let Err(damage) = replica.fork(store, forked) {
                rot.damages.push(damage);
            }
        }
        Ok(())
    }

    /// A peer has another entry than this node at the end of what both hold of a log.
    pub(crate) fn doubt(&mut self, peer: &PublicKey, key: &LogKey, height: u64) {
        let held = self.circles.get(&key.circle).and_then(|replica| replica.log(&key.author, &key.log));
        if held.is_none() || height == 0 {
            return;
        }
        let doubts = self.sync.doubts.entry(*peer).or_default();
        if doubts.len() < limits::DOUBTS_PER_PEER && !doubts.contains_key(key) {
            doubts.insert(*key, Doubt { height, back: 1, asked: false });
            self.sync.look_at(self.now);
        }
    }

    /// Looks at a run that a peer sent because its log differs from the one held here. `run` is what came of it so
    /// far, from the first place asked for.
    pub(crate) fn probe(
        &mut self,
        peer: &PublicKey,
        key: &LogKey,
        run: &[Decoded],
        store: &dyn Read,
    ) -> Result<Found, Damage> {
        let Some(first) = run.first() else { return Ok(Found::Nothing) };
        let start = first.header().seq;
        let linked = run.windows(2).all(|pair| {
            pair[1].header().previous == Some(pair[0].hash()) && pair[1].header().seq == pair[0].header().seq + 1
        });
        if !linked {
            return Ok(Found::Done);
        }
        if start > 0 && first.header().previous != store.hash(key, start - 1)? {
            return Ok(Found::Behind);
        }
        let mut fork = None;
        for (index, entry) in run.iter().enumerate() {
            match store.hash(key, entry.header().seq)? {
                Some(mine) if mine == entry.hash() => {}
                Some(_) => {
                    fork = Some(index);
                    break;
                }
                // It goes on from where this node ends: no fork.
                None => return Ok(Found::Done),
            }
        }
        let Some(fork) = fork else { return Ok(Found::Nothing) };
        let Some(theirs) = Branch::of(&run[fork..]) else {
            let waits = run.len() - fork <= limits::UNSIGNED_ENTRIES;
            return Ok(if waits { Found::Nothing } else { Found::Done });
        };
        let from = start + fork as u64;
        let mut own = Vec::new();
        for seq in from..=from + limits::UNSIGNED_ENTRIES as u64 {
            let Some(bytes) = store.entry(key, seq)? else { break };
            own.extend(Decoded::decode(bytes).ok());
        }
        match Branch::of(&own) {
            Some(mine) => self.fork_proven(peer, ForkProof { one: mine, other: theirs }, store)?,
            None => self.leave_branch(peer, key, store)?,
        }
        Ok(Found::Done)
    }

    /// A peer says that an author forked a log.
    pub(crate) fn fork_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        proof: ForkProof,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        match proof.verify() {
            Ok(forked) if forked.key.circle == circle => {
                let Forked { key, seq } = forked;
                let known = self.circles.get(&circle).and_then(|replica| replica.fork_of(&key.author, &key.log));
                match known.is_some_and(|known| known <= seq) {
                    // Not once more, or whoever says it again and again has what came since given up as often.
                    true => Ok(()),
                    false => self.fork_proven(peer, proof, store),
                }
            }
            Ok(_) => {
                self.fault(peer, circle, "the proof of a fork in another circle".to_owned());
                Ok(())
            }
            Err(refusal) => {
                self.fault(peer, circle, refusal.to_string());
                Ok(())
            }
        }
    }

    pub(crate) fn fork_proven(&mut self, from: &PublicKey, proof: ForkProof, store: &dyn Read) -> Result<(), Damage> {
        let Ok(forked) = proof.verify() else { return Ok(()) };
        let Forked { key, seq } = forked;
        let Some(replica) = self.circles.get_mut(&key.circle) else { return Ok(()) };
        // One proof for each author's log: the one of the lowest place.
        let known = replica.fork_of(&key.author, &key.log);
        let limit =
            if proof.is_of_operations() { limits::OPERATION_FORKS_PER_AUTHOR } else { limits::FORKS_PER_AUTHOR };
        replica.part_now(&key);
        if known.is_some_and(|known| known <= seq) {
            return self.leave_branch(from, &key, store);
        }
        // Of logs that are held the quota says how many there are.
        let held = replica.log(&key.author, &key.log).is_some();
        if (known.is_none() && !held && replica.forks_of(&key.author) >= limit) || !replica.knows(&key.author) {
            return Ok(());
        }
        if replica.is_in_flight(&key) {
            // What of the log is on its way to the store can be read back once it is there.
            replica.part_soon(&key);
            let waiting = self.waiting_forks.get(&key).and_then(|(_, proof)| proof.verify().ok());
            if waiting.is_none_or(|waiting| seq < waiting.seq) {
                self.waiting_forks.insert(key, (*from, proof));
            }
            if key.author == self.me {
                self.leave_log(&key);
            }
            return Ok(());
        }
        replica.vouch_before(&key, &proof);
        let mut writes = replica.fork(store, forked)?;
        let decides = replica.control().is_some() && !writes.is_empty();
        // Only the lowest place is remembered.
        let before = known.map(|seq| Write::Fact { key: fork_fact(&Forked { key, seq }), value: Vec::new() });
        writes.extend(before);
        writes.push(Write::Fact { key: fork_fact(&forked), value: encoding::to_bytes(&proof) });
        self.keep(key.circle, writes, decides, store);
        self.output(Output::Emit(Event::Fork { key, seq }));
        if key.circle == self.network {
            self.look_for_alarms();
        }
        if key.author == self.me {
            // Somebody writes with this node's key, on the very log it writes: what it writes next stands elsewhere.
            self.leave_log(&key);
            self.output(Output::Emit(Event::OwnKeyElsewhere { circle: key.circle }));
        }
        self.tell_accepted_with(&key);
        let now = self.now;
        let told = if self.sync.tells_fork(now) { self.sync.sharing(&key.circle) } else { Vec::new() };
        for (peer, tag) in told {
            if peer != *from && !planted(Bug::ForkKeptQuiet) {
                self.send(&peer, &Frame::Fork { tag, proof: proof.clone() });
            }
        }
        self.sync.ask_again(&key);
        self.sync.compare_soon(&key.circle, self.now);
        self.log_grew(&key, true, store)
    }

    /// A peer holds another branch than this node of a log that is known to fork. Which of them a cut names shows once all
    /// of it is there, and the one that is held may be the wrong one.
    fn leave_branch(&mut self, peer: &PublicKey, key: &LogKey, store: &dyn Read) -> Result<(), Damage> {
        self.sync.ask_again(key);
        // Not while somebody else goes on with it, or whoever holds another would hold it up for ever.
        let goes_on = self.sync.can_be_had(key, peer);
        let Some(replica) = self.circles.get_mut(&key.circle) else { return Ok(()) };
        if goes_on || replica.is_in_flight(key) || !replica.leave_branch(store, key) {
            return Ok(());
        }
        self.tell_accepted_with(key);
        // Before anybody else: whoever brought the branch that was left may say over and over that it has the log.
        self.want_again(peer, key);
        self.sync.compare_soon(&key.circle, self.now);
        self.log_grew(key, true, store)
    }

    /// Takes in the forks that entries of a circle's control logs, from one bearer, prove among themselves or beside what is
    /// held here: who brings one branch may be somebody whom the other removed, and with whom nothing else is compared.
    pub(crate) fn forks_among(&mut self, from: PublicKey, circle: CircleId, entries: &[Decoded], store: &dyn Read) {
        if !self.circles.contains_key(&circle) {
            return;
        }
        let known = |key: &LogKey| self.circles.get(&circle)?.fork_of(&key.author, &key.log);
        let among = proofs_among(circle, entries, known).into_iter();
        let mut looked: Vec<_> = among.map(|(_, proof)| self.fork_proven(&from, proof, store)).collect();
        let of_circle = |entry: &&Decoded| entry.key().circle == circle && entry.header().suite == Suite::Control;
        looked.push(self.probe_branches(&from, circle, entries.iter().filter(of_circle), store));
        for damage in looked.into_iter().filter_map(Result::err) {
            self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
        }
    }

    /// Sends a peer the proof of a fork that its tip shows it does not know.
    pub(crate) fn tell_fork(&mut self, peer: &PublicKey, key: &LogKey, store: &dyn Read) -> Result<(), Damage> {
        let Some(proof) = proof_of(store, key)? else { return Ok(()) };
        let sharing = self.sync.sharing(&key.circle);
        if let Some((_, tag)) = sharing.into_iter().find(|(one, _)| one == peer && !planted(Bug::ForkKeptQuiet)) {
            self.send(peer, &Frame::Fork { tag, proof });
        }
        Ok(())
    }
}

/// Doubts by peer and log.
pub(crate) type Doubts = BTreeMap<PublicKey, BTreeMap<LogKey, Doubt>>;

#[cfg(test)]
mod tests {
    use cwn_crypto::{SigningKey, Time, issuer_log::LogId};

    use super::*;
    use crate::log::{EntryBytes, Opening, Payload, Under};

    const CIRCLE: CircleId = CircleId(Hash([1; 32]));

    /// The next entry of a log behind another, whose signature does not hold.
    fn unsigned(author: PublicKey, before: Option<&Decoded>, payload: &[u8]) -> Decoded {
        let header = Header {
            suite: Suite::Control,
            circle: CIRCLE,
            author,
            log: LogId([2; 16]),
            seq: before.map_or(0, |before| before.header().seq + 1),
            previous: before.map(Decoded::hash),
            time: Time(0),
            epoch: None,
            payload_hash: Hash::of(Domain::PAYLOAD, &[payload]),
            payload_length: payload.len() as u32,
            expiry: None,
            opening: before.is_none().then(|| Opening { under: Under::Charter, cites: Vec::new() }),
            retracts: None,
        };
        let (header, payload) = (encoding::to_bytes(&header), Payload::Sealed(payload.to_vec()));
        Decoded::decode(EntryBytes { header, signature: Signature([0; 64]), payload }).unwrap()
    }

    /// A log that parts behind each of its entries.
    fn parting(length: usize) -> Vec<Decoded> {
        let author = SigningKey::from_seed(&[3; 32]).public();
        let mut entries = vec![unsigned(author, None, b"first")];
        let mut end = 0;
        for _ in 0..length {
            let both = [b"one", b"two"].map(|payload| unsigned(author, Some(&entries[end]), payload));
            end = entries.len();
            entries.extend(both);
        }
        entries
    }

    #[test]
    fn i4_forged_entries_for_a_place_hide_no_fork_that_others_prove() {
        let mut entries = parting(1);
        let first = entries[0].clone();
        entries.extend((0..8).map(|number| unsigned(first.header().author, Some(&first), &[number])));
        let (one, other) = (entries[1].hash(), entries[2].hash());
        let signed = |entry: &Decoded| entry.hash() == one || entry.hash() == other;
        assert_eq!(parted_among(CIRCLE, &entries, |_| None, signed).len(), 1);
    }

    #[test]
    fn i7_of_what_parts_at_every_place_each_entry_is_verified_once_at_most() {
        let entries = parting(500);
        let looked = |holds: &dyn Fn(&Decoded) -> bool, known: Option<u64>| {
            let mut looked: BTreeMap<Hash, usize> = BTreeMap::new();
            let proofs = parted_among(
                CIRCLE,
                &entries,
                |_| known,
                |entry| {
                    *looked.entry(entry.hash()).or_default() += 1;
                    holds(entry)
                },
            );
            assert!(looked.values().all(|times| *times == 1));
            (looked.len(), proofs.len())
        };
        assert_eq!(looked(&|_| false, None), (1_000, 0));
        assert_eq!(looked(&|_| true, None), (2, 1), "the lowest proves it");
        assert_eq!(looked(&|_| true, Some(1)), (0, 0), "one is known already");
        assert_eq!(looked(&|_| true, Some(2)), (2, 1), "this one is lower");
    }
}
