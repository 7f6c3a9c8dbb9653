//! What goes over the private listener's wire, before it is checked.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{Digest, TenantName, TokenId};
use tollgate_core::route::TypePattern;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};
use tollgate_store::{
    DeadLetterFilter, NewToken, Revocation, RoutableFilter, RoutableStanding, SentFilter, SentOf, SetAsideFilter,
    TokenRecord, TraceBy, TraceQuery,
};

use super::replay::{AskedReplay, ReplayOf};
use super::resend::AskedResend;

/// Rows of one answer when nobody asks for another number.
const ROWS_DEFAULT: usize = 20;
/// Rows of one answer at the most.
const ROWS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceParameters {
    id: Option<String>,
    tenant: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl TraceParameters {
    pub(super) fn checked(self) -> Result<TraceQuery, String> {
        Ok(TraceQuery {
            by: self.id.as_deref().map_or(TraceBy::Newest, TraceBy::named),
            tenant: parse("tenant", self.tenant)?,
            after: parse("after", self.after)?,
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
    /// Go on behind this one, the last of the list before (dead_7)
    #[arg(long)]
    pub(crate) after: Option<String>,
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
            after: parse("after", self.after)?,
            rows_max: self.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
        })
    }
}

/// A replay request: one receipt, dead letters, held jobs, or receipts that are routed again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letters: Option<DeadLetterQuery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_jobs: Option<HeldQuery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipts: Option<RoutingQuery>,
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Who asks, and why, for the history.
    pub(crate) actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl ReplayBody {
    /// # Errors
    /// In words, when it names nothing, several things, or something that is not what it says.
    pub(crate) fn checked(self) -> Result<AskedReplay, String> {
        let what = match (self.receipt, self.dead_letters, self.held_jobs, self.receipts) {
            (Some(receipt), None, None, None) => {
                ReplayOf::Receipt(receipt.parse().map_err(|error| format!("receipt: {error}"))?)
            }
            (None, Some(query), None, None) => ReplayOf::DeadLetters(query.checked()?),
            (None, None, Some(query), None) => ReplayOf::HeldJobs(query.checked()?),
            (None, None, None, Some(query)) => ReplayOf::Receipts(query.checked()?),
            _ => return Err("name one of `receipt`, `dead_letters`, `held_jobs` and `receipts`".to_owned()),
        };
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        let why = self.why.filter(|why| !why.trim().is_empty());
        if let Some(why) = &why {
            mask::check_note("why", why, limits::WHY_BYTES_MAX)?;
        }
        Ok(AskedReplay {
            what,
            dry_run: self.dry_run,
            actor: self.actor,
            why,
        })
    }
}

/// Deliveries that are sent again: one thing's, or those delivered that match, as JSON and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SentQuery {
    /// A delivery, an action or a receipt
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Only this tenant's
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Only those whose event came in at this source
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Only to this destination
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) destination: Option<String>,
    /// Only those delivered at or after this instant (RFC 3339)
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// Only those delivered before this instant (RFC 3339)
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
    /// Go on behind this one, the last of the answer before (out_7)
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
    /// At most this many, the oldest first
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
}

impl SentQuery {
    /// # Errors
    /// In words, when a field is not what its name says, or when nothing narrows it: nobody means all that was ever delivered.
    pub(crate) fn checked(self) -> Result<SentFilter, String> {
        let narrowing = [
            &self.id,
            &self.tenant,
            &self.source,
            &self.destination,
            &self.since,
            &self.until,
        ];
        if narrowing.into_iter().all(Option::is_none) {
            return Err(
                "name a delivery (out_7), an action (act_7) or a receipt (rcpt_…), or narrow by tenant, source, destination, \
                 since or until: all that was ever delivered is never sent again at once"
                    .to_owned(),
            );
        }
        let of = self.id.map(|id| match TraceBy::named(&id) {
            TraceBy::Outbox(entry) => Ok(SentOf::Entry(entry)),
            TraceBy::Action(action) => Ok(SentOf::Action(action)),
            TraceBy::Receipt(receipt) => Ok(SentOf::Receipt(receipt)),
            TraceBy::Job(_) | TraceBy::Run(_) | TraceBy::DeadLetter(_) | TraceBy::Text(_) | TraceBy::Newest => {
                Err(format!(
                    "id: `{}` is no delivery (out_7), action (act_7) or receipt (rcpt_…)",
                    mask::line(&id, 100)
                ))
            }
        });
        Ok(SentFilter {
            of: of.transpose()?,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            destination: parse("destination", self.destination)?,
            since: since(self.since)?,
            until: instant("until", self.until)?,
            after: parse("after", self.after)?,
            rows_max: self.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX),
        })
    }
}

