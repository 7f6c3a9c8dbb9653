//! Issues (promise O12): failures that are one failure, by their kind, their place and their code, and what people say of them.
//!
//! What fails opens an issue, or adds to the one that is there. A person acknowledges it, resolves it, or ignores it; what is resolved and fails
//! again is opened again. Each change of its state has a number, under which it is told once: see [`notice`].

use std::fmt;
use std::str::FromStr;

use crate::action::{Action, Notice};
use crate::ids::{IssueId, Namespace, OperationKey, TenantName};
use crate::mask;
use crate::time::UnixMillis;

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssueKind {
    /// Jobs of a route were given up; the code is how the last run ended.
    DeadJob,
    /// Deliveries to a destination were given up; the code is what it answered, or `none`.
    DeadDelivery,
}

impl IssueKind {
    /// Every kind, in the order of this enum.
    pub const ALL: [Self; 2] = [Self::DeadJob, Self::DeadDelivery];

    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadJob => "dead-job",
            Self::DeadDelivery => "dead-delivery",
        }
    }

    /// The filter of the list in which its failures are found, and that list's name.
    pub fn found_by(self, tenant: &TenantName, place: &str, code: &str) -> (&'static str, String) {
        match self {
            Self::DeadJob => (
                "jobs",
                format!("tenant:{tenant} status:dead route:{place} outcome:{code}"),
            ),
            Self::DeadDelivery => (
                "deliveries",
                format!("tenant:{tenant} status:dead destination:{place} code:{code}"),
            ),
        }
    }

    /// What a person does first.
    pub fn first_action(self, place: &str, code: &str) -> String {
        match (self, code) {
            (Self::DeadJob, "out-of-fuel" | "deadline" | "memory") => format!(
                "look at one event with `tollgate trace`: is it larger than usual? The limits are those of the route `{place}`"
            ),
            (Self::DeadJob, "refused") => {
                format!("read why the plugin or a grant of the route `{place}` refuses, then mend that and replay")
            }
            (Self::DeadJob, _) => format!(
                "see whether the version on the route `{place}` is new (`tollgate plugin rollback`), and try it on a run with \
                 `tollgate plugin replay`"
            ),
            (Self::DeadDelivery, "401" | "403") => {
                format!("renew the credential of the destination `{place}`, then redeliver")
            }
            (Self::DeadDelivery, "404" | "410") => {
                format!("see whether the URL of the destination `{place}` is still right")
            }
            (Self::DeadDelivery, "none") => {
                format!("see whether the destination `{place}` is up: its name, its certificate, the network to it")
            }
            (Self::DeadDelivery, _) => format!("ask whoever runs the destination `{place}` what it answers {code} to"),
        }
    }
}

impl fmt::Display for IssueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IssueKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("`{}` is no kind of issue", mask::line(text, 60)))
    }
}

/// What people know and say of an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssueState {
    /// Nobody has said anything yet, or it failed again after it was resolved.
    Open,
    /// Somebody works on it.
    Acknowledged,
    /// Its cause is mended.
    Resolved,
    /// Nothing is to be done, however often it fails.
    Ignored,
}

/// What happens to an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueEvent {
    /// It fails once more.
    Fails,
    /// A person says so.
    Says(IssueState),
}

impl IssueState {
    /// Every state, in the order of this enum.
    pub const ALL: [Self; 4] = [Self::Open, Self::Acknowledged, Self::Resolved, Self::Ignored];

    /// The word in lists and requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Ignored => "ignored",
        }
    }

    /// The state after an event; none where nothing changes.
    pub fn next(self, event: IssueEvent) -> Option<Self> {
        match event {
            IssueEvent::Fails => (self == Self::Resolved).then_some(Self::Open),
            IssueEvent::Says(said) => (said != self).then_some(said),
        }
    }
}

impl fmt::Display for IssueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IssueState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str);
                format!(
                    "`{}` is no state of an issue; there are: {}",
                    mask::line(text, 60),
                    known.join(", ")
                )
            })
    }
}

/// Failures that are one failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Names it.
    pub id: IssueId,
    /// Whose it is.
    pub tenant: TenantName,
    /// What fails.
    pub kind: IssueKind,
    /// The route or the destination.
    pub place: String,
    /// How it fails: how the last run ended, or what the destination answered.
    pub code: String,
    /// What people say of it.
    pub state: IssueState,
    /// How often its state changed, from 1: the number of the newest change.
    pub changes: u32,
    /// When it failed first.
    pub first_seen: UnixMillis,
    /// When it failed last.
    pub last_seen: UnixMillis,
    /// How often it failed.
    pub count: u64,
}

