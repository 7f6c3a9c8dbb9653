//! Whether the host does its work, asked in three ways: `/healthz` and `/readyz` for machines that restart and route, `/metrics` for
//! Prometheus, and `GET /v1/status` for a person. None of them changes anything, and all but the first answer while the store does not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use prometheus_client::encoding::prometheus_text;
use tokio_util::sync::CancellationToken;
use tollgate_api::calls;
use tollgate_api::status::{Attention, Configured, HostStatus, Part, StoreStatus};
use tollgate_core::ids::TenantName;
use tollgate_core::mask;
use tollgate_store::{Control, Counts, Drain, OldestWaiting, Pause, Quarantine, SetAsideCount, StoreError, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal};
use crate::clock;
use crate::config::{Config, Runs, StoreConfig};
use crate::memory;
use crate::telemetry::{Beyond, Snapshot};
use crate::watch;

/// How long the store may take to say how it is. Prometheus waits ten seconds.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// From here on a job waits for too long; as in ops/alerts.yml.
const JOBS_LATE_S: u64 = 600;
/// From here on a delivery waits for too long; as in ops/alerts.yml.
const DELIVERIES_LATE_S: u64 = 3600;
/// A disk with less than one part in so many left is filling up; as in ops/alerts.yml.
const DISK_PARTS: u64 = 10;
/// Names that one line of a status lists.
const NAMES_MAX: usize = 3;

/// What of the process says whether it is ready.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    loaded: Arc<AtomicBool>,
    shutdown: CancellationToken,
}

impl Progress {
    pub(crate) fn until(shutdown: CancellationToken) -> Self {
        Self {
            loaded: Arc::default(),
            shutdown,
        }
    }

    /// The plugins that the files name are loaded, and jobs are run.
    pub(crate) fn has_loaded(&self) {
        self.loaded.store(true, Ordering::Relaxed);
    }

    /// What is to be said of these parts; `store` is what is wrong with that.
    fn parts(&self, store: Option<String>, drain: Option<&Drain>) -> Vec<Part> {
        let part = |name: &str, wrong: Option<String>, says: &str| Part {
            name: name.to_owned(),
            works: wrong.is_none(),
            says: wrong.unwrap_or_else(|| says.to_owned()),
        };
        let loading = (!self.loaded.load(Ordering::Relaxed))
            .then(|| "they are being compiled; jobs wait until they are loaded".to_owned());
        let drained = drain.map(|Drain { by, why, .. }| {
            let because = if why.is_empty() {
                String::new()
            } else {
                format!(": {why}")
            };
            format!("it claims none, because {by} has it drained{because}")
        });
        let stopping = self.shutdown.is_cancelled().then(|| "it stops".to_owned());
        vec![
            part("store", store, "it answers"),
            part("plugins", loading, "they are loaded"),
            part("work", drained, "it is claimed"),
            part("process", stopping, "it runs"),
        ]
    }
}

/// The calls about the host itself.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router
        .other(calls::Metrics, metrics::<S>)
        .call(status::<S>)
        .call(counts::<S>)
}

/// `GET /healthz`: whether the process and its store answer.
pub(super) async fn health<S: Views + Control>(
    State(operator): State<Arc<Operator<S>>>,
) -> Result<&'static str, Refusal> {
    operator.store.next_due().await?;
    Ok("ok\n")
}

/// Why the store cannot be asked, or not be written to.
fn wrong_with_store<S>(operator: &Operator<S>, asked: Option<&StoreError>) -> Option<String> {
    let away = || Some(format!("nothing can be written: {}", (operator.away)()?));
    asked.map(ToString::to_string).or_else(away)
}

