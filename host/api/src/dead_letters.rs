//! What was given up.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{
    ActionId, DeadLetterId, DestinationName, JobId, OutboxId, ReceiptId, RouteName, SourceName, TenantName,
};
use tollgate_core::time::UnixMillis;

use crate::check::{parse, rows, since};

/// Narrows the dead-letter queue. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Only this one.
    pub id: Option<DeadLetterId>,
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
    /// Only those whose event came in at this source.
    pub source: Option<SourceName>,
    /// Only jobs of this route.
    pub route: Option<RouteName>,
    /// Only deliveries to this destination.
    pub destination: Option<DestinationName>,
    /// Only those that died at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those whose reason contains this text.
    pub reason: Option<String>,
    /// Those already replayed as well.
    pub with_replayed: bool,
    /// Only those behind this one in the list: it goes on where the last one ended.
    pub after: Option<DeadLetterId>,
    /// The most rows that are returned.
    pub rows_max: usize,
}

/// What was given up, with its replay context.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// Names the dead letter.
    pub id: DeadLetterId,
    /// What was given up.
    #[serde(flatten)]
    pub work: DeadWork,
    /// Whose it is.
    pub tenant: TenantName,
    /// Where the event came in.
    pub source: SourceName,
    /// The receipt of the event.
    pub receipt: ReceiptId,
    /// The provider's id of the event.
    pub event_id: String,
    /// The provider's type of the event.
    pub event_type: String,
    /// What the event is about, where that is known.
    pub subject: Option<String>,
    /// When it was given up (RFC 3339).
    pub died_at: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// The beginning of what its destination answered to the last attempt; of a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// When it was replayed (RFC 3339); null while it is open.
    pub replayed_at: Option<String>,
}

/// The work that a dead letter is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum DeadWork {
    /// A job whose runs were exhausted or failed for good.
    Job {
        /// The job.
        job: JobId,
        /// The route that it is on.
        route: RouteName,
    },
    /// An action that could not be delivered.
    Delivery {
        /// The outbox entry.
        entry: OutboxId,
        /// Where it was to go.
        destination: DestinationName,
        /// The action that it carries.
        action: ActionId,
        /// The name of the action's business effect.
        operation_key: String,
    },
}

/// A filter on the dead-letter queue, as query parameters, JSON and command line flags alike.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterQuery {
    /// One dead letter, for example dead_7
    #[cfg_attr(feature = "cli", arg(skip))]
    pub id: Option<String>,
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    pub tenant: Option<String>,
    /// Only those whose event came in at this source
    #[cfg_attr(feature = "cli", arg(long))]
    pub source: Option<String>,
    /// Only jobs of this route
    #[cfg_attr(feature = "cli", arg(long))]
    pub route: Option<String>,
    /// Only deliveries to this destination
    #[cfg_attr(feature = "cli", arg(long))]
    pub destination: Option<String>,
    /// Only those that died at or after this instant (RFC 3339)
    #[cfg_attr(feature = "cli", arg(long))]
    pub since: Option<String>,
    /// Only those whose reason contains this text
    #[cfg_attr(feature = "cli", arg(long))]
    pub reason: Option<String>,
    /// Those already replayed as well
    #[cfg_attr(feature = "cli", arg(long))]
    pub with_replayed: bool,
    /// Go on behind this one, the last of the list before (dead_7)
    #[cfg_attr(feature = "cli", arg(long))]
    pub after: Option<String>,
    /// At most this many, newest first
    #[cfg_attr(feature = "cli", arg(long))]
    pub limit: Option<u64>,
}

impl DeadLetterQuery {
    /// Checks the filter.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<DeadLetterFilter, String> {
        Ok(DeadLetterFilter {
            id: parse("id", self.id)?,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            route: parse("route", self.route)?,
            destination: parse("destination", self.destination)?,
            since: since(self.since)?,
            reason: self.reason,
            with_replayed: self.with_replayed,
            after: parse("after", self.after)?,
            rows_max: rows(self.limit),
        })
    }
}
