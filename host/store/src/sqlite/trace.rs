//! Trace: from any one identifier to the receipts, and from each receipt to everything that became of it (promise T7).

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tollgate_core::action::{Action, Verdict};
use tollgate_core::admission;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::ids::{ActionId, EventId, JobId, OutboxId, RunId, SourceName, TenantName};
use tollgate_core::secret::Secret;

use super::admit::subject_key;
use super::fault::Fault;
use super::reviews;
use super::rows::{self, WorkState, get, id, id_opt, millis, millis_opt};
use crate::{
    ActionView, AttemptView, DeliveryView, HistoryView, JobView, OutboxView, ReceiptView, RunView, Trace, TraceBy,
    TraceQuery,
};

pub(super) fn trace(connection: &Connection, key: &Secret, query: &TraceQuery) -> Result<Vec<Trace>, Fault> {
    let mut seqs = find(connection, key, query)?;
    if let Some(tenant) = &query.tenant {
        let mut own = Vec::new();
        for seq in seqs {
            if tenant_of(connection, seq)?.as_deref() == Some(tenant.as_str()) {
                own.push(seq);
            }
        }
        seqs = own;
    }
    seqs.sort_unstable_by(|a, b| b.cmp(a));
    seqs.dedup();
    seqs.truncate(query.receipts_max);
    seqs.into_iter().map(|seq| trace_receipt(connection, seq)).collect()
}

fn tenant_of(connection: &Connection, seq: i64) -> Result<Option<String>, Fault> {
    Ok(connection
        .prepare_cached("SELECT o.tenant FROM receipts r JOIN origins o ON o.id = r.origin WHERE r.seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?)
}

/// The receipts that an identifier leads to, as their numbers.
fn find(connection: &Connection, key: &Secret, query: &TraceQuery) -> Result<Vec<i64>, Fault> {
    let by_number = |sql: &str, number: i64| -> Result<Vec<i64>, Fault> { numbers(connection, sql, params![number]) };
    match &query.by {
        TraceBy::Receipt(id) => numbers(
            connection,
            "SELECT seq FROM receipts WHERE id = ?1",
            params![id.0.as_slice()],
        ),
        TraceBy::Job(id) => by_number("SELECT receipt FROM jobs WHERE id = ?1", id.0),
        TraceBy::Run(id) => by_number(
            "SELECT j.receipt FROM runs u JOIN jobs j ON j.id = u.job WHERE u.id = ?1",
            id.0,
        ),
        TraceBy::Action(id) => by_number(RECEIPTS_OF_ACTION, id.0),
        TraceBy::Outbox(id) => by_number(
            "SELECT a.receipt FROM outbox e JOIN actions a ON a.id = e.action WHERE e.id = ?1",
            id.0,
        ),
        TraceBy::DeadLetter(id) => by_number("SELECT receipt FROM dead_letters WHERE id = ?1", id.0),
        TraceBy::Text(text) => find_text(connection, key, query, text),
        TraceBy::Newest => newest(connection, query),
    }
}

/// The receipt that recorded an action, and those whose runs repeated it.
const RECEIPTS_OF_ACTION: &str = "SELECT receipt FROM actions WHERE id = ?1 UNION \
     SELECT j.receipt FROM repeats p JOIN runs u ON u.id = p.run JOIN jobs j ON j.id = u.job WHERE p.action = ?1";

fn numbers(connection: &Connection, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_map(params, |row| row.get(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(found)
}

fn newest(connection: &Connection, query: &TraceQuery) -> Result<Vec<i64>, Fault> {
    let limit = i64::try_from(query.receipts_max).unwrap_or(i64::MAX);
    match &query.tenant {
        None => numbers(
            connection,
            "SELECT seq FROM receipts ORDER BY seq DESC LIMIT ?1",
            params![limit],
        ),
        Some(tenant) => {
            let mut found = Vec::new();
            for origin in numbers(
                connection,
                "SELECT id FROM origins WHERE tenant = ?1",
                params![tenant.as_str()],
            )? {
                found.extend(numbers(
                    connection,
                    "SELECT seq FROM receipts WHERE origin = ?1 ORDER BY seq DESC LIMIT ?2",
                    params![origin, limit],
                )?);
            }
            Ok(found)
        }
    }
}

/// Takes the text for an event id, a subject and an operation key, and tries each with an index: the first two by computing
/// the keys that they would have under each known origin.
fn find_text(connection: &Connection, key: &Secret, query: &TraceQuery, text: &str) -> Result<Vec<i64>, Fault> {
    let mut found = Vec::new();
    let mut sources = BTreeSet::new();
    let mut families = BTreeSet::new();
    let mut statement = connection.prepare_cached("SELECT tenant, source, family FROM origins")?;
    let mut origins = statement.query([])?;
    while let Some(row) = origins.next()? {
        let tenant: TenantName = id(row, "tenant")?;
        if query.tenant.as_ref().is_some_and(|only| *only != tenant) {
            continue;
        }
        sources.insert((tenant.clone(), id::<SourceName>(row, "source")?));
        families.insert((tenant, get::<String>(row, "family")?));
    }
    if let Ok(event) = text.parse::<EventId>() {
        for (tenant, source) in &sources {
            let receipt = admission::receipt_id(key, tenant, source, &event);
            found.extend(numbers(
                connection,
                "SELECT seq FROM receipts WHERE id = ?1",
                params![receipt.0.as_slice()],
            )?);
        }
    }
    for (tenant, family) in &families {
        let family = Some(family.as_str()).filter(|family| !family.is_empty());
        found.extend(receipts_of_subject(
            connection,
            &subject_key(key, tenant, family, text),
            text,
            query.receipts_max,
        )?);
    }
    for action in numbers(
        connection,
        "SELECT id FROM actions WHERE operation_key = ?1 AND conflict = 0",
        params![text],
    )? {
        found.extend(numbers(connection, RECEIPTS_OF_ACTION, params![action])?);
    }
    found.extend(numbers(
        connection,
        "SELECT receipt FROM actions WHERE operation_key = ?1 AND conflict = 1",
        params![text],
    )?);
    Ok(found)
}

/// Follows a subject's receipts from the newest back.
fn receipts_of_subject(
    connection: &Connection,
    key: &[u8; 16],
    subject: &str,
    receipts_max: usize,
) -> Result<Vec<i64>, Fault> {
    let mut found = Vec::new();
    let mut next: Option<i64> = connection
        .prepare_cached("SELECT newest FROM subjects WHERE key = ?1")?
        .query_row([key.as_slice()], |row| row.get(0))
        .optional()?;
    let mut statement = connection.prepare_cached("SELECT previous, subject FROM receipts WHERE seq = ?1")?;
    while let Some(seq) = next {
        let row = |row: &Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<String>>(1)?));
        let Some((previous, own)) = statement.query_row([seq], row).optional()? else {
            break;
        };
        if own.as_deref() == Some(subject) {
            found.push(seq);
        }
        // Links lead to older receipts; in a damaged file they could lead in a circle.
        next = previous.filter(|previous| *previous < seq && found.len() < receipts_max);
    }
    Ok(found)
}

fn trace_receipt(connection: &Connection, seq: i64) -> Result<Trace, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT o.tenant, o.source, o.family, r.seq, r.id, r.event_id, r.event_type, r.subject, r.reading, r.status, \
         r.lifecycle_version, r.occurred_at, r.received_at, r.amount, r.currency, r.provider, r.profile_version, r.scheme, \
         r.key_id, r.signed_at, r.disposition, r.disposition_detail, r.body_digest, length(r.body) AS body_bytes \
         FROM receipts r JOIN origins o ON o.id = r.origin WHERE r.seq = ?1",
    )?;
    let mut found = statement.query([seq])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::NotFound(format!("receipt number {seq}")))?;
    Ok(Trace {
        receipt: receipt_view(row)?,
        review: reviews::view(connection, seq)?,
        deliveries: deliveries(connection, seq)?,
        jobs: jobs(connection, seq)?,
        history: history(connection, seq)?,
    })
}

