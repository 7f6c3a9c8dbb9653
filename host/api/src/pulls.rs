//! Pulled destinations: their owners fetch what waits there, and say what became of it (promise P9).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{DestinationName, OutboxId, TenantName};
use tollgate_core::outbox::PullLease;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::parse;

/// A pulled destination of the caller's tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PullPath {
    /// The destination's name.
    pub destination: DestinationName,
}

/// How much is fetched, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PullQuery {
    /// The tenant whose destination it is; a token of one tenant needs to name none
    #[cfg_attr(feature = "cli", arg(long))]
    pub tenant: Option<String>,
    /// At most this many deliveries; 10 unless said, up to 100
    #[cfg_attr(feature = "cli", arg(long))]
    pub max: Option<u64>,
    /// Wait for so many seconds where there is nothing; 0 unless said, up to 20
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS"))]
    pub wait: Option<u64>,
    /// Hold what is fetched for so many seconds; 60 unless said, 5 to 3600
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS"))]
    pub lease: Option<u64>,
}

/// A [`PullQuery`], checked.
#[derive(Debug, Clone)]
pub struct PullAsked {
    /// The tenant whose destination it is.
    pub tenant: Option<TenantName>,
    /// The most deliveries that are handed out.
    pub rows_max: usize,
    /// How long to wait where there is nothing, in seconds.
    pub wait_s: u64,
    /// How long what is handed out may be held, in seconds.
    pub lease_s: u64,
}

impl PullQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says, or out of bounds.
    pub fn checked(self) -> Result<PullAsked, String> {
        let rows_max = within("max", self.max, 10, 1, limits::PULL_ROWS_MAX as u64)?;
        Ok(PullAsked {
            tenant: parse("tenant", self.tenant)?,
            rows_max: usize::try_from(rows_max).unwrap_or(1),
            wait_s: within("wait", self.wait, 0, 0, limits::PULL_WAIT_S_MAX)?,
            lease_s: within(
                "lease",
                self.lease,
                limits::PULL_LEASE_S,
                limits::PULL_LEASE_S_MIN,
                limits::PULL_LEASE_S_MAX,
            )?,
        })
    }
}

fn within(field: &str, asked: Option<u64>, unless_said: u64, least: u64, most: u64) -> Result<u64, String> {
    let number = asked.unwrap_or(unless_said);
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{field}: {number} is out of bounds: write {least} to {most}"))
    }
}

/// What was fetched. It is leased: nobody else is handed it until its lease is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Pulled {
    /// The oldest first; empty where nothing is due.
    pub deliveries: Vec<PulledDelivery>,
}

/// One delivery, as it would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PulledDelivery {
    /// What it is confirmed or given back under: `lease_42_1`.
    pub lease: String,
    /// Until when it is leased; as JSON, RFC 3339. Then it counts as an attempt that failed.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub leased_until: UnixMillis,
    /// The delivery.
    pub delivery: OutboxId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What would be sent as headers, names in lower case: `webhook-id` and `idempotency-key` are the same each time.
    pub headers: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub body: String,
}

/// Deliveries that were fetched and are in good hands.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmBody {
    /// The tenant whose destination it is; a token of one tenant needs to name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Their leases.
    pub leases: Vec<String>,
}

/// Deliveries that were fetched and are to be tried again.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GiveBackBody {
    /// The tenant whose destination it is; a token of one tenant needs to name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Their leases.
    pub leases: Vec<String>,
    /// Not before so many seconds have passed, up to a day; without it, as the retry policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Some leases, read.
#[derive(Debug, Clone)]
pub struct LeasesAsked {
    /// The tenant whose destination it is.
    pub tenant: Option<TenantName>,
    /// Each once.
    pub leases: Vec<PullLease>,
}

impl ConfirmBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when it names no lease, too many, or what is none.
    pub fn checked(self) -> Result<LeasesAsked, String> {
        leases(self.tenant, &self.leases)
    }
}

