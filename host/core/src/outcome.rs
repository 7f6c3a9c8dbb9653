//! Outcomes: how a run ended, and what follows from each end. Guest faults are data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{GrantedAction, Proposal};
use crate::grant::{self, Grant, Violation};
use crate::retry::{Jitter, NextStep, RetryPolicy};
use crate::time::UnixMillis;

/// How one run of a plugin ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The plugin answered with proposals (possibly none).
    Completed {
        /// What it asks for, not yet judged.
        proposals: Vec<Proposal>,
    },
    /// The plugin says that the event is not for its rule.
    Refused {
        /// Why, as the plugin says it.
        message: String,
    },
    /// The plugin asks for a person.
    Held {
        /// Why, as the plugin says it.
        message: String,
    },
    /// The plugin asks for another try, not before `after_ms` from now.
    RetryAfter {
        /// The wait that it asks for; without one, the retry policy decides.
        after_ms: Option<u64>,
        /// Why, as the plugin says it.
        message: String,
    },
    /// The plugin failed, or was stopped.
    Fault {
        /// What was wrong.
        fault: Fault,
        /// Details, from the sandbox or the plugin.
        message: String,
    },
}

/// How a run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The answer cannot be read, or a proposal was not granted.
    InvalidOutput,
    /// Over the fuel budget.
    OutOfFuel,
    /// Over the wall-clock deadline.
    Deadline,
    /// Over the memory limit, or its stack.
    Memory,
    /// Over a limit on what a run may give back or say: lifted bytes, log lines, host calls, state.
    OutputTooBig,
    /// Unreachable code, a panic, an access out of bounds.
    Trap,
    /// The host could not run it: compile, cache or store trouble. Not the plugin's doing.
    HostFault,
}

impl Fault {
    /// Every fault, in the order of this enum.
    pub const ALL: [Self; 7] = [
        Self::InvalidOutput,
        Self::OutOfFuel,
        Self::Deadline,
        Self::Memory,
        Self::OutputTooBig,
        Self::Trap,
        Self::HostFault,
    ];

    /// The name that runs and metrics keep.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidOutput => "invalid-output",
            Self::OutOfFuel => "out-of-fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::OutputTooBig => "output-too-big",
            Self::Trap => "trap",
            Self::HostFault => "host-fault",
        }
    }

    /// Whether the same input must fail the same way again. A plugin is a pure function of event, configuration and state,
    /// so only what hangs on the host's time or health may pass on another try.
    pub fn is_deterministic(self) -> bool {
        match self {
            Self::InvalidOutput | Self::OutOfFuel | Self::Memory | Self::OutputTooBig | Self::Trap => true,
            Self::Deadline | Self::HostFault => false,
        }
    }
}
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line that a plugin logged, kept with its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How much it matters, as the plugin says.
    pub level: LogLevel,
    /// What the plugin said; at most [`RUN_MESSAGE_BYTES_MAX`](crate::limits::RUN_MESSAGE_BYTES_MAX) bytes.
    pub message: String,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For the author of the plugin.
    Debug,
    /// For whoever watches the plugin work.
    Info,
    /// Something is wrong, and the run goes on.
    Warn,
    /// Something failed.
    Error,
}

impl Outcome {
    /// The short name, as runs keep it and people read it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::Refused { .. } => "refused",
            Self::Held { .. } => "held",
            Self::RetryAfter { .. } => "retry-after",
            Self::Fault { fault, .. } => fault.as_str(),
        }
    }

    /// What the plugin or the sandbox said about it; empty for a completed run.
    pub fn message(&self) -> &str {
        match self {
            Self::Completed { .. } => "",
            Self::Refused { message }
            | Self::Held { message }
            | Self::RetryAfter { message, .. }
            | Self::Fault { message, .. } => message,
        }
    }
}

/// Judges what a completed run proposed. Proposals that are not granted make the run's outcome invalid output.
pub fn judged(outcome: Outcome, grants: &[Grant]) -> (Outcome, Vec<GrantedAction>) {
    judged_with(outcome, grants, |_| ())
}

/// Like [`judged`], and hands a violation to `watch` as well, so that a host can count it.
pub fn judged_with(
    outcome: Outcome,
    grants: &[Grant],
    watch: impl FnOnce(&Violation),
) -> (Outcome, Vec<GrantedAction>) {
    match outcome {
        Outcome::Completed { proposals } => match grant::judge(proposals, grants) {
            Ok(actions) => (Outcome::Completed { proposals: Vec::new() }, actions),
            Err(violation) => {
                watch(&violation);
                let outcome = Outcome::Fault {
                    fault: Fault::InvalidOutput,
                    message: violation.to_string(),
                };
                (outcome, Vec::new())
            }
        },
        other => (other, Vec::new()),
    }
}

