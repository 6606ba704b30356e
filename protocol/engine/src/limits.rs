//! Every bound of the engine, with its reason. What comes from outside is measured against one of these
//! before memory is set aside for it.

/// One frame: large enough that a run costs few of them, small enough to buffer one for every peer.
pub const FRAME_BYTES: usize = 1 << 20;

/// A sealed payload: leaves room in a frame for header, signature and an epoch record beside it. What is
/// larger goes as an attachment.
pub const PAYLOAD_BYTES: usize = 512 << 10;

/// A header: about 330 bytes without an opening; an opening adds 66 for each log it cites.
pub const HEADER_BYTES: usize = 24 << 10;

/// Logs one opening cites. An author has one log per start, and each cites the one before: more than one
/// stands uncited only after a crash or a restored backup.
pub const CITED_LOGS: usize = 256;
