//! How much there is, and when something is due next.

use tollgate_core::limits::COUNTED_MAX;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::pauses::PUT_OFF;
use super::receipts::{self, Body, View};
use super::rows;
use crate::sql::Connection;
use crate::{Counts, NextDue, OldestWaiting};

/// Counts by index. Row numbers have no gaps, so the largest is a count. What waits or is set aside is counted up to a bound: after days without a
/// destination there may be millions of it, and everybody who looks after the host asks. Reviews are what people decided, one by one or in bulk.
pub(crate) fn counts(view: View<'_>) -> Result<Counts, Fault> {
    let not_accepted = receipts::not_accepted(view)?;
    let mut statement = view.prepare_cached(
        "SELECT (SELECT coalesce(max(seq), 0) FROM chain_heads) AS receipts, \
         (SELECT count(*) FROM reviews) AS reviewed, \
         (SELECT count FROM redelivered_in_all WHERE what = 0) AS redeliveries, \
         (SELECT count FROM redelivered_in_all WHERE what = 1) AS conflicts, \
         (SELECT count FROM redelivered_in_all WHERE what = 2) AS suspected_replays, \
         (SELECT coalesce(max(id), 0) FROM jobs) AS jobs, \
         (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state < 3 LIMIT ?1) AS counted) AS jobs_waiting, \
         (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state > 3 LIMIT ?1) AS counted) AS jobs_set_aside, \
         (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state > 3 AND state = 4 LIMIT ?1) AS counted) AS jobs_held, \
         (SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE conflict <> 0 AND decided = 0 LIMIT ?1) AS counted) AS conflicts_open, \
         (SELECT count(*) FROM (SELECT 1 FROM actions WHERE conflict = 1 \
          AND NOT EXISTS (SELECT 1 FROM work_reviews w WHERE w.action = actions.id) LIMIT ?1) AS counted) AS ledger_conflicts_open, \
         (SELECT coalesce(max(id), 0) FROM runs) AS runs, \
         (SELECT coalesce(max(id), 0) FROM actions) AS actions, \
         (SELECT count(*) FROM (SELECT 1 FROM actions WHERE conflict = 1 LIMIT ?1) AS counted) AS action_conflicts, \
         (SELECT coalesce(max(id), 0) FROM outbox) AS outbox, \
         (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state IN (1, 2) LIMIT ?1) AS counted) AS outbox_under_way, \
         (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE lane IS NOT NULL AND state < 3 AND state = 0 LIMIT ?1) AS counted) AS outbox_blocked, \
         (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state IN (4, 5) LIMIT ?1) AS counted) AS outbox_set_aside, \
         (SELECT count(*) FROM (SELECT 1 FROM dead_letters WHERE replayed_at IS NULL LIMIT ?1) AS counted) AS dead_letters_open",
    )?;
    let mut found = statement.query([rows::signed(COUNTED_MAX)])?;
    let row = found.next()?.ok_or_else(|| Fault::damaged("counts", "no row"))?;
    let count = |column| rows::unsigned(row, column);
    let mut bounded = not_accepted.superseded >= COUNTED_MAX;
    let mut up_to = |column| {
        let counted = count(column)?;
        bounded |= counted >= COUNTED_MAX;
        Ok::<_, Fault>(counted)
    };
    let (jobs_waiting, jobs_set_aside) = (up_to("jobs_waiting")?, up_to("jobs_set_aside")?);
    let outbox_waiting = up_to("outbox_under_way")? + up_to("outbox_blocked")?;
    let (outbox_set_aside, action_conflicts) = (up_to("outbox_set_aside")?, up_to("action_conflicts")?);
    let (conflicts_open, ledger_conflicts_open) = (up_to("conflicts_open")?, up_to("ledger_conflicts_open")?);
    let dead_letters_open = up_to("dead_letters_open")?;
    Ok(Counts {
        receipts: count("receipts")?,
        redeliveries: count("redeliveries")?,
        conflicts: count("conflicts")?,
        suspected_replays: count("suspected_replays")?,
        superseded: not_accepted.superseded,
        // Only what was held is ever reviewed.
        held: not_accepted.held.saturating_sub(count("reviewed")?),
        jobs_waiting,
        held_jobs: count("jobs_held")?,
        conflicts_open,
        ledger_conflicts_open,
        jobs_done: count("jobs")?.saturating_sub(jobs_waiting + jobs_set_aside),
        runs: count("runs")?,
        actions: count("actions")?.saturating_sub(action_conflicts),
        outbox_waiting,
        delivered: count("outbox")?.saturating_sub(outbox_waiting + outbox_set_aside),
        dead_letters_open,
        bounded,
    })
}

