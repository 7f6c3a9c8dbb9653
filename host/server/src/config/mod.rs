//! Configuration in two stages: `raw` is what the files say, [`Config`] is what was checked. Nothing takes effect before
//! all of it is checked, and every error points at its line.
//!
//! One `tollgate.toml` belongs to the operator; each `tenants/<name>.toml` beside it belongs to the tenant of that name. A
//! relative path in a file is relative to the folder of that file. Secrets never stand in a file: `{ env = "NAME" }` and
//! `{ file = "path" }` refer to them; how far a tenant's references reach is said in `reach`.
//!
//! A tenant's file that is wrong harms that tenant alone: `Draft::read_tenants` takes the tenant as it last was good instead
//! (`last_good`), or leaves it out, and says so. Only what is wrong in the operator's file is wrong for all.
//!
//! The raw stage is a TOML table whose keys and values all know their place in the file (`raw`); `operator` and `tenant` take it
//! apart. They go on after a problem, so that one look shows all of them. serde would stop at the first one of each file.

mod last_good;
mod operator;
mod problem;
mod raw;
mod reach;
mod reference;
mod schemas;
mod tenant;
mod tls;
mod warnings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;
use rustls::pki_types::CertificateDer;
use tollgate_core::admission::{OnHeld, OnReplay};
use tollgate_core::answer::Ack;
use tollgate_core::event::Event;
use tollgate_core::forward::ForwardForm;
use tollgate_core::grant::Grant;
use tollgate_core::ids::{
    DestinationName, Digest, FamilyName, Namespace, PluginDigest, PluginName, RouteName, SourceName, TenantName,
};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::limits::COMPONENT_BYTES_MAX;
use tollgate_core::profile::Profile;
use tollgate_core::rate::Rate;
use tollgate_core::registry::{Binding, PromotionGate};
use tollgate_core::retry::RetryPolicy;
use tollgate_core::route::RouteMatch;
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::subject::Sharing;
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Credential, Keyring};
use tollgate_store::Targets;

use crate::clock;
pub(crate) use last_good::{Kept, LastGood};
pub use problem::{Ink, Problems};
use raw::{Desk, File};
use reach::{Reach, Trust};
pub use schemas::{Schemas, VersionSchema};
pub(crate) use tls::TlsConfig;
pub use warnings::{Warning, warnings};

/// Reads and checks `path` and the tenants' files beside it, for somebody who asks about what is there. Changes nothing. A tenant whose
/// file is wrong is taken as it last was good, or left out.
///
/// # Errors
/// All that is wrong in the operator's file.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_knowing(path, &|_| Published::Unknown)
}

/// The same with what is in the registry of the store: a route may name no other plugin.
///
/// # Errors
/// All that is wrong in the operator's file.
pub fn load_knowing(path: &Path, published: &dyn Fn(&StoreConfig) -> Published) -> Result<Config, Problems> {
    let env = |name: &str| std::env::var(name).ok();
    let mut draft = Draft::read(path, &env, PluginFiles::Unchecked);
    draft.accepted()?;
    let published = published(draft.store());
    let last_good = LastGood::beside(&draft.store().path);
    let kept = |tenant: &TenantName| last_good.read(tenant);
    Ok(draft.read_tenants(&env, &published, &kept)?.settle().config)
}

/// Reads and checks `path` and the tenants' files beside it, whole: the plugins' files must be there, and what is wrong with one tenant
/// is wrong. For `tollgate check`. `published` says what is in the registry of the store.
///
/// # Errors
/// All that is wrong in all of the files.
pub fn check(path: &Path, published: &dyn Fn(&StoreConfig) -> Published) -> Result<Config, Problems> {
    let env = |name: &str| std::env::var(name).ok();
    let draft = Draft::read(path, &env, PluginFiles::MustExist);
    let published = published(draft.store());
    draft.strictly(&env, &published)
}

