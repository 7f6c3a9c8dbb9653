//! What became of the receipts, runs or actions of a range of a list: read with one question for the whole range, once somebody asks.

use std::collections::BTreeMap;

use tollgate_api::lists::AskedList;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::filter::{Found, Key, Listing};
use tollgate_core::ids::{ActionId, JobId, OutboxId, RunId};
use tollgate_core::undelivered::EventEntry;

use super::super::admit::FILTERED;
use super::super::fault::Fault;
use super::super::receipts::View;
use super::super::rows::{self, get, id, millis};
use super::{Own, OwnAction, OwnDelivery, OwnJob, OwnRun};
use crate::sql::params;

/// Places from the first to the second, both within.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range(pub(super) i64, pub(super) i64);

pub(super) struct Related<'a> {
    view: View<'a>,
    range: Range,
    jobs: Option<BTreeMap<i64, Vec<OwnJob>>>,
    entries: Option<BTreeMap<i64, Vec<EventEntry>>>,
    reviewed: Option<BTreeMap<i64, Vec<Value>>>,
    filtered: Option<BTreeMap<i64, Vec<Value>>>,
    values: BTreeMap<Key, BTreeMap<i64, Vec<Value>>>,
    /// Of a list of runs, actions or deliveries: what stands at each place, with its receipt.
    own: Option<BTreeMap<i64, Vec<(i64, Own)>>>,
}

/// One value of something, under one key.
enum Value {
    Text(String),
    Number(i64),
    NoAnswer,
}

/// What the column `value` holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Number,
    /// How an attempt ended, as JSON.
    End,
}

/// From an event to the actions that its runs recorded. The pluses keep SQLite, which knows nothing of how much there is, from the way back: from
/// everything that there is to the few receipts that are asked about.
const TO_ACTIONS: &str = "FROM jobs j JOIN runs u ON u.job = +j.id JOIN actions a ON a.run = +u.id";
/// From an action to its deliveries, and from those to what was tried.
const TO_ENTRIES: &str = "JOIN outbox e ON e.action = +a.id";
const TO_ATTEMPTS: &str = "JOIN attempts t ON t.entry = +e.id";
const OF_RECEIPTS: &str = "WHERE j.receipt >= ?1 AND j.receipt <= ?2";
/// The runs of a range, of a tenant where one is named.
const RUNS: &str = "SELECT u.id, u.job, u.attempt, u.plugin, u.digest, u.outcome, u.message, u.started_at, u.duration_us, u.fuel, j.receipt, j.route \
                    FROM runs u JOIN jobs j ON j.id = +u.job WHERE u.id >= ?1 AND u.id <= ?2 AND (?3 IS NULL OR j.tenant = ?3)";

/// The actions of a range, or their deliveries, of a tenant where one is named.
fn of_actions(with_deliveries: bool) -> String {
    const COLUMNS: &str = "a.id AS action, a.run, a.receipt, a.namespace, a.kind, a.operation_key, a.conflict, a.recorded_at, j.route, u.plugin";
    const JOINED: &str = "FROM actions a JOIN runs u ON u.id = +a.run JOIN jobs j ON j.id = +u.job";
    const IN_RANGE: &str = "WHERE a.id >= ?1 AND a.id <= ?2 AND (?3 IS NULL OR a.tenant = ?3)";
    if with_deliveries {
        format!(
            "SELECT {COLUMNS}, e.id AS entry, e.destination, e.state, e.attempts, e.due_at, e.reason \
             {JOINED} {TO_ENTRIES} {IN_RANGE} ORDER BY e.id DESC"
        )
    } else {
        format!("SELECT {COLUMNS}, a.json {JOINED} {IN_RANGE}")
    }
}

/// The deliveries of what a range of receipts recorded, or found recorded.
fn of_entries() -> String {
    const COLUMNS: &str = "j.receipt AS place, j.route, e.id, e.destination, e.state, e.reason, a.recorded_at";
    format!(
        "SELECT {COLUMNS} {TO_ACTIONS} {TO_ENTRIES} {OF_RECEIPTS} \
         UNION ALL SELECT {COLUMNS} FROM jobs j JOIN runs u ON u.job = +j.id JOIN repeats p ON p.run = +u.id \
         JOIN actions a ON a.id = +p.action {TO_ENTRIES} {OF_RECEIPTS}"
    )
}

