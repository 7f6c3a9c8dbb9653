//! One simulated life: steps drawn from the seed while there are faults, then none until all work is at its end, then the judgement.
//!
//! Workers take the steps of core's worker and make the calls that `host/server` makes, deliverers its calls in its order with the rules
//! of core; what lies between two calls there is a step of its own here, so that anything may happen in between.

mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tollgate_core::action::Verdict;
use tollgate_core::admission::{Admission, Disposition, Identity};
use tollgate_core::breaker::{Breaker, BreakerPolicy, Permission};
use tollgate_core::budget::Window;
use tollgate_core::delivery::{AttemptEnd, Recipient};
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::grant::Grant;
use tollgate_core::ids::{DestinationName, Digest, KeyId, Namespace, OutboxId, PluginName, RouteName};
use tollgate_core::lifecycle::{self, Lifecycle};
use tollgate_core::limits;
use tollgate_core::profile;
use tollgate_core::retry::{Jitter, Moment, RetryPolicy};
use tollgate_core::route::{RouteMatch, TypePattern};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::worker::{self, Deadlines, Next, Ran, Terms};
use tollgate_store::{
    BlockingReads as _, ClaimRequest, Control as _, DeadLetterFilter, Intake as _, JobClaim, Outbox as _, OutboxClaim,
    OutboxHold, Quotas, ReceiptKey as _, ReplayRequest, ReplayWhat, Settled, Settlement, SqliteStore, Targets, Trace,
    TraceBy, TraceQuery, Views as _, Work as _,
};

use self::owners::Owner;
use super::model::{End, Model, Operation, PULLED, Part, STATUSES, Work};
use super::place::{Place, Templates};
use super::plugin::{self, DEEDS, STATE_TOTAL_MAX};
use super::tally::{Met, Tally};
use crate::random::Random;

/// The clock of every life begins here.
const T0: i64 = 1_777_975_200_000;
const HOUR_MS: u64 = 3_600_000;
/// Lines of the journal that are shown with a problem.
const JOURNAL_SHOWN: usize = 30;
/// Rounds in which the work that is left must come to its end once nothing goes wrong any more.
const QUIET_ROUNDS_MAX: usize = 4_000;
/// As the server has it, but smaller: two workers must be able to reach it.
const STALE_RERUNS_MAX: u32 = 3;
const IN_FLIGHT_PER_DESTINATION: usize = 3;

const TENANTS: [&str; 2] = ["acme", "globex"];
/// Those that are sent to.
const DESTINATIONS: [&str; 2] = ["books", "mail"];
const ACCOUNTS: u64 = 2;

/// A simulated host and all that is around it.
pub(super) struct World {
    random: Random,
    now: i64,
    place: Place,
    /// Always there; taken only while it is opened again.
    store: Option<SqliteStore>,
    rules: Rules,
    workers: Vec<Worker>,
    deliverers: Vec<Deliverer>,
    owners: Vec<Owner>,
    moods: BTreeMap<&'static str, Mood>,
    /// The body of each outbox entry that arrived.
    arrived: BTreeMap<i64, Vec<u8>>,
    /// The youngest that arrived of each line at each destination.
    furthest: BTreeMap<(String, (String, String, String)), i64>,
    made: u64,
    model: Model,
    met: Tally,
    journal: Journal,
}

/// What does not change in a life.
struct Rules {
    worker: worker::Rules,
    deliveries: RetryPolicy,
    breaker: BreakerPolicy,
    grants: Vec<Grant>,
    ordered: BTreeSet<DestinationName>,
    routes: Vec<(RouteName, RouteMatch)>,
    lifecycle: Option<Arc<Lifecycle>>,
    plugin: PluginName,
    namespace: Namespace,
    signing: SourceSecret,
    subjects: u64,
    operations: u64,
}

/// One plugin thread's worth of a worker: what it has leased, and how far each is.
#[derive(Default)]
struct Worker {
    hands: Vec<Hand>,
}

struct Hand {
    claim: JobClaim,
    reruns: u32,
    /// What its last run is to change, with the writing of each key that it read.
    ran: Option<(Settlement, Vec<(String, u64)>)>,
}

#[derive(Default)]
struct Deliverer {
    flights: Vec<Flight>,
    lanes: BTreeMap<(String, String), (Breaker, usize)>,
}

struct Flight {
    claim: OutboxClaim,
    /// When it was sent, and how it ended.
    sent: Option<(i64, AttemptEnd)>,
}

/// How a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// Answers 500 to all.
    Failing,
    /// Nobody listens.
    Down,
    /// Takes everything in, and its answer never comes in time.
    Dying,
    /// Anything may happen.
    Moody,
}

/// What was done and answered, in words that do not depend on what a store draws at random.
#[derive(Default)]
struct Journal {
    lines: Vec<String>,
    digest: u64,
}

impl Journal {
    fn note(&mut self, line: String) {
        // FNV-1a: it only has to tell two lives apart.
        for byte in line.bytes().chain([b'\n']) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines.push(line);
    }

    fn last(&self) -> String {
        let from = self.lines.len().saturating_sub(JOURNAL_SHOWN);
        self.lines[from..].join("\n    ")
    }
}

