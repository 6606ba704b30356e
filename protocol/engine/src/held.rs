//! Who durably holds what: signed statements, and what their readers remember of them.
//!
//! A statement says that one node holds one author's logs up to these heads, and which epochs it should be
//! able to open and cannot. Once somebody was shown "received at", that stays: statements only add. No
//! statement means "unknown", never "not received".

use std::collections::BTreeMap;

use cwn_crypto::{
    Domain, Hash, PublicKey, Signed, SigningKey, Time, encoding,
    identity::SignedRefusal,
    issuer_log::{CutLine, LogId},
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
    /// and left out.
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

    /// What its holder said.
    pub fn verify(signed: &SignedStatement) -> Result<Self, SignedRefusal> {
        let holder = signed.unverified(limits::HELD_BYTES)?.holder;
        signed.verify(Domain::HELD, &holder, limits::HELD_BYTES)
    }
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

#[derive(Encode, Decode)]
struct Remembered {
    #[n(0)]
    logs: Vec<(LogId, Vec<Step>)>,
    #[n(1)]
    time: Time,
    #[n(2)]
    unopenable: Vec<Hash>,
}

/// What was heard about one circle.
#[derive(Debug, Default)]
pub struct Ledger {
    steps: BTreeMap<(PublicKey, PublicKey, LogId), Vec<Step>>,
    latest: BTreeMap<(PublicKey, PublicKey), (Time, Vec<Hash>)>,
}

impl Ledger {
    /// Takes a verified statement; `cites` gives what the opening of one of the author's logs cites. Returns
    /// whether it said anything new.
    pub fn hear<'a>(&mut self, statement: &Statement, cites: impl Fn(&LogId) -> Option<&'a [CutLine]>) -> bool {
        let Statement { holder, author, time, .. } = *statement;
        let mut news = false;
        for (log, height) in crate::circle::cut_reach(&statement.heads, cites) {
            let steps = self.steps.entry((holder, author, log)).or_default();
            if steps.last().is_none_or(|last| last.height < height) && height > 0 {
                steps.push(Step { height, at: time });
                news = true;
                if steps.len() > limits::HELD_STEPS {
                    // The oldest two become one: its height was certainly held at the later time.
                    steps.remove(0);
                }
            }
        }
        let latest = self.latest.entry((holder, author)).or_insert((Time(0), Vec::new()));
        if latest.0 <= time {
            news |= latest.1 != statement.unopenable;
            *latest = (time, statement.unopenable.clone());
        }
        news
    }

    /// What to write down of one holder and author, so that it outlives a start.
    pub fn remember(&self, holder: &PublicKey, author: &PublicKey) -> Vec<u8> {
        let range = (*holder, *author, LogId([0; 16]))..=(*holder, *author, LogId([255; 16]));
        let logs = self.steps.range(range).map(|((.., log), steps)| (*log, steps.clone())).collect();
        let (time, unopenable) = self.latest.get(&(*holder, *author)).cloned().unwrap_or_default();
        encoding::to_bytes(&Remembered { logs, time, unopenable })
    }

    /// Takes back what [`Self::remember`] gave.
    pub fn recall(&mut self, holder: PublicKey, author: PublicKey, bytes: &[u8]) -> Result<(), encoding::Refusal> {
        let Remembered { logs, time, unopenable } = encoding::from_bytes(bytes, limits::HELD_FACT_BYTES)?;
        self.latest.insert((holder, author), (time, unopenable));
        self.steps.extend(logs.into_iter().map(|(log, steps)| ((holder, author, log), steps)));
        Ok(())
    }

    /// Since when a holder is known to hold the entry at `seq` of a log. `None` means unknown.
    pub fn received(&self, holder: &PublicKey, author: &PublicKey, log: &LogId, seq: u64) -> Option<Time> {
        let steps = self.steps.get(&(*holder, *author, *log))?;
        steps.iter().find(|step| step.height > seq).map(|step| step.at)
    }

    /// Whether a holder said that it cannot open an epoch it should be able to open.
    pub fn cannot_open(&self, holder: &PublicKey, author: &PublicKey, epoch: &Hash) -> bool {
        self.latest.get(&(*holder, *author)).is_some_and(|(_, epochs)| epochs.contains(epoch))
    }

    /// When a holder last said anything about an author's logs.
    pub fn heard(&self, holder: &PublicKey, author: &PublicKey) -> Option<Time> {
        self.latest.get(&(*holder, *author)).map(|(time, _)| *time)
    }
}
