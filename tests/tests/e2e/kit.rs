//! W5: an author's kit that needs no server: from `new` to a green test, in each language, through the real binary.
//!
//! Projects stay in the target directory, so that what npm, pip and cargo fetched and built is there the next time.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tollgate_core::ids::PluginDigest;
use tollgate_core::signature::{PluginSignature, PublicKey};
use tollgate_tests::events::signer;
use tollgate_tests::json::says;
use tollgate_tests::stage::{Ran, tollgate};
use tollgate_tests::{hostile_dir, kit_dir, plugins_dir, root, tollgate_bin};

/// A project as `tollgate plugin new` makes it now, in a folder that earlier tests may have built in.
fn project(name: &str, language: &str) -> PathBuf {
    let fresh = tempfile::tempdir().expect("a folder");
    let ran = tollgate(
        &[
            "plugin",
            "new",
            "bonus",
            "--lang",
            language,
            "--json",
            "--folder",
            text(fresh.path()),
        ],
        b"",
    )
    .ok();
    let folder = kit_dir().join(name);
    for file in ran.json()["files"].as_array().expect("a list") {
        let file = file.as_str().expect("a name");
        put(
            &folder.join(file),
            &fs::read(fresh.path().join(file)).expect("a written file"),
        );
    }
    folder
}

