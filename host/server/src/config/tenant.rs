//! A tenant's file, checked against itself and against what the operator offers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use http::HeaderName;
use tollgate_core::action::ActionKind;
use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::config_schema::Segment;
use tollgate_core::forward::{self, ForwardForm};
use tollgate_core::grant::Grant;
use tollgate_core::ids::{
    DestinationName, Digest, EventType, FamilyName, KeyId, Namespace, PluginName, ProviderName, RouteName, SourceName,
    Status, TenantName,
};
use tollgate_core::limits::{self, MINOR_UNITS_MAX, SECRETS_MAX, VOUCHED_KEYS_MAX};
use tollgate_core::mode::Accept;
use tollgate_core::money::Currency;
use tollgate_core::own_header;
use tollgate_core::profile::{self, Profile};
use tollgate_core::registry::PromotionGate;
use tollgate_core::route::{Late, RouteMatch, TypePattern};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::subject::Sharing;
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Credential, KeyError, Keyring};
use toml::de::DeValue;

use super::operator::{BODY_BYTES_LEAST, House, WRITE_A_NETWORK, count, plugin_limits};
use super::raw::{Desk, File, Section, Value, suggestion};
use super::{Access, Destination, Route, Schemas, Source, Tenant, VersionSchema, reference};
use crate::outbound::guard;

/// A tenant's configuration of one plugin, as JSON.
const ROUTE_CONFIG_BYTES_MAX: usize = 64 * 1024;

/// `plugins` are those that its routes may name; absent: any, as far as is known here. Configurations of plugins are held against
/// `schemas`; absent: against none.
pub(super) fn check(
    name: &str,
    file: &File,
    house: &House,
    plugins: Option<&BTreeSet<PluginName>>,
    schemas: Option<&Schemas>,
    desk: &Desk,
) -> Option<Tenant> {
    let name = match name.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            file.misnamed(
                desk,
                format!("{error}"),
                "a tenant's file is called tenants/NAME.toml after its tenant",
            );
            None
        }
    };
    let tenant = file.read(desk, |top| {
        let sources = top.named::<SourceName>("sources");
        let destinations = top.named::<DestinationName>("destinations");
        let routes = top.named::<RouteName>("routes");
        let scope = Scope {
            schemas: name.as_ref().zip(schemas),
            house,
            plugins,
            sources: sources.iter().map(|(name, _)| name.clone()).collect(),
            destinations: destinations.iter().map(|(name, _)| name.clone()).collect(),
        };
        let sources: BTreeMap<_, _> = sources
            .into_iter()
            .filter_map(|(name, section)| Some((name.clone(), source(name, &section, house)?)))
            .collect();
        let mut succeeded = BTreeSet::new();
        let destinations: BTreeMap<DestinationName, Arc<Destination>> = destinations
            .into_iter()
            .filter_map(|(name, section)| {
                let destination = destination(&section, house, &scope.destinations, &mut succeeded)?;
                Some((name.clone(), Arc::new(destination)))
            })
            .collect();
        let routes = routes
            .into_iter()
            .filter_map(|(name, section)| Some(Arc::new(route(name, &section, &scope)?)))
            .collect();
        let gate = top
            .get("promotion")
            .and_then(|value| value.section())
            .map(|section| promotion(&section))
            .unwrap_or_default();
        Some((sources, routes, destinations, gate, sharing(top, &scope)))
    });
    let (sources, routes, destinations, gate, sharing) = tenant?;
    Some(Tenant {
        name: name?,
        sources,
        routes,
        destinations,
        gate,
        sharing,
    })
}

/// One route that stands alone in `file`, held against what the tenant has declared.
pub(super) fn check_route(file: &File, desk: &Desk, name: &RouteName, tenant: &Tenant, house: &House) -> Option<Route> {
    file.read(desk, |top| {
        let scope = Scope {
            schemas: Some((&tenant.name, &house.schemas)),
            house,
            plugins: house.plugin_names.as_ref(),
            sources: tenant.sources.keys().cloned().collect(),
            destinations: tenant.destinations.keys().cloned().collect(),
        };
        let (_, section) = top
            .named::<RouteName>("routes")
            .into_iter()
            .find(|(found, _)| found == name)?;
        route(name.clone(), &section, &scope)
    })
}

