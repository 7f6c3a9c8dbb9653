//! Work: claims what is due, runs plugins, settles what they proposed, delivers what was recorded.
//!
//! Whoever wakes it, an admission or the timer, has it take this one path and read the store again. While one holds leases of jobs,
//! others leave: it looks again when it has settled them. Only the newest lease may commit.

use std::pin::pin;
use std::slice::from_ref;

use futures::future::join_all;
use tollgate_core::ids::Digest;
use tollgate_core::mask;
use tollgate_core::quarantine;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::worker::{Deadlines, Next, Ran, Rules, Terms};
use tollgate_store::{
    ClaimRequest, GuestStore, JobClaim, Quarantine, RunEnd, Settled, Settlement, StoreError, Targets,
};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::{log, tenants};
use tollgate_tenants::Route;

use crate::delivery;
use crate::plugin;

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
/// By which rules the app works. What does not answer may still compute, and nobody can stop it.
const RULES: Rules = Rules {
    host: RUNTIME,
    runtime: RUNTIME,
    retry: RetryPolicy::JOBS,
    deadlines: Deadlines::StopWaiting,
    stale_reruns_max: 8,
};

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
    let claims = store.claim_jobs_alone(&claim_request(LEASE_MS, JOBS_AT_ONCE))?;
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
    for (claim, (settlement, answer)) in claims.iter().zip(settled) {
        follow(store, &held, &claims, claim, (settlement, answer)).await?;
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
            // A lease that was lost meanwhile is seen when its run is settled; and there is time for another try.
            Ok(_) | Err(StoreError::Busy) => {}
            Err(error) => log(&format!("leases were not renewed: {error}")),
        }
    }
}

/// Commits runs, and says what went into quarantine because of them. Answers each with what became of it.
fn settle(
    store: &GuestStore,
    claims: &[JobClaim],
    settlements: Vec<Settlement>,
) -> Result<Vec<(Settlement, Settled)>, StoreError> {
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
    let settlements = finished.into_iter().map(|(settlement, _)| settlement);
    Ok(settlements.zip(settled).collect())
}

/// Does what follows from the store's answer to a settlement, until its job is settled or somebody else's. `claims` are those that
/// this invocation holds.
async fn follow(
    store: &GuestStore,
    held: &[Quarantine],
    claims: &[JobClaim],
    claim: &JobClaim,
    (mut settlement, mut answer): (Settlement, Settled),
) -> Result<(), StoreError> {
    let mut reruns = 0;
    loop {
        let next = match RULES.after(claim, answer, reruns, Some(settlement), clock::moment()) {
            Next::Settled { .. } => return Ok(()),
            Next::Leave => {
                log(&format!(
                    "{}: another invocation took it over; this run was not committed",
                    claim.job
                ));
                return Ok(());
            }
            Next::Run => {
                reruns += 1;
                under_lease(store, claims, execute(store, held, claim)).await?
            }
            Next::Settle(void) => *void,
        };
        let Some(settled) = settle(store, from_ref(claim), vec![next])?.pop() else {
            return Ok(());
        };
        (settlement, answer) = settled;
    }
}

/// From claim to what is to be settled.
async fn execute(store: &GuestStore, held: &[Quarantine], claim: &JobClaim) -> Result<Settlement, StoreError> {
    let tenant = match tenants::work(&claim.event.tenant) {
        Ok(tenant) => tenant,
        Err(problem) => return Ok(RULES.unrunnable(claim, None, &problem, clock::moment())),
    };
    let found = tenant.and_then(|tenant| {
        let mut route = tenant.routes.into_iter().find(|route| route.name == claim.route)?;
        let targets = Targets {
            destinations: std::mem::take(&mut route.destinations),
            renamed: tenant.renamed,
        };
        Some((route, targets))
    });
    let Some((route, targets)) = found else {
        return Ok(RULES.without_route(claim, clock::moment()));
    };
    let terms = Terms {
        plugin: &route.plugin,
        forward: route.forward,
        config_json: &route.config_json,
        config_digest: route.config_digest,
        grants: &route.grants,
        namespace: &route.namespace,
        state_total_max: Some(route.limits.state_total_max),
        targets: &targets,
    };
    if let Some(unrun) = RULES.unrun(claim, &terms, clock::moment()) {
        return Ok(unrun);
    }
    if let Some(quarantine) = in_quarantine(held, claim, &route).await {
        let mend = format!(
            "put another version in its place, or lift it with `tollgate plugin lift --spin URL --tenant {} {} --why TEXT`",
            quarantine.tenant, quarantine.route
        );
        let said = (quarantine::OUTCOME, &*quarantine.why_dead(&mend));
        return Ok(RULES.given_up(claim, &terms, quarantine.digest, said, clock::moment()));
    }
    let started_at = clock::now();
    let watch = Stopwatch::start();
    let run = plugin::run(store, &route, &claim.event).await?;
    let ran = Ran {
        outcome: run.outcome,
        digest: run.digest.unwrap_or(UNKNOWN),
        started_at,
        duration_us: watch.micros(),
        fuel: run.fuel,
        reads: run.reads,
        writes: run.writes,
        logs: run.logs,
    };
    Ok(RULES.judge(claim, &terms, ran, clock::moment()).settlement)
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
