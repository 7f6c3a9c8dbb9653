//! The schemas of plugins' configurations, as far as they are known when a tenant's file is checked: before anything is compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_core::config_schema::ConfigSchema;
use tollgate_core::ids::{PluginName, RouteName, TenantName};

/// One version's schema, with what people call the version.
#[derive(Debug, Clone)]
pub struct VersionSchema {
    /// For example `1.2.0`.
    pub version: String,
    /// The schema; none where the version has none, and only its run tells what it refuses.
    pub schema: Option<Arc<ConfigSchema>>,
}

impl VersionSchema {
    /// A version with the schema from its manifest.
    pub fn of(version: String, schema: Option<ConfigSchema>) -> Self {
        Self {
            version,
            schema: schema.map(Arc::new),
        }
    }
}

/// The schemas that routes' configurations must fit.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    /// The versions that `tollgate.toml` names.
    pub files: BTreeMap<PluginName, VersionSchema>,
    /// The versions that a person bound to a route: its active one and its canary.
    pub bound: BTreeMap<(TenantName, RouteName, PluginName), Vec<VersionSchema>>,
    /// The newest published version of each plugin, by owner; one without an owner is for every tenant.
    pub newest: BTreeMap<(Option<TenantName>, PluginName), VersionSchema>,
}

impl Schemas {
    /// Adds what `other` knows.
    pub fn and(mut self, other: &Self) -> Self {
        let Self { files, bound, newest } = other.clone();
        self.files.extend(files);
        self.bound.extend(bound);
        self.newest.extend(newest);
        self
    }

    /// The versions whose schemas a route's configuration must fit: those that a person bound to it, else the file's, else the newest
    /// that is published to the tenant, which the route begins with.
    pub fn of(&self, tenant: &TenantName, route: &RouteName, plugin: &PluginName) -> Vec<&VersionSchema> {
        let bound = self.bound.get(&(tenant.clone(), route.clone(), plugin.clone()));
        if let Some(bound) = bound {
            return bound.iter().collect();
        }
        let published = |owner: Option<&TenantName>| self.newest.get(&(owner.cloned(), plugin.clone()));
        self.files
            .get(plugin)
            .or_else(|| published(Some(tenant)))
            .or_else(|| published(None))
            .into_iter()
            .collect()
    }
}
