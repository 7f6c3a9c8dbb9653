//! A tenant's settings: what it adds to its file by API, in the same grammar and read by the same code.
//!
//! What the file says stays the operator's. Settings have sources, routes and destinations of names that the file does not have, and their
//! routes may name what either declares. They say nothing of what holds for the tenant as a whole, and reach nothing of the host: their
//! secrets are those that the tenant set, and their profiles those that are shipped. Bounds are the file's own: a body, a run or a
//! destination of settings may take no more than what the operator offers to every file.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::ids::{DestinationName, RouteName, SecretName, SourceName, TenantName};
use tollgate_core::limits;
use toml::de::DeValue;

use super::raw::{File, Findings, Section};
use super::route::Scope;
use super::{Destination, Offer, Parts, Problems, Resolver, Source, destination};
use crate::route::Route;

/// What the file declares, as far as settings must know it.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Its sources.
    pub sources: BTreeSet<SourceName>,
    /// Its routes.
    pub routes: BTreeSet<RouteName>,
    /// Its destinations.
    pub destinations: BTreeSet<DestinationName>,
    /// Those of them that are written to by e-mail.
    pub mailed: BTreeSet<DestinationName>,
    /// Names that its destinations had before.
    pub formerly: BTreeSet<DestinationName>,
}

/// What settings add.
#[derive(Debug, Clone, Default)]
pub struct Added {
    /// Where more events come in.
    pub sources: BTreeMap<SourceName, Source>,
    /// What is done with events, in the order of the text; behind those of the file.
    pub routes: Vec<Route>,
    /// Where more actions go.
    pub destinations: BTreeMap<DestinationName, Destination>,
}

/// What holds for the tenant as a whole, and why settings do not say it.
const OPERATORS: [(&str, &str); 2] = [
    (
        "families",
        "it says which sources' subjects are the same, and would order the events of the operator's sources as well",
    ),
    (
        "promotion",
        "it is what a plugin's version must have behind it, and would be no bound if whoever it bounds could lift it",
    ),
];

/// Checks settings together with what the file declares.
///
/// # Errors
/// All that is wrong with them, in the order of their lines.
pub fn check_settings(
    tenant: &TenantName,
    file: &File,
    of_file: &Declared,
    offer: &Offer,
    resolver: &dyn Resolver,
) -> Result<Added, Problems> {
    let findings = Findings::new(resolver);
    let read = file.read(&findings, |top| {
        for (key, why) in OPERATORS {
            if let Some(value) = top.get(key) {
                value.problem_of_key(
                    format!("`{key}` is said in the operator's file alone: {why}"),
                    "leave it out, or ask the operator".to_owned(),
                );
            }
        }
        let sources = free(top, "sources", "source", &of_file.sources);
        let destinations = free(top, "destinations", "destination", &of_file.destinations);
        let routes = free(top, "routes", "route", &of_file.routes);
        for (name, section) in &destinations {
            if of_file.formerly.contains(name) {
                section.problem(
                    format!("a destination of the operator's file was formerly `{name}`: what waits for that name goes there"),
                    "choose another name",
                );
            }
        }
        let scope = Scope {
            tenant: Some(tenant),
            offer,
            sources: names(&of_file.sources, &sources),
            destinations: names(&of_file.destinations, &destinations),
            mailed: of_file
                .mailed
                .iter()
                .cloned()
                .chain(destination::mailed(&destinations))
                .collect(),
        };
        let Parts {
            sources,
            destinations,
            routes,
        } = Parts::read(sources, destinations, routes, &scope, of_file.formerly.clone());
        Some(Added {
            sources,
            routes,
            destinations,
        })
    });
    findings.made(read, file)
}

/// The tables under `key`, each of a name that the file does not have.
fn free<'t, N>(top: &Section<'t>, key: &'static str, what: &str, of_file: &BTreeSet<N>) -> Vec<(N, Section<'t>)>
where
    N: std::str::FromStr<Err: std::fmt::Display> + Ord + std::fmt::Display,
{
    let mut found = top.named::<N>(key);
    if found.len() > limits::SETTINGS_NAMES_MAX
        && let Some(group) = top.get(key)
    {
        group.problem_of_key(
            format!(
                "{} of them; settings have at most {}",
                found.len(),
                limits::SETTINGS_NAMES_MAX
            ),
            "remove some, or let the operator put them into the tenant's file".to_owned(),
        );
    }
    found.retain(|(name, section)| {
        let is_taken = of_file.contains(name);
        if is_taken {
            section.problem(
                format!("the {what} `{name}` is the operator's: it stands in the tenant's file, and settings cannot change it"),
                "choose another name, or ask the operator to remove it there",
            );
        }
        !is_taken
    });
    found
}

