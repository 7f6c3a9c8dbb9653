//! W3, W4: recorded runs, run again by their own version and by others.

use serde_json::{Value, json};
use tollgate_tests::json::holds;
use tollgate_tests::plugins_dir;
use tollgate_tests::stage::{CASHBACK, Setup, Stage};

/// A stage with `count` finished cashback runs of one customer, each of which read what the one before it wrote.
fn with_runs(count: u32) -> Stage {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    for number in 1..=count {
        assert_eq!(stage.redeem(number).status, 202);
        stage.quiet();
    }
    stage
}

fn plugin(name: &str) -> String {
    let path = plugins_dir().join(format!("{name}.wasm"));
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn w3_a_recorded_run_replays_to_the_same_actions_and_fuel() {
    let stage = with_runs(3);
    let before = stage.counts();
    let runs: Vec<Value> = (1..=3)
        .map(|number| stage.trace(&format!("evt_{number}"))["jobs"][0]["runs"][0].clone())
        .collect();
    for run in &runs {
        let ran = stage.ask(&["plugin", "replay", run["id"].as_str().expect("an id")]);
        let said = ran.json();
        assert_eq!((ran.code, &said["same"]), (0, &json!(true)), "{ran:?}");
        assert_eq!(
            (&said["fuel_before"], &said["fuel_after"]),
            (&run["fuel"], &run["fuel"])
        );
        holds(&said, &json!({ "differences": [], "beyond_record": false }));
    }
    assert_eq!(stage.counts(), before, "nothing happened");
    assert_eq!(stage.ask(&["plugin", "replay", "run_999"]).code, 1);
    assert_eq!(stage.ask(&["plugin", "replay", "seven"]).code, 2);
    let proof = stage.ask(&["plugin", "proof"]);
    assert_eq!((proof.code, &proof.json()["holds"]), (0, &json!(true)), "{proof:?}");
    assert_eq!(proof.json()["versions"][0]["same"], 3);
}

#[test]
fn w4_a_trial_of_the_same_version_differs_in_nothing_and_has_no_effect() {
    let mut stage = with_runs(5);
    let before = (stage.counts(), stage.traces("evt_1"));
    let ran = stage.ask(&["plugin", "trial", &plugin("cashback")]);
    let said = ran.json();
    assert_eq!(
        (ran.code, &said["runs"], &said["differing"]),
        (0, &json!(5), &json!(0)),
        "{ran:?}"
    );
    assert_eq!(
        (&said["fuel_before"], &said["money"][0]["before"]),
        (&said["fuel_after"], &said["money"][0]["after"])
    );
    // Beside the candidate instead of from the record, on one thread, of a stopped host: all the same.
    stage.stop();
    let beside = stage.ask(&[
        "plugin",
        "trial",
        &plugin("cashback"),
        "--against",
        &plugin("cashback"),
        "--threads",
        "1",
    ]);
    assert_eq!((beside.code, &beside.json()["runs"]), (0, &json!(5)));
    stage.start();
    assert_eq!((stage.counts(), stage.traces("evt_1")), before);
}

#[test]
fn w4_a_trial_says_what_another_version_would_do_otherwise() {
    let stage = with_runs(3);
    let before = stage.counts();
    let ran = stage.ask(&["plugin", "trial", &plugin("inventory"), "--route", "cashback"]);
    let said = ran.json();
    assert_eq!(
        (ran.code, &said["runs"], &said["differing"]),
        (1, &json!(3), &json!(3)),
        "{ran:?}"
    );
    assert_eq!(said["actions_removed"], json!({ "credit": 3 }));
    let money = &said["money"][0];
    holds(money, &json!({ "tenant": "acme", "kind": "credit", "after": 0 }));
    assert!(money["before"].as_i64() > Some(0), "{said:#}");
    let example = &said["examples"][0];
    holds(example, &json!({ "event_id": "evt_1", "route": "cashback" }));
    assert_eq!(stage.counts(), before, "nothing happened");
    for (narrowed, runs) in [
        (["--tenant", "globex"], 0),
        (["--since", "2090-01-01T00:00:00Z"], 0),
        (["--limit", "2"], 2),
        (["--plugin", "cashback"], 3),
    ] {
        let trial = ["plugin", "trial", &plugin("inventory"), "--route", "cashback"];
        let ran = stage.ask(&[&trial, narrowed.as_slice()].concat());
        assert_eq!(ran.json()["runs"], runs, "{narrowed:?}: {ran:?}");
    }
    assert_eq!(stage.ask(&["plugin", "trial", "no-such-file.wasm"]).code, 2);
    assert_eq!(
        stage
            .ask(&["plugin", "trial", &plugin("cashback"), "--since", "soon"])
            .code,
        2
    );
}
