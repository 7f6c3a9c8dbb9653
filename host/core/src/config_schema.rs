//! A plugin's schema of its configuration, and what a configuration breaks of it.
//!
//! The manifest carries it as `configuration`: a JSON Schema object of the part of the 2020-12 dialect that is listed in
//! [`ConfigSchema::from_json`]. A keyword outside it is refused, since one that is ignored would promise a check that never happens.
//! A schema says what a form can be; what no schema can say (two ranges that must not overlap) stays the plugin's own check.

use std::fmt;

use serde_json::{Map, Value};

use crate::limits::{CONFIG_PROBLEMS_MAX, CONFIG_SCHEMA_DEPTH_MAX, MANIFEST_TEXT_BYTES_MAX};
use crate::mask;

/// A checked schema of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSchema(Value);

/// What is wrong with a schema, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{place}`: {reason}")]
pub struct SchemaError {
    /// For example `configuration.properties.rate_bps.minimum`.
    pub place: String,
    /// What is wrong, in words.
    pub reason: String,
}

/// One segment of the path from a configuration to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A member of an object.
    Key(String),
    /// An element of a list, from 0.
    Index(usize),
}

/// The path to a value inside a configuration; empty for the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigPath(pub Vec<Segment>);

/// What is wrong with a configuration. Texts of the configuration are not repeated, since they may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where in the configuration.
    pub path: ConfigPath,
    /// Goes on where the path ends: "must be an integer, but is a text".
    pub message: String,
    /// For a key that the schema does not know: those that it knows there.
    pub known_keys: Option<Vec<String>>,
}

impl fmt::Display for ConfigPath {
    /// As people write it: `rules[0].events_max`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Segment::Key(key) if at == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.0.is_empty() {
            write!(f, "the configuration {}", self.message)
        } else {
            write!(f, "`{}` {}", self.path, self.message)
        }
    }
}

/// The types of JSON, as schemas name them.
const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];

/// Keywords that say something for people and check nothing.
const NOTES: [&str; 7] = [
    "$schema",
    "$comment",
    "title",
    "description",
    "examples",
    "deprecated",
    "default",
];

impl ConfigSchema {
    /// Checks a schema. It must be an object schema (`"type": "object"`); it and its parts may use `type`, `properties`, `required`,
    /// `additionalProperties`, `items`, `enum`, `const`, `minimum`, `maximum`, `minLength`, `maxLength`, `minItems`, `maxItems`,
    /// `anyOf`, `oneOf`, and the notes `title`, `description`, `default`, `examples`, `deprecated`, `$comment`, `$schema`. It nests
    /// at most [`CONFIG_SCHEMA_DEPTH_MAX`] deep; its bytes are bounded by the manifest's.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn from_json(document: Value) -> Result<Self, SchemaError> {
        let mut place = vec!["configuration".to_owned()];
        check_schema(&document, &mut place, 0)?;
        if document["type"] != "object" {
            return Err(wrong(&place, "a configuration is an object: say \"type\": \"object\""));
        }
        Ok(Self(document))
    }

    /// The document that was checked.
    pub fn document(&self) -> &Value {
        &self.0
    }

    /// Returns what a configuration breaks, in the order of the schema, [`CONFIG_PROBLEMS_MAX`] problems at most; empty when it fits.
    /// An `integer` is a number written without fraction and exponent, as plugins read it.
    pub fn check(&self, configuration: &Value) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut path = ConfigPath::default();
        check_value(&self.0, configuration, &mut path, &mut problems);
        problems.truncate(CONFIG_PROBLEMS_MAX);
        problems
    }
}

fn wrong(place: &[String], reason: impl Into<String>) -> SchemaError {
    SchemaError {
        place: mask::line(&place.join("."), MANIFEST_TEXT_BYTES_MAX),
        reason: reason.into(),
    }
}

/// Runs a check one step deeper.
fn below<T>(place: &mut Vec<String>, step: &str, check: impl FnOnce(&mut Vec<String>) -> T) -> T {
    place.push(step.to_owned());
    let result = check(place);
    place.pop();
    result
}

fn check_schema(schema: &Value, place: &mut Vec<String>, depth: usize) -> Result<(), SchemaError> {
    if depth > CONFIG_SCHEMA_DEPTH_MAX {
        return Err(wrong(place, format!("it nests deeper than {CONFIG_SCHEMA_DEPTH_MAX}")));
    }
    let Some(keywords) = schema.as_object() else {
        return Err(wrong(place, "a schema is an object"));
    };
    for (keyword, value) in keywords {
        below(place, keyword, |place| check_keyword(keyword, value, place, depth))?;
    }
    if let Some(default) = keywords.get("default") {
        let mut problems = Vec::new();
        check_value(schema, default, &mut ConfigPath::default(), &mut problems);
        if let Some(problem) = problems.first() {
            let reason = format!("it does not fit its own schema: {problem}");
            return below(place, "default", |place| Err(wrong(place, reason)));
        }
    }
    Ok(())
}

