//! Issues: dead letters, grouped by what failed, where and how; and what people say of them (promise O12).
//!
//! Dead letters have numbers, and up to one of them all are grouped: the group and that number are one commit, so that none counts twice,
//! whoever groups and after whatever restart. A change of state is told by an action of the ledger whose operation key names the change.

use tollgate_core::delivery::AttemptEnd;
use tollgate_core::ids::{DestinationName, IssueId, ReceiptId, TenantName};
use tollgate_core::issue::{self, Issue, IssueEvent, IssueKind, IssueState};
use tollgate_core::limits;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::outbox;
use super::receipts::{self, Body, View};
use super::rows::{self, get};
use super::transaction::Transaction;
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::{GroupFailures, IssueChange, IssueFilter, IssueRecord, Notified, Targets};

const COLUMNS: &str = "id, tenant, kind, place, code, state, changes, first_seen, last_seen, count, reason, run, receipts, changed_at, \
    changed_by, why";

/// What of an issue stands in its row.
struct Kept {
    record: IssueRecord,
    /// The run of the newest failure.
    run: i64,
    /// The receipts of the newest failures, the newest first.
    receipts: Vec<i64>,
}

/// A dead letter, as it is grouped.
struct Failure {
    letter: i64,
    tenant: TenantName,
    kind: IssueKind,
    place: String,
    code: String,
    reason: String,
    died_at: UnixMillis,
    receipt: i64,
    run: i64,
}

/// Those that the filter names, those that failed last in front.
pub(crate) fn list(view: View<'_>, filter: &IssueFilter) -> Result<Vec<IssueRecord>, Fault> {
    let mut statement = view.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM issues WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR tenant = ?2) ORDER BY last_seen DESC, id DESC"
    ))?;
    let tenant = filter.tenant.as_ref().map(|tenant| tenant.as_str());
    let mut found = statement.query(params![filter.id.map(|id| id.0), tenant])?;
    let mut issues = Vec::new();
    while issues.len() < filter.rows_max
        && let Some(row) = found.next()?
    {
        let kept = read(row)?;
        if filter.states.contains(&kept.record.issue.state) {
            let receipts = kept.receipts.iter();
            let receipts = receipts.map(|seq| Ok(receipts::get_known(view, *seq, Body::Without)?.id));
            issues.push(IssueRecord {
                receipts: receipts.collect::<Result<Vec<ReceiptId>, Fault>>()?,
                ..kept.record
            });
        }
    }
    Ok(issues)
}

fn read(row: &Row<'_>) -> Result<Kept, Fault> {
    let damaged = |error: String| Fault::damaged("issue", error);
    let state: i64 = get(row, "state")?;
    let issue = Issue {
        id: IssueId(get(row, "id")?),
        tenant: rows::id(row, "tenant")?,
        kind: get::<String>(row, "kind")?.parse().map_err(damaged)?,
        place: get(row, "place")?,
        code: get(row, "code")?,
        state: state_of(state).ok_or_else(|| Fault::damaged("state of an issue", state))?,
        changes: rows::unsigned32(row, "changes")?,
        first_seen: rows::millis(row, "first_seen")?,
        last_seen: rows::millis(row, "last_seen")?,
        count: rows::unsigned(row, "count")?,
    };
    Ok(Kept {
        record: IssueRecord {
            issue,
            reason: get(row, "reason")?,
            receipts: Vec::new(),
            changed_at: rows::millis(row, "changed_at")?,
            changed_by: get(row, "changed_by")?,
            why: get(row, "why")?,
        },
        run: get(row, "run")?,
        receipts: rows::json(row, "receipts")?,
    })
}

fn state_of(code: i64) -> Option<IssueState> {
    IssueState::ALL.into_iter().find(|state| self::code(*state) == code)
}

/// In `state`.
fn code(state: IssueState) -> i64 {
    match state {
        IssueState::Open => 0,
        IssueState::Acknowledged => 1,
        IssueState::Resolved => 2,
        IssueState::Ignored => 3,
    }
}

fn find(connection: &Connection, id: IssueId) -> Result<Kept, Fault> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM issues WHERE id = ?1"))?;
    let mut found = statement.query([id.0])?;
    read(found.next()?.ok_or_else(|| Fault::NotFound(id.to_string()))?)
}

/// How many dead letters are not grouped yet.
pub(crate) fn ungrouped(view: View<'_>) -> Result<u64, Fault> {
    let newest: i64 = view.query_row("SELECT coalesce(max(id), 0) FROM dead_letters", [], |row| row.get(0))?;
    Ok(u64::try_from(newest - grouped(view.connection)?).unwrap_or(0))
}

