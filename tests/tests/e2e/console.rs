//! O8: the console shows what the API allows its reader and nothing else, does what its forms say and nothing that another site's say,
//! and no byte of an event becomes a part of a page. Without a browser here; `browser` looks at the same pages with one.

use serde_json::json;
use tollgate_tests::console::{HOSTILE, Lively, Person, fresh, hidden, lively, pages, text};
use tollgate_tests::events::{plain, signer};
use tollgate_tests::stage::wait_until;

/// Everything that may be there before a page has an event's bytes in it.
const CANARIES: [&str; 5] = [
    "operator-token-of-the-tests",
    "ZGVzdGluYXRpb24tc2VjcmV0LW9mLXRoZS10ZXN0cyE=",
    "shop-secret",
    "secret-of-acme",
    "whsec_",
];

#[test]
fn o8_a_page_is_shown_to_whoever_is_signed_in_and_says_how_browsers_may_treat_it() {
    let stage = fresh();
    let mut person = Person::new(&stage);
    for path in [
        "/",
        "/console",
        "/console/events?filter=a%3Ab",
        "/console/nothing",
        "/console/act/lift",
    ] {
        let answer = person.get(path);
        assert_eq!(answer.status, 303, "{path}");
    }
    let answer = person.get("/console/events?filter=status%3Adead");
    assert_eq!(
        answer.header("location"),
        Some("/console/sign-in?next=%2Fconsole%2Fevents%3Ffilter%3Dstatus%253Adead")
    );
    let refused = person.sign_in("tgt_nobody", &[]);
    assert_eq!(refused.status, 401);
    assert!(text(&refused).contains("mistyped, revoked or over"));
    assert_eq!(person.cookie("tollgate_session"), None);

    let answer = person.sign_in(stage.operator_token(), &[("next", "/console/events")]);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/console/events"))
    );
    let cookie = answer.header("set-cookie").unwrap_or_default();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/console"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let elsewhere = person.sign_in(stage.operator_token(), &[("next", "//evil.example")]);
    assert_eq!(elsewhere.header("location"), Some("/console"));

    for path in ["/console", "/console/events", "/console/nothing", "/console/sign-in"] {
        let answer = person.get(path);
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, expect) in [
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(header(name), expect, "{path}: {name}");
        }
    }
    let page = text(&person.get("/console"));
    let asset = page
        .split("href=\"")
        .find(|part| part.contains("console.css"))
        .unwrap_or_default();
    let asset = person.get(asset.split('"').next().unwrap_or_default());
    assert_eq!(
        (asset.status, asset.header("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
    assert!(
        asset
            .header("cache-control")
            .is_some_and(|cache| cache.contains("immutable"))
    );
    // The API does not know the cookie: it is of the console.
    assert_eq!(person.get("/v1/events").status, 401);
}

#[test]
fn o8_a_session_ends_with_its_token_and_its_name_is_nobodys_choice() {
    let stage = fresh();
    let made = stage.operator_post("/v1/tokens", &json!({ "name": "ana", "role": "viewer" }).to_string());
    let (token, id) = (made.json()["token"].clone(), made.json()["id"].clone());
    let token = token.as_str().unwrap_or_default();

    // A name that somebody planted is not taken on, and what it named is over.
    let mut person = Person::new(&stage);
    person.set_cookie("tollgate_session", "planted-by-somebody-else-planted-by-somebody");
    assert_eq!(person.sign_in(token, &[]).status, 303);
    let own = person.cookie("tollgate_session").unwrap_or_default().to_owned();
    assert_ne!(own, "planted-by-somebody-else-planted-by-somebody");
    assert_eq!(person.get("/console").status, 200);
    let mut thief = Person::new(&stage);
    thief.set_cookie("tollgate_session", "planted-by-somebody-else-planted-by-somebody");
    assert_eq!(thief.get("/console").status, 303);
    assert_eq!(person.sign_in(token, &[]).status, 303);
    thief.set_cookie("tollgate_session", &own);
    assert_eq!(
        thief.get("/console").status,
        303,
        "signing in anew ends the old session"
    );

    assert_eq!(person.get("/console/events").status, 200);
    let path = format!("/v1/tokens/{}/revoke", id.as_str().unwrap_or_default());
    assert_eq!(stage.operator_post(&path, r#"{"why":"she left"}"#).status, 200);
    let over = person.get("/console/events");
    assert_eq!(over.status, 303, "{}", text(&over));
    assert!(over.header("location").is_some_and(|place| place.contains("over=1")));

    let mut person = Person::signed_in(&stage, stage.operator_token());
    let name = person.cookie("tollgate_session").unwrap_or_default().to_owned();
    assert_eq!(person.post("/console/sign-out", &[]).status, 303);
    thief.set_cookie("tollgate_session", &name);
    assert_eq!(thief.get("/console").status, 303, "signed out is signed out");
}

#[test]
fn o8_a_form_of_another_site_or_session_does_nothing() {
    let Lively { stage, .. } = &lively();
    let letters = || {
        stage
            .operator_get("/v1/dead-letters?with_replayed=true")
            .json()
            .to_string()
    };
    let before = letters();
    let mut person = Person::signed_in(stage, stage.operator_token());
    let mut other = Person::signed_in(stage, &stage.token("tenant-admin", "acme"));
    let foreign = hidden(&text(&other.get("/console")), "form_key");
    let own = hidden(&text(&person.get("/console")), "form_key");
    let dead_letters = [("dead_letters", "all"), ("why", "because")];
    for (key, headers, says) in [
        ("", &[][..], "not of your session"),
        (&foreign, &[], "not of your session"),
        (&own, &[("sec-fetch-site", "cross-site")], "another site"),
        (&own, &[("origin", "https://evil.example")], "another site"),
        (&own, &[("origin", "null")], "another site"),
    ] {
        for path in [
            "/console/act/replay",
            "/console/acts/1",
            "/console/sign-out",
            "/console/theme",
        ] {
            let fields = [&[("form_key", key)], &dead_letters[..]].concat();
            let answer = person.send(path, &fields, headers);
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert!(text(&answer).contains(says), "{path}: {}", text(&answer));
        }
    }
    // The form to sign in is of no session, and has a key of its own.
    let mut victim = Person::new(stage);
    victim.get("/console/sign-in");
    for key in ["", "guessed"] {
        let answer = victim.send(
            "/console/sign-in",
            &[("key", key), ("token", stage.operator_token())],
            &[],
        );
        assert_eq!(answer.status, 403);
    }
    assert_eq!(victim.cookie("tollgate_session"), None);
    assert_eq!(person.get("/console").status, 200, "still signed in");
    assert_eq!(letters(), before);
    let long = "x".repeat(70 * 1024);
    assert_eq!(
        person
            .send("/console/theme", &[("form_key", &own), ("theme", &long)], &[])
            .status,
        413
    );
    assert_eq!(
        person
            .send("/console/theme", &[("form_key", &own), ("theme", "plaid")], &[])
            .status,
        400
    );
}

#[test]
fn o8_what_is_confirmed_is_what_was_looked_at_and_is_done_once() {
    let Lively { stage, books, .. } = &lively();
    let mut person = Person::signed_in(stage, &stage.token("tenant-admin", "acme"));
    let open = || {
        stage.operator_get("/v1/counts").json()["dead_letters_open"]
            .as_u64()
            .unwrap_or(0)
    };
    let before = open();
    assert!(before > 0);

    let letters = text(&person.get("/console/dead-letters?destination=crm"));
    assert!(letters.contains("Replay those that fit"), "{letters}");
    let asked = person.post(
        "/console/act/replay",
        &[("dead_letters", "all"), ("destination", "crm")],
    );
    assert_eq!(asked.status, 400);
    assert!(text(&asked).contains("say why") && text(&asked).contains("crm"));
    let fields = [
        ("dead_letters", "all"),
        ("destination", "crm"),
        ("why", "the CRM is back"),
    ];
    let looked = person.post("/console/act/replay", &fields);
    assert_eq!(looked.status, 200);
    let page = text(&looked);
    assert!(
        page.contains("would be put back") && page.contains("the CRM is back"),
        "{page}"
    );
    assert_eq!(open(), before, "nothing was done yet");
    let act = page
        .split("action=\"")
        .find(|part| part.starts_with("/console/acts/"))
        .unwrap_or_default();
    let act = act.split('"').next().unwrap_or_default().to_owned();

    let done = person.post(&act, &[("back", "/console/dead-letters")]);
    assert_eq!(done.status, 200, "{}", text(&done));
    assert!(text(&done).contains("put back"));
    let again = person.post(&act, &[("back", "/console/dead-letters")]);
    assert_eq!(again.status, 409);
    assert!(text(&again).contains("done before"), "{}", text(&again));
    let trace = stage.trace("evt_0001");
    assert!(trace["history"].to_string().contains("the CRM is back"), "{trace:#}");
    stage.quiet();

    // A delivery is sent again, with the id that it had.
    let delivered = stage
        .operator_get("/v1/deliveries?filter=status%3Adelivered%20destination%3Abooks&limit=1")
        .json();
    let entry = delivered["items"][0]["entry"].as_str().unwrap_or_default().to_owned();
    books.take_arrivals();
    let looked = person.post("/console/act/resend", &[("id", &entry), ("why", "they lost it")]);
    let page = text(&looked);
    assert!(page.contains("1 delivery would be sent again"), "{page}");
    let act = page
        .split("action=\"")
        .find(|part| part.starts_with("/console/acts/"))
        .unwrap_or_default();
    let act = act.split('"').next().unwrap_or_default().to_owned();
    assert_eq!(person.post(&act, &[]).status, 200);
    books.wait_for(1);

    // A held receipt is decided about, and what does not fit is said beside the form.
    let receipt = stage.trace("evt_odd")["receipt"]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let wrong = person.post(
        "/console/act/review",
        &[
            ("id", &receipt),
            ("decision", "map"),
            ("status", "nonsense"),
            ("why", "w"),
        ],
    );
    assert!(matches!(wrong.status, 400), "{}", text(&wrong));
    assert!(text(&wrong).contains("nonsense"));
    let looked = person.post(
        "/console/act/review",
        &[("id", &receipt), ("decision", "dismiss"), ("why", "a test of theirs")],
    );
    let page = text(&looked);
    assert!(page.contains("would be dismissed"), "{page}");
    let act = page
        .split("action=\"")
        .find(|part| part.starts_with("/console/acts/"))
        .unwrap_or_default();
    assert_eq!(person.post(act.split('"').next().unwrap_or_default(), &[]).status, 200);
    assert_eq!(stage.trace("evt_odd")["review"]["became"], "dismissed");

    // A quarantine is lifted.
    let looked = person.post(
        "/console/act/lift",
        &[("tenant", "acme"), ("route", "score"), ("why", "mended")],
    );
    let page = text(&looked);
    assert!(page.contains("1 version would be let run again"), "{page}");
    let act = page
        .split("action=\"")
        .find(|part| part.starts_with("/console/acts/"))
        .unwrap_or_default();
    assert_eq!(person.post(act.split('"').next().unwrap_or_default(), &[]).status, 200);
    assert_eq!(stage.operator_get("/v1/quarantines").json(), json!([]));
}

#[test]
fn o8_no_page_shows_or_does_anything_of_another_tenant() {
    let Lively { stage, .. } = &lively();
    let pages = pages(stage);
    let entry = stage.operator_get("/v1/deliveries?limit=1").json()["items"][0]["entry"].clone();
    let own = stage.token("viewer", "acme");
    let mut acme = Person::signed_in(stage, &own);
    for role in ["tenant-admin", "plugin-author", "viewer"] {
        let mut person = Person::signed_in(stage, &stage.token(role, "globex"));
        for page in &pages {
            for page in [
                page.clone(),
                format!("{page}{}tenant=acme", if page.contains('?') { '&' } else { '?' }),
            ] {
                let answer = person.get(&page);
                let shown = text(&answer);
                for foreign in ["evt_00", "evt_odd", "evt_score", "red_0", "user_60", "crm", "hostile"] {
                    // What somebody asked for themselves stands in their form again.
                    let is_asked = page.contains(foreign) || page.contains("/act/");
                    assert!(
                        is_asked || !shown.contains(foreign),
                        "{role} {page} shows {foreign}: {shown}"
                    );
                }
            }
        }
        for (what, fields) in [
            (
                "resend",
                vec![("id", entry.as_str().unwrap_or_default()), ("why", "mine")],
            ),
            ("lift", vec![("tenant", "acme"), ("route", "score"), ("why", "mine")]),
            (
                "replay",
                vec![("dead_letters", "all"), ("tenant", "acme"), ("why", "mine")],
            ),
        ] {
            let answer = person.post(&format!("/console/act/{what}"), &fields);
            assert!(
                matches!(answer.status, 400 | 403 | 404),
                "{role} {what}: {}",
                answer.status
            );
        }
    }
    // To acme's own viewer the same pages show acme's, and no button to change anything.
    assert!(text(&acme.get("/console/events")).contains("evt_0009"));
    assert!(!text(&acme.get("/console/events")).contains("globex"));
    assert!(!text(&acme.get("/console/dead-letters")).contains("/console/act/"));
    let refused = acme.post("/console/act/replay", &[("dead_letters", "all"), ("why", "w")]);
    assert_eq!(refused.status, 403, "{}", text(&refused));
}

#[test]
fn o8_no_byte_of_an_event_becomes_a_part_of_a_page_and_no_secret_stands_in_one() {
    let Lively { stage, .. } = &lively();
    // One word of a megabyte, and a body that would end the element around it.
    let word = "w".repeat(900_000);
    let long = json!({ "event": "note.added", "event_id": "evt_long", "order_id": "o", "word": word }).to_string();
    assert_eq!(stage.post("shop", &signer("shop").sign("", long)).status, 202);
    let body = plain("note.added", "evt_body").replace(
        "\"order_id\"",
        &format!("\"{}\":1,\"order_id\"", "</pre><script>alert(1)</script>"),
    );
    assert_eq!(stage.post("shop", &signer("shop").sign("", body)).status, 202);
    stage.quiet();
    let receipt = |event: &str| {
        stage.trace(event)["receipt"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let mut all = pages(stage);
    let (long, body) = (receipt("evt_long"), receipt("evt_body"));
    all.extend([&long, &body].map(|receipt| format!("/console/events/{receipt}")));
    for token in [stage.operator_token().to_owned(), stage.token("tenant-admin", "acme")] {
        let mut person = Person::signed_in(stage, &token);
        for page in &all {
            let answer = person.get(page);
            let shown = text(&answer);
            // What is of the whole host is no tenant's.
            let of_host = page.ends_with("/hosts") && token != stage.operator_token();
            let expected = if of_host {
                answer.status == 403
            } else {
                matches!(answer.status, 200 | 303)
            };
            assert!(expected, "{page}: {}", answer.status);
            assert!(
                !shown.contains("<script>") && !shown.contains("</pre><script"),
                "{page}: {shown}"
            );
            assert_eq!(
                shown.matches("<script ").count(),
                usize::from(answer.status != 303),
                "{page}"
            );
            assert!(!shown.contains('\u{202e}'), "{page}");
            assert!(shown.len() < 500_000, "{page} has {} bytes", shown.len());
            for secret in CANARIES.into_iter().chain([token.as_str()]) {
                assert!(!shown.contains(secret), "{page} shows {secret}");
            }
        }
        let events = text(&person.get("/console/events"));
        assert!(
            events.contains("&#60;script&#62;") || events.contains("&lt;script&gt;"),
            "{events}"
        );
        assert!(events.contains("\\u{202e}") && !events.contains(HOSTILE));
        let file = person.get(&format!("/console/events/{long}/body"));
        assert!(
            file.header("content-disposition")
                .is_some_and(|said| said.starts_with("attachment"))
        );
        assert_eq!(file.header("content-type"), Some("application/octet-stream"));
        assert!(file.body.len() > 900_000);
    }
    let log = stage.log().join("\n");
    assert!(!log.contains("tgt_") && !log.contains(stage.operator_token()));
}

#[test]
fn o8_lists_have_addresses_that_stay_and_a_wrong_filter_is_pointed_at() {
    let Lively { stage, .. } = &lively();
    let mut person = Person::signed_in(stage, stage.operator_token());
    let wrong = person.get("/console/events?filter=source%3Ashop%20status%3Adeda");
    let page = text(&wrong);
    assert_eq!(wrong.status, 400);
    assert!(page.contains("deda") && page.contains("aria-invalid"), "{page}");
    // The mark stands below the eleventh of the filter's characters and those of its key.
    let pointed = page.split("<pre").find(|part| part.contains('^')).unwrap_or_default();
    let pointed = pointed.split_once('>').map_or("", |(_, text)| text);
    let mut lines = pointed.lines();
    let (filter, mark) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert_eq!(filter.find("deda"), mark.find('^'), "{pointed}");
    assert_eq!(person.get("/console/events?colour=red").status, 400);
    assert_eq!(person.get("/console/events?after=act_7").status, 400);
    assert_eq!(
        person
            .get("/console/events/rcpt_00000000000000000000000000000000")
            .status,
        404
    );
    assert_eq!(
        person.get("/console/events/evt_0001").status,
        404,
        "an id of somebody else's finds nothing here"
    );

    let first = text(&person.get("/console/events?limit=5"));
    let next = first
        .split("rel=\"next\" href=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    let next = next.replace("&#38;", "&").replace("&amp;", "&");
    let second = text(&person.get(&format!("{next}&limit=5")));
    stage.redeem("fresh");
    assert_eq!(
        text(&person.get(&format!("{next}&limit=5"))),
        second,
        "a page does not move while events come in"
    );

    // Whoever follows is told what came behind their place.
    let news = person.get("/console/events/news?filter=event%3Aevt_fresh&newer=seq_1");
    assert_eq!(news.status, 200);
    assert!(text(&news).contains("evt_fresh"));
    let newest = news.header("tollgate-newest").unwrap_or_default().to_owned();
    let nothing = text(&person.get(&format!("/console/events/news?newer={newest}")));
    assert!(!nothing.contains("<td"), "{nothing}");

    let found = person.get("/console/find?id=evt_0001");
    assert_eq!(found.status, 303);
    assert!(
        found
            .header("location")
            .is_some_and(|place| place.starts_with("/console/events/rcpt_"))
    );
    let event = text(&person.get(found.header("location").unwrap_or_default()));
    for part in [
        "Proved by generic-hmac",
        "Kept and accepted",
        "cashback",
        "books answered",
        "crm answered 410",
        "recorded",
    ] {
        assert!(event.contains(part), "{part}: {event}");
    }
    wait_until("the event is delivered", || {
        text(&person.get("/console/events?filter=event%3Aevt_fresh"))
            .contains("delivered")
            .then_some(())
    });
}

#[test]
fn o8_what_a_host_did_lately_stands_in_charts_with_their_numbers() {
    let stage = fresh();
    for number in 1..=5 {
        assert_eq!(stage.redeem(number).status, 202);
    }
    let refused = stage.post("shop", &signer("shop").sign("", plain("note", "evt_x")).tampered());
    assert_eq!(refused.status, 401);
    let lately = wait_until("two steps are over", || {
        let lately = stage.operator_get("/v1/lately").json();
        (lately["steps"].as_array()?.len() >= 2).then_some(lately)
    });
    let sum = |name: &str| -> u64 {
        let steps = lately["steps"].as_array().into_iter().flatten();
        steps.filter_map(|step| step[name].as_u64()).sum()
    };
    assert_eq!((sum("kept"), sum("again"), sum("refused")), (5, 0, 1), "{lately:#}");
    let first = &lately["steps"][0];
    // A run that a busy machine cut short is run again, and counts again.
    assert!(first["run"]["count"].as_u64() >= Some(5), "{first:#}");
    assert_eq!(first["jobs_waiting"], 0);
    assert!(
        first["run"]["p95_us"].as_u64() >= first["run"]["p50_us"].as_u64(),
        "{first:#}"
    );
    let mut person = Person::signed_in(&stage, stage.operator_token());
    let page = text(&person.get("/console"));
    for part in [
        "5 kept, 0 again, 1 refused",
        "<polyline",
        "Intake as numbers",
        "role=\"img\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // What the whole host did is none of a tenant's business.
    let mut tenants = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    assert!(!text(&tenants.get("/console")).contains("<polyline"));
    let printed = stage.ask_for_people(&["status", "--lately"]).ok();
    assert!(printed.stdout.contains("kept"), "{printed:?}");
}

#[test]
fn o8_a_host_without_events_says_what_to_do_first() {
    let stage = fresh();
    let mut person = Person::signed_in(&stage, stage.operator_token());
    for (page, says) in [
        ("/console", "Nothing has come in yet."),
        ("/console/events", "tollgate send"),
        ("/console/undelivered", "Nothing is missing anywhere."),
        ("/console/held", "Nothing waits here."),
        ("/console/dead-letters", "Nothing was given up."),
        ("/console/budgets", "No grant has a budget."),
        ("/console/find", "Say what you look for."),
    ] {
        let answer = person.get(page);
        assert_eq!(answer.status, 200);
        assert!(text(&answer).contains(says), "{page}: {}", text(&answer));
    }
    // Whoever writes plugins has the pages of plugins.
    let mut author = Person::signed_in(&stage, &stage.token("plugin-author", "acme"));
    assert_eq!(author.get("/console").header("location"), Some("/console/plugins"));
    let plugins = text(&author.get("/console/plugins"));
    assert!(
        plugins.contains("cashback") && !plugins.contains("/console/events"),
        "{plugins}"
    );
    assert_eq!(author.get("/console/events").status, 403);
}
