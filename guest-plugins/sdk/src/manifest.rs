//! The manifest: what a component says about itself, in its custom section `tollgate:manifest`, so that its digest covers it.

use serde::Deserialize;

/// A plugin's description of itself. The host reads it when the plugin is vetted; it claims, and grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// a–z, 0–9, `-` and `_`, at most 63 characters, for example `cashback`.
    pub name: String,
    /// Semantic version, for example `1.0.0`.
    pub version: String,
    /// Who answers for it.
    pub publisher: String,
    /// Event types that it is for, each whole or a prefix that ends in `*`, for example `customer.*`.
    pub events: Vec<String>,
    /// Kinds of actions that it may propose, for example `credit`. A route must grant each.
    pub actions: Vec<String>,
    /// Whether it keeps state.
    pub state: bool,
    /// The fuel that one run needs at most, as its author measured it.
    #[serde(default)]
    pub fuel: Option<u64>,
    /// One or two sentences for the person who chooses it.
    pub description: String,
    /// A JSON Schema of the route's configuration, which hosts hold configurations against. `tollgate plugin check` judges it.
    #[serde(default)]
    pub configuration: Option<serde_json::Value>,
}

/// Every kind of action of the contract, as manifests and grants name them.
pub const ACTION_KINDS: [&str; 8] = [
    "credit",
    "debit",
    "reserve-stock",
    "release-stock",
    "issue-gift-card",
    "flag",
    "notify",
    "extension",
];

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn parse(json: &str) -> Result<Self, String> {
        let manifest: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if manifest.name.is_empty() || manifest.name.len() > 63 || !manifest.name.chars().all(is_name) {
            return Err(format!(
                "`name` is `{}`; write 1 to 63 of a-z, 0-9, - and _",
                manifest.name
            ));
        }
        let parts: Vec<&str> = manifest.version.split('.').collect();
        if parts.len() != 3
            || !parts
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(format!(
                "`version` is `{}`; write three numbers such as 1.0.0",
                manifest.version
            ));
        }
        if manifest.publisher.is_empty() || manifest.description.is_empty() {
            return Err("`publisher` and `description` must say something".into());
        }
        if manifest.events.is_empty() {
            return Err("`events` must list the event types that the plugin is for; `*` is every type".into());
        }
        for pattern in &manifest.events {
            if pattern.is_empty() || pattern.trim_end_matches('*').contains('*') || pattern.ends_with("**") {
                return Err(format!(
                    "`events` has `{pattern}`; write an event type, or a prefix that ends in `*`"
                ));
            }
        }
        for (at, kind) in manifest.actions.iter().enumerate() {
            if manifest.actions[..at].contains(kind) {
                return Err(format!("`actions` lists `{kind}` twice"));
            }
            if !ACTION_KINDS.contains(&kind.as_str()) {
                return Err(format!("`actions` has `{kind}`; known are {}", ACTION_KINDS.join(", ")));
            }
        }
        if manifest.fuel == Some(0) {
            return Err("`fuel` must be at least 1; leave it out when it is not known".into());
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let check = |name: &str, version: &str, event: &str, action: &str, expect: Result<(), &str>| {
            let json = serde_json::json!({
                "name": name, "version": version, "publisher": "acme", "events": [event], "actions": [action],
                "state": false, "description": "d"
            });
            let found = Manifest::parse(&json.to_string());
            assert_eq!(found.as_ref().map(|_| ()).map_err(|error| error.as_str()), expect);
        };
        check("bonus", "1.0.0", "customer.*", "credit", Ok(()));
        check(
            "Bonus",
            "1.0.0",
            "*",
            "credit",
            Err("`name` is `Bonus`; write 1 to 63 of a-z, 0-9, - and _"),
        );
        check(
            "bonus",
            "1.0",
            "*",
            "credit",
            Err("`version` is `1.0`; write three numbers such as 1.0.0"),
        );
        check(
            "bonus",
            "1.0.0",
            "a.*.b",
            "credit",
            Err("`events` has `a.*.b`; write an event type, or a prefix that ends in `*`"),
        );
        check(
            "bonus",
            "1.0.0",
            "*",
            "pay",
            Err(
                "`actions` has `pay`; known are credit, debit, reserve-stock, release-stock, issue-gift-card, flag, notify, extension",
            ),
        );
        assert!(Manifest::parse(r#"{"name": "bonus", "colour": "red"}"#).is_err());
    }
}
