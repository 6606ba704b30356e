//! The one door for every face: commands and queries of a running daemon, as JSON over a Unix socket.

mod attachments;
mod backup;
mod carry;
mod circles;
pub mod client;
mod doctor;
mod door;
mod drafts;
mod entries;
mod partners;
mod root;
pub mod server;
mod status;
pub mod types;

pub(crate) use circles::ANEW;
pub use circles::Circles;
pub use doctor::without_daemon;
pub use door::Api;
pub(crate) use status::note_elsewhere;

/// Digits of a node's key that a person must give.
pub(crate) const NODE_DIGITS_LEAST: usize = 6;

/// So many of something, in words.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The start of a key or an id, enough to tell it from others.
pub fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}
