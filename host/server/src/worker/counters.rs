//! What the worker counts and measures, and what of it is logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tollgate_core::ids::{RouteName, RunId, TenantName};
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, JobEnd};
use tollgate_core::time::UnixMillis;
use tollgate_store::JobClaim;

use super::shadow::ShadowCounters;
use crate::clock;
use crate::config::Config;
use crate::telemetry::{Labels, Series, Tally, duration};

/// How a settlement may end its job; see [`end`].
const ENDS: [&str; 4] = ["done", "retry", "dead", "held"];

/// The word for a job's end, of [`ENDS`].
pub(super) fn end(end: &JobEnd) -> &'static str {
    match end {
        JobEnd::Done => "done",
        JobEnd::RetryAt { .. } => "retry",
        JobEnd::Dead { .. } => "dead",
        JobEnd::Held { .. } => "held",
    }
}

/// What the worker counts and measures. Nothing is decided by it.
pub(crate) struct WorkerCounters {
    pub(crate) shadow: Arc<ShadowCounters>,
    /// From the moment that a job was due to its lease.
    claim_wait: Histogram,
    runs: Series<Histogram>,
    /// From the store being asked to the commit.
    pub(super) settle: Histogram,
    settled: Series<Counter>,
    faults: Series<Counter>,
    held: Series<Counter>,
    conflicts: Series<Counter>,
    violations: Series<Counter>,
    faults_said: Mutex<BTreeMap<(TenantName, RouteName, Fault), Tally>>,
    held_said: Mutex<BTreeMap<(TenantName, RouteName), Tally>>,
    conflicts_said: Mutex<BTreeMap<(TenantName, RouteName), Tally>>,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            shadow: Arc::default(),
            claim_wait: duration(),
            runs: Series::durations(),
            settle: duration(),
            settled: Series::counters(),
            faults: Series::counters(),
            held: Series::counters(),
            conflicts: Series::counters(),
            violations: Series::counters(),
            faults_said: Mutex::default(),
            held_said: Mutex::default(),
            conflicts_said: Mutex::default(),
        }
    }
}

impl WorkerCounters {
    /// Measures how long these jobs were due.
    pub(super) fn claimed(&self, claims: &[JobClaim], now: UnixMillis) {
        for claim in claims {
            let waited_ms = now.since(claim.due_at).max(0);
            self.claim_wait.observe(waited_ms as f64 / 1000.0);
        }
    }

    /// Measures a run, whatever became of it.
    pub(super) fn ran(&self, tenant: &TenantName, route: &RouteName, took: Duration) {
        self.runs.of(&Labels::route(tenant, route)).observe(took.as_secs_f64());
    }

    /// Counts a settled job under [`end`].
    pub(super) fn count_end(&self, tenant: &TenantName, route: &RouteName, end: &'static str) {
        self.settled.of(&Labels::route(tenant, route).with("end", end)).inc();
    }

    /// Counts a run whose proposals broke a rule of the route's grants or of the host.
    pub(super) fn count_violation(&self, tenant: &TenantName, rule: &'static str) {
        self.violations.of(&Labels::tenant(tenant).with("rule", rule)).inc();
    }

    /// Counts a run that failed. When it is to be logged: how many of the same were left out before it.
    pub(super) fn count_fault(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        fault: Fault,
        now: UnixMillis,
    ) -> Option<u64> {
        self.faults
            .of(&Labels::route(tenant, route).with("fault", fault.as_str()))
            .inc();
        let mut said = self.faults_said.lock().unwrap_or_else(PoisonError::into_inner);
        said.entry((tenant.clone(), route.clone(), fault))
            .or_default()
            .count(now)
    }

    /// Counts a job that its plugin held, and says so: nothing more happens with it before somebody decides.
    pub(super) fn note_held(&self, claim: &JobClaim, run: RunId, reason: &str) {
        let (tenant, route) = (&claim.event.tenant, &claim.route);
        self.held.of(&Labels::route(tenant, route)).inc();
        if let Some(left_out) = count(&self.held_said, tenant, route) {
            let reason = mask::line(reason, 300);
            say_of_job!(warn, claim, %run, reason, left_out, "a plugin held a job: it waits for review (`tollgate review --kind held-job`)");
        }
    }

    /// Counts a run that proposed what conflicts with the ledger, and says so: that has no effect before somebody decides.
    pub(super) fn note_conflict(&self, claim: &JobClaim, run: RunId) {
        let (tenant, route) = (&claim.event.tenant, &claim.route);
        self.conflicts.of(&Labels::route(tenant, route)).inc();
        if let Some(left_out) = count(&self.conflicts_said, tenant, route) {
            say_of_job!(warn, claim, %run, left_out, "a proposal conflicts with the ledger: its operation is recorded with other content, and it waits for review (`tollgate \
                 review --kind ledger-conflict`)");
        }
    }

    /// Lists the worker's metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "claim_wait_seconds",
            "From the moment that a job was due to its lease",
            self.claim_wait.clone(),
        );
        self.runs.register(
            registry,
            "run_duration_seconds",
            "Runs of plugins, by tenant and route; their count is the number of runs",
        );
        registry.register(
            "settle_duration_seconds",
            "From the store being asked to settle a job to its commit",
            self.settle.clone(),
        );
        self.settled.register(
            registry,
            "jobs_settled",
            "Jobs whose run was settled, by tenant, route and what followed: done, retry, dead or held",
        );
        self.faults.register(
            registry,
            "run_faults",
            "Runs of plugins that failed, by tenant, route and fault",
        );
        self.held
            .register(registry, "jobs_held", "Jobs that their plugins held, by route");
        self.conflicts.register(
            registry,
            "ledger_conflicts",
            "Runs that proposed what conflicts with the ledger, by route",
        );
        self.violations.register(
            registry,
            "proposals_refused",
            "Runs whose proposals broke a rule, by tenant and rule",
        );
        self.shadow.register(registry);
    }

    /// Has each route's series there, with a zero where nothing happened yet.
    pub(crate) fn begin_at_zero(&self, config: &Config) {
        for (name, tenant) in &config.tenants {
            for route in &tenant.routes {
                let labels = || Labels::route(name, &route.name);
                for end in ENDS {
                    self.settled.of(&labels().with("end", end));
                }
                for fault in Fault::ALL {
                    self.faults.of(&labels().with("fault", fault.as_str()));
                }
                self.runs.of(&labels());
                self.held.of(&labels());
                self.conflicts.of(&labels());
            }
        }
    }
}

fn count(
    said: &Mutex<BTreeMap<(TenantName, RouteName), Tally>>,
    tenant: &TenantName,
    route: &RouteName,
) -> Option<u64> {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.entry((tenant.clone(), route.clone()))
        .or_default()
        .count(clock::now())
}
