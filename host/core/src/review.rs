//! Review: what a person's decision makes of what was set aside: of a held receipt, a held job, a delivery in conflict, a proposal that
//! conflicts with the ledger (promise T4).
//!
//! Admission never guesses, so a status that it cannot place waits. A person then says what the status means, and the lifecycle
//! judges that word as it judges a provider's: a late status stays late, and a contradiction stays one. The receipt itself is never
//! changed; the decision stands beside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::admission::Disposition;
use crate::event::{Event, StatusReading};
use crate::ids::{ActionId, DeliveryId, FamilyName, JobId, OperationKey, ReceiptId, Status};
use crate::lifecycle::{Lifecycle, Transition};
use crate::mask;

/// What may be decided about a conflict with the ledger.
const KEEP_OR_RECORD: &str =
    "say either to keep what is recorded, or under which other operation key this one is recorded as well";
/// What somebody says about a decision.
const NOTE_BYTES_MAX: usize = 1024;

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A receipt that is held.
    Receipt(ReceiptId),
    /// A job that its plugin held.
    Job(JobId),
    /// A delivery whose bytes conflict with those of its receipt.
    Delivery(DeliveryId),
    /// A proposal whose operation is recorded with other content.
    Action(ActionId),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let receipt = text.parse().map(Self::Receipt);
        let job = text.parse().map(Self::Job);
        let delivery = text.parse().map(Self::Delivery);
        let action = text.parse().map(Self::Action);
        receipt.or(job).or(delivery).or(action).map_err(|_| {
            format!(
                "`{text}` is nothing that can be reviewed: name a receipt (rcpt_…), a job (job_7), a delivery (dlv_7) or an action (act_7)"
            )
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receipt(receipt) => receipt.fmt(f),
            Self::Job(job) => job.fmt(f),
            Self::Delivery(delivery) => delivery.fmt(f),
            Self::Action(action) => action.fmt(f),
        }
    }
}

/// A decision about what was set aside, as it is asked for: `map` a held receipt to a status, `replace_with` another form of it that
/// came later, `run` a held job again or a conflicting delivery as an event of its own, or `dismiss` any of them with a reason; of a
/// conflict with the ledger, `keep` what is recorded, or `record` the other one as well, under this operation key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    /// A receipt, a job, a delivery or an action.
    #[serde(alias = "receipt")]
    pub id: String,
    /// The status that a held receipt's event has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// With `map`: the subject has this status, whatever it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_right: bool,
    /// The delivery (`dlv_…`) that takes a held receipt's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_with: Option<String>,
    /// Runs a held job again, or a conflicting delivery as an event of its own.
    #[serde(default)]
    pub run: bool,
    /// With `run` of a held job: what it proposes is recorded whatever its budgets have left, this once; `why` must say the reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beyond_budget: bool,
    /// Nothing is to be done; `why` must say the reason.
    #[serde(default)]
    pub dismiss: bool,
    /// What the ledger has recorded stands; `why` must say the reason.
    #[serde(default)]
    pub keep: bool,
    /// The operation key under which the conflicting proposal is recorded as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The reason, for the history; at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Returns what would become of it, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who decides, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// A [`ReviewBody`], checked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What the decision is about.
    pub target: Target,
    /// What was decided.
    pub decision: Decision,
    /// The reason, where one was given.
    pub why: Option<String>,
    /// Whether nothing must be changed.
    pub dry_run: bool,
    /// Who decided, for the history.
    pub actor: String,
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The held receipt's event has this status.
    Map(Status, Word),
    /// This delivery takes the held receipt's place.
    ReplaceWith(DeliveryId),
    /// A held job runs again; a conflicting delivery becomes an event of its own.
    Run,
    /// A held job runs again, and what it proposes is recorded whatever its budgets have left.
    RunBeyondBudget,
    /// Nothing is to be done.
    Dismiss,
    /// Of a conflict with the ledger: what is recorded stands, and the other one has no effect.
    Keep,
    /// Of a conflict with the ledger: the other one is an effect of its own, under this key.
    Record(OperationKey),
}

/// How a status that a person gives is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Like one from a provider: the lifecycle judges it by the status that the subject has.
    Judged,
    /// As a correction: the subject gets this status, whatever it had.
    SetsRight,
}

