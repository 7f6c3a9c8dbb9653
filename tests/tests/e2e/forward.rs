//! What leaves for a destination, and what a person has sent there again: a destination's own headers and timeout, and resends.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::{holds, says, text};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, Stage, books};

fn send(stage: &Stage, number: u32) -> String {
    stage.redeem(number).receipt()
}

/// The deliveries of a receipt's one action.
fn deliveries(stage: &Stage, receipt: &str) -> Value {
    stage.trace(receipt)["jobs"][0]["runs"][0]["actions"][0]["deliveries"].clone()
}

/// The names under which a destination knows a message.
fn names(arrival: &tollgate_tests::destination::Arrival) -> (String, String, Vec<u8>) {
    (
        arrival.header("webhook-id").to_owned(),
        arrival.header("idempotency-key").to_owned(),
        arrival.body.clone(),
    )
}

#[test]
fn forward_a_destination_has_headers_and_a_timeout_of_its_own_and_no_value_is_shown() {
    let destination = Destination::start();
    destination.script([Reply::After(Duration::from_secs(3), 200)]);
    let own =
        "headers = { X-Team = \"payments\", Authorization = { file = \"../secrets/bearer\" } }\ntimeout_ms = 500\n";
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}{own}", books("books", &destination)))
        .plugin("cashback")
        .secret("bearer", "Bearer hunter2hunter2\n")
        .start();
    let receipt = send(&stage, 1);
    let arrivals = destination.wait_for(2);
    stage.quiet();
    for arrival in &arrivals {
        assert!(arrival.is_authentic, "{arrival:?}");
        assert_eq!(arrival.header("x-team"), "payments");
        assert_eq!(arrival.header("authorization"), "Bearer hunter2hunter2");
    }
    let entry = &deliveries(&stage, &receipt)[0];
    assert_eq!(entry["attempts"][0]["reason"], "no answer within 500 ms");
    assert_eq!(entry["state"], "delivered");
    assert!(stage.log_with("hunter2").is_empty());
    assert!(!stage.trace(&receipt).to_string().contains("hunter2"));
}

#[test]
fn forward_what_was_delivered_is_sent_again_under_its_own_names_and_the_trace_says_who_and_why() {
    let destination = Destination::start();
    let stage = Setup::to_books(&destination).start();
    let receipt = send(&stage, 1);
    let first = destination.wait_for(1).remove(0);
    stage.quiet();
    assert!(first.headers.iter().all(|(name, _)| name != "tollgate-resend"));

    // Nobody says why, or means everything.
    assert_eq!(stage.ask(&["resend", &receipt]).code, 2);
    stage
        .ask(&["resend", "--why", "x", "--dry-run"])
        .fails(2, "never sent again at once");
    // A dry run says what would be.
    let dry = stage.ask(&["resend", &receipt, "--dry-run"]).json();
    assert_eq!(dry["resent"][0]["entry"], "out_1");
    assert_eq!(dry["resent"][0]["operation_key"], "cashback:red_1");
    assert_eq!(destination.arrivals().len(), 1);

    // By each of its names.
    for (at, id) in [receipt.as_str(), "act_1", "out_1"].into_iter().enumerate() {
        stage.ask(&["resend", id, "--why", "their database was lost"]).ok();
        let arrival = destination.wait_for(at + 2).remove(at + 1);
        stage.quiet();
        assert!(arrival.is_authentic);
        assert_eq!(names(&arrival), names(&first), "the same message");
        assert_eq!(arrival.header("tollgate-resend"), format!("resend_{}", at + 1));
    }
    let trace = stage.trace(&receipt);
    let attempts = &trace["jobs"][0]["runs"][0]["actions"][0]["deliveries"][0]["attempts"];
    assert_eq!(attempts[0]["resend"], Value::Null);
    assert_eq!(attempts[1]["resend"]["id"], "resend_1");
    assert_eq!(attempts[1]["resend"]["why"], "their database was lost");
    assert_eq!(trace["history"][0]["what"], "resent");
    says(text(&trace["history"][0], "detail"), &["their database was lost"]);
    assert!(
        stage
            .ask_for_people(&["trace", &receipt])
            .stdout
            .contains("sent again by")
    );
    assert_eq!(stage.counts()["actions"], 1, "no second effect");
    stage.assert_whole();
}

