//! I6, T4, O3: an effect that was due is never silently absent. Whatever leaves an event without it is listed, counted and said, and
//! somebody can give it effect.

use serde_json::{Value, json};
use tollgate_tests::client::request;
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage};

fn send(stage: &Stage, body: String) -> (u16, String) {
    stage.post("shop", &signer("shop").sign("", body)).verdict()
}

/// What a command says to a person.
fn said(stage: &Stage, arguments: &[&str]) -> String {
    let ran = stage.ask_for_people(arguments).ok();
    ran.stdout
}

/// A misspelt key in a route's configuration: the plugin holds every event, and today's profit is lost if nobody is told.
#[test]
fn t4_jobs_that_a_plugin_held_are_listed_counted_said_and_replayed() {
    let misspelt = CASHBACK.replace("rate_bps", "rate_bsp");
    let stage = Setup::acme(&misspelt).plugin("cashback").start();
    for number in 1..=3 {
        let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
        assert_eq!(send(&stage, body), (202, "accepted".to_owned()));
    }
    stage.quiet();
    holds(&stage.counts(), &json!({ "held_jobs": 3, "actions": 0 }));

    let held = list(&stage.ask(&["review"]).json());
    let events: Vec<_> = held.iter().map(|held| text(held, "event_id")).collect();
    assert_eq!(events, ["evt_3", "evt_2", "evt_1"], "newest first");
    for one in &held {
        assert_eq!(
            (text(one, "kind"), text(one, "route")),
            ("held-job", "cashback"),
            "{one}"
        );
        assert!(text(one, "reason").contains("rate_bsp"), "{one}");
    }
    for (filter, count) in [
        (["--kind", "held-job"], 3),
        (["--kind", "conflict"], 0),
        (["--route", "cashback"], 3),
        (["--route", "points"], 0),
        (["--tenant", "globex"], 0),
        (["--source", "shop"], 3),
        (["--reason", "rate_bsp"], 3),
        (["--since", "2090-01-01T00:00:00Z"], 0),
        (["--limit", "2"], 2),
    ] {
        let ran = stage.ask(&[&["review"], filter.as_slice()].concat());
        assert_eq!((ran.code, list(&ran.json()).len()), (0, count), "{filter:?}");
    }
    assert_eq!(stage.ask(&["review", "--kind", "lost"]).code, 2);
    let place = "{tenant=\"acme\",route=\"cashback\",kind=\"held-job\"}";
    assert_eq!(stage.metric(&format!("tollgate_set_aside{place}")), 3);
    assert!(stage.metric(&format!("tollgate_set_aside_oldest_seconds{place}")) < 3600);
    let log = stage.log_with("a plugin held a job");
    assert!(!log.is_empty(), "{:?}", stage.log());
    for part in ["acme", "cashback", "rate_bsp"] {
        assert!(log[0].contains(part), "{part}: {log:?}");
    }

    // Nothing is to be done with one of them.
    let job = text(&held[0], "id");
    let ran = stage.ask(&["review", job, "--dismiss", "--why", "a test"]);
    assert_eq!((ran.code, text(&ran.json(), "became")), (0, "dismissed"), "{ran:?}");
    assert_eq!(stage.ask(&["review", job, "--run"]).code, 1, "decided before");
    assert_eq!(stage.trace("evt_3")["jobs"][0]["state"], "dismissed");

    // The others run again when the route is mended.
    stage.write("tenants/acme.toml", &format!("{SOURCES}{CASHBACK}"));
    stage.reload();
    let before = stage.counts();
    let dry = stage.ask(&["replay", "--held", "--dry-run", "--reason", "rate_bsp"]);
    assert_eq!((dry.code, list(&dry.json()["replayed"]).len()), (0, 2), "{dry:?}");
    assert_eq!(stage.counts(), before);
    assert_eq!(
        stage.ask(&["replay", "--held"]).code,
        2,
        "an empty filter is asked back"
    );
    let one = stage.ask(&["review", text(&held[2], "id"), "--run", "--why", "the key is mended"]);
    assert_eq!((one.code, text(&one.json(), "became")), (0, "run_again"), "{one:?}");
    let ran = stage.ask(&["replay", "--held", "--all"]);
    assert_eq!((ran.code, list(&ran.json()["replayed"]).len()), (0, 1), "{ran:?}");
    stage.quiet();
    let counts = stage.counts();
    holds(&counts, &json!({ "actions": 2, "held_jobs": 0 }));
    let history = stage.trace("evt_1")["history"].to_string();
    assert!(history.contains("run again by tester: the key is mended"), "{history}");
    stage.assert_whole();
}

