//! T3, T4: what comes late is judged by its route and its lifecycle, and is never silently without effect.

use serde_json::{Value, json};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::Signer;
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{Setup, Stage, books};

const PROFILE: &str = include_str!("orders.toml");
const SECRET: &str = "secret-of-the-shop-77";
const PARTNER: &str = "secret-of-a-partner-78";

fn source() -> &'static str {
    "[sources.shop]\nprofile = { file = \"profiles/orders.toml\" }\n\
     secrets = [{ id = \"a\", value = { file = \"../secrets/shop\" } }]\n"
}

/// A tenant with the source `shop` of orders, and what else is in `rest`.
fn orders(rest: &str) -> Setup {
    let source = source();
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
    send_as(stage, "shop", order, status).0
}

/// The receipt of an order's event by this source, and what became of it.
fn send_as(stage: &Stage, source: &str, order: &str, status: &str) -> (String, String) {
    let body = json!({
        "id": format!("{order}-{status}"), "type": format!("order.{status}"), "order": order, "status": status,
        "amount": 10000, "currency": "USD", "customer": "c",
    });
    let secret = if source == "partner" { PARTNER } else { SECRET };
    let answer = stage.post(source, &Signer::of_file(PROFILE, secret).sign("", body.to_string()));
    let became = answer.json()["status"].as_str().unwrap_or_default().to_owned();
    (answer.receipt(), became)
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
    holds(
        &held[0],
        &json!({ "kind": "held-job", "route": "cash", "reason": "it came late: its subject was already `refunded`" }),
    );
    let job = held[0]["id"].as_str().unwrap_or_default().to_owned();
    stage.ask(&["review", &job, "--run", "--why", "it was paid again"]).ok();
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
    let source = source();
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
    says(text(&problem, "message"), &["`later`"]);
    stage.assert_whole();
}

fn routes_text(late: &str, destination: &Destination) -> String {
    format!("{}{}", cashback("cash", late), books("books", destination))
}

/// A partner with a secret of its own says what it likes of the shop's orders: nothing of the shop's is stopped by it.
#[test]
fn t3_a_source_moves_its_own_subjects_only() {
    let destination = Destination::start();
    let partner = "[sources.partner]\nprofile = { file = \"profiles/orders.toml\" }\n\
                   secrets = [{ id = \"a\", value = { file = \"../secrets/partner\" } }]\n";
    let route = cashback("cash", "sources = [\"shop\"]");
    let rest = format!("{partner}{route}{}", books("books", &destination));
    let stage = started(orders(&rest).secret("partner", PARTNER));
    assert_eq!(send_as(&stage, "partner", "a", "canceled").1, "accepted");
    assert_eq!(send_as(&stage, "shop", "a", "paid").1, "accepted");
    destination.wait_for(1);

    // Sources that share the family mean one order, if the tenant says so.
    stage.write(
        "tenants/acme.toml",
        &format!(
            "{}{rest}[families.order]\nshared_by = [\"shop\", \"partner\"]\n",
            source()
        ),
    );
    stage.reload();
    assert_eq!(send_as(&stage, "partner", "b", "canceled").1, "accepted");
    let (receipt, became) = send_as(&stage, "shop", "b", "paid");
    assert_eq!(became, "held");
    let map = ["review", receipt.as_str(), "--map", "paid"];
    assert_eq!(stage.ask(&map).code, 1, "what the partner said stands against it");
    assert_eq!(
        stage.ask(&[&map[..], &["--set-right"]].concat()).code,
        2,
        "nobody says why"
    );
    stage
        .ask(&[&map[..], &["--set-right", "--why", "the partner took it back"]].concat())
        .ok();
    destination.wait_for(2);
    stage.quiet();
    assert_eq!(arrived(&destination), ["cashback:a", "cashback:b"]);
    let history = stage.trace(&receipt)["history"].to_string();
    says(&history, &["set right from canceled to paid", "took it back"]);

    stage.write(
        "tenants/acme.toml",
        &format!(
            "{}{rest}[families.ordre]\nshared_by = [\"shop\", \"nobody\"]\n",
            source()
        ),
    );
    let problems = stage.ask(&["check"]).json()["problems"].to_string();
    says(&problems, &["`ordre`", "`nobody`"]);
    stage.assert_whole();
}