/// Checks the tenants' files of `folder` for a host that has no `tollgate.toml`, as a Spin app. Where a destination may be is that
/// host's own rule. Configurations of plugins must fit `schemas`.
///
/// # Errors
/// All that is wrong in all of the files.
pub fn check_tenants(
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    schemas: Schemas,
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
    // On Spin a secret is a variable that spin.toml declares, so that the app's owner has said yes to each.
    house.tenancy.trust = Trust::Whole;
    house.schemas = schemas;
    let files = tenant_files(folder, &desk);
    desk.finish(std::iter::empty())?;
    let draft = Draft {
        path: PathBuf::new(),
        house,
        problems: None,
        plugin_files: PluginFiles::Unchecked,
    };
    let reading = draft.check_tenants(files, env, &Published::Unknown, &|_| None);
    Ok(reading.strictly()?.tenants)
}

/// Checks one route of a tenant that is not in a file: `definition` has the keys of a file's `[routes.NAME]`, and is held against
/// what `config` offers the tenant. A plugin may be one of `published` as well; its configuration must fit `schemas`.
///
/// # Errors
/// All that is wrong with it, each with the field that it is about.
pub(crate) fn check_route(
    config: &Config,
    tenant: &Tenant,
    name: &RouteName,
    definition: &serde_json::Value,
    published: &BTreeSet<PluginName>,
    schemas: Schemas,
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
        schemas,
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

/// The plugins that a registry offers to tenants beside those of `tollgate.toml`.
#[derive(Debug, Clone)]
pub enum Published {
    /// Nobody looked: a route may name any plugin.
    Unknown,
    Known {
        /// Names by whose they are; without an owner, everybody's.
        names: BTreeSet<(Option<TenantName>, PluginName)>,
        schemas: Schemas,
    },
}

impl Published {
    /// A registry without plugins.
    pub fn nothing() -> Self {
        Self::Known {
            names: BTreeSet::new(),
            schemas: Schemas::default(),
        }
    }

    /// The names that a tenant's routes may have, with those of the operator's file; absent: any.
    fn to(&self, tenant: &str, offered: Option<&BTreeSet<PluginName>>) -> Option<BTreeSet<PluginName>> {
        let Self::Known { names, .. } = self else { return None };
        let visible = names
            .iter()
            .filter(|(owner, _)| owner.as_ref().is_none_or(|owner| owner.as_str() == tenant))
            .map(|(_, name)| name.clone());
        Some(offered?.iter().cloned().chain(visible).collect())
    }
}

/// The operator's file, read and checked; those of the tenants beside it are next.
pub(crate) struct Draft {
    path: PathBuf,
    house: operator::House,
    problems: Option<Problems>,
    plugin_files: PluginFiles,
}

impl Draft {
    /// Goes on with the shipped defaults where the file is wrong, so that the tenants' files can be looked at all the same.
    pub(crate) fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>, plugin_files: PluginFiles) -> Self {
        let desk = Desk::new(env, plugin_files);
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = match std::fs::read_to_string(path) {
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
        Self::of(path, file, desk, plugin_files)
    }

    fn of(path: &Path, file: Option<File>, desk: Desk, plugin_files: PluginFiles) -> Self {
        let mut house = file
            .as_ref()
            .and_then(|file| operator::check(file, &desk))
            .unwrap_or_default();
        house.schemas.files = schemas_of(&house.plugins);
        house.tenancy.operators_file = path.to_owned();
        Self {
            path: path.to_owned(),
            house,
            problems: desk.finish(file.iter()).err(),
            plugin_files,
        }
    }

    /// # Errors
    /// All that is wrong in the operator's file.
    pub(crate) fn accepted(&mut self) -> Result<(), Problems> {
        self.problems.take().map_or(Ok(()), Err)
    }

    pub(crate) fn edge(&self) -> &EdgeConfig {
        &self.house.edge
    }

    pub(crate) fn store(&self) -> &StoreConfig {
        &self.house.store
    }

    /// Reads and checks the tenants' files, each by itself. `kept` gives a tenant's configuration as it last was good; it is asked
    /// only where the file of today is not.
    ///
    /// # Errors
    /// When the tenants' folder is there and cannot be read.
    pub(crate) fn read_tenants(
        self,
        env: &dyn Fn(&str) -> Option<String>,
        published: &Published,
        kept: &dyn Fn(&TenantName) -> Option<Kept>,
    ) -> Result<Reading, Problems> {
        let desk = Desk::new(env, self.plugin_files);
        let folder = self.path.parent().unwrap_or(Path::new("")).join("tenants");
        let files = tenant_files(&folder, &desk);
        desk.finish(std::iter::empty())?;
        Ok(self.check_tenants(files, env, published, kept))
    }

    /// All of it at once, for whoever wants nothing that is wrong.
    ///
    /// # Errors
    /// All that is wrong in all of the files.
    pub(crate) fn strictly(
        mut self,
        env: &dyn Fn(&str) -> Option<String>,
        published: &Published,
    ) -> Result<Config, Problems> {
        let of_operator = self.problems.take();
        match (of_operator, self.read_tenants(env, published, &|_| None)) {
            (None, Ok(reading)) => reading.strictly(),
            (Some(problems), Ok(reading)) => Err(problems.and(reading.strictly().err())),
            (of_operator, Err(unreadable)) => Err(match of_operator {
                Some(problems) => problems.and(Some(unreadable)),
                None => unreadable,
            }),
        }
    }

    fn check_tenants(
        self,
        files: Vec<(String, FileRead)>,
        env: &dyn Fn(&str) -> Option<String>,
        published: &Published,
        kept: &dyn Fn(&TenantName) -> Option<Kept>,
    ) -> Reading {
        let mut house = self.house;
        if let Published::Known { schemas, .. } = published {
            house.schemas = house.schemas.and(schemas);
        }
        let tenancy = Arc::new(house.tenancy.clone());
        let names = Arc::new(files.iter().map(|(name, _)| name.clone()).collect());
        let tenants = files
            .into_iter()
            .map(|(name, file)| {
                let reach = Reach::of_tenant(&name, &names, &tenancy);
                let plugins = published.to(&name, house.plugin_names.as_ref());
                let check = |file: &File, schemas: Option<&Schemas>| {
                    let desk = Desk::new(env, self.plugin_files);
                    let tenant = tenant::check(&name, file, &house, plugins.as_ref(), schemas, &desk);
                    desk.finish(std::iter::once(file))?;
                    // Without a problem there is a tenant.
                    tenant.ok_or_else(|| {
                        Problems::of_one(file.name(), "the file makes no tenant", "compare it with the example")
                    })
                };
                let (problems, file, as_written) = match file {
                    FileRead::Text(file) => {
                        let file = file.within(reach);
                        match check(&file, Some(&house.schemas)) {
                            Ok(tenant) => {
                                let kept = Kept::of(file.text().to_owned(), file.named_texts(), clock::now());
                                return TenantReading::Good { tenant, kept };
                            }
                            // What only a plugin's schema refuses can be run: the plugin holds what it cannot read.
                            Err(problems) => {
                                let as_written = check(&file, None).ok().map(Box::new);
                                (problems, file, as_written)
                            }
                        }
                    }
                    FileRead::Unreadable(path, problems) => {
                        let folder = path.parent().unwrap_or(Path::new(""));
                        let file = File::new(path.display().to_string(), String::new(), folder);
                        (problems, file.within(reach), None)
                    }
                };
                let instead = name.parse().ok().and_then(|name| kept(&name)).and_then(|kept| {
                    Some((
                        check(&file.as_kept(kept.text.clone(), kept.files.clone()), None).ok()?,
                        kept,
                    ))
                });
                TenantReading::Broken {
                    name,
                    problems,
                    instead,
                    as_written,
                }
            })
            .collect();
        Reading {
            config: Config {
                edge: house.edge,
                operator: house.operator,
                store: house.store,
                worker: house.worker,
                delivery: house.delivery,
                plugins: house.plugins,
                tenants: BTreeMap::new(),
                lifecycles: house.lifecycles,
                broken: BTreeMap::new(),
            },
            tenants,
        }
    }
}

/// The files as they were read, each tenant by itself.
pub(crate) struct Reading {
    /// Without tenants.
    config: Config,
    tenants: Vec<TenantReading>,
}

enum TenantReading {
    Good {
        tenant: Tenant,
        kept: Kept,
    },
    Broken {
        name: String,
        problems: Problems,
        /// As it last was good, where that still checks.
        instead: Option<(Tenant, Kept)>,
        /// As the file says, where nothing but a plugin's schema refuses it.
        as_written: Option<Box<Tenant>>,
    },
}

/// What a reading comes to when a tenant's file harms that tenant alone.
pub(crate) struct Settled {
    pub(crate) config: Config,
    /// The tenants whose files are good, to be kept once they are in effect.
    pub(crate) good: BTreeMap<TenantName, Kept>,
}

impl Reading {
    /// # Errors
    /// All that is wrong with all tenants.
    pub(crate) fn strictly(self) -> Result<Config, Problems> {
        let mut config = self.config;
        let mut wrong: Option<Problems> = None;
        for tenant in self.tenants {
            match tenant {
                TenantReading::Good { tenant, .. } => {
                    config.tenants.insert(tenant.name.clone(), tenant);
                }
                TenantReading::Broken { problems, .. } => {
                    wrong = Some(match wrong {
                        Some(wrong) => wrong.and(Some(problems)),
                        None => problems,
                    });
                }
            }
        }
        wrong.map_or(Ok(config), Err)
    }

    /// Takes each tenant whose file is wrong as it last was good. `config.broken` says which ones, and which are left out.
    pub(crate) fn settle(self) -> Settled {
        let mut config = self.config;
        let mut good = BTreeMap::new();
        for tenant in self.tenants {
            match tenant {
                TenantReading::Good { tenant, kept } => {
                    good.insert(tenant.name.clone(), kept);
                    config.tenants.insert(tenant.name.clone(), tenant);
                }
                TenantReading::Broken {
                    name,
                    problems,
                    instead,
                    as_written,
                } => {
                    let (runs, tenant) = match (instead, as_written) {
                        (Some((tenant, kept)), _) => {
                            let since = kept.stale_since.unwrap_or_else(clock::now);
                            let of = kept.adopted_at;
                            (Runs::LastGood { of, since }, Some(tenant))
                        }
                        (None, Some(tenant)) => (Runs::AsWritten, Some(*tenant)),
                        (None, None) => (Runs::Nothing, None),
                    };
                    config
                        .tenants
                        .extend(tenant.map(|tenant| (tenant.name.clone(), tenant)));
                    config.broken.insert(name, Broken { runs, problems });
                }
            }
        }
        Settled { config, good }
    }
}

/// For tests: as [`check`] with the environment as an argument, and a registry without plugins.
///
/// # Errors
/// All that is wrong in all of the files.
#[cfg(test)]
pub(crate) fn load_with(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    plugin_files: PluginFiles,
) -> Result<Config, Problems> {
    Draft::read(path, env, plugin_files).strictly(env, &Published::nothing())
}

/// For tests: the same for texts that are not in files, each tenant's with its name. Relative paths start in the working folder.
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
    let path = Path::new("tollgate.toml");
    let operator = File::new("tollgate.toml".to_owned(), operator.to_owned(), Path::new(""));
    let mut draft = Draft::of(path, Some(operator), desk, PluginFiles::Unchecked);
    let tenants: Vec<_> = tenants
        .iter()
        .map(|(name, text)| {
            let file = File::new(format!("tenants/{name}.toml"), (*text).to_owned(), Path::new("tenants"));
            ((*name).to_owned(), FileRead::Text(file))
        })
        .collect();
    let of_operator = draft.problems.take();
    let reading = draft.check_tenants(tenants, env, &Published::nothing(), &|_| None);
    match (of_operator, reading.strictly()) {
        (None, read) => read,
        (Some(problems), read) => Err(problems.and(read.err())),
    }
}

