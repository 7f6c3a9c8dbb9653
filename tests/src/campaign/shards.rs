//! The sharding rule of `docs/sizing.md`, simulated: which tenant lives where, and how one moves. Shards are whole Tollgates that know nothing of each other; the
//! balancers in front lead a tenant's events by a table, of which each has a copy that is a while behind. No command moves one tenant: this is what one would have to do.
//!
//! Cast: *senders* post events until they are acknowledged, lose answers and send again what was acknowledged; *balancers* lead by their copies of the table; *shards*
//! record an event once each; the *operator* looks at a day's load and moves tenants off the busiest shard. Nothing here is a process or a clock: a step is a second, and a
//! seed repeats exactly.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Campaign, Found, Progress};
use crate::random::Random;

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "shards",
    summary: "tenants on shards by a table, simulated: days of uneven load, tenants that move, balancers that are behind",
    unit: "days",
    short: 30,
    full: 300,
    run: |asked, progress| run(asked, Move::Whole, progress),
};

/// How a tenant moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The old shard refuses its events, finishes its work and hands over its receipts; then the new one takes it on, and the old one refuses it for good.
    Whole,
    /// The new shard takes its events from now on, and the old one answers whoever still comes. Nothing is handed over: what docs/sizing.md says can be
    /// done today, and what must be seen to record effects twice.
    NewEventsOnly,
}

const SHARDS: usize = 7;
const TENANTS: usize = 200;
const BALANCERS: usize = 3;
/// Seconds of a day, and events of a second: as many as it takes to see the rule at work.
const DAY: u64 = 600;
const EVENTS: u64 = 20;
/// The operator moves tenants when the busiest shard had so much more than the mean, in percent.
const UNEVEN: u64 = 125;
const MOVES_MAX: usize = 3;
/// How far behind a balancer's table is at most, and how long the work of a tenant takes to finish, in seconds.
const BEHIND_MAX: u64 = 30;
const FINISHED_WITHIN: u64 = 20;
/// How long after its acknowledgement an event is sent again at most.
const AGAIN_WITHIN: u64 = 120;

/// A tenant's event, by the tenant and a number.
type Event = (usize, u64);

#[derive(Default)]
struct Shard {
    /// Whose events it takes.
    tenants: BTreeSet<usize>,
    receipts: BTreeSet<Event>,
}

/// A tenant that is on its way.
struct Moving {
    tenant: usize,
    to: usize,
    /// When the old shard has finished its work.
    finished_at: u64,
}

/// Leads by a copy of the table.
#[derive(Clone)]
struct Balancer {
    table: Vec<usize>,
    /// What it has not heard of: when it will, of which tenant, and on which shard that is.
    changes: Vec<(u64, usize, usize)>,
}

