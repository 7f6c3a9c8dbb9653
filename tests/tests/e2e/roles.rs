//! O2: who may ask the private listener what. The calls are taken from the host's own OpenAPI document, so that one which is
//! added later is tried as well.

use std::fs;

use serde_json::json;
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::holds;
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage, tollgate_with};

const ROLES: [&str; 4] = ["tenant-admin", "plugin-author", "puller", "viewer"];

/// Two tenants with the same names for everything, and an event, a dead letter's worth of work and a held receipt of each.
fn two_tenants() -> Stage {
    let stage = Setup::acme(CASHBACK)
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .start();
    for tenant in ["acme", "globex"] {
        for (event, status) in [("paid", "success"), ("odd", "teleported")] {
            let body = redeemed(
                &format!("evt_{tenant}_{event}"),
                &format!("red_{tenant}_{event}"),
                status,
            );
            let answer = stage.post_to(tenant, "shop", &signer("shop").sign("", body));
            assert_eq!(answer.status, 202, "{answer:?}");
        }
    }
    stage.quiet();
    stage
}

fn token(stage: &Stage, role: &str, tenant: Option<&str>) -> String {
    let body = json!({ "name": format!("a {role}"), "role": role, "tenant": tenant });
    let answer = stage.operator_post("/v1/tokens", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().expect("a token").to_owned()
}

/// (method, path, permission) of every call.
fn calls(stage: &Stage) -> Vec<(String, String, String)> {
    let document = stage.operator_get("/openapi.json").json();
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, call) in methods.as_object().expect("methods") {
            let permission = call["x-permission"].as_str().expect("a permission").to_owned();
            calls.push((method.to_uppercase(), path.clone(), permission));
        }
    }
    assert!(calls.len() >= 10, "{calls:?}");
    calls
}

/// The path with what is acme's in it, and a body that asks for something of acme's.
fn aimed_at_acme(stage: &Stage, method: &str, path: &str) -> (String, Vec<u8>) {
    let receipt = stage.trace("evt_acme_odd")["receipt"]["id"].clone();
    let filled = path
        .replace("{tenant}", "acme")
        .replace("{token}", "tok_1")
        .replace("{", "")
        .replace("}", "");
    let body = match path {
        "/v1/replay" => json!({ "receipt": receipt, "actor": "eve" }),
        "/v1/resend" => json!({ "deliveries": { "id": receipt }, "why": "mine", "actor": "eve" }),
        "/v1/review" => json!({ "receipt": receipt, "dismiss": true, "why": "mine", "actor": "eve" }),
        "/v1/tokens" => json!({ "name": "eve", "role": "viewer", "tenant": "acme" }),
        _ => json!({}),
    };
    let question = if path == "/v1/fixture" {
        format!("{filled}?receipt={}", receipt.as_str().expect("an id"))
    } else if method == "GET" {
        format!("{filled}?tenant=acme")
    } else {
        filled
    };
    (question, body.to_string().into_bytes())
}

#[test]
fn o2_no_call_shows_or_changes_anything_of_another_tenant() {
    let stage = two_tenants();
    let acmes = token(&stage, "tenant-admin", Some("acme"));
    let intruders: Vec<_> = ROLES.iter().map(|role| token(&stage, role, Some("globex"))).collect();
    let before = (
        stage.counts(),
        stage.traces("red_acme_odd"),
        stage.operator_get("/v1/tokens").json(),
    );
    for (method, path, _) in calls(&stage) {
        let (question, body) = aimed_at_acme(&stage, &method, &path);
        for intruder in &intruders {
            for question in [&question, &question.replace("?tenant=acme", "")] {
                let answer = stage.ask_as(intruder, &method, question, &body);
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(!text.contains("acme_"), "{method} {question} shows {text}");
                let harmless = answer.status == 200 && method == "GET";
                assert!(
                    harmless || matches!(answer.status, 400 | 403 | 404),
                    "{method} {question}: {} {text}",
                    answer.status
                );
            }
        }
    }
    let after = (
        stage.counts(),
        stage.traces("red_acme_odd"),
        stage.operator_get("/v1/tokens").json(),
    );
    assert_eq!(before, after, "nothing of acme's has changed");
    // With acme's own token the same requests do what they say: they were refused for the tenant alone.
    for (path, expect) in [
        ("/v1/resend", 200),
        ("/v1/review", 200),
        ("/v1/replay", 200),
        ("/v1/tokens", 200),
    ] {
        let (question, body) = aimed_at_acme(&stage, "POST", path);
        let answer = stage.ask_as(&acmes, "POST", &question, &body);
        assert_eq!(answer.status, expect, "{path}: {answer:?}");
    }
    let (question, _) = aimed_at_acme(&stage, "GET", "/v1/fixture");
    assert_eq!(stage.ask_as(&acmes, "GET", &question, b"").status, 200, "{question}");
    let own = stage.ask_as(&acmes, "GET", "/v1/trace", b"").json();
    let tenants: Vec<_> = own
        .as_array()
        .expect("traces")
        .iter()
        .map(|trace| &trace["receipt"]["tenant"])
        .collect();
    assert_eq!(tenants, ["acme", "acme"], "and acme sees its own only");
}

