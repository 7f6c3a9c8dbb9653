//! `tollgate plugin test`: runs the compiled component on each fixture, in the engine and under the limits of a host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use tollgate_core::fixture::{Broken, Ending, Fixture};
use tollgate_core::mask;
use tollgate_core::outcome::LogLine;
use tollgate_core::state::StateWrite;
use tollgate_sandbox::{Plugin, RunLimits};

use super::super::show::{BAD, BOLD, DIM, GOOD, WARN};
use super::super::{Exit, Usage, print_json};
use super::project::{Limits, Named, fixtures, grouped, per_cent, run as run_plugin, size};
use super::which::Which;

#[derive(clap::Args)]
#[command(
    after_help = "A fixture is a JSON file: event, config, state, and what is expected; or several events, which are run in their order over\n\
                  one state (docs/plugins.md). Each is run twice; a plugin that ends otherwise the second time is not deterministic, and\n\
                  fails.\n\n\
                  Exit status: 0 all ended as expected, 1 one did not, 2 there are no such fixtures."
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
    /// Write what came into the fixtures as what is expected
    #[arg(long)]
    update: bool,
    /// Test again whenever a source or a fixture changes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["json", "update"])]
    watch: bool,
    /// Show what each run logged, not only of those that fail
    #[arg(long)]
    logs: bool,
    #[command(flatten)]
    limits: Limits,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// How often a folder is looked at for changes.
const WATCH: Duration = Duration::from_millis(300);

/// One fixture's run, as data.
#[derive(Serialize)]
struct Tried {
    name: String,
    end: End,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Ending>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Ending>,
    /// What is wrong with the fixture, or with the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    fuel: u64,
    memory_bytes: usize,
    duration_us: u64,
    logs: Vec<LogLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Passed,
    Updated,
    Failed,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if !args.watch {
        return all(args);
    }
    let folder = folder_of(&args.which, args.fixtures.as_deref())?;
    loop {
        // Asked before the round: what changes during it is not missed.
        let seen = args.which.changed(&folder).ok();
        if let Err(error) = all(args) {
            anstream::println!("{BAD}{error:#}{BAD:#}");
        }
        anstream::println!("{DIM}waiting for a change; Ctrl-C ends{DIM:#}\n");
        while args.which.changed(&folder).ok() == seen {
            std::thread::sleep(WATCH);
        }
    }
}

/// Every fixture that was asked for, once.
fn all(args: &Args) -> anyhow::Result<Exit> {
    let plugin = args.which.load()?;
    let folder = folder_of(&args.which, args.fixtures.as_deref())?;
    let limits = args.limits.get();
    let mut all = Vec::new();
    for named in chosen(&folder, args.only.as_deref())? {
        let mut tried = attempt(&plugin, &named, &limits);
        if args.update {
            update(&named, &mut tried)?;
        }
        all.append(&mut tried);
    }
    let failed = all.iter().filter(|tried| tried.end == End::Failed).count();
    if args.json {
        let manifest = plugin.manifest();
        print_json(&serde_json::json!({
            "ok": failed == 0,
            "plugin": {
                "name": manifest.map(|manifest| &manifest.name),
                "version": manifest.map(|manifest| &manifest.version),
                "digest": plugin.digest(),
            },
            "limits": {
                "fuel": limits.fuel,
                "memory_bytes": limits.memory_bytes_max,
                "deadline_ms": limits.deadline_ms,
            },
            "fixtures": all,
        }))?;
    } else {
        show(&plugin, &all, &limits, args.logs);
    }
    Ok(if failed == 0 { Exit::Yes } else { Exit::No })
}

/// The folder's fixtures, or those whose names hold a text.
///
/// # Errors
/// When there is none: a test that looks at nothing proves nothing.
pub(super) fn chosen(folder: &Path, only: Option<&str>) -> anyhow::Result<Vec<Named>> {
    let named = fixtures(folder)?;
    let Some(only) = only else {
        return Ok(named);
    };
    let names: Vec<_> = named.iter().map(|named| format!("\n  {}", named.name)).collect();
    let chosen: Vec<_> = named.into_iter().filter(|named| named.name.contains(only)).collect();
    if chosen.is_empty() {
        return Err(Usage(format!(
            "no fixture's name holds `{only}`; there are:{}",
            names.concat()
        ))
        .into());
    }
    Ok(chosen)
}

