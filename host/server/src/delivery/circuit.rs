//! A circuit per destination: its client with the open connections, its breaker, how many attempts it may have under way, and how fast they may begin. It is
//! kept in memory only: a restart begins with trust.
//!
//! What does not fit waits in the store, due as it is, and is not claimed until the circuit's quota allows it: a destination that is down for
//! a day costs a probe now and then, whatever its backlog, and works the backlog off from the moment it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tollgate_core::breaker::{Breaker, BreakerPolicy, Permission};
use tollgate_core::rate::{Bucket, Rate};
use tollgate_core::time::UnixMillis;

use super::breakers::Transition;
use super::client::Client;
use crate::config::{Destination, OutboundRules};

/// One in so many attempts of a full circuit must have ended before more is claimed: a claim is a commit.
const REFILL_PART: usize = 4;

/// One destination's traffic.
#[derive(Debug)]
pub(super) struct Circuit {
    state: Mutex<State>,
    /// Wakes the loop that claims.
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    policy: BreakerPolicy,
    in_flight: usize,
    in_flight_max: usize,
    bucket: Bucket,
    /// The loop was told of a smaller quota than it may have had work for.
    was_short: bool,
    client: Arc<Client>,
}

/// What a destination's file bounds its circuit by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    in_flight_max: usize,
    /// How fast attempts may begin; none: as they come.
    rate: Option<Rate>,
}

impl Bounds {
    pub(super) fn of(destination: &Destination) -> Self {
        Self {
            in_flight_max: destination.in_flight_max,
            rate: destination.rate,
        }
    }
}

/// How many attempts a circuit would let begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) attempts: usize,
    /// When there are more without that an attempt ends: when a breaker lets the next probe through, or the rate some more.
    pub(super) opens_at: Option<UnixMillis>,
}

/// The right to make one attempt. Dropped without [`Permit::finish`], it counts as a failure: the breaker waits for a report.
pub(super) struct Permit {
    circuit: Arc<Circuit>,
    client: Arc<Client>,
    started_at: UnixMillis,
    reported: bool,
}

impl Circuit {
    pub(super) fn new(rules: &OutboundRules, freed: Arc<Notify>) -> Self {
        Self {
            state: Mutex::new(State {
                breaker: Breaker::new(),
                policy: BreakerPolicy::DELIVERIES,
                in_flight: 0,
                in_flight_max: 1,
                bucket: Bucket::default(),
                was_short: false,
                client: Arc::new(Client::new(rules)),
            }),
            freed,
        }
    }

    /// Takes a new client when the rules for connections have changed: a connection that is still open was judged by the old ones.
    pub(super) fn adopt(&self, rules: &OutboundRules) {
        let mut state = self.state();
        if !state.client.obeys(rules) {
            state.client = Arc::new(Client::new(rules));
        }
    }

    /// Says how many attempts may begin now.
    pub(super) fn quota(&self, bounds: Bounds, now: UnixMillis) -> Quota {
        let mut state = self.state();
        state.in_flight_max = bounds.in_flight_max.max(1);
        let free = state.in_flight_max.saturating_sub(state.in_flight);
        let (attempts, opens_at) = match state.breaker {
            Breaker::Closed { .. } => (free, None),
            Breaker::Open { until } if now >= until => (free.min(1), None),
            Breaker::Open { until } => (0, Some(until)),
            Breaker::Probing => (0, None),
        };
        let (attempts, opens_at) = match bounds
            .rate
            .map(|rate| (rate, state.bucket.left(rate, nanoseconds(now))))
        {
            Some((rate, left)) if opens_at.is_none() && left < rate.burst() => (
                attempts.min(left as usize),
                Some(now.plus_ms(i64::try_from(rate.burst_ms()).unwrap_or(i64::MAX))),
            ),
            Some((_, left)) => (attempts.min(left as usize), opens_at),
            None => (attempts, opens_at),
        };
        state.was_short = attempts < state.in_flight_max;
        Quota { attempts, opens_at }
    }

