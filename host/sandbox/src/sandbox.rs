//! The sandbox: vets components and makes plugins of them.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_core::golden;
use tollgate_core::ids::{Digest, PluginDigest};
use tollgate_core::limits;
use tollgate_core::manifest::Manifest;
use tollgate_core::mask;
use tollgate_core::outcome::{Fault, Outcome};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::cache::{Cache, CacheDir};
use crate::compile::{self, Compiler};
use crate::contract::{self, Processor, ProcessorPre};
use crate::engine::{self, PoolTuning, Ticker};
use crate::host::RunState;
use crate::inspect::{Inspection, inspect};
use crate::pool::{Permits, Pool};
use crate::refusal::Refusal;
use crate::run::Plugin;

/// Components that are compiled at once: one for uploads, which take turns, and one for what routes run.
const COMPILERS_MAX: u32 = 2;
/// How long one waits for the others.
const COMPILER_WAIT_MAX: Duration = Duration::from_secs(300);

/// How a sandbox is set up.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Runs at once; one more waits. Each reserves up to 16 × 4 GiB of address space, which is not memory. At least 1.
    pub instances_max: u32,
    /// The most that any run may take for memories and tables, whatever its [`RunLimits`](crate::RunLimits) say.
    pub memory_bytes_max: usize,
    /// The longest component that is read, in bytes; a longer one is refused.
    pub component_bytes_max: usize,
    /// Where compiled plugins are kept between starts; without it each start compiles again.
    pub cache: Option<CacheDir>,
    /// Where components are compiled.
    pub compiler: Compiler,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            instances_max: 64,
            memory_bytes_max: limits::RUN_MEMORY_BYTES_MAX,
            component_bytes_max: limits::COMPONENT_BYTES_MAX,
            cache: None,
            compiler: Compiler::InProcess,
        }
    }
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The options contradict each other, or one is out of range.
    #[error("the sandbox's options cannot be used: {detail}")]
    Options {
        /// Which one, and what it must be.
        detail: &'static str,
    },
    /// The engine refuses its configuration.
    #[error("the WebAssembly engine does not start: {detail}")]
    Engine {
        /// What it says.
        detail: String,
    },
    /// The folder cannot be made, read or trusted.
    #[error("the cache of compiled plugins in {} cannot be used", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The thread that ends runs at their deadline does not start.
    #[error("the clock of the sandbox does not start")]
    Ticker {
        /// What the system says.
        source: io::Error,
    },
}

/// Vets components and makes plugins of them. Cheap to clone; one per process is enough.
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

struct Shared {
    pool: Arc<Pool>,
    compilers: Permits,
    compatibility: Digest,
    component_bytes_max: usize,
    cache: Option<Cache>,
    compiler: Compiler,
    linker: Linker<RunState>,
}

/// What vetting found out about a component that may be published.
#[derive(Debug, Clone)]
pub struct VetReport {
    /// SHA-256 of the component.
    pub digest: PluginDigest,
    /// What the plugin says of itself.
    pub manifest: Manifest,
    /// The names of what it imports; each is in the contract.
    pub imports: Vec<String>,
    /// An export besides the handler is tolerated and never called.
    pub exports: Vec<String>,
    /// How long it is.
    pub component_bytes: usize,
    /// How long compiling took, or loading when the cache had it.
    pub compile_time: Duration,
    /// Memories and tables of an instance before its first event.
    pub instance_bytes: usize,
    /// Fuel that making an instance takes, of each run's budget.
    pub instance_fuel: u64,
    /// How each golden event ended; only [`Sandbox::prove`] runs them.
    pub golden: Vec<GoldenEnding>,
}

/// A component that was proved, and its compiled code, which is not on the disk yet: most of what is proved is refused in the end,
/// or was only tried.
#[derive(Debug)]
pub struct Proven {
    /// What vetting found.
    pub report: VetReport,
    compiled: Compiled,
}

/// Compiled code that is not in the cache.
#[derive(Debug)]
struct Compiled {
    digest: PluginDigest,
    /// The code; none where the cache had it.
    code: Option<Vec<u8>>,
}

/// How a golden event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenEnding {
    /// The name of the golden event.
    pub name: String,
    /// [`Outcome::name`].
    pub outcome: String,
    /// The fuel that the run used.
    pub fuel: u64,
}

impl Sandbox {
    /// Starts the engine and opens the cache.
    ///
    /// # Errors
    /// When the engine does not start with these options, or the cache directory cannot be used.
    pub fn new(options: SandboxOptions) -> Result<Self, SandboxError> {
        Self::with_pool_tuning(options, PoolTuning::best())
    }

