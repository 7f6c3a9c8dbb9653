//! Intake: authentic, durable before 2xx, once; and a lock that is held costs an answer, never an event.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::client::{Client, request};
use tollgate_tests::disk::{Image, Operation, Watch};
use tollgate_tests::events::{payment, plain, redeemed, redemption, signer};
use tollgate_tests::json::holds;
use tollgate_tests::spin::{SWEEP_TOKEN, SpinSetup, SpinStage};
use tollgate_tests::spin_stand_in;
use tollgate_tests::stage::{CASHBACK, wait_until};

#[test]
fn r2_an_event_is_kept_once_and_its_redeliveries_are_told_apart() {
    let stage = SpinSetup::acme("").start();
    let shop = signer("shop");
    let body = plain("order.placed", "evt_1");
    let first = stage.post("shop", &shop.sign("", body.clone()));
    assert_eq!(first.verdict(), (202, "accepted".into()));
    let again = stage.post("shop", &shop.sign("", body.clone()));
    assert_eq!(again.verdict(), (200, "same".into()));
    assert_eq!(again.receipt(), first.receipt());
    let other = stage.post("shop", &shop.sign("", format!("{body} ")));
    assert_eq!(other.verdict(), (202, "conflict".into()));

    // Nothing of what did not prove itself is kept.
    let tampered = shop.sign("", plain("order.placed", "evt_2")).tampered();
    assert_eq!(stage.post("shop", &tampered).verdict(), (401, "unauthentic".into()));
    let unsigned = shop.sign("", plain("order.placed", "evt_3")).unsigned();
    assert_eq!(stage.post("shop", &unsigned).verdict(), (401, "unauthentic".into()));
    assert_eq!(
        stage.post("shop", &shop.sign("", "{}")).verdict(),
        (400, "malformed".into())
    );
    assert_eq!(
        stage.post("nobody", &unsigned).verdict(),
        (404, "unknown-source".into())
    );
    let counts = stage.counts();
    holds(&counts, &json!({ "receipts": 1, "redeliveries": 1, "conflicts": 1 }));

    let trace = &stage.traces("evt_1")[0];
    assert_eq!(trace["receipt"]["id"], first.receipt());
    assert_eq!(trace["receipt"]["proof"]["key_id"], "shop-1");
    assert_eq!(trace["deliveries"][1]["decision"], "conflict");
}

#[test]
fn r2_the_bounds_of_a_request_are_the_same() {
    let stage = SpinSetup::acme("").start();
    let send = |bytes: &[u8]| {
        let mut client = Client::connect(stage.address).unwrap();
        client.send(bytes).unwrap();
        client.answer().unwrap()
    };
    let get = send(&request("GET", "/in/acme/shop", &[], b""));
    assert_eq!(get.verdict(), (405, "method".into()));
    assert_eq!(get.header("allow"), Some("POST"));
    let encoded = [("content-encoding".to_owned(), "gzip".to_owned())];
    assert_eq!(
        send(&request("POST", "/in/acme/shop", &encoded, b"x")).verdict(),
        (415, "encoded".into())
    );
    let big = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(
        send(&request("POST", "/in/acme/shop", &[], &big)).verdict(),
        (413, "body-too-large".into())
    );
    // A sweep and an operator's question need their own tokens.
    for (method, path) in [
        ("POST", "/v1/sweep"),
        ("GET", "/v1/counts"),
        ("GET", "/v1/trace"),
        ("GET", "/v1/dead-letters"),
    ] {
        assert_eq!(stage.ask(method, path, "wrong", b"").status, 401, "{path}");
    }
    assert_eq!(stage.ask("GET", "/v1/counts", SWEEP_TOKEN, b"").status, 401);
}

/// Spin adds seven headers to each request. They are none of the sender's: as many of its own are taken as natively.
#[test]
fn r2_headers_that_spin_adds_count_for_nobody() {
    let stage = SpinSetup::acme("").start();
    let shop = signer("shop");
    let with = |count: usize, event: &str| {
        let mut message = shop.sign("", plain("order.placed", event));
        message
            .headers
            .extend((0..count).map(|at| (format!("x-{at}"), "v".to_owned())));
        stage.post("shop", &message)
    };
    let own = shop.sign("", "{}").headers.len();
    // `host`, `content-length` and the like come to these; what Spin adds would make them more than a hundred.
    assert_eq!(with(94 - own, "evt_1").verdict(), (202, "accepted".into()));
    assert_eq!(with(101, "evt_2").status, 431);
    // A sender that calls its own header as Spin calls one of its own changes nothing.
    let mut message = shop.sign("", plain("order.placed", "evt_3"));
    message
        .headers
        .push(("spin-path-info".to_owned(), "/in/acme/other".to_owned()));
    assert_eq!(stage.post("shop", &message).verdict(), (202, "accepted".into()));
}

