//! `tollgate plugin replay`, `trial` and `proof`: run recorded runs again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tollgate_api::trials::{ReadBack, TrialBody, TrialReport};
use tollgate_core::difference::{Difference, MoneyLine, differences};
use tollgate_core::ids::{PluginDigest, RunId};
use tollgate_core::mask;
use tollgate_core::money::{Currency, Money};
use tollgate_core::time::UnixMillis;
use tollgate_sandbox::{Plugin, RUNTIME, Sandbox};
use tollgate_store::{RecordedRun, RecordedRunFilter, StoreError, Views as _};

use super::{Exit, Target, Usage, ask, print_json, registry, show};
use tollgate_server::clock;
use tollgate_server::config::{self, Config};
use tollgate_server::repeat::{Components, Trial, limits, recorded, repeat, route_of, unrepeatable};
use tollgate_server::store::{self, HostStore};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Run a recorded run again, and prove that it comes to the same actions and fuel; exit status 1 when it does not
    Replay {
        #[command(flatten)]
        target: Target,
        /// For example run_42 (`tollgate trace` shows them)
        run: String,
    },
    /// Run another version over recorded runs, without effects, and say what it would have done otherwise, and whether the version
    /// before it could go on with the state that it writes; exit status 1 when it does anything otherwise, or it could not
    Trial {
        #[command(flatten)]
        target: Target,
        /// The candidate: a component (.wasm), or the digest of one that the host has; with --keep also name@version
        candidate: String,
        /// Hold it against this version: a digest takes the runs recorded of it, a component runs beside the candidate. Without,
        /// whatever was recorded
        #[arg(long, value_name = "VERSION")]
        against: Option<String>,
        /// Runs since then: 90m, 36h, 7d, or an instant (RFC 3339)
        #[arg(long, default_value = "7d")]
        since: String,
        #[command(flatten)]
        narrowed: Narrowed,
        /// At most this many runs
        #[arg(long, default_value_t = 1_000_000)]
        limit: u64,
        /// Threads that run plugins; without, one per core
        #[arg(long)]
        threads: Option<usize>,
        /// Have the running host do it, against the version that is active on the route now, and keep the result as evidence for a
        /// promotion; needs --tenant and --route, and works with --url
        #[arg(long, conflicts_with_all = ["against", "threads"])]
        keep: bool,
    },
    /// Run the newest recorded runs of every version again, for example after an upgrade of the runtime; exit status 1 when any
    /// comes out otherwise
    Proof {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        narrowed: Narrowed,
        /// Runs since then: 90m, 36h, 7d, or an instant (RFC 3339)
        #[arg(long, default_value = "7d")]
        since: String,
        /// So many runs of each version, the newest
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
}

#[derive(clap::Args)]
pub(super) struct Narrowed {
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// Only of this route
    #[arg(long)]
    route: Option<String>,
    /// Only of the plugin of this name
    #[arg(long)]
    plugin: Option<String>,
}

impl Narrowed {
    fn filter(&self, since: &str) -> Result<RecordedRunFilter, Usage> {
        fn name<T: std::str::FromStr<Err: std::fmt::Display>>(
            flag: &str,
            text: Option<&String>,
        ) -> Result<Option<T>, Usage> {
            text.map(|text| text.parse().map_err(|error| Usage(format!("--{flag}: {error}"))))
                .transpose()
        }
        Ok(RecordedRunFilter {
            tenant: name("tenant", self.tenant.as_ref())?,
            route: name("route", self.route.as_ref())?,
            plugin: name("plugin", self.plugin.as_ref())?,
            since: Some(instant(since, clock::now())?),
            ..RecordedRunFilter::default()
        })
    }
}

/// How long ago, or when.
fn instant(text: &str, now: UnixMillis) -> Result<UnixMillis, Usage> {
    let wrong = || {
        Usage(format!(
            "--since: `{text}` is neither like 90m, 36h or 7d nor an instant (RFC 3339)"
        ))
    };
    let (number, unit) = text.split_at(
        text.len()
            .saturating_sub(text.chars().next_back().map_or(0, char::len_utf8)),
    );
    let minutes: Option<i64> = match unit {
        "m" => Some(1),
        "h" => Some(60),
        "d" => Some(24 * 60),
        _ => None,
    };
    match minutes {
        Some(minutes) => number
            .parse::<u32>()
            .map(|count| UnixMillis(now.0 - i64::from(count) * minutes * 60_000))
            .map_err(|_| wrong()),
        None => UnixMillis::from_rfc3339(text).ok_or_else(wrong),
    }
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Replay { target, run } => replay(&target, &run),
        Command::Trial {
            target,
            candidate,
            against,
            since,
            narrowed,
            limit,
            threads,
            keep,
        } => {
            if keep {
                return kept_trial(&target, candidate, &since, &narrowed, limit);
            }
            let filter = narrowed.filter(&since)?;
            let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            trial(&target, &candidate, against.as_deref(), filter, limit, threads)
        }
        Command::Proof {
            target,
            narrowed,
            since,
            runs,
        } => proof(&target, narrowed.filter(&since)?, runs),
    }
}

