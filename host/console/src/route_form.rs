//! The form of a route: which events it takes, and what it does with them. What a plugin's configuration can be says the plugin's own schema, which
//! fields are made of; what fields cannot say is written as JSON, and held against the same schema.

use serde_json::{Map, Value as Json};
use tollgate_core::action::{ActionKind, ForwardForm};
use tollgate_core::config_schema::{ConfigSchema, Segment};
use tollgate_core::content::ContentFilter;
use tollgate_core::grant::Grant;
use tollgate_core::mask;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table as TomlTable, Value};

use crate::fields::{Field, Kind, Wrong, head, line, pairs};
use crate::grants;
use crate::visit::Filled;

/// What a route runs, as the form says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Runs {
    Forward(ForwardForm),
    Plugin(String),
}

impl Runs {
    /// Reads `envelope`, or `plugin:cashback`.
    pub(crate) fn of(text: &str) -> Option<Self> {
        match text.strip_prefix("plugin:") {
            Some(name) if !name.is_empty() => Some(Self::Plugin(name.to_owned())),
            Some(_) => None,
            None => text.parse().ok().map(Self::Forward),
        }
    }
}

/// What a plugin's manifest says that a route's form is made of.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    pub(crate) kinds: Vec<ActionKind>,
    /// Patterns of the types that it is written for.
    pub(crate) types: Vec<String>,
    pub(crate) schema: Option<ConfigSchema>,
}

impl Asks {
    pub(crate) fn of(manifest: &Json) -> Self {
        let texts = |name: &str| {
            let listed = manifest[name].as_array().into_iter().flatten();
            listed.filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let schema = manifest.get("configuration").filter(|schema| schema.is_object());
        Self {
            kinds: texts("actions")
                .iter()
                .filter_map(|name| ActionKind::from_name(name))
                .collect(),
            types: texts("events").into_iter().filter(|pattern| pattern != "*").collect(),
            schema: schema.and_then(|schema| ConfigSchema::from_json(schema.clone()).ok()),
        }
    }
}

/// What a tenant has that a route may name.
pub(crate) struct Offered {
    pub(crate) sources: Vec<String>,
    pub(crate) destinations: Vec<String>,
    /// Types of events that came lately.
    pub(crate) types: Vec<String>,
}

/// What the route says now, where it is changed: what its text says, whether that runs or not.
#[derive(Default)]
pub(crate) struct Now {
    grants: Vec<Grant>,
    table: Option<TomlTable>,
}

/// Where integers of TOML end. A fraction that is greater may have been an integer.
const INTEGER_END: f64 = 9_223_372_036_854_775_808.0;
/// Keys that have fields of their own.
const OWN: [&str; 8] = [
    "sources",
    "types",
    "filter",
    "plugin",
    "forward",
    "destinations",
    "grants",
    "config",
];

impl Now {
    /// A route of the settings.
    ///
    /// # Errors
    /// In words, when its form would not say again which events it takes or what it grants: less or more would be left of it, unseen.
    pub(crate) fn of(table: TomlTable, asks: &Asks) -> Result<Self, String> {
        let grants = table.get("grants").map(json_of_item);
        let grants = grants.map_or(Some(Vec::new()), |grants| grants::in_settings(&grants));
        let now = Self {
            grants: grants.clone().unwrap_or_default(),
            table: Some(table),
        };
        let is_split = |name: &String| name.contains(',') || name.trim() != name || name.is_empty();
        let unsaid = if !grants.is_some_and(|grants| grants::have_fields(&asks.kinds, &grants)) {
            "its grants"
        } else if now.texts("types").iter().any(is_split) {
            "its types"
        } else if now.text("filter").contains(char::is_control) {
            "its filter"
        } else if !now
            .table
            .as_ref()
            .and_then(|table| table.get("config"))
            .is_none_or(has_json)
        {
            "its configuration"
        } else {
            return Ok(now);
        };
        Err(format!(
            "the fields of this form do not say all that {unsaid} say, and some would be lost; change it under Settings"
        ))
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let listed = self
            .table
            .as_ref()
            .and_then(|table| table.get(key))
            .and_then(Item::as_array);
        listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }

    fn text(&self, key: &str) -> String {
        let item = self.table.as_ref().and_then(|table| table.get(key));
        item.and_then(Item::as_str).unwrap_or_default().to_owned()
    }

