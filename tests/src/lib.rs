//! What the tests share: a network of real daemons, each its own process with its own data directory.

pub mod disk;
pub mod shell;
pub mod skip;
pub mod world;
