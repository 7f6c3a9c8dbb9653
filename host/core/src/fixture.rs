//! Fixtures: one event with its configuration and state, and how the run must end. Authors keep them beside a plugin; what a
//! plugin does with them is the same on every machine, so they are compared to the letter.
//!
//! ```json
//! {
//!   "event": { "type": "reward.redeemed", "attributes": { "customer": "user_678" }, "payload": { "order": 7 } },
//!   "config": { "rate_bps": 500 },
//!   "state": { "customer/user_678": { "credited": 25 } },
//!   "expect": { "refuse": "type `reward.redeemed` earns nothing" }
//! }
//! ```
//!
//! A file may hold several events instead, in the order in which they come: each meets the state that those before it left. Their
//! configuration and the state that the first one meets stand beside them.
//!
//! ```json
//! {
//!   "config": { "events_max": 1 },
//!   "events": [
//!     { "event": { "type": "order.paid", "id": "evt_1" }, "expect": { "actions": [] } },
//!     { "event": { "type": "order.paid", "id": "evt_2" }, "expect": { "hold": "two in one hour" } }
//!   ]
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::action::{Action, ActionKind, Proposal, UncheckedAction};
use crate::event::{Event, StatusReading};
use crate::grant::{self, Grant, Violation};
use crate::ids::{EventId, EventType, FamilyName, SourceName, Status, Subject, TenantName};
use crate::limits::MINOR_UNITS_MAX;
use crate::money::{Currency, Money};
use crate::outcome::{Fault, Outcome};
use crate::state::{StateValue, StateWrite};
use crate::time::UnixMillis;

/// Starts a state value that is no text, in base64.
const BASE64_PREFIX: &str = "base64:";
/// What an event that says nothing of it was received at: 2026-05-05T10:00:00Z, as in the SDK's tests.
const RECEIVED_AT: UnixMillis = UnixMillis(1_777_975_200_000);

/// One fixture, checked.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// What the plugin is given.
    pub event: Event,
    /// The route's configuration, a JSON document.
    pub config_json: String,
    /// The state that the run meets.
    pub state: State,
    /// How the run must end; none in a fixture that is still to be filled in.
    pub expect: Option<Ending>,
}

/// The events of a fixture's file, which come one after the other, over one state. Most files have one.
#[derive(Debug, Clone)]
pub struct Series {
    /// At least one. Only the first has a state of its own.
    steps: Vec<Fixture>,
}

/// The most events that one file may have.
pub const SERIES_EVENTS_MAX: usize = 64;

/// A plugin's whole state, by key.
pub type State = BTreeMap<String, Vec<u8>>;

/// How a run ended, as a fixture says it: exactly one of `actions`, `refuse`, `hold` and `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// The plugin completed with these actions, in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<Acted>>,
    /// The plugin refused the event with this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse: Option<String>,
    /// The plugin asked for a person with this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The plugin asked for another try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Later>,
    /// What the run wrote: each key's new value, or null where it was removed. Left out, it is not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BTreeMap<String, Value>>,
}

/// One action under its operation key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acted {
    /// The name of the business effect.
    pub operation_key: String,
    /// What is asked for.
    pub action: Action,
}

/// The plugin asked for another try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Later {
    /// The wait that it asked for, in milliseconds; without one, the host's retry policy decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Why, as the plugin says it.
    pub message: String,
}