#[test]
fn r2_a_lifecycle_guards_a_subject() {
    let stage = SpinSetup::acme("").start();
    let rewards = signer("rewards");
    let post = |event: &str, state: &str| {
        let answer = stage.post("rewards", &rewards.sign("", redemption(event, "rewr_1", "r_1", state)));
        answer.verdict()
    };
    assert_eq!(post("evt_2", "COMPLETED"), (202, "accepted".into()));
    assert_eq!(post("evt_1", "PENDING"), (202, "superseded".into()));
    assert_eq!(post("evt_3", "EVAPORATED"), (202, "held".into()));
    let payments = signer("payments");
    let odd = payments.sign("", payment("evt_9", "pi_1", "payment_intent.created", "no_such_status"));
    assert_eq!(stage.post("payments", &odd).verdict(), (202, "held".into()));
}

#[test]
fn r2_what_was_acknowledged_survives_a_kill_and_is_worked_on_after_it() {
    let mut stage = SpinSetup::acme(CASHBACK).plugin("cashback").start();
    let shop = signer("shop");
    let mut receipts = Vec::new();
    for at in 0..6 {
        let body = redeemed(&format!("evt_{at}"), &format!("red_{at}"), "success");
        let answer = stage.post("shop", &shop.sign("", body));
        assert_eq!(answer.verdict(), (202, "accepted".into()));
        receipts.push(answer.receipt());
    }
    // Between the last answer and its work.
    stage.kill();
    let audit = stage.store().audited().unwrap();
    assert_eq!((audit.whole.receipts, audit.in_words()), (6, Vec::new()));
    stage.start();
    for receipt in &receipts {
        // Leases of the killed app run out first, if it held any.
        let trace = wait_until("the job is done", || {
            stage.sweep();
            let trace = stage.traces(receipt).into_iter().next()?;
            (trace["jobs"][0]["state"] == "done").then_some(trace)
        });
        let runs = trace["jobs"][0]["runs"].as_array().unwrap();
        let recorded = runs.iter().filter(|run| run["actions"][0]["verdict"] == "recorded");
        assert_eq!(recorded.count(), 1, "{trace:#}");
    }
    assert_eq!(stage.counts()["actions"], 6);
    assert_eq!(stage.store().audited().unwrap().in_words(), [""; 0]);
}

/// The connection that closes last moves SQLite's log into the database and removes it, and the next makes a new one: five syncs for
/// one acknowledgement. So an invocation leaves its own open after it has answered, and there are two: of the log, and of the folder,
/// which SQLite syncs with the first commit of each connection. On Spin each request has one of its own.
#[cfg(target_os = "linux")]
#[test]
fn p1_an_idle_acknowledgement_syncs_the_log_once() {
    for begins_with in ["a sweep", "an event"] {
        let watch = Watch::over(&Image::default());
        let stage = SpinSetup::acme("").watched(&watch).start();
        let shop = signer("shop");
        // The name of what was synced; the folder itself is `.`.
        let syncs = || {
            let recording = watch.recording();
            let names = recording.names();
            let mut synced: BTreeMap<String, usize> = BTreeMap::new();
            for operation in &recording.operations {
                if let Operation::Sync { inode, .. } = operation {
                    let name = names.get(inode).cloned().unwrap_or_else(|| ".".to_owned());
                    *synced.entry(name).or_default() += 1;
                }
            }
            synced
        };
        let post = |at: usize| {
            let answer = stage.post("shop", &shop.sign("", plain("order.placed", &format!("evt_{at}"))));
            assert_eq!(answer.verdict(), (202, "accepted".into()), "{at}");
            // What comes after the answer counts as well: the connection is closed, or not.
            std::thread::sleep(Duration::from_millis(200));
        };
        match begins_with {
            "a sweep" => drop(stage.sweep()),
            _ => post(0),
        }
        let before = syncs();
        for at in 1..=8 {
            post(at);
        }
        let mut by_events = syncs();
        for (name, count) in before {
            by_events.entry(name).and_modify(|now| *now -= count);
        }
        by_events.retain(|_, count| *count > 0);
        let expect = [(".".to_owned(), 8), ("sqlite_db.db-wal".to_owned(), 8)];
        assert_eq!(by_events, BTreeMap::from(expect), "of 8 events, after {begins_with}");
    }
}