impl World {
    /// Lives the life of a seed. Answers what it met, the digest of all that was done, and what was wrong.
    pub(super) async fn live(seed: u64, templates: &Templates) -> (Tally, u64, Option<String>) {
        let mut world = match Self::new(seed, templates) {
            Ok(world) => world,
            Err(error) => return (Tally::default(), 0, Some(format!("it could not begin: {error:#}"))),
        };
        let problem = world.life().await.err().map(|error| {
            let journal = world.journal.last();
            format!("{error:#}\n  the last steps:\n    {journal}")
        });
        (world.met, world.journal.digest, problem)
    }

    fn new(seed: u64, templates: &Templates) -> Result<Self> {
        let mut random = Random(seed);
        let place = Place::new(&mut random, templates)?;
        let rules = Rules::drawn(&mut random)?;
        let model = Model::new(STATE_TOTAL_MAX, rules.worker.retry, rules.deliveries);
        Ok(Self {
            now: T0,
            store: Some(place.open()?),
            place,
            workers: (0..2 + random.below(3)).map(|_| Worker::default()).collect(),
            deliverers: (0..1 + random.below(2)).map(|_| Deliverer::default()).collect(),
            owners: (0..1 + random.below(2)).map(|_| Owner::default()).collect(),
            moods: DESTINATIONS.map(|name| (name, Mood::Well)).into(),
            arrived: BTreeMap::new(),
            furthest: BTreeMap::new(),
            made: 0,
            model,
            met: Tally::default(),
            journal: Journal::default(),
            rules,
            random,
        })
    }

    async fn life(&mut self) -> Result<()> {
        let steps = 150 + self.random.below(150);
        for step in 0..steps {
            self.met.met(Met::Steps);
            self.now += self.random.below(200) as i64;
            self.step().await.with_context(|| format!("step {step}"))?;
        }
        self.come_to_rest().await.context("after the faults")?;
        // Everything once more: what was done must stay done once.
        if self.random.below(3) == 0 {
            self.replay_everything().await.context("at the replay of everything")?;
            self.come_to_rest().await.context("after the replay of everything")?;
        }
        self.judge().await.context("in the end")
    }

    fn store(&self) -> Result<&SqliteStore> {
        self.store.as_ref().context("there is no store")
    }

    async fn step(&mut self) -> Result<()> {
        match self.random.below(1000) {
            0..180 => self.admit().await,
            180..300 => self.claim_jobs().await,
            300..435 => self.run_one(),
            435..570 => self.settle_one().await,
            570..640 => self.claim_outbox().await,
            640..725 => self.send_one(),
            725..805 => self.mark_one().await,
            805..845 => self.pull_one().await,
            845..885 => self.end_some().await,
            885..890 => self.kill_owner(),
            890..910 => self.much_at_once().await,
            910..945 => self.let_time_pass(),
            945..955 => self.jump_clock(),
            955..965 => self.change_mood(),
            965..970 => self.kill_worker(),
            970..975 => self.kill_deliverer(),
            975..982 => self.restart().await,
            982..990 => self.replay().await,
            _ => self.compare().await,
        }
    }

    // Events.

    /// A new event, or one that came before: the same, or with another body.
    fn any_event(&mut self) -> Admission {
        let again = self.random.below(4) == 0 && !self.model.receipts.is_empty();
        if again {
            let at = self.random.below(self.model.receipts.len() as u64) as usize;
            let mut event = Event::clone(&self.model.receipts[at].event);
            event.received_at = UnixMillis(self.now);
            if self.random.below(4) == 0 {
                event.payload = format!("{{\"other\":{}}}", self.random.below(3)).into();
            }
            return self.admission(event);
        }
        self.made += 1;
        let random = &mut self.random;
        let tenant = TENANTS[random.below(2) as usize];
        let (subject, operation) = (
            random.below(self.rules.subjects + 1),
            random.below(self.rules.operations),
        );
        let reading = match random.below(3) {
            0 if subject > 0 => StatusReading::Mapped {
                family: name("reward-redemption"),
                status: name(STATUSES[random.below(4) as usize]),
            },
            _ => StatusReading::Stateless,
        };
        // Now and then an operation comes with other content than before.
        let amount = if random.below(15) == 0 { 700 } else { 500 };
        let attributes = [
            ("do", DEEDS[random.below(DEEDS.len() as u64) as usize].to_owned()),
            ("operation", format!("op_{operation}")),
            ("account", format!("account_{}", operation % ACCOUNTS)),
            ("amount", amount.to_string()),
        ];
        let payload = match random.below(20) {
            0 => format!("\"{}\"", "x".repeat(random.below(9_000) as usize)),
            _ => format!("{{\"made\":{}}}", self.made),
        };
        let event = Event {
            tenant: name(tenant),
            source: name("shop"),
            id: name(&format!("e{}", self.made)),
            event_type: name(["reward.redeemed", "order.paid"][random.below(2) as usize]),
            // Some have none, and wait for nobody.
            subject: (subject > 0).then(|| name(&format!("s{subject}"))),
            reading,
            occurred_at: None,
            received_at: UnixMillis(self.now),
            amount: None,
            attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
            payload: payload.into(),
        };
        self.admission(event)
    }

