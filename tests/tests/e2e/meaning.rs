//! T1–T3, T6, T7: what events mean, in whatever order they come, and how it can be found again.

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{payment, redeemed, redeemed_by, redemption, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK, Setup, Stage, books};

fn only_action(trace: &Value) -> Value {
    let runs: Vec<Value> = list(&trace["jobs"]).iter().flat_map(|job| list(&job["runs"])).collect();
    let actions: Vec<Value> = runs.iter().flat_map(|run| list(&run["actions"])).collect();
    assert_eq!(actions.len(), 1, "{trace:#}");
    actions.into_iter().next().unwrap_or_default()
}

#[test]
fn t1_t2_two_events_of_one_operation_have_one_effect() {
    let destination = Destination::start();
    let stage = Setup::to_books(&destination).start();
    let post = |event: &str, body: String| {
        let answer = stage.post("shop", &signer("shop").sign("", body));
        assert_eq!(answer.verdict(), (202, "accepted".to_owned()), "{event}");
        only_action(&stage.finished(&answer.receipt()))
    };
    let first = post("evt_1", redeemed("evt_1", "red_1", "success"));
    let second = post("evt_2", redeemed("evt_2", "red_1", "success"));
    assert_eq!(first["operation_key"], "cashback:red_1");
    assert_eq!(
        (&first["verdict"], &second["verdict"]),
        (&json!("recorded"), &json!("already_done"))
    );
    assert_eq!(first["id"], second["id"], "the second points to the first's action");
    // The same operation for another customer is a contradiction: kept for review, no effect.
    let third = post("evt_3", redeemed_by("evt_3", "red_1", "success", "user_mallory"));
    assert_eq!(third["verdict"], "conflict");
    assert_eq!(list(&third["deliveries"]).len(), 0);
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 1);
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0].json()["action"]["account"], "user_678");
}

#[test]
fn t2_p7_a_gift_card_is_issued_once_and_no_more_than_the_recipient_may_have() {
    let destination = Destination::start();
    let rest = "[routes.cards]\nplugin = \"gift-card\"\ndestinations = [\"books\"]\n\
                grants = [{ kind = \"issue-gift-card\", amount_max = 1000, currencies = [\"INR\"] }]\n\
                [routes.cards.config]\ncurrency = \"INR\"\nrecipient_cards_max = 2\n\
                cards = [{ value_minor_units = 250, template = \"small\" }, { minimum_minor_units = 501, value_minor_units = 900, template = \"large\" }]\n";
    let stage = Setup::acme(&format!("{rest}{}", books("books", &destination)))
        .plugin("gift-card")
        .start();
    let post = |event: &str, operation: &str| {
        let answer = stage.post("shop", &signer("shop").sign("", redeemed(event, operation, "success")));
        stage.finished(&answer.receipt())
    };
    let first = only_action(&post("evt_1", "red_1"));
    assert_eq!(first["operation_key"], "gift-card:red_1");
    assert_eq!(only_action(&post("evt_2", "red_1"))["verdict"], "already_done");
    assert_eq!(only_action(&post("evt_3", "red_2"))["verdict"], "recorded");
    let third = post("evt_4", "red_3");
    assert_eq!(third["jobs"][0]["runs"][0]["outcome"], "refused", "{third:#}");
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 2);
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 2);
    let action = &arrivals[0].json()["action"];
    holds(action, &json!({ "kind": "issue-gift-card", "template": "small" }));
    assert_eq!(action["recipient"], "user_678");
    assert_eq!(action["amount"], json!({ "minor_units": 250, "currency": "INR" }));
}

/// Every order of `items`.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    (0..items.len())
        .flat_map(|at| {
            let mut rest = items.to_vec();
            let first = rest.remove(at);
            orders(&rest).into_iter().map(move |mut order| {
                order.insert(0, first.clone());
                order
            })
        })
        .collect()
}

