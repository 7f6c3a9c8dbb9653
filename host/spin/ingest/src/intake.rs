//! Intake, in the order of its steps: find the source, take the body within bounds, verify, read, admit, answer; then wake the
//! worker.
//!
//! As on the native edge, `verify` alone makes a `Verified`, `read` takes nothing else, and the store is not even opened for a
//! request that did not prove itself.

use std::fmt::Display;

use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use tollgate_core::admission::Admission;
use tollgate_core::answer::{Ack, Answer, Happening, Rejection, answer, answer_all};
use tollgate_core::challenge::{self, Reply};
use tollgate_core::request::{Header, RawRequest, source_of_path};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Credential, verify};
use tollgate_core::{envelope, mask};
use tollgate_spin_shell::web::{self, Head, Whole};
use tollgate_spin_shell::{SWEEP_TOKEN, clock, database, log, variable};
use tollgate_store::{GuestStore, StoreError};
use tollgate_tenants::Variable;

use crate::source::Source;

/// The worker's sweep, by service chaining.
const WORKER: &str = "http://worker.spin.internal/v1/sweep";
/// How long an invocation waits for the worker that it woke. The worker goes on after that; what it leaves is the timer's.
const WAIT_MS_MAX: u64 = 10_000;

/// What a request that is not refused turned out to be.
enum Outcome {
    /// A question of the provider's, whose answer is all that it wants.
    Challenge(Reply),
    Events {
        happenings: Vec<Happening>,
        /// Whether there is work that was not there before, and nobody who would find it.
        must_wake: bool,
        /// Closed when the sender has its answer: the last one that is closed syncs once more.
        store: GuestStore,
        /// How long it is left open, in milliseconds.
        keep_ms: u64,
    },
}