/// What the components that the operator's file names say of their configurations. A component that cannot be read is a problem of
/// whoever loads it.
fn schemas_of(plugins: &BTreeMap<PluginName, PluginConfig>) -> BTreeMap<PluginName, VersionSchema> {
    let manifest = |plugin: &PluginConfig| {
        // What gives its bytes once, as a pipe does, gives them to whoever runs them.
        let file = std::fs::metadata(&plugin.path).ok()?;
        let is_read = file.is_file() && file.len() <= COMPONENT_BYTES_MAX as u64;
        let bytes = is_read.then(|| std::fs::read(&plugin.path).ok()).flatten()?;
        tollgate_sandbox::manifest_of(&bytes).ok()
    };
    let known = plugins.iter().filter_map(|(name, plugin)| {
        let manifest = manifest(plugin)?;
        Some((
            name.clone(),
            VersionSchema::of(manifest.version, manifest.configuration),
        ))
    });
    known.collect()
}

/// One tenant's file.
enum FileRead {
    Text(File),
    Unreadable(PathBuf, Problems),
}

/// The tenants' files by tenant name, in the order of their names. Without the folder there are no tenants.
fn tenant_files(folder: &Path, desk: &Desk) -> Vec<(String, FileRead)> {
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
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let file = match std::fs::read_to_string(&path) {
                Ok(text) => FileRead::Text(File::new(path.display().to_string(), text, folder)),
                Err(error) => {
                    let problems = Problems::of_one(
                        &path.display().to_string(),
                        &format!("cannot be read: {error}"),
                        "let Tollgate read this file, and keep it UTF-8",
                    );
                    FileRead::Unreadable(path, problems)
                }
            };
            (name, file)
        })
        .collect()
}

