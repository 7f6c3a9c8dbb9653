//! A tenant's configuration of a plugin: the JSON document that the plugin is handed, held against what its schema asks for.

use std::fmt::Write as _;

use tollgate_core::config_schema::Segment;
use tollgate_core::ids::PluginName;
use toml::de::DeValue;

use super::raw::{Section, Value, suggestion};
use super::schemas::VersionSchema;

/// A tenant's configuration of one plugin, as JSON.
const ROUTE_CONFIG_BYTES_MAX: usize = 64 * 1024;

/// Reports what a configuration breaks of a version's schema, each at its key.
pub(super) fn hold_against(
    version: &VersionSchema,
    plugin: &PluginName,
    json: &str,
    config: Option<&Value>,
    section: &Section,
) {
    let (Some(schema), Ok(configuration)) = (&version.schema, serde_json::from_str(json)) else {
        return;
    };
    for problem in schema.check(&configuration) {
        let asked_by = format!("`{plugin}` {} asks for it in its manifest", version.version);
        let help = match (&problem.known_keys, problem.path.0.last()) {
            (Some(known), Some(Segment::Key(key))) => suggestion(
                key,
                known.iter().map(String::as_str),
                &format!("known to `{plugin}` {}", version.version),
            ),
            _ => asked_by,
        };
        match config {
            Some(config) => config.at(&problem.path).problem_of_key(problem.to_string(), help),
            None => section.problem(problem.to_string(), &help),
        }
    }
}

/// The JSON document that a plugin is handed. Keys are in order of their bytes, so that the digest depends on the content only.
pub(super) fn json(value: &Value) -> Option<String> {
    if !value.raw().is_table() {
        // Reports the type.
        value.section()?;
    }
    let mut json = String::new();
    if let Err(unspeakable) = write_json(value.raw(), &mut json) {
        value.problem(unspeakable, "JSON has no word for it; write a text instead");
        return None;
    }
    if json.len() > ROUTE_CONFIG_BYTES_MAX {
        value.problem(
            format!(
                "the configuration is {} bytes as JSON; at most {ROUTE_CONFIG_BYTES_MAX} are allowed",
                json.len()
            ),
            "keep tables of data in the plugin, or in its state",
        );
        return None;
    }
    Some(json)
}

/// Dates and times become texts. What JSON cannot say is an error.
fn write_json(value: &DeValue, json: &mut String) -> Result<(), String> {
    match value {
        DeValue::String(text) => json.push_str(&quoted(text)),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| format!("the number {} does not fit 64 bits", integer.as_str()))?;
            let _ = write!(json, "{number}");
        }
        DeValue::Float(float) => {
            let number: f64 = float
                .as_str()
                .parse()
                .map_err(|_| format!("{} is not a number", float.as_str()))?;
            let number =
                serde_json::Number::from_f64(number).ok_or_else(|| format!("{} is not finite", float.as_str()))?;
            let _ = write!(json, "{number}");
        }
        DeValue::Boolean(boolean) => json.push_str(if *boolean { "true" } else { "false" }),
        DeValue::Datetime(datetime) => json.push_str(&quoted(&datetime.to_string())),
        DeValue::Array(elements) => {
            json.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                write_json(element.get_ref(), json)?;
            }
            json.push(']');
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table
                .iter()
                .map(|(key, value)| (key.get_ref(), value.get_ref()))
                .collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            json.push('{');
            for (at, (key, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                json.push_str(&quoted(key));
                json.push(':');
                write_json(value, json)?;
            }
            json.push('}');
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
