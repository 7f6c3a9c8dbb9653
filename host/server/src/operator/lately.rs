//! What the host did lately: its own metrics, looked at once in ten seconds and kept for an hour, in memory. Whoever wants more asks
//! Prometheus.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use prometheus_client::encoding::prometheus_text;
use tokio_util::sync::CancellationToken;
use tollgate_api::calls;
use tollgate_api::lately::{Answers, Ended, Lately, LatelyStep, Took};
use tollgate_core::time::UnixMillis;
use tollgate_store::{Control, Counts, Views};

use super::Operator;
use super::asked::{Answered, Asked, Routes as _};
use crate::clock;

const STEP: Duration = Duration::from_secs(10);
/// An hour.
const STEPS_MAX: usize = 360;
/// Results of intake that are events which are new.
const KEPT: [&str; 3] = ["accepted", "superseded", "held"];
/// And of those which came before.
const AGAIN: [&str; 3] = ["same", "conflict", "suspected-replay"];

/// The steps so far.
#[derive(Default)]
pub(crate) struct Steps {
    kept: Mutex<VecDeque<LatelyStep>>,
}

/// What the counters said at the end of a step: all that happened since the start.
#[derive(Default)]
struct Seen {
    kept: u64,
    again: u64,
    refused: u64,
    jobs: Ended,
    answers: Answers,
    admit: Buckets,
    run: Buckets,
    deliver: Buckets,
}

/// A histogram, all of its series together: how many took at most so many microseconds, by that bound. The last bound is infinite.
#[derive(Default)]
struct Buckets(BTreeMap<u64, u64>);

/// The call about what happened lately.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(lately::<S>)
}

/// `GET /v1/lately`.
async fn lately<S: Views + Control>(operator: Arc<Operator<S>>, _: Asked<calls::Lately>) -> Answered<calls::Lately> {
    let steps = operator.steps.kept.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Lately {
        step_s: STEP.as_secs(),
        steps: steps.iter().cloned().collect(),
    })
}

/// Looks until shutdown.
pub(super) async fn watch<S: Views + Control>(operator: Arc<Operator<S>>, shutdown: CancellationToken) {
    let mut before = Seen::of(&text(&operator));
    loop {
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            () = shutdown.cancelled() => return,
        }
        let seen = Seen::of(&text(&operator));
        let counts = tokio::time::timeout(STEP, operator.store.counts()).await;
        let counts = counts.ok().and_then(Result::ok);
        let oldest = tokio::time::timeout(STEP, operator.store.oldest_waiting()).await;
        let oldest = oldest.ok().and_then(Result::ok);
        let now = clock::now();
        let oldest = oldest.and_then(|oldest| {
            let since = [oldest.job, oldest.delivery].into_iter().flatten().min()?;
            u64::try_from(now.since(since) / 1000).ok()
        });
        let step = seen.since(&before, now, counts.as_ref(), oldest);
        before = seen;
        let mut steps = operator.steps.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == STEPS_MAX {
            steps.pop_front();
        }
        steps.push_back(step);
    }
}

/// The metrics as Prometheus is told them.
fn text<S>(operator: &Operator<S>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_text::encode(&mut text, &operator.metrics);
    text
}

/// Adds what a series counts to what it came to.
fn add(ended: &mut Ended, result: Option<&str>, value: u64) {
    let sum = match result {
        Some("done") => &mut ended.done,
        Some("retry") => &mut ended.again,
        Some("held") => &mut ended.held,
        Some("dead") => &mut ended.dead,
        _ => return,
    };
    *sum += value;
}

fn between(now: &Ended, before: &Ended) -> Ended {
    Ended {
        done: now.done.saturating_sub(before.done),
        again: now.again.saturating_sub(before.again),
        held: now.held.saturating_sub(before.held),
        dead: now.dead.saturating_sub(before.dead),
    }
}

impl Seen {
    fn of(text: &str) -> Self {
        let mut seen = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            // Counters are whole, and are written as such.
            let Ok(value) = value.parse::<u64>() else { continue };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split('"').next()
            };
            match name {
                "tollgate_intake_total" => {
                    let result = label("result").unwrap_or_default();
                    let sum = match () {
                        () if KEPT.contains(&result) => &mut seen.kept,
                        () if AGAIN.contains(&result) => &mut seen.again,
                        () => &mut seen.refused,
                    };
                    *sum += value;
                }
                "tollgate_jobs_settled_total" => add(&mut seen.jobs, label("end"), value),
                "tollgate_delivery_answers_total" => {
                    let sum = match label("answer") {
                        Some("2xx") => &mut seen.answers.taken,
                        Some("3xx" | "4xx") => &mut seen.answers.refused,
                        Some("5xx") => &mut seen.answers.failed,
                        _ => &mut seen.answers.none,
                    };
                    *sum += value;
                }
                "tollgate_admit_duration_seconds_bucket" => seen.admit.add(label("le"), value),
                "tollgate_run_duration_seconds_bucket" => seen.run.add(label("le"), value),
                "tollgate_delivery_duration_seconds_bucket" => seen.deliver.add(label("le"), value),
                _ => {}
            }
        }
        seen
    }

    fn since(&self, before: &Self, at: UnixMillis, counts: Option<&Counts>, oldest: Option<u64>) -> LatelyStep {
        LatelyStep {
            at,
            kept: self.kept.saturating_sub(before.kept),
            again: self.again.saturating_sub(before.again),
            refused: self.refused.saturating_sub(before.refused),
            jobs_waiting: counts.map(|counts| counts.jobs_waiting),
            deliveries_waiting: counts.map(|counts| counts.outbox_waiting),
            oldest_s: oldest,
            jobs_ended: between(&self.jobs, &before.jobs),
            answers: Answers {
                taken: self.answers.taken.saturating_sub(before.answers.taken),
                refused: self.answers.refused.saturating_sub(before.answers.refused),
                failed: self.answers.failed.saturating_sub(before.answers.failed),
                none: self.answers.none.saturating_sub(before.answers.none),
            },
            admit: self.admit.since(&before.admit),
            run: self.run.since(&before.run),
            deliver: self.deliver.since(&before.deliver),
        }
    }
}

