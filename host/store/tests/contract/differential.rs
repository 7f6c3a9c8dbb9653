//! The fast layout against the plain one: the same random work on both, and every answer compared.
//!
//! `TOLLGATE_OPERATIONS` sets how much work (default 1,500 pieces), `TOLLGATE_SEED` which. The campaign `differential` runs this test
//! with a hundred thousand, and reads what it prints.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use tollgate_core::admission::{Admission, Identity, JobSpec, on_time};
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::ids::DeliveryId;
use tollgate_core::outcome::JobEnd;
use tollgate_core::review::{Target, Word};
use tollgate_core::subject::Scope;
use tollgate_store::{
    AttemptRecord, Control as _, DeadLetterFilter, Intake as _, JobClaim, Layout, OpenOptions, Outbox as _,
    OutboxClaim, OutboxHold, Quotas, ReceiptKey as _, ReplayRequest, ReplayWhat, ReviewDecision, ReviewRequest,
    RoutableFilter, RoutableStanding, SetAsideFilter, SetAsideKind, SqliteStore, Store as _, Targets, TraceBy,
    TraceQuery, Views as _, Work as _,
};

use crate::sqlite::Sqlite;
use crate::support::{
    Backend as _, LEASE_MS, Sent, SettlementExt as _, T0, at, claim_request, name, redemption, settlement,
};

/// A small generator that is the same everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len() as u64) as usize]
    }
}

/// One store of the pair, with what it leased.
struct Side {
    place: Sqlite,
    store: SqliteStore,
    claims: Vec<JobClaim>,
    deliveries: Vec<OutboxClaim>,
    /// What was to be reviewed last.
    reviewed: Option<Target>,
}

impl Side {
    /// Both stores must name receipts alike, so both get one key.
    async fn new(place: Sqlite) -> Self {
        let place = place.with_key(&[7; 32]);
        Self {
            store: place.open(),
            place,
            claims: Vec::new(),
            deliveries: Vec::new(),
            reviewed: None,
        }
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.place.open();
    }
}

/// A piece of work, decided before either store sees it.
#[derive(Debug, Clone)]
enum Work {
    /// Sent at once, with pieces that fail among them when `guilty`: then the whole commit is undone and each done alone.
    /// Each piece is one event, or as many as come in one request.
    Admit {
        burst: Vec<Vec<Sent>>,
        guilty: bool,
    },
    Claim {
        rows_max: usize,
    },
    Settle {
        claim: u64,
        end: u64,
        key: u64,
    },
    ClaimOutbox {
        rows_max: usize,
    },
    Deliver {
        claim: u64,
        end: u64,
    },
    Release {
        claim: u64,
    },
    Replay {
        what: ReplayWhat,
        dry_run: bool,
    },
    /// Of the n-th held receipt in the list, or of the last one again; of an event that may not be held, or not be there, when
    /// it is given. To a status, or to nothing.
    Review {
        held: u64,
        event: Option<Sent>,
        status: Option<&'static str>,
        dry_run: bool,
    },
    /// Makes jobs of receipts that lack them.
    Route {
        without_jobs: bool,
        superseded: bool,
        rows_max: usize,
    },
    Ask {
        what: u64,
        text: String,
    },
    Reopen,
}

fn any_event(dice: &mut Dice, number: u64) -> Sent {
    // Mostly new ids, so that keys travel through memory and index; some that were there.
    let id = if dice.roll(4) > 0 {
        number
    } else {
        dice.roll(number + 1)
    };
    let mut sent = Sent::new(&format!("e{id}"))
        .tenant(dice.of(&["acme", "acme", "globex"]))
        .at(number as i64)
        .routes(dice.of(&[&["cashback"][..], &["cashback", "fraud"], &[]]));
    if dice.roll(8) > 0 {
        sent = sent.of(&format!("r_{}", dice.roll(40)));
    }
    if dice.roll(3) > 0 {
        sent = sent.status(dice.of(&["created", "pending", "completed", "rolledback", "unheard"]));
        sent.unmapped = dice.roll(20) == 0;
    }
    if dice.roll(5) == 0 {
        sent = sent.body(&format!("{{\"other\":{}}}", dice.roll(3)));
    } else if dice.roll(30) == 0 {
        sent = sent.body(&format!("\"{}\"", "x".repeat(dice.roll(200_000) as usize)));
    }
    sent
}

