//! Every bound of the engine, with its reason. What comes from outside is measured against one of these
//! before memory is set aside for it.

use crate::circle::Quota;

/// One frame: large enough that a run costs few of them, small enough to buffer one for every peer.
pub const FRAME_BYTES: usize = 1 << 20;

/// A sealed payload: leaves room in a frame for header, signature and an epoch record beside it. What is
/// larger goes as an attachment.
pub const PAYLOAD_BYTES: usize = 512 << 10;

/// A header with an opening: 66 bytes for each log that it cites.
pub const HEADER_BYTES: usize = 24 << 10;

/// A header without an opening: six times the 330 bytes that it takes, for what later versions append. So both branches
/// of a fork, each of as many headers as [`UNSIGNED_ENTRIES`] allows, fit into a frame and into a fact.
pub const PLAIN_HEADER_BYTES: usize = 2 << 10;

const _: () = assert!(2 * (HEADER_BYTES + UNSIGNED_ENTRIES * (PLAIN_HEADER_BYTES + 8)) < FRAME_BYTES / 2);

/// A header without an opening, when it is not known yet.
pub const USUAL_HEADER_BYTES: usize = 1_024;

/// Logs one opening cites. An author has one log per start, and each cites the one before: more than one
/// stands uncited only after a crash or a restored backup.
pub const CITED_LOGS: usize = 256;

/// So many logs that an opening cites count for their author's quota as one log more: an honest one cites one.
pub const CITED_LOGS_THAT_COUNT: usize = 8;

/// Characters of a circle's name: a line on any page.
pub const CIRCLE_NAME_CHARS: usize = 80;

/// Stewards that a charter lists: as many people as can still agree.
pub const CHARTER_STEWARDS: usize = 16;

/// Appointments between the charter and a steward: as deep as any organisation, and a rank stays short.
pub const APPOINTMENTS: usize = 16;

/// Control heads of a succeeded circle that a charter names: stewards that act at the same moment.
pub const SUCCEEDED_HEADS: usize = 256;

/// A charter with its policy.
pub const CHARTER_BYTES: usize = 64 << 10;

/// Nodes, heads or cut logs that one operation names: 1,024 nodes are 70 kB.
pub const OPERATION_LIST: usize = 1_024;

/// An epoch record: age takes about 100 bytes for each node of the set.
pub const RECORD_BYTES: usize = 256 << 10;

/// An epoch record with its signature.
pub const SIGNED_RECORD_BYTES: usize = RECORD_BYTES + 128;

/// Rosters remembered for records that name the same control heads: a circle's records of late name few.
pub const ROSTERS: usize = 16;

/// Logs, and epochs, that one statement of what is held names: with them it stays within [`HELD_BYTES`].
pub const HELD_LOGS: usize = 512;

/// How many citations are followed to tell which of two statements says more.
pub const CITES_FOLLOWED: usize = 4 * HELD_LOGS;

/// A statement of what is held: one log is usual, 66 bytes each.
pub const HELD_BYTES: usize = 64 << 10;

/// Steps that the ledger keeps for one holder and one log. All of them are written down with each new one.
pub const HELD_STEPS: usize = 32;

/// Certificates that peers showed are remembered of so many; beyond, of those that are connected.
pub const SHOWN_CERTIFICATES: usize = 4_096;

/// The request for a run: one log, one place.
pub const REQUEST_BYTES: usize = 256;

/// How long one epoch's key seals: thirty days, so that a key found later opens no more than that.
pub const EPOCH_LIFE_MS: u64 = 30 * 24 * 3_600_000;

/// How long a retraction only hides: within a day a thief's can be put aside by a cut.
pub const RETRACT_MS: u64 = 24 * 3_600_000;

/// What was taken back is erased at whole hours: a segment of the store is written anew once for all that fell due.
pub const ERASE_EVERY_MS: u64 = 3_600_000;

/// Retractions that are acted on in one step, as soon as [`LOOK_STEP_MS`] after another: each is read and its signature
/// looked at, which takes fifty milliseconds for all. Each step may have a segment written anew, so that smaller ones would
/// cost more.
pub const ERASED_AT_ONCE: usize = 1_024;

/// How long what lies beyond a cut is kept: ninety days, in which stewards notice that a cut was too low.
pub const WITHHELD_MS: u64 = 90 * 24 * 3_600_000;

/// Logs of which what lies beyond a cut is dropped in one step, as soon as [`LOOK_STEP_MS`] after another: each is read
/// at its ends, and after all of them their author's logs are judged anew, at most as many as [`QUOTA`] says.
pub const CUT_AT_ONCE: usize = 64;