/// Why a document is no fixture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FixtureError {
    /// The document cannot be read.
    #[error("it is not JSON as expected: {reason}")]
    Json {
        /// What is wrong, in words.
        reason: String,
    },
    /// A file has no event, or too many.
    #[error("`events` lists {count} events; 1 to {SERIES_EVENTS_MAX} are allowed")]
    Count {
        /// How many it lists.
        count: usize,
    },
    /// One event of several is wrong.
    #[error("`events[{at}]`: {error}")]
    Step {
        /// Its position in `events`, from 0.
        at: usize,
        /// What is wrong with it.
        error: Box<FixtureError>,
    },
    /// A status means nothing without its family.
    #[error("`event` has a status and no family; name the family, for example \"reward-redemption\"")]
    StatusWithoutFamily,
    /// A time is not in the form of RFC 3339.
    #[error("`event.{field}` is `{found}`; write an instant such as 2026-05-05T10:00:00Z")]
    Instant {
        /// The field of `event`.
        field: &'static str,
        /// What it says.
        found: String,
    },
    /// A state value that should be base64 is none.
    #[error("`state`: `{key}` starts with `base64:` and is no base64")]
    Base64 {
        /// The key of the value.
        key: String,
    },
    /// An expectation has no ending, or several.
    #[error("`expect` must have exactly one of `actions`, `refuse`, `hold` and `retry`")]
    NotOneEnding,
    /// An action is not as the host would write it, so a misspelt field would be ignored.
    #[error(
        "`expect.actions`: action {at} has a field that a `{kind}` has not, or writes one otherwise; it reads {canonical}"
    )]
    StrangeAction {
        /// Its position in `expect.actions`, from 0.
        at: usize,
        /// The kind that it names.
        kind: ActionKind,
        /// The action as the host reads it.
        canonical: String,
    },
}

/// A run that a fixture cannot expect: something is wrong with the plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: {message}")]
pub struct Broken {
    /// What was wrong with the run.
    pub fault: Fault,
    /// What the host says about it.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFixture {
    event: RawEvent,
    #[serde(default)]
    config: Option<Box<RawValue>>,
    #[serde(default)]
    state: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    expect: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    events: Vec<RawStep>,
    #[serde(default)]
    config: Option<Box<RawValue>>,
    #[serde(default)]
    state: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    event: RawEvent,
    #[serde(default)]
    expect: Option<Value>,
}

/// Which of the two forms a file has.
#[derive(Deserialize)]
struct Form {
    events: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    tenant: Option<TenantName>,
    source: Option<SourceName>,
    id: Option<EventId>,
    #[serde(rename = "type")]
    event_type: EventType,
    subject: Option<Subject>,
    family: Option<FamilyName>,
    status: Option<Status>,
    occurred_at: Option<String>,
    received_at: Option<String>,
    amount: Option<Money>,
    #[serde(default)]
    attributes: Pairs,
    payload: Option<Box<RawValue>>,
}

impl Fixture {
    /// Reads a fixture.
    ///
    /// # Errors
    /// The first thing that is wrong, naming the field.
    pub fn from_json(json: &[u8]) -> Result<Self, FixtureError> {
        let raw: RawFixture = serde_json::from_slice(json).map_err(not_json)?;
        Ok(Self {
            event: raw.event.check()?,
            config_json: raw.config.map_or_else(|| "{}".to_owned(), |config| compact(&config)),
            state: state(raw.state)?,
            expect: raw.expect.map(Ending::check).transpose()?,
        })
    }

    /// Reads an event that stands alone, in the form that it has in a fixture.
    ///
    /// # Errors
    /// As [`Fixture::from_json`].
    pub fn of_event(json: &[u8]) -> Result<Self, FixtureError> {
        let raw: RawEvent = serde_json::from_slice(json).map_err(not_json)?;
        Ok(Self {
            event: raw.check()?,
            config_json: "{}".to_owned(),
            state: State::new(),
            expect: None,
        })
    }

    /// Writes the fixture as a file has it, so that [`Fixture::from_json`] reads the same; of a body that is JSON, without the space between
    /// its tokens.
    ///
    /// # Errors
    /// In words, when the event's body is no text: no file can hold it.
    pub fn to_json(&self) -> Result<String, String> {
        let event = &self.event;
        let body = std::str::from_utf8(&event.payload)
            .map_err(|_| "the event's body is no UTF-8, and a fixture can hold none such".to_owned())?;
        let written = Written {
            event: WrittenEvent {
                tenant: &event.tenant,
                source: &event.source,
                id: &event.id,
                event_type: &event.event_type,
                subject: event.subject.as_ref(),
                family: event.reading.family(),
                status: event.reading.status(),
                occurred_at: event.occurred_at.map(|at| at.to_string()),
                received_at: event.received_at.to_string(),
                amount: event.amount,
                attributes: WrittenPairs(&event.attributes),
                payload: as_it_is(body),
            },
            config: as_it_is(&self.config_json),
            state: self
                .state
                .iter()
                .map(|(key, value)| (key.as_str(), written_value(value)))
                .collect(),
            expect: self.expect.as_ref(),
        };
        serde_json::to_string_pretty(&written).map_err(|error| error.to_string())
    }

