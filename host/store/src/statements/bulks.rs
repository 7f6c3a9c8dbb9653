//! Bulk actions: what was begun, and its steps, each of which is a replay, a resend or reviews of the items that it names, and the place where
//! the next one begins (promise O11).

use tollgate_core::bulk::{BulkAction, BulkState};
use tollgate_core::filter::Direction;
use tollgate_core::ids::{BulkId, JobId, OutboxId, ReceiptId};
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::work::EntryState;

use super::fault::Fault;
use super::receipts::View;
use super::rows::{self, get};
use super::transaction::Transaction;
use super::{jobs, outbox, replay, resends, reviews};
use crate::sql::{Connection, Row, params};
use crate::{
    Bulk, BulkAbort, BulkFilter, BulkItem, BulkStep, NewBulk, ReplayRequest, ReplayWhat, ResendRequest, ReviewAnswer,
    ReviewDecision, ReviewRequest,
};

const COLUMNS: &str = "id, action, list, filter, tenant, actor, why, started_at, expected, upto, place, done, passed_over, \
    looked_at, state, ended_at, ended_by, ended_why";

/// Begins one.
pub(crate) fn start(transaction: &mut Transaction<'_>, new: &NewBulk) -> Result<Bulk, Fault> {
    let connection = transaction.connection;
    connection
        .prepare_cached(
            "INSERT INTO bulks (action, list, filter, tenant, actor, why, started_at, expected, upto, place, done, passed_over, \
             looked_at, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, 0, 0)",
        )?
        .execute(params![
            action_text(new),
            new.list.as_str(),
            new.filter,
            new.tenant.as_ref().map(|tenant| tenant.as_str()),
            new.actor,
            new.why,
            new.started_at.0,
            new.expected.cast_signed(),
            new.upto,
            match new.action.direction() {
                Direction::NewestFirst => new.upto.saturating_add(1),
                Direction::OldestFirst => 0,
            },
        ])?;
    find(connection, BulkId(connection.last_insert_rowid()))
}

/// In `action`: the word, and behind a blank the status that is given.
fn action_text(new: &NewBulk) -> String {
    match &new.to {
        Some(to) => format!("{} {to}", new.action),
        None => new.action.to_string(),
    }
}

/// Those that the filter names, newest first.
pub(crate) fn list(view: View<'_>, filter: &BulkFilter) -> Result<Vec<Bulk>, Fault> {
    let running = if filter.is_running { "state = 0 AND" } else { "" };
    let mut statement = view.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM bulks WHERE {running} (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR tenant = ?2) \
         ORDER BY id DESC LIMIT ?3"
    ))?;
    let tenant = filter.tenant.as_ref().map(|tenant| tenant.as_str());
    let rows_max = i64::try_from(filter.rows_max).unwrap_or(i64::MAX);
    let mut found = statement.query(params![filter.id.map(|id| id.0), tenant, rows_max])?;
    let mut bulks = Vec::new();
    while let Some(row) = found.next()? {
        bulks.push(read(row)?);
    }
    Ok(bulks)
}

fn find(connection: &Connection, id: BulkId) -> Result<Bulk, Fault> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM bulks WHERE id = ?1"))?;
    let mut found = statement.query([id.0])?;
    read(found.next()?.ok_or_else(|| Fault::NotFound(id.to_string()))?)
}

