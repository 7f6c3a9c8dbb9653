//! The registry of a running host: takes plugins in, says what each route runs, and changes it without a restart.
//!
//! Cast: the store keeps versions, bindings and routes; the `Shelf` holds the plugins that routes run, compiled; `Registry` makes
//! of the files and the store the one [`Config`] that edge and worker look at. A change is one commit in the store and then one swap
//! of that configuration, so a job sees a route, its settings and its binding of one moment.
//!
//! Guarantee: what a change answered is in the store, and every job that is claimed afterwards sees it.

mod difference;
mod settings;
mod shelf;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tollgate_api::plugins::SetBy;
use tollgate_core::forward;
use tollgate_core::ids::{PluginDigest, PluginName, RouteName, TenantName};
use tollgate_core::limits;
use tollgate_core::manifest::Manifest;
use tollgate_core::registry::{Change, PromotionGate, Refused, Standing};
use tollgate_core::signature::{PluginSignature, SignatureError};
use tollgate_sandbox::{Plugin, Proven, Refusal, Sandbox, VetReport};
use tollgate_store::registry::{
    Act, ApiRoute, BindingChange, BoundRoute, ChangeRequest, ConfiguredRoute, NamespaceChange, NewVersion,
    PluginVersion, RouteNamespace, SetRoute, StepRequest, VersionFilter,
};
use tollgate_store::{Changes, Control, StoreError, Topic, Views};

use crate::clock;
use crate::config::{
    self, Broken, Config, Documents, Kept, OfFiles, Problems, Published, Route, Runs, Schemas, Settled, Tenant,
    VersionSchema,
};
pub use settings::with_settings;
pub(crate) use settings::{Wanted, field_problem, origin};
pub(crate) use shelf::Shelf;
pub(crate) use turns::{Turn, Turns};

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules say no.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// Vetting refuses the component.
    #[error("{0}")]
    Vetting(#[from] Refusal),
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// The definition of a route says no.
    #[error("the route's definition cannot be used")]
    Definition(Problems),
    /// Settings say no.
    #[error("the settings cannot be used")]
    Settings(Problems),
    /// Somebody else changed it first.
    #[error("{0}")]
    Overtaken(String),
    #[error(
        "secrets cannot be set here: the operator has named no key that they are sealed with; add seal_keys = [{{ env = \"TOLLGATE_SEAL_KEY\" }}] \
         to [tenants] in tollgate.toml (`openssl rand -hex 32` makes one), and start the host again with that variable"
    )]
    NoSealKey,
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantName),
    /// Only the configuration file can do this.
    #[error("{0}")]
    File(String),
    #[error("other uploads are being vetted; try again in a minute")]
    Busy,
}

/// A component that is uploaded, with what belongs to it.
pub(crate) struct Upload {
    /// Absent: the operator's, for every tenant.
    pub(crate) owner: Option<TenantName>,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) signature: Option<PluginSignature>,
    pub(crate) act: Act,
}

/// A route as a caller sees it.
pub(crate) struct LiveRoute {
    pub(crate) route: Arc<Route>,
    /// The definition that was set by API.
    pub(crate) api: Option<ApiRoute>,
    /// Where its definition stands.
    pub(crate) set_by: SetBy,
}

pub(crate) struct Registry<S> {
    store: S,
    sandbox: Sandbox,
    /// The configuration as the files say it.
    files: ArcSwap<FileConfig>,
    /// The configuration with bindings and routes set by API, which everybody else looks at.
    config: Arc<ArcSwap<Config>>,
    shelf: Arc<Shelf<S>>,
    /// The store's changes of what the registry reads.
    changes: watch::Receiver<u64>,
    /// Changes go one by one, so that no older state is swapped in over a newer one. The number of changes that the configuration of
    /// now is as new as.
    changing: tokio::sync::Mutex<u64>,
    /// One component is vetted at a time: it is the most that a caller can make the host compute.
    vetting: Turns,
}

/// What the files say, with the digests of the plugins that they name.
struct FileConfig {
    config: Config,
    plugins: BTreeMap<PluginName, PluginDigest>,
}

/// A configuration whose plugins were read and compiled, ready to be adopted.
pub(crate) struct Loaded {
    config: Config,
    versions: Vec<NewVersion>,
    good: BTreeMap<TenantName, Kept>,
}

impl Loaded {
    /// The tenants that are as their files say.
    pub(crate) fn good(&self) -> &BTreeMap<TenantName, Kept> {
        &self.good
    }
}

