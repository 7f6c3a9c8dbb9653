//! O14, W1, W4, W7: what people set up by form: sources with their secrets, destinations, routes from a plugin's schema; and plugins from the file to
//! the route, with the money difference before.

use serde_json::{Value, json};
use tollgate_core::limits::{CONSOLE_FORM_BYTES_MAX, SETTINGS_BYTES_MAX};
use tollgate_core::manifest::Manifest;
use tollgate_sandbox::with_manifest;
use tollgate_tests::client::Answer;
use tollgate_tests::console::{Person, hidden, text as shown};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::{Signer, redeemed};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage};
use tollgate_tests::{hostile_dir, plugins_dir};

fn setup() -> Setup {
    Setup::acme(CASHBACK)
        .plugin("cashback")
        .secret("seal", "a-seal-key-of-the-tests-that-is-long-enough")
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .tenancy("trust_files = true\nseal_keys = [{ file = \"secrets/seal\" }]")
}

/// Looks at what a form would do, and does it: both pages.
#[track_caller]
fn done(person: &mut Person<'_>, form: &str, fields: &[(&str, &str)]) -> String {
    let looked = person.post(&format!("/console/{form}"), fields);
    let page = shown(&looked);
    assert_eq!(looked.status, 200, "{form}: {page}");
    assert!(page.contains("Nothing was done yet."), "{form}: {page}");
    let answer = person.post(&confirmation(&page), &[("back", "/console")]);
    assert_eq!(answer.status, 200, "{form}: {}", shown(&answer));
    format!("{page}{}", shown(&answer))
}

#[track_caller]
fn confirmation(page: &str) -> String {
    let (_, rest) = page
        .split_once("action=\"/console/acts/")
        .expect("a form that confirms");
    format!("/console/acts/{}", rest.split('"').next().unwrap_or_default())
}

fn post(stage: &Stage, source: &str, secret: &str, number: u32) -> u16 {
    let body = redeemed(
        &format!("evt_{source}_{number}"),
        &format!("red_{source}_{number}"),
        "success",
    );
    let message = Signer::new("generic-hmac", secret).sign("", body);
    stage.post(source, &message).status
}

/// A cashback that says that it is this version, and gives what another component gives.
fn version(file: &std::path::Path, version: &str, schema: bool) -> Vec<u8> {
    let component = std::fs::read(file).expect("a component");
    let mut manifest = json!({
        "name": "cashback", "version": version, "publisher": "Acme", "events": ["reward.redeemed"],
        "actions": ["credit", "flag"], "state": true, "description": "Another way to give money back.",
    });
    if schema {
        manifest["configuration"] = json!({ "type": "object" });
    }
    let manifest = Manifest::from_json(manifest.to_string().as_bytes()).expect("a manifest");
    with_manifest(&component, &manifest).expect("a component with another manifest")
}

/// Hands a component in, as a browser sends it.
fn upload(person: &mut Person<'_>, key: &str, component: &[u8], headers: &[(&str, &str)]) -> Answer {
    let boundary = "----tollgate-tests";
    let mut body = Vec::new();
    body.extend_from_slice(
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"form_key\"\r\n\r\n{key}\r\n").as_bytes(),
    );
    body.extend_from_slice(
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"signature\"\r\n\r\n\r\n").as_bytes(),
    );
    body.extend_from_slice(
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"component\"; filename=\"a.wasm\"\r\nContent-Type: application/wasm\r\n\r\n")
            .as_bytes(),
    );
    body.extend_from_slice(component);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={boundary}");
    let headers = [&[("content-type", kind.as_str())], headers].concat();
    person.ask("POST", "/console/plugins/upload", &headers, &body)
}

