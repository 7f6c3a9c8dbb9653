//! A breaker per destination: after enough failures in a row nothing is sent for a while, then one probe decides.

use crate::time::UnixMillis;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failures_max: u32,
    /// How long it stays open before a probe.
    pub open_ms: i64,
}

impl BreakerPolicy {
    /// The policy for deliveries: 5 failures in a row open a breaker for 10 seconds.
    pub const DELIVERIES: Self = Self {
        failures_max: 5,
        open_ms: 10_000,
    };
}

/// The state of one destination's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Attempts are sent.
    Closed {
        /// How many attempts failed in a row, up to now.
        failures: u32,
    },
    /// Nothing is sent before this instant.
    Open {
        /// When the next attempt may be sent, as a probe.
        until: UnixMillis,
    },
    /// One probe is on its way.
    Probing,
}

/// What a breaker answers when one more attempt wants to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Permission {
    /// The attempt may be made.
    Send,
    /// No attempt may be made before this instant.
    WaitUntil(UnixMillis),
}

impl Breaker {
    /// A closed breaker without failures.
    pub const fn new() -> Self {
        Self::Closed { failures: 0 }
    }

    /// Returns whether an attempt may be made now. Whoever is told to send must report with [`Breaker::finished`].
    pub fn permit(&mut self, policy: &BreakerPolicy, now: UnixMillis) -> Permission {
        match *self {
            Self::Closed { .. } => Permission::Send,
            Self::Open { until } if now >= until => {
                *self = Self::Probing;
                Permission::Send
            }
            Self::Open { until } => Permission::WaitUntil(until),
            Self::Probing => Permission::WaitUntil(now.plus_ms(policy.open_ms)),
        }
    }

    /// Reports how an attempt ended.
    pub fn finished(&mut self, policy: &BreakerPolicy, success: bool, now: UnixMillis) {
        *self = match (*self, success) {
            (_, true) => Self::Closed { failures: 0 },
            (Self::Closed { failures }, false) if failures + 1 < policy.failures_max => {
                Self::Closed { failures: failures + 1 }
            }
            (Self::Closed { .. } | Self::Probing, false) => Self::Open {
                until: now.plus_ms(policy.open_ms),
            },
            // An attempt that began before the breaker opened.
            (Self::Open { until }, false) => Self::Open { until },
        };
    }

    /// Whether attempts are held back, also while a probe is on its way.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Probing)
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_probes_and_closes() {
        let policy = BreakerPolicy {
            failures_max: 2,
            open_ms: 100,
        };
        let mut breaker = Breaker::new();
        breaker.finished(&policy, false, UnixMillis(0));
        assert_eq!(breaker.permit(&policy, UnixMillis(0)), Permission::Send);
        breaker.finished(&policy, false, UnixMillis(0));
        assert_eq!(
            breaker.permit(&policy, UnixMillis(99)),
            Permission::WaitUntil(UnixMillis(100))
        );
        assert_eq!(breaker.permit(&policy, UnixMillis(100)), Permission::Send, "the probe");
        assert_eq!(
            breaker.permit(&policy, UnixMillis(100)),
            Permission::WaitUntil(UnixMillis(200)),
            "one probe at a time"
        );
        breaker.finished(&policy, false, UnixMillis(110));
        assert_eq!(breaker, Breaker::Open { until: UnixMillis(210) });
        assert_eq!(breaker.permit(&policy, UnixMillis(210)), Permission::Send);
        breaker.finished(&policy, true, UnixMillis(211));
        assert_eq!(breaker, Breaker::Closed { failures: 0 });
    }
}
