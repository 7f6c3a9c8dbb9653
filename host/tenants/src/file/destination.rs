//! A destination: where actions go, what signs them, and what goes with them.

use std::collections::BTreeSet;

use tollgate_core::ids::DestinationName;
use tollgate_core::limits::{self, SECRETS_MAX};
use tollgate_core::mail::MailAddress;
use tollgate_core::{network, own_header};

use super::raw::{Section, Value};
use super::reference::{self, Referred};
use super::{Destination, Host, Offer, Way};
use crate::form::Parameter;

/// `declared` are the names of all destinations of the file; `succeeded` the old names that others took over.
pub(super) fn destination(
    section: &Section,
    offer: &Offer,
    declared: &BTreeSet<DestinationName>,
    succeeded: &mut BTreeSet<DestinationName>,
) -> Option<Destination> {
    let kind = section.get("kind").map_or(Kind::Push, |value| Kind::of(&value));
    offer.natively_only(
        section,
        &["kind"],
        "leave it out, and name a URL: a Spin app's destinations are sent to, nobody pulls from it, and it sends no e-mail",
    );
    let way = match kind {
        Kind::Push => section
            .require(
                "url",
                "add url = \"https://…\", or kind = \"pull\" where its owner fetches what waits there",
            )
            .and_then(|value| destination_url(&value, offer))
            .map(Way::Sent),
        Kind::Pull => {
            let keys = ["url", "headers", "timeout_ms", "in_flight_max", "requests_per_s"];
            mean_nothing(
                section,
                &keys,
                "nothing is sent to a destination that is pulled",
                "pull",
            );
            Some(Way::Pulled)
        }
        Kind::Email => {
            let keys = ["url", "secrets", "headers", "in_flight_max", "requests_per_s", "order"];
            mean_nothing(
                section,
                &keys,
                "nothing is posted to a destination that is written to",
                "email",
            );
            addressees(section, offer).map(Way::Mailed)
        }
    };
    let secrets = match kind {
        Kind::Push => section.require("secrets", "add secrets = [{ env = \"NAME\" }] with a whsec_… secret"),
        Kind::Pull => section.get("secrets"),
        Kind::Email => None,
    };
    let secrets: Vec<Referred> = match secrets {
        Some(list) => {
            let elements = list.list().unwrap_or_default();
            if list.raw().is_array() && elements.is_empty() {
                list.problem(
                    "`secrets` is empty: deliveries could not be signed",
                    "add { env = \"NAME\" }",
                );
            }
            if elements.len() > SECRETS_MAX {
                list.problem(
                    format!("{} secrets; at most {SECRETS_MAX} are allowed", elements.len()),
                    "remove the old ones",
                );
            }
            elements.iter().filter_map(reference::signing_key).collect()
        }
        None => Vec::new(),
    };
    let formerly = section
        .get("formerly")
        .map(|list| formerly(&list, declared, succeeded))
        .unwrap_or_default();
    offer.natively_only(
        section,
        &["in_flight_max", "requests_per_s"],
        "leave it out: requests that deliver side by side know nothing of each other",
    );
    let most = i64::try_from(offer.in_flight_max).unwrap_or(i64::MAX);
    let in_flight_max = section.number("in_flight_max", 1..=most).unwrap_or(offer.in_flight_max);
    let requests_per_s = section.number("requests_per_s", 1..=i64::from(limits::ATTEMPTS_PER_S_MAX));
    offer.natively_only(
        section,
        &["notices"],
        "leave it out: a Spin app groups no failures into issues",
    );
    let notices = section
        .get("notices")
        .and_then(|value| value.boolean())
        .unwrap_or(kind == Kind::Email);
    let in_order = section.get("order").is_some_and(|value| in_order(&value));
    let headers = section
        .get("headers")
        .map(|value| own_headers(&value))
        .unwrap_or_default();
    let timeout_ms = section.number(
        "timeout_ms",
        limits::ATTEMPT_MS_MIN as i64..=limits::ATTEMPT_MS_MAX as i64,
    );
    section.finish();
    Some(Destination {
        way: way?,
        secrets,
        in_flight_max,
        requests_per_s,
        headers,
        timeout_ms,
        in_order,
        formerly,
        notices,
    })
}

/// What a destination says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Push,
    /// Its owner fetches what waits there.
    Pull,
    /// Notices go there by e-mail.
    Email,
}