impl<'a> Related<'a> {
    pub(super) fn new(view: View<'a>, range: Range) -> Self {
        Self {
            view,
            range,
            jobs: None,
            entries: None,
            reviewed: None,
            filtered: None,
            values: BTreeMap::new(),
            own: None,
        }
    }

    /// The jobs of a receipt, in their order.
    pub(super) fn jobs(&mut self, seq: i64) -> Result<&[OwnJob], Fault> {
        if self.jobs.is_none() {
            self.jobs = Some(self.read_jobs()?);
        }
        Ok(of(self.jobs.as_ref(), seq))
    }

    /// The outbox entries of the actions that a receipt's runs recorded, or found recorded.
    pub(super) fn entries(&mut self, seq: i64) -> Result<&[EventEntry], Fault> {
        if self.entries.is_none() {
            self.entries = Some(self.read_entries()?);
        }
        Ok(of(self.entries.as_ref(), seq))
    }

    /// The run of that number, with its receipt.
    pub(super) fn runs(&mut self, asked: &AskedList, place: i64) -> Result<Vec<(i64, Own)>, Fault> {
        if self.own.is_none() {
            self.own = Some(self.read_runs(asked)?);
        }
        Ok(of(self.own.as_ref(), place).to_vec())
    }

    /// The action of that number, or its deliveries, with its receipt.
    pub(super) fn actions(&mut self, asked: &AskedList, place: i64) -> Result<Vec<(i64, Own)>, Fault> {
        if self.own.is_none() {
            self.own = Some(self.read_actions(asked)?);
        }
        Ok(of(self.own.as_ref(), place).to_vec())
    }

    /// Whether a person decided about a held receipt.
    pub(super) fn is_reviewed(&mut self, seq: i64) -> Result<bool, Fault> {
        if self.reviewed.is_none() {
            let sql = "SELECT receipt AS place, became AS value FROM reviews WHERE receipt >= ?1 AND receipt <= ?2";
            self.reviewed = Some(self.read(sql, Holds::Number)?);
        }
        Ok(!of(self.reviewed.as_ref(), seq).is_empty())
    }

    /// Which routes' filters left a receipt out, in words.
    pub(super) fn filtered(&mut self, seq: i64) -> Result<Option<String>, Fault> {
        if self.filtered.is_none() {
            let sql = format!(
                "SELECT receipt AS place, detail AS value FROM history WHERE receipt >= ?1 AND receipt <= ?2 AND what = '{FILTERED}'"
            );
            self.filtered = Some(self.read(&sql, Holds::Text)?);
        }
        Ok(match of(self.filtered.as_ref(), seq) {
            [Value::Text(why), ..] => Some(why.clone()),
            _ => None,
        })
    }

