//! What every answer of the store must be, kept simply enough to be believed: lists, searched from their beginning.
//!
//! Each method takes a question and the store's answer to it, says what is wrong with the answer, and goes on as if it was right.
//! The rules that the store asks core for (an action's verdict, a status against another) are told here again in few words, not
//! called.

mod pulls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use tollgate_core::action::{GrantedAction, Verdict};
use tollgate_core::admission::{Admission, Disposition};
use tollgate_core::budget::{self, Over, Spending};
use tollgate_core::delivery::EntryEnd;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::ids::{Digest, LeaseEpoch, ReceiptId};
use tollgate_core::outcome::JobEnd;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::time::UnixMillis;
use tollgate_store::{
    Admitted, AttemptRecord, AttemptRecorded, ClaimRequest, Counts, JobClaim, NextDue, OutboxClaim, OutboxHold,
    ReplayReport, ReplayWhat, ReplayedWork, Settled, Settlement,
};

use super::tally::{Met, Tally};
pub(super) use pulls::PULLED;

/// The statuses of a redemption in the order of its life; the last two are its ends, and exclude each other.
pub(super) const STATUSES: [&str; 4] = ["created", "pending", "completed", "rolledback"];
const FIRST_END: usize = 2;

/// Where a piece of work stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Waiting {
        due: i64,
    },
    /// By whoever holds the newest epoch. `doubtful` when the store may have taken the lease back after it expired, without
    /// giving it to anybody.
    Leased {
        until: i64,
        doubtful: bool,
    },
    Ended(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Held,
    Dead,
}

impl Work {
    fn is_open(self) -> bool {
        !matches!(self, Self::Ended(_))
    }

    /// From when on it may be claimed, its lane permitting.
    fn due(self) -> Option<i64> {
        match self {
            Self::Waiting { due } => Some(due),
            Self::Leased { until, .. } => Some(until),
            Self::Ended(_) => None,
        }
    }

    fn is_leased_at(self, now: i64) -> bool {
        matches!(self, Self::Leased { until, .. } if until > now)
    }
}

#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) id: ReceiptId,
    pub(super) event: Arc<Event>,
    pub(super) disposition: Disposition,
    pub(super) redeliveries: u32,
    /// Digests of other bodies that came under its id.
    pub(super) others: BTreeSet<Digest>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) receipt: usize,
    pub(super) route: String,
    lane: i64,
    pub(super) work: Work,
    epoch: i64,
    /// Claims since it was made or replayed.
    attempts: u32,
    /// Of those, claims that ended in a settlement.
    settled: u32,
    pub(super) runs: usize,
    has_letter: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) operation: Operation,
    pub(super) destination: String,
    /// What it waits in line with, where its destination asks for order: tenant, family and subject.
    pub(super) line: Option<(String, String, String)>,
    pub(super) work: Work,
    epoch: i64,
    attempts: u32,
    /// Of the attempts since it was made or replayed, those that were neither marked nor given back.
    unmarked: u32,
    pub(super) attempts_kept: usize,
    has_letter: bool,
    /// It was let go once, so that the next of its line went before it.
    pub(super) was_dead: bool,
}

/// An entry that is due, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    since: i64,
    /// The one that is due, and what leaves in its place.
    front: usize,
    leaves: usize,
}

/// Tenant, kind of action, operation key.
pub(super) type Operation = (String, String, String);

/// A part of a budget that is spent by itself: tenant, route, the budget in words, the account or nothing, and the end of its window.
pub(super) type Part = (String, String, String, String, UnixMillis);

/// What the store must have.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) receipts: Vec<Receipt>,
    pub(super) jobs: Vec<Job>,
    pub(super) entries: Vec<Entry>,
    /// Operations that have their effect, with its content.
    pub(super) ledger: BTreeMap<Operation, String>,
    /// The receipt whose job recorded each.
    recorded_for: BTreeMap<Operation, usize>,
    /// Proposals that conflict with it, each once.
    refused: BTreeSet<(Operation, String)>,
    conflicts: u64,
    redeliveries: u64,
    runs: u64,
    subjects: BTreeMap<(String, String), usize>,
    /// Plugin state by tenant and key, with how often it was written.
    state: BTreeMap<(String, String), (u64, Vec<u8>)>,
    spent: BTreeMap<Part, i64>,
    state_total_max: u64,
    job_policy: RetryPolicy,
    delivery_policy: RetryPolicy,
}

