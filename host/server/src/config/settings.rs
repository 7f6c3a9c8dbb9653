//! A tenant's settings on this host: what the tenant set by API, laid over what its file says (promise O14).
//!
//! The file's reader checks them, against the file as it is in effect, and what both say is one [`Tenant`] from then on: edge, worker and
//! delivery know of no difference. Settings that do not fit, because the operator's file changed under them or a key is gone, are set aside
//! whole: the tenant goes on as it last ran, and `broken` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tollgate_core::ids::{PluginName, SecretName, TenantName};
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_store::SealedSecret;
use tollgate_tenants::file::{self, Declared, File, Leave, Owner, Refused, Resolver, Way};

use super::operator::Settings;
use super::{Broken, Config, Destination, Problems, Runs, Schemas, Tenant};
use crate::clock;
use crate::seal::SealKeys;

/// What tenants set by API, by tenant, as the store has it.
#[derive(Debug, Clone, Default)]
pub struct Documents(pub(crate) BTreeMap<TenantName, Arc<Document>>);

/// The newest settings of a tenant, and its secrets.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The number of changes that this is as new as.
    pub(crate) changes: u64,
    /// Of the settings; 0 where there are secrets alone.
    pub(crate) version: u64,
    pub(crate) text: String,
    pub(crate) secrets: BTreeMap<SecretName, SealedSecret>,
}

/// What the operator's file says of settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsConfig {
    /// What tenants' secrets are sealed with.
    pub(crate) seal_keys: SealKeys,
    pub(crate) short_secrets: Leave,
}

/// The tenants as their files alone say, and what is wrong with those.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfFiles {
    pub(crate) tenants: BTreeMap<TenantName, Tenant>,
    pub(crate) broken: BTreeMap<String, Broken>,
    /// Tenants that have settings, as their files last were in effect, where that is not what the files say now.
    pub(crate) last_good: BTreeMap<TenantName, (Tenant, UnixMillis)>,
}

/// The name that problems of settings say.
pub(crate) fn title(tenant: &TenantName) -> String {
    format!("settings of {tenant}")
}

impl Document {
    /// A tenant that has set nothing.
    pub(crate) fn empty() -> Self {
        Self {
            changes: 0,
            version: 0,
            text: String::new(),
            secrets: BTreeMap::new(),
        }
    }
}

impl Tenant {
    /// What settings and routes must know of the tenant.
    pub(super) fn declared(&self) -> Declared {
        let formerly = self.destinations.values().flat_map(|known| known.formerly.clone());
        let is_mailed = |destination: &Destination| matches!(destination.way, Way::Mailed(_));
        let mailed = self.destinations.iter().filter(|(_, known)| is_mailed(known));
        Declared {
            sources: self.sources.keys().cloned().collect(),
            routes: self.routes.iter().map(|route| route.name.clone()).collect(),
            destinations: self.destinations.keys().cloned().collect(),
            mailed: mailed.map(|(name, _)| name.clone()).collect(),
            formerly: formerly.collect(),
        }
    }
}

/// The tenant of a file with what its settings add. A route's configuration is held against `schemas`, and may name `plugins` alone; without
/// them any.
///
/// # Errors
/// All that is wrong with the settings.
fn merged(
    of_file: &Tenant,
    document: &Document,
    rules: (&Settings, &SettingsConfig),
    plugins: Option<&BTreeSet<PluginName>>,
    schemas: Option<&Schemas>,
) -> Result<Tenant, Problems> {
    let (settings, own) = rules;
    let resolver = Stored {
        tenant: &of_file.name,
        document,
        own,
        being_set: None,
    };
    merged_with(of_file, document, settings, (plugins, schemas), &resolver)
}

fn merged_with(
    of_file: &Tenant,
    document: &Document,
    settings: &Settings,
    (plugins, schemas): (Option<&BTreeSet<PluginName>>, Option<&Schemas>),
    resolver: &Stored<'_>,
) -> Result<Tenant, Problems> {
    let name = &of_file.name;
    let file = File::new(title(name), document.text.clone(), Path::new(""));
    let offer = settings.offer(plugins, schemas);
    let added = file::check_settings(name, &file, &of_file.declared(), &offer, resolver)?;
    let whole = of_file.clone().with(added);
    whole.ok_or_else(|| Problems::of_one(file.name(), "a secret is not known here", "set it again"))
}

impl Config {
    /// What this configuration offers to tenants, as their files are held against it.
    fn offered(&self) -> Settings {
        Settings {
            edge: self.edge.clone(),
            worker: self.worker.clone(),
            delivery: self.delivery.clone(),
            mail: self.mail.clone(),
            mail_domains: self.mail.as_ref().map(|mail| mail.domains.clone()),
            lifecycles: self.lifecycles.clone(),
            ..Settings::default()
        }
    }

