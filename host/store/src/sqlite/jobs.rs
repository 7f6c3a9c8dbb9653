//! Jobs: leased, run elsewhere, and settled in one transaction.

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_core::action::{GrantedAction, Verdict, verdict};
use tollgate_core::ids::{Digest, JobId, LeaseEpoch, PluginName, RouteName, RunId, TenantName};
use tollgate_core::outcome::JobEnd;
use tollgate_core::state::{StateRead, StateValue, StateWrite};
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::outbox;
use super::receipts;
use super::reviews;
use super::rows::{self, WorkState, get, id, signed, to_json};
use super::transaction::{StateChange, Transaction};
use crate::{ClaimRequest, JobClaim, RunRecord, Settled, Settlement};

/// Tenants that one claim looks at; the next goes on behind them.
const TENANTS_PER_CLAIM_MAX: usize = 256;

/// A key that does not exist.
const ABSENT: StateValue = StateValue {
    version: 0,
    value: None,
};

/// Leases what is due, tenants by turns: one that has much waiting delays no other. A job that is ready or leased is the oldest of
/// its lane (see the schema), so the lanes need no look: the claimable jobs are of different lanes.
pub(super) fn claim(transaction: &mut Transaction<'_>, request: &ClaimRequest) -> Result<Vec<JobClaim>, Fault> {
    let connection = transaction.connection;
    let mut tenants = tenants_in_turn(connection, &mut transaction.memory.last_turn, request)?;
    let mut claims = Vec::new();
    while !tenants.is_empty() && claims.len() < request.rows_max {
        let share = ((request.rows_max - claims.len()) / tenants.len()).max(1);
        let mut with_more = Vec::new();
        for tenant in tenants {
            let left = request.rows_max - claims.len();
            if left == 0 {
                break;
            }
            if claim_of(transaction, request, &tenant, share.min(left), &mut claims)? {
                with_more.push(tenant.clone());
            }
            transaction.memory.last_turn = tenant;
        }
        tenants = with_more;
    }
    Ok(claims)
}

/// Tenants with jobs that are due, behind `last_turn` in the order of their names and then from the first on. One whose jobs all
/// wait or are leased takes nobody's turn: few seats may be asked for, and somebody else's job be due.
fn tenants_in_turn(
    connection: &Connection,
    last_turn: &mut String,
    request: &ClaimRequest,
) -> Result<Vec<String>, Fault> {
    let mut next = connection.prepare_cached("SELECT min(tenant) FROM jobs WHERE state IN (1, 2) AND tenant > ?1")?;
    let mut due = connection
        .prepare_cached("SELECT 1 FROM jobs WHERE state IN (1, 2) AND tenant = ?1 AND due_at <= ?2 LIMIT 1")?;
    let mut tenants: Vec<String> = Vec::new();
    let (mut behind, mut wrapped) = (last_turn.clone(), last_turn.is_empty());
    let mut looked_at = 0;
    while tenants.len() < request.rows_max && looked_at < TENANTS_PER_CLAIM_MAX {
        let found: Option<String> = next.query_row([&behind], |row| row.get(0))?;
        match found {
            Some(tenant) if wrapped && !last_turn.is_empty() && *tenant > **last_turn => break,
            Some(tenant) => {
                looked_at += 1;
                let is_due = due.query_row(params![tenant, request.now.0], |_| Ok(())).optional()?;
                if is_due.is_some() && !request.passed_over.iter().any(|name| name.as_str() == tenant) {
                    tenants.push(tenant.clone());
                }
                behind = tenant;
            }
            None if wrapped => break,
            None => (behind, wrapped) = (String::new(), true),
        }
    }
    if tenants.is_empty() {
        // The next claim looks further.
        *last_turn = behind;
    }
    Ok(tenants)
}

