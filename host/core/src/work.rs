//! Work that is under way: the states of a job and of an outbox entry, and what may happen to each.
//!
//! A store keeps the state, and changes it by nothing but [`JobState::next`] and [`EntryState::next`]: so no backend knows a way
//! from one state to another that the others do not. Who holds a lease may do what a holder may as long as it is the newest
//! ([`JobState::is_held_under`]); its end alone takes nothing from the holder, only somebody else's lease does.

use std::fmt;

use crate::delivery::EntryEnd;
use crate::ids::LeaseEpoch;
use crate::outcome::JobEnd;

/// How far a job has come: one receipt on one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Waits for an older job of its lane.
    Blocked,
    /// May be leased once it is due.
    Ready,
    /// A worker has it, or had it when its lease ended.
    Leased,
    /// Its run is finished.
    Done,
    /// Waits for a person.
    Held,
    /// Given up: in the dead-letter queue.
    Dead,
    /// It was held, and somebody said that nothing is to be done.
    Dismissed,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// No older job of its lane is unfinished any more.
    TurnComes,
    /// An older job of its lane goes first: a replay put it back there.
    GiveWay,
    /// A worker leases it: when it is due, or when an earlier lease has ended.
    Lease,
    /// The process of its worker is gone.
    Release,
    /// Its holder wants it run again later.
    Retry,
    /// Its holder is done with it.
    Finish,
    /// Its holder leaves it to a person.
    Hold,
    /// Its holder gives it up.
    GiveUp,
    /// A person has it run again, though it had come to an end.
    Replay,
    /// A person says that nothing is to be done.
    Dismiss,
}

/// How far an outbox entry has come: one action on its way to one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// Waits for an older entry of its subject, at a destination that asks for order.
    Blocked,
    /// May be leased once it is due.
    Ready,
    /// A deliverer has it, or had it when its lease ended.
    Leased,
    /// The destination took it.
    Delivered,
    /// Given up: in the dead-letter queue.
    Dead,
}

/// What happens to an outbox entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryEvent {
    /// No older entry of its subject is on its way any more.
    TurnComes,
    /// An older entry of its subject goes first: it was put back there.
    GiveWay,
    /// A deliverer leases it: when it is due, or when an earlier lease has ended.
    Lease,
    /// Its holder gives it back without an attempt, or the holder's process is gone.
    Release,
    /// Its holder wants another attempt later.
    Retry,
    /// Its destination took it.
    Deliver,
    /// Its holder gives it up.
    GiveUp,
    /// A person has it tried again, though it was given up.
    Replay,
    /// A person has it sent again, though it was delivered.
    Resend,
}

/// What cannot happen in a state. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// A job cannot go that way.
    #[error("a job that is {state} cannot {event}")]
    Job {
        /// Its state.
        state: JobState,
        /// What was to happen.
        event: JobEvent,
    },
    /// An outbox entry cannot go that way.
    #[error("a delivery that is {state} cannot {event}")]
    Entry {
        /// Its state.
        state: EntryState,
        /// What was to happen.
        event: EntryEvent,
    },
}

impl JobState {
    /// Every state, in the order of this enum.
    pub const ALL: [Self; 7] = [
        Self::Blocked,
        Self::Ready,
        Self::Leased,
        Self::Done,
        Self::Held,
        Self::Dead,
        Self::Dismissed,
    ];