fn any_work(dice: &mut Dice, number: &mut u64) -> Work {
    match dice.roll(100) {
        0..34 => {
            let mut request = |dice: &mut Dice| {
                let events = if dice.roll(40) == 0 {
                    70
                } else {
                    dice.of(&[1, 1, 1, 1, 1, 3])
                };
                let mut request: Vec<_> = (0..events)
                    .map(|_| {
                        *number += 1;
                        any_event(dice, *number)
                    })
                    .collect();
                // The same event twice in one request.
                if events > 1 && dice.roll(2) == 0 {
                    request.push(request[0].clone());
                }
                request
            };
            let pieces = dice.of(&[1, 1, 1, 1, 2, 2, 7, 25]);
            let burst = (0..pieces).map(|_| request(dice)).collect();
            Work::Admit {
                burst,
                guilty: dice.roll(6) == 0,
            }
        }
        34..41 => Work::Review {
            held: dice.roll(100),
            event: (dice.roll(4) == 0).then(|| {
                let id = dice.roll(*number + 2);
                any_event(dice, id)
            }),
            status: dice.of(&[
                None,
                Some("created"),
                Some("pending"),
                Some("completed"),
                Some("unheard"),
            ]),
            dry_run: dice.roll(3) == 0,
        },
        41..47 => Work::Claim {
            rows_max: dice.of(&[1, 3, 20]),
        },
        47..70 => Work::Settle {
            claim: dice.roll(1000),
            end: dice.roll(8),
            // Ever more operations, so that some are new for as long as the work goes on, and some were there.
            key: dice.roll(10 + *number / 50),
        },
        70..76 => Work::ClaimOutbox {
            rows_max: dice.of(&[1, 20]),
        },
        76..84 => Work::Deliver {
            claim: dice.roll(1000),
            end: dice.roll(3),
        },
        84..86 => Work::Release { claim: dice.roll(1000) },
        86..90 => {
            let filter = DeadLetterFilter {
                tenant: (dice.roll(2) == 0).then(|| name("acme")),
                rows_max: dice.of(&[1, 10]),
                ..DeadLetterFilter::default()
            };
            Work::Replay {
                what: ReplayWhat::DeadLetters(filter),
                dry_run: dice.roll(2) == 0,
            }
        }
        90..92 => Work::Route {
            without_jobs: dice.roll(3) > 0,
            superseded: dice.roll(4) == 0,
            rows_max: dice.of(&[1, 5, 40]),
        },
        92..98 => Work::Ask {
            what: dice.roll(6),
            text: if dice.roll(2) == 0 {
                format!("e{}", dice.roll(*number + 2))
            } else {
                format!("r_{}", dice.roll(41))
            },
        },
        _ => Work::Reopen,
    }
}

