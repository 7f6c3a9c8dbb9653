//! Plugins by service chaining: outcomes, state, operation keys, retries, delivery; and what a hostile one can do, which is end.

use std::time::{Duration, Instant};

use serde_json::Value;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, redeemed, redeemed_by, signer};
use tollgate_tests::json::says;
use tollgate_tests::spin::{OPERATOR_TOKEN, SpinSetup, SpinStage, books};
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, wait_until};

/// No more than 1.00 INR a month.
const LIMIT: &str = "limit = { amount_minor_units = 100, window_days = 30 }\n";

fn run(trace: &Value) -> &Value {
    trace["jobs"][0]["runs"]
        .as_array()
        .and_then(|runs| runs.last())
        .unwrap_or(&Value::Null)
}

#[test]
fn r2_an_event_becomes_one_credit_that_is_delivered_signed() {
    let destination = Destination::start();
    let stage = SpinSetup::acme(&format!("{CASHBACK_TO_BOOKS}{LIMIT}{}", books(&destination)))
        .plugin("cashback")
        .destination(&destination)
        .start();
    destination.script([Reply::Status(500)]);
    let answer = stage.post("shop", &signer("shop").sign("", redeemed("evt_1", "red_1", "success")));
    assert_eq!(answer.status, 202);
    let trace = stage.finished(&answer.receipt());
    let action = &run(&trace)["actions"][0];
    assert_eq!(action["verdict"], "recorded");
    assert_eq!(action["action"]["amount"]["minor_units"], 50);

    // The first attempt failed; the sweep makes the next when it is due.
    let arrivals = wait_until("the second attempt", || {
        stage.sweep();
        let arrivals = destination.arrivals();
        (arrivals.len() >= 2).then_some(arrivals)
    });
    assert!(arrivals.iter().all(|arrival| arrival.is_authentic));
    assert_eq!(arrivals[0].body, arrivals[1].body);
    assert_eq!(arrivals[0].header("webhook-id"), arrivals[1].header("webhook-id"));
    assert_eq!(
        arrivals[0].header("idempotency-key"),
        // Whose it is, and of what kind: operation keys are told apart by both.
        format!("cashback/credit/{}", action["operation_key"].as_str().unwrap())
    );
    assert_eq!(arrivals[0].json()["receipt"], answer.receipt());
    wait_until("the delivery is recorded", || {
        (stage.counts()["delivered"] == 1).then_some(())
    });
    let attempts =
        stage.traces(&answer.receipt())[0]["jobs"][0]["runs"][0]["actions"][0]["deliveries"][0]["attempts"].clone();
    assert_eq!(attempts[0]["http_status"], 500);
    assert_eq!(attempts[1]["http_status"], 204);
}

#[test]
fn r2_one_operation_has_one_effect_and_state_is_kept() {
    let stage = SpinSetup::acme(&format!("{CASHBACK}{LIMIT}"))
        .plugin("cashback")
        .start();
    let shop = signer("shop");
    let post = |event: &str, redemption: &str| {
        let body = redeemed_by(event, redemption, "success", "user_1");
        let answer = stage.post("shop", &shop.sign("", body));
        assert_eq!(answer.status, 202);
        stage.finished(&answer.receipt())
    };
    assert_eq!(run(&post("evt_1", "red_1"))["actions"][0]["verdict"], "recorded");
    // Another event of the same operation.
    assert_eq!(run(&post("evt_2", "red_1"))["actions"][0]["verdict"], "already_done");
    // 0.50 each; the limit of 1.00 in 30 days is kept in the plugin's state.
    assert_eq!(run(&post("evt_3", "red_3"))["actions"][0]["verdict"], "recorded");
    let over = post("evt_4", "red_4");
    assert_ne!(run(&over)["actions"][0]["verdict"], "recorded", "{over:#}");
    assert_eq!(stage.counts()["actions"], 2);
}

/// Many at once on one key: every run read what the one before it wrote, or was run again.
#[test]
fn r2_state_is_serial_although_runs_are_not() {
    let route = "\n[routes.count]\ntypes = [\"tick\"]\nplugin = \"counter\"\ngrants = [{ kind = \"flag\" }]\n";
    let stage = SpinSetup::acme(route).hostile("counter").start();
    let ticks = 12;
    std::thread::scope(|scope| {
        for at in 0..ticks {
            let stage = &stage;
            scope.spawn(move || {
                let message = signer("shop").sign("", plain("tick", &format!("evt_{at}")));
                // A lock that is held too long is 503, and a sender comes again.
                wait_until("it is taken", || {
                    (stage.post("shop", &message).status < 300).then_some(())
                });
            });
        }
    });
    wait_until("all ticks are counted", || {
        stage.sweep();
        (stage.counts()["jobs_done"] == ticks).then_some(())
    });
    let mut seen: Vec<u32> = (0..ticks)
        .flat_map(|at| stage.traces(&format!("evt_{at}")))
        .filter_map(|trace| run(&trace)["actions"][0]["action"]["reasons"][0].as_str()?.parse().ok())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=ticks).collect::<Vec<_>>());
}

