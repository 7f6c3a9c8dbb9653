//! What people's questions cost whoever sends: the first page of each list over a full store, asked for while events come in at their pace,
//! and how late those are answered beside the same without questions. And how long people wait for a page of the console over that store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tollgate_tests::client::{Client, request};
use tollgate_tests::console::Browser;

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
/// Who asks for lists beside intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    Nobody,
    /// As ten people whose pages ask each second.
    Ten,
    /// One question behind the other, with [`PAUSE`] between them.
    WithoutEnd,
}

impl Asking {
    pub(super) const ALL: [Self; 3] = [Self::Nobody, Self::Ten, Self::WithoutEnd];

    /// Under which intake's p99 is told.
    pub(super) const fn p99(self) -> &'static str {
        match self {
            Self::Nobody => "intake without lists: p99 ms",
            Self::Ten => "intake beside ten lists a second: p99 ms",
            Self::WithoutEnd => "intake beside lists without end: p99 ms",
        }
    }

    /// Waits until the next question.
    fn wait(self, begun: Instant) {
        let pause = match self {
            Self::Nobody | Self::WithoutEnd => PAUSE,
            Self::Ten => Duration::from_millis(100).saturating_sub(begun.elapsed()),
        };
        std::thread::sleep(pause);
    }
}

/// The orders in which those of [`Asking::ALL`] may take turns: one behind the other, each comes as often behind each of the others.
pub(super) const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 0, 2], [1, 2, 0], [2, 0, 1]];

/// How many lists a second were asked for without end.
pub(super) const ASKED_PER_SECOND: &str = "lists without end: per second";
/// Between an answer and the next question of somebody who asks without end.
const PAUSE: Duration = Duration::from_millis(20);
/// How many receipts the store had by then.
pub(super) const RECEIPTS: &str = "receipts";
/// The pages of the console on which something of the store stands; `{receipt}` is the newest.
pub(super) const PAGES: [&str; 24] = [
    "",
    "/events",
    "/events?filter=status%3Awaiting",
    "/events?filter=type%3Acustomer.*%20since%3A24h",
    "/events/{receipt}",
    "/jobs",
    "/runs",
    "/actions",
    "/deliveries",
    "/undelivered",
    "/issues",
    "/held",
    "/dead-letters",
    "/refused",
    "/bulk",
    "/make/bulk?of=events&filter=type%3Acustomer.*",
    "/budgets",
    "/plugins",
    "/routes/bench/cashback",
    "/sources",
    "/sources/bench/rewards",
    "/audit",
    "/hosts",
    "/find?id=nobody",
];
/// How often each page is opened.
const OPENED: usize = 10;

/// Under which a page's p95 is told.
pub(super) fn opened(page: &str) -> String {
    format!("page /console{page}: p95 ms")
}

/// How long each page took to open, time by time.
pub(super) type Opened = Vec<(&'static str, Vec<Duration>)>;

/// How long each page of the console took in a browser, until it was loaded; none where there is no browser.
pub(super) fn open(operator: u16) -> anyhow::Result<Option<Opened>> {
    let Some(browser) = Browser::installed() else {
        return Ok(None);
    };
    let mut connection = Client::connect(([127, 0, 0, 1], operator).into())?;
    let headers = [("authorization".to_owned(), format!("Bearer {OPERATOR_TOKEN}"))];
    connection.send(&request("GET", "/v1/events?limit=1", &headers, b""))?;
    let newest: serde_json::Value = serde_json::from_slice(&connection.answer()?.body)?;
    let receipt = newest["items"][0]["receipt"]
        .as_str()
        .context("a store without events")?;
    let path = |page: &str| format!("/console{}", page.replace("{receipt}", receipt));
    let task = json!({
        "base": format!("http://127.0.0.1:{operator}"),
        "token": OPERATOR_TOKEN,
        "pages": PAGES.map(path),
        "times": OPENED,
    });
    let found = browser.run("times.mjs", &task);
    let times = |page| {
        let times = found[path(page)].as_array().into_iter().flatten();
        times
            .filter_map(|ms| Some(Duration::from_secs_f64(ms.as_f64()? / 1e3)))
            .collect()
    };
    Ok(Some(PAGES.map(|page| (page, times(page))).to_vec()))
}

/// Under which a list's p95 is told.
pub(super) fn p95(list: &str) -> String {
    format!("{list}: p95 ms")
}

/// How long the first page of each list took.
pub(super) type Took = BTreeMap<&'static str, Vec<Duration>>;

/// Asks for the first page of each list until it is over; for each once at least.
pub(super) fn ask(operator: u16, asking: Asking, is_over: &AtomicBool) -> anyhow::Result<Took> {
    let mut connection = Client::connect(([127, 0, 0, 1], operator).into())?;
    let headers = [("authorization".to_owned(), format!("Bearer {OPERATOR_TOKEN}"))];
    let mut took = Took::new();
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
            asking.wait(begun);
            if is_over.load(Ordering::Relaxed) && took.len() == LISTS.len() {
                break;
            }
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
