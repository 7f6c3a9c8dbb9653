//! What people changed, in one list, and how far the chain of receipts goes.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::TenantName;

use crate::check::{ROWS_MAX, parse, rows_within};
use crate::plugins::RegistryLine;

/// Changes that one answer has when nobody asks for another number.
const CHANGES_DEFAULT: usize = 100;

/// Which changes, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// Only those of this tenant
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// At most this many changes, the newest first; 100 unless said
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// An [`AuditQuery`], checked.
#[derive(Debug, Clone)]
pub struct AuditAsked {
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
    /// The most changes that are returned.
    pub rows_max: usize,
}

impl AuditQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<AuditAsked, String> {
        Ok(AuditAsked {
            tenant: parse("tenant", self.tenant)?,
            rows_max: rows_within(self.limit, CHANGES_DEFAULT, ROWS_MAX),
        })
    }
}

/// What people changed, and how far the chain of receipts goes.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Audit {
    /// The changes that the caller may see, the newest first. Of an issue it is the last one that somebody made. What one request did to
    /// several events (replays, decisions, sending again) is one line: the trace of each has its own. Of a replay `actor` has the reason as well.
    pub changes: Vec<RegistryLine>,
    /// The chain of the whole host's receipts; null for whoever is of one tenant.
    pub chain: Option<ChainView>,
}

/// The end of the chain of receipts, as the host has it. Whether the chain holds says `tollgate audit verify`, which reads all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ChainView {
    /// How many receipts are in it.
    pub receipts: u64,
    /// The link of the newest (`sha256:…`), as `tollgate audit verify` says what the chain ends with.
    pub head: String,
}
