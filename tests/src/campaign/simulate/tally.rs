//! What simulated lives met. A simulation in which no lease expires and nobody dies would prove nothing.

use std::collections::BTreeMap;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    Steps,
    Events,
    Redeliveries,
    Conflicts,
    NotAccepted,
    Jobs,
    Runs,
    TakenOver,
    LateSettlements,
    StaleReads,
    OverQuota,
    OverBudget,
    AttemptsSpent,
    Operations,
    OperationsRepeated,
    OperationsConflicting,
    Attempts,
    LateMarks,
    SentAgain,
    Released,
    InLine,
    Pulled,
    Confirmed,
    GivenBack,
    RanOut,
    LateEnds,
    EndedByOthers,
    DeadLetters,
    Replayed,
    ClockForward,
    ClockBack,
    WorkerDeaths,
    DelivererDeaths,
    OwnerDeaths,
    Restarts,
    Crashes,
}

impl Met {
    const ALL: [(Self, &'static str); 36] = [
        (Self::Steps, "steps"),
        (Self::Events, "events admitted"),
        (Self::Redeliveries, "redeliveries recognised"),
        (Self::Conflicts, "same id with another body, kept apart"),
        (Self::NotAccepted, "superseded or held by the lifecycle"),
        (Self::Jobs, "jobs, each brought to its end"),
        (Self::Runs, "runs settled"),
        (Self::TakenOver, "leases of jobs that expired and were taken over"),
        (Self::LateSettlements, "settlements under an old lease, all refused"),
        (Self::StaleReads, "runs repeated because their state went stale"),
        (Self::OverQuota, "runs voided because their state grew too big"),
        (Self::OverBudget, "runs that a budget held"),
        (Self::AttemptsSpent, "jobs given up because no attempt ever ended"),
        (Self::Operations, "operations recorded, each once"),
        (Self::OperationsRepeated, "operations proposed again, without effect"),
        (Self::OperationsConflicting, "operations proposed with other content"),
        (Self::Attempts, "deliveries attempted"),
        (Self::LateMarks, "deliveries marked under an old lease, refused"),
        (Self::SentAgain, "deliveries that arrived again, the same bytes"),
        (Self::Released, "outbox entries given back by breaker or lane"),
        (Self::InLine, "deliveries that waited for an older one of their subject"),
        (Self::Pulled, "deliveries handed out to who pulls"),
        (Self::Confirmed, "of those, confirmed"),
        (Self::GivenBack, "of those, given back"),
        (
            Self::RanOut,
            "of those, leases that ran out, each an attempt that failed",
        ),
        (Self::LateEnds, "confirmed or given back under an old lease, refused"),
        (Self::EndedByOthers, "the same by who does not own it, refused"),
        (Self::DeadLetters, "dead letters"),
        (Self::Replayed, "jobs and deliveries replayed"),
        (Self::ClockForward, "clock set forward, up to an hour"),
        (Self::ClockBack, "clock set back, up to an hour"),
        (Self::WorkerDeaths, "workers that died with their claims"),
        (Self::DelivererDeaths, "deliverers that died with their claims"),
        (Self::OwnerDeaths, "owners that died with what they had pulled"),
        (Self::Restarts, "stores closed and opened again"),
        (Self::Crashes, "stores opened as a dead process left them"),
    ];
}

/// How often each thing happened.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Met, u64>);

impl Tally {
    pub(super) fn met(&mut self, what: Met) {
        self.met_times(what, 1);
    }

    pub(super) fn met_times(&mut self, what: Met, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    pub(super) fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| self.met_times(*what, *times));
    }

    /// All of them, in their order, those that never happened too.
    pub(super) fn facts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Met::ALL
            .iter()
            .map(|(what, name)| (*name, self.0.get(what).copied().unwrap_or(0)))
    }
}
