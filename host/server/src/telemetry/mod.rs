//! What the host counts and measures, for Prometheus, and what of refused traffic is logged.
//!
//! Counters and histograms stand with what they count and are registered once ([`EdgeCounters::register`] and its like). What the store
//! and the configuration say of a moment is read when somebody asks: [`Snapshot`]. Labels are the code's words and the configuration's
//! names, the latter bounded by [`Series`], and each series is there with a zero before anything happens: a rate over a counter
//! that begins with one shows nothing of it.
//!
//! Refused traffic is counted by tenant, source and reason and logged sampled, with identifiers masked, so that a flood of forged requests
//! cannot fill a disk with its own refusals, nor one tenant's hide another's (promise I2): see [`Tally`].

mod series;
mod snapshot;
mod tally;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tollgate_core::answer::{Happening, Rejection};
use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::time::UnixMillis;

use crate::config::Config;
pub(crate) use series::{Labels, Series, duration};
pub(crate) use snapshot::{Beyond, Snapshot};
use tally::Tallies;
pub(crate) use tally::Tally;

/// What becomes of an event that is kept.
const KEPT: [&str; 6] = ["accepted", "superseded", "held", "same", "conflict", "suspected-replay"];
/// What a source's requests have in common that are not.
const REFUSED: &str = "refused";
/// Why what was kept has no effect.
const SET_ASIDE: [&str; 3] = ["conflict", "suspected-replay", "held"];

/// The registry of the host's metrics; their names begin with `tollgate_`.
pub(crate) fn registry() -> Registry {
    Registry::with_prefix("tollgate")
}

/// What the edge counts and measures. Shared by its threads; nothing is decided by it.
pub(crate) struct EdgeCounters {
    intake: Family<Labels, Counter>,
    kept: [Counter; KEPT.len()],
    rejected: [Counter; Rejection::ALL.len()],
    by_source: Series<Counter>,
    refused: Family<Labels, Counter>,
    refused_by_source: Series<Counter>,
    set_aside: Family<Labels, Counter>,
    set_aside_by_source: Series<Counter>,
    refusals_said: Mutex<Tallies>,
    set_aside_said: Mutex<Tallies>,
    /// Providers' questions that were answered; nothing is kept of them.
    pub(crate) challenges: Counter,
    pub(crate) connections_open: Gauge,
    pub(crate) connections: Counter,
    /// From the store being asked to the commit, of requests that were kept.
    pub(crate) admit: Histogram,
}

/// Whose a refused request was, as far as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Of no tenant that there is.
    Nobodys,
    /// For no source that the tenant has.
    Tenants(&'a TenantName),
    Sources(&'a TenantName, &'a SourceName),
}

impl<'a> Whose<'a> {
    /// The tenant and the source, as far as it came.
    pub(crate) fn names(self) -> (Option<&'a TenantName>, Option<&'a SourceName>) {
        match self {
            Self::Nobodys => (None, None),
            Self::Tenants(tenant) => (Some(tenant), None),
            Self::Sources(tenant, source) => (Some(tenant), Some(source)),
        }
    }

    fn labels(self) -> Labels {
        match self {
            Self::Nobodys => Labels::default(),
            Self::Tenants(tenant) => Labels::tenant(tenant),
            Self::Sources(tenant, source) => Labels::source(tenant, source),
        }
    }
}

impl Default for EdgeCounters {
    fn default() -> Self {
        let (intake, refused, set_aside) = (Family::default(), Family::default(), Family::default());
        let result = |result| Family::get_or_create_owned(&intake, &Labels::default().with("result", result));
        let (kept, rejected) = (
            KEPT.map(result),
            Rejection::ALL.map(|rejection| result(rejection.as_str())),
        );
        for (family, causes) in [
            (&refused, Rejection::ALL.map(Rejection::as_str).as_slice()),
            (&set_aside, &SET_ASIDE),
        ] {
            for cause in causes {
                let _: Counter = Family::get_or_create_owned(family, &Labels::default().with("cause", cause));
            }
        }
        Self {
            intake,
            kept,
            rejected,
            by_source: Series::counters(),
            refused,
            refused_by_source: Series::counters(),
            set_aside,
            set_aside_by_source: Series::counters(),
            refusals_said: Mutex::default(),
            set_aside_said: Mutex::default(),
            challenges: Counter::default(),
            connections_open: Gauge::default(),
            connections: Counter::default(),
            admit: duration(),
        }
    }
}

impl fmt::Debug for EdgeCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeCounters").finish_non_exhaustive()
    }
}

impl EdgeCounters {
    /// Counts what became of a request, or of one event of it.
    pub(crate) fn count(&self, whose: Whose<'_>, happening: &Happening) {
        let (counter, result) = match happening {
            Happening::Accepted(_) => (&self.kept[0], KEPT[0]),
            Happening::Superseded(_) => (&self.kept[1], KEPT[1]),
            Happening::Held(_) => (&self.kept[2], KEPT[2]),
            Happening::Same(_) => (&self.kept[3], KEPT[3]),
            Happening::Conflict(_) => (&self.kept[4], KEPT[4]),
            Happening::SuspectedReplay(_) => (&self.kept[5], KEPT[5]),
            Happening::Rejected(rejection) => (&self.rejected[*rejection as usize], REFUSED),
        };
        counter.inc();
        if let Whose::Sources(..) = whose {
            self.by_source.of(&whose.labels().with("result", result)).inc();
        }
    }

