//! The form of a destination: of one that is added, or of one of the settings, which is changed where it stands. What it has no field for stays as
//! it is, and a field is there only where it says all that the settings say of its key.

use std::collections::BTreeSet;

use tollgate_core::mask;
use toml_edit::{Array, Item, Table as TomlTable, TableLike, Value};

use crate::fields::{Field, Kind, Wrong, line};
use crate::visit::Filled;
use crate::written::{document, stored, with_part};

/// How what is recorded gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Push,
    Pull,
    /// Notices go there by e-mail.
    Mail,
}

impl Way {
    pub(crate) fn of(word: &str) -> Option<Self> {
        [Self::Push, Self::Pull, Self::Mail]
            .into_iter()
            .find(|way| way.as_str() == word)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mail => "email",
        }
    }

    /// That of a destination of the settings.
    pub(crate) fn written(part: &TomlTable) -> Option<Self> {
        match part.get("kind") {
            None => Some(Self::Push),
            Some(kind) => Self::of(kind.as_str()?),
        }
    }

    /// The keys that have a field.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Push => &[
                "url",
                "secrets",
                "order",
                "requests_per_s",
                "in_flight_max",
                "timeout_ms",
            ],
            Self::Pull => &["order"],
            Self::Mail => &["to", "timeout_ms"],
        }
    }
}

/// The destinations of the settings that have a form.
pub(crate) fn changeable(text: &str) -> BTreeSet<String> {
    let document = document(text).ok();
    let parts = document
        .as_ref()
        .and_then(|document| document.get("destinations")?.as_table_like());
    let parts = parts.into_iter().flat_map(|parts| parts.iter());
    let has_form = |part: &Item| {
        part.clone()
            .into_table()
            .is_ok_and(|part| Way::written(&part).is_some())
    };
    let named = parts.filter(|(_, part)| has_form(part));
    named.map(|(name, _)| name.to_owned()).collect()
}

/// What the field of a key is filled in with; none where it would not say again what is said there.
fn said(key: &str, part: &dyn TableLike) -> Option<String> {
    let Some(item) = part.get(key) else {
        return Some(String::new());
    };
    let is_line = |text: &&str| text.trim() == *text && !text.contains(char::is_control);
    match key {
        "url" => item.as_str().filter(is_line).map(str::to_owned),
        "to" => {
            let is_address = |text: &&str| is_line(text) && !text.is_empty() && !text.contains([',', ' ']);
            let listed = item.as_array()?.iter().map(|one| one.as_str().filter(is_address));
            Some(listed.collect::<Option<Vec<_>>>()?.join("\n"))
        }
        "secrets" => match item
            .as_array()
            .map(|secrets| secrets.iter().collect::<Vec<_>>())
            .as_deref()
        {
            Some([Value::InlineTable(only)]) if only.len() == 1 => only.get("store")?.as_str().map(str::to_owned),
            _ => None,
        },
        "order" => (item.as_str() == Some("subject")).then(|| "true".to_owned()),
        _ => item.as_integer().map(|number| number.to_string()),
    }
}

/// Whether the form of this destination, or of a new one, asks which secret signs.
pub(crate) fn asks_for_secret(way: Way, part: &TomlTable) -> bool {
    way == Way::Push && said("secrets", part).is_some()
}

/// What a destination has that its form does not show.
pub(crate) fn unshown(way: Way, part: &TomlTable) -> Vec<String> {
    let has_field = |key: &str| way.keys().contains(&key) && said(key, part).is_some();
    let keys = part.iter().map(|(key, _)| key);
    let unshown = keys.filter(|key| *key != "kind" && !has_field(key));
    unshown.map(|key| mask::line(key, 60)).collect()
}

