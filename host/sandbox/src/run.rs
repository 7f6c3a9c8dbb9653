//! One run: one event, one fresh instance, exactly one outcome.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_core::event::Event;
use tollgate_core::fixture::{Ending, Fixture};
use tollgate_core::golden::Golden;
use tollgate_core::host_calls::{Remains, Stop};
use tollgate_core::ids::PluginDigest;
use tollgate_core::limits;
use tollgate_core::manifest::Manifest;
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, LogLine, Outcome};
use tollgate_core::state::{StateRead, StateValue, StateWrite};
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::contract::{self, ProcessorPre, types};
use crate::engine::Ticker;
use crate::host::{Lent, RunState};
use crate::limits::{RunLimits, StateSource};
use crate::pool::Pool;

/// What a run gets.
#[derive(Debug, Clone, Copy)]
pub struct RunInput<'a> {
    /// What the plugin is to act on.
    pub event: &'a Event,
    /// The route's configuration, a JSON document. The plugin reads it; the sandbox does not.
    pub config_json: &'a str,
}

/// What came of a run, and what is kept of it.
#[derive(Debug)]
#[must_use]
pub struct Run {
    /// Its proposals are the plugin's words: `tollgate_core::grant::judge` decides what becomes of them.
    pub outcome: Outcome,
    /// Fuel used. With the same input, state and runtime, always the same.
    pub fuel: u64,
    /// How long it took by the clock.
    pub duration: Duration,
    /// All memories and tables together, at their peak.
    pub memory_bytes: usize,
    /// Each key read from the source, with what it saw; sorted by key. Kept whatever the outcome.
    pub reads: Vec<StateRead>,
    /// What is to be committed with the outcome, sorted by key. Empty unless the run completed.
    pub writes: Vec<StateWrite>,
    /// What the plugin logged, also where it failed.
    pub logs: Vec<LogLine>,
}

const TRIAL_DEADLINE_MS: u64 = 10_000;

