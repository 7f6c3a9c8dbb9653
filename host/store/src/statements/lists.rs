//! Lists by filter: a way through what there is, from the newest to the oldest or back, and what of it fits (promises O10 and P11).
//!
//! Whether something fits is decided by `tollgate_core::filter`, and by nothing here: every backend gives the same answer. What is
//! here decides only what is looked at. Receipts, runs and actions are numbered without gaps and in the order of time, so a list has a
//! place for each number, and a page begins anywhere. Where an index names the few that can fit, only those are looked at; otherwise
//! one after the other, [`limits::LIST_LOOKED_AT_MAX`] in a page at the most.

mod named;
mod related;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tollgate_api::lists::{
    ActionRow, AskedList, Count, DeliveryRow, EventRow, Item, JobRow, OfEvent, Page, RunRow, UndeliveredRow, place_name,
};
use tollgate_core::action::Action;
use tollgate_core::admission::Disposition;
use tollgate_core::content;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::event::StatusReading;
use tollgate_core::filter::{self, Direction, Facts, Filter, Found, Key, Listing};
use tollgate_core::ids::{
    ActionId, DestinationName, JobId, Namespace, OutboxId, PluginDigest, PluginName, RouteName, RunId,
};
use tollgate_core::limits;
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_core::undelivered::{self, EventJob, Reached, Sends};
use tollgate_core::work::{EntryState, JobState};

use self::related::{Range, Related};
use super::fault::Fault;
use super::head::read_chain_head;
use super::receipts::{self, Body, Near, Receipt, View};
use super::rows;
use crate::sql::OptionalExtension as _;

/// Places that are looked at in one step.
const STEP: usize = 256;
/// What is looked at is read in one piece while no more than this many times as many lie between.
const SPREAD_MAX: u64 = 4;

/// One page of a list.
pub(crate) fn list(view: View<'_>, key: &Secret, asked: &AskedList) -> Result<Page<Item>, Fault> {
    let mut items = Vec::new();
    let walk = Walk::new(view, key, asked)?;
    let walked = walk.through(limits::LIST_LOOKED_AT_MAX, &mut |fitting| {
        items.push(fitting.item(view)?);
        Ok(items.len() < asked.rows_max)
    })?;
    Ok(Page {
        items,
        next: walked.next.map(|place| place_name(asked.list, place)),
        newest: Some(place_name(asked.list, walked.newest)),
        looked_at: walked.looked_at as u64,
        looked_back_to: walked.back_to.map(|at| at.to_string()),
    })
}

/// How many fit.
pub(crate) fn count(view: View<'_>, key: &Secret, asked: &AskedList) -> Result<Count, Fault> {
    let mut count = 0;
    let walk = Walk::new(view, key, asked)?;
    let walked = walk.through(limits::COUNT_LOOKED_AT_MAX, &mut |_| {
        count += 1;
        Ok(true)
    })?;
    Ok(Count {
        of: asked.list.as_str().to_owned(),
        count,
        complete: walked.next.is_none(),
        next: walked.next.map(|place| place_name(asked.list, place)),
        looked_at: walked.looked_at as u64,
        looked_back_to: walked.back_to.map(|at| at.to_string()),
    })
}

/// What a list goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Along {
    /// Receipts, by their seq; jobs and what is undelivered stand with their event.
    Receipts,
    /// Runs, by their number.
    Runs,
    /// Actions, by their number; deliveries stand with their action.
    Actions,
}

impl Along {
    /// # Errors
    /// When no store has the list.
    fn of(list: Listing) -> Result<Self, Fault> {
        match list {
            Listing::Events | Listing::Jobs | Listing::Undelivered => Ok(Self::Receipts),
            Listing::Runs => Ok(Self::Runs),
            Listing::Actions | Listing::Deliveries => Ok(Self::Actions),
            Listing::Refused => Err(Fault::NotFound("the list of what was refused in a store".to_owned())),
        }
    }

