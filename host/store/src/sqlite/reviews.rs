//! Review: held receipts, and what people decided about them (promise T4).

use rusqlite::{Connection, Row, named_params, params};
use tollgate_core::admission::Disposition;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::ids::{ReceiptId, Status};
use tollgate_core::review::{self, Reviewed};
use tollgate_core::secret::Secret;

use super::admit::{SubjectRow, find_subject, insert_jobs};
use super::fault::Fault;
use super::rows::{self, EVENT_COLUMNS, get, id, id_opt};
use super::writer::Transaction;
use crate::{HeldFilter, HeldReceipt, ReviewAnswer, ReviewDecision, ReviewReport, ReviewRequest, ReviewView};

/// Lists held receipts, newest first.
pub(super) fn held(connection: &Connection, filter: &HeldFilter) -> Result<Vec<HeldReceipt>, Fault> {
    let open_only = if filter.with_reviewed {
        ""
    } else {
        "NOT EXISTS (SELECT 1 FROM reviews v WHERE v.receipt = r.seq) AND"
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT r.seq, r.id, r.event_id, r.event_type, r.subject, r.reading, r.status, r.received_at, r.disposition_detail, \
         o.tenant, o.source, o.family FROM receipts r JOIN origins o ON o.id = r.origin \
         WHERE r.disposition = 2 AND r.disposition <> 0 AND {open_only} (:tenant IS NULL OR o.tenant = :tenant) \
         AND (:source IS NULL OR o.source = :source) AND (:since IS NULL OR r.received_at >= :since) \
         AND (:reason IS NULL OR instr(r.disposition_detail, :reason) > 0) ORDER BY r.seq DESC LIMIT :rows_max"
    ))?;
    let mut found = statement.query(named_params! {
        ":tenant": filter.tenant.as_ref().map(|name| name.as_str()),
        ":source": filter.source.as_ref().map(|name| name.as_str()),
        ":since": filter.since.map(|at| at.0),
        ":reason": filter.reason,
        ":rows_max": i64::try_from(filter.rows_max).unwrap_or(i64::MAX),
    })?;
    let mut held = Vec::new();
    while let Some(row) = found.next()? {
        let reading = rows::reading(row)?;
        held.push(HeldReceipt {
            receipt: rows::receipt_id(row, "id")?,
            tenant: id(row, "tenant")?,
            source: id(row, "source")?,
            event_id: get(row, "event_id")?,
            event_type: get(row, "event_type")?,
            subject: id_opt(row, "subject")?,
            family: reading.family().map(ToString::to_string),
            status: match reading {
                StatusReading::Mapped { status, .. } => Some(status.to_string()),
                StatusReading::Unmapped { label, .. } => label,
                StatusReading::Stateless => None,
            },
            received_at: rows::millis(row, "received_at")?.to_string(),
            reason: get(row, "disposition_detail")?,
            review: view(connection, get(row, "seq")?)?,
        });
    }
    Ok(held)
}

/// A receipt as a review needs it.
struct ReceiptRow {
    seq: i64,
    event: Event,
    disposition: Disposition,
}

fn read(connection: &Connection, receipt: ReceiptId) -> Result<ReceiptRow, Fault> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT r.seq, r.disposition, r.disposition_detail, {EVENT_COLUMNS}, r.body \
         FROM receipts r JOIN origins o ON o.id = r.origin WHERE r.id = ?1"
    ))?;
    let mut found = statement.query([receipt.0.as_slice()])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(receipt.to_string()))?;
    Ok(ReceiptRow {
        seq: get(row, "seq")?,
        event: rows::event(row, get(row, "body")?)?,
        disposition: rows::disposition(row)?,
    })
}

/// The event as it was admitted.
pub(super) fn event(connection: &Connection, receipt: ReceiptId) -> Result<Event, Fault> {
    Ok(read(connection, receipt)?.event)
}

/// The event with the status that a person gave to it, if one did: what plugins see.
pub(super) fn as_reviewed(connection: &Connection, receipt_seq: i64, event: Event) -> Result<Event, Fault> {
    if event.reading == StatusReading::Stateless {
        return Ok(event);
    }
    Ok(match view(connection, receipt_seq)?.map(|view| view.reviewed) {
        Some(Reviewed::Accepted { status }) => review::mapped(event, &status),
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
pub(super) fn plan(connection: &Connection, key: &Secret, request: &ReviewRequest) -> Result<ReviewAnswer, Fault> {
    Ok(match decide(connection, key, request)? {
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
    let decided = match decide(transaction.connection, key, request)? {
        Ok(decided) => decided,
        Err(refused) => return Ok(refused),
    };
    let seq = decided.receipt.seq;
    let reviewed = &decided.report.reviewed;
    if let (Reviewed::Accepted { status }, Some(subject), ReviewDecision::Map { jobs, .. }) =
        (reviewed, &decided.subject, &request.decision)
    {
        transaction
            .connection
            .prepare_cached("UPDATE subjects SET status = ?2 WHERE key = ?1")?
            .execute(params![subject.key.as_slice(), status.as_str()])?;
        insert_jobs(transaction, jobs, seq, request.now)?;
    }
    append(transaction.connection, seq, request, reviewed)?;
    Ok(ReviewAnswer::Reviewed(decided.report))
}

struct Decided {
    receipt: ReceiptRow,
    /// The row of the event's subject, when it has one.
    subject: Option<SubjectRow>,
    report: ReviewReport,
}

fn decide(
    connection: &Connection,
    key: &Secret,
    request: &ReviewRequest,
) -> Result<Result<Decided, ReviewAnswer>, Fault> {
    let receipt = read(connection, request.receipt)?;
    if !matches!(receipt.disposition, Disposition::Held { .. }) {
        return Ok(Err(ReviewAnswer::NotHeld));
    }
    if let Some(view) = view(connection, receipt.seq)? {
        return Ok(Err(ReviewAnswer::AlreadyReviewed(view)));
    }
    let subject = find_subject(connection, key, &receipt.event)?;
    let current: Option<&Status> = subject.as_ref().and_then(SubjectRow::status);
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