/// Writes a file whose text is another: an unchanged one would be built anew.
fn put(path: &Path, bytes: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("the file is written");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn plugin(arguments: &[&str]) -> Ran {
    tollgate(&[&["plugin"], arguments].concat(), b"")
}

/// What every language's project must do.
fn works(name: &str, language: &str) {
    let folder = project(name, language);
    let folder = text(&folder);
    let ran = plugin(&["test", folder, "--json"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let answer = ran.json();
    let fixtures = answer["fixtures"].as_array().expect("a list");
    assert_eq!(fixtures.len(), 8, "{answer:#}");
    for fixture in fixtures {
        assert_eq!(fixture["end"], "passed", "{fixture:#}");
    }
    assert_eq!(answer["plugin"]["name"], "bonus");
    assert!(
        fixtures
            .iter()
            .all(|fixture| fixture["fuel"].as_u64() < answer["limits"]["fuel"].as_u64())
    );

    let checked = plugin(&["check", folder, "--json"]).json();
    assert_eq!(checked["plugin"]["digest"], answer["plugin"]["digest"]);
    let imports = checked["plugin"]["imports"].as_array().expect("a list");
    assert!(imports.iter().all(|import| {
        import
            .as_str()
            .is_some_and(|import| import.starts_with("tollgate:plugin/"))
    }));

    let bench = plugin(&["bench", folder, "--runs", "3", "--only", "a-completed", "--json"]).json();
    assert_eq!(bench["fixtures"][0]["outcome"], "completed");
    assert_eq!(
        bench["fixtures"][0]["fuel"], fixtures[0]["fuel"],
        "fuel is the same each time"
    );
}

#[test]
fn w5_a_new_project_in_rust_builds_and_passes() {
    works("rust", "rust");

    // Its fixtures as golden events: what a host tries before it takes the component in.
    let folder = project("rust", "rust");
    let built = plugin(&["build", text(&folder), "--golden", "--json"]);
    assert_eq!(built.code, 0, "{}\n{}", built.stdout, built.stderr);
    let component = fs::read(folder.join("plugin.wasm")).expect("the component");
    let sandbox = tollgate_sandbox::Sandbox::new(tollgate_sandbox::SandboxOptions::default()).expect("a sandbox");
    let report = sandbox.prove(&component).expect("it ends as its author says").report;
    assert_eq!(report.golden.len(), 8, "{:?}", report.golden);

    // A test that has to build again tests what would be pushed: golden events and all.
    let source = folder.join("src/lib.rs");
    let before = fs::read_to_string(&source).expect("the source");
    put(&source, format!("{before}\n// One more line.\n").as_bytes());
    let tested = plugin(&["test", text(&folder), "--json"]).json();
    let component = fs::read(folder.join("plugin.wasm")).expect("the component");
    let report = sandbox.prove(&component).expect("it ends as its author says");
    assert_eq!((report.report.golden.len(), &tested["ok"]), (8, &json!(true)));
    assert_eq!(tested["plugin"]["digest"], report.report.digest.to_string());

    // What `check` refuses, `build` does not call built; and `test` shows what is wrong.
    let fixture = folder.join("fixtures/a-pending-order-is-refused.json");
    let right = fs::read_to_string(&fixture).expect("the fixture");
    let mut wrong: Value = serde_json::from_str(&right).expect("JSON");
    wrong["expect"] = json!({ "refuse": "something else" });
    put(&fixture, wrong.to_string().as_bytes());
    let built = plugin(&["build", text(&folder), "--golden", "--json"]);
    let checked = plugin(&["check", text(&folder), "--json"]);
    assert_eq!((built.code, &built.json()["code"]), (1, &json!("golden-failed")));
    assert_eq!((checked.code, checked.json()), (1, built.json()));
    let shown = plugin(&["test", text(&folder)]);
    assert_eq!(shown.code, 1);
    says(&shown.stdout, &["FAILED  a-pending-order-is-refused"]);
    // A fixture that is right again is taken along without a word.
    put(&fixture, right.as_bytes());
    plugin(&["test", text(&folder)]).ok();
    plugin(&["check", text(&folder)]).ok();
}

#[test]
fn w5_a_test_that_looks_at_nothing_fails() {
    let (_folder, path) = cashback_fixture(json!({ "actions": [] }));
    let cashback = plugins_dir().join("cashback.wasm");
    for command in ["test", "bench"] {
        plugin(&[command, text(&cashback), "--fixtures", &path, "--only", "two"])
            .fails(2, "no fixture's name holds `two`; there are:\n  one");
    }
}

#[test]
fn w5_a_watched_test_runs_again_when_a_fixture_changes() {
    let (_folder, path) = cashback_fixture(credit_of(26));
    let cashback = plugins_dir().join("cashback.wasm");
    let mut watching = Command::new(tollgate_bin())
        .args(["plugin", "test", text(&cashback), "--fixtures", &path, "--watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let lines = BufReader::new(watching.stdout.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok);
    let mut ends = lines.filter(|line| line.contains(" passed, "));
    let first = ends.next();
    let fixture = Path::new(&path).join("one.json");
    let mut changed: Value = serde_json::from_slice(&fs::read(&fixture).expect("the fixture")).expect("JSON");
    changed["expect"] = credit_of(25);
    fs::write(&fixture, changed.to_string()).expect("the fixture is written");
    let second = ends.next();
    watching.kill().expect("it is ours");
    watching.wait().expect("its end");
    assert_eq!(first.as_deref(), Some("0 passed, 1 failed"));
    assert_eq!(second.as_deref(), Some("1 passed, 0 failed"));
}

#[test]
fn w5_a_new_project_in_javascript_builds_and_passes() {
    works("js", "js");
}

#[test]
fn w5_a_new_project_in_python_builds_and_passes_and_an_exception_shows_its_type_and_frames() {
    works("python", "python");
    // The rule as it is comes to grief over a state that is no JSON: what else would have to be built takes a minute.
    let folder = kit_dir().join("python");
    let fixture = fs::read(folder.join("fixtures/a-completed-order-earns-its-share.json")).expect("the fixture");
    let mut broken: Value = serde_json::from_slice(&fixture).expect("JSON");
    let customer = broken["event"]["attributes"]["customer"].as_str().expect("a customer");
    broken["state"] = json!({ format!("customer/{customer}"): "{" });
    let said = problem(&folder, &broken);
    assert!(said.contains("JSONDecodeError: Expecting property name"), "{said}");
    assert!(said.contains("read_json (") && said.contains("process ("), "{said}");
}

/// A project whose rule has `to` instead of `from`.
fn bent(name: &str, language: &str, source: &str, from: &str, to: &str) -> PathBuf {
    let folder = project(name, language);
    let rule = fs::read_to_string(folder.join(source)).expect("the rule");
    assert!(rule.contains(from), "{rule}");
    put(&folder.join(source), rule.replacen(from, to, 1).as_bytes());
    folder
}

/// What is wrong with a run on this event, or fixture.
fn problem(folder: &Path, event_or_fixture: &Value) -> String {
    let event = tempfile::NamedTempFile::new().expect("a file");
    fs::write(event.path(), event_or_fixture.to_string()).expect("the event is written");
    let ran = plugin(&["run", text(event.path()), text(folder), "--json"]);
    assert!(!ran.stdout.is_empty(), "{ran:?}");
    ran.json()["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn w5_a_mistake_in_javascript_names_the_field_and_what_was_expected() {
    // One component that makes each mistake on an event of its name.
    let mistakes = "
    const val = { account: 'a', amount: { minorUnits: 5, currency: 'USD' }, reason: 'r' };
    const made = (more) => [{ operationKey: 'o', action: { tag: 'credit', val: { ...val, ...more } } }];
    const mistakes = {
      tag: () => [{ operationKey: 'o', action: { tag: 'credt', val } }],
      key: () => made({ raison: 'r' }),
      type: () => made({ account: 5 }),
      fraction: () => made({ amount: { minorUnits: 5.5, currency: 'USD' } }),
      missing: () => made({ reason: undefined }),
      proposal: () => [{ operation_key: 'o', action: { tag: 'credit', val } }],
      thrown: () => event.nothing.more,
    };
    if (event.eventType in mistakes) return mistakes[event.eventType]();
";
    let process = "function process(event, configJson) {\n";
    let folder = bent("js-bent", "js", "plugin.js", process, &format!("{process}{mistakes}"));
    for (mistake, says) in [
        (
            "tag",
            "proposals[0].action must be an object with `val`, and with `tag` one of credit, debit",
        ),
        (
            "key",
            "proposals[0].action.val has `raison`, and may have account, amount, reason",
        ),
        ("type", "proposals[0].action.val.account must be a text, and is 5"),
        (
            "fraction",
            "amount.minorUnits must be a whole number (minor units have no fraction), and is 5.5",
        ),
        (
            "missing",
            "proposals[0].action.val.reason must be a text, and is undefined",
        ),
        (
            "proposal",
            "proposals[0] has `operation_key`, and may have operationKey, action",
        ),
        ("thrown", "TypeError"),
    ] {
        let said = problem(&folder, &json!({ "type": mistake }));
        assert!(said.contains(says), "{mistake}: {said}");
    }
    let nameless = bent(
        "js-bent",
        "js",
        "plugin.js",
        "export const handler",
        "export const handle",
    );
    plugin(&["build", text(&nameless)]).fails(1, "does not export `handler`");
}

/// How a project whose rule asks for what there is not ends: `trap`, or what its log says.
fn stubs(language: &str, source: &str, expect: &[(&str, &str)]) {
    let folder = project(&format!("{language}-stubs"), language);
    let rule = fs::read(root().join("tests/guests/stubs").join(source)).expect("the probe's source");
    put(&folder.join(source), &rule);
    let event = tempfile::NamedTempFile::new().expect("a file");
    let mut wrong = Vec::new();
    for (probe, expect) in expect {
        fs::write(event.path(), json!({ "type": probe }).to_string()).expect("the event is written");
        let ask = || plugin(&["run", text(event.path()), text(&folder), "--json"]).json();
        let found = ask();
        let said = |answer: &Value| match answer["problem"].as_str() {
            Some(problem) if problem.starts_with("trap: ") => "trap".to_owned(),
            Some(problem) => problem.to_owned(),
            None => answer["logs"][0]["message"].as_str().unwrap_or_default().to_owned(),
        };
        let first = said(&found);
        // What is not known beforehand is the same each time.
        let is_as_expected = match *expect {
            "a constant" => first.parse::<f64>().is_ok() && first == said(&ask()),
            expect => first == expect,
        };
        if !is_as_expected {
            wrong.push(format!("{probe}: {first}; expected {expect}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn w2_what_javascript_has_no_means_for_ends_the_run_or_never_changes() {
    stubs(
        "js",
        "plugin.js",
        &[
            ("Date.now", "trap"),
            ("new Date", "trap"),
            ("a date", "1970-01-01T00:00:00.000Z"),
            ("time zone", "0"),
            ("performance.now", "trap"),
            ("Math.random", "a constant"),
            ("console.log", "throws ReferenceError: console is not defined"),
            ("setTimeout", "throws ReferenceError: setTimeout is not defined"),
            ("fetch", "throws ReferenceError: fetch is not defined"),
            ("crypto", "throws ReferenceError: crypto is not defined"),
            (
                "process.env",
                "throws TypeError: cannot read property 'env' of undefined",
            ),
            ("TextDecoder", "throws ReferenceError: TextDecoder is not defined"),
        ],
    );
}

#[test]
fn w2_what_python_has_no_means_for_ends_the_run_or_never_changes() {
    stubs(
        "python",
        "plugin.py",
        &[
            ("time", "trap"),
            ("monotonic", "trap"),
            ("now", "trap"),
            ("a date", "'1970-01-01T00:00:00+00:00'"),
            ("random", "a constant"),
            ("urandom", "trap"),
            ("uuid", "trap"),
            ("print", "trap"),
            ("stderr", "trap"),
            ("environ", "{}"),
            ("listdir", "trap"),
            ("open", "trap"),
            ("hash", "a constant"),
            ("argv", "[]"),
            ("sleep", "trap"),
            ("exit", "trap"),
        ],
    );
}

/// A folder with one fixture for the shipped cashback.
fn cashback_fixture(expect: Value) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = json!({
        "event": {
            "type": "reward.redeemed", "amount": { "minor_units": 500, "currency": "INR" },
            "attributes": { "customer": "user_678" }
        },
        "config": { "rate_bps": 500 },
        "expect": expect,
    });
    fs::write(folder.path().join("one.json"), fixture.to_string()).expect("the fixture is written");
    let path = text(folder.path()).to_owned();
    (folder, path)
}

/// What cashback proposes for that fixture, with an amount.
fn credit_of(minor_units: i64) -> Value {
    json!({ "actions": [{ "operation_key": "cashback:evt_1", "action": {
        "kind": "credit", "account": "user_678", "amount": { "minor_units": minor_units, "currency": "INR" },
        "reason": "cashback of 5 % on 5.00 INR" } }] })
}

#[test]
fn w5_a_fixture_that_fails_shows_the_difference_and_can_be_updated() {
    let cashback = plugins_dir().join("cashback.wasm");
    let cashback = text(&cashback);
    let (_folder, path) = cashback_fixture(credit_of(26));
    let ask = |more: &[&str]| plugin(&[&["test", cashback, "--fixtures", &path], more].concat());
    let ran = ask(&[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for line in [
        "-           \"minor_units\": 26,",
        "+           \"minor_units\": 25,",
        "0 passed, 1 failed",
    ] {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
    assert!(
        !ran.stdout.contains("customer/user_678"),
        "state was not asked for: {}",
        ran.stdout
    );
    assert_eq!(ask(&["--json"]).json()["fixtures"][0]["end"], "failed");
    ask(&["--update"]).ok();
    ask(&[]).ok();
    let written: Value =
        serde_json::from_slice(&fs::read(format!("{path}/one.json")).expect("the fixture")).expect("JSON");
    assert_eq!(written["expect"]["actions"], credit_of(25)["actions"]);
    assert!(
        written["expect"]["state"]["customer/user_678"].is_object(),
        "{written:#}"
    );

    fs::write(format!("{path}/two.json"), r#"{"event": {"type": "a"}, "expct": {}}"#).expect("a broken fixture");
    let ran = ask(&[]);
    assert_eq!(ran.code, 1);
    says(
        &ran.stdout,
        &["two.json: it is not JSON as expected: unknown field `expct`"],
    );
}

#[test]
fn w5_a_panic_shows_its_words_and_where_it_was() {
    let (folder, path) = cashback_fixture(json!({ "refuse": "anything" }));
    let guest = hostile_dir().join("panic.wasm");
    let ran = plugin(&["test", text(&guest), "--fixtures", &path]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("trap: panicked at"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("process"),
        "the functions have names: {}",
        ran.stdout
    );
    assert!(ran.stdout.contains("log error panicked at"), "{}", ran.stdout);
    let event = folder.path().join("one.json");
    let ran = plugin(&["run", text(&event), text(&guest)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.starts_with("trap"), "{}", ran.stdout);
    // The limits are a host's, and can be told otherwise.
    let spin = hostile_dir().join("spin.wasm");
    let ran = plugin(&["run", text(&event), text(&spin), "--fuel", "20000"]);
    says(&ran.stdout, &["the budget of 20000 fuel is used up"]);
}

#[test]
fn w5_a_signature_is_for_one_component_and_its_key_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let key = at("2026.key");
    let made = plugin(&["key", "new", text(&key), "--json"]).ok();
    let mode = fs::metadata(&key).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(plugin(&["key", "new", text(&key)]).code, 2, "no key is overwritten");

    let component = plugins_dir().join("cashback.wasm");
    let signature = at("cashback.sig");
    let sign = |key: &Path| {
        plugin(&[
            "sign",
            text(&component),
            "--key",
            text(key),
            "-o",
            text(&signature),
            "--json",
        ])
    };
    let ran = sign(&key).ok();
    assert_eq!(ran.json()["key_id"], "2026");
    let signature_of =
        || PluginSignature::from_json(&fs::read(&signature).expect("the signature")).expect("a signature");
    let digest = PluginDigest::of(&fs::read(&component).expect("the component"));
    let public = PublicKey::from_text(made.json()["public_key"].as_str().expect("a key")).expect("a key");
    assert_eq!(signature_of().verify(&public, digest), Ok(()));
    assert_eq!(signature_of().publisher.as_str(), "tollgate", "the manifest's");
    assert_eq!(
        fs::read_to_string(at("2026.key.pub")).expect("the public key").trim(),
        public.to_text()
    );

    // The first test key of RFC 8032, as OpenSSL writes a private key.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    fs::write(at("rfc.pem"), pem).expect("the key is written");
    assert_eq!(sign(&at("rfc.pem")).code, 0);
    let public = PublicKey::from_text("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").expect("a key");
    assert_eq!(signature_of().verify(&public, digest), Ok(()));

    fs::write(at("none.key"), "hello").expect("a file");
    sign(&at("none.key")).fails(2, "holds no key of Ed25519");
    let ran = plugin(&["sign", text(&at("rfc.pem")), "--key", text(&key)]);
    assert_eq!(ran.code, 1, "what is no component is not signed");
}

/// A rule that counts is only tested by what it makes of the second event.
#[test]
fn w5_a_fixture_of_several_events_runs_them_in_their_order_over_one_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("visits.json");
    let step = |event: &str, count: u32| {
        let flag = json!({ "kind": "flag", "subject": "subject", "score": 1, "reasons": [count.to_string()] });
        json!({
            "event": { "type": "a", "id": event },
            "expect": {
                "actions": [{ "operation_key": format!("counter:{event}"), "action": flag }],
                "state": { "count": count.to_string() },
            },
        })
    };
    let write = |events: Value| {
        let document = json!({ "state": { "count": "4" }, "events": events });
        fs::write(&file, document.to_string()).expect("the file is written");
    };
    let counter = hostile_dir().join("counter.wasm");
    let test = |more: &[&str]| {
        let fixtures: &[&str] = &["test", text(&counter), "--fixtures", text(folder.path()), "--json"];
        plugin(&[fixtures, more].concat())
    };
    let ends = |ran: &Ran| -> Vec<(String, String)> {
        let tried = ran.json()["fixtures"].clone();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = tried.as_array().into_iter().flatten();
        each.map(|tried| (word(&tried["name"]), word(&tried["end"]))).collect()
    };
    let named = |at: usize, end: &str| (format!("visits[{at}]"), end.to_owned());
    write(json!([step("e1", 5), step("e2", 6), step("e1", 7)]));
    let ran = test(&[]).ok();
    assert_eq!(ends(&ran), [0, 1, 2].map(|at| named(at, "passed")));

    write(json!([step("e1", 5), step("e2", 5), step("e1", 7)]));
    let ran = test(&[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ends(&ran), [named(0, "passed"), named(1, "failed"), named(2, "passed")]);
    assert_eq!(ends(&test(&["--update"]))[1], named(1, "updated"));
    let written: Value = serde_json::from_slice(&fs::read(&file).expect("the file")).expect("JSON");
    assert_eq!(written["events"][1]["expect"]["state"]["count"], "6", "{written:#}");
    assert_eq!(test(&[]).code, 0);
    let cost = plugin(&[
        "bench",
        text(&counter),
        "--fixtures",
        text(folder.path()),
        "--runs",
        "2",
        "--json",
    ]);
    assert_eq!(cost.json()["fixtures"][2]["fixture"], "visits[2]", "{cost:?}");

    plugin(&["run", text(&file), text(&counter)]).fails(2, "tollgate plugin test");
    write(json!([step("e1", 5), { "event": { "type": "a", "status": "odd" } }]));
    let ran = test(&[]);
    assert!(ran.code == 1 && ran.stdout.contains("events[1]"), "{ran:?}");
}

/// What went wrong on a host is run again on an author's desk.
#[test]
fn w5_a_receipt_of_a_host_becomes_a_fixture_that_passes() {
    let stage = tollgate_tests::stage::Setup::acme(tollgate_tests::stage::CASHBACK)
        .plugin("cashback")
        .start();
    let mut receipts = Vec::new();
    for number in 1..=2 {
        receipts.push(stage.redeem(number).receipt());
        stage.quiet();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("second.json");
    let fixture = |receipt: &str, more: &[&str]| {
        let command: &[&str] = &["plugin", "fixture", "--from-receipt", receipt];
        stage.ask(&[command, more].concat())
    };
    fixture(&receipts[1], &["--out", text(&out)]).ok();
    let document: Value = serde_json::from_slice(&fs::read(&out).expect("the file")).expect("JSON");
    assert_eq!(document["event"]["id"], "evt_2");
    assert_eq!(document["config"]["rate_bps"], 1000);
    let customer = document["event"]["attributes"]["customer"]
        .as_str()
        .expect("a customer");
    let state = document["state"].to_string();
    assert!(
        state.contains(customer) && state.contains("red_1"),
        "what the run read: {state}"
    );
    let test = || {
        plugin(&[
            "test",
            text(&plugins_dir().join("cashback.wasm")),
            "--fixtures",
            text(folder.path()),
            "--json",
        ])
    };
    assert_eq!(test().code, 0, "{:?}", test());
    let again = fixture(&receipts[1], &["--out", text(&out)]);
    assert_eq!(again.code, 3, "nothing is written over: {again:?}");

    // Without the customer, wherever it stands, it means the same.
    let printed = fixture(&receipts[1], &["--redact", "customer"]);
    assert!(!printed.stdout.contains(customer), "{printed:?}");
    fs::write(&out, &printed.stdout).expect("the file is written");
    assert_eq!(test().code, 0, "{:?}", test());
    assert_eq!(fixture(&receipts[1], &["--redact", "nobody"]).code, 1);
    assert_eq!(fixture(&receipts[1], &["--route", "other"]).code, 1);
    assert_eq!(fixture(&format!("rcpt_{}", "0".repeat(32)), &[]).code, 3);
    // Of what no plugin ran on there is the event, and nothing that is expected.
    let alone = stage
        .post(
            "orders",
            &signer("orders").sign("msg_1", tollgate_tests::events::order("o_1")),
        )
        .receipt();
    let alone = fixture(&alone, &[]).json();
    assert!(
        alone["event"]["payload"].is_object() && alone["expect"].is_null(),
        "{alone:#}"
    );
}
