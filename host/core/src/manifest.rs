//! The manifest: what a plugin says of itself.
//!
//! It travels inside the component as the custom section [`SECTION`] and holds one JSON document, so the plugin's digest covers
//! it. It is a statement, not a permission: what a plugin may do stands on the route that runs it.

use serde::{Deserialize, Serialize};

use crate::action::ActionKind;
use crate::config_schema::{ConfigSchema, SchemaError};
use crate::ids::{IdError, PluginName};
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_EVENTS_MAX, MANIFEST_TEXT_BYTES_MAX};
use crate::mask;
use crate::route::TypePattern;

/// The name of the custom section that holds the manifest.
pub const SECTION: &str = "tollgate:manifest";

/// A plugin's statement about itself, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the plugin is published under.
    pub name: PluginName,
    /// The author's version, for people; the digest is what pins a plugin.
    pub version: String,
    /// Who wrote it, for people: at most 127 bytes. A signature vouches for a publisher, and not this text.
    pub publisher: String,
    /// The event types that the plugin is written for. At least one.
    pub events: Vec<TypePattern>,
    /// The kinds of action that it may propose. None for a plugin that only looks.
    pub actions: Vec<ActionKind>,
    /// Whether it keeps state.
    pub state: bool,
    /// The fuel that one run needs at most, as its author measured it. At least 1.
    pub fuel: Option<u64>,
    /// What it does, for people; at most [`MANIFEST_TEXT_BYTES_MAX`] bytes.
    pub description: Option<String>,
    /// The schema of a route's configuration. Without one only the plugin judges the configuration, when it runs.
    pub configuration: Option<ConfigSchema>,
}

/// Why a document is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The document is over the bound.
    #[error("it is {bytes} bytes long; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The document cannot be read.
    #[error("it is not the JSON document that is expected: {reason}")]
    Json {
        /// What is wrong, in words.
        reason: String,
    },
    /// The name cannot be a plugin's.
    #[error("`name`: {0}")]
    Name(IdError),
    /// A text is empty, too long or not printable.
    #[error("`{field}` must be 1 to {bytes_max} bytes of printable text")]
    Text {
        /// The field of the document.
        field: &'static str,
        /// The field's bound.
        bytes_max: usize,
    },
    /// No event type is listed, or too many are.
    #[error("`events` must list 1 to {MANIFEST_EVENTS_MAX} type patterns, but lists {count}")]
    EventCount {
        /// How many are listed.
        count: usize,
    },
    /// A listed type pattern is none.
    #[error("`events`: {reason}")]
    Event {
        /// What is wrong with it.
        reason: String,
    },
    /// An action is listed that there is none of.
    #[error("`actions`: `{found}` is not an action kind; the kinds are {}", kinds())]
    Action {
        /// What is listed.
        found: String,
    },
    /// A kind of action is listed more than once.
    #[error("`actions` lists `{kind}` twice")]
    RepeatedAction {
        /// That kind.
        kind: ActionKind,
    },
    /// The fuel is 0.
    #[error("`fuel` must be at least 1; leave it out when it is not known")]
    NoFuel,
    /// The schema of the configuration is none.
    #[error(transparent)]
    Configuration(#[from] SchemaError),
}

fn kinds() -> String {
    ActionKind::ALL.map(ActionKind::as_str).join(", ")
}

/// The document as written, before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    name: String,
    version: String,
    publisher: String,
    events: Vec<String>,
    actions: Vec<String>,
    state: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configuration: Option<serde_json::Value>,
}

impl Manifest {
    /// Reads the contents of a manifest section.
    ///
    /// # Errors
    /// The first thing that is wrong, naming the field.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { bytes: json.len() });
        }
        let raw: RawManifest = serde_json::from_slice(json).map_err(|error| ManifestError::Json {
            reason: mask::line(&error.to_string(), MANIFEST_TEXT_BYTES_MAX),
        })?;
        raw.check()
    }

    /// The document again, in one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a manifest is JSON, read or made here")
    }
}

/// The same document that [`Manifest::from_json`] reads.
impl Serialize for Manifest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawManifest {
            name: self.name.to_string(),
            version: self.version.clone(),
            publisher: self.publisher.clone(),
            events: self.events.iter().map(ToString::to_string).collect(),
            actions: self.actions.iter().map(ToString::to_string).collect(),
            state: self.state,
            fuel: self.fuel,
            description: self.description.clone(),
            configuration: self.configuration.as_ref().map(|schema| schema.document().clone()),
        }
        .serialize(serializer)
    }
}