fn check_keyword(keyword: &str, value: &Value, place: &mut Vec<String>, depth: usize) -> Result<(), SchemaError> {
    match keyword {
        "type" => {
            let names = match value {
                Value::Array(names) if !names.is_empty() => names.as_slice(),
                one => std::slice::from_ref(one),
            };
            let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
            require(names.iter().all(known), place, || {
                format!("write one of {}, or a list of them", TYPES.join(", "))
            })
        }
        "properties" => {
            let Some(properties) = value.as_object() else {
                return Err(wrong(place, "write an object of schemas by key"));
            };
            properties
                .iter()
                .try_for_each(|(key, schema)| below(place, key, |place| check_schema(schema, place, depth + 1)))
        }
        "required" => {
            let texts = value.as_array().is_some_and(|keys| keys.iter().all(Value::is_string));
            require(texts, place, || "write a list of keys".to_owned())
        }
        "additionalProperties" if value.is_boolean() => Ok(()),
        "additionalProperties" | "items" => check_schema(value, place, depth + 1),
        "anyOf" | "oneOf" => {
            let forms = value.as_array().filter(|forms| !forms.is_empty());
            let Some(forms) = forms else {
                return Err(wrong(place, "write a list of schemas that is not empty"));
            };
            forms
                .iter()
                .enumerate()
                .try_for_each(|(at, form)| below(place, &at.to_string(), |place| check_schema(form, place, depth + 1)))
        }
        "enum" => {
            let some = value.as_array().is_some_and(|values| !values.is_empty());
            require(some, place, || "write a list of values that is not empty".to_owned())
        }
        "minimum" | "maximum" => require(value.is_number(), place, || "write a number".to_owned()),
        "minLength" | "maxLength" | "minItems" | "maxItems" => require(value.is_u64(), place, || {
            "write a whole number of at least 0".to_owned()
        }),
        "const" => Ok(()),
        note if NOTES.contains(&note) => Ok(()),
        _ => Err(wrong(
            place,
            "no host checks this keyword; docs/plugins.md lists those that can be used",
        )),
    }
}

fn require(holds: bool, place: &[String], reason: impl FnOnce() -> String) -> Result<(), SchemaError> {
    if holds { Ok(()) } else { Err(wrong(place, reason())) }
}

/// What one pass over a value writes down.
type Problems = Vec<ConfigProblem>;

fn say(problems: &mut Problems, path: &ConfigPath, message: impl Into<String>) {
    problems.push(ConfigProblem {
        path: path.clone(),
        message: message.into(),
        known_keys: None,
    });
}

/// `schema` has passed [`check_schema`].
fn check_value(schema: &Value, value: &Value, path: &mut ConfigPath, problems: &mut Problems) {
    let Some(keywords) = schema.as_object() else {
        return;
    };
    if let Some(types) = keywords.get("type") {
        let names = match types {
            Value::Array(names) => names.as_slice(),
            one => std::slice::from_ref(one),
        };
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if !names.iter().any(|name| is_of(name, value)) {
            let wanted: Vec<_> = names.iter().map(|name| in_words(name)).collect();
            say(
                problems,
                path,
                format!("must be {}, but is {}", wanted.join(" or "), what(value)),
            );
            // What else the schema says is about another type.
            return;
        }
    }
    if let Some(values) = keywords.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        let listed: Vec<_> = values.iter().map(ToString::to_string).collect();
        say(
            problems,
            path,
            format!(
                "must be one of {}",
                mask::line(&listed.join(", "), MANIFEST_TEXT_BYTES_MAX)
            ),
        );
    }
    if let Some(only) = keywords.get("const")
        && only != value
    {
        say(
            problems,
            path,
            format!("must be {}", mask::line(&only.to_string(), MANIFEST_TEXT_BYTES_MAX)),
        );
    }
    match value {
        Value::Number(number) => check_number(keywords, number, path, problems),
        Value::String(text) => {
            let count = text.chars().count();
            check_count(keywords, ["minLength", "maxLength"], count, "character", path, problems);
        }
        Value::Array(items) => {
            check_count(keywords, ["minItems", "maxItems"], items.len(), "entry", path, problems);
            if let Some(schema) = keywords.get("items") {
                for (at, item) in items.iter().enumerate() {
                    path.0.push(Segment::Index(at));
                    check_value(schema, item, path, problems);
                    path.0.pop();
                    if problems.len() >= CONFIG_PROBLEMS_MAX {
                        return;
                    }
                }
            }
        }
        Value::Object(members) => check_object(keywords, members, path, problems),
        Value::Null | Value::Bool(_) => {}
    }
    check_forms(keywords, value, path, problems);
}