#[test]
fn t3_no_order_of_arrival_moves_a_redemption_back() {
    let stage = Setup::acme("[routes.stock]\nplugin = \"inventory\"\ngrants = [{ kind = \"reserve-stock\", quantity_max = 9 }, { kind = \"release-stock\", quantity_max = 9 }]")
        .plugin("inventory")
        .start();
    let rank = |state: &str| match state {
        "CREATED" => 0,
        "PENDING" => 1,
        _ => 2,
    };
    let mut client = stage.connect();
    let mut sent = Vec::new();
    for (number, order) in orders(&["CREATED", "PENDING", "COMPLETED", "ROLLEDBACK"])
        .iter()
        .enumerate()
    {
        let mut current: Option<&str> = None;
        for state in order {
            // Told again here in other words: up is applied, down is late, and two ends contradict each other.
            let expect = match current {
                None => "accepted",
                Some(known) if rank(state) > rank(known) => "accepted",
                Some(known) if rank(state) < rank(known) => "superseded",
                Some(_) => "held",
            };
            if expect == "accepted" {
                current = Some(state);
            }
            let event = format!("evt_{number}_{state}");
            let subject = format!("rewr_{number}");
            let body = redemption(&event, &subject, &format!("r_{number}"), state);
            let answer = client
                .post("/in/acme/rewards", &signer("rewards").sign("", body))
                .expect("an answer");
            assert_eq!(answer.verdict(), (202, expect.to_owned()), "{order:?}: {state}");
            sent.push((event, expect, current.map(str::to_ascii_lowercase)));
        }
    }
    stage.quiet();
    for (number, _) in orders(&[1, 2, 3, 4]).iter().enumerate() {
        let traces = stage.operator_get(&format!("/v1/trace?id=rewr_{number}")).json();
        let traces = list(&traces);
        assert_eq!(traces.len(), 4);
        for trace in traces {
            let receipt = &trace["receipt"];
            let (_, expect, current) = sent
                .iter()
                .find(|(event, ..)| receipt["event_id"] == event.as_str())
                .expect("a sent event");
            assert_eq!(receipt["disposition"], *expect, "{receipt}");
            let jobs = list(&trace["jobs"]).len();
            assert_eq!(
                jobs,
                usize::from(*expect == "accepted"),
                "only what is news makes work: {receipt}"
            );
            match *expect {
                "superseded" => assert_eq!(receipt["current"].as_str(), current.as_deref(), "{receipt}"),
                "held" => assert!(
                    receipt["reason"].as_str().is_some_and(|why| !why.is_empty()),
                    "{receipt}"
                ),
                _ => {}
            }
        }
    }
    let counts = stage.counts();
    assert_eq!(counts["receipts"], 96);
    assert_eq!(counts["held"], 24, "in each order the second end contradicts the first");
    assert_eq!(counts["dead_letters_open"], 0);
}

