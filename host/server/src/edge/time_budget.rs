//! A bounded part of a thread's time for what arrives in any number and is worth little. The rest is for all other work, and some of it
//! stays unused: the writer and the other edge threads wait a turn of the scheduler for each thread that never sleeps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// One nanosecond of so many.
const PART: u64 = 4;
/// How long unused budget stays: a sleep ends up to a millisecond late.
const KEPT_NS: u64 = 2_000_000;

/// What it costs to accept a connection: an estimate, on the low side, because one that waits in the kernel's queue delays all behind it.
pub(super) const CONNECTION_NS: u64 = 5_000;
/// What it costs to read a request, try its signature and refuse it.
pub(super) const REFUSAL_NS: u64 = 8_000;
/// What it costs to read a byte of a large body while memory for bodies is short: most of it in the kernel and in evicting.
pub(super) const BYTE_NS: u64 = 4;

/// The budget of one thread. Its tasks must queue: one at a time may call [`Self::take`].
#[derive(Debug, Default)]
pub(super) struct TimeBudget {
    /// When all that was taken is paid for, by the steady clock.
    even_at_ns: AtomicU64,
}

impl TimeBudget {
    /// Waits until some of the budget is there, then takes `cost_ns` of it.
    pub(super) async fn take(&self, cost_ns: u64) {
        let wait_ns = self.take_at(clock::steady_ns(), cost_ns);
        if wait_ns > 0 {
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
        }
    }

    /// Takes `cost_ns` and returns how long to wait first, in nanoseconds.
    fn take_at(&self, now_ns: u64, cost_ns: u64) -> u64 {
        let even_at_ns = self.even_at_ns.load(Ordering::Relaxed);
        let begins_ns = even_at_ns.max(now_ns.saturating_sub(KEPT_NS));
        self.even_at_ns.store(
            begins_ns.saturating_add(cost_ns.saturating_mul(PART)),
            Ordering::Relaxed,
        );
        even_at_ns.saturating_sub(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_budget_is_taken_whatever_is_asked() {
        let budget = TimeBudget::default();
        let (mut now, end) = (50_000_000, 1_050_000_000);
        let mut taken = 0;
        while now < end {
            // A sleep is a millisecond too long at most, and what is done costs what was said.
            let wait = budget.take_at(now, REFUSAL_NS);
            now += if wait > 0 { wait.next_multiple_of(1_000_000) } else { 0 };
            now += REFUSAL_NS;
            taken += REFUSAL_NS;
        }
        let most = (end - 50_000_000) / PART + KEPT_NS;
        assert!(taken <= most, "{taken} of {most}");
        assert!(
            taken * 10 >= most * 9,
            "{taken} of {most}: sleeps cost the budget nothing"
        );
    }

    #[test]
    fn who_asks_for_little_never_waits() {
        let budget = TimeBudget::default();
        for n in 0..1000 {
            assert_eq!(budget.take_at(n * REFUSAL_NS * PART, REFUSAL_NS), 0);
        }
    }
}
