//! Intake, in the order of its steps: find the source, take the body within bounds, verify, read, admit, answer; then work.
//!
//! As on the native edge, `verify` alone makes a `Verified`, `read` takes nothing else, and the store is not even opened for a
//! request that did not prove itself.

use std::fmt::Display;

use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use tollgate_core::admission::Admission;
use tollgate_core::answer::{Ack, Answer, Happening, Rejection, answer, answer_all};
use tollgate_core::challenge::{self, Reply};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Credential, verify};
use tollgate_core::{envelope, lifecycle, mask};
use tollgate_store::{GuestStore, StoreError};

use crate::tenants::{Source, Tenant};
use crate::web::{self, Head, Whole};
use crate::{clock, database, log, worker};

/// How long an invocation goes on working after it has answered. What is left is the next one's, or the sweep's.
const WORK_MS_MAX: u64 = 10_000;

/// What a request that is not refused turned out to be.
enum Outcome {
    /// A question of the provider's, whose answer is all that it wants.
    Challenge(Reply),
    Events(Vec<Happening>, GuestStore),
}

pub(crate) async fn handle(head: Head, request: IncomingRequest, out: ResponseOutparam) {
    let (tenant, source) = match locate(&head) {
        Ok(found) => found,
        Err(rejection) => return web::respond(out, whole(&refusal(rejection, &Ack::default()))).await,
    };
    let outcome = if head.is("POST") {
        take_in(&head, &tenant, &source, request).await
    } else {
        preflight(&head, &source).map(Outcome::Challenge)
    };
    match outcome {
        Ok(Outcome::Challenge(reply)) => {
            let whole = Whole {
                status: reply.http_status,
                content_type: reply.content_type,
                headers: reply.headers,
                body: reply.body,
            };
            web::respond(out, whole).await;
        }
        Ok(Outcome::Events(happenings, store)) => {
            web::respond(out, whole(&answer_all(&happenings, &source.ack))).await;
            // Answered and durable. From here on the sender waits for nothing.
            worker::work(&store, WORK_MS_MAX).await;
        }
        Err(rejection) => {
            let refusal = refusal(rejection, &source.ack);
            let mut whole = whole(&refusal);
            if rejection == Rejection::Unauthentic && source.asks_basic {
                let challenge = "Basic realm=\"tollgate\", charset=\"UTF-8\"";
                whole.headers.push(("www-authenticate", challenge.to_owned()));
            }
            web::respond(out, whole).await;
        }
    }
}

fn refusal(rejection: Rejection, ack: &Ack) -> Answer {
    answer(&Happening::Rejected(rejection), ack)
}

fn whole(answer: &Answer) -> Whole<'_> {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    if let Some(seconds) = answer.retry_after_s {
        headers.push(("retry-after", seconds.to_string()));
    }
    if answer.http_status == 405 {
        headers.push(("allow", "POST".to_owned()));
    }
    Whole {
        status: answer.http_status,
        content_type: answer.content_type(),
        headers,
        body: answer.body().into_owned(),
    }
}

/// Finds the source that a request is for: `/in/{tenant}/{source}`.
fn locate(head: &Head) -> Result<(Tenant, Source), Rejection> {
    let mut parts = head
        .path
        .strip_prefix("/in/")
        .ok_or(Rejection::UnknownSource)?
        .splitn(2, '/');
    let (Some(tenant), Some(source)) = (parts.next(), parts.next()) else {
        return Err(Rejection::UnknownSource);
    };
    let (Ok(tenant), Ok(source)) = (tenant.parse(), source.parse()) else {
        return Err(Rejection::UnknownSource);
    };
    let tenant = match Tenant::load(&tenant) {
        Ok(tenant) => tenant.ok_or(Rejection::UnknownSource)?,
        Err(problem) => {
            log(&format!("tenant {tenant}: {problem}"));
            return Err(Rejection::StoreUnavailable);
        }
    };
    if !tenant.has_source(&source) {
        return Err(Rejection::UnknownSource);
    }
    match tenant.source(&source) {
        Ok(source) => Ok((tenant, source)),
        Err(problem) => {
            // The sender must come again: it is our configuration that is wrong, and its event must not be lost.
            log(&format!("tenant {}, source {source}: {problem}", tenant.name));
            Err(Rejection::StoreUnavailable)
        }
    }
}

