//! The secrets and parameters that a source's requests are verified with.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::ids::KeyId;
use tollgate_core::limits::SECRETS_MAX;
use tollgate_core::profile::Profile;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{KeyError, Keyring};
use toml::de::DeValue;

use super::raw::{Section, Value};
use super::reference::{self, Referred};
use crate::form::{Parameter, SecretRef};

/// What the source says beside its secrets. Values that the profile calls secret go by reference.
pub(super) fn parameters(section: &Section, profile: Option<&Profile>) -> BTreeMap<String, Parameter<Referred>> {
    let mut parameters = BTreeMap::new();
    let table = section.get("parameters").and_then(|value| value.section());
    let Some(profile) = profile else { return parameters };
    let known = profile.parameters();
    for (name, value) in table.iter().flat_map(Section::entries) {
        let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
            value.unknown(
                format!("`{}` has no parameter `{name}`", profile.name),
                name,
                known.iter().map(|parameter| parameter.name.as_str()),
                "known here",
            );
            continue;
        };
        let text = if parameter.secret {
            reference::secret(&value).map(Parameter::Secret)
        } else {
            value.text().map(|text| Parameter::Text(text.to_owned()))
        };
        parameters.extend(text.map(|text| (name.to_owned(), text)));
    }
    let said: BTreeSet<&str> = table.iter().flat_map(Section::entries).map(|(name, _)| name).collect();
    for parameter in known
        .iter()
        .filter(|parameter| parameter.required && !said.contains(parameter.name.as_str()))
    {
        let form = if parameter.secret {
            "{ env = \"NAME\" }"
        } else {
            "\"…\""
        };
        section.problem(
            format!(
                "{} needs the parameter `{}`: {}",
                section.title(),
                parameter.name,
                parameter.what
            ),
            &format!("add parameters = {{ {} = {form} }}", parameter.name),
        );
    }
    parameters
}

/// The parameters of a source whose values are known here.
pub(super) fn known(parameters: &BTreeMap<String, Parameter<Referred>>) -> Parameters {
    let known = parameters.iter().filter_map(|(name, parameter)| {
        let text = match parameter {
            Parameter::Text(text) => Secret::new(text.as_str()),
            Parameter::Secret(secret) => secret.text.clone()?,
        };
        Some((name.clone(), text))
    });
    known.collect()
}

impl SecretRef<Referred> {
    /// The secret, where it is known here.
    pub fn known(&self) -> Option<SourceSecret> {
        Some(SourceSecret {
            id: self.id.clone(),
            text: self.value.text.clone()?,
            not_before: self.not_before,
            not_after: self.not_after,
        })
    }
}

/// What an error about a keyring is about, and so where it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// One secret: at that secret.
    Secret,
    /// What is looked at before any keyring is made: there.
    Form,
    /// The source as a whole.
    Source,
}

impl Concern {
    pub(super) fn of(error: &KeyError) -> Self {
        match error {
            KeyError::Empty { .. }
            | KeyError::WhiteSpace { .. }
            | KeyError::Pasted { .. }
            | KeyError::Prefix { .. }
            | KeyError::Encoding { .. }
            | KeyError::Length { .. }
            | KeyError::NotAKey { .. }
            | KeyError::Unsuitable { .. } => Self::Secret,
            KeyError::NoSecrets
            | KeyError::TooMany { .. }
            | KeyError::RepeatedId { .. }
            | KeyError::MissingParameter { .. }
            | KeyError::UnknownParameter { .. } => Self::Form,
            KeyError::BadParameter { .. }
            | KeyError::FetchBack { .. }
            | KeyError::Unfetchable { .. }
            | KeyError::Fetched { .. } => Self::Source,
        }
    }
}

pub(super) fn source_secrets(
    list: &Value,
    profile: Option<&Profile>,
    parameters: &Parameters,
) -> Vec<SecretRef<Referred>> {
    let elements = list.list().unwrap_or_default();
    if elements.len() > SECRETS_MAX {
        list.problem(
            format!("{} secrets; at most {SECRETS_MAX} are allowed", elements.len()),
            "remove those that expired",
        );
    }
    if list.is_empty_list() {
        list.problem(
            "`secrets` is empty: nothing would ever verify",
            "add { id = \"NAME\", value = { env = \"NAME\" } }",
        );
    }
    let mut ids = BTreeSet::new();
    let mut secrets = Vec::new();
    for element in &elements {
        let Some(section) = element.section() else {
            if element.raw().is_str() {
                element.blot();
            }
            continue;
        };
        let id = section
            .require(
                "id",
                "add id = \"NAME\", for example the month in which the secret was made; receipts show it",
            )
            .and_then(|id| id.parse::<KeyId>("give it a short name").map(|name| (id, name)));
        if let Some((id, name)) = &id
            && !ids.insert(name.clone())
        {
            id.problem(format!("two secrets have the id `{name}`"), "rename one");
        }
        let value = section.require("value", "add value = { env = \"NAME\" } or { file = \"path\" }");
        let text = value.as_ref().and_then(reference::secret);
        let not_before = section.get("not_before").map(|value| instant(&value));
        let not_after = section.get("not_after");
        let until = not_after.as_ref().map(instant);
        if let (Some(Some(from)), Some(Some(until)), Some(at)) = (not_before, until, &not_after)
            && until <= from
        {
            at.problem(
                "`not_after` is not later than `not_before`: the secret would never verify",
                "swap or mend them",
            );
        }
        section.finish();
        let (Some((_, id)), Some(value), Some(text)) = (id, value, text) else {
            continue;
        };
        let secret = SecretRef {
            id,
            value: text,
            not_before: not_before.flatten(),
            not_after: until.flatten(),
        };
        let alone = profile
            .zip(secret.known())
            .map(|(profile, secret)| Keyring::with_parameters(profile, &[secret], parameters));
        if let Some(Err(error)) = alone
            && Concern::of(&error) == Concern::Secret
        {
            let help = match &error {
                KeyError::WhiteSpace { .. } | KeyError::Pasted { .. } => {
                    "mend it where it is kept; the secret is what the provider made, without what came with it when it was copied"
                }
                _ => "copy it whole, with its prefix, as the provider shows it",
            };
            value.problem(
                format!("the secret that this refers to does not fit the provider: {error}"),
                help,
            );
        }
        secrets.push(secret);
    }
    secrets
}

/// An instant as a TOML date-time or as a text, always with its offset.
fn instant(value: &Value) -> Option<UnixMillis> {
    let instant = match value.raw() {
        DeValue::Datetime(datetime) => UnixMillis::from_rfc3339(&datetime.to_string()),
        DeValue::String(text) => UnixMillis::from_rfc3339(text),
        _ => None,
    };
    if instant.is_none() {
        value.problem(
            format!("`{}` is not an instant", value.key()),
            "write date, time and offset, for example 2027-01-01T00:00:00Z",
        );
    }
    instant
}
