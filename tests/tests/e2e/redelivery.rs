//! I6: a redelivery is recorded and has no second effect; the same id with other bytes is a conflict, kept and never merged.

use std::sync::Barrier;

use serde_json::{Value, json};
use tollgate_tests::client::{Client, request};
use tollgate_tests::events::{Message, Signer, any_event, redeemed, signer};
use tollgate_tests::json::holds;
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup};

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

#[test]
fn i6_a_redelivery_is_a_row_of_its_own_and_nothing_more() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let message = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let first = stage.post("shop", &message);
    assert_eq!(first.verdict(), (202, "accepted".to_owned()));
    stage.finished(&first.receipt());
    for _ in 0..3 {
        let again = stage.post("shop", &message);
        assert_eq!(again.verdict(), (200, "same".to_owned()));
        assert_eq!(again.receipt(), first.receipt());
    }
    let counts = stage.quiet();
    let trace = stage.trace("evt_1");
    let deliveries: Vec<_> = list(&trace["deliveries"])
        .iter()
        .map(|delivery| (delivery["number"].as_u64(), delivery["decision"].as_str()))
        .collect();
    assert_eq!(
        deliveries,
        [
            (Some(2), Some("same")),
            (Some(3), Some("same")),
            (Some(4), Some("same"))
        ]
    );
    assert_eq!(list(&trace["jobs"]).len(), 1);
    assert_eq!(list(&trace["jobs"][0]["runs"]).len(), 1);
    for (what, count) in [
        ("receipts", 1),
        ("redeliveries", 3),
        ("conflicts", 0),
        ("runs", 1),
        ("actions", 1),
    ] {
        assert_eq!(counts[what], count, "{what}");
    }
}

#[test]
fn i6_fifty_deliveries_at_once_are_one_event() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let message = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let bytes = request("POST", "/in/acme/shop", &message.headers, &message.body);
    let barrier = Barrier::new(50);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(stage.edge).expect("a connection");
                    barrier.wait();
                    client.send(&bytes).expect("a request");
                    client.answer().expect("an answer")
                })
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().expect("a sender"))
            .collect()
    });
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(202), with(200)), (1, 49));
    let receipt = answers[0].receipt();
    assert!(answers.iter().all(|answer| answer.receipt() == receipt));
    let counts = stage.quiet();
    for (what, count) in [("receipts", 1), ("redeliveries", 49), ("runs", 1), ("actions", 1)] {
        assert_eq!(counts[what], count, "{what}");
    }
    let trace = stage.trace(&receipt);
    let numbers: Vec<_> = list(&trace["deliveries"])
        .iter()
        .map(|delivery| delivery["number"].as_u64().expect("a number"))
        .collect();
    assert_eq!(
        numbers,
        (2..=17).collect::<Vec<_>>(),
        "the first ones are kept one by one"
    );
    assert_eq!(trace["redelivered"]["same"], 49, "and all are counted");
}

