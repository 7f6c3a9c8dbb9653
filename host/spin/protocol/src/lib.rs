//! What the ingest component and a plugin's runner say to each other, over service chaining: one POST with a [`Request`], one
//! [`Answer`], both JSON.
//!
//! A plugin reads its state during the call, but its component cannot reach the store. So the state travels with the request:
//! all of the plugin's state where that is small (`complete`), else what earlier rounds asked for. A run that asked for a key
//! which was not at hand is void and answers [`Answer::Missing`]; it is asked again with those keys. A plugin is a pure function
//! of event, configuration and state, so a void run leaves nothing behind.
//!
//! A runner answers 200 before the plugin is started. An answer that breaks off after that is the plugin's doing; anything else
//! is the host's.
#![forbid(unsafe_code)]

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The header of a runner's answer that names the enclosed plugin by its digest.
pub const DIGEST_HEADER: &str = "tollgate-plugin-digest";
/// Where a plugin's component answers with that header only.
pub const DIGEST_PATH: &str = "/digest";

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub event: Event,
    /// The route's configuration, a JSON document.
    pub config: String,
    pub state: Vec<Value>,
    /// Whether `state` is all that there is.
    pub complete: bool,
    /// What the run may use up, as natively: about one unit per instruction.
    pub fuel: u64,
    /// All memories and tables of the plugin together.
    pub memory_bytes: u64,
    /// An answer with more proposals is not handed over.
    pub proposals_max: usize,
}

/// `tollgate:plugin/types.event`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub tenant: String,
    pub source: String,
    pub id: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub family: Option<String>,
    pub status: Option<String>,
    pub occurred_at_ms: Option<i64>,
    pub received_at_ms: i64,
    pub amount: Option<Money>,
    pub attributes: Vec<(String, String)>,
    pub payload: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    pub minor_units: i64,
    pub currency: String,
}

/// One key of the plugin's state with its version; version 0 and no bytes when there is no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    pub key: String,
    pub version: i64,
    pub value: Option<Bytes>,
}

/// A buffered write; `None` removes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub key: String,
    pub value: Option<Bytes>,
}

/// Bytes that are base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        data_encoding::BASE64
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// What came of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The plugin came to its end.
    Ended(Ended),
    /// These keys were asked for and were not at hand. Nothing of the run counts.
    Missing(Vec<String>),
    /// The request cannot be read, which is the sender's fault and not the plugin's.
    Unreadable(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    pub result: Outcome,
    /// Used by the plugin's instance.
    pub fuel: u64,
    pub reads: Vec<Value>,
    pub writes: Vec<Write>,
    pub logs: Vec<Line>,
}

/// `tollgate:plugin/types.failure` and proposals; or a bound that the run crossed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Proposals(Vec<Proposal>),
    Refused(String),
    Held(String),
    Retry {
        after_ms: Option<u64>,
        message: String,
    },
    /// `fault` is `tollgate_core::outcome::Fault::as_str`.
    Stopped {
        fault: String,
        message: String,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// 0 debug, 1 info, 2 warn, 3 error.
    pub level: u8,
    pub message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proposal {
    pub operation_key: String,
    pub action: Action,
}

/// `tollgate:plugin/types.action`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Credit(Transfer),
    Debit(Transfer),
    ReserveStock(Stock),
    ReleaseStock(Stock),
    IssueGiftCard(GiftCard),
    Flag(Flag),
    Notify(Notice),
    Extension(Extension),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transfer {
    pub account: String,
    pub amount: Money,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stock {
    pub sku: String,
    pub quantity: u32,
    pub reference: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GiftCard {
    pub recipient: String,
    pub amount: Money,
    pub template: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flag {
    pub subject: String,
    pub score: u32,
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notice {
    pub channel: String,
    pub recipient: String,
    pub template: String,
    pub values: Vec<(String, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Extension {
    pub kind: String,
    pub schema: String,
    pub body: String,
}
