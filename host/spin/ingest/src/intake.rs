//! Intake, in the order of its steps: find the source, take the body within bounds, verify, read, admit, answer; then work.
//!
//! As on the native edge, `verify` alone makes a `Verified`, `read` takes nothing else, and the store is not even opened for a
//! request that did not prove itself.

use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use tollgate_core::admission::Admission;
use tollgate_core::answer::{Happening, Rejection, answer};
use tollgate_core::request::RawRequest;
use tollgate_core::verify::verify;
use tollgate_core::{envelope, lifecycle, mask};
use tollgate_store::{GuestStore, StoreError};

use crate::tenants::{Source, Tenant};
use crate::web::{self, Head};
use crate::{clock, database, log, worker};

/// How long an invocation goes on working after it has answered. What is left is the next one's, or the sweep's.
const WORK_MS_MAX: u64 = 10_000;

pub(crate) async fn handle(head: Head, request: IncomingRequest, out: ResponseOutparam) {
    let (happening, conflict_409, store) = match locate(&head) {
        Ok((tenant, source)) => match take_in(&head, &tenant, &source, request).await {
            Ok((happening, store)) => (happening, source.conflict_409, Some(store)),
            Err(rejection) => (Happening::Rejected(rejection), false, None),
        },
        Err(rejection) => (Happening::Rejected(rejection), false, None),
    };
    let mut answer = answer(&happening);
    if conflict_409 && matches!(happening, Happening::Conflict(_)) {
        answer.http_status = 409;
    }
    let mut headers = Vec::new();
    if let Some(seconds) = answer.retry_after_s {
        headers.push(("retry-after", seconds.to_string()));
    }
    if answer.http_status == 405 {
        headers.push(("allow", "POST".to_owned()));
    }
    web::respond(out, answer.http_status, &headers, answer.body()).await;
    // Answered and durable. From here on the sender waits for nothing.
    if let Some(store) = store {
        worker::work(&store, WORK_MS_MAX).await;
    }
}

/// Finds the source that a request is for: `POST /in/{tenant}/{source}`.
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
    if !head.is_post {
        return Err(Rejection::Method);
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

async fn take_in(
    head: &Head,
    tenant: &Tenant,
    source: &Source,
    request: IncomingRequest,
) -> Result<(Happening, GuestStore), Rejection> {
    head.check_bounds()?;
    let body = web::body(request).await?;
    let headers = head.headers();
    let request = RawRequest {
        headers: &headers,
        body: &body,
        url: source.public_url.as_deref(),
        received_at: clock::now(),
    };
    let refused = |cause: &str, detail: String| {
        let detail = mask::line(&detail, 200);
        log(&format!(
            "refused: tenant={} source={} cause={cause} {detail}",
            tenant.name, source.name
        ));
    };
    let verified = verify(&source.profile, &source.keyring, request).map_err(|unproven| {
        refused(unproven.reason(), unproven.to_string());
        Rejection::Unauthentic
    })?;
    let event = envelope::read(&source.profile, &verified, &tenant.name, &source.name).map_err(|unreadable| {
        refused(unreadable.reason(), unreadable.to_string());
        Rejection::Malformed
    })?;
    let store = database::open().map_err(|error| unkept(&error))?;
    let lifecycle = event.reading.family().and_then(lifecycle::shipped_one).map(Into::into);
    let admission = Admission::of(
        store.receipt_key(),
        event,
        verified.proof().clone(),
        lifecycle,
        &mut tenant.routes.iter().map(|route| (&route.name, &route.matches)),
    );
    let admitted = store.admit(&admission).map_err(|error| unkept(&error))?;
    Ok((admitted.happening(admission.receipt), store))
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