/// The store that is read, and what runs plugins beside the host that may be using it.
struct Bench {
    config: Config,
    store: HostStore,
    sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn open(target: &Target) -> anyhow::Result<Self> {
        if target.spin.is_some() || target.url.is_some() {
            let why = "recorded runs are run again beside the store: use --config on the host's machine";
            return Err(Usage(why.to_owned()).into());
        }
        let config = config::load(&target.config)?;
        let (store, runtime) = (store::open_read_only(&config.store)?, ask::runtime()?);
        Ok(Self {
            config: runtime.block_on(tollgate_server::registry::with_settings(&store, &config))?,
            sandbox: tollgate_server::serve::sandbox(&config)?,
            runtime,
            store,
        })
    }

    fn read(&self, filter: RecordedRunFilter) -> Result<Vec<RecordedRun>, StoreError> {
        self.runtime.block_on(self.store.recorded_runs(filter))
    }

    fn components(&self) -> Components<'_, HostStore> {
        Components::new(&self.store, Some(&self.config), &self.sandbox, &self.runtime)
    }

    /// A version as people name it: a file or a digest.
    fn version(&self, named: &str) -> anyhow::Result<Plugin> {
        match named.parse::<PluginDigest>() {
            Ok(digest) => self.components().get(digest).map_err(anyhow::Error::msg),
            Err(_) => {
                let path = PathBuf::from(named);
                let bytes = std::fs::read(&path)
                    .map_err(|error| Usage(format!("`{named}` is no digest, and cannot be read as a file: {error}")))?;
                let plugin = self.sandbox.load(&bytes);
                plugin.with_context(|| format!("{} was refused", path.display()))
            }
        }
    }
}

/// A recorded run and its repetition.
#[derive(Serialize)]
struct Replayed {
    run: RunId,
    digest: PluginDigest,
    same: bool,
    differences: Vec<Difference>,
    message_before: String,
    message_after: String,
    fuel_before: u64,
    fuel_after: u64,
    runtime_before: String,
    runtime_after: &'static str,
    beyond_record: bool,
}

impl Replayed {
    /// Whether meaning, words and, on the same runtime, fuel are the same, and nothing was read that the record does not have.
    fn of(config: &Config, plugin: &Plugin, run: &RecordedRun) -> Self {
        let route = route_of(config, run);
        // What was recorded was granted; only a refusal of the grants needs them again.
        let refused = run.outcome == tollgate_core::outcome::Fault::InvalidOutput.as_str();
        let grants = route.filter(|_| refused).map(|route| route.grants.as_slice());
        let again = repeat(plugin, run, grants, &limits(route, run));
        let before = recorded(run);
        let differences = differences(&before, &again.said);
        let same_runtime = run.runtime == RUNTIME;
        let same = differences.is_empty()
            && !again.beyond_record
            && before.message == again.said.message
            && (!same_runtime || before.fuel == again.said.fuel);
        Self {
            run: run.id,
            digest: run.digest,
            same,
            differences,
            message_before: before.message,
            message_after: again.said.message,
            fuel_before: before.fuel,
            fuel_after: again.said.fuel,
            runtime_before: run.runtime.clone(),
            runtime_after: RUNTIME,
            beyond_record: again.beyond_record,
        }
    }

    fn show(&self) {
        let (good, bad, dim) = (show::GOOD, show::BAD, show::DIM);
        if self.same {
            anstream::println!("{good}same{good:#}  {}", self.run);
        } else {
            anstream::println!("{bad}differs{bad:#}  {}", self.run);
        }
        for difference in &self.differences {
            anstream::println!("  {}", mask::shown(&difference.to_string()));
        }
        if self.message_before != self.message_after {
            let (before, after) = (mask::shown(&self.message_before), mask::shown(&self.message_after));
            anstream::println!("  it said `{before}`, and now `{after}`");
        }
        if self.beyond_record {
            anstream::println!("  it read state that the recorded run had not read");
        }
        let runtimes = if self.runtime_before == self.runtime_after {
            self.runtime_before.clone()
        } else {
            format!(
                "{} then, {} now: fuel is not compared",
                self.runtime_before, self.runtime_after
            )
        };
        anstream::println!(
            "  {dim}fuel{dim:#} {} then, {} now  {dim}{runtimes}{dim:#}",
            self.fuel_before,
            self.fuel_after
        );
    }
}

