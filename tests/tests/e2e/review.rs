//! T4, T6: what is held waits for a person, and a person's decision is history.

use serde_json::json;
use tollgate_tests::client::{Client, request};
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::{holds, list};
use tollgate_tests::stage::{CASHBACK, Setup, Stage};

/// Sends a redemption whose status nobody mapped. Its receipt.
#[track_caller]
fn hold(stage: &Stage, event: &str, redemption: &str) -> String {
    let answer = stage.post(
        "shop",
        &signer("shop").sign("", redeemed(event, redemption, "teleported")),
    );
    assert_eq!(answer.verdict(), (202, "held".to_owned()));
    answer.receipt()
}

#[test]
fn t4_a_mapped_receipt_runs_its_plugin_with_the_mapped_status() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let receipt = hold(&stage, "evt_1", "red_1");
    let other = hold(&stage, "evt_2", "red_2");
    assert_eq!(stage.metric("tollgate_held"), 2);

    let held = list(&stage.ask(&["review"]).json());
    let events: Vec<_> = held.iter().map(|held| held["event_id"].clone()).collect();
    assert_eq!(events, ["evt_2", "evt_1"], "newest first");
    holds(
        &held[1],
        &json!({ "receipt": receipt, "status": "teleported", "review": null }),
    );
    for (filter, count) in [
        (["--tenant", "globex"], 0),
        (["--source", "shop"], 2),
        (["--reason", "teleported"], 2),
        (["--since", "2090-01-01T00:00:00Z"], 0),
        (["--limit", "1"], 1),
    ] {
        let ran = stage.ask(&[&["review"], filter.as_slice()].concat());
        assert_eq!((ran.code, list(&ran.json()).len()), (0, count), "{filter:?}");
    }

    // First dry: nothing changes.
    let before = (stage.counts(), stage.trace(&receipt));
    let dry = stage.ask(&["review", &receipt, "--map", "completed", "--dry-run"]);
    assert_eq!(
        (dry.code, dry.json()),
        (
            0,
            json!({ "dry_run": true, "receipt": receipt, "became": "accepted", "status": "completed", "routes": ["cashback"] })
        )
    );
    assert_eq!((stage.counts(), stage.trace(&receipt)), before);

    let ran = stage.ask(&["review", &receipt, "--map", "completed", "--why", "renamed in March"]);
    assert_eq!((ran.code, &ran.json()["dry_run"]), (0, &json!(false)), "{ran:?}");
    let trace = stage.finished(&receipt);
    let action = &trace["jobs"][0]["runs"][0]["actions"][0];
    assert_eq!(
        (&action["verdict"], &action["operation_key"]),
        (&json!("recorded"), &json!("cashback:red_1")),
        "cashback pays for completed redemptions only, so the plugin saw the mapped status: {trace:#}"
    );
    // The receipt is what it was; the decision stands beside it, with who, why and when.
    assert_eq!(trace["receipt"], before.1["receipt"]);
    assert_eq!(trace["receipt"]["disposition"], "held");
    let review = &trace["review"];
    holds(
        review,
        &json!({ "became": "accepted", "actor": "tester", "why": "renamed in March", "lifecycle_version": 1 }),
    );
    assert_eq!(
        trace["history"][0]["detail"],
        "mapped to completed by tester: renamed in March"
    );
    // The subject has moved: an earlier status comes late now, and a repeat has no second effect.
    let late = stage.post("shop", &signer("shop").sign("", redeemed("evt_3", "red_1", "pending")));
    assert_eq!(late.verdict(), (202, "superseded".to_owned()));
    assert_eq!(stage.metric("tollgate_held"), 1);

    // Set aside for good.
    let ran = stage.ask(&["review", &other, "--dismiss", "--why", "a test of the provider's"]);
    assert_eq!((ran.code, &ran.json()["became"]), (0, &json!("dismissed")));
    assert_eq!(stage.metric("tollgate_held"), 0);
    assert_eq!(stage.ask(&["review"]).json(), json!([]));
    let all = list(&stage.ask(&["review", "--with-reviewed"]).json());
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["review"]["why"], "a test of the provider's");
    assert_eq!(list(&stage.trace(&other)["jobs"]).len(), 0);
    stage.assert_whole();
}

