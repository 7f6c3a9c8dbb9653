//! What a timer and an operator ask.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use spin_sdk::variables;
use tollgate_core::admission::{Admission, Identity};
use tollgate_core::event::Event;
use tollgate_core::ids::{ActionId, DeliveryId, OutboxId, ReceiptId};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::review::{self, Asked, Decision, ReviewBody, Target};
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_core::{admission, limits, mask};
use tollgate_store::registry::Act;
use tollgate_store::{
    DeadLetterFilter, GuestStore, ReplayRequest, ReplayWhat, ResendRequest, ReviewDecision, ReviewReport,
    ReviewRequest, RoutableFilter, RouteTargets, Sent, SentFilter, SentOf, SentState, SetAsideFilter, StoreError,
    Targets, TraceBy, TraceQuery,
};
use tollgate_tenants::Work;

use tollgate_spin_shell::web::{self, Head, Whole};
use tollgate_spin_shell::{SWEEP_TOKEN, clock, database, log, tenants};

use crate::work;

/// Rows of one answer when nobody asks for another number.
const ROWS_DEFAULT: usize = 20;
/// Rows of one answer at the most.
const ROWS_MAX: usize = 1000;
/// How long one sweep works.
const SWEEP_MS_MAX: u64 = 25_000;

pub(crate) async fn handle(head: Head, request: IncomingRequest, out: ResponseOutparam) {
    let mut kept = None;
    let (status, body) = match answer(&head, request, &mut kept).await {
        Ok(body) => (200, body),
        Err(refusal) => {
            if refusal.status >= 500 {
                log(&format!("{} {}: {}", head.method, head.path, refusal.message));
            }
            let message = serde_json::json!({ "error": refusal.message });
            (refusal.status, message.to_string())
        }
    };
    let whole = Whole {
        status,
        content_type: "application/json",
        headers: Vec::new(),
        body,
    };
    web::respond(out, whole).await;
    if let Some((store, ms)) = kept {
        clock::sleep(ms).await;
        drop(store);
    }
}

/// A store that is left open for so many milliseconds after the answer.
type Kept = (GuestStore, u64);

/// An answer that is not the one asked for.
struct Refusal {
    status: u16,
    message: String,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            message: message.into(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound { .. } => 404,
            StoreError::Illegal(_) => 409,
            StoreError::Busy | StoreError::Full | StoreError::NoSpace { .. } => 503,
            _ => 500,
        };
        Self {
            status,
            message: error.to_string(),
        }
    }
}

