//! Pulled destinations: hands out what waits, and records what became of it.
//!
//! What a pull does is what the deliverer does with a destination of its own (`crate::delivery`): the store leases, core composes, the store
//! records. Here somebody else makes the attempt. A pull that waits is told when something may have come, and asks the store again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate_api::calls;
use tollgate_api::pulls::{
    EndedLease, LeasesAsked, PullAsked, PullEnds, PullPath, Pulled, PulledDelivery, RefusedLease,
};
use tollgate_core::access::Caller;
use tollgate_core::delivery::{AttemptEnd, EntryEnd, Outgoing};
use tollgate_core::ids::{DestinationName, TenantName};
use tollgate_core::limits;
use tollgate_core::outbox::PullLease;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::EntryState;
use tollgate_store::{ClaimRequest, Control, Outbox, OutboxClaim, OutboxHold, PullEnd, PullEnded, PullRequest, Views};
use tollgate_tenants::file::Way;

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal};
use crate::clock;
use crate::config::{Config, Destination};
use crate::delivery;

/// A pull that waits asks the store at least this often.
const POLL_MS_MAX: u64 = 1_000;

/// The calls about pulled destinations.
pub(super) fn calls<S: Views + Control + Outbox>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(pull::<S>).call(confirm::<S>).call(give_back::<S>)
}

/// Who waits for something to pull.
pub(crate) struct Pulls {
    /// Told when something may have come into the outbox.
    woke: Arc<Notify>,
    /// One for each that may wait.
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Pulls {
    pub(crate) fn new(woke: Arc<Notify>, shutdown: CancellationToken) -> Self {
        Self {
            woke,
            places: Arc::new(Semaphore::new(limits::PULLS_WAITING_MAX)),
            shutdown,
        }
    }

    /// # Errors
    /// When too many wait.
    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{} pulls wait on this host already: come again later, or ask without `wait`",
                    limits::PULLS_WAITING_MAX
                ),
            )
        })
    }
}

/// A pulled destination as it is configured now.
struct Place {
    tenant: TenantName,
    destination: Arc<Destination>,
    /// Its name, and those that it had before: what waits under them waits here.
    names: Vec<DestinationName>,
}

impl Place {
    /// # Errors
    /// When the tenant has no such destination, or it is not pulled.
    fn find(config: &Config, tenant: &TenantName, name: &DestinationName) -> Result<Self, Refusal> {
        let destinations = config.tenants.get(tenant).map(|tenant| &tenant.destinations);
        let found = destinations.and_then(|destinations| {
            destinations
                .iter()
                .find(|(known, destination)| *known == name || destination.formerly.contains(name))
        });
        let Some((now, destination)) = found else {
            return Err(Refusal::not_found(format!(
                "there is no destination `{name}` of `{tenant}`"
            )));
        };
        let not_pulled = match destination.way {
            Way::Pulled => None,
            Way::Sent(_) => {
                Some("is sent to, and nobody pulls from it: kind = \"pull\" in place of its `url` would say otherwise")
            }
            Way::Mailed(_) => Some("is written to by e-mail, and nobody pulls from it"),
        };
        if let Some(why) = not_pulled {
            return Err(Refusal::conflict(format!("`{now}` of `{tenant}` {why}")));
        }
        let names = [now].into_iter().chain(&destination.formerly);
        Ok(Self {
            tenant: tenant.clone(),
            names: names.cloned().collect(),
            destination: Arc::clone(destination),
        })
    }
}

/// Whose destination a caller means.
fn tenant_of(caller: &Caller, named: Option<TenantName>) -> Result<TenantName, Refusal> {
    caller
        .narrowed(named)?
        .ok_or_else(|| Refusal::bad("tenant: say whose destination it is; this token is of no tenant"))
}

