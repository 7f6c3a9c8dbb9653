//! The calls of a timer and of operators.

use std::sync::Arc;

use serde::Serialize;
use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use spin_sdk::variables;
use tollgate_api::budgets::BudgetsAsked;
use tollgate_api::plugins::{ActBody, RoutePath};
use tollgate_api::replay::{AskedReplay, ReplayOf};
use tollgate_api::resend::{AskedResend, PassedOver, ResendReport};
use tollgate_api::{Call, ErrorBody, calls, is_path, read_path};
use tollgate_core::admission::{Admission, Identity};
use tollgate_core::budget::Budget;
use tollgate_core::event::Event;
use tollgate_core::grant;
use tollgate_core::ids::{ActionId, DeliveryId, ReceiptId, TenantName};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::review::{self, Asked, Decision, Target};
use tollgate_core::secret::Secret;
use tollgate_core::{admission, limits, mask};
use tollgate_store::registry::Act;
use tollgate_store::{
    BudgetAsked, BudgetView, GuestStore, Pause, Place, ReplayRequest, ReplayWhat, ResendRequest, ReviewDecision,
    ReviewReport, ReviewRequest, RoutableFilter, RouteTargets, Sent, SentState, StoreError, Targets,
};
use tollgate_tenants::{Route, Work};

use tollgate_spin_shell::web::{self, Head, Whole};
use tollgate_spin_shell::{SWEEP_TOKEN, clock, database, log, tenants};

use crate::work::Worker;

/// The variable that holds what proves an operator.
const OPERATOR_TOKEN: &str = "operator_token";
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
            let body = ErrorBody {
                error: refusal.message,
                code: None,
                problems: Vec::new(),
            };
            (refusal.status, serde_json::to_string(&body).unwrap_or_default())
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

/// The calls of the operator API that a Spin app serves.
const SERVED: [&str; 16] = [
    calls::Counts::PATH,
    calls::Trace::PATH,
    calls::DeadLetters::PATH,
    calls::Replay::PATH,
    calls::Resend::PATH,
    calls::Held::PATH,
    calls::HeldCounts::PATH,
    calls::Budgets::PATH,
    calls::Review::PATH,
    calls::Quarantines::PATH,
    calls::LiftQuarantine::PATH,
    calls::Pauses::PATH,
    calls::PauseRoute::PATH,
    calls::ResumeRoute::PATH,
    calls::PauseDestination::PATH,
    calls::ResumeDestination::PATH,
];
/// Calls that a Spin app cannot serve, and says why.
const NOT_HERE: [&str; 6] = [
    calls::ShowSettings::PATH,
    calls::SettingsVersions::PATH,
    calls::ShowSettingsVersion::PATH,
    calls::RollBackSettings::PATH,
    calls::Secrets::PATH,
    calls::SetSecret::PATH,
];
/// What a timer asks. No operator does.
const SWEEP: &str = "/v1/sweep";

