//! Delivery: recorded actions leave here, and only here, as signed HTTP requests; notices of issues as e-mails too.
//!
//! One loop leases due outbox entries, destinations by turns, as many of each as its [`Circuit`] allows, and starts an attempt
//! for each. What an attempt's end means is the core's decision, committed by the store under the lease. First
//! try, retry, replay and restart take this one path, and wake-ups carry no data: the store is read again.
//!
//! A destination may see one action more than once: an attempt whose answer was lost, or whose host died before it was recorded,
//! is made again. `webhook-id` and `Idempotency-Key` stay the same, so that it can tell.

/// Logs a line about a delivery, under the ids by which all lines about it are found.
macro_rules! say_of_delivery {
    ($level:ident, $claim:expr, $($rest:tt)+) => {
        tracing::$level!(
            delivery = %$claim.entry,
            receipt = %$claim.receipt,
            tenant = %$claim.tenant,
            destination = %$claim.destination,
            $($rest)+
        )
    };
}

mod breakers;
mod circuit;
mod client;
mod counters;
mod mail;
pub(crate) mod tryout;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tollgate_core::breaker::BreakerPolicy;
use tollgate_core::delivery::{AttemptEnd, EntryEnd, Outgoing, Recipient};
use tollgate_core::ids::{DestinationName, TenantName};
use tollgate_core::limits;
use tollgate_core::mail::MailAddress;
use tollgate_core::profile;
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_store::{AttemptRecorded, ClaimRequest, Outbox, OutboxClaim, OutboxHold, Quotas, StoreError, Views};
use tollgate_tenants::file::Way;

use crate::clock;
use crate::config::{Config, Destination};
use crate::failpoints::{Failpoint, pass};
use breakers::Breakers;
use circuit::{Bounds, Circuit, Permit};
use client::Attempt;
pub(crate) use counters::DeliveryCounters;

/// What a destination knows this host by.
const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
/// Attempts under way at once, to all destinations together.
const IN_FLIGHT_MAX: usize = 1024;
/// The store is asked for due entries at least this often.
const POLL_MS_MAX: u64 = 1_000;
/// And at most this often when nothing woke the loop.
const POLL_MS_MIN: u64 = 10;
/// How long running attempts may go on after shutdown. What is cut off is made again when its lease has expired.
const DRAIN_MS_MAX: u64 = 5_000;
/// The first pause before a result is offered to a busy store again; it doubles.
const RECORD_PAUSE_MS: u64 = 50;

/// What tests turn.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// From the start of an attempt to the end of the answer, for a destination that says nothing.
    attempt_ms: u64,
    breaker: BreakerPolicy,
}

impl Settings {
    const DEFAULT: Self = Self {
        attempt_ms: limits::ATTEMPT_MS,
        breaker: BreakerPolicy::DELIVERIES,
    };
}

/// Delivers until shutdown, under leases of `name`; then lets running attempts finish for a while. `woke` tells whoever waits for something
/// to pull when something may have come.
pub(crate) async fn run<S: Outbox + Views>(
    name: String,
    store: S,
    config: Arc<ArcSwap<Config>>,
    counters: Arc<DeliveryCounters>,
    woke: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let delivery = Delivery::new(name, store, config, counters, shutdown, Settings::DEFAULT);
    Delivery { woke, ..delivery }.run().await;
}

/// Everything that delivering touches. Cheap to clone.
#[derive(Clone)]
struct Delivery<S> {
    /// Whom its leases are held under.
    name: Arc<str>,
    store: S,
    config: Arc<ArcSwap<Config>>,
    shutdown: CancellationToken,
    settings: Settings,
    counters: Arc<DeliveryCounters>,
    circuits: Arc<Mutex<Circuits>>,
    /// Wakes the loop when a circuit that was full lets attempts begin again.
    freed: Arc<Notify>,
    /// Whoever waits for something to pull waits here: the store tells one alone.
    woke: Arc<Notify>,
}

type Circuits = BTreeMap<(TenantName, DestinationName), Arc<Circuit>>;

/// What one look at the store came to.
struct Round {
    claimed: usize,
    /// When the next entry is due or the next breaker lets a probe through.
    next: Option<UnixMillis>,
}

