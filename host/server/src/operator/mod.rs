//! The private listener: health, metrics, and the calls of operators and tenants. It never has the public port.
//!
//! `tollgate_api::calls` lists every call with its permission and its types; the document at `/openapi.json` is generated from it.

mod access;
mod asked;
mod fixture;
mod listener;
mod lists;
mod plugins;
mod quarantine;
mod replay;
mod resend;
mod review;
mod state;
mod trials;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use tollgate_api::replay::ReplayOf;
use tollgate_api::{ErrorBody, FieldProblem, calls};
use tollgate_core::review::Target;
use tollgate_core::time::UnixMillis;
use tollgate_store::{Control, SetAsideCount, StoreError, Views, WalStanding};

use crate::clock;
use crate::config::{Config, Runs};
use crate::delivery::Breakers;
use crate::registry::{Registry, Turns};
use crate::telemetry::EdgeCounters;
use crate::watch;
use crate::worker::{Quarantines, WorkerCounters};
pub(crate) use access::Gate;
pub use access::{issue_token, known_tenant};
use asked::{Answered, Asked, Routes as _};
pub use fixture::{NoFixture, fixture_of};
pub use lists::{count as count_by_now, list as list_by_now};
pub use replay::replay as replay_by_now;
pub use resend::resend as resend_by_now;
pub use review::{ReviewError, review as review_by_now};
pub use state::{edit as edit_state_by_now, state as state_by_now};

/// What the calls take and return, generated from their table once somebody asks.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| tollgate_api::document::document().to_string());

/// Everything that the calls work on.
pub(crate) struct Operator<S> {
    pub(crate) store: S,
    /// The configuration that is in effect now; it says where a mapped receipt's jobs go.
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) registry: Arc<Registry<S>>,
    pub(crate) counters: Arc<EdgeCounters>,
    pub(crate) worker_counters: Arc<WorkerCounters>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) quarantines: Arc<Quarantines>,
    pub(crate) gate: Gate,
    pub(crate) wal_standing: Box<dyn Fn() -> WalStanding + Send + Sync>,
    /// Turns at the one trial that runs at a time.
    pub(crate) trial: Turns,
}

/// Binds the private listener.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; is the port taken?"))
}

/// Serves the private listener until shutdown.
pub(crate) async fn serve<S: Views + Control>(
    operator: Operator<S>,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) {
    let operator = Arc::new(operator);
    let guarded = Router::new()
        .other(calls::Metrics, metrics::<S>)
        .call(counts::<S>)
        .call(trace::<S>)
        .call(dead_letters::<S>)
        .call(replay::<S>)
        .call(resend::<S>)
        .call(held::<S>)
        .call(held_counts::<S>)
        .call(review::<S>);
    let guarded = [
        access::calls,
        fixture::calls,
        lists::calls,
        plugins::calls,
        quarantine::calls,
        state::calls,
        trials::calls,
    ]
    .into_iter()
    .fold(guarded, |router, calls| calls(router))
    .route_layer(middleware::from_fn_with_state(
        Arc::clone(&operator),
        access::authorize::<S>,
    ));
    let router = Router::new()
        .route("/healthz", get(health::<S>))
        .route(
            "/openapi.json",
            get(async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())),
        )
        .merge(guarded)
        .with_state(operator);
    listener::serve(router, listener, shutdown).await;
}

/// The answer to a call that is refused.
struct Refusal {
    status: StatusCode,
    message: String,
    /// A word for programs, where there is one.
    code: Option<&'static str>,
    /// Each thing that is wrong with what was sent, where there may be several.
    problems: Vec<FieldProblem>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            problems: Vec::new(),
        }
    }

    fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    fn with_problems(self, problems: Vec<FieldProblem>) -> Self {
        Self { problems, ..self }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
            StoreError::Illegal(_) => StatusCode::CONFLICT,
            StoreError::Full | StoreError::Closed | StoreError::NoSpace { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}
impl From<ReviewError> for Refusal {
    fn from(error: ReviewError) -> Self {
        match error {
            ReviewError::Store(error) => error.into(),
            ReviewError::Refused(message) => Self::new(StatusCode::CONFLICT, message),
        }
    }
}
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: self.message,
            code: self.code.map(str::to_owned),
            problems: self.problems,
        };
        (self.status, Json(body)).into_response()
    }
}

