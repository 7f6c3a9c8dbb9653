//! What people's questions cost whoever sends: the first page of each list over a full store, asked without end while events come in at their pace,
//! and how late those are answered beside the same without questions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tollgate_tests::client::{Client, request};

use super::bare::Mode;
use super::load;
use super::measures::{Found, PACED_CONNECTIONS, PACED_PER_SECOND, Plan};
use super::process::{OPERATOR_TOKEN, Server, Setup};
use super::system::say;

/// The lists that are asked for, by the name under which each is told.
pub(super) const LISTS: [(&str, &str); 11] = [
    ("events", "/v1/events"),
    ("jobs", "/v1/jobs"),
    ("runs", "/v1/runs"),
    ("actions", "/v1/actions"),
    ("deliveries", "/v1/deliveries"),
    ("undelivered", "/v1/undelivered"),
    ("dead letters", "/v1/dead-letters"),
    ("held", "/v1/held"),
    ("refused", "/v1/refused"),
    ("events that wait", "/v1/events?filter=status%3Awaiting"),
    ("events of a type", "/v1/events?filter=type%3Acustomer.*%20since%3A24h"),
];
/// A question at a time, and this long until the next: so somebody looks at a console that refreshes itself.
const PAUSE: Duration = Duration::from_millis(20);
/// Events that fill the store in one piece.
const FILL: u64 = 100_000;
/// What is told of intake, with and without questions.
pub(super) const QUIET: &str = "intake without lists: p99 ms";
pub(super) const ASKED: &str = "intake beside lists: p99 ms";

/// Under which a list's p95 is told.
pub(super) fn p95(list: &str) -> String {
    format!("{list}: p95 ms")
}

pub(super) fn measure(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    let books = Server::start(Setup::Bare(Mode::Answer))?;
    let server = Server::start(Setup::Listed { books: books.door.port })?;
    let mut stored = 0;
    while stored < plan.receipts {
        let next = FILL.min(plan.receipts - stored);
        stored += runtime.block_on(load::run_count(&server.door, 256, next))?.requests;
        server.wait_until_settled()?;
        say(&format!(
            "{stored} of {} receipts stored, settled and delivered",
            plan.receipts
        ));
    }
    found
        .words
        .insert("lists".to_owned(), format!("over {stored} receipts"));
    let duration = Duration::from_secs(plan.paced_seconds);
    let intake = || load::paced(&server.door, PACED_PER_SECOND, duration, PACED_CONNECTIONS);
    for round in 1..=plan.rounds.min(3) {
        say(&format!(
            "round {round}: {PACED_PER_SECOND} events per second, and nobody asks"
        ));
        found.sample(QUIET, per_mille(intake()?, 990));
        server.wait_until_settled()?;
        say(&format!(
            "round {round}: the same, and somebody asks for one list after the other"
        ));
        let is_over = AtomicBool::new(false);
        let operator = server.operator.context("a host without a private listener")?;
        let (latencies, pages) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(operator, &is_over));
            let latencies = intake();
            is_over.store(true, Ordering::Relaxed);
            let pages = asking.join().map_err(|_| anyhow::anyhow!("who asks panicked"))?;
            anyhow::Ok((latencies?, pages?))
        })?;
        found.sample(ASKED, per_mille(latencies, 990));
        for (list, took) in pages {
            found.sample(p95(list), per_mille(took, 950));
        }
        server.wait_until_settled()?;
    }
    server.stop()?;
    books.stop()
}

/// How long the first page of each list took, until it is over; each is asked for once at least.
fn ask(operator: u16, is_over: &AtomicBool) -> anyhow::Result<BTreeMap<&'static str, Vec<Duration>>> {
    let mut connection = Client::connect(([127, 0, 0, 1], operator).into())?;
    let headers = [("authorization".to_owned(), format!("Bearer {OPERATOR_TOKEN}"))];
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        for (list, path) in LISTS {
            let begun = Instant::now();
            connection.send(&request("GET", path, &headers, b""))?;
            let answer = connection.answer()?;
            took.entry(list).or_default().push(begun.elapsed());
            anyhow::ensure!(
                answer.status == 200,
                "{path} was answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            std::thread::sleep(PAUSE);
        }
    }
    Ok(took)
}

/// What so many of a thousand did not exceed, in milliseconds.
fn per_mille(mut latencies: Vec<Duration>, share: usize) -> f64 {
    latencies.sort_unstable();
    let at = latencies.len() * share / 1000;
    latencies
        .get(at)
        .or(latencies.last())
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
