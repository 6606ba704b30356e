//! The sans-IO engine.
pub mod acceptance;
pub mod circle;
pub mod engine;
pub mod epoch;
pub mod held;
pub mod input;
pub mod limits;
pub mod log;
pub mod output;
pub mod replica;
pub mod store;
pub mod sync;
pub mod wire;
