//! Repeats recorded runs: by their own version, to prove what was recorded (promise W3), or by another, to see what it would do
//! otherwise (W4). Nothing that a repeated run proposes has any effect.

mod trial;

use std::cell::Cell;
use std::collections::HashMap;

use tokio::runtime::Runtime;
use tollgate_core::budget;
use tollgate_core::difference::{Said, StateUse};
use tollgate_core::forward;
use tollgate_core::grant::Grant;
use tollgate_core::ids::PluginDigest;
use tollgate_core::outcome::{Fault, Outcome};
use tollgate_core::quarantine;
use tollgate_core::state::{StateRead, StateValue, StateWrite};
use tollgate_sandbox::{Plugin, RunInput, RunLimits, Sandbox, StateSource};
use tollgate_store::{RecordedRun, Views};

use crate::config::{Config, Route};
pub use trial::Trial;

/// What a repeated run came to.
pub struct Repeated {
    /// How it ended, and what it proposed.
    pub said: Said,
    /// It read state that the recorded run had not read: what that held then is not known, and it was told that it is absent.
    pub beyond_record: bool,
    pub(crate) micros: u64,
    /// What it wrote; nothing unless it completed.
    pub(crate) writes: Vec<StateWrite>,
}

/// What the recorded run came to.
pub fn recorded(run: &RecordedRun) -> Said {
    Said {
        outcome: run.outcome.clone(),
        message: run.message.clone(),
        actions: run.actions.clone(),
        fuel: run.fuel,
    }
}

/// Why a recorded run cannot be repeated: it did not end by what it was and read.
pub fn unrepeatable(run: &RecordedRun) -> Option<&'static str> {
    match run.outcome.as_str() {
        outcome if outcome == Fault::Deadline.as_str() => Some("it was ended by the clock"),
        outcome if outcome == Fault::HostFault.as_str() => Some("the host could not run it"),
        quarantine::OUTCOME => Some("it was in quarantine, and not run"),
        budget::OUTCOME => Some("a budget held what it proposed"),
        forward::OUTCOME => Some("its route handed the event on, and ran no plugin"),
        _ => None,
    }
}

/// Runs `plugin` on what the recorded run was given. Blocks as [`Plugin::run`] does.
pub fn repeat(plugin: &Plugin, run: &RecordedRun, grants: Option<&[Grant]>, limits: &RunLimits) -> Repeated {
    let state = RecordedState::of(&run.reads, &[]);
    let input = RunInput {
        event: &run.event,
        config_json: &run.config,
    };
    let again = plugin.run(&input, &state, limits);
    Repeated {
        said: Said::of(again.outcome, grants, again.fuel),
        beyond_record: state.beyond.get(),
        micros: u64::try_from(again.duration.as_micros()).unwrap_or(u64::MAX),
        writes: again.writes,
    }
}

/// How the version that a candidate would replace ends on the state that the candidate wrote.
pub(crate) enum Reading {
    /// It goes on. `keys` of those that the candidate wrote it has read; none where it had no use for them.
    GoesOn { keys: usize },
    /// It is stuck there, and would not be on state that it wrote itself.
    Stuck { outcome: String, message: String },
    /// It is stuck either way, or the host's clock or health ended a run: nothing is known.
    Unknown,
}

/// Runs `active` on the event of a recorded run, over the state that a candidate wrote in answer to the same event: what a rollback
/// would leave it with. Blocks for up to three runs.
pub(crate) fn read_back(active: &Plugin, run: &RecordedRun, written: &[StateWrite], limits: &RunLimits) -> Reading {
    let on = |written: &[StateWrite]| {
        let state = RecordedState::of(&run.reads, written);
        let input = RunInput {
            event: &run.event,
            config_json: &run.config,
        };
        active.run(&input, &state, limits)
    };
    let after = on(written);
    match StateUse::of(&after.outcome) {
        StateUse::Used => {
            let seen = |write: &&StateWrite| after.reads.iter().any(|read| read.key == write.key);
            return Reading::GoesOn {
                keys: written.iter().filter(seen).count(),
            };
        }
        StateUse::Unknown => return Reading::Unknown,
        StateUse::Stuck => {}
    }
    // Some rules hold a second event of one operation, whoever wrote the first one's state. That is no news of the candidate.
    let own = on(&[]);
    if StateUse::of(&own.outcome) != StateUse::Used || StateUse::of(&on(&own.writes).outcome) != StateUse::Used {
        return Reading::Unknown;
    }
    Reading::Stuck {
        outcome: Outcome::name(&after.outcome).to_owned(),
        message: after.outcome.message().to_owned(),
    }
}

