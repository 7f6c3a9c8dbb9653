//! What the runs of all plugins share: an engine with its clock, and a bounded number of instances.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::Engine;

use crate::engine::Ticker;

/// The engine's clock stops when the sandbox and all of its plugins are dropped.
pub(crate) struct Pool {
    pub(crate) ticker: Ticker,
    pub(crate) engine: Engine,
    pub(crate) instances: Permits,
    /// All memories and tables of an instance together, at most.
    pub(crate) memory_bytes_max: usize,
}

/// Counts permits: of instances, so that the pool never runs out of them, and of compilers.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<u32>,
    returned: Condvar,
}

#[derive(Debug)]
#[must_use]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            free: Mutex::new(count),
            returned: Condvar::new(),
        }
    }

    /// Waits for a free instance, but no longer than `time_max`.
    pub(crate) fn take(&self, time_max: Duration) -> Option<Permit<'_>> {
        // A count cannot be left half-changed, so a panic elsewhere does not spoil it.
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, _) = self
            .returned
            .wait_timeout_while(free, time_max, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        if *free == 0 {
            return None;
        }
        *free -= 1;
        Some(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}
