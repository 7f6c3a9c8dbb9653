//! The worker: claims jobs, runs their plugins, settles what they proposed.
//!
//! One dispatcher leases jobs and hands them to a bounded number of plugin threads; plugin code never runs on an I/O thread. First
//! try, retry, replay and restart take this one path: whoever wakes rereads the store.

/// Logs a line about a job, under the ids by which all lines about it are found.
macro_rules! say_of_job {
    ($level:ident, $claim:expr, $($rest:tt)+) => {
        tracing::$level!(
            job = %$claim.job,
            receipt = %$claim.receipt,
            tenant = %$claim.event.tenant,
            source = %$claim.event.source,
            route = %$claim.route,
            $($rest)+
        )
    };
}

mod counters;
mod run_class;
mod pool;
mod fast_pool;
mod shadow;
mod quarantines;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tollgate_core::action::Verdict;
use tollgate_core::ids::{PluginDigest, PluginName, RunId};
use tollgate_core::limits;
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, JobEnd};
use tollgate_core::quarantine;
use tollgate_core::state::StateValue;
use tollgate_core::worker::{Deadlines, Judged, Next, Ran, Rules, Terms};
use tollgate_sandbox::{Plugin, RUNTIME, RunInput, RunLimits, StateSource};
use tollgate_store::registry::RunResult;
use tollgate_store::{
    BlockingReads as _, ClaimRequest, JobClaim, Quarantine, RunEnd, Settlement, StoreError, Targets, Views, Work,
};

use crate::clock;
use crate::config::{Config, Route};
use crate::failpoints::{Failpoint, pass};
use crate::registry::Shelf;
pub(crate) use counters::WorkerCounters;
use fast_pool::FastPool;
pub(crate) use quarantines::Quarantines;
use run_class::{FAST_MS, Held, RunClass, RunClasses, SlowJob};

/// Jobs leased per thread: enough that threads never wait for the store, as one runs and some settle. What is claimed and settled together shares
/// a transaction: on PostgreSQL a sixth more events a second than with 16, and no more with 160; on the embedded store neither more nor less.
const IN_FLIGHT_PER_THREAD: usize = 64;
/// Whole deadlines that a lease outlasts at the least.
const DEADLINES_PER_LEASE: u64 = 64;

/// How often a run is repeated at once because another run changed the state that it had read.
const STALE_RERUNS_MAX: u32 = 32;

/// The lease of a job that waits for a slow thread is extended so often within its time.
const LEASE_EXTENSIONS: u64 = 3;

/// How long the dispatcher waits when all that is due may be of tenants that are passed over.
const PASSED_OVER_NAP: Duration = Duration::from_millis(20);

/// Everything that running a job touches.
pub(crate) struct Worker<S> {
    /// Whom its leases are held under.
    pub(crate) name: String,
    pub(crate) store: S,
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) shelf: Arc<Shelf<S>>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) quarantines: Arc<Quarantines>,
    pub(crate) shutdown: CancellationToken,
}

impl<S> Worker<S> {
    /// What is on a failing disk is unknown: the host must not go on.
    fn stop_if_fatal(&self, error: &StoreError) {
        if matches!(error, StoreError::Fatal { .. }) {
            self.shutdown.cancel();
        }
    }
}

