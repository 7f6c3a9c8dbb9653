//! The envelope: one versioned shape for every provider's event (promise I8).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{EventId, EventType, FamilyName, KeyId, ProviderName, SourceName, Status, Subject, TenantName};
use crate::money::Money;
use crate::time::UnixMillis;

/// Version of [`Event`]'s meaning, kept with each receipt.
pub const ENVELOPE_VERSION: u32 = 1;

/// One authentic event, in the shape that the rest of the host works with. Its JSON form leaves out the payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Whose source it came to.
    pub tenant: TenantName,
    /// Where it came in.
    pub source: SourceName,
    /// The provider's id; with a profile that has none, one that is made from the message.
    pub id: EventId,
    /// The provider's type.
    pub event_type: EventType,
    /// What it is about, where the profile reads that.
    pub subject: Option<Subject>,
    /// What the profile made of the provider's status.
    pub reading: StatusReading,
    /// When it happened, as the provider says; decides nothing.
    pub occurred_at: Option<UnixMillis>,
    /// When this host had the whole request.
    pub received_at: UnixMillis,
    /// The money that it is about, where the profile reads that.
    pub amount: Option<Money>,
    /// Further named values that the profile reads, in the profile's order.
    pub attributes: Vec<(String, String)>,
    /// The body exactly as signed; UTF-8, as every profile so far is JSON.
    #[serde(skip)]
    pub payload: Bytes,
}

/// What the profile's mapping made of the provider's status label (promise T5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reading", rename_all = "snake_case")]
pub enum StatusReading {
    /// The event belongs to no family with a lifecycle.
    Stateless,
    /// The label is mapped.
    Mapped {
        /// The family of the event's lifecycle.
        family: FamilyName,
        /// The status within it.
        status: Status,
    },
    /// The event belongs to a family, but its label is not mapped, or absent where the family needs one: held for review.
    Unmapped {
        /// The family of the event's lifecycle.
        family: FamilyName,
        /// The provider's own word for the status, if there was one.
        label: Option<String>,
    },
}

impl StatusReading {
    /// The family, where the event belongs to one.
    pub fn family(&self) -> Option<&FamilyName> {
        match self {
            Self::Stateless => None,
            Self::Mapped { family, .. } | Self::Unmapped { family, .. } => Some(family),
        }
    }

    /// The status, where it is mapped.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Mapped { status, .. } => Some(status),
            Self::Stateless | Self::Unmapped { .. } => None,
        }
    }
}

/// How a request was proved, kept with its receipt (promise T6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Proof {
    /// Whose profile it was.
    pub provider: ProviderName,
    /// Version of the profile whose rules verified and read the event.
    pub profile_version: u32,
    /// The scheme that matched, for example `v1`.
    pub scheme: String,
    /// Which of the source's secrets matched.
    pub key_id: KeyId,
    /// The instant inside the signed bytes, where the scheme has one.
    pub signed_at: Option<UnixMillis>,
}
