//! P6: one tenant's storm or broken plugin does not slow another tenant, and a plugin that only fails is not run for ever.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::json::holds;
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage};

const FLAGS: &str = "grants = [{ kind = \"flag\" }]\n";

fn worker(quarantine_after: u32) -> String {
    format!(
        "threads = 2\nquarantine_after = {quarantine_after}\n[worker.limits]\ndeadline_ms = 5000\n[worker.retry]\n\
         attempts_max = 3\nbase_ms = 20\ncap_ms = 100"
    )
}

/// From sending an event of acme's to its recorded action, of `count` events one after the other. Sorted.
fn acmes_times(stage: &Stage, count: u32, what: &str) -> Vec<Duration> {
    let mut times: Vec<_> = (1..=count)
        .map(|number| {
            let event = format!("evt_{what}_{number}");
            let start = Instant::now();
            let body = redeemed(&event, &format!("red_{what}_{number}"), "success");
            assert_eq!(stage.post("shop", &signer("shop").sign("", body)).status, 202);
            let url = format!("/v1/trace?id={event}");
            loop {
                let traces = stage.operator_get(&url).json();
                if traces[0]["jobs"][0]["state"] == "done" {
                    return start.elapsed();
                }
                assert!(start.elapsed() < Duration::from_secs(60), "{event}: {traces:#}");
                std::thread::sleep(Duration::from_millis(1));
            }
        })
        .collect();
    times.sort();
    times
}

#[test]
fn p6_a_looping_plugin_slows_no_other_tenant() {
    let stage = Setup::acme(CASHBACK)
        .tenant("storm", &format!("{SOURCES}[routes.spin]\nplugin = \"spin\"\n{FLAGS}"))
        .worker(&worker(0))
        .plugin("cashback")
        .hostile("spin")
        .start();
    let quiet = acmes_times(&stage, 30, "quiet");
    // Each of these burns all of its fuel.
    for number in 0..120 {
        let message = signer("shop").sign("", plain("note", &format!("evt_storm_{number}")));
        assert_eq!(stage.post_to("storm", "shop", &message).status, 202);
    }
    let loud = acmes_times(&stage, 30, "loud");
    let still_waiting = stage.counts()["jobs_waiting"].as_u64().unwrap_or(0);
    let said = format!(
        "from sending to the recorded action: quiet median {:?}, longest {:?}; beside a storm of loops median {:?}, longest {:?}; \
         {still_waiting} loops still wait\n",
        quiet[15], quiet[29], loud[15], loud[29]
    );
    let _ = std::io::stderr().write_all(said.as_bytes());
    assert!(still_waiting > 30, "the storm outlasted the measurement: {said}");
    // On two busy cores; a tenant that had to wait for one of the loops would wait for a fifth of a second, and for all of them for 20 s.
    // A slower machine takes longer for both, so the median may be a multiple of what it is without the storm.
    let median_max = (quiet[15] * 4).max(quiet[15] + Duration::from_millis(150));
    assert!(loud[15] < median_max, "{said}");
    assert!(loud[29] < Duration::from_secs(10), "{said}");
}

