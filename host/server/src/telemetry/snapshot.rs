//! Gauges of one moment, read when somebody asks: what the store, the configuration and the system say.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tollgate_core::limits;

use super::series::OTHER;

/// Gauges with their values. Each has at most [`limits::METRIC_SERIES_MAX`] series.
#[derive(Debug, Default)]
pub(crate) struct Snapshot(Vec<Metric>);

#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    values: BTreeMap<Vec<(&'static str, String)>, i64>,
}

/// What the series beyond the bound come to together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    Sum,
    Greatest,
    Least,
}

impl Snapshot {
    /// Adds a gauge of the whole host.
    pub(crate) fn one(&mut self, name: &'static str, help: &'static str, value: i64) {
        let values = BTreeMap::from([(Vec::new(), value)]);
        self.0.push(Metric { name, help, values });
    }

    /// Adds a gauge with a series for each place: its labels, and its value. It is listed where there is none as well.
    pub(crate) fn each<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        beyond: Beyond,
        series: impl IntoIterator<Item = ([Option<(&'static str, String)>; N], i64)>,
    ) {
        let mut values: BTreeMap<Vec<(&'static str, String)>, i64> = BTreeMap::new();
        for (labels, value) in series {
            let mut labels: Vec<_> = labels.into_iter().flatten().collect();
            if values.len() >= limits::METRIC_SERIES_MAX && !values.contains_key(&labels) {
                labels.iter_mut().for_each(|(_, value)| OTHER.clone_into(value));
            }
            let kept = values.entry(labels).or_insert(match beyond {
                Beyond::Sum => 0,
                Beyond::Greatest => i64::MIN,
                Beyond::Least => i64::MAX,
            });
            *kept = match beyond {
                Beyond::Sum => kept.saturating_add(value),
                Beyond::Greatest => value.max(*kept),
                Beyond::Least => value.min(*kept),
            };
        }
        self.0.push(Metric { name, help, values });
    }

    /// As a registry of its own, to be written once.
    pub(crate) fn into_registry(self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        registry
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric { name, help, values } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in values {
                metric.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn o7_gauges_of_a_moment_are_bounded_and_their_labels_escaped() {
        let mut snapshot = Snapshot::default();
        snapshot.one("tollgate_jobs_waiting", "Jobs that wait.", 7);
        snapshot.each(
            "tollgate_tenant_config_stale",
            "Stale.",
            Beyond::Greatest,
            [([Some(("tenant", "a\"b\n".to_owned()))], 1)],
        );
        let many = 0..limits::METRIC_SERIES_MAX as i64 + 5;
        let labels = |n: i64| [Some(("tenant", n.to_string())), None];
        snapshot.each("tollgate_held", "Held.", Beyond::Sum, many.map(|n| (labels(n), 2)));
        snapshot.each::<1>("tollgate_nothing", "Nothing.", Beyond::Sum, []);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &snapshot.into_registry()).unwrap();
        for line in [
            "# TYPE tollgate_jobs_waiting gauge\ntollgate_jobs_waiting 7\n",
            "tollgate_tenant_config_stale{tenant=\"a\\\"b\\n\"} 1\n",
            "tollgate_held{tenant=\"3\"} 2\n",
            "tollgate_held{tenant=\"_other\"} 10\n",
            "# TYPE tollgate_nothing gauge\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
