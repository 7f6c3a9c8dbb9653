//! Contract 1.0.0 for ever: components that were built when it was released still run as they did, and `wit/` has not changed in
//! a way that would break them. Their files in `tests/contract-1.0.0` are never built again.

use std::fs;
use std::path::{Path, PathBuf};

use tollgate_core::fixture::{Ending, Fixture};
use tollgate_core::ids::PluginDigest;
use tollgate_core::state::StateValue;
use tollgate_sandbox::{RunInput, StateSource};
use wit_component::semver_check;
use wit_parser::Resolve;

use crate::guest::{SANDBOX, limits};

/// The released components. A component that is another by a byte proves nothing about those that are out there.
const RELEASED: [(&str, &str); 2] = [
    (
        "everything",
        "sha256:36c72537452e11871186c8ddb30e0cdb9582cbf598c2e94db844056f2ae1e408",
    ),
    (
        "minimal",
        "sha256:e77d4795b0f8c30b1bd9271e6d71fb21388456911c0a5db703d7877a73d60bce",
    ),
];

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract-1.0.0")
}

pub(crate) struct Given<'a>(pub(crate) &'a Fixture);

impl StateSource for Given<'_> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        Ok(self.0.read(key))
    }
}

#[test]
fn components_of_1_0_0_run_as_they_did() {
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(folder().join("fixtures")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let fixture = Fixture::from_json(&fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        fixtures.push((name, fixture));
    }
    for (component, digest) in RELEASED {
        let bytes = fs::read(folder().join(format!("{component}.wasm"))).unwrap();
        assert_eq!(
            PluginDigest::of(&bytes).to_string(),
            digest,
            "{component}.wasm is not the released one"
        );
        let plugin = SANDBOX
            .load(&bytes)
            .unwrap_or_else(|refusal| panic!("{component}: {refusal}"));
        let own: Vec<_> = fixtures
            .iter()
            .filter(|(name, _)| name.starts_with(component))
            .collect();
        assert!(!own.is_empty(), "{component} has no fixture");
        for (name, fixture) in own {
            let input = RunInput {
                event: &fixture.event,
                config_json: &fixture.config_json,
            };
            let run = plugin.run(&input, &Given(fixture), &limits());
            let kinds = plugin.manifest().map_or(&[][..], |manifest| &manifest.actions);
            let found =
                Ending::of(&run.outcome, kinds, &run.writes).unwrap_or_else(|broken| panic!("{name}: {broken}"));
            let expect = fixture
                .expect
                .as_ref()
                .unwrap_or_else(|| panic!("{name} expects nothing"));
            assert!(expect.allows(&found), "{name}: expected {expect:#?}, found {found:#?}");
        }
    }
}

/// Whether what was built against the released contract works where `now` is spoken.
fn compatible(now: &str) -> Result<(), String> {
    let released = fs::read_to_string(folder().join("tollgate.wit")).unwrap();
    let mut resolve = Resolve::default();
    // Two packages of one name cannot be side by side; versions are not compared.
    let released = released.replacen("tollgate:plugin@1.0.0", "tollgate:plugin@1.0.0-released", 1);
    let before = resolve.push_source("released.wit", &released).unwrap();
    let after = resolve
        .push_source("tollgate.wit", now)
        .map_err(|error| format!("{error:#}"))?;
    let world = |package| {
        resolve
            .select_world(&[package], Some("processor"))
            .map_err(|error| format!("{error:#}"))
    };
    let (before, after) = (world(before)?, world(after)?);
    semver_check(resolve, before, after).map_err(|error| format!("{error:#}"))
}

fn contract() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/tollgate.wit")).unwrap()
}

#[test]
fn the_contract_still_takes_what_was_built_against_1_0_0() {
    if let Err(broken) = compatible(&contract()) {
        panic!(
            "wit/tollgate.wit breaks plugins that are out there: {broken}\nExported types are frozen; a new power arrives as a new \
             interface beside them, or as a further function that the host offers."
        );
    }
}

#[test]
fn the_check_knows_what_breaks_a_plugin() {
    let now = contract();
    let edited = |from: &str, to: &str| {
        assert!(now.contains(from), "{from}");
        now.replacen(from, to, 1)
    };
    for (what, wit) in [
        ("a field less", edited("status: option<string>,", "")),
        (
            "a field more",
            edited("payload: string,", "payload: string, trace: string,"),
        ),
        (
            "a field of another type",
            edited("received-at-ms: s64,", "received-at-ms: u64,"),
        ),
        ("a field by another name", edited("minor-units: s64,", "minor: s64,")),
        (
            "a case more",
            edited(
                "extension(extension),\n    }",
                "extension(extension), refund(credit),\n    }",
            ),
        ),
        ("a failure less", edited("hold(string),", "")),
        ("a level more", edited("error,\n    }", "error, fatal,\n    }")),
        ("a function less to call", edited("delete: func(key: string);", "")),
        (
            "another parameter",
            edited("get: func(key: string)", "get: func(key: string, version: u64)"),
        ),
        ("another result", edited("-> option<list<u8>>", "-> list<u8>")),
        ("an interface less to import", edited("import log;", "")),
        (
            "one more function to export",
            edited("process: func(", "version: func() -> string; process: func("),
        ),
    ] {
        let broken = compatible(&wit).expect_err(what);
        assert!(broken.len() > 20, "{what}: {broken}");
    }
    for (what, wit) in [
        ("a further interface to import", {
            let beside = format!("{now}\ninterface rates {{ rate: func(currency: string) -> u64; }}\n");
            beside.replacen("import log;", "import log; import rates;", 1)
        }),
        (
            "a further function to call",
            edited(
                "delete: func(key: string);",
                "delete: func(key: string); clear: func();",
            ),
        ),
        ("other words", edited("/// An amount of money", "/// So much money")),
    ] {
        assert_eq!(compatible(&wit), Ok(()), "{what}");
    }
}