/// The fields, filled in with what the destination says now; `secrets` are those to choose from.
pub(crate) fn fields(way: Way, part: &TomlTable, secrets: Vec<(String, String)>) -> Vec<Field> {
    let mut secrets = Some(secrets);
    let mut field = |key: &str, value: String| {
        let field = match key {
            "url" => line("url", "URL", "With https.", true),
            "secrets" => {
                let mut choices = secrets.take().unwrap_or_default();
                if !choices.iter().any(|(name, _)| *name == value) {
                    choices.push((value.clone(), value.clone()));
                }
                Field {
                    kind: Kind::One(choices),
                    ..line(
                        "secret",
                        "Secret that signs",
                        "Its receiver verifies with the same. One that is there already stands under Secrets.",
                        false,
                    )
                }
            }
            "to" => Field {
                kind: Kind::Lines(3),
                ..line("to", "Addresses", "One a line, or with commas between them.", true)
            },
            "order" => Field {
                kind: Kind::Tick,
                ..line(
                    "order",
                    "In order",
                    "What belongs to one subject goes one after the other. Other subjects do not wait.",
                    false,
                )
            },
            "requests_per_s" => line(
                "requests_per_s",
                "Requests a second",
                "At most so many begin, retries too. Empty: as many as are due.",
                false,
            ),
            "in_flight_max" => line(
                "in_flight_max",
                "Requests at once",
                "At most so many are under way. Empty: as many as the operator allows.",
                false,
            ),
            _ => line(
                "timeout_ms",
                match way {
                    Way::Mail => "Milliseconds for an e-mail",
                    Way::Push | Way::Pull => "Milliseconds for a request",
                },
                "From the connection to the end of the answer, from 100 to 30,000. Empty: 15,000.",
                false,
            ),
        };
        Field { value, ..field }
    };
    let shown = way.keys().iter().filter_map(|key| Some((*key, said(key, part)?)));
    shown.map(|(key, value)| field(key, value)).collect()
}

/// The settings with the destination that a form says; `secret` is the name of the one that signs.
///
/// # Errors
/// What is wrong with its fields.
pub(crate) fn added(text: &str, way: Way, form: &Filled, secret: Option<&str>) -> Result<String, Vec<Wrong>> {
    let mut part = TomlTable::new();
    if way != Way::Push {
        part.insert("kind", toml_edit::value(way.as_str()));
    }
    write(&mut part, way, form, secret)?;
    let text = with_part(text, "destination", form.get("name").trim(), part, false);
    text.map_err(|says| match says.strip_prefix("name: ") {
        Some(says) => vec![("name".to_owned(), says.to_owned())],
        None => vec![(String::new(), says)],
    })
}

/// The settings with this destination changed where it stands: comments stay, and so does what its form has no field for.
///
/// # Errors
/// As of [`added`], or when there is no such destination.
pub(crate) fn changed(text: &str, way: Way, form: &Filled, secret: Option<&str>) -> Result<String, Vec<Wrong>> {
    let general = |says: String| vec![(String::new(), says)];
    let mut document = document(text).map_err(general)?;
    let name = form.get("name").trim();
    let parts = document.get_mut("destinations").and_then(Item::as_table_like_mut);
    let part = parts.and_then(|parts| parts.get_mut(name)?.as_table_like_mut());
    let part = part.ok_or_else(|| general(format!("the settings have no destination `{}`", mask::line(name, 60))))?;
    write(part, way, form, secret)?;
    Ok(document.to_string())
}