async fn answer(head: &Head, request: IncomingRequest, kept: &mut Option<Kept>) -> Result<String, Refusal> {
    match head.path.as_str() {
        "/v1/sweep" if head.is("POST") => {
            authorize(head, SWEEP_TOKEN)?;
            let store = open()?;
            let done = work::work(&store, SWEEP_MS_MAX).await;
            let due = store.next_due()?;
            let swept = json(&Swept {
                jobs: done.jobs,
                deliveries: done.deliveries,
                next_due_at: due.job.into_iter().chain(due.outbox).min().map(|at| at.to_string()),
            });
            // That it cannot be promised costs a few syncs, and no work.
            let keep_ms = store.keep_open(clock::now()).unwrap_or(0);
            *kept = (keep_ms > 0).then_some((store, keep_ms));
            swept
        }
        "/v1/counts" if head.is("GET") => {
            authorize(head, "operator_token")?;
            json(&open()?.counts()?)
        }
        "/v1/trace" if head.is("GET") => {
            authorize(head, "operator_token")?;
            json(&open()?.trace(&trace_query(head.query())?)?)
        }
        "/v1/dead-letters" if head.is("GET") => {
            authorize(head, "operator_token")?;
            json(&open()?.dead_letters(&dead_letter_filter(pairs(head.query()))?)?)
        }
        "/v1/replay" if head.is("POST") => {
            authorize(head, "operator_token")?;
            let body = web::body(request, limits::BODY_BYTES_MAX)
                .await
                .map_err(|_| Refusal::bad("the body did not arrive"))?;
            let body: ReplayBody = serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad(format!("the body is not a replay request: {error}")))?;
            let store = open()?;
            let request = body.check(&store)?;
            json(&store.replay(&request)?)
        }
        "/v1/resend" if head.is("POST") => {
            authorize(head, "operator_token")?;
            let body = web::body(request, limits::BODY_BYTES_MAX)
                .await
                .map_err(|_| Refusal::bad("the body did not arrive"))?;
            let body: ResendBody = serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad(format!("the body is not a resend request: {error}")))?;
            json(&body.resend(&open()?)?)
        }
        "/v1/held" if head.is("GET") => {
            authorize(head, "operator_token")?;
            json(&open()?.set_aside(&held_filter(pairs(head.query()))?)?)
        }
        "/v1/held/counts" if head.is("GET") => {
            authorize(head, "operator_token")?;
            json(&open()?.set_aside_counts()?)
        }
        "/v1/quarantines" if head.is("GET") => {
            authorize(head, "operator_token")?;
            json(&open()?.quarantines()?)
        }
        path if lift_path(path).is_some() && head.is("POST") => {
            authorize(head, "operator_token")?;
            let body = web::body(request, limits::BODY_BYTES_MAX)
                .await
                .map_err(|_| Refusal::bad("the body did not arrive"))?;
            let body: ActBody = serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad(format!("the body says no why: {error}")))?;
            let (tenant, route) = lift_path(path).ok_or_else(|| Refusal::bad("no route is named"))?;
            let named = |name: &str, error| Refusal::bad(format!("{name}: {error}"));
            let tenant = tenant.parse().map_err(|error| named("tenant", error))?;
            let route = route.parse().map_err(|error| named("route", error))?;
            json(&open()?.lift_quarantine(&tenant, &route, &body.checked()?)?)
        }
        "/v1/review" if head.is("POST") => {
            authorize(head, "operator_token")?;
            let body = web::body(request, limits::BODY_BYTES_MAX)
                .await
                .map_err(|_| Refusal::bad("the body did not arrive"))?;
            let body: ReviewBody = serde_json::from_slice(&body)
                .map_err(|error| Refusal::bad(format!("the body is not a review: {error}")))?;
            json(&review(&open()?, body.checked().map_err(Refusal::bad)?)?)
        }
        "/v1/sweep" | "/v1/counts" | "/v1/trace" | "/v1/dead-letters" | "/v1/replay" | "/v1/resend" | "/v1/held"
        | "/v1/held/counts" | "/v1/quarantines" | "/v1/review" => Err(Refusal {
            status: 405,
            message: "another method is asked for here".to_owned(),
        }),
        _ => Err(Refusal {
            status: 404,
            message: "there is nothing here".to_owned(),
        }),
    }
}

/// The tenant and the route of `/v1/tenants/{tenant}/routes/{route}/lift-quarantine`.
fn lift_path(path: &str) -> Option<(&str, &str)> {
    let named = path.strip_prefix("/v1/tenants/")?.strip_suffix("/lift-quarantine")?;
    named.split_once("/routes/")
}

/// Who lets a route's versions run again, and why: what a native host takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActBody {
    why: String,
    #[serde(default)]
    dry_run: bool,
    actor: String,
}

impl ActBody {
    fn checked(self) -> Result<Act, Refusal> {
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        if self.why.trim().is_empty() {
            return Err(Refusal::bad("why: say why it is let run again: the history keeps it"));
        }
        Ok(Act {
            actor: self.actor,
            why: Some(self.why),
            at: clock::now(),
            dry_run: self.dry_run,
        })
    }
}

/// What one sweep did.
#[derive(Serialize)]
struct Swept {
    jobs: usize,
    deliveries: usize,
    /// When the next work is due, if any waits.
    next_due_at: Option<String>,
}

fn open() -> Result<GuestStore, Refusal> {
    Ok(database::open()?)
}

fn json(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| Refusal {
        status: 500,
        message: error.to_string(),
    })
}

