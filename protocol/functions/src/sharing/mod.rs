//! Information sharing (informatiedeling): technical data and analysed information, with what to do about it.
//!
//! So far it has one generic kind, the report. `entry` says what a report is, `rules` who may publish what
//! and to whom.

mod entry;
mod rules;

pub use entry::{REPORT, Refusal, Report, report_payload};
pub use rules::{Awaited, Forbidden, awaited, may_publish};