    fn admission(&self, event: Event) -> Admission {
        let key = self.store.as_ref().map(|store| store.receipt_key().clone());
        let lifecycle = event.reading.family().and(self.rules.lifecycle.clone());
        let proof = Proof {
            provider: name("generic-hmac"),
            profile_version: 1,
            scheme: "v1".to_owned(),
            key_id: name("shop-1"),
            signed_at: None,
        };
        let mut routes = self.rules.routes.iter().map(|(name, matches)| (name, matches));
        Admission::of(
            &key.expect("a store"),
            event,
            Identity::EventId,
            proof,
            lifecycle,
            &mut routes,
        )
    }

    async fn admit(&mut self) -> Result<()> {
        let events = if self.random.below(6) == 0 {
            2 + self.random.below(4)
        } else {
            1
        };
        let admissions: Vec<_> = (0..events).map(|_| self.any_event()).collect();
        let answers = self.store()?.admit(admissions.clone()).await?;
        self.journal.note(format!("{} admits {:?}", self.now, answers));
        for (admission, answer) in admissions.iter().zip(&answers) {
            self.model.admitted(admission, answer, &mut self.met)?;
        }
        Ok(())
    }

    // Workers.

    async fn claim_jobs(&mut self) -> Result<()> {
        let worker = self.random.below(self.workers.len() as u64) as usize;
        let rows_max = [1, 2, 5, 20][self.random.below(4) as usize];
        let passed_over = if self.random.below(8) == 0 {
            vec![name(TENANTS[self.random.below(2) as usize])]
        } else {
            Vec::new()
        };
        let request = ClaimRequest {
            passed_over,
            ..self.request(&format!("worker-{worker}"), limits::JOB_LEASE_MS, rows_max)
        };
        self.claim_jobs_for(worker, request).await.map(|_| ())
    }

    fn request(&self, who: &str, lease_ms: i64, rows_max: usize) -> ClaimRequest {
        ClaimRequest {
            worker: who.to_owned(),
            now: UnixMillis(self.now),
            lease_ms,
            rows_max,
            passed_over: Vec::new(),
        }
    }

    async fn claim_jobs_for(&mut self, worker: usize, request: ClaimRequest) -> Result<usize> {
        let claims = self.store()?.claim_jobs(request.clone()).await?;
        let said: Vec<_> = claims.iter().map(|claim| (claim.job, claim.epoch.0)).collect();
        self.journal
            .note(format!("{} {} claims {said:?}", self.now, request.worker));
        self.model.claimed(&request, &claims, &mut self.met)?;
        let claimed = claims.len();
        let hands = claims.into_iter().map(|claim| Hand {
            claim,
            reruns: 0,
            ran: None,
        });
        self.workers[worker].hands.extend(hands);
        Ok(claimed)
    }

    /// Where a job is in hand that has run, or has not; a random one.
    fn any_hand(&mut self, has_run: bool) -> Option<(usize, usize)> {
        let hands: Vec<_> = self
            .workers
            .iter()
            .enumerate()
            .flat_map(|(worker, all)| all.hands.iter().enumerate().map(move |(at, hand)| (worker, at, hand)))
            .filter(|(_, _, hand)| hand.ran.is_some() == has_run)
            .map(|(worker, at, _)| (worker, at))
            .collect();
        let at = self.random.below(hands.len() as u64) as usize;
        hands.get(at).copied()
    }

    fn run_one(&mut self) -> Result<()> {
        match self.any_hand(false) {
            Some((worker, at)) => self.run_hand(worker, at, true),
            None => Ok(()),
        }
    }

    /// From a claim to what is to be settled.
    fn run_hand(&mut self, worker: usize, at: usize, with_faults: bool) -> Result<()> {
        let claim = self.workers[worker].hands[at].claim.clone();
        let started_at = UnixMillis(self.now);
        let duration_us = self.random.below(if with_faults { 3_000_000 } else { 2_000 });
        self.now += (duration_us / 1000) as i64;
        let moment = self.moment();
        let targets = Targets {
            destinations: destinations_of(&claim.route),
            ordered: self.rules.ordered.clone(),
            ..Targets::default()
        };
        let (rules, terms) = (self.rules.worker, self.rules.terms(&targets));
        let mut seen = Vec::new();
        let settlement = match rules.unrun(&claim, &terms, moment) {
            Some(unrun) => {
                self.met.met(Met::AttemptsSpent);
                unrun
            }
            None => {
                let (store, model, tenant) = (self.store()?, &self.model, claim.event.tenant.as_str());
                let ran = plugin::run(&claim.event, |key| {
                    let found = store
                        .blocking()
                        .read_state(&claim.event.tenant, &self.rules.plugin, key)?;
                    let (writing, value) = model.read(tenant, key);
                    ensure!(
                        found.value.as_deref() == value,
                        "`{key}` of {tenant} is {:?}, not {value:?}",
                        found.value
                    );
                    seen.push((key.to_owned(), writing));
                    Ok(found)
                })?;
                let ran = if with_faults {
                    plugin::disturbed(ran, &mut self.random)
                } else {
                    ran
                };
                if ran.reads.is_empty() {
                    seen.clear();
                }
                let ran = Ran {
                    started_at,
                    duration_us,
                    ..ran
                };
                rules.judge(&claim, &terms, ran, moment).settlement
            }
        };
        self.journal.note(format!(
            "{} worker-{worker} runs {}: {}",
            self.now, claim.job, settlement.run.outcome
        ));
        self.workers[worker].hands[at].ran = Some((settlement, seen));
        Ok(())
    }

