//! P10: a route takes events by their content. What does not fit makes no job, and its trace says so.

use serde_json::{Value, json};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::signer;
use tollgate_tests::json::{list, says, text};
use tollgate_tests::stage::{Setup, Stage, books};

/// Posts a payment of so many minor units of EUR, made in a country; gives its receipt.
fn pay(stage: &Stage, number: u32, amount: u32, country: &str) -> String {
    let body = json!({
        "id": format!("evt_{number}"), "object": "event", "type": "payment_intent.succeeded", "created": 1_777_975_200,
        "data": { "object": { "id": format!("pi_{number}"), "object": "payment_intent", "status": "succeeded",
            "amount": amount, "amount_received": amount, "currency": "eur", "metadata": { "country": country } } },
    });
    let answer = stage.post("payments", &signer("payments").sign("", body.to_string()));
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.receipt()
}

const ROUTES: &str = r#"
[routes.large]
sources = ["payments"]
filter = "amount:>=10000 currency:EUR"
forward = "body"
destinations = ["books"]
[routes.german]
sources = ["payments"]
filter = "body.data.object.metadata.country:DE"
forward = "body"
destinations = ["books"]
[routes.others]
sources = ["shop"]
filter = "type:nothing"
forward = "body"
destinations = ["books"]
"#;

/// The routes of a receipt's jobs, and its history in words.
fn routed(stage: &Stage, receipt: &str) -> (Vec<String>, Vec<String>) {
    let trace = stage.trace(receipt);
    let jobs = list(&trace["jobs"]);
    let routes = jobs.iter().map(|job| text(job, "route").to_owned()).collect();
    let history = list(&trace["history"]);
    let said = |line: &Value| format!("{}: {}", text(line, "what"), text(line, "detail"));
    (routes, history.iter().map(said).collect())
}

#[test]
fn p10_a_route_takes_what_fits_its_filter_and_the_trace_says_why_not() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{ROUTES}{}", books("books", &destination))).start();
    let both = pay(&stage, 1, 20_000, "DE");
    let large = pay(&stage, 2, 10_000, "FR");
    let german = pay(&stage, 3, 9_999, "DE");
    let neither = pay(&stage, 4, 1, "FR");
    stage.quiet();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(routed(&stage, &both), (names(&["german", "large"]), names(&[])));
    let (routes, history) = routed(&stage, &large);
    assert_eq!(
        (routes, history),
        (
            names(&["large"]),
            names(&["filtered: route german: its filter does not fit"])
        )
    );
    assert_eq!(
        routed(&stage, &german),
        (
            names(&["german"]),
            names(&["filtered: route large: its filter does not fit"])
        )
    );
    let why = "filtered: routes german, large: their filters do not fit";
    assert_eq!(routed(&stage, &neither), (names(&[]), names(&[why])));
    says(
        &stage.ask_for_people(&["trace", &neither]).stdout,
        &["routes german, large: their filters do not fit", "no jobs"],
    );
    assert_eq!(destination.arrivals().len(), 3, "what is handed on, each once");
    let not_meant = stage.ask_for_people(&["undelivered", "status:not-meant"]).stdout;
    says(&not_meant, &["routes german, large: their filters do not fit"]);
    // Once it was decided, it is: another delivery of the same event makes nothing.
    let unrouted = stage.ask(&["events", "status:unrouted"]).ok().json();
    assert_eq!(list(&unrouted["items"]).len(), 1, "{unrouted}");
    // The same text in a list means the same.
    for (filter, count) in [
        ("amount:>=10000 currency:EUR", 2),
        ("body.data.object.metadata.country:DE", 2),
        ("amount:<10000", 2),
        ("currency:USD", 0),
    ] {
        let found = stage.ask(&["events", filter]).json();
        assert_eq!(list(&found["items"]).len(), count, "{filter}: {found}");
    }
    stage.assert_whole();
}

#[test]
fn p10_a_filter_that_means_nothing_is_a_problem_at_its_place() {
    let destination = Destination::start();
    let wrong = ROUTES.replace("currency:EUR", "statsu:dead");
    let stage = Setup::acme(&format!("{wrong}{}", books("books", &destination))).set();
    let ran = stage.ask_for_people(&["check"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    says(
        &(ran.stdout + &ran.stderr),
        &["acme.toml", "character 16", "did you mean `status`?", "filter = "],
    );
}