/// An app that has begun to run a plugin for longer than a lease lasts: its state comes to it one key at a time. Answers with the receipt.
fn at_work_for_long() -> (SpinStage, String) {
    let route = "\n[routes.slow]\ntypes = [\"lay\", \"read\", \"compute\"]\nplugin = \"slow_state\"\ngrants = [{ kind = \"flag\" }]\n";
    let stage = SpinSetup::acme(route).hostile("slow_state").start();
    let shop = signer("shop");
    let post = |kind: &str, event: &str| stage.post("shop", &shop.sign("", plain(kind, event))).receipt();
    stage.finished(&post("lay", "evt"));
    // Sixty runs of so long are longer than a lease, and each is far from its deadline.
    const RUN_MS: u64 = 350;
    // The quickest of five says how fast this machine is; any of them may have waited for another process.
    let durations_us = (1..=5).filter_map(|number| {
        let timed = stage.finished(&post("compute", &format!("evt-{number}-1000")));
        timed["jobs"][0]["runs"][0]["duration_us"].as_u64()
    });
    let ms = durations_us.min().expect("a duration") / 1000;
    let times = (1000 * RUN_MS / ms.max(1)).min(2000);
    let receipt = post("read", &format!("evt-{times}"));
    wait_until("it is at work", || {
        (job(&stage, &receipt)["state"] == "leased").then_some(())
    });
    (stage, receipt)
}

fn job(stage: &SpinStage, receipt: &str) -> Value {
    stage.traces(receipt)[0]["jobs"][0].clone()
}

/// While somebody holds leases nobody else works, and who works renews them: what lasts longer than one is not run twice.
#[test]
fn r7_what_lasts_longer_than_a_lease_is_nobody_elses() {
    let (stage, receipt) = at_work_for_long();
    while job(&stage, &receipt)["state"] == "leased" {
        assert_eq!(stage.sweep()["jobs"], 0, "{:#}", job(&stage, &receipt));
        std::thread::sleep(Duration::from_millis(50));
    }
    let job = job(&stage, &receipt);
    let runs = job["runs"].as_array().expect("runs");
    assert_eq!(
        (job["state"].as_str(), job["attempts"].as_u64(), runs.len()),
        (Some("done"), Some(1), 1)
    );
    let lasted_ms = runs[0]["duration_us"].as_u64().expect("a duration") / 1000;
    assert!(lasted_ms > 11_000, "it lasted {lasted_ms} ms: no longer than a lease");
    assert_eq!(runs[0]["actions"][0]["action"]["reasons"][0], "60", "{job:#}");
}

/// Of a worker that was killed, leases end by themselves, and soon.
#[test]
fn r7_what_a_killed_worker_held_is_taken_over_soon() {
    let (mut stage, receipt) = at_work_for_long();
    stage.kill();
    let killed = Instant::now();
    stage.start();
    let mut sweeps = Vec::new();
    wait_until("somebody takes it over", || {
        // Whoever does answers when it is done, for which nobody waits here.
        let token = ("authorization".to_owned(), format!("Bearer {SWEEP_TOKEN}"));
        let mut client = Client::connect(stage.address).expect("it takes connections");
        client
            .send(&request("POST", "/v1/sweep", &[token], b""))
            .expect("a request");
        sweeps.push(client);
        std::thread::sleep(Duration::from_millis(100));
        (job(&stage, &receipt)["attempts"] == 2).then_some(())
    });
    let waited = killed.elapsed();
    // A lease lasts ten seconds here and thirty natively; the rest is the app's start, which takes a busy machine a while.
    assert!(waited < Duration::from_secs(25), "taken over after {waited:?}");
}

/// Another writer holds the lock longer than the app waits for it.
#[test]
fn r2_a_busy_database_is_503_and_never_an_acknowledgement() {
    let stage = SpinSetup::acme("").start();
    let shop = signer("shop");
    let before = stage.post("shop", &shop.sign("", plain("order.placed", "evt_1")));
    assert_eq!(before.status, 202);
    let database = stage.database();
    let lock = hold_lock(&database);
    let start = Instant::now();
    let refused = stage.post("shop", &shop.sign("", plain("order.placed", "evt_2")));
    assert_eq!(refused.verdict(), (503, "overloaded".into()));
    assert!(refused.header("retry-after").is_some());
    assert!(start.elapsed().as_secs() < 15, "took {:?}", start.elapsed());
    drop(lock);
    let accepted = stage.post("shop", &shop.sign("", plain("order.placed", "evt_2")));
    assert_eq!(accepted.verdict(), (202, "accepted".into()));
    assert_eq!(stage.counts()["receipts"], 2);
}

/// Takes the database's write lock in another process.
fn hold_lock(database: &Path) -> impl Drop {
    struct Holder(Child);
    impl Drop for Holder {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut child = Command::new(spin_stand_in())
        .arg("hold-lock")
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the holder starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    let holder = Holder(child);
    BufReader::new(out).read_line(&mut line).expect("a line");
    assert_eq!(line.trim(), "held");
    holder
}