    fn moment(&mut self) -> Moment {
        Moment {
            now: UnixMillis(self.now),
            jitter: Jitter(self.random.below(1 << 32) as u32),
        }
    }

    async fn settle_one(&mut self) -> Result<()> {
        match self.any_hand(true) {
            Some((worker, at)) => self.settle_hand(worker, at).await,
            None => Ok(()),
        }
    }

    async fn settle_hand(&mut self, worker: usize, at: usize) -> Result<()> {
        let mut hand = self.workers[worker].hands.swap_remove(at);
        let Some((settlement, seen)) = hand.ran.take() else {
            bail!("a settlement before its run");
        };
        let answer = self.store()?.settle(settlement.clone()).await?;
        self.settled(worker, hand, settlement, &seen, answer)
    }

    fn settled(
        &mut self,
        worker: usize,
        mut hand: Hand,
        settlement: Settlement,
        seen: &[(String, u64)],
        answer: Settled,
    ) -> Result<()> {
        self.journal.note(format!(
            "{} worker-{worker} settles {} under {}: {answer:?}",
            self.now, settlement.job, settlement.epoch.0
        ));
        self.model.settled(&settlement, seen, &answer, &mut self.met)?;
        let (rules, moment) = (self.rules.worker, self.moment());
        match rules.after(&hand.claim, answer, hand.reruns, Some(settlement), moment) {
            Next::Settled { .. } | Next::Leave => return Ok(()),
            Next::Run => hand.reruns += 1,
            Next::Settle(void) => {
                let seen = if void.run.reads.is_empty() { &[] } else { seen };
                hand.ran = Some((*void, seen.to_vec()));
            }
        }
        self.workers[worker].hands.push(hand);
        Ok(())
    }

