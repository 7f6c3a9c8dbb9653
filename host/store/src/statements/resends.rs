//! Deliveries as they stand, and sending what was delivered again: the entry goes back to work under its own names, and each attempt
//! from then on says who asked for it and why.

use tollgate_core::ids::{ActionId, OutboxId, ResendId};
use tollgate_core::work::{EntryEvent, EntryState};

use super::fault::Fault;
use super::outbox;
use super::receipts::{self, Body, View};
use super::rows::{self, get, id, millis};
use super::transaction::Transaction;
use crate::sql::{Connection, OptionalExtension as _, Row, ToSql, params};
use crate::{ResendRequest, ResendView, Sent, SentFilter, SentOf, SentState};

/// What is read of an entry.
const COLUMNS: &str =
    "e.id, e.state, e.due_at, e.destination, e.action, a.receipt, a.namespace, a.kind, a.operation_key";

/// Lists deliveries, the oldest first: those of what the filter names, in whatever state, or those delivered that match it.
pub(crate) fn sent(view: View<'_>, filter: &SentFilter) -> Result<Vec<Sent>, Fault> {
    let after = filter.after.map_or(0, |after| after.0);
    match &filter.of {
        Some(SentOf::Entry(entry)) => {
            let tenant = "SELECT tenant FROM outbox WHERE id = ?1";
            require(view.connection, filter, tenant, entry.0, entry)?;
            let sql = format!(
                "SELECT {COLUMNS} FROM outbox e JOIN actions a ON a.id = e.action WHERE e.id = ?1 AND e.id > ?2"
            );
            collect(view, filter, &sql, params![entry.0, after])
        }
        Some(SentOf::Action(action)) => {
            let tenant = "SELECT tenant FROM actions WHERE id = ?1";
            require(view.connection, filter, tenant, action.0, action)?;
            let sql = format!(
                "SELECT {COLUMNS} FROM actions a JOIN outbox e ON e.action = a.id WHERE a.id = ?1 AND e.id > ?2 ORDER BY e.id"
            );
            collect(view, filter, &sql, params![action.0, after])
        }
        Some(SentOf::Receipt(receipt)) => {
            let absent = || Fault::NotFound(receipt.to_string());
            let seq = receipts::find(view, &[*receipt])?.pop().ok_or_else(absent)?;
            let of = receipts::get_known(view, seq, Body::Without)?;
            if filter.tenant.as_ref().is_some_and(|only| *only != of.event.tenant) {
                return Err(absent());
            }
            let sql = format!(
                "SELECT {COLUMNS} FROM jobs j JOIN runs r ON r.job = j.id JOIN actions a ON a.run = r.id \
                 JOIN outbox e ON e.action = a.id WHERE j.receipt = ?1 AND e.id > ?2 ORDER BY e.id"
            );
            collect(view, filter, &sql, params![seq, after])
        }
        None => {
            let sql = format!(
                "SELECT {COLUMNS} FROM outbox e JOIN actions a ON a.id = e.action WHERE e.id > ?1 AND e.state = 3 \
                 AND (?2 IS NULL OR e.tenant = ?2) AND (?3 IS NULL OR e.destination = ?3) \
                 AND (?4 IS NULL OR e.due_at >= ?4) AND (?5 IS NULL OR e.due_at < ?5) ORDER BY e.id"
            );
            let values = params![
                after,
                filter.tenant.as_ref().map(|name| name.as_str()),
                filter.destination.as_ref().map(|name| name.as_str()),
                filter.since.map(|at| at.0),
                filter.until.map(|at| at.0),
            ];
            collect(view, filter, &sql, values)
        }
    }
}

/// What is another tenant's does not exist for whoever asks of one.
fn require(
    connection: &Connection,
    filter: &SentFilter,
    tenant: &str,
    number: i64,
    name: &impl ToString,
) -> Result<(), Fault> {
    let tenant: Option<String> = connection.query_row(tenant, [number], |row| row.get(0)).optional()?;
    let seen = tenant.is_some_and(|tenant| filter.tenant.as_ref().is_none_or(|only| only.as_str() == tenant));
    if seen {
        Ok(())
    } else {
        Err(Fault::NotFound(name.to_string()))
    }
}