/// A component that was vetted and compiled. Cheap to clone; runs on many threads at once.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    pool: Arc<Pool>,
    digest: PluginDigest,
    manifest: Manifest,
    pre: ProcessorPre<RunState>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", &self.0.digest)
            .field("name", &self.0.manifest.name)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    pub(crate) fn new(pool: Arc<Pool>, digest: PluginDigest, manifest: Manifest, pre: ProcessorPre<RunState>) -> Self {
        Self(Arc::new(Inner {
            pool,
            digest,
            manifest,
            pre,
        }))
    }

    /// SHA-256 of the component.
    pub fn digest(&self) -> PluginDigest {
        self.0.digest
    }

    /// What the plugin says of itself. A component without a manifest is refused, so this is always there today; the contract's
    /// later versions may relax that.
    pub fn manifest(&self) -> Option<&Manifest> {
        Some(&self.0.manifest)
    }

    /// Runs the plugin on one event in a fresh instance.
    ///
    /// Blocks for at most about `deadline_ms` (plus that again when all instances are taken), and never panics on what the
    /// plugin does. Needs 1 MiB of stack left on the calling thread: call it on a pool of plugin threads, never on the I/O
    /// threads.
    pub fn run(&self, input: &RunInput<'_>, state: &dyn StateSource, limits: &RunLimits) -> Run {
        let attributes = contract::attribute_pairs(input.event);
        let amount = contract::amount(input.event);
        let event = contract::event(input.event, &attributes, amount.as_ref());
        self.with_store(state, limits, |store| {
            let event = event.map_err(|error| Stop {
                fault: Fault::HostFault,
                message: format!("the event's payload is not UTF-8: {error}"),
            })?;
            let processor = self.0.pre.instantiate(&mut *store)?;
            let answer = processor
                .tollgate_plugin_handler()
                .call_process(store, event, input.config_json)?;
            outcome(answer, limits)
        })
    }

    /// Makes an instance and drops it again, without an event. Vetting tries this; it is also the least that a run costs.
    pub fn trial(&self) -> Run {
        // Vetting may wait longer than an event may: a busy host should not refuse a good component.
        let limits = RunLimits {
            deadline_ms: TRIAL_DEADLINE_MS,
            ..RunLimits::default()
        };
        self.with_store(&NoState, &limits, |store| {
            self.0.pre.instantiate(store)?;
            Ok(Outcome::Completed { proposals: Vec::new() })
        })
    }

    /// Runs the plugin on a golden event over its state, or on several one after the other; with what each expects.
    pub(crate) fn run_golden(&self, golden: &Golden) -> Vec<(Option<Ending>, Run)> {
        let limits = RunLimits {
            deadline_ms: TRIAL_DEADLINE_MS,
            ..RunLimits::default()
        };
        golden.series.play(|fixture| {
            let input = RunInput {
                event: &fixture.event,
                config_json: &fixture.config_json,
            };
            let run = self.run(&input, &FixtureState(fixture), &limits);
            let writes = run.writes.clone();
            ((fixture.expect.clone(), run), writes)
        })
    }

    fn with_store(
        &self,
        state: &dyn StateSource,
        limits: &RunLimits,
        work: impl FnOnce(&mut Store<RunState>) -> wasmtime::Result<Outcome>,
    ) -> Run {
        let pool = &self.0.pool;
        let Some(_instance) = pool.instances.take(Duration::from_millis(limits.deadline_ms)) else {
            return Run::not_begun("all instances were busy for the whole deadline");
        };
        let start = Instant::now();
        let limits = RunLimits {
            memory_bytes_max: limits.memory_bytes_max.min(pool.memory_bytes_max),
            ..*limits
        };
        // SAFETY: `store` owns the only `RunState`; it is taken apart at the end of this function, which `state` outlives, and
        // `work` gets a borrow of the store that it cannot keep.
        #[expect(unsafe_code, reason = "lends the state source to the store for this call")]
        let source = unsafe { Lent::new(state) };
        let mut store = Store::new(&pool.engine, RunState::new(source, limits));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.lifted_bytes_max);
        store.set_epoch_deadline(Ticker::ticks(limits.deadline_ms));
        let running = pool.ticker.running();
        let answer = store.set_fuel(limits.fuel).and_then(|()| work(&mut store));
        drop(running);
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let (memory_bytes, remains) = store.into_data().into_remains();
        let Remains {
            reads,
            writes,
            logs,
            last_words,
        } = remains;
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(error) => fault(&error, last_words.as_deref(), &limits),
        };
        let writes = if matches!(outcome, Outcome::Completed { .. }) {
            writes
        } else {
            Vec::new()
        };
        Run {
            outcome,
            fuel,
            duration: start.elapsed(),
            memory_bytes,
            reads,
            writes,
            logs,
        }
    }
}

impl Run {
    fn not_begun(message: &str) -> Self {
        Self {
            outcome: Outcome::Fault {
                fault: Fault::HostFault,
                message: message.to_owned(),
            },
            fuel: 0,
            duration: Duration::ZERO,
            memory_bytes: 0,
            reads: Vec::new(),
            writes: Vec::new(),
            logs: Vec::new(),
        }
    }
}

/// A plugin's state before anything was written.
struct NoState;

impl StateSource for NoState {
    fn read(&self, _: &str) -> Result<StateValue, String> {
        Ok(StateValue {
            version: 0,
            value: None,
        })
    }
}

/// A plugin's state as a fixture says it.
struct FixtureState<'a>(&'a Fixture);

impl StateSource for FixtureState<'_> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        Ok(self.0.read(key))
    }
}

/// What the plugin answered, in the core's terms.
fn outcome(answer: Result<Vec<types::Proposal>, types::Failure>, limits: &RunLimits) -> wasmtime::Result<Outcome> {
    let line = |message: String| mask::line(&message, limits::RUN_MESSAGE_BYTES_MAX);
    Ok(match answer {
        Ok(proposals) if proposals.len() > limits.actions_max => {
            let message = format!(
                "{} proposals in one run; at most {} are allowed",
                proposals.len(),
                limits.actions_max
            );
            return Err(Stop {
                fault: Fault::OutputTooBig,
                message,
            }
            .into());
        }
        Ok(proposals) => Outcome::Completed {
            proposals: proposals.into_iter().map(contract::proposal).collect(),
        },
        Err(types::Failure::Refuse(message)) => Outcome::Refused { message: line(message) },
        Err(types::Failure::Hold(message)) => Outcome::Held { message: line(message) },
        Err(types::Failure::Retry(later)) => Outcome::RetryAfter {
            after_ms: later.after_ms,
            message: line(later.message),
        },
    })
}

