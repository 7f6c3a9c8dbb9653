//! Holds answers of the private listener against the OpenAPI document: each one that a test sees.
//!
//! A schema is read strictly: a field that the document does not name is a difference, and so is a keyword that this reader does
//! not know, lest a part of the document mean nothing.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::client::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(tollgate_api::document::document);

/// The document as this build generates it.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Which call of the document a request asks for; none where it is about none.
pub fn call<'d>(document: &'d Value, method: &str, question: &str) -> Option<&'d Value> {
    let path = question.split('?').next().unwrap_or_default();
    let segments: Vec<_> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<_> = template.split('/').collect();
        parts.len() == segments.len()
            && parts
                .iter()
                .zip(&segments)
                .all(|(part, segment)| part.starts_with('{') || part == segment)
    };
    let paths = document["paths"].as_object()?;
    // A path that is there word for word goes before one that fits.
    let methods = paths.get(path).or_else(|| {
        paths
            .iter()
            .find(|(template, _)| fits(template))
            .map(|(_, methods)| methods)
    })?;
    methods.get(method.to_ascii_lowercase())
}

/// Holds an answer against what the document says of its call.
///
/// # Panics
/// When the document does not say so.
#[track_caller]
pub fn hold(method: &str, question: &str, answer: &Answer) {
    if let Some(call) = call(&DOCUMENT, method, question)
        && let Err(difference) = follows(&DOCUMENT, call, answer.status, &answer.body)
    {
        panic!(
            "{method} {question} is answered otherwise than the document says: {difference}\n{} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
}

/// # Errors
/// In words, at the first difference.
pub fn follows(document: &Value, call: &Value, status: u16, body: &[u8]) -> Result<(), String> {
    let schemas = Schemas { document };
    let response = schemas.resolved(
        call["responses"]
            .get(status.to_string())
            .ok_or_else(|| format!("it knows no status {status}"))?,
    )?;
    let Some(schema) = response["content"]
        .get("application/json")
        .map(|content| &content["schema"])
    else {
        return Ok(());
    };
    let value = serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    schemas.hold(schema, &value, "$")
}

struct Schemas<'d> {
    document: &'d Value,
}

/// Which fields of an object some schema spoke of.
enum Spoken {
    All,
    Of(BTreeSet<String>),
}

impl Spoken {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Of(mut names), Self::Of(others)) => {
                names.extend(others);
                Self::Of(names)
            }
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }
}

impl<'d> Schemas<'d> {
    /// What a reference refers to; anything else is what it is.
    fn resolved(&self, value: &'d Value) -> Result<&'d Value, String> {
        match value["$ref"].as_str() {
            None => Ok(value),
            Some(to) => to
                .strip_prefix('#')
                .and_then(|pointer| self.document.pointer(pointer))
                .ok_or_else(|| format!("{to} is not in the document")),
        }
    }

    fn hold(&self, schema: &'d Value, value: &Value, at: &str) -> Result<(), String> {
        let spoken = self.apply(schema, value, at)?;
        match (spoken, value) {
            (Spoken::Of(names), Value::Object(fields)) => match fields.keys().find(|name| !names.contains(*name)) {
                Some(unknown) => Err(format!("{at}: nothing is said of the field `{unknown}`")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether a value fits a schema, and which of its fields the schema spoke of.
    fn apply(&self, schema: &'d Value, value: &Value, at: &str) -> Result<Spoken, String> {
        let Value::Object(keywords) = schema else {
            return match schema {
                Value::Bool(true) => Ok(Spoken::All),
                other => Err(format!("{at}: {other} is no schema that this reader knows")),
            };
        };
        let restricts =
            |keyword: &&String| !matches!(keyword.as_str(), "description" | "title" | "default" | "examples");
        if keywords.keys().filter(restricts).count() == 0 {
            return Ok(Spoken::All);
        }
        let mut spoken = Spoken::Of(BTreeSet::new());
        for (keyword, said) in keywords {
            match keyword.as_str() {
                "description" | "title" | "default" | "examples" | "format" => {}
                "$ref" => spoken = spoken.with(self.apply(self.resolved(schema)?, value, at)?),
                "type" => self::is_of(said, value, at)?,
                "const" if said == value => {}
                "const" => return Err(format!("{at}: {value} is not {said}")),
                "enum" if said.as_array().is_some_and(|known| known.contains(value)) => {}
                "enum" => return Err(format!("{at}: {value} is none of {said}")),
                "minimum" | "maximum" => bounded(keyword, said, value, at)?,
                "required" => {
                    let missing = |name: &&Value| name.as_str().is_none_or(|name| value.get(name).is_none());
                    let missing = said.as_array().into_iter().flatten().find(missing);
                    if let (Some(missing), Value::Object(_)) = (missing, value) {
                        return Err(format!("{at}: the field {missing} is missing"));
                    }
                }
                "properties" => {
                    let Value::Object(fields) = value else { continue };
                    spoken = spoken.with(self.properties(said, fields, at)?);
                }
                "additionalProperties" | "unevaluatedProperties" => {
                    let Value::Object(fields) = value else { continue };
                    let own = schema["properties"].as_object();
                    let others = fields
                        .iter()
                        .filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)));
                    if *said == Value::Bool(false) {
                        // Whoever holds the value finds what nobody spoke of.
                        continue;
                    }
                    for (name, other) in others {
                        self.hold(said, other, &format!("{at}.{name}"))?;
                    }
                    spoken = Spoken::All;
                }
                "items" | "prefixItems" => {
                    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
                        let of = match said {
                            Value::Array(each) => each.get(index),
                            one => Some(one),
                        };
                        if let Some(of) = of {
                            self.hold(of, element, &format!("{at}[{index}]"))?;
                        }
                    }
                }
                "minItems" | "maxItems" => {
                    let count = value.as_array().map_or(0, Vec::len) as u64;
                    let said = said.as_u64().unwrap_or_default();
                    if value.is_array()
                        && (keyword == "minItems" && count < said || keyword == "maxItems" && count > said)
                    {
                        return Err(format!("{at}: {count} elements, {keyword} is {said}"));
                    }
                }
                "allOf" => {
                    for one in said.as_array().into_iter().flatten() {
                        spoken = spoken.with(self.apply(one, value, at)?);
                    }
                }
                "oneOf" | "anyOf" => {
                    let each = said.as_array().into_iter().flatten();
                    let (mut fitting, mut refused) = (Vec::new(), Vec::new());
                    for one in each {
                        match self.apply(one, value, at) {
                            Ok(spoken) => fitting.push(spoken),
                            Err(why) => refused.push(why),
                        }
                    }
                    if fitting.is_empty() || keyword == "oneOf" && fitting.len() > 1 {
                        let count = fitting.len();
                        return Err(format!("{at}: {count} of the {keyword} fit; {}", refused.join("; ")));
                    }
                    spoken = fitting.into_iter().fold(spoken, Spoken::with);
                }
                unknown => return Err(format!("{at}: this reader does not know the keyword `{unknown}`")),
            }
        }
        Ok(spoken)
    }

    fn properties(&self, said: &'d Value, fields: &Map<String, Value>, at: &str) -> Result<Spoken, String> {
        let mut names = BTreeSet::new();
        for (name, schema) in said.as_object().into_iter().flatten() {
            names.insert(name.clone());
            if let Some(field) = fields.get(name) {
                self.hold(schema, field, &format!("{at}.{name}"))?;
            }
        }
        Ok(Spoken::Of(names))
    }
}

fn is_of(said: &Value, value: &Value, at: &str) -> Result<(), String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    };
    let fits = match said {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{at}: {value} is not {said}"))
    }
}

