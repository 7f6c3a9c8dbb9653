//! What people's questions cost whoever sends: the first page of each list over a full store, asked without end while events come in at their pace,
//! and how late those are answered beside the same without questions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tollgate_tests::client::{Client, request};

use super::process::OPERATOR_TOKEN;

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
/// How many receipts the store had by then.
pub(super) const RECEIPTS: &str = "receipts";
/// What is told of intake, with and without questions.
pub(super) const QUIET: &str = "intake without lists: p99 ms";
pub(super) const ASKED: &str = "intake beside lists: p99 ms";

/// Under which a list's p95 is told.
pub(super) fn p95(list: &str) -> String {
    format!("{list}: p95 ms")
}

/// How long the first page of each list took, until it is over; each is asked for once at least.
pub(super) fn ask(operator: u16, is_over: &AtomicBool) -> anyhow::Result<BTreeMap<&'static str, Vec<Duration>>> {
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
pub(super) fn per_mille(mut latencies: Vec<Duration>, share: usize) -> f64 {
    latencies.sort_unstable();
    let at = latencies.len() * share / 1000;
    latencies
        .get(at)
        .or(latencies.last())
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
