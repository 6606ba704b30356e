//! Who durably holds what: signed statements, and what their readers remember of them.
//!
//! A statement says that one node holds one author's logs up to these heads, and which epochs it should be
//! able to open and cannot. Once somebody was shown "received at", that stays: statements only add. No
//! statement means "unknown", never "not received".

use std::{cell::Cell, collections::BTreeMap};

use cwn_crypto::{
    Domain, Hash, PublicKey, Signed, SigningKey, Time, encoding,
    identity::SignedRefusal,
    issuer_log::{CutLine, LogId, cut_reach},
};
use minicbor::{Decode, Encode};

use crate::{limits, log::CircleId};

/// What a holder signs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The circle.
    #[n(0)]
    pub circle: CircleId,
    /// The node that holds.
    #[n(1)]
    pub holder: PublicKey,
    /// Whose logs.
    #[n(2)]
    pub author: PublicKey,
    /// Those logs, each up to the height durably held; one that a listed log's opening cites is held to there
    /// and left out, or listed with less, which may be nothing.
    #[n(3)]
    pub heads: Vec<CutLine>,
    /// Epochs of that author whose key was wrapped to the holder and does not open.
    #[n(4)]
    pub unopenable: Vec<Hash>,
    /// When, as the holder says.
    #[n(5)]
    pub time: Time,
}

/// A statement as it travels and lies on disk.
pub type SignedStatement = Signed<Statement>;

impl Statement {
    /// Signs a statement.
    pub fn sign(&self, key: &SigningKey) -> SignedStatement {
        Signed::sign(self, Domain::HELD, key)
    }

    /// Whether it says of some log more than another statement of the same author does; `cites` gives what the opening of
    /// one of its logs cites, if that log is held here.
    pub(crate) fn adds_to<'a>(&self, other: &Self, cites: impl Fn(&LogId) -> Option<&'a [CutLine]>) -> bool {
        let known = few_cited(&other.heads, &cites);
        let adds = |line: &CutLine| line.height > known.get(&line.log).map_or(0, |known| known.height);
        few_cited(&self.heads, &cites).values().any(adds)
    }

    /// What its holder said.
    pub fn verify(signed: &SignedStatement) -> Result<Self, SignedRefusal> {
        let holder = signed.unverified(limits::HELD_BYTES)?.holder;
        signed.verify(Domain::HELD, &holder, limits::HELD_BYTES)
    }
}

/// As [`cut_reach`], but that of an author that cites without measure not all is followed: whoever carries statements does
/// this for others.
pub(crate) fn few_cited<'a>(
    heads: &[CutLine],
    cites: impl Fn(&LogId) -> Option<&'a [CutLine]>,
) -> BTreeMap<LogId, CutLine> {
    let left = Cell::new(limits::CITES_FOLLOWED);
    cut_reach(heads, |log| {
        let cited = cites(log)?;
        left.set(left.get().checked_sub(cited.len())?);
        Some(cited)
    })
}

/// Whether what a holder said counts beside what it said at another time, of which this node has heard. `now` is what this
/// node's clock says: what was said of a time to come was said by a clock that was ahead, and what comes after it counts
/// though that was set back. As long as it is ahead its own times tell what comes after what.
pub(crate) fn is_later(time: Time, heard: Time, now: Time) -> bool {
    let ahead = |time: Time| time > now.plus(limits::CLOCKS_APART_MS);
    heard <= time || ahead(heard) && !ahead(time)
}

/// One step of what a holder was heard to hold of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// How many entries.
    #[n(0)]
    pub height: u64,
    /// When the holder said so first.
    #[n(1)]
    pub at: Time,
}

/// What a holder last said besides of one author: when, and which epochs it cannot open. Boxed, for a steward has one for
/// every two members.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Latest {
    #[n(0)]
    time: Time,
    #[n(1)]
    unopenable: Box<[Hash]>,
    /// The logs it listed, if one of them is cited further than that, or what they cite was not known: once an opening
    /// comes, what it cites is not to be taken for held by who listed it with less.
    #[n(2)]
    listed: Option<Box<[LogId]>>,
}

