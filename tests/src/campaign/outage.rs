//! The campaign of storm and outage: ten times the usual events come while every destination is down; then the destinations come
//! back.
//!
//! Two tenants, each with the same three destinations: one refuses connections, then hangs, then fails; one hangs, then fails; one
//! fails. Every effect goes to all three. What the campaign asks: was every post acknowledged at once; does the backlog drain by
//! itself; is each effect recorded once; does each arrive, with one content; did the effects of one subject happen in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use tollgate_core::action::{Action, Verdict};
use tollgate_core::admission::Disposition;
use tollgate_store::{Trace, TraceBy, TraceQuery, Views as _};

use super::pace::{Pace, Stretch};
use super::vitals::{Watch, mib};
use super::{Asked, Campaign, Found, Progress};
use crate::destination::{Closed, Destination, Reply};
use crate::events::{self, Message, signer};
use crate::random::Random;
use crate::stage::{self, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, TALLY, block_on, books_at};

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "outage",
    summary: "a storm of ten times the usual events while every destination is down, then back",
    unit: "events",
    short: 1_500,
    full: 60_000,
    run,
};

const TENANTS: [&str; 2] = ["acme", "globex"];
const DESTINATIONS: [&str; 3] = ["first", "second", "third"];
/// A storm is so many times the usual rate.
const STORM: u32 = 10;
/// Enough that no event waits for a sender: with 16, an answer after 10 ms held the next one up, and all that followed.
const SENDERS: u32 = 128;
/// From this count on the storm is for a machine and a build that are meant to be measured.
const COUNT_LARGE: u64 = 10_000;
/// One post of so many is a redelivery.
const REDELIVERED: u64 = 8;
/// One event of so many counts in its plugin's state; the others are delivered.
const TALLIED: u64 = 10;
const SUBJECTS: u64 = 20;
/// Longer than a breaker stays open, and than an attempt hangs.
const PHASE: Duration = Duration::from_secs(20);
/// How long the drain may take, beside the work itself: a breaker may just have opened.
const DRAIN_MAX: Duration = Duration::from_secs(60);

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut found = Found::default();
    let is_short = asked.count < COUNT_LARGE;
    let usual = if is_short { 60 } else { 200 };
    let closed = DESTINATIONS.map(|_| Closed::reserve());
    let table: String = DESTINATIONS
        .iter()
        .zip(&closed)
        .map(|(name, closed)| books_at(name, &closed.url()))
        .collect();
    let mut setup = Setup::default()
        .plugin("cashback")
        .hostile("counter")
        .worker("threads = 2")
        .delivery("allow_http = true\nallow_networks = [\"127.0.0.0/8\"]");
    for tenant in TENANTS {
        let cashback = CASHBACK_TO_BOOKS.replace("[\"books\"]", &format!("{DESTINATIONS:?}"));
        setup = setup.tenant(tenant, &format!("{SOURCES}{cashback}{TALLY}{table}"));
    }
    let stage = setup.start();
    let watch = Watch::over(stage.pid(), stage.path("tollgate.db-wal"));
    let mut field = Field {
        stage: &stage,
        seed: asked.seed,
        next: 0,
        all: Stretch::default(),
    };

    // Everybody is down from the beginning: what the calm leaves is a backlog already.
    let [first, second, third] = closed;
    let back = Arc::<AtomicBool>::default();
    let second = second.open();
    second.otherwise(Reply::HangUntil(Arc::clone(&back)));
    let third = third.open();
    third.otherwise(Reply::Status(503));
    progress.line("calm, with every destination down");
    let calm = field.paced(usual, u64::from(usual) * 3);
    let before = watch.most();

    progress.line("storm");
    let storm_begun = Instant::now();
    let mut storm = Stretch::default();
    let third_of = asked.count / 3;
    storm.add(field.paced(usual * STORM, third_of));
    wait_out(is_short, storm_begun, 1);
    let first = first.open();
    first.otherwise(Reply::HangUntil(Arc::clone(&back)));
    storm.add(field.paced(usual * STORM, third_of));
    wait_out(is_short, storm_begun, 2);
    first.otherwise(Reply::Status(500));
    second.otherwise(Reply::Status(502));
    storm.add(field.paced(usual * STORM, asked.count - 2 * third_of));
    wait_out(is_short, storm_begun, 3);
    let stormed = storm_begun.elapsed();
    let counts = stage.counts();
    let backlog = (counts["jobs_waiting"].as_u64(), counts["outbox_waiting"].as_u64());
    let during = watch.most();

    progress.line("back");
    back.store(true, std::sync::atomic::Ordering::Relaxed);
    let destinations = [first, second, third];
    let back_at = Instant::now();
    for destination in &destinations {
        destination.otherwise(Reply::Status(204));
    }
    // What the work itself takes, at the rate that a small machine has.
    let most = DRAIN_MAX + Duration::from_millis(asked.count * 3);
    let drained = drain(&stage, most, progress);
    let drain_took = back_at.elapsed();
    let after = watch.most();

    let posts = calm.latencies.len() + storm.latencies.len();
    found.fact("posts, all acknowledged at the first try", posts);
    found.fact(
        "posts per second: usual / storm",
        format!("{usual} / {}", usual * STORM),
    );
    found.fact("outage in s", format!("{:.1}", stormed.as_secs_f64()));
    let p99 = |stretch: &Stretch| format!("{:.1}", stretch.percentile(0.99).as_secs_f64() * 1000.0);
    found.fact(
        "p99 of acknowledgements in ms: calm / storm",
        format!("{} / {}", p99(&calm), p99(&storm)),
    );
    found.fact(
        "backlog when they came back: jobs / deliveries",
        format!("{} / {}", backlog.0.unwrap_or(0), backlog.1.unwrap_or(0)),
    );
    found.fact("drain in s", format!("{:.1}", drain_took.as_secs_f64()));
    let of = |what: fn((u64, u64)) -> u64| [before, during, after].map(|most| mib(what(most))).join(" / ");
    found.fact("most memory: calm / storm / drain", of(|most| most.0));
    found.fact("longest WAL: calm / storm / drain", of(|most| most.1));
    if !drained {
        found
            .problems
            .push(format!("the backlog was not drained in {most:?}: {}", stage.counts()));
    }
    if backlog.1.unwrap_or(0) < asked.count {
        found
            .problems
            .push(format!("the outage was none: a backlog of {backlog:?}"));
    }
    for (status, times) in &field.all.refused {
        found.problems.push(format!("{times} posts were answered {status}"));
    }
    if field.all.broken > 0 || !field.all.lost.is_empty() {
        let (broken, lost) = (field.all.broken, field.all.lost.len());
        found.problems.push(format!(
            "{broken} connections broke, {lost} events were not acknowledged"
        ));
    }
    let acknowledged = field.acknowledged(&mut found.problems);
    let dead = stage.counts()["dead_letters_open"].as_u64().unwrap_or(0);
    if dead > 0 {
        found.problems.push(format!("{dead} dead letters"));
    }
    judge(&stage, &acknowledged, &destinations, back_at, &mut found);
    found
}

