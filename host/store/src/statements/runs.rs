//! Recorded runs with all that they read, for whoever repeats them (promises W3, W4).

use tollgate_core::action::Action;
use tollgate_core::ids::{OperationKey, RunId};
use tollgate_core::state::StateRead;

use super::fault::Fault;
use super::receipts::{self, View};
use super::reviewed;
use super::rows::{self, get, id};
use crate::sql::{Connection, params};
use crate::{RecordedRun, RecordedRunFilter};

/// Runs behind the one and up to the other. One run is such a range as well: `?2 IS NULL OR r.id = ?2` would read all runs before it.
const RECORDED: &str = "SELECT r.id, j.receipt, j.route, r.plugin, r.digest, c.text AS config, r.runtime, r.started_at, r.fuel, \
     r.outcome, r.message FROM runs r JOIN jobs j ON j.id = r.job JOIN configs c ON c.digest = r.config_digest \
     WHERE r.outcome <> 'forwarded' AND r.id > ?1 AND r.id <= ?2 AND (?3 IS NULL OR j.tenant = ?3) \
     AND (?4 IS NULL OR j.route = ?4) AND (?5 IS NULL OR r.plugin = ?5) \
     AND (?6 IS NULL OR r.digest = ?6) AND (?7 IS NULL OR r.started_at >= ?7) ORDER BY r.id LIMIT ?8";

/// Lists recorded runs, the oldest first.
pub(crate) fn recorded(view: View<'_>, filter: &RecordedRunFilter) -> Result<Vec<RecordedRun>, Fault> {
    let mut statement = view.prepare_cached(RECORDED)?;
    let after = filter.after.map_or(0, |run| run.0);
    let mut found = statement.query(params![
        filter.run.map_or(after, |run| after.max(run.0.saturating_sub(1))),
        filter.run.map_or(i64::MAX, |run| run.0),
        filter.tenant.as_ref().map(|name| name.as_str()),
        filter.route.as_ref().map(|name| name.as_str()),
        filter.plugin.as_ref().map(|name| name.as_str()),
        filter.digest.as_ref().map(|digest| digest.0.as_slice()),
        filter.since.map(|at| at.0),
        i64::try_from(filter.rows_max).unwrap_or(i64::MAX),
    ])?;
    let mut runs = Vec::new();
    // Runs come in about the order of their receipts, so the next one is likely to be beside the last.
    let mut near = receipts::Near::default();
    while let Some(row) = found.next()? {
        let run: i64 = get(row, "id")?;
        let receipt = near.get(view, get(row, "receipt")?)?;
        runs.push(RecordedRun {
            id: RunId(run),
            route: id(row, "route")?,
            event: reviewed::as_reviewed(view, &receipt)?,
            plugin: id(row, "plugin")?,
            digest: rows::digest(row, "digest")?,
            config: get(row, "config")?,
            runtime: get(row, "runtime")?,
            started_at: rows::millis(row, "started_at")?,
            fuel: rows::unsigned(row, "fuel")?,
            outcome: get(row, "outcome")?,
            message: get(row, "message")?,
            reads: reads(view.connection, run)?,
            actions: proposed(view.connection, run)?,
        });
    }
    Ok(runs)
}

fn reads(connection: &Connection, run: i64) -> Result<Vec<StateRead>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT key, version, value FROM run_reads WHERE run = ?1 ORDER BY at")?;
    let mut found = statement.query([run])?;
    let mut reads = Vec::new();
    while let Some(row) = found.next()? {
        reads.push(StateRead {
            key: get(row, "key")?,
            version: get(row, "version")?,
            value: get(row, "value")?,
        });
    }
    Ok(reads)
}

/// What the run proposed, in its order: recorded, repeated or in conflict.
fn proposed(connection: &Connection, run: i64) -> Result<Vec<(OperationKey, Action)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT at, operation_key, json FROM actions WHERE run = ?1 AND at >= 0 UNION ALL \
         SELECT p.at, a.operation_key, a.json FROM repeats p JOIN actions a ON a.id = p.action WHERE p.run = ?1 ORDER BY 1",
    )?;
    let mut found = statement.query([run])?;
    let mut actions = Vec::new();
    while let Some(row) = found.next()? {
        actions.push((id(row, "operation_key")?, rows::json(row, "json")?));
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::schema::{is_ranged, plan};

    /// The page of one event asks for one run, however many there are.
    #[test]
    fn o8_one_run_is_found_without_those_before_it() {
        let plan = plan(RECORDED);
        assert!(is_ranged(&plan), "{plan:#?}");
    }
}
