//! The dead-letter queue and replay. A replay puts work back, or makes jobs that receipts lack; what it does a second time, the operation keys make harmless.

use tollgate_core::admission::{Disposition, NewJob};
use tollgate_core::event::Event;
use tollgate_core::ids::{ActionId, DeadLetterId, JobId, OutboxId, ReceiptId, RouteName, Status};
use tollgate_core::review::Reviewed;
use tollgate_core::time::UnixMillis;
use tollgate_core::work::{EntryEvent, EntryState, JobEvent, JobState};

use super::admit::insert_jobs;
use super::fault::Fault;
use super::head::read_chain_head;
use super::receipts::{self, Body, Receipt, View};
use super::rows::{self, get, id};
use super::transaction::Transaction;
use super::{append, jobs, outbox, reviewed, set_aside};
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::{
    DeadLetter, DeadLetterFilter, DeadWork, MissingDelivery, ReplayReport, ReplayRequest, ReplayWhat, Replayed,
    ReplayedWork, Routable, RoutableFilter, RoutableStanding, RouteTargets, SetAside, SetAsideFilter, SetAsideKind,
};

/// Lists dead letters, newest first.
pub(crate) fn dead_letters(view: View<'_>, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Fault> {
    let found = find(view, filter, filter.with_replayed, "DESC")?;
    Ok(found.into_iter().map(|found| found.letter).collect())
}

/// A dead letter, with what a replay must know of it.
struct Found {
    letter: DeadLetter,
    receipt_seq: i64,
    /// Whether its job or entry has not gone back to work since.
    is_dead: bool,
}

/// `order` is `ASC` or `DESC`, by the letters' numbers.
fn find(view: View<'_>, filter: &DeadLetterFilter, with_replayed: bool, order: &str) -> Result<Vec<Found>, Fault> {
    let open_only = if with_replayed { "" } else { "d.replayed_at IS NULL AND" };
    let before = filter.after.map_or(i64::MAX, |after| after.0);
    let mut statement = view.prepare_cached(&letters(open_only, order))?;
    let mut rows = statement.query(params![
        filter.id.map_or(before, |id| before.min(id.0.saturating_add(1))),
        filter.id.map_or(0, |id| id.0.saturating_sub(1)),
        filter.route.as_ref().map(|name| name.as_str()),
        filter.destination.as_ref().map(|name| name.as_str()),
        filter.since.map(|at| at.0),
        filter.reason,
    ])?;
    let mut found = Vec::new();
    while found.len() < filter.rows_max
        && let Some(row) = rows.next()?
    {
        let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
        let event = &receipt.event;
        if filter.tenant.as_ref().is_none_or(|only| *only == event.tenant)
            && filter.source.as_ref().is_none_or(|only| *only == event.source)
        {
            found.push(read(row, &receipt)?);
        }
    }
    Ok(found)
}

/// Letters before the one and behind the other. One letter is such a range as well: asked for in another way, all would be read.
fn letters(open_only: &str, order: &str) -> String {
    format!(
        "SELECT d.id AS letter, d.job, d.entry, d.receipt, d.died_at, d.attempts, d.reason, d.context, d.replayed_at, \
         j.route, j.state AS job_state, e.destination, e.action, e.state AS entry_state, a.operation_key \
         FROM dead_letters d LEFT JOIN jobs j ON j.id = d.job LEFT JOIN outbox e ON e.id = d.entry \
         LEFT JOIN actions a ON a.id = e.action \
         WHERE {open_only} d.id < ?1 AND d.id > ?2 AND (?3 IS NULL OR j.route = ?3) \
         AND (?4 IS NULL OR e.destination = ?4) AND (?5 IS NULL OR d.died_at >= ?5) \
         AND (?6 IS NULL OR instr(d.reason, ?6) > 0) ORDER BY d.id {order}"
    )
}