impl Entry {
    /// What an attempt under the newest lease makes of it.
    fn end(&mut self, end: &EntryEnd, met: &mut Tally) {
        self.unmarked -= 1;
        self.work = match end {
            EntryEnd::Delivered => Work::Ended(End::Done),
            EntryEnd::RetryAt { at, .. } => Work::Waiting { due: at.0 },
            EntryEnd::Dead { .. } => {
                (self.has_letter, self.was_dead) = (true, true);
                met.met(Met::DeadLetters);
                Work::Ended(End::Dead)
            }
        };
    }
}

impl Job {
    fn part(&self, tenant: &str, spending: &Spending, at: UnixMillis) -> Part {
        (
            tenant.to_owned(),
            self.route.clone(),
            spending.budget.to_string(),
            spending.account.clone(),
            spending.budget.window.ends_at(at),
        )
    }
}

impl Model {
    pub(super) fn new(state_total_max: u64, job_policy: RetryPolicy, delivery_policy: RetryPolicy) -> Self {
        Self {
            receipts: Vec::new(),
            jobs: Vec::new(),
            entries: Vec::new(),
            ledger: BTreeMap::new(),
            recorded_for: BTreeMap::new(),
            refused: BTreeSet::new(),
            conflicts: 0,
            redeliveries: 0,
            runs: 0,
            subjects: BTreeMap::new(),
            state: BTreeMap::new(),
            spent: BTreeMap::new(),
            state_total_max,
            job_policy,
            delivery_policy,
        }
    }

    // Events.

    pub(super) fn admitted(&mut self, admission: &Admission, answer: &Admitted, met: &mut Tally) -> Result<()> {
        let event = &admission.event;
        let known = self
            .receipts
            .iter_mut()
            .find(|receipt| receipt.event.tenant == event.tenant && receipt.event.id == event.id);
        let expected = match known {
            Some(known) => {
                known.redeliveries += 1;
                let delivery = known.redeliveries + 1;
                ensure!(
                    known.id == admission.receipt,
                    "{} has two receipts in one store",
                    event.id
                );
                if known.event.payload == event.payload {
                    met.met(Met::Redeliveries);
                    self.redeliveries += 1;
                    Admitted::Same { delivery }
                } else {
                    met.met(Met::Conflicts);
                    self.conflicts += 1;
                    // The same bytes are kept once; so few others come here that all are.
                    known.others.insert(admission.body_commitment);
                    Admitted::Conflict { delivery }
                }
            }
            None => {
                let disposition = self.disposition(event);
                met.met(Met::Events);
                if disposition == Disposition::Accepted {
                    met.met_times(Met::Jobs, admission.jobs.len() as u64);
                    let receipt = self.receipts.len();
                    self.jobs.extend(admission.jobs.iter().map(|spec| Job {
                        receipt,
                        route: spec.route.to_string(),
                        lane: spec.lane,
                        work: Work::Waiting {
                            due: event.received_at.0,
                        },
                        epoch: 0,
                        attempts: 0,
                        settled: 0,
                        runs: 0,
                        has_letter: false,
                    }));
                } else {
                    met.met(Met::NotAccepted);
                }
                self.receipts.push(Receipt {
                    id: admission.receipt,
                    event: Arc::clone(event),
                    disposition: disposition.clone(),
                    redeliveries: 0,
                    others: BTreeSet::new(),
                });
                Admitted::New(disposition)
            }
        };
        ensure!(
            *answer == expected,
            "{} was taken in as {answer:?}, not as {expected:?}",
            event.id
        );
        Ok(())
    }

    fn disposition(&mut self, event: &Event) -> Disposition {
        let (StatusReading::Mapped { status, .. }, Some(subject)) = (&event.reading, &event.subject) else {
            return Disposition::Accepted;
        };
        let status = STATUSES.iter().position(|name| *name == status.as_str()).unwrap_or(0);
        let subject = (event.tenant.to_string(), subject.to_string());
        match self.subjects.get(&subject).copied() {
            Some(current) if current >= FIRST_END && status >= FIRST_END && current != status => Disposition::Held {
                reason: format!(
                    "`{}` can neither follow nor precede `{}` in the lifecycle `reward-redemption`",
                    STATUSES[status], STATUSES[current]
                ),
            },
            Some(current) if status < current => Disposition::Superseded {
                current: STATUSES[current].parse().expect("a status"),
            },
            _ => {
                self.subjects.insert(subject, status);
                Disposition::Accepted
            }
        }
    }