    /// Events come while runs settle, all waiting for one commit: in the order in which they asked.
    async fn much_at_once(&mut self) -> Result<()> {
        let store = self.store()?.clone();
        let admissions: Vec<_> = (0..1 + self.random.below(5)).map(|_| self.any_event()).collect();
        let admitting: Vec<_> = admissions
            .iter()
            .map(|admission| {
                let (store, admission) = (store.clone(), admission.clone());
                tokio::spawn(async move {
                    Ok::<_, tollgate_store::StoreError>(store.admit(vec![admission]).await?.remove(0))
                })
            })
            .collect();
        let mut settling = Vec::new();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let (ran, others) = std::mem::take(&mut worker.hands)
                .into_iter()
                .partition(|hand: &Hand| hand.ran.is_some());
            worker.hands = others;
            for mut hand in ran {
                if let Some((settlement, seen)) = hand.ran.take() {
                    let (store, asked) = (store.clone(), settlement.clone());
                    let answer = tokio::spawn(async move { store.settle(asked).await });
                    settling.push((number, hand, settlement, seen, answer));
                }
            }
        }
        for (admission, answer) in admissions.iter().zip(admitting) {
            let answer = answer.await??;
            self.journal
                .note(format!("{} admits {answer:?}, among others", self.now));
            self.model.admitted(admission, &answer, &mut self.met)?;
        }
        for (worker, hand, settlement, seen, answer) in settling {
            let answer = answer.await??;
            self.settled(worker, hand, settlement, &seen, answer)?;
        }
        Ok(())
    }

    fn kill_worker(&mut self) -> Result<()> {
        let worker = self.random.below(self.workers.len() as u64) as usize;
        self.met.met(Met::WorkerDeaths);
        self.journal.note(format!("{} worker-{worker} dies", self.now));
        self.workers[worker].hands.clear();
        Ok(())
    }

    // Deliverers and destinations.

    async fn claim_outbox(&mut self) -> Result<()> {
        let deliverer = self.random.below(self.deliverers.len() as u64) as usize;
        let rows_max = [1, 3, 20][self.random.below(3) as usize];
        self.claim_outbox_for(deliverer, rows_max).await.map(|_| ())
    }

    /// As a round of the server's delivery: leases what is due, and gives back what its lane does not let through.
    async fn claim_outbox_for(&mut self, deliverer: usize, rows_max: usize) -> Result<usize> {
        let request = self.request(&format!("delivery-{deliverer}"), limits::OUTBOX_LEASE_MS, rows_max);
        // What is pulled is its owner's to lease.
        let quotas = Quotas {
            of: TENANTS.map(|tenant| ((name(tenant), name(PULLED)), 0)).into(),
            ..Quotas::unlimited()
        };
        let claims = self.store()?.claim_outbox(request.clone(), quotas).await?.claims;
        let said: Vec<_> = claims.iter().map(|claim| (claim.entry, claim.epoch.0)).collect();
        self.journal
            .note(format!("{} {} claims {said:?}", self.now, request.worker));
        self.model.claimed_outbox(&request, &claims)?;
        let claimed = claims.len();
        let now = UnixMillis(self.now);
        let mut held = Vec::new();
        let mut until = now.plus_ms(50);
        let Deliverer { flights, lanes } = &mut self.deliverers[deliverer];
        for claim in claims {
            let lane = (claim.tenant.to_string(), claim.destination.to_string());
            let (breaker, in_flight) = lanes.entry(lane).or_default();
            let permission = if *in_flight < IN_FLIGHT_PER_DESTINATION {
                breaker.permit(&self.rules.breaker, now)
            } else {
                Permission::WaitUntil(now)
            };
            match permission {
                Permission::Send => {
                    *in_flight += 1;
                    flights.push(Flight { claim, sent: None });
                }
                Permission::WaitUntil(at) => {
                    until = until.max(at);
                    held.push(OutboxHold {
                        entry: claim.entry,
                        epoch: claim.epoch,
                    });
                }
            }
        }
        if !held.is_empty() {
            self.store()?.release_outbox(held.clone(), until).await?;
            self.model.released(&held, until.0, &mut self.met)?;
        }
        Ok(claimed)
    }

    fn any_flight(&mut self, is_sent: bool) -> Option<(usize, usize)> {
        let flights: Vec<_> = self
            .deliverers
            .iter()
            .enumerate()
            .flat_map(|(deliverer, all)| {
                let flights = all.flights.iter().enumerate();
                flights.map(move |(at, flight)| (deliverer, at, flight))
            })
            .filter(|(_, _, flight)| flight.sent.is_some() == is_sent)
            .map(|(deliverer, at, _)| (deliverer, at))
            .collect();
        let at = self.random.below(flights.len() as u64) as usize;
        flights.get(at).copied()
    }

    fn send_one(&mut self) -> Result<()> {
        match self.any_flight(false) {
            Some((deliverer, at)) => self.send_flight(deliverer, at),
            None => Ok(()),
        }
    }

    /// The destination gets the message, or does not, and its answer comes back, or does not.
    fn send_flight(&mut self, deliverer: usize, at: usize) -> Result<()> {
        let claim = self.deliverers[deliverer].flights[at].claim.clone();
        let body = self.composed(&claim)?;
        let mood = self
            .moods
            .get(claim.destination.as_str())
            .copied()
            .unwrap_or(Mood::Well);
        let (arrives, end) = mood.answer(&mut self.random);
        self.met.met(Met::Attempts);
        if arrives {
            self.arrives(claim.entry, body)?;
        }
        self.journal.note(format!(
            "{} delivery-{deliverer} sends {}: {end:?}",
            self.now, claim.entry
        ));
        self.deliverers[deliverer].flights[at].sent = Some((self.now, end));
        Ok(())
    }

    /// The message of an entry, as the server composes it.
    fn composed(&self, claim: &OutboxClaim) -> Result<Vec<u8>> {
        let recipient = Recipient {
            scheme: profile::standard_webhooks(),
            secrets: std::slice::from_ref(&self.rules.signing),
            headers: &[],
            user_agent: "simulation",
        };
        let now = UnixMillis(self.now);
        let composed = claim
            .compose(None, &recipient, now, now)
            .map_err(|end| anyhow!("{} cannot be composed: {end:?}", claim.entry))?;
        Ok(composed.body)
    }

    /// A destination has a message, for the first time or again. Of one line none comes for the first time behind a younger one, unless it
    /// was given up before.
    fn arrives(&mut self, entry: OutboxId, body: Vec<u8>) -> Result<()> {
        if let Some(before) = self.arrived.get(&entry.0) {
            self.met.met(Met::SentAgain);
            ensure!(*before == body, "{entry} was sent again with other bytes");
            return Ok(());
        }
        self.arrived.insert(entry.0, body);
        let known = usize::try_from(entry.0 - 1)
            .ok()
            .and_then(|at| self.model.entries.get(at));
        let Some((known, line)) = known.and_then(|known| Some((known, known.line.clone()?))) else {
            return Ok(());
        };
        let furthest = self.furthest.entry((known.destination.clone(), line)).or_default();
        ensure!(
            known.was_dead || *furthest < entry.0,
            "{entry} came behind {furthest} of its line: {known:?}"
        );
        *furthest = entry.0.max(*furthest);
        Ok(())
    }

    async fn mark_one(&mut self) -> Result<()> {
        match self.any_flight(true) {
            Some((deliverer, at)) => self.mark_flight(deliverer, at).await,
            None => Ok(()),
        }
    }

    async fn mark_flight(&mut self, deliverer: usize, at: usize) -> Result<()> {
        let moment = self.moment();
        let of = &mut self.deliverers[deliverer];
        let Flight { claim, sent } = of.flights.swap_remove(at);
        let (started_at, end) = sent.context("a mark before its attempt")?;
        let lane = (claim.tenant.to_string(), claim.destination.to_string());
        if let Some((breaker, in_flight)) = of.lanes.get_mut(&lane) {
            *in_flight -= 1;
            breaker.finished(&self.rules.breaker, end.is_healthy(), moment.now);
        }
        // By a clock that nobody sets.
        let took = (UnixMillis(started_at), 5_000);
        let mark = claim.attempted(took, end, String::new(), &self.rules.deliveries, moment);
        let answer = self.store()?.record_attempt(mark.clone()).await?;
        self.journal.note(format!(
            "{} delivery-{deliverer} marks {} under {}: {answer:?}, {:?}",
            self.now, mark.entry, mark.epoch.0, mark.entry_end
        ));
        self.model.marked(&mark, answer, &mut self.met)
    }

    fn kill_deliverer(&mut self) -> Result<()> {
        let deliverer = self.random.below(self.deliverers.len() as u64) as usize;
        self.met.met(Met::DelivererDeaths);
        self.journal.note(format!("{} delivery-{deliverer} dies", self.now));
        self.deliverers[deliverer] = Deliverer::default();
        Ok(())
    }

    fn change_mood(&mut self) -> Result<()> {
        let moods = [Mood::Well, Mood::Failing, Mood::Down, Mood::Dying, Mood::Moody];
        let mood = moods[self.random.below(5) as usize];
        let name = DESTINATIONS[self.random.below(2) as usize];
        self.journal.note(format!("{} {name} is {mood:?}", self.now));
        self.moods.insert(name, mood);
        Ok(())
    }

    // Time, power, people.

    fn let_time_pass(&mut self) -> Result<()> {
        let pulled_ms = limits::PULL_LEASE_S_MIN as i64 * 1_000;
        let leases = [limits::JOB_LEASE_MS, limits::OUTBOX_LEASE_MS, pulled_ms];
        let lease = leases[self.random.below(3) as usize];
        self.now += [1_000, lease / 2, lease - 1, lease, 2 * lease][self.random.below(5) as usize];
        Ok(())
    }

    fn jump_clock(&mut self) -> Result<()> {
        let by = self.random.below(HOUR_MS + 1) as i64;
        let forward = self.random.below(2) == 0;
        self.met.met(if forward { Met::ClockForward } else { Met::ClockBack });
        self.now += if forward { by } else { -by };
        self.journal.note(format!("the clock jumps to {}", self.now));
        Ok(())
    }

    /// The process ends, in good order or not, and with it all that workers and deliverers held.
    async fn restart(&mut self) -> Result<()> {
        self.workers.iter_mut().for_each(|worker| worker.hands.clear());
        self.deliverers
            .iter_mut()
            .for_each(|deliverer| *deliverer = Deliverer::default());
        let store = self.store.take().context("there is no store")?;
        let crash = self.random.below(3) > 0;
        self.store = Some(if crash {
            self.met.met(Met::Crashes);
            self.place.crash(store).await?
        } else {
            self.met.met(Met::Restarts);
            self.place.restart(store).await?
        });
        self.journal.note(format!("{} restart, crash: {crash}", self.now));
        self.model.reopened();
        self.compare().await
    }

    async fn replay(&mut self) -> Result<()> {
        let what = if self.random.below(2) == 0 || self.model.receipts.is_empty() {
            ReplayWhat::DeadLetters(DeadLetterFilter {
                tenant: (self.random.below(2) == 0).then(|| name(TENANTS[0])),
                rows_max: [1, 10][self.random.below(2) as usize],
                ..DeadLetterFilter::default()
            })
        } else {
            let at = self.random.below(self.model.receipts.len() as u64) as usize;
            ReplayWhat::Receipt {
                receipt: self.model.receipts[at].id,
                jobs: Vec::new(),
            }
        };
        self.replay_what(what).await
    }

    async fn replay_what(&mut self, what: ReplayWhat) -> Result<()> {
        let request = ReplayRequest {
            what: what.clone(),
            dry_run: false,
            routes: Vec::new(),
            now: UnixMillis(self.now),
            actor: "ann".to_owned(),
            why: None,
        };
        let report = self.store()?.replay(request).await?;
        let said: Vec<_> = report.replayed.iter().map(|replayed| &replayed.work).collect();
        self.journal.note(format!("{} replays {said:?}", self.now));
        self.model.replayed(&what, &report, self.now, &mut self.met)
    }

    async fn replay_everything(&mut self) -> Result<()> {
        let receipts: Vec<_> = self.model.receipts.iter().map(|receipt| receipt.id).collect();
        for receipt in receipts {
            let jobs = Vec::new();
            self.replay_what(ReplayWhat::Receipt { receipt, jobs }).await?;
        }
        self.replay_what(ReplayWhat::DeadLetters(DeadLetterFilter {
            rows_max: usize::MAX,
            ..DeadLetterFilter::default()
        }))
        .await
    }

    async fn compare(&mut self) -> Result<()> {
        let (counts, expected) = (self.store()?.counts().await?, self.model.counts());
        ensure!(counts == expected, "counts are {counts:?}, not {expected:?}");
        self.model.next_due(self.store()?.next_due().await?)
    }

    // The end.

    /// Nothing goes wrong any more: who still holds something settles it, late or not, and then one worker and one deliverer do
    /// what is due until nothing waits.
    async fn come_to_rest(&mut self) -> Result<()> {
        self.moods.values_mut().for_each(|mood| *mood = Mood::Well);
        for _ in 0..QUIET_ROUNDS_MAX {
            let mut worked = 0;
            while let Some((worker, at)) = self.any_hand(false) {
                self.run_hand(worker, at, false)?;
            }
            while let Some((worker, at)) = self.any_hand(true) {
                self.settle_hand(worker, at).await?;
                worked += 1;
            }
            while let Some((deliverer, at)) = self.any_flight(false) {
                self.send_flight(deliverer, at)?;
            }
            while let Some((deliverer, at)) = self.any_flight(true) {
                self.mark_flight(deliverer, at).await?;
                worked += 1;
            }
            let request = self.request("worker-0", limits::JOB_LEASE_MS, 64);
            worked += self.claim_jobs_for(0, request).await?;
            worked += self.claim_outbox_for(0, 64).await?;
            worked += self.pull_the_rest().await?;
            if worked > 0 {
                continue;
            }
            let due = self.store()?.next_due().await?;
            self.model.next_due(due)?;
            match due.job.into_iter().chain(due.outbox).min() {
                None => return self.compare().await,
                // Asked again a moment later, as those who nap do.
                Some(at) => self.now = at.0.max(self.now + 1),
            }
        }
        bail!(
            "work is left after {QUIET_ROUNDS_MAX} rounds without a fault: {:?}",
            self.model.counts()
        )
    }

    /// Holds what the store tells of everything against what must be there.
    async fn judge(&mut self) -> Result<()> {
        self.compare().await?;
        let problems = self.store()?.problems()?;
        ensure!(problems.is_empty(), "integrity: {problems:?}");
        let everything = TraceQuery {
            by: TraceBy::Newest,
            tenant: None,
            after: None,
            receipts_max: usize::MAX,
        };
        let mut traces = self.store()?.trace(everything).await?;
        traces.sort_by_key(|trace| trace.receipt.seq);
        ensure!(
            traces.len() == self.model.receipts.len(),
            "{} receipts, not {}",
            traces.len(),
            self.model.receipts.len()
        );
        let mut recorded: BTreeMap<Operation, u32> = BTreeMap::new();
        let mut credited = BTreeMap::new();
        for (at, trace) in traces.iter().enumerate() {
            self.judge_receipt(at, trace, &mut recorded)
                .with_context(|| trace.receipt.event_id.clone())?;
            credits(trace, &mut credited)?;
        }
        for ((_, _, budget, _, _), (sum, most)) in &credited {
            ensure!(
                sum <= most,
                "a budget of {budget} was overspent: {sum} of {most} in {credited:?}"
            );
        }
        for operation in self.model.ledger.keys() {
            let times = recorded.get(operation).copied().unwrap_or(0);
            ensure!(times == 1, "{operation:?} is recorded {times} times");
        }
        for (at, entry) in self.model.entries.iter().enumerate() {
            let arrived = self.arrived.contains_key(&(at as i64 + 1));
            ensure!(
                arrived || entry.work != Work::Ended(End::Done),
                "{entry:?} is delivered and never arrived"
            );
        }
        Ok(())
    }

    fn judge_receipt(&self, at: usize, trace: &Trace, recorded: &mut BTreeMap<Operation, u32>) -> Result<()> {
        let receipt = &self.model.receipts[at];
        let view = &trace.receipt;
        ensure!(
            view.id == receipt.id
                && view.event_id == receipt.event.id.as_str()
                && view.disposition == receipt.disposition
                && view.body_digest == Digest::of(&receipt.event.payload)
                && trace
                    .redelivered
                    .as_ref()
                    .map_or(0, |again| again.same + again.conflicts)
                    == u64::from(receipt.redeliveries),
            "the receipt is {view:?} with {:?}, and was {receipt:?}",
            trace.redelivered
        );
        let jobs: Vec<_> = self.model.jobs.iter().filter(|job| job.receipt == at).collect();
        ensure!(trace.jobs.len() == jobs.len(), "{} jobs", trace.jobs.len());
        ensure!(
            jobs.is_empty() || receipt.disposition == Disposition::Accepted,
            "jobs of what was not accepted"
        );
        for view in &trace.jobs {
            let job = jobs
                .iter()
                .find(|job| job.route == view.route.as_str())
                .context("no such job")?;
            let (state, needs_reason) = match job.work {
                Work::Ended(End::Done) => ("done", false),
                Work::Ended(End::Held) => ("held", true),
                Work::Ended(End::Dead) => ("dead", true),
                Work::Waiting { .. } | Work::Leased { .. } => ("at its end", false),
            };
            let has_reason = view.reason.as_ref().is_some_and(|reason| !reason.is_empty());
            ensure!(
                view.state == state && (has_reason || !needs_reason),
                "{} is {}, not {state}: {:?}",
                view.id,
                view.state,
                view.reason
            );
            ensure!(
                view.runs.len() == job.runs,
                "{} has {} runs, not {}",
                view.id,
                view.runs.len(),
                job.runs
            );
            let actions = view.runs.iter().flat_map(|run| &run.actions);
            for action in actions.filter(|action| action.verdict == Verdict::Recorded) {
                let operation = (
                    receipt.event.tenant.to_string(),
                    action.action.kind().to_string(),
                    action.operation_key.clone(),
                );
                ensure!(
                    self.model.ledger.get(&operation) == Some(&action.action.to_json()),
                    "{operation:?} is recorded with other content"
                );
                for entry in &action.deliveries {
                    self.judge_entry(&operation, entry)?;
                }
                *recorded.entry(operation).or_default() += 1;
            }
        }
        Ok(())
    }

    fn judge_entry(&self, operation: &Operation, view: &tollgate_store::OutboxView) -> Result<()> {
        let entry = self
            .model
            .entries
            .iter()
            .find(|entry| entry.operation == *operation && entry.destination == view.destination.as_str())
            .context("an outbox entry of nothing")?;
        let state = match entry.work {
            Work::Ended(End::Dead) => "dead",
            Work::Ended(_) => "delivered",
            Work::Waiting { .. } | Work::Leased { .. } => "at its end",
        };
        ensure!(
            view.state == state && view.attempts.len() == entry.attempts_kept,
            "{} is {} after {} attempts, not {entry:?}",
            view.id,
            view.state,
            view.attempts.len()
        );
        Ok(())
    }
}