fn read(row: &Row<'_>, receipt: &Receipt) -> Result<Found, Fault> {
    let (work, is_dead) = match (get::<Option<i64>>(row, "job")?, get::<Option<i64>>(row, "entry")?) {
        (Some(job), None) => (
            DeadWork::Job {
                job: JobId(job),
                route: id(row, "route")?,
            },
            rows::job_state(row, "job_state")? == JobState::Dead,
        ),
        (None, Some(entry)) => {
            let work = DeadWork::Delivery {
                entry: OutboxId(entry),
                destination: id(row, "destination")?,
                action: ActionId(get(row, "action")?),
                operation_key: get(row, "operation_key")?,
            };
            (work, rows::entry_state(row, "entry_state")? == EntryState::Dead)
        }
        _ => {
            return Err(Fault::damaged(
                "dead letter",
                "it must be of a job or of an outbox entry",
            ));
        }
    };
    let event = &receipt.event;
    let letter = DeadLetter {
        id: DeadLetterId(get(row, "letter")?),
        work,
        tenant: event.tenant.clone(),
        source: event.source.clone(),
        receipt: receipt.id,
        event_id: event.id.to_string(),
        event_type: event.event_type.to_string(),
        subject: event.subject.as_ref().map(|subject| subject.to_string()),
        died_at: rows::millis(row, "died_at")?.to_string(),
        attempts: rows::unsigned32(row, "attempts")?,
        reason: get(row, "reason")?,
        answer: answer(row)?,
        replayed_at: rows::millis_opt(row, "replayed_at")?.map(|at| at.to_string()),
    };
    Ok(Found {
        letter,
        receipt_seq: receipt.seq,
        is_dead,
    })
}

/// What the destination of a dead delivery had to say.
fn answer(row: &Row<'_>) -> Result<Option<String>, Fault> {
    let context: serde_json::Value = rows::json(row, "context")?;
    let answer = context["answer"].as_str().filter(|answer| !answer.is_empty());
    Ok(answer.map(str::to_owned))
}

/// What a replay would do. A dry run ends here.
pub(crate) fn plan(view: View<'_>, request: &ReplayRequest) -> Result<ReplayReport, Fault> {
    let mut planned = planned(view, request)?;
    for step in &mut planned {
        note_missing(view.connection, step, &request.routes)?;
    }
    Ok(ReplayReport {
        dry_run: request.dry_run,
        replayed: planned.into_iter().map(|step| step.replayed).collect(),
        next: None,
    })
}

/// Does what [`plan`] says.
pub(crate) fn replay(transaction: &mut Transaction<'_>, request: &ReplayRequest) -> Result<ReplayReport, Fault> {
    let planned = planned(transaction.view(), request)?;
    let mut replayed = Vec::with_capacity(planned.len());
    for mut step in planned {
        note_missing(transaction.connection, &mut step, &request.routes)?;
        match &step.replayed.work {
            ReplayedWork::Job { job, .. } => jobs::requeue(transaction, *job, jobs::Bounds::Budgets, request.now)?,
            ReplayedWork::Delivery { entry, .. } => outbox::requeue(transaction, *entry, request.now)?,
            ReplayedWork::NewJob { .. } => make_job(transaction, &step, request.now)?,
        }
        close_letters(transaction.connection, &step, request.now)?;
        append_history(transaction.connection, &step, request)?;
        replayed.push(step.replayed);
    }
    Ok(ReplayReport {
        dry_run: false,
        replayed,
        next: None,
    })
}

