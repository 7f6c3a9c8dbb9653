//! Jobs: leased, run elsewhere, and settled in one transaction.

use tollgate_core::action::{GrantedAction, Verdict, verdict};
use tollgate_core::budget;
use tollgate_core::ids::{Digest, JobId, LeaseEpoch, PluginName, RouteName, RunId, TenantName};
use tollgate_core::outcome::JobEnd;
use tollgate_core::state::{StateRead, StateValue, StateWrite};
use tollgate_core::time::UnixMillis;
use tollgate_core::turns::{self, Leased};
use tollgate_core::work::{JobEvent, JobState};

use super::append;
use super::budgets;
use super::fault::Fault;
use super::outbox;
use super::pauses::{self, Paused};
use super::reviewed;
use super::rows::{self, get, id, signed, to_json};
use super::state_totals;
use super::transaction::{StateChange, Transaction};
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::{ClaimRequest, JobClaim, RunRecord, Settled, Settlement};

/// The first job of a lane in the order of states, from one of those before an end on.
const OLDEST: &str =
    "SELECT id, due_at, state FROM jobs WHERE lane = ?1 AND state >= ?2 AND state < 3 ORDER BY state, id LIMIT 1";
/// The action that stands in the ledger under an operation key.
const RECORDED: &str = "SELECT id, content_digest FROM actions \
     WHERE operation_key = ?1 AND tenant = ?2 AND namespace = ?3 AND kind = ?4 AND conflict = 0";
const STATE_VERSION: &str = "SELECT version FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3";
const STATE_BYTES: &str = "SELECT length(value) FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3";
/// A key that does not exist.
const ABSENT: StateValue = StateValue {
    version: 0,
    value: None,
};

/// Leases what is due, tenants by turns: one that has much waiting delays no other. A job that is ready or leased is the oldest of
/// its lane (see the schema), so the lanes need no look: the claimable jobs are of different lanes.
pub(crate) fn claim(transaction: &mut Transaction<'_>, request: &ClaimRequest) -> Result<Vec<JobClaim>, Fault> {
    let paused = Paused::read(transaction.connection)?;
    paused.take_up(transaction, request.now)?;
    let mut last = std::mem::take(&mut transaction.memory.last_turn);
    let mut tenants = Tenants {
        transaction,
        request,
        paused,
        claims: Vec::new(),
    };
    turns::take(&mut tenants, &mut last, request.rows_max)?;
    let Tenants {
        transaction, claims, ..
    } = tenants;
    transaction.memory.last_turn = last;
    Ok(claims)
}

/// The tenants whose jobs wait.
struct Tenants<'t, 'c, 'r> {
    transaction: &'t mut Transaction<'c>,
    request: &'r ClaimRequest,
    paused: Paused,
    claims: Vec<JobClaim>,
}

