//! A tenant's file, read and checked once for every host: against itself and against what the host offers.
//!
//! `raw` is what the file says, a TOML table whose keys and values all know their place; the other modules check it part by part and go
//! on after a problem, so that one look shows all problems, each at its line. A [`Resolver`] says what a reference leads to, since the
//! reader has neither an environment nor a disk. A key that a host cannot hold is refused with the reason, and never ignored.

mod config;
mod destination;
mod grant;
mod problem;
mod profile;
mod raw;
mod reference;
mod resolver;
mod route;
mod schemas;
mod secrets;
mod settings;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::answer::Ack;
use tollgate_core::ids::{DestinationName, FamilyName, PluginName, RouteName, SourceName, TenantName};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::mail::MailAddress;
use tollgate_core::network::Network;
use tollgate_core::profile::Profile;
use tollgate_core::registry::PromotionGate;
use tollgate_core::subject::Sharing;
use tollgate_core::verify::Keyring;

use crate::form::{Basic, Parameter, SecretRef};
use crate::route::{PluginLimits, Route};
pub use problem::{Ink, Problem, Problems};
pub use raw::{File, Findings, Section, Value, set};
pub use reference::{Referred, SECRET_BYTES_MIN, any_secret};
pub use resolver::{Leave, Owner, Refused, Resolver};
use route::Scope;
pub use schemas::{Schemas, VersionSchema};
pub use settings::{Added, Declared, check_settings, secrets_used, source_secrets};

/// What to write for a network, for messages.
pub const WRITE_A_NETWORK: &str = "write an address and a prefix length, for example \"10.0.0.0/8\"";
/// The least that a body's bound may be.
pub const BODY_BYTES_LEAST: i64 = 1024;

/// A tenant as its file has it, checked.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The name of its file, and the first part of its sources' URLs.
    pub name: TenantName,
    /// Where its events come in.
    pub sources: BTreeMap<SourceName, Source>,
    /// What is done with them, in the order of the file.
    pub routes: Vec<Route>,
    /// Where its actions go.
    pub destinations: BTreeMap<DestinationName, Destination>,
    /// What a plugin's version must have behind it before it advances on a route of this tenant.
    pub gate: PromotionGate,
    /// The families that its sources share.
    pub sharing: Sharing,
}

/// Where events of one provider come in, as the file has it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The last part of its URL.
    pub name: SourceName,
    /// How the provider proves and says things, with the source's own settings.
    pub profile: Arc<Profile>,
    /// What the source says beside its secrets, by name.
    pub parameters: BTreeMap<String, Parameter<Referred>>,
    /// The secrets that events are verified with.
    pub secrets: Vec<SecretRef<Referred>>,
    /// The source's own keys; absent where its secrets are not known here.
    pub keyring: Option<Arc<Keyring>>,
    /// Beside the signature; one of these and of `basic` must be presented, if there are any.
    pub bearer: Vec<Referred>,
    /// Users who may speak to the source, each with a password.
    pub basic: Vec<Basic<Referred>>,
    /// The client must be in one of them; empty: from anywhere.
    pub allow_networks: Vec<Network>,
    /// How the provider wants to be answered.
    pub ack: Ack,
    /// The largest body that is taken, in bytes.
    pub body_bytes_max: usize,
    /// What another form of a held event becomes.
    pub on_held: OnHeld,
    /// What a suspected replay waits for.
    pub on_replay: OnReplay,
    /// The public URL of this source, for schemes that sign it: scheme, host and port, or the whole.
    pub public_url: Option<String>,
    /// Names of published keys that are fetched ahead.
    pub published_keys: Vec<String>,
}