async fn health<S: Views + Control>(State(operator): State<Arc<Operator<S>>>) -> Result<&'static str, Refusal> {
    operator.store.next_due().await?;
    Ok("ok\n")
}

async fn counts<S: Views + Control>(operator: Arc<Operator<S>>, _: Asked<calls::Counts>) -> Answered<calls::Counts> {
    Ok(operator.store.counts().await?)
}

async fn metrics<S: Views + Control>(State(operator): State<Arc<Operator<S>>>) -> Result<String, Refusal> {
    let mut text = String::new();
    operator.counters.render(&mut text);
    operator.worker_counters.render(&mut text);
    operator.quarantines.held(&operator.store).await?.render(&mut text);
    operator.breakers.render(&mut text);
    watch::render(&operator.config.load(), clock::wall(), &mut text);
    let _ = writeln!(
        text,
        "# HELP tollgate_plugins_loaded Plugins that are compiled and in memory.\n# TYPE tollgate_plugins_loaded gauge\n\
         tollgate_plugins_loaded {}",
        operator.registry.shelf().len()
    );
    broken_tenants(&operator.config.load(), &mut text);
    let wal = (operator.wal_standing)();
    let pinned_s = wal.pinned_for.map_or(0, |pinned| pinned.as_secs());
    let counts = operator.store.counts().await?;
    for (name, help, value) in [
        ("store_wal_bytes", "Length of the store's write-ahead log.", wal.bytes),
        (
            "store_wal_pinned_seconds",
            "How long a reader has kept the store's WAL over twice its bound; 0 while none does.",
            pinned_s,
        ),
        ("jobs_waiting", "Jobs that are not finished.", counts.jobs_waiting),
        (
            "outbox_waiting",
            "Actions that are not delivered yet.",
            counts.outbox_waiting,
        ),
        (
            "dead_letters_open",
            "Dead letters that nobody replayed.",
            counts.dead_letters_open,
        ),
        ("held", "Receipts that wait for review.", counts.held),
    ] {
        let _ = writeln!(
            text,
            "# HELP tollgate_{name} {help}\n# TYPE tollgate_{name} gauge\ntollgate_{name} {value}"
        );
    }
    render_set_aside(&mut text, &operator.store.set_aside_counts(None).await?, clock::now());
    Ok(text)
}

/// Tenants that do not run as their files say.
fn broken_tenants(config: &Config, out: &mut String) {
    for (name, help, of) in [
        (
            "stale",
            "The tenant's file is wrong; it keeps its last good configuration.",
            (|runs| matches!(runs, Runs::LastGood { .. })) as fn(Runs) -> bool,
        ),
        (
            "misfit",
            "A plugin's schema refuses a configuration in the tenant's file; it runs as written.",
            |runs| runs == Runs::AsWritten,
        ),
        (
            "left_out",
            "The tenant's file is wrong and nothing good is known of it: it is left out.",
            |runs| runs == Runs::Nothing,
        ),
    ] {
        let _ = writeln!(
            out,
            "# HELP tollgate_tenant_config_{name} {help}\n# TYPE tollgate_tenant_config_{name} gauge"
        );
        for tenant in config
            .broken
            .iter()
            .filter(|(_, broken)| of(broken.runs))
            .map(|(tenant, _)| tenant)
        {
            // A file's name, not yet a tenant's: it may hold what a label may not.
            let label = tenant.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(out, "tollgate_tenant_config_{name}{{tenant=\"{label}\"}} 1");
        }
    }
}

