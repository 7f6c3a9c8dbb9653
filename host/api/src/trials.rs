//! Trials on the host itself: they run a candidate over a route's recorded runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_core::difference::{Difference, Tally};
use tollgate_core::ids::{PluginDigest, RouteName, RunId, TenantName};

/// What is tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrialBody {
    /// The candidate: a digest, digits of one, or name@version.
    pub plugin: String,
    /// Runs that started at or after this instant (RFC 3339); without, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// At most this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_max: Option<u64>,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// What a trial found.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TrialReport {
    /// The version that was tried.
    pub candidate: PluginDigest,
    /// The version that it was compared with; null where that was what was recorded.
    pub against: Option<PluginDigest>,
    /// What the comparison found.
    #[serde(flatten)]
    pub tally: Tally,
    /// How many recorded runs were not compared, by the reason.
    pub skipped: BTreeMap<String, u64>,
    /// Some that differ, the oldest first.
    pub examples: Vec<Example>,
    /// For each route that was tried: runs and differing runs.
    pub routes: Vec<RouteTally>,
    /// Whether the version before the candidate can go on with what the candidate wrote.
    #[serde(default)]
    pub state: ReadBack,
    /// How long the trial took.
    pub seconds: f64,
    /// How many threads it used.
    pub threads: usize,
    /// What is left out or rounded, because the caller may not read receipts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
}

impl TrialReport {
    /// What somebody may be told who may not read receipts.
    #[must_use]
    pub fn without_receipts(mut self) -> Self {
        self.tally = self.tally.coarse();
        self.examples.clear();
        for route in &mut self.routes {
            // A trial on a host covers one route.
            route.differing = self.tally.differing;
            route.over_budget = up(route.over_budget);
            route.over_budget_before = up(route.over_budget_before);
        }
        self.state = self.state.coarse();
        self.seconds = 0.0;
        self.withheld = [
            "money",
            "fuel_before",
            "fuel_after",
            "micros_after",
            "seconds",
            "examples",
            "state.examples",
        ]
        .map(str::to_owned)
        .into();
        self
    }
}

/// What a trial found on one route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct RouteTally {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route.
    pub route: RouteName,
    /// Runs that were compared.
    pub runs: u64,
    /// Of those, how many differ in meaning.
    pub differing: u64,
    /// How many of the candidate's runs the route's budgets would have held, had they been settled one after the other from whole budgets on.
    #[serde(default)]
    pub over_budget: u64,
    /// The same of the runs that they are compared with.
    #[serde(default)]
    pub over_budget_before: u64,
}

/// What became of state that the candidate wrote, when the version before it ran on it: what a rollback would meet.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReadBack {
    /// Runs after which the version before the candidate read what the candidate had written.
    pub read: u64,
    /// Runs after which it was stuck: it held the event, failed, or asked for another try, which on its own state it does not.
    pub unreadable: u64,
    /// Some of those, the oldest first.
    pub examples: Vec<Unreadable>,
    /// Why it could not be run, if so: then nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// A count rounded up to a power of two.
fn up(count: u64) -> u64 {
    count.checked_next_power_of_two().unwrap_or(u64::MAX) * u64::from(count > 0)
}

impl ReadBack {
    fn coarse(self) -> Self {
        Self {
            read: up(self.read),
            unreadable: up(self.unreadable),
            examples: Vec::new(),
            unknown: self.unknown,
        }
    }
}

/// A run after which the version before the candidate was stuck.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Unreadable {
    /// The recorded run.
    pub run: RunId,
    /// The provider's id of its event.
    pub event_id: String,
    /// The keys that the candidate wrote.
    pub keys: Vec<String>,
    /// How the version before it ended on them.
    pub outcome: String,
    /// What that version said about its end.
    pub message: String,
}

/// One run that differs.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Example {
    /// The recorded run.
    pub run: RunId,
    /// Whose it is.
    pub tenant: TenantName,
    /// The route that it is on.
    pub route: RouteName,
    /// The provider's id of its event.
    pub event_id: String,
    /// What the candidate said about its end, if anything.
    pub message: String,
    /// Whether the candidate read state that the recorded run had not read.
    pub beyond_record: bool,
    /// What differs.
    pub differences: Vec<Difference>,
}
