//! Resend: sends again on purpose what was delivered.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{ActionId, DestinationName, Namespace, OutboxId, ReceiptId, SourceName, TenantName};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{instant, parse, rows_of_a_change, since};
use crate::trace::TraceBy;

/// A resend request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResendBody {
    /// Which deliveries are sent again.
    pub deliveries: SentQuery,
    /// Returns what would be sent, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
}

impl ResendBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when nothing narrows it, or a field is not what its name says, or nothing says why.
    pub fn checked(self) -> Result<AskedResend, String> {
        let of = self.deliveries.checked()?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        if self.why.trim().is_empty() && !self.dry_run {
            return Err("why: say why it is sent again: the history keeps it".to_owned());
        }
        Ok(AskedResend {
            of,
            dry_run: self.dry_run,
            actor: self.actor,
            why: self.why,
        })
    }
}

/// Deliveries that are sent again: one thing's, or those delivered that match, as JSON and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SentQuery {
    /// A delivery, an action or a receipt
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only those whose event came in at this source
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only to this destination
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only those delivered at or after this instant (RFC 3339)
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those delivered before this instant (RFC 3339)
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Go on behind this one, the last of the answer before (out_7)
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many, the oldest first
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl SentQuery {
    /// Checks the filter.
    ///
    /// # Errors
    /// In words, when a field is not what its name says, or when nothing narrows it: nobody means all that was ever delivered.
    pub fn checked(self) -> Result<SentFilter, String> {
        let narrowing = [
            &self.id,
            &self.tenant,
            &self.source,
            &self.destination,
            &self.since,
            &self.until,
        ];
        if narrowing.into_iter().all(Option::is_none) {
            return Err(
                "name a delivery (out_7), an action (act_7) or a receipt (rcpt_…), or narrow by tenant, source, destination, \
                 since or until: all that was ever delivered is never sent again at once"
                    .to_owned(),
            );
        }
        let of = self.id.map(|id| match TraceBy::named(&id) {
            TraceBy::Outbox(entry) => Ok(SentOf::Entry(entry)),
            TraceBy::Action(action) => Ok(SentOf::Action(action)),
            TraceBy::Receipt(receipt) => Ok(SentOf::Receipt(receipt)),
            TraceBy::Job(_) | TraceBy::Run(_) | TraceBy::DeadLetter(_) | TraceBy::Text(_) | TraceBy::Newest => {
                Err(format!(
                    "id: `{}` is no delivery (out_7), action (act_7) or receipt (rcpt_…)",
                    mask::line(&id, 100)
                ))
            }
        });
        Ok(SentFilter {
            of: of.transpose()?,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            destination: parse("destination", self.destination)?,
            since: since(self.since)?,
            until: instant("until", self.until)?,
            after: parse("after", self.after)?,
            rows_max: rows_of_a_change(self.limit),
        })
    }
}

/// A resend request, checked.
#[derive(Debug, Clone)]
pub struct AskedResend {
    /// Which deliveries are sent again.
    pub of: SentFilter,
    /// Whether nothing must be changed.
    pub dry_run: bool,
    /// Who asks, for the history.
    pub actor: String,
    /// The reason.
    pub why: String,
}

/// Which deliveries. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct SentFilter {
    /// Those of one thing, in whatever state they are; without it, only what was delivered.
    pub of: Option<SentOf>,
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
    /// Only those whose event came in at this source.
    pub source: Option<SourceName>,
    /// Only those to this destination.
    pub destination: Option<DestinationName>,
    /// Only those delivered at or after this instant, and before that one.
    pub since: Option<UnixMillis>,
    /// Only those delivered before this instant.
    pub until: Option<UnixMillis>,
    /// Only those behind this one in the list: it goes on where the last one ended.
    pub after: Option<OutboxId>,
    /// The most entries that are returned.
    pub rows_max: usize,
}

/// What deliveries are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentOf {
    /// One outbox entry.
    Entry(OutboxId),
    /// All entries of one action.
    Action(ActionId),
    /// All that the receipt's runs recorded.
    Receipt(ReceiptId),
}

/// One action and one destination, as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Sent {
    /// The outbox entry.
    pub entry: OutboxId,
    /// Where it goes.
    pub destination: DestinationName,
    /// How far it has come.
    #[serde(flatten)]
    pub state: SentState,
    /// The action that it carries.
    pub action: ActionId,
    /// The namespace of the operation key.
    pub namespace: Namespace,
    /// The kind of the action.
    pub kind: String,
    /// The name of the action's business effect.
    pub operation_key: String,
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
}

/// How far a delivery has come, and what a resend makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SentState {
    /// It is still on its way.
    Waiting,
    /// `at` is when it was the last time.
    Delivered {
        /// RFC 3339.
        at: String,
    },
    /// It was given up.
    Dead,
}

/// What a resend did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ResendReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What is sent again.
    pub resent: Vec<Sent>,
    /// What matches and is not sent again.
    pub passed_over: Vec<PassedOver>,
    /// Where there were more than one answer is about: the last that was looked at, behind which the next resend goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<OutboxId>,
}

/// A delivery that is not sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PassedOver {
    /// The delivery.
    #[serde(flatten)]
    pub sent: Sent,
    /// Why not.
    pub because: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resend_is_narrowed_and_says_why() {
        let body = |json: serde_json::Value| serde_json::from_value::<ResendBody>(json).unwrap().checked();
        for (deliveries, why, part) in [
            (serde_json::json!({}), "x", "is never sent again at once"),
            (
                serde_json::json!({ "limit": 5, "after": "out_1" }),
                "x",
                "is never sent again at once",
            ),
            (serde_json::json!({ "id": "job_7" }), "x", "`job_7` is no delivery"),
            (serde_json::json!({ "id": "evt_7" }), "x", "`evt_7` is no delivery"),
            (serde_json::json!({ "since": "noon" }), "x", "since: `noon`"),
            (serde_json::json!({ "id": "out_7" }), " ", "why: say why"),
            (serde_json::json!({ "id": "out_7" }), "a\nb", "why: byte 1"),
        ] {
            let said = body(serde_json::json!({ "deliveries": deliveries, "actor": "ana", "why": why })).unwrap_err();
            assert!(said.contains(part), "{deliveries}: {said}");
        }
        let asked =
            body(serde_json::json!({ "deliveries": { "id": "act_7" }, "actor": "ana", "dry_run": true })).unwrap();
        assert_eq!(asked.of.of, Some(SentOf::Action(ActionId(7))));
    }
}