/// Adds up what was credited, for each part of each budget, with the most that it may be.
fn credits(trace: &Trace, credited: &mut BTreeMap<Part, (i64, i64)>) -> Result<()> {
    for job in &trace.jobs {
        for run in &job.runs {
            let started_at = UnixMillis::from_rfc3339(&run.started_at).context("a run began at no instant")?;
            let ended_at = started_at.plus_ms((run.duration_us / 1000) as i64);
            let recorded = run.actions.iter().filter(|action| action.verdict == Verdict::Recorded);
            for action in recorded {
                let (Some(amount), Some(account)) = (action.action.amount(), action.action.account()) else {
                    continue;
                };
                let mut add = |budget: &str, account: &str, window: Window, number: i64, most: i64| {
                    let part = (
                        trace.receipt.tenant.to_string(),
                        job.route.to_string(),
                        budget.to_owned(),
                        account.to_owned(),
                        window.ends_at(ended_at),
                    );
                    credited.entry(part).or_insert((0, most)).0 += number;
                };
                add(
                    "money an hour",
                    "",
                    Window::Hour,
                    amount.minor_units(),
                    plugin::HOUR_MAX,
                );
                add(
                    "credits a day for each account",
                    account,
                    Window::Day,
                    1,
                    plugin::OF_ACCOUNT_MAX.into(),
                );
            }
        }
    }
    Ok(())
}

