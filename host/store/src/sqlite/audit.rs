//! What is there, and whether it is whole.

use rusqlite::Connection;
use tollgate_core::chain::{self, ReceiptFacts};
use tollgate_core::ids::{Digest, ReceiptId};
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::rows::{self, get};
use super::writer::read_chain_head;
use crate::{Counts, IntegrityReport, NextDue};

/// Problems of the file that SQLite names before it gives up.
const PAGE_PROBLEMS_MAX: u32 = 20;

/// Counts by index. Row numbers have no gaps, so the largest is a count.
pub(super) fn counts(connection: &Connection) -> Result<Counts, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT coalesce(max(seq), 0) FROM receipts) AS receipts, \
         (SELECT count(*) FROM receipts WHERE disposition = 1 AND disposition <> 0) AS superseded, \
         (SELECT count(*) FROM receipts WHERE disposition = 2 AND disposition <> 0) AS held, \
         (SELECT count(*) FROM reviews) AS reviewed, \
         (SELECT coalesce(max(id), 0) FROM deliveries) AS deliveries, \
         (SELECT count(*) FROM deliveries WHERE conflict <> 0) AS conflicts, \
         (SELECT coalesce(max(id), 0) FROM jobs) AS jobs, \
         (SELECT count(*) FROM jobs WHERE state IN (0, 1, 2)) AS jobs_waiting, \
         (SELECT count(*) FROM jobs WHERE state IN (4, 5)) AS jobs_set_aside, \
         (SELECT coalesce(max(id), 0) FROM runs) AS runs, \
         (SELECT coalesce(max(id), 0) FROM actions) AS actions, \
         (SELECT count(*) FROM actions WHERE conflict = 1) AS action_conflicts, \
         (SELECT coalesce(max(id), 0) FROM outbox) AS outbox, \
         (SELECT count(*) FROM outbox WHERE state IN (1, 2)) AS outbox_waiting, \
         (SELECT count(*) FROM outbox WHERE state IN (4, 5)) AS outbox_set_aside, \
         (SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL) AS dead_letters_open",
    )?;
    let mut found = statement.query([])?;
    let row = found.next()?.ok_or_else(|| Fault::damaged("counts", "no row"))?;
    let count = |column| rows::unsigned(row, column);
    Ok(Counts {
        receipts: count("receipts")?,
        redeliveries: count("deliveries")?.saturating_sub(count("conflicts")?),
        conflicts: count("conflicts")?,
        superseded: count("superseded")?,
        // Only what was held is ever reviewed.
        held: count("held")?.saturating_sub(count("reviewed")?),
        jobs_waiting: count("jobs_waiting")?,
        jobs_done: count("jobs")?.saturating_sub(count("jobs_waiting")? + count("jobs_set_aside")?),
        runs: count("runs")?,
        actions: count("actions")?.saturating_sub(count("action_conflicts")?),
        outbox_waiting: count("outbox_waiting")?,
        delivered: count("outbox")?.saturating_sub(count("outbox_waiting")? + count("outbox_set_aside")?),
        dead_letters_open: count("dead_letters_open")?,
    })
}

pub(super) fn next_due(connection: &Connection) -> Result<NextDue, Fault> {
    let earliest = |sql| -> Result<Option<UnixMillis>, Fault> {
        Ok(connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, Option<i64>>(0))?
            .map(UnixMillis))
    };
    Ok(NextDue {
        job: earliest("SELECT min(due_at) FROM jobs WHERE state IN (1, 2)")?,
        outbox: earliest("SELECT min(due_at) FROM outbox WHERE state IN (1, 2)")?,
    })
}

/// Reads everything: the pages' own integrity, then every receipt, its body and its link.
pub(super) fn check_integrity(connection: &Connection) -> Result<IntegrityReport, Fault> {
    let mut problems = check_pages(connection);
    let mut receipts = 0;
    if let Err(fault) = walk_chain(connection, &mut receipts, &mut problems) {
        problems.push(format!(
            "after {receipts} receipts the next cannot be read: {}",
            fault.detail()
        ));
    }
    Ok(IntegrityReport { receipts, problems })
}

fn check_pages(connection: &Connection) -> Vec<String> {
    let check = || -> Result<Vec<String>, Fault> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({PAGE_PROBLEMS_MAX})"))?;
        let lines = statement
            .query_map([], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(lines)
    };
    match check() {
        Ok(lines) => lines
            .into_iter()
            .filter(|line| line != "ok")
            .map(|line| format!("database: {line}"))
            .collect(),
        Err(fault) => vec![format!("database: {}", fault.detail())],
    }
}

/// Recomputes every link from the rows themselves. A broken link makes all later ones look broken, so only the first is named.
fn walk_chain(connection: &Connection, receipts: &mut u64, problems: &mut Vec<String>) -> Result<(), Fault> {
    let mut statement = connection.prepare(
        "SELECT r.seq, r.id, o.tenant, o.source, r.event_id, r.event_type, r.received_at, r.scheme, r.key_id, r.body_digest, \
         r.disposition, r.disposition_detail, r.link, r.body FROM receipts r LEFT JOIN origins o ON o.id = r.origin ORDER BY r.seq",
    )?;
    let mut found = statement.query([])?;
    let (mut seq, mut link) = (0_i64, chain::GENESIS);
    while let Some(row) = found.next()? {
        let here: i64 = get(row, "seq")?;
        let receipt = rows::receipt_id(row, "id")?;
        if here != seq + 1 {
            problems.push(format!("the receipts between {seq} and {here} ({receipt}) are missing"));
            return Ok(());
        }
        let body_digest = rows::digest(row, "body_digest")?;
        let body = row
            .get_ref("body")?
            .as_blob()
            .map_err(|error| Fault::damaged("body", error))?;
        if Digest::of(body) != body_digest {
            problems.push(format!(
                "receipt {here} ({receipt}): its body is not the one that was admitted"
            ));
            return Ok(());
        }
        link = chain::link(&link, &facts_digest(row, receipt, &body_digest)?);
        if link != rows::digest(row, "link")? {
            problems.push(format!(
                "receipt {here} ({receipt}): it is not the one that was admitted in this place"
            ));
            return Ok(());
        }
        seq = here;
        *receipts += 1;
    }
    let head = read_chain_head(connection)?;
    if head.seq != seq || head.link != link {
        problems.push(format!(
            "the chain's head is receipt {}, but the receipts end with {seq}",
            head.seq
        ));
    }
    Ok(())
}

fn facts_digest(row: &rusqlite::Row<'_>, receipt: ReceiptId, body_digest: &Digest) -> Result<Digest, Fault> {
    let text = |column: &'static str| {
        row.get_ref(column)?
            .as_str()
            .map_err(|error| Fault::damaged(column, error))
    };
    let disposition = match get::<i64>(row, "disposition")? {
        0 => "accepted",
        1 => "superseded",
        _ => "held",
    };
    let facts = ReceiptFacts {
        receipt: &receipt.0,
        tenant: text("tenant")?,
        source: text("source")?,
        event_id: text("event_id")?,
        event_type: text("event_type")?,
        received_at_ms: get(row, "received_at")?,
        scheme: text("scheme")?,
        key_id: text("key_id")?,
        body_digest: &body_digest.0,
        disposition,
    };
    Ok(facts.digest())
}