impl turns::Line for Tenants<'_, '_, '_> {
    type Name = String;
    type Error = Fault;

    fn behind(&mut self, tenant: &String) -> Result<Option<String>, Fault> {
        if let Some(next) = self.transaction.memory.jobs_due.behind(tenant) {
            return Ok(next);
        }
        let connection = self.transaction.connection;
        let mut next =
            connection.prepare_cached("SELECT min(tenant) FROM jobs WHERE state IN (1, 2) AND tenant > ?1")?;
        Ok(next.query_row([tenant], |row| row.get(0))?)
    }

    /// One whose jobs all wait or are leased takes nobody's turn: few seats may be asked for, and somebody else's job be due.
    fn quota(&mut self, tenant: &String) -> Result<usize, Fault> {
        if self.request.passed_over.iter().any(|name| name.as_str() == tenant) {
            return Ok(0);
        }
        let Transaction { connection, memory, .. } = &mut *self.transaction;
        let (from, now) = (memory.jobs_due.from(tenant), self.request.now);
        if from > now {
            return Ok(0);
        }
        let mut due = connection.prepare_cached(
            "SELECT 1 FROM jobs WHERE state IN (1, 2) AND tenant = ?1 AND due_at >= ?2 AND due_at <= ?3 LIMIT 1",
        )?;
        let is_due = due.query_row(params![tenant, from.0, now.0], |_| Ok(())).optional()?;
        if is_due.is_none() {
            memory.jobs_due.looked(tenant, now);
        }
        Ok(is_due.map_or(0, |()| usize::MAX))
    }

    /// The oldest first.
    fn lease(&mut self, tenant: &String, rows_max: usize) -> Result<Leased, Fault> {
        let connection = self.transaction.connection;
        let mut due = connection.prepare_cached(
            "SELECT id, lane, state, epoch, attempts, due_at, tenant, route, receipt, beyond_budget FROM jobs \
             WHERE state IN (1, 2) AND tenant = ?1 AND due_at >= ?2 AND due_at <= ?3 ORDER BY due_at, id LIMIT ?4",
        )?;
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let from = self.transaction.memory.jobs_due.from(tenant);
        let mut found = due.query(params![tenant, from.0, self.request.now.0, limit])?;
        let mut jobs = Vec::with_capacity(rows_max.min(64));
        while let Some(row) = found.next()? {
            jobs.push(Job::read(row)?);
        }
        let (mut may_be_more, before) = (jobs.len() == rows_max, self.claims.len());
        let looked_to = match jobs.last() {
            Some(last) if may_be_more => last.due_at,
            _ => self.request.now,
        };
        self.transaction.memory.jobs_due.looked(tenant, looked_to);
        for job in &jobs {
            self.transaction.memory.receipts.will_get(connection, job.receipt)?;
        }
        for job in jobs {
            if self.paused.has_route(&job.tenant, &job.route) {
                pauses::put_off(connection, job.id)?;
                // Another claim looks at those behind it, so that this one is not as long as what waits.
                self.transaction.jobs_ready |= may_be_more;
                may_be_more = false;
                continue;
            }
            let older = match job.state {
                JobState::Leased => yield_to_older(connection, job.id, job.lane, job.state)?,
                JobState::Ready
                | JobState::Blocked
                | JobState::Done
                | JobState::Held
                | JobState::Dead
                | JobState::Dismissed => None,
            };
            match older {
                None => self.claims.push(lease(self.transaction, self.request, job)?),
                Some(older) if older.due_at <= self.request.now => {
                    let older = Job::find(connection, JobId(older.job))?;
                    self.claims.push(lease(self.transaction, self.request, older)?);
                }
                Some(_) => self.transaction.jobs_ready = true,
            }
        }
        Ok(Leased {
            rows: self.claims.len() - before,
            may_be_more,
        })
    }
}

/// A job, as far as leasing and settling it need it.
struct Job {
    id: i64,
    lane: i64,
    state: JobState,
    /// Of its newest lease.
    epoch: LeaseEpoch,
    attempts: u32,
    due_at: UnixMillis,
    tenant: TenantName,
    route: RouteName,
    receipt: i64,
    bounds: Bounds,
}

/// What bounds the actions of a job's next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// The budgets of its route.
    Budgets,
    /// None of them: a person said so.
    BeyondBudget,
}

impl Job {
    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Self {
            id: get(row, "id")?,
            lane: get(row, "lane")?,
            state: rows::job_state(row, "state")?,
            epoch: LeaseEpoch(get(row, "epoch")?),
            attempts: rows::unsigned32(row, "attempts")?,
            due_at: rows::millis(row, "due_at")?,
            tenant: id(row, "tenant")?,
            route: id(row, "route")?,
            receipt: get(row, "receipt")?,
            bounds: match get(row, "beyond_budget")? {
                0 => Bounds::Budgets,
                _ => Bounds::BeyondBudget,
            },
        })
    }

    /// # Errors
    /// [`Fault::NotFound`] when there is no such job.
    fn find(connection: &Connection, job: JobId) -> Result<Self, Fault> {
        let mut statement = connection.prepare_cached(
            "SELECT id, lane, state, epoch, attempts, due_at, tenant, route, receipt, beyond_budget FROM jobs WHERE id = ?1",
        )?;
        let mut found = statement.query([job.0])?;
        let row = found.next()?.ok_or_else(|| Fault::NotFound(job.to_string()))?;
        Self::read(row)
    }

    fn is_held_under(&self, epoch: LeaseEpoch) -> bool {
        self.state.is_held_under(self.epoch, epoch)
    }
}

/// How far a job has come.
pub(crate) fn state(connection: &Connection, job: JobId) -> Result<JobState, Fault> {
    Ok(Job::find(connection, job)?.state)
}

/// A job that waited for its lane.
pub(crate) struct Waiting {
    job: i64,
    due_at: UnixMillis,
}