impl ReviewBody {
    /// Checks the request.
    ///
    /// # Errors
    /// In words, when it decides nothing, decides two things, or decides something that its target does not allow.
    pub fn checked(self) -> Result<Asked, String> {
        let why = self.why.filter(|why| !why.trim().is_empty());
        let target: Target = self.id.parse()?;
        let mut said = Vec::new();
        if let Some(status) = self.map {
            if self.set_right && why.is_none() {
                return Err("say why its subject is set right".to_owned());
            }
            let word = if self.set_right { Word::SetsRight } else { Word::Judged };
            said.push(Decision::Map(
                status.parse().map_err(|error| format!("map: {error}"))?,
                word,
            ));
        }
        if let Some(delivery) = self.replace_with {
            said.push(Decision::ReplaceWith(
                delivery.parse().map_err(|error| format!("replace_with: {error}"))?,
            ));
        }
        if let Some(key) = self.record {
            said.push(Decision::Record(
                key.parse().map_err(|error| format!("record: {error}"))?,
            ));
        }
        let run = if self.beyond_budget {
            Decision::RunBeyondBudget
        } else {
            Decision::Run
        };
        said.extend(self.run.then_some(run));
        said.extend(self.dismiss.then_some(Decision::Dismiss));
        said.extend(self.keep.then_some(Decision::Keep));
        let (Some(decision), true) = (said.pop(), said.is_empty()) else {
            return Err(match target {
                Target::Receipt(_) => {
                    "say either to map it or to dismiss it, or which delivery it is replaced with".to_owned()
                }
                Target::Job(_) | Target::Delivery(_) => "say either to run it or to dismiss it".to_owned(),
                Target::Action(_) => KEEP_OR_RECORD.to_owned(),
            });
        };
        if self.set_right && !matches!(decision, Decision::Map(..)) {
            return Err("set_right: a subject is set right by mapping a held receipt of it".to_owned());
        }
        if self.beyond_budget && decision != Decision::RunBeyondBudget {
            return Err("beyond_budget: only a job that is run goes beyond a budget; say to run it".to_owned());
        }
        match (target, &decision) {
            (Target::Receipt(_), Decision::Run | Decision::RunBeyondBudget) => {
                return Err(
                    "a held receipt is not run as it is: map it to a status, or replace it with another delivery of it"
                        .to_owned(),
                );
            }
            (Target::Job(_) | Target::Delivery(_), Decision::Map(..) | Decision::ReplaceWith(_)) => {
                return Err("only a held receipt is mapped or replaced; say to run this, or to dismiss it".to_owned());
            }
            (
                Target::Action(_),
                Decision::Map(..)
                | Decision::ReplaceWith(_)
                | Decision::Run
                | Decision::RunBeyondBudget
                | Decision::Dismiss,
            ) => {
                return Err(KEEP_OR_RECORD.to_owned());
            }
            (Target::Delivery(_), Decision::RunBeyondBudget) => {
                return Err("beyond_budget: only a held job (job_7) has a budget".to_owned());
            }
            (Target::Receipt(_) | Target::Job(_) | Target::Delivery(_), Decision::Keep | Decision::Record(_)) => {
                return Err(
                    "only an action that conflicts with the ledger (act_7) is kept out of it or recorded".to_owned(),
                );
            }
            (_, Decision::Dismiss) if why.is_none() => return Err("say why it is dismissed".to_owned()),
            (Target::Job(_), Decision::RunBeyondBudget) if why.is_none() => {
                return Err("say why it goes beyond its budget".to_owned());
            }
            (Target::Action(_), Decision::Keep) if why.is_none() => {
                return Err("say why what is recorded stands and the other one has no effect".to_owned());
            }
            (Target::Receipt(_), Decision::Map(..) | Decision::ReplaceWith(_) | Decision::Dismiss)
            | (Target::Job(_) | Target::Delivery(_), Decision::Run | Decision::Dismiss)
            | (Target::Job(_), Decision::RunBeyondBudget)
            | (Target::Action(_), Decision::Keep | Decision::Record(_)) => {}
        }
        for (field, text) in [("why", why.as_deref().unwrap_or_default()), ("actor", &self.actor)] {
            mask::check_note(field, text, NOTE_BYTES_MAX)?;
        }
        Ok(Asked {
            target,
            decision,
            why,
            dry_run: self.dry_run,
            actor: self.actor,
        })
    }
}