/// Leases jobs of one tenant, the oldest first. Answers whether there may be more.
fn claim_of(
    transaction: &mut Transaction<'_>,
    request: &ClaimRequest,
    tenant: &str,
    rows_max: usize,
    claims: &mut Vec<JobClaim>,
) -> Result<bool, Fault> {
    let connection = transaction.connection;
    let mut due = connection.prepare_cached(
        "SELECT id, lane, state, epoch, attempts, route, receipt FROM jobs \
         WHERE state IN (1, 2) AND tenant = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3",
    )?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut found = due.query(params![tenant, request.now.0, limit])?;
    let mut jobs = Vec::with_capacity(rows_max.min(64));
    while let Some(row) = found.next()? {
        jobs.push(Due::read(row)?);
    }
    let may_be_more = jobs.len() == rows_max;
    for job in jobs {
        let older = match job.state {
            WorkState::Leased => yield_to_older(connection, job.job, job.lane)?,
            _ => None,
        };
        match older {
            None => claims.push(lease(transaction, request, job)?),
            Some(older) if older.due_at <= request.now => {
                let older = Due::of(connection, older.job)?;
                claims.push(lease(transaction, request, older)?);
            }
            Some(_) => transaction.jobs_ready = true,
        }
    }
    Ok(may_be_more)
}

/// A job that may be leased.
struct Due {
    job: i64,
    lane: i64,
    state: WorkState,
    /// Leases and attempts so far.
    epoch: i64,
    attempts: u32,
    route: RouteName,
    receipt: i64,
}

impl Due {
    fn read(row: &rusqlite::Row<'_>) -> Result<Self, Fault> {
        Ok(Self {
            job: get(row, "id")?,
            lane: get(row, "lane")?,
            state: WorkState::from_code(get(row, "state")?)?,
            epoch: get(row, "epoch")?,
            attempts: rows::unsigned32(row, "attempts")?,
            route: id(row, "route")?,
            receipt: get(row, "receipt")?,
        })
    }

    fn of(connection: &Connection, job: i64) -> Result<Self, Fault> {
        let mut statement = connection
            .prepare_cached("SELECT id, lane, state, epoch, attempts, route, receipt FROM jobs WHERE id = ?1")?;
        let mut found = statement.query([job])?;
        let row = found
            .next()?
            .ok_or_else(|| Fault::damaged("job", format_args!("{job} does not exist")))?;
        Self::read(row)
    }
}

/// A job that waited for its lane.
pub(super) struct Waiting {
    job: i64,
    due_at: UnixMillis,
}

/// While a job was leased, a replay may have put an older one behind it. When the lease ends without an end of the job, the
/// older goes first, and who held the lease has lost it: two jobs of one lane never run at once. Answers with the older one,
/// ready now, if there was one.
pub(super) fn yield_to_older(connection: &Connection, job: i64, lane: i64) -> Result<Option<Waiting>, Fault> {
    match oldest(connection, lane, WorkState::Blocked)? {
        Some(older) if older.job < job => {
            set_state(connection, job, WorkState::Blocked)?;
            set_state(connection, older.job, WorkState::Ready)?;
            Ok(Some(older))
        }
        _ => Ok(None),
    }
}

fn lease(transaction: &mut Transaction<'_>, request: &ClaimRequest, due: Due) -> Result<JobClaim, Fault> {
    let connection = transaction.connection;
    let (epoch, attempts) = (due.epoch + 1, due.attempts + 1);
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, due_at = ?3, worker = ?4, epoch = ?5, attempts = ?6 WHERE id = ?1",
        )?
        .execute(params![
            due.job,
            WorkState::Leased,
            request.now.plus_ms(request.lease_ms).0,
            request.worker,
            epoch,
            attempts,
        ])?;
    transaction.memory.leases += 1;
    transaction.must_commit |= transaction.memory.careful;
    let receipt = receipts::get_ahead(transaction, due.receipt)?;
    Ok(JobClaim {
        job: JobId(due.job),
        epoch: LeaseEpoch(epoch),
        route: due.route,
        attempt: attempts,
        receipt: receipt.id,
        event: reviews::as_reviewed(transaction.view(), &receipt)?,
    })
}

/// Moves the end of a lease that is still its job's newest; answers whether it is. A guest runs what it leased at once.
#[cfg(not(target_family = "wasm"))]
pub(super) fn extend_lease(
    transaction: &mut Transaction<'_>,
    job: JobId,
    epoch: LeaseEpoch,
    until: UnixMillis,
) -> Result<bool, Fault> {
    let held = transaction
        .connection
        .prepare_cached("UPDATE jobs SET due_at = ?4 WHERE id = ?1 AND state = ?2 AND epoch = ?3")?
        .execute(params![job.0, WorkState::Leased, epoch.0, until.0])?;
    Ok(held == 1)
}