/// Does a piece of work and says in words what came of it.
async fn act(side: &mut Side, work: &Work, now: i64) -> Vec<String> {
    let store = side.store.clone();
    match work {
        Work::Admit { burst, guilty } => {
            let mut answers = Vec::new();
            for (position, request) in burst.iter().enumerate() {
                let admitting = store.clone();
                let admissions: Vec<_> = request.iter().map(|sent| sent.admission(&store)).collect();
                answers.push(tokio::spawn(async move {
                    format!("{:?}", admitting.admit(admissions).await)
                }));
                if *guilty && position % 3 == 1 {
                    let mut nobody = settlement_of_nobody(&request[0], &store);
                    nobody.job = tollgate_core::ids::JobId(1 << 40);
                    let failing = store.clone();
                    answers.push(tokio::spawn(
                        async move { format!("{:?}", failing.settle(nobody).await) },
                    ));
                }
            }
            let mut said = Vec::new();
            for answer in answers {
                said.push(answer.await.unwrap());
            }
            said
        }
        Work::Claim { rows_max } => {
            let claims = store.claim_jobs(claim_request(at(now), *rows_max)).await.unwrap();
            let said = claims.iter().map(|claim| format!("{claim:?}")).collect();
            side.claims.extend(claims);
            said
        }
        Work::Settle { claim, end, key } => {
            let Some(claim) = pick(&mut side.claims, *claim) else {
                return Vec::new();
            };
            let key = format!("cashback:{key}");
            let reason = || "because".to_owned();
            let settlement = match end {
                0 => settlement(&claim).end(JobEnd::Dead { reason: reason() }),
                1 => settlement(&claim).end(JobEnd::Held { reason: reason() }),
                2 => settlement(&claim).end(JobEnd::RetryAt {
                    at: at(now + 50),
                    reason: reason(),
                }),
                3 => settlement(&claim),
                4 => settlement(&claim).writes("count", Some(key.as_bytes())),
                _ => settlement(&claim).acts(&key, *end as u32 % 2).to("shop"),
            };
            vec![format!("{:?}", store.settle(settlement).await)]
        }
        Work::ClaimOutbox { rows_max } => {
            let claims = store
                .claim_outbox(claim_request(at(now), *rows_max), Quotas::unlimited())
                .await
                .unwrap()
                .claims;
            let said = claims.iter().map(|claim| format!("{claim:?}")).collect();
            side.deliveries.extend(claims);
            said
        }
        Work::Deliver { claim, end } => {
            let Some(claim) = pick(&mut side.deliveries, *claim) else {
                return Vec::new();
            };
            let reason = || "no answer".to_owned();
            let attempt = AttemptRecord {
                entry: claim.entry,
                epoch: claim.epoch,
                started_at: at(now),
                duration_us: 1000,
                end: AttemptEnd::Answered {
                    http_status: 204,
                    retry_after_ms: None,
                },
                answer: "ok".into(),
                entry_end: match end {
                    0 => EntryEnd::Dead { reason: reason() },
                    1 => EntryEnd::RetryAt {
                        at: at(now + 20),
                        reason: reason(),
                    },
                    _ => EntryEnd::Delivered,
                },
            };
            vec![format!("{:?}", store.record_attempt(attempt).await)]
        }
        Work::Release { claim } => {
            let Some(claim) = pick(&mut side.deliveries, *claim) else {
                return Vec::new();
            };
            let hold = OutboxHold {
                entry: claim.entry,
                epoch: claim.epoch,
            };
            vec![format!("{:?}", store.release_outbox(vec![hold], at(now + 10)).await)]
        }
        Work::Replay { what, dry_run } => {
            let request = ReplayRequest {
                what: what.clone(),
                dry_run: *dry_run,
                routes: Vec::new(),
                now: at(now),
                actor: "somebody".into(),
                why: None,
            };
            vec![format!("{:?}", store.replay(request).await)]
        }
        Work::Review {
            held,
            event,
            status,
            dry_run,
        } => {
            let filter = SetAsideFilter {
                with_reviewed: true,
                rows_max: 60,
                ..SetAsideFilter::default()
            };
            let list = store.set_aside(filter).await.unwrap();
            let mut said = vec![format!("{list:?}")];
            let target = match (event, side.reviewed) {
                (Some(sent), _) => Target::Receipt(sent.receipt(&store)),
                (None, Some(again)) if held % 4 == 0 => again,
                _ if list.is_empty() => return said,
                _ => list[usize::try_from(*held).unwrap() % list.len()].id.parse().unwrap(),
            };
            side.reviewed = Some(target);
            let jobs = vec![JobSpec {
                route: name("cashback"),
                lane: i64::try_from(*held % 5).unwrap(),
                late: tollgate_core::route::Late::default(),
            }];
            let decision = match (status, target) {
                (None, Target::Action(_)) => ReviewDecision::Keep,
                (Some(status), Target::Action(_)) => ReviewDecision::Record {
                    operation_key: name(&format!("again-{status}")),
                    targets: Targets {
                        destinations: vec![name("shop")],
                        ..Targets::default()
                    },
                    budgets: Vec::new(),
                },
                (None, _) => ReviewDecision::Dismiss,
                (Some(_), Target::Job(_)) => ReviewDecision::Run,
                (Some(_), Target::Delivery(delivery)) => match own_event(&store, delivery, jobs).await {
                    Some(admission) => ReviewDecision::Admit(admission),
                    None => ReviewDecision::Dismiss,
                },
                (Some(status), Target::Receipt(_)) => ReviewDecision::Map {
                    status: name(status),
                    word: Word::Judged,
                    lifecycle: Some(redemption()),
                    scope: Scope::Source,
                    jobs,
                },
            };
            let request = ReviewRequest {
                target,
                decision,
                actor: "somebody".into(),
                why: None,
                now: at(now),
                dry_run: *dry_run,
            };
            said.push(format!("{:?}", store.review(request).await));
            said
        }
        Work::Route {
            without_jobs,
            superseded,
            rows_max,
        } => {
            let filter = RoutableFilter {
                without_jobs: *without_jobs,
                standing: match superseded {
                    true => RoutableStanding::Superseded,
                    false => RoutableStanding::Accepted,
                },
                rows_max: *rows_max,
                ..RoutableFilter::default()
            };
            let found = store.routable(filter).await.unwrap();
            let mut said = vec![format!("{found:?}")];
            let jobs = |lane| {
                vec![JobSpec {
                    route: name("late"),
                    lane,
                    late: tollgate_core::route::Late::default(),
                }]
            };
            let routed = found
                .iter()
                .enumerate()
                .map(|(at, found)| (found.receipt, on_time(jobs(at as i64))))
                .collect();
            let request = ReplayRequest {
                what: ReplayWhat::Routed(routed),
                dry_run: false,
                routes: Vec::new(),
                now: at(now),
                actor: "somebody".into(),
                why: None,
            };
            said.push(format!("{:?}", store.replay(request).await));
            said
        }
        Work::Ask { what, text } => vec![ask(&store, *what, text).await],
        Work::Reopen => {
            side.reopen().await;
            Vec::new()
        }
    }
}

