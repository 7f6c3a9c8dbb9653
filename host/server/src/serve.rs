//! `tollgate serve`: starts every part of the host, waits for a signal, and stops the parts in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tollgate_core::ids::{HostName, TenantName};
use tollgate_sandbox::{CacheDir, Compiler, Sandbox, SandboxOptions};
use tollgate_store::{HostIdentity, Store as _};

use crate::bulk;
use crate::clock;
use crate::config::{self, Config, Kept, LastGood, PluginFiles, Runs, Settled};
use crate::delivery::{self, DeliveryCounters};
use crate::edge::{self, Edge, Listeners, RefusedRequests};
use crate::failpoints;
use crate::issues;
use crate::log;
use crate::memory;
use crate::operator::{self, Operator, Progress};
use crate::registry::{self, Loaded, Registry, Shelf, Turns};
use crate::store::{self, HostStore};
use crate::telemetry::{self, EdgeCounters};
use crate::thread_priority;
use crate::watch;
use crate::worker::{self, Quarantines, Worker, WorkerCounters};

/// The hidden command under which the program that uses this library compiles plugins in a child process: it has to call
/// [`tollgate_sandbox::compile_child_main`].
pub const COMPILE_PLUGIN: &str = "compile-plugin";

/// What is said where there is no private listener.
const NO_OPERATOR: &str = "none";
/// Address space of the compiler's child process. A componentized Python program of 18 MB needs most of it.
const COMPILER_MEMORY_BYTES_MAX: u64 = 6 * 1024 * 1024 * 1024;
/// The child may use one in so many parts of the machine's memory and processors.
const COMPILER_SHARE: u64 = 2;
/// Less is of no use to a compiler, however small the machine is.
const COMPILER_MEMORY_BYTES_LEAST: u64 = 1024 * 1024 * 1024;
/// Time of the compiler's child process. An unoptimised Cranelift on a busy machine needs most of it.
const COMPILER_MS_MAX: u64 = 120_000;

/// Runs the host until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// When it cannot start: bad configuration, a plugin that is refused, a store in use, a port taken; or when the store's disk failed.
pub fn serve(path: &Path, tenants: BrokenTenants) -> anyhow::Result<()> {
    failpoints::check().map_err(anyhow::Error::msg)?;
    let mut draft = config::Draft::read(path, &variable, PluginFiles::Unchecked);
    draft.accepted()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("back")
        .on_thread_start(thread_priority::lower_to_work)
        .enable_all()
        .build()?;
    // Before an address is open, and with it anybody's sign that there is a host to reload: unheard, a hangup ends the process.
    let hangup = {
        let _entered = runtime.enter();
        signal(SignalKind::hangup())?
    };
    // First of all: an address that somebody else has is known at once, and whoever connects from now on is kept, not refused.
    let listeners = edge::listen(draft.edge())?;
    let identity = identity(draft.host());
    let store = store::open_as(draft.store(), identity.clone())?;
    let last_good = LastGood::beside(&draft.store().path);
    let published = runtime.block_on(registry::published(&store))?;
    let kept = |tenant: &TenantName| last_good.read(tenant);
    let settled = draft.read_tenants(&variable, &published, &kept)?.settle();
    if tenants == BrokenTenants::Refused {
        refuse_unknown(&settled.config)?;
    }
    let sandbox = sandbox(&settled.config)?;
    let shelf = Arc::new(Shelf::new(store.clone(), sandbox.clone()));
    let stopped = runtime.block_on(async {
        let registry = Registry::start(store.clone(), sandbox, shelf, settled.config.clone()).await?;
        let host = Host {
            path: path.to_owned(),
            identity,
            store,
            config: registry.config(),
            registry: Arc::new(registry),
            counters: Arc::default(),
            refused: Arc::new(RefusedRequests::since(clock::now())),
            bulk_begun: Arc::default(),
            outbox_woke: Arc::default(),
            shutdown: CancellationToken::new(),
            last_good,
        };
        host.run(listeners, settled, hangup).await
    });
    // What still compiles is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    stopped
}

