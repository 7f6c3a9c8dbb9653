//! Shadows: a candidate runs after the active version's run has settled, on the same recorded input, and what it proposes is compared
//! and dropped. It has no lease, no lane and no effect, so it may be late or left out: it runs in spare time only, and what does not
//! fit into its queue is counted and forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tollgate_core::action::GrantedAction;
use tollgate_core::event::Event;
use tollgate_core::ids::{PluginDigest, RunId};
use tollgate_core::outcome::judged;
use tollgate_core::state::{StateRead, StateValue};
use tollgate_sandbox::{Plugin, RunInput, StateSource};
use tollgate_store::registry::{RunResult, ShadowRecord};
use tollgate_store::{BlockingReads as _, Views, Work};

use super::pool::Pool;
use super::run_limits;
use crate::clock;
use crate::config::Route;
use crate::registry::Shelf;
use crate::telemetry::Labels;
use crate::thread_priority;

/// How many shadow runs may wait. Further ones are left out.
const QUEUE_MAX: usize = 256;
/// How often it is looked whether there is spare time.
const SPARE_STEP: Duration = Duration::from_millis(2);

/// What an active run leaves for its shadow.
pub(super) struct Task {
    pub(super) shadow: PluginDigest,
    pub(super) run: RunId,
    pub(super) active: PluginDigest,
    pub(super) route: Arc<Route>,
    pub(super) event: Arc<Event>,
    pub(super) reads: Vec<StateRead>,
    pub(super) result: RunResult,
}

/// Counters of shadow runs, for the metrics.
pub(crate) struct ShadowCounters {
    runs: Family<Labels, Counter>,
    run: Counter,
    dropped: Counter,
    differing: Counter,
}

impl Default for ShadowCounters {
    fn default() -> Self {
        let runs = Family::<Labels, Counter>::default();
        let result = |result| runs.get_or_create_owned(&Labels::default().with("result", result));
        let (run, dropped, differing) = (result("run"), result("dropped"), result("differing"));
        Self {
            runs,
            run,
            dropped,
            differing,
        }
    }
}

impl ShadowCounters {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("shadow_runs", "Shadow runs by what became of them", self.runs.clone());
    }
}

/// Where tasks are handed in.
pub(super) struct Shadows {
    queue: mpsc::Sender<Task>,
    counters: Arc<ShadowCounters>,
}

impl Shadows {
    /// Never waits: the active runs come first.
    pub(super) fn hand_in(&self, task: Task) {
        if self.queue.try_send(task).is_err() {
            self.counters.dropped.inc();
        }
    }
}

/// Starts the one thread that runs shadows. `in_flight` are the jobs in flight: there is spare time while fewer than `threads` of
/// `in_flight_max` are taken.
pub(super) fn start<S: Work + Views>(
    store: S,
    shelf: Arc<Shelf<S>>,
    counters: Arc<ShadowCounters>,
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
    threads: usize,
    shutdown: CancellationToken,
) -> Shadows {
    let (queue, mut waiting) = mpsc::channel::<Task>(QUEUE_MAX);
    let shadows = Shadows {
        queue,
        counters: Arc::clone(&counters),
    };
    tokio::spawn(async move {
        let pool = Pool::start("plugin-shadow", 1, thread_priority::lower_to_slow_work);
        loop {
            let task = tokio::select! {
                task = waiting.recv() => task,
                () = shutdown.cancelled() => None,
            };
            let Some(task) = task else { return };
            while in_flight_max.saturating_sub(in_flight.available_permits()) >= threads && !shutdown.is_cancelled() {
                tokio::time::sleep(SPARE_STEP).await;
            }
            let plugin = match shelf.ready(task.shadow).await {
                Ok(plugin) => plugin,
                Err(problem) => {
                    tracing::warn!(digest = %task.shadow, %problem, "a shadow does not load");
                    counters.dropped.inc();
                    continue;
                }
            };
            let its_store = store.clone();
            let tenant = task.event.tenant.clone();
            let Some(record) = pool.run(&tenant, move || execute(&its_store, &plugin, task)).await else {
                continue;
            };
            counters.run.inc();
            if record.differs() {
                counters.differing.inc();
            }
            if let Err(error) = store.record_shadow_run(record).await {
                // A fatal error is seen by the worker too, which stops the host.
                tracing::warn!(%error, "a shadow's run could not be recorded");
            }
        }
    });
    shadows
}

/// One shadow run, on the shadows' own thread.
fn execute<S: Work + Views>(store: &S, plugin: &Plugin, task: Task) -> ShadowRecord {
    let started_at = clock::now();
    let recorded = task.reads.into_iter().map(|read| (read.key.clone(), read)).collect();
    let state = RecordedState {
        recorded,
        store,
        event: &task.event,
        route: &task.route,
    };
    let input = RunInput {
        event: &task.event,
        config_json: &task.route.config_json,
    };
    let run = plugin.run(&input, &state, &run_limits(&task.route));
    let beyond_record = run.reads.iter().any(|read| !state.recorded.contains_key(&read.key));
    let (outcome, actions) = judged(run.outcome, &task.route.grants);
    ShadowRecord {
        run: task.run,
        tenant: task.event.tenant.clone(),
        route: task.route.name.clone(),
        active: task.active,
        shadow: task.shadow,
        started_at,
        duration_us: u64::try_from(run.duration.as_micros()).unwrap_or(u64::MAX),
        message: outcome.message().to_owned(),
        active_result: task.result,
        shadow_result: RunResult {
            outcome: outcome.name().to_owned(),
            actions_json: actions_json(&actions),
            fuel: run.fuel,
        },
        beyond_record,
    }
}

/// Actions as they are compared and shown.
pub(super) fn actions_json(actions: &[GrantedAction]) -> String {
    let list: Vec<_> = actions
        .iter()
        .map(|granted| serde_json::json!({ "operation_key": granted.operation_key(), "action": granted.action() }))
        .collect();
    serde_json::Value::from(list).to_string()
}

/// The state as the active run saw it. What that run did not read is read now, which may be later than the run: the record says so.
struct RecordedState<'a, S> {
    recorded: BTreeMap<String, StateRead>,
    store: &'a S,
    event: &'a Event,
    route: &'a Route,
}

impl<S: Work + Views> StateSource for RecordedState<'_, S> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        match self.recorded.get(key) {
            Some(read) => Ok(StateValue {
                version: read.version,
                value: read.value.clone(),
            }),
            None => self
                .store
                .blocking()
                .read_state(&self.event.tenant, &self.route.plugin, key)
                .map_err(|error| error.to_string()),
        }
    }
}
