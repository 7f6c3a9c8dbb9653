//! The one wasmtime engine: which WebAssembly it takes, how it lays out memory, and the clock that ends runs.

use std::hash::{Hash as _, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tollgate_core::ids::Digest;
use tollgate_core::limits;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// The grain of [`RunLimits::deadline_ms`](crate::RunLimits): a run ends at most this much after its deadline.
pub(crate) const TICK_MS: u64 = 5;

/// Frames of a trap that are looked at; a Rust panic has about ten of its own before those of the plugin.
const BACKTRACE_FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not 0");

/// What one component may consist of. Plugins in Rust and JavaScript have one memory and a dozen core instances, those in Python 38
/// instances (one for each native module); composed ones have more.
const MEMORIES_PER_COMPONENT_MAX: u32 = 16;
const TABLES_PER_COMPONENT_MAX: u32 = 16;
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;
/// Python components have about ten thousand.
const TABLE_ELEMENTS_MAX: usize = 64 * 1024;

/// How the pool of instances gives memory back between runs. For measuring; [`PoolTuning::best`] is what a sandbox uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolTuning {
    /// Bytes of each memory that are wiped in place instead of being given back to the kernel.
    pub keep_resident_bytes: usize,
    /// Ask the kernel which pages were touched (Linux 6.7 and later), and wipe only these.
    pub pagemap_scan: bool,
}

impl PoolTuning {
    /// Wiping up to 1 MiB in place pays only where the kernel can say which pages were touched.
    pub fn best() -> Self {
        match PoolingAllocationConfig::is_pagemap_scan_available() {
            true => Self {
                keep_resident_bytes: 1024 * 1024,
                pagemap_scan: true,
            },
            false => Self {
                keep_resident_bytes: 128 * 1024,
                pagemap_scan: false,
            },
        }
    }
}

/// What decides how code is compiled. The compiling child and the running host must agree on all of it.
fn compile_config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .wasm_component_model(true)
        // Composed components need it.
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        // Its results depend on the machine.
        .wasm_relaxed_simd(false)
        // NaN bit patterns depend on the machine as well.
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits::RUN_STACK_BYTES_MAX)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX))
        // Never by environment variable, which is the default.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Unwind tables serve native debuggers and cost time at each load.
        .native_unwind_info(false)
        .generate_address_map(false);
    config
}

/// An engine that compiles and cannot run much: it reserves no pool.
pub(crate) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&compile_config())
}

/// The engine that runs plugins, `instances_max` of them at once.
pub(crate) fn running_engine(
    instances_max: u32,
    memory_bytes_max: usize,
    tuning: PoolTuning,
) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(CORE_INSTANCES_PER_COMPONENT_MAX))
        .total_memories(instances_max.saturating_mul(MEMORIES_PER_COMPONENT_MAX))
        .total_tables(instances_max.saturating_mul(TABLES_PER_COMPONENT_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_memories_per_module(MEMORIES_PER_COMPONENT_MAX)
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .max_tables_per_module(TABLES_PER_COMPONENT_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(memory_bytes_max)
        .max_unused_warm_slots(instances_max)
        .linear_memory_keep_resident(tuning.keep_resident_bytes)
        .table_keep_resident(16 * 1024)
        .pagemap_scan(if tuning.pagemap_scan {
            Enabled::Auto
        } else {
            Enabled::No
        });
    Engine::new(compile_config().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
}

/// Names everything that compiled code depends on: wasmtime's version, its settings, the processor's features.
pub(crate) fn compatibility(engine: &Engine) -> Digest {
    struct Sink(Sha256);
    impl Hasher for Sink {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sink = Sink(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sink);
    Digest(sink.0.finalize().into())
}

/// Moves the engine's epoch on every [`TICK_MS`] while a run is on; sleeps while none is. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicU32,
    stop: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, seen) = (engine.clone(), Arc::clone(&shared));
        let handle = thread::Builder::new()
            .name("sandbox-ticker".into())
            .stack_size(64 * 1024)
            .spawn(move || {
                while !seen.stop.load(Ordering::SeqCst) {
                    if seen.running.load(Ordering::SeqCst) == 0 {
                        // A run that starts between the load and this line has unparked us already.
                        thread::park();
                    } else {
                        thread::sleep(Duration::from_millis(TICK_MS));
                        engine.increment_epoch();
                    }
                }
            })?;
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }

    /// Keeps the ticks coming until the guard is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.thread.unpark();
        }
        Running(&self.shared)
    }

    /// Ticks after which a run of `deadline_ms` is over: the first one may come at once, so it does not count.
    pub(crate) fn ticks(deadline_ms: u64) -> u64 {
        deadline_ms.div_ceil(TICK_MS).saturating_add(1)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            // The thread cannot panic: it sleeps and counts.
            let _ = handle.join();
        }
    }
}

#[derive(Debug)]
#[must_use]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_compiles_for_the_engine_that_runs() {
        let running = running_engine(2, limits::RUN_MEMORY_BYTES_MAX, PoolTuning::best()).unwrap();
        assert_eq!(compatibility(&compiling_engine().unwrap()), compatibility(&running));
    }
}
