//! The Rust guests of `tests/guests` and the shipped plugins. `cargo xtask test` builds them and says where they are; started by
//! hand without them, these tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tollgate_core::action::ActionKind;
use tollgate_core::grant::{Grant, judge};
use tollgate_core::money::Currency;
use tollgate_core::outcome::{Fault, Outcome};
use tollgate_sandbox::{Plugin, Run, RunInput, RunLimits};

use crate::guest::{SANDBOX, State, event, limits};

/// The components of a folder by name, or none when nobody built them.
pub(crate) fn built(variable: &str, beside: &str) -> BTreeMap<String, Vec<u8>> {
    let told = std::env::var_os(variable).map(PathBuf::from);
    let folder = told.clone().unwrap_or_else(|| {
        let executable = std::env::current_exe().unwrap();
        // The test stands in debug/deps of the target directory.
        executable.ancestors().nth(3).unwrap_or(Path::new(".")).join(beside)
    });
    if told.is_none() && !folder.is_dir() {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!(
                "skipped: nothing is built in {}; run `cargo xtask test`\n",
                folder.display()
            )
            .as_bytes(),
        );
        return BTreeMap::new();
    }
    std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect()
}

/// How each guest ends: natively, as an outcome or `refused:` and the refusal's slug, and enclosed where that is tried. Guests that are not
/// listed are run as well.
pub(crate) fn ends() -> BTreeMap<String, Vec<String>> {
    serde_json::from_str(include_str!("../../../../tests/guests/ends.json")).unwrap()
}

fn run(plugin: &Plugin) -> Run {
    run_for(plugin, limits().fuel)
}

fn run_for(plugin: &Plugin, fuel: u64) -> Run {
    let limits = RunLimits { fuel, ..limits() };
    plugin.run(
        &RunInput {
            event: &event(),
            config_json: "1000",
        },
        &State::default(),
        &limits,
    )
}

/// Everything that a route can grant: what is still refused is wrong in itself.
fn all_grants() -> Vec<Grant> {
    ActionKind::ALL
        .into_iter()
        .map(|kind| Grant {
            amount_max: Some(i64::MAX),
            currencies: vec![Currency::new("USD").unwrap(), Currency::new("EUR").unwrap()],
            extensions: vec!["tests/said".to_owned()],
            ..Grant::of(kind)
        })
        .collect()
}

/// Vets, runs and judges, as the host does.
fn ending(component: &[u8], fuel: u64) -> String {
    if let Err(refusal) = SANDBOX.vet(component) {
        return format!("refused:{}", refusal.code());
    }
    let run = run_for(&SANDBOX.load(component).unwrap(), fuel);
    if !matches!(run.outcome, Outcome::Completed { .. }) {
        assert_eq!(run.writes, []);
    }
    match run.outcome {
        Outcome::Completed { proposals } => match judge(proposals, &all_grants()) {
            Ok(_) => "completed".to_owned(),
            Err(_) => Fault::InvalidOutput.to_string(),
        },
        other => other.name().to_owned(),
    }
}

#[test]
fn each_hostile_guest_ends_as_it_says_and_alone() {
    let mut guests = built("TOLLGATE_HOSTILE", "plugins/hostile");
    let Some(good) = guests.get("good").cloned() else {
        return;
    };
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/wat/many_memories.wat");
    guests.insert("many_memories".to_owned(), wat::parse_file(text).unwrap());
    let expect = ends();
    let good = SANDBOX.load(&good).unwrap();
    let before = run(&good);
    let mut wrong = Vec::new();
    for (name, component) in &guests {
        // To make 40 MB takes more than the default budget; the others end within it.
        let fuel = if name == "flood_string" {
            2_000_000_000
        } else {
            limits().fuel
        };
        let found = ending(component, fuel);
        if expect.get(name).is_some_and(|expect| expect[0] != found) {
            wrong.push(format!("{name}: {found}, not {}", expect[name][0]));
        }
        let after = run(&good);
        assert_eq!(
            (&after.outcome, after.fuel),
            (&before.outcome, before.fuel),
            "after {name}"
        );
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_panic_in_rust_says_its_message_and_where() {
    let guests = built("TOLLGATE_HOSTILE", "plugins/hostile");
    let Some(guest) = guests.get("panic") else { return };
    let run = run(&SANDBOX.load(guest).unwrap());
    let message = run.outcome.message();
    assert!(message.contains("panic"), "{message}");
    assert!(
        message.contains(" — wasm `unreachable` instruction executed, at "),
        "{message}"
    );
    assert!(message.contains("process"), "{message}");
}

#[test]
fn nans_have_one_form() {
    let guests = built("TOLLGATE_HOSTILE", "plugins/hostile");
    let Some(guest) = guests.get("nan") else { return };
    let Outcome::Completed { proposals } = run(&SANDBOX.load(guest).unwrap()).outcome else {
        panic!("nan fails")
    };
    let shown = format!("{proposals:?}");
    assert!(
        shown.contains(
            r#"["7ff8000000000000", "7ff8000000000000", "7ff8000000000000", "7ff8000000000000", "7fc00000"]"#
        ),
        "{shown}"
    );
}

#[test]
fn the_shipped_plugins_may_be_published() {
    for (name, component) in built("TOLLGATE_PLUGINS", "plugins") {
        let report = SANDBOX
            .prove(&component)
            .unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
            .report;
        assert_eq!(report.manifest.name.as_str(), name);
        assert!(
            report
                .imports
                .iter()
                .all(|import| import.starts_with("tollgate:plugin/")),
            "{:?}",
            report.imports
        );
    }
}
