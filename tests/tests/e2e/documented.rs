//! O2: the OpenAPI document. Every answer that any test's operator is given is held against it (see
//! `tollgate_tests::documented`); here are the calls that tests otherwise ask for through the command line only.

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::documented;
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::{says, text};
use tollgate_tests::plugins_dir;
use tollgate_tests::stage::{CASHBACK, Setup, Stage};

#[track_caller]
fn answered(stage: &Stage, method: &str, path: &str, body: &Value) -> Value {
    let answer = stage.operator_send(method, path, body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    answer.json()
}

#[test]
fn o2_answers_follow_the_document() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    assert_eq!(&stage.operator_get("/openapi.json").json(), documented::document());
    for (event, status) in [("paid", "success"), ("odd", "teleported")] {
        let body = redeemed(&format!("evt_{event}"), &format!("red_{event}"), status);
        assert_eq!(stage.post("shop", &signer("shop").sign("", body)).status, 202);
    }
    stage.quiet();
    let nothing = json!({});
    let act = json!({ "why": "a test", "actor": "ana" });
    let get = |path: &str| answered(&stage, "GET", path, &nothing);
    let traces = get("/v1/trace");
    let held = get("/v1/held");
    assert_eq!(
        (traces.as_array().map(Vec::len), held.as_array().map(Vec::len)),
        (Some(2), Some(1))
    );
    for path in [
        "/v1/counts",
        "/v1/dead-letters?with_replayed=true",
        "/v1/held/counts?tenant=acme",
        "/v1/tokens",
        "/v1/whoami",
        "/v1/audit?tenant=acme",
        "/v1/quarantines",
        "/v1/events?filter=status:held&limit=5",
        "/v1/jobs?filter=route:cashback",
        "/v1/runs",
        "/v1/actions",
        "/v1/deliveries",
        "/v1/undelivered?filter=status:not-meant",
        "/v1/refused?filter=source:shop",
        "/v1/bulk?tenant=acme",
        "/v1/issues?all=true",
        "/v1/count?of=events&filter=tenant:acme",
        "/v1/budgets?tenant=acme&account=ann",
        "/v1/lately",
    ] {
        get(path);
    }
    assert_eq!(stage.operator_get("/metrics").status, 200);
    let versions = get("/v1/plugins?tenant=acme&name=cashback");
    let digest = versions[0]["digest"].as_str().expect("a digest").to_owned();
    get(&format!("/v1/plugins/{digest}"));
    get(&format!("/v1/plugins/{digest}/history?limit=5"));
    let route = "/v1/tenants/acme/routes/cashback";
    for path in [
        "/v1/tenants/acme/routes",
        route,
        &format!("{route}/history"),
        &format!("{route}/shadow-runs?differing=true"),
    ] {
        get(path);
    }
    get("/v1/state?tenant=acme&plugin=cashback");
    let component = fs::read(plugins_dir().join("cashback.wasm")).expect("the component");
    let uploaded = stage.operator_send("POST", "/v1/plugins?tenant=acme&dry_run=true", &component);
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    let key = json!({ "publisher": "acme-labs", "key_id": "k1", "why": "a test",
        "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" });
    for (method, path, body) in [
        (
            "POST",
            "/v1/replay",
            json!({ "held_jobs": {}, "dry_run": true, "actor": "ana" }),
        ),
        (
            "POST",
            "/v1/replay",
            json!({ "receipt": traces[0]["receipt"]["id"], "dry_run": true, "actor": "ana" }),
        ),
        (
            "POST",
            "/v1/resend",
            json!({ "deliveries": { "tenant": "acme" }, "dry_run": true, "actor": "ana" }),
        ),
        (
            "POST",
            "/v1/bulk",
            json!({ "action": "dismiss", "of": "events", "filter": "status:held", "actor": "ana", "why": "a test", "dry_run": true }),
        ),
        (
            "POST",
            "/v1/bulk",
            json!({ "action": "replay", "filter": "event:evt_paid", "actor": "ana", "why": "a test" }),
        ),
        (
            "POST",
            "/v1/bulk/bulk_1/abort",
            json!({ "actor": "ana", "why": "a test" }),
        ),
        (
            "POST",
            "/v1/review",
            json!({ "id": held[0]["id"], "dismiss": true, "why": "a test", "actor": "ana" }),
        ),
        (
            "POST",
            "/v1/state",
            json!({ "tenant": "acme", "plugin": "cashback", "key": "k", "value": { "text": "v" },
            "version": 0, "actor": "ana", "why": "a test" }),
        ),
        ("POST", "/v1/tokens", json!({ "name": "a test", "role": "viewer" })),
        ("POST", "/v1/tokens/tok_1/revoke", nothing.clone()),
        ("POST", "/v1/tenants/acme/publishers", key),
        ("POST", "/v1/tenants/acme/publishers/acme-labs/k1/revoke", act.clone()),
        ("POST", &format!("{route}/trials"), json!({ "plugin": digest })),
        ("POST", &format!("{route}/lift-quarantine"), act.clone()),
    ] {
        answered(&stage, method, path, &body);
    }
    get("/v1/state?tenant=acme&plugin=cashback&key=k");
    get("/v1/bulk/bulk_1");
    get("/v1/held?with_reviewed=true");
    get("/v1/trace?id=evt_odd");
    let paid = stage.trace("evt_paid")["receipt"]["id"].clone();
    let paid = paid.as_str().expect("a receipt");
    get(&format!("/v1/fixture?receipt={paid}&route=cashback"));
    get("/v1/tenants/acme/publishers");
    // What cannot be is said in the document's form too, by whatever part of the host says it.
    for (method, path, body, status) in [
        ("GET", "/v1/trace?limit=many", "", 400),
        ("GET", "/v1/trace?receipt=rcpt_1", "", 400),
        ("GET", "/v1/tenants/acme/routes/No%20Name", "", 400),
        ("GET", "/v1/plugins/none@1.0.0", "", 404),
        ("POST", "/v1/replay", "not json", 400),
        ("POST", &format!("{route}/rollback"), r#"{ "why": "a test" }"#, 409),
        ("POST", &format!("{route}/promote"), r#"{ "why": "a test" }"#, 409),
    ] {
        let answer = stage.operator_send(method, path, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
    let said = stage.operator_get("/v1/trace?limit=many").json();
    says(text(&said, "error"), &["limit: `many`"]);
    let too_much = stage.operator_send("POST", "/v1/replay", &vec![b' '; 3 << 20]);
    assert_eq!(too_much.status, 413);
    assert_eq!(stage.ask_as("no token", "GET", "/v1/counts", b"").status, 401);
}