#[test]
fn o14_a_source_is_set_up_with_its_secret_rotated_and_tried_by_form() {
    let stage = setup().start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    let (first, second) = ("first-canary-secret-of-own", "second-canary-secret-of-own");
    let mut pages = vec![done(
        &mut admin,
        "set/source",
        &[
            ("provider", "generic-hmac"),
            ("name", "own"),
            ("new_secret", first),
            ("secret_id", "2026-11"),
            ("why", "our shop"),
        ],
    )];
    says(&pages[0], &["source own", "store = &#34;own-2026-11&#34;"]);
    assert_eq!(post(&stage, "own", first, 1), 202);
    let page = shown(&admin.get("/console/sources/acme/own"));
    says(
        &page,
        &[
            "/in/acme/own",
            "2026-11",
            "own-2026-11",
            "Rotate the secret",
            "Send a test event",
        ],
    );
    pages.push(page);

    // While one takes the other's place both verify, and each is named.
    pages.push(done(
        &mut admin,
        "set/rotate",
        &[
            ("name", "own"),
            ("new_secret", second),
            ("secret_id", "2026-12"),
            ("why", "once a month"),
        ],
    ));
    assert_eq!(
        (post(&stage, "own", first, 2), post(&stage, "own", second, 3)),
        (202, 202)
    );
    let page = shown(&admin.get("/console/sources/acme/own"));
    says(&page, &["2026-11", "2026-12", "End it"]);
    pages.push(page);
    let twice = [
        ("name", "own"),
        ("new_secret", "x"),
        ("secret_id", "2026-12"),
        ("why", "again"),
    ];
    says(
        &shown(&admin.post("/console/set/rotate", &twice)),
        &["take another name"],
    );
    pages.push(done(
        &mut admin,
        "set/end-key",
        &[
            ("name", "own"),
            ("key", "2026-11"),
            ("why", "they sign with the new one"),
        ],
    ));
    assert_eq!(
        (post(&stage, "own", first, 4), post(&stage, "own", second, 5)),
        (401, 202)
    );
    let last = [("name", "own"), ("key", "2026-12"), ("why", "x")];
    says(&shown(&admin.post("/console/set/end-key", &last)), &["last secret"]);

    // A test goes through the edge, and its receipt is a link away.
    let tried = done(&mut admin, "set/test-source", &[("name", "own")]);
    says(
        &tried,
        &[
            "A test event would be sent",
            "tollgate.test",
            "was verified and kept",
            "/console/events/rcpt_",
        ],
    );
    pages.push(tried);
    let events = shown(&admin.get("/console/events?filter=event%3Atollgate-test-*"));
    assert!(events.contains("tollgate.test"), "{events}");

    for canary in [first, second] {
        assert!(pages.iter().all(|page| !page.contains(canary)), "a page shows {canary}");
        assert!(!stage.log().join("\n").contains(canary));
    }
    // Another tenant's admin has no such page, and does nothing here.
    let mut other = Person::signed_in(&stage, &stage.token("tenant-admin", "globex"));
    assert_eq!(other.get("/console/sources/acme/own").status, 403);
    for (form, fields) in [
        ("set/test-source", vec![("tenant", "acme"), ("name", "own")]),
        (
            "set/rotate",
            vec![
                ("tenant", "acme"),
                ("name", "own"),
                ("new_secret", "x"),
                ("secret_id", "y"),
                ("why", "z"),
            ],
        ),
    ] {
        let answer = other.post(&format!("/console/{form}"), &fields);
        assert!(matches!(answer.status, 400 | 403 | 404), "{form}: {}", answer.status);
    }
}

