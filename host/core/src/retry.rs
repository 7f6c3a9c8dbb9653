//! Retry: exponential backoff with full jitter, bounded. For runs and deliveries alike (promise P5).

use crate::time::UnixMillis;

/// How often and how soon something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included. At least 1.
    pub attempts_max: u32,
    /// The ceiling of the first delay; it doubles with each further try.
    pub base_ms: i64,
    /// No delay's ceiling rises over this.
    pub cap_ms: i64,
}

/// A random fraction of the whole, drawn by the caller: 0 is none, `u32::MAX` is (almost) all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(pub u32);

impl Jitter {
    /// The shortest delay. For tests and dry runs.
    pub const NONE: Self = Self(0);
    /// The longest delay.
    pub const FULL: Self = Self(u32::MAX);

    fn of(self, whole: i64) -> i64 {
        let share = i128::from(whole) * i128::from(self.0) / i128::from(u32::MAX);
        i64::try_from(share).unwrap_or(whole)
    }
}

/// The time of a decision, and the chance by which a next try is put off.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// When the decision is made.
    pub now: UnixMillis,
    /// The random part of the delay.
    pub jitter: Jitter,
}

/// What follows a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum NextStep {
    /// It is tried again at this instant.
    RetryAt(UnixMillis),
    /// It is not tried again.
    GiveUp,
}

impl RetryPolicy {
    /// Runs of plugins: about two minutes in all.
    pub const JOBS: Self = Self {
        attempts_max: 8,
        base_ms: 500,
        cap_ms: 60_000,
    };
    /// Deliveries to destinations: about three days in all.
    pub const DELIVERIES: Self = Self {
        attempts_max: 30,
        base_ms: 1_000,
        cap_ms: 4 * 60 * 60 * 1000,
    };

    /// Whether try number `attempt` comes after the last. Tries are counted when they are leased: those before it ended with their
    /// host, or in a panic of it, and were never settled.
    pub fn is_spent(&self, attempt: u32) -> bool {
        attempt > self.attempts_max
    }

    /// Decides what follows failed try number `attempt` (from 1). The delay is drawn from 0 to the ceiling ("full jitter", after
    /// Brooker, "Exponential Backoff And Jitter", 2015), and is never below `floor_ms`, which a Retry-After sets.
    pub fn next(&self, attempt: u32, floor_ms: i64, now: UnixMillis, jitter: Jitter) -> NextStep {
        if attempt >= self.attempts_max {
            return NextStep::GiveUp;
        }
        let doublings = attempt.saturating_sub(1).min(62);
        let ceiling = self
            .base_ms
            .checked_shl(doublings)
            .filter(|ms| *ms >= self.base_ms)
            .unwrap_or(self.cap_ms)
            .min(self.cap_ms);
        NextStep::RetryAt(now.plus_ms(floor_ms.max(0).max(jitter.of(ceiling))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_up_to_the_cap_and_tries_end() {
        let policy = RetryPolicy {
            attempts_max: 6,
            base_ms: 100,
            cap_ms: 1000,
        };
        let delays: Vec<_> = (1..=6)
            .map(|attempt| policy.next(attempt, 0, UnixMillis(0), Jitter::FULL))
            .collect();
        let at = |ms| NextStep::RetryAt(UnixMillis(ms));
        assert_eq!(delays, [at(100), at(200), at(400), at(800), at(1000), NextStep::GiveUp]);
        assert!(!policy.is_spent(6) && policy.is_spent(7));
        assert_eq!(
            policy.next(1, 700, UnixMillis(5), Jitter::NONE),
            at(705),
            "a Retry-After is a floor"
        );
    }

    proptest! {
        #[test]
        fn a_delay_is_never_early_and_never_over_its_bound(
            attempt in 1_u32..200, base_ms in 1_i64..100_000, cap_ms in 1_i64..10_000_000,
            floor_ms in 0_i64..1_000_000, jitter in any::<u32>(), now in 0_i64..4_000_000_000_000,
        ) {
            let policy = RetryPolicy { attempts_max: 150, base_ms, cap_ms };
            match policy.next(attempt, floor_ms, UnixMillis(now), Jitter(jitter)) {
                NextStep::GiveUp => prop_assert!(attempt >= 150),
                NextStep::RetryAt(at) => {
                    let delay = at.since(UnixMillis(now));
                    prop_assert!(delay >= floor_ms);
                    prop_assert!(delay <= cap_ms.max(floor_ms));
                }
            }
        }
    }
}