/// Whether a statement lists a log with less than others that it speaks of cite, as far as their openings are known.
fn lists_less<'a>(
    heads: &[CutLine],
    reach: &BTreeMap<LogId, CutLine>,
    cites: impl Fn(&LogId) -> Option<&'a [CutLine]>,
) -> bool {
    // What is listed is reached to where it is listed, and anything else to the furthest that it is cited.
    let less = |cited: &CutLine| heads.iter().any(|line| line.log == cited.log && line.height < cited.height);
    let mut held = reach.values().filter(|line| line.height > 0);
    heads.len() > 1 && held.any(|line| cites(&line.log).is_none_or(|cited| cited.iter().any(less)))
}

/// What is written down of one holder about one author, each part under a name of its own, so that what is written follows
/// what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// What it holds of one log.
    Log(LogId),
    /// What it last said besides.
    Latest,
}

/// The parts of which there is something new.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Those that say what is held of what is held here too: written down at once.
    pub(crate) sure: Vec<Part>,
    /// Those of which a holder can say something else each time.
    pub(crate) said: Vec<Part>,
}

/// What was heard about one circle.
#[derive(Debug, Default)]
pub struct Ledger {
    steps: BTreeMap<(PublicKey, PublicKey, LogId), Vec<Step>>,
    latest: BTreeMap<(PublicKey, PublicKey), Latest>,
}

impl Ledger {
    /// Which lines of a holder's statement say no more than was heard; they are asked about in the order of their logs.
    pub(crate) fn knows(&self, holder: PublicKey, author: PublicKey) -> impl FnMut(&CutLine) -> bool {
        let mut known = self.of_author(holder, author).peekable();
        move |line| {
            while known.next_if(|(log, _)| **log < line.log).is_some() {}
            let steps = known.peek().filter(|(log, _)| **log == line.log);
            steps.and_then(|(_, steps)| steps.last()).is_some_and(|last| last.height >= line.height)
        }
    }

