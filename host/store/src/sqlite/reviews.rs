//! Review: held receipts, and what people decided about them (promise T4).

use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use tollgate_core::admission::Disposition;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::ids::{ReceiptId, Status};
use tollgate_core::review::{self, Reviewed};
use tollgate_core::secret::Secret;

use super::admit::{find_subject, insert_jobs};
use super::fault::Fault;
use super::receipts::{self, Body, Receipt, Subject, View};
use super::rows::{self, get, id};
use super::transaction::Transaction;
use crate::{HeldFilter, HeldReceipt, ReviewAnswer, ReviewDecision, ReviewReport, ReviewRequest, ReviewView};

/// Lists held receipts, newest first.
pub(super) fn held(view: View<'_>, filter: &HeldFilter) -> Result<Vec<HeldReceipt>, Fault> {
    let mut held = Vec::new();
    for seq in receipts::held(view, filter.with_reviewed)? {
        if held.len() == filter.rows_max {
            break;
        }
        let receipt = receipts::get_known(view, seq, Body::Without)?;
        let event = &receipt.event;
        let Disposition::Held { reason } = &receipt.disposition else {
            return Err(Fault::damaged(
                "receipt",
                format_args!("number {seq} is listed as held and is not"),
            ));
        };
        if filter.tenant.as_ref().is_none_or(|only| *only == event.tenant)
            && filter.source.as_ref().is_none_or(|only| *only == event.source)
            && filter.since.is_none_or(|since| event.received_at >= since)
            && filter.reason.as_ref().is_none_or(|part| reason.contains(part))
        {
            held.push(HeldReceipt {
                receipt: receipt.id,
                tenant: event.tenant.clone(),
                source: event.source.clone(),
                event_id: event.id.to_string(),
                event_type: event.event_type.to_string(),
                subject: event.subject.as_ref().map(ToString::to_string),
                family: event.reading.family().map(ToString::to_string),
                status: match &event.reading {
                    StatusReading::Mapped { status, .. } => Some(status.to_string()),
                    StatusReading::Unmapped { label, .. } => label.clone(),
                    StatusReading::Stateless => None,
                },
                received_at: event.received_at.to_string(),
                reason: reason.clone(),
                review: self::view(&view, seq)?,
            });
        }
    }
    Ok(held)
}

fn read(view: View<'_>, receipt: ReceiptId, body: Body) -> Result<Arc<Receipt>, Fault> {
    match receipts::find(view, &[receipt])?.pop() {
        Some(seq) => receipts::get_known(view, seq, body),
        None => Err(Fault::NotFound(receipt.to_string())),
    }
}

/// The event as it was admitted.
pub(super) fn event(view: View<'_>, receipt: ReceiptId) -> Result<Event, Fault> {
    Ok(Event::clone(&read(view, receipt, Body::With)?.event))
}

/// The receipt's event with the status that a person gave to it, if one did: what plugins see.
pub(super) fn as_reviewed(connection: &Connection, receipt: &Receipt) -> Result<Arc<Event>, Fault> {
    let event = Arc::clone(&receipt.event);
    // Only what was held is ever reviewed.
    if !matches!(receipt.disposition, Disposition::Held { .. }) {
        return Ok(event);
    }
    Ok(match view(connection, receipt.seq)?.map(|view| view.reviewed) {
        Some(Reviewed::Accepted { status }) => Arc::new(review::mapped(Arc::unwrap_or_clone(event), &status)),
        Some(Reviewed::Superseded { .. } | Reviewed::Dismissed) | None => event,
    })
}

/// What was decided about a receipt.
pub(super) fn view(connection: &Connection, receipt_seq: i64) -> Result<Option<ReviewView>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT at, actor, why, became, status, current, lifecycle_version FROM reviews WHERE receipt = ?1",
    )?;
    let mut found = statement.query([receipt_seq])?;
    found.next()?.map(read_view).transpose()
}

fn read_view(row: &Row<'_>) -> Result<ReviewView, Fault> {
    let reviewed = match get::<i64>(row, "became")? {
        0 => Reviewed::Accepted {
            status: id(row, "status")?,
        },
        1 => Reviewed::Superseded {
            status: id(row, "status")?,
            current: id(row, "current")?,
        },
        2 => Reviewed::Dismissed,
        other => return Err(Fault::damaged("became", other)),
    };
    Ok(ReviewView {
        at: rows::millis(row, "at")?.to_string(),
        actor: get(row, "actor")?,
        why: get(row, "why")?,
        reviewed,
        lifecycle_version: get(row, "lifecycle_version")?,
    })
}

