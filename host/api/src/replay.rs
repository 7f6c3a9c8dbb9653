//! Replay: puts back to work what ended.

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
    /// One receipt (`rcpt_…`): its jobs are run again, and missing ones are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// The open dead letters that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetterQuery>,
    /// The held jobs that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_jobs: Option<HeldQuery>,
    /// The receipts that match: the jobs that routing gives them now are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<RoutingQuery>,
    /// Returns what would be put back, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// The reason, where one is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ReplayBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when it names nothing, names several things, or a field is not what its name says.
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
    /// What is put back.
    pub what: ReplayOf,
    /// Whether nothing must be changed.
    pub dry_run: bool,
    /// Who asks, for the history.
    pub actor: String,
    /// The reason, where one is given.
    pub why: Option<String>,
}

/// What a replay is of.
#[derive(Debug, Clone)]
pub enum ReplayOf {
    /// Open dead letters that match.
    DeadLetters(DeadLetterFilter),
    /// Held jobs that match.
    HeldJobs(SetAsideFilter),
    /// One receipt.
    Receipt(ReceiptId),
    /// Receipts that are routed again.
    Receipts(RoutableFilter),
}

/// A filter on the receipts that are routed again, as JSON.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RoutingQuery {
    /// Only those of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only those that came in at this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// An event type, or the beginning of some with a `*` at its end.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Only those with this lifecycle status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only those about this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only those received at or after this instant (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those received before this instant (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// `accepted`, which is meant when nothing is said, or `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
    /// Only receipts without any job.
    pub no_route: bool,
    /// Goes on behind this receipt, the `next` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many, in the order of admission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl RoutingQuery {
    /// Checks the filter.
    ///
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
    /// Only this one.
    pub receipt: Option<ReceiptId>,
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
    /// Only those that came in at this source.
    pub source: Option<SourceName>,
    /// Only those of such a type.
    pub event_type: Option<TypePattern>,
    /// Only those with this lifecycle status.
    pub status: Option<Status>,
    /// Only those about this subject.
    pub subject: Option<Subject>,
    /// Only those received at or after this instant, and before that one.
    pub since: Option<UnixMillis>,
    /// Only those received before this instant.
    pub until: Option<UnixMillis>,
    /// Which judgement they must have.
    pub standing: RoutableStanding,
    /// Only those without any job.
    pub without_jobs: bool,
    /// Only those that were admitted after this one: a list goes on where the last one ended.
    pub after: Option<ReceiptId>,
    /// The most receipts that are returned.
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

/// What a replay did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReplayReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What was put back.
    pub replayed: Vec<Replayed>,
    /// Where there were more receipts than one answer is about: the last of them, behind which the next replay goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ReceiptId>,
}

/// Something that is put back to work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Replayed {
    /// The receipt of the event.
    pub receipt: ReceiptId,
    /// Whose it is.
    pub tenant: TenantName,
    /// The provider's id of the event.
    pub event_id: String,
    /// The provider's type of the event.
    pub event_type: String,
    /// What is put back.
    #[serde(flatten)]
    pub work: ReplayedWork,
    /// Why it had ended, or why it is made.
    pub reason: String,
    /// Deliveries that are missing: the job recorded these actions, and its route now names destinations that they never went to. The
    /// repeated run sends them there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<MissingDelivery>,
}

/// An action that was not sent to a destination which its route names now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct MissingDelivery {
    /// The action that was not sent there.
    pub action: ActionId,
    /// The name of its business effect.
    pub operation_key: String,
    /// Where it is sent now.
    pub destination: DestinationName,
}

/// What a replay puts to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum ReplayedWork {
    /// A job that had ended.
    Job {
        /// The job.
        job: JobId,
        /// The route that it is on.
        route: RouteName,
    },
    /// A delivery that had been given up.
    Delivery {
        /// The outbox entry.
        entry: OutboxId,
        /// Where it goes.
        destination: DestinationName,
        /// The action that it carries.
        action: ActionId,
        /// The name of the action's business effect.
        operation_key: String,
    },
    /// A job that the receipt did not have: its route came later, or takes it now.
    NewJob {
        /// The route that it is made for.
        route: RouteName,
    },
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
