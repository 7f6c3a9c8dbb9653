//! The operator's questions, through the command line; and a dead letter's way back.

use serde_json::Value;
use tollgate_tests::events::{plain, signer};
use tollgate_tests::spin::{OPERATOR_TOKEN, SpinSetup, SpinStage};
use tollgate_tests::stage::Ran;

/// Runs `tollgate … --spin URL --json` with the operator's token.
fn ask(stage: &SpinStage, arguments: &[&str]) -> Ran {
    let output = std::process::Command::new(tollgate_tests::tollgate_bin())
        .args(arguments)
        .args(["--json", "--spin", &format!("http://{}/", stage.address)])
        .env("TOLLGATE_SPIN_TOKEN", OPERATOR_TOKEN)
        .env("USER", "tester")
        .output()
        .expect("tollgate starts");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn r2_trace_dlq_and_replay_are_answered_on_spin() {
    let route = "\n[routes.bad]\ntypes = [\"bad\"]\nplugin = \"bad_amount\"\ngrants = [{ kind = \"credit\", amount_max = 500, currencies = [\"USD\"] }]\n";
    let stage = SpinSetup::acme(route).hostile("bad_amount").start();
    let answer = stage.post("shop", &signer("shop").sign("", plain("bad", "evt_1")));
    stage.finished(&answer.receipt());

    let traced = ask(&stage, &["trace", "evt_1"]);
    assert_eq!(traced.code, 0, "{traced:?}");
    assert_eq!(traced.json()[0]["receipt"]["id"], answer.receipt());
    assert_eq!(ask(&stage, &["trace", "nothing"]).code, 1);

    let listed = ask(&stage, &["dlq", "list", "--route", "bad"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed:#}");
    assert_eq!(
        ask(&stage, &["dlq", "list", "--route", "other"]).json(),
        Value::Array(Vec::new())
    );
    let letter = listed[0]["id"].as_str().unwrap();
    let shown = ask(&stage, &["dlq", "show", letter]).json();
    assert_eq!(shown["trace"]["receipt"]["event_id"], "evt_1");

    let dry = ask(&stage, &["replay", letter, "--dry-run"]).json();
    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["replayed"].as_array().map(Vec::len), Some(1));
    assert_eq!(stage.counts()["runs"], 1, "a dry run changes nothing");
    let done = ask(&stage, &["replay", letter]).json();
    assert_eq!(done["replayed"].as_array().map(Vec::len), Some(1));
    stage.sweep();
    let trace = stage.finished(&answer.receipt());
    assert_eq!(trace["jobs"][0]["runs"].as_array().map(Vec::len), Some(2));
    let history = trace["history"][0]["detail"].as_str().unwrap();
    assert!(history.contains("by tester"), "{history}");

    let unknown = ask(&stage, &["trace", "evt_1", "--tenant", "nobody"]);
    assert_eq!(unknown.json(), Value::Array(Vec::new()));
}
