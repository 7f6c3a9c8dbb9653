//! Tenants' settings on a running host: checked whole before anything is kept, kept in one commit, and in effect before whoever set them is
//! answered. Other hosts take them over when the store says that something changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Uri;
use tollgate_api::settings::{
    Resealed, SecretView, SettingsChange, SettingsPart, SettingsView, SourceKey, UnopenedSecret, Whose,
};
use tollgate_core::ids::{PluginName, RouteName, SecretName, TenantName};
use tollgate_core::limits;
use tollgate_core::mail::MailAddress;
use tollgate_core::registry::Standing;
use tollgate_core::secret::Secret;
use tollgate_store::registry::{Act, ApiRoute, PluginVersion};
use tollgate_store::{Control, NewSettings, SealedSecret, SecretReseal, SettingsLine, SettingsPut, StoreError, Views};
use tollgate_tenants::file::{self, Way};

use super::difference::{difference, differing_parts, warnings};
use super::{Error, FileConfig, Registry, by_configuration, check, put, schema_of, schemas};
use crate::config::{self, Config, Document, Documents, Problems, Schemas, Tenant};

/// Settings that somebody wants to set.
pub(crate) struct Wanted {
    pub(crate) text: String,
    /// The version that they are made from; absent: whatever is the newest.
    pub(crate) expects: Option<u64>,
    /// The version whose text they have again.
    pub(crate) text_of: Option<u64>,
    /// A secret that is set with them, and the nonce that it is sealed with.
    pub(crate) secret: Option<(SecretName, Secret, [u8; 12])>,
    pub(crate) act: Act,
}

/// A change of settings, and the configuration that it leads to.
pub(crate) struct Planned {
    pub(crate) change: SettingsChange,
    /// As it would be, with the tenant's routes that were set by API.
    pub(crate) config: Config,
    /// Of the version that it is made from.
    document: Document,
}

/// What all tenants set, as the store has it; of whom nothing changed since `known`, that.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn documents(store: &impl Views, known: &Documents) -> Result<Documents, StoreError> {
    let mut documents = BTreeMap::new();
    // Looked at before the rest is read: what changes meanwhile has it read again.
    for (tenant, changes) in store.settings_changes().await? {
        let same = known.0.get(&tenant).filter(|known| known.changes == changes);
        let document = match same {
            Some(same) => Arc::clone(same),
            None => Arc::new(document(store, &tenant, changes).await?),
        };
        documents.insert(tenant, document);
    }
    Ok(Documents(documents))
}

async fn document(store: &impl Views, tenant: &TenantName, changes: u64) -> Result<Document, StoreError> {
    let newest = store.settings(tenant.clone(), None).await?;
    let (version, text) = newest.map_or_else(Default::default, |newest| (newest.line.version, newest.text));
    let secrets = store.sealed_secrets(tenant.clone()).await?;
    let secrets = secrets.into_iter().map(|secret| (secret.view.name.clone(), secret));
    Ok(Document {
        changes,
        version,
        text,
        secrets: secrets.collect(),
    })
}

/// A configuration of files alone with what tenants set by API, as a host that starts now would have it.
///
/// # Errors
/// When the store cannot be read.
pub async fn with_settings(store: &impl Views, config: &Config) -> Result<Config, StoreError> {
    let documents = documents(store, &Documents::default()).await?;
    Ok(config.with_settings(&documents, None))
}

