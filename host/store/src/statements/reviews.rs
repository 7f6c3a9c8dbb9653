//! Review: what people decided about held receipts, held jobs, deliveries in conflict and conflicts with the ledger (promise T4).

use std::sync::Arc;

use tollgate_core::admission::{self, Admission, Decision, Disposition, NewJob};
use tollgate_core::event::Event;
use tollgate_core::ids::{ActionId, DeliveryId, JobId, OperationKey, ReceiptId, RouteName, Status, TenantName};
use tollgate_core::review::{self, Reviewed, Target, Word};
use tollgate_core::secret::Secret;
use tollgate_core::subject::Scope;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::JobState;

use super::admit::{self, find_subject, foresee, insert_jobs};
use super::append::{self, number_of};
use super::fault::Fault;
use super::jobs::{self, Bounds};
use super::receipts::{self, Body, Receipt, Subject, View};
use super::reviewed::{self, By, append_history, append_receipt_review, append_work_review};
use super::rows::{self, get, id};
use super::transaction::Transaction;
use super::{budgets, deliveries, outbox};
use crate::sql::{Connection, OptionalExtension as _, params};
use crate::{Admitted, ReviewAnswer, ReviewDecision, ReviewReport, ReviewRequest, Targets};

/// The event as it was admitted.
pub(crate) fn event(view: View<'_>, receipt: ReceiptId) -> Result<Event, Fault> {
    Ok(Event::clone(&receipts::get_named(view, receipt, Body::With)?.event))
}

/// The receipt that something belongs to.
pub(crate) fn receipt_of(view: View<'_>, target: Target) -> Result<ReceiptId, Fault> {
    let (sql, number) = match target {
        Target::Receipt(receipt) => return Ok(receipts::get_named(view, receipt, Body::Without)?.id),
        Target::Job(job) => ("SELECT receipt FROM jobs WHERE id = ?1", job.0),
        Target::Delivery(delivery) => ("SELECT receipt FROM deliveries WHERE id = ?1", delivery.0),
        Target::Action(action) => ("SELECT receipt FROM actions WHERE id = ?1", action.0),
    };
    let seq: Option<i64> = view
        .prepare_cached(sql)?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let seq = seq.ok_or_else(|| Fault::NotFound(target.to_string()))?;
    Ok(receipts::get_known(view, seq, Body::Without)?.id)
}

/// The route whose job proposed an action.
pub(crate) fn route_of(view: View<'_>, action: ActionId) -> Result<(TenantName, RouteName), Fault> {
    let mut statement = view.prepare_cached(
        "SELECT j.tenant, j.route FROM actions a JOIN runs r ON r.id = a.run JOIN jobs j ON j.id = r.job WHERE a.id = ?1",
    )?;
    let mut found = statement.query([action.0])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(action.to_string()))?;
    Ok((id(row, "tenant")?, id(row, "route")?))
}

/// What a decision would do. A dry run ends here.
pub(crate) fn plan(view: View<'_>, key: &Secret, request: &ReviewRequest) -> Result<ReviewAnswer, Fault> {
    Ok(match decide(view, key, request)? {
        Ok(decided) => ReviewAnswer::Reviewed(decided.report),
        Err(refused) => refused,
    })
}