fn names<N: Ord + Clone>(of_file: &BTreeSet<N>, own: &[(N, Section)]) -> BTreeSet<N> {
    of_file
        .iter()
        .cloned()
        .chain(own.iter().map(|(name, _)| name.clone()))
        .collect()
}

/// What of settings refers to which secret: `sources.shop`, `destinations.books`. Of a text that is no TOML nothing is said.
pub fn secrets_used(text: &str) -> BTreeMap<SecretName, BTreeSet<String>> {
    let mut used = BTreeMap::new();
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    // A route refers to none: its configuration is the plugin's, whatever it looks like.
    for group in ["sources", "destinations"] {
        let Some(parts) = table.get_ref().get(group).and_then(|value| value.get_ref().as_table()) else {
            continue;
        };
        for (name, part) in parts.iter() {
            let place = format!("{group}.{}", name.get_ref());
            find_references(part.get_ref(), &place, &mut used);
        }
    }
    used
}

/// Which secret of a source of settings is which that was set: by the source's name and what its receipts call it. Of a text that is no TOML
/// nothing is said.
pub fn source_secrets(text: &str) -> BTreeMap<(String, String), SecretName> {
    let mut found = BTreeMap::new();
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    let Some(sources) = table
        .get_ref()
        .get("sources")
        .and_then(|value| value.get_ref().as_table())
    else {
        return found;
    };
    for (source, part) in sources.iter() {
        let listed = part
            .get_ref()
            .get("secrets")
            .and_then(|value| value.get_ref().as_array());
        for secret in listed.into_iter().flatten() {
            let id = secret.get_ref().get("id").and_then(|id| id.get_ref().as_str());
            let store = secret
                .get_ref()
                .get("value")
                .and_then(|value| value.get_ref().get("store"));
            let name = store
                .and_then(|name| name.get_ref().as_str())
                .map(str::parse::<SecretName>);
            if let (Some(id), Some(Ok(name))) = (id, name) {
                found.insert((source.get_ref().to_string(), id.to_owned()), name);
            }
        }
    }
    found
}

