//! The private listener: health, metrics, and the calls of operators and tenants. It never has the public port.
//!
//! `tollgate_api::calls` lists every call with its permission and its types; the document at `/openapi.json` is generated from it.

mod access;
mod asked;
mod audit;
mod budgets;
mod bulk;
mod fixture;
mod health;
mod issues;
mod hosts;
mod lately;
mod listener;
mod lists;
mod pauses;
mod plugins;
mod portal;
mod pulls;
mod quarantine;
mod replay;
mod resend;
mod review;
mod settings;
mod state;
mod trials;
mod tryouts;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tollgate_api::replay::ReplayOf;
use tollgate_api::{ErrorBody, FieldProblem, calls};
use tollgate_core::access::Permission;
use tollgate_core::review::Target;
use tollgate_core::time::UnixMillis;
use tollgate_store::{Control, Drain, HostIdentity, Outbox, StoreError, Views, WalStanding};

use crate::clock;
use crate::config::Config;
use crate::delivery::DeliveryCounters;
use crate::edge::RefusedRequests;
use crate::registry::{Registry, Turns};
use crate::telemetry::EdgeCounters;
use crate::worker::{Quarantines, WorkerCounters};
pub(crate) use access::Gate;
pub use access::{issue_token, known_tenant, not_issued};
use asked::{Answered, Asked, Routes as _};
pub use fixture::{NoFixture, fixture_of};
pub(crate) use health::Progress;
pub(crate) use lately::Steps;
pub use lists::{count as count_by_now, list as list_by_now};
pub use portal::{NoLink, create_link, links};
pub(crate) use pulls::Pulls;
pub use replay::replay as replay_by_now;
pub(crate) use replay::routed_now;
pub use resend::resend as resend_by_now;
pub(crate) use review::map;
pub use review::{ReviewError, review as review_by_now};
pub use state::{edit as edit_state_by_now, state as state_by_now};
pub(crate) use tryouts::Tryouts;

/// What the calls take and return, generated from their table once somebody asks.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| tollgate_api::document::document().to_string());

/// Everything that the calls work on.
pub(crate) struct Operator<S> {
    pub(crate) store: S,
    /// The configuration that is in effect now; it says where a mapped receipt's jobs go.
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) registry: Arc<Registry<S>>,
    pub(crate) counters: Arc<EdgeCounters>,
    /// What the edge refused.
    pub(crate) refused: Arc<RefusedRequests>,
    pub(crate) worker_counters: Arc<WorkerCounters>,
    pub(crate) delivery_counters: Arc<DeliveryCounters>,
    /// All of these, to be written as text.
    pub(crate) metrics: MetricsRegistry,
    pub(crate) progress: Progress,
    /// When the process began to serve.
    pub(crate) started_at: UnixMillis,
    pub(crate) quarantines: Arc<Quarantines>,
    pub(crate) gate: Gate,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) wal_standing: Box<dyn Fn() -> WalStanding + Send + Sync>,
    /// Told when a bulk action is begun.
    pub(crate) bulk_begun: Arc<Notify>,
    pub(crate) identity: HostIdentity,
    /// Why nothing can be written at present.
    pub(crate) away: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Why this host claims nothing, if a person has it drained.
    pub(crate) drain: Box<dyn Fn() -> Option<Drain> + Send + Sync>,
    /// What was done lately.
    pub(crate) steps: Steps,
    /// Who waits for something to pull.
    pub(crate) pulls: Pulls,
    /// Turns at the one trial that runs at a time.
    pub(crate) trial: Turns,
    /// What test events go through, and how many there may be.
    pub(crate) tryouts: Tryouts,
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
pub(crate) async fn serve<S: Views + Control + Outbox>(
    operator: Operator<S>,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) {
    let operator = Arc::new(operator);
    let guarded = Router::new()
        .call(trace::<S>)
        .call(dead_letters::<S>)
        .call(replay::<S>)
        .call(resend::<S>)
        .call(held::<S>)
        .call(held_counts::<S>)
        .call(review::<S>);
    let guarded = [
        access::calls,
        audit::calls,
        budgets::calls,
        bulk::calls,
        fixture::calls,
        issues::calls,
        lists::calls,
        health::calls,
        hosts::calls,
        lately::calls,
        pauses::calls,
        plugins::calls,
        portal::calls,
        pulls::calls,
        quarantine::calls,
        settings::calls,
        state::calls,
        trials::calls,
        tryouts::calls,
    ]
    .into_iter()
    .fold(guarded, |router, calls| calls(router))
    .route_layer(middleware::from_fn_with_state(
        Arc::clone(&operator),
        access::authorize::<S>,
    ));
    let watched = Arc::clone(&operator);
    let calls = guarded.with_state(Arc::clone(&operator));
    // The console is one more client of the calls, without a socket between.
    let console = tollgate_console::router(tollgate_console::Host {
        calls: calls.clone(),
        now: clock::now,
        random: |bytes| getrandom::fill(bytes).is_ok(),
        embed: {
            let config = Arc::clone(&operator.config);
            Arc::new(move || config.load().console.embed.clone())
        },
    });
    let router = Router::new()
        .route("/healthz", get(health::health::<S>))
        .route("/readyz", get(health::readiness::<S>))
        .route(
            "/openapi.json",
            get(async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())),
        )
        .with_state(operator)
        .merge(calls)
        .merge(console);
    let watching = tokio::spawn(lately::watch(watched, shutdown.clone()));
    listener::serve(router, listener, shutdown).await;
    let _ = watching.await;
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
        ReplayOf::HeldJobs(filter) => {
            // To run what is held is to decide about it.
            caller.may(Permission::ReviewWrite, caller.tenant.as_ref())?;
            filter.tenant = caller.narrowed(filter.tenant.take())?;
        }
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