/// A tenant whose file is wrong.
#[derive(Debug, Clone)]
pub struct Broken {
    pub runs: Runs,
    pub(crate) problems: Problems,
}

/// What such a tenant runs meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// Its configuration as it was adopted at `of`; the file is wrong at least since `since`.
    LastGood { of: UnixMillis, since: UnixMillis },
    /// Its file as it is, since nothing but a plugin's schema refuses it and nothing good is known: the plugin holds what it cannot read.
    AsWritten,
    /// Nothing good is known: it is left out.
    Nothing,
}

/// Everything a host needs to run, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) edge: EdgeConfig,
    pub operator: OperatorConfig,
    pub store: StoreConfig,
    pub(crate) worker: WorkerConfig,
    pub(crate) delivery: DeliveryConfig,
    pub plugins: BTreeMap<PluginName, PluginConfig>,
    pub tenants: BTreeMap<TenantName, Tenant>,
    pub(crate) lifecycles: BTreeMap<FamilyName, Arc<Lifecycle>>,
    /// Tenants whose files are wrong, by the files' names. Those that run as they last were good are among `tenants`.
    pub broken: BTreeMap<String, Broken>,
}

/// The public listener.
#[derive(Debug, Clone)]
pub(crate) struct EdgeConfig {
    pub(crate) listen: SocketAddr,
    /// Threads that accept and answer, each with a listener of its own; default: one per core.
    pub(crate) threads: usize,
    /// For sources that say nothing and whose provider sends no larger ones.
    pub(crate) body_bytes_max: usize,
    /// What a source may set its own bound to, and what a provider's is cut to.
    pub(crate) source_body_bytes_max: usize,
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
pub struct OperatorConfig {
    /// Absent: no private listener.
    pub listen: Option<SocketAddr>,
    /// Asked for as a bearer token by everything but health; a listener without a token is refused when checked.
    pub token: Option<Secret>,
}

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The SQLite file.
    pub path: PathBuf,
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
    /// What compiled plugins may take there, beside those that routes run.
    pub(crate) cache_bytes_max: u64,
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
pub struct Network {
    pub(crate) address: IpAddr,
    pub(crate) prefix_length: u8,
}

/// A plugin that the operator offers to tenants.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    pub(crate) path: PathBuf,
    /// Refuses to start when the file has another digest.
    pub(crate) digest: Option<PluginDigest>,
}

