//! The outbox: recorded actions on their way to destinations.

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_core::action::ActionKind;
use tollgate_core::delivery::{EntryEnd, message_id};
use tollgate_core::ids::{
    ActionId, DestinationName, LeaseEpoch, Namespace, OperationKey, OutboxId, ResendId, TenantName,
};
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::receipts;
use super::rows::{self, WorkState, get, id, signed, to_json};
use super::transaction::Transaction;
use crate::{AttemptRecord, AttemptRecorded, ClaimRequest, OutboxClaim, OutboxClaims, OutboxHold, Rooms, Targets};

/// Destinations that one claim looks at; the next goes on behind them.
const DESTINATIONS_PER_CLAIM_MAX: usize = 256;

/// One destination's share in a claim.
struct Waiting {
    tenant: String,
    destination: String,
    room: usize,
}

/// Leases what is due, destinations by turns: one that has much waiting delays no other, and what has no room is not touched.
pub(super) fn claim(
    transaction: &mut Transaction<'_>,
    request: &ClaimRequest,
    rooms: &Rooms,
) -> Result<OutboxClaims, Fault> {
    let last = transaction.memory.last_delivered.clone();
    let turn = in_turn(transaction.connection, &last, request, rooms)?;
    transaction.memory.last_delivered = turn.looked_at;
    let (mut waiting, mut next_due) = (turn.waiting, turn.next_due);
    let mut claims = Vec::new();
    while !waiting.is_empty() && claims.len() < request.rows_max {
        let share = ((request.rows_max - claims.len()) / waiting.len()).max(1);
        let mut with_more = Vec::new();
        for mut one in waiting {
            let rows_max = share.min(request.rows_max - claims.len()).min(one.room);
            if rows_max == 0 {
                break;
            }
            let claimed = claim_of(transaction, request, &one, rows_max, &mut claims)?;
            one.room -= claimed;
            transaction.memory.last_delivered = (one.tenant.clone(), one.destination.clone());
            if claimed < rows_max {
                next_due = next_due.into_iter().chain(due(transaction.connection, &one)?).min();
            } else if one.room > 0 {
                with_more.push(one);
            }
        }
        waiting = with_more;
    }
    // What is delivered is recorded for good before: the settlement of each entry is in the log that is synced now.
    transaction.must_sync |= !claims.is_empty();
    Ok(OutboxClaims { claims, next_due })
}

/// Whose turn it is.
struct Turn {
    waiting: Vec<Waiting>,
    /// When the first entry of those is due that were passed over because nothing of theirs is.
    next_due: Option<UnixMillis>,
    /// The last that was looked at.
    looked_at: (String, String),
}

