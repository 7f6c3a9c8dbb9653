//! W2: a plugin can do nothing that it was not granted, and whatever it tries ends in a named outcome, alone.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate_tests::events::{plain, redeemed_by, signer};
use tollgate_tests::hostile_dir;
use tollgate_tests::json::list;
use tollgate_tests::stage::{CASHBACK, Setup, tollgate};

/// How each guest's run ends.
const RUNS: [(&str, &str); 28] = [
    ("bad_amount", "invalid-output"),
    ("bad_case", "invalid-output"),
    ("bad_currency", "invalid-output"),
    ("bad_key", "invalid-output"),
    ("bad_score", "invalid-output"),
    ("bad_utf8", "invalid-output"),
    ("repeated_key", "invalid-output"),
    ("wild_answer", "invalid-output"),
    ("flood_alias", "output-too-big"),
    ("flood_host_calls", "output-too-big"),
    ("flood_log_line", "output-too-big"),
    ("flood_logs", "output-too-big"),
    ("flood_output", "output-too-big"),
    ("flood_state", "output-too-big"),
    ("flood_state_bytes", "output-too-big"),
    ("flood_state_value", "output-too-big"),
    ("too_many_actions", "output-too-big"),
    ("hoard", "memory"),
    ("recurse", "memory"),
    ("panic", "trap"),
    ("state_then_trap", "trap"),
    ("trap_after_answer", "trap"),
    ("wild_realloc", "trap"),
    ("spin", "out-of-fuel"),
    ("spin_after_answer", "out-of-fuel"),
    ("spin_in_realloc", "out-of-fuel"),
    ("hold", "held"),
    ("refuse", "refused"),
];

/// Those that are not let in at all.
const REFUSED: [(&str, &str); 9] = [
    ("bad_manifest", "bad-manifest"),
    ("lie", "wrong-world"),
    ("no_manifest", "missing-manifest"),
    ("spin_at_start", "trial-failed"),
    ("trap_at_start", "trial-failed"),
    ("wasi_import", "import-outside-world"),
    ("wrong_version", "wrong-version"),
    ("wrong_world", "wrong-world"),
    ("text", "not-a-component"),
];

#[test]
fn w2_every_hostile_guest_ends_in_its_named_outcome_and_alone() {
    let all =
        "grants = [{ kind = \"flag\" }, { kind = \"credit\", amount_max = 9999, currencies = [\"USD\", \"EUR\"] }]\n";
    let mut rest = format!("[routes.good]\nplugin = \"good\"\n{all}");
    let mut setup = Setup::default().hostile("good");
    for (guest, _) in RUNS {
        rest.push_str(&format!("[routes.{guest}]\nplugin = \"{guest}\"\n{all}"));
        setup = setup.hostile(guest);
    }
    // Time enough for all of the fuel on a busy machine: the outcome must not hang on the clock.
    let worker = "threads = 2\n[worker.limits]\ndeadline_ms = 10000\n[worker.retry]\nattempts_max = 3\nbase_ms = 20\ncap_ms = 100";
    let stage = setup
        .worker(worker)
        .tenant("acme", &format!("{}{rest}", tollgate_tests::stage::SOURCES))
        .start();
    for event in ["evt_1", "evt_2"] {
        let receipt = stage
            .post("shop", &signer("shop").sign("", plain("note", event)))
            .receipt();
        let trace = stage.finished(&receipt);
        let mut wrong = Vec::new();
        let found: BTreeMap<String, Value> = list(&trace["jobs"])
            .into_iter()
            .map(|job| (job["route"].as_str().unwrap_or_default().to_owned(), job))
            .collect();
        for (guest, expect) in RUNS {
            let job = &found[guest];
            let outcome = &job["runs"][0]["outcome"];
            if outcome != expect {
                let message = &job["runs"][0]["message"];
                wrong.push(format!("{guest}: {outcome} instead of {expect}: {message}"));
            }
            assert_eq!(
                list(&job["runs"][0]["actions"]).len(),
                0,
                "{guest}: nothing of it was recorded"
            );
            let state = match expect {
                "held" => "held",
                "refused" => "done",
                _ => "dead",
            };
            assert_eq!(job["state"], state, "{guest}: {job:#}");
            assert!(
                !list(&job["runs"]).is_empty() && job["attempts"] == 1,
                "{guest}: {job:#}"
            );
        }
        assert_eq!(wrong, [""; 0]);
        let good = &found["good"];
        assert_eq!(good["state"], "done");
        assert_eq!(good["runs"][0]["actions"][0]["operation_key"], format!("good:{event}"));
    }
    assert_eq!(stage.operator_get("/healthz").status, 200);
}

