//! A route: which events it takes, and what is done with them. The same natively and in the pieces of a Spin app.

use serde::{Deserialize, Serialize};
use tollgate_core::action::ForwardForm;
use tollgate_core::grant::Grant;
use tollgate_core::ids::{DestinationName, Digest, Namespace, PluginName, RouteName};
use tollgate_core::limits;
use tollgate_core::registry::Binding;
use tollgate_core::route::RouteMatch;

/// A tenant's rule that hands matching events to one plugin, or on to destinations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    /// The name that jobs and the operator API know it by.
    pub name: RouteName,
    /// Which events it takes.
    pub matches: RouteMatch,
    /// [`tollgate_core::forward::NAME`] where it forwards.
    pub plugin: PluginName,
    /// Set where it runs no plugin, and hands the event itself on in this form.
    pub forward: Option<ForwardForm>,
    /// The plugin's configuration as the JSON document it is handed: keys in order of their bytes.
    pub config_json: String,
    /// SHA-256 of `config_json`.
    pub config_digest: Digest,
    /// What the plugin may propose.
    pub grants: Vec<Grant>,
    /// Whose operation keys its actions are recorded under: the plugin's, unless the route says `operations`.
    pub namespace: Namespace,
    /// Where actions go; empty leaves them in the ledger.
    pub destinations: Vec<DestinationName>,
    /// What one run may use.
    pub limits: PluginLimits,
    /// Which versions of the plugin it runs. No file says it: the registry of a running host adds it, so that a job sees a route and its
    /// binding of the same moment.
    #[serde(skip)]
    pub binding: Option<Binding>,
}

/// What one run of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLimits {
    /// Fuel.
    pub fuel: u64,
    /// Time by the clock, in milliseconds.
    pub deadline_ms: u64,
    /// All memories and tables together, in bytes.
    pub memory_bytes_max: usize,
    /// Distinct state keys that one run reads or writes.
    pub state_keys_max: usize,
    /// State bytes that one run reads or writes.
    pub state_bytes_max: usize,
    /// State bytes that the plugin has for the tenant in all, keys and values.
    pub state_total_max: u64,
}

pub(crate) const MIB: usize = 1024 * 1024;

impl PluginLimits {
    /// What a plugin gets when nobody says otherwise.
    pub const DEFAULT: Self = Self {
        fuel: limits::RUN_FUEL,
        deadline_ms: limits::RUN_DEADLINE_MS,
        memory_bytes_max: limits::RUN_MEMORY_BYTES_MAX,
        state_keys_max: limits::STATE_KEYS_PER_RUN_MAX,
        state_bytes_max: limits::STATE_BYTES_PER_RUN_MAX,
        state_total_max: limits::STATE_TOTAL_BYTES,
    };
    /// What an operator may give at most. The deadline leaves a job's lease time to settle.
    pub const MOST: Self = Self {
        fuel: 100_000_000_000,
        deadline_ms: 10_000,
        memory_bytes_max: 1024 * MIB,
        state_keys_max: 1024,
        state_bytes_max: 4 * MIB,
        state_total_max: 1 << 40,
    };
}