/// In the long form each phase lasts long enough that the host meets it.
fn wait_out(is_short: bool, begun: Instant, phases: u32) {
    if !is_short {
        thread::sleep((begun + PHASE * phases).saturating_duration_since(Instant::now()));
    }
}

/// Waits until no work waits; false when it does not come to that in time.
fn drain(stage: &Stage, most: Duration, progress: &mut Progress) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < most {
        let counts = stage.counts();
        let waiting = |name: &str| counts[name].as_u64().unwrap_or(u64::MAX);
        let (jobs, outbox) = (waiting("jobs_waiting"), waiting("outbox_waiting"));
        if jobs == 0 && outbox == 0 {
            return true;
        }
        progress.line(&format!("draining: {jobs} jobs, {outbox} deliveries wait"));
        thread::sleep(Duration::from_millis(200));
    }
    false
}

/// What is sent.
struct Field<'s> {
    stage: &'s Stage,
    seed: u64,
    next: u64,
    all: Stretch,
}

impl Field<'_> {
    fn paced(&mut self, per_second: u32, events: u64) -> Stretch {
        let pace = Pace {
            to: self.stage.edge,
            per_second,
            senders: SENDERS,
        };
        let (first, seed) = (self.next, self.seed);
        let duration = Duration::from_micros(events * 1_000_000 / u64::from(per_second.max(1)));
        let stretch = pace.run(first, duration, &move |number| event(seed, number));
        self.next += pace.events_in(duration);
        self.all.add(stretch.clone());
        stretch
    }

    /// The receipts of acknowledged events by tenant and event id: a redelivery has that of its event.
    fn acknowledged(&self, problems: &mut Vec<String>) -> BTreeMap<(String, String), String> {
        let mut acknowledged = BTreeMap::new();
        for (&number, receipt) in &self.all.acknowledged {
            let (tenant, id) = name(self.seed, number);
            if let Some(other) = acknowledged.insert((tenant.to_owned(), id.clone()), receipt.clone())
                && other != *receipt
            {
                problems.push(format!("{id} was acknowledged as {other} and as {receipt}"));
            }
        }
        acknowledged
    }
}