    /// What the fixture's state has under a key: version 1, or 0 where there is nothing.
    pub fn read(&self, key: &str) -> StateValue {
        let value = self.state.get(key).cloned();
        StateValue {
            version: i64::from(value.is_some()),
            value,
        }
    }
}

impl Series {
    /// Reads a fixture's file in either form.
    ///
    /// # Errors
    /// The first thing that is wrong, naming the field, and the event where there are several.
    pub fn from_json(json: &[u8]) -> Result<Self, FixtureError> {
        // The reader of one event reports a document that is no object at all.
        let is_series = serde_json::from_slice(json).is_ok_and(|form: Form| form.events.is_some());
        if !is_series {
            return Ok(Self {
                steps: vec![Fixture::from_json(json)?],
            });
        }
        let raw: RawSeries = serde_json::from_slice(json).map_err(not_json)?;
        let count = raw.events.len();
        if count == 0 || count > SERIES_EVENTS_MAX {
            return Err(FixtureError::Count { count });
        }
        let config_json = raw.config.map_or_else(|| "{}".to_owned(), |config| compact(&config));
        let mut first = state(raw.state)?;
        let steps = raw.events.into_iter().enumerate().map(|(at, step)| {
            let at_step = |error| FixtureError::Step {
                at,
                error: Box::new(error),
            };
            Ok(Fixture {
                event: step.event.check().map_err(at_step)?,
                config_json: config_json.clone(),
                state: std::mem::take(&mut first),
                expect: step.expect.map(Ending::check).transpose().map_err(at_step)?,
            })
        });
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
        })
    }

    /// How many events it has, at least 1.
    pub fn count(&self) -> usize {
        self.steps.len()
    }

    /// The event and the state of a file that has just one.
    pub fn only(&self) -> Option<&Fixture> {
        match &self.steps[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What the event at `at` is called, from 0: the file's name, with its place where there are several.
    pub fn name(&self, file: &str, at: usize) -> String {
        match self.only() {
            Some(_) => file.to_owned(),
            None => format!("{file}[{at}]"),
        }
    }

    /// Runs each event in its order over the state that those before it left. `run` returns what it makes of one event, and what that wrote:
    /// as on a host, nothing unless the run completed.
    pub fn play<R>(&self, mut run: impl FnMut(&Fixture) -> (R, Vec<StateWrite>)) -> Vec<R> {
        let mut state = State::new();
        let mut results = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            let met = Fixture {
                state: if at == 0 { step.state.clone() } else { state },
                ..step.clone()
            };
            let (result, writes) = run(&met);
            state = met.state;
            for StateWrite { key, value } in writes {
                match value {
                    Some(value) => state.insert(key, value),
                    None => state.remove(&key),
                };
            }
            results.push(result);
        }
        results
    }
}

impl From<Fixture> for Series {
    fn from(only: Fixture) -> Self {
        Self { steps: vec![only] }
    }
}

/// Reads a plugin's state: an object of keys. A text stands for its bytes, `base64:…` for bytes that are no text, and anything
/// else for its JSON.
///
/// # Errors
/// When it is no such object.
pub fn state_from_json(json: &[u8]) -> Result<State, FixtureError> {
    state(serde_json::from_slice(json).map_err(not_json)?)
}

fn state(raw: BTreeMap<String, Box<RawValue>>) -> Result<State, FixtureError> {
    raw.into_iter()
        .map(|(key, value)| {
            let bytes = bytes_of(&value).ok_or_else(|| FixtureError::Base64 { key: key.clone() })?;
            Ok((key, bytes))
        })
        .collect()
}