impl Kind {
    const WORDS: [(&'static str, Self); 3] = [("push", Self::Push), ("pull", Self::Pull), ("email", Self::Email)];

    /// A word that is none is reported, and read as the first.
    fn of(value: &Value) -> Self {
        let Some(word) = value.text() else { return Self::Push };
        let found = Self::WORDS.into_iter().find(|(known, _)| *known == word);
        if found.is_none() {
            let words = Self::WORDS.into_iter().map(|(known, _)| known);
            value.unknown(format!("`{word}` is no kind of destination"), word, words, "there are");
        }
        found.map_or(Self::Push, |(_, kind)| kind)
    }
}

/// Those of these destinations that are written to by e-mail, whatever else is wrong with them.
pub(super) fn mailed(destinations: &[(DestinationName, Section)]) -> BTreeSet<DestinationName> {
    let is_mailed = |section: &Section| {
        let kind = section.get("kind");
        kind.is_some_and(|kind| kind.raw().as_str() == Some("email"))
    };
    let mailed = destinations.iter().filter(|(_, section)| is_mailed(section));
    mailed.map(|(name, _)| name.clone()).collect()
}

fn mean_nothing(section: &Section, keys: &[&'static str], why: &str, kind: &str) {
    for key in keys {
        if let Some(value) = section.get(key) {
            value.problem(
                format!("{why}: `{key}` means nothing beside kind = \"{kind}\""),
                "remove it, or remove `kind`",
            );
        }
    }
}

/// Who is written to.
fn addressees(section: &Section, offer: &Offer) -> Option<Vec<MailAddress>> {
    let list = section.require("to", "add to = [\"NAME@DOMAIN\"]: who is told of issues")?;
    let written = list.list_of(|element| {
        let address = element.parse::<MailAddress>("write it as NAME@DOMAIN")?;
        let is_allowed = |domains: &BTreeSet<String>| domains.is_empty() || domains.contains(address.domain());
        if !offer.mail_domains.is_none_or(is_allowed) {
            element.problem(
                format!("the operator lets no e-mail go to `{}`", address.domain()),
                "name another address, or let the operator add the domain to `domains` of [notices.email] in tollgate.toml",
            );
        }
        Some(address)
    });
    if list.is_empty_list() {
        list.problem("`to` is empty: nobody would be told", "name somebody");
    }
    if written.len() > limits::MAIL_ADDRESSEES_MAX {
        let most = limits::MAIL_ADDRESSEES_MAX;
        list.problem(
            format!("{} addresses; an e-mail goes to {most} at most", written.len()),
            "name a mailing list, or make a second destination",
        );
    }
    if offer.mail_domains.is_none() && offer.host == Host::Native {
        list.problem(
            "this host sends no e-mail",
            "let the operator say how in [notices.email] of tollgate.toml: server and from",
        );
    }
    Some(written)
}

/// Whether it is sent what it is sent in order: the one word that says so.
fn in_order(value: &Value) -> bool {
    let word = value.text();
    if let Some(word) = word.filter(|word| *word != "subject") {
        value.problem(
            format!("`{word}` is no order"),
            "write order = \"subject\": what belongs to one subject is sent one after the other; leave it out for no order",
        );
    }
    word == Some("subject")
}

/// Headers that a destination has of its own. A credential's value stands in no file.
fn own_headers(value: &Value) -> Vec<(String, Parameter<Referred>)> {
    let Some(section) = value.section() else {
        return Vec::new();
    };
    let entries = section.entries();
    if entries.len() > limits::OWN_HEADERS_MAX {
        let most = limits::OWN_HEADERS_MAX;
        value.problem(
            format!(
                "{} headers; at most {most} are sent beside Tollgate's own",
                entries.len()
            ),
            "remove some",
        );
    }
    let mut headers: Vec<(String, Parameter<Referred>)> = Vec::new();
    for (name, value) in entries {
        let Some(text) = own_header(name, &value) else { continue };
        match own_header::name(name) {
            Err(problem) => value.problem(problem, "rename or remove it"),
            Ok(header) if headers.iter().any(|(known, _)| *known == header) => {
                value.problem(format!("the header `{header}` stands twice in `headers`"), "remove one");
            }
            Ok(header) => headers.push((header, text)),
        }
    }
    headers
}

/// The value of such a header, as it stands there or where it refers to.
fn own_header(name: &str, value: &Value) -> Option<Parameter<Referred>> {
    let is_secret = !value.raw().is_str() || own_header::carries_credential(&name.to_ascii_lowercase());
    // A credential that stands in the file is reported.
    let text = if is_secret {
        Parameter::Secret(reference::secret(value)?)
    } else {
        Parameter::Text(value.text()?.to_owned())
    };
    let known = match &text {
        Parameter::Text(text) => Some(text.as_bytes()),
        Parameter::Secret(secret) => secret.text.as_ref().map(|text| text.expose()),
    };
    if let Some(Err(problem)) = known.map(own_header::check_value) {
        value.problem(format!("`{}`: {problem}", value.key()), "mend it where it is kept");
        return None;
    }
    Some(text)
}

/// Names that the destination had before: what waits for them goes to it.
fn formerly(
    list: &Value,
    declared: &BTreeSet<DestinationName>,
    succeeded: &mut BTreeSet<DestinationName>,
) -> Vec<DestinationName> {
    let names = list.list_of(|element| {
        let name = element.parse::<DestinationName>("write the destination's old name")?;
        if declared.contains(&name) {
            element.problem(
                format!("there is a destination `{name}` in this file: what waits for it goes there"),
                "remove it from `formerly`, or remove that destination",
            );
        }
        Some((element.clone(), name))
    });
    names
        .into_iter()
        .map(|(element, name)| {
            if !succeeded.insert(name.clone()) {
                element.problem(
                    format!("two destinations were formerly `{name}`"),
                    "name it in one of them",
                );
            }
            name
        })
        .collect()
}

fn destination_url(value: &Value, offer: &Offer) -> Option<String> {
    let text = value.text()?;
    let Ok(url) = url::Url::parse(text) else {
        value.problem(
            format!("`{text}` is not a URL"),
            "write https://, the host and the path",
        );
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        value.blot();
        value.problem(
            "a URL must not carry user and password",
            "remove them; deliveries are signed with the destination's secret",
        );
        return None;
    }
    match url.scheme() {
        "https" => {}
        "http" if offer.allow_http => {}
        "http" => value.problem(
            "the destination is not reached by https",
            "use https; for a destination on your own network the operator may set allow_http = true in [delivery]",
        ),
        other => value.problem(format!("`{other}` is not a way to deliver"), "use https"),
    }
    if url.fragment().is_some() {
        value.problem("the part of a URL after # is never sent", "remove it");
    }
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => Some(address.into()),
        Some(url::Host::Ipv6(address)) => Some(address.into()),
        Some(url::Host::Domain(_)) | None => None,
    };
    if let Some(Err(forbidden)) = address.map(|address| network::judge(address, offer.allow_networks)) {
        value.problem(
            forbidden.to_string(),
            "name a public host, or let the operator allow its network",
        );
    }
    Some(url.into())
}
