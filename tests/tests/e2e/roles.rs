//! O2: who may ask the private listener what. The calls are taken from the host's own OpenAPI document, so that one which is
//! added later is tried as well.

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::client::Answer;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{redeemed, redeemed_by, signer};
use tollgate_tests::json::{holds, list, text as text_of};
use tollgate_tests::plugins_dir;
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, tollgate_with, wait_until};

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

/// What a call could be about of acme's.
struct Acme {
    stage: Stage,
    _books: Destination,
    receipt: String,
    held: String,
    dead_letter: String,
    issue: String,
    bulk: String,
    lease: String,
    token: String,
    link: String,
    version: String,
}

/// Two tenants with the same names for everything. Each has one event that was delivered, one that its destination refused, and one that is held; what a person
/// can make is made of acme's. Every word of acme's that no question names has `acme_` in it.
fn acme_beside_globex() -> Acme {
    let to_books = Destination::start();
    let routes = CASHBACK_TO_BOOKS.replacen("[\"books\"]", "[\"books\", \"inside\"]", 1);
    let text = format!(
        "{routes}{}\n[destinations.inside]\nkind = \"pull\"\n",
        books("books", &to_books)
    );
    let stage = Setup::acme(&text)
        .tenant("globex", &format!("{SOURCES}{text}"))
        .plugin("cashback")
        .secret("seal", "a-seal-key-of-the-tests-that-is-long-enough")
        .tenancy("trust_files = true\nseal_keys = [{ file = \"secrets/seal\" }]")
        .console("address = \"http://127.0.0.1:1\"")
        .start();
    to_books.answer_apart("_dead", Reply::Status(410));
    for tenant in ["acme", "globex"] {
        for (event, status) in [("paid", "success"), ("dead", "success"), ("odd", "teleported")] {
            let name = |what: &str| format!("{what}_{tenant}_{event}");
            let body = redeemed_by(&name("evt"), &name("red"), status, &name("user"));
            let answer = stage.post_to(tenant, "shop", &signer("shop").sign("", body));
            assert_eq!(answer.status, 202, "{answer:?}");
        }
    }
    wait_until("issues of both", || {
        let issues = stage.operator_get("/v1/issues").json();
        (list(&issues).len() == 2 && stage.counts()["delivered"] == 2).then_some(())
    });
    let admin = token(&stage, "tenant-admin", Some("acme"));
    let asked = |method: &str, path: &str, body: Value| {
        let answer = stage.ask_as(&admin, method, path, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    };
    let get = |path: &str| asked("GET", path, json!({}));
    let id = |value: Value, field: &str| text_of(&value, field).to_owned();
    let why = "acme_why";
    let component = std::fs::read(plugins_dir().join("gift-card.wasm")).expect("a component");
    let uploaded = stage.ask_as(&admin, "POST", "/v1/plugins", &component);
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    asked(
        "PUT",
        "/v1/tenants/acme/secrets/own",
        json!({ "value": "acme_0123456789abcdef", "why": why }),
    );
    let own =
        "[sources.own]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"acme_a\", value = { store = \"own\" } }]\n";
    asked(
        "PUT",
        "/v1/tenants/acme/settings",
        json!({ "text": own, "expects": 0, "why": why }),
    );
    asked(
        "POST",
        "/v1/tenants/acme/publishers",
        json!({ "publisher": "labs", "key_id": "k1", "why": why, "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" }),
    );
    asked("POST", "/v1/tenants/acme/routes/cashback/pause", json!({ "why": why }));
    Acme {
        receipt: id(stage.trace("evt_acme_paid")["receipt"].clone(), "id"),
        held: id(stage.trace("evt_acme_odd")["receipt"].clone(), "id"),
        dead_letter: id(get("/v1/dead-letters")[0].clone(), "id"),
        issue: id(get("/v1/issues")[0].clone(), "issue"),
        bulk: id(
            asked(
                "POST",
                "/v1/bulk",
                json!({ "action": "replay", "filter": "event:evt_acme_paid", "why": why }),
            )["bulk"]
                .clone(),
            "bulk",
        ),
        lease: id(
            get("/v1/pull/inside?max=1&lease=3600")["deliveries"][0].clone(),
            "lease",
        ),
        token: id(
            asked(
                "POST",
                "/v1/tokens",
                json!({ "name": "acme_viewer", "role": "viewer", "tenant": "acme" }),
            ),
            "id",
        ),
        link: id(
            asked(
                "POST",
                "/v1/tenants/acme/portal-links",
                json!({ "may": ["read"], "for": "1h", "name": "acme_ana", "why": why }),
            ),
            "id",
        ),
        version: id(uploaded.json(), "digest"),
        stage,
        _books: to_books,
    }
}

impl Acme {
    /// A question about what is acme's, with its body: one that acme's own administrator is not refused. `dry_run` is for those that know it.
    fn aim(&self, method: &str, path: &str, dry_run: bool) -> (String, Value) {
        let filled = [
            ("{tenant}", "acme"),
            ("{route}", "cashback"),
            ("{source}", "own"),
            (
                "{destination}",
                if path.starts_with("/v1/pull") {
                    "inside"
                } else {
                    "books"
                },
            ),
            ("{secret}", "own"),
            ("{version}", "1"),
            ("{publisher}", "labs"),
            ("{key}", "k1"),
            (
                "{token}",
                if path.contains("portal-links") {
                    &self.link
                } else {
                    &self.token
                },
            ),
            ("{plugin}", &self.version),
            ("{issue}", &self.issue),
            ("{bulk}", &self.bulk),
        ]
        .into_iter()
        .fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
        assert!(!filled.contains('{'), "{path}: say what of acme's it is asked about");
        let why = "mine";
        let act = json!({ "why": why, "dry_run": dry_run });
        let nothing = json!({});
        let (query, body) = match (method, path) {
            (
                "GET",
                "/v1/events" | "/v1/jobs" | "/v1/runs" | "/v1/actions" | "/v1/deliveries" | "/v1/undelivered"
                | "/v1/refused",
            ) => ("?filter=tenant:acme", nothing),
            ("GET", "/v1/count") => ("?of=events&filter=tenant:acme", nothing),
            ("GET", "/v1/fixture") => return (format!("{filled}?receipt={}", self.receipt), nothing),
            ("GET", "/v1/state") => ("?tenant=acme&plugin=cashback", nothing),
            ("GET", "/v1/pull/{destination}") => ("?tenant=acme&max=1", nothing),
            ("GET", "/v1/plugins/{plugin}" | "/v1/plugins/{plugin}/history") => ("?tenant=acme", nothing),
            ("GET", "/v1/bulk/{bulk}" | "/v1/issues/{issue}") => ("", nothing),
            ("GET", path) if path.contains("{tenant}") => ("", nothing),
            ("GET", "/v1/whoami" | "/v1/tokens" | "/v1/quarantines" | "/v1/pauses") => ("", nothing),
            (
                "GET",
                "/v1/audit" | "/v1/trace" | "/v1/bulk" | "/v1/issues" | "/v1/dead-letters" | "/v1/held"
                | "/v1/held/counts" | "/v1/budgets" | "/v1/portal-links" | "/v1/plugins",
            ) => ("?tenant=acme", nothing),
            ("POST", "/v1/bulk") => (
                "",
                json!({ "action": "dismiss", "of": "events", "filter": "event:evt_acme_odd", "why": why, "dry_run": dry_run }),
            ),
            ("POST", "/v1/bulk/{bulk}/abort") => ("", json!({ "why": why })),
            ("POST", "/v1/issues/{issue}") => ("", json!({ "state": "ignored", "why": why })),
            ("POST", "/v1/replay") => (
                "",
                json!({ "dead_letters": { "id": self.dead_letter }, "dry_run": dry_run }),
            ),
            ("POST", "/v1/resend") => (
                "",
                json!({ "deliveries": { "id": self.receipt }, "why": why, "dry_run": dry_run }),
            ),
            ("POST", "/v1/review") => (
                "",
                json!({ "id": self.held, "dismiss": true, "why": why, "dry_run": dry_run }),
            ),
            ("POST", "/v1/state") => (
                "",
                json!({ "tenant": "acme", "plugin": "cashback", "key": "k", "value": { "text": "v" }, "version": 0, "why": why,
                        "dry_run": dry_run }),
            ),
            ("POST", "/v1/tokens") => (
                "",
                json!({ "name": "eve", "role": "viewer", "tenant": "acme", "dry_run": dry_run }),
            ),
            ("POST", "/v1/plugins") => ("?tenant=acme&dry_run=true", nothing),
            ("POST", "/v1/plugins/{plugin}/publish" | "/v1/plugins/{plugin}/retire") => ("?tenant=acme", act),
            ("POST", "/v1/tenants/{tenant}/portal-links") => (
                "",
                json!({ "may": ["read"], "for": "1h", "name": "eve", "why": why, "dry_run": dry_run }),
            ),
            ("PUT", "/v1/tenants/{tenant}/routes/{route}") => (
                "",
                json!({ "definition": { "forward": "body", "destinations": ["books"] }, "why": why, "dry_run": dry_run }),
            ),
            ("POST", "/v1/tenants/{tenant}/routes/{route}/shadow") => {
                ("", json!({ "plugin": self.version, "why": why, "dry_run": dry_run }))
            }
            ("POST", "/v1/tenants/{tenant}/routes/{route}/canary") => (
                "",
                json!({ "plugin": self.version, "per_mille": 10, "why": why, "dry_run": dry_run }),
            ),
            ("POST", "/v1/tenants/{tenant}/routes/{route}/promote") => {
                ("", json!({ "plugin": self.version, "why": why, "dry_run": dry_run }))
            }
            ("POST", "/v1/tenants/{tenant}/routes/{route}/trials") => ("", json!({ "plugin": self.version })),
            ("POST", "/v1/pull/{destination}/confirm" | "/v1/pull/{destination}/give-back") => {
                ("", json!({ "tenant": "acme", "leases": [self.lease] }))
            }
            ("PUT", "/v1/tenants/{tenant}/settings") => {
                ("", json!({ "text": "", "expects": 1, "why": why, "dry_run": dry_run }))
            }
            ("POST", "/v1/tenants/{tenant}/settings/rollback") => {
                ("", json!({ "expects": 1, "why": why, "dry_run": dry_run }))
            }
            ("PUT", "/v1/tenants/{tenant}/secrets/{secret}") => (
                "",
                json!({ "value": "another-secret-0123456789", "why": why, "dry_run": dry_run }),
            ),
            (
                "POST",
                "/v1/tenants/{tenant}/sources/{source}/test" | "/v1/tenants/{tenant}/destinations/{destination}/test",
            ) => ("", json!({ "dry_run": dry_run })),
            ("POST", "/v1/tenants/{tenant}/publishers") => (
                "",
                json!({ "publisher": "labs", "key_id": "k2", "why": why, "dry_run": dry_run,
                        "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" }),
            ),
            _ => ("", act),
        };
        (format!("{filled}{query}"), body)
    }

    fn asks(&self, token: &str, method: &str, question: &str, body: &Value) -> Answer {
        let body = match question.starts_with("/v1/plugins?") {
            true => std::fs::read(plugins_dir().join("inventory.wasm")).expect("a component"),
            false => body.to_string().into_bytes(),
        };
        self.stage.ask_as(token, method, question, &body)
    }

    /// What there is of acme's, and what was changed of it.
    fn whole(&self) -> Vec<Value> {
        [
            "/v1/counts",
            "/v1/trace?tenant=acme",
            "/v1/audit?tenant=acme",
            "/v1/held?tenant=acme&with_reviewed=true",
            "/v1/dead-letters?tenant=acme&with_replayed=true",
            "/v1/issues?tenant=acme&all=true",
            "/v1/bulk?tenant=acme",
            "/v1/portal-links?tenant=acme&all=true",
            "/v1/pauses",
            "/v1/plugins?tenant=acme",
            "/v1/state?tenant=acme&plugin=cashback",
            "/v1/tenants/acme/routes",
            "/v1/tenants/acme/settings",
            "/v1/tenants/acme/secrets",
            "/v1/tenants/acme/publishers",
            "/v1/tokens",
        ]
        .map(|path| self.stage.operator_get(path).json())
        .into()
    }
}

#[test]
fn o2_no_call_shows_or_changes_anything_of_another_tenant() {
    let acme = acme_beside_globex();
    let stage = &acme.stage;
    let intruders: Vec<_> = ROLES
        .iter()
        .map(|role| (*role, token(stage, role, Some("globex"))))
        .collect();
    let admin = token(stage, "tenant-admin", Some("acme"));
    wait_until("the bulk action is over", || {
        let bulks = stage.operator_get("/v1/bulk?tenant=acme").json();
        (bulks[0]["state"] != "running").then_some(())
    });
    let before = acme.whole();
    let mut problems = Vec::new();
    let of_tenants: Vec<_> = calls(stage)
        .into_iter()
        .filter(|(_, _, permission)| !permission.starts_with("host-"))
        .collect();
    for (method, path, _) in &of_tenants {
        let (question, body) = acme.aim(method, path, false);
        for (role, intruder) in &intruders {
            let mut questions = vec![question.clone()];
            if method == "GET" && path != "/v1/state" {
                questions.push(question.replace("?tenant=acme", "?"));
                questions.push(question.replace("tenant:acme", ""));
            }
            for question in &questions {
                let answer = acme.asks(intruder, method, question, &body);
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let said = format!("{role}: {method} {question}: {} {text}", answer.status);
                if text.contains("acme_") {
                    problems.push(format!("shows: {said}"));
                }
                // A list is of what is their own, and so is what fits a filter; all else names something of acme's.
                let narrows = match (method.as_str(), path.as_str(), answer.status) {
                    ("GET", _, 200) => true,
                    ("POST", "/v1/bulk", 200) => answer.json()["fitting"]["count"] == 0,
                    ("POST", "/v1/replay", 200) => list(&answer.json()["replayed"]).is_empty(),
                    _ => false,
                };
                if !narrows && !matches!(answer.status, 403 | 404) {
                    problems.push(format!("is not refused: {said}"));
                }
            }
        }
    }
    for (number, (before, after)) in before.iter().zip(acme.whole()).enumerate() {
        if *before != after {
            problems.push(format!("{number}: {before:#} became {after:#}"));
        }
    }
    // Acme's own administrator is not refused: the same questions failed for the tenant alone.
    for (method, path, permission) in &of_tenants {
        let (question, body) = acme.aim(method, path, true);
        let answer = acme.asks(&admin, method, &question, &body);
        if !matches!(answer.status, 200 | 409) {
            let text = String::from_utf8_lossy(&answer.body);
            problems.push(format!(
                "acme's own is refused ({permission}): {method} {question}: {} {text}",
                answer.status
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let own = stage.ask_as(&admin, "GET", "/v1/trace", b"").json();
    let tenants: Vec<_> = list(&own)
        .iter()
        .map(|trace| trace["receipt"]["tenant"].clone())
        .collect();
    assert_eq!(tenants, ["acme", "acme", "acme"], "and acme sees its own only");
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
