//! P1–P5: work is leased and finished once, whatever dies; each consumer fails alone; what fails is tried again, and then told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK, Setup, Stage, block_on, wait_until};

fn post_plain(stage: &Stage, count: usize) -> Vec<String> {
    let mut client = stage.connect();
    (0..count)
        .map(|number| {
            let message = signer("shop").sign("", plain("note", &format!("evt_{number}")));
            let answer = client.post("/in/acme/shop", &message).expect("an answer");
            assert_eq!(answer.status, 202);
            answer.receipt()
        })
        .collect()
}

#[test]
fn p1_a_kill_in_the_middle_of_the_work_neither_loses_nor_doubles_it() {
    // A guest that counts: its runs get in each other's way, so there is always work when the host dies, and its state would
    // show an effect lost or doubled.
    let rest = "[routes.tally]\nplugin = \"counter\"\ngrants = [{ kind = \"flag\" }]\n";
    let mut stage = Setup::acme(rest)
        .hostile("counter")
        .worker("threads = 2\n[worker.retry]\nattempts_max = 50\nbase_ms = 20\ncap_ms = 100")
        .start();
    let mut receipts = Vec::new();
    let (mut waiting, mut leased) = (0, 0);
    for round in 0..4 {
        let mut client = stage.connect();
        for number in 0..30 {
            let message = signer("shop").sign("", plain("note", &format!("evt_{round}_{number}")));
            let answer = client.post("/in/acme/shop", &message).expect("an answer");
            assert_eq!(answer.status, 202);
            receipts.push(answer.receipt());
        }
        stage.kill();
        let jobs: Vec<Value> = receipts
            .iter()
            .flat_map(|receipt| list(&stage.trace(receipt)["jobs"]))
            .collect();
        waiting += jobs.iter().filter(|job| job["state"] != "done").count();
        leased += jobs.iter().filter(|job| job["state"] == "leased").count();
        stage.start();
    }
    assert!(
        waiting > 0 && leased > 0,
        "no kill met work on its way: {waiting} waiting, {leased} leased"
    );
    // What the dead process had leased is free at once: a lease would last 30 s.
    let start = Instant::now();
    let counts = stage.quiet();
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    holds(&counts, &json!({ "jobs_done": 120, "actions": 120 }));
    assert_eq!(tallies(&stage, &receipts), (1..=120).collect());
    stage.assert_whole();
}

/// What the counting guest counted, each receipt having exactly one recorded action.
fn tallies(stage: &Stage, receipts: &[String]) -> BTreeSet<u64> {
    let mut counts = BTreeSet::new();
    for receipt in receipts {
        let trace = stage.operator_get(&format!("/v1/trace?id={receipt}")).json();
        let runs = list(&trace[0]["jobs"][0]["runs"]);
        let actions: Vec<Value> = runs.iter().flat_map(|run| list(&run["actions"])).collect();
        assert_eq!(actions.len(), 1, "{trace:#}");
        assert_eq!(actions[0]["verdict"], "recorded");
        let count = actions[0]["action"]["reasons"][0]
            .as_str()
            .and_then(|text| text.parse().ok());
        counts.insert(count.unwrap_or(0));
    }
    counts
}

#[test]
fn p1_a_stop_finishes_what_runs_and_a_start_goes_on() {
    let mut stage = Setup::acme(CASHBACK).plugin("cashback").start();
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
    drop(client);
    assert_eq!(stage.stop(), Some(0), "SIGTERM ends it in order");
    stage.start();
    let counts = stage.quiet();
    holds(&counts, &json!({ "jobs_done": 40, "actions": 40, "runs": 40 }));
}