struct World {
    random: Random,
    now: u64,
    shards: Vec<Shard>,
    table: Vec<usize>,
    balancers: Vec<Balancer>,
    moving: Vec<Moving>,
    /// How large each tenant is, beside the others.
    sizes: Vec<u64>,
    made: u64,
    /// What is sent, by when; and since when it was tried.
    sends: BTreeMap<u64, Vec<(Event, u64)>>,
    /// On how many shards an event was recorded.
    recorded: BTreeMap<Event, u32>,
    acknowledged: BTreeSet<Event>,
    /// Of this day, by tenant.
    taken: Vec<u64>,
    refused: u64,
    longest: u64,
    moves: u64,
    /// The busiest shard beside the mean, day by day, in percent.
    evenness: Vec<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        // The largest has a thousand times what the smallest has.
        let sizes: Vec<u64> = (1..=TENANTS as u64).map(|rank| (20_000 / rank).max(20)).collect();
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
        let (mut table, mut loads) = (vec![0; TENANTS], [0; SHARDS]);
        for tenant in 0..TENANTS {
            let idlest = (0..SHARDS).min_by_key(|shard| loads[*shard]).unwrap_or(0);
            loads[idlest] += sizes[tenant];
            table[tenant] = idlest;
            shards[idlest].tenants.insert(tenant);
        }
        Self {
            random: Random(seed),
            now: 0,
            balancers: vec![
                Balancer {
                    table: table.clone(),
                    changes: Vec::new(),
                };
                BALANCERS
            ],
            shards,
            table,
            moving: Vec::new(),
            sizes,
            made: 0,
            sends: BTreeMap::new(),
            recorded: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            taken: vec![0; TENANTS],
            refused: 0,
            longest: 0,
            moves: 0,
            evenness: Vec::new(),
        }
    }

    fn step(&mut self, how: Move, makes_events: bool) {
        self.now += 1;
        for Balancer { table, changes } in &mut self.balancers {
            let now = self.now;
            changes.retain(|(at, tenant, shard)| {
                if *at <= now {
                    table[*tenant] = *shard;
                }
                *at > now
            });
        }
        let (finished, moving) = std::mem::take(&mut self.moving)
            .into_iter()
            .partition(|moving| moving.finished_at <= self.now);
        self.moving = moving;
        for moving in finished {
            self.take_on(&moving, how);
        }
        if makes_events {
            let all: u64 = self.sizes.iter().sum();
            for _ in 0..EVENTS {
                let mut at = self.random.below(all);
                let tenant = self.sizes.iter().position(|size| {
                    let found = at < *size;
                    at = at.saturating_sub(*size);
                    found
                });
                self.made += 1;
                let event = (tenant.unwrap_or(0), self.made);
                self.sends.entry(self.now).or_default().push((event, self.now));
            }
        }
        let due = self.sends.remove(&self.now).unwrap_or_default();
        for (event, since) in due {
            self.post(event, since);
        }
    }

    /// Posts an event by some balancer. What is not acknowledged comes again.
    fn post(&mut self, event: Event, since: u64) {
        let balancer = self.random.below(BALANCERS as u64) as usize;
        let shard = &mut self.shards[self.balancers[balancer].table[event.0]];
        if !shard.tenants.contains(&event.0) {
            self.refused += 1;
            return self.again(event, since, 10);
        }
        if shard.receipts.insert(event) {
            *self.recorded.entry(event).or_default() += 1;
            self.taken[event.0] += 1;
        }
        // One answer in twenty is lost.
        if self.random.below(20) == 0 {
            return self.again(event, since, 10);
        }
        self.longest = self.longest.max(self.now - since);
        if self.acknowledged.insert(event) && self.random.below(10) == 0 {
            self.again(event, self.now + AGAIN_WITHIN, AGAIN_WITHIN);
        }
    }

    fn again(&mut self, event: Event, since: u64, within: u64) {
        let at = self.now + 1 + self.random.below(within);
        self.sends.entry(at).or_default().push((event, since.min(at)));
    }

    /// Looks at a day, and moves tenants off the busiest shard.
    fn rebalance(&mut self, how: Move) {
        for moved in 0..=MOVES_MAX {
            let mut loads = [0; SHARDS];
            for (tenant, shard) in self.table.iter().enumerate() {
                loads[*shard] += self.taken[tenant];
            }
            let busiest = (0..SHARDS).max_by_key(|shard| loads[*shard]).unwrap_or(0);
            let idlest = (0..SHARDS).min_by_key(|shard| loads[*shard]).unwrap_or(0);
            let mean = (loads.iter().sum::<u64>() / SHARDS as u64).max(1);
            let uneven = loads[busiest] * 100 / mean;
            if moved == 0 {
                self.evenness.push(uneven);
            }
            if uneven <= UNEVEN || moved == MOVES_MAX {
                break;
            }
            let after = |tenant: usize| (loads[busiest] - self.taken[tenant]).max(loads[idlest] + self.taken[tenant]);
            let movable = (0..TENANTS).filter(|tenant| self.table[*tenant] == busiest);
            let Some(tenant) = movable.min_by_key(|tenant| after(*tenant)) else {
                break;
            };
            // One that is more than a shard's share is moved nowhere: it is to be divided.
            if after(tenant) >= loads[busiest] {
                break;
            }
            self.table[tenant] = idlest;
            self.moves += 1;
            self.begin(tenant, busiest, idlest, how);
        }
        self.taken = vec![0; TENANTS];
        for size in &mut self.sizes {
            *size = match self.random.below(20) {
                0 => *size * 2,
                1 => *size / 2,
                _ => *size,
            }
            .clamp(20, 20_000);
        }
    }

    fn begin(&mut self, tenant: usize, from: usize, to: usize, how: Move) {
        let finished_at = match how {
            Move::Whole => {
                self.shards[from].tenants.remove(&tenant);
                self.now + 1 + self.random.below(FINISHED_WITHIN)
            }
            Move::NewEventsOnly => self.now,
        };
        self.moving.push(Moving {
            tenant,
            to,
            finished_at,
        });
    }

    /// The new shard takes a tenant on, and the balancers hear of it, one after the other.
    fn take_on(&mut self, Moving { tenant, to, .. }: &Moving, how: Move) {
        if how == Move::Whole {
            let of_tenant = (*tenant, 0)..(*tenant + 1, 0);
            let receipts: Vec<Event> = self
                .shards
                .iter()
                .flat_map(|shard| shard.receipts.range(of_tenant.clone()).copied())
                .collect();
            self.shards[*to].receipts.extend(receipts);
        }
        self.shards[*to].tenants.insert(*tenant);
        for balancer in &mut self.balancers {
            let hears_at = self.now + 1 + self.random.below(BEHIND_MAX);
            balancer.changes.push((hears_at, *tenant, *to));
        }
    }
}

/// Runs a campaign.
pub fn run(asked: Asked, how: Move, progress: &mut Progress) -> Found {
    let mut world = World::new(asked.seed);
    for day in 1..=asked.count {
        for _ in 0..DAY {
            world.step(how, true);
        }
        world.rebalance(how);
        progress.step(day, asked.count, &format!("{} moves", world.moves));
    }
    while !world.sends.is_empty() || !world.moving.is_empty() {
        world.step(how, false);
    }
    let mut found = Found::default();
    let lost = world.made - world.acknowledged.len() as u64;
    let twice = world.recorded.values().filter(|times| **times > 1).count();
    let nowhere = world
        .acknowledged
        .iter()
        .filter(|event| !world.recorded.contains_key(*event))
        .count();
    for (count, what) in [
        (lost, "events were never acknowledged"),
        (nowhere as u64, "events were acknowledged and are on no shard"),
        (twice as u64, "events were recorded on two shards"),
    ] {
        if count > 0 {
            found.problems.push(format!("{count} {what}"));
        }
    }
    world.evenness.sort_unstable();
    let at = |share: usize| {
        world
            .evenness
            .get(world.evenness.len() * share / 100)
            .or(world.evenness.last())
            .copied()
            .unwrap_or(0)
    };
    found.fact(
        "shards / tenants / balancers",
        format!("{SHARDS} / {TENANTS} / {BALANCERS}"),
    );
    found.fact("events, each acknowledged and recorded once", world.made);
    found.fact("tenants moved", world.moves);
    found.fact("posts refused on the way, sent again", world.refused);
    found.fact("longest until an event was acknowledged, in s", world.longest);
    found.fact(
        "busiest shard ÷ mean, %: median / 95 % / most",
        format!("{} / {} / {}", at(50), at(95), at(100)),
    );
    found
}
