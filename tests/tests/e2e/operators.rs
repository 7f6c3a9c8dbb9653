//! O3, O9 and the command line: what an operator asks, replays, checks and sends.

use serde_json::json;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, signer};
use tollgate_tests::json::{holds, list, text};
use tollgate_tests::stage::{CASHBACK, Setup, Stage, tollgate_line};

/// A stage whose destination refuses everything for good, with `count` dead deliveries.
fn with_dead_letters(count: u32) -> (Stage, Destination) {
    let destination = Destination::start();
    destination.otherwise(Reply::Status(410));
    let stage = Setup::to_books(&destination).start();
    for number in 1..=count {
        assert_eq!(stage.redeem(number).status, 202);
        stage.quiet();
    }
    (stage, destination)
}

#[test]
fn o3_dead_letters_are_listed_filtered_and_shown() {
    let (stage, _destination) = with_dead_letters(3);
    let letters = list(&stage.ask(&["dlq", "list"]).json());
    let events: Vec<_> = letters.iter().map(|letter| letter["event_id"].clone()).collect();
    assert_eq!(events, ["evt_3", "evt_2", "evt_1"], "newest first");
    for letter in &letters {
        for field in "id work tenant source receipt event_type subject died_at attempts reason".split(' ') {
            assert!(!letter[field].is_null(), "{field} in {letter}");
        }
    }
    for (filter, count) in [
        (vec!["--tenant", "acme"], 3),
        (vec!["--tenant", "globex"], 0),
        (vec!["--source", "shop"], 3),
        (vec!["--source", "orders"], 0),
        (vec!["--destination", "books"], 3),
        (vec!["--destination", "other"], 0),
        (vec!["--reason", "410"], 3),
        (vec!["--reason", "no such thing"], 0),
        (vec!["--since", "2020-01-01T00:00:00Z"], 3),
        (vec!["--since", "2090-01-01T00:00:00Z"], 0),
        (vec!["--limit", "2"], 2),
    ] {
        let ran = stage.ask(&[&["dlq", "list"], filter.as_slice()].concat());
        assert_eq!((ran.code, list(&ran.json()).len()), (0, count), "{filter:?}");
    }
    let id = letters[0]["id"].as_str().unwrap_or_default();
    let shown = stage.ask(&["dlq", "show", id]).json();
    assert_eq!(shown["dead_letter"]["id"], id);
    assert_eq!(
        shown["trace"]["receipt"]["event_id"], "evt_3",
        "with the whole trace of its event"
    );
    assert_eq!(stage.ask(&["dlq", "show", "dead_999"]).code, 1);
    assert_eq!(stage.ask(&["dlq", "show", "not-an-id"]).code, 2);
    assert_eq!(stage.ask(&["dlq", "list", "--since", "yesterday"]).code, 2);
}

#[test]
fn o3_a_dry_run_writes_nothing_and_a_replay_delivers() {
    let (stage, destination) = with_dead_letters(3);
    let before = (stage.counts(), stage.trace("evt_2"));
    let dry = stage.ask(&["replay", "--all", "--dry-run"]);
    assert_eq!((dry.code, &dry.json()["dry_run"]), (0, &json!(true)));
    assert_eq!(list(&dry.json()["replayed"]).len(), 3);
    assert_eq!((stage.counts(), stage.trace("evt_2")), before);
    assert_eq!(destination.arrivals().len(), 3);

    // One by its id; the destination is well again.
    destination.otherwise(Reply::Status(204));
    let letters = list(&stage.ask(&["dlq", "list"]).json());
    let letter = letters
        .iter()
        .find(|letter| letter["event_id"] == "evt_2")
        .expect("a dead letter");
    let id = letter["id"].as_str().expect("an id");
    let ran = stage.ask(&["replay", id]).ok();
    assert_eq!(list(&ran.json()["replayed"]).len(), 1);
    assert_eq!(ran.json()["replayed"][0]["event_id"], "evt_2");
    destination.wait_for(4);
    stage.quiet();
    let arrivals = destination.arrivals();
    let of = |key: &str| {
        arrivals
            .iter()
            .filter(|arrival| arrival.header("idempotency-key") == key)
            .collect::<Vec<_>>()
    };
    let twice = of("cashback/credit/cashback:red_2");
    assert_eq!(twice.len(), 2);
    assert_eq!(
        twice[0].header("webhook-id"),
        twice[1].header("webhook-id"),
        "the destination can tell that it is the same"
    );
    assert_eq!(twice[0].body, twice[1].body);
    let trace = stage.trace("evt_2");
    assert_eq!(
        trace["jobs"][0]["runs"][0]["actions"][0]["deliveries"][0]["state"],
        "delivered"
    );
    assert_eq!(list(&trace["history"]).len(), 1);
    assert!(
        trace["history"][0]["detail"].to_string().contains("tester") || trace["history"].to_string().contains("tester"),
        "{}",
        trace["history"]
    );
    // It is closed now: replayed once is enough.
    assert_eq!(stage.ask(&["replay", id]).code, 1);
    assert_eq!(list(&stage.ask(&["dlq", "list"]).json()).len(), 2);
    assert_eq!(list(&stage.ask(&["dlq", "list", "--with-replayed"]).json()).len(), 3);

    // The others by filter.
    let ran = stage.ask(&["replay", "--destination", "books"]);
    assert_eq!((ran.code, list(&ran.json()["replayed"]).len()), (0, 2));
    destination.wait_for(6);
    let counts = stage.quiet();
    holds(
        &counts,
        &json!({ "dead_letters_open": 0, "delivered": 3, "actions": 3 }),
    );
    // Without an id or a filter it must be said that all are meant.
    assert_eq!(stage.ask(&["replay"]).code, 2);
}