#[test]
fn p2_one_consumer_fails_and_the_others_do_not_notice() {
    let rest = format!(
        "{CASHBACK}[routes.broken]\nplugin = \"panic\"\ngrants = [{{ kind = \"flag\" }}]\n\
         [routes.later]\nplugin = \"retry\"\ngrants = [{{ kind = \"flag\" }}]\n"
    );
    let stage = Setup::acme(&rest)
        .plugin("cashback")
        .hostile("panic")
        .hostile("retry")
        .start();
    for number in 0..5 {
        let receipt = stage.redeem(number).receipt();
        let trace = wait_until("two of three routes are finished", || {
            let trace = stage.operator_get(&format!("/v1/trace?id={receipt}")).json();
            let state = |route: &str| {
                let jobs = list(&trace[0]["jobs"]);
                let job = jobs.iter().find(|job| job["route"] == route).cloned();
                job.unwrap_or_default()
            };
            let later = state("later");
            let tried = later["attempts"] != 0 && later["state"] != "leased";
            (state("cashback")["state"] == "done" && state("broken")["state"] == "dead" && tried)
                .then(|| (state("cashback"), state("broken"), later))
        });
        let (cashback, broken, later) = trace;
        assert_eq!(cashback["runs"][0]["actions"][0]["verdict"], "recorded");
        assert_eq!((&cashback["attempts"], &broken["attempts"]), (&json!(1), &json!(1)));
        assert_eq!(later["state"], "ready", "waits for its own time: {later}");
        says(text(&later, "reason"), &["not yet"]);
    }
    assert_eq!(stage.counts()["actions"], 5);
    assert_eq!(stage.counts()["dead_letters_open"], 5);
}

#[test]
fn p3_the_shipped_plugins_each_act_on_their_family() {
    let rest = format!(
        "{CASHBACK}\
         [routes.stock]\nsources = [\"rewards\"]\nplugin = \"inventory\"\n\
         grants = [{{ kind = \"reserve-stock\", quantity_max = 9 }}, {{ kind = \"release-stock\", quantity_max = 9 }}]\n\
         [routes.watch]\ntypes = [\"reward.redeemed\"]\nplugin = \"fraud\"\ngrants = [{{ kind = \"flag\" }}]\n\
         [routes.watch.config]\ncurrency = \"INR\"\n\
         rules = [{{ name = \"spend\", window_minutes = 60, amount_max_minor_units = 300, points = 60 }}]\n"
    );
    let stage = Setup::acme(&rest)
        .plugin("cashback")
        .plugin("inventory")
        .plugin("fraud")
        .start();
    let acted = |source: &str, body: String| -> Vec<(String, String)> {
        let receipt = stage.post(source, &signer(source).sign("", body)).receipt();
        let trace = stage.finished(&receipt);
        let mut actions: Vec<_> = list(&trace["jobs"])
            .iter()
            .flat_map(|job| list(&job["runs"]))
            .flat_map(|run| list(&run["actions"]))
            .map(|action| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&action["action"]["kind"]), text(&action["verdict"]))
            })
            .collect();
        actions.sort();
        actions
    };
    let recorded = |kinds: &[&str]| -> Vec<(String, String)> {
        kinds
            .iter()
            .map(|kind| ((*kind).to_owned(), "recorded".to_owned()))
            .collect()
    };
    assert_eq!(
        acted("shop", redeemed("evt_1", "red_1", "success")),
        recorded(&["credit", "flag"])
    );
    let redemption = |event: &str, state: &str| tollgate_tests::events::redemption(event, "rewr_1", "r_1", state);
    assert_eq!(
        acted("rewards", redemption("evt_2", "PENDING")),
        recorded(&["reserve-stock"])
    );
    assert_eq!(
        acted("rewards", redemption("evt_3", "ROLLEDBACK")),
        recorded(&["release-stock"])
    );
}

#[test]
fn p4_state_and_actions_are_committed_together_or_not_at_all() {
    // Runs beside each other that read and write one value: each commit must have seen the one before.
    let rest = "[routes.tally]\nplugin = \"counter\"\ngrants = [{ kind = \"flag\" }]\n";
    let stage = Setup::acme(rest)
        .hostile("counter")
        .worker("threads = 4\n[worker.retry]\nattempts_max = 50\nbase_ms = 20\ncap_ms = 200")
        .start();
    let receipts = post_plain(&stage, 60);
    stage.quiet();
    assert_eq!(tallies(&stage, &receipts), (1..=60).collect());
}

