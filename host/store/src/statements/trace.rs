//! Trace: from any one identifier to the receipts, and from each receipt to everything that became of it (promise T7).

use std::collections::BTreeSet;

use tollgate_core::action::{Action, ActionKind, Verdict};
use tollgate_core::admission;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::envelope::READING_NOTES;
use tollgate_core::ids::{ActionId, Digest, EventId, JobId, OutboxId, ResendId, RunId, SourceName, TenantName};
use tollgate_core::limits;
use tollgate_core::mode::HOST_TEST;
use tollgate_core::outbox::message_id;
use tollgate_core::own_header;
use tollgate_core::secret::Secret;
use tollgate_core::subject;
use tollgate_core::work::{EntryState, JobState};

use super::fault::Fault;
use super::receipts::{self, Body, Receipt, SubjectKey, View};
use super::rows::{self, get, id, millis};
use super::{deliveries, resends, reviewed};
use crate::sql::{Connection, Row, ToSql, params};
use crate::{
    ActionView, AttemptView, HistoryView, JobView, OutboxView, ReceiptView, RunView, Trace, TraceBy, TraceQuery,
};

pub(crate) fn trace(view: View<'_>, key: &Secret, query: &TraceQuery) -> Result<Vec<Trace>, Fault> {
    let before = match query.after {
        None => i64::MAX,
        Some(receipt) => receipts::find(view, &[receipt])?
            .pop()
            .ok_or_else(|| Fault::NotFound(receipt.to_string()))?,
    };
    let mut seqs = find(view, key, query, before)?;
    seqs.retain(|seq| *seq < before);
    seqs.sort_unstable_by(|a, b| b.cmp(a));
    seqs.dedup();
    let mut traces = Vec::new();
    for seq in seqs {
        let receipt = receipts::get_known(view, seq, Body::With)?;
        if query.tenant.as_ref().is_none_or(|only| *only == receipt.event.tenant) {
            traces.push(trace_receipt(view, key, &receipt)?);
        }
        if traces.len() == query.receipts_max {
            break;
        }
    }
    Ok(traces)
}

/// The receipts that an identifier leads to, as their numbers; of the newest and of a subject's only those before `before`.
fn find(view: View<'_>, key: &Secret, query: &TraceQuery, before: i64) -> Result<Vec<i64>, Fault> {
    let by_number =
        |sql: &str, number: i64| -> Result<Vec<i64>, Fault> { numbers(view.connection, sql, params![number]) };
    match &query.by {
        TraceBy::Receipt(id) => receipts::find(view, &[*id]),
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
        TraceBy::Text(text) => find_text(view, key, query, text, before),
        TraceBy::Newest => receipts::newest(view, query.tenant.as_ref(), before, query.receipts_max),
    }
}

/// The receipt that recorded an action, and those whose runs repeated it.
const RECEIPTS_OF_ACTION: &str = "SELECT receipt FROM actions WHERE id = ?1 UNION \
     SELECT j.receipt FROM repeats p JOIN runs u ON u.id = p.run JOIN jobs j ON j.id = u.job WHERE p.action = ?1";