    /// As [`Sandbox::new`], with another way to give memory back. For measuring.
    ///
    /// # Errors
    /// As [`Sandbox::new`].
    pub fn with_pool_tuning(options: SandboxOptions, tuning: PoolTuning) -> Result<Self, SandboxError> {
        if options.instances_max == 0 {
            return Err(SandboxError::Options {
                detail: "instances_max must be at least 1",
            });
        }
        let engine_error = |error: wasmtime::Error| SandboxError::Engine {
            detail: format!("{error:#}"),
        };
        let engine =
            engine::running_engine(options.instances_max, options.memory_bytes_max, tuning).map_err(engine_error)?;
        let mut linker = Linker::new(&engine);
        Processor::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut RunState| state).map_err(engine_error)?;
        let cache = match &options.cache {
            Some(directory) => Some(Cache::open(directory).map_err(|source| SandboxError::Cache {
                path: directory.path.clone(),
                source,
            })?),
            None => None,
        };
        let ticker = Ticker::start(&engine).map_err(|source| SandboxError::Ticker { source })?;
        Ok(Self(Arc::new(Shared {
            compilers: Permits::new(COMPILERS_MAX),
            compatibility: engine::compatibility(&engine),
            component_bytes_max: options.component_bytes_max,
            cache,
            compiler: options.compiler,
            linker,
            pool: Arc::new(Pool {
                ticker,
                instances: Permits::new(options.instances_max),
                memory_bytes_max: options.memory_bytes_max,
                engine,
            }),
        })))
    }

    /// Makes a plugin of a component: checks it, compiles it or takes it from the cache, and links it.
    ///
    /// Takes seconds for big components: call it where blocking is fine.
    ///
    /// # Errors
    /// The first thing that is wrong with the component, with how to mend it.
    pub fn load(&self, bytes: &[u8]) -> Result<Plugin, Refusal> {
        let prepared = self.prepare(bytes)?;
        self.0.keep(&prepared.compiled);
        Ok(prepared.plugin)
    }

    /// Keeps the compiled code of a component that somebody wants to have. What was proved and is not kept leaves nothing behind.
    pub fn keep(&self, proven: &Proven) {
        self.0.keep(&proven.compiled);
    }

    /// Says which plugins are run now: their compiled code stays in the cache, whatever its bound.
    pub fn pin(&self, in_use: BTreeSet<PluginDigest>) {
        if let Some(cache) = &self.0.cache {
            cache.pin(in_use);
        }
    }

    /// Checks everything that [`Sandbox::load`] checks, and that an instance comes up.
    ///
    /// # Errors
    /// The first thing that is wrong with the component, with how to mend it.
    pub fn vet(&self, bytes: &[u8]) -> Result<VetReport, Refusal> {
        let (report, prepared) = self.vet_prepared(bytes)?;
        self.0.keep(&prepared.compiled);
        Ok(report)
    }

    /// Checks everything that [`Sandbox::vet`] checks, and that each of the component's golden events ends as its author says; a
    /// component without any is tried on a neutral event, which must not end in a fault. Uploads go this way, and leave
    /// nothing on the disk before they are [kept](Self::keep).
    ///
    /// # Errors
    /// The first thing that is wrong with the component, with how to mend it.
    pub fn prove(&self, bytes: &[u8]) -> Result<Proven, Refusal> {
        let (mut report, prepared) = self.vet_prepared(bytes)?;
        let mut golden = prepared.inspection.golden;
        if golden.is_empty() {
            golden.push(golden::neutral(&report.manifest));
        }
        let runs = golden.iter().flat_map(|golden| {
            let runs = prepared.plugin.run_golden(golden).into_iter().enumerate();
            runs.map(|(at, run)| (golden.series.name(&golden.name, at), run))
        });
        for (name, (expected, run)) in runs {
            if let Outcome::Fault {
                fault: Fault::HostFault,
                message,
            } = &run.outcome
            {
                return Err(Refusal::Host {
                    detail: message.clone(),
                });
            }
            golden::check(expected.as_ref(), &run.outcome, &report.manifest.actions, &run.writes).map_err(
                |detail| Refusal::GoldenFailed {
                    name: name.clone(),
                    detail,
                },
            )?;
            report.golden.push(GoldenEnding {
                name,
                outcome: run.outcome.name().to_owned(),
                fuel: run.fuel,
            });
        }
        Ok(Proven {
            report,
            compiled: prepared.compiled,
        })
    }

    fn vet_prepared(&self, bytes: &[u8]) -> Result<(VetReport, Prepared), Refusal> {
        let prepared = self.prepare(bytes)?;
        let Prepared {
            plugin,
            inspection,
            compile_time,
            compiled: _,
        } = &prepared;
        let trial = plugin.trial();
        if let Outcome::Fault { fault, message } = &trial.outcome {
            let detail = format!("{fault}: {message}");
            return Err(match fault {
                Fault::HostFault => Refusal::Host { detail },
                _ => Refusal::TrialFailed { detail },
            });
        }
        let report = VetReport {
            digest: plugin.digest(),
            manifest: inspection.manifest.clone(),
            imports: inspection.imports.clone(),
            exports: inspection.exports.clone(),
            component_bytes: bytes.len(),
            compile_time: *compile_time,
            instance_bytes: trial.memory_bytes,
            instance_fuel: trial.fuel,
            golden: Vec::new(),
        };
        Ok((report, prepared))
    }

    fn prepare(&self, bytes: &[u8]) -> Result<Prepared, Refusal> {
        let shared = &self.0;
        if bytes.len() > shared.component_bytes_max {
            return Err(Refusal::TooBig {
                bytes: bytes.len(),
                bytes_max: shared.component_bytes_max,
            });
        }
        let inspection = inspect(bytes)?;
        let digest = PluginDigest::of(bytes);
        let start = Instant::now();
        let (component, code) = shared.component(digest, bytes)?;
        let compile_time = start.elapsed();
        shared.check_handler(&component)?;
        let wrong_world = |error: wasmtime::Error| Refusal::WrongWorld {
            detail: mask::line(&format!("{error:#}"), 512),
        };
        let pre = shared.linker.instantiate_pre(&component).map_err(wrong_world)?;
        let pre = ProcessorPre::new(pre).map_err(wrong_world)?;
        let plugin = Plugin::new(Arc::clone(&shared.pool), digest, inspection.manifest.clone(), pre);
        Ok(Prepared {
            plugin,
            inspection,
            compile_time,
            compiled: Compiled { digest, code },
        })
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

struct Prepared {
    plugin: Plugin,
    inspection: Inspection,
    compile_time: Duration,
    compiled: Compiled,
}

impl Shared {
    /// The component, compiled. Where the cache did not have it, the code comes too, since nobody has kept it yet.
    fn component(&self, digest: PluginDigest, bytes: &[u8]) -> Result<(Component, Option<Vec<u8>>), Refusal> {
        if let Some(cache) = &self.cache
            && let Some(code) = cache.read(digest, self.compatibility)
        {
            match self.load_code(&code) {
                Ok(component) => return Ok((component, None)),
                // The entry is ours and does not load, so the component is compiled again below and the entry written anew.
                Err(refusal) => tracing::warn!(plugin = %digest, %refusal, "cached code does not load"),
            }
        }
        let code = {
            let _only = self.compilers.take(COMPILER_WAIT_MAX).ok_or_else(|| Refusal::Host {
                detail: "other components are being compiled; try again later".to_owned(),
            })?;
            compile::compile(&self.compiler, &self.pool.engine, bytes)?
        };
        let component = self.load_code(&code)?;
        Ok((component, Some(code)))
    }

    fn keep(&self, compiled: &Compiled) {
        if let (Some(cache), Some(code)) = (&self.cache, &compiled.code) {
            cache.write(compiled.digest, self.compatibility, code);
        }
    }

    fn load_code(&self, code: &[u8]) -> Result<Component, Refusal> {
        // SAFETY: `code` is what `precompile_component` of this very wasmtime gave: in this process, in a child that runs this
        // program, or earlier on this host, proven by the cache's tag. wasmtime itself checks that it was made for an engine
        // like this one.
        #[expect(
            unsafe_code,
            reason = "machine code must be loaded somewhere; this is the only place"
        )]
        let component = unsafe { Component::deserialize(&self.pool.engine, code) };
        component.map_err(|error| Refusal::OverLimits {
            detail: mask::line(&format!("{error:#}"), 512),
        })
    }

    /// Checks the type of the exported function, which a component can give any shape under the right name. Imports are
    /// checked by the linker.
    fn check_handler(&self, component: &Component) -> Result<(), Refusal> {
        let wrong = |detail: &str| {
            Err(Refusal::WrongWorld {
                detail: detail.to_owned(),
            })
        };
        let ty = component.component_type();
        let handler = ty
            .exports(&self.pool.engine)
            .find(|(name, _)| name.starts_with("tollgate:plugin/handler@1."))
            .map(|(_, export)| export.ty);
        let Some(ComponentItem::ComponentInstance(handler)) = handler else {
            return wrong("its export tollgate:plugin/handler is not an interface");
        };
        let process = handler
            .get_export(&self.pool.engine, contract::PROCESS)
            .map(|export| export.ty);
        let Some(ComponentItem::ComponentFunc(process)) = process else {
            return wrong("its tollgate:plugin/handler has no function `process`");
        };
        process
            .typecheck::<contract::ProcessParams<'_>, contract::ProcessResult>(&ty.instance_type())
            .map_err(|error| Refusal::WrongWorld {
                detail: format!(
                    "its function `process` has another type: {}",
                    mask::line(&format!("{error:#}"), 512)
                ),
            })
    }
}
