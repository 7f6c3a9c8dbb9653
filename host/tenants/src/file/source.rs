//! A source: who sends events there, how each proves itself, and who may speak at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::ids::SourceName;
use tollgate_core::limits::{SECRETS_MAX, VOUCHED_KEYS_MAX};
use tollgate_core::network::Network;
use tollgate_core::profile::Profile;
use tollgate_core::secret::{Parameters, SourceSecret};
use tollgate_core::verify::{KeyError, Keyring};

use super::profile::profile;
use super::raw::{Section, Value};
use super::reference::{self, Referred};
use super::secrets::{Concern, known, parameters, source_secrets};
use super::{BODY_BYTES_LEAST, Host, Offer, Source, WRITE_A_NETWORK};
use crate::form::{Basic, Parameter, SecretRef};

pub(super) fn source(name: SourceName, section: &Section, offer: &Offer) -> Option<Source> {
    let profile = profile(section);
    let parameters = parameters(section, profile.as_deref());
    let known_parameters = known(&parameters);
    let listed_secrets = section.get("secrets");
    let secrets = match (&listed_secrets, &profile) {
        (Some(secrets), _) => source_secrets(secrets, profile.as_deref(), &known_parameters),
        (None, Some(profile)) if !profile.needs_secrets() => Vec::new(),
        (None, _) => {
            section.require("secrets", "add [[sources.NAME.secrets]] with id and value");
            Vec::new()
        }
    };
    let public_url = section.get("public_url").map(|value| public_url(&value));
    let on_held = match section.get("replace_held").and_then(|value| value.boolean()) {
        Some(true) => OnHeld::Replace,
        Some(false) | None => OnHeld::Review,
    };
    let on_replay = section
        .get("replays")
        .and_then(|value| on_replay(&value))
        .unwrap_or_default();
    let conflict_409 = section.get("conflict_status").is_some_and(|value| conflict_409(&value));
    if let (Some(profile), None) = (&profile, &public_url)
        && profile.signs_url()
    {
        section.problem(
            format!("{} needs `public_url`: the provider signs it", section.title()),
            "add public_url = scheme and host as the provider has them, for example \"https://hooks.example\"; path and query are the request's own",
        );
    }
    let body_bytes_max = body_bytes_max(section, profile.as_deref(), offer);
    let (bearer, basic) = credentials(section);
    offer.natively_only(
        section,
        &["allow_networks"],
        "leave it out, and let what stands in front of the app see to it",
    );
    let allow_networks = section.get("allow_networks").map(|list| networks(&list));
    offer.natively_only(
        section,
        &["published_keys"],
        "leave it out, and give the key as a secret: no key is fetched there",
    );
    let listed = section.get("published_keys");
    section.finish();
    let profile = profile?;
    if offer.host == Host::Spin && profile.fetches_keys() && listed_secrets.is_none() {
        section.problem(
            format!(
                "{}: its provider's keys are fetched, and a Spin app fetches none",
                section.title()
            ),
            "give the key as a secret",
        );
        return None;
    }
    let keyring = match keyring(&profile, &secrets, &parameters, &known_parameters) {
        Ok(keyring) => keyring,
        // Each secret was tried alone and complained about alone; what remains is about the source as a whole.
        Err(error) => {
            if Concern::of(&error) == Concern::Source {
                let help = "`tollgate provider show NAME` says what the provider needs";
                section.problem(error.to_string(), help);
            }
            return None;
        }
    };
    let published_keys = listed.map_or_else(Vec::new, |listed| published_keys(&listed, &profile, keyring.as_ref()));
    let ack = if conflict_409 {
        profile.ack().clone().with_conflict_status(409)
    } else {
        profile.ack().clone()
    };
    Some(Source {
        name,
        profile,
        parameters,
        secrets,
        keyring: keyring.map(Arc::new),
        bearer,
        basic,
        allow_networks: allow_networks.unwrap_or_default(),
        ack,
        body_bytes_max,
        on_held,
        on_replay,
        public_url: public_url.flatten(),
        published_keys,
    })
}

/// What a suspected replay waits for.
fn on_replay(value: &Value) -> Option<OnReplay> {
    match value.text()? {
        "hold" => Some(OnReplay::Hold),
        "answer" => Some(OnReplay::Answer),
        other => {
            value.problem(
                format!("`replays` cannot be `{other}`"),
                "write \"hold\" (each waits until a person has decided) or \"answer\" (it is kept and counted, and waits for nobody)",
            );
            None
        }
    }
}

