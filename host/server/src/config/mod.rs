//! Configuration: [`Config`] is what was checked of the files. Nothing takes effect before
//! all of it is checked, and every error points at its line.
//!
//! One `tollgate.toml` belongs to the operator; each `tenants/<name>.toml` beside it belongs to the tenant of that name. A
//! relative path in a file is relative to the folder of that file. Secrets never stand in a file: `{ env = "NAME" }` and
//! `{ file = "path" }` refer to them; how far a tenant's references reach is said in `reach`.
//!
//! A tenant's file that is wrong harms that tenant alone: `Draft::read_tenants` takes the tenant as it last was good instead
//! (`last_good`), or leaves it out, and says so. Only what is wrong in the operator's file is wrong for all.
//!
//! Files are read by [`tollgate_tenants::file`], which knows a tenant's keys; `operator` knows those of the operator's, and `tenant` what a
//! tenant is here. Reading goes on after a problem, so that one look shows all of them. serde would stop at the first one of each file.

mod host;
mod last_good;
mod mail;
mod operator;
mod reach;
mod references;
mod settings;
mod tenant;
mod tls;
mod warnings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tollgate_core::event::Event;
use tollgate_core::ids::{
    DestinationName, Digest, FamilyName, HostName, PluginDigest, PluginName, RouteName, TenantName,
};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::limits::COMPONENT_BYTES_MAX;
use tollgate_core::network::Network;
use tollgate_core::portal::Origin;
use tollgate_core::rate::Rate;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_tenants::PluginLimits;
use tollgate_tenants::file::{self, File, TenantFile};

use crate::clock;
pub(crate) use last_good::{Kept, LastGood};
pub(crate) use mail::{MailConfig, MailTls};
use operator::Settings;
use reach::Reach;
use references::References;
pub use settings::Documents;
pub(crate) use settings::{Document, OfFiles, SettingsConfig, title};
pub use tenant::{Destination, Source, Tenant};
pub(crate) use tls::TlsConfig;
pub use tollgate_tenants::Route;
pub use tollgate_tenants::file::{Ink, Problems, Schemas, VersionSchema};
pub use warnings::{Warning, warnings};

/// So many bytes of a digest tell configurations apart.
const FINGERPRINT_BYTES: usize = 6;

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
    // As the file would have it, so that one reader judges both.
    let mut routes = serde_json::Map::new();
    routes.insert(name.to_string(), definition.clone());
    let whole = serde_json::json!({ "routes": routes });
    let title = format!("the route `{name}`");
    let text = toml::to_string(&whole).map_err(|error| {
        Problems::of_one(
            &title,
            &format!("the definition cannot be used: {error}"),
            "write an object without null, with numbers of 64 bits",
        )
    })?;
    let settings = Settings {
        worker: config.worker.clone(),
        lifecycles: config.lifecycles.clone(),
        schemas,
        ..Settings::default()
    };
    let plugins = config.plugins.keys().chain(published).cloned().collect();
    let declared = (&tenant.name, tenant.declared());
    let no_env = |_: &str| None;
    file::check_route(
        name,
        &File::new(title, text, Path::new("")),
        declared,
        &settings.offer(Some(&plugins), Some(&settings.schemas)),
        &References::new(&no_env, Reach::Operator),
    )
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
    /// What is in the registry.
    Known {
        /// Names by whose they are; without an owner, everybody's.
        names: BTreeSet<(Option<TenantName>, PluginName)>,
        /// The schemas of those plugins' configurations, and of the versions that routes are bound to.
        schemas: Schemas,
        /// What tenants set by API.
        documents: Documents,
    },
}

impl Published {
    /// A registry without plugins.
    pub fn nothing() -> Self {
        Self::Known {
            names: BTreeSet::new(),
            schemas: Schemas::default(),
            documents: Documents::default(),
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
    settings: Settings,
    problems: Option<Problems>,
    /// Whether the file could be read as TOML at all.
    is_readable: bool,
}

impl Draft {
    /// Goes on with the shipped defaults where the file is wrong, so that the tenants' files can be looked at all the same.
    pub(crate) fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>, plugin_files: PluginFiles) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = match std::fs::read_to_string(path) {
            Ok(text) => Ok(File::new(path.display().to_string(), text, folder)),
            Err(error) => Err(unreadable(
                path,
                &error,
                "docs/first-hour.md has the smallest one; or name another file with --config",
            )),
        };
        Self::of(path, file, env, plugin_files)
    }