fn find_references(value: &DeValue<'_>, place: &str, used: &mut BTreeMap<SecretName, BTreeSet<String>>) {
    match value {
        DeValue::Table(table) => {
            let name = table.get("store").and_then(|name| name.get_ref().as_str());
            if let (1, Some(Ok(name))) = (table.len(), name.map(str::parse::<SecretName>)) {
                used.entry(name).or_default().insert(place.to_owned());
            }
            for inner in table.values() {
                find_references(inner.get_ref(), place, used);
            }
        }
        DeValue::Array(list) => list
            .iter()
            .for_each(|inner| find_references(inner.get_ref(), place, used)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tollgate_core::lifecycle;
    use tollgate_core::secret::Secret;

    use super::*;
    use crate::PluginLimits;
    use crate::file::{Host, Leave, Owner, Refused};

    /// One secret was set, and nothing of the host is in reach.
    struct Own;

    impl Resolver for Own {
        fn variable(&self, _: &str) -> Result<Option<Secret>, Refused> {
            Err(Refused::new("no variable", ""))
        }
        fn secret_file(&self, _: &Path) -> Result<Secret, Refused> {
            Err(Refused::new("no file", ""))
        }
        fn stored(&self, name: &SecretName) -> Result<Secret, Refused> {
            match name.as_str() {
                "signing" => Ok(Secret::new("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")),
                _ => Err(Refused::new(format!("no secret `{name}`"), "set it")),
            }
        }
        fn text(&self, _: &Path, _: &str) -> Result<(String, Owner), Refused> {
            Err(Refused::new("no file", ""))
        }
        fn fetch_hosts(&self, _: &[String]) -> Result<(), Refused> {
            Ok(())
        }
        fn short_secrets(&self) -> Leave {
            Leave::Refused
        }
        fn example(&self) -> String {
            "{ store = \"NAME\" }".to_owned()
        }
    }

    fn checked(text: &str) -> Result<Added, Problems> {
        let lifecycles = lifecycle::shipped();
        let offer = Offer {
            host: Host::Native,
            body_bytes_max: limits::BODY_BYTES_MAX,
            source_body_bytes_max: limits::SOURCE_BODY_BYTES_MAX,
            in_flight_max: 16,
            allow_http: false,
            allow_networks: &[],
            mail_domains: None,
            limits: PluginLimits::DEFAULT,
            lifecycles: &lifecycles,
            plugins: None,
            schemas: None,
        };
        let of_file = Declared {
            sources: ["rewards".parse().unwrap()].into(),
            routes: ["cashback".parse().unwrap()].into(),
            destinations: ["ledger".parse().unwrap()].into(),
            mailed: BTreeSet::new(),
            formerly: ["books".parse().unwrap()].into(),
        };
        let file = File::new("settings of acme".to_owned(), text.to_owned(), Path::new(""));
        check_settings(&"acme".parse().unwrap(), &file, &of_file, &offer, &Own)
    }

    const SHOP: &str = "[sources.shop]\nprovider = \"standard-webhooks\"\nsecrets = [{ id = \"a\", value = { store = \"signing\" } }]\n";
    const OWN: &str = "[destinations.own]\nurl = \"https://own.example/\"\nsecrets = [{ store = \"signing\" }]\n";

    #[test]
    fn o14_settings_add_to_the_file_and_may_name_what_it_declares() {
        let routes = "[routes.archive]\nforward = \"body\"\nsources = [\"rewards\", \"shop\"]\ndestinations = [\"ledger\", \"own\"]\n";
        let added = checked(&format!("{SHOP}{OWN}{routes}")).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(
            (added.sources.len(), added.routes.len(), added.destinations.len()),
            (1, 1, 1)
        );
        assert!(added.sources["shop"].keyring.is_some());
        assert!(
            checked("")
                .unwrap_or_else(|problems| panic!("{problems}"))
                .routes
                .is_empty()
        );
    }

    #[test]
    fn o14_settings_change_nothing_of_the_file_and_reach_nothing_of_the_host() {
        let shop = |line: &str| format!("{SHOP}{line}\n");
        for (text, line, says) in [
            (
                SHOP.replace("shop", "rewards"),
                1,
                "the source `rewards` is the operator's",
            ),
            (
                "[routes.cashback]\nforward = \"body\"\ndestinations = [\"ledger\"]".to_owned(),
                1,
                "the route `cashback` is the operator's",
            ),
            (
                OWN.replace("own]", "ledger]"),
                1,
                "the destination `ledger` is the operator's",
            ),
            (OWN.replace("own]", "books]"), 1, "was formerly `books`"),
            (
                format!("{OWN}formerly = [\"ledger\"]"),
                4,
                "there is a destination `ledger`",
            ),
            (
                format!("{OWN}formerly = [\"books\"]"),
                4,
                "two destinations were formerly `books`",
            ),
            (
                "[families.payment]\nshared_by = [\"rewards\"]".to_owned(),
                1,
                "`families` is said in the operator's file alone",
            ),
            (
                "[promotion]\nrequire_signed = true".to_owned(),
                1,
                "`promotion` is said in the operator's file alone",
            ),
            (shop("bearer = [{ env = \"ACME_TOKEN\" }]"), 4, "no variable"),
            (shop("bearer = [{ file = \"token\" }]"), 4, "no file"),
            (shop("bearer = [{ store = \"other\" }]"), 4, "no secret `other`"),
            (shop("bearer = [\"hunter2\"]"), 4, "the secret itself stands"),
            (
                "[sources.shop]\nprofile = { file = \"own.toml\" }".to_owned(),
                2,
                "no file",
            ),
            ("limits = 1".to_owned(), 1, "unknown key `limits`"),
            ("[edge]\nlisten = \"0.0.0.0:80\"".to_owned(), 1, "unknown key `edge`"),
            (shop("body_bytes_max = 999999999"), 4, "out of bounds"),
            ("[[[".to_owned(), 1, "not TOML"),
        ] {
            let problems = checked(&text).map(|_| ()).unwrap_err();
            let said = problems.in_words();
            assert!(said.contains(says), "{text}: {said}");
            let found = problems.as_data().iter().find(|problem| problem.message.contains(says));
            assert_eq!(found.and_then(|problem| problem.line), Some(line), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn o14_what_refers_to_a_secret_is_known_of_any_text() {
        let used = secrets_used(&format!("{SHOP}{OWN}[routes.r]\nconfig = {{ store = \"x\" }}\n"));
        let signing = &used["signing"];
        assert_eq!(signing.iter().collect::<Vec<_>>(), ["destinations.own", "sources.shop"]);
        assert_eq!(used.len(), 1, "what only looks like a reference is none: {used:?}");
        assert!(secrets_used("[[[").is_empty());
    }
}