#[test]
fn o14_a_destination_is_set_up_and_tried_by_form_and_its_secret_is_shown_once() {
    let destination = Destination::start();
    let stage = setup().start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    says(
        &shown(&admin.get("/console/set/destination")),
        &["Its owner fetches it"],
    );
    let url = destination.url();
    let fields = [
        ("kind", "push"),
        ("name", "mine"),
        ("url", url.as_str()),
        ("order", "true"),
        ("why", "our books"),
    ];
    let looked = shown(&admin.post("/console/set/destination", &fields));
    assert!(!looked.contains("whsec_"), "not before it is done: {looked}");
    let answer = shown(&admin.post(&confirmation(&looked), &[]));
    let (_, rest) = answer.split_once("whsec_").expect("the secret, once");
    let secret = format!(
        "whsec_{}",
        rest.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c))
            .next()
            .unwrap_or_default()
    );
    assert!(secret.len() > 40, "{secret}");
    let settings = stage.operator_get("/v1/tenants/acme/settings").json();
    says(
        text(&settings, "text"),
        &["[destinations.mine]", "order = \"subject\"", "mine-signing"],
    );
    for page in ["destinations", "secrets", "settings", "set/secret?name=mine-signing"] {
        assert!(
            !shown(&admin.get(&format!("/console/{page}"))).contains(&secret),
            "{page} shows it again"
        );
    }
    let tried = done(&mut admin, "set/test-destination", &[("name", "mine")]);
    says(
        &tried,
        &[
            "One signed request would be sent",
            "took the test delivery",
            "answered 204",
        ],
    );
    assert_eq!(destination.arrivals().len(), 1);
    assert!(!tried.contains(&secret) && !stage.log().join("\n").contains(&secret));
    // Its secret stays when it is removed; added again, it has another.
    let remove = [("kind", "destination"), ("name", "mine"), ("why", "they move")];
    let _ = done(&mut admin, "set/remove", &remove);
    says(&done(&mut admin, "set/destination", &fields), &["mine-signing-2"]);
    // It is changed where it stands, and what its form does not show stays.
    let text = text(&stage.operator_get("/v1/tenants/acme/settings").json(), "text").to_owned();
    let noted = text.replace(
        "[destinations.mine]",
        "# ours\n[destinations.mine]\nheaders = { X-Team = \"books\" }",
    );
    let version = stage.operator_get("/v1/tenants/acme/settings").json()["version"].to_string();
    let by_hand = [
        ("text", noted.as_str()),
        ("expects", version.as_str()),
        ("why", "by hand"),
    ];
    let _ = done(&mut admin, "set/settings", &by_hand);
    says(
        &shown(&admin.get("/console/destinations")),
        &["/console/set/destination?tenant=acme&#38;name=mine"],
    );
    let form = shown(&admin.get("/console/set/destination?name=mine"));
    says(
        &form,
        &[
            &format!("value=\"{url}\""),
            "value=\"mine-signing-2\" selected",
            "stays as it is: headers.",
        ],
    );
    let expects = hidden(&form, "expects");
    let changed = [
        ("kind", "push"),
        ("change", "yes"),
        ("expects", expects.as_str()),
        ("name", "mine"),
        ("url", url.as_str()),
        ("secret", "mine-signing-2"),
        ("requests_per_s", "5"),
        ("why", "they are slow"),
    ];
    let _ = done(&mut admin, "set/destination", &changed);
    let settings = stage.operator_get("/v1/tenants/acme/settings").json();
    let expect = noted.replace("order = \"subject\"\n", "requests_per_s = 5\n");
    assert_eq!(settings["text"], expect.as_str());
    let stale = admin.post("/console/set/destination", &changed);
    assert_eq!(stale.status, 400, "by now it is another version: {}", shown(&stale));
    let not_there = admin.get("/console/set/destination?name=theirs");
    assert_eq!(not_there.status, 404, "{}", shown(&not_there));
    let added = done(
        &mut admin,
        "set/destination",
        &[("kind", "pull"), ("name", "box"), ("why", "behind the firewall")],
    );
    says(&added, &["kind = &#34;pull&#34;"]);
    says(
        &shown(&admin.get("/console/destinations")),
        &["pulled by its owner", "Send a test"],
    );
}