/// What the registry offers to tenants' files.
///
/// # Errors
/// When the store cannot be read.
pub async fn published(store: &impl Views) -> Result<Published, StoreError> {
    let versions = store.plugin_versions(VersionFilter::default()).await?;
    let schemas = schemas(&versions, &store.bindings(None).await?);
    let published = versions
        .into_iter()
        .filter(|version| version.standing == Standing::Published)
        .map(|version| (version.owner, version.name));
    Ok(Published::Known {
        names: published.collect(),
        schemas,
        documents: settings::documents(store, &Documents::default()).await?,
    })
}

/// What versions say of their configurations: those that a person bound to a route, and the newest that are published. `versions` are
/// the newest first.
fn schemas(versions: &[PluginVersion], bindings: &[BoundRoute]) -> Schemas {
    let mut schemas = Schemas::default();
    for version in versions
        .iter()
        .filter(|version| version.standing == Standing::Published)
    {
        let whose = (version.owner.clone(), version.name.clone());
        schemas.newest.entry(whose).or_insert_with(|| schema_of(version));
    }
    for bound in bindings.iter().filter(|bound| bound.binding.by_hand) {
        let runs = |digest: PluginDigest| versions.iter().find(|version| version.digest == digest).map(schema_of);
        let canary = bound.binding.canary.as_ref().map(|canary| canary.digest);
        let route = (bound.tenant.clone(), bound.route.clone(), bound.binding.plugin.clone());
        let running = std::iter::once(bound.binding.active).chain(canary);
        schemas.bound.insert(route, running.filter_map(runs).collect());
    }
    schemas
}

/// The schema of a version that was vetted; none where its manifest cannot be read any more.
fn schema_of(version: &PluginVersion) -> VersionSchema {
    let manifest = Manifest::from_json(version.manifest.to_string().as_bytes()).ok();
    VersionSchema::of(
        version.version.clone(),
        manifest.and_then(|manifest| manifest.configuration),
    )
}

/// Reads the plugins that the files name. Takes as long as compiling takes.
///
/// # Errors
/// As [`read_plugins`].
pub(crate) fn load<S: Views>(shelf: &Shelf<S>, sandbox: &Sandbox, settled: Settled) -> anyhow::Result<Loaded> {
    let Settled { config, good } = settled;
    let mut versions = Vec::new();
    for (version, plugin) in read_plugins(sandbox, &config)? {
        tracing::info!(plugin = %version.name, digest = %version.digest, "plugin loaded");
        shelf.put(plugin);
        versions.push(version);
    }
    Ok(Loaded { config, versions, good })
}

/// The plugins that the files name, compiled, and as the registry takes them in.
///
/// # Errors
/// The first plugin that cannot be read, is refused by the sandbox, or has another digest than the configuration pins.
pub fn read_plugins(sandbox: &Sandbox, config: &Config) -> anyhow::Result<Vec<(NewVersion, Plugin)>> {
    let mut plugins = Vec::new();
    for (name, configured) in &config.plugins {
        let path = configured.path.display();
        let version = (|| {
            let bytes = std::fs::read(&configured.path).with_context(|| format!("cannot read {path}"))?;
            let plugin = sandbox.load(&bytes).with_context(|| format!("{path} was refused"))?;
            let digest = plugin.digest();
            if let Some(pinned) = configured.digest
                && digest != pinned
            {
                anyhow::bail!("{path} has digest {digest}, but the configuration pins {pinned}");
            }
            let manifest = plugin.manifest().context("the plugin has no manifest")?;
            let version = NewVersion {
                owner: None,
                digest,
                bytes: bytes.into(),
                name: name.clone(),
                version: manifest.version.clone(),
                publisher: manifest.publisher.clone(),
                manifest_json: manifest.to_json(),
                report_json: serde_json::json!({ "from": "configuration" }).to_string(),
                signature: None,
                published: true,
            };
            anyhow::Ok((version, plugin))
        })();
        plugins.push(version.with_context(|| format!("plugin `{name}`"))?);
    }
    Ok(plugins)
}

/// The line of history for what the files say.
fn by_configuration() -> Act {
    Act {
        actor: "configuration".to_owned(),
        why: None,
        at: clock::now(),
        dry_run: false,
    }
}

