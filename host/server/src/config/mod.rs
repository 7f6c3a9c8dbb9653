//! Configuration in two stages: `raw` is what the files say, [`Config`] is what was checked. Nothing takes effect before
//! all of it is checked, and every error points at its line.
//!
//! One `tollgate.toml` belongs to the operator; each `tenants/<name>.toml` beside it belongs to the tenant of that name. A
//! relative path in a file is relative to the folder of that file. Secrets never stand in a file: `{ env = "NAME" }` and
//! `{ file = "path" }` refer to them.
//!
//! The raw stage is a TOML table whose keys and values all know their place in the file (`raw`); `operator` and `tenant` take it
//! apart. They go on after a problem, so that one look shows all of them. serde would stop at the first one of each file.

mod operator;
mod problem;
mod raw;
mod reference;
mod tenant;
mod tls;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tollgate_core::answer::Ack;
use tollgate_core::event::Event;
use tollgate_core::grant::Grant;
use tollgate_core::ids::{
    DestinationName, Digest, FamilyName, PluginDigest, PluginName, RouteName, SourceName, TenantName,
};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::profile::Profile;
use tollgate_core::rate::Rate;
use tollgate_core::registry::{Binding, PromotionGate};
use tollgate_core::retry::RetryPolicy;
use tollgate_core::route::RouteMatch;
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::verify::{Credential, Keyring};

pub(crate) use problem::{Ink, Problems};
use raw::{Desk, File};
pub(crate) use tls::TlsConfig;

/// Reads and checks `path` and the tenants' files beside it. Changes nothing: the caller decides when the result takes effect.
///
/// # Errors
/// All that is wrong in all of the files.
pub(crate) fn load(path: &Path) -> Result<Config, Problems> {
    load_with(path, &|name| std::env::var(name).ok(), PluginFiles::Unchecked)
}

/// As [`load`], and the plugins' files must be there. For `tollgate check`.
///
/// # Errors
/// All that is wrong in all of the files.
pub(crate) fn check(path: &Path) -> Result<Config, Problems> {
    load_with(path, &|name| std::env::var(name).ok(), PluginFiles::MustExist)
}

/// Checks the tenants' files of `folder` for a host that has no `tollgate.toml`, as a Spin app. Where a destination may be is that
/// host's own rule.
///
/// # Errors
/// All that is wrong in all of the files.
pub(crate) fn check_tenants(
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<TenantName, Tenant>, Problems> {
    let desk = Desk::new(env, PluginFiles::Unchecked);
    let mut house = operator::House::default();
    house.delivery.outbound.allow_http = true;
    house.delivery.outbound.allow_networks = ["0.0.0.0", "::"]
        .into_iter()
        .filter_map(|address| address.parse().ok())
        .map(|address| Network {
            address,
            prefix_length: 0,
        })
        .collect();
    let files = tenant_files(folder, &desk);
    let tenants = files
        .iter()
        .filter_map(|(name, file)| tenant::check(name, file, &house, &desk))
        .map(|tenant| (tenant.name.clone(), tenant))
        .collect();
    desk.finish(files.iter().map(|(_, file)| file))?;
    Ok(tenants)
}

/// Checks one route of a tenant that is not in a file: `definition` has the keys of a file's `[routes.NAME]`, and is held against
/// what `config` offers the tenant. A plugin may be one of `published` as well.
///
/// # Errors
/// All that is wrong with it, each with the field that it is about.
pub(crate) fn check_route(
    config: &Config,
    tenant: &Tenant,
    name: &RouteName,
    definition: &serde_json::Value,
    published: &BTreeSet<PluginName>,
) -> Result<Route, Problems> {
    let no_env = |_: &str| None;
    let desk = Desk::new(&no_env, PluginFiles::Unchecked);
    // As the file would have it, so that one reader judges both.
    let mut routes = serde_json::Map::new();
    routes.insert(name.to_string(), definition.clone());
    let whole = serde_json::json!({ "routes": routes });
    let (text, unspeakable) = match toml::to_string(&whole) {
        Ok(text) => (text, None),
        Err(error) => (String::new(), Some(error.to_string())),
    };
    let file = File::new(format!("the route `{name}`"), text, Path::new(""));
    let mut house = operator::House {
        worker: config.worker.clone(),
        lifecycles: config.lifecycles.clone(),
        ..operator::House::default()
    };
    house.plugin_names = Some(config.plugins.keys().chain(published).cloned().collect());
    if let Some(reason) = unspeakable {
        file.misnamed(
            &desk,
            format!("the definition cannot be used: {reason}"),
            "write an object without null, with numbers of 64 bits",
        );
    }
    let route = tenant::check_route(&file, &desk, name, tenant, &house);
    desk.finish(std::iter::once(&file))?;
    // Without a problem there is a route.
    route.ok_or_else(|| {
        Problems::of_one(
            file.name(),
            "the definition makes no route",
            "compare it with one of a file",
        )
    })
}

/// Whether a plugin's missing file is a problem. The worker reads the files itself and says so with more detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PluginFiles {
    Unchecked,
    MustExist,
}

