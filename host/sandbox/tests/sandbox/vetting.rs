//! What is refused, under which slug, and what is said about it.

use tollgate_core::ids::PluginDigest;
use tollgate_core::manifest::Manifest;
use tollgate_sandbox::{Sandbox, SandboxOptions, with_manifest};

use crate::guest::{GOOD, MANIFEST, SANDBOX, component, component_with, core, core_importing, in_world, limits};

const PROCESSOR: &str = "tollgate:plugin/processor@1.0.0";

/// Vets, and expects a refusal that says both what is wrong and how to mend it.
fn check(component: &[u8], code: &str, says: &str) {
    match SANDBOX.vet(component) {
        Ok(report) => panic!("expected {code}, but it may be published: {report:?}"),
        Err(refusal) => {
            assert_eq!(refusal.code(), code, "{refusal}");
            assert!(refusal.to_string().contains(says), "`{refusal}` does not say `{says}`");
        }
    }
}

#[test]
fn a_good_component_is_reported() {
    let component = component(GOOD);
    let report = SANDBOX.vet(&component).unwrap();
    assert_eq!(report.digest, PluginDigest::of(&component));
    assert_eq!(report.manifest.to_json(), MANIFEST);
    assert_eq!(report.component_bytes, component.len());
    let mut imports = report.imports;
    imports.sort();
    assert_eq!(
        imports,
        [
            "tollgate:plugin/log@1.0.0",
            "tollgate:plugin/state@1.0.0",
            "tollgate:plugin/types@1.0.0"
        ]
    );
    assert_eq!(report.exports, ["tollgate:plugin/handler@1.0.0"]);
    assert!(report.instance_bytes >= 4 * 65536);
    let plugin = SANDBOX.load(&component).unwrap();
    assert_eq!(plugin.digest(), report.digest);
    assert_eq!(plugin.manifest(), Some(&report.manifest));
}

