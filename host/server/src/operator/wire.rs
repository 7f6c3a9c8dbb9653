//! What goes over the private listener's wire, before it is checked.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{Digest, TenantName, TokenId};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};
use tollgate_store::{
    DeadLetterFilter, HeldFilter, NewToken, ReplayRequest, ReplayWhat, TokenRecord, TraceBy, TraceQuery,
};

/// Rows of one answer when nobody asks for another number.
const ROWS_DEFAULT: usize = 20;
/// Rows of one answer at the most.
const ROWS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceParameters {
    id: Option<String>,
    tenant: Option<String>,
    limit: Option<usize>,
}

impl TraceParameters {
    pub(super) fn checked(self) -> Result<TraceQuery, String> {
        Ok(TraceQuery {
            by: self.id.as_deref().map_or(TraceBy::Newest, TraceBy::named),
            tenant: parse("tenant", self.tenant)?,
            receipts_max: self.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
        })
    }
}

/// A filter on the dead-letter queue, as query parameters, JSON and command line flags alike.
#[derive(Debug, Default, Clone, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeadLetterQuery {
    /// One dead letter, for example dead_7
    #[arg(skip)]
    pub(crate) id: Option<String>,
    /// Only this tenant's
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Only those whose event came in at this source
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Only jobs of this route
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Only deliveries to this destination
    #[arg(long)]
    pub(crate) destination: Option<String>,
    /// Only those that died at or after this instant (RFC 3339)
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Only those whose reason contains this text
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Those already replayed as well
    #[arg(long)]
    pub(crate) with_replayed: bool,
    /// At most this many, newest first
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

impl DeadLetterQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self) -> Result<DeadLetterFilter, String> {
        Ok(DeadLetterFilter {
            id: parse("id", self.id)?,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            route: parse("route", self.route)?,
            destination: parse("destination", self.destination)?,
            since: since(self.since)?,
            reason: self.reason,
            with_replayed: self.with_replayed,
            rows_max: self.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
        })
    }
}

/// A replay request: one receipt, or dead letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letters: Option<DeadLetterQuery>,
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Who asks, for the history.
    pub(crate) actor: String,
}

impl ReplayBody {
    /// # Errors
    /// In words, when it names nothing, both, or something that is not what it says.
    pub(crate) fn checked(self, now: UnixMillis) -> Result<ReplayRequest, String> {
        let what = match (self.receipt, self.dead_letters) {
            (Some(receipt), None) => ReplayWhat::Receipt(receipt.parse().map_err(|error| format!("receipt: {error}"))?),
            (None, Some(query)) => ReplayWhat::DeadLetters(query.checked()?),
            (None, None) | (Some(_), Some(_)) => return Err("name either `receipt` or `dead_letters`".to_owned()),
        };
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        Ok(ReplayRequest {
            what,
            dry_run: self.dry_run,
            now,
            actor: self.actor,
        })
    }
}

/// A filter on the receipts that wait for review, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HeldQuery {
    /// Only this tenant's
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Only those that came in at this source
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Only those received at or after this instant (RFC 3339)
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Only those whose reason contains this text
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Those already reviewed as well
    #[arg(long)]
    pub(crate) with_reviewed: bool,
    /// At most this many, newest first
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

impl HeldQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self) -> Result<HeldFilter, String> {
        Ok(HeldFilter {
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            since: since(self.since)?,
            reason: self.reason,
            with_reviewed: self.with_reviewed,
            rows_max: self.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
        })
    }
}

/// Bytes of a token's name at the most.
const TOKEN_NAME_BYTES_MAX: usize = 100;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Days that a token may be valid at the most; one without an end is valid until it is revoked.
const TOKEN_DAYS_MAX: u32 = 3650;

/// A token that is asked for, as JSON and command line flags alike.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTokenBody {
    /// What it is for, for example "CI of the cashback plugin"
    pub(crate) name: String,
    /// operator, tenant-admin, plugin-author or viewer
    #[arg(long)]
    pub(crate) role: String,
    /// The tenant that it is for; without one, the whole host
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Days until it ends; without, when it is revoked
    #[arg(long, value_name = "DAYS")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in_days: Option<u32>,
}

impl NewTokenBody {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self, now: UnixMillis) -> Result<NewToken, String> {
        if self.name.trim().is_empty() {
            return Err("name: say what the token is for".to_owned());
        }
        mask::check_note("name", &self.name, TOKEN_NAME_BYTES_MAX)?;
        let expires_at = match self.expires_in_days {
            Some(days @ 1..=TOKEN_DAYS_MAX) => Some(UnixMillis(now.0 + i64::from(days) * DAY_MS)),
            Some(days) => return Err(format!("expires_in_days: {days} is not 1 to {TOKEN_DAYS_MAX}")),
            None => None,
        };
        Ok(NewToken {
            digest: Digest([0; 32]),
            name: self.name,
            role: self.role.parse().map_err(|error| format!("role: {error}"))?,
            tenant: parse("tenant", self.tenant)?,
            created_by: String::new(),
            now,
            expires_at,
        })
    }
}

/// A token that was made. The text is shown this once: the host keeps its digest only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IssuedToken {
    pub(crate) id: TokenId,
    pub(crate) token: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) tenant: Option<TenantName>,
    pub(crate) expires_at: Option<String>,
}

/// A token as people see it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenView {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) tenant: Option<TenantName>,
    pub(crate) created_at: String,
    pub(crate) created_by: String,
    pub(crate) expires_at: Option<String>,
    pub(crate) revoked_at: Option<String>,
    pub(crate) revoked_by: Option<String>,
}

impl From<TokenRecord> for TokenView {
    fn from(token: TokenRecord) -> Self {
        let (revoked_at, revoked_by) = token.revoked.unzip();
        Self {
            id: token.id,
            name: token.name,
            role: token.role.to_string(),
            tenant: token.tenant,
            created_at: token.created_at.to_string(),
            created_by: token.created_by,
            expires_at: token.expires_at.map(|at| at.to_string()),
            revoked_at: revoked_at.map(|at| at.to_string()),
            revoked_by,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokedToken {
    pub(crate) id: TokenId,
    /// Whether it was valid until now.
    pub(crate) revoked: bool,
}

fn since(text: Option<String>) -> Result<Option<UnixMillis>, String> {
    text.map(|text| {
        UnixMillis::from_rfc3339(&text)
            .ok_or_else(|| format!("since: `{text}` is not an instant such as 2026-05-05T10:00:00Z"))
    })
    .transpose()
}

fn parse<T: std::str::FromStr<Err = tollgate_core::ids::IdError>>(
    field: &str,
    text: Option<String>,
) -> Result<Option<T>, String> {
    text.map(|text| text.parse().map_err(|error| format!("{field}: {error}")))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::ids::JobId;

    #[test]
    fn an_identifier_is_recognised_by_its_look_and_anything_else_is_text() {
        assert_eq!(TraceBy::named("job_7"), TraceBy::Job(JobId(7)));
        assert_eq!(
            TraceBy::named("rcpt_00000000000000000000000000000000"),
            TraceBy::Receipt("rcpt_00000000000000000000000000000000".parse().unwrap())
        );
        assert_eq!(
            TraceBy::named("run_x"),
            TraceBy::Text("run_x".into()),
            "a provider may name its events as it likes"
        );
        assert_eq!(TraceBy::named("evt_12345"), TraceBy::Text("evt_12345".into()));
        assert_eq!(TraceBy::named("cashback:r_1"), TraceBy::Text("cashback:r_1".into()));
    }
}
