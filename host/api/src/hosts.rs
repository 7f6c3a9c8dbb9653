//! The hosts that share a store, and which of them work.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::HostName;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

/// A process that has the store open as a host, or had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct HostView {
    /// The name that its configuration gives it, or its machine's. Several processes may have the same.
    pub name: HostName,
    /// The process: the name and its number on its machine. Leases are held under it.
    pub process: String,
    /// Its version.
    pub version: String,
    /// Whether it is there.
    pub state: HostState,
    /// When it opened the store; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub started_at: UnixMillis,
    /// When it last said that it is there, by the store's clock; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub seen_at: UnixMillis,
    /// How long ago that was, in milliseconds.
    pub seen_ms: u64,
    /// Names what its tenants run: the same for hosts whose tenants' files, and the files that those name, are the same. Empty until its plugins
    /// are loaded.
    pub configuration: String,
    /// The longest that it had not looked what other hosts changed, in the second before it last said that it is there; in milliseconds. Null where no
    /// other host can change anything.
    pub lag_ms: Option<u64>,
    /// Jobs that it has leased; null where the store does not say by whom.
    pub jobs: Option<u64>,
    /// Deliveries that it has leased; null where the store does not say by whom.
    pub deliveries: Option<u64>,
    /// Set while it is to claim nothing.
    pub drain: Option<Drain>,
}

impl HostView {
    /// Whether it is drained and holds nothing any more.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.jobs == Some(0) && self.deliveries == Some(0)
    }
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It has said so a moment ago.
    Running,
    /// It has said nothing for ten seconds or more: it was killed, hangs, or does not reach the store.
    Gone,
    /// It has ended by itself.
    Stopped,
}

impl HostState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }
}

/// A host is to claim nothing more: somebody's word, which holds until it is taken back, over restarts too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Drain {
    /// Since when; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// Who asked for it.
    pub by: String,
    /// Why; empty where nobody said.
    pub why: String,
}

/// A host by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct HostPath {
    /// The host's name.
    pub host: HostName,
}

/// Whether a host is to claim work.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DrainBody {
    /// Let it claim work again.
    #[serde(default)]
    pub undo: bool,
    /// The reason, for people.
    #[serde(default)]
    pub why: String,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl DrainBody {
    /// Checks the request, which is made at `at`. None takes a drain back.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self, at: UnixMillis) -> Result<Option<Drain>, String> {
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        Ok((!self.undo).then_some(Drain {
            at,
            by: self.actor,
            why: self.why,
        }))
    }
}

/// What draining a host did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct DrainReport {
    /// The host that was named.
    pub host: HostName,
    /// Whether this changed anything: it was not drained before, or with `undo` it was.
    pub changed: bool,
    /// Set while it is to claim nothing: the word that holds, which is the first one.
    pub drain: Option<Drain>,
}