/// Does what [`plan`] says.
pub(crate) fn review(
    transaction: &mut Transaction<'_>,
    key: &Secret,
    request: &ReviewRequest,
) -> Result<ReviewAnswer, Fault> {
    let decided = match decide(transaction.view(), key, request)? {
        Ok(decided) => decided,
        Err(refused) => return Ok(refused),
    };
    let Decided {
        receipt,
        subject,
        jobs,
        mut report,
    } = decided;
    if let (
        Target::Action(action),
        ReviewDecision::Record {
            operation_key,
            targets,
            budgets,
        },
    ) = (request.target, &request.decision)
    {
        let recorded = record(transaction, action, operation_key, targets, request.now)?;
        budgets::count_recorded(transaction.connection, recorded, budgets, request.now)?;
        report.reviewed = Reviewed::Recorded {
            operation_key: operation_key.clone(),
            action: Some(recorded),
        };
    }
    let reviewed = &report.reviewed;
    let mut own = None;
    match (reviewed, &request.decision) {
        (Reviewed::Accepted { status }, ReviewDecision::Map { word, .. }) => {
            let Some(subject) = subject else {
                return Err(Fault::damaged(
                    "review",
                    "a status was given to an event without a subject",
                ));
            };
            if *word == Word::SetsRight {
                let was = subject.status().map_or("nothing", Status::as_str);
                let why = request.why.as_deref().unwrap_or_default();
                let said = format!("set right from {was} to {status} by {}: {why}", request.actor);
                rows::append_history(transaction.connection, receipt.seq, request.now, "subject", &said)?;
            }
            append::set_status(transaction, subject, receipt.seq, status)?;
            let event = &receipt.event;
            insert_jobs(transaction, &event.tenant, &jobs, receipt.seq, request.now)?;
            if jobs.is_empty() {
                let origin = transaction.origin(&event.tenant, &event.source, event.reading.family())?;
                append::note_unrouted_later(transaction, receipt.seq, origin)?;
            }
        }
        (Reviewed::Superseded { .. }, ReviewDecision::Map { .. }) => {
            let tenant = &receipt.event.tenant;
            insert_jobs(transaction, tenant, &jobs, receipt.seq, request.now)?;
        }
        (_, ReviewDecision::Admit(admission) | ReviewDecision::ReplaceWith { admission, .. }) => {
            own = Some(admit_own(transaction, key, admission, reviewed)?);
        }
        (Reviewed::RunAgain | Reviewed::RunBeyondBudget, _) => {
            if let Target::Job(job) = request.target {
                let bounds = match reviewed {
                    Reviewed::RunBeyondBudget => Bounds::BeyondBudget,
                    _ => Bounds::Budgets,
                };
                jobs::requeue(transaction, job, bounds, request.now)?;
            }
        }
        (
            _,
            ReviewDecision::Map { .. }
            | ReviewDecision::Run
            | ReviewDecision::RunBeyondBudget
            | ReviewDecision::Dismiss
            | ReviewDecision::Keep
            | ReviewDecision::Record { .. },
        ) => {}
    }
    write(transaction.connection, receipt.seq, request, reviewed, own)?;
    Ok(ReviewAnswer::Reviewed(report))
}

/// Records a conflicting proposal as an action of its run, under a key of its own, and sends it.
fn record(
    transaction: &mut Transaction<'_>,
    conflict: ActionId,
    operation_key: &OperationKey,
    targets: &Targets,
    now: UnixMillis,
) -> Result<ActionId, Fault> {
    let connection = transaction.connection;
    connection
        .prepare_cached(
            "INSERT INTO actions (run, at, receipt, tenant, namespace, kind, operation_key, content_digest, json, conflict, recorded_at) \
             SELECT run, -1 - at, receipt, tenant, namespace, kind, ?2, content_digest, json, 0, ?3 FROM actions WHERE id = ?1",
        )?
        .execute(params![conflict.0, operation_key.as_str(), now.0])?;
    let recorded = connection.last_insert_rowid();
    let tenant: String = connection
        .prepare_cached("SELECT tenant FROM actions WHERE id = ?1")?
        .query_row([recorded], |row| row.get(0))?;
    let tenant = tenant.parse().map_err(|error| Fault::damaged("tenant", error))?;
    outbox::send(transaction, &tenant, recorded, targets, now)?;
    Ok(ActionId(recorded))
}

/// Admits a delivery as the event of its own that `reviewed` names, and answers that event's number.
fn admit_own(
    transaction: &mut Transaction<'_>,
    key: &Secret,
    admission: &Admission,
    reviewed: &Reviewed,
) -> Result<i64, Fault> {
    let foreseen = match reviewed {
        Reviewed::Admitted { disposition, .. } | Reviewed::Replaced { disposition, .. } => disposition,
        Reviewed::Accepted { .. }
        | Reviewed::Superseded { .. }
        | Reviewed::Dismissed
        | Reviewed::RunAgain
        | Reviewed::RunBeyondBudget
        | Reviewed::Kept { .. }
        | Reviewed::Recorded { .. } => {
            return Err(Fault::damaged("review", "a delivery was decided to be no event"));
        }
    };
    match admit::admit(transaction, key, admission)? {
        Admitted::New(disposition) if disposition == *foreseen => {}
        // The very bytes are an event of their own already.
        Admitted::Same { .. } => {}
        other => {
            return Err(Fault::damaged(
                "review",
                format_args!("decided {reviewed:?}, admitted {other:?}"),
            ));
        }
    }
    number_of(transaction, admission.receipt)
}

