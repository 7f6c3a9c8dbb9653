//! Work: claims what is due, runs plugins, settles what they proposed, delivers what was recorded.
//!
//! Whoever wakes it, an admission or the timer, has it take this one path and read the store again. While one holds leases of jobs,
//! others leave: it looks again when it has settled them. Only the newest lease may commit.

use futures::future::join_all;
use tollgate_core::forward::{self, ForwardForm};
use tollgate_core::ids::{DestinationName, Digest, PluginName};
use tollgate_core::limits;
use tollgate_core::outcome::{Fault, JobEnd, Outcome, job_end, judged};
use tollgate_core::retry::RetryPolicy;
use tollgate_store::{ClaimRequest, GuestStore, JobClaim, RunRecord, Settled, Settlement, StoreError, Targets};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::{log, tenants};
use tollgate_tenants::Route;

use crate::delivery;
use crate::plugin::{self, Run};

/// Who ran it, for the person who reads a run.
const RUNTIME: &str = concat!("tollgate-spin ", env!("CARGO_PKG_VERSION"));
/// Jobs leased at once; their plugins are called side by side.
const JOBS_AT_ONCE: usize = 16;
/// How often a write is tried that finds the database busy; all of it within the lease.
const BUSY_TRIES_MAX: usize = 5;
/// How often a run is repeated at once because another run changed the state that it had read.
const STALE_RERUNS_MAX: u32 = 8;

/// What was done in one go.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) jobs: usize,
    pub(crate) deliveries: usize,
}

/// Works until nothing is due, or `ms_max` milliseconds are over.
pub(crate) async fn work(store: &GuestStore, ms_max: u64) -> Done {
    let watch = Stopwatch::start();
    let mut done = Done::default();
    while !watch.is_over(ms_max) {
        let worked = async {
            let jobs = run_due(store).await?;
            let deliveries = delivery::deliver_due(store).await?;
            Ok::<_, StoreError>(Done { jobs, deliveries })
        };
        match worked.await {
            Ok(Done { jobs: 0, deliveries: 0 }) => break,
            Ok(round) => {
                done.jobs += round.jobs;
                done.deliveries += round.deliveries;
            }
            // Nothing is in hand, but what is due may have nobody else.
            Err(StoreError::Busy) => {}
            Err(error) => {
                log(&format!("work stopped: {error}"));
                break;
            }
        }
    }
    done
}

pub(crate) fn claim_request(lease_ms: i64, rows_max: usize) -> ClaimRequest {
    ClaimRequest {
        worker: "spin".to_owned(),
        now: clock::now(),
        lease_ms,
        rows_max,
        passed_over: Vec::new(),
    }
}

/// Tries again what found the database busy: what was claimed is in hand, and would wait for its lease to run out. Each try waits
/// for the lock itself.
///
/// # Errors
/// As `write`; [`StoreError::Busy`] after the last try.
pub(crate) fn patiently<T>(write: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 1..BUSY_TRIES_MAX {
        match write() {
            Err(StoreError::Busy) => {}
            ended => return ended,
        }
    }
    write()
}

/// Claims what is due, runs it side by side, and settles it in one transaction. What read state that another run changed before it
/// was settled is run again, one by one: then nothing comes between.
async fn run_due(store: &GuestStore) -> Result<usize, StoreError> {
    // Looking takes no lock.
    if store.next_due()?.job.is_none_or(|due| due > clock::now()) {
        return Ok(0);
    }
    let claims = store.claim_jobs(&claim_request(limits::JOB_LEASE_MS, JOBS_AT_ONCE))?;
    let settlements = join_all(claims.iter().map(|claim| execute(store, claim)))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    if settlements.is_empty() {
        return Ok(0);
    }
    let settled = patiently(|| store.settle_all(&settlements))?;
    for (claim, settled) in claims.iter().zip(settled) {
        if needs_another_run(claim, &settled) {
            run_again(store, claim).await?;
        }
    }
    Ok(claims.len())
}

/// Whether a settlement was not committed and its lease still holds.
fn needs_another_run(claim: &JobClaim, settled: &Settled) -> bool {
    match settled {
        Settled::Committed { .. } => false,
        Settled::LeaseLost => {
            log(&format!(
                "{}: another invocation took it over; this run was not committed",
                claim.job
            ));
            false
        }
        // The app sets no bound on state.
        Settled::StaleState | Settled::OverQuota { .. } => true,
    }
}

