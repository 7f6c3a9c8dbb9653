//! W1, W2: the life of a third party's plugin on a running host: handed in, vetted, published, shadowed, canaried, promoted, rolled
//! back, retired; and all that is refused on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::ids::PluginDigest;
use tollgate_core::signature::PrivateKey;
use tollgate_tests::events::{redeemed_by, signer};
use tollgate_tests::json::{holds, says};
use tollgate_tests::stage::{CASHBACK, Ran, Setup, Stage, wait_until};
use tollgate_tests::{hostile_dir, plugins_dir};

const MAIN: &str = "/v1/tenants/acme/routes/cashback";

/// A component of the same code that says of itself that it is this version of `cashback`: another digest.
fn as_cashback(file: PathBuf, version: &str) -> Vec<u8> {
    as_version(file, "cashback", version)
}

fn as_version(file: PathBuf, name: &str, version: &str) -> Vec<u8> {
    let mut component = std::fs::read(file).expect("a component");
    let manifest = json!({
        "name": name, "version": version, "publisher": "Acme", "events": ["reward.redeemed"],
        "actions": ["credit", "flag"], "state": true,
    });
    section(&mut component, "tollgate:manifest", manifest.to_string().as_bytes());
    component
}

/// Appends a custom section to the component's own.
fn section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    let number = |mut value: usize| {
        let mut bytes = Vec::new();
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    };
    let body = [number(name.len()), name.as_bytes().to_vec(), data.to_vec()].concat();
    component.push(0);
    component.extend(number(body.len()));
    component.extend(body);
}

pub(super) fn cashback(version: &str) -> Vec<u8> {
    as_cashback(plugins_dir().join("cashback.wasm"), version)
}

fn stage() -> Stage {
    Setup::acme(CASHBACK).plugin("cashback").start()
}

/// Pushes a component for acme by the command line.
fn push(stage: &Stage, component: &[u8]) -> Ran {
    let name = format!("{}.wasm", &PluginDigest::of(component).to_string()[7..]);
    std::fs::write(stage.path(&name), component).expect("a file");
    let path = stage.path(&name);
    stage.ask(&["plugin", "push", path.to_str().expect("UTF-8"), "--tenant", "acme"])
}

/// Pushes and publishes; answers the digest.
fn publish(stage: &Stage, component: &[u8]) -> String {
    let pushed = push(stage, component).ok();
    let digest = pushed.json()["digest"].as_str().expect("a digest").to_owned();
    stage
        .ask(&["plugin", "publish", &digest, "--tenant", "acme", "--why", "tested"])
        .ok();
    digest
}

/// `tollgate plugin WHAT acme cashback …`.
fn plugin(stage: &Stage, what: &str, more: &[&str]) -> Ran {
    stage.ask(&[&["plugin", what, "acme", "cashback", "--why", "a test"], more].concat())
}

fn binding(stage: &Stage) -> Value {
    stage.operator_get(MAIN).json()["binding"].clone()
}

/// Sends events `from..to`, each of a customer of its own, and waits until they are done. Answers the digest that ran each.
fn send(stage: &Stage, range: std::ops::Range<u32>) -> BTreeMap<u32, String> {
    for number in range.clone() {
        post(stage, number);
    }
    stage.quiet();
    range.map(|number| (number, digest_of(stage, number))).collect()
}

