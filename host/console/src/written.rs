//! Writes what a form says into the text of a tenant's settings. What people wrote there stays as it is, comments and all, and what somebody
//! filled in is a value whatever it says.

use tollgate_core::ids::{DestinationName, ProviderName, RouteName, SecretName, SourceName};
use tollgate_core::profile;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table as TomlTable, Value};

use crate::source_form;
use crate::visit::Filled;

/// The settings with a part of this kind: a new one, or another in the place of the one of its name. What people wrote elsewhere stays as it is,
/// comments and all.
///
/// # Errors
/// In words, when the name is none, or the settings have such a part, or have none where there must be one.
pub(crate) fn with_part(
    text: &str,
    what: &str,
    name: &str,
    part: TomlTable,
    is_change: bool,
) -> Result<String, String> {
    let mut document = document(text)?;
    let of_kind = |error: &dyn std::fmt::Display| format!("name: {error}");
    let group = match what {
        "source" => name
            .parse::<SourceName>()
            .map(|_| "sources")
            .map_err(|error| of_kind(&error))?,
        "route" => name
            .parse::<RouteName>()
            .map(|_| "routes")
            .map_err(|error| of_kind(&error))?,
        "destination" => name
            .parse::<DestinationName>()
            .map(|_| "destinations")
            .map_err(|error| of_kind(&error))?,
        _ => return Err("this form is not whole; open it again".to_owned()),
    };
    let parts = document.entry(group).or_insert_with(|| {
        let mut table = TomlTable::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let parts = parts
        .as_table_like_mut()
        .ok_or_else(|| format!("`{group}` of the settings is no table; mend it under Settings first"))?;
    match (parts.get_mut(name), is_change) {
        (Some(_), false) => Err(format!(
            "name: the settings have a {what} `{name}`; change it on its page, or under Settings"
        )),
        (None, true) => Err(format!("the settings have no {what} `{name}` any more")),
        (None, false) => {
            parts.insert(name, Item::Table(part));
            Ok(document.to_string())
        }
        (Some(Item::Table(there)), true) => {
            // What stands before its header stays.
            there.clear();
            for (key, item) in part.iter() {
                there.insert(key, item.clone());
            }
            Ok(document.to_string())
        }
        (Some(there), true) => {
            *there = Item::Table(part);
            Ok(document.to_string())
        }
    }
}

/// A part of the settings as it stands there.
pub(crate) fn part(text: &str, group: &str, name: &str) -> Option<TomlTable> {
    let document = document(text).ok()?;
    let item = document.get(group)?.as_table_like()?.get(name)?;
    item.clone().into_table().ok()
}

/// The settings without a part.
///
/// # Errors
/// In words, when there is none.
pub(crate) fn removed(text: &str, kind: &str, name: &str) -> Result<String, String> {
    let mut document = document(text)?;
    let group = match kind {
        "source" => "sources",
        "route" => "routes",
        "destination" => "destinations",
        _ => return Err("this form is not whole; open it again".to_owned()),
    };
    let parts = document.get_mut(group).and_then(Item::as_table_like_mut);
    match parts.and_then(|parts| parts.remove(name)) {
        Some(_) => Ok(document.to_string()),
        None => Err(format!("the settings have no {kind} `{name}`")),
    }
}

/// The settings with one more secret of a source, behind those that it has.
///
/// # Errors
/// In words, when there is no such source, or the name is taken.
pub(crate) fn key_added(text: &str, source: &str, id: &str, secret: Option<&str>) -> Result<String, String> {
    let mut document = document(text)?;
    let listed = keys(&mut document, source)?;
    if listed.iter().any(|key| key_id(key) == Some(id)) {
        return Err(format!(
            "secret_id: receipts call another secret of this source `{id}`; take another name"
        ));
    }
    listed.push(Value::InlineTable(key(id, secret)?));
    Ok(document.to_string())
}

/// The settings without this secret of a source.
///
/// # Errors
/// In words, when there is none, or it is the last one.
pub(crate) fn key_ended(text: &str, source: &str, id: &str) -> Result<String, String> {
    let mut document = document(text)?;
    let listed = keys(&mut document, source)?;
    let at = listed.iter().position(|key| key_id(key) == Some(id));
    let at = at.ok_or_else(|| format!("the source `{source}` has no secret `{id}`"))?;
    if listed.len() == 1 {
        return Err("it is the source's last secret: rotate it first, or remove the source".to_owned());
    }
    listed.remove(at);
    Ok(document.to_string())
}

fn keys<'d>(document: &'d mut DocumentMut, source: &str) -> Result<&'d mut Array, String> {
    let sources = document.get_mut("sources").and_then(Item::as_table_like_mut);
    let part = sources
        .and_then(|sources| sources.get_mut(source))
        .and_then(Item::as_table_like_mut);
    let part = part.ok_or_else(|| format!("the settings have no source `{source}`"))?;
    let listed = part.get_mut("secrets").and_then(Item::as_array_mut);
    listed.ok_or_else(|| format!("the source `{source}` lists no secrets in [ ]; change it under Settings"))
}

fn key_id(key: &Value) -> Option<&str> {
    key.as_inline_table()?.get("id")?.as_str()
}