#[test]
fn o2_a_role_may_what_its_permissions_say_and_no_more() {
    let stage = two_tenants();
    let may = |role: &str, permission: &str| match role {
        "tenant-admin" => permission != "host-read" && permission != "host-write",
        "puller" => permission == "delivery-pull",
        "plugin-author" => ["plugin-read", "plugin-upload", "plugin-trial"].contains(&permission),
        _ => ["receipt-read", "plugin-read"].contains(&permission),
    };
    for role in ROLES {
        let token = token(&stage, role, Some("acme"));
        for (method, path, permission) in calls(&stage) {
            let question = path.replace("{tenant}", "acme").replace(['{', '}'], "");
            let answer = stage.ask_as(&token, &method, &question, b"not json");
            assert_eq!(
                answer.status != 403,
                may(role, &permission),
                "{role}: {method} {path}: {answer:?}"
            );
        }
    }
    // A viewer of the whole host sees all of it, and changes nothing.
    let everywhere = token(&stage, "viewer", None);
    assert_eq!(stage.ask_as(&everywhere, "GET", "/v1/counts", b"").status, 200);
    assert_eq!(
        stage
            .ask_as(&everywhere, "GET", "/v1/trace", b"")
            .json()
            .as_array()
            .map(Vec::len),
        Some(4)
    );
    assert_eq!(stage.ask_as(&everywhere, "POST", "/v1/replay", b"{}").status, 403);
}

#[test]
fn o2_a_token_ends_at_once_and_is_hashed_at_rest() {
    let mut stage = two_tenants();
    let made = stage
        .ask(&[
            "token",
            "create",
            "CI of acme",
            "--role",
            "viewer",
            "--tenant",
            "acme",
            "--why",
            "ticket 7",
        ])
        .json();
    let text = made["token"].as_str().expect("a token").to_owned();
    let (id, trace) = (made["id"].as_str().expect("an id").to_owned(), "/v1/trace");
    assert_eq!(stage.ask_as(&text, "GET", trace, b"").status, 200);
    assert_eq!(stage.ask_as(&format!("{text}x"), "GET", trace, b"").status, 401);
    assert_eq!(stage.ask_as(&text[..46], "GET", trace, b"").status, 401);
    // It survives a restart, though the host keeps no text of it.
    stage.stop();
    for entry in fs::read_dir(stage.path("")).expect("the stage's folder").flatten() {
        if entry.path().is_file() {
            let bytes = fs::read(entry.path()).expect("a file");
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{} holds the token", entry.path().display());
        }
    }
    stage.start();
    assert_eq!(stage.ask_as(&text, "GET", trace, b"").status, 200);
    let listed = stage.ask(&["token", "list"]).json();
    holds(&listed[0], &json!({ "id": id, "name": "CI of acme" }));
    assert!(listed[0].get("digest").is_none());
    assert_eq!(listed[0]["why"], "ticket 7", "{listed:#}");
    assert!(
        listed[0]["created_by"].as_str().is_some_and(|by| !by.is_empty()),
        "{listed:#}"
    );
    stage.ask(&["token", "revoke", &id, "--why", "seen in a log"]).ok();
    let ended = stage.ask(&["token", "list"]).json();
    assert_eq!(ended[0]["revoked_why"], "seen in a log", "{ended:#}");
    let forged = stage.ask(&["token", "create", "x", "--role", "viewer", "--why", "a\n  b"]);
    assert_eq!(forged.code, 2, "one line only: {forged:?}");
    assert_eq!(stage.ask_as(&text, "GET", trace, b"").status, 401);
    assert_eq!(stage.ask(&["token", "revoke", &id]).code, 1, "it was revoked before");
    assert_eq!(stage.ask(&["token", "revoke", "tok_99"]).code, 3);
    assert_eq!(stage.ask(&["token", "create", "x", "--role", "root"]).code, 2);
    assert_eq!(
        stage
            .ask(&["token", "create", "x", "--role", "viewer", "--tenant", "Not A Tenant"])
            .code,
        2
    );
}

#[test]
fn o2_the_command_line_is_a_client_of_a_host_elsewhere() {
    let stage = two_tenants();
    let token = token(&stage, "viewer", Some("globex"));
    let url = format!("http://{}", stage.operator);
    let own = [("TOLLGATE_URL", url.as_str()), ("TOLLGATE_TOKEN", token.as_str())];
    let ran = tollgate_with(&own, &["trace", "--json"], b"");
    let traces = ran.json().as_array().map(Vec::len);
    assert_eq!((ran.code, traces), (0, Some(2)), "globex' own: {ran:?}");
    tollgate_with(&own, &["trace", "--tenant", "acme"], b"").fails(3, "for the tenant `globex` only");
    tollgate_with(&own[..1], &["trace"], b"").fails(2, "TOLLGATE_TOKEN");
}
