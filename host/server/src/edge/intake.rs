//! Intake, in the order of its steps: find the source, see who asks, take the body within bounds, verify, read, admit, answer.
//!
//! The order cannot be changed by mistake: `verify` alone makes a `Verified`, `read` takes nothing else, and `admit` is the only
//! way to an answer that says the event was kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tollgate_core::admission::{self, Admission, Disposition};
use tollgate_core::answer::{Answer, Happening, Rejection, answer};
use tollgate_core::envelope;
use tollgate_core::event::Event;
use tollgate_core::ids::Digest;
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::verify::{Verified, verify};
use tollgate_core::{limits, mask};
use tollgate_store::{Admitted, Store, StoreError};

use super::access::{self, Client, Peer};
use super::{Edge, credential};
use crate::clock;
use crate::config::{Config, EdgeConfig, Source, Tenant};

/// Answers one request.
pub(super) async fn handle<S: Store>(
    edge: &Edge<S>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let config = edge.config.load_full();
    let client = Client::of(&config.edge, peer, request.headers());
    let response = match locate(&config, client, &request) {
        Ok((tenant, source)) => answer_for(edge, &config, tenant, source, client, request).await,
        Err(rejection) => {
            let happening = Happening::Rejected(rejection);
            edge.counters.count(&happening);
            respond(&answer(&happening))
        }
    };
    Ok(response)
}

/// Finds the source that a request is for: `POST /in/{tenant}/{source}`.
fn locate<'c>(
    config: &'c Config,
    client: Client,
    request: &Request<Incoming>,
) -> Result<(&'c Tenant, &'c Source), Rejection> {
    if config.edge.require_https && !client.https {
        return Err(Rejection::Insecure);
    }
    let mut parts = request
        .uri()
        .path()
        .strip_prefix("/in/")
        .ok_or(Rejection::UnknownSource)?
        .splitn(2, '/');
    let (Some(tenant), Some(source)) = (parts.next(), parts.next()) else {
        return Err(Rejection::UnknownSource);
    };
    let tenant = config.tenants.get(tenant).ok_or(Rejection::UnknownSource)?;
    let source = tenant.sources.get(source).ok_or(Rejection::UnknownSource)?;
    if request.method() == Method::POST {
        Ok((tenant, source))
    } else {
        Err(Rejection::Method)
    }
}

/// Answers one request for a known source.
async fn answer_for<S: Store>(
    edge: &Edge<S>,
    config: &Config,
    tenant: &Tenant,
    source: &Source,
    client: Client,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let rate = config.edge.rates.of(&tenant.name);
    let (happening, retry_after_s) = match access::check(edge, tenant, source, rate, client, request.headers()) {
        Ok(()) => {
            let happening = take_in(edge, config, tenant, source, request).await;
            if let (Some(rate), Happening::Rejected(Rejection::Unauthentic)) = (rate, &happening) {
                edge.buckets.give_back(&tenant.name, rate);
            }
            (happening, None)
        }
        Err(refused) => (Happening::Rejected(refused.rejection), refused.retry_after_s),
    };
    edge.counters.count(&happening);
    let mut answer = answer(&happening);
    if source.conflict_409 && matches!(happening, Happening::Conflict(_)) {
        answer.http_status = 409;
    }
    answer.retry_after_s = retry_after_s.or(answer.retry_after_s);
    let mut response = respond(&answer);
    if answer.http_status == 401
        && let Some(asked_for) = credential::asked_for(&source.access.credentials)
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, asked_for);
    }
    response
}

/// Takes one request for a known source to its end.
async fn take_in<S: Store>(
    edge: &Edge<S>,
    config: &Config,
    tenant: &Tenant,
    source: &Source,
    request: Request<Incoming>,
) -> Happening {
    let (head, body) = request.into_parts();
    // Held until the answer: what waits for its commit takes memory as well.
    let mut held = HeldBytes {
        all: &edge.body_bytes,
        own: 0,
    };
    let body = match bounded_body(&config.edge, &head.headers, body, &mut held).await {
        Ok(body) => body,
        Err(rejection) => return Happening::Rejected(rejection),
    };
    let admission = match prove(edge, config, tenant, source, &head.headers, &body) {
        Ok(admission) => admission,
        Err(rejection) => return Happening::Rejected(rejection),
    };
    let receipt = admission.receipt;
    match edge.store.admit(admission).await {
        Ok(Admitted::New(Disposition::Accepted)) => Happening::Accepted(receipt),
        Ok(Admitted::New(Disposition::Superseded { .. })) => Happening::Superseded(receipt),
        Ok(Admitted::New(Disposition::Held { .. })) => Happening::Held(receipt),
        Ok(Admitted::Same { .. }) => Happening::Same(receipt),
        Ok(Admitted::Conflict { .. }) => Happening::Conflict(receipt),
        Err(error) => Happening::Rejected(unkept(edge, &error)),
    }
}

/// One request's share of the memory that bodies may take. Counted as bytes arrive, so that a peer cannot reserve by promising.
struct HeldBytes<'a> {
    all: &'a AtomicUsize,
    own: usize,
}