#[test]
fn w7_a_route_is_made_of_the_plugins_schema_and_what_does_not_fit_is_said_at_its_field() {
    let stage = setup().start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    assert_eq!(stage.redeem(1).status, 202);
    let first = shown(&admin.get("/console/set/route"));
    says(
        &first,
        &["run cashback 1.0.0", "hand events on as the provider sent them"],
    );
    let form = shown(&admin.get("/console/set/route?runs=plugin%3Acashback"));
    says(
        &form,
        &[
            "Rate bps",
            "Basis points of the amount",
            "name=\"grant.credit.most\"",
            "value=\"reward.redeemed\"",
            "value=\"shop\"",
        ],
    );
    let good = [
        ("runs", "plugin:cashback"),
        ("name", "bonus"),
        ("types", "reward.redeemed"),
        ("sources", "shop"),
        ("filter", "body.status:success"),
        ("config.rate_bps", "100"),
        ("config.currency", "INR"),
        ("config.statuses", "success"),
        ("grant.credit.granted", "true"),
        ("grant.credit.most", "50.00"),
        ("grant.credit.currencies", "INR"),
        ("grant.credit.budgets", "1000.00 INR a day\n3 actions a day per account"),
        ("why", "a bonus"),
    ];
    for (field, value, says_so) in [
        ("config.rate_bps", "many", "is no number"),
        ("config.rate_bps", "20000", "at most 10000"),
        ("config.currency", "RUPEE", "at most 3"),
        ("filter", "body.user_id:x colour:red", "character"),
        ("grant.credit.most", "fifty", "is no amount of INR"),
        ("grant.credit.budgets", "plenty", "line 1: write it as"),
    ] {
        let fields: Vec<_> = good
            .iter()
            .map(|(name, was)| (*name, if *name == field { value } else { *was }))
            .collect();
        let answer = admin.post("/console/set/route", &fields);
        let page = shown(&answer);
        assert_eq!(answer.status, 400, "{field}");
        let (_, at) = page
            .split_once(&format!("id=\"w-{field}\""))
            .unwrap_or_else(|| panic!("{field}: {page}"));
        let said = at.split("</div>").next().unwrap_or_default();
        assert!(said.contains(says_so), "{field}: {said}");
        assert!(
            page.contains("value=\"bonus\"") && page.contains("aria-invalid"),
            "what was filled in stays"
        );
    }
    let added = done(&mut admin, "set/route", &good);
    says(
        &added,
        &[
            "cashback may credit at most 50.00 INR each, 1000.00 INR a day, 3 actions a day per account.",
            "route bonus",
            "jobs of the route bonus",
        ],
    );
    assert_eq!(stage.redeem(2).status, 202);
    stage.quiet();
    let trace = stage.trace("evt_2");
    let jobs = list(&trace["jobs"]);
    let routes: Vec<_> = jobs.iter().map(|job| text(job, "route")).collect();
    assert_eq!(routes, ["cashback", "bonus"]);
    let route = stage.operator_get("/v1/tenants/acme/routes/bonus").json();
    holds(
        &route,
        &json!({ "set_by": "settings", "filter": "body.status:success", "config": { "rate_bps": 100, "statuses": ["success"] } }),
    );
    holds(
        &stage.operator_get("/v1/tenants/acme/routes/cashback").json(),
        &json!({ "set_by": "file", "filter": null }),
    );
    let page = shown(&admin.get("/console/routes/acme/bonus"));
    says(
        &page,
        &[
            "May credit at most 50.00 INR each",
            "the tenant's settings say it".replace('\'', "&#39;").as_str(),
            "Change the route",
        ],
    );

    // It is changed where it stands, and what the form does not know stays.
    let settings = stage.operator_get("/v1/tenants/acme/settings").json();
    let noted = text(&settings, "text").replace("[routes.bonus]", "# ours\n[routes.bonus]\nlate = \"hold\"");
    let version = settings["version"].to_string();
    let _ = done(
        &mut admin,
        "set/settings",
        &[("text", &noted), ("expects", &version), ("why", "by hand")],
    );
    let form = shown(&admin.get("/console/set/route?name=bonus"));
    says(
        &form,
        &[
            "value=\"100\"",
            "1000.00 INR a day",
            "late = &#34;hold&#34;",
            "value=\"50.00\"",
        ],
    );
    let changed: Vec<_> = good
        .iter()
        .map(|(name, was)| (*name, if *name == "config.rate_bps" { "200" } else { *was }))
        .chain([("change", "yes"), ("more", "late = \"hold\"")])
        .collect();
    let page = done(&mut admin, "set/route", &changed);
    says(&page, &["+rate_bps = 200"]);
    let settings = stage.operator_get("/v1/tenants/acme/settings").json();
    says(
        text(&settings, "text"),
        &["# ours\n[routes.bonus]", "late = \"hold\"", "rate_bps = 200"],
    );
    assert_eq!(
        admin.get("/console/set/route?name=cashback").status,
        404,
        "the operator's is not changed here"
    );
}

