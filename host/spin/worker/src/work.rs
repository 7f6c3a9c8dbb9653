//! Work: claims what is due, runs plugins, settles what they proposed, delivers what was recorded.
//!
//! Whoever wakes it, an admission or the timer, has it take this one path and read the store again. While one holds leases of jobs,
//! others leave: it looks again when it has settled them. Only the newest lease may commit.

use std::pin::pin;
use std::slice::from_ref;

use futures::future::join_all;
use tollgate_core::forward::{self, ForwardForm};
use tollgate_core::ids::{DestinationName, Digest, PluginName};
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, JobEnd, Outcome, job_end_unstopped, judged};
use tollgate_core::quarantine;
use tollgate_core::retry::RetryPolicy;
use tollgate_store::{
    ClaimRequest, GuestStore, JobClaim, Quarantine, RunEnd, RunRecord, Settled, Settlement, StoreError, Targets,
};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::{log, tenants};
use tollgate_tenants::Route;

use crate::delivery;
use crate::plugin::{self, Run};

/// Who ran it, for the person who reads a run.
const RUNTIME: &str = concat!("tollgate-spin ", env!("CARGO_PKG_VERSION"));
/// The digest of a run whose plugin's component said none.
const UNKNOWN: Digest = Digest([0; 32]);
/// Jobs leased at once; their plugins are called side by side.
const JOBS_AT_ONCE: usize = 16;
/// How long a lease of jobs lasts, in milliseconds. Nobody else works meanwhile, also when its holder was killed: so it is short, and
/// who lives renews it.
const LEASE_MS: i64 = 10_000;
/// How often it is renewed, in milliseconds.
const LEASE_RENEWED_MS: u64 = 3_000;
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
    let claims = store.claim_jobs(&claim_request(LEASE_MS, JOBS_AT_ONCE))?;
    if claims.is_empty() {
        return Ok(0);
    }
    let held = store.quarantines()?;
    let runs = join_all(claims.iter().map(|claim| execute(store, &held, claim)));
    let settlements = under_lease(store, &claims, runs)
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let settled = settle(store, &claims, settlements)?;
    for (claim, settled) in claims.iter().zip(settled) {
        if needs_another_run(claim, &settled) {
            run_again(store, &held, &claims, claim).await?;
        }
    }
    Ok(claims.len())
}

/// What `work` gives. Meanwhile the leases are renewed: others may work as soon as they are not.
async fn under_lease<T>(store: &GuestStore, claims: &[JobClaim], work: impl Future<Output = T>) -> T {
    let leases: Vec<_> = claims.iter().map(|claim| (claim.job, claim.epoch)).collect();
    let mut work = pin!(work);
    loop {
        if let Some(done) = clock::within(LEASE_RENEWED_MS, work.as_mut()).await {
            return done;
        }
        match store.extend_leases(&leases, clock::now().plus_ms(LEASE_MS)) {
            // There is time for another try.
            Ok(()) | Err(StoreError::Busy) => {}
            Err(error) => log(&format!("leases were not renewed: {error}")),
        }
    }
}

/// Commits runs, and says what went into quarantine because of them.
fn settle(store: &GuestStore, claims: &[JobClaim], settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
    let finished: Vec<_> = claims
        .iter()
        .zip(settlements)
        .map(|(claim, settlement)| {
            // Which version it was is not known of a component that did not even begin to answer.
            let end = RunEnd::of(claim, &settlement, clock::now()).filter(|end| end.digest != UNKNOWN);
            (settlement, end)
        })
        .collect();
    let (settled, begun) = patiently(|| store.settle_all(&finished, quarantine::FAULTS_MAX))?;
    for one in begun {
        log(&format!(
            "a plugin is in quarantine; its jobs go to the dead-letter queue until another version is in its place or it is lifted: \
             tenant={} route={} plugin={} digest={} faults={} reason={}",
            one.tenant,
            one.route,
            one.plugin,
            one.digest,
            one.faults,
            mask::line(&one.reason, 300)
        ));
    }
    Ok(settled)
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

/// Runs one of the claimed jobs again under its lease, until its state keeps still.
async fn run_again(
    store: &GuestStore,
    held: &[Quarantine],
    claims: &[JobClaim],
    claim: &JobClaim,
) -> Result<(), StoreError> {
    for rerun in 0.. {
        let settlement = if rerun < STALE_RERUNS_MAX {
            under_lease(store, claims, execute(store, held, claim)).await?
        } else {
            let message = format!("its state kept changing under it ({STALE_RERUNS_MAX} times)");
            unrunnable(claim, None, &message)
        };
        let settled = settle(store, from_ref(claim), vec![settlement])?;
        if !settled.iter().any(|settled| needs_another_run(claim, settled)) {
            break;
        }
    }
    Ok(())
}

/// One run: from claim to what is to be settled.
async fn execute(store: &GuestStore, held: &[Quarantine], claim: &JobClaim) -> Result<Settlement, StoreError> {
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
    if let Some(quarantine) = in_quarantine(held, claim, &route).await {
        return Ok(quarantined(claim, &route, quarantine));
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
    let end = job_end_unstopped(
        &outcome,
        &RetryPolicy::JOBS,
        claim.attempt,
        clock::now(),
        clock::jitter(),
    );
    let done = end == JobEnd::Done;
    Ok(Settlement {
        job: claim.job,
        epoch: claim.epoch,
        run: RunRecord {
            plugin: route.plugin,
            digest: digest.unwrap_or(UNKNOWN),
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

/// The quarantine that a route's plugin is in. Which version that is, its component says.
async fn in_quarantine<'h>(held: &'h [Quarantine], claim: &JobClaim, route: &Route) -> Option<&'h Quarantine> {
    let of_route: Vec<_> = held
        .iter()
        .filter(|one| one.tenant == claim.event.tenant && one.route == claim.route)
        .collect();
    if of_route.is_empty() {
        return None;
    }
    let digest = plugin::digest(route).await?;
    of_route.into_iter().find(|one| one.digest == digest)
}

/// A job whose plugin is in quarantine: given up without a run, and back with a replay when the plugin is mended.
fn quarantined(claim: &JobClaim, route: &Route, quarantine: &Quarantine) -> Settlement {
    let mend = format!(
        "put another version in its place, or lift it with `tollgate plugin lift --spin URL --tenant {} {} --why TEXT`",
        quarantine.tenant, quarantine.route
    );
    let why = quarantine.why_dead(&mend);
    let said = (quarantine::OUTCOME, why.as_str());
    let plugin = route.plugin.clone();
    let run = RunRecord {
        digest: quarantine.digest,
        ..RunRecord::without_a_plugin(plugin, &route.config_json, RUNTIME, clock::now(), said)
    };
    Settlement::ending(claim, run, JobEnd::Dead { reason: why })
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
    let end = job_end_unstopped(
        &outcome,
        &RetryPolicy::JOBS,
        claim.attempt,
        clock::now(),
        clock::jitter(),
    );
    Settlement::ending(claim, run, end)
}
