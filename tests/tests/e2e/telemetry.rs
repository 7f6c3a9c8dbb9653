//! O7: what a host says of itself to Prometheus, to machines that route and restart, and to whoever is woken at night.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, signer};
use tollgate_tests::json::{holds, list, text};
use tollgate_tests::root;
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, wait_until};

/// Every name of a metric in a text: of the host's own, and those that a process has.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("tollgate_") || word.starts_with("process_"))
        .collect()
}

/// The metrics that an answer has, by the names that its series go by.
fn answered(stage: &Stage) -> BTreeSet<String> {
    let answer = stage.operator_get("/metrics");
    assert_eq!(answer.status, 200);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .flat_map(|(name, kind)| match kind {
            "histogram" => ["", "_bucket", "_count", "_sum"]
                .map(|end| format!("{name}{end}"))
                .to_vec(),
            _ => vec![name.to_owned()],
        })
        .collect()
}

#[test]
fn o7_what_alerts_and_pages_ask_for_is_in_the_answer_from_the_start() {
    let destination = Destination::start();
    let stage = Setup::to_books(&destination).start();
    let answered = answered(&stage);
    for file in [
        "ops/alerts.yml",
        "ops/dashboard.json",
        "docs/operate.md",
        "docs/operations.md",
    ] {
        let text = fs::read_to_string(root().join(file)).expect(file);
        let asked = metrics_in(&text);
        assert!(asked.len() > 10, "{file}: {asked:?}");
        for name in asked {
            assert!(
                answered.contains(name),
                "{file} speaks of {name}, which no host has: {answered:?}"
            );
        }
    }
    // A rate over a counter that begins with one shows nothing of it: each is there before anything happens.
    let answer = stage.operator_get("/metrics");
    let all = String::from_utf8_lossy(&answer.body).into_owned();
    for series in [
        "tollgate_intake_total{result=\"store-unavailable\"}",
        "tollgate_source_events_total{tenant=\"acme\",source=\"shop\",result=\"refused\"}",
        "tollgate_source_events_total{tenant=\"acme\",source=\"orders\",result=\"accepted\"}",
        "tollgate_jobs_settled_total{tenant=\"acme\",route=\"cashback\",end=\"dead\"}",
        "tollgate_run_faults_total{tenant=\"acme\",route=\"cashback\",fault=\"trap\"}",
        "tollgate_run_duration_seconds_count{tenant=\"acme\",route=\"cashback\"}",
        "tollgate_delivery_attempts_total{tenant=\"acme\",destination=\"books\",result=\"retry\"}",
        "tollgate_breaker_open{tenant=\"acme\",destination=\"books\"}",
        "tollgate_breaker_opened_total{tenant=\"acme\",destination=\"books\"}",
        "tollgate_admit_duration_seconds_count",
    ] {
        assert!(all.contains(&format!("\n{series} 0\n")), "{series}: {all}");
    }
}

#[test]
fn o7_each_step_is_measured_and_counted_where_it_happens() {
    let destination = Destination::start();
    destination.script([Reply::Status(503), Reply::Status(204), Reply::Status(410)]);
    let stage = Setup::to_books(&destination).start();
    for number in 1..=2 {
        assert_eq!(stage.redeem(number).status, 202);
        stage.quiet();
    }
    assert_eq!(
        stage
            .post("shop", &signer("shop").sign("", plain("note", "evt_9")).tampered())
            .status,
        401
    );
    for (series, count) in [
        ("tollgate_admit_duration_seconds_count", 2),
        ("tollgate_claim_wait_seconds_count", 2),
        ("tollgate_claim_wait_seconds_bucket{le=\"60\"}", 2),
        (
            "tollgate_run_duration_seconds_count{tenant=\"acme\",route=\"cashback\"}",
            2,
        ),
        ("tollgate_settle_duration_seconds_count", 2),
        (
            "tollgate_jobs_settled_total{tenant=\"acme\",route=\"cashback\",end=\"done\"}",
            2,
        ),
        (
            "tollgate_delivery_duration_seconds_count{tenant=\"acme\",destination=\"books\"}",
            3,
        ),
        (
            "tollgate_delivery_attempts_total{tenant=\"acme\",destination=\"books\",result=\"retry\"}",
            1,
        ),
        (
            "tollgate_delivery_attempts_total{tenant=\"acme\",destination=\"books\",result=\"delivered\"}",
            1,
        ),
        (
            "tollgate_delivery_attempts_total{tenant=\"acme\",destination=\"books\",result=\"dead\"}",
            1,
        ),
        (
            "tollgate_source_events_total{tenant=\"acme\",source=\"shop\",result=\"accepted\"}",
            2,
        ),
        (
            "tollgate_source_events_total{tenant=\"acme\",source=\"shop\",result=\"refused\"}",
            1,
        ),
        ("tollgate_dead_letters_open", 1),
        ("tollgate_outbox_oldest_waiting_seconds", 0),
    ] {
        wait_until(series, || (stage.metric(series) == count).then_some(()));
    }
}