/// Tenant and event id of a post: some are redeliveries of one shortly before.
fn name(seed: u64, number: u64) -> (&'static str, String) {
    let mut random = Random(seed ^ number);
    let of = if random.below(REDELIVERED) == 0 {
        number.saturating_sub(1 + random.below(40))
    } else {
        number
    };
    let tenant = TENANTS[(of % TENANTS.len() as u64) as usize];
    (tenant, format!("evt_{of}"))
}

fn event(seed: u64, number: u64) -> (String, Message) {
    let (tenant, id) = name(seed, number);
    let of: u64 = id.trim_start_matches("evt_").parse().unwrap_or(0);
    let body = if of % TALLIED < 1 {
        let subject = format!("sub_{}", of / TALLIED % SUBJECTS);
        format!("{{\"event\":\"tally\",\"event_id\":\"{id}\",\"order_id\":\"{subject}\"}}")
    } else {
        events::redeemed_by(&id, &format!("red_{of}"), "success", &format!("user_{}", of % 40))
    };
    (format!("/in/{tenant}/shop"), signer("shop").sign(&id, body))
}

fn judge(
    stage: &Stage,
    acknowledged: &BTreeMap<(String, String), String>,
    destinations: &[Destination; 3],
    back_at: Instant,
    found: &mut Found,
) {
    let query = TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
        after: None,
        receipts_max: 10_000_000,
    };
    let mut traces = match block_on(stage.store().trace(query)) {
        Ok(traces) => traces,
        Err(error) => return found.problems.push(format!("the store cannot be read: {error}")),
    };
    traces.sort_by_key(|trace| trace.receipt.seq);
    let problems = &mut found.problems;
    let receipts: BTreeMap<(String, String), String> = traces
        .iter()
        .map(|trace| {
            let receipt = &trace.receipt;
            (
                (receipt.tenant.to_string(), receipt.event_id.clone()),
                receipt.id.to_string(),
            )
        })
        .collect();
    if receipts.len() != traces.len() || receipts != *acknowledged {
        let (kept, events) = (traces.len(), acknowledged.len());
        problems.push(format!(
            "{events} events were acknowledged, and other {kept} receipts are there"
        ));
    }
    let mut deliverable = BTreeSet::new();
    let mut tallies: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut subjects: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut recorded: BTreeMap<(String, String, String), u32> = BTreeMap::new();
    for trace in &traces {
        judge_receipt(trace, problems);
        let tenant = trace.receipt.tenant.to_string();
        let runs = trace.jobs.iter().flat_map(|job| &job.runs);
        for action in runs.flat_map(|run| &run.actions) {
            let kind = action.action.kind().to_string();
            if action.verdict != Verdict::Recorded {
                problems.push(format!("{} was judged {:?}", action.operation_key, action.verdict));
                continue;
            }
            let operation = (tenant.clone(), kind, action.operation_key.clone());
            *recorded.entry(operation.clone()).or_default() += 1;
            if let Action::Flag(flag) = &action.action {
                let count = flag.reasons.first().and_then(|text| text.parse().ok()).unwrap_or(0);
                tallies.entry(tenant.clone()).or_default().push(count);
                let subject = (tenant.clone(), trace.receipt.subject.clone().unwrap_or_default());
                // Traces are in the order of admission, and so must the counts of one subject be.
                let last = subjects.insert(subject, count).unwrap_or(0);
                if count <= last {
                    problems.push(format!(
                        "{}: counted {count} after {last} of its subject",
                        trace.receipt.id
                    ));
                }
                continue;
            }
            let to: BTreeSet<_> = action
                .deliveries
                .iter()
                .map(|entry| entry.destination.as_str())
                .collect();
            if to != BTreeSet::from(DESTINATIONS) || action.deliveries.len() != DESTINATIONS.len() {
                problems.push(format!("{} goes to {to:?}", action.operation_key));
            }
            let undelivered = action.deliveries.iter().filter(|entry| entry.state != "delivered");
            problems.extend(undelivered.map(|entry| format!("{} is {}", entry.id, entry.state)));
            deliverable.insert(operation);
        }
    }
    let doubled = recorded.iter().filter(|(_, times)| **times > 1);
    problems.extend(doubled.map(|(operation, times)| format!("{operation:?} is recorded {times} times")));
    if recorded.len() != acknowledged.len() {
        problems.push(format!("{} events, {} effects", acknowledged.len(), recorded.len()));
    }
    for (tenant, mut counts) in tallies {
        counts.sort_unstable();
        if !counts.iter().copied().eq(1..=counts.len() as u64) {
            problems.push(format!("{tenant}: the counting plugin's state was lost or doubled"));
        }
    }
    let mut attempts = 0;
    let mut beyond = 0;
    for (name, destination) in DESTINATIONS.iter().zip(destinations) {
        let (all, more) = judge_arrivals(name, destination, &deliverable, back_at, problems);
        attempts += all;
        beyond += more;
    }
    found.fact("events, each with a receipt and one effect", recorded.len());
    found.fact(
        "deliveries due at the three destinations",
        deliverable.len() * DESTINATIONS.len(),
    );
    found.fact("messages that destinations saw, refused ones too", attempts);
    found.fact("deliveries beyond the first that was taken", beyond);
    match stage::problems(&stage.store()) {
        Ok(problems) => found.problems.extend(problems),
        Err(error) => found.problems.push(format!("the store cannot be audited: {error}")),
    }
}

