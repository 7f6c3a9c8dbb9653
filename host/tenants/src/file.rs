//! The file that a person writes: the native host's, with what Spin cannot hold refused. `tollgate spin check` checks it with every
//! problem at its line; here the first one ends the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use serde::Deserialize;
use tollgate_core::action::ActionKind;
use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::forward::{self, ForwardForm};
use tollgate_core::grant::Grant;
use tollgate_core::ids::{
    DestinationName, Digest, EventType, FamilyName, KeyId, Namespace, PluginName, ProviderName, RouteName, SourceName,
    Status,
};
use tollgate_core::mode::Accept;
use tollgate_core::money::Currency;
use tollgate_core::profile::{self, Profile};
use tollgate_core::route::{Late, RouteMatch, TypePattern};
use tollgate_core::subject::Sharing;
use tollgate_core::time::UnixMillis;
use tollgate_core::{lifecycle, limits, own_header};

use crate::form::{Basic, Destination, Intake, Parameter, Route, SecretRef, Tenant, Variable, Work};

/// Reads a tenant's file. `own` gives the text of a file that it names.
///
/// # Errors
/// In words: what is wrong and where.
pub(crate) fn read(text: &str, own: &dyn Fn(&str) -> io::Result<String>) -> Result<Tenant, String> {
    let raw: RawTenant = toml::from_str(text).map_err(|error| {
        // Not the whole error: it quotes the line, and a line may hold what should stand elsewhere.
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("line {line}: {}", error.message())
    })?;
    let routes: Vec<Route> = raw
        .routes
        .into_iter()
        .map(|(name, route)| route.check(name))
        .collect::<Result<_, _>>()?;
    let lifecycles: Vec<_> = lifecycle::shipped().into_values().map(Arc::unwrap_or_clone).collect();
    let sharing = Sharing(
        raw.families
            .into_iter()
            .map(|(family, raw)| (family, raw.shared_by))
            .collect(),
    );
    let mut sources = BTreeMap::new();
    for (name, source) in raw.sources {
        let mut intake = source
            .check(own)
            .map_err(|problem| format!("source {name}: {problem}"))?;
        intake.routes = routes
            .iter()
            .filter(|route| route.matches.sources.is_empty() || route.matches.sources.contains(&name))
            .map(|route| (route.name.clone(), route.matches.clone()))
            .collect();
        intake.lifecycles = lifecycles
            .iter()
            .filter(|lifecycle| intake.profile.families().any(|family| *family == lifecycle.family))
            .cloned()
            .collect();
        intake.sharing = sharing.clone();
        sources.insert(name, intake);
    }
    let signing = Profile::clone(profile::standard_webhooks());
    let (mut destinations, mut declared, mut renamed) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (name, raw) in raw.destinations {
        // What waits for an old name goes where the new one is. A name that is declared goes before one that was.
        let formerly = raw.formerly.clone();
        let destination = raw
            .check()
            .map_err(|problem| format!("destination {name}: {problem}"))?;
        for old in formerly {
            renamed.push((old.clone(), name.clone()));
            destinations.entry(old).or_insert_with(|| destination.clone());
        }
        declared.push((name, destination));
    }
    destinations.extend(declared);
    let accepts = sources
        .iter()
        .map(|(name, intake)| (name.clone(), intake.profile.accept()));
    Ok(Tenant {
        work: Work {
            accepts: accepts.collect(),
            routes,
            destinations,
            renamed,
            signing,
            lifecycles,
            sharing,
        },
        sources,
    })
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
    #[serde(default)]
    families: BTreeMap<FamilyName, RawFamily>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFamily {
    shared_by: BTreeSet<SourceName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    provider: Option<ProviderName>,
    profile: Option<RawProfileFile>,
    public_url: Option<String>,
    body_bytes_max: Option<usize>,
    conflict_status: Option<u16>,
    #[serde(default)]
    replace_held: bool,
    #[serde(default)]
    replays: RawReplays,
    event_type: Option<EventType>,
    currency: Option<String>,
    accept: Option<Vec<String>>,
    #[serde(default)]
    keep_headers: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, toml::Value>,
    #[serde(default)]
    secrets: Vec<RawSourceSecret>,
    #[serde(default)]
    bearer: Vec<RawReference>,
    #[serde(default)]
    basic: Vec<RawBasic>,
    /// Read only to be refused: on Spin no key is fetched.
    published_keys: Option<toml::Value>,
    /// Read only to be refused: on Spin nobody we could believe says who a client is.
    allow_networks: Option<toml::Value>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawReplays {
    #[default]
    Hold,
    Answer,
}

impl RawSource {
    /// Its routes and lifecycles are filled in by whoever knows the whole tenant.
    fn check(self, own: &dyn Fn(&str) -> io::Result<String>) -> Result<Intake, String> {
        if self.allow_networks.is_some() {
            return Err(
                "`allow_networks` cannot be held on Spin: leave it to what stands in front of the app".to_owned(),
            );
        }
        if self.published_keys.is_some() {
            return Err(
                "`published_keys` cannot be held on Spin, where no key is fetched: give the key as a secret".to_owned(),
            );
        }
        let mut profile = match (&self.provider, &self.profile) {
            (Some(provider), None) => {
                let shipped = profile::shipped().get(provider);
                Profile::clone(shipped.ok_or_else(|| format!("there is no provider `{provider}`"))?)
            }
            (None, Some(file)) => {
                let text =
                    own(&file.file).map_err(|error| format!("its profile {} cannot be read: {error}", file.file))?;
                Profile::from_toml(&text).map_err(|error| format!("its profile {} is refused: {error}", file.file))?
            }
            (None, None) | (Some(_), Some(_)) => return Err("it needs either `provider` or `profile`".to_owned()),
        };
        if let Some(event_type) = &self.event_type {
            profile = profile.with_event_type(event_type);
        }
        if let Some(code) = &self.currency {
            let currency = Currency::new(code).ok_or_else(|| format!("`{code}` is not a currency code"))?;
            profile = profile.with_currency(currency);
        }
        if let Some(modes) = &self.accept {
            let accept = Accept::of(&modes.iter().map(String::as_str).collect::<Vec<_>>());
            profile = profile.with_accept(accept.ok_or("`accept` lists `live`, `test` or both")?);
        }
        let names: Vec<_> = self.keep_headers.iter().map(String::as_str).collect();
        profile = profile
            .with_kept_headers(own_header::kept(&names).map_err(|problem| format!("`keep_headers`: {problem}"))?);
        let ack = match self.conflict_status {
            Some(409) => profile.ack().clone().with_conflict_status(409),
            _ => profile.ack().clone(),
        };
        let most = limits::SOURCE_BODY_BYTES_MAX;
        let of_provider = profile.body_bytes_max().unwrap_or(0).min(most);
        let body_bytes_max = self.body_bytes_max.unwrap_or(limits::BODY_BYTES_MAX.max(of_provider));
        if !(1024..=most).contains(&body_bytes_max) {
            return Err(format!(
                "`body_bytes_max` is out of bounds: write a number from 1024 to {most}"
            ));
        }
        Ok(Intake {
            ack,
            body_bytes_max,
            on_held: if self.replace_held {
                OnHeld::Replace
            } else {
                OnHeld::Review
            },
            on_replay: match self.replays {
                RawReplays::Hold => OnReplay::Hold,
                RawReplays::Answer => OnReplay::Answer,
            },
            parameters: parameters(&self.parameters, &profile)?,
            secrets: self
                .secrets
                .into_iter()
                .map(RawSourceSecret::check)
                .collect::<Result<_, _>>()?,
            bearer: self.bearer.into_iter().map(RawReference::variable).collect(),
            basic: self
                .basic
                .into_iter()
                .map(|basic| Basic {
                    user: basic.user,
                    password: basic.password.variable(),
                })
                .collect(),
            public_url: self.public_url,
            routes: Vec::new(),
            lifecycles: Vec::new(),
            sharing: Sharing::default(),
            profile,
        })
    }
}

/// What a source says beside its secrets. Values that the profile calls secret go by reference.
fn parameters(given: &BTreeMap<String, toml::Value>, profile: &Profile) -> Result<BTreeMap<String, Parameter>, String> {
    let mut parameters = BTreeMap::new();
    for (name, value) in given {
        let known = profile.parameters().iter().find(|parameter| parameter.name == *name);
        let known = known.ok_or_else(|| format!("`{}` has no parameter `{name}`", profile.name))?;
        let parameter = match value {
            toml::Value::String(text) if !known.secret => Parameter::Text(text.clone()),
            toml::Value::Table(_) if known.secret => {
                let reference = value
                    .clone()
                    .try_into::<RawReference>()
                    .map_err(|_| format!("the parameter `{name}` is written as {{ env = \"NAME\" }}"))?;
                Parameter::Secret(reference.variable())
            }
            _ => return Err(format!("the parameter `{name}` has another form")),
        };
        parameters.insert(name.clone(), parameter);
    }
    Ok(parameters)
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
    fn check(self) -> Result<SecretRef, String> {
        let instant = |value: &toml::Value| {
            let text = match value {
                toml::Value::Datetime(datetime) => datetime.to_string(),
                toml::Value::String(text) => text.clone(),
                _ => return Err(format!("secret `{}`: its window is not made of instants", self.id)),
            };
            UnixMillis::from_rfc3339(&text)
                .ok_or_else(|| format!("secret `{}`: its window is not made of instants", self.id))
        };
        Ok(SecretRef {
            not_before: self.not_before.as_ref().map(instant).transpose()?,
            not_after: self.not_after.as_ref().map(instant).transpose()?,
            id: self.id,
            value: self.value.variable(),
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
    fn variable(self) -> Variable {
        Variable(self.env.to_lowercase())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDestination {
    url: String,
    secrets: Vec<RawReference>,
    #[serde(default)]
    formerly: Vec<DestinationName>,
    /// A host's own bound; here each invocation delivers what it leased, one after another.
    #[serde(default, rename = "in_flight_max")]
    _in_flight_max: Option<u32>,
    #[serde(default)]
    headers: BTreeMap<String, RawHeader>,
    timeout_ms: Option<u64>,
}

/// The value of a header that a destination has of its own.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawHeader {
    Text(String),
    Secret(RawReference),
}

impl RawDestination {
    fn check(self) -> Result<Destination, String> {
        let timeout_ms = self.timeout_ms.unwrap_or(limits::ATTEMPT_MS);
        let bounds = limits::ATTEMPT_MS_MIN..=limits::ATTEMPT_MS_MAX;
        if !bounds.contains(&timeout_ms) {
            let (least, most) = (bounds.start(), bounds.end());
            return Err(format!(
                "`timeout_ms` is out of bounds: write a number from {least} to {most}"
            ));
        }
        if self.headers.len() > limits::OWN_HEADERS_MAX {
            return Err(format!(
                "it has more than {} headers of its own",
                limits::OWN_HEADERS_MAX
            ));
        }
        let mut headers: Vec<(String, Parameter)> = Vec::new();
        for (name, value) in self.headers {
            let name = own_header::name(&name)?;
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(format!("the header `{name}` stands twice in `headers`"));
            }
            let value = match value {
                RawHeader::Secret(reference) => Parameter::Secret(reference.variable()),
                RawHeader::Text(_) if own_header::carries_credential(&name) => {
                    return Err(format!(
                        "the secret itself stands in the header `{name}`: write {{ env = \"NAME\" }}"
                    ));
                }
                RawHeader::Text(text) => {
                    own_header::check_value(text.as_bytes()).map_err(|problem| format!("`{name}`: {problem}"))?;
                    Parameter::Text(text)
                }
            };
            headers.push((name, value));
        }
        Ok(Destination {
            url: self.url,
            secrets: self.secrets.into_iter().map(RawReference::variable).collect(),
            headers,
            timeout_ms,
        })
    }
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
    late: Option<String>,
    plugin: Option<PluginName>,
    forward: Option<ForwardForm>,
    operations: Option<Namespace>,
    #[serde(default)]
    destinations: Vec<DestinationName>,
    #[serde(default)]
    grants: Vec<RawGrant>,
    #[serde(default)]
    config: toml::Table,
    #[serde(default)]
    limits: RawLimits,
}

const MEMORY_BYTES_MAX: u64 = limits::RUN_MEMORY_BYTES_MAX as u64;

/// The native limits that Spin can hold a route to: fuel and memory by the meter that each plugin is enclosed with.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    deadline_ms: Option<u64>,
    fuel: Option<u64>,
    memory_mib: Option<u64>,
}

impl RawRoute {
    fn check(self, name: RouteName) -> Result<Route, String> {
        let types = self
            .types
            .iter()
            .map(|text| TypePattern::new(text))
            .collect::<Result<_, _>>()?;
        let late = match self.late.as_deref() {
            None => Late::default(),
            Some(word) => {
                Late::from_word(word).ok_or_else(|| format!("route {name}: late is run, skip or hold, not `{word}`"))?
            }
        };
        if self.forward.is_some() && !(self.grants.is_empty() && self.config.is_empty()) {
            return Err(format!(
                "route {name}: a route that forwards runs no plugin: `grants` and `config` mean nothing there"
            ));
        }
        let (plugin, config_json) = match (self.plugin, self.forward) {
            (Some(plugin), None) => (plugin, config_json(self.config)),
            (None, Some(form)) => (
                forward::plugin_name(),
                serde_json::json!({ "forward": form }).to_string(),
            ),
            (None, None) | (Some(_), Some(_)) => {
                return Err(format!("route {name}: it needs either `plugin` or `forward`"));
            }
        };
        if self.forward.is_some() && self.destinations.is_empty() {
            return Err(format!("route {name}: `forward` needs `destinations`"));
        }
        Ok(Route {
            matches: RouteMatch {
                sources: self.sources,
                types,
                statuses: self.statuses,
                late,
            },
            namespace: self.operations.unwrap_or_else(|| Namespace::from(&plugin)),
            plugin,
            forward: self.forward,
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
            fuel: self.limits.fuel.unwrap_or(limits::RUN_FUEL).clamp(1, limits::RUN_FUEL),
            memory_bytes_max: self
                .limits
                .memory_mib
                .map_or(MEMORY_BYTES_MAX, |mib| mib.saturating_mul(1024 * 1024))
                .clamp(1, MEMORY_BYTES_MAX),
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