/// `GET /readyz`: whether every part works, one line for each.
pub(super) async fn readiness<S: Views + Control>(State(operator): State<Arc<Operator<S>>>) -> (StatusCode, String) {
    let store = in_time(operator.store.next_due()).await;
    let wrong = wrong_with_store(&operator, store.as_ref().err());
    let parts = operator.progress.parts(wrong, (operator.drain)().as_ref());
    let mut text = String::new();
    for Part { name, works, says } in &parts {
        let word = if *works { "ok" } else { "not ready" };
        let _ = writeln!(text, "{name}: {word}: {}", mask::line(says, 200));
    }
    let status = match parts.iter().all(|part| part.works) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, text)
}

async fn counts<S: Views + Control>(operator: Arc<Operator<S>>, _: Asked<calls::Counts>) -> Answered<calls::Counts> {
    Ok(operator.store.counts().await?)
}

/// What the store says of one moment.
struct Stored {
    counts: Counts,
    oldest: OldestWaiting,
    set_aside: Vec<SetAsideCount>,
    quarantined: Vec<Quarantine>,
    paused: Vec<Pause>,
}

impl Stored {
    async fn read<S: Views + Control>(operator: &Operator<S>) -> Result<Self, StoreError> {
        let store = &operator.store;
        let read = async {
            Ok(Self {
                counts: store.counts().await?,
                oldest: store.oldest_waiting().await?,
                set_aside: store.set_aside_counts(None).await?,
                quarantined: operator.quarantines.held(store).await?.all(),
                paused: store.pauses().await?,
            })
        };
        in_time(read).await
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(STORE_PATIENCE, asked)
        .await
        .unwrap_or(Err(StoreError::Busy))
}

/// The disk of the store.
struct Disk {
    free_bytes: u64,
    bytes: u64,
}

impl Disk {
    /// None of a store that is not this machine's.
    fn of(store: &StoreConfig) -> Option<Self> {
        let disk = store.url.is_none().then(|| rustix::fs::statvfs(&store.path).ok())??;
        Some(Self {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    fn is_filling_up(&self) -> bool {
        self.free_bytes < self.bytes / DISK_PARTS
    }
}

/// `GET /metrics`.
async fn metrics<S: Views + Control>(
    State(operator): State<Arc<Operator<S>>>,
) -> Result<([(HeaderName, &'static str); 1], String), Refusal> {
    let config = operator.config.load_full();
    // Whatever the configuration has by now, and nothing happened to yet.
    operator.counters.begin_at_zero(&config);
    operator.worker_counters.begin_at_zero(&config);
    operator.delivery_counters.begin_at_zero(&config);
    let stored = Stored::read(&operator).await;
    let snapshot = snapshot(&operator, &config, stored.as_ref()).into_registry();
    let mut text = String::new();
    prometheus_text::encode(&mut text, &operator.metrics)
        .and_then(|()| prometheus_text::encode(&mut text, &snapshot))
        .map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The gauges of now. Those of the store are missing while it does not answer.
fn snapshot<S: Views + Control>(
    operator: &Operator<S>,
    config: &Config,
    stored: Result<&Stored, &StoreError>,
) -> Snapshot {
    let mut gauges = Snapshot::default();
    // A drain is somebody's will, which nobody is woken for.
    let parts = operator.progress.parts(wrong_with_store(operator, stored.err()), None);
    gauges.one(
        "process_start_time_seconds",
        "When the host began to serve, in seconds since 1970.",
        operator.started_at.0 / 1000,
    );
    if let Some(bytes) = memory::resident_bytes() {
        gauges.one(
            "process_resident_memory_bytes",
            "Memory of the host's process.",
            signed(bytes),
        );
    }
    gauges.each(
        "tollgate_build_info",
        "The host's version; always 1.",
        Beyond::Greatest,
        [([Some(("version", env!("CARGO_PKG_VERSION").to_owned()))], 1)],
    );
    gauges.one(
        "tollgate_ready",
        "Whether every part of the host works, as /readyz says; a drained host's do.",
        i64::from(parts.iter().all(|part| part.works)),
    );
    gauges.one(
        "tollgate_drained",
        "Whether a person has the host drained: it claims no work.",
        i64::from((operator.drain)().is_some()),
    );
    gauges.one(
        "tollgate_store_up",
        "Whether the store answers.",
        i64::from(stored.is_ok()),
    );
    gauges.one(
        "tollgate_clock_behind_seconds",
        "How far the system's clock was set back behind the host's own.",
        clock::behind_ms().max(0) / 1000,
    );
    gauges.one(
        "tollgate_plugins_loaded",
        "Plugins that are compiled and in memory.",
        signed(operator.registry.shelf().len() as u64),
    );
    let wal = (operator.wal_standing)();
    gauges.one(
        "tollgate_store_wal_bytes",
        "Length of the write-ahead log of the store's index.",
        signed(wal.bytes),
    );
    gauges.one(
        "tollgate_store_wal_pinned_seconds",
        "How long a reader has kept the store's WAL over twice its bound; 0 while none does.",
        wal.pinned_for.map_or(0, |pinned| signed(pinned.as_secs())),
    );
    if let Some(disk) = Disk::of(&config.store) {
        gauges.one(
            "tollgate_store_disk_free_bytes",
            "What the store's disk has left.",
            signed(disk.free_bytes),
        );
        gauges.one(
            "tollgate_store_disk_bytes",
            "How large the store's disk is.",
            signed(disk.bytes),
        );
    }
    of_configuration(&mut gauges, config);
    if let Ok(stored) = stored {
        of_store(&mut gauges, stored);
    }
    gauges
}

/// Secrets that end, and tenants that do not run as their files say.
fn of_configuration(gauges: &mut Snapshot, config: &Config) {
    gauges.each(
        "tollgate_secret_expires_seconds",
        "Seconds until a source's secret ends; negative since it has.",
        Beyond::Least,
        watch::expiries(config, clock::wall()).map(|expiry| {
            let labels = [
                Some(("tenant", expiry.tenant.to_string())),
                Some(("source", expiry.source.to_string())),
                Some(("secret", expiry.secret.to_string())),
            ];
            (labels, expiry.left_s)
        }),
    );
    for (name, help, of) in [
        (
            "tollgate_tenant_config_stale",
            "The tenant's file is wrong; it keeps its last good configuration.",
            (|runs| matches!(runs, Runs::LastGood { .. })) as fn(Runs) -> bool,
        ),
        (
            "tollgate_tenant_config_misfit",
            "A plugin's schema refuses a configuration in the tenant's file; it runs as written.",
            |runs| runs == Runs::AsWritten,
        ),
        (
            "tollgate_tenant_config_left_out",
            "The tenant's file is wrong and nothing good is known of it: it is left out, or what it set by API.",
            |runs| matches!(runs, Runs::Nothing | Runs::FileAlone),
        ),
    ] {
        let such = config.broken.iter().filter(|(_, broken)| of(broken.runs));
        let series = such.map(|(tenant, _)| ([Some(("tenant", tenant.clone()))], 1));
        gauges.each(name, help, Beyond::Sum, series);
    }
}

/// What waits, and what is set aside.
fn of_store(gauges: &mut Snapshot, stored: &Stored) {
    let Stored {
        counts,
        oldest,
        set_aside,
        quarantined,
        paused,
    } = stored;
    let now = clock::now();
    for (name, help, value) in [
        (
            "tollgate_jobs_waiting",
            "Jobs that are not finished.",
            counts.jobs_waiting,
        ),
        (
            "tollgate_outbox_waiting",
            "Actions that are not delivered yet.",
            counts.outbox_waiting,
        ),
        (
            "tollgate_dead_letters_open",
            "Dead letters that nobody replayed.",
            counts.dead_letters_open,
        ),
        ("tollgate_held", "Receipts that wait for review.", counts.held),
        (
            "tollgate_paused",
            "Routes and destinations that somebody paused.",
            paused.len() as u64,
        ),
        (
            "tollgate_jobs_oldest_waiting_seconds",
            "How long ago the event came in of the oldest job that is not finished; 0 where none waits.",
            age_s(oldest.job).unwrap_or(0),
        ),
        (
            "tollgate_outbox_oldest_waiting_seconds",
            "How long ago the oldest action was recorded that is not delivered yet; 0 where none waits.",
            age_s(oldest.delivery).unwrap_or(0),
        ),
    ] {
        gauges.one(name, help, signed(value));
    }
    let place = |count: &SetAsideCount| {
        let place = match (&count.route, &count.source) {
            (Some(route), _) => Some(("route", route.to_string())),
            (None, Some(source)) => Some(("source", source.to_string())),
            (None, None) => None,
        };
        [
            Some(("tenant", count.tenant.to_string())),
            place,
            Some(("kind", count.kind.as_str().to_owned())),
        ]
    };
    gauges.each(
        "tollgate_set_aside",
        "Events and jobs without the effect that they would have had, by place and kind.",
        Beyond::Sum,
        set_aside.iter().map(|count| (place(count), signed(count.count))),
    );
    gauges.each(
        "tollgate_set_aside_oldest_seconds",
        "How long the oldest of them has been so.",
        Beyond::Greatest,
        set_aside
            .iter()
            .filter(|count| count.count > 0)
            .map(|count| (place(count), now.since(count.oldest_at).max(0) / 1000)),
    );
    gauges.each(
        "tollgate_quarantined",
        "Versions of plugins that are in quarantine, by tenant, route and plugin.",
        Beyond::Sum,
        quarantined.iter().map(|one| {
            let labels = [
                Some(("tenant", one.tenant.to_string())),
                Some(("route", one.route.to_string())),
                Some(("plugin", one.plugin.to_string())),
            ];
            (labels, 1)
        }),
    );
}

/// How long ago that was.
fn age_s(since: Option<tollgate_core::time::UnixMillis>) -> Option<u64> {
    since.map(|since| u64::try_from(clock::now().since(since) / 1000).unwrap_or(0))
}

/// `GET /v1/status`.
async fn status<S: Views + Control>(operator: Arc<Operator<S>>, _: Asked<calls::Status>) -> Answered<calls::Status> {
    let config = operator.config.load_full();
    let stored = Stored::read(&operator).await;
    let wrong = wrong_with_store(&operator, stored.as_ref().err());
    let parts = operator.progress.parts(wrong, (operator.drain)().as_ref());
    let disk = Disk::of(&config.store);
    let wal = (operator.wal_standing)();
    let stored = stored.ok();
    let facts = Facts {
        disk: disk.as_ref(),
        pinned_s: wal.pinned_for.map_or(0, |pinned| pinned.as_secs()),
        broken: broken_tenants(&config),
        secrets: watch::expiries(&config, clock::wall())
            .filter(watch::Expiry::is_near)
            .map(|expiry| format!("{}/{}", expiry.tenant, expiry.source))
            .collect(),
        breakers_open: operator
            .delivery_counters
            .breakers
            .all_open()
            .iter()
            .map(|(tenant, destination)| format!("{tenant}/{destination}"))
            .collect(),
        stored: stored.as_ref(),
    };
    let of_all = |count: fn(&crate::config::Tenant) -> usize| config.tenants.values().map(count).sum();
    Ok(HostStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: operator.started_at,
        at: clock::now(),
        ready: parts.iter().all(|part| part.works),
        parts,
        store: StoreStatus {
            kind: if config.store.url.is_some() {
                "postgresql"
            } else {
                "local"
            }
            .to_owned(),
            disk_free_bytes: disk.as_ref().map(|disk| disk.free_bytes),
            disk_bytes: disk.as_ref().map(|disk| disk.bytes),
            wal_bytes: wal.bytes,
        },
        configured: Configured {
            tenants: config.tenants.len(),
            sources: of_all(|tenant| tenant.sources.len()),
            routes: of_all(|tenant| tenant.routes.len()),
            destinations: of_all(|tenant| tenant.destinations.len()),
        },
        counts: stored.as_ref().map(|stored| stored.counts),
        oldest_job_s: stored.as_ref().and_then(|stored| age_s(stored.oldest.job)),
        oldest_delivery_s: stored.as_ref().and_then(|stored| age_s(stored.oldest.delivery)),
        attention: attention(&facts),
    })
}

/// Tenants whose files are wrong, or whose settings do not fit their files.
fn broken_tenants(config: &crate::config::Config) -> Vec<String> {
    let said = config.broken.keys().map(|name| {
        let is_of_settings = name
            .parse::<TenantName>()
            .is_ok_and(|name| config.tenants.contains_key(&name) && !config.has_in_effect(&name));
        if is_of_settings {
            format!("{name} (its settings)")
        } else {
            name.clone()
        }
    });
    said.collect()
}

/// What a status is made of, as far as it may need somebody.
struct Facts<'a> {
    disk: Option<&'a Disk>,
    /// How long a reader has kept the WAL.
    pinned_s: u64,
    /// Tenants whose files are wrong.
    broken: Vec<String>,
    /// Sources whose secrets end soon or have ended.
    secrets: Vec<String>,
    breakers_open: Vec<String>,
    stored: Option<&'a Stored>,
}

/// What does not mend itself, the most urgent first. Each is a section of docs/operate.md, and most are an alert too.
fn attention(facts: &Facts<'_>) -> Vec<Attention> {
    let mut found = Vec::new();
    let mut add = |section: &str, count: u64, says: String, first: &str| {
        if count > 0 {
            found.push(Attention {
                section: section.to_owned(),
                count,
                says,
                first: first.to_owned(),
            });
        }
    };
    if let Some(disk) = facts.disk.filter(|disk| disk.is_filling_up()) {
        let percent = disk.free_bytes.saturating_mul(100) / disk.bytes.max(1);
        let says = format!("the store's disk has {percent} % left");
        add("TollgateDiskFilling", 1, says, "df -h");
    }
    let named = |what: &str, names: &[String]| format!("{what}: {}", some(names));
    add(
        "TollgateTenantConfigBroken",
        facts.broken.len() as u64,
        named("tenants whose files are wrong", &facts.broken),
        "tollgate check",
    );
    add(
        "TollgateBreakerOpen",
        facts.breakers_open.len() as u64,
        named("destinations that get nothing for now", &facts.breakers_open),
        "tollgate trace",
    );
    if let Some(stored) = facts.stored {
        let (jobs, deliveries) = (age_s(stored.oldest.job), age_s(stored.oldest.delivery));
        if jobs.is_some_and(|age| age > JOBS_LATE_S) {
            let says = "jobs wait, the oldest for too long".to_owned();
            add("TollgateJobsLate", stored.counts.jobs_waiting, says, "tollgate trace");
        }
        if deliveries.is_some_and(|age| age > DELIVERIES_LATE_S) {
            let says = "deliveries wait, the oldest for too long".to_owned();
            add(
                "TollgateDeliveriesLate",
                stored.counts.outbox_waiting,
                says,
                "tollgate trace",
            );
        }
        let mut routes: BTreeMap<String, u64> = BTreeMap::new();
        for one in &stored.quarantined {
            *routes.entry(format!("{}/{}", one.tenant, one.route)).or_default() += 1;
        }
        let routes: Vec<_> = routes.into_keys().collect();
        add(
            "TollgatePluginQuarantined",
            stored.quarantined.len() as u64,
            named("versions of plugins in quarantine on routes", &routes),
            "tollgate plugin quarantined",
        );
        let paused = |pause: &Pause| format!("{} {}/{}", pause.place.kind(), pause.tenant, pause.place.name());
        let paused: Vec<_> = stored.paused.iter().map(paused).collect();
        add(
            "Paused",
            paused.len() as u64,
            named("paused by somebody", &paused),
            "tollgate paused",
        );
        add(
            "TollgateDeadLetters",
            stored.counts.dead_letters_open,
            "dead letters that nobody replayed".to_owned(),
            "tollgate dlq list",
        );
        let waiting = stored.set_aside.iter().filter(|count| count.kind.waits());
        add(
            "TollgateReviewWaits",
            waiting.map(|count| count.count).sum(),
            "set aside until somebody decides".to_owned(),
            "tollgate review --counts",
        );
    }
    add(
        "TollgateSecretEnds",
        facts.secrets.len() as u64,
        named("secrets that end soon or have ended, of sources", &facts.secrets),
        "tollgate check",
    );
    add(
        "TollgateWalPinned",
        u64::from(facts.pinned_s > 0),
        format!("a reader has kept the store's WAL for {} s", facts.pinned_s),
        "lsof STORE",
    );
    found
}

/// The first of these names, and how many there are more.
fn some(names: &[String]) -> String {
    let first: Vec<_> = names.iter().take(NAMES_MAX).map(|name| mask::line(name, 80)).collect();
    match names.len().saturating_sub(NAMES_MAX) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o7_a_status_and_the_alerts_call_the_same_things_late() {
        let alerts = include_str!("../../../../ops/alerts.yml");
        for expr in [
            format!("tollgate_jobs_oldest_waiting_seconds > {JOBS_LATE_S}"),
            format!("tollgate_outbox_oldest_waiting_seconds > {DELIVERIES_LATE_S}"),
            format!("tollgate_store_disk_free_bytes * {DISK_PARTS} < tollgate_store_disk_bytes"),
        ] {
            assert!(alerts.contains(&expr), "{expr}");
        }
    }

    #[test]
    fn o7_a_host_is_ready_while_all_of_its_parts_work() {
        let shutdown = CancellationToken::new();
        let progress = Progress::until(shutdown.clone());
        let broken = |store: Option<&str>| {
            let parts = progress.parts(store.map(str::to_owned), None).into_iter();
            parts
                .filter(|part| !part.works)
                .map(|part| part.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(broken(None), ["plugins"]);
        progress.has_loaded();
        assert_eq!(broken(None), [""; 0]);
        assert_eq!(broken(Some("it is busy")), ["store"]);
        let drain = Drain {
            at: tollgate_core::time::UnixMillis(0),
            by: "ann".to_owned(),
            why: "a new kernel".to_owned(),
        };
        let work = &progress.parts(None, Some(&drain))[2];
        assert_eq!((work.name.as_str(), work.works), ("work", false));
        assert!(work.says.contains("ann has it drained: a new kernel"), "{}", work.says);
        shutdown.cancel();
        assert_eq!(broken(None), ["process"]);
    }

    #[test]
    fn o7_a_status_names_what_needs_somebody_and_nothing_else() {
        let quiet = Facts {
            disk: Some(&Disk {
                free_bytes: 50,
                bytes: 100,
            }),
            pinned_s: 0,
            broken: Vec::new(),
            secrets: Vec::new(),
            breakers_open: Vec::new(),
            stored: None,
        };
        assert_eq!(attention(&quiet), []);
        let loud = Facts {
            disk: Some(&Disk {
                free_bytes: 9,
                bytes: 100,
            }),
            breakers_open: ["a/x", "a/y", "b/x", "b/y", "c/z"].map(str::to_owned).to_vec(),
            ..quiet
        };
        let found = attention(&loud);
        let sections: Vec<_> = found.iter().map(|one| (one.section.as_str(), one.count)).collect();
        assert_eq!(sections, [("TollgateDiskFilling", 1), ("TollgateBreakerOpen", 5)]);
        assert_eq!(found[0].says, "the store's disk has 9 % left");
        assert_eq!(
            found[1].says,
            "destinations that get nothing for now: a/x, a/y, b/x and 2 more"
        );
    }
}
