//! The protocol between the worker component and a plugin's runner, over service chaining: one POST with a [`Request`], one
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
/// The path at which a plugin's component answers with that header only.
pub const DIGEST_PATH: &str = "/digest";

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// What the plugin is to act on.
    pub event: Event,
    /// The route's configuration, a JSON document.
    pub config: String,
    /// Keys of the plugin's state with their values.
    pub state: Vec<Value>,
    /// Whether `state` is all of the plugin's state.
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
    /// Whose event it is.
    pub tenant: String,
    /// Where it came in.
    pub source: String,
    /// The provider's id.
    pub id: String,
    /// The provider's type.
    pub event_type: String,
    /// What it is about, where the profile reads that.
    pub subject: Option<String>,
    /// The family of its lifecycle, where it has one.
    pub family: Option<String>,
    /// The lifecycle status, where it is mapped.
    pub status: Option<String>,
    /// When it happened, as the provider says, in milliseconds since the Unix epoch.
    pub occurred_at_ms: Option<i64>,
    /// When the request had come in, in milliseconds since the Unix epoch.
    pub received_at_ms: i64,
    /// The money that it is about, where the profile reads that.
    pub amount: Option<Money>,
    /// Further named values, in the profile's order.
    pub attributes: Vec<(String, String)>,
    /// The body as it was signed.
    pub payload: String,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// In minor units of the currency.
    pub minor_units: i64,
    /// A currency code such as USD; from a plugin it may be none.
    pub currency: String,
}

/// One key of the plugin's state with its version; version 0 and no bytes when there is no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// The plugin's name for the value.
    pub key: String,
    /// Rises with each write of the key.
    pub version: i64,
    /// The bytes; none when the key does not exist.
    pub value: Option<Bytes>,
}

/// A buffered write; `None` removes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The plugin's name for the value.
    pub key: String,
    /// The new bytes; none removes the key.
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

/// A run that came to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended.
    pub result: Outcome,
    /// The fuel that the plugin's instance used.
    pub fuel: u64,
    /// The state that it read, sorted by key.
    pub reads: Vec<Value>,
    /// The state that it would write, sorted by key.
    pub writes: Vec<Write>,
    /// What the plugin logged, in its order.
    pub logs: Vec<Line>,
}

/// `tollgate:plugin/types.failure` and proposals; or a bound that the run crossed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The plugin completed, and asks for these actions.
    Proposals(Vec<Proposal>),
    /// The plugin says that the event is not for its rule, and why.
    Refused(String),
    /// The plugin asks for a person, and says why.
    Held(String),
    /// The plugin asks for another try.
    Retry {
        /// The wait that it asks for, in milliseconds.
        after_ms: Option<u64>,
        /// Why, as the plugin says it.
        message: String,
    },
    /// `fault` is `tollgate_core::outcome::Fault::as_str`.
    Stopped {
        /// How the run failed.
        fault: String,
        /// Details, for the author of the plugin.
        message: String,
    },
}

/// A line that the plugin logged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// 0 debug, 1 info, 2 warn, 3 error.
    pub level: u8,
    /// What the plugin said.
    pub message: String,
}

/// An action that the plugin asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proposal {
    /// The name of the business effect, not yet checked.
    pub operation_key: String,
    /// What is asked for, not yet checked.
    pub action: Action,
}

/// `tollgate:plugin/types.action`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Adds value to an account.
    Credit(Transfer),
    /// Takes value from an account.
    Debit(Transfer),
    /// Holds stock.
    ReserveStock(Stock),
    /// Lets held stock go.
    ReleaseStock(Stock),
    /// Issues a gift card.
    IssueGiftCard(GiftCard),
    /// Marks a subject as suspicious.
    Flag(Flag),
    /// Sends somebody a message.
    Notify(Notice),
    /// Does something that the contract has no case for.
    Extension(Extension),
}

/// `tollgate:plugin/types.transfer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transfer {
    /// Whose balance changes.
    pub account: String,
    /// How much is moved.
    pub amount: Money,
    /// Why, for people.
    pub reason: String,
}

/// `tollgate:plugin/types.stock`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stock {
    /// The article.
    pub sku: String,
    /// How many pieces.
    pub quantity: u32,
    /// What the stock is held for.
    pub reference: String,
}

/// `tollgate:plugin/types.gift-card`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GiftCard {
    /// Who gets the card.
    pub recipient: String,
    /// The value of the card.
    pub amount: Money,
    /// Which template it is made from.
    pub template: String,
}

/// `tollgate:plugin/types.flag`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flag {
    /// Who or what is judged.
    pub subject: String,
    /// From 0 (harmless) to 100 (certain).
    pub score: u32,
    /// Why, for people.
    pub reasons: Vec<String>,
}

/// `tollgate:plugin/types.notice`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notice {
    /// How it is sent.
    pub channel: String,
    /// Who gets it.
    pub recipient: String,
    /// Which template it is written from.
    pub template: String,
    /// What is put into the template, by name.
    pub values: Vec<(String, String)>,
}

/// `tollgate:plugin/types.extension`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Extension {
    /// The name that routes grant it by.
    pub kind: String,
    /// The schema of `body`.
    pub schema: String,
    /// A JSON document, not yet checked.
    pub body: String,
}
