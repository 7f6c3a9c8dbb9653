//! O13: a portal link opens the console of one tenant, for a time and for what it lists, to whoever goes in by it, and to nobody who only
//! looks at it.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::client::Answer;
use tollgate_tests::console::{Lively, Person, confirming, fresh, hidden, lively, pages, text};
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage};

/// What each capability is to the gate, as the document says it of calls.
const CAPABILITIES: [(&str, &[&str]); 8] = [
    ("read", &["receipt-read", "plugin-read"]),
    ("replay", &["work-replay"]),
    ("redeliver", &["delivery-resend"]),
    ("review", &["review-write"]),
    ("issues", &["issue-write"]),
    ("bulk", &["bulk-write"]),
    ("pause", &["pause-write"]),
    ("settings", &["settings-read", "settings-write", "plugin-read"]),
];

/// Makes a link; returns its name and the path of its door.
#[track_caller]
fn link(stage: &Stage, tenant: &str, more: Value) -> (String, String) {
    let mut body = json!({ "may": ["read"], "for": "1h", "why": "a visit", "name": "ana" });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let made = stage.operator_post(&format!("/v1/tenants/{tenant}/portal-links"), &body.to_string());
    assert_eq!(made.status, 200, "{made:?}");
    let made = made.json();
    let url = made["url"].as_str().expect("an address");
    let (_, door) = url.split_once("/console").expect("an address of the console");
    (
        made["id"].as_str().expect("an id").to_owned(),
        format!("/console{door}"),
    )
}

/// Goes in by a link.
#[track_caller]
fn go_in(person: &mut Person<'_>, door: &str, headers: &[(&str, &str)]) -> Answer {
    let page = person.ask("GET", door, headers, b"");
    assert_eq!(page.status, 200, "{}", text(&page));
    let key = hidden(&text(&page), "key");
    person.send(door, &[("key", &key)], headers)
}

fn visitor<'s>(stage: &'s Stage, door: &str) -> Person<'s> {
    let mut person = Person::new(stage);
    let answer = go_in(&mut person, door, &[]);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console")));
    person
}

