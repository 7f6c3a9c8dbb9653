//! A receipt as a fixture of the author's kit.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tollgate_core::ids::{ReceiptId, RouteName};

use crate::check::{parse, read};

/// Which run is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FixtureQuery {
    /// The receipt whose event is asked for.
    pub receipt: String,
    /// Needed where several routes ran a plugin on the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

impl FixtureQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(&self) -> Result<(ReceiptId, Option<RouteName>), String> {
        let receipt = read("receipt", &self.receipt)?;
        Ok((receipt, parse("route", self.route.clone())?))
    }
}

/// A fixture as its file has it, byte for byte.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FixtureText(pub Box<RawValue>);

#[cfg(feature = "document")]
impl schemars::JsonSchema for FixtureText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fixture".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "a fixture as `tollgate plugin test` reads it",
            "required": ["event", "config", "state"],
            "properties": {
                "event": { "type": "object", "description": "with its body", "additionalProperties": true },
                "config": { "description": "the route's configuration" },
                "state": { "type": "object", "description": "what the run read, by key", "additionalProperties": true },
                "expect": {
                    "type": "object",
                    "description": "how the run ended; absent where that is not known, or was a fault",
                    "additionalProperties": true,
                },
            },
        })
    }
}