    fn newest(self, view: View<'_>) -> Result<i64, Fault> {
        let newest = match self {
            Self::Receipts => return Ok(read_chain_head(view.connection)?.seq),
            Self::Runs => "SELECT coalesce(max(id), 0) FROM runs",
            Self::Actions => "SELECT coalesce(max(id), 0) FROM actions",
        };
        Ok(view.query_row(newest, [], |row| row.get(0))?)
    }

    /// When what stands at a place came to be.
    fn time(self, view: View<'_>, place: i64) -> Result<Option<UnixMillis>, Fault> {
        let sql = match self {
            Self::Receipts => {
                let receipt = receipts::get(view, place, Body::Without)?;
                return Ok(receipt.map(|receipt| receipt.event.received_at));
            }
            Self::Runs => "SELECT started_at FROM runs WHERE id = ?1",
            Self::Actions => "SELECT recorded_at FROM actions WHERE id = ?1",
        };
        let time: Option<i64> = view.query_row(sql, [place], |row| row.get(0)).optional()?;
        Ok(time.map(UnixMillis))
    }

    /// The first place that is not before an instant, one behind the newest where there is none. Times may be a little out of order,
    /// by less than [`limits::LIST_CLOCK_SLACK_MS`], which whoever asks adds.
    fn place_of(self, view: View<'_>, newest: i64, instant: UnixMillis) -> Result<i64, Fault> {
        let (mut low, mut high) = (1, newest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time(view, middle)?.is_some_and(|time| time < instant) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// How far a walk came.
struct Walked {
    looked_at: usize,
    /// The place of the last that was looked at, where there may be more behind it.
    next: Option<i64>,
    back_to: Option<UnixMillis>,
    newest: i64,
}

/// A way through a list.
struct Walk<'a> {
    view: View<'a>,
    asked: &'a AskedList,
    /// Those of the filter's terms that the event alone decides, and the others.
    of_event: Filter,
    of_rest: Filter,
    along: Along,
    newest: i64,
    /// Places between these two are looked at.
    before: i64,
    above: i64,
    /// The places that an index names, the newest first. None: all.
    named: Option<Vec<i64>>,
    /// Goes along this tenant's receipts alone; no store finds those from the oldest on.
    by_tenant: bool,
}

impl<'a> Walk<'a> {
    fn new(view: View<'a>, key: &Secret, asked: &'a AskedList) -> Result<Self, Fault> {
        let along = Along::of(asked.list)?;
        let newest = along.newest(view)?;
        let filter = &asked.filter;
        let mut before = asked.before.unwrap_or(i64::MAX).min(newest + 1);
        let mut above = asked.newer.unwrap_or(0).min(newest);
        if let Some(until) = filter.until() {
            let end = along.place_of(view, newest, until.plus_ms(limits::LIST_CLOCK_SLACK_MS))?;
            before = before.min(end);
        }
        if let Some(since) = filter.since() {
            let begin = along.place_of(view, newest, since.plus_ms(-limits::LIST_CLOCK_SLACK_MS))?;
            above = above.max(begin - 1);
        }
        Ok(Self {
            view,
            asked,
            of_event: filter.part(Key::is_of_event),
            of_rest: filter.part(|key| !key.is_of_event()),
            along,
            newest,
            before,
            above,
            named: named::places(view, key, asked, along)?,
            by_tenant: along == Along::Receipts
                && asked.direction == Direction::NewestFirst
                && asked.tenant.is_some()
                && named::has_tenants(view)?,
        })
    }

    /// The next places behind `came_to` in the walk's direction, and whether they lie close together.
    fn places(&self, came_to: i64, count: usize) -> Result<(Vec<i64>, bool), Fault> {
        let (above, before) = match self.asked.direction {
            Direction::NewestFirst => (self.above, came_to),
            Direction::OldestFirst => (came_to, self.before),
        };
        let places: Vec<i64> = match (&self.named, &self.asked.tenant) {
            (Some(named), _) => {
                let newer = named.partition_point(|place| *place >= before);
                let older = named.partition_point(|place| *place > above);
                let between = named[newer.min(older)..older].iter().copied();
                match self.asked.direction {
                    Direction::NewestFirst => between.take(count).collect(),
                    Direction::OldestFirst => between.rev().take(count).collect(),
                }
            }
            (None, Some(tenant)) if self.by_tenant => {
                let mut places = receipts::newest(self.view, Some(tenant), before, count)?;
                places.retain(|place| *place > above);
                places
            }
            (None, _) => match self.asked.direction {
                Direction::NewestFirst => (above + 1..before).rev().take(count).collect(),
                Direction::OldestFirst => (above + 1..before).take(count).collect(),
            },
        };
        let close = match (places.first(), places.last()) {
            (Some(first), Some(last)) => first.abs_diff(*last) < SPREAD_MAX * places.len() as u64,
            _ => false,
        };
        Ok((places, close))
    }

    /// Hands everything that fits to `each`, in the direction that is asked for, until it says that it is enough or `looked_at_max` are looked at.
    /// What stands at one place stays together.
    fn through(
        &self,
        looked_at_max: usize,
        each: &mut dyn FnMut(&Fitting) -> Result<bool, Fault>,
    ) -> Result<Walked, Fault> {
        let mut walked = Walked {
            looked_at: 0,
            next: None,
            back_to: None,
            newest: self.newest,
        };
        let mut near = Near::default();
        let mut body_bytes = 0;
        let mut came_to = match self.asked.direction {
            Direction::NewestFirst => self.before,
            Direction::OldestFirst => self.above,
        };
        // The first steps are short: most pages are.
        let mut step = self.asked.rows_max.saturating_add(1).clamp(16, STEP);
        loop {
            let (places, close) = self.places(came_to, step)?;
            step = STEP;
            let (Some(first), Some(last)) = (places.first().copied(), places.last().copied()) else {
                return Ok(walked);
            };
            let mut related = close.then(|| Related::new(self.view, Range(first.min(last), first.max(last))));
            for place in places {
                let mut alone = Related::new(self.view, Range(place, place));
                let related = related.as_mut().unwrap_or(&mut alone);
                walked.looked_at += 1;
                let mut looking = Looking {
                    walk: self,
                    near: &mut near,
                    close,
                    related,
                    body_bytes: &mut body_bytes,
                };
                let (goes_on, time) = looking.at(place, each)?;
                walked.back_to = time.or(walked.back_to);
                came_to = place;
                if !goes_on || walked.looked_at >= looked_at_max || body_bytes >= limits::LIST_BODY_BYTES_MAX {
                    let is_more = match self.asked.direction {
                        Direction::NewestFirst => place > self.above + 1,
                        Direction::OldestFirst => place < self.before - 1,
                    };
                    walked.next = is_more.then_some(place);
                    return Ok(walked);
                }
            }
        }
    }
}

/// Looks at one place after the other.
struct Looking<'w, 'a> {
    walk: &'w Walk<'a>,
    near: &'w mut Near,
    close: bool,
    related: &'w mut Related<'a>,
    body_bytes: &'w mut usize,
}

impl Looking<'_, '_> {
    /// Looks at what stands at a place. Says whether to go on, and when it came to be.
    fn at(
        &mut self,
        place: i64,
        each: &mut dyn FnMut(&Fitting) -> Result<bool, Fault>,
    ) -> Result<(bool, Option<UnixMillis>), Fault> {
        let asked = self.walk.asked;
        let candidates = match self.walk.along {
            Along::Receipts => vec![(place, Own::Event)],
            Along::Runs => self.related.runs(asked, place)?,
            Along::Actions => self.related.actions(asked, place)?,
        };
        let mut goes_on = true;
        let mut time = None;
        for (seq, own) in candidates {
            let receipt = self.near.facts(self.walk.view, seq, self.close)?;
            time = Some(own.time(&receipt));
            // All of one place are of one event.
            if asked.tenant.as_ref().is_some_and(|only| *only != receipt.event.tenant)
                || !self.holds(&self.walk.of_event, &receipt, &own)?
            {
                break;
            }
            for own in self.expand(&receipt, own)? {
                if self.holds(&self.walk.of_rest, &receipt, &own)? {
                    let receipt = Arc::clone(&receipt);
                    goes_on &= each(&Fitting { receipt, own })?;
                }
            }
        }
        Ok((goes_on, time))
    }

    fn holds(&mut self, filter: &Filter, receipt: &Arc<Receipt>, own: &Own) -> Result<bool, Fault> {
        filter.holds(&mut Holding {
            looking: self,
            receipt,
            own,
            body: None,
        })
    }

    /// What stands with an event, where the list is not of events.
    fn expand(&mut self, receipt: &Receipt, own: Own) -> Result<Vec<Own>, Fault> {
        match self.walk.asked.list {
            Listing::Events | Listing::Runs | Listing::Actions | Listing::Deliveries | Listing::Refused => {
                Ok(vec![own])
            }
            Listing::Jobs => {
                let jobs = self.related.jobs(receipt.seq)?;
                Ok(jobs.iter().rev().cloned().map(Own::Job).collect())
            }
            Listing::Undelivered => {
                let nothing = Sends::default();
                let sends = self.walk.asked.sends.get(&receipt.event.tenant).unwrap_or(&nothing);
                let held = match &receipt.disposition {
                    Disposition::Held { reason } if !self.related.is_reviewed(receipt.seq)? => Some(reason.as_str()),
                    Disposition::Held { .. } | Disposition::Accepted | Disposition::Superseded { .. } => None,
                };
                let jobs: Vec<EventJob> = self
                    .related
                    .jobs(receipt.seq)?
                    .iter()
                    .map(|job| EventJob {
                        job: job.id,
                        route: job.route.clone(),
                        state: job.state,
                        reason: job.reason.clone(),
                        ended_at: job.ended_at,
                    })
                    .collect();
                let filtered = self.related.filtered(receipt.seq)?;
                let entries = self.related.entries(receipt.seq)?;
                let at = receipt.event.received_at;
                let reached = undelivered::reached(sends, &jobs, entries, held, filtered.as_deref(), at);
                // Without a word about it, the question is what is missing.
                let all = self.walk.asked.filter.asks(|key| *key == Key::Status);
                let wanted = reached.into_iter().filter(|one| all || one.standing.is_due());
                Ok(wanted.map(Own::Reached).collect())
            }
        }
    }
}

/// What a list has at a place, beside the event.
#[derive(Debug, Clone)]
enum Own {
    Event,
    Job(OwnJob),
    Reached(Reached),
    Run(OwnRun),
    Action(OwnAction),
    Delivery(OwnDelivery),
}

#[derive(Debug, Clone)]
struct OwnJob {
    id: JobId,
    route: RouteName,
    state: JobState,
    attempts: u32,
    replays: u32,
    due_at: UnixMillis,
    ended_at: Option<UnixMillis>,
    reason: Option<String>,
}

#[derive(Debug, Clone)]
struct OwnRun {
    id: RunId,
    job: JobId,
    attempt: u32,
    plugin: PluginName,
    digest: PluginDigest,
    outcome: String,
    message: String,
    started_at: UnixMillis,
    duration_us: u64,
    fuel: u64,
    route: RouteName,
}

#[derive(Debug, Clone)]
struct OwnAction {
    id: ActionId,
    run: RunId,
    route: RouteName,
    plugin: PluginName,
    namespace: Namespace,
    kind: String,
    operation_key: String,
    /// Empty where the list is of deliveries.
    json: String,
    is_conflict: bool,
    recorded_at: UnixMillis,
}

#[derive(Debug, Clone)]
struct OwnDelivery {
    entry: OutboxId,
    destination: DestinationName,
    state: EntryState,
    attempts: u32,
    due_at: UnixMillis,
    reason: Option<String>,
    action: OwnAction,
}

impl Own {
    /// When it came to be.
    fn time(&self, receipt: &Receipt) -> UnixMillis {
        match self {
            Self::Event | Self::Job(_) | Self::Reached(_) => receipt.event.received_at,
            Self::Run(run) => run.started_at,
            Self::Action(action) => action.recorded_at,
            Self::Delivery(delivery) => delivery.action.recorded_at,
        }
    }
}

/// The words that `status` has for a job: the first is its own.
fn job_words(state: JobState) -> &'static [&'static str] {
    match state {
        JobState::Blocked => &["blocked", "ready", "waiting"],
        JobState::Ready => &["ready", "waiting"],
        JobState::Leased => &["leased", "waiting"],
        JobState::Done => &["done"],
        JobState::Held => &["held"],
        JobState::Dead => &["dead"],
        JobState::Dismissed => &["dismissed"],
    }
}

/// The same of an outbox entry.
fn entry_words(state: EntryState) -> &'static [&'static str] {
    match state {
        EntryState::Blocked => &["blocked", "ready", "waiting"],
        EntryState::Ready => &["ready", "waiting"],
        EntryState::Leased => &["leased", "waiting"],
        EntryState::Delivered => &["delivered"],
        EntryState::Dead => &["dead"],
    }
}

