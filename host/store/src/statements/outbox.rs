//! The outbox: recorded actions on their way to destinations.

use tollgate_core::action::ActionKind;
use tollgate_core::delivery::EntryEnd;
use tollgate_core::ids::{
    ActionId, DestinationName, LeaseEpoch, Namespace, OperationKey, OutboxId, ResendId, TenantName,
};
use tollgate_core::outbox::message_id;
use tollgate_core::time::UnixMillis;
use tollgate_core::turns::{self, Leased};
use tollgate_core::work::{EntryEvent, EntryState};

use super::append;
use super::fault::Fault;
use super::order;
use super::pauses::Paused;
use super::rows::{self, get, id, signed, to_json};
use super::transaction::Transaction;
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::{AttemptRecord, AttemptRecorded, ClaimRequest, OutboxClaim, OutboxClaims, OutboxHold, Quotas, Targets};

/// When the next entry of a destination is due, from some time on.
pub(super) const EARLIEST: &str =
    "SELECT min(due_at) FROM outbox WHERE state IN (1, 2) AND tenant = ?1 AND destination = ?2 AND due_at >= ?3";
/// Whether one is due now.
const IS_DUE: &str = "SELECT EXISTS (SELECT 1 FROM outbox WHERE state IN (1, 2) AND tenant = ?1 AND destination = ?2 \
     AND due_at >= ?3 AND due_at <= ?4)";
/// An entry that is to be leased, with what is delivered.
const LEASED: &str = "SELECT e.epoch, e.attempts, e.destination, e.action, e.resend, a.tenant, a.namespace, a.kind, a.operation_key, a.json, \
     a.recorded_at, a.receipt FROM outbox e JOIN actions a ON a.id = e.action WHERE e.id = ?1";
/// What of a destination is due, the oldest first.
pub(super) const DUE: &str = "SELECT id, state, lane, due_at FROM outbox WHERE state IN (1, 2) AND tenant = ?1 AND destination = ?2 \
     AND due_at >= ?3 AND due_at <= ?4 ORDER BY due_at, id LIMIT ?5";

/// Leases what is due, destinations by turns: one that has much waiting delays no other, and what has no quota left is not touched.
pub(crate) fn claim(
    transaction: &mut Transaction<'_>,
    request: &ClaimRequest,
    quotas: &Quotas,
) -> Result<OutboxClaims, Fault> {
    let mut last = std::mem::take(&mut transaction.memory.last_delivered);
    let paused = Paused::read(transaction.connection)?;
    let mut destinations = Destinations {
        transaction,
        request,
        quotas,
        paused,
        claims: Vec::new(),
        next_due: None,
    };
    turns::take(&mut destinations, &mut last, request.rows_max)?;
    let Destinations {
        transaction,
        claims,
        next_due,
        ..
    } = destinations;
    transaction.memory.last_delivered = last;
    // What is delivered is recorded for good before: the settlement of each entry is in the log that is synced now.
    transaction.must_sync |= !claims.is_empty();
    Ok(OutboxClaims { claims, next_due })
}

/// The destinations that entries wait for.
struct Destinations<'t, 'c, 'r> {
    transaction: &'t mut Transaction<'c>,
    request: &'r ClaimRequest,
    quotas: &'r Quotas,
    paused: Paused,
    claims: Vec<OutboxClaim>,
    /// When the first entry is due of those that could be given more, as far as the claim came to look.
    next_due: Option<UnixMillis>,
}

impl Destinations<'_, '_, '_> {
    fn note_due(&mut self, at: Option<UnixMillis>) {
        self.next_due = self.next_due.into_iter().chain(at).min();
    }
}