impl<S: Views + Control> Registry<S> {
    /// Starts with what the files and the store say of sources and routes, and without plugins: enough to take events in, not to
    /// run their jobs. [`Self::begin`] adds the plugins.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn start(
        store: S,
        sandbox: Sandbox,
        shelf: Arc<Shelf<S>>,
        config: Config,
    ) -> Result<Self, StoreError>
    where
        S: Changes,
    {
        let registry = Self {
            files: ArcSwap::from_pointee(FileConfig {
                config: config.clone(),
                plugins: BTreeMap::new(),
            }),
            config: Arc::new(ArcSwap::from_pointee(config)),
            changes: store.subscribe(Topic::Registry),
            changing: tokio::sync::Mutex::default(),
            store,
            sandbox,
            shelf,
            vetting: Turns::default(),
        };
        let (config, _) = registry.assembled().await?;
        registry.config.store(Arc::new(config));
        Ok(registry)
    }

    /// Adds the plugins that the files name, loaded. A route set by API that does not fit the files any more is left out and said
    /// aloud: it can be mended by API only when the host is up.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) async fn begin(&self, loaded: Loaded) -> Result<(), StoreError> {
        let mut changing = self.changing.lock().await;
        self.follow(loaded).await?;
        self.refresh(by_configuration(), &mut changing).await?;
        Ok(())
    }

    /// The configuration by which a job is routed and run.
    pub(crate) fn config(&self) -> Arc<ArcSwap<Config>> {
        Arc::clone(&self.config)
    }

    pub(crate) fn shelf(&self) -> Arc<Shelf<S>> {
        Arc::clone(&self.shelf)
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Adopts what the files say now. A tenant whose file is wrong, or in which a route that was set by API does not fit any more,
    /// stays as it runs; `config().broken` says so. Returns the tenants that are as their files say.
    ///
    /// # Errors
    /// When the store does not take it; then nothing has changed.
    pub(crate) async fn adopt(&self, mut loaded: Loaded) -> anyhow::Result<BTreeMap<TenantName, Kept>> {
        let mut changing = self.changing.lock().await;
        let versions = self.published().await?;
        let running = self.files.load_full();
        loaded.stay_where_broken(&running.config.of_files);
        let documents = settings::documents(&self.store, &running.config.documents).await?;
        loaded.lay_over(&documents, &running.config);
        for api in self.store.api_routes().await? {
            let Err(problem) = check(&loaded.config, &api, &versions, Schemas::default()) else {
                continue;
            };
            // One that does not fit what runs either is left out there as well: keeping the old file would mend nothing.
            let fitted = check(&running.config, &api, &versions, Schemas::default()).is_ok();
            let old = running.config.of_files.tenants.get(&api.tenant);
            if let Some(old) = old.filter(|_| fitted) {
                let message = format!(
                    "the route `{}`, which was set by API, does not fit: {problem}",
                    api.route
                );
                let help = "mend the file, or change the route: `tollgate route set`, `tollgate route remove`";
                let problems = Problems::of_one(&format!("tenants/{}.toml", api.tenant), &message, help);
                loaded.stay(old.clone(), problems);
                loaded.lay_over(&documents, &running.config);
            }
        }
        let good = loaded.good.clone();
        self.follow(loaded).await?;
        self.refresh(by_configuration(), &mut changing).await?;
        Ok(good)
    }

    /// Takes the files' plugins into the registry, and lets routes that nobody bound by hand follow the files.
    async fn follow(&self, loaded: Loaded) -> Result<(), StoreError> {
        let mut plugins = BTreeMap::new();
        for version in loaded.versions {
            plugins.insert(version.name.clone(), version.digest);
            if let Err(refused) = self.store.add_version(version, by_configuration()).await? {
                tracing::error!(%refused, "a plugin of the configuration is not taken into the registry");
            }
        }
        let files = FileConfig {
            config: loaded.config,
            plugins,
        };
        let set_by_api: BTreeSet<_> = self
            .store
            .api_routes()
            .await?
            .into_iter()
            .map(|api| (api.tenant, api.route))
            .collect();
        let pushed = self.newly_named(&files).await?;
        let routes = files
            .routes()
            .filter(|route| !set_by_api.contains(&(route.tenant.clone(), route.route.clone())))
            .chain(pushed)
            .collect();
        for left in self.store.follow_configuration(routes, by_configuration()).await? {
            tracing::error!(
                tenant = %left.tenant, route = %left.route, plugin = %left.plugin, digest = %left.digest,
                "the configuration names a version that is retired; the route keeps what it ran"
            );
        }
        self.files.store(Arc::new(files));
        Ok(())
    }

    /// Routes of the files that name a pushed plugin and run nothing of that name yet: they begin with the newest version that is
    /// published to the tenant. From then on they are bound like any other, and a reload changes nothing. A tenant with a gate binds
    /// its versions itself.
    async fn newly_named(&self, files: &FileConfig) -> Result<Vec<ConfiguredRoute>, StoreError> {
        let bindings = self.store.bindings(None).await?;
        let bound = |tenant: &TenantName, route: &Route| {
            bindings.iter().any(|bound| {
                bound.tenant == *tenant && bound.route == route.name && bound.binding.plugin == route.plugin
            })
        };
        let versions = self.published().await?;
        let mut newly = Vec::new();
        for tenant in files.config.tenants.values() {
            let unbound = tenant.routes.iter().filter(|route| {
                route.forward.is_none() && !files.plugins.contains_key(&route.plugin) && !bound(&tenant.name, route)
            });
            for route in unbound {
                let newest = versions.iter().find(|version| {
                    version.name == route.plugin
                        && version.standing == Standing::Published
                        && version.owner.as_ref().is_none_or(|owner| *owner == tenant.name)
                });
                match newest {
                    Some(version) if tenant.gate == PromotionGate::default() => newly.push(ConfiguredRoute {
                        tenant: tenant.name.clone(),
                        route: route.name.clone(),
                        plugin: route.plugin.clone(),
                        digest: version.digest,
                    }),
                    Some(_) | None => tracing::warn!(
                        tenant = %tenant.name, route = %route.name, plugin = %route.plugin,
                        "the route runs nothing yet: bind a version with `tollgate plugin promote`"
                    ),
                }
            }
        }
        Ok(newly)
    }

    /// The names of plugins that a route of a tenant may have, by who may have them.
    async fn published(&self) -> Result<Vec<PluginVersion>, StoreError> {
        self.store.plugin_versions(VersionFilter::default()).await
    }

    /// Makes the configuration of now from the files and the store, has its plugins loaded, and swaps it in. Returns the routes whose
    /// operations move to another namespace by that; `by` says who moves them.
    async fn refresh(&self, by: Act, as_new_as: &mut u64) -> Result<Vec<NamespaceChange>, StoreError> {
        let number = *self.changes.borrow();
        if self.take_over_settings().await? {
            self.bind_new_routes().await?;
        }
        let (config, digests) = self.assembled().await?;
        // Plugins are loaded before jobs are sent to them. What does not load is tried again when a job needs it, and harms nobody else.
        for digest in &digests {
            if let Err(problem) = self.shelf.ready(*digest).await {
                tracing::error!(%digest, %problem, "a plugin does not load; jobs that need it are tried again");
            }
        }
        let moved = self.store.follow_namespaces(namespaces(&config), by).await?;
        for change in &moved {
            let (tenant, route) = (&change.tenant, &change.route);
            tracing::warn!(%tenant, %route, "{}", change.warning());
        }
        self.config.store(Arc::new(config));
        self.shelf.keep_only(&digests);
        let sandbox = self.sandbox.clone();
        let _ = tokio::task::spawn_blocking(move || sandbox.pin(digests)).await;
        *as_new_as = number;
        Ok(moved)
    }

    /// Takes over what others change of versions, bindings and routes in the store, until shutdown.
    pub(crate) async fn follow_changes(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changes = self.changes.clone();
        let mut is_behind = false;
        loop {
            let changed = async {
                match is_behind {
                    true => tokio::time::sleep(Duration::from_secs(1)).await,
                    false => drop(changes.changed().await),
                }
            };
            if shutdown.run_until_cancelled(changed).await.is_none() {
                return;
            }
            let mut changing = self.changing.lock().await;
            is_behind = *changing != *changes.borrow_and_update();
            if is_behind {
                match self.refresh(by_configuration(), &mut changing).await {
                    Ok(_) => is_behind = false,
                    Err(error) => tracing::error!(%error, "what changed in the registry cannot be read yet"),
                }
            }
        }
    }

    /// The configuration of now from the files and the store, and the plugins that its routes run.
    async fn assembled(&self) -> Result<(Config, BTreeSet<PluginDigest>), StoreError> {
        let files = self.files.load_full();
        let mut config = files.config.clone();
        let versions = self.published().await?;
        for api in self.store.api_routes().await? {
            match check(&files.config, &api, &versions, Schemas::default()) {
                Ok(route) => put(&mut config, &api.tenant, route),
                Err(problem) => {
                    tracing::error!(tenant = %api.tenant, route = %api.route, %problem, "a route that was set by API is left out");
                }
            }
        }
        let bindings = self.store.bindings(None).await?;
        let digests: BTreeSet<PluginDigest> = bindings.iter().flat_map(|bound| bound.binding.digests()).collect();
        for bound in bindings {
            let route = config
                .tenants
                .get_mut(&bound.tenant)
                .and_then(|tenant| tenant.routes.iter_mut().find(|route| route.name == bound.route));
            if let Some(route) = route
                && route.plugin == bound.binding.plugin
            {
                *route = Arc::new(Route {
                    binding: Some(bound.binding),
                    ..Route::clone(route)
                });
            }
        }
        Ok((config, digests))
    }

    /// Vets a component and keeps it. A component that is there already is returned as it is, without vetting it again.
    ///
    /// # Errors
    /// When vetting, the signature or the rules say no.
    pub(crate) async fn upload(&self, upload: Upload) -> Result<PluginVersion, Error> {
        let digest = PluginDigest::of(&upload.bytes);
        if let Some(signature) = &upload.signature {
            self.check_signature(upload.owner.as_ref(), signature, digest).await?;
        }
        let proven = self.vet(Arc::clone(&upload.bytes)).await?;
        let report = &proven.report;
        let dry_run = upload.act.dry_run;
        if report.manifest.name.as_str() == forward::NAME {
            return Err(Error::File(format!(
                "no plugin can be called `{}`: routes without a plugin have that name; rename it in its manifest",
                forward::NAME
            )));
        }
        let version = NewVersion {
            owner: upload.owner,
            digest,
            bytes: upload.bytes,
            name: report.manifest.name.clone(),
            version: report.manifest.version.clone(),
            publisher: report.manifest.publisher.clone(),
            manifest_json: report.manifest.to_json(),
            report_json: report_json(report).to_string(),
            signature: upload.signature,
            published: false,
        };
        let added = self.store.add_version(version, upload.act).await??;
        if !dry_run {
            // What was refused, or only tried, leaves nothing behind.
            let sandbox = self.sandbox.clone();
            let _ = tokio::task::spawn_blocking(move || sandbox.keep(&proven)).await;
        }
        Ok(added)
    }

    /// Waits for an upload's turn: of each owner one, before a second of anybody.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) async fn vetting_turn(&self, owner: Option<TenantName>) -> Result<Turn, Error> {
        self.vetting.take(owner).await.ok_or(Error::Busy)
    }

    /// A signature that is wrong in itself is refused at once. Whether its key counts is asked when the version is bound: a tenant
    /// may register the key later, and others may believe other keys.
    async fn check_signature(
        &self,
        owner: Option<&TenantName>,
        signature: &PluginSignature,
        digest: PluginDigest,
    ) -> Result<(), Error> {
        if signature.digest != digest {
            return Err(SignatureError::OtherComponent {
                signed: signature.digest,
                component: digest,
            }
            .into());
        }
        let Some(owner) = owner else { return Ok(()) };
        let keys = self.store.publisher_keys(Some(owner.clone())).await?;
        let named = keys
            .iter()
            .find(|key| key.publisher == signature.publisher && key.key_id == signature.key_id);
        if let Some(key) = named.and_then(|key| tollgate_core::signature::PublicKey::from_text(&key.public_key).ok()) {
            signature.verify(&key, digest)?;
        }
        Ok(())
    }

    async fn vet(&self, bytes: Arc<[u8]>) -> Result<Proven, Error> {
        let sandbox = self.sandbox.clone();
        let vetted = tokio::task::spawn_blocking(move || sandbox.prove(&bytes)).await;
        let lost = |error: tokio::task::JoinError| Refusal::Host {
            detail: error.to_string(),
        };
        Ok(vetted.map_err(lost)??)
    }

    /// # Errors
    /// When the rules say no, or there is no such version.
    pub(crate) async fn step(&self, request: StepRequest) -> Result<PluginVersion, Error> {
        let _changing = self.changing.lock().await;
        Ok(self.store.step_version(request).await??)
    }

    /// Changes what a route runs. `change` sees what the files name for the route.
    ///
    /// # Errors
    /// When the rules or the tenant's gate say no, or there is no such route or version.
    pub(crate) async fn change(
        &self,
        tenant: TenantName,
        route: RouteName,
        change: impl FnOnce(Option<PluginDigest>) -> Result<Change, Error>,
        act: Act,
    ) -> Result<BindingChange, Error> {
        let mut changing = self.changing.lock().await;
        let files = self.files.load_full();
        let gate = files.tenant(&tenant)?.gate;
        let set_by_api = self.api_route(&tenant, &route).await?.is_some();
        let configured = files.route(&tenant, &route).filter(|_| !set_by_api);
        let change = change(configured.map(|configured| configured.digest))?;
        if let Some(digest) = change.brings() {
            self.require_loads(digest).await?;
            self.require_fits(&tenant, &route, digest).await?;
        }
        let request = ChangeRequest {
            tenant,
            route,
            change,
            gate,
            act: act.clone(),
        };
        let done = self.store.change_binding(request).await??;
        if !act.dry_run {
            self.refresh(act, &mut changing).await?;
        }
        Ok(done)
    }

    /// A version that this host cannot load is not bound: after an upgrade of the runtime one may be too old.
    async fn require_loads(&self, digest: PluginDigest) -> Result<(), Error> {
        match self.shelf.ready(digest).await {
            Ok(_) => Ok(()),
            Err(shelf::Unloadable::Store(error)) => Err(error.into()),
            Err(shelf::Unloadable::Refused(detail)) => Err(Error::File(format!("{digest} does not load: {detail}"))),
        }
    }

    /// A version that a route's configuration does not fit is not bound: it would hold every event.
    async fn require_fits(&self, tenant: &TenantName, route: &RouteName, digest: PluginDigest) -> Result<(), Error> {
        let config = self.config.load_full();
        let configured = config
            .tenants
            .get(tenant)
            .and_then(|tenant| tenant.routes.iter().find(|found| found.name == *route));
        let versions = self.published().await?;
        let version = versions.iter().find(|version| version.digest == digest);
        let (Some(configured), Some(version)) = (configured, version) else {
            return Ok(());
        };
        let VersionSchema { version, schema } = schema_of(version);
        let configuration = serde_json::from_str(&configured.config_json);
        let (Some(schema), Ok(configuration)) = (schema, configuration) else {
            return Ok(());
        };
        let problems: Vec<_> = schema.check(&configuration).iter().map(ToString::to_string).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::File(format!(
            "the configuration of the route `{route}` does not fit `{}` {version}: {}; change the configuration first",
            configured.plugin,
            problems.join("; ")
        )))
    }

    async fn api_route(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<ApiRoute>, StoreError> {
        let routes = self.store.api_routes().await?;
        Ok(routes
            .into_iter()
            .find(|api| api.tenant == *tenant && api.route == *route))
    }

    /// Sets a route, after checking it like one in a file.
    ///
    /// # Errors
    /// When the definition, the rules or the tenant's gate say no.
    pub(crate) async fn set_route(
        &self,
        tenant: TenantName,
        route: RouteName,
        definition: serde_json::Value,
        digest: Option<PluginDigest>,
        act: Act,
    ) -> Result<BindingChange, Error> {
        let mut changing = self.changing.lock().await;
        let files = self.files.load_full();
        let gate = files.tenant(&tenant)?.gate;
        let versions = self.published().await?;
        let api = ApiRoute {
            tenant: tenant.clone(),
            route: route.clone(),
            definition: definition.clone(),
            changed_at: String::new(),
            changed_by: String::new(),
        };
        let mut schemas = schemas(&versions, &self.store.bindings(None).await?);
        for version in &versions {
            // What the files name stands for its name; the version that is bound by this stands for the route.
            if files.plugins.get(&version.name) == Some(&version.digest) {
                schemas.files.insert(version.name.clone(), schema_of(version));
            }
            if digest == Some(version.digest) {
                let named = (tenant.clone(), route.clone(), version.name.clone());
                schemas.bound.insert(named, vec![schema_of(version)]);
            }
        }
        let checked = check(&files.config, &api, &versions, schemas).map_err(|problem| match problem {
            Unfit::NoTenant => Error::NoTenant(tenant.clone()),
            Unfit::Problems(problems) => Error::Definition(problems),
        })?;
        if let Some(digest) = digest {
            self.require_loads(digest).await?;
        }
        let request = SetRoute {
            tenant,
            route,
            definition,
            plugin: checked.forward.is_none().then_some(checked.plugin),
            namespace: checked.namespace,
            digest,
            gate,
            act: act.clone(),
        };
        let done = self.store.set_route(request).await??;
        if !act.dry_run {
            for warning in &done.warnings {
                tracing::warn!(tenant = %done.tenant, route = %done.route, "{warning}");
            }
            self.refresh(act, &mut changing).await?;
        }
        Ok(done)
    }

    /// Removes a route that was set by API; the file's of that name comes back.
    ///
    /// # Errors
    /// When there is none, or the file alone says it.
    pub(crate) async fn remove_route(
        &self,
        tenant: TenantName,
        route: RouteName,
        act: Act,
    ) -> Result<BindingChange, Error> {
        let mut changing = self.changing.lock().await;
        let files = self.files.load_full();
        files.tenant(&tenant)?;
        let configured = files.route(&tenant, &route);
        if configured.is_some() && self.api_route(&tenant, &route).await?.is_none() {
            let of_files = &files.config.of_files.tenants;
            let is_of_file = of_files
                .get(&tenant)
                .is_some_and(|tenant| tenant.routes.iter().any(|known| known.name == route));
            return Err(Error::File(match is_of_file {
                true => format!("the route `{route}` stands in the file of `{tenant}`; remove it there and reload"),
                false => format!("the route `{route}` stands in the settings of `{tenant}`; take it out there"),
            }));
        }
        // The file's route comes back, and with it the namespace that it records under.
        let mut back = namespaces(&files.config);
        back.retain(|named| named.tenant == tenant && named.route == route);
        let done = self
            .store
            .remove_route(tenant, route, configured, act.clone())
            .await??;
        let moved = if act.dry_run {
            self.store.follow_namespaces(back, act).await?
        } else {
            self.refresh(act, &mut changing).await?
        };
        Ok(BindingChange {
            warnings: moved.iter().map(NamespaceChange::warning).collect(),
            ..done
        })
    }

    /// A tenant's routes, as they are now.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub(crate) async fn routes(&self, tenant: &TenantName) -> Result<Vec<LiveRoute>, Error> {
        let config = self.config.load_full();
        let found = config
            .tenants
            .get(tenant)
            .ok_or_else(|| Error::NoTenant(tenant.clone()))?;
        let mut by_api: BTreeMap<RouteName, ApiRoute> = self
            .store
            .api_routes()
            .await?
            .into_iter()
            .filter(|api| api.tenant == *tenant)
            .map(|api| (api.route.clone(), api))
            .collect();
        let of_file = config.of_files.tenants.get(tenant);
        let is_of_file =
            |name: &RouteName| of_file.is_some_and(|of_file| of_file.routes.iter().any(|route| route.name == *name));
        Ok(found
            .routes
            .iter()
            .map(|route| {
                let api = by_api.remove(&route.name);
                LiveRoute {
                    route: Arc::clone(route),
                    set_by: match &api {
                        Some(_) => SetBy::Api,
                        None if is_of_file(&route.name) => SetBy::File,
                        None => SetBy::Settings,
                    },
                    api,
                }
            })
            .collect())
    }
}