/// An attempt that may begin.
struct Passed {
    claim: OutboxClaim,
    to: Addressee,
    destination: Arc<Destination>,
    permit: Permit,
}

/// Who is sent an entry by this host.
enum Addressee {
    Url(String),
    People(Vec<MailAddress>),
}

impl Addressee {
    /// None of a destination that is pulled.
    fn of(destination: &Destination) -> Option<Self> {
        match &destination.way {
            Way::Sent(url) => Some(Self::Url(url.clone())),
            Way::Mailed(people) => Some(Self::People(people.clone())),
            Way::Pulled => None,
        }
    }
}

impl<S: Outbox + Views> Delivery<S> {
    fn new(
        name: String,
        store: S,
        config: Arc<ArcSwap<Config>>,
        counters: Arc<DeliveryCounters>,
        shutdown: CancellationToken,
        settings: Settings,
    ) -> Self {
        Self {
            name: name.into(),
            store,
            config,
            shutdown,
            settings,
            counters,
            circuits: Arc::default(),
            freed: Arc::default(),
            woke: Arc::default(),
        }
    }

    async fn run(self) {
        let mut attempts = JoinSet::new();
        while !self.shutdown.is_cancelled() {
            while attempts.try_join_next().is_some() {}
            let free = IN_FLIGHT_MAX
                .saturating_sub(attempts.len())
                .min(limits::OUTBOX_CLAIM_MAX);
            if free == 0 {
                let _ = attempts.join_next().await;
                continue;
            }
            let nap = match self.round(free, &mut attempts).await {
                Ok(Round { claimed, .. }) if claimed == free => continue,
                Ok(Round { next, .. }) => nap(next),
                Err(StoreError::Closed) => break,
                Err(error) => {
                    tracing::error!(%error, "the outbox could not be worked");
                    if matches!(error, StoreError::Fatal { .. }) {
                        self.shutdown.cancel();
                    }
                    Duration::from_millis(POLL_MS_MAX)
                }
            };
            tokio::select! {
                // What became due since the store was asked is not missed: it completes at once.
                () = self.store.outbox_ready() => self.woke.notify_waiters(),
                () = self.freed.notified() => {}
                () = tokio::time::sleep(nap) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
        let drained = async { while attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(DRAIN_MS_MAX), drained)
            .await
            .is_err()
        {
            tracing::warn!("some deliveries did not end in time; they are made again when their leases have expired");
        }
    }

    /// Leases due entries and starts their attempts.
    async fn round(&self, rows_max: usize, attempts: &mut JoinSet<()>) -> Result<Round, StoreError> {
        let config = self.config.load_full();
        let (quotas, opens_at) = self.quotas(&config);
        let request = ClaimRequest {
            worker: self.name.to_string(),
            now: clock::now(),
            lease_ms: limits::OUTBOX_LEASE_MS,
            rows_max,
            passed_over: Vec::new(),
        };
        let claimed = self.store.claim_outbox(request, quotas).await?;
        if !claimed.claims.is_empty() {
            pass(Failpoint::AfterOutboxClaim);
        }
        let round = Round {
            claimed: claimed.claims.len(),
            next: claimed.next_due.into_iter().chain(opens_at).min(),
        };
        let mut held = Vec::new();
        for claim in claimed.claims {
            let destination = config
                .tenants
                .get(&claim.tenant)
                .and_then(|tenant| tenant.destination(&claim.destination))
                .cloned();
            let Some(destination) = destination else {
                attempts.spawn(self.clone().bury(claim));
                continue;
            };
            let hold = OutboxHold {
                entry: claim.entry,
                epoch: claim.epoch,
            };
            // The configuration that was claimed under is another by now.
            let Some(to) = Addressee::of(&destination) else {
                held.push(hold);
                continue;
            };
            let key = (claim.tenant.clone(), claim.destination.clone());
            let circuit = self.circuit(&key, &config);
            match circuit.try_acquire(&self.settings.breaker, Bounds::of(&destination), clock::now()) {
                Some(permit) => {
                    attempts.spawn(self.clone().deliver(Passed {
                        claim,
                        to,
                        destination,
                        permit,
                    }));
                }
                // The circuit was not known before, or its breaker has opened meanwhile. The next claim passes it over.
                None => held.push(hold),
            }
        }
        if !held.is_empty() {
            self.store.release_outbox(held, clock::now()).await?;
        }
        Ok(round)
    }

    /// How much each destination may be given, and when the first breaker lets a probe through. The circuit of a destination that is gone
    /// is dropped; an attempt that still runs keeps its own.
    fn quotas(&self, config: &Config) -> (Quotas, Option<UnixMillis>) {
        let now = clock::now();
        let mut quotas = Quotas {
            each_max: config.delivery.in_flight_max,
            of: BTreeMap::new(),
        };
        // What is pulled is its owner's to lease.
        for tenant in config.tenants.values() {
            let pulled = tenant
                .pulled
                .iter()
                .map(|name| ((tenant.name.clone(), name.clone()), 0));
            quotas.of.extend(pulled);
        }
        let mut opens_at: Option<UnixMillis> = None;
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        circuits.retain(|key, circuit| {
            let (tenant, destination) = key;
            let Some(destination) = config
                .tenants
                .get(tenant)
                .and_then(|tenant| tenant.destination(destination))
                .filter(|destination| destination.way != Way::Pulled)
            else {
                self.counters.breakers.forget(key);
                return false;
            };
            let quota = circuit.quota(Bounds::of(destination), now);
            opens_at = opens_at.into_iter().chain(quota.opens_at).min();
            if quota.attempts != quotas.each_max {
                quotas.of.insert(key.clone(), quota.attempts);
            }
            true
        });
        (quotas, opens_at)
    }

    /// The circuit of a destination. Its client is a new one where the rules for connections have changed.
    fn circuit(&self, key: &(TenantName, DestinationName), config: &Config) -> Arc<Circuit> {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        let circuit = circuits
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Circuit::new(&config.delivery.outbound, Arc::clone(&self.freed))));
        circuit.adopt(&config.delivery.outbound);
        Arc::clone(circuit)
    }

