//! What is there, and whether it is whole.

use rusqlite::Connection;
use tollgate_core::chain;
use tollgate_core::ids::Digest;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::receipts::{self, Receipt, View};
use super::rows;
use super::transaction::read_chain_head;
use crate::{Counts, IntegrityReport, NextDue};

/// Problems of the file that SQLite names before it gives up.
const PAGE_PROBLEMS_MAX: u32 = 20;

/// Counts by index. Row numbers have no gaps, so the largest is a count.
pub(super) fn counts(view: View<'_>) -> Result<Counts, Fault> {
    let (superseded, held) = receipts::not_accepted(view)?;
    let mut statement = view.prepare_cached(
        "SELECT (SELECT coalesce(max(seq), 0) FROM chain_heads) AS receipts, \
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
        superseded,
        // Only what was held is ever reviewed.
        held: held.saturating_sub(count("reviewed")?),
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
pub(super) fn check_integrity(view: View<'_>) -> Result<IntegrityReport, Fault> {
    let mut problems = check_pages(&view);
    let mut receipts = 0;
    if let Err(fault) = walk_chain(view, &mut receipts, &mut problems) {
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

/// Recomputes every link from what is kept. A broken link makes all later ones look broken, so only the first is named.
fn walk_chain(view: View<'_>, receipts: &mut u64, problems: &mut Vec<String>) -> Result<(), Fault> {
    let (mut seq, mut link) = (0_i64, chain::GENESIS);
    let mut problem = None;
    let coverage = receipts::coverage(&view)?;
    let mut ways = receipts::Ways::new(view)?;
    receipts::walk(view, |receipt, body| {
        link = receipt.link_after(&link, coverage);
        problem = problem_of(receipt, body, seq + 1, &link);
        if problem.is_none() {
            seq = receipt.seq;
            *receipts += 1;
            ways.check(view, receipt)?;
        }
        Ok(problem.is_none())
    })?;
    if let Some(problem) = problem {
        problems.push(problem);
        return Ok(());
    }
    let head = read_chain_head(&view)?;
    if head.seq != seq || head.link != link {
        problems.push(format!(
            "the chain's head is receipt {}, but the receipts end with {seq}",
            head.seq
        ));
    } else {
        problems.extend(ways.problems(view)?);
    }
    Ok(())
}

/// What is wrong with the receipt that stands where number `seq` with that link should be.
fn problem_of(receipt: &Receipt, body: &[u8], seq: i64, link: &Digest) -> Option<String> {
    let (here, id) = (receipt.seq, receipt.id);
    if here != seq {
        Some(format!(
            "the receipts between {} and {here} ({id}) are missing",
            seq - 1
        ))
    } else if Digest::of(body) != receipt.body_digest {
        Some(format!(
            "receipt {here} ({id}): its body is not the one that was admitted"
        ))
    } else if receipt.link != *link {
        Some(format!(
            "receipt {here} ({id}): it is not the one that was admitted in this place"
        ))
    } else {
        None
    }
}