    fn config(&self) -> Json {
        let item = self.table.as_ref().and_then(|table| table.get("config"));
        item.map_or(Json::Null, json_of_item)
    }

    /// The keys that have no field.
    fn more(&self) -> String {
        let mut rest = TomlTable::new();
        for (key, item) in self.table.iter().flat_map(TomlTable::iter) {
            if !OWN.contains(&key) {
                let mut item = item.clone();
                unplace(&mut item);
                rest.insert(key, item);
            }
        }
        DocumentMut::from(rest).to_string().trim().to_owned()
    }
}

/// What it does with late events, and whether it is paused, are not asked here: the first stands under further keys.
pub(crate) fn fields(runs: &Runs, asks: &Asks, offered: &Offered, now: &Now) -> Vec<Field> {
    let own_types = now.texts("types");
    let mut types: Vec<String> = offered.types.iter().chain(&asks.types).cloned().collect();
    types.sort();
    types.dedup();
    let others: Vec<_> = own_types.iter().filter(|name| !types.contains(name)).cloned().collect();
    let many = |name: &str, label: &str, choices: &[String], values: Vec<String>, hint: &str| Field {
        kind: Kind::Many(pairs(choices.to_vec())),
        values,
        ..line(name, label, hint, false)
    };
    // What the text names is offered even if it does not run: without its tick, the route would take everything.
    let (own_sources, own_destinations) = (now.texts("sources"), now.texts("destinations"));
    let sources = both(&offered.sources, &own_sources);
    let destinations = both(&offered.destinations, &own_destinations);
    let mut fields = vec![head("Which events it takes", "")];
    if !sources.is_empty() {
        fields.push(many(
            "sources",
            "Sources",
            &sources,
            own_sources,
            "None ticked: all of them.",
        ));
    }
    if !types.is_empty() {
        fields.push(many(
            "types",
            "Types",
            &types,
            own_types,
            "Types that came lately, and those that the plugin is written for.",
        ));
    }
    fields.push(Field {
        value: others.join(", "),
        ..line(
            "more_types",
            match types.is_empty() {
                true => "Types",
                false => "Further types",
            },
            "With commas between them; customer.* stands for all that begin so. No type at all: every event.",
            false,
        )
    });
    fields.push(Field {
        value: now.text("filter"),
        ..line(
            "filter",
            "Content",
            "Terms that must all hold, for example body.data.amount:>=100 -type:order.test. Empty: whatever it says.",
            false,
        )
    });
    if let Runs::Plugin(_) = runs {
        fields.push(head(
            "Configuration",
            match asks.schema {
                Some(_) => "What the plugin asks for. It is checked before the route is set.",
                None => "The plugin says nothing of its configuration: it judges it alone, when it runs.",
            },
        ));
        fields.extend(config_fields(asks, &now.config()));
        if !asks.kinds.is_empty() {
            fields.extend(grants::fields(&asks.kinds, &now.grants));
        }
    }
    fields.push(head("Where it goes", ""));
    if destinations.is_empty() {
        fields.push(head(
            "",
            match runs {
                Runs::Forward(_) => {
                    "There is no destination yet, and this route needs one: add one under Destinations first."
                }
                Runs::Plugin(_) => "There is no destination yet: what the plugin records stays in the ledger.",
            },
        ));
    } else {
        let hint = match runs {
            Runs::Forward(_) => "One at least.",
            Runs::Plugin(_) => "None ticked: what it records stays in the ledger.",
        };
        fields.push(many(
            "destinations",
            "Destinations",
            &destinations,
            own_destinations,
            hint,
        ));
    }
    fields.push(Field {
        kind: Kind::Lines(4),
        value: now.more(),
        ..line(
            "more",
            "Further keys",
            "As TOML, for example late = \"hold\", statuses = [\"paid\"] or operations = \"bonus\".",
            false,
        )
    });
    fields
}

/// What is offered, and what was chosen besides.
fn both(offered: &[String], chosen: &[String]) -> Vec<String> {
    let besides = chosen.iter().filter(|name| !offered.contains(name));
    offered.iter().chain(besides).cloned().collect()
}

/// A field for each property of the schema.
fn config_fields(asks: &Asks, now: &Json) -> Vec<Field> {
    let Some(schema) = &asks.schema else {
        return vec![Field {
            kind: Kind::Lines(6),
            value: match now {
                Json::Object(members) if !members.is_empty() => pretty(now),
                _ => String::new(),
            },
            ..line("config", "Configuration", "A JSON object; empty for none.", false)
        }];
    };
    let document = schema.document();
    let required: Vec<&str> = document["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    let empty = Map::new();
    let properties = document["properties"].as_object().unwrap_or(&empty);
    let mut fields: Vec<_> = properties
        .iter()
        .map(|(key, schema)| config_field(key, schema, &now[key.as_str()], required.contains(&key.as_str())))
        .collect();
    let others = now
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !properties.contains_key(*key));
    let others: Map<String, Json> = others.map(|(key, value)| (key.clone(), value.clone())).collect();
    // What this version of the plugin does not know is shown as well: whoever sets it is told.
    if document["additionalProperties"] != Json::Bool(false) || !others.is_empty() {
        fields.push(Field {
            kind: Kind::Lines(3),
            value: match others.is_empty() {
                true => String::new(),
                false => pretty(&Json::Object(others)),
            },
            ..line(
                "config",
                "Further configuration",
                "A JSON object; empty for none.",
                false,
            )
        });
    }
    fields
}

/// What fills a property in.
#[derive(PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    Choice,
    Texts,
    /// Anything else, as JSON.
    Json,
}