impl<S: Views + Control> Registry<S> {
    /// Takes over what tenants set since the host looked last. Returns whether there was something.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn take_over_settings(&self) -> Result<bool, StoreError> {
        let files = self.files.load_full();
        if !self.is_behind(&files).await? {
            return Ok(false);
        }
        let documents = documents(&self.store, &files.config.documents).await?;
        let config = files.config.with_settings(&documents, Some(&files.config));
        for (tenant, broken) in &config.broken {
            if !files.config.broken.contains_key(tenant) {
                let problems = broken.problems.in_words();
                tracing::error!(%tenant, problems, "the tenant's settings do not fit its file on this host; they are set aside");
            }
        }
        self.files.store(Arc::new(FileConfig {
            config,
            plugins: files.plugins.clone(),
        }));
        Ok(true)
    }

    /// Whether tenants set something that the configuration of now does not have.
    async fn is_behind(&self, files: &FileConfig) -> Result<bool, StoreError> {
        let known = &files.config.documents.0;
        let changes = self.store.settings_changes().await?;
        let is_known =
            |tenant: &TenantName, changes: u64| known.get(tenant).is_some_and(|known| known.changes == changes);
        Ok(changes.len() != known.len() || !changes.iter().all(|(tenant, changes)| is_known(tenant, *changes)))
    }

    /// Takes over what others changed, so that a change is held against what is there now: a host that shares its store hears of it a moment
    /// later.
    async fn catch_up(&self, as_new_as: &mut u64) -> Result<(), StoreError> {
        let files = self.files.load_full();
        let number = *self.changes.borrow();
        if number != *as_new_as || self.is_behind(&files).await? {
            self.refresh(by_configuration(), as_new_as).await?;
        }
        Ok(())
    }

    /// Lets routes that run nothing yet begin with what the files or the registry have under their plugin's name.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) async fn bind_new_routes(&self) -> Result<(), StoreError> {
        let files = self.files.load_full();
        let bindings = self.store.bindings(None).await?;
        let by_api: BTreeSet<_> = self.api_route_names().await?;
        let runs = |tenant: &TenantName, route: &RouteName, plugin: &PluginName| {
            bindings
                .iter()
                .any(|bound| bound.tenant == *tenant && bound.route == *route && bound.binding.plugin == *plugin)
        };
        let pushed = self.newly_named(&files).await?;
        let new: Vec<_> = files
            .routes()
            .filter(|route| !runs(&route.tenant, &route.route, &route.plugin))
            .chain(pushed)
            .filter(|route| !by_api.contains(&(route.tenant.clone(), route.route.clone())))
            .collect();
        if !new.is_empty() {
            let _ = self.store.follow_configuration(new, by_configuration()).await?;
        }
        Ok(())
    }

    async fn api_route_names(&self) -> Result<BTreeSet<(TenantName, RouteName)>, StoreError> {
        let routes = self.store.api_routes().await?;
        Ok(routes.into_iter().map(|api| (api.tenant, api.route)).collect())
    }

    /// Says what settings would change, and checks them by all that they would be held against.
    ///
    /// # Errors
    /// When they cannot be set as they are.
    pub(crate) async fn plan_settings(&self, tenant: &TenantName, wanted: &Wanted) -> Result<Planned, Error> {
        // Others may have set secrets that these refer to.
        let mut changing = self.changing.lock().await;
        self.catch_up(&mut changing).await?;
        self.planned(tenant, wanted).await
    }

    async fn planned(&self, tenant: &TenantName, wanted: &Wanted) -> Result<Planned, Error> {
        let files = self.files.load_full();
        let of_file = files.of_file(tenant)?;
        let document = files.document(tenant);
        if let Some(expects) = wanted.expects.filter(|expects| *expects != document.version) {
            return Err(self.overtaken(tenant, expects).await?);
        }
        bounded(&wanted.text)?;
        let next = Document {
            text: wanted.text.clone(),
            ..document.clone()
        };
        let versions = self.published().await?;
        if let Some((name, ..)) = &wanted.secret {
            room_for(&document, name)?;
            if document.secrets.contains_key(name) {
                return Err(Error::File(format!(
                    "there is a secret `{name}` already, which other settings may use; take another name, or replace it by itself"
                )));
            }
            if !file::secrets_used(&wanted.text).contains_key(name) || document.text == wanted.text {
                return Err(Error::File(format!(
                    "these settings bring no use of the secret `{name}`; name it where it is used, or set it by itself"
                )));
            }
            if files.config.settings.seal_keys.is_empty() {
                return Err(Error::NoSealKey);
            }
        }
        let being_set = wanted.secret.as_ref().map(|(name, secret, _)| (name, secret));
        let whole = self.checked(&files, of_file, &next, being_set, &versions).await?;
        let api_routes = self.store.api_routes().await?;
        let of_tenant = || api_routes.iter().filter(|api| api.tenant == *tenant);
        let mut config = files.config.clone();
        config.tenants.insert(tenant.clone(), whole);
        let routes = still_fit(&files.config, &config, of_tenant(), &versions)?;
        for route in routes {
            put(&mut config, tenant, route);
        }
        let changes = differing_parts(&document.text, &wanted.text);
        let is_same = document.text == wanted.text;
        Ok(Planned {
            change: SettingsChange {
                tenant: tenant.clone(),
                dry_run: wanted.act.dry_run,
                was: document.version,
                version: if is_same {
                    document.version
                } else {
                    document.version + 1
                },
                warnings: warnings(tenant, &changes),
                changes,
                difference: difference(&document.text, &wanted.text),
                tried: None,
            },
            config,
            document,
        })
    }

    /// Sets a tenant's settings: on `Ok` they are in the store and in effect here, or they were so already.
    ///
    /// # Errors
    /// When they cannot be set as they are, or somebody was faster. Nothing is changed then.
    pub(crate) async fn set_settings(&self, tenant: &TenantName, wanted: Wanted) -> Result<SettingsChange, Error> {
        let mut changing = self.changing.lock().await;
        self.catch_up(&mut changing).await?;
        let planned = self.planned(tenant, &wanted).await?;
        if planned.change.version == planned.change.was {
            return Ok(planned.change);
        }
        let expects = planned.document.version;
        let sealed = wanted.secret.as_ref().map(|(name, secret, nonce)| {
            let files = self.files.load_full();
            let sealed = files.config.settings.seal_keys.seal(tenant, name, secret, *nonce);
            let sealed = sealed.ok_or(Error::NoSealKey)?;
            Ok::<_, Error>(sealed_secret(name, sealed, &wanted.act))
        });
        let new = NewSettings {
            tenant: tenant.clone(),
            text: wanted.text,
            expects,
            text_of: wanted.text_of,
            secret: sealed.transpose()?,
            actor: wanted.act.actor.clone(),
            why: wanted.act.why.clone().unwrap_or_default(),
            now: wanted.act.at,
        };
        match self.store.put_settings(new).await? {
            SettingsPut::Kept(line) => {
                self.refresh(wanted.act, &mut changing).await?;
                Ok(SettingsChange {
                    version: line.version,
                    ..planned.change
                })
            }
            SettingsPut::Overtaken(newest) => Err(overtaken(expects, newest.as_ref())),
        }
    }

    async fn overtaken(&self, tenant: &TenantName, expects: u64) -> Result<Error, StoreError> {
        let newest = self.store.settings_versions(tenant.clone(), 1).await?.pop();
        Ok(overtaken(expects, newest.as_ref()))
    }

    /// Keeps a secret, sealed with `nonce`, if what refers to it can be verified or signed with it. Returns whether there was one of the
    /// name, and what uses it.
    ///
    /// # Errors
    /// When it does not fit, or the operator has named no key. Nothing is changed then.
    pub(crate) async fn set_secret(
        &self,
        tenant: &TenantName,
        name: &SecretName,
        secret: &Secret,
        nonce: [u8; 12],
        act: Act,
    ) -> Result<(bool, Vec<String>), Error> {
        let mut changing = self.changing.lock().await;
        self.catch_up(&mut changing).await?;
        let files = self.files.load_full();
        let of_file = files.of_file(tenant)?;
        let keys = &files.config.settings.seal_keys;
        let sealed = keys.seal(tenant, name, secret, nonce);
        let sealed = sealed.ok_or(Error::NoSealKey)?;
        let document = files.document(tenant);
        let was_there = document.secrets.contains_key(name);
        room_for(&document, name)?;
        let used_by = used_by(&document, name);
        if !used_by.is_empty() {
            let versions = self.published().await?;
            self.checked(&files, of_file, &document, Some((name, secret)), &versions)
                .await?;
        }
        if act.dry_run {
            return Ok((was_there, used_by));
        }
        let secret = sealed_secret(name, sealed, &act);
        let was_there = self.store.put_secret(tenant.clone(), secret).await?;
        self.refresh(act, &mut changing).await?;
        Ok((was_there, used_by))
    }

    /// Removes a secret that nothing uses. Returns whether there was one.
    ///
    /// # Errors
    /// When the newest settings refer to it.
    pub(crate) async fn remove_secret(&self, tenant: &TenantName, name: &SecretName, act: Act) -> Result<bool, Error> {
        let mut changing = self.changing.lock().await;
        self.catch_up(&mut changing).await?;
        let document = self.files.load_full().document(tenant);
        let used_by = used_by(&document, name);
        if !used_by.is_empty() {
            return Err(Error::File(format!(
                "the secret `{name}` is used by {}; take it out of the settings first",
                used_by.join(", ")
            )));
        }
        if act.dry_run {
            return Ok(document.secrets.contains_key(name));
        }
        let was_there = self
            .store
            .remove_secret(tenant.clone(), name.clone(), act.clone())
            .await?;
        self.refresh(act, &mut changing).await?;
        Ok(was_there)
    }

    /// Seals all tenants' secrets under the newest key, those that are sealed with another one. `random` makes a nonce for each.
    ///
    /// # Errors
    /// When the operator has named no key, there is no randomness, or the store fails. What was sealed before stays so: it can be done again.
    pub(crate) async fn reseal_secrets(
        &self,
        random: impl Fn() -> Option<[u8; 12]>,
        act: Act,
    ) -> Result<Resealed, Error> {
        let mut changing = self.changing.lock().await;
        self.catch_up(&mut changing).await?;
        let files = self.files.load_full();
        let keys = &files.config.settings.seal_keys;
        let newest = keys.newest().ok_or(Error::NoSealKey)?.to_owned();
        let mut resealed = Resealed {
            dry_run: act.dry_run,
            sealed_with: newest.clone(),
            ..Resealed::default()
        };
        // Of tenants that this host does not run as well: their secrets would be lost with the old key.
        let tenants: Vec<_> = self.store.settings_changes().await?.into_keys().collect();
        for tenant in tenants {
            for secret in self.store.sealed_secrets(tenant.clone()).await? {
                let name = secret.view.name.clone();
                if secret.view.sealed_with == newest {
                    resealed.unchanged += 1;
                    continue;
                }
                let text = match keys.open(&tenant, &secret) {
                    Ok(text) => text,
                    Err(unopened) => {
                        resealed.unopened.push(UnopenedSecret {
                            tenant: tenant.clone(),
                            secret: name,
                            why: format!("it {unopened}"),
                        });
                        continue;
                    }
                };
                if act.dry_run {
                    resealed.resealed += 1;
                    continue;
                }
                let nonce = random().ok_or_else(|| Error::File("the system has no randomness now".to_owned()))?;
                let (sealed, sealed_with) = keys.seal(&tenant, &name, &text, nonce).ok_or(Error::NoSealKey)?;
                let reseal = SecretReseal {
                    name,
                    was: secret.sealed,
                    sealed,
                    sealed_with,
                };
                let is_done = self.store.reseal_secret(tenant.clone(), reseal, act.clone()).await?;
                resealed.resealed += u64::from(is_done);
                resealed.overtaken += u64::from(!is_done);
            }
        }
        if resealed.resealed > 0 && !act.dry_run {
            self.refresh(act, &mut changing).await?;
        }
        Ok(resealed)
    }

    /// A tenant's secrets, without what they are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn secrets(&self, tenant: &TenantName) -> Result<Vec<SecretView>, Error> {
        let files = self.files.load_full();
        files.of_file(tenant)?;
        let secrets = self.store.sealed_secrets(tenant.clone()).await?;
        let newest = self.store.settings(tenant.clone(), None).await?;
        let mut used = file::secrets_used(newest.as_ref().map_or("", |newest| newest.text.as_str()));
        let shown = secrets.into_iter().map(|secret| SecretView {
            opens: Some(files.config.settings.seal_keys.has(&secret.view.sealed_with)),
            used_by: used.remove(&secret.view.name).unwrap_or_default().into_iter().collect(),
            ..secret.view
        });
        Ok(shown.collect())
    }

    /// A tenant's configuration as it is in effect here, and its newest settings.
    ///
    /// # Errors
    /// When there is no such tenant, or the store cannot be read.
    pub(crate) async fn settings(&self, tenant: &TenantName) -> Result<SettingsView, Error> {
        let config = self.config.load_full();
        let Some(of_file) = config.of_files.tenants.get(tenant) else {
            return Err(Error::NoTenant(tenant.clone()));
        };
        let newest = self.store.settings(tenant.clone(), None).await?;
        let by_api = self.api_route_names().await?;
        let version = newest.as_ref().map_or(0, |newest| newest.line.version);
        let known = config.documents.0.get(tenant).map_or(0, |document| document.version);
        let runs = config.tenants.get(tenant).unwrap_or(of_file);
        let whose = |is_of_file: bool| if is_of_file { Whose::File } else { Whose::Settings };
        let route = |route: &config::Route| SettingsPart {
            name: route.name.to_string(),
            whose: if by_api.contains(&(tenant.clone(), route.name.clone())) {
                Whose::Route
            } else {
                whose(of_file.routes.iter().any(|known| known.name == route.name))
            },
            says: match route.forward {
                Some(form) => format!("forward ({form})"),
                None => route.plugin.to_string(),
            },
            to: route.destinations.iter().map(ToString::to_string).collect(),
            url: None,
            keys: Vec::new(),
        };
        // What runs is made of the settings that this host knows, which are not always the newest.
        let document = config.documents.0.get(tenant);
        let stored = document.map_or_else(BTreeMap::new, |known| file::source_secrets(&known.text));
        let set_at: BTreeMap<_, _> = document
            .into_iter()
            .flat_map(|known| known.secrets.iter())
            .map(|(name, secret)| (name.clone(), secret.view.at))
            .collect();
        let line = newest.as_ref().map(|newest| &newest.line);
        Ok(SettingsView {
            tenant: tenant.clone(),
            version,
            at: line.map(|line| line.at.to_string()),
            actor: line.map(|line| line.actor.clone()),
            why: line.map(|line| line.why.clone()),
            in_effect: version == known && config.has_in_effect(tenant),
            problems: config.broken.get(tenant.as_str()).map_or_else(Vec::new, |broken| {
                let problems = broken.problems.as_data().iter();
                // Of the operator's file, a tenant is told that it is wrong, and not what stands in it.
                let own = problems.clone().filter(|problem| problem.file == config::title(tenant));
                let mut said: Vec<_> = own.map(field_problem).collect();
                if said.len() < problems.len() {
                    said.push(tollgate_api::FieldProblem {
                        field: None,
                        message: "the operator's file of this tenant is wrong; the tenant runs as it last was good"
                            .to_owned(),
                        help: "tell the operator".to_owned(),
                        line: None,
                        column: None,
                    });
                }
                said
            }),
            takes_secrets: !config.settings.seal_keys.is_empty(),
            sources: runs
                .sources
                .values()
                .map(|source| SettingsPart {
                    name: source.name.to_string(),
                    whose: whose(of_file.sources.contains_key(&source.name)),
                    says: source.profile.name.to_string(),
                    to: vec![format!("/in/{tenant}/{}", source.name)],
                    url: pasted_url(
                        source.public_url.as_deref(),
                        config.edge.public_url.as_deref(),
                        &format!("/in/{tenant}/{}", source.name),
                    ),
                    keys: source
                        .secrets
                        .iter()
                        .map(|key| {
                            let named = (source.name.to_string(), key.id.to_string());
                            let secret = stored.get(&named).cloned();
                            let since = secret.as_ref().and_then(|secret| set_at.get(secret));
                            SourceKey {
                                id: key.id.to_string(),
                                not_before: key.not_before.map(|at| at.to_string()),
                                not_after: key.not_after.map(|at| at.to_string()),
                                since: since.map(ToString::to_string),
                                secret,
                            }
                        })
                        .collect(),
                })
                .collect(),
            routes: runs.routes.iter().map(|known| route(known)).collect(),
            destinations: runs
                .destinations
                .iter()
                .map(|(name, destination)| SettingsPart {
                    name: name.to_string(),
                    whose: whose(of_file.destinations.contains_key(name)),
                    says: match &destination.way {
                        Way::Pulled => "pulled by its owner".to_owned(),
                        Way::Mailed(to) => {
                            let to: Vec<_> = to.iter().map(MailAddress::as_str).collect();
                            format!("e-mail to {}", to.join(", "))
                        }
                        // What stands behind a host may be a secret of the operator's.
                        Way::Sent(url) if of_file.destinations.contains_key(name) => origin(url),
                        Way::Sent(url) => url.clone(),
                    },
                    to: Vec::new(),
                    url: None,
                    keys: Vec::new(),
                })
                .collect(),
            text: newest.map(|newest| newest.text).unwrap_or_default(),
        })
    }

    /// Checks settings by all that a file is held against.
    async fn checked(
        &self,
        files: &FileConfig,
        of_file: &Tenant,
        document: &Document,
        being_set: Option<(&SecretName, &Secret)>,
        versions: &[PluginVersion],
    ) -> Result<Tenant, Error> {
        let visible = versions.iter().filter(|version| {
            version.standing == Standing::Published && version.owner.as_ref().is_none_or(|owner| *owner == of_file.name)
        });
        let plugins = visible
            .map(|version| version.name.clone())
            .chain(files.config.plugins.keys().cloned())
            .collect();
        let mut schemas = schemas(versions, &self.store.bindings(None).await?);
        for version in versions {
            if files.plugins.get(&version.name) == Some(&version.digest) {
                schemas.files.insert(version.name.clone(), schema_of(version));
            }
        }
        let checked = files
            .config
            .check_settings(of_file, document, being_set, &plugins, &schemas);
        checked.map_err(Error::Settings)
    }
}