fn post(stage: &Stage, number: u32) {
    let body = redeemed_by(
        &format!("evt_{number}"),
        &format!("red_{number}"),
        "success",
        &format!("user_{number}"),
    );
    let answer = stage.post("shop", &signer("shop").sign("", body));
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// The digest of the one run of an event, which was completed.
fn digest_of(stage: &Stage, number: u32) -> String {
    let trace = stage.operator_get(&format!("/v1/trace?id=evt_{number}")).json();
    let runs = trace[0]["jobs"][0]["runs"].as_array().expect("runs").clone();
    assert_eq!(runs.len(), 1, "{trace:#}");
    assert_eq!(runs[0]["outcome"], "completed", "{trace:#}");
    runs[0]["digest"].as_str().expect("a digest").to_owned()
}

/// As [`cashback`], with a schema of its configuration.
fn cashback_asking(version: &str, schema: &Value) -> Vec<u8> {
    let mut component = std::fs::read(plugins_dir().join("cashback.wasm")).expect("a component");
    let manifest = json!({
        "name": "cashback", "version": version, "publisher": "Acme", "events": ["reward.redeemed"],
        "actions": ["credit", "flag"], "state": true, "configuration": schema,
    });
    section(&mut component, "tollgate:manifest", manifest.to_string().as_bytes());
    component
}

#[test]
fn w7_a_version_that_the_routes_configuration_does_not_fit_is_not_bound() {
    let stage = stage();
    let narrow = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "rate_bps": { "type": "integer", "maximum": 500 }, "currency": { "type": "string" } },
    });
    let digest = publish(&stage, &cashback_asking("2.0.0", &narrow));
    for what in ["shadow", "canary", "promote"] {
        let more: &[&str] = if what == "canary" { &["--per-mille", "50"] } else { &[] };
        let refused = plugin(&stage, what, &[&[digest.as_str()], more].concat());
        assert_eq!(refused.code, 1, "{what}: {refused:?}");
        assert!(
            refused
                .stderr
                .contains("does not fit `cashback` 2.0.0: `rate_bps` is 1000; it must be at most 500"),
            "{what}: {refused:?}"
        );
    }
    // A schema that no host would hold is refused when it is handed in, with its place.
    let dialect = json!({ "type": "object", "properties": { "code": { "type": "string", "pattern": "^[A-Z]+$" } } });
    push(&stage, &cashback_asking("3.0.0", &dialect)).fails(
        1,
        "`configuration.properties.code.pattern`: no host checks this keyword",
    );
    // What fits is bound, and from then on a route set by hand is held against it.
    let fits = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "rate_bps": { "type": "integer", "maximum": 1000 }, "currency": { "type": "string" } },
    });
    let digest = publish(&stage, &cashback_asking("4.0.0", &fits));
    plugin(&stage, "promote", &[&digest]).ok();
    let definition = |config: Value| {
        let definition = json!({
            "types": ["reward.redeemed"], "plugin": "cashback",
            "grants": [{ "kind": "credit", "amount_max": 5000, "currencies": ["INR"] }], "config": config,
        });
        let file = stage.path("route.json");
        std::fs::write(&file, definition.to_string()).expect("a file");
        let file = file.to_str().expect("UTF-8");
        stage.ask(&["route", "set", "acme", "cashback", "--file", file, "--why", "a test"])
    };
    let refused = definition(json!({ "rate_bsp": 500, "currency": "INR" }));
    assert_eq!(refused.code, 1, "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    says(&said, &["`rate_bsp` is no key of this configuration"]);
    assert!(said.contains("did you mean `rate_bps`?"), "{refused:?}");
    let refused = definition(json!({ "rate_bps": 2000, "currency": "INR" }));
    assert!(
        format!("{}{}", refused.stdout, refused.stderr).contains("`rate_bps` is 2000; it must be at most 1000"),
        "{refused:?}"
    );
    assert_eq!(definition(json!({ "rate_bps": 500, "currency": "INR" })).code, 0);
}