#[test]
fn p4_a_run_that_fails_leaves_no_state_behind() {
    // The guest writes `count = 1` and then traps; replayed as often as one likes, nothing of it stays.
    let rest = "[routes.trap]\nplugin = \"tally\"\ngrants = [{ kind = \"flag\" }]\n";
    let mut stage = Setup::acme(rest)
        .plugin_file("tally", &tollgate_tests::hostile_dir().join("state_then_trap.wasm"))
        .start();
    let receipt = stage
        .post("shop", &signer("shop").sign("", plain("note", "evt_1")))
        .receipt();
    let trace = stage.finished(&receipt);
    assert_eq!(trace["jobs"][0]["runs"][0]["outcome"], "trap");
    // The same plugin in a version that counts, on the same state: it must begin at 1.
    stage.stop();
    stage.offer("tally", &tollgate_tests::hostile_dir().join("counter.wasm"));
    stage.start();
    stage.ask(&["replay", &receipt]).ok();
    stage.quiet();
    let trace = stage.trace(&receipt);
    let runs = list(&trace["jobs"][0]["runs"]);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1]["actions"][0]["action"]["reasons"], json!(["1"]));
    assert_ne!(
        runs[0]["digest"], runs[1]["digest"],
        "each run says which plugin it was"
    );
}

#[test]
fn p5_what_may_pass_is_tried_again_and_what_cannot_is_told_at_once() {
    let rest = "[routes.late]\nplugin = \"spin\"\ngrants = [{ kind = \"flag\" }]\n\
                limits = { fuel = 100000000000, deadline_ms = 30 }\n\
                [routes.broken]\nplugin = \"panic\"\ngrants = [{ kind = \"flag\" }]\n";
    let stage = Setup::acme(rest)
        .hostile("spin")
        .hostile("panic")
        .worker("threads = 2\n[worker.limits]\nfuel = 100000000000\n[worker.retry]\nattempts_max = 3\nbase_ms = 20\ncap_ms = 100")
        .start();
    let receipt = stage
        .post("shop", &signer("shop").sign("", plain("note", "evt_1")))
        .receipt();
    let trace = stage.finished(&receipt);
    let jobs = list(&trace["jobs"]);
    let job = |route: &str| {
        jobs.iter()
            .find(|job| job["route"] == route)
            .cloned()
            .unwrap_or_default()
    };

    let late = job("late");
    holds(&late, &json!({ "state": "dead", "attempts": 3 }));
    let outcomes: Vec<_> = list(&late["runs"]).iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(
        outcomes,
        ["deadline", "deadline", "deadline"],
        "each try is in the history"
    );
    let reason = late["reason"].as_str().unwrap_or_default();
    assert!(
        reason.starts_with("deadline: ") && reason.ends_with("(gave up after 3 attempts)"),
        "{reason}"
    );

    // A pure function fails the same way again: trying is no help.
    let broken = job("broken");
    holds(&broken, &json!({ "state": "dead", "attempts": 1 }));
    assert!(
        broken["reason"].as_str().is_some_and(|why| why.starts_with("trap: ")),
        "{broken:#}"
    );

    let letters = list(&stage.ask(&["dlq", "list"]).json());
    assert_eq!(letters.len(), 2);
    for letter in letters {
        holds(&letter, &json!({ "work": "job", "receipt": receipt }));
        holds(&letter, &json!({ "event_id": "evt_1", "event_type": "note" }));
        let route = letter["route"].as_str().unwrap_or_default();
        assert_eq!(
            (&letter["attempts"], &letter["reason"]),
            (&job(route)["attempts"], &job(route)["reason"])
        );
    }
}

#[test]
fn p1_a_reader_beside_the_host_sees_what_is_committed() {
    use tollgate_store::Views as _;
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    stage.redeem(1);
    stage.quiet();
    let counts = block_on(stage.store().counts()).expect("counts");
    assert_eq!((counts.receipts, counts.jobs_done, counts.actions), (1, 1, 1));
}