/// Under which namespace each route records.
pub fn namespaces(config: &Config) -> Vec<RouteNamespace> {
    let of = |tenant: &Tenant| {
        let named = tenant.routes.iter().map(|route| RouteNamespace {
            tenant: tenant.name.clone(),
            route: route.name.clone(),
            namespace: route.namespace.clone(),
        });
        named.collect::<Vec<_>>()
    };
    config.tenants.values().flat_map(of).collect()
}

impl Loaded {
    /// Takes each tenant whose file is wrong as it runs, if it runs.
    fn stay_where_broken(&mut self, running: &OfFiles) {
        let of_files = Arc::make_mut(&mut self.config.of_files);
        for (name, broken) in &mut of_files.broken {
            let Some(tenant) = name
                .parse()
                .ok()
                .and_then(|name: TenantName| running.tenants.get(&name))
            else {
                continue;
            };
            let ran_as_written = running
                .broken
                .get(name)
                .is_some_and(|broken| broken.runs == Runs::AsWritten);
            broken.runs = match broken.runs {
                Runs::AsWritten if ran_as_written => Runs::AsWritten,
                Runs::AsWritten | Runs::Nothing | Runs::FileAlone => {
                    let now = clock::now();
                    Runs::LastGood { of: now, since: now }
                }
                known @ Runs::LastGood { .. } => known,
            };
            of_files.tenants.insert(tenant.name.clone(), tenant.clone());
        }
    }

