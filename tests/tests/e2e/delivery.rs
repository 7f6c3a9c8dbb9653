//! P7: actions leave by the outbox, signed, with a stable key, and are given up with a reason. What an attempt is, when it comes again and
//! which addresses it never goes to is tested in host/server/src/delivery, without a process.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::holds;
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, Setup, Stage, books};

/// Posts one redeemed reward, waits for everything, and gives its only action.
fn act(stage: &Stage, number: u32) -> Value {
    let receipt = stage.redeem(number).receipt();
    stage.quiet();
    stage.trace(&receipt)["jobs"][0]["runs"][0]["actions"][0].clone()
}

#[test]
fn p7_a_delivery_is_signed_and_says_what_was_recorded() {
    let destination = Destination::start();
    let stage = Setup::to_books(&destination).start();
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
    holds(entry, &json!({ "state": "delivered", "destination": "books" }));
    assert_eq!(entry["attempts"][0]["http_status"], 204);
}

#[test]
fn p7_what_cannot_be_delivered_is_a_dead_letter_with_its_reason() {
    let gone = Destination::start();
    gone.otherwise(Reply::Status(410));
    let stage = Setup::to_books(&gone).start();
    let action = act(&stage, 1);
    assert_eq!(action["deliveries"][0]["state"], "dead");
    assert_eq!(gone.arrivals().len(), 1, "410 is for good");

    let failing = Destination::start();
    failing.otherwise(Reply::Status(500));
    let other = Setup::to_books(&failing).start();
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
        holds(
            letter,
            &json!({ "work": "delivery", "destination": "books", "operation_key": "cashback:red_1" }),
        );
        holds(letter, &json!({ "attempts": attempts, "reason": reason }));
        assert_eq!(stage.counts()["actions"], 1, "the ledger keeps the action");
    }
}

#[test]
fn p7_without_a_destination_actions_stay_in_the_ledger() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let action = act(&stage, 1);
    holds(&action, &json!({ "verdict": "recorded", "deliveries": [] }));
    let counts = stage.counts();
    holds(&counts, &json!({ "actions": 1, "delivered": 0, "outbox_waiting": 0 }));
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