    /// Takes a verified statement; `cites` gives what the opening of one of the author's logs cites, if that log is
    /// held here, and `held` how much of it is. Returns what is to be written down. `now` is what this node's clock says.
    pub(crate) fn hear<'a>(
        &mut self,
        statement: &Statement,
        now: Time,
        cites: impl Fn(&LogId) -> Option<&'a [CutLine]>,
        held: impl Fn(&LogId) -> u64,
    ) -> News {
        let Statement { holder, author, time, .. } = *statement;
        let reach = cut_reach(&statement.heads, &cites);
        let listed = lists_less(&statement.heads, &reach, &cites);
        let listed = listed.then(|| statement.heads.iter().map(|line| line.log).collect());
        let mut news = self.hold((holder, author), reach, time, cites, held);
        let says_more = !news.sure.is_empty() || !news.said.is_empty();
        let fresh = Latest { time, unopenable: statement.unopenable.as_slice().into(), listed };
        let latest = self.latest.get(&(holder, author));
        if latest.is_none_or(|latest| is_later(time, latest.time, now)) {
            // The time alone is not worth a write.
            if !news.sure.is_empty() {
                news.sure.push(Part::Latest);
            } else if latest.is_none_or(|latest| latest.unopenable != fresh.unopenable || latest.listed != fresh.listed)
            {
                news.said.push(Part::Latest);
            }
            self.latest.insert((holder, author), fresh);
        } else if let (Some(latest), Some(listed), true) =
            (self.latest.get_mut(&(holder, author)), fresh.listed, says_more)
        {
            // Its holder's clock was set back meanwhile, and it says more.
            latest.listed = Some(listed);
            news.said.push(Part::Latest);
        }
        news
    }

    /// A holder has an author's logs so far. Returns as [`Self::hear`] does. What it has beyond what is held here nobody can
    /// see: of that the furthest is remembered, and of a log that is not held at all nothing is written down, for it may be
    /// on its way to here, or invented.
    pub(crate) fn hold<'a>(
        &mut self,
        (holder, author): (PublicKey, PublicKey),
        reach: BTreeMap<LogId, CutLine>,
        time: Time,
        cites: impl Fn(&LogId) -> Option<&'a [CutLine]>,
        held: impl Fn(&LogId) -> u64,
    ) -> News {
        let mut news = News::default();
        let mut unknown = None;
        let mut is_known = self.knows(holder, author);
        // Nearly always all of it is.
        let more: Vec<CutLine> = reach.into_values().filter(|line| line.height > 0 && !is_known(line)).collect();
        drop(is_known);
        for CutLine { log, height, .. } in more {
            let place = (holder, author, log);
            let is_held = cites(&log).is_some();
            if !is_held && !self.steps.contains_key(&place) {
                let of_unknown = || self.of_author(holder, author).filter(|(log, _)| cites(log).is_none()).count();
                let unknown = unknown.get_or_insert_with(of_unknown);
                if *unknown >= limits::HELD_LOGS {
                    continue;
                }
                *unknown += 1;
            }
            let here = held(&log);
            let steps = self.steps.entry(place).or_default();
            // What was shown of what is held here stays as it was shown.
            if steps.iter().rev().nth(1).map_or(0, |before| before.height) >= here {
                steps.pop_if(|last| last.height > here);
            }
            steps.push(Step { height, at: time });
            // The oldest become one: its height was certainly held at the later time.
            steps.drain(..steps.len().saturating_sub(limits::HELD_STEPS));
            match is_held {
                true if height <= here => news.sure.push(Part::Log(log)),
                true => news.said.push(Part::Log(log)),
                false => {}
            }
        }
        news
    }

    /// One part as it is written down.
    pub(crate) fn written(&self, holder: PublicKey, author: PublicKey, part: &Part) -> Option<(Vec<u8>, Vec<u8>)> {
        match part {
            Part::Log(log) => {
                let steps = self.steps.get(&(holder, author, *log))?;
                Some((log.0.to_vec(), encoding::to_bytes(steps)))
            }
            Part::Latest => Some((Vec::new(), encoding::to_bytes(self.latest.get(&(holder, author))?))),
        }
    }

    /// Who was heard to hold some of a log and when, and what that says once the log's opening is held: how much of it, and
    /// nothing more of the others that were listed with it.
    pub(crate) fn holders(&self, author: PublicKey, log: LogId) -> Vec<(PublicKey, Time, Vec<CutLine>)> {
        let line = |log: LogId, height: u64| CutLine { log, height, head: Hash([0; 32]) };
        let of_log = self.steps.iter().filter(|((_, of, one), _)| *of == author && *one == log);
        let said = |((holder, ..), steps): (&(PublicKey, PublicKey, LogId), &Vec<Step>)| {
            let last = steps.last()?;
            let listed = self.latest.get(&(*holder, author)).and_then(|latest| latest.listed.as_ref());
            let others = listed.into_iter().flatten().filter(|other| **other != log).map(|other| line(*other, 0));
            Some((*holder, last.at, std::iter::once(line(log, last.height)).chain(others).collect()))
        };
        of_log.filter_map(said).collect()
    }

    /// What is known of an author's logs with a holder, in the order of their ids.
    fn of_author(&self, holder: PublicKey, author: PublicKey) -> impl Iterator<Item = (&LogId, &Vec<Step>)> {
        let range = (holder, author, LogId([0; 16]))..=(holder, author, LogId([255; 16]));
        self.steps.range(range).map(|((.., log), steps)| (log, steps))
    }

    /// Takes back one part that was written down.
    pub fn recall(
        &mut self,
        holder: PublicKey,
        author: PublicKey,
        part: &[u8],
        bytes: &[u8],
    ) -> Result<(), encoding::Refusal> {
        match part.try_into() {
            Ok(log) => {
                let steps: Vec<Step> = encoding::from_bytes(bytes, limits::HELD_FACT_BYTES)?;
                self.steps.insert((holder, author, LogId(log)), steps);
            }
            Err(_none) => {
                self.latest.insert((holder, author), encoding::from_bytes(bytes, limits::HELD_FACT_BYTES)?);
            }
        }
        Ok(())
    }

    /// Since when a holder is known to hold the entry at `seq` of a log. `None` means unknown.
    pub fn received(&self, holder: &PublicKey, author: &PublicKey, log: &LogId, seq: u64) -> Option<Time> {
        let steps = self.steps.get(&(*holder, *author, *log))?;
        steps.iter().find(|step| step.height > seq).map(|step| step.at)
    }

    /// Whether a holder said that it cannot open an epoch it should be able to open.
    pub fn cannot_open(&self, holder: &PublicKey, author: &PublicKey, epoch: &Hash) -> bool {
        self.latest.get(&(*holder, *author)).is_some_and(|latest| latest.unopenable.contains(epoch))
    }

    /// When a holder last said anything about an author's logs.
    pub fn heard(&self, holder: &PublicKey, author: &PublicKey) -> Option<Time> {
        self.latest.get(&(*holder, *author)).map(|latest| latest.time)
    }
}
