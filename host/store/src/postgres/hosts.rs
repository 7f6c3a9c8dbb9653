//! The hosts as people see them: who is there, what each says of itself, and which are to claim nothing.
//!
//! Nothing here decides who has work: leases and their epochs do. A host that is taken for gone and comes back loses at most its leases.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tollgate_api::hosts::{Drain, DrainReport, HostState, HostView};
use tollgate_core::ids::HostName;
use tollgate_core::limits;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::{EntryState, JobState};

use super::rates::{self, Rates};
use crate::HostIdentity;
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::statements::fault::Fault;
use crate::statements::rows::{self, get};

/// For so long at most whoever claims on a drained host is kept waiting before it is told that there is nothing.
const DRAINED_WAIT: Duration = Duration::from_secs(1);
/// An answer that took longer says too little of what the time is.
const CLOCK_ANSWER_MAX: Duration = Duration::from_millis(200);
/// People are told when clocks differ by so much, and that they agree again when it is less than the second, in milliseconds.
const CLOCKS_DIFFER_MS: i64 = 1_000;
const CLOCKS_AGREE_MS: i64 = 500;

/// Is told what the database's clock said at a moment.
pub type HearClock = fn(Instant, UnixMillis);

/// What a host says of itself, and what it was told.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) identity: HostIdentity,
    configuration: Mutex<String>,
    clock: Mutex<Clock>,
    hear_clock: HearClock,
    drain: watch::Sender<Option<Drain>>,
    pub(super) rates: Rates,
}

/// What is known of the database's clock.
#[derive(Debug, Default)]
struct Clock {
    was_heard: bool,
    /// Whether people were told that this machine's differs from it.
    differs: bool,
}

impl Presence {
    pub(super) fn new(identity: HostIdentity, hear_clock: HearClock) -> Self {
        Self {
            identity,
            configuration: Mutex::default(),
            clock: Mutex::default(),
            hear_clock,
            drain: watch::Sender::default(),
            rates: Rates::default(),
        }
    }

    /// What its tenants run now.
    pub(super) fn set_configuration(&self, configuration: &str) {
        let mut said = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        configuration.clone_into(&mut said);
    }

    /// Why it is to claim nothing, if it is.
    pub(super) fn drain(&self) -> Option<Drain> {
        self.drain.borrow().clone()
    }

    /// Takes note of what it is told. Returns whether it may claim again, which it could not.
    pub(super) fn told(&self, drain: Option<Drain>) -> bool {
        let name = &self.identity.name;
        let before = self.drain.borrow().clone();
        if before == drain {
            return false;
        }
        match &drain {
            Some(Drain { by, why, .. }) if before.is_none() => tracing::info!(
                host = %name, by, why, "this host is drained: it claims nothing more, and finishes what it has"
            ),
            Some(_) => {}
            None => tracing::info!(host = %name, "this host claims work again"),
        }
        let may_again = drain.is_none();
        self.drain.send_replace(drain);
        may_again
    }

    /// Whether it may claim. While it may not, whoever asks waits a moment first, and so does not ask again at once.
    pub(super) async fn may_claim(&self) -> bool {
        let mut drain = self.drain.subscribe();
        let freed = drain.wait_for(Option::is_none);
        matches!(tokio::time::timeout(DRAINED_WAIT, freed).await, Ok(Ok(_)))
    }

    /// Asks for the time by the database's clock, which all hosts share, and says so to people where this machine's differs from it.
    pub(super) fn hear_clock(&self, connection: &Connection) -> Result<(), Fault> {
        let asked = Instant::now();
        let shared: i64 = connection.query_row(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
            [],
            |row| row.get(0),
        )?;
        let (took, system) = (asked.elapsed(), wall_ms());
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if took > CLOCK_ANSWER_MAX && clock.was_heard {
            return Ok(());
        }
        clock.was_heard = true;
        // The answer was given some time in between.
        (self.hear_clock)(asked + took / 2, UnixMillis(shared));
        let half_ms = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
        let ahead_ms = system.saturating_sub(half_ms).saturating_sub(shared);
        match ahead_ms.abs() {
            CLOCKS_DIFFER_MS.. if !clock.differs => {
                clock.differs = true;
                tracing::warn!(
                    ahead_ms,
                    "this machine's clock differs from the database's, by which work comes due on every host; by its own this host judges and signs \
                     requests and tokens: set the clocks right"
                );
            }
            ..CLOCKS_AGREE_MS if clock.differs => {
                clock.differs = false;
                tracing::info!("this machine's clock agrees with the database's again");
            }
            _ => {}
        }
        Ok(())
    }