/// Work is numbered in the order of its making, so that the smallest number is the oldest. The plus keeps SQLite from looking for it along
/// the table, through all that has ended; the index has only what waits. What waits for another of its subject is younger than that one.
pub(crate) fn oldest_waiting(view: View<'_>) -> Result<OldestWaiting, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT (SELECT receipt FROM jobs WHERE id = (SELECT min(+id) FROM jobs WHERE state < 3)) AS receipt, \
         (SELECT recorded_at FROM actions WHERE id = (SELECT action FROM outbox \
          WHERE id = (SELECT min(+id) FROM outbox WHERE state IN (1, 2)))) AS delivery",
    )?;
    let mut found = statement.query([])?;
    let row = found
        .next()?
        .ok_or_else(|| Fault::damaged("oldest waiting", "no row"))?;
    let receipt = rows::get::<Option<i64>>(row, "receipt")?;
    let receipt = receipt
        .map(|seq| receipts::get_known(view, seq, Body::Without))
        .transpose()?;
    Ok(OldestWaiting {
        job: receipt.map(|receipt| receipt.event.received_at),
        delivery: rows::millis_opt(row, "delivery")?,
    })
}

pub(crate) fn next_due(connection: &Connection) -> Result<NextDue, Fault> {
    let earliest = |sql| -> Result<Option<UnixMillis>, Fault> {
        Ok(connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, Option<i64>>(0))?
            .map(UnixMillis)
            .filter(|at| *at < PUT_OFF))
    };
    Ok(NextDue {
        // The index has them by tenant.
        job: earliest(
            "WITH RECURSIVE t (tenant) AS (SELECT min(tenant) FROM jobs WHERE state IN (1, 2) UNION ALL \
             SELECT (SELECT min(tenant) FROM jobs WHERE state IN (1, 2) AND tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL) \
             SELECT min((SELECT min(due_at) FROM jobs WHERE state IN (1, 2) AND tenant = t.tenant)) FROM t",
        )?,
        // And these by tenant and destination.
        outbox: earliest(
            "WITH RECURSIVE t (tenant) AS (SELECT min(tenant) FROM outbox WHERE state IN (1, 2) UNION ALL \
             SELECT (SELECT min(tenant) FROM outbox WHERE state IN (1, 2) AND tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL), \
             d (tenant, destination) AS (\
             SELECT tenant, (SELECT min(destination) FROM outbox WHERE state IN (1, 2) AND tenant = t.tenant) FROM t \
             WHERE t.tenant IS NOT NULL UNION ALL \
             SELECT tenant, (SELECT min(destination) FROM outbox WHERE state IN (1, 2) AND tenant = d.tenant \
             AND destination > d.destination) FROM d WHERE d.destination IS NOT NULL) \
             SELECT min((SELECT min(due_at) FROM outbox WHERE state IN (1, 2) AND tenant = d.tenant \
             AND destination = d.destination)) FROM d \
             WHERE NOT EXISTS (SELECT 1 FROM pauses p WHERE p.tenant = d.tenant AND p.kind = 'destination' AND p.name = d.destination)",
        )?,
    })
}