    /// The state as people read it. A blocked job is called ready, as it lacks only its turn.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked | Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Held => "held",
            Self::Dead => "dead",
            Self::Dismissed => "dismissed",
        }
    }

    /// Whether the holder of the lease `epoch` may still settle the job, whose newest lease is `newest`. A lease that ended holds until
    /// somebody else leases the job.
    pub fn is_held_under(self, newest: LeaseEpoch, epoch: LeaseEpoch) -> bool {
        self == Self::Leased && newest == epoch
    }

    /// The state after an event.
    ///
    /// # Errors
    /// When that cannot happen to a job in this state.
    pub fn next(self, event: JobEvent) -> Result<Self, IllegalEvent> {
        let illegal = IllegalEvent::Job { state: self, event };
        match event {
            JobEvent::TurnComes => match self {
                Self::Blocked => Ok(Self::Ready),
                Self::Ready | Self::Leased | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::GiveWay => match self {
                Self::Ready | Self::Leased => Ok(Self::Blocked),
                Self::Blocked | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::Lease => match self {
                Self::Ready | Self::Leased => Ok(Self::Leased),
                Self::Blocked | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::Release | JobEvent::Retry => match self {
                Self::Leased => Ok(Self::Ready),
                Self::Blocked | Self::Ready | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::Finish => match self {
                Self::Leased => Ok(Self::Done),
                Self::Blocked | Self::Ready | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::Hold => match self {
                Self::Leased => Ok(Self::Held),
                Self::Blocked | Self::Ready | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::GiveUp => match self {
                Self::Leased => Ok(Self::Dead),
                Self::Blocked | Self::Ready | Self::Done | Self::Held | Self::Dead | Self::Dismissed => Err(illegal),
            },
            JobEvent::Replay => match self {
                Self::Done | Self::Held | Self::Dead | Self::Dismissed => Ok(Self::Blocked),
                Self::Blocked | Self::Ready | Self::Leased => Err(illegal),
            },
            JobEvent::Dismiss => match self {
                Self::Held => Ok(Self::Dismissed),
                Self::Blocked | Self::Ready | Self::Leased | Self::Done | Self::Dead | Self::Dismissed => Err(illegal),
            },
        }
    }
}

impl EntryState {
    /// Every state, in the order of this enum.
    pub const ALL: [Self; 5] = [Self::Blocked, Self::Ready, Self::Leased, Self::Delivered, Self::Dead];

    /// The state as people read it. A blocked entry is called ready, as it lacks only its turn.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked | Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// As [`JobState::is_held_under`].
    pub fn is_held_under(self, newest: LeaseEpoch, epoch: LeaseEpoch) -> bool {
        self == Self::Leased && newest == epoch
    }

    /// The state after an event.
    ///
    /// # Errors
    /// When that cannot happen to an entry in this state.
    pub fn next(self, event: EntryEvent) -> Result<Self, IllegalEvent> {
        let illegal = IllegalEvent::Entry { state: self, event };
        match event {
            EntryEvent::TurnComes => match self {
                Self::Blocked => Ok(Self::Ready),
                Self::Ready | Self::Leased | Self::Delivered | Self::Dead => Err(illegal),
            },
            EntryEvent::GiveWay => match self {
                Self::Ready | Self::Leased => Ok(Self::Blocked),
                Self::Blocked | Self::Delivered | Self::Dead => Err(illegal),
            },
            EntryEvent::Lease => match self {
                Self::Ready | Self::Leased => Ok(Self::Leased),
                Self::Blocked | Self::Delivered | Self::Dead => Err(illegal),
            },
            EntryEvent::Release | EntryEvent::Retry => match self {
                Self::Leased => Ok(Self::Ready),
                Self::Blocked | Self::Ready | Self::Delivered | Self::Dead => Err(illegal),
            },
            EntryEvent::Deliver => match self {
                Self::Leased => Ok(Self::Delivered),
                Self::Blocked | Self::Ready | Self::Delivered | Self::Dead => Err(illegal),
            },
            EntryEvent::GiveUp => match self {
                Self::Leased => Ok(Self::Dead),
                Self::Blocked | Self::Ready | Self::Delivered | Self::Dead => Err(illegal),
            },
            EntryEvent::Replay => match self {
                Self::Dead => Ok(Self::Ready),
                Self::Blocked | Self::Ready | Self::Leased | Self::Delivered => Err(illegal),
            },
            EntryEvent::Resend => match self {
                Self::Delivered => Ok(Self::Ready),
                Self::Blocked | Self::Ready | Self::Leased | Self::Dead => Err(illegal),
            },
        }
    }
}

impl From<&JobEnd> for JobEvent {
    fn from(end: &JobEnd) -> Self {
        match end {
            JobEnd::Done => Self::Finish,
            JobEnd::Held { .. } => Self::Hold,
            JobEnd::RetryAt { .. } => Self::Retry,
            JobEnd::Dead { .. } => Self::GiveUp,
        }
    }
}

impl From<&EntryEnd> for EntryEvent {
    fn from(end: &EntryEnd) -> Self {
        match end {
            EntryEnd::Delivered => Self::Deliver,
            EntryEnd::RetryAt { .. } => Self::Retry,
            EntryEnd::Dead { .. } => Self::GiveUp,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            // In an error the difference from a ready job is the reason, so it is named.
            Self::Blocked => "behind an older one",
            other => other.as_str(),
        })
    }
}
impl fmt::Display for EntryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "behind an older one",
            other => other.as_str(),
        })
    }
}