fn not_json(error: serde_json::Error) -> FixtureError {
    FixtureError::Json {
        reason: error.to_string(),
    }
}

impl RawEvent {
    fn check(self) -> Result<Event, FixtureError> {
        let instant = |field, text: Option<String>| {
            text.map(|text| UnixMillis::from_rfc3339(&text).ok_or(FixtureError::Instant { field, found: text }))
                .transpose()
        };
        let reading = match (self.family, self.status) {
            (None, None) => StatusReading::Stateless,
            (None, Some(_)) => return Err(FixtureError::StatusWithoutFamily),
            (Some(family), None) => StatusReading::Unmapped { family, label: None },
            (Some(family), Some(status)) => StatusReading::Mapped { family, status },
        };
        Ok(Event {
            tenant: self.tenant.unwrap_or_else(|| known(TenantName::new("test-tenant"))),
            source: self.source.unwrap_or_else(|| known(SourceName::new("test-source"))),
            id: self.id.unwrap_or_else(|| known(EventId::new("evt_1"))),
            event_type: self.event_type,
            subject: self.subject,
            reading,
            occurred_at: instant("occurred_at", self.occurred_at)?,
            received_at: instant("received_at", self.received_at)?.unwrap_or(RECEIVED_AT),
            amount: self.amount,
            attributes: self.attributes.0,
            payload: Bytes::from(match self.payload {
                None => "{}".to_owned(),
                Some(payload) => text(&payload).unwrap_or_else(|| compact(&payload)),
            }),
        })
    }
}

fn known<T>(id: Result<T, crate::ids::IdError>) -> T {
    id.expect("the name is written in this file")
}

impl Ending {
    fn check(raw: Value) -> Result<Self, FixtureError> {
        let actions = raw.get("actions").cloned();
        let ending: Self = serde_json::from_value(raw).map_err(|error| FixtureError::Json {
            reason: format!("`expect`: {error}"),
        })?;
        let ends = [
            ending.actions.is_some(),
            ending.refuse.is_some(),
            ending.hold.is_some(),
            ending.retry.is_some(),
        ];
        if ends.into_iter().filter(|end| *end).count() != 1 {
            return Err(FixtureError::NotOneEnding);
        }
        // A misspelt field of an action would be dropped in silence, so each must be what the host would write.
        let written = actions.as_ref().and_then(Value::as_array).into_iter().flatten();
        for (at, (acted, written)) in ending.actions.iter().flatten().zip(written).enumerate() {
            let canonical = serde_json::to_value(acted).unwrap_or_default();
            if canonical != *written {
                return Err(FixtureError::StrangeAction {
                    at,
                    kind: acted.action.kind(),
                    canonical: canonical.to_string(),
                });
            }
        }
        Ok(ending)
    }

    /// How a run ended. Its proposals are judged as by a route that grants all that the manifest lists.
    ///
    /// # Errors
    /// When the run is faulty, or proposed what no host would take.
    pub fn of(outcome: &Outcome, kinds: &[ActionKind], writes: &[StateWrite]) -> Result<Self, Broken> {
        let mut ending = Self {
            actions: None,
            refuse: None,
            hold: None,
            retry: None,
            state: None,
        };
        match outcome {
            Outcome::Completed { proposals } => {
                let granted = grant::judge(proposals.clone(), &everything(kinds, proposals)).map_err(not_taken)?;
                let acted = granted.into_iter().map(|granted| Acted {
                    operation_key: granted.operation_key().to_string(),
                    action: granted.action().clone(),
                });
                ending.actions = Some(acted.collect());
            }
            Outcome::Refused { message } => ending.refuse = Some(message.clone()),
            Outcome::Held { message } => ending.hold = Some(message.clone()),
            Outcome::RetryAfter { after_ms, message } => {
                ending.retry = Some(Later {
                    after_ms: *after_ms,
                    message: message.clone(),
                });
            }
            Outcome::Fault { fault, message } => {
                return Err(Broken {
                    fault: *fault,
                    message: message.clone(),
                });
            }
        }
        if !writes.is_empty() {
            let written = writes.iter().map(|write| {
                let value = write.value.as_deref().map_or(Value::Null, value_of);
                (write.key.clone(), value)
            });
            ending.state = Some(written.collect());
        }
        Ok(ending)
    }