impl Shape {
    /// Whether a browser sends a value back as it is from a field of this shape, and it is read as the same: lines lose their ends,
    /// texts what is empty around them, and nothing is what was left out.
    fn keeps(&self, schema: &Json, value: &Json) -> bool {
        let is_line = |text: &str| !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
        match self {
            Self::Text => value.as_str().is_some_and(is_line),
            Self::Number => value.is_number(),
            Self::Choice => chosen_from(schema).contains(value),
            Self::Texts => value
                .as_array()
                .is_some_and(|items| !items.is_empty() && items.iter().all(|item| item.as_str().is_some_and(is_line))),
            Self::Json => true,
        }
    }
}

/// What a property may be that is chosen.
fn chosen_from(schema: &Json) -> Vec<Json> {
    match schema["enum"].as_array() {
        Some(values) => values.clone(),
        None => vec![Json::Bool(true), Json::Bool(false)],
    }
}

/// What the schema says that fills a property in.
fn shape(schema: &Json) -> Shape {
    if schema["enum"].is_array() || schema["type"] == "boolean" {
        return Shape::Choice;
    }
    match schema["type"].as_str() {
        Some("string") => Shape::Text,
        Some("integer" | "number") => Shape::Number,
        Some("array") if schema["items"]["type"] == "string" && schema["items"]["enum"].is_null() => Shape::Texts,
        _ => Shape::Json,
    }
}

fn name(key: &str) -> String {
    format!("config.{key}")
}

/// The field of a property whose value no field of its shape would keep.
fn name_as_json(key: &str) -> String {
    format!("json.{key}")
}

fn pretty(value: &Json) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn config_field(key: &str, schema: &Json, now: &Json, required: bool) -> Field {
    let label = schema["title"]
        .as_str()
        .map_or_else(|| key.replace('_', " "), str::to_owned);
    let mut label = mask::line(&label, 120);
    if let (Some(first), Some(rest)) = (label.get(..1), label.get(1..)) {
        label = format!("{}{rest}", first.to_uppercase());
    }
    let by_schema = shape(schema);
    let is_default = now.is_null();
    let now = if is_default { &schema["default"] } else { now };
    let (name, shape, now) = match (now.is_null() || by_schema.keeps(schema, now), is_default) {
        (true, _) => (name(key), by_schema, now),
        // Left empty, it is the default by itself.
        (false, true) => (name(key), by_schema, &Json::Null),
        (false, false) => (name_as_json(key), Shape::Json, now),
    };
    let choices = || {
        let none = (
            String::new(),
            if required { "choose one" } else { "not set" }.to_owned(),
        );
        let given = chosen_from(schema).into_iter();
        let each = given.map(|value| (value.to_string(), shown(&value)));
        std::iter::once(none).chain(each).collect()
    };
    let (kind, value) = match shape {
        Shape::Text => (Kind::Line, now.as_str().unwrap_or_default().to_owned()),
        Shape::Number => (
            Kind::Line,
            if now.is_number() {
                now.to_string()
            } else {
                String::new()
            },
        ),
        Shape::Choice => (
            Kind::One(choices()),
            if now.is_null() { String::new() } else { now.to_string() },
        ),
        Shape::Texts => {
            let texts = now.as_array().into_iter().flatten().filter_map(Json::as_str);
            (Kind::Lines(3), texts.collect::<Vec<_>>().join("\n"))
        }
        Shape::Json => (Kind::Lines(4), if now.is_null() { String::new() } else { pretty(now) }),
    };
    Field {
        kind,
        value,
        ..line(&name, &label, &hint(schema, &shape), required)
    }
}

