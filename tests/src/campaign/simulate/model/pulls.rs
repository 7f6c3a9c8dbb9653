//! What every answer to the owner of a pulled destination must be (promise P9).

use anyhow::{Context as _, Result, ensure};
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::ids::LeaseEpoch;
use tollgate_core::retry::NextStep;
use tollgate_core::work::EntryState;
use tollgate_store::{OutboxClaim, PullEnd, PullEnded, PullLease, PullRequest};

use super::{End, Entry, Model, Work, index};
use crate::campaign::simulate::tally::{Met, Tally};

/// The destination of each tenant that is pulled.
pub(in super::super) const PULLED: &str = "fetched";
/// How often one pull looks again behind leases that ran out.
const LOOKS_MAX: usize = 4;

impl Entry {
    /// Whether it is its owner's to lease, and nobody else's.
    pub(super) fn is_pulled(&self) -> bool {
        self.destination == PULLED
    }

    fn is_held_under(&self, epoch: LeaseEpoch) -> bool {
        matches!(self.work, Work::Leased { .. }) && LeaseEpoch(self.epoch) == epoch
    }
}

impl Model {
    /// All that is due is handed out, the first first, as far as it is wanted; a lease that ran out is an attempt that failed.
    pub(in super::super) fn pulled(
        &mut self,
        request: &PullRequest,
        claims: &[OutboxClaim],
        met: &mut Tally,
    ) -> Result<()> {
        let now = request.claim.now.0;
        let tenant = request.tenant.as_str();
        let mut given = claims.iter();
        let mut left = request.claim.rows_max;
        for _ in 0..LOOKS_MAX {
            let mut due = self.due(now, |entry| entry.is_pulled() && entry.operation.0 == tenant);
            due.truncate(left);
            for next in &due {
                if matches!(self.entries[next.front].work, Work::Leased { .. }) {
                    self.ran_out(next.front, request, met);
                    continue;
                }
                let claim = given.next().with_context(|| {
                    let entry = &self.entries[next.front];
                    format!("{entry:?} was due at {now}, and nobody was handed it: {claims:?}")
                })?;
                let at = index(claim.entry.0)?;
                ensure!(
                    at == next.front,
                    "{} was handed out at {now} in place of the first of these: {due:?}",
                    claim.entry
                );
                left -= 1;
                met.met(Met::Pulled);
                self.leased(at, &request.claim, claim)?;
                ensure!(
                    claim.attempt <= self.delivery_policy.attempts_max,
                    "{} is handed out once more than its attempts: {:?}",
                    claim.entry,
                    self.entries[at]
                );
            }
            if left == 0 || due.is_empty() {
                break;
            }
        }
        ensure!(
            given.next().is_none(),
            "more was handed out at {now} than was due: {claims:?}"
        );
        Ok(())
    }

    /// When it is tried again is arithmetic, and core's own.
    fn ran_out(&mut self, at: usize, request: &PullRequest, met: &mut Tally) {
        met.met(Met::RanOut);
        let entry = &mut self.entries[at];
        entry.attempts_kept += 1;
        let next = request
            .policy
            .next(entry.attempts, 0, request.claim.now, request.jitter);
        let reason = String::new();
        entry.end(
            &match next {
                NextStep::RetryAt(at) => EntryEnd::RetryAt { at, reason },
                NextStep::GiveUp => EntryEnd::Dead { reason },
            },
            met,
        );
    }

    /// What is held under the lease that is named is ended, late or not; nothing else is.
    pub(in super::super) fn pull_ended(
        &mut self,
        asked: &PullEnd,
        answers: &[PullEnded],
        met: &mut Tally,
    ) -> Result<()> {
        ensure!(
            asked.leases.len() == answers.len(),
            "{} answers to {} leases",
            answers.len(),
            asked.leases.len()
        );
        for (lease, answer) in asked.leases.iter().zip(answers) {
            self.one_ended(asked, *lease, answer, met)?;
        }
        Ok(())
    }

    fn one_ended(&mut self, asked: &PullEnd, lease: PullLease, answer: &PullEnded, met: &mut Tally) -> Result<()> {
        let attempts_max = self.delivery_policy.attempts_max;
        let lines: Vec<_> = self.fronts().into_iter().map(|(front, _)| front).collect();
        let at = index(lease.entry.0)?;
        let entry = self.entries.get_mut(at).context("a lease of no entry")?;
        let is_theirs = entry.is_pulled() && entry.operation.0 == asked.tenant.as_str();
        if !is_theirs {
            met.met(Met::EndedByOthers);
            ensure!(
                *answer == PullEnded::Unknown,
                "{lease} is none of {}, and was answered {answer:?}",
                asked.tenant
            );
            return Ok(());
        }
        if !entry.is_held_under(lease.epoch) {
            met.met(Met::LateEnds);
            let state = match entry.work {
                Work::Waiting { .. } if lines.contains(&at) => EntryState::Ready,
                Work::Waiting { .. } => EntryState::Blocked,
                Work::Leased { .. } => EntryState::Leased,
                Work::Ended(End::Dead) => EntryState::Dead,
                Work::Ended(_) => EntryState::Delivered,
            };
            ensure!(
                *answer == PullEnded::Over { state },
                "{lease} is over, and was answered {answer:?}: {entry:?}"
            );
            return Ok(());
        }
        let PullEnded::Recorded { entry_end } = answer else {
            anyhow::bail!("{lease} was held, and was answered {answer:?}: {entry:?}");
        };
        let last = entry.attempts >= attempts_max;
        let is_right = match (&asked.end, entry_end) {
            (AttemptEnd::Confirmed, EntryEnd::Delivered) => true,
            (AttemptEnd::GivenBack { retry_after_ms, .. }, EntryEnd::RetryAt { at, .. }) => {
                !last && at.since(asked.now) >= retry_after_ms.unwrap_or(0)
            }
            (AttemptEnd::GivenBack { .. }, EntryEnd::Dead { .. }) => last,
            _ => false,
        };
        ensure!(is_right, "{lease} became {entry_end:?} by {:?}: {entry:?}", asked.end);
        met.met(match asked.end {
            AttemptEnd::Confirmed => Met::Confirmed,
            _ => Met::GivenBack,
        });
        entry.attempts_kept += 1;
        entry.end(entry_end, met);
        Ok(())
    }
}