impl Rules {
    fn drawn(random: &mut Random) -> Result<Self> {
        let redeemed = TypePattern::new("reward.*").map_err(anyhow::Error::msg)?;
        Ok(Self {
            worker: worker::Rules {
                host: "simulated",
                runtime: "simulated",
                retry: RetryPolicy {
                    attempts_max: 2 + random.below(5) as u32,
                    base_ms: 500,
                    cap_ms: 60_000,
                },
                deadlines: Deadlines::Stop,
                stale_reruns_max: STALE_RERUNS_MAX,
            },
            deliveries: RetryPolicy {
                attempts_max: 2 + random.below(6) as u32,
                base_ms: 1_000,
                cap_ms: 600_000,
            },
            breaker: BreakerPolicy {
                failures_max: 1 + random.below(4) as u32,
                ..BreakerPolicy::DELIVERIES
            },
            grants: plugin::grants(),
            ordered: [DESTINATIONS[0]]
                .into_iter()
                .chain((random.below(2) == 0).then_some(PULLED))
                .map(name)
                .collect(),
            routes: vec![
                (
                    name("rewards"),
                    RouteMatch {
                        types: vec![redeemed],
                        ..RouteMatch::default()
                    },
                ),
                (name("all"), RouteMatch::default()),
            ],
            lifecycle: lifecycle::shipped().remove("reward-redemption"),
            plugin: name("deeds"),
            namespace: name("deeds"),
            // Few subjects make long lanes, few operations make many repeats.
            signing: SourceSecret {
                id: KeyId::new("simulated")?,
                text: Secret::new("whsec_c2ltdWxhdGVkLXNpbXVsYXRlZC1zaW11bGF0ZWQ="),
                not_before: None,
                not_after: None,
            },
            subjects: 1 + random.below(5),
            operations: 2 + random.below(20),
        })
    }