fn authorize(head: &Head, variable: &str) -> Result<(), Refusal> {
    let token = variables::get(variable).unwrap_or_default();
    let given = head
        .header("authorization")
        .and_then(|value| value.strip_prefix(b"Bearer "));
    let right = given.is_some_and(|given| Secret::new(token.as_bytes()).matches(given));
    if right && !token.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        status: 401,
        message: format!("send the app's {variable} as `Authorization: Bearer …`"),
    })
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn rows(text: &str) -> Result<usize, Refusal> {
    // Not usize: it is 32 bits here, and whoever asks may count in 64.
    let rows: u64 = text
        .parse()
        .map_err(|_| Refusal::bad(format!("limit: `{text}` is not a number")))?;
    Ok(usize::try_from(rows).unwrap_or(ROWS_MAX).min(ROWS_MAX))
}

fn parse<T: std::str::FromStr<Err = tollgate_core::ids::IdError>>(
    name: &str,
    text: &str,
) -> Result<Option<T>, Refusal> {
    text.parse()
        .map(Some)
        .map_err(|error| Refusal::bad(format!("{name}: {error}")))
}

fn trace_query(query: &str) -> Result<TraceQuery, Refusal> {
    let mut trace = TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
        after: None,
        receipts_max: ROWS_DEFAULT,
    };
    for (name, value) in pairs(query) {
        match name.as_str() {
            "id" => trace.by = TraceBy::named(&value),
            "tenant" => trace.tenant = parse(&name, &value)?,
            "after" => trace.after = parse(&name, &value)?,
            "limit" => trace.receipts_max = rows(&value)?,
            _ => return Err(Refusal::bad(format!("there is no parameter `{name}`"))),
        }
    }
    Ok(trace)
}

/// A filter on the dead-letter queue, as query parameters and as JSON.
fn dead_letter_filter(pairs: impl Iterator<Item = (String, String)>) -> Result<DeadLetterFilter, Refusal> {
    let mut filter = DeadLetterFilter {
        rows_max: ROWS_DEFAULT,
        ..DeadLetterFilter::default()
    };
    for (name, value) in pairs {
        match name.as_str() {
            "id" => filter.id = parse(&name, &value)?,
            "tenant" => filter.tenant = parse(&name, &value)?,
            "source" => filter.source = parse(&name, &value)?,
            "route" => filter.route = parse(&name, &value)?,
            "destination" => filter.destination = parse(&name, &value)?,
            "since" => filter.since = Some(since(&value)?),
            "reason" => filter.reason = Some(value),
            "after" => filter.after = parse(&name, &value)?,
            "with_replayed" => filter.with_replayed = value == "true",
            "limit" => filter.rows_max = rows(&value)?,
            _ => return Err(Refusal::bad(format!("there is no parameter `{name}`"))),
        }
    }
    Ok(filter)
}

/// A filter on what is set aside, as query parameters and as JSON.
fn held_filter(pairs: impl Iterator<Item = (String, String)>) -> Result<SetAsideFilter, Refusal> {
    let mut filter = SetAsideFilter {
        rows_max: ROWS_DEFAULT,
        ..SetAsideFilter::default()
    };
    let said = |name: &str, error: String| Refusal::bad(format!("{name}: {error}"));
    for (name, value) in pairs {
        match name.as_str() {
            "kind" => filter.kind = Some(value.parse().map_err(|error| said(&name, error))?),
            "tenant" => filter.tenant = parse(&name, &value)?,
            "source" => filter.source = parse(&name, &value)?,
            "route" => filter.route = parse(&name, &value)?,
            "since" => filter.since = Some(since(&value)?),
            "reason" => filter.reason = Some(value),
            "with_reviewed" => filter.with_reviewed = value == "true",
            "after" => filter.after = Some(value.parse().map_err(|error| said(&name, error))?),
            "limit" => filter.rows_max = rows(&value)?,
            _ => return Err(Refusal::bad(format!("there is no parameter `{name}`"))),
        }
    }
    Ok(filter)
}

