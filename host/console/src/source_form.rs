//! The form of a source of the settings, which is changed where it stands: the few keys that have a field. Its secrets are rotated by a form of
//! their own, and whatever else it says stays as it is.

use tollgate_core::mask;
use tollgate_core::profile::{self, Profile};
use toml_edit::{Array, Item, TableLike, Value};

use crate::destination_form::put;
use crate::fields::{Field, Kind, line};
use crate::visit::Filled;
use crate::written::{document, part};

/// The keys that a source's form has fields for, where its provider has a use for them.
const KEYS: [&str; 3] = ["accept", "public_url", "event_type"];

/// The fields of a source of the settings, filled in with what it says now; none where there is no such source, or nothing to fill in.
pub(crate) fn fields(text: &str, name: &str) -> Vec<Field> {
    let Some(part) = part(text, "sources", name) else {
        return Vec::new();
    };
    let shown = shown(&part).into_iter();
    shown.map(|(key, value)| field(key, &value)).collect()
}

/// The field of a key of a source, new or changed.
pub(crate) fn field(key: &str, value: &str) -> Field {
    let field = match key {
        "accept" => {
            let choices = [
                ("live", "live ones; test events are kept, and wait for a person"),
                ("test", "test ones; live events are kept, and wait for a person"),
                ("both", "live and test ones"),
            ];
            Field {
                kind: Kind::One(
                    choices
                        .map(|(value, name)| (value.to_owned(), name.to_owned()))
                        .to_vec(),
                ),
                ..line(
                    "accept",
                    "Events that count",
                    "To try it out with the provider's test mode, choose test ones, and change it when that is over.",
                    true,
                )
            }
        }
        "public_url" => line(
            "public_url",
            "Public URL",
            "Scheme and host as the provider has them: it signs them.",
            true,
        ),
        _ => line(
            "event_type",
            "Type of its events",
            "What such an event is to you, for example campaign.clicked.",
            true,
        ),
    };
    Field {
        value: value.to_owned(),
        ..field
    }
}

/// The keys that have a field for a provider.
pub(crate) fn keys(profile: &Profile) -> impl Iterator<Item = &'static str> {
    let has_use = [profile.tells_mode(), profile.signs_url(), profile.needs_event_type()];
    KEYS.into_iter()
        .zip(has_use)
        .filter(|(_, has_use)| *has_use)
        .map(|(key, _)| key)
}

/// Writes a key as its field says it. What holds without the key is not written.
pub(crate) fn write(part: &mut dyn TableLike, key: &str, given: &str) {
    let value: Value = match (key, given) {
        ("accept", "test") => Array::from_iter(["test"]).into(),
        ("accept", "both") => Array::from_iter(["live", "test"]).into(),
        ("accept", _) => {
            part.remove(key);
            return;
        }
        (_, text) => text.into(),
    };
    put(part, key, value);
}

/// The settings with this source changed where it stands.
///
/// # Errors
/// In words, when there is no such source.
pub(crate) fn changed(text: &str, form: &Filled) -> Result<String, String> {
    let mut document = document(text)?;
    let name = form.get("name").trim();
    let parts = document.get_mut("sources").and_then(Item::as_table_like_mut);
    let part = parts.and_then(|parts| parts.get_mut(name)?.as_table_like_mut());
    let part = part.ok_or_else(|| format!("the settings have no source `{}`", mask::line(name, 60)))?;
    for (key, was) in shown(part) {
        let given = form.get(key).trim();
        if !given.is_empty() && given != was {
            write(part, key, given);
        }
    }
    Ok(document.to_string())
}

/// The keys that have a field, and what it is filled in with; none for a key that says what no field would say again.
fn shown(part: &dyn TableLike) -> Vec<(&'static str, String)> {
    let provider = part.get("provider").and_then(Item::as_str).unwrap_or_default();
    let Some(profile) = profile::shipped().get(provider) else {
        return Vec::new();
    };
    keys(profile).filter_map(|key| Some((key, said(key, part)?))).collect()
}

fn said(key: &str, part: &dyn TableLike) -> Option<String> {
    let item = part.get(key);
    if key != "accept" {
        let text = item.map_or(Some(""), Item::as_str)?;
        return (!text.contains(char::is_control) && text.trim() == text).then(|| text.to_owned());
    }
    let Some(item) = item else {
        return Some("live".to_owned());
    };
    let modes: Option<Vec<&str>> = item.as_array()?.iter().map(Value::as_str).collect();
    Some(match modes?.as_slice() {
        ["live"] => "live".to_owned(),
        ["test"] => "test".to_owned(),
        ["live", "test"] | ["test", "live"] => "both".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "# ours\n[sources.pay] # the shop's\nprovider = \"stripe\"\nsecrets = [{ id = \"a\", value = { store = \"a\" } }]\n\
                       accept = [\"test\"] # for now\nallow_networks = [\"10.0.0.0/8\"]\n";

    #[test]
    fn o14_a_source_is_changed_where_it_stands_and_keeps_what_its_form_does_not_show() {
        let after =
            |text: &str, accept: &str| changed(text, &Filled::of(&[("name", "pay"), ("accept", accept)])).unwrap();
        assert_eq!(
            fields(OWN, "pay")
                .iter()
                .map(|field| field.value.as_str())
                .collect::<Vec<_>>(),
            ["test"]
        );
        assert_eq!(after(OWN, "test"), OWN);
        assert_eq!(after(OWN, "both"), OWN.replace("[\"test\"]", "[\"live\", \"test\"]"));
        assert_eq!(after(OWN, "live"), OWN.replace("accept = [\"test\"] # for now\n", ""));
        // What no field says again has none, and stays.
        let odd = OWN.replace("[\"test\"]", "[\"sandbox\"]");
        assert!(fields(&odd, "pay").is_empty());
        assert_eq!(after(&odd, "live"), odd);
        assert!(changed(OWN, &Filled::of(&[("name", "other"), ("accept", "live")])).is_err());
    }
}
