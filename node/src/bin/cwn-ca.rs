//! The CA program.
fn main() {}
