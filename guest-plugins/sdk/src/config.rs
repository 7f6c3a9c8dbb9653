//! The route's configuration: read whole, checked before use.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};

use crate::{Event, Failure, pointer};

/// Reads the configuration into the author's own struct. Give the struct `#[serde(deny_unknown_fields)]`, so that a misspelt
/// field is an error and not a default.
///
/// # Errors
/// [`Failure::Hold`] with the path of the field that is wrong: a person must mend the route, and then the event can be replayed.
pub fn parse<T: DeserializeOwned>(config: &str) -> Result<T, Failure> {
    let deserializer = &mut serde_json::Deserializer::from_str(config);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        if path == "." {
            invalid(error.inner())
        } else {
            invalid(format_args!("`{path}`: {}", error.inner()))
        }
    })
}

/// The failure for a configuration that can be read but makes no sense: `config: {problem}`. Name the field in the problem.
pub fn invalid(problem: impl std::fmt::Display) -> Failure {
    Failure::hold(format!("config: {problem}"))
}

/// Where in an event a value is found: a JSON pointer into the body (`/redemption/order/amount`) or the name of an attribute
/// (`order_amount`). In a configuration it is a text; one that starts with `/` is a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A pointer as RFC 6901 has it.
    Pointer(String),
    /// An attribute that the source's profile reads.
    Attribute(String),
}

impl Lookup {
    /// The value as text, or none where the event has none there (absent, `null`, an object or a list).
    ///
    /// # Errors
    /// [`Failure::Hold`] when the body has to be read and is not JSON.
    pub fn text(&self, event: &Event) -> Result<Option<String>, Failure> {
        match self {
            Self::Attribute(name) => Ok(event.attribute(name).map(str::to_owned)),
            Self::Pointer(pointer) => pointer::text(&event.payload, pointer).map_err(|error| event.not_json(&error)),
        }
    }

    /// The value as a whole number, or none where the event has none there.
    ///
    /// # Errors
    /// [`Failure::Hold`] when there is a value that is not a whole number: guessing one could move money.
    pub fn integer(&self, event: &Event) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(event)? else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Failure::hold(format!("{self} is {text:?}, which is not a whole number")))
    }
}

impl std::fmt::Display for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pointer(pointer) => write!(f, "`{pointer}` of the body"),
            Self::Attribute(name) => write!(f, "attribute `{name}`"),
        }
    }
}

impl<'de> Deserialize<'de> for Lookup {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "" => Err(D::Error::custom(
                "write a JSON pointer such as `/order/amount`, or the name of an attribute",
            )),
            pointer if pointer.starts_with('/') => Ok(Self::Pointer(text)),
            _ => Ok(Self::Attribute(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::EventBuilder;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        rate_bps: u32,
        limit: Option<Limit>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        days: u16,
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(
            parse("{}"),
            Ok(Config {
                rate_bps: 0,
                limit: None
            })
        );
        for (config, expect) in [
            ("[", "config: EOF while parsing a list at line 1 column 1"),
            (
                r#"{"rate": 1}"#,
                "config: `rate`: unknown field `rate`, expected `rate_bps` or `limit` at line 1 column 7",
            ),
            (
                r#"{"rate_bps": "5"}"#,
                r#"config: `rate_bps`: invalid type: string "5", expected u32 at line 1 column 16"#,
            ),
            (
                r#"{"limit": {"days": -1}}"#,
                "config: `limit.days`: invalid value: integer `-1`, expected u16 at line 1 column 21",
            ),
            (
                r#"{"limit": {}}"#,
                "config: `limit`: missing field `days` at line 1 column 12",
            ),
        ] {
            assert_eq!(parse::<Config>(config), Err(Failure::hold(expect)), "{config}");
        }
    }

    #[test]
    fn values_are_found_in_body_and_attributes() {
        let body = r#"{"order": {"amount": 2900, "half": 0.5, "text": "12", "none": null, "list": []}}"#;
        let event = EventBuilder::new("a.b")
            .attribute("order_amount", "77")
            .payload(body)
            .build();
        let lookup = |text: &str| serde_json::from_value::<Lookup>(text.into()).unwrap();
        for (text, expect) in [
            ("/order/amount", Ok(Some(2900))),
            ("/order/text", Ok(Some(12))),
            ("/order/none", Ok(None)),
            ("/order/list", Ok(None)),
            ("/nothing/here", Ok(None)),
            ("order_amount", Ok(Some(77))),
            ("other", Ok(None)),
            ("/order/amount/deeper", Ok(None)),
            (
                "/order/half",
                Err(Failure::hold(
                    "`/order/half` of the body is \"0.5\", which is not a whole number",
                )),
            ),
        ] {
            assert_eq!(lookup(text).integer(&event), expect, "{text}");
        }
        assert!(serde_json::from_value::<Lookup>("".into()).is_err());
    }
}
