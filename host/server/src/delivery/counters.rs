//! What delivery counts and measures. Nothing is decided by it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::ids::{DestinationName, TenantName};

use super::Breakers;
use crate::config::Config;
use crate::telemetry::{Labels, Series};

/// What an attempt may come to.
const RESULTS: [&str; 3] = ["delivered", "retry", "dead"];
/// What it may be answered: the class of the status, or nothing that has one.
const ANSWERS: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

fn class(end: &AttemptEnd) -> &'static str {
    let status = match end {
        AttemptEnd::Answered { http_status, .. } => *http_status,
        AttemptEnd::Mailed { smtp_status, .. } => *smtp_status,
        _ => 0,
    };
    let [ok, redirected, refused, failed, none] = ANSWERS;
    match status / 100 {
        2 => ok,
        3 => redirected,
        4 => refused,
        5 => failed,
        _ => none,
    }
}

/// Attempts and breakers, by destination.
#[derive(Debug)]
pub(crate) struct DeliveryCounters {
    pub(crate) breakers: Breakers,
    attempts: Series<Counter>,
    answers: Series<Counter>,
    durations: Series<Histogram>,
}

impl Default for DeliveryCounters {
    fn default() -> Self {
        Self {
            breakers: Breakers::default(),
            attempts: Series::counters(),
            answers: Series::counters(),
            durations: Series::durations(),
        }
    }
}

impl DeliveryCounters {
    /// Measures an attempt, from its start to the end of the answer, and counts the answer.
    pub(super) fn attempted(
        &self,
        tenant: &TenantName,
        destination: &DestinationName,
        took: Duration,
        end: &AttemptEnd,
    ) {
        let labels = || Labels::destination(tenant, destination);
        self.durations.of(&labels()).observe(took.as_secs_f64());
        self.answers.of(&labels().with("answer", class(end))).inc();
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
        self.answers.register(
            registry,
            "delivery_answers",
            "Attempts to deliver, by tenant, destination and what the answer's status was: 2xx, 3xx, 4xx, 5xx, or none",
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
                for answer in ANSWERS {
                    self.answers.of(&labels().with("answer", answer));
                }
                self.durations.of(&labels());
                self.breakers.begin_at_zero(name, destination);
            }
        }
    }
}