/// As in "it cannot be leased".
impl fmt::Display for JobEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TurnComes => "have its turn",
            Self::GiveWay => "give way",
            Self::Lease => "be leased",
            Self::Release => "be released",
            Self::Retry => "be tried again",
            Self::Finish => "be finished",
            Self::Hold => "be held",
            Self::GiveUp => "be given up",
            Self::Replay => "be replayed",
            Self::Dismiss => "be dismissed",
        })
    }
}
impl fmt::Display for EntryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TurnComes => "have its turn",
            Self::GiveWay => "give way",
            Self::Lease => "be leased",
            Self::Release => "be released",
            Self::Retry => "be tried again",
            Self::Deliver => "be delivered",
            Self::GiveUp => "be given up",
            Self::Replay => "be replayed",
            Self::Resend => "be sent again",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair that is not here is illegal.
    const JOBS: &[(JobState, JobEvent, JobState)] = {
        use JobEvent::{Dismiss, Finish, GiveUp, GiveWay, Hold, Lease, Release, Replay, Retry, TurnComes};
        use JobState::{Blocked, Dead, Dismissed, Done, Held, Leased, Ready};
        &[
            (Blocked, TurnComes, Ready),
            (Ready, GiveWay, Blocked),
            (Ready, Lease, Leased),
            (Leased, GiveWay, Blocked),
            (Leased, Lease, Leased),
            (Leased, Release, Ready),
            (Leased, Retry, Ready),
            (Leased, Finish, Done),
            (Leased, Hold, Held),
            (Leased, GiveUp, Dead),
            (Done, Replay, Blocked),
            (Held, Replay, Blocked),
            (Dead, Replay, Blocked),
            (Dismissed, Replay, Blocked),
            (Held, Dismiss, Dismissed),
        ]
    };
    const JOB_EVENTS: [JobEvent; 10] = [
        JobEvent::TurnComes,
        JobEvent::GiveWay,
        JobEvent::Lease,
        JobEvent::Release,
        JobEvent::Retry,
        JobEvent::Finish,
        JobEvent::Hold,
        JobEvent::GiveUp,
        JobEvent::Replay,
        JobEvent::Dismiss,
    ];
    const ENTRIES: &[(EntryState, EntryEvent, EntryState)] = {
        use EntryEvent::{Deliver, GiveUp, GiveWay, Lease, Release, Replay, Resend, Retry, TurnComes};
        use EntryState::{Blocked, Dead, Delivered, Leased, Ready};
        &[
            (Blocked, TurnComes, Ready),
            (Ready, GiveWay, Blocked),
            (Ready, Lease, Leased),
            (Leased, GiveWay, Blocked),
            (Leased, Lease, Leased),
            (Leased, Release, Ready),
            (Leased, Retry, Ready),
            (Leased, Deliver, Delivered),
            (Leased, GiveUp, Dead),
            (Dead, Replay, Ready),
            (Delivered, Resend, Ready),
        ]
    };
    const ENTRY_EVENTS: [EntryEvent; 9] = [
        EntryEvent::TurnComes,
        EntryEvent::GiveWay,
        EntryEvent::Lease,
        EntryEvent::Release,
        EntryEvent::Retry,
        EntryEvent::Deliver,
        EntryEvent::GiveUp,
        EntryEvent::Replay,
        EntryEvent::Resend,
    ];

    #[test]
    fn every_state_of_a_job_says_what_each_event_does() {
        for state in JobState::ALL {
            for event in JOB_EVENTS {
                let to = JOBS.iter().find(|(from, by, _)| (*from, *by) == (state, event));
                let expected = to.map(|(_, _, to)| *to).ok_or(IllegalEvent::Job { state, event });
                assert_eq!(state.next(event), expected, "{state:?} and {event:?}");
            }
        }
    }

    #[test]
    fn every_state_of_an_entry_says_what_each_event_does() {
        for state in EntryState::ALL {
            for event in ENTRY_EVENTS {
                let to = ENTRIES.iter().find(|(from, by, _)| (*from, *by) == (state, event));
                let expected = to.map(|(_, _, to)| *to).ok_or(IllegalEvent::Entry { state, event });
                assert_eq!(state.next(event), expected, "{state:?} and {event:?}");
            }
        }
    }

    #[test]
    fn an_illegal_event_says_what_cannot_happen_to_what() {
        let error = JobState::Leased.next(JobEvent::Dismiss).unwrap_err();
        assert_eq!(error.to_string(), "a job that is leased cannot be dismissed");
        let error = JobState::Blocked.next(JobEvent::Lease).unwrap_err();
        assert_eq!(error.to_string(), "a job that is behind an older one cannot be leased");
        let error = EntryState::Ready.next(EntryEvent::Resend).unwrap_err();
        assert_eq!(error.to_string(), "a delivery that is ready cannot be sent again");
    }

    #[test]
    fn only_the_newest_lease_of_what_is_leased_holds() {
        let (old, new) = (LeaseEpoch(1), LeaseEpoch(2));
        for state in JobState::ALL {
            assert_eq!(state.is_held_under(new, new), state == JobState::Leased);
            assert!(!state.is_held_under(new, old));
        }
        for state in EntryState::ALL {
            assert_eq!(state.is_held_under(new, new), state == EntryState::Leased);
            assert!(!state.is_held_under(new, old));
        }
    }
}