/// Names what ended a run.
fn fault(error: &wasmtime::Error, last_words: Option<&str>, limits: &RunLimits) -> Outcome {
    let (fault, what) = classify(error, limits);
    let mut message = String::new();
    // A panic's message is what its author looks for, so it comes first.
    if let (Fault::Trap, Some(words)) = (fault, last_words) {
        let _ = write!(message, "{words} — ");
    }
    message.push_str(&what);
    if let Some(frames) = frames(error) {
        let _ = write!(message, ", at {frames}");
    }
    Outcome::Fault {
        fault,
        message: mask::line(&message, limits::RUN_MESSAGE_BYTES_MAX),
    }
}

fn classify(error: &wasmtime::Error, limits: &RunLimits) -> (Fault, String) {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return (stop.fault, stop.message.clone());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => (
                Fault::OutOfFuel,
                format!("the budget of {} fuel is used up", limits.fuel),
            ),
            Trap::Interrupt => (Fault::Deadline, format!("not done after {} ms", limits.deadline_ms)),
            Trap::StackOverflow => (
                Fault::Memory,
                format!(
                    "stack overflow: calls nest deeper than {} bytes of stack",
                    limits::RUN_STACK_BYTES_MAX
                ),
            ),
            other => (Fault::Trap, without_prefix(&other.to_string())),
        };
    }
    // The pool's own refusals: too many at once, which the permits rule out, or no memory for it on the machine.
    if error.is::<wasmtime::PoolConcurrencyLimitError>() || error.is::<std::io::Error>() {
        return (Fault::HostFault, error.to_string());
    }
    // What is left are the canonical ABI's complaints about what the plugin handed over. They have no types.
    let root = error.root_cause().to_string();
    if root.contains("fuel allocated for hostcalls has been exhausted") {
        return (
            Fault::OutputTooBig,
            format!("more than {} bytes handed to the host at once", limits.lifted_bytes_max),
        );
    }
    // Its allocator gave the host a wrong place for the event: nothing was answered yet.
    if root.starts_with("realloc return") {
        return (Fault::Trap, root);
    }
    (Fault::InvalidOutput, root)
}

fn without_prefix(text: &str) -> String {
    text.strip_prefix("wasm trap: ").unwrap_or(text).to_owned()
}

/// Functions of a trap's backtrace that are named.
const FRAMES_SHOWN_MAX: usize = 8;

/// The functions that were being called, innermost first, without the machinery of a Rust panic. Nothing where none of them has a
/// name: the numbers of an interpreter's functions help nobody.
fn frames(error: &wasmtime::Error) -> Option<String> {
    let frames: Vec<(bool, String)> = error
        .downcast_ref::<WasmBacktrace>()?
        .frames()
        .iter()
        .map(|frame| match frame.func_name() {
            Some(name) => (true, format!("{:#}", rustc_demangle::demangle(name))),
            None => (false, format!("function {}", frame.func_index())),
        })
        .collect();
    let panicking = frames.iter().take_while(|(_, name)| is_panic_machinery(name)).count();
    // A guest chooses the names of its functions, so some names must be shown even when all look like machinery.
    let skip = if panicking == frames.len() { 0 } else { panicking };
    let shown = frames.iter().skip(skip).take(FRAMES_SHOWN_MAX);
    let is_named = shown.clone().any(|(is_named, _)| *is_named);
    let names: Vec<&str> = shown.map(|(_, name)| name.as_str()).collect();
    is_named.then(|| names.join(" < "))
}

fn is_panic_machinery(name: &str) -> bool {
    [
        "__rustc::",
        "std::panicking::",
        "core::panicking::",
        "std::sys::backtrace::",
        "std::process::abort",
        "rust_panic",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}