/// A resend request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResendBody {
    pub(crate) deliveries: SentQuery,
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Who asks, and why, for the history.
    pub(crate) actor: String,
    #[serde(default)]
    pub(crate) why: String,
}

impl ResendBody {
    /// # Errors
    /// In words, when nothing narrows it, or a field is not what its name says, or nothing says why.
    pub(crate) fn checked(self) -> Result<AskedResend, String> {
        let of = self.deliveries.checked()?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        if self.why.trim().is_empty() && !self.dry_run {
            return Err("why: say why it is sent again: the history keeps it".to_owned());
        }
        Ok(AskedResend {
            of,
            dry_run: self.dry_run,
            actor: self.actor,
            why: self.why,
        })
    }
}

/// A filter on the receipts that are routed again, as JSON.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RoutingQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// An event type, or the beginning of some with a `*` at its end.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
    /// `accepted`, which is meant when nothing is said, or `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disposition: Option<String>,
    /// Only receipts without any job.
    pub(crate) no_route: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
}

impl RoutingQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self) -> Result<RoutableFilter, String> {
        Ok(RoutableFilter {
            receipt: None,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            event_type: self.event_type.as_deref().map(TypePattern::new).transpose()?,
            status: parse("status", self.status)?,
            subject: parse("subject", self.subject)?,
            since: since(self.since)?,
            until: instant("until", self.until)?,
            standing: match self.disposition.as_deref() {
                None => RoutableStanding::AsJudged,
                Some("accepted") => RoutableStanding::Accepted,
                Some("superseded") => RoutableStanding::Superseded,
                Some("held") => {
                    return Err("disposition: what is held is not routed; say what it is with a review".to_owned());
                }
                Some(other) => return Err(format!("disposition: `{other}` is neither accepted nor superseded")),
            },
            without_jobs: self.no_route,
            after: parse("after", self.after)?,
            rows_max: self.limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX),
        })
    }
}

/// A filter on what is set aside, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HeldQuery {
    /// Only this kind: held-receipt, held-job, conflict, suspected-replay, ledger-conflict, superseded or no-route; without, those that
    /// wait for a person: all but the last two
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only this tenant's
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Only those that came in at this source
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Only held jobs and conflicts with the ledger of this route
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Only what was set aside at or after this instant (RFC 3339)
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Only those whose reason contains this text
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Those already reviewed as well
    #[arg(long)]
    pub(crate) with_reviewed: bool,
    /// Go on behind this one, the last of the list before
    #[arg(long)]
    pub(crate) after: Option<String>,
    /// At most this many; of each kind the newest first
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

impl HeldQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self) -> Result<SetAsideFilter, String> {
        let kind = self
            .kind
            .map(|kind| kind.parse().map_err(|error| format!("kind: {error}")));
        let after = self
            .after
            .map(|after| after.parse().map_err(|error| format!("after: {error}")));
        Ok(SetAsideFilter {
            kind: kind.transpose()?,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            route: parse("route", self.route)?,
            since: since(self.since)?,
            reason: self.reason,
            with_reviewed: self.with_reviewed,
            after: after.transpose()?,
            rows_max: self.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
        })
    }
}

/// Whose set-aside work is counted.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HeldCountsQuery {
    pub(crate) tenant: Option<String>,
}

impl HeldCountsQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self) -> Result<Option<TenantName>, String> {
        parse("tenant", self.tenant)
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
    /// Why it is made, kept with it
    #[arg(long, default_value = "", hide_default_value = true)]
    #[serde(default)]
    pub(crate) why: String,
    /// Who asks, beside the name of the token.
    #[arg(skip)]
    #[serde(default)]
    pub(crate) actor: String,
}

