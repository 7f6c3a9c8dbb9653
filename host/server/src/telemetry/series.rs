//! The series of a metric, told apart by names of the configuration, and bounded in number.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use tollgate_core::ids::{DestinationName, RouteName, SourceName, TenantName};
use tollgate_core::limits;

/// Stands for all names that have no series of their own, because a metric has as many as it may. No name begins with `_`.
pub(super) const OTHER: &str = "_other";

/// Whose a series is, where, and of what kind. What is absent is no label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Labels {
    tenant: Option<Name<TenantName>>,
    place: Option<Place>,
    /// A label's name and its value. Both are words of the code.
    kind: Option<(&'static str, &'static str)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name<T> {
    Own(T),
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Source(Name<SourceName>),
    Route(Name<RouteName>),
    Destination(Name<DestinationName>),
}

impl Labels {
    pub(crate) fn tenant(tenant: &TenantName) -> Self {
        Self {
            tenant: Some(Name::Own(tenant.clone())),
            ..Self::default()
        }
    }

    pub(crate) fn source(tenant: &TenantName, source: &SourceName) -> Self {
        Self {
            place: Some(Place::Source(Name::Own(source.clone()))),
            ..Self::tenant(tenant)
        }
    }

    pub(crate) fn route(tenant: &TenantName, route: &RouteName) -> Self {
        Self {
            place: Some(Place::Route(Name::Own(route.clone()))),
            ..Self::tenant(tenant)
        }
    }

    pub(crate) fn destination(tenant: &TenantName, destination: &DestinationName) -> Self {
        Self {
            place: Some(Place::Destination(Name::Own(destination.clone()))),
            ..Self::tenant(tenant)
        }
    }

    /// With one label more.
    pub(crate) fn with(self, name: &'static str, value: &'static str) -> Self {
        Self {
            kind: Some((name, value)),
            ..self
        }
    }

    /// The series that these share with all others that have none of their own.
    fn of_others(&self) -> Self {
        Self {
            tenant: self.tenant.as_ref().map(|_| Name::Other),
            place: self.place.as_ref().map(|place| match place {
                Place::Source(_) => Place::Source(Name::Other),
                Place::Route(_) => Place::Route(Name::Other),
                Place::Destination(_) => Place::Destination(Name::Other),
            }),
            kind: self.kind,
        }
    }
}

impl<T> Name<T> {
    fn shown(&self, own: impl FnOnce(&T) -> &str) -> &str {
        match self {
            Self::Own(name) => own(name),
            Self::Other => OTHER,
        }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        if let Some(tenant) = &self.tenant {
            ("tenant", tenant.shown(TenantName::as_str)).encode(encoder.encode_label())?;
        }
        if let Some(place) = &self.place {
            let label = match place {
                Place::Source(name) => ("source", name.shown(SourceName::as_str)),
                Place::Route(name) => ("route", name.shown(RouteName::as_str)),
                Place::Destination(name) => ("destination", name.shown(DestinationName::as_str)),
            };
            label.encode(encoder.encode_label())?;
        }
        if let Some(kind) = &self.kind {
            kind.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// The series of one metric. The first of them, up to a bound, have their own names; further ones are counted together, under names
/// that are `_other`. Cheap to ask: one look under a lock that nobody holds for long.
#[derive(Debug)]
pub(crate) struct Series<M> {
    family: Family<Labels, M, fn() -> M>,
    own: Mutex<usize>,
    own_max: usize,
}

impl Series<Counter> {
    pub(crate) fn counters() -> Self {
        Self::new(Counter::default, limits::METRIC_SERIES_MAX)
    }
}

impl Series<Gauge> {
    pub(crate) fn gauges() -> Self {
        Self::new(Gauge::default, limits::METRIC_SERIES_MAX)
    }
}

impl Series<Histogram> {
    pub(crate) fn durations() -> Self {
        Self::new(duration, limits::METRIC_HISTOGRAMS_MAX)
    }
}

impl<M: Clone> Series<M> {
    fn new(make: fn() -> M, own_max: usize) -> Self {
        Self {
            family: Family::new_with_constructor(make),
            own: Mutex::new(0),
            own_max,
        }
    }

    /// The series of these labels. It is there from now on, if only with a zero.
    pub(crate) fn of(&self, labels: &Labels) -> M {
        if let Some(series) = self.family.get(labels).map(|series| M::clone(&series)) {
            return series;
        }
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = self.family.get(labels).map(|series| M::clone(&series)) {
            return series;
        }
        if *own >= self.own_max {
            return self.family.get_or_create_owned(&labels.of_others());
        }
        *own += 1;
        self.family.get_or_create_owned(labels)
    }

    /// Leaves a series out from now on, and makes room for another.
    pub(crate) fn forget(&self, labels: &Labels) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if self.family.remove(labels) {
            *own -= 1;
        }
    }
}

impl<M> Series<M>
where
    M: EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static,
{
    /// Lists the metric. `name` is without the host's prefix, and a counter's without `_total`; `help` without a stop.
    pub(crate) fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, Listed(self.family.clone()));
    }
}

/// A family that is listed while it has no series, too: who looks for its name finds it.
#[derive(Debug)]
struct Listed<M>(Family<Labels, M, fn() -> M>);

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Listed<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// How long something took, in seconds: half a millisecond to a minute, each bucket about three times the one before.
pub(crate) fn duration() -> Histogram {
    const BUCKETS_S: [f64; 11] = [0.0005, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
    Histogram::new(BUCKETS_S)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn o7_what_is_beyond_a_metric_s_bound_is_counted_together_as_other() {
        let series = Series::<Counter>::new(Counter::default, 2);
        let labels = |tenant: &str| {
            let (tenant, shop) = (tenant.parse().unwrap(), "shop".parse().unwrap());
            Labels::source(&tenant, &shop).with("cause", "no-match")
        };
        for tenant in ["a", "b", "c", "d", "a", "c"] {
            series.of(&labels(tenant)).inc();
        }
        let text = |series: &Series<Counter>| {
            let mut registry = Registry::with_prefix("tollgate");
            series.register(&mut registry, "refused", "Refused");
            let mut text = String::new();
            prometheus_text::encode(&mut text, &registry).unwrap();
            let mut lines: Vec<_> = text
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(
            text(&series),
            [
                "tollgate_refused_total{tenant=\"_other\",source=\"_other\",cause=\"no-match\"} 3",
                "tollgate_refused_total{tenant=\"a\",source=\"shop\",cause=\"no-match\"} 2",
                "tollgate_refused_total{tenant=\"b\",source=\"shop\",cause=\"no-match\"} 1",
            ]
        );
        // What goes makes room.
        series.forget(&labels("a"));
        series.of(&labels("e")).inc();
        assert_eq!(text(&series).len(), 3);
        assert!(text(&series)[2].contains("tenant=\"e\""), "{:?}", text(&series));
    }
}