#[test]
fn p6_slow_plugins_take_turns_by_tenant() {
    const STORMS: usize = 8;
    const EACH: usize = 8;
    let route = format!("{SOURCES}[routes.spin]\nplugin = \"spin\"\n{FLAGS}");
    // Their names come before the one that is looked at: whoever goes by names serves them first.
    let storms: Vec<_> = (0..STORMS).map(|number| format!("a-storm{number}")).collect();
    let mut setup = Setup::acme(&route.replace(SOURCES, ""))
        .worker(&worker(0))
        .hostile("spin");
    for storm in &storms {
        setup = setup.tenant(storm, &route);
    }
    let stage = setup.start();
    // From sending an event to the first run of the plugin, which burns all of its fuel.
    let until_run = |event: &str| -> Duration {
        let start = Instant::now();
        let message = signer("shop").sign("", plain("note", event));
        assert_eq!(stage.post("shop", &message).status, 202);
        loop {
            let traces = stage.operator_get(&format!("/v1/trace?id={event}")).json();
            if traces[0]["jobs"][0]["runs"][0].is_object() {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(120), "{event}: {traces:#}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let alone = until_run("evt_alone");
    for number in 0..EACH {
        for storm in &storms {
            let message = signer("shop").sign("", plain("note", &format!("evt_{number}")));
            assert_eq!(stage.post_to(storm, "shop", &message).status, 202);
        }
    }
    let beside = until_run("evt_beside");
    let still_waiting = stage.counts()["jobs_waiting"].as_u64().unwrap_or(0);
    let said = format!(
        "a slow run alone {alone:?}, beside {STORMS} slow tenants {beside:?}; {still_waiting} jobs still wait\n"
    );
    let _ = std::io::stderr().write_all(said.as_bytes());
    // By turns it waits for one run of each of them. One line without turns made it wait for all of theirs, STORMS times EACH, so that none was
    // left; that is counted and not timed, since what a run takes beside others is the machine's.
    assert!(
        still_waiting as usize > STORMS * EACH / 2,
        "it waited for more than its turn: {said}"
    );
}

#[test]
fn p6_a_plugin_that_only_fails_goes_into_quarantine_and_back() {
    let mut stage = Setup::acme(&format!("{CASHBACK}[routes.panic]\nplugin = \"panic\"\n{FLAGS}"))
        .worker(&worker(3))
        .plugin("cashback")
        .hostile("panic")
        .start();
    let outcome = |stage: &Stage, event: &str| -> Value {
        let message = signer("shop").sign("", plain("note", event));
        let receipt = stage.post("shop", &message).receipt();
        let trace = stage.finished(&receipt);
        let job = trace["jobs"]
            .as_array()
            .and_then(|jobs| jobs.iter().find(|job| job["route"] == "panic").cloned());
        job.unwrap_or_default()["runs"][0].clone()
    };
    for number in 1..=3 {
        assert_eq!(outcome(&stage, &format!("evt_{number}"))["outcome"], "trap");
    }
    let run = outcome(&stage, "evt_4");
    holds(&run, &json!({ "outcome": "quarantined", "fuel": 0 }));
    assert!(
        run["message"].as_str().is_some_and(
            |said| said.contains("3 faults in a row") && said.contains("tollgate plugin lift --tenant acme panic")
        ),
        "{run:#}"
    );
    // The others go on.
    let body = redeemed("evt_paid", "red_1", "success");
    let receipt = stage.post("shop", &signer("shop").sign("", body)).receipt();
    let trace = stage.finished(&receipt);
    let jobs = trace["jobs"].as_array().cloned().unwrap_or_default();
    assert!(
        jobs.iter()
            .any(|job| job["route"] == "cashback" && job["runs"][0]["outcome"] == "completed"),
        "{trace:#}"
    );

    let listed = stage.ask(&["plugin", "quarantined"]);
    assert_eq!(
        (listed.code, &listed.json()[0]["route"], &listed.json()[0]["faults"]),
        (0, &json!("panic"), &json!(3))
    );
    // A restart does not forget it.
    stage.stop();
    stage.start();
    assert_eq!(outcome(&stage, "evt_5")["outcome"], "quarantined");
    let letters = stage.ask(&["dlq", "list", "--reason", "quarantine"]).json();
    assert_eq!(letters.as_array().map(Vec::len), Some(3), "{letters:#}");

    // Lifted it runs, and fails, again.
    stage.ask(&["plugin", "lift", "acme", "panic", "--why", "mended"]).ok();
    assert_eq!(stage.ask(&["plugin", "quarantined"]).code, 1);
    assert_eq!(outcome(&stage, "evt_6")["outcome"], "trap");
    let history = stage.operator_get("/v1/tenants/acme/routes/panic/history").json();
    let what: Vec<_> = history
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| line["what"].clone())
        .collect();
    for expected in ["quarantined", "quarantine lifted"] {
        assert!(what.contains(&json!(expected)), "{what:?}");
    }
}
