//! The kill -9 campaign: a host under load is killed again and again at random moments and started on the same store; at the end
//! everything that it ever acknowledged is looked for.
//!
//! Cast: *senders* post signed events over several connections, some of them redeliveries of earlier ones, as providers do; what
//! was not acknowledged is sent again in the next cycle, byte for byte. The *destination* notes every delivery, and the *owner* of another one
//! pulls what waits there. One route has budgets that are soon spent. After the last
//! cycle the host finishes its work undisturbed, and [`Report::problems`] says what was promised and not kept.
//!
//! All that is random comes from one seed. Two campaigns of one seed do the same things; what the clock does in between is the
//! machine's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tollgate_core::action::Verdict;
use tollgate_core::admission::Disposition;
use tollgate_core::budget::{OUTCOME, OVER, Window};
use tollgate_core::time::UnixMillis;
use tollgate_store::{JobView, Trace, TraceBy, TraceQuery, Views as _};

use super::puller::{self, FETCHED, Fetched, Owner, Temper};
use super::{Campaign, Found};
use crate::client::Client;
use crate::destination::{Destination, Reply};
use crate::events::{self, Message, Signer};
use crate::json::{list, text};
use crate::random::Random;
use crate::stage::{self, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, TALLY, block_on, books};

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "kill",
    summary: "kill -9 at random times under load; a restart on the same store each time",
    unit: "cycles",
    short: 90,
    full: 10_000,
    run: |asked, progress| {
        let options = Options::new(u32::try_from(asked.count).unwrap_or(u32::MAX), asked.seed);
        run(options, |cycle| progress.line(&line(cycle, options.cycles))).found()
    },
};

/// How a campaign is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub cycles: u32,
    pub seed: u64,
    /// Senders at once.
    pub connections: u32,
    /// The host is killed this long after the first acknowledgement of a cycle, at random between these.
    pub kill_after_ms: (u64, u64),
    /// What a sender waits between two events. The work of a campaign is bounded by it.
    pub pause_ms: u64,
}

impl Options {
    /// What the test suite runs.
    pub fn new(cycles: u32, seed: u64) -> Self {
        Self {
            cycles,
            seed,
            connections: 6,
            kill_after_ms: (20, 250),
            pause_ms: 12,
        }
    }
}

/// What one cycle saw.
#[derive(Debug, Clone, Copy)]
pub struct Cycle {
    /// From 1.
    pub number: u32,
    /// From the start of the process until it took connections.
    pub restart: Duration,
    /// From the first acknowledgement to the kill.
    pub killed_after: Duration,
    /// Events acknowledged for the first time.
    pub acknowledged: usize,
    /// Redeliveries that were recognised.
    pub recognised: usize,
    /// Posts that got no answer.
    pub unanswered: usize,
}

/// What a campaign found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub seed: u64,
    pub cycles: Vec<Cycle>,
    /// Different events that were acknowledged.
    pub acknowledged: usize,
    pub receipts: u64,
    pub runs: usize,
    /// Operations recorded in the ledger.
    pub operations: usize,
    /// Those of them that go to the destination.
    pub deliverable: usize,
    pub deliveries: usize,
    /// Deliveries of an operation after its first: at least once is what is promised.
    pub repeated_deliveries: usize,
    /// Operations that the owner of the pulled destination confirmed.
    pub confirmed: usize,
    /// What that one gave back, and what it forgot.
    pub given_back: usize,
    pub forgotten: usize,
    /// Actions of the route with budgets, and its jobs that those held.
    pub within_budgets: usize,
    pub over_budget: usize,
    /// The last start, and all that was left to do.
    pub drain: Duration,
    /// What was promised and not kept. Empty when all is well.
    pub problems: Vec<String>,
}