/// One id, two facts: the provider's own mistake, or a profile's. The second one is not lost.
#[test]
fn i6_i13_a_conflict_is_shown_as_one_and_can_be_given_effect() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    assert_eq!(
        send(&stage, redeemed("evt_1", "red_1", "success")),
        (202, "accepted".to_owned())
    );
    let other = redeemed("evt_1", "red_2", "success");
    for _ in 0..3 {
        assert_eq!(send(&stage, other.clone()), (202, "conflict".to_owned()));
    }
    stage.quiet();
    let receipt = text(&stage.trace("evt_1")["receipt"], "id").to_owned();
    let newest = said(&stage, &["trace"]);
    assert!(
        newest.contains("3 conflicts") && !newest.contains("deliveries"),
        "{newest}"
    );
    let trace = said(&stage, &["trace", &receipt]);
    says(&trace, &["conflict", "3 times", "waits for review"]);
    let place = "{tenant=\"acme\",source=\"shop\",kind=\"conflict\"}";
    assert_eq!(
        stage.metric(&format!("tollgate_set_aside{place}")),
        1,
        "these bytes, however often"
    );
    let log = stage.log_with("conflict");
    assert!(
        log.iter().any(|line| line.contains("acme") && line.contains("shop")),
        "{log:?}"
    );

    let held = list(&stage.ask(&["review"]).json());
    assert_eq!(held.len(), 1);
    assert_eq!(
        (
            text(&held[0], "kind"),
            text(&held[0], "subject"),
            text(&held[0], "receipt")
        ),
        ("conflict", "red_2", receipt.as_str()),
        "as it was read"
    );
    let delivery = text(&held[0], "id");
    let before = stage.counts();
    let dry = stage.ask(&["review", delivery, "--run", "--dry-run"]).json();
    assert_eq!(
        (text(&dry, "became"), text(&dry, "disposition"), &dry["routes"]),
        ("admitted", "accepted", &json!(["cashback"]))
    );
    assert_eq!(stage.counts(), before);
    let ran = stage.ask(&["review", delivery, "--run", "--why", "two facts"]).ok();
    let own = text(&ran.json(), "own_receipt").to_owned();
    assert_eq!(own, text(&dry, "own_receipt"));
    let trace = stage.finished(&own);
    assert_eq!(
        trace["jobs"][0]["runs"][0]["actions"][0]["operation_key"],
        "cashback:red_2"
    );
    assert!(trace["history"].to_string().contains("two facts"));
    assert!(stage.trace(&receipt)["history"].to_string().contains(&own));
    assert_eq!(stage.counts()["actions"], 2);
    let again = stage.ask(&["review", delivery, "--run"]);
    again.fails(1, "reviewed before");
    // It comes once more and asks nobody again.
    assert_eq!(send(&stage, other), (202, "conflict".to_owned()));
    assert_eq!(stage.ask(&["review"]).json(), json!([]));
    stage.assert_whole();
}