/// Where actions are delivered, as the file has it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// How what waits for it gets there.
    pub way: Way,
    /// Sign each delivery (Standard Webhooks, `whsec_…`); several while one replaces another: all sign. At least one, where it is sent to.
    pub secrets: Vec<Referred>,
    /// The most deliveries that are under way to it at once.
    pub in_flight_max: usize,
    /// The most attempts that begin in a second; absent: no bound.
    pub requests_per_s: Option<u32>,
    /// Sent with each delivery beside ours, names in lower case.
    pub headers: Vec<(String, Parameter<Referred>)>,
    /// From the start of an attempt to the end of the answer; absent: what holds for all.
    pub timeout_ms: Option<u64>,
    /// Names that it had before: what waits for them goes here.
    pub formerly: Vec<DestinationName>,
    /// What belongs to one subject is sent one after the other.
    pub in_order: bool,
    /// It is told of the tenant's issues.
    pub notices: bool,
}

/// How what waits for a destination gets there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is posted to this URL: normalised; `https`, or `http` where the operator allows it; without user, password and fragment.
    Sent(String),
    /// Its owner pulls it.
    Pulled,
    /// The operator's mail server takes it, for these addresses. Notices of issues alone go this way.
    Mailed(Vec<MailAddress>),
}

/// Who will run the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The host that may serve many tenants and swap plugins while it runs.
    Native,
    /// A Spin app, into which tenants and plugins are built.
    Spin,
}

/// What a host offers its tenants, and the most that they may have of it.
#[derive(Debug, Clone)]
pub struct Offer<'o> {
    /// Where the tenant will be run.
    pub host: Host,
    /// For sources that say nothing and whose provider sends no larger ones.
    pub body_bytes_max: usize,
    /// What a source may set its own bound to, and what a provider's is cut to.
    pub source_body_bytes_max: usize,
    /// Deliveries at once to one destination.
    pub in_flight_max: usize,
    /// Whether destinations may be reached without TLS.
    pub allow_http: bool,
    /// Networks outside the public internet that destinations may be in.
    pub allow_networks: &'o [Network],
    /// The domains that e-mails may go to, where the host sends any; empty: every domain.
    pub mail_domains: Option<&'o BTreeSet<String>>,
    /// The most that one run of a plugin may use.
    pub limits: PluginLimits,
    /// The lifecycles that events may have, by family.
    pub lifecycles: &'o BTreeMap<FamilyName, Arc<Lifecycle>>,
    /// The plugins that routes may name; absent: any, as far as is known here.
    pub plugins: Option<&'o BTreeSet<PluginName>>,
    /// What configurations of plugins are held against; absent: nothing.
    pub schemas: Option<&'o Schemas>,
}

impl Offer<'_> {
    /// Refuses keys that only the native host can hold.
    fn natively_only(&self, section: &Section, keys: &[&'static str], help: &str) {
        if self.host == Host::Spin {
            for value in keys.iter().filter_map(|key| section.get(key)) {
                value.problem_of_key(format!("`{}` cannot be held on Spin", value.key()), help.to_owned());
            }
        }
    }
}

/// One file of a folder of tenants.
pub struct TenantFile {
    /// What the file's name says; whether it is a tenant's name is [`check`]'s to say.
    pub tenant: String,
    /// Empty where it cannot be read.
    pub file: File,
    /// Why the file cannot be read, if so.
    pub unreadable: Option<Problems>,
}

/// The tenants' files of a folder, in the order of their names.
///
/// # Errors
/// When the folder cannot be listed.
pub fn files(folder: &Path) -> io::Result<Vec<TenantFile>> {
    let entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    let mut paths: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.display().to_string();
        let (text, unreadable) = match std::fs::read_to_string(path) {
            Ok(text) => (text, None),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                let help = "let Tollgate read this file, and keep it UTF-8";
                (String::new(), Some(Problems::of_one(&name, &message, help)))
            }
        };
        TenantFile {
            tenant: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            file: File::new(name, text, folder),
            unreadable,
        }
    };
    Ok(paths.iter().map(read).collect())
}

/// What a text declares, a tenant's file or its settings.
struct Parts {
    sources: BTreeMap<SourceName, Source>,
    destinations: BTreeMap<DestinationName, Destination>,
    routes: Vec<Route>,
}