/// Claims and runs jobs until shutdown; then lets running jobs settle.
pub(crate) async fn run<S: Work + Views>(worker: Worker<S>) {
    let worker = Arc::new(worker);
    let settings = worker.config.load().worker.clone();
    let classes = Arc::new(RunClasses::start(settings.threads));
    let in_flight_max = settings.threads.max(1) * IN_FLIGHT_PER_THREAD;
    let in_flight = Arc::new(Semaphore::new(in_flight_max));
    let shadows = Arc::new(shadow::start(
        worker.store.clone(),
        Arc::clone(&worker.shelf),
        Arc::clone(&worker.counters.shadow),
        Arc::clone(&in_flight),
        in_flight_max,
        settings.threads.max(1),
        worker.shutdown.clone(),
    ));

    let fast = {
        let (worker, classes) = (Arc::clone(&worker), Arc::clone(&classes));
        FastPool::start(settings.threads, move |(claim, permit)| {
            process(
                Arc::clone(&worker),
                Arc::clone(&classes),
                Arc::clone(&shadows),
                claim,
                permit,
            )
        })
    };

    while !worker.shutdown.is_cancelled() {
        let free = in_flight.available_permits().min(limits::JOB_CLAIM_MAX);
        if free == 0 {
            let _ = in_flight.acquire().await;
            continue;
        }
        let request = ClaimRequest {
            worker: worker.name.clone(),
            now: clock::now(),
            lease_ms: lease_ms(worker.config.load().worker.limits.deadline_ms),
            rows_max: free,
            passed_over: classes.passed_over(),
        };
        let passes_over = !request.passed_over.is_empty();
        let claims = match worker.store.claim_jobs(request).await {
            Ok(claims) => claims,
            Err(error) => {
                tracing::error!(%error, "jobs could not be claimed");
                worker.stop_if_fatal(&error);
                pause(&worker.shutdown, Duration::from_secs(1)).await;
                continue;
            }
        };
        if claims.is_empty() {
            // What is due may be of tenants that were passed over.
            let nap = if passes_over {
                PASSED_OVER_NAP
            } else {
                nap(&worker.store).await
            };
            tokio::select! {
                // What became ready since the store was asked is not missed: it completes at once.
                () = worker.store.work_ready() => {}
                () = classes.freed().notified(), if passes_over => {}
                () = tokio::time::sleep(nap) => {}
                () = worker.shutdown.cancelled() => {}
            }
            continue;
        }
        pass(Failpoint::AfterClaim);
        worker.counters.claimed(&claims, clock::now());
        let mut jobs = Vec::with_capacity(claims.len());
        for claim in claims {
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
                return;
            };
            jobs.push((claim, permit));
        }
        fast.hand_in(jobs);
    }
    let everyone = u32::try_from(in_flight_max).unwrap_or(u32::MAX);
    let settled = async {
        let _ = in_flight.acquire_many(everyone).await;
        while !classes.is_idle() {
            classes.freed().notified().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), settled).await.is_err() {
        tracing::warn!("some runs did not settle before the stop; their leases expire and they are run again");
    }
}

/// A job waits for its thread behind the others that were leased, each of which has [`FAST_MS`] there. Its lease must outlast that, on a busy machine
/// and where the threads give way to others, or this worker takes its own waiting jobs over again and again and nothing is settled. What waits
/// for a slow thread has its lease extended.
fn lease_ms(deadline_ms: u64) -> i64 {
    let queue_ms = deadline_ms.saturating_mul(DEADLINES_PER_LEASE);
    i64::try_from(queue_ms).unwrap_or(i64::MAX).max(limits::JOB_LEASE_MS)
}

/// How long to sleep when nothing is ready: until the next job is due, a second at the most.
async fn nap<S: Work + Views>(store: &S) -> Duration {
    let longest = Duration::from_secs(1);
    match store.next_due().await {
        Ok(due) => due.job.map_or(longest, |at| {
            Duration::from_millis(u64::try_from(at.since(clock::now())).unwrap_or(0))
                .clamp(Duration::from_millis(1), longest)
        }),
        Err(_) => longest,
    }
}

async fn pause(shutdown: &CancellationToken, duration: Duration) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Runs one job to its settlement, on a thread of the fast pool. A run whose state went stale is repeated at once under the same
/// lease. The permit is given up when the job turns out to be slow, so that others go on.
async fn process<S: Work + Views>(
    worker: Arc<Worker<S>>,
    classes: Arc<RunClasses>,
    shadows: Arc<shadow::Shadows>,
    claim: JobClaim,
    permit: OwnedSemaphorePermit,
) {
    let claim = Arc::new(claim);
    let mut place = Place::Fast(permit);
    'runs: for reruns in 0.. {
        let (judged, mut shadow) = match prepare(&worker, &claim).await {
            Err(settlement) => {
                let (settlement, violation) = (*settlement, None);
                (Judged { settlement, violation }, None)
            }
            Ok(prepared) => {
                let prepared = Arc::new(prepared);
                let Some(judged) = run_by_class(&worker, &classes, &claim, &prepared, &mut place).await else {
                    // The threads are gone, the host stops, and the lease runs out; or the job is another worker's already.
                    return;
                };
                let shadow = prepared.shadow_task(&claim, &judged.settlement);
                (judged, shadow)
            }
        };
        let Judged {
            mut settlement,
            violation,
        } = judged;
        loop {
            let ending = Ending::of(&claim, &settlement, violation);
            let tried = settlement.may_be_refused().then(|| settlement.clone());
            pass(Failpoint::BeforeSettle);
            let asked_at = Instant::now();
            let answer = match worker.store.settle(settlement).await {
                Ok(answer) => {
                    worker.counters.settle.observe(asked_at.elapsed().as_secs_f64());
                    answer
                }
                Err(error) => {
                    // Nothing was written; the lease runs out and the job is run again.
                    worker.stop_if_fatal(&error);
                    return say_of_job!(error, claim, %error, "a run could not be settled");
                }
            };
            match rules(&worker.config.load()).after(&claim, answer, reruns, tried, clock::moment()) {
                Next::Settle(void) => (settlement, shadow) = (*void, None),
                Next::Run => continue 'runs,
                Next::Leave => {
                    return say_of_job!(
                        warn,
                        claim,
                        "another worker took the job over; this run was not committed"
                    );
                }
                Next::Settled { run, verdicts } => {
                    pass(Failpoint::AfterSettle);
                    // Here, so that a run that was repeated because its state went stale counts once.
                    ending.note(&worker, &claim, run).await;
                    if verdicts.contains(&Verdict::Conflict) {
                        worker.counters.note_conflict(&claim, run);
                    }
                    if let Some(task) = shadow {
                        shadows.hand_in(shadow::Task { run, ..task });
                    }
                    return;
                }
            }
        }
    }
}

