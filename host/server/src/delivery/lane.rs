//! A lane per destination: its client with the open connections, its breaker, and how many attempts it may have under way. Kept
//! in memory only: a restart begins with trust.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_core::breaker::{Breaker, BreakerPolicy, Permission};
use tollgate_core::time::UnixMillis;

use super::client::Client;
use crate::config::OutboundRules;

/// The shortest time that an entry waits for a full lane.
const WAIT_MS_MIN: i64 = 50;
/// The longest time that a full lane books ahead. What still does not fit then is booked again.
const WAIT_MS_MAX: i64 = 120_000;
/// What an attempt is taken to last before one was seen.
const ATTEMPT_MS_GUESS: i64 = 100;

/// One destination's traffic.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    policy: BreakerPolicy,
    in_flight: usize,
    in_flight_max: usize,
    /// A moving mean.
    attempt_ms: i64,
    /// When an entry that has to wait will probably find room.
    next_room: UnixMillis,
    client: Arc<Client>,
}

/// What a lane says to one more attempt.
pub(super) enum Pass {
    Go(Ticket),
    /// Not now: [`Lane::book`] says when.
    Wait,
}

/// The right to make one attempt. Dropped without [`Ticket::finish`], it counts as a failure: the breaker waits for a report.
pub(super) struct Ticket {
    lane: Arc<Lane>,
    client: Arc<Client>,
    started_at: UnixMillis,
    reported: bool,
}

impl Lane {
    pub(super) fn new(rules: &OutboundRules) -> Self {
        Self {
            state: Mutex::new(State {
                breaker: Breaker::new(),
                policy: BreakerPolicy::DELIVERIES,
                in_flight: 0,
                in_flight_max: 1,
                attempt_ms: ATTEMPT_MS_GUESS,
                next_room: UnixMillis(0),
                client: Arc::new(Client::new(rules)),
            }),
        }
    }

    /// Takes a new client when the rules for connections have changed: a connection that is still open was judged by the old ones.
    pub(super) fn adopt(&self, rules: &OutboundRules) {
        let mut state = self.state();
        if !state.client.obeys(rules) {
            state.client = Arc::new(Client::new(rules));
        }
    }

    /// Asks for one more attempt.
    pub(super) fn pass(self: &Arc<Self>, policy: &BreakerPolicy, in_flight_max: usize, now: UnixMillis) -> Pass {
        let mut state = self.state();
        state.policy = *policy;
        state.in_flight_max = in_flight_max.max(1);
        if state.in_flight >= state.in_flight_max {
            return Pass::Wait;
        }
        match state.breaker.permit(policy, now) {
            Permission::Send => {
                state.in_flight += 1;
                Pass::Go(Ticket {
                    lane: Arc::clone(self),
                    client: Arc::clone(&state.client),
                    started_at: now,
                    reported: false,
                })
            }
            Permission::WaitUntil(until) => {
                state.next_room = state.next_room.max(until);
                Pass::Wait
            }
        }
    }

    /// When `entries` that were told to wait shall be due again. They are spread over the time that the lane will probably need
    /// for those before them, so that one destination's backlog does not come back to the loop again and again.
    pub(super) fn book(&self, entries: usize, now: UnixMillis) -> UnixMillis {
        let mut state = self.state();
        let at = state.next_room.max(now.plus_ms(WAIT_MS_MIN));
        let room_ms = i64::try_from(entries)
            .unwrap_or(i64::MAX)
            .saturating_mul(state.attempt_ms)
            / i64::try_from(state.in_flight_max).unwrap_or(1).max(1);
        state.next_room = at.plus_ms(room_ms).min(now.plus_ms(WAIT_MS_MAX));
        at
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Reports how the attempt ended.
    pub(super) fn finish(mut self, healthy: bool, took: Duration, now: UnixMillis) {
        self.reported = true;
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX / 16);
        let mut state = self.lane.state();
        let State { breaker, policy, .. } = &mut *state;
        breaker.finished(policy, healthy, now);
        state.attempt_ms = (state.attempt_ms.saturating_mul(7).saturating_add(took_ms) / 8).max(1);
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
        if state.in_flight == 0 && !state.breaker.is_open() {
            // What was booked ahead has been worked off sooner than thought.
            state.next_room = UnixMillis(0);
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

    fn pass(lane: &Arc<Lane>, now: i64) -> Option<Ticket> {
        match lane.pass(&POLICY, 2, UnixMillis(now)) {
            Pass::Go(ticket) => Some(ticket),
            Pass::Wait => None,
        }
    }

    #[test]
    fn a_full_lane_makes_entries_wait_and_spreads_them() {
        let lane = Arc::new(Lane::new(&OutboundRules::default()));
        let (first, second) = (pass(&lane, 0).unwrap(), pass(&lane, 0).unwrap());
        assert!(pass(&lane, 0).is_none());
        assert_eq!(lane.book(10, UnixMillis(0)), UnixMillis(50), "the first batch at once");
        assert_eq!(
            lane.book(10, UnixMillis(0)),
            UnixMillis(550),
            "the next after 10 attempts of 100 ms, two at a time"
        );
        assert_eq!(lane.book(1_000_000, UnixMillis(0)), UnixMillis(1_050));
        assert_eq!(lane.book(1, UnixMillis(0)), UnixMillis(120_000), "bounded");
        first.finish(true, Duration::ZERO, UnixMillis(10));
        drop(pass(&lane, 10).unwrap());
        assert_eq!(lane.book(1, UnixMillis(20)), UnixMillis(120_000), "still busy");
        second.finish(true, Duration::ZERO, UnixMillis(30));
        assert_eq!(
            lane.book(1, UnixMillis(30)),
            UnixMillis(80),
            "an idle lane has nothing booked"
        );
    }

    #[test]
    fn an_open_breaker_books_its_own_end_and_lets_one_probe_through() {
        let lane = Arc::new(Lane::new(&OutboundRules::default()));
        for _ in 0..2 {
            pass(&lane, 0).unwrap().finish(false, Duration::ZERO, UnixMillis(0));
        }
        assert!(pass(&lane, 999).is_none());
        assert_eq!(
            lane.book(1, UnixMillis(999)),
            UnixMillis(1_049),
            "never sooner than the shortest wait"
        );
        let probe = pass(&lane, 1_000).unwrap();
        assert!(pass(&lane, 1_000).is_none(), "one probe at a time");
        // A probe that vanishes opens the breaker again instead of blocking it for ever.
        drop(probe);
        assert!(pass(&lane, 1_999).is_none());
        let probe = pass(&lane, 2_000).unwrap();
        probe.finish(true, Duration::ZERO, UnixMillis(2_000));
        assert!(pass(&lane, 2_000).is_some());
    }
}
