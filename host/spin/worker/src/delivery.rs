//! Delivery: recorded actions leave here, and only here, as signed HTTP requests.
//!
//! Where they may go is bounded twice: by the tenant's file, and by `allowed_outbound_hosts` of spin.toml, which Spin enforces.
//! No redirect is followed. What an attempt's end means is the core's decision, committed by the store under the lease.

use tollgate_core::delivery::{AttemptEnd, Content, kept_answer, retry_after_ms};
use tollgate_core::forward;
use tollgate_core::ids::KeyId;
use tollgate_core::limits;
use tollgate_core::own_header;
use tollgate_core::profile::Profile;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_store::{AttemptRecord, AttemptRecorded, GuestStore, OutboxClaim, StoreError};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::{tenants, variable, web};
use tollgate_tenants::{Parameter, Work};

use crate::work::{claim_request, patiently};

const USER_AGENT: &str = concat!("tollgate-spin/", env!("CARGO_PKG_VERSION"));
/// Entries leased at once: their attempts go side by side, and all must end within their lease.
const ENTRIES_AT_ONCE: usize = 16;

/// Attempts every delivery that is due, up to a bound. Answers how many.
pub(crate) async fn deliver_due(store: &GuestStore) -> Result<usize, StoreError> {
    // Looking takes no lock.
    if store.next_due()?.outbox.is_none_or(|due| due > clock::now()) {
        return Ok(0);
    }
    let claims = store.claim_outbox(&claim_request(limits::OUTBOX_LEASE_MS, ENTRIES_AT_ONCE))?;
    if claims.is_empty() {
        return Ok(0);
    }
    let attempts = futures::future::join_all(claims.iter().map(|claim| attempt(store, claim))).await;
    for recorded in patiently(|| store.record_attempts(&attempts))? {
        // Another invocation that took the entry over decides what follows; the attempt is kept as history all the same.
        let (AttemptRecorded::Recorded | AttemptRecorded::LeaseLost) = recorded;
    }
    Ok(claims.len())
}

/// One attempt, from composing to what follows from its end.
async fn attempt(store: &GuestStore, claim: &OutboxClaim) -> AttemptRecord {
    let started_at = clock::now();
    let watch = Stopwatch::start();
    let (end, answer) = match destination(claim) {
        Ok(destination) => send(store, claim, &destination, started_at).await,
        Err(end) => (end, String::new()),
    };
    let took = (started_at, watch.micros());
    claim.attempted(took, end, answer, &RetryPolicy::DELIVERIES, clock::moment())
}

/// Where an entry goes, and what signs it.
struct Destination {
    url: String,
    secrets: Vec<SourceSecret>,
    headers: Vec<(String, Secret)>,
    timeout_ms: u64,
    signing: Profile,
}

fn destination(claim: &OutboxClaim) -> Result<Destination, AttemptEnd> {
    let failed = |reason: String| AttemptEnd::Failed { reason };
    let gone = || AttemptEnd::Forbidden {
        reason: format!(
            "the destination `{}` is no longer configured; restore it, then replay",
            claim.destination
        ),
    };
    let Work {
        mut destinations,
        signing,
        ..
    } = tenants::work(&claim.tenant).map_err(failed)?.ok_or_else(gone)?;
    let found = destinations.remove(&claim.destination).ok_or_else(gone)?;
    let mut secrets = Vec::new();
    for (at, secret) in found.secrets.iter().enumerate() {
        secrets.push(SourceSecret {
            id: KeyId::new(&format!("{}", at + 1)).map_err(|error| failed(error.to_string()))?,
            text: variable(secret).map_err(failed)?,
            not_before: None,
            not_after: None,
        });
    }
    let mut headers = Vec::new();
    for (name, value) in found.headers {
        let value = match value {
            Parameter::Text(text) => Secret::new(text),
            Parameter::Secret(reference) => variable(&reference).map_err(failed)?,
        };
        own_header::check_value(value.expose()).map_err(|problem| failed(format!("its header `{name}`: {problem}")))?;
        headers.push((name, value));
    }
    Ok(Destination {
        url: found.url,
        secrets,
        headers,
        timeout_ms: found.timeout_ms,
        signing,
    })
}

async fn send(
    store: &GuestStore,
    claim: &OutboxClaim,
    destination: &Destination,
    at: UnixMillis,
) -> (AttemptEnd, String) {
    let failed = |reason: String| (AttemptEnd::Failed { reason }, String::new());
    // The outbox does not hold what is handed on: it stands in the receipt.
    let event = match forward::form_of(&claim.action_json) {
        Some(form) => match store.event(claim.receipt) {
            Ok(event) => Some((form, event)),
            Err(error) => return failed(format!("the event could not be read: {error}")),
        },
        None => None,
    };
    let content = match &event {
        Some((form, event)) => Content::Event { form: *form, event },
        None => Content::Action(&claim.action_json),
    };
    let message = claim.message(content);
    let body = message.body();
    let mut headers = match message.headers(&destination.signing, &body, &destination.secrets, at) {
        Ok(headers) => headers,
        Err(error) => return failed(format!("cannot be signed: {error}")),
    };
    headers.push(("content-type".to_owned(), message.content_type().to_owned()));
    headers.push(("user-agent".to_owned(), USER_AGENT.to_owned()));
    // Headers that the source keeps: what the destination has of its own stands before one of them.
    for (name, value) in message.kept_headers() {
        if !destination.headers.iter().any(|(own, _)| own == name) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let own = destination.headers.iter();
    headers.extend(own.map(|(name, value)| (name.clone(), String::from_utf8_lossy(value.expose()).into_owned())));
    let posting = web::post(&destination.url, headers, body, limits::ANSWER_BYTES_KEPT);
    match clock::within(destination.timeout_ms, posting).await {
        None => failed(format!("no answer within {} ms", destination.timeout_ms)),
        Some(Err(reason)) => failed(reason),
        Some(Ok(reply)) => {
            let end = AttemptEnd::Answered {
                http_status: reply.status,
                retry_after_ms: reply
                    .header("retry-after")
                    .and_then(|value| retry_after_ms(value, clock::now())),
            };
            let secrets: Vec<_> = destination.headers.iter().map(|(_, value)| value).collect();
            (end, kept_answer(&reply.body, &secrets))
        }
    }
}
