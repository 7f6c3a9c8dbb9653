//! A lane per destination: its client with the open connections, its breaker, and how many attempts it may have under way. Kept
//! in memory only: a restart begins with trust.
//!
//! What does not fit waits in the store, due as it is, and is not claimed until the lane has room: a destination that is down for
//! a day costs a probe now and then, whatever its backlog, and works the backlog off from the moment it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tollgate_core::breaker::{Breaker, BreakerPolicy, Permission};
use tollgate_core::time::UnixMillis;

use super::breakers::Turn;
use super::client::Client;
use crate::config::OutboundRules;

/// Of a full lane's attempts this share must have ended before the lane asks for more: a claim is a commit.
const REFILL_SHARE: usize = 4;

/// One destination's traffic.
#[derive(Debug)]
pub(super) struct Lane {
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
    /// The loop was told of a smaller quota than it may have had work for.
    was_short: bool,
    client: Arc<Client>,
}

/// How many attempts a lane would let begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) attempts: usize,
    /// When there is none: when a breaker lets the next probe through. Else a finished attempt makes room.
    pub(super) opens_at: Option<UnixMillis>,
}

/// The right to make one attempt. Dropped without [`Ticket::finish`], it counts as a failure: the breaker waits for a report.
pub(super) struct Ticket {
    lane: Arc<Lane>,
    client: Arc<Client>,
    started_at: UnixMillis,
    reported: bool,
}

impl Lane {
    pub(super) fn new(rules: &OutboundRules, freed: Arc<Notify>) -> Self {
        Self {
            state: Mutex::new(State {
                breaker: Breaker::new(),
                policy: BreakerPolicy::DELIVERIES,
                in_flight: 0,
                in_flight_max: 1,
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
    pub(super) fn quota(&self, in_flight_max: usize, now: UnixMillis) -> Quota {
        let mut state = self.state();
        state.in_flight_max = in_flight_max.max(1);
        let free = state.in_flight_max.saturating_sub(state.in_flight);
        let (attempts, opens_at) = match state.breaker {
            Breaker::Closed { .. } => (free, None),
            Breaker::Open { until } if now >= until => (free.min(1), None),
            Breaker::Open { until } => (0, Some(until)),
            Breaker::Probing => (0, None),
        };
        state.was_short = attempts < state.in_flight_max;
        Quota { attempts, opens_at }
    }

    /// Asks for one more attempt.
    pub(super) fn pass(
        self: &Arc<Self>,
        policy: &BreakerPolicy,
        in_flight_max: usize,
        now: UnixMillis,
    ) -> Option<Ticket> {
        let mut state = self.state();
        state.policy = *policy;
        state.in_flight_max = in_flight_max.max(1);
        if state.in_flight >= state.in_flight_max {
            state.was_short = true;
            return None;
        }
        match state.breaker.permit(policy, now) {
            Permission::Send => {
                state.in_flight += 1;
                // What fills the lane may have left more behind.
                state.was_short |= state.in_flight == state.in_flight_max;
                Some(Ticket {
                    lane: Arc::clone(self),
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

impl Ticket {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Reports how the attempt ended. What that did to the breaker, if anything.
    pub(super) fn finish(mut self, healthy: bool, now: UnixMillis) -> Option<Turn> {
        self.reported = true;
        let mut state = self.lane.state();
        let State { breaker, policy, .. } = &mut *state;
        let was_open = breaker.is_open();
        breaker.finished(policy, healthy, now);
        match (was_open, breaker.is_open()) {
            (false, true) => Some(Turn::Opened),
            (true, false) => Some(Turn::Closed),
            (false, false) | (true, true) => None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if !self.reported {
            let State { breaker, policy, .. } = &mut *state;
            breaker.finished(policy, false, self.started_at);
        }
        let enough = state.in_flight <= state.in_flight_max - state.in_flight_max.div_ceil(REFILL_SHARE);
        if state.was_short && enough && !state.breaker.is_open() {
            state.was_short = false;
            self.lane.freed.notify_one();
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

    fn lane() -> Arc<Lane> {
        Arc::new(Lane::new(&OutboundRules::default(), Arc::default()))
    }

    fn pass(lane: &Arc<Lane>, now: i64) -> Option<Ticket> {
        lane.pass(&POLICY, 4, UnixMillis(now))
    }

    fn quota(lane: &Arc<Lane>, now: i64) -> (usize, Option<UnixMillis>) {
        let quota = lane.quota(4, UnixMillis(now));
        (quota.attempts, quota.opens_at)
    }

    async fn woke(lane: &Arc<Lane>) -> bool {
        let wait = std::time::Duration::from_millis(20);
        tokio::time::timeout(wait, lane.freed.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn a_full_lane_has_no_room_and_says_when_it_has_again() {
        let lane = lane();
        assert_eq!(quota(&lane, 0), (4, None));
        let mut tickets: Vec<_> = (0..4).map(|_| pass(&lane, 0).unwrap()).collect();
        assert!(pass(&lane, 0).is_none());
        assert_eq!(quota(&lane, 0), (0, None));
        tickets.remove(0).finish(true, UnixMillis(10));
        assert!(woke(&lane).await);
        assert_eq!(quota(&lane, 10), (1, None));
        // It was told of the quota, and then of a larger one: nobody waits for each single end.
        tickets.remove(0).finish(true, UnixMillis(10));
        assert!(woke(&lane).await);
        tickets.remove(0).finish(true, UnixMillis(10));
        assert!(!woke(&lane).await);
    }

    #[tokio::test]
    async fn an_open_breaker_has_room_for_one_probe_at_its_end() {
        let lane = lane();
        for _ in 0..2 {
            pass(&lane, 0).unwrap().finish(false, UnixMillis(0));
        }
        assert_eq!(quota(&lane, 999), (0, Some(UnixMillis(1_000))));
        assert!(pass(&lane, 999).is_none());
        assert_eq!(quota(&lane, 1_000), (1, None));
        let probe = pass(&lane, 1_000).unwrap();
        assert_eq!(quota(&lane, 1_000), (0, None), "one probe at a time");
        assert!(pass(&lane, 1_000).is_none());
        // A probe that vanishes opens the breaker again instead of blocking it for ever.
        drop(probe);
        assert_eq!(quota(&lane, 1_999), (0, Some(UnixMillis(2_000))));
        let probe = pass(&lane, 2_000).unwrap();
        assert!(!woke(&lane).await);
        probe.finish(true, UnixMillis(2_000));
        assert!(woke(&lane).await, "the whole lane is free at once");
        assert_eq!(quota(&lane, 2_000), (4, None));
    }
}
