//! Everything that became of a receipt (promise T7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_core::action::{Action, Verdict};
use tollgate_core::admission::Disposition;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::event::Proof;
use tollgate_core::ids::{
    ActionId, DeadLetterId, DeliveryId, DestinationName, Digest, JobId, Namespace, OutboxId, PluginDigest, PluginName,
    ReceiptId, ResendId, RouteName, RunId, SourceName, TenantName,
};

use crate::check::{parse, rows};
use crate::set_aside::ReviewView;

/// Any one identifier (promise T7). Narrowed to a tenant where the asker may see only one.
#[derive(Debug, Clone)]
pub struct TraceQuery {
    pub by: TraceBy,
    pub tenant: Option<TenantName>,
    /// Only receipts that were admitted before this one: a list goes on where the last one ended.
    pub after: Option<ReceiptId>,
    pub receipts_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceBy {
    Receipt(ReceiptId),
    Job(JobId),
    Run(RunId),
    Action(ActionId),
    Outbox(OutboxId),
    DeadLetter(DeadLetterId),
    /// A provider's event id, a subject or an operation key, whichever it turns out to be.
    Text(String),
    /// The newest receipts.
    Newest,
}

impl TraceBy {
    /// Tells from its look what an identifier names.
    pub fn named(id: &str) -> Self {
        fn typed(id: &str) -> Option<TraceBy> {
            Some(match id.split_once('_')?.0 {
                "rcpt" => TraceBy::Receipt(id.parse().ok()?),
                "job" => TraceBy::Job(id.parse().ok()?),
                "run" => TraceBy::Run(id.parse().ok()?),
                "act" => TraceBy::Action(id.parse().ok()?),
                "out" => TraceBy::Outbox(id.parse().ok()?),
                "dead" => TraceBy::DeadLetter(id.parse().ok()?),
                _ => return None,
            })
        }
        typed(id).unwrap_or_else(|| Self::Text(id.to_owned()))
    }
}

/// Everything that became of one receipt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Trace {
    pub receipt: ReceiptView,
    /// What a person decided about it, when it was held.
    pub review: Option<ReviewView>,
    /// How often the event was delivered again in all; `None` where it never was.
    pub redelivered: Option<Redelivered>,
    /// Further deliveries of the same event that are kept one by one, in their order; see [`tollgate_core::admission::Kept`].
    pub deliveries: Vec<DeliveryView>,
    pub jobs: Vec<JobView>,
    /// What people did to it: replays, reviews. The newest, at most [`tollgate_core::limits::TRACE_ROWS_MAX`].
    pub history: Vec<HistoryView>,
}

impl Trace {
    /// How often the event was delivered again with other bytes.
    pub fn conflicts(&self) -> u64 {
        self.redelivered.as_ref().map_or(0, |again| again.conflicts)
    }
}

/// How often an event was delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Redelivered {
    /// With the receipt's own bytes.
    pub same: u64,
    /// With other bytes.
    pub conflicts: u64,
    /// With its signed message, under another id or type.
    #[serde(default)]
    pub suspected_replays: u64,
    /// When it came the last time; RFC 3339, UTC.
    pub last_at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReceiptView {
    pub id: ReceiptId,
    /// Position in the order of admission.
    pub seq: i64,
    pub tenant: TenantName,
    pub source: SourceName,
    pub event_id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub family: Option<String>,
    pub status: Option<String>,
    pub lifecycle_version: Option<u32>,
    pub amount: Option<String>,
    pub occurred_at: Option<String>,
    /// What of the event is not read as it was sent: shortened, or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_notes: Option<String>,
    /// Headers of the request that the source keeps, by name. No signature holds them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_headers: BTreeMap<String, String>,
    pub received_at: String,
    pub proof: Proof,
    #[serde(flatten)]
    pub disposition: Disposition,
    pub body_digest: Digest,
    pub body_bytes: usize,
}