/// Runs a query and reads each of its rows.
fn each<T>(
    connection: &Connection,
    sql: &str,
    number: i64,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([number])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

fn receipt_view(row: &Row<'_>) -> Result<ReceiptView, Fault> {
    let reading = rows::reading(row)?;
    Ok(ReceiptView {
        id: rows::receipt_id(row, "id")?,
        seq: get(row, "seq")?,
        tenant: id(row, "tenant")?,
        source: id(row, "source")?,
        event_id: get(row, "event_id")?,
        event_type: get(row, "event_type")?,
        subject: id_opt(row, "subject")?,
        family: reading.family().map(|family| family.to_string()),
        status: reading.status().map(|status| status.to_string()),
        lifecycle_version: get(row, "lifecycle_version")?,
        amount: rows::amount(row)?.map(|amount| amount.to_string()),
        occurred_at: millis_opt(row, "occurred_at")?.map(|at| at.to_string()),
        received_at: millis(row, "received_at")?.to_string(),
        proof: rows::proof(row)?,
        disposition: rows::disposition(row)?,
        body_digest: rows::digest(row, "body_digest")?,
        body_bytes: usize::try_from(rows::unsigned(row, "body_bytes")?).unwrap_or(usize::MAX),
    })
}

fn deliveries(connection: &Connection, seq: i64) -> Result<Vec<DeliveryView>, Fault> {
    let sql =
        "SELECT number, received_at, conflict, key_id, body_digest FROM deliveries WHERE receipt = ?1 ORDER BY number";
    each(connection, sql, seq, |row| {
        Ok(DeliveryView {
            number: rows::unsigned32(row, "number")?,
            received_at: millis(row, "received_at")?.to_string(),
            decision: if get(row, "conflict")? { "conflict" } else { "same" }.to_owned(),
            key_id: get(row, "key_id")?,
            body_digest: rows::digest(row, "body_digest")?,
        })
    })
}

fn jobs(connection: &Connection, seq: i64) -> Result<Vec<JobView>, Fault> {
    let sql = "SELECT id, route, state, attempts, due_at, reason, replays FROM jobs WHERE receipt = ?1 ORDER BY id";
    each(connection, sql, seq, |row| {
        let job: i64 = get(row, "id")?;
        let state = WorkState::from_code(get(row, "state")?)?;
        let reason: Option<String> = get(row, "reason")?;
        Ok(JobView {
            id: JobId(job),
            route: id(row, "route")?,
            state: state.name("done").to_owned(),
            attempts: rows::unsigned32(row, "attempts")?,
            due_at: due_at(row, state)?,
            reason: match state {
                WorkState::Blocked => {
                    Some(reason.unwrap_or_else(|| "waits for an older job of the same subject".to_owned()))
                }
                _ => reason,
            },
            replays: rows::unsigned32(row, "replays")?,
            runs: runs(connection, job)?,
        })
    })
}

/// Only what waits for its time has one.
fn due_at(row: &Row<'_>, state: WorkState) -> Result<Option<String>, Fault> {
    match state {
        WorkState::Ready => Ok(Some(millis(row, "due_at")?.to_string())),
        WorkState::Blocked | WorkState::Leased | WorkState::Done | WorkState::Held | WorkState::Dead => Ok(None),
    }
}

fn runs(connection: &Connection, job: i64) -> Result<Vec<RunView>, Fault> {
    let sql = "SELECT id, attempt, plugin, digest, config_digest, runtime, started_at, duration_us, fuel, outcome, message, logs \
               FROM runs WHERE job = ?1 ORDER BY id";
    each(connection, sql, job, |row| {
        let run: i64 = get(row, "id")?;
        Ok(RunView {
            id: RunId(run),
            attempt: rows::unsigned32(row, "attempt")?,
            plugin: id(row, "plugin")?,
            digest: rows::digest(row, "digest")?,
            config_digest: rows::digest(row, "config_digest")?,
            runtime: get(row, "runtime")?,
            started_at: millis(row, "started_at")?.to_string(),
            duration_us: rows::unsigned(row, "duration_us")?,
            fuel: rows::unsigned(row, "fuel")?,
            outcome: get(row, "outcome")?,
            message: get(row, "message")?,
            logs: rows::json(row, "logs")?,
            actions: actions(connection, run)?,
        })
    })
}

fn actions(connection: &Connection, run: i64) -> Result<Vec<ActionView>, Fault> {
    let sql = "SELECT at, id, operation_key, json, CASE conflict WHEN 0 THEN 'recorded' ELSE 'conflict' END AS verdict \
               FROM actions WHERE run = ?1 \
               UNION ALL \
               SELECT p.at, a.id, a.operation_key, a.json, 'already_done' FROM repeats p JOIN actions a ON a.id = p.action \
               WHERE p.run = ?1 ORDER BY 1";
    each(connection, sql, run, |row| {
        let action: i64 = get(row, "id")?;
        let verdict: String = get(row, "verdict")?;
        let content: Action = rows::json(row, "json")?;
        Ok(ActionView {
            id: ActionId(action),
            operation_key: get(row, "operation_key")?,
            verdict: match verdict.as_str() {
                "recorded" => Verdict::Recorded,
                "conflict" => Verdict::Conflict,
                _ => Verdict::AlreadyDone,
            },
            summary: content.to_string(),
            action: content,
            deliveries: outbox(connection, action)?,
        })
    })
}

fn outbox(connection: &Connection, action: i64) -> Result<Vec<OutboxView>, Fault> {
    let sql = "SELECT id, destination, state, due_at FROM outbox WHERE action = ?1 ORDER BY id";
    each(connection, sql, action, |row| {
        let entry: i64 = get(row, "id")?;
        let state = WorkState::from_code(get(row, "state")?)?;
        Ok(OutboxView {
            id: OutboxId(entry),
            destination: id(row, "destination")?,
            state: state.name("delivered").to_owned(),
            due_at: due_at(row, state)?,
            attempts: attempts(connection, entry)?,
        })
    })
}

fn attempts(connection: &Connection, entry: i64) -> Result<Vec<AttemptView>, Fault> {
    let sql = "SELECT row_number() OVER (ORDER BY id) AS number, started_at, duration_us, end, answer \
               FROM attempts WHERE entry = ?1 ORDER BY id";
    each(connection, sql, entry, |row| {
        Ok(AttemptView {
            number: rows::unsigned32(row, "number")?,
            started_at: millis(row, "started_at")?.to_string(),
            duration_us: rows::unsigned(row, "duration_us")?,
            end: rows::json::<AttemptEnd>(row, "end")?,
            answer: get(row, "answer")?,
        })
    })
}

fn history(connection: &Connection, seq: i64) -> Result<Vec<HistoryView>, Fault> {
    each(
        connection,
        "SELECT at, what, detail FROM history WHERE receipt = ?1 ORDER BY id",
        seq,
        |row| {
            Ok(HistoryView {
                at: millis(row, "at")?.to_string(),
                what: get(row, "what")?,
                detail: get(row, "detail")?,
            })
        },
    )
}