#[test]
fn w1_a_plugin_lives_its_whole_life_while_events_flow() {
    let mut stage = stage();
    let pid = stage.pid();
    let one = binding(&stage)["active"].as_str().expect("a digest").to_owned();
    assert!(send(&stage, 0..3).values().all(|digest| *digest == one));

    // Handed in and vetted: it runs nowhere yet, and cannot be bound.
    let component = cashback("2.0.0");
    let pushed = push(&stage, &component).json();
    assert_eq!(pushed["standing"], "vetted");
    assert_eq!(pushed["report"]["golden"][0]["outcome"], "held", "{pushed:#}");
    let two = pushed["digest"].as_str().expect("a digest").to_owned();
    plugin(&stage, "promote", &[&two]).fails(1, "publish it first");
    assert_eq!(publish(&stage, &component), two);

    // Beside the active one: the same input, no effect.
    plugin(&stage, "shadow", &["cashback@2.0.0"]).ok();
    assert!(send(&stage, 3..13).values().all(|digest| *digest == one));
    let report = wait_until("the shadow has run beside all", || {
        let report = stage.operator_get(&format!("{MAIN}/shadow-runs")).json();
        (report["tally"]["runs"] == 10).then_some(report)
    });
    assert_eq!(report["tally"]["differences"], 0, "{report:#}");
    assert_eq!(stage.counts()["actions"], 13, "a shadow records nothing in the ledger");

    // For half of the subjects, with effects; the same subject stays where it is.
    plugin(&stage, "canary", &[&two, "--per-mille", "500"]).ok();
    let halves = send(&stage, 13..53);
    let served: BTreeSet<_> = halves.values().cloned().collect();
    assert_eq!(served, BTreeSet::from([one.clone(), two.clone()]));

    // For all: what a dry run says, and then in earnest; and a restart keeps it.
    let dry = plugin(&stage, "promote", &[&two[..20], "--dry-run"]).json();
    assert_eq!((&dry["dry_run"], &dry["after"]["active"]), (&json!(true), &json!(two)));
    assert_eq!(binding(&stage)["active"], json!(one));
    plugin(&stage, "promote", &[&two]).ok();
    assert!(send(&stage, 53..58).values().all(|digest| *digest == two));
    assert_eq!(stage.pid(), pid, "all of it without a restart");
    stage.kill();
    stage.start();
    assert!(
        send(&stage, 58..60).values().all(|digest| *digest == two),
        "a hand wins over the file"
    );

    // Back with one command; then nobody runs it any more and it can go.
    stage
        .ask(&["plugin", "retire", &two, "--tenant", "acme", "--why", "old"])
        .fails(1, "acme/cashback");
    plugin(&stage, "rollback", &[]).ok();
    assert!(send(&stage, 60..63).values().all(|digest| *digest == one));
    stage
        .ask(&["plugin", "retire", &two, "--tenant", "acme", "--why", "old"])
        .ok();
    plugin(&stage, "promote", &[&two]).fails(1, "retired");

    // Every event had its effect once, whoever ran it.
    let counts = stage.quiet();
    holds(&counts, &json!({ "receipts": 63, "actions": 63 }));
    assert_eq!(counts["dead_letters_open"], 0);
    let lines = stage.operator_get(&format!("{MAIN}/history")).json();
    let whats: Vec<_> = lines
        .as_array()
        .expect("lines")
        .iter()
        .rev()
        .map(|line| line["what"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        whats,
        ["follows the file", "shadow", "canary", "promoted", "rolled back"]
    );
    assert_eq!(lines[0]["why"], "a test");
    assert_eq!(lines[0]["actor"], "tester");
    let versions = stage.ask(&["plugin", "history", &two, "--tenant", "acme"]).json();
    assert!(versions.to_string().contains("published") && versions.to_string().contains("retired"));
    stage.assert_whole();
}

#[test]
fn w1_a_shadow_that_differs_is_counted_and_has_no_effect() {
    let stage = stage();
    let other = publish(&stage, &as_cashback(hostile_dir().join("refuse.wasm"), "3.0.0"));
    plugin(&stage, "shadow", &[&other]).ok();
    send(&stage, 0..5);
    let report = wait_until("the shadow has run beside all", || {
        let ran = stage.ask(&["plugin", "shadow", "acme", "cashback", "--report"]).json();
        (ran["tally"]["runs"] == 5).then_some(ran)
    });
    assert_eq!(report["tally"]["differences"], 5, "{report:#}");
    assert_eq!(report["runs"][0]["active_outcome"], "completed");
    assert_eq!(report["runs"][0]["outcome"], "refused");
    // Shadows of several subjects run side by side: their order says nothing.
    let keys: BTreeSet<_> = report["runs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|run| run["active_actions"][0]["operation_key"].as_str())
        .collect();
    assert_eq!(
        keys,
        BTreeSet::from([
            "cashback:red_0",
            "cashback:red_1",
            "cashback:red_2",
            "cashback:red_3",
            "cashback:red_4"
        ])
    );
    holds(&stage.counts(), &json!({ "actions": 5, "runs": 5 }));
    assert_eq!(stage.metric("tollgate_shadow_runs_total{result=\"differing\"}"), 5);
    plugin(&stage, "shadow", &["--end"]).ok();
    assert_eq!(plugin(&stage, "shadow", &["--end"]).code, 1);
}

#[test]
fn w2_every_upload_that_cannot_be_a_plugin_is_refused_with_its_reason() {
    let stage = stage();
    let upload = |component: &[u8]| {
        let answer = stage.operator_send("POST", "/v1/plugins?tenant=acme", component);
        (answer.status, answer.json())
    };
    let hostile = |name: &str| std::fs::read(hostile_dir().join(format!("{name}.wasm"))).expect("a guest");
    let mut bad_golden = cashback("1");
    section(&mut bad_golden, "tollgate:golden", b"[]");
    let mut broken_golden = cashback("1");
    section(
        &mut broken_golden,
        "tollgate:golden",
        br#"[{"name":"mine","fixture":{"event":{"type":"reward.redeemed"},"expect":{"actions":[]}}}]"#,
    );
    for (component, code, says) in [
        (Vec::new(), "not-a-component", "the file is empty"),
        (b"\x7fELF".to_vec(), "not-a-component", "not WebAssembly"),
        (hostile("wasi_import"), "import-outside-world", "wasm32-unknown-unknown"),
        (hostile("no_manifest"), "missing-manifest", "manifest!"),
        (hostile("bad_manifest"), "bad-manifest", "Correct it"),
        (hostile("wrong_version"), "wrong-version", "tollgate:plugin 1.x"),
        (hostile("wrong_world"), "wrong-world", "wit/tollgate.wit"),
        (hostile("lie"), "wrong-world", "another type"),
        (hostile("trap_at_start"), "trial-failed", "Do no work"),
        (hostile("spin_at_start"), "trial-failed", "Do no work"),
        (hostile("panic"), "golden-failed", "let it refuse or hold"),
        (hostile("spin"), "golden-failed", "out-of-fuel"),
        (bad_golden, "bad-golden", "tollgate:golden"),
        (broken_golden, "golden-failed", "`mine`"),
    ] {
        let (status, said) = upload(&component);
        assert_eq!((status, &said["code"]), (400, &json!(code)), "{said}");
        assert!(
            said["error"].as_str().unwrap_or_default().contains(says),
            "`{said}` does not say `{says}`"
        );
    }
    let shown = stage.ask(&["plugin", "list", "--tenant", "acme"]).json();
    assert_eq!(
        shown.as_array().map(Vec::len),
        Some(1),
        "only the configuration's is there: {shown}"
    );

    // Over the cap: told before the body is there, and cut off when nothing was announced.
    let mut announced = stage.operator_stream();
    announced
        .write_all(&stage.operator_head("POST", "/v1/plugins", "content-length: 999999999"))
        .expect("a head");
    assert!(first_line(&mut announced).contains("413"));
    let mut chunked = stage.operator_stream();
    chunked
        .write_all(&stage.operator_head("POST", "/v1/plugins", "transfer-encoding: chunked"))
        .expect("a head");
    let piece = [b"100000\r\n".as_slice(), &vec![0; 0x10_0000], b"\r\n"].concat();
    for _ in 0..40 {
        if chunked.write_all(&piece).is_err() {
            break;
        }
    }
    assert!(first_line(&mut chunked).contains("413"));
    // The host is as well as before.
    send(&stage, 0..2);
}

fn first_line(stream: &mut TcpStream) -> String {
    use std::io::{BufRead as _, BufReader};
    let mut line = String::new();
    // What was sent in vain may end the connection with a reset after the answer.
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

#[test]
fn w2_a_tenant_can_require_signatures_of_keys_that_it_knows() {
    let stage = Setup::acme(&format!("[promotion]\nrequire_signed = true\n{CASHBACK}"))
        .plugin("cashback")
        .start();
    // What the operator's own file names runs: it is the operator who runs the host.
    send(&stage, 0..1);
    let unsigned = publish(&stage, &cashback("2.0.0"));
    let refused = |what: &str, more: &[&str], says: &str| {
        let ran = plugin(&stage, what, more);
        assert!(ran.code == 1 && ran.stderr.contains(says), "{what}: {ran:?}");
    };
    refused("promote", &[&unsigned], "carries no signature");
    refused("shadow", &[&unsigned], "carries no signature");
    refused("canary", &[&unsigned, "--per-mille", "5"], "carries no signature");

    let key = PrivateKey::from_seed(&[7; 32]);
    let stranger = PrivateKey::from_seed(&[8; 32]);
    let component = cashback("3.0.0");
    let digest = PluginDigest::of(&component);
    let sign = |key: &PrivateKey, file: &str| {
        let signature = key.sign("labs".parse().expect("a name"), "2026".parse().expect("an id"), digest);
        stage.write(file, &signature.to_json());
        stage.path(file).to_str().expect("UTF-8").to_owned()
    };
    std::fs::write(stage.path("signed.wasm"), &component).expect("a file");
    let file = stage.path("signed.wasm").to_str().expect("UTF-8").to_owned();
    let push_signed =
        |signature: &str| stage.ask(&["plugin", "push", &file, "--tenant", "acme", "--signature", signature]);
    let (good, forged) = (sign(&key, "good.json"), sign(&stranger, "forged.json"));
    assert_eq!(
        push_signed(&forged).code,
        0,
        "nobody knows the key yet, so nobody can say"
    );
    let signed = publish(&stage, &component);
    refused("promote", &[&signed], "has not registered");
    let add = |key: &PrivateKey| {
        let public = key.public().to_text();
        stage.ask(&["publisher", "add", "acme", "labs", "2026", &public, "--why", "a friend"])
    };
    assert_eq!(add(&key).code, 0);
    assert_eq!(add(&stranger).code, 1, "an id means one key");
    refused("promote", &[&signed], "does not fit");
    assert_eq!(push_signed(&forged).code, 1, "and now it is seen at the upload");
    assert_eq!(push_signed(&good).code, 0);
    plugin(&stage, "promote", &[&signed]).ok();
    assert_eq!(
        send(&stage, 1..3).into_values().collect::<BTreeSet<_>>(),
        BTreeSet::from([signed.clone()])
    );

    // A key that is not believed any more lets nothing new in; what runs goes on, and the way back is free.
    stage
        .ask(&["publisher", "revoke", "acme", "labs", "2026", "--why", "stolen"])
        .ok();
    send(&stage, 3..4);
    plugin(&stage, "rollback", &[]).ok();
    refused("promote", &[&signed], "is revoked");
}

#[test]
fn w4_a_gate_asks_for_a_trial_and_for_shadow_runs() {
    let gate = "[promotion]\nrequire_trial = true\nshadow_runs_min = 3\nshadow_differences_max = 0\n";
    let stage = Setup::acme(&format!("{gate}{CASHBACK}")).plugin("cashback").start();
    let one = binding(&stage)["active"].as_str().expect("a digest").to_owned();
    send(&stage, 0..4);
    let two = publish(&stage, &cashback("2.0.0"));
    let refused = |says: &[&str]| {
        let ran = plugin(&stage, "promote", &[&two]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            says.iter().all(|says| ran.stderr.contains(says)),
            "{ran:?} does not say {says:?}"
        );
    };
    refused(&["requires a trial", "requires 3 shadow runs"]);
    let on_route = ["--tenant", "acme", "--route", "cashback"];
    let trial = |more: &[&str]| stage.ask(&[&["plugin", "trial", &two], on_route.as_slice(), more].concat());
    // One that only the asker saw is no evidence.
    let seen = trial(&["--against", &one]);
    assert_eq!((seen.code, &seen.json()["runs"]), (0, &json!(4)), "{seen:?}");
    refused(&["requires a trial", "requires 3 shadow runs"]);
    assert_eq!(stage.ask(&["plugin", "trial", &two, "--keep"]).code, 2);
    let before = stage.counts();
    let kept = trial(&["--keep"]);
    let said = kept.json();
    // An author sees what differs in all, and nothing of receipts.
    let author = stage.token("plugin-author", "acme");
    let other = publish(&stage, &as_cashback(plugins_dir().join("inventory.wasm"), "3.0.0"));
    let body = json!({ "plugin": other }).to_string();
    let seen = stage
        .ask_as(&author, "POST", &format!("{MAIN}/trials"), body.as_bytes())
        .json();
    holds(&seen, &json!({ "differing": 4, "examples": [] }));
    assert_eq!(trial(&["--keep"]).code, 0, "it is of another candidate");
    assert_eq!(
        (kept.code, &said["runs"], &said["differing"]),
        (0, &json!(4), &json!(0)),
        "{kept:?}"
    );
    assert_eq!(stage.counts(), before, "nothing happened");
    refused(&["requires 3 shadow runs"]);
    assert_eq!(
        plugin(&stage, "shadow", &[&two]).code,
        0,
        "a shadow has no effects and needs no trial"
    );
    send(&stage, 4..8);
    wait_until("the shadow has run beside all", || {
        let report = stage.operator_get(&format!("{MAIN}/shadow-runs")).json();
        (report["tally"]["runs"] == 4).then_some(())
    });
    plugin(&stage, "promote", &[&two]).ok();
    assert_eq!(plugin(&stage, "rollback", &[]).code, 0, "the way back asks for nothing");
}

#[test]
fn w4_a_trial_and_a_promotion_say_when_the_active_version_cannot_read_what_the_candidate_writes() {
    let route = "[routes.visits]\nplugin = \"strict_state\"\ngrants = [{ kind = \"flag\" }]\n";
    let stage = Setup::acme(route).hostile("strict_state").start();
    for number in 1..=3 {
        post(&stage, number);
    }
    stage.quiet();
    let version = |guest: &str, version| {
        let file = hostile_dir().join(format!("{guest}.wasm"));
        publish(&stage, &as_version(file, "strict_state", version))
    };
    let (wider, same) = (version("wider_state", "2.0.0"), version("strict_state", "3.0.0"));
    let on_route = ["--tenant", "acme", "--route", "visits"];
    let trial = |digest: &str, more: &[&str]| {
        let command: &[&str] = &["plugin", "trial", digest];
        stage.ask(&[command, on_route.as_slice(), more].concat())
    };
    let change = |what: &str, more: &[&str]| {
        let command: &[&str] = &["plugin", what, "acme", "visits", "--why", "a test"];
        stage.ask(&[command, more].concat())
    };
    // Both answer as the recorded runs did; only one leaves state that the active version can go on with.
    let before = stage.counts();
    for kept in [&[][..], &["--keep"]] {
        let seen = trial(&wider, kept);
        let said = seen.json();
        assert_eq!((seen.code, &said["differing"]), (1, &json!(0)), "{seen:?}");
        holds(&said["state"], &json!({ "read": 3, "unreadable": 3 }));
        // In the order of the runs, which is not that of the events: two workers ran them.
        let examples = said["state"]["examples"].as_array().expect("examples");
        let mut named: Vec<_> = examples.iter().map(|example| example["event_id"].as_str()).collect();
        named.sort_unstable();
        assert_eq!(named, [Some("evt_1"), Some("evt_2"), Some("evt_3")], "{said:#}");
        for example in examples {
            holds(example, &json!({ "keys": ["visits"], "outcome": "held" }));
        }
        let seen = trial(&same, kept);
        let said = seen.json();
        assert_eq!(
            (seen.code, &said["state"]["read"], &said["state"]["unreadable"]),
            (0, &json!(3), &json!(0)),
            "{seen:?}"
        );
    }
    assert_eq!(stage.counts(), before, "nothing happened");
    let shown = stage.ask_for_people(&["plugin", "trial", &wider, "--route", "visits"]);
    assert!(shown.stdout.contains("cannot go on with what it wrote"), "{shown:?}");
    // An author is told that it is so, and of no event.
    let author = stage.token("plugin-author", "acme");
    let body = json!({ "plugin": wider }).to_string();
    let seen = stage.ask_as(
        &author,
        "POST",
        "/v1/tenants/acme/routes/visits/trials",
        body.as_bytes(),
    );
    let seen = seen.json();
    assert_eq!(
        (&seen["state"]["unreadable"], &seen["state"]["examples"]),
        (&json!(4), &json!([])),
        "up to a power of two: {seen:#}"
    );

    let promoted = change("promote", &[&wider, "--dry-run"]).json();
    let warning = promoted["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("in 3 of 3 runs"), "{promoted:#}");
    assert_eq!(change("promote", &[&same, "--dry-run"]).json()["warnings"], Value::Null);
    // It is as was said: after a rollback, the customer's next event waits for a person.
    assert_eq!(change("promote", &[&wider]).code, 0);
    post(&stage, 4);
    stage.quiet();
    assert_eq!(change("rollback", &[]).code, 0);
    post(&stage, 5);
    stage.quiet();
    let traced = |number: u32| stage.trace(&format!("evt_{number}"))["jobs"][0]["state"].clone();
    assert_eq!((traced(4), traced(5)), (json!("done"), json!("held")));
}

#[test]
fn w4_a_gate_that_asks_for_a_trial_asks_for_a_way_back() {
    let route = "[routes.visits]\nplugin = \"strict_state\"\ngrants = [{ kind = \"flag\" }]\n";
    let gate = "[promotion]\nrequire_trial = true\n";
    let stage = Setup::acme(&format!("{gate}{route}")).hostile("strict_state").start();
    post(&stage, 1);
    stage.quiet();
    let file = hostile_dir().join("wider_state.wasm");
    let wider = publish(&stage, &as_version(file, "strict_state", "2.0.0"));
    let kept = stage.ask(&[
        "plugin", "trial", &wider, "--tenant", "acme", "--route", "visits", "--keep",
    ]);
    assert_eq!((kept.code, &kept.json()["differing"]), (1, &json!(0)), "{kept:?}");
    stage
        .ask(&["plugin", "promote", "acme", "visits", &wider, "--why", "a test"])
        .fails(1, "cannot read the state");
}

#[test]
fn w1_a_swap_under_load_loses_and_doubles_nothing() {
    let stage = stage();
    let one = binding(&stage)["active"].as_str().expect("a digest").to_owned();
    let two = publish(&stage, &cashback("2.0.0"));
    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    post(&stage, sent.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let change = |what: &str, body: Value| {
            let answer = stage.operator_post(&format!("{MAIN}/{what}"), &body.to_string());
            assert_eq!(answer.status, 200, "{answer:?}");
            std::thread::sleep(Duration::from_millis(20));
        };
        for _ in 0..12 {
            change("promote", json!({ "plugin": two, "why": "load" }));
            change("rollback", json!({ "why": "load" }));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let counts = stage.quiet();
    let sent = sent.into_inner();
    holds(
        &counts,
        &json!({ "receipts": sent, "runs": sent, "actions": sent, "dead_letters_open": 0 }),
    );
    let digests: BTreeSet<_> = (0..sent).map(|number| digest_of(&stage, number)).collect();
    assert_eq!(digests, BTreeSet::from([one, two]), "of {sent} events");
    stage.assert_whole();
}

#[test]
fn w1_a_kill_in_the_middle_of_a_change_leaves_a_whole_state() {
    let mut stage = stage();
    let one = binding(&stage)["active"].as_str().expect("a digest").to_owned();
    for round in 0..6_u32 {
        let component = cashback(&format!("2.0.{round}"));
        let digest = PluginDigest::of(&component).to_string();
        let address = stage.operator;
        // The calls go out one after the other; at some point of them the host is gone.
        let calls = [
            ("/v1/plugins?tenant=acme".to_owned(), component),
            (
                format!("/v1/plugins/{digest}/publish?tenant=acme"),
                json!({ "why": "kill" }).to_string().into_bytes(),
            ),
            (
                format!("{MAIN}/promote"),
                json!({ "plugin": digest, "why": "kill" }).to_string().into_bytes(),
            ),
        ];
        let heads: Vec<_> = calls
            .iter()
            .map(|(path, body)| stage.operator_head("POST", path, &format!("content-length: {}", body.len())))
            .collect();
        let caller = std::thread::spawn(move || {
            let mut answered = Vec::new();
            for ((_, body), head) in calls.iter().zip(heads) {
                let Ok(mut stream) = TcpStream::connect(address) else {
                    break;
                };
                if stream.write_all(&[head, body.clone()].concat()).is_err() {
                    break;
                }
                answered.push(first_line(&mut stream).contains("200"));
            }
            answered
        });
        post(&stage, round);
        std::thread::sleep(Duration::from_millis(u64::from(round) * 250));
        stage.kill();
        let answered = caller.join().expect("a caller");
        stage.start();
        let standing = stage.operator_get(&format!("/v1/plugins/{digest}?tenant=acme")).json()["standing"].clone();
        let now = binding(&stage);
        // What was answered is there; what was not may be there, but whole.
        if answered.first() == Some(&true) {
            assert!(!standing.is_null(), "round {round}: {answered:?}");
        }
        if answered.get(1) == Some(&true) {
            assert_eq!(standing, "published", "round {round}");
        }
        if answered.get(2) == Some(&true) {
            assert_eq!(now["active"], json!(digest), "round {round}");
        }
        let lines = stage.operator_get(&format!("{MAIN}/history")).json();
        let newest = lines[0]["to"].as_str().unwrap_or_default();
        let active = now["active"].as_str().expect("a digest");
        assert!(
            newest.contains(active),
            "round {round}: the history ends with {newest}, but {active} runs"
        );
        if active != one {
            assert_eq!(
                stage.operator_get(&format!("/v1/plugins/{active}?tenant=acme")).json()["standing"],
                "published"
            );
        }
        stage.quiet();
        digest_of(&stage, round);
    }
    stage.assert_whole();
}

#[test]
fn o1_a_route_is_set_by_api_checked_as_a_file_and_removed() {
    let stage = stage();
    let path = "/v1/tenants/acme/routes/bonus";
    let put = |definition: Value| {
        let body = json!({ "definition": definition, "why": "a bonus" });
        stage.operator_send("PUT", path, body.to_string().as_bytes())
    };
    for (definition, field, says) in [
        (
            json!({ "types": ["reward.redeemed"] }),
            "routes.bonus",
            "needs `plugin`",
        ),
        (
            json!({ "plugin": "cashback", "colour": "red" }),
            "routes.bonus.colour",
            "unknown key `colour`",
        ),
    ] {
        let answer = put(definition);
        let said = answer.json();
        assert_eq!((answer.status, &said["code"]), (400, &json!("definition")), "{said}");
        assert!(
            said["problems"]
                .as_array()
                .is_some_and(|problems| problems.iter().any(|problem| problem["field"] == field
                    && problem["message"].as_str().unwrap_or_default().contains(says))),
            "{said} does not name {field} and say {says}"
        );
    }
    assert_eq!(put(json!({ "plugin": null })).status, 400);
    assert_eq!(stage.operator_get(path).status, 404);

    stage.write(
        "bonus.toml",
        "types = [\"reward.redeemed\"]\nplugin = \"cashback\"\n[[grants]]\nkind = \"credit\"\namount_max = 20\n\
         currencies = [\"INR\"]\n[config]\nrate_bps = 500\ncurrency = \"INR\"\n[limits]\nfuel = 50000000\nstate_keys = 2\n",
    );
    let file = stage.path("bonus.toml");
    stage
        .ask(&[
            "route",
            "set",
            "acme",
            "bonus",
            "--file",
            file.to_str().expect("UTF-8"),
            "--why",
            "a bonus",
        ])
        .ok();
    let shown = stage.operator_get(path).json();
    assert_eq!(
        (
            &shown["set_by"],
            &shown["limits"]["state_keys"],
            &shown["grants"][0]["amount_max"]
        ),
        (&json!("api"), &json!(2), &json!(20))
    );
    post(&stage, 1);
    stage.quiet();
    // Two routes take it: 50.00 INR × 10 % stays within the file's grant, × 5 % does not within the new route's.
    let trace = stage.trace("evt_1");
    let jobs = trace["jobs"].as_array().expect("jobs");
    assert_eq!(jobs.len(), 2, "{trace:#}");
    let bonus = jobs
        .iter()
        .find(|job| job["route"] == "bonus")
        .expect("the new route's job");
    assert_eq!(bonus["state"], "dead");
    let message = bonus["runs"][0]["message"].as_str().unwrap_or_default();
    says(message, &["action 0", "over the route's 20 minor units"]);
    let refused = stage.metric("tollgate_proposals_refused_total{tenant=\"acme\",rule=\"amount-max\"}");
    assert_eq!(refused, 1);

    // It stays over a restart and a reload, and goes when it is told to.
    stage.reload();
    assert_eq!(stage.operator_get(path).status, 200);
    stage
        .ask(&["route", "remove", "acme", "cashback", "--why", "no"])
        .fails(1, "stands in the file");
    stage.ask(&["route", "remove", "acme", "bonus", "--why", "over"]).ok();
    assert_eq!(stage.operator_get(path).status, 404);
    post(&stage, 2);
    stage.quiet();
    assert_eq!(stage.trace("evt_2")["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        stage.ask(&["route", "remove", "acme", "bonus", "--why", "over"]).code,
        1
    );
}

#[test]
fn w1_a_route_follows_its_file_until_a_hand_binds_it_and_again_when_told() {
    let mut stage = stage();
    let one = binding(&stage)["active"].clone();
    let newer = cashback("1.5.0");
    std::fs::write(stage.path("newer.wasm"), &newer).expect("a file");
    let file = stage.path("newer.wasm");
    stage.offer("cashback", &file);
    stage.reload();
    assert_eq!(
        binding(&stage)["active"],
        json!(PluginDigest::of(&newer)),
        "the file is followed"
    );
    let two = publish(&stage, &cashback("2.0.0"));
    plugin(&stage, "promote", &[&two]).ok();
    stage.offer("cashback", &plugins_dir().join("cashback.wasm"));
    stage.reload();
    assert_eq!(binding(&stage)["active"], json!(two), "a hand wins");
    plugin(&stage, "follow-file", &[]).ok();
    assert_eq!(
        (&binding(&stage)["active"], &binding(&stage)["by_hand"]),
        (&one, &json!(false))
    );
    assert_eq!(plugin(&stage, "follow-file", &[]).code, 1);
    send(&stage, 0..2);
}
