//! What senders were promised, and whether a store keeps it: the oracle of the campaigns that break a disk.
//!
//! A *promise* is what the host said to somebody outside: an acknowledgement to a sender, a delivery to a destination. What it said and
//! when stands in the recording of its disk, so a promise is held from exactly the operation on before which it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tollgate_core::action::{Action, Verdict};
use tollgate_core::admission::Disposition;
use tollgate_core::ids::Digest;
use tollgate_store::{AnyStore, StoreError, Trace, TraceBy, TraceQuery, Views as _};

use crate::destination::Destination;
use crate::disk::Said;
use crate::events::{self, Message, Signer};
use crate::random::Random;
use crate::stage::{self, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, TALLY, block_on, books};

/// A host with these routes that delivers to `destination`.
pub(super) fn setup(destination: &Destination) -> Setup {
    Setup::default()
        .plugin("cashback")
        .hostile("counter")
        .worker("threads = 2\n[worker.retry]\nattempts_max = 50\nbase_ms = 20\ncap_ms = 200")
        .delivery(
            "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[delivery.retry]\nattempts_max = 100\nbase_ms = 50\n\
             cap_ms = 200",
        )
        .tenant("acme", &format!("{SOURCES}{CASHBACK_TO_BOOKS}{TALLY}{}", books("books", destination)))
}

/// One event as it is sent, each time the same.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) message: Message,
    digest: Digest,
}

/// What the senders know.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    /// Every event that was ever posted, by its id.
    pub(super) sent: BTreeMap<String, Sent>,
    /// Its receipt, of those that were ever acknowledged: (event id by receipt).
    pub(super) events: BTreeMap<String, String>,
    /// Acknowledgements that arrived.
    pub(super) acknowledgements: usize,
    /// Answers by their status.
    pub(super) answers: BTreeMap<u16, usize>,
    pub(super) unanswered: usize,
    pub(super) problems: Vec<String>,
    made: u64,
}

impl Books {
    /// A new event: now and then a second one for an operation that was there, one that counts, or a bulky one.
    pub(super) fn make(&mut self, signer: &Signer, random: &mut Random) -> Sent {
        self.made += 1;
        let number = self.made;
        let id = format!("evt_{number:06}");
        let of = match random.below(6) {
            0 if number > 1 => 1 + random.below(number - 1),
            _ => number,
        };
        let body = match random.below(8) {
            0 | 1 => {
                let most = if random.below(4) == 0 { 9000 } else { 200 };
                let padding = "x".repeat(random.below(most) as usize);
                serde_json::json!({ "event": "tally", "event_id": id, "order_id": id, "padding": padding }).to_string()
            }
            // The twin's customer is that of its operation, or it would be another operation's content.
            _ => events::redeemed_by(&id, &format!("red_{of}"), "success", &format!("user_{}", of % 20)),
        };
        let sent = Sent {
            digest: Digest::of(body.as_bytes()),
            message: signer.sign(&id, body),
            id: id.clone(),
        };
        self.sent.insert(id, sent.clone());
        sent
    }

    /// Enters an answer of an event.
    pub(super) fn note(&mut self, sent: &Sent, status: u16, receipt: Option<String>) {
        *self.answers.entry(status).or_default() += 1;
        match (status, receipt) {
            (200 | 202, Some(receipt)) => {
                self.acknowledgements += 1;
                let known = self.events.entry(receipt.clone()).or_insert_with(|| sent.id.clone());
                if *known != sent.id {
                    let other = known.clone();
                    self.problems
                        .push(format!("{receipt} is the receipt of {other} and of {}", sent.id));
                }
            }
            (503, _) => {}
            (other, _) => self.problems.push(format!("{}: answered {other}", sent.id)),
        }
    }
}

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Posts, all connections together.
    pub(super) posts: u64,
    pub(super) connections: u64,
    /// At most between two posts of a connection.
    pub(super) pause_ms: u64,
}

/// Posts new events and earlier ones, as providers do. Ends early when the host is gone.
pub(super) fn send(stage: &Stage, books: &mut Books, load: Load, random: &mut Random) {
    let shared = Mutex::new(std::mem::take(books));
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..load.connections {
            let mut random = random.fork();
            let posts = load.posts.div_ceil(load.connections);
            scope.spawn(move || {
                let signer = events::signer("shop");
                let Ok(mut connection) = crate::client::Client::connect(stage.edge) else {
                    return;
                };
                for _ in 0..posts {
                    let sent = {
                        let mut books = lock();
                        let earlier = random.below(5) == 0 && !books.sent.is_empty();
                        match books.sent.values().nth(random.below(books.sent.len() as u64) as usize) {
                            Some(sent) if earlier => sent.clone(),
                            _ => books.make(&signer, &mut random),
                        }
                    };
                    let Ok(answer) = connection.post("/in/acme/shop", &sent.message) else {
                        lock().unanswered += 1;
                        return;
                    };
                    let acknowledged = matches!(answer.status, 200 | 202);
                    let receipt = acknowledged.then(|| answer.receipt());
                    lock().note(&sent, answer.status, receipt);
                    thread::sleep(Duration::from_millis(random.below(load.pause_ms + 1)));
                }
            });
        }
    });
    *books = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
}