impl turns::Line for Destinations<'_, '_, '_> {
    /// Tenant and destination.
    type Name = (String, String);
    type Error = Fault;

    fn behind(&mut self, name: &Self::Name) -> Result<Option<Self::Name>, Fault> {
        if let Some(next) = self.transaction.memory.outbox_due.behind(name) {
            return Ok(next);
        }
        let mut next = self.transaction.connection.prepare_cached(
            "SELECT tenant, destination FROM outbox WHERE state IN (1, 2) AND (tenant, destination) > (?1, ?2) \
             ORDER BY tenant, destination LIMIT 1",
        )?;
        let found = next.query_row(params![name.0, name.1], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }

    fn quota(&mut self, name: &Self::Name) -> Result<usize, Fault> {
        let quota = quota_of(self.quotas, name);
        if quota == 0 || self.paused.has_destination(&name.0, &name.1) {
            return Ok(0);
        }
        match next_due(self.transaction, name, self.request.now)? {
            Some(at) if at <= self.request.now => Ok(quota),
            later => {
                self.note_due(later);
                Ok(0)
            }
        }
    }

    /// The oldest first.
    fn lease(&mut self, name: &Self::Name, rows_max: usize) -> Result<Leased, Fault> {
        let mut entries = due(self.transaction, name, self.request.now, rows_max)?;
        let connection = self.transaction.connection;
        for due in &mut entries {
            if let (EntryState::Leased, Some(lane)) = (due.state, due.lane)
                && let Some(older) = order::yield_to_older(connection, due.entry, lane, due.state)?
            {
                (due.entry, due.state) = (older.entry, EntryState::Ready);
            }
        }
        for due in &entries {
            connection.will_ask(LEASED, &[&due.entry])?;
        }
        for due in &entries {
            self.claims
                .push(lease(self.transaction, self.request, due.entry, due.state)?);
        }
        let may_be_more = entries.len() == rows_max;
        if !may_be_more {
            let next = next_due(self.transaction, name, self.request.now)?;
            self.note_due(next);
        }
        Ok(Leased {
            rows: entries.len(),
            may_be_more,
        })
    }
}

/// An entry that is due.
pub(super) struct DueEntry {
    pub(super) entry: i64,
    pub(super) state: EntryState,
    lane: Option<i64>,
}

/// What of a tenant's destination is due, the oldest first.
pub(super) fn due(
    transaction: &mut Transaction<'_>,
    name: &(String, String),
    now: UnixMillis,
    rows_max: usize,
) -> Result<Vec<DueEntry>, Fault> {
    if rows_max == 0 {
        return Ok(Vec::new());
    }
    let known = &mut transaction.memory.outbox_due;
    let mut statement = transaction.connection.prepare_cached(DUE)?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut found = statement.query(params![name.0, name.1, known.from(name).0, now.0, limit])?;
    let (mut entries, mut last) = (Vec::with_capacity(rows_max.min(64)), now);
    while let Some(row) = found.next()? {
        last = rows::millis(row, "due_at")?;
        entries.push(DueEntry {
            entry: get(row, "id")?,
            state: rows::entry_state(row, "state")?,
            lane: get(row, "lane")?,
        });
    }
    known.looked(name, if entries.len() == rows_max { last } else { now });
    Ok(entries)
}

/// When the next entry of a tenant's destination is due; for one that is leased, when its lease ends. None where none waits. At the latest when to
/// look again, where to find it out would take too long.
pub(super) fn next_due(
    transaction: &mut Transaction<'_>,
    name: &(String, String),
    now: UnixMillis,
) -> Result<Option<UnixMillis>, Fault> {
    let known = &mut transaction.memory.outbox_due;
    let from = known.from(name);
    let Some(later) = known.look_again(now) else {
        let due: Option<i64> = transaction
            .connection
            .prepare_cached(EARLIEST)?
            .query_row(params![name.0, name.1, from.0], |row| row.get(0))?;
        return Ok(due.map(UnixMillis));
    };
    let mut statement = transaction.connection.prepare_cached(IS_DUE)?;
    if from <= now && statement.query_row(params![name.0, name.1, from.0, now.0], |row| row.get(0))? {
        return Ok(Some(now));
    }
    known.looked(name, now);
    Ok(Some(later))
}

fn quota_of(quotas: &Quotas, (tenant, destination): &(String, String)) -> usize {
    // A name that is none any more cannot be in the list.
    let (Ok(tenant), Ok(destination)) = (tenant.parse(), destination.parse()) else {
        return quotas.each_max;
    };
    *quotas.of.get(&(tenant, destination)).unwrap_or(&quotas.each_max)
}