    /// Counts a refusal. When it is to be logged: how many of the same were left out before it.
    pub(crate) fn refused(&self, whose: Whose<'_>, cause: &'static str, now: UnixMillis) -> Option<u64> {
        self.refused
            .get_or_create(&Labels::default().with("cause", cause))
            .inc();
        self.refused_by_source.of(&whose.labels().with("cause", cause)).inc();
        locked(&self.refusals_said).count(whose, cause, now)
    }

    /// Counts an event that was kept without effect. When it is to be logged: how many of the same were left out before it.
    pub(crate) fn set_aside(&self, whose: Whose<'_>, cause: &'static str, now: UnixMillis) -> Option<u64> {
        self.set_aside
            .get_or_create(&Labels::default().with("cause", cause))
            .inc();
        self.set_aside_by_source.of(&whose.labels().with("cause", cause)).inc();
        locked(&self.set_aside_said).count(whose, cause, now)
    }

    /// Logs what was left out of the log and is over.
    pub(crate) fn say_left_over(&self, now: UnixMillis) {
        locked(&self.refusals_said).say_left_over(now);
    }

    /// Lists the edge's metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "intake",
            "Requests and their events at the edge by what became of them",
            self.intake.clone(),
        );
        self.by_source.register(
            registry,
            "source_events",
            "Requests and their events by tenant, source and what became of them; all that were refused are one",
        );
        registry.register("refused", "Refused requests by cause", self.refused.clone());
        self.refused_by_source.register(
            registry,
            "source_refused",
            "Refused requests by tenant, source and cause, as far as they came",
        );
        registry.register(
            "set_aside",
            "Events that were kept without effect, by cause",
            self.set_aside.clone(),
        );
        self.set_aside_by_source.register(
            registry,
            "source_set_aside",
            "Events that were kept without effect, by tenant, source and cause",
        );
        registry.register(
            "challenges",
            "Providers' questions that were answered",
            self.challenges.clone(),
        );
        registry.register(
            "connections_open",
            "Open public connections",
            self.connections_open.clone(),
        );
        registry.register("connections", "Public connections", self.connections.clone());
        registry.register(
            "admit_duration_seconds",
            "From the store being asked to keep a request's events to their commit",
            self.admit.clone(),
        );
    }

    /// Has each source's series there, with a zero where nothing happened yet.
    pub(crate) fn begin_at_zero(&self, config: &Config) {
        for (name, tenant) in &config.tenants {
            for source in tenant.sources.keys() {
                for result in KEPT.into_iter().chain([REFUSED]) {
                    self.by_source.of(&Labels::source(name, source).with("result", result));
                }
            }
        }
    }
}

fn locked(tallies: &Mutex<Tallies>) -> MutexGuard<'_, Tallies> {
    tallies.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn i2_refusals_are_logged_once_a_second_per_tenant_source_and_cause_with_how_many_were_left_out() {
        let counters = EdgeCounters::default();
        let (acme, globex): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (shop, bank): (SourceName, SourceName) = ("shop".parse().unwrap(), "bank".parse().unwrap());
        let refused = |whose: Whose<'_>, cause, now| counters.refused(whose, cause, UnixMillis(now));
        assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", 0), Some(0));
        for at in 1..=99 {
            assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", at), None);
        }
        // A flood to one source hides no other cause, source or tenant.
        for whose in [
            Whose::Sources(&acme, &bank),
            Whose::Sources(&globex, &shop),
            Whose::Tenants(&acme),
            Whose::Nobodys,
        ] {
            assert_eq!(refused(whose, "no-match", 99), Some(0), "{whose:?}");
        }
        assert_eq!(refused(Whose::Sources(&acme, &shop), "body-too-large", 99), Some(0));
        assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", 1000), Some(99));
        assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", 2000), Some(0));

        counters.count(
            Whose::Sources(&acme, &shop),
            &Happening::Rejected(Rejection::Unauthentic),
        );
        let mut registry = registry();
        counters.register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        for line in [
            "tollgate_refused_total{cause=\"no-match\"} 106\n",
            "tollgate_source_refused_total{tenant=\"acme\",source=\"shop\",cause=\"no-match\"} 102\n",
            "tollgate_source_refused_total{tenant=\"globex\",source=\"shop\",cause=\"no-match\"} 1\n",
            "tollgate_source_refused_total{tenant=\"acme\",cause=\"no-match\"} 1\n",
            "tollgate_source_refused_total{cause=\"no-match\"} 1\n",
            "tollgate_intake_total{result=\"unauthentic\"} 1\n",
            "tollgate_intake_total{result=\"accepted\"} 0\n",
            "tollgate_source_events_total{tenant=\"acme\",source=\"shop\",result=\"refused\"} 1\n",
            "tollgate_admit_duration_seconds_count 0\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn i2_refusals_of_many_sources_together_are_a_few_lines_a_second() {
        let counters = EdgeCounters::default();
        let shop: SourceName = "shop".parse().unwrap();
        let lines = (0..500)
            .filter(|n| {
                let tenant: TenantName = format!("tenant-{n}").parse().unwrap();
                counters
                    .refused(Whose::Sources(&tenant, &shop), "no-match", UnixMillis(1_000_000))
                    .is_some()
            })
            .count();
        assert_eq!(lines, tally::LINES_BURST as usize);
    }

    #[test]
    fn every_rejection_has_its_own_counter() {
        for (at, rejection) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(rejection as usize, at);
        }
    }
}