#[test]
fn t3_t4_the_lifecycle_judges_a_persons_word_too() {
    let mut stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let late = hold(&stage, "evt_1", "red_1");
    let contrary = hold(&stage, "evt_2", "red_1");
    let done = stage.post("shop", &signer("shop").sign("", redeemed("evt_3", "red_1", "success")));
    assert_eq!(done.verdict(), (202, "accepted".to_owned()));

    let ran = stage.ask(&["review", &late, "--map", "pending"]);
    assert_eq!(
        (ran.code, &ran.json()["became"], &ran.json()["current"]),
        (0, &json!("superseded"), &json!("completed"))
    );
    assert_eq!(list(&stage.trace(&late)["jobs"]).len(), 0);
    assert_eq!(stage.trace(&late)["review"]["became"], "superseded");

    // What cannot be says so, with status 1, and changes nothing.
    let refused = |arguments: &[&str], part: &str| {
        let ran = stage.ask(&[&["review"], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    };
    refused(
        &[&contrary, "--map", "rolledback"],
        "can neither follow nor precede `completed`",
    );
    refused(
        &[&contrary, "--map", "vanished"],
        "has no status `vanished`; it has: created, pending",
    );
    refused(&[&late, "--map", "completed"], "was reviewed before: tester decided on");
    refused(&[&late, "--dismiss", "--why", "x"], "was reviewed before");
    refused(&[&done.receipt(), "--dismiss", "--why", "x"], "is not held");
    assert!(stage.trace(&contrary)["review"].is_null());
    for (arguments, code) in [
        (vec![contrary.as_str(), "--dismiss"], 2),
        (vec![contrary.as_str()], 2),
        (vec![contrary.as_str(), "--map", "Not A Status"], 2),
        (vec!["no-receipt", "--map", "completed"], 2),
        (vec!["rcpt_00000000000000000000000000000000", "--map", "completed"], 3),
    ] {
        let ran = stage.ask(&[&["review"], arguments.as_slice()].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
    }

    // Without a running host the store itself is opened; a restart keeps the decision and runs nothing again.
    stage.quiet();
    stage.stop();
    let ran = stage.ask(&["review", &contrary, "--map", "completed"]);
    assert_eq!((ran.code, &ran.json()["became"]), (0, &json!("accepted")), "{ran:?}");
    stage.start();
    let trace = stage.finished(&contrary);
    assert_eq!(trace["jobs"][0]["runs"][0]["actions"][0]["verdict"], "already_done");
    assert_eq!(stage.counts()["actions"], 1, "one operation, one effect");
}

#[test]
fn t4_the_routes_of_now_take_the_mapped_event() {
    let by_status = |status: &str| {
        format!(
            "[routes.{status}]\nstatuses = [\"{status}\"]\nplugin = \"cashback\"\n\
             grants = [{{ kind = \"credit\", amount_max = 5000, currencies = [\"INR\"] }}]\nconfig = {{ rate_bps = 1000, currency = \"INR\" }}\n"
        )
    };
    let routes = format!("{}{}", by_status("pending"), by_status("completed"));
    let stage = Setup::acme(&routes).plugin("cashback").start();
    let receipt = hold(&stage, "evt_1", "red_1");
    let routes_for =
        |status: &str| stage.ask(&["review", &receipt, "--map", status, "--dry-run"]).json()["routes"].clone();
    assert_eq!(routes_for("completed"), json!(["completed"]));
    assert_eq!(routes_for("pending"), json!(["pending"]));
    assert_eq!(routes_for("rolledback"), json!([]));
    // A route that is added after the event came in takes it all the same.
    let late = format!("{}{routes}{}", tollgate_tests::stage::SOURCES, CASHBACK);
    stage.write("tenants/acme.toml", &late);
    stage.reload();
    assert_eq!(routes_for("completed"), json!(["cashback", "completed"]));
    stage.ask(&["review", &receipt, "--map", "completed"]).ok();
    assert_eq!(list(&stage.finished(&receipt)["jobs"]).len(), 2);
    assert_eq!(stage.counts()["actions"], 1, "two routes, one operation, one effect");
}

#[test]
fn t4_the_private_listener_reviews_and_asks_for_its_token() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let receipt = hold(&stage, "evt_1", "red_1");
    let held = stage.operator_get("/v1/held?source=shop").json();
    assert_eq!(held[0]["receipt"], json!(receipt));
    let body = json!({ "receipt": receipt, "map": "completed", "actor": "ann" }).to_string();
    let mut client = Client::connect(stage.operator).expect("the private listener");
    client
        .send(&request("POST", "/v1/review", &[], body.as_bytes()))
        .expect("a request");
    assert_eq!(client.answer().expect("an answer").status, 401);
    assert!(stage.trace(&receipt)["review"].is_null());
    let answer = stage.operator_post("/v1/review", &body);
    assert_eq!((answer.status, &answer.json()["became"]), (200, &json!("accepted")));
    let again = stage.operator_post("/v1/review", &body);
    assert_eq!(again.status, 409, "{again:?}");
    for (body, part) in [
        (
            json!({ "receipt": receipt, "actor": "ann" }),
            "either to map it or to dismiss it",
        ),
        (
            json!({ "receipt": receipt, "dismiss": true, "actor": "ann" }),
            "say why",
        ),
        (json!({ "receipt": receipt, "dismiss": true }), "say why"),
    ] {
        let answer = stage.operator_post("/v1/review", &body.to_string());
        assert_eq!(answer.status, 400, "{body}");
        let said = answer.json()["error"].to_string();
        assert!(said.contains(part), "{body}: {said}");
    }
}
