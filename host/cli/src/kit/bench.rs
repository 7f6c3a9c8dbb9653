//! `tollgate plugin bench`: measures what a plugin's runs cost, and how long one takes that a host has not run since it started.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tollgate_core::outcome::Outcome;
use tollgate_sandbox::{CacheDir, RunLimits};

use super::super::show::{BOLD, DIM, WARN};
use super::super::{Exit, Refused, Usage, print_json, read};
use super::project::{Limits, Named, grouped, per_cent, run as run_plugin, sandbox, size};
use super::test::{chosen, folder_of};
use super::which::Which;

/// Loads from the compiled cache that are measured.
const COLD_STARTS: usize = 20;

#[derive(clap::Args)]
#[command(
    after_help = "Times are this machine's, and a debug build's are several times a release build's. Fuel is the same everywhere."
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The folder of the fixtures; without it, `fixtures` beside the plugin
    #[arg(long, value_name = "FOLDER")]
    fixtures: Option<PathBuf>,
    /// Only fixtures whose names hold this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Runs of each fixture
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    #[command(flatten)]
    limits: Limits,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Cost {
    fixture: String,
    outcome: &'static str,
    fuel: u64,
    fuel_share: f64,
    memory_bytes: usize,
    memory_share: f64,
    us: Percentiles,
}

/// In microseconds.
#[derive(Clone, Copy, Serialize)]
struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |per_cent: usize| {
            let time = times.get((times.len() * per_cent / 100).min(times.len().saturating_sub(1)));
            time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        Self {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let bytes = read(&args.which.component()?)?;
    let folder = tempfile::tempdir().context("cannot make a folder for compiled code")?;
    let cache = args.which.cache()?.unwrap_or_else(|| CacheDir::new(folder.path()));
    let sandbox = sandbox(Some(cache))?;
    let refused = |refusal| Refused(format!("{} is refused: {refusal}", args.which.path.display()));
    let plugin = sandbox.load(&bytes).map_err(refused)?;
    let mut cold = Vec::with_capacity(COLD_STARTS);
    for _ in 0..COLD_STARTS {
        let start = Instant::now();
        let fresh = sandbox.load(&bytes).map_err(refused)?;
        let trial = fresh.trial();
        cold.push(start.elapsed());
        if let Outcome::Fault { message, .. } = trial.outcome {
            return Err(Refused(format!("an instance does not come up: {message}")).into());
        }
    }
    let cold = Percentiles::of(cold);
    let limits = args.limits.get();
    let mut costs = Vec::new();
    for named in chosen(&folder_of(&args.which, args.fixtures.as_deref())?, args.only.as_deref())? {
        costs.append(&mut measure(&plugin, &named, &limits, args.runs)?);
    }
    if args.json {
        print_json(&serde_json::json!({
            "digest": plugin.digest(),
            "component_bytes": bytes.len(),
            "cold_start_us": cold,
            "runs": args.runs,
            "fixtures": costs,
        }))?;
    } else {
        show(bytes.len(), cold, &costs, args.runs);
    }
    Ok(Exit::Yes)
}

/// What each event of a fixture costs, over the state that those before it left.
fn measure(
    plugin: &tollgate_sandbox::Plugin,
    named: &Named,
    limits: &RunLimits,
    runs: u32,
) -> anyhow::Result<Vec<Cost>> {
    let series = named
        .series
        .as_ref()
        .map_err(|error| Usage(format!("{}: {error}", named.path.display())))?;
    let mut at = 0..;
    Ok(series.play(|fixture| {
        let first = run_plugin(plugin, fixture, limits);
        let times = (0..runs).map(|_| run_plugin(plugin, fixture, limits).duration);
        let cost = Cost {
            fixture: series.name(&named.name, at.next().unwrap_or_default()),
            outcome: first.outcome.name(),
            fuel: first.fuel,
            fuel_share: first.fuel as f64 / limits.fuel.max(1) as f64,
            memory_bytes: first.memory_bytes,
            memory_share: first.memory_bytes as f64 / limits.memory_bytes_max.max(1) as f64,
            us: Percentiles::of(times.collect()),
        };
        (cost, first.writes)
    }))
}

fn show(component_bytes: usize, cold: Percentiles, costs: &[Cost], runs: u32) {
    anstream::println!(
        "component {}; from the compiled cache to an instance: {DIM}p50{DIM:#} {} µs  {DIM}max{DIM:#} {} µs\n",
        size(component_bytes),
        cold.p50,
        cold.max
    );
    let width = costs.iter().map(|cost| cost.fixture.chars().count()).max().unwrap_or(0);
    for cost in costs {
        let Percentiles { p50, p90, p99, max } = cost.us;
        anstream::println!(
            "  {BOLD}{:width$}{BOLD:#}  {:10} {DIM}fuel{DIM:#} {:>10} ({})  {DIM}memory{DIM:#} {} ({:.1} %)  \
             {DIM}µs p50{DIM:#} {p50}  {DIM}p90{DIM:#} {p90}  {DIM}p99{DIM:#} {p99}  {DIM}max{DIM:#} {max}",
            cost.fixture,
            cost.outcome,
            grouped(cost.fuel),
            per_cent((cost.fuel_share * 1e6) as u64, 1_000_000),
            size(cost.memory_bytes),
            cost.memory_share * 100.0,
        );
    }
    anstream::println!("\n{DIM}{runs} runs each, one after the other{DIM:#}");
    if cfg!(debug_assertions) {
        anstream::println!("{WARN}this is a debug build of tollgate: its times are not a host's{WARN:#}");
    }
}
