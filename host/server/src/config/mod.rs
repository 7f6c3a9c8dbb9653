//! Configuration in two stages: `raw` is what the files say, [`Config`] is what was checked. Nothing takes effect before
//! all of it is checked, and every error points at its line.
//!
//! One `tollgate.toml` belongs to the operator, one file per tenant in the folder beside it to the tenants.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tollgate_core::grant::Grant;
use tollgate_core::ids::{DestinationName, Digest, FamilyName, PluginDigest, PluginName, RouteName, SourceName, TenantName};
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::profile::Profile;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::route::RouteMatch;
use tollgate_core::secret::Secret;
use tollgate_core::verify::Keyring;

/// Everything a host needs to run, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub edge: EdgeConfig,
    pub operator: OperatorConfig,
    pub store: StoreConfig,
    pub worker: WorkerConfig,
    pub delivery: DeliveryConfig,
    pub plugins: BTreeMap<PluginName, PluginConfig>,
    pub tenants: BTreeMap<TenantName, Tenant>,
    pub lifecycles: BTreeMap<FamilyName, Arc<Lifecycle>>,
}

/// The public listener.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    pub listen: SocketAddr,
    /// Threads that accept and answer, each with a listener of its own; default: one per core.
    pub threads: usize,
    pub body_bytes_max: usize,
    pub header_read_ms_max: u64,
    pub body_read_ms_max: u64,
    /// Open connections per thread; further ones wait in the kernel's queue.
    pub connections_max: usize,
}

/// The private listener: operator API, health, metrics.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// Absent: no private listener.
    pub listen: Option<SocketAddr>,
    /// Asked for as a bearer token by everything but health; a listener without a token is refused when checked.
    pub token: Option<Secret>,
}

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The SQLite file.
    pub path: PathBuf,
}

#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Threads that run plugins; default: one per core.
    pub threads: usize,
    pub retry: RetryPolicy,
    /// Where compiled plugins are kept between starts.
    pub cache: Option<PathBuf>,
    pub limits: PluginLimits,
}

/// What one run of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginLimits {
    pub fuel: u64,
    pub deadline_ms: u64,
    pub memory_bytes_max: usize,
}

#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    pub retry: RetryPolicy,
    /// Deliveries at once to one destination.
    pub in_flight_max: usize,
    /// Networks outside the public internet that destinations may be in, as `address/prefix-length`.
    pub allow_networks: Vec<Network>,
    /// Whether destinations may be reached without TLS. Off by default.
    pub allow_http: bool,
}

/// An IP network, for allow-lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix_length: u8,
}

/// A plugin that the operator offers to tenants.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    pub path: PathBuf,
    /// Refuses to start when the file has another digest.
    pub digest: Option<PluginDigest>,
}

#[derive(Debug, Clone)]
pub struct Tenant {
    pub name: TenantName,
    pub sources: BTreeMap<SourceName, Source>,
    pub routes: Vec<Arc<Route>>,
    pub destinations: BTreeMap<DestinationName, Arc<Destination>>,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub name: SourceName,
    pub profile: Arc<Profile>,
    pub keyring: Arc<Keyring>,
    /// The public URL of this source, for schemes that sign it.
    pub public_url: Option<String>,
    /// Conflicts are answered 409 instead of 202.
    pub conflict_409: bool,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub name: RouteName,
    pub matches: RouteMatch,
    pub plugin: PluginName,
    /// The plugin's configuration as the JSON document it is handed.
    pub config_json: String,
    pub config_digest: Digest,
    pub grants: Vec<Grant>,
    /// Where actions go; empty leaves them in the ledger.
    pub destinations: Vec<DestinationName>,
    pub limits: PluginLimits,
}

#[derive(Debug, Clone)]
pub struct Destination {
    pub name: DestinationName,
    pub url: String,
    /// Signs with the first, `whsec_…` (Standard Webhooks); several while rotating: all sign.
    pub secrets: Vec<Secret>,
    pub in_flight_max: usize,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((network, width), (candidate, candidate_width)) = (bits(self.address), bits(address));
        let keep = u32::from(self.prefix_length.min(width as u8));
        width == candidate_width && (keep == 0 || (network ^ candidate) >> (128 - keep) == 0)
    }
}