struct Decided {
    /// That the decision is about, or that the job or the delivery belongs to.
    receipt: Arc<Receipt>,
    /// The event's subject, when it has one.
    subject: Option<Subject>,
    /// That are made with it.
    jobs: Vec<NewJob>,
    report: ReviewReport,
}

type Refused = Result<Decided, ReviewAnswer>;

fn decide(view: View<'_>, key: &Secret, request: &ReviewRequest) -> Result<Refused, Fault> {
    match request.target {
        Target::Receipt(receipt) => decide_receipt(view, key, request, receipt),
        Target::Job(job) => decide_job(view, request, job),
        Target::Delivery(delivery) => decide_delivery(view, key, request, delivery),
        Target::Action(action) => decide_action(view, request, action),
    }
}

fn decide_receipt(view: View<'_>, key: &Secret, request: &ReviewRequest, receipt: ReceiptId) -> Result<Refused, Fault> {
    let receipt = receipts::get_named(view, receipt, Body::Without)?;
    if !matches!(receipt.disposition, Disposition::Held { .. }) {
        return Ok(Err(ReviewAnswer::NotHeld));
    }
    if let Some(decision) = reviewed::view(view, receipt.seq)? {
        return Ok(Err(ReviewAnswer::AlreadyReviewed(decision)));
    }
    let scope = match &request.decision {
        ReviewDecision::Map { scope, .. } => *scope,
        ReviewDecision::Run
        | ReviewDecision::RunBeyondBudget
        | ReviewDecision::Admit(_)
        | ReviewDecision::ReplaceWith { .. }
        | ReviewDecision::Dismiss
        | ReviewDecision::Keep
        | ReviewDecision::Record { .. } => Scope::default(),
    };
    let subject = find_subject(view, key, &receipt.event, scope)?;
    let current: Option<&Status> = subject.as_ref().and_then(Subject::status);
    let mut made = Vec::new();
    let (reviewed, routes) = match &request.decision {
        ReviewDecision::Dismiss => (Reviewed::Dismissed, Vec::new()),
        ReviewDecision::Map {
            status,
            word,
            lifecycle,
            scope: _,
            jobs,
        } => match review::judge(&receipt.event, lifecycle.as_deref(), status, current, *word) {
            Ok(reviewed) => {
                made = match &reviewed {
                    Reviewed::Superseded { status, current } => {
                        admission::made_late(jobs, lifecycle.as_deref(), Some(status), current)
                    }
                    Reviewed::Accepted { .. } => admission::on_time(jobs.clone()),
                    Reviewed::Dismissed
                    | Reviewed::Replaced { .. }
                    | Reviewed::RunAgain
                    | Reviewed::RunBeyondBudget
                    | Reviewed::Admitted { .. }
                    | Reviewed::Kept { .. }
                    | Reviewed::Recorded { .. } => Vec::new(),
                };
                (reviewed, routes_of(&made))
            }
            Err(unmappable) => return Ok(Err(ReviewAnswer::Unmappable(unmappable))),
        },
        ReviewDecision::ReplaceWith { delivery, admission } => {
            match deliveries::conflicting(view.connection, *delivery)? {
                Some(conflict) if conflict.receipt_seq == receipt.seq => {
                    if let (true, Some(decision)) = (conflict.is_decided, reviewed::of_delivery(view, *delivery)?) {
                        return Ok(Err(ReviewAnswer::AlreadyReviewed(decision)));
                    }
                }
                Some(_) | None => return Ok(Err(ReviewAnswer::NotItsDelivery)),
            }
            let (own_receipt, disposition, routes) = own_event(view, key, admission)?;
            let reviewed = Reviewed::Replaced {
                delivery: *delivery,
                own_receipt,
                disposition,
            };
            (reviewed, routes)
        }
        ReviewDecision::Run
        | ReviewDecision::RunBeyondBudget
        | ReviewDecision::Admit(_)
        | ReviewDecision::Keep
        | ReviewDecision::Record { .. } => {
            return Ok(Err(ReviewAnswer::NotHeld));
        }
    };
    Ok(Ok(Decided {
        jobs: made,
        ..decided(request, receipt, subject, reviewed, routes)
    }))
}

fn routes_of(jobs: &[NewJob]) -> Vec<RouteName> {
    jobs.iter().map(|job| job.spec.route.clone()).collect()
}

