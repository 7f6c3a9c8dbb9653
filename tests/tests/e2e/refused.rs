//! I13: what was refused is shown to whoever it was for: why, and what it looked like, and nothing that it said.

use tollgate_tests::client::request;
use tollgate_tests::events::{Message, plain, signer};
use tollgate_tests::json::{list, text};
use tollgate_tests::stage::{SOURCES, Setup, Stage};

fn event(id: &str) -> Message {
    signer("shop").sign("", plain("order.seen", id))
}

/// Answers a request that is put together by hand.
fn ask(stage: &Stage, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut client = stage.connect();
    client.send(&request(method, path, &headers, body)).expect("a request");
    client.answer().expect("an answer").status
}

/// Two tenants and what strangers, and their own providers, were refused.
fn scene() -> Stage {
    let stage = Setup::acme("").tenant("globex", SOURCES).start();
    assert_eq!(
        stage.post("shop", &event("evt_1")).status,
        202,
        "what is taken in is not refused"
    );
    let mut odd = event("evt_2").tampered();
    odd.headers.push(("x-own".to_owned(), "a-value-of-its-own".to_owned()));
    assert_eq!(stage.post("shop", &odd).status, 401);
    assert_eq!(stage.post_to("globex", "shop", &event("evt_3").unsigned()).status, 401);
    assert_eq!(stage.post_to("acme", "nowhere", &event("evt_4")).status, 404);
    assert_eq!(ask(&stage, "DELETE", "/in/acme/shop", &[], b""), 405);
    assert_eq!(
        ask(
            &stage,
            "POST",
            "/in/acme/orders",
            &[("content-encoding", "gzip")],
            b"zip"
        ),
        415
    );
    stage
}

#[test]
fn i13_what_was_refused_is_shown_with_its_reason_and_its_shape() {
    let mut stage = scene();
    let page = stage.operator_get("/v1/refused").json();
    let rows = list(&page["items"]);
    let causes: Vec<_> = rows.iter().map(|row| text(row, "cause")).collect();
    assert_eq!(
        causes,
        ["encoded", "method", "unknown-source", "missing-header", "no-match"]
    );
    let tampered = &rows[4];
    for (field, expect) in [
        ("tenant", "acme"),
        ("source", "shop"),
        ("method", "POST"),
        ("from", "127.0.0.0/24"),
    ] {
        assert_eq!(text(tampered, field), expect, "{tampered}");
    }
    assert_eq!(tampered["code"], 401);
    assert!(text(tampered, "reason").contains("no signature matches"), "{tampered}");
    let headers: Vec<_> = list(&tampered["headers"])
        .iter()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect();
    assert!(
        headers.contains(&"x-own".to_owned()) && headers.contains(&"content-length".to_owned()),
        "{headers:?}"
    );
    assert_eq!(tampered["header_count"], headers.len());
    let body = plain("order.seen", "evt_2");
    assert_eq!(tampered["body_bytes"], body.len());
    assert_eq!(text(&rows[2], "path"), "/in/acme/nowhere");
    let said = page.to_string();
    for never in ["a-value-of-its-own", "evt_", "order.seen", "gzip"] {
        assert!(!said.contains(never), "{never}: {said}");
    }
    // The same by the command line, with the language of all lists.
    for (filter, expect) in [
        ("source:shop", &["method", "missing-header", "no-match"][..]),
        ("tenant:acme cause:no-*", &["no-match"]),
        ("code:4xx -code:401 since:1h", &["encoded", "method", "unknown-source"]),
        ("reason:\"content-encoding\"", &["encoded"]),
        ("source:payments", &[]),
    ] {
        let ran = stage.ask(&["refused", filter]);
        assert_eq!(ran.code, i32::from(expect.is_empty()), "{ran:?}");
        let page = ran.json();
        let causes: Vec<_> = list(&page["items"])
            .iter()
            .map(|row| text(row, "cause").to_owned())
            .collect();
        assert_eq!(causes, expect, "{filter}");
        let counted = stage.ask_for_people(&["refused", filter, "--count"]).stdout;
        assert_eq!(counted, format!("{} refused\n", expect.len()));
    }
    let wrong = stage.ask_for_people(&["refused", "type:order"]);
    assert_eq!(
        (wrong.code, wrong.stderr.contains("it is of events")),
        (2, true),
        "{wrong:?}"
    );
    let lines = stage.ask_for_people(&["refused", "--ndjson"]).stdout;
    assert_eq!(lines.lines().count(), 5, "{lines}");
    // In memory alone.
    stage.stop();
    let without = stage.ask_for_people(&["refused"]);
    assert_eq!(without.code, 3, "{without:?}");
    stage.start();
    assert_eq!(list(&stage.operator_get("/v1/refused").json()["items"]).len(), 0);
}

#[test]
fn o2_i13_a_tenant_sees_its_own_sources_refusals_and_nobody_elses() {
    let stage = scene();
    let (acme, globex) = (stage.token("viewer", "acme"), stage.token("viewer", "globex"));
    for filter in [
        "",
        "?filter=tenant:acme",
        "?filter=source:shop",
        "?filter=-tenant:globex",
    ] {
        let said = stage.ask_as(&globex, "GET", &format!("/v1/refused{filter}"), b"");
        assert_eq!(said.status, 200);
        let rows = list(&said.json()["items"]);
        assert!(rows.iter().all(|row| row["tenant"] == "globex"), "{rows:?}");
        assert!(!String::from_utf8_lossy(&said.body).contains("acme"), "{filter}");
    }
    let own = stage.ask_as(&acme, "GET", "/v1/refused", b"").json();
    let causes: Vec<_> = list(&own["items"])
        .iter()
        .map(|row| text(row, "cause").to_owned())
        .collect();
    assert_eq!(
        causes,
        ["encoded", "method", "no-match"],
        "what is for no source is the operator's to see"
    );
    for (token, expect) in [(&acme, 3), (&globex, 1)] {
        let counted = stage.ask_as(token, "GET", "/v1/count?of=refused", b"").json();
        assert_eq!(
            (&counted["count"], &counted["complete"]),
            (&expect.into(), &true.into())
        );
        assert_eq!(counted["looked_at"], expect, "nor is it said how many others there are");
    }
}

#[test]
fn i13_of_each_source_the_newest_are_kept_and_a_flood_hides_no_other_cause() {
    let stage = Setup::acme("").start();
    assert_eq!(ask(&stage, "DELETE", "/in/acme/shop", &[], b""), 405);
    assert_eq!(stage.post("orders", &event("evt_1")).status, 401);
    for n in 0..100 {
        assert_eq!(stage.post("shop", &event(&format!("evt_{n}")).unsigned()).status, 401);
    }
    let of = |filter: &str| {
        let page = stage
            .operator_get(&format!("/v1/refused?limit=1000&filter={filter}"))
            .json();
        list(&page["items"]).len()
    };
    assert_eq!((of(""), of("source:shop"), of("source:orders")), (33, 32, 1));
    assert_eq!((of("cause:method"), of("cause:missing-header%20source:shop")), (1, 31));
}
