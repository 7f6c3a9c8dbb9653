//! The soak campaign: a steady load for as long as there is time, with redeliveries, plugins and deliveries; and samples of memory,
//! WAL, throughput and latency all along.
//!
//! The samples go to a CSV file beside the binary, one line for each interval. Memory is judged by a line of least squares through
//! the samples after the warm-up, with the 95 % confidence that their scatter leaves it: a slope that may as well be none is no
//! problem. Samples of one process are not independent, so the true interval is wider than the one that is printed.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use super::pace::{Pace, median};
use super::vitals::{self, Watch, mib};
use super::{Asked, Campaign, Found, Progress};
use crate::destination::Destination;
use crate::events::{self, Message, signer};
use crate::plugin_cache;
use crate::random::Random;
use crate::stage::{CASHBACK_TO_BOOKS, SOURCES, Setup, TALLY, books};

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "soak",
    summary: "a steady load for hours: memory, WAL, throughput and latency all along",
    unit: "seconds",
    short: 10,
    full: 2 * 60 * 60,
    run,
};

/// Posts per second: modest, so that a soak can run beside other work. `SOAK_PER_SECOND` says otherwise.
const PER_SECOND: u32 = 200;
/// The store's own bound on its WAL (`OpenOptions::wal_bytes_max`).
const WAL_CAP_BYTES: u64 = 64 * 1024 * 1024;
/// One post of so many is a redelivery; one event of so many counts in its plugin's state, the others are delivered.
const REDELIVERED: u64 = 8;
const TALLIED: u64 = 10;
/// Memory is warm after half of the run, and not before the store's own memory for keys is full, of twice 65,536 receipts: what it
/// holds until then is a bound that fills up, and no leak.
const WARM_UP: f64 = 0.5;
const WARM_UP_EVENTS: f64 = 160_000.0;
/// Samples after the warm-up from which a slope is judged, and samples in all from which the throughput is: the few of a short run are as good
/// as the machine was in those seconds.
const SAMPLES_JUDGED: usize = 20;
/// Memory may grow so much per hour, in parts of itself.
const SLOPE_MAX: f64 = 0.01;
/// The last part's throughput, in parts of the first's.
const THROUGHPUT_MIN: f64 = 0.9;

