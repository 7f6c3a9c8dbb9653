//! Tenants' files: the same `tenants/NAME.toml` that the native host reads, mounted at `/tenants`.
//!
//! `tollgate spin check` checks them whole, with every problem at its line; here only what a request needs is read, and a problem
//! is an answer of 503. A secret `{ env = "NAME" }` is the app's variable of that name in lower case.

use std::collections::BTreeMap;

use serde::Deserialize;
use spin_sdk::variables;
use tollgate_core::action::ActionKind;
use tollgate_core::answer::Ack;
use tollgate_core::grant::Grant;
use tollgate_core::ids::{
    DestinationName, Digest, EventType, KeyId, PluginName, ProviderName, RouteName, SourceName, Status, TenantName,
};
use tollgate_core::limits;
use tollgate_core::money::Currency;
use tollgate_core::profile::{self, Profile};
use tollgate_core::route::{RouteMatch, TypePattern};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Credential, Keyring};

/// Where `spin.toml` mounts the tenants' files.
const FOLDER: &str = "/tenants";

/// One tenant, as far as it can be read without its secrets.
pub(crate) struct Tenant {
    pub(crate) name: TenantName,
    pub(crate) routes: Vec<Route>,
    sources: BTreeMap<SourceName, RawSource>,
    destinations: BTreeMap<DestinationName, RawDestination>,
}

/// A source with all that verification needs.
pub(crate) struct Source {
    pub(crate) name: SourceName,
    pub(crate) profile: Profile,
    pub(crate) keyring: Keyring,
    pub(crate) public_url: Option<String>,
    /// How the provider wants to be answered.
    pub(crate) ack: Ack,
    /// Beside the signature: one of them must be there, if there are any.
    pub(crate) credentials: Vec<Credential>,
    /// Whether the credentials are asked for as basic auth.
    pub(crate) asks_basic: bool,
}

pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) matches: RouteMatch,
    pub(crate) plugin: PluginName,
    /// The plugin's configuration as the JSON document it is handed: keys in order of their bytes, as natively.
    pub(crate) config_json: String,
    pub(crate) config_digest: Digest,
    pub(crate) grants: Vec<Grant>,
    pub(crate) destinations: Vec<DestinationName>,
    pub(crate) deadline_ms: u64,
}

pub(crate) struct Destination {
    pub(crate) url: String,
    pub(crate) secrets: Vec<SourceSecret>,
}