impl FileConfig {
    fn of_file(&self, name: &TenantName) -> Result<&Tenant, Error> {
        let tenants = &self.config.of_files.tenants;
        tenants.get(name).ok_or_else(|| Error::NoTenant(name.clone()))
    }

    fn document(&self, tenant: &TenantName) -> Document {
        let known = self.config.documents.0.get(tenant);
        known.map_or_else(Document::empty, |known| Document::clone(known))
    }
}

/// A problem as a call says it.
/// The URL that a provider is given: the source's own, which is whole where it has a path, or the host's with the source's path.
fn pasted_url(of_source: Option<&str>, of_host: Option<&str>, path: &str) -> Option<String> {
    let base = of_source.or(of_host)?;
    let is_whole = of_source.is_some() && base.parse::<Uri>().is_ok_and(|url| url.path() != "/");
    Some(match is_whole {
        true => base.to_owned(),
        false => format!("{}{path}", base.trim_end_matches('/')),
    })
}

pub(crate) fn field_problem(problem: &file::Problem) -> tollgate_api::FieldProblem {
    tollgate_api::FieldProblem {
        field: problem.field.clone(),
        message: problem.message.clone(),
        help: problem.help.clone(),
        line: problem.line.map(|line| line as u64),
        column: problem.column.map(|column| column as u64),
    }
}