fn grouped(connection: &Connection) -> Result<i64, Fault> {
    let upto = connection
        .prepare_cached("SELECT upto FROM issues_grouped WHERE what = 0")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(upto.unwrap_or(0))
}

/// Groups the next dead letters. Returns how many those were.
pub(crate) fn group(transaction: &mut Transaction<'_>, request: &GroupFailures) -> Result<usize, Fault> {
    let upto = grouped(transaction.connection)?;
    let rows_max = i64::try_from(limits::ISSUES_GROUPED_AT_ONCE).unwrap_or(i64::MAX);
    let failures = failures(transaction.connection, upto, rows_max)?;
    let Some(last) = failures.last() else { return Ok(0) };
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO issues_grouped (what, upto) VALUES (0, ?1) ON CONFLICT (what) DO UPDATE SET upto = excluded.upto",
        )?
        .execute([last.letter])?;
    for failure in &failures {
        add(transaction, failure, request)?;
    }
    Ok(failures.len())
}

/// The dead letters behind one, in their order.
fn failures(connection: &Connection, after: i64, rows_max: i64) -> Result<Vec<Failure>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT d.id, d.receipt, d.died_at, d.reason, d.context, j.tenant AS job_tenant, j.route, e.tenant AS entry_tenant, e.destination, \
         a.run FROM dead_letters d LEFT JOIN jobs j ON j.id = d.job LEFT JOIN outbox e ON e.id = d.entry \
         LEFT JOIN actions a ON a.id = e.action WHERE d.id > ?1 ORDER BY d.id LIMIT ?2",
    )?;
    let mut found = statement.query(params![after, rows_max])?;
    let mut failures = Vec::new();
    while let Some(row) = found.next()? {
        failures.push(failure(row)?);
    }
    Ok(failures)
}

fn failure(row: &Row<'_>) -> Result<Failure, Fault> {
    let damaged = |what: &str| Fault::damaged("dead letter", what);
    let context: serde_json::Value = rows::json(row, "context")?;
    let route: Option<String> = get(row, "route")?;
    let (kind, tenant, place, code, run) = match route {
        Some(route) => {
            let outcome = context["outcome"].as_str().unwrap_or("none").to_owned();
            let run = context["run"].as_str().and_then(|run| run.strip_prefix("run_"));
            let run = run.and_then(|run| run.parse().ok()).ok_or_else(|| damaged("no run"))?;
            (IssueKind::DeadJob, rows::id(row, "job_tenant")?, route, outcome, run)
        }
        None => {
            let end: AttemptEnd = serde_json::from_value(context["last_attempt"].clone())
                .map_err(|error| Fault::damaged("dead letter", error))?;
            let code = match end {
                AttemptEnd::Answered {
                    http_status: status, ..
                }
                | AttemptEnd::Mailed {
                    smtp_status: status, ..
                } => status.to_string(),
                AttemptEnd::Failed { .. }
                | AttemptEnd::Forbidden { .. }
                | AttemptEnd::Confirmed
                | AttemptEnd::GivenBack { .. } => "none".to_owned(),
            };
            let tenant = rows::id(row, "entry_tenant")?;
            (
                IssueKind::DeadDelivery,
                tenant,
                get(row, "destination")?,
                code,
                get(row, "run")?,
            )
        }
    };
    Ok(Failure {
        letter: get(row, "id")?,
        tenant,
        kind,
        place,
        code,
        reason: get(row, "reason")?,
        died_at: rows::millis(row, "died_at")?,
        receipt: get(row, "receipt")?,
        run,
    })
}

