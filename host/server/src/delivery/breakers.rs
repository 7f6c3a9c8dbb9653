//! Says in the log and the metrics which destinations get nothing for now, because their breaker is open. Nothing is decided by it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_core::ids::{DestinationName, TenantName};

use crate::telemetry::{Labels, Series};

/// What an attempt's end did to its destination's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// It was the failure that opened it.
    Opened,
    /// It was the first success after it was open.
    Closed,
}

/// The breakers of all destinations, as they are seen from outside.
#[derive(Debug)]
pub(crate) struct Breakers {
    open: Mutex<BTreeSet<(TenantName, DestinationName)>>,
    is_open: Series<Gauge>,
    opened: Series<Counter>,
}

impl Default for Breakers {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            is_open: Series::gauges(),
            opened: Series::counters(),
        }
    }
}

impl Breakers {
    /// Counts the transition, and logs it.
    pub(super) fn note(&self, tenant: &TenantName, destination: &DestinationName, transition: Transition) {
        let labels = Labels::destination(tenant, destination);
        let key = (tenant.clone(), destination.clone());
        match transition {
            Transition::Opened => {
                self.open().insert(key);
                self.is_open.of(&labels).set(1);
                self.opened.of(&labels).inc();
                tracing::warn!(%tenant, %destination, "a breaker has opened: the destination failed too often in a row; its deliveries wait, and one is tried now and then");
            }
            Transition::Closed => {
                self.open().remove(&key);
                self.is_open.of(&labels).set(0);
                tracing::info!(%tenant, %destination, "a breaker has closed: the destination answers again");
            }
        }
    }

    /// The destination is no longer configured.
    pub(super) fn forget(&self, key: &(TenantName, DestinationName)) {
        let labels = Labels::destination(&key.0, &key.1);
        self.open().remove(key);
        self.is_open.forget(&labels);
        self.opened.forget(&labels);
    }

    /// The destinations that get nothing for now.
    pub(crate) fn all_open(&self) -> Vec<(TenantName, DestinationName)> {
        self.open().iter().cloned().collect()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.is_open.register(
            registry,
            "breaker_open",
            "Whether nothing is sent to a destination because it failed too often in a row",
        );
        self.opened
            .register(registry, "breaker_opened", "How often that began since the start");
    }

    pub(super) fn begin_at_zero(&self, tenant: &TenantName, destination: &DestinationName) {
        let labels = Labels::destination(tenant, destination);
        self.is_open.of(&labels);
        self.opened.of(&labels);
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<(TenantName, DestinationName)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