#[test]
fn w2_a_component_that_wants_more_than_the_world_is_refused_by_name() {
    let stage = Setup::acme("").set();
    stage.write("text.wasm", "this is no component");
    for (guest, code) in REFUSED {
        let file = match guest {
            "text" => stage.path("text.wasm"),
            _ => hostile_dir().join(format!("{guest}.wasm")),
        };
        let ran = tollgate(&["plugin", "check", file.to_str().expect("UTF-8"), "--json"], b"");
        assert_eq!(ran.code, 1, "{guest}: {ran:?}");
        let answer = ran.json();
        assert_eq!(
            (&answer["accepted"], &answer["code"]),
            (&false.into(), &code.into()),
            "{guest}: {answer}"
        );
        assert!(
            answer["message"].as_str().is_some_and(|message| message.len() > 20),
            "{guest}: {answer}"
        );
    }
    let good = hostile_dir().join("good.wasm");
    let ran = tollgate(&["plugin", "check", good.to_str().expect("UTF-8"), "--json"], b"").ok();
    let imports = ran.json()["plugin"]["imports"].clone();
    assert!(
        list(&imports).iter().all(|import| import
            .as_str()
            .is_some_and(|import| import.starts_with("tollgate:plugin/"))),
        "{imports}"
    );
}

#[test]
fn w2_a_host_does_not_start_with_a_plugin_that_it_refuses() {
    let mut stage = Setup::acme("").hostile("wasi_import").set();
    let said = stage.try_start().expect_err("a host that refuses");
    assert!(said.contains("wasi_import") && said.contains("was refused"), "{said}");
}

#[test]
fn w2_what_the_route_does_not_grant_is_not_recorded() {
    // `good` flags, and this route grants credits only.
    let rest =
        "[routes.good]\nplugin = \"good\"\ngrants = [{ kind = \"credit\", amount_max = 1, currencies = [\"USD\"] }]\n";
    let stage = Setup::acme(rest).hostile("good").start();
    let receipt = stage
        .post("shop", &signer("shop").sign("", plain("note", "evt_1")))
        .receipt();
    let trace = stage.finished(&receipt);
    let job = &trace["jobs"][0];
    assert_eq!(
        (&job["state"], &job["runs"][0]["outcome"]),
        (&"dead".into(), &"invalid-output".into())
    );
    assert!(
        job["reason"]
            .as_str()
            .is_some_and(|why| why.contains("does not grant `flag`")),
        "{job:#}"
    );
    assert_eq!(stage.counts()["actions"], 0);
}

#[test]
fn w2_a_plugin_s_state_keeps_to_the_route_s_quota() {
    let quota = "[routes.cashback.limits]\nstate_total_bytes = 400\n";
    let stage = Setup::acme(&format!("{CASHBACK}{quota}")).plugin("cashback").start();
    // The plugin remembers each customer: so many fit, and no more.
    let mut outcomes = Vec::new();
    for number in 1..=12 {
        let body = redeemed_by(
            &format!("evt_{number}"),
            &format!("red_{number}"),
            "success",
            &format!("user_{number}"),
        );
        let receipt = stage.post("shop", &signer("shop").sign("", body)).receipt();
        let run = stage.finished(&receipt)["jobs"][0]["runs"][0].clone();
        let said = run["message"].as_str().unwrap_or_default().to_owned();
        let credited = list(&run["actions"]).len();
        outcomes.push((run["outcome"].as_str().unwrap_or_default().to_owned(), credited, said));
    }
    let fit = outcomes
        .iter()
        .take_while(|(outcome, credited, _)| outcome == "completed" && *credited == 1)
        .count();
    assert!((1..12).contains(&fit), "{outcomes:?}");
    for (outcome, credited, said) in &outcomes[fit..] {
        assert_eq!((outcome.as_str(), *credited), ("output-too-big", 0), "{outcomes:?}");
        assert!(said.contains("the route's `state_total_bytes` is 400"), "{said}");
    }
}