#[test]
fn o14_a_route_is_changed_from_its_text_and_no_grant_or_source_is_lost_on_the_way() {
    let own = "[sources.own]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"a\", value = { store = \"own\" } }]\n";
    let with = |grants: &str| {
        format!(
            "{own}[routes.bonus]\nsources = [\"own\"]\nplugin = \"cashback\"\ngrants = [{grants}]\n\
             config = {{ rate_bps = 100, currency = \"INR\" }}\n"
        )
    };
    let rupees = "{ kind = \"credit\", amount_max = 2000, currencies = [\"INR\"] }";
    let both = with(&format!(
        "{rupees}, {{ kind = \"credit\", amount_max = 500, currencies = [\"JPY\"] }}"
    ));
    let mut stage = setup().start();
    let token = stage.token("tenant-admin", "acme");
    {
        let mut admin = Person::signed_in(&stage, &token);
        let secret = [("name", "own"), ("value", "own-secret-4711-of-acme"), ("why", "ours")];
        let _ = done(&mut admin, "set/secret", &secret);
        let text = [("text", both.as_str()), ("expects", "0"), ("why", "by hand")];
        let _ = done(&mut admin, "set/settings", &text);
        // A kind that is granted twice has no fields, so that a form would lose one of the two.
        let form = admin.get("/console/set/route?name=bonus");
        assert_eq!(form.status, 400, "{}", shown(&form));
        says(&shown(&form), &["its grants", "change it under Settings"]);
        let fields = [
            ("runs", "plugin:cashback"),
            ("change", "yes"),
            ("name", "bonus"),
            ("sources", "own"),
            ("config.rate_bps", "100"),
            ("config.currency", "INR"),
            ("grant.credit.granted", "true"),
            ("grant.credit.most", "20.00"),
            ("grant.credit.currencies", "INR"),
            ("why", "a form of before"),
        ];
        let sent = admin.post("/console/set/route", &fields);
        assert_eq!(sent.status, 400, "{}", shown(&sent));
        says(&shown(&sent), &["change it under Settings"]);
        let text = with(rupees);
        let text = [("text", text.as_str()), ("expects", "1"), ("why", "by hand")];
        let _ = done(&mut admin, "set/settings", &text);
    }
    // The host cannot open its secret any more: of the newest settings nothing runs, and the form has all of it.
    stage.write("secrets/newer", "the-next-seal-key-of-the-tests-is-long-too");
    stage.tenancy("trust_files = true\nseal_keys = [{ file = \"secrets/newer\" }]");
    stage.stop();
    stage.start();
    let mut admin = Person::signed_in(&stage, &token);
    assert_eq!(
        stage.operator_get("/v1/tenants/acme/settings").json()["in_effect"],
        false
    );
    let form = shown(&admin.get("/console/set/route?name=bonus"));
    says(
        &form,
        &[
            "name=\"sources\" value=\"own\" checked",
            "name=\"grant.credit.granted\" value=\"true\" checked",
            "name=\"grant.credit.most\" value=\"20.00\"",
        ],
    );
}

#[test]
fn o14_a_form_takes_settings_as_long_as_the_api_does() {
    let stage = setup().start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    // A browser writes these five bytes as sixteen.
    let line = "# é\r\n";
    let text = line.repeat(SETTINGS_BYTES_MAX / (line.len() - 1));
    let fields = [("text", text.as_str()), ("expects", "0"), ("why", "as long as it gets")];
    says(
        &done(&mut admin, "set/settings", &fields),
        &["Version 1 of the settings is in effect."],
    );
    let kept = stage.operator_get("/v1/tenants/acme/settings").json();
    assert_eq!(tollgate_tests::json::text(&kept, "text"), text.replace('\r', ""));
    let longer = format!("{text}{line}");
    let sent = admin.post(
        "/console/set/settings",
        &[("text", &longer), ("expects", "1"), ("why", "longer")],
    );
    assert_eq!(sent.status, 400);
    says(&shown(&sent), &["settings have at most 262144"]);
    // Whoever is not signed in has nothing so long to say.
    let token = "x".repeat(CONSOLE_FORM_BYTES_MAX);
    let signing_in = Person::new(&stage).sign_in(&token, &[]);
    assert_eq!(signing_in.status, 413, "{}", shown(&signing_in));
}

