//! What the suite needs of a backend, and makers of the values that go into a store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_core::action::{
    ActionKind, Flag, GrantedAction, Proposal, UncheckedAction, UncheckedMoney, UncheckedTransfer,
};
use tollgate_core::admission::{
    Admission, Disposition, Identity, JobSpec, OnHeld, OnReplay, lane, receipt_id, receipt_id_of_message,
};
use tollgate_core::budget::{Budget, Most, Per, Window};
use tollgate_core::commitment::body_commitment;
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::grant::{Grant, judge};
use tollgate_core::ids::{Digest, LeaseEpoch, ReceiptId};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::money::{Currency, Money};
use tollgate_core::outcome::{JobEnd, LogLevel, LogLine};
use tollgate_core::review::{Target, Word};
use tollgate_core::state::{StateRead, StateWrite};
use tollgate_core::subject::Scope;
use tollgate_core::time::UnixMillis;
use tollgate_store::{
    AccountSpent, Admitted, BudgetAsked, ClaimRequest, JobClaim, OutboxClaim, Quotas, ReviewDecision, ReviewRequest,
    RunRecord, Settled, Settlement, Store, Targets, Trace, TraceBy, TraceQuery,
};

/// A place for one store, that can be opened, closed and opened again.
pub(crate) trait Backend {
    type Store: Store;
    fn open(&self) -> Self::Store;
    /// What an audit of the open store finds to be wrong.
    fn problems(&self, store: &Self::Store) -> Vec<String>;
}

/// The beginning of every test's time.
pub(crate) const T0: UnixMillis = UnixMillis(1_777_975_200_000);
pub(crate) const LEASE_MS: i64 = 30_000;

/// Within this long comes what an idle machine does in a second: a busy one has its time.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < SOON, "{what}: not after {SOON:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// An event on its way in, said by what differs.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) tenant: &'static str,
    pub(crate) source: &'static str,
    pub(crate) id: String,
    pub(crate) subject: Option<String>,
    pub(crate) status: Option<&'static str>,
    pub(crate) unmapped: bool,
    pub(crate) body: String,
    pub(crate) routes: &'static [&'static str],
    pub(crate) at: UnixMillis,
    /// What was signed, where it tells events apart.
    pub(crate) message: Option<&'static str>,
    pub(crate) on_held: OnHeld,
    scope: Scope,
    pub(crate) on_replay: OnReplay,
}