async fn answer(head: &Head, request: IncomingRequest, kept: &mut Option<Kept>) -> Result<String, Refusal> {
    if head.path == SWEEP && head.is("POST") {
        authorize(head, SWEEP_TOKEN)?;
        return sweep(kept).await;
    }
    if NOT_HERE.iter().any(|call| is_path(call, &head.path)) {
        return Err(Refusal {
            status: 404,
            message: "nothing is set by API on Spin: an app is built from its files; change those, and build it again"
                .to_owned(),
        });
    }
    if head.path != SWEEP && !SERVED.iter().any(|served| is_path(served, &head.path)) {
        return Err(Refusal {
            status: 404,
            message: "there is nothing here".to_owned(),
        });
    }
    if asks::<calls::Counts>(head) {
        authorize(head, OPERATOR_TOKEN)?;
        return json::<calls::Counts>(&open()?.counts()?);
    }
    if asks::<calls::Trace>(head) {
        let query = query::<calls::Trace>(head)?.checked().map_err(Refusal::bad)?;
        return json::<calls::Trace>(&open()?.trace(&query)?);
    }
    if asks::<calls::DeadLetters>(head) {
        let filter = query::<calls::DeadLetters>(head)?.checked().map_err(Refusal::bad)?;
        return json::<calls::DeadLetters>(&open()?.dead_letters(&filter)?);
    }
    if asks::<calls::Replay>(head) {
        let asked = body::<calls::Replay>(head, request)
            .await?
            .checked()
            .map_err(Refusal::bad)?;
        let store = open()?;
        return json::<calls::Replay>(&store.replay(&replay(&store, asked)?)?);
    }
    if asks::<calls::Resend>(head) {
        let asked = body::<calls::Resend>(head, request)
            .await?
            .checked()
            .map_err(Refusal::bad)?;
        return json::<calls::Resend>(&resend(&open()?, asked)?);
    }
    if asks::<calls::Held>(head) {
        let filter = query::<calls::Held>(head)?.checked().map_err(Refusal::bad)?;
        return json::<calls::Held>(&open()?.set_aside(&filter)?);
    }
    if asks::<calls::HeldCounts>(head) {
        let tenant = query::<calls::HeldCounts>(head)?.checked().map_err(Refusal::bad)?;
        let mut counts = open()?.set_aside_counts(None)?;
        counts.retain(|count| tenant.as_ref().is_none_or(|tenant| count.tenant == *tenant));
        return json::<calls::HeldCounts>(&counts);
    }
    if asks::<calls::Budgets>(head) {
        let asked = query::<calls::Budgets>(head)?.checked().map_err(Refusal::bad)?;
        return json::<calls::Budgets>(&budgets(&open()?, asked)?);
    }
    if asks::<calls::Review>(head) {
        let asked = body::<calls::Review>(head, request)
            .await?
            .checked()
            .map_err(Refusal::bad)?;
        return json::<calls::Review>(&review(&open()?, asked)?);
    }
    if asks::<calls::Quarantines>(head) {
        authorize(head, OPERATOR_TOKEN)?;
        return json::<calls::Quarantines>(&open()?.quarantines()?);
    }
    if asks::<calls::LiftQuarantine>(head) {
        let act = act(body::<calls::LiftQuarantine>(head, request).await?)?;
        let RoutePath { tenant, route } = read_path::<calls::LiftQuarantine>(&head.path).map_err(Refusal::bad)?;
        return json::<calls::LiftQuarantine>(&open()?.lift_quarantine(&tenant, &route, &act)?);
    }
    if asks::<calls::Pauses>(head) {
        authorize(head, OPERATOR_TOKEN)?;
        return json::<calls::Pauses>(&open()?.pauses()?);
    }
    if asks::<calls::PauseRoute>(head) {
        let act = act(body::<calls::PauseRoute>(head, request).await?)?;
        let RoutePath { tenant, route } = read_path::<calls::PauseRoute>(&head.path).map_err(Refusal::bad)?;
        return json::<calls::PauseRoute>(&open()?.pause(&tenant, &Place::Route(route), &act)?);
    }
    if asks::<calls::ResumeRoute>(head) {
        let act = act(body::<calls::ResumeRoute>(head, request).await?)?;
        let RoutePath { tenant, route } = read_path::<calls::ResumeRoute>(&head.path).map_err(Refusal::bad)?;
        return json::<calls::ResumeRoute>(&resume(&open()?, &tenant, &Place::Route(route), &act)?);
    }
    if asks::<calls::PauseDestination>(head) {
        let act = act(body::<calls::PauseDestination>(head, request).await?)?;
        let path = read_path::<calls::PauseDestination>(&head.path).map_err(Refusal::bad)?;
        let place = Place::Destination(path.destination);
        return json::<calls::PauseDestination>(&open()?.pause(&path.tenant, &place, &act)?);
    }
    if asks::<calls::ResumeDestination>(head) {
        let act = act(body::<calls::ResumeDestination>(head, request).await?)?;
        let path = read_path::<calls::ResumeDestination>(&head.path).map_err(Refusal::bad)?;
        let place = Place::Destination(path.destination);
        return json::<calls::ResumeDestination>(&resume(&open()?, &path.tenant, &place, &act)?);
    }
    Err(Refusal {
        status: 405,
        message: "another method is asked for here".to_owned(),
    })
}