/// # Errors
/// When the tenant has as many secrets as may be, and this one is new.
fn room_for(document: &Document, name: &SecretName) -> Result<(), Error> {
    let count = document.secrets.len();
    if document.secrets.contains_key(name) || count < limits::SETTINGS_SECRETS_MAX {
        return Ok(());
    }
    Err(Error::File(format!(
        "the tenant has {count} secrets, which is the most; remove those that nothing uses"
    )))
}

/// A secret as it is kept, from what it is sealed as and the name of the key.
fn sealed_secret(name: &SecretName, (sealed, sealed_with): (Vec<u8>, String), act: &Act) -> SealedSecret {
    SealedSecret {
        view: SecretView {
            name: name.clone(),
            at: act.at,
            actor: act.actor.clone(),
            why: act.why.clone().unwrap_or_default(),
            sealed_with,
            opens: None,
            used_by: Vec::new(),
        },
        sealed,
    }
}

/// # Errors
/// When the text is no settings, whatever it says.
fn bounded(text: &str) -> Result<(), Error> {
    let wrong = |message: String, help: &str| Err(Error::Settings(Problems::of_one("settings", &message, help)));
    if text.len() > limits::SETTINGS_BYTES_MAX {
        let message = format!(
            "{} bytes; settings have at most {}",
            text.len(),
            limits::SETTINGS_BYTES_MAX
        );
        return wrong(
            message,
            "shorten them, or let the operator put a part into the tenant's file",
        );
    }
    if text.contains('\0') {
        return wrong("a NUL byte stands in them".to_owned(), "send TOML");
    }
    Ok(())
}

