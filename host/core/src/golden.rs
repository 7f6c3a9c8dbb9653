//! Golden events: what a plugin's author says that it does, tried before the plugin is taken in.
//!
//! They travel inside the component as the custom section [`SECTION`], a JSON list of [`Golden`], so the digest covers them. A
//! component without one is tried on [`neutral`], of which is only asked that it ends in something other than a fault.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, StatusReading};
use crate::grant;
use crate::ids::{EventId, EventType, FamilyName, SourceName, Status, Subject, TenantName};
use crate::manifest::Manifest;
use crate::mask;
use crate::money::{Currency, Money};
use crate::outcome::Outcome;
use crate::time::UnixMillis;

/// The name of the custom section that holds golden events.
pub const SECTION: &str = "tollgate:golden";
/// The section's contents.
pub const SECTION_BYTES_MAX: usize = 256 * 1024;
/// Golden events of one component: each is a run before anything is published.
pub const EVENTS_MAX: usize = 16;

/// When a golden event says nothing of its time: 2026-01-01T00:00:00Z.
const RECEIVED_AT: UnixMillis = UnixMillis(1_767_225_600_000);

/// One golden event: what goes in, and what must come out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// For people: what it shows.
    pub name: String,
    pub event: GoldenEvent,
    /// The route's configuration; `{}` when absent.
    #[serde(default = "no_config")]
    pub config: Value,
    /// The plugin's state before, as texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, String>,
    /// [`Outcome::name`]; `completed` when absent.
    #[serde(default = "completed")]
    pub outcome: String,
    /// What is proposed, in order. Only for `completed`.
    #[serde(default)]
    pub actions: Vec<GoldenAction>,
}

fn no_config() -> Value {
    Value::Object(serde_json::Map::new())
}

fn completed() -> String {
    "completed".to_owned()
}

/// An event as an author writes it. What is absent has a value that no rule hangs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenEvent {
    #[serde(rename = "type")]
    pub event_type: EventType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Both or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<FamilyName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<GoldenAmount>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// The body: a JSON value, or a text that is taken as it is.
    #[serde(default = "no_config")]
    pub payload: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenAmount {
    pub minor_units: i64,
    pub currency: String,
}

/// An action with the name of its operation, as the ledger shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenAction {
    pub operation_key: String,
    /// [`crate::action::Action::to_json`].
    pub action: Value,
}

/// Why a section is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoldenError {
    #[error("it is {bytes} bytes long; at most {SECTION_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("it is not the JSON list that is expected: {reason}")]
    Json { reason: String },
    #[error("it lists {count} events; 1 to {EVENTS_MAX} are allowed")]
    Count { count: usize },
    #[error("`{name}`: {reason}")]
    Event { name: String, reason: &'static str },
}

/// Reads the section.
///
/// # Errors
/// What is wrong with it.
pub fn from_json(json: &[u8]) -> Result<Vec<Golden>, GoldenError> {
    if json.len() > SECTION_BYTES_MAX {
        return Err(GoldenError::TooLong { bytes: json.len() });
    }
    let golden: Vec<Golden> = serde_json::from_slice(json).map_err(|error| GoldenError::Json {
        reason: mask::line(&error.to_string(), 512),
    })?;
    if golden.is_empty() || golden.len() > EVENTS_MAX {
        return Err(GoldenError::Count { count: golden.len() });
    }
    golden.iter().try_for_each(|each| each.event().map(drop))?;
    Ok(golden)
}

/// The event for a component that brings none: of a type that it is written for, with nothing in it.
pub fn neutral(manifest: &Manifest) -> Golden {
    let event_type = manifest
        .events
        .first()
        .map(|pattern| pattern.to_string().replace('*', "golden"))
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| EventType::new("golden").expect("a constant type"));
    Golden {
        name: "a neutral event".to_owned(),
        event: GoldenEvent {
            event_type,
            id: None,
            tenant: None,
            source: None,
            subject: Subject::new("golden").ok(),
            family: None,
            status: None,
            occurred_at: None,
            received_at: None,
            amount: None,
            attributes: BTreeMap::new(),
            payload: no_config(),
        },
        config: no_config(),
        state: BTreeMap::new(),
        outcome: String::new(),
        actions: Vec::new(),
    }
}

