//! The private listener: health, metrics, and what an operator asks and does. Never on the public port.
//!
//! | call | answers |
//! |---|---|
//! | `GET /healthz` | 200 while the store can be read; needs no token |
//! | `GET /metrics` | counters in Prometheus' text format |
//! | `GET /v1/counts` | how much of everything there is |
//! | `GET /v1/trace?id=…` | everything that became of the receipts that an identifier names |
//! | `GET /v1/dead-letters?…` | the dead-letter queue |
//! | `POST /v1/replay` | replays dead letters or a receipt; `dry_run` first |
//! | `GET /v1/held?…` | receipts that wait for review |
//! | `POST /v1/review` | maps or dismisses one; `dry_run` first; 409 when that cannot be |

mod review;
mod wire;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use tollgate_core::review::ReviewBody;
use tollgate_core::secret::Secret;
use tollgate_store::{Store, StoreError};

use crate::clock;
use crate::config::Config;
use crate::telemetry::EdgeCounters;
pub(crate) use review::{ReviewError, review as review_receipt};
pub(crate) use wire::{DeadLetterQuery, HeldQuery, ReplayBody};

/// How long running requests may go on after shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What the private listener speaks for.
pub(crate) struct Operator<S> {
    pub(crate) store: S,
    /// Says where a mapped receipt's jobs go.
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) counters: Arc<EdgeCounters>,
    pub(crate) token: Secret,
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
pub(crate) async fn serve<S: Store>(
    operator: Operator<S>,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) {
    let operator = Arc::new(operator);
    let guarded = Router::new()
        .route("/metrics", get(metrics::<S>))
        .route("/v1/counts", get(counts::<S>))
        .route("/v1/trace", get(trace::<S>))
        .route("/v1/dead-letters", get(dead_letters::<S>))
        .route("/v1/replay", post(replay::<S>))
        .route("/v1/held", get(held::<S>))
        .route("/v1/review", post(review::<S>))
        .layer(middleware::from_fn_with_state(Arc::clone(&operator), authorize::<S>));
    let router = Router::new()
        .route("/healthz", get(health::<S>))
        .merge(guarded)
        .with_state(operator);
    let stopped = shutdown.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
    // A peer that began a request and does not end it must not hold the stop up.
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = serving.into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "the private listener stopped");
            }
        }
        () = overdue => tracing::warn!("some requests on the private listener did not end before the stop"),
    }
}

/// An answer that is not the one asked for.
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }
}
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
            StoreError::Full | StoreError::Closed | StoreError::NoSpace { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: error.to_string(),
        }
    }
}
impl From<ReviewError> for Refusal {
    fn from(error: ReviewError) -> Self {
        match error {
            ReviewError::Store(error) => error.into(),
            ReviewError::Refused(message) => Self {
                status: StatusCode::CONFLICT,
                message,
            },
        }
    }
}
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.message }))).into_response()
    }
}

async fn authorize<S: Store>(State(operator): State<Arc<Operator<S>>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|token| operator.token.matches(token)) {
        return next.run(request).await;
    }
    let message = "send the operator's token as `Authorization: Bearer …`".to_owned();
    Refusal {
        status: StatusCode::UNAUTHORIZED,
        message,
    }
    .into_response()
}

async fn health<S: Store>(State(operator): State<Arc<Operator<S>>>) -> Result<&'static str, Refusal> {
    operator.store.next_due().await?;
    Ok("ok\n")
}

async fn counts<S: Store>(State(operator): State<Arc<Operator<S>>>) -> Result<Response, Refusal> {
    Ok(Json(operator.store.counts().await?).into_response())
}

async fn metrics<S: Store>(State(operator): State<Arc<Operator<S>>>) -> Result<String, Refusal> {
    let mut text = String::new();
    operator.counters.render(&mut text);
    let counts = operator.store.counts().await?;
    for (name, help, value) in [
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
    Ok(text)
}

async fn trace<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Query(query): Query<wire::TraceParameters>,
) -> Result<Response, Refusal> {
    Ok(Json(operator.store.trace(query.checked().map_err(Refusal::bad)?).await?).into_response())
}

async fn dead_letters<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Query(query): Query<DeadLetterQuery>,
) -> Result<Response, Refusal> {
    let filter = query.checked().map_err(Refusal::bad)?;
    Ok(Json(operator.store.dead_letters(filter).await?).into_response())
}

async fn replay<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let body: ReplayBody = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad(format!("the body is not a replay request: {error}")))?;
    let request = body.checked(clock::now()).map_err(Refusal::bad)?;
    Ok(Json(operator.store.replay(request).await?).into_response())
}

async fn held<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Query(query): Query<HeldQuery>,
) -> Result<Response, Refusal> {
    let filter = query.checked().map_err(Refusal::bad)?;
    Ok(Json(operator.store.held(filter).await?).into_response())
}

async fn review<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let body: ReviewBody =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad(format!("the body is not a review: {error}")))?;
    let asked = body.checked().map_err(Refusal::bad)?;
    let config = operator.config.load_full();
    let report = review_receipt(&operator.store, &config, asked, clock::now()).await?;
    Ok(Json(report).into_response())
}