    // Jobs.

    pub(super) fn event_of(&self, job: usize) -> &Arc<Event> {
        &self.receipts[self.jobs[job].receipt].event
    }

    /// The unfinished jobs of each lane, the oldest first.
    fn lanes(&self) -> BTreeMap<i64, Vec<usize>> {
        let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, job) in self.jobs.iter().enumerate().filter(|(_, job)| job.work.is_open()) {
            lanes.entry(job.lane).or_default().push(at);
        }
        lanes
    }

    /// Jobs that may be leased now: the oldest unfinished of their lanes, due or with an expired lease, and nobody at work in
    /// the lane.
    fn claimable(&self, request: &ClaimRequest) -> BTreeSet<usize> {
        let now = request.now.0;
        let lanes = self.lanes().into_values();
        lanes
            .filter(|lane| !lane.iter().any(|&job| self.jobs[job].work.is_leased_at(now)))
            .map(|lane| lane[0])
            .filter(|&job| self.jobs[job].work.due().is_some_and(|due| due <= now))
            .filter(|&job| !request.passed_over.contains(&self.event_of(job).tenant))
            .collect()
    }

    pub(super) fn claimed(&mut self, request: &ClaimRequest, claims: &[JobClaim], met: &mut Tally) -> Result<()> {
        let mut claimable = self.claimable(request);
        let (now, until) = (request.now.0, request.now.0 + request.lease_ms);
        ensure!(claims.len() <= request.rows_max, "more leases than were asked for");
        for claim in claims {
            let at = index(claim.job.0)?;
            ensure!(
                claimable.remove(&at),
                "{} was leased at {now}, but not this: {:?}; its lane: {:?}",
                claim.job,
                self.jobs.get(at),
                self.lane_of(at)
            );
            // A younger one of the lane has lost its lease: two jobs of one lane are never run at once.
            let lane = self.jobs[at].lane;
            for younger in self.jobs[at + 1..].iter_mut().filter(|job| job.lane == lane) {
                if let Work::Leased { until, .. } = younger.work {
                    younger.work = Work::Waiting { due: until };
                }
            }
            let event = Arc::clone(self.event_of(at));
            let job = &mut self.jobs[at];
            if matches!(job.work, Work::Leased { .. }) {
                met.met(Met::TakenOver);
            }
            job.epoch += 1;
            job.attempts += 1;
            job.work = Work::Leased { until, doubtful: false };
            ensure!(
                (claim.epoch, claim.attempt) == (LeaseEpoch(job.epoch), job.attempts),
                "{} was leased as {:?}, attempt {}, not as epoch {}, attempt {}",
                claim.job,
                claim.epoch,
                claim.attempt,
                job.epoch,
                job.attempts
            );
            ensure!(
                claim.route.as_str() == job.route
                    && claim.event.id == event.id
                    && claim.event.payload == event.payload
                    && claim.event.attributes == event.attributes,
                "{} came with another event than it was made of",
                claim.job
            );
        }
        if claims.len() < request.rows_max {
            ensure!(
                claimable.is_empty(),
                "jobs were due at {now} and nobody got them: {claimable:?}"
            );
        }
        self.doubt(now);
        Ok(())
    }

    /// A claim that meets an expired lease behind an older job, which a replay put there and which is not due yet, takes the lease
    /// back. Whether it came so far is its own affair.
    fn doubt(&mut self, now: i64) {
        for lane in self.lanes().into_values() {
            for &at in lane.iter().skip(1) {
                if let Work::Leased { until, doubtful } = &mut self.jobs[at].work {
                    *doubtful |= *until <= now;
                }
            }
        }
    }

    fn lane_of(&self, job: usize) -> Vec<(usize, Work)> {
        let Some(lane) = self.jobs.get(job).map(|job| job.lane) else {
            return Vec::new();
        };
        let jobs = self.jobs.iter().enumerate().filter(|(_, job)| job.lane == lane);
        jobs.map(|(at, job)| (at, job.work)).collect()
    }

    /// What a read of state must give, and which writing of it that was.
    pub(super) fn read(&self, tenant: &str, key: &str) -> (u64, Option<&[u8]>) {
        let found = self.state.get(&(tenant.to_owned(), key.to_owned()));
        found.map_or((0, None), |(writing, value)| (*writing, Some(value.as_slice())))
    }

    /// `read` says which writing of each key the run has seen.
    pub(super) fn settled(
        &mut self,
        settlement: &Settlement,
        read: &[(String, u64)],
        answer: &Settled,
        met: &mut Tally,
    ) -> Result<()> {
        let at = index(settlement.job.0)?;
        let job = self.jobs.get(at).context("a settlement of no job")?;
        let tenant = self.event_of(at).tenant.to_string();
        let (holds, doubtful, until) = match job.work {
            Work::Leased { until, doubtful } => (LeaseEpoch(job.epoch) == settlement.epoch, doubtful, until),
            Work::Waiting { .. } | Work::Ended(_) => (false, false, 0),
        };
        if *answer == Settled::LeaseLost {
            ensure!(
                !holds || doubtful,
                "{}: whoever held the newest lease, {:?}, was refused: {job:?}",
                settlement.job,
                settlement.epoch
            );
            met.met(Met::LateSettlements);
            if holds {
                self.jobs[at].work = Work::Waiting { due: until };
            }
            return Ok(());
        }
        ensure!(
            holds,
            "{}: a settlement under {:?} was answered {answer:?}, but the job is {job:?}",
            settlement.job,
            settlement.epoch
        );
        let expected = if read.iter().any(|(key, writing)| self.read(&tenant, key).0 != *writing) {
            met.met(Met::StaleReads);
            Settled::StaleState
        } else if let Some(bytes) = self.over_quota(&tenant, settlement) {
            met.met(Met::OverQuota);
            Settled::OverQuota { bytes }
        } else if let Some(over) = self.spent(at, &tenant, settlement) {
            met.met(Met::OverBudget);
            Settled::OverBudget(Box::new(over))
        } else {
            let verdicts = self.judged(self.jobs[at].receipt, &tenant, settlement, met);
            self.write(&tenant, settlement, &verdicts);
            self.end(at, settlement, met)?;
            met.met(Met::Runs);
            self.runs += 1;
            Settled::Committed {
                run: tollgate_core::ids::RunId(i64::try_from(self.runs)?),
                verdicts,
            }
        };
        ensure!(
            *answer == expected,
            "{}: a settlement was answered {answer:?}, not {expected:?}",
            settlement.job
        );
        Ok(())
    }

    fn over_quota(&self, tenant: &str, settlement: &Settlement) -> Option<u64> {
        if settlement.end != JobEnd::Done || settlement.state_total_max.is_none() {
            return None;
        }
        let bytes = |key: &str, value: &[u8]| (key.len() + value.len()) as u64;
        let of_tenant = self.state.iter().filter(|((of, _), _)| of == tenant);
        let before: u64 = of_tenant.map(|((_, key), (_, value))| bytes(key, value)).sum();
        let mut after = before;
        for write in &settlement.writes {
            let old = self.read(tenant, &write.key).1.map_or(0, |old| bytes(&write.key, old));
            let new = write.value.as_ref().map_or(0, |new| bytes(&write.key, new));
            after = after + new - old;
        }
        (after > before && after > self.state_total_max).then_some(after)
    }

    /// Takes what is new in a run from the budgets of its route, or answers which of them has not enough left.
    fn spent(&mut self, job: usize, tenant: &str, settlement: &Settlement) -> Option<Over> {
        if settlement.end != JobEnd::Done {
            return None;
        }
        let run = &settlement.run;
        let ended_at = run.started_at.plus_ms((run.duration_us / 1000) as i64);
        let is_new = |granted: &&GrantedAction| {
            let operation = (
                tenant.to_owned(),
                granted.action().kind().to_string(),
                granted.operation_key().to_string(),
            );
            !self.ledger.contains_key(&operation)
        };
        let new = settlement.actions.iter().filter(is_new).map(GrantedAction::action);
        let spendings = budget::spendings(&settlement.budgets, new);
        let part = |spending: &Spending| self.jobs[job].part(tenant, spending, ended_at);
        let over = spendings.iter().find_map(|spending| {
            let spent = self.spent.get(&part(spending)).copied().unwrap_or(0);
            spending.over(spent, ended_at)
        });
        if over.is_none() {
            let taken: Vec<_> = spendings
                .iter()
                .map(|spending| (part(spending), spending.number))
                .collect();
            for (part, number) in taken {
                *self.spent.entry(part).or_default() += number;
            }
        }
        over
    }

    /// Enters the actions of a run that is done into ledger and outbox.
    fn judged(&mut self, receipt: usize, tenant: &str, settlement: &Settlement, met: &mut Tally) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if settlement.end != JobEnd::Done {
            return verdicts;
        }
        let run = &settlement.run;
        let ended_at = run.started_at.0 + (run.duration_us / 1000) as i64;
        for granted in &settlement.actions {
            let operation = (
                tenant.to_owned(),
                granted.action().kind().to_string(),
                granted.operation_key().to_string(),
            );
            let content = granted.action().to_json();
            verdicts.push(match self.ledger.get(&operation) {
                Some(known) if *known == content => {
                    met.met(Met::OperationsRepeated);
                    Verdict::AlreadyDone
                }
                Some(_) => {
                    met.met(Met::OperationsConflicting);
                    self.refused.insert((operation.clone(), content));
                    Verdict::Conflict
                }
                None => {
                    met.met(Met::Operations);
                    self.ledger.insert(operation.clone(), content);
                    self.recorded_for.insert(operation.clone(), receipt);
                    Verdict::Recorded
                }
            });
            if verdicts.last() == Some(&Verdict::Conflict) {
                continue;
            }
            // One action goes to every destination that was meant, whoever names it first.
            for destination in &settlement.targets.destinations {
                let is_it = |entry: &Entry| entry.operation == operation && entry.destination == destination.as_str();
                if self.entries.iter().any(is_it) {
                    continue;
                }
                let line = settlement
                    .targets
                    .ordered
                    .contains(destination)
                    .then(|| self.line(&operation))
                    .flatten();
                let waits = |entry: &Entry| entry.destination == destination.as_str() && entry.line == line;
                if line.is_some() && self.entries.iter().any(|entry| entry.work.is_open() && waits(entry)) {
                    met.met(Met::InLine);
                }
                self.entries.push(Entry {
                    operation: operation.clone(),
                    destination: destination.to_string(),
                    line,
                    work: Work::Waiting { due: ended_at },
                    epoch: 0,
                    attempts: 0,
                    unmarked: 0,
                    attempts_kept: 0,
                    has_letter: false,
                    was_dead: false,
                });
            }
        }
        verdicts
    }

    /// What an action's event is about, where it is about anything.
    fn line(&self, operation: &Operation) -> Option<(String, String, String)> {
        let event = &self.receipts[*self.recorded_for.get(operation)?].event;
        let family = event.reading.family().map_or_else(String::new, ToString::to_string);
        let subject = event.subject.as_ref()?.to_string();
        Some((event.tenant.to_string(), family, subject))
    }

    fn write(&mut self, tenant: &str, settlement: &Settlement, verdicts: &[Verdict]) {
        let has_effect = verdicts.is_empty() || verdicts.contains(&Verdict::Recorded);
        if settlement.end != JobEnd::Done || !has_effect {
            return;
        }
        for write in &settlement.writes {
            let kept = self.state.entry((tenant.to_owned(), write.key.clone())).or_default();
            *kept = (kept.0 + 1, write.value.clone().unwrap_or_default());
        }
    }

    fn end(&mut self, at: usize, settlement: &Settlement, met: &mut Tally) -> Result<()> {
        let attempts_max = self.job_policy.attempts_max;
        let job = &mut self.jobs[at];
        job.runs += 1;
        job.settled += 1;
        ensure!(
            job.settled <= attempts_max,
            "{}: {} settled attempts, and {attempts_max} are the most",
            settlement.job,
            job.settled
        );
        job.work = match &settlement.end {
            JobEnd::Done => Work::Ended(End::Done),
            JobEnd::Held { .. } => Work::Ended(End::Held),
            JobEnd::Dead { .. } => {
                job.has_letter = true;
                met.met(Met::DeadLetters);
                Work::Ended(End::Dead)
            }
            JobEnd::RetryAt { at, .. } => Work::Waiting { due: at.0 },
        };
        Ok(())
    }

    // Deliveries.

    pub(super) fn claimed_outbox(&mut self, request: &ClaimRequest, claims: &[OutboxClaim]) -> Result<()> {
        let now = request.now.0;
        let leased = claims
            .iter()
            .map(|claim| index(claim.entry.0))
            .collect::<Result<Vec<_>>>()?;
        self.hold_turns(now, request.rows_max, &leased)?;
        for (claim, at) in claims.iter().zip(leased) {
            // A younger one of the line has lost its lease: two of one line never leave at once.
            for younger in self.behind(at) {
                let work = &mut self.entries[younger].work;
                if let Work::Leased { until, .. } = *work {
                    *work = Work::Waiting { due: until };
                }
            }
            self.leased(at, request, claim)?;
            let entry = &self.entries[at];
            ensure!(
                claim.attempt <= self.delivery_policy.attempts_max + entry.unmarked,
                "{} is attempted once more than its attempts and what was lost: {entry:?}",
                claim.entry
            );
        }
        Ok(())
    }

    /// An entry is on its way now, with what was recorded.
    fn leased(&mut self, at: usize, request: &ClaimRequest, claim: &OutboxClaim) -> Result<()> {
        let entry = &mut self.entries[at];
        entry.epoch += 1;
        entry.attempts += 1;
        entry.unmarked += 1;
        entry.work = Work::Leased {
            until: request.now.0 + request.lease_ms,
            doubtful: false,
        };
        ensure!(
            (claim.epoch, claim.attempt) == (LeaseEpoch(entry.epoch), entry.attempts),
            "{} was leased as {:?}, attempt {}: {entry:?}",
            claim.entry,
            claim.epoch,
            claim.attempt
        );
        let operation = (
            claim.tenant.to_string(),
            claim.kind.to_string(),
            claim.operation_key.to_string(),
        );
        ensure!(
            operation == entry.operation
                && claim.destination.as_str() == entry.destination
                && self.ledger.get(&operation) == Some(&claim.action_json),
            "{} is leased with other content than was recorded: {claim:?}",
            claim.entry
        );
        Ok(())
    }

    /// Entries of the same line that are younger.
    fn behind(&self, at: usize) -> Vec<usize> {
        let entry = &self.entries[at];
        let is_of_line = |other: &Entry| other.line == entry.line && other.destination == entry.destination;
        (at + 1..self.entries.len())
            .filter(|_| entry.line.is_some())
            .filter(|&other| is_of_line(&self.entries[other]))
            .collect()
    }

    /// Every entry that is on its way or may be, and the one that leaves when it is due: where its lease ran out, what was put back before
    /// it; else itself. Of each line it is one.
    fn fronts(&self) -> Vec<(usize, usize)> {
        let mut fronts = Vec::new();
        let mut seen = BTreeSet::new();
        for (at, entry) in self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.work.is_open())
        {
            let Some(line) = &entry.line else {
                fronts.push((at, at));
                continue;
            };
            if seen.insert((line, &entry.destination)) {
                let leased = |other: &usize| matches!(self.entries[*other].work, Work::Leased { .. });
                let front = [at].into_iter().chain(self.behind(at)).find(leased);
                fronts.push((front.unwrap_or(at), at));
            }
        }
        fronts
    }

    /// What is due of some entries, the first first.
    fn due(&self, now: i64, wanted: impl Fn(&Entry) -> bool) -> Vec<Due> {
        let mut due: Vec<_> = self
            .fronts()
            .into_iter()
            .filter(|(front, _)| wanted(&self.entries[*front]))
            .filter_map(|(front, leaves)| {
                let since = self.entries[front].work.due()?;
                Some(Due { since, front, leaves })
            })
            .filter(|due| due.since <= now)
            .collect();
        due.sort_unstable();
        due
    }

    /// As many as are due and wanted; of each destination the first that are due; and none served twice its share while another
    /// waits.
    fn hold_turns(&self, now: i64, rows_max: usize, leased: &[usize]) -> Result<()> {
        let mut due: BTreeMap<(&str, &str), Vec<Due>> = BTreeMap::new();
        for next in self.due(now, |entry| !entry.is_pulled()) {
            let entry = &self.entries[next.front];
            let of = (entry.operation.0.as_str(), entry.destination.as_str());
            due.entry(of).or_default().push(next);
        }
        let wanted = due.values().map(Vec::len).sum::<usize>().min(rows_max);
        ensure!(
            leased.len() == wanted,
            "outbox entries {leased:?} were leased at {now}; {wanted} of these should be: {due:?}"
        );
        let share = rows_max / due.len().max(1);
        for (of, due) in due {
            let own: Vec<_> = leased
                .iter()
                .filter(|at| due.iter().any(|due| due.leaves == **at))
                .collect();
            ensure!(
                own.iter()
                    .copied()
                    .eq(due.iter().map(|due| &due.leaves).take(own.len())),
                "outbox entries {own:?} of {of:?} were leased at {now}; due were, the first first, {due:?}"
            );
            ensure!(
                own.len() >= share.min(due.len()),
                "only {} entries of {of:?} were leased at {now}, its share is {share} of {due:?}",
                own.len()
            );
        }
        Ok(())
    }

    pub(super) fn marked(&mut self, mark: &AttemptRecord, answer: AttemptRecorded, met: &mut Tally) -> Result<()> {
        let at = index(mark.entry.0)?;
        let entry = self.entries.get_mut(at).context("a mark of no entry")?;
        entry.attempts_kept += 1;
        let holds = matches!(entry.work, Work::Leased { .. }) && LeaseEpoch(entry.epoch) == mark.epoch;
        let expected = if holds {
            AttemptRecorded::Recorded
        } else {
            AttemptRecorded::LeaseLost
        };
        ensure!(
            answer == expected,
            "{}: a mark under {:?} was answered {answer:?}: {entry:?}",
            mark.entry,
            mark.epoch
        );
        if !holds {
            met.met(Met::LateMarks);
            return Ok(());
        }
        entry.end(&mark.entry_end, met);
        Ok(())
    }

    pub(super) fn released(&mut self, holds: &[OutboxHold], due: i64, met: &mut Tally) -> Result<()> {
        for hold in holds {
            let entry = self
                .entries
                .get_mut(index(hold.entry.0)?)
                .context("a release of no entry")?;
            if matches!(entry.work, Work::Leased { .. }) && LeaseEpoch(entry.epoch) == hold.epoch {
                met.met(Met::Released);
                entry.attempts -= 1;
                entry.unmarked -= 1;
                entry.work = Work::Waiting { due };
            }
        }
        Ok(())
    }

    // People and power cuts.

    /// How many letters a replay of dead letters must answer.
    fn open_letters(&self, tenant: Option<&str>) -> usize {
        let of_jobs = self.jobs.iter().filter(|job| job.has_letter).filter(|job| {
            let of = &self.receipts[job.receipt].event.tenant;
            tenant.is_none_or(|tenant| tenant == of.as_str())
        });
        let of_entries = self
            .entries
            .iter()
            .filter(|entry| entry.has_letter)
            .filter(|entry| tenant.is_none_or(|tenant| tenant == entry.operation.0));
        of_jobs.count() + of_entries.count()
    }

    pub(super) fn replayed(
        &mut self,
        what: &ReplayWhat,
        report: &ReplayReport,
        now: i64,
        met: &mut Tally,
    ) -> Result<()> {
        let expected = match what {
            ReplayWhat::DeadLetters(filter) => {
                let tenant = filter.tenant.as_ref().map(|tenant| tenant.as_str());
                self.open_letters(tenant).min(filter.rows_max)
            }
            ReplayWhat::Receipt { receipt, jobs } => {
                ensure!(jobs.is_empty(), "the routes never change here");
                let of = |job: &&Job| self.receipts[job.receipt].id == *receipt && !job.work.is_open();
                self.jobs.iter().filter(of).count()
            }
            ReplayWhat::HeldJobs(_) => self.held_jobs(),
            ReplayWhat::Routed(_) => bail!("nothing is routed again here"),
            ReplayWhat::Jobs(_) | ReplayWhat::Entries(_) => bail!("nobody begins bulk actions here"),
        };
        ensure!(
            report.replayed.len() == expected,
            "{what:?} put {} back to work, not {expected}",
            report.replayed.len()
        );
        for replayed in &report.replayed {
            met.met(Met::Replayed);
            let dead_only = matches!(what, ReplayWhat::DeadLetters(_));
            let (work, attempts, has_letter) = match &replayed.work {
                ReplayedWork::NewJob { .. } => bail!("a job was made that routing had not given"),
                ReplayedWork::Job { job, .. } => {
                    let job = self.jobs.get_mut(index(job.0)?).context("a replay of no job")?;
                    job.settled = 0;
                    (&mut job.work, &mut job.attempts, &mut job.has_letter)
                }
                ReplayedWork::Delivery { entry, .. } => {
                    let entry = self.entries.get_mut(index(entry.0)?).context("a replay of no entry")?;
                    entry.unmarked = 0;
                    (&mut entry.work, &mut entry.attempts, &mut entry.has_letter)
                }
            };
            match work {
                Work::Ended(End::Dead) => {}
                Work::Ended(_) if !dead_only => {}
                other => bail!("{:?} was replayed while it was {other:?}", replayed.work),
            }
            (*work, *attempts, *has_letter) = (Work::Waiting { due: now }, 0, false);
        }
        Ok(())
    }

    /// Whoever opens the store frees what its processes had leased; the attempts stay counted. What was pulled is its owner's still.
    pub(super) fn reopened(&mut self) {
        let jobs = self.jobs.iter_mut().map(|job| &mut job.work);
        let entries = self.entries.iter_mut().filter(|entry| !entry.is_pulled());
        for work in jobs.chain(entries.map(|entry| &mut entry.work)) {
            if matches!(work, Work::Leased { .. }) {
                *work = Work::Waiting { due: 0 };
            }
        }
    }

    fn held_jobs(&self) -> usize {
        let held = |job: &&Job| job.work == Work::Ended(End::Held);
        self.jobs.iter().filter(held).count()
    }

    // What there is.

    pub(super) fn counts(&self) -> Counts {
        let receipts = |of: fn(&Disposition) -> bool| {
            let receipts = self.receipts.iter();
            receipts.filter(|receipt| of(&receipt.disposition)).count() as u64
        };
        let jobs = |of: fn(Work) -> bool| self.jobs.iter().filter(|job| of(job.work)).count() as u64;
        let entries = |of: fn(Work) -> bool| self.entries.iter().filter(|entry| of(entry.work)).count() as u64;
        let is_done: fn(Work) -> bool = |work| work == Work::Ended(End::Done);
        Counts {
            receipts: self.receipts.len() as u64,
            redeliveries: self.redeliveries,
            conflicts: self.conflicts,
            suspected_replays: 0,
            superseded: receipts(|disposition| matches!(disposition, Disposition::Superseded { .. })),
            held: receipts(|disposition| matches!(disposition, Disposition::Held { .. })),
            held_jobs: self.held_jobs() as u64,
            conflicts_open: self.receipts.iter().map(|receipt| receipt.others.len() as u64).sum(),
            ledger_conflicts_open: self.refused.len() as u64,
            jobs_waiting: jobs(Work::is_open),
            jobs_done: jobs(is_done),
            runs: self.runs,
            actions: self.ledger.len() as u64,
            outbox_waiting: entries(Work::is_open),
            delivered: entries(is_done),
            dead_letters_open: self.open_letters(None) as u64,
            bounded: false,
        }
    }

    /// Whoever sleeps until then must find something to do, and must not sleep longer.
    pub(super) fn next_due(&self, answer: NextDue) -> Result<()> {
        let fronts = self.fronts().into_iter();
        let entries = fronts.filter_map(|(front, _)| self.entries[front].work.due()).min();
        ensure!(
            answer.outbox.map(|at| at.0) == entries,
            "the next delivery is said to be due at {:?}, not at {entries:?}",
            answer.outbox
        );
        // At the latest when the oldest job of some free lane is due.
        let lanes = self.lanes().into_values().filter_map(|lane| {
            let leases = lane.iter().map(|&job| self.jobs[job].work);
            let busy_until = leases
                .filter(|work| matches!(work, Work::Leased { .. }))
                .filter_map(Work::due)
                .max();
            self.jobs[lane[0]].work.due().max(busy_until)
        });
        match (lanes.min(), answer.job) {
            (None, None) => Ok(()),
            (Some(latest), Some(at)) if at.0 <= latest => Ok(()),
            (latest, said) => bail!("the next job is said to be due at {said:?}; it is due by {latest:?}"),
        }
    }
}

/// The store counts from 1 and leaves nothing out, so that its number of a row is also the model's.
fn index(number: i64) -> Result<usize> {
    usize::try_from(number - 1).context("a number below 1")
}