/// Destinations with room and with entries that are due, behind `last` in the order of their names and then from the first on. One
/// with nothing due takes no turn.
fn in_turn(
    connection: &Connection,
    last: &(String, String),
    request: &ClaimRequest,
    rooms: &Rooms,
) -> Result<Turn, Fault> {
    let mut next = connection.prepare_cached(
        "SELECT tenant, destination FROM outbox WHERE state IN (1, 2) AND (tenant, destination) > (?1, ?2) \
         ORDER BY tenant, destination LIMIT 1",
    )?;
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut next_due: Option<UnixMillis> = None;
    let (mut behind, mut wrapped) = (last.clone(), last.0.is_empty());
    let mut looks = 0;
    while waiting.len() < request.rows_max && looks < DESTINATIONS_PER_CLAIM_MAX {
        looks += 1;
        let found = next
            .query_row(params![behind.0, behind.1], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .optional()?;
        match found {
            Some(name) if wrapped && !last.0.is_empty() && name > *last => break,
            Some(name) => {
                let room = room_of(rooms, &name);
                if room > 0 {
                    let one = Waiting {
                        tenant: name.0.clone(),
                        destination: name.1.clone(),
                        room,
                    };
                    match due(connection, &one)? {
                        Some(at) if at > request.now => next_due = next_due.into_iter().chain([at]).min(),
                        _ => waiting.push(one),
                    }
                }
                behind = name;
            }
            None if wrapped => break,
            None => (behind, wrapped) = (<(String, String)>::default(), true),
        }
    }
    Ok(Turn {
        waiting,
        next_due,
        looked_at: behind,
    })
}

fn room_of(rooms: &Rooms, (tenant, destination): &(String, String)) -> usize {
    // A name that is none any more cannot be in the list.
    let (Ok(tenant), Ok(destination)) = (tenant.parse(), destination.parse()) else {
        return rooms.each_max;
    };
    *rooms.of.get(&(tenant, destination)).unwrap_or(&rooms.each_max)
}

/// Leases entries of one destination, the oldest first. Answers how many.
fn claim_of(
    transaction: &mut Transaction<'_>,
    request: &ClaimRequest,
    of: &Waiting,
    rows_max: usize,
    claims: &mut Vec<OutboxClaim>,
) -> Result<usize, Fault> {
    let mut due = transaction.connection.prepare_cached(
        "SELECT id FROM outbox WHERE state IN (1, 2) AND tenant = ?1 AND destination = ?2 AND due_at <= ?3 \
         ORDER BY due_at, id LIMIT ?4",
    )?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let entries = due
        .query_map(params![of.tenant, of.destination, request.now.0, limit], |row| {
            row.get(0)
        })?
        .collect::<Result<Vec<i64>, _>>()?;
    for entry in &entries {
        claims.push(lease(transaction, request, *entry)?);
    }
    Ok(entries.len())
}

/// When the next entry of a destination is due; for one that is leased, when its lease ends.
fn due(connection: &Connection, of: &Waiting) -> Result<Option<UnixMillis>, Fault> {
    let due: Option<i64> = connection
        .prepare_cached("SELECT min(due_at) FROM outbox WHERE state IN (1, 2) AND tenant = ?1 AND destination = ?2")?
        .query_row(params![of.tenant, of.destination], |row| row.get(0))?;
    Ok(due.map(UnixMillis))
}

fn lease(transaction: &mut Transaction<'_>, request: &ClaimRequest, entry: i64) -> Result<OutboxClaim, Fault> {
    let connection = transaction.connection;
    connection
        .prepare_cached(
            "UPDATE outbox SET state = ?2, due_at = ?3, worker = ?4, epoch = epoch + 1, attempts = attempts + 1 WHERE id = ?1",
        )?
        .execute(params![entry, WorkState::Leased, request.now.plus_ms(request.lease_ms).0, request.worker])?;
    let mut statement = connection.prepare_cached(
        "SELECT e.epoch, e.attempts, e.destination, e.action, e.resend, a.tenant, a.namespace, a.kind, a.operation_key, a.json, a.recorded_at, a.receipt \
         FROM outbox e JOIN actions a ON a.id = e.action WHERE e.id = ?1",
    )?;
    let mut found = statement.query([entry])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::damaged("outbox entry", format_args!("{entry} has no action")))?;
    let receipt = receipts::get_ahead(transaction, get(row, "receipt")?)?.id;
    let (destination, namespace): (DestinationName, Namespace) = (id(row, "destination")?, id(row, "namespace")?);
    let (kind, operation_key): (_, OperationKey) = (kind(row)?, id(row, "operation_key")?);
    let key = store_key(connection)?;
    Ok(OutboxClaim {
        entry: OutboxId(entry),
        message_id: message_id(&key, receipt, &namespace, kind, &operation_key, &destination),
        epoch: LeaseEpoch(get(row, "epoch")?),
        attempt: rows::unsigned32(row, "attempts")?,
        tenant: id(row, "tenant")?,
        destination,
        action: ActionId(get(row, "action")?),
        namespace,
        operation_key,
        kind,
        action_json: get(row, "json")?,
        receipt,
        recorded_at: rows::millis(row, "recorded_at")?,
        resend: get::<Option<i64>>(row, "resend")?.map(ResendId),
    })
}

/// The key that only this store has; a copy of the store has it as well.
fn store_key(connection: &Connection) -> Result<Secret, Fault> {
    let key: Vec<u8> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'receipt_key'")?
        .query_row([], |row| row.get(0))?;
    Ok(Secret::new(key))
}

fn kind(row: &rusqlite::Row<'_>) -> Result<ActionKind, Fault> {
    let name: String = get(row, "kind")?;
    ActionKind::of_ledger(&name).ok_or_else(|| Fault::damaged("kind", name))
}

/// An entry as its deliverer left it.
struct Entry {
    state: WorkState,
    epoch: LeaseEpoch,
    attempts: u32,
    receipt: i64,
    destination: String,
    /// Of the resend under which it is at work.
    resend: Option<i64>,
}

impl Entry {
    fn is_held_under(&self, epoch: LeaseEpoch) -> bool {
        self.state == WorkState::Leased && self.epoch == epoch
    }
}

fn find(connection: &Connection, entry: OutboxId) -> Result<Entry, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT e.state, e.epoch, e.attempts, e.destination, e.resend, a.receipt FROM outbox e JOIN actions a ON a.id = e.action \
         WHERE e.id = ?1",
    )?;
    let mut found = statement.query([entry.0])?;
    let Some(row) = found.next()? else {
        return Err(Fault::NotFound(entry.to_string()));
    };
    Ok(Entry {
        state: WorkState::from_code(get(row, "state")?)?,
        epoch: LeaseEpoch(get(row, "epoch")?),
        attempts: rows::unsigned32(row, "attempts")?,
        receipt: get(row, "receipt")?,
        destination: get(row, "destination")?,
        resend: get(row, "resend")?,
    })
}