fn replay(target: &Target, id: &str) -> anyhow::Result<Exit> {
    let id: RunId = id.parse().map_err(|error| Usage(format!("{error}")))?;
    let bench = Bench::open(target)?;
    let filter = RecordedRunFilter {
        run: Some(id),
        rows_max: 1,
        ..RecordedRunFilter::default()
    };
    let Some(run) = bench.read(filter)?.pop() else {
        anstream::eprintln!("there is no {id}");
        return Ok(Exit::No);
    };
    if let Some(why) = unrepeatable(&run) {
        anyhow::bail!("{id} cannot be repeated: {why}");
    }
    let plugin = bench.components().get(run.digest).map_err(anyhow::Error::msg)?;
    let replayed = Replayed::of(&bench.config, &plugin, &run);
    if target.json {
        print_json(&replayed)?;
    } else {
        replayed.show();
    }
    Ok(if replayed.same { Exit::Yes } else { Exit::No })
}

/// On a terminal, how far it is; without one, nothing.
fn progress(json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} runs  {per_sec}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn trial(
    target: &Target,
    candidate: &str,
    against: Option<&str>,
    mut filter: RecordedRunFilter,
    runs_max: u64,
    threads: usize,
) -> anyhow::Result<Exit> {
    let bench = Bench::open(target)?;
    let candidate = bench.version(candidate)?;
    let beside = match against.map(|named| (named, named.parse::<PluginDigest>())) {
        Some((_, Ok(digest))) => {
            filter.digest = Some(digest);
            None
        }
        Some((file, Err(_))) => Some(bench.version(file)?),
        None => None,
    };
    if filter.plugin.is_none() && filter.route.is_none() && filter.digest.is_none() {
        // A cashback plugin has nothing to say to an inventory's runs.
        filter.plugin = candidate.manifest().map(|manifest| manifest.name.clone());
    }
    let bar = progress(target.json);
    let trial = Trial {
        candidate: &candidate,
        against: beside.as_ref(),
        active: &|digest| bench.components().get(digest),
        filter,
        runs_max,
        config: Some(&bench.config),
        threads,
        begin: || {},
    };
    let report = trial.run(&|filter| bench.read(filter), &|seen| bar.set_position(seen))?;
    bar.finish_and_clear();
    if target.json {
        print_json(&report)?;
    } else {
        show_trial(&report);
    }
    Ok(tried(&report))
}

fn tried(report: &TrialReport) -> Exit {
    if report.tally.differing == 0 && report.state.unreadable == 0 {
        Exit::Yes
    } else {
        Exit::No
    }
}

/// A trial on the running host.
fn kept_trial(target: &Target, plugin: String, since: &str, on: &Narrowed, limit: u64) -> anyhow::Result<Exit> {
    let (Some(tenant), Some(route)) = (&on.tenant, &on.route) else {
        return Err(Usage("--keep needs the route: name it with --tenant and --route".to_owned()).into());
    };
    let body = TrialBody {
        plugin,
        since: Some(instant(since, clock::now())?.to_string()),
        runs_max: Some(limit),
        actor: ask::actor(),
    };
    let report = registry::trial(target, tenant, route, &body)?;
    if target.json {
        print_json(&report)?;
    } else {
        show_trial(&report);
    }
    Ok(tried(&report))
}

/// Says what a rollback would meet.
fn show_read_back(state: &ReadBack) {
    let (bad, dim) = (show::BAD, show::DIM);
    if let Some(why) = &state.unknown {
        anstream::println!(
            "  {dim}state{dim:#}  whether the version before it reads what it wrote is not known: {}",
            mask::line(why, 200)
        );
    }
    if state.unreadable == 0 {
        if state.read > 0 {
            anstream::println!(
                "  {dim}state{dim:#}  the version before it read what it wrote, after {} runs",
                state.read
            );
        }
        return;
    }
    anstream::println!(
        "  {bad}state{bad:#}  the version before it cannot go on with what it wrote, after {} of {} runs: a rollback would leave \
         those customers' events held or failed",
        state.unreadable,
        state.read
    );
    for example in &state.examples {
        anstream::println!(
            "    {}  {}  it wrote {}; the version before it then ended {}: {}",
            example.run,
            mask::line(&example.event_id, 80),
            mask::line(&example.keys.join(", "), 120),
            example.outcome,
            mask::line(&example.message, 200)
        );
    }
}