#[derive(Debug, Clone)]
pub struct Tenant {
    pub name: TenantName,
    pub sources: BTreeMap<SourceName, Source>,
    pub routes: Vec<Arc<Route>>,
    pub destinations: BTreeMap<DestinationName, Arc<Destination>>,
    /// What a plugin's version must have behind it before it advances on a route of this tenant.
    pub(crate) gate: PromotionGate,
    /// The families that its sources share.
    pub(crate) sharing: Sharing,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub name: SourceName,
    pub profile: Arc<Profile>,
    /// The source's own keys; see the edge for those that are fetched.
    pub keyring: Arc<Keyring>,
    /// How the provider wants to be answered.
    pub(crate) ack: Ack,
    pub access: Access,
    /// The largest body that is taken, in bytes.
    pub(crate) body_bytes_max: usize,
    /// What another form of a held event becomes.
    pub(crate) on_held: OnHeld,
    /// What a suspected replay waits for.
    pub(crate) on_replay: OnReplay,
    /// The public URL of this source, for schemes that sign it: scheme, host and port, or the whole.
    pub(crate) public_url: Option<String>,
    /// As the file refers to them; the keyring is made of them.
    pub(crate) secrets: Vec<SourceSecret>,
    /// Names of published keys that are fetched ahead.
    pub published_keys: Vec<String>,
}