fn key(id: &str, secret: Option<&str>) -> Result<InlineTable, String> {
    let mut key = InlineTable::new();
    key.insert("id", id.into());
    key.insert("value", stored(secret)?);
    Ok(key)
}

/// The settings as they are written.
///
/// # Errors
/// In words, when they are no TOML.
pub(crate) fn document(text: &str) -> Result<DocumentMut, String> {
    text.parse()
        .map_err(|_| "the settings are no TOML; mend them under Settings first".to_owned())
}

/// A reference to a secret.
///
/// # Errors
/// In words, when nothing names one.
pub(crate) fn stored(name: Option<&str>) -> Result<Value, String> {
    let name = name.ok_or("paste the secret, or choose one that was set")?;
    let name: SecretName = name.trim().parse().map_err(|error| format!("secret: {error}"))?;
    let mut reference = InlineTable::new();
    reference.insert("store", name.as_str().into());
    Ok(Value::InlineTable(reference))
}

/// The settings with the source that a form says; `secret` is the name of the one that it is verified with.
///
/// # Errors
/// In words, when a field is not what its name says.
pub(crate) fn source_added(text: &str, form: &Filled, secret: Option<&str>) -> Result<String, String> {
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
        let mut secrets = Array::new();
        secrets.push(Value::InlineTable(key(form.get("secret_id").trim(), secret)?));
        table.insert("secrets", toml_edit::value(secrets));
    }
    for key in source_form::keys(profile) {
        if let Some(text) = form.given(key) {
            source_form::write(&mut table, key, &text);
        }
    }
    let mut parameters = InlineTable::new();
    for parameter in profile.parameters() {
        let Some(given) = form.given(&format!("parameter-{}", parameter.name)) else {
            continue;
        };
        let value = match parameter.secret {
            true => stored(Some(&given))?,
            false => given.into(),
        };
        parameters.insert(&parameter.name, value);
    }
    if !parameters.is_empty() {
        table.insert("parameters", toml_edit::value(parameters));
    }
    with_part(text, "source", form.get("name").trim(), table, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o14_forms_write_what_a_person_would_and_leave_the_rest_as_it_is() {
        let before =
            "# ours\n[destinations.mine] # at home\nurl = \"https://mine.example/\"\nsecrets = [{ store = \"a\" }]\n";
        let source = Filled::of(&[("name", "shop"), ("provider", "stripe"), ("secret_id", "2026-11")]);
        let added = |text: &str| source_added(text, &source, Some("stripe"));
        let text = added(before).unwrap();
        assert!(text.starts_with(before), "{text}");
        assert!(
            text.ends_with("[sources.shop]\nprovider = \"stripe\"\nsecrets = [{ id = \"2026-11\", value = { store = \"stripe\" } }]\n"),
            "{text}"
        );
        assert!(added(&text).unwrap_err().contains("have a source `shop`"));
        assert!(
            source_added("", &source, None)
                .unwrap_err()
                .contains("paste the secret")
        );
        // Two are active while one takes the other's place.
        let rotated = key_added(&text, "shop", "2026-12", Some("shop-2026-12")).unwrap();
        assert!(
            rotated.contains("{ id = \"2026-11\", value = { store = \"stripe\" } }, { id = \"2026-12\", value = { store = \"shop-2026-12\" } }]"),
            "{rotated}"
        );
        assert!(
            key_added(&rotated, "shop", "2026-12", Some("x"))
                .unwrap_err()
                .contains("take another name")
        );
        let ended = key_ended(&rotated, "shop", "2026-11").unwrap();
        assert!(
            ended.contains("secrets = [ { id = \"2026-12\"") || ended.contains("secrets = [{ id = \"2026-12\""),
            "{ended}"
        );
        assert!(
            key_ended(&ended, "shop", "2026-12")
                .unwrap_err()
                .contains("last secret")
        );
        assert!(key_ended(&ended, "shop", "x").is_err() && key_ended(&ended, "own", "x").is_err());
        // A part that is changed keeps what people wrote around it.
        let mut route = TomlTable::new();
        route.insert("forward", toml_edit::value("body"));
        let with = with_part(&text, "route", "archive", route.clone(), false).unwrap();
        let noted = with.replace("[routes.archive]", "# goes to the archive\n[routes.archive]");
        route.insert("types", toml_edit::value("x"));
        let changed = with_part(&noted, "route", "archive", route.clone(), true).unwrap();
        assert!(
            changed.contains("# goes to the archive\n[routes.archive]\nforward = \"body\"\ntypes = \"x\"\n"),
            "{changed}"
        );
        assert_eq!(part(&changed, "routes", "archive").unwrap().len(), 2);
        assert!(with_part("", "route", "archive", route.clone(), true).is_err());
        for name in ["no name", "a\"]\n[x", ""] {
            for kind in ["source", "route", "destination"] {
                let wrong = with_part("", kind, name, route.clone(), false).unwrap_err();
                assert!(wrong.starts_with("name: "), "{kind} {name}");
            }
        }
        let gone = removed(&changed, "source", "shop").unwrap();
        assert!(
            !gone.contains("[sources") && gone.contains("[routes.archive]") && gone.contains("# ours"),
            "{gone}"
        );
        assert!(removed("", "route", "x").is_err());
    }
}