fn overtaken(expects: u64, newest: Option<&SettingsLine>) -> Error {
    let newest = newest.map_or_else(
        || "there is none yet".to_owned(),
        |line| {
            format!(
                "the newest is {}, set at {} by {}: {}",
                line.version, line.at, line.actor, line.why
            )
        },
    );
    Error::Overtaken(format!(
        "version {expects} is not the newest any more: {newest}; read the settings again and make the change there"
    ))
}

/// The tenant's routes that were set by API, as they fit the configuration that is to be.
///
/// # Errors
/// When one that fits the configuration of now would not.
fn still_fit<'r>(
    now: &Config,
    next: &Config,
    routes: impl Iterator<Item = &'r ApiRoute>,
    versions: &[PluginVersion],
) -> Result<Vec<config::Route>, Error> {
    let mut fitting = Vec::new();
    for api in routes {
        match check(next, api, versions, Schemas::default()) {
            Ok(route) => fitting.push(route),
            Err(unfit) if check(now, api, versions, Schemas::default()).is_ok() => {
                let message = format!(
                    "the route `{}`, which was set by API, would not fit: {unfit}",
                    api.route
                );
                let help =
                    "leave what it names, or change the route first: `tollgate route set`, `tollgate route remove`";
                return Err(Error::Settings(Problems::of_one(
                    &config::title(&api.tenant),
                    &message,
                    help,
                )));
            }
            Err(_) => {}
        }
    }
    Ok(fitting)
}

