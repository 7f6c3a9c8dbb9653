//! Work: claims what is due, runs plugins, settles what they proposed, delivers what was recorded.
//!
//! Whoever wakes it, an admission or the timer, has it take this one path and read the store again. While one holds leases of jobs,
//! others leave: it looks again when it has settled them. Only the newest lease may commit.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::slice::from_ref;

use futures::future::join_all;
use tollgate_core::habits::Habits;
use tollgate_core::ids::Digest;
use tollgate_core::mask;
use tollgate_core::quarantine;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::time::UnixMillis;
use tollgate_core::worker::{Deadlines, Next, Ran, Rules, Terms};
use tollgate_store::{
    ClaimRequest, GuestStore, JobClaim, NextDue, Quarantine, RunEnd, Settled, Settlement, StoreError, Targets,
};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::log;
use tollgate_tenants::Route;

use crate::plugin;
use crate::tenants::Tenants;

/// Who ran it, for the person who reads a run.
const RUNTIME: &str = concat!("tollgate-spin ", env!("CARGO_PKG_VERSION"));
/// The digest of a run whose plugin's component said none.
const UNKNOWN: Digest = Digest([0; 32]);
/// Jobs leased at once; their plugins are called side by side.
const JOBS_AT_ONCE: usize = 16;
/// How often leases of jobs are renewed, in milliseconds.
const LEASE_RENEWED_MS: u64 = 3_000;
/// How long whoever settled jobs stays to take what comes next, in milliseconds, and how often it looks: a worker of its own for each
/// event costs more than the runs of two plugins.
const STAYS_MS: i64 = 100;
const LOOKS_EVERY_MS: u64 = 20;
/// How often a write is tried that finds the database busy; all of it within the lease.
const BUSY_TRIES_MAX: usize = 5;
/// The rules by which the app works. A plugin that does not answer may still compute, and nobody can stop it.
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

/// The work of one invocation.
pub(crate) struct Worker<'s> {
    pub(crate) store: &'s GuestStore,
    pub(crate) tenants: Tenants,
    begun: Stopwatch,
    ms_max: u64,
    /// Names this invocation, unlike any other.
    name: String,
    /// Until then nobody else is woken, as the store has it.
    until: Cell<UnixMillis>,
    habits: RefCell<Habits>,
}

impl<'s> Worker<'s> {
    pub(crate) fn new(store: &'s GuestStore, ms_max: u64) -> Self {
        Self {
            store,
            tenants: Tenants::default(),
            begun: Stopwatch::start(),
            ms_max,
            name: format!("spin-{:016x}", clock::random()),
            until: Cell::new(UnixMillis(0)),
            habits: RefCell::default(),
        }
    }