/// The namespace of what the host itself records.
///
/// # Panics
/// Never: it is a name.
pub fn namespace() -> Namespace {
    "tollgate".parse().expect("a name")
}

/// The notice of an issue's newest change of state, as an action of the ledger, and the operation key under which it is recorded: the ledger has
/// one action for a key, so that a change is told once, whoever finds it and however often.
///
/// # Panics
/// Never: the key is made of a number and a number.
pub fn notice(issue: &Issue) -> (OperationKey, Action) {
    let key = format!("{}:{}", issue.id, issue.changes);
    let value = |name: &str, value: String| (name.to_owned(), value);
    let template = match (issue.state, issue.changes) {
        (IssueState::Open, 2..) => "issue-opened-again".to_owned(),
        (IssueState::Open, _) => "issue-opened".to_owned(),
        (state, _) => format!("issue-{state}"),
    };
    let (list, filter) = issue.kind.found_by(&issue.tenant, &issue.place, &issue.code);
    let notice = Notice {
        channel: "webhook".to_owned(),
        recipient: "operators".to_owned(),
        template,
        values: vec![
            value("issue", issue.id.to_string()),
            value("state", issue.state.to_string()),
            value("kind", issue.kind.to_string()),
            value("place", issue.place.clone()),
            value("code", issue.code.clone()),
            value("count", issue.count.to_string()),
            value("first_seen", issue.first_seen.to_string()),
            value("last_seen", issue.last_seen.to_string()),
            value("first_action", issue.kind.first_action(&issue.place, &issue.code)),
            value("list", list.to_owned()),
            value("filter", filter),
        ],
    };
    (key.parse().expect("a key"), Action::Notify(notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o12_what_is_resolved_opens_again_and_what_is_ignored_stays_so() {
        use IssueEvent::{Fails, Says};
        use IssueState::{Acknowledged, Ignored, Open, Resolved};
        for (state, event, expect) in [
            (Open, Fails, None),
            (Acknowledged, Fails, None),
            (Ignored, Fails, None),
            (Resolved, Fails, Some(Open)),
            (Open, Says(Acknowledged), Some(Acknowledged)),
            (Open, Says(Open), None),
            (Resolved, Says(Resolved), None),
            (Acknowledged, Says(Resolved), Some(Resolved)),
            (Ignored, Says(Open), Some(Open)),
        ] {
            assert_eq!(state.next(event), expect, "{state} {event:?}");
        }
        for state in IssueState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!(
            "closed"
                .parse::<IssueState>()
                .unwrap_err()
                .contains("open, acknowledged, resolved, ignored")
        );
    }

    #[test]
    fn o12_each_change_of_state_has_a_notice_of_its_own() {
        let mut issue = Issue {
            id: IssueId(7),
            tenant: "acme".parse().unwrap(),
            kind: IssueKind::DeadDelivery,
            place: "books".to_owned(),
            code: "410".to_owned(),
            state: IssueState::Open,
            changes: 1,
            first_seen: UnixMillis(1_777_975_200_000),
            last_seen: UnixMillis(1_777_975_260_000),
            count: 3,
        };
        let told = |issue: &Issue| match notice(issue) {
            (key, Action::Notify(notice)) => (key.to_string(), notice),
            other => panic!("{other:?}"),
        };
        let (key, first) = told(&issue);
        assert_eq!((key.as_str(), first.template.as_str()), ("issue_7:1", "issue-opened"));
        let value = |name: &str| {
            first
                .values
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(
            value("filter"),
            Some("tenant:acme status:dead destination:books code:410")
        );
        assert!(value("first_action").is_some_and(|said| said.contains("URL of the destination `books`")));
        (issue.changes, issue.state) = (2, IssueState::Resolved);
        assert_eq!(
            (told(&issue).0.as_str(), told(&issue).1.template.as_str()),
            ("issue_7:2", "issue-resolved")
        );
        (issue.changes, issue.state) = (3, IssueState::Open);
        assert_eq!(told(&issue).1.template, "issue-opened-again");
        // The filters are ones.
        for kind in IssueKind::ALL {
            let (list, filter) = kind.found_by(&issue.tenant, "books", "none");
            let list = list.parse().unwrap();
            crate::filter::Filter::read(&filter, list, UnixMillis(0)).unwrap();
        }
    }
}
