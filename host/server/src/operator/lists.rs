//! Lists by filter: a page as JSON, or all pages as lines of JSON.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tollgate_api::lists::{Count, ListQuery, Listed, Page, place_number};
use tollgate_api::{Call, calls};
use tollgate_core::filter::Listing;
use tollgate_core::ids::TenantName;
use tollgate_core::undelivered::Sends;
use tollgate_store::{AskedList, Control, StoreError, Views};

use super::asked::{Answered, Asked, Heading, Routes as _};
use super::{Operator, Refusal};
use crate::clock;
use crate::config::Config;

/// What whoever wants lines of JSON accepts.
const NDJSON: &str = "application/x-ndjson";
/// Rows of one page of an export.
const EXPORT_ROWS: usize = 1000;
/// Pages of an export that wait for whoever reads them.
const EXPORT_PAGES_WAITING: usize = 2;

/// A page of a list, as the configuration of now has destinations.
///
/// # Errors
/// When the store cannot be read.
pub async fn list<L: Listed>(store: &impl Views, config: &Config, asked: AskedList) -> Result<Page<L>, StoreError> {
    let page = store.list(with_sends(config, asked)).await?;
    Ok(page.map(L::of))
}

/// How many of a list fit, as the configuration of now has destinations.
///
/// # Errors
/// When the store cannot be read.
pub async fn count(store: &impl Views, config: &Config, asked: AskedList) -> Result<Count, StoreError> {
    store.count(with_sends(config, asked)).await
}

/// Adds where routes send, for the list that asks it.
fn with_sends(config: &Config, asked: AskedList) -> AskedList {
    match asked.list {
        Listing::Undelivered => AskedList {
            sends: sends(config),
            ..asked
        },
        Listing::Events | Listing::Jobs | Listing::Runs | Listing::Actions | Listing::Deliveries | Listing::Refused => {
            asked
        }
    }
}

/// Where each tenant's routes send.
fn sends(config: &Config) -> BTreeMap<TenantName, Sends> {
    let of_tenant = |tenant: &crate::config::Tenant| {
        let mut sends = Sends::default();
        for destination in tenant.destinations.keys() {
            sends.to.entry(destination.clone()).or_default();
        }
        for route in &tenant.routes {
            for destination in &route.destinations {
                let routes = sends.to.entry(destination.clone()).or_default();
                routes.insert(route.name.clone());
            }
        }
        sends
    };
    let tenants = config.tenants.iter();
    tenants
        .map(|(name, tenant)| (name.clone(), of_tenant(tenant)))
        .collect()
}

/// The calls about lists.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router
        .other(calls::Events, page::<S, calls::Events, _>)
        .other(calls::Jobs, page::<S, calls::Jobs, _>)
        .other(calls::Runs, page::<S, calls::Runs, _>)
        .other(calls::Actions, page::<S, calls::Actions, _>)
        .other(calls::Deliveries, page::<S, calls::Deliveries, _>)
        .other(calls::Undelivered, page::<S, calls::Undelivered, _>)
        .other(calls::Refused, page::<S, calls::Refused, _>)
        .call(counted::<S>)
}

async fn counted<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Count>,
) -> Answered<calls::Count> {
    let mut asked = query.checked(clock::now()).map_err(Refusal::bad)?;
    asked.tenant = caller.narrowed(None)?;
    if !asked.list.is_of_events() {
        return Ok(operator.refused.count(&asked));
    }
    Ok(count(&operator.store, &operator.config.load_full(), asked).await?)
}

/// Answers a list: one page, or all of it as lines to whoever accepts those.
async fn page<S, C, L>(
    State(operator): State<Arc<Operator<S>>>,
    headers: HeaderMap,
    Heading { caller, query, .. }: Heading<C>,
) -> Result<Response, Refusal>
where
    S: Views + Control,
    C: Call<Query = ListQuery, Answer = Page<L>>,
    L: Listed,
{
    let now = clock::now();
    let is_bounded = query.limit.is_some();
    let mut asked = query.checked(L::LIST, now).map_err(Refusal::bad)?;
    asked.tenant = caller.narrowed(None)?;
    if !accepts_lines(&headers) {
        return Ok(Json(page_of::<S, L>(&operator, asked).await?).into_response());
    }
    let rows_left = is_bounded.then_some(asked.rows_max);
    Ok(export::<S, L>(operator, asked, rows_left))
}

/// A page of what the store has, or of what this host remembers.
async fn page_of<S: Views + Control, L: Listed>(
    operator: &Operator<S>,
    asked: AskedList,
) -> Result<Page<L>, StoreError> {
    if !asked.list.is_of_events() {
        return Ok(operator.refused.list(&asked).map(L::of));
    }
    list(&operator.store, &operator.config.load_full(), asked).await
}

fn accepts_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim() == NDJSON)
}

/// Reads page after page while somebody takes them. A store that fails meanwhile breaks the answer off, so that nobody takes a part for
/// the whole.
fn export<S: Views + Control, L: Listed>(
    operator: Arc<Operator<S>>,
    mut asked: AskedList,
    mut rows_left: Option<usize>,
) -> Response {
    let (sender, receiver) = mpsc::channel(EXPORT_PAGES_WAITING);
    tokio::spawn(async move {
        loop {
            asked.rows_max = rows_left.unwrap_or(EXPORT_ROWS).min(EXPORT_ROWS);
            let page = match page_of::<S, L>(&operator, asked.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            let mut lines = Vec::new();
            for item in &page.items {
                // None of the rows has what JSON cannot say.
                if serde_json::to_writer(&mut lines, item).is_ok() {
                    lines.push(b'\n');
                }
            }
            rows_left = rows_left.map(|rows| rows.saturating_sub(page.items.len()));
            let is_over = rows_left == Some(0);
            if !lines.is_empty() && sender.send(Ok(Bytes::from(lines))).await.is_err() {
                return;
            }
            match page.next.as_deref().and_then(|next| place_number(L::LIST, next)) {
                Some(next) if !is_over => asked.before = Some(next),
                Some(_) | None => return,
            }
        }
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::new(Lines(receiver))).into_response()
}

/// The body of an export.
struct Lines(mpsc::Receiver<Result<Bytes, StoreError>>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        self.0
            .poll_recv(context)
            .map(|lines| lines.map(|lines| lines.map(Frame::data)))
    }
}