/// A value of a choice, for people.
fn shown(value: &Json) -> String {
    match value {
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::String(text) => mask::line(text, 120),
        other => mask::line(&other.to_string(), 120),
    }
}

fn hint(schema: &Json, shape: &Shape) -> String {
    let mut says = Vec::new();
    if let Some(text) = schema["description"].as_str() {
        says.push(mask::line(text, 400));
    }
    let bound = |name: &str| {
        schema
            .get(name)
            .filter(|bound| bound.is_number())
            .map(ToString::to_string)
    };
    // A bound that only says what fits into a number is none that anybody wants to read.
    let most = bound("maximum").filter(|most| most.len() < 16);
    match (bound("minimum"), most) {
        (Some(least), Some(most)) => says.push(format!("From {least} to {most}.")),
        (Some(least), None) => says.push(format!("At least {least}.")),
        (None, Some(most)) => says.push(format!("At most {most}.")),
        (None, None) => {}
    }
    match shape {
        Shape::Texts => says.push("One a line.".to_owned()),
        Shape::Json => {
            let keys: Vec<_> = schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.as_str())
                .collect();
            says.push(match keys.is_empty() {
                true => "As JSON; empty for none.".to_owned(),
                false => format!(
                    "A JSON object with {}; empty for none.",
                    mask::line(&keys.join(", "), 200)
                ),
            });
        }
        Shape::Text | Shape::Number | Shape::Choice => {}
    }
    if let Some(default) = schema.get("default").filter(|_| *shape != Shape::Json) {
        says.push(format!("Unless said: {}.", shown(default)));
    }
    says.join(" ")
}

/// The route that the form says, as settings have it.
///
/// # Errors
/// What is wrong with its fields.
pub(crate) fn read(runs: &Runs, asks: &Asks, form: &Filled) -> Result<TomlTable, Vec<Wrong>> {
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut table = TomlTable::new();
    let mut put = |key: &str, names: Vec<&str>| {
        if !names.is_empty() {
            table.insert(key, toml_edit::value(names.into_iter().collect::<Array>()));
        }
    };
    put("sources", form.all("sources"));
    let mut types = form.all("types");
    let further = form.get("more_types");
    types.extend(further.split(',').map(str::trim).filter(|name| !name.is_empty()));
    types.dedup();
    put("types", types);
    put("destinations", form.all("destinations"));
    if let Some(text) = form.given("filter") {
        match ContentFilter::read(&text) {
            Ok(_) => {
                table.insert("filter", toml_edit::value(text));
            }
            Err(error) => wrong.push((
                "filter".to_owned(),
                format!("character {}: {}", error.column, error.message),
            )),
        }
    }
    match runs {
        Runs::Forward(form) => {
            table.insert("forward", toml_edit::value(form.to_string()));
        }
        Runs::Plugin(plugin) => {
            table.insert("plugin", toml_edit::value(plugin.as_str()));
            match grants::read(&asks.kinds, form) {
                Ok(granted) if granted.is_empty() => {}
                Ok(granted) => {
                    table.insert("grants", toml_edit::value(grants::written(&granted)));
                }
                Err(said) => wrong.extend(said),
            }
            match config(asks, form) {
                Ok(members) if members.is_empty() => {}
                Ok(members) => {
                    let mut config = TomlTable::new();
                    for (key, value) in &members {
                        match toml_of(value) {
                            Ok(value) => {
                                config.insert(key, toml_edit::value(value));
                            }
                            Err(says) => wrong.push((field_of(asks, form, key), says)),
                        }
                    }
                    table.insert("config", Item::Table(config));
                }
                Err(said) => wrong.extend(said),
            }
        }
    }
    let more = form.get("more").replace("\r\n", "\n");
    match more.parse::<DocumentMut>() {
        Ok(more) => {
            for (key, item) in more.iter() {
                if OWN.contains(&key) {
                    wrong.push((
                        "more".to_owned(),
                        format!("`{}` has a field of its own", mask::line(key, 60)),
                    ));
                    continue;
                }
                let mut item = item.clone();
                unplace(&mut item);
                table.insert(key, item);
            }
        }
        Err(error) => wrong.push((
            "more".to_owned(),
            format!("this is no TOML: {}", mask::line(error.message(), 200)),
        )),
    }
    if wrong.is_empty() { Ok(table) } else { Err(wrong) }
}

