//! Review: what a person's word makes of a receipt that is held (promise T4).
//!
//! Admission never guesses, so a status that it cannot place waits. A person then says what the status means, and the lifecycle
//! judges that word as it judges a provider's: a late status stays late, and a contradiction stays one. The receipt itself is never
//! changed; the decision stands beside it.

use serde::{Deserialize, Serialize};

use crate::event::{Event, StatusReading};
use crate::ids::{FamilyName, ReceiptId, Status};
use crate::lifecycle::{Lifecycle, Transition};
use crate::mask;

/// What somebody says about a decision.
const NOTE_BYTES_MAX: usize = 1024;

/// A decision about a held receipt, as it is asked for: `map` it to a status, or `dismiss` it with a reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    pub receipt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    #[serde(default)]
    pub dismiss: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
    /// Who decides, for the history.
    pub actor: String,
}

/// A [`ReviewBody`], checked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub receipt: ReceiptId,
    pub decision: Decision,
    pub why: Option<String>,
    pub dry_run: bool,
    pub actor: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Map(Status),
    Dismiss,
}

impl ReviewBody {
    /// # Errors
    /// In words, when it decides nothing, two things, or something that is not what it says.
    pub fn checked(self) -> Result<Asked, String> {
        let why = self.why.filter(|why| !why.trim().is_empty());
        let decision = match (self.map, self.dismiss) {
            (Some(status), false) => Decision::Map(status.parse().map_err(|error| format!("map: {error}"))?),
            (None, true) if why.is_none() => return Err("say why it is dismissed".to_owned()),
            (None, true) => Decision::Dismiss,
            (None, false) | (Some(_), true) => return Err("say either to map it or to dismiss it".to_owned()),
        };
        for (field, text) in [("why", why.as_deref().unwrap_or_default()), ("actor", &self.actor)] {
            mask::check_note(field, text, NOTE_BYTES_MAX)?;
        }
        Ok(Asked {
            receipt: self.receipt.parse().map_err(|error| format!("receipt: {error}"))?,
            decision,
            why,
            dry_run: self.dry_run,
            actor: self.actor,
        })
    }
}

/// What a held receipt became by a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "became", rename_all = "snake_case")]
#[must_use]
pub enum Reviewed {
    /// The status applies: the subject moves and the receipt's jobs are made.
    Accepted { status: Status },
    /// The status came late: recorded so, no jobs.
    Superseded { status: Status, current: Status },
    /// Nothing is to be done with it.
    Dismissed,
}

/// Why a status cannot be given to a held event. Nothing is recorded; the receipt stays held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmappable {
    #[error("the event belongs to no family with a lifecycle, so it has no status")]
    NoFamily,
    #[error("no subject was found in the event, so there is nothing that the status could move; dismiss it")]
    NoSubject,
    #[error("no lifecycle is declared for the family `{family}`")]
    NoLifecycle { family: FamilyName },
    #[error("the lifecycle `{family}` has no status `{status}`; it has: {known}")]
    UnknownStatus {
        family: FamilyName,
        status: Status,
        known: String,
    },
    #[error(
        "`{status}` can neither follow nor precede `{current}`, which the subject has, in the lifecycle `{family}`; map to another \
         status, or dismiss it"
    )]
    Contradicts {
        family: FamilyName,
        status: Status,
        current: Status,
    },
}

/// Judges a status that a person gives to a held event. `current` is the status that the subject has now.
///
/// # Errors
/// When the event cannot have a status, or not this one.
pub fn judge(
    event: &Event,
    lifecycle: Option<&Lifecycle>,
    status: &Status,
    current: Option<&Status>,
) -> Result<Reviewed, Unmappable> {
    let family = event.reading.family().ok_or(Unmappable::NoFamily)?;
    if event.subject.is_none() {
        return Err(Unmappable::NoSubject);
    }
    let lifecycle = lifecycle.ok_or_else(|| Unmappable::NoLifecycle { family: family.clone() })?;
    let status = status.clone();
    match lifecycle.transition(current, &status) {
        Transition::Apply => Ok(Reviewed::Accepted { status }),
        Transition::Superseded { current } => Ok(Reviewed::Superseded { status, current }),
        Transition::Contradicts { current } => Err(Unmappable::Contradicts {
            family: family.clone(),
            status,
            current,
        }),
        Transition::Unknown { status } => {
            let known: Vec<&str> = lifecycle.statuses().map(Status::as_str).collect();
            Err(Unmappable::UnknownStatus {
                family: family.clone(),
                status,
                known: known.join(", "),
            })
        }
    }
}