/// Names of keys that the provider publishes, each of which leads to a place that the profile lists.
fn published_keys(listed: &Value, profile: &Profile, keyring: Option<&Keyring>) -> Vec<String> {
    if !profile.fetches_keys() {
        listed.problem(
            format!("{} publishes no keys that are fetched", profile.name),
            "leave `published_keys` out",
        );
        return Vec::new();
    }
    let names = listed.list_of(|value| {
        let name = value.text()?;
        if keyring.is_some_and(|keyring| keyring.need(profile, name.as_bytes()).is_none()) {
            value.problem(
                format!("`{name}` leads to no key that {} publishes", profile.name),
                "write the name as requests carry it: a key's id, or the whole https URL of a certificate below the profile's `path_prefix`; and see that the source says what its keys are fetched with",
            );
            return None;
        }
        Some(name.to_owned())
    });
    if names.len() > VOUCHED_KEYS_MAX {
        listed.problem(
            format!("{} names; a source lists at most {VOUCHED_KEYS_MAX}", names.len()),
            "list those that the provider signs with now",
        );
    }
    names
}

/// The keys of the source, where all that they are made of is known here.
fn keyring(
    profile: &Profile,
    secrets: &[SecretRef<Referred>],
    parameters: &BTreeMap<String, Parameter<Referred>>,
    known_parameters: &Parameters,
) -> Result<Option<Keyring>, KeyError> {
    let texts: Vec<SourceSecret> = secrets.iter().filter_map(SecretRef::known).collect();
    if texts.len() < secrets.len() || known_parameters.len() < parameters.len() {
        return Ok(None);
    }
    Keyring::with_parameters(profile, &texts, known_parameters).map(Some)
}

/// What a source asks for beside the signature: bearer tokens, or names and passwords.
fn credentials(section: &Section) -> (Vec<Referred>, Vec<Basic<Referred>>) {
    let bearer = section.get("bearer");
    let basic = section.get("basic");
    for list in bearer.iter().chain(&basic) {
        let elements = list.list().unwrap_or_default();
        if elements.len() > SECRETS_MAX {
            list.problem(
                format!("{} credentials; at most {SECRETS_MAX} are allowed", elements.len()),
                "remove the old ones",
            );
        }
        if list.is_empty_list() {
            list.problem(
                format!("`{}` is empty: nobody could get in", list.key()),
                "name one, or remove it",
            );
        }
    }
    if let (Some(_), Some(basic)) = (&bearer, &basic) {
        basic.problem(
            "`bearer` and `basic` exclude each other",
            "keep the one that the provider sends",
        );
    }
    let bearer = bearer.and_then(|list| list.list()).unwrap_or_default();
    let basic = basic.and_then(|list| list.list()).unwrap_or_default();
    (
        bearer.iter().filter_map(reference::secret).collect(),
        basic.iter().filter_map(self::basic).collect(),
    )
}

fn networks(list: &Value) -> Vec<Network> {
    if list.is_empty_list() {
        list.problem(
            "`allow_networks` is empty: nobody could get in",
            "name a network, or remove it",
        );
    }
    list.list_of(|network| network.parse(WRITE_A_NETWORK))
}

fn basic(value: &Value) -> Option<Basic<Referred>> {
    let section = value.section()?;
    let user = section.require("user", "add user = \"NAME\"");
    let password = section.require("password", "add password = { env = \"NAME\" }");
    section.finish();
    let (user, password) = (user?, reference::secret(&password?)?);
    let name = user.text()?;
    if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
        user.problem(
            "a user name for basic auth has at least one character, and no colon and no control characters",
            "mend it",
        );
        return None;
    }
    Some(Basic {
        user: name.to_owned(),
        password,
    })
}

/// What the source says, or what its provider sends and the operator lets in, or what holds for all.
fn body_bytes_max(section: &Section, profile: Option<&Profile>, offer: &Offer) -> usize {
    let most = offer.source_body_bytes_max;
    let bounds = BODY_BYTES_LEAST..=i64::try_from(most).unwrap_or(i64::MAX);
    let of_provider = || profile.and_then(Profile::body_bytes_max).unwrap_or(0).min(most);
    section
        .number("body_bytes_max", bounds)
        .unwrap_or_else(|| offer.body_bytes_max.max(of_provider()))
}

/// Kept as written: a provider signs exactly the text that it was given.
fn public_url(value: &Value) -> Option<String> {
    let text = value.text()?;
    let is_web = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_web {
        value.problem(
            format!("`{text}` is not a URL"),
            "write scheme and host as the provider has them, for example https://hooks.example; or the whole URL, where a proxy writes paths anew",
        );
    }
    is_web.then(|| text.to_owned())
}

fn conflict_409(value: &Value) -> bool {
    match value.integer(100..=599) {
        Some(409) => true,
        Some(202) | None => false,
        Some(_) => {
            value.problem(
                "a conflict is answered 202 or 409",
                "write 202 (kept and flagged) or 409 (the provider sees it too)",
            );
            false
        }
    }
}