impl Golden {
    /// The event as a run gets it.
    ///
    /// # Errors
    /// When a part of it is not what it is called.
    pub fn event(&self) -> Result<Event, GoldenError> {
        let wrong = |reason| GoldenError::Event {
            name: mask::line(&self.name, 128),
            reason,
        };
        let event = &self.event;
        let instant = |text: &Option<String>, reason| match text {
            None => Ok(None),
            Some(text) => UnixMillis::from_rfc3339(text).map(Some).ok_or_else(|| wrong(reason)),
        };
        let reading = match (&event.family, &event.status) {
            (None, None) => StatusReading::Stateless,
            (Some(family), Some(status)) => StatusReading::Mapped {
                family: family.clone(),
                status: status.clone(),
            },
            _ => return Err(wrong("`family` and `status` go together")),
        };
        let amount = match &event.amount {
            None => None,
            Some(amount) => Some(
                Currency::new(&amount.currency)
                    .and_then(|currency| Money::new(amount.minor_units, currency))
                    .ok_or_else(|| wrong("`amount` is not money"))?,
            ),
        };
        let constant = "a constant name";
        Ok(Event {
            tenant: event
                .tenant
                .clone()
                .unwrap_or_else(|| TenantName::new("golden").expect(constant)),
            source: event
                .source
                .clone()
                .unwrap_or_else(|| SourceName::new("golden").expect(constant)),
            id: event
                .id
                .clone()
                .unwrap_or_else(|| EventId::new("evt_golden").expect(constant)),
            event_type: event.event_type.clone(),
            subject: event.subject.clone(),
            reading,
            occurred_at: instant(&event.occurred_at, "`occurred_at` is not an instant")?,
            received_at: instant(&event.received_at, "`received_at` is not an instant")?.unwrap_or(RECEIVED_AT),
            amount,
            attributes: event
                .attributes
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            payload: match &event.payload {
                Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
                value => Bytes::from(value.to_string()),
            },
        })
    }

    /// Holds what a run answered against what is expected.
    ///
    /// # Errors
    /// What came out otherwise, in words.
    pub fn check(&self, outcome: &Outcome) -> Result<(), String> {
        let found = outcome.name();
        if self.outcome.is_empty() {
            return match outcome {
                Outcome::Fault { fault, message } => Err(format!("it ended as {fault}: {message}")),
                Outcome::Completed { proposals } => grant::well_formed(proposals.clone())
                    .map(drop)
                    .map_err(|violation| violation.to_string()),
                Outcome::Refused { .. } | Outcome::Held { .. } | Outcome::RetryAfter { .. } => Ok(()),
            };
        }
        if found != self.outcome {
            return Err(format!(
                "expected {}, but it ended as {found}{}{}",
                mask::line(&self.outcome, 64),
                if outcome.message().is_empty() { "" } else { ": " },
                outcome.message()
            ));
        }
        let Outcome::Completed { proposals } = outcome else {
            return Ok(());
        };
        let actions = grant::well_formed(proposals.clone()).map_err(|violation| violation.to_string())?;
        let found: Vec<GoldenAction> = actions
            .iter()
            .map(|(key, action)| GoldenAction {
                operation_key: key.to_string(),
                action: serde_json::from_str(&action.to_json()).unwrap_or_default(),
            })
            .collect();
        if found.len() != self.actions.len() {
            return Err(format!(
                "expected {} actions, but it proposed {}",
                self.actions.len(),
                found.len()
            ));
        }
        match self
            .actions
            .iter()
            .zip(&found)
            .position(|(expected, found)| expected != found)
        {
            None => Ok(()),
            Some(at) => Err(format!(
                "action {at}: expected {}, but it proposed {}",
                shown(&self.actions[at]),
                shown(&found[at])
            )),
        }
    }
}