/// What something that was set aside became by a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "became", rename_all = "snake_case")]
#[must_use]
pub enum Reviewed {
    /// The status applies: the subject moves and the receipt's jobs are made.
    Accepted {
        /// The status that the event was given.
        status: Status,
    },
    /// The status came late: recorded so, with jobs only where its route or its lifecycle says that what is late is due.
    Superseded {
        /// The status that the event was given.
        status: Status,
        /// The status that the subject keeps.
        current: Status,
    },
    /// Nothing is to be done with it.
    Dismissed,
    /// The delivery took the held receipt's place, as an event of its own.
    Replaced {
        /// The delivery that took the place.
        delivery: DeliveryId,
        /// The receipt that it has as an event of its own.
        own_receipt: ReceiptId,
        /// What became of that receipt.
        #[serde(flatten)]
        disposition: Disposition,
    },
    /// The job runs again.
    RunAgain,
    /// The job runs again, and what it proposes is recorded whatever its budgets have left.
    RunBeyondBudget,
    /// The conflicting delivery is an event of its own.
    Admitted {
        /// The receipt that it has as an event of its own.
        own_receipt: ReceiptId,
        /// What became of that receipt.
        #[serde(flatten)]
        disposition: Disposition,
    },
    /// What was recorded first stands. The conflicting proposal has no effect, now or when it comes again.
    Kept {
        /// The action that stands.
        action: ActionId,
    },
    /// The conflicting proposal is recorded too, under a key of its own. A dry run does not know its number yet.
    Recorded {
        /// The key of its own.
        operation_key: OperationKey,
        /// Its number in the ledger.
        #[serde(skip_serializing_if = "Option::is_none")]
        action: Option<ActionId>,
    },
}

/// Why a status cannot be given to a held event. Nothing is recorded; the receipt stays held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmappable {
    /// Only an event of a family with a lifecycle has a status.
    #[error("the event belongs to no family with a lifecycle, so it has no status")]
    NoFamily,
    /// A status moves a subject, and the event has none.
    #[error("no subject was found in the event, so there is nothing that the status could move; dismiss it")]
    NoSubject,
    /// The family has no lifecycle now.
    #[error("no lifecycle is declared for the family `{family}`")]
    NoLifecycle {
        /// That family.
        family: FamilyName,
    },
    /// The lifecycle does not have the status.
    #[error("the lifecycle `{family}` has no status `{status}`; it has: {known}")]
    UnknownStatus {
        /// The family of the lifecycle.
        family: FamilyName,
        /// The status that was asked for.
        status: Status,
        /// The statuses that it has, in words.
        known: String,
    },
    /// The status is on no way with the one that the subject has.
    #[error(
        "`{status}` can neither follow nor precede `{current}`, which the subject has, in the lifecycle `{family}`; map to another \
         status, dismiss it, or set the subject right"
    )]
    Contradicts {
        /// The family of the lifecycle.
        family: FamilyName,
        /// The status that was asked for.
        status: Status,
        /// The status that the subject has.
        current: Status,
    },
}