fn numbers(connection: &Connection, sql: &str, params: &[&dyn ToSql]) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_map(params, |row| row.get(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(found)
}

/// Takes the text for an event id, a subject and an operation key, and tries each with an index: the first two by computing
/// the keys that they would have under each known origin.
pub(super) fn find_text(
    view: View<'_>,
    key: &Secret,
    query: &TraceQuery,
    text: &str,
    before: i64,
) -> Result<Vec<i64>, Fault> {
    let mut found = Vec::new();
    let mut sources = BTreeSet::new();
    let mut families = BTreeSet::new();
    let mut statement = view.prepare_cached("SELECT tenant, source, family FROM origins")?;
    let mut origins = statement.query([])?;
    while let Some(row) = origins.next()? {
        let tenant: TenantName = id(row, "tenant")?;
        if query.tenant.as_ref().is_some_and(|only| *only != tenant) {
            continue;
        }
        sources.insert((tenant.clone(), id::<SourceName>(row, "source")?));
        families.insert((tenant, id::<SourceName>(row, "source")?, get::<String>(row, "family")?));
    }
    if let Ok(event) = text.parse::<EventId>() {
        let ids: Vec<_> = sources
            .iter()
            .map(|(tenant, source)| admission::receipt_id(key, tenant, source, &event))
            .collect();
        found.extend(receipts::find(view, &ids)?);
        for id in &ids {
            let sql = "SELECT receipt FROM event_ids WHERE name = ?1 ORDER BY receipt";
            found.extend(numbers(view.connection, sql, params![id.0.as_slice()])?);
        }
    }
    let subjects: Vec<_> = families
        .iter()
        .flat_map(|(tenant, source, family)| {
            let family = Some(family.as_str()).filter(|family| !family.is_empty());
            // A source's own, or one that sources share.
            [Some(source), None].map(|source| subject::key(key, tenant, family, source, text))
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    found.extend(receipts_of_subjects(view, &subjects, text, before, query.receipts_max)?);
    // One query for each of the indexes.
    for sql in [
        "SELECT id FROM actions WHERE operation_key = ?1 AND conflict = 0",
        "SELECT id FROM actions WHERE operation_key = ?1 AND conflict = 1",
    ] {
        for action in numbers(view.connection, sql, params![text])? {
            found.extend(numbers(view.connection, RECEIPTS_OF_ACTION, params![action])?);
        }
    }
    Ok(found)
}

/// Follows each subject's receipts from the newest back.
fn receipts_of_subjects(
    view: View<'_>,
    subjects: &[SubjectKey],
    subject: &str,
    before: i64,
    receipts_max: usize,
) -> Result<Vec<i64>, Fault> {
    let mut found = Vec::new();
    for newest in receipts::newest_of_subjects(view, subjects)? {
        let mut next = Some(newest);
        let mut of_this = 0;
        while let Some(seq) = next
            && of_this < receipts_max
            && let Some(receipt) = receipts::get(view, seq, Body::Without)?
        {
            if seq < before
                && receipt
                    .event
                    .subject
                    .as_ref()
                    .is_some_and(|own| own.as_str() == subject)
            {
                found.push(seq);
                of_this += 1;
            }
            // Links lead to older receipts; in a damaged file they could lead in a circle.
            next = receipt.previous.filter(|previous| *previous < seq);
        }
    }
    Ok(found)
}

fn trace_receipt(view: View<'_>, key: &Secret, receipt: &Receipt) -> Result<Trace, Fault> {
    Ok(Trace {
        receipt: receipt_view(receipt),
        review: reviewed::view(view, receipt.seq)?,
        redelivered: deliveries::redelivered(view.connection, receipt.seq)?,
        deliveries: deliveries::of_receipt(view, receipt.seq, Digest::of(&receipt.event.payload))?,
        jobs: jobs(view, key, receipt.seq)?,
        history: history(view.connection, receipt.seq)?,
    })
}

/// Runs a query that has the newest first, reads as many of its rows as a trace shows, and answers them in their order.
fn newest<T>(
    connection: &Connection,
    sql: &str,
    number: i64,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut rows = each(
        connection,
        &format!("{sql} LIMIT {}", limits::TRACE_ROWS_MAX),
        number,
        read,
    )?;
    rows.reverse();
    Ok(rows)
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

fn receipt_view(receipt: &Receipt) -> ReceiptView {
    let event = &receipt.event;
    ReceiptView {
        id: receipt.id,
        seq: receipt.seq,
        tenant: event.tenant.clone(),
        source: event.source.clone(),
        event_id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        subject: event.subject.as_ref().map(|subject| subject.to_string()),
        family: event.reading.family().map(|family| family.to_string()),
        status: event.reading.status().map(|status| status.to_string()),
        lifecycle_version: receipt.lifecycle_version,
        amount: event.amount.map(|amount| amount.to_string()),
        occurred_at: event.occurred_at.map(|at| at.to_string()),
        host_test: event.attributes.iter().any(|(name, _)| name == HOST_TEST),
        reading_notes: event
            .attributes
            .iter()
            .find(|(name, _)| name == READING_NOTES)
            .map(|(_, notes)| notes.clone()),
        kept_headers: event
            .attributes
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(own_header::KEPT)?.to_owned(), value.clone())))
            .collect(),
        received_at: event.received_at.to_string(),
        proof: receipt.proof.clone(),
        disposition: receipt.disposition.clone(),
        body_digest: Digest::of(&event.payload),
        body_bytes: receipt.body_bytes,
    }
}

fn jobs(view: View<'_>, key: &Secret, seq: i64) -> Result<Vec<JobView>, Fault> {
    let sql = "SELECT id, route, state, attempts, due_at, reason, replays FROM jobs WHERE receipt = ?1 ORDER BY id";
    each(view.connection, sql, seq, |row| {
        let job: i64 = get(row, "id")?;
        let state = rows::job_state(row, "state")?;
        let due_at = millis(row, "due_at")?;
        let reason: Option<String> = get(row, "reason")?;
        Ok(JobView {
            id: JobId(job),
            route: id(row, "route")?,
            state: state.as_str().to_owned(),
            attempts: rows::unsigned32(row, "attempts")?,
            // Only what waits for its time has one.
            due_at: (state == JobState::Ready).then(|| due_at.to_string()),
            reason: match state {
                JobState::Blocked => {
                    Some(reason.unwrap_or_else(|| "waits for an older job of the same subject".to_owned()))
                }
                _ => reason,
            },
            replays: rows::unsigned32(row, "replays")?,
            runs: runs(view, key, job)?,
        })
    })
}

fn runs(view: View<'_>, key: &Secret, job: i64) -> Result<Vec<RunView>, Fault> {
    let sql = "SELECT id, attempt, plugin, digest, config_digest, runtime, started_at, duration_us, fuel, outcome, message, logs, \
               (SELECT v.version FROM plugin_versions v WHERE v.digest = runs.digest AND v.name = runs.plugin LIMIT 1) AS version \
               FROM runs WHERE job = ?1 ORDER BY id DESC";
    newest(view.connection, sql, job, |row| {
        let run: i64 = get(row, "id")?;
        Ok(RunView {
            id: RunId(run),
            attempt: rows::unsigned32(row, "attempt")?,
            plugin: id(row, "plugin")?,
            version: get(row, "version")?,
            digest: rows::digest(row, "digest")?,
            config_digest: rows::digest(row, "config_digest")?,
            runtime: get(row, "runtime")?,
            started_at: millis(row, "started_at")?.to_string(),
            duration_us: rows::unsigned(row, "duration_us")?,
            fuel: rows::unsigned(row, "fuel")?,
            outcome: get(row, "outcome")?,
            message: get(row, "message")?,
            logs: rows::json(row, "logs")?,
            actions: actions(view, key, run)?,
        })
    })
}

fn actions(view: View<'_>, key: &Secret, run: i64) -> Result<Vec<ActionView>, Fault> {
    // What a person recorded stands behind the proposal.
    let sql = "SELECT CASE WHEN at < 0 THEN -1 - at ELSE at END AS place, at < 0 AS by_review, id, receipt, namespace, operation_key, json, \
               CASE conflict WHEN 0 THEN 'recorded' ELSE 'conflict' END AS verdict FROM actions WHERE run = ?1 \
               UNION ALL \
               SELECT p.at, false, a.id, a.receipt, a.namespace, a.operation_key, a.json, \
               CASE a.conflict WHEN 0 THEN 'already_done' ELSE 'conflict' END \
               FROM repeats p JOIN actions a ON a.id = p.action WHERE p.run = ?1 ORDER BY 1, 2";
    each(view.connection, sql, run, |row| {
        let verdict: String = get(row, "verdict")?;
        let content: Action = rows::json(row, "json")?;
        let action = ActionId(get(row, "id")?);
        let (verdict, review) = match verdict.as_str() {
            "recorded" => (Verdict::Recorded, None),
            "conflict" => (Verdict::Conflict, reviewed::of_action(view, action)?),
            _ => (Verdict::AlreadyDone, None),
        };
        Ok(ActionView {
            id: action,
            namespace: id(row, "namespace")?,
            operation_key: get(row, "operation_key")?,
            verdict,
            review,
            summary: content.to_string(),
            deliveries: outbox(view, key, row, content.kind())?,
            action: content,
        })
    })
}

/// The entries of an action, whose row is `action`.
fn outbox(view: View<'_>, key: &Secret, action: &Row<'_>, kind: ActionKind) -> Result<Vec<OutboxView>, Fault> {
    let (namespace, operation_key) = (id(action, "namespace")?, id(action, "operation_key")?);
    let recorded_by: i64 = get(action, "receipt")?;
    let sql = "SELECT id, destination, state, due_at FROM outbox WHERE action = ?1 ORDER BY id";
    each(view.connection, sql, get(action, "id")?, |row| {
        let entry: i64 = get(row, "id")?;
        let state = rows::entry_state(row, "state")?;
        let due_at = millis(row, "due_at")?;
        let receipt = receipts::get_known(view, recorded_by, Body::Without)?.id;
        let destination = id(row, "destination")?;
        Ok(OutboxView {
            id: OutboxId(entry),
            message_id: message_id(key, receipt, &namespace, kind, &operation_key, &destination),
            destination,
            state: state.as_str().to_owned(),
            due_at: (state == EntryState::Ready).then(|| due_at.to_string()),
            attempts: attempts(view.connection, entry)?,
        })
    })
}

fn attempts(connection: &Connection, entry: i64) -> Result<Vec<AttemptView>, Fault> {
    let sql = "SELECT row_number() OVER (ORDER BY id) AS number, started_at, duration_us, end, answer, resend \
               FROM attempts WHERE entry = ?1 ORDER BY id DESC";
    newest(connection, sql, entry, |row| {
        Ok(AttemptView {
            number: rows::unsigned32(row, "number")?,
            started_at: millis(row, "started_at")?.to_string(),
            duration_us: rows::unsigned(row, "duration_us")?,
            end: rows::json::<AttemptEnd>(row, "end")?,
            answer: get(row, "answer")?,
            resend: get::<Option<i64>>(row, "resend")?
                .map(|resend| resends::view(connection, ResendId(resend)))
                .transpose()?,
        })
    })
}

fn history(connection: &Connection, seq: i64) -> Result<Vec<HistoryView>, Fault> {
    newest(
        connection,
        "SELECT at, what, detail FROM history WHERE receipt = ?1 ORDER BY id DESC",
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