    /// Lays what tenants set by API over their files. Whose settings do not fit stays as it runs.
    fn lay_over(&mut self, documents: &Documents, running: &Config) {
        self.config = self.config.with_settings(documents, Some(running));
        let broken = &self.config.broken;
        self.good.retain(|name, _| !broken.contains_key(name.as_str()));
    }

    /// Keeps a tenant as it runs, for this reason.
    fn stay(&mut self, tenant: Tenant, problems: Problems) {
        self.good.remove(&tenant.name);
        let now = clock::now();
        let runs = Runs::LastGood { of: now, since: now };
        let of_files = Arc::make_mut(&mut self.config.of_files);
        of_files
            .broken
            .insert(tenant.name.to_string(), Broken { runs, problems });
        of_files.tenants.insert(tenant.name.clone(), tenant);
    }
}

/// Why a route that was set by API is of no use.
#[derive(Debug)]
enum Unfit {
    NoTenant,
    Problems(Problems),
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTenant => f.write_str("its tenant has no file any more"),
            Self::Problems(problems) => {
                let messages: Vec<_> = problems
                    .as_data()
                    .iter()
                    .map(|problem| problem.message.as_str())
                    .collect();
                f.write_str(&messages.join("; "))
            }
        }
    }
}

/// `schemas` are those that the route's configuration must fit. A route that runs already is not left out for what a newer version asks
/// for: the plugin holds what it cannot read, and that is seen.
fn check(config: &Config, api: &ApiRoute, versions: &[PluginVersion], schemas: Schemas) -> Result<Route, Unfit> {
    let tenant = config.tenants.get(&api.tenant).ok_or(Unfit::NoTenant)?;
    let visible: BTreeSet<PluginName> = versions
        .iter()
        .filter(|version| version.owner.as_ref().is_none_or(|owner| *owner == api.tenant))
        .map(|version| version.name.clone())
        .collect();
    config::check_route(config, tenant, &api.route, &api.definition, &visible, schemas).map_err(Unfit::Problems)
}