    fn of(
        path: &Path,
        file: Result<File, Problems>,
        env: &dyn Fn(&str) -> Option<String>,
        plugin_files: PluginFiles,
    ) -> Self {
        let references = References::new(env, Reach::Operator);
        let (settings, problems) = match file {
            Ok(file) => operator::check(&file, &references, plugin_files),
            Err(unreadable) => (None, Some(unreadable)),
        };
        let is_readable = settings.is_some();
        let mut settings = settings.unwrap_or_default();
        settings.schemas.files = schemas_of(&settings.plugins);
        settings.tenancy.operators_file = path.to_owned();
        Self {
            path: path.to_owned(),
            settings,
            problems,
            is_readable,
        }
    }

    /// # Errors
    /// All that is wrong in the operator's file.
    pub(crate) fn accepted(&mut self) -> Result<(), Problems> {
        self.problems.take().map_or(Ok(()), Err)
    }

    pub(crate) fn host(&self) -> &HostName {
        &self.settings.host
    }

    pub(crate) fn edge(&self) -> &EdgeConfig {
        &self.settings.edge
    }

    pub(crate) fn store(&self) -> &StoreConfig {
        &self.settings.store
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
        let folder = self.path.parent().unwrap_or(Path::new("")).join("tenants");
        let files = match file::files(&folder) {
            Ok(files) => files,
            // Without the folder there are no tenants.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unreadable(&folder, &error, "let Tollgate read this folder")),
        };
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
        if !self.is_readable {
            // Held against defaults that nobody wrote, every tenant's file would look wrong.
            self.accepted()?;
        }
        let of_operator = self.problems.take();
        let read = self.read_tenants(env, published, &|_| None);
        together(of_operator, read.and_then(Reading::strictly))
    }