/// What a start does about a tenant whose file is wrong and of which nothing good is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenTenants {
    /// It does not start.
    Refused,
    /// It starts without that tenant.
    LeftOut,
}

/// This process, as the host that its configuration names.
fn identity(name: &HostName) -> HostIdentity {
    HostIdentity {
        name: name.clone(),
        process: format!("{name}/{}", std::process::id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// # Errors
/// When a tenant's file is wrong and nothing good is known of it.
fn refuse_unknown(config: &Config) -> Result<(), config::Problems> {
    config
        .broken
        .values()
        .filter(|broken| broken.runs == Runs::Nothing)
        .map(|broken| broken.problems.clone())
        .reduce(config::Problems::and)
        .map_or(Ok(()), |problems| {
            Err(problems.with_note(
                "nothing good is known of this tenant yet; `tollgate serve --without-broken-tenants` starts without it",
            ))
        })
}

/// Says of each tenant whose file is wrong what it runs meanwhile.
fn say_broken(config: &Config) {
    for (tenant, broken) in &config.broken {
        let problems = broken.problems.in_words();
        match broken.runs {
            Runs::LastGood { of, since } if sets_aside(config, tenant) => tracing::error!(
                %tenant, %of, %since, problems,
                "what the tenant set by API does not fit its file; the tenant keeps its last good configuration"
            ),
            Runs::FileAlone => tracing::error!(
                %tenant, problems,
                "what the tenant set by API does not fit its file, and nothing good is known of both; the tenant runs its file alone"
            ),
            Runs::LastGood { of, since } => tracing::error!(
                %tenant, %of, %since, problems,
                "the tenant's file is wrong; the tenant keeps its last good configuration"
            ),
            Runs::AsWritten => tracing::error!(
                %tenant, problems,
                "a plugin's schema refuses a configuration in the tenant's file; it runs as written, and the plugin holds what it cannot read"
            ),
            Runs::Nothing => tracing::error!(
                %tenant, problems,
                "the tenant's file is wrong and nothing good is known of it; the tenant is left out"
            ),
        }
    }
}

fn sets_aside(config: &Config, tenant: &str) -> bool {
    tenant.parse().is_ok_and(|tenant| !config.has_in_effect(&tenant))
}

/// The sandbox as the configuration wants it: plugins are compiled in a child process and cached between starts.
pub fn sandbox(config: &Config) -> anyhow::Result<Sandbox> {
    let options = SandboxOptions {
        // Beside the worker's threads of both classes: shadows, one component that is vetted, one trial.
        instances_max: u32::try_from(config.worker.threads.max(1) * 2 + 4).unwrap_or(u32::MAX),
        cache: config.worker.cache.clone().map(|path| CacheDir {
            path,
            bytes_max: config.worker.cache_bytes_max,
        }),
        compiler: compiler()?,
        ..SandboxOptions::default()
    };
    Sandbox::new(options).context("the sandbox cannot start")
}

/// This program, run as the compiler's child process.
pub fn compiler() -> anyhow::Result<Compiler> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Compiler::Child {
        program,
        args: vec![COMPILE_PLUGIN.into()],
        memory_bytes_max: memory::bytes()
            .map_or(COMPILER_MEMORY_BYTES_MAX, |all| all / COMPILER_SHARE)
            .clamp(COMPILER_MEMORY_BYTES_LEAST, COMPILER_MEMORY_BYTES_MAX),
        ms_max: COMPILER_MS_MAX,
        threads: std::thread::available_parallelism().map_or(1, |all| all.get() / COMPILER_SHARE as usize),
    })
}

/// Has the system let this process open as many files as it may, and answers how many. Service managers start processes with a
/// thousand, for the sake of programs that use `select`, and leave it to the others to ask for more.
fn open_files_max() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    if let Err(error) = &raised {
        tracing::warn!(%error, "the number of open files stays as it was");
    }
    let reached = if raised.is_ok() { maximum } else { current };
    reached.unwrap_or(u64::MAX)
}

/// What the operator may say to the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen(hangup: Signal) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }
}

/// How often hosts tell each other what they let in.
const RATES_EXCHANGED_EVERY: Duration = Duration::from_millis(200);