/// While a job was leased, a replay may have put an older one behind it. When the lease ends without an end of the job, the
/// older goes first, and who held the lease has lost it: two jobs of one lane never run at once. Returns the older one,
/// ready now, if there was one. `state` is the job's.
pub(crate) fn yield_to_older(
    connection: &Connection,
    job: i64,
    lane: i64,
    state: JobState,
) -> Result<Option<Waiting>, Fault> {
    match oldest(connection, lane, JobState::Blocked)? {
        Some(older) if older.job < job => {
            change(connection, job, state, JobEvent::GiveWay)?;
            change(connection, older.job, JobState::Blocked, JobEvent::TurnComes)?;
            Ok(Some(older))
        }
        _ => Ok(None),
    }
}

fn lease(transaction: &mut Transaction<'_>, request: &ClaimRequest, job: Job) -> Result<JobClaim, Fault> {
    let connection = transaction.connection;
    let state = job.state.next(JobEvent::Lease)?;
    let (epoch, attempts) = (job.epoch.next(), job.attempts + 1);
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, due_at = ?3, worker = ?4, epoch = ?5, attempts = ?6 WHERE id = ?1",
        )?
        .execute(params![
            job.id,
            rows::job_code(state),
            request.now.plus_ms(request.lease_ms).0,
            request.worker,
            epoch.0,
            attempts,
        ])?;
    let receipt = append::get_ahead(transaction, job.receipt)?;
    Ok(JobClaim {
        job: JobId(job.id),
        epoch,
        route: job.route,
        attempt: attempts,
        due_at: job.due_at,
        receipt: receipt.id,
        event: reviewed::as_reviewed(transaction.view(), &receipt)?,
    })
}

/// Moves the end of a lease that is still its job's newest; answers whether it is.
pub(crate) fn extend_lease(
    transaction: &mut Transaction<'_>,
    job: JobId,
    epoch: LeaseEpoch,
    until: UnixMillis,
) -> Result<bool, Fault> {
    let connection = transaction.connection;
    let is_held = Job::find(connection, job)?.is_held_under(epoch);
    if is_held {
        connection
            .prepare_cached("UPDATE jobs SET due_at = ?2 WHERE id = ?1")?
            .execute(params![job.0, until.0])?;
    }
    Ok(is_held)
}

/// The job that a settlement is about.
struct Settling {
    job: Job,
    /// When the run ended: the time of all that it leaves behind.
    at: UnixMillis,
}

pub(crate) fn settle(transaction: &mut Transaction<'_>, settlement: &Settlement) -> Result<Settled, Fault> {
    let connection = transaction.connection;
    let run = &settlement.run;
    let settling = Settling {
        job: Job::find(connection, settlement.job)?,
        at: run.started_at.plus_ms(signed(run.duration_us / 1000)),
    };
    let job = &settling.job;
    // An expired lease that nobody took over still holds.
    if !job.is_held_under(settlement.epoch) {
        return Ok(Settled::LeaseLost);
    }
    let state = job.state.next(JobEvent::from(&settlement.end))?;
    will_ask(transaction, job, settlement)?;
    if !reads_are_current(connection, &job.tenant, &run.plugin, &run.reads)? {
        return Ok(Settled::StaleState);
    }
    let growth = match settlement.end {
        JobEnd::Done => growth(connection, &job.tenant, &run.plugin, &settlement.writes)?,
        _ => 0,
    };
    if let Some(bytes) = over_quota(transaction, &job.tenant, settlement, growth)? {
        return Ok(Settled::OverQuota { bytes });
    }
    let spent = match settlement.end {
        JobEnd::Done => spent(connection, job, settlement, settling.at)?,
        _ => Vec::new(),
    };
    if job.bounds == Bounds::Budgets
        && let Some(over) = spent.iter().find_map(|spent| spent.over(settling.at))
    {
        return Ok(Settled::OverBudget(Box::new(over)));
    }
    let next = match settlement.end {
        JobEnd::Done | JobEnd::Held { .. } | JobEnd::Dead { .. } => oldest(connection, job.lane, JobState::Blocked)?,
        JobEnd::RetryAt { .. } => None,
    };
    let run_id = append_run(transaction, &settling, settlement.epoch, run)?;
    let mut verdicts = Vec::new();
    match &settlement.end {
        JobEnd::Done => {
            for (at, action) in settlement.actions.iter().enumerate() {
                verdicts.push(record_action(transaction, &settling, run_id, at, action, settlement)?);
            }
            budgets::count(connection, &job.tenant, &job.route, &spent, settling.at)?;
            // A run whose every proposal repeats or contradicts the ledger has no effect, and so none on state either: otherwise a
            // replay would charge a customer's limit again for what was credited once.
            if verdicts.is_empty() || verdicts.contains(&Verdict::Recorded) {
                write_state(transaction, &job.tenant, settlement, run_id, growth)?;
            }
            end_job(transaction, &settling, state, None, next)?;
        }
        JobEnd::Held { reason } => end_job(transaction, &settling, state, Some(reason), next)?,
        JobEnd::Dead { reason } => {
            append_dead_letter(connection, &settling, run_id, run, reason)?;
            end_job(transaction, &settling, state, Some(reason), next)?;
        }
        JobEnd::RetryAt { at, reason } => {
            connection
                .prepare_cached("UPDATE jobs SET state = ?2, due_at = ?3, reason = ?4, worker = NULL WHERE id = ?1")?
                .execute(params![job.id, rows::job_code(state), at.0, reason])?;
            let older = yield_to_older(connection, job.id, job.lane, state)?;
            let due_at = older.map_or(*at, |older| older.due_at);
            transaction.job_is_ready(&job.tenant, due_at);
        }
    }
    Ok(Settled::Committed { run: run_id, verdicts })
}