/// Writes what the fields say that are shown of this destination.
fn write(part: &mut dyn TableLike, way: Way, form: &Filled, secret: Option<&str>) -> Result<(), Vec<Wrong>> {
    let mut wrong: Vec<Wrong> = Vec::new();
    for key in way.keys() {
        let Some(was) = said(key, part) else { continue };
        let given = match *key {
            "secrets" => secret.map(str::to_owned),
            "to" => Some(addresses(form).join("\n")).filter(|to| !to.is_empty()),
            _ => form.given(key),
        };
        if given.as_deref().unwrap_or_default() == was {
            continue;
        }
        let value = given.map(|given| -> Result<Value, String> {
            Ok(match *key {
                "url" => given.into(),
                "secrets" => Array::from_iter([stored(Some(&given))?]).into(),
                "to" => given.lines().collect::<Array>().into(),
                "order" => "subject".into(),
                _ => match given.parse::<i64>() {
                    Ok(number) => number.into(),
                    Err(_) => return Err(format!("`{}` is no whole number", mask::line(&given, 40))),
                },
            })
        });
        match value {
            None => {
                part.remove(key);
            }
            Some(Ok(value)) => put(part, key, value),
            Some(Err(says)) => {
                let field = if *key == "secrets" { "secret" } else { key };
                wrong.push((field.to_owned(), says));
            }
        }
    }
    let needs: &[_] = match way {
        Way::Push => &[("url", "url", "write it"), ("secrets", "secret", "choose one")],
        Way::Pull => &[],
        Way::Mail => &[("to", "to", "write one at least")],
    };
    for (key, field, says) in needs {
        if part.get(key).is_none() && wrong.is_empty() {
            wrong.push(((*field).to_owned(), (*says).to_owned()));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// The addresses that somebody wrote, in their order.
fn addresses(form: &Filled) -> Vec<String> {
    let written = form.get("to").split([',', '\n', '\r', ' ']);
    written.filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Sets a key, and keeps what people wrote beside it.
pub(crate) fn put(part: &mut dyn TableLike, key: &str, value: Value) {
    match part.get_mut(key).and_then(Item::as_value_mut) {
        Some(there) => {
            let decor = there.decor().clone();
            *there = value;
            *there.decor_mut() = decor;
        }
        None => {
            part.insert(key, toml_edit::value(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use toml_edit::DocumentMut;

    use super::*;
    use crate::written::part;

    const OWN: &str = "# ours\n[destinations.mine] # at home\nurl = \"https://mine.example/\" # the new one\nsecrets = [{ store = \"a\" }]\n\
                       headers = { X-Team = \"payments\" }\nformerly = [\"old\"]\ntimeout_ms = 2000\n";

    /// What a browser sends of the fields of `mine` where nobody touches them, but for these.
    fn sent(text: &str, touched: &[(&str, &str)]) -> (Filled, Option<String>) {
        let now = part(text, "destinations", "mine").unwrap();
        let way = Way::written(&now).unwrap();
        let shown = fields(way, &now, vec![(String::new(), "make a new one".to_owned())]);
        let mut all = vec![("name".to_owned(), "mine".to_owned())];
        all.extend(shown.into_iter().map(|field| (field.name, field.value)));
        for (name, value) in touched {
            all.retain(|(field, _)| field != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        let form = Filled(all);
        let secret = form.given("secret");
        (form, secret)
    }

    #[track_caller]
    fn after(text: &str, touched: &[(&str, &str)]) -> String {
        let (form, secret) = sent(text, touched);
        let way = Way::written(&part(text, "destinations", "mine").unwrap()).unwrap();
        changed(text, way, &form, secret.as_deref()).unwrap()
    }

    #[test]
    fn o14_a_destination_is_changed_where_it_stands_and_keeps_what_its_form_does_not_show() {
        assert_eq!(after(OWN, &[]), OWN, "nobody touched it");
        for (touched, from, to) in [
            (
                &[("url", "https://new.example/")][..],
                "https://mine.example/",
                "https://new.example/",
            ),
            (&[("secret", "b")], "{ store = \"a\" }", "{ store = \"b\" }"),
            (&[("timeout_ms", "500")], "timeout_ms = 2000", "timeout_ms = 500"),
            (&[("timeout_ms", "")], "timeout_ms = 2000\n", ""),
            (
                &[("order", "true")],
                "timeout_ms = 2000\n",
                "timeout_ms = 2000\norder = \"subject\"\n",
            ),
            (
                &[("requests_per_s", "5")],
                "timeout_ms = 2000\n",
                "timeout_ms = 2000\nrequests_per_s = 5\n",
            ),
        ] {
            assert_eq!(after(OWN, touched), OWN.replace(from, to), "{touched:?}");
        }
        let now = part(OWN, "destinations", "mine").unwrap();
        assert_eq!(unshown(Way::Push, &now), ["headers", "formerly"]);
    }

    #[test]
    fn o14_what_no_field_says_again_has_none() {
        for text in [
            "secrets = [{ store = \"a\" }, { store = \"b\" }]",
            "secrets = [{ store = \"a\" }]\norder = \"never\"",
            "secrets = [{ store = \"a\" }]\nin_flight_max = \"many\"",
            "secrets = { store = \"a\" }",
        ] {
            let text = format!("[destinations.mine]\nurl = \"https://mine.example/\"\n{text}\n");
            assert_eq!(after(&text, &[]), text);
            let now = part(&text, "destinations", "mine").unwrap();
            assert_eq!(unshown(Way::Push, &now).len(), 1, "{text}");
            let touched = after(&text, &[("url", "https://new.example/")]);
            assert_eq!(touched, text.replace("mine.example", "new.example"));
        }
        let kinds = "[destinations.a]\nurl = \"x\"\n[destinations.b]\nkind = \"pull\"\n[destinations.c]\nkind = \"email\"\n[destinations.d]\nkind = \"pigeon\"\n";
        assert_eq!(changeable(kinds), BTreeSet::from(["a", "b", "c"].map(str::to_owned)));
        let pulled = "[destinations.mine]\nkind = \"pull\"\nnotices = true\n";
        assert_eq!(after(pulled, &[]), pulled);
    }

    #[test]
    fn o14_people_who_are_written_to_are_changed_where_they_stand() {
        let mailed = "[destinations.mine]\nkind = \"email\"\nto = [\"ops@a.example\", \"lead@a.example\"] # on call\nnotices = true\n";
        assert_eq!(after(mailed, &[]), mailed);
        assert_eq!(
            after(mailed, &[("to", "ops@a.example\r\nnew@a.example, third@a.example\r\n")]),
            mailed.replace(
                "[\"ops@a.example\", \"lead@a.example\"]",
                "[\"ops@a.example\", \"new@a.example\", \"third@a.example\"]"
            )
        );
        let now = part(mailed, "destinations", "mine").unwrap();
        assert_eq!(unshown(Way::Mail, &now), ["notices"]);
        let form = |to| Filled::of(&[("name", "oncall"), ("to", to)]);
        assert_eq!(
            added("", Way::Mail, &form("a@b.example"), None).unwrap(),
            "[destinations.oncall]\nkind = \"email\"\nto = [\"a@b.example\"]\n"
        );
        let wrong = added("", Way::Mail, &form(" "), None).unwrap_err();
        assert_eq!(wrong, [("to".to_owned(), "write one at least".to_owned())]);
    }

    #[test]
    fn o14_what_is_wrong_with_a_destination_is_said_at_its_field() {
        let form = Filled::of(&[("name", "own"), ("requests_per_s", "many")]);
        let wrong = added("", Way::Push, &form, Some("a")).unwrap_err();
        assert_eq!(
            wrong,
            [("requests_per_s".to_owned(), "`many` is no whole number".to_owned())]
        );
        let form = Filled::of(&[("name", "own")]);
        let wrong = added("", Way::Push, &form, Some("a")).unwrap_err();
        assert_eq!(wrong, [("url".to_owned(), "write it".to_owned())]);
        assert_eq!(changed("", Way::Pull, &form, None).unwrap_err()[0].0, "");
        // A value is a value, whatever it says.
        let hostile = [
            ("name", "own"),
            ("url", "https://x.example/\"\n[routes.evil]\nforward = \"body"),
        ];
        let evil = added("", Way::Push, &Filled::of(&hostile), Some("a")).unwrap();
        let read: DocumentMut = evil.parse().unwrap();
        assert!(read.get("routes").is_none(), "{evil}");
    }
}
