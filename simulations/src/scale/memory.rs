//! Memory: what the program asked for, counted by its allocator, and the most that the system gave it.

use cap::Cap;
use mimalloc::MiMalloc;

#[global_allocator]
static MEMORY: Cap<MiMalloc> = Cap::new(MiMalloc, usize::MAX);

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
