//! The host's side of a run: what the plugin can call, what each call costs, and the memory it may take.

use tollgate_core::host_calls::{HostCallLimits, HostCalls, Remains, Stop};
use tollgate_core::limits;
use tollgate_core::mask;
use tollgate_core::outcome::Fault;
use wasmtime::ResourceLimiter;

use crate::contract;
use crate::limits::{RunLimits, StateSource};

/// Everything that one run has: it lives as long as the run's store.
pub(crate) struct RunState {
    source: Lent,
    host_calls: HostCalls,
    pub(crate) memory: MemoryMeter,
}

impl RunState {
    pub(crate) fn new(source: Lent, limits: RunLimits) -> Self {
        Self {
            source,
            host_calls: HostCalls::new(HostCallLimits {
                host_calls_max: limits.host_calls_max,
                log_lines_max: limits.log_lines_max,
                state_keys_max: limits.state_keys_max,
                state_bytes_max: limits.state_bytes_max,
            }),
            memory: MemoryMeter {
                bytes: 0,
                bytes_max: limits.memory_bytes_max,
            },
        }
    }

    /// What is left of a run when its store is gone: the bytes of memory at their peak, and what its calls left.
    pub(crate) fn into_remains(self) -> (usize, Remains) {
        (self.memory.bytes, self.host_calls.into_remains())
    }
}

impl contract::types::Host for RunState {}

// A stop travels through wasmtime as the cause of a trap.
impl contract::state::Host for RunState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let source = self.source;
        Ok(self.host_calls.get(key, &|key| source.get().read(key))?)
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<()> {
        Ok(self.host_calls.put(key, Some(value))?)
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        Ok(self.host_calls.put(key, None)?)
    }
}

impl contract::log::Host for RunState {
    fn write(&mut self, level: contract::log::Level, message: String) -> wasmtime::Result<()> {
        Ok(self.host_calls.log(contract::log_level(level), &message)?)
    }
}

/// Sums all memories and tables of an instance. Going over the limit ends the run, so that a plugin cannot come to depend on
/// how much there happens to be.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    /// Memories and tables never shrink, so this is the peak too.
    bytes: usize,
    bytes_max: usize,
}

impl MemoryMeter {
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            let message = format!(
                "{bytes} bytes of memory wanted; at most {} are allowed for all memories and tables together",
                self.bytes_max
            );
            return Err(Stop {
                fault: Fault::Memory,
                message,
            }
            .into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The component's own maximum: growing fails as WebAssembly says, and the plugin sees it.
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn grow_failed(error: &wasmtime::Error) -> wasmtime::Result<()> {
        // The bound allowed it, so the machine is short of memory. A plugin that was told so could answer differently because of it.
        let message = format!(
            "the host has no memory left: {}",
            mask::line(&error.to_string(), limits::RUN_MESSAGE_BYTES_MAX)
        );
        Err(Stop {
            fault: Fault::HostFault,
            message,
        }
        .into())
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Self::grow_failed(&error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let element = size_of::<usize>();
        let bytes = |elements: usize| elements.saturating_mul(element);
        self.grow(bytes(current), bytes(desired), maximum.map(bytes))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Self::grow_failed(&error)
    }
}

/// A run's state source inside its store. A store's data must live for ever as far as the types go; a run's source does not.
#[derive(Clone, Copy)]
pub(crate) struct Lent(&'static dyn StateSource);

impl Lent {
    /// # Safety
    /// The result, its copies and every [`RunState`] made of it must be gone before `source` ends.
    #[expect(
        unsafe_code,
        reason = "wasmtime wants 'static data in a store; see the safety contract"
    )]
    pub(crate) unsafe fn new(source: &dyn StateSource) -> Self {
        // SAFETY: only the lifetime changes, and the caller promises to keep to the real one. `get` gives the reference out
        // for no longer than its borrow of `self`.
        Self(unsafe { std::mem::transmute::<&dyn StateSource, &'static dyn StateSource>(source) })
    }

    fn get(&self) -> &dyn StateSource {
        self.0
    }
}