fn asks<C: Call>(head: &Head) -> bool {
    head.is(C::METHOD.as_str()) && is_path(C::PATH, &head.path)
}

/// What an operator asks, once it is known that one does.
fn query<C: Call>(head: &Head) -> Result<C::Query, Refusal> {
    authorize(head, OPERATOR_TOKEN)?;
    tollgate_api::read_query::<C>(head.query()).map_err(Refusal::bad)
}

/// The same of what stands in the body.
async fn body<C: Call>(head: &Head, request: IncomingRequest) -> Result<C::Body, Refusal> {
    authorize(head, OPERATOR_TOKEN)?;
    let body = web::body(request, limits::BODY_BYTES_MAX)
        .await
        .map_err(|_| Refusal::bad("the body did not arrive"))?;
    tollgate_api::read_body::<C>(&body).map_err(Refusal::bad)
}

fn json<C: Call>(answer: &C::Answer) -> Result<String, Refusal> {
    to_json(answer)
}

async fn sweep(kept: &mut Option<Kept>) -> Result<String, Refusal> {
    let store = open()?;
    let (done, due) = Worker::new(&store, SWEEP_MS_MAX).work().await?;
    let swept = to_json(&Swept {
        jobs: done.jobs,
        deliveries: done.deliveries,
        next_due_at: due.job.into_iter().chain(due.outbox).min().map(|at| at.to_string()),
    });
    // Without the promise a few more syncs are made, and nothing is lost.
    let keep_ms = store.keep_open(clock::now()).unwrap_or(0);
    *kept = (keep_ms > 0).then_some((store, keep_ms));
    swept
}

/// Who asks: the app has one token.
fn said_by(actor: String) -> String {
    match actor.is_empty() {
        true => "operator".to_owned(),
        false => actor,
    }
}