#[test]
fn o7_the_oldest_that_waits_shows_its_age_while_somebody_works_on_it() {
    let destination = Destination::start();
    // Slow enough to be looked at.
    destination.otherwise(Reply::After(Duration::from_secs(5), 204));
    let stage = Setup::to_books(&destination).start();
    assert_eq!(stage.redeem(1).status, 202);
    let age = || stage.metric("tollgate_outbox_oldest_waiting_seconds");
    wait_until("it has waited for two seconds", || (age() >= 2).then_some(()));
    let status = stage.operator_get("/v1/status").json();
    assert!(status["oldest_delivery_s"].as_u64() >= Some(2), "{status}");
    assert_eq!(status["oldest_job_s"], Value::Null);
    stage.quiet();
    assert_eq!(age(), 0);
}

#[test]
fn o7_a_host_is_ready_once_its_plugins_are_loaded_and_says_what_needs_a_person() {
    let destination = Destination::start();
    destination.otherwise(Reply::Status(410));
    let rest = format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination));
    let stage = Setup::acme(&rest).tenant("globex", SOURCES).plugin("cashback").start();
    // Who asks needs no token, and learns nothing of anybody's.
    let ready = wait_until("the plugins are loaded", || {
        let answer = stage.ask_as("", "GET", "/readyz", b"");
        (answer.status == 200).then_some(answer)
    });
    let said = String::from_utf8_lossy(&ready.body).into_owned();
    assert_eq!(
        said,
        "store: ok: it answers\nplugins: ok: they are loaded\nwork: ok: it is claimed\nprocess: ok: it runs\n"
    );
    assert_eq!(stage.metric("tollgate_ready"), 1);

    assert_eq!(stage.redeem(1).status, 202);
    stage.quiet();
    let ran = stage.ask(&["status"]);
    let status = ran.json();
    assert_eq!(ran.code, 0, "{status}");
    holds(
        &status,
        &json!({
            "ready": true,
            "configured": { "tenants": 2, "routes": 1, "destinations": 1 },
            "store": { "kind": "local" },
            "counts": { "receipts": 1, "dead_letters_open": 1 },
        }),
    );
    let attention = list(&status["attention"]);
    let dead = attention.iter().find(|one| one["section"] == "TollgateDeadLetters");
    holds(
        dead.expect("the dead letter is among what needs a person"),
        &json!({ "count": 1, "first": "tollgate dlq list" }),
    );
    let page = fs::read_to_string(root().join("docs/operate.md")).expect("docs/operate.md");
    for one in &attention {
        let heading = format!("\n## {}\n", text(one, "section"));
        assert!(page.contains(&heading), "{heading} is not in docs/operate.md");
    }

    // It is the whole host's, and no tenant's.
    let of_globex = json!({ "name": "eve", "role": "tenant-admin", "tenant": "globex" });
    let token = stage.operator_post("/v1/tokens", &of_globex.to_string()).json()["token"].clone();
    let token = token.as_str().expect("a token");
    for path in ["/v1/status", "/metrics"] {
        assert_eq!(stage.ask_as(token, "GET", path, b"").status, 403, "{path}");
    }
}

#[test]
fn o7_lines_about_one_thing_carry_the_ids_that_a_trace_is_found_by() {
    let destination = Destination::start();
    destination.otherwise(Reply::Status(410));
    let rest = format!(
        "{CASHBACK_TO_BOOKS}{}[routes.bad]\nplugin = \"panic\"\ntypes = [\"note\"]\n",
        books("books", &destination)
    );
    let stage = Setup::acme(&rest).plugin("cashback").hostile("panic").start();
    let paid = stage.redeem(1).receipt();
    let note = stage
        .post("shop", &signer("shop").sign("", plain("note", "evt_9")))
        .receipt();
    for (about, receipt, ids, names) in [
        (
            "delivery given up",
            &paid,
            &["receipt", "delivery"][..],
            json!({ "tenant": "acme", "destination": "books" }),
        ),
        (
            "a run failed",
            &note,
            &["receipt", "job", "run"],
            json!({ "tenant": "acme", "source": "shop", "route": "bad", "fault": "trap" }),
        ),
    ] {
        let line = wait_until(about, || stage.log_with(about).into_iter().next());
        let line: Value = serde_json::from_str(&line).expect("a JSON line");
        holds(&line, &names);
        assert_eq!(text(&line, "receipt"), receipt, "{line}");
        for id in ids {
            let trace = stage.trace(text(&line, id));
            assert_eq!(trace["receipt"]["id"], **receipt, "by {id}: {line}");
        }
    }
}