/// As [`load`], with the environment as an argument: `env` gives a variable's value.
///
/// # Errors
/// All that is wrong in all of the files.
pub(crate) fn load_with(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    plugin_files: PluginFiles,
) -> Result<Config, Problems> {
    let desk = Desk::new(env, plugin_files);
    let folder = path.parent().unwrap_or(Path::new(""));
    let operator = match std::fs::read_to_string(path) {
        Ok(text) => Some(File::new(path.display().to_string(), text, folder)),
        Err(error) => {
            desk.unreadable(
                path,
                &error,
                "start from the example file, or name another file with --config",
            );
            None
        }
    };
    let tenants = tenant_files(&folder.join("tenants"), &desk);
    finish(desk, operator, &tenants)
}

/// For tests: as [`load_with`] for texts that are not in files, each tenant's with its name. Relative paths start in the working folder.
///
/// # Errors
/// All that is wrong in all of the texts.
#[cfg(test)]
pub(crate) fn load_from_texts(
    operator: &str,
    tenants: &[(&str, &str)],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let desk = Desk::new(env, PluginFiles::Unchecked);
    let operator = File::new("tollgate.toml".to_owned(), operator.to_owned(), Path::new(""));
    let tenants: Vec<_> = tenants
        .iter()
        .map(|(name, text)| {
            (
                (*name).to_owned(),
                File::new(format!("tenants/{name}.toml"), (*text).to_owned(), Path::new("tenants")),
            )
        })
        .collect();
    finish(desk, Some(operator), &tenants)
}

/// The tenants' files by tenant name, in the order of their names. Without the folder there are no tenants.
fn tenant_files(folder: &Path, desk: &Desk) -> Vec<(String, File)> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            desk.unreadable(folder, &error, "let Tollgate read this folder");
            return Vec::new();
        }
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| {
            entry
                .map_err(|error| desk.unreadable(folder, &error, "let Tollgate read this folder"))
                .ok()
        })
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                files.push((name, File::new(path.display().to_string(), text, folder)));
            }
            Err(error) => desk.unreadable(&path, &error, "let Tollgate read this file, and keep it UTF-8"),
        }
    }
    files
}

fn finish(desk: Desk, operator: Option<File>, tenants: &[(String, File)]) -> Result<Config, Problems> {
    let house = operator.as_ref().and_then(|file| operator::check(file, &desk));
    // Without an operator's part there is nothing to hold the tenants' references against: the shipped defaults serve.
    let house_or_default = house.unwrap_or_default();
    let mut checked = BTreeMap::new();
    for (name, file) in tenants {
        if let Some(tenant) = tenant::check(name, file, &house_or_default, &desk) {
            checked.insert(tenant.name.clone(), tenant);
        }
    }
    let files = operator.iter().chain(tenants.iter().map(|(_, file)| file));
    desk.finish(files)?;
    let house = house_or_default;
    Ok(Config {
        edge: house.edge,
        operator: house.operator,
        store: house.store,
        worker: house.worker,
        delivery: house.delivery,
        plugins: house.plugins,
        tenants: checked,
        lifecycles: house.lifecycles,
    })
}

