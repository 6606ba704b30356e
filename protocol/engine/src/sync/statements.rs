//! Held statements as they travel: to the author whose logs they are about, and to stewards. Those of them that are not
//! connected get them through others: [`super::relay`].

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::issuer_log::{CutLine, LogId, cut_reach};
use cwn_crypto::{Domain, Hash, PublicKey, Time, encoding};

use super::relay::Outgoing;
use crate::engine::{Engine, HELD_FACT, fact_key};
use crate::held::{Ledger, News, Part, SignedStatement, Statement};
use crate::limits;
use crate::log::{CircleId, LogKey, Under};
use crate::planted::{Bug, planted};
use crate::rot::{Rot, read_circle};
use crate::store::{Damage, Read, Write};
use crate::wire::{Bundle, Trail};

/// What the opening of one of an author's logs cites, if that log is held here.
type Cites<'a> = dyn Fn(&LogId) -> Option<&'a [CutLine]> + 'a;

/// A holder of an author's logs in a circle, and that author.
type Pair = (CircleId, PublicKey, PublicKey);

/// Of the pairs of which something that a holder can say otherwise each time was written down not long ago, what is written
/// next: such is not written each time.
#[derive(Debug, Default)]
pub(super) struct Noting {
    pairs: BTreeMap<Pair, (Time, BTreeSet<Part>)>,
    pub(super) due: Option<Time>,
}

impl Noting {
    /// Of a pair there is something new; gives what of it is to be written now.
    fn put(&mut self, pair: Pair, parts: Vec<Part>, now: Time) -> Vec<Part> {
        match self.pairs.get_mut(&pair) {
            Some((_, waiting)) => {
                waiting.extend(parts);
                Vec::new()
            }
            None => {
                let due = now.plus(limits::HELD_NOTE_MS);
                self.pairs.insert(pair, (due, BTreeSet::new()));
                self.due = Some(self.due.map_or(due, |earliest| earliest.min(due)));
                parts
            }
        }
    }

    /// What is due to be written.
    fn take(&mut self, now: Time) -> Vec<(Pair, BTreeSet<Part>)> {
        let mut taken = Vec::new();
        self.pairs.retain(|pair, (due, parts)| {
            if *due > now {
                return true;
            }
            *due = now.plus(limits::HELD_NOTE_MS);
            let parts = std::mem::take(parts);
            let some = !parts.is_empty();
            taken.extend(some.then_some((*pair, parts)));
            some
        });
        self.due = self.pairs.values().map(|(due, _)| *due).min();
        taken
    }
}

/// By this it is known again that a statement says the same: a few bytes of a hash, for a node has one for
/// every author of every circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said([u8; 8]);

impl Said {
    fn of(statement: &Statement) -> Self {
        let timeless = encoding::to_bytes(&Statement { time: Time(0), ..statement.clone() });
        let mut said = [0; 8];
        said.copy_from_slice(&Hash::of(Domain::HELD, &[&timeless]).0[..8]);
        Self(said)
    }
}

impl Engine {
    /// More may be held of an author's logs than was stated.
    pub(crate) fn held_changed(&mut self, circle: CircleId, author: PublicKey) {
        if author != self.me {
            self.sync.held.entry((circle, author)).or_default();
            self.sync.held_due.get_or_insert(self.now.plus(limits::HELD_WAIT_MS));
        }
    }

    /// What is held of an author's logs is to be stated to these, though it may not be more than was stated to others.
    fn owe_held(&mut self, circle: CircleId, author: PublicKey, to: &[PublicKey]) {
        self.held_changed(circle, author);
        self.sync.held.get_mut(&(circle, author)).into_iter().for_each(|owed| owed.extend(to));
    }

    /// A peer just came to share a circle: it is owed statements about its own logs, a steward about all. Through it go
    /// those that were not made since the start: what was handed on before may not have left.
    pub(super) fn held_due_to(&mut self, peer: &PublicKey, circle: CircleId) {
        let Some(replica) = self.circles.get(&circle).filter(|replica| replica.control().is_some()) else { return };
        let steward = self.is_steward(&circle, peer);
        let authors: BTreeSet<PublicKey> = replica.logs().map(|(key, _)| key.author).collect();
        for author in authors {
            if steward || author == *peer {
                self.owe_held(circle, author, &[*peer]);
            } else if !self.sync.stated.contains_key(&(circle, author)) {
                self.held_changed(circle, author);
            }
        }
    }

    /// Notes by what this node counts in a circle now.
    pub(crate) fn note_right(&mut self, circle: &CircleId) -> Option<Under> {
        let member = self.circles.get(circle).and_then(|replica| replica.fold().roster().member(&self.me));
        let under = member.map(|member| member.under);
        self.sync.counts_under.insert(*circle, under);
        under
    }

