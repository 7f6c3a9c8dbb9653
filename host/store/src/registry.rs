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

/// What was done, or why the registry's rules refused it.
pub type Answered<T> = Result<Result<T, Refused>, StoreError>;

/// Who changes something, when and why: a line of the registry's history.
#[derive(Debug, Clone)]
pub struct Act {
    /// Who does it.
    pub actor: String,
    /// The reason, where one is given.
    pub why: Option<String>,
    /// When it is done.
    pub at: UnixMillis,
    /// Says what would be done, and writes nothing.
    pub dry_run: bool,
}

/// A line of the registry's history that is to be written.
pub(crate) struct Line<'a> {
    pub(crate) what: &'a str,
    pub(crate) tenant: Option<&'a TenantName>,
    pub(crate) route: Option<&'a RouteName>,
    pub(crate) plugin: Option<&'a PluginName>,
    pub(crate) digest: Option<PluginDigest>,
    pub(crate) was: Option<String>,
    pub(crate) became: Option<String>,
}

/// A component that was vetted and is to be kept.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Absent: the operator's, for every tenant.
    pub owner: Option<TenantName>,
    /// SHA-256 of `bytes`.
    pub digest: PluginDigest,
    /// The component.
    pub bytes: Arc<[u8]>,
    /// The plugin's name, from the manifest.
    pub name: PluginName,
    /// The author's version, from the manifest.
    pub version: String,
    /// The publisher that the manifest names, which no signature proves.
    pub publisher: String,
    /// The manifest, as JSON.
    pub manifest_json: String,
    /// What vetting found, as JSON.
    pub report_json: String,
    /// A publisher's signature of it, if there is one.
    pub signature: Option<PluginSignature>,
    /// Published at once: only for what the operator's configuration names.
    pub published: bool,
}

/// Which versions. Those of one tenant are its own and the operator's.
#[derive(Debug, Clone, Default)]
pub struct VersionFilter {
    /// What the asker may see; absent: everything.
    pub tenant: Option<TenantName>,
    /// Only versions of this plugin.
    pub name: Option<PluginName>,
    /// Only this component.
    pub digest: Option<PluginDigest>,
}

/// Names one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionKey {
    /// The tenant that uploaded it; none for the operator's.
    pub owner: Option<TenantName>,
    /// The component.
    pub digest: PluginDigest,
}

/// Publishes or retires a version.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Which version.
    pub version: VersionKey,
    /// What is done to it.
    pub step: Step,
    /// Who does it, when and why.
    pub act: Act,
}

/// Changes what a route runs.
#[derive(Debug, Clone)]
pub struct ChangeRequest {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// What is done to its binding.
    pub change: Change,
    /// What the tenant asks of a version before it advances.
    pub gate: PromotionGate,
    /// Who does it, when and why.
    pub act: Act,
}

/// The namespace under which a route records its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteNamespace {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// Under which its operations are recorded.
    pub namespace: Namespace,
}

/// A route whose operations move to another namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceChange {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// Under which its operations were recorded.
    pub before: Namespace,
    /// Under which its operations are recorded from now on.
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
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// Which versions it runs.
    pub binding: Binding,
    /// When that was last changed (RFC 3339).
    pub changed_at: String,
}

/// What the configuration says that a route runs.
#[derive(Debug, Clone)]
pub struct ConfiguredRoute {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// The plugin that it names.
    pub plugin: PluginName,
    /// The version that the operator's file names for that plugin.
    pub digest: PluginDigest,
}

/// A route that was set by API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRoute {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// The same keys as in a tenant's file.
    pub definition: serde_json::Value,
    /// When it was last set (RFC 3339).
    pub changed_at: String,
    /// Who set it.
    pub changed_by: String,
}

/// Sets a route. Its definition was checked.
#[derive(Debug, Clone)]
pub struct SetRoute {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// The keys of `[routes.NAME]` in a tenant's file.
    pub definition: serde_json::Value,
    /// Absent where it runs none.
    pub plugin: Option<PluginName>,
    /// Under which its operations are recorded.
    pub namespace: Namespace,
    /// What it runs, if it is not bound to a version of this plugin already.
    pub digest: Option<PluginDigest>,
    /// What the tenant asks of a version before it advances.
    pub gate: PromotionGate,
    /// Who does it, when and why.
    pub act: Act,
}

/// A publisher's key that is to be registered.
#[derive(Debug, Clone)]
pub struct NewPublisherKey {
    /// Who believes the key.
    pub tenant: TenantName,
    /// Whose key it is.
    pub publisher: PublisherName,
    /// The name of the key, which means this key for ever.
    pub key_id: KeyId,
    /// The key.
    pub public_key: PublicKey,
    /// Who does it, when and why.
    pub act: Act,
}

/// What registering a publisher's key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum KeyRegistered {
    /// The key is registered, and was not before.
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
    /// Who believed the key.
    pub tenant: TenantName,
    /// Whose key it is.
    pub publisher: PublisherName,
    /// The name of the key.
    pub key_id: KeyId,
    /// Who does it, when and why.
    pub act: Act,
}

/// What a run of one version came to, for comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// [`tollgate_core::outcome::Outcome::name`].
    pub outcome: String,
    /// JSON: `[{"operation_key", "kind", "action"}, …]`, in the order of the proposals.
    pub actions_json: String,
    /// The fuel that the run used.
    pub fuel: u64,
}

/// A shadow's run beside an active version's.
#[derive(Debug, Clone)]
pub struct ShadowRecord {
    /// The active version's run.
    pub run: RunId,
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// The version that ran with effect.
    pub active: PluginDigest,
    /// The version that ran without.
    pub shadow: PluginDigest,
    /// When the shadow's run began.
    pub started_at: UnixMillis,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// What the shadow or the host said about its end.
    pub message: String,
    /// What the active version came to.
    pub active_result: RunResult,
    /// What the shadow came to.
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
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// Whether those are left out that do not differ.
    pub differing_only: bool,
    /// The most runs that are returned.
    pub rows_max: usize,
}

/// A trial of a candidate over recorded runs of a route.
#[derive(Debug, Clone)]
pub struct TrialRecord {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// The version that was active, which the candidate was compared with.
    pub active: PluginDigest,
    /// The version that was tried.
    pub candidate: PluginDigest,
    /// What the trial found.
    pub result: TrialResult,
    /// Who asked for it.
    pub actor: String,
    /// When it was made.
    pub at: UnixMillis,
}

/// Which lines, the newest first.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Only this tenant's and, for a digest, the operator's.
    pub tenant: Option<TenantName>,
    /// Only lines about this route.
    pub route: Option<RouteName>,
    /// Only lines about this version.
    pub digest: Option<PluginDigest>,
    /// None about settings and their secrets.
    pub without_settings: bool,
    /// Also what people did to single events: replays, sending again, decisions. They stand behind the others, the newest first.
    pub with_events: bool,
    /// The most lines that are returned.
    pub rows_max: usize,
}