/// What a decision would do. A dry run ends here.
pub(super) fn plan(view: View<'_>, key: &Secret, request: &ReviewRequest) -> Result<ReviewAnswer, Fault> {
    Ok(match decide(view, key, request)? {
        Ok(decided) => ReviewAnswer::Reviewed(decided.report),
        Err(refused) => refused,
    })
}

/// Does what [`plan`] says.
pub(super) fn review(
    transaction: &mut Transaction<'_>,
    key: &Secret,
    request: &ReviewRequest,
) -> Result<ReviewAnswer, Fault> {
    let decided = match decide(transaction.view(), key, request)? {
        Ok(decided) => decided,
        Err(refused) => return Ok(refused),
    };
    let seq = decided.receipt.seq;
    let reviewed = &decided.report.reviewed;
    if let (Reviewed::Accepted { status }, Some(subject), ReviewDecision::Map { jobs, .. }) =
        (reviewed, decided.subject, &request.decision)
    {
        receipts::set_status(transaction, subject, status)?;
        transaction.jobs_ready |= insert_jobs(
            transaction.connection,
            &decided.receipt.event.tenant,
            jobs,
            seq,
            request.now,
        )?;
    }
    append(transaction.connection, seq, request, reviewed)?;
    Ok(ReviewAnswer::Reviewed(decided.report))
}

struct Decided {
    receipt: Arc<Receipt>,
    /// The event's subject, when it has one.
    subject: Option<Subject>,
    report: ReviewReport,
}

fn decide(view: View<'_>, key: &Secret, request: &ReviewRequest) -> Result<Result<Decided, ReviewAnswer>, Fault> {
    let receipt = read(view, request.receipt, Body::Without)?;
    if !matches!(receipt.disposition, Disposition::Held { .. }) {
        return Ok(Err(ReviewAnswer::NotHeld));
    }
    if let Some(decision) = self::view(&view, receipt.seq)? {
        return Ok(Err(ReviewAnswer::AlreadyReviewed(decision)));
    }
    let subject = find_subject(view, key, &receipt.event)?;
    let current: Option<&Status> = subject.as_ref().and_then(Subject::status);
    let (reviewed, jobs) = match &request.decision {
        ReviewDecision::Dismiss => (Reviewed::Dismissed, &[][..]),
        ReviewDecision::Map {
            status,
            lifecycle,
            jobs,
        } => match review::judge(&receipt.event, lifecycle.as_deref(), status, current) {
            Ok(reviewed @ Reviewed::Accepted { .. }) => (reviewed, &jobs[..]),
            Ok(reviewed) => (reviewed, &[][..]),
            Err(unmappable) => return Ok(Err(ReviewAnswer::Unmappable(unmappable))),
        },
    };
    let report = ReviewReport {
        dry_run: request.dry_run,
        receipt: request.receipt,
        reviewed,
        routes: jobs.iter().map(|job| job.route.clone()).collect(),
    };
    Ok(Ok(Decided {
        receipt,
        subject,
        report,
    }))
}

/// The decision's row and its line of history.
fn append(connection: &Connection, seq: i64, request: &ReviewRequest, reviewed: &Reviewed) -> Result<(), Fault> {
    let (became, status, current) = match reviewed {
        Reviewed::Accepted { status } => (0, Some(status), None),
        Reviewed::Superseded { status, current } => (1, Some(status), Some(current)),
        Reviewed::Dismissed => (2, None, None),
    };
    let lifecycle_version = match &request.decision {
        ReviewDecision::Map { lifecycle, .. } => lifecycle.as_ref().map(|lifecycle| lifecycle.version),
        ReviewDecision::Dismiss => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO reviews (receipt, at, actor, why, became, status, current, lifecycle_version) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            seq,
            request.now.0,
            request.actor,
            request.why,
            became,
            status.map(Status::as_str),
            current.map(Status::as_str),
            lifecycle_version,
        ])?;
    let what = match reviewed {
        Reviewed::Accepted { status } => format!("mapped to {status}"),
        Reviewed::Superseded { status, current } => {
            format!("mapped to {status}, superseded: the subject was already {current}")
        }
        Reviewed::Dismissed => "dismissed".to_owned(),
    };
    let why = request.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    rows::append_history(
        connection,
        seq,
        request.now,
        "reviewed",
        &format!("{what} by {}{why}", request.actor),
    )
}