    /// What each route says to its jobs.
    fn terms<'t>(&'t self, targets: &'t Targets) -> Terms<'t> {
        Terms {
            plugin: &self.plugin,
            forward: None,
            config_json: "",
            config_digest: Digest::of(b""),
            grants: &self.grants,
            namespace: &self.namespace,
            state_total_max: Some(STATE_TOTAL_MAX),
            targets,
        }
    }
}

/// One route leaves its actions in the ledger.
fn destinations_of(route: &RouteName) -> Vec<DestinationName> {
    match route.as_str() {
        "rewards" => DESTINATIONS.into_iter().chain([PULLED]).map(name).collect(),
        _ => Vec::new(),
    }
}

impl Mood {
    /// Whether the message arrives, and what comes back.
    fn answer(self, random: &mut Random) -> (bool, AttemptEnd) {
        let answered = |http_status, retry_after_ms| AttemptEnd::Answered {
            http_status,
            retry_after_ms,
        };
        let failed = |reason: &str| AttemptEnd::Failed {
            reason: reason.to_owned(),
        };
        match self {
            Self::Well => (true, answered(204, None)),
            Self::Failing => (true, answered(500, None)),
            Self::Down => (false, failed("connection refused")),
            Self::Dying => (true, failed("timed out")),
            Self::Moody => match random.below(8) {
                0 => (true, answered(429, Some(30_000))),
                1 => (true, answered(503, Some(i64::MAX))),
                2 => (true, answered(302, None)),
                3 => (true, answered(410, None)),
                4 => (false, failed("reset")),
                5 => (true, failed("reset after the request")),
                _ => (true, answered(200, None)),
            },
        }
    }
}

/// A name that is one.
fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}
