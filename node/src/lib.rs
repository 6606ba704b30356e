//! The node: all IO, around an engine that does none.

pub mod api;
pub mod attachments;
pub mod backup;
pub mod ca;
pub mod carry;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod coordinator;
pub mod daemon;
pub mod demo;
pub mod driver;
pub mod enrolment;
pub mod fetch;
pub mod files;
pub mod inbox;
pub mod keyring;
pub mod keystore;
pub mod lend;
pub mod membership;
pub mod network;
pub mod node;
pub mod parcel;
pub mod runs;
pub mod store;