impl Parts {
    /// Reads each. `succeeded` are names that destinations had before, which no other may have had.
    fn read(
        sources: Vec<(SourceName, Section<'_>)>,
        destinations: Vec<(DestinationName, Section<'_>)>,
        routes: Vec<(RouteName, Section<'_>)>,
        scope: &Scope<'_>,
        mut succeeded: BTreeSet<DestinationName>,
    ) -> Self {
        let sources = sources
            .into_iter()
            .filter_map(|(name, section)| Some((name.clone(), source::source(name, &section, scope.offer)?)));
        let destinations = destinations.into_iter().filter_map(|(name, section)| {
            let read = destination::destination(&section, scope.offer, &scope.destinations, &mut succeeded);
            Some((name, read?))
        });
        let routes = routes
            .into_iter()
            .filter_map(|(name, section)| route::route(name, &section, scope));
        Self {
            sources: sources.collect(),
            destinations: destinations.collect(),
            routes: routes.collect(),
        }
    }
}

/// Checks a tenant's file.
///
/// # Errors
/// All that is wrong with it, in the order of its lines.
pub fn check(name: &str, file: &File, offer: &Offer, resolver: &dyn Resolver) -> Result<Tenant, Problems> {
    let findings = Findings::new(resolver);
    let name = match name.parse::<TenantName>() {
        Ok(name) => Some(name),
        Err(error) => {
            file.misnamed(
                &findings,
                error.to_string(),
                "a tenant's file is called tenants/NAME.toml after its tenant",
            );
            None
        }
    };
    let read = file.read(&findings, |top| {
        let sources = top.named::<SourceName>("sources");
        let destinations = top.named::<DestinationName>("destinations");
        let routes = top.named::<RouteName>("routes");
        let scope = Scope {
            tenant: name.as_ref(),
            offer,
            sources: sources.iter().map(|(name, _)| name.clone()).collect(),
            destinations: destinations.iter().map(|(name, _)| name.clone()).collect(),
            mailed: destination::mailed(&destinations),
        };
        let Parts {
            sources,
            destinations,
            routes,
        } = Parts::read(sources, destinations, routes, &scope, BTreeSet::new());
        offer.natively_only(
            top,
            &["promotion"],
            "leave it out: plugins are built into a Spin app, and none is promoted there",
        );
        let gate = top.section("promotion").map(|section| promotion(&section));
        Some(Tenant {
            name: name.clone()?,
            sources,
            routes,
            destinations,
            gate: gate.unwrap_or_default(),
            sharing: sharing(top, &scope),
        })
    });
    findings.made(read, file)
}

/// Checks the route of this name that stands alone in `file`, held against what the tenant has declared.
///
/// # Errors
/// All that is wrong with it, each with the field that it is about.
pub fn check_route(
    name: &RouteName,
    file: &File,
    (tenant, declared): (&TenantName, Declared),
    offer: &Offer,
    resolver: &dyn Resolver,
) -> Result<Route, Problems> {
    let findings = Findings::new(resolver);
    let route = file.read(&findings, |top| {
        let scope = Scope {
            tenant: Some(tenant),
            offer,
            sources: declared.sources,
            destinations: declared.destinations,
            mailed: declared.mailed,
        };
        let mut routes = top.named::<RouteName>("routes").into_iter();
        let (_, section) = routes.find(|(found, _)| found == name)?;
        route::route(name.clone(), &section, &scope)
    });
    findings.made(route, file)
}

/// The families of which sources mean the same subjects.
fn sharing(top: &Section, scope: &Scope) -> Sharing {
    let families = top
        .named::<FamilyName>("families")
        .into_iter()
        .map(|(family, section)| {
            let known = scope.offer.lifecycles;
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
    let runs = 0..=i64::from(u32::MAX);
    let gate = PromotionGate {
        require_signed: yes("require_signed"),
        require_trial: yes("require_trial"),
        shadow_runs_min: section.number("shadow_runs_min", runs.clone()).unwrap_or(0),
        shadow_differences_max: section.number("shadow_differences_max", runs),
    };
    section.finish();
    gate
}

/// Names that must be declared in the same file.
fn references<N>(list: &Value, declared: &BTreeSet<N>, what: &str) -> Vec<N>
where
    N: FromStr<Err: Display> + Ord + AsRef<str> + Display,
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
