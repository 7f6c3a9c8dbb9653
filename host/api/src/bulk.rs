//! Bulk actions: one thing done to everything that fits a filter, looked at first, and then an object with progress (promise O11).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_core::bulk::{BulkAction, BulkState};
use tollgate_core::filter::{Filter, Listing};
use tollgate_core::ids::{BulkId, ReceiptId, Status, TenantName};
use tollgate_core::review::Reviewed;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{parse, rows};
use crate::lists::{AskedList, Count, DeliveryRow, EventRow, JobRow, place};

/// A bulk action that is asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BulkBody {
    /// What is done: replay (jobs that ended run again), redeliver (deliveries that were given up are tried again, and those that arrived sent
    /// again), route (events get the jobs that they lack by the routes of now), dismiss (nothing is to be done about held jobs or events), map
    /// (held events get the status `to`, which the lifecycle judges by each one's subject).
    pub action: String,
    /// Whose list the filter is of: jobs, deliveries or events; without it, the first that the action has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Of map: the status that the events have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Which of them, for example `status:dead since:24h`. An empty filter is refused.
    pub filter: String,
    /// Only what stands at this place or before it: the `upto` of an answer to a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto: Option<String>,
    /// Says how many fit and shows some, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// The reason, for the history. Required, but for a dry run.
    #[serde(default)]
    pub why: String,
}

/// A [`BulkBody`], checked.
#[derive(Debug, Clone)]
pub struct AskedBulk {
    /// What is done.
    pub action: BulkAction,
    /// Of map: the status that the events have.
    pub to: Option<Status>,
    /// Whose list the filter is of.
    pub list: Listing,
    /// What must hold.
    pub filter: Filter,
    /// The filter, as it was written.
    pub filter_text: String,
    /// The newest place that it is about.
    pub upto: Option<i64>,
    /// Whether nothing must be changed.
    pub dry_run: bool,
    /// Who asks, for the history.
    pub actor: String,
    /// The reason.
    pub why: String,
}

impl BulkBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when a field is not what its name says, the filter is empty, or nothing says why.
    pub fn checked(self, now: UnixMillis) -> Result<AskedBulk, String> {
        let action: BulkAction = self.action.parse().map_err(|error| format!("action: {error}"))?;
        let list = match self.of {
            None => action.lists()[0],
            Some(of) => {
                let list = of.parse().map_err(|error| format!("of: {error}"))?;
                if !action.lists().contains(&list) {
                    let lists: Vec<_> = action.lists().iter().map(|list| list.as_str()).collect();
                    return Err(format!(
                        "of: {action} is done to {}, not to {}",
                        lists.join(" or "),
                        list.as_str()
                    ));
                }
                list
            }
        };
        let to = match (action, self.to) {
            (BulkAction::Map, Some(to)) => Some(to.parse().map_err(|error| format!("to: {error}"))?),
            (BulkAction::Map, None) => {
                return Err("to: say which status the events have, for example completed".to_owned());
            }
            (_, None) => None,
            (_, Some(_)) => return Err(format!("to: only map gives a status, and not {action}")),
        };
        let filter = Filter::read(&self.filter, list, now).map_err(|error| error.to_string())?;
        if filter.is_empty() {
            return Err(format!(
                "filter: an empty filter fits all {} that there are; say which are meant, for example since:24h",
                list.as_str()
            ));
        }
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        if self.why.trim().is_empty() && !self.dry_run {
            return Err("why: say why it is done: the history keeps it".to_owned());
        }
        Ok(AskedBulk {
            action,
            to,
            list,
            filter,
            filter_text: self.filter,
            upto: place(list, "upto", self.upto.as_deref())?,
            dry_run: self.dry_run,
            actor: self.actor,
            why: self.why,
        })
    }
}