#[test]
fn t4_a_held_receipt_is_replaced_by_the_form_that_came_later() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    assert_eq!(
        send(&stage, redeemed("evt_1", "red_1", "teleported")),
        (202, "held".to_owned())
    );
    assert_eq!(
        send(&stage, redeemed("evt_1", "red_1", "success")),
        (202, "conflict".to_owned())
    );
    let held = list(&stage.ask(&["review"]).json());
    let kinds: Vec<_> = held.iter().map(|held| text(held, "kind")).collect();
    assert_eq!(kinds, ["held-receipt", "conflict"]);
    let (receipt, delivery) = (text(&held[0], "id"), text(&held[1], "id"));
    let ran = stage.ask(&["review", receipt, "--replace-with", delivery]);
    assert_eq!((ran.code, text(&ran.json(), "became")), (0, "replaced"), "{ran:?}");
    let trace = stage.finished(text(&ran.json(), "own_receipt"));
    assert_eq!(
        trace["jobs"][0]["runs"][0]["actions"][0]["operation_key"],
        "cashback:red_1"
    );
    assert_eq!(stage.ask(&["review"]).json(), json!([]));
    assert_eq!(stage.trace(receipt)["review"]["became"], "replaced");
    assert_eq!(stage.metric("tollgate_held"), 0);
    stage.assert_whole();
}

/// A provider changes its API version between two tries.
#[test]
fn t4_a_source_may_let_another_form_replace_what_is_held() {
    let replacing = SOURCES.replace("[sources.shop]", "[sources.shop]\nreplace_held = true");
    let tenant = format!("{replacing}{CASHBACK}");
    let stage = Setup::default().tenant("acme", &tenant).plugin("cashback").start();
    assert_eq!(
        send(&stage, redeemed("evt_1", "red_1", "teleported")),
        (202, "held".to_owned())
    );
    let usable = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let answer = stage.post("shop", &usable);
    assert_eq!(answer.verdict(), (202, "accepted".to_owned()));
    let trace = stage.finished(&answer.receipt());
    assert_eq!(trace["jobs"][0]["runs"][0]["actions"][0]["verdict"], "recorded");
    assert_eq!(stage.ask(&["review"]).json(), json!([]));
    // Once; and what was accepted is never replaced.
    assert_eq!(stage.post("shop", &usable).word(), "conflict");
    assert_eq!(
        send(&stage, redeemed("evt_2", "red_2", "success")),
        (202, "accepted".to_owned())
    );
    assert_eq!(
        send(&stage, redeemed("evt_2", "red_3", "success")),
        (202, "conflict".to_owned())
    );
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 2);
    stage.assert_whole();
}