/// The gauges of what is set aside, by place and kind, with the age of the oldest.
fn render_set_aside(text: &mut String, counts: &[SetAsideCount], now: UnixMillis) {
    let mut gauge = |name: &str, help: &str, value: fn(&SetAsideCount, UnixMillis) -> i64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for count in counts {
            let place = match (&count.route, &count.source) {
                (Some(route), _) => format!("route=\"{route}\""),
                (None, Some(source)) => format!("source=\"{source}\""),
                (None, None) => String::new(),
            };
            let (tenant, kind) = (&count.tenant, count.kind.as_str());
            let _ = writeln!(
                text,
                "{name}{{tenant=\"{tenant}\",{place},kind=\"{kind}\"}} {}",
                value(count, now)
            );
        }
    };
    gauge(
        "tollgate_set_aside",
        "Events and jobs without the effect that they would have had, by place and kind.",
        |count, _| i64::try_from(count.count).unwrap_or(i64::MAX),
    );
    gauge(
        "tollgate_set_aside_oldest_seconds",
        "How long the oldest of them has been so.",
        |count, now| now.since(count.oldest_at).max(0) / 1000,
    );
}

async fn trace<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Trace>,
) -> Answered<calls::Trace> {
    let mut query = query.checked().map_err(Refusal::bad)?;
    query.tenant = caller.narrowed(query.tenant)?;
    if let Some(after) = query.after {
        access::own(&operator.store, &caller, Target::Receipt(after)).await?;
    }
    Ok(operator.store.trace(query).await?)
}

async fn dead_letters<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::DeadLetters>,
) -> Answered<calls::DeadLetters> {
    let mut filter = query.checked().map_err(Refusal::bad)?;
    filter.tenant = caller.narrowed(filter.tenant)?;
    Ok(operator.store.dead_letters(filter).await?)
}

async fn replay<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::Replay>,
) -> Answered<calls::Replay> {
    let mut asked = body.checked().map_err(Refusal::bad)?;
    match &mut asked.what {
        ReplayOf::DeadLetters(filter) => filter.tenant = caller.narrowed(filter.tenant.take())?,
        ReplayOf::HeldJobs(filter) => filter.tenant = caller.narrowed(filter.tenant.take())?,
        ReplayOf::Receipt(receipt) => access::own(&operator.store, &caller, Target::Receipt(*receipt)).await?,
        ReplayOf::Receipts(filter) => filter.tenant = caller.narrowed(filter.tenant.take())?,
    }
    asked.actor = access::actor(&caller, asked.actor);
    let config = operator.config.load_full();
    Ok(replay_by_now(&operator.store, &config, asked, clock::now()).await?)
}

async fn resend<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::Resend>,
) -> Answered<calls::Resend> {
    let mut asked = body.checked().map_err(Refusal::bad)?;
    asked.of.tenant = caller.narrowed(asked.of.tenant.take())?;
    asked.actor = access::actor(&caller, asked.actor);
    let config = operator.config.load_full();
    Ok(resend_by_now(&operator.store, &config, asked, clock::now()).await?)
}

async fn held<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Held>,
) -> Answered<calls::Held> {
    let mut filter = query.checked().map_err(Refusal::bad)?;
    filter.tenant = caller.narrowed(filter.tenant)?;
    if let Some(after) = filter.after {
        access::own(&operator.store, &caller, after).await?;
    }
    Ok(operator.store.set_aside(filter).await?)
}

async fn held_counts<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::HeldCounts>,
) -> Answered<calls::HeldCounts> {
    let tenant = caller.narrowed(query.checked().map_err(Refusal::bad)?)?;
    Ok(operator.store.set_aside_counts(tenant).await?)
}

async fn review<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::Review>,
) -> Answered<calls::Review> {
    let mut asked = body.checked().map_err(Refusal::bad)?;
    access::own(&operator.store, &caller, asked.target).await?;
    asked.actor = access::actor(&caller, asked.actor);
    let config = operator.config.load_full();
    let report = review_by_now(&operator.store, &config, asked, clock::now()).await?;
    Ok(report)
}