    /// Works until nothing is due for a while, or its time is over. Returns what is due next as well.
    ///
    /// # Errors
    /// When it cannot be seen what is due.
    pub(crate) async fn work(&self) -> Result<(Done, NextDue), StoreError> {
        let mut done = Done::default();
        loop {
            // Read first: what others commit before `until` is left to this worker, so that its last look is one from after that.
            let now = clock::now();
            let due = self.store.next_due()?;
            let stays = now < self.until.get();
            let is_due = |at: Option<UnixMillis>| at.is_some_and(|at| at <= now);
            let has_work = is_due(due.job) || is_due(due.outbox);
            if !stays && (!has_work || self.is_over()) {
                return Ok((done, due));
            }
            if !has_work {
                clock::sleep(LOOKS_EVERY_MS).await;
                continue;
            }
            let round = async {
                let jobs = if is_due(due.job) { self.run_due().await? } else { 0 };
                let deliveries = if is_due(due.outbox) {
                    self.deliver_due().await?
                } else {
                    0
                };
                Ok::<_, StoreError>(Done { jobs, deliveries })
            };
            match round.await {
                // Others took it first. Whoever said that it stays still looks: until then nobody else is woken.
                Ok(Done { jobs: 0, deliveries: 0 }) if stays => clock::sleep(LOOKS_EVERY_MS).await,
                Ok(Done { jobs: 0, deliveries: 0 }) => return Ok((done, due)),
                Ok(round) => {
                    done.jobs += round.jobs;
                    done.deliveries += round.deliveries;
                }
                // Nothing is in hand, but what is due may have nobody else.
                Err(StoreError::Busy) if !self.is_over() => {}
                Err(error) => {
                    log(&format!("work stopped: {error}"));
                    return Ok((done, due));
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.begun.is_over(self.ms_max)
    }

    pub(crate) fn claim_request(&self, lease_ms: i64, rows_max: usize) -> ClaimRequest {
        ClaimRequest {
            worker: self.name.clone(),
            now: clock::now(),
            lease_ms,
            rows_max,
            passed_over: Vec::new(),
        }
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

impl Worker<'_> {
    /// Claims what is due, runs it side by side, and settles it in one transaction. What read state that another run changed before it
    /// was settled is run again, one by one: then nothing comes between.
    async fn run_due(&self) -> Result<usize, StoreError> {
        let request = self.claim_request(GuestStore::LEASE_MS, JOBS_AT_ONCE);
        let claims = self.store.claim_jobs_alone(&request)?;
        if claims.is_empty() {
            return Ok(0);
        }
        self.until.set(request.now.plus_ms(GuestStore::LEASE_MS));
        let held = self.store.quarantines()?;
        let runs = join_all(claims.iter().map(|claim| self.execute(&held, claim)));
        let settlements = self
            .under_lease(&claims, runs)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let settled = self.settle(&claims, settlements)?;
        for (claim, (settlement, answer)) in claims.iter().zip(settled) {
            self.follow(&held, &claims, claim, (settlement, answer)).await?;
        }
        Ok(claims.len())
    }

    /// What `work` gives. Meanwhile the leases are renewed: others may work as soon as they are not.
    async fn under_lease<T>(&self, claims: &[JobClaim], work: impl Future<Output = T>) -> T {
        let leases: Vec<_> = claims.iter().map(|claim| (claim.job, claim.epoch)).collect();
        let mut work = pin!(work);
        loop {
            if let Some(done) = clock::within(LEASE_RENEWED_MS, work.as_mut()).await {
                return done;
            }
            let until = clock::now().plus_ms(GuestStore::LEASE_MS);
            match self.store.extend_leases(&self.name, &leases, until) {
                // One that was lost meanwhile is seen when its run is settled.
                Ok(_) => self.until.set(until),
                // There is time for another try.
                Err(StoreError::Busy) => {}
                Err(error) => log(&format!("leases were not renewed: {error}")),
            }
        }
    }

    /// Commits runs, and says what went into quarantine because of them. Returns each with what became of it.
    fn settle(
        &self,
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
        let now = clock::now();
        // An invocation whose time is over ends: whatever comes next wakes another.
        let until = if self.is_over() { now } else { now.plus_ms(STAYS_MS) };
        let (settled, begun) = patiently(|| {
            self.store
                .settle_all(&finished, quarantine::FAULTS_MAX, &self.name, until)
        })?;
        self.until.set(until);
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
        &self,
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
                    self.under_lease(claims, self.execute(held, claim)).await?
                }
                Next::Settle(void) => *void,
            };
            let Some(settled) = self.settle(from_ref(claim), vec![next])?.pop() else {
                return Ok(());
            };
            (settlement, answer) = settled;
        }
    }

    /// From claim to what is to be settled.
    async fn execute(&self, held: &[Quarantine], claim: &JobClaim) -> Result<Settlement, StoreError> {
        let tenant = match self.tenants.get(&claim.event.tenant) {
            Ok(tenant) => tenant,
            Err(problem) => return Ok(RULES.unrunnable(claim, None, &problem, clock::moment())),
        };
        let route = tenant.as_ref().and_then(|tenant| {
            let route = tenant.routes.iter().find(|route| route.name == claim.route)?;
            Some((tenant, route))
        });
        let Some((tenant, route)) = route else {
            return Ok(RULES.without_route(claim, clock::moment()));
        };
        let targets = Targets {
            destinations: route.destinations.clone(),
            renamed: tenant.renamed.clone(),
            ordered: tenant.ordered.clone(),
            sharing: tenant.sharing.clone(),
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
        if let Some(quarantine) = in_quarantine(held, claim, route).await {
            let mend = format!(
                "put another version in its place, or lift it with `tollgate plugin lift --spin URL --tenant {} {} --why TEXT`",
                quarantine.tenant, quarantine.route
            );
            let said = (quarantine::OUTCOME, &*quarantine.why_dead(&mend));
            return Ok(RULES.given_up(claim, &terms, quarantine.digest, said, clock::moment()));
        }
        let started_at = clock::now();
        let watch = Stopwatch::start();
        let run = plugin::run(self.store, &self.habits, route, &claim.event).await?;
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