/// `GET /v1/pull/{destination}`.
async fn pull<S: Views + Control + Outbox>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: PullPath { destination },
        query,
        ..
    }: Asked<calls::Pull>,
) -> Answered<calls::Pull> {
    let asked = query.checked().map_err(Refusal::bad)?;
    let tenant = tenant_of(&caller, asked.tenant.clone())?;
    Place::find(&operator.config.load(), &tenant, &destination)?;
    let until = Instant::now() + Duration::from_secs(asked.wait_s);
    let _place = if asked.wait_s > 0 {
        Some(operator.pulls.place()?)
    } else {
        None
    };
    loop {
        // Before the store is asked, so that what comes meanwhile is not missed.
        let woke = operator.pulls.woke.notified();
        let mut woke = std::pin::pin!(woke);
        woke.as_mut().enable();
        let config = operator.config.load_full();
        let place = Place::find(&config, &tenant, &destination)?;
        let (deliveries, next_due) = hand_out(&operator, &config, &place, &caller, &asked).await?;
        let left = until.saturating_duration_since(Instant::now());
        if !deliveries.is_empty() || left.is_zero() || operator.pulls.shutdown.is_cancelled() {
            return Ok(Pulled { deliveries });
        }
        let due_ms = next_due.map_or(POLL_MS_MAX, |at| u64::try_from(at.since(clock::now())).unwrap_or(0));
        let nap = Duration::from_millis(due_ms.clamp(10, POLL_MS_MAX)).min(left);
        tokio::select! {
            () = woke => {}
            () = tokio::time::sleep(nap) => {}
            () = operator.pulls.shutdown.cancelled() => {}
        }
    }
}

/// Leases what is due and composes it. What cannot be composed is recorded as an attempt that failed; what is too much for one answer is given
/// back as if it had not been leased.
async fn hand_out<S: Views + Control + Outbox>(
    operator: &Operator<S>,
    config: &Config,
    place: &Place,
    caller: &Caller,
    asked: &PullAsked,
) -> Result<(Vec<PulledDelivery>, Option<UnixMillis>), Refusal> {
    let now = clock::now();
    let lease_ms = i64::try_from(asked.lease_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let request = PullRequest {
        claim: ClaimRequest {
            worker: format!("pulled by {}", caller.name),
            now,
            lease_ms,
            rows_max: asked.rows_max,
            passed_over: Vec::new(),
        },
        tenant: place.tenant.clone(),
        destinations: place.names.clone(),
        policy: config.delivery.retry,
        jitter: clock::moment().jitter,
    };
    let claimed = operator.store.pull(request).await?;
    let (mut deliveries, mut bytes, mut too_much) = (Vec::new(), 0, Vec::new());
    for claim in claimed.claims {
        if bytes >= limits::PULL_BYTES_MAX {
            too_much.push(OutboxHold {
                entry: claim.entry,
                epoch: claim.epoch,
            });
            continue;
        }
        match composed(&operator.store, place, &claim, now, now.plus_ms(lease_ms)).await {
            Ok(delivery) => {
                bytes += delivery.body.len();
                deliveries.push(delivery);
            }
            Err(end) => {
                let record = claim.attempted((now, 0), end, String::new(), &config.delivery.retry, clock::moment());
                count(operator, &claim.tenant, &claim.destination, &record.entry_end);
                let _ = operator.store.record_attempt(record).await?;
            }
        }
    }
    if !too_much.is_empty() {
        operator.store.release_outbox(too_much, clock::now()).await?;
    }
    Ok((deliveries, claimed.next_due))
}

async fn composed<S: Views>(
    store: &S,
    place: &Place,
    claim: &OutboxClaim,
    leased_at: UnixMillis,
    leased_until: UnixMillis,
) -> Result<PulledDelivery, AttemptEnd> {
    let Outgoing { headers, body } =
        delivery::compose(store, claim, &place.destination.secrets, &[], leased_at).await?;
    let headers: BTreeMap<String, String> = headers
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(value.expose()).into_owned()))
        .collect();
    let lease = PullLease {
        entry: claim.entry,
        epoch: claim.epoch,
    };
    Ok(PulledDelivery {
        lease: lease.to_string(),
        leased_until,
        delivery: claim.entry,
        attempt: claim.attempt,
        headers,
        body: String::from_utf8(body).map_err(|_| AttemptEnd::Forbidden {
            reason: "its body is no text, and a pull hands out texts".to_owned(),
        })?,
    })
}