pub(super) fn lease(
    transaction: &mut Transaction<'_>,
    request: &ClaimRequest,
    entry: i64,
    state: EntryState,
) -> Result<OutboxClaim, Fault> {
    let connection = transaction.connection;
    let state = state.next(EntryEvent::Lease)?;
    let mut statement = connection.prepare_cached(LEASED)?;
    let mut found = statement.query([entry])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::damaged("outbox entry", format_args!("{entry} has no action")))?;
    let (epoch, attempts) = (
        LeaseEpoch(get(row, "epoch")?).next(),
        rows::unsigned32(row, "attempts")? + 1,
    );
    connection
        .prepare_cached(
            "UPDATE outbox SET state = ?2, due_at = ?3, worker = ?4, epoch = ?5, attempts = ?6, pulled_at = NULL WHERE id = ?1",
        )?
        .execute(params![
            entry,
            rows::entry_code(state),
            request.now.plus_ms(request.lease_ms).0,
            request.worker,
            epoch.0,
            attempts,
        ])?;
    let receipt = append::get_ahead(transaction, get(row, "receipt")?)?.id;
    let (destination, namespace): (DestinationName, Namespace) = (id(row, "destination")?, id(row, "namespace")?);
    let (kind, operation_key): (_, OperationKey) = (kind(row)?, id(row, "operation_key")?);
    let key = rows::store_key(connection)?;
    Ok(OutboxClaim {
        entry: OutboxId(entry),
        message_id: message_id(&key, receipt, &namespace, kind, &operation_key, &destination),
        epoch,
        attempt: attempts,
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

fn kind(row: &Row<'_>) -> Result<ActionKind, Fault> {
    let name: String = get(row, "kind")?;
    ActionKind::of_ledger(&name).ok_or_else(|| Fault::damaged("kind", name))
}

/// An entry as its deliverer left it.
pub(crate) struct Entry {
    pub(crate) state: EntryState,
    pub(super) epoch: LeaseEpoch,
    pub(super) attempts: u32,
    pub(crate) receipt: i64,
    pub(crate) destination: String,
    /// Of the resend under which it is at work.
    resend: Option<i64>,
    /// Of what its destination is sent in order.
    lane: Option<i64>,
    tenant: String,
}

impl Entry {
    fn is_held_under(&self, epoch: LeaseEpoch) -> bool {
        self.state.is_held_under(self.epoch, epoch)
    }
}

pub(crate) fn find(connection: &Connection, entry: OutboxId) -> Result<Entry, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT e.state, e.epoch, e.attempts, e.destination, e.resend, e.lane, e.tenant, a.receipt FROM outbox e JOIN actions a ON a.id = e.action \
         WHERE e.id = ?1",
    )?;
    let mut found = statement.query([entry.0])?;
    let Some(row) = found.next()? else {
        return Err(Fault::NotFound(entry.to_string()));
    };
    Ok(Entry {
        state: rows::entry_state(row, "state")?,
        epoch: LeaseEpoch(get(row, "epoch")?),
        attempts: rows::unsigned32(row, "attempts")?,
        receipt: get(row, "receipt")?,
        destination: get(row, "destination")?,
        resend: get(row, "resend")?,
        lane: get(row, "lane")?,
        tenant: get(row, "tenant")?,
    })
}