impl HeldBytes<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), Rejection> {
        self.own += bytes;
        let all = self.all.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > limits::EDGE_BODY_BYTES_MAX {
            Err(Rejection::Overloaded)
        } else {
            Ok(())
        }
    }
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// Reads a body within its bounds of size and time, before anything is spent on it.
async fn bounded_body(
    settings: &EdgeConfig,
    headers: &HeaderMap,
    body: Incoming,
    held: &mut HeldBytes<'_>,
) -> Result<Bytes, Rejection> {
    let header_bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if header_bytes > limits::HEADER_BYTES_MAX || headers.len() > limits::HEADER_COUNT_MAX {
        return Err(Rejection::HeadersTooLarge);
    }
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Rejection::Encoded);
    }
    let body_bytes_max = settings.body_bytes_max;
    if body.size_hint().lower() > body_bytes_max as u64 {
        return Err(Rejection::BodyTooLarge);
    }
    let deadline = Duration::from_millis(settings.body_read_ms_max);
    tokio::time::timeout(deadline, read_body(body, body_bytes_max, held))
        .await
        .unwrap_or(Err(Rejection::TooSlow))
}

async fn read_body(mut body: Incoming, body_bytes_max: usize, held: &mut HeldBytes<'_>) -> Result<Bytes, Rejection> {
    // Most bodies come in one piece, which is then used as it is.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        // A body that breaks off, or whose length or chunks lie, has no one left who would read the answer.
        let Ok(data) = frame.map_err(|_| Rejection::Malformed)?.into_data() else {
            continue;
        };
        body_bytes += data.len();
        if body_bytes > body_bytes_max {
            return Err(Rejection::BodyTooLarge);
        }
        held.take(data.len())?;
        if body_bytes == data.len() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Verifies and reads a request and makes everything that the durable commit needs. Pure but for counting refusals.
fn prove<S: Store>(
    edge: &Edge<S>,
    config: &Config,
    tenant: &Tenant,
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Admission, Rejection> {
    let received_at = clock::now();
    let headers: Vec<Header<'_>> = headers
        .iter()
        .map(|(name, value)| Header {
            name: name.as_str(),
            value: value.as_bytes(),
        })
        .collect();
    let request = RawRequest {
        headers: &headers,
        body,
        url: source.public_url.as_deref(),
        received_at,
    };
    let verified = verify(&source.profile, &source.keyring, request).map_err(|unproven| {
        if edge.counters.cause(unproven.reason(), received_at) {
            tracing::warn!(tenant = %tenant.name, source = %source.name, cause = unproven.reason(), "refused: {unproven}");
        }
        Rejection::Unauthentic
    })?;
    let event = envelope::read(&source.profile, &verified, &tenant.name, &source.name).map_err(|unreadable| {
        if edge.counters.cause(unreadable.reason(), received_at) {
            let detail = mask::line(&unreadable.to_string(), 200);
            tracing::warn!(tenant = %tenant.name, source = %source.name, cause = unreadable.reason(), "refused: {detail}");
        }
        Rejection::Malformed
    })?;
    Ok(admission(edge, config, tenant, event, &verified))
}

fn admission<S: Store>(
    edge: &Edge<S>,
    config: &Config,
    tenant: &Tenant,
    event: Event,
    verified: &Verified<'_>,
) -> Admission {
    let receipt = admission::receipt_id(edge.store.receipt_key(), &event.tenant, &event.source, &event.id);
    Admission {
        receipt,
        proof: verified.proof().clone(),
        body_digest: Digest::of(&event.payload),
        lifecycle: config.lifecycle_of(&event),
        jobs: tenant.jobs(&event, receipt),
        event: Arc::new(event),
    }
}

/// Nothing was kept: the sender must come again.
fn unkept<S: Store>(edge: &Edge<S>, error: &StoreError) -> Rejection {
    let (slug, rejection) = match error {
        StoreError::Full => ("store-queue-full", Rejection::Overloaded),
        StoreError::Closed => ("store-closed", Rejection::ShuttingDown),
        StoreError::NoSpace { .. } => ("store-no-space", Rejection::StoreUnavailable),
        StoreError::Fatal { .. } => ("store-fatal", Rejection::StoreUnavailable),
        _ => ("store-error", Rejection::StoreUnavailable),
    };
    if edge.counters.cause(slug, clock::now()) {
        tracing::error!(%error, "an event was not kept; its sender was asked to come again");
    }
    if matches!(error, StoreError::Fatal { .. }) {
        // What is on the disk is unknown. Stop; a restart finds out what was committed.
        edge.shutdown.cancel();
    }
    rejection
}

fn respond(answer: &Answer) -> Response<Full<Bytes>> {
    let body = match answer.receipt {
        Some(receipt) => format!("{{\"receipt\":\"{receipt}\",\"status\":\"{}\"}}\n", answer.status),
        None => format!("{{\"status\":\"{}\"}}\n", answer.status),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = answer.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer.http_status == 405 {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_bound_and_give_their_bytes_back() {
        let all = AtomicUsize::new(0);
        let hold = || HeldBytes { all: &all, own: 0 };
        let mut first = hold();
        assert_eq!(first.take(limits::EDGE_BODY_BYTES_MAX), Ok(()));
        let mut second = hold();
        assert_eq!(second.take(1), Err(Rejection::Overloaded));
        drop(first);
        assert_eq!(second.take(1), Ok(()));
        drop(second);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