/// Has tenants' rates hold over all hosts, about.
async fn exchange_rates(edge: Arc<Edge<HostStore>>, store: HostStore, shutdown: CancellationToken) {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(RATES_EXCHANGED_EVERY))
        .await
        .is_some()
    {
        let config = edge.config.load();
        edge.buckets
            .tell_others(&config.edge.rates, |kept| store.exchange_rates(kept));
    }
}

struct Host {
    path: PathBuf,
    identity: HostIdentity,
    store: HostStore,
    registry: Arc<Registry<HostStore>>,
    config: Arc<ArcSwap<Config>>,
    counters: Arc<EdgeCounters>,
    refused: Arc<RefusedRequests>,
    /// Told when a bulk action is begun.
    bulk_begun: Arc<Notify>,
    /// Told when something may have come into the outbox.
    outbox_woke: Arc<Notify>,
    shutdown: CancellationToken,
    last_good: LastGood,
}

/// A reload's number, and what it came to.
type Reload = (u64, anyhow::Result<Loaded>);

impl Host {
    /// Keeps what is in effect now for a start after a tenant's file was spoilt, and says which tenants are not as their files say.
    fn keep(&self, good: &BTreeMap<TenantName, Kept>) {
        let config = self.config.load();
        self.store.set_configuration(&config.fingerprint());
        say_broken(&config);
        let stale = config
            .broken
            .iter()
            .filter_map(|(name, broken)| {
                let since = match broken.runs {
                    Runs::LastGood { since, .. } => since,
                    Runs::AsWritten | Runs::Nothing | Runs::FileAlone => clock::now(),
                };
                Some((name.parse().ok()?, since))
            })
            .collect();
        if let Err(error) = self.last_good.keep(good, &stale) {
            tracing::warn!(%error, "the tenants' good configurations could not be kept; until they are, a start asks for files without errors");
        }
    }