/// Reads as many rows as the filter asks for, and takes those whose receipts fit it.
fn collect(view: View<'_>, filter: &SentFilter, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<Sent>, Fault> {
    let mut found = Vec::new();
    let mut statement = view.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    while found.len() < filter.rows_max
        && let Some(row) = rows.next()?
    {
        let sent = read(view, row)?;
        if filter.tenant.as_ref().is_none_or(|only| *only == sent.tenant)
            && filter.source.as_ref().is_none_or(|only| *only == sent.source)
            && filter.destination.as_ref().is_none_or(|only| *only == sent.destination)
        {
            found.push(sent);
        }
    }
    Ok(found)
}

fn read(view: View<'_>, row: &Row<'_>) -> Result<Sent, Fault> {
    let state = match rows::entry_state(row, "state")? {
        EntryState::Blocked | EntryState::Ready | EntryState::Leased => SentState::Waiting,
        EntryState::Delivered => SentState::Delivered {
            at: millis(row, "due_at")?.to_string(),
        },
        EntryState::Dead => SentState::Dead,
    };
    let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
    let event = &receipt.event;
    Ok(Sent {
        entry: OutboxId(get(row, "id")?),
        destination: id(row, "destination")?,
        state,
        action: ActionId(get(row, "action")?),
        namespace: id(row, "namespace")?,
        kind: get(row, "kind")?,
        operation_key: get(row, "operation_key")?,
        receipt: receipt.id,
        tenant: event.tenant.clone(),
        source: event.source.clone(),
        event_id: event.id.to_string(),
        event_type: event.event_type.to_string(),
    })
}

/// Puts delivered entries back to work. Returns which of them: one that is no longer delivered is left as it is.
pub(crate) fn resend(transaction: &mut Transaction<'_>, request: &ResendRequest) -> Result<Vec<OutboxId>, Fault> {
    let connection = transaction.connection;
    if request.entries.is_empty() {
        return Ok(Vec::new());
    }
    connection
        .prepare_cached("INSERT INTO resends (at, actor, why) VALUES (?1, ?2, ?3)")?
        .execute(params![request.now.0, request.actor, request.why])?;
    let resend = ResendId(connection.last_insert_rowid());
    let mut resent = Vec::new();
    for entry in &request.entries {
        let found = match outbox::find(connection, *entry) {
            Err(Fault::NotFound(_)) => continue,
            found => found?,
        };
        let Ok(state) = found.state.next(EntryEvent::Resend) else {
            continue;
        };
        connection
            .prepare_cached(
                "UPDATE outbox SET state = ?2, attempts = 0, replays = replays + 1, due_at = ?3, reason = NULL, resend = ?4 \
                 WHERE id = ?1",
            )?
            .execute(params![entry.0, rows::entry_code(state), request.now.0, resend.0])?;
        found.put_back(transaction, *entry, request.now)?;
        let (receipt, destination) = (found.receipt, found.destination);
        let detail = format!(
            "{entry} (to {destination}) by {}, {resend}: {}",
            request.actor, request.why
        );
        rows::append_history(connection, receipt, request.now, "resent", &detail)?;
        resent.push(*entry);
    }
    Ok(resent)
}

/// Who asked for the attempts of a resend, and why.
pub(crate) fn view(connection: &Connection, resend: ResendId) -> Result<ResendView, Fault> {
    let mut statement = connection.prepare_cached("SELECT at, actor, why FROM resends WHERE id = ?1")?;
    let mut found = statement.query([resend.0])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::damaged("resend", format_args!("{resend} does not exist")))?;
    Ok(ResendView {
        id: resend,
        at: millis(row, "at")?.to_string(),
        actor: get(row, "actor")?,
        why: get(row, "why")?,
    })
}