/// Decides about what was set aside. The routes and the lifecycle are those of now, not those of the day it came in.
fn review(store: &GuestStore, asked: Asked) -> Result<ReviewReport, Refusal> {
    let decision = match (asked.target, asked.decision) {
        (_, Decision::Dismiss) => ReviewDecision::Dismiss,
        (Target::Receipt(receipt), Decision::Map(status, word)) => {
            let event = review::mapped(store.event(receipt)?, &status);
            let tenant = configured(&event)?;
            let scope = tenant.sharing.scope(&event);
            ReviewDecision::Map {
                lifecycle: lifecycle_of(&tenant, &event),
                scope,
                jobs: admission::jobs(&event, receipt, scope, &mut tenant.matches()),
                status,
                word,
            }
        }
        (Target::Receipt(_), Decision::ReplaceWith(delivery)) => ReviewDecision::ReplaceWith {
            delivery,
            admission: Box::new(on_its_own(store, delivery)?),
        },
        (Target::Delivery(delivery), Decision::Run) => ReviewDecision::Admit(Box::new(on_its_own(store, delivery)?)),
        (Target::Action(action), Decision::Record(operation_key)) => ReviewDecision::Record {
            operation_key,
            targets: targets_of(store, action)?,
        },
        (_, Decision::Keep) | (Target::Receipt(_) | Target::Job(_) | Target::Delivery(_), Decision::Record(_)) => {
            ReviewDecision::Keep
        }
        (Target::Job(_) | Target::Receipt(_) | Target::Action(_), Decision::Run)
        | (Target::Job(_) | Target::Delivery(_) | Target::Action(_), Decision::Map(..) | Decision::ReplaceWith(_)) => {
            ReviewDecision::Run
        }
    };
    let answer = store.review(&ReviewRequest {
        target: asked.target,
        decision,
        actor: asked.actor,
        why: asked.why,
        now: clock::now(),
        dry_run: asked.dry_run,
    })?;
    answer.report().map_err(conflict)
}

/// Where the route of now sends what the job of an action proposed.
fn targets_of(store: &GuestStore, action: ActionId) -> Result<Targets, Refusal> {
    let (tenant, name) = store.route_of(action)?;
    let found = tenants::work(&tenant).map_err(conflict)?.and_then(|work| {
        let route = work.routes.into_iter().find(|route| route.name == name)?;
        Some(Targets {
            destinations: route.destinations,
            renamed: work.renamed,
        })
    });
    found.ok_or_else(|| {
        conflict(format!(
            "the route `{name}` of `{tenant}` is not configured any more, so nothing says where its actions go"
        ))
    })
}

fn conflict(message: String) -> Refusal {
    Refusal { status: 409, message }
}

/// The tenant of an event, as it is configured now.
fn configured(event: &Event) -> Result<Work, Refusal> {
    tenants::work(&event.tenant)
        .map_err(conflict)?
        .ok_or_else(|| conflict(format!("the tenant `{}` is not configured any more", event.tenant)))
}

fn lifecycle_of(tenant: &Work, event: &Event) -> Option<Arc<Lifecycle>> {
    let lifecycle = event.reading.family().and_then(|family| tenant.lifecycle(family));
    lifecycle.map(|lifecycle| lifecycle.clone().into())
}

/// A conflicting delivery as an event of its own, by the lifecycle and the routes of now.
fn on_its_own(store: &GuestStore, delivery: DeliveryId) -> Result<Admission, Refusal> {
    let kept = store.kept_delivery(delivery)?;
    let tenant = configured(&kept.event)?;
    let lifecycle = lifecycle_of(&tenant, &kept.event);
    let (key, scope) = (store.receipt_key(), tenant.sharing.scope(&kept.event));
    let admission = Admission::of(
        key,
        kept.event,
        Identity::EventId,
        kept.proof,
        lifecycle,
        &mut tenant.matches(),
    )
    .about(scope);
    let accept = tenant.accept(&admission.event.source);
    Ok(admission.accepted_by(accept).on_its_own(key))
}

fn since(text: &str) -> Result<UnixMillis, Refusal> {
    instant("since", text)
}

fn instant(field: &str, text: &str) -> Result<UnixMillis, Refusal> {
    UnixMillis::from_rfc3339(text).ok_or_else(|| {
        Refusal::bad(format!(
            "{field}: `{text}` is not an instant such as 2026-05-05T10:00:00Z"
        ))
    })
}