/// Judges a status that a person gives to a held event. `current` is the status that the subject has now; nothing stands against a word that sets
/// it right but a status that the lifecycle does not know.
///
/// # Errors
/// When the event cannot have a status, or not this one.
pub fn judge(
    event: &Event,
    lifecycle: Option<&Lifecycle>,
    status: &Status,
    current: Option<&Status>,
    word: Word,
) -> Result<Reviewed, Unmappable> {
    let family = event.reading.family().ok_or(Unmappable::NoFamily)?;
    if event.subject.is_none() {
        return Err(Unmappable::NoSubject);
    }
    let lifecycle = lifecycle.ok_or_else(|| Unmappable::NoLifecycle { family: family.clone() })?;
    let status = status.clone();
    let current = match word {
        Word::Judged => current,
        Word::SetsRight => None,
    };
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
                Word::Judged,
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
    fn a_subject_is_set_right_whatever_it_was_but_not_to_what_its_lifecycle_does_not_know() {
        let given = |status: &str, current: &str| {
            let event = event(unmapped(), Some("r_1"));
            let (status, current) = (status.parse().unwrap(), current.parse().unwrap());
            judge(&event, Some(&lifecycle()), &status, Some(&current), Word::SetsRight)
        };
        for (status, current) in [("completed", "rolledback"), ("pending", "completed")] {
            let status: Status = status.parse().unwrap();
            assert_eq!(given(status.as_str(), current), Ok(Reviewed::Accepted { status }));
        }
        assert!(matches!(
            given("teleported", "completed"),
            Err(Unmappable::UnknownStatus { .. })
        ));
        let asked = |why: Option<&str>| {
            let body = ReviewBody {
                map: Some("completed".into()),
                set_right: true,
                why: why.map(str::to_owned),
                ..body("rcpt_00000000000000000000000000000000")
            };
            body.checked().map(|asked| asked.decision)
        };
        assert_eq!(asked(None), Err("say why its subject is set right".to_owned()));
        let set_right = Decision::Map("completed".parse().unwrap(), Word::SetsRight);
        assert_eq!(asked(Some("the partner was wrong")), Ok(set_right));
    }

    fn body(id: &str) -> ReviewBody {
        ReviewBody {
            id: id.into(),
            map: None,
            set_right: false,
            replace_with: None,
            run: false,
            beyond_budget: false,
            dismiss: false,
            keep: false,
            record: None,
            why: None,
            dry_run: false,
            actor: "ann".into(),
        }
    }

    /// A body by its words: what it is about, and each field that it has.
    fn said(line: &str) -> ReviewBody {
        let mut words = line.split(' ');
        let mut said = body(words.next().unwrap());
        for word in words {
            match word {
                "map" => said.map = Some("completed".into()),
                "replace" => said.replace_with = Some("dlv_3".into()),
                "run" => said.run = true,
                "beyond" => said.beyond_budget = true,
                "dismiss" => said.dismiss = true,
                "keep" => said.keep = true,
                "record" => said.record = Some("cashback:1-b".into()),
                "record-two-words" => said.record = Some("two words".into()),
                "why" => said.why = Some("a test".into()),
                other => panic!("no field `{other}`"),
            }
        }
        said
    }

    #[test]
    fn a_decision_is_one_and_fits_what_it_is_about() {
        let receipt = "rcpt_00000000000000000000000000000000";
        for (line, expect) in [
            ("act_7 keep why", ""),
            ("act_7 record", ""),
            ("RECEIPT map", ""),
            ("RECEIPT replace", ""),
            ("RECEIPT dismiss why", ""),
            ("job_7 run", ""),
            ("job_7 dismiss why", ""),
            ("job_7 run beyond why", ""),
            ("job_7 run beyond", "say why it goes beyond its budget"),
            (
                "job_7 dismiss beyond why",
                "only a job that is run goes beyond a budget",
            ),
            ("dlv_7 run beyond why", "only a held job (job_7) has a budget"),
            ("act_7 run beyond why", "either to keep what is recorded"),
            ("RECEIPT run beyond why", "is not run as it is"),
            ("dlv_7 run", ""),
            ("dlv_7 dismiss why", ""),
            ("RECEIPT", "either to map it or to dismiss it"),
            ("job_7", "either to run it or to dismiss it"),
            ("RECEIPT run", "is not run as it is"),
            ("job_7 map", "only a held receipt is mapped"),
            ("dlv_7 replace", "only a held receipt is mapped or replaced"),
            ("job_7 dismiss", "say why"),
            ("job_7 run dismiss why", "either to run it"),
            (
                "evt_1 run",
                "name a receipt (rcpt_…), a job (job_7), a delivery (dlv_7) or an action (act_7)",
            ),
            ("act_7", "either to keep what is recorded"),
            ("act_7 run", "either to keep what is recorded"),
            ("act_7 dismiss why", "either to keep what is recorded"),
            ("job_7 keep why", "only an action that conflicts"),
            ("RECEIPT record", "only an action that conflicts"),
            ("act_7 keep", "say why"),
            ("act_7 record keep", "either to keep what is recorded"),
            ("act_7 record-two-words", "record: "),
        ] {
            let found = said(&line.replace("RECEIPT", receipt))
                .checked()
                .err()
                .unwrap_or_default();
            assert_eq!(found.is_empty(), expect.is_empty(), "{line}: {found}");
            assert!(found.contains(expect), "{line}: {found}");
        }
    }

    #[test]
    fn an_event_that_can_have_no_status_is_given_none() {
        let status: Status = "completed".parse().unwrap();
        let of = |event: &Event, lifecycle: Option<&Lifecycle>| {
            judge(event, lifecycle, &status, None, Word::Judged).unwrap_err()
        };
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
