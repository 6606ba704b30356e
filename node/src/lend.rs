//! A handle that threads share by each taking a copy of its own.
//!
//! sled's handles may move between threads and not be used by two at once: each carries caches of its own.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Gives every caller a copy.
pub struct Lend<T>(Mutex<T>);

impl<T: Clone> Lend<T> {
    /// Lends copies of a handle.
    pub fn new(handle: T) -> Self {
        Self(Mutex::new(handle))
    }

    /// A copy to use.
    pub fn get(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> fmt::Debug for Lend<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lend").finish_non_exhaustive()
    }
}
