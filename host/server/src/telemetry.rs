//! What the host says about itself: structured logs, and counters that the private listener shows.
//!
//! Refused traffic is counted by reason and logged sampled, with identifiers masked: at most one line per reason and second, so
//! that a flood of forged requests cannot fill a disk with its own refusals (promise I2).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tollgate_core::answer::{Happening, Rejection};
use tollgate_core::time::UnixMillis;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to standard error. `TOLLGATE_LOG` filters them as tracing's `EnvFilter` does (default `info`).
pub(crate) fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

const KEPT: [&str; 5] = ["accepted", "superseded", "held", "same", "conflict"];

/// Counters of the edge. Shared by its threads; relaxed, because nothing is decided by them.
#[derive(Debug, Default)]
pub(crate) struct EdgeCounters {
    kept: [AtomicU64; KEPT.len()],
    rejected: [AtomicU64; Rejection::ALL.len()],
    /// Why requests were unauthentic or malformed, by the core's slug.
    causes: Mutex<BTreeMap<&'static str, Cause>>,
    /// Providers' questions that were answered; nothing is kept of them.
    pub(crate) challenges: AtomicU64,
    pub(crate) connections_open: AtomicI64,
    pub(crate) connections_total: AtomicU64,
}

#[derive(Debug, Default)]
struct Cause {
    count: u64,
    last_logged: Option<UnixMillis>,
}

impl EdgeCounters {
    pub(crate) fn count(&self, happening: &Happening) {
        let counter = match happening {
            Happening::Accepted(_) => &self.kept[0],
            Happening::Superseded(_) => &self.kept[1],
            Happening::Held(_) => &self.kept[2],
            Happening::Same(_) => &self.kept[3],
            Happening::Conflict(_) => &self.kept[4],
            Happening::Rejected(rejection) => &self.rejected[*rejection as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a cause, and says whether this one is to be logged: the first, then at most one a second.
    pub(crate) fn cause(&self, slug: &'static str, now: UnixMillis) -> bool {
        let mut causes = self.causes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let cause = causes.entry(slug).or_default();
        cause.count += 1;
        let log = cause.last_logged.is_none_or(|last| now.since(last) >= 1000);
        if log {
            cause.last_logged = Some(now);
        }
        log
    }

    /// The counters in Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        out.push_str("# HELP tollgate_intake_total Requests at the edge by what became of them.\n");
        out.push_str("# TYPE tollgate_intake_total counter\n");
        let kept = KEPT.iter().copied().zip(&self.kept);
        let rejected = Rejection::ALL
            .iter()
            .map(|rejection| rejection.as_str())
            .zip(&self.rejected);
        for (name, counter) in kept.chain(rejected) {
            let _ = writeln!(
                out,
                "tollgate_intake_total{{result=\"{name}\"}} {}",
                counter.load(Ordering::Relaxed)
            );
        }
        out.push_str(
            "# HELP tollgate_refused_total Refused requests by cause.\n# TYPE tollgate_refused_total counter\n",
        );
        for (slug, cause) in self
            .causes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
        {
            let _ = writeln!(out, "tollgate_refused_total{{cause=\"{slug}\"}} {}", cause.count);
        }
        out.push_str("# HELP tollgate_challenges_total Providers' questions that were answered.\n");
        out.push_str("# TYPE tollgate_challenges_total counter\n");
        let _ = writeln!(
            out,
            "tollgate_challenges_total {}",
            self.challenges.load(Ordering::Relaxed)
        );
        out.push_str(
            "# HELP tollgate_connections_open Open public connections.\n# TYPE tollgate_connections_open gauge\n",
        );
        let _ = writeln!(
            out,
            "tollgate_connections_open {}",
            self.connections_open.load(Ordering::Relaxed)
        );
        out.push_str("# HELP tollgate_connections_total Public connections since start.\n");
        out.push_str("# TYPE tollgate_connections_total counter\n");
        let _ = writeln!(
            out,
            "tollgate_connections_total {}",
            self.connections_total.load(Ordering::Relaxed)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_cause_and_logged_at_most_once_a_second() {
        let counters = EdgeCounters::default();
        assert!(counters.cause("no-match", UnixMillis(0)));
        assert!(!counters.cause("no-match", UnixMillis(999)));
        assert!(
            counters.cause("missing-header", UnixMillis(999)),
            "causes are sampled apart"
        );
        assert!(counters.cause("no-match", UnixMillis(1000)));
        counters.count(&Happening::Rejected(Rejection::Unauthentic));
        let mut text = String::new();
        counters.render(&mut text);
        assert!(
            text.contains("tollgate_refused_total{cause=\"no-match\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("tollgate_intake_total{result=\"unauthentic\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn every_rejection_has_its_own_counter() {
        for (at, rejection) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(rejection as usize, at);
        }
    }
}