#[test]
fn forward_a_resend_by_filter_takes_what_was_delivered_and_says_what_it_passes_over() {
    let (well, gone) = (Destination::start(), Destination::start());
    gone.otherwise(Reply::Status(410));
    let routes = CASHBACK_TO_BOOKS.replace("[\"books\"]", "[\"books\", \"gone\"]");
    let stage = Setup::acme(&format!("{routes}{}{}", books("books", &well), books("gone", &gone)))
        .plugin("cashback")
        .start();
    let receipts: Vec<_> = (1..=3).map(|number| send(&stage, number)).collect();
    well.wait_for(3);
    gone.wait_for(3);
    stage.quiet();
    // What was given up is a replay's.
    let one = stage.ask(&["resend", &receipts[0], "--dry-run"]).json();
    assert_eq!(one["resent"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["passed_over"][0]["destination"], "gone");
    assert_eq!(one["passed_over"][0]["state"], "dead");
    for nothing in [
        ["--tenant", "other"],
        ["--source", "orders"],
        ["--until", "2020-01-01T00:00:00Z"],
        ["--destination", "gone"],
    ] {
        let none = stage.ask(&["resend", nothing[0], nothing[1], "--why", "x"]);
        assert_eq!((none.code, &none.json()["resent"]), (1, &json!([])), "{nothing:?}");
    }
    let two = stage
        .ask(&[
            "resend",
            "--tenant",
            "acme",
            "--since",
            "2020-01-01T00:00:00Z",
            "--limit",
            "2",
            "--why",
            "x",
        ])
        .json();
    assert_eq!(two["resent"].as_array().map(Vec::len), Some(2));
    well.wait_for(5);
    stage.quiet();
    let rest = stage.ask(&[
        "resend",
        "--destination",
        "books",
        "--after",
        two["next"].as_str().unwrap_or_default(),
        "--why",
        "x",
    ]);
    assert_eq!(rest.json()["resent"].as_array().map(Vec::len), Some(1));
    let arrivals = well.wait_for(6);
    stage.quiet();
    let keys: std::collections::BTreeSet<_> = arrivals.iter().map(names).collect();
    assert_eq!(keys.len(), 3, "three messages, each twice");
    assert_eq!(gone.arrivals().len(), 3);
    stage.assert_whole();
}

#[test]
fn forward_a_tenants_token_resends_its_own_and_nothing_of_another() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .tenant("other", "")
        .plugin("cashback")
        .start();
    let receipt = send(&stage, 1);
    destination.wait_for(1);
    stage.quiet();
    let body = |deliveries: Value| {
        json!({ "deliveries": deliveries, "actor": "ana", "why": "x" })
            .to_string()
            .into_bytes()
    };
    let all_of_it = [
        json!({ "id": receipt }),
        json!({ "id": "act_1" }),
        json!({ "id": "out_1" }),
        json!({ "tenant": "acme" }),
    ];
    let others = stage.token("tenant-admin", "other");
    for deliveries in &all_of_it {
        let answer = stage.ask_as(&others, "POST", "/v1/resend", &body(deliveries.clone()));
        assert!(matches!(answer.status, 403 | 404), "{deliveries}: {answer:?}");
    }
    let nothing = stage.ask_as(&others, "POST", "/v1/resend", &body(json!({ "destination": "books" })));
    assert_eq!((nothing.status, &nothing.json()["resent"]), (200, &json!([])));
    let viewer = stage.ask_as(
        &stage.token("viewer", "acme"),
        "POST",
        "/v1/resend",
        &body(all_of_it[0].clone()),
    );
    assert_eq!(viewer.status, 403);
    let own = stage.ask_as(
        &stage.token("tenant-admin", "acme"),
        "POST",
        "/v1/resend",
        &body(all_of_it[0].clone()),
    );
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(own.json()["resent"][0]["entry"], "out_1");
    destination.wait_for(2);
    stage.quiet();
}

