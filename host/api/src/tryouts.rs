//! What somebody who sets up a source or a destination tries it with: a test event, and a test delivery (promise O14).
//!
//! A test event is signed by the host with the source's own secret, goes through the edge as a provider's does, and is kept like one. A test
//! delivery is one signed request to a destination; nothing of it is kept.

use serde::{Deserialize, Serialize};
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::ids::{DestinationName, ReceiptId, RouteName, SourceName, TenantName};

/// A tenant's source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SourcePath {
    /// The tenant's name.
    pub tenant: TenantName,
    /// The source's name.
    pub source: SourceName,
}

/// Which test event is made.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TestEventBody {
    /// Its type, where the provider's events say one. Absent: `tollgate.test`, which only routes take that ask for no types. Routes that take it do
    /// what they do with any event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Makes the event and says what would be sent and which routes would take it; nothing is sent.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token; for the log.
    #[serde(default)]
    pub actor: String,
}

/// A test event of a source, sent or only made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TestEvent {
    /// Whose source it is.
    pub tenant: TenantName,
    /// The source.
    pub source: SourceName,
    /// Whether it was not sent.
    pub dry_run: bool,
    /// Its id, which says that it is a test.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Names the secret that signed it.
    pub signed_with: String,
    /// Its body, as it is signed. Events of the provider look so.
    pub body: String,
    /// The routes that take it, by the configuration of now.
    pub routes: Vec<RouteName>,
    /// What holds for others who call the source and not for the host itself: its networks, and what is presented beside the signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passes_over: Vec<String>,
    /// What the edge answered; null where it was not sent.
    pub answer: Option<EdgeAnswer>,
}

/// What the edge answered to a test event, as a provider is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct EdgeAnswer {
    /// The status.
    pub http_status: u16,
    /// The beginning of the answer's body.
    pub says: String,
    /// Until the answer was there, in microseconds.
    pub duration_us: u64,
    /// The receipt of the event; null where none was kept.
    pub receipt: Option<ReceiptId>,
}

/// How a destination is tried.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TestDeliveryBody {
    /// Says what would be sent, and sends nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token; for the log.
    #[serde(default)]
    pub actor: String,
}

/// One signed request to a destination, made or only composed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TestDelivery {
    /// Whose destination it is.
    pub tenant: TenantName,
    /// The destination.
    pub destination: DestinationName,
    /// Whether it was not sent.
    pub dry_run: bool,
    /// Where it goes, `mailto:` where people are written to; of a destination of the operator's file without what stands behind the host.
    pub url: String,
    /// Its `webhook-id`, which says that it is a test.
    pub message_id: String,
    /// The names of its headers, whose values may be secret; none of an e-mail.
    pub headers: Vec<String>,
    /// What is sent.
    pub body: String,
    /// How it ended; null where it was not sent.
    pub end: Option<AttemptEnd>,
    /// Whether the destination took it, as it would have to take any delivery; null where it was not sent.
    pub delivered: Option<bool>,
    /// From its beginning to the end of the answer, in microseconds.
    pub duration_us: u64,
    /// The beginning of the answer's body, without secrets of the destination that it repeats.
    pub answer: String,
}