/// A retention that was shortened is acted on so long after it was seen: a week, in which a steward's slip, or what a
/// thief of its key did, is noticed and put right before anything is gone.
pub const SHORTER_RETENTION_MS: u64 = 7 * 24 * 3_600_000;

/// How often payloads are looked for that time drops. What is dropped together leaves its segment in one rewrite, and
/// next to the days after which things are dropped an hour is short.
pub const LOOK_EVERY_MS: u64 = 3_600_000;

/// Entries that are looked at in one step: a few milliseconds, in which nothing else happens.
pub const LOOK_ENTRIES: usize = 256;

/// The pause between two such steps, in which everything else goes on: ten times as long.
pub const LOOK_STEP_MS: u64 = 50;

/// Payloads that are dropped in one write: 10 MB of names. More are left for an hour later.
pub const DROPS_AT_ONCE: usize = 65_536;

/// How long until a peer that sent an entry without its payload is asked again: the clocks of two honest nodes differ by
/// more at worst, and mostly by less.
pub const LACKING_AGAIN_MS: u64 = 10 * 60_000;

/// How often what is held without its payload, or without a signature that erases something, is asked of peers again:
/// they may have got it meanwhile.
pub const MEND_EVERY_MS: u64 = 3_600_000;

/// So many entries at a time: each costs a frame of at most 1 MiB from every peer that has no more of it.
pub const MENDED_AT_ONCE: usize = 64;

/// Two clocks agree that are no further apart: an hour, which no time zone or daylight saving set wrongly is below,
/// and next to which the days and months after which something is dropped are long. A clock that goes on by more
/// between two inputs has jumped.
pub const CLOCK_AGREES_MS: u64 = 3_600_000;

/// What others take of one node's content in a circle whose policy says nothing of it: years of an automatic feed, and
/// no more than a disk that is bought today has many times over.
pub const QUOTA: Quota = Quota { bytes: 16 << 30, entries: 4_000_000, logs: 20_000, epochs: 20_000 };

/// What others take of one steward's operations: no policy says it, for that would itself be an operation. A removal
/// that cuts a thousand logs has 66 kB.
pub const CONTROL_QUOTA: Quota = Quota { bytes: 256 << 20, entries: 65_536, logs: 20_000, epochs: 0 };

/// Entries at a log's end of which one must be readable at the start; else the log is fetched from its beginning.
pub const DAMAGED_TAIL: u64 = 256;

/// Offers of circles that one peer may leave undecided here.
pub const OFFERS_PER_PEER: usize = 16;

/// Bytes of the operations of those.
pub const OFFER_BYTES_PER_PEER: usize = 8 << 20;

/// A welcome, over all its frames.
pub const WELCOME_BYTES: usize = 4 << 20;

/// After so much of them no further circle is handed to a peer at once: with what else is said it fits into the queue of
/// a line, which drops what does not. Nor, within a minute, after so much to all those who had had what they are handed.
pub const WELCOMES_AT_ONCE_BYTES: usize = 1 << 20;

/// How often in one session circles are handed again to a peer to which frames were lost.
pub const WELCOMED_AGAIN: u32 = 8;

/// Operations in one welcome: those of a circle of two hundred nodes over years.
pub const WELCOME_OPERATIONS: usize = 4_096;

/// Bytes of control entries in one frame of a welcome.
pub const WELCOME_FRAME_BYTES: usize = 256 << 10;

/// Circles in one offer frame, 50 bytes each.
pub const OFFER_CIRCLES: usize = 8_192;

/// Tags of circles that a peer offered and this node does not know (yet).
pub const UNKNOWN_TAGS: usize = 8_192;

/// Up to so many logs a comparison skips the level of buckets: they fit in a few kilobytes.
pub const TIPS_AT_ONCE: usize = 64;

/// Tips in one frame, at most 100 bytes each.
pub const TIPS_PER_FRAME: usize = 8_192;

/// Tips remembered of one peer in one circle, one for each of its nodes, until its digest is that of this node.
pub const TIPS_PER_PEER: usize = 16_384;

/// How many of those may be logs of one author, so that one that opens logs without end stands in nobody's way but
/// its own. An honest one has a log per start that no later one cites: one.
pub const TIPS_PER_AUTHOR: usize = 1_024;

/// Runs asked of one peer at a time; yamux gives a connection 32 streams.
pub const PULLS_PER_PEER: usize = 4;