/// A route that hands on what the shop sends as this form, to this destination.
fn forwards(name: &str, form: &str, destination: &str) -> String {
    format!("[routes.{name}]\ntypes = [\"order.*\"]\nforward = \"{form}\"\ndestinations = [\"{destination}\"]\n")
}

/// With spaces and an order of its own, which no reader would write.
const ORDER: &str = r#"{ "event":"order.placed","event_id": "evt_1",  "total": 7.50, "customer":"Zoë" }"#;

#[test]
fn forward_a_route_without_a_plugin_hands_the_event_itself_on_in_each_form() {
    let (raw, envelope, cloud) = (Destination::start(), Destination::start(), Destination::start());
    raw.script([Reply::Status(503)]);
    let tenant = [
        forwards("raw", "body", "raw"),
        forwards("archive", "envelope", "archive"),
        forwards("cloud", "cloudevents", "cloud"),
        // The same in the same form: one operation.
        forwards("again", "body", "raw"),
        books("raw", &raw),
        books("archive", &envelope),
        books("cloud", &cloud),
    ]
    .concat();
    let stage = Setup::acme(&tenant).start();
    let checked = stage.ask_for_people(&["check"]);
    assert!(checked.stdout.contains("forward (body) → raw"), "{checked:?}");
    let receipt = stage.post("shop", &signer("shop").sign("", ORDER)).receipt();
    let tries = raw.wait_for(2);
    let (envelope, cloud) = (envelope.wait_for(1).remove(0), cloud.wait_for(1).remove(0));
    stage.quiet();

    for arrival in tries.iter().chain([&envelope, &cloud]) {
        assert!(arrival.is_authentic, "{arrival:?}");
        assert_eq!(arrival.header("tollgate-receipt"), receipt);
        assert_eq!(arrival.header("tollgate-tenant"), "acme");
        assert_eq!(arrival.header("tollgate-source"), "shop");
        assert_eq!(arrival.header("tollgate-event-id"), "evt_1");
        assert_eq!(arrival.header("tollgate-event-type"), "order.placed");
    }
    assert_eq!(tries.len(), 2);
    assert_eq!(tries[0].body, ORDER.as_bytes(), "byte for byte");
    assert_eq!(names(&tries[0]), names(&tries[1]), "at every attempt");
    assert_eq!(tries[0].header("content-type"), "application/json");
    assert_eq!(
        tries[0].header("idempotency-key"),
        format!("forward/forward/{receipt}/body")
    );
    assert_eq!(envelope.header("content-type"), "application/json");
    let told = envelope.json();
    holds(&told, &json!({ "type": "event", "receipt": receipt }));
    assert_eq!(told["event"]["type"], "order.placed");
    assert_eq!(told["event"]["id"], "evt_1");
    let text = String::from_utf8(envelope.body).expect("JSON is text");
    assert!(text.contains(&format!("\"payload\":{ORDER}")), "as it came: {text}");
    assert_eq!(
        cloud.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    let told: Value = serde_json::from_slice(&cloud.body).expect("JSON");
    assert_eq!(told["specversion"], "1.0");
    holds(
        &told,
        &json!({ "id": "evt_1", "source": "/tollgate/acme/shop", "type": "order.placed" }),
    );
    assert_eq!(told["data"], serde_json::from_str::<Value>(ORDER).expect("JSON"));

    // The ledger holds none of it, and a trace shows each of its ways.
    let trace = stage.trace(&receipt);
    assert_eq!(trace["jobs"].as_array().map(Vec::len), Some(4));
    let mut verdicts: Vec<_> = trace["jobs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|job| {
            let run = &job["runs"][0];
            holds(run, &json!({ "outcome": "forwarded", "plugin": "forward" }));
            let action = &run["actions"][0];
            assert_eq!(action["action"]["kind"], "forward");
            assert!(!action["action"].to_string().contains("customer"));
            action["verdict"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    verdicts.sort_unstable();
    assert_eq!(verdicts, ["already_done", "recorded", "recorded", "recorded"]);
    assert!(
        stage
            .ask_for_people(&["trace", &receipt])
            .stdout
            .contains("forward the event as cloudevents")
    );
    assert_eq!(stage.counts()["delivered"], 3);
    // Nothing of it is a run that could be made again, and no trial meets it.
    let run = trace["jobs"][0]["runs"][0]["id"].as_str().unwrap_or_default();
    assert_ne!(stage.ask(&["plugin", "replay", run]).code, 0);
    stage.assert_whole();
}

#[test]
fn forward_what_cannot_be_delivered_is_a_dead_letter_that_a_replay_delivers_from_the_receipt() {
    let destination = Destination::start();
    destination.script([Reply::Status(410)]);
    let mut stage = Setup::acme(&format!(
        "{}{}",
        forwards("raw", "body", "raw"),
        books("raw", &destination)
    ))
    .start();
    let receipt = stage.post("shop", &signer("shop").sign("", ORDER)).receipt();
    destination.wait_for(1);
    stage.quiet();
    let letter = stage.ask(&["dlq", "list"]).json();
    assert_eq!(letter[0]["destination"], "raw");
    assert_eq!(letter[0]["operation_key"], format!("{receipt}/body"));
    // After a restart the body is still there.
    stage.stop();
    stage.start();
    stage.ask(&["replay", "dead_1"]).ok();
    let arrivals = destination.wait_for(2);
    stage.quiet();
    assert_eq!(names(&arrivals[0]), names(&arrivals[1]));
    assert_eq!(arrivals[1].body, ORDER.as_bytes());
    // It is delivered, so it can be sent again on purpose.
    stage.ask(&["resend", &receipt, "--why", "x"]).ok();
    let arrivals = destination.wait_for(3);
    stage.quiet();
    assert_eq!(names(&arrivals[2]), names(&arrivals[0]));
    assert_eq!(arrivals[2].header("tollgate-resend"), "resend_1");
    stage.assert_whole();
}

#[test]
fn forward_what_the_source_does_not_accept_or_a_lifecycle_holds_is_not_handed_on() {
    let destination = Destination::start();
    let route = "[routes.all]\nforward = \"envelope\"\ndestinations = [\"raw\"]\n";
    let stage = Setup::acme(&format!("{route}{}", books("raw", &destination))).start();
    let post =
        |event: &str, status: &str| stage.post("shop", &signer("shop").sign("", redeemed(event, "red_1", status)));
    post("evt_1", "exploded");
    post("evt_2", "success");
    destination.wait_for(1);
    stage.quiet();
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0].json()["event"]["id"], "evt_2");
    assert_eq!(arrivals[0].json()["event"]["status"], "completed");
}

#[test]
fn forward_a_route_is_set_by_api_and_takes_the_place_of_a_plugin() {
    let destination = Destination::start();
    let stage = Setup::to_books(&destination).start();
    let path = "/v1/tenants/acme/routes/cashback";
    let put = |definition: Value, dry_run: bool| {
        let body = json!({ "definition": definition, "why": "we book it ourselves now", "dry_run": dry_run });
        stage.operator_send("PUT", path, body.to_string().as_bytes())
    };
    let refused = put(json!({ "forward": "body" }), false);
    assert_eq!(refused.status, 400, "{refused:?}");
    let definition = json!({ "forward": "body", "types": ["reward.redeemed"], "destinations": ["books"] });
    let dry = put(definition.clone(), true);
    assert_eq!(dry.status, 200, "{dry:?}");
    assert_eq!(dry.json()["after"], Value::Null, "no version runs there");
    assert_eq!(put(definition, false).status, 200);
    let shown = stage.operator_get(path).json();
    holds(&shown, &json!({ "forward": "body", "plugin": null, "binding": null }));
    assert!(
        stage
            .ask_for_people(&["route", "list", "--tenant", "acme"])
            .stdout
            .contains("forward (body)")
    );
    let receipt = send(&stage, 1);
    let arrival = destination.wait_for(1).remove(0);
    stage.quiet();
    assert_eq!(arrival.header("tollgate-receipt"), receipt);
    // There is no version to promote, and the file's route comes back when it is removed.
    let removed = stage.operator_send("DELETE", path, json!({ "why": "back" }).to_string().as_bytes());
    assert_eq!(removed.status, 200, "{removed:?}");
    send(&stage, 2);
    let arrivals = destination.wait_for(2);
    stage.quiet();
    assert_eq!(arrivals[1].json()["type"], "action.credit");
    stage.assert_whole();
}

#[test]
fn forward_headers_that_a_source_keeps_go_with_the_event_and_no_others() {
    let destination = Destination::start();
    let keep = tollgate_tests::stage::SOURCES.replacen(
        "provider = \"generic-hmac\"\n",
        "provider = \"generic-hmac\"\nkeep_headers = [\"X-Request-Id\", \"x-region\", \"x-team\", \"x-twice\", \"x-long\"]\n",
        1,
    );
    let routes: String = ["body", "envelope", "cloudevents"]
        .map(|form| format!("[routes.{form}]\nforward = \"{form}\"\ndestinations = [\"books\"]\n"))
        .concat();
    let own = "headers = { X-Team = \"the destination's own\" }\n";
    let stage = Setup::default()
        .tenant("acme", &format!("{keep}{routes}{}{own}", books("books", &destination)))
        .start();
    let mut message = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    for (name, value) in [
        ("X-Request-ID", "req 7"),
        ("X-Region", "München"),
        ("X-Team", "the sender's"),
        ("X-Other", "nobody asked for it"),
        ("X-Twice", "a"),
        ("x-twice", "b"),
        ("X-Long", &"x".repeat(2000)),
        ("Tollgate-Tenant", "globex"),
    ] {
        message.headers.push((name.to_owned(), value.to_owned()));
    }
    let receipt = stage.post("shop", &message).receipt();
    let arrivals = destination.wait_for(3);
    stage.quiet();
    let names = |arrival: &tollgate_tests::destination::Arrival| -> Vec<String> {
        let names = arrival.headers.iter().map(|(name, _)| name.clone());
        names.filter(|name| name.starts_with("x-")).collect()
    };
    for arrival in &arrivals {
        assert!(arrival.is_authentic, "{arrival:?}");
        assert_eq!(arrival.header("x-request-id"), "req 7");
        assert_eq!(arrival.header("x-team"), "the destination's own");
        assert_eq!(arrival.header("tollgate-tenant"), "acme");
        let mut names = names(arrival);
        names.sort();
        assert_eq!(
            names,
            ["x-request-id", "x-team"],
            "neither what cannot be sent nor what nobody named: {arrival:?}"
        );
    }
    // All that is kept is shown, and what is not as it was sent says so.
    let trace = stage.trace(&receipt);
    let kept = &trace["receipt"]["kept_headers"];
    assert_eq!(
        (&kept["x-request-id"], &kept["x-region"]),
        (&json!("req 7"), &json!("München"))
    );
    assert_eq!((&kept["x-twice"], &kept["x-other"]), (&Value::Null, &Value::Null));
    let long = kept["x-long"].as_str().expect("its beginning");
    assert!(long.len() <= 1024 && long.contains("sha256:"), "{long}");
    let notes = trace["receipt"]["reading_notes"].as_str().expect("notes");
    says(notes, &["header.x-twice", "header.x-long"]);
    let shown = stage.ask_for_people(&["trace", &receipt]).stdout;
    assert!(shown.contains("x-request-id: req 7"), "{shown}");
    // The same event with other headers is the same event.
    message.headers.retain(|(name, _)| !name.starts_with("X-Re"));
    assert_eq!(stage.post("shop", &message).verdict().1, "same");
    assert_eq!(
        stage.trace(&receipt)["receipt"]["kept_headers"]["x-request-id"],
        "req 7"
    );
}