#[test]
fn w1_a_plugin_goes_from_a_file_to_the_route_and_back_by_form() {
    let stage = setup().start();
    for number in 1..=4 {
        assert_eq!(stage.redeem(number).status, 202);
    }
    stage.quiet();
    let token = stage.token("tenant-admin", "acme");
    let mut admin = Person::signed_in(&stage, &token);
    let key = hidden(&shown(&admin.get("/console/plugins/upload")), "form_key");

    // What is refused is said at the form, and nothing is kept.
    let refused = upload(&mut admin, &key, b"\0asm not a component", &[]);
    assert_eq!(refused.status, 400);
    says(&shown(&refused), &["It was not taken in."]);
    assert_eq!(upload(&mut admin, &key, b"", &[]).status, 400);
    let next = version(&hostile_dir().join("refuse.wasm"), "2.0.0", true);
    for (key, headers) in [
        ("guessed", &[][..]),
        ("", &[]),
        (&key, &[("sec-fetch-site", "cross-site")]),
    ] {
        assert_eq!(upload(&mut admin, key, &next, headers).status, 403, "{key} {headers:?}");
    }
    let mut viewer = Person::signed_in(&stage, &stage.token("viewer", "acme"));
    let theirs = hidden(&shown(&viewer.get("/console")), "form_key");
    assert_eq!(upload(&mut viewer, &theirs, &next, &[]).status, 403);
    let versions = || list(&stage.operator_get("/v1/plugins?tenant=acme").json()).len();
    assert_eq!(versions(), 1);

    let taken = upload(&mut admin, &key, &next, &[]);
    assert_eq!(taken.status, 303, "{}", shown(&taken));
    let place = taken.header("location").unwrap_or_default().to_owned();
    let page = shown(&admin.get(&place));
    says(
        &page,
        &[
            "The host vetted it",
            "cashback 2.0.0",
            "credit, flag a subject",
            "Another way to give money back.",
            "Publish it",
        ],
    );
    let digest = place
        .trim_start_matches("/console/plugins/")
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(versions(), 2);

    // It is tried before it is promoted: what it comes to in money is shown, and that is kept as evidence.
    let of = [("tenant", "acme"), ("route", "cashback"), ("plugin", digest.as_str())];
    let form = shown(&admin.get(&format!("/console/trial?tenant=acme&route=cashback&plugin={digest}")));
    says(&form, &["cashback 2.0.0", "the newest 100"]);
    let tried = admin.post("/console/trial", &[&of[..], &[("newest", "100")]].concat());
    let page = shown(&tried);
    assert_eq!(tried.status, 200, "{page}");
    says(
        &page,
        &[
            "Of 4 runs, 4 would have come out otherwise.",
            "INR",
            "−",
            "Examples",
            "/console/find?id=run_",
            "Promote it",
        ],
    );

    let promote = [&of[..], &[("why", "it is better")]].concat();
    let early = admin.post("/console/bring/promote", &promote);
    assert_eq!(early.status, 400);
    says(&shown(&early), &["not published yet"]);
    says(
        &done(&mut admin, "bring/publish", &[("plugin", &digest), ("why", "vetted")]),
        &["would be published", "is published"],
    );
    let runs = || stage.operator_get("/v1/tenants/acme/routes/cashback").json()["binding"].clone();
    let first = runs()["active"].clone();
    let _ = done(&mut admin, "bring/shadow", &promote);
    assert_eq!(runs()["shadow"], json!(digest));
    let wrong = admin.post("/console/bring/canary", &[&promote[..], &[("share", "0")]].concat());
    says(&shown(&wrong), &["from 0.1 to 99.9"]);
    let _ = done(
        &mut admin,
        "bring/canary",
        &[&promote[..], &[("share", "12.5")]].concat(),
    );
    assert_eq!(runs()["canary"], json!({ "digest": digest, "share": 125 }));
    let page = shown(&admin.get("/console/routes/acme/cashback"));
    says(
        &page,
        &[
            "canary, 12.5 %",
            "Promote the canary",
            "End the canary",
            "May credit at most 50.00 INR each",
        ],
    );
    let page = done(&mut admin, "bring/promote", &promote);
    says(&page, &["This would be done", "Active", "Done"]);
    assert_eq!(runs()["active"], json!(digest));
    let back = [("tenant", "acme"), ("route", "cashback"), ("why", "it was not")];
    let _ = done(&mut admin, "bring/roll-back", &back);
    assert_eq!(runs()["active"], first);
    let page = shown(&admin.get("/console/routes/acme/cashback"));
    says(&page, &["it was not", "it is better", "rolled back", "not here"]);
    says(
        &done(&mut admin, "bring/retire", &[("plugin", &digest), ("why", "no use")]),
        &["is retired"],
    );

    // Whoever writes plugins hands in and tries, sees no money, and brings nothing to a route.
    let mut author = Person::signed_in(&stage, &stage.token("plugin-author", "acme"));
    let key = hidden(&shown(&author.get("/console/plugins/upload")), "form_key");
    let third = version(&plugins_dir().join("cashback.wasm"), "3.0.0", true);
    let taken = upload(&mut author, &key, &third, &[]);
    assert_eq!(taken.status, 303, "{}", shown(&taken));
    let place = taken.header("location").unwrap_or_default().to_owned();
    let digest = place
        .trim_start_matches("/console/plugins/")
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let page = shown(&author.get(&place));
    assert!(
        !page.contains("/console/bring/") && page.contains("/console/trial?"),
        "{page}"
    );
    let of = [("tenant", "acme"), ("route", "cashback"), ("plugin", digest.as_str())];
    let page = shown(&author.post("/console/trial", &of));
    says(
        &page,
        &["It would have done the same in 4 runs.", "your token reads no events"],
    );
    assert!(!page.contains("Promote it") && !page.contains("evt_"), "{page}");
    assert_eq!(
        author
            .post("/console/bring/promote", &[&of[..], &[("why", "mine")]].concat())
            .status,
        403
    );

    // To another tenant there is neither the version nor the route.
    let mut other = Person::signed_in(&stage, &stage.token("tenant-admin", "globex"));
    assert_eq!(other.get(&place).status, 404);
    assert_eq!(other.get("/console/routes/acme/cashback").status, 403);
    for form in [
        "trial",
        "bring/promote",
        "bring/shadow",
        "bring/roll-back",
        "bring/retire",
    ] {
        let answer = other.post(&format!("/console/{form}"), &[&of[..], &[("why", "mine")]].concat());
        assert!(matches!(answer.status, 400 | 403 | 404), "{form}: {}", answer.status);
    }
    assert_eq!(runs()["active"], first);
    let _: Value = stage.operator_get("/v1/plugins").json();
}