    /// Says that the host is there. `lag` is the longest that it had not looked, since it last said so.
    pub(super) fn beat(&self, connection: &Connection, host: i64, lag: Duration) -> Result<(), Fault> {
        let HostIdentity { name, process, version } = &self.identity;
        let configuration = self
            .configuration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let lag_ms = i64::try_from(lag.as_millis()).unwrap_or(i64::MAX);
        connection.execute(
            "INSERT INTO heartbeats (host, name, process, version, configuration, lag_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (host) DO UPDATE SET seen_at = now(), ended_at = NULL, configuration = excluded.configuration, lag_ms = excluded.lag_ms",
            params![host, name.as_str(), process, version, configuration, lag_ms],
        )?;
        Ok(())
    }
}

fn wall_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Says that a host has ended by itself.
pub(super) fn end(connection: &Connection, host: i64) -> Result<(), Fault> {
    connection.execute(
        "UPDATE heartbeats SET seen_at = now(), ended_at = now() WHERE host = ?1",
        [host],
    )?;
    rates::forget(connection, host)
}

/// Why the hosts of a name are to claim nothing, if they are.
pub(super) fn drain_of(connection: &Connection, name: &HostName) -> Result<Option<Drain>, Fault> {
    let found = connection
        .query_row(
            "SELECT at, actor, why FROM drains WHERE name = ?1",
            [name.as_str()],
            |row| {
                Ok(Drain {
                    at: UnixMillis(row.get(0)?),
                    by: row.get(1)?,
                    why: row.get(2)?,
                })
            },
        )
        .optional()?;
    Ok(found)
}

/// Has the hosts of a name claim nothing, or with none again; a dry run says what that would change. None where no host of that name is known. Who is
/// drained already stays so by the first word.
pub(super) fn drain(
    connection: &Connection,
    name: &HostName,
    drain: Option<&Drain>,
    dry_run: bool,
) -> Result<Option<DrainReport>, Fault> {
    let before = drain_of(connection, name)?;
    let is_known: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM heartbeats WHERE name = ?1)",
        [name.as_str()],
        |row| row.get(0),
    )?;
    if !is_known && before.is_none() {
        return Ok(None);
    }
    let changed = before.is_some() != drain.is_some();
    match drain {
        _ if dry_run || !changed => {}
        Some(Drain { at, by, why }) => connection
            .execute(
                "INSERT INTO drains (name, at, actor, why) VALUES (?1, ?2, ?3, ?4)",
                params![name.as_str(), at.0, by, why],
            )
            .map(drop)?,
        None => connection
            .execute("DELETE FROM drains WHERE name = ?1", [name.as_str()])
            .map(drop)?,
    }
    Ok(Some(DrainReport {
        host: name.clone(),
        changed,
        drain: drain.map(|drain| before.unwrap_or_else(|| drain.clone())),
    }))
}

/// The hosts by name: of each those that are there, or the last one where none is.
pub(super) fn list(connection: &Connection) -> Result<Vec<HostView>, Fault> {
    let jobs = leased(connection, "jobs", rows::job_code(JobState::Leased))?;
    let deliveries = leased(connection, "outbox", rows::entry_code(EntryState::Leased))?;
    let mut statement = connection.prepare_cached(
        "SELECT b.name, b.process, b.version, (extract(epoch FROM b.started_at) * 1000)::BIGINT AS started_at, \
         (extract(epoch FROM b.seen_at) * 1000)::BIGINT AS seen_at, \
         (extract(epoch FROM clock_timestamp() - b.seen_at) * 1000)::BIGINT AS seen_ms, \
         b.ended_at IS NOT NULL AS has_ended, b.configuration, b.lag_ms, d.at AS drained_at, coalesce(d.actor, '') AS actor, coalesce(d.why, '') AS why \
         FROM heartbeats b LEFT JOIN drains d ON d.name = b.name ORDER BY b.name, b.host DESC",
    )?;
    let mut found = statement.query([])?;
    let mut listed: Vec<HostView> = Vec::new();
    while let Some(row) = found.next()? {
        let host = view(row, &jobs, &deliveries)?;
        let is_first = listed.last().is_none_or(|newer| newer.name != host.name);
        if host.state == HostState::Running
            || is_first && i64::try_from(host.seen_ms).is_ok_and(|ms| ms <= limits::HOST_LISTED_MS)
        {
            listed.push(host);
        }
    }
    Ok(listed)
}

