//! The sans-IO engine.
pub mod limits;
pub mod log;
pub mod store;