/// Everything a host needs to run, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) edge: EdgeConfig,
    pub(crate) operator: OperatorConfig,
    pub(crate) store: StoreConfig,
    pub(crate) worker: WorkerConfig,
    pub(crate) delivery: DeliveryConfig,
    pub(crate) plugins: BTreeMap<PluginName, PluginConfig>,
    pub(crate) tenants: BTreeMap<TenantName, Tenant>,
    pub(crate) lifecycles: BTreeMap<FamilyName, Arc<Lifecycle>>,
}

/// The public listener.
#[derive(Debug, Clone)]
pub(crate) struct EdgeConfig {
    pub(crate) listen: SocketAddr,
    /// Threads that accept and answer, each with a listener of its own; default: one per core.
    pub(crate) threads: usize,
    pub(crate) body_bytes_max: usize,
    pub(crate) header_read_ms_max: u64,
    pub(crate) body_read_ms_max: u64,
    /// How long a connection may stay open without a request. Longer than a load balancer keeps one, or the balancer sends a request
    /// into a connection that has just been closed.
    pub(crate) idle_ms_max: u64,
    /// Open connections per thread, as far as the process may have so many files open. For further ones those leave that have kept
    /// the host waiting for longest.
    pub(crate) connections_max: usize,
    /// HTTPS on the public listener. Absent: plain HTTP, for a proxy in front.
    pub(crate) tls: Option<TlsConfig>,
    /// Proxies whose word about the client is taken: `X-Forwarded-For` and `X-Forwarded-Proto`. Nobody else's ever is.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Refuse what did not come over HTTPS, here or at a trusted proxy.
    pub(crate) require_https: bool,
    pub(crate) rates: Rates,
}

/// How much each tenant may send.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    /// For tenants that have none of their own; absent: no limit.
    pub(crate) every: Option<Rate>,
    pub(crate) tenants: BTreeMap<TenantName, Rate>,
}

/// The private listener: operator API, health, metrics.
#[derive(Debug, Clone)]
pub(crate) struct OperatorConfig {
    /// Absent: no private listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Asked for as a bearer token by everything but health; a listener without a token is refused when checked.
    pub(crate) token: Option<Secret>,
}

#[derive(Debug, Clone)]
pub(crate) struct StoreConfig {
    /// The SQLite file.
    pub(crate) path: PathBuf,
    /// How long the write-ahead log gets before it is moved into the file.
    pub(crate) wal_bytes_max: u64,
    /// Receipts whose keys wait in memory for their indexes; twice as many at most.
    pub(crate) keys_in_memory_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    /// Threads that run plugins; default: one per core.
    pub(crate) threads: usize,
    pub(crate) retry: RetryPolicy,
    /// Faults in a row that put a version of a plugin into quarantine on its route; 0 for never.
    pub(crate) quarantine_after: u32,
    /// Where compiled plugins are kept between starts.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) limits: PluginLimits,
}

/// What one run of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PluginLimits {
    pub(crate) fuel: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) memory_bytes_max: usize,
    /// Distinct state keys that one run reads or writes.
    pub(crate) state_keys_max: usize,
    /// State bytes that one run reads or writes.
    pub(crate) state_bytes_max: usize,
    /// State bytes that the plugin has for the tenant in all, keys and values.
    pub(crate) state_total_max: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct DeliveryConfig {
    pub(crate) retry: RetryPolicy,
    /// Deliveries at once to one destination.
    pub(crate) in_flight_max: usize,
    pub(crate) outbound: OutboundRules,
}

