//! The one door for every face: commands and queries of a running daemon, as JSON over a Unix socket.

pub mod client;
pub mod types;
