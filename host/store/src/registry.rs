//! The plugin registry as its callers see it: what is asked, and what is answered. The rules are `tollgate_core::registry`'s; what
//! they refuse is an answer here, [`Answered`], and not an error.

#[cfg(not(target_family = "wasm"))]
pub(crate) mod rows;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod rules;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
pub use tollgate_api::plugins::{
    BindingChange, BoundView, PluginVersion, PublisherKeyView, RegistryLine, ShadowReport, ShadowRunView, SignatureView,
};
use tollgate_core::ids::{KeyId, Namespace, PluginDigest, PluginName, PublisherName, RouteName, RunId, TenantName};
use tollgate_core::registry::{Binding, Change, PromotionGate, Refused, Step, TrialResult};
use tollgate_core::signature::{PluginSignature, PublicKey};
use tollgate_core::time::UnixMillis;

use crate::StoreError;

/// What was done, or why it was not.
pub type Answered<T> = Result<Result<T, Refused>, StoreError>;

/// Who changes something, when and why: a line of the registry's history.
#[derive(Debug, Clone)]
pub struct Act {
    pub actor: String,
    pub why: Option<String>,
    pub at: UnixMillis,
    /// Says what would be done, and writes nothing.
    pub dry_run: bool,
}

/// A line of the registry's history, on its way in.
pub(crate) struct Line<'a> {
    pub(crate) what: &'a str,
    pub(crate) tenant: Option<&'a TenantName>,
    pub(crate) route: Option<&'a RouteName>,
    pub(crate) plugin: Option<&'a PluginName>,
    pub(crate) digest: Option<PluginDigest>,
    pub(crate) was: Option<String>,
    pub(crate) became: Option<String>,
}

/// A component that was vetted, on its way in.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Absent: the operator's, for every tenant.
    pub owner: Option<TenantName>,
    pub digest: PluginDigest,
    pub bytes: Arc<[u8]>,
    pub name: PluginName,
    pub version: String,
    pub publisher: String,
    pub manifest_json: String,
    pub report_json: String,
    pub signature: Option<PluginSignature>,
    /// Published at once: only for what the operator's configuration names.
    pub published: bool,
}

/// Which versions. Those of one tenant are its own and the operator's.
#[derive(Debug, Clone, Default)]
pub struct VersionFilter {
    /// What the asker may see; absent: everything.
    pub tenant: Option<TenantName>,
    pub name: Option<PluginName>,
    pub digest: Option<PluginDigest>,
}

/// Names one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionKey {
    pub owner: Option<TenantName>,
    pub digest: PluginDigest,
}

/// Publishes or retires a version.
#[derive(Debug, Clone)]
pub struct StepRequest {
    pub version: VersionKey,
    pub step: Step,
    pub act: Act,
}

/// Changes what a route runs.
#[derive(Debug, Clone)]
pub struct ChangeRequest {
    pub tenant: TenantName,
    pub route: RouteName,
    pub change: Change,
    /// What the tenant asks of a version before it advances.
    pub gate: PromotionGate,
    pub act: Act,
}

/// Under which namespace a route records its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteNamespace {
    pub tenant: TenantName,
    pub route: RouteName,
    pub namespace: Namespace,
}

/// A route whose operations move to another namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceChange {
    pub tenant: TenantName,
    pub route: RouteName,
    pub before: Namespace,
    pub after: Namespace,
}

impl NamespaceChange {
    /// What it means, and how to go on as before.
    pub fn warning(&self) -> String {
        let Self {
            route, before, after, ..
        } = self;
        format!(
            "the route `{route}` records its operations under the namespace `{after}` and did so under `{before}`: what was recorded \
             there is not recognised and would be recorded again; say operations = \"{before}\" on the route to go on with it"
        )
    }
}

/// A route's binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRoute {
    pub tenant: TenantName,
    pub route: RouteName,
    pub binding: Binding,
    pub changed_at: String,
}

/// What the configuration says that a route runs.
#[derive(Debug, Clone)]
pub struct ConfiguredRoute {
    pub tenant: TenantName,
    pub route: RouteName,
    pub plugin: PluginName,
    pub digest: PluginDigest,
}

/// A route that was set by API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRoute {
    pub tenant: TenantName,
    pub route: RouteName,
    /// The same keys as in a tenant's file.
    pub definition: serde_json::Value,
    pub changed_at: String,
    pub changed_by: String,
}

/// Sets a route. Its definition was checked.
#[derive(Debug, Clone)]
pub struct SetRoute {
    pub tenant: TenantName,
    pub route: RouteName,
    pub definition: serde_json::Value,
    /// Absent where it runs none.
    pub plugin: Option<PluginName>,
    /// Under which its operations are recorded.
    pub namespace: Namespace,
    /// What it runs, if it is not bound to a version of this plugin already.
    pub digest: Option<PluginDigest>,
    pub gate: PromotionGate,
    pub act: Act,
}

/// A publisher's key on its way in.
#[derive(Debug, Clone)]
pub struct NewPublisherKey {
    pub tenant: TenantName,
    pub publisher: PublisherName,
    pub key_id: KeyId,
    pub public_key: PublicKey,
    pub act: Act,
}

/// What became of a publisher's key on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum KeyRegistered {
    New,
    /// The same key was there under this id.
    Known,
    /// Another key has this id, which means one key for ever.
    OtherKey,
    /// The key was revoked, which is for ever.
    Revoked,
    /// The tenant has as many as are kept.
    TooMany,
}

/// Ends a publisher's key: what it signed is not bound any more from now on. What runs goes on.
#[derive(Debug, Clone)]
pub struct RevokePublisherKey {
    pub tenant: TenantName,
    pub publisher: PublisherName,
    pub key_id: KeyId,
    pub act: Act,
}

/// What one version answered to an input, for comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// [`tollgate_core::outcome::Outcome::name`].
    pub outcome: String,
    /// JSON: `[{"operation_key", "kind", "action"}, …]`, in the order of the proposals.
    pub actions_json: String,
    pub fuel: u64,
}

/// A shadow's run beside an active version's.
#[derive(Debug, Clone)]
pub struct ShadowRecord {
    pub run: RunId,
    pub tenant: TenantName,
    pub route: RouteName,
    pub active: PluginDigest,
    pub shadow: PluginDigest,
    pub started_at: UnixMillis,
    pub duration_us: u64,
    pub message: String,
    pub active_result: RunResult,
    pub shadow_result: RunResult,
    /// It read state that the active run had not, and so saw what was there later.
    pub beyond_record: bool,
}

impl ShadowRecord {
    /// Whether the two would have done other things. Fuel is no difference.
    pub fn differs(&self) -> bool {
        (&self.active_result.outcome, &self.active_result.actions_json)
            != (&self.shadow_result.outcome, &self.shadow_result.actions_json)
    }
}

/// Which shadow runs, the newest first.
#[derive(Debug, Clone)]
pub struct ShadowFilter {
    pub tenant: TenantName,
    pub route: RouteName,
    pub differing_only: bool,
    pub rows_max: usize,
}

/// A trial of a candidate over recorded runs of a route.
#[derive(Debug, Clone)]
pub struct TrialRecord {
    pub tenant: TenantName,
    pub route: RouteName,
    pub active: PluginDigest,
    pub candidate: PluginDigest,
    pub result: TrialResult,
    pub actor: String,
    pub at: UnixMillis,
}

/// Which lines, the newest first.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Only this tenant's and, for a digest, the operator's.
    pub tenant: Option<TenantName>,
    pub route: Option<RouteName>,
    pub digest: Option<PluginDigest>,
    pub rows_max: usize,
}