#[test]
fn o3_replaying_a_receipt_has_no_second_effect() {
    let destination = Destination::start();
    let mut stage = Setup::to_books(&destination).start();
    let receipt = stage.redeem(1).receipt();
    stage.quiet();
    // Beside the running host, twice, and once without it.
    for _ in 0..2 {
        let ran = stage.ask(&["replay", &receipt]).ok();
        assert_eq!(ran.json()["replayed"][0]["work"], "job");
        stage.quiet();
    }
    stage.stop();
    stage.ask(&["replay", &receipt]).ok();
    stage.start();
    let counts = stage.quiet();
    holds(&counts, &json!({ "runs": 4, "actions": 1, "delivered": 1 }));
    let runs = list(&stage.trace(&receipt)["jobs"][0]["runs"]);
    let verdicts: Vec<_> = runs.iter().map(|run| run["actions"][0]["verdict"].clone()).collect();
    assert_eq!(verdicts, ["recorded", "already_done", "already_done", "already_done"]);
    assert_eq!(destination.arrivals().len(), 1);
    assert_eq!(stage.ask(&["replay", "rcpt_00000000000000000000000000000000"]).code, 3);
}

#[test]
fn o3_a_dead_job_runs_again_after_its_plugin_was_mended() {
    let rest = "[routes.mended]\nplugin = \"mended\"\ngrants = [{ kind = \"flag\" }]\n";
    let mut stage = Setup::acme(rest)
        .plugin_file("mended", &tollgate_tests::hostile_dir().join("panic.wasm"))
        .start();
    let receipt = stage
        .post("shop", &signer("shop").sign("", plain("note", "evt_1")))
        .receipt();
    assert_eq!(stage.finished(&receipt)["jobs"][0]["state"], "dead");
    // A new file, and SIGHUP: no restart.
    stage.offer("mended", &tollgate_tests::hostile_dir().join("good.wasm"));
    stage.reload();
    stage.ask(&["replay", "--all"]).ok();
    stage.quiet();
    let job = stage.trace(&receipt)["jobs"][0].clone();
    holds(&job, &json!({ "state": "done", "replays": 1 }));
    assert_eq!(job["runs"][1]["actions"][0]["operation_key"], "good:evt_1");
}

#[test]
fn o9_send_signs_as_the_provider_would_and_misbehaves_on_demand() {
    let stage = Setup::acme("").start();
    // A recorded body, by a scheme that signs the time: fresh, and an hour old.
    stage.write("body.json", &tollgate_tests::events::order("ord_1"));
    let recorded = format!(
        "--provider standard-webhooks --body {} --id msg_1",
        stage.path("body.json").display()
    );
    for (source, line, code, answers) in [
        ("rewards", "--sample voucherify-completed", 0, "202 accepted"),
        // Out of order: the pending event after the completed one.
        ("rewards", "--sample voucherify-pending", 0, "202 superseded"),
        (
            "rewards",
            "--sample voucherify-rewarded --times 3",
            0,
            "202 accepted, 200 same, 200 same",
        ),
        ("rewards", "--sample voucherify-rewarded --tamper", 1, "401 unauthentic"),
        (
            "shop",
            "--sample reward-redeemed --set event_id=evt_set",
            0,
            "202 accepted",
        ),
        (
            "shop",
            "--sample reward-redeemed --set event_id=evt_set --set user_id=other",
            0,
            "202 conflict",
        ),
        ("orders", &recorded, 0, "202 accepted"),
        ("orders", &format!("{recorded} --age 3600"), 1, "401 unauthentic"),
    ] {
        let secret = stage.path(&format!("secrets/{source}"));
        let to = format!(
            "--url http://{}/in/acme/{source} --secret-file {}",
            stage.edge,
            secret.display()
        );
        let ran = tollgate_line(&format!("send --json {to} {line}"), b"");
        let said = list(&ran.json())
            .iter()
            .map(|one| format!("{} {}", one["http_status"], text(&one["answer"], "status")))
            .collect::<Vec<_>>();
        assert_eq!(
            (ran.code, said.join(", ").as_str()),
            (code, answers),
            "{source}: {line}"
        );
    }
    assert_eq!(stage.counts()["receipts"], 5);
}

#[test]
fn o3_check_points_at_the_line_that_is_wrong() {
    let mut stage = Setup::acme(CASHBACK).plugin("cashback").start();
    stage.stop();
    let ran = stage.ask(&["check"]);
    assert_eq!((ran.code, &ran.json()["ok"]), (0, &json!(true)), "{ran:?}");

    let tenant = std::fs::read_to_string(stage.path("tenants/acme.toml")).expect("the tenant's file");
    let broken = tenant.replace("plugin = \"cashback\"", "plugin = \"cashbak\"");
    stage.write("tenants/acme.toml", &broken);
    let line = broken
        .lines()
        .position(|line| line.contains("cashbak\""))
        .expect("the line")
        + 1;
    let ran = stage.ask(&["check"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let problem = ran.json()["problems"][0].clone();
    assert_eq!(problem["line"], line, "{problem}");
    assert!(
        problem["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("tenants/acme.toml")),
        "{problem}"
    );
    for field in ["message", "help"] {
        assert!(
            problem[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field} in {problem}"
        );
    }
    // And a host does not start with it, where nothing good is known of the tenant.
    std::fs::remove_dir_all(stage.path("last-good.tollgate.db")).expect("a folder");
    stage.ask_for_people(&["serve"]).fails(2, &format!("acme.toml:{line}"));
}