    /// Whether a run that ended as `found` is what this expects.
    pub fn allows(&self, found: &Self) -> bool {
        let empty = BTreeMap::new();
        let same_state = self
            .state
            .as_ref()
            .is_none_or(|expected| expected == found.state.as_ref().unwrap_or(&empty));
        let end = |ending: &Self| Self {
            state: None,
            ..ending.clone()
        };
        same_state && end(self) == end(found)
    }
}

/// Grants for all that the manifest lists, without bounds.
fn everything(kinds: &[ActionKind], proposals: &[Proposal]) -> Vec<Grant> {
    let mut currencies = Vec::new();
    let mut extensions = Vec::new();
    for proposal in proposals {
        match &proposal.action {
            UncheckedAction::Credit(transfer) | UncheckedAction::Debit(transfer) => {
                currencies.extend(Currency::new(&transfer.amount.currency));
            }
            UncheckedAction::IssueGiftCard { amount, .. } => currencies.extend(Currency::new(&amount.currency)),
            UncheckedAction::Extension(extension) => extensions.push(extension.name.clone()),
            UncheckedAction::ReserveStock(_)
            | UncheckedAction::ReleaseStock(_)
            | UncheckedAction::Flag(_)
            | UncheckedAction::Notify(_) => {}
        }
    }
    kinds
        .iter()
        .map(|kind| Grant {
            amount_max: Some(MINOR_UNITS_MAX),
            currencies: currencies.clone(),
            extensions: extensions.clone(),
            ..Grant::of(*kind)
        })
        .collect()
}

fn not_taken(violation: Violation) -> Broken {
    Broken {
        fault: Fault::InvalidOutput,
        message: match violation {
            Violation::NotGranted { at, kind } => {
                format!("action {at}: the manifest's `actions` does not list `{kind}`")
            }
            other => other.to_string(),
        },
    }
}

/// An object's texts in the order in which they are written.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[derive(Serialize)]
struct Written<'a> {
    event: WrittenEvent<'a>,
    config: Box<RawValue>,
    state: BTreeMap<&'a str, Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'a Ending>,
}

#[derive(Serialize)]
struct WrittenEvent<'a> {
    tenant: &'a TenantName,
    source: &'a SourceName,
    id: &'a EventId,
    #[serde(rename = "type")]
    event_type: &'a EventType,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a Subject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'a FamilyName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    attributes: WrittenPairs<'a>,
    payload: Box<RawValue>,
}

struct WrittenPairs<'a>(&'a [(String, String)]);

impl Serialize for WrittenPairs<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A text that is a JSON document as itself, and any other as a string; so is a document that is a string, or null, which says that there is none.
fn as_it_is(text: &str) -> Box<RawValue> {
    let document = RawValue::from_string(text.to_owned()).ok();
    document
        .filter(|document| !document.get().starts_with('"') && document.get() != "null")
        .unwrap_or_else(|| quoted(&Value::String(text.to_owned())))
}

/// As [`value_of`], with the digits of numbers as they are.
fn written_value(bytes: &[u8]) -> Box<RawValue> {
    let value = value_of(bytes);
    let document = std::str::from_utf8(bytes).ok().filter(|_| !value.is_string());
    let document = document.and_then(|text| RawValue::from_string(text.to_owned()).ok());
    document.unwrap_or_else(|| quoted(&value))
}

fn quoted(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value that was just written is JSON")
}