impl Sent {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            tenant: "acme",
            source: "rewards",
            id: id.to_owned(),
            subject: None,
            status: None,
            unmapped: false,
            body: format!(r#"{{"id":"{id}"}}"#),
            routes: &["cashback"],
            at: T0,
            message: None,
            on_held: OnHeld::Review,
            scope: Scope::Source,
            on_replay: OnReplay::Hold,
        }
    }

    /// With a status that nobody mapped.
    pub(crate) fn unmapped(mut self) -> Self {
        self.status = Some("EXPLODED");
        self.unmapped = true;
        self
    }

    /// With a provider's label that nobody mapped.
    pub(crate) fn labelled(mut self, label: &'static str) -> Self {
        self.status = Some(label);
        self.unmapped = true;
        self
    }

    /// From another source.
    pub(crate) fn source(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }

    /// In a family that its source shares with others.
    pub(crate) fn shared(mut self) -> Self {
        self.scope = Scope::Shared;
        self
    }

    /// At a source where another form replaces what is held.
    pub(crate) fn replacing(mut self) -> Self {
        self.on_held = OnHeld::Replace;
        self
    }

    pub(crate) fn of(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    pub(crate) fn status(mut self, status: &'static str) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    pub(crate) fn tenant(mut self, tenant: &'static str) -> Self {
        self.tenant = tenant;
        self
    }

    pub(crate) fn at(mut self, ms: i64) -> Self {
        self.at = T0.plus_ms(ms);
        self
    }

    pub(crate) fn routes(mut self, routes: &'static [&'static str]) -> Self {
        self.routes = routes;
        self
    }

    pub(crate) fn message(mut self, message: &'static str) -> Self {
        self.message = Some(message);
        self
    }

    fn identity(&self) -> Identity {
        self.message.map_or(Identity::EventId, |message| {
            Identity::SignedMessage(Digest::of(message.as_bytes()))
        })
    }

    pub(crate) fn receipt(&self, store: &impl Store) -> ReceiptId {
        if let Identity::SignedMessage(message) = self.identity() {
            return receipt_id_of_message(store.receipt_key(), &name(self.tenant), &name(self.source), &message);
        }
        receipt_id(
            store.receipt_key(),
            &name(self.tenant),
            &name(self.source),
            &name(&self.id),
        )
    }

    pub(crate) fn admission(&self, store: &impl Store) -> Admission {
        let receipt = self.receipt(store);
        let subject = self.subject.as_deref().map(name);
        let family = || name("reward-redemption");
        let reading = match (self.status, self.unmapped) {
            (Some(label), true) => StatusReading::Unmapped {
                family: family(),
                label: Some(label.to_owned()),
            },
            (Some(status), false) => StatusReading::Mapped {
                family: family(),
                status: name(status),
            },
            (None, _) => StatusReading::Stateless,
        };
        let jobs = self
            .routes
            .iter()
            .map(|route| JobSpec {
                route: name(route),
                lane: lane(
                    &name(self.tenant),
                    &name(route),
                    Some(&name(self.source)),
                    subject.as_ref(),
                    receipt,
                ),
                late: tollgate_core::route::Late::default(),
            })
            .collect();
        Admission {
            filtered: Vec::new(),
            hold: None,
            receipt,
            identity: self.identity(),
            body_commitment: body_commitment(store.receipt_key(), &name(self.tenant), self.body.as_bytes()),
            lifecycle: self.status.map(|_| redemption()),
            due_at: self.at,
            jobs,
            on_held: self.on_held,
            scope: self.scope,
            on_replay: self.on_replay,
            proof: proof(),
            event: Arc::new(Event {
                tenant: name(self.tenant),
                source: name(self.source),
                id: name(&self.id),
                event_type: name("customer.rewarded"),
                subject,
                reading,
                occurred_at: Some(self.at.plus_ms(-1500)),
                received_at: self.at,
                amount: Money::new(500, Currency::new("USD").unwrap()),
                attributes: vec![("product".into(), "prod_1".into()), ("note".into(), "ü\"".into())],
                payload: self.body.clone().into(),
            }),
        }
    }

    pub(crate) async fn admit(&self, store: &impl Store) -> Admitted {
        store.admit(vec![self.admission(store)]).await.unwrap().remove(0)
    }
}

pub(crate) const ACCEPTED: Admitted = Admitted::New(Disposition::Accepted);

pub(crate) fn proof() -> Proof {
    Proof {
        provider: name("standard-webhooks"),
        profile_version: 3,
        scheme: "v1".into(),
        key_id: name("key-2026"),
        signed_at: Some(T0),
    }
}

/// A person's word that a held event has this status.
pub(crate) fn map(store: &impl Store, sent: &Sent, status: &str, ms: i64) -> ReviewRequest {
    let admission = sent.admission(store);
    ReviewRequest {
        target: Target::Receipt(admission.receipt),
        decision: ReviewDecision::Map {
            status: name(status),
            word: Word::Judged,
            lifecycle: Some(redemption()),
            scope: admission.scope,
            jobs: admission.jobs,
        },
        actor: "ann".into(),
        why: Some("the provider renamed it".into()),
        now: at(ms),
        dry_run: false,
    }
}

pub(crate) fn dismiss(store: &impl Store, sent: &Sent, ms: i64) -> ReviewRequest {
    ReviewRequest {
        target: Target::Receipt(sent.receipt(store)),
        decision: ReviewDecision::Dismiss,
        actor: "ann".into(),
        why: Some("a test event".into()),
        now: at(ms),
        dry_run: false,
    }
}

/// A decision of somebody's about something that is set aside.
pub(crate) fn decision(target: Target, decision: ReviewDecision, ms: i64) -> ReviewRequest {
    ReviewRequest {
        target,
        decision,
        actor: "ann".into(),
        why: Some("looked at".into()),
        now: at(ms),
        dry_run: false,
    }
}

