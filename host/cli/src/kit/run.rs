//! `tollgate plugin run`: runs a plugin on one event and shows what it proposes.

use std::path::PathBuf;

use tollgate_core::fixture::{Ending, Fixture};
use tollgate_core::mask;

use super::super::show::{BAD, BOLD, DIM, GOOD, WARN};
use super::super::{Exit, Usage, print_json, read};
use super::project::{Limits, grouped, per_cent, read_state, run as run_plugin, size};
use super::test::{SILENT_TRAP, says_nothing, show_logs};
use super::which::Which;

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 the run ended by the plugin's own word (proposals, refuse, hold, retry), 1 it is faulty."
)]
pub(crate) struct Args {
    /// An event as fixtures have it, or a whole fixture, of which `expect` is left aside
    event: PathBuf,
    #[command(flatten)]
    which: Which,
    /// The route's configuration (JSON), instead of the fixture's
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The plugin's state (JSON, by key), instead of the fixture's
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    limits: Limits,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let plugin = args.which.load()?;
    let fixture = fixture(args)?;
    let limits = args.limits.get();
    let run = run_plugin(&plugin, &fixture, &limits);
    let kinds = plugin.manifest().map_or(&[][..], |manifest| &manifest.actions);
    let ending = Ending::of(&run.outcome, kinds, &run.writes);
    if args.json {
        print_json(&serde_json::json!({
            "found": ending.as_ref().ok(),
            "problem": ending.as_ref().err().map(ToString::to_string),
            "reads": run.reads.iter().map(|read| &read.key).collect::<Vec<_>>(),
            "logs": run.logs,
            "fuel": run.fuel,
            "memory_bytes": run.memory_bytes,
            "duration_us": u64::try_from(run.duration.as_micros()).unwrap_or(u64::MAX),
        }))?;
    } else {
        match &ending {
            Ok(ending) => show(ending),
            Err(broken) => {
                anstream::println!("{BAD}{}{BAD:#}  {}", broken.fault, broken.message);
                if says_nothing(&broken.to_string()) {
                    anstream::println!("{DIM}{SILENT_TRAP}{DIM:#}");
                }
            }
        }
        for read in &run.reads {
            let nothing = if read.value.is_none() { " (nothing there)" } else { "" };
            anstream::println!("          {DIM}read{DIM:#} {}{nothing}", read.key);
        }
        show_logs(&run.logs);
        anstream::println!(
            "{DIM}fuel {} ({})  memory {} ({})  {:.2?}{DIM:#}",
            grouped(run.fuel),
            per_cent(run.fuel, limits.fuel),
            size(run.memory_bytes),
            per_cent(run.memory_bytes as u64, limits.memory_bytes_max as u64),
            run.duration,
        );
    }
    Ok(if ending.is_ok() { Exit::Yes } else { Exit::No })
}

fn fixture(args: &Args) -> anyhow::Result<Fixture> {
    let json = read(&args.event)?;
    // Only a fixture has an `event`; what is wrong with either is said by its own reader.
    let document: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    if document.get("events").is_some() {
        return Err(Usage(format!(
            "{} has several events; `tollgate plugin test` runs them in their order",
            args.event.display()
        ))
        .into());
    }
    let read_event = if document.get("event").is_some() {
        Fixture::from_json
    } else {
        Fixture::of_event
    };
    let mut fixture = read_event(&json).map_err(|error| Usage(format!("{}: {error}", args.event.display())))?;
    if let Some(path) = &args.config {
        fixture.config_json =
            String::from_utf8(read(path)?).map_err(|error| Usage(format!("{} is no text: {error}", path.display())))?;
    }
    if let Some(path) = &args.state {
        fixture.state = read_state(path)?;
    }
    Ok(fixture)
}

fn show(ending: &Ending) {
    for acted in ending.actions.iter().flatten() {
        // Accounts, recipients and keys are whatever the event said.
        let action = acted.action.to_string();
        let (action, key) = (mask::shown(&action), mask::shown(acted.operation_key.as_ref()));
        anstream::println!("{GOOD}{action}{GOOD:#}  {BOLD}{key}{BOLD:#}");
        let json = acted.action.to_json().to_string();
        anstream::println!("          {DIM}{}{DIM:#}", mask::shown(&json));
    }
    if ending.actions.as_ref().is_some_and(Vec::is_empty) {
        anstream::println!("{GOOD}completed{GOOD:#}, and proposes nothing");
    }
    for (word, message) in [("refused", &ending.refuse), ("held", &ending.hold)] {
        if let Some(message) = message {
            anstream::println!("{WARN}{word}{WARN:#}  {}", mask::shown(message));
        }
    }
    if let Some(later) = &ending.retry {
        let after = later
            .after_ms
            .map_or(String::new(), |ms| format!(", not before {ms} ms from now"));
        anstream::println!("{WARN}retry{WARN:#}  {}{after}", mask::shown(&later.message));
    }
    for (key, value) in ending.state.iter().flatten() {
        anstream::println!(
            "          {DIM}write{DIM:#} {} = {}",
            mask::shown(key),
            mask::shown(&value.to_string())
        );
    }
}
