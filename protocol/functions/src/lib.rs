//! What entries mean: markings, payloads, and one folder for each function of the network.
//!
//! * [`marking`]: TLP and PAP, as FIRST defines them.
//! * [`payload`]: what is inside a sealed entry, whatever its kind; attachments.
//! * [`circle_policy`]: what a circle is for and how high it goes, as its charter carries it.
//! * [`sharing`]: information sharing; so far its one generic kind, the report.
//! * [`directory`]: what nodes say of themselves in the network circle.
//! * [`inbox`]: opened entries as rows of a list.
//! * [`text`]: text that came from others, made safe to show.
//!
//! This crate refuses to know wire bytes, signatures, peers, clocks and files.

pub mod circle_policy;
pub mod directory;
pub mod inbox;
pub mod marking;
pub mod payload;
pub mod sharing;
pub mod text;
