//! What tests ask of answers, in JSON and in words.

use serde_json::Value;

/// The entries of a list; none of what is no list.
pub fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The text of a field; an empty one where there is none.
pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// Fails unless `value` has every field of `expected` with its value; further fields are of no interest, at any depth.
///
/// # Panics
/// Then; shows the whole value.
#[track_caller]
pub fn holds(value: &Value, expected: &Value) {
    assert!(has(value, expected), "expected {expected:#}\nin {value:#}");
}

/// Fails unless the text has each of these parts.
///
/// # Panics
/// Then; shows the whole text.
#[track_caller]
pub fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

fn has(value: &Value, expected: &Value) -> bool {
    match expected {
        Value::Object(fields) => fields.iter().all(|(name, expected)| has(&value[name], expected)),
        expected => value == expected,
    }
}