fn check_number(
    keywords: &Map<String, Value>,
    number: &serde_json::Number,
    path: &ConfigPath,
    problems: &mut Problems,
) {
    let less = |one: &serde_json::Number, other: &serde_json::Number| match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one < other,
        _ => one.as_f64() < other.as_f64(),
    };
    if let Some(Value::Number(minimum)) = keywords.get("minimum")
        && less(number, minimum)
    {
        say(problems, path, format!("is {number}; it must be at least {minimum}"));
    }
    if let Some(Value::Number(maximum)) = keywords.get("maximum")
        && less(maximum, number)
    {
        say(problems, path, format!("is {number}; it must be at most {maximum}"));
    }
}

/// How many characters or entries there are, against their bounds.
fn check_count(
    keywords: &Map<String, Value>,
    [least, most]: [&str; 2],
    count: usize,
    of: &str,
    path: &ConfigPath,
    problems: &mut Problems,
) {
    let bound = |keyword: &str| keywords.get(keyword).and_then(Value::as_u64);
    let plural = |n: u64| match (n, of) {
        (1, of) => format!("1 {of}"),
        (n, "entry") => format!("{n} entries"),
        (n, of) => format!("{n} {of}s"),
    };
    let count = count as u64;
    if let Some(least) = bound(least).filter(|least| count < *least) {
        say(
            problems,
            path,
            format!("has {}; it must have at least {least}", plural(count)),
        );
    }
    if let Some(most) = bound(most).filter(|most| count > *most) {
        say(
            problems,
            path,
            format!("has {}; it must have at most {most}", plural(count)),
        );
    }
}

fn check_object(
    keywords: &Map<String, Value>,
    members: &Map<String, Value>,
    path: &mut ConfigPath,
    problems: &mut Problems,
) {
    let known = keywords.get("properties").and_then(Value::as_object);
    let required = keywords.get("required").and_then(Value::as_array);
    for key in required.into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(key) {
            say(problems, path, format!("has no `{key}`, which is required"));
        }
    }
    let others = keywords.get("additionalProperties");
    for (key, value) in members {
        path.0.push(Segment::Key(key.clone()));
        match (known.and_then(|known| known.get(key)), others) {
            (Some(schema), _) => check_value(schema, value, path, problems),
            (None, Some(Value::Bool(false))) => problems.push(ConfigProblem {
                path: path.clone(),
                message: "is no key of this configuration".to_owned(),
                known_keys: Some(known.into_iter().flat_map(Map::keys).cloned().collect()),
            }),
            (None, Some(schema)) => check_value(schema, value, path, problems),
            (None, None) => {}
        }
        path.0.pop();
        if problems.len() >= CONFIG_PROBLEMS_MAX {
            return;
        }
    }
}

/// `anyOf` and `oneOf`.
fn check_forms(keywords: &Map<String, Value>, value: &Value, path: &mut ConfigPath, problems: &mut Problems) {
    for (keyword, one_at_most) in [("anyOf", false), ("oneOf", true)] {
        let Some(forms) = keywords.get(keyword).and_then(Value::as_array) else {
            continue;
        };
        let found: Vec<Problems> = forms
            .iter()
            .map(|form| {
                let mut of_form = Vec::new();
                check_value(form, value, path, &mut of_form);
                of_form
            })
            .collect();
        let fitting = found.iter().filter(|of_form| of_form.is_empty()).count();
        if fitting == 1 || (fitting > 1 && !one_at_most) {
            continue;
        }
        // Forms that say only which keys must be there are said as people say it.
        let only_required = |form: &Value| match form.as_object()?.iter().collect::<Vec<_>>().as_slice() {
            [(keyword, Value::Array(keys))] if *keyword == "required" => {
                let keys: Vec<_> = keys
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|key| format!("`{key}`"))
                    .collect();
                Some(keys.join(" with "))
            }
            _ => None,
        };
        let choices: Option<Vec<String>> = forms.iter().map(only_required).collect();
        let message = match (choices, one_at_most, fitting) {
            (Some(choices), true, _) => format!("must have exactly one of {}", choices.join(" and ")),
            (Some(choices), false, _) => format!("must have at least one of {}", choices.join(" and ")),
            (None, _, 0) => {
                let nearest = found
                    .iter()
                    .min_by_key(|of_form| of_form.len())
                    .and_then(|of_form| of_form.first());
                let hint = nearest
                    .map(|problem| format!("; the nearest says: {problem}"))
                    .unwrap_or_default();
                format!("fits none of the {} forms that it may have{hint}", forms.len())
            }
            (None, _, fitting) => format!("fits {fitting} of the forms that it may have, and must fit exactly one"),
        };
        say(problems, path, message);
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn in_words(name: &str) -> &'static str {
    match name {
        "object" => "a table",
        "array" => "a list",
        "string" => "a text",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "null",
    }
}