#[test]
fn a_manifest_can_be_added_to_a_component_that_has_none() {
    let bare = in_world("", PROCESSOR, &core("", GOOD), None);
    check(&bare, "missing-manifest", "`tollgate:manifest`");
    let described = MANIFEST.replace("}", r#","description":"Long enough that its length takes two bytes."}"#);
    let manifest = Manifest::from_json(described.as_bytes()).unwrap();
    let component = with_manifest(&bare, &manifest).unwrap();
    assert!(component.len() > bare.len() + 127);
    assert_eq!(SANDBOX.vet(&component).unwrap().manifest, manifest);
    // Not a second one: nobody could tell which counts.
    let refusal = with_manifest(&component, &manifest).unwrap_err();
    assert_eq!(refusal.code(), "many-manifests");
    assert_eq!(
        with_manifest(b"(module)", &manifest).unwrap_err().code(),
        "not-a-component"
    );
}

#[test]
fn what_is_no_component_is_named() {
    check(b"", "not-a-component", "the file is empty");
    check(b"\x7fELF", "not-a-component", "not WebAssembly");
    check(&[0xff; 64], "not-a-component", "not WebAssembly");
    check(b"(component)", "not-a-component", "`wasm-tools parse`");
    check(b"\n;; mine\n (module)", "not-a-component", "`wasm-tools parse`");
    check(
        &wat::parse_str("(module)").unwrap(),
        "not-a-component",
        "this is a core module",
    );
    let mut cut = component(GOOD);
    cut.truncate(cut.len() / 2);
    check(&cut, "damaged", "Build and upload it again");
    let small = Sandbox::new(SandboxOptions {
        component_bytes_max: 100,
        instances_max: 1,
        ..SandboxOptions::default()
    })
    .unwrap();
    assert_eq!(small.load(&component(GOOD)).unwrap_err().code(), "too-big");
}

#[test]
fn imports_outside_the_world_are_named() {
    let importing = |import: &str, name: &str| {
        let wit = format!(
            "{import} --- package test:importing; world w {{ include tollgate:plugin/processor@1.0.0; import {name}; }}"
        );
        in_world(
            &wit,
            "test:importing/w",
            &core_importing(&format!(r#"(import "{name}" "now" (func (result i64)))"#), "", GOOD),
            Some(MANIFEST),
        )
    };
    let wasi = importing(
        "package wasi:clocks@0.2.3; interface monotonic-clock { now: func() -> u64; }",
        "wasi:clocks/monotonic-clock@0.2.3",
    );
    check(&wasi, "import-outside-world", "wasi:clocks/monotonic-clock@0.2.3");
    check(
        &wasi,
        "import-outside-world",
        "build for wasm32-unknown-unknown instead of wasm32-wasip1",
    );
    let other = importing(
        "package acme:time@1.0.0; interface clock { now: func() -> u64; }",
        "acme:time/clock@1.0.0",
    );
    check(&other, "import-outside-world", "compose the component that provides it");
}

/// The contract's package, with another version and one more interface.
fn contract(version: &str, more: &str) -> String {
    let contract = include_str!("../../../../wit/tollgate.wit").replace("plugin@1.0.0", &format!("plugin@{version}"));
    contract.replace("world processor {", &format!("{more} world processor {{"))
}

#[test]
fn other_versions_and_worlds_are_named() {
    let core_of = |version: &str| core("", GOOD).replace("@1.0.0", &format!("@{version}"));
    let with_version = |version: &str| {
        in_world(
            &contract(version, ""),
            &format!("tollgate:plugin/processor@{version}"),
            &core_of(version),
            Some(MANIFEST),
        )
    };
    check(
        &with_version("2.0.0"),
        "wrong-version",
        "@2.0.0`; this host speaks tollgate:plugin 1.x",
    );
    SANDBOX.vet(&with_version("1.3.0")).expect("an unused 1.3 is still 1.x");

    let newer = contract("1.1.0", "interface clock { now: func() -> u64; }")
        .replace("import log;", "import log; import clock;");
    let core = core_importing(
        r#"(import "tollgate:plugin/clock@1.0.0" "now" (func (result i64)))"#,
        "",
        GOOD,
    )
    .replace("@1.0.0", "@1.1.0");
    let newer = in_world(&newer, "tollgate:plugin/processor@1.1.0", &core, Some(MANIFEST));
    check(&newer, "import-outside-world", "this host is older than the interface");

    let other = in_world(
        "package test:other; world w { export run: func(); }",
        "test:other/w",
        r#"(func (export "run"))"#,
        Some(MANIFEST),
    );
    check(&other, "wrong-world", "does not export tollgate:plugin/handler@1.0.0");
}

#[test]
fn lies_about_types_are_found_before_any_run() {
    let lie = |signature: &str, core: &str| {
        let wit = format!(
            "package tollgate:plugin@1.0.0; interface handler {{ {signature} }} world processor {{ export handler; }}"
        );
        in_world(&wit, PROCESSOR, core, Some(MANIFEST))
    };
    let function = |name: &str| {
        format!(r#"(func (export "tollgate:plugin/handler@1.0.0#{name}") (param i32) (result i32) (local.get 0))"#)
    };
    check(
        &lie("process: func(event: u32) -> u32;", &function("process")),
        "wrong-world",
        "its function `process` has another type",
    );
    check(
        &lie("handle: func(event: u32) -> u32;", &function("handle")),
        "wrong-world",
        "has no function `process`",
    );

    let import = "package tollgate:plugin@1.0.0;
        interface log { write: func(message: u32); }
        interface handler { process: func(event: u32) -> u32; }
        world processor { import log; export handler; }";
    let core = format!(
        r#"(import "tollgate:plugin/log@1.0.0" "write" (func (param i32))) {}"#,
        function("process")
    );
    check(&in_world(import, PROCESSOR, &core, Some(MANIFEST)), "wrong-world", "");
}

#[test]
fn the_manifest_is_found_and_checked() {
    let with = |manifest: Option<&str>| in_world("", PROCESSOR, &core("", GOOD), manifest);
    check(
        &with(None),
        "missing-manifest",
        "use the SDK's `manifest!` macro or add a custom section `tollgate:manifest`",
    );
    check(&with(Some("{}")), "bad-manifest", "missing field `name`");
    check(
        &with(Some(&MANIFEST.replace("flag", "pay"))),
        "bad-manifest",
        "`pay` is not an action kind",
    );
    let second = r#"(@custom "tollgate:manifest" "{}")"#;
    check(&component_with(second, GOOD), "many-manifests", "2 manifests");
    // The component's own comes first.
    let mut own = component_with(second, GOOD);
    let mut section = vec![17];
    section.extend_from_slice(b"tollgate:manifest");
    section.extend_from_slice(MANIFEST.as_bytes());
    own.push(0);
    let bytes = u8::try_from(section.len()).unwrap();
    own.extend_from_slice(&[0x80 | (bytes & 0x7f), bytes >> 7]);
    own.extend_from_slice(&section);
    assert_eq!(SANDBOX.vet(&own).unwrap().manifest.to_json(), MANIFEST);
}

#[test]
fn an_export_more_is_tolerated_and_never_called() {
    let wit = "package test:init; world w { include tollgate:plugin/processor@1.0.0; export init: func(); }";
    let component = in_world(
        wit,
        "test:init/w",
        &core(r#"(func (export "init") (unreachable))"#, GOOD),
        Some(MANIFEST),
    );
    let mut exports = SANDBOX.vet(&component).unwrap().exports;
    exports.sort();
    assert_eq!(exports, ["init", "tollgate:plugin/handler@1.0.0"]);
}

#[test]
fn what_the_engine_does_not_take_is_said() {
    let tail = component_with("(func $f (result i32) (return_call $f))", GOOD);
    check(&tail, "compile-failed", "tail call");
    let relaxed = component_with(
        "(func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))",
        GOOD,
    );
    check(&relaxed, "compile-failed", "relaxed");
    let memories: String = (0..16).map(|n| format!("(memory $m{n} 1)")).collect();
    check(
        &component_with(&memories, GOOD),
        "over-limits",
        "Lower its memories, tables or instances",
    );
    check(&component_with("(table 70000 funcref)", GOOD), "over-limits", "");
    check(&component_with("(memory $big 2000)", GOOD), "over-limits", "");
}

#[test]
fn a_component_that_fails_to_start_is_refused() {
    let start = |body: &str| component_with(&format!("(func $start {body}) (start $start)"), GOOD);
    check(
        &start("(unreachable)"),
        "trial-failed",
        "trap: wasm `unreachable` instruction executed",
    );
    check(&start("(loop $again (br $again))"), "trial-failed", "out-of-fuel");
    check(
        &start("(loop $again (drop (memory.grow (i32.const 9))) (br $again))"),
        "trial-failed",
        "memory:",
    );
    let plugin = SANDBOX
        .load(&start("(unreachable)"))
        .expect("loading tries no instance");
    assert_eq!(crate::guest::run(&plugin, &limits()).outcome.name(), "trap");
}

/// A good component that carries this golden section.
fn with_golden(json: &str) -> Vec<u8> {
    let section = format!(r#"(@custom "tollgate:golden" "{}")"#, json.replace('"', "\\\""));
    component_with(&section, GOOD)
}

#[test]
fn golden_events_must_end_as_their_author_says() {
    let golden = |score: u32| {
        format!(
            r#"[{{"name":"one flag","fixture":{{"event":{{"type":"a"}},"expect":{{"actions":[{{"operation_key":"k:1","action":{{"kind":"flag","subject":"s","score":{score},"reasons":[]}}}}]}}}}}}]"#
        )
    };
    let report = SANDBOX.prove(&with_golden(&golden(7))).unwrap().report;
    assert_eq!(
        (report.golden[0].name.as_str(), report.golden[0].outcome.as_str()),
        ("one flag", "completed")
    );
    let prove = |component: &[u8], code: &str, says: &str| {
        let refusal = SANDBOX.prove(component).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.to_string().contains(says), "`{refusal}` does not say `{says}`");
    };
    prove(
        &with_golden(&golden(8)),
        "golden-failed",
        "`one flag` failed: expected ",
    );
    prove(
        &with_golden(r#"[{"name":"no","fixture":{"event":{"type":"a"},"expect":{"refuse":"no"}}}]"#),
        "golden-failed",
        "expected {\"refuse\":\"no\"}, but it came to {\"actions\"",
    );
    prove(&with_golden("[]"), "bad-golden", "it lists 0 events");
    // The golden events are the author's word: what only vets does not run them.
    SANDBOX.vet(&with_golden(&golden(8))).unwrap();
}

#[test]
fn without_golden_events_a_component_must_not_fail_on_a_neutral_one() {
    let report = SANDBOX.prove(&component(GOOD)).unwrap().report;
    assert_eq!(report.golden[0].name, "a neutral event");
    let trapping = component("unreachable");
    SANDBOX.vet(&trapping).unwrap();
    let refusal = SANDBOX.prove(&trapping).unwrap_err();
    assert_eq!(refusal.code(), "golden-failed");
    assert!(refusal.to_string().contains("failed: trap: "), "{refusal}");
    assert!(refusal.to_string().contains("let it refuse or hold"), "{refusal}");
}