#[test]
fn t3_a_status_that_nobody_mapped_is_held_and_never_dropped() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let held = |source: &str, body: String| {
        let answer = stage.post(source, &signer(source).sign("", body));
        assert_eq!(answer.verdict(), (202, "held".to_owned()), "{source}");
        let trace = stage.trace(&answer.receipt());
        assert_eq!(list(&trace["jobs"]).len(), 0);
        trace["receipt"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    let reason = held("shop", redeemed("evt_1", "red_1", "teleported"));
    assert_eq!(
        reason,
        "status `teleported` is not mapped into the lifecycle `reward-redemption`"
    );
    held(
        "payments",
        payment("evt_2", "pi_1", "payment_intent.new_thing", "contemplating"),
    );
    held("rewards", redemption("evt_3", "rewr_1", "r_1", "EVAPORATED"));
    let without = redeemed("evt_4", "red_4", "success").replace("\"status\":\"success\"", "\"other\":1");
    let reason = held("shop", without);
    assert_eq!(
        reason,
        "no status found, but the lifecycle `reward-redemption` needs one"
    );
    assert_eq!(stage.metric("tollgate_held"), 4);
    assert_eq!(stage.metric("tollgate_intake_total{result=\"held\"}"), 4);
    // A held event does not stand in the way of the next about its subject.
    let answer = stage.post("shop", &signer("shop").sign("", redeemed("evt_5", "red_1", "success")));
    assert_eq!(answer.verdict(), (202, "accepted".to_owned()));
}

#[test]
fn t6_history_is_appended_and_the_first_receipt_stays_what_it_was() {
    let destination = Destination::start();
    destination.script([Reply::Status(500)]);
    let mut stage = Setup::to_books(&destination).start();
    let message = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let receipt = stage.post("shop", &message).receipt();
    stage.quiet();
    let before = stage.trace(&receipt);
    let proof = &before["receipt"]["proof"];
    holds(
        proof,
        &json!({ "provider": "generic-hmac", "scheme": "hmac-sha256", "key_id": "shop-1", "profile_version": 1 }),
    );
    assert_eq!(before["receipt"]["lifecycle_version"], 1);
    let run = &before["jobs"][0]["runs"][0];
    for field in ["digest", "config_digest", "runtime", "started_at", "outcome", "fuel"] {
        assert!(!run[field].is_null(), "a run keeps its {field}: {run}");
    }
    let attempts = list(&only_action(&before)["deliveries"][0]["attempts"]);
    let statuses: Vec<_> = attempts.iter().map(|attempt| attempt["http_status"].clone()).collect();
    assert_eq!(
        statuses,
        [json!(500), json!(204)],
        "the failed attempt stays in the history"
    );

    // A redelivery, a conflict, a replay and a restart add to it and change nothing that was there.
    stage.post("shop", &message);
    stage.post("shop", &signer("shop").sign("", redeemed("evt_1", "red_2", "success")));
    stage.ask(&["replay", &receipt]).ok();
    stage.quiet();
    stage.stop();
    stage.start();
    let after = stage.trace(&receipt);
    assert_eq!(after["receipt"], before["receipt"]);
    assert_eq!(list(&after["deliveries"]).len(), 2);
    assert_eq!(after["jobs"][0]["runs"][0], *run, "the first run stays as it was");
    assert_eq!(list(&after["jobs"][0]["runs"]).len(), 2);
    assert_eq!(list(&after["history"]).len(), 1, "{}", after["history"]);
    stage.assert_whole();
}

#[test]
fn t7_every_identifier_leads_to_the_same_receipt() {
    let destination = Destination::start();
    destination.script([Reply::Status(410)]);
    let stage = Setup::to_books(&destination).start();
    // Others, so that finding any receipt is not enough.
    let answer = stage.redeem(1);
    stage.quiet();
    for number in 2..6 {
        stage.redeem(number);
    }
    stage.quiet();
    let receipt = answer.receipt();
    let trace = stage.trace(&receipt);
    let dead = stage.ask(&["dlq", "list"]).json();
    let text = |value: &Value| value.as_str().expect("an identifier").to_owned();
    let action = only_action(&trace);
    let identifiers = [
        "evt_1".to_owned(),
        "red_1".to_owned(),
        "cashback:red_1".to_owned(),
        receipt.clone(),
        text(&trace["jobs"][0]["id"]),
        text(&trace["jobs"][0]["runs"][0]["id"]),
        text(&action["id"]),
        text(&action["deliveries"][0]["id"]),
        text(&dead[0]["id"]),
    ];
    for identifier in &identifiers {
        assert_eq!(stage.trace(identifier), trace, "by {identifier}");
    }
    for nothing in ["evt_unknown", "job_999", "rcpt_00000000000000000000000000000000"] {
        let ran = stage.ask(&["trace", nothing]);
        assert_eq!((ran.code, ran.json()), (1, json!([])), "{nothing}");
    }
    // Without an identifier: the newest receipts.
    let newest = stage.ask(&["trace", "--limit", "2"]).json();
    let ids: Vec<_> = list(&newest)
        .iter()
        .map(|trace| text(&trace["receipt"]["event_id"]))
        .collect();
    assert_eq!(ids, ["evt_5", "evt_4"]);
    new_duplicate_or_replayed(&stage, &receipt);
}

/// A trace says whether an event was new, came again, or was replayed.
fn new_duplicate_or_replayed(stage: &Stage, receipt: &str) {
    let shape = |trace: &Value| {
        (
            list(&trace["deliveries"]).len(),
            trace["jobs"][0]["replays"].as_u64(),
            list(&trace["history"]).len(),
        )
    };
    assert_eq!(shape(&stage.trace(receipt)), (0, Some(0), 0), "new");
    stage.redeem(1);
    assert_eq!(shape(&stage.trace(receipt)), (1, Some(0), 0), "came again");
    stage.ask(&["replay", receipt]).ok();
    stage.quiet();
    assert_eq!(shape(&stage.trace(receipt)), (1, Some(1), 1), "replayed");
}

/// A Connect endpoint gets test events beside live ones: they are kept, and pay nobody.
#[test]
fn i8_a_test_event_under_a_live_source_is_held_and_moves_no_money() {
    const ROUTE: &str = "[routes.cashback]\nsources = [\"payments\", \"sandbox\"]\nplugin = \"cashback\"\n\
                         grants = [{ kind = \"credit\", amount_max = 5000, currencies = [\"USD\"] }]\n\
                         [routes.cashback.config]\nrate_bps = 1000\nstatuses = [\"captured\"]\n";
    let sandbox = "[sources.sandbox]\nprovider = \"stripe\"\naccept = [\"test\"]\n\
                   secrets = [{ id = \"payments-1\", value = { file = \"../secrets/payments\" } }]\n";
    let stage = Setup::acme(&format!("{sandbox}{ROUTE}")).plugin("cashback").start();
    let body = |id: &str, live: bool| {
        let text = payment(id, &format!("pi_{id}"), "payment_intent.succeeded", "succeeded");
        let mut event: Value = serde_json::from_str(&text).expect("an event");
        event["livemode"] = live.into();
        event.to_string()
    };
    let post = |source: &str, id: &str, live: bool| {
        let answer = stage.post(source, &signer("payments").sign("", body(id, live)));
        (answer.verdict().1, answer.receipt())
    };
    let (word, held) = post("payments", "evt_1", false);
    assert_eq!(word, "held");
    assert_eq!(post("sandbox", "evt_2", true).0, "held");
    let (live, tested) = (post("payments", "evt_3", true), post("sandbox", "evt_4", false));
    assert_eq!((live.0.as_str(), tested.0.as_str()), ("accepted", "accepted"));
    for receipt in [&live.1, &tested.1] {
        assert_eq!(only_action(&stage.finished(receipt))["verdict"], "recorded");
    }
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 2);
    let trace = stage.trace(&held);
    says(text(&trace["receipt"], "reason"), &["test event"]);
    let listed = stage.ask(&["review"]);
    assert!(listed.stdout.contains("accept"), "{listed:?}");
}

