//! Lists of what a host has, each narrowed by the same filter language (promise O10): events, jobs, runs, actions, deliveries, for each
//! event and destination whether it got there (promise P11), and what was refused (promise I13).
//!
//! A list goes from the newest to the oldest. A page names the place behind which the next one goes on, and that place stays where it
//! is while events come in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_core::action::Action;
use tollgate_core::admission::Disposition;
use tollgate_core::filter::{Direction, Filter, Listing};
use tollgate_core::ids::{
    ActionId, DestinationName, JobId, Namespace, OutboxId, PluginDigest, PluginName, ReceiptId, RouteName, RunId,
    SourceName, TenantName,
};
use tollgate_core::mask;
use tollgate_core::time::UnixMillis;
use tollgate_core::undelivered::Sends;

use crate::check::rows;

/// What of a list is wanted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    /// The filter, for example `status:dead since:24h`; without it everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Go on behind this place, the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only what came behind this place, the `newest` of an earlier page: for whoever follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer: Option<String>,
    /// At most this many, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl ListQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says; of a filter with the place.
    pub fn checked(self, list: Listing, now: UnixMillis) -> Result<AskedList, String> {
        let filter = Filter::read(self.filter.as_deref().unwrap_or_default(), list, now);
        Ok(AskedList {
            list,
            filter: filter.map_err(|error| error.to_string())?,
            tenant: None,
            before: place(list, "after", self.after.as_deref())?,
            newer: place(list, "newer", self.newer.as_deref())?,
            direction: Direction::NewestFirst,
            rows_max: rows(self.limit).max(1),
            sends: BTreeMap::new(),
        })
    }
}

/// What is to be counted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CountQuery {
    /// Of which list: events, jobs, runs, actions, deliveries, undelivered or refused.
    pub of: String,
    /// The filter, for example `status:dead since:24h`; without it everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Go on behind this place, the `next` of the count before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl CountQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// As [`ListQuery::checked`], and when there is no such list.
    pub fn checked(self, now: UnixMillis) -> Result<AskedList, String> {
        let list = self.of.parse().map_err(|error| format!("of: {error}"))?;
        let query = ListQuery {
            filter: self.filter,
            after: self.after,
            ..ListQuery::default()
        };
        query.checked(list, now)
    }
}

/// Which of a list are wanted, checked.
#[derive(Debug, Clone)]
pub struct AskedList {
    /// Which list.
    pub list: Listing,
    /// What must hold.
    pub filter: Filter,
    /// Only this tenant's, whatever the filter says.
    pub tenant: Option<TenantName>,
    /// Only what stands before this place.
    pub before: Option<i64>,
    /// Only what stands behind this one.
    pub newer: Option<i64>,
    /// Where the page begins; its `next` is the `before` of the next page, or the `newer` where the oldest comes first.
    pub direction: Direction,
    /// The most rows of a page. Of [`Listing::Undelivered`] an event's rows stay together, so that it may be a few more.
    pub rows_max: usize,
    /// Where each tenant's routes send; for [`Listing::Undelivered`].
    pub sends: BTreeMap<TenantName, Sends>,
}

/// How a place in a list is written: what the list goes along, and its number. Jobs and what is undelivered stand with their event,
/// deliveries with their action.
fn prefix(list: Listing) -> &'static str {
    match list {
        Listing::Events | Listing::Jobs | Listing::Undelivered => "seq_",
        Listing::Runs => "run_",
        Listing::Actions | Listing::Deliveries => "act_",
        Listing::Refused => "ref_",
    }
}

/// A place in a list, as pages name it.
pub fn place_name(list: Listing, number: i64) -> String {
    format!("{}{number}", prefix(list))
}

/// The number of a place that a page names; none where it is no place of the list.
pub fn place_number(list: Listing, text: &str) -> Option<i64> {
    place(list, "", Some(text)).ok().flatten()
}

pub(crate) fn place(list: Listing, field: &str, text: Option<&str>) -> Result<Option<i64>, String> {
    text.map(|text| {
        text.strip_prefix(prefix(list))
            .and_then(|number| number.parse().ok())
            .filter(|number| *number >= 0)
            .ok_or_else(|| {
                format!(
                    "{field}: `{}` is no place in the list of {}, such as {}7: take the `next` or `newest` of a page",
                    mask::line(text, 60),
                    list.as_str(),
                    prefix(list)
                )
            })
    })
    .transpose()
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "document", schemars(rename = "PageOf{T}"))]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page goes on; absent where the list ends. A page may have fewer items than were asked for and a `next`: then
    /// it looked at as many as one page may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The newest place of the list when this page was made: what comes later stands behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// How many this page looked at.
    pub looked_at: u64,
    /// How far back it looked (RFC 3339); absent where it looked at nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_back_to: Option<String>,
}

