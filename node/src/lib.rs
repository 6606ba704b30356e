//! The node: all IO, around an engine that does none.
pub mod api;
