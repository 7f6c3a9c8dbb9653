//! Sliding windows: one counter per part of a window, bounded in number, in whatever order events come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Parts that a window is counted in.
const PARTS: i64 = 60;
/// Parts that are kept: two windows, so that an event up to one window late is judged exactly.
const PARTS_KEPT: i64 = 2 * PARTS;
const MINUTE_MS: i64 = 60_000;

/// What happened in each part of time; parts without anything are absent.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counters(BTreeMap<i64, i64>);

impl Counters {
    /// Adds `value` (not negative) at `time_ms` and gives the sum over the window that ends there.
    pub(crate) fn add(&mut self, time_ms: i64, window_minutes: i64, value: i64) -> i64 {
        let part = time_ms.div_euclid(window_minutes * MINUTE_MS / PARTS);
        if value > 0 {
            let counter = self.0.entry(part).or_default();
            *counter = counter.saturating_add(value);
        }
        let sum = self
            .0
            .range(part.saturating_sub(PARTS - 1)..=part)
            .fold(0_i64, |sum, (_, value)| sum.saturating_add(*value));
        if let Some(newest) = self.0.last_key_value().map(|(part, _)| *part) {
            self.0.retain(|part, _| *part > newest.saturating_sub(PARTS_KEPT));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60;

    #[test]
    fn a_window_slides_and_takes_events_in_any_order() {
        let mut counters = Counters::default();
        for (minute, expect) in [
            (0, 1),
            (59, 2),
            (60, 2),  // minute 0 is out
            (30, 2),  // late: 0 and 30
            (60, 4),  // 30, 59, 60, 60
            (119, 3), // 60, 60, 119
            (59, 4),  // late: 0, 30, 59, 59
        ] {
            assert_eq!(counters.add(minute * MINUTE_MS, HOUR, 1), expect, "minute {minute}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_two_windows() {
        let mut counters = Counters::default();
        for minute in 0..10_000 {
            counters.add(minute * MINUTE_MS, HOUR, 1);
        }
        assert_eq!(counters.0.len(), 120);
        assert_eq!(counters.add(9_000 * MINUTE_MS, HOUR, 1), 1, "judged alone");
        assert_eq!(counters.0.len(), 120, "and not kept");
    }

    #[test]
    fn sums_do_not_overflow_and_time_may_be_before_1970() {
        let mut counters = Counters::default();
        assert_eq!(counters.add(-1, 1, i64::MAX), i64::MAX);
        assert_eq!(counters.add(0, 1, i64::MAX), i64::MAX);
        assert_eq!(counters.add(i64::MAX, 1, 1), 1);
        assert_eq!(counters.add(i64::MIN, 1, 1), 1);
    }
}