/// Runs each event of a fixture, in their order over one state, and judges how each ended.
fn attempt(plugin: &Plugin, named: &Named, limits: &RunLimits) -> Vec<Tried> {
    let series = match &named.series {
        Ok(series) => series,
        Err(error) => {
            let unread = Tried {
                problem: Some(format!("{}: {error}", named.path.display())),
                ..Tried::begun(named.name.clone())
            };
            return vec![unread];
        }
    };
    let mut at = 0..;
    series.play(|fixture| {
        let name = series.name(&named.name, at.next().unwrap_or_default());
        step(plugin, name, fixture, limits)
    })
}

/// Runs one event twice, and judges the end; with what the run wrote.
fn step(plugin: &Plugin, name: String, fixture: &Fixture, limits: &RunLimits) -> (Tried, Vec<StateWrite>) {
    let mut tried = Tried::begun(name);
    tried.expected = fixture.expect.clone();
    let (run, found) = once(plugin, fixture, limits);
    let (again, found_again) = once(plugin, fixture, limits);
    tried.fuel = run.fuel;
    tried.memory_bytes = run.memory_bytes;
    tried.duration_us = u64::try_from(again.duration.min(run.duration).as_micros()).unwrap_or(u64::MAX);
    tried.problem = match &found {
        Err(broken) => Some(broken.to_string()),
        Ok(_) if found != found_again || run.fuel != again.fuel => {
            Some("the same input gave another answer, or took other fuel: the plugin is not deterministic".to_owned())
        }
        Ok(found) if found.hold.is_none() && misfit(plugin, fixture).is_some() => misfit(plugin, fixture),
        Ok(found) => {
            if tried.expected.as_ref().is_some_and(|expected| expected.allows(found)) {
                tried.end = End::Passed;
            }
            None
        }
    };
    tried.found = found.ok();
    tried.logs = run.logs;
    (tried, run.writes)
}

impl Tried {
    fn begun(name: String) -> Self {
        Self {
            name,
            end: End::Failed,
            expected: None,
            found: None,
            problem: None,
            fuel: 0,
            memory_bytes: 0,
            duration_us: 0,
            logs: Vec::new(),
        }
    }
}

/// What a configuration that the plugin took breaks of the plugin's own schema: every host would refuse it.
fn misfit(plugin: &Plugin, fixture: &Fixture) -> Option<String> {
    let schema = plugin.manifest()?.configuration.as_ref()?;
    let configuration = serde_json::from_str(&fixture.config_json).ok()?;
    let problem = schema.check(&configuration).into_iter().next()?;
    Some(format!(
        "the plugin takes this configuration, but its schema in manifest.json refuses it: {problem}"
    ))
}

fn once(plugin: &Plugin, fixture: &Fixture, limits: &RunLimits) -> (tollgate_sandbox::Run, Result<Ending, Broken>) {
    let run = run_plugin(plugin, fixture, limits);
    let kinds = plugin.manifest().map_or(&[][..], |manifest| &manifest.actions);
    let ending = Ending::of(&run.outcome, kinds, &run.writes);
    (run, ending)
}

/// Writes what came into the fixture's file where it is not what was expected; the rest of it stays.
fn update(named: &Named, tried: &mut [Tried]) -> anyhow::Result<()> {
    let is_new = |tried: &Tried| tried.end == End::Failed && tried.problem.is_none();
    if !tried.iter().any(is_new) {
        return Ok(());
    }
    let mut document: serde_json::Value = serde_json::from_slice(&named.text)?;
    for (at, tried) in tried.iter_mut().enumerate().filter(|(_, tried)| is_new(tried)) {
        let found = serde_json::to_value(&tried.found)?;
        match document.get_mut("events") {
            Some(events) => events[at]["expect"] = found,
            None => document["expect"] = found,
        }
        tried.end = End::Updated;
    }
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(&named.path, text).with_context(|| format!("cannot write {}", named.path.display()))
}