impl<T> Page<T> {
    /// The same page of other items.
    pub fn map<U>(self, item: impl FnMut(T) -> Option<U>) -> Page<U> {
        Page {
            items: self.items.into_iter().filter_map(item).collect(),
            next: self.next,
            newest: self.newest,
            looked_at: self.looked_at,
            looked_back_to: self.looked_back_to,
        }
    }
}

/// How many of a list fit a filter, as far as was looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Count {
    /// Which list.
    pub of: String,
    /// How many fit.
    pub count: u64,
    /// Whether that is all of them; otherwise it looked at as many as one count may.
    pub complete: bool,
    /// Behind which place the rest is counted; absent where that is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many were looked at.
    pub looked_at: u64,
    /// How far back it looked (RFC 3339); absent where it looked at nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_back_to: Option<String>,
}

/// One of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Of [`Listing::Events`].
    Event(EventRow),
    /// Of [`Listing::Jobs`].
    Job(JobRow),
    /// Of [`Listing::Runs`].
    Run(RunRow),
    /// Of [`Listing::Actions`].
    Action(ActionRow),
    /// Of [`Listing::Deliveries`].
    Delivery(DeliveryRow),
    /// Of [`Listing::Undelivered`].
    Undelivered(UndeliveredRow),
    /// Of [`Listing::Refused`].
    Refused(RefusedRow),
}

/// What a list has.
pub trait Listed: Serialize + serde::de::DeserializeOwned + Send + Sized + 'static {
    /// Which list it is.
    const LIST: Listing;

    /// The item, where it is one of this list.
    fn of(item: Item) -> Option<Self>;
}

macro_rules! listed {
    ($($row:ident is $variant:ident of $list:ident;)+) => {
        $(
            impl Listed for $row {
                const LIST: Listing = Listing::$list;

                fn of(item: Item) -> Option<Self> {
                    match item {
                        Item::$variant(row) => Some(row),
                        _ => None,
                    }
                }
            }
        )+
    };
}

listed! {
    EventRow is Event of Events;
    JobRow is Job of Jobs;
    RunRow is Run of Runs;
    ActionRow is Action of Actions;
    DeliveryRow is Delivery of Deliveries;
    UndeliveredRow is Undelivered of Undelivered;
    RefusedRow is Refused of Refused;
}

/// The event that something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct OfEvent {
    /// The receipt of the event.
    pub receipt: ReceiptId,
    /// Whose it is.
    pub tenant: TenantName,
    /// Where the event came in.
    pub source: SourceName,
    /// The provider's id of the event.
    pub event_id: String,
    /// The provider's type of the event.
    pub event_type: String,
    /// What the event is about, where that is known.
    pub subject: Option<String>,
    /// When the event came (RFC 3339).
    pub received_at: String,
}

/// An event in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct EventRow {
    /// Which event.
    #[serde(flatten)]
    pub event: OfEvent,
    /// Its place in the order of admission, over all tenants.
    pub seq: i64,
    /// The family of its lifecycle, where it has one.
    pub family: Option<String>,
    /// Its status in the lifecycle, or the provider's label where that is not mapped.
    pub lifecycle: Option<String>,
    /// What the lifecycle made of it.
    pub disposition: Disposition,
    /// The money that it is about, where it has any.
    pub amount: Option<String>,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// How many of its jobs and deliveries are how far, by the words of `status`.
    pub work: BTreeMap<String, u32>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct JobRow {
    /// The job.
    pub job: JobId,
    /// The event that it is of.
    #[serde(flatten)]
    pub event: OfEvent,
    /// The route that it is on.
    pub route: RouteName,
    /// How far it has come: blocked, ready, leased, done, held, dead or dismissed.
    pub status: String,
    /// How often it was claimed since it was made or last replayed.
    pub attempts: u32,
    /// How often it was replayed.
    pub replays: u32,
    /// When it may be claimed, where it waits for that (RFC 3339).
    pub due_at: Option<String>,
    /// When it was held or died (RFC 3339).
    pub ended_at: Option<String>,
    /// Why its last end was no success.
    pub reason: Option<String>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The job that it was for.
    pub job: JobId,
    /// The event that it is of.
    #[serde(flatten)]
    pub event: OfEvent,
    /// The route that the job is on.
    pub route: RouteName,
    /// The plugin.
    pub plugin: PluginName,
    /// Which component it was.
    pub digest: PluginDigest,
    /// Which attempt of the job.
    pub attempt: u32,
    /// How it ended.
    pub outcome: String,
    /// What the plugin or the host said of it.
    pub message: String,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// What it used of its fuel.
    pub fuel: u64,
}

