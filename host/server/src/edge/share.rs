//! A share of a thread's time for what comes in any number and is worth little. The rest is everybody else's, and some of it nobody's:
//! a thread that never sleeps is one that the writer and the other edges wait for, a turn of the scheduler each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// Of so many nanoseconds one.
const SHARE: u64 = 4;
/// What was not used stays as long: a sleep ends up to a millisecond late.
const KEPT_NS: u64 = 2_000_000;

/// What it costs to take in a connection: a guess, on the low side. Who is kept in the kernel's queue keeps everybody behind him there.
pub(super) const CONNECTION_NS: u64 = 5_000;
/// To read a request, try its signature and refuse it.
pub(super) const REFUSAL_NS: u64 = 8_000;
/// To read a byte of a large body while memory for bodies is short: most of it in the kernel, and in making room.
pub(super) const BYTE_NS: u64 = 4;

/// For the tasks of one thread, which must line up: it lets one at a time go on.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// When all that was taken will be paid for, by the steady clock.
    even_at_ns: AtomicU64,
}

impl Share {
    /// Goes on when the share has room again for something, and takes so much of it.
    pub(super) async fn take(&self, cost_ns: u64) {
        let wait_ns = self.take_at(clock::steady_ns(), cost_ns);
        if wait_ns > 0 {
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
        }
    }

    /// How long to wait first.
    fn take_at(&self, now_ns: u64, cost_ns: u64) -> u64 {
        let even_at_ns = self.even_at_ns.load(Ordering::Relaxed);
        let begins_ns = even_at_ns.max(now_ns.saturating_sub(KEPT_NS));
        self.even_at_ns.store(
            begins_ns.saturating_add(cost_ns.saturating_mul(SHARE)),
            Ordering::Relaxed,
        );
        even_at_ns.saturating_sub(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_had_than_the_share_whatever_is_asked() {
        let share = Share::default();
        let (mut now, end) = (50_000_000, 1_050_000_000);
        let mut taken = 0;
        while now < end {
            // A sleep is a millisecond too long at most, and what is done costs what was said.
            let wait = share.take_at(now, REFUSAL_NS);
            now += if wait > 0 { wait.next_multiple_of(1_000_000) } else { 0 };
            now += REFUSAL_NS;
            taken += REFUSAL_NS;
        }
        let most = (end - 50_000_000) / SHARE + KEPT_NS;
        assert!(taken <= most, "{taken} of {most}");
        assert!(
            taken * 10 >= most * 9,
            "{taken} of {most}: sleeps cost the share nothing"
        );
    }

    #[test]
    fn who_asks_for_little_never_waits() {
        let share = Share::default();
        for n in 0..1000 {
            assert_eq!(share.take_at(n * REFUSAL_NS * SHARE, REFUSAL_NS), 0);
        }
    }
}