/// The route was made a day too late.
#[test]
fn t1_events_that_came_before_their_route_are_routed_again() {
    let stage = Setup::acme("").plugin("cashback").start();
    for number in 1..=3 {
        let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
        assert_eq!(send(&stage, body), (202, "accepted".to_owned()));
    }
    assert_eq!(send(&stage, plain("order.seen", "evt_4")).0, 202);
    assert_eq!(stage.ask(&["review"]).json(), json!([]), "it asks nobody");
    assert_eq!(list(&stage.ask(&["review", "--kind", "no-route"]).json()).len(), 4);
    let place = "{tenant=\"acme\",source=\"shop\",kind=\"no-route\"}";
    assert_eq!(stage.metric(&format!("tollgate_set_aside{place}")), 4);

    stage.write("tenants/acme.toml", &format!("{SOURCES}{CASHBACK}"));
    stage.reload();
    let before = stage.counts();
    let new = |ran: &Value| -> Vec<(String, String)> {
        let of = |one: &Value| (text(one, "event_id").to_owned(), text(one, "work").to_owned());
        list(&ran["replayed"]).iter().map(of).collect()
    };
    let expect = |events: &[&str]| -> Vec<_> {
        events
            .iter()
            .map(|event| ((*event).to_owned(), "new_job".to_owned()))
            .collect()
    };
    let dry = stage.ask(&["replay", "--routes", "--dry-run"]).json();
    assert_eq!(
        new(&dry),
        expect(&["evt_1", "evt_2", "evt_3"]),
        "oldest first, and only where a job is new"
    );
    assert_eq!(stage.counts(), before);
    for (filter, count) in [
        (vec!["--type", "reward.*"], 3),
        (vec!["--type", "order.seen"], 0),
        (vec!["--subject", "red_2"], 1),
        (vec!["--status", "completed"], 3),
        (vec!["--status", "pending"], 0),
        (vec!["--source", "shop"], 3),
        (vec!["--source", "orders"], 0),
        (vec!["--tenant", "globex"], 0),
        (vec!["--until", "2020-01-01T00:00:00Z"], 0),
        (vec!["--since", "2020-01-01T00:00:00Z"], 3),
        (vec!["--no-route"], 3),
        (vec!["--disposition", "superseded"], 0),
    ] {
        let ran = stage.ask(&[&["replay", "--routes", "--dry-run"], filter.as_slice()].concat());
        assert_eq!(list(&ran.json()["replayed"]).len(), count, "{filter:?}: {ran:?}");
    }
    assert_eq!(
        stage.ask(&["replay", "--routes"]).code,
        2,
        "an empty filter is asked back"
    );
    assert_eq!(
        stage
            .ask(&["replay", "--routes", "--all", "--disposition", "held"])
            .code,
        2
    );

    // One by its receipt, and the others by filter; each once.
    let first = text(&stage.trace("evt_1")["receipt"], "id").to_owned();
    let one = stage.ask(&["replay", &first]).json();
    assert_eq!(new(&one), expect(&["evt_1"]));
    let rest = stage.ask(&["replay", "--routes", "--no-route"]).json();
    assert_eq!(new(&rest), expect(&["evt_2", "evt_3"]));
    assert_eq!(stage.ask(&["replay", "--routes", "--all"]).code, 1, "nothing is left");
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 3);
    assert_eq!(
        stage.metric(&format!("tollgate_set_aside{place}")),
        1,
        "what no route wants stays visible"
    );
    stage.assert_whole();
}

#[test]
fn t3_what_came_late_is_visible_and_can_be_given_effect() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    assert_eq!(
        send(&stage, redeemed("evt_1", "red_1", "success")),
        (202, "accepted".to_owned())
    );
    assert_eq!(
        send(&stage, redeemed("evt_2", "red_1", "pending")),
        (202, "superseded".to_owned())
    );
    stage.quiet();
    let late = list(&stage.ask(&["review", "--kind", "superseded"]).json());
    assert_eq!((late.len(), text(&late[0], "event_id")), (1, "evt_2"));
    let place = "{tenant=\"acme\",source=\"shop\",kind=\"superseded\"}";
    assert_eq!(stage.metric(&format!("tollgate_set_aside{place}")), 1);
    let ran = stage.ask(&[
        "replay",
        "--routes",
        "--disposition",
        "superseded",
        "--subject",
        "red_1",
    ]);
    assert_eq!(list(&ran.json()["replayed"]).len(), 1, "{ran:?}");
    stage.quiet();
    assert_eq!(list(&stage.trace("evt_2")["jobs"]).len(), 1);
}

/// Whoever has one authentic message has any number of redeliveries of it.
#[test]
fn o1_redeliveries_and_conflicts_of_one_event_are_bounded_and_a_trace_stays_small() {
    let stage = Setup::acme("").start();
    let message = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let mut client = stage.connect();
    let bytes = request("POST", "/in/acme/shop", &message.headers, &message.body);
    for number in 0..2_000 {
        client.send(&bytes).expect("a request");
        assert_eq!(
            client.answer().expect("an answer").status,
            if number == 0 { 202 } else { 200 }
        );
    }
    let size = || {
        let of = |name: &str| std::fs::metadata(stage.path(name)).map_or(0, |file| file.len());
        of("tollgate.db") + of("tollgate.db-log-0000000000000000")
    };
    for number in 0..200 {
        let other = redeemed("evt_1", &format!("red_{number}_{}", "x".repeat(200)), "success");
        assert_eq!(send(&stage, other), (202, "conflict".to_owned()));
    }
    let answer = stage.operator_get("/v1/trace?id=evt_1");
    assert!(answer.body.len() < 30_000, "{} bytes of trace", answer.body.len());
    let trace = answer.json()[0].clone();
    holds(&trace["redelivered"], &json!({ "same": 1_999, "conflicts": 200 }));
    assert_eq!(list(&trace["deliveries"]).len(), 32);
    assert!(said(&stage, &["trace", "evt_1"]).contains("2167 more times"));
    let counts = stage.counts();
    holds(&counts, &json!({ "redeliveries": 1_999, "conflicts": 200 }));
    assert!(size() < 2 * 1024 * 1024, "{} bytes", size());
    stage.assert_whole();
}