/// Says which actions of the job its route of now would send where they never went.
fn note_missing(connection: &Connection, step: &mut Step, routes: &[RouteTargets]) -> Result<(), Fault> {
    let ReplayedWork::Job { job, route } = &step.replayed.work else {
        return Ok(());
    };
    let Some(of) = routes
        .iter()
        .find(|of| of.tenant == step.replayed.tenant && of.route == *route)
    else {
        return Ok(());
    };
    let mut statement = connection.prepare_cached(
        "SELECT a.id, a.operation_key FROM runs r JOIN actions a ON a.run = r.id WHERE r.job = ?1 AND a.conflict = 0 UNION \
         SELECT a.id, a.operation_key FROM runs r JOIN repeats p ON p.run = r.id JOIN actions a ON a.id = p.action \
         WHERE r.job = ?1 AND a.conflict = 0 ORDER BY 1",
    )?;
    let mut found = statement.query([job.0])?;
    while let Some(row) = found.next()? {
        let (action, operation_key): (i64, String) = (get(row, "id")?, get(row, "operation_key")?);
        let missing = outbox::missing(connection, action, &of.targets)?;
        step.replayed
            .adds
            .extend(missing.into_iter().map(|destination| MissingDelivery {
                action: ActionId(action),
                operation_key: operation_key.clone(),
                destination: destination.clone(),
            }));
    }
    Ok(())
}

/// One piece of work to put back.
struct Step {
    receipt_seq: i64,
    replayed: Replayed,
    /// Of a job that is to be made.
    new_job: Option<NewJob>,
}

fn make_job(transaction: &mut Transaction<'_>, step: &Step, now: UnixMillis) -> Result<(), Fault> {
    let jobs = step.new_job.as_slice();
    insert_jobs(transaction, &step.replayed.tenant, jobs, step.receipt_seq, now)?;
    append::note_routed(transaction, step.receipt_seq)
}

fn planned(view: View<'_>, request: &ReplayRequest) -> Result<Vec<Step>, Fault> {
    match &request.what {
        ReplayWhat::DeadLetters(filter) => {
            if let Some(id) = filter.id
                && !letter_exists(view.connection, id)?
            {
                return Err(Fault::NotFound(id.to_string()));
            }
            // The oldest first, as they would have run. A letter whose work is already back at work is left alone.
            let found = find(view, filter, false, "ASC")?;
            Ok(found
                .into_iter()
                .filter(|found| found.is_dead)
                .map(Step::of_letter)
                .collect())
        }
        ReplayWhat::HeldJobs(filter) => {
            let filter = SetAsideFilter {
                kind: Some(SetAsideKind::HeldJob),
                with_reviewed: false,
                ..filter.clone()
            };
            let mut steps: Vec<_> = set_aside::list(view, &filter)?
                .into_iter()
                .map(|held| step_of_held(view, held))
                .collect::<Result<_, _>>()?;
            // The oldest first, as they would have run.
            steps.reverse();
            Ok(steps)
        }
        ReplayWhat::Receipt { receipt, jobs } => {
            let mut steps = steps_of_receipt(view, *receipt)?;
            steps.extend(new_jobs(view, *receipt, jobs)?);
            Ok(steps)
        }
        ReplayWhat::Routed(receipts) => {
            let mut steps = Vec::new();
            for (receipt, jobs) in receipts {
                steps.extend(new_jobs(view, *receipt, jobs)?);
            }
            Ok(steps)
        }
        ReplayWhat::Jobs(jobs) => {
            let mut steps = Vec::new();
            for job in jobs {
                steps.extend(steps_of_jobs(view, "id", job.0)?);
            }
            Ok(steps)
        }
        ReplayWhat::Entries(entries) => {
            let mut steps = Vec::new();
            for entry in entries {
                steps.extend(step_of_entry(view, *entry)?);
            }
            Ok(steps)
        }
    }
}

impl Step {
    /// Of work that a receipt has.
    fn of(receipt: &Receipt, work: ReplayedWork, reason: String) -> Self {
        Self {
            receipt_seq: receipt.seq,
            replayed: Replayed {
                receipt: receipt.id,
                tenant: receipt.event.tenant.clone(),
                event_id: receipt.event.id.to_string(),
                event_type: receipt.event.event_type.to_string(),
                work,
                reason,
                adds: Vec::new(),
            },
            new_job: None,
        }
    }