/// The job that a settlement is about.
struct Settling {
    job: i64,
    receipt: i64,
    lane: i64,
    attempts: u32,
    tenant: TenantName,
    /// When the run ended: the time of all that it leaves behind.
    at: UnixMillis,
}

pub(super) fn settle(transaction: &mut Transaction<'_>, settlement: &Settlement) -> Result<Settled, Fault> {
    let connection = transaction.connection;
    let Some(settling) = hold_lease(connection, settlement)? else {
        return Ok(Settled::LeaseLost);
    };
    let run = &settlement.run;
    if !reads_are_current(connection, &settling.tenant, &run.plugin, &run.reads)? {
        return Ok(Settled::StaleState);
    }
    let growth = match settlement.end {
        JobEnd::Done => growth(connection, &settling.tenant, &run.plugin, &settlement.writes)?,
        _ => 0,
    };
    if let Some(bytes) = over_quota(connection, &settling.tenant, settlement, growth)? {
        return Ok(Settled::OverQuota { bytes });
    }
    let run_id = append_run(transaction, &settling, settlement.epoch, run)?;
    let mut verdicts = Vec::new();
    match &settlement.end {
        JobEnd::Done => {
            for (at, action) in settlement.actions.iter().enumerate() {
                verdicts.push(record_action(transaction, &settling, run_id, at, action, settlement)?);
            }
            // A run whose every proposal repeats or contradicts the ledger has no effect, and so none on state either: otherwise a
            // replay would charge a customer's limit again for what was credited once.
            if verdicts.is_empty() || verdicts.contains(&Verdict::Recorded) {
                write_state(transaction, &settling.tenant, settlement, run_id, growth)?;
            }
            end_job(transaction, &settling, WorkState::Done, None)?;
        }
        JobEnd::Held { reason } => end_job(transaction, &settling, WorkState::Held, Some(reason))?,
        JobEnd::Dead { reason } => {
            append_dead_letter(connection, &settling, run_id, run, reason)?;
            end_job(transaction, &settling, WorkState::Dead, Some(reason))?;
        }
        JobEnd::RetryAt { at, reason } => {
            connection
                .prepare_cached("UPDATE jobs SET state = ?2, due_at = ?3, reason = ?4, worker = NULL WHERE id = ?1")?
                .execute(params![settling.job, WorkState::Ready, at.0, reason])?;
            yield_to_older(connection, settling.job, settling.lane)?;
            transaction.jobs_ready = true;
        }
    }
    Ok(Settled::Committed { run: run_id, verdicts })
}

/// The job, if the settlement's lease is still its newest. An expired lease that nobody took over still holds.
fn hold_lease(connection: &Connection, settlement: &Settlement) -> Result<Option<Settling>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT receipt, lane, state, epoch, attempts, tenant FROM jobs WHERE id = ?1")?;
    let mut found = statement.query([settlement.job.0])?;
    let Some(row) = found.next()? else {
        return Err(Fault::NotFound(settlement.job.to_string()));
    };
    let state = WorkState::from_code(get(row, "state")?)?;
    if state != WorkState::Leased || LeaseEpoch(get(row, "epoch")?) != settlement.epoch {
        return Ok(None);
    }
    let run = &settlement.run;
    Ok(Some(Settling {
        job: settlement.job.0,
        receipt: get(row, "receipt")?,
        lane: get(row, "lane")?,
        attempts: rows::unsigned32(row, "attempts")?,
        tenant: id(row, "tenant")?,
        at: run.started_at.plus_ms(signed(run.duration_us / 1000)),
    }))
}