impl GiveBackBody {
    /// Checks the request. Returns the leases, how long they are not offered again, in milliseconds, and why.
    ///
    /// # Errors
    /// As [`ConfirmBody::checked`], or when the delay or the reason is out of bounds.
    pub fn checked(self) -> Result<(LeasesAsked, Option<i64>, String), String> {
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        let most_s = u64::try_from(limits::RETRY_AFTER_MS_MAX / 1000).unwrap_or(0);
        let delay_ms = match self.delay {
            Some(delay) => Some(within("delay", Some(delay), 0, 0, most_s)?),
            None => None,
        };
        let delay_ms = delay_ms.and_then(|delay| i64::try_from(delay * 1000).ok());
        Ok((leases(self.tenant, &self.leases)?, delay_ms, self.why))
    }
}

fn leases(tenant: Option<String>, texts: &[String]) -> Result<LeasesAsked, String> {
    if texts.is_empty() || texts.len() > limits::PULL_ROWS_MAX {
        return Err(format!(
            "leases: {} are named; name 1 to {}",
            texts.len(),
            limits::PULL_ROWS_MAX
        ));
    }
    let mut leases = Vec::with_capacity(texts.len());
    for text in texts {
        let lease = text
            .parse::<PullLease>()
            .map_err(|error| format!("leases: `{}`: {error}", mask::line(text, 60)))?;
        if !leases.contains(&lease) {
            leases.push(lease);
        }
    }
    Ok(LeasesAsked {
        tenant: parse("tenant", tenant)?,
        leases,
    })
}

/// What became of leases that were confirmed or given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PullEnds {
    /// Those whose attempts are in the ledger now.
    pub ended: Vec<EndedLease>,
    /// Those that were refused, which changed nothing.
    pub refused: Vec<RefusedLease>,
}

/// A lease that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct EndedLease {
    /// The lease.
    pub lease: String,
    /// What its delivery is now: `delivered`, `waiting` or `dead`.
    pub became: String,
    /// Of one that waits, when it is offered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
}

/// A lease that was not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RefusedLease {
    /// The lease.
    pub lease: String,
    /// Why not, in words.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p9_a_pull_keeps_to_its_bounds() {
        let asked = PullQuery::default().checked().unwrap();
        assert_eq!((asked.rows_max, asked.wait_s, asked.lease_s), (10, 0, 60));
        for (query, part) in [
            (
                PullQuery {
                    max: Some(0),
                    ..PullQuery::default()
                },
                "max: 0 is out of bounds: write 1 to 100",
            ),
            (
                PullQuery {
                    max: Some(101),
                    ..PullQuery::default()
                },
                "max: 101",
            ),
            (
                PullQuery {
                    wait: Some(21),
                    ..PullQuery::default()
                },
                "wait: 21 is out of bounds: write 0 to 20",
            ),
            (
                PullQuery {
                    lease: Some(4),
                    ..PullQuery::default()
                },
                "lease: 4 is out of bounds: write 5 to 3600",
            ),
            (
                PullQuery {
                    tenant: Some("A".into()),
                    ..PullQuery::default()
                },
                "tenant:",
            ),
        ] {
            assert!(query.clone().checked().unwrap_err().contains(part), "{query:?}");
        }
        let body = |leases: &[&str]| ConfirmBody {
            tenant: None,
            leases: leases.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(body(&["lease_1_1", "lease_1_1"]).checked().unwrap().leases.len(), 1);
        assert!(body(&[]).checked().unwrap_err().contains("name 1 to 100"));
        assert!(body(&["out_1"]).checked().unwrap_err().contains("lease_42_1"));
        let late = GiveBackBody {
            leases: vec!["lease_1_1".into()],
            delay: Some(u64::MAX),
            ..GiveBackBody::default()
        };
        assert!(late.checked().unwrap_err().contains("delay:"));
    }
}