/// Runs asked of all peers at a time.
pub const PULLS: usize = 32;

/// Entries in a row whose own signatures do not hold. An honest author signs every one, and what is altered on the
/// way is vouched for by the next; more than this nobody takes, so that a fork is proven by a few headers.
pub const UNSIGNED_ENTRIES: usize = 64;

/// Bytes at the end of a run that wait for a later head to vouch for them.
pub const UNDECIDED_BYTES: usize = 4 << 20;

/// Bytes of operations that one peer sent before what they build on came.
pub const WAITING_BYTES: usize = 512 << 10;

/// Logs about which one peer may be asked where they part from what is held here.
pub const DOUBTS_PER_PEER: usize = 16;

/// Forked logs of one author of which proof is kept although they are not held. An honest author has none, a cloned
/// machine one. Of what is held all proofs are kept, as who knows of a fork holds less than who does not.
pub const FORKS_PER_AUTHOR: usize = 64;

/// Operations behind forks that one peer may offer and nothing here needs yet: as many as a whole circle has.
pub const BRANCH_OPERATIONS: usize = WELCOME_OPERATIONS;

/// Bytes of those.
pub const BRANCH_BYTES: usize = WELCOME_BYTES;

/// Bytes of those that a peer is handed after one comparison, and one more of them: a quarter of what waits for a slow line
/// before frames are dropped.
pub const BRANCHES_TOLD_BYTES: usize = 1 << 20;

/// And of a steward's control logs, of which those who know of a fork hold another set of operations than those who do
/// not: as many as any peer says that it holds of one author.
pub const OPERATION_FORKS_PER_AUTHOR: usize = TIPS_PER_AUTHOR;

/// A run that brings nothing for so long is asked of another peer.
pub const PULL_STALL_MS: u64 = 20_000;

/// A run that brings less in that time gives way to another peer that has the same; 56 kbit/s bring twice as much.
pub const PULL_LEAST_BYTES: usize = 64 << 10;

/// How long after hearing of a height it is asked for, so that the author's own push may come first.
pub const PULL_WAIT_MS: u64 = 250;

/// How long heights are gathered before they are announced: one frame for many entries.
pub const ANNOUNCE_WAIT_MS: u64 = 50;

/// To so many a height is announced that its author pushed to everybody already. Of a circle in which all are connected,
/// one that lost its connection with the author alone hears of it at once nineteen times of twenty, else within a minute.
/// Told to all, the heights took more of the line than entries of a kilobyte did.
pub const ANNOUNCE_TO: usize = 3;

/// How often it is written down at most what one holder says of one author's logs and can say otherwise each time: which
/// epochs it cannot open, and how much it has of what is not held here.
pub const HELD_NOTE_MS: u64 = 5 * 60_000;

/// How long changes are gathered before they are stated to author and stewards.
pub const HELD_WAIT_MS: u64 = 2_000;

/// How long statements wait at each who hands them on: those of all for whom it is the way go together. Seconds after an
/// entry nobody minds whether "received" comes a few later.
pub const HAND_ON_MS: u64 = 3_000;

/// How often one statement is handed on: over any circle and back, along ways that are known. What goes in a ring,
/// because two believe the other to be nearer, ends with that.
pub const HANDED_ON: u8 = 12;

/// How often it is handed on once no way is known: six of a circle's members and more of them then keep it, of which
/// whoever was away meets one among its eight neighbours.
pub const HANDED_ON_ASTRAY: u8 = 6;

/// How long what was handed on along a known way may be on a line that was cut: after that a connection on it has ended.
pub const HANDED_MS: u64 = 90_000;

/// Statements in one frame that hands them on: a hundred members state within the seconds that they are gathered in,
/// and as many signatures are looked at in ten milliseconds.
pub const HANDED_AT_ONCE: usize = 256;

/// Bytes of the statements of one such frame, after which there is one more of them at most.
pub const HANDED_BYTES: usize = 256 << 10;

/// Statements of one holder that are carried on its behalf, in one circle: about so many authors that it is not
/// connected with. With [`CARRIED_BYTES`], 32 KiB is what one that lies can make others keep.
pub const CARRIED_PER_HOLDER: usize = 32;

/// A statement that is handed on: eight logs, where one is usual, or some epochs that do not open.
pub const CARRIED_BYTES: usize = 1 << 10;

/// To how many one statement is handed that looks for its way, until it says something new. One is usual; others, when
/// that one went, or gave it back.
pub const CARRIED_HOPS: usize = 4;

