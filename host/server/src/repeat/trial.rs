//! A trial: another version over recorded runs.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tollgate_core::difference::{Difference, Said, Tally, Tallying};
use tollgate_core::ids::{PluginDigest, RouteName, RunId, TenantName};
use tollgate_core::outcome::Fault;
use tollgate_core::state::StateWrite;
use tollgate_sandbox::Plugin;
use tollgate_store::{RecordedRun, RecordedRunFilter, StoreError};

use super::{Reading, Repeated, limits, read_back, recorded, repeat, route_of, unrepeatable};
use crate::config::Config;

/// Runs that are read, and then run, at a time.
const PAGE_RUNS: usize = 128;
/// Differing runs that a report shows one by one.
const EXAMPLES_MAX: usize = 20;

/// After how many runs of a trial the version before the candidate is run on the candidate's state: after each of the first, and then
/// after one in so many. Each costs a run, or three where it is stuck.
const READ_BACK_FIRST: u64 = 1_000;
const READ_BACK_EACH: u64 = 16;
/// Runs whose state cannot be read that a report shows one by one.
const UNREADABLE_MAX: usize = 5;

/// Gives the version that made a recorded run, or says in words why it is not to be had.
pub(crate) type Active<'a> = dyn Fn(PluginDigest) -> Result<Plugin, String> + Sync + 'a;

/// What is tried.
pub(crate) struct Trial<'a> {
    pub(crate) candidate: &'a Plugin,
    /// Run afresh instead of what was recorded.
    pub(crate) against: Option<&'a Plugin>,
    /// Who has to go on with the candidate's state after a rollback, where that is not `against`.
    pub(crate) active: &'a Active<'a>,
    /// Which recorded runs. `after` and `rows_max` are the trial's own.
    pub(crate) filter: RecordedRunFilter,
    pub(crate) runs_max: u64,
    /// Whose grants and limits count now; none when there is no configuration to ask.
    pub(crate) config: Option<&'a Config>,
    pub(crate) threads: usize,
    /// Called first by each of the threads.
    pub(crate) begin: fn(),
}

/// What a trial found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrialReport {
    pub(crate) candidate: PluginDigest,
    pub(crate) against: Option<PluginDigest>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// Recorded runs that were not compared, by why.
    pub(crate) skipped: BTreeMap<String, u64>,
    /// Some that differ, the oldest first.
    pub(crate) examples: Vec<Example>,
    /// For each route that was tried: runs and differing runs.
    pub(crate) routes: Vec<RouteTally>,
    /// Whether the version before the candidate can go on with what the candidate wrote.
    #[serde(default)]
    pub(crate) state: ReadBack,
    pub(crate) seconds: f64,
    pub(crate) threads: usize,
    /// What is left out or rounded, because the caller may not read receipts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) withheld: Vec<String>,
}

