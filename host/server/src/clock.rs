//! The one place that reads the clock and draws randomness; everything else takes time and jitter as arguments.
//!
//! There are two readings of the time. [`now`] does not go back when the system's clock is set back: what was scheduled by it comes due when it
//! was meant to. Hosts that share a database go by the database's clock there, as it was last heard: what one schedules comes due on another.
//! `wall` is what the system says: by it the others' timestamps are judged and ours are given, because that is how they read theirs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tollgate_core::retry::{Jitter, Moment};
use tollgate_core::time::UnixMillis;

/// The time moves when the shared clock is heard to differ from it by so much, in milliseconds.
const HEARD_DIFFERS_MS: u64 = 250;

static FLOOR: Floor = Floor::new();
static SHARED: Shared = Shared::new();

/// The time of this process: that of the clock that hosts share, where they share one. Else the system's wall clock, except that it goes on from
/// where it was when that is set back; then it is ahead of `wall` until the process ends or the wall clock has caught up.
pub fn now() -> UnixMillis {
    let steady_ms = steady_ms(Instant::now());
    SHARED.read(steady_ms).unwrap_or_else(|| FLOOR.read(wall(), steady_ms))
}

/// The system's wall clock, as it is.
pub(crate) fn wall() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// By how many milliseconds the system's clock was set back behind [`now`]; 0 where hosts share another.
pub(crate) fn behind_ms() -> i64 {
    let steady_ms = steady_ms(Instant::now());
    match SHARED.read(steady_ms) {
        Some(_) => 0,
        None => {
            let wall = wall();
            FLOOR.read(wall, steady_ms).since(wall)
        }
    }
}

/// Hears that the clock that hosts share said `shared` at a moment. [`now`] goes by it from here on.
pub(crate) fn hear(at: Instant, shared: UnixMillis) {
    SHARED.hear(steady_ms(at), shared);
}

/// Nanoseconds since this was first asked: for rates, which a wall clock that is set back would break.
pub(crate) fn steady_ns() -> u64 {
    u64::try_from(start().elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn steady_ms(at: Instant) -> i64 {
    i64::try_from(at.saturating_duration_since(start()).as_millis()).unwrap_or(i64::MAX)
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

/// A clock that others read as well, by what it was heard to say.
struct Shared {
    /// What it said, less what a steady clock said then, in milliseconds; [`Self::NEVER`] while it was not heard.
    base_ms: AtomicI64,
}

impl Shared {
    const NEVER: i64 = i64::MIN;

    const fn new() -> Self {
        Self {
            base_ms: AtomicI64::new(Self::NEVER),
        }
    }

    fn hear(&self, steady_ms: i64, shared: UnixMillis) {
        let heard_ms = shared.0.saturating_sub(steady_ms);
        let base_ms = self.base_ms.load(Ordering::Relaxed);
        // What is heard comes over a network, each time after another delay: the time does not jump for that.
        if base_ms == Self::NEVER || base_ms.abs_diff(heard_ms) >= HEARD_DIFFERS_MS {
            self.base_ms.store(heard_ms, Ordering::Relaxed);
        }
    }

    fn read(&self, steady_ms: i64) -> Option<UnixMillis> {
        match self.base_ms.load(Ordering::Relaxed) {
            Self::NEVER => None,
            base_ms => Some(UnixMillis(steady_ms.saturating_add(base_ms))),
        }
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
    fn a_clock_that_hosts_share_is_followed_and_what_the_network_adds_is_not() {
        let shared = Shared::new();
        let hear = |steady: i64, said: i64| shared.hear(steady, UnixMillis(said));
        let at = |steady: i64| shared.read(steady).map(|now| now.0);
        assert_eq!(at(10), None);
        hear(10, 1_000_000);
        assert_eq!(at(510), Some(1_000_500));
        hear(1_010, 1_001_150);
        assert_eq!(at(1_010), Some(1_001_000), "a slow answer");
        hear(2_010, 1_000_000);
        assert_eq!(at(2_020), Some(1_000_010), "it was set back");
        hear(3_010, 9_000_000);
        assert_eq!(at(3_020), Some(9_000_010), "and forward");
    }

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