fn decide_job(view: View<'_>, request: &ReviewRequest, job: JobId) -> Result<Refused, Fault> {
    let mut statement = view.prepare_cached("SELECT receipt, route, state FROM jobs WHERE id = ?1")?;
    let mut found = statement.query([job.0])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(job.to_string()))?;
    match rows::job_state(row, "state")? {
        JobState::Held => {}
        JobState::Dismissed => {
            return Ok(Err(match reviewed::of_job(view, job)? {
                Some(decision) => ReviewAnswer::AlreadyReviewed(decision),
                None => ReviewAnswer::NotHeld,
            }));
        }
        JobState::Blocked | JobState::Ready | JobState::Leased | JobState::Done | JobState::Dead => {
            return Ok(Err(ReviewAnswer::NotHeld));
        }
    }
    let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
    let (reviewed, routes) = match &request.decision {
        ReviewDecision::Run => (Reviewed::RunAgain, vec![id::<RouteName>(row, "route")?]),
        ReviewDecision::RunBeyondBudget => (Reviewed::RunBeyondBudget, vec![id::<RouteName>(row, "route")?]),
        ReviewDecision::Dismiss => (Reviewed::Dismissed, Vec::new()),
        ReviewDecision::Map { .. }
        | ReviewDecision::Admit(_)
        | ReviewDecision::ReplaceWith { .. }
        | ReviewDecision::Keep
        | ReviewDecision::Record { .. } => return Ok(Err(ReviewAnswer::NotHeld)),
    };
    Ok(Ok(decided(request, receipt, None, reviewed, routes)))
}

fn decide_delivery(
    view: View<'_>,
    key: &Secret,
    request: &ReviewRequest,
    delivery: DeliveryId,
) -> Result<Refused, Fault> {
    let Some(conflict) = deliveries::conflicting(view.connection, delivery)? else {
        return Ok(Err(ReviewAnswer::NotHeld));
    };
    if conflict.is_decided {
        match reviewed::of_delivery(view, delivery)? {
            Some(decision) => return Ok(Err(ReviewAnswer::AlreadyReviewed(decision))),
            // Only the source's rule said so: a person may still give it effect.
            None if conflict.is_suspected => {}
            None => return Ok(Err(ReviewAnswer::NotHeld)),
        }
    }
    let receipt = receipts::get_known(view, conflict.receipt_seq, Body::Without)?;
    let (reviewed, routes) = match &request.decision {
        ReviewDecision::Admit(admission) if admission.body_commitment == conflict.body_commitment => {
            let (own_receipt, disposition, routes) = own_event(view, key, admission)?;
            let reviewed = Reviewed::Admitted {
                own_receipt,
                disposition,
            };
            (reviewed, routes)
        }
        ReviewDecision::Dismiss => (Reviewed::Dismissed, Vec::new()),
        ReviewDecision::Admit(_)
        | ReviewDecision::Run
        | ReviewDecision::RunBeyondBudget
        | ReviewDecision::Map { .. }
        | ReviewDecision::ReplaceWith { .. }
        | ReviewDecision::Keep
        | ReviewDecision::Record { .. } => return Ok(Err(ReviewAnswer::NotItsDelivery)),
    };
    Ok(Ok(decided(request, receipt, None, reviewed, routes)))
}

fn decide_action(view: View<'_>, request: &ReviewRequest, action: ActionId) -> Result<Refused, Fault> {
    let mut statement = view.prepare_cached("SELECT receipt, operation_key, conflict FROM actions WHERE id = ?1")?;
    let mut found = statement.query([action.0])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(action.to_string()))?;
    if get::<i64>(row, "conflict")? == 0 {
        return Ok(Err(ReviewAnswer::NotHeld));
    }
    if let Some(decision) = reviewed::of_action(view, action)? {
        return Ok(Err(ReviewAnswer::AlreadyReviewed(decision)));
    }
    let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
    let (reviewed, destinations) = match &request.decision {
        ReviewDecision::Keep => {
            let key: OperationKey = id(row, "operation_key")?;
            let action = recorded_under(view.connection, action, &key)?
                .ok_or_else(|| Fault::damaged("conflict", format_args!("{action} conflicts with nothing")))?;
            (Reviewed::Kept { action }, Vec::new())
        }
        ReviewDecision::Record {
            operation_key, targets, ..
        } => {
            if let Some(taken) = recorded_under(view.connection, action, operation_key)? {
                return Ok(Err(ReviewAnswer::KeyTaken(taken)));
            }
            let reviewed = Reviewed::Recorded {
                operation_key: operation_key.clone(),
                action: None,
            };
            (reviewed, targets.destinations.clone())
        }
        ReviewDecision::Map { .. }
        | ReviewDecision::Run
        | ReviewDecision::RunBeyondBudget
        | ReviewDecision::Admit(_)
        | ReviewDecision::ReplaceWith { .. }
        | ReviewDecision::Dismiss => return Ok(Err(ReviewAnswer::NotHeld)),
    };
    let mut decided = decided(request, receipt, None, reviewed, Vec::new());
    decided.report.destinations = destinations;
    Ok(Ok(decided))
}