/// How long a statement is kept for somebody who does not come by. Then "unknown" it is, until its holder says more.
pub const CARRIED_MS: u64 = 24 * 3_600_000;

/// How often digests are exchanged when nothing else happens.
pub const DIGEST_EVERY_MS: u64 = 60_000;

/// Who was handed a circle and has not joined it is handed it again once there are more operations, no sooner than in a
/// minute, and of a long history so much a minute.
pub const HANDED_A_MINUTE_BYTES: usize = 64 << 10;

/// How often the minute doubles until a member that says nothing to what it is handed is handed it again: to about an hour.
pub const HANDED_DOUBLINGS: u32 = 6;

/// Who has said none for so long may take this node for removed.
pub const SILENT_MS: u64 = 3 * DIGEST_EVERY_MS;

/// Digests that nothing but time calls for are said with others that are due, so much before their own time.
pub const DIGESTS_TOGETHER_MS: u64 = 5_000;

/// Comparisons with one peer about one circle are not started more often.
pub const COMPARE_EVERY_MS: u64 = 1_000;

/// How often the wait doubles until a peer from which not all could be had is asked again: to about [`DIGEST_EVERY_MS`].
pub const ASKED_DOUBLINGS: u8 = 6;

/// Lists of tips of one circle that are looked at of one peer within [`COMPARE_EVERY_MS`]: three it says at most, and a
/// line that stood still brings some at once.
pub const LISTS_AT_ONCE: u32 = 16;

/// Of so many logs that are wanted it is looked through in a millisecond whom to ask for which, so that it takes a small
/// part of the time: a log is looked at in less than a tenth of a microsecond.
pub const WANTS_A_MILLISECOND: usize = 256;

/// Forks that are told to all within [`COMPARE_EVERY_MS`], and to one peer after one comparison: honest authors have none.
pub const FORKS_TOLD_AT_ONCE: usize = 64;

/// Runs in a row in one circle that bring nothing, after which a peer is asked for nothing more there until it says
/// anew what it holds. It may not count this node any more, which this node has not heard; or a cut came between.
pub const EMPTY_RUNS: u32 = 8;

/// How often a peer may say anew what it then does not send; after that it is disconnected. An honest one that sends
/// nothing has nothing to say either.
pub const EMPTY_ROUNDS: u32 = 8;

/// Keys of older epochs in one request of a newcomer, and in its answer: opening and sealing as many anew takes ten
/// milliseconds, and a node that joins years late asks a hundred times.
pub const KEYS_AT_ONCE: usize = 64;

/// One key sealed to one node: age takes about 250 bytes.
pub const GIVEN_KEY_BYTES: usize = 1_024;

/// A key that a peer could not hand over is asked of it again after so long: it may have got it meanwhile.
pub const KEY_RETRY_MS: u64 = 10 * 60_000;

/// Records in one request of a node that lost them: a damaged place of a disk takes a few, and they come two in a frame
/// when they are as long as they may be.
pub const RECORDS_AT_ONCE: usize = 16;

/// Faults after which a peer is disconnected. One can be an accident of version skew.
pub const FAULTS: u32 = 3;

/// What is written down of one holder about one log, or beside its logs: [`HELD_STEPS`] steps are half a kilobyte,
/// and a statement names no more epochs than fit in one.
pub const HELD_FACT_BYTES: usize = HELD_BYTES;

/// Clocks of honest nodes agree so far, and a statement may come after it was made: only a later time than that is said to
/// be of a clock that is ahead.
pub const CLOCKS_APART_MS: u64 = 5 * 60_000;

/// Certified nodes up to which all are connected with all: at 114 KiB for an idle connection that is under 4 MiB a
/// node, and an entry is everywhere after one way. Beyond, connections would grow with the square of the network.
pub const ALL_TO_ALL: usize = 32;

/// Neighbours in a circle, of which a node that can be dialled chooses half and is chosen by about as many. What goes
/// from neighbour to neighbour is at two hundred members after three ways, and each would have to lose all of its
/// neighbours at once to miss it.
pub const NEIGHBOURS: usize = 8;

/// Neighbours that are away and looked for all the same, in one circle: those that were lost with a line come back
/// with it.
pub const NEIGHBOURS_AWAY: usize = 8;

/// How long the rank of a node is drawn for. Of four neighbours that were chosen one leaves, or is displaced, about
/// every hour.
pub const RANK_MS: u64 = 8 * 3_600_000;