/// A replay request: one receipt, dead letters or held jobs. Receipts are routed again by a native host only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    receipt: Option<String>,
    dead_letters: Option<serde_json::Map<String, serde_json::Value>>,
    held_jobs: Option<serde_json::Map<String, serde_json::Value>>,
    receipts: Option<serde_json::Value>,
    #[serde(default)]
    dry_run: bool,
    /// Who asks, and why, for the history.
    actor: String,
    why: Option<String>,
}

impl ReplayBody {
    fn check(self, store: &GuestStore) -> Result<ReplayRequest, Refusal> {
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let given = |fields: serde_json::Map<String, serde_json::Value>| {
            let given = fields.into_iter().filter(|(_, value)| !value.is_null());
            given.map(move |(name, value)| (name, text(value)))
        };
        let what = match (self.receipt, self.dead_letters, self.held_jobs, self.receipts) {
            (Some(receipt), None, None, None) => again(
                store,
                receipt
                    .parse()
                    .map_err(|error| Refusal::bad(format!("receipt: {error}")))?,
            )?,
            (None, Some(fields), None, None) => ReplayWhat::DeadLetters(dead_letter_filter(given(fields))?),
            (None, None, Some(fields), None) => ReplayWhat::HeldJobs(held_filter(given(fields))?),
            (None, None, None, Some(_)) => {
                return Err(Refusal::bad(
                    "a Spin app routes receipts again one by one: replay each by its `receipt`",
                ));
            }
            _ => return Err(Refusal::bad("name one of `receipt`, `dead_letters` and `held_jobs`")),
        };
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        if let Some(why) = &self.why {
            mask::check_note("why", why, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        }
        Ok(ReplayRequest {
            routes: route_targets(store, &what)?,
            what,
            dry_run: self.dry_run,
            now: clock::now(),
            actor: self.actor,
            why: self.why,
        })
    }
}

/// A resend request: what a native host takes, and answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResendBody {
    deliveries: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    dry_run: bool,
    /// Who asks, and why, for the history.
    actor: String,
    #[serde(default)]
    why: String,
}

#[derive(Serialize)]
struct ResendReport {
    dry_run: bool,
    resent: Vec<Sent>,
    passed_over: Vec<PassedOver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<OutboxId>,
}

/// A delivery that is not sent again.
#[derive(Serialize)]
struct PassedOver {
    #[serde(flatten)]
    sent: Sent,
    because: String,
}

impl ResendBody {
    fn resend(self, store: &GuestStore) -> Result<ResendReport, Refusal> {
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        if self.why.trim().is_empty() && !self.dry_run {
            return Err(Refusal::bad("why: say why it is sent again: the history keeps it"));
        }
        let filter = sent_filter(self.deliveries)?;
        let found = store.sent(&filter)?;
        let next = found
            .last()
            .filter(|_| found.len() == filter.rows_max)
            .map(|last| last.entry);
        let (mut resent, mut passed_over) = (Vec::new(), Vec::new());
        for sent in found {
            match not_sent_again(&sent)? {
                None => resent.push(sent),
                Some(because) => passed_over.push(PassedOver { sent, because }),
            }
        }
        if !self.dry_run {
            let done = store.resend(&ResendRequest {
                entries: resent.iter().map(|sent| sent.entry).collect(),
                now: clock::now(),
                actor: self.actor,
                why: self.why,
            })?;
            resent.retain(|sent| done.contains(&sent.entry));
        }
        Ok(ResendReport {
            dry_run: self.dry_run,
            resent,
            passed_over,
            next,
        })
    }
}

fn not_sent_again(sent: &Sent) -> Result<Option<String>, Refusal> {
    match &sent.state {
        SentState::Waiting => return Ok(Some("it is still on its way".to_owned())),
        SentState::Dead => return Ok(Some("it was given up: put it back with `tollgate replay`".to_owned())),
        SentState::Delivered { .. } => {}
    }
    let work = tenants::work(&sent.tenant).map_err(conflict)?;
    let is_there = work.is_some_and(|work| work.destinations.contains_key(&sent.destination));
    Ok((!is_there).then(|| {
        format!(
            "the tenant `{}` has no destination `{}` any more",
            sent.tenant, sent.destination
        )
    }))
}