/// Says what the settlement of a job is going to ask.
fn will_ask(transaction: &Transaction<'_>, job: &Job, settlement: &Settlement) -> Result<(), Fault> {
    let connection = transaction.connection;
    let (tenant, plugin) = (job.tenant.as_str(), settlement.run.plugin.as_str());
    for read in &settlement.run.reads {
        connection.will_ask(STATE_VERSION, params![tenant, plugin, read.key])?;
    }
    for write in &settlement.writes {
        connection.will_ask(STATE_BYTES, params![tenant, plugin, write.key])?;
    }
    let total = transaction.known_state_total(&job.tenant, &settlement.run.plugin);
    if settlement.state_total_max.is_some() && !settlement.writes.is_empty() && total.is_none() {
        connection.will_ask(state_totals::ASKED, params![tenant, plugin])?;
    }
    for granted in &settlement.actions {
        let (key, kind) = (granted.operation_key().as_str(), granted.action().kind().as_str());
        connection.will_ask(RECORDED, params![key, tenant, settlement.namespace.as_str(), kind])?;
    }
    connection.will_ask(OLDEST, params![job.lane, rows::job_code(JobState::Blocked)])?;
    Ok(())
}

pub(crate) fn read_state(
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
        let mut statement = connection.prepare_cached(STATE_VERSION)?;
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
    let mut had = connection.prepare_cached(STATE_BYTES)?;
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

/// What the plugin's state would come to, if that is over its bound. What shrinks it, or leaves it as it is, is never too much.
fn over_quota(
    transaction: &mut Transaction<'_>,
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
    let total = transaction.state_total(tenant, &settlement.run.plugin)?;
    let total = u64::try_from(total + growth).unwrap_or(0);
    Ok((total > most).then_some(total))
}

/// What a run takes of its route's budgets: that of its actions which are not in the ledger yet. What repeats the ledger, or conflicts
/// with it, takes nothing.
fn spent(
    connection: &Connection,
    job: &Job,
    settlement: &Settlement,
    at: UnixMillis,
) -> Result<Vec<budgets::Spent>, Fault> {
    if settlement.budgets.is_empty() {
        return Ok(Vec::new());
    }
    let mut new = Vec::new();
    for granted in &settlement.actions {
        if recorded(connection, &job.tenant, settlement, granted)?.is_none() {
            new.push(granted.action());
        }
    }
    let spendings = budget::spendings(&settlement.budgets, new.into_iter());
    budgets::spent(connection, &job.tenant, &job.route, spendings, at)
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
    transaction.grow_state(tenant, plugin, growth)
}

fn append_run(
    transaction: &mut Transaction<'_>,
    settling: &Settling,
    epoch: LeaseEpoch,
    run: &RunRecord,
) -> Result<RunId, Fault> {
    let connection = transaction.connection;
    if !transaction.memory.configs.contains(&run.config_digest) {
        connection
            .prepare_cached("INSERT INTO configs (digest, text) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING")?
            .execute(params![run.config_digest.0.as_slice(), run.config])?;
        transaction.memory.configs.insert(run.config_digest);
    }
    connection
        .prepare_cached(
            "INSERT INTO runs (job, attempt, epoch, plugin, digest, config_digest, runtime, started_at, duration_us, fuel, outcome, \
             message, logs) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            settling.job.id,
            settling.job.attempts,
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
        settling.job.tenant.as_str(),
        settlement.namespace.as_str(),
        granted.action().kind().as_str(),
        granted.operation_key().as_str(),
    );
    let json = granted.action().to_json();
    let proposed = Digest::of(json.as_bytes());
    let recorded = recorded(connection, &settling.job.tenant, settlement, granted)?;
    let mut send = |action| {
        let targets = &settlement.targets;
        outbox::send(transaction, &settling.job.tenant, action, targets, settling.at)
    };
    let verdict = verdict(recorded.map(|(_, content)| content), proposed);
    if let (Verdict::AlreadyDone, Some((action, _))) = (verdict, recorded) {
        repeat(connection, run, at, action)?;
        send(action)?;
        return Ok(verdict);
    }
    if verdict == Verdict::Conflict
        && let Some(known) = known_conflict(connection, &settling.job.tenant, settlement, granted, proposed)?
    {
        repeat(connection, run, at, known.action)?;
        let Some(effect) = known.effect else {
            return Ok(Verdict::Conflict);
        };
        send(effect)?;
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
            settling.job.receipt,
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
        outbox::send_new(
            transaction,
            &settling.job.tenant,
            action,
            &settlement.targets,
            settling.at,
        )?;
    }
    Ok(verdict)
}

/// The action that stands in the ledger under the operation key of a proposal, with the digest of its content.
fn recorded(
    connection: &Connection,
    tenant: &TenantName,
    settlement: &Settlement,
    granted: &GrantedAction,
) -> Result<Option<(i64, Digest)>, Fault> {
    Ok(connection
        .prepare_cached(RECORDED)?
        .query_row(
            params![
                granted.operation_key().as_str(),
                tenant.as_str(),
                settlement.namespace.as_str(),
                granted.action().kind().as_str(),
            ],
            |row| Ok((row.get::<_, i64>(0)?, Digest(row.get::<_, [u8; 32]>(1)?))),
        )
        .optional()?)
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
    state: JobState,
    reason: Option<&str>,
    next: Option<Waiting>,
) -> Result<(), Fault> {
    let (connection, job) = (transaction.connection, &settling.job);
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, reason = ?3, worker = NULL, ended_at = ?4 WHERE id = ?1 AND lane = ?5",
        )?
        .execute(params![job.id, rows::job_code(state), reason, settling.at.0, job.lane])?;
    if let Some(next) = next {
        let state = JobState::Blocked.next(JobEvent::TurnComes)?;
        connection
            .prepare_cached("UPDATE jobs SET state = ?2 WHERE id = ?1 AND lane = ?3")?
            .execute(params![next.job, rows::job_code(state), job.lane])?;
        transaction.job_is_ready(&job.tenant, next.due_at);
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
        .execute(params![settling.job.id, settling.job.receipt, settling.at.0, settling.job.attempts, reason, context.to_string()])?;
    Ok(())
}

/// The oldest job of a lane that is in a state of those before an end.
fn oldest(connection: &Connection, lane: i64, state: JobState) -> Result<Option<Waiting>, Fault> {
    // In the order of the lane's index: the first is of the lowest state that there is, from the wanted one on.
    let mut statement = connection.prepare_cached(OLDEST)?;
    let mut found = statement.query(params![lane, rows::job_code(state)])?;
    match found.next()? {
        Some(row) if rows::job_state(row, "state")? == state => Ok(Some(Waiting {
            job: get(row, "id")?,
            due_at: rows::millis(row, "due_at")?,
        })),
        _ => Ok(None),
    }
}

/// Something happens to a job that changes nothing but its state.
///
/// # Errors
/// [`Fault::Illegal`] when that cannot happen to it.
fn change(connection: &Connection, job: i64, state: JobState, event: JobEvent) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE jobs SET state = ?2 WHERE id = ?1")?
        .execute(params![job, rows::job_code(state.next(event)?)])?;
    Ok(())
}

