//! The node: all IO, around an engine that does none.

pub mod api;
pub mod attachments;
pub mod clock;
pub mod connections;
pub mod driver;
pub mod files;
pub mod inbox;
pub mod config;
pub mod daemon;
pub mod keyring;
pub mod keystore;
pub mod lend;
pub mod membership;
pub mod network;
pub mod node;
pub mod runs;
pub mod store;
