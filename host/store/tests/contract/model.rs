//! Properties: random orders of work, held against models that are too simple to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollgate_core::admission::Disposition;
use tollgate_core::ids::LeaseEpoch;
use tollgate_core::outcome::JobEnd;
use tollgate_core::review::Reviewed;
use tollgate_store::{
    Admitted, Control as _, Intake as _, ReplayRequest, ReplayWhat, ReviewAnswer, Settled, StoreError, Views as _,
    Work as _,
};

use crate::sqlite::Sqlite;
use crate::support::{Backend as _, LEASE_MS, Sent, SettlementExt as _, at, claim, dismiss, map, name, settlement};

fn runtime() -> tokio::runtime::Runtime {
    // One thread: spawned tasks reach the store in the order in which they were spawned.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

// Admission.

const STATUSES: [&str; 4] = ["created", "pending", "completed", "rolledback"];

#[derive(Debug, Clone)]
struct AnyEvent {
    id: u8,
    body: u8,
    subject: u8,
    status: Option<usize>,
}

impl AnyEvent {
    fn sent(&self) -> Sent {
        let sent = Sent::new(&format!("e{}", self.id))
            .of(&format!("r_{}", self.subject))
            .body(&format!("body {}", self.body));
        match self.status {
            Some(status) => sent.status(STATUSES[status]),
            None => sent,
        }
    }
}

fn any_event() -> impl Strategy<Value = AnyEvent> {
    (
        0_u8..12,
        0_u8..2,
        0_u8..3,
        prop::option::weighted(0.8, 0..STATUSES.len()),
    )
        .prop_map(|(id, body, subject, status)| AnyEvent {
            id,
            body,
            subject,
            status,
        })
}

#[derive(Default)]
struct AdmissionModel {
    /// The body and the deliveries so far of each event id.
    receipts: BTreeMap<u8, (u8, u32)>,
    /// The status of each subject.
    subjects: BTreeMap<u8, usize>,
}

impl AdmissionModel {
    fn admit(&mut self, event: &AnyEvent) -> Admitted {
        if let Some((body, deliveries)) = self.receipts.get_mut(&event.id) {
            *deliveries += 1;
            let delivery = *deliveries;
            return if *body == event.body {
                Admitted::Same { delivery }
            } else {
                Admitted::Conflict { delivery }
            };
        }
        self.receipts.insert(event.id, (event.body, 1));
        let Some(status) = event.status else {
            return Admitted::New(Disposition::Accepted);
        };
        let current = self.subjects.get(&event.subject).copied();
        Admitted::New(match current {
            // The two ends exclude each other; otherwise the order of the list is the order of life.
            Some(current) if current >= 2 && status >= 2 && current != status => Disposition::Held {
                reason: format!(
                    "`{}` can neither follow nor precede `{}` in the lifecycle `reward-redemption`",
                    STATUSES[status], STATUSES[current]
                ),
            },
            Some(current) if status < current => Disposition::Superseded {
                current: name(STATUSES[current]),
            },
            _ => {
                self.subjects.insert(event.subject, status);
                Disposition::Accepted
            }
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Events are sent in bursts, so that new, same and conflict meet inside one commit.
    #[test]
    fn any_interleaving_is_decided_like_the_model(bursts in prop::collection::vec(prop::collection::vec(any_event(), 1..12), 1..8)) {
        runtime().block_on(async {
            let place = Sqlite::of_log_without_memory().quick();
            let store = place.open();
            let mut model = AdmissionModel::default();
            for burst in &bursts {
                let answers: Vec<_> = burst
                    .iter()
                    .map(|event| {
                        let (store, admission) = (store.clone(), event.sent().admission(&store));
                        tokio::spawn(async move { store.admit(vec![admission]).await.unwrap().remove(0) })
                    })
                    .collect();
                for (event, answer) in burst.iter().zip(answers) {
                    assert_eq!(answer.await.unwrap(), model.admit(event), "{event:?}");
                }
            }
            let counts = store.counts().await.unwrap();
            assert_eq!(counts.receipts, model.receipts.len() as u64);
            let deliveries: u32 = model.receipts.values().map(|(_, deliveries)| deliveries - 1).sum();
            assert_eq!(counts.redeliveries + counts.conflicts, u64::from(deliveries));
            assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
        });
    }
}

// Review.

#[derive(Debug, Clone)]
enum ReviewStep {
    /// With a status that nobody mapped.
    Hold(AnyEvent),
    Admit(AnyEvent),
    /// An event by its number, and the status that it is given; `None` dismisses it.
    Review {
        id: u8,
        status: Option<usize>,
    },
}

fn any_review_step() -> impl Strategy<Value = ReviewStep> {
    prop_oneof![
        any_event().prop_map(ReviewStep::Hold),
        any_event().prop_map(ReviewStep::Admit),
        (0_u8..12, prop::option::weighted(0.8, 0..STATUSES.len()))
            .prop_map(|(id, status)| ReviewStep::Review { id, status }),
    ]
}

/// What a review may come to, without its details.
#[derive(Debug, PartialEq, Eq)]
enum ReviewEnd {
    Nowhere,
    NotHeld,
    Already,
    Unmappable,
    Done(Reviewed),
}

#[derive(Default)]
struct ReviewModel {
    admissions: AdmissionModel,
    /// The subject of each held event; `None` once it is reviewed.
    held: BTreeMap<u8, Option<u8>>,
    jobs: u64,
}

impl ReviewModel {
    fn admit(&mut self, event: &AnyEvent) {
        let is_new = !self.admissions.receipts.contains_key(&event.id);
        match self.admissions.admit(event) {
            Admitted::New(Disposition::Accepted) => self.jobs += 1,
            Admitted::New(Disposition::Held { .. }) if is_new => {
                self.held.insert(event.id, Some(event.subject));
            }
            _ => {}
        }
    }

    fn hold(&mut self, event: &AnyEvent) {
        match self.admissions.receipts.get_mut(&event.id) {
            Some((_, deliveries)) => *deliveries += 1,
            None => {
                self.admissions.receipts.insert(event.id, (event.body, 1));
                self.held.insert(event.id, Some(event.subject));
            }
        }
    }

    fn review(&mut self, id: u8, status: Option<usize>) -> ReviewEnd {
        if !self.admissions.receipts.contains_key(&id) {
            return ReviewEnd::Nowhere;
        }
        let subject = match self.held.get(&id) {
            None => return ReviewEnd::NotHeld,
            Some(None) => return ReviewEnd::Already,
            Some(Some(subject)) => *subject,
        };
        let Some(status) = status else {
            self.held.insert(id, None);
            return ReviewEnd::Done(Reviewed::Dismissed);
        };
        let current = self.admissions.subjects.get(&subject).copied();
        match current {
            Some(current) if current >= 2 && status >= 2 && current != status => return ReviewEnd::Unmappable,
            _ => {}
        }
        self.held.insert(id, None);
        let name_of = |status: usize| name(STATUSES[status]);
        ReviewEnd::Done(match current {
            Some(current) if status < current => Reviewed::Superseded {
                status: name_of(status),
                current: name_of(current),
            },
            _ => {
                self.admissions.subjects.insert(subject, status);
                self.jobs += 1;
                Reviewed::Accepted {
                    status: name_of(status),
                }
            }
        })
    }
}

async fn run_reviews(steps: &[ReviewStep]) {
    let place = Sqlite::of_log_without_memory().quick();
    let store = place.open();
    let mut model = ReviewModel::default();
    let mut subjects = BTreeMap::new();
    for step in steps {
        match step {
            ReviewStep::Admit(event) => {
                let _ = event.sent().admit(&store).await;
                model.admit(event);
                subjects.entry(event.id).or_insert_with(|| event.clone());
            }
            ReviewStep::Hold(event) => {
                let sent = event.sent().unmapped();
                let _ = sent.admit(&store).await;
                model.hold(event);
                subjects.entry(event.id).or_insert_with(|| event.clone());
            }
            ReviewStep::Review { id, status } => {
                let sent = match subjects.get(id) {
                    Some(event) => event.sent(),
                    None => Sent::new(&format!("e{id}")),
                };
                let request = match status {
                    Some(status) => map(&store, &sent, STATUSES[*status], 0),
                    None => dismiss(&store, &sent, 0),
                };
                let end = match store.review(request).await {
                    Ok(ReviewAnswer::Reviewed(report)) => ReviewEnd::Done(report.reviewed),
                    Ok(ReviewAnswer::NotHeld | ReviewAnswer::NotItsDelivery) => ReviewEnd::NotHeld,
                    Ok(ReviewAnswer::AlreadyReviewed(_)) => ReviewEnd::Already,
                    Ok(ReviewAnswer::KeyTaken(action)) => panic!("{action} was not asked about"),
                    Ok(ReviewAnswer::Unmappable(_)) => ReviewEnd::Unmappable,
                    Err(error) => {
                        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
                        ReviewEnd::Nowhere
                    }
                };
                assert_eq!(end, model.review(*id, *status), "{step:?}");
            }
        }
    }
    let counts = store.counts().await.unwrap();
    let open = model.held.values().flatten().count() as u64;
    assert_eq!((counts.held, counts.jobs_waiting), (open, model.jobs));
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reviews_follow_the_model(steps in prop::collection::vec(any_review_step(), 1..50)) {
        runtime().block_on(run_reviews(&steps));
    }
}

// Lanes and leases.

#[derive(Debug, Clone)]
enum Step {
    Admit {
        lane: u8,
    },
    Claim {
        rows_max: usize,
    },
    /// Ends the n-th of the claims that were ever given, whether it still holds its lease or not.
    Settle {
        claim: prop::sample::Index,
        end: u8,
    },
    Wait {
        ms: i64,
    },
    Replay {
        receipt: prop::sample::Index,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..3).prop_map(|lane| Step::Admit { lane }),
        4 => prop_oneof![Just(1_usize), Just(2), Just(100)].prop_map(|rows_max| Step::Claim { rows_max }),
        6 => (any::<prop::sample::Index>(), 0_u8..6).prop_map(|(claim, end)| Step::Settle { claim, end }),
        2 => prop_oneof![Just(1_i64), Just(LEASE_MS / 2), Just(LEASE_MS)].prop_map(|ms| Step::Wait { ms }),
        2 => any::<prop::sample::Index>().prop_map(|receipt| Step::Replay { receipt }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum JobState {
    Ready { due: i64 },
    Leased { until: i64 },
    Ended,
}

#[derive(Debug, Clone)]
struct ModelJob {
    lane: u8,
    state: JobState,
    epoch: i64,
}

/// The rules of lanes as they are said, looking at every job each time. Jobs stand in the order of their receipts.
#[derive(Default)]
struct LaneModel {
    jobs: Vec<ModelJob>,
}

impl LaneModel {
    /// When the job may be claimed; `None` if it may not, whatever the time.
    fn claimable_from(&self, at: usize, now: i64) -> Option<i64> {
        let job = &self.jobs[at];
        let free_from = match job.state {
            JobState::Ready { due } => due,
            JobState::Leased { until } => until,
            JobState::Ended => return None,
        };
        let of_lane = |other: &ModelJob| other.lane == job.lane;
        let an_older_is_unfinished = self.jobs[..at]
            .iter()
            .any(|older| of_lane(older) && older.state != JobState::Ended);
        let another_runs = self.jobs.iter().enumerate().any(|(other, running)| {
            other != at && of_lane(running) && matches!(running.state, JobState::Leased { until } if until > now)
        });
        (free_from <= now && !an_older_is_unfinished && !another_runs).then_some(free_from)
    }

    /// Whoever let his lease expire has lost it once another job of the lane is claimed.
    fn take_leases_from_lane(&mut self, claimed: usize, now: i64) {
        let lane = self.jobs[claimed].lane;
        for (at, job) in self.jobs.iter_mut().enumerate() {
            if let JobState::Leased { until } = job.state
                && at != claimed
                && job.lane == lane
            {
                assert!(until <= now, "two jobs of one lane are leased at once");
                job.state = JobState::Ready { due: until };
            }
        }
    }

    fn claimable(&self, now: i64) -> Vec<usize> {
        (0..self.jobs.len())
            .filter(|&at| self.claimable_from(at, now).is_some())
            .collect()
    }
}

async fn run_steps(steps: &[Step]) {
    let place = Sqlite::of_log_without_memory().quick();
    let store = place.open();
    let mut model = LaneModel::default();
    let mut claims = Vec::new();
    let mut now = 0_i64;
    for step in steps {
        match step {
            Step::Admit { lane } => {
                let sent = Sent::new(&format!("e{}", model.jobs.len()))
                    .of(&format!("r_{lane}"))
                    .at(now);
                assert_eq!(sent.admit(&store).await, crate::support::ACCEPTED);
                model.jobs.push(ModelJob {
                    lane: *lane,
                    state: JobState::Ready { due: now },
                    epoch: 0,
                });
            }
            Step::Claim { rows_max } => {
                let allowed = model.claimable(now);
                let given = claim(&store, at(now), *rows_max).await;
                assert_eq!(given.len(), allowed.len().min(*rows_max), "allowed {allowed:?}");
                for claim in given {
                    let at = number_of(claim.event.id.as_str());
                    assert!(
                        allowed.contains(&at),
                        "job {at} may not be claimed at {now}, only {allowed:?}"
                    );
                    model.take_leases_from_lane(at, now);
                    let job = &mut model.jobs[at];
                    job.epoch += 1;
                    job.state = JobState::Leased { until: now + LEASE_MS };
                    assert_eq!(claim.epoch, LeaseEpoch(job.epoch));
                    claims.push(claim);
                }
            }
            Step::Settle { claim, end } => {
                if claims.is_empty() {
                    continue;
                }
                let claim = claim.get(&claims);
                let job = &mut model.jobs[number_of(claim.event.id.as_str())];
                let holds = matches!(job.state, JobState::Leased { .. }) && LeaseEpoch(job.epoch) == claim.epoch;
                let (end, state) = match end {
                    0..=2 => (JobEnd::Done, JobState::Ended),
                    3 => (JobEnd::Held { reason: "x".into() }, JobState::Ended),
                    4 => (JobEnd::Dead { reason: "x".into() }, JobState::Ended),
                    _ => (
                        JobEnd::RetryAt {
                            at: at(now + 10),
                            reason: "x".into(),
                        },
                        JobState::Ready { due: now + 10 },
                    ),
                };
                let settled = store.settle(settlement(claim).end(end)).await.unwrap();
                if holds {
                    assert!(matches!(settled, Settled::Committed { .. }), "{settled:?}");
                    job.state = state;
                } else {
                    assert_eq!(settled, Settled::LeaseLost);
                }
            }
            Step::Wait { ms } => now += ms,
            Step::Replay { receipt } => {
                if model.jobs.is_empty() {
                    continue;
                }
                let number = receipt.index(model.jobs.len());
                let what = ReplayWhat::Receipt {
                    receipt: Sent::new(&format!("e{number}")).receipt(&store),
                    jobs: Vec::new(),
                };
                let report = store
                    .replay(ReplayRequest {
                        what,
                        dry_run: false,
                        routes: Vec::new(),
                        now: at(now),
                        actor: "a".into(),
                        why: None,
                    })
                    .await
                    .unwrap();
                let job = &mut model.jobs[number];
                assert_eq!(report.replayed.len(), usize::from(job.state == JobState::Ended));
                if job.state == JobState::Ended {
                    job.state = JobState::Ready { due: now };
                }
            }
        }
    }
    // In the end everything can be finished: no lane is left blocked.
    now += 10 * LEASE_MS;
    for _ in 0..=model.jobs.len() {
        for claim in claim(&store, at(now), 100).await {
            assert!(matches!(
                store.settle(settlement(&claim)).await.unwrap(),
                Settled::Committed { .. }
            ));
        }
    }
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.jobs_waiting, 0, "a job was forgotten in its lane");
}

fn number_of(event_id: &str) -> usize {
    event_id[1..].parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lanes_and_leases_follow_the_model(steps in prop::collection::vec(any_step(), 1..60)) {
        runtime().block_on(run_steps(&steps));
    }
}