/// By which rules this host works.
fn rules(config: &Config) -> Rules {
    Rules {
        host: concat!("tollgate ", env!("CARGO_PKG_VERSION")),
        runtime: RUNTIME,
        retry: config.worker.retry,
        deadlines: Deadlines::Stop,
        stale_reruns_max: STALE_RERUNS_MAX,
    }
}

/// How a job ended, for the log, the metrics and quarantine; its settlement is handed over before that is known to count.
struct Ending {
    /// The rule that its proposals broke.
    violation: Option<&'static str>,
    /// What was wrong with its run, if it failed, and what was said of it.
    failed: Option<(PluginName, Fault, String)>,
    /// What follows for the job.
    end: &'static str,
    /// Why it is left to a person, if it is.
    held: Option<String>,
    /// None for what was not run.
    run: Option<RunEnd>,
}

impl Ending {
    fn of(claim: &JobClaim, settlement: &Settlement, violation: Option<&'static str>) -> Self {
        let run = &settlement.run;
        Self {
            violation,
            failed: run
                .fault()
                .map(|fault| (run.plugin.clone(), fault, run.message.clone())),
            end: counters::end(&settlement.end),
            held: match &settlement.end {
                JobEnd::Held { reason } => Some(reason.clone()),
                JobEnd::Done | JobEnd::RetryAt { .. } | JobEnd::Dead { .. } => None,
            },
            run: RunEnd::of(claim, settlement, clock::now()),
        }
    }

    async fn note<S: Work + Views>(self, worker: &Worker<S>, claim: &JobClaim, run: RunId) {
        let counters = &worker.counters;
        let (tenant, route) = (&claim.event.tenant, &claim.route);
        counters.count_end(tenant, route, self.end);
        if let Some(rule) = self.violation {
            counters.count_violation(tenant, rule);
        }
        if let Some((plugin, fault, message)) = self.failed
            && let Some(left_out) = counters.count_fault(tenant, route, fault, clock::now())
        {
            let (fault, message) = (fault.as_str(), mask::line(&message, 300));
            say_of_job!(warn, claim, %run, %plugin, fault, left_out, "a run failed: {message}");
        }
        if let Some(reason) = self.held {
            counters.note_held(claim, run, &reason);
        }
        if let Some(end) = self.run {
            note_end(worker, end).await;
        }
    }
}

/// Counts faults in a row, and puts a version into quarantine that has too many.
async fn note_end<S: Work + Views>(worker: &Worker<S>, end: RunEnd) {
    let faults_max = worker.config.load().worker.quarantine_after;
    let Some(quarantine) = worker.quarantines.note(end, faults_max) else {
        return;
    };
    let Quarantine {
        tenant,
        route,
        plugin,
        digest,
        faults,
        reason,
        ..
    } = quarantine.clone();
    let reason = mask::line(&reason, 300);
    match worker.store.quarantine(quarantine).await {
        Ok(()) => tracing::warn!(%tenant, %route, %plugin, %digest, faults, reason,
            "a plugin is in quarantine; its jobs go to the dead-letter queue until another version is promoted or it is lifted"),
        Err(error) => {
            worker.stop_if_fatal(&error);
            tracing::error!(%tenant, %route, %plugin, %error, "a quarantine could not be kept; the plugin runs on");
        }
    }
}

/// What a job in flight takes up.
#[expect(dead_code, reason = "held, and let go when dropped")]
enum Place {
    Fast(OwnedSemaphorePermit),
    Slow(SlowJob),
}