    /// Hands what something has under a key to `fits`, until one does. `number` is that of the receipt, the job, the action or the entry.
    pub(super) fn any(
        &mut self,
        list: Listing,
        key: &Key,
        number: i64,
        fits: &mut dyn FnMut(Found<'_>) -> bool,
    ) -> Result<bool, Fault> {
        if !self.values.contains_key(key) {
            let values = match question(list, key) {
                Some((sql, holds)) => self.read(&sql, holds)?,
                None => BTreeMap::new(),
            };
            self.values.insert(key.clone(), values);
        }
        Ok(of(self.values.get(key), number).iter().any(|value| {
            fits(match value {
                Value::Text(text) => Found::Text(text),
                Value::Number(number) => Found::Number(*number),
                Value::NoAnswer => Found::NoAnswer,
            })
        }))
    }

    fn read(&self, sql: &str, holds: Holds) -> Result<BTreeMap<i64, Vec<Value>>, Fault> {
        let mut statement = self.view.prepare_cached(sql)?;
        let mut found = statement.query(params![self.range.0, self.range.1])?;
        let mut values: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
        while let Some(row) = found.next()? {
            let value = match holds {
                Holds::Text => Value::Text(get(row, "value")?),
                Holds::Number => Value::Number(get(row, "value")?),
                Holds::End => match rows::json::<AttemptEnd>(row, "value")? {
                    AttemptEnd::Answered {
                        http_status: status, ..
                    }
                    | AttemptEnd::Mailed {
                        smtp_status: status, ..
                    } => Value::Number(status.into()),
                    AttemptEnd::Failed { .. } | AttemptEnd::Forbidden { .. } | AttemptEnd::GivenBack { .. } => {
                        Value::NoAnswer
                    }
                    // Nobody was asked, and nothing failed.
                    AttemptEnd::Confirmed => continue,
                },
            };
            values.entry(get(row, "place")?).or_default().push(value);
        }
        Ok(values)
    }

    fn read_runs(&self, asked: &AskedList) -> Result<BTreeMap<i64, Vec<(i64, Own)>>, Fault> {
        let mut statement = self.view.prepare_cached(RUNS)?;
        let tenant = asked.tenant.as_ref().map(|tenant| tenant.as_str());
        let mut found = statement.query(params![self.range.0, self.range.1, tenant])?;
        let mut all: BTreeMap<i64, Vec<(i64, Own)>> = BTreeMap::new();
        while let Some(row) = found.next()? {
            let run = OwnRun {
                id: RunId(get(row, "id")?),
                job: JobId(get(row, "job")?),
                attempt: rows::unsigned32(row, "attempt")?,
                plugin: id(row, "plugin")?,
                digest: rows::digest(row, "digest")?,
                outcome: get(row, "outcome")?,
                message: get(row, "message")?,
                started_at: millis(row, "started_at")?,
                duration_us: rows::unsigned(row, "duration_us")?,
                fuel: rows::unsigned(row, "fuel")?,
                route: id(row, "route")?,
            };
            all.entry(run.id.0)
                .or_default()
                .push((get(row, "receipt")?, Own::Run(run)));
        }
        Ok(all)
    }

    fn read_actions(&self, asked: &AskedList) -> Result<BTreeMap<i64, Vec<(i64, Own)>>, Fault> {
        let of_deliveries = asked.list == Listing::Deliveries;
        let sql = of_actions(of_deliveries);
        let mut statement = self.view.prepare_cached(&sql)?;
        let tenant = asked.tenant.as_ref().map(|tenant| tenant.as_str());
        let mut found = statement.query(params![self.range.0, self.range.1, tenant])?;
        let mut all: BTreeMap<i64, Vec<(i64, Own)>> = BTreeMap::new();
        while let Some(row) = found.next()? {
            let action = OwnAction {
                id: ActionId(get(row, "action")?),
                run: RunId(get(row, "run")?),
                route: id(row, "route")?,
                plugin: id(row, "plugin")?,
                namespace: id(row, "namespace")?,
                kind: get(row, "kind")?,
                operation_key: get(row, "operation_key")?,
                json: if of_deliveries {
                    String::new()
                } else {
                    get(row, "json")?
                },
                is_conflict: get::<i64>(row, "conflict")? != 0,
                recorded_at: millis(row, "recorded_at")?,
            };
            let place = all.entry(action.id.0).or_default();
            let own = if of_deliveries {
                Own::Delivery(OwnDelivery {
                    entry: OutboxId(get(row, "entry")?),
                    destination: id(row, "destination")?,
                    state: rows::entry_state(row, "state")?,
                    attempts: rows::unsigned32(row, "attempts")?,
                    due_at: millis(row, "due_at")?,
                    reason: get(row, "reason")?,
                    action,
                })
            } else {
                Own::Action(action)
            };
            place.push((get(row, "receipt")?, own));
        }
        Ok(all)
    }

    fn read_jobs(&self) -> Result<BTreeMap<i64, Vec<OwnJob>>, Fault> {
        let mut statement = self.view.prepare_cached(
            "SELECT id, receipt, route, state, attempts, replays, due_at, ended_at, reason FROM jobs \
             WHERE receipt >= ?1 AND receipt <= ?2 ORDER BY id",
        )?;
        let mut found = statement.query(params![self.range.0, self.range.1])?;
        let mut jobs: BTreeMap<i64, Vec<OwnJob>> = BTreeMap::new();
        while let Some(row) = found.next()? {
            jobs.entry(get(row, "receipt")?).or_default().push(OwnJob {
                id: JobId(get(row, "id")?),
                route: id(row, "route")?,
                state: rows::job_state(row, "state")?,
                attempts: rows::unsigned32(row, "attempts")?,
                replays: rows::unsigned32(row, "replays")?,
                due_at: millis(row, "due_at")?,
                ended_at: rows::millis_opt(row, "ended_at")?,
                reason: get(row, "reason")?,
            });
        }
        Ok(jobs)
    }

    fn read_entries(&self) -> Result<BTreeMap<i64, Vec<EventEntry>>, Fault> {
        let mut statement = self.view.prepare_cached(&of_entries())?;
        let mut found = statement.query(params![self.range.0, self.range.1])?;
        let mut entries: BTreeMap<i64, Vec<EventEntry>> = BTreeMap::new();
        while let Some(row) = found.next()? {
            let of_receipt = entries.entry(get(row, "place")?).or_default();
            let entry = OutboxId(get(row, "id")?);
            // A run that repeats what another of the same event recorded names the same entry.
            if of_receipt.iter().any(|known: &EventEntry| known.entry == entry) {
                continue;
            }
            of_receipt.push(EventEntry {
                entry,
                route: id(row, "route")?,
                destination: id(row, "destination")?,
                state: rows::entry_state(row, "state")?,
                reason: get(row, "reason")?,
                since: millis(row, "recorded_at")?,
            });
        }
        Ok(entries)
    }
}

fn of<T>(all: Option<&BTreeMap<i64, Vec<T>>>, number: i64) -> &[T] {
    all.and_then(|all| all.get(&number)).map_or(&[], Vec::as_slice)
}

/// What gives the values under a key to what a list has in a range of places; none where it has no such values.
fn question(list: Listing, key: &Key) -> Option<(String, Holds)> {
    let text = |sql: String| Some((sql, Holds::Text));
    match (list, key) {
        (Listing::Events, Key::Plugin | Key::Outcome) => text(format!(
            "SELECT j.receipt AS place, u.{} AS value FROM jobs j JOIN runs u ON u.job = +j.id {OF_RECEIPTS}",
            key.word()
        )),
        (Listing::Events, Key::Kind) => text(format!(
            "SELECT j.receipt AS place, a.kind AS value {TO_ACTIONS} {OF_RECEIPTS}"
        )),
        (Listing::Events, Key::Operation) => text(format!(
            "SELECT j.receipt AS place, a.operation_key AS value {TO_ACTIONS} {OF_RECEIPTS}"
        )),
        (Listing::Events, Key::Attempts) => Some((
            format!("SELECT j.receipt AS place, e.attempts AS value {TO_ACTIONS} {TO_ENTRIES} {OF_RECEIPTS}"),
            Holds::Number,
        )),
        (Listing::Events, Key::Code) => Some((
            format!("SELECT j.receipt AS place, t.end AS value {TO_ACTIONS} {TO_ENTRIES} {TO_ATTEMPTS} {OF_RECEIPTS}"),
            Holds::End,
        )),
        (Listing::Jobs, Key::Plugin | Key::Outcome) => text(format!(
            "SELECT j.id AS place, u.{} AS value FROM jobs j JOIN runs u ON u.job = +j.id {OF_RECEIPTS}",
            key.word()
        )),
        (Listing::Actions, Key::Destination) => text(
            "SELECT action AS place, destination AS value FROM outbox WHERE action >= ?1 AND action <= ?2".to_owned(),
        ),
        (Listing::Deliveries, Key::Code) => Some((
            "SELECT e.id AS place, t.end AS value FROM outbox e JOIN attempts t ON t.entry = +e.id \
             WHERE e.action >= ?1 AND e.action <= ?2"
                .to_owned(),
            Holds::End,
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::schema::{is_ranged, plan};

    /// Each question begins with the range that it is about, however much there is.
    #[test]
    fn o10_what_is_asked_of_a_range_is_found_from_the_range() {
        let keys = [
            Key::Plugin,
            Key::Outcome,
            Key::Kind,
            Key::Operation,
            Key::Attempts,
            Key::Code,
            Key::Destination,
        ];
        let mut asked = vec![RUNS.to_owned(), of_actions(false), of_actions(true), of_entries()];
        for list in Listing::ALL {
            asked.extend(keys.iter().filter_map(|key| Some(question(list, key)?.0)));
        }
        assert!(asked.len() > 12, "{}", asked.len());
        for sql in asked {
            let plan = plan(&sql);
            assert!(is_ranged(&plan), "{sql}\n{plan:#?}");
        }
    }
}