    /// This node counts in a circle by another right than before: who did not count it in meanwhile may have let its
    /// statements fall.
    pub(crate) fn counts_anew(&mut self, circle: &CircleId) {
        let before = self.sync.counts_under.get(circle).copied();
        let under = self.note_right(circle);
        if before == Some(under) || under.is_none() {
            return;
        }
        self.sync.stated.retain(|(of, _), _| of != circle);
        for (peer, _) in self.sync.sharing(circle) {
            self.held_due_to(&peer, *circle);
        }
    }

    /// Who is a steward now and was none before is told what was stated to the others, in the sessions that there are.
    pub(crate) fn stewards_named(&mut self, circle: &CircleId) {
        let Some(replica) = self.circles.get(circle).filter(|replica| replica.control().is_some()) else { return };
        let roster = replica.fold().roster().iter();
        let stewards: BTreeSet<PublicKey> =
            roster.filter(|(_, member)| member.steward.is_some()).map(|(node, _)| *node).collect();
        let authors: BTreeSet<PublicKey> = replica.logs().map(|(key, _)| key.author).collect();
        let before = self.sync.stewards.insert(*circle, stewards.clone()).unwrap_or_else(|| stewards.clone());
        let named: Vec<PublicKey> = stewards.difference(&before).copied().collect();
        if !named.is_empty() {
            authors.into_iter().for_each(|author| self.owe_held(*circle, author, &named));
        }
    }

    /// The time that statements get: later than that of those before, though the clock was set back a little meanwhile, for
    /// by it their readers know which counts. If it was far ahead they see that, and take what is stated by the right one.
    fn statement_time(&mut self) -> Time {
        let next = self.sync.stated_at.plus(1);
        let is_far = next > self.wall.plus(limits::CLOCKS_APART_MS);
        self.sync.stated_at = if is_far { self.wall } else { next.max(self.wall) };
        self.sync.stated_at
    }

    pub(super) fn state_held(&mut self) {
        self.sync.held_due = None;
        let time = self.statement_time();
        let mut outgoing = Outgoing::default();
        for ((circle, author), owed) in std::mem::take(&mut self.sync.held) {
            let Some(replica) = self.circles.get(&circle) else { continue };
            let unopenable = self.unopenable.get(&circle).into_iter().flatten();
            let of_author = |epoch: &&Hash| replica.epoch(epoch).is_some_and(|epoch| epoch.admits(&author));
            let mut statement = Statement {
                circle,
                holder: self.me,
                author,
                heads: replica.held_of(&author, limits::HELD_LOGS),
                unopenable: unopenable.filter(of_author).take(limits::HELD_LOGS).copied().collect(),
                time,
            };
            if planted(Bug::HeldClaimsMore) {
                statement.heads.iter_mut().for_each(|line| line.height += 1);
            }
            if statement.heads.iter().all(|line| line.height == 0) && statement.unopenable.is_empty() {
                continue;
            }
            let concerned = self.concerned(&circle, &author);
            let said = Said::of(&statement);
            let says_more = self.sync.stated.insert((circle, author), said) != Some(said);
            let to: Vec<PublicKey> = concerned.into_iter().filter(|node| says_more || owed.contains(node)).collect();
            if !to.is_empty() {
                let signed = statement.sign(&self.key);
                self.state((circle, self.me, author), signed, to, says_more, &mut outgoing);
            }
        }
        self.send_all(outgoing);
    }

    pub(super) fn held_heard(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        statement: SignedStatement,
        store: &dyn Read,
    ) -> Result<(), Damage> {
        let trail = Trail { left: 0, astray: false };
        self.handed_on(peer, circle, vec![Bundle { to: Vec::new(), trail, statements: vec![statement] }], store)
    }

    /// What its holder said; who bears a statement that nobody signed like this is to blame.
    pub(super) fn verified(
        &mut self,
        peer: &PublicKey,
        circle: CircleId,
        signed: &SignedStatement,
    ) -> Option<Statement> {
        match Statement::verify(signed) {
            Ok(statement) if statement.circle == circle => return Some(statement),
            Ok(_) => self.fault(peer, circle, "a statement about another circle".to_owned()),
            Err(refusal) => self.fault(peer, circle, format!("a statement of what is held: {refusal}")),
        }
        None
    }

