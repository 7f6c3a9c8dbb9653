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
    /// SHA-256 of the component.
    pub digest: PluginDigest,
    /// The tenant that uploaded it; null for the operator's, which every tenant sees.
    pub owner: Option<TenantName>,
    /// The plugin's name, from the manifest.
    pub name: PluginName,
    /// The author's version, from the manifest.
    pub version: String,
    /// The publisher that the manifest names; only the signature proves it.
    pub publisher: String,
    /// How far it has come in the registry.
    pub standing: Standing,
    /// How long the component is.
    pub component_bytes: u64,
    /// What the plugin says of itself.
    pub manifest: serde_json::Value,
    /// What vetting found.
    pub report: serde_json::Value,
    /// Who vouches for it, if somebody signed it.
    pub signature: Option<SignatureView>,
    /// When it was uploaded (RFC 3339).
    pub added_at: String,
    /// Who uploaded it.
    pub added_by: String,
    /// Where it runs, of the tenants that the question was narrowed to.
    pub bound: Vec<BoundView>,
}

/// Whom a version's signature names. Whether it counts is each tenant's to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SignatureView {
    /// Who vouches.
    pub publisher: PublisherName,
    /// Which of the publisher's keys signed.
    pub key_id: KeyId,
}

/// One place where a version runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BoundView {
    /// The tenant that runs it.
    pub tenant: TenantName,
    /// The route that runs it.
    pub route: RouteName,
    /// `active`, `canary` or `shadow`.
    pub stage: String,
}

/// A route as it stands, from a file or set by API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RouteView {
    /// Whose route it is.
    pub tenant: TenantName,
    /// Its name.
    pub route: RouteName,
    /// Where its definition is.
    pub set_by: SetBy,
    /// The definition that was set by API, with the keys of a tenant's file; null for a route of a file.
    pub definition: Option<serde_json::Value>,
    /// The plugin that it runs; null where it forwards.
    pub plugin: Option<PluginName>,
    /// The form in which it hands the event itself on, without a plugin.
    pub forward: Option<ForwardForm>,
    /// Which versions it runs; null where it forwards.
    pub binding: Option<Binding>,
    /// The plugin's configuration, as JSON.
    pub config: serde_json::Value,
    /// SHA-256 of that configuration.
    pub config_digest: Digest,
    /// What the plugin may propose.
    pub grants: Vec<Grant>,
    /// The namespace under which its operations are recorded.
    pub operations: Namespace,
    /// Where its actions go; empty leaves them in the ledger.
    pub destinations: Vec<DestinationName>,
    /// The sources whose events it takes; empty for all.
    pub sources: Vec<SourceName>,
    /// Patterns of the event types that it takes; empty for all.
    pub types: Vec<String>,
    /// The lifecycle statuses that it takes; empty for all.
    pub statuses: Vec<Status>,
    /// What it asks of an event's content; null: nothing.
    #[serde(default)]
    pub filter: Option<String>,
    /// What the route does with an event that comes late: run, skip or hold; null: what the lifecycle says.
    pub late: Option<String>,
    /// What one run may use.
    pub limits: RouteLimits,
    /// When it was last set by a call (RFC 3339); null for one of a file.
    pub changed_at: Option<String>,
    /// Who set it.
    pub changed_by: Option<String>,
}

/// Where a route's definition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SetBy {
    /// It was set by a call.
    Api,
    /// It is in the tenant's file.
    File,
    /// It is in the tenant's settings.
    Settings,
}

impl SetBy {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::File => "file",
            Self::Settings => "settings",
        }
    }
}

/// What one run on a route may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RouteLimits {
    /// Fuel.
    pub fuel: u64,
    /// Time by the clock, in milliseconds.
    pub deadline_ms: u64,
    /// All memories and tables together, in bytes.
    pub memory_bytes: u64,
    /// Distinct state keys, read or written.
    pub state_keys: u64,
    /// Bytes of state, read or written.
    pub state_bytes: u64,
}