/// What a host makes of a conflicting delivery; none when it is no conflict.
async fn own_event(store: &SqliteStore, delivery: DeliveryId, jobs: Vec<JobSpec>) -> Option<Box<Admission>> {
    let kept = store.kept_delivery(delivery).await.ok()?;
    let mut admission = Admission::of(
        store.receipt_key(),
        kept.event,
        Identity::EventId,
        kept.proof,
        Some(redemption()),
        &mut std::iter::empty(),
    );
    admission.jobs = jobs;
    Some(Box::new(admission.on_its_own(store.receipt_key())))
}

fn settlement_of_nobody(sent: &Sent, store: &SqliteStore) -> tollgate_store::Settlement {
    settlement(&JobClaim {
        job: tollgate_core::ids::JobId(0),
        epoch: tollgate_core::ids::LeaseEpoch(1),
        route: name("cashback"),
        attempt: 1,
        due_at: at(0),
        receipt: sent.receipt(store),
        event: sent.admission(store).event,
    })
}

/// Mostly one of the newest, whose lease still holds; now and then any that was ever given.
fn pick<T>(claims: &mut Vec<T>, number: u64) -> Option<T> {
    let number = usize::try_from(number).unwrap();
    let newest = if number % 5 == 0 { claims.len() } else { 8 };
    let from = claims.len().saturating_sub(newest);
    let at = from + number % (claims.len() - from).max(1);
    (at < claims.len()).then(|| claims.swap_remove(at))
}