#[test]
fn o14_whoever_tries_a_provider_out_says_by_form_which_events_count_and_changes_it_later() {
    let stage = setup().edge("public_url = \"https://hooks.example/tollgate/\"").start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    let form = shown(&admin.get("/console/set/source?provider=stripe"));
    says(
        &form,
        &["value=\"stripe\"", "Events that count", "What is known of Stripe"],
    );
    let fields = [
        ("provider", "stripe"),
        ("name", "pay"),
        ("new_secret", "whsec_0123456789abcdef0123456789abcdef"),
        ("secret_id", "a"),
        ("accept", "test"),
        ("why", "we try it"),
    ];
    let added = done(&mut admin, "set/source", &fields);
    says(&added, &["/console/sources/acme/pay", "The URL of pay"]);
    let page = shown(&admin.get("/console/sources/acme/pay"));
    says(
        &page,
        &[
            "https://hooks.example/tollgate/in/acme/pay",
            "/console/set/change-source",
        ],
    );
    let settings = stage.operator_get("/v1/tenants/acme/settings").json();
    let url_of = |name: &str| -> Value {
        let sources = list(&settings["sources"]);
        sources
            .iter()
            .find(|source| source["name"] == name)
            .map(|source| source["url"].clone())
            .unwrap_or_default()
    };
    assert_eq!(url_of("pay"), "https://hooks.example/tollgate/in/acme/pay");
    assert_eq!(
        url_of("shop"),
        "https://hooks.example/tollgate/in/acme/shop",
        "the operator's too"
    );
    says(
        &stage.ask_for_people(&["settings", "show", "--tenant", "acme"]).stdout,
        &["https://hooks.example/tollgate/in/acme/pay"],
    );
    let event = Signer::new("stripe", "whsec_0123456789abcdef0123456789abcdef");
    let send = |id: &str| {
        let body = json!({
            "id": id, "object": "event", "type": "charge.captured", "created": 1, "livemode": false,
            "data": { "object": { "id": "ch_1", "object": "charge" } },
        });
        stage.post("pay", &event.sign("", body.to_string())).json()["status"].clone()
    };
    // What no route takes has no effect that could be held back.
    let _ = done(
        &mut admin,
        "set/destination",
        &[("kind", "pull"), ("name", "box"), ("why", "for us")],
    );
    let route = [
        ("runs", "body"),
        ("name", "archive"),
        ("sources", "pay"),
        ("destinations", "box"),
        ("why", "all of it"),
    ];
    let _ = done(&mut admin, "set/route", &route);
    assert_eq!(send("evt_1"), "accepted");
    let form = shown(&admin.get("/console/set/change-source?name=pay"));
    says(&form, &["<option value=\"test\" selected>"]);
    let expects = hidden(&form, "expects");
    let change = [
        ("name", "pay"),
        ("expects", expects.as_str()),
        ("accept", "live"),
        ("why", "we are live"),
    ];
    says(&done(&mut admin, "set/change-source", &change), &["-accept"]);
    assert_eq!(send("evt_2"), "held");
    let text = text(&stage.operator_get("/v1/tenants/acme/settings").json(), "text").to_owned();
    assert!(!text.contains("accept"), "what holds without a word has none: {text}");
    // What cannot be set is said before somebody pastes a secret.
    let bare = Setup::acme(CASHBACK).plugin("cashback").start();
    let mut admin = Person::signed_in(&bare, &bare.token("tenant-admin", "acme"));
    says(
        &shown(&admin.get("/console/set/source?provider=stripe")),
        &["No secret can be set yet", "<code>seal_keys"],
    );
    says(
        &shown(&admin.get("/console/sources/acme/shop")),
        &["https://YOUR-PUBLIC-HOST/in/acme/shop", "ask the operator"],
    );
}