/// Posts one event of the books' choosing and answers with the status; `None` when no answer came.
pub(super) fn send_one(stage: &Stage, books: &mut Books, random: &mut Random) -> Option<u16> {
    let sent = books.make(&events::signer("shop"), random);
    let answer = crate::client::Client::connect(stage.edge)
        .and_then(|mut connection| connection.post("/in/acme/shop", &sent.message));
    match answer {
        Ok(answer) => {
            let acknowledged = matches!(answer.status, 200 | 202);
            books.note(&sent, answer.status, acknowledged.then(|| answer.receipt()));
            Some(answer.status)
        }
        Err(_) => {
            books.unanswered += 1;
            None
        }
    }
}

/// What was promised up to some moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Promises {
    /// Receipts that were acknowledged.
    pub(super) receipts: BTreeMap<String, Acknowledged>,
    /// Operations that were delivered, with what was sent.
    pub(super) delivered: BTreeMap<(String, String), String>,
    /// How often something was acknowledged.
    pub(super) acknowledgements: usize,
}

/// How often a receipt was acknowledged as what.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Acknowledged {
    /// As new; or it was known when the host started.
    as_new: bool,
    redeliveries: usize,
}

impl Promises {
    /// A host starts on what is there: nothing of it is new any more.
    pub(super) fn restart(&mut self) {
        self.receipts.values_mut().for_each(|receipt| receipt.as_new = true);
    }

    /// Takes one more. Answers what is wrong with it by itself.
    pub(super) fn note(&mut self, said: &Said) -> Option<String> {
        match said {
            Said::Acknowledged { status, receipt } => {
                self.acknowledgements += 1;
                // Of two posts at once the one that came second may be answered first.
                let known = self.receipts.entry(receipt.clone()).or_default();
                match status {
                    202 if known.as_new => {
                        return Some(format!(
                            "{receipt} was acknowledged before and is taken as new: it was forgotten"
                        ));
                    }
                    202 => known.as_new = true,
                    200 => known.redeliveries += 1,
                    other => return Some(format!("{receipt} is acknowledged with {other}")),
                }
                None
            }
            Said::Delivery {
                kind,
                operation_key,
                body,
            } => {
                let operation = (kind.clone(), operation_key.clone());
                let first = self.delivered.entry(operation).or_insert_with(|| body.clone());
                (first != body).then(|| format!("{operation_key} is delivered again with other content"))
            }
            Said::Else => None,
        }
    }
}

/// Holds a store against what was promised and against what was sent. Answers what is wrong.
pub(super) fn judge(store: &AnyStore, books: &Books, promises: &Promises) -> Vec<String> {
    let mut problems = Vec::new();
    match stage::problems(store) {
        Ok(found) => problems.extend(found.iter().map(|problem| format!("integrity: {problem}"))),
        Err(error) => problems.push(format!("the store cannot be audited: {error}")),
    }
    match everything(store) {
        Ok(traces) => {
            judge_receipts(&traces, books, promises, &mut problems);
            judge_ledger(&traces, promises, &mut problems);
        }
        Err(error) => problems.push(format!("the store cannot be read: {error}")),
    }
    problems
}

/// Holds a store whose work is all done against what was delivered. Answers what is wrong.
pub(super) fn judge_done(store: &AnyStore, promises: &Promises) -> Vec<String> {
    let traces = match everything(store) {
        Ok(traces) => traces,
        Err(error) => return vec![format!("the store cannot be read: {error}")],
    };
    let mut problems = Vec::new();
    let jobs = || traces.iter().flat_map(|trace| &trace.jobs);
    let undone = jobs().filter(|job| job.state != "done");
    problems.extend(undone.map(|job| format!("{} is {}: {:?}", job.id, job.state, job.reason)));
    let actions = jobs().flat_map(|job| &job.runs).flat_map(|run| &run.actions);
    for action in actions.filter(|action| !action.deliveries.is_empty()) {
        let operation = (action.action.kind().to_string(), action.operation_key.clone());
        if !promises.delivered.contains_key(&operation) {
            problems.push(format!("{} was never delivered", operation.1));
        }
        let undelivered = action.deliveries.iter().filter(|entry| entry.state != "delivered");
        problems.extend(undelivered.map(|entry| format!("{} is {}", entry.id, entry.state)));
    }
    problems
}