    fn check_tenants(
        self,
        files: Vec<TenantFile>,
        env: &dyn Fn(&str) -> Option<String>,
        published: &Published,
        kept: &dyn Fn(&TenantName) -> Option<Kept>,
    ) -> Reading {
        let mut settings = self.settings;
        let mut documents = Documents::default();
        if let Published::Known {
            schemas,
            documents: known,
            ..
        } = published
        {
            settings.schemas = settings.schemas.and(schemas);
            documents = known.clone();
        }
        let tenancy = Arc::new(settings.tenancy.clone());
        let names = Arc::new(files.iter().map(|file| file.tenant.clone()).collect());
        let read = |TenantFile {
                        tenant: name,
                        file,
                        unreadable,
                    }: TenantFile| {
            let plugins = published.to(&name, settings.plugin_names.as_ref());
            let check = |file: &File, references: &References, schemas: Option<&Schemas>| {
                let offer = settings.offer(plugins.as_ref(), schemas);
                let checked = file::check(&name, file, &offer, references)?;
                Tenant::of(checked).ok_or_else(|| {
                    Problems::of_one(
                        file.name(),
                        "a secret is not known here",
                        "see that each reference leads to one",
                    )
                })
            };
            let references = References::new(env, Reach::of_tenant(&name, &names, &tenancy));
            let kept_reach = Reach::of_tenant(&name, &names, &tenancy);
            let checked = match unreadable {
                None => check(&file, &references, Some(&settings.schemas)).map_err(|problems| {
                    // What only a plugin's schema refuses can be run: the plugin holds what it cannot read.
                    (problems, check(&file, &references, None).ok())
                }),
                Some(problems) => Err((problems, None)),
            };
            let (problems, as_written) = match checked {
                Ok(tenant) => {
                    let named = references.read.into_inner();
                    let tenant = tenant.noting_texts(file.text(), &named);
                    let now = Kept::of(file.text().to_owned(), named, clock::now());
                    let has_settings = documents.0.contains_key(&tenant.name);
                    let before = has_settings.then(|| kept(&tenant.name)).flatten();
                    let before = before.filter(|before| before.text != now.text || before.files != now.files);
                    let before = before.and_then(|before| {
                        let references = References::new(env, kept_reach.clone());
                        let read = check(&file.with(&before.text), &references.as_kept(&before.files), None);
                        let tenant = read.ok()?.noting_texts(&before.text, &before.files);
                        Some((tenant, before.adopted_at))
                    });
                    return TenantReading::Good {
                        tenant,
                        kept: now,
                        before,
                    };
                }
                Err(wrong) => wrong,
            };
            let instead = name.parse().ok().and_then(|name| kept(&name)).and_then(|kept| {
                let tenant = check(&file.with(&kept.text), &references.as_kept(&kept.files), None);
                Some((tenant.ok()?.noting_texts(&kept.text, &kept.files), kept))
            });
            TenantReading::Broken {
                name,
                problems,
                instead,
                as_written: as_written
                    .map(|tenant: Tenant| Box::new(tenant.noting_texts(file.text(), &references.read.borrow()))),
            }
        };
        let tenants = files.into_iter().map(read).collect();
        Reading {
            config: Config {
                host: settings.host,
                edge: settings.edge,
                operator: settings.operator,
                console: settings.console,
                store: settings.store,
                worker: settings.worker,
                delivery: settings.delivery,
                mail: settings.mail,
                plugins: settings.plugins,
                tenants: BTreeMap::new(),
                lifecycles: settings.lifecycles,
                broken: BTreeMap::new(),
                settings: SettingsConfig {
                    seal_keys: settings.tenancy.seal_keys,
                    short_secrets: settings.tenancy.short_secrets,
                },
                of_files: Arc::default(),
                documents: Documents::default(),
            },
            tenants,
            documents,
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error, help: &str) -> Problems {
    Problems::of_one(&path.display().to_string(), &format!("cannot be read: {error}"), help)
}

/// What was read of the tenants' files, unless something is wrong there or in the operator's.
fn together(of_operator: Option<Problems>, read: Result<Config, Problems>) -> Result<Config, Problems> {
    match (of_operator, read) {
        (None, read) => read,
        (Some(problems), Ok(_)) => Err(problems),
        (Some(problems), Err(others)) => Err(problems.and(others)),
    }
}

/// The files as they were read, each tenant by itself.
pub(crate) struct Reading {
    /// Without tenants.
    config: Config,
    tenants: Vec<TenantReading>,
    documents: Documents,
}

enum TenantReading {
    Good {
        tenant: Tenant,
        kept: Kept,
        /// As the file last was in effect and when, where that is not what it says now and the tenant has settings that may fit that only.
        before: Option<(Tenant, UnixMillis)>,
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
        let mut of_files = OfFiles::default();
        let mut wrong = Vec::new();
        for tenant in self.tenants {
            match tenant {
                TenantReading::Good { tenant, .. } => {
                    of_files.tenants.insert(tenant.name.clone(), tenant);
                }
                TenantReading::Broken { problems, .. } => wrong.push(problems),
            }
        }
        let files = Config {
            of_files: Arc::new(of_files),
            ..self.config
        };
        let config = files.with_settings(&self.documents, None);
        wrong.extend(config.broken.values().map(|broken| broken.problems.clone()));
        wrong.into_iter().reduce(Problems::and).map_or(Ok(config), Err)
    }

    /// Takes each tenant whose file is wrong as it last was good. `config.broken` says which ones, and which are left out.
    pub(crate) fn settle(self) -> Settled {
        let mut of_files = OfFiles::default();
        let mut good = BTreeMap::new();
        for tenant in self.tenants {
            match tenant {
                TenantReading::Good { tenant, kept, before } => {
                    let name = tenant.name.clone();
                    good.insert(name.clone(), kept);
                    of_files.last_good.extend(before.map(|before| (name.clone(), before)));
                    of_files.tenants.insert(name, tenant);
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
                    of_files
                        .tenants
                        .extend(tenant.map(|tenant| (tenant.name.clone(), tenant)));
                    of_files.broken.insert(name, Broken { runs, problems });
                }
            }
        }
        let files = Config {
            of_files: Arc::new(of_files),
            ..self.config
        };
        let config = files.with_settings(&self.documents, None);
        good.retain(|name, _| !config.broken.contains_key(name.as_str()));
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
    let path = Path::new("tollgate.toml");
    let operator = File::new("tollgate.toml".to_owned(), operator.to_owned(), Path::new(""));
    let mut draft = Draft::of(path, Ok(operator), env, PluginFiles::Unchecked);
    let file = |(name, text): &(&str, &str)| TenantFile {
        tenant: (*name).to_owned(),
        file: File::new(format!("tenants/{name}.toml"), (*text).to_owned(), Path::new("tenants")),
        unreadable: None,
    };
    let of_operator = draft.problems.take();
    let tenants = tenants.iter().map(file).collect();
    let reading = draft.check_tenants(tenants, env, &Published::nothing(), &|_| None);
    together(of_operator, reading.strictly())
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

/// A tenant whose file is wrong, or whose settings do not fit it.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What it runs until the file is mended.
    pub runs: Runs,
    pub(crate) problems: Problems,
}

/// What such a tenant runs meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// Its configuration as it was adopted at `of`; the file is wrong at least since `since`.
    LastGood {
        /// When that configuration was adopted.
        of: UnixMillis,
        /// Since when the file has been wrong, at the latest.
        since: UnixMillis,
    },
    /// Its file as it is, since nothing but a plugin's schema refuses it and nothing good is known: the plugin holds what it cannot read.
    AsWritten,
    /// Nothing good is known: it is left out.
    Nothing,
    /// Its file alone: what it set by API does not fit the file, and did not as the file last was in effect, as far as that is known.
    FileAlone,
}

/// Everything a host needs to run, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What people call this host.
    pub host: HostName,
    pub(crate) edge: EdgeConfig,
    /// The private listener and who may ask it.
    pub operator: OperatorConfig,
    /// Where people reach the console, and who may embed it.
    pub console: ConsoleConfig,
    /// Where the store is, and how it keeps its files.
    pub store: StoreConfig,
    pub(crate) worker: WorkerConfig,
    pub(crate) delivery: DeliveryConfig,
    /// How e-mails leave; absent: none do.
    pub(crate) mail: Option<Arc<MailConfig>>,
    /// The plugins' files that the operator names, by plugin.
    pub plugins: BTreeMap<PluginName, PluginConfig>,
    /// The tenants that are run, by name.
    pub tenants: BTreeMap<TenantName, Tenant>,
    pub(crate) lifecycles: BTreeMap<FamilyName, Arc<Lifecycle>>,
    /// Tenants whose files are wrong, or whose settings do not fit their files, by the files' names. Those that run as they last were good
    /// are among `tenants`.
    pub broken: BTreeMap<String, Broken>,
    pub(crate) settings: SettingsConfig,
    /// The same without what tenants set by API.
    pub(crate) of_files: Arc<OfFiles>,
    /// What tenants set by API.
    pub(crate) documents: Documents,
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
    /// Where providers reach the public listener: scheme, host, and the path below which a proxy has it, without a `/` at its end. Absent:
    /// nobody has said.
    pub(crate) public_url: Option<String>,
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

/// The console, as people reach it who are not on this machine.
#[derive(Debug, Default, Clone)]
pub struct ConsoleConfig {
    /// What portal links begin with; absent: the private listener's own address.
    pub address: Option<Origin>,
    /// Whose pages may have those of portal links in a frame.
    pub(crate) embed: Vec<Origin>,
}

/// Where the store is, and how it keeps its files.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The SQLite file. With `url` there is none; what a host keeps for itself lies beside this path all the same.
    pub path: PathBuf,
    /// A PostgreSQL that many hosts share, with the password in it.
    pub url: Option<Secret>,
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

/// A plugin that the operator offers to tenants.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    pub(crate) path: PathBuf,
    /// Refuses to start when the file has another digest.
    pub(crate) digest: Option<PluginDigest>,
}

impl Rates {
    pub(crate) fn of(&self, tenant: &TenantName) -> Option<Rate> {
        self.tenants.get(tenant).copied().or(self.every)
    }
}

impl Config {
    /// Names what the tenants run, so that people see whether hosts run the same: hosts with the same tenants' files, and the same files that those
    /// name, have the same name for it.
    pub(crate) fn fingerprint(&self) -> String {
        let tenants: Vec<_> = self.tenants.iter().map(|(name, tenant)| (name, tenant.texts)).collect();
        let digest = Digest::of(serde_json::json!(tenants).to_string().as_bytes());
        data_encoding::HEXLOWER.encode(&digest.0[..FINGERPRINT_BYTES])
    }

    /// The lifecycle that judges an event's status; none when its family has none.
    pub(crate) fn lifecycle_of(&self, event: &Event) -> Option<Arc<Lifecycle>> {
        self.lifecycles.get(event.reading.family()?).cloned()
    }

    /// Whether a tenant has a destination of this name, or had it under this name before.
    pub(crate) fn has_destination(&self, tenant: &TenantName, destination: &DestinationName) -> bool {
        let tenant = self.tenants.get(tenant);
        tenant.is_some_and(|tenant| tenant.destination(destination).is_some())
    }
}
