//! W2: a plugin can do nothing that it was not granted, and whatever it tries ends in a named outcome, alone.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate_tests::events::{plain, redeemed_by, signer};
use tollgate_tests::hostile_dir;
use tollgate_tests::json::{list, says, text};
use tollgate_tests::stage::{CASHBACK, Setup, tollgate};

/// How each guest ends natively: an outcome, or `refused:` and why it is not let in at all.
fn ends() -> impl Iterator<Item = (String, String)> {
    let ends: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../../guests/ends.json")).expect("JSON");
    ends.into_iter().map(|(guest, mut ends)| (guest, ends.remove(0)))
}

/// Those that are let in and whose run ends badly. One needs more fuel than a run has, and one is no file.
fn bad_runs() -> Vec<(String, String)> {
    let well = ["completed", "retry-after"];
    let elsewhere = ["flood_string", "many_memories"];
    let all = ends().filter(|(guest, end)| {
        !well.contains(&end.as_str()) && !end.starts_with("refused:") && !elsewhere.contains(&guest.as_str())
    });
    let all: Vec<_> = all.collect();
    assert!(all.len() >= 28, "{all:?}");
    all
}

#[test]
fn w2_every_hostile_guest_ends_in_its_named_outcome_and_alone() {
    let all =
        "grants = [{ kind = \"flag\" }, { kind = \"credit\", amount_max = 9999, currencies = [\"USD\", \"EUR\"] }]\n";
    let mut rest = format!("[routes.good]\nplugin = \"good\"\n{all}");
    let mut setup = Setup::default().hostile("good");
    let runs = bad_runs();
    for (guest, _) in &runs {
        // A loop ends by its fuel on a busy machine too when it has a tenth of the usual one: the outcome must not hang on the clock.
        let limits = if guest.starts_with("spin") {
            "limits = { fuel = 20000000 }\n"
        } else {
            ""
        };
        rest.push_str(&format!("[routes.{guest}]\nplugin = \"{guest}\"\n{all}{limits}"));
        setup = setup.hostile(guest);
    }
    // Time enough for the others, which may use all of their fuel.
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
        for (guest, expect) in &runs {
            let job = &found[guest.as_str()];
            let outcome = &job["runs"][0]["outcome"];
            if outcome != expect.as_str() {
                let message = &job["runs"][0]["message"];
                wrong.push(format!("{guest}: {outcome} instead of {expect}: {message}"));
            }
            assert_eq!(
                list(&job["runs"][0]["actions"]).len(),
                0,
                "{guest}: nothing of it was recorded"
            );
            let state = match expect.as_str() {
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
    let refused = ends().filter_map(|(guest, end)| {
        let file = hostile_dir().join(format!("{guest}.wasm"));
        Some((file, end.strip_prefix("refused:")?.to_owned()))
    });
    let text = (stage.path("text.wasm"), "not-a-component".to_owned());
    for (file, code) in refused.chain([text]) {
        let guest = file.display();
        let ran = tollgate(&["plugin", "check", file.to_str().expect("UTF-8"), "--json"], b"");
        assert_eq!(ran.code, 1, "{guest}: {ran:?}");
        let answer = ran.json();
        assert_eq!(
            (&answer["accepted"], &answer["code"]),
            (&false.into(), &code.as_str().into()),
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
    says(text(job, "reason"), &["does not grant `flag`"]);
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