    /// Takes events in at once, and runs their jobs as soon as the plugins are loaded: compiling them may take minutes, and
    /// senders do not wait.
    async fn run(self, listeners: Listeners, settled: Settled, hangup: Signal) -> anyhow::Result<()> {
        // Before anybody can connect: a stop that is asked for at once is a stop like any other.
        let mut signals = Signals::listen(hangup)?;
        let keys = Arc::new(edge::Keys::beside(&self.config.load().store.path));
        let edge = Arc::new(Edge {
            store: self.store.clone(),
            config: Arc::clone(&self.config),
            counters: Arc::clone(&self.counters),
            refused: Arc::clone(&self.refused),
            body_bytes: AtomicUsize::new(0),
            buckets: edge::Buckets::default(),
            keys: Arc::clone(&keys),
            shutdown: self.shutdown.clone(),
        });
        let worker = Worker {
            name: self.identity.process.clone(),
            store: self.store.clone(),
            config: Arc::clone(&self.config),
            shelf: self.registry.shelf(),
            counters: Arc::<WorkerCounters>::default(),
            quarantines: Arc::new(Quarantines::new(&self.store)),
            shutdown: self.shutdown.clone(),
        };
        let delivery_counters = Arc::<DeliveryCounters>::default();
        let progress = Progress::until(self.shutdown.clone());
        let mut tasks = tokio::task::JoinSet::new();
        let operator_address = self
            .start_operator(&edge, &worker, &delivery_counters, &progress, &mut tasks)
            .await?;
        if self.store.is_shared() {
            tasks.spawn(exchange_rates(
                Arc::clone(&edge),
                self.store.clone(),
                self.shutdown.clone(),
            ));
        }
        tasks.spawn(keys.keep(Arc::clone(&self.config), self.shutdown.clone()));
        tasks.spawn(watch::run(
            Arc::clone(&self.config),
            Arc::clone(&self.counters),
            self.shutdown.clone(),
        ));
        tasks.spawn(issues::run(
            self.store.clone(),
            Arc::clone(&self.config),
            self.shutdown.clone(),
        ));
        tasks.spawn(bulk::run(
            self.store.clone(),
            Arc::clone(&self.config),
            Arc::clone(&self.bulk_begun),
            self.shutdown.clone(),
        ));
        tasks.spawn(delivery::run(
            self.identity.process.clone(),
            self.store.clone(),
            Arc::clone(&self.config),
            delivery_counters,
            Arc::clone(&self.outbox_woke),
            self.shutdown.clone(),
        ));
        let address = listeners.address;
        let edge_threads = edge::start(edge, listeners, open_files_max())?;
        tracing::info!(edge = %address, operator = operator_address, "events are taken in; their jobs wait until the plugins are loaded");

        let stop = match self.load_plugins(&mut signals, settled).await {
            Ok(Began::Loaded) => {
                tasks.spawn(worker::run(worker));
                tasks.spawn(Arc::clone(&self.registry).follow_changes(self.shutdown.clone()));
                progress.has_loaded();
                let console = (operator_address != NO_OPERATOR).then(|| format!("http://{operator_address}/console"));
                tracing::info!(edge = %address, operator = operator_address, console, "tollgate is up");
                self.wait(signals).await
            }
            Ok(Began::Stopped) => Ok(()),
            Err(error) => Err(error),
        };

        self.shutdown.cancel();
        tracing::info!("stopping: no new connections, running work is finished");
        while tasks.join_next().await.is_some() {}
        let joined =
            tokio::task::spawn_blocking(move || edge_threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = joined.await;
        self.store.close().await;
        tracing::info!("stopped");
        stop
    }

    /// Starts the private listener, where there is to be one. Its address, for the log.
    async fn start_operator(
        &self,
        edge: &Arc<Edge<HostStore>>,
        worker: &Worker<HostStore>,
        delivery_counters: &Arc<DeliveryCounters>,
        progress: &Progress,
        tasks: &mut tokio::task::JoinSet<()>,
    ) -> anyhow::Result<String> {
        let settings = self.config.load().operator.clone();
        let (Some(listen), Some(token)) = (settings.listen, settings.token) else {
            return Ok(NO_OPERATOR.to_owned());
        };
        let listener = operator::listen(listen).await?;
        let address = listener.local_addr()?;
        let mut metrics = telemetry::registry();
        self.counters.register(&mut metrics);
        worker.counters.register(&mut metrics);
        delivery_counters.register(&mut metrics);
        log::register(&mut metrics);
        let operator = Operator {
            steps: operator::Steps::default(),
            pulls: operator::Pulls::new(Arc::clone(&self.outbox_woke), self.shutdown.clone()),
            store: self.store.clone(),
            config: Arc::clone(&self.config),
            registry: Arc::clone(&self.registry),
            counters: Arc::clone(&self.counters),
            refused: Arc::clone(&self.refused),
            worker_counters: Arc::clone(&worker.counters),
            delivery_counters: Arc::clone(delivery_counters),
            metrics,
            progress: progress.clone(),
            started_at: clock::now(),
            gate: operator::Gate::new(&self.store, token),
            address,
            bulk_begun: Arc::clone(&self.bulk_begun),
            trial: Turns::default(),
            tryouts: operator::Tryouts::new({
                let edge = Arc::clone(edge);
                Box::new(move |request, place| Box::pin(edge::ask_own(Arc::clone(&edge), request, place)))
            }),
            quarantines: Arc::clone(&worker.quarantines),
            wal_standing: {
                let store = self.store.clone();
                Box::new(move || store.wal_standing())
            },
            identity: self.identity.clone(),
            away: {
                let store = self.store.clone();
                Box::new(move || store.away())
            },
            drain: {
                let store = self.store.clone();
                Box::new(move || store.drain())
            },
        };
        tasks.spawn(operator::serve(operator, listener, self.shutdown.clone()));
        Ok(address.to_string())
    }

    /// Loads the plugins that the files name, for as long as compiling takes, or until the host is to stop.
    ///
    /// # Errors
    /// When one is refused, or the store fails.
    async fn load_plugins(&self, signals: &mut Signals, settled: Settled) -> anyhow::Result<Began> {
        let registry = Arc::clone(&self.registry);
        let loading =
            tokio::task::spawn_blocking(move || registry::load(&registry.shelf(), registry.sandbox(), settled));
        let loaded = tokio::select! {
            loaded = loading => loaded??,
            _ = signals.terminate.recv() => return Ok(Began::Stopped),
            _ = signals.interrupt.recv() => return Ok(Began::Stopped),
            () = self.shutdown.cancelled() => return Err(disk_failed()),
        };
        let good = loaded.good().clone();
        self.registry.begin(loaded).await?;
        self.keep(&good);
        Ok(Began::Loaded)
    }

    /// Waits for a signal to stop, or for the store to fail; reloads on SIGHUP.
    async fn wait(&self, mut signals: Signals) -> anyhow::Result<()> {
        let mut reloads: tokio::task::JoinSet<Reload> = tokio::task::JoinSet::new();
        // A reload compiles, perhaps for minutes, and a later one may be through before. The newest one that has come to an end counts.
        let (mut begun, mut ended) = (0_u64, 0_u64);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.interrupt.recv() => return Ok(()),
                // Meanwhile the host can be stopped.
                _ = signals.hangup.recv() => {
                    begun += 1;
                    let (number, path, registry) = (begun, self.path.clone(), Arc::clone(&self.registry));
                    let (store, last_good) = (self.store.clone(), self.last_good.clone());
                    let runtime = tokio::runtime::Handle::current();
                    reloads.spawn_blocking(move || (number, load(&path, &registry, &store, &last_good, &runtime)));
                }
                Some(reload) = reloads.join_next() => match reload {
                    Ok((number, _)) if number < ended => {
                        tracing::warn!("a reload ended after a later one and is dropped");
                    }
                    Ok((number, loaded)) => {
                        ended = number;
                        self.adopt(loaded).await;
                    }
                    Err(error) => tracing::error!(%error, "a reload broke off; the old configuration stays"),
                },
                () = self.shutdown.cancelled() => return Err(disk_failed()),
            }
        }
    }

    /// Swaps in what was loaded, if all of it is valid; else keeps the old configuration and says why.
    async fn adopt(&self, loaded: anyhow::Result<Loaded>) {
        let before = self.config.load_full();
        let adopted = match loaded {
            Ok(loaded) => self.registry.adopt(loaded).await,
            Err(error) => Err(error),
        };
        match adopted {
            Ok(good) => {
                self.keep(&good);
                say_gone_destinations(&before, &self.config.load());
                tracing::info!(
                    "configuration reloaded; addresses, threads and the store keep their settings until a restart"
                );
            }
            Err(error) => tracing::error!("configuration not reloaded, the old one stays: {error:#}"),
        }
    }
}