fn show_trial(report: &TrialReport) {
    let (good, bad, dim) = (show::GOOD, show::BAD, show::DIM);
    let tally = &report.tally;
    let verdict = match (tally.runs, tally.differing) {
        (0, _) => format!("{dim}no recorded runs{dim:#}"),
        (_, 0) => format!("{good}no difference{good:#}"),
        (_, some) => format!("{bad}{some} differ{bad:#}"),
    };
    anstream::println!("{verdict}  in {} runs, candidate {}", tally.runs, report.candidate);
    for (count, why) in report.skipped.iter().map(|(why, count)| (count, why)) {
        anstream::println!("  {dim}skipped{dim:#}  {count}: {why}");
    }
    if tally.beyond_record > 0 {
        anstream::println!(
            "  {} read state that was not recorded; it was absent for them",
            tally.beyond_record
        );
    }
    let changes = [
        ("+ added", &tally.actions_added),
        ("- removed", &tally.actions_removed),
        ("~ changed", &tally.actions_changed),
    ];
    for (name, counts) in changes {
        for (kind, count) in counts {
            anstream::println!("  {name:10} {count} × {kind}");
        }
    }
    for (change, count) in &tally.outcomes_changed {
        anstream::println!("  {:10} {count} × {change}", "ended");
    }
    for line in &tally.money {
        let mark = if line.before == line.after { "  " } else { "≠ " };
        anstream::println!("  {mark}{}  {}  {}", line.tenant, line.kind, moved(line));
    }
    for route in &report.routes {
        if route.over_budget + route.over_budget_before > 0 {
            let warn = show::WARN;
            let times = |count: u64| match count {
                1 => "once".to_owned(),
                count => format!("{count} times"),
            };
            anstream::println!(
                "  {warn}budgets{warn:#}  {}/{} would have been held {} (before: {})",
                route.tenant,
                route.route,
                times(route.over_budget),
                times(route.over_budget_before)
            );
        }
    }
    show_read_back(&report.state);
    if !report.withheld.is_empty() {
        let withheld = report.withheld.join(", ");
        return anstream::println!(
            "  {dim}your token may not read receipts: counts are rounded up to a power of two; withheld: {withheld}{dim:#}"
        );
    }
    let (before, after) = (&tally.fuel_before, &tally.fuel_after);
    anstream::println!(
        "  {dim}fuel{dim:#}  p50 {} → {}, p99 {} → {}, most {} → {}",
        before.p50,
        after.p50,
        before.p99,
        after.p99,
        before.max,
        after.max
    );
    let (time, rate) = (&tally.micros_after, tally.runs as f64 / report.seconds.max(1e-9));
    anstream::println!(
        "  {dim}time{dim:#}  p50 {} µs, p99 {} µs, most {} µs; {rate:.0} runs/s on {} threads",
        time.p50,
        time.p99,
        time.max,
        report.threads
    );
    for example in &report.examples {
        anstream::println!(
            "{}  {}/{}  {}",
            example.run,
            example.tenant,
            example.route,
            mask::shown(&example.event_id.to_string())
        );
        for difference in &example.differences {
            anstream::println!("  {}", mask::shown(&difference.to_string()));
        }
        if !example.message.is_empty() {
            anstream::println!("  {dim}it said{dim:#} {}", mask::shown(&example.message));
        }
    }
    let shown = report.examples.len() as u64;
    if tally.differing > shown {
        anstream::println!("{dim}and {} more{dim:#}", tally.differing - shown);
    }
}

/// What a line of money was, is, and how much that differs: `12.50 USD → 13.00 USD (+0.50 USD)`.
fn moved(line: &MoneyLine) -> String {
    let sum = |minor_units: i64| {
        let money = Currency::new(&line.currency).and_then(|currency| Money::new(minor_units, currency));
        // A sum over many runs may be beyond what one amount can be.
        money.map_or_else(
            || format!("{minor_units} minor units of {}", line.currency),
            |money| money.to_string(),
        )
    };
    let change = match line.after.saturating_sub(line.before) {
        0 => String::new(),
        more @ 1.. => format!(" (+{})", sum(more)),
        less => format!(" ({})", sum(less)),
    };
    format!("{} → {}{change}", sum(line.before), sum(line.after))
}

/// One version's proof.
#[derive(Serialize)]
struct Proved {
    digest: PluginDigest,
    plugin: String,
    runs: usize,
    same: usize,
    /// Runs that cannot be repeated.
    skipped: usize,
    /// Why nothing of it could be run.
    error: Option<String>,
    /// The runs that came out otherwise.
    differing: Vec<Replayed>,
}

