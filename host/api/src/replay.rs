//! Replay: what ended, put back to work.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{
    ActionId, DestinationName, JobId, OutboxId, ReceiptId, RouteName, SourceName, Status, Subject, TenantName,
};
use tollgate_core::route::TypePattern;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{instant, parse, read, rows_of_a_change, since};
use crate::dead_letters::{DeadLetterFilter, DeadLetterQuery, DeadWork};
use crate::set_aside::{HeldQuery, SetAsideFilter};

/// A replay request: one receipt, dead letters, held jobs, or receipts that are routed again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetterQuery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_jobs: Option<HeldQuery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<RoutingQuery>,
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, and why, for the history.
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ReplayBody {
    /// # Errors
    /// In words, when it names nothing, several things, or something that is not what it says.
    pub fn checked(self) -> Result<AskedReplay, String> {
        let what = match (self.receipt, self.dead_letters, self.held_jobs, self.receipts) {
            (Some(receipt), None, None, None) => ReplayOf::Receipt(read("receipt", &receipt)?),
            (None, Some(query), None, None) => ReplayOf::DeadLetters(query.checked()?),
            (None, None, Some(query), None) => ReplayOf::HeldJobs(query.checked()?),
            (None, None, None, Some(query)) => ReplayOf::Receipts(query.checked()?),
            _ => return Err("name one of `receipt`, `dead_letters`, `held_jobs` and `receipts`".to_owned()),
        };
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        let why = self.why.filter(|why| !why.trim().is_empty());
        if let Some(why) = &why {
            mask::check_note("why", why, limits::WHY_BYTES_MAX)?;
        }
        Ok(AskedReplay {
            what,
            dry_run: self.dry_run,
            actor: self.actor,
            why,
        })
    }
}

/// A replay request, checked.
#[derive(Debug, Clone)]
pub struct AskedReplay {
    pub what: ReplayOf,
    pub dry_run: bool,
    pub actor: String,
    pub why: Option<String>,
}

#[derive(Debug, Clone)]
pub enum ReplayOf {
    DeadLetters(DeadLetterFilter),
    HeldJobs(SetAsideFilter),
    Receipt(ReceiptId),
    /// Receipts that are routed again.
    Receipts(RoutableFilter),
}

/// A filter on the receipts that are routed again, as JSON.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RoutingQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// An event type, or the beginning of some with a `*` at its end.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// `accepted`, which is meant when nothing is said, or `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
    /// Only receipts without any job.
    pub no_route: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl RoutingQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<RoutableFilter, String> {
        Ok(RoutableFilter {
            receipt: None,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            event_type: self.event_type.as_deref().map(TypePattern::new).transpose()?,
            status: parse("status", self.status)?,
            subject: parse("subject", self.subject)?,
            since: since(self.since)?,
            until: instant("until", self.until)?,
            standing: match self.disposition.as_deref() {
                None => RoutableStanding::AsJudged,
                Some("accepted") => RoutableStanding::Accepted,
                Some("superseded") => RoutableStanding::Superseded,
                Some("held") => {
                    return Err("disposition: what is held is not routed; say what it is with a review".to_owned());
                }
                Some(other) => return Err(format!("disposition: `{other}` is neither accepted nor superseded")),
            },
            without_jobs: self.no_route,
            after: parse("after", self.after)?,
            rows_max: rows_of_a_change(self.limit),
        })
    }
}

/// Receipts that may be routed again. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct RoutableFilter {
    pub receipt: Option<ReceiptId>,
    pub tenant: Option<TenantName>,
    pub source: Option<SourceName>,
    pub event_type: Option<TypePattern>,
    pub status: Option<Status>,
    pub subject: Option<Subject>,
    /// Only those received at or after this instant, and before that one.
    pub since: Option<UnixMillis>,
    pub until: Option<UnixMillis>,
    pub standing: RoutableStanding,
    /// Only those without any job.
    pub without_jobs: bool,
    /// Only those that were admitted after this one: a list goes on where the last one ended.
    pub after: Option<ReceiptId>,
    pub rows_max: usize,
}

/// Which receipts may be routed. What is held may not: a review says what it is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoutableStanding {
    /// All, as they were judged: the late ones have effect where their routes and lifecycles say so.
    #[default]
    AsJudged,
    /// Accepted when they came, or by a review.
    Accepted,
    /// Superseded when they came: somebody wants their effect all the same, on every route that takes them.
    Superseded,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReplayReport {
    pub dry_run: bool,
    pub replayed: Vec<Replayed>,
    /// Where there were more receipts than one answer is about: the last of them, behind which the next replay goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ReceiptId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Replayed {
    pub receipt: ReceiptId,
    pub tenant: TenantName,
    pub event_id: String,
    pub event_type: String,
    #[serde(flatten)]
    pub work: ReplayedWork,
    pub reason: String,
    /// Deliveries that are missing: the job recorded these actions, and its route of now names destinations that they never went to. The
    /// run that is repeated sends them there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<MissingDelivery>,
}

/// An action that was not sent to a destination which its route names now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct MissingDelivery {
    pub action: ActionId,
    pub operation_key: String,
    pub destination: DestinationName,
}

/// What a replay puts to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum ReplayedWork {
    /// A job that had ended.
    Job { job: JobId, route: RouteName },
    /// A delivery that had been given up.
    Delivery {
        entry: OutboxId,
        destination: DestinationName,
        action: ActionId,
        operation_key: String,
    },
    /// A job that the receipt did not have: its route came later, or takes it now.
    NewJob { route: RouteName },
}

impl From<DeadWork> for ReplayedWork {
    fn from(work: DeadWork) -> Self {
        match work {
            DeadWork::Job { job, route } => Self::Job { job, route },
            DeadWork::Delivery {
                entry,
                destination,
                action,
                operation_key,
            } => Self::Delivery {
                entry,
                destination,
                action,
                operation_key,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_names_one_thing_and_what_is_held_is_not_routed() {
        let body = |json: serde_json::Value| serde_json::from_value::<ReplayBody>(json).unwrap().checked();
        for (json, part) in [
            (serde_json::json!({ "actor": "a" }), "name one of"),
            (
                serde_json::json!({ "actor": "a", "receipts": {}, "held_jobs": {} }),
                "name one of",
            ),
            (
                serde_json::json!({ "actor": "a", "receipts": { "disposition": "held" } }),
                "with a review",
            ),
            (
                serde_json::json!({ "actor": "a", "receipts": { "type": "a.*.b" } }),
                "is not a type pattern",
            ),
            (
                serde_json::json!({ "actor": "a", "receipts": { "until": "noon" } }),
                "until: `noon`",
            ),
        ] {
            let said = body(json.clone()).unwrap_err();
            assert!(said.contains(part), "{json}: {said}");
        }
        let asked =
            body(serde_json::json!({ "actor": "a", "receipts": { "no_route": true, "limit": 9999999 } })).unwrap();
        let ReplayOf::Receipts(filter) = asked.what else {
            panic!()
        };
        assert!(filter.without_jobs);
        assert_eq!((filter.rows_max, filter.standing), (1000, RoutableStanding::AsJudged));
    }
}