/// State that is too big to be sent whole each time: what a run asks for comes in further rounds, and a run that could not do
/// without it is run again with all of it.
#[test]
fn r2_a_plugin_with_much_state_reads_it_all_the_same() {
    let route = "\n[routes.count]\nplugin = \"big_state\"\ngrants = [{ kind = \"flag\" }]\n";
    let stage = SpinSetup::acme(route).hostile("big_state").start();
    for (at, kind) in ["soft", "soft", "soft", "strict", "soft", "strict"]
        .into_iter()
        .enumerate()
    {
        let answer = stage.post("shop", &signer("shop").sign("", plain(kind, &format!("evt_{at}"))));
        let trace = stage.finished(&answer.receipt());
        let counted = &run(&trace)["actions"][0]["action"]["reasons"][0];
        assert_eq!(*counted, (at + 1).to_string(), "{trace:#}");
        assert_eq!(
            trace["jobs"][0]["runs"].as_array().map(Vec::len),
            Some(1),
            "rounds are one run"
        );
    }
}

/// The budget of guests that loop, a tenth of the usual one. Spin gives no route more than the usual two seconds, and a machine that is busy must
/// not make a deadline of what is out of fuel.
const LOOPS_FUEL: u64 = 20_000_000;

/// How each hostile guest ends. One name differs from the native host's: Spin does not say why an instance ended, so a guest that
/// calls without end looks like one that traps.
const ENDS: [(&str, &str, &str); 12] = [
    ("refuse", "refused", "done"),
    ("hold", "held", "held"),
    ("retry", "retry-after", "ready"),
    ("bad_amount", "invalid-output", "dead"),
    ("bad_key", "invalid-output", "dead"),
    ("repeated_key", "invalid-output", "dead"),
    ("flood_output", "output-too-big", "dead"),
    ("too_many_actions", "output-too-big", "dead"),
    ("flood_state", "trap", "dead"),
    ("panic", "trap", "dead"),
    ("hoard", "memory", "dead"),
    ("spin", "out-of-fuel", "dead"),
];

#[test]
fn w2_every_hostile_guest_ends_in_a_named_outcome_and_alone() {
    let mut tenant = String::from(
        "\n[routes.good]\ntypes = [\"good\"]\nplugin = \"good\"\ngrants = [{ kind = \"flag\" }, { kind = \"credit\", amount_max = 500, currencies = [\"USD\"] }]\n",
    );
    let mut setup_plugins: Vec<&str> = vec!["good"];
    for (guest, outcome, _) in ENDS {
        let limits = match outcome {
            "out-of-fuel" => format!("limits = {{ fuel = {LOOPS_FUEL} }}\n"),
            _ => String::new(),
        };
        tenant.push_str(&format!(
            "[routes.{guest}]\ntypes = [\"{guest}\"]\nplugin = \"{guest}\"\n{limits}\
             grants = [{{ kind = \"credit\", amount_max = 500, currencies = [\"USD\"] }}]\n"
        ));
        setup_plugins.push(guest);
    }
    let setup = SpinSetup::acme(&tenant).memory_bytes_max(64 * 1024 * 1024);
    let stage = setup_plugins.into_iter().fold(setup, SpinSetup::hostile).start();
    let shop = signer("shop");
    for (guest, outcome, state) in ENDS {
        let answer = stage.post("shop", &shop.sign("", plain(guest, &format!("evt_{guest}"))));
        assert_eq!(answer.verdict(), (202, "accepted".into()), "{guest}");
        let trace = first_run(&stage, &answer.receipt());
        assert_eq!(trace["jobs"][0]["runs"][0]["outcome"], outcome, "{guest}: {trace:#}");
        // What is tried again may be at it already.
        let is_again = state == "ready" && trace["jobs"][0]["state"] == "leased";
        assert!(
            is_again || trace["jobs"][0]["state"] == state,
            "{guest}, not {state}: {trace:#}"
        );
        assert_eq!(
            trace["jobs"][0]["runs"][0]["actions"].as_array().map(Vec::len),
            Some(0),
            "{guest}"
        );
    }
    // The others are none the worse for it.
    let answer = stage.post("shop", &shop.sign("", plain("good", "evt_good")));
    let trace = stage.finished(&answer.receipt());
    assert_eq!(run(&trace)["outcome"], "completed", "{trace:#}");
}

