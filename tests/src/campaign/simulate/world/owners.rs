//! Owners of the pulled destinations: several processes that pull, confirm, give back, forget what they fetched, are late, and die with it. They make
//! the calls to the store that `host/server` makes for them. What they hold outlives the host that handed it out.

use anyhow::Result;
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::limits;
use tollgate_core::retry::Moment;
use tollgate_core::time::UnixMillis;
use tollgate_store::{Outbox as _, OutboxHold, PullEnd, PullLease, PullRequest};

use super::{TENANTS, World, name};
use crate::campaign::simulate::model::PULLED;
use crate::campaign::simulate::tally::Met;

/// What one process of an owner has fetched, by tenant.
#[derive(Default)]
pub(super) struct Owner {
    pub(super) held: Vec<(&'static str, PullLease)>,
}

/// What is done with some of it.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Confirm,
    GiveBack,
    Forget,
}

impl World {
    /// A pull by any of the owners.
    pub(super) async fn pull_one(&mut self) -> Result<()> {
        let owner = self.random.below(self.owners.len() as u64) as usize;
        let tenant = TENANTS[self.random.below(2) as usize];
        let rows_max = [1, 3, 20][self.random.below(3) as usize];
        // Most answers have room for all that was leased.
        let room = match self.random.below(6) {
            0 => self.random.below(3) as usize,
            _ => usize::MAX,
        };
        self.pull(owner, tenant, rows_max, room).await.map(|_| ())
    }

    /// As the server hands out: leases what is due, composes it, and gives back what is too much for one answer.
    pub(super) async fn pull(
        &mut self,
        owner: usize,
        tenant: &'static str,
        rows_max: usize,
        room: usize,
    ) -> Result<usize> {
        let leases_s = [limits::PULL_LEASE_S_MIN, limits::PULL_LEASE_S];
        let lease_s = leases_s[self.random.below(2) as usize];
        let Moment { jitter, .. } = self.moment();
        let request = PullRequest {
            claim: self.request(&format!("owner-{owner}"), lease_s as i64 * 1_000, rows_max),
            tenant: name(tenant),
            destinations: vec![name(PULLED)],
            policy: self.rules.deliveries,
            jitter,
        };
        let claims = self.store()?.pull(request.clone()).await?.claims;
        let said: Vec<_> = claims.iter().map(|claim| (claim.entry, claim.epoch.0)).collect();
        self.journal
            .note(format!("{} owner-{owner} of {tenant} pulls {said:?}", self.now));
        self.model.pulled(&request, &claims, &mut self.met)?;
        let mut too_much = Vec::new();
        for (number, claim) in claims.iter().enumerate() {
            if number >= room {
                too_much.push(OutboxHold {
                    entry: claim.entry,
                    epoch: claim.epoch,
                });
                continue;
            }
            let body = self.composed(claim)?;
            self.arrives(claim.entry, body)?;
            let lease = PullLease {
                entry: claim.entry,
                epoch: claim.epoch,
            };
            self.owners[owner].held.push((tenant, lease));
        }
        if !too_much.is_empty() {
            let now = UnixMillis(self.now);
            self.store()?.release_outbox(too_much.clone(), now).await?;
            self.model.released(&too_much, now.0, &mut self.met)?;
        }
        Ok(claims.len())
    }

    /// An owner is done with some of what it holds, or forgets it.
    pub(super) async fn end_some(&mut self) -> Result<()> {
        let holding: Vec<_> = (0..self.owners.len())
            .filter(|owner| !self.owners[*owner].held.is_empty())
            .collect();
        let Some(&owner) = holding.get(self.random.below(holding.len() as u64) as usize) else {
            return Ok(());
        };
        let held = &self.owners[owner].held;
        let tenant = held[self.random.below(held.len() as u64) as usize].0;
        let deed = match self.random.below(10) {
            0..4 => Deed::Confirm,
            4..8 => Deed::GiveBack,
            _ => Deed::Forget,
        };
        self.end_held(owner, tenant, deed).await
    }

    /// All of one tenant that an owner holds, or some of it.
    async fn end_held(&mut self, owner: usize, tenant: &'static str, deed: Deed) -> Result<()> {
        let all = self.random.below(2) == 0;
        let (mut leases, mut kept) = (Vec::new(), Vec::new());
        for held in std::mem::take(&mut self.owners[owner].held) {
            if held.0 == tenant && (all || leases.is_empty()) {
                leases.push(held.1);
            } else {
                kept.push(held);
            }
        }
        self.owners[owner].held = kept;
        // Now and then somebody names what is another's, or says it again.
        let whose = match self.random.below(10) {
            0 => TENANTS[self.random.below(2) as usize],
            _ => tenant,
        };
        let says_it_again = self.random.below(10) == 0;
        let end = match deed {
            Deed::Forget => {
                self.journal
                    .note(format!("{} owner-{owner} forgets {leases:?}", self.now));
                return Ok(());
            }
            Deed::Confirm => AttemptEnd::Confirmed,
            Deed::GiveBack => AttemptEnd::GivenBack {
                retry_after_ms: [None, Some(0), Some(30_000)][self.random.below(3) as usize],
                reason: "no room".to_owned(),
            },
        };
        self.end(owner, whose, leases.clone(), end).await?;
        if says_it_again {
            self.end(owner, whose, leases, AttemptEnd::Confirmed).await?;
        }
        Ok(())
    }

    async fn end(&mut self, owner: usize, tenant: &str, leases: Vec<PullLease>, end: AttemptEnd) -> Result<()> {
        let Moment { now, jitter } = self.moment();
        let asked = PullEnd {
            tenant: name(tenant),
            destinations: vec![name(PULLED)],
            leases,
            end,
            now,
            policy: self.rules.deliveries,
            jitter,
        };
        let answers = self.store()?.end_pulled(asked.clone()).await?;
        self.journal.note(format!(
            "{} owner-{owner} of {tenant} says of {:?} {:?}: {answers:?}",
            self.now, asked.leases, asked.end
        ));
        self.model.pull_ended(&asked, &answers, &mut self.met)
    }

    pub(super) fn kill_owner(&mut self) -> Result<()> {
        let owner = self.random.below(self.owners.len() as u64) as usize;
        self.met.met(Met::OwnerDeaths);
        self.journal.note(format!("{} owner-{owner} dies", self.now));
        self.owners[owner].held.clear();
        Ok(())
    }

    /// Every owner confirms what it still holds, late or not, and one pulls what is due. Returns how many were handed out or ended.
    pub(super) async fn pull_the_rest(&mut self) -> Result<usize> {
        let mut worked = 0;
        for owner in 0..self.owners.len() {
            let held = std::mem::take(&mut self.owners[owner].held);
            for tenant in TENANTS {
                let of = held.iter().filter(|(whose, _)| *whose == tenant);
                let leases: Vec<_> = of.map(|(_, lease)| *lease).collect();
                worked += leases.len();
                if !leases.is_empty() {
                    self.end(owner, tenant, leases, AttemptEnd::Confirmed).await?;
                }
            }
        }
        for tenant in TENANTS {
            worked += self.pull(0, tenant, 64, usize::MAX).await?;
        }
        Ok(worked)
    }
}