fn view(row: &Row<'_>, jobs: &HashMap<String, u64>, deliveries: &HashMap<String, u64>) -> Result<HostView, Fault> {
    let process: String = get(row, "process")?;
    let held = |leased: &HashMap<String, u64>| Some(leased.get(&process).copied().unwrap_or_default());
    let (jobs, deliveries) = (held(jobs), held(deliveries));
    let seen_ms: i64 = get(row, "seen_ms")?;
    let drained_at: Option<i64> = get(row, "drained_at")?;
    let lag_ms: i64 = get(row, "lag_ms")?;
    Ok(HostView {
        name: rows::id(row, "name")?,
        process,
        version: get(row, "version")?,
        state: match get(row, "has_ended")? {
            true => HostState::Stopped,
            false if seen_ms > limits::HOST_GONE_MS => HostState::Gone,
            false => HostState::Running,
        },
        started_at: UnixMillis(get(row, "started_at")?),
        seen_at: UnixMillis(get(row, "seen_at")?),
        seen_ms: u64::try_from(seen_ms).unwrap_or_default(),
        configuration: get(row, "configuration")?,
        lag_ms: Some(u64::try_from(lag_ms).unwrap_or_default()),
        jobs,
        deliveries,
        drain: match drained_at {
            Some(at) => Some(Drain {
                at: UnixMillis(at),
                by: get(row, "actor")?,
                why: get(row, "why")?,
            }),
            None => None,
        },
    })
}

/// How many rows of a table are leased, by the process that has them.
fn leased(connection: &Connection, table: &str, state: i64) -> Result<HashMap<String, u64>, Fault> {
    // The second condition is that of the index.
    let leased = format!(
        "SELECT worker, count(*) AS held FROM {table} WHERE state = ?1 AND state IN (1, 2) AND worker IS NOT NULL GROUP BY worker"
    );
    let mut statement = connection.prepare_cached(&leased)?;
    let mut found = statement.query([state])?;
    let mut by_process = HashMap::new();
    while let Some(row) = found.next()? {
        let held: i64 = get(row, "held")?;
        by_process.insert(get(row, "worker")?, u64::try_from(held).unwrap_or_default());
    }
    Ok(by_process)
}

/// Removes what is left of processes that nobody asks about any more, so that their number stays small. What they had counted stays counted,
/// in the row of nobody: the others would else hear of changes that were none. The newest row stays, since numbers follow it.
pub(super) fn forget_old(connection: &Connection) -> Result<(), Fault> {
    const FORGOTTEN: &str =
        "FROM hosts WHERE id > 0 AND id < (SELECT max(id) FROM hosts) AND seen_at < now() - interval '7 days'";
    connection.execute(
        &format!(
            "DELETE FROM heartbeats WHERE host IN (SELECT id {FORGOTTEN}) AND seen_at < now() - interval '7 days'"
        ),
        [],
    )?;
    connection.execute(
        &format!(
            "WITH gone AS (DELETE {FORGOTTEN} AND NOT EXISTS (SELECT 1 FROM heartbeats WHERE host = id) RETURNING jobs, outbox, tokens, quarantines, registry), \
             total AS (SELECT sum(jobs) AS jobs, sum(outbox) AS outbox, sum(tokens) AS tokens, sum(quarantines) AS quarantines, \
             sum(registry) AS registry FROM gone HAVING count(*) > 0) \
             INSERT INTO hosts (id, jobs, outbox, tokens, quarantines, registry) SELECT 0, jobs, outbox, tokens, quarantines, registry FROM total \
             ON CONFLICT (id) DO UPDATE SET jobs = hosts.jobs + excluded.jobs, outbox = hosts.outbox + excluded.outbox, \
             tokens = hosts.tokens + excluded.tokens, quarantines = hosts.quarantines + excluded.quarantines, \
             registry = hosts.registry + excluded.registry"
        ),
        [],
    )?;
    Ok(())
}
