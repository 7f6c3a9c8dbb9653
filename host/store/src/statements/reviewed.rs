//! What was decided about what was set aside: its rows, and the lines of history that are written with them.

use std::sync::Arc;

use tollgate_core::admission::{Admission, Disposition};
use tollgate_core::event::Event;
use tollgate_core::ids::{ActionId, DeliveryId, JobId, ReceiptId, Status};
use tollgate_core::review::{self, Reviewed, Target};
use tollgate_core::time::UnixMillis;

use super::append::number_of;
use super::fault::Fault;
use super::receipts::{self, Body, Receipt, View};
use super::rows::{self, get, id};
use super::transaction::Transaction;
use crate::ReviewView;
use crate::sql::{Connection, Row, params};

/// Who decides where the source says that another form replaces a held receipt.
pub(crate) const BY_THE_SOURCE: &str = "the source's replace_held";

/// The receipt's event with the status that a person gave to it, if one did: what plugins see.
pub(crate) fn as_reviewed(view: View<'_>, receipt: &Receipt) -> Result<Arc<Event>, Fault> {
    let event = Arc::clone(&receipt.event);
    // Only what was held is ever reviewed.
    if !matches!(receipt.disposition, Disposition::Held { .. }) {
        return Ok(event);
    }
    Ok(match self::view(view, receipt.seq)?.map(|view| view.reviewed) {
        Some(Reviewed::Accepted { status } | Reviewed::Superseded { status, .. }) => {
            Arc::new(review::mapped(Arc::unwrap_or_clone(event), &status))
        }
        Some(
            Reviewed::Dismissed
            | Reviewed::Replaced { .. }
            | Reviewed::RunAgain
            | Reviewed::RunBeyondBudget
            | Reviewed::Admitted { .. }
            | Reviewed::Kept { .. }
            | Reviewed::Recorded { .. },
        )
        | None => event,
    })
}

/// What was decided about a receipt.
pub(crate) fn view(view: View<'_>, receipt_seq: i64) -> Result<Option<ReviewView>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT at, actor, why, became, status, current, lifecycle_version, delivery, own FROM reviews WHERE receipt = ?1",
    )?;
    let mut found = statement.query([receipt_seq])?;
    found.next()?.map(|row| read_view(view, row)).transpose()
}

/// What was decided last about a job.
pub(crate) fn of_job(view: View<'_>, job: JobId) -> Result<Option<ReviewView>, Fault> {
    of_work(view, "job", job.0)
}

/// What was decided about a delivery.
pub(crate) fn of_delivery(view: View<'_>, delivery: DeliveryId) -> Result<Option<ReviewView>, Fault> {
    of_work(view, "delivery", delivery.0)
}

/// What was decided about a conflict with the ledger.
pub(crate) fn of_action(view: View<'_>, action: ActionId) -> Result<Option<ReviewView>, Fault> {
    of_work(view, "action", action.0)
}

/// `column` is `job`, `delivery` or `action`.
fn of_work(view: View<'_>, column: &str, number: i64) -> Result<Option<ReviewView>, Fault> {
    let mut statement = view.prepare_cached(&format!(
        "SELECT at, actor, why, became, NULL AS status, NULL AS current, NULL AS lifecycle_version, delivery, own, effect \
         FROM work_reviews WHERE {column} = ?1 ORDER BY id DESC LIMIT 1"
    ))?;
    let mut found = statement.query([number])?;
    found.next()?.map(|row| read_view(view, row)).transpose()
}

