//! Memory: what the program asked for, counted by its allocator, and the most that the system gave it; and a guard over
//! what one input may make an engine ask for.
//!
//! Whatever an engine takes without an end it takes within one input, after which nobody is left to look. So a thread
//! beside the lives looks every few milliseconds, and ends the program with a word about whose doing it was: an
//! allocator may not unwind, so that nothing else ends an engine in the middle of an input.

use std::{
    process,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::Duration,
};

use cap::Cap;
use mimalloc::MiMalloc;

#[global_allocator]
static MEMORY: Cap<MiMalloc> = Cap::new(MiMalloc, usize::MAX);

/// What one input, and the outputs that follow from it, may add to what is allocated. A frame has at most 1 MiB, a welcome
/// 4 MiB, and what waits of a run for a later head 4 MiB, each perhaps a few times over; an entry of 512 KiB goes to a
/// few dozen peers. All of that together is a quarter of this.
pub(crate) const INPUT_BYTES: usize = 256 << 20;

/// How often it is looked: at a gigabyte a second, thirty times before a machine of a few gigabytes is full.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The bytes that are allocated now, without what the allocator takes besides.
pub(crate) fn allocated() -> usize {
    MEMORY.allocated()
}

/// What dropping this gives back.
pub(crate) fn freed_by<T>(value: T) -> usize {
    let before = allocated();
    drop(value);
    before.saturating_sub(allocated())
}

/// The most memory that the system ever had given this process, where it says so.
pub(crate) fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// An input that an engine handles.
#[derive(Debug, Clone, Copy)]
struct Underway {
    node: usize,
    what: &'static str,
    /// What was allocated before.
    from: usize,
}

impl Underway {
    /// What there is more by now, if that is more than an input may add. Other lives beside this one allocate too, but
    /// not so much in the time of an input.
    fn excess(&self) -> Option<usize> {
        let more = allocated().saturating_sub(self.from);
        (more > INPUT_BYTES).then_some(more)
    }

    fn story(&self, more: usize) -> String {
        let Self { node, what, .. } = self;
        format!("p{node:02} handles {what}, and {} MiB more are allocated than before", more >> 20)
    }
}

/// What the engines of one life are at, for the thread that looks.
#[derive(Debug)]
pub(crate) struct Guard {
    life: String,
    underway: Mutex<Option<Underway>>,
}

static GUARDS: Mutex<Vec<Arc<Guard>>> = Mutex::new(Vec::new());

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// The guard over a life, which goes by these flags.
    pub(crate) fn over(life: String) -> Arc<Self> {
        static LOOKING: Once = Once::new();
        LOOKING.call_once(|| drop(thread::spawn(look)));
        let guard = Arc::new(Self { life, underway: Mutex::new(None) });
        lock(&GUARDS).push(Arc::clone(&guard));
        guard
    }

    /// A node's engine is about to handle something.
    pub(crate) fn begins(&self, node: usize, what: &'static str) {
        *lock(&self.underway) = Some(Underway { node, what, from: allocated() });
    }

    /// It is done, with all that followed. A story, if it took too much.
    pub(crate) fn ends(&self) -> Option<String> {
        let underway = lock(&self.underway).take()?;
        underway.excess().map(|more| underway.story(more))
    }
}

fn look() {
    loop {
        thread::sleep(LOOK_EVERY);
        let mut guards = lock(&GUARDS);
        // A life that is over holds its guard no more.
        guards.retain(|guard| Arc::strong_count(guard) > 1);
        for guard in guards.iter() {
            let underway = *lock(&guard.underway);
            if let Some((underway, more)) = underway.and_then(|underway| Some((underway, underway.excess()?))) {
                eprintln!(
                    "I7 IS BROKEN, and this run ends: {}; replay {} in the same scenario",
                    underway.story(more),
                    guard.life
                );
                process::exit(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_takes_too_much_is_told_with_its_node() {
        let frame = Underway { node: 3, what: "a frame", from: allocated() };
        assert_eq!(frame.excess(), None);
        let held = vec![0_u8; INPUT_BYTES + (8 << 20)];
        let more = frame.excess();
        drop(held);
        assert!(frame.story(more.unwrap()).starts_with("p03 handles a frame"));
    }
}
