//! Runs another version over recorded runs, and says what it does otherwise: a trial.

use std::collections::BTreeMap;
use std::time::Instant;

use tollgate_api::trials::{Example, ReadBack, RouteTally, TrialReport, Unreadable};
use tollgate_core::budget::{self, Budget};
use tollgate_core::difference::{Said, Tallying};
use tollgate_core::grant;
use tollgate_core::ids::{PluginDigest, RouteName, TenantName};
use tollgate_core::outcome::Fault;
use tollgate_core::state::StateWrite;
use tollgate_core::time::UnixMillis;
use tollgate_sandbox::Plugin;
use tollgate_store::{RecordedRun, RecordedRunFilter, StoreError};

use super::{Reading, Repeated, limits, read_back, recorded, repeat, route_of, unrepeatable};
use crate::config::{Config, Route};

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
pub(super) type Active<'a> = dyn Fn(PluginDigest) -> Result<Plugin, String> + Sync + 'a;

/// What is tried.
pub struct Trial<'a> {
    /// The version that is tried.
    pub candidate: &'a Plugin,
    /// Run afresh instead of what was recorded.
    pub against: Option<&'a Plugin>,
    /// Who has to go on with the candidate's state after a rollback, where that is not `against`.
    pub active: &'a Active<'a>,
    /// Which recorded runs. `after` and `rows_max` are the trial's own.
    pub filter: RecordedRunFilter,
    /// The most recorded runs that are looked at.
    pub runs_max: u64,
    /// Whose grants and limits count now; none when there is no configuration to ask.
    pub config: Option<&'a Config>,
    /// How many threads run plugins; at least 1.
    pub threads: usize,
    /// Called first by each of the threads.
    pub begin: fn(),
}

/// Counts how the version before the candidate went on after a run.
fn add(state: &mut ReadBack, run: &RecordedRun, reading: Reading, written: &[StateWrite]) {
    match reading {
        Reading::GoesOn { keys } => state.read += u64::from(keys > 0),
        Reading::Unknown => {}
        Reading::Stuck { outcome, message } => {
            state.read += 1;
            state.unreadable += 1;
            if state.examples.len() < UNREADABLE_MAX {
                state.examples.push(Unreadable {
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

/// What a trial found on one route so far.
struct OfRoute {
    budgets: Vec<Budget>,
    runs: u64,
    differing: u64,
    before: budget::Tally,
    after: budget::Tally,
    over_budget_before: u64,
    over_budget: u64,
}

impl OfRoute {
    /// `route` is none where it is not there any more: then nothing bounds it.
    fn of(route: Option<&Route>) -> Self {
        Self {
            budgets: route
                .map(|route| grant::bounding(&route.grants, |_| true))
                .unwrap_or_default(),
            runs: 0,
            differing: 0,
            before: budget::Tally::default(),
            after: budget::Tally::default(),
            over_budget_before: 0,
            over_budget: 0,
        }
    }

    fn add(&mut self, differs: bool, before: &Said, after: &Said, at: UnixMillis) {
        self.runs += 1;
        self.differing += u64::from(differs);
        let over = self.before.add(&self.budgets, &before.actions, at);
        self.over_budget_before += u64::from(over.is_some());
        let over = self.after.add(&self.budgets, &after.actions, at);
        self.over_budget += u64::from(over.is_some());
    }
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
    pub fn run(
        &self,
        read: &impl Fn(RecordedRunFilter) -> Result<Vec<RecordedRun>, StoreError>,
        seen: &dyn Fn(u64),
    ) -> Result<TrialReport, StoreError> {
        let start = Instant::now();
        let mut tallying = Tallying::default();
        let mut skipped: BTreeMap<String, u64> = BTreeMap::new();
        let mut routes: BTreeMap<(TenantName, RouteName), OfRoute> = BTreeMap::new();
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
                    add(&mut state, run, reading, &after.writes);
                }
                let tenant = &run.event.tenant;
                let found = tallying.add(tenant, &before, &after.said, after.beyond_record, after.micros);
                let of_route = routes
                    .entry((tenant.clone(), run.route.clone()))
                    .or_insert_with(|| OfRoute::of(self.config.and_then(|config| route_of(config, run))));
                of_route.add(!found.is_empty(), &before, &after.said, run.started_at);
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
                .map(|((tenant, route), of)| RouteTally {
                    tenant,
                    route,
                    runs: of.runs,
                    differing: of.differing,
                    over_budget: of.over_budget,
                    over_budget_before: of.over_budget_before,
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
        let chunk = page.len().div_ceil(self.threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = each
                .chunks(chunk)
                .map(|chunk| {
                    scope.spawn(move || {
                        (self.begin)();
                        let answers = chunk.iter().map(|(run, active)| self.one(run, *active));
                        answers.collect::<Vec<_>>()
                    })
                })
                .collect();
            let each = threads.into_iter().zip(page.chunks(chunk));
            each.flat_map(|(thread, chunk)| {
                // A host that fails in one run says so of its chunk, and goes on with the rest.
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