/// Who lets a route's versions run again, and why.
fn act(body: ActBody) -> Result<Act, Refusal> {
    mask::check_note("actor", &body.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    mask::check_note("why", &body.why, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    if body.why.trim().is_empty() {
        return Err(Refusal::bad("why: say why it is let run again: the history keeps it"));
    }
    Ok(Act {
        actor: said_by(body.actor),
        why: Some(body.why),
        at: clock::now(),
        dry_run: body.dry_run,
    })
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

fn to_json(value: &impl Serialize) -> Result<String, Refusal> {
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

/// What is spent of the budgets of a tenant's routes of now.
fn budgets(store: &GuestStore, asked: BudgetsAsked) -> Result<Vec<BudgetView>, Refusal> {
    let Some(tenant) = asked.tenant else {
        return Err(Refusal::bad(
            "tenant: a Spin app shows the budgets of one tenant: name it",
        ));
    };
    let routes = tenants::work(&tenant).map_err(conflict)?.map(|work| work.routes);
    let wanted = |route: &Route| asked.route.as_ref().is_none_or(|only| *only == route.name);
    let mut budgets: Vec<_> = routes
        .unwrap_or_default()
        .iter()
        .filter(|route| wanted(route))
        .flat_map(|route| BudgetAsked::of_route(&tenant, &route.name, &route.grants))
        .collect();
    budgets.truncate(asked.rows_max);
    Ok(store.budgets(&budgets, asked.account.as_deref(), clock::now())?)
}

fn resume(store: &GuestStore, tenant: &TenantName, place: &Place, act: &Act) -> Result<Pause, Refusal> {
    let ended = store.resume(tenant, place, act)?;
    ended.ok_or_else(|| {
        conflict(format!(
            "the {} `{}` of `{tenant}` is not paused",
            place.kind(),
            place.name()
        ))
    })
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
        (Target::Action(action), Decision::Record(operation_key)) => {
            let (targets, budgets) = terms_of(store, action)?;
            ReviewDecision::Record {
                operation_key,
                targets,
                budgets,
            }
        }
        (_, Decision::RunBeyondBudget) => ReviewDecision::RunBeyondBudget,
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
        actor: said_by(asked.actor),
        why: asked.why,
        now: clock::now(),
        dry_run: asked.dry_run,
    })?;
    answer.report().map_err(conflict)
}

/// Where the route of now sends what the job of an action proposed, and the budgets that it is taken from.
fn terms_of(store: &GuestStore, action: ActionId) -> Result<(Targets, Vec<Budget>), Refusal> {
    let (tenant, name) = store.route_of(action)?;
    let found = tenants::work(&tenant).map_err(conflict)?.and_then(|work| {
        let route = work.routes.into_iter().find(|route| route.name == name)?;
        let budgets = grant::bounding(&route.grants, |_| true);
        let targets = Targets {
            destinations: route.destinations,
            renamed: work.renamed,
            ordered: work.ordered,
            sharing: work.sharing,
        };
        Some((targets, budgets))
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

/// Joins what is asked for with what the routes say now. Receipts are routed again by a native host only.
fn replay(store: &GuestStore, asked: AskedReplay) -> Result<ReplayRequest, Refusal> {
    let what = match asked.what {
        ReplayOf::Receipt(receipt) => again(store, receipt)?,
        ReplayOf::DeadLetters(filter) => ReplayWhat::DeadLetters(filter),
        ReplayOf::HeldJobs(filter) => ReplayWhat::HeldJobs(filter),
        ReplayOf::Receipts(_) => {
            return Err(Refusal::bad(
                "a Spin app routes receipts again one by one: replay each by its `receipt`",
            ));
        }
    };
    Ok(ReplayRequest {
        routes: route_targets(store, &what)?,
        what,
        dry_run: asked.dry_run,
        now: clock::now(),
        actor: said_by(asked.actor),
        why: asked.why,
    })
}

/// Puts delivered entries back to work, or with a dry run says which.
fn resend(store: &GuestStore, asked: AskedResend) -> Result<ResendReport, Refusal> {
    let found = store.sent(&asked.of)?;
    let next = found
        .last()
        .filter(|_| found.len() == asked.of.rows_max)
        .map(|last| last.entry);
    let (mut resent, mut passed_over) = (Vec::new(), Vec::new());
    for sent in found {
        match not_sent_again(&sent)? {
            None => resent.push(sent),
            Some(because) => passed_over.push(PassedOver { sent, because }),
        }
    }
    if !asked.dry_run {
        let done = store.resend(&ResendRequest {
            entries: resent.iter().map(|sent| sent.entry).collect(),
            now: clock::now(),
            actor: said_by(asked.actor),
            why: asked.why,
        })?;
        resent.retain(|sent| done.contains(&sent.entry));
    }
    Ok(ResendReport {
        dry_run: asked.dry_run,
        resent,
        passed_over,
        next,
    })
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

/// Where the routes of now send what they record: those of the tenant that a replay is about, where it is about one.
fn route_targets(store: &GuestStore, what: &ReplayWhat) -> Result<Vec<RouteTargets>, Refusal> {
    let tenant = match what {
        ReplayWhat::Receipt { receipt, .. } => Some(store.event(*receipt)?.tenant),
        ReplayWhat::DeadLetters(filter) => filter.tenant.clone(),
        ReplayWhat::HeldJobs(filter) => filter.tenant.clone(),
        // The last two are steps of bulk actions, which a Spin app does not serve.
        ReplayWhat::Routed(_) | ReplayWhat::Jobs(_) | ReplayWhat::Entries(_) => None,
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
                ordered: work.ordered.clone(),
                sharing: work.sharing.clone(),
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