#[test]
fn i8_a_test_event_that_came_before_its_route_pays_nobody_when_it_is_routed_again() {
    let stage = Setup::acme("").plugin("cashback").start();
    let mut event: Value =
        serde_json::from_str(&payment("evt_1", "pi_1", "payment_intent.succeeded", "succeeded")).expect("an event");
    event["livemode"] = false.into();
    let answer = stage.post("payments", &signer("payments").sign("", event.to_string()));
    assert_eq!(answer.verdict().1, "accepted", "no route takes it");
    let sources = tollgate_tests::stage::SOURCES;
    stage.write(
        "tenants/acme.toml",
        &format!(
            "{sources}[routes.cashback]\nsources = [\"payments\"]\nplugin = \"cashback\"\n\
             grants = [{{ kind = \"credit\", amount_max = 5000, currencies = [\"USD\"] }}]\n\
             [routes.cashback.config]\nrate_bps = 1000\nstatuses = [\"captured\"]\n"
        ),
    );
    stage.reload();
    let routed = stage.ask(&["replay", "--routes", "--tenant", "acme"]);
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 0, "{routed:?}");
    assert!(
        stage.trace(&answer.receipt())["jobs"]
            .as_array()
            .is_some_and(Vec::is_empty),
        "{routed:?}"
    );
}