/// `POST /v1/pull/{destination}/confirm`.
async fn confirm<S: Views + Control + Outbox>(
    operator: Arc<Operator<S>>,
    Asked { caller, path, body, .. }: Asked<calls::ConfirmPulled>,
) -> Answered<calls::ConfirmPulled> {
    let asked = body.checked().map_err(Refusal::bad)?;
    end(&operator, &caller, &path, asked, AttemptEnd::Confirmed).await
}

/// `POST /v1/pull/{destination}/give-back`.
async fn give_back<S: Views + Control + Outbox>(
    operator: Arc<Operator<S>>,
    Asked { caller, path, body, .. }: Asked<calls::GiveBackPulled>,
) -> Answered<calls::GiveBackPulled> {
    let (asked, retry_after_ms, reason) = body.checked().map_err(Refusal::bad)?;
    let given_back = AttemptEnd::GivenBack { retry_after_ms, reason };
    end(&operator, &caller, &path, asked, given_back).await
}

async fn end<S: Views + Control + Outbox>(
    operator: &Operator<S>,
    caller: &Caller,
    PullPath { destination }: &PullPath,
    asked: LeasesAsked,
    end: AttemptEnd,
) -> Result<PullEnds, Refusal> {
    let tenant = tenant_of(caller, asked.tenant)?;
    let config = operator.config.load_full();
    let place = Place::find(&config, &tenant, destination)?;
    let moment = clock::moment();
    let ended = operator
        .store
        .end_pulled(PullEnd {
            tenant: tenant.clone(),
            destinations: place.names,
            leases: asked.leases.clone(),
            end,
            now: moment.now,
            policy: config.delivery.retry,
            jitter: moment.jitter,
        })
        .await?;
    let mut answer = PullEnds {
        ended: Vec::new(),
        refused: Vec::new(),
    };
    for (lease, became) in asked.leases.into_iter().zip(ended) {
        let name = lease.to_string();
        match became {
            PullEnded::Recorded { entry_end } => {
                count(operator, &tenant, destination, &entry_end);
                let (became, due_at) = match entry_end {
                    EntryEnd::Delivered => ("delivered", None),
                    EntryEnd::RetryAt { at, .. } => ("waiting", Some(at.to_string())),
                    EntryEnd::Dead { .. } => ("dead", None),
                };
                answer.ended.push(EndedLease {
                    lease: name,
                    became: became.to_owned(),
                    due_at,
                });
            }
            PullEnded::Over { state } => answer.refused.push(RefusedLease {
                why: format!("the lease is over: {}", over(lease, state)),
                lease: name,
            }),
            PullEnded::Unknown => answer.refused.push(RefusedLease {
                why: format!("there is no delivery {} for `{destination}` of `{tenant}`", lease.entry),
                lease: name,
            }),
        }
    }
    if answer.ended.is_empty() {
        let all: Vec<_> = answer
            .refused
            .iter()
            .map(|refused| format!("{}: {}", refused.lease, refused.why))
            .collect();
        return Err(Refusal::conflict(all.join("; ")).with_code("lease-over"));
    }
    Ok(answer)
}

/// Why a lease says nothing any more.
fn over(lease: PullLease, state: EntryState) -> String {
    let entry = lease.entry;
    match state {
        EntryState::Delivered => format!("{entry} was confirmed before"),
        EntryState::Leased => format!("it ran out, and {entry} was fetched again since"),
        EntryState::Ready | EntryState::Blocked => {
            format!("it ran out or was given back, and {entry} waits to be fetched again")
        }
        EntryState::Dead => format!("{entry} was given up: see `tollgate dlq`"),
    }
}

fn count<S>(operator: &Operator<S>, tenant: &TenantName, destination: &DestinationName, end: &EntryEnd) {
    operator.delivery_counters.count(tenant, destination, end);
}