pub(super) fn record_attempt(
    transaction: &mut Transaction<'_>,
    attempt: &AttemptRecord,
) -> Result<AttemptRecorded, Fault> {
    let connection = transaction.connection;
    let entry = find(connection, attempt.entry)?;
    // It was made, whoever holds the entry now: history keeps it.
    connection
        .prepare_cached(
            "INSERT INTO attempts (entry, epoch, started_at, duration_us, end, answer, resend) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            attempt.entry.0,
            attempt.epoch.0,
            attempt.started_at.0,
            signed(attempt.duration_us),
            to_json(&attempt.end)?,
            attempt.answer,
            // One that was made under an older lease may be older than the resend.
            entry.resend.filter(|_| entry.is_held_under(attempt.epoch)),
        ])?;
    if !entry.is_held_under(attempt.epoch) {
        return Ok(AttemptRecorded::LeaseLost);
    }
    let ended_at = attempt.started_at.plus_ms(signed(attempt.duration_us / 1000));
    let (state, due_at, reason) = match &attempt.entry_end {
        EntryEnd::Delivered => (WorkState::Done, ended_at, None),
        EntryEnd::RetryAt { at, reason } => (WorkState::Ready, *at, Some(reason)),
        EntryEnd::Dead { reason } => (WorkState::Dead, ended_at, Some(reason)),
    };
    connection
        .prepare_cached("UPDATE outbox SET state = ?2, due_at = ?3, reason = ?4, worker = NULL WHERE id = ?1")?
        .execute(params![attempt.entry.0, state, due_at.0, reason])?;
    match &attempt.entry_end {
        EntryEnd::Delivered => {}
        EntryEnd::RetryAt { .. } => transaction.outbox_ready = true,
        EntryEnd::Dead { reason } => {
            let context = serde_json::json!({ "destination": entry.destination, "last_attempt": attempt.end, "answer": attempt.answer });
            connection
                .prepare_cached(
                    "INSERT INTO dead_letters (entry, receipt, died_at, attempts, reason, context) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![attempt.entry.0, entry.receipt, ended_at.0, entry.attempts, reason, context.to_string()])?;
        }
    }
    Ok(AttemptRecorded::Recorded)
}

/// Entries whose lease was lost meanwhile are somebody else's and stay as they are.
pub(super) fn release(transaction: &mut Transaction<'_>, holds: &[OutboxHold], at: UnixMillis) -> Result<(), Fault> {
    for hold in holds {
        let released = transaction
            .connection
            .prepare_cached(
                "UPDATE outbox SET state = ?3, due_at = ?4, attempts = attempts - 1, worker = NULL \
                 WHERE id = ?1 AND epoch = ?2 AND state = ?5",
            )?
            .execute(params![
                hold.entry.0,
                hold.epoch.0,
                WorkState::Ready,
                at.0,
                WorkState::Leased
            ])?;
        transaction.outbox_ready |= released > 0;
    }
    Ok(())
}

/// Puts a dead entry back to work.
pub(super) fn requeue(transaction: &mut Transaction<'_>, entry: i64, now: UnixMillis) -> Result<(), Fault> {
    transaction
        .connection
        .prepare_cached("UPDATE outbox SET state = ?2, attempts = 0, replays = replays + 1, due_at = ?3, reason = NULL WHERE id = ?1")?
        .execute(params![entry, WorkState::Ready, now.0])?;
    transaction.outbox_ready = true;
    Ok(())
}

/// Makes an entry for each destination that an action was not sent to yet.
pub(super) fn send(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    action: i64,
    targets: &Targets,
    due_at: UnixMillis,
) -> Result<(), Fault> {
    for destination in missing(transaction.connection, action, targets)? {
        transaction
            .connection
            .prepare_cached(
                "INSERT INTO outbox (action, tenant, destination, state, due_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                action,
                tenant.as_str(),
                destination.as_str(),
                WorkState::Ready,
                due_at.0
            ])?;
        transaction.outbox_ready = true;
    }
    Ok(())
}

/// The destinations that an action was not sent to, neither under the name of now nor under one of before; each once.
pub(super) fn missing<'t>(
    connection: &Connection,
    action: i64,
    targets: &'t Targets,
) -> Result<Vec<&'t DestinationName>, Fault> {
    let mut missing: Vec<&DestinationName> = Vec::new();
    if targets.destinations.is_empty() {
        return Ok(missing);
    }
    let sent_to = connection
        .prepare_cached("SELECT destination FROM outbox WHERE action = ?1")?
        .query_map([action], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    let was_sent = |name: &DestinationName| sent_to.iter().any(|sent| sent == name.as_str());
    for destination in &targets.destinations {
        let mut before = targets.renamed.iter().filter(|(_, now)| now == destination);
        if !was_sent(destination) && !before.any(|(old, _)| was_sent(old)) && !missing.contains(&destination) {
            missing.push(destination);
        }
    }
    Ok(missing)
}
