//! The host's side of a run: what the plugin can call, what each call costs, and the memory it may take.

use std::collections::BTreeMap;

use tollgate_core::limits;
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, LogLevel, LogLine};
use tollgate_core::state::{StateRead, StateValue, StateWrite};
use wasmtime::ResourceLimiter;

use crate::contract;
use crate::run::{RunLimits, StateSource};

/// Why the host stops a run. Travels through wasmtime as the cause of a trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    pub(crate) fault: Fault,
    pub(crate) message: String,
}

impl Stop {
    fn too_big(message: String) -> wasmtime::Error {
        Self {
            fault: Fault::OutputTooBig,
            message,
        }
        .into()
    }
}

/// Everything that one run has: it lives as long as the run's store.
pub(crate) struct RunState {
    source: Lent,
    limits: RunLimits,
    pub(crate) memory: MemoryMeter,
    host_calls: u32,
    keys: BTreeMap<String, Key>,
    state_bytes: usize,
    logs: Vec<LogLine>,
    log_lines_dropped: u64,
    /// What the plugin logged as an error in its last call into the host: a panic's message, when a trap follows.
    last_words: Option<String>,
}

/// One state key as this run knows it.
#[derive(Default)]
struct Key {
    read: Option<StateValue>,
    write: Option<Option<Vec<u8>>>,
}

/// What is left of a run when its store is gone.
pub(crate) struct Remains {
    pub(crate) memory_bytes: usize,
    /// Sorted by key.
    pub(crate) reads: Vec<StateRead>,
    /// Sorted by key.
    pub(crate) writes: Vec<StateWrite>,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) last_words: Option<String>,
}

impl RunState {
    pub(crate) fn new(source: Lent, limits: RunLimits) -> Self {
        Self {
            source,
            limits,
            memory: MemoryMeter {
                bytes: 0,
                bytes_max: limits.memory_bytes_max,
            },
            host_calls: 0,
            keys: BTreeMap::new(),
            state_bytes: 0,
            logs: Vec::new(),
            log_lines_dropped: 0,
            last_words: None,
        }
    }

    pub(crate) fn into_remains(self) -> Remains {
        let mut reads = Vec::new();
        let mut writes = Vec::new();
        for (key, Key { read, write }) in self.keys {
            if let Some(value) = write {
                writes.push(StateWrite {
                    key: key.clone(),
                    value,
                });
            }
            if let Some(StateValue { version, value }) = read {
                reads.push(StateRead { key, version, value });
            }
        }
        let mut logs = self.logs;
        if self.log_lines_dropped > 0 {
            let message = format!("{} further log lines were dropped", self.log_lines_dropped);
            logs.push(LogLine {
                level: LogLevel::Warn,
                message,
            });
        }
        Remains {
            memory_bytes: self.memory.bytes,
            reads,
            writes,
            logs,
            last_words: self.last_words,
        }
    }

    /// Counts a call into the host. Every import goes through here first.
    fn enter(&mut self) -> wasmtime::Result<()> {
        self.last_words = None;
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls_max {
            return Err(Stop::too_big(format!(
                "more than {} calls into the host (state and log) in one run",
                self.limits.host_calls_max
            )));
        }
        Ok(())
    }

    /// The entry of a key, made when this is the first that the run has to do with it.
    fn key(&mut self, key: String) -> wasmtime::Result<&mut Key> {
        let bytes_max = limits::STATE_KEY_BYTES_MAX;
        if key.is_empty() {
            let message = "a state key is empty".to_owned();
            return Err(Stop {
                fault: Fault::InvalidOutput,
                message,
            }
            .into());
        }
        if key.len() > bytes_max {
            return Err(Stop::too_big(format!(
                "a state key of {} bytes; at most {bytes_max} are allowed",
                key.len()
            )));
        }
        if self.keys.len() >= self.limits.state_keys_max && !self.keys.contains_key(&key) {
            return Err(Stop::too_big(format!(
                "more than {} state keys in one run",
                self.limits.state_keys_max
            )));
        }
        Ok(self.keys.entry(key).or_default())
    }

    fn count_state_bytes(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.state_bytes = self.state_bytes.saturating_add(bytes);
        if self.state_bytes > self.limits.state_bytes_max {
            return Err(Stop::too_big(format!(
                "more than {} bytes of state read and written in one run",
                self.limits.state_bytes_max
            )));
        }
        Ok(())
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>) -> wasmtime::Result<()> {
        self.enter()?;
        let bytes = value.as_ref().map_or(0, Vec::len);
        let bytes_max = limits::STATE_VALUE_BYTES_MAX;
        if bytes > bytes_max {
            return Err(Stop::too_big(format!(
                "a state value of {bytes} bytes; at most {bytes_max} are allowed"
            )));
        }
        self.key(key)?.write = Some(value);
        self.count_state_bytes(bytes)
    }
}

impl contract::types::Host for RunState {}

impl contract::state::Host for RunState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.enter()?;
        let source = self.source;
        let known = self.key(key.clone())?;
        if let Some(own) = &known.write {
            return Ok(own.clone());
        }
        if let Some(read) = &known.read {
            return Ok(read.value.clone());
        }
        let read = source.get().read(&key).map_err(|reason| Stop {
            fault: Fault::HostFault,
            message: format!(
                "the state could not be read: {}",
                mask::line(&reason, limits::RUN_MESSAGE_BYTES_MAX)
            ),
        })?;
        let value = read.value.clone();
        known.read = Some(read);
        self.count_state_bytes(value.as_ref().map_or(0, Vec::len))?;
        Ok(value)
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<()> {
        self.write(key, Some(value))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.write(key, None)
    }
}

impl contract::log::Host for RunState {
    fn write(&mut self, level: contract::log::Level, message: String) -> wasmtime::Result<()> {
        self.enter()?;
        let level = contract::log_level(level);
        let message = mask::line(&message, limits::RUN_MESSAGE_BYTES_MAX);
        if level == LogLevel::Error {
            self.last_words = Some(message.clone());
        }
        if self.logs.len() < self.limits.log_lines_max {
            self.logs.push(LogLine { level, message });
        } else {
            self.log_lines_dropped += 1;
        }
        Ok(())
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
        // It was allowed, so the machine is short of memory. To tell the plugin would make its answer depend on that.
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