/// The action that is recorded under an operation key, of the tenant, namespace and kind of another one.
fn recorded_under(connection: &Connection, of: ActionId, key: &OperationKey) -> Result<Option<ActionId>, Fault> {
    let found = connection
        .prepare_cached(
            "SELECT s.id FROM actions a JOIN actions s ON s.operation_key = ?2 AND s.tenant = a.tenant \
             AND s.namespace = a.namespace AND s.kind = a.kind AND s.conflict = 0 WHERE a.id = ?1",
        )?
        .query_row(params![of.0, key.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.map(ActionId))
}

/// What a delivery would be as an event of its own: its receipt, disposition and the routes of its jobs.
fn own_event(
    view: View<'_>,
    key: &Secret,
    admission: &Admission,
) -> Result<(ReceiptId, Disposition, Vec<RouteName>), Fault> {
    let disposition = match foresee(view, key, admission)? {
        Decision::New(disposition) => disposition,
        Decision::Same => receipts::get_named(view, admission.receipt, Body::Without)?
            .disposition
            .clone(),
        Decision::Conflict | Decision::SuspectedReplay => {
            return Err(Fault::damaged(
                "review",
                "an event of its own conflicts with what its own bytes name",
            ));
        }
    };
    let routes = routes_of(&admission.made(&disposition));
    Ok((admission.receipt, disposition, routes))
}

fn decided(
    request: &ReviewRequest,
    receipt: Arc<Receipt>,
    subject: Option<Subject>,
    reviewed: Reviewed,
    routes: Vec<RouteName>,
) -> Decided {
    let report = ReviewReport {
        dry_run: request.dry_run,
        receipt: receipt.id,
        reviewed,
        routes,
        destinations: Vec::new(),
    };
    Decided {
        receipt,
        subject,
        jobs: Vec::new(),
        report,
    }
}

/// Writes the decision's row, what it closes, and its lines of history.
fn write(
    connection: &Connection,
    seq: i64,
    request: &ReviewRequest,
    reviewed: &Reviewed,
    own: Option<i64>,
) -> Result<(), Fault> {
    let by = By {
        actor: &request.actor,
        why: request.why.as_deref(),
        at: request.now,
    };
    match request.target {
        Target::Receipt(_) => {
            let lifecycle_version = match &request.decision {
                ReviewDecision::Map { lifecycle, .. } => lifecycle.as_ref().map(|lifecycle| lifecycle.version),
                ReviewDecision::Run
                | ReviewDecision::RunBeyondBudget
                | ReviewDecision::Admit(_)
                | ReviewDecision::ReplaceWith { .. }
                | ReviewDecision::Dismiss
                | ReviewDecision::Keep
                | ReviewDecision::Record { .. } => None,
            };
            append_receipt_review(connection, seq, &by, reviewed, lifecycle_version, own)?;
            if let Reviewed::Replaced { delivery, .. } = reviewed {
                deliveries::mark_decided(connection, *delivery)?;
            }
        }
        Target::Job(job) => {
            append_work_review(connection, request.target, &by, reviewed, own)?;
            if *reviewed == Reviewed::Dismissed {
                jobs::dismiss(connection, job)?;
            }
        }
        Target::Delivery(delivery) => {
            append_work_review(connection, request.target, &by, reviewed, own)?;
            deliveries::mark_decided(connection, delivery)?;
        }
        Target::Action(_) => append_work_review(connection, request.target, &by, reviewed, own)?,
    }
    let of = match request.target {
        Target::Receipt(_) => String::new(),
        Target::Job(_) | Target::Delivery(_) | Target::Action(_) => format!("{} ", request.target),
    };
    append_history(connection, seq, &by, &of, reviewed, own)
}
