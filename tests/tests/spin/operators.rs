//! The operator's questions, through the command line; and a dead letter's way back.

use serde_json::Value;
use tollgate_tests::events::{payment, plain, redeemed, signer};
use tollgate_tests::spin::{OPERATOR_TOKEN, SpinSetup, SpinStage};
use tollgate_tests::stage::{CASHBACK, Ran};

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

    let traced = ask(&stage, &["trace", "evt_1"]).ok();
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

#[test]
fn r2_t4_a_person_reviews_on_spin() {
    let route = CASHBACK.replace("plugin =", "statuses = [\"completed\"]\nplugin =");
    let stage = SpinSetup::acme(&route).plugin("cashback").start();
    let held = |event: &str| {
        let answer = stage.post("shop", &signer("shop").sign("", redeemed(event, event, "teleported")));
        assert_eq!(answer.verdict(), (202, "held".to_owned()));
        answer.receipt()
    };
    let (first, second) = (held("evt_1"), held("evt_2"));
    let listed = ask(&stage, &["review"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed:#}");
    assert_eq!(listed[1]["receipt"], first);

    let dry = ask(&stage, &["review", &first, "--map", "completed", "--dry-run"]);
    assert_eq!(
        (dry.code, &dry.json()["became"]),
        (0, &Value::from("accepted")),
        "{dry:?}"
    );
    assert_eq!(stage.counts()["held"], 2, "a dry run changes nothing");
    ask(&stage, &["review", &first, "--map", "vanished"]).fails(1, "has no status `vanished`");

    let mapped = ask(&stage, &["review", &first, "--map", "completed"]);
    assert_eq!(
        (mapped.code, &mapped.json()["routes"][0]),
        (0, &Value::from("cashback")),
        "{mapped:?}"
    );
    stage.sweep();
    let trace = stage.finished(&first);
    assert_eq!(trace["review"]["actor"], "tester");
    assert_eq!(
        trace["jobs"][0]["runs"][0]["actions"][0]["verdict"], "recorded",
        "{trace:#}"
    );
    ask(&stage, &["review", &first, "--dismiss", "--why", "x"]).fails(1, "was reviewed before");

    assert_eq!(
        ask(&stage, &["review", &second, "--dismiss"]).code,
        2,
        "a reason is asked for"
    );
    let dismissed = ask(&stage, &["review", &second, "--dismiss", "--why", "a test of theirs"]);
    assert_eq!(dismissed.json()["became"], "dismissed", "{dismissed:?}");
    assert_eq!(ask(&stage, &["review"]).json(), Value::Array(Vec::new()));
}

/// A test event that came under a live one's id is a conflict. A person who gives it effect says that it is another fact, not that it is
/// live.
#[test]
fn i8_a_conflict_that_is_given_effect_is_still_a_test_event_on_spin() {
    let route = "\n[routes.cashback]\nsources = [\"payments\"]\nplugin = \"cashback\"\n\
                 grants = [{ kind = \"credit\", amount_max = 5000, currencies = [\"USD\"] }]\n\
                 [routes.cashback.config]\nrate_bps = 1000\nstatuses = [\"captured\"]\n";
    let stage = SpinSetup::acme(route).plugin("cashback").start();
    let body = |intent: &str, live: bool| {
        let text = payment("evt_1", intent, "payment_intent.succeeded", "succeeded");
        let mut event: Value = serde_json::from_str(&text).expect("an event");
        event["livemode"] = live.into();
        event.to_string()
    };
    let post = |intent: &str, live: bool| stage.post("payments", &signer("payments").sign("", body(intent, live)));
    let first = post("pi_1", true);
    assert_eq!(first.verdict().1, "accepted");
    for (intent, live) in [("pi_2", false), ("pi_3", true)] {
        assert_eq!(post(intent, live).verdict().1, "conflict");
    }
    stage.finished(&first.receipt());
    let listed = ask(&stage, &["review", "--kind", "conflict"]).json();
    let conflicts: Vec<_> = listed.as_array().expect("a list").iter().rev().collect();
    let [test, live] = conflicts[..] else {
        panic!("{listed:#}")
    };
    for (conflict, disposition) in [(test, "held"), (live, "accepted")] {
        let delivery = conflict["id"].as_str().expect("an id");
        let ran = ask(&stage, &["review", delivery, "--run", "--why", "another fact"]);
        let said = ran.json();
        assert_eq!(
            (ran.code, &said["disposition"]),
            (0, &Value::from(disposition)),
            "{ran:?}"
        );
        stage.sweep();
        stage.finished(said["own_receipt"].as_str().expect("a receipt"));
    }
    assert_eq!(stage.counts()["actions"], 2, "of both live ones");
}

/// The command line shows what is in quarantine, and lifts it, as on a native host.
#[test]
fn p6_quarantine_is_shown_and_lifted_by_the_command_line() {
    let route = "\n[routes.bad]\ntypes = [\"bad\"]\nplugin = \"bad_amount\"\ngrants = [{ kind = \"credit\", amount_max = 500, currencies = [\"USD\"] }]\n";
    let stage = SpinSetup::acme(route).hostile("bad_amount").start();
    assert_eq!(ask(&stage, &["plugin", "quarantined"]).code, 1, "nothing is");
    let receipts: Vec<_> = (0..20)
        .map(|at| {
            let answer = stage.post("shop", &signer("shop").sign("", plain("bad", &format!("evt_{at}"))));
            answer.receipt()
        })
        .collect();
    for receipt in &receipts {
        stage.finished(receipt);
    }
    let held = ask(&stage, &["plugin", "quarantined"]);
    assert_eq!(
        (held.code, held.json()[0]["faults"].as_u64()),
        (0, Some(20)),
        "{held:?}"
    );
    let lift = ["plugin", "lift", "--tenant", "acme", "bad", "--why", "mended"];
    let lifted = ask(&stage, &lift);
    assert_eq!(
        (lifted.code, &lifted.json()[0]["route"]),
        (0, &Value::from("bad")),
        "{lifted:?}"
    );
    assert_eq!(ask(&stage, &["plugin", "quarantined"]).code, 1, "nothing is any more");
    // What only a native host has is refused, and says so.
    let refused = ask(&stage, &["plugin", "list"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}