/// Where the host may go when somebody else says where: to destinations, and for keys that a request names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OutboundRules {
    /// Networks outside the public internet that are allowed all the same.
    pub(crate) allow_networks: Vec<Network>,
    /// Whether destinations may be reached without TLS. Off by default.
    pub(crate) allow_http: bool,
    /// Certificates that vouch for servers, beside Mozilla's roots.
    pub(crate) extra_roots: Arc<[CertificateDer<'static>]>,
}

/// An IP network, for allow-lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) address: IpAddr,
    pub(crate) prefix_length: u8,
}

/// A plugin that the operator offers to tenants.
#[derive(Debug, Clone)]
pub(crate) struct PluginConfig {
    pub(crate) path: PathBuf,
    /// Refuses to start when the file has another digest.
    pub(crate) digest: Option<PluginDigest>,
}

#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) name: TenantName,
    pub(crate) sources: BTreeMap<SourceName, Source>,
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) destinations: BTreeMap<DestinationName, Arc<Destination>>,
    /// What a plugin's version must have behind it before it advances on a route of this tenant.
    pub(crate) gate: PromotionGate,
}

#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: SourceName,
    pub(crate) profile: Arc<Profile>,
    /// The source's own keys; see [`crate::edge::Edge`] for those that are fetched.
    pub(crate) keyring: Arc<Keyring>,
    /// How the provider wants to be answered.
    pub(crate) ack: Ack,
    pub(crate) access: Access,
    /// The public URL of this source, for schemes that sign it.
    pub(crate) public_url: Option<String>,
}

/// Who may speak to a source, beside the signature (promise I7).
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// One of them must be presented; empty: none is asked for. Several while one replaces another.
    pub(crate) credentials: Vec<Credential>,
    /// The credentials are basic auth, which a refusal has to ask for.
    pub(crate) asks_basic: bool,
    /// The client must be in one of them; empty: from anywhere.
    pub(crate) allow_networks: Vec<Network>,
}

#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) matches: RouteMatch,
    pub(crate) plugin: PluginName,
    /// The plugin's configuration as the JSON document it is handed.
    pub(crate) config_json: String,
    pub(crate) config_digest: Digest,
    pub(crate) grants: Vec<Grant>,
    /// Where actions go; empty leaves them in the ledger.
    pub(crate) destinations: Vec<DestinationName>,
    pub(crate) limits: PluginLimits,
    /// Which versions of the plugin it runs. No file says it: the registry adds it to the routes of a running host, so that a job
    /// sees a route and its binding of the same moment.
    pub(crate) binding: Option<Binding>,
}

#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// Normalised; `https`, or `http` where the operator allows it; without user, password and fragment.
    pub(crate) url: String,
    /// Sign each delivery (Standard Webhooks, `whsec_…`); several while one replaces another: all sign. At least one.
    pub(crate) secrets: Vec<SourceSecret>,
    pub(crate) in_flight_max: usize,
}

impl Rates {
    pub(crate) fn of(&self, tenant: &TenantName) -> Option<Rate> {
        self.tenants.get(tenant).copied().or(self.every)
    }
}

impl Config {
    /// The lifecycle that judges an event's status; none when its family has none.
    pub(crate) fn lifecycle_of(&self, event: &Event) -> Option<Arc<Lifecycle>> {
        self.lifecycles.get(event.reading.family()?).cloned()
    }
}

impl Tenant {
    /// What each route takes.
    pub(crate) fn matches(&self) -> impl Iterator<Item = (&RouteName, &RouteMatch)> {
        self.routes.iter().map(|route| (&route.name, &route.matches))
    }
}

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((network, width), (candidate, candidate_width)) = (bits(self.address), bits(address));
        let keep = u32::from(self.prefix_length.min(width as u8));
        width == candidate_width && (keep == 0 || (network ^ candidate) >> (128 - keep) == 0)
    }
}
