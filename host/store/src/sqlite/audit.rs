//! Whether what is there is whole.

use rusqlite::Connection;
use tollgate_core::chain;
use tollgate_core::ids::Digest;

use super::fault::Fault;
use super::receipts::{self, Receipt, View};
use super::transaction::read_chain_head;
use crate::IntegrityReport;

/// Problems of the file that SQLite names before it gives up.
const PAGE_PROBLEMS_MAX: u32 = 20;

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
