//! What a start finds that cannot be read back among facts and epoch records: it is told, and gone on without.
//!
//! A fact has its name in any case, and a name says what was lost. Where that follows from what else is held it is
//! written anew; where members have it, it is asked of them again; and where nobody does, this node goes on as is safe:
//! what may have been taken back stays hidden, and a log that is known to fork is held no further than to there.
//!
//! This file refuses to know what a fact means; that is its reader's.

use std::collections::BTreeMap;

use cwn_crypto::{Hash, PublicKey, issuer_log::LogId};

use crate::{
    log::{CircleId, LogKey},
    store::{Damage, Fact, Read, Tip, Write},
};

/// What cannot be read back, and what is written in its place.
#[derive(Debug, Default)]
pub(crate) struct Rot {
    pub(crate) damages: Vec<Damage>,
    pub(crate) writes: Vec<Write>,
}

impl Rot {
    /// Reads the facts under a prefix, which are `what`: `read` is given each name without that prefix, and the value.
    /// Gives back what it made of them, and the names of those that are told as damage.
    pub(crate) fn facts<T>(
        &mut self,
        store: &dyn Read,
        (prefix, what): (&[u8], &str),
        mut read: impl FnMut(&[u8], &[u8]) -> Result<T, String>,
    ) -> Result<(Vec<T>, Vec<Vec<u8>>), Damage> {
        let (mut known, mut lost) = (Vec::new(), Vec::new());
        for Fact { key, value } in store.facts(prefix)? {
            let name = &key[prefix.len()..];
            let value = value.map_err(|damage| damage.why);
            match value.and_then(|value| read(name, &value)) {
                Ok(value) => known.push(value),
                Err(why) => {
                    self.damages.push(Damage { what: what.to_owned(), why });
                    lost.push(name.to_vec());
                }
            }
        }
        Ok((known, lost))
    }

    /// Takes facts back that nobody needs any more.
    pub(crate) fn forget(&mut self, prefix: &[u8], names: Vec<Vec<u8>>) {
        let forget = |name: Vec<u8>| Write::Fact { key: [prefix, name.as_slice()].concat(), value: Vec::new() };
        self.writes.extend(names.into_iter().map(forget));
    }
}

/// The logs that a store holds, by circle.
pub(crate) type Logs = BTreeMap<CircleId, Vec<(LogKey, Tip)>>;

/// How many entries of a log a store holds.
pub(crate) fn height_in(logs: &Logs, key: &LogKey) -> u64 {
    let of_circle = logs.get(&key.circle).map(Vec::as_slice).unwrap_or_default();
    of_circle.iter().find(|(held, _)| held == key).map_or(0, |(_, tip)| tip.height)
}

/// The circle that a name starts with, and the rest of it.
pub(crate) fn read_circle(name: &[u8]) -> Option<(CircleId, &[u8])> {
    let (circle, rest) = name.split_first_chunk::<32>()?;
    Some((CircleId(Hash(*circle)), rest))
}

/// The log that a name starts with, and the rest of it.
pub(crate) fn read_log(name: &[u8]) -> Option<(LogKey, &[u8])> {
    let (circle, rest) = read_circle(name)?;
    let (author, rest) = rest.split_first_chunk::<32>()?;
    let (log, rest) = rest.split_first_chunk::<16>()?;
    Some((LogKey { circle, author: PublicKey(*author), log: LogId(*log) }, rest))
}

/// The place in a log that a name is.
pub(crate) fn read_place(name: &[u8]) -> Option<(LogKey, u64)> {
    let (key, rest) = read_log(name)?;
    Some((key, u64::from_be_bytes(rest.try_into().ok()?)))
}