/// A URL without its path and what follows.
pub(crate) fn origin(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url.get(host..).and_then(|rest| rest.find(['/', '?'])) {
        Some(end) if url.len() > host + end + 1 => format!("{}/…", url.get(..host + end).unwrap_or_default()),
        Some(_) | None => url.to_owned(),
    }
}

fn used_by(document: &Document, name: &SecretName) -> Vec<String> {
    let used = file::secrets_used(&document.text).remove(name);
    used.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o14_the_url_that_is_pasted_is_the_sources_own_or_the_hosts_with_the_path() {
        for (of_source, of_host, expect) in [
            (None, None, None),
            (
                None,
                Some("https://hooks.example"),
                Some("https://hooks.example/in/acme/a"),
            ),
            (
                None,
                Some("https://x.example/hooks"),
                Some("https://x.example/hooks/in/acme/a"),
            ),
            (
                Some("https://own.example"),
                Some("https://hooks.example"),
                Some("https://own.example/in/acme/a"),
            ),
            (
                Some("https://own.example/"),
                None,
                Some("https://own.example/in/acme/a"),
            ),
            (
                Some("https://own.example/there?a=1"),
                Some("https://hooks.example"),
                Some("https://own.example/there?a=1"),
            ),
        ] {
            assert_eq!(pasted_url(of_source, of_host, "/in/acme/a").as_deref(), expect);
        }
    }
}