impl Tenant {
    /// Reads a tenant's file. `Ok(None)` when there is none.
    ///
    /// # Errors
    /// In words, when it is not a tenant's file.
    pub(crate) fn load(name: &TenantName) -> Result<Option<Self>, String> {
        let text = match std::fs::read_to_string(format!("{FOLDER}/{name}.toml")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its file cannot be read: {error}")),
        };
        let raw: RawTenant = toml::from_str(&text).map_err(|error| {
            // Not the whole error: it quotes the line, and a line may hold what should stand elsewhere.
            format!("its file is not a tenant's: {}", error.message())
        })?;
        let routes = raw
            .routes
            .into_iter()
            .map(|(name, route)| route.check(name))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            name: name.clone(),
            routes,
            sources: raw.sources,
            destinations: raw.destinations,
        }))
    }

    /// What each route takes.
    pub(crate) fn matches(&self) -> impl Iterator<Item = (&RouteName, &RouteMatch)> {
        self.routes.iter().map(|route| (&route.name, &route.matches))
    }

    pub(crate) fn has_source(&self, name: &SourceName) -> bool {
        self.sources.contains_key(name)
    }

    /// # Errors
    /// In words, when its provider or its secrets are not usable.
    pub(crate) fn source(&self, name: &SourceName) -> Result<Source, String> {
        let raw = self.sources.get(name).ok_or("it is not configured")?;
        if raw.allow_networks.is_some() {
            return Err(
                "`allow_networks` cannot be held on Spin: leave it to what stands in front of the app".to_owned(),
            );
        }
        let mut profile = match (&raw.provider, &raw.profile) {
            (Some(provider), None) => {
                profile::shipped_one(provider).ok_or_else(|| format!("there is no provider `{provider}`"))?
            }
            (None, Some(own)) => {
                let text = std::fs::read_to_string(format!("{FOLDER}/{}", own.file))
                    .map_err(|error| format!("its profile's file cannot be read: {error}"))?;
                Profile::from_toml(&text).map_err(|error| format!("its profile is refused: {error}"))?
            }
            (None, None) | (Some(_), Some(_)) => return Err("it needs either `provider` or `profile`".to_owned()),
        };
        if let Some(event_type) = &raw.event_type {
            profile = profile.with_event_type(event_type);
        }
        if let Some(code) = &raw.currency {
            let currency = Currency::new(code).ok_or_else(|| format!("`{code}` is not a currency code"))?;
            profile = profile.with_currency(currency);
        }
        let parameters = raw.parameters(&profile)?;
        let secrets = raw
            .secrets
            .iter()
            .map(RawSourceSecret::check)
            .collect::<Result<Vec<_>, _>>()?;
        let keyring = Keyring::with_parameters(&profile, &secrets, &parameters).map_err(|error| error.to_string())?;
        let ack = match raw.conflict_status {
            Some(409) => profile.ack().clone().with_conflict_status(409),
            _ => profile.ack().clone(),
        };
        Ok(Source {
            name: name.clone(),
            ack,
            credentials: raw.credentials()?,
            asks_basic: !raw.basic.is_empty(),
            profile,
            keyring,
            public_url: raw.public_url.clone(),
        })
    }

    /// `None` when it is not configured.
    ///
    /// # Errors
    /// In words, when its secrets are not usable.
    pub(crate) fn destination(&self, name: &DestinationName) -> Result<Option<Destination>, String> {
        let Some(raw) = self.destinations.get(name) else {
            return Ok(None);
        };
        let mut secrets = Vec::new();
        for (at, secret) in raw.secrets.iter().enumerate() {
            secrets.push(SourceSecret {
                id: KeyId::new(&format!("{}", at + 1)).map_err(|error| error.to_string())?,
                text: secret.resolve()?,
                not_before: None,
                not_after: None,
            });
        }
        Ok(Some(Destination {
            url: raw.url.clone(),
            secrets,
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTenant {
    #[serde(default)]
    sources: BTreeMap<SourceName, RawSource>,
    #[serde(default)]
    routes: BTreeMap<RouteName, RawRoute>,
    #[serde(default)]
    destinations: BTreeMap<DestinationName, RawDestination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    provider: Option<ProviderName>,
    profile: Option<RawProfileFile>,
    public_url: Option<String>,
    conflict_status: Option<u16>,
    event_type: Option<EventType>,
    currency: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, toml::Value>,
    #[serde(default)]
    secrets: Vec<RawSourceSecret>,
    #[serde(default)]
    bearer: Vec<RawReference>,
    #[serde(default)]
    basic: Vec<RawBasic>,
    /// Read only to be refused: on Spin nobody we could believe says who a client is.
    allow_networks: Option<toml::Value>,
}

impl RawSource {
    /// What the source says beside its secrets. Values that the profile calls secret go by reference.
    fn parameters(&self, profile: &Profile) -> Result<Parameters, String> {
        let mut parameters = Parameters::new();
        for (name, value) in &self.parameters {
            let known = profile.parameters().iter().find(|parameter| parameter.name == *name);
            let known = known.ok_or_else(|| format!("`{}` has no parameter `{name}`", profile.name))?;
            let text = match value {
                toml::Value::String(text) if !known.secret => Secret::new(text.as_str()),
                toml::Value::Table(_) if known.secret => value
                    .clone()
                    .try_into::<RawReference>()
                    .map_err(|_| format!("the parameter `{name}` is written as {{ env = \"NAME\" }}"))?
                    .resolve()?,
                _ => return Err(format!("the parameter `{name}` has another form")),
            };
            parameters.insert(name.clone(), text);
        }
        Ok(parameters)
    }

    fn credentials(&self) -> Result<Vec<Credential>, String> {
        let bearer = self
            .bearer
            .iter()
            .map(|token| Ok(Credential::bearer(&token.resolve()?)));
        let basic = self
            .basic
            .iter()
            .map(|basic| Ok(Credential::basic(&basic.user, &basic.password.resolve()?)));
        bearer.chain(basic).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBasic {
    user: String,
    password: RawReference,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfileFile {
    file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSourceSecret {
    id: KeyId,
    value: RawReference,
    not_before: Option<toml::Value>,
    not_after: Option<toml::Value>,
}

impl RawSourceSecret {
    fn check(&self) -> Result<SourceSecret, String> {
        let instant = |value: &toml::Value| {
            let text = match value {
                toml::Value::Datetime(datetime) => datetime.to_string(),
                toml::Value::String(text) => text.clone(),
                _ => return Err(format!("secret `{}`: its window is not made of instants", self.id)),
            };
            UnixMillis::from_rfc3339(&text)
                .ok_or_else(|| format!("secret `{}`: its window is not made of instants", self.id))
        };
        Ok(SourceSecret {
            id: self.id.clone(),
            text: self.value.resolve()?,
            not_before: self.not_before.as_ref().map(instant).transpose()?,
            not_after: self.not_after.as_ref().map(instant).transpose()?,
        })
    }
}

/// A secret by reference. A file is no place for one on Spin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReference {
    env: String,
}

impl RawReference {
    fn resolve(&self) -> Result<Secret, String> {
        let name = self.env.to_lowercase();
        match variables::get(&name) {
            Ok(text) if !text.is_empty() => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
            _ => Err(format!("the variable `{name}` is not set")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDestination {
    url: String,
    secrets: Vec<RawReference>,
    /// A host's own bound; here each invocation delivers what it leased, one after another.
    #[serde(default, rename = "in_flight_max")]
    _in_flight_max: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    #[serde(default)]
    sources: Vec<SourceName>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    statuses: Vec<Status>,
    plugin: PluginName,
    #[serde(default)]
    destinations: Vec<DestinationName>,
    #[serde(default)]
    grants: Vec<RawGrant>,
    #[serde(default)]
    config: toml::Table,
    #[serde(default)]
    limits: RawLimits,
}

/// Of the native limits, Spin can hold a route to its deadline only.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    deadline_ms: Option<u64>,
    #[serde(rename = "fuel")]
    _fuel: Option<u64>,
    #[serde(rename = "memory_mib")]
    _memory_mib: Option<u64>,
}

impl RawRoute {
    fn check(self, name: RouteName) -> Result<Route, String> {
        let types = self
            .types
            .iter()
            .map(|text| TypePattern::new(text))
            .collect::<Result<_, _>>()?;
        let config_json = config_json(self.config);
        Ok(Route {
            matches: RouteMatch {
                sources: self.sources,
                types,
                statuses: self.statuses,
            },
            plugin: self.plugin,
            config_digest: Digest::of(config_json.as_bytes()),
            config_json,
            grants: self
                .grants
                .into_iter()
                .map(|grant| grant.check(&name))
                .collect::<Result<_, _>>()?,
            destinations: self.destinations,
            deadline_ms: self
                .limits
                .deadline_ms
                .unwrap_or(limits::RUN_DEADLINE_MS)
                .clamp(1, limits::RUN_DEADLINE_MS),
            name,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrant {
    kind: String,
    amount_max: Option<i64>,
    #[serde(default)]
    currencies: Vec<String>,
    quantity_max: Option<u32>,
    sku_prefix: Option<String>,
    #[serde(default)]
    extensions: Vec<String>,
}

impl RawGrant {
    fn check(self, route: &RouteName) -> Result<Grant, String> {
        let kind = ActionKind::from_name(&self.kind)
            .ok_or_else(|| format!("route {route}: there is no kind of action `{}`", self.kind))?;
        let currencies = self
            .currencies
            .iter()
            .map(|code| Currency::new(code).ok_or_else(|| format!("route {route}: `{code}` is not a currency code")))
            .collect::<Result<_, _>>()?;
        Ok(Grant {
            kind,
            amount_max: self.amount_max,
            currencies,
            quantity_max: self.quantity_max,
            sku_prefix: self.sku_prefix,
            extensions: self.extensions,
        })
    }
}

fn config_json(table: toml::Table) -> String {
    json_of(toml::Value::Table(table)).to_string()
}

/// Dates and times become texts. A number that JSON cannot say becomes null; `tollgate spin check` refuses it.
fn json_of(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(boolean) => boolean.into(),
        toml::Value::Datetime(datetime) => datetime.to_string().into(),
        toml::Value::Array(elements) => elements.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => {
            let mut map = serde_json::Map::new();
            let mut entries: Vec<_> = table.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (key, value) in entries {
                map.insert(key, json_of(value));
            }
            map.into()
        }
    }
}
