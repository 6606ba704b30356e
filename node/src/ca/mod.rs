//! The coordinator's CA: a directory of files, usable on a machine without a network.
//!
//! * [`directory`] — the directory, and what a coordinator does with it.
//! * [`root`] — a next version of the root document: proposing, signing, adopting it.
//! * `log_file` — the issuer's log on disk.
//! * [`cli`] — `cwn-ca`, also `cwn ca`.
//!
//! Which request gets a certificate, and when one is renewed, are the rules of `cwn_crypto::authority`; nothing
//! here decides it again. What those rules do not see is looked at here: whether the issuer's word leaves room for
//! the node, and how many wait already.

pub mod cli;
pub mod directory;
#[cfg(test)]
mod faults;
mod log_file;
pub mod root;
#[cfg(test)]
mod tests;
