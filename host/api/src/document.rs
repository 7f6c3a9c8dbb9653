//! The OpenAPI document, generated from the table of calls and their types.

use schemars::Schema;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::call::{Content, ErrorBody};
use crate::calls::{ALL, ALWAYS, Listed};

const ABOUT: &str = "What operators and tenants ask and do. Every call but /healthz, /readyz and /openapi.json needs \
    `Authorization: Bearer TOKEN`; `x-permission` names the permission that the token's role must have. A token of a tenant sees \
    and does what is that tenant's, and what is another's does not exist for it. Times are RFC 3339 in UTC.";

/// What a status means that refuses.
fn refusal(status: u16) -> &'static str {
    match status {
        400 => "what was asked for is not what it should be; the message says what to mend",
        401 => "the token proves nobody",
        403 => "the token does not allow this",
        404 => "it does not exist, for this caller",
        408 => "it did not come in time",
        409 => "it cannot be; nothing was written",
        413 => "more than is taken",
        500 => "the host failed; its log says how",
        503 => "the host takes no such call now; try again later",
        _ => "refused",
    }
}

/// Two makers of schemas: of what is asked, and of what is answered.
fn generators() -> (SchemaGenerator, SchemaGenerator) {
    let of = |contract: Contract| {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.contract = contract;
        SchemaGenerator::new(settings)
    };
    (of(Contract::Deserialize), of(Contract::Serialize))
}

/// The whole document, OpenAPI 3.1.
pub fn document() -> Value {
    let (mut asked, mut answered) = generators();
    let error = answered.subschema_for::<ErrorBody>();
    let mut paths: Map<String, Value> = Map::new();
    for call in ALL {
        let described = described(call, &mut asked, &mut answered);
        let methods = paths.entry(call.path).or_insert_with(|| json!({}));
        methods[call.method.as_str().to_ascii_lowercase()] = described;
    }
    let mut schemas = asked.take_definitions(true);
    schemas.extend(answered.take_definitions(true));
    let refusals: Map<String, Value> = statuses()
        .into_iter()
        .map(|status| {
            let response =
                json!({ "description": refusal(status), "content": { "application/json": { "schema": error } } });
            (status.to_string(), response)
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Tollgate's private listener", "version": "1", "description": ABOUT },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": refusals,
            "schemas": schemas,
        },
    })
}

/// Every status with which some call may refuse.
fn statuses() -> std::collections::BTreeSet<u16> {
    let of = ALL.iter().flat_map(Listed::refusals);
    ALWAYS.iter().chain(of).copied().collect()
}

fn described(call: &Listed, asked: &mut SchemaGenerator, answered: &mut SchemaGenerator) -> Value {
    let mut parameters = parameters((call.schemas.path)(asked), "path");
    parameters.extend(self::parameters((call.schemas.query)(asked), "query"));
    let schema = match call.gives {
        Content::Json => (call.schemas.answer)(answered).to_value(),
        Content::Nothing | Content::Component | Content::Metrics => json!({ "type": "string" }),
    };
    let mut responses = Map::new();
    let answer = json!({ "description": call.returns, "content": { media_type(call.gives): { "schema": schema } } });
    responses.insert("200".to_owned(), answer);
    let mut refusals: Vec<u16> = [ALWAYS, call.refusals()].concat();
    refusals.sort_unstable();
    for status in refusals {
        responses.insert(
            status.to_string(),
            json!({ "$ref": format!("#/components/responses/{status}") }),
        );
    }
    let mut described = json!({
        "operationId": call.name,
        "summary": call.says.trim(),
        "x-permission": call.permission.as_str(),
        "parameters": parameters,
        "responses": responses,
    });
    let body = match call.takes {
        Content::Nothing | Content::Metrics => return described,
        Content::Json => (call.schemas.body)(asked).to_value(),
        Content::Component => json!({ "type": "string", "format": "binary" }),
    };
    described["requestBody"] = json!({ "required": true, "content": { media_type(call.takes): { "schema": body } } });
    described
}

fn media_type(content: Content) -> &'static str {
    match content {
        Content::Nothing | Content::Json => "application/json",
        Content::Component => "application/wasm",
        Content::Metrics => "text/plain",
    }
}

/// Each field of a struct as a parameter.
fn parameters(schema: Schema, place: &str) -> Vec<Value> {
    let schema = schema.to_value();
    let required = |name: &str| {
        let listed = schema["required"].as_array().into_iter().flatten();
        place == "path" || listed.filter_map(Value::as_str).any(|required| required == name)
    };
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields
        .map(|(name, field)| {
            let mut field = field.clone();
            let description = field.as_object_mut().and_then(|field| field.remove("description"));
            let mut parameter = json!({ "name": name, "in": place, "required": required(name), "schema": field });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.push(to);
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn o2_the_document_describes_every_call_and_nothing_is_named_that_is_not_there() {
        let document = document();
        for call in ALL {
            let described = &document["paths"][call.path][call.method.as_str().to_ascii_lowercase()];
            assert_eq!(described["x-permission"], call.permission.as_str(), "{}", call.name);
            for name in call.path.split('{').skip(1).filter_map(|part| part.split('}').next()) {
                let mut parameters = described["parameters"].as_array().unwrap().iter();
                assert!(
                    parameters.any(|parameter| parameter["in"] == "path" && parameter["name"] == name),
                    "{}: {name}",
                    call.name
                );
            }
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for to in found {
            let pointer = to.strip_prefix('#').expect("a reference into the document");
            assert!(document.pointer(pointer).is_some(), "{to}");
        }
    }

    fn descriptions<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(description)) = fields.get("description") {
                    found.push(description);
                }
                fields.values().for_each(|value| descriptions(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| descriptions(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn o2_no_description_is_written_for_readers_of_the_source() {
        let document = document();
        let mut found = Vec::new();
        descriptions(&document, &mut found);
        assert!(found.len() > 300, "{}", found.len());
        found.retain(|description| description.contains("[`") || description.contains("::"));
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn no_name_of_a_schema_means_two_things() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        // Where two types have one name, the generator numbers the second.
        let numbered: Vec<_> = schemas
            .keys()
            .filter(|name| name.ends_with(|last: char| last.is_ascii_digit()))
            .collect();
        assert!(numbered.is_empty(), "{numbered:?}");
        let (mut asked, mut answered) = generators();
        for call in ALL {
            described(call, &mut asked, &mut answered);
        }
        let (asked, answered) = (asked.take_definitions(true), answered.take_definitions(true));
        for (name, schema) in &asked {
            assert!(
                answered.get(name).is_none_or(|other| other == schema),
                "{name} is asked and answered otherwise"
            );
        }
    }
}