fn show(plugin: &Plugin, all: &[Tried], limits: &RunLimits, logs: bool) {
    if let Some(manifest) = plugin.manifest() {
        anstream::println!(
            "{BOLD}{} {}{BOLD:#}  {DIM}{}{DIM:#}",
            manifest.name,
            manifest.version,
            plugin.digest()
        );
    }
    let width = all.iter().map(|tried| tried.name.chars().count()).max().unwrap_or(0);
    for tried in all {
        let (style, word) = match tried.end {
            End::Passed => (GOOD, "ok"),
            End::Updated => (WARN, "updated"),
            End::Failed => (BAD, "FAILED"),
        };
        let end = tried.found.as_ref().map_or("", what);
        anstream::println!(
            "  {style}{word:7}{style:#} {:width$}  {end:8}  {DIM}fuel {:>10} ({})  memory {}{DIM:#}",
            tried.name,
            grouped(tried.fuel),
            per_cent(tried.fuel, limits.fuel),
            size(tried.memory_bytes),
        );
        let failed = tried.end == End::Failed;
        if let Some(problem) = &tried.problem {
            anstream::println!("          {BAD}{problem}{BAD:#}");
        } else if failed {
            differences(tried);
        }
        if failed || logs {
            show_logs(&tried.logs);
        }
        if tried.problem.as_deref().is_some_and(says_nothing) {
            anstream::println!("          {DIM}{SILENT_TRAP}{DIM:#}");
        }
    }
    let count = |end| all.iter().filter(|tried| tried.end == end).count();
    let (passed, updated, failed) = (count(End::Passed), count(End::Updated), count(End::Failed));
    let style = if failed == 0 { GOOD } else { BAD };
    let updated = if updated == 0 {
        String::new()
    } else {
        format!(", {updated} updated")
    };
    anstream::println!("{style}{passed} passed, {failed} failed{style:#}{updated}");
    let declared = plugin.manifest().and_then(|manifest| manifest.fuel);
    let most = all.iter().map(|tried| tried.fuel).max().unwrap_or(0);
    if let Some(declared) = declared
        && most > declared
    {
        anstream::println!(
            "{WARN}warning{WARN:#}  a run took {} fuel; the manifest says at most {}",
            grouped(most),
            grouped(declared)
        );
    }
}

fn what(ending: &Ending) -> &'static str {
    match ending {
        Ending { refuse: Some(_), .. } => "refused",
        Ending { hold: Some(_), .. } => "held",
        Ending { retry: Some(_), .. } => "retry",
        Ending { actions, .. } => match actions.as_ref().map_or(0, Vec::len) {
            0 => "nothing",
            1 => "1 action",
            _ => "actions",
        },
    }
}

/// What was expected against what came, line by line.
fn differences(tried: &Tried) {
    let Some(expected) = &tried.expected else {
        anstream::println!("          the fixture expects nothing yet: `--update` writes what came");
        return;
    };
    let text = |ending: &Ending| serde_json::to_string_pretty(ending).unwrap_or_default() + "\n";
    let found = tried.found.clone().map(|found| Ending {
        // What was not asked for is no difference.
        state: found.state.filter(|_| expected.state.is_some()),
        ..found
    });
    let (expected, found) = (text(expected), found.as_ref().map(text).unwrap_or_default());
    for change in TextDiff::from_lines(&expected, &found).iter_all_changes() {
        let (style, sign) = match change.tag() {
            ChangeTag::Delete => (BAD, '-'),
            ChangeTag::Insert => (GOOD, '+'),
            ChangeTag::Equal => (DIM, ' '),
        };
        let line = change.value().trim_end();
        anstream::println!("          {style}{sign} {}{style:#}", mask::shown(line));
    }
    anstream::println!("          {DIM}- expected  + found{DIM:#}");
}

/// What mostly is behind a trap that says nothing.
pub(super) const SILENT_TRAP: &str = "hint: a trap without a message is mostly a call that needs the outside: a clock, a file, standard output; or \
                                      a `handler.process` that is not exported (docs/plugins.md)";

/// Whether a run ended by a trap before which nothing was logged as an error.
pub(super) fn says_nothing(problem: &str) -> bool {
    problem.starts_with("trap: wasm `unreachable`")
}

/// What a run logged.
pub(super) fn show_logs(logs: &[LogLine]) {
    for LogLine { level, message } in logs {
        let level = format!("{level:?}").to_lowercase();
        anstream::println!("          {DIM}log {level:5}{DIM:#} {}", mask::shown(message));
    }
}

/// The fixtures' folder of a plugin.
pub(super) fn folder_of(which: &Which, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match (given, which.project()) {
        (Some(folder), _) => Ok(folder.to_owned()),
        (None, Some(project)) => Ok(project.join("fixtures")),
        (None, None) => Err(Usage("say with --fixtures where the fixtures are".to_owned()).into()),
    }
}
