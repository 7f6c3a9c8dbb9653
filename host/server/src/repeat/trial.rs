//! A trial: another version over recorded runs.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tollgate_core::difference::{Difference, Said, Tally, Tallying};
use tollgate_core::ids::{PluginDigest, RouteName, RunId, TenantName};
use tollgate_core::outcome::Fault;
use tollgate_sandbox::Plugin;
use tollgate_store::{RecordedRun, RecordedRunFilter, StoreError};

use super::{Repeated, limits, recorded, repeat, route_of, unrepeatable};
use crate::config::Config;

/// Runs that are read, and then run, at a time.
const PAGE_RUNS: usize = 128;
/// Differing runs that a report shows one by one.
const EXAMPLES_MAX: usize = 20;

/// What is tried.
pub(crate) struct Trial<'a> {
    pub(crate) candidate: &'a Plugin,
    /// Run afresh instead of what was recorded.
    pub(crate) against: Option<&'a Plugin>,
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
        self.seconds = 0.0;
        self.withheld = [
            "money",
            "fuel_before",
            "fuel_after",
            "micros_after",
            "seconds",
            "examples",
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
        let mut filter = self.filter.clone();
        let mut looked_at = 0;
        while looked_at < self.runs_max {
            filter.rows_max = usize::try_from(self.runs_max - looked_at).map_or(PAGE_RUNS, |left| left.min(PAGE_RUNS));
            let page = read(filter.clone())?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            looked_at += page.len() as u64;
            for (run, repeated) in page.iter().zip(self.page(&page)) {
                let (before, after) = match repeated {
                    Ok(both) => both,
                    Err(why) => {
                        *skipped.entry(why.to_owned()).or_default() += 1;
                        continue;
                    }
                };
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
            seconds: start.elapsed().as_secs_f64(),
            threads: self.threads.max(1),
            withheld: Vec::new(),
        })
    }

    /// Each run of a page, in its order.
    fn page(&self, page: &[RecordedRun]) -> Vec<Result<(Said, Repeated), &'static str>> {
        let share = page.len().div_ceil(self.threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = page
                .chunks(share)
                .map(|chunk| {
                    scope.spawn(move || {
                        (self.begin)();
                        chunk.iter().map(|run| self.one(run)).collect::<Vec<_>>()
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

    /// What the run was, or is by the version that it is held against, and what it is by the candidate.
    fn one(&self, run: &RecordedRun) -> Result<(Said, Repeated), &'static str> {
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
        Ok((before, after))
    }
}
