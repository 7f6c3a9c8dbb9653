//! O8: the console shows what the API allows its reader and nothing else, does what its forms say and nothing that another site's say,
//! and no byte of an event becomes a part of a page. Without a browser here; `browser` looks at the same pages with one.

use serde_json::json;
use tollgate_tests::console::{HOSTILE, Lively, Person, confirming, fresh, hidden, lively, pages, text};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, signer};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, books, wait_until};

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
            // How a provider's secrets begin is no secret: its own notes say it.
            let shown = shown.replace("<code>whsec_</code>", "");
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
    let books_of_acme = Destination::start();
    books_of_acme.script([Reply::Status(503), Reply::Status(410)]);
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &books_of_acme)))
        .plugin("cashback")
        .start();
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
    assert_eq!(first["jobs_ended"]["done"], 5, "{first:#}");
    assert!(
        first["run"]["p95_us"].as_u64() >= first["run"]["p50_us"].as_u64(),
        "{first:#}"
    );
    assert!(first["answers"]["taken"].as_u64() >= Some(3), "{first:#}");
    assert_eq!(
        (&first["answers"]["refused"], &first["answers"]["failed"]),
        (&json!(1), &json!(1)),
        "{first:#}"
    );
    let mut person = Person::signed_in(&stage, stage.operator_token());
    let page = text(&person.get("/console"));
    for part in [
        "5 kept, 0 again, 1 refused",
        "<polyline",
        "Intake as numbers",
        "Runs by outcome as numbers",
        "Deliveries by code as numbers",
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

/// Sends a form, looks at what would be done, and confirms it. Returns the page before and the one after.
#[track_caller]
fn confirmed(person: &mut Person<'_>, path: &str, fields: &[(&str, &str)]) -> (String, String) {
    let looked = person.post(path, fields);
    let before = text(&looked);
    assert_eq!(looked.status, 200, "{before}");
    let act = confirming(&before);
    let done = person.post(&act, &[]);
    assert_eq!(done.status, 200, "{}", text(&done));
    assert_eq!(person.post(&act, &[]).status, 409, "it is done once");
    (before, text(&done))
}

#[test]
fn o2_o8_a_token_is_shown_once_on_the_answer_of_the_form_that_made_it() {
    let stage = fresh();
    let mut person = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    let list = || stage.operator_get("/v1/tokens").json().as_array().map(Vec::len);
    let before = list();
    let fields = [
        ("name", "CI"),
        ("role", "viewer"),
        ("expires_in_days", "3"),
        ("why", "ticket 7"),
    ];
    let looked = text(&person.post("/console/make/token", &fields));
    assert!(looked.contains("would be made") && !looked.contains("tgt_"), "{looked}");
    assert_eq!(list(), before, "nothing was made yet");
    let (_, done) = confirmed(&mut person, "/console/make/token", &fields);
    let secret = done.split("tgt_").nth(1).map(|rest| format!("tgt_{}", &rest[..43]));
    let secret = secret.expect("the token");
    assert_eq!(done.matches(&secret).count(), 1);
    assert_eq!(stage.ask_as(&secret, "GET", "/v1/events", b"").status, 200);
    let fields = [
        ("name", "ana"),
        ("may-read", "on"),
        ("may-pause", "on"),
        ("for", "30m"),
        ("accent", "#0a7"),
        ("why", "a visit"),
    ];
    let (looked, done) = confirmed(&mut person, "/console/make/link", &fields);
    assert!(
        looked.contains("A link would be made") && !looked.contains("tgl_"),
        "{looked}"
    );
    assert!(done.contains("/console/portal/tgl_"), "{done}");
    let tokens = text(&person.get("/console/tokens?all=true"));
    for part in ["CI", "ticket 7", "ana", "read, pause", "a visit"] {
        assert!(tokens.contains(part), "{part}: {tokens}");
    }
    for page in [
        "/console/tokens",
        "/console/tokens?all=true",
        "/console/make/token",
        "/console/make/link",
    ] {
        let shown = text(&person.get(page));
        assert!(!shown.contains("tgt_") && !shown.contains("tgl_"), "{page}: {shown}");
    }
    for (path, fields, status, part) in [
        (
            "token",
            &[("name", "x"), ("role", "root"), ("why", "w")][..],
            400,
            "no role",
        ),
        (
            "token",
            &[
                ("name", "x"),
                ("role", "viewer"),
                ("expires_in_days", "many"),
                ("why", "w"),
            ],
            400,
            "no number",
        ),
        ("token", &[("name", "x"), ("role", "viewer")], 400, "say why"),
        (
            "link",
            &[("name", "x"), ("for", "1h"), ("why", "w")],
            400,
            "say what the link lets",
        ),
        (
            "link",
            &[("name", "x"), ("may-replay", "on"), ("for", "1h"), ("why", "w")],
            400,
            "needs <code>read</code>",
        ),
        (
            "link",
            &[
                ("name", "x"),
                ("may-read", "on"),
                ("for", "1h"),
                ("accent", "red"),
                ("why", "w"),
            ],
            400,
            "no colour",
        ),
        (
            "token",
            &[("name", "x"), ("role", "operator"), ("why", "w")],
            403,
            "leave <code>tenant</code> out",
        ),
        ("nothing", &[("why", "w")], 404, "no such thing"),
    ] {
        let answer = person.post(&format!("/console/make/{path}"), fields);
        assert_eq!(answer.status, status, "{path} {fields:?}: {}", text(&answer));
        assert!(text(&answer).contains(part), "{part}: {}", text(&answer));
    }
    // Revoked by form, at once.
    let tokens = stage.operator_get("/v1/tokens").json();
    let made = tokens
        .as_array()
        .into_iter()
        .flatten()
        .find(|token| token["name"] == "CI");
    let id = made
        .and_then(|token| token["id"].as_str())
        .expect("the token is listed")
        .to_owned();
    let (looked, done) = confirmed(
        &mut person,
        "/console/act/revoke",
        &[("token", &id), ("why", "seen in a log")],
    );
    assert!(
        looked.contains("would be revoked") && done.contains("is revoked"),
        "{done}"
    );
    assert_eq!(stage.ask_as(&secret, "GET", "/v1/events", b"").status, 401);
    for role in ["viewer", "plugin-author"] {
        let mut other = Person::signed_in(&stage, &stage.token(role, "acme"));
        for page in ["/console/tokens", "/console/make/token", "/console/make/link"] {
            assert_eq!(other.get(page).status, 403, "{role} {page}");
        }
        assert_eq!(other.post("/console/make/link", &fields).status, 403, "{role}");
    }
    let log = stage.log().join("\n");
    assert!(!log.contains("tgt_") && !log.contains("tgl_"));
}

#[test]
fn o8_o12_an_issue_is_worked_on_and_a_place_is_paused_by_form() {
    let Lively { stage, .. } = &lively();
    let mut person = Person::signed_in(stage, &stage.token("tenant-admin", "acme"));
    let page = text(&person.get("/console/issues"));
    for part in [
        "To crm: answered 410",
        "Route score: trap",
        "see whether the URL of the destination",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let issues = stage.operator_get("/v1/issues").json();
    let crms = issues
        .as_array()
        .into_iter()
        .flatten()
        .find(|issue| issue["place"] == "crm");
    let id = crms
        .and_then(|issue| issue["issue"].as_str())
        .expect("an issue")
        .to_owned();
    let say = |state| [("issue", id.as_str()), ("decision", state), ("why", "a new address")];
    let (looked, done) = confirmed(&mut person, "/console/act/issue", &say("resolved"));
    assert!(
        looked.contains("would be resolved") && done.contains("is resolved"),
        "{looked}{done}"
    );
    assert!(!text(&person.get("/console/issues")).contains("To crm"));
    let resolved = text(&person.get("/console/issues?state=resolved"));
    assert!(
        resolved.contains("To crm") && resolved.contains("a new address"),
        "{resolved}"
    );
    let (_, done) = confirmed(&mut person, "/console/act/issue", &say("open"));
    assert!(done.contains("is open"), "{done}");
    let same = text(&person.post("/console/act/issue", &say("open")));
    assert!(same.contains("is open already") && !same.contains("Do it"), "{same}");
    for (decision, part) in [("", "say what becomes"), ("closed", "no state")] {
        let answer = person.post("/console/act/issue", &say(decision));
        assert_eq!(answer.status, 400, "{}", text(&answer));
        assert!(text(&answer).contains(part), "{part}: {}", text(&answer));
    }

    let page = text(&person.get("/console/pauses"));
    assert!(
        page.contains("Route limits") && page.contains("Destination books"),
        "{page}"
    );
    let place = [("tenant", "acme"), ("destination", "books"), ("why", "they move")];
    let (looked, _) = confirmed(&mut person, "/console/act/pause", &place);
    assert!(looked.contains("would be paused"), "{looked}");
    let paused = || stage.operator_get("/v1/pauses").json().to_string();
    assert!(paused().contains("they move"));
    let (looked, _) = confirmed(&mut person, "/console/act/resume", &place);
    assert!(looked.contains("would go on"), "{looked}");
    assert!(!paused().contains("they move"));
    let again = person.post("/console/act/resume", &place);
    assert!(
        again.status == 400 && text(&again).contains("is not paused"),
        "{}",
        text(&again)
    );
    let foreign = [("tenant", "globex"), ("route", "cashback"), ("why", "mine")];
    assert_eq!(person.post("/console/act/pause", &foreign).status, 403);

    // A host that has its store alone is not drained, and no tenant sees hosts.
    assert_eq!(person.get("/console/hosts").status, 403);
    let mut operator = Person::signed_in(stage, stage.operator_token());
    let hosts = text(&operator.get("/console/hosts"));
    assert!(
        hosts.contains("running") && hosts.contains("its store alone"),
        "{hosts}"
    );
    assert!(!hosts.contains("/act/drain"), "{hosts}");
    // A viewer reads all of this, and is offered nothing.
    let mut viewer = Person::signed_in(stage, &stage.token("viewer", "acme"));
    for page in [
        "/console/issues",
        "/console/bulk",
        "/console/pauses",
        "/console/deliveries?filter=status%3Adead",
    ] {
        let answer = viewer.get(page);
        let shown = text(&answer);
        assert_eq!(answer.status, 200, "{page}");
        let offers = ["act", "make"].map(|form| shown.contains(&format!("href=\"/console/{form}/")));
        assert_eq!(offers, [false, false], "{page}: {shown}");
    }
    let bulk = [
        ("of", "jobs"),
        ("filter", "status:dead"),
        ("action", "replay"),
        ("why", "w"),
    ];
    for (path, fields) in [
        ("make/bulk", &bulk[..]),
        ("act/pause", &place),
        ("act/issue", &say("ignored")),
    ] {
        let looked = viewer.post(&format!("/console/{path}"), fields);
        let answer = match looked.status {
            // To look at an issue is to read it.
            200 => viewer.post(&confirming(&text(&looked)), &[]),
            _ => looked,
        };
        assert_eq!(answer.status, 403, "{path}: {}", text(&answer));
    }
    assert!(
        !stage
            .operator_get("/v1/issues?all=true")
            .json()
            .to_string()
            .contains("ignored")
    );
}

#[test]
fn o8_o11_a_bulk_action_by_form_does_what_was_looked_at_and_leaves_alone_what_came_since() {
    let Lively { stage, crm, .. } = &lively();
    let mut person = Person::signed_in(stage, &stage.token("tenant-admin", "acme"));
    let dead = "/console/deliveries?filter=destination%3Acrm%20status%3Adead";
    let list = text(&person.get(dead));
    assert!(list.contains("/console/make/bulk?of=deliveries"), "{list}");
    let all = text(&person.get("/console/deliveries"));
    assert!(!all.contains("/console/make/bulk"), "an empty filter is none");
    let fields = [
        ("of", "deliveries"),
        ("filter", "destination:crm status:dead"),
        ("action", "redeliver"),
        ("why", "the CRM is back"),
    ];
    let looked = text(&person.post("/console/make/bulk", &fields));
    assert!(looked.contains("redeliver would be done to 5 deliveries"), "{looked}");
    crm.script([Reply::Status(410)]);
    stage.redeem("meanwhile");
    stage.quiet();
    let done = person.post(&confirming(&looked), &[]);
    assert_eq!(done.status, 200, "{}", text(&done));
    let page = text(&done);
    let bulk = page.split("href=\"").find(|part| part.starts_with("/console/bulk/"));
    let bulk = bulk
        .and_then(|bulk| bulk.split('"').next())
        .unwrap_or_default()
        .to_owned();
    let page = wait_until("the bulk action is done", || {
        let page = text(&person.get(&bulk));
        (!page.contains("Look again")).then_some(page)
    });
    assert!(
        page.contains("Done to 5 of 5") && page.contains("the CRM is back"),
        "{page}"
    );
    stage.quiet();
    let left = text(&person.get(dead));
    assert!(left.contains("evt_meanwhile"), "{left}");
    let id = bulk.rsplit('/').next().unwrap_or_default();
    let over = text(&person.post("/console/act/abort", &[("bulk", id), ("why", "w")]));
    assert!(over.contains("done already") && !over.contains("Do it"), "{over}");
    assert_eq!(person.get("/console/bulk/bulk_999").status, 404);
    for (of, filter, part) in [
        ("deliveries", " ", "empty filter"),
        ("runs", "status:dead", "nothing is done to all of the runs"),
        ("jobs", "status:deda", "deda"),
    ] {
        let fields = [("of", of), ("filter", filter), ("action", "replay"), ("why", "w")];
        let answer = person.post("/console/make/bulk", &fields);
        assert_eq!(answer.status, 400, "{}", text(&answer));
        assert!(
            of == "deliveries" || text(&answer).contains(part),
            "{part}: {}",
            text(&answer)
        );
    }
    // What a status makes of each event is said before it is given.
    for (status, says) in [
        ("completed", "would be accepted, mapped to completed"),
        ("beamed", "passed over: "),
    ] {
        let fields = [
            ("of", "events"),
            ("filter", "disposition:held lifecycle:teleported"),
            ("action", "map"),
            ("to", status),
            ("why", "renamed in March"),
        ];
        let looked = text(&person.post("/console/make/bulk", &fields));
        let does = format!("map to {status} would be done to 1 event");
        assert!(looked.contains(&does) && looked.contains(says), "{looked}");
    }
    // Another tenant's are none.
    let mut other = Person::signed_in(stage, &stage.token("tenant-admin", "globex"));
    assert_eq!(other.get(&bulk).status, 404);
    assert!(!text(&other.get("/console/bulk")).contains("bulk_"));
}