/// Puts a route in the place of the one of its name, or at the end.
fn put(config: &mut Config, tenant: &TenantName, route: Route) {
    let Some(tenant) = config.tenants.get_mut(tenant) else {
        return;
    };
    let route = Arc::new(route);
    match tenant.routes.iter_mut().find(|found| found.name == route.name) {
        Some(found) => *found = route,
        None => tenant.routes.push(route),
    }
}

impl FileConfig {
    fn tenant(&self, name: &TenantName) -> Result<&config::Tenant, Error> {
        self.config
            .tenants
            .get(name)
            .ok_or_else(|| Error::NoTenant(name.clone()))
    }

    /// Every route of the files whose plugin is there.
    fn routes(&self) -> impl Iterator<Item = ConfiguredRoute> + '_ {
        self.config.tenants.values().flat_map(move |tenant| {
            tenant.routes.iter().filter_map(move |route| {
                Some(ConfiguredRoute {
                    tenant: tenant.name.clone(),
                    route: route.name.clone(),
                    plugin: route.plugin.clone(),
                    digest: *self.plugins.get(&route.plugin)?,
                })
            })
        })
    }

    fn route(&self, tenant: &TenantName, route: &RouteName) -> Option<ConfiguredRoute> {
        self.routes()
            .find(|configured| configured.tenant == *tenant && configured.route == *route)
    }
}