impl AskedBulk {
    /// The list of what it would be done to.
    pub fn listed(&self, tenant: Option<TenantName>, rows_max: usize) -> AskedList {
        AskedList {
            list: self.list,
            filter: self.filter.clone(),
            tenant,
            before: self.upto.map(|upto| upto.saturating_add(1)),
            newer: None,
            direction: self.action.direction(),
            rows_max,
            sends: BTreeMap::new(),
        }
    }
}

/// What a bulk action is about, and what it became.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BulkAnswer {
    /// What is done.
    pub action: String,
    /// How many fit, as far as one count looks.
    pub fitting: Count,
    /// The newest place that it is about: what comes later is left alone.
    pub upto: String,
    /// The first of the jobs that it would be done to, a few: the newest that fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobRow>,
    /// The first of the deliveries that it would be done to, a few: the newest that fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<DeliveryRow>,
    /// The first of the events that it would be done to, a few: the oldest that fit, of dismiss the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRow>,
    /// Of map: what each of `events` would become.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_become: Vec<WouldBecome>,
    /// The bulk action that was begun; absent after a dry run, and where nothing fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BulkView>,
}

/// What an event would become by the status that it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct WouldBecome {
    /// The event.
    pub receipt: ReceiptId,
    /// What it would become; null where it would be passed over.
    pub reviewed: Option<Reviewed>,
    /// Why it would be passed over, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A bulk action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BulkView {
    /// Names it.
    pub bulk: BulkId,
    /// What is done: replay, redeliver, route, dismiss or map.
    pub action: String,
    /// Of map: the status that the events get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Status>,
    /// Whose list its filter is of.
    pub of: String,
    /// The filter, as it was written. Its times are counted back from when it began.
    pub filter: String,
    /// The only tenant that it is about; null for all.
    pub tenant: Option<TenantName>,
    /// running, done or aborted.
    pub state: String,
    /// How many fitted when it began, as far as one count looks.
    pub expected: u64,
    /// To how many it was done.
    pub done: u64,
    /// How many fitted and were left as they are: they had changed meanwhile, or it cannot be done to them.
    pub passed_over: u64,
    /// How many were looked at.
    pub looked_at: u64,
    /// Who began it.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// When it ended (RFC 3339).
    pub ended_at: Option<String>,
    /// Who ended it, where somebody did.
    pub ended_by: Option<String>,
    /// Why somebody ended it.
    pub ended_why: Option<String>,
}

/// A bulk action, as a store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulk {
    /// Names it.
    pub id: BulkId,
    /// What began it.
    pub begun: NewBulk,
    /// How far it has come.
    pub state: BulkState,
    /// The place that was looked at last; where its walk begins, before the first.
    pub place: i64,
    /// To how many it was done.
    pub done: u64,
    /// How many fitted and were left as they are.
    pub passed_over: u64,
    /// How many were looked at.
    pub looked_at: u64,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// Who ended it, and why, where somebody did.
    pub ended_by: Option<(String, String)>,
}

/// A bulk action that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBulk {
    /// What is done.
    pub action: BulkAction,
    /// Of map: the status that the events have.
    pub to: Option<Status>,
    /// Whose list its filter is of.
    pub list: Listing,
    /// The filter, as it was written; read as of `started_at`.
    pub filter: String,
    /// Only this tenant's.
    pub tenant: Option<TenantName>,
    /// Who began it.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When it began.
    pub started_at: UnixMillis,
    /// How many fitted then, as far as one count looks.
    pub expected: u64,
    /// The newest place that it is about.
    pub upto: i64,
}

impl From<Bulk> for BulkView {
    fn from(bulk: Bulk) -> Self {
        let (ended_by, ended_why) = bulk.ended_by.unzip();
        Self {
            bulk: bulk.id,
            action: bulk.begun.action.to_string(),
            to: bulk.begun.to,
            of: bulk.begun.list.as_str().to_owned(),
            filter: bulk.begun.filter,
            tenant: bulk.begun.tenant,
            state: bulk.state.as_str().to_owned(),
            expected: bulk.begun.expected,
            done: bulk.done,
            passed_over: bulk.passed_over,
            looked_at: bulk.looked_at,
            actor: bulk.begun.actor,
            why: bulk.begun.why,
            started_at: bulk.begun.started_at.to_string(),
            ended_at: bulk.ended_at.map(|at| at.to_string()),
            ended_by,
            ended_why,
        }
    }
}