/// How the first load of the plugins ended.
enum Began {
    Loaded,
    /// The host is to stop.
    Stopped,
}

fn disk_failed() -> anyhow::Error {
    anyhow::anyhow!("the store's disk failed; mend the disk and start again: what was acknowledged is in the store")
}

/// Says which destinations a reload took away, before what waits for them is given up.
fn say_gone_destinations(before: &Config, after: &Config) {
    for (name, tenant) in &before.tenants {
        let Some(now) = after.tenants.get(name) else { continue };
        for destination in tenant.destinations.keys().filter(|old| now.destination(old).is_none()) {
            tracing::warn!(
                tenant = %name, %destination,
                "the destination is gone: what waits for it becomes dead letters; if another took its place, say formerly = [\"{destination}\"] there"
            );
        }
    }
}

/// Reads the configuration and loads its plugins. Takes as long as compiling takes.
fn load(
    path: &Path,
    registry: &Registry<HostStore>,
    store: &HostStore,
    last_good: &LastGood,
    runtime: &tokio::runtime::Handle,
) -> anyhow::Result<Loaded> {
    let published = runtime.block_on(registry::published(store))?;
    let mut draft = config::Draft::read(path, &variable, PluginFiles::Unchecked);
    draft.accepted()?;
    let kept = |tenant: &TenantName| last_good.read(tenant);
    let settled = draft.read_tenants(&variable, &published, &kept)?.settle();
    registry::load(&registry.shelf(), registry.sandbox(), settled)
}