impl Report {
    /// The restart time that this share of the cycles (0 to 1) did not exceed.
    pub fn restart_percentile(&self, share: f64) -> Duration {
        let mut times: Vec<_> = self.cycles.iter().map(|cycle| cycle.restart).collect();
        times.sort_unstable();
        let at = (times.len() as f64 * share).ceil() as usize;
        times.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// What became of the pulled destination, and of the budgets.
    pub(super) fn pulled_and_budgeted(&self, found: &mut Found) {
        found.fact("operations that were pulled and confirmed", self.confirmed);
        found.fact("pulled and given back", self.given_back);
        found.fact("pulled and forgotten: leases that ran out", self.forgotten);
        found.fact("actions of the route with budgets", self.within_budgets);
        found.fact("jobs of it that a budget held", self.over_budget);
    }

    fn found(self) -> Found {
        let mut found = Found::default();
        let restart = |share| self.restart_percentile(share).as_millis();
        let sum = |of: fn(&Cycle) -> usize| self.cycles.iter().map(of).sum::<usize>();
        found.fact("cycles", self.cycles.len());
        found.fact("events acknowledged", self.acknowledged);
        found.fact("receipts found", self.receipts);
        found.fact("posts cut off, sent again", sum(|cycle| cycle.unanswered));
        found.fact("redeliveries recognised", sum(|cycle| cycle.recognised));
        found.fact("runs of plugins", self.runs);
        found.fact("operations recorded, each once", self.operations);
        found.fact("operations that arrived at the destination", self.deliverable);
        found.fact("deliveries beyond the first of an operation", self.repeated_deliveries);
        self.pulled_and_budgeted(&mut found);
        found.fact(
            "restart in ms: median / 95 % / longest",
            format!("{} / {} / {}", restart(0.5), restart(0.95), restart(1.0)),
        );
        found.fact("work left after the last kill, in ms", self.drain.as_millis());
        found.problems = self.problems;
        found
    }
}

fn line(cycle: &Cycle, cycles: u32) -> String {
    format!(
        "{:>5}/{cycles}  up in {:>4} ms, killed {:>3} ms after the first ack: {:>4} new, {:>3} recognised, {:>2} unanswered",
        cycle.number,
        cycle.restart.as_millis(),
        cycle.killed_after.as_millis(),
        cycle.acknowledged,
        cycle.recognised,
        cycle.unanswered,
    )
}

/// Runs a campaign; `progress` is told of each cycle.
///
/// # Panics
/// When the host does not start, or a machine has no ports or no disk.
pub fn run(options: Options, mut progress: impl FnMut(&Cycle)) -> Report {
    let destination = Destination::start();
    let mut stage = setup(&destination).set();
    let mut random = Random(options.seed);
    let mut books = Books::default();
    let mut report = Report {
        seed: options.seed,
        ..Report::default()
    };
    // The first start compiles the plugins and makes the store: it is no restart.
    stage.start();
    stage.stop();
    for number in 1..=options.cycles {
        let restart = stage.start();
        // A destination that fails now and then, so that retries are under way when the host dies.
        destination.script((0..random.below(3)).map(|_| Reply::Status(503)));
        let cycle = one_cycle(
            &mut stage,
            options,
            number,
            restart,
            &mut random,
            &mut books,
            &mut report.problems,
        );
        progress(&cycle);
        report.cycles.push(cycle);
    }

    finish(&mut stage, &destination, &mut books, &mut report);
    report
}

/// A host that retries for longer than any campaign kills it, and delivers to this destination.
pub(super) fn setup(destination: &Destination) -> Setup {
    Setup::default()
        .plugin("cashback")
        .hostile("counter")
        .worker("threads = 2\n[worker.retry]\nattempts_max = 50\nbase_ms = 20\ncap_ms = 500")
        .delivery(
            "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[delivery.retry]\nattempts_max = 100\nbase_ms = 50\n\
             cap_ms = 500",
        )
        .tenant("acme", &tenant(destination))
}

/// What counts goes to a destination that asks for order; what is paid for, to one that is pulled and asks for it as well.
fn tenant(destination: &Destination) -> String {
    let cashback = CASHBACK_TO_BOOKS.replacen("\"books\"", &format!("\"books\", \"{FETCHED}\""), 1);
    let capped = CASHBACK_TO_BOOKS
        .replace("routes.cashback", &format!("routes.{CAPPED}"))
        .replacen("reward.redeemed", CAPPED_TYPE, 1)
        .replacen(
            "[\"INR\"]",
            &format!(
                "[\"INR\"], budgets = [{{ window = \"day\", amount_max = {A_DAY_MAX} }}, \
                 {{ window = \"day\", actions_max = {OF_ACCOUNT_MAX}, per = \"account\" }}]"
            ),
            1,
        );
    let tally = TALLY.replacen(
        "plugin =",
        &format!("destinations = [\"lines\", \"{FETCHED}\"]\nplugin ="),
        1,
    );
    let lines = books("lines", destination).replacen("url =", "order = \"subject\"\nurl =", 1);
    format!(
        "{SOURCES}{cashback}{capped}{tally}{}{lines}\n[destinations.{FETCHED}]\nkind = \"pull\"\norder = \"subject\"\n",
        books("books", destination)
    )
}

/// The route with budgets, and what it takes: each event is worth as much.
const CAPPED: &str = "capped";
const CAPPED_TYPE: &str = "reward.capped";
const CREDITED: i64 = 50;
/// What it may credit in a day, and how often one account: less than any load asks for.
const A_DAY_MAX: i64 = 12 * CREDITED;
const OF_ACCOUNT_MAX: i64 = 3;
/// Several come to their end before the route does.
const ACCOUNTS: u64 = 6;

/// Starts the host for the last time, lets it finish its work, and judges what is there.
pub(super) fn finish(stage: &mut Stage, destination: &Destination, books: &mut Books, report: &mut Report) {
    let drained = Instant::now();
    stage.start();
    // What was never acknowledged is redelivered until it is, as providers do.
    let mut connection = stage.connect();
    for sent in std::mem::take(&mut books.unanswered) {
        let answer = connection
            .post("/in/acme/shop", &sent.message)
            .expect("an answer after the last start");
        books.note(&sent, answer.status, || answer.receipt(), &mut report.problems);
    }
    if let Err(error) = fetch_the_rest(stage, &mut books.fetched) {
        report.problems.push(format!(
            "what is pulled cannot be fetched after the last start: {error}"
        ));
    }
    stage.quiet();
    report.drain = drained.elapsed();
    judge(stage, destination, books, report);
}

/// Pulls and confirms until nothing waits, leases of before included; or until nothing has changed for a while. Of few subjects the order makes that long after
/// thousands of cycles: an event waits for the one before it to be confirmed.
fn fetch_the_rest(stage: &Stage, fetched: &mut Fetched) -> std::io::Result<()> {
    let mut owner = Owner::of(stage.operator, stage.operator_token())?;
    let (mut waiting, mut since) = (None, Instant::now());
    while since.elapsed() < stage::PATIENCE {
        let some = owner.pull(fetched, Temper::Careful, &mut Random(0))?;
        let counts = stage.counts();
        let now = (counts["jobs_waiting"].clone(), counts["outbox_waiting"].clone());
        if some == 0 && now == (0.into(), 0.into()) {
            return Ok(());
        }
        if waiting.as_ref() != Some(&now) {
            (waiting, since) = (Some(now), Instant::now());
        }
        if some == 0 {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Subjects of the events that count: few, so that several wait for each other.
const LINES: u64 = 4;

/// An event that counts, about one of a few subjects.
fn counted(id: &str, line: u64) -> String {
    serde_json::json!({ "event": "tally", "event_id": id, "order_id": format!("line_{line}") }).to_string()
}

/// One event as it is sent, each time the same.
#[derive(Clone)]
struct Sent {
    id: String,
    message: Message,
}

/// What the senders know.
#[derive(Default)]
pub(super) struct Books {
    /// Receipts of acknowledged events, by event id.
    pub(super) acknowledged: BTreeMap<String, String>,
    /// Those events, to be redelivered.
    earlier: Vec<Sent>,
    /// Posted without an answer: they may or may not have been kept.
    unanswered: VecDeque<Sent>,
    /// What the owner of the pulled destination knows.
    fetched: Fetched,
    made: u64,
}

impl Books {
    /// Enters an answer. Answers whether it acknowledged the event for the first time as far as its sender knows.
    fn note(&mut self, sent: &Sent, status: u16, receipt: impl FnOnce() -> String, problems: &mut Vec<String>) -> bool {
        match (status, self.acknowledged.get(&sent.id)) {
            (200, Some(known)) => {
                let receipt = receipt();
                if receipt != *known {
                    problems.push(format!("{}: receipt {known} before, {receipt} now", sent.id));
                }
                false
            }
            // 200: its first answer was lost, its receipt was not.
            (202 | 200, None) => {
                self.acknowledged.insert(sent.id.clone(), receipt());
                self.earlier.push(sent.clone());
                true
            }
            (202, Some(known)) => {
                problems.push(format!(
                    "{}: acknowledged as {known}, then taken as new: it was forgotten",
                    sent.id
                ));
                false
            }
            // Asked to come again, as while stopping: nothing is promised.
            (503, _) => {
                self.unanswered.push_back(sent.clone());
                false
            }
            (other, _) => {
                problems.push(format!("{}: answered {other}", sent.id));
                false
            }
        }
    }

    /// A new event. Now and then a second one for the operation of an earlier one, or one that counts.
    fn make(&mut self, signer: &Signer, random: &mut Random) -> Sent {
        self.made += 1;
        let id = format!("evt_{:07}", self.made);
        let body = match random.below(10) {
            0 => counted(&id, random.below(LINES)),
            1 => events::redeemed_by(
                &id,
                &format!("cap_{}", self.made),
                "success",
                &format!("capped_{}", random.below(ACCOUNTS).min(random.below(ACCOUNTS))),
            )
            .replacen("reward.redeemed", CAPPED_TYPE, 1),
            // The twin's customer is that of its operation, or it would be another operation's content.
            2 if self.made > 1 => {
                let of = 1 + random.below(self.made - 1);
                events::redeemed_by(&id, &format!("red_{of}"), "success", &format!("user_{}", of % 40))
            }
            _ => {
                let of = self.made;
                events::redeemed_by(&id, &format!("red_{of}"), "success", &format!("user_{}", of % 40))
            }
        };
        Sent {
            message: signer.sign(&id, body),
            id,
        }
    }
}

fn one_cycle(
    stage: &mut Stage,
    options: Options,
    number: u32,
    restart: Duration,
    random: &mut Random,
    books: &mut Books,
    problems: &mut Vec<String>,
) -> Cycle {
    let (low, high) = options.kill_after_ms;
    let kill_after = Duration::from_millis(low + random.below(high - low + 1));
    let before = books.acknowledged.len();
    let load = load(stage, options, random, books, problems, |stage, first| {
        let _ = first.recv_timeout(Duration::from_secs(30));
        let moment = Instant::now();
        thread::sleep(kill_after);
        let killed_after = moment.elapsed();
        stage.kill();
        killed_after
    });
    Cycle {
        number,
        restart,
        killed_after: load.end,
        acknowledged: books.acknowledged.len() - before,
        recognised: load.recognised,
        unanswered: load.unanswered,
    }
}

/// What became of a load.
pub(super) struct Load<T> {
    /// What whoever ended the host says.
    pub(super) end: T,
    /// Redeliveries that were recognised.
    recognised: usize,
    /// Posts that got no answer.
    pub(super) unanswered: usize,
}

/// Sends events to a host until `end` returns, by when it must be dead. `end` is told of each acknowledgement.
pub(super) fn load<T>(
    stage: &mut Stage,
    options: Options,
    random: &mut Random,
    books: &mut Books,
    problems: &mut Vec<String>,
    end: impl FnOnce(&mut Stage, &mpsc::Receiver<()>) -> T,
) -> Load<T> {
    let counted = Arc::new((
        Mutex::new((std::mem::take(books), Vec::new(), 0, 0)),
        AtomicBool::new(false),
    ));
    let (first, acknowledged) = mpsc::channel();
    let senders: Vec<_> = (0..options.connections)
        .map(|_| {
            let (counted, first, random, edge) = (Arc::clone(&counted), first.clone(), random.fork(), stage.edge);
            thread::spawn(move || send(edge, options, random, &counted, &first))
        })
        .collect();
    drop(first);
    let mut fetched = std::mem::take(&mut counted.0.lock().unwrap_or_else(PoisonError::into_inner).0.fetched);
    let owner = {
        let (counted, mut random) = (Arc::clone(&counted), random.fork());
        let (operator, token) = (stage.operator, stage.operator_token());
        thread::spawn(move || {
            puller::pull_on(operator, token, &mut fetched, &mut random, || {
                counted.1.load(Ordering::Relaxed)
            });
            fetched
        })
    };
    let end = end(stage, &acknowledged);
    counted.1.store(true, Ordering::Relaxed);
    for sender in senders {
        if sender.join().is_err() {
            problems.push("a sender panicked".to_owned());
        }
    }
    let fetched = owner.join();
    let mut counted = counted.0.lock().unwrap_or_else(PoisonError::into_inner);
    *books = std::mem::take(&mut counted.0);
    match fetched {
        Ok(fetched) => books.fetched = fetched,
        Err(_) => problems.push("who pulls panicked".to_owned()),
    }
    problems.append(&mut counted.1);
    Load {
        end,
        recognised: counted.2,
        unanswered: counted.3,
    }
}

/// The senders' books, their problems, redeliveries recognised, posts without an answer; and whether the host is dead.
type Counted = (Mutex<(Books, Vec<String>, usize, usize)>, AtomicBool);

/// One sender: posts until the host is gone.
fn send(edge: SocketAddr, options: Options, mut random: Random, counted: &Counted, first: &mpsc::Sender<()>) {
    let signer = events::signer("shop");
    let lock = || counted.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(mut connection) = Client::connect(edge) else {
        return;
    };
    while !counted.1.load(Ordering::Relaxed) {
        let sent = {
            let books = &mut lock().0;
            match books.unanswered.pop_front() {
                Some(again) => again,
                None if !books.earlier.is_empty() && random.below(4) == 0 => {
                    let at = random.below(books.earlier.len() as u64) as usize;
                    books.earlier[at].clone()
                }
                None => books.make(&signer, &mut random),
            }
        };
        let answer = connection.post("/in/acme/shop", &sent.message);
        let mut counted = lock();
        let (books, problems, recognised, unanswered) = &mut *counted;
        match answer {
            Ok(answer) => {
                let was_new = books.note(&sent, answer.status, || answer.receipt(), problems);
                *recognised += usize::from(!was_new && answer.status == 200);
                drop(counted);
                let _ = first.send(());
            }
            Err(_) => {
                *unanswered += 1;
                if !books.acknowledged.contains_key(&sent.id) {
                    books.unanswered.push_back(sent);
                }
                return;
            }
        }
        thread::sleep(Duration::from_millis(options.pause_ms));
    }
}

/// Holds what is there against what was promised.
fn judge(stage: &Stage, destination: &Destination, books: &mut Books, report: &mut Report) {
    let problems = &mut report.problems;
    let store = stage.store();
    let everything = TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
        after: None,
        receipts_max: 10_000_000,
    };
    let traces = match block_on(store.trace(everything)) {
        Ok(traces) => traces,
        Err(error) => return problems.push(format!("the store cannot be read: {error}")),
    };
    report.receipts = traces.len() as u64;
    match stage::problems(&store) {
        Ok(found) => problems.extend(found.iter().map(|problem| format!("integrity: {problem}"))),
        Err(error) => problems.push(format!("integrity cannot be checked: {error}")),
    }
    report.acknowledged = books.acknowledged.len();
    judge_receipts(&traces, books, problems);
    (report.within_budgets, report.over_budget) = judge_budgets(&traces, problems);
    judge_what_is_left(stage, &traces, problems);
    report.runs = traces
        .iter()
        .flat_map(|trace| &trace.jobs)
        .map(|job| job.runs.len())
        .sum();

    let mut recorded: BTreeMap<(String, String), usize> = BTreeMap::new();
    let (mut deliverable, mut fetched) = (BTreeSet::new(), BTreeSet::new());
    let mut tallies = Vec::new();
    let runs = traces.iter().flat_map(|trace| &trace.jobs).flat_map(|job| &job.runs);
    for action in runs.flat_map(|run| &run.actions) {
        let operation = (action.action.kind().to_string(), action.operation_key.clone());
        match action.verdict {
            Verdict::Recorded => {
                *recorded.entry(operation.clone()).or_default() += 1;
                if operation.0 == "flag" {
                    tallies.push(tally(&action.action));
                }
                let pulled = action
                    .deliveries
                    .iter()
                    .find(|entry| entry.destination.as_str() == FETCHED);
                if pulled.is_some_and(|entry| entry.state == "delivered") {
                    fetched.insert(format!("{}/{}/{}", action.namespace, operation.0, operation.1));
                }
                if !action.deliveries.is_empty() {
                    deliverable.insert(operation);
                }
                let undelivered = action.deliveries.iter().filter(|entry| entry.state != "delivered");
                problems.extend(undelivered.map(|entry| format!("{} is {}", entry.id, entry.state)));
            }
            Verdict::AlreadyDone => {}
            Verdict::Conflict => problems.push(format!("{}: recorded with other content", operation.1)),
        }
    }
    report.operations = recorded.len();
    report.deliverable = deliverable.len();
    let doubled = recorded.iter().filter(|(_, times)| **times > 1);
    problems.extend(doubled.map(|((_, key), times)| format!("{key} is recorded {times} times")));
    // The guest counts in its state: every run that committed moved it by one, and no run moved it twice.
    tallies.sort_unstable();
    if !tallies.iter().copied().eq(1..=tallies.len() as u64) {
        problems.push(format!("the counting plugin's state was lost or doubled: {tallies:?}"));
    }
    problems.extend(books.fetched.judge(&fetched));
    report.confirmed = books.fetched.confirmed.len();
    report.given_back = books.fetched.given_back;
    report.forgotten = books.fetched.forgotten;
    let arrivals = destination.arrivals();
    let sent = arrivals.iter().filter_map(|arrival| count_of(&arrival.json()));
    judge_order("sent", sent, &traces, problems);
    let counted = std::mem::take(&mut books.fetched.counted);
    judge_order("handed out", counted.into_iter(), &traces, problems);
    judge_deliveries(destination, &deliverable, report);
}

/// The receipt and the count in a message of what counts.
pub(super) fn count_of(message: &Value) -> Option<(String, u64)> {
    let count = message.pointer("/action/reasons/0")?.as_str()?.parse().ok()?;
    Some((message["receipt"].as_str()?.to_owned(), count))
}

/// What is about one subject arrives in the order in which it was recorded, where it is sent and where it is fetched (promise P8). The counts of
/// one subject grow in that order, and what is delivered again is what came last.
fn judge_order(how: &str, counted: impl Iterator<Item = (String, u64)>, traces: &[Trace], problems: &mut Vec<String>) {
    let subjects: BTreeMap<String, &str> = traces
        .iter()
        .filter_map(|trace| Some((trace.receipt.id.to_string(), trace.receipt.subject.as_deref()?)))
        .collect();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (receipt, count) in counted {
        let Some(subject) = subjects.get(&receipt) else {
            continue;
        };
        let before = last.entry(subject).or_default();
        if count < *before {
            problems.push(format!("{subject}: count {count} was {how} behind {before}"));
        }
        *before = count;
    }
}

/// What one part of the budgets came to: of the route, or of an account.
#[derive(Debug, Default)]
struct Part {
    recorded: i64,
    held: usize,
}

/// The parts of the budgets, by the end of their window and the account, or nothing for the route.
fn parts(traces: &[Trace]) -> BTreeMap<(UnixMillis, String), Part> {
    let mut parts: BTreeMap<_, Part> = BTreeMap::new();
    let jobs = traces.iter().flat_map(|trace| &trace.jobs);
    for job in jobs.filter(|job| job.route.as_str() == CAPPED) {
        for run in &job.runs {
            let started_at = UnixMillis::from_rfc3339(&run.started_at).unwrap_or(UnixMillis(0));
            let ended_at = started_at.plus_ms(i64::try_from(run.duration_us / 1000).unwrap_or(0));
            let window = Window::Day.ends_at(ended_at);
            let recorded = run.actions.iter().filter(|action| action.verdict == Verdict::Recorded);
            for action in recorded {
                let account = action.action.account().unwrap_or_default().to_owned();
                for whose in [String::new(), account] {
                    parts.entry((window, whose)).or_default().recorded += 1;
                }
            }
            if let Some(part) = over(job.reason.as_deref()).filter(|_| run.outcome == OUTCOME) {
                parts.entry((window, part)).or_default().held += 1;
            }
        }
    }
    parts
}

/// Whose part of a budget was spent when it held a job: the account's that the reason names, or the route's.
fn over(reason: Option<&str>) -> Option<String> {
    let over = reason?.strip_prefix(OVER)?;
    let account = over
        .split_once(" per account for `credit`: `")
        .and_then(|(_, rest)| rest.split_once('`'));
    Some(account.map_or_else(String::new, |(account, _)| account.to_owned()))
}

/// No part of a budget is overspent, and none holds anything while there is enough left of it (promise W6). Returns how many actions were
/// recorded within the budgets, and how many jobs those held.
fn judge_budgets(traces: &[Trace], problems: &mut Vec<String>) -> (usize, usize) {
    let (mut recorded, mut held) = (0, 0);
    for ((window, whose), part) in parts(traces) {
        let most = most(&whose);
        let spent = format!(
            "`{whose}` has {} of {most} actions in the day that ends at {window}",
            part.recorded
        );
        if part.recorded > most {
            problems.push(format!("overspent: {spent}"));
        }
        if part.held > 0 && part.recorded < most {
            problems.push(format!("{spent}, and {} more were held", part.held));
        }
        if whose.is_empty() {
            recorded += usize::try_from(part.recorded).unwrap_or(0);
        }
        held += part.held;
    }
    (recorded, held)
}

/// Actions of a part.
fn most(whose: &str) -> i64 {
    if whose.is_empty() {
        A_DAY_MAX / CREDITED
    } else {
        OF_ACCOUNT_MAX
    }
}

/// What the host says is spent and left is what the ledger has.
fn judge_what_is_left(stage: &Stage, traces: &[Trace], problems: &mut Vec<String>) {
    let parts = parts(traces);
    let budgets = list(
        &stage
            .operator_get(&format!("/v1/budgets?tenant=acme&route={CAPPED}"))
            .json(),
    );
    if budgets.len() != 2 {
        problems.push(format!("the route has these budgets: {budgets:?}"));
    }
    for budget in budgets {
        let Some(window) = UnixMillis::from_rfc3339(text(&budget, "ends_at")) else {
            problems.push(format!("a budget without an end: {budget}"));
            continue;
        };
        let unit = if budget["currency"].is_null() { 1 } else { CREDITED };
        for said in list(&budget["spent"]) {
            let whose = said["account"].as_str().unwrap_or_default().to_owned();
            let most = most(&whose);
            let recorded = parts.get(&(window, whose)).map_or(0, |part| part.recorded);
            let expected = (recorded * unit, (most - recorded) * unit);
            if (said["spent"].as_i64(), said["left"].as_i64()) != (Some(expected.0), Some(expected.1)) {
                problems.push(format!("spent and left are {said}, by the ledger {expected:?}"));
            }
        }
    }
}

fn judge_receipts(traces: &[Trace], books: &Books, problems: &mut Vec<String>) {
    let by_event: BTreeMap<_, _> = traces
        .iter()
        .map(|trace| (trace.receipt.event_id.as_str(), trace))
        .collect();
    if by_event.len() != traces.len() {
        problems.push(format!("{} receipts for {} events", traces.len(), by_event.len()));
    }
    if traces.len() != books.acknowledged.len() {
        problems.push(format!(
            "{} events were acknowledged, {} receipts are there",
            books.acknowledged.len(),
            traces.len()
        ));
    }
    for (event, receipt) in &books.acknowledged {
        match by_event.get(event.as_str()) {
            None => problems.push(format!("{event} was acknowledged as {receipt} and is gone")),
            Some(trace) if trace.receipt.id.to_string() != *receipt => {
                problems.push(format!(
                    "{event} was acknowledged as {receipt} and is {} now",
                    trace.receipt.id
                ));
            }
            Some(_) => {}
        }
    }
    for trace in traces {
        let id = &trace.receipt.id;
        if trace.receipt.disposition != Disposition::Accepted {
            problems.push(format!("{id} is {:?}", trace.receipt.disposition));
        }
        if trace.jobs.len() != 1 {
            problems.push(format!("{id} has {} jobs instead of 1", trace.jobs.len()));
        }
        let is_over = |job: &JobView| {
            job.state == "held" && job.route.as_str() == CAPPED && over(job.reason.as_deref()).is_some()
        };
        for job in trace.jobs.iter().filter(|job| job.state != "done" && !is_over(job)) {
            problems.push(format!("{} of {id} is {}: {:?}", job.id, job.state, job.reason));
        }
        if trace.conflicts() > 0 {
            problems.push(format!("{id}: a redelivery of the same bytes was taken for a conflict"));
        }
    }
}

/// The number that the counting guest put into its flag.
fn tally(action: &tollgate_core::action::Action) -> u64 {
    match action {
        tollgate_core::action::Action::Flag(flag) => flag.reasons.first().and_then(|text| text.parse().ok()),
        _ => None,
    }
    .unwrap_or(0)
}

fn judge_deliveries(destination: &Destination, deliverable: &BTreeSet<(String, String)>, report: &mut Report) {
    let problems = &mut report.problems;
    let mut arrived: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    for arrival in destination.arrivals() {
        report.deliveries += 1;
        if !arrival.is_authentic {
            problems.push("a delivery has no valid signature".to_owned());
            continue;
        }
        let message = arrival.json();
        let text = |pointer: &str| {
            message
                .pointer(pointer)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        let operation = (text("/action/kind").to_owned(), text("/operation_key").to_owned());
        if arrival.header("idempotency-key") != format!("{}/{}/{}", text("/namespace"), operation.0, operation.1) {
            problems.push(format!("{}: its Idempotency-Key is another", operation.1));
        }
        match arrived.get(&operation) {
            None => {
                arrived.insert(operation, arrival.body);
            }
            Some(first) => {
                report.repeated_deliveries += 1;
                if *first != arrival.body {
                    problems.push(format!("{}: delivered again with other content", operation.1));
                }
            }
        }
    }
    let arrived: BTreeSet<_> = arrived.into_keys().collect();
    problems.extend(
        deliverable
            .difference(&arrived)
            .map(|(_, key)| format!("{key} never arrived")),
    );
    problems.extend(
        arrived
            .difference(deliverable)
            .map(|(_, key)| format!("{key} arrived and is not in the ledger")),
    );
}
