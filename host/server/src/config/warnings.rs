//! Warns of what is not wrong in a configuration but is hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tollgate_core::action::ActionKind;
use tollgate_core::ids::{Digest, PluginName, TenantName};
use tollgate_core::secret::SourceSecret;
use tollgate_core::time::UnixMillis;

use super::{Config, Tenant};

/// Something to look at; the host starts all the same. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What it is about, for example `acme.sources.rewards`; absent for the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is hardly meant.
    pub message: String,
    /// What may be done about it.
    pub help: String,
}

impl Warning {
    fn new(field: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Looks at a whole configuration. `asks` are the kinds of actions that each plugin's manifest lists, as far as plugins could be read;
/// those of all its versions together.
pub fn warnings(config: &Config, asks: &BTreeMap<PluginName, BTreeSet<ActionKind>>, now: UnixMillis) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if config.tenants.is_empty() && config.broken.is_empty() {
        warnings.push(Warning {
            field: None,
            message: "there are no tenants: every request would be answered 404".to_owned(),
            help: "add tenants/NAME.toml beside the operator's file, with a source and a route".to_owned(),
        });
    }
    for tenant in config.tenants.values() {
        expired(tenant, now, &mut warnings);
        unasked(tenant, asks, &mut warnings);
        shared_operations(tenant, &mut warnings);
    }
    shared(config, &mut warnings);
    warnings
}

/// Secrets whose window has passed.
fn expired(tenant: &Tenant, now: UnixMillis, warnings: &mut Vec<Warning>) {
    for source in tenant.sources.values() {
        let has_expired = |secret: &&SourceSecret| secret.not_after.is_some_and(|end| end <= now);
        let all = !source.secrets.is_empty() && source.secrets.iter().all(|secret| has_expired(&secret));
        for secret in source.secrets.iter().filter(has_expired) {
            let end = secret.not_after.map(|end| end.to_string()).unwrap_or_default();
            let help = if all {
                "no secret of this source is valid any more: every request is answered 401 until there is one"
            } else {
                "remove it, or move `not_after` on"
            };
            warnings.push(Warning::new(
                format!("{}.sources.{}", tenant.name, source.name),
                format!("the secret `{}` expired at {end}", secret.id),
                help,
            ));
        }
    }
}

/// Grants of actions that the plugin never asks for: harmless today, and a door for the version of tomorrow.
fn unasked(tenant: &Tenant, asks: &BTreeMap<PluginName, BTreeSet<ActionKind>>, warnings: &mut Vec<Warning>) {
    for route in &tenant.routes {
        let Some(asks) = asks.get(&route.plugin) else { continue };
        for grant in route.grants.iter().filter(|grant| !asks.contains(&grant.kind)) {
            let asked: Vec<_> = asks.iter().map(|kind| kind.as_str()).collect();
            let asked = if asked.is_empty() {
                "nothing".to_owned()
            } else {
                asked.join(", ")
            };
            warnings.push(Warning::new(
                format!("{}.routes.{}.grants", tenant.name, route.name),
                format!(
                    "`{}` is granted, which the plugin `{}` never asks for",
                    grant.kind, route.plugin
                ),
                format!("remove the grant; the plugin's manifest lists {asked}"),
            ));
        }
    }
}

/// Namespaces of operations that more than one plugin records under: each can take the other's keys.
fn shared_operations(tenant: &Tenant, warnings: &mut Vec<Warning>) {
    let mut routes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    // What a route hands on is of a kind that no plugin can record.
    for route in tenant.routes.iter().filter(|route| route.forward.is_none()) {
        routes.entry(&route.namespace).or_default().push(route);
    }
    for (namespace, routes) in routes {
        let Some(other) = routes.iter().find(|route| route.plugin != routes[0].plugin) else {
            continue;
        };
        warnings.push(Warning::new(
            format!("{}.routes.{}.operations", tenant.name, other.name),
            format!(
                "the plugins `{}` and `{}` both record under the namespace `{namespace}`: each can take the other's operation keys",
                routes[0].plugin, other.plugin
            ),
            "as it should be while one takes over from the other; else leave `operations` out",
        ));
    }
}

/// Secrets that more than one tenant has: whoever knows one tenant's signs for the other.
fn shared(config: &Config, warnings: &mut Vec<Warning>) {
    let mut holders: BTreeMap<[u8; 32], BTreeMap<&TenantName, String>> = BTreeMap::new();
    for tenant in config.tenants.values() {
        let of_sources = tenant.sources.values().flat_map(|source| {
            source
                .secrets
                .iter()
                .map(move |secret| (secret, format!("{}.sources.{}", tenant.name, source.name)))
        });
        let of_destinations = tenant.destinations.iter().flat_map(|(name, destination)| {
            destination
                .secrets
                .iter()
                .map(move |secret| (secret, format!("{}.destinations.{name}", tenant.name)))
        });
        for (secret, place) in of_sources.chain(of_destinations) {
            let digest = Digest::of(secret.text.expose()).0;
            holders.entry(digest).or_default().entry(&tenant.name).or_insert(place);
        }
    }
    for places in holders.into_values().filter(|places| places.len() > 1) {
        let places: Vec<String> = places.into_values().collect();
        warnings.push(Warning::new(
            places[0].clone(),
            format!("tenants share one secret: {}", places.join(", ")),
            "give each its own: who knows one tenant's secret can sign events of the other's",
        ));
    }
}