/// Spin stops no guest, and one that loops holds a thread of the runtime: as many of them as there are threads held all of it.
/// The plugin's own budget ends each, and the others are answered meanwhile.
#[test]
fn p6_plugins_that_loop_take_nobody_with_them() {
    let tenant = format!(
        "\n[routes.spin]\ntypes = [\"spin\"]\nplugin = \"spin\"\nlimits = {{ fuel = {LOOPS_FUEL} }}\n\
         [routes.good]\ntypes = [\"good\"]\nplugin = \"good\"\n\
         grants = [{{ kind = \"flag\" }}, {{ kind = \"credit\", amount_max = 500, currencies = [\"USD\"] }}]\n"
    );
    let mut stage = SpinSetup::acme(&tenant).hostile("spin").hostile("good").start();
    let shop = signer("shop");
    let mut receipts = Vec::new();
    for at in 0..12 {
        let kind = if at % 3 == 2 { "good" } else { "spin" };
        let start = Instant::now();
        let answer = stage.post("shop", &shop.sign("", plain(kind, &format!("evt_{at}"))));
        assert_eq!(answer.verdict(), (202, "accepted".into()), "{at}");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "answered after {:?}",
            start.elapsed()
        );
        receipts.push((kind, answer.receipt()));
    }
    for (kind, receipt) in &receipts {
        let trace = stage.finished(receipt);
        let found = (run(&trace)["outcome"].as_str(), trace["jobs"][0]["state"].as_str());
        match *kind {
            "good" => assert_eq!(found, (Some("completed"), Some("done")), "{trace:#}"),
            // One run, counted up to its budget, and no second one: it would end as this did.
            _ => {
                assert_eq!(found, (Some("out-of-fuel"), Some("dead")), "{trace:#}");
                assert_eq!(trace["jobs"][0]["runs"].as_array().map(Vec::len), Some(1));
                assert_eq!(run(&trace)["fuel"], LOOPS_FUEL);
            }
        }
    }
    // The same store after a restart: nothing begins to loop again.
    stage.kill();
    stage.start();
    let answer = stage.post("shop", &shop.sign("", plain("good", "evt_after")));
    assert_eq!(run(&stage.finished(&answer.receipt()))["outcome"], "completed");
}

/// Nobody can stop a guest on Spin. One that has not answered at its deadline may still compute, and another try would take a second
/// thread: the deadline is the end of the job.
#[test]
fn w2_a_deadline_is_final_and_no_second_try_is_made() {
    let tenant =
        "\n[routes.slow]\nplugin = \"slow_state\"\nlimits = { deadline_ms = 50 }\ngrants = [{ kind = \"flag\" }]\n";
    let stage = SpinSetup::acme(tenant).hostile("slow_state").start();
    let answer = stage.post("shop", &signer("shop").sign("", plain("compute", "evt-2000")));
    let trace = stage.finished(&answer.receipt());
    let job = &trace["jobs"][0];
    let runs = job["runs"].as_array().map(Vec::len);
    assert_eq!((job["state"].as_str(), runs), (Some("dead"), Some(1)), "{trace:#}");
    assert_eq!(run(&trace)["outcome"], "deadline");
}

