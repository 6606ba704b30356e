//! The engine's promises, told as stories over a world of engines.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::disallowed_methods, reason = "how many seeds to try comes from the environment")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

mod bad_input;
mod branches;
mod carried;
mod catch_up;
mod convergence;
mod cost;
mod expire;
mod fold;
mod fork;
mod history;
mod hostile;
mod keep;
mod mesh;
mod nodes;
mod quota;
mod retract;
mod root;
mod rot;
mod skew;
mod stewards;
mod stories;
mod succession;
mod torn;
mod world;
mod wrong_branch;