/// The filter that was written, with a mark below the place that is wrong.
pub(crate) fn place(form: &Filled) -> Option<String> {
    let text = form.given("filter")?;
    let error = ContentFilter::read(&text).err()?;
    let shown = mask::line(&text, 600);
    Some(format!("{shown}\n{}^", " ".repeat(error.column.saturating_sub(1))))
}

/// The configuration that the fields say, checked by the schema.
fn config(asks: &Asks, form: &Filled) -> Result<Map<String, Json>, Vec<Wrong>> {
    let (members, mut wrong) = filled_in(asks, form);
    if let (Some(schema), true) = (&asks.schema, wrong.is_empty()) {
        for problem in schema.check(&Json::Object(members.clone())) {
            let place = match problem.path.0.first() {
                Some(Segment::Key(key)) => field_of(asks, form, key),
                _ => "config".to_owned(),
            };
            wrong.push((place, problem.to_string()));
        }
    }
    if wrong.is_empty() { Ok(members) } else { Err(wrong) }
}

/// What the fields of a configuration say, and what is wrong with how it is written.
fn filled_in(asks: &Asks, form: &Filled) -> (Map<String, Json>, Vec<Wrong>) {
    let mut wrong = Vec::new();
    let mut members = match form.given("config").map(|text| serde_json::from_str::<Json>(&text)) {
        None => Map::new(),
        Some(Ok(Json::Object(members))) => members,
        Some(Ok(_)) => {
            wrong.push(("config".to_owned(), "write a JSON object: { … }".to_owned()));
            Map::new()
        }
        Some(Err(error)) => {
            wrong.push(("config".to_owned(), format!("this is no JSON: {error}")));
            Map::new()
        }
    };
    let document = asks.schema.as_ref().map(ConfigSchema::document);
    let properties = document.and_then(|document| document["properties"].as_object());
    for (key, property) in properties.into_iter().flatten() {
        let field = field_of(asks, form, key);
        let Some(text) = form.given(&field) else { continue };
        let shape = match field == name_as_json(key) {
            true => Shape::Json,
            false => shape(property),
        };
        let value = match shape {
            Shape::Text => Ok(Json::String(text)),
            Shape::Texts => Ok(text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .into()),
            Shape::Number => match serde_json::from_str::<serde_json::Number>(text.trim()) {
                Ok(number) => Ok(Json::Number(number)),
                Err(_) => Err(format!("`{}` is no number", mask::line(&text, 40))),
            },
            Shape::Choice | Shape::Json => {
                serde_json::from_str(&text).map_err(|error| format!("this is no JSON: {error}"))
            }
        };
        match value {
            Ok(value) => {
                members.insert(key.clone(), value);
            }
            Err(says) => wrong.push((field, says)),
        }
    }
    (members, wrong)
}

/// The field of a form that a property of the configuration was filled in with.
fn field_of(asks: &Asks, form: &Filled, key: &str) -> String {
    let properties = asks.schema.as_ref().map(|schema| &schema.document()["properties"]);
    match properties.is_some_and(|properties| properties.get(key).is_some()) {
        false => "config".to_owned(),
        true if form.given(&name_as_json(key)).is_some() => name_as_json(key),
        true => name(key),
    }
}

