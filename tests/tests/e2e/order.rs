//! P8: at a destination that asks for order, what belongs to one subject arrives one after the other, and other subjects do not wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tollgate_tests::destination::{Arrival, Destination, Reply};
use tollgate_tests::events::signer;
use tollgate_tests::json::{list, says};
use tollgate_tests::random::Random;
use tollgate_tests::stage::{Setup, Stage, books, wait_until};

/// Hands steps on to `books`, in order.
fn stage(destination: &Destination) -> Setup {
    let ordered = books("books", destination).replacen("url = ", "order = \"subject\"\nurl = ", 1);
    Setup::acme(&format!(
        "\n[routes.steps]\ntypes = [\"step\"]\nforward = \"body\"\ndestinations = [\"books\"]\n{ordered}"
    ))
}

/// What a step of subject `a` holds.
const A: &str = r#""order_id":"a""#;

/// Posts a step of a subject.
fn step(stage: &Stage, subject: &str, number: u32) {
    let id = format!("{subject}-{number}");
    let body = json!({ "event": "step", "event_id": id, "order_id": subject, "number": number }).to_string();
    let answer = stage.post("shop", &signer("shop").sign(&id, body));
    assert_eq!(answer.status, 202, "{id}");
}

/// The numbers of each subject, as they arrived.
fn arrived(arrivals: &[Arrival]) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for arrival in arrivals {
        let step = arrival.json();
        let (Some(subject), Some(number)) = (step["order_id"].as_str(), step["number"].as_u64()) else {
            panic!("{step}");
        };
        all.entry(subject.to_owned()).or_default().push(number);
    }
    all
}

#[test]
fn p8_a_subject_that_fails_waits_in_order_and_the_others_do_not_wait_for_it() {
    let destination = Destination::start();
    let stage = stage(&destination)
        .delivery(
            "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[delivery.retry]\nattempts_max = 2\nbase_ms = 200\n\
             cap_ms = 200",
        )
        .start();
    // Its first attempt ends when the test has looked at what waits behind it.
    let looked = Arc::new(AtomicBool::new(false));
    destination.answer_apart(A, Reply::HangUntil(Arc::clone(&looked)));
    for number in 1..=3 {
        for subject in ["a", "b", "c"] {
            step(&stage, subject, number);
        }
    }
    wait_until("the others arrive", || {
        let found = arrived(&destination.arrivals());
        (found.get("b").is_some_and(|b| b.len() == 3) && found.get("c").is_some_and(|c| c.len() == 3)).then_some(())
    });
    let found = arrived(&destination.arrivals());
    assert_eq!((&found["b"], &found["c"]), (&vec![1, 2, 3], &vec![1, 2, 3]));
    assert!(found["a"].iter().all(|number| *number == 1), "{found:?}");
    // What has arrived is recorded a moment later.
    wait_until("what arrived is recorded", || {
        (stage.counts()["outbox_waiting"] == 3).then_some(())
    });
    let waiting = stage.ask(&["deliveries", "status:blocked"]).ok().json();
    assert_eq!(list(&waiting["items"]).len(), 2, "{waiting}");
    let undelivered = stage.ask_for_people(&["undelivered"]).stdout;
    says(&undelivered, &["waits for an older delivery of its subject"]);
    destination.answer_apart(A, Reply::Status(500));
    looked.store(true, Ordering::Relaxed);
    // Others go on, and what arrives keeps the breaker closed, which five failures in a row open for ten seconds.
    destination.wait_for(9);
    step(&stage, "b", 4);

    // Two attempts, and the first is given up: it lets the next go.
    stage.quiet();
    let found = arrived(&destination.arrivals());
    assert_eq!(found["a"], [1, 1, 2, 2, 3, 3]);
    // What is put back goes in its order, however it is asked for.
    destination.answer_alike();
    destination.take_arrivals();
    stage.ask(&["replay", "--all"]).ok();
    stage.quiet();
    assert_eq!(arrived(&destination.arrivals())["a"], [1, 2, 3]);
    assert_eq!(stage.counts()["dead_letters_open"], 0);
    stage.assert_whole();
}

#[test]
fn p8_order_is_kept_through_kills_at_any_moment() {
    const SUBJECTS: [&str; 3] = ["a", "b", "c"];
    let destination = Destination::start();
    destination.otherwise(Reply::After(Duration::from_millis(15), 204));
    let mut stage = stage(&destination).start();
    let mut random = Random(8);
    let mut numbers = 0;
    for _ in 0..4 {
        for _ in 0..8 {
            numbers += 1;
            for subject in SUBJECTS {
                step(&stage, subject, numbers);
            }
        }
        destination.script((0..random.below(3)).map(|_| Reply::Status(503)));
        std::thread::sleep(Duration::from_millis(random.below(120)));
        stage.kill();
        stage.start();
    }
    stage.quiet();
    let found = arrived(&destination.arrivals());
    for subject in SUBJECTS {
        let mut once = found[subject].clone();
        assert!(once.is_sorted(), "{subject}: {once:?}");
        once.dedup();
        assert!(once.into_iter().eq(1..=u64::from(numbers)), "{subject}: {found:?}");
    }
    stage.assert_whole();
}