/// What becomes of a job after a run. The retry rule of every outcome stands here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum JobEnd {
    /// Finished: with actions, with none, or refused by the plugin.
    Done,
    /// Waits for a person.
    Held {
        /// Why, for that person.
        reason: String,
    },
    /// Tried again at this instant.
    RetryAt {
        /// When it is tried again.
        at: UnixMillis,
        /// Why this try was not enough.
        reason: String,
    },
    /// Given up: to the dead-letter queue.
    Dead {
        /// Why, for people.
        reason: String,
    },
}

/// Decides what follows a run. `attempt` counts this one, from 1.
pub fn job_end(outcome: &Outcome, policy: &RetryPolicy, attempt: u32, now: UnixMillis, jitter: Jitter) -> JobEnd {
    let retry = |floor_ms: i64, reason: String| match policy.next(attempt, floor_ms, now, jitter) {
        NextStep::RetryAt(at) => JobEnd::RetryAt { at, reason },
        NextStep::GiveUp => JobEnd::Dead {
            reason: format!("{reason} (gave up after {attempt} attempts)"),
        },
    };
    match outcome {
        Outcome::Completed { .. } | Outcome::Refused { .. } => JobEnd::Done,
        Outcome::Held { message } => JobEnd::Held {
            reason: message.clone(),
        },
        Outcome::RetryAfter { after_ms, message } => {
            let floor_ms = after_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
            retry(
                floor_ms.min(crate::limits::RETRY_AFTER_MS_MAX),
                format!("retry-after: {message}"),
            )
        }
        Outcome::Fault { fault, message } if fault.is_deterministic() => JobEnd::Dead {
            reason: format!("{fault}: {message}"),
        },
        Outcome::Fault { fault, message } => retry(0, format!("{fault}: {message}")),
    }
}

/// As [`job_end`], where nobody can stop a run: one that has not answered at its deadline may still compute, and another attempt
/// would take a second thread. So that is its end.
pub fn job_end_unstopped(
    outcome: &Outcome,
    policy: &RetryPolicy,
    attempt: u32,
    now: UnixMillis,
    jitter: Jitter,
) -> JobEnd {
    match outcome {
        Outcome::Fault {
            fault: fault @ Fault::Deadline,
            message,
        } => JobEnd::Dead {
            reason: format!("{fault}: {message}"),
        },
        outcome => job_end(outcome, policy, attempt, now, jitter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_retry_rule() {
        let policy = RetryPolicy {
            attempts_max: 3,
            base_ms: 100,
            cap_ms: 1000,
        };
        let now = UnixMillis(0);
        let end = |outcome: &Outcome, attempt| job_end(outcome, &policy, attempt, now, Jitter::NONE);
        let fault = |fault| Outcome::Fault {
            fault,
            message: "m".into(),
        };

        assert_eq!(end(&Outcome::Completed { proposals: vec![] }, 1), JobEnd::Done);
        assert_eq!(end(&Outcome::Refused { message: "m".into() }, 1), JobEnd::Done);
        assert_eq!(
            end(&Outcome::Held { message: "m".into() }, 1),
            JobEnd::Held { reason: "m".into() }
        );
        let later = Outcome::RetryAfter {
            after_ms: Some(5000),
            message: "m".into(),
        };
        assert_eq!(
            end(&later, 1),
            JobEnd::RetryAt {
                at: UnixMillis(5000),
                reason: "retry-after: m".into()
            }
        );
        assert_eq!(
            end(&later, 3),
            JobEnd::Dead {
                reason: "retry-after: m (gave up after 3 attempts)".into()
            }
        );
        for kind in Fault::ALL {
            let dead_at_once = matches!(end(&fault(kind), 1), JobEnd::Dead { .. });
            assert_eq!(dead_at_once, kind.is_deterministic(), "{kind}");
            assert!(matches!(end(&fault(kind), 3), JobEnd::Dead { .. }), "{kind} is bounded");
        }
    }

    /// Issue 15: a second attempt of what nobody stops would take a second thread.
    #[test]
    fn w2_a_deadline_is_final_where_nobody_can_stop_a_run() {
        let now = UnixMillis(0);
        for fault in Fault::ALL {
            let outcome = Outcome::Fault {
                fault,
                message: "m".into(),
            };
            let unstopped = job_end_unstopped(&outcome, &RetryPolicy::JOBS, 1, now, Jitter::NONE);
            let stopped = job_end(&outcome, &RetryPolicy::JOBS, 1, now, Jitter::NONE);
            match fault {
                Fault::Deadline => {
                    assert_eq!(
                        unstopped,
                        JobEnd::Dead {
                            reason: "deadline: m".into()
                        }
                    );
                    assert!(matches!(stopped, JobEnd::RetryAt { .. }), "{stopped:?}");
                    assert!(crate::quarantine::counts(fault));
                }
                _ => assert_eq!(unstopped, stopped, "{fault}"),
            }
        }
    }
}