fn bounded(keyword: &str, said: &Value, value: &Value, at: &str) -> Result<(), String> {
    let (Some(said), Some(found)) = (said.as_f64(), value.as_f64()) else {
        return Ok(());
    };
    let fits = if keyword == "minimum" {
        found >= said
    } else {
        found <= said
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{at}: {value}, but {keyword} {said}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn o2_an_answer_that_drifted_from_the_document_is_noticed() {
        let document = document();
        let held = call(document, "GET", "/v1/held?tenant=acme").expect("the call");
        let row = json!({
            "kind": "held-job", "id": "job_1", "receipt": "rcpt_00000000000000000000000000000000", "tenant": "acme",
            "source": "shop", "route": "cashback", "event_id": "evt_1", "event_type": "redeemed", "subject": null,
            "family": null, "status": null, "received_at": "2026-05-05T10:00:00Z", "since": "2026-05-05T10:00:00Z",
            "reason": "odd", "review": null,
        });
        let said = |status: u16, body: Value| follows(document, held, status, body.to_string().as_bytes());
        assert_eq!(said(200, json!([row])), Ok(()));
        let reviewed = json!({ "at": "2026-05-05T10:00:00Z", "actor": "ana", "why": null, "lifecycle_version": null,
            "became": "kept", "action": "act_1" });
        let changed = |name: &str, value: Option<Value>| {
            let mut row = row.clone();
            let fields = row.as_object_mut().expect("an object");
            match value {
                Some(value) => fields.insert(name.to_owned(), value),
                None => fields.remove(name),
            };
            json!([row])
        };
        assert_eq!(said(200, changed("review", Some(reviewed.clone()))), Ok(()));
        let mut odd = reviewed.clone();
        odd["reviewer"] = "ana".into();
        for (body, part) in [
            (changed("reason", None), "`reason` is missing".replace('`', "\"")),
            (
                changed("reasons", Some(json!([]))),
                "nothing is said of the field `reasons`".to_owned(),
            ),
            (changed("kind", Some(json!("lost"))), "$[0].kind".to_owned()),
            (
                changed("since", Some(json!(1))),
                "$[0].since: 1 is not \"string\"".to_owned(),
            ),
            (changed("review", Some(odd)), "$[0].review".to_owned()),
            (json!({}), "is not \"array\"".to_owned()),
        ] {
            let difference = said(200, body.clone()).expect_err("a difference");
            assert!(difference.contains(&part), "{body}: {difference}");
        }
        assert_eq!(said(404, json!({ "error": "nothing" })), Ok(()));
        assert!(said(404, json!({ "message": "nothing" })).is_err());
        assert_eq!(said(418, json!({})), Err("it knows no status 418".to_owned()));
    }

    #[test]
    fn a_call_is_found_by_its_path() {
        let found = |method, question| call(document(), method, question).map(|call| call["operationId"].clone());
        assert_eq!(found("GET", "/v1/held/counts"), Some(json!("HeldCounts")));
        assert_eq!(
            found("GET", "/v1/plugins/sha256:00?tenant=a"),
            Some(json!("ShowPlugin"))
        );
        assert_eq!(found("PUT", "/v1/tenants/acme/routes/r"), Some(json!("SetRoute")));
        assert_eq!(found("PUT", "/v1/counts"), None);
        assert_eq!(found("GET", "/healthz"), None);
    }
}