/// The event as plugins and routes see it after the decision: the same, with the status that it was given.
#[must_use]
pub fn mapped(mut event: Event, status: &Status) -> Event {
    if let Some(family) = event.reading.family().cloned() {
        event.reading = StatusReading::Mapped {
            family,
            status: status.clone(),
        };
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    fn event(reading: StatusReading, subject: Option<&str>) -> Event {
        Event {
            tenant: "acme".parse().unwrap(),
            source: "shop".parse().unwrap(),
            id: "evt_1".parse().unwrap(),
            event_type: "reward.redeemed".parse().unwrap(),
            subject: subject.map(|subject| subject.parse().unwrap()),
            reading,
            occurred_at: None,
            received_at: UnixMillis(0),
            amount: None,
            attributes: Vec::new(),
            payload: b"{}".as_slice().into(),
        }
    }

    fn unmapped() -> StatusReading {
        StatusReading::Unmapped {
            family: "reward-redemption".parse().unwrap(),
            label: Some("teleported".into()),
        }
    }

    fn lifecycle() -> Lifecycle {
        Lifecycle::from_toml(include_str!("../lifecycles/reward-redemption.toml")).unwrap()
    }

    #[test]
    fn the_lifecycle_judges_a_person_as_it_judges_a_provider() {
        let check = |status: &str, current: Option<&str>, expect: Result<Reviewed, &str>| {
            let current = current.map(|current| current.parse().unwrap());
            let given = judge(
                &event(unmapped(), Some("r_1")),
                Some(&lifecycle()),
                &status.parse().unwrap(),
                current.as_ref(),
            );
            match expect {
                Ok(reviewed) => assert_eq!(given, Ok(reviewed)),
                Err(part) => {
                    let said = given.unwrap_err().to_string();
                    assert!(said.contains(part), "{said}");
                }
            }
        };
        let accepted = |status: &str| {
            Ok(Reviewed::Accepted {
                status: status.parse().unwrap(),
            })
        };
        check("completed", None, accepted("completed"));
        check("completed", Some("pending"), accepted("completed"));
        check("completed", Some("completed"), accepted("completed"));
        let late = Reviewed::Superseded {
            status: "pending".parse().unwrap(),
            current: "completed".parse().unwrap(),
        };
        check("pending", Some("completed"), Ok(late));
        check("rolledback", Some("completed"), Err("neither follow nor precede"));
        check("teleported", None, Err("it has: created, pending, completed"));
    }

    #[test]
    fn an_event_that_can_have_no_status_is_given_none() {
        let status: Status = "completed".parse().unwrap();
        let of = |event: &Event, lifecycle: Option<&Lifecycle>| judge(event, lifecycle, &status, None).unwrap_err();
        let stateless = event(StatusReading::Stateless, Some("r_1"));
        assert_eq!(of(&stateless, Some(&lifecycle())), Unmappable::NoFamily);
        let nameless = event(unmapped(), None);
        assert_eq!(of(&nameless, Some(&lifecycle())), Unmappable::NoSubject);
        let undeclared = of(&event(unmapped(), Some("r_1")), None);
        assert!(matches!(undeclared, Unmappable::NoLifecycle { .. }), "{undeclared:?}");
    }

    #[test]
    fn the_mapped_event_differs_by_its_status_alone() {
        let before = event(unmapped(), Some("r_1"));
        let after = mapped(before.clone(), &"completed".parse().unwrap());
        assert_eq!(after.reading.status().map(Status::as_str), Some("completed"));
        assert_eq!(after.reading.family(), before.reading.family());
        assert_eq!(
            (after.id, after.subject, after.payload),
            (before.id, before.subject, before.payload)
        );
    }
}
