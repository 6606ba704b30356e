//! Stories over real processes, and the house itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

mod api;
mod arrows;
mod bench;
mod carry;
mod circles;
mod drafts;
mod enrolment;
mod expire;
mod faces;
mod full_disk;
mod kills;
mod lineage;
mod mesh;
mod outbound;
mod processes;
mod readme;
mod refusals;
mod root;
mod sweep;
mod thief;
