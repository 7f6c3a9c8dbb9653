//! P7: actions leave by the outbox, signed, with a stable key; retried as the destination asks; given up with a reason; and never to
//! an address that the operator did not allow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, Setup, Stage, books, books_at};

fn to(destination: &Destination) -> Stage {
    Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", destination)))
        .plugin("cashback")
        .start()
}

/// Posts one redeemed reward, waits for everything, and gives its only action.
fn act(stage: &Stage, number: u32) -> Value {
    let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
    let receipt = stage.post("shop", &signer("shop").sign("", body)).receipt();
    stage.quiet();
    stage.trace(&receipt)["jobs"][0]["runs"][0]["actions"][0].clone()
}

#[test]
fn p7_a_delivery_is_signed_and_says_what_was_recorded() {
    let destination = Destination::start();
    let stage = to(&destination);
    let action = act(&stage, 1);
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 1);
    let arrival = &arrivals[0];
    assert!(arrival.is_authentic);
    assert_eq!(arrival.path, "/hook");
    assert_eq!(
        arrival.header("webhook-id"),
        action["deliveries"][0]["message_id"].as_str().unwrap_or_default()
    );
    assert_eq!(arrival.header("idempotency-key"), "cashback/credit/cashback:red_1");
    assert_eq!(arrival.header("content-type"), "application/json");
    assert!(arrival.header("user-agent").starts_with("tollgate/"));
    assert!(arrival.header("traceparent").starts_with("00-"));
    let message = arrival.json();
    assert_eq!(message["type"], "action.credit");
    assert_eq!(message["id"], action["id"]);
    assert_eq!(message["tenant"], "acme");
    assert_eq!(message["operation_key"], "cashback:red_1");
    assert_eq!(message["action"], action["action"]);
    assert_eq!(
        (&message["action"]["account"], &message["action"]["amount"]),
        (&json!("user_678"), &action["action"]["amount"])
    );
    let entry = &action["deliveries"][0];
    assert_eq!(
        (&entry["state"], &entry["destination"]),
        (&json!("delivered"), &json!("books"))
    );
    assert_eq!(entry["attempts"][0]["http_status"], 204);
}

#[test]
fn p7_a_retry_carries_the_same_id_key_and_content() {
    let destination = Destination::start();
    let elsewhere = Destination::start();
    // Whatever is not 2xx is a failure; a redirect is not followed.
    destination.script([
        Reply::Status(500),
        Reply::Header(302, "location", elsewhere.url()),
        Reply::Status(400),
    ]);
    let stage = to(&destination);
    let action = act(&stage, 1);
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 4);
    for arrival in &arrivals {
        assert!(arrival.is_authentic, "each attempt is signed anew");
        for header in ["webhook-id", "idempotency-key"] {
            assert_eq!(arrival.header(header), arrivals[0].header(header));
        }
        assert_eq!(arrival.body, arrivals[0].body);
    }
    let attempts = action["deliveries"][0]["attempts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let statuses: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt["http_status"].as_u64().unwrap_or(0))
        .collect();
    assert_eq!(statuses, [500, 302, 400, 204]);
    assert_eq!(action["deliveries"][0]["state"], "delivered");
    assert_eq!(elsewhere.arrivals().len(), 0, "a redirect was followed");
}

#[test]
fn p7_a_destination_is_given_the_time_that_it_asks_for() {
    let destination = Destination::start();
    destination.script([Reply::Header(503, "retry-after", "2".to_owned())]);
    let stage = to(&destination);
    act(&stage, 1);
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 2);
    let waited = arrivals[1].at - arrivals[0].at;
    assert!(waited >= Duration::from_millis(1950), "came again after {waited:?}");
}