/// The families of which sources mean the same subjects.
fn sharing(top: &Section, scope: &Scope) -> Sharing {
    let families = top
        .named::<FamilyName>("families")
        .into_iter()
        .map(|(family, section)| {
            let known = &scope.house.lifecycles;
            let shared_by = section.require("shared_by", "name the sources whose subjects are the same");
            let sources: BTreeSet<SourceName> = shared_by
                .map(|list| {
                    if !known.contains_key(&family) {
                        let names = known.keys().map(FamilyName::as_str);
                        let said = format!("there is no lifecycle of the family `{family}`");
                        list.unknown(said, family.as_str(), names, "there are");
                    }
                    references(&list, &scope.sources, "source").into_iter().collect()
                })
                .unwrap_or_default();
            section.finish();
            (family, sources)
        });
    Sharing(families.collect())
}

/// What a version must have behind it before it advances.
fn promotion(section: &Section) -> PromotionGate {
    let yes = |key| section.get(key).and_then(|value| value.boolean()).unwrap_or(false);
    let number = |key| {
        section
            .get(key)
            .and_then(|value| value.count(0..=u32::MAX))
            .map(u64::from)
    };
    let gate = PromotionGate {
        require_signed: yes("require_signed"),
        require_trial: yes("require_trial"),
        shadow_runs_min: number("shadow_runs_min").unwrap_or(0),
        shadow_differences_max: number("shadow_differences_max"),
    };
    section.finish();
    gate
}

/// What a route may name.
struct Scope<'h> {
    /// What configurations are held against, and whose they are.
    schemas: Option<(&'h TenantName, &'h Schemas)>,
    house: &'h House,
    plugins: Option<&'h BTreeSet<PluginName>>,
    sources: BTreeSet<SourceName>,
    destinations: BTreeSet<DestinationName>,
}