fn everything(store: &AnyStore) -> Result<Vec<Trace>, StoreError> {
    block_on(store.trace(TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
        after: None,
        receipts_max: 10_000_000,
    }))
}

fn judge_receipts(traces: &[Trace], books: &Books, promises: &Promises, problems: &mut Vec<String>) {
    let by_receipt: BTreeMap<String, &Trace> = traces
        .iter()
        .map(|trace| (trace.receipt.id.to_string(), trace))
        .collect();
    for (receipt, Acknowledged { redeliveries, .. }) in &promises.receipts {
        let event = books.events.get(receipt).map_or("an event", String::as_str);
        match by_receipt.get(receipt) {
            None => problems.push(format!("{event} was acknowledged as {receipt} and is gone")),
            Some(trace) if trace.receipt.event_id != event => {
                problems.push(format!("{receipt} was of {event} and is of {}", trace.receipt.event_id));
            }
            Some(trace) => {
                let found = trace.redelivered.as_ref().map_or(0, |again| again.same);
                if found < *redeliveries as u64 {
                    problems.push(format!(
                        "{event}: {redeliveries} redeliveries acknowledged, {found} kept"
                    ));
                }
            }
        }
    }
    let mut events = BTreeSet::new();
    for trace in traces {
        let (id, event) = (&trace.receipt.id, &trace.receipt.event_id);
        match books.sent.get(event) {
            None => problems.push(format!("{id} is of {event}, which nobody sent")),
            // The integrity check holds the body itself against this digest.
            Some(sent) if sent.digest != trace.receipt.body_digest => {
                problems.push(format!("{id}: the body of {event} is not what was sent"));
            }
            Some(_) => {}
        }
        if !events.insert(event) {
            problems.push(format!("{event} has two receipts"));
        }
        if trace.receipt.disposition != Disposition::Accepted {
            problems.push(format!("{id} is {:?}", trace.receipt.disposition));
        }
        if trace.jobs.len() != 1 {
            problems.push(format!("{id} has {} jobs instead of 1", trace.jobs.len()));
        }
        if trace.conflicts() > 0 {
            problems.push(format!("{id}: a redelivery of the same bytes was taken for a conflict"));
        }
    }
}

fn judge_ledger(traces: &[Trace], promises: &Promises, problems: &mut Vec<String>) {
    let mut recorded: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut tallies = Vec::new();
    let jobs = traces.iter().flat_map(|trace| &trace.jobs);
    for job in jobs {
        let has_settled = job.runs.iter().any(|run| !run.actions.is_empty());
        if matches!(job.state.as_str(), "dead" | "held") || (job.state == "done") != has_settled {
            problems.push(format!(
                "{} is {} with {} runs: {:?}",
                job.id,
                job.state,
                job.runs.len(),
                job.reason
            ));
        }
        for action in job.runs.iter().flat_map(|run| &run.actions) {
            match action.verdict {
                Verdict::Recorded => {
                    let operation = (action.action.kind().to_string(), action.operation_key.clone());
                    if operation.0 == "flag" {
                        tallies.push(tally(&action.action));
                    } else if action.deliveries.len() != 1 {
                        let entries = action.deliveries.len();
                        problems.push(format!("{}: {entries} outbox entries instead of 1", operation.1));
                    }
                    *recorded.entry(operation).or_default() += 1;
                }
                Verdict::AlreadyDone => {}
                Verdict::Conflict => problems.push(format!("{}: recorded with other content", action.operation_key)),
            }
        }
    }
    let doubled = recorded.iter().filter(|(_, times)| **times > 1);
    problems.extend(doubled.map(|((_, key), times)| format!("{key} is recorded {times} times")));
    let lost = promises
        .delivered
        .keys()
        .filter(|operation| !recorded.contains_key(*operation));
    problems.extend(lost.map(|(kind, key)| format!("{kind} {key} was delivered and is not in the ledger")));
    // The guest counts in its state: every run that committed moved it by one, and no run moved it twice.
    tallies.sort_unstable();
    if !tallies.iter().copied().eq(1..=tallies.len() as u64) {
        problems.push(format!("the counting plugin's state was lost or doubled: {tallies:?}"));
    }
}

/// The number that the counting guest put into its flag.
fn tally(action: &Action) -> u64 {
    match action {
        Action::Flag(flag) => flag.reasons.first().and_then(|text| text.parse().ok()),
        _ => None,
    }
    .unwrap_or(0)
}
