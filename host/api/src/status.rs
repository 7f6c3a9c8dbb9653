//! Whether a host does its work, and what of it waits for a person: on one screen.

use serde::{Deserialize, Serialize};
use tollgate_core::time::UnixMillis;

use crate::counts::Counts;

/// How a host is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct HostStatus {
    /// The host's version.
    pub version: String,
    /// When the process began to serve; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub started_at: UnixMillis,
    /// When all this was so; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// Whether every part works: what `/readyz` answers.
    pub ready: bool,
    /// The parts, each with what is wrong with it.
    pub parts: Vec<Part>,
    /// Where everything is kept.
    pub store: StoreStatus,
    /// What the configuration has.
    pub configured: Configured,
    /// How much of everything there is; null while the store cannot be read.
    pub counts: Option<Counts>,
    /// How long the oldest job waits that has not ended, in seconds since its event came in; null where none waits.
    pub oldest_job_s: Option<u64>,
    /// How long the oldest delivery waits that its destination has not taken, in seconds since its action was recorded; null where none
    /// waits.
    pub oldest_delivery_s: Option<u64>,
    /// What waits for a person, the most urgent first.
    pub attention: Vec<Attention>,
}

/// A part of the host that must work before all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Part {
    /// `store`, `plugins`, `work` or `process`.
    pub name: String,
    /// Whether it works.
    pub works: bool,
    /// What it does, or what is wrong with it.
    pub says: String,
}

/// The store of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct StoreStatus {
    /// `local` for the store of one machine, `postgresql` for one that many hosts share.
    pub kind: String,
    /// What the store's disk has left, in bytes; null where it is not this machine's, or the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// How large that disk is, in bytes.
    pub disk_bytes: Option<u64>,
    /// How long the write-ahead log of the index is, in bytes.
    pub wal_bytes: u64,
}

/// How much a configuration has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Configured {
    /// Tenants that are run.
    pub tenants: usize,
    /// Sources of all tenants.
    pub sources: usize,
    /// Routes of all tenants.
    pub routes: usize,
    /// Destinations of all tenants.
    pub destinations: usize,
}

/// Something that does not mend itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Attention {
    /// The section of docs/operate.md that says what to do; alerts have the same names.
    pub section: String,
    /// How many there are.
    pub count: u64,
    /// What it is, for people.
    pub says: String,
    /// The command to begin with.
    pub first: String,
}