async fn ask(store: &SqliteStore, what: u64, text: &str) -> String {
    let trace = |by: TraceBy, tenant: Option<&str>| TraceQuery {
        by,
        tenant: tenant.map(name),
        after: None,
        receipts_max: 7,
    };
    let query = match what {
        0 => trace(TraceBy::Newest, None),
        1 => trace(TraceBy::Newest, Some("globex")),
        2 => trace(TraceBy::Text(text.to_owned()), Some("acme")),
        3 => trace(TraceBy::Text(text.to_owned()), None),
        4 => {
            let filter = SetAsideFilter {
                kind: Some(SetAsideKind::NoRoute),
                tenant: Some(name("globex")),
                rows_max: 20,
                ..SetAsideFilter::default()
            };
            let unrouted = store.set_aside(filter.clone()).await.unwrap();
            let superseded = SetAsideFilter {
                kind: Some(SetAsideKind::Superseded),
                ..filter
            };
            return format!("{unrouted:?} {:?}", store.set_aside(superseded).await.unwrap());
        }
        _ => {
            let letters = store
                .dead_letters(DeadLetterFilter {
                    with_replayed: true,
                    tenant: Some(name("globex")),
                    rows_max: 5,
                    ..DeadLetterFilter::default()
                })
                .await
                .unwrap();
            return serde_json::to_string(&letters).unwrap();
        }
    };
    serde_json::to_string(&store.trace(query).await.unwrap()).unwrap()
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// What the work met: a test in which nothing conflicts, dies or waits would prove little.
#[derive(Default)]
struct Met(BTreeMap<&'static str, u64>);

impl Met {
    /// What an answer says, and what that is called in the table of a campaign.
    const WORDS: [(&str, &str); 19] = [
        ("Ok(New(Accepted))", "admissions that were accepted"),
        ("Superseded", "answers with superseded receipts"),
        ("Held", "answers with held receipts"),
        ("Same", "redeliveries"),
        ("Conflict", "answers with conflicts"),
        ("NotFound", "failing writes among others"),
        ("LeaseLost", "writes under an old lease"),
        ("AlreadyDone", "operations proposed again"),
        ("[Recorded]", "operations recorded"),
        ("Reviewed(ReviewReport { dry_run: false", "reviews"),
        ("reviewed: Accepted", "reviews that accept"),
        ("reviewed: Superseded", "reviews that come late"),
        ("reviewed: Dismissed", "reviews that dismiss"),
        ("reviewed: RunAgain", "held jobs that run again"),
        ("reviewed: Admitted", "conflicts that become events"),
        ("NewJob", "jobs made of receipts that lacked them"),
        ("AlreadyReviewed", "reviews after a review"),
        ("NotHeld", "reviews of what is not held"),
        ("Unmappable", "reviews to a status that cannot be"),
    ];

    fn count(&mut self, said: &str) {
        for (word, _) in Self::WORDS {
            *self.0.entry(word).or_default() += u64::from(said.contains(word));
        }
    }
}

/// A line of the table that a campaign shows.
fn tell(what: &str, count: u64) {
    let _ = writeln!(std::io::stdout(), "fact: {what}: {count}");
}

/// Two stores that get the same work, and what they have met.
struct Pair {
    plain: Side,
    fast: Side,
    dice: Dice,
    number: u64,
    now: i64,
    met: Met,
}

impl Pair {
    async fn work(&mut self, operations: u64, said: &str) {
        let mut told = Instant::now();
        for step in 0..operations {
            if told.elapsed().as_secs() >= 10 {
                let _ = writeln!(std::io::stderr(), "{said}: {step} of {operations} operations alike");
                told = Instant::now();
            }
            let work = any_work(&mut self.dice, &mut self.number);
            self.now += self.dice.of(&[0, 1, 5, 20, LEASE_MS / 50]);
            let expected = act(&mut self.plain, &work, self.now).await;
            let found = act(&mut self.fast, &work, self.now).await;
            assert_eq!(found, expected, "{said}, step {step}: {work:?}");
            expected.iter().for_each(|said| self.met.count(said));
            assert_eq!(
                self.fast.store.counts().await.unwrap(),
                self.plain.store.counts().await.unwrap(),
                "{said}, step {step}: {work:?}"
            );
            assert_eq!(
                self.fast.store.set_aside_counts(None).await.unwrap(),
                self.plain.store.set_aside_counts(None).await.unwrap(),
                "{said}, step {step}: {work:?}"
            );
        }
        for side in [&self.plain, &self.fast] {
            assert_eq!(side.store.audited().unwrap().in_words(), [] as [String; 0]);
        }
        let (plain, fast) = (everything(&self.plain).await, everything(&self.fast).await);
        assert!(plain == fast, "{said}: the traces differ");
    }

    /// Goes on with a copy of the fast one, as another host would.
    async fn move_away(&mut self) {
        self.fast.store.close().await;
        let place = self.fast.place.exported();
        let layout: Vec<u8> = place
            .raw()
            .query_row("SELECT value FROM meta WHERE name = 'layout'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(layout, b"rows");
        self.fast = Side {
            store: place.open(),
            place,
            claims: Vec::new(),
            deliveries: Vec::new(),
            reviewed: self.fast.reviewed,
        };
        // Whoever opens a store frees what was leased, so the other does the same.
        self.plain.reopen().await;
        self.plain.claims.clear();
        self.plain.deliveries.clear();
    }
}

async fn everything(side: &Side) -> String {
    let query = TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
        after: None,
        receipts_max: usize::MAX,
    };
    serde_json::to_string(&side.store.trace(query).await.unwrap()).unwrap()
}

async fn compare(seed: u64, operations: u64, options: OpenOptions) -> Met {
    let mut pair = Pair {
        plain: Side::new(Sqlite::of_rows().quick()).await,
        fast: Side::new(Sqlite::with(options).quick()).await,
        dice: Dice(seed),
        number: 0,
        now: 0,
        met: Met::default(),
    };
    pair.work(operations, &format!("seed {seed}")).await;
    if operations >= 1000 {
        assert!(
            pair.met.0.values().all(|count| *count > 0),
            "seed {seed}: {:?}",
            pair.met.0
        );
    }
    pair.move_away().await;
    pair.work(operations / 4, &format!("seed {seed}, moved")).await;
    for side in [pair.plain, pair.fast] {
        side.store.close().await;
        an_index_that_is_made_again_is_the_same(&side.place).await;
    }
    pair.met
}

/// The index is a function of the log: what is made from the log anew has the same rows, also where there was none to begin with.
async fn an_index_that_is_made_again_is_the_same(place: &Sqlite) {
    // Whoever opens a store takes back what was leased.
    place.open().close().await;
    let made_again = place.copy();
    std::fs::remove_file(made_again.path()).unwrap();
    made_again.open().close().await;
    for place in [place, &made_again] {
        let found = SqliteStore::audit_index(place.path(), &mut |_| {}).unwrap();
        assert_eq!(found, Some(Vec::new()));
    }
}

#[tokio::test]
async fn the_log_answers_like_rows() {
    let (operations, seed) = (
        setting("TOLLGATE_OPERATIONS", 1_500),
        setting("TOLLGATE_SEED", T0.0 as u64),
    );
    let mut met = BTreeMap::new();
    // With hardly any memory, with some, and as it is shipped.
    for (keys_in_memory_max, recent_bytes_max) in [(3, 0), (150, 100_000), (65_536, 16 << 20)] {
        let options = OpenOptions {
            layout: Layout::Log,
            keys_in_memory_max,
            recent_bytes_max,
            ..OpenOptions::default()
        };
        // Each begins with stores of its own, and a quarter of its work is done again after a move; so all of it is what was asked for.
        let seen = compare(seed ^ keys_in_memory_max as u64, operations.div_ceil(3), options).await;
        for (word, count) in seen.0 {
            *met.entry(word).or_insert(0) += count;
        }
    }
    tell("operations, with hardly any memory, some and plenty", operations);
    for (word, what) in Met::WORDS {
        tell(what, met[word]);
    }
}