fn read_view(view: View<'_>, row: &Row<'_>) -> Result<ReviewView, Fault> {
    let own = || -> Result<(ReceiptId, Disposition), Fault> {
        let own = receipts::get_known(view, get(row, "own")?, Body::Without)?;
        Ok((own.id, own.disposition.clone()))
    };
    let reviewed = match get::<i64>(row, "became")? {
        0 => Reviewed::Accepted {
            status: id(row, "status")?,
        },
        1 => Reviewed::Superseded {
            status: id(row, "status")?,
            current: id(row, "current")?,
        },
        2 => Reviewed::Dismissed,
        3 => {
            let (own_receipt, disposition) = own()?;
            Reviewed::Replaced {
                delivery: DeliveryId(get(row, "delivery")?),
                own_receipt,
                disposition,
            }
        }
        4 => Reviewed::RunAgain,
        5 => {
            let (own_receipt, disposition) = own()?;
            Reviewed::Admitted {
                own_receipt,
                disposition,
            }
        }
        6 => Reviewed::Kept {
            action: ActionId(get(row, "effect")?),
        },
        7 => {
            let action: i64 = get(row, "effect")?;
            let mut statement = view.prepare_cached("SELECT operation_key FROM actions WHERE id = ?1")?;
            let mut found = statement.query([action])?;
            let recorded = found
                .next()?
                .ok_or_else(|| Fault::damaged("review", format_args!("act_{action} is not there")))?;
            Reviewed::Recorded {
                operation_key: id(recorded, "operation_key")?,
                action: Some(ActionId(action)),
            }
        }
        8 => Reviewed::RunBeyondBudget,
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

/// In `became`.
fn code(reviewed: &Reviewed) -> i64 {
    match reviewed {
        Reviewed::Accepted { .. } => 0,
        Reviewed::Superseded { .. } => 1,
        Reviewed::Dismissed => 2,
        Reviewed::Replaced { .. } => 3,
        Reviewed::RunAgain => 4,
        Reviewed::Admitted { .. } => 5,
        Reviewed::Kept { .. } => 6,
        Reviewed::Recorded { .. } => 7,
        Reviewed::RunBeyondBudget => 8,
    }
}

/// Another form of a held event took its place, as the source wants it.
pub(crate) fn replaced_by_itself(
    transaction: &Transaction<'_>,
    seq: i64,
    delivery: DeliveryId,
    own: &Admission,
    disposition: &Disposition,
) -> Result<(), Fault> {
    let reviewed = Reviewed::Replaced {
        delivery,
        own_receipt: own.receipt,
        disposition: disposition.clone(),
    };
    let by = By {
        actor: BY_THE_SOURCE,
        why: None,
        at: own.event.received_at,
    };
    let number = Some(number_of(transaction, own.receipt)?);
    append_receipt_review(transaction.connection, seq, &by, &reviewed, None, number)?;
    append_history(transaction.connection, seq, &by, "", &reviewed, number)
}

/// Who decided, why and when.
pub(crate) struct By<'a> {
    pub(crate) actor: &'a str,
    pub(crate) why: Option<&'a str>,
    pub(crate) at: UnixMillis,
}

/// Appends what was decided about a receipt. A delivery that took its place is decided with it; whoever calls this marks it so.
pub(crate) fn append_receipt_review(
    connection: &Connection,
    seq: i64,
    by: &By<'_>,
    reviewed: &Reviewed,
    lifecycle_version: Option<u32>,
    own: Option<i64>,
) -> Result<(), Fault> {
    let (status, current, delivery) = match reviewed {
        Reviewed::Accepted { status } => (Some(status), None, None),
        Reviewed::Superseded { status, current } => (Some(status), Some(current), None),
        Reviewed::Replaced { delivery, .. } => (None, None, Some(*delivery)),
        Reviewed::Dismissed
        | Reviewed::RunAgain
        | Reviewed::RunBeyondBudget
        | Reviewed::Admitted { .. }
        | Reviewed::Kept { .. }
        | Reviewed::Recorded { .. } => (None, None, None),
    };
    connection
        .prepare_cached(
            "INSERT INTO reviews (receipt, at, actor, why, became, status, current, lifecycle_version, delivery, own) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            seq,
            by.at.0,
            by.actor,
            by.why,
            code(reviewed),
            status.map(Status::as_str),
            current.map(Status::as_str),
            lifecycle_version,
            delivery.map(|delivery| delivery.0),
            own,
        ])?;
    match delivery {
        Some(delivery) => append_work_review(connection, Target::Delivery(delivery), by, reviewed, own),
        None => Ok(()),
    }
}

/// Appends what was decided about a job, a delivery or an action.
pub(crate) fn append_work_review(
    connection: &Connection,
    target: Target,
    by: &By<'_>,
    reviewed: &Reviewed,
    own: Option<i64>,
) -> Result<(), Fault> {
    let (job, delivery, action) = match target {
        Target::Job(job) => (Some(job.0), None, None),
        Target::Delivery(delivery) => (None, Some(delivery.0), None),
        Target::Action(action) => (None, None, Some(action.0)),
        Target::Receipt(receipt) => {
            return Err(Fault::damaged("review", format_args!("{receipt} is no work")));
        }
    };
    let effect = match reviewed {
        Reviewed::Kept { action } => Some(*action),
        Reviewed::Recorded { action, .. } => *action,
        Reviewed::Accepted { .. }
        | Reviewed::Superseded { .. }
        | Reviewed::Dismissed
        | Reviewed::Replaced { .. }
        | Reviewed::RunAgain
        | Reviewed::RunBeyondBudget
        | Reviewed::Admitted { .. } => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO work_reviews (job, delivery, action, at, actor, why, became, own, effect) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            job,
            delivery,
            action,
            by.at.0,
            by.actor,
            by.why,
            code(reviewed),
            own,
            effect.map(|action| action.0),
        ])?;
    Ok(())
}

/// Appends the line of history of the receipt, and that of the event of its own where there is one.
pub(crate) fn append_history(
    connection: &Connection,
    seq: i64,
    by: &By<'_>,
    of: &str,
    reviewed: &Reviewed,
    own: Option<i64>,
) -> Result<(), Fault> {
    let (what, of_own) = match reviewed {
        Reviewed::Accepted { status } => (format!("mapped to {status}"), None),
        Reviewed::Superseded { status, current } => {
            let what = format!("mapped to {status}, superseded: the subject was already {current}");
            (what, None)
        }
        Reviewed::Dismissed => ("dismissed".to_owned(), None),
        Reviewed::RunAgain => ("run again".to_owned(), None),
        Reviewed::RunBeyondBudget => ("run again beyond its budgets".to_owned(), None),
        Reviewed::Replaced {
            delivery, own_receipt, ..
        } => (
            format!("replaced with {delivery}, which is {own_receipt}"),
            Some(format!("{delivery} of another receipt, in place of its held event,")),
        ),
        Reviewed::Admitted { own_receipt, .. } => (
            format!("made an event of its own, {own_receipt},"),
            Some("a conflicting delivery of another receipt, made an event of its own".to_owned()),
        ),
        Reviewed::Kept { action } => (format!("without effect, {action} stands,"), None),
        Reviewed::Recorded { operation_key, action } => {
            let recorded = action.map(|action| format!(" as {action}")).unwrap_or_default();
            (format!("recorded under {operation_key}{recorded}"), None)
        }
    };
    let why = by.why.map(|why| format!(": {why}")).unwrap_or_default();
    let line = |what: &str| format!("{what} by {}{why}", by.actor);
    rows::append_history(connection, seq, by.at, "reviewed", &line(&format!("{of}{what}")))?;
    if let (Some(own), Some(what)) = (own, of_own) {
        rows::append_history(connection, own, by.at, "admitted", &line(&what))?;
    }
    Ok(())
}