#[test]
fn o13_whoever_only_looks_at_a_link_is_not_let_in_and_uses_nothing_up() {
    let stage = fresh();
    let (_, door) = link(&stage, "acme", json!({ "may": ["read", "replay"] }));
    // A scanner of mail, a preview in a chat, a browser that fetches ahead.
    for headers in [
        &[][..],
        &[("sec-purpose", "prefetch")],
        &[("user-agent", "scanner"), ("sec-fetch-site", "cross-site")],
    ] {
        let mut scanner = Person::new(&stage);
        let looked = scanner.ask("GET", &door, headers, b"");
        assert_eq!(looked.status, 200);
        assert_eq!(scanner.cookie("tollgate_session"), None, "{headers:?}");
        assert_eq!(scanner.get("/console").status, 303);
    }
    let mut person = Person::new(&stage);
    let page = person.get(&door);
    let shown = text(&page);
    for part in ["acme", "see what came in", "put work back", "Come in"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("decide about") && !shown.contains("tgl_"), "{shown}");
    assert_eq!(
        page.header("referrer-policy"),
        Some("strict-origin"),
        "its address is a secret"
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    // Nobody is let in by a form of somebody else's.
    let key = hidden(&shown, "key");
    for (key, headers) in [
        ("", &[][..]),
        ("guessed", &[]),
        (key.as_str(), &[("sec-fetch-site", "cross-site")]),
        (&key, &[("origin", "https://evil.example")]),
    ] {
        let answer = person.send(&door, &[("key", key)], headers);
        assert_eq!(answer.status, 403, "{key} {headers:?}: {}", text(&answer));
        assert_eq!(person.cookie("tollgate_session"), None);
    }
    let mut victim = Person::new(&stage);
    assert_eq!(
        victim.send(&door, &[("key", &key)], &[]).status,
        403,
        "the key of another browser"
    );

    // The name that somebody planted is not taken on; the link opens again until it ends.
    for _ in 0..2 {
        let mut person = Person::new(&stage);
        person.set_cookie("tollgate_session", "link.planted");
        let answer = go_in(&mut person, &door, &[]);
        assert_eq!(answer.status, 303, "{}", text(&answer));
        let cookie = answer.header("set-cookie").unwrap_or_default();
        for attribute in ["HttpOnly", "SameSite=Strict", "Path=/console"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert_ne!(person.cookie("tollgate_session"), Some("link.planted"));
        let page = text(&person.get("/console"));
        assert!(page.contains("by link to acme, until"), "{page}");
    }
    // No other token is one to be put into an address, and what is no link is told from none that is over.
    for secret in [
        stage.operator_token().to_owned(),
        stage.token("tenant-admin", "acme"),
        "tgl_guessed".to_owned(),
    ] {
        let answer = Person::new(&stage).get(&format!("/console/portal/{secret}"));
        assert_eq!(answer.status, 404);
        assert!(text(&answer).contains("This is over") && !text(&answer).contains(&secret));
    }
}

#[test]
fn o13_a_link_may_what_it_lists_and_no_more() {
    let stage = Setup::acme(CASHBACK)
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .start();
    let document = stage.operator_get("/openapi.json").json();
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, call) in methods.as_object().expect("methods") {
            let permission = call["x-permission"].as_str().expect("a permission").to_owned();
            calls.push((method.to_uppercase(), path.clone(), permission));
        }
    }
    let listed: [&[&str]; 6] = [
        &["read"],
        &["settings"],
        &["read", "replay", "bulk"],
        &["read", "redeliver", "issues"],
        &["read", "review", "pause"],
        &[
            "read",
            "replay",
            "redeliver",
            "review",
            "issues",
            "bulk",
            "pause",
            "settings",
        ],
    ];
    for may in listed {
        let (_, door) = link(&stage, "acme", json!({ "may": may }));
        let secret = door.rsplit('/').next().unwrap_or_default();
        let allowed: Vec<&str> = CAPABILITIES
            .iter()
            .filter(|(word, _)| may.contains(word))
            .flat_map(|(_, permissions)| permissions.iter().copied())
            .collect();
        for (method, path, permission) in &calls {
            let own = path.replace("{tenant}", "acme").replace(['{', '}'], "");
            let answer = stage.ask_as(secret, method, &own, b"not json");
            let is_allowed = allowed.contains(&permission.as_str());
            assert_eq!(answer.status != 403, is_allowed, "{may:?}: {method} {path}: {answer:?}");
            if path.contains("{tenant}") {
                let other = path.replace("{tenant}", "globex").replace(['{', '}'], "");
                assert_eq!(
                    stage.ask_as(secret, method, &other, b"{}").status,
                    403,
                    "{method} {other}"
                );
            }
        }
        let who = stage.ask_as(secret, "GET", "/v1/whoami", b"").json();
        assert_eq!((&who["role"], &who["may"]), (&json!("portal"), &json!(may)), "{who:#}");
    }
    // Nobody does to many what they may not do to one, nor by another name.
    let (_, door) = link(&stage, "acme", json!({ "may": ["read", "replay", "bulk"] }));
    let secret = door.rsplit('/').next().unwrap_or_default();
    for (body, status) in [
        (
            json!({ "action": "replay", "filter": "status:dead", "actor": "a", "dry_run": true }),
            200,
        ),
        (
            json!({ "action": "redeliver", "filter": "status:dead", "actor": "a", "dry_run": true }),
            403,
        ),
        (
            json!({ "action": "dismiss", "filter": "status:held", "actor": "a", "dry_run": true }),
            403,
        ),
    ] {
        let answer = stage.ask_as(secret, "POST", "/v1/bulk", body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    for (body, status) in [
        (json!({ "dead_letters": {}, "actor": "a", "dry_run": true }), 200),
        (json!({ "held_jobs": {}, "actor": "a", "dry_run": true }), 403),
    ] {
        let answer = stage.ask_as(secret, "POST", "/v1/replay", body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
}

#[test]
fn o13_who_comes_by_a_link_sees_one_tenant_and_only_what_it_lists() {
    let Lively { stage, .. } = &lively();
    let all = pages(stage);
    let (_, globex) = link(
        stage,
        "globex",
        json!({ "may": ["read", "replay", "redeliver", "review", "settings"] }),
    );
    let mut stranger = visitor(stage, &globex);
    for page in &all {
        for page in [
            page.clone(),
            format!("{page}{}tenant=acme", if page.contains('?') { '&' } else { '?' }),
        ] {
            let shown = text(&stranger.get(&page));
            for foreign in ["evt_00", "evt_odd", "evt_score", "red_0", "user_60", "crm", "hostile"] {
                let is_asked = page.contains(foreign) || page.contains("/act/");
                assert!(is_asked || !shown.contains(foreign), "{page} shows {foreign}: {shown}");
            }
        }
    }
    let (_, read) = link(stage, "acme", json!({ "may": ["read"] }));
    let mut reader = visitor(stage, &read);
    for page in &all {
        let answer = reader.get(page);
        let shown = text(&answer);
        assert!(
            matches!(answer.status, 200 | 303 | 403 | 404),
            "{page}: {}",
            answer.status
        );
        assert!(!shown.contains("tgl_") && !shown.contains("tgt_"), "{page}");
        if page.contains("/settings") || page.contains("/secrets") || page.contains("/set/") {
            assert_eq!(answer.status, 403, "{page}: {shown}");
        }
        // What would be refused is not offered.
        let offers = !["act", "set", "make"]
            .into_iter()
            .any(|form| shown.contains(&format!("href=\"/console/{form}/")));
        assert!(offers, "{page}: {shown}");
    }
    assert!(text(&reader.get("/console/events")).contains("evt_0009"));
    let refused = reader.post("/console/act/replay", &[("dead_letters", "all"), ("why", "w")]);
    assert_eq!(refused.status, 403, "{}", text(&refused));
    // With the capability the same form does it, and the history has the link's name.
    let (id, replay) = link(stage, "acme", json!({ "may": ["read", "replay"], "name": "berta" }));
    let mut person = visitor(stage, &replay);
    assert!(!text(&person.get("/console/held")).contains("Decide"));
    let fields = [
        ("dead_letters", "all"),
        ("destination", "crm"),
        ("why", "the CRM is back"),
    ];
    let looked = person.post("/console/act/replay", &fields);
    assert_eq!(looked.status, 200, "{}", text(&looked));
    assert_eq!(person.post(&confirming(&text(&looked)), &[]).status, 200);
    let history = stage.trace("evt_0001")["history"].to_string();
    assert!(history.contains(&format!("berta ({id})")), "{history}");
}

#[test]
fn o13_a_link_that_may_pause_does_so_on_the_page_of_a_route() {
    let stage = fresh();
    let route = "/console/routes/acme/cashback";
    let (_, read) = link(&stage, "acme", json!({}));
    let (_, door) = link(&stage, "acme", json!({ "may": ["read", "pause"] }));
    let (mut reader, mut person) = (visitor(&stage, &read), visitor(&stage, &door));
    for (what, offer, gone) in [("pause", "Pause it", "Resume it"), ("resume", "Resume it", "Pause it")] {
        let page = text(&person.get(route));
        assert!(page.contains(offer) && !page.contains(gone), "{what}: {page}");
        assert!(!text(&reader.get(route)).contains(offer), "{what}");
        let fields = [("tenant", "acme"), ("route", "cashback"), ("why", "they move")];
        let looked = person.post(&format!("/console/act/{what}"), &fields);
        assert_eq!(looked.status, 200, "{}", text(&looked));
        assert_eq!(person.post(&confirming(&text(&looked)), &[]).status, 200);
    }
}

#[test]
fn o13_a_link_ends_by_itself_and_when_it_is_revoked_at_the_next_request() {
    let mut stage = fresh();
    let (id, door) = link(&stage, "acme", json!({}));
    let (_, other) = link(&stage, "acme", json!({}));
    let (mut person, mut untouched) = (visitor(&stage, &door), visitor(&stage, &other));
    // By the host itself: where the store is shared, what a command changes there is heard of within a second.
    let why = json!({ "why": "sent to somebody else" }).to_string();
    let path = format!("/v1/portal-links/{id}/revoke");
    let revoked = stage.ask_as(stage.operator_token(), "POST", &path, why.as_bytes());
    assert_eq!(revoked.status, 200, "{revoked:?}");
    // A page that asks nothing of the host either.
    for page in ["/console/find", "/console/events"] {
        assert_eq!(person.get(page).header("location"), Some("/console/portal"), "{page}");
    }
    assert!(text(&person.get("/console/portal")).contains("This is over"));
    // Whoever was told so may sign in with a token, and who only looks there stays in.
    assert_eq!(person.cookie("tollgate_session"), None);
    assert_eq!(person.get("/console").header("location"), Some("/console/sign-in"));
    assert_eq!(untouched.get("/console/portal").header("set-cookie"), None);
    assert_eq!(Person::new(&stage).get(&door).status, 404);
    assert_eq!(untouched.get("/console/find").status, 200);

    let (_, short) = link(&stage, "acme", json!({ "for": "2s" }));
    let mut brief = visitor(&stage, &short);
    assert_eq!(brief.get("/console/find").status, 200);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(brief.get("/console/find").header("location"), Some("/console/portal"));
    assert_eq!(Person::new(&stage).get(&short).status, 404);
    let secret = short.rsplit('/').next().unwrap_or_default();
    assert_eq!(stage.ask_as(secret, "GET", "/v1/whoami", b"").status, 401);

    // Signing out ends the session, and not the link. A restart ends the session as well.
    assert_eq!(
        untouched.post("/console/sign-out", &[]).header("location"),
        Some("/console/portal")
    );
    let session = visitor(&stage, &other)
        .cookie("tollgate_session")
        .unwrap_or_default()
        .to_owned();
    stage.stop();
    let secrets: Vec<String> = [&door, &other, &short]
        .map(|door| door.rsplit('/').next().unwrap_or_default().to_owned())
        .to_vec();
    for entry in fs::read_dir(stage.path("")).expect("the stage's folder").flatten() {
        if entry.path().is_file() {
            let bytes = fs::read(entry.path()).expect("a file");
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} holds a link's secret", entry.path().display());
            }
        }
    }
    stage.start();
    let mut again = Person::new(&stage);
    again.set_cookie("tollgate_session", &session);
    assert_eq!(again.get("/console/find").header("location"), Some("/console/portal"));
    visitor(&stage, &other);
    let log = stage.log().join("\n");
    assert!(
        !log.contains("tgl_") && secrets.iter().all(|secret| !log.contains(secret)),
        "{log}"
    );
}

#[test]
fn o13_nobody_gives_more_than_they_have_and_links_are_listed_without_their_secrets() {
    let stage = Setup::acme(CASHBACK)
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .start();
    let admin = stage.token("tenant-admin", "acme");
    let body = json!({ "may": ["read", "settings"], "for": "1h", "why": "our shop" }).to_string();
    let ask = |token: &str, tenant: &str, body: &str| {
        let path = format!("/v1/tenants/{tenant}/portal-links");
        stage.ask_as(token, "POST", &path, body.as_bytes())
    };
    assert_eq!(ask(&admin, "acme", &body).status, 200);
    assert_eq!(ask(&admin, "globex", &body).status, 403);
    for role in ["viewer", "plugin-author", "puller"] {
        assert_eq!(ask(&stage.token(role, "acme"), "acme", &body).status, 403, "{role}");
    }
    let whole = json!({ "may": ["read", "replay", "redeliver", "review", "issues", "bulk", "pause", "settings"], "for": "1h", "why": "w" });
    let (_, door) = link(&stage, "acme", whole);
    let secret = door.rsplit('/').next().unwrap_or_default();
    assert_eq!(ask(secret, "acme", &body).status, 403, "a link makes no links");
    assert_eq!(stage.ask_as(secret, "GET", "/v1/portal-links", b"").status, 403);
    assert_eq!(ask(stage.operator_token(), "nobody", &body).status, 409);
    // A link ends no later than the token that made it.
    let brief = json!({ "name": "a", "role": "tenant-admin", "tenant": "acme", "expires_in_days": 1 });
    let brief = stage.operator_post("/v1/tokens", &brief.to_string()).json()["token"].clone();
    let brief = brief.as_str().expect("a token");
    assert_eq!(ask(brief, "acme", &body).status, 200);
    let late = ask(brief, "acme", &body.replace("1h", "2d"));
    assert!(
        late.status == 403 && text(&late).contains("your own token ends"),
        "{late:?}"
    );
    // What is wrong is said of the field, and nothing is made; a dry run makes nothing either.
    let count = || {
        stage
            .operator_get("/v1/portal-links?all=true")
            .json()
            .as_array()
            .map(Vec::len)
    };
    let before = count();
    for (change, part) in [
        (json!({ "may": [] }), "may: say what"),
        (json!({ "may": ["read", "erase"] }), "may: `erase` is no capability"),
        (json!({ "may": ["bulk"] }), "needs `read`"),
        (json!({ "for": "8d" }), "for: `8d`"),
        (json!({ "why": "" }), "why: say why"),
        (json!({ "accent": "#0a7;}" }), "accent: "),
        (json!({ "scheme": "plaid" }), "scheme: "),
        (json!({ "token": "mine" }), "unknown field"),
    ] {
        let mut body: Value = serde_json::from_str(&body).expect("an object");
        if let (Some(body), Value::Object(change)) = (body.as_object_mut(), change) {
            body.extend(change);
        }
        let answer = ask(&admin, "acme", &body.to_string());
        assert!(
            answer.status == 400 && text(&answer).contains(part),
            "{part}: {answer:?}"
        );
    }
    let dry = json!({ "may": ["read"], "for": "1h", "why": "w", "dry_run": true });
    let dry = ask(&admin, "acme", &dry.to_string()).json();
    assert_eq!((&dry["id"], &dry["url"]), (&Value::Null, &Value::Null), "{dry:#}");
    assert_eq!(count(), before);

    // By the command line: made, listed, revoked.
    let made = stage
        .ask(&[
            "portal",
            "create",
            "--tenant",
            "acme",
            "--may",
            "read,replay",
            "--for",
            "1h",
            "--why",
            "ticket 7",
            "--name",
            "ana",
        ])
        .json();
    let url = made["url"].as_str().expect("an address");
    assert!(
        url.starts_with(&format!("http://{}/console/portal/tgl_", stage.operator)),
        "{url}"
    );
    let secret = url.rsplit('/').next().unwrap_or_default();
    let (own, others) = (
        stage.ask(&["portal", "list", "--tenant", "acme"]).json(),
        stage.ask(&["portal", "list", "--tenant", "globex"]).json(),
    );
    assert_eq!(
        (&own[0]["name"], &own[0]["may"], &own[0]["why"]),
        (&json!("ana"), &json!(["read", "replay"]), &json!("ticket 7"))
    );
    assert_eq!(others, json!([]));
    assert!(
        !own.to_string().contains(secret) && !own.to_string().contains("digest"),
        "{own:#}"
    );
    let seen = stage
        .ask_as(&stage.token("tenant-admin", "globex"), "GET", "/v1/portal-links", b"")
        .json();
    assert_eq!(seen, json!([]), "another tenant's are none");
    let id = made["id"].as_str().expect("an id");
    let foreign = stage.ask_as(
        &stage.token("tenant-admin", "globex"),
        "POST",
        &format!("/v1/portal-links/{id}/revoke"),
        b"{}",
    );
    assert_eq!(foreign.status, 404);
    assert_eq!(stage.ask(&["portal", "revoke", id, "--why", "done"]).code, 0);
    assert_eq!(stage.ask(&["portal", "revoke", id]).code, 1, "it was revoked before");
    let no_link = stage.ask(&["portal", "revoke", "tok_1"]);
    assert_eq!(no_link.code, 3, "a token that is no link: {no_link:?}");
    let open = stage.ask(&["portal", "list"]).json().to_string();
    let all = stage.ask(&["portal", "list", "--all"]).json().to_string();
    assert!(
        !open.contains("ticket 7") && all.contains("\"revoked_why\":\"done\""),
        "{all}"
    );
    for wrong in [
        &["--may", "read", "--for", "soon", "--why", "w"][..],
        &["--may", "root", "--for", "1h", "--why", "w"],
        &["--for", "1h", "--why", "w"],
        &["--may", "read", "--why", "w"],
        &["--may", "read", "--for", "1h"],
    ] {
        assert_eq!(
            stage
                .ask(&[&["portal", "create", "--tenant", "acme"], wrong].concat())
                .code,
            2,
            "{wrong:?}"
        );
    }
}

#[test]
fn o13_a_page_is_framed_only_by_origins_that_the_operator_lists_and_only_by_https() {
    let stage = Setup::acme(CASHBACK)
        .plugin("cashback")
        .console(
            "address = \"https://hooks.example\"\nembed = [\"https://shop.example\", \"https://admin.shop.example\"]",
        )
        .start();
    let (_, door) = link(&stage, "acme", json!({}));
    const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");
    const FRAME: (&str, &str) = ("sec-fetch-dest", "iframe");
    let policy = |answer: &Answer| {
        let policy = answer.header("content-security-policy").unwrap_or_default().to_owned();
        assert_eq!(
            answer.header("x-frame-options").is_none(),
            !policy.contains("frame-ancestors 'none'")
        );
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        policy.split("frame-ancestors ").nth(1).unwrap_or_default().to_owned()
    };
    let listed = "https://shop.example https://admin.shop.example";

    let mut framed = Person::new(&stage);
    let answer = framed.ask("GET", &door, &[HTTPS, FRAME], b"");
    assert_eq!(policy(&answer), listed);
    let answer = go_in(&mut framed, &door, &[HTTPS, FRAME]);
    let cookie = answer.header("set-cookie").unwrap_or_default();
    for attribute in ["HttpOnly", "SameSite=None", "Secure", "Partitioned"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    for page in [
        "/console",
        "/console/events",
        "/console/nothing",
        "/console/dead-letters",
    ] {
        let answer = framed.ask("GET", page, &[HTTPS, FRAME], b"");
        assert_eq!(policy(&answer), listed, "{page}");
    }
    // Everything else is framed by nobody: a door over http or outside a frame, a session that began so, one by a token, the page to sign in.
    for headers in [&[][..], &[HTTPS], &[FRAME], &[HTTPS, ("sec-fetch-dest", "document")]] {
        let mut person = Person::new(&stage);
        assert_eq!(policy(&person.ask("GET", &door, headers, b"")), "'none'", "{headers:?}");
        let answer = go_in(&mut person, &door, headers);
        let cookie = answer.header("set-cookie").unwrap_or_default();
        assert!(
            cookie.contains("SameSite=Strict") && !cookie.contains("None"),
            "{headers:?}: {cookie}"
        );
        assert_eq!(cookie.contains("Secure"), headers.contains(&HTTPS), "{cookie}");
        assert_eq!(
            policy(&person.ask("GET", "/console", &[HTTPS, FRAME], b"")),
            "'none'",
            "{headers:?}"
        );
    }
    let mut operator = Person::signed_in(&stage, stage.operator_token());
    for page in ["/console", "/console/sign-in", "/console/events"] {
        assert_eq!(
            policy(&operator.ask("GET", page, &[HTTPS, FRAME], b"")),
            "'none'",
            "{page}"
        );
    }
    // Who is out reads so in their frame.
    let mut out = Person::new(&stage);
    let answer = out.ask("GET", "/console/events", &[HTTPS, FRAME], b"");
    assert_eq!(answer.header("location"), Some("/console/portal"));
    assert_eq!(policy(&out.ask("GET", "/console/portal", &[HTTPS, FRAME], b"")), listed);
    // Without a list there is nobody.
    let alone = fresh();
    let (_, door) = link(&alone, "acme", json!({}));
    assert_eq!(
        policy(&Person::new(&alone).ask("GET", &door, &[HTTPS, FRAME], b"")),
        "'none'"
    );
}

#[test]
fn o13_a_link_has_the_colours_of_who_hands_it_out_and_no_style_of_theirs() {
    let stage = fresh();
    let (_, door) = link(&stage, "acme", json!({ "accent": "#0A7", "scheme": "dark" }));
    let mut person = Person::new(&stage);
    let page = text(&person.get(&door));
    assert!(
        page.contains("/console/colours/00aa77") && page.contains("data-theme=\"dark\""),
        "{page}"
    );
    let mut person = visitor(&stage, &door);
    let page = text(&person.get("/console"));
    assert!(
        page.contains("/console/colours/00aa77") && page.contains("data-theme=\"dark\""),
        "{page}"
    );
    assert!(!page.contains("style=") && !page.contains("<style"), "{page}");
    // Whoever reads chooses.
    assert_eq!(
        person
            .post("/console/theme", &[("theme", "light"), ("place", "/console")])
            .status,
        303
    );
    assert!(text(&person.get("/console")).contains("data-theme=\"light\""));
    let style = person.get("/console/colours/00aa77");
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
    assert!(text(&style).contains("--accent: light-dark(#"), "{}", text(&style));
    for wrong in ["red", "00aa7", "00aa77%7D", "00aa77;x", "%23000"] {
        assert_eq!(person.get(&format!("/console/colours/{wrong}")).status, 404, "{wrong}");
    }
    let mut operator = Person::signed_in(&stage, stage.operator_token());
    assert!(!text(&operator.get("/console")).contains("/console/colours/"));
}