/// Something that a filter is held against.
struct Holding<'h, 'w, 'a> {
    looking: &'h mut Looking<'w, 'a>,
    receipt: &'h Arc<Receipt>,
    own: &'h Own,
    /// The body, once it was read; null where it is no JSON.
    body: Option<Value>,
}

impl Facts for Holding<'_, '_, '_> {
    type Error = Fault;

    fn any(&mut self, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> Result<bool, Fault> {
        let event = &self.receipt.event;
        let text = |text: &str, fits: &mut dyn FnMut(Found<'_>) -> bool| Ok(fits(Found::Text(text)));
        match key {
            Key::Tenant
            | Key::Source
            | Key::Type
            | Key::Event
            | Key::Subject
            | Key::Family
            | Key::Lifecycle
            | Key::Amount
            | Key::Currency => Ok(content::in_event(event, key, fits)),
            Key::Receipt => text(&self.receipt.id.to_string(), fits),
            Key::Disposition => text(
                match &self.receipt.disposition {
                    Disposition::Accepted => "accepted",
                    Disposition::Superseded { .. } => "superseded",
                    Disposition::Held { .. } => "held",
                },
                fits,
            ),
            Key::Body(path) => {
                let body = match &mut self.body {
                    Some(body) => body,
                    unread => {
                        let receipt = receipts::get_known(self.looking.walk.view, self.receipt.seq, Body::With)?;
                        let payload = &receipt.event.payload;
                        *self.looking.body_bytes += payload.len();
                        // Some providers send forms.
                        unread.insert(serde_json::from_slice(payload).unwrap_or(Value::Null))
                    }
                };
                Ok(filter::in_body(body, path, fits))
            }
            Key::Since | Key::Until => Ok(fits(Found::Number(self.own.time(self.receipt).0))),
            Key::Status
            | Key::Route
            | Key::Plugin
            | Key::Outcome
            | Key::Destination
            | Key::Code
            | Key::Attempts
            | Key::Kind
            | Key::Operation
            | Key::Reason => self.of_work(key, fits),
            Key::Cause => Ok(false),
        }
    }
}

impl Holding<'_, '_, '_> {
    /// What became of the event.
    fn of_work(&mut self, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> Result<bool, Fault> {
        let list = self.looking.walk.asked.list;
        let related = &mut *self.looking.related;
        let mut word = |text: &str| fits(Found::Text(text));
        Ok(match (self.own, key) {
            (Own::Event, Key::Status) => {
                let seq = self.receipt.seq;
                let is_held =
                    matches!(self.receipt.disposition, Disposition::Held { .. }) && !related.is_reviewed(seq)?;
                let is_unrouted = self.receipt.disposition == Disposition::Accepted && related.jobs(seq)?.is_empty();
                is_held && word("held")
                    || is_unrouted && word("unrouted")
                    || related
                        .jobs(seq)?
                        .iter()
                        .any(|job| job_words(job.state).iter().any(|said| word(said)))
                    || related
                        .entries(seq)?
                        .iter()
                        .any(|entry| entry_words(entry.state).iter().any(|said| word(said)))
            }
            (Own::Event, Key::Route) => related
                .jobs(self.receipt.seq)?
                .iter()
                .any(|job| word(job.route.as_str())),
            (Own::Event, Key::Attempts) => {
                let seq = self.receipt.seq;
                let jobs = related
                    .jobs(seq)?
                    .iter()
                    .any(|job| fits(Found::Number(job.attempts.into())));
                jobs || related.any(list, key, seq, fits)?
            }
            (Own::Event, Key::Destination) => related
                .entries(self.receipt.seq)?
                .iter()
                .any(|entry| word(entry.destination.as_str())),
            (Own::Event, _) => related.any(list, key, self.receipt.seq, fits)?,

            (Own::Job(job), Key::Status) => job_words(job.state).iter().any(|said| word(said)),
            (Own::Job(job), Key::Route) => word(job.route.as_str()),
            (Own::Job(job), Key::Attempts) => fits(Found::Number(job.attempts.into())),
            (Own::Job(job), Key::Reason) => job.reason.as_deref().is_some_and(word),
            (Own::Job(job), _) => related.any(list, key, job.id.0, fits)?,

            (Own::Reached(reached), Key::Status) => word(reached.standing.as_str()),
            (Own::Reached(reached), Key::Route) => reached.routes.iter().any(|route| word(route.as_str())),
            (Own::Reached(reached), Key::Destination) => word(reached.destination.as_str()),
            (Own::Reached(reached), Key::Reason) => word(&reached.reason),
            (Own::Reached(_), _) => false,

            (Own::Run(run), Key::Route) => word(run.route.as_str()),
            (Own::Run(run), Key::Plugin) => word(run.plugin.as_str()),
            (Own::Run(run), Key::Outcome) => word(&run.outcome),
            (Own::Run(run), Key::Attempts) => fits(Found::Number(run.attempt.into())),
            (Own::Run(run), Key::Reason) => word(&run.message),
            (Own::Run(_), _) => false,

            (Own::Action(action), Key::Status) => word(action.status()),
            (Own::Delivery(delivery), Key::Status) => entry_words(delivery.state).iter().any(|said| word(said)),
            (Own::Delivery(delivery), Key::Destination) => word(delivery.destination.as_str()),
            (Own::Delivery(delivery), Key::Attempts) => fits(Found::Number(delivery.attempts.into())),
            (Own::Delivery(delivery), Key::Reason) => delivery.reason.as_deref().is_some_and(word),
            (Own::Action(action) | Own::Delivery(OwnDelivery { action, .. }), Key::Route) => {
                word(action.route.as_str())
            }
            (Own::Action(action) | Own::Delivery(OwnDelivery { action, .. }), Key::Plugin) => {
                word(action.plugin.as_str())
            }
            (Own::Action(action) | Own::Delivery(OwnDelivery { action, .. }), Key::Kind) => word(&action.kind),
            (Own::Action(action) | Own::Delivery(OwnDelivery { action, .. }), Key::Operation) => {
                word(&action.operation_key)
            }
            (Own::Action(action), _) => related.any(list, key, action.id.0, fits)?,
            (Own::Delivery(delivery), _) => related.any(list, key, delivery.entry.0, fits)?,
        })
    }
}

/// The status in the lifecycle, or the provider's own word.
fn lifecycle(reading: &StatusReading) -> Option<&str> {
    match reading {
        StatusReading::Stateless => None,
        StatusReading::Mapped { status, .. } => Some(status.as_str()),
        StatusReading::Unmapped { label, .. } => label.as_deref(),
    }
}

impl OwnAction {
    fn status(&self) -> &'static str {
        if self.is_conflict { "conflict" } else { "recorded" }
    }
}

