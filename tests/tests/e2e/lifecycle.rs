//! T3, T4: what comes late is judged by its route and its lifecycle, and is never silently without effect.

use serde_json::{Value, json};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::Signer;
use tollgate_tests::stage::{Setup, Stage, books};

const PROFILE: &str = include_str!("orders.toml");
const SECRET: &str = "secret-of-the-shop-77";

/// A tenant with the source `shop` of orders, and what else is in `rest`.
fn orders(rest: &str) -> Setup {
    let source = "[sources.shop]\nprofile = { file = \"profiles/orders.toml\" }\n\
                  secrets = [{ id = \"a\", value = { file = \"../secrets/shop\" } }]\n";
    Setup::default()
        .secret("shop", SECRET)
        .tenant("acme", &format!("{source}{rest}"))
        .plugin("cashback")
}

fn started(setup: Setup) -> Stage {
    let mut stage = setup.set();
    stage.write("tenants/profiles/orders.toml", PROFILE);
    stage.start();
    stage
}

/// 5 % of every paid order, with what the route says of late ones.
fn cashback(name: &str, late: &str) -> String {
    format!(
        "[routes.{name}]\nstatuses = [\"paid\"]\nplugin = \"cashback\"\ndestinations = [\"books\"]\noperations = \"{name}\"\n{late}\n\
         grants = [{{ kind = \"credit\", amount_max = 100000, currencies = [\"USD\"] }}]\n\
         [routes.{name}.config]\nrate_bps = 500\nstatuses = [\"paid\"]\n"
    )
}

fn send(stage: &Stage, order: &str, status: &str) -> String {
    let body = json!({
        "id": format!("{order}-{status}"), "type": format!("order.{status}"), "order": order, "status": status,
        "amount": 10000, "currency": "USD", "customer": "c",
    });
    let signer = Signer::of_file(PROFILE, SECRET);
    stage.post("shop", &signer.sign("", body.to_string())).receipt()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// `ROUTE/ORDER` of everything that arrived, in order of names.
fn arrived(destination: &Destination) -> Vec<String> {
    let mut keys: Vec<String> = destination
        .arrivals()
        .iter()
        .map(|arrival| arrival.json()["operation_key"].as_str().unwrap_or_default().to_owned())
        .collect();
    keys.sort();
    keys
}

/// Shipped first, paid later: the credit of the payment is due, and comes; that of an order that was given back waits for a person.
#[test]
fn t4_late_is_not_never() {
    let destination = Destination::start();
    let rest = format!("{}{}", cashback("cash", ""), books("books", &destination));
    let stage = started(orders(&rest));
    for (order, statuses) in [
        ("a", ["pending", "paid", "fulfilled"].as_slice()),
        ("b", &["pending", "fulfilled", "paid"]),
        ("c", &["refunded", "paid"]),
        ("d", &["paid", "pending"]),
    ] {
        for status in statuses {
            send(&stage, order, status);
        }
    }
    destination.wait_for(3);
    stage.quiet();
    assert_eq!(arrived(&destination), ["cashback:a", "cashback:b", "cashback:d"]);

    // What a person must say is listed with its reason, and runs when they say so.
    let held = list(&stage.ask(&["review"]).json());
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(
        (&held[0]["kind"], &held[0]["route"], &held[0]["reason"]),
        (
            &json!("held-job"),
            &json!("cash"),
            &json!("it came late: its subject was already `refunded`")
        )
    );
    let job = held[0]["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        stage.ask(&["review", &job, "--run", "--why", "it was paid again"]).code,
        0
    );
    destination.wait_for(4);
    stage.quiet();
    assert_eq!(arrived(&destination).last().map(String::as_str), Some("cashback:d"));
    assert_eq!(stage.counts()["actions"], 4);
    stage.assert_whole();
}

/// A route says what it does with what comes late, and a replay of routes that came later decides like the first time.
#[test]
fn t4_a_route_says_what_it_does_with_what_comes_late() {
    let destination = Destination::start();
    let before = books("books", &destination);
    let stage = started(orders(&before));
    for status in ["fulfilled", "paid", "pending"] {
        send(&stage, "before", status);
    }
    let routes = [
        cashback("runs", "late = \"run\""),
        cashback("skips", "late = \"skip\""),
        cashback("holds", "late = \"hold\""),
        before,
    ]
    .concat();
    let source = "[sources.shop]\nprofile = { file = \"profiles/orders.toml\" }\n\
                  secrets = [{ id = \"a\", value = { file = \"../secrets/shop\" } }]\n";
    stage.write("tenants/acme.toml", &format!("{source}{routes}"));
    stage.reload();
    for status in ["fulfilled", "paid", "pending"] {
        send(&stage, "after", status);
    }
    stage.quiet();
    let of = |receipt: &str| {
        let trace = stage.trace(receipt);
        let mut jobs: Vec<String> = list(&trace["jobs"])
            .iter()
            .map(|job| {
                format!(
                    "{}:{}",
                    job["route"].as_str().unwrap_or(""),
                    job["state"].as_str().unwrap_or("")
                )
            })
            .collect();
        jobs.sort();
        (trace["receipt"]["disposition"].clone(), jobs)
    };
    let expect = (
        json!("superseded"),
        vec!["holds:held".to_owned(), "runs:done".to_owned()],
    );
    assert_eq!(of("after-paid"), expect);

    let replay = |flags: &[&str]| stage.ask(&[&["replay", "--routes", "--all"], flags].concat()).json();
    let dry = replay(&["--dry-run"]);
    assert_eq!(list(&dry["replayed"]).len(), 2, "two of the routes take it: {dry}");
    replay(&[]);
    stage.quiet();
    assert_eq!(of("before-paid"), expect);
    assert_eq!(list(&replay(&[])["replayed"]).len(), 0);
    // What a route left out is found, and has its effect when somebody wants it.
    let wanted = replay(&["--disposition", "superseded"]);
    let routes: Vec<_> = list(&wanted["replayed"])
        .iter()
        .map(|one| one["route"].clone())
        .collect();
    assert_eq!(routes, [json!("skips"), json!("skips")], "{wanted}");
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 4);

    stage.write(
        "tenants/acme.toml",
        &format!("{source}{}", routes_text("late = \"later\"", &destination)),
    );
    let problem = stage.ask(&["check"]).json()["problems"][0].clone();
    assert!(
        problem["message"].as_str().is_some_and(|said| said.contains("`later`")),
        "{problem}"
    );
    stage.assert_whole();
}

fn routes_text(late: &str, destination: &Destination) -> String {
    format!("{}{}", cashback("cash", late), books("books", destination))
}