impl RawManifest {
    fn check(self) -> Result<Manifest, ManifestError> {
        let name = PluginName::new(&self.name).map_err(ManifestError::Name)?;
        let version = text("version", self.version, 64)?;
        let publisher = text("publisher", self.publisher, 127)?;
        let description = match self.description {
            Some(description) => Some(text("description", description, MANIFEST_TEXT_BYTES_MAX)?),
            None => None,
        };
        if self.events.is_empty() || self.events.len() > MANIFEST_EVENTS_MAX {
            return Err(ManifestError::EventCount {
                count: self.events.len(),
            });
        }
        let mut events = Vec::with_capacity(self.events.len());
        for pattern in &self.events {
            let line = || mask::line(pattern, MANIFEST_TEXT_BYTES_MAX);
            events.push(TypePattern::new(pattern).map_err(|reason| ManifestError::Event {
                reason: mask::line(&reason, 512),
            })?);
            if pattern.len() > crate::ids::EventType::BYTES_MAX || pattern.chars().any(mask::is_hidden) {
                return Err(ManifestError::Event {
                    reason: format!("`{}` is not an event type", line()),
                });
            }
        }
        let mut actions = Vec::with_capacity(self.actions.len().min(ActionKind::ALL.len()));
        for name in &self.actions {
            let kind = ActionKind::from_name(name).ok_or_else(|| ManifestError::Action {
                found: mask::line(name, 64),
            })?;
            if actions.contains(&kind) {
                return Err(ManifestError::RepeatedAction { kind });
            }
            actions.push(kind);
        }
        if self.fuel == Some(0) {
            return Err(ManifestError::NoFuel);
        }
        let configuration = self.configuration.map(ConfigSchema::from_json).transpose()?;
        Ok(Manifest {
            name,
            version,
            publisher,
            events,
            actions,
            state: self.state,
            fuel: self.fuel,
            description,
            configuration,
        })
    }
}

fn text(field: &'static str, value: String, bytes_max: usize) -> Result<String, ManifestError> {
    if value.is_empty() || value.len() > bytes_max || value.chars().any(mask::is_hidden) {
        return Err(ManifestError::Text { field, bytes_max });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASHBACK: &str = r#"{"name":"cashback","version":"1.0.0","publisher":"Acme","events":["customer.*"],"actions":["credit"],"state":true,"fuel":1000000}"#;

    #[test]
    fn a_manifest_reads_back_from_its_json() {
        let manifest = Manifest::from_json(CASHBACK.as_bytes()).unwrap();
        assert_eq!(manifest.name.as_str(), "cashback");
        assert_eq!(manifest.actions, [ActionKind::Credit]);
        assert!(manifest.events[0].matches("customer.rewarded"));
        assert_eq!(manifest.to_json(), CASHBACK);
    }

    /// Changes one field of a good manifest and expects what is said about it.
    fn check(from: &str, to: &str, expect: &str) {
        assert!(CASHBACK.contains(from), "{from}");
        let error = Manifest::from_json(CASHBACK.replace(from, to).as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expect), "{to}: {error}");
    }

    #[test]
    fn a_bad_manifest_is_told_what_is_wrong() {
        check(
            r#""cashback""#,
            r#""Cash Back""#,
            "`name`: plugin name has the character 'C'",
        );
        check(r#""1.0.0""#, r#""""#, "`version` must be 1 to 64 bytes");
        check(r#""Acme""#, "\"A\\u0000\"", "`publisher` must be");
        check(r#""Acme""#, "\"A\\u202e\"", "`publisher` must be");
        check(r#"["customer.*"]"#, "[]", "`events` must list 1 to 64");
        check(r#""customer.*""#, r#""a.*.b""#, "is not a type pattern");
        check(r#""customer.*""#, "\"a\\nb\"", "is not an event type");
        check(
            r#"["credit"]"#,
            r#"["refund"]"#,
            "`refund` is not an action kind; the kinds are credit, debit",
        );
        check(r#"["credit"]"#, r#"["credit","credit"]"#, "lists `credit` twice");
        check("1000000", "0", "`fuel` must be at least 1");
        check(
            r#""state":true"#,
            r#""state":true,"network":true"#,
            "unknown field `network`",
        );
        check(r#""state":true,"#, "", "missing field `state`");
        check(
            r#""state":true"#,
            r#""state":true,"configuration":{"type":"object","patternProperties":{}}"#,
            "`configuration.patternProperties`: no host checks this keyword",
        );
        check("{", "[", "not the JSON document");
        assert_eq!(
            Manifest::from_json(&vec![b' '; MANIFEST_BYTES_MAX + 1]),
            Err(ManifestError::TooLong {
                bytes: MANIFEST_BYTES_MAX + 1
            })
        );
    }
}
