//! Writes what a form says into the text of a tenant's settings. What people wrote there stays as it is, comments and all, and what somebody
//! filled in is a value whatever it says.

use tollgate_core::ids::{DestinationName, ProviderName, RouteName, SecretName, SourceName};
use tollgate_core::profile;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table as TomlTable, Value};

use crate::visit::Filled;

/// The settings with what a form adds to them or takes from them. What people wrote stays as it is, comments and all.
///
/// # Errors
/// In words, when a field is not what its name says, or the settings have such a part.
pub(crate) fn written(what: &str, text: &str, form: &Filled) -> Result<String, String> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|_| "the settings are no TOML; mend them under Settings first".to_owned())?;
    let name = form.get("name").trim();
    let of_kind = |error: &dyn std::fmt::Display| format!("name: {error}");
    let (group, part) = match what {
        "source" => {
            name.parse::<SourceName>().map_err(|error| of_kind(&error))?;
            ("sources", source(form)?)
        }
        "route" => {
            name.parse::<RouteName>().map_err(|error| of_kind(&error))?;
            ("routes", route(form)?)
        }
        "destination" => {
            name.parse::<DestinationName>().map_err(|error| of_kind(&error))?;
            ("destinations", destination(form)?)
        }
        _ => {
            let group = match form.get("kind") {
                "source" => "sources",
                "route" => "routes",
                "destination" => "destinations",
                _ => return Err("this form is not whole; open it again".to_owned()),
            };
            let parts = document.get_mut(group).and_then(Item::as_table_like_mut);
            let removed = parts.and_then(|parts| parts.remove(name));
            return match removed {
                Some(_) => Ok(document.to_string()),
                None => Err(format!("the settings have no {} `{name}`", form.get("kind"))),
            };
        }
    };
    let parts = document.entry(group).or_insert_with(|| {
        let mut table = TomlTable::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let parts = parts
        .as_table_like_mut()
        .ok_or_else(|| format!("`{group}` of the settings is no table; mend it under Settings first"))?;
    if parts.contains_key(name) {
        return Err(format!(
            "name: the settings have a {what} `{name}`; change it under Settings"
        ));
    }
    parts.insert(name, Item::Table(part));
    Ok(document.to_string())
}

fn stored(name: &str) -> Result<Value, String> {
    let name: SecretName = name
        .trim()
        .parse()
        .map_err(|_| "secret: choose one; set it under Secrets first".to_owned())?;
    let mut reference = InlineTable::new();
    reference.insert("store", name.as_str().into());
    Ok(Value::InlineTable(reference))
}

fn source(form: &Filled) -> Result<TomlTable, String> {
    let provider: ProviderName = form
        .get("provider")
        .parse()
        .map_err(|error| format!("provider: {error}"))?;
    let profile = profile::shipped()
        .get(&provider)
        .ok_or("provider: choose one that is there")?;
    let mut table = TomlTable::new();
    table.insert("provider", toml_edit::value(provider.as_str()));
    if profile.needs_secrets() {
        let mut secret = InlineTable::new();
        secret.insert("id", form.get("secret_id").trim().into());
        secret.insert("value", stored(form.get("secret"))?);
        let mut secrets = Array::new();
        secrets.push(Value::InlineTable(secret));
        table.insert("secrets", toml_edit::value(secrets));
    }
    for key in ["public_url", "event_type"] {
        if let Some(text) = form.given(key) {
            table.insert(key, toml_edit::value(text));
        }
    }
    let mut parameters = InlineTable::new();
    for parameter in profile.parameters() {
        let Some(given) = form.given(&format!("parameter-{}", parameter.name)) else {
            continue;
        };
        let value = match parameter.secret {
            true => stored(&given)?,
            false => given.into(),
        };
        parameters.insert(&parameter.name, value);
    }
    if !parameters.is_empty() {
        table.insert("parameters", toml_edit::value(parameters));
    }
    Ok(table)
}

/// Names with commas between them.
fn listed(text: &str) -> Array {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.collect()
}

fn route(form: &Filled) -> Result<TomlTable, String> {
    let mut table = TomlTable::new();
    for key in ["sources", "types"] {
        let names = listed(form.get(key));
        if !names.is_empty() {
            table.insert(key, toml_edit::value(names));
        }
    }
    match form.get("runs") {
        "plugin" => {
            let plugin = form.given("plugin").ok_or("plugin: name the plugin that is run")?;
            table.insert("plugin", toml_edit::value(plugin));
        }
        form @ ("envelope" | "body" | "cloudevents") => {
            table.insert("forward", toml_edit::value(form));
        }
        _ => return Err("this form is not whole; open it again".to_owned()),
    }
    let destinations = listed(form.get("destinations"));
    if !destinations.is_empty() {
        table.insert("destinations", toml_edit::value(destinations));
    }
    let more = form.get("more").replace("\r\n", "\n");
    let more: DocumentMut = more
        .parse()
        .map_err(|_| "more: the further keys are no TOML".to_owned())?;
    for (key, item) in more.iter() {
        if table.contains_key(key) {
            return Err(format!("more: `{key}` has a field of its own"));
        }
        let mut item = item.clone();
        unplace(&mut item);
        table.insert(key, item);
    }
    Ok(table)
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

fn destination(form: &Filled) -> Result<TomlTable, String> {
    let mut table = TomlTable::new();
    table.insert("url", toml_edit::value(form.given("url").ok_or("url: write it")?));
    let mut secrets = Array::new();
    secrets.push(stored(form.get("secret"))?);
    table.insert("secrets", toml_edit::value(secrets));
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(fields: &[(&str, &str)]) -> Filled {
        Filled(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn o14_forms_write_what_a_person_would_and_leave_the_rest_as_it_is() {
        let before =
            "# ours\n[destinations.mine] # at home\nurl = \"https://mine.example/\"\nsecrets = [{ store = \"a\" }]\n";
        let source = filled(&[
            ("name", "shop"),
            ("provider", "stripe"),
            ("secret", "stripe"),
            ("secret_id", "2026-11"),
        ]);
        let text = written("source", before, &source).unwrap();
        assert!(text.starts_with(before), "{text}");
        assert!(
            text.ends_with("[sources.shop]\nprovider = \"stripe\"\nsecrets = [{ id = \"2026-11\", value = { store = \"stripe\" } }]\n"),
            "{text}"
        );
        assert!(
            written("source", &text, &source)
                .unwrap_err()
                .contains("have a source `shop`")
        );
        let route = filled(&[
            ("name", "archive"),
            ("sources", "shop, "),
            ("types", "a.*,b"),
            ("runs", "plugin"),
            ("plugin", "cashback"),
            ("destinations", "mine"),
            ("more", "grants = [{ kind = \"flag\" }]\r\n[config]\r\nrate = 1\r\n"),
        ]);
        let text = written("route", &text, &route).unwrap();
        for says in [
            "[routes.archive]\nsources = [\"shop\"]\ntypes = [\"a.*\", \"b\"]\nplugin = \"cashback\"\ndestinations = [\"mine\"]\ngrants = [{ kind = \"flag\" }]\n",
            "[routes.archive.config]\nrate = 1\n",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
        let twice = filled(&[("name", "x"), ("runs", "body"), ("more", "forward = \"envelope\"")]);
        assert!(
            written("route", "", &twice)
                .unwrap_err()
                .contains("has a field of its own")
        );
        let hostile = filled(&[
            ("name", "own"),
            ("url", "https://x.example/\"\n[routes.evil]\nforward = \"body"),
            ("secret", "a"),
        ]);
        let evil = written("destination", "", &hostile).unwrap();
        let read: DocumentMut = evil.parse().unwrap();
        assert!(read.get("routes").is_none(), "a value is a value: {evil}");
        for (what, name) in [("source", "no name"), ("route", "a\"]\n[x"), ("destination", "")] {
            let form = filled(&[
                ("name", name),
                ("provider", "stripe"),
                ("secret", "a"),
                ("runs", "body"),
                ("url", "u"),
            ]);
            assert!(written(what, "", &form).unwrap_err().starts_with("name: "), "{name}");
        }
        let removed = written("remove", &text, &filled(&[("kind", "source"), ("name", "shop")])).unwrap();
        assert!(
            !removed.contains("[sources") && removed.contains("[routes.archive]") && removed.contains("# ours"),
            "{removed}"
        );
        assert!(written("remove", "", &filled(&[("kind", "route"), ("name", "x")])).is_err());
    }
}
