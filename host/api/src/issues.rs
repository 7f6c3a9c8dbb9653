//! Issues: failures that are one failure, and what people say of them (promise O12).

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{IssueId, ReceiptId, TenantName};
use tollgate_core::issue::{Issue, IssueState};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{parse, rows};

/// Which issues, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct IssuesQuery {
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only those in this state: open, acknowledged, resolved or ignored; without it, those that are open or acknowledged
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "all"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// In whatever state
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
    /// At most this many, those that failed last in front
    #[cfg_attr(feature = "cli", arg(long))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl IssuesQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<IssueFilter, String> {
        let states = match (parse("state", self.state)?, self.all) {
            (Some(state), _) => vec![state],
            (None, true) => IssueState::ALL.to_vec(),
            (None, false) => vec![IssueState::Open, IssueState::Acknowledged],
        };
        Ok(IssueFilter {
            id: None,
            tenant: parse("tenant", self.tenant)?,
            states,
            rows_max: rows(self.limit),
        })
    }
}

/// Which issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueFilter {
    /// This one; none for all.
    pub id: Option<IssueId>,
    /// Only this tenant's.
    pub tenant: Option<TenantName>,
    /// Those in one of these states.
    pub states: Vec<IssueState>,
    /// The most that are returned, those that failed last in front.
    pub rows_max: usize,
}

impl IssueFilter {
    /// The one of this name, in whatever state.
    pub fn of(id: IssueId, tenant: Option<TenantName>) -> Self {
        Self {
            id: Some(id),
            tenant,
            states: IssueState::ALL.to_vec(),
            rows_max: 1,
        }
    }
}

/// An issue, as a store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueRecord {
    /// What it is.
    pub issue: Issue,
    /// Why it failed last, in words.
    pub reason: String,
    /// Receipts that failed so, a few, the newest first.
    pub receipts: Vec<ReceiptId>,
    /// When its state changed last.
    pub changed_at: UnixMillis,
    /// Who changed it; empty where it failed.
    pub changed_by: String,
    /// Why.
    pub why: String,
}

/// An issue: failures of one kind, at one place, with one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct IssueView {
    /// Names it.
    pub issue: IssueId,
    /// Whose it is.
    pub tenant: TenantName,
    /// What fails: dead-job (jobs of a route were given up) or dead-delivery (deliveries to a destination were given up).
    pub kind: String,
    /// The route or the destination.
    pub place: String,
    /// How the last run ended, or the status that the destination answered; `none` where no answer came.
    pub code: String,
    /// open, acknowledged, resolved or ignored.
    pub state: String,
    /// How often its state changed. Each change is told once.
    pub changes: u32,
    /// How often it failed.
    pub count: u64,
    /// When it failed first (RFC 3339).
    pub first_seen: String,
    /// When it failed last (RFC 3339).
    pub last_seen: String,
    /// Why it failed last, in words.
    pub reason: String,
    /// What to do first.
    pub first_action: String,
    /// The list that has its failures: jobs or deliveries.
    pub list: String,
    /// The filter that finds them there.
    pub filter: String,
    /// Receipts that failed so, a few, the newest first.
    pub receipts: Vec<ReceiptId>,
    /// When its state changed last (RFC 3339).
    pub changed_at: String,
    /// Who changed it; empty where it failed.
    pub changed_by: String,
    /// Why; empty where nobody said.
    pub why: String,
}

impl From<IssueRecord> for IssueView {
    fn from(record: IssueRecord) -> Self {
        let issue = record.issue;
        let (list, filter) = issue.kind.found_by(&issue.tenant, &issue.place, &issue.code);
        Self {
            issue: issue.id,
            kind: issue.kind.to_string(),
            state: issue.state.to_string(),
            changes: issue.changes,
            count: issue.count,
            first_seen: issue.first_seen.to_string(),
            last_seen: issue.last_seen.to_string(),
            reason: record.reason,
            first_action: issue.kind.first_action(&issue.place, &issue.code),
            list: list.to_owned(),
            filter,
            receipts: record.receipts,
            changed_at: record.changed_at.to_string(),
            changed_by: record.changed_by,
            why: record.why,
            tenant: issue.tenant,
            place: issue.place,
            code: issue.code,
        }
    }
}

/// An issue, in an address.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct IssuePath {
    /// The issue.
    pub issue: IssueId,
}

/// What a person says of an issue.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IssueBody {
    /// acknowledged (somebody works on it), resolved (its cause is mended: it is opened again when it fails once more), ignored (nothing is to
    /// be done, however often it fails), or open.
    pub state: String,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// The reason, kept with it.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl IssueBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self, issue: IssueId, now: UnixMillis) -> Result<IssueChange, String> {
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        Ok(IssueChange {
            issue,
            state: self.state.parse().map_err(|error| format!("state: {error}"))?,
            by: self.actor,
            why: self.why,
            now,
        })
    }
}

/// An [`IssueBody`], checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueChange {
    /// Which issue.
    pub issue: IssueId,
    /// What it is from now on.
    pub state: IssueState,
    /// Who says so.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o12_a_question_about_issues_is_checked() {
        let query = |state: Option<&str>, all| {
            let query = IssuesQuery {
                state: state.map(str::to_owned),
                all,
                ..IssuesQuery::default()
            };
            query.checked().map(|filter| filter.states)
        };
        assert_eq!(query(None, false), Ok(vec![IssueState::Open, IssueState::Acknowledged]));
        assert_eq!(query(None, true).map(|states| states.len()), Ok(4));
        assert_eq!(query(Some("resolved"), false), Ok(vec![IssueState::Resolved]));
        assert!(
            query(Some("closed"), false)
                .unwrap_err()
                .contains("state: `closed` is no state")
        );
        let body = |state: &str, why: &str| {
            let body = IssueBody {
                state: state.to_owned(),
                actor: "ana".to_owned(),
                why: why.to_owned(),
                dry_run: false,
            };
            body.checked(IssueId(7), UnixMillis(0))
        };
        assert!(body("closed", "").unwrap_err().contains("no state"));
        assert!(body("resolved", "a\nb").unwrap_err().contains("why: byte 1"));
        assert_eq!(body("resolved", "").unwrap().state, IssueState::Resolved);
    }
}