/// # Errors
/// In words, when TOML has no such value, or only another that is near.
fn toml_of(value: &Json) -> Result<Value, String> {
    Ok(match value {
        Json::Null => return Err("null has no place in a configuration: leave it out".to_owned()),
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            // As JSON is read, an integer that is too great is a fraction by now, and another number.
            (None, Some(float)) if float.is_finite() && float.abs() < INTEGER_END => float.into(),
            (None, _) => return Err(format!("settings have no integer beyond {}", i64::MAX)),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => {
            let items: Result<Array, String> = items.iter().map(toml_of).collect();
            Value::Array(items?)
        }
        Json::Object(members) => {
            let mut table = InlineTable::new();
            for (key, value) in members {
                table.insert(key, toml_of(value)?);
            }
            Value::InlineTable(table)
        }
    })
}

/// Whether JSON says all that a part of the settings says, and is read as the same: it has no times, and no number that is none.
fn has_json(item: &Item) -> bool {
    let value = |value: &Value| has_json(&Item::Value(value.clone()));
    match item {
        Item::Value(Value::Datetime(_)) => false,
        Item::Value(Value::Float(number)) => {
            let json = Json::from(*number.value());
            number.value().abs() < INTEGER_END && serde_json::from_str::<Json>(&json.to_string()).ok() == Some(json)
        }
        Item::Value(Value::Array(items)) => items.iter().all(value),
        Item::Value(Value::InlineTable(table)) => table.iter().all(|(_, one)| value(one)),
        Item::Value(Value::String(_) | Value::Integer(_) | Value::Boolean(_)) | Item::None => true,
        Item::Table(table) => table.iter().all(|(_, item)| has_json(item)),
        Item::ArrayOfTables(tables) => tables.iter().all(|table| table.iter().all(|(_, item)| has_json(item))),
    }
}