fn add(transaction: &mut Transaction<'_>, failure: &Failure, request: &GroupFailures) -> Result<(), Fault> {
    let connection = transaction.connection;
    let known: Option<i64> = connection
        .prepare_cached("SELECT id FROM issues WHERE tenant = ?1 AND kind = ?2 AND place = ?3 AND code = ?4")?
        .query_row(
            params![
                failure.tenant.as_str(),
                failure.kind.as_str(),
                failure.place,
                failure.code
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(id) = known else {
        connection
            .prepare_cached(
                "INSERT INTO issues (tenant, kind, place, code, state, changes, first_seen, last_seen, count, reason, run, receipts, \
                 changed_at, changed_by, why) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6, 1, ?7, ?8, ?9, ?10, '', '')",
            )?
            .execute(params![
                failure.tenant.as_str(),
                failure.kind.as_str(),
                failure.place,
                failure.code,
                code(IssueState::Open),
                failure.died_at.0,
                failure.reason,
                failure.run,
                serde_json::json!([failure.receipt]).to_string(),
                request.now.0,
            ])?;
        let id = IssueId(connection.last_insert_rowid());
        return tell(transaction, id, &request.notified, request.now);
    };
    let id = IssueId(id);
    let mut kept = find(connection, id)?;
    kept.receipts.retain(|receipt| *receipt != failure.receipt);
    kept.receipts.insert(0, failure.receipt);
    kept.receipts.truncate(limits::ISSUE_RECEIPTS_KEPT);
    let receipts = serde_json::to_string(&kept.receipts).map_err(|error| Fault::damaged("issue", error))?;
    connection
        .prepare_cached(
            "UPDATE issues SET last_seen = ?2, count = count + 1, reason = ?3, run = ?4, receipts = ?5 WHERE id = ?1",
        )?
        .execute(params![id.0, failure.died_at.0, failure.reason, failure.run, receipts])?;
    if let Some(state) = kept.record.issue.state.next(IssueEvent::Fails) {
        set(connection, id, state, request.now, "", "")?;
        tell(transaction, id, &request.notified, request.now)?;
    }
    Ok(())
}

fn set(
    connection: &Connection,
    id: IssueId,
    state: IssueState,
    now: UnixMillis,
    by: &str,
    why: &str,
) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "UPDATE issues SET state = ?2, changes = changes + 1, changed_at = ?3, changed_by = ?4, why = ?5 WHERE id = ?1",
        )?
        .execute(params![id.0, code(state), now.0, by, why])?;
    Ok(())
}

/// Sets what a person says, and returns what it is then. What it is already is left as it is, and told to nobody.
pub(crate) fn change(
    transaction: &mut Transaction<'_>,
    change: &IssueChange,
    notified: &Notified,
) -> Result<IssueRecord, Fault> {
    let kept = find(transaction.connection, change.issue)?;
    if let Some(state) = kept.record.issue.state.next(IssueEvent::Says(change.state)) {
        set(
            transaction.connection,
            change.issue,
            state,
            change.now,
            &change.by,
            &change.why,
        )?;
        tell(transaction, change.issue, notified, change.now)?;
    }
    let found = list(transaction.view(), &IssueFilter::of(change.issue, None))?.pop();
    found.ok_or_else(|| Fault::NotFound(change.issue.to_string()))
}

/// Records the notice of an issue's newest change, and sends it to whoever is to be told.
fn tell(transaction: &mut Transaction<'_>, id: IssueId, notified: &Notified, now: UnixMillis) -> Result<(), Fault> {
    let connection = transaction.connection;
    let kept = find(connection, id)?;
    let issue = &kept.record.issue;
    // Nobody is told of a destination there.
    let is_told = |name: &&DestinationName| issue.kind != IssueKind::DeadDelivery || name.as_str() != issue.place;
    let told = notified.get(&issue.tenant).into_iter().flatten().filter(is_told);
    let targets = Targets {
        destinations: told.cloned().collect(),
        ..Targets::default()
    };
    if targets.destinations.is_empty() {
        return Ok(());
    }
    let (key, action) = issue::notice(issue);
    let namespace = issue::namespace();
    let kind = action.kind();
    let is_recorded = connection
        .prepare_cached(
            "SELECT 1 FROM actions WHERE operation_key = ?1 AND tenant = ?2 AND namespace = ?3 AND kind = ?4 AND conflict = 0",
        )?
        .query_row(
            params![key.as_str(), issue.tenant.as_str(), namespace.as_str(), kind.as_str()],
            |_| Ok(()),
        )
        .optional()?
        .is_some();
    let Some(receipt) = kept.receipts.first().filter(|_| !is_recorded) else {
        return Ok(());
    };
    // Behind all that the run proposed, and before nothing: a repeated run does not propose it.
    let at = -1_000 - i64::from(issue.changes);
    connection
        .prepare_cached(
            "INSERT INTO actions (run, at, receipt, tenant, namespace, kind, operation_key, content_digest, json, conflict, recorded_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10)",
        )?
        .execute(params![
            kept.run,
            at,
            receipt,
            issue.tenant.as_str(),
            namespace.as_str(),
            kind.as_str(),
            key.as_str(),
            action.content_digest().0.as_slice(),
            action.to_json(),
            now.0,
        ])?;
    let recorded = connection.last_insert_rowid();
    outbox::send(transaction, &issue.tenant, recorded, &targets, now)
}