/// Which bulk actions, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BulksQuery {
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// At most this many, newest first
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl BulksQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<BulkFilter, String> {
        Ok(BulkFilter {
            id: None,
            tenant: parse("tenant", self.tenant)?,
            is_running: false,
            rows_max: rows(self.limit),
        })
    }
}

/// Which bulk actions. Absent fields take everything.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BulkFilter {
    /// This one.
    pub id: Option<BulkId>,
    /// Only this tenant's.
    pub tenant: Option<TenantName>,
    /// Only those that go on.
    pub is_running: bool,
    /// The most that are returned, newest first.
    pub rows_max: usize,
}

/// A bulk action, in an address.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BulkPath {
    /// The bulk action.
    pub bulk: BulkId,
}

/// The end of a bulk action that is asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AbortBody {
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// The reason, for the history.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl AbortBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when a field is no line of text.
    pub fn checked(self, bulk: BulkId, now: UnixMillis) -> Result<BulkAbort, String> {
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        Ok(BulkAbort {
            bulk,
            by: self.actor,
            why: self.why,
            now,
        })
    }
}

/// An [`AbortBody`], checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkAbort {
    /// Which is ended.
    pub bulk: BulkId,
    /// Who ends it.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o11_a_bulk_action_names_what_it_means_and_says_why() {
        let now = UnixMillis(1_777_975_200_000);
        let body = |json: serde_json::Value| serde_json::from_value::<BulkBody>(json).unwrap().checked(now);
        for (action, of, filter, why, part) in [
            ("replay", None, "", "x", "an empty filter fits all jobs"),
            ("replay", None, "   ", "x", "an empty filter"),
            ("replay", None, "status:dead", " ", "why: say why"),
            ("replay", None, "status:dead", "a\nb", "why: byte 1"),
            (
                "replay",
                Some("deliveries"),
                "status:dead",
                "x",
                "replay is done to jobs, not to deliveries",
            ),
            ("dismiss", Some("runs"), "plugin:x", "x", "jobs or events, not to runs"),
            ("remove", None, "status:dead", "x", "no bulk action"),
            ("redeliver", None, "status:held", "x", "column 8"),
        ] {
            let json = serde_json::json!({ "action": action, "of": of, "filter": filter, "actor": "ana", "why": why });
            let said = body(json.clone()).unwrap_err();
            assert!(said.contains(part), "{json}: {said}");
        }
        for (action, to, part) in [
            ("map", None, "to: say which status"),
            ("map", Some("a b"), "to: "),
            ("dismiss", Some("completed"), "to: only map gives a status"),
        ] {
            let json =
                serde_json::json!({ "action": action, "to": to, "filter": "status:held", "actor": "a", "why": "x" });
            let said = body(json.clone()).unwrap_err();
            assert!(said.contains(part), "{json}: {said}");
        }
        let map = serde_json::json!({ "action": "map", "to": "completed", "filter": "status:held", "actor": "a", "why": "x" });
        assert_eq!(body(map).unwrap().list, Listing::Events);
        let wrong = serde_json::json!({ "action": "replay", "filter": "status:dead", "actor": "a", "why": "x", "upto": "act_7" });
        assert!(body(wrong).unwrap_err().contains("upto: `act_7` is no place"));
        let dry = serde_json::json!({ "action": "dismiss", "filter": "status:held", "actor": "a", "dry_run": true, "upto": "seq_7" });
        let asked = body(dry).unwrap();
        assert_eq!((asked.list, asked.listed(None, 5).before), (Listing::Jobs, Some(8)));
    }
}
