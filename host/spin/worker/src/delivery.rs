//! Delivery: recorded actions leave here, and only here, as signed HTTP requests.
//!
//! Where they may go is bounded twice: by the tenant's file, and by `allowed_outbound_hosts` of spin.toml, which Spin enforces.
//! No redirect is followed. What an attempt's end means is the core's decision, committed by the store under the lease.

use std::rc::Rc;

use tollgate_core::delivery::{AttemptEnd, Outgoing, Recipient, kept_answer};
use tollgate_core::ids::KeyId;
use tollgate_core::limits;
use tollgate_core::own_header;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_store::{AttemptRecord, AttemptRecorded, GuestStore, OutboxClaim, Quotas, StoreError};

use tollgate_spin_shell::clock::{self, Stopwatch};
use tollgate_spin_shell::{variable, web};
use tollgate_tenants::{Parameter, Work};

use crate::tenants::Tenants;
use crate::work::{Worker, patiently};

const USER_AGENT: &str = concat!("tollgate-spin/", env!("CARGO_PKG_VERSION"));
/// Entries leased at once: their attempts go side by side, and all must end within their lease.
const ENTRIES_AT_ONCE: usize = 16;

impl Worker<'_> {
    /// Attempts every delivery that is due, up to a bound. Returns how many.
    pub(crate) async fn deliver_due(&self) -> Result<usize, StoreError> {
        let request = self.claim_request(limits::OUTBOX_LEASE_MS, ENTRIES_AT_ONCE);
        let claims = self.store.claim_outbox(&request, &Quotas::unlimited())?.claims;
        if claims.is_empty() {
            return Ok(0);
        }
        let attempts = claims.iter().map(|claim| attempt(self.store, &self.tenants, claim));
        let attempts = futures::future::join_all(attempts).await;
        for recorded in patiently(|| self.store.record_attempts(&attempts))? {
            // Another invocation that took the entry over decides what follows; the attempt is kept as history all the same.
            let (AttemptRecorded::Recorded | AttemptRecorded::LeaseLost) = recorded;
        }
        Ok(claims.len())
    }
}

/// One attempt, from composing to what follows from its end.
async fn attempt(store: &GuestStore, tenants: &Tenants, claim: &OutboxClaim) -> AttemptRecord {
    let started_at = clock::now();
    let watch = Stopwatch::start();
    let sent = match destination(tenants, claim) {
        Ok(destination) => send(store, claim, &destination, started_at).await,
        Err(end) => Err(end),
    };
    let (end, answer) = sent.unwrap_or_else(|end| (end, String::new()));
    let took = (started_at, watch.micros());
    claim.attempted(took, end, answer, &RetryPolicy::DELIVERIES, clock::moment())
}

/// Where an entry goes, and what signs it.
struct Destination {
    url: String,
    secrets: Vec<SourceSecret>,
    headers: Vec<(String, Secret)>,
    timeout_ms: u64,
    /// For how deliveries are signed.
    tenant: Rc<Work>,
}

fn destination(tenants: &Tenants, claim: &OutboxClaim) -> Result<Destination, AttemptEnd> {
    let failed = |reason: String| AttemptEnd::Failed { reason };
    let gone = || claim.without_destination();
    let tenant = tenants.get(&claim.tenant).map_err(failed)?.ok_or_else(gone)?;
    let found = tenant.destinations.get(&claim.destination).ok_or_else(gone)?;
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
    for (name, value) in &found.headers {
        let value = match value {
            Parameter::Text(text) => Secret::new(text.as_str()),
            Parameter::Secret(reference) => variable(reference).map_err(failed)?,
        };
        own_header::check_value(value.expose()).map_err(|problem| failed(format!("its header `{name}`: {problem}")))?;
        headers.push((name.clone(), value));
    }
    Ok(Destination {
        url: found.url.clone(),
        secrets,
        headers,
        timeout_ms: found.timeout_ms,
        tenant,
    })
}

async fn send(
    store: &GuestStore,
    claim: &OutboxClaim,
    destination: &Destination,
    at: UnixMillis,
) -> Result<(AttemptEnd, String), AttemptEnd> {
    // The outbox does not hold what is handed on: it stands in the receipt.
    let event = if claim.hands_on_event() {
        Some(
            store
                .event(claim.receipt)
                .map_err(|error| AttemptEnd::event_unread(&error))?,
        )
    } else {
        None
    };
    let own = destination.headers.iter();
    let own: Vec<_> = own.map(|(name, value)| (name.as_str(), value)).collect();
    let recipient = Recipient {
        scheme: &destination.tenant.signing,
        secrets: &destination.secrets,
        headers: &own,
        user_agent: USER_AGENT,
    };
    let Outgoing { headers, body } = claim.compose(event.as_ref(), &recipient, at, at)?;
    let headers = headers.into_iter();
    let headers = headers.map(|(name, value)| (name, String::from_utf8_lossy(value.expose()).into_owned()));
    let posting = web::post(&destination.url, headers.collect(), body, limits::ANSWER_BYTES_KEPT);
    let reply = clock::within(destination.timeout_ms, posting)
        .await
        .ok_or_else(|| format!("no answer within {} ms", destination.timeout_ms))
        .and_then(|sent| sent)
        .map_err(|reason| AttemptEnd::Failed { reason })?;
    let end = AttemptEnd::answered(reply.status, reply.header("retry-after"), clock::now());
    let secrets: Vec<_> = own.iter().map(|(_, value)| *value).collect();
    Ok((end, kept_answer(&reply.body, &secrets)))
}