/// One interval.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// Since the beginning, at the interval's end.
    at_s: f64,
    resident_bytes: u64,
    wal_bytes: u64,
    /// The database and what stands beside it.
    store_bytes: u64,
    per_second: f64,
    median_ms: f64,
    p99_ms: f64,
    delivered: usize,
    jobs_waiting: u64,
    outbox_waiting: u64,
}

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut found = Found::default();
    let whole = Duration::from_secs(asked.count);
    let interval = (whole / 80).clamp(Duration::from_secs(2), Duration::from_secs(60));
    let destination = Destination::start();
    let stage = Setup::default()
        .plugin("cashback")
        .hostile("counter")
        .worker("threads = 2")
        .delivery("allow_http = true\nallow_networks = [\"127.0.0.0/8\"]")
        .tenant(
            "acme",
            &format!("{SOURCES}{CASHBACK_TO_BOOKS}{TALLY}{}", books("books", &destination)),
        )
        .start();
    let database = stage.path("tollgate.db");
    let watch = Watch::over(stage.pid(), stage.path("tollgate.db-wal"));
    let pace = Pace {
        to: stage.edge,
        per_second: std::env::var("SOAK_PER_SECOND")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(PER_SECOND),
        senders: 16,
    };
    let begun = Instant::now();
    let (mut samples, mut next, mut delivered) = (Vec::<Sample>::new(), 0, 0);
    while begun.elapsed() < whole {
        let interval_begun = Instant::now();
        let seed = asked.seed;
        let stretch = pace.run(next, interval, &move |number| event(seed, number));
        let took = interval_begun.elapsed();
        next += pace.events_in(interval);
        let arrivals = destination.take_arrivals();
        if arrivals.iter().any(|arrival| !arrival.is_authentic) {
            found.problems.push("a delivery has no valid signature".to_owned());
        }
        delivered += arrivals.len();
        for (status, times) in &stretch.refused {
            found.problems.push(format!("{times} posts were answered {status}"));
        }
        if stretch.broken > 0 || !stretch.lost.is_empty() {
            let (broken, lost) = (stretch.broken, stretch.lost.len());
            found.problems.push(format!(
                "{broken} connections broke, {lost} events were not acknowledged"
            ));
        }
        let counts = stage.counts();
        let waiting = |name: &str| counts[name].as_u64().unwrap_or(0);
        let sample = Sample {
            at_s: begun.elapsed().as_secs_f64(),
            resident_bytes: vitals::resident_bytes(stage.pid()),
            wal_bytes: watch.most().1,
            store_bytes: vitals::store_files(&database)
                .iter()
                .map(|file| vitals::file_bytes(file))
                .sum(),
            per_second: stretch.latencies.len() as f64 / took.as_secs_f64(),
            median_ms: stretch.percentile(0.5).as_secs_f64() * 1000.0,
            p99_ms: stretch.percentile(0.99).as_secs_f64() * 1000.0,
            delivered: arrivals.len(),
            jobs_waiting: waiting("jobs_waiting"),
            outbox_waiting: waiting("outbox_waiting"),
        };
        let memory = mib(sample.resident_bytes);
        progress.line(&format!(
            "{:>6.0} of {} s: {memory}, {:.0} per s, p99 {:.1} ms",
            sample.at_s, asked.count, sample.per_second, sample.p99_ms
        ));
        samples.push(sample);
        // Written each time: a soak that is cut off has its samples.
        write_csv(asked.seed, &samples);
    }
    stage.quiet();
    delivered += destination.take_arrivals().len();
    let distinct: std::collections::BTreeSet<u64> = (0..next).map(|number| of(asked.seed, number)).collect();
    let counts = stage.counts();
    let count = |name: &str| counts[name].as_u64().unwrap_or(0);
    let due = distinct.iter().filter(|of| *of % TALLIED >= 1).count();
    if count("receipts") != distinct.len() as u64 || count("actions") != distinct.len() as u64 {
        found
            .problems
            .push(format!("{} events were sent: {counts}", distinct.len()));
    }
    if count("dead_letters_open") > 0 || delivered < due {
        found
            .problems
            .push(format!("{due} deliveries were due, {delivered} came: {counts}"));
    }
    found.fact("posts / per second", format!("{next} / {}", pace.per_second));
    found.fact("events, each with one receipt and one effect", distinct.len());
    found.fact("deliveries that came, of those due", format!("{delivered} of {due}"));
    judge(&samples, &mut found);
    found
}

/// The event that a post is about: its own, or one shortly before.
fn of(seed: u64, number: u64) -> u64 {
    let mut random = Random(seed ^ number);
    match random.below(REDELIVERED) {
        0 => number.saturating_sub(1 + random.below(400)),
        _ => number,
    }
}

fn event(seed: u64, number: u64) -> (String, Message) {
    let of = of(seed, number);
    let id = format!("evt_{of}");
    let body = if of % TALLIED < 1 {
        format!(
            "{{\"event\":\"tally\",\"event_id\":\"{id}\",\"order_id\":\"sub_{}\"}}",
            of % 1000
        )
    } else {
        events::redeemed_by(&id, &format!("red_{of}"), "success", &format!("user_{}", of % 1000))
    };
    ("/in/acme/shop".to_owned(), signer("shop").sign(&id, body))
}