    /// Remembers what a holder said, if it is for this node to know.
    pub(super) fn take_statement(&mut self, mut statement: Statement, store: &dyn Read) -> Result<(), Damage> {
        let circle = statement.circle;
        let Some(replica) = self.circles.get(&circle) else { return Ok(()) };
        let me = replica.fold().roster().member(&self.me);
        let concerns = statement.author == self.me || me.is_some_and(|member| member.steward.is_some());
        // A holder that does not count now may by what comes next, as when its removal turns out to be void; what it
        // said by then it does not say again.
        if !concerns || !replica.knows(&statement.holder) || !replica.knows(&statement.author) {
            return Ok(());
        }
        if replica.counts(&statement.holder) {
            self.keeping.heard_time(statement.time, self.wall);
        }
        let author = statement.author;
        let ledger = self.ledgers.entry(circle).or_default();
        let mut is_known = ledger.knows(statement.holder, author);
        let mut heads = Vec::with_capacity(statement.heads.len());
        for line in &statement.heads {
            let held = replica.log(&author, &line.log).is_some_and(|held| (1..=held.durable).contains(&line.height));
            let key = LogKey { circle, author, log: line.log };
            // Who holds another branch of a fork does not hold what is held here, though another log may cite it.
            let here = is_known(line) || !held || store.hash(&key, line.height - 1)? == Some(line.head);
            heads.push(if here { *line } else { CutLine { height: 0, ..*line } });
        }
        drop(is_known);
        statement.heads = heads;
        let now = self.wall;
        self.note((circle, statement.holder, author), |ledger, cites, held| ledger.hear(&statement, now, cites, held));
        Ok(())
    }

    /// A log's opening came: what was heard of it is written down from now on, and may say that more is held.
    pub(super) fn note_cited(&mut self, LogKey { circle, author, log }: LogKey) {
        let holders = self.ledgers.get(&circle).map(|ledger| ledger.holders(author, log)).unwrap_or_default();
        for (holder, at, heads) in holders {
            self.note((circle, holder, author), |ledger, cites, held| {
                let mut news = ledger.hold((holder, author), cut_reach(&heads, cites), at, cites, held);
                news.sure.push(Part::Log(log));
                news
            });
        }
    }

    /// Has a ledger hear something, and what is new in it written down.
    fn note(&mut self, pair: Pair, hear: impl for<'a> FnOnce(&mut Ledger, &Cites<'a>, &dyn Fn(&LogId) -> u64) -> News) {
        let (circle, _, author) = pair;
        let Some(replica) = self.circles.get(&circle) else { return };
        let cites = |log: &LogId| replica.log(&author, log).map(|held| held.opening.cites.as_slice());
        let held = |log: &LogId| replica.log(&author, log).map_or(0, |held| held.durable);
        let News { sure, said } = hear(self.ledgers.entry(circle).or_default(), &cites, &held);
        let said = if said.is_empty() { said } else { self.sync.noting.put(pair, said, self.now) };
        self.write_down(vec![(pair, sure.into_iter().chain(said).collect())]);
    }

    /// Writes down what was heard since of those of whom something was written down a while ago.
    pub(super) fn note_waiting(&mut self) {
        let waiting = self.sync.noting.take(self.now);
        self.write_down(waiting);
    }

    fn write_down(&mut self, heard: Vec<(Pair, BTreeSet<Part>)>) {
        let mut writes = Vec::new();
        for ((circle, holder, author), parts) in heard {
            let Some(ledger) = self.ledgers.get(&circle) else { continue };
            let written = parts.iter().filter_map(|part| ledger.written(holder, author, part));
            writes.extend(written.map(|(name, value)| {
                let key = fact_key(HELD_FACT, &[&circle.0.0, &author.0, &holder.0, &name]);
                Write::Fact { key, value }
            }));
        }
        if !writes.is_empty() {
            self.store(writes, Vec::new());
        }
    }

    /// Reads back what was heard before this start. What cannot be read is unknown again.
    pub(crate) fn load_held(&mut self, store: &dyn Read, rot: &mut Rot) -> Result<(), Damage> {
        let ledgers = &mut self.ledgers;
        let (_, lost) = rot.facts(store, (HELD_FACT, "a remembered statement"), |name, value| {
            let (circle, rest) = read_circle(name).ok_or("its name is cut short")?;
            let (author, rest) = rest.split_first_chunk::<32>().ok_or("its name is cut short")?;
            let (holder, log) = rest.split_first_chunk::<32>().ok_or("its name is cut short")?;
            let recalled =
                ledgers.entry(circle).or_default().recall(PublicKey(*holder), PublicKey(*author), log, value);
            recalled.map_err(|refusal| refusal.to_string())
        })?;
        rot.forget(HELD_FACT, lost);
        Ok(())
    }
}
