//! The plugin registry as its callers see it: versions, what routes run, routes and publishers' keys.

use serde::{Deserialize, Serialize};
use tollgate_core::action::ForwardForm;
use tollgate_core::grant::Grant;
use tollgate_core::ids::{
    DestinationName, Digest, KeyId, Namespace, PluginDigest, PluginName, PublisherName, RouteName, RunId, SourceName,
    Status, TenantName,
};
use tollgate_core::registry::{Binding, ShadowTally, Standing};

use crate::check::{ROWS_MAX, rows_within};

/// Lines of a history, and runs of a shadow, when nobody asks for another number.
const LINES_DEFAULT: usize = 50;

/// A version as the registry has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PluginVersion {
    pub digest: PluginDigest,
    pub owner: Option<TenantName>,
    pub name: PluginName,
    pub version: String,
    /// As the manifest says; proven by the signature only.
    pub publisher: String,
    pub standing: Standing,
    pub component_bytes: u64,
    pub manifest: serde_json::Value,
    pub report: serde_json::Value,
    pub signature: Option<SignatureView>,
    pub added_at: String,
    pub added_by: String,
    /// Where it runs, of the tenants that the question was narrowed to.
    pub bound: Vec<BoundView>,
}

/// Whom a version's signature names. Whether it counts is each tenant's to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SignatureView {
    pub publisher: PublisherName,
    pub key_id: KeyId,
}

/// One place where a version runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BoundView {
    pub tenant: TenantName,
    pub route: RouteName,
    /// `active`, `canary` or `shadow`.
    pub stage: String,
}

/// A route as it stands, from a file or set by API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RouteView {
    pub tenant: TenantName,
    pub route: RouteName,
    pub set_by: SetBy,
    /// As it was set by API; the same keys as in a tenant's file.
    pub definition: Option<serde_json::Value>,
    /// None where it forwards.
    pub plugin: Option<PluginName>,
    /// The form in which it hands the event itself on, without a plugin.
    pub forward: Option<ForwardForm>,
    pub binding: Option<Binding>,
    pub config: serde_json::Value,
    pub config_digest: Digest,
    pub grants: Vec<Grant>,
    /// The namespace under which its operations are recorded.
    pub operations: Namespace,
    pub destinations: Vec<DestinationName>,
    pub sources: Vec<SourceName>,
    /// Patterns of event types.
    pub types: Vec<String>,
    pub statuses: Vec<Status>,
    /// What the route does with an event that comes late: run, skip or hold; null: what the lifecycle says.
    pub late: Option<String>,
    pub limits: RouteLimits,
    pub changed_at: Option<String>,
    pub changed_by: Option<String>,
}

/// Where a route's definition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SetBy {
    Api,
    File,
}

impl SetBy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
        }
    }
}

/// What one run on a route may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RouteLimits {
    pub fuel: u64,
    pub deadline_ms: u64,
    pub memory_bytes: u64,
    pub state_keys: u64,
    pub state_bytes: u64,
}

/// What believing a publisher's key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherRegistered {
    pub registered: bool,
    /// Whether it was not known before.
    pub new: bool,
}

/// What ending a publisher's key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherRevoked {
    /// Whether it was believed until now.
    pub revoked: bool,
}

/// A change of a binding, done or tried dry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BindingChange {
    pub dry_run: bool,
    pub tenant: TenantName,
    pub route: RouteName,
    pub what: String,
    pub before: Option<Binding>,
    pub after: Option<Binding>,
    /// What whoever changes it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A publisher's key that a tenant knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherKeyView {
    pub tenant: TenantName,
    pub publisher: PublisherName,
    pub key_id: KeyId,
    /// Base64.
    pub public_key: String,
    pub registered_at: String,
    pub registered_by: String,
    pub revoked_at: Option<String>,
    pub revoked_by: Option<String>,
}

/// One run of a shadow, beside the active version's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ShadowRunView {
    pub run: RunId,
    pub active: PluginDigest,
    pub shadow: PluginDigest,
    pub started_at: String,
    pub duration_us: u64,
    pub fuel: u64,
    pub outcome: String,
    pub message: String,
    pub actions: serde_json::Value,
    pub active_outcome: String,
    pub active_actions: serde_json::Value,
    pub active_fuel: u64,
    pub beyond_record: bool,
    pub differs: bool,
}

/// What a route's shadow did, against the version that is active now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ShadowReport {
    pub tally: Option<ShadowTally>,
    pub runs: Vec<ShadowRunView>,
}

/// One line of the registry's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RegistryLine {
    pub at: String,
    pub actor: String,
    pub what: String,
    pub why: Option<String>,
    pub tenant: Option<TenantName>,
    pub route: Option<RouteName>,
    pub plugin: Option<PluginName>,
    pub digest: Option<PluginDigest>,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// A plugin as its digest (`sha256:…`), the first digits of it, or `name@version`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PluginPath {
    pub plugin: String,
}

/// A tenant's route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RoutePath {
    pub tenant: TenantName,
    pub route: RouteName,
}

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TenantPath {
    pub tenant: TenantName,
}

/// A tenant's key of a publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherPath {
    pub tenant: TenantName,
    pub publisher: PublisherName,
    pub key: KeyId,
}

/// How a component is handed in.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UploadQuery {
    /// Whose it is; without one, the operator's or that of the token's tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Vet it, and keep nothing.
    pub dry_run: bool,
    /// Who hands it in, for the history.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
}

/// Whose plugins are meant.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PluginsQuery {
    /// Those that this tenant sees: its own and the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Which plugin of that name or digest is meant.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PluginQuery {
    /// The one that this tenant sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// How much of a plugin's history.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PluginHistoryQuery {
    /// The plugin that this tenant sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// At most this many lines, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl PluginHistoryQuery {
    pub fn rows_max(&self) -> usize {
        rows_within(self.limit, LINES_DEFAULT, ROWS_MAX)
    }
}

/// How much of a route's history.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RouteHistoryQuery {
    /// At most this many lines, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl RouteHistoryQuery {
    pub fn rows_max(&self) -> usize {
        rows_within(self.limit, LINES_DEFAULT, ROWS_MAX)
    }
}

/// Which runs of a route's shadow.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ShadowRunsQuery {
    /// At most this many, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Only those that differ from the active version's.
    pub differing: bool,
}

impl ShadowRunsQuery {
    pub fn rows_max(&self) -> usize {
        rows_within(self.limit, LINES_DEFAULT, ROWS_MAX)
    }
}

/// Why a change is made, and whether it only is tried.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActBody {
    /// For the history. Required: somebody will read it when things went wrong.
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// A change of what a route runs.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeBody {
    /// Digest, first digits of it, or `name@version`. Absent to end a shadow or a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// A canary's share of subjects, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_mille: Option<u16>,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub actor: String,
}

/// A route on its way in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RouteBody {
    /// The keys of `[routes.NAME]` in a tenant's file.
    pub definition: serde_json::Value,
    /// What it runs: digest, first digits of it, or `name@version`. Absent: what it is bound to, or the newest that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub actor: String,
}

/// A publisher's key on its way in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PublisherBody {
    pub publisher: String,
    pub key_id: String,
    /// Ed25519, 32 bytes in base64.
    pub public_key: String,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub actor: String,
}