impl Buckets {
    fn add(&mut self, bound: Option<&str>, count: u64) {
        let bound_us = match bound {
            Some("+Inf") => u64::MAX,
            Some(bound) => match bound.parse::<f64>() {
                Ok(bound_s) => (bound_s * 1e6).round() as u64,
                Err(_) => return,
            },
            None => return,
        };
        *self.0.entry(bound_us).or_default() += count;
    }

    fn since(&self, before: &Self) -> Took {
        let new: Vec<(u64, u64)> = self
            .0
            .iter()
            .map(|(bound, count)| (*bound, count.saturating_sub(before.0.get(bound).copied().unwrap_or(0))))
            .collect();
        let count = new.last().map_or(0, |(_, count)| *count);
        let quantile = |thousandths: u64| (count > 0).then(|| quantile(&new, count, thousandths));
        Took {
            count,
            p50_us: quantile(500),
            p95_us: quantile(950),
        }
    }
}

/// Where a quantile lies, as Prometheus reckons it: evenly between the bounds of its bucket, and in the last at its lower bound.
fn quantile(buckets: &[(u64, u64)], count: u64, thousandths: u64) -> u64 {
    let rank = count as f64 * thousandths as f64 / 1e3;
    let (mut lower, mut below) = (0, 0);
    for (bound, up_to) in buckets {
        if *up_to as f64 >= rank {
            if *bound == u64::MAX {
                return lower;
            }
            let inside = (*up_to - below).max(1) as f64;
            return lower + ((*bound - lower) as f64 * (rank - below as f64) / inside).round() as u64;
        }
        (lower, below) = (*bound, *up_to);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP tollgate_intake Requests\n\
        tollgate_intake_total{result=\"accepted\"} 7\ntollgate_intake_total{result=\"same\"} 2\n\
        tollgate_intake_total{result=\"unauthentic\"} 3\n\
        tollgate_jobs_settled_total{tenant=\"acme\",route=\"r\",end=\"done\"} 6\n\
        tollgate_jobs_settled_total{tenant=\"globex\",route=\"r\",end=\"held\"} 2\n\
        tollgate_delivery_answers_total{tenant=\"acme\",destination=\"d\",answer=\"2xx\"} 5\n\
        tollgate_delivery_answers_total{tenant=\"acme\",destination=\"d\",answer=\"3xx\"} 1\n\
        tollgate_delivery_answers_total{tenant=\"acme\",destination=\"d\",answer=\"4xx\"} 2\n\
        tollgate_delivery_answers_total{tenant=\"globex\",destination=\"d\",answer=\"5xx\"} 4\n\
        tollgate_delivery_answers_total{tenant=\"globex\",destination=\"d\",answer=\"none\"} 6\n\
        tollgate_run_duration_seconds_sum{tenant=\"acme\",route=\"r\"} 0.5\n\
        tollgate_run_duration_seconds_bucket{le=\"0.001\",tenant=\"acme\",route=\"r\"} 10\n\
        tollgate_run_duration_seconds_bucket{le=\"0.01\",tenant=\"acme\",route=\"r\"} 20\n\
        tollgate_run_duration_seconds_bucket{le=\"+Inf\",tenant=\"acme\",route=\"r\"} 20\n\
        tollgate_run_duration_seconds_bucket{le=\"0.001\",tenant=\"globex\",route=\"r\"} 0\n\
        tollgate_run_duration_seconds_bucket{le=\"0.01\",tenant=\"globex\",route=\"r\"} 0\n\
        tollgate_run_duration_seconds_bucket{le=\"+Inf\",tenant=\"globex\",route=\"r\"} 1\n";

    #[test]
    fn o8_a_step_is_what_happened_between_two_looks() {
        let (none, seen) = (Seen::of(""), Seen::of(TEXT));
        let step = seen.since(&none, UnixMillis(0), None, None);
        assert_eq!(
            (step.kept, step.again, step.refused, step.jobs_waiting),
            (7, 2, 3, None)
        );
        let ended = |done, again, held| Ended {
            done,
            again,
            held,
            dead: 0,
        };
        assert_eq!(step.jobs_ended, ended(6, 0, 2));
        let answers = Answers {
            taken: 5,
            refused: 3,
            failed: 4,
            none: 6,
        };
        assert_eq!(step.answers, answers);
        assert_eq!(step.run.count, 21, "all series together");
        // The eleventh of twenty-one lies a twentieth into the second bucket; the twentieth at its end.
        assert_eq!((step.run.p50_us, step.run.p95_us), (Some(1_450), Some(9_955)));
        assert_eq!(step.admit, Took::default());
        let again = Seen::of(TEXT).since(&seen, UnixMillis(0), None, None);
        assert_eq!(
            (again.kept, again.answers, again.run),
            (0, Answers::default(), Took::default())
        );
    }

    #[test]
    fn o8_what_is_beyond_all_bounds_is_said_to_be_at_the_last() {
        assert_eq!(quantile(&[(1_000, 0), (u64::MAX, 5)], 5, 500), 1_000);
        assert_eq!(quantile(&[(1_000, 4), (u64::MAX, 4)], 4, 500), 500);
    }
}