#[test]
fn p7_what_cannot_be_delivered_is_a_dead_letter_with_its_reason() {
    let gone = Destination::start();
    gone.otherwise(Reply::Status(410));
    let stage = to(&gone);
    let action = act(&stage, 1);
    assert_eq!(action["deliveries"][0]["state"], "dead");
    assert_eq!(gone.arrivals().len(), 1, "410 is for good");

    let failing = Destination::start();
    failing.otherwise(Reply::Status(500));
    let other = to(&failing);
    let action = act(&other, 1);
    assert_eq!(action["deliveries"][0]["state"], "dead");
    assert_eq!(failing.arrivals().len(), 4, "as often as the retry policy says");

    for (stage, attempts, reason) in [
        (&stage, 1, "the destination answered 410 Gone"),
        (&other, 4, "the destination answered 500 (gave up after 4 attempts)"),
    ] {
        let letters = stage.ask(&["dlq", "list"]).json();
        assert_eq!(letters.as_array().map(Vec::len), Some(1));
        let letter = &letters[0];
        assert_eq!(
            (&letter["work"], &letter["destination"], &letter["operation_key"]),
            (&json!("delivery"), &json!("books"), &json!("cashback:red_1"))
        );
        assert_eq!(
            (&letter["attempts"], &letter["reason"]),
            (&json!(attempts), &json!(reason))
        );
        assert_eq!(stage.counts()["actions"], 1, "the ledger keeps the action");
    }
}

#[test]
fn p7_an_address_that_is_not_allowed_is_never_connected_to() {
    let destination = Destination::start();
    let port = destination.address.port();
    let at = |host: &str| {
        let rest = format!(
            "{CASHBACK_TO_BOOKS}{}",
            books_at("books", &format!("http://{host}:{port}/hook"))
        );
        // Plain HTTP is allowed here, but no network beside the public internet.
        Setup::acme(&rest).plugin("cashback").delivery("allow_http = true")
    };
    // An address is judged when the configuration is read.
    for host in [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
        "169.254.169.254",
    ] {
        let said = at(host).set().try_start().expect_err("a host that refuses");
        assert!(said.contains("[delivery] allow_networks"), "{host}: {said}");
    }
    // A name is judged by what it resolves to, each time.
    let stage = at("localhost").start();
    let action = act(&stage, 1);
    assert_eq!(action["deliveries"][0]["state"], "dead");
    let letters = stage.ask(&["dlq", "list"]).json();
    let reason = letters[0]["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("loopback") && reason.contains("[delivery] allow_networks"),
        "{reason}"
    );
    assert_eq!(letters[0]["attempts"], 1, "trying again is no help");
    assert_eq!(destination.arrivals().len(), 0);
}

#[test]
fn p7_without_a_destination_actions_stay_in_the_ledger() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let action = act(&stage, 1);
    assert_eq!(
        (&action["verdict"], &action["deliveries"]),
        (&json!("recorded"), &json!([]))
    );
    let counts = stage.counts();
    assert_eq!(
        (&counts["actions"], &counts["delivered"], &counts["outbox_waiting"]),
        (&json!(1), &json!(0), &json!(0))
    );
}

#[test]
fn p7_one_destination_that_hangs_does_not_hold_up_another() {
    let (hangs, works) = (Destination::start(), Destination::start());
    hangs.otherwise(Reply::Hang);
    let rest = format!(
        "{}{}{}",
        CASHBACK_TO_BOOKS.replace("[\"books\"]", "[\"hangs\", \"works\"]"),
        books("hangs", &hangs),
        books("works", &works)
    );
    let stage = Setup::acme(&rest).plugin("cashback").start();
    let start = Instant::now();
    let mut client = stage.connect();
    for number in 0..40 {
        let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
        assert_eq!(
            client
                .post("/in/acme/shop", &signer("shop").sign("", body))
                .expect("an answer")
                .status,
            202
        );
    }
    // Well before the first attempt to the other one has run out of time.
    works.wait_for(40);
    assert!(start.elapsed() < Duration::from_secs(14), "{:?}", start.elapsed());
    assert!(works.arrivals().iter().all(|arrival| arrival.is_authentic));
}