pub(crate) fn redemption() -> Arc<Lifecycle> {
    let text = include_str!("../../../core/lifecycles/reward-redemption.toml");
    Arc::new(Lifecycle::from_toml(text).unwrap())
}

pub(crate) fn at(ms: i64) -> UnixMillis {
    T0.plus_ms(ms)
}

pub(crate) fn claim_request(now: UnixMillis, rows_max: usize) -> ClaimRequest {
    ClaimRequest {
        worker: "worker-1".into(),
        now,
        lease_ms: LEASE_MS,
        rows_max,
        passed_over: Vec::new(),
    }
}

pub(crate) async fn claim(store: &impl Store, now: UnixMillis, rows_max: usize) -> Vec<JobClaim> {
    store.claim_jobs(claim_request(now, rows_max)).await.unwrap()
}

/// The one job that is due.
pub(crate) async fn claim_one(store: &impl Store, now: UnixMillis) -> JobClaim {
    let mut claims = claim(store, now, 10).await;
    assert_eq!(claims.len(), 1, "exactly one job is due");
    claims.remove(0)
}

pub(crate) async fn claim_outbox_one(store: &impl Store, now: UnixMillis) -> OutboxClaim {
    let mut claims = store
        .claim_outbox(claim_request(now, 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    assert_eq!(claims.len(), 1, "exactly one outbox entry is due");
    claims.remove(0)
}

pub(crate) fn event_ids(claims: &[JobClaim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.event.id.as_str()).collect()
}

pub(crate) fn run(outcome: &str) -> RunRecord {
    RunRecord {
        plugin: name("cashback"),
        digest: Digest::of(b"the plugin"),
        config_digest: Digest::of(b"percent = 5"),
        config: "percent = 5".into(),
        runtime: "wasmtime 48.0.8".into(),
        started_at: T0,
        duration_us: 2_500,
        fuel: 123_456,
        outcome: outcome.into(),
        message: String::new(),
        reads: Vec::new(),
        logs: vec![LogLine {
            level: LogLevel::Info,
            message: "hello".into(),
        }],
    }
}

/// A settlement of a claim, done and without effects until something is added.
pub(crate) fn settlement(claim: &JobClaim) -> Settlement {
    Settlement {
        job: claim.job,
        epoch: claim.epoch,
        run: run("completed"),
        end: JobEnd::Done,
        writes: Vec::new(),
        state_total_max: None,
        budgets: Vec::new(),
        actions: Vec::new(),
        namespace: name("cashback"),
        targets: Targets::default(),
    }
}

pub(crate) trait SettlementExt: Sized {
    fn end(self, end: JobEnd) -> Self;
    fn acts(self, key: &str, score: u32) -> Self;
    fn to(self, destination: &str) -> Self;
    fn to_in_order(self, destination: &str) -> Self;
    fn reads(self, key: &str, version: i64, value: Option<&[u8]>) -> Self;
    fn writes(self, key: &str, value: Option<&[u8]>) -> Self;
    fn with_epoch(self, epoch: LeaseEpoch) -> Self;
    fn credits(self, key: &str, account: &str, minor_units: i64) -> Self;
    fn within(self, budgets: &[Budget]) -> Self;
    fn started_at(self, at: UnixMillis) -> Self;
}

impl SettlementExt for Settlement {
    fn end(mut self, end: JobEnd) -> Self {
        self.end = end;
        self
    }

    fn acts(mut self, key: &str, score: u32) -> Self {
        self.actions.push(flag(key, score));
        self
    }

    fn to(mut self, destination: &str) -> Self {
        self.targets.destinations.push(name(destination));
        self
    }

    fn to_in_order(mut self, destination: &str) -> Self {
        self.targets.ordered.insert(name(destination));
        self.to(destination)
    }

    fn reads(mut self, key: &str, version: i64, value: Option<&[u8]>) -> Self {
        self.run.reads.push(StateRead {
            key: key.into(),
            version,
            value: value.map(<[u8]>::to_vec),
        });
        self
    }

    fn writes(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.writes.push(StateWrite {
            key: key.into(),
            value: value.map(<[u8]>::to_vec),
        });
        self
    }

    fn with_epoch(mut self, epoch: LeaseEpoch) -> Self {
        self.epoch = epoch;
        self
    }

    fn credits(mut self, key: &str, account: &str, minor_units: i64) -> Self {
        self.actions.push(credit(key, account, minor_units));
        self
    }

    fn within(mut self, budgets: &[Budget]) -> Self {
        self.budgets = budgets.to_vec();
        self
    }

    fn started_at(mut self, at: UnixMillis) -> Self {
        self.run.started_at = at;
        self
    }
}

/// A granted credit, in USD.
pub(crate) fn credit(key: &str, account: &str, minor_units: i64) -> GrantedAction {
    let transfer = UncheckedTransfer {
        account: account.into(),
        amount: UncheckedMoney {
            minor_units,
            currency: "USD".into(),
        },
        reason: "cashback".into(),
    };
    let proposal = Proposal {
        operation_key: key.into(),
        action: UncheckedAction::Credit(transfer),
    };
    let grant = Grant {
        amount_max: Some(i64::MAX),
        currencies: vec![Currency::new("USD").unwrap()],
        ..Grant::of(ActionKind::Credit)
    };
    judge(vec![proposal], &[grant]).unwrap().remove(0)
}

/// So many USD of credits in a window, for the route.
pub(crate) fn dollars(window: Window, minor_units: i64) -> Budget {
    Budget {
        kind: ActionKind::Credit,
        window,
        per: Per::Route,
        most: Most::Money(Money::new(minor_units, Currency::new("USD").unwrap()).unwrap()),
    }
}

/// So many credits in a window, for each account.
pub(crate) fn times(window: Window, actions: u32) -> Budget {
    Budget {
        kind: ActionKind::Credit,
        window,
        per: Per::Account,
        most: Most::Actions(actions),
    }
}

/// What is spent of a budget of the route `cashback` of `acme`, by account.
pub(crate) async fn spent(store: &impl Store, budget: Budget, at: UnixMillis) -> Vec<(String, i64, i64)> {
    let asked = BudgetAsked {
        tenant: name("acme"),
        route: name("cashback"),
        budget,
    };
    let mut found = store.budgets(vec![asked], None, at).await.unwrap();
    let view = found.remove(0);
    assert_eq!(view.budget(), Some(budget));
    let of = |part: AccountSpent| (part.account.unwrap_or_default(), part.spent, part.left);
    view.spent.into_iter().map(of).collect()
}

/// A granted action; the score is its content.
pub(crate) fn flag(key: &str, score: u32) -> GrantedAction {
    let flag = Flag {
        subject: "r_1".into(),
        score,
        reasons: vec!["because".into()],
    };
    let proposal = Proposal {
        operation_key: key.into(),
        action: UncheckedAction::Flag(flag),
    };
    judge(vec![proposal], &[Grant::of(tollgate_core::action::ActionKind::Flag)])
        .unwrap()
        .remove(0)
}

pub(crate) async fn settle(store: &impl Store, settlement: Settlement) -> Settled {
    store.settle(settlement).await.unwrap()
}

/// Has all of them begin before any is waited for, and returns what each came to, in their order.
pub(crate) async fn at_once<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Claims and finishes all that is due, without actions.
pub(crate) async fn finish_all(store: &impl Store, now: UnixMillis) -> Vec<String> {
    let mut order = Vec::new();
    loop {
        let claims = claim(store, now, 1).await;
        let Some(claim) = claims.first() else { return order };
        order.push(claim.event.id.to_string());
        assert!(matches!(
            settle(store, settlement(claim)).await,
            Settled::Committed { .. }
        ));
    }
}

pub(crate) async fn trace(store: &impl Store, by: TraceBy) -> Vec<Trace> {
    store
        .trace(TraceQuery {
            by,
            tenant: None,
            after: None,
            receipts_max: 100,
        })
        .await
        .unwrap()
}

pub(crate) async fn trace_one(store: &impl Store, sent: &Sent) -> Trace {
    let mut found = trace(store, TraceBy::Receipt(sent.receipt(store))).await;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

pub(crate) async fn trace_text(store: &impl Store, text: &str) -> Vec<String> {
    trace(store, TraceBy::Text(text.into()))
        .await
        .into_iter()
        .map(|trace| trace.receipt.event_id)
        .collect()
}