    fn of_letter(found: Found) -> Self {
        let letter = found.letter;
        let replayed = Replayed {
            receipt: letter.receipt,
            tenant: letter.tenant,
            event_id: letter.event_id,
            event_type: letter.event_type,
            work: letter.work.into(),
            reason: letter.reason,
            adds: Vec::new(),
        };
        Self {
            receipt_seq: found.receipt_seq,
            replayed,
            new_job: None,
        }
    }
}

fn letter_exists(connection: &Connection, id: DeadLetterId) -> Result<bool, Fault> {
    let found = connection
        .query_row("SELECT 1 FROM dead_letters WHERE id = ?1", [id.0], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn step_of_held(view: View<'_>, held: SetAside) -> Result<Step, Fault> {
    let broken = || Fault::damaged("held job", &held.id);
    let job: JobId = held.id.parse().map_err(|_| broken())?;
    Ok(Step {
        receipt_seq: receipts::find(view, &[held.receipt])?.pop().ok_or_else(broken)?,
        new_job: None,
        replayed: Replayed {
            work: ReplayedWork::Job {
                job,
                route: held.route.clone().ok_or_else(broken)?,
            },
            receipt: held.receipt,
            tenant: held.tenant,
            event_id: held.event_id,
            event_type: held.event_type,
            reason: held.reason,
            adds: Vec::new(),
        },
    })
}

/// Those of `jobs` that a receipt has not. What is held has none before a review says what it is.
fn new_jobs(view: View<'_>, receipt: ReceiptId, jobs: &[NewJob]) -> Result<Vec<Step>, Fault> {
    let Some(seq) = receipts::find(view, &[receipt])?.pop() else {
        return Err(Fault::NotFound(receipt.to_string()));
    };
    let kept = receipts::get_known(view, seq, Body::Without)?;
    if standing(view, &kept)?.is_none() {
        return Ok(Vec::new());
    }
    let has = routes_of(view.connection, seq)?;
    Ok(jobs
        .iter()
        .filter(|job| !has.contains(&job.spec.route))
        .map(|job| Step {
            receipt_seq: seq,
            replayed: Replayed {
                receipt,
                tenant: kept.event.tenant.clone(),
                event_id: kept.event.id.to_string(),
                event_type: kept.event.event_type.to_string(),
                work: ReplayedWork::NewJob {
                    route: job.spec.route.clone(),
                },
                reason: "the receipt has no job on this route".to_owned(),
                adds: Vec::new(),
            },
            new_job: Some(job.clone()),
        })
        .collect())
}

/// The routes that a receipt has a job of.
fn routes_of(connection: &Connection, seq: i64) -> Result<Vec<RouteName>, Fault> {
    let mut statement = connection.prepare_cached("SELECT route FROM jobs WHERE receipt = ?1 ORDER BY id")?;
    let mut found = statement.query([seq])?;
    let mut routes = Vec::new();
    while let Some(row) = found.next()? {
        routes.push(id(row, "route")?);
    }
    Ok(routes)
}

/// How a receipt that may be routed came.
enum Came {
    InTime,
    /// After its subject had this status.
    Late(Status),
}

impl Came {
    fn is(&self, standing: RoutableStanding) -> bool {
        match (self, standing) {
            (_, RoutableStanding::AsJudged)
            | (Self::InTime, RoutableStanding::Accepted)
            | (Self::Late(_), RoutableStanding::Superseded) => true,
            (Self::InTime, RoutableStanding::Superseded) | (Self::Late(_), RoutableStanding::Accepted) => false,
        }
    }
}

/// Whether a receipt may be routed, and how it came.
fn standing(view: View<'_>, receipt: &Receipt) -> Result<Option<Came>, Fault> {
    Ok(match &receipt.disposition {
        Disposition::Accepted => Some(Came::InTime),
        Disposition::Superseded { current } => Some(Came::Late(current.clone())),
        Disposition::Held { .. } => match reviewed::view(view, receipt.seq)?.map(|review| review.reviewed) {
            Some(Reviewed::Accepted { .. }) => Some(Came::InTime),
            Some(Reviewed::Superseded { current, .. }) => Some(Came::Late(current)),
            Some(
                Reviewed::Dismissed
                | Reviewed::Replaced { .. }
                | Reviewed::RunAgain
                | Reviewed::RunBeyondBudget
                | Reviewed::Admitted { .. }
                | Reviewed::Kept { .. }
                | Reviewed::Recorded { .. },
            )
            | None => None,
        },
    })
}

/// Receipts that may be routed again, the oldest first.
pub(crate) fn routable(view: View<'_>, filter: &RoutableFilter) -> Result<Vec<Routable>, Fault> {
    let number = |receipt: ReceiptId| {
        let found = receipts::find(view, &[receipt])?.pop();
        found.ok_or_else(|| Fault::NotFound(receipt.to_string()))
    };
    let after = filter.after.map(number).transpose()?.unwrap_or(0);
    let seqs: Box<dyn Iterator<Item = i64>> = match filter.receipt {
        Some(receipt) => Box::new(std::iter::once(number(receipt)?)),
        None if filter.without_jobs => {
            let mut unrouted = set_aside::superseded_without_jobs(view, after)?;
            receipts::unrouted::each_before(view.connection, i64::MAX, |seq, _| {
                unrouted.push(seq);
                Ok(seq > after)
            })?;
            unrouted.retain(|seq| *seq > after);
            unrouted.sort_unstable();
            unrouted.dedup();
            Box::new(unrouted.into_iter())
        }
        None => Box::new(after + 1..=read_chain_head(view.connection)?.seq),
    };
    let mut found = Vec::new();
    for seq in seqs {
        if found.len() == filter.rows_max {
            break;
        }
        // A route's filter may ask for the body. Of one receipt it is read; of many it is not, since a page of them may be of any size.
        let body = match filter.receipt {
            Some(_) => Body::With,
            None => Body::Without,
        };
        let receipt = receipts::get_known(view, seq, body)?;
        if !matches(filter, &receipt.event) {
            continue;
        }
        let Some(came) = standing(view, &receipt)?.filter(|came| came.is(filter.standing)) else {
            continue;
        };
        let event = reviewed::as_reviewed(view, &receipt)?;
        if filter
            .status
            .as_ref()
            .is_some_and(|only| event.reading.status() != Some(only))
        {
            continue;
        }
        let routes = routes_of(view.connection, seq)?;
        if filter.without_jobs && !routes.is_empty() {
            continue;
        }
        found.push(Routable {
            receipt: receipt.id,
            event,
            late_after: match came {
                Came::InTime => None,
                Came::Late(current) => Some(current),
            },
            routes,
        });
    }
    Ok(found)
}

fn matches(filter: &RoutableFilter, event: &Event) -> bool {
    filter.tenant.as_ref().is_none_or(|only| *only == event.tenant)
        && filter.source.as_ref().is_none_or(|only| *only == event.source)
        && filter
            .event_type
            .as_ref()
            .is_none_or(|only| only.matches(event.event_type.as_str()))
        && filter
            .subject
            .as_ref()
            .is_none_or(|only| event.subject.as_ref() == Some(only))
        && filter.since.is_none_or(|since| event.received_at >= since)
        && filter.until.is_none_or(|until| event.received_at < until)
}

fn steps_of_receipt(view: View<'_>, receipt: ReceiptId) -> Result<Vec<Step>, Fault> {
    let Some(seq) = receipts::find(view, &[receipt])?.pop() else {
        return Err(Fault::NotFound(receipt.to_string()));
    };
    steps_of_jobs(view, "receipt", seq)
}

/// A delivery that was given up and is to be tried again.
fn step_of_entry(view: View<'_>, entry: OutboxId) -> Result<Option<Step>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT e.state, e.destination, e.action, e.reason, a.operation_key, a.receipt FROM outbox e JOIN actions a ON a.id = e.action \
         WHERE e.id = ?1",
    )?;
    let mut found = statement.query([entry.0])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(entry.to_string()))?;
    if rows::entry_state(row, "state")?.next(EntryEvent::Replay).is_err() {
        return Ok(None);
    }
    let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
    let reason: Option<String> = get(row, "reason")?;
    let work = ReplayedWork::Delivery {
        entry,
        destination: id(row, "destination")?,
        action: ActionId(get(row, "action")?),
        operation_key: get(row, "operation_key")?,
    };
    Ok(Some(Step::of(&receipt, work, reason.unwrap_or_default())))
}