    /// The same files with these settings over them. A tenant whose settings do not fit goes on as it runs by `running`; or as it last was
    /// good; or by its file alone.
    pub(crate) fn with_settings(&self, documents: &Documents, running: Option<&Self>) -> Self {
        let settings = self.offered();
        let mut config = Self {
            tenants: self.of_files.tenants.clone(),
            broken: self.of_files.broken.clone(),
            documents: documents.clone(),
            ..self.clone()
        };
        for (name, document) in &documents.0 {
            let Some(of_file) = self.of_files.tenants.get(name) else {
                continue;
            };
            let merge = |of_file: &Tenant| merged(of_file, document, (&settings, &self.settings), None, None);
            let problems = match merge(of_file) {
                Ok(whole) => {
                    config.tenants.insert(name.clone(), whole);
                    continue;
                }
                Err(problems) => problems,
            };
            let runs = running.and_then(|running| {
                let was = running.broken.get(name.as_str()).map(|broken| broken.runs);
                let runs = match was {
                    // It does not run with its settings there either.
                    Some(Runs::FileAlone) => return None,
                    Some(Runs::LastGood { of, since }) => Runs::LastGood { of, since },
                    Some(Runs::AsWritten | Runs::Nothing) | None => {
                        let now = clock::now();
                        Runs::LastGood { of: now, since: now }
                    }
                };
                Some((running.tenants.get(name)?.clone(), runs))
            });
            let last = || {
                let (of_file, of) = self.of_files.last_good.get(name)?;
                let since = clock::now();
                Some((merge(of_file).ok()?, Runs::LastGood { of: *of, since }))
            };
            let (tenant, runs) = runs.or_else(last).unwrap_or_else(|| (of_file.clone(), Runs::FileAlone));
            config.tenants.insert(name.clone(), tenant);
            let problems = match config.broken.remove(name.as_str()) {
                Some(of_file) => of_file.problems.and(problems),
                None => problems,
            };
            config.broken.insert(name.to_string(), Broken { runs, problems });
        }
        config
    }

    /// Whether a tenant runs with the newest settings that it has.
    pub(crate) fn has_in_effect(&self, tenant: &TenantName) -> bool {
        // Where its file is wrong, settings that fit the file as it last was good are in effect.
        let of_settings = |problems: &Problems| problems.as_data().iter().any(|problem| problem.file == title(tenant));
        self.tenants.contains_key(tenant)
            && !self
                .broken
                .get(tenant.as_str())
                .is_some_and(|broken| of_settings(&broken.problems))
    }

    /// Checks settings that somebody wants to set, by all that a file is held against; `being_set` is a secret that somebody wants to set.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn check_settings(
        &self,
        of_file: &Tenant,
        document: &Document,
        being_set: Option<(&SecretName, &Secret)>,
        plugins: &BTreeSet<PluginName>,
        schemas: &Schemas,
    ) -> Result<Tenant, Problems> {
        let resolver = Stored {
            tenant: &of_file.name,
            document,
            own: &self.settings,
            being_set,
        };
        let settings = self.offered();
        merged_with(of_file, document, &settings, (Some(plugins), Some(schemas)), &resolver)
    }
}

/// What the references of settings lead to: secrets that the tenant set, and nothing of the host.
struct Stored<'s> {
    tenant: &'s TenantName,
    document: &'s Document,
    own: &'s SettingsConfig,
    /// A secret that is tried before it is kept.
    being_set: Option<(&'s SecretName, &'s Secret)>,
}

impl Stored<'_> {
    fn out_of_reach(&self, what: &str) -> Refused {
        Refused::new(
            format!("settings do not reach the host's {what}"),
            format!(
                "set the secret with `tollgate settings secret set NAME --tenant {}` and write {}; what is the host's stands in the operator's file",
                self.tenant,
                self.example()
            ),
        )
    }
}

impl Resolver for Stored<'_> {
    fn variable(&self, _: &str) -> Result<Option<Secret>, Refused> {
        Err(self.out_of_reach("environment"))
    }

    fn secret_file(&self, _: &Path) -> Result<Secret, Refused> {
        Err(self.out_of_reach("files"))
    }

    fn stored(&self, name: &SecretName) -> Result<Secret, Refused> {
        if let Some((_, secret)) = self.being_set.filter(|(being_set, _)| *being_set == name) {
            return Ok(secret.clone());
        }
        let set = format!(
            "set it with `tollgate settings secret set {name} --tenant {}`",
            self.tenant
        );
        let sealed = self.document.secrets.get(name);
        let sealed = sealed.ok_or_else(|| Refused::new(format!("no secret `{name}` was set"), set.clone()))?;
        self.own.seal_keys.open(self.tenant, sealed).map_err(|unopened| {
            Refused::new(
                format!("the secret `{name}` {unopened}"),
                format!("let the operator name its key in seal_keys of [tenants]; or {set}"),
            )
        })
    }

    fn text(&self, _: &Path, _: &str) -> Result<(String, Owner), Refused> {
        Err(Refused::new(
            "settings do not reach the host's files",
            "write provider = \"NAME\" for a provider that ships with Tollgate; a profile of one's own stands in the operator's file",
        ))
    }

    fn fetch_hosts(&self, _: &[String]) -> Result<(), Refused> {
        Ok(())
    }

    fn short_secrets(&self) -> Leave {
        self.own.short_secrets
    }

    fn example(&self) -> String {
        "{ store = \"NAME\" }".to_owned()
    }
}