/// Nothing is to be done with a held job. Its reason stays.
pub(crate) fn dismiss(connection: &Connection, job: JobId) -> Result<(), Fault> {
    let state = Job::find(connection, job)?.state;
    change(connection, job.0, state, JobEvent::Dismiss)
}

/// Puts a job that had ended back into its lane, at its old place: before a younger job that only waits, behind one that runs. `bounds`
/// holds until it ends again.
pub(crate) fn requeue(
    transaction: &mut Transaction<'_>,
    job: JobId,
    bounds: Bounds,
    now: UnixMillis,
) -> Result<(), Fault> {
    let connection = transaction.connection;
    let Job {
        id,
        lane,
        state,
        tenant,
        ..
    } = Job::find(connection, job)?;
    let state = state.next(JobEvent::Replay)?;
    connection
        .prepare_cached(
            "UPDATE jobs SET state = ?2, attempts = 0, replays = replays + 1, due_at = ?3, reason = NULL, beyond_budget = ?4 \
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            rows::job_code(state),
            now.0,
            bounds == Bounds::BeyondBudget
        ])?;
    if oldest(connection, lane, JobState::Leased)?.is_some() {
        return Ok(());
    }
    match oldest(connection, lane, JobState::Ready)? {
        Some(ready) if ready.job < id => return Ok(()),
        Some(ready) => change(connection, ready.job, JobState::Ready, JobEvent::GiveWay)?,
        None => {}
    }
    change(connection, id, state, JobEvent::TurnComes)?;
    transaction.job_is_ready(&tenant, now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tollgate_core::ids::OutboxId;
    use tollgate_core::work::{EntryEvent, EntryState, IllegalEvent};

    use super::super::receipts::Rows;
    use super::super::schema::MIGRATIONS;
    use super::super::transaction::Memory;
    use super::*;

    #[test]
    fn what_cannot_happen_to_a_job_or_an_entry_is_an_error_and_changes_nothing() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(&MIGRATIONS.concat()).unwrap();
        let connection: &Connection = &connection;
        // One of each state, whose code is its number; in lanes of their own.
        let job = "INSERT INTO jobs (id, receipt, route, lane, state, due_at, tenant) VALUES (10 + ?1, 1, 'r', ?1, ?1, 0, 'acme')";
        for state in JobState::ALL {
            connection.execute(job, [rows::job_code(state)]).unwrap();
        }
        let action = "INSERT INTO actions (id, run, at, receipt, tenant, namespace, kind, operation_key, content_digest, json, conflict, \
                      recorded_at) VALUES (1, 1, 0, 1, 'acme', 'p', 'credit', 'k', zeroblob(32), '{}', 0, 0)";
        connection.execute(action, []).unwrap();
        let entry = "INSERT INTO outbox (id, action, tenant, destination, state, due_at) VALUES (10 + ?1, 1, 'acme', 'd' || ?1, ?1, 0)";
        for state in EntryState::ALL {
            connection.execute(entry, [rows::entry_code(state)]).unwrap();
        }
        let all = || {
            let sql = "SELECT 'job', id, state, attempts, replays FROM jobs UNION ALL SELECT 'entry', id, state, attempts, replays FROM outbox";
            let row = |row: &Row<'_>| Ok([0, 1, 2, 3, 4].map(|at: usize| format!("{:?}", row.get_ref(at))));
            let mut statement = connection.prepare_cached(sql).unwrap();
            statement
                .query_map([], row)
                .unwrap()
                .collect::<Result<Vec<_>, _>>()
                .unwrap()
        };
        let before = all();
        let mut memory = Memory::load(connection, Box::new(Rows)).unwrap();
        let mut transaction = Transaction::new(connection, &mut memory);
        let mut refused = 0;
        let mut refuse = |done: Result<(), Fault>, expected: IllegalEvent| {
            assert!(
                matches!(&done, Err(Fault::Illegal(found)) if *found == expected),
                "{done:?}"
            );
            refused += 1;
        };
        for state in JobState::ALL {
            let job = JobId(10 + rows::job_code(state));
            let illegal = |event| IllegalEvent::Job { state, event };
            if state.next(JobEvent::Dismiss).is_err() {
                refuse(dismiss(connection, job), illegal(JobEvent::Dismiss));
            }
            if state.next(JobEvent::Replay).is_err() {
                let done = requeue(&mut transaction, job, Bounds::Budgets, UnixMillis(1));
                refuse(done, illegal(JobEvent::Replay));
            }
        }
        for state in EntryState::ALL.into_iter().filter(|state| *state != EntryState::Dead) {
            let entry = OutboxId(10 + rows::entry_code(state));
            let event = EntryEvent::Replay;
            refuse(
                outbox::requeue(&mut transaction, entry, UnixMillis(1)),
                IllegalEvent::Entry { state, event },
            );
        }
        assert_eq!(refused, 6 + 3 + 4);
        assert_eq!(all(), before);
    }
}