impl NewTokenBody {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self, now: UnixMillis) -> Result<NewToken, String> {
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
        Ok(NewToken {
            digest: Digest([0; 32]),
            name: self.name,
            role: self.role.parse().map_err(|error| format!("role: {error}"))?,
            tenant: parse("tenant", self.tenant)?,
            created_by: self.actor,
            why: self.why,
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
    /// Why it was made; empty where nobody said.
    pub(crate) why: String,
    pub(crate) expires_at: Option<String>,
    pub(crate) revoked_at: Option<String>,
    pub(crate) revoked_by: Option<String>,
    pub(crate) revoked_why: Option<String>,
}

impl From<TokenRecord> for TokenView {
    fn from(token: TokenRecord) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role.to_string(),
            tenant: token.tenant,
            created_at: token.created_at.to_string(),
            created_by: token.created_by,
            why: token.why,
            expires_at: token.expires_at.map(|at| at.to_string()),
            revoked_at: token.revoked.as_ref().map(|end| end.at.to_string()),
            revoked_by: token.revoked.as_ref().map(|end| end.by.clone()),
            revoked_why: token.revoked.map(|end| end.why).filter(|why| !why.is_empty()),
        }
    }
}

/// Why a token is ended.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeBody {
    #[serde(default)]
    pub(crate) why: String,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub(crate) actor: String,
}

impl RevokeBody {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self, at: UnixMillis) -> Result<Revocation, String> {
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        Ok(Revocation {
            by: self.actor,
            why: self.why,
            at,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokedToken {
    pub(crate) id: TokenId,
    /// Whether it was valid until now.
    pub(crate) revoked: bool,
}

fn since(text: Option<String>) -> Result<Option<UnixMillis>, String> {
    instant("since", text)
}

fn instant(field: &str, text: Option<String>) -> Result<Option<UnixMillis>, String> {
    text.map(|text| {
        UnixMillis::from_rfc3339(&text)
            .ok_or_else(|| format!("{field}: `{text}` is not an instant such as 2026-05-05T10:00:00Z"))
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
    fn a_replay_names_one_thing_and_what_is_held_is_not_routed() {
        let body = |json: serde_json::Value| serde_json::from_value::<ReplayBody>(json).unwrap().checked();
        for (json, part) in [
            (serde_json::json!({ "actor": "a" }), "name one of"),
            (
                serde_json::json!({ "actor": "a", "receipts": {}, "held_jobs": {} }),
                "name one of",
            ),
            (
                serde_json::json!({ "actor": "a", "receipts": { "disposition": "held" } }),
                "with a review",
            ),
            (
                serde_json::json!({ "actor": "a", "receipts": { "type": "a.*.b" } }),
                "is not a type pattern",
            ),
            (
                serde_json::json!({ "actor": "a", "receipts": { "until": "noon" } }),
                "until: `noon`",
            ),
        ] {
            let said = body(json.clone()).unwrap_err();
            assert!(said.contains(part), "{json}: {said}");
        }
        let asked =
            body(serde_json::json!({ "actor": "a", "receipts": { "no_route": true, "limit": 9999999 } })).unwrap();
        let ReplayOf::Receipts(filter) = asked.what else {
            panic!()
        };
        assert!(filter.without_jobs);
        assert_eq!(
            (filter.rows_max, filter.standing),
            (ROWS_MAX, RoutableStanding::AsJudged)
        );
    }

    #[test]
    fn a_resend_is_narrowed_and_says_why() {
        let body = |json: serde_json::Value| serde_json::from_value::<ResendBody>(json).unwrap().checked();
        for (deliveries, why, part) in [
            (serde_json::json!({}), "x", "is never sent again at once"),
            (
                serde_json::json!({ "limit": 5, "after": "out_1" }),
                "x",
                "is never sent again at once",
            ),
            (serde_json::json!({ "id": "job_7" }), "x", "`job_7` is no delivery"),
            (serde_json::json!({ "id": "evt_7" }), "x", "`evt_7` is no delivery"),
            (serde_json::json!({ "since": "noon" }), "x", "since: `noon`"),
            (serde_json::json!({ "id": "out_7" }), " ", "why: say why"),
            (serde_json::json!({ "id": "out_7" }), "a\nb", "why: byte 1"),
        ] {
            let said = body(serde_json::json!({ "deliveries": deliveries, "actor": "ana", "why": why })).unwrap_err();
            assert!(said.contains(part), "{deliveries}: {said}");
        }
        let asked =
            body(serde_json::json!({ "deliveries": { "id": "act_7" }, "actor": "ana", "dry_run": true })).unwrap();
        assert_eq!(asked.of.of, Some(SentOf::Action(tollgate_core::ids::ActionId(7))));
    }

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
