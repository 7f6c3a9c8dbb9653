//! P10: routes and destinations that somebody pauses, and a destination that takes so many a second. Nothing is lost meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::destination::Destination;
use tollgate_tests::json::{holds, list, says};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, Stage, books};

/// Redeems the rewards of these numbers; each is one credit.
fn redeem(stage: &Stage, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(stage.redeem(number).verdict(), (202, "accepted".to_owned()));
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn p10_what_is_paused_waits_through_a_kill_and_goes_on_when_it_is_resumed() {
    let destination = Destination::start();
    let mut stage = Setup::to_books(&destination).start();
    stage.ask(&["paused"]).fails(1, "");
    redeem(&stage, 1..2);
    destination.wait_for(1);

    // A destination: its actions are recorded and wait.
    let to_books = ["destination", "--tenant", "acme", "books"];
    let pause = |stage: &Stage, on: &[&str], why: &str| {
        let command: Vec<&str> = [&["pause"], on, &["--why", why]].concat();
        stage.ask(&command).ok().json()
    };
    let resume = |stage: &Stage, on: &[&str], why: &str| {
        let command: Vec<&str> = [&["resume"], on, &["--why", why]].concat();
        stage.ask(&command)
    };
    let mut planned = vec!["pause", "--why", "a look", "--dry-run"];
    planned.splice(1..1, to_books);
    stage.ask(&planned).ok();
    assert_eq!(
        list(&stage.operator_get("/v1/pauses").json()).len(),
        0,
        "a dry run changes nothing"
    );
    let paused = pause(&stage, &to_books, "their ledger moves");
    holds(
        &paused,
        &json!({ "tenant": "acme", "destination": "books", "why": "their ledger moves" }),
    );
    redeem(&stage, 2..5);
    wait_until("the actions are recorded", || stage.counts()["actions"] == 4);
    stage.kill();
    stage.start();
    assert_eq!(stage.counts()["outbox_waiting"], 3);
    assert_eq!(stage.metric("tollgate_paused"), 1);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(destination.arrivals().len(), 1, "nothing is sent");
    let status = stage.ask_for_people(&["status"]);
    says(
        &status.stdout,
        &["paused by somebody: destination acme/books", "tollgate paused"],
    );
    let people = stage.ask_for_people(&["paused"]);
    says(&people.stdout, &["destination acme/books", "their ledger moves"]);
    resume(&stage, &to_books, "it is there").ok();
    destination.wait_for(4);
    resume(&stage, &to_books, "twice").fails(1, "the destination `books` of `acme` is not paused");

    // A route: its jobs wait.
    let cashback = ["route", "--tenant", "acme", "cashback"];
    pause(&stage, &cashback, "a wrong rate");
    redeem(&stage, 5..8);
    stage.kill();
    stage.start();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        (&stage.counts()["jobs_waiting"], &stage.counts()["actions"]),
        (&json!(3), &json!(4))
    );
    resume(&stage, &cashback, "mended").ok();
    destination.wait_for(7);
    assert_eq!(stage.quiet()["actions"], 7, "each once");
    let history = stage
        .ask(&["route", "history", "--tenant", "acme", "cashback"])
        .ok()
        .json();
    let what: Vec<_> = list(&history).into_iter().map(|line| line["what"].clone()).collect();
    assert_eq!(what[..2], [json!("resumed"), json!("paused")]);

    // What there is none of.
    for kind in ["route", "destination"] {
        let unknown = ["pause", kind, "--tenant", "acme", "nowhere", "--why", "x"];
        stage
            .ask(&unknown)
            .fails(1, &format!("there is no {kind} `nowhere` of `acme`"));
    }
    let silent = stage.operator_post("/v1/tenants/acme/routes/cashback/pause", "{}");
    assert_eq!(
        (silent.status, &silent.json()["error"]),
        (400, &json!("why: say why, for the history"))
    );
}

#[test]
fn p10_a_destination_gets_no_more_in_a_second_than_its_file_says() {
    let destination = Destination::start();
    let bounded = books("books", &destination).replacen("url = ", "requests_per_s = 10\nurl = ", 1);
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{bounded}"))
        .plugin("cashback")
        .start();
    redeem(&stage, 1..2);
    destination.wait_for(1);
    let begun = Instant::now();
    redeem(&stage, 2..22);
    destination.wait_for(21);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_850), "20 came in {took:?}");
    assert!(
        took < Duration::from_secs(10),
        "they wait for longer than the rate asks: {took:?}"
    );
}