/// Runs a job again under its lease, until its state keeps still.
async fn run_again(store: &GuestStore, claim: &JobClaim) -> Result<(), StoreError> {
    for rerun in 0.. {
        let mut settlement = [execute(store, claim).await?];
        if rerun >= STALE_RERUNS_MAX {
            let message = format!("its state kept changing under it ({STALE_RERUNS_MAX} times)");
            settlement = [unrunnable(claim, None, &message)];
        }
        let settled = patiently(|| store.settle_all(&settlement))?;
        if !settled.iter().any(|settled| needs_another_run(claim, settled)) {
            break;
        }
    }
    Ok(())
}

/// One run: from claim to what is to be settled.
async fn execute(store: &GuestStore, claim: &JobClaim) -> Result<Settlement, StoreError> {
    let tenant = match tenants::work(&claim.event.tenant) {
        Ok(tenant) => tenant,
        Err(problem) => return Ok(unrunnable(claim, None, &problem)),
    };
    let found = tenant.and_then(|tenant| {
        let route = tenant.routes.into_iter().find(|route| route.name == claim.route)?;
        Some((route, tenant.renamed))
    });
    let Some((route, renamed)) = found else {
        let why = "the route is no longer configured; restore it, or replay after rerouting";
        return Ok(unrunnable(claim, None, why));
    };
    if RetryPolicy::JOBS.is_spent(claim.attempt) {
        let why = "no attempt came to its end: the invocation ended in each of them";
        return Ok(unrunnable(claim, Some(&route), why));
    }
    if let Some(form) = route.forward {
        return Ok(forwarded(claim, route, form, renamed));
    }
    let started_at = clock::now();
    let watch = Stopwatch::start();
    let run = plugin::run(store, &route, &claim.event).await?;
    let duration_us = watch.micros();
    let Run {
        outcome,
        digest,
        fuel,
        reads,
        writes,
        logs,
    } = run;
    let (outcome, actions) = judged(outcome, &route.grants);
    let end = match &outcome {
        // What does not answer may still compute, and nobody can stop it: another attempt would hold a second thread.
        Outcome::Fault {
            fault: fault @ Fault::Deadline,
            message,
        } => JobEnd::Dead {
            reason: format!("{fault}: {message}"),
        },
        outcome => job_end(
            outcome,
            &RetryPolicy::JOBS,
            claim.attempt,
            clock::now(),
            clock::jitter(),
        ),
    };
    let done = end == JobEnd::Done;
    Ok(Settlement {
        job: claim.job,
        epoch: claim.epoch,
        run: RunRecord {
            plugin: route.plugin,
            digest: digest.unwrap_or(Digest([0; 32])),
            config_digest: route.config_digest,
            config: route.config_json,
            runtime: RUNTIME.to_owned(),
            started_at,
            duration_us,
            fuel,
            outcome: outcome.name().to_owned(),
            message: outcome.message().to_owned(),
            reads,
            logs,
        },
        end,
        writes: if done { writes } else { Vec::new() },
        state_total_max: None,
        actions,
        namespace: route.namespace,
        targets: Targets {
            destinations: route.destinations,
            renamed,
        },
    })
}

/// A job of a route without a plugin: the event itself goes to the route's destinations.
fn forwarded(
    claim: &JobClaim,
    route: Route,
    form: ForwardForm,
    renamed: Vec<(DestinationName, DestinationName)>,
) -> Settlement {
    let said = (forward::OUTCOME, "");
    let run = RunRecord::without_a_plugin(route.plugin, &route.config_json, RUNTIME, clock::now(), said);
    Settlement {
        actions: vec![forward::action(claim.receipt, form)],
        namespace: route.namespace,
        targets: Targets {
            destinations: route.destinations,
            renamed,
        },
        ..Settlement::ending(claim, run, JobEnd::Done)
    }
}

/// A job that cannot be run as the app is configured: a host fault, retried as such.
fn unrunnable(claim: &JobClaim, route: Option<&Route>, why: &str) -> Settlement {
    let outcome = Outcome::Fault {
        fault: Fault::HostFault,
        message: why.to_owned(),
    };
    let nobody = || PluginName::new("unknown").expect("a constant name");
    let plugin = route.map_or_else(nobody, |route| route.plugin.clone());
    let config = route.map_or("", |route| &route.config_json);
    let said = (outcome.name(), outcome.message());
    let run = RunRecord::without_a_plugin(plugin, config, RUNTIME, clock::now(), said);
    let end = job_end(
        &outcome,
        &RetryPolicy::JOBS,
        claim.attempt,
        clock::now(),
        clock::jitter(),
    );
    Settlement::ending(claim, run, end)
}