pub(super) fn read_state(
    connection: &Connection,
    tenant: &TenantName,
    plugin: &PluginName,
    key: &str,
) -> Result<StateValue, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT version, value FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3")?;
    let found = statement
        .query_row(params![tenant.as_str(), plugin.as_str(), key], |row| {
            Ok(StateValue {
                version: row.get(0)?,
                value: Some(row.get(1)?),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(ABSENT))
}

fn reads_are_current(
    connection: &Connection,
    tenant: &TenantName,
    plugin: &PluginName,
    reads: &[StateRead],
) -> Result<bool, Fault> {
    for read in reads {
        let mut statement = connection
            .prepare_cached("SELECT version FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3")?;
        let version: Option<i64> = statement
            .query_row(params![tenant.as_str(), plugin.as_str(), read.key], |row| row.get(0))
            .optional()?;
        if version.unwrap_or(0) != read.version {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How a run's writes change what the plugin has in all, in bytes of keys and values.
fn growth(
    connection: &Connection,
    tenant: &TenantName,
    plugin: &PluginName,
    writes: &[StateWrite],
) -> Result<i64, Fault> {
    let mut had = connection
        .prepare_cached("SELECT length(value) FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3")?;
    let mut growth = 0;
    for write in writes {
        let bytes = |value: i64| write.key.len() as i64 + value;
        let before: Option<i64> = had
            .query_row(params![tenant.as_str(), plugin.as_str(), write.key], |row| row.get(0))
            .optional()?;
        growth += write.value.as_ref().map_or(0, |value| bytes(value.len() as i64)) - before.map_or(0, bytes);
    }
    Ok(growth)
}

/// What the plugin has for the tenant in all.
fn state_total(connection: &Connection, tenant: &TenantName, plugin: &PluginName) -> Result<i64, Fault> {
    let total = connection
        .prepare_cached("SELECT bytes FROM plugin_state_totals WHERE tenant = ?1 AND plugin = ?2")?
        .query_row(params![tenant.as_str(), plugin.as_str()], |row| row.get(0))
        .optional()?;
    Ok(total.unwrap_or(0))
}

/// What the plugin's state would come to, if that is over its bound. What shrinks it, or leaves it as it is, is never too much.
fn over_quota(
    connection: &Connection,
    tenant: &TenantName,
    settlement: &Settlement,
    growth: i64,
) -> Result<Option<u64>, Fault> {
    let Some(most) = settlement.state_total_max else {
        return Ok(None);
    };
    if growth <= 0 {
        return Ok(None);
    }
    let total = state_total(connection, tenant, &settlement.run.plugin)?;
    let total = u64::try_from(total + growth).unwrap_or(0);
    Ok((total > most).then_some(total))
}

/// The version of what a run writes is the run's own number: it never comes back, and says who wrote it.
fn write_state(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    settlement: &Settlement,
    run: RunId,
    growth: i64,
) -> Result<(), Fault> {
    let (plugin, writes) = (&settlement.run.plugin, &settlement.writes);
    if writes.is_empty() {
        return Ok(());
    }
    let connection = transaction.connection;
    for write in writes {
        transaction.state.push(StateChange {
            tenant: tenant.clone(),
            plugin: plugin.clone(),
            key: write.key.clone(),
            value: match &write.value {
                Some(_) => StateValue {
                    version: run.0,
                    value: write.value.clone(),
                },
                None => ABSENT,
            },
        });
        match &write.value {
            Some(value) => connection
                .prepare_cached(
                    "INSERT INTO plugin_state (tenant, plugin, key, version, value) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (tenant, plugin, key) DO UPDATE SET version = excluded.version, value = excluded.value",
                )?
                .execute(params![tenant.as_str(), plugin.as_str(), write.key, run.0, value])?,
            None => connection
                .prepare_cached("DELETE FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3")?
                .execute(params![tenant.as_str(), plugin.as_str(), write.key])?,
        };
    }
    connection
        .prepare_cached(
            "INSERT INTO plugin_state_totals (tenant, plugin, bytes) VALUES (?1, ?2, ?3) \
             ON CONFLICT (tenant, plugin) DO UPDATE SET bytes = bytes + excluded.bytes",
        )?
        .execute(params![tenant.as_str(), plugin.as_str(), growth])?;
    Ok(())
}

fn append_run(
    transaction: &mut Transaction<'_>,
    settling: &Settling,
    epoch: LeaseEpoch,
    run: &RunRecord,
) -> Result<RunId, Fault> {
    let connection = transaction.connection;
    if transaction.memory.configs.insert(run.config_digest) {
        connection
            .prepare_cached("INSERT INTO configs (digest, text) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING")?
            .execute(params![run.config_digest.0.as_slice(), run.config])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO runs (job, attempt, epoch, plugin, digest, config_digest, runtime, started_at, duration_us, fuel, outcome, \
             message, logs) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            settling.job,
            settling.attempts,
            epoch.0,
            run.plugin.as_str(),
            run.digest.0.as_slice(),
            run.config_digest.0.as_slice(),
            run.runtime,
            run.started_at.0,
            signed(run.duration_us),
            signed(run.fuel),
            run.outcome,
            run.message,
            to_json(&run.logs)?,
        ])?;
    let id = RunId(connection.last_insert_rowid());
    for (at, read) in run.reads.iter().enumerate() {
        connection
            .prepare_cached("INSERT INTO run_reads (run, at, key, version, value) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id.0, at as i64, read.key, read.version, read.value])?;
    }
    Ok(id)
}

/// Puts one action into the ledger, if its operation is new there (promise T2), and into the outbox for each destination that it was
/// not sent to yet: two routes may mean two destinations, and a route may be mended. What conflicts is kept once; once a person decided
/// about it, it is done already.
fn record_action(
    transaction: &mut Transaction<'_>,
    settling: &Settling,
    run: RunId,
    at: usize,
    granted: &GrantedAction,
    settlement: &Settlement,
) -> Result<Verdict, Fault> {
    let connection = transaction.connection;
    let (tenant, namespace, kind, key) = (
        settling.tenant.as_str(),
        settlement.namespace.as_str(),
        granted.action().kind().as_str(),
        granted.operation_key().as_str(),
    );
    let json = granted.action().to_json();
    let proposed = Digest::of(json.as_bytes());
    let recorded = connection
        .prepare_cached(
            "SELECT id, content_digest FROM actions \
             WHERE operation_key = ?1 AND tenant = ?2 AND namespace = ?3 AND kind = ?4 AND conflict = 0",
        )?
        .query_row(params![key, tenant, namespace, kind], |row| {
            Ok((row.get::<_, i64>(0)?, Digest(row.get::<_, [u8; 32]>(1)?)))
        })
        .optional()?;
    let verdict = verdict(recorded.map(|(_, content)| content), proposed);
    if let (Verdict::AlreadyDone, Some((action, _))) = (verdict, recorded) {
        repeat(connection, run, at, action)?;
        outbox::send(transaction, &settling.tenant, action, &settlement.targets, settling.at)?;
        return Ok(verdict);
    }
    if verdict == Verdict::Conflict
        && let Some(known) = known_conflict(connection, &settling.tenant, settlement, granted, proposed)?
    {
        repeat(connection, run, at, known.action)?;
        let Some(effect) = known.effect else {
            return Ok(Verdict::Conflict);
        };
        outbox::send(transaction, &settling.tenant, effect, &settlement.targets, settling.at)?;
        return Ok(Verdict::AlreadyDone);
    }
    connection
        .prepare_cached(
            "INSERT INTO actions (run, at, receipt, tenant, namespace, kind, operation_key, content_digest, json, conflict, recorded_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            run.0,
            at as i64,
            settling.receipt,
            tenant,
            namespace,
            kind,
            key,
            proposed.0.as_slice(),
            json,
            verdict == Verdict::Conflict,
            settling.at.0,
        ])?;
    if verdict == Verdict::Recorded {
        let action = connection.last_insert_rowid();
        outbox::send(transaction, &settling.tenant, action, &settlement.targets, settling.at)?;
    }
    Ok(verdict)
}

fn repeat(connection: &Connection, run: RunId, at: usize, action: i64) -> Result<(), Fault> {
    connection
        .prepare_cached("INSERT INTO repeats (run, at, action) VALUES (?1, ?2, ?3)")?
        .execute(params![run.0, at as i64, action])?;
    Ok(())
}

/// A conflicting proposal that was made before.
struct KnownConflict {
    action: i64,
    /// The action that stands for it, by a person's word.
    effect: Option<i64>,
}

fn known_conflict(
    connection: &Connection,
    tenant: &TenantName,
    settlement: &Settlement,
    granted: &GrantedAction,
    content: Digest,
) -> Result<Option<KnownConflict>, Fault> {
    Ok(connection
        .prepare_cached(
            "SELECT a.id, w.effect FROM actions a LEFT JOIN work_reviews w ON w.action = a.id \
             WHERE a.operation_key = ?1 AND a.conflict = 1 AND a.tenant = ?2 AND a.namespace = ?3 AND a.kind = ?4 \
             AND a.content_digest = ?5 ORDER BY w.effect IS NULL, a.id LIMIT 1",
        )?
        .query_row(
            params![
                granted.operation_key().as_str(),
                tenant.as_str(),
                settlement.namespace.as_str(),
                granted.action().kind().as_str(),
                content.0.as_slice(),
            ],
            |row| {
                Ok(KnownConflict {
                    action: row.get(0)?,
                    effect: row.get(1)?,
                })
            },
        )
        .optional()?)
}

/// Ends a job for good and lets the next of its lane go on.
fn end_job(
    transaction: &mut Transaction<'_>,
    settling: &Settling,
    state: WorkState,
    reason: Option<&str>,
) -> Result<(), Fault> {
    transaction
        .connection
        .prepare_cached("UPDATE jobs SET state = ?2, reason = ?3, worker = NULL, ended_at = ?4 WHERE id = ?1")?
        .execute(params![settling.job, state, reason, settling.at.0])?;
    let next = oldest(transaction.connection, settling.lane, WorkState::Blocked)?;
    if let Some(next) = next {
        set_state(transaction.connection, next.job, WorkState::Ready)?;
        transaction.jobs_ready = true;
    }
    Ok(())
}

fn append_dead_letter(
    connection: &Connection,
    settling: &Settling,
    run: RunId,
    record: &RunRecord,
    reason: &str,
) -> Result<(), Fault> {
    let context = serde_json::json!({
        "run": run,
        "plugin": record.plugin,
        "plugin_digest": record.digest,
        "config_digest": record.config_digest,
        "runtime": record.runtime,
        "outcome": record.outcome,
        "message": record.message,
    });
    connection
        .prepare_cached("INSERT INTO dead_letters (job, receipt, died_at, attempts, reason, context) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![settling.job, settling.receipt, settling.at.0, settling.attempts, reason, context.to_string()])?;
    Ok(())
}

/// The oldest job of a lane that is in a state of those before an end.
fn oldest(connection: &Connection, lane: i64, state: WorkState) -> Result<Option<Waiting>, Fault> {
    // In the order of the lane's index: the first is of the lowest state that there is, from the wanted one on.
    let found = connection
        .prepare_cached(
            "SELECT id, due_at, state FROM jobs WHERE lane = ?1 AND state >= ?2 AND state < 3 ORDER BY state, id LIMIT 1",
        )?
        .query_row(params![lane, state], |row| {
            let waiting = Waiting {
                job: row.get(0)?,
                due_at: UnixMillis(row.get(1)?),
            };
            Ok((waiting, row.get(2)?))
        })
        .optional()?;
    match found {
        Some((waiting, code)) if WorkState::from_code(code)? == state => Ok(Some(waiting)),
        _ => Ok(None),
    }
}

fn set_state(connection: &Connection, job: i64, state: WorkState) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE jobs SET state = ?2 WHERE id = ?1")?
        .execute(params![job, state])?;
    Ok(())
}

/// Nothing is to be done with a held job. Its reason stays.
pub(super) fn dismiss(connection: &Connection, job: i64) -> Result<(), Fault> {
    set_state(connection, job, WorkState::Dismissed)
}

/// Puts a job that had ended back into its lane, at its old place: before a younger job that only waits, behind one that runs.
pub(super) fn requeue(transaction: &mut Transaction<'_>, job: i64, now: UnixMillis) -> Result<(), Fault> {
    let connection = transaction.connection;
    let lane: i64 = connection
        .prepare_cached(
            "UPDATE jobs SET state = 0, attempts = 0, replays = replays + 1, due_at = ?2, reason = NULL WHERE id = ?1 RETURNING lane",
        )?
        .query_row(params![job, now.0], |row| row.get(0))?;
    if oldest(connection, lane, WorkState::Leased)?.is_some() {
        return Ok(());
    }
    match oldest(connection, lane, WorkState::Ready)? {
        Some(ready) if ready.job < job => return Ok(()),
        Some(ready) => set_state(connection, ready.job, WorkState::Blocked)?,
        None => {}
    }
    set_state(connection, job, WorkState::Ready)?;
    transaction.jobs_ready = true;
    Ok(())
}