/// Who may speak to a source, beside the signature (promise I7).
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// One of them must be presented; empty: none is asked for. Several while one replaces another.
    pub(crate) credentials: Vec<Credential>,
    /// The credentials are basic auth, which a refusal has to ask for.
    pub(crate) asks_basic: bool,
    /// The client must be in one of them; empty: from anywhere.
    pub allow_networks: Vec<Network>,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub name: RouteName,
    pub(crate) matches: RouteMatch,
    /// [`tollgate_core::forward::NAME`] where it forwards.
    pub plugin: PluginName,
    /// Set where it runs no plugin, and hands the event itself on in this form.
    pub forward: Option<ForwardForm>,
    /// The plugin's configuration as the JSON document it is handed.
    pub(crate) config_json: String,
    pub(crate) config_digest: Digest,
    pub grants: Vec<Grant>,
    /// Whose operation keys its actions are recorded under: the plugin's, unless the route says `operations`.
    pub(crate) namespace: Namespace,
    /// Where actions go; empty leaves them in the ledger.
    pub destinations: Vec<DestinationName>,
    pub(crate) limits: PluginLimits,
    /// Which versions of the plugin it runs. No file says it: the registry adds it to the routes of a running host, so that a job
    /// sees a route and its binding of the same moment.
    pub(crate) binding: Option<Binding>,
}

#[derive(Debug, Clone)]
pub struct Destination {
    /// Normalised; `https`, or `http` where the operator allows it; without user, password and fragment.
    pub url: String,
    /// Sign each delivery (Standard Webhooks, `whsec_…`); several while one replaces another: all sign. At least one.
    pub(crate) secrets: Vec<SourceSecret>,
    pub(crate) in_flight_max: usize,
    /// Sent with each delivery beside ours, names in lower case. Some values are secret, so all are kept so.
    pub(crate) headers: Vec<(HeaderName, Secret)>,
    /// From the start of an attempt to the end of the answer; absent: what holds for all.
    pub(crate) timeout_ms: Option<u64>,
    /// Names that it had before: what waits for them goes here.
    pub(crate) formerly: Vec<DestinationName>,
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
    /// The destination of this name, or the one that was formerly called so.
    pub(crate) fn destination(&self, name: &DestinationName) -> Option<&Arc<Destination>> {
        self.destinations.get(name).or_else(|| {
            self.destinations
                .values()
                .find(|destination| destination.formerly.contains(name))
        })
    }

    /// Names that destinations had before, each with the name of now.
    fn renamed_destinations(&self) -> Vec<(DestinationName, DestinationName)> {
        let renamed = self.destinations.iter().flat_map(|(now, destination)| {
            let before = destination.formerly.iter();
            before.map(move |old| (old.clone(), now.clone()))
        });
        renamed.collect()
    }

    /// Where a route's actions go.
    pub(crate) fn targets(&self, route: &Route) -> Targets {
        Targets {
            destinations: route.destinations.clone(),
            renamed: self.renamed_destinations(),
        }
    }

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