/// Which deliveries: one thing's, or those delivered that match.
fn sent_filter(fields: serde_json::Map<String, serde_json::Value>) -> Result<SentFilter, Refusal> {
    let mut filter = SentFilter {
        rows_max: ROWS_MAX,
        ..SentFilter::default()
    };
    let mut narrowed = false;
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        match name.as_str() {
            "id" => {
                filter.of = Some(match TraceBy::named(&value) {
                    TraceBy::Outbox(entry) => SentOf::Entry(entry),
                    TraceBy::Action(action) => SentOf::Action(action),
                    TraceBy::Receipt(receipt) => SentOf::Receipt(receipt),
                    TraceBy::Job(_) | TraceBy::Run(_) | TraceBy::DeadLetter(_) | TraceBy::Text(_) | TraceBy::Newest => {
                        return Err(Refusal::bad(
                            "id: name a delivery (out_7), an action (act_7) or a receipt (rcpt_…)",
                        ));
                    }
                });
            }
            "tenant" => filter.tenant = parse(&name, &value)?,
            "source" => filter.source = parse(&name, &value)?,
            "destination" => filter.destination = parse(&name, &value)?,
            "since" => filter.since = Some(since(&value)?),
            "until" => filter.until = Some(instant(&name, &value)?),
            "after" => filter.after = parse(&name, &value)?,
            "limit" => filter.rows_max = rows(&value)?.max(1),
            _ => return Err(Refusal::bad(format!("there is no field `{name}` in `deliveries`"))),
        }
        narrowed |= !matches!(name.as_str(), "after" | "limit");
    }
    if !narrowed {
        return Err(Refusal::bad(
            "name a delivery, an action or a receipt, or narrow by tenant, source, destination, since or until: all that was ever \
             delivered is never sent again at once",
        ));
    }
    Ok(filter)
}

/// Where the routes of now send what they record: those of the tenant that a replay is about, where it is about one.
fn route_targets(store: &GuestStore, what: &ReplayWhat) -> Result<Vec<RouteTargets>, Refusal> {
    let tenant = match what {
        ReplayWhat::Receipt { receipt, .. } => Some(store.event(*receipt)?.tenant),
        ReplayWhat::DeadLetters(filter) => filter.tenant.clone(),
        ReplayWhat::HeldJobs(filter) => filter.tenant.clone(),
        ReplayWhat::Routed(_) => None,
    };
    let Some(tenant) = tenant else { return Ok(Vec::new()) };
    let work = tenants::work(&tenant).map_err(conflict)?;
    let of = |work: Work| {
        let routes = work.routes.into_iter().map(|route| RouteTargets {
            tenant: tenant.clone(),
            route: route.name,
            targets: Targets {
                destinations: route.destinations,
                renamed: work.renamed.clone(),
            },
        });
        routes.collect()
    };
    Ok(work.map(of).unwrap_or_default())
}

/// A receipt's ended jobs, and those that the routes of now give it and it has not.
fn again(store: &GuestStore, receipt: ReceiptId) -> Result<ReplayWhat, Refusal> {
    let found = store.routable(&RoutableFilter {
        receipt: Some(receipt),
        rows_max: 1,
        ..RoutableFilter::default()
    })?;
    let jobs = match found.first() {
        Some(found) => match tenants::work(&found.event.tenant).map_err(conflict)? {
            // What the source does not accept has no effect the second time either: a test event pays nobody.
            Some(tenant)
                if tenant
                    .accept(&found.event.source)
                    .why_not(&found.event.attributes)
                    .is_some() =>
            {
                Vec::new()
            }
            Some(tenant) => {
                let jobs = admission::jobs(
                    &found.event,
                    receipt,
                    tenant.sharing.scope(&found.event),
                    &mut tenant.matches(),
                );
                match &found.late_after {
                    Some(current) => {
                        let status = found.event.reading.status();
                        let family = found.event.reading.family();
                        let lifecycle = family.and_then(|family| tenant.lifecycle(family));
                        admission::made_late(&jobs, lifecycle, status, current)
                    }
                    None => admission::on_time(jobs),
                }
            }
            None => Vec::new(),
        },
        None => Vec::new(),
    };
    Ok(ReplayWhat::Receipt { receipt, jobs })
}