fn json_of_item(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Value(value) => json_of(value),
        Item::Table(table) => table
            .iter()
            .map(|(key, item)| (key.to_owned(), json_of_item(item)))
            .collect::<Map<_, _>>()
            .into(),
        Item::ArrayOfTables(tables) => {
            let each = tables.iter().map(|table| json_of_item(&Item::Table(table.clone())));
            Json::Array(each.collect())
        }
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::String(text) => text.value().as_str().into(),
        Value::Integer(number) => (*number.value()).into(),
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(value) => (*value.value()).into(),
        Value::Datetime(at) => at.value().to_string().into(),
        Value::Array(items) => items.iter().map(json_of).collect::<Vec<_>>().into(),
        Value::InlineTable(table) => table
            .iter()
            .map(|(key, value)| (key.to_owned(), json_of(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Forgets where tables stood in the text that they come from: in another they would stand at that place.
fn unplace(item: &mut Item) {
    match item {
        Item::Table(table) => {
            table.set_position(None);
            table.iter_mut().for_each(|(_, item)| unplace(item));
        }
        Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|table| {
            table.set_position(None);
            table.iter_mut().for_each(|(_, item)| unplace(item));
        }),
        Item::Value(_) | Item::None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a browser sends of these fields, where nobody touches them.
    fn sent(fields: Vec<Field>) -> Filled {
        let mut sent = Vec::new();
        for field in fields {
            match &field.kind {
                Kind::Head => {}
                Kind::Many(choices) => {
                    let ticked = choices.iter().filter(|(value, _)| field.has(value));
                    sent.extend(ticked.map(|(value, _)| (field.name.clone(), value.clone())));
                }
                Kind::One(choices) => {
                    let chosen = choices.iter().find(|(value, _)| *value == field.value);
                    let chosen = chosen.or(choices.first()).map(|(value, _)| value.clone());
                    sent.push((field.name, chosen.unwrap_or_default()));
                }
                Kind::Line => sent.push((field.name, field.value.replace(['\r', '\n'], ""))),
                _ => sent.push((field.name, field.value)),
            }
        }
        Filled(sent)
    }

    fn asks() -> Asks {
        Asks::of(&json!({
            "actions": ["credit"],
            "events": ["order.*"],
            "configuration": {
                "type": "object",
                "properties": {
                    "rate": { "type": "integer", "minimum": 1, "maximum": 10000, "description": "Basis points." },
                    "share": { "type": "number" },
                    "currency": { "type": "string", "minLength": 3, "maxLength": 3 },
                    "mode": { "enum": ["fast", "slow"], "default": "fast" },
                    "strict": { "type": "boolean" },
                    "types": { "type": "array", "items": { "type": "string" } },
                    "limit": { "type": "object", "properties": { "days": { "type": "integer" } }, "additionalProperties": false },
                },
                "required": ["rate"],
                "additionalProperties": false,
            },
        }))
    }

    #[test]
    fn o14_a_schema_makes_fields_and_what_is_filled_in_is_read_by_it() {
        let runs = Runs::of("plugin:bonus").unwrap();
        let offered = Offered {
            sources: vec!["shop".to_owned()],
            destinations: vec!["books".to_owned()],
            types: vec!["order.paid".to_owned()],
        };
        let shown = fields(&runs, &asks(), &offered, &Now::default());
        let rate = shown.iter().find(|field| field.name == "config.rate").unwrap();
        assert!(
            rate.required && rate.hint.contains("Basis points. From 1 to 10000."),
            "{}",
            rate.hint
        );
        let mode = shown.iter().find(|field| field.name == "config.mode").unwrap();
        assert!(matches!(&mode.kind, Kind::One(choices) if choices.len() == 3) && mode.value == "\"fast\"");
        let form = Filled::of(&[
            ("sources", "shop"),
            ("types", "order.paid"),
            ("more_types", "refund.*"),
            ("filter", "body.data.amount:>=100"),
            ("destinations", "books"),
            ("config.rate", "500"),
            ("config.share", "0.5"),
            ("config.mode", "\"slow\""),
            ("config.strict", "true"),
            ("config.types", "a\r\n b \n"),
            ("config.limit", "{\"days\": 7}"),
            ("grant.credit.granted", "true"),
            ("grant.credit.most", "20.00"),
            ("grant.credit.currencies", "USD"),
            ("more", "late = \"hold\"\r\n"),
        ]);
        let table = read(&runs, &asks(), &form).unwrap();
        let text = DocumentMut::from(table.clone()).to_string();
        for says in [
            "sources = [\"shop\"]\ntypes = [\"order.paid\", \"refund.*\"]\ndestinations = [\"books\"]\nfilter = \"body.data.amount:>=100\"\nplugin = \"bonus\"\n",
            "late = \"hold\"",
            "rate = 500\n",
            "share = 0.5\n",
            "mode = \"slow\"\n",
            "types = [\"a\", \"b\"]\n",
            "limit = { days = 7 }\n",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
        // What it says is filled in again, and says the same again.
        let now = Now::of(table, &asks()).unwrap();
        let again = read(&runs, &asks(), &sent(fields(&runs, &asks(), &offered, &now))).unwrap();
        assert_eq!(DocumentMut::from(again).to_string(), text);
    }

    #[test]
    fn o14_what_a_route_names_stays_chosen_whether_it_runs_or_not() {
        let text = "sources = [\"new\"]\nforward = \"body\"\ndestinations = [\"gone\", \"books\"]\n";
        let table = text.parse::<DocumentMut>().unwrap().as_table().clone();
        let (runs, asks) = (Runs::Forward(ForwardForm::Body), Asks::default());
        let now = Now::of(table, &asks).unwrap();
        for sources in [&["shop"][..], &[]] {
            let offered = Offered {
                sources: sources.iter().map(|name| (*name).to_owned()).collect(),
                destinations: vec!["books".to_owned()],
                types: Vec::new(),
            };
            let shown = fields(&runs, &asks, &offered, &now);
            let again = DocumentMut::from(read(&runs, &asks, &sent(shown)).unwrap()).to_string();
            for says in ["sources = [\"new\"]\n", "destinations = [\"books\", \"gone\"]\n"] {
                assert!(again.contains(says), "{says}: {again}");
            }
        }
    }

    #[test]
    fn o14_a_route_whose_form_would_not_say_it_again_has_none() {
        for (text, says) in [
            (
                "plugin = \"bonus\"\ngrants = [{ kind = \"flag\" }]\n",
                Some("its grants"),
            ),
            (
                "plugin = \"bonus\"\n[[grants]]\nkind = \"credit\"\namount_max = 5\ncurrencies = [\"USD\"]\n",
                None,
            ),
            ("types = [\"a,b\"]\nplugin = \"bonus\"\n", Some("its types")),
            (
                "plugin = \"bonus\"\nconfig = { until = 2026-11-30 }\n",
                Some("its configuration"),
            ),
            (
                "plugin = \"bonus\"\nconfig = { shares = [{ most = inf }] }\n",
                Some("its configuration"),
            ),
            (
                "filter = \"\"\"body.a:1\nbody.b:2\"\"\"\nplugin = \"bonus\"\n",
                Some("its filter"),
            ),
        ] {
            let table = text.parse::<DocumentMut>().unwrap().as_table().clone();
            match (Now::of(table, &asks()), says) {
                (Ok(_), None) => {}
                (Err(said), Some(says)) => assert!(said.contains(says), "{text}: {said}"),
                (now, _) => panic!("{text}: {:?}", now.err()),
            }
        }
    }

    #[test]
    fn o14_a_configuration_that_nobody_touches_stays_what_it_is() {
        let runs = Runs::of("plugin:bonus").unwrap();
        let offered = Offered {
            sources: Vec::new(),
            destinations: Vec::new(),
            types: Vec::new(),
        };
        for config in [
            "currency = \" USD \"",
            "currency = \"one\\ntwo\"",
            "currency = \"\"",
            "currency = 5",
            "types = []",
            "types = [\"a\", \" b\"]",
            "types = [\"a\\nb\"]",
            "mode = \"neither\"",
            "share = 0.1",
            "share = 1.0",
            "unknown = [1, { a = true }]",
            "limit = { days = 9223372036854775807 }",
        ] {
            let text = format!("plugin = \"bonus\"\n\n[config]\n{config}\nrate = 5\n");
            let table = text.parse::<DocumentMut>().unwrap().as_table().clone();
            let now = Now::of(table.clone(), &asks()).unwrap();
            let shown = sent(fields(&runs, &asks(), &offered, &now));
            let (found, wrong) = filled_in(&asks(), &shown);
            assert_eq!(wrong, [], "{config}");
            for (key, value) in json_of_item(&table["config"]).as_object().unwrap() {
                assert_eq!(found.get(key), Some(value), "{config}");
                assert!(toml_of(value).is_ok(), "{config}");
            }
        }
    }

    #[test]
    fn o14_what_is_wrong_is_said_at_its_field() {
        let runs = Runs::of("plugin:bonus").unwrap();
        for (fields, at, says) in [
            (&[][..], "config", "has no `rate`"),
            (&[("config.rate", "many")], "config.rate", "no number"),
            (&[("config.rate", "0")], "config.rate", "at least 1"),
            (&[("config.rate", "1.5")], "config.rate", "must be an integer"),
            (
                &[("config.rate", "5"), ("config.currency", "dollars")],
                "config.currency",
                "at most 3",
            ),
            (
                &[("config.rate", "5"), ("config.limit", "{\"weeks\": 1}")],
                "config.limit",
                "`limit.weeks`",
            ),
            (
                &[("config.rate", "5"), ("config.limit", "{")],
                "config.limit",
                "no JSON",
            ),
            (
                &[("config.rate", "5"), ("config.share", "18446744073709551615")],
                "config.share",
                "no integer beyond",
            ),
            (
                &[("config.rate", "5"), ("json.share", "1e400")],
                "json.share",
                "no JSON",
            ),
            (&[("config.rate", "5"), ("filter", "body.a:>=")], "filter", "character"),
            (
                &[("config.rate", "5"), ("more", "plugin = \"x\"")],
                "more",
                "a field of its own",
            ),
            (&[("config.rate", "5"), ("more", "late =")], "more", "no TOML"),
            (
                &[("config.rate", "5"), ("grant.credit.granted", "true")],
                "grant.credit.currencies",
                "name one",
            ),
        ] {
            let wrong = read(&runs, &asks(), &Filled::of(fields)).unwrap_err();
            assert!(
                wrong.iter().any(|(name, text)| name == at && text.contains(says)),
                "{fields:?}: {wrong:?}"
            );
        }
        let mark = place(&Filled::of(&[("filter", "body.a:1 colour:red")])).unwrap();
        let (text, mark) = mark.split_once('\n').unwrap();
        assert_eq!(text.find("colour"), mark.find('^'), "{text}\n{mark}");
    }
}