/// What vetting found, for people and programs.
pub(crate) fn report_json(report: &VetReport) -> serde_json::Value {
    let golden: Vec<_> = report
        .golden
        .iter()
        .map(|golden| serde_json::json!({ "name": golden.name, "outcome": golden.outcome, "fuel": golden.fuel }))
        .collect();
    serde_json::json!({
        "imports": report.imports,
        "exports": report.exports,
        "component_bytes": report.component_bytes,
        "component_bytes_max": limits::COMPONENT_BYTES_MAX,
        "compile_ms": u64::try_from(report.compile_time.as_millis()).unwrap_or(u64::MAX),
        "instance_bytes": report.instance_bytes,
        "instance_fuel": report.instance_fuel,
        "golden": golden,
        "runtime": tollgate_sandbox::RUNTIME,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tollgate_sandbox::SandboxOptions;
    use tollgate_store::OpenOptions;

    use super::*;
    use crate::store::LocalStore;

    const TENANT: &str = "[sources.rewards]\nprovider = \"voucherify\"\nsecrets = [{ id = \"a\", value = { env = \"KEY\" } }]\n\
                          [destinations.books]\nurl = \"https://books.example/\"\nsecrets = [{ env = \"KEY\" }]\n";

    /// As another host on the same store would change it: no call of this registry has a part in it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn o2_what_others_change_in_the_store_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path().join("tollgate.db"), OpenOptions::default()).unwrap();
        let env = |_: &str| Some("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned());
        let config =
            config::load_from_texts("", &[("acme", TENANT)], &env).unwrap_or_else(|problems| panic!("{problems}"));
        let options = SandboxOptions {
            instances_max: 1,
            ..SandboxOptions::default()
        };
        let sandbox = Sandbox::new(options).unwrap();
        let shelf = Arc::new(Shelf::new(store.clone(), sandbox.clone()));
        let registry = Registry::start(store.clone(), sandbox, shelf, config).await.unwrap();
        let config = registry.config();
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(Arc::new(registry).follow_changes(shutdown.clone()));
        let request = SetRoute {
            tenant: "acme".parse().unwrap(),
            route: "archive".parse().unwrap(),
            definition: serde_json::json!({ "forward": "body", "destinations": ["books"] }),
            plugin: None,
            namespace: "forward".parse().unwrap(),
            digest: None,
            gate: PromotionGate::default(),
            act: by_configuration(),
        };
        let _ = store.set_route(request).await.unwrap().unwrap();
        let begun = Instant::now();
        while config.load().tenants.values().all(|tenant| tenant.routes.is_empty()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the route never came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
        following.await.unwrap();
    }
}
