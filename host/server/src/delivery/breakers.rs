//! Says in the log and the metrics which destinations get nothing for now, because their breaker is open. Nothing is decided by it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_core::ids::{DestinationName, TenantName};

/// What an attempt's end did to its destination's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// It was the failure that opened it.
    Opened,
    /// It was the first success after it was open.
    Closed,
}

/// The destinations whose breaker ever opened since the start.
#[derive(Debug, Default)]
pub(crate) struct Breakers(Mutex<BTreeMap<(TenantName, DestinationName), State>>);

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    opened_total: u64,
}

impl Breakers {
    /// Counts the transition, and logs it.
    pub(super) fn note(&self, tenant: &TenantName, destination: &DestinationName, transition: Transition) {
        let mut states = self.states();
        let state = states.entry((tenant.clone(), destination.clone())).or_default();
        match transition {
            Transition::Opened => {
                state.is_open = true;
                state.opened_total += 1;
                tracing::warn!(%tenant, %destination, "a breaker has opened: the destination failed too often in a row; its deliveries wait, and one is tried now and then");
            }
            Transition::Closed => {
                state.is_open = false;
                tracing::info!(%tenant, %destination, "a breaker has closed: the destination answers again");
            }
        }
    }

    /// The destination is no longer configured.
    pub(super) fn forget(&self, key: &(TenantName, DestinationName)) {
        self.states().remove(key);
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        let states = self.states();
        out.push_str(
            "# HELP tollgate_breaker_open Whether nothing is sent to a destination because it failed too often in a row.\n\
             # TYPE tollgate_breaker_open gauge\n",
        );
        for ((tenant, destination), state) in states.iter() {
            let labels = format!("tenant=\"{tenant}\",destination=\"{destination}\"");
            let _ = writeln!(out, "tollgate_breaker_open{{{labels}}} {}", u8::from(state.is_open));
        }
        out.push_str(
            "# HELP tollgate_breaker_opened_total How often that began since the start.\n\
             # TYPE tollgate_breaker_opened_total counter\n",
        );
        for ((tenant, destination), state) in states.iter() {
            let labels = format!("tenant=\"{tenant}\",destination=\"{destination}\"");
            let _ = writeln!(out, "tollgate_breaker_opened_total{{{labels}}} {}", state.opened_total);
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<(TenantName, DestinationName), State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
