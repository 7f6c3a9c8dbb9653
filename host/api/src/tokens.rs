//! Tokens of the private listener: how they are asked for, shown and revoked (promise O2).

use serde::{Deserialize, Serialize};
use tollgate_core::access::Role;
use tollgate_core::ids::{TenantName, TokenId};
use tollgate_core::portal::Appearance;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{parse, read};

/// Bytes of a token's name at the most.
const TOKEN_NAME_BYTES_MAX: usize = 100;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Days that a token may be valid at the most; one without an end is valid until it is revoked.
const TOKEN_DAYS_MAX: u32 = 3650;

/// A token that is asked for, as JSON and command line flags alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTokenBody {
    /// What it is for, for example "CI of the cashback plugin"
    pub name: String,
    /// operator, tenant-admin, plugin-author, puller or viewer
    #[cfg_attr(feature = "cli", arg(long))]
    pub role: String,
    /// The tenant that it is for; without one, the whole host
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Days until it ends; without, when it is revoked
    #[cfg_attr(feature = "cli", arg(long, value_name = "DAYS"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
    /// Why it is made, kept with it
    #[cfg_attr(feature = "cli", arg(long, default_value = "", hide_default_value = true))]
    #[serde(default)]
    pub why: String,
    /// Say whether it could be made, and make none
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[cfg_attr(feature = "cli", arg(skip))]
    #[serde(default)]
    pub actor: String,
}

impl NewTokenBody {
    /// Checks the request, which is made at `now`.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self, now: UnixMillis) -> Result<WantedToken, String> {
        if self.name.trim().is_empty() {
            return Err("name: say what the token is for".to_owned());
        }
        mask::check_note("name", &self.name, TOKEN_NAME_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        let expires_at = match self.expires_in_days {
            Some(days @ 1..=TOKEN_DAYS_MAX) => Some(UnixMillis(now.0 + i64::from(days) * DAY_MS)),
            Some(days) => return Err(format!("expires_in_days: {days} is not 1 to {TOKEN_DAYS_MAX}")),
            None => None,
        };
        Ok(WantedToken {
            name: self.name,
            role: read("role", &self.role)?,
            tenant: parse("tenant", self.tenant)?,
            created_by: self.actor,
            why: self.why,
            expires_at,
            look: Appearance::default(),
        })
    }
}

/// A [`NewTokenBody`], checked.
#[derive(Debug, Clone)]
pub struct WantedToken {
    /// What it is for, for people and the history.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// None for the whole host.
    pub tenant: Option<TenantName>,
    /// Who asks, as far as they say.
    pub created_by: String,
    /// Empty where nobody said.
    pub why: String,
    /// From this instant on it proves nothing.
    pub expires_at: Option<UnixMillis>,
    /// How the console looks to the holder of a portal link.
    pub look: Appearance,
}

/// A token that was made. The text is shown this once: the host keeps its digest only.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct IssuedToken {
    /// Names the token; null after a dry run.
    pub id: Option<TokenId>,
    /// What its holder presents; null after a dry run.
    pub token: Option<String>,
    /// What it is for.
    pub name: String,
    /// What its holder may do.
    pub role: String,
    /// The only tenant that its holder sees; null for the whole host.
    pub tenant: Option<TenantName>,
    /// From when on it proves nothing (RFC 3339); null when it ends only by revocation.
    pub expires_at: Option<String>,
}

/// A token as people see it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TokenView {
    /// Names the token.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// What its holder may do.
    pub role: String,
    /// The only tenant that its holder sees; null for the whole host.
    pub tenant: Option<TenantName>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// Who asked for it.
    pub created_by: String,
    /// Why it was made; empty where nobody said.
    pub why: String,
    /// From when on it proves nothing (RFC 3339); null when it ends only by revocation.
    pub expires_at: Option<String>,
    /// When it was revoked (RFC 3339); null while it was not.
    pub revoked_at: Option<String>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Why it was revoked.
    pub revoked_why: Option<String>,
    /// What a portal link lets its holder do; absent for tokens of other roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may: Vec<String>,
}

/// Why a token is ended.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// The reason, for the history.
    #[serde(default)]
    pub why: String,
    /// Says whether it is valid, and changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

impl RevokeBody {
    /// Checks the request, which is made at `at`.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self, at: UnixMillis) -> Result<Revocation, String> {
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        Ok(Revocation {
            by: self.actor,
            why: self.why,
            at,
        })
    }
}

/// Who ended a token, why, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Who asked for it.
    pub by: String,
    /// Empty where nobody said.
    pub why: String,
    /// From when on the token proves nothing.
    pub at: UnixMillis,
}

/// What ending a token did.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RevokedToken {
    /// The token that was named.
    pub id: TokenId,
    /// Whether it was valid until now, or is before a dry run.
    pub revoked: bool,
}

/// A token by its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TokenPath {
    /// The token's id.
    pub token: TokenId,
}