fn shown(action: &GoldenAction) -> String {
    mask::line(&format!("{} {}", action.operation_key, action.action), 400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Flag, Proposal, UncheckedAction};
    use crate::outcome::Fault;

    const SECTION: &str = r#"[{
        "name": "a flag",
        "event": {"type": "customer.rewarded", "subject": "r_1", "payload": {"id": 1}, "amount": {"minor_units": 5, "currency": "USD"}},
        "state": {"count": "1"},
        "actions": [{"operation_key": "k:1", "action": {"kind": "flag", "subject": "s", "score": 7, "reasons": []}}]
    }]"#;

    fn flag(score: u32) -> Outcome {
        Outcome::Completed {
            proposals: vec![Proposal {
                operation_key: "k:1".into(),
                action: UncheckedAction::Flag(Flag {
                    subject: "s".into(),
                    score,
                    reasons: vec![],
                }),
            }],
        }
    }

    fn fault() -> Outcome {
        Outcome::Fault {
            fault: Fault::Trap,
            message: "here".into(),
        }
    }

    #[test]
    fn a_section_is_read_and_held_against_what_came() {
        let golden = from_json(SECTION.as_bytes()).unwrap();
        let event = golden[0].event().unwrap();
        assert_eq!(&event.payload[..], br#"{"id":1}"#);
        assert_eq!(event.amount.unwrap().minor_units(), 5);
        let expected = crate::action::Action::Flag(Flag {
            subject: "s".into(),
            score: 7,
            reasons: vec![],
        });
        let mut golden = golden[0].clone();
        golden.actions[0].action = serde_json::from_str(&expected.to_json()).unwrap();
        assert_eq!(golden.check(&flag(7)), Ok(()));
        let other = golden.check(&flag(8)).unwrap_err();
        assert!(other.starts_with("action 0: expected k:1 "), "{other}");
        assert_eq!(
            golden.check(&Outcome::Completed { proposals: vec![] }),
            Err("expected 1 actions, but it proposed 0".into())
        );
        assert_eq!(
            golden.check(&fault()),
            Err("expected completed, but it ended as trap: here".into())
        );
    }

    #[test]
    fn the_neutral_event_asks_only_for_no_fault() {
        let manifest = Manifest::from_json(
            br#"{"name":"p","version":"1","publisher":"p","events":["customer.*"],"actions":[],"state":false}"#,
        )
        .unwrap();
        let golden = neutral(&manifest);
        assert_eq!(golden.event().unwrap().event_type.as_str(), "customer.golden");
        let held = Outcome::Held { message: "why".into() };
        assert_eq!(golden.check(&held), Ok(()));
        assert_eq!(golden.check(&flag(7)), Ok(()));
        assert!(golden.check(&flag(101)).unwrap_err().contains("score 101"));
        assert!(golden.check(&fault()).unwrap_err().contains("trap: here"));
    }

    #[test]
    fn a_bad_section_is_told_what_is_wrong() {
        let check = |from: &str, to: &str, expect: &str| {
            assert!(SECTION.contains(from), "{from}");
            let error = from_json(SECTION.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{to}: {error}");
        };
        check("\"type\"", "\"kind\"", "unknown field `kind`");
        check(
            "\"subject\": \"r_1\"",
            "\"status\": \"done\"",
            "`family` and `status` go together",
        );
        check("USD", "DOLLARS", "`amount` is not money");
        check(
            "\"subject\": \"r_1\"",
            "\"occurred_at\": \"today\"",
            "`occurred_at` is not an instant",
        );
        assert_eq!(from_json(b"[]"), Err(GoldenError::Count { count: 0 }));
        assert!(matches!(from_json(b"{}"), Err(GoldenError::Json { .. })));
        let long = vec![b' '; SECTION_BYTES_MAX + 1];
        assert!(matches!(from_json(&long), Err(GoldenError::TooLong { .. })));
    }
}
