//! Placeholder until its first part lands.

pub mod store;
