//! The rows of the registry inside of one transaction: what a backend writes of it. What may be written is decided by `rules`.

use tollgate_core::ids::{Namespace, PluginDigest, PluginName, RouteName, TenantName};
use tollgate_core::registry::{Binding, ShadowTally, Standing, TrialResult};
use tollgate_core::signature::PluginSignature;
use tollgate_core::time::UnixMillis;

use super::{
    Act, BoundRoute, Line, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RevokePublisherKey, VersionKey,
};

/// What a request names is not in the store.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

/// A version, as far as the rules must know it.
#[derive(Debug)]
pub(crate) struct VersionRow {
    pub(crate) id: i64,
    pub(crate) name: PluginName,
    pub(crate) version: String,
    pub(crate) standing: Standing,
    pub(crate) signature: Option<PluginSignature>,
}

/// Reads and writes rows, and judges nothing. A backend whose connection is asynchronous calls the rules on a thread that may block,
/// since the registry changes rarely.
pub(crate) trait RegistryRows {
    type Error: From<Missing>;

    /// The versions of this owner and digest, one for each name that it was taken in under, the oldest first.
    fn versions_of(&self, key: &VersionKey) -> Result<Vec<VersionRow>, Self::Error>;
    /// A version as it is shown, without what it is bound to.
    fn shown(&self, version: i64) -> Result<PluginVersion, Self::Error>;
    /// How many versions an owner has; of one standing, or of all.
    fn count_versions(&self, owner: Option<&TenantName>, standing: Option<Standing>) -> Result<usize, Self::Error>;
    /// Another digest that was published under this owner, name and version.
    fn other_of_that_version(&self, key: &VersionKey, row: &VersionRow) -> Result<Option<PluginDigest>, Self::Error>;
    /// A version that a tenant may bind under this name: its own before the operator's, a published one before others. Without one of
    /// this name, one of another, so that the refusal can name it.
    fn bindable(
        &self,
        tenant: &TenantName,
        plugin: &PluginName,
        digest: PluginDigest,
    ) -> Result<Option<VersionRow>, Self::Error>;
    /// The newest published version of a plugin that a tenant sees, its own before the operator's.
    fn newest_published(&self, tenant: &TenantName, plugin: &PluginName) -> Result<Option<PluginDigest>, Self::Error>;
    /// Writes a version with its component. Returns its id.
    fn insert_version(&self, new: &NewVersion, standing: Standing, act: &Act) -> Result<i64, Self::Error>;
    fn set_signature(&self, version: i64, signature: &PluginSignature) -> Result<(), Self::Error>;
    fn set_standing(&self, version: i64, standing: Standing) -> Result<(), Self::Error>;

    /// Of one tenant or of all.
    fn bindings(&self, tenant: Option<&TenantName>) -> Result<Vec<BoundRoute>, Self::Error>;
    fn binding(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<Binding>, Self::Error>;
    /// Writes a route's binding in the place of the one before: whoever reads sees one or the other.
    fn put_binding(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        binding: &Binding,
        at: UnixMillis,
    ) -> Result<(), Self::Error>;
    fn remove_binding(&self, tenant: &TenantName, route: &RouteName) -> Result<(), Self::Error>;

    /// How many routes beside this one were set by API.
    fn count_other_routes(&self, tenant: &TenantName, route: &RouteName) -> Result<usize, Self::Error>;
    /// A route's definition, as JSON, if it was set by API.
    fn definition(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<String>, Self::Error>;
    fn put_route(&self, tenant: &TenantName, route: &RouteName, definition: &str, act: &Act)
    -> Result<(), Self::Error>;
    fn remove_route(&self, tenant: &TenantName, route: &RouteName) -> Result<(), Self::Error>;

    /// The namespace under which a route has recorded so far.
    fn namespace(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<Namespace>, Self::Error>;
    fn put_namespace(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        namespace: &Namespace,
        since: UnixMillis,
    ) -> Result<(), Self::Error>;

    /// Of one tenant or of all, revoked ones too.
    fn publisher_keys(&self, tenant: Option<&TenantName>) -> Result<Vec<PublisherKeyView>, Self::Error>;
    fn insert_key(&self, new: &NewPublisherKey) -> Result<(), Self::Error>;
    fn set_key_revoked(&self, request: &RevokePublisherKey) -> Result<(), Self::Error>;

    /// The largest trial of a candidate against an active version on a route, the newest of those.
    fn trial(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        active: PluginDigest,
        candidate: PluginDigest,
    ) -> Result<Option<TrialResult>, Self::Error>;
    /// What a shadow came to beside an active version on a route.
    fn tally(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        active: PluginDigest,
        shadow: PluginDigest,
    ) -> Result<Option<ShadowTally>, Self::Error>;

    /// Appends a line of history.
    fn append(&self, act: &Act, line: &Line<'_>) -> Result<(), Self::Error>;
}
