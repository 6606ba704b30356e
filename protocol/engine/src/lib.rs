//! The engine of a node: logs, circles, acceptance and sync, without IO.
//!
//! It is a state machine. Everything that happens goes in as an [`input::Input`], with the time; everything to be
//! done comes out as an [`output::Output`]. It has no sockets, files, threads, clocks or randomness of its own, so
//! that a simulation drives the very code that a node runs. It is blind to what payloads mean.
//!
//! # The contract
//!
//! * Call [`engine::Engine::handle`] for every input, then [`engine::Engine::poll_output`] until it gives nothing.
//! * Carry outputs out in their order. `Store` is answered by `Stored` once everything in it is durable, and
//!   stores answer in the order in which they were asked: when a later write survived a crash, so did every
//!   earlier one. What depends on a write comes out only after its `Stored`.
//! * `Seal`, `MakeEpoch` and `Pull` are answered later, or never; nothing waits for them but what asked.
//! * Call `handle` with `Input::Tick` when [`engine::Engine::next_deadline`] is reached.
//! * Frames of one session arrive in order and whole, or the session ends. Nothing else is assumed of a peer.
//! * Random bytes come in with inputs that need them, and are fresh each time.
//!
//! ```
//! use cwn_crypto::Time;
//! use cwn_engine::{
//!     engine::Engine,
//!     input::Input,
//!     output::Output,
//!     store::{Read, Write},
//! };
//!
//! trait Disk: Read {
//!     /// Returns when all of it is durable.
//!     fn append(&mut self, writes: Vec<Write>);
//! }
//!
//! fn step(engine: &mut Engine, disk: &mut impl Disk, now: Time, input: Input) {
//!     engine.handle(now, input, &*disk);
//!     while let Some(output) = engine.poll_output() {
//!         match output {
//!             Output::Store { ticket, writes } => {
//!                 disk.append(writes);
//!                 engine.handle(now, Input::Stored { ticket }, &*disk);
//!             }
//!             Output::Send { peer, bytes, .. } => println!("{} bytes to {peer}", bytes.len()),
//!             other => println!("to do: {other:?}"),
//!         }
//!     }
//! }
//! ```
//!
//! # Where to look
//!
//! [`wire`] bytes → [`log`] entries, `Decoded → Authentic → Stored` → [`acceptance`] the verdict. [`circle`] who
//! belongs: the order-free fold; [`epoch`] sealing keys and their sets; [`replica`] what one node holds of one
//! circle; [`sync`] what nodes say to each other; [`neighbours`] with whom they are connected; [`held`] who durably holds what; [`engine`] commands, and what
//! waits for the store; [`limits`] every bound, with its reason.
//!
//! The words: a **circle** is a group of partners that share entries, the unit of trust, encryption and
//! replication. An **entry** is one signed, sealed item in an author's **log**, the entries of one author in one
//! circle from one start of its node. A **steward** is a node that may change who belongs. An **epoch** is a
//! sealing key that one partner made for what it writes, and the exact set of nodes it was wrapped to. The
//! **network circle** is that of every certified node.

pub mod acceptance;
pub mod branches;
pub mod circle;
mod cut;
pub mod engine;
pub mod epoch;
pub mod expire;
pub mod fork;
pub mod held;
pub mod input;
pub mod keep;
pub mod limits;
pub mod log;
pub mod neighbours;
pub mod output;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod replica;
mod retract;
pub mod root;
mod rot;
pub mod store;
pub mod succession;
pub mod sync;
pub mod wire;