    /// Makes one attempt and records it.
    async fn deliver(self, passed: Passed) {
        let Passed {
            claim,
            to,
            destination,
            permit,
        } = passed;
        let started_at = clock::now();
        let clock = Instant::now();
        pass(Failpoint::BeforeDeliver);
        let deadline = Duration::from_millis(destination.timeout_ms.unwrap_or(self.settings.attempt_ms));
        let attempt = match to {
            Addressee::Url(url) => {
                self.post(&claim, &url, &destination, &permit, (started_at, deadline))
                    .await
            }
            Addressee::People(people) => self.mail(&claim, &people, deadline).await,
        };
        let took = clock.elapsed();
        self.counters
            .attempted(&claim.tenant, &claim.destination, took, &attempt.end);
        pass(Failpoint::AfterDeliver);
        let transition = permit.finish(attempt.end.is_healthy(), clock::now());
        self.record(&claim, started_at, took, attempt).await;
        if let Some(transition) = transition {
            self.counters
                .breakers
                .note(&claim.tenant, &claim.destination, transition);
        }
    }

    /// Posts to a URL.
    async fn post(
        &self,
        claim: &OutboxClaim,
        url: &str,
        destination: &Destination,
        permit: &Permit,
        (started_at, deadline): (UnixMillis, Duration),
    ) -> Attempt {
        let own = destination.headers.iter();
        let own: Vec<_> = own.map(|(name, value)| (name.as_str(), value)).collect();
        match self.compose(claim, url, destination, &own, started_at).await {
            Ok(request) => {
                let secrets: Vec<_> = own.iter().map(|(_, value)| *value).collect();
                permit.client().send(request, deadline, &secrets).await
            }
            Err(end) => Attempt::without_answer(end),
        }
    }

    /// Writes to people, by the mail server of now.
    async fn mail(&self, claim: &OutboxClaim, people: &[MailAddress], deadline: Duration) -> Attempt {
        let config = self.config.load_full();
        let Some(server) = &config.mail else {
            // A reload took it away, and the tenant goes on as it last was good.
            return Attempt::without_answer(AttemptEnd::Failed {
                reason: "this host sends no e-mail any more: [notices.email] of tollgate.toml is gone".to_owned(),
            });
        };
        mail::send(server, &config.delivery.outbound.extra_roots, claim, people, deadline).await
    }