/// Runs a job, first on this thread of the fast pool unless its plugin is known to be slow. `None` when the slow threads are gone, or
/// the job is no longer this worker's.
async fn run_by_class<S: Work + Views>(
    worker: &Arc<Worker<S>>,
    classes: &Arc<RunClasses>,
    claim: &Arc<JobClaim>,
    prepared: &Arc<Prepared>,
    place: &mut Place,
) -> Option<Judged> {
    let (tenant, digest) = (&claim.event.tenant, prepared.plugin.digest());
    let deadline_ms = prepared.route.limits.deadline_ms;
    if deadline_ms <= FAST_MS {
        return Some(execute(worker, claim, prepared, deadline_ms));
    }
    if classes.of(tenant, digest, clock::now()) == RunClass::Fast {
        let judged = execute(worker, claim, prepared, FAST_MS);
        match judged.settlement.run.fault() {
            Some(Fault::Deadline) => classes.remember(tenant, digest, RunClass::Slow, clock::now()),
            // Nothing of the plugin's: no instance was free for so short a time, say. On the slow threads it waits for one.
            Some(Fault::HostFault) => {}
            Some(Fault::InvalidOutput | Fault::OutOfFuel | Fault::Memory | Fault::OutputTooBig | Fault::Trap)
            | None => {
                return Some(judged);
            }
        }
    }
    if matches!(place, Place::Fast(_)) {
        *place = Place::Slow(classes.count_slow(tenant));
    }
    let task = {
        let (worker, claim, prepared) = (Arc::clone(worker), Arc::clone(claim), Arc::clone(prepared));
        move || execute(&worker, &claim, &prepared, deadline_ms)
    };
    let lease_ms = lease_ms(deadline_ms);
    let hold_every = Duration::from_millis(lease_ms.unsigned_abs() / LEASE_EXTENSIONS);
    let hold = async || hold_job(worker, claim, lease_ms).await;
    let judged = classes.run_slowly(tenant, task, hold_every, hold).await?;
    let class = if judged.settlement.run.duration_us < FAST_MS * 1000 {
        RunClass::Fast
    } else {
        RunClass::Slow
    };
    classes.remember(tenant, digest, class, clock::now());
    Some(judged)
}

/// Extends the lease of a job that waits for a slow thread: behind many others it would outlast it, be leased again and wait twice.
async fn hold_job<S: Work + Views>(worker: &Worker<S>, claim: &JobClaim, lease_ms: i64) -> Held {
    let until = clock::now().plus_ms(lease_ms);
    match worker.store.extend_lease(claim.job, claim.epoch, until).await {
        Ok(true) => Held::Still,
        Ok(false) => {
            say_of_job!(warn, claim, "another worker took the job over; this run is not made");
            Held::Lost
        }
        Err(error) => {
            // What the settlement finds decides; until then the run waits on.
            worker.stop_if_fatal(&error);
            say_of_job!(error, claim, %error, "the lease of a waiting job could not be extended");
            Held::Still
        }
    }
}

/// A job's route and the plugin that it runs, of one moment.
struct Prepared {
    route: Arc<Route>,
    plugin: Plugin,
    /// Of the route, if the active version runs and not its canary: the two would differ for other reasons.
    shadow: Option<PluginDigest>,
    targets: Targets,
}

/// What a route says to its jobs.
fn terms<'r>(route: &'r Route, targets: &'r Targets) -> Terms<'r> {
    Terms {
        plugin: &route.plugin,
        forward: route.forward,
        config_json: &route.config_json,
        config_digest: route.config_digest,
        grants: &route.grants,
        namespace: &route.namespace,
        state_total_max: Some(route.limits.state_total_max),
        targets,
    }
}

impl Prepared {
    /// What the run leaves for its shadow; the run's number is not known before it is settled.
    fn shadow_task(&self, claim: &JobClaim, settlement: &Settlement) -> Option<shadow::Task> {
        let shadow = self.shadow?;
        Some(shadow::Task {
            shadow,
            run: RunId(0),
            active: settlement.run.digest,
            route: Arc::clone(&self.route),
            event: Arc::clone(&claim.event),
            reads: settlement.run.reads.clone(),
            result: RunResult {
                outcome: settlement.run.outcome.clone(),
                actions_json: shadow::actions_json(&settlement.actions),
                fuel: settlement.run.fuel,
            },
        })
    }
}