/// What was credited for an order is taken back with it: in part, once, and never more than was credited; also when the refund came first.
#[test]
fn t2_refunds_take_cashback_back() {
    let destination = Destination::start();
    let route = "[routes.cash]\nplugin = \"cashback\"\ndestinations = [\"books\"]\n\
                 grants = [{ kind = \"credit\", amount_max = 100000, currencies = [\"USD\"] },\n\
                 { kind = \"debit\", amount_max = 100000, currencies = [\"USD\"] }]\n\
                 [routes.cash.config]\nrate_bps = 500\nstatuses = [\"paid\"]\n";
    let stage = started(orders(&format!("{route}{}", books("books", &destination))));
    let send = |id: &str, order: &str, status: &str, amount: i64| {
        let body = json!({
            "id": id, "type": format!("order.{status}"), "order": order, "status": status, "amount": amount, "currency": "USD",
            "customer": "c",
        });
        let message = Signer::of_file(PROFILE, SECRET).sign("", body.to_string());
        stage.post("shop", &message)
    };
    send("1", "a", "paid", 10_000);
    send("2", "a", "partially_refunded", 2_500);
    send("2", "a", "partially_refunded", 2_500);
    send("3", "a", "refunded", 10_000);
    // The refund came first: three quarters are left to be credited.
    send("4", "b", "partially_refunded", 2_500);
    send("5", "b", "paid", 10_000);
    destination.wait_for(4);
    stage.quiet();
    let mut ledger: Vec<String> = destination
        .arrivals()
        .iter()
        .map(|arrival| {
            let action = arrival.json();
            let kind = if action.to_string().contains("\"debit\"") {
                "debit"
            } else {
                "credit"
            };
            format!(
                "{} {kind} {}",
                action["operation_key"].as_str().unwrap_or_default(),
                amount_in(&action)
            )
        })
        .collect();
    ledger.sort();
    assert_eq!(
        ledger,
        [
            "cashback-back:a/2 debit 125",
            "cashback-back:a/whole debit 375",
            "cashback:a credit 500",
            "cashback:b credit 375"
        ]
    );
    stage.assert_whole();
}

/// The first `minor_units` in a delivered action, wherever it stands.
fn amount_in(action: &Value) -> i64 {
    match action {
        Value::Object(fields) => match fields.get("minor_units").and_then(Value::as_i64) {
            Some(amount) => amount,
            None => fields.values().map(amount_in).find(|amount| *amount != 0).unwrap_or(0),
        },
        Value::Array(items) => items.iter().map(amount_in).find(|amount| *amount != 0).unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// What a plugin keeps is shown, exported, and changed by whoever says why, if nobody changed it since; the next run sees it.
#[test]
fn o1_a_plugins_state_is_seen_and_changed_by_hand() {
    let rest = cashback("cash", "").replace("destinations = [\"books\"]\n", "");
    let stage = started(orders(&rest));
    send(&stage, "a", "paid");
    stage.quiet();
    let state = |arguments: &[&str]| stage.ask(&[&["plugin", "state"], arguments].concat());
    let place = ["--tenant", "acme", "cashback"];
    let listed = state(&[&["list"][..], &place].concat()).json();
    assert_eq!(
        (&listed[0]["key"], list(&listed).len()),
        (&json!("customer/c"), 1),
        "{listed}"
    );
    let show = || state(&[&["show"][..], &place, &["customer/c"]].concat()).json();
    let shown = show();
    let (version, value) = (
        shown["state"]["version"].to_string(),
        shown["state"]["value"]["text"].clone(),
    );
    let kept: Value = serde_json::from_str(value.as_str().unwrap_or_default()).expect("JSON");
    assert_eq!(kept["operations"][0]["minor_units"], 500);
    let exported = state(&[&["export"][..], &place].concat());
    assert_eq!(exported.stdout.lines().count(), 1);

    // A newer version's value that nobody can read holds the next event; a person mends it, and says why.
    stage.write("value.json", "no JSON");
    let file = stage.path("value.json").display().to_string();
    let set = |version: &str, more: &[&str]| {
        let version = format!("--version={version}");
        let change = ["customer/c", &version, "--value", &file];
        state(&[&["set"][..], &place, &change, more].concat())
    };
    assert_eq!(set(&version, &[]).code, 2, "nobody says why");
    let why = ["--why", "to try it"];
    assert_eq!(set("7", &why).code, 1, "it is not what was seen");
    assert_eq!(set(&version, &["--why", "to try it", "--dry-run"]).code, 0);
    assert_eq!(show()["state"]["value"]["text"], value, "a dry run changes nothing");
    assert_eq!(set(&version, &why).code, 0);
    send(&stage, "b", "paid");
    stage.quiet();
    assert_eq!(stage.counts()["held_jobs"], 1);

    let broken = show()["state"]["version"].to_string();
    stage.write(
        "value.json",
        &value
            .as_str()
            .unwrap_or_default()
            .replacen('{', "{\"of_a_newer_version\":1,", 1),
    );
    assert_eq!(set(&broken, &["--why", "as it was before"]).code, 0);
    let held = list(&stage.ask(&["review"]).json());
    let job = held[0]["id"].as_str().unwrap_or_default().to_owned();
    stage.ask(&["review", &job, "--run"]).ok();
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 2);
    let after = show();
    says(text(&after["state"]["value"], "text"), &["of_a_newer_version"]);
    assert_eq!(
        (list(&after["edits"]).len(), &after["edits"][0]["why"]),
        (2, &json!("as it was before"))
    );

    let version = format!("--version={}", after["state"]["version"]);
    let delete = ["customer/c", &version, "--why", "she asked to be forgotten"];
    assert_eq!(state(&[&["delete"][..], &place, &delete].concat()).code, 0);
    assert_eq!(state(&[&["show"][..], &place, &["customer/c"]].concat()).code, 1);
    stage.assert_whole();
}