impl TrialReport {
    /// What somebody may be told who may not read receipts.
    pub(crate) fn without_receipts(mut self) -> Self {
        self.tally = self.tally.coarse();
        self.examples.clear();
        for route in &mut self.routes {
            // A trial is of one route.
            route.differing = self.tally.differing;
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RouteTally {
    pub(crate) tenant: TenantName,
    pub(crate) route: RouteName,
    pub(crate) runs: u64,
    pub(crate) differing: u64,
}

/// What became of state that the candidate wrote, when the version before it ran on it: what a rollback would meet.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReadBack {
    /// Runs after which the version before the candidate read what the candidate had written.
    pub(crate) read: u64,
    /// Runs after which it was stuck: it held the event, failed, or asked for another try, which on its own state it does not.
    pub(crate) unreadable: u64,
    /// Some of those, the oldest first.
    pub(crate) examples: Vec<Unreadable>,
    /// Why it could not be run, if so: then nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unknown: Option<String>,
}

impl ReadBack {
    fn add(&mut self, run: &RecordedRun, reading: Reading, written: &[StateWrite]) {
        match reading {
            Reading::GoesOn { keys } => self.read += u64::from(keys > 0),
            Reading::Unknown => {}
            Reading::Stuck { outcome, message } => {
                self.read += 1;
                self.unreadable += 1;
                if self.examples.len() < UNREADABLE_MAX {
                    self.examples.push(Unreadable {
                        run: run.id,
                        event_id: run.event.id.to_string(),
                        keys: written.iter().map(|write| write.key.clone()).collect(),
                        outcome,
                        message,
                    });
                }
            }
        }
    }

    fn coarse(self) -> Self {
        let up = |count: u64| count.checked_next_power_of_two().unwrap_or(u64::MAX) * u64::from(count > 0);
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
pub(crate) struct Unreadable {
    pub(crate) run: RunId,
    pub(crate) event_id: String,
    /// The keys that the candidate wrote.
    pub(crate) keys: Vec<String>,
    /// How the version before it ended on them.
    pub(crate) outcome: String,
    pub(crate) message: String,
}

/// One run that differs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Example {
    pub(crate) run: RunId,
    pub(crate) tenant: TenantName,
    pub(crate) route: RouteName,
    pub(crate) event_id: String,
    /// What the candidate said about its end, if anything.
    pub(crate) message: String,
    pub(crate) beyond_record: bool,
    pub(crate) differences: Vec<Difference>,
}

/// One recorded run, tried.
struct Tried {
    before: Said,
    after: Repeated,
    /// None where the candidate wrote nothing, or where this run is not among those that are read back.
    reading: Option<Reading>,
}

impl Trial<'_> {
    /// Runs it. Reads a page, runs the page on all threads, and so on; `seen` is told how many runs were looked at.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn run(
        &self,
        read: &impl Fn(RecordedRunFilter) -> Result<Vec<RecordedRun>, StoreError>,
        seen: &dyn Fn(u64),
    ) -> Result<TrialReport, StoreError> {
        let start = Instant::now();
        let mut tallying = Tallying::default();
        let mut skipped: BTreeMap<String, u64> = BTreeMap::new();
        let mut routes: BTreeMap<(TenantName, RouteName), (u64, u64)> = BTreeMap::new();
        let mut examples = Vec::new();
        let mut state = ReadBack::default();
        let mut before: BTreeMap<PluginDigest, Option<Plugin>> = BTreeMap::new();
        let mut filter = self.filter.clone();
        let mut looked_at = 0;
        while looked_at < self.runs_max {
            filter.rows_max = usize::try_from(self.runs_max - looked_at).map_or(PAGE_RUNS, |left| left.min(PAGE_RUNS));
            let page = read(filter.clone())?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            for run in &page {
                before
                    .entry(run.digest)
                    .or_insert_with(|| self.version_before(run.digest, &mut state));
            }
            let answers = self.page(&page, looked_at, &before);
            looked_at += page.len() as u64;
            for (run, answer) in page.iter().zip(answers) {
                let (before, after, reading) = match answer {
                    Ok(Tried { before, after, reading }) => (before, after, reading),
                    Err(why) => {
                        *skipped.entry(why.to_owned()).or_default() += 1;
                        continue;
                    }
                };
                if let Some(reading) = reading {
                    state.add(run, reading, &after.writes);
                }
                let tenant = &run.event.tenant;
                let found = tallying.add(tenant, &before, &after.said, after.beyond_record, after.micros);
                let sums = routes.entry((tenant.clone(), run.route.clone())).or_default();
                sums.0 += 1;
                sums.1 += u64::from(!found.is_empty());
                if !found.is_empty() && examples.len() < EXAMPLES_MAX {
                    examples.push(Example {
                        run: run.id,
                        tenant: tenant.clone(),
                        route: run.route.clone(),
                        event_id: run.event.id.to_string(),
                        message: after.said.message,
                        beyond_record: after.beyond_record,
                        differences: found,
                    });
                }
            }
            seen(looked_at);
        }
        let each_route = routes.into_iter();
        Ok(TrialReport {
            candidate: self.candidate.digest(),
            against: self.against.map(Plugin::digest).or(self.filter.digest),
            tally: tallying.finish(),
            skipped,
            examples,
            routes: each_route
                .map(|((tenant, route), (runs, differing))| RouteTally {
                    tenant,
                    route,
                    runs,
                    differing,
                })
                .collect(),
            state,
            seconds: start.elapsed().as_secs_f64(),
            threads: self.threads.max(1),
            withheld: Vec::new(),
        })
    }

    /// Whoever has to go on with the candidate's state. None where that is the candidate itself, or where it is not to be had.
    fn version_before(&self, recorded: PluginDigest, state: &mut ReadBack) -> Option<Plugin> {
        let digest = self.against.map_or(recorded, Plugin::digest);
        if digest == self.candidate.digest() {
            return None;
        }
        if let Some(against) = self.against {
            return Some(against.clone());
        }
        match (self.active)(digest) {
            Ok(plugin) => Some(plugin),
            Err(why) => {
                state.unknown = Some(why);
                None
            }
        }
    }

    /// Each run of a page, in its order; `first` runs came before it.
    fn page(
        &self,
        page: &[RecordedRun],
        first: u64,
        before: &BTreeMap<PluginDigest, Option<Plugin>>,
    ) -> Vec<Result<Tried, &'static str>> {
        let each: Vec<_> = (first..)
            .zip(page)
            .map(|(number, run)| {
                let is_read_back = number < READ_BACK_FIRST || number % READ_BACK_EACH == 0;
                let active = before.get(&run.digest).and_then(Option::as_ref);
                (run, active.filter(|_| is_read_back))
            })
            .collect();
        let share = page.len().div_ceil(self.threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = each
                .chunks(share)
                .map(|chunk| {
                    scope.spawn(move || {
                        (self.begin)();
                        let answers = chunk.iter().map(|(run, active)| self.one(run, *active));
                        answers.collect::<Vec<_>>()
                    })
                })
                .collect();
            let each = threads.into_iter().zip(page.chunks(share));
            each.flat_map(|(thread, chunk)| {
                // A host that fails in one run says so of its share, and goes on with the rest.
                let lost = || {
                    chunk
                        .iter()
                        .map(|_| Err("the host failed in one of the runs beside it"))
                        .collect()
                };
                thread.join().unwrap_or_else(|_| lost())
            })
            .collect()
        })
    }

    /// What the run was, or is by the version that it is held against; what it is by the candidate; and, where `active` is given, how
    /// that version goes on from there.
    fn one(&self, run: &RecordedRun, active: Option<&Plugin>) -> Result<Tried, &'static str> {
        if let Some(why) = unrepeatable(run) {
            return Err(why);
        }
        let route = self.config.and_then(|config| route_of(config, run));
        let (grants, limits) = (route.map(|route| route.grants.as_slice()), limits(route, run));
        let before = match self.against {
            Some(against) => repeat(against, run, grants, &limits).said,
            None => recorded(run),
        };
        let after = repeat(self.candidate, run, grants, &limits);
        if after.said.outcome == Fault::HostFault.as_str() {
            return Err("the host could not run the candidate on it");
        }
        let reading = active
            .filter(|_| !after.writes.is_empty())
            .map(|active| read_back(active, run, &after.writes, &limits));
        Ok(Tried { before, after, reading })
    }
}