pub(crate) fn record_attempt(
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
    let state = entry.state.next(EntryEvent::from(&attempt.entry_end))?;
    let (due_at, reason) = match &attempt.entry_end {
        EntryEnd::Delivered => (ended_at, None),
        EntryEnd::RetryAt { at, reason } => (*at, Some(reason)),
        EntryEnd::Dead { reason } => (ended_at, Some(reason)),
    };
    connection
        .prepare_cached(
            "UPDATE outbox SET state = ?2, due_at = ?3, reason = ?4, worker = NULL, pulled_at = NULL WHERE id = ?1",
        )?
        .execute(params![attempt.entry.0, rows::entry_code(state), due_at.0, reason])?;
    match &attempt.entry_end {
        EntryEnd::Delivered => {}
        EntryEnd::RetryAt { at, .. } => entry.note_ready(transaction, *at)?,
        EntryEnd::Dead { reason } => {
            let context = serde_json::json!({ "destination": entry.destination, "last_attempt": attempt.end, "answer": attempt.answer });
            connection
                .prepare_cached(
                    "INSERT INTO dead_letters (entry, receipt, died_at, attempts, reason, context) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![attempt.entry.0, entry.receipt, ended_at.0, entry.attempts, reason, context.to_string()])?;
        }
    }
    match (entry.lane, &attempt.entry_end) {
        (Some(lane), EntryEnd::Delivered | EntryEnd::Dead { .. }) => order::next(transaction, lane)?,
        (Some(lane), EntryEnd::RetryAt { .. }) => {
            if let Some(older) = order::yield_to_older(connection, attempt.entry.0, lane, state)? {
                transaction.entry_is_ready(&older.tenant, &older.destination, older.due_at);
            }
        }
        (None, _) => {}
    }
    Ok(AttemptRecorded::Recorded)
}

/// Entries whose lease was lost meanwhile are somebody else's and stay as they are.
pub(crate) fn release(transaction: &mut Transaction<'_>, holds: &[OutboxHold], at: UnixMillis) -> Result<(), Fault> {
    for hold in holds {
        let entry = find(transaction.connection, hold.entry)?;
        if !entry.is_held_under(hold.epoch) {
            continue;
        }
        let state = entry.state.next(EntryEvent::Release)?;
        transaction
            .connection
            .prepare_cached(
                "UPDATE outbox SET state = ?2, due_at = ?3, attempts = attempts - 1, worker = NULL, pulled_at = NULL WHERE id = ?1",
            )?
            .execute(params![hold.entry.0, rows::entry_code(state), at.0])?;
        if let Some(lane) = entry.lane
            && let Some(older) = order::yield_to_older(transaction.connection, hold.entry.0, lane, state)?
        {
            transaction.entry_is_ready(&older.tenant, &older.destination, older.due_at);
        }
        entry.note_ready(transaction, at)?;
    }
    Ok(())
}

/// Puts a dead entry back to work.
pub(crate) fn requeue(transaction: &mut Transaction<'_>, entry: OutboxId, now: UnixMillis) -> Result<(), Fault> {
    let found = find(transaction.connection, entry)?;
    let state = found.state.next(EntryEvent::Replay)?;
    transaction
        .connection
        .prepare_cached("UPDATE outbox SET state = ?2, attempts = 0, replays = replays + 1, due_at = ?3, reason = NULL WHERE id = ?1")?
        .execute(params![entry.0, rows::entry_code(state), now.0])?;
    found.put_back(transaction, entry, now)
}

impl Entry {
    /// It is ready again and due now, at its place among what waits for it or before it.
    pub(crate) fn put_back(
        &self,
        transaction: &mut Transaction<'_>,
        entry: OutboxId,
        now: UnixMillis,
    ) -> Result<(), Fault> {
        if let Some(lane) = self.lane {
            order::put_back(transaction.connection, entry.0, lane)?;
        }
        self.note_ready(transaction, now)
    }

    fn note_ready(&self, transaction: &mut Transaction<'_>, due_at: UnixMillis) -> Result<(), Fault> {
        let named = |error: &dyn std::fmt::Display| Fault::damaged("outbox entry", error);
        let tenant = self.tenant.parse().map_err(|error| named(&error))?;
        let destination = self.destination.parse().map_err(|error| named(&error))?;
        transaction.entry_is_ready(&tenant, &destination, due_at);
        Ok(())
    }
}

/// Makes an entry for each destination that an action was not sent to yet.
pub(crate) fn send(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    action: i64,
    targets: &Targets,
    due_at: UnixMillis,
) -> Result<(), Fault> {
    let missing = missing(transaction.connection, action, targets)?;
    send_to(transaction, tenant, action, targets, missing, due_at)
}

/// Makes an entry for each destination of an action that is new.
pub(crate) fn send_new(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    action: i64,
    targets: &Targets,
    due_at: UnixMillis,
) -> Result<(), Fault> {
    send_to(transaction, tenant, action, targets, missing_of(&[], targets), due_at)
}

fn send_to(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    action: i64,
    targets: &Targets,
    destinations: Vec<&DestinationName>,
    due_at: UnixMillis,
) -> Result<(), Fault> {
    let subject = order::subject(transaction, action, targets, &destinations)?;
    for destination in destinations {
        let connection = transaction.connection;
        let (lane, state) = match &subject {
            Some(subject) if targets.ordered.contains(destination) => {
                let (lane, state) = order::place(connection, targets, destination, subject)?;
                (Some(lane), state)
            }
            _ => (None, EntryState::Ready),
        };
        connection
            .prepare_cached(
                "INSERT INTO outbox (action, tenant, destination, state, due_at, lane) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                action,
                tenant.as_str(),
                destination.as_str(),
                rows::entry_code(state),
                due_at.0,
                lane,
            ])?;
        if state == EntryState::Ready {
            transaction.entry_is_ready(tenant, destination, due_at);
        }
    }
    Ok(())
}

/// The destinations that an action was not sent to, neither under the name of now nor under one of before; each once.
pub(crate) fn missing<'t>(
    connection: &Connection,
    action: i64,
    targets: &'t Targets,
) -> Result<Vec<&'t DestinationName>, Fault> {
    if targets.destinations.is_empty() {
        return Ok(Vec::new());
    }
    let sent_to = connection
        .prepare_cached("SELECT destination FROM outbox WHERE action = ?1")?
        .query_map([action], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(missing_of(&sent_to, targets))
}

fn missing_of<'t>(sent_to: &[String], targets: &'t Targets) -> Vec<&'t DestinationName> {
    let mut missing: Vec<&DestinationName> = Vec::new();
    let was_sent = |name: &DestinationName| sent_to.iter().any(|sent| sent == name.as_str());
    for destination in &targets.destinations {
        let mut before = targets.renamed.iter().filter(|(_, now)| now == destination);
        if !was_sent(destination) && !before.any(|(old, _)| was_sent(old)) && !missing.contains(&destination) {
            missing.push(destination);
        }
    }
    missing
}