/// What believing a publisher's key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherRegistered {
    /// Always true: the key is believed.
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
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// What was done, as the history names it.
    pub what: String,
    /// What it ran; null when it ran nothing.
    pub before: Option<Binding>,
    /// What it runs; null when it runs nothing.
    pub after: Option<Binding>,
    /// What whoever changes it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A publisher's key that a tenant knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherKeyView {
    /// Who believes it.
    pub tenant: TenantName,
    /// Whose key it is.
    pub publisher: PublisherName,
    /// The name of the key, unique for the publisher.
    pub key_id: KeyId,
    /// The key's 32 bytes, in base64.
    pub public_key: String,
    /// When it was registered (RFC 3339).
    pub registered_at: String,
    /// Who registered it.
    pub registered_by: String,
    /// When it was revoked (RFC 3339); null while it is believed.
    pub revoked_at: Option<String>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
}

/// One run of a shadow, beside the active version's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ShadowRunView {
    /// The active version's run.
    pub run: RunId,
    /// The version that ran with effect.
    pub active: PluginDigest,
    /// The version that ran without.
    pub shadow: PluginDigest,
    /// When the shadow's run began (RFC 3339).
    pub started_at: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The fuel that it used.
    pub fuel: u64,
    /// How it ended.
    pub outcome: String,
    /// What the plugin or the host said about the end.
    pub message: String,
    /// What it proposed.
    pub actions: serde_json::Value,
    /// How the active version's run ended.
    pub active_outcome: String,
    /// What the active version proposed.
    pub active_actions: serde_json::Value,
    /// The fuel that the active version used.
    pub active_fuel: u64,
    /// Whether it read state that the active version's run had not read, and which may have changed since.
    pub beyond_record: bool,
    /// Whether the two differ in meaning.
    pub differs: bool,
}

/// What a route's shadow did, against the version that is active now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ShadowReport {
    /// How the version that is the shadow now did; null when there is none.
    pub tally: Option<ShadowTally>,
    /// The runs that were asked for, the newest first.
    pub runs: Vec<ShadowRunView>,
}

/// One line of the registry's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RegistryLine {
    /// When it was done (RFC 3339).
    pub at: String,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub what: String,
    /// The reason, where one was given.
    pub why: Option<String>,
    /// The tenant that it is about.
    pub tenant: Option<TenantName>,
    /// The route that it is about.
    pub route: Option<RouteName>,
    /// The plugin that it is about.
    pub plugin: Option<PluginName>,
    /// The version that it is about.
    pub digest: Option<PluginDigest>,
    /// What was before.
    pub from: Option<String>,
    /// What is since.
    pub to: Option<String>,
}

/// A plugin as its digest (`sha256:…`), the first digits of it, or `name@version`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PluginPath {
    /// A digest, the first digits of one, or `name@version`.
    pub plugin: String,
}

/// A tenant's route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RoutePath {
    /// The tenant's name.
    pub tenant: TenantName,
    /// The route's name.
    pub route: RouteName,
}

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TenantPath {
    /// The tenant's name.
    pub tenant: TenantName,
}

/// A tenant's key of a publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PublisherPath {
    /// The tenant's name.
    pub tenant: TenantName,
    /// Whose key it is.
    pub publisher: PublisherName,
    /// The name of the key.
    pub key: KeyId,
}

/// How a component is uploaded.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UploadQuery {
    /// Whose it is; without one, the operator's or that of the token's tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Vets it, and keeps nothing.
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
    /// How many lines are returned at most.
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
    /// How many lines are returned at most.
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
    /// How many runs are returned at most.
    pub fn rows_max(&self) -> usize {
        rows_within(self.limit, LINES_DEFAULT, ROWS_MAX)
    }
}

/// Why a change is made, and whether it only is tried.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActBody {
    /// The reason, for the history. Required: somebody will read it when things went wrong.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
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
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// A route that is to be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RouteBody {
    /// The keys of `[routes.NAME]` in a tenant's file.
    pub definition: serde_json::Value,
    /// What it runs: digest, first digits of it, or `name@version`. Absent: what it is bound to, or the newest that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// A publisher's key that is to be registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PublisherBody {
    /// Whose key it is.
    pub publisher: String,
    /// The name of the key, which means this key for ever.
    pub key_id: String,
    /// Ed25519, 32 bytes in base64.
    pub public_key: String,
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}
