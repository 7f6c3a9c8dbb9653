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
    /// What the receipts are found by.
    pub by: TraceBy,
    /// Only receipts of this tenant.
    pub tenant: Option<TenantName>,
    /// Only receipts that were admitted before this one: a list goes on where the last one ended.
    pub after: Option<ReceiptId>,
    /// The most receipts that are returned.
    pub receipts_max: usize,
}

/// What receipts are found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceBy {
    /// The receipt itself.
    Receipt(ReceiptId),
    /// The receipt that the job is for.
    Job(JobId),
    /// The receipt whose job was run.
    Run(RunId),
    /// The receipt whose run recorded the action.
    Action(ActionId),
    /// The receipt whose action the outbox entry carries.
    Outbox(OutboxId),
    /// The receipt whose job or delivery was given up.
    DeadLetter(DeadLetterId),
    /// A provider's event id, a subject or an operation key, whichever it turns out to be.
    Text(String),
    /// The newest receipts.
    Newest,
}

impl TraceBy {
    /// What an identifier names, told by its form.
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
    /// What was admitted.
    pub receipt: ReceiptView,
    /// What a person decided about it, when it was held.
    pub review: Option<ReviewView>,
    /// How often the event was delivered again in all; `None` where it never was.
    pub redelivered: Option<Redelivered>,
    /// Further deliveries of the same event that are kept one by one, in their order. Further ones are only counted.
    pub deliveries: Vec<DeliveryView>,
    /// One for each route that took the event.
    pub jobs: Vec<JobView>,
    /// What people did to it: replays, reviews. The newest, at most 100.
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

/// A receipt as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReceiptView {
    /// Names the receipt.
    pub id: ReceiptId,
    /// Position in the order of admission.
    pub seq: i64,
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
    /// The family of the event's lifecycle, where it has one.
    pub family: Option<String>,
    /// The lifecycle status, where the provider's label is mapped.
    pub status: Option<String>,
    /// The version of the lifecycle that judged the event, if one did.
    pub lifecycle_version: Option<u32>,
    /// The money that the event is about, where it says any: amount and currency.
    pub amount: Option<String>,
    /// When the event happened, as the provider says (RFC 3339).
    pub occurred_at: Option<String>,
    /// What of the event is not read as it was sent: shortened, or left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_notes: Option<String>,
    /// The host made it itself, for somebody who tried the source: no provider sent it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_test: bool,
    /// Headers of the request that the source keeps, by name. No signature holds them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_headers: BTreeMap<String, String>,
    /// When the request had come in (RFC 3339).
    pub received_at: String,
    /// How the request was proved.
    pub proof: Proof,
    /// What became of it when it was admitted.
    #[serde(flatten)]
    pub disposition: Disposition,
    /// SHA-256 of the body.
    pub body_digest: Digest,
    /// How long the body is.
    pub body_bytes: usize,
}

/// A redelivery of an event whose receipt exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct DeliveryView {
    /// Names the delivery.
    pub id: DeliveryId,
    /// Counts from 2: the first delivery is the receipt itself.
    pub number: u32,
    /// When it came the first time (RFC 3339).
    pub received_at: String,
    /// `same`, `conflict` or `suspected-replay`.
    pub decision: String,
    /// The secret that verified it.
    pub key_id: String,
    /// SHA-256 of its body.
    pub body_digest: Digest,
    /// How often it came; more than once only for what is not the receipt's event.
    pub times: u64,
    /// When it came the last time (RFC 3339), where that was more than once.
    pub last_at: Option<String>,
    /// What a person decided about a conflict.
    pub review: Option<ReviewView>,
}

/// A job as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct JobView {
    /// Names the job.
    pub id: JobId,
    /// The route that it is on.
    pub route: RouteName,
    /// `ready`, `leased`, `done`, `held`, `dismissed` or `dead`.
    pub state: String,
    /// How often it was tried since it was made or last replayed.
    pub attempts: u32,
    /// When a waiting job is due.
    pub due_at: Option<String>,
    /// Why it is held or dead, or was last put off.
    pub reason: Option<String>,
    /// How often it was replayed.
    pub replays: u32,
    /// The newest, at most 100, in their order.
    pub runs: Vec<RunView>,
}

/// A run as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RunView {
    /// Names the run.
    pub id: RunId,
    /// Which attempt of the job it was, from 1.
    pub attempt: u32,
    /// The plugin that was run.
    pub plugin: PluginName,
    /// The author's version of it; absent where the registry never had the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version that was run.
    pub digest: PluginDigest,
    /// SHA-256 of the configuration that the plugin saw.
    pub config_digest: Digest,
    /// What ran it.
    pub runtime: String,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The fuel that it used.
    pub fuel: u64,
    /// How it ended.
    pub outcome: String,
    /// What the plugin or the host said about the end; empty for a completed run.
    pub message: String,
    /// What the plugin logged, line by line.
    pub logs: serde_json::Value,
    /// What it proposed, and what became of that.
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
    /// The name of the business effect.
    pub operation_key: String,
    /// What the ledger said.
    pub verdict: Verdict,
    /// What is recorded, or for a conflict what was proposed.
    pub action: Action,
    /// The action in words, for people.
    pub summary: String,
    /// What a person decided about a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
    /// One for each destination.
    pub deliveries: Vec<OutboxView>,
}

/// An outbox entry as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct OutboxView {
    /// Names the entry.
    pub id: OutboxId,
    /// The `webhook-id` that its destination sees.
    pub message_id: String,
    /// Where it goes.
    pub destination: DestinationName,
    /// `ready`, `leased`, `delivered` or `dead`.
    pub state: String,
    /// When a waiting entry is due (RFC 3339).
    pub due_at: Option<String>,
    /// Its attempts, the newest at most 100, in their order.
    pub attempts: Vec<AttemptView>,
}

/// One attempt to deliver.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct AttemptView {
    /// Which attempt it was, from 1.
    pub number: u32,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    #[serde(flatten)]
    pub end: AttemptEnd,
    /// The beginning of what the destination answered.
    pub answer: String,
    /// Set when it was delivered before, and somebody had it sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend: Option<ResendView>,
}

/// Who had deliveries sent again, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ResendView {
    /// Names the resend.
    pub id: ResendId,
    /// When it was asked for (RFC 3339).
    pub at: String,
    /// Who asked for it.
    pub actor: String,
    /// The reason.
    pub why: String,
}

/// Something that a person did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct HistoryView {
    /// When it was done (RFC 3339).
    pub at: String,
    /// What was done.
    pub what: String,
    /// Details, for people.
    pub detail: String,
}

/// Which receipts are traced.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TraceParameters {
    /// Any identifier; without one, the newest receipts.
    pub id: Option<String>,
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only receipts that were admitted before this one: the last of the list before.
    pub after: Option<String>,
    /// At most this many receipts, the newest first.
    pub limit: Option<u64>,
}

impl TraceParameters {
    /// Checks the question.
    ///
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