fn read(row: &Row<'_>) -> Result<Bulk, Fault> {
    let damaged = |error: String| Fault::damaged("bulk", error);
    let tenant: Option<String> = get(row, "tenant")?;
    let state: i64 = get(row, "state")?;
    let action: String = get(row, "action")?;
    let (action, to) = match action.split_once(' ') {
        Some((action, to)) => (action, Some(to)),
        None => (action.as_str(), None),
    };
    let begun = NewBulk {
        action: action.parse().map_err(damaged)?,
        to: to
            .map(str::parse)
            .transpose()
            .map_err(|error| Fault::damaged("bulk", error))?,
        list: get::<String>(row, "list")?.parse().map_err(damaged)?,
        filter: get(row, "filter")?,
        tenant: tenant
            .map(|tenant| tenant.parse())
            .transpose()
            .map_err(|error| Fault::damaged("bulk", error))?,
        actor: get(row, "actor")?,
        why: get(row, "why")?,
        started_at: rows::millis(row, "started_at")?,
        expected: rows::unsigned(row, "expected")?,
        upto: get(row, "upto")?,
    };
    let ended_by: Option<String> = get(row, "ended_by")?;
    let ended_why: Option<String> = get(row, "ended_why")?;
    Ok(Bulk {
        id: BulkId(get(row, "id")?),
        begun,
        state: state_of(state).ok_or_else(|| Fault::damaged("state of a bulk action", state))?,
        place: get(row, "place")?,
        done: rows::unsigned(row, "done")?,
        passed_over: rows::unsigned(row, "passed_over")?,
        looked_at: rows::unsigned(row, "looked_at")?,
        ended_at: rows::millis_opt(row, "ended_at")?,
        ended_by: ended_by.zip(ended_why),
    })
}

fn state_of(code: i64) -> Option<BulkState> {
    BulkState::ALL.into_iter().find(|state| self::code(*state) == code)
}

/// In `state`.
fn code(state: BulkState) -> i64 {
    match state {
        BulkState::Running => 0,
        BulkState::Done => 1,
        BulkState::Aborted => 2,
    }
}

/// Does a step.
pub(crate) fn step(transaction: &mut Transaction<'_>, key: &Secret, step: &BulkStep) -> Result<Bulk, Fault> {
    let bulk = find(transaction.connection, step.bulk)?;
    // Somebody else did it, or nobody wants it any more.
    if bulk.state != BulkState::Running || bulk.place != step.from {
        return Ok(bulk);
    }
    let work = Work { bulk: &bulk, key, step };
    let done = match bulk.begun.action {
        BulkAction::Replay => work.replay(transaction)?,
        BulkAction::Redeliver => work.redeliver(transaction)?,
        BulkAction::Route => work.route(transaction)?,
        BulkAction::Dismiss => work.dismiss(transaction)?,
        BulkAction::Map => work.map(transaction)?,
    } as u64;
    let state = if step.next.is_some() {
        BulkState::Running
    } else {
        BulkState::Done
    };
    transaction
        .connection
        .prepare_cached(
            "UPDATE bulks SET place = ?2, done = done + ?3, passed_over = passed_over + ?4, looked_at = looked_at + ?5, state = ?6, \
             ended_at = ?7 WHERE id = ?1",
        )?
        .execute(params![
            bulk.id.0,
            step.next.unwrap_or_default(),
            done.cast_signed(),
            (step.passed_over + (step.items.len() as u64).saturating_sub(done)).cast_signed(),
            step.looked_at.cast_signed(),
            code(state),
            (state == BulkState::Done).then_some(step.now.0),
        ])?;
    find(transaction.connection, bulk.id)
}

/// A step under way. Each of its actions returns to how many items it was done.
struct Work<'s> {
    bulk: &'s Bulk,
    key: &'s Secret,
    step: &'s BulkStep,
}