/// A value's type, with the value where it is no text.
fn what(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema(document: Value) -> ConfigSchema {
        ConfigSchema::from_json(document).expect("a schema")
    }

    fn said(schema: &ConfigSchema, configuration: Value) -> Vec<String> {
        schema.check(&configuration).iter().map(ToString::to_string).collect()
    }

    /// `config_schema.json`: two schemas, what is said of each configuration, and how what is said of a schema begins that is refused.
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Cases {
        cashback: Value,
        said: Vec<(Value, Vec<String>)>,
        forms: Value,
        said_of_forms: Vec<(Value, Vec<String>)>,
        refused: Vec<(Value, String)>,
    }

    fn cases() -> Cases {
        serde_json::from_str(include_str!("config_schema.json")).expect("cases")
    }

    #[test]
    fn w7_what_breaks_a_schema_is_said_with_its_place() {
        let cases = cases();
        for (document, rows) in [(cases.cashback, cases.said), (cases.forms, cases.said_of_forms)] {
            let schema = schema(document);
            for (configuration, expect) in rows {
                assert_eq!(said(&schema, configuration.clone()), expect, "{configuration}");
            }
        }
        let cashback = schema(self::cases().cashback);
        let unknown = cashback.check(&json!({ "rate_bps": 1, "rate_bsp": 5 }));
        assert_eq!(unknown[0].to_string(), "`rate_bsp` is no key of this configuration");
        assert!(unknown[0].known_keys.as_ref().unwrap().contains(&"rate_bps".to_owned()));
    }

    #[test]
    fn w7_a_text_of_a_configuration_is_not_repeated() {
        let strict = schema(json!({
            "type": "object", "properties": { "key": { "enum": ["a"] }, "short": { "type": "string", "maxLength": 3 }, "n": { "type": "integer" } },
        }));
        let found = said(
            &strict,
            json!({ "key": "whsec_1234", "short": "whsec_1234", "n": "whsec_1234" }),
        );
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|line| !line.contains("whsec")), "{found:?}");
    }

    #[test]
    fn w7_a_schema_that_no_host_would_hold_is_refused_with_its_place() {
        let mut deep = json!({ "type": "object" });
        for _ in 0..=CONFIG_SCHEMA_DEPTH_MAX {
            deep = json!({ "type": "object", "properties": { "a": deep } });
        }
        let deep = (deep, "`configuration.properties.a".to_owned());
        for (document, expect) in cases().refused.into_iter().chain([deep]) {
            let error = ConfigSchema::from_json(document.clone()).expect_err(&document.to_string());
            assert!(error.to_string().starts_with(&expect), "{document}: {error}");
        }
    }

    /// Any JSON, not large.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-e]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    /// A schema that a value fits, made from it.
    fn schema_of(value: &Value) -> Value {
        match value {
            Value::Null => json!({ "type": "null" }),
            Value::Bool(bool) => json!({ "const": bool }),
            Value::Number(number) if value.is_i64() => {
                json!({ "type": "integer", "minimum": number, "maximum": number })
            }
            Value::Number(_) => json!({ "type": "number" }),
            Value::String(text) => {
                let count = text.chars().count();
                json!({ "type": "string", "minLength": count, "maxLength": count })
            }
            Value::Array(items) => json!({
                "type": "array", "minItems": items.len(), "maxItems": items.len(),
                "items": { "anyOf": items.iter().map(schema_of).chain([json!({ "type": "null" })]).collect::<Vec<_>>() },
            }),
            Value::Object(members) => json!({
                "type": "object",
                "properties": members.iter().map(|(key, value)| (key.clone(), schema_of(value))).collect::<Map<_, _>>(),
                "required": members.keys().collect::<Vec<_>>(),
                "additionalProperties": false,
            }),
        }
    }

    proptest! {
        #[test]
        fn w7_a_value_fits_the_schema_made_of_it_and_a_key_too_many_is_found(members in prop::collection::btree_map("[a-c]", any_json(), 0..4)) {
            let value: Value = members.into_iter().collect();
            let schema = schema(schema_of(&value));
            prop_assert_eq!(said(&schema, value.clone()), Vec::<String>::new());
            let mut more = value;
            more["one more"] = json!(1);
            prop_assert_eq!(said(&schema, more), ["`one more` is no key of this configuration"]);
        }

        #[test]
        fn w7_no_document_and_no_configuration_breaks_the_checker(document in any_json(), configuration in any_json()) {
            if let Ok(schema) = ConfigSchema::from_json(document) {
                let _ = schema.check(&configuration);
            }
            let loose = schema(schema_of(&json!({ "a": configuration.clone() })));
            prop_assert!(loose.check(&configuration).len() <= CONFIG_PROBLEMS_MAX);
        }
    }
}
