//! What a run is given: where its plugin's state is read, and its bounds.

use tollgate_core::limits;
use tollgate_core::state::StateValue;

/// Where a run reads its plugin's state. Called on the run's own thread, once per key.
///
/// The deadline does not interrupt a read: what blocks here blocks the run. Bound it where it is implemented.
pub trait StateSource {
    /// The value under a key with its version; version 0 and no value when there is none.
    ///
    /// # Errors
    /// What went wrong, in words. The run ends as a host fault and is tried again.
    fn read(&self, key: &str) -> Result<StateValue, String>;
}

/// The bounds of one run. Crossing any of them but `log_lines_max` ends the run with the fault that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// About one unit per WebAssembly instruction; the same on every machine. [`OutOfFuel`](tollgate_core::outcome::Fault::OutOfFuel). A `memory.copy` or
    /// `memory.fill` costs its length too, but calls into the host cost no more than any call: `host_calls_max` bounds those.
    pub fuel: u64,
    /// Wall-clock time, to within 10 ms. [`Deadline`](tollgate_core::outcome::Fault::Deadline). It is looked at in the plugin's code only: it does not interrupt a
    /// state read or one long `memory.copy`, and does not count time before the run has an instance.
    pub deadline_ms: u64,
    /// All memories and tables of the instance together. [`Memory`](tollgate_core::outcome::Fault::Memory). Not more than the sandbox's own bound. What the
    /// host itself holds for a run (compiled code, copied values) is bounded by the other limits, not by this one.
    pub memory_bytes_max: usize,
    /// Calls to state and log. [`OutputTooBig`](tollgate_core::outcome::Fault::OutputTooBig).
    pub host_calls_max: u32,
    /// What the host copies out of the plugin's memory for one call, and for the answer, measured in the host's own
    /// representation. [`OutputTooBig`](tollgate_core::outcome::Fault::OutputTooBig).
    pub lifted_bytes_max: usize,
    /// Log lines kept. Further ones are counted, dropped and decide nothing, but each is a host call.
    pub log_lines_max: usize,
    /// Proposals in the answer. [`OutputTooBig`](tollgate_core::outcome::Fault::OutputTooBig).
    pub actions_max: usize,
    /// Distinct state keys read or written. [`OutputTooBig`](tollgate_core::outcome::Fault::OutputTooBig).
    pub state_keys_max: usize,
    /// State bytes: values read from the store plus every value set. [`OutputTooBig`](tollgate_core::outcome::Fault::OutputTooBig).
    pub state_bytes_max: usize,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            fuel: limits::RUN_FUEL,
            deadline_ms: limits::RUN_DEADLINE_MS,
            memory_bytes_max: limits::RUN_MEMORY_BYTES_MAX,
            host_calls_max: limits::RUN_HOST_CALLS_MAX,
            lifted_bytes_max: limits::RUN_LIFTED_BYTES_MAX,
            log_lines_max: limits::RUN_LOG_LINES_MAX,
            actions_max: limits::ACTIONS_PER_RUN_MAX,
            state_keys_max: limits::STATE_KEYS_PER_RUN_MAX,
            state_bytes_max: limits::STATE_BYTES_PER_RUN_MAX,
        }
    }
}