#[test]
fn o3_lists_go_on_where_they_ended() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    for number in 1..=5 {
        assert_eq!(
            send(
                &stage,
                redeemed(&format!("evt_{number}"), &format!("red_{number}"), "teleported")
            )
            .0,
            202
        );
    }
    let paged = |arguments: &[&str], id: fn(&Value) -> String| {
        let mut after: Option<String> = None;
        let mut found = Vec::new();
        loop {
            let more = after.as_deref().map(|after| ["--after", after]);
            let more = more.as_ref().map_or(&[][..], |more| &more[..]);
            let page = list(&stage.ask(&[arguments, &["--limit", "2"], more].concat()).json());
            let Some(last) = page.last() else { break };
            after = Some(id(last));
            found.extend(page.iter().map(id));
        }
        found
    };
    let of_trace = |trace: &Value| text(&trace["receipt"], "id").to_owned();
    let whole: Vec<_> = list(&stage.ask(&["trace"]).json()).iter().map(of_trace).collect();
    assert_eq!(whole.len(), 5);
    assert_eq!(paged(&["trace"], of_trace), whole);
    assert_eq!(paged(&["review"], |held| text(held, "id").to_owned()), whole);
    let newest = said(&stage, &["trace", "--limit", "2"]);
    says(&newest, &[&format!("tollgate trace --after {}", whole[1])]);
    assert_eq!(stage.ask(&["review", "--after", "evt_1"]).code, 2);
}

#[test]
fn o2_set_aside_work_of_another_tenant_does_not_exist() {
    let held = CASHBACK.replace("rate_bps", "rate_bsp");
    let stage = Setup::acme(&held).tenant("globex", SOURCES).plugin("cashback").start();
    assert_eq!(send(&stage, redeemed("evt_1", "red_1", "success")).0, 202);
    assert_eq!(send(&stage, redeemed("evt_1", "red_2", "success")).1, "conflict");
    stage.quiet();
    let token = stage.token("tenant-admin", "globex");
    let ids: Vec<_> = list(&stage.ask(&["review"]).json())
        .iter()
        .map(|held| text(held, "id").to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    for id in &ids {
        let body = json!({ "id": id, "run": true, "actor": "eve" }).to_string();
        let answer = stage.ask_as(&token, "POST", "/v1/review", body.as_bytes());
        assert_eq!(answer.status, 404, "{id}: {answer:?}");
        let answer = stage.ask_as(&token, "GET", &format!("/v1/held?after={id}"), b"");
        assert_eq!(answer.status, 404, "{id}: {answer:?}");
    }
    for question in ["/v1/held", "/v1/held/counts"] {
        let answer = stage.ask_as(&token, "GET", question, b"");
        assert_eq!((answer.status, answer.json()), (200, json!([])), "{question}");
    }
    for what in ["held_jobs", "receipts"] {
        let body = json!({ what: {}, "actor": "eve" }).to_string();
        let answer = stage.ask_as(&token, "POST", "/v1/replay", body.as_bytes());
        assert_eq!((answer.status, &answer.json()["replayed"]), (200, &json!([])), "{what}");
    }
    assert_eq!(stage.counts()["held_jobs"], 1);
}