/// A redelivery of an event whose receipt exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct DeliveryView {
    pub id: DeliveryId,
    /// Counts from 2: the first delivery is the receipt itself.
    pub number: u32,
    pub received_at: String,
    /// `same`, `conflict` or `suspected-replay`.
    pub decision: String,
    pub key_id: String,
    pub body_digest: Digest,
    /// How often it came; more than once only for what is not the receipt's event.
    pub times: u64,
    pub last_at: Option<String>,
    /// What a person decided about a conflict.
    pub review: Option<ReviewView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct JobView {
    pub id: JobId,
    pub route: RouteName,
    /// `ready`, `leased`, `done`, `held`, `dismissed` or `dead`.
    pub state: String,
    pub attempts: u32,
    /// When a waiting job is due.
    pub due_at: Option<String>,
    pub reason: Option<String>,
    pub replays: u32,
    /// The newest, at most [`tollgate_core::limits::TRACE_ROWS_MAX`], in their order.
    pub runs: Vec<RunView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RunView {
    pub id: RunId,
    pub attempt: u32,
    pub plugin: PluginName,
    /// As the registry has it for the digest; absent where it never had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub digest: PluginDigest,
    pub config_digest: Digest,
    pub runtime: String,
    pub started_at: String,
    pub duration_us: u64,
    pub fuel: u64,
    pub outcome: String,
    pub message: String,
    pub logs: serde_json::Value,
    pub actions: Vec<ActionView>,
}

/// What one run asked for and what the ledger said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ActionView {
    /// The recorded action: this run's own, or the earlier one that this proposal repeats. For a conflict the kept proposal.
    pub id: ActionId,
    /// Whose operation key it is.
    pub namespace: Namespace,
    pub operation_key: String,
    pub verdict: Verdict,
    pub action: Action,
    /// In words, for people.
    pub summary: String,
    /// Of a conflict: what a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
    pub deliveries: Vec<OutboxView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct OutboxView {
    pub id: OutboxId,
    /// The `webhook-id` that its destination sees.
    pub message_id: String,
    pub destination: DestinationName,
    /// `ready`, `leased`, `delivered` or `dead`.
    pub state: String,
    pub due_at: Option<String>,
    pub attempts: Vec<AttemptView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct AttemptView {
    pub number: u32,
    pub started_at: String,
    pub duration_us: u64,
    #[serde(flatten)]
    pub end: AttemptEnd,
    pub answer: String,
    /// Set when it was delivered before, and somebody had it sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend: Option<ResendView>,
}

/// Who had deliveries sent again, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ResendView {
    pub id: ResendId,
    pub at: String,
    pub actor: String,
    pub why: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct HistoryView {
    pub at: String,
    pub what: String,
    pub detail: String,
}

/// Which receipts are traced.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TraceParameters {
    /// Any identifier; without one, the newest receipts.
    pub id: Option<String>,
    pub tenant: Option<String>,
    /// Only receipts that were admitted before this one: the last of the list before.
    pub after: Option<String>,
    pub limit: Option<u64>,
}

impl TraceParameters {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<TraceQuery, String> {
        Ok(TraceQuery {
            by: self.id.as_deref().map_or(TraceBy::Newest, TraceBy::named),
            tenant: parse("tenant", self.tenant)?,
            after: parse("after", self.after)?,
            receipts_max: rows(self.limit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_recognised_by_its_look_and_anything_else_is_text() {
        assert_eq!(TraceBy::named("job_7"), TraceBy::Job(JobId(7)));
        assert_eq!(
            TraceBy::named("rcpt_00000000000000000000000000000000"),
            TraceBy::Receipt("rcpt_00000000000000000000000000000000".parse().unwrap())
        );
        assert_eq!(
            TraceBy::named("run_x"),
            TraceBy::Text("run_x".into()),
            "a provider may name its events as it likes"
        );
        assert_eq!(TraceBy::named("evt_12345"), TraceBy::Text("evt_12345".into()));
        assert_eq!(TraceBy::named("cashback:r_1"), TraceBy::Text("cashback:r_1".into()));
    }
}