    /// Composes one attempt.
    async fn compose(
        &self,
        claim: &OutboxClaim,
        url: &str,
        destination: &Destination,
        own_headers: &[(&str, &Secret)],
        started_at: UnixMillis,
    ) -> Result<Request<Full<Bytes>>, AttemptEnd> {
        let outgoing = compose(&self.store, claim, &destination.secrets, own_headers, started_at).await?;
        client::request(url, outgoing).map_err(|reason| AttemptEnd::Forbidden { reason })
    }

    /// Ends an entry whose destination is no longer configured.
    async fn bury(self, claim: OutboxClaim) {
        let attempt = Attempt::without_answer(claim.without_destination());
        self.record(&claim, clock::now(), Duration::ZERO, attempt).await;
    }

    /// Offers the result to the store until it is taken or the lease has expired.
    async fn record(&self, claim: &OutboxClaim, started_at: UnixMillis, took: Duration, attempt: Attempt) {
        let policy = self.config.load().delivery.retry;
        let took = (started_at, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let record = claim.attempted(took, attempt.end, attempt.answer, &policy, clock::moment());
        let mut pause = Duration::from_millis(RECORD_PAUSE_MS);
        pass(Failpoint::BeforeMark);
        loop {
            match self.store.record_attempt(record.clone()).await {
                Ok(AttemptRecorded::Recorded) => {
                    pass(Failpoint::AfterMark);
                    self.counters
                        .count(&claim.tenant, &claim.destination, &record.entry_end);
                    return log_end(claim, &record.entry_end);
                }
                Ok(AttemptRecorded::LeaseLost) => {
                    say_of_delivery!(
                        warn,
                        claim,
                        "another deliverer took this delivery over; the attempt is kept as history"
                    );
                    return;
                }
                Err(
                    error @ (StoreError::Full
                    | StoreError::Busy
                    | StoreError::Away { .. }
                    | StoreError::NoSpace { .. }
                    | StoreError::Database { .. }),
                ) if clock::now().since(started_at) < limits::OUTBOX_LEASE_MS => {
                    say_of_delivery!(warn, claim, %error, "an attempt could not be recorded yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => {
                    say_of_delivery!(error, claim, %error, "an attempt could not be recorded; it will be made again");
                    if matches!(error, StoreError::Fatal { .. }) {
                        self.shutdown.cancel();
                    }
                    return;
                }
            }
        }
    }
}

/// Composes what a destination is handed; of a forwarded event from its receipt, whose body the outbox does not hold.
pub(crate) async fn compose<S: Views>(
    store: &S,
    claim: &OutboxClaim,
    secrets: &[SourceSecret],
    own_headers: &[(&str, &Secret)],
    started_at: UnixMillis,
) -> Result<Outgoing, AttemptEnd> {
    let event = if claim.hands_on_event() {
        let read = store.event(claim.receipt).await;
        Some(read.map_err(|error| AttemptEnd::event_unread(&error))?)
    } else {
        None
    };
    let recipient = Recipient {
        scheme: profile::standard_webhooks(),
        secrets,
        headers: own_headers,
        user_agent: USER_AGENT,
    };
    // Receivers hold its timestamp against the time as they know it.
    claim.compose(event.as_ref(), &recipient, clock::wall(), started_at)
}

/// Until the next look, within bounds.
fn nap(next: Option<UnixMillis>) -> Duration {
    let wait_ms = next.map_or(POLL_MS_MAX, |at| u64::try_from(at.since(clock::now())).unwrap_or(0));
    Duration::from_millis(wait_ms.clamp(POLL_MS_MIN, POLL_MS_MAX))
}

fn log_end(claim: &OutboxClaim, end: &EntryEnd) {
    let attempt = claim.attempt;
    match end {
        EntryEnd::Delivered => say_of_delivery!(debug, claim, attempt, "delivered"),
        EntryEnd::RetryAt { at, reason } => {
            say_of_delivery!(info, claim, attempt, %at, reason, "delivery failed, tried again later");
        }
        EntryEnd::Dead { reason } => {
            say_of_delivery!(warn, claim, attempt, reason, "delivery given up: see `tollgate dlq`");
        }
    }
}