/// An action in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ActionRow {
    /// The action.
    pub action: ActionId,
    /// The run that proposed it.
    pub run: RunId,
    /// The event that it is of.
    #[serde(flatten)]
    pub event: OfEvent,
    /// The route that the run was on.
    pub route: RouteName,
    /// The plugin.
    pub plugin: PluginName,
    /// Whose operation keys it is recorded under.
    pub namespace: Namespace,
    /// The kind of the action.
    pub kind: String,
    /// The name of its business effect.
    pub operation_key: String,
    /// recorded, or conflict: the operation is recorded with other content.
    pub status: String,
    /// What it does, in words.
    pub summary: String,
    /// What it does.
    pub content: Action,
    /// When it was recorded (RFC 3339).
    pub recorded_at: String,
}

/// A delivery in a list: one action on its way to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct DeliveryRow {
    /// The outbox entry.
    pub entry: OutboxId,
    /// The action that it carries.
    pub action: ActionId,
    /// The event that it is of.
    #[serde(flatten)]
    pub event: OfEvent,
    /// The route whose run recorded the action.
    pub route: RouteName,
    /// Where it goes.
    pub destination: DestinationName,
    /// The kind of the action.
    pub kind: String,
    /// The name of the action's business effect.
    pub operation_key: String,
    /// How far it has come: ready, leased, delivered or dead.
    pub status: String,
    /// How often it was tried since it was made, last replayed or sent again.
    pub attempts: u32,
    /// What the destination answered to the last attempt; absent where there was none, or no answer came.
    pub code: Option<u16>,
    /// Why the last attempt was no success.
    pub reason: Option<String>,
    /// When it may be tried, where it waits for that (RFC 3339).
    pub due_at: Option<String>,
    /// When it was delivered (RFC 3339).
    pub delivered_at: Option<String>,
    /// When the action was recorded (RFC 3339).
    pub recorded_at: String,
}

/// One event and one destination, and whether it got there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct UndeliveredRow {
    /// Which event.
    #[serde(flatten)]
    pub event: OfEvent,
    /// Where it goes, or would.
    pub destination: DestinationName,
    /// waiting, held, dead, delivered or not-meant.
    pub status: String,
    /// Why, in words.
    pub reason: String,
    /// The routes that it is about.
    pub routes: Vec<RouteName>,
    /// Since when it is so (RFC 3339).
    pub since: String,
    /// The outbox entry that decides, where there is one.
    pub entry: Option<OutboxId>,
    /// The job that decides, where there is no entry yet.
    pub job: Option<JobId>,
}

/// A request that was refused: what a person needs to see why. Neither its body nor the value of any header is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RefusedRow {
    /// Its place in the list.
    pub place: String,
    /// When it was refused (RFC 3339).
    pub refused_at: String,
    /// Whose it is; absent where it was for no source that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The source that it was for; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// Why, in one word: the one that is counted and logged.
    pub cause: String,
    /// Why, in a line.
    pub reason: String,
    /// The status that it was answered with.
    pub code: u16,
    /// Its method.
    pub method: String,
    /// Its path, of at most 100 bytes; absent where it was for a source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The network that it came from, its sender's address masked to 24 bits, or 48 of IPv6; absent where a trusted proxy named no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The names of its headers in their order, of at most 512 bytes together.
    pub headers: Vec<String>,
    /// How many headers it had.
    pub header_count: u64,
    /// Bytes of its headers, names and values.
    pub header_bytes: u64,
    /// Bytes of its body: as many as its head announced, or as were read; absent where neither is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o10_a_question_is_checked_with_its_place() {
        let now = UnixMillis(1_777_975_200_000);
        let asked = |list, filter: &str, after: &str| {
            let query = ListQuery {
                filter: Some(filter.to_owned()),
                after: Some(after.to_owned()),
                ..ListQuery::default()
            };
            query.checked(list, now)
        };
        assert_eq!(asked(Listing::Jobs, "status:dead", "seq_7").unwrap().before, Some(7));
        for (list, filter, after, part) in [
            (Listing::Jobs, "status:deda", "seq_7", "filter, column 8: `deda`"),
            (
                Listing::Jobs,
                "",
                "act_7",
                "after: `act_7` is no place in the list of jobs",
            ),
            (Listing::Events, "", "seq_-1", "no place"),
        ] {
            let said = asked(list, filter, after).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
        let count = CountQuery {
            of: "event".to_owned(),
            ..CountQuery::default()
        };
        assert!(count.checked(now).unwrap_err().contains("of: `event` is no list"));
    }
}