    /// Permits one more attempt, or none when the circuit is full or its breaker open.
    pub(super) fn try_acquire(
        self: &Arc<Self>,
        policy: &BreakerPolicy,
        bounds: Bounds,
        now: UnixMillis,
    ) -> Option<Permit> {
        let mut state = self.state();
        state.policy = *policy;
        state.in_flight_max = bounds.in_flight_max.max(1);
        if state.in_flight >= state.in_flight_max {
            state.was_short = true;
            return None;
        }
        if let Some(rate) = bounds.rate
            && state.bucket.left(rate, nanoseconds(now)) == 0
        {
            state.was_short = true;
            return None;
        }
        match state.breaker.permit(policy, now) {
            Permission::Send => {
                if let Some(rate) = bounds.rate {
                    let _ = state.bucket.take(rate, nanoseconds(now));
                }
                state.in_flight += 1;
                // What fills the circuit may have left more behind.
                state.was_short |= state.in_flight == state.in_flight_max;
                Some(Permit {
                    circuit: Arc::clone(self),
                    client: Arc::clone(&state.client),
                    started_at: now,
                    reported: false,
                })
            }
            Permission::WaitUntil(_) => {
                state.was_short = true;
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's clock never goes back.
fn nanoseconds(now: UnixMillis) -> u64 {
    u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000)
}

impl Permit {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Reports how the attempt ended. Returns what that did to the breaker, if anything.
    pub(super) fn finish(mut self, healthy: bool, now: UnixMillis) -> Option<Transition> {
        self.reported = true;
        let mut state = self.circuit.state();
        let State { breaker, policy, .. } = &mut *state;
        let was_open = breaker.is_open();
        breaker.finished(policy, healthy, now);
        match (was_open, breaker.is_open()) {
            (false, true) => Some(Transition::Opened),
            (true, false) => Some(Transition::Closed),
            (false, false) | (true, true) => None,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.circuit.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if !self.reported {
            let State { breaker, policy, .. } = &mut *state;
            breaker.finished(policy, false, self.started_at);
        }
        let enough = state.in_flight <= state.in_flight_max - state.in_flight_max.div_ceil(REFILL_PART);
        if state.was_short && enough && !state.breaker.is_open() {
            state.was_short = false;
            self.circuit.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures_max: 2,
        open_ms: 1_000,
    };

    const BOUNDS: Bounds = Bounds {
        in_flight_max: 4,
        rate: None,
    };

    fn circuit() -> Arc<Circuit> {
        Arc::new(Circuit::new(&OutboundRules::default(), Arc::default()))
    }

    fn acquire(circuit: &Arc<Circuit>, now: i64) -> Option<Permit> {
        circuit.try_acquire(&POLICY, BOUNDS, UnixMillis(now))
    }

    fn quota(circuit: &Arc<Circuit>, now: i64) -> (usize, Option<UnixMillis>) {
        let quota = circuit.quota(BOUNDS, UnixMillis(now));
        (quota.attempts, quota.opens_at)
    }

    async fn woke(circuit: &Arc<Circuit>) -> bool {
        let wait = std::time::Duration::from_millis(20);
        tokio::time::timeout(wait, circuit.freed.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn a_full_circuit_has_no_quota_and_wakes_who_claims_when_it_has_one() {
        let circuit = circuit();
        assert_eq!(quota(&circuit, 0), (4, None));
        let mut permits: Vec<_> = (0..4).map(|_| acquire(&circuit, 0).unwrap()).collect();
        assert!(acquire(&circuit, 0).is_none());
        assert_eq!(quota(&circuit, 0), (0, None));
        permits.remove(0).finish(true, UnixMillis(10));
        assert!(woke(&circuit).await);
        assert_eq!(quota(&circuit, 10), (1, None));
        // It was told of the quota, and then of a larger one: nobody waits for each single end.
        permits.remove(0).finish(true, UnixMillis(10));
        assert!(woke(&circuit).await);
        permits.remove(0).finish(true, UnixMillis(10));
        assert!(!woke(&circuit).await);
    }

    #[test]
    fn p10_attempts_begin_no_faster_than_the_rate() {
        let circuit = circuit();
        let bounds = Bounds {
            in_flight_max: 4,
            rate: Rate::new(20, 2),
        };
        let begun_at = |now: i64| {
            let quota = circuit.quota(bounds, UnixMillis(now));
            let mut begun = 0;
            while let Some(permit) = circuit.try_acquire(&POLICY, bounds, UnixMillis(now)) {
                permit.finish(true, UnixMillis(now));
                begun += 1;
            }
            assert_eq!(quota.attempts, begun, "what was claimed may begin");
            (begun, quota.opens_at)
        };
        assert_eq!(begun_at(0), (2, None));
        assert_eq!(
            begun_at(49),
            (0, Some(UnixMillis(149))),
            "the loop comes again once a burst is earned"
        );
        assert_eq!(begun_at(50), (1, Some(UnixMillis(150))));
        assert_eq!(begun_at(150), (2, None));
        let in_a_second: usize = (150..1_150).map(|now| begun_at(now).0).sum();
        assert_eq!(in_a_second, 19);
    }

    #[tokio::test]
    async fn an_open_breaker_lets_one_probe_through_at_its_end() {
        let circuit = circuit();
        for _ in 0..2 {
            acquire(&circuit, 0).unwrap().finish(false, UnixMillis(0));
        }
        assert_eq!(quota(&circuit, 999), (0, Some(UnixMillis(1_000))));
        assert!(acquire(&circuit, 999).is_none());
        assert_eq!(quota(&circuit, 1_000), (1, None));
        let probe = acquire(&circuit, 1_000).unwrap();
        assert_eq!(quota(&circuit, 1_000), (0, None), "one probe at a time");
        assert!(acquire(&circuit, 1_000).is_none());
        // A probe that vanishes opens the breaker again instead of blocking it for ever.
        drop(probe);
        assert_eq!(quota(&circuit, 1_999), (0, Some(UnixMillis(2_000))));
        let probe = acquire(&circuit, 2_000).unwrap();
        assert!(!woke(&circuit).await);
        probe.finish(true, UnixMillis(2_000));
        assert!(woke(&circuit).await, "the whole circuit is free at once");
        assert_eq!(quota(&circuit, 2_000), (4, None));
    }
}
