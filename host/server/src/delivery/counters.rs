//! What delivery counts and measures. Nothing is decided by it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tollgate_core::delivery::EntryEnd;
use tollgate_core::ids::{DestinationName, TenantName};

use super::Breakers;
use crate::config::Config;
use crate::telemetry::{Labels, Series};

/// What an attempt may come to.
const RESULTS: [&str; 3] = ["delivered", "retry", "dead"];

/// Attempts and breakers, by destination.
#[derive(Debug)]
pub(crate) struct DeliveryCounters {
    pub(crate) breakers: Breakers,
    attempts: Series<Counter>,
    durations: Series<Histogram>,
}

impl Default for DeliveryCounters {
    fn default() -> Self {
        Self {
            breakers: Breakers::default(),
            attempts: Series::counters(),
            durations: Series::durations(),
        }
    }
}

impl DeliveryCounters {
    /// Measures an attempt, from its start to the end of the answer.
    pub(super) fn attempted(&self, tenant: &TenantName, destination: &DestinationName, took: Duration) {
        self.durations
            .of(&Labels::destination(tenant, destination))
            .observe(took.as_secs_f64());
    }

    /// Counts what an attempt came to.
    pub(crate) fn count(&self, tenant: &TenantName, destination: &DestinationName, end: &EntryEnd) {
        let result = match end {
            EntryEnd::Delivered => RESULTS[0],
            EntryEnd::RetryAt { .. } => RESULTS[1],
            EntryEnd::Dead { .. } => RESULTS[2],
        };
        self.attempts
            .of(&Labels::destination(tenant, destination).with("result", result))
            .inc();
    }

    /// Lists delivery's metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.attempts.register(
            registry,
            "delivery_attempts",
            "Attempts to deliver, by tenant, destination and what they came to: delivered, retry or dead",
        );
        self.durations.register(
            registry,
            "delivery_duration_seconds",
            "Attempts to deliver, from their start to the end of the answer",
        );
        self.breakers.register(registry);
    }

    /// Has each destination's series there, with a zero where nothing happened yet.
    pub(crate) fn begin_at_zero(&self, config: &Config) {
        for (name, tenant) in &config.tenants {
            for destination in tenant.destinations.keys() {
                let labels = || Labels::destination(name, destination);
                for result in RESULTS {
                    self.attempts.of(&labels().with("result", result));
                }
                self.durations.of(&labels());
                self.breakers.begin_at_zero(name, destination);
            }
        }
    }
}