/// The limits of a repetition: those of the run's route, if it is still there. The clock is no judge of what a run means, so it
/// gets more time than a live one.
pub fn limits(route: Option<&Route>, run: &RecordedRun) -> RunLimits {
    let standard = RunLimits::default();
    let (fuel, memory_bytes_max, deadline_ms) = route.map_or(
        (standard.fuel, standard.memory_bytes_max, standard.deadline_ms),
        |route| {
            (
                route.limits.fuel,
                route.limits.memory_bytes_max,
                route.limits.deadline_ms,
            )
        },
    );
    // A run that ended because its fuel was gone had just this much.
    let fuel = if run.outcome == Fault::OutOfFuel.as_str() {
        run.fuel
    } else {
        fuel
    };
    RunLimits {
        fuel,
        memory_bytes_max,
        deadline_ms: deadline_ms.saturating_mul(DEADLINES),
        ..standard
    }
}

/// How many times as long a repetition may take as the run itself.
const DEADLINES: u64 = 10;

/// The route of a recorded run as the configuration has it now.
pub fn route_of<'c>(config: &'c Config, run: &RecordedRun) -> Option<&'c Route> {
    let tenant = config.tenants.get(&run.event.tenant)?;
    tenant
        .routes
        .iter()
        .find(|route| route.name == run.route)
        .map(|route| &**route)
}

/// The state that a run read, and over it what was written since.
struct RecordedState<'r> {
    values: HashMap<&'r str, &'r StateRead>,
    written: HashMap<&'r str, &'r StateWrite>,
    beyond: Cell<bool>,
}

impl<'r> RecordedState<'r> {
    fn of(reads: &'r [StateRead], written: &'r [StateWrite]) -> Self {
        Self {
            values: reads.iter().map(|read| (read.key.as_str(), read)).collect(),
            written: written.iter().map(|write| (write.key.as_str(), write)).collect(),
            beyond: Cell::new(false),
        }
    }
}

impl StateSource for RecordedState<'_> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        if let Some(write) = self.written.get(key) {
            let before = self.values.get(key).map_or(0, |read| read.version);
            return Ok(StateValue {
                version: write.value.as_ref().map_or(0, |_| before + 1),
                value: write.value.clone(),
            });
        }
        Ok(match self.values.get(key) {
            Some(read) => StateValue {
                version: read.version,
                value: read.value.clone(),
            },
            None => {
                self.beyond.set(true);
                StateValue {
                    version: 0,
                    value: None,
                }
            }
        })
    }
}

/// The components of recorded runs, compiled when they are first asked for.
pub struct Components<'a, S> {
    store: &'a S,
    config: Option<&'a Config>,
    sandbox: &'a Sandbox,
    runtime: &'a Runtime,
    loaded: HashMap<PluginDigest, Result<Plugin, String>>,
}

impl<'a, S: Views> Components<'a, S> {
    /// Nothing is compiled yet. Without a configuration only the store's components are found.
    pub fn new(store: &'a S, config: Option<&'a Config>, sandbox: &'a Sandbox, runtime: &'a Runtime) -> Self {
        Self {
            store,
            config,
            sandbox,
            runtime,
            loaded: HashMap::new(),
        }
    }

    /// # Errors
    /// In words, when the component is nowhere to be had, or is refused today.
    pub fn get(&mut self, digest: PluginDigest) -> Result<Plugin, String> {
        if let Some(known) = self.loaded.get(&digest) {
            return known.clone();
        }
        let found = self.find(digest);
        self.loaded.insert(digest, found.clone());
        found
    }

    fn find(&self, digest: PluginDigest) -> Result<Plugin, String> {
        let bytes = self.bytes(digest)?;
        self.sandbox
            .load(&bytes)
            .map_err(|refusal| format!("{digest} is refused today: {refusal}"))
    }

    fn bytes(&self, digest: PluginDigest) -> Result<Vec<u8>, String> {
        let missing = match self.runtime.block_on(self.store.component(digest)) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        // A store from before there was a registry names components that only files hold.
        let files = self.config.into_iter().flat_map(|config| config.plugins.values());
        files
            .filter_map(|file| std::fs::read(&file.path).ok())
            .find(|bytes| PluginDigest::of(bytes) == digest)
            .ok_or_else(|| format!("{missing}, and no file that the configuration names has that digest"))
    }
}