fn source(name: SourceName, section: &Section, house: &House) -> Option<Source> {
    let profile = profile(section);
    let parameters = parameters(section, profile.as_deref());
    let secrets = match (section.get("secrets"), &profile) {
        (Some(secrets), _) => source_secrets(&secrets, profile.as_deref(), &parameters),
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
    let body_bytes_max = body_bytes_max(section, profile.as_deref(), house);
    let access = access(section);
    let listed = section.get("published_keys");
    section.finish();
    let profile = profile?;
    // Each secret was tried alone and complained about alone; what remains is about the source as a whole.
    let keyring = match Keyring::with_parameters(&profile, &secrets, &parameters) {
        Ok(keyring) => keyring,
        Err(error) => {
            if concern(&error) == Concern::Source {
                let help = "`tollgate provider show NAME` says what the provider needs";
                section.problem(error.to_string(), help);
            }
            return None;
        }
    };
    let published_keys = listed.map_or_else(Vec::new, |listed| published_keys(&listed, &profile, &keyring));
    let ack = if conflict_409 {
        profile.ack().clone().with_conflict_status(409)
    } else {
        profile.ack().clone()
    };
    Some(Source {
        name,
        profile,
        keyring: Arc::new(keyring),
        ack,
        access,
        body_bytes_max,
        on_held,
        on_replay,
        public_url: public_url.flatten(),
        secrets,
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
fn published_keys(listed: &Value, profile: &Profile, keyring: &Keyring) -> Vec<String> {
    if !profile.fetches_keys() {
        listed.problem(
            format!("{} publishes no keys that are fetched", profile.name),
            "leave `published_keys` out",
        );
        return Vec::new();
    }
    let names = listed.list_of(|value| {
        let name = value.text()?;
        if keyring.need(profile, name.as_bytes()).is_none() {
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

/// The rules that a source verifies and reads by: a shipped provider's, or a file of the tenant's own; and what the source adds to them.
fn profile(section: &Section) -> Option<Arc<Profile>> {
    let own = "write provider = \"NAME\" for a provider that ships with Tollgate, or profile = { file = \"path\" } for your own";
    let profile = match (section.get("provider"), section.get("profile")) {
        (Some(provider), None) => {
            let name = provider.text()?;
            let profile = profile::shipped().get(name).cloned();
            if profile.is_none() {
                let known = profile::shipped().keys().map(ProviderName::as_str);
                provider.unknown(format!("there is no provider `{name}`"), name, known, "shipped");
            }
            profile
        }
        (None, Some(profile)) => {
            let reference = profile.section()?;
            let file = reference.require("file", own);
            reference.finish();
            own_profile(&file?)
        }
        (None, None) => {
            section.problem(format!("{} needs `provider` or `profile`", section.title()), own);
            None
        }
        (Some(_), Some(profile)) => {
            profile.problem("`provider` and `profile` exclude each other", own);
            None
        }
    };
    let event_type = section.get("event_type");
    let currency = section.get("currency");
    let profile = profile?;
    if event_type.is_none() && profile.needs_event_type() {
        section.problem(
            format!(
                "{} needs `event_type`: the provider's requests name none",
                section.title()
            ),
            "add event_type = what such an event is to you, for example \"campaign.clicked\"",
        );
    }
    let accept = section.get("accept");
    let keep_headers = section.get("keep_headers");
    if event_type.is_none() && currency.is_none() && accept.is_none() && keep_headers.is_none() {
        return Some(profile);
    }
    let mut own = Profile::clone(&profile);
    if let Some(event_type) = event_type {
        own = own.with_event_type(&event_type.parse::<EventType>("write a type, for example \"campaign.clicked\"")?);
    }
    if let Some(currency) = currency {
        own = own.with_currency(self::currency(&currency)?);
    }
    if let Some(accept) = accept {
        own = own.with_accept(accepted(&accept, &profile)?);
    }
    if let Some(names) = keep_headers {
        own = own.with_kept_headers(kept_headers(&names)?);
    }
    Some(Arc::new(own))
}

/// Which headers of its requests the source keeps.
fn kept_headers(value: &Value) -> Option<Vec<String>> {
    let names: Option<Vec<&str>> = value.list()?.iter().map(Value::text).collect();
    match own_header::kept(&names?) {
        Ok(names) => Some(names),
        Err(problem) => {
            value.problem(problem, "write names such as keep_headers = [\"x-request-id\"]");
            None
        }
    }
}

/// Which events the source gives effect.
fn accepted(value: &Value, profile: &Profile) -> Option<Accept> {
    const HELP: &str = "write accept = [\"live\"], [\"test\"] or both";
    let names: Option<Vec<&str>> = value.list()?.iter().map(Value::text).collect();
    let accept = Accept::of(&names?);
    match accept {
        None => value.problem("`accept` lists `live`, `test` or both", HELP),
        Some(Accept::Test) if !profile.tells_mode() => {
            value.problem(
                format!(
                    "{} does not tell test events from live ones, so nothing would ever be accepted",
                    profile.name
                ),
                "leave `accept` out",
            );
            return None;
        }
        Some(_) => {}
    }
    accept
}

/// A profile of the tenant's own. Its receipts carry its name, so it may not have the name of one that ships.
fn own_profile(file: &Value) -> Option<Arc<Profile>> {
    let text = file.file_text()?;
    let profile = match Profile::from_toml(&text.0) {
        Ok(profile) => profile,
        Err(error) => {
            let place = error.line.zip(error.column);
            let message = format!("the profile is refused: {}", error.problem);
            file.problem_in_named_file(
                &text,
                place,
                message,
                "docs/adding-a-provider.md shows the grammar; `tollgate provider show` shows a shipped profile",
            );
            return None;
        }
    };
    if profile::shipped().contains_key(&profile.name) {
        file.problem(
            format!("the profile calls itself `{}`, which is a provider that ships with Tollgate", profile.name),
            "give it a name of its own: receipts show the name, and the shipped rules would not have been those that verified",
        );
        return None;
    }
    if let Err(refused) = file.reach().fetch_hosts(profile.fetch_hosts()) {
        file.problem(refused.message, &refused.help);
        return None;
    }
    Some(Arc::new(profile))
}

/// What the source says beside its secrets. Values that the profile calls secret go by reference.
fn parameters(section: &Section, profile: Option<&Profile>) -> Parameters {
    let mut parameters = Parameters::new();
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
            reference::secret(&value)
        } else {
            value.text().map(Secret::new)
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

/// What a source asks for beside the signature.
fn access(section: &Section) -> Access {
    let mut credentials = Vec::new();
    for (key, read) in [("bearer", bearer as fn(&Value) -> _), ("basic", basic)] {
        let Some(list) = section.get(key) else { continue };
        let elements = list.list().unwrap_or_default();
        if elements.len() > SECRETS_MAX {
            list.problem(
                format!("{} credentials; at most {SECRETS_MAX} are allowed", elements.len()),
                "remove the old ones",
            );
        }
        if list.raw().is_array() && elements.is_empty() {
            list.problem(
                format!("`{key}` is empty: nobody could get in"),
                "name one, or remove it",
            );
        }
        credentials.extend(elements.iter().filter_map(read));
    }
    if let (Some(_), Some(basic)) = (section.get("bearer"), section.get("basic")) {
        basic.problem(
            "`bearer` and `basic` exclude each other",
            "keep the one that the provider sends",
        );
    }
    let allow_networks = match section.get("allow_networks") {
        Some(list) => {
            if list.is_empty_list() {
                list.problem(
                    "`allow_networks` is empty: nobody could get in",
                    "name a network, or remove it",
                );
            }
            list.list_of(|network| network.parse(WRITE_A_NETWORK))
        }
        None => Vec::new(),
    };
    Access {
        credentials,
        asks_basic: section.get("basic").is_some(),
        allow_networks,
    }
}

fn bearer(value: &Value) -> Option<Credential> {
    Some(Credential::bearer(&reference::secret(value)?))
}

fn basic(value: &Value) -> Option<Credential> {
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
    Some(Credential::basic(name, &password))
}

/// What an error about a keyring is about, and so where it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concern {
    /// One secret: at that secret.
    Secret,
    /// What is looked at before any keyring is made: there.
    Form,
    /// The source as a whole.
    Source,
}

fn concern(error: &KeyError) -> Concern {
    match error {
        KeyError::Empty { .. }
        | KeyError::WhiteSpace { .. }
        | KeyError::Pasted { .. }
        | KeyError::Prefix { .. }
        | KeyError::Encoding { .. }
        | KeyError::Length { .. }
        | KeyError::NotAKey { .. }
        | KeyError::Unsuitable { .. } => Concern::Secret,
        KeyError::NoSecrets
        | KeyError::TooMany { .. }
        | KeyError::RepeatedId { .. }
        | KeyError::MissingParameter { .. }
        | KeyError::UnknownParameter { .. } => Concern::Form,
        KeyError::BadParameter { .. }
        | KeyError::FetchBack { .. }
        | KeyError::Unfetchable { .. }
        | KeyError::Fetched { .. } => Concern::Source,
    }
}

fn source_secrets(list: &Value, profile: Option<&Profile>, parameters: &Parameters) -> Vec<SourceSecret> {
    let elements = list.list().unwrap_or_default();
    if elements.len() > SECRETS_MAX {
        list.problem(
            format!("{} secrets; at most {SECRETS_MAX} are allowed", elements.len()),
            "remove those that expired",
        );
    }
    if list.raw().is_array() && elements.is_empty() {
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
        let secret = SourceSecret {
            id,
            text,
            not_before: not_before.flatten(),
            not_after: until.flatten(),
        };
        let alone = profile.map(|profile| Keyring::with_parameters(profile, std::slice::from_ref(&secret), parameters));
        if let Some(Err(error)) = alone
            && concern(&error) == Concern::Secret
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

/// What the source says, or what its provider sends and the operator lets in, or what holds for all.
fn body_bytes_max(section: &Section, profile: Option<&Profile>, house: &House) -> usize {
    let most = house.edge.source_body_bytes_max;
    let bounds = BODY_BYTES_LEAST..=u32::try_from(most).unwrap_or(u32::MAX);
    let of_provider = || profile.and_then(Profile::body_bytes_max).unwrap_or(0).min(most);
    count(section, "body_bytes_max", bounds).unwrap_or_else(|| house.edge.body_bytes_max.max(of_provider()))
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

/// `declared` are the names of all destinations of the file; `succeeded` the old names that others took over.
fn destination(
    section: &Section,
    house: &House,
    declared: &BTreeSet<DestinationName>,
    succeeded: &mut BTreeSet<DestinationName>,
) -> Option<Destination> {
    let url = section
        .require("url", "add url = \"https://…\"")
        .map(|value| destination_url(&value, house));
    let secrets: Vec<SourceSecret> =
        match section.require("secrets", "add secrets = [{ env = \"NAME\" }] with a whsec_… secret") {
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
                elements
                    .iter()
                    .enumerate()
                    .filter_map(|(at, element)| signing_secret(at, element))
                    .collect()
            }
            None => Vec::new(),
        };
    let formerly = section
        .get("formerly")
        .map(|list| formerly(&list, declared, succeeded))
        .unwrap_or_default();
    let most = u32::try_from(house.delivery.in_flight_max).unwrap_or(u32::MAX);
    let in_flight_max = count(section, "in_flight_max", 1..=most).unwrap_or(house.delivery.in_flight_max);
    let headers = section
        .get("headers")
        .map(|value| own_headers(&value))
        .unwrap_or_default();
    let timeout_ms = section
        .get("timeout_ms")
        .and_then(|value| value.integer(limits::ATTEMPT_MS_MIN as i64..=limits::ATTEMPT_MS_MAX as i64))
        .and_then(|ms| u64::try_from(ms).ok());
    section.finish();
    Some(Destination {
        url: url??,
        secrets,
        in_flight_max,
        headers,
        timeout_ms,
        formerly,
    })
}

/// Headers that a destination has of its own. A credential's value stands in no file.
fn own_headers(value: &Value) -> Vec<(HeaderName, Secret)> {
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
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, value) in entries {
        let Some(text) = own_header(name, &value) else { continue };
        let header =
            own_header::name(name).and_then(|name| HeaderName::try_from(name).map_err(|error| error.to_string()));
        match header {
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
fn own_header(name: &str, value: &Value) -> Option<Secret> {
    let is_secret = !value.raw().is_str() || own_header::carries_credential(&name.to_ascii_lowercase());
    let text = if is_secret {
        // Reports a credential that stands in the file.
        reference::secret(value)?
    } else {
        Secret::new(value.text()?)
    };
    if let Err(problem) = own_header::check_value(text.expose()) {
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

/// A destination's secrets have no windows and need no names: all of them sign.
fn signing_secret(at: usize, value: &Value) -> Option<SourceSecret> {
    let text = reference::signing_key(value)?;
    let id = KeyId::new(&format!("{}", at + 1)).ok()?;
    Some(SourceSecret {
        id,
        text,
        not_before: None,
        not_after: None,
    })
}

fn destination_url(value: &Value, house: &House) -> Option<String> {
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
        "http" if house.delivery.outbound.allow_http => {}
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
    if let Some(Err(forbidden)) = address.map(|address| guard::judge(address, &house.delivery.outbound.allow_networks))
    {
        value.problem(
            forbidden.to_string(),
            "name a public host, or let the operator allow its network",
        );
    }
    Some(url.into())
}

fn route(name: RouteName, section: &Section, scope: &Scope) -> Option<Route> {
    let matches = RouteMatch {
        sources: section
            .get("sources")
            .map(|list| references(&list, &scope.sources, "source"))
            .unwrap_or_default(),
        types: section
            .get("types")
            .map(|list| list.list_of(type_pattern))
            .unwrap_or_default(),
        statuses: section
            .get("statuses")
            .map(|list| statuses(&list, scope.house))
            .unwrap_or_default(),
        late: section.get("late").and_then(|value| late(&value)).unwrap_or_default(),
    };
    if let Some(value) = section.get("forward") {
        return forwarding(name, section, &value, matches, scope);
    }
    let plugin = section
        .require(
            "plugin",
            "add plugin = \"NAME\"; or forward = \"envelope\", \"body\" or \"cloudevents\" to hand the event itself on",
        )
        .and_then(|value| plugin(&value, scope.plugins));
    let operations = section.get("operations").map(|value| {
        value.parse::<Namespace>("write the name of a plugin whose operations these are, or one of your own")
    });
    let destinations = section
        .get("destinations")
        .map(|list| references(&list, &scope.destinations, "destination"))
        .unwrap_or_default();
    let grants = section.get("grants").map(|list| grants(&list)).unwrap_or_default();
    let config = section.get("config");
    let config_json = match &config {
        Some(config) => config_json(config),
        None => Some("{}".to_owned()),
    };
    if let (Some((tenant, schemas)), Some(plugin), Some(json)) = (scope.schemas, &plugin, &config_json) {
        for version in schemas.of(tenant, &name, plugin) {
            hold_against(version, plugin, json, config.as_ref(), section);
        }
    }
    let mut limits = scope.house.worker.limits;
    plugin_limits(section, &mut limits, &scope.house.worker.limits);
    section.finish();
    let config_json = config_json?;
    let config_digest = Digest::of(config_json.as_bytes());
    Some(Route {
        name,
        matches,
        namespace: match operations {
            Some(named) => named?,
            None => Namespace::from(plugin.as_ref()?),
        },
        plugin: plugin?,
        forward: None,
        config_json,
        config_digest,
        grants,
        destinations,
        limits,
        binding: None,
    })
}

/// A route without a plugin.
fn forwarding(name: RouteName, section: &Section, form: &Value, matches: RouteMatch, scope: &Scope) -> Option<Route> {
    let form = form.parse::<ForwardForm>("write forward = \"envelope\", \"body\" or \"cloudevents\"");
    for key in ["plugin", "config", "grants", "limits"] {
        if let Some(value) = section.get(key) {
            value.problem(
                format!("a route that forwards runs no plugin: `{key}` means nothing beside `forward`"),
                "remove it, or remove `forward`",
            );
        }
    }
    let operations = section
        .get("operations")
        .map(|value| value.parse::<Namespace>("write a name for what this route hands on"));
    let destinations = section
        .require("destinations", "add destinations = [\"NAME\"]: where the event goes")
        .map(|list| {
            let destinations = references(&list, &scope.destinations, "destination");
            if list.is_empty_list() {
                list.problem("`destinations` is empty: the event would go nowhere", "name one");
            }
            destinations
        });
    section.finish();
    let (form, plugin) = (form?, forward::plugin_name());
    let config_json = serde_json::json!({ "forward": form }).to_string();
    Some(Route {
        name,
        matches,
        namespace: match operations {
            Some(named) => named?,
            None => Namespace::from(&plugin),
        },
        plugin,
        forward: Some(form),
        config_digest: Digest::of(config_json.as_bytes()),
        config_json,
        grants: Vec::new(),
        destinations: destinations?,
        limits: scope.house.worker.limits,
        binding: None,
    })
}

/// Names that must be declared in the same file.
fn references<N>(list: &Value, declared: &BTreeSet<N>, what: &str) -> Vec<N>
where
    N: std::str::FromStr<Err: std::fmt::Display> + Ord + AsRef<str> + std::fmt::Display,
{
    list.list_of(|element| {
        let text = element.text()?;
        let name = declared.iter().find(|name| (*name).as_ref() == text);
        if name.is_none() {
            let known = declared.iter().map(AsRef::as_ref);
            element.unknown(
                format!("there is no {what} `{text}` in this file"),
                text,
                known,
                "declared here",
            );
        }
        name.and_then(|name| name.as_ref().parse().ok())
    })
}

fn type_pattern(element: &Value) -> Option<TypePattern> {
    TypePattern::new(element.text()?)
        .map_err(|message| element.problem(message, "for example \"customer.*\""))
        .ok()
}

fn late(value: &Value) -> Option<Late> {
    let word = value.text()?;
    let late = Late::from_word(word);
    if late.is_none() {
        let known = Late::WORDS.iter().map(|(word, _)| *word);
        value.unknown(
            format!("`{word}` does not say what is done with what comes late"),
            word,
            known,
            "write",
        );
    }
    late
}

fn statuses(list: &Value, house: &House) -> Vec<Status> {
    list.list_of(|element| {
        let status = element.parse::<Status>("write a status of a lifecycle, in lower case")?;
        if !house.lifecycles.values().any(|lifecycle| lifecycle.knows(&status)) {
            let known = house
                .lifecycles
                .values()
                .flat_map(|lifecycle| lifecycle.statuses())
                .map(Status::as_str);
            element.unknown(
                format!("no lifecycle has the status `{status}`"),
                status.as_str(),
                known,
                "known",
            );
        }
        Some(status)
    })
}

fn plugin(value: &Value, offered: Option<&BTreeSet<PluginName>>) -> Option<PluginName> {
    let name = value
        .parse::<PluginName>("write the name of a plugin of tollgate.toml, or of one that was pushed and published")?;
    if let Some(offered) = offered
        && !offered.contains(&name)
    {
        let known = offered.iter().map(PluginName::as_str);
        value.unknown(
            format!("the operator offers no plugin `{name}`, and none of that name is published to this tenant"),
            name.as_str(),
            known,
            "there are",
        );
    }
    Some(name)
}

fn grants(list: &Value) -> Vec<Grant> {
    list.list_of(|element| {
        let section = element.section()?;
        let grant = grant(&section);
        section.finish();
        grant
    })
}

/// Which bounds a kind of action has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounds {
    Money,
    Stock,
    Names,
    None,
}

fn grant(section: &Section) -> Option<Grant> {
    let kind_value = section.require("kind", "add kind = \"credit\" or another kind of action");
    let amount_max = section.get("amount_max");
    let currencies = section.get("currencies");
    let quantity_max = section.get("quantity_max");
    let sku_prefix = section.get("sku_prefix");
    let extensions = section.get("extensions");

    let kind_value = kind_value?;
    let name = kind_value.text()?;
    let Some(kind) = ActionKind::from_name(name) else {
        let known = ActionKind::ALL.into_iter().map(ActionKind::as_str);
        kind_value.unknown(format!("there is no kind of action `{name}`"), name, known, "known");
        return None;
    };
    let bounds = match kind {
        ActionKind::Credit | ActionKind::Debit | ActionKind::IssueGiftCard => Bounds::Money,
        ActionKind::ReserveStock | ActionKind::ReleaseStock => Bounds::Stock,
        ActionKind::Extension => Bounds::Names,
        // A forward has no name that a grant could say.
        ActionKind::Flag | ActionKind::Notify | ActionKind::Forward => Bounds::None,
    };
    for (value, belongs) in [
        (&amount_max, Bounds::Money),
        (&currencies, Bounds::Money),
        (&quantity_max, Bounds::Stock),
        (&sku_prefix, Bounds::Stock),
        (&extensions, Bounds::Names),
    ] {
        if let Some(value) = value
            && belongs != bounds
        {
            value.problem(
                format!("`{}` bounds nothing in a grant of `{kind}`", value.key()),
                "remove it",
            );
        }
    }

    let mut grant = Grant::of(kind);
    grant.amount_max = amount_max.as_ref().and_then(|value| value.integer(1..=MINOR_UNITS_MAX));
    grant.currencies = currencies
        .as_ref()
        .map(|list| list.list_of(currency))
        .unwrap_or_default();
    grant.quantity_max = quantity_max.and_then(|value| value.count(1..=u32::MAX));
    grant.sku_prefix = sku_prefix.and_then(|value| value.text().map(str::to_owned));
    grant.extensions = extensions
        .as_ref()
        .map(|list| list.list_of(|element| element.text().map(str::to_owned)))
        .unwrap_or_default();

    if bounds == Bounds::Money && amount_max.is_none() {
        kind_value.problem(
            format!("a grant of `{kind}` needs `amount_max`"),
            "add amount_max = the most per action, in minor units: 5000 is 50.00 USD",
        );
    }
    if bounds == Bounds::Money && currencies.is_none_or(|list| list.is_empty_list()) {
        kind_value.problem(
            format!("a grant of `{kind}` needs `currencies`"),
            "add currencies = [\"USD\"]",
        );
    }
    if bounds == Bounds::Names && extensions.is_none_or(|list| list.is_empty_list()) {
        kind_value.problem(
            "a grant of `extension` needs `extensions`",
            "add extensions = [\"acme/points\"], the allowed names",
        );
    }
    Some(grant)
}

fn currency(element: &Value) -> Option<Currency> {
    let text = element.text()?;
    let currency = Currency::new(text);
    if currency.is_none() {
        element.problem(
            format!("`{text}` is not a currency code"),
            "write three letters, for example \"USD\"",
        );
    }
    currency
}

/// Reports what a configuration breaks of a version's schema, each at its key.
fn hold_against(version: &VersionSchema, plugin: &PluginName, json: &str, config: Option<&Value>, section: &Section) {
    let (Some(schema), Ok(configuration)) = (&version.schema, serde_json::from_str(json)) else {
        return;
    };
    for problem in schema.check(&configuration) {
        let asked_by = format!("`{plugin}` {} asks for it in its manifest", version.version);
        let help = match (&problem.known_keys, problem.path.0.last()) {
            (Some(known), Some(Segment::Key(key))) => suggestion(
                key,
                known.iter().map(String::as_str),
                &format!("known to `{plugin}` {}", version.version),
            ),
            _ => asked_by,
        };
        match config {
            Some(config) => config.at(&problem.path).problem_of_key(problem.to_string(), help),
            None => section.problem(problem.to_string(), &help),
        }
    }
}

/// The JSON document that a plugin is handed. Keys are in order of their bytes, so that the digest depends on the content only.
fn config_json(value: &Value) -> Option<String> {
    if !value.raw().is_table() {
        // Reports the type.
        value.section()?;
    }
    let mut json = String::new();
    if let Err(unspeakable) = write_json(value.raw(), &mut json) {
        value.problem(unspeakable, "JSON has no word for it; write a text instead");
        return None;
    }
    if json.len() > ROUTE_CONFIG_BYTES_MAX {
        value.problem(
            format!(
                "the configuration is {} bytes as JSON; at most {ROUTE_CONFIG_BYTES_MAX} are allowed",
                json.len()
            ),
            "keep tables of data in the plugin, or in its state",
        );
        return None;
    }
    Some(json)
}

/// Dates and times become texts. What JSON cannot say is an error.
fn write_json(value: &DeValue, json: &mut String) -> Result<(), String> {
    match value {
        DeValue::String(text) => json.push_str(&quoted(text)),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| format!("the number {} does not fit 64 bits", integer.as_str()))?;
            let _ = write!(json, "{number}");
        }
        DeValue::Float(float) => {
            let number: f64 = float
                .as_str()
                .parse()
                .map_err(|_| format!("{} is not a number", float.as_str()))?;
            let number =
                serde_json::Number::from_f64(number).ok_or_else(|| format!("{} is not finite", float.as_str()))?;
            let _ = write!(json, "{number}");
        }
        DeValue::Boolean(boolean) => json.push_str(if *boolean { "true" } else { "false" }),
        DeValue::Datetime(datetime) => json.push_str(&quoted(&datetime.to_string())),
        DeValue::Array(elements) => {
            json.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                write_json(element.get_ref(), json)?;
            }
            json.push(']');
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table
                .iter()
                .map(|(key, value)| (key.get_ref(), value.get_ref()))
                .collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            json.push('{');
            for (at, (key, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                json.push_str(&quoted(key));
                json.push(':');
                write_json(value, json)?;
            }
            json.push('}');
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