pub(crate) async fn handle(head: Head, request: IncomingRequest, out: ResponseOutparam) {
    let source = match locate(&head) {
        Ok(found) => found,
        Err(rejection) => return web::respond(out, whole(&refusal(rejection, &Ack::default()))).await,
    };
    let outcome = if head.is("POST") {
        take_in(&head, &source, request).await
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
        Ok(Outcome::Events {
            happenings,
            must_wake,
            store,
            keep_ms,
        }) => {
            web::respond(out, whole(&answer_all(&happenings, &source.intake.ack))).await;
            // Answered and durable. From here on the sender waits for nothing.
            if must_wake {
                wake_worker().await;
            }
            if keep_ms > 0 {
                clock::sleep(keep_ms).await;
            }
            drop(store);
        }
        Err(rejection) => {
            let mut refusal = refusal(rejection, &source.intake.ack);
            if rejection == Rejection::BodyTooLarge {
                refusal = refusal.with_body_bound(source.intake.body_bytes_max);
            }
            let mut whole = whole(&refusal);
            if rejection == Rejection::Unauthentic && !source.intake.basic.is_empty() {
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

/// Has the worker look at what is due. That it could not be called costs time and no event: the timer calls it too.
async fn wake_worker() {
    let token = match variable(&Variable(SWEEP_TOKEN.to_owned())) {
        Ok(token) => token,
        Err(problem) => return log(&format!("the worker cannot be woken: {problem}")),
    };
    let authorization = format!("Bearer {}", String::from_utf8_lossy(token.expose()));
    let posting = web::post(WORKER, vec![("authorization".to_owned(), authorization)], Vec::new(), 0);
    match clock::within(WAIT_MS_MAX, posting).await {
        Some(Ok(reply)) if reply.status != 200 => log(&format!("the worker answered {}", reply.status)),
        Some(Err(reason)) => log(&format!("the worker cannot be woken: {reason}")),
        Some(Ok(_)) | None => {}
    }
}

/// Finds the source that a request is for: `/in/{tenant}/{source}`.
fn locate(head: &Head) -> Result<Source, Rejection> {
    let (tenant, source) = source_of_path(&head.path).ok_or(Rejection::UnknownSource)?;
    let (Ok(tenant), Ok(source)) = (tenant.parse(), source.parse()) else {
        return Err(Rejection::UnknownSource);
    };
    match Source::load(tenant, source) {
        Ok(source) => source.ok_or(Rejection::UnknownSource),
        Err(problem) => {
            // The sender must come again: it is our configuration that is wrong, and its event must not be lost.
            log(&format!("{}: {problem}", head.path));
            Err(Rejection::StoreUnavailable)
        }
    }
}

/// The request as core sees it, without a body and as of no time.
fn raw_request<'a>(head: &'a Head, headers: &'a [Header<'a>], source: &'a Source) -> RawRequest<'a> {
    RawRequest {
        method: &head.method,
        path: Some(&head.path),
        query: head.query.as_deref(),
        headers,
        body: &[],
        url: source.intake.public_url.as_deref(),
        received_at: UnixMillis(0),
    }
}

/// Answers a question that comes before any event and without a signature, where the profile knows one.
fn preflight(head: &Head, source: &Source) -> Result<Reply, Rejection> {
    head.check_bounds(source.intake.body_bytes_max)?;
    let headers = head.headers();
    let reply = challenge::preflight(
        &source.intake.profile,
        &source.keyring,
        &raw_request(head, &headers, source),
    );
    reply.unwrap_or(Err(Rejection::Method))
}

async fn take_in(head: &Head, source: &Source, request: IncomingRequest) -> Result<Outcome, Rejection> {
    head.check_bounds(source.intake.body_bytes_max)?;
    let refused = |cause: &str, detail: &dyn Display| {
        let detail = mask::line(&detail.to_string(), 200);
        log(&format!(
            "refused: tenant={} source={} cause={cause} {detail}",
            source.tenant, source.name
        ));
    };
    let headers = head.headers();
    let bare = raw_request(head, &headers, source);
    let is_let_in = |credential: &Credential| credential.check(&bare).is_ok();
    if !source.credentials.is_empty() && !source.credentials.iter().any(is_let_in) {
        refused("wrong-credential", &"the source asks for one beside the signature");
        return Err(Rejection::Unauthentic);
    }
    let body = web::body(request, source.intake.body_bytes_max).await?;
    let request = RawRequest {
        body: &body,
        received_at: clock::now(),
        ..bare
    };
    let verified =
        verify(&source.intake.profile, &source.keyring, request).map_err(|unproven| match unproven.needs_key() {
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
    if let Some(reply) = challenge::answer(&source.intake.profile, &verified) {
        return Ok(Outcome::Challenge(reply));
    }
    let events =
        envelope::read(&source.intake.profile, &verified, &source.tenant, &source.name).map_err(|unreadable| {
            refused(unreadable.reason(), &unreadable);
            Rejection::from(&unreadable)
        })?;
    let store = database::open().map_err(|error| unkept(&error))?;
    let admissions: Vec<_> = events
        .into_iter()
        .enumerate()
        .map(|(index, event)| {
            let family = event.reading.family();
            let lifecycle = family.and_then(|family| source.intake.lifecycle(family));
            let lifecycle = lifecycle.map(|lifecycle| lifecycle.clone().into());
            let proof = verified.proof().clone();
            let mut routes = source.intake.routes.iter().map(|(name, matches)| (name, matches));
            let identity = verified.identity(index);
            let scope = source.intake.sharing.scope(&event);
            let admission =
                Admission::of(store.receipt_key(), event, identity, proof, lifecycle, &mut routes).about(scope);
            Admission {
                on_held: source.intake.on_held,
                on_replay: source.intake.on_replay,
                ..admission.accepted_by(source.intake.profile.accept())
            }
        })
        .collect();
    let (admitted, keep_ms) = store
        .admit_all(&admissions, clock::now())
        .map_err(|error| unkept(&error))?;
    let happenings: Vec<_> = admissions
        .iter()
        .zip(admitted)
        .map(|(admission, admitted)| admitted.happening(admission.receipt))
        .collect();
    let has_jobs = admissions
        .iter()
        .zip(&happenings)
        .any(|(admission, happening)| matches!(happening, Happening::Accepted(_)) && !admission.jobs.is_empty());
    // Looked at after the commit: whoever is at work looks again after this, and finds these jobs. When that cannot be read,
    // one call too many does no harm.
    let must_wake = has_jobs && !store.is_at_work(clock::now()).unwrap_or(false);
    Ok(Outcome::Events {
        happenings,
        must_wake,
        store,
        keep_ms,
    })
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