impl Work<'_> {
    /// What stands in the history of each.
    fn why(&self) -> String {
        format!("{}: {}", self.bulk.id, self.bulk.begun.why)
    }

    fn put_back(&self, transaction: &mut Transaction<'_>, what: ReplayWhat) -> Result<crate::ReplayReport, Fault> {
        let request = ReplayRequest {
            what,
            dry_run: false,
            routes: Vec::new(),
            now: self.step.now,
            actor: self.bulk.begun.actor.clone(),
            why: Some(self.why()),
        };
        replay::replay(transaction, &request)
    }

    /// The jobs that are still as they were seen.
    fn jobs(&self, connection: &Connection) -> Result<Vec<JobId>, Fault> {
        let mut unchanged = Vec::new();
        for item in &self.step.items {
            if let BulkItem::Job(job, status) = item
                && jobs::state(connection, *job)?.as_str() == status
            {
                unchanged.push(*job);
            }
        }
        Ok(unchanged)
    }

    fn replay(&self, transaction: &mut Transaction<'_>) -> Result<usize, Fault> {
        let jobs = self.jobs(transaction.connection)?;
        Ok(self.put_back(transaction, ReplayWhat::Jobs(jobs))?.replayed.len())
    }

    fn redeliver(&self, transaction: &mut Transaction<'_>) -> Result<usize, Fault> {
        let (mut dead, mut delivered): (Vec<OutboxId>, Vec<OutboxId>) = (Vec::new(), Vec::new());
        for item in &self.step.items {
            if let BulkItem::Entry(entry, status) = item {
                match outbox::find(transaction.connection, *entry)?.state {
                    state if state.as_str() != status => {}
                    EntryState::Dead => dead.push(*entry),
                    EntryState::Delivered => delivered.push(*entry),
                    EntryState::Blocked | EntryState::Ready | EntryState::Leased => {}
                }
            }
        }
        let put_back = self.put_back(transaction, ReplayWhat::Entries(dead))?.replayed.len();
        let request = ResendRequest {
            entries: delivered,
            now: self.step.now,
            actor: self.bulk.begun.actor.clone(),
            why: self.why(),
        };
        Ok(put_back + resends::resend(transaction, &request)?.len())
    }

    fn route(&self, transaction: &mut Transaction<'_>) -> Result<usize, Fault> {
        let routed = self.step.items.iter().filter_map(|item| match item {
            BulkItem::Receipt(receipt, jobs) => Some((*receipt, jobs.clone())),
            BulkItem::Job(..) | BulkItem::Entry(..) | BulkItem::Held(..) => None,
        });
        let report = self.put_back(transaction, ReplayWhat::Routed(routed.collect()))?;
        let mut receipts: Vec<ReceiptId> = report.replayed.iter().map(|replayed| replayed.receipt).collect();
        receipts.dedup();
        Ok(receipts.len())
    }

    fn dismiss(&self, transaction: &mut Transaction<'_>) -> Result<usize, Fault> {
        let mut dismissed = 0;
        for item in &self.step.items {
            let target = match item {
                BulkItem::Job(job, _) => Target::Job(*job),
                BulkItem::Receipt(receipt, _) => Target::Receipt(*receipt),
                BulkItem::Entry(..) | BulkItem::Held(..) => continue,
            };
            dismissed += self.review(transaction, target, ReviewDecision::Dismiss)?;
        }
        Ok(dismissed)
    }

    fn map(&self, transaction: &mut Transaction<'_>) -> Result<usize, Fault> {
        let mut mapped = 0;
        for item in &self.step.items {
            if let BulkItem::Held(receipt, decision) = item {
                mapped += self.review(transaction, Target::Receipt(*receipt), decision.clone())?;
            }
        }
        Ok(mapped)
    }

    /// Returns to how many it was done: one, or none where somebody decided meanwhile or it cannot be.
    fn review(
        &self,
        transaction: &mut Transaction<'_>,
        target: Target,
        decision: ReviewDecision,
    ) -> Result<usize, Fault> {
        let request = ReviewRequest {
            target,
            decision,
            actor: self.bulk.begun.actor.clone(),
            why: Some(self.why()),
            now: self.step.now,
            dry_run: false,
        };
        let answer = reviews::review(transaction, self.key, &request)?;
        Ok(usize::from(matches!(answer, ReviewAnswer::Reviewed(_))))
    }
}

/// Ends one. One that has ended is left as it is.
pub(crate) fn abort(transaction: &mut Transaction<'_>, abort: &BulkAbort) -> Result<Bulk, Fault> {
    transaction
        .connection
        .prepare_cached(
            "UPDATE bulks SET state = ?2, ended_at = ?3, ended_by = ?4, ended_why = ?5 WHERE id = ?1 AND state = 0",
        )?
        .execute(params![
            abort.bulk.0,
            code(BulkState::Aborted),
            abort.now.0,
            abort.by,
            abort.why
        ])?;
    find(transaction.connection, abort.bulk)
}
