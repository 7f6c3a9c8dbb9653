//! The dead-letter queue and replay. A replay puts work back; what it does a second time, the operation keys make harmless.

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};
use tollgate_core::ids::{ActionId, DeadLetterId, JobId, OutboxId, ReceiptId};
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::receipts::{self, Body, Receipt, View};
use super::rows::{self, WorkState, get, id};
use super::transaction::Transaction;
use super::{jobs, outbox};
use crate::{DeadLetter, DeadLetterFilter, DeadWork, ReplayReport, ReplayRequest, ReplayWhat, Replayed};

/// Lists dead letters, newest first.
pub(super) fn dead_letters(view: View<'_>, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Fault> {
    let found = find(view, filter, filter.with_replayed, "DESC")?;
    Ok(found.into_iter().map(|found| found.letter).collect())
}

/// A dead letter, with what a replay must know of it.
struct Found {
    letter: DeadLetter,
    receipt_seq: i64,
    /// The state of its job or entry now.
    state: WorkState,
}

/// `order` is `ASC` or `DESC`, by the letters' numbers.
fn find(view: View<'_>, filter: &DeadLetterFilter, with_replayed: bool, order: &str) -> Result<Vec<Found>, Fault> {
    let open_only = if with_replayed { "" } else { "d.replayed_at IS NULL AND" };
    let mut statement = view.prepare_cached(&format!(
        "SELECT d.id AS letter, d.job, d.entry, d.receipt, d.died_at, d.attempts, d.reason, d.replayed_at, \
         j.route, j.state AS job_state, e.destination, e.action, e.state AS entry_state, a.operation_key \
         FROM dead_letters d LEFT JOIN jobs j ON j.id = d.job LEFT JOIN outbox e ON e.id = d.entry \
         LEFT JOIN actions a ON a.id = e.action \
         WHERE {open_only} (:id IS NULL OR d.id = :id) AND (:route IS NULL OR j.route = :route) \
         AND (:destination IS NULL OR e.destination = :destination) AND (:since IS NULL OR d.died_at >= :since) \
         AND (:reason IS NULL OR instr(d.reason, :reason) > 0) ORDER BY d.id {order}"
    ))?;
    let mut rows = statement.query(named_params! {
        ":id": filter.id.map(|id| id.0),
        ":route": filter.route.as_ref().map(|name| name.as_str()),
        ":destination": filter.destination.as_ref().map(|name| name.as_str()),
        ":since": filter.since.map(|at| at.0),
        ":reason": filter.reason,
    })?;
    let mut found = Vec::new();
    while found.len() < filter.rows_max
        && let Some(row) = rows.next()?
    {
        let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
        let event = &receipt.event;
        if filter.tenant.as_ref().is_none_or(|only| *only == event.tenant)
            && filter.source.as_ref().is_none_or(|only| *only == event.source)
        {
            found.push(read(row, &receipt)?);
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>, receipt: &Receipt) -> Result<Found, Fault> {
    let (work, state) = match (get::<Option<i64>>(row, "job")?, get::<Option<i64>>(row, "entry")?) {
        (Some(job), None) => (
            DeadWork::Job {
                job: JobId(job),
                route: id(row, "route")?,
            },
            get(row, "job_state")?,
        ),
        (None, Some(entry)) => {
            let work = DeadWork::Delivery {
                entry: OutboxId(entry),
                destination: id(row, "destination")?,
                action: ActionId(get(row, "action")?),
                operation_key: get(row, "operation_key")?,
            };
            (work, get(row, "entry_state")?)
        }
        _ => {
            return Err(Fault::damaged(
                "dead letter",
                "it must be of a job or of an outbox entry",
            ));
        }
    };
    let event = &receipt.event;
    let letter = DeadLetter {
        id: DeadLetterId(get(row, "letter")?),
        work,
        tenant: event.tenant.clone(),
        source: event.source.clone(),
        receipt: receipt.id,
        event_id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        subject: event.subject.as_ref().map(|subject| subject.to_string()),
        died_at: rows::millis(row, "died_at")?.to_string(),
        attempts: rows::unsigned32(row, "attempts")?,
        reason: get(row, "reason")?,
        replayed_at: rows::millis_opt(row, "replayed_at")?.map(|at| at.to_string()),
    };
    Ok(Found {
        letter,
        receipt_seq: receipt.seq,
        state: WorkState::from_code(state)?,
    })
}

/// What a replay would do. A dry run ends here.
pub(super) fn plan(view: View<'_>, request: &ReplayRequest) -> Result<ReplayReport, Fault> {
    let planned = planned(view, request)?;
    Ok(ReplayReport {
        dry_run: request.dry_run,
        replayed: planned.into_iter().map(|step| step.replayed).collect(),
    })
}

/// Does what [`plan`] says.
pub(super) fn replay(transaction: &mut Transaction<'_>, request: &ReplayRequest) -> Result<ReplayReport, Fault> {
    let planned = planned(transaction.view(), request)?;
    let mut replayed = Vec::with_capacity(planned.len());
    for step in planned {
        match &step.replayed.work {
            DeadWork::Job { job, .. } => jobs::requeue(transaction, job.0, request.now)?,
            DeadWork::Delivery { entry, .. } => outbox::requeue(transaction, entry.0, request.now)?,
        }
        close_letters(transaction.connection, &step, request.now)?;
        append_history(transaction.connection, &step, request)?;
        replayed.push(step.replayed);
    }
    Ok(ReplayReport {
        dry_run: false,
        replayed,
    })
}

/// One piece of work to put back.
struct Step {
    receipt_seq: i64,
    replayed: Replayed,
}

fn planned(view: View<'_>, request: &ReplayRequest) -> Result<Vec<Step>, Fault> {
    match &request.what {
        ReplayWhat::DeadLetters(filter) => {
            if let Some(id) = filter.id
                && !letter_exists(&view, id)?
            {
                return Err(Fault::NotFound(id.to_string()));
            }
            // The oldest first, as they would have run. A letter whose work is already back at work is left alone.
            let found = find(view, filter, false, "ASC")?;
            Ok(found
                .into_iter()
                .filter(|found| found.state == WorkState::Dead)
                .map(Step::of_letter)
                .collect())
        }
        ReplayWhat::Receipt(receipt) => steps_of_receipt(view, *receipt),
    }
}

impl Step {
    fn of_letter(found: Found) -> Self {
        let letter = found.letter;
        let replayed = Replayed {
            receipt: letter.receipt,
            tenant: letter.tenant,
            event_id: letter.event_id,
            event_type: letter.event_type,
            work: letter.work,
            reason: letter.reason,
        };
        Self {
            receipt_seq: found.receipt_seq,
            replayed,
        }
    }
}

fn letter_exists(connection: &Connection, id: DeadLetterId) -> Result<bool, Fault> {
    let found = connection
        .query_row("SELECT 1 FROM dead_letters WHERE id = ?1", [id.0], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn steps_of_receipt(view: View<'_>, receipt: ReceiptId) -> Result<Vec<Step>, Fault> {
    let Some(seq) = receipts::find(view, &[receipt])?.pop() else {
        return Err(Fault::NotFound(receipt.to_string()));
    };
    let kept = receipts::get_known(view, seq, Body::Without)?;
    let mut statement =
        view.prepare_cached("SELECT id AS job, route, state, reason FROM jobs WHERE receipt = ?1 ORDER BY id")?;
    let mut found = statement.query([seq])?;
    let mut steps = Vec::new();
    while let Some(row) = found.next()? {
        let state = WorkState::from_code(get(row, "state")?)?;
        if state.is_open() {
            continue;
        }
        let reason: Option<String> = get(row, "reason")?;
        let replayed = Replayed {
            receipt,
            tenant: kept.event.tenant.clone(),
            event_id: kept.event.id.to_string(),
            event_type: kept.event.event_type.to_string(),
            work: DeadWork::Job {
                job: JobId(get(row, "job")?),
                route: id(row, "route")?,
            },
            reason: reason.unwrap_or_else(|| state.name("done").to_owned()),
        };
        steps.push(Step {
            receipt_seq: seq,
            replayed,
        });
    }
    Ok(steps)
}

/// The open letters of the work are answered by this replay, whichever way it was asked for.
fn close_letters(connection: &Connection, step: &Step, now: UnixMillis) -> Result<(), Fault> {
    let (sql, work) = match &step.replayed.work {
        DeadWork::Job { job, .. } => (
            "UPDATE dead_letters SET replayed_at = ?2 WHERE job = ?1 AND replayed_at IS NULL",
            job.0,
        ),
        DeadWork::Delivery { entry, .. } => (
            "UPDATE dead_letters SET replayed_at = ?2 WHERE entry = ?1 AND replayed_at IS NULL",
            entry.0,
        ),
    };
    connection.prepare_cached(sql)?.execute(params![work, now.0])?;
    Ok(())
}

fn append_history(connection: &Connection, step: &Step, request: &ReplayRequest) -> Result<(), Fault> {
    let work = match &step.replayed.work {
        DeadWork::Job { job, route } => format!("{job} (route {route})"),
        DeadWork::Delivery { entry, destination, .. } => format!("{entry} (to {destination})"),
    };
    let detail = format!(
        "{work} by {}; it had ended with: {}",
        request.actor, step.replayed.reason
    );
    rows::append_history(connection, step.receipt_seq, request.now, "replayed", &detail)
}