/// The bytes that a fixture's value stands for.
fn bytes_of(value: &RawValue) -> Option<Vec<u8>> {
    match text(value) {
        Some(text) => match text.strip_prefix(BASE64_PREFIX) {
            Some(encoded) => BASE64.decode(encoded.as_bytes()).ok(),
            None => Some(text.into_bytes()),
        },
        None => Some(compact(value).into_bytes()),
    }
}

/// What a JSON string says; none for other documents.
fn text(value: &RawValue) -> Option<String> {
    value
        .get()
        .starts_with('"')
        .then(|| serde_json::from_str(value.get()).ok())?
}

/// A document without the space between its tokens. Its order and its numbers stay as they are written, so that a run gets the
/// same bytes from every build of this crate.
fn compact(document: &RawValue) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let stays = |c: &char| {
        if *c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && *c == '\\' && !escaped;
        quoted || !c.is_ascii_whitespace()
    };
    document.get().chars().filter(stays).collect()
}

/// A state value as a fixture writes it: JSON objects and lists as themselves, whatever space they have, other texts as
/// texts, and the rest in base64.
fn value_of(bytes: &[u8]) -> Value {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Value::String(format!("{BASE64_PREFIX}{}", BASE64.encode(bytes)));
    };
    match serde_json::from_str(text) {
        Ok(document @ (Value::Object(_) | Value::Array(_))) => document,
        _ if text.starts_with(BASE64_PREFIX) => Value::String(format!("{BASE64_PREFIX}{}", BASE64.encode(bytes))),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::UncheckedMoney;
    use crate::action::UncheckedTransfer;

    const GOOD: &str = r#"{
        "event": {"type": "a.b", "family": "order", "status": "completed", "amount": {"minor_units": 5, "currency": "USD"},
                  "occurred_at": "2026-05-05T09:00:00Z", "attributes": {"customer": "c"}, "payload": {"a": [1, 2]}},
        "config": {"rate_bps": 5},
        "state": {"text": "abc", "bytes": "base64:/w==", "json": {"n": 1}},
        "expect": {"actions": [{"operation_key": "k:1", "action":
            {"kind": "credit", "account": "c", "amount": {"minor_units": 5, "currency": "USD"}, "reason": "r"}}]}
    }"#;

    #[test]
    fn a_fixture_says_event_configuration_and_state() {
        let fixture = Fixture::from_json(GOOD.as_bytes()).unwrap();
        assert_eq!(fixture.event.tenant.as_str(), "test-tenant");
        assert_eq!(fixture.event.payload, r#"{"a":[1,2]}"#);
        assert_eq!(fixture.event.received_at, RECEIVED_AT);
        assert_eq!(
            fixture.event.received_at.since(fixture.event.occurred_at.unwrap()),
            3_600_000
        );
        assert_eq!(fixture.config_json, r#"{"rate_bps":5}"#);
        assert_eq!(fixture.read("text").value.as_deref(), Some(b"abc".as_slice()));
        assert_eq!(fixture.read("bytes").value.as_deref(), Some([0xff].as_slice()));
        assert_eq!(fixture.read("json").value.as_deref(), Some(br#"{"n":1}"#.as_slice()));
        assert_eq!(
            fixture.read("other"),
            StateValue {
                version: 0,
                value: None
            }
        );
        let event =
            br#"{"type": "a", "attributes": {"z": "1", "a": "2"}, "payload": {"z \"x\" \\\\": 1.10, "a": [1, "b c"]}}"#;
        let event = Fixture::of_event(event).unwrap().event;
        assert_eq!(event.payload, r#"{"z \"x\" \\\\":1.10,"a":[1,"b c"]}"#);
        assert_eq!(event.attributes[0].0, "z");
        let body = Fixture::of_event(br#"{"type": "a", "payload": "{ \"exact\": 1.10 }"}"#).unwrap();
        assert_eq!(body.event.payload, r#"{ "exact": 1.10 }"#);
    }

    #[test]
    fn a_fixture_that_is_written_reads_the_same() {
        let mut fixture = Fixture::from_json(GOOD.as_bytes()).unwrap();
        fixture.state.insert(
            "exact".to_owned(),
            b"{\"n\":1.10,\"big\":12345678901234567890123}".to_vec(),
        );
        for body in [
            r#"{"a":[1,2.50]}"#,
            "\"text\"",
            "a=1&b=2",
            "",
            "7",
            "null",
            "\u{feff}{}",
        ] {
            fixture.event.payload = Bytes::from(body.to_owned());
            let text = fixture.to_json().unwrap();
            let read = Fixture::from_json(text.as_bytes()).unwrap();
            assert_eq!(read.event.payload, fixture.event.payload, "{text}");
            assert_eq!(format!("{:?}", read.event), format!("{:?}", fixture.event), "{text}");
            assert_eq!(
                (&read.config_json, &read.state, &read.expect),
                (&fixture.config_json, &fixture.state, &fixture.expect),
                "{text}"
            );
        }
        fixture.event.payload = Bytes::from_static(&[0xff]);
        assert!(fixture.to_json().unwrap_err().contains("no UTF-8"));
    }

    #[test]
    fn what_is_wrong_with_a_fixture_is_named() {
        for (from, to, expect) in [
            (r#""event""#, r#""evnt""#, "unknown field `evnt`"),
            (
                r#""customer": "c""#,
                r#""customer": 1"#,
                "invalid type: integer `1`, expected a string",
            ),
            (r#""family": "order", "#, "", "a status and no family"),
            (
                "2026-05-05T09:00:00Z",
                "yesterday",
                "`event.occurred_at` is `yesterday`",
            ),
            ("base64:/w==", "base64:?", "`state`: `bytes` starts with"),
            (r#""expect": {"#, r#""expect": {"hold": "h", "#, "exactly one of"),
            (
                r#""reason": "r""#,
                r#""reason": "r", "note": "n""#,
                "action 0 has a field that a `credit` has not",
            ),
            (r#""reason""#, r#""reson""#, "missing field `reason`"),
            ("\"type\": \"a.b\",", "", "missing field `type`"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = Fixture::from_json(GOOD.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expect), "{to}: {error}");
        }
    }

    #[test]
    fn a_file_holds_one_event_or_several_over_one_state() {
        let one = Series::from_json(GOOD.as_bytes()).unwrap();
        assert_eq!((one.count(), one.name("paid", 0).as_str()), (1, "paid"));
        assert!(one.only().is_some());
        let several = r#"{"config": {"n": 1}, "state": {"count": "1", "gone": "x"}, "events": [
            {"event": {"type": "a", "id": "e1"}, "expect": {"actions": []}},
            {"event": {"type": "a", "id": "e2"}},
            {"event": {"type": "b", "id": "e3"}, "expect": {"refuse": "r"}}
        ]}"#;
        let series = Series::from_json(several.as_bytes()).unwrap();
        assert_eq!((series.count(), series.name("paid", 2).as_str()), (3, "paid[2]"));
        assert!(series.only().is_none());
        let text = |value: Option<&Vec<u8>>| value.map(|value| String::from_utf8(value.clone()).unwrap());
        let met = series.play(|fixture| {
            let count: u32 = text(fixture.state.get("count")).unwrap().parse().unwrap();
            let write = |key: &str, value: Option<String>| StateWrite {
                key: key.to_owned(),
                value: value.map(String::into_bytes),
            };
            let writes = vec![write("count", Some((count + 1).to_string())), write("gone", None)];
            let met = (
                fixture.event.id.to_string(),
                count,
                text(fixture.state.get("gone")),
                fixture.config_json.clone(),
            );
            (met, writes)
        });
        let expect = |id: &str, count, gone: Option<&str>| {
            (id.to_owned(), count, gone.map(str::to_owned), r#"{"n":1}"#.to_owned())
        };
        assert_eq!(
            met,
            [expect("e1", 1, Some("x")), expect("e2", 2, None), expect("e3", 3, None)]
        );
    }

    #[test]
    fn what_is_wrong_with_a_series_names_the_event() {
        let many = format!(r#"{{"events": [{}]}}"#, [r#"{"event": {"type": "a"}}"#; 65].join(","));
        for (json, expect) in [
            (r#"{"events": []}"#, "lists 0 events"),
            (many.as_str(), "lists 65 events"),
            (
                r#"{"events": [{"event": {"type": "a"}}, {"event": {"type": "a", "status": "s"}}]}"#,
                "`events[1]`: `event` has a status and no family",
            ),
            (
                r#"{"events": [{"event": {"type": "a"}, "expect": {}}]}"#,
                "`events[0]`: `expect` must have exactly one of",
            ),
            (
                r#"{"events": [{"event": {"type": "a"}, "state": {}}]}"#,
                "unknown field `state`",
            ),
            (
                r#"{"events": [{"event": {"type": "a"}}], "event": {"type": "a"}}"#,
                "unknown field `event`",
            ),
            (
                r#"{"events": [{"event": {"type": "a"}}], "expect": {"hold": "h"}}"#,
                "unknown field `expect`",
            ),
        ] {
            let error = Series::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{json}: {error}");
        }
    }

    fn credit(key: &str) -> Outcome {
        let action = UncheckedAction::Credit(UncheckedTransfer {
            account: "c".to_owned(),
            amount: UncheckedMoney {
                minor_units: 5,
                currency: "USD".to_owned(),
            },
            reason: "r".to_owned(),
        });
        Outcome::Completed {
            proposals: vec![Proposal {
                operation_key: key.to_owned(),
                action,
            }],
        }
    }

    #[test]
    fn an_ending_is_what_was_expected_or_not() {
        let expect = Fixture::from_json(GOOD.as_bytes()).unwrap().expect.unwrap();
        let write = |value: &[u8]| {
            vec![StateWrite {
                key: "k".to_owned(),
                value: Some(value.to_vec()),
            }]
        };
        let of = |outcome, writes: &[StateWrite]| Ending::of(&outcome, &[ActionKind::Credit], writes).unwrap();
        assert!(expect.allows(&of(credit("k:1"), &[])));
        assert!(
            expect.allows(&of(credit("k:1"), &write(b"x"))),
            "state is not asked for"
        );
        assert!(!expect.allows(&of(credit("k:2"), &[])));
        assert!(!expect.allows(&of(
            Outcome::Held {
                message: "h".to_owned()
            },
            &[]
        )));
        let with_state = Ending {
            state: Some([("k".to_owned(), serde_json::json!({"n": 1}))].into()),
            ..expect
        };
        assert!(
            with_state.allows(&of(credit("k:1"), &write(br#"{ "n": 1 }"#))),
            "space decides nothing"
        );
        assert!(!with_state.allows(&of(credit("k:1"), &write(br#"{"n":2}"#))));
        assert!(!with_state.allows(&of(credit("k:1"), &[])));
    }

    #[test]
    fn what_no_host_would_take_is_broken() {
        let broken = Ending::of(&credit("k:1"), &[ActionKind::Flag], &[]).unwrap_err();
        assert_eq!(
            broken.to_string(),
            "invalid-output: action 0: the manifest's `actions` does not list `credit`"
        );
        let broken = Ending::of(&credit("not a key"), &[ActionKind::Credit], &[]).unwrap_err();
        assert_eq!(broken.fault, Fault::InvalidOutput);
        let trap = Outcome::Fault {
            fault: Fault::Trap,
            message: "boom".to_owned(),
        };
        assert_eq!(Ending::of(&trap, &[], &[]).unwrap_err().to_string(), "trap: boom");
    }

    #[test]
    fn state_values_are_written_as_they_are_read() {
        for bytes in [
            b"abc".as_slice(),
            b"",
            &[0xff, 0],
            b"base64:abc",
            b"12",
            b"\"quoted\"",
            br#"{"n":[1]}"#,
        ] {
            let written = RawValue::from_string(value_of(bytes).to_string()).unwrap();
            assert_eq!(bytes_of(&written).as_deref(), Some(bytes), "{bytes:?}");
        }
    }
}