/// Something that fits.
struct Fitting {
    receipt: Arc<Receipt>,
    own: Own,
}

impl Fitting {
    fn item(&self, view: View<'_>) -> Result<Item, Fault> {
        let receipt = &self.receipt;
        let event = &receipt.event;
        let of_event = OfEvent {
            receipt: receipt.id,
            tenant: event.tenant.clone(),
            source: event.source.clone(),
            event_id: event.id.to_string(),
            event_type: event.event_type.to_string(),
            subject: event.subject.as_ref().map(ToString::to_string),
            received_at: event.received_at.to_string(),
        };
        Ok(match self.own.clone() {
            Own::Event => Item::Event(EventRow {
                event: of_event,
                seq: receipt.seq,
                family: event.reading.family().map(ToString::to_string),
                lifecycle: lifecycle(&event.reading).map(str::to_owned),
                disposition: receipt.disposition.clone(),
                amount: event.amount.map(|amount| amount.to_string()),
                body_bytes: receipt.body_bytes as u64,
                work: work(view, receipt.seq)?,
            }),
            Own::Job(job) => Item::Job(JobRow {
                job: job.id,
                event: of_event,
                route: job.route,
                status: job_words(job.state)[0].to_owned(),
                attempts: job.attempts,
                replays: job.replays,
                due_at: (job.state == JobState::Ready).then(|| job.due_at.to_string()),
                ended_at: job.ended_at.map(|at| at.to_string()),
                reason: job.reason,
            }),
            Own::Reached(reached) => Item::Undelivered(UndeliveredRow {
                event: of_event,
                destination: reached.destination,
                status: reached.standing.as_str().to_owned(),
                reason: reached.reason,
                routes: reached.routes.into_iter().collect(),
                since: reached.since.to_string(),
                entry: reached.entry,
                job: reached.job,
            }),
            Own::Run(run) => Item::Run(RunRow {
                run: run.id,
                job: run.job,
                event: of_event,
                route: run.route,
                plugin: run.plugin,
                digest: run.digest,
                attempt: run.attempt,
                outcome: run.outcome,
                message: run.message,
                started_at: run.started_at.to_string(),
                duration_us: run.duration_us,
                fuel: run.fuel,
            }),
            Own::Action(action) => {
                let content: Action =
                    serde_json::from_str(&action.json).map_err(|error| Fault::damaged("json", error))?;
                Item::Action(ActionRow {
                    status: action.status().to_owned(),
                    action: action.id,
                    run: action.run,
                    event: of_event,
                    route: action.route,
                    plugin: action.plugin,
                    namespace: action.namespace,
                    kind: action.kind,
                    operation_key: action.operation_key,
                    summary: content.to_string(),
                    content,
                    recorded_at: action.recorded_at.to_string(),
                })
            }
            Own::Delivery(delivery) => Item::Delivery(DeliveryRow {
                entry: delivery.entry,
                action: delivery.action.id,
                event: of_event,
                route: delivery.action.route,
                destination: delivery.destination,
                kind: delivery.action.kind,
                operation_key: delivery.action.operation_key,
                status: entry_words(delivery.state)[0].to_owned(),
                attempts: delivery.attempts,
                code: last_code(view, delivery.entry)?,
                reason: delivery.reason,
                due_at: (delivery.state == EntryState::Ready).then(|| delivery.due_at.to_string()),
                delivered_at: (delivery.state == EntryState::Delivered).then(|| delivery.due_at.to_string()),
                recorded_at: delivery.action.recorded_at.to_string(),
            }),
        })
    }
}