#[test]
fn i6_other_bytes_under_a_known_id_are_kept_flagged_and_change_nothing() {
    let tenant = format!("{SOURCES}{CASHBACK}").replace("[sources.orders]", "[sources.strict]\nprovider = \"generic-hmac\"\nconflict_status = 409\nsecrets = [{ id = \"shop-1\", value = { file = \"../secrets/shop\" } }]\n[sources.orders]");
    let stage = Setup::default().tenant("acme", &tenant).plugin("cashback").start();
    for (source, status) in [("shop", 202), ("strict", 409)] {
        let id = format!("evt_{source}");
        let first = stage.post(source, &signer("shop").sign("", redeemed(&id, &id, "success")));
        let before = stage.finished(&first.receipt());
        // Another amount under the same id, as a forger with a stolen secret or a careless provider would send it.
        let other = redeemed(&id, &id, "success").replace("500", "900");
        let conflict = stage.post(source, &signer("shop").sign("", other.clone()));
        assert_eq!(conflict.verdict(), (status, "conflict".to_owned()), "{source}");
        assert_eq!(conflict.receipt(), first.receipt(), "{source}");
        stage.quiet();
        let after = stage.trace(&first.receipt());
        assert_eq!(
            after["receipt"], before["receipt"],
            "{source}: the receipt is what it was"
        );
        assert_eq!(after["jobs"], before["jobs"], "{source}: and so is what became of it");
        let delivery = &after["deliveries"][0];
        assert_eq!(delivery["decision"], "conflict", "{source}");
        assert_ne!(delivery["body_digest"], after["receipt"]["body_digest"], "{source}");
        // The same conflict again is counted; the first event again is still the same.
        assert_eq!(
            stage.post(source, &signer("shop").sign("", other)).word(),
            "conflict",
            "{source}"
        );
        let same = stage.post(source, &signer("shop").sign("", redeemed(&id, &id, "success")));
        assert_eq!(same.verdict(), (200, "same".to_owned()), "{source}");
        let decisions: Vec<_> = list(&stage.trace(&first.receipt())["deliveries"])
            .iter()
            .map(|delivery| delivery["decision"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(decisions, ["conflict", "same"], "{source}");
        assert_eq!(stage.trace(&first.receipt())["deliveries"][0]["times"], 2, "{source}");
    }
    let counts = stage.counts();
    holds(&counts, &json!({ "conflicts": 4, "actions": 2 }));
    assert_eq!(stage.metric("tollgate_intake_total{result=\"conflict\"}"), 4);
}

#[test]
fn i6_the_same_id_elsewhere_is_another_event() {
    let stage = Setup::acme("").tenant("globex", SOURCES).start();
    let message = signer("shop").sign("", any_event("shop", "evt_1"));
    let mut receipts = Vec::new();
    for tenant in ["acme", "globex"] {
        let answer = stage
            .connect()
            .post(&format!("/in/{tenant}/shop"), &message)
            .expect("an answer");
        assert_eq!(answer.status, 202, "{tenant}");
        receipts.push(answer.receipt());
    }
    assert_ne!(receipts[0], receipts[1]);
    assert_eq!(stage.traces("evt_1").len(), 2);
    let mine = stage.ask(&["trace", "evt_1", "--tenant", "globex"]).json();
    assert_eq!(mine[0]["receipt"]["id"], receipts[1].as_str());
    assert_eq!(list(&mine).len(), 1);
}

#[test]
fn i10_suspected_replays_wait_for_a_person_or_for_nobody_as_their_source_says() {
    let source = |name: &str, replays: &str| {
        format!(
            "[sources.{name}]\nprovider = \"github\"\nsecrets = [{{ id = \"a\", value = {{ file = \"../secrets/a\" }} }}]\n{replays}\n"
        )
    };
    let sources = [
        source("waits", ""),
        source("holds", "replays = \"hold\""),
        source("answers", "replays = \"answer\""),
    ]
    .concat();
    let secret = "a-secret-of-repositories";
    let stage = Setup::default().secret("a", secret).tenant("acme", &sources).start();
    for name in ["waits", "holds", "answers"] {
        for (id, verdict) in [("1", (202, "accepted")), ("2", (202, "suspected-replay"))] {
            let mut message = Signer::new("github", secret).sign("unused", "{\"action\":\"created\"}");
            message
                .headers
                .retain(|(header, _)| header != "x-github-delivery" && header != "x-github-event");
            for (header, value) in [("x-github-delivery", id), ("x-github-event", "star")] {
                message.headers.push((header.to_owned(), value.to_owned()));
            }
            let answer = stage.post(name, &message);
            assert_eq!(answer.verdict(), (verdict.0, verdict.1.to_owned()), "{name}");
        }
    }
    let open = stage.ask(&["review", "--kind", "suspected-replay"]).json();
    let mut waiting: Vec<_> = list(&open)
        .iter()
        .map(|item| item["source"].as_str().unwrap_or_default().to_owned())
        .collect();
    waiting.sort();
    assert_eq!(waiting, ["holds", "waits"], "{open:#}");
    let metrics = String::from_utf8_lossy(&stage.operator_get("/metrics").body).into_owned();
    let is_open = |source: &str| {
        let labels = format!("tollgate_set_aside{{tenant=\"acme\",source=\"{source}\",kind=\"suspected-replay\"}} 1");
        metrics.contains(&labels)
    };
    assert_eq!(
        ["waits", "holds", "answers"].map(is_open),
        [true, true, false],
        "{metrics}"
    );
    assert_eq!(stage.counts()["suspected_replays"], 3, "each is counted");

    // What waits for nobody is still to be seen, and to be given effect.
    let traces = stage.traces("1");
    let trace = traces
        .iter()
        .find(|trace| trace["receipt"]["event"]["source"] == "answers" || trace["receipt"]["source"] == "answers");
    let delivery = &trace.expect("its trace")["deliveries"][0];
    assert_eq!(delivery["decision"], "suspected-replay");
    let answered = delivery["id"].as_str().expect("an id").to_owned();
    stage
        .ask(&["review", &answered, "--run", "--why", "it was another star"])
        .ok();
    assert_eq!(stage.counts()["receipts"], 4);
    stage.assert_whole();
}

/// Ids and types of some providers are in headers that nobody signs: one captured request is one receipt, under whatever it is sent.
#[test]
fn i10_one_capture_is_one_receipt_and_its_other_names_are_suspected_replays() {
    let sources = "[sources.repos]\nprovider = \"github\"\nsecrets = [{ id = \"a\", value = { file = \"../secrets/a\" } }]\n\
        [sources.store]\nprovider = \"shopify\"\nsecrets = [{ id = \"a\", value = { file = \"../secrets/a\" } }]\n";
    let secret = "a-secret-of-repositories";
    let stage = Setup::default().secret("a", secret).tenant("acme", sources).start();
    let of = |provider: &str, body: &str, id: (&str, &str), event_type: (&str, &str)| {
        let mut message: Message = Signer::new(provider, secret).sign("unused", body);
        message.headers.retain(|(name, _)| name != id.0 && name != event_type.0);
        for (name, value) in [id, event_type] {
            message.headers.push((name.to_owned(), value.to_owned()));
        }
        message
    };
    for (source, provider, id, event_type, types) in [
        (
            "repos",
            "github",
            "x-github-delivery",
            "x-github-event",
            ["star", "release"],
        ),
        (
            "store",
            "shopify",
            "x-shopify-webhook-id",
            "x-shopify-topic",
            ["customers/create", "customers/update"],
        ),
    ] {
        let body = format!("{{\"action\":\"created\",\"id\":1,\"of\":\"{provider}\"}}");
        let (one, two) = (format!("{source}-1"), format!("{source}-2"));
        let send = |name: &str, event_type_is: &str, body: &str| {
            stage.post(source, &of(provider, body, (id, name), (event_type, event_type_is)))
        };
        let first = send(&one, types[0], &body);
        assert_eq!(first.verdict(), (202, "accepted".to_owned()), "{provider}");
        assert_eq!(send(&one, types[0], &body).verdict(), (200, "same".to_owned()));
        for (name, event_type) in [(&two, types[0]), (&one, types[1])] {
            let again = send(name, event_type, &body);
            assert_eq!(
                again.verdict(),
                (202, "suspected-replay".to_owned()),
                "{provider}: {name} {event_type}"
            );
            assert_eq!(again.receipt(), first.receipt());
        }
        // Another body under the id is another fact: nothing is lost to a conflict.
        let other = send(&one, types[0], &body.replace(":1", ":2"));
        assert_eq!(other.verdict(), (202, "accepted".to_owned()), "{provider}");
        assert_ne!(other.receipt(), first.receipt());

        let trace = stage.trace(&first.receipt());
        let decisions: Vec<_> = list(&trace["deliveries"])
            .iter()
            .map(|delivery| delivery["decision"].as_str().expect("a word"))
            .collect();
        assert_eq!(
            decisions,
            ["same", "suspected-replay", "suspected-replay"],
            "{provider}"
        );
        let said = stage.log_with("suspected-replay");
        assert!(said.iter().any(|line| line.contains(source)), "{said:?}");
    }
    let counts = stage.counts();
    holds(&counts, &json!({ "receipts": 4, "conflicts": 0 }));
    assert_eq!(counts["suspected_replays"], 4);
    let metrics = String::from_utf8_lossy(&stage.operator_get("/metrics").body).into_owned();
    for source in ["repos", "store"] {
        let line = format!(
            "tollgate_source_set_aside_total{{tenant=\"acme\",source=\"{source}\",cause=\"suspected-replay\"}} 2"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}
