//! Runs and welcomes that were carried here by hand, in a file: one more way on which entries come.
//!
//! Nothing of it is trusted for who carried it: it goes through the very checks that a peer's goes through. There
//! is nobody to ask for what is missing, and nobody to blame; what became of it goes back to who asked.

use cwn_crypto::{Domain, Hash};

use crate::circle::Charter;
use crate::engine::{After, Engine, Offering};
use crate::epoch::SignedRecord;
use crate::fork::ForkProof;
use crate::input::CommandId;
use crate::limits;
use crate::log::{CircleId, Decoded, EntryBytes, LogKey};
use crate::output::{Carried, CarriedCircle, CommandRefusal, Event, Output, Reply, Rest};
use crate::replica::Stop;
use crate::store::Read;

impl Engine {
    /// Takes a run of one log, as far as it can be decided now.
    pub(crate) fn carry_run(
        &mut self,
        id: CommandId,
        key: LogKey,
        records: Vec<SignedRecord>,
        entries: Vec<EntryBytes>,
        store: &dyn Read,
    ) -> Result<(), CommandRefusal> {
        let replica = self.circles.get(&key.circle).ok_or(CommandRefusal::UnknownCircle)?;
        let before = replica.log(&key.author, &key.log).map_or(0, |held| held.height);
        let mut run = Vec::with_capacity(entries.len());
        let mut rest = None;
        for entry in entries {
            match Decoded::decode(entry) {
                Ok(entry) if entry.header().seq >= before && self.lacks_payload(&entry) => {
                    rest = Some(Rest::Waits("the file holds no content of it, and it has not expired".to_owned()));
                }
                Ok(entry) if entry.key() == key => run.push(entry),
                Ok(_) => rest = Some(Rest::Refused("it holds an entry of another log".to_owned())),
                Err(refusal) => rest = Some(Rest::Refused(refusal.to_string())),
            }
            if rest.is_some() {
                break;
            }
        }
        let Some(replica) = self.circles.get_mut(&key.circle) else { return Err(CommandRefusal::UnknownCircle) };
        let ingested = replica.ingest(records, run);
        let height = replica.log(&key.author, &key.log).map_or(0, |held| held.height);
        self.keep(key.circle, ingested.writes, ingested.membership_changed, store);
        let rest = match ingested.stop {
            Some(Stop::Never(refusal)) => {
                // A fork is told and heeded as one that a peer brings; whom it blames is its author.
                self.blames(&key.author, key.circle, (key.author, key.log), &refusal);
                Some(Rest::Refused(refusal.to_string()))
            }
            Some(stop) => Some(Rest::Waits(stop.to_string())),
            None if rest.is_none() && !ingested.undecided.is_empty() => {
                let tail: Vec<EntryBytes> = ingested.undecided.into_iter().map(Decoded::into_bytes).collect();
                Some(if tail.iter().map(EntryBytes::length).sum::<usize>() > limits::UNDECIDED_BYTES {
                    Rest::Refused("a long run that no signature vouches for".to_owned())
                } else {
                    Rest::Unvouched(tail)
                })
            }
            None => rest,
        };
        self.carried(id, Reply::Carried(Carried { taken: height - before, height, rest }));
        Ok(())
    }

    /// Takes a circle's operations. One that this node is not in is then offered to it.
    pub(crate) fn carry_circle(
        &mut self,
        id: CommandId,
        charter: &[u8],
        entries: Vec<EntryBytes>,
        store: &dyn Read,
    ) -> Result<(), CommandRefusal> {
        let charter = Charter::from_bytes(charter)?;
        let circle = charter.id();
        self.regain(&charter, store);
        let bytes = entries.iter().map(EntryBytes::length).sum::<usize>();
        let many = bytes > limits::WELCOME_BYTES || entries.len() > limits::WELCOME_OPERATIONS;
        let brought: Vec<Hash> = entries.iter().map(|entry| Hash::of(Domain::ENTRY, &[&entry.header])).collect();
        let operations = Decoded::decode_all(entries);
        self.forks_among(self.me, circle, &operations, store);
        let outcome = if let Some(replica) = self.circles.get_mut(&circle) {
            let ingested = replica.ingest_operations(operations);
            let taken = ingested.writes.len() as u64;
            let held = |operation: &Hash| replica.control().is_some_and(|control| control.holds(operation));
            let left = brought.iter().filter(|operation| !held(operation)).count() as u64;
            self.keep(circle, ingested.writes, ingested.membership_changed, store);
            CarriedCircle::Known { taken, left }
        } else if self.declined.contains(&circle) {
            CarriedCircle::Declined
        } else {
            if many {
                return Err(CommandRefusal::TooMany { limit: limits::WELCOME_OPERATIONS });
            }
            // It stands among the offers as one that this node brought itself.
            match self.offered(self.me, charter, operations) {
                Offering::Taken if self.circles.contains_key(&circle) => CarriedCircle::Joined,
                Offering::Taken => CarriedCircle::Offered,
                Offering::NotNamed => CarriedCircle::NotNamed,
                Offering::TooMany => CarriedCircle::TooManyOffers,
            }
        };
        self.carried(id, Reply::CarriedCircle { circle, outcome });
        Ok(())
    }

    /// Takes the proof of a fork: who gets a log by file alone ends where all end.
    pub(crate) fn carry_fork(
        &mut self,
        id: CommandId,
        circle: CircleId,
        proof: ForkProof,
        store: &dyn Read,
    ) -> Result<(), CommandRefusal> {
        let of_circle = proof.verify().is_ok_and(|forked| forked.key.circle == circle);
        if !of_circle {
            return Err(CommandRefusal::NoFork);
        }
        if let Err(damage) = self.fork_proven(&self.me.clone(), proof, store) {
            self.output(Output::Emit(Event::Damaged { what: damage.to_string() }));
        }
        self.carried(id, Reply::Done);
        Ok(())
    }

    /// Replies once everything that was handed to the store before is durable: stores answer in order.
    fn carried(&mut self, id: CommandId, reply: Reply) {
        self.store(Vec::new(), vec![After::Reply(id, reply)]);
    }
}