#[test]
fn o14_people_who_are_told_by_email_are_set_up_by_form_and_what_does_not_fit_is_said_at_its_field() {
    let stage = setup()
        .delivery("[notices.email]\nserver = \"127.0.0.1\"\nport = 9\ntls = \"none\"\nfrom = \"a@mail.example\"\ndomains = [\"acme.example\"]")
        .start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    says(
        &shown(&admin.get("/console/set/destination")),
        &["told of issues by e-mail"],
    );
    let fields = |to: &'static str| {
        [
            ("kind", "email"),
            ("name", "oncall"),
            ("to", to),
            ("why", "who wakes up"),
        ]
    };
    let wrong = admin.post("/console/set/destination", &fields("ana@elsewhere.example"));
    let page = shown(&wrong);
    assert_eq!(wrong.status, 400, "{page}");
    says(
        &page,
        &[
            "Something does not fit",
            "id=\"w-to\"",
            "<code>elsewhere.example</code>",
        ],
    );
    assert!(!page.contains("line "), "of a text that nobody sees: {page}");
    let added = done(
        &mut admin,
        "set/destination",
        &fields("ana@acme.example\r\nben@acme.example"),
    );
    says(
        &added,
        &[
            "to = [&#34;ana@acme.example&#34;, &#34;ben@acme.example&#34;]",
            "Send oncall a test",
        ],
    );
    let list = shown(&admin.get("/console/destinations"));
    says(
        &list,
        &[
            "e-mail to ana@acme.example, ben@acme.example",
            "/console/set/destination?tenant=acme&#38;name=oncall",
        ],
    );
    let looked = admin.post("/console/set/test-destination", &[("name", "oncall")]);
    says(
        &shown(&looked),
        &["One e-mail would be sent to oncall", "mailto:ana@acme.example"],
    );
    let form = shown(&admin.get("/console/set/destination?name=oncall"));
    says(&form, &["ana@acme.example\nben@acme.example</textarea>"]);
    let expects = hidden(&form, "expects");
    let change = [
        ("kind", "email"),
        ("change", "yes"),
        ("expects", expects.as_str()),
        ("name", "oncall"),
        ("to", "ben@acme.example"),
        ("why", "ana left"),
    ];
    says(
        &done(&mut admin, "set/destination", &change),
        &["+to = [&#34;ben@acme.example&#34;]"],
    );
    // Somebody of the whole host chooses whose they mean from those that there are.
    let mut operator = Person::signed_in(&stage, stage.operator_token());
    says(
        &shown(&operator.get("/console/destinations")),
        &["Whose are meant?", "<option>acme</option>", "<option>globex</option>"],
    );
    let who = stage.operator_get("/v1/whoami").json();
    assert_eq!(who["tenants"], json!(["acme", "globex"]));
}