fn judge(samples: &[Sample], found: &mut Found) {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return;
    };
    let warm = samples
        .iter()
        .position(|sample| sample.at_s >= last.at_s * WARM_UP)
        .unwrap_or(0);
    let points: Vec<(f64, f64)> = samples[warm..]
        .iter()
        .map(|sample| (sample.at_s / 3600.0, sample.resident_bytes as f64))
        .collect();
    let line = Line::through(&points);
    let events = samples[warm].at_s * samples[warm].per_second;
    let is_warm = events >= WARM_UP_EVENTS && points.len() >= SAMPLES_JUDGED;
    found.fact(
        "intervals / of them after the warm-up",
        format!("{} / {}", samples.len(), points.len()),
    );
    found.fact("memory: first / after warm-up / last", {
        let at_warm = samples[warm].resident_bytes;
        [first.resident_bytes, at_warm, last.resident_bytes]
            .map(mib)
            .join(" / ")
    });
    let (slope, unsure) = (line.slope / line.mean * 100.0, line.unsure / line.mean * 100.0);
    found.fact(
        "memory slope after warm-up, % per hour, ± 95 %",
        format!("{slope:.2} ± {unsure:.2}"),
    );
    let wal = samples.iter().map(|sample| sample.wal_bytes).max().unwrap_or(0);
    found.fact(
        "longest WAL / its cap",
        format!("{} / {}", mib(wal), mib(WAL_CAP_BYTES)),
    );
    found.fact(
        "store: first / last",
        format!("{} / {}", mib(first.store_bytes), mib(last.store_bytes)),
    );
    let part = (samples.len() / 6).max(1);
    let throughput = |of: &[Sample]| of.iter().map(|sample| sample.per_second).sum::<f64>() / of.len() as f64;
    let (early, late) = (
        throughput(&samples[..part]),
        throughput(&samples[samples.len() - part..]),
    );
    found.fact(
        "throughput per s: first sixth / last sixth",
        format!("{early:.1} / {late:.1}"),
    );
    let micros = |of: fn(&Sample) -> f64, all: &[Sample]| {
        median(all.iter().map(|sample| (of(sample) * 1000.0) as u64).collect()) as f64 / 1000.0
    };
    let of = |what: fn(&Sample) -> f64| {
        let (early, late) = (
            micros(what, &samples[..part]),
            micros(what, &samples[samples.len() - part..]),
        );
        format!("{early:.1} / {late:.1}")
    };
    found.fact(
        "median of acknowledgements in ms: first / last sixth",
        of(|sample| sample.median_ms),
    );
    found.fact(
        "p99 of acknowledgements in ms: first / last sixth",
        of(|sample| sample.p99_ms),
    );
    if wal > 2 * WAL_CAP_BYTES {
        found.problems.push(format!(
            "the WAL came to {}, its cap is {}",
            mib(wal),
            mib(WAL_CAP_BYTES)
        ));
    }
    let is_long = samples.len() >= SAMPLES_JUDGED;
    found.fact("throughput is judged: there are enough intervals", is_long);
    if is_long && late < THROUGHPUT_MIN * early {
        found
            .problems
            .push(format!("throughput fell from {early:.1} to {late:.1} per second"));
    }
    found.fact("memory is judged: it was warm", is_warm);
    if is_warm && slope - unsure > SLOPE_MAX * 100.0 {
        found
            .problems
            .push(format!("memory grows by {slope:.2} ± {unsure:.2} % per hour"));
    }
}

/// A line of least squares.
struct Line {
    slope: f64,
    /// 95 % of such lines have a slope within this of the true one, if the scatter is random.
    unsure: f64,
    mean: f64,
}

impl Line {
    fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count.max(1.0);
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let common: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let slope = if spread > 0.0 { common / spread } else { 0.0 };
        let rest: f64 = points
            .iter()
            .map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2))
            .sum();
        let unsure = if count > 2.0 && spread > 0.0 {
            1.96 * (rest / (count - 2.0) / spread).sqrt()
        } else {
            f64::INFINITY
        };
        Self {
            slope,
            unsure,
            mean: mean_y.max(1.0),
        }
    }
}

fn write_csv(seed: u64, samples: &[Sample]) {
    let mut text =
        "at_s,resident_bytes,wal_bytes,store_bytes,per_second,median_ms,p99_ms,delivered,jobs_waiting,outbox_waiting\n"
            .to_owned();
    for sample in samples {
        let Sample {
            at_s,
            resident_bytes,
            wal_bytes,
            store_bytes,
            per_second,
            median_ms,
            p99_ms,
            delivered,
            jobs_waiting,
            outbox_waiting,
        } = sample;
        let _ = writeln!(
            text,
            "{at_s:.1},{resident_bytes},{wal_bytes},{store_bytes},{per_second:.1},{median_ms:.2},{p99_ms:.2},{delivered},\
             {jobs_waiting},{outbox_waiting}"
        );
    }
    // Figures are good to have; the campaign does not hang on them.
    let _ = fs::write(plugin_cache().with_file_name(format!("soak-{seed}.csv")), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_finds_its_slope_and_how_sure_it_is() {
        let exact: Vec<_> = (0..10).map(|x| (f64::from(x), 100.0 + 2.0 * f64::from(x))).collect();
        let line = Line::through(&exact);
        assert!((line.slope - 2.0).abs() < 1e-9 && line.unsure < 1e-6);
        let flat: Vec<_> = (0..10)
            .map(|x| (f64::from(x), if x % 2 == 0 { 99.0 } else { 101.0 }))
            .collect();
        let line = Line::through(&flat);
        assert!(line.slope.abs() < line.unsure, "{} ± {}", line.slope, line.unsure);
        assert!(Line::through(&exact[..2]).unsure.is_infinite());
    }
}