/// The request as core sees it, without a body and as of no time.
fn raw_request<'a>(head: &'a Head, headers: &'a [Header<'a>], source: &'a Source) -> RawRequest<'a> {
    RawRequest {
        method: &head.method,
        query: head.query.as_deref(),
        headers,
        body: &[],
        url: source.public_url.as_deref(),
        received_at: UnixMillis(0),
    }
}

/// Answers a question that comes before any event and without a signature, where the profile knows one.
fn preflight(head: &Head, source: &Source) -> Result<Reply, Rejection> {
    head.check_bounds()?;
    let headers = head.headers();
    let reply = challenge::preflight(&source.profile, &source.keyring, &raw_request(head, &headers, source));
    reply.unwrap_or(Err(Rejection::Method))
}

async fn take_in(
    head: &Head,
    tenant: &Tenant,
    source: &Source,
    request: IncomingRequest,
) -> Result<Outcome, Rejection> {
    head.check_bounds()?;
    let refused = |cause: &str, detail: &dyn Display| {
        let detail = mask::line(&detail.to_string(), 200);
        log(&format!(
            "refused: tenant={} source={} cause={cause} {detail}",
            tenant.name, source.name
        ));
    };
    let headers = head.headers();
    let bare = raw_request(head, &headers, source);
    let is_let_in = |credential: &Credential| credential.check(&bare).is_ok();
    if !source.credentials.is_empty() && !source.credentials.iter().any(is_let_in) {
        refused("wrong-credential", &"the source asks for one beside the signature");
        return Err(Rejection::Unauthentic);
    }
    let body = web::body(request).await?;
    let request = RawRequest {
        body: &body,
        received_at: clock::now(),
        ..bare
    };
    let verified =
        verify(&source.profile, &source.keyring, request).map_err(|unproven| match unproven.needs_key() {
            // The sender must come again: that a key is not here says nothing about the request.
            Some(_) => {
                refused(
                    "key-unavailable",
                    &"the request names a key that is fetched, and Spin hosts fetch none: pin it as a secret",
                );
                Rejection::KeyUnavailable
            }
            None => {
                refused(unproven.reason(), &unproven);
                Rejection::Unauthentic
            }
        })?;
    if let Some(reply) = challenge::answer(&source.profile, &verified) {
        return Ok(Outcome::Challenge(reply));
    }
    let events = envelope::read(&source.profile, &verified, &tenant.name, &source.name).map_err(|unreadable| {
        refused(unreadable.reason(), &unreadable);
        Rejection::from(&unreadable)
    })?;
    let store = database::open().map_err(|error| unkept(&error))?;
    let admissions: Vec<_> = events
        .into_iter()
        .map(|event| {
            let lifecycle = event.reading.family().and_then(lifecycle::shipped_one).map(Into::into);
            let proof = verified.proof().clone();
            Admission::of(store.receipt_key(), event, proof, lifecycle, &mut tenant.matches())
        })
        .collect();
    let admitted = store.admit_all(&admissions).map_err(|error| unkept(&error))?;
    let happenings = admissions
        .iter()
        .zip(admitted)
        .map(|(admission, admitted)| admitted.happening(admission.receipt))
        .collect();
    Ok(Outcome::Events(happenings, store))
}

/// Nothing was kept: the sender must come again.
fn unkept(error: &StoreError) -> Rejection {
    log(&format!(
        "an event was not kept; its sender was asked to come again: {error}"
    ));
    match error {
        StoreError::Busy | StoreError::Full => Rejection::Overloaded,
        _ => Rejection::StoreUnavailable,
    }
}
