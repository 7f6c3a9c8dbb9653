//! The one place that reads the clock and draws randomness; everything else takes time and jitter as arguments.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tollgate_core::retry::Jitter;
use tollgate_core::time::UnixMillis;

/// The system's wall clock.
pub(crate) fn now() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// Nanoseconds since this was first asked: for rates, which a wall clock that is set back would break.
pub(crate) fn steady_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// A fresh random fraction. A system without randomness gets the longest delay, which is safe.
pub(crate) fn jitter() -> Jitter {
    getrandom::u32().map_or(Jitter::FULL, Jitter)
}