/// How many jobs and deliveries of an event are how far.
fn work(view: View<'_>, seq: i64) -> Result<BTreeMap<String, u32>, Fault> {
    let mut related = Related::new(view, Range(seq, seq));
    let mut work: BTreeMap<String, u32> = BTreeMap::new();
    let mut add = |word: &str| *work.entry(word.to_owned()).or_default() += 1;
    for job in related.jobs(seq)? {
        add(job_words(job.state)[0]);
    }
    for entry in related.entries(seq)? {
        add(entry_words(entry.state)[0]);
    }
    Ok(work)
}

/// What the destination answered to the last attempt.
fn last_code(view: View<'_>, entry: OutboxId) -> Result<Option<u16>, Fault> {
    let mut statement = view.prepare_cached("SELECT end FROM attempts WHERE entry = ?1 ORDER BY id DESC LIMIT 1")?;
    let mut found = statement.query([entry.0])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(match rows::json::<AttemptEnd>(row, "end")? {
        AttemptEnd::Answered {
            http_status: status, ..
        }
        | AttemptEnd::Mailed {
            smtp_status: status, ..
        } => Some(status),
        AttemptEnd::Failed { .. }
        | AttemptEnd::Forbidden { .. }
        | AttemptEnd::Confirmed
        | AttemptEnd::GivenBack { .. } => None,
    })
}