fn judge_receipt(trace: &Trace, problems: &mut Vec<String>) {
    let id = &trace.receipt.id;
    if trace.receipt.disposition != Disposition::Accepted {
        problems.push(format!("{id} is {:?}", trace.receipt.disposition));
    }
    if trace.jobs.len() != 1 || trace.jobs.iter().any(|job| job.state != "done") {
        problems.push(format!("{id}: its one job is not done"));
    }
    if trace.conflicts() > 0 {
        problems.push(format!("{id}: a redelivery of the same bytes was taken for a conflict"));
    }
}

/// How many messages a destination saw, and how many of them it took beyond the first of each operation.
fn judge_arrivals(
    name: &str,
    destination: &Destination,
    deliverable: &BTreeSet<(String, String, String)>,
    back_at: Instant,
    problems: &mut Vec<String>,
) -> (usize, usize) {
    let mut contents: BTreeMap<(String, String, String), (Vec<u8>, u32)> = BTreeMap::new();
    let arrivals = destination.arrivals();
    let all = arrivals.len();
    for arrival in arrivals {
        let message = arrival.json();
        let text = |pointer: &str| {
            message
                .pointer(pointer)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let operation = (text("/tenant"), text("/action/kind"), text("/operation_key"));
        if !arrival.is_authentic
            || arrival.header("idempotency-key") != format!("{}/{}/{}", text("/namespace"), operation.1, operation.2)
        {
            problems.push(format!("{name}: {operation:?} came without its signature or its key"));
        }
        let taken = u32::from(arrival.at >= back_at);
        match contents.get_mut(&operation) {
            None => {
                contents.insert(operation, (arrival.body, taken));
            }
            Some((first, times)) => {
                *times += taken;
                if *first != arrival.body {
                    problems.push(format!("{name}: {operation:?} came again with other content"));
                }
            }
        }
    }
    let missing = deliverable
        .iter()
        .filter(|operation| contents.get(*operation).is_none_or(|(_, times)| *times == 0));
    problems.extend(missing.map(|operation| format!("{name}: {operation:?} never arrived while it was up")));
    let unknown = contents.keys().filter(|operation| !deliverable.contains(*operation));
    problems.extend(unknown.map(|operation| format!("{name}: {operation:?} arrived and is not in the ledger")));
    let beyond = contents
        .values()
        .map(|(_, times)| times.saturating_sub(1) as usize)
        .sum();
    (all, beyond)
}
