//! Rate limits: how many requests a tenant may send, and when the next one fits (promises I7, P6).
//!
//! The generic cell rate algorithm: a token bucket that keeps one instant instead of a count and a time, so it is exact and needs no
//! refilling. Time is whole nanoseconds of a clock that never goes back.

/// A bound on requests: how many in a second on average, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_s: u32,
    burst: u32,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Rate {
    /// `None` when either number is 0: such a limit would let nothing through.
    pub fn new(per_s: u32, burst: u32) -> Option<Self> {
        (per_s > 0 && burst > 0).then_some(Self { per_s, burst })
    }

    /// How many at once.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Milliseconds in which a whole burst is earned, rounded up.
    pub fn burst_ms(self) -> u64 {
        self.cost_ns().saturating_mul(u64::from(self.burst)).div_ceil(1_000_000)
    }

    /// What one request takes, rounded up: a limit is never exceeded.
    fn cost_ns(self) -> u64 {
        SECOND_NS.div_ceil(u64::from(self.per_s))
    }
}

/// What one sender has used of its [`Rate`]. A new one has used nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When all that was taken is earned again.
    full_at_ns: u64,
}

impl Bucket {
    /// Takes one request's share.
    ///
    /// # Errors
    /// When none is left: nanoseconds until the next one fits.
    pub fn take(&mut self, rate: Rate, now_ns: u64) -> Result<(), u64> {
        let cost_ns = rate.cost_ns();
        let burst_ns = cost_ns.saturating_mul(u64::from(rate.burst));
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(cost_ns);
        let ahead_ns = full_at_ns - now_ns;
        if ahead_ns > burst_ns {
            return Err(ahead_ns - burst_ns);
        }
        self.full_at_ns = full_at_ns;
        Ok(())
    }

    /// How many requests fit now.
    pub fn left(&self, rate: Rate, now_ns: u64) -> u32 {
        let cost_ns = rate.cost_ns();
        let burst_ns = cost_ns.saturating_mul(u64::from(rate.burst));
        let ahead_ns = self.full_at_ns.saturating_sub(now_ns);
        u32::try_from(burst_ns.saturating_sub(ahead_ns) / cost_ns).unwrap_or(u32::MAX)
    }

    /// Takes what others took of the same rate elsewhere, however much there is left: what is missing then has to be earned first.
    pub fn charge(&mut self, rate: Rate, requests: u64, now_ns: u64) {
        let cost_ns = rate.cost_ns().saturating_mul(requests);
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(cost_ns);
    }

    /// Gives one share back: what was taken for a request that turned out to be nobody's.
    pub fn give_back(&mut self, rate: Rate) {
        self.full_at_ns = self.full_at_ns.saturating_sub(rate.cost_ns());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_at_once_and_then_one_by_one() {
        let rate = Rate::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        let start = 5 * SECOND_NS;
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.left(rate, start), 0);
        assert_eq!(bucket.left(rate, start + 250_000_000), 2);
        assert_eq!(bucket.take(rate, start), Err(100_000_000));
        assert_eq!(bucket.take(rate, start + 99_999_999), Err(1));
        assert_eq!(bucket.take(rate, start + 100_000_000), Ok(()));
        assert_eq!(bucket.take(rate, start + 100_000_000), Err(100_000_000));
        bucket.give_back(rate);
        assert_eq!(bucket.take(rate, start + 100_000_000), Ok(()));
        // After a pause there is a whole burst again, and no more.
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start + 60 * SECOND_NS), Ok(()));
        }
        assert!(bucket.take(rate, start + 60 * SECOND_NS).is_err());
    }

    #[test]
    fn what_others_took_is_missing_here_until_it_is_earned() {
        let rate = Rate::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        bucket.charge(rate, 2, 0);
        assert_eq!(bucket.left(rate, 0), 1);
        bucket.charge(rate, 6, 0);
        assert_eq!(bucket.take(rate, 0), Err(600_000_000));
        assert_eq!(bucket.take(rate, 600_000_000), Ok(()));
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        assert_eq!(Rate::new(0, 1), None);
        assert_eq!(Rate::new(1, 0), None);
    }

    proptest! {
        /// In no stretch of time does more pass than a burst and what is earned in it; and who waits as told, passes.
        #[test]
        fn no_stretch_of_time_holds_more_than_the_limit(
            per_s in 1_u32..2_000,
            burst in 1_u32..50,
            waits in prop::collection::vec(0_u64..20_000_000, 1..200),
        ) {
            let rate = Rate::new(per_s, burst).unwrap();
            let mut bucket = Bucket::default();
            let mut now = 0;
            let mut passed: Vec<u64> = Vec::new();
            for wait in waits {
                now += wait;
                match bucket.take(rate, now) {
                    Ok(()) => passed.push(now),
                    Err(wait_ns) => {
                        let mut waited = bucket;
                        prop_assert_eq!(waited.take(rate, now + wait_ns), Ok(()));
                        prop_assert!(wait_ns == 0 || bucket.take(rate, now + wait_ns - 1).is_err());
                    }
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let earned = (to - from) / rate.cost_ns();
                    prop_assert!((last - first + 1) as u64 <= u64::from(burst) + earned);
                }
            }
        }
    }
}