/// Jobs that may run again: of a receipt, or one. `column` is `receipt` or `id`.
fn steps_of_jobs(view: View<'_>, column: &str, number: i64) -> Result<Vec<Step>, Fault> {
    let mut statement = view.prepare_cached(&format!(
        "SELECT id AS job, receipt, route, state, reason FROM jobs WHERE {column} = ?1 ORDER BY id"
    ))?;
    let mut found = statement.query([number])?;
    let mut steps = Vec::new();
    while let Some(row) = found.next()? {
        let state = rows::job_state(row, "state")?;
        // What is still at work is left alone.
        if state.next(JobEvent::Replay).is_err() {
            continue;
        }
        let receipt = receipts::get_known(view, get(row, "receipt")?, Body::Without)?;
        let reason: Option<String> = get(row, "reason")?;
        let work = ReplayedWork::Job {
            job: JobId(get(row, "job")?),
            route: id(row, "route")?,
        };
        let reason = reason.unwrap_or_else(|| state.as_str().to_owned());
        steps.push(Step::of(&receipt, work, reason));
    }
    Ok(steps)
}

/// The open letters of the work are answered by this replay, whichever way it was asked for.
fn close_letters(connection: &Connection, step: &Step, now: UnixMillis) -> Result<(), Fault> {
    let (sql, work) = match &step.replayed.work {
        ReplayedWork::NewJob { .. } => return Ok(()),
        ReplayedWork::Job { job, .. } => (
            "UPDATE dead_letters SET replayed_at = ?2 WHERE job = ?1 AND replayed_at IS NULL",
            job.0,
        ),
        ReplayedWork::Delivery { entry, .. } => (
            "UPDATE dead_letters SET replayed_at = ?2 WHERE entry = ?1 AND replayed_at IS NULL",
            entry.0,
        ),
    };
    connection.prepare_cached(sql)?.execute(params![work, now.0])?;
    Ok(())
}

fn append_history(connection: &Connection, step: &Step, request: &ReplayRequest) -> Result<(), Fault> {
    let why = request.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let work = match &step.replayed.work {
        ReplayedWork::Job { job, route } => format!("{job} (route {route})"),
        ReplayedWork::Delivery { entry, destination, .. } => format!("{entry} (to {destination})"),
        ReplayedWork::NewJob { route } => {
            let detail = format!("a new job on route {route} by {}{why}", request.actor);
            return rows::append_history(connection, step.receipt_seq, request.now, "routed", &detail);
        }
    };
    let detail = format!(
        "{work} by {}{why}; it had ended with: {}",
        request.actor, step.replayed.reason
    );
    rows::append_history(connection, step.receipt_seq, request.now, "replayed", &detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::schema::{is_ranged, plan};

    #[test]
    fn one_letter_is_found_without_the_others() {
        for open_only in ["", "d.replayed_at IS NULL AND"] {
            let plan = plan(&letters(open_only, "DESC"));
            assert!(is_ranged(&plan), "{plan:#?}");
        }
    }
}