fn proof(target: &Target, mut filter: RecordedRunFilter, runs_max: usize) -> anyhow::Result<Exit> {
    let bench = Bench::open(target)?;
    let bar = progress(target.json);
    // The newest of each version: whatever came before is dropped as it is passed.
    let mut newest: BTreeMap<PluginDigest, std::collections::VecDeque<RecordedRun>> = BTreeMap::new();
    filter.rows_max = 1024;
    loop {
        let page = bench.read(filter.clone())?;
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        for run in page {
            let of_version = newest.entry(run.digest).or_default();
            of_version.push_back(run);
            if of_version.len() > runs_max {
                of_version.pop_front();
            }
        }
    }
    let mut components = bench.components();
    let mut proved = Vec::new();
    for (digest, runs) in newest {
        let plugin_name = runs.front().map_or_else(String::new, |run| run.plugin.to_string());
        let mut version = Proved {
            digest,
            plugin: plugin_name,
            runs: runs.len(),
            same: 0,
            skipped: 0,
            error: None,
            differing: Vec::new(),
        };
        match components.get(digest) {
            // Runs that never had a component say why themselves.
            Err(_) if runs.iter().all(|run| unrepeatable(run).is_some()) => version.skipped = runs.len(),
            Err(why) => version.error = Some(why),
            Ok(plugin) => {
                for run in &runs {
                    if unrepeatable(run).is_some() {
                        version.skipped += 1;
                        continue;
                    }
                    let replayed = Replayed::of(&bench.config, &plugin, run);
                    bar.inc(1);
                    if replayed.same {
                        version.same += 1;
                    } else {
                        version.differing.push(replayed);
                    }
                }
            }
        }
        proved.push(version);
    }
    bar.finish_and_clear();
    let holds = proved
        .iter()
        .all(|version| version.error.is_none() && version.differing.is_empty());
    if target.json {
        print_json(&serde_json::json!({ "runtime": RUNTIME, "holds": holds, "versions": proved }))?;
    } else {
        proved.iter().for_each(show_proof);
        if proved.is_empty() {
            anstream::println!("no recorded runs");
        }
    }
    Ok(if holds { Exit::Yes } else { Exit::No })
}

fn show_proof(version: &Proved) {
    let (good, bad, dim) = (show::GOOD, show::BAD, show::DIM);
    let name = format!("{} {dim}{}{dim:#}", version.plugin, version.digest);
    match (&version.error, version.differing.len()) {
        (Some(why), _) => anstream::println!("{bad}cannot be run{bad:#}  {name}\n  {why}"),
        (None, 0) => anstream::println!(
            "{good}same{good:#}  {name}  {} runs, {} skipped",
            version.same,
            version.skipped
        ),
        (None, some) => anstream::println!("{bad}{some} differ{bad:#}  {name}  of {} runs", version.runs),
    }
    version.differing.iter().take(5).for_each(Replayed::show);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_of_a_trial_is_shown_in_major_units_with_its_change() {
        let line = |currency: &str, before, after| MoneyLine {
            tenant: "acme".parse().unwrap(),
            kind: tollgate_core::action::ActionKind::Credit,
            currency: currency.to_owned(),
            before,
            after,
        };
        for (line, expect) in [
            (line("USD", 1250, 1300), "12.50 USD → 13.00 USD (+0.50 USD)"),
            (line("USD", 1250, 1250), "12.50 USD → 12.50 USD"),
            (line("JPY", 500, 0), "500 JPY → 0 JPY (-500 JPY)"),
            (line("KWD", 1, 2), "0.001 KWD → 0.002 KWD (+0.001 KWD)"),
            (
                line("USD", i64::MAX, i64::MAX),
                "9223372036854775807 minor units of USD → 9223372036854775807 minor units of USD",
            ),
        ] {
            assert_eq!(moved(&line), expect);
        }
    }

    #[test]
    fn since_is_how_long_ago_or_when() {
        let now = UnixMillis(1_777_975_200_000);
        let ago = |text| instant(text, now).map(|at| now.since(at)).map_err(|error| error.0);
        assert_eq!(ago("90m"), Ok(90 * 60_000));
        assert_eq!(ago("7d"), Ok(7 * 24 * 3_600_000));
        assert!(instant("2026-05-05T10:00:00Z", now).is_ok());
        for wrong in ["", "7", "d", "-1d", "7 d", "ü", "tomorrow"] {
            assert!(ago(wrong).is_err(), "{wrong}");
        }
    }
}
