//! The one place that reads the clock and draws randomness; everything else takes time and jitter as arguments.
//!
//! There are two readings of the time. [`now`] never goes back while the process lives: what was scheduled by it comes due when it
//! was meant to, whatever is done to the system's clock. `wall` is what the system says: by it the others' timestamps are judged,
//! because that is how they read theirs. Hosts that share a database go by its clock, both ways: what one schedules comes due on another.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tollgate_core::retry::{Jitter, Moment};
use tollgate_core::time::UnixMillis;

static FLOOR: Floor = Floor::new();
/// By how many milliseconds the system's clock is ahead of the one that hosts share.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// The time of this process: the system's wall clock, except that it goes on from where it was when that is set back. Then it is
/// ahead of `wall` until the process ends or the wall clock has caught up.
pub fn now() -> UnixMillis {
    let steady_ms = i64::try_from(steady_ns() / 1_000_000).unwrap_or(i64::MAX);
    FLOOR.read(wall(), steady_ms)
}

/// The system's wall clock, as it is; or the one that hosts share, where the system's differs from that.
pub(crate) fn wall() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let system = UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX));
    system.plus_ms(-AHEAD_MS.load(Ordering::Relaxed))
}

/// Says by how many milliseconds the system's clock is ahead of the one that hosts share. [`now`] goes by that from here on, even where it goes
/// back for it.
pub(crate) fn set_ahead(ahead_ms: i64) {
    AHEAD_MS.store(ahead_ms, Ordering::Relaxed);
    FLOOR.forget();
}

/// Nanoseconds since this was first asked: for rates, which a wall clock that is set back would break.
pub(crate) fn steady_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// A fresh random fraction. A system without randomness gets the longest delay, which is safe.
fn jitter() -> Jitter {
    getrandom::u32().map_or(Jitter::FULL, Jitter)
}

/// The time and the jitter for a decision that is made now.
pub(crate) fn moment() -> Moment {
    Moment {
        now: now(),
        jitter: jitter(),
    }
}

/// The most that a wall clock was ever ahead of a steady one.
struct Floor {
    ahead_ms: AtomicI64,
}

impl Floor {
    const fn new() -> Self {
        Self {
            ahead_ms: AtomicI64::new(i64::MIN),
        }
    }

    fn forget(&self) {
        self.ahead_ms.store(i64::MIN, Ordering::Relaxed);
    }

    fn read(&self, wall: UnixMillis, steady_ms: i64) -> UnixMillis {
        let ahead_ms = wall.0.saturating_sub(steady_ms);
        let mut most_ms = self.ahead_ms.load(Ordering::Relaxed);
        // Almost never: threads that only read share the line.
        if ahead_ms > most_ms {
            most_ms = self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed).max(ahead_ms);
        }
        UnixMillis(steady_ms.saturating_add(most_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_where_it_was() {
        const HOUR_MS: i64 = 60 * 60 * 1000;
        let floor = Floor::new();
        let at = |wall: i64, steady: i64| floor.read(UnixMillis(wall), steady).0;
        assert_eq!(at(1_000_000, 10), 1_000_000);
        assert_eq!(at(1_000_500, 510), 1_000_500, "both go on");
        // Two hours back: what is due in 30 s is due in 30 s.
        let retry_at = at(1_000_500, 510) + 30_000;
        assert_eq!(at(1_000_500 - 2 * HOUR_MS, 510), 1_000_500);
        assert_eq!(at(1_000_500 - 2 * HOUR_MS + 30_000, 30_510), retry_at);
        // Set right again, and forward: it follows.
        assert_eq!(at(1_040_500, 40_510), 1_040_500);
        assert_eq!(at(1_040_500 + HOUR_MS, 40_510), 1_040_500 + HOUR_MS);
        // A suspended machine: the steady clock stood still.
        assert_eq!(at(1_040_600 + 9 * HOUR_MS, 40_610), 1_040_600 + 9 * HOUR_MS);
    }
}
