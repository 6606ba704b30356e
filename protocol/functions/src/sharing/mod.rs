//! Information sharing (informatiedeling): technical data and analysed information, with what to do about it.
//!
//! `entry` says what a report is and what goes with taking an entry back, `rules` who may publish what and to whom.

mod entry;
mod rules;

pub use entry::{Content, REPORT, RETRACTION, Refusal, Report, Retraction, report_payload, retraction_payload};
pub use rules::{Awaited, Forbidden, awaited, may_publish};
