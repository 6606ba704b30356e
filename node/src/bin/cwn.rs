//! The member program.
fn main() {}