/// One bad event is no reason; twenty faults in a row of one version on one route are. It is the same rule as natively, over a store
/// that all invocations share: nothing else remembers.
#[test]
fn p6_a_plugin_that_fails_again_and_again_is_in_quarantine() {
    let tenant = "\n[routes.cashback]\ntypes = [\"reward.redeemed\"]\nplugin = \"cashback\"\n\
                  grants = [{ kind = \"credit\", amount_max = 1, currencies = [\"INR\"] }]\n\
                  [routes.cashback.config]\nrate_bps = 1000\ncurrency = \"INR\"\n\
                  [routes.elsewhere]\ntypes = [\"reward.redeemed\"]\nplugin = \"cashback\"\noperations = \"elsewhere\"\n\
                  grants = [{ kind = \"credit\", amount_max = 5000, currencies = [\"INR\"] }]\n\
                  [routes.elsewhere.config]\nrate_bps = 1000\ncurrency = \"INR\"\n";
    let mut stage = SpinSetup::acme(tenant).plugin("cashback").start();
    let shop = signer("shop");
    let count = std::cell::Cell::new(0);
    // What the route `cashback` ended in, and then the other.
    let post = |stage: &SpinStage, status: &str| {
        let sent = count.replace(count.get() + 1);
        let body = redeemed(&format!("evt_{sent}"), &format!("red_{sent}"), status);
        let answer = stage.post("shop", &shop.sign("", body));
        assert_eq!(answer.verdict(), (202, "accepted".into()));
        let trace = stage.finished(&answer.receipt());
        ["cashback", "elsewhere"].map(|route| {
            let jobs = trace["jobs"].as_array().expect("jobs");
            let job = jobs.iter().find(|job| job["route"] == route).expect("the route's job");
            (
                job["runs"][0]["outcome"].as_str().unwrap_or_default().to_owned(),
                job.clone(),
            )
        })
    };
    let quarantines = |stage: &SpinStage| {
        let answer = stage.ask("GET", "/v1/quarantines", OPERATOR_TOKEN, b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json().as_array().cloned().unwrap_or_default()
    };
    let fail = |stage: &SpinStage, times: usize| {
        for _ in 0..times {
            let [(outcome, _), (elsewhere, _)] = post(stage, "success");
            assert_eq!((outcome.as_str(), elsewhere.as_str()), ("invalid-output", "completed"));
        }
    };
    fail(&stage, 19);
    // One that goes well begins the row anew, and a restart does not.
    let [(outcome, _), _] = post(&stage, "pending");
    assert!(matches!(outcome.as_str(), "completed" | "refused"), "{outcome}");
    fail(&stage, 10);
    stage.kill();
    stage.start();
    fail(&stage, 9);
    assert_eq!(quarantines(&stage), Vec::<Value>::new());
    fail(&stage, 1);
    let held = quarantines(&stage);
    assert_eq!(held.len(), 1, "{held:#?}");
    assert_eq!(
        (held[0]["route"].as_str(), held[0]["faults"].as_u64()),
        (Some("cashback"), Some(20)),
        "{held:#?}"
    );
    // It comes through a pipe, after what the database says.
    wait_until("the log says it", || {
        stage.log().contains("a plugin is in quarantine").then_some(())
    });

    // It is not run any more: its jobs are dead letters that say why, and the route beside it runs the same version.
    stage.kill();
    stage.start();
    let [(outcome, job), (elsewhere, _)] = post(&stage, "success");
    assert_eq!(
        (outcome.as_str(), elsewhere.as_str()),
        ("quarantined", "completed"),
        "{job:#}"
    );
    assert_eq!(
        (job["state"].as_str(), job["runs"][0]["fuel"].as_u64()),
        (Some("dead"), Some(0))
    );
    let why = job["reason"].as_str().unwrap_or_default();
    assert!(why.contains("is in quarantine on this route since"), "{why}");
    says(why, &["after 20 faults in a row, the last invalid-output: "]);
    says(why, &["tollgate plugin lift --spin URL --tenant acme cashback"]);

    // Let go by an operator, it runs again.
    let lift = "/v1/tenants/acme/routes/cashback/lift-quarantine";
    let body = |why: &str, dry_run: bool| {
        serde_json::json!({ "why": why, "dry_run": dry_run, "actor": "tester" })
            .to_string()
            .into_bytes()
    };
    assert_eq!(stage.ask("POST", lift, "wrong", &body("mended", false)).status, 401);
    assert_eq!(stage.ask("POST", lift, OPERATOR_TOKEN, &body(" ", false)).status, 400);
    assert_eq!(
        stage.ask("POST", lift, OPERATOR_TOKEN, &body("mended", true)).status,
        200
    );
    assert_eq!(quarantines(&stage).len(), 1, "a dry run changes nothing");
    let lifted = stage.ask("POST", lift, OPERATOR_TOKEN, &body("mended", false)).json();
    assert_eq!(lifted[0]["route"], "cashback", "{lifted:#}");
    assert_eq!(quarantines(&stage), Vec::<Value>::new());
    let [(outcome, _), _] = post(&stage, "success");
    assert_eq!(outcome, "invalid-output");
}

/// Each event wakes whoever is needed, one works, and nobody who sends is turned away meanwhile.
#[test]
fn p1_a_burst_is_taken_whole_and_leaves_no_job() {
    let stage = SpinSetup::acme(&format!("{CASHBACK}{LIMIT}"))
        .plugin("cashback")
        .start();
    let shop = signer("shop");
    const SENDERS: usize = 32;
    const EACH: usize = 6;
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (stage, shop) = (&stage, &shop);
            scope.spawn(move || {
                for at in 0..EACH {
                    let id = format!("{sender}_{at}");
                    let body = redeemed_by(
                        &format!("evt_{id}"),
                        &format!("red_{id}"),
                        "success",
                        &format!("user_{sender}"),
                    );
                    let answer = stage.post("shop", &shop.sign("", body));
                    assert_eq!(answer.verdict(), (202, "accepted".into()), "{id}");
                }
            });
        }
    });
    // Without the timer: no sweep is called here.
    let start = Instant::now();
    wait_until("no job is left", || (stage.counts()["jobs_waiting"] == 0).then_some(()));
    println!("no job is left after {:?}", start.elapsed());
    assert_eq!(stage.counts()["jobs_done"], SENDERS * EACH);
}

fn first_run(stage: &SpinStage, receipt: &str) -> Value {
    wait_until("a run is settled", || {
        let trace = stage.traces(receipt).into_iter().next()?;
        (!trace["jobs"][0]["runs"].as_array()?.is_empty()).then_some(trace)
    })
}