/// Finds what a job runs: the route of now, the version that its subject is served by, loaded.
///
/// # Errors
/// What is settled without a run: of a route that forwards, its one action; where there is nothing to run, a host fault, tried again
/// as such.
async fn prepare<S: Work + Views>(worker: &Worker<S>, claim: &JobClaim) -> Result<Prepared, Box<Settlement>> {
    let config = worker.config.load_full();
    let (rules, tenant) = (rules(&config), &claim.event.tenant);
    let found = config.tenants.get(tenant).and_then(|tenant| {
        let route = tenant.routes.iter().find(|route| route.name == claim.route)?;
        Some((Arc::clone(route), tenant.targets(route)))
    });
    let Some((route, targets)) = found else {
        return Err(Box::new(rules.without_route(claim, clock::moment())));
    };
    let terms = terms(&route, &targets);
    if let Some(settlement) = rules.unrun(claim, &terms, clock::moment()) {
        return Err(Box::new(settlement));
    }
    let unrunnable = |why: &str| Box::new(rules.unrunnable(claim, Some(&terms), why, clock::moment()));
    let Some(binding) = &route.binding else {
        let why = format!("no version of the plugin `{}` is bound to the route", route.plugin);
        return Err(unrunnable(&why));
    };
    let held = worker.quarantines.held(&worker.store).await;
    let held = held.map_err(|error| unrunnable(&format!("quarantines cannot be read: {error}")))?;
    let held = |digest| held.get(tenant, &route.name, digest);
    let mut digest = binding.chosen(tenant, &route.name, claim.event.subject.as_ref(), claim.receipt);
    if digest != binding.active && held(digest).is_some() {
        // A canary that failed gives its subjects back to the active version.
        digest = binding.active;
    }
    if let Some(quarantine) = held(digest) {
        let mend = format!(
            "promote another version or lift it with `tollgate plugin lift --tenant {tenant} {} --why TEXT`",
            route.name
        );
        let said = (quarantine::OUTCOME, &*quarantine.why_dead(&mend));
        return Err(Box::new(rules.given_up(claim, &terms, digest, said, clock::moment())));
    }
    let plugin = match worker.shelf.ready(digest).await {
        Ok(plugin) => plugin,
        Err(why) => return Err(unrunnable(&format!("{digest} does not load: {why}"))),
    };
    let shadow = binding.shadow.filter(|_| digest == binding.active);
    Ok(Prepared {
        route,
        plugin,
        shadow,
        targets,
    })
}

/// The bounds of a run on a route.
fn run_limits(route: &Route) -> RunLimits {
    RunLimits {
        fuel: route.limits.fuel,
        deadline_ms: route.limits.deadline_ms,
        memory_bytes_max: route.limits.memory_bytes_max,
        state_keys_max: route.limits.state_keys_max,
        state_bytes_max: route.limits.state_bytes_max,
        ..RunLimits::default()
    }
}

/// One run, on a plugin thread: from claim to what is to be settled. Blocking.
fn execute<S: Work + Views>(worker: &Worker<S>, claim: &JobClaim, prepared: &Prepared, deadline_ms: u64) -> Judged {
    let Prepared {
        route, plugin, targets, ..
    } = prepared;
    let started_at = clock::now();
    let state = PluginState {
        worker,
        claim,
        plugin: &route.plugin,
    };
    pass(Failpoint::BeforeRun);
    let run = plugin.run(
        &RunInput {
            event: &claim.event,
            config_json: &route.config_json,
        },
        &state,
        &RunLimits {
            deadline_ms,
            ..run_limits(route)
        },
    );
    pass(Failpoint::AfterRun);
    worker.counters.ran(&claim.event.tenant, &route.name, run.duration);
    let ran = Ran {
        outcome: run.outcome,
        digest: plugin.digest(),
        started_at,
        duration_us: u64::try_from(run.duration.as_micros()).unwrap_or(u64::MAX),
        fuel: run.fuel,
        reads: run.reads,
        writes: run.writes,
        logs: run.logs,
    };
    rules(&worker.config.load()).judge(claim, &terms(route, targets), ran, clock::moment())
}

/// The state of one plugin for one tenant, as the sandbox reads it.
struct PluginState<'a, S> {
    worker: &'a Worker<S>,
    claim: &'a JobClaim,
    plugin: &'a PluginName,
}

impl<S: Work + Views> StateSource for PluginState<'_, S> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        self.worker
            .store
            .blocking()
            .read_state(&self.claim.event.tenant, self.plugin, key)
            .map_err(|error| error.to_string())
    }
}
